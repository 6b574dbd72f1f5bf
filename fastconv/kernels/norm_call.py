"""A normalisation from its arguments to its results: what stands before the first kernel and after the last, and all of it in one call.

Arrays are 1-D and of the dtype of x; what is not given is empty. steps: the job (norm.py), then the kernels' addresses and how many tasks
each has, in pairs. After a pair of zeros src is dout, and there is no dout.
"""
from __future__ import annotations

import numpy as np

from .handed import JOB as STEPS
from .handed import NTH, SPEC, SPECS, address_of, elements, fit, numbers, share
from .jit import jit
from .norm import CHANNELS, EACH, EPS, FLAGS, GIVEN, GRADIENTS, JOB, KEYS, LENGTH, MOMENTUM, PARAMETERS, RESIDUAL, RUNNING, STATS, TABLE
from .tasks import call

DONE, SHARED, FAILED = 0, 1, 2               # SHARED: nothing was done, as an array that is written shares memory with another


@jit
def fill(to, values, otherwise):
    if values.size:
        for i in range(to.size):
            to[i] = values[i]
    else:
        to[:] = otherwise


@jit
def begin(job, table, eps, momentum, weight, bias, first, second):
    """The arguments into the table. first, second: mean and invstd as they are given, else the running mean and variance."""
    f, C, at = table.view(np.float64), job[CHANNELS], job[PARAMETERS]
    f[EPS], f[MOMENTUM] = eps, momentum
    if not job[EACH]:
        fill(f[at:at + C], weight, 1.0)
        fill(f[at + C:at + 2 * C], bias, 0.0)
    if first.size:
        to, n = (job[STATS], job[KEYS]) if job[FLAGS] & GIVEN else (at + 2 * C, C)
        fill(f[to:to + n], first, 0.0)
        fill(f[to + n:to + 2 * n], second, 0.0)


@jit
def columns(job, values, otherwise):
    """One value for each element of a row, where that is how a kernel takes them."""
    C, S = job[CHANNELS], job[LENGTH]
    if not job[EACH] or values.size == C * S:
        return values
    found = np.empty(C * S, values.dtype)
    if values.size:
        for c in range(C):
            found[c * S:(c + 1) * S] = values[c]
    else:
        found[:] = otherwise
    return found


@jit
def results(job, table, at, n, first, second):
    """Two lines of n numbers of the table into these arrays, as far as they are wanted."""
    f = table.view(np.float64)
    for i in range(first.size):
        first[i] = f[at + i]
    for i in range(second.size):
        second[i] = f[at + n + i]


@jit
def end_forward(job, table, running_mean, running_var, mean, invstd):
    """The results out of the table; the running statistics last: weight or bias may be views of them."""
    results(job, table, job[STATS], job[KEYS], mean, invstd)
    if job[FLAGS] & RUNNING:
        results(job, table, job[PARAMETERS] + 2 * job[CHANNELS], job[CHANNELS], running_mean, running_var)


@jit
def end_backward(job, table, dweight, dbias):
    results(job, table, job[GRADIENTS], job[CHANNELS], dweight, dbias)


@jit
def in_turn(steps, src, dout, dst, bias, residual, table):
    """All tasks of each kernel; whether one failed."""
    job = steps[:JOB]
    for i in range(JOB, len(steps), 2):
        if steps[i] == 0:
            src, dout = dout, dout[:0]
        elif call(steps[i], 0, steps[i + 1], src, dout, dst, bias, residual, job, table):
            return FAILED
    return DONE


@jit
def forward_at_once(steps, x, y, weight, bias, running_mean, running_var, mean, invstd, eps, momentum):
    job = steps[:JOB]
    if share(y, x) or share(y, weight) or share(y, bias) or share(y, running_mean) or share(y, running_var):
        return SHARED
    if job[FLAGS] & RUNNING and share(running_mean, running_var):
        return SHARED
    table, residual = np.empty(job[TABLE], np.int64), np.empty(job[RESIDUAL], x.dtype)
    begin(job, table, eps, momentum, weight, bias, running_mean, running_var)
    left, right = columns(job, weight, 1.0), columns(job, bias, 0.0)
    failed = in_turn(steps, x, x[:0], y, left, right if job[EACH] else residual, table)
    end_forward(job, table, running_mean, running_var, mean, invstd)
    return failed


@jit
def backward_at_once(steps, x, dout, dx, weight, first, second, dweight, dbias, eps):
    job = steps[:JOB]
    table, residual = np.empty(job[TABLE], np.int64), np.empty(job[RESIDUAL], x.dtype)
    begin(job, table, eps, 0.0, weight, weight[:0], first, second)
    failed = in_turn(steps, x, dout, dx, columns(job, weight, 1.0), residual, table)
    end_backward(job, table, dweight, dbias)
    return failed


@jit
def handed_forward_at_once(plan_at, eps, momentum, x, y, weight, bias, running_mean, running_var, mean, invstd):
    """The same for objects (handed.py); whether it was done."""
    plan = numbers(plan_at, SPECS + 8 * SPEC)
    if not fit(plan, (address_of(x), address_of(y), address_of(weight), address_of(bias), address_of(running_mean), address_of(running_var),
                      address_of(mean), address_of(invstd))):
        return False
    steps = numbers(plan[STEPS], plan[STEPS + 1])
    return forward_at_once(steps, elements(plan, NTH[0], x), elements(plan, NTH[1], y), elements(plan, NTH[2], weight), elements(plan, NTH[3], bias),
                           elements(plan, NTH[4], running_mean), elements(plan, NTH[5], running_var), elements(plan, NTH[6], mean),
                           elements(plan, NTH[7], invstd), eps, momentum) == DONE


@jit
def handed_backward_at_once(plan_at, eps, running, x, dout, dx, weight, bias, mean, invstd, running_mean, running_var, dweight, dbias):
    """The same for objects. running: the running statistics count, which else only have to be fit for the forward."""
    plan = numbers(plan_at, SPECS + 11 * SPEC)
    if not fit(plan, (address_of(x), address_of(dout), address_of(dx), address_of(weight), address_of(bias), address_of(mean), address_of(invstd),
                      address_of(running_mean), address_of(running_var), address_of(dweight), address_of(dbias))):
        return False
    first, second = elements(plan, NTH[5], mean), elements(plan, NTH[6], invstd)
    moved, other = elements(plan, NTH[7], running_mean), elements(plan, NTH[8], running_var)
    if share(moved, other):
        return False
    if running and not first.size:
        first, second = moved, other
    steps = numbers(plan[STEPS], plan[STEPS + 1])
    return backward_at_once(steps, elements(plan, NTH[0], x), elements(plan, NTH[1], dout), elements(plan, NTH[2], dx), elements(plan, NTH[3], weight),
                            first, second, elements(plan, NTH[9], dweight), elements(plan, NTH[10], dbias), eps) == DONE
