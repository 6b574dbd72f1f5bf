"""Many kernels one after the other in one call: between the layers of a network Python's own code has left the caches, and costs more than at rest.

A record is RECORD integers: a kernel's address, whether it takes its tasks itself, how many they are, on how many threads to do them at
most, then address and number of elements of src, weight, dst, bias, residual, job and table. Instead of an address it may be X, Y or
ROOM - n: the array is x, is y, or begins n elements behind the start of the workspace.
"""
from __future__ import annotations

import numpy as np
from numba import carray, from_dtype, types

from .handed import numbers, pointer_to
from .jit import jit
from .tasks import call
from .team import BUSY, lead

RECORD = 18
X, Y, ROOM = -1, -2, -3


@jit
def placed(place, size, x, y, room):
    """The elements that a record names."""
    if place == X:
        return x
    if place == Y:
        return y
    if place <= ROOM:
        return room[ROOM - place:ROOM - place + size]
    return carray(pointer_to(x, place), size)


@jit
def chain(records, desks, helpers, threads, x, y, room):
    """Do all tasks of all records, on up to so many threads; whether there was memory."""
    for at in range(0, len(records), RECORD):
        r = records[at:at + RECORD]
        kernel, keeps, tasks, several, failed = r[0], r[1], r[2], min(r[3], threads), BUSY
        src, weight, dst = placed(r[4], r[5], x, y, room), placed(r[6], r[7], x, y, room), placed(r[8], r[9], x, y, room)
        bias, residual = placed(r[10], r[11], x, y, room), placed(r[12], r[13], x, y, room)
        job, table = numbers(r[14], r[15]), numbers(r[16], r[17])
        if several > 1:
            failed = lead(desks, helpers, kernel, keeps, tasks, several, src, weight, dst, bias, residual, job, table)
        if failed == BUSY:
            failed = call(kernel, 0, tasks, src, weight, dst, bias, residual, job, table)
        if failed:
            return False
    return True


def chain_signature(dtype):
    floats = from_dtype(np.dtype(dtype))[::1]
    return (types.int64[::1], *[types.int64] * 3, *[floats] * 3)
