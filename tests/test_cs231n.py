"""CS231n's functions by fastconv: the notebooks' checks, every backward on every forward's cache, and what the course gets wrong."""

import copy
import functools
import inspect
import subprocess
import sys
import types
from itertools import product

import numpy as np
import pytest

import naive
from fastconv import twin
from fastconv.cs231n import fast_layers, im2col, layers
from fastconv.testing import assert_same

CONV_FORWARDS = [
    layers.conv_forward_naive,
    fast_layers.conv_forward_fast,
    fast_layers.conv_forward_im2col,
    fast_layers.conv_forward_strides,
]
CONV_BACKWARDS = [
    layers.conv_backward_naive,
    fast_layers.conv_backward_fast,
    fast_layers.conv_backward_im2col,
    fast_layers.conv_backward_strides,
]
POOL_FORWARDS = [
    layers.max_pool_forward_naive,
    fast_layers.max_pool_forward_fast,
    fast_layers.max_pool_forward_reshape,
    fast_layers.max_pool_forward_im2col,
]
POOL_BACKWARDS = [
    layers.max_pool_backward_naive,
    fast_layers.max_pool_backward_fast,
    fast_layers.max_pool_backward_reshape,
    fast_layers.max_pool_backward_im2col,
]
BATCHNORMS = [
    (layers.batchnorm_forward, layers.batchnorm_backward, (6, 5)),
    (layers.batchnorm_forward, layers.batchnorm_backward_alt, (6, 5)),
    (layers.spatial_batchnorm_forward, layers.spatial_batchnorm_backward, (2, 3, 4, 5)),
]


def normal(*shape, dtype=np.float64, seed=0):
    return np.random.default_rng((seed, *shape)).standard_normal(shape).astype(dtype)


def ramp(first, last, *shape):
    return np.linspace(first, last, num=np.prod(shape)).reshape(shape)


def relative(a, b):
    """The notebooks' measure: the largest |a - b| / (|a| + |b|)."""
    assert a.shape == b.shape
    return np.max(np.abs(a - b) / np.maximum(1e-8, np.abs(a) + np.abs(b)))


def numerical_gradient(function, array, dout, step=1e-5):
    """d sum(function() * dout) / d array by central differences; array is changed in place and put back."""
    gradient = np.zeros_like(array)
    for place in np.ndindex(array.shape):
        value = array[place]
        array[place] = value + step
        above = function()
        array[place] = value - step
        below = function()
        array[place] = value
        gradient[place] = np.sum((above - below) * dout) / (2 * step)
    return gradient


# --- names


@pytest.mark.parametrize(
    ("function", "arguments"),
    [(f, "x w b conv_param") for f in CONV_FORWARDS]
    + [(f, "x pool_param") for f in POOL_FORWARDS]
    + [(f, "dout cache") for f in CONV_BACKWARDS + POOL_BACKWARDS]
    + [(forward, "x gamma beta bn_param") for forward, _, _ in BATCHNORMS]
    + [(backward, "dout cache") for _, backward, _ in BATCHNORMS]
    + [
        (im2col.get_im2col_indices, "x_shape field_height field_width padding=1 stride=1"),
        (im2col.im2col_indices, "x field_height field_width padding=1 stride=1"),
        (im2col.col2im_indices, "cols x_shape field_height=3 field_width=3 padding=1 stride=1"),
    ],
)
def test_the_course_s_arguments(function, arguments):
    parameters = inspect.signature(function).parameters.values()
    written = [p.name if p.default is p.empty else f"{p.name}={p.default}" for p in parameters]
    assert " ".join(written) == arguments


# --- convolution


@pytest.mark.parametrize("forward", CONV_FORWARDS)
def test_notebook_convolution(forward):
    x, w, b = ramp(-0.1, 0.5, 2, 3, 4, 4), ramp(-0.2, 0.3, 3, 3, 4, 4), np.linspace(-0.1, 0.2, num=3)
    out, _ = forward(x, w, b, {"stride": 2, "pad": 1})
    assert out.shape == (2, 3, 2, 2)
    printed = [[-0.08759809, -0.10987781], [-0.18387192, -0.2109216]], [[0.59480972, 0.56776003], [2.36270298, 2.36904306]]
    assert relative(out[0, 0], np.array(printed[0])) < 1e-7
    assert relative(out[1, 1:].reshape(4, 2)[1:3], np.array(printed[1])) < 1e-7


