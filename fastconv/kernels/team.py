"""Threads that do the tasks of a kernel together with the caller.

A caller takes a desk, writes there what to do, opens its gate, and does tasks itself; helpers that see an open gate enter and do tasks too.
Whoever is done takes more until none is left, large shares first: so nobody waits for one who came late or was held up. The caller
waits only for those who are inside, and does everything itself where no helper comes.

Helpers look for work for a while after the last, giving way to any other thread that wants their processor, then sleep until a caller wakes
them; on Linux, on another processor than its own. All of it is compiled code without the interpreter, and needs no library. A parallel
loop of Numba makes a new arena of TBB at every call, in which its threads have to arrive first: work of 60 microseconds gained nothing from
a second thread, and takes 0.55 of its time here.

Memory, in integers of 8 bytes; lines that different threads write lie apart:

    desk      gate | next task | owner and what to do | processors    DESKS of them
    helper    whether it sleeps, the lock it sleeps at, the number by which the system knows it    one each
"""
from __future__ import annotations

import ctypes
import os
import threading

import numba
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic
from numba.np.arrayobj import populate_array

from .atomic import (
    BYTES,
    FOREVER,
    acquire,
    add,
    functions,
    give_way,
    held_lock,
    here,
    lasting,
    load,
    places,
    processors,
    release,
    store,
    swap,
)
from .jit import jit

LINE = 128                                   # bytes: processors fetch neighbouring lines of 64 in pairs
DESKS = 4                                    # calls at once that others help with; a further caller works alone

# What all share, in bytes from the start.
ACQUIRE, RELEASE, YIELD, HERE, READ, SET, NAP = (BYTES * k for k in range(7))
FIRST_DESK = LINE
# In a desk.
GATE, NEXT, OWNER = 0, LINE, 2 * LINE
FAILED, KERNEL, KEEPS, TASKS, THREADS, ITEM, GIVEN = (OWNER + BYTES * k for k in range(1, 8))      # GIVEN: address and size of each of 7 arrays
PROCESSORS = 4 * LINE                        # LINE bytes, a bit each
DESK = 5 * LINE
FIRST_HELPER = FIRST_DESK + DESKS * DESK
# In a helper's line.
ASLEEP, LOCK, NUMBER = (BYTES * k for k in range(3))

OPEN = 1 << 32                               # in a gate, above the number of helpers inside
BUSY = -1
TAKE = -1                                    # as the last of a kernel's tasks: it takes them itself, at the desk that is the first
EARLY, OF = 3, 4                             # of the tasks: one even share for each thread, the rest in small ones
PATIENCE = 400                               # times to give way, some 200 microseconds: longer than what lies between the layers of a network
NAP_MICROSECONDS = 50                        # a caller that waits for a helper that waits for its processor


def emit_call(context, builder, address, kinds, args):
    """Code that calls the kernel at this address; whether it failed (only memory can run out)."""
    place = builder.inttoptr(address, context.call_conv.get_function_type(types.none, kinds).as_pointer())
    status, _ = context.call_conv.call_function(builder, place, types.none, kinds, args)
    return cgutils.as_bool_bit(builder, status.is_error)


def _call_given(typingctx, desk, first, last):
    """Do these tasks of the kernel at the desk; whether that failed."""
    floats, integers = types.float32[::1], types.int64[::1]      # of either float the pointer is all that arrives
    kinds = (types.int64, types.int64, *[floats] * 5, integers, integers)

    def codegen(context, builder, sig, args):
        def given(offset):
            return builder.load(builder.inttoptr(builder.add(args[0], ir.IntType(64)(offset)), ir.IntType(64).as_pointer()))

        arrays = []
        for number, kind in enumerate(kinds[2:]):
            array = context.make_array(kind)(context, builder)
            item = given(ITEM) if kind == floats else ir.IntType(64)(BYTES)
            data = builder.inttoptr(given(GIVEN + 2 * BYTES * number), context.get_data_type(kind.dtype).as_pointer())
            populate_array(array, data=data, shape=[given(GIVEN + 2 * BYTES * number + BYTES)], strides=[item], itemsize=item, meminfo=None)
            arrays.append(array._getvalue())
        return emit_call(context, builder, given(KERNEL), kinds, [args[1], args[2], *arrays])

    return types.boolean(types.int64, types.int64, types.int64), codegen


