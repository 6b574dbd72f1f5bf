"""Normalisation: one file a kind."""

from naive.norm.batch import batch_norm, batch_norm_backward
from naive.norm.response import local_response_norm, local_response_norm_backward

__all__ = ["batch_norm", "batch_norm_backward", "local_response_norm", "local_response_norm_backward"]
