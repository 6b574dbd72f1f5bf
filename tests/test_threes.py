"""Gradients of pooling in parts: 3 x 3 max pooling in registers and average pooling by rows, against twins and loops, stored past the caches or not."""
import numpy as np
import pytest
from isolated import run
from numba import njit

import fastconv
import naive
from fastconv.instruction_set import available
from fastconv.kernels import pool_max_gradient, simd, simd_shares, simd_threes
from fastconv.pool import average, maximum, window
from fastconv.testing import assert_same, promised

EACH_DTYPE = pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["f4", "f8"])
PADS = 0, 1, 2, ((1, 0), (0, 1)), ((2, 1), (0, 2))


@njit
def spread(kind, x, at, h, H, n, low, douts, dout_at, oh, OH, windows, none, count, pad, carry, out, to):
    if kind == 0:
        simd_threes.spread(0, x, at, h, H, n, low, douts, dout_at, oh, OH, windows, none, count, pad, carry, out, to)
    elif kind == 1:
        simd_threes.spread(1, x, at, h, H, n, low, douts, dout_at, oh, OH, windows, none, count, pad, carry, out, to)
    else:
        simd_threes.spread_each(x, at, h, H, n, low, douts, dout_at, oh, OH, windows, none, count, pad, carry, out, to)


@njit
def share_row(stride, taps, douts, at, windows, factors, line, to, pad, n, ahead):
    if stride == 1:
        simd_shares.share_row(1, taps, douts, at, windows, factors, line, to, pad, n, ahead)
    else:
        simd_shares.share_row(2, taps, douts, at, windows, factors, line, to, pad, n, ahead)


@njit
def add_rows(lines, at, step, count, dst, to, n):
    simd_shares.add_rows(lines, at, step, count, dst, to, n)