call_given = intrinsic(_call_given)


@jit
def take(desk):
    """The next tasks that nobody has taken, from a first to before a last one; twice the same number: there are none."""
    tasks, threads, first = load(desk + TASKS), load(desk + THREADS), load(desk + NEXT)
    early = tasks * EARLY // (OF * threads)  # for each thread
    while first < tasks:
        last = min(tasks, first + max(1, early if first < early * threads else (tasks - first) // (2 * threads)))
        if swap(desk + NEXT, first, last):
            return first, last
        first = load(desk + NEXT)
    return tasks, tasks


@jit
def do_tasks(desk):
    """Do tasks until all are taken: first a large share, so that what one task leaves at hand serves the next, then small ones."""
    if load(desk + KEEPS):
        if call_given(desk, desk, TAKE):
            add(desk + FAILED, 1)
        return
    first, last = take(desk)
    while first < last:
        if call_given(desk, first, last):
            add(desk + FAILED, 1)
        first, last = take(desk)


# ---------------------------------------------------------------- in a kernel that keeps what it has at hand from one share to the next
@jit
def first_task(first, last):
    """Its first task, and where that share of tasks ends; first and last: what the kernel was called with."""
    if last == TAKE:
        return take(first)
    return first, last


@jit
def next_task(task, end, first, last):
    """The task behind this one of a share that ends there, or the first of the next share, and where that ends; the same number: there is none."""
    if task + 1 == end and last == TAKE:
        return take(first)
    return task + 1, end


# ---------------------------------------------------------------- who does them


@jit
def wanted(desk, gate):
    """Whether another helper seems to be of use at a desk with this gate."""
    return 0 <= gate - OPEN < load(desk + THREADS) - 1 and load(desk + NEXT) < load(desk + TASKS)


@jit
def help_at(desk):
    """Enter and do tasks, if anyone is wanted; whether anyone was."""
    gate = load(desk + GATE)
    if not wanted(desk, gate):
        return False
    if swap(desk + GATE, gate, gate + 1):
        if gate - OPEN < load(desk + THREADS) - 1:       # it may be another caller's by now; once somebody is inside it stays
            do_tasks(desk)
        add(desk + GATE, -1)
    return True


@jit
def serve(room, number):
    """What a helper does all its life."""
    helper, waited = room + FIRST_HELPER + number * LINE, 0
    while True:
        helped = False
        for d in range(DESKS):
            helped |= help_at(room + FIRST_DESK + d * DESK)
        if helped:
            waited = 0
        elif waited < PATIENCE:
            give_way(load(room + YIELD))
            waited += 1
        else:
            store(helper + ASLEEP, 1)
            needed = False                   # by a caller who opened a gate and did not see the line above
            for d in range(DESKS):
                desk = room + FIRST_DESK + d * DESK
                needed |= wanted(desk, load(desk + GATE))
            if not needed or not swap(helper + ASLEEP, 1, 0):
                acquire(load(room + ACQUIRE), load(helper + LOCK), FOREVER)
            waited = 0


@jit
def wake(room, desk, helper):
    """Wake this helper, on another processor than this one where the caller may use others.

    Linux wakes a thread here, beside its busy caller, while the other processor of two has nothing to do: it looks for an idle one only where there
    was little work before. A helper then waited 12 milliseconds in most bursts of calls that followed a rest.
    """
    mask = desk + PROCESSORS
    if load(room + HERE) and processors(load(room + READ), 0, LINE, mask) == 0:
        number = here(load(room + HERE))
        if 0 <= number < 8 * LINE:
            word = mask + number // 64 * BYTES
            store(word, load(word) & ~(1 << number % 64))
            processors(load(room + SET), load(helper + NUMBER), LINE, mask)          # an error, and nothing done, where there is no other
    release(load(room + RELEASE), load(helper + LOCK))


@jit
def give(desk, number, array):
    """Write down where array `number` lies."""
    store(desk + GIVEN + 2 * BYTES * number, array.ctypes.data)
    store(desk + GIVEN + 2 * BYTES * number + BYTES, array.size)


@jit
def lead(room, helpers, kernel, keeps, tasks, threads, src, weight, dst, bias, residual, job, table):
    """All tasks of the kernel at this address, on `threads` threads if so many helpers come. How many calls failed; BUSY: nothing was done.

    keeps: whether it is one of those that take their tasks themselves.
    """
    desk, last = room + FIRST_DESK, room + FIRST_DESK + (DESKS - 1) * DESK
    while not swap(desk + OWNER, 0, 1):
        if desk == last:
            return BUSY
        desk += DESK
    store(desk + KERNEL, kernel)
    store(desk + KEEPS, keeps)
    store(desk + TASKS, tasks)
    store(desk + THREADS, threads)
    store(desk + ITEM, src.itemsize)
    give(desk, 0, src)
    give(desk, 1, weight)
    give(desk, 2, dst)
    give(desk, 3, bias)
    give(desk, 4, residual)
    give(desk, 5, job)
    give(desk, 6, table)
    store(desk + FAILED, 0)
    store(desk + NEXT, 0)
    add(desk + GATE, OPEN)
    for number in range(min(threads - 1, helpers)):
        helper = room + FIRST_HELPER + number * LINE
        if load(helper + ASLEEP) and swap(helper + ASLEEP, 1, 0):
            wake(room, desk, helper)
    do_tasks(desk)
    add(desk + GATE, -OPEN)
    waited = 0
    while load(desk + GATE):
        if waited < PATIENCE:
            give_way(load(room + YIELD))
            waited += 1
        else:
            acquire(load(room + ACQUIRE), load(room + NAP), NAP_MICROSECONDS)
    failed = load(desk + FAILED)
    store(desk + OWNER, 0)
    return failed


# ---------------------------------------------------------------- from Python
_room, _helpers, _most = 0, 0, 0             # the address of all that is shared; how many helpers there are, and may be
_starting = threading.Lock()


def helpers(threads: int) -> tuple[int, int]:
    """The room and its helpers, as many as a call on so many threads wants; fewer where the system starts no more threads."""
    if _helpers < threads - 1 and (_helpers < _most or not _room):
        with _starting:
            _start(threads - 1)
    return _room, _helpers


def compile_helpers() -> None:
    serve.compile((types.int64, types.int64))


def _start(count: int) -> None:
    global _room, _helpers, _most
    if not _room:
        compile_helpers()
        most = max(count, int(numba.config.NUMBA_NUM_THREADS) - 1)
        room = lasting(FIRST_HELPER + LINE * (most + 1))
        room += -room % LINE
        _write(room + ACQUIRE, *functions(), *places())
        _write(room + NAP, held_lock())
        _room, _most = room, most
    while _helpers < min(count, _most):
        _write(_room + FIRST_HELPER + _helpers * LINE + LOCK, held_lock())
        if new_thread(_helpers):
            _helpers += 1
        else:                                # the system's limit
            _most = _helpers


ENTRY = ctypes.CFUNCTYPE(None, ctypes.c_ssize_t)


@ENTRY
def _enter(number: int) -> None:
    _write(_room + FIRST_HELPER + number * LINE + NUMBER, threading.get_native_id())
    serve(_room, number)


def new_thread(number: int) -> bool:
    """Start a thread that is this helper; whether the system has one. Not by _thread, in which gevent puts threads of its own that are none."""
    start = ctypes.PYFUNCTYPE(ctypes.c_ulong, ENTRY, ctypes.c_ssize_t)(("PyThread_start_new_thread", ctypes.pythonapi))
    return bool(start(_enter, number) != ctypes.c_ulong(-1).value)


def _write(place: int, *words: int) -> None:
    (ctypes.c_int64 * len(words)).from_address(place)[:] = list(words)


def _forget() -> None:
    """In a forked child, which has none of the threads."""
    global _room, _helpers, _most, _starting
    _room, _helpers, _most, _starting = 0, 0, 0, threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
