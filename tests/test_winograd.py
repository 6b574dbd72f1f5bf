"""Winograd's convolution: its transforms from their points, its errors, where NaN and inf end, and what its blocks do at their edges."""
from functools import partial
from time import thread_time

import numpy as np
import pytest
from isolated import run
from numba import njit

import fastconv
import naive
from fastconv import Conv2d, plan
from fastconv.algorithms import ALGORITHMS, Winograd
from fastconv.blocking import direct, direct_weight, winograd, winograd_weight
from fastconv.kernels import points, simd, simd_winograd
from fastconv.kernels.simd import ALL_LEVELS, SECOND_LEVEL
from fastconv.kernels.simd_winograd import (
    DOUT,
    FILTER,
    FILTER_2,
    FILTER_5,
    FILTER_LINE,
    FILTER_LONG,
    FILTER_STEPS,
    FORWARD,
    FORWARD_2,
    FORWARD_5,
    FORWARD_COLUMN,
    FORWARD_LONG,
    FORWARD_ROW,
    FORWARD_STEPS,
    INPUT,
    INPUT_2,
    INPUT_COLUMN,
    INPUT_LONG,
    INPUT_ROW,
    INPUT_STEPS,
    POINTS,
    WEIGHT,
)
from fastconv.kernels.tiles import ROWS, ROWS_HALF, ROWS_SMALL, VECTORS
from fastconv.kernels.winograd_results import JOB
from fastconv.testing import assert_same

EACH_DTYPE = pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["f4", "f8"])
EACH_STRIDE = pytest.mark.parametrize("stride", [1, 2])
BOUND = {np.float32: 1e-5, np.float64: 1e-13}
OTHERS = pytest.mark.parametrize("kernel", [(5, 5), (1, 3), (3, 1)], ids=["5x5", "1x3", "3x1"])
PADDINGS = [0, 1, 2, (0, 3), ((0, 2), (1, 0)), ((5, 0), (0, 4))]


def normal(*shapes, dtype=np.float32, seed=0):
    rng = np.random.default_rng(seed)
    return [rng.standard_normal(shape).astype(dtype) for shape in shapes]


def check(x, weight, bias=None, seed=0, tolerance=None, **options):
    """Forward and both gradients against float64 loops."""
    dtype = x.dtype.type
    options = {**options, "algorithm": "winograd"}
    assert_same(fastconv.conv2d, naive.conv2d, (x, weight, bias), options, tolerance=tolerance or BOUND[dtype])
    with np.errstate(all="ignore"):
        shape = fastconv.conv2d(x, weight, bias, **options).shape
    dout, = normal(shape, dtype=dtype, seed=seed + 1)
    assert_same(fastconv.conv2d_backward, naive.conv2d_backward, (dout, x, weight, bias), {**options, "need": (True, True, False)},
                tolerance=tolerance or BOUND[dtype])


# ---------------------------------------------------------------- transforms
@pytest.mark.parametrize("outputs, kernel, squares", [(4, 3, (0.5, 2.0)), (3, 4, (0.5, 2.0)), (2, 5, (0.5, 2.0)),
                                                      (2, 3, (1.0,)), (6, 3, (0.25, 1.0, 4.0)), (4, 3, (1.0, 4.0))])
def test_the_transforms_make_a_convolution(outputs, kernel, squares):
    rng = np.random.default_rng(0)
    d, g = rng.standard_normal(outputs + kernel - 1), rng.standard_normal(kernel)
    y = points.result(outputs, squares) @ ((points.kernel(kernel, squares) @ g) * (points.source(squares) @ d))
    assert np.abs(y - np.correlate(d, g)).max() < 1e-14


@pytest.mark.parametrize("outputs, finite", [(2, (0.0, 1.0)), (2, (-1.0, 1.0)), (3, (0.0, 1.0, -1.0)), (4, (0.5, 0.0, -2.0, 1.0))])
def test_the_transforms_make_a_convolution_in_steps_of_two(outputs, finite):
    """The products that a filter has no number for share its last one."""
    rng = np.random.default_rng(0)
    d, g = rng.standard_normal(2 * outputs + 1), rng.standard_normal(3)
    B, G, A = points.strided(outputs, finite)
    assert (len(B), len(G)) == (2 * outputs + 1, outputs + 2)
    y = A @ ((G @ g)[np.minimum(np.arange(len(B)), len(G) - 1)] * (B @ d))
    assert np.abs(y - np.correlate(d, g)[::2]).max() < 1e-14


def test_points_come_in_pairs():
    """Even and odd terms are added up once for both: a matrix that is no such one any more would be right, and slow."""
    for kind, matrices in simd_winograd.MATRICES.items():
        for matrix in matrices:
            found = [len(term) for term in simd_winograd._terms(matrix if len(matrix) >= matrix.shape[1] else matrix.T)]
            if kind == FORWARD_LONG:
                assert len(matrix) == 1 or found == [1, 2, 2, 1, 1]
            elif len(matrix) > 1 and kind not in (INPUT_STEPS, FILTER_STEPS, FORWARD_STEPS, INPUT_LONG, FILTER_LONG):
                assert found in ([1, 2, 2, 1], [1, 2, 1])


def test_the_points_are_those_that_lose_least():
    """Of three sets of six, in float32 with exact sums."""
    def error(squares):
        rng, most = np.random.default_rng(0), 0.0
        B, G, A = points.source(squares), points.kernel(3, squares), points.result(4, squares)
        for _ in range(200):
            d, g = rng.standard_normal((6, 6)).astype("f4"), rng.standard_normal((3, 3)).astype("f4")
            half = (B.astype("f4") @ d).astype("f4") @ B.T.astype("f4")
            rounded = A @ (half.astype("f8") * ((G @ g.astype("f8") @ G.T).astype("f4"))).astype("f4") @ A.T
            truth = A @ ((B @ d @ B.T) * (G @ g @ G.T)) @ A.T
            most = max(most, np.abs(rounded - truth).max())
        return most

    assert all(matrix.tolist() == points.source((0.5, 2.0)).tolist() for matrix in simd_winograd.MATRICES[INPUT])
    assert error((0.5, 2.0)) < min(error((1.0, 4.0)), error((0.25, 1.0)))


