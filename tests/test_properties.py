"""Shapes and parameters that hypothesis makes up, against the naive loops: sums of small integers may not differ by one bit."""
import numpy as np
import pytest
from cases import conv_cases, fold_cases, pool_cases
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

import fastconv
import naive
from fastconv.blocking import direct, direct_weight, im2col, parts
from fastconv.testing import assert_same

DTYPES = st.sampled_from([np.float32, np.float64])
EXAMPLES = settings(max_examples=400)
NO_SEED = 2 ** 20                            # that an x has: a gradient equal to x leaves nothing of dx


def sizes(most, least=1):
    """An integer, or one for each axis."""
    return st.integers(least, most) | st.tuples(st.integers(least, most), st.integers(least, most))


PADDING = sizes(3, 0) | st.tuples(*[st.tuples(st.integers(0, 3), st.integers(0, 3))] * 2)


def pair(value):
    return value if isinstance(value, tuple) else (value, value)


def sides(padding):
    """((top, bottom), (left, right))."""
    return tuple(pair(side) for side in pair(padding))


def fits(size, kernel, padding, dilation):
    return all(d * (k - 1) < n + sum(p) for n, k, p, d in zip(size, pair(kernel), sides(padding), pair(dilation)))


def integers(seed, shape, dtype, most=3):
    return np.random.default_rng(seed).integers(-most, most + 1, shape).astype(dtype)


def image(draw, shape, dtype):
    """An array (N, C, H, W) of small integers, in one of the layouts a user may have it in, now and then without its batch axis."""
    x = integers(draw(st.integers(0, 2 ** 16)), shape, dtype)
    layout = draw(st.sampled_from(["C", "C", "F", "channels last", "backwards", "swapped"]))
    if layout == "F":
        x = np.asfortranarray(x)
    elif layout == "channels last":
        x = x.transpose(0, 2, 3, 1).copy().transpose(0, 3, 1, 2)
    elif layout == "backwards":
        x = x[:, :, ::-1, ::-1].copy()[:, :, ::-1, ::-1]
    elif layout == "swapped":
        x = x.astype(x.dtype.newbyteorder())
    return x[0] if shape[0] == 1 and draw(st.booleans()) else x


SHAPES = st.tuples(st.integers(0, 3), st.integers(1, 5), st.integers(1, 11), st.integers(1, 19))