@EACH_DTYPE
@pytest.mark.parametrize("stride, pad", [(2, 0), (2, 1), (2, 2), (1, 0), (1, 1), (1, 2)])
def test_spread(stride, pad, dtype):
    """Two parts of a plane that begins above the image and ends below it: what the first gives to the second is carried."""
    lanes, rng = simd.lanes(dtype), np.random.default_rng(0)
    if stride == 1 and lanes < pool_max_gradient.LANES:
        pytest.skip("the plan takes no such vectors")
    for n in (3, lanes - 2, lanes, 2 * lanes, 2 * lanes + 1, 4 * lanes - 1, 6 * lanes + 3):
        H, OH, windows = 9, (9 + 2 * pad - 3) // stride + 1, (n + 2 * pad - 3) // stride + 1
        x, douts = rng.integers(-2, 3, 5 + H * n).astype(dtype), rng.integers(-9, 10, 4 + OH * windows).astype(dtype)
        low, none, room = np.full(n, -np.inf, dtype), np.zeros(windows, dtype), 2 * (n // (lanes - 2) + 2) * lanes if stride == 1 else n // 2 + 2 + 2 * lanes
        results = []
        for twin in (False, True):
            carry, outs = np.zeros(room, dtype), []
            for oh, count in ((-1, 3), (2, OH)):
                out = np.full(2 + (stride * count) * n + 3, 7, dtype)
                arguments = (x, 5, oh * stride - pad, H, n, low, douts, 4, oh, OH, windows, none, count, pad, carry, out, 2)
                if twin:
                    (simd_threes._spread_each if stride == 1 else simd_threes._spread)(*(() if stride == 1 else (pad % 2,)), *arguments)
                else:
                    spread(pad % 2 if stride == 2 else 2, *arguments)
                outs.append(out[2:])
            results.append(np.concatenate(outs))
        assert np.array_equal(*results), n
        assert (results[0].reshape(-1)[-3:] == 7).all()


@EACH_DTYPE
@pytest.mark.parametrize("stride", [1, 2])
def test_share_row_and_add_rows(stride, dtype):
    lanes, rng = simd.lanes(dtype), np.random.default_rng(0)
    for n in (1, lanes - 1, lanes, 2 * lanes + 1, 4 * lanes, 5 * lanes + 3):
        for taps in range(1, simd_shares.MOST_TAPS[stride - 1] + 1):
            for pad in range(taps):
                windows = max(1, (n + pad - 1) // stride + 1 - rng.integers(2))
                douts = rng.integers(-9, 10, windows + 2).astype(dtype)
                douts[0] = douts[-1] = np.nan        # outside
                factors = np.zeros(windows + 3 * lanes, dtype)
                factors[lanes:lanes + windows] = 1 << rng.integers(0, 4, windows)
                found, twin = (np.zeros(1 + n + 2 * lanes, dtype) for _ in range(2))
                share_row(stride, taps, douts, 1, windows, factors, found, 1, pad, n, 0)
                simd_shares._share_row(stride, taps, douts, 1, windows, factors, twin, 1, pad, n, 0)
                assert np.array_equal(found[:1 + n], twin[:1 + n]), (n, taps, pad)
        lines = rng.integers(-9, 10, 4 * n).astype(dtype)
        for count in range(4):
            found, twin = (np.full(n + 3, 7, dtype) for _ in range(2))
            add_rows(lines, 1, n, count, found, 1, n)
            simd_shares._add_rows(lines, 1, n, count, twin, 1, n)
            assert np.array_equal(found, twin), (n, count)


@EACH_DTYPE
@pytest.mark.parametrize("past", [False, True], ids=["kept", "past"])
@pytest.mark.parametrize("padding", PADS, ids=str)
def test_gradients_in_parts(padding, past, dtype, monkeypatch):
    """Bands and parts of few rows, rows of every length; NaN and -inf are done tap by tap, from the part on that holds one."""
    monkeypatch.setattr(window, "WINDOWS", type(window.WINDOWS)())
    monkeypatch.setattr(maximum, "listed", lambda *arguments: None)
    monkeypatch.setattr(average, "side_by_side", lambda *arguments, **options: None)
    monkeypatch.setattr(window, "PAST", 0 if past else 1 << 40)
    monkeypatch.setattr(window, "BAND_BYTES", 8192)
    monkeypatch.setattr(maximum, "WIDE", 1)
    monkeypatch.setattr(maximum, "AT_BYTES", 0)
    rng = np.random.default_rng(0)
    for shape in ((1, 1, 3, 16), (1, 2, 7, 17), (1, 2, 9, 31), (2, 1, 21, 70), (1, 1, 90, 90), (1, 1, 6, 400)):
        for kernel, stride, ceil_mode in ((3, 2, False), (3, 2, True), (3, 1, False), *[(2, 2, False)] * (padding == 0)):
            x = rng.integers(-2, 3, shape).astype(dtype)
            if shape[2] > 7:
                x[0, 0, shape[2] // 2, 5:7] = np.nan, -np.inf
            arguments = kernel, stride, padding, 1, ceil_mode
            dout = rng.integers(-9, 10, naive.max_pool2d(x, *arguments).shape).astype(dtype)
            wanted, places = naive.max_pool2d_backward(dout, x, *arguments), naive.max_pool2d(x, *arguments, return_indices=True)[1]
            for indices in (None, places):
                found = fastconv.max_pool2d_backward(dout, x, *arguments, indices=indices)
                assert np.array_equal(found, wanted), (shape, arguments, indices is None)
        for kernel, stride in ((3, 2), (3, 1), (2, 1), ((4, 3), 2), ((3, 2), 2), ((6, 4), 2), ((3, 2), (1, 2)), ((2, 3), (3, 1))):
            if shape[2] < 6 or np.max(padding) >= np.min(kernel):
                continue
            for include in (True, False):
                dout = rng.integers(-9, 10, naive.avg_pool2d(x, kernel, stride, padding, False, include).shape).astype(dtype)
                arguments = dout, np.zeros_like(x), kernel, stride, padding, False, include
                assert_same(fastconv.avg_pool2d_backward(*arguments), naive.avg_pool2d_backward(*arguments), tolerance=promised(np.dtype(dtype).name))


PROGRAM = """
import numpy as np, fastconv, naive
from fastconv.pool import average, maximum, window
maximum.listed = average.side_by_side = lambda *arguments, **options: None
maximum.WIDE = 1
rng, done = np.random.default_rng(0), set()
for module in (average, maximum):
    def seen(kernel, *arguments, run=module.run_tasks):
        done.add(kernel.__name__)
        run(kernel, *arguments)
    module.run_tasks = seen
for past in (0, 1 << 40):
    window.PAST = past
    window.WINDOWS = type(window.WINDOWS)()
    for stride in (1, 2):
        for padding in (0, 1):
            x = rng.integers(-2, 3, (1, 2, 19, 37)).astype(np.float32)
            dout = rng.integers(-9, 10, naive.max_pool2d(x, 3, stride, padding).shape).astype(np.float32)
            assert np.array_equal(fastconv.max_pool2d_backward(dout, x, 3, stride, padding), naive.max_pool2d_backward(dout, x, 3, stride, padding))
            found = fastconv.avg_pool2d_backward(dout, x, 3, stride, padding)
            assert np.allclose(found, naive.avg_pool2d_backward(dout, x, 3, stride, padding), atol=1e-5)
assert {"max_backward_threes", "average_backward_rows"} <= done, done
print("right")
"""


@pytest.mark.parametrize("setting", [*(f"FASTCONV_ISA={isa}" for isa in available()[1:]), "NUMBA_DISABLE_JIT=1"])
def test_smaller_vectors_and_plain_loops(setting):
    name, value = setting.split("=")
    assert run(PROGRAM, **{name: value}) == "right"
