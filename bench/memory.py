"""The operations that move bytes, against a copy of as many bytes in the same turns: their share of np.copyto between filled arrays.

    python bench/memory.py [--only NAME ...] [--mb 2 12 128] [--width N ...] [--cold] [--threads 1 2] [--dtype float32 float64] [--peer] [--json FILE]

A row is one operation on x of so many MB: the bytes are those that must move, each array once, except where its pass is named; the copy
reads and writes as many. Forward operations fill a reused out=, gradients are fresh arrays. Hot: the same arrays in every call. Cold: the
calls go round so many sets of arrays that each has left the caches. One thread is timed by its own processor time, two by the clock, both
against np.copyto, which has one thread. A share is the median of the turns' own ratios. `<`: below what is asked.
--peer: PyTorch, where installed, in the same turns on as many threads, as a multiple of its speed; its answer must be ours.
"""
from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from functools import partial
from itertools import cycle
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))     # run as a script: the house itself

import fastconv
from bench import harness
from fastconv import runtime
from fastconv.testing import assert_same

Call = Callable[[], Any]
DTYPES = ("float32", "float64")
CHANNELS = 8
CACHE = 96e6                                 # bytes: what lies further back has left every cache
SMALL = 4096                                 # bytes of x in the rows of small calls (--mb 0)


class Problem(NamedTuple):
    """One set of arrays."""

    nbytes: int                              # that must move
    ours: Call
    peer: Callable[[Any], Call]              # of the module torch


class Operation(NamedTuple):
    """A row for each width: build(shape of x, dtype, seed) -> Problem."""

    name: str
    build: Callable[[tuple[int, ...], str, int], Problem]
    asked: float                             # share of the copy, one thread, cold
    asked_of_peer: float                     # multiple of its speed
    widths: tuple[int, ...] = (112,)         # of square planes


class Row(NamedTuple):
    """One figure."""

    name: str
    width: int
    megabytes: float                         # of x
    dtype: str
    threads: int
    cold: bool
    share: float
    rate: float                              # GB/s
    milliseconds: float
    multiple: float | None                   # of the peer's speed
    asked: float
    asked_of_peer: float


def filled(shape: tuple[int, ...], dtype: str, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape, np.dtype(dtype))


# ---------------------------------------------------------------------------------------------------------------- pooling
def pool(kind: str, kernel: int, stride: int, padding: int, shape: tuple[int, ...], dtype: str, seed: int) -> Problem:
    function, x = getattr(fastconv, f"{kind}_pool2d"), filled(shape, dtype, seed)
    y = function(x, kernel, stride, padding)

    def peer(torch: Any) -> Call:
        return partial(getattr(torch.nn.functional, f"{kind}_pool2d"), torch.from_numpy(x), kernel, stride, padding)

    return Problem(x.nbytes + y.nbytes, partial(function, x, kernel, stride, padding, out=y), peer)


def pool_backward(kind: str, kernel: int, stride: int, padding: int, with_indices: bool, shape: tuple[int, ...], dtype: str, seed: int) -> Problem:
    function, x = getattr(fastconv, f"{kind}_pool2d_backward"), filled(shape, dtype, seed)
    extra, moved = {}, x.nbytes if kind == "max" and not with_indices else 0
    if with_indices:
        y, extra["indices"] = fastconv.max_pool2d(x, kernel, stride, padding, return_indices=True)
        moved += extra["indices"].nbytes
    else:
        y = getattr(fastconv, f"{kind}_pool2d")(x, kernel, stride, padding)
    dout = filled(y.shape, dtype, seed + 1)

    def peer(torch: Any) -> Call:
        t, d = torch.from_numpy(x), torch.from_numpy(dout)
        if kind == "avg":
            return partial(torch.ops.aten.avg_pool2d_backward.default, d, t, [kernel] * 2, [stride] * 2, [padding] * 2, False, True, None)
        indices = torch.nn.functional.max_pool2d(t, kernel, stride, padding, return_indices=True)[1]
        return partial(torch.ops.aten.max_pool2d_with_indices_backward.default, d, t, [kernel] * 2, [stride] * 2, [padding] * 2, [1, 1], False,
                       indices)

    return Problem(x.nbytes + dout.nbytes + moved, partial(function, dout, x, kernel, stride, padding, **extra), peer)


WINDOWS = {"2x2 s2": (2, 2, 0), "3x3 s2": (3, 2, 1), "3x3 s1": (3, 1, 1), "5x5 s1": (5, 1, 2)}
POOLING = [
    *[Operation(f"{kind}_pool2d {window}", partial(pool, kind, *WINDOWS[window]), 0.85 if window == "2x2 s2" else 0.75, peer,
                (7, 56, 112, 224, 448) if window == "2x2 s2" else (7, 56, 112))
      for kind, peer in (("max", 12.0), ("avg", 6.0)) for window in WINDOWS],
    *[Operation(f"max_pool2d_backward {window}{', indices' if given else ''}", partial(pool_backward, "max", *WINDOWS[window], given), 0.75, 1.2,
                (112, 224)) for window in ("2x2 s2", "3x3 s2", "3x3 s1") for given in (False, True)],
    *[Operation(f"avg_pool2d_backward {window}", partial(pool_backward, "avg", *WINDOWS[window], False), 0.75, 1.0, (112, 224))
      for window in ("2x2 s2", "3x3 s2", "3x3 s1")],
]

