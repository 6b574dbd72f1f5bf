"""conv2d and its gradients against the naive loops and float64 truth, for every algorithm."""
import pickle

import numpy as np
import pytest
from cases import broadcasts, conv_cases, inject, layouts

import fastconv
import naive
from fastconv.blocking import direct, direct_weight, shape, strassen, winograd
from fastconv.conv import _known
from fastconv.kernels import direct as direct_kernels
from fastconv.kernels import strassen as strassen_kernels
from fastconv.kernels import winograd_results
from fastconv.kernels.simd_tiles import PAST
from fastconv.plan import ALGORITHMS
from fastconv.testing import TOLERANCE, assert_same

DTYPES = [np.float32, np.float64]
CASES = pytest.mark.parametrize("case", conv_cases(), ids=str)
GENERAL = ("direct", "im2col")               # take any convolution
EACH_ALGORITHM = pytest.mark.parametrize("algorithm", GENERAL)


def served(cases):
    """Each case with each algorithm that can do it, and with "auto" where that is a choice of its own."""
    for case in cases:
        group = case.kwargs.get("groups", 1)
        made = fastconv.plan_conv2d(case.x, case.weight, **case.kwargs)
        yield from ((case, algorithm) for algorithm in GENERAL)
        if case.x[-3] == group:
            yield case, "depthwise"
        if winograd.fits(made.shape):
            yield case, "winograd"
        if strassen.fits(made.shape):
            yield case, "strassen"
        if {made.algorithm, made.input_algorithm, made.weight_algorithm} != {"direct"}:
            yield case, "auto"


def tolerance(algorithm, dtype=np.float32):
    """None: what `assert_same` takes by itself."""
    return 1e-5 if algorithm in ("winograd", "strassen") and dtype is np.float32 else None


def each_case(cases):
    pairs = list(served(cases))
    assert {algorithm for _, algorithm in pairs} == set(ALGORITHMS)
    return pytest.mark.parametrize("case, algorithm", pairs, ids=lambda part: str(part))
EACH_DTYPE = pytest.mark.parametrize("dtype", DTYPES, ids=["f4", "f8"])


@EACH_DTYPE
@each_case(conv_cases())
def test_forward(case, algorithm, dtype):
    assert_same(fastconv.conv2d, naive.conv2d, case.arrays(dtype), {**case.kwargs, "algorithm": algorithm}, tolerance=tolerance(algorithm, dtype))


@EACH_DTYPE
@each_case(conv_cases())
def test_backward(case, algorithm, dtype):
    assert_same(fastconv.conv2d_backward, naive.conv2d_backward, (case.dout(dtype), *case.arrays(dtype)), {**case.kwargs, "algorithm": algorithm},
                tolerance=tolerance(algorithm, dtype))


@EACH_DTYPE
@each_case(conv_cases())
def test_integer_values_are_exact(case, algorithm, dtype):
    """Sums of small integers are exact in any order: not one bit may differ. Winograd's points are no integers."""
    arrays, kwargs = case.arrays(dtype, integers=True), {**case.kwargs, "algorithm": algorithm}
    plan = fastconv.plan_conv2d(case.x, case.weight, dtype, **kwargs)
    def how(*taken):
        return {"tolerance": tolerance("winograd", dtype)} if "winograd" in taken else {"exact": True}

    assert_same(fastconv.conv2d, naive.conv2d, arrays, kwargs, **how(plan.algorithm))
    assert_same(fastconv.conv2d_backward, naive.conv2d_backward, (case.dout(dtype, integers=True), *arrays), kwargs,
                **how(plan.input_algorithm, plan.weight_algorithm))


@CASES
def test_float16_is_rounded_once(case):
    assert_same(fastconv.conv2d, naive.conv2d, case.arrays(np.float16), case.kwargs)
    assert_same(fastconv.conv2d_backward, naive.conv2d_backward, (case.dout(np.float16), *case.arrays(np.float16)), case.kwargs)


