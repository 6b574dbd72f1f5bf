"""Pooling of planes as one long line: the intrinsic against its plain-loop twin, and poolings against the naive loops."""
import math

import numpy as np
import pytest
from isolated import run
from numba import njit

import fastconv
import naive
from fastconv.kernels import pool_flat, simd, simd_flat
from fastconv.kernels.simd_pool import MAX, MEAN
from fastconv.pool import average, flat, maximum, window

FLAT = pytest.mark.skipif(not simd_flat.VECTORS, reason="no vectors whose lanes cost nothing to leave out")
EACH_DTYPE = pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["f4", "f8"])
NOTHING = np.empty(0, np.int64)


@njit
def flat_windows(mean, taps, src, at, n, V, W, q, dst, to, room, wanted, divisors, each):
    if wanted.size == 0 and taps == 3:
        if mean:
            return simd_flat.flat_windows(MEAN, 3, 0, src, at, n, V, W, q, dst, to, room, wanted, divisors, each)
        return simd_flat.flat_windows(MAX, 3, 0, src, at, n, V, W, q, dst, to, room, wanted, divisors, each)
    if wanted.size == 0:
        if mean:
            return simd_flat.flat_windows(MEAN, 5, 0, src, at, n, V, W, q, dst, to, room, wanted, divisors, each)
        return simd_flat.flat_windows(MAX, 5, 0, src, at, n, V, W, q, dst, to, room, wanted, divisors, each)
    if taps == 2:
        if mean:
            return simd_flat.flat_windows(MEAN, 2, 1, src, at, n, V, W, q, dst, to, room, wanted, divisors, each)
        return simd_flat.flat_windows(MAX, 2, 1, src, at, n, V, W, q, dst, to, room, wanted, divisors, each)
    if mean:
        return simd_flat.flat_windows(MEAN, 3, 1, src, at, n, V, W, q, dst, to, room, wanted, divisors, each)
    return simd_flat.flat_windows(MAX, 3, 1, src, at, n, V, W, q, dst, to, room, wanted, divisors, each)


