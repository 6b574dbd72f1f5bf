"""Depthwise convolution of planes side by side: the kernels against the plain loops on nasty shapes, and each intrinsic against its twin."""
import numpy as np
import pytest
from isolated import run as run_alone
from numba import njit
from test_depthwise import (
    EACH_DTYPE,
    arguments,
    check_bias_residual_and_relu,
    check_nan_and_inf,
    cut,
    gradient_to_weight,
    integers,
    options,
    run,
    shape_of,
)

import fastconv
from fastconv.blocking import depthwise
from fastconv.instruction_set import available
from fastconv.kernels import depthwise_planes, simd, simd_depthwise_planes
from fastconv.kernels.simd_depthwise_planes import COLUMNS, TAPS
from naive.conv import conv2d, conv2d_backward


@pytest.fixture(autouse=True)
def side_by_side(monkeypatch):
    """Also where two rows of a result would share a vector."""
    monkeypatch.setattr(depthwise, "_paired", lambda shape: False)


# N, channels beyond a vector of them, M, H, W, KH, KW, stride, padding, dilation: of the smallest vectors W is at most 2 in float64
SHAPES = [
    (2, 1, 1, 7, 7, 3, 3, (1, 1), ((1, 1), (1, 1)), (1, 1)),
    (1, 0, 1, 14, 14, 3, 3, (2, 2), ((1, 1), (1, 1)), (1, 1)),
    (3, 3, 1, 1, 1, 3, 3, (1, 1), ((1, 1), (1, 1)), (1, 1)),
    (2, 1, 1, 9, 2, 3, 3, (1, 1), ((1, 1), (1, 1)), (1, 1)),
    (1, 5, 1, 12, 2, 2, 3, (2, 2), ((0, 1), (1, 1)), (1, 1)),
    (2, 0, 1, 4, 4, 3, 2, (1, 1), ((2, 0), (0, 1)), (1, 1)),
    (1, 2, 1, 5, 6, 3, 3, (2, 2), ((1, 1), (1, 1)), (1, 1)),
    (2, 0, 1, 6, 5, 3, 3, (2, 3), ((1, 2), (2, 1)), (1, 1)),
    (1, 1, 1, 7, 8, 2, 2, (3, 4), ((0, 0), (1, 1)), (1, 1)),
    (1, 0, 1, 8, 7, 3, 3, (1, 1), ((2, 2), (2, 2)), (2, 2)),
    (1, 1, 1, 9, 8, 3, 3, (2, 2), ((2, 3), (2, 3)), (2, 3)),
    (2, 1, 1, 7, 7, 5, 5, (1, 1), ((2, 2), (2, 2)), (1, 1)),
    (1, 1, 1, 7, 7, 5, 4, (2, 2), ((2, 2), (1, 2)), (1, 1)),
    (1, 0, 1, 5, 5, 2, 2, (1, 1), ((3, 3), (3, 3)), (1, 1)),
    (1, 0, 1, 2, 2, 1, 1, (2, 2), ((0, 0), (0, 0)), (1, 1)),
    (11, 2, 1, 7, 7, 3, 3, (1, 1), ((1, 1), (1, 1)), (1, 1)),
]


def whole(case, dtype):
    """Its shape."""
    N, more, *others = case
    return shape_of(N, simd.lanes(dtype) + more, *others, dtype)


def each_small(*cases):
    """Those cases, in either dtype, whose rows are no longer than the vectors of this instruction set."""
    shapes = [(case, dtype, whole(case, dtype)) for case in cases for dtype in (np.float32, np.float64)]
    fitting = [(case, dtype) for case, dtype, shape in shapes if max(shape.W, shape.OW) <= simd.lanes(dtype)]
    assert len(fitting) >= len(cases) // 2
    return pytest.mark.parametrize("case, dtype", fitting, ids=str)


def small(case, dtype):
    """Its shape, which these kernels take."""
    shape = whole(case, dtype)
    for stage, kernel in ((depthwise.forward(shape), depthwise_planes.results), (depthwise.to_input(shape), depthwise_planes.results),
                          (depthwise.to_weight(shape), depthwise_planes.to_weight)):
        assert stage.kernel is kernel
    return shape


