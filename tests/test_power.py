"""Power-average pooling of 1 to 3 axes and its gradient against the naive loops and float64 truth."""
import numpy as np
import pytest
from cases import broadcasts, inject, layouts, pool_cases, random_array
from numba import config

import fastconv
import naive
from fastconv.kernels.pool_power import powers
from fastconv.kernels.tiles import FMA
from fastconv.testing import assert_gradient, assert_same

EACH_DTYPE = pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64], ids=["f2", "f4", "f8"])
EACH_POWER = pytest.mark.parametrize("p", [1, 2, 3, 1.5], ids=str)
OTHERS = [
    ((2, 3, 9), {"kernel_size": 3}), ((3, 20), {"kernel_size": 4, "stride": 3, "ceil_mode": True}), ((2, 2, 9), {"kernel_size": 3, "padding": 1}),
    ((1, 2, 400), {"kernel_size": 70, "stride": 30}), ((1, 1, 700), {"kernel_size": 2, "dilation": 3}), ((0, 2, 5), {"kernel_size": 2}),
    ((2, 3, 4, 5, 6), {"kernel_size": 2}), ((2, 4, 5, 6), {"kernel_size": (2, 3, 1), "stride": 1, "padding": ((1, 0), (0, 2), (0, 0))}),
    ((1, 2, 5, 5, 6), {"kernel_size": 2, "stride": 2, "ceil_mode": True, "dilation": (1, 2, 1)}), ((1, 1, 2, 2, 600), {"kernel_size": (1, 2, 5)}),
    ((3, 7, 3, 4, 5), {"kernel_size": 2, "stride": (1, 2, 2), "ceil_mode": True}),
]
MANY = [
    ((3, 7, 7, 7), {"kernel_size": 2, "ceil_mode": True}),
    ((2, 18, 5, 6), {"kernel_size": 3, "stride": 2, "padding": ((1, 0), (0, 1)), "dilation": (1, 2)}),
]
CASES = [(case.x, case.max_kwargs) for case in pool_cases()] + MANY + OTHERS
EACH = pytest.mark.parametrize("shape, kwargs", CASES, ids=str)


def functions(shape, kwargs, end=""):
    nd = 2
    if (shape, kwargs) in OTHERS:
        nd = 1 if OTHERS.index((shape, kwargs)) < 6 else 3
    return getattr(fastconv, f"lp_pool{nd}d{end}"), getattr(naive, f"lp_pool{nd}d{end}")


def values(shape, p, dtype):
    """Of any sign where every sum has a root, else positive."""
    x = random_array(shape, dtype)
    return x if p in (1, 2) else np.abs(x) + np.asarray(0.1, dtype)


@EACH_POWER
@EACH_DTYPE
@EACH
def test_same_as_the_loops(shape, kwargs, dtype, p):
    x = values(shape, p, dtype)
    y = functions(shape, kwargs)[1](x, p, **kwargs)
    assert_same(*functions(shape, kwargs), (x, p), kwargs)
    assert_same(*functions(shape, kwargs, "_backward"), (random_array(y.shape, dtype, seed=1), x, p), kwargs, tolerance=4e-6 if dtype == np.float32 else None)


@EACH
def test_sums_of_integers_are_exact(shape, kwargs):
    x = random_array(shape, np.float32, integers=True)
    if not kwargs.get("ceil_mode"):
        assert_same(*functions(shape, kwargs), (x, 1), kwargs, exact=True)
        dout = random_array(functions(shape, kwargs)[1](x, 1, **kwargs).shape, np.float32, integers=True)
        if not kwargs.get("padding"):
            assert_same(*functions(shape, kwargs, "_backward"), (dout, x, 1), kwargs, exact=True)


@pytest.mark.parametrize("p", [1, 2, 1.5], ids=str)
@pytest.mark.parametrize("shape, kwargs", CASES[::4] + MANY + OTHERS, ids=str)
def test_nan_and_inf(shape, kwargs, p):
    x = values(shape, p, np.float32)
    y = functions(shape, kwargs)[1](x, p, **kwargs)
    assert_same(*functions(shape, kwargs), (inject(x, (np.nan, np.inf)), p), kwargs)
    assert_same(*functions(shape, kwargs, "_backward"), (inject(random_array(y.shape, np.float32)), x, p), kwargs, tolerance=4e-6)


