"""Depthwise convolution: the kernels against the plain loops on nasty shapes, and each intrinsic against its twin."""
import itertools
import math

import numpy as np
import pytest
from numba import njit

import fastconv
from fastconv.blocking import depthwise
from fastconv.blocking.shape import Shape
from fastconv.instruction_set import isa
from fastconv.kernels import simd, simd_depthwise, simd_depthwise_rolls
from fastconv.kernels.simd_depthwise import MIDDLE, RELU, RESIDUAL
from fastconv.kernels.simd_depthwise_rolls import ADD, ONE_TWO, TWO_ONE
from fastconv.kernels.tiles import VECTOR_BYTES
from naive.conv import conv2d, conv2d_backward

EACH_DTYPE = pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["f4", "f8"])
LANES = simd.lanes(np.float32)

@pytest.fixture(autouse=True)
def row_by_row(monkeypatch):
    """However short the vectors are: planes side by side have tests of their own."""
    monkeypatch.setattr(depthwise, "PLANES_BYTES", 0)
    monkeypatch.setattr(depthwise, "WEIGHT_BYTES", 0)


# N C M, H W, KH KW, stride, padding ((top, bottom), (left, right)), dilation
SHAPES = [
    (1, 1, 1, 1, 1, 1, 1, (1, 1), ((0, 0), (0, 0)), (1, 1)),
    (2, 3, 1, 1, 1, 3, 3, (1, 1), ((1, 1), (1, 1)), (1, 1)),
    (1, 2, 2, 1, 1, 3, 3, (2, 2), ((2, 2), (2, 2)), (1, 1)),
    (2, 3, 1, 7, 7, 3, 3, (1, 1), ((1, 1), (1, 1)), (1, 1)),
    (1, 2, 3, 8, 9, 3, 3, (1, 1), ((0, 2), (2, 0)), (1, 1)),
    (1, 2, 1, 16, LANES - 1, 3, 3, (1, 1), ((1, 1), (1, 1)), (1, 1)),
    (1, 1, 2, 5, LANES, 3, 3, (1, 1), ((1, 1), (1, 1)), (1, 1)),
    (1, 2, 1, 9, LANES + 1, 3, 3, (1, 1), ((1, 1), (1, 1)), (1, 1)),
    (1, 1, 1, 11, 3 * LANES + 2, 3, 3, (1, 1), ((0, 0), (0, 0)), (1, 1)),
    (1, 1, 1, 4, 4 * LANES, 3, 3, (1, 1), ((3, 1), (4, 5)), (1, 1)),
    (1, 2, 1, 14, 14, 3, 3, (2, 2), ((1, 1), (1, 1)), (1, 1)),
    (2, 1, 3, 9, 11, 3, 3, (2, 2), ((0, 1), (0, 1)), (1, 1)),
    (1, 1, 1, 17, 2 * LANES + 1, 3, 3, (2, 2), ((1, 0), (2, 2)), (1, 1)),
    (1, 1, 2, 30, 4 * LANES - 1, 3, 3, (2, 2), ((2, 1), (1, 2)), (1, 1)),
    (1, 2, 1, 9, 2 * LANES + 3, 5, 5, (1, 1), ((2, 2), (2, 2)), (1, 1)),
    (1, 1, 2, 5, 6, 5, 5, (1, 1), ((4, 4), (4, 4)), (1, 1)),
    (1, 2, 2, 13, LANES + 5, 5, 5, (2, 2), ((2, 1), (2, 1)), (1, 1)),
    (1, 1, 2, 8, LANES + 1, 7, 7, (1, 1), ((3, 3), (3, 3)), (1, 1)),
    (1, 2, 1, 9, 8, 2, 2, (1, 1), ((0, 1), (1, 0)), (1, 1)),
    (1, 2, 2, 9, 2 * LANES + 4, 4, 4, (2, 2), ((1, 1), (1, 1)), (1, 1)),
    (1, 1, 2, 10, LANES + 4, 2, 6, (1, 2), ((1, 0), (3, 5)), (1, 1)),
    (1, 2, 1, 12, 13, 3, 3, (3, 3), ((1, 1), (1, 1)), (1, 1)),
    (1, 2, 2, 11, 3 * LANES, 2, 2, (4, 5), ((0, 0), (1, 1)), (1, 1)),
    (1, 1, 1, 9, 10, 1, 1, (2, 3), ((0, 0), (0, 0)), (1, 1)),
    (1, 1, 2, 12, LANES + 7, 3, 3, (1, 1), ((2, 2), (2, 2)), (2, 2)),
    (1, 2, 1, 13, LANES + 2, 3, 3, (2, 2), ((2, 3), (2, 3)), (2, 3)),
    (1, 1, 1, 15, 3 * LANES + 1, 3, 2, (3, 4), ((4, 4), (2, 2)), (2, 2)),
    (1, 1, 2, 6, 20, 3, 3, (2, 1), ((1, 1), (1, 1)), (1, 1)),
    (1, 2, 1, 6, 2 * LANES + 2, 3, 3, (1, 2), ((1, 1), (1, 1)), (1, 1)),
    (1, 1, 2, 1, 5 * LANES + 3, 1, 9, (1, 1), ((0, 0), (4, 4)), (1, 1)),
    (1, 1, 65, 2, 3, 3, 3, (1, 1), ((1, 1), (1, 1)), (1, 1)),
    (1, 1, 65, 2, 3, 3, 3, (2, 2), ((1, 1), (1, 1)), (1, 1)),
    (0, 2, 1, 5, 5, 3, 3, (1, 1), ((1, 1), (1, 1)), (1, 1)),
]