GRADIENT_LAYER = normal(4, 3, 5, 5), normal(2, 3, 3, 3), normal(2), {"stride": 1, "pad": 1}


@functools.cache
def numerical_convolution_gradients():
    x, w, b, conv_param = copy.deepcopy(GRADIENT_LAYER)
    dout = normal(4, 2, 5, 5, seed=1)
    return [numerical_gradient(lambda: layers.conv_forward_naive(x, w, b, conv_param)[0], array, dout) for array in (x, w, b)]


@pytest.mark.parametrize(("forward", "backward"), list(product(CONV_FORWARDS, CONV_BACKWARDS)))
def test_convolution_gradients_on_any_cache(forward, backward):
    _, cache = forward(*GRADIENT_LAYER)
    gradients = backward(normal(4, 2, 5, 5, seed=1), cache)
    for gradient, number in zip(gradients, numerical_convolution_gradients(), strict=True):
        assert relative(gradient, number) < 1e-7


@pytest.mark.parametrize("forward", CONV_FORWARDS)
def test_convolution_cache(forward):
    x, w, b, conv_param = normal(1, 2, 4, 4), normal(2, 2, 3, 3), normal(2), {"stride": 1, "pad": 0}
    _, cache = forward(x, w, b, conv_param)
    assert all(kept is given for kept, given in zip(cache[:4], (x, w, b, conv_param), strict=True))
    assert conv_param == {"stride": 1, "pad": 0}


@pytest.mark.parametrize("backward", CONV_BACKWARDS)
def test_convolution_takes_the_course_s_own_cache(backward):
    """Which has the patches behind conv_param."""
    x, w, b, conv_param, dout = normal(1, 2, 4, 4), normal(2, 2, 3, 3), normal(2), {"stride": 1, "pad": 0}, normal(1, 2, 2, 2)
    assert_same(backward(dout, (x, w, b, conv_param, "patches")), naive.conv2d_backward(dout, x, w, b))


@pytest.mark.parametrize(("name", "algorithm"), [("fast", "auto"), ("im2col", "im2col"), ("strides", "im2col")])
def test_convolution_algorithm(name, algorithm, monkeypatch):
    """Results are the same whatever the algorithm; only the argument tells."""
    asked = []
    for function in ("conv2d", "conv2d_backward"):
        monkeypatch.setattr(fast_layers, function, lambda *args, algorithm: asked.append(algorithm))
    _, cache = getattr(fast_layers, f"conv_forward_{name}")(*GRADIENT_LAYER)
    getattr(fast_layers, f"conv_backward_{name}")(normal(4, 2, 5, 5), cache)
    assert asked == [algorithm] * 2


CONV_SHAPES = [
    # x, w, stride, pad
    ((5, 3, 31, 31), (4, 3, 3, 3), 2, 1),  # the notebook's fast layer, smaller
    ((2, 3, 7, 9), (4, 3, 3, 5), 1, 2),  # kernel not square
    ((2, 3, 9, 7), (4, 3, 5, 2), 3, 1),  # does not tile: rows and columns left over
    ((1, 1, 6, 6), (1, 1, 2, 2), 4, 0),  # pixels between the windows
    ((2, 3, 5, 8), (2, 3, 3, 3), 2, (0, 1)),  # a padding for each axis
    ((2, 3, 5, 8), (2, 3, 2, 3), (1, 2), (2, 0)),
    ((1, 2, 3, 4), (3, 2, 3, 4), 1, 0),  # kernel as large as the image
    ((3, 2, 4, 4), (2, 2, 1, 1), 1, 0),
    ((0, 2, 4, 4), (2, 2, 3, 3), 1, 1),  # empty batch
]


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("x_shape", "w_shape", "stride", "pad"), CONV_SHAPES)
def test_convolution_shapes(x_shape, w_shape, stride, pad, dtype, order):
    x, w, b = (
        np.array(normal(*x_shape), dtype, order=order),
        np.array(normal(*w_shape), dtype, order=order),
        normal(w_shape[0], dtype=dtype),
    )
    conv_param = {"stride": stride, "pad": pad}
    truth = naive.conv2d(*(a.astype(np.float64) for a in (x, w, b)), stride, pad).astype(dtype)
    dout = np.array(normal(*truth.shape), dtype, order=order)
    gradients = naive.conv2d_backward(*(a.astype(np.float64) for a in (dout, x, w, b)), stride, pad)
    gradients = tuple(gradient.astype(dtype) for gradient in gradients)
    for forward, backward in zip(CONV_FORWARDS, CONV_BACKWARDS, strict=True):
        out, cache = forward(x, w, b, conv_param)
        assert_same(out, truth)
        assert_same(backward(dout, cache), gradients)


