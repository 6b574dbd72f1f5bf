"""What all normalisations do once their arguments are checked: the passes over memory, in one call on one thread, or one after the other on
several."""
from __future__ import annotations

from typing import Any

import numpy as np
from numba import config

from .. import check, recycling, runtime
from ..kernels import norm
from ..kernels import norm_call as kernels
from ..kernels.tasks import NOTHING, address, run_tasks
from .layout import ONCE, Layout

FORWARD_WORK, BACKWARD_WORK = 1.5, 2.5       # for each byte of x: worth two threads where one takes some 100 microseconds (measured)
DOUT = None                                  # in place of a kernel: from now on dout is what is read


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


def _alone(work: float) -> bool:
    return work < runtime.SMALL_WORK or runtime.threads_for(work) == 1


def _failed() -> MemoryError:
    return MemoryError("no memory for the workspace of a normalisation")


def forward(call: Any, x: np.ndarray, weight: Any, bias: Any, mean: Any, var: Any, moves: bool, return_stats: Any, out: Any) -> Any:
    """y, or (y, mean, invstd). mean, var: the running statistics, or None; `moves`: they are moved."""
    dtype, none = call.working, NOTHING[call.working]
    steps = call.small.get(moves)
    if steps is not None and return_stats is False and (out is None or check.like(out, x)):
        y = np.empty(call.shape, dtype) if out is None else out
        if kernels.forward_at_once(steps, x.ravel(), y.ravel(), none if weight is None else weight, none if bias is None else bias,
                                   none if mean is None else mean, none if var is None else var, none, none, call.eps, call.momentum) == kernels.DONE:
            return y
    given = check.output(out, call.shape, call.dtype, (x, mean, var, weight, bias))
    if moves:
        check.movable(mean, var)
    plan = call.plan(norm.RUNNING if moves and x.size else 0)
    y, numbers = check.target(given, call.shape, dtype), [_flat(value, dtype) for value in (weight, bias, mean, var)]
    found = (np.empty(call.stats, dtype), np.empty(call.stats, dtype)) if check.flag("return_stats", return_stats) else ()
    if x.size or not plan.own:
        _forward(plan, check.native(x, dtype).reshape(-1), y.reshape(-1), numbers, [stat.reshape(-1) for stat in found] or [none] * 2, call)
    elif found:
        found[0][...], found[1][...] = 0, call.eps ** -0.5 if call.eps else np.inf
    for running, moved in ((mean, numbers[2]), (var, numbers[3])):
        if moves and moved is not running:
            running[...] = moved
    if call.plain and x.size and FORWARD_WORK * plan.nbytes < runtime.SMALL_WORK and all(a is None or a.ndim == 1 for a in (weight, bias)):
        call.small[moves] = _program(plan, dtype)
    y = check.deliver(y, given, call.dtype)
    return (y, *found) if found else y


def _forward(plan: Layout, x: np.ndarray, y: np.ndarray, numbers: list[np.ndarray], found: list[np.ndarray], call: Any) -> None:
    work = FORWARD_WORK * plan.nbytes
    if _alone(work):
        if kernels.forward_at_once(_program(plan, x.dtype), x, y, *numbers, *found, call.eps, call.momentum):
            raise _failed()
        return
    weight, bias, mean, var = numbers
    table, residual, none = np.empty(plan.table, np.int64), np.empty(plan.residual, x.dtype), NOTHING[x.dtype]
    kernels.begin(plan.job, table, call.eps, call.momentum, weight, bias, mean, var)
    left, right = kernels.columns(plan.job, weight, 1.0), kernels.columns(plan.job, bias, 0.0)
    _run_steps(plan, work, x, none, y, left, right if plan.elementwise else residual, table)
    kernels.end_forward(plan.job, table, mean, var, *found)


def backward(call: Any, dout: Any, x: np.ndarray, weight: Any, bias: Any, given: tuple[Any, Any], need: Any, running: Any = None) -> Any:
    """(dx, dweight, dbias), None where not wanted. given: mean and invstd, or None twice; running: the running mean and variance, if they count."""
    dtype, none = call.working, NOTHING[call.working]
    wanted = check.need(need)
    wants = wanted[0], wanted[1] and weight is not None, wanted[2] and bias is not None
    first, second = (none, none) if given[0] is None and running is None else running if given[0] is None else given
    steps = call.small.get((given[0] is None, wants))
    known = (steps is not None and check.like(dout, x) and (given[0] is None) == (given[1] is None)
             and (given[0] is None or (call.as_they_are(first) and call.as_they_are(second))))
    if not known:
        check.gradient(dout, x)
        call.check_statistics(*given)
    dweight, dbias = np.empty(weight.shape, dtype) if wants[1] else None, np.empty(bias.shape, dtype) if wants[2] else None
    into_weight, into_bias = none if dweight is None else dweight, none if dbias is None else dbias
    if known:
        dx = np.empty(call.shape, dtype)
        if kernels.backward_at_once(steps, x.ravel(), dout.ravel(), dx.ravel(), none if weight is None else weight, first.ravel(), second.ravel(),
                                    into_weight, into_bias, call.eps) == kernels.DONE:
            return dx, dweight, dbias
    plan = call.plan(norm.GIVEN if given[0] is not None else 0, True, wants[0], wants[1] or wants[2])
    dx = recycling.empty(call.shape, dtype) if wants[0] or plan.elementwise else None
    if x.size:
        arrays = check.native(x, dtype).reshape(-1), check.native(dout, dtype).reshape(-1), none if dx is None else dx.reshape(-1)
        _backward(plan, arrays, [_flat(value, dtype) for value in (weight, first, second)], [into_weight.reshape(-1), into_bias.reshape(-1)], call.eps)
        if call.plain and wants[0] and BACKWARD_WORK * plan.nbytes < runtime.SMALL_WORK and all(a is None or a.ndim == 1 for a in (weight, bias)):
            call.small[given[0] is None, wants] = _program(plan, dtype)
    else:
        into_weight[...], into_bias[...] = 0, 0
    return tuple(None if a is None else a.astype(call.dtype, copy=False) for a in (dx if wants[0] else None, dweight, dbias))


def _backward(plan: Layout, arrays: tuple[np.ndarray, ...], numbers: list[np.ndarray], gradients: list[np.ndarray], eps: float) -> None:
    work = BACKWARD_WORK * plan.nbytes
    if _alone(work):
        if kernels.backward_at_once(_program(plan, arrays[0].dtype), *arrays, *numbers, *gradients, eps):
            raise _failed()
        return
    weight, first, second = numbers
    table, residual = np.empty(plan.table, np.int64), np.empty(plan.residual, weight.dtype)
    kernels.begin(plan.job, table, eps, 0.0, weight, weight[:0], first, second)
    _run_steps(plan, work, *arrays, kernels.columns(plan.job, weight, 1.0), residual, table)
    kernels.end_backward(plan.job, table, *gradients)
