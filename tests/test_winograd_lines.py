"""Winograd's convolution in lines: filters with steps of more than one, on images with few channels."""
import numpy as np
import pytest
from isolated import run
from numba import njit

import fastconv
import naive
from fastconv import Conv2d
from fastconv.blocking import winograd, winograd_lines
from fastconv.kernels import points, simd, simd_winograd
from fastconv.kernels.simd import ALL_LEVELS
from fastconv.kernels.simd_winograd import FILTER_LONG, FORWARD_LONG, INPUT_LONG
from fastconv.kernels.tiles import ROWS, ROWS_HALF, VECTORS
from fastconv.kernels.winograd_lines import LANE
from fastconv.testing import assert_same

EACH_DTYPE = pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["f4", "f8"])
BOUND = {np.float32: 1e-5, np.float64: 1e-13}
# KH, KW, SH, SW: lines of three and of four taps, whole and with one that is missing.
KERNELS = [(7, 7, 2, 2), (5, 5, 2, 2), (11, 11, 4, 4), (3, 8, 1, 2), (1, 6, 5, 2), (2, 9, 3, 3), (4, 10, 2, 3), (1, 16, 1, 4)]
EACH_KERNEL = pytest.mark.parametrize("kernel", KERNELS, ids=lambda k: f"{k[0]}x{k[1]}-{k[2]}-{k[3]}")


def normal(*shapes, dtype=np.float32, seed=0):
    rng = np.random.default_rng(seed)
    return [rng.standard_normal(shape).astype(dtype) for shape in shapes]


def check(x, weight, bias=None, **options):
    assert_same(fastconv.conv2d, naive.conv2d, (x, weight, bias), {**options, "algorithm": "winograd"}, tolerance=BOUND[x.dtype.type])


# ---------------------------------------------------------------- transforms
@pytest.mark.parametrize("finite, taps", [((0, 1), 2), ((0, 0.5, -0.5, 1, -1, -2), 4), ((0, 1, -1), 2), ((0, 1, -1, 2), 3)])
def test_any_points_make_a_convolution(finite, taps):
    B, G, A = points.through(finite, taps)
    rng = np.random.default_rng(0)
    d, g = rng.standard_normal(len(finite) + 1), rng.standard_normal(taps)
    assert np.abs(A @ ((G @ g) * (B @ d)) - np.correlate(d, g)).max() < 1e-13


@njit(error_model="numpy")
def spread(kind, source, at, target, to, step):
    if kind == INPUT_LONG:
        simd_winograd.spread(INPUT_LONG, source, at, 0, target, to, step)
    else:
        simd_winograd.spread(FILTER_LONG, source, at, 0, target, to, step)


@njit(error_model="numpy")
def collect(source, at, step, target, to, pitch, rows, columns):
    return simd_winograd.collect(FORWARD_LONG, source, at, step, target, to, pitch, rows, columns)


@njit(error_model="numpy")
def copy_apart(count, source, at, source_step, target, to, target_step):
    simd_winograd.copy_apart(count, source, at, source_step, target, to, target_step)


@njit(error_model="numpy")
def product(rows, K, a, b, c, c_row):
    if rows == ROWS:
        simd_winograd.product_tile(ROWS, VECTORS, ALL_LEVELS, LANE, 0, K, 3, a, 2, 1, 40, b, 1, c, 4, c_row, 0, 0)
    else:
        simd_winograd.product_tile(ROWS_HALF, VECTORS, ALL_LEVELS, LANE, 0, K, 3, a, 2, 1, 40, b, 1, c, 4, c_row, 0, 0)


def close(found, wanted):
    assert np.allclose(found, wanted, rtol=0, atol=20 * np.finfo(found.dtype).eps * np.abs(wanted).max())


@EACH_DTYPE
def test_transforms_do_what_their_loops_do(dtype):
    lanes = simd.lanes(dtype)
    source, = normal((3 + 60 * lanes,), dtype=dtype)
    for kind in (INPUT_LONG, FILTER_LONG):
        target = np.full(2 + 7 * (lanes + 5), 77, dtype)
        twin = target.copy()
        spread(kind, source, 3, target, 2, lanes + 5)
        simd_winograd._spread(kind, source, 3, 0, twin, 2, lanes + 5)
        close(target, twin)
        assert np.array_equal(target == 77, twin == 77)
    for columns in (1, 2, 3, 4):
        for last in (0, np.nan, np.inf):
            source[5 + 6 * (lanes + 3)] = last
            target = np.full(1 + 10 * lanes, 77, dtype)
            twin = target.copy()
            assert collect(source, 5, lanes + 3, target, 1, 6, 1, columns) == (last != 0)
            assert simd_winograd._collect(FORWARD_LONG, source, 5, lanes + 3, twin, 1, 6, 1, columns) == (last != 0)
            assert np.array_equal(target == 77, twin == 77)
            if last == 0:
                close(target, twin)