@pytest.mark.parametrize(
    ("dtypes", "result"),
    [
        ("f8 f4 i8", "f8"),  # the notebook's image filters: float64 photographs, an integer bias
        ("f4 f4 f4", "f4"),
        ("f4 f4 f8", "f8"),
        ("f4 f4 i8", "f8"),
        ("u1 f4 f4", "f4"),
        ("i8 i8 i8", "f8"),
        ("u1 i2 ?", "f8"),
        ("? ? ?", "f8"),
        ("f2 f2 f2", "f2"),
        ("f2 f4 f2", "f4"),
        (">f8 f4 >f4", "f8"),
    ],
)
def test_convolution_dtypes(dtypes, result):
    x, w, b = (
        np.abs(4 * normal(*shape)).astype(dtype) for shape, dtype in zip([(2, 3, 5, 5), (2, 3, 3, 3), (2,)], dtypes.split(), strict=True)
    )
    truth = naive.conv2d(*(a.astype(np.float64) for a in (x, w, b)), 1, 1)
    for forward, backward in zip(CONV_FORWARDS, CONV_BACKWARDS, strict=True):
        out, cache = forward(x, w, b, {"stride": 1, "pad": 1})
        assert_same(out, truth.astype(result))
        for gradient, like in zip(backward(np.ones_like(out), cache), (x, w, b), strict=True):
            assert (gradient.dtype, gradient.shape) == (np.dtype(result), like.shape)


def test_photograph_filters():
    """Grey and edges of a photograph, as in the notebook: float64 images, an integer bias."""
    x, w, b = np.round(np.abs(60 * normal(2, 3, 20, 20))), np.zeros((2, 3, 3, 3)), np.array([0, 128])
    w[0, :, 1, 1] = 0.3, 0.6, 0.1
    w[1, 2] = [[1, 2, 1], [0, 0, 0], [-1, -2, -1]]
    out, _ = fast_layers.conv_forward_fast(x, w, b, {"stride": 1, "pad": 1})
    assert relative(out[:, 0], 0.3 * x[:, 0] + 0.6 * x[:, 1] + 0.1 * x[:, 2]) < 1e-12
    blue = np.pad(x[:, 2], ((0, 0), (1, 1), (1, 1)))
    rows = blue[:, :, :-2] + 2 * blue[:, :, 1:-1] + blue[:, :, 2:]
    assert relative(out[:, 1], rows[:, :-2] - rows[:, 2:] + 128) < 1e-12


# --- max pooling


@pytest.mark.parametrize("forward", POOL_FORWARDS)
def test_notebook_max_pool(forward):
    x = ramp(-0.3, 0.4, 2, 3, 4, 4)
    out, _ = forward(x, {"pool_width": 2, "pool_height": 2, "stride": 2})
    assert relative(out[0, 0], np.array([[-0.26315789, -0.24842105], [-0.20421053, -0.18947368]])) < 1e-7
    assert np.array_equal(out, x[:, :, 1::2, 1::2])  # x grows along every axis


