"""Kernels that share one signature, and the one function that runs any of them.

    kernel(first, last, src, weight, dst, bias, residual, job, table)      does the tasks first <= t < last

src, weight, dst, bias, residual: 1-D contiguous arrays of one floating dtype, empty where a kernel has no use for one; job: the sizes that
say what to do, table: offsets, both int64. Tasks write to different places and none looks at the number of threads.

Threads call a kernel through its address (team.py): so no kernel is compiled a second time for them. Where one task leaves at hand what the
next needs, transformed pixels or a window, the kernel is called once by each thread and takes its tasks itself (`jit.keeping`): another call
would have to make that again.
"""
from __future__ import annotations

import functools
from typing import Any, NamedTuple

import numba
import numpy as np
from numba import config, types
from numba.extending import intrinsic

from .. import compiling, runtime
from . import team
from .jit import KEEPING, loadable

NOTHING = {np.dtype(dtype): np.empty(0, dtype) for dtype in (np.float32, np.float64)}      # for an argument that a kernel has no use for
NO_TABLE = np.empty(0, np.int64)
LONG_WORK = 5e10                             # half a second of one thread: as long as it takes to compile what starts others


class Call(NamedTuple):
    """A kernel with all its arguments but src, dst and residual."""

    kernel: Any
    tasks: int
    work: float                              # floating-point operations, or about twice the bytes moved
    weight: np.ndarray
    bias: np.ndarray
    job: np.ndarray
    table: np.ndarray


def signature(dtype: np.dtype) -> tuple[Any, ...]:
    """The argument types of every kernel for this dtype."""
    floats, integers = numba.from_dtype(np.dtype(dtype))[::1], types.int64[::1]
    return (types.int64, types.int64, *[floats] * 5, integers, integers)


@functools.lru_cache(maxsize=256)
def compiled(kernel: Any, dtype: np.dtype) -> Any:
    """The kernel, with its code for this dtype loaded or compiled."""
    if not config.DISABLE_JIT:
        kernel.compile(signature(dtype))
    return kernel


@functools.lru_cache(maxsize=256)
def address(kernel: Any, dtype: np.dtype) -> Any:
    """Where the kernel's machine code for this dtype starts; the kernel itself where nothing is compiled."""
    if config.DISABLE_JIT:
        return kernel
    result = compiled(kernel, dtype).overloads[signature(dtype)]
    return result.library.get_pointer_to_function(result.fndesc.llvm_func_name)


def keeps(kernel: Any) -> bool:
    """Whether a team leaves it to the kernel to take tasks (`jit.keeping`)."""
    return kernel in KEEPING


def compile_threads(dtype: np.dtype) -> None:
    """All that runs kernels for this dtype on several threads, compiled or loaded; no thread is started."""
    team.lead.compile(_lead_signature(dtype))
    team.compile_helpers()


def _lead_signature(dtype: np.dtype) -> tuple[Any, ...]:
    return (*[types.int64] * 6, *signature(dtype)[2:])


def _call(kernel, first, last, src, weight, dst, bias, residual, job, table):
    """Call the kernel of this address; whether it failed (only memory can run out)."""
    kernel(first, last, src, weight, dst, bias, residual, job, table)
    return False


def _call_intrinsic(typingctx, kernel, first, last, src, weight, dst, bias, residual, job, table):
    arguments = (first, last, src, weight, dst, bias, residual, job, table)

    def codegen(context, builder, sig, args):
        return team.emit_call(context, builder, args[0], sig.args[1:], args[1:])

    return types.boolean(types.int64, *arguments), codegen


call = _call if config.DISABLE_JIT else intrinsic(_call_intrinsic)


def crew(tasks: int, work: float) -> tuple[int, int, int]:
    """Where threads meet, the helpers there, and on how many threads to do tasks that are `work` floating-point operations together."""
    if work < runtime.SMALL_WORK or config.DISABLE_JIT or (threads := min(tasks, runtime.threads_for(work))) < 2:
        return 0, 0, 1
    return *team.helpers(threads), threads


def run_tasks(kernel: Any, tasks: int, work: float, src: np.ndarray, weight: np.ndarray, dst: np.ndarray, bias: np.ndarray,
              residual: np.ndarray, job: np.ndarray, table: np.ndarray) -> None:
    """Do all tasks of a kernel, on as many threads as `work` floating-point operations are worth. MemoryError without room to work in."""
    failed = team.BUSY
    if work >= runtime.SMALL_WORK:
        before = len(compiling.compiled)
        place = address(kernel, src.dtype)
        has_waited = len(compiling.compiled) > before and work < LONG_WORK
        # A call that compiled its kernel does not wait again for what runs it on threads: one thread does it, with the same bits.
        if not has_waited or loadable(team.lead, _lead_signature(src.dtype)):
            room, helpers, threads = crew(tasks, work)
            if threads > 1:
                failed = team.lead(room, helpers, place, keeps(kernel), tasks, threads, src, weight, dst, bias, residual, job, table)
    if failed == team.BUSY:
        kernel(0, tasks, src, weight, dst, bias, residual, job, table)
    elif failed:
        raise MemoryError(f"no memory for the workspace of {kernel.__name__}")


def run_call(call: Call, src: np.ndarray, dst: np.ndarray, residual: np.ndarray) -> None:
    """`run_tasks` of all that the call has, and these arrays."""
    run_tasks(call.kernel, call.tasks, call.work, src, call.weight, dst, call.bias, residual, call.job, call.table)
