"""What all normalisations do once their arguments are checked: the passes over memory, all in one call of compiled code, or one after the other
where that is not at hand."""
from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from numba import config, from_dtype, types

from .. import check, recycling, runtime
from ..kernels import handed, norm
from ..kernels import norm_call as kernels
from ..kernels.gemm import aligned
from ..kernels.jit import at_hand
from ..kernels.tasks import NOTHING, address, crew, run_tasks
from . import known
from .layout import ONCE, Layout

FORWARD_WORK, BACKWARD_WORK = 1.5, 2.5       # for each byte of x: worth two threads where one takes some 100 microseconds (measured)
NONE = None, None
DOUT = None                                  # in place of a kernel: from now on dout is what is read
ALONE = 0, 0, 1                              # a crew of one thread


def _program(plan: Layout, dtype: np.dtype) -> Any:
    """The steps of a plan as `in_turn` takes them."""
    steps = plan.programs.get(dtype)
    if steps is None:
        pairs = [part for kernel, tasks in plan.steps for part in ((0, 0) if kernel is DOUT else (address(kernel, dtype), max(tasks, 1)))]
        steps = plan.programs[dtype] = [*plan.job, *pairs] if config.DISABLE_JIT else np.array([*plan.job, *pairs], np.int64)
    return steps


def _run_steps(plan: Layout, work: float, src: np.ndarray, dout: np.ndarray, dst: np.ndarray, bias: np.ndarray, residual: np.ndarray,
               table: np.ndarray) -> None:
    """All tasks of each kernel in turn, on several threads."""
    for kernel, tasks in plan.steps:
        if kernel is DOUT:
            src, dout = dout, dout[:0]
        elif tasks == ONCE:
            kernel(0, 1, src, dout, dst, bias, residual, plan.job, table)
        else:
            run_tasks(kernel, tasks, work, src, dout, dst, bias, residual, plan.job, table)


def _flat(values: np.ndarray | None, dtype: np.dtype) -> np.ndarray:
    """Parameters as the kernels take them: in one dimension, empty for None."""
    return NOTHING[dtype] if values is None else check.native(values, dtype).reshape(-1)


def _with_crew(run: Any, tasks: int, work: float, *arrays: Any) -> bool:
    """A remembered call of several threads."""
    return bool(run(*crew(tasks, work), *arrays))


def _in_one_call(kernel: Any, dtype: np.dtype, numbers: int) -> bool:
    """Whether this kernel, which takes the steps, a crew, eight arrays and so many numbers, does it all."""
    return at_hand(kernel, (dtype, numbers), _signature)


def _signature(kinds: tuple[np.dtype, int]) -> tuple[Any, ...]:
    dtype, numbers = kinds
    return (types.int64[::1], *[types.int64] * 3, *[from_dtype(dtype)[::1]] * 8, *[types.float64] * numbers)


def _on_numpy(part: Any, *arguments: Any) -> Any:
    """Do what such a kernel does before and after its steps."""
    with np.errstate(all="ignore"):          # as in kernels
        return getattr(part, "py_func", part)(*arguments)


def _failed() -> MemoryError:
    return MemoryError("no memory for the workspace of a normalisation")


def forward(kind: Any, x: np.ndarray, arrays: tuple[Any, ...], settings: tuple[Any, ...], return_stats: Any, out: Any, flat: Any = None) -> Any:
    """y, or (y, mean, invstd), of the call kind(x, *arrays, *settings). arrays: the running mean and variance of kinds that have them, then
    weight and bias. flat: the settings where some are tuples, as numbers."""
    mean, var = running = arrays[:-2] or NONE
    weight, bias = arrays[-2:]
    key = known.key((kind, "forward"), x, arrays, (return_stats, *(flat or settings)))
    short = known.SHORT.get(key)
    if short is not None:
        run, stats, empty = short
        y = empty(x.shape, x.dtype) if out is None else out
        found = (np.empty(stats, x.dtype), np.empty(stats, x.dtype)) if return_stats else NONE
        if run(x, y, weight, bias, mean, var, *found):
            return (y, *found) if return_stats else y
    call = known.recall(kind, x, arrays, *settings)
    dtype, none = call.working, NOTHING[call.working]
    given = check.output(out, call.shape, call.dtype, (x, *arrays))
    if call.moves:
        check.movable(mean, var)
    plan = call.plan(norm.RUNNING if call.moves and x.size else 0)
    y, numbers = check.target(given, call.shape, dtype), [_flat(value, dtype) for value in (weight, bias, mean, var)]
    found = (np.empty(call.stats, dtype), np.empty(call.stats, dtype)) if check.flag("return_stats", return_stats) else ()
    if x.size or not plan.own:
        _forward(plan, check.native(x, dtype).reshape(-1), y.reshape(-1), numbers, [stat.reshape(-1) for stat in found] or [none] * 2, call)
    elif found:
        found[0][...], found[1][...] = 0, call.eps ** -0.5 if call.eps else np.inf
    for number, moved in zip(running, numbers[2:]):
        if call.moves and moved is not number:
            number[...] = moved
    if call.plain:
        _remember(key, FORWARD_WORK * plan.nbytes, kernels.handed_forward_at_once, (call.eps, call.momentum), plan, call.stats,
                  (x, x, weight, bias, mean, var, *(found or NONE)))
    y = check.deliver(y, given, call.dtype)
    return (y, *found) if found else y