def shape_of(N, C, M, H, W, KH, KW, stride, padding, dilation, dtype):
    OH, OW = ((size + sum(pads) - d * (kernel - 1) - 1) // s + 1
              for size, kernel, s, pads, d in zip((H, W), (KH, KW), stride, padding, dilation))
    return Shape(N, C, H, W, C * M, OH, OW, KH, KW, *stride, padding[0][0], padding[1][0], *dilation, C, np.dtype(dtype).itemsize)


def arguments(shape, draw, dtype):
    """x, weight, bias, residual or dout."""
    s = shape
    return [draw(size).astype(dtype) for size in ((s.N, s.C, s.H, s.W), (s.F, 1, s.KH, s.KW), (s.F,), (s.N, s.F, s.OH, s.OW))]


def integers(seed):
    rng = np.random.default_rng(seed)
    return lambda size: rng.integers(-8, 9, size)


def cut(stage, tasks, **changed):
    """The stage with other tasks: fewer or more units in each, more bands or parts."""
    job = stage.job.copy()
    for name, value in {"tasks": tasks, **changed}.items():
        job[depthwise.kernels.JOB.index(name)] = value
    return stage._replace(job=job, tasks=tasks, parts=changed.get("parts", 1))


def run(stage, src, weight, shape, bias=None, residual=None):
    """The result, task by task from the last to the first; nothing is written beside it."""
    dtype, n = src.dtype, math.prod(shape)
    none, whole = np.empty(0, dtype), np.full(n + 2 * LANES, 77, dtype)
    bias, residual = (none if extra is None else extra.reshape(-1) for extra in (bias, residual))
    result = whole[LANES:LANES + n]
    for t in reversed(range(stage.tasks)):
        stage.kernel(t, t + 1, src.reshape(-1), weight.reshape(-1), result, bias, residual, stage.job, stage.table)
    assert (whole[:LANES] == 77).all() and (whole[LANES + n:] == 77).all()
    return result.reshape(shape)


def gradient_to_weight(stage, x, dout, weight, dbias=None):
    """dweight; dbias too, where the stage has it and there is room for it."""
    dweight = np.full_like(weight, 77)
    parts = np.full((stage.parts, len(weight)), 77, weight.dtype) if stage.bias and dbias is not None else None
    depthwise.add_parts(run(stage, x, dout, (stage.parts, *np.delete(weight.shape, 1)), parts), dweight)
    if parts is not None:
        dbias[...] = parts.sum(0, dtype=np.float64)
    return dweight


def options(shape, padding):
    return {"stride": (shape.SH, shape.SW), "padding": padding, "dilation": (shape.DH, shape.DW), "groups": shape.C}