@each_small(*SHAPES)
def test_integers_are_exact(case, dtype):
    """Forward and both gradients, whatever the tasks: more parts than images, too."""
    shape = small(case, dtype)
    x, weight, bias, dout = arguments(shape, integers(1), dtype)
    how = options(shape, case[8])
    wanted_dx, wanted_dweight, wanted_dbias = conv2d_backward(dout, x, weight, bias, **how)
    for tasks, groups, parts in ((1, 1, 1), (2, 2, 2), (3, 1, 4)):
        assert np.array_equal(run(cut(depthwise.forward(shape), tasks), x, weight, dout.shape, bias), conv2d(x, weight, bias, **how))
        assert np.array_equal(run(cut(depthwise.to_input(shape), tasks), dout, weight, x.shape), wanted_dx)
        for dbias in (None, np.full_like(bias, 77)):
            stage = cut(depthwise.to_weight(shape), groups * parts, parts=parts)
            assert np.array_equal(gradient_to_weight(stage, x, dout, weight, dbias), wanted_dweight)
        assert np.array_equal(dbias, wanted_dbias)


@each_small(*(SHAPES[i] for i in (0, 1, 3, 4, 6, 10, 12, 13)))
def test_nan_and_inf_reach_what_they_do_in_the_loops(case, dtype):
    check_nan_and_inf(small(case, dtype), case[8], dtype)


@each_small(*(SHAPES[i] for i in (0, 3, 4, 6)))
def test_bias_residual_and_relu(case, dtype):
    check_bias_residual_and_relu(small(case, dtype), case[8], dtype)


@EACH_DTYPE
def test_a_prepared_layer_writes_over_its_residual(dtype):
    """Also where the sums go there first."""
    C = 2 * simd.lanes(dtype)
    x, weight, residual = (integers(seed)(size).astype(dtype) for seed, size in enumerate(((2, C, 2, 2), (C, 1, 3, 3), (2, C, 2, 2))))
    layer = fastconv.Conv2d(weight, padding=1, groups=C, activation="relu")
    wanted = np.maximum(conv2d(x, weight, None, padding=1, groups=C) + residual, 0)
    for _ in range(3):                       # the first call, and those that are remembered
        y = residual.copy()
        assert layer(x, y, out=y) is y and np.array_equal(y, wanted)
        assert np.array_equal(layer(x, residual), wanted)


def test_sums_over_many_images_stay_accurate():
    """More terms than one chain takes: its partial sums are added in float64."""
    lanes = simd.lanes(np.float32)
    shape = shape_of(700, lanes, 1, 4, 4, 1, 1, (1, 1), ((0, 0), (0, 0)), (1, 1), np.float32)
    x, weight, _, dout = arguments(shape, lambda size: 1 + np.random.default_rng(3).random(size), np.float32)
    truth = (x.astype(np.float64) * dout).sum((0, 2, 3))
    dbias = np.empty(lanes, np.float32)
    got = gradient_to_weight(cut(depthwise.to_weight(shape), 1, parts=1), x, dout, weight, dbias)
    assert abs(got.ravel() / truth - 1).max() < 3e-7
    assert abs(dbias / dout.sum((0, 2, 3), dtype=np.float64) - 1).max() < 3e-7


@EACH_DTYPE
def test_bits_do_not_depend_on_the_grouping(dtype):
    """All tasks in one call of a kernel, and each in its own."""
    shape = small((3, 3 * simd.lanes(dtype), 1, 7, 2, 3, 3, (1, 2), ((1, 1), (1, 1)), (1, 1)), dtype)
    x, weight, bias, dout = arguments(shape, np.random.default_rng(4).standard_normal, dtype)
    for stage, src, other, size in ((cut(depthwise.forward(shape), 5), x, weight, dout.shape), (cut(depthwise.to_input(shape), 5), dout, weight, x.shape),
                                    (cut(depthwise.to_weight(shape), 6, parts=3), x, dout, (3, *weight.shape))):
        whole, none = np.empty(size, dtype), np.empty(0, dtype)
        stage.kernel(0, stage.tasks, src.reshape(-1), other.reshape(-1), whole.reshape(-1), none, none, stage.job, stage.table)
        assert np.array_equal(whole, run(stage, src, other, size))
        assert stage.workspace < 2 ** 20


def test_planes_that_are_not_small_or_few_go_row_by_row():
    lanes = simd.lanes(np.float32)
    same = 3, 3, (1, 1), ((1, 1), (1, 1)), (1, 1)
    for N, C, M, H, W in ((2, lanes, 1, 4, lanes + 1), (2, lanes - 1, 1, 4, 4), (2, lanes, 2, 4, 4), (2, lanes, 1, 600, 1), (0, lanes, 1, 600, 4)):
        shape = shape_of(N, C, M, H, W, *same, np.float32)
        for stage in (depthwise.forward(shape), depthwise.to_input(shape), depthwise.to_weight(shape)):
            assert stage.kernel not in (depthwise_planes.results, depthwise_planes.to_weight)


