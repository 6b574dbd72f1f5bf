"""Normalisation: one file a kind."""

from naive.norm.batch import batch_norm, batch_norm_backward

__all__ = ["batch_norm", "batch_norm_backward"]
