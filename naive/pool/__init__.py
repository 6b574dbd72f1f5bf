"""Pooling: one file a kind."""

from naive.pool.average import avg_pool2d, avg_pool2d_backward
from naive.pool.maximum import max_pool2d, max_pool2d_backward

__all__ = ["avg_pool2d", "avg_pool2d_backward", "max_pool2d", "max_pool2d_backward"]