@njit(error_model="numpy")
def spread(kind, source, at, pitch, target, to, step):
    if kind == INPUT:
        simd_winograd.spread(INPUT, source, at, pitch, target, to, step)
    elif kind == FILTER:
        simd_winograd.spread(FILTER, source, at, pitch, target, to, step)
    elif kind == FILTER_5:
        simd_winograd.spread(FILTER_5, source, at, pitch, target, to, step)
    elif kind == INPUT_2:
        simd_winograd.spread(INPUT_2, source, at, pitch, target, to, step)
    elif kind == FILTER_2:
        simd_winograd.spread(FILTER_2, source, at, pitch, target, to, step)
    elif kind == INPUT_STEPS:
        simd_winograd.spread(INPUT_STEPS, source, at, pitch, target, to, step)
    elif kind == FILTER_STEPS:
        simd_winograd.spread(FILTER_STEPS, source, at, pitch, target, to, step)
    elif kind == DOUT:
        simd_winograd.spread(DOUT, source, at, pitch, target, to, step)
    elif kind == INPUT_ROW:
        simd_winograd.spread(INPUT_ROW, source, at, pitch, target, to, step)
    elif kind == INPUT_COLUMN:
        simd_winograd.spread(INPUT_COLUMN, source, at, pitch, target, to, step)
    else:
        simd_winograd.spread(FILTER_LINE, source, at, pitch, target, to, step)


@njit(error_model="numpy")
def collect(kind, source, at, step, target, to, pitch, rows, columns):
    if kind == FORWARD:
        return simd_winograd.collect(FORWARD, source, at, step, target, to, pitch, rows, columns)
    if kind == FORWARD_5:
        return simd_winograd.collect(FORWARD_5, source, at, step, target, to, pitch, rows, columns)
    if kind == FORWARD_2:
        return simd_winograd.collect(FORWARD_2, source, at, step, target, to, pitch, rows, columns)
    if kind == FORWARD_STEPS:
        return simd_winograd.collect(FORWARD_STEPS, source, at, step, target, to, pitch, rows, columns)
    if kind == FORWARD_ROW:
        return simd_winograd.collect(FORWARD_ROW, source, at, step, target, to, pitch, rows, columns)
    if kind == FORWARD_COLUMN:
        return simd_winograd.collect(FORWARD_COLUMN, source, at, step, target, to, pitch, rows, columns)
    return simd_winograd.collect(WEIGHT, source, at, step, target, to, pitch, rows, columns)


@njit(error_model="numpy")
def place(valid, source, at, source_row, target, to, places, places_at):
    simd_winograd.place_pixels(valid, source, at, source_row, target, to, places, places_at)


@njit(error_model="numpy")
def product(rows, vectors, apart, keep, K, block, a, a_at, a_step, a_block, b, b_at, c, c_at, c_row, ahead, ahead_step):
    if apart == 1:
        simd_winograd.product_tile(ROWS, VECTORS, ALL_LEVELS, 1, keep, K, block, a, a_at, a_step, a_block, b, b_at, c, c_at, c_row, ahead, ahead_step)
    elif rows == ROWS and vectors == 1:
        simd_winograd.product_tile(ROWS, 1, ALL_LEVELS, 17, keep, K, block, a, a_at, a_step, a_block, b, b_at, c, c_at, c_row, ahead, ahead_step)
    elif rows == ROWS:
        simd_winograd.product_tile(ROWS, VECTORS, ALL_LEVELS, 17, keep, K, block, a, a_at, a_step, a_block, b, b_at, c, c_at, c_row, ahead, ahead_step)
    elif rows == ROWS_HALF:
        simd_winograd.product_tile(ROWS_HALF, VECTORS, SECOND_LEVEL, 17, keep, K, block, a, a_at, a_step, a_block, b, b_at, c, c_at, c_row, ahead, ahead_step)
    else:
        simd_winograd.product_tile(ROWS_SMALL, VECTORS, ALL_LEVELS, 17, keep, K, block, a, a_at, a_step, a_block, b, b_at, c, c_at, c_row, ahead, ahead_step)


def close(found, wanted):
    assert np.allclose(found, wanted, rtol=0, atol=20 * np.finfo(found.dtype).eps * np.abs(wanted).max())


@EACH_DTYPE
@pytest.mark.parametrize("kind", [INPUT, FILTER, FILTER_5, DOUT, INPUT_2, FILTER_2, INPUT_STEPS, FILTER_STEPS, INPUT_ROW, INPUT_COLUMN, FILTER_LINE])
def test_spread(kind, dtype):
    lanes = simd.lanes(dtype)
    source, = normal((3 + 60 * lanes,), dtype=dtype)
    step = lanes + 5
    target = np.full(2 + POINTS * POINTS * step, 77, dtype)
    twin = target.copy()
    spread(kind, source, 3, 8, target, 2, step)
    simd_winograd._spread(kind, source, 3, 8, twin, 2, step)
    close(target, twin)
    assert np.array_equal(target == 77, twin == 77)


@EACH_DTYPE
@pytest.mark.parametrize("kind", [FORWARD, FORWARD_5, FORWARD_2, FORWARD_STEPS, FORWARD_ROW, FORWARD_COLUMN, WEIGHT])
@pytest.mark.parametrize("rows", [1, 3, 4])
@pytest.mark.parametrize("columns", [1, 2, 4])
def test_collect(rows, columns, kind, dtype):
    lanes = simd.lanes(dtype)
    source, = normal((5 + POINTS * POINTS * (lanes + 3),), dtype=dtype)
    for value in (0, np.nan, np.inf):
        source[5 + 2 * (lanes + 3) + lanes - 1] = value      # the last lane of one element
        target = np.full(1 + 30 * lanes, 77, dtype)
        twin = target.copy()
        assert collect(kind, source, 5, lanes + 3, target, 1, 6, rows, columns) == (value != 0)
        assert simd_winograd._collect(kind, source, 5, lanes + 3, twin, 1, 6, rows, columns) == (value != 0)
        assert np.array_equal(target == 77, twin == 77)
        if value == 0:
            close(target, twin)


@EACH_DTYPE
def test_place_pixels(dtype):
    lanes = simd.lanes(dtype)
    for valid in (1, lanes - 1, lanes):
        source, target = np.arange(4 + valid * 40, dtype=dtype), np.full(60 * lanes, -1, dtype)
        twin, places = target.copy(), np.random.default_rng(0).permutation(50)[:lanes + 2] * lanes
        place(valid, source, 4, 37, target, 3, places, 2)
        simd_winograd._place_pixels(valid, source, 4, 37, twin, 3, places, 2)
        assert np.array_equal(target, twin)