@pytest.mark.parametrize(("forward", "backward"), list(product(POOL_FORWARDS, POOL_BACKWARDS)))
def test_max_pool_gradients_on_any_cache(forward, backward):
    x, dout, pool_param = normal(3, 2, 8, 8), normal(3, 2, 4, 4), {"pool_height": 2, "pool_width": 2, "stride": 2}
    _, cache = forward(x, pool_param)
    assert cache[0] is x
    assert cache[1] is pool_param
    number = numerical_gradient(lambda: fast_layers.max_pool_forward_fast(x, pool_param)[0], x, dout)
    assert relative(backward(dout, cache), number) < 1e-7


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    ("x_shape", "height", "width", "stride"),
    [
        ((2, 3, 8, 8), 2, 2, 2),
        ((2, 3, 7, 9), 2, 3, 2),  # not square, overlapping, rows left over
        ((2, 3, 9, 7), 3, 2, 1),
        ((1, 2, 9, 9), 2, 2, 3),  # pixels between the windows
        ((1, 2, 8, 6), 2, 3, (2, 3)),
        ((2, 1, 3, 4), 3, 4, 1),
        ((0, 2, 4, 4), 2, 2, 2),
    ],
)
def test_max_pool_shapes(x_shape, height, width, stride, dtype, order):
    x = np.array(np.round(2 * normal(*x_shape)), dtype, order=order)  # many ties
    truth = naive.max_pool2d(x, (height, width), stride)
    dout = np.array(np.round(9 * normal(*truth.shape)), dtype, order=order)  # whole numbers: sums are exact
    gradient = naive.max_pool2d_backward(dout, x, (height, width), stride)
    for forward, backward in zip(POOL_FORWARDS, POOL_BACKWARDS, strict=True):
        out, cache = forward(x, {"pool_height": height, "pool_width": width, "stride": stride})
        assert_same(out, truth, exact=True)
        assert_same(backward(dout, cache), gradient, exact=True)


@pytest.mark.parametrize(("forward", "backward"), list(zip(POOL_FORWARDS, POOL_BACKWARDS, strict=True)))
def test_max_pool_ties_and_nan(forward, backward):
    x = np.array([[[[7.0, 7.0, 1.0, 2.0], [7.0, 7.0, np.nan, 9.0]]]])
    out, cache = forward(x, {"pool_height": 2, "pool_width": 2, "stride": 2})
    assert_same(out, np.array([[[[7.0, np.nan]]]]))
    dx = backward(np.array([[[[3.0, 5.0]]]]), cache)
    assert dx.tolist() == [[[[3.0, 0.0, 0.0, 0.0], [0.0, 0.0, 5.0, 0.0]]]]  # the first of the equals, the NaN


@pytest.mark.parametrize(
    ("x_dtype", "dout_dtype", "result"),
    [("i4", "f8", "f8"), ("u1", "f4", "f4"), ("f4", "f8", "f8"), ("f2", "f2", "f2"), ("i8", "i8", "f8")],
)
def test_max_pool_dtypes(x_dtype, dout_dtype, result):
    x, dout = np.abs(50 * normal(2, 3, 4, 4)).astype(x_dtype), np.ones((2, 3, 2, 2), dout_dtype)
    for forward, backward in zip(POOL_FORWARDS, POOL_BACKWARDS, strict=True):
        out, cache = forward(x, {"pool_height": 2, "pool_width": 2, "stride": 2})
        assert_same(out, x.reshape(2, 3, 2, 2, 2, 2).max(axis=(3, 5)), exact=True)
        dx = backward(dout, cache)
        assert dx.dtype == np.dtype(result)
        assert dx.sum() == dout.sum()


def test_max_pool_of_large_integers():
    """As floats these two would tie."""
    x = np.array([[[[2**53, 2**53 + 1]]]])
    for forward, backward in zip(POOL_FORWARDS, POOL_BACKWARDS, strict=True):
        out, cache = forward(x, {"pool_height": 1, "pool_width": 2, "stride": 1})
        assert out.tolist() == [[[[2**53 + 1]]]]
        assert backward(np.ones((1, 1, 1, 1)), cache).tolist() == [[[[0.0, 1.0]]]]


# --- im2col

FIELDS = [
    ((2, 3, 5, 6), 3, 3, 1, 1),
    ((2, 3, 5, 6), 2, 3, 0, 1),
    ((3, 2, 8, 7), 3, 2, 1, 2),
    ((1, 1, 7, 7), 2, 2, 0, 3),
    ((0, 2, 4, 4), 3, 3, 1, 1),
]
FIELDS += [((2, 2, 6, 5), 3, 2, (1, 0), (2, 1))]


