"""Threads that do tasks together: each task once, by so many threads at most, whoever calls and whatever goes wrong."""
import heapq
import os
import threading
from pathlib import Path

import numba
import numpy as np
import pytest
from isolated import run

from fastconv.kernels import team
from fastconv.kernels.jit import jit, keeping
from fastconv.kernels.tasks import NO_TABLE, NOTHING, address, keeps

if numba.config.DISABLE_JIT:
    pytest.skip("nothing is compiled, so there are no threads", allow_module_level=True)

from fastconv.kernels.atomic import add, give_way, load, swap

NONE = NOTHING[np.dtype(np.float32)]
INSIDE, MOST, TOGETHER, STARTED = range(4)   # counters in a job


@jit
def count(first, last, src, weight, dst, bias, residual, job, table):
    """Add 1 to dst[t], after work of some length."""
    for t in range(first, last):
        x = src[t]
        for _ in range(t % 7 * 20):
            x = x * np.float32(1.0001) - x * np.float32(0.0001)
        dst[t] += np.float32(1)


@jit
def meet(first, last, src, weight, dst, bias, residual, job, table):
    """How many calls are inside at the same time, at most. Each waits until job[TOGETHER] of them have started, or job[STARTED + 1] turns."""
    place = job.ctypes.data
    inside = add(place + 8 * INSIDE, 1) + 1
    most = load(place + 8 * MOST)
    while inside > most and not swap(place + 8 * MOST, most, inside):
        most = load(place + 8 * MOST)
    add(place + 8 * STARTED, 1)
    turns = 0
    while load(place + 8 * STARTED) < job[TOGETHER] and turns < job[STARTED + 1]:
        give_way(table[0])
        turns += 1
    add(place + 8 * INSIDE, -1)
    for t in range(first, last):
        dst[t] += np.float32(1)


@jit
def fail(first, last, src, weight, dst, bias, residual, job, table):
    for t in range(first, last):
        dst[t] += np.float32(1)
    if first <= job[0] < last:
        raise MemoryError("no room")


@keeping
@jit
def keep(first, last, src, weight, dst, bias, residual, job, table):
    """The same as `count`, and counts its calls, and the last task of each share."""
    add(job.ctypes.data, 1)
    task, stop = team.first_task(first, last)
    while task < stop:
        dst[task] += np.float32(1)
        if task + 1 == stop:
            add(job.ctypes.data + 8, 1)
        if task == job[2]:
            raise MemoryError("no room")
        task, stop = team.next_task(task, stop, first, last)


@jit
def cut(first, last, src, weight, dst, bias, residual, job, table):
    """How many tasks the share that begins here has."""
    dst[first] = np.float32(last - first)


def lead(kernel, tasks, threads, dst, job=NO_TABLE, table=NO_TABLE):
    src = np.ones(max(1, tasks), np.float32)
    return team.lead(*team.helpers(threads), address(kernel, src.dtype), keeps(kernel), tasks, threads, src, NONE, dst, NONE, NONE, job, table)


def together(tasks, threads, wanted, turns=10 ** 7):
    """The most that were inside at once, where each waits for `wanted`."""
    job, dst = np.array([0, 0, wanted, 0, turns]), np.zeros(tasks, np.float32)
    assert lead(meet, tasks, threads, dst, job, np.array(team.functions()[2:])) == 0 and (dst == 1).all()
    return job[MOST]


@pytest.mark.parametrize("threads", [2, 3, 8])
def test_every_task_is_done_once(threads):
    for tasks in [*range(40), 1000]:
        for _ in range(20):
            dst = np.zeros(tasks, np.float32)
            assert lead(count, tasks, threads, dst) == 0
            assert (dst == 1).all(), (tasks, dst)


@pytest.mark.parametrize("threads", [2, 3, 8])
def test_a_kernel_that_keeps_things_at_hand_takes_its_tasks_itself(threads):
    for tasks in [*range(40), 1000]:
        job, shares, dst = np.array([0, 0, -1]), np.zeros(tasks, np.float32), np.zeros(tasks, np.float32)
        assert lead(cut, tasks, threads, shares) == lead(keep, tasks, threads, dst, job) == 0
        assert (dst == 1).all() and job[1] == np.count_nonzero(shares)       # the shares of other kernels
        assert job[0] < job[1] if tasks == 1000 else job[0] >= 1


def test_a_kernel_that_keeps_things_is_called_with_all_its_tasks_where_no_team_is():
    job, dst = np.array([0, 0, -1]), np.zeros(9, np.float32)
    keep(2, 7, NONE, NONE, dst, NONE, NONE, job, NO_TABLE)
    np.testing.assert_array_equal(dst, [0, 0, 1, 1, 1, 1, 1, 0, 0])
    np.testing.assert_array_equal(job, [1, 1, -1])