def test_negative_sums_have_no_root_and_zeros_no_gradient():
    x = np.array([[-1.0, -2.0, 3.0, 1.0, 0.0, 0.0]])
    assert_same(fastconv.lp_pool1d(x, 3, 2), np.array([[np.nan, 28 ** (1 / 3), 0]]), tolerance=1e-12)
    assert_same(fastconv.lp_pool1d(x, 1, 2), np.array([[-3.0, 4.0, 0.0]]), exact=True)
    assert np.array_equal(fastconv.lp_pool1d_backward(np.ones((1, 3)), x, 2, 2)[0, 4:], [0, 0])


@EACH_POWER
@pytest.mark.parametrize("shape, kwargs", [CASES[5], CASES[12], OTHERS[1], OTHERS[2], OTHERS[7]], ids=str)
def test_gradient(shape, kwargs, p):
    assert_gradient(functions(shape, kwargs)[0], functions(shape, kwargs, "_backward")[0], (np.abs(values(shape, p, np.float64)) + 0.3, p), kwargs,
                    samples=30)


def test_any_memory_layout():
    x, kwargs = random_array((2, 3, 7, 8), np.float32, integers=True), {"kernel_size": 3, "stride": 2, "padding": 1}
    dout = random_array((2, 3, 4, 4), np.float32, integers=True)
    for odd, odd_dout in zip(layouts(x).values(), layouts(dout).values()):
        assert_same(fastconv.lp_pool2d, naive.lp_pool2d, (odd, 2), kwargs)
        assert_same(fastconv.lp_pool2d_backward, naive.lp_pool2d_backward, (odd_dout, odd, 2), kwargs)
    for view in broadcasts(x).values():
        assert_same(fastconv.lp_pool2d, naive.lp_pool2d, (view, 2), kwargs)
    wanted = fastconv.lp_pool2d(x, 2, **kwargs)
    for out in layouts(np.zeros_like(wanted)).values():
        if out.flags.writeable:
            assert fastconv.lp_pool2d(x, 2, **kwargs, out=out) is out and np.array_equal(out, wanted)


@pytest.mark.parametrize("shape, kwargs", [((8, 16, 60, 61), {"kernel_size": 3, "stride": 2}), ((1, 1, 500, 900), {"kernel_size": 5, "stride": 1})], ids=str)
def test_threads_change_no_bit(shape, kwargs):
    x, before, results = random_array(shape, np.float32), fastconv.get_num_threads(), []
    try:
        for threads in {1, min(2, fastconv.runtime.max_threads())}:
            fastconv.set_num_threads(threads)
            y = fastconv.lp_pool2d(x, 2, **kwargs)
            results.append((y, fastconv.lp_pool2d_backward(y, x, 2, **kwargs)))
    finally:
        fastconv.set_num_threads(before)
    for one, two in zip(results[0], results[-1]):
        assert np.array_equal(one, two)


@pytest.mark.parametrize("kernel, stride", [(40, 1), ((3, 64), 7), ((60, 2), 5), (64, 64)], ids=str)
def test_large_windows_keep_their_digits(kernel, stride):
    x = np.random.default_rng(0).random((1, 2, 64, 64), np.float32)
    for p in (1, 2):
        assert_same(fastconv.lp_pool2d, naive.lp_pool2d, (x, p, kernel, stride), tolerance=1e-6)


@pytest.mark.parametrize("p", [3.5, 2.5, 1.7, 0.3, -0.75, -3.0, 7.0, 20.0, 100.0, 1e-3])
def test_powers_of_any_number(p):
    rng = np.random.default_rng(0)
    x = np.concatenate([np.exp(rng.uniform(-740, 709, 500)), np.abs(rng.standard_normal(500)), 1 + rng.uniform(-1e-9, 1e-9, 50)])
    found = np.zeros_like(x)
    with np.errstate(all="ignore"):
        powers(x, p, found)
        true = x ** p
    rtol = 2e-14 if FMA and not config.DISABLE_JIT else 1e-13        # without fused multiply-adds p log x is rounded
    normal = (true == 0) | (true > 2.3e-308)         # a denormal result is rounded twice
    np.testing.assert_allclose(found[normal], true[normal], rtol=rtol)
    np.testing.assert_allclose(found[~normal], true[~normal], rtol=0, atol=max(1e-323, 2.3e-308 * rtol))
    single, found = np.concatenate([np.exp(rng.uniform(-103, 88, 500)), x[500:]]).astype(np.float32), np.zeros(1050, np.float32)
    with np.errstate(all="ignore"):
        powers(single, p, found)
        true = (single.astype(np.float64) ** p).astype(np.float32)
    np.testing.assert_allclose(found, true, rtol=1.3e-7, atol=1.5e-45)           # a rounding, and the last digit of a denormal