def columns_by_loops(x, field_height, field_width, padding, stride):
    """Window after window in reading order, and for each window image after image."""
    (PH, PW), (SH, SW) = np.broadcast_to(padding, 2), np.broadcast_to(stride, 2)
    xpad = np.pad(x, ((0, 0), (0, 0), (PH, PH), (PW, PW)))
    tops = range(0, xpad.shape[2] - field_height + 1, SH)
    lefts = range(0, xpad.shape[3] - field_width + 1, SW)
    columns = [image[:, top : top + field_height, left : left + field_width].ravel() for top in tops for left in lefts for image in xpad]
    return np.array(columns, x.dtype).reshape(len(columns), x.shape[1] * field_height * field_width).T


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("x_shape", "field_height", "field_width", "padding", "stride"), FIELDS)
def test_im2col(x_shape, field_height, field_width, padding, stride, dtype, order):
    x = np.array(normal(*x_shape), dtype, order=order)
    cols = im2col.im2col_indices(x, field_height, field_width, padding, stride)
    assert_same(cols, np.ascontiguousarray(columns_by_loops(x, field_height, field_width, padding, stride)), exact=True)


@pytest.mark.parametrize(("x_shape", "field_height", "field_width", "padding", "stride"), FIELDS)
def test_im2col_indices_pick_the_columns(x_shape, field_height, field_width, padding, stride):
    x = normal(*x_shape)
    k, i, j = im2col.get_im2col_indices(x_shape, field_height, field_width, padding, stride)
    assert k.shape == (x_shape[1] * field_height * field_width, 1)
    (PH, PW) = np.broadcast_to(padding, 2)
    picked = np.pad(x, ((0, 0), (0, 0), (PH, PH), (PW, PW)))[:, k, i, j]
    assert np.array_equal(
        picked.transpose(1, 2, 0).reshape(len(k), i.shape[1] * x_shape[0]), columns_by_loops(x, field_height, field_width, padding, stride)
    )


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize(("x_shape", "field_height", "field_width", "padding", "stride"), FIELDS)
def test_col2im_adds_what_im2col_copied(x_shape, field_height, field_width, padding, stride, order):
    """A pixel comes back times the number of windows over it; and col2im is im2col transposed."""
    field = field_height, field_width, padding, stride
    number, ones = np.arange(np.prod(x_shape), dtype=np.float64).reshape(x_shape), np.ones(x_shape)
    cover = im2col.col2im_indices(np.asarray(columns_by_loops(ones, *field), order=order), x_shape, *field)
    assert np.array_equal(im2col.col2im_indices(np.asarray(columns_by_loops(number, *field), order=order), x_shape, *field), number * cover)
    cols = np.round(9 * normal(*columns_by_loops(ones, *field).shape))
    x = np.round(9 * normal(*x_shape))
    assert np.sum(im2col.col2im_indices(np.asarray(cols, order=order), x_shape, *field) * x) == np.sum(cols * columns_by_loops(x, *field))


def test_im2col_defaults_and_dtypes():
    x = np.arange(2 * 3 * 4 * 4).reshape(2, 3, 4, 4)
    cols = im2col.im2col_indices(x, 3, 3)
    assert_same(cols, np.ascontiguousarray(columns_by_loops(x, 3, 3, 1, 1).astype(np.float64)), exact=True)
    assert_same(im2col.col2im_indices(cols.astype(np.int32), x.shape), im2col.col2im_indices(cols, x.shape, 3, 3, 1, 1), exact=True)


def test_im2col_without_a_window():
    with pytest.raises(ValueError, match="field_height is larger"):
        im2col.get_im2col_indices((1, 1, 2, 5), 3, 3, padding=0)
    with pytest.raises(ValueError, match="reshape"):
        im2col.col2im_indices(np.ones((9, 5)), (1, 1, 4, 4))


# --- batch normalisation


def formula(x, gamma, beta, eps=1e-5):
    """Training batch norm as the course writes it, over all axes but the second; and mean and variance."""
    axes = (0, *range(2, x.ndim))
    column = (-1, *[1] * (x.ndim - 2))
    mean, var = x.mean(axis=axes), x.var(axis=axes)
    xhat = (x - mean.reshape(column)) / np.sqrt(var.reshape(column) + eps)
    return gamma.reshape(column) * xhat + beta.reshape(column), mean, var