@st.composite
def convolutions(draw):
    """x, weight, bias, and the other arguments."""
    dtype, (N, C, H, W) = draw(DTYPES), draw(SHAPES)
    groups = draw(st.sampled_from([g for g in range(1, C + 1) if C % g == 0]))
    F, kernel = groups * draw(st.integers(1, 9)), draw(st.tuples(st.integers(1, 4), st.integers(1, 4)))
    kwargs = {"stride": draw(sizes(3)), "padding": draw(PADDING | st.sampled_from(["valid", "same"])), "dilation": draw(sizes(3)),
              "groups": groups, "algorithm": draw(st.sampled_from(["auto", "direct", "im2col"]))}
    if kwargs["padding"] == "same":
        kwargs["stride"] = 1
    else:
        assume(fits((H, W), kernel, 0 if kwargs["padding"] == "valid" else kwargs["padding"], kwargs["dilation"]))
    weight = integers(draw(st.integers(0, 2 ** 16)), (F, C // groups, *kernel), dtype)
    bias = draw(st.none() | st.just(weight[:, 0, 0, 0] * 2))
    return (image(draw, (N, C, H, W), dtype), weight, bias), kwargs


@EXAMPLES
@given(convolutions())
@example(((np.ones((1, 1, 1), np.float32), np.ones((1, 1, 4, 4), np.float32), None), {"padding": ((3, 0), (0, 3))}))
def test_convolution(case):
    arrays, kwargs = case
    assert_same(fastconv.conv2d, naive.conv2d, arrays, kwargs, exact=True)
    dout = integers(1, fastconv.conv2d(*arrays, **kwargs).shape, arrays[1].dtype)
    assert_same(fastconv.conv2d_backward, naive.conv2d_backward, (dout, *arrays), kwargs, exact=True)


@EXAMPLES
@given(convolutions(), st.integers(0, 7))
def test_convolution_is_the_transpose_of_its_gradient(case, seed):
    """<conv(x, w), dout> = <x, dx> = <w, dweight>, without a naive loop in sight."""
    (x, weight, _), kwargs = case
    y = fastconv.conv2d(x, weight, **kwargs)
    dout = integers(seed, y.shape, y.dtype)
    dx, dweight, _ = fastconv.conv2d_backward(dout, x, weight, **kwargs)
    assert np.vdot(y, dout) == np.vdot(x.astype(x.dtype.newbyteorder("=")), dx) == np.vdot(weight, dweight)


@st.composite
def windows(draw):
    """x, kernel_size, and the arguments that both poolings share."""
    dtype, (N, C, H, W) = draw(DTYPES), draw(SHAPES)
    kernel, dilation, padding = draw(sizes(4)), draw(sizes(3)), draw(PADDING)
    assume(fits((H, W), kernel, padding, dilation))
    assume(all(max(side) <= d * (k - 1) for side, k, d in zip(sides(padding), pair(kernel), pair(dilation))))
    kwargs = {"stride": draw(st.none() | sizes(5)), "padding": padding, "dilation": dilation, "ceil_mode": draw(st.booleans())}
    return (image(draw, (N, C, H, W), dtype), kernel), kwargs


@EXAMPLES
@given(windows(), st.sampled_from([None, np.nan, np.inf, -np.inf]))
def test_max_pooling(case, special):
    (x, kernel), kwargs = case
    if special is not None and x.size:
        x = np.where(integers(0, x.shape, x.dtype) > 1, x.dtype.type(special), x)
    assert_same(fastconv.max_pool2d, naive.max_pool2d, (x, kernel), kwargs, exact=True)
    assert_same(fastconv.max_pool2d, naive.max_pool2d, (x, kernel), {**kwargs, "return_indices": True}, exact=True)
    y, indices = fastconv.max_pool2d(x, kernel, **kwargs, return_indices=True)
    dout = integers(1, y.shape, y.dtype)
    assert_same(fastconv.max_pool2d_backward, naive.max_pool2d_backward, (dout, x, kernel), kwargs, exact=True)
    assert_same(fastconv.max_pool2d_backward, naive.max_pool2d_backward, (dout, x, kernel), {**kwargs, "indices": indices}, exact=True)


@EXAMPLES
@given(windows(), st.sampled_from([np.int8, np.uint8, np.int16, np.uint32, np.int64, np.uint64]))
def test_max_pooling_of_integers(case, dtype):
    (x, kernel), kwargs = case
    x = x.astype(dtype) + np.iinfo(dtype).min + 2
    assert_same(fastconv.max_pool2d, naive.max_pool2d, (x, kernel), {**kwargs, "return_indices": True}, exact=True)


@EXAMPLES
@given(windows(), st.booleans(), st.sampled_from([None, 1, 2, -4, 3]))
def test_average_pooling(case, count_include_pad, divisor):
    (x, kernel), kwargs = case
    kwargs.update(count_include_pad=count_include_pad, divisor_override=divisor)
    exact = divisor not in (None, 3)                     # quotients that are no binary fractions are rounded
    assert_same(fastconv.avg_pool2d, naive.avg_pool2d, (x, kernel), kwargs, exact=exact)
    dout = integers(1, fastconv.avg_pool2d(x, kernel, **kwargs).shape, x.dtype.newbyteorder("="))
    assert_same(fastconv.avg_pool2d_backward, naive.avg_pool2d_backward, (dout, x, kernel), kwargs, exact=exact)


@st.composite
def patches(draw):
    dtype, (N, C, H, W) = draw(DTYPES), draw(SHAPES)
    kernel = draw(sizes(4))
    kwargs = {"dilation": draw(sizes(3)), "padding": draw(PADDING), "stride": draw(sizes(4))}
    assume(fits((H, W), kernel, kwargs["padding"], kwargs["dilation"]))
    return image(draw, (N, C, H, W), dtype), kernel, kwargs


@EXAMPLES
@given(patches(), st.integers(0, 7))
def test_fold(case, seed):
    x, kernel, kwargs = case
    assert_same(fastconv.im2col, naive.im2col, (x, kernel), kwargs, exact=True)
    cols = integers(seed, fastconv.im2col(x, kernel, **kwargs).shape, x.dtype.newbyteorder("="))
    assert_same(fastconv.im2col_backward, naive.im2col_backward, (cols, x, kernel), kwargs, exact=True)
    assert_same(fastconv.col2im, naive.col2im, (cols, x.shape[-2:], kernel), kwargs, exact=True)
    assert_same(fastconv.col2im_backward, naive.col2im_backward, (x, cols, x.shape[-2:], kernel), kwargs, exact=True)


@st.composite
def normalisations(draw):
    """x, running_mean, running_var, weight, bias, and the other arguments."""
    dtype, C = draw(DTYPES), draw(st.integers(1, 70))
    shape = (draw(st.integers(0, 6)), C, *draw(st.lists(st.integers(1, 5), max_size=3)))
    values = int(np.prod(shape)) // C
    rng = np.random.default_rng(draw(st.integers(0, 2 ** 16)))
    offset, scale = draw(st.sampled_from([0, 3, -100])), draw(st.sampled_from([1, 1e-2, 1e3]))
    x = (rng.standard_normal(shape) * scale + offset * scale).astype(dtype)
    mean, var = (rng.standard_normal(C) * scale).astype(dtype), (rng.random(C) * scale ** 2 + scale ** 2).astype(dtype)
    running = draw(st.booleans())
    training = draw(st.booleans())
    assume(values != 1 or (running and not training))
    weight, bias = (draw(st.none() | st.just(rng.standard_normal(C).astype(dtype))) for _ in range(2))
    kwargs = {"training": training, "momentum": draw(st.sampled_from([0.0, 0.1, 0.5, 1.0])), "eps": draw(st.sampled_from([1e-5, 0.5]))}
    return (x, *((mean, var) if running else (None, None)), weight, bias), kwargs


@EXAMPLES
@given(normalisations())
def test_batch_norm(case):
    arrays, kwargs = case
    # Deviations from a mean of 100 deviations keep two digits less.
    tolerance = 1e-4 if arrays[0].dtype == np.float32 else 1e-11
    assert_same(fastconv.batch_norm, naive.batch_norm, arrays, {**kwargs, "return_stats": True}, tolerance=tolerance)
    dout = np.random.default_rng(NO_SEED).standard_normal(arrays[0].shape).astype(arrays[0].dtype)
    few = arrays[0].size // arrays[0].shape[1] < 12      # dx may then be a difference of numbers that are nearly equal
    assert_same(fastconv.batch_norm_backward, naive.batch_norm_backward, (dout, *arrays), {**kwargs, "need": (not few, True, True)},
                tolerance=tolerance)


@EXAMPLES
@given(normalisations())
def test_batch_norm_takes_its_own_statistics_back(case):
    (x, mean, var, weight, bias), kwargs = case
    mean, var = (None, None) if kwargs["training"] else (mean, var)
    y, center, invstd = fastconv.batch_norm(x, mean, var, weight, bias, **kwargs, return_stats=True)
    dout = np.random.default_rng(NO_SEED).standard_normal(x.shape).astype(x.dtype)
    again = fastconv.batch_norm_backward(dout, x, mean, var, weight, bias, **kwargs)
    given = fastconv.batch_norm_backward(dout, x, mean, var, weight, bias, **kwargs, mean=center, invstd=invstd)
    few = x.size // x.shape[1] < 12
    for one, other in list(zip(again, given))[few:]:
        assert_same(one, other, tolerance=1e-4 if x.dtype == np.float32 else 1e-11)


# ---------------------------------------------------------------- blocks
SMALLEST = {
    parts: {"TASKS": 1000, "TASK_FLOPS": 1.0, "BAND_BYTES": 1},
    im2col: {"CHUNK_TERMS": {4: 5, 8: 3}, "BLOCK_BYTES": 512, "RESULT_BYTES": 512, "COLUMN_ROWS": 4, "PACK_INSIDE": 0, "PATCH_USES": 1},
    direct: {"CHAIN": 5, "TOTAL_BYTES": 512, "WINDOW_BYTES": 512, "LEAST_PIXELS": 1, "COLUMNS_BYTES": 512},
    direct_weight: {"TOTAL_BYTES": 512, "WINDOW_BYTES": 512, "UNIT_PIXELS": 5, "LEAST_UNIT": 1, "ROW_BYTES": 64, "LINED_BYTES": 512, "ROUND_BYTES": 512,
                    "PART_UNITS": 1, "PARTS_BYTES": 600},
}


@pytest.fixture(params=["smallest", "smallest, not turned"])
def blocks(request, monkeypatch, forget):
    """Every threshold of the blockings as low as it goes: small cases fall into as many blocks as large layers do."""
    for module, thresholds in SMALLEST.items():
        for name, value in thresholds.items():
            monkeypatch.setattr(module, name, value)
    turned = request.param == "smallest"
    monkeypatch.setattr(direct_weight, "to_weight", direct_weight.turned if turned else direct_weight.dots)
    if not turned:
        monkeypatch.setattr(im2col, "FEW_PIXELS", 0)
    forget()


@pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["f4", "f8"])
def test_blocks_of_convolutions(blocks, dtype):
    several = 0
    for case in conv_cases():
        arrays, kwargs = case.arrays(dtype, integers=True), {**case.kwargs, "algorithm": "im2col"}
        assert_same(fastconv.conv2d, naive.conv2d, arrays, kwargs, exact=True)
        dout = case.dout(dtype, integers=True)
        assert_same(fastconv.conv2d_backward, naive.conv2d_backward, (dout, *arrays), kwargs, exact=True)
        several += fastconv.plan_conv2d(case.x, case.weight, dtype, **kwargs).to_input.blocks[3] > 1
    assert several > 20


@pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["f4", "f8"])
def test_blocks_of_the_direct_engine(blocks, dtype):
    tasks, rounds, several = 0, 0, 0
    for case in conv_cases():
        arrays, kwargs = case.arrays(dtype, integers=True), {**case.kwargs, "algorithm": "direct"}
        assert_same(fastconv.conv2d, naive.conv2d, arrays, kwargs, exact=True)
        dout = case.dout(dtype, integers=True)
        assert_same(fastconv.conv2d_backward, naive.conv2d_backward, (dout, *arrays), kwargs, exact=True)
        made = fastconv.plan_conv2d(case.x, case.weight, dtype, **kwargs)
        tasks += made.forward.tasks > 8
        rounds += len(made.to_weight.rounds) > 1
        several += made.to_weight.parts > 1
    assert tasks > 20 and rounds > 5 and several > 5