@each_case(conv_cases()[::3])
def test_nan_and_inf_reach_what_they_reach_in_the_loops(case, algorithm):
    x, weight, bias = case.arrays(np.float32)
    dout, kwargs = case.dout(np.float32), {**case.kwargs, "algorithm": algorithm}
    for function, plain, arrays in [(fastconv.conv2d, naive.conv2d, (inject(x), weight, bias)),
                                    (fastconv.conv2d_backward, naive.conv2d_backward, (inject(dout), x, weight, bias)),
                                    (fastconv.conv2d_backward, naive.conv2d_backward, (dout, inject(x), weight, bias))]:
        assert_same(function, plain, arrays, kwargs, tolerance=tolerance(algorithm))


@pytest.mark.parametrize("algorithm", (*GENERAL, "winograd"))
def test_non_finite_weight_shows_in_every_window(algorithm):
    x, weight = np.ones((1, 2, 5, 6), np.float32), np.ones((3, 2, 3, 3), np.float32)
    weight[1, 0, 1, 1] = np.inf
    y = fastconv.conv2d(x, weight, padding=1, algorithm=algorithm)
    assert np.isinf(y[:, 1]).all() and np.isfinite(y[:, [0, 2]]).all()


@EACH_ALGORITHM
@EACH_DTYPE
def test_any_memory_layout(dtype, algorithm):
    case = next(c for c in conv_cases() if len(c.x) == 4 and min(c.x) > 1 and c.bias)
    x, weight, bias = case.arrays(dtype, integers=True)
    dout, kwargs = case.dout(dtype, integers=True), {**case.kwargs, "algorithm": algorithm}
    for odd_x, odd_weight, odd_dout in zip(*(layouts(a).values() for a in (x, weight, dout))):
        assert_same(fastconv.conv2d, naive.conv2d, (odd_x, odd_weight, bias), kwargs, exact=True)
        assert_same(fastconv.conv2d_backward, naive.conv2d_backward, (odd_dout, odd_x, odd_weight, bias), kwargs, exact=True)
    for view in broadcasts(x).values():
        assert_same(fastconv.conv2d, naive.conv2d, (view, weight, bias), kwargs)


def test_long_sums_keep_their_digits():
    """One chain of 9,216 positive float32 terms would miss the 2e-6 that is promised."""
    rng = np.random.default_rng(0)
    x, weight = rng.random((1, 1024, 4, 4), np.float32), rng.random((5, 1024, 3, 3), np.float32)
    for algorithm in GENERAL:
        assert_same(fastconv.conv2d, naive.conv2d, (x, weight), {"algorithm": algorithm}, tolerance=1e-6)


def test_gradient_to_the_weights_of_many_pixels_keeps_its_digits():
    rng = np.random.default_rng(0)
    x, dout = rng.random((2, 1, 200, 200), np.float32), rng.random((2, 4, 200, 200), np.float32)
    weight = np.zeros((4, 1, 1, 1), np.float32)
    truth = np.einsum("nfhw,nchw->fc", dout.astype(np.float64), x.astype(np.float64))[..., None, None]
    for algorithm in (*GENERAL, "depthwise"):
        dweight = fastconv.conv2d_backward(dout, x, weight, None, algorithm=algorithm, need=(False, True, False))[1]
        assert np.abs(dweight - truth).max() <= 1e-6 * truth.max()


@pytest.mark.parametrize("a, b", [(0.1, 0.1), (0.3, 0.7), (1 / 3, 0.77)])
def test_flat_data_loses_no_more_digits_in_large_batches(a, b):
    """Every rounding of a flat image goes the same way: a chain of 512 terms errs by up to 5e-6, and no sum of chains by more."""
    a, b = np.float32(a), np.float32(b)
    for C in (512, 4096):
        y = fastconv.conv2d(np.full((1, C, 7, 7), a), np.full((40, C, 1, 1), b))
        assert np.abs(y / (C * float(a) * float(b)) - 1).max() <= 5e-6
    for N, C, F, H in ((1, 3, 16, 224), (12, 3, 16, 224), (40, 70, 33, 28)):
        dout, x, weight = np.full((N, F, H, H), b), np.full((N, C, H, H), a), np.zeros((F, C, 1, 1), np.float32)
        dweight = fastconv.conv2d_backward(dout, x, weight, algorithm="direct", need=(False, True, False))[1]
        assert np.abs(dweight / (N * H * H * float(a) * float(b)) - 1).max() <= 5e-6