@pytest.mark.parametrize(("forward", "backward", "shape"), BATCHNORMS)
def test_batchnorm_training(forward, backward, shape):
    x, gamma, beta = 5 * normal(*shape) + 12, normal(shape[1]), normal(shape[1]) + 1
    bn_param = {"mode": "train"}
    out, cache = forward(x, gamma, beta, bn_param)
    truth, mean, var = formula(x, gamma, beta)
    assert_same(out, truth)
    assert sorted(bn_param) == ["mode", "running_mean", "running_var"]
    assert_same(bn_param["running_mean"], 0.1 * mean)
    assert_same(bn_param["running_var"], 0.1 * var)  # biased

    dout = normal(*shape, seed=1)
    for array, gradient in zip((x, gamma, beta), backward(dout, cache), strict=True):
        number = numerical_gradient(lambda: forward(x, gamma, beta, {"mode": "train"})[0], array, dout)
        assert relative(gradient, number) < 1e-6


@pytest.mark.parametrize(("forward", "backward", "shape"), BATCHNORMS)
def test_batchnorm_test_mode(forward, backward, shape):
    x, gamma, beta, dout = normal(*shape), normal(shape[1]), normal(shape[1], seed=1) + 1, normal(*shape, seed=1)
    mean, var = normal(shape[1], seed=2), normal(shape[1], seed=3) ** 2
    bn_param = {"mode": "test", "running_mean": mean, "running_var": var, "eps": 1e-3}
    out, cache = forward(x, gamma, beta, bn_param)
    column = (-1, *[1] * (x.ndim - 2))
    scale = (gamma / np.sqrt(var + 1e-3)).reshape(column)
    assert_same(out, (x - mean.reshape(column)) * scale + beta.reshape(column))
    assert bn_param["running_mean"] is mean
    assert bn_param["running_var"] is var
    for array, gradient in zip((x, gamma, beta), backward(dout, cache), strict=True):
        number = numerical_gradient(lambda: forward(x, gamma, beta, bn_param)[0], array, dout)
        assert relative(gradient, number) < 1e-6


def test_notebook_batchnorm_means_and_deviations():
    x, bn_param = np.maximum(0, normal(200, 50) @ normal(50, 60)) @ normal(60, 3), {"mode": "train"}
    out, _ = layers.batchnorm_forward(x, np.array([1, 2, 3]), np.array([11, 12, 13]), bn_param)  # integers, as in the notebook
    assert np.allclose(out.mean(axis=0), [11, 12, 13], atol=1e-12)
    assert np.allclose(out.std(axis=0), [1, 2, 3], rtol=1e-6)

    bn_param = {"mode": "train"}
    for seed in range(50):
        images = 2.3 * np.random.default_rng(seed).standard_normal((10, 4, 11, 12)) + 13
        layers.spatial_batchnorm_forward(images, np.ones(4), np.zeros(4), bn_param)
    bn_param["mode"] = "test"
    out, _ = layers.spatial_batchnorm_forward(2.3 * normal(10, 4, 11, 12) + 13, np.ones(4), np.zeros(4), bn_param)
    assert np.allclose(out.mean(axis=(0, 2, 3)), 0, atol=0.15)
    assert np.allclose(out.std(axis=(0, 2, 3)), 1, atol=0.15)


@pytest.mark.parametrize("momentum", [None, 0.0, 0.75, 1.0])
def test_running_averages(momentum):
    """momentum is the weight of the old value; the arrays given are not written to."""
    bn_param = {"mode": "train", "running_mean": np.full(3, 2.0), "running_var": np.full(3, 4.0)} | (
        {} if momentum is None else {"momentum": momentum}
    )
    weight = 0.9 if momentum is None else momentum
    mean, var = given = bn_param["running_mean"], bn_param["running_var"]
    for step in range(3):
        x = normal(5 + step, 3)
        layers.batchnorm_forward(x, np.ones(3), np.zeros(3), bn_param)
        mean, var = weight * mean + (1 - weight) * x.mean(axis=0), weight * var + (1 - weight) * x.var(axis=0)
        assert_same(bn_param["running_mean"], mean)
        assert_same(bn_param["running_var"], var)
    assert np.array_equal(given, [[2.0] * 3, [4.0] * 3])


def test_test_mode_without_averages():
    """They are zeros then, and stored."""
    bn_param = {"mode": "test"}
    x = normal(4, 3)
    out, _ = layers.batchnorm_forward(x, np.ones(3), np.zeros(3), bn_param)
    assert_same(out, x / np.sqrt(1e-5))
    assert np.array_equal(bn_param["running_mean"], np.zeros(3))
    assert np.array_equal(bn_param["running_var"], np.zeros(3))


