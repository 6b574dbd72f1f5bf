"""Batch normalisation and its gradients against the naive loops and float64 truth."""
import numpy as np
import pytest
from cases import inject, layouts, norm_cases

import fastconv
import naive
from fastconv.testing import assert_gradient, assert_same

CASES = pytest.mark.parametrize("case", norm_cases(), ids=str)
EACH_DTYPE = pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64], ids=["f2", "f4", "f8"])


@EACH_DTYPE
@CASES
def test_forward(case, dtype):
    assert_same(fastconv.batch_norm, naive.batch_norm, case.arrays(dtype), {**case.kwargs, "return_stats": True})


@EACH_DTYPE
@CASES
def test_backward(case, dtype):
    assert_same(fastconv.batch_norm_backward, naive.batch_norm_backward, (case.dout(dtype), *case.arrays(dtype)), case.kwargs)


@EACH_DTYPE
@CASES
def test_backward_with_the_statistics_of_the_forward(case, dtype):
    arrays, dout = case.arrays(dtype), case.dout(dtype)
    _, mean, invstd = fastconv.batch_norm(*case.arrays(dtype), **case.kwargs, return_stats=True)
    got = fastconv.batch_norm_backward(dout, *arrays, **case.kwargs, mean=mean, invstd=invstd)
    wide = [a if a is None else a.astype(np.float64) for a in (dout, *arrays)]
    with np.errstate(all="ignore"):
        truth = naive.batch_norm_backward(*wide, **case.kwargs)
    tolerance = {2: 2e-3, 4: 4e-6, 8: 2e-13}[np.dtype(dtype).itemsize]      # the statistics themselves were rounded
    for g, t in zip(got, truth):
        assert (g is None) == (t is None)
        if g is not None:
            assert_same(g.astype(np.float64), t, tolerance=tolerance)


@CASES
def test_gradient(case):
    wrt = (0, 3 if case.weight else None, 4 if case.bias else None)
    kwargs = {k: v for k, v in case.kwargs.items() if k != "return_stats"}
    if 0 in case.x:
        return
    assert_gradient(fastconv.batch_norm, fastconv.batch_norm_backward, _frozen(case), kwargs, wrt=[0] + [w for w in wrt[1:] if w], samples=20) \
        if all(wrt[1:]) else None


def _frozen(case):
    """Arguments for numerical gradients: no offset, which would drown the differences."""
    x, *rest = case.arrays(np.float64)
    return (x - x.mean() if case.offset else x, *rest)


@EACH_DTYPE
@pytest.mark.parametrize("shape", [(64, 5), (4, 3, 40, 41), (7, 20, 3)], ids=str)
def test_large_mean_small_deviation(shape, dtype):
    """Mean 1e6 and deviation 1: float32 keeps four bits of each deviation, and no statistic may lose more."""
    offset = 1e6 if dtype != np.float16 else 1e2
    x = (np.random.default_rng(0).standard_normal(shape) + offset).astype(dtype)
    dout = np.random.default_rng(1).standard_normal(shape).astype(dtype)
    weight = bias = np.linspace(0.5, 1.5, shape[1]).astype(dtype)
    y, mean, invstd = fastconv.batch_norm(x, None, None, weight, bias, True, return_stats=True)
    wide = x.astype(np.float64)
    truth = naive.batch_norm(wide, None, None, weight.astype(np.float64), bias.astype(np.float64), True)
    truth_back = naive.batch_norm_backward(dout.astype(np.float64), wide, None, None, weight.astype(np.float64), bias.astype(np.float64), True)
    tolerance = {2: 1e-3, 4: 2e-6, 8: 2e-9}[np.dtype(dtype).itemsize]       # float64: 1e6 / 1 digits of 1e-16 are gone in the input
    assert_same(y.astype(np.float64), truth, tolerance=tolerance)
    for kwargs in ({}, {"mean": mean, "invstd": invstd}):
        back = fastconv.batch_norm_backward(dout, x, None, None, weight, bias, True, **kwargs)
        for got, wanted in zip(back, truth_back):
            assert_same(got.astype(np.float64), wanted, tolerance=2 * tolerance)


@EACH_DTYPE
def test_nan_and_inf(dtype):
    for case in norm_cases()[::4]:
        if 0 in case.x:
            continue
        x, *rest = case.arrays(dtype)
        assert_same(fastconv.batch_norm, naive.batch_norm, (inject(x, (np.nan,)), *rest), case.kwargs)
        assert_same(fastconv.batch_norm_backward, naive.batch_norm_backward, (inject(case.dout(dtype), (np.nan,)), x, *rest), case.kwargs)


@pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["f4", "f8"])
@pytest.mark.parametrize("shape", [(6, 5), (3, 4, 5, 6)], ids=str)
def test_any_memory_layout(shape, dtype):
    rng = np.random.default_rng(0)
    x, dout = rng.standard_normal((2, *shape)).astype(dtype)
    weight, bias = rng.standard_normal((2, shape[1])).astype(dtype)
    wanted = fastconv.batch_norm(x, None, None, weight, bias, True)
    wanted_back = fastconv.batch_norm_backward(dout, x, None, None, weight, bias, True)
    for name, odd in layouts(x).items():
        running = [layouts(a)[name] if layouts(a)[name].flags.writeable else a.copy() for a in (bias, weight ** 2)]
        plain = bias.copy(), weight ** 2
        assert np.array_equal(fastconv.batch_norm(odd, *running, weight, bias, True), wanted), name
        fastconv.batch_norm(x, *plain, weight, bias, True)
        assert np.array_equal(running[0], plain[0]) and np.array_equal(running[1], plain[1]), name
        for got, full in zip(fastconv.batch_norm_backward(layouts(dout)[name], odd, None, None, layouts(weight)[name], bias, True), wanted_back):
            assert np.array_equal(got, full), name


def test_running_statistics_move_in_place_and_only_in_training():
    x = np.random.default_rng(0).standard_normal((8, 3, 2, 2)).astype(np.float32)
    mean, var = np.zeros(3, np.float32), np.ones(3, np.float32)
    fastconv.batch_norm(x, mean, var)
    assert not mean.any() and (var == 1).all()
    fastconv.batch_norm(x, mean, var, training=True, momentum=0.25)
    assert np.allclose(mean, 0.25 * x.mean((0, 2, 3)), rtol=1e-5)
    assert np.allclose(var, 0.75 + 0.25 * x.var((0, 2, 3), ddof=1), rtol=1e-5)


def test_running_statistics_through_a_view():
    x = np.random.default_rng(0).standard_normal((8, 3)).astype(np.float32)
    store = np.zeros((3, 4), np.float32)
    fastconv.batch_norm(x, store[::-1, 1], store[:, 2], training=True, momentum=1.0)
    assert np.allclose(store[::-1, 1], x.mean(0), atol=1e-6) and np.allclose(store[:, 2], x.var(0, ddof=1), rtol=1e-5)
    assert not store[:, [0, 3]].any()


def test_what_training_refuses():
    x, mean, var = np.zeros((2, 3)), np.zeros(3), np.ones(3)
    with pytest.raises(ValueError, match="one value a channel"):
        fastconv.batch_norm(x[:1], mean, var, training=True)
    with pytest.raises(ValueError, match="one value a channel"):
        fastconv.batch_norm(np.zeros((1, 3, 1, 1)), None, None)
    mean.flags.writeable = False
    with pytest.raises(ValueError, match="running_mean is read-only"):
        fastconv.batch_norm(x, mean, var, training=True)
    assert fastconv.batch_norm(x[:1], mean, var).shape == (1, 3)