def test_need_and_missing_bias():
    case = conv_cases()[20]
    x, weight, _ = case.arrays()
    dout, bias = case.dout(), np.ones(weight.shape[0])
    whole = fastconv.conv2d_backward(dout, x, weight, bias, **case.kwargs)
    for need in np.ndindex(2, 2, 2):
        need = tuple(map(bool, need))
        part = fastconv.conv2d_backward(dout, x, weight, bias, **case.kwargs, need=need)
        for wanted, got, full in zip(need, part, whole):
            assert np.array_equal(got, full) if wanted else got is None
    assert fastconv.conv2d_backward(dout, x, weight, None, **case.kwargs)[2] is None


@EACH_DTYPE
def test_out_is_filled_and_returned(dtype):
    case = next(c for c in conv_cases() if len(c.x) == 4 and min(c.x) > 1)
    arrays = case.arrays(dtype)
    wanted = fastconv.conv2d(*arrays, **case.kwargs)
    for out in layouts(np.zeros(wanted.shape, dtype)).values():
        if out.flags.writeable:
            assert fastconv.conv2d(*arrays, **case.kwargs, out=out) is out
            assert np.array_equal(out, wanted)


@pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["f4", "f8"])
@pytest.mark.parametrize("C, H, F", [(5, 40, 7), (70, 56, 6), (600, 37, 65)])
def test_im2col_of_1x1_kernels_takes_planes_as_they_are(C, H, F, dtype):
    """Blocks of pixels that begin within a plane, whole panels and a rest, several chunks of channels."""
    rng = np.random.default_rng(0)
    x, weight = rng.standard_normal((2, C, H, H)).astype(dtype), rng.standard_normal((F, C, 1, 1)).astype(dtype)
    truth = np.einsum("nchw,fc->nfhw", x.astype(np.float64), weight[:, :, 0, 0].astype(np.float64))
    assert_same(fastconv.conv2d(x, weight, algorithm="im2col").astype(np.float64), truth, tolerance=TOLERANCE[np.dtype(dtype)])


