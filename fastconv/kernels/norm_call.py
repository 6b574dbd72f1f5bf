"""A normalisation from its arguments to its results: what stands before the first kernel and after the last, and all of it in one call.

Arrays are 1-D and of the dtype of x; what is not given is empty. steps: the job (norm.py), then the kernels' addresses and how many tasks
each has, in pairs. After a pair of zeros src is dout, and there is no dout. room, helpers, threads: who does the tasks (`tasks.crew`).
"""
from __future__ import annotations

import numpy as np
from numba.extending import overload

from .gemm import aligned
from .handed import JOB as STEPS
from .handed import KERNEL, NTH, SPEC, SPECS, address_of, elements, fit, floats, numbers, share
from .jit import jit
from .norm import CHANNELS, EACH, EPS, FLAGS, GIVEN, GRADIENTS, JOB, KEYS, LENGTH, MOMENTUM, PARAMETERS, RESIDUAL, RUNNING, STATS, TABLE
from .tasks import call
from .team import BUSY, lead

SETTINGS = KERNEL                            # of a plan (handed.py): where the settings of the call stand, as float64
DONE, SHARED, FAILED = 0, 1, 2               # SHARED: nothing was done, as an array that is written shares memory with another


def fill(to, values):
    """values into to. In kernels a plain loop: Numba compiles for seconds what an assignment of arrays may be."""
    to[:] = values


@overload(fill)
def _fill(to, values):
    def loop(to, values):
        for i in range(to.size):
            to[i] = values[i]
    return loop


# The next four have no loops over channels: they are parts of the kernels below, and where those are not at hand they run as they are, on NumPy.
@jit
def begin(job, table, eps, momentum, weight, bias, first, second):
    """The arguments into the table. first, second: mean and invstd as they are given, else the running mean and variance."""
    f, C, at = table.view(np.float64), job[CHANNELS], job[PARAMETERS]
    f[EPS], f[MOMENTUM] = eps, momentum
    if not job[EACH]:
        f[at:at + C] = 1.0
        f[at + C:at + 2 * C] = 0.0
        fill(f[at:at + weight.size], weight)
        fill(f[at + C:at + C + bias.size], bias)
    if first.size:
        to, n = (job[STATS], job[KEYS]) if job[FLAGS] & GIVEN else (at + 2 * C, C)
        fill(f[to:to + n], first)
        fill(f[to + n:to + 2 * n], second)


@jit
def columns(job, values, otherwise):
    """One value for each element of a row, where that is how a kernel takes them."""
    C, S = job[CHANNELS], job[LENGTH]
    if not job[EACH] or values.size == C * S:
        return values
    found = np.empty(C * S, values.dtype)
    found[:] = otherwise
    for s in range(S if values.size else 0):             # few, where a channel has one value
        fill(found[s::S], values)
    return found


@jit
def end_forward(job, table, running_mean, running_var, mean, invstd):
    """The results out of the table; the running statistics last: weight or bias may be views of them."""
    f, at, n = table.view(np.float64), job[STATS], job[KEYS]
    fill(mean, f[at:at + mean.size])
    fill(invstd, f[at + n:at + n + invstd.size])
    if job[FLAGS] & RUNNING:
        at, n = job[PARAMETERS] + 2 * job[CHANNELS], job[CHANNELS]
        fill(running_mean, f[at:at + n])
        fill(running_var, f[at + n:at + 2 * n])


@jit
def end_backward(job, table, dweight, dbias):
    f, at, C = table.view(np.float64), job[GRADIENTS], job[CHANNELS]
    fill(dweight, f[at:at + dweight.size])
    fill(dbias, f[at + C:at + C + dbias.size])


@jit
def in_turn(steps, room, helpers, threads, src, dout, dst, bias, residual, table):
    """All tasks of each kernel; whether one failed."""
    job = steps[:JOB]
    for i in range(JOB, len(steps), 2):
        kernel, tasks, failed = steps[i], steps[i + 1], BUSY
        if kernel == 0:
            src, dout = dout, dout[:0]
            continue
        if min(tasks, threads) > 1:
            failed = lead(room, helpers, kernel, 0, tasks, min(tasks, threads), src, dout, dst, bias, residual, job, table)
        if failed == BUSY:
            failed = int(call(kernel, 0, tasks, src, dout, dst, bias, residual, job, table))
        if failed:
            return FAILED
    return DONE