@EACH_DTYPE
@pytest.mark.parametrize("case", SHAPES, ids=str)
def test_integers_are_exact(case, dtype):
    """Forward and both gradients, whatever the tasks."""
    shape = shape_of(*case, dtype)
    x, weight, bias, dout = arguments(shape, integers(1), dtype)
    how = options(shape, case[8])
    wanted_dx, wanted_dweight, wanted_dbias = conv2d_backward(dout, x, weight, bias, **how)
    wanted = conv2d(x, weight, bias, **how)
    planes = shape.N * shape.F, shape.N * shape.C
    for bands, groups, parts in ((1, 1, 1), (2, shape.F, 2)):
        stage = cut(depthwise.forward(shape), max(1, planes[0]), bands=bands, units=bands * planes[0])
        assert np.array_equal(run(stage, x, weight, dout.shape, bias), wanted)
        stage = cut(depthwise.to_input(shape), 2, bands=bands, units=bands * planes[1])
        assert np.array_equal(run(stage, dout, weight, x.shape), wanted_dx)
        stage = cut(depthwise.to_weight(shape), groups * parts, parts=parts)
        dbias = np.full_like(bias, 77)
        assert np.array_equal(gradient_to_weight(stage, x, dout, weight, dbias), wanted_dweight)
        assert np.array_equal(dbias, wanted_dbias if stage.bias else np.full_like(bias, 77))
        assert stage.bias == ((shape.KH, shape.KW, *case[9]) == (3, 3, 1, 1) and case[7] in ((1, 1), (2, 2)))


def check_nan_and_inf(shape, padding, dtype):
    """They reach what they do in the loops."""
    how = options(shape, padding)
    for seed, odd in enumerate([np.nan, np.inf, -np.inf] * 2):
        x, weight, bias, dout = arguments(shape, integers(seed), dtype)
        rng = np.random.default_rng(seed)
        for array in (x, dout):
            array.flat[[0, -1, rng.integers(array.size)][seed % 3]] = odd
        if seed > 3:
            weight.flat[rng.integers(weight.size)] = odd
        with np.errstate(all="ignore"):
            wanted = conv2d(x, weight, bias, **how), *conv2d_backward(dout, x, weight, bias, **how)
        dbias, stage = np.empty_like(bias), depthwise.to_weight(shape)
        got = (run(depthwise.forward(shape), x, weight, dout.shape, bias), run(depthwise.to_input(shape), dout, weight, x.shape),
               gradient_to_weight(stage, x, dout, weight, dbias), dbias)
        for a, b in zip(got[:4 if stage.bias else 3], wanted):
            assert np.array_equal(a, b, equal_nan=True)


