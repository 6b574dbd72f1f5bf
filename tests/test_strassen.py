"""Strassen's product: its sums and tiles against their twins, its errors, where NaN and inf end, what its blocks do at their edges, where it is chosen."""
import numpy as np
import pytest
from isolated import run
from numba import njit

import fastconv
import naive
from fastconv import Conv2d, plan, plan_conv2d
from fastconv.blocking import strassen
from fastconv.instruction_set import available
from fastconv.kernels import simd_strassen
from fastconv.kernels.simd import lanes
from fastconv.kernels.simd_strassen import QUARTERS, pitch_of
from fastconv.kernels.tiles import ROWS, ROWS_HALF, VECTORS
from fastconv.testing import assert_same

EACH_DTYPE = pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["f4", "f8"])
BOUND = {np.float32: 1e-5, np.float64: 1e-13}
# x, weight and options: whole blocks, and odd numbers of channels, filters and pixels; strides; groups; sums in chunks; one pixel, channel and filter.
SHAPES = [
    ((1, 64, 14, 14), (64, 64, 1, 1), {}),
    ((2, 34, 7, 7), (70, 34, 1, 1), {}),
    ((1, 33, 7, 9), (65, 33, 1, 1), {}),
    ((2, 9, 13, 11), (33, 9, 1, 1), {"stride": (2, 3)}),
    ((1, 16, 28, 28), (40, 16, 1, 1), {"stride": 2}),
    ((1, 66, 9, 9), (66, 33, 1, 1), {"groups": 2, "stride": 2}),
    ((2, 12, 5, 9), (18, 4, 1, 1), {"groups": 3}),
    ((1, 1300, 3, 5), (20, 1300, 1, 1), {}),
    ((1, 6, 1, 500), (5, 6, 1, 1), {}),
    ((1, 1, 1, 1), (1, 1, 1, 1), {}),
    ((3, 2, 2, 1), (3, 2, 1, 1), {}),
]
EACH_SHAPE = pytest.mark.parametrize("x, weight, options", SHAPES, ids=str)


def arrays(x, weight, dtype, integers=False, seed=0):
    rng = np.random.default_rng(seed)
    draw = (lambda size: rng.integers(-4, 5, size)) if integers else rng.standard_normal
    return [draw(size).astype(dtype) for size in (x, weight, weight[:1])]


def dout_of(x, weight, bias, options, integers=False):
    shape = naive.conv2d(x, weight, bias, **options).shape
    return arrays(shape, (1, 1), x.dtype, integers, seed=1)[0]


@EACH_DTYPE
@EACH_SHAPE
@pytest.mark.parametrize("integers", [False, True], ids=["normal", "integers"])
def test_results_and_gradients(x, weight, options, dtype, integers):
    """Sums of small integers are exact: not one bit may differ."""
    given = arrays(x, weight, dtype, integers)
    how = {"exact": True} if integers else {"tolerance": BOUND[dtype]}
    assert_same(fastconv.conv2d, naive.conv2d, given, {**options, "algorithm": "strassen"}, **how)
    dout = dout_of(*given, options, integers)
    assert_same(fastconv.conv2d_backward, naive.conv2d_backward, (dout, *given), {**options, "algorithm": "strassen"}, **how)


@EACH_DTYPE
@EACH_SHAPE
def test_nan_and_inf_end_where_they_do_in_the_loops(x, weight, options, dtype):
    given = arrays(x, weight, dtype)
    rng = np.random.default_rng(2)
    for number in (0, 1):                    # of x, of the weights
        for value in (np.nan, np.inf, -np.inf):
            wrong = [a.copy() for a in given]
            wrong[number].flat[rng.integers(wrong[number].size)] = value
            for bias in (wrong[2], None):
                assert_same(fastconv.conv2d, naive.conv2d, (*wrong[:2], bias), {**options, "algorithm": "strassen"}, tolerance=BOUND[dtype])


@EACH_DTYPE
def test_the_gradient_to_the_input_has_nan_where_the_loops_have_it(dtype):
    given = arrays((1, 20, 6, 7), (38, 20, 1, 1), dtype)
    dout = dout_of(*given, {})
    dout[0, 3, 2, 1], dout[0, 30, 5, 6] = np.nan, np.inf
    assert_same(fastconv.conv2d_backward, naive.conv2d_backward, (dout, *given), {"algorithm": "strassen", "need": (True, False, False)},
                tolerance=BOUND[dtype])


def test_numbers_whose_sums_overflow():
    """T1 = B12 - B11 is infinite, and no result is."""
    x, weight, _ = arrays((1, 8, 4, 14), (6, 8, 1, 1), np.float32)
    x[0, 0, :2], x[0, 0, 2:] = 3e38, -3e38
    weight[:, 0] = 0.5
    with np.errstate(over="ignore", invalid="ignore"):
        y = fastconv.conv2d(x, weight, algorithm="strassen")
    assert np.isfinite(y).all()
    assert_same(y, naive.conv2d(x, weight))


