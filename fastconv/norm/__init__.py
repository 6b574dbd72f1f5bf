"""Normalisation: one file a kind."""
from .batch import batch_norm, batch_norm_backward
from .group import group_norm, group_norm_backward
from .instance import instance_norm, instance_norm_backward
from .layer import layer_norm, layer_norm_backward, rms_norm, rms_norm_backward

__all__ = [
    "batch_norm", "batch_norm_backward", "group_norm", "group_norm_backward", "instance_norm", "instance_norm_backward", "layer_norm",
    "layer_norm_backward", "rms_norm", "rms_norm_backward",
]