@jit
def forward_at_once(steps, room, helpers, threads, x, y, weight, bias, running_mean, running_var, mean, invstd, eps, momentum):
    job = steps[:JOB]
    if share(y, x) or share(y, weight) or share(y, bias) or share(y, running_mean) or share(y, running_var):
        return SHARED
    if job[FLAGS] & RUNNING and share(running_mean, running_var):
        return SHARED
    table, residual = np.empty(job[TABLE], np.int64), aligned(job[RESIDUAL], x)
    begin(job, table, eps, momentum, weight, bias, running_mean, running_var)
    left, right = columns(job, weight, 1.0), columns(job, bias, 0.0)
    failed = in_turn(steps, room, helpers, threads, x, x[:0], y, left, right if job[EACH] else residual, table)
    end_forward(job, table, running_mean, running_var, mean, invstd)
    return failed


@jit
def backward_at_once(steps, room, helpers, threads, x, dout, dx, weight, first, second, dweight, dbias, eps):
    job = steps[:JOB]
    table, residual = np.empty(job[TABLE], np.int64), aligned(job[RESIDUAL], x)
    begin(job, table, eps, 0.0, weight, weight[:0], first, second)
    failed = in_turn(steps, room, helpers, threads, x, dout, dx, columns(job, weight, 1.0), residual, table)
    end_backward(job, table, dweight, dbias)
    return failed


@jit
def handed_forward_at_once(plan_at, room, helpers, threads, x, y, weight, bias, running_mean, running_var, mean, invstd):
    """The same for objects (handed.py); whether it was done. Settings: eps, momentum."""
    plan = numbers(plan_at, SPECS + 8 * SPEC)
    if not fit(plan, (address_of(x), address_of(y), address_of(weight), address_of(bias), address_of(running_mean), address_of(running_var),
                      address_of(mean), address_of(invstd))):
        return False
    steps, settings = numbers(plan[STEPS], plan[STEPS + 1]), floats(plan_at, SPECS)[SETTINGS:]
    return forward_at_once(steps, room, helpers, threads, elements(plan, NTH[0], x), elements(plan, NTH[1], y), elements(plan, NTH[2], weight),
                           elements(plan, NTH[3], bias), elements(plan, NTH[4], running_mean), elements(plan, NTH[5], running_var),
                           elements(plan, NTH[6], mean), elements(plan, NTH[7], invstd), settings[0], settings[1]) == DONE


@jit
def handed_backward_at_once(plan_at, room, helpers, threads, x, dout, dx, weight, bias, mean, invstd, running_mean, running_var, dweight, dbias):
    """The same for objects. Settings: eps; whether the running statistics count, which else only have to be fit for the forward."""
    plan = numbers(plan_at, SPECS + 11 * SPEC)
    if not fit(plan, (address_of(x), address_of(dout), address_of(dx), address_of(weight), address_of(bias), address_of(mean), address_of(invstd),
                      address_of(running_mean), address_of(running_var), address_of(dweight), address_of(dbias))):
        return False
    first, second = elements(plan, NTH[5], mean), elements(plan, NTH[6], invstd)
    moved, other = elements(plan, NTH[7], running_mean), elements(plan, NTH[8], running_var)
    if share(moved, other):
        return False
    steps, settings = numbers(plan[STEPS], plan[STEPS + 1]), floats(plan_at, SPECS)[SETTINGS:]
    if settings[1] and not first.size:
        first, second = moved, other
    return backward_at_once(steps, room, helpers, threads, elements(plan, NTH[0], x), elements(plan, NTH[1], dout), elements(plan, NTH[2], dx),
                            elements(plan, NTH[3], weight), first, second, elements(plan, NTH[9], dweight), elements(plan, NTH[10], dbias),
                            settings[0]) == DONE