@pytest.mark.parametrize(
    ("forward", "backward", "shape"), [(f, b, (1, 3) if len(shape) == 2 else (1, 3, 1, 1)) for f, b, shape in BATCHNORMS]
)
def test_one_value_a_channel(forward, backward, shape):
    """The formula gives beta, and a running variance that shrinks."""
    x, gamma, beta, dout = normal(*shape), normal(shape[1]), normal(shape[1], seed=1), normal(*shape, seed=1)
    bn_param = {"mode": "train", "running_var": np.ones(shape[1])}
    out, cache = forward(x, gamma, beta, bn_param)
    assert_same(out, beta.reshape(shape))
    assert_same(bn_param["running_mean"], 0.1 * x.reshape(-1))
    assert_same(bn_param["running_var"], np.full(shape[1], 0.9))
    dx, dgamma, dbeta = backward(dout, cache)
    assert_same((dx, dgamma, dbeta), (np.zeros(shape), np.zeros(shape[1]), dout.reshape(-1)))


def test_small_variance():
    """The running variance is right where it is far below eps."""
    x, bn_param = 1e-6 * normal(50, 3), {"mode": "train", "momentum": 0.0}
    layers.batchnorm_forward(x, np.ones(3), np.zeros(3), bn_param)
    assert_same(bn_param["running_var"], x.var(axis=0), tolerance=1e-12)


def test_empty_batch_keeps_the_averages():
    average = normal(30)
    bn_param = {"mode": "train", "running_mean": average, "running_var": average**2}
    out, cache = layers.batchnorm_forward(np.ones((0, 30)), np.ones(30), np.zeros(30), bn_param)
    assert out.shape == (0, 30)
    assert np.array_equal(bn_param["running_mean"], average)
    assert np.array_equal(bn_param["running_var"], average**2)
    assert_same(layers.batchnorm_backward(out, cache), (np.zeros((0, 30)), np.zeros(30), np.zeros(30)))


@pytest.mark.parametrize(
    ("dtypes", "result"),
    [("f8 i8 i8", "f8"), ("f4 f4 f4", "f4"), ("f4 f8 f4", "f8"), ("i4 i4 i4", "f8"), ("u1 f4 f4", "f4"), ("f2 f2 f2", "f2")],
)
def test_batchnorm_dtypes(dtypes, result):
    x, gamma, beta = (np.abs(9 * normal(*shape)).astype(dtype) for shape, dtype in zip([(8, 3), (3,), (3,)], dtypes.split(), strict=True))
    truth, mean, var = formula(*(a.astype(np.float64) for a in (x, gamma, beta)))
    bn_param = {"mode": "train"}
    out, cache = layers.batchnorm_forward(x, gamma, beta, bn_param)
    assert_same(out, truth.astype(result))
    assert_same(bn_param["running_mean"], (0.1 * mean).astype(result))
    assert_same(bn_param["running_var"], (0.1 * var).astype(result))
    assert [gradient.dtype for gradient in layers.batchnorm_backward(out, cache)] == [np.dtype(result)] * 3
    bn_param["mode"] = "test"
    out, cache = layers.batchnorm_forward(x, gamma, beta, bn_param)
    assert [gradient.dtype for gradient in layers.batchnorm_backward(out, cache)] == [np.dtype(result)] * 3
    assert out.dtype == np.dtype(result)


def test_float64_gradient_of_a_float32_layer():
    """A loss in float64 on top of float32 layers: gradients promote as in NumPy."""
    x, gamma, beta, dout = normal(8, 3, dtype=np.float32), normal(3, dtype=np.float32), normal(3, dtype=np.float32), normal(8, 3, seed=1)
    _, cache = layers.batchnorm_forward(x, gamma, beta, {"mode": "train"})
    fast = layers.batchnorm_backward(dout, cache)
    assert_same(fast, naive.batch_norm_backward(*(a.astype(np.float64) for a in (dout, x)), None, None, gamma, beta, True), tolerance=2e-6)
    images, w, b, dout = (
        normal(2, 3, 4, 4, dtype=np.float32),
        normal(2, 3, 3, 3, dtype=np.float32),
        normal(2, dtype=np.float32),
        normal(2, 2, 4, 4),
    )
    _, cache = fast_layers.conv_forward_fast(images, w, b, {"stride": 1, "pad": 1})
    assert [gradient.dtype for gradient in fast_layers.conv_backward_fast(dout, cache)] == [np.float64] * 3