@FLAT
@EACH_DTYPE
@pytest.mark.parametrize("mean", [False, True], ids=["max", "mean"])
@pytest.mark.parametrize("taps, some", [(3, False), (5, False), (2, True), (3, True)])
@pytest.mark.parametrize("H, W", [(5, 1), (7, 7), (6, 19), (40, 11)])
def test_the_intrinsic_is_its_twin(taps, some, mean, H, W, dtype):
    """Whole planes, and rows of one; nothing is written beside the result."""
    lanes, V, rng = simd.lanes(dtype), H * W, np.random.default_rng(H)
    alike = lanes // math.gcd(V, lanes)
    x = rng.integers(-50, 50, 2 * alike * V).astype(dtype)
    wanted = rng.integers(0, 2 ** lanes, alike * V // lanes) if some else NOTHING
    divisors = 2.0 ** rng.integers(0, 5, alike * V + lanes)
    divisors[V:V + lanes] = np.resize(divisors[:V], lanes) if not some else divisors[V:V + lanes]
    for at, n in ((0, 2 * alike * V), (0, V)) + (() if some else ((V + 2 * W, 2 * W), (V + W, V - W))):
        bits = np.resize(wanted[:, None] >> np.arange(lanes) & 1, n) if some else np.ones(n, int)
        for each in (0, 1):
            found, twin = (np.full(n + 2 * lanes, -99, dtype) for _ in range(2))
            given = x, at, n, V, W, at % V
            rest = lanes, int(bits.sum()), wanted, (divisors if each else np.full(lanes, 8)).astype(dtype), each
            nan = flat_windows(mean, taps, *given, found, *rest)
            assert not nan and not simd_flat._flat_windows(MEAN if mean else MAX, taps, int(some), *given, twin, *rest)
            assert np.array_equal(found, twin)
            assert (found[:lanes] == -99).all() and (found[lanes + bits.sum():] == -99).all()


@FLAT
@EACH_DTYPE
@pytest.mark.parametrize("taps, some", [(3, False), (5, False), (2, True), (3, True)])
def test_every_nan_is_seen(taps, some, dtype):
    """In whole planes, wherever it is; in rows of one also where it lies above or below them, in a window."""
    H, W, lanes = 11, 5, simd.lanes(dtype)
    V, wanted = H * W, np.full(H * W, -1) if some else NOTHING
    for k in range(lanes * V if some else 2 * V):
        x = np.zeros(lanes * V if some else 2 * V, dtype)
        x[k] = np.nan
        y = np.empty(x.size + lanes, dtype)
        assert flat_windows(False, taps, x, 0, x.size, V, W, 0, y, 0, x.size, wanted, x, 0)
        if not some:
            row, plane = k % V // W, k // V
            seen = flat_windows(False, taps, x, V + 3 * W, 5 * W, V, W, 3 * W, y, 0, 5 * W, wanted, x, 0)
            assert seen == (plane == 1 and 3 - taps // 2 <= row < 8 + taps // 2)
            assert seen == simd_flat._flat_windows(MAX, taps, 0, x, V + 3 * W, 5 * W, V, W, 3 * W, y, 0, 5 * W, wanted, x, 0)


def drawn(rng, shape, dtype, share):
    """Small integers, and of each of NaN, inf and -inf about this share."""
    x = rng.integers(-9, 10, shape).astype(dtype)
    for value in (np.nan, np.inf, -np.inf):
        x[rng.random(shape) < share] = value
    return x


WINDOWS = [(3, 1, 1), (5, 1, 2), (2, 2, 0), (3, 2, 1), (3, 2, 0), (2, 1, 0), (3, 1, 0), (2, (3, 1), 0), (3, 2, ((1, 0), (0, 1)))]


@EACH_DTYPE
@pytest.mark.parametrize("where", WINDOWS, ids=str)
@pytest.mark.parametrize("shape", [(1, 1, 9, 8), (3, 5, 7, 7), (2, 9, 28, 13), (1, 2, 90, 70)], ids=str)
def test_poolings(shape, where, dtype):
    """Planes in groups and in bands, with and without what is no number."""
    rng, threads = np.random.default_rng(1), fastconv.get_num_threads()
    for share in (0, 0.001, 0.2):
        x = drawn(rng, shape, dtype, share)
        y = fastconv.max_pool2d(x, *where)
        assert np.array_equal(y, naive.max_pool2d(x, *where), equal_nan=True)
        with np.errstate(invalid="ignore"):
            for padded in (True, False):
                mean, truth = fastconv.avg_pool2d(x, *where, False, padded), naive.avg_pool2d(x, *where, False, padded)
                np.testing.assert_allclose(mean, truth, rtol=1e-6 if dtype is np.float32 else 1e-14)
        try:
            fastconv.set_num_threads(1)
            assert np.array_equal(y, fastconv.max_pool2d(x, *where), equal_nan=True)
        finally:
            fastconv.set_num_threads(threads)
    if simd_flat.VECTORS and shape[-1] < flat.NARROW:
        w = window.window_of(2, x, *where, *(None,) * (3 - len(where)), 1, False, True)
        assert maximum._plan(w, False)[0] is pool_flat.maximum_flat
        assert average._plan(w, w.counts(True, None))[0][0] is pool_flat.average_flat


@FLAT
def test_wide_planes_of_much_memory():
    """Where every second element has a window, planes of some more columns too, if they lie far off."""
    x = np.random.default_rng(0).integers(-9, 10, (8, 12, 56, 56)).astype(np.float32)
    x[1, 2, 50, 40] = np.nan
    for where in ((2, 2), (3, 2, 1)):
        w = window.window_of(2, x, *where, *(0,) * (3 - len(where)), 1, False, True)
        assert maximum._plan(w, False)[0] is pool_flat.maximum_flat
        assert np.array_equal(fastconv.max_pool2d(x, *where), naive.max_pool2d(x, *where), equal_nan=True)
        np.testing.assert_allclose(fastconv.avg_pool2d(x, *where), naive.avg_pool2d(x, *where), rtol=1e-6)


@njit
def flat_first(taps, keep, src, at, step, size, q, n, best, best_at, won, won_at):
    if taps == 3:
        if keep:
            return simd_flat.flat_first(3, 1, src, at, step, size, q, n, best, best_at, won, won_at, best, 0)
        return simd_flat.flat_first(3, 0, src, at, step, size, q, n, best, best_at, won, won_at, best, 0)
    if keep:
        return simd_flat.flat_first(5, 1, src, at, step, size, q, n, best, best_at, won, won_at, best, 0)
    return simd_flat.flat_first(5, 0, src, at, step, size, q, n, best, best_at, won, won_at, best, 0)


@FLAT
@EACH_DTYPE
@pytest.mark.parametrize("taps", [3, 5])
@pytest.mark.parametrize("step, size", [(1, 1), (1, 3), (1, 21), (7, 49), (40, 200)])
def test_the_first_maximum_is_its_twin(step, size, taps, dtype):
    lanes, rng = simd.lanes(dtype), np.random.default_rng(size)
    x = rng.integers(-3, 4, 3 * size + 4 * lanes).astype(dtype)
    for q, n in ((0, 3 * size), (size // 2 // step * step, size - size // 2 // step * step), (0, size)):
        for keep in (0, 1):
            found, twin = ((np.full(n + 3 * lanes, -99, dtype), np.full(n + 3 * lanes, 99, np.int8)) for _ in range(2))
            assert not flat_first(taps, keep, x, q, step, size, q, n, found[0], lanes, found[1], lanes)
            assert not simd_flat._flat_first(taps, keep, x, q, step, size, q, n, twin[0], lanes, twin[1], lanes, x, 0)
            for one, other in zip(found, twin):
                assert np.array_equal(one[:lanes + n], other[:lanes + n]) and np.array_equal(one[-lanes:], other[-lanes:])
    for value in (np.nan, -np.inf):
        for k in range(n):
            x[k], old = value, x[k]
            assert flat_first(taps, 1, x, 0, step, size, 0, n, found[0], 0, found[1], 0)
            x[k] = old


@EACH_DTYPE
@pytest.mark.parametrize("where", [(3, 1, 1), (5, 1, 2)], ids=str)
@pytest.mark.parametrize("shape", [(1, 1, 1, 9), (2, 1, 3, 2), (3, 5, 7, 7), (2, 19, 28, 13), (1, 3, 90, 70), (1, 1, 300, 41)], ids=str)
def test_gradients(shape, where, dtype, monkeypatch):
    """Planes in groups and in bands: ties, what is no number, and the same bits on one thread; nothing is written beside the planes."""
    monkeypatch.setattr(window, "WINDOWS", type(window.WINDOWS)())
    monkeypatch.setattr(maximum, "WIDE", 1 << 40)            # long rows too
    rng, threads = np.random.default_rng(2), fastconv.get_num_threads()
    for share in (0, 0.001, 0.2):
        x = drawn(rng, shape, dtype, share)
        dout = rng.integers(-9, 10, shape).astype(dtype)
        dout[rng.random(shape) < share] = np.inf
        with np.errstate(invalid="ignore"):
            dx = fastconv.max_pool2d_backward(dout, x, *where)
            assert np.array_equal(dx, naive.max_pool2d_backward(dout, x, *where), equal_nan=True)
        try:
            fastconv.set_num_threads(1)
            assert np.array_equal(dx, fastconv.max_pool2d_backward(dout, x, *where), equal_nan=True)
        finally:
            fastconv.set_num_threads(threads)
    if not simd_flat.VECTORS:
        return
    kernel, tasks, job = maximum._backward_plan(window.window_of(2, x, *where, 1, False, True), False)
    assert kernel is pool_flat.max_backward_flat
    beside, lowest = np.full(x.size + 64, 7, dtype), maximum.lowest_of(x.dtype)
    kernel(0, tasks, dout.reshape(-1), x.reshape(-1), beside[32:-32], lowest, lowest[:0], job, NOTHING)
    assert np.array_equal(beside[32:-32], dx.reshape(-1), equal_nan=True) and (beside[:32] == 7).all() and (beside[-32:] == 7).all()


PROGRAM = """
import numpy as np, fastconv, naive
rng = np.random.default_rng(0)
for shape in ((1, 2, 5, 6), (2, 1, 9, 17)):
    for where in ((3, 1, 1), (5, 1, 2), (2, 2), (3, 2, 1)):
        x = rng.integers(-3, 4, shape).astype(np.float32)
        assert np.array_equal(fastconv.max_pool2d(x, *where), naive.max_pool2d(x, *where))
        np.testing.assert_allclose(fastconv.avg_pool2d(x, *where), naive.avg_pool2d(x, *where), rtol=1e-6)
        dout = naive.max_pool2d(x, *where)
        assert np.array_equal(fastconv.max_pool2d_backward(dout, x, *where), naive.max_pool2d_backward(dout, x, *where))
        x[rng.random(shape) < 0.1] = np.nan
        assert np.array_equal(fastconv.max_pool2d(x, *where), naive.max_pool2d(x, *where), equal_nan=True)
print("right")
"""


def test_plain_loops():
    assert run(PROGRAM, NUMBA_DISABLE_JIT="1") == "right"
