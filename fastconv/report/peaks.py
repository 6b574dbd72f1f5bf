"""The peaks that rates are compared with: FMA peak for arithmetic, copy bandwidth for traffic, measured beside every case."""

from dataclasses import replace
from math import log2

from .. import peak
from .measure import Result

__all__ = ["Peaks"]

REPEATS = 5


class Peaks:
    """Each case measures its peak again, and the best of the run counts: a machine that does something else looks slow for a while."""

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self.arithmetic: dict[str, float] = {}  # GFLOP/s of one core by dtype
        self.copy: dict[int, float] = {}  # GB/s of one core by the bytes read and written

    def __call__(self, unit: str, work: float, dtype: str) -> float:
        """Measure: GFLOP/s of this dtype, or GB/s of a copy that moves about as many bytes as this work, for all threads."""
        if unit == "GFLOP/s":
            self.arithmetic[dtype] = max(peak.fma_peak(dtype, REPEATS), self.arithmetic.get(dtype, 0))
        else:
            nbytes = _size(work)
            self.copy[nbytes] = max(peak.copy_bandwidth(nbytes, REPEATS), self.copy.get(nbytes, 0))
        return self.best(unit, work, dtype)

    def best(self, unit: str, work: float, dtype: str) -> float:
        """The best so far."""
        return self.threads * (self.arithmetic[dtype] if unit == "GFLOP/s" else self.copy[_size(work)])

    def settle(self, result: Result) -> Result:
        """The result with its peak as it stands at the end of the run."""
        best = self.best(result.unit, result.rate * 1e9 * result.fast_seconds, result.dtype)
        return replace(result, peak=best, share_of_peak=result.rate / best)


def _size(work: float) -> int:
    """A power of two, so that few sizes are measured."""
    return 2 ** max(12, round(log2(work)))
