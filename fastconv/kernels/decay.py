"""L2 regularisation in one pass. A kernel of the shared signature (kernels/tasks.py): task t is block t of BLOCK elements."""
from __future__ import annotations

from .jit import jit

BLOCK = 16384                                # elements of one task


@jit
def decay(first, last, src, weight, dst, bias, residual, job, table):
    """dst, the gradient to the weights src, += bias[0] * src; residual[t] = the sum of the squares of block t of src."""
    for t in range(first, last):
        lo, hi = t * BLOCK, min(src.size, (t + 1) * BLOCK)
        w, dw, factor, total = src[lo:hi], dst[lo:hi], bias[0], src.dtype.type(0)
        for i in range(w.size):
            dw[i] += factor * w[i]
            total += w[i] * w[i]
        residual[t] = total