@EACH_DTYPE
def test_copies_and_products_do_what_their_loops_do(dtype):
    source = np.arange(100, dtype=dtype)
    for count in (-3, 0, 1, 17):
        target = np.full(200, -1, dtype)
        twin = target.copy()
        copy_apart(count, source, 3, 5, target, 7, 11)
        simd_winograd._copy_apart(count, source, 3, 5, twin, 7, 11)
        assert np.array_equal(target, twin)
    rng, width = np.random.default_rng(0), VECTORS * simd.lanes(dtype)
    a, b = rng.integers(-4, 5, 900).astype(dtype), rng.integers(-4, 5, 900).astype(dtype)
    for rows in (ROWS, ROWS_HALF):
        c = np.full(4 + rows * (width + 1), 5, dtype)
        twin = c.copy()
        product(rows, 9, a, b, c, width + 1)
        simd_winograd._product_tile(rows, VECTORS, ALL_LEVELS, LANE, 0, 9, 3, a, 2, 1, 40, b, 1, twin, 4, width + 1, 0, 0)
        assert np.array_equal(c, twin)


# ---------------------------------------------------------------- shapes
@EACH_DTYPE
@EACH_KERNEL
@pytest.mark.parametrize("padding", [0, 3, ((0, 5), (4, 1)), ((20, 0), (0, 21))], ids=str)
def test_edges(padding, kernel, dtype):
    KH, KW, SH, SW = kernel
    tall, wide = (2 * padding,) * 2 if isinstance(padding, int) else [sum(p) for p in padding]
    for H, W in [(1, 1), (KH, KW), (KH + 4, KW + 9), (13, 23), (6, 70)]:
        if H + tall >= KH and W + wide >= KW:
            x, weight, bias = normal((2, 3, H, W), (5, 3, KH, KW), (5,), dtype=dtype)
            check(x, weight, bias, stride=(SH, SW), padding=padding)


@EACH_DTYPE
@EACH_KERNEL
@pytest.mark.parametrize("N, C, H, W, F, groups", [(1, 1, 20, 31, 1, 1), (3, 4, 12, 19, 33, 1), (2, 6, 14, 20, 50, 2), (1, 8, 12, 40, 65, 1),
                                                   (1, 11, 15, 17, 17, 1), (0, 3, 15, 25, 4, 1), (9, 6, 11, 16, 6, 6)])
