"""Adaptive pooling of 1 to 3 axes and its gradients against the naive loops and float64 truth."""
import numpy as np
import pytest
from cases import broadcasts, inject, layouts, random_array

import fastconv
import naive
from fastconv.pool import adaptive
from fastconv.testing import assert_gradient, assert_same

# (shape of x, output_size); the number of pooled axes is the last
CASES = [
    ((2, 3, 7), 3, 1), ((3, 17), 17, 1), ((2, 3, 5), (1,), 1), ((2, 1, 4), 9, 1), ((1, 2, 700), 3, 1), ((2, 2, 300), 299, 1),
    ((2, 3, 7, 9), 3, 2), ((2, 3, 7, 9), (1, 1), 2), ((2, 3, 7, 9), 1, 2), ((3, 8, 12), (4, None), 2), ((2, 3, 8, 12), (None, 5), 2),
    ((2, 3, 5, 6), (7, 4), 2), ((2, 3, 9, 8), (4, 1), 2), ((2, 3, 9, 8), (1, 3), 2), ((1, 2, 4, 5), None, 2), ((0, 3, 4, 5), 2, 2),
    ((1, 2, 13, 150), (3, 4), 2), ((1, 1, 300, 9), (1, 4), 2), ((1, 1, 3, 700), (2, 300), 2), ((5, 1, 1, 1), 3, 2), ((1, 1, 20, 180), (1, 1), 2),
    ((2, 3, 4, 5, 6), 2, 3), ((2, 3, 4, 5, 6), 1, 3), ((3, 5, 4, 7), (2, None, 3), 3), ((1, 2, 3, 5, 4), (2, 1, 1), 3),
    ((1, 2, 3, 5, 4), (1, 3, 1), 3), ((1, 1, 6, 6, 70), (4, 5, 2), 3), ((1, 2, 2, 3, 2), (3, 4, 5), 3),
    ((3, 7, 7, 6), (3, 5), 2), ((1, 37, 9, 9), 1, 2), ((2, 10, 2, 4, 5), (2, 3, 3), 3), ((5, 8, 11), 4, 1),       # planes side by side
    *[((1, 2, 3, size), (2, size // 3), 2) for size in (15, 16, 17, 33, 64, 65, 127, 129)],
]
EACH = pytest.mark.parametrize("shape, size, nd", CASES, ids=str)
EACH_DTYPE = pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64], ids=["f2", "f4", "f8"])
KINDS = ("avg", "max")


def pair(kind, nd, end=""):
    name = f"adaptive_{kind}_pool{nd}d{end}"
    return getattr(fastconv, name), getattr(naive, name)


def result_shape(shape, size, nd):
    return naive.__dict__[f"adaptive_avg_pool{nd}d"](np.zeros(shape), size).shape


@EACH_DTYPE
@EACH
def test_same_as_the_loops(shape, size, nd, dtype):
    x, dout = random_array(shape, dtype, seed="x"), random_array(result_shape(shape, size, nd), dtype, seed="dout")
    for kind in KINDS:
        assert_same(*pair(kind, nd), (x, size))
        assert_same(*pair(kind, nd, "_backward"), (dout, x, size))


@EACH_DTYPE
@EACH
def test_maximum_is_exact_with_its_indices(shape, size, nd, dtype):
    x = random_array(shape, dtype, integers=True)                    # many ties
    dout = random_array(result_shape(shape, size, nd), dtype, integers=True, seed=1)
    assert_same(*pair("max", nd), (x, size), {"return_indices": True}, exact=True)
    _, indices = pair("max", nd)[1](x, size, return_indices=True)
    assert_same(*pair("max", nd, "_backward"), (dout, x, size), exact=True)
    assert_same(*pair("max", nd, "_backward"), (dout, x, size), {"indices": indices}, exact=True)


@pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["f4", "f8"])
@EACH
def test_nan_and_inf(shape, size, nd, dtype):
    x, dout = random_array(shape, dtype), random_array(result_shape(shape, size, nd), dtype, seed=1)
    for values in ((np.nan, np.inf, -np.inf), (-np.inf,)):
        odd = inject(x, values)
        assert_same(*pair("avg", nd), (odd, size))
        assert_same(*pair("avg", nd, "_backward"), (inject(dout, values), x, size))
        assert_same(*pair("max", nd), (odd, size), {"return_indices": True}, exact=True)
        assert_same(*pair("max", nd, "_backward"), (dout, odd, size))


