"""What this machine can do at most: multiply-adds of one core, and bytes copied. Every share in the benches is of these."""
from __future__ import annotations

import time
from typing import Any

import numpy as np

from .kernels.burst import burst
from .kernels.simd import CHAINS, lanes

STEPS = 400_000                              # about 3 ms at 3 GHz: longer than a timer's grain, shorter than a scheduler's patience


def fma_peak(dtype: Any = np.float32, repeats: int = 15) -> float:
    """GFLOP/s of one core in multiply-adds of `dtype` on registers alone, with the widest vectors the kernels use; median of `repeats`."""
    like = np.zeros(1, dtype)
    burst(like, 10)
    return 2 * CHAINS * lanes(dtype) * STEPS / _median(lambda: burst(like, STEPS), repeats) / 1e9


def copy_bandwidth(nbytes: int = 12_000_000, repeats: int = 15) -> float:
    """GB/s, read plus written, of numpy.copyto between two filled arrays of `nbytes` in total; median of `repeats`."""
    source, target = np.ones(max(1, nbytes // 8), np.float32), np.ones(max(1, nbytes // 8), np.float32)
    calls = max(1, 2_000_000 // max(1, nbytes))

    def copy() -> None:
        for _ in range(calls):
            np.copyto(target, source)

    return 2 * source.nbytes * calls / _median(copy, repeats) / 1e9


def _median(call: Any, repeats: int) -> float:
    call()
    seconds = []
    for _ in range(repeats):
        start = time.thread_time()           # of this thread alone: other processes do not lower the peak
        call()
        seconds.append(time.thread_time() - start)
    return float(np.median(seconds))
