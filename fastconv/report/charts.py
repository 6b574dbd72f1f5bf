"""The three charts of the page as positions in per cent: one lane for each operation, one mark for each layer and dtype."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import floor, log10
from statistics import median
from typing import Any

from . import figures

__all__ = ["Chart", "charts"]

Row = dict[str, Any]  # a Result as it stands in the JSON file


@dataclass(frozen=True)
class Mark:
    at: float  # per cent of the width
    dtype: str
    text: str


@dataclass(frozen=True)
class Lane:
    label: str
    marks: list[Mark]
    medians: list[Mark]  # one for each dtype; their text is the figure alone


@dataclass(frozen=True)
class Chart:
    title: str
    note: str
    ticks: list[tuple[float, str]]  # (per cent, label)
    lanes: list[Lane]


def _log(value: float, low: int, high: int) -> float:
    """Where a value stands between 10**low and 10**high, in per cent; smaller ones at the left end."""
    return 100 * (max(log10(value), low) - low) / (high - low) if value > 0 else 0.0


def _lanes(rows: Sequence[Row], value: Callable[[Row], float], place: Callable[[float], float], text: Callable[[float], str]) -> list[Lane]:
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(" ".join(filter(None, (row["operation"], row["algorithm"]))), []).append(row)
    lanes = []
    for label, chosen in groups.items():
        marks = [Mark(place(value(r)), r["dtype"], f"{r['table']} {r['layer']}, {r['dtype']}: {text(value(r))}") for r in chosen]
        medians = []
        for dtype in sorted({r["dtype"] for r in chosen}):
            middle = median(value(r) for r in chosen if r["dtype"] == dtype)
            medians.append(Mark(place(middle), dtype, text(middle)))
        lanes.append(Lane(label, marks, medians))
    return lanes


def _speedup(rows: Sequence[Row]) -> Chart:
    low = min(0, floor(log10(min(r["speedup"] for r in rows))))
    high = max(low + 1, -floor(-log10(max(r["speedup"] for r in rows))))
    ticks = [(_log(10.0**n, low, high), f"{10.0**n:,g} ×") for n in range(low, high + 1)]
    lanes = _lanes(rows, lambda r: r["speedup"], lambda v: _log(v, low, high), figures.speedup)
    note = "How many times faster than naive Python loops over NumPy arrays; further right is better."
    return Chart("Speed-up over the plain loops", note, ticks, lanes)


def _share(rows: Sequence[Row]) -> Chart:
    high = max(1.0, *(r["share_of_peak"] for r in rows))
    ticks = [(25 * n / high, f"{25 * n} %") for n in range(floor(4 * high) + 1)]
    lanes = _lanes(rows, lambda r: r["share_of_peak"], lambda v: 100 * v / high, figures.share)
    note = (
        "Convolutions against the floating-point peak (fused multiply-adds), the others against the bandwidth of copying as many bytes;"
        " all threads, measured in the same run. Further right is better."
    )
    return Chart("Share of this processor's peak", note, ticks, lanes)


def _error(rows: Sequence[Row]) -> Chart:
    low, high = -4, 0
    labels = ("0", "0.1 %", "1 %", "10 %", "100 %")
    ticks = [(_log(10.0**n, low, high), label) for n, label in zip(range(low, high + 1), labels, strict=True)]
    lanes = _lanes(rows, lambda r: r["error"] / r["tolerance"], lambda v: _log(v, low, high), figures.share)
    limits = ", ".join(_limits(dtype, sorted({r["tolerance"] for r in rows if r["dtype"] == dtype})) for dtype in sorted({r["dtype"] for r in rows}))
    note = f"The largest error of a result, relative to its largest value, in per cent of the tolerance ({limits}). Further left is better."
    return Chart("Error against the tolerance", note, ticks, lanes)


def _limits(dtype: str, tolerances: list[float]) -> str:
    """2e-06 in float32 (1e-05 where Winograd's algorithm may be chosen)"""
    text = f"{tolerances[0]:.0e} in {dtype}"
    return text if len(tolerances) == 1 else f"{text} ({tolerances[-1]:.0e} where Winograd's algorithm may be chosen)"


def charts(rows: Sequence[Row]) -> list[Chart]:
    """The charts of these results; none where there are no results."""
    return [_speedup(rows), _share(rows), _error(rows)] if rows else []
