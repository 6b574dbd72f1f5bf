"""Local response normalisation and its gradient against the naive loops and float64 truth."""
import numpy as np
import pytest
from cases import inject, layouts, random_array

import fastconv
import naive
from fastconv.testing import assert_gradient, assert_same

CASES = [
    ((2, 7, 5, 6), {"size": 5}), ((2, 7, 5, 6), {"size": 4}), ((2, 3, 9), {"size": 1}), ((1, 2, 3, 4, 5), {"size": 9}), ((3, 1, 4), {"size": 2}),
    ((2, 9, 40, 41), {"size": 3, "alpha": 1.0, "beta": 0.5, "k": 2.0}), ((2, 5, 3, 3), {"size": 3, "alpha": 0.3, "beta": 1.0}),
    ((2, 5, 3, 3), {"size": 3, "alpha": 2.0, "beta": 0.6, "k": 0.5}), ((2, 5, 3, 3), {"size": 2, "beta": 0.0}), ((0, 5, 3), {"size": 3}),
    ((2, 0, 3), {"size": 3}), ((2, 5, 0), {"size": 3}), ((1, 4, 2050), {"size": 3, "alpha": 0.5}),
]
EACH = pytest.mark.parametrize("shape, kwargs", CASES, ids=str)
EACH_DTYPE = pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64], ids=["f2", "f4", "f8"])
FORWARD = fastconv.local_response_norm, naive.local_response_norm
BACKWARD = fastconv.local_response_norm_backward, naive.local_response_norm_backward


@EACH_DTYPE
@EACH
def test_same_as_the_loops(shape, kwargs, dtype):
    x, dout = random_array(shape, dtype), random_array(shape, dtype, seed=1)
    assert_same(*FORWARD, (x,), kwargs)
    assert_same(*BACKWARD, (dout, x), kwargs)


@pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["f4", "f8"])
@EACH
def test_nan_and_inf(shape, kwargs, dtype):
    x, dout = random_array(shape, dtype), random_array(shape, dtype, seed=1)
    assert_same(*FORWARD, (inject(x), ), kwargs)
    assert_same(*BACKWARD, (inject(dout), x), kwargs)
    assert_same(*BACKWARD, (dout, inject(x, (np.nan,))), kwargs)


@pytest.mark.parametrize("kwargs", [{"size": 3, "alpha": 0.5}, {"size": 4, "alpha": 1.0, "beta": 0.6}, {"size": 7, "alpha": 0.2, "beta": 1.0}], ids=str)
def test_gradient(kwargs):
    assert_gradient(*(f[0] for f in (FORWARD, BACKWARD)), (random_array((2, 5, 3)),), kwargs)


def test_any_memory_layout():
    x, dout = random_array((2, 6, 4, 5), np.float32), random_array((2, 6, 4, 5), np.float32, seed=1)
    wanted, wanted_back = fastconv.local_response_norm(x, 3), fastconv.local_response_norm_backward(dout, x, 3)
    for odd, odd_dout in zip(layouts(x).values(), layouts(dout).values()):
        assert np.array_equal(fastconv.local_response_norm(odd, 3), wanted)
        assert np.array_equal(fastconv.local_response_norm_backward(odd_dout, odd, 3), wanted_back)
    for out in layouts(np.zeros_like(wanted)).values():
        if out.flags.writeable:
            assert fastconv.local_response_norm(x, 3, out=out) is out and np.array_equal(out, wanted)


def test_threads_change_no_bit():
    x, before, results = random_array((2, 32, 60, 61), np.float32), fastconv.get_num_threads(), []
    try:
        for threads in {1, min(2, fastconv.runtime.max_threads())}:
            fastconv.set_num_threads(threads)
            results.append((fastconv.local_response_norm(x, 5), fastconv.local_response_norm_backward(x, x, 5)))
    finally:
        fastconv.set_num_threads(before)
    assert np.array_equal(results[0][0], results[-1][0]) and np.array_equal(results[0][1], results[-1][1])
