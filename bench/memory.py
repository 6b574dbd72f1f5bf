"""The operations that move bytes, against a copy of as many bytes in the same turns: their share of np.copyto between filled arrays.

    python bench/memory.py [--only NAME ...] [--quick] [--mb 2 12 128] [--width N ...] [--cold] [--threads 1 2] [--dtype float32 float64] [--peer]
                           [--json FILE] [--table FILE ...]

A row is one operation on x of so many MB: the bytes are those that must move, each array once, except where its pass is named; the copy
reads and writes as many. Forward operations fill a reused out=, gradients are fresh arrays. Hot: the same arrays in every call. Cold: the
calls go round so many sets of arrays that each has left the caches, results too (PyTorch's are fresh, and one that nobody keeps would stand in
memory that the call before has just written). One thread is timed by its own processor time, two by the clock, both
against np.copyto, which has one thread. A share is the median of the turns' own ratios. `<`: below what is asked.
--mb 0: calls of 4 KiB, where only the time beside PyTorch counts, and no slower is all that is asked.
--peer: PyTorch, where installed, in the same turns on as many threads, as a multiple of its speed; its answer must be ours. On two threads each
call then waits until PyTorch's threads sleep: they kept the second processor from whoever came next (2 MB: 1.4 times its speed looked like 0.8).
At the end stands one table, a line for each operation: what is asked, and the figures of every size. --table: the table of such runs
before, of their --json files, and nothing measured.
"""
from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Callable, Iterator
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
SPINNING = 0.02                              # seconds: PyTorch's other thread keeps its processor busy for 8 ms after a call, whoever else wants it
SMALL, SMALL_WIDTH = 4096, 8                 # bytes of x in the rows of small calls (--mb 0), and of their planes


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


# ---------------------------------------------------------------------------------------------------------------- normalisation
EPS = 1e-5


