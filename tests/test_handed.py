"""Small calls that compiled code is handed as Python's objects: done where every array is as remembered, else not touched."""
import numba
import numpy as np
import pytest

import fastconv
from fastconv import runtime
from fastconv.kernels import activation, handed, norm_call
from fastconv.kernels.tasks import NO_TABLE, NOTHING
from fastconv.norm import passes
from fastconv.pool import adaptive, known, unpool, window
from fastconv.remembered import Remembered

NO_JIT = pytest.mark.skipif(numba.config.DISABLE_JIT, reason="nothing is compiled")
X = np.random.default_rng(0).standard_normal((2, 4, 6, 6)).astype(np.float32)
OTHERS = {                                   # what is not X, in one way each
    "None": None, "number": 3, "text": "x", "list": [1.0], "dtype": X.astype(np.float64), "bytes": X.astype(">f4"), "integers": X.view(np.int32),
    "shape": X.reshape(2, 4, 36), "size": X[:1], "strides": np.repeat(X, 2, 1)[:, ::2], "order": np.asfortranarray(X), "subclass": np.ma.array(X),
    "misplaced": np.frombuffer(b"x" * (X.nbytes + 1), np.uint8)[1:].view(np.float32).reshape(X.shape),
}


def at_once(kernel, specs, weight, bias):
    """As the second call has it: the first one may find nothing compiled."""
    handed.at_once(kernel, 1, specs, weight, bias, NO_TABLE, NO_TABLE)
    return handed.at_once(kernel, 1, specs, weight, bias, NO_TABLE, NO_TABLE)


@NO_JIT
@pytest.mark.parametrize("other", OTHERS)
def test_what_is_not_as_planned_is_not_touched(other):
    spec, nothing, y = (X.shape, X.dtype), NOTHING[X.dtype], np.full_like(X, 7)
    run = at_once(activation.relu_backward, (spec, spec, spec, None), nothing, nothing)
    value = OTHERS[other]
    before = value.copy() if isinstance(value, np.ndarray) else value
    assert not run(value, X, y, None) and not run(X, value, y, None) and not run(X, X, value, None) and not run(X, X, y, X)
    assert (y == 7).all() and (before is value or np.array_equal(before, value))
    assert run(X, X, y, None) and np.array_equal(y, np.maximum(X, 0))


@NO_JIT
def test_a_result_that_lies_in_an_argument_is_not_written():
    memory = np.arange(2 * X.size, dtype=np.float32)
    x, spec, nothing = memory[:X.size].reshape(X.shape), (X.shape, X.dtype), NOTHING[X.dtype]
    run = at_once(activation.leaky_relu, (spec, None, spec, None), nothing, np.ones(1, np.float32))
    for at in (0, 1, X.size - 1):
        assert not run(x, None, memory[at:at + X.size].reshape(X.shape), None)
    assert run(x, None, memory[X.size:].reshape(X.shape), None) and np.array_equal(memory[X.size:], memory[:X.size])


C, Y = np.ones(4, np.float32), np.ones((2, 4, 3, 3), np.float32)
PLACES = fastconv.max_pool2d(X, 2, return_indices=True)[1]
CALLS = {
    "relu": (lambda x: fastconv.relu(x), X), "relu_backward": (lambda dout: fastconv.relu_backward(dout, X), X),
    "softmax": (lambda x: fastconv.softmax(x, 1), X), "softmax_backward": (lambda y: fastconv.softmax_backward(X, X, 1, y=y), X),
    "max_pool2d": (lambda x: fastconv.max_pool2d(x, 2), X), "max_pool2d_backward": (lambda dout: fastconv.max_pool2d_backward(dout, X, 2), Y),
    "indices": (lambda at: fastconv.max_pool2d_backward(Y, X, 2, indices=at), PLACES),
    "avg_pool2d": (lambda x: fastconv.avg_pool2d(x, 2), X), "adaptive_max_pool2d": (lambda x: fastconv.adaptive_max_pool2d(x, 3), X),
    "adaptive_max_pool2d_backward": (lambda dout: fastconv.adaptive_max_pool2d_backward(dout, X, 3), Y),
    "adaptive_avg_pool2d_backward": (lambda dout: fastconv.adaptive_avg_pool2d_backward(dout, X, 3), Y),
    "max_unpool2d": (lambda x: fastconv.max_unpool2d(x, PLACES, 2), Y),
    "max_unpool2d_backward": (lambda at: fastconv.max_unpool2d_backward(X, Y, at, 2), PLACES),
    "batch_norm": (lambda x: fastconv.batch_norm(x, C.copy(), C.copy(), C, C, True, return_stats=True), X),
    "batch_norm weight": (lambda weight: fastconv.batch_norm(X, C, C, weight, C), C),
    "batch_norm_backward": (lambda mean: fastconv.batch_norm_backward(X, X, C.copy(), C.copy(), C, C, True, mean=mean, invstd=C), C),
    "batch_norm_backward, running": (lambda mean: fastconv.batch_norm_backward(X, X, mean, C, C, C), C),
    "instance_norm": (lambda x: fastconv.instance_norm(x, C.copy(), C.copy(), C, None, return_stats=True), X),
    "group_norm_backward": (lambda dout: fastconv.group_norm_backward(dout, X, 2, C, C), X),
    "layer_norm": (lambda bias: fastconv.layer_norm(X, (6, 6), X[0, 0], bias), X[0, 1]), "rms_norm": (lambda x: fastconv.rms_norm(x, (6,)), X),
    "rms_norm_backward": (lambda dout: fastconv.rms_norm_backward(dout, X, (6, 6), X[0, 0], need=(True, False)), X),
}
NORMALISATIONS = [name for name in CALLS if "norm" in name]