OPERATIONS = {operation.name: operation for operation in [*POOLING]}


# ---------------------------------------------------------------------------------------------------------------- measuring
def shape_of(megabytes: float, width: int, dtype: str) -> tuple[int, int, int, int]:
    """(N, C, width, width) of so many MB, one image at least; of 0 MB a small call."""
    nbytes = (megabytes * 1e6 or SMALL) / np.dtype(dtype).itemsize
    if nbytes < 2 * CHANNELS * width * width:
        planes = max(1, round(nbytes / width**2))
        return (1, planes, width, width)
    return (round(nbytes / (CHANNELS * width * width)), CHANNELS, width, width)


def measure(operation: Operation, width: int, megabytes: float, dtype: str, threads: int, cold: bool, seconds: float, torch: Any) -> Row:
    shape = shape_of(megabytes, width, dtype)
    problems = [operation.build(shape, dtype, 0)]
    nbytes = problems[0].nbytes
    if cold:
        problems += [operation.build(shape, dtype, seed) for seed in range(1, 1 + int(-(-CACHE // nbytes)))]
    copies = [(np.full(nbytes // 2, seed % 7, np.uint8), np.ones(nbytes // 2, np.uint8)) for seed in range(len(problems))]
    calls = [_round([partial(np.copyto, target, source) for source, target in copies]), _round([problem.ours for problem in problems])]
    if torch is not None:
        peers = [problem.peer(torch) for problem in problems]
        _prove(problems[0].ours(), peers[0](), dtype, operation.name)
        calls.append(_round(peers))
    found = harness.in_turns(calls, seconds, one_thread=threads == 1, rest=0)
    multiple = found.ratios[1] / found.ratios[2] if torch is not None else None
    return Row(operation.name, width, megabytes, dtype, threads, cold, found.ratios[1], nbytes / found.seconds[1] / 1e9, 1e3 * found.seconds[1],
               multiple, operation.asked, operation.asked_of_peer)


def _round(calls: list[Call]) -> Call:
    """One after the other, one a call."""
    if len(calls) == 1:
        return calls[0]
    turn = cycle(calls)
    return lambda: next(turn)()


def _prove(ours: Any, theirs: Any, dtype: str, name: str) -> None:
    ours, theirs = (results if isinstance(results, tuple) else (results,) for results in (ours, theirs))
    for number, (one, other) in enumerate(zip(ours, theirs)):
        assert_same(np.asarray(one), np.asarray(other), tolerance=harness.LOOSE[dtype], name=f"{name}: result {number}")


def line(row: Row) -> str:
    peer = "" if row.multiple is None else f"  {'  ' if row.multiple >= row.asked_of_peer else '< '}{row.multiple:6.2f} x PyTorch"
    return (f"  {'  ' if row.share >= row.asked else '< '}{100 * row.share:5.0f} % of the copy  {row.rate:6.1f} GB/s {row.milliseconds:9.4f} ms{peer}"
            f"  {row.name}, {row.width} wide, {row.megabytes:g} MB, {row.dtype}, {row.threads} threads, {'cold' if row.cold else 'hot'}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME", help="operations whose name holds one of these (default: all)")
    parser.add_argument("--mb", nargs="+", type=float, default=[2, 12, 128], help="of x; 0: 4 KiB (default: 2 12 128)")
    parser.add_argument("--width", nargs="+", type=int, default=[], help="of the planes (default: those of the operation)")
    parser.add_argument("--cold", action="store_true", help="only cold, not hot too")
    parser.add_argument("--threads", nargs="+", type=int, default=[1])
    parser.add_argument("--dtype", nargs="+", choices=DTYPES, default=["float32"])
    parser.add_argument("--peer", action="store_true", help="PyTorch too")
    parser.add_argument("--seconds", type=float, default=0.4, help="for each row (default: %(default)s)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    options = parser.parse_args()
    kept, torch = harness.keep_memory(), None
    if options.peer:
        try:
            import torch
        except ImportError as error:
            parser.error(f"{error}; PyTorch comes with the extra `peers` (pip install -e '.[peers]')")
        torch.set_grad_enabled(False)
    print(f"{runtime.cpu_name()}, {runtime.isa()}; freed memory {'kept' if kept else 'given back'}", flush=True)
    rows = []
    chosen = [o for o in OPERATIONS.values() if not options.only or any(part in o.name for part in options.only)]
    for threads in options.threads:
        fastconv.set_num_threads(threads)
        if torch is not None:
            torch.set_num_threads(threads)
        for operation in chosen:
            for dtype in options.dtype:
                for width in options.width or operation.widths:
                    for megabytes in options.mb:
                        for cold in (True,) if options.cold else (False, True):
                            if not (cold and megabytes * 1e6 > CACHE):       # hot there is cold
                                rows.append(measure(operation, width, megabytes, dtype, threads, cold, options.seconds, torch))
                                print(line(rows[-1]), flush=True)
    if options.json:
        machine = {"CPU": runtime.cpu_name(), "instruction set": runtime.isa(), "freed memory kept": kept}
        options.json.write_text(json.dumps({"machine": machine, "rows": [row._asdict() for row in rows]}, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