def check_bias_residual_and_relu(shape, padding, dtype):
    x, weight, bias, residual = arguments(shape, integers(2), dtype)
    x.flat[x.size // 2] = np.nan
    plain = conv2d(x, weight, **options(shape, padding))
    for with_bias, with_residual, relu in itertools.product((False, True), repeat=3):
        wanted = plain + (bias[:, None, None] if with_bias else 0) + (residual if with_residual else 0)
        if relu:
            wanted = np.where(wanted < 0, 0, wanted)
        extras = bias if with_bias else None, residual if with_residual else None
        got = run(depthwise.forward(shape, relu=relu), x, weight, residual.shape, *extras)
        assert np.array_equal(got, wanted, equal_nan=True)


@EACH_DTYPE
@pytest.mark.parametrize("case", [SHAPES[i] for i in (3, 4, 7, 11, 13, 14, 19, 22)], ids=str)
def test_nan_and_inf_reach_what_they_do_in_the_loops(case, dtype):
    check_nan_and_inf(shape_of(*case, dtype), case[8], dtype)


@EACH_DTYPE
@pytest.mark.parametrize("case", [SHAPES[i] for i in (3, 8, 12, 15, 19, 22, 29)], ids=str)
def test_bias_residual_and_relu(case, dtype):
    check_bias_residual_and_relu(shape_of(*case, dtype), case[8], dtype)


def by_taps(x, weight, dout, padding):
    """y, dx and dweight of stride 1 in float64, a tap at a time; one channel."""
    (KH, KW), (OH, OW), x = weight.shape[2:], dout.shape[2:], np.pad(x.astype(np.float64), ((0, 0), (0, 0), *padding))
    y, dx, dweight = np.zeros(dout.shape), np.zeros(x.shape), np.zeros(weight.shape)
    for kh, kw in np.ndindex(KH, KW):
        window = np.s_[:, :, kh:kh + OH, kw:kw + OW]
        y += x[window] * float(weight[0, 0, kh, kw])
        dx[window] += dout * float(weight[0, 0, kh, kw])
        dweight[0, 0, kh, kw] = (x[window] * dout).sum()
    (top, bottom), (left, right) = padding
    return y, dx[:, :, top:dx.shape[2] - bottom, left:dx.shape[3] - right], dweight


@EACH_DTYPE
@pytest.mark.parametrize("H, W, KH, KW", [(700, 900, 3, 3), (3, 20000, 3, 3), (4, 3000, 1, 1201), (50, 60, 31, 31), (64, 3000, 5, 5)])
def test_long_sums_stay_accurate(H, W, KH, KW, dtype):
    """More terms than one chain takes, and an image that is cut into parts."""
    padding = ((KH // 2, KH // 2), (KW // 2, KW // 2))
    shape = shape_of(1, 1, 1, H, W, KH, KW, (1, 1), padding, (1, 1), dtype)
    x, weight, _, dout = arguments(shape, lambda size: 1 + np.random.default_rng(3).standard_normal(size), dtype)
    stage = depthwise.to_weight(shape)
    assert stage.parts > 1 or shape.flops < 8e6
    got = run(depthwise.forward(shape), x, weight, dout.shape), run(depthwise.to_input(shape), dout, weight, x.shape), \
        gradient_to_weight(stage, x, dout, weight)
    for name, a, b in zip(("y", "dx", "dweight"), got, by_taps(x, weight, dout, padding)):
        error = np.abs(a - b).max() / np.abs(b).max()
        assert error < (2e-6 if dtype == np.float32 else 1e-13), (name, error)


@pytest.mark.parametrize("KH, KW, M", [(1, 1201, 1), (31, 31, 1), (3, 3, 200)])
def test_no_chain_is_longer_than_512_terms(KH, KW, M):
    shape = shape_of(1, 1, M, 40, 1300, KH, KW, (1, 1), ((1, 1), (1, 1)), (1, 1), np.float32)
    for stage in (depthwise.forward(shape), depthwise.to_input(shape)):
        if stage.kernel is depthwise.rolls.forward:          # nine terms
            continue
        entries = stage.table[:6 * stage.job[depthwise.kernels.JOB.index("entries")]].reshape(-1, 6)
        filters = M if stage.kernel is depthwise.kernels.to_input else 1
        assert entries[:, 4].sum() == KH * KW * filters
        chain = 0
        for *_, taps, cut_here in entries.tolist():
            chain += taps
            assert chain <= 512
            chain = 0 if cut_here else chain


@EACH_DTYPE
def test_bits_do_not_depend_on_the_grouping(dtype):
    shape = shape_of(3, 5, 2, 20, 37, 3, 3, (1, 1), ((1, 1), (1, 1)), (1, 1), dtype)
    x, weight, bias, dout = arguments(shape, np.random.default_rng(4).standard_normal, dtype)
    for stage, src, other, size in ((depthwise.forward(shape), x, weight, dout.shape), (depthwise.to_input(shape), dout, weight, x.shape),
                                    (depthwise.to_weight(shape), x, dout, weight.shape)):
        assert stage.tasks >= 5
        whole, none = np.empty(math.prod(size), dtype), np.empty(0, dtype)
        stage.kernel(0, stage.tasks, src.reshape(-1), other.reshape(-1), whole, none, none, stage.job, stage.table)
        assert np.array_equal(whole, run(stage, src, other, size).reshape(-1))


def test_one_image_is_work_for_all_cores():
    for case in ((1, 32, 1, 112, 112), (1, 1, 1, 1080, 1920), (1, 3, 1, 512, 512), (64, 1, 1, 100, 100)):
        shape = shape_of(*case, 3, 3, (1, 1), ((1, 1), (1, 1)), (1, 1), np.float32)
        for stage in (depthwise.forward(shape), depthwise.to_input(shape), depthwise.to_weight(shape)):
            assert stage.tasks >= min(8, shape.flops // 4e6)
            assert stage.workspace < 2 ** 20


@pytest.mark.parametrize("stride", [1, 2])
def test_a_residual_may_be_the_result(stride):
    """It is added when the convolution stands in the result."""
    x, weight = integers(0)((2, 3, 14, 40)).astype(np.float32), integers(1)((3, 1, 3, 3)).astype(np.float32)
    how = dict(stride=stride, padding=1, groups=3)
    convolved = conv2d(x, weight, None, **how)
    residual = integers(2)(convolved.shape).astype(np.float32)
    layer = fastconv.Conv2d(weight, activation="relu", **how)
    for _ in range(3):                       # the first call, and those that are remembered
        y = residual.copy()
        assert layer(x, y, out=y) is y and np.array_equal(y, np.maximum(convolved + residual, 0))


# ---------------------------------------------------------------- the intrinsics alone
@njit
def tile_of_seven(args, src, weight, dst, residual, zeros):
    at, height, width, row, col, taps, w_at, w_row, w_tap, to, d_row, valid, columns, flags = args
    simd_depthwise.row_tile(MIDDLE, 7, 1, src, at, height, width, row, col, taps, weight, w_at, w_row, w_tap, dst, to, d_row, valid, columns,
                            src[0], residual, flags, zeros, 200)


@njit
def tile_of_five(args, src, weight, dst, residual, zeros):
    at, height, width, row, col, taps, w_at, w_row, w_tap, to, d_row, valid, columns, flags = args
    simd_depthwise.row_tile(MIDDLE, 5, 2, src, at, height, width, row, col, taps, weight, w_at, w_row, w_tap, dst, to, d_row, valid, columns,
                            src[0], residual, flags, zeros, 200)


@EACH_DTYPE
@pytest.mark.parametrize("tile, literals, taps", [(tile_of_seven, (MIDDLE, 7, 1), 3), (tile_of_five, (MIDDLE, 5, 2), 4)], ids=["seven", "five"])
def test_row_tile(tile, literals, taps, dtype):
    draw = integers(5)
    height, width = 9, 2 * LANES + 3
    src, weight, zeros = draw(3 * height * width).astype(dtype), draw(50).astype(dtype), np.zeros(width + 400, dtype)
    for plane, missing, columns, flags in ((0, 0, width, 0), (1, 1, 3 * LANES + 1, RELU), (2, 0, 5, RELU | RESIDUAL),
                                           (1, 0, 4 * LANES, RESIDUAL)):
        for row, col in ((-2, -1), (0, 0), (height - 3, 2), (height + 1, -5)):
            valid, d_row = literals[0] - missing, columns + 2
            residual = draw(2 + literals[0] * d_row + columns).astype(dtype)
            wanted = np.full(residual.size, 77, dtype)
            dst = wanted.copy()
            args = (plane * height * width, height, width, row, col, taps, 10, 5, 1, 2, d_row, valid, columns, flags)
            tile(args, src, weight, dst, residual, zeros)
            before = args[:6], args[6:9], args[9:13]
            simd_depthwise._row_tile(*literals, src, *before[0], weight, *before[1], wanted, *before[2], src[0], residual, flags, zeros,
                                     200)
            assert np.array_equal(dst, wanted)


def roller(stride, adds):
    @njit
    def roll(args, src, weight, dst, zeros):
        at, height, width, row, col, w_at, w_row, w_tap, to, d_row, rows, columns, flags, ahead = args
        simd_depthwise_rolls.roll_tile(stride, adds, src, at, height, width, row, col, weight, w_at, w_row, w_tap, dst, to, d_row, rows, columns, src[0],
                                       flags, zeros, 200, ahead)

    return roll


@EACH_DTYPE
@pytest.mark.parametrize("literals", [(1, 0), (1, 1), (2, 0)], ids=["one", "one_more", "two"])
def test_roll_tile(literals, dtype):
    """A row of zeros is read where a row is outside: a bit of what lies around the plane, or a result too many, would show."""
    tile = roller(*literals)
    draw = integers(8)
    height, width = 9, 2 * LANES + 3
    src, weight, zeros = draw(3 * height * width).astype(dtype), draw(40).astype(dtype), np.zeros(width + 400, dtype)
    for plane, rows, columns, flags, ahead in ((0, 1, width, 0, 0), (1, 7, 3 * LANES + 1, RELU, 5), (2, 9, 5, RELU | ADD, 0), (1, 4, 4 * LANES, ADD, 900)):
        for row, col in ((-2, -1), (0, 0), (-1, 0), (height - 3, 2), (height + 1, -5), (1, width - 2), (0, width + 3)):
            d_row = columns + 2
            wanted = draw(2 + rows * d_row + LANES).astype(dtype)
            dst = wanted.copy()
            args = (plane * height * width, height, width, row, col, 10, 5, -1, 2, d_row, rows, columns, flags, ahead)
            tile(args, src, weight, dst, zeros)
            simd_depthwise_rolls._roll_tile(*literals, src, *args[:5], weight, *args[5:8], wanted, *args[8:12], src[0], flags, zeros, 200, ahead)
            assert np.array_equal(dst, wanted)


@njit
def pair(args, src, weight, dst, bias, zeros):
    planes, at, src_plane, height, width, row, w_at, w_row, w_tap, to, rows, columns, b_at, flags, ahead = args
    simd_depthwise_rolls.pair_tile(planes, src, at, src_plane, height, width, row, weight, w_at, w_row, w_tap, dst, to, rows, columns, bias, b_at, flags,
                                   zeros, 200, ahead)


@EACH_DTYPE
@pytest.mark.skipif(VECTOR_BYTES != 64, reason="only vectors of 64 bytes")
def test_pair_tile(dtype):
    """Also planes with more rows above than one, or none below, and of one column; nothing behind a plane is written."""
    draw, lanes = integers(10), simd.lanes(dtype)
    cases = ((7, 14, lanes - 2, -1, 0, 0), (8, 16, lanes, -1, RELU, 9), (7, 12, lanes - 3, -2, 0, 0), (8, 17, 1, 0, 0, 900))
    for rows, height, width, row, flags, ahead in cases:
        columns, size = (width - 1) // 2 + 1, height * width
        src, weight, zeros = draw(5 * size).astype(dtype), draw(60).astype(dtype), np.zeros(width + 400, dtype)
        for bias in (draw(9).astype(dtype), np.empty(0, dtype)):
            wanted = draw(2 + 3 * rows * columns + lanes).astype(dtype)
            dst = wanted.copy()
            args = (3, size, size, height, width, row, 10, 3, 1, 2, rows, columns, 4, flags, ahead)
            pair(args, src, weight, dst, bias, zeros)
            simd_depthwise_rolls._pair_tile(*args[:1], src, *args[1:6], weight, *args[6:9], wanted, *args[9:12], bias, 4, flags, zeros, 200, ahead)
            assert np.array_equal(dst, wanted)


def spreader(form, adds):
    @njit
    def spread(args, src, weight, dst, zeros):
        at, height, width, row, col, w_at, to, d_row, rows, columns, flags, ahead = args
        simd_depthwise_rolls.spread_tile(form, adds, src, at, height, width, row, col, weight, w_at, dst, to, d_row, rows, columns, flags, zeros, 200, ahead)

    return spread


@EACH_DTYPE
@pytest.mark.parametrize("literals", [(TWO_ONE, 1), (ONE_TWO, 0)], ids=["two_one", "one_two"])
def test_spread_tile(literals, dtype):
    tile, draw = spreader(*literals), integers(9)
    height, width = 5, LANES + 3
    src, weight, zeros = draw(3 * height * width).astype(dtype), draw(40).astype(dtype), np.zeros(width + 400, dtype)
    for plane, rows, columns, flags, ahead in ((0, 1, 2 * width, 0, 0), (1, 6, 2 * LANES + 1, 0, 5), (2, 9, 5, ADD, 0), (1, 4, 4 * LANES, ADD, 900)):
        for row, col in ((0, -1), (1, 0), (2, 1), (2 * height - 3, 2), (2 * height + 3, -4), (1, width - 1)):
            d_row = columns + 2
            wanted = draw(2 + rows * d_row + LANES).astype(dtype)
            dst = wanted.copy()
            args = (plane * height * width, height, width, row, col, 10, 2, d_row, rows, columns, flags, ahead)
            tile(args, src, weight, dst, zeros)
            simd_depthwise_rolls._spread_tile(*literals, src, *args[:5], weight, 10, wanted, *args[6:10], flags, zeros, 200, ahead)
            assert np.array_equal(dst, wanted)


@njit
def any_single(args, src, weight, table, dst, residual, zeros):
    at, height, width, row, col, row_step, lane_step, tap_step, w_at, w_tap, first, middle, end, to, d_row, valid, columns, flags = args
    simd_depthwise.any_tile(MIDDLE, 0, 1, src, at, height, width, row, col, row_step, lane_step, tap_step, weight, w_at, w_tap, table,
                            first, middle, end, dst, to, d_row, valid, columns, src[0], residual, flags, zeros, 200)


@njit
def any_double(args, src, weight, table, dst, residual, zeros):
    at, height, width, row, col, row_step, lane_step, tap_step, w_at, w_tap, first, middle, end, to, d_row, valid, columns, flags = args
    simd_depthwise.any_tile(MIDDLE, 2, 2, src, at, height, width, row, col, row_step, lane_step, tap_step, weight, w_at, w_tap, table,
                            first, middle, end, dst, to, d_row, valid, columns, src[0], residual, flags, zeros, 200)


@EACH_DTYPE
@pytest.mark.parametrize("tile, literals, lane_step", [(any_single, (MIDDLE, 0, 1), 3), (any_double, (MIDDLE, 2, 2), 2)],
                         ids=["any", "double"])
def test_any_tile(tile, literals, lane_step, dtype):
    draw = integers(6)
    height, width, columns = 9, 3 * LANES + 5, LANES + 3
    src, weight, zeros = draw(3 * height * width).astype(dtype), draw(60).astype(dtype), np.zeros(width + 400, dtype)
    size = height * width
    table = np.array([[0, -1, 2, 3, 5, 0], [0, 1, -7, 20, 2, 1], [size, 0, 4, 9, 3, 0], [0, 2, 0, 30, 4, 1], [0, 0, 1, 2, 1, 0]], np.int64)
    for at, tap_step, row, col, flags in ((0, 1, 0, 0, 0), (size, 1, -2, -4, RELU), (0, -2, 5, 9, RESIDUAL), (size, 3, 2, 30, 0)):
        d_row = columns + 1
        residual = draw(3 + 5 * d_row).astype(dtype)
        wanted = np.full(residual.size, 77, dtype)
        dst = wanted.copy()
        numbers = (at, height, width, row, col, 2, lane_step, tap_step), (4, 1), (0, 3, 5), (3, d_row, 3, columns)
        tile((*numbers[0], *numbers[1], *numbers[2], *numbers[3], flags), src, weight, table.reshape(-1), dst, residual, zeros)
        simd_depthwise._any_tile(*literals, src, *numbers[0], weight, *numbers[1], table.reshape(-1), *numbers[2], wanted, *numbers[3],
                                 src[0], residual, flags, zeros, 200)
        assert np.array_equal(dst, wanted)


@njit
def taps_of_five(args, src, dout, sums, zeros):
    planes, at, src_plane, height, width, row, col, row_step, lane_step, d_at, d_plane, d_row, columns, to, sums_plane, sums_row = args
    simd_depthwise.tap_tile(MIDDLE, 5, 2, planes, src, at, src_plane, height, width, row, col, row_step, lane_step, dout, d_at, d_plane, d_row,
                            columns, sums, to, sums_plane, sums_row, zeros, 200)


@njit
def tap_of_one(args, src, dout, sums, zeros):
    planes, at, src_plane, height, width, row, col, row_step, lane_step, d_at, d_plane, d_row, columns, to, sums_plane, sums_row = args
    simd_depthwise.tap_tile(1, 1, 0, planes, src, at, src_plane, height, width, row, col, row_step, lane_step, dout, d_at, d_plane, d_row,
                            columns, sums, to, sums_plane, sums_row, zeros, 200)


@EACH_DTYPE
@pytest.mark.parametrize("tile, literals, steps", [(taps_of_five, (MIDDLE, 5, 2), (2, 2)), (tap_of_one, (1, 1, 0), (1, 3))], ids=["five", "one"])
def test_tap_tile(tile, literals, steps, dtype):
    draw, lanes = integers(7), simd.lanes(dtype)
    height, width, columns = 11, 2 * LANES + 3, LANES + 2
    src, dout, zeros = draw(2 * height * width).astype(dtype), draw(2 * 9 * columns).astype(dtype), np.zeros(width + 400, dtype)
    for row, col in ((-1, -1), (0, 0), (3, 4), (-20, 0), (2, width - 2)):
        sums = draw(3 + 36 * lanes).astype(dtype)
        wanted = sums.copy()
        args = (2, 0, height * width, height, width, row, col, *steps), (0, 9 * columns, columns, columns), (3, 16 * lanes, 3)
        tile((*args[0], *args[1], *args[2]), src, dout, sums, zeros)
        simd_depthwise._tap_tile(*literals, args[0][0], src, *args[0][1:], dout, *args[1], wanted, *args[2], zeros, 200)
        assert np.array_equal(sums, wanted)


def summer(stride):
    @njit
    def add(args, src, dout, sums, zeros):
        planes, at, src_plane, height, width, row, col, d_at, d_plane, d_row, rows, columns, to, d_to, ahead = args
        simd_depthwise_rolls.roll_sums(stride, planes, src, at, src_plane, height, width, row, col, dout, d_at, d_plane, d_row, rows, columns, sums, to,
                                       d_to, zeros, 200, ahead)

    return add


@EACH_DTYPE
@pytest.mark.parametrize("stride", [1, 2])
def test_roll_sums(stride, dtype):
    """A pixel that no output reads is inf: times a lane of dout that is not there it would be NaN."""
    tile, draw, lanes = summer(stride), integers(7), simd.lanes(dtype)
    height, width = 11, 3 * LANES + 3
    src, zeros = draw(2 * height * width).astype(dtype).reshape(2, height, width), np.zeros(width + 400, dtype)
    for row, col, rows, columns, ahead in ((-1, -1, 5, LANES + 2, 0), (0, 0, 1, 1, 0), (3, 4, 2, LANES, 7), (-20, 0, 4, 5, 0), (2, width - 2, 9, 3, 900)):
        dout = draw(2 * rows * columns).astype(dtype)
        x = src.copy()
        x[:, :, max(0, col + (columns - 1) * stride + 3):] = np.inf
        x[:, max(0, row + (rows - 1) * stride + 3):] = np.inf
        sums = draw(3 + 22 * lanes).astype(dtype)
        wanted = sums.copy()
        args = (2, 0, height * width, height, width, row, col), (0, rows * columns, columns, rows, columns), (3, 3 + 19 * lanes)
        tile((*args[0], *args[1], *args[2], ahead), x.reshape(-1), dout, sums, zeros)
        simd_depthwise_rolls._roll_sums(stride, 2, x.reshape(-1), *args[0][1:], dout, *args[1], wanted, *args[2], zeros, 200, ahead)
        assert np.isfinite(wanted).all() and np.array_equal(sums, wanted)


@njit
def drain(sums, at, count, total, to):
    simd_depthwise.drain(sums, at, count, total, to)


@EACH_DTYPE
def test_drain(dtype):
    """As many vectors as asked, in whole groups: one more is left as it was."""
    lanes = simd.lanes(dtype)
    for count in (1, lanes, lanes + 1):
        groups = -(-count // lanes) * lanes
        sums = np.arange(2 + (groups + 1) * lanes).astype(dtype)
        twin, total = sums.copy(), np.arange(groups + 4.0)
        twin_total, wanted = total.copy(), total.copy()
        wanted[1:1 + groups] += sums[2:2 + groups * lanes].reshape(groups, lanes).sum(1)
        left = sums.copy()
        left[2:2 + groups * lanes] = 0
        drain(sums, 2, count, total, 1)
        simd_depthwise._drain(twin, 2, count, twin_total, 1)
        assert np.array_equal(total, wanted) and np.array_equal(twin_total, wanted)
        assert np.array_equal(sums, left) and np.array_equal(twin, left)


def test_the_tile_is_vector_multiply_adds():
    """A tile that fell back to scalars, or to library calls, would pass every test of its values."""
    values, tile = np.zeros(900, np.float32), roller(1, 0)
    tile((0, 1, 1, 0, 0, 0, 3, 1, 0, 1, 1, 1, 0, 0), values, values, values.copy(), values)
    register, instruction = {"avx512": ("zmm", "vfmadd"), "avx2": ("ymm", "vfmadd"), "avx": ("ymm", "vmulps"), "neon": ("v", "fmla")}.get(
        isa(), ("xmm", "mulps"))
    lines = [line for assembly in tile.inspect_asm().values() for line in assembly.splitlines()]
    assert len([line for line in lines if instruction in line and register in line]) >= 18