@pytest.mark.parametrize("p", [5.0, 4.0, -3.0, -2.0, 2.5, -0.25, 1e10, -1e10, 1e300, -1e300])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_powers_of_special_numbers(p, dtype):
    info = np.finfo(dtype)
    least, most = float(info.smallest_subnormal), float(info.max)
    x = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, 1.0, -1.0, 2.0, -2.0, 0.5, -0.5, least, -least, most, -most], dtype)
    found = np.full_like(x, -0.0)
    with np.errstate(all="ignore"):
        powers(x, p, found)
        true = (x.astype(np.float64) ** p).astype(dtype)
    np.testing.assert_allclose(found, true, rtol=1e-14 if dtype is np.float64 else 1.3e-7)
    signs = ~np.isnan(true)
    np.testing.assert_array_equal(np.signbit(found)[signs], np.signbit(true)[signs])


@pytest.mark.parametrize("p", [4, 5, 2.5, 1.5], ids=str)
@pytest.mark.parametrize("size", [8, 60], ids=["side by side", "rows"])
def test_gradient_where_x_is_infinite(size, p):
    """Infinities of both signs in one window have a sum where their powers do."""
    x = values((1, 2, size, size), p, np.float32)
    x[0, 0, 2, 3], x[0, 0, 3, 2], x[0, 1, 4, 4] = np.inf, -np.inf, -np.inf
    dout = random_array((1, 2, size - 1, size - 1), np.float32)
    with np.errstate(invalid="ignore"):
        assert_same(fastconv.lp_pool2d_backward, naive.lp_pool2d_backward, (dout, x, p, 2, 1), tolerance=4e-6)


@pytest.mark.parametrize("p", [0.5, 1.5, 4], ids=str)
@pytest.mark.parametrize("size", [8, 60], ids=["side by side", "rows"])
def test_gradient_where_x_is_zero(size, p):
    """x^(p - 1) is infinite there for p < 1, x^p is not."""
    x = values((1, 2, size, size), p, np.float32)
    x[0, 0, ::3, 2:4] = 0
    dout = random_array((1, 2, size // 2, size // 2), np.float32)
    with np.errstate(divide="ignore", invalid="ignore"):
        assert_same(fastconv.lp_pool2d_backward, naive.lp_pool2d_backward, (dout, x, p, 2), tolerance=4e-6)


@pytest.mark.parametrize("p", [0.5, 2, 3, 4.5], ids=str)
@pytest.mark.parametrize("shape, kwargs", [
    ((2, 40, 9, 8), {"kernel_size": 2, "stride": 3}), ((1, 2, 61, 80), {"kernel_size": 2, "stride": (5, 4), "padding": 1}),
    ((2, 20, 9, 9), {"kernel_size": 2, "stride": 1, "dilation": 6}), ((1, 2, 40, 41), {"kernel_size": 3, "stride": 9, "dilation": 2}),
    ((2, 18, 7, 7), {"kernel_size": 2}), ((1, 1, 65, 65), {"kernel_size": 2}),
], ids=str)
def test_gradient_of_what_no_window_holds(shape, kwargs, p):
    """0, whatever stands there: not 0 times its slope, which is NaN of what is infinite or no number."""
    ones = np.ones(shape)
    covered = naive.avg_pool2d_backward(naive.avg_pool2d(ones, **kwargs), ones, **kwargs)
    for value in (np.nan, np.inf, -np.inf, -1.5, 0.0):
        x = np.where(covered == 0, value, np.abs(random_array(shape, np.float32)) + np.float32(0.1)).astype(np.float32)
        dout = np.ones(naive.avg_pool2d(x, **kwargs).shape, np.float32)
        dx = fastconv.lp_pool2d_backward(dout, x, p, **kwargs)
        assert (dx[covered == 0] == 0).all() and (covered == 0).any()
        with np.errstate(all="ignore"):
            np.testing.assert_allclose(dx, naive.lp_pool2d_backward(dout, x, p, **kwargs), rtol=1e-4)
