"""Normalisation: one file a kind."""
from .batch import batch_norm, batch_norm_backward

__all__ = ["batch_norm", "batch_norm_backward"]