def _remember(key: Any, work: float, function: Any, settings: tuple[float, ...], plan: Layout, shape: tuple[int, ...],
              arrays: tuple[Any, ...]) -> None:
    """Keep a call of arrays like these. settings: as the function finds them; shape: of the arrays that it makes beside the first."""
    dtype, small = arrays[0].dtype, work < runtime.SMALL_WORK
    if key is not None:
        kinds, steps = (*[types.int64] * 3, *[dtype] * len(arrays)), _program(plan, dtype)
        run = handed.handing(function, kinds, [None if array is None else (array.shape, dtype) for array in arrays],
                             np.array(settings, np.float64).view(np.int64).tolist(), {handed.JOB: steps}, *(ALONE if small else ()))
        if run is not None:
            known.SHORT.keep(key, (run, shape, np.empty) if small else (partial(_with_crew, run, plan.tasks, work), shape, recycling.empty), steps.nbytes)


def _forward(plan: Layout, x: np.ndarray, y: np.ndarray, numbers: list[np.ndarray], found: list[np.ndarray], call: Any) -> None:
    work = FORWARD_WORK * plan.nbytes
    if _in_one_call(kernels.forward_at_once, x.dtype, 2):
        if kernels.forward_at_once(_program(plan, x.dtype), *crew(plan.tasks, work), x, y, *numbers, *found, call.eps, call.momentum):
            raise _failed()
        return
    weight, bias, mean, var = numbers
    table, residual, none = np.empty(plan.table, np.int64), _on_numpy(aligned, plan.residual, x), NOTHING[x.dtype]
    _on_numpy(kernels.begin, plan.job, table, call.eps, call.momentum, weight, bias, mean, var)
    left, right = _on_numpy(kernels.columns, plan.job, weight, 1.0), _on_numpy(kernels.columns, plan.job, bias, 0.0)
    _run_steps(plan, work, x, none, y, left, right if plan.elementwise else residual, table)
    _on_numpy(kernels.end_forward, plan.job, table, mean, var, *found)


def backward(kind: Any, dout: Any, x: np.ndarray, arrays: tuple[Any, ...], settings: tuple[Any, ...], given: tuple[Any, Any], need: Any,
             flat: Any = None) -> Any:
    """(dx, dweight, dbias), None where not wanted. given: mean and invstd, or None twice. The rest as of `forward`."""
    mean, var = arrays[:-2] or NONE
    weight, bias = arrays[-2:]
    key = known.key((kind, "backward"), x, (*arrays, *given), (*need, *(flat or settings))) if type(need) is tuple else None
    short = known.SHORT.get(key)
    if short is not None:
        run, shape, empty = short
        dx = empty(x.shape, x.dtype)
        dweight = np.empty(shape, x.dtype) if need[1] and weight is not None else None
        dbias = np.empty(shape, x.dtype) if need[2] and bias is not None else None
        if run(x, dout, dx, weight, bias, *given, mean, var, dweight, dbias):
            return dx, dweight, dbias
    call = known.recall(kind, x, arrays, *settings)
    dtype, none = call.working, NOTHING[call.working]
    if call.moves:
        check.movable(mean, var)
    wanted = check.need(need)
    wants = wanted[0], wanted[1] and weight is not None, wanted[2] and bias is not None
    check.gradient(dout, x)
    call.check_statistics(*given)
    first, second = given if given[1] is not None else (none, none) if call.own else (mean, var)
    dweight, dbias = np.empty(weight.shape, dtype) if wants[1] else None, np.empty(bias.shape, dtype) if wants[2] else None
    into_weight, into_bias = none if dweight is None else dweight, none if dbias is None else dbias
    plan = call.plan(norm.GIVEN if given[1] is not None else 0, True, wants[0], wants[1] or wants[2])
    dx = recycling.empty(call.shape, dtype) if wants[0] or plan.elementwise else None
    if x.size:
        lines = check.native(x, dtype).reshape(-1), check.native(dout, dtype).reshape(-1), none if dx is None else dx.reshape(-1)
        _backward(plan, lines, [_flat(value, dtype) for value in (weight, first, second)], [into_weight.reshape(-1), into_bias.reshape(-1)], call.eps)
        if call.plain and wanted[0]:
            _remember(key, BACKWARD_WORK * plan.nbytes, kernels.handed_backward_at_once, (call.eps, not call.own), plan, call.parameters,
                      (x, x, x, weight, bias, *given, mean, var, dweight, dbias))
    else:
        into_weight[...], into_bias[...] = 0, 0
    return tuple(None if a is None else a.astype(call.dtype, copy=False) for a in (dx if wants[0] else None, dweight, dbias))


def _backward(plan: Layout, arrays: tuple[np.ndarray, ...], numbers: list[np.ndarray], gradients: list[np.ndarray], eps: float) -> None:
    work = BACKWARD_WORK * plan.nbytes
    if _in_one_call(kernels.backward_at_once, arrays[0].dtype, 1):
        if kernels.backward_at_once(_program(plan, arrays[0].dtype), *crew(plan.tasks, work), *arrays, *numbers, *gradients, eps):
            raise _failed()
        return
    weight, first, second = numbers
    table, residual = np.empty(plan.table, np.int64), _on_numpy(aligned, plan.residual, weight)
    _on_numpy(kernels.begin, plan.job, table, eps, 0.0, weight, weight[:0], first, second)
    _run_steps(plan, work, *arrays, _on_numpy(kernels.columns, plan.job, weight, 1.0), residual, table)
    _on_numpy(kernels.end_backward, plan.job, table, *gradients)
