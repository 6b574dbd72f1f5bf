"""Memory of large results that are gone serves the next ones: never while a view lives, never more than allowed."""
import gc
import os
import threading

import numpy as np
import pytest
from isolated import run

import fastconv
from fastconv import recycling

MIB = recycling.MIB
SHAPE = (10 * MIB // 4,)                     # of float32: large enough to be recycled


def large(value=0, shape=SHAPE, dtype=np.float32):
    x = recycling.empty(shape, dtype)
    x[...] = value
    return x


def place(x):
    return x.__array_interface__["data"][0]


def idle():
    return sum(memory.size for memory in recycling._idle)


@pytest.fixture(autouse=True)
def nothing_kept():
    before = fastconv.get_recycling()
    fastconv.set_recycling(0)
    fastconv.set_recycling(256)
    yield
    fastconv.set_recycling(0)
    fastconv.set_recycling(before)


def test_memory_serves_again():
    x = large()
    where = place(x)
    del x
    assert place(large()) == where
    x = large(shape=(2, 5, MIB // 8), dtype=np.float64)
    assert place(x) == where and x.shape == (2, 5, MIB // 8) and x.dtype == np.float64 and x.flags.carray and where % recycling.ALIGN == 0


def test_results_of_every_kind_come_out_of_kept_memory():
    x = np.ones((1, 64, 224, 224), np.float32)
    weight = np.ones((64, 1, 1, 1), np.float32)
    calls = [
        lambda: fastconv.conv2d(x, weight, groups=64),
        lambda: fastconv.conv2d(x, weight, groups=64),               # the way of a call that is known
        lambda: fastconv.conv2d_backward(x, x, weight, groups=64, need=(True, False, False))[0],
        lambda: fastconv.Conv2d(weight, groups=64)(x),
        lambda: fastconv.max_pool2d(x, 1),
        lambda: fastconv.avg_pool2d(x, 1),
        lambda: fastconv.batch_norm(x, None, None),
        lambda: fastconv.max_pool2d_backward(x, x, 1),
        lambda: fastconv.avg_pool2d_backward(x, x, 1),
        lambda: fastconv.lp_pool2d_backward(x, x, 1, 1),
        lambda: fastconv.adaptive_avg_pool2d_backward(x, x, None),
        lambda: fastconv.adaptive_max_pool2d_backward(x, x, None),
        lambda: fastconv.max_unpool2d_backward(x, x, np.zeros(x.shape, np.int64), 1),
        lambda: fastconv.batch_norm_backward(x, x, None, None)[0],
        lambda: fastconv.layer_norm_backward(x, x, x.shape[2:])[0],
        lambda: fastconv.local_response_norm_backward(x, x, 1),
        lambda: fastconv.relu_backward(x, x),
        lambda: fastconv.softmax_backward(x, x, 1, y=x),
        lambda: fastconv.dropout_backward(x, x, mask=x),
    ]
    where = place(large(shape=x.shape))
    for call in calls:
        y = call()
        assert place(y) == where
        del y
        gc.collect()                         # what has just been compiled may leave cycles that hold it


@pytest.mark.parametrize("view", [
    lambda x: x[1:3], lambda x: x[::-1].reshape(2, -1).T, lambda x: x.view(np.int32), memoryview, lambda x: np.frombuffer(x, np.uint8),
    lambda x: iter(x), lambda x: x.data.cast("B")[5:], lambda x: np.asarray(x[:1]).reshape(1, 1), lambda x: x.flat, lambda x: {"of": [x[5:6]]},
], ids=range(10))
def test_no_memory_is_taken_while_anything_looks_at_it(view):
    x = large(1)
    where, seen = place(x), view(x)
    del x
    others = [large(2) for _ in range(3)]
    assert where not in map(place, others)
    del seen, others
    assert where in [place(y) for y in [large() for _ in range(4)]]


def test_an_array_in_a_cycle_returns_when_the_collector_comes():
    x = large()
    where, cycle = place(x), [x]
    cycle.append(cycle)
    del x, cycle
    gc.collect()
    assert place(large()) == where


def test_what_is_kept_is_bounded_and_can_be_switched_off():
    fastconv.set_recycling(25)
    many = [large() for _ in range(5)]
    assert idle() == 0
    del many
    assert 20 * MIB <= idle() <= 25 * MIB
    x = large(shape=(26 * MIB,), dtype=np.uint8)                     # larger than all that may be kept
    assert x.base is None
    fastconv.set_recycling(0)
    assert idle() == 0 and large().base is None and fastconv.get_recycling() == 0
    fastconv.set_recycling(30)
    y = large()
    fastconv.set_recycling(0)
    del y                                                            # lent before it was switched off
    assert idle() == 0


def test_small_results_and_other_sizes_are_left_alone():
    assert large(shape=(recycling.LEAST - 1,), dtype=np.uint8).base is None
    where = place(large(shape=(40 * MIB,), dtype=np.uint8))
    small = large(shape=(20 * MIB,), dtype=np.uint8)                 # would waste half of it
    assert place(small) != where
    assert place(large(shape=(39 * MIB,), dtype=np.uint8)) == where


def test_threads_never_share_memory():
    wrong, rounds = [], 60

    def work(number):
        rng = np.random.default_rng(number)
        mine = []
        for turn in range(rounds):
            value = number * rounds + turn
            x = large(value, (int(rng.integers(8, 12)) * MIB,), np.float32 if turn % 2 else np.int32)
            mine.append((value, x[::4096]))
            del x
            if len(mine) > 3:
                value, view = mine.pop(int(rng.integers(len(mine))))
                if not (view == value).all():
                    wrong.append(value)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert recycling._returned == recycling._returned.__class__() and idle() <= 256 * MIB


def test_the_collector_may_run_while_memory_is_taken(monkeypatch):
    """An array in a cycle dies inside `_take`, under its lock."""
    x = large()
    cycle = [x]
    cycle.append(cycle)
    del x, cycle
    sort = recycling._sort_in

    def sort_in():
        gc.collect()
        sort()

    monkeypatch.setattr(recycling, "_sort_in", sort_in)
    assert large().size == SHAPE[0]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_has_its_own():
    assert run("""
import os, threading, numpy as np
from fastconv import recycling
x, y = recycling.empty((10 << 20,), np.uint8), recycling.empty((10 << 20,), np.uint8)
x[:], y[:] = 1, 2
del y
with recycling._lock:                        # as another thread may hold it at a fork
    child = os.fork()
    if child == 0:
        z = [recycling.empty((10 << 20,), np.uint8) for _ in range(3)]
        for a in z:
            a[:] = 3
        good = (x == 1).all() and not recycling._idle
        del x, z, a
        os._exit(0 if good and len(recycling._idle) == 4 else 1)
_, status = os.waitpid(child, 0)
print(status == 0 and (x == 1).all())
""") == "True"


def test_the_environment_says_how_much():
    program = "import fastconv; print(fastconv.get_recycling())"
    assert run(program, FASTCONV_RECYCLE_MIB="12") == "12" and run(program) == "256" and run(program, FASTCONV_RECYCLE_MIB="") == "256"
    asked = "import fastconv\ntry: fastconv.get_recycling()\nexcept ValueError as error: print(error)"
    for text in ("-1", "many", "1.5"):
        said = run(asked, FASTCONV_RECYCLE_MIB=text)
        assert "FASTCONV_RECYCLE_MIB" in said and repr(text) in said and "MiB" in said


@pytest.mark.parametrize("bad", [-1, 1.5, "3", None, True])
def test_bad_limits_are_refused(bad):
    with pytest.raises((TypeError, ValueError), match="mib"):
        fastconv.set_recycling(bad)