def batch_norm(mode: str, columns: int, shape: tuple[int, ...], dtype: str, seed: int) -> Problem:
    """mode: training, evaluation or backward (of training, with the forward's statistics). columns: of a matrix (N, C), or 0 for planes."""
    x = filled((max(2, math.prod(shape) // columns), columns) if columns else shape, dtype, seed)
    C = x.shape[1]
    mean, var, weight, bias = np.zeros(C, dtype), np.ones(C, dtype), np.full(C, 1.5, dtype), np.full(C, 0.5, dtype)
    if mode != "backward":
        training = mode == "training"
        theirs = [mean.copy(), var.copy(), weight, bias]

        def peer(torch: Any) -> Call:
            return partial(torch.nn.functional.batch_norm, torch.from_numpy(x), *map(torch.from_numpy, theirs), training)

        ours = partial(fastconv.batch_norm, x, mean, var, weight, bias, training, out=np.ones_like(x))
        return Problem((3 if training else 2) * x.nbytes, ours, peer)
    dout = filled(x.shape, dtype, seed + 1)
    _, own, invstd = fastconv.batch_norm(x, None, None, weight, bias, True, return_stats=True)

    def peer_backward(torch: Any) -> Call:
        d, t, w, m, v = map(torch.from_numpy, (dout, x, weight, own, invstd))
        return partial(torch.ops.aten.native_batch_norm_backward.default, d, t, w, None, None, m, v, True, EPS, [True] * 3)

    return Problem(5 * x.nbytes, partial(fastconv.batch_norm_backward, dout, x, None, None, weight, bias, True, mean=own, invstd=invstd), peer_backward)


def row_norm(kind: str, backward: bool, shape: tuple[int, ...], dtype: str, seed: int) -> Problem:
    """Group norm of 2 channels a group, instance norm, layer and RMS norm of rows of 512."""
    matrix = kind in ("layer", "rms")
    x = filled((max(1, math.prod(shape) // 512), 512) if matrix else shape, dtype, seed)
    C = x.shape[1]
    groups = max(1, C // 2) if kind == "group" and C % 2 == 0 else C if kind == "instance" else 1
    weight, bias, dout = np.full(C, 1.5, dtype), np.full(C, 0.5, dtype), filled(x.shape, dtype, seed + 1)
    parameters = {"weight": weight} if kind == "rms" else {"weight": weight, "bias": bias}
    how = {"group": (groups,), "instance": (), "layer": ((512,),), "rms": ((512,),)}[kind]

    def peer(torch: Any) -> Call:
        t, options = torch.from_numpy(x), {name: torch.from_numpy(value) for name, value in parameters.items()}
        if not backward:
            return partial(getattr(torch.nn.functional, f"{kind}_norm"), t, *how, **options, **({"eps": EPS} if kind == "rms" else {}))
        d, w, b, everything = torch.from_numpy(dout), options["weight"], torch.from_numpy(bias), [True] * 3
        if kind == "layer":
            _, mean, invstd = torch.ops.aten.native_layer_norm.default(t, [512], w, b, EPS)
            return partial(torch.ops.aten.native_layer_norm_backward.default, d, t, [512], mean, invstd, w, b, everything)
        S = math.prod(x.shape[2:])
        _, mean, invstd = torch.ops.aten.native_group_norm.default(t, w, b, x.shape[0], C, S, groups, EPS)
        return partial(torch.ops.aten.native_group_norm_backward.default, d, t, mean, invstd, w, x.shape[0], C, S, groups, everything)

    function = getattr(fastconv, f"{kind}_norm" + ("_backward" if backward else ""))
    if not backward:
        return Problem(2 * x.nbytes, partial(function, x, *how, **parameters, **({"eps": EPS} if kind == "rms" else {}), out=np.ones_like(x)), peer)
    _, mean, invstd = getattr(fastconv, f"{kind}_norm")(x, *how, **parameters, return_stats=True)
    return Problem(3 * x.nbytes, partial(function, dout, x, *how, **parameters, mean=mean, invstd=invstd), peer)


NORMS = [
    *[Operation(f"batch_norm {mode}{end}", partial(batch_norm, mode, columns), 0.5 if columns else share, 1.5 if columns and peer == 4.0 else peer,
                (56,) if columns else (7, 112))
      for mode, share, peer in (("training", 0.75, 4.0), ("evaluation", 0.85, 1.0), ("backward", 0.75, 1.3))
      for columns, end in ((0, ""), (512, " (N, C)"))],
    *[Operation(f"{kind}_norm{'_backward' if backward else ''}", partial(row_norm, kind, backward), 0.7, 1.0, (56,))
      for kind in ("group", "instance", "layer") for backward in (False, True)],
    Operation("rms_norm", partial(row_norm, "rms", False), 0.7, 1.0, (56,)),
]


# ---------------------------------------------------------------------------------------------------------------- everything else
def elementwise(name: str, backward: bool, shape: tuple[int, ...], dtype: str, seed: int) -> Problem:
    """An activation; the gradient from the forward's result where it can be."""
    x, along = filled(shape, dtype, seed), (1,) if "softmax" in name else ()
    forward = getattr(fastconv, name)
    if not backward:
        y = np.ones_like(x)
        return Problem(2 * x.nbytes, partial(forward, x, *along, out=y),
                       lambda torch: partial(getattr(torch.nn.functional if hasattr(torch.nn.functional, name) else torch, name), torch.from_numpy(x), *along))
    dout, y = filled(shape, dtype, seed + 1), forward(x, *along)
    saved = {} if name in ("relu", "leaky_relu", "gelu") else {"y": y}

    def peer(torch: Any) -> Call:
        d, t, r, aten = torch.from_numpy(dout), torch.from_numpy(x), torch.from_numpy(y), torch.ops.aten
        return {
            "relu": lambda: partial(aten.threshold_backward.default, d, t, 0),
            "leaky_relu": lambda: partial(aten.leaky_relu_backward.default, d, t, 0.01, False),
            "sigmoid": lambda: partial(aten.sigmoid_backward.default, d, r), "tanh": lambda: partial(aten.tanh_backward.default, d, r),
            "gelu": lambda: partial(aten.gelu_backward.default, d, t), "softmax": lambda: partial(aten._softmax_backward_data.default, d, r, 1, t.dtype),
            "log_softmax": lambda: partial(aten._log_softmax_backward_data.default, d, r, 1, t.dtype),
        }[name]()

    return Problem(3 * x.nbytes, partial(getattr(fastconv, f"{name}_backward"), dout, x, *along, **saved), peer)


def other(name: str, arguments: tuple[Any, ...], backward: bool, shape: tuple[int, ...], dtype: str, seed: int) -> Problem:
    """Any function of x and numbers, named as in torch.nn.functional; its gradient beside the gradient of a kept graph."""
    x, forward = filled(shape, dtype, seed), getattr(fastconv, name)
    y = forward(x, *arguments)
    if not backward:
        return Problem(x.nbytes + y.nbytes, partial(forward, x, *arguments, out=y),
                       lambda torch: partial(getattr(torch.nn.functional, name), torch.from_numpy(x), *arguments))
    dout = filled(y.shape, dtype, seed + 1)

    def peer(torch: Any) -> Call:
        with torch.enable_grad():
            t = torch.from_numpy(x).requires_grad_()
            result = getattr(torch.nn.functional, name)(t, *arguments)
        return lambda: torch.autograd.grad(result, t, torch.from_numpy(dout), retain_graph=True)[0]

    return Problem(2 * x.nbytes + y.nbytes, partial(getattr(fastconv, f"{name}_backward"), dout, x, *arguments), peer)


def unpool(backward: bool, shape: tuple[int, ...], dtype: str, seed: int) -> Problem:
    x = filled(shape, dtype, seed)
    y, indices = fastconv.max_pool2d(x, 2, return_indices=True)
    size = shape[2:]                         # that of x: of an odd one no result tells
    z = fastconv.max_unpool2d(y, indices, 2, output_size=size)
    moved = y.nbytes + indices.nbytes + z.nbytes
    if backward:
        return Problem(moved, partial(fastconv.max_unpool2d_backward, z, y, indices, 2, output_size=size),
                       lambda torch: lambda: torch.gather(torch.from_numpy(z).flatten(2), 2, torch.from_numpy(indices).flatten(2)).view(y.shape))
    return Problem(moved, partial(fastconv.max_unpool2d, y, indices, 2, output_size=size, out=z),
                   lambda torch: partial(torch.nn.functional.max_unpool2d, torch.from_numpy(y), torch.from_numpy(indices), 2, output_size=size))


MORE = [
    *[Operation(f"{name}{'_backward' if backward else ''}", partial(elementwise, name, backward), 0.0, 1.0, (56,))
      for name in ("relu", "leaky_relu", "sigmoid", "tanh", "gelu", "softmax", "log_softmax") for backward in (False, True)],
    *[Operation(f"{name}{'_backward' if backward else ''} {' '.join(map(str, arguments))}", partial(other, name, arguments, backward), 0.0, 1.0, (56,))
      for name, arguments in (("adaptive_avg_pool2d", (1,)), ("adaptive_avg_pool2d", (7,)), ("adaptive_max_pool2d", (7,)), ("lp_pool2d", (2, 2)),
                              ("lp_pool2d", (3.5, 2)), ("local_response_norm", (5,))) for backward in (False, True)],
    *[Operation(f"max_unpool2d{'_backward' if backward else ''}", partial(unpool, backward), 0.0, 1.0, (56,)) for backward in (False, True)],
]

OPERATIONS = {operation.name: operation for operation in [*POOLING, *NORMS, *MORE]}


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
    found = harness.in_turns(calls, seconds, one_thread=threads == 1, rest=SPINNING if torch is not None and threads > 1 else 0)
    multiple = found.ratios[1] / found.ratios[2] if torch is not None else None
    asked = (operation.asked if width > 7 else min(0.5, operation.asked), operation.asked_of_peer) if megabytes else (0.0, 1.0)
    return Row(operation.name, width, megabytes, dtype, threads, cold, found.ratios[1], nbytes / found.seconds[1] / 1e9, 1e3 * found.seconds[1],
               multiple, *asked)


def _round(calls: list[Call]) -> Call:
    """One after the other, one a call. Results live until their call's next turn: a fresh one is not what was freed last, and still in the caches."""
    if len(calls) == 1:
        return calls[0]
    turn, results = cycle(range(len(calls))), [None] * len(calls)

    def call() -> None:
        number = next(turn)
        results[number] = calls[number]()

    return call


def _prove(ours: Any, theirs: Any, dtype: str, name: str) -> None:
    ours, theirs = (results if isinstance(results, tuple) else (results,) for results in (ours, theirs))
    for number, (one, other) in enumerate(zip(ours, theirs)):
        assert_same(np.asarray(one), np.asarray(other), tolerance=harness.LOOSE[dtype], name=f"{name}: result {number}")


def line(row: Row) -> str:
    peer = "" if row.multiple is None else f"  {'  ' if row.multiple >= row.asked_of_peer else '< '}{row.multiple:6.2f} x PyTorch"
    return (f"  {'  ' if row.share >= row.asked else '< '}{100 * row.share:5.0f} % of the copy  {row.rate:6.1f} GB/s {row.milliseconds:9.4f} ms{peer}"
            f"  {row.name}, {row.width} wide, {row.megabytes:g} MB, {row.dtype}, {row.threads} threads, {'cold' if row.cold else 'hot'}")


def table(rows: list[Row]) -> Iterator[str]:
    """A line for each operation, width, dtype and number of threads, a column for each size, hot and cold."""
    sizes = sorted({(row.megabytes, row.cold) for row in rows})
    names = [f"{megabytes:g} MB {'cold' if cold else 'hot'}" if megabytes else "4 KiB" for megabytes, cold in sizes]
    yield f"{'per cent of the copy, and multiples of the speed of PyTorch':<62}" + " asked" + "".join(f"{name:>12}" for name in names)
    kinds = dict.fromkeys((row.name, row.width if row.megabytes else 0, row.dtype, row.threads) for row in rows)
    for kind in kinds:
        own = {(row.megabytes, row.cold): row for row in rows if (row.name, row.width if row.megabytes else 0, row.dtype, row.threads) == kind}
        first, (name, width, dtype, threads) = next(iter(own.values())), kind
        what = f"{name}{f', {width} wide' if width else ', small'}, {dtype}, {threads} thread{'s' if threads > 1 else ''}"
        if first.asked:
            yield f"{what:<62} {100 * first.asked:3.0f} %" + "".join(_cell(own.get(size), "share") for size in sizes)
        if any(row.multiple is not None for row in own.values()):
            yield f"{what:<62} {first.asked_of_peer:3.3g} x" + "".join(_cell(own.get(size), "multiple") for size in sizes)
            multiples = [row.multiple for row in own.values()]
            if len(multiples) > 1:
                yield f"{'    their geometric mean':<62} {first.asked_of_peer:3.3g} x{math.exp(sum(map(math.log, multiples)) / len(multiples)):12.2f}"


def _cell(row: Row | None, what: str) -> str:
    value = None if row is None else getattr(row, what)
    if value is None:
        return " " * 12
    below = "<" if value < (row.asked if what == "share" else row.asked_of_peer) else ""
    return f"{below + (f'{100 * value:.0f} %' if what == 'share' else f'{value:.2f} x'):>12}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME", help="operations whose name holds one of these (default: all)")
    parser.add_argument("--quick", action="store_true", help="the last width of each operation, 12 MB of x")
    parser.add_argument("--mb", nargs="+", type=float, default=None, help="of x; 0: 4 KiB (default: 2 12 128)")
    parser.add_argument("--width", nargs="+", type=int, default=[], help="of the planes (default: those of the operation)")
    parser.add_argument("--cold", action="store_true", help="only cold, not hot too")
    parser.add_argument("--threads", nargs="+", type=int, default=[1])
    parser.add_argument("--dtype", nargs="+", choices=DTYPES, default=["float32"])
    parser.add_argument("--peer", action="store_true", help="PyTorch too")
    parser.add_argument("--seconds", type=float, default=0.4, help="for each row (default: %(default)s)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    parser.add_argument("--table", nargs="+", type=Path, metavar="FILE", help="show figures that were written before")
    options = parser.parse_args()
    if options.table:
        print("\n".join(table([Row(**row) for file in options.table for row in json.loads(file.read_text(encoding="utf-8"))["rows"]])))
        return
    options.mb = options.mb or ([12] if options.quick else [2, 12, 128])
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
                for megabytes in options.mb:
                    for width in options.width or (operation.widths[-1:] if options.quick else operation.widths) if megabytes else (SMALL_WIDTH,):
                        alike = megabytes * 1e6 > CACHE or megabytes == 0        # hot there is cold, or cold is no question
                        for cold in (False,) if alike else (True,) if options.cold else (False, True):
                            rows.append(measure(operation, width, megabytes, dtype, threads, cold, options.seconds, torch))
                            print(line(rows[-1]), flush=True)
    print("\n".join(["", *table(rows)]))
    if options.json:
        machine = {"CPU": runtime.cpu_name(), "instruction set": runtime.isa(), "freed memory kept": kept}
        options.json.write_text(json.dumps({"machine": machine, "rows": [row._asdict() for row in rows]}, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