def test_bands_of_pooling_and_col2im(blocks):
    for case in pool_cases():
        (x,), dout = case.arrays(np.float32, integers=True), case.dout(np.float32, integers=True)
        assert_same(fastconv.max_pool2d, naive.max_pool2d, (x,), case.max_kwargs, exact=True)
        assert_same(fastconv.max_pool2d_backward, naive.max_pool2d_backward, (dout, x), case.max_kwargs, exact=True)
        indices = fastconv.max_pool2d(x, **case.max_kwargs, return_indices=True)[1]
        assert_same(fastconv.max_pool2d_backward, naive.max_pool2d_backward, (dout, x), {**case.max_kwargs, "indices": indices}, exact=True)
        assert_same(fastconv.avg_pool2d, naive.avg_pool2d, (x,), case.avg_kwargs)
        assert_same(fastconv.avg_pool2d_backward, naive.avg_pool2d_backward, (dout, x), case.avg_kwargs)
    for case in fold_cases():
        x, = case.arrays(np.float32, integers=True)
        cols = fastconv.im2col(x, case.kernel_size, **case.kwargs)
        assert_same(fastconv.col2im, naive.col2im, (cols, case.output_size, case.kernel_size), case.kwargs, exact=True)
        assert_same(fastconv.im2col_backward, naive.im2col_backward, (cols, x, case.kernel_size), case.kwargs, exact=True)