PROGRAM = """
import numpy as np, fastconv, naive
from fastconv.testing import assert_same
rng = np.random.default_rng(0)
for dtype, bound in ((np.float32, 1e-5), (np.float64, 1e-13)):
    for C, F, stride in ((3, 5, 1), (4, 4, 1), (2, 3, 2)):
        x, weight = rng.standard_normal((1, C, 5, 6)).astype(dtype), rng.standard_normal((F, C, 1, 1)).astype(dtype)
        for value in (0, np.nan):
            x[0, 1, 2, 4] = value
            assert_same(fastconv.conv2d, naive.conv2d, (x, weight), {"stride": stride, "algorithm": "strassen"}, tolerance=bound)
print("right")
"""


@pytest.mark.parametrize("setting", [*(f"FASTCONV_ISA={isa}" for isa in available()[1:][-1:]), "NUMBA_DISABLE_JIT=1"])
def test_the_smallest_vectors_and_plain_loops(setting):
    name, value = setting.split("=")
    assert run(PROGRAM, **{name: value}) == "right"


@EACH_DTYPE
@pytest.mark.parametrize("C", [64, 256, 1024, 2048])
@pytest.mark.parametrize("kind", ["normal", "uniform", "positive"])
def test_errors(C, kind, dtype):
    rng = np.random.default_rng(0)
    x = (rng.standard_normal if kind == "normal" else rng.random)((1, C, 14, 14)).astype(dtype)
    weight = rng.standard_normal((96, C, 1, 1)).astype(dtype)
    weight = abs(weight) if kind == "positive" else weight
    wide = np.longdouble if dtype is np.float64 else np.float64
    truth = weight.reshape(96, C).astype(wide) @ x.reshape(C, 196).astype(wide)
    error = abs(fastconv.conv2d(x, weight, algorithm="strassen").reshape(96, 196) - truth).max() / abs(truth).max()
    assert error < (4e-6 if dtype is np.float32 else 1e-14)


@pytest.fixture
def always(monkeypatch):
    """Layers take the algorithm wherever it fits."""
    monkeypatch.setattr(strassen, "GAIN", np.inf)
    plan.conv_plan.cache_clear()
    yield
    plan.conv_plan.cache_clear()


@EACH_DTYPE
@pytest.mark.parametrize("stride", [1, 2])
def test_prepared_layers(dtype, stride, always):
    """With bias, residual and ReLU; over its residual; with NaN; nothing is written beside y; the same bits as on one thread."""
    x, weight, bias = arrays((2, 130, 14 * stride, 14 * stride), (200, 130, 1, 1), dtype)
    layer = Conv2d(weight, bias, stride, activation="relu")
    made = plan_conv2d(x.shape, weight.shape, dtype, stride)
    residual = arrays(made.y_shape, (1, 1), dtype, seed=3)[0]
    assert layer._prepare(x.shape, "high").kernel is strassen.strassen.results
    x[1, 5, 3 * stride, 2 * stride] = np.nan
    truth = naive.conv2d(x, weight, bias, stride) + residual
    truth = np.where(truth < 0, 0, truth)
    guarded = np.full(residual.size + 64, 7, dtype)
    y = guarded[32:-32].reshape(residual.shape)
    layer(x, residual, out=y)
    assert_same(y, truth, tolerance=BOUND[dtype])
    assert (guarded[:32] == 7).all() and (guarded[-32:] == 7).all()
    threads = fastconv.get_num_threads()
    try:
        fastconv.set_num_threads(1)
        assert np.array_equal(layer(x, residual), y, equal_nan=True)
        y[...] = residual
        layer(x, y, out=y)
    finally:
        fastconv.set_num_threads(threads)
    assert_same(y, truth, tolerance=BOUND[dtype])


def test_where_it_is_chosen():
    """Deep layers of 14x14; not where weights serve few pixels or pixels few filters, nor with the highest precision."""
    made = plan_conv2d((1, 256, 14, 14), (1024, 256, 1, 1))
    if made.isa == "avx512":
        assert made.algorithm == "strassen" and "seven products" in made.why and "strassen" in str(made)
        assert plan_conv2d((16, 1024, 14, 14), (256, 1024, 1, 1)).input_algorithm == "strassen"
    for x, weight in [((16, 2048, 7, 7), (512, 2048, 1, 1)), ((1, 64, 56, 56), (64, 64, 1, 1)), ((1, 3, 56, 56), (3, 3, 1, 1))]:
        assert plan_conv2d(x, weight).algorithm != "strassen"
    before = fastconv.get_precision()
    try:
        fastconv.set_precision("highest")
        highest = plan_conv2d((1, 256, 14, 14), (1024, 256, 1, 1))
        assert highest.algorithm == highest.input_algorithm == "direct"
        with pytest.raises(ValueError, match='algorithm is \'strassen\' and the precision "highest"'):
            plan_conv2d((1, 4, 5, 5), (4, 4, 1, 1), algorithm="strassen")
    finally:
        fastconv.set_precision(before)
    assert plan_conv2d((1, 256, 14, 14), (1024, 256, 1, 1), algorithm="direct").input_algorithm == "direct"


