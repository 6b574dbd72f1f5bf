"""Memory that threads share: 64-bit integers at an address, read and written in one order that all threads agree on; Python's locks; and where threads run.

Only compiled code may use these. Python's own locks (PyThread_acquire_lock_timed and PyThread_release_lock of its C interface) exist on
every system, and may be used without the interpreter.
"""
from __future__ import annotations

import ctypes
import sys
from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

BYTES, ORDER = 8, "seq_cst"
I32, I64, POINTER = ir.IntType(32), ir.IntType(64), ir.IntType(8).as_pointer()
FOREVER = -1                                 # microseconds


def _place(builder, address):
    return builder.inttoptr(address, I64.as_pointer())


@intrinsic
def load(typingctx, address):
    """The integer there."""
    return types.int64(types.int64), lambda context, builder, sig, args: builder.load_atomic(_place(builder, args[0]), ORDER, BYTES)


@intrinsic
def store(typingctx, address, value):
    def codegen(context, builder, sig, args):
        builder.store_atomic(args[1], _place(builder, args[0]), ORDER, BYTES)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), codegen


@intrinsic
def add(typingctx, address, value):
    """Add to the integer there; what it was."""
    return (types.int64(types.int64, types.int64),
            lambda context, builder, sig, args: builder.atomic_rmw("add", _place(builder, args[0]), args[1], ORDER))


@intrinsic
def swap(typingctx, address, old, new):
    """Put `new` where `old` is; whether it was."""
    def codegen(context, builder, sig, args):
        return builder.extract_value(builder.cmpxchg(_place(builder, args[0]), args[1], args[2], ORDER, ORDER), 1)

    return types.boolean(types.int64, types.int64, types.int64), codegen


@intrinsic
def give_way(typingctx, function):
    """Let another thread have this processor, if one waits for it. function: the address of the system's call for that."""
    def codegen(context, builder, sig, args):
        builder.call(builder.inttoptr(args[0], ir.FunctionType(I32, []).as_pointer()), [])
        return context.get_dummy_value()

    return types.void(types.int64), codegen


@intrinsic
def here(typingctx, function):
    """The number of this processor, or one below 0. function: the address of sched_getcpu."""
    def codegen(context, builder, sig, args):
        return builder.sext(builder.call(builder.inttoptr(args[0], ir.FunctionType(I32, []).as_pointer()), []), I64)

    return types.int64(types.int64), codegen


@intrinsic
def processors(typingctx, function, thread, size, mask):
    """Read or set on which processors a thread may run (0: this thread), the bits of `size` bytes at `mask`; 0 if that was done. function: the
    address of sched_getaffinity or sched_setaffinity."""
    def codegen(context, builder, sig, args):
        kind = ir.FunctionType(I32, [I32, I64, POINTER])
        function, thread, size, mask = args
        done = builder.call(builder.inttoptr(function, kind.as_pointer()), [builder.trunc(thread, I32), size, builder.inttoptr(mask, POINTER)])
        return builder.sext(done, I64)

    i = types.int64
    return i(i, i, i, i), codegen


@intrinsic
def acquire(typingctx, function, lock, microseconds):
    """Wait for the lock, so long at most. function: the address of PyThread_acquire_lock_timed."""
    def codegen(context, builder, sig, args):
        kind = ir.FunctionType(I32, [POINTER, I64, I32])
        builder.call(builder.inttoptr(args[0], kind.as_pointer()), [builder.inttoptr(args[1], POINTER), args[2], I32(0)])
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64), codegen


@intrinsic
def release(typingctx, function, lock):
    """Let the lock go. function: the address of PyThread_release_lock."""
    def codegen(context, builder, sig, args):
        kind = ir.FunctionType(ir.VoidType(), [POINTER])
        builder.call(builder.inttoptr(args[0], kind.as_pointer()), [builder.inttoptr(args[1], POINTER)])
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), codegen


# ---------------------------------------------------------------- from Python
def functions() -> tuple[int, ...]:
    """The addresses of what `acquire`, `release` and `give_way` call."""
    api = ctypes.pythonapi
    system = ctypes.WinDLL("kernel32").SwitchToThread if sys.platform == "win32" else ctypes.CDLL(None).sched_yield
    return _addresses(api.PyThread_acquire_lock_timed, api.PyThread_release_lock, system)


def places() -> tuple[int, ...]:
    """The addresses of what `here` calls, and `processors` to read and to set; zeros where the system has no such functions: only Linux has."""
    try:
        system = ctypes.CDLL(None)
        return _addresses(system.sched_getcpu, system.sched_getaffinity, system.sched_setaffinity) if sys.platform == "linux" else (0, 0, 0)
    except (AttributeError, OSError):
        return 0, 0, 0


def _addresses(*found: Any) -> tuple[int, ...]:
    return tuple(ctypes.cast(function, ctypes.c_void_p).value or 0 for function in found)


def held_lock() -> int:
    """A new lock that is not free. It stays for good."""
    allocate, take = (ctypes.PYFUNCTYPE(*kinds)((name, ctypes.pythonapi)) for name, kinds in (
        ("PyThread_allocate_lock", (ctypes.c_void_p,)), ("PyThread_acquire_lock", (ctypes.c_int, ctypes.c_void_p, ctypes.c_int))))
    lock = allocate()
    if not lock:
        raise MemoryError("no memory for a lock")
    take(lock, 1)
    return int(lock)


def lasting(size: int) -> int:
    """The address of so many bytes of zeros that are never freed: threads look at them until the process is gone."""
    allocate = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.c_size_t, ctypes.c_size_t)(("PyMem_RawCalloc", ctypes.pythonapi))
    place = allocate(1, size)
    if not place:
        raise MemoryError("no memory for what threads share")
    return int(place)