PROGRAM = """
import numpy as np, fastconv, naive
from fastconv.testing import assert_same
rng = np.random.default_rng(0)
for dtype, C, W in ((np.float32, 9, 4), (np.float64, 5, 2)):
    for kernel, stride, padding, dilation in ((3, 1, 1, 1), (3, 2, 1, 1), ((2, 3), (3, 2), 2, 2)):
        where = dict(stride=stride, padding=padding, dilation=dilation, groups=C)
        x, weight = rng.integers(-3, 4, (2, C, 5, W)).astype(dtype), rng.integers(-3, 4, (C, 1, *np.broadcast_to(kernel, 2))).astype(dtype)
        y = naive.conv2d(x, weight, None, **where)
        assert_same(fastconv.conv2d, naive.conv2d, (x, weight, None), where, exact=True)
        assert_same(fastconv.conv2d_backward, naive.conv2d_backward, (rng.integers(-3, 4, y.shape).astype(dtype), x, weight, None), where, exact=True)
print("right")
"""


@pytest.mark.parametrize("setting", [*(f"FASTCONV_ISA={isa}" for isa in available()[1:][-1:]), "NUMBA_DISABLE_JIT=1"])
def test_the_smallest_vectors_and_plain_loops(setting):
    name, value = setting.split("=")
    assert run_alone(PROGRAM, **{name: value}) == "right"


# ---------------------------------------------------------------- the intrinsics alone
@njit
def taps_of_planes(numbers, src, taps, weight, dst):
    at, rise, first, last, addend, to, down, step, rows, columns = numbers
    if last - first == TAPS:
        simd_depthwise_planes.taps_of_planes(TAPS, src, at, rise, taps, first, last, weight, addend, dst, to, down, step, rows, columns)
    else:
        simd_depthwise_planes.taps_of_planes(0, src, at, rise, taps, first, last, weight, addend, dst, to, down, step, rows, columns)


@njit
def sums_of_planes(numbers, src, taps, dout, sums):
    rise, first, valid, rows, columns, to, d_to = numbers
    simd_depthwise_planes.sums_of_planes(src, rise, taps, first, valid, dout, rows, columns, sums, to, d_to)


@EACH_DTYPE
@pytest.mark.parametrize("first, last", [(0, 0), (2, 3), (0, TAPS), (1, TAPS), (3, 3 + TAPS), (0, 14)])
def test_taps_of_planes(first, last, dtype):
    draw, lanes = integers(5), simd.lanes(dtype)
    src, weight = draw(200 * lanes).astype(dtype), draw(16 * lanes).astype(dtype)
    taps = np.stack([draw(14) % 30, draw(14) % 15], 1).ravel() * lanes
    for rows, columns, step in ((1, 1, 2), (3, COLUMNS, 1), (2, COLUMNS + 1, 3), (0, 4, 1)):
        down = (columns * step + 1) * lanes
        numbers = lanes, 31 * lanes, first, last, 15 * lanes, 2 * lanes, down, step * lanes, rows, columns
        got, wanted = (np.full((4 + (rows + 2 * COLUMNS) * (columns + 1) * step) * lanes, 77, dtype) for _ in range(2))
        taps_of_planes(numbers, src, taps, weight, got)
        simd_depthwise_planes._taps_of_planes(0, src, *numbers[:2], taps, *numbers[2:4], weight, numbers[4], wanted, *numbers[5:])
        places = np.array([2 * lanes + i * down + j * step * lanes + r for i in range(rows) for j in range(columns) for r in range(lanes)], int)
        assert np.array_equal(got[places], wanted[places]) and (got[:2 * lanes] == 77).all()
        if rows:                             # behind the last row so many columns as are done together, and no more
            end = 2 * lanes + (rows - 1) * down + -(-columns // COLUMNS) * COLUMNS * step * lanes
            assert (got[end:] == 77).all()
        assert not rows or (wanted != 77).sum() >= len(places) // 2


@EACH_DTYPE
@pytest.mark.parametrize("first, valid", [(0, 1), (0, TAPS), (9, 3), (5, TAPS)])
def test_sums_of_planes(first, valid, dtype):
    draw, lanes = integers(6), simd.lanes(dtype)
    src, taps = draw(100 * lanes).astype(dtype), np.stack([draw(14) % 30, draw(14)], 1).ravel() * lanes
    for rows, columns in ((1, 1), (2, 7), (0, 3)):
        dout, sums = draw(15 * lanes).astype(dtype), draw(14 * lanes).astype(dtype)
        twin, before = sums.copy(), sums.copy()
        numbers = 20 * lanes, first, valid, rows, columns, lanes, 12 * lanes
        sums_of_planes(numbers, src, taps, dout, sums)
        simd_depthwise_planes._sums_of_planes(src, numbers[0], taps, first, valid, dout, rows, columns, twin, *numbers[5:])
        assert np.array_equal(sums, twin) and (rows == 0) == np.array_equal(sums, before)