def results(call, value):
    found = call(value)
    return [np.asarray(one) for one in (found if isinstance(found, tuple) else (found,)) if one is not None]


@pytest.mark.parametrize("name", CALLS)
def test_a_remembered_call_gives_the_same_bits_and_takes_what_the_first_took(name):
    call, value = CALLS[name]
    strided = np.repeat(value, 2, 0)[::2]
    wanted = results(call, strided)          # never remembered: no kernel takes it as it is
    for given in (value, value, strided, value.copy()):
        assert all(np.array_equal(a, b) for a, b in zip(results(call, given), wanted, strict=True))
    for given in (value.astype(complex), [value]):
        with pytest.raises((TypeError, ValueError)):
            call(given)


@pytest.fixture(params=[1, 2], ids="{} threads".format)
def large(request, monkeypatch):
    """Poolings of this test are large ones, whatever their size, on so many threads."""
    monkeypatch.setattr(runtime, "SMALL_WORK", 0.0)
    for rooms, name in ((window, "WINDOWS"), (unpool, "CALLS"), (adaptive, "CALLS")):
        monkeypatch.setattr(rooms, name, Remembered())
    before = fastconv.get_num_threads()
    fastconv.set_num_threads(min(request.param, runtime.most_threads(1e9), before))
    yield
    fastconv.set_num_threads(before)


POOLINGS = [name for name in CALLS if "pool" in name or name == "indices"]


@pytest.mark.parametrize("name", POOLINGS)
def test_a_remembered_large_call_gives_the_same_bits(name, large, monkeypatch):
    call, value = CALLS[name]
    strided, made = np.repeat(value, 2, 0)[::2], []
    monkeypatch.setattr(known.TeamCall, "__call__", lambda self, *arrays, run=known.TeamCall.__call__: made.append(run(self, *arrays)) or made[-1])
    wanted = results(call, strided)
    for given in (value, value, strided, value.copy()):
        assert all(np.array_equal(a, b) for a, b in zip(results(call, given), wanted, strict=True))
    assert numba.config.DISABLE_JIT or sum(array is not None for array in made) >= 2


def test_indices_that_are_none_are_found_in_a_remembered_large_call(large):
    test_indices_that_are_none_are_found_in_a_remembered_call()


def test_indices_that_are_none_are_found_in_a_remembered_call():
    for call in (lambda at: fastconv.max_pool2d_backward(Y, X, 2, indices=at), lambda at: fastconv.max_unpool2d(Y, at, 2),
                 lambda at: fastconv.max_unpool2d_backward(X, Y, at, 2), lambda at: fastconv.adaptive_max_pool2d_backward(Y, X, 3, indices=at)):
        wanted = call(PLACES)
        bad = PLACES.copy()
        bad[1, 2, 1, 1] = 36
        for _ in range(2):
            with pytest.raises(ValueError, match="indices"):
                call(bad)
            assert np.array_equal(call(PLACES), wanted)


def test_running_statistics_that_cannot_be_written_are_refused_by_a_remembered_call():
    fixed = C.copy()
    fixed.flags.writeable = False
    for function in (lambda mean, var: fastconv.batch_norm(X, mean, var, training=True),
                     lambda mean, var: fastconv.batch_norm_backward(X, X, mean, var, training=True),
                     lambda mean, var: fastconv.instance_norm_backward(X, X, mean, var)):
        function(C.copy(), C.copy())
        for mean, var in ((fixed, C.copy()), (C.copy(), fixed), (both := C.copy(), both)):
            with pytest.raises(ValueError, match="read-only|share"):
                function(mean, var)


@NO_JIT
@pytest.mark.parametrize("name", NORMALISATIONS)
def test_steps_one_by_one_give_the_bits_of_all_in_one_call(name, monkeypatch):
    """As in the first call of a process that finds nothing compiled."""
    call, value = CALLS[name]
    strided, asked = np.repeat(value, 2, 0)[::2], []
    wanted = results(call, strided)
    monkeypatch.setattr(passes, "at_hand", lambda kernel, *_: asked.append(kernel))
    assert all(np.array_equal(a, b) for a, b in zip(results(call, strided), wanted, strict=True))
    assert asked and asked[0] in (norm_call.forward_at_once, norm_call.backward_at_once)