def test_channels_filters_groups_and_batches(N, C, H, W, F, groups, kernel, dtype):
    """Also channels of which the vectors hold more than one and fewer than whole ones."""
    KH, KW, SH, SW = kernel
    C = min(C // groups, winograd_lines.MOST_TERMS // (KH * SW))
    x, weight, bias = normal((N, C * groups, H, W), (F, C, KH, KW), (F,), dtype=dtype)
    check(x, weight, bias, stride=(SH, SW), padding=(0, 2), groups=groups)


@EACH_DTYPE
def test_several_blocks(monkeypatch, forget, dtype):
    """Blocks of one row and of some, with a smaller one at the end; rows of tiles that fill register tiles and that do not."""
    for size in (1, 60_000):
        monkeypatch.setattr(winograd_lines, "BLOCK_BYTES", size)
        forget()
        for N, H, W in [(1, 41, 130), (3, 17, 125), (1, 22, 60)]:
            x, weight, bias = normal((N, 3, H, W), (40, 3, 7, 7), (40,), dtype=dtype)
            check(x, weight, bias, stride=2, padding=3)


@EACH_DTYPE
def test_the_first_layer_of_resnet(dtype):
    x, weight, bias = normal((1, 3, 224, 224), (64, 3, 7, 7), (64,), dtype=dtype)
    wanted = fastconv.conv2d(x.astype("f8"), weight.astype("f8"), bias.astype("f8"), 2, 3, algorithm="direct")
    layer = Conv2d(weight, bias, 2, 3, activation="relu")
    found = fastconv.conv2d(x, weight, bias, 2, 3, algorithm="winograd")
    assert np.abs(found - wanted).max() <= BOUND[dtype] * np.abs(wanted).max()
    residual, = normal(wanted.shape, dtype=dtype, seed=1)
    total = np.maximum(wanted + residual, 0)
    assert np.abs(layer(x, residual) - total).max() <= BOUND[dtype] * np.abs(total).max()


# ---------------------------------------------------------------- errors, NaN, threads
@EACH_DTYPE
@EACH_KERNEL
@pytest.mark.parametrize("positive", [False, True], ids=["he", "positive"])
def test_errors_stay_within_their_bound(positive, kernel, dtype):
    KH, KW, SH, SW = kernel
    for C in (1, 3, max(1, winograd_lines.MOST_TERMS // (KH * SW))):
        x, weight = normal((1, C, 25, 60), (24, C, KH, KW), dtype=dtype, seed=C)
        weight = np.abs(weight) if positive else weight
        y = fastconv.conv2d(x, weight, None, (SH, SW), algorithm="winograd")
        truth = weight.reshape(24, -1).astype("f8") @ fastconv.im2col(x.astype("f8"), (KH, KW), stride=(SH, SW))[0]
        assert np.abs(y.reshape(truth.shape) - truth).max() <= BOUND[dtype] * np.abs(truth).max()


@EACH_DTYPE
@EACH_KERNEL
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_nan_and_inf_reach_their_windows_alone(value, kernel, dtype):
    KH, KW, SH, SW = kernel
    x, weight, bias = normal((2, 3, 17, 40), (20, 3, KH, KW), (20,), dtype=dtype)
    x[1, 2, 9, 14] = value
    check(x, weight, bias, stride=(SH, SW), padding=(1, 3))
    x[1, 2, 9, 14] = 1
    weight[7, 1, KH - 1, KW - 2] = value
    check(x, weight, bias, stride=(SH, SW), padding=(1, 3))


@EACH_DTYPE
@EACH_KERNEL
def test_pixels_behind_the_last_window_count_for_nothing(kernel, dtype):
    """They lie among those of the last tile, and there the rounding errors of large ones would swamp its results."""
    KH, KW, SH, SW = kernel
    for OW in (1, 2, 3, 4, 5):
        end = SW * (OW - 1) + KW - 2         # of the windows, behind two columns of padding
        x, weight = normal((1, 2, KH, end + SW - 1), (5, 2, KH, KW), dtype=dtype)
        x[..., end:] = 0
        wanted = fastconv.conv2d(x, weight, None, (SH, SW), ((0, 0), (2, 0)), algorithm="winograd")
        assert wanted.shape[-1] == OW
        x[..., end:] = 1e20
        assert np.array_equal(fastconv.conv2d(x, weight, None, (SH, SW), ((0, 0), (2, 0)), algorithm="winograd"), wanted)
        x[..., end:] = np.nan
        check(x, weight, stride=(SH, SW), padding=((0, 0), (2, 0)))


@EACH_DTYPE
@EACH_KERNEL
def test_gradients(kernel, dtype):
    """Those are direct ones."""
    KH, KW, SH, SW = kernel
    x, weight = normal((2, 3, 15, 27), (5, 3, KH, KW), dtype=dtype)
    dout, = normal(fastconv.conv2d(x, weight, None, (SH, SW), 2).shape, dtype=dtype, seed=1)
    assert_same(fastconv.conv2d_backward, naive.conv2d_backward, (dout, x, weight), {"stride": (SH, SW), "padding": 2, "algorithm": "winograd"},
                tolerance=BOUND[dtype])


BITS = """
import numpy as np, fastconv
rng = np.random.default_rng(0)
x, weight = rng.standard_normal((1, 3, 90, 100)).astype("f4"), rng.standard_normal((70, 3, 7, 7)).astype("f4")
results = []
for threads in (1, 2, 3):
    fastconv.set_num_threads(threads)
    results.append(fastconv.conv2d(x, weight, None, 2, 3, algorithm="winograd").tobytes())
print(len(set(results)))
"""


def test_the_bits_do_not_depend_on_the_threads():
    assert run(BITS, NUMBA_NUM_THREADS="3").strip() == "1"


def test_where_it_fits():
    def fits(C, KW, SW, KH=7, dilation=1):
        try:
            made = fastconv.plan_conv2d((1, C, 60, 60), (8, C, KH, KW), stride=(2, SW), dilation=dilation, algorithm="winograd")
        except ValueError as error:
            assert "winograd" in str(error) and "channels" in str(error)
            return False
        assert made.algorithm == "winograd" and made.input_algorithm == made.weight_algorithm == "direct"
        return True

    assert fits(3, 7, 2) and fits(18, 7, 2) and fits(3, 5, 2) and fits(3, 11, 4) and fits(1, 12, 4)
    assert not (fits(19, 7, 2) or fits(3, 7, 1) or fits(3, 7, 2, dilation=2) or fits(3, 4, 2) or fits(3, 9, 2))


def test_why_counts_the_products_of_a_tile():
    made = fastconv.plan_conv2d((1, 3, 224, 224), (64, 3, 7, 7), stride=2, padding=3, algorithm="winograd")
    assert "tiles of 1x4 results take 98 multiplications for 196" in winograd.why(made.shape, made.forward)
    assert "8 x 28 tiles x 32 filters" in str(made) or simd.lanes(np.float32) != 16


def test_very_wide_images_are_summed_directly():
    shape = (1, 3, 40, 2_000_000), (64, 3, 7, 7)
    assert fastconv.plan_conv2d(*shape, stride=2).algorithm == "direct"
    with pytest.raises(ValueError, match="more than the 64 MiB"):
        fastconv.plan_conv2d(*shape, stride=2, algorithm="winograd")