def test_windows_of_nan_or_minus_infinity_only():
    for value in (np.nan, -np.inf):
        for wide in (6, 400):
            x = np.full((1, 1, 4, wide), value)
            y, indices = fastconv.adaptive_max_pool2d(x, 2, return_indices=True)
            assert_same(y, np.full((1, 1, 2, 2), value), exact=True)
            assert indices.reshape(-1).tolist() == [0, wide // 2, 2 * wide, 2 * wide + wide // 2]


@pytest.mark.parametrize("many", [126, 127, 128, 129, 255, 257])
def test_the_last_row_and_column_of_a_large_window(many, monkeypatch):
    """Rows and columns are counted in 8 bits, where these are enough."""
    monkeypatch.setattr(adaptive, "_listed", lambda *arguments: None)
    for high, wide in ((64, many), (many, 8), (many, many)):
        x, dout = np.zeros((1, 1, 2 * high, 2 * wide), np.float32), np.ones((1, 1, 2, 2), np.float32)
        x[..., high - 1::high, wide - 1::wide] = 1
        places = np.flatnonzero(x)
        assert np.array_equal(fastconv.adaptive_max_pool2d(x, 2, return_indices=True)[1].reshape(-1), places)
        assert_same(fastconv.adaptive_max_pool2d_backward(dout, x, 2), x, exact=True)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape, size", [((1, 2, 6), 4), ((1, 2, 5, 4), 3), ((2, 1, 3, 4, 5), 2)], ids=str)
def test_gradient(kind, shape, size):
    fast, _ = pair(kind, len(shape) - 2)
    back, _ = pair(kind, len(shape) - 2, "_backward")
    assert_gradient(fast, back, (random_array(shape), size))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape, size", [((2, 3, 37), 5), ((2, 3, 5, 6), 2), ((2, 3, 4, 3, 5), (2, 1, 3))], ids=str)
def test_any_memory_layout(kind, shape, size):
    nd = len(shape) - 2
    x, dout = random_array(shape, np.float32, integers=True), random_array(result_shape(shape, size, nd), np.float32, integers=True)
    for odd, odd_dout in zip(layouts(x).values(), layouts(dout).values()):
        assert_same(*pair(kind, nd), (odd, size))
        assert_same(*pair(kind, nd, "_backward"), (odd_dout, odd, size))
    for view in broadcasts(x).values():
        assert_same(*pair(kind, nd), (view, size))
    wanted = pair(kind, nd)[0](x, size)
    for out in layouts(np.zeros(wanted.shape, np.float32)).values():
        if out.flags.writeable:
            assert pair(kind, nd)[0](x, size, out=out) is out and np.array_equal(out, wanted)


def test_out_takes_the_indices_too():
    x = random_array((2, 3, 8, 9), np.float32)
    wanted = fastconv.adaptive_max_pool2d(x, 4, return_indices=True)
    out = np.zeros_like(wanted[0]), np.zeros_like(wanted[1])
    got = fastconv.adaptive_max_pool2d(x, 4, return_indices=True, out=out)
    assert got[0] is out[0] and got[1] is out[1] and np.array_equal(out[0], wanted[0]) and np.array_equal(out[1], wanted[1])


@pytest.mark.parametrize("shape, size", [((1, 1, 900, 901), 3), ((64, 32, 30, 31), 7), ((64, 256, 7, 7), 1), ((1, 1, 800000), 5)], ids=str)
def test_threads_change_no_bit(shape, size):
    nd, before = len(shape) - 2, fastconv.get_num_threads()
    x = random_array(shape, np.float32)
    results = []
    try:
        for threads in {1, min(2, fastconv.runtime.max_threads())}:
            fastconv.set_num_threads(threads)
            y, indices = pair("max", nd)[0](x, size, return_indices=True)
            results.append([y, indices, pair("avg", nd)[0](x, size), pair("max", nd, "_backward")[0](y, x, size),
                            pair("max", nd, "_backward")[0](y, x, size, indices=indices), pair("avg", nd, "_backward")[0](y, x, size)])
    finally:
        fastconv.set_num_threads(before)
    for one, two in zip(results[0], results[-1]):
        assert np.array_equal(one, two)
    assert np.array_equal(results[0][3], results[0][4])


def test_large_windows_keep_their_digits():
    for shape, size in (((1, 1, 1000, 700), 1), ((1, 1, 3000, 40), (1, 20)), ((2, 50000), 3)):
        x = np.random.default_rng(0).random(shape, np.float32)
        nd = len(shape) - 1 if len(shape) == 2 else len(shape) - 2
        assert_same(*pair("avg", nd), (x, size), tolerance=1e-6)


def test_global_pooling_is_the_mean_and_the_maximum():
    x = random_array((3, 4, 6, 7), np.float64)
    assert_same(fastconv.adaptive_avg_pool2d(x, 1), x.mean((2, 3), keepdims=True))
    assert np.array_equal(fastconv.adaptive_max_pool2d(x, 1), x.max((2, 3), keepdims=True))