def test_float16_gradient():
    """The deviation that the forward found reaches the backward in float32."""
    x, dout = (10 * normal(50, 40) + 100).astype(np.float16), normal(50, 40, seed=1).astype(np.float16)
    gamma, beta = np.ones(40, np.float16), np.zeros(40, np.float16)
    _, cache = layers.batchnorm_forward(x, gamma, beta, {"mode": "train"})
    truth = naive.batch_norm_backward(*(a.astype(np.float64) for a in (dout, x)), None, None, gamma, beta, True)
    gradients = layers.batchnorm_backward(dout, cache)
    assert_same(tuple(gradient.astype(np.float64) for gradient in gradients), truth, tolerance=5e-4)  # one rounding


@pytest.mark.parametrize("order", ["C", "F"])
def test_batchnorm_leaves_its_inputs(order):
    x, gamma, beta, dout = (
        np.array(normal(2, 3, 4, 5), order=order),
        normal(3),
        normal(3),
        np.array(normal(2, 3, 4, 5, seed=1), order=order),
    )
    for array in (x, gamma, beta, dout):
        array.flags.writeable = False
    out, cache = layers.spatial_batchnorm_forward(x, gamma, beta, {"mode": "train"})
    assert_same(out, formula(x, gamma, beta)[0])
    assert_same(layers.spatial_batchnorm_backward(dout, cache), naive.batch_norm_backward(dout, x, None, None, gamma, beta, True))


def test_batchnorm_refuses():
    for mode in ("evaluate", None, "Train"):
        with pytest.raises(ValueError, match="mode"):
            layers.batchnorm_forward(normal(4, 3), np.ones(3), np.zeros(3), {"mode": mode})
    with pytest.raises(KeyError, match="mode"):
        layers.batchnorm_forward(normal(4, 3), np.ones(3), np.zeros(3), {})
    with pytest.raises(ValueError, match=r"\(N, D\)"):
        layers.batchnorm_forward(normal(4, 3, 2, 2), np.ones(3), np.zeros(3), {"mode": "train"})
    with pytest.raises(ValueError, match=r"\(N, C, H, W\)"):
        layers.spatial_batchnorm_forward(normal(4, 3), np.ones(3), np.zeros(3), {"mode": "train"})


# --- the package naive


def test_naive_is_found():
    assert twin.naive() is naive


def test_a_foreign_naive_is_named(monkeypatch):
    stranger = types.ModuleType("naive")
    stranger.__file__ = "/somewhere/naive.py"
    monkeypatch.setitem(sys.modules, "naive", stranger)
    with pytest.raises(ImportError, match="/somewhere/naive.py"):
        layers.conv_forward_naive(normal(1, 1, 3, 3), normal(1, 1, 3, 3), normal(1), {"stride": 1, "pad": 0})
    monkeypatch.setitem(sys.modules, "naive", None)
    with pytest.raises(ImportError, match="there is no package naive"):
        layers.max_pool_forward_naive(normal(1, 1, 2, 2), {"pool_height": 2, "pool_width": 2, "stride": 2})


def test_a_foreign_naive_is_not_run(tmp_path):
    """A student's naive.py in the working folder; everything else works beside it."""
    (tmp_path / "naive.py").write_text("print('ran')")
    program = (
        f"import sys, numpy as np; sys.path[:0] = [{str(tmp_path)!r}]\n"
        f"sys.path.append({str(twin.BESIDE.parent)!r})\n"
        "from fastconv.cs231n import fast_layers, layers\n"
        "x, w, b, conv_param = np.ones((1, 1, 3, 3)), np.ones((1, 1, 3, 3)), np.ones(1), {'stride': 1, 'pad': 0}\n"
        "print(fast_layers.conv_forward_fast(x, w, b, conv_param)[0].item())\n"
        "try: layers.conv_forward_naive(x, w, b, conv_param)\n"
        "except ImportError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=tmp_path, check=True)
    result, message = done.stdout.splitlines()
    assert result == "10.0"
    assert str(tmp_path / "naive.py") in message
