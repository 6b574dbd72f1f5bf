"""Small planes side by side: each intrinsic against its plain-loop twin and NumPy, and pooling with the smallest vectors."""
from functools import partial

import numpy as np
import pytest
from isolated import run
from numba import njit

import fastconv
from fastconv.instruction_set import available
from fastconv.kernels import simd, simd_planes
from fastconv.kernels.simd_planes import EXACT, MAX
from fastconv.testing import assert_same

EACH_DTYPE = pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["f4", "f8"])


@njit
def planes_in(src, at, size, target, places, ahead):
    simd_planes.planes_in(src, at, size, target, places, ahead)


@njit
def planes_out(source, size, dst, to, ahead):
    simd_planes.planes_out(source, size, dst, to, ahead)


@njit
def winners(exact, src, elements, at, n, best, where, to, lowest):
    if exact:
        simd_planes.winners(EXACT, src, elements, at, n, best, where, to, lowest)
    else:
        simd_planes.winners(MAX, src, elements, at, n, best, where, to, lowest)


@njit
def mean(src, elements, at, n, dst, to):
    simd_planes.mean(src, elements, at, n, dst, to)


@njit
def share(src, at, elements, begin, n, dst):
    simd_planes.share(src, at, elements, begin, n, dst)


@EACH_DTYPE
def test_planes_there_and_back(dtype):
    lanes = simd.lanes(dtype)
    for size in range(lanes, 3 * lanes + 2):
        planes = np.arange(1, lanes * size + 1).astype(dtype).reshape(lanes, size)
        places = np.random.default_rng(0).permutation(size + 3)[:size] * lanes
        for function in (planes_in, simd_planes._planes_in):
            beside = np.zeros((size + 3) * lanes, dtype)
            function(np.append([-1], planes).astype(dtype), 1, size, beside, places, 10**6)
            assert np.array_equal(beside.reshape(-1, lanes)[places // lanes], planes.T) and (beside > 0).sum() == planes.size
    for size in range(1, 3 * lanes):
        vectors = np.arange(1, (size + lanes) * lanes + 1).astype(dtype)
        for function in (planes_out, simd_planes._planes_out):
            target = np.zeros(lanes * size + 3, dtype)
            function(vectors, size, target, 2, 10**6)
            assert np.array_equal(target[2:-1], vectors[:size * lanes].reshape(size, lanes).T.ravel()) and not target[[0, 1, -1]].any()


@EACH_DTYPE
@pytest.mark.parametrize("exact", [True, False])
@pytest.mark.parametrize("n", [0, 1, 2, 7])
def test_winners(n, exact, dtype):
    """NaN wins, the first of them; of equal ones the first; nothing beside them is touched."""
    lanes, rng = simd.lanes(dtype), np.random.default_rng(n)
    x = rng.integers(-2, 3, (9, lanes)).astype(dtype)
    if exact:
        x[rng.random(x.shape) < 0.2] = np.nan
    x[:, 0], x[:, -1] = -np.inf, 1
    elements = np.append(-7, rng.permutation(9)[:n])
    wanted = np.full(lanes, -1)
    if n:
        window = x[elements[1:]]
        wanted = elements[1:][np.where(np.isnan(window).any(0), np.isnan(window).argmax(0), np.nan_to_num(window, nan=-9).argmax(0))]
    kind = EXACT if exact else MAX
    for find in (partial(winners, exact), partial(simd_planes._winners, kind)):
        best, where = np.zeros(lanes + 2, dtype), np.zeros(lanes + 2, np.int32)
        find(x.reshape(-1), elements, 1, n, best, where, 1, dtype(-np.inf))
        assert not best[[0, -1]].any() and not where[[0, -1]].any() and np.array_equal(where[1:-1], wanted)
        assert np.array_equal(best[1:-1], x[wanted, np.arange(lanes)] if n else np.full(lanes, -np.inf), equal_nan=True)


@EACH_DTYPE
@pytest.mark.parametrize("n", [1, 2, 7])
def test_means_and_shares_of_lists(n, dtype):
    lanes, rng = simd.lanes(dtype), np.random.default_rng(n)
    x, elements = rng.integers(-9, 10, (9, lanes)).astype(dtype), np.append(-7, rng.permutation(9)[:n])
    given = 840 * rng.integers(-9, 10, lanes).astype(dtype)
    for average, spread in ((mean, share), (simd_planes._mean, simd_planes._share)):
        y, dx = np.zeros(lanes + 2, dtype), np.ones((9, lanes), dtype)
        average(x.reshape(-1), elements, 1, n, y, 1)
        spread(np.append(0, given).astype(dtype), 1, elements, 1, n, dx.reshape(-1))
        assert not y[[0, -1]].any() and np.array_equal(y[1:-1], x[elements[1:]].sum(0) / dtype(n))
        wanted = np.ones((9, lanes), dtype)
        wanted[elements[1:]] += given / dtype(n)
        assert np.array_equal(dx, wanted)


@EACH_DTYPE
@pytest.mark.parametrize("shape", [(7, 10, 7, 7), (1, 3, 2, 2), (3, 3, 65, 90)], ids=str)
def test_means_of_whole_planes(shape, dtype):
    """More planes than are done together, and fewer; sums of a few elements, of several vectors, and of several chains."""
    x = np.random.default_rng(0).standard_normal(shape).astype(dtype) + dtype(3)
    x[0, 1, 1, 1] = np.nan
    truth = x.astype(np.float64).mean((2, 3), keepdims=True)
    for y in (fastconv.avg_pool2d(x, shape[2:]), fastconv.adaptive_avg_pool2d(x, 1)):
        assert_same(y.astype(np.float64), truth, tolerance={4: 2e-7, 8: 1e-14}[x.itemsize])
    assert_same(fastconv.avg_pool2d(x, shape[2:], divisor_override=-3).astype(np.float64), truth * (shape[2] * shape[3] / -3),
                tolerance={4: 2e-7, 8: 1e-14}[x.itemsize])


PROGRAM = """
import numpy as np, fastconv, naive
from fastconv.testing import assert_same
rng = np.random.default_rng(0)
for dtype, C in ((np.float32, 37), (np.float64, 19)):
    x = rng.integers(-3, 4, (1, C, 5, 6)).astype(dtype)
    x[rng.random(x.shape) < 0.1] = np.nan
    for kernel, stride, padding, dilation in ((3, 2, 1, 1), ((2, 3), 1, 1, 2), (5, 3, 2, 1)):
        where = (kernel, stride, padding, dilation)
        y = naive.max_pool2d(x, *where)
        assert_same(fastconv.max_pool2d, naive.max_pool2d, (x, *where, False, True), exact=True)
        assert_same(fastconv.max_pool2d_backward, naive.max_pool2d_backward, (np.ones_like(y), x, *where), exact=True)
    for width, where in ((5, (2, 2)), (21, (2, 2)), (70, (3, 3)), (70, (4, 2, 1)), (70, (3, 1, 1))):
        x = np.zeros((2, 1, 9, width), dtype)
        dout = rng.integers(-3, 4, naive.avg_pool2d(x, *where).shape).astype(dtype)
        assert_same(fastconv.avg_pool2d_backward, naive.avg_pool2d_backward, (dout, x, *where))
print("right")
"""


@pytest.mark.parametrize("setting", [*(f"FASTCONV_ISA={isa}" for isa in available()[1:][-1:]), "NUMBA_DISABLE_JIT=1"])
def test_the_smallest_vectors_and_plain_loops(setting):
    name, value = setting.split("=")
    assert run(PROGRAM, **{name: value}) == "right"


@pytest.mark.parametrize("side", [14, 56, 224])
def test_means_of_planes_all_alike(side):
    """Short chains: as near as NumPy's own mean, and no sum that leaves the range of float32."""
    for value in (0.1, 1 / 3, 1e35):
        x = np.full((2, 3, side, side), value, np.float32)
        for mean in (fastconv.avg_pool2d(x, side), fastconv.adaptive_avg_pool2d(x, 1)):
            assert abs(mean / x[0, 0, 0, 0] - 1).max() < 3e-7         # twice what that is wrong by