@pytest.mark.parametrize("kernel, options", [((3, 3), {}), ((1, 2), {}), ((1, 1), {"padding": 1}), ((1, 1), {"padding": ((0, 0), (0, 2))})])
def test_what_it_cannot_do(kernel, options):
    with pytest.raises(ValueError, match="algorithm is 'strassen'.*wanted: a 1x1 kernel and no padding"):
        plan_conv2d((1, 4, 5, 5), (4, 4, *kernel), algorithm="strassen", **options)


def test_every_thread_has_work():
    for x, weight in [((1, 256, 14, 14), (1024, 256, 1, 1)), ((1, 1024, 14, 14), (256, 1024, 1, 1)), ((1, 512, 28, 28), (256, 512, 1, 1))]:
        assert plan_conv2d(x, weight, algorithm="strassen").forward.tasks >= 4


# ---------------------------------------------------------------- intrinsics
@njit(error_model="numpy")
def sums(first, second, channels, source, b11, b12, b21, b22, plane, target, to, tile_step, step):
    simd_strassen.sum_quarters(first, second, channels, source, b11, b12, b21, b22, plane, target, to, tile_step, step)


@EACH_DTYPE
@pytest.mark.parametrize("pixels", [1, 2, ROWS, ROWS + 1, 2 * ROWS + 3, 5 * ROWS])
def test_sums_of_quarters(pixels, dtype):
    first, channels, rng = -(-pixels // 2), 19, np.random.default_rng(0)
    second, pitch = pixels - first, pitch_of(lanes(dtype))
    source = rng.standard_normal(2 * channels * pixels).astype(dtype)          # ends where the last quarter does
    tile_step = channels * pitch + 8
    step = -(-first // ROWS) * tile_step
    made, twin = np.full((2, QUARTERS * step + pitch), 5, dtype)
    for function, target in ((sums, made), (simd_strassen._sum_quarters, twin)):
        function(first, second, channels, source, 0, first, channels * pixels, channels * pixels + first, pixels, target, 0, tile_step, step)
    for q in range(QUARTERS):
        for t in range(-(-first // ROWS)):
            at = q * step + t * tile_step
            panels = [a[at:at + channels * pitch].reshape(channels, pitch)[:, :ROWS] for a in (made, twin)]
            np.testing.assert_array_equal(*panels)
    assert (made[-pitch:] == 5).all()


@njit(error_model="numpy")
def tile(half, K, a, b, c, before, given, to, also, check, ahead):
    if half:
        return simd_strassen.quarter_tile(ROWS_HALF, VECTORS, K, a, 3, b, 2, c, before, given, to, also, check, ahead, 64, 2048)
    return simd_strassen.quarter_tile(ROWS, VECTORS, K, a, 3, b, 2, c, before, given, to, also, check, ahead, 64, 2048)


@EACH_DTYPE
@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("places", [(-1, -1, 0, -1), (0, -1, 0, -1), (-1, 1, 1, -1), (-1, 1, 2, -1), (-1, 1, 1, 2), (0, 1, 1, 2)])
def test_tiles(places, half, dtype):
    rng, K, width, rows = np.random.default_rng(0), 37, VECTORS * lanes(dtype), ROWS_HALF if half else ROWS
    size = ROWS * width
    a, b, c = (rng.integers(-3, 4, n).astype(dtype) for n in (3 + K * pitch_of(lanes(dtype)), 2 + K * width, 3 * size))
    places = [place * size if place >= 0 else -1 for place in places]
    for value in (0, np.inf, np.nan):
        a[3 + 5 * pitch_of(lanes(dtype)) + 2] = value
        for check in (0, 1):
            made, twin = c.copy(), c.copy()
            found = tile(half, K, a, b, made, *places, check, a.ctypes.data)
            with np.errstate(all="ignore"):
                expected = simd_strassen._quarter_tile(rows, VECTORS, K, a, 3, b, 2, twin, *places, check, 0, 0, 0)
            np.testing.assert_array_equal(made, twin)
            assert found == expected == bool(check and value != 0)