@EACH_DTYPE
@pytest.mark.parametrize("rows, vectors, apart", [(ROWS, 1, 17), (ROWS, VECTORS, 17), (ROWS, VECTORS, 1), (ROWS_HALF, VECTORS, 17), (ROWS_SMALL, VECTORS, 17)])
def test_product_tile(rows, vectors, apart, dtype):
    rng, width = np.random.default_rng(0), vectors * simd.lanes(dtype)
    a, b = rng.integers(-4, 5, 800).astype(dtype), rng.integers(-4, 5, 1000).astype(dtype)
    for keep, ahead, ahead_step, *steps in ((0, 9 * width, width, 9, 1, 0), (3, 0, width // 2, 4, 1, 250), (3, 1 << 40, width, 3, 19, 100),
                                            (0, 0, 1, 20, 19, 1)):
        c = np.full(4 + rows * (width + 1), 5, dtype)
        twin = c.copy()
        product(rows, vectors, apart, keep, 9, steps[0], a, 2, *steps[1:], b, 1, c, 4, width + 1, ahead, ahead_step)
        simd_winograd._product_tile(rows, vectors, ALL_LEVELS, apart, keep, 9, steps[0], a, 2, *steps[1:], b, 1, twin, 4, width + 1, ahead, ahead_step)
        assert np.array_equal(c, twin)


# ---------------------------------------------------------------- shapes
@EACH_DTYPE
@EACH_STRIDE
@pytest.mark.parametrize("width", range(1, 10))
@pytest.mark.parametrize("padding", PADDINGS, ids=str)
def test_edges_of_tiles(width, padding, stride, dtype):
    for height in (1, 3, 4, 8):
        tall, wide = (2 * padding,) * 2 if isinstance(padding, int) else [sum(p) if isinstance(p, tuple) else 2 * p for p in padding]
        if height + tall >= 3 and width + wide >= 3:
            x, weight, bias = normal((2, 3, height, width), (5, 3, 3, 3), (5,), dtype=dtype)
            check(x, weight, bias, stride=stride, padding=padding)


@EACH_DTYPE
@pytest.mark.parametrize("kernel", [(3, 3), (5, 5), (1, 3), (3, 1)], ids=["3x3", "5x5", "1x3", "3x1"])
@pytest.mark.parametrize("before", [False, True], ids=["after", "before"])
def test_gradients_of_windows_of_padding_alone_count_for_nothing(before, kernel, dtype):
    """They would lie in tiles with others, and the rounding errors of large ones swamp those."""
    KH, KW = kernel
    x, weight = normal((1, 3, 7, 6), (8, 3, KH, KW), dtype=dtype)
    for tall, wide in [(KH + 6, KW - 1), (KH - 1, KW + 6)]:
        padding = ((tall, KH - 1), (wide, KW - 1)) if before else ((KH - 1, tall), (KW - 1, wide))
        dout, = normal(fastconv.conv2d(x, weight, None, 1, padding).shape, dtype=dtype, seed=1)
        rows, columns = tall - KH + 1, wide - KW + 1         # of such windows
        alone = np.ones(dout.shape, bool)
        alone[:, :, rows if before else 0:dout.shape[2] - (0 if before else rows), columns if before else 0:dout.shape[3] - (0 if before else columns)] = False
        assert alone.any()
        found = [fastconv.conv2d_backward(np.where(alone, dtype(value), dout), x, weight, None, 1, padding, algorithm="winograd") for value in (0, 1e20)]
        assert np.array_equal(found[0][0], found[1][0]) and np.array_equal(found[0][1], found[1][1])


@EACH_DTYPE
@OTHERS
@pytest.mark.parametrize("padding", [0, 2, ((0, 3), (4, 0)), ((5, 0), (0, 1))], ids=str)
def test_edges_of_tiles_of_other_kernels(padding, kernel, dtype):
    for H, W in [(5, 5), (6, 9), (1, 7), (8, 3), (4, 6)]:
        tall, wide = (2 * padding,) * 2 if isinstance(padding, int) else [sum(p) for p in padding]
        if H + tall >= kernel[0] and W + wide >= kernel[1]:
            x, weight, bias = normal((1, 2, H, W), (3, 2, *kernel), (3,), dtype=dtype)
            check(x, weight, bias, padding=padding)


@EACH_DTYPE
@OTHERS
@pytest.mark.parametrize("N, C, H, W, F, groups", [
    (2, 17, 7, 6, 33, 1), (1, 34, 6, 9, 50, 2), (2, 12, 6, 7, 12, 4), (20, 5, 3, 3, 7, 1), (1, 530, 3, 4, 2, 1), (1, 1, 2, 720, 3, 1), (1, 1, 190, 2, 3, 1),
    (0, 3, 5, 5, 4, 1)])
def test_channels_filters_groups_and_batches_of_other_kernels(N, C, H, W, F, groups, kernel, dtype):
    x, weight, bias = normal((N, C, H, W), (F, C // groups, *kernel), (F,), dtype=dtype)
    check(x, weight, bias, padding=2, groups=groups)


@EACH_DTYPE
@EACH_STRIDE
@pytest.mark.parametrize("N, C, H, W, F, groups", [
    (1, 1, 5, 6, 1, 1), (3, 17, 7, 7, 33, 1), (2, 34, 14, 9, 50, 2), (9, 15, 6, 5, 16, 1), (1, 33, 18, 20, 65, 1), (2, 12, 6, 7, 12, 4), (5, 6, 4, 4, 6, 6),
    (40, 5, 3, 3, 7, 1), (1, 530, 4, 5, 40, 1), (1, 2, 3, 620, 18, 1), (1, 2, 90, 3, 35, 1), (0, 3, 5, 5, 4, 1)])
def test_channels_filters_groups_and_batches(N, C, H, W, F, groups, stride, dtype):
    x, weight, bias = normal((N, C, H, W), (F, C // groups, 3, 3), (F,), dtype=dtype)
    check(x, weight, bias, stride=stride, padding=1, groups=groups)


@EACH_DTYPE
@EACH_STRIDE
def test_several_blocks_of_every_kind(monkeypatch, forget, stride, dtype):
    """Blocks of several images, of rows and of columns of tiles, and of filters, each with a smaller one at the end."""
    monkeypatch.setattr(winograd, "LEAST_TILES", 3)
    monkeypatch.setattr(winograd, "V_BYTES", 1)
    monkeypatch.setattr(winograd, "M_BYTES", 1)
    for N, C, H, W, F in [(7, 3, 4, 4, 70), (5, 3, 4, 3, 3), (1, 3, 23, 4, 40), (2, 3, 17, 19, 70), (1, 20, 6, 30, 35)]:
        x, weight, bias = normal((N, C, H, W), (F, C, 3, 3), (F,), dtype=dtype)
        check(x, weight, bias, stride=stride, padding=1)
    for kernel in [(5, 5), (1, 3), (3, 1)][:3 if stride == 1 else 0]:
        for N, C, H, W, F in [(5, 3, 2, 3, 70), (1, 3, 11, 13, 3)]:
            x, weight, bias = normal((N, C, H, W), (F, C, *kernel), (F,), dtype=dtype)
            check(x, weight, bias, padding=(kernel[0] // 2, kernel[1] // 2))


@EACH_DTYPE
@pytest.mark.parametrize("N, C, H, W, F, groups", [(7, 3, 4, 4, 70, 1), (6, 34, 4, 3, 3, 1), (1, 3, 23, 4, 40, 1), (2, 40, 9, 19, 6, 2), (1, 20, 6, 30, 35, 1)])
def test_gradients_to_weights_of_several_blocks_parts_and_rounds(monkeypatch, forget, N, C, H, W, F, groups, dtype):
    """Blocks of images, of rows and of columns of tiles, of channels and of filters, in parts and in rounds."""
    lanes = simd.lanes(dtype)
    for tiles, block, parts_bytes in [(3, lanes, 1), (5, 2 * lanes, 1 << 20)]:
        for name, value in {"TILES": tiles, "BLOCK": block, "LARGE_BLOCK_BYTES": 1 << 20, "PART_UNITS": 1, "PARTS_BYTES": parts_bytes}.items():
            monkeypatch.setattr(winograd_weight, name, value)
        forget()
        x, weight, dout = normal((N, C, H, W), (F, C // groups, 3, 3), (N, F, H, W), dtype=dtype)
        made = fastconv.plan_conv2d(x.shape, weight.shape, dtype, padding=1, groups=groups, algorithm="winograd").to_weight
        assert made.parts > 1 or len(made.rounds) > 1
        assert_same(fastconv.conv2d_backward, naive.conv2d_backward, (dout, x, weight),
                    {"padding": 1, "groups": groups, "algorithm": "winograd", "need": (False, True, False)}, tolerance=BOUND[dtype])


@EACH_DTYPE
@pytest.mark.parametrize("C, H, W, F", [(17, 700, 5, 20), (17, 5, 1500, 20), (96, 60, 61, 35), (530, 29, 30, 70)])
def test_images_of_several_blocks_in_steps_of_two(C, H, W, F, dtype):
    """As they are cut without a hand in it: rows, columns, in blocks that are not equally large, and channels in several chains."""
    x, weight, bias = normal((1, C, H, W), (F, C, 3, 3), (F,), dtype=dtype)
    options = {"stride": 2, "padding": ((1, 0), (1, 2))}
    made = fastconv.plan_conv2d(x.shape, weight.shape, dtype, **options, algorithm="winograd")
    job = dict(zip(JOB, made.forward.job.tolist()))
    assert job["columns"] < job["tiles_w"] if H == 5 else job["rows"] < job["tiles_h"]
    y = fastconv.conv2d(x, weight, bias, **options, algorithm="winograd")
    wanted = fastconv.conv2d(*(a.astype("f8") for a in (x, weight, bias)), **options, algorithm="direct")
    assert np.abs(y - wanted).max() <= BOUND[dtype] * np.abs(wanted).max()


def test_integers_in_steps_of_two_are_exact():
    """The points are 0, 1 and infinity."""
    rng = np.random.default_rng(0)
    x, weight = rng.integers(-4, 5, (2, 20, 11, 9)).astype(np.float32), rng.integers(-4, 5, (18, 20, 3, 3)).astype(np.float32)
    assert np.array_equal(fastconv.conv2d(x, weight, stride=2, padding=1, algorithm="winograd"), naive.conv2d(x, weight, stride=2, padding=1))


def test_integers_come_near_themselves():
    rng = np.random.default_rng(0)
    x, weight = rng.integers(-4, 5, (2, 20, 11, 9)).astype(np.float32), rng.integers(-4, 5, (18, 20, 3, 3)).astype(np.float32)
    y = fastconv.conv2d(x, weight, padding=1, algorithm="winograd")
    assert np.array_equal(np.rint(y), naive.conv2d(x, weight, padding=1))


@EACH_DTYPE
def test_small_tiles(monkeypatch, forget, dtype):
    """2x2 results of 3x3 filters, at every edge; also of NaN."""
    monkeypatch.setitem(winograd.FORMS, (3, 3), winograd.SMALL[3, 3])
    for N, C, H, W, F, groups, padding in [(1, 1, 3, 3, 1, 1, 0), (2, 17, 4, 5, 33, 1, 1), (1, 34, 7, 6, 50, 2, 2), (30, 3, 2, 1, 5, 1, ((1, 1), (2, 0))),
                                           (1, 530, 4, 3, 2, 1, 1), (1, 2, 40, 120, 3, 1, 1)]:
        x, weight, bias = normal((N, C, H, W), (F, C // groups, 3, 3), (F,), dtype=dtype)
        made = fastconv.plan_conv2d(x.shape, weight.shape, dtype, padding=padding, groups=groups, algorithm="winograd")
        assert "tiles of 2x2 results take 16 multiplications for 36" in winograd.why(made.shape, made.forward)
        check(x, weight, bias, padding=padding, groups=groups)
        x[0, C - 1, H // 2, W // 2] = np.nan
        check(x, weight, bias, padding=padding, groups=groups)
    x, weight = normal((1, 1024, 8, 9), (24, 1024, 3, 3), dtype=dtype)
    truth = weight.reshape(24, -1).astype("f8") @ fastconv.im2col(x.astype("f8"), 3)[0]
    y = fastconv.conv2d(x, weight, algorithm="winograd").reshape(truth.shape)
    assert np.abs(y - truth).max() <= BOUND[dtype] / 2 * np.abs(truth).max()


def test_a_layer_takes_small_tiles_for_small_images_and_keeps_filters_for_both():
    weight, bias, small, large = normal((256, 256, 3, 3), (256,), (1, 256, 4, 4), (2, 256, 14, 14))
    layer = Conv2d(weight, bias, padding=1)
    for x in (small, large, small):
        wanted = fastconv.conv2d(x.astype("f8"), weight.astype("f8"), bias.astype("f8"), padding=1, algorithm="direct")
        assert np.abs(layer(x) - wanted).max() <= 1e-5 * np.abs(wanted).max()
    assert len({order for algorithm, order in layer._packed if algorithm == "winograd"}) == 2


# ---------------------------------------------------------------- errors
KINDS = {
    "normal": lambda rng, size: rng.standard_normal(size),
    "uniform": lambda rng, size: rng.random(size),
}


@EACH_DTYPE
@EACH_STRIDE
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("positive", [False, True], ids=["he", "positive"])
@pytest.mark.parametrize("C", [1, 3, 16, 64, 256, 1024])
def test_errors_stay_within_their_bound(C, positive, kind, stride, dtype):
    """max|y - truth| / max|truth| for weights around zero, scaled after He, and for weights above zero; the truth is one product in float64."""
    rng = np.random.default_rng(C)
    x = KINDS[kind](rng, (1, C, 12, 14)).astype(dtype)
    weight = rng.standard_normal((24, C, 3, 3)) * np.sqrt(2 / (9 * C))
    weight = (np.abs(weight) if positive else weight).astype(dtype)
    y = fastconv.conv2d(x, weight, stride=stride, padding=1, algorithm="winograd")
    truth = weight.reshape(24, -1).astype("f8") @ fastconv.im2col(x.astype("f8"), 3, stride=stride, padding=1)[0]
    assert np.abs(y.reshape(truth.shape) - truth).max() <= BOUND[dtype] * np.abs(truth).max()


@EACH_DTYPE
@OTHERS
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("positive", [False, True], ids=["he", "positive"])
@pytest.mark.parametrize("C", [1, 16, 256, 1024])
def test_errors_of_other_kernels_stay_within_their_bound(C, positive, kind, kernel, dtype):
    rng = np.random.default_rng(C)
    x = KINDS[kind](rng, (1, C, 12, 14)).astype(dtype)
    weight = rng.standard_normal((24, C, *kernel)) * np.sqrt(2 / (kernel[0] * kernel[1] * C))
    weight = (np.abs(weight) if positive else weight).astype(dtype)
    y = fastconv.conv2d(x, weight, algorithm="winograd")
    truth = weight.reshape(24, -1).astype("f8") @ fastconv.im2col(x.astype("f8"), kernel)[0]
    assert np.abs(y.reshape(truth.shape) - truth).max() <= BOUND[dtype] * np.abs(truth).max()


@EACH_DTYPE
@pytest.mark.parametrize("of_x", KINDS)
@pytest.mark.parametrize("of_dout", KINDS)
@pytest.mark.parametrize("N, C, F, H", [(1, 1, 20, 70), (40, 3, 33, 13), (2, 64, 17, 28), (3, 1024, 8, 14)])
def test_errors_of_gradients_to_weights_stay_within_their_bound(N, C, F, H, of_dout, of_x, dtype):
    rng = np.random.default_rng(C)
    x, dout = KINDS[of_x](rng, (N, C, H, H)).astype(dtype), KINDS[of_dout](rng, (N, F, H, H)).astype(dtype)
    dweight = fastconv.conv2d_backward(dout, x, np.zeros((F, C, 3, 3), dtype), padding=1, algorithm="winograd", need=(False, True, False))[1]
    patches = fastconv.im2col(x.astype("f8"), 3, padding=1)
    truth = np.tensordot(dout.reshape(N, F, -1).astype("f8"), patches, ((0, 2), (0, 2)))
    assert np.abs(dweight.reshape(truth.shape) - truth).max() <= BOUND[dtype] * np.abs(truth).max()


# ---------------------------------------------------------------- NaN and inf
@EACH_DTYPE
@EACH_STRIDE
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_nan_and_inf_reach_their_windows_alone(value, stride, dtype):
    for seed, (h, w) in enumerate([(0, 0), (3, 4), (4, 3), (9, 10), (5, 8), (7, 0)]):
        x, weight, bias = normal((2, 18, 10, 11), (19, 9, 3, 3), (19 + 1,), dtype=dtype, seed=seed)
        weight = np.concatenate([weight, weight[:1]])
        x[1, 10, h, w] = value
        weight[12, 1, 2, 1] = 0              # 0 * inf is NaN
        options = {"stride": stride, "padding": 1, "groups": 2}
        check(x, weight, bias, **options)
        dout, = normal((2, 20, 9 // stride + 1, 10 // stride + 1), dtype=dtype)
        dout[0, 13, h // stride, w // stride] = value
        assert_same(fastconv.conv2d_backward, naive.conv2d_backward, (dout, x, weight), {**options, "algorithm": "winograd",
                    "need": (True, True, False)}, tolerance=BOUND[dtype])


@EACH_DTYPE
@EACH_STRIDE
def test_nan_and_inf_of_weights_reach_their_filters_alone(stride, dtype):
    """At every tap, with numbers and with the zeros of the padding, as in the loops."""
    x, weight, bias = normal((2, 18, 10, 11), (20, 9, 3, 3), (20,), dtype=dtype)
    for tap in range(9):
        weight[2 * tap, tap, tap // 3, tap % 3] = (np.nan, np.inf, -np.inf)[tap % 3]
    options = {"stride": stride, "padding": 1, "groups": 2}
    assert_same(fastconv.conv2d, naive.conv2d, (x, weight, bias), {**options, "algorithm": "winograd"}, tolerance=BOUND[dtype])
    assert_same(partial(forced, Conv2d(weight, bias, **options)), partial(naive.conv2d, weight=weight, bias=bias, **options), (x,), tolerance=BOUND[dtype])


@EACH_DTYPE
def test_nan_at_every_place_of_tiles_in_steps_of_two(dtype):
    """Also of pixels that no window holds, and of the last tile's, which is cut off."""
    x, weight = normal((1, 2, 8, 10), (3, 2, 3, 3), dtype=dtype)
    for h in range(8):
        for w in range(10):
            bad = x.copy()
            bad[0, 1, h, w] = np.nan
            assert_same(fastconv.conv2d, naive.conv2d, (bad, weight), {"stride": 2, "algorithm": "winograd"}, tolerance=BOUND[dtype])


@EACH_DTYPE
@OTHERS
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_nan_and_inf_reach_their_windows_alone_of_other_kernels(value, kernel, dtype):
    for h, w in [(0, 0), (3, 4), (5, 6)]:
        x, weight, bias = normal((2, 40, 6, 7), (19, 40, *kernel), (19,), dtype=dtype)
        x[1, 35, h, w] = value
        weight[12, 35, -1, 0] = 0            # 0 * inf is NaN
        check(x, weight, bias, padding=2)
        dout, = normal((2, 19, 11 - kernel[0], 12 - kernel[1]), dtype=dtype)
        dout[0, 13, h, w] = value
        assert_same(fastconv.conv2d_backward, naive.conv2d_backward, (dout, x, weight), {"padding": 2, "algorithm": "winograd",
                    "need": (True, True, False)}, tolerance=BOUND[dtype])


@EACH_STRIDE
def test_an_image_full_of_nan_takes_no_ages(stride):
    """Every tile is summed twice, the second time directly: on vectors, too."""
    x, weight = np.full((1, 64, 28, 28), np.nan, np.float32), np.ones((64, 64, 3, 3), np.float32)
    made = fastconv.plan_conv2d(x.shape, weight.shape, stride=stride, padding=1, algorithm="winograd")
    y, times = np.empty(made.y_shape, np.float32), {}
    for algorithm in ("direct", "winograd"):
        stage, none = made.stages.forward(algorithm), np.empty(0, np.float32)
        packed = ALGORITHMS[algorithm].pack(stage, weight)
        for _ in range(5):
            before = thread_time()
            stage.kernel(0, stage.tasks, x.ravel(), packed, y.ravel(), none, weight.ravel() if algorithm == "winograd" else none, stage.job, stage.table)
            times[algorithm] = min(times.get(algorithm, 9), thread_time() - before)
        assert np.isnan(y).all()
    assert times["winograd"] < 20 * times["direct"]


@EACH_DTYPE
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_nan_and_inf_reach_their_taps_alone(value, dtype):
    """Without padding a pixel at the edge meets some of the taps."""
    for h, w in [(0, 0), (0, 8), (1, 6), (7, 0), (4, 4)]:
        x, weight, dout = normal((2, 3, 8, 9), (5, 3, 3, 3), (2, 5, 6, 7), dtype=dtype)
        x[1, 1, h, w] = value
        found = fastconv.conv2d_backward(dout, x, weight, algorithm="winograd", need=(False, True, False))[1]
        assert np.isfinite(found[:, [0, 2]]).all() and (np.isfinite(found[:, 1]).any() or (h, w) == (4, 4))
        assert_same(fastconv.conv2d_backward, naive.conv2d_backward, (dout, x, weight), {"algorithm": "winograd", "need": (False, True, False)},
                    tolerance=BOUND[dtype])


@EACH_DTYPE
@EACH_STRIDE
def test_large_numbers_overflow_where_they_do_in_the_loops(stride, dtype):
    """The transforms multiply pixels by up to 6: what still fits the dtype must come out."""
    most = np.finfo(dtype).max
    x, weight = normal((1, 2, 9, 9), (3, 2, 3, 3), dtype=dtype)
    x[0, 1, 4, 4], x[0, 0, 2, 6] = most / 2, -most / 2
    weight[2] = 0
    weight[0] /= np.abs(weight).max()
    y, wanted = (fastconv.conv2d(x, weight, stride=stride, padding=1, algorithm=algorithm) for algorithm in ("winograd", "direct"))
    assert np.isfinite(y[0, 0]).any() and np.isfinite(y[0, 2]).all()
    assert np.array_equal(np.isnan(y), np.isnan(wanted)) and np.array_equal(np.isinf(y), np.isinf(wanted))
    dout, = normal(y.shape, dtype=dtype)
    dout /= 2 * np.abs(dout).max()
    found, wanted = (fastconv.conv2d_backward(dout, x, weight, stride=stride, padding=1, algorithm=algorithm, need=(False, True, False))[1]
                     for algorithm in ("winograd", "direct"))
    assert np.isfinite(wanted).all() and np.array_equal(found, wanted)


@EACH_STRIDE
def test_a_prepared_layer_sums_directly_from_its_own_weights(stride):
    x, weight, bias, residual = normal((2, 24, 9, 10), (40, 24, 3, 3), (40,), (2, 40, 8 // stride + 1, 9 // stride + 1))
    x[0, 3, 4, 4], x[1, 20, 0, 9], residual[0, 0, 0, 0] = np.inf, np.nan, np.nan
    layer = Conv2d(weight, bias, stride=stride, padding=1, activation="relu")
    y = forced(layer, x, residual)
    with np.errstate(all="ignore"):
        assert_same(y, np.maximum(naive.conv2d(x, weight, bias, stride=stride, padding=1) + residual, 0), tolerance=1e-5)


# ---------------------------------------------------------------- layers, threads, plans
def forced(layer, x, residual=None, out=None):
    """What the layer gives where its plan says winograd."""
    def chosen(algorithm, *rest):
        return "winograd"

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plan, "_choose", chosen)
        plan.conv_plan.cache_clear()
        layer._forget()
        try:
            y = layer(x, residual, out)
            assert all(key[0] == "winograd" for key in layer._packed)
            return y
        finally:
            plan.conv_plan.cache_clear()


@EACH_DTYPE
@EACH_STRIDE
@pytest.mark.parametrize("activation", [None, "relu"])
def test_layers_add_residuals_and_relu(activation, stride, dtype):
    for N, C, H, F, groups in [(2, 16, 14, 32, 1), (3, 20, 7, 33, 1), (1, 8, 30, 12, 2)]:
        size, options = (H - 1) // stride + 1, {"stride": stride, "padding": 1, "groups": groups}
        x, weight, bias, residual = normal((N, C, H, H), (F, C // groups, 3, 3), (F,), (N, F, size, size), dtype=dtype)
        layer = Conv2d(weight, bias, **options, activation=activation)
        for added in (None, residual):
            wanted = naive.conv2d(*(a.astype("f8") for a in (x, weight, bias)), **options) + (0 if added is None else added)
            wanted = np.maximum(wanted, 0) if activation else wanted
            assert_same(forced(layer, x, added).astype("f8"), wanted, tolerance=BOUND[dtype])
        out = residual.copy()
        assert np.array_equal(forced(layer, x, out, out), forced(layer, x, residual))


@EACH_DTYPE
@EACH_STRIDE
def test_a_layer_gives_the_bits_of_the_function(stride, dtype):
    """Also where each task of the function transforms the filters it needs: of few tiles."""
    for N, C, F, fresh in [(20, 40, 70, False), (1, 40, 70, True), (1, 530, 34, True)]:
        x, weight, bias = normal((N, C, 15, 13), (F, C, 3, 3), (F,), dtype=dtype)
        options = {"stride": stride, "padding": 1}
        made = fastconv.plan_conv2d(x.shape, weight.shape, dtype, **options, algorithm="winograd")
        assert (made.forward.pack is None) == fresh and ("each transforms its filters" in str(made)) == fresh
        assert np.array_equal(forced(Conv2d(weight, bias, **options), x), fastconv.conv2d(x, weight, bias, **options, algorithm="winograd"))


THREADS = """
import numpy as np, fastconv
rng = np.random.default_rng(0)
for N, C, H, F in [(1, 64, 56, 64), (1, 256, 14, 256), (9, 130, 7, 130)]:
    x, weight, dout = (rng.standard_normal(s, np.float32) for s in ((N, C, H, H), (F, C, 3, 3), (N, F, H, H)))
    x[0, 5, 3, 3] = np.inf
    results = []
    for threads in (1, 2):
        fastconv.set_num_threads(threads)
        y = fastconv.conv2d(x, weight, padding=1, algorithm="winograd")
        dx, _, _ = fastconv.conv2d_backward(dout, x, weight, padding=1, algorithm="winograd", need=(True, False, False))
        _, dweight, _ = fastconv.conv2d_backward(dout, dout, np.ones((F, F, 3, 3), np.float32), padding=1, algorithm="winograd", need=(False, True, False))
        assert np.isfinite(dweight).all()
        results.append((y.tobytes(), dx.tobytes(), dweight.tobytes()))
    assert results[0] == results[1], (N, C, H, F)
for C, H, W, F in [(64, 56, 56, 64), (256, 14, 15, 256), (8, 5, 1500, 20)]:
    x, weight = (rng.standard_normal(s, np.float32) for s in ((1, C, H, W), (F, C, 3, 3)))
    x[0, 5, 3, 3] = np.inf
    results = set()
    for threads in (1, 2, 3):
        fastconv.set_num_threads(threads)
        results.add(fastconv.conv2d(x, weight, stride=2, padding=1, algorithm="winograd").tobytes())
    assert len(results) == 1, (C, H, W, F)
print("same")
"""


def test_the_bits_do_not_depend_on_the_threads():
    assert run(THREADS, NUMBA_NUM_THREADS=3) == "same"


@pytest.mark.parametrize("F", [7, 40, 70])
@pytest.mark.parametrize("kernel, stride", [((3, 3), 1), ((5, 5), 1), ((1, 3), 1), ((3, 3), 2)])
def test_transformed_filters_do_not_depend_on_the_image(kernel, stride, F):
    """A layer transforms them once; behind them stand the weights themselves."""
    weight, = normal((F, 20, *kernel))
    found = []
    for N, size in [(1, 17), (9, 7), (1, 30), (2, 231)]:
        made = fastconv.plan_conv2d((N, 20, size, size), weight.shape, stride=stride, padding=1, algorithm="winograd")
        found.append(Winograd.pack(winograd.forward(made.shape, False, prepared=True), weight))
        assert np.array_equal(found[0], found[-1]) and np.array_equal(found[-1][-weight.size:], weight.ravel())
    assert found[0].ctypes.data % 64 == 0


def test_auto_takes_it_where_it_pays():
    def chosen(x, weight, **options):
        made = fastconv.plan_conv2d(x, weight, padding=1, **options)
        return made.algorithm, made.input_algorithm, made.weight_algorithm

    for shape, F in [((1, 64, 56, 56), 64), ((16, 512, 7, 7), 512), ((1, 512, 7, 7), 512), ((1, 64, 224, 224), 64), ((1, 256, 28, 28), 256)]:
        assert chosen(shape, (F, shape[1], 3, 3)) == ("winograd",) * 3
        assert chosen(shape, (F, shape[1], 3, 3), algorithm="direct") == ("direct",) * 3
    assert chosen((1, 512, 4, 4), (512, 512, 3, 3)) == ("direct",) * 3             # the filters cost more than they spare
    assert chosen((1, 3, 224, 224), (64, 3, 3, 3)) == ("direct",) * 3
    assert chosen((16, 3, 200, 200), (2, 3, 3, 3)) == ("direct",) * 3              # few channels, few filters
    assert chosen((1, 64, 56, 56), (64, 64, 1, 1)) == ("direct",) * 3
    for kernel in [(5, 5), (1, 3), (3, 1)]:
        assert chosen((1, 128, 28, 28), (128, 128, *kernel)) == ("winograd", "winograd", "direct")
        assert chosen((1, 128, 28, 28), (128, 128, *kernel), algorithm="winograd") == ("winograd", "winograd", "direct")
        assert chosen((1, 4, 28, 28), (4, 4, *kernel)) == ("direct",) * 3
    for shape in [(1, 128, 56, 56), (8, 256, 28, 28), (16, 512, 28, 28)]:          # forward alone
        weight = (shape[1], shape[1], 3, 3)
        assert chosen(shape, weight, stride=2) == chosen(shape, weight, stride=2, algorithm="winograd") == ("winograd", "direct", "direct")
        assert chosen(shape, weight, stride=2, dilation=2) == chosen(shape, weight, stride=(1, 2)) == ("direct",) * 3
    assert chosen((1, 3, 224, 224), (64, 3, 3, 3), stride=2) == chosen((1, 512, 7, 7), (512, 512, 3, 3), stride=2) == ("direct",) * 3
    made = fastconv.plan_conv2d((1, 128, 56, 56), (128, 128, 3, 3), stride=2, padding=1)
    assert "algorithm   winograd: tiles of 2x2 results take 25 multiplications for 36; " in str(made)
    assert "gradients   to the input direct, to the weights direct" in str(made)
    assert "tiles of 2x2 results take 36 multiplications for 100" in str(fastconv.plan_conv2d((1, 64, 56, 56), (64, 64, 5, 5), padding=2))
    assert "36 multiplications for 144" in str(fastconv.plan_conv2d((1, 64, 56, 56), (64, 64, 3, 3), padding=1))


def test_a_prepared_layer_takes_it_where_a_function_does_not():
    def chosen(size, stride, prepared=True):
        return plan.conv_plan((1, 512, size, size), (512, 512, 3, 3), np.dtype("f4"), (stride,) * 2, ((1, 1), (1, 1)), (1, 1), 1, "auto", "high",
                              prepared).algorithm

    assert chosen(4, 1) == chosen(7, 2) == "winograd" and chosen(7, 2, prepared=False) == "direct"


@EACH_STRIDE
def test_the_highest_precision_excludes_it(stride):
    x, weight = normal((1, 128, 56, 56), (128, 128, 3, 3))
    assert fastconv.plan_conv2d(x.shape, weight.shape, stride=stride, padding=1).algorithm == "winograd"
    fastconv.set_precision("highest")
    try:
        assert fastconv.plan_conv2d(x.shape, weight.shape, stride=stride, padding=1).algorithm == "direct"
        with pytest.raises(ValueError, match="'winograd' and the precision \"highest\""):
            fastconv.conv2d(x, weight, stride=stride, algorithm="winograd")
    finally:
        fastconv.set_precision("high")


@pytest.mark.parametrize("options, kernel", [
    ({"stride": (1, 2)}, (3, 3)), ({"stride": (2, 1)}, (3, 3)), ({"stride": 3}, (3, 3)), ({"dilation": 2}, (3, 3)), ({"stride": 2, "dilation": (1, 2)}, (3, 3)),
    ({}, (4, 4)), ({}, (1, 1)), ({"stride": 2}, (1, 3)), ({"stride": 2}, (3, 1)), ({"stride": (2, 1)}, (5, 5))])
def test_other_kernels_are_refused(options, kernel):
    with pytest.raises(ValueError, match="algorithm is 'winograd'.*wanted, with dilation 1: a 3x3, 5x5, 1x3 or 3x1 kernel and stride 1, 3x3 and stride 2"):
        fastconv.conv2d(np.ones((1, 2, 9, 9)), np.ones((3, 2, *kernel)), algorithm="winograd", **options)


@EACH_STRIDE
def test_the_workspace_is_bounded(stride):
    for shape, F in [((1, 64, 56, 56), 64), ((1, 60_000, 9, 9), 32), ((1, 3, 5000, 5000), 8), ((64, 512, 7, 7), 2048), ((1, 8, 40, 100_000), 4096),
                     ((1, 16, 20, 20), 250_000)]:
        made = fastconv.plan_conv2d(shape, (F, shape[1], 3, 3), stride=stride, padding=1, algorithm="winograd")
        assert made.forward.workspace <= made.workspace <= 64 * 2 ** 20


@pytest.mark.parametrize("C, F, stride", [(1_000_000, 2, 1), (2, 1_000_000, 1), (1_000_000, 2, 2)])
def test_so_many_channels_that_one_tile_has_no_room_are_summed_directly(C, F, stride):
    made = fastconv.plan_conv2d((1, C, 30, 30), (F, C, 3, 3), stride=stride, padding=1)
    assert (made.algorithm, made.input_algorithm)[C < F] == "direct" and made.workspace <= 64 * 2 ** 20
    with pytest.raises(ValueError, match=f"algorithm is 'winograd'.* {C} channels and {F} filters .*wanted: fewer channels and filters"):
        fastconv.plan_conv2d((1, C, 30, 30), (F, C, 3, 3), stride=stride, padding=1, algorithm="winograd")


@EACH_DTYPE
@EACH_STRIDE
@pytest.mark.parametrize("W", [5, 40, 227, 1_000_000])
def test_the_table_of_places_does_not_grow_with_the_width(W, stride, dtype):
    """Rows that are wider than a block of tiles are loaded one by one."""
    made = fastconv.plan_conv2d((1, 3, 6, W), (8, 3, 3, 3), dtype, stride=stride, padding=1, algorithm="winograd")
    for stage in (made.forward, made.to_input, made.to_weight):
        assert stage.table.nbytes < stage.workspace


def test_a_plan_makes_the_blocks_of_each_direction_once_and_of_gradients_when_they_are_asked_for(monkeypatch):
    made = []

    def counted(label, make, *args, **options):
        made.append(label)
        return make(*args, **options)

    for module in (winograd, winograd_weight, direct, direct_weight):
        for name in ("forward", "to_input", "to_weight"):
            if hasattr(module, name):
                monkeypatch.setattr(module, name, partial(counted, (module.__name__.split(".")[-1], name), getattr(module, name)))
    plan.conv_plan.cache_clear()
    found = fastconv.plan_conv2d((1, 64, 57, 55), (64, 64, 3, 3), padding=1)
    assert found.forward is found.forward and sorted(made) == [("direct", "forward"), ("winograd", "forward")]
    assert found.to_input is found.to_input and found.to_weight is found.to_weight
    assert sorted(made[2:]) == [("direct", "to_input"), ("direct_weight", "to_weight"), ("winograd", "to_input"), ("winograd_weight", "to_weight")]


PROGRAM = """
import numpy as np, fastconv, naive
from fastconv.testing import assert_same
rng = np.random.default_rng(0)
for dtype, tolerance in ((np.float32, 1e-5), (np.float64, 1e-13)):
    for N, C, H, F in ((1, 3, 9, 5), (2, 20, 7, 35), (1, 40, 13, 17)):
        x, weight, dout = (rng.standard_normal(s).astype(dtype) for s in ((N, C, H, H), (F, C, 3, 3), (N, F, H, H)))
        x[0, 0, 4, 4] = dout[0, 0, 4, 4] = np.nan
        options = {"padding": 1, "algorithm": "winograd"}
        assert_same(fastconv.conv2d, naive.conv2d, (x, weight), options, tolerance=tolerance)
        assert_same(fastconv.conv2d_backward, naive.conv2d_backward, (dout, x, weight), {**options, "need": (True, True, False)}, tolerance=tolerance)
        assert_same(fastconv.conv2d, naive.conv2d, (x, weight), {**options, "stride": 2}, tolerance=tolerance)
    for kernel in ((5, 5), (1, 3), (3, 1)):
        x, weight = (rng.standard_normal(s).astype(dtype) for s in ((2, 3, 5, 6), (4, 3, *kernel)))
        x[0, 0, 4, 4] = np.nan
        dout = np.ones((2, 4, 9 - kernel[0] + 1, 10 - kernel[1] + 1), dtype)
        options = {"padding": 2, "algorithm": "winograd"}
        assert_same(fastconv.conv2d, naive.conv2d, (x, weight), options, tolerance=tolerance)
        assert_same(fastconv.conv2d_backward, naive.conv2d_backward, (dout, x, weight), {**options, "need": (True, False, False)}, tolerance=tolerance)
"""


@pytest.mark.parametrize("setting", ["FASTCONV_ISA=avx2", "FASTCONV_ISA=sse", "NUMBA_DISABLE_JIT=1"])
def test_smaller_vectors_and_plain_loops(setting):
    name, value = setting.split("=")
    if name == "FASTCONV_ISA" and value not in fastconv.instruction_set.available():
        value = "generic"
    program = PROGRAM.replace("((1, 3, 9, 5), (2, 20, 7, 35), (1, 40, 13, 17))", "((1, 3, 6, 4),)") if name == "NUMBA_DISABLE_JIT" else PROGRAM
    run(program, **{name: value})


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("padding", [((1, 5), (1, 1)), ((1, 1), (1, 6)), ((4, 1), (1, 1))], ids=str)
def test_gradients_of_windows_in_padding_alone_count_for_nothing(padding, dtype):
    """However large they are: no tile mixes them with others."""
    rng = np.random.default_rng(3)
    x, weight = rng.standard_normal((2, 16, 9, 10)).astype(dtype), rng.standard_normal((16, 16, 3, 3)).astype(dtype)
    dout = rng.standard_normal(fastconv.conv2d(x, weight, padding=padding).shape).astype(dtype)
    (top, bottom), (left, right) = padding
    dout[:, :, :max(0, top - 2)] = dout[:, :, dout.shape[2] - max(0, bottom - 2):] = 1e30
    dout[:, :, :, dout.shape[3] - max(0, right - 2):] = 1e30
    dx, dweight, _ = fastconv.conv2d_backward(dout, x, weight, padding=padding, algorithm="winograd")
    one, other, _ = fastconv.conv2d_backward(np.where(dout == dout.dtype.type(1e30), 0, dout), x, weight, padding=padding, algorithm="direct")
    tolerance = 1e-5 if dtype == "f4" else 1e-13
    assert np.abs(dx - one).max() <= tolerance * np.abs(one).max() and np.abs(dweight - other).max() <= tolerance * np.abs(other).max()