def test_a_kernel_that_keeps_things_and_fails_is_counted():
    for failing in range(8):
        dst = np.zeros(8, np.float32)
        assert lead(keep, 8, 3, dst, np.array([0, 0, failing])) >= 1
        assert dst[failing] == 1 and dst.max() == 1
    test_every_task_is_done_once(3)          # and the desk is free again


@pytest.mark.parametrize("threads", [2, 3, 8, 64])
def test_tasks_of_equal_length_keep_no_thread_longer_than_the_even_share(threads):
    for tasks in range(1, 200):
        dst, busy = np.zeros(tasks, np.float32), [0.0] * threads
        assert lead(cut, tasks, threads, dst) == 0 and dst.sum() == tasks
        for share in dst[dst > 0]:           # taken in this order, each by whoever is done first
            heapq.heapreplace(busy, busy[0] + share)
        assert max(busy) == -(-tasks // threads), (tasks, dst)


def test_callers_at_once_do_not_mix_up_their_tasks():
    """More of them than there are desks: some find all taken, and nothing done."""
    wrong, busy = [], []

    def call(tasks):
        for _ in range(300):
            dst = np.zeros(tasks, np.float32)
            failed = lead(count, tasks, 2 + tasks % 3, dst)
            busy.append(failed == team.BUSY)
            if not (dst == (0 if busy[-1] else 1)).all():
                wrong.append((tasks, dst))

    callers = [threading.Thread(target=call, args=(tasks,)) for tasks in (1, 2, 5, 8, 13, 64, 100, 1000)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join(60)
    assert not wrong and len(busy) == 300 * len(callers) and not all(busy)


def alone(program, **environment):
    """What the program prints, in a process of its own that can import this file."""
    return run(f"import sys\nsys.path.insert(0, {str(Path(__file__).parent)!r})\nfrom test_team import *\n" + program, timeout=60, **environment)


def test_threads_work_at_the_same_time_and_no_more_than_asked_for():
    program = """
print(together(8, 2, 2), together(8, 3, 3), together(64, 2, 3, 2000))      # the second helper is still there in the end, and stays outside
"""
    assert alone(program, NUMBA_NUM_THREADS=3) == "2 3 2"


def test_helpers_that_sleep_are_woken():
    program = """
import time
print(together(8, 2, 2), end=" ")
before = time.process_time()
time.sleep(0.3)
print(time.process_time() - before < 0.1, together(8, 2, 2))
"""
    assert alone(program) == "2 True 2"


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity") or len(os.sched_getaffinity(0)) < 2, reason="threads are not told where to run here")
def test_helpers_wake_up_on_another_processor_than_the_callers():
    program = """
import ctypes, os, time
helper = team.helpers(2)[0] + team.FIRST_HELPER
number = lambda at: ctypes.c_int64.from_address(helper + at).value

def woken():
    while not number(team.ASLEEP):
        time.sleep(0.01)
    return together(8, 2, 2), os.sched_getaffinity(number(team.NUMBER))

every = os.sched_getaffinity(0)
for processor in sorted(every)[:2]:          # alone there, the caller wants its helper to stay where it is
    os.sched_setaffinity(0, every)
    most, allowed = woken()
    print(most, len(every - allowed), allowed < every, end=" ")
    os.sched_setaffinity(0, {processor})
    print(woken() == (2, allowed), end=" ")
"""
    assert alone(program) == "2 1 True True 2 1 True True"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_child_forked_while_another_thread_starts_the_first_has_its_own():
    program = """
import os, signal
with team._starting:                         # as that thread holds it
    child = os.fork()
    if child == 0:
        signal.alarm(10)
        os._exit(int(together(8, 2, 2) != 2))
print(os.waitpid(child, 0)[1])
"""
    assert alone(program) == "0"


def test_a_task_that_fails_is_told():
    for task in (0, 5, 39):
        dst = np.zeros(40, np.float32)
        assert lead(fail, 40, 2, dst, np.array([task])) == 1 and (dst == 1).all()
    assert lead(fail, 40, 2, np.zeros(40, np.float32), np.array([40])) == 0


def test_without_another_thread_the_caller_does_all():
    program = """
team.new_thread = lambda number: False
dst = np.zeros(50, np.float32)
print(lead(count, 50, 2, dst), (dst == 1).all(), team._helpers)
"""
    assert alone(program) == "0 True 0"


def test_threads_are_real_where_a_library_puts_its_own_in_place_of_pythons():
    """As gevent does: a helper in one of its threads, which are none, would never let another one run."""
    program = """
import _thread
_thread.start_new_thread = threading._start_new_thread = lambda function, args, kwargs={}: 0
print(together(8, 2, 2))
"""
    assert alone(program) == "2"


def test_a_process_ends_after_a_call():
    program = """
for _ in range(50):
    lead(count, 1000, 2, np.zeros(1000, np.float32))
print("done")
"""
    assert [alone(program) for _ in range(2)] == ["done"] * 2