def test_large_layers_of_several_blocks():
    """Shapes beyond one block of every kind, and beyond the work that is split over threads: against one GEMM in float64."""
    rng = np.random.default_rng(1)
    for N, C, H, F, K, stride, padding in [(2, 70, 40, 90, 3, 1, 1), (1, 600, 9, 130, 1, 1, 0), (3, 5, 61, 33, 7, 2, 3), (1, 1, 300, 17, 5, 1, 2)]:
        x, weight = rng.standard_normal((N, C, H, H)), rng.standard_normal((F, C, K, K))
        cols = naive.im2col(x, K, padding=padding, stride=stride) if N * C * H < 500 else fastconv.im2col(x, K, padding=padding, stride=stride)
        truth = weight.reshape(F, -1) @ cols
        for dtype, tolerance in ((np.float32, 2e-6), (np.float64, 1e-13)):
            xs, ws = x.astype(dtype), weight.astype(dtype)
            dout = rng.standard_normal((N, F, *((H + 2 * padding - K) // stride + 1,) * 2)).astype(dtype)
            dout64 = dout.astype(np.float64).reshape(N, F, -1)
            to_weight = (dout64 @ cols.transpose(0, 2, 1)).sum(0).reshape(weight.shape)
            to_input = fastconv.col2im(ws.astype(np.float64).reshape(F, -1).T @ dout64, (H, H), K, padding=padding, stride=stride)
            for algorithm in GENERAL:
                y = fastconv.conv2d(xs, ws, None, stride, padding, algorithm=algorithm)
                assert_same(y.reshape(truth.shape).astype(np.float64), truth, tolerance=tolerance + 2 * np.finfo(dtype).eps)
                dx, dweight, _ = fastconv.conv2d_backward(dout, xs, ws, None, stride, padding, algorithm=algorithm)
                assert_same(dweight.astype(np.float64), to_weight, tolerance=tolerance + 2 * np.finfo(dtype).eps)
                assert_same(dx.astype(np.float64), to_input, tolerance=tolerance + 2 * np.finfo(dtype).eps)


def test_depthwise_wants_one_channel_a_group():
    with pytest.raises(ValueError, match="'depthwise' and each of 2 groups has 3 channels"):
        fastconv.conv2d(np.ones((1, 6, 5, 5)), np.ones((4, 3, 3, 3)), groups=2, algorithm="depthwise")


@pytest.mark.parametrize("algorithm", ["auto", "direct", "im2col", "winograd"])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("H, W", [(0, 11), (11, 0), (0, 0)])
def test_a_plan_of_an_empty_image_can_be_printed(H, W, stride, algorithm):
    assert "gradients" in str(fastconv.plan_conv2d((1, 3, H, W), (8, 3, 3, 3), stride=stride, padding=8, algorithm=algorithm))


def test_a_plan_says_what_was_chosen_and_why():
    deep = str(fastconv.plan_conv2d((1, 64, 56, 56), (64, 64, 7, 7), padding=3))
    assert "direct: filters along the vectors" in deep and "1,258.82 MFLOP" in deep and "workspace" in deep
    assert "pixels along the vectors" in str(fastconv.plan_conv2d((1, 1, 256, 256), (5, 1, 3, 3), padding=1))
    assert "each filter sees one channel" in str(fastconv.plan_conv2d((1, 8, 9, 9), (8, 1, 3, 3), groups=8))
    assert "terms x" in str(fastconv.plan_conv2d((1, 8, 9, 9), (8, 8, 3, 3), algorithm="im2col"))


def _shown_where_the_loops_show_it(x, weight, dout, options):
    """Integers come out exactly, and NaN and inf reach only what they do in the loops."""
    assert_same(fastconv.conv2d_backward, naive.conv2d_backward, (dout, x, weight), options, exact=True)
    for value in (np.nan, np.inf, -np.inf):
        spoiled = dout.copy(), x.copy()
        spoiled[0][0, 4, 2, -4] = spoiled[1][-1, 1, -1, -1] = value
        assert_same(fastconv.conv2d_backward, naive.conv2d_backward, (*spoiled, weight), options, exact=True)


@EACH_DTYPE
@pytest.mark.parametrize("C, kernel, padding, dilation", [(3, 3, 1, 1), (1, 7, 3, 1), (4, (2, 4), 0, 1), (7, (5, 1), 2, (1, 2)), (2, 3, 1, 2)])
def test_gradient_to_the_input_all_phases_at_once(monkeypatch, forget, C, kernel, padding, dilation, dtype):
    """The way of few channels at stride 2: several blocks of rows and columns, several chains."""
    monkeypatch.setattr(direct, "to_input", direct._phases)
    monkeypatch.setattr(direct, "WINDOW_BYTES", 5000)
    monkeypatch.setattr(direct, "CHAIN", 2)
    rng = np.random.default_rng(3)
    x, weight = rng.integers(-4, 5, (1, 2 * C, 9, 150)).astype(dtype), rng.integers(-4, 5, (10, C, *np.broadcast_to(kernel, 2))).astype(dtype)
    options = dict(stride=2, padding=padding, dilation=dilation, groups=2, algorithm="direct", need=(True, False, False))
    known = fastconv.plan_conv2d(x.shape, weight.shape, dtype, 2, padding, dilation, 2, algorithm="direct")
    assert known.to_input.across == "phases"
    dout = rng.integers(-4, 5, known.y_shape).astype(dtype)
    _shown_where_the_loops_show_it(x, weight, dout, options)


@EACH_DTYPE
@pytest.mark.parametrize("stride, kernel, padding, dilation", [(1, 3, 1, 1), (2, 3, 1, 1), ((3, 2), (2, 5), 2, (1, 2)), (1, 1, 0, 1), ((1, 3), 4, 1, 1)])
def test_gradient_to_the_weights_in_windows(monkeypatch, forget, stride, kernel, padding, dilation, dtype):
    """All taps out of one window: several units of an image, parts of rows, several blocks of channels."""
    rng = np.random.default_rng(3)
    x, weight = rng.integers(-4, 5, (2, 6, 9, 70)).astype(dtype), rng.integers(-4, 5, (10, 3, *np.broadcast_to(kernel, 2))).astype(dtype)
    options = dict(stride=stride, padding=padding, dilation=dilation, groups=2, algorithm="direct", need=(False, True, False))
    dout = rng.integers(-4, 5, fastconv.plan_conv2d(x.shape, weight.shape, dtype, stride, padding, dilation, 2, algorithm="direct").y_shape).astype(dtype)
    monkeypatch.setattr(direct_weight, "to_weight", lambda s: direct_weight.dots(s, True))
    for row_bytes, lined_bytes in ((8192, 320 * 1024), (256, 4000)):
        monkeypatch.setattr(direct_weight, "ROW_BYTES", row_bytes)
        monkeypatch.setattr(direct_weight, "LINED_BYTES", lined_bytes)
        forget()
        _shown_where_the_loops_show_it(x, weight, dout, options)


@EACH_DTYPE
@pytest.mark.parametrize("size, stride, unit_pixels", [((11, 13), 2, 256), ((11, 13), (2, 3), 24), ((9, 40), (3, 2), 24), ((12, 12), (1, 2), 256),
                                                       ((13, 13), 2, 49), ((7, 7), 1, 49)])
def test_gradient_to_the_weights_of_1x1_kernels(monkeypatch, forget, size, stride, unit_pixels, dtype):
    """What is left of x is turned around: several images in a unit, units that begin and end within a row, the last of them smaller; or so few
    units that their sums are added where they belong."""
    monkeypatch.setattr(direct_weight, "UNIT_PIXELS", unit_pixels)
    monkeypatch.setattr(direct_weight, "LEAST_UNIT", unit_pixels)
    rng = np.random.default_rng(3)
    x, weight = rng.integers(-4, 5, (3, 2 * 35, *size)).astype(dtype), rng.integers(-4, 5, (2 * 70, 35, 1, 1)).astype(dtype)
    options = dict(stride=stride, groups=2, algorithm="direct", need=(False, True, False))
    plan = fastconv.plan_conv2d(x.shape, weight.shape, dtype, stride, groups=2, algorithm="direct")
    job, parts, _ = plan.to_weight.rounds[0]
    assert plan.to_weight.straight and (unit_pixels != 49 or 1 < job[direct_weight.direct_weight.JOB.index("units")] / parts <= 4)
    _shown_where_the_loops_show_it(x, weight, rng.integers(-4, 5, plan.y_shape).astype(dtype), options)


@EACH_DTYPE
@pytest.mark.parametrize("C, stride, kernel", [(3, 2, 3), (3, 1, 3), (1, 3, 5), (4, (1, 2), (2, 3)), (2, 4, 5)])
def test_gradient_to_the_input_in_columns(monkeypatch, forget, C, stride, kernel, dtype):
    """The way of few channels, tap by tap: several blocks of rows, NaN and inf that reach only what they do in the loops."""
    monkeypatch.setattr(direct, "to_input", direct._columns)
    monkeypatch.setattr(direct, "COLUMNS_BYTES", 40_000)
    rng = np.random.default_rng(3)
    x, weight = rng.integers(-4, 5, (2, 2 * C, 33, 35)).astype(dtype), rng.integers(-4, 5, (40, C, *np.broadcast_to(kernel, 2))).astype(dtype)
    options = dict(stride=stride, padding=1, groups=2, algorithm="direct")
    dout = rng.integers(-4, 5, fastconv.conv2d(x, weight, **options).shape).astype(dtype)
    assert fastconv.plan_conv2d(x.shape, weight.shape, dtype, **options).to_input.across == "columns"
    _shown_where_the_loops_show_it(x, weight, dout, options)


@EACH_DTYPE
@pytest.mark.parametrize("stride", [1, 2])
def test_small_images_together(monkeypatch, forget, stride, dtype):
    """Pixels of several images in one task, the last task with fewer; every phase of stride 2; NaN and inf that stay in their image."""
    monkeypatch.setattr(direct, "_pixels", direct._filters)
    monkeypatch.setattr(direct, "MOST_BYTES", 0)             # no other way of the gradient to the input
    rng = np.random.default_rng(3)
    x, weight = rng.integers(-4, 5, (9, 20, 5, 7)).astype(dtype), rng.integers(-4, 5, (40, 10, 1, 1)).astype(dtype)
    options = dict(stride=stride, groups=2, algorithm="direct")
    dout = rng.integers(-4, 5, fastconv.conv2d(x, weight, **options).shape).astype(dtype)
    plan = fastconv.plan_conv2d(x.shape, weight.shape, dtype, **options)
    for stage in (plan.to_input, plan.forward)[:3 - stride]:
        images = dict(zip(direct.direct.JOB, stage.job.tolist()))["images"]
        assert stage.across == "filters" and images > 1 and 9 % images
    assert_same(fastconv.conv2d, naive.conv2d, (x, weight, np.arange(40.0).astype(dtype)), options, exact=True)
    _shown_where_the_loops_show_it(x, weight, dout, options)


@EACH_DTYPE
@pytest.mark.parametrize("N, C, F, size", [(9, 10, 20, (5, 7)), (5, 24, 33, (4, 4)), (3, 5, 15, (11, 13)), (4, 70, 40, (8, 8)), (2, 6, 9, (3, 11))])
@pytest.mark.parametrize("chain", [512, 8])
@pytest.mark.parametrize("near_bytes", [3000, 400000])
def test_small_images_as_one_row(monkeypatch, forget, near_bytes, chain, N, C, F, size, dtype):
    """Tiles of pixels that begin in one image and end in another; several chunks of channels and blocks of pixels; bias, residual and ReLU;
    NaN and inf that stay in their image."""
    monkeypatch.setattr(direct, "_filters", direct._pixels)
    monkeypatch.setattr(direct, "CHAIN", chain)
    monkeypatch.setattr(direct, "NEAR_BYTES", near_bytes)
    monkeypatch.setattr(direct, "MOST_BYTES", 0)             # no other way of the gradient to the input
    rng = np.random.default_rng(3)
    x, weight = rng.integers(-4, 5, (N, 2 * C, *size)).astype(dtype), rng.integers(-4, 5, (2 * F, C, 1, 1)).astype(dtype)
    options = dict(groups=2, algorithm="direct")
    dout, residual = rng.integers(-4, 5, (2, N, 2 * F, *size)).astype(dtype)
    bias = np.arange(2.0 * F).astype(dtype) - F
    plan = fastconv.plan_conv2d(x.shape, weight.shape, dtype, **options)
    for stage in (plan.to_input, plan.forward):
        images = dict(zip(direct.direct.JOB, stage.job.tolist()))["images"]
        assert stage.across == "pixels" and images == (N if size[0] * size[1] >= direct.lanes(x.itemsize) else 1)
    assert_same(fastconv.conv2d, naive.conv2d, (x, weight, bias), options, exact=True)
    layer = fastconv.Conv2d(weight, bias, groups=2, activation="relu")
    assert np.array_equal(layer(x, residual), np.maximum(naive.conv2d(x, weight, bias, groups=2) + residual, 0))
    _shown_where_the_loops_show_it(x, weight, dout, options)


@EACH_DTYPE
@pytest.mark.parametrize("N, size, stride", [(5, (9, 11), 2), (3, (8, 8), 2), (2, (13, 70), 2), (2, (41, 43), (3, 2)), (3, (5, 17), (1, 2)), (1, (6, 33), 2),
                                             (2, (6, 7), 2)])
@pytest.mark.parametrize("chain, near_bytes, sums_bytes", [(512, 400_000, 400_000), (8, 3000, 5000)])
def test_gradient_of_one_tap_and_stride_is_spread(monkeypatch, forget, N, size, stride, chain, near_bytes, sums_bytes, dtype):
    """Tiles that end within a row, in the next image, behind the last pixel; several chunks of filters and blocks of pixels and channels."""
    monkeypatch.setattr(direct, "_filters", direct._pixels)
    monkeypatch.setattr(direct, "MOST_BYTES", 0)             # no other way
    monkeypatch.setattr(direct, "CHAIN", chain)
    monkeypatch.setattr(direct, "NEAR_BYTES", near_bytes)
    monkeypatch.setattr(direct, "SUMS_BYTES", sums_bytes)
    rng = np.random.default_rng(3)
    x, weight = rng.integers(-4, 5, (N, 2 * 37, *size)).astype(dtype), rng.integers(-4, 5, (2 * 12, 37, 1, 1)).astype(dtype)
    options = dict(stride=stride, groups=2, algorithm="direct")
    plan = fastconv.plan_conv2d(x.shape, weight.shape, dtype, **options)
    assert plan.to_input.across == "pixels"
    _shown_where_the_loops_show_it(x, weight, rng.integers(-4, 5, plan.y_shape).astype(dtype), options)


@EACH_DTYPE
@pytest.mark.parametrize("padding", [1, ((0, 2), (0, 3)), ((1, 0), (0, 0))], ids=str)
@pytest.mark.parametrize("size", [(1, 1), (4, 6), (5, 7)])
def test_gradient_of_one_tap_and_stride_with_padding(padding, size, dtype):
    """Sums that are those of another phase, or of outputs behind the image's end."""
    rng = np.random.default_rng(3)
    x, weight = rng.integers(-4, 5, (2, 3, *size)).astype(dtype), rng.integers(-4, 5, (70, 3, 1, 1)).astype(dtype)
    options = dict(stride=2, padding=padding, algorithm="direct")
    dout = rng.integers(-4, 5, fastconv.conv2d(x, weight, **options).shape).astype(dtype)
    assert_same(fastconv.conv2d_backward, naive.conv2d_backward, (dout, x, weight), options, exact=True)


@EACH_DTYPE
@pytest.mark.parametrize("algorithm, kernel, size", [("_filters", 3, (9, 16)), ("_pixels", 3, (9, 32)), ("_pixels", 1, (8, 16)), ("_pixels", 1, (5, 7)),
                                                     ("winograd", 3, (8, 16)), ("winograd", 3, (9, 14)), ("strassen", 1, (8, 16)), ("strassen", 1, (6, 11))])
@pytest.mark.parametrize("off", [0, 3])
def test_results_past_the_caches(monkeypatch, forget, algorithm, kernel, size, off, dtype):
    """Where they begin with a line of the cache and where not: the same bits, and those of the loops."""
    if algorithm.startswith("_"):
        monkeypatch.setattr(direct, "_pixels" if algorithm == "_filters" else "_filters", getattr(direct, algorithm))
        monkeypatch.setattr(direct, "MOST_BYTES", 0)
    rng = np.random.default_rng(3)
    x, weight = rng.integers(-4, 5, (3, 40, *size)).astype(dtype), rng.integers(-4, 5, (36, 40, kernel, kernel)).astype(dtype)
    residual, dout = rng.integers(-4, 5, (2, 3, 36, *size)).astype(dtype)
    options = dict(padding=kernel // 2, algorithm="direct" if algorithm.startswith("_") else algorithm)
    names = {"winograd": winograd_results, "strassen": strassen_kernels}.get(algorithm, direct_kernels).JOB
    results = []
    for limit in (0, 1 << 60):
        monkeypatch.setattr(shape, "PAST_BYTES", limit)
        fastconv.plan.conv_plan.cache_clear()
        plan = fastconv.plan_conv2d(x.shape, weight.shape, dtype, **options)
        assert all(bool(stage.job[names.index("flags")] & PAST) == (limit == 0) for stage in (plan.forward, plan.to_input))
        memory = np.zeros(residual.size + 64, dtype)
        at = -memory.ctypes.data % 64 // memory.itemsize + off
        y = fastconv.conv2d(x, weight, out=memory[at:at + residual.size].reshape(residual.shape), **options)
        z = fastconv.Conv2d(weight, padding=kernel // 2, activation="relu")(x, residual)
        results.append((y, z, *fastconv.conv2d_backward(dout, x, weight, need=(True, False, False), **options)[:1]))
    assert all(np.array_equal(a, b) for a, b in zip(*results))
    y = naive.conv2d(x, weight, padding=kernel // 2)
    dx, *_ = naive.conv2d_backward(dout, x, weight, padding=kernel // 2)
    for a, b in zip(results[0], (y, np.maximum(y + residual, 0), dx)):
        assert np.allclose(a, b, rtol=0, atol=(tolerance("winograd", dtype) or 1e-13) * np.abs(b).max())


@EACH_DTYPE
@pytest.mark.parametrize("kernel, stride, padding", [(1, 2, 0), (1, 3, 1), ((1, 3), 2, (0, 1)), ((3, 1), (2, 3), 1)])
@pytest.mark.parametrize("way", ["_filters", "_pixels"])
def test_what_one_tap_does_not_read_is_left_out(monkeypatch, forget, way, kernel, stride, padding, dtype):
    """Strided kernels of one row or column, in both ways and several blocks."""
    one = getattr(direct, way)
    monkeypatch.setattr(direct, "_filters", lambda *arguments: one(*arguments[:11]))
    monkeypatch.setattr(direct, "_pixels", direct._filters)
    monkeypatch.setattr(direct, "WINDOW_BYTES", 2000)
    monkeypatch.setattr(direct, "MANY_READS", 1)
    monkeypatch.setattr(direct, "WHOLE_BYTES", 4000)
    rng = np.random.default_rng(3)
    x, weight = rng.integers(-4, 5, (2, 12, 13, 75)).astype(dtype), rng.integers(-4, 5, (80, 6, *np.broadcast_to(kernel, 2))).astype(dtype)
    options = dict(stride=stride, padding=padding, groups=2, algorithm="direct")
    assert fastconv.plan_conv2d(x.shape, weight.shape, dtype, **options).forward.across == way[1:]
    x[1, 3, 6, 30] = np.nan
    assert_same(fastconv.conv2d, naive.conv2d, (x, weight), options, exact=True)


def test_a_call_like_an_earlier_one_is_known_whatever_dtype_object_its_arrays_have():
    x, weight = (pickle.loads(pickle.dumps(np.ones(shape, np.float32))) for shape in ((1, 2, 4, 4), (3, 2, 3, 3)))
    assert x.dtype is not np.dtype(np.float32)
    fastconv.conv2d(x, weight)
    for known in (_known(x, weight, None, 1, 0, 1, 1, "auto"), _known(x, np.ones_like(weight), None, 1, 0, 1, 1, "auto")):
        assert known is not None and known.dtype == np.float32
    assert _known(x.astype(">f4"), weight, None, 1, 0, 1, 1, "auto") is None
