"""Normalisation: one file a kind."""

from naive.norm.batch import batch_norm, batch_norm_backward
from naive.norm.group import group_norm, group_norm_backward, instance_norm, instance_norm_backward
from naive.norm.layer import layer_norm, layer_norm_backward, rms_norm, rms_norm_backward

__all__ = [
    "batch_norm",
    "batch_norm_backward",
    "group_norm",
    "group_norm_backward",
    "instance_norm",
    "instance_norm_backward",
    "layer_norm",
    "layer_norm_backward",
    "rms_norm",
    "rms_norm_backward",
]
