"""The plain loops themselves, without fastconv: small examples worked out by hand, numerical gradients, and semantics that bite.

fastconv.testing, which is tested on its own, does the numerical gradients; tests/test_naive_torch.py compares with PyTorch.
"""

import ast
import inspect
import pathlib

import numpy as np
import pytest
from cases import broadcasts, conv_cases, fold_cases, inject, layouts, norm_cases, pool_cases, random_array

import naive
from fastconv.testing import assert_gradient, assert_same
from naive.shared import output_size, pad_pairs, pair

nan, inf = np.nan, np.inf


def same(y, expected, dtype=np.float64):
    """Equal to a literal, NaN equal to NaN."""
    assert_same(y, np.array(expected, dtype), exact=True)


def image(*rows):
    """One image of one channel, (1, 1, H, W)."""
    return np.array([[rows]], float)


NINE = image([1, 2, 3], [4, 5, 6], [7, 8, 9])


# Worked out by hand


def test_conv2d_is_cross_correlation():
    same(naive.conv2d(NINE, image([1, 0], [0, -10])), image([1 - 50, 2 - 60], [4 - 80, 5 - 90]))


def test_conv2d_adds_channels_and_bias():
    x = np.array([[[[1, 2]], [[3, 4]]]], float)  # (1, 2, 1, 2)
    weight = np.array([[[[1]], [[10]]], [[[100]], [[0]]]], float)  # (2, 2, 1, 1)
    same(naive.conv2d(x, weight, np.array([0.5, -1])), [[[[31.5, 42.5]], [[99, 199]]]])


def test_conv2d_groups_keep_channels_apart():
    x = np.array([[[[1]], [[2]], [[3]], [[4]]]], float)
    weight = np.array([[1, 10], [2, 20], [3, 30], [4, 40]], float)[:, :, None, None]  # (4, 2, 1, 1): two filters a group
    same(naive.conv2d(x, weight, groups=2).ravel(), [21, 42, 129, 172])
    same(naive.conv2d(x, weight[:, :1], groups=4).ravel(), [1, 4, 9, 16])


def test_conv2d_stride_dilation_and_padding_per_axis():
    row = image([1, 2, 3, 4, 5, 6])
    same(naive.conv2d(row, image([1, 10]), stride=(1, 2)), image([21, 43, 65]))
    same(naive.conv2d(row, image([1, 10]), dilation=(1, 3)), image([41, 52, 63]))
    same(naive.conv2d(row, image([1, 10]), padding=((0, 0), (1, 2)), stride=(1, 3)), image([10, 43, 6]))
    same(naive.conv2d(row, image([1], [10]), padding=((0, 1), (0, 0))), row)
    same(naive.conv2d(row, image([1], [10]), padding=((1, 0), (0, 0))), 10 * row)
    same(naive.conv2d(row, image([1, 10]), padding=(0, 1)), image([10, 21, 32, 43, 54, 65, 6]))


def test_conv2d_same_puts_the_odd_extra_element_at_the_end():
    row = image([1, 2, 3])
    same(naive.conv2d(row, image([1, 10]), padding="same"), image([21, 32, 3]))
    same(naive.conv2d(row, image([1, 10, 100]), padding="same"), image([210, 321, 32]))
    same(naive.conv2d(row, image([1, 10, 0, 100]), padding="same"), image([310, 21, 32]))
    same(naive.conv2d(row, image([1, 10]), padding="valid"), image([21, 32]))


def test_conv2d_backward_by_hand():
    x, weight, dout = image([1, 2, 3]), image([10, 100]), image([1, 1000])
    dx, dweight, dbias = naive.conv2d_backward(dout, x, weight, np.zeros(1))
    same(dx, image([10, 100 + 10000, 100000]))
    same(dweight, image([1 + 2000, 2 + 3000]))
    same(dbias, [1001])
    dx, dweight, _ = naive.conv2d_backward(image([1, 1000]), x, weight, stride=2, padding=((0, 0), (1, 0)))
    same(dx, image([100, 10000, 100000]))
    same(dweight, image([2000, 1 + 3000]))


def test_im2col_by_hand():
    x = np.concatenate([NINE, 10 * NINE], axis=1)  # (1, 2, 3, 3)
    cols = naive.im2col(x, (2, 1), stride=(1, 2))
    same(cols, [[[1, 3, 4, 6], [4, 6, 7, 9], [10, 30, 40, 60], [40, 60, 70, 90]]])
    same(naive.im2col(NINE, 2, dilation=2), [[[1], [3], [7], [9]]])
    same(naive.im2col(image([1, 2]), (1, 2), padding=((0, 0), (2, 0))), [[[0, 0, 1], [0, 1, 2]]])


def test_col2im_by_hand():
    cols = np.array([[[1, 2, 3], [10, 20, 30]]], float)  # windows of two on a row of four
    same(naive.col2im(cols, (1, 4), (1, 2)), image([1, 12, 23, 30]))
    same(naive.col2im(cols, (1, 2), (1, 2), padding=(0, 1)), image([12, 23]))
    same(naive.col2im(np.ones((1, 4, 4)), 3, 2), image([1, 2, 1], [2, 4, 2], [1, 2, 1]))
    same(naive.im2col_backward(cols, image([7, 7, 7, 7]), (1, 2)), image([1, 12, 23, 30]))
    same(naive.col2im_backward(image([1, 2, 3, 4]), cols, (1, 4), (1, 2)), [[[1, 2, 3], [2, 3, 4]]])


def test_max_pool2d_by_hand():
    x = image([1, 5, 2], [4, 3, 9], [8, 0, 7])
    y, indices = naive.max_pool2d(x, 2, 1, return_indices=True)
    same(y, image([5, 9], [8, 9]))
    same(indices, [[[[1, 5], [6, 5]]]], np.int64)
    same(naive.max_pool2d(x, 2), image([5]))
    same(naive.max_pool2d(x, 2, dilation=2), image([8]))
    same(naive.max_pool2d_backward(image([1, 10], [100, 1000]), x, 2, 1), image([0, 1, 0], [0, 0, 1010], [100, 0, 0]))
    same(naive.max_pool2d_backward(image([1, 10], [100, 1000]), x, 2, 1, indices=indices), image([0, 1, 0], [0, 0, 1010], [100, 0, 0]))


def test_avg_pool2d_by_hand():
    x = image([1, 2, 3, 4], [5, 6, 7, 8])
    same(naive.avg_pool2d(x, 2), image([14 / 4, 22 / 4]))
    same(naive.avg_pool2d(x, (1, 2), 1, dilation=(1, 2)), image([2, 3], [6, 7]))
    same(naive.avg_pool2d_backward(image([4, 8]), x, 2), image([1, 1, 2, 2], [1, 1, 2, 2]))
    same(naive.avg_pool2d_backward(image([2, 4, 8]), x[:, :, :1], (1, 2), 1), image([1, 3, 6, 4]))


def test_batch_norm_by_hand():
    x = np.array([[1, 0], [3, 0], [5, 6], [7, 6]], float)  # means 4 and 3, variances 5 and 9
    y = naive.batch_norm(x, None, None, np.array([1.0, 2]), np.array([0.0, 7]), eps=0)
    same(y[:, 1], [5, 5, 9, 9])
    assert_same(y[:, 0], np.array([-3, -1, 1, 3]) / np.sqrt(5))
    same(naive.batch_norm(x, np.array([1.0, 2]), np.array([3.0, 15]), eps=1), [[0, -0.5], [1, -0.5], [2, 1], [3, 1]])


def test_batch_norm_backward_by_hand():
    x, dout = np.array([[-1.0], [1.0], [-1], [1]]), np.array([[4.0], [0], [0], [0]])  # mean 0, variance 1: xhat is x
    dx, dweight, dbias = naive.batch_norm_backward(dout, x, None, None, np.array([2.0]), np.array([0.0]), training=True, eps=0)
    same(dx, [[4], [0], [-4], [0]])  # 2 * (dout - 1 - xhat * -1)
    same(dweight, [-4])
    same(dbias, [4])
    dx, dweight, dbias = naive.batch_norm_backward(dout, x, np.array([1.0]), np.array([4.0]), np.array([3.0]), np.array([0.0]), eps=0)
    same(dx, [[6], [0], [0], [0]])
    same(dweight, [-4])
    same(dbias, [4])


# Semantics that bite


def test_batch_norm_momentum_weighs_the_new_value_and_the_variance_is_unbiased():
    x = np.array([[0.0], [2], [4]])  # mean 2, variance 8/3, unbiased 4
    mean, var = np.array([10.0]), np.array([20.0])
    y, used_mean, invstd = naive.batch_norm(x, mean, var, training=True, momentum=0.25, eps=0, return_stats=True)
    same(mean, [10 * 0.75 + 2 * 0.25])
    same(var, [20 * 0.75 + 4 * 0.25])
    same(used_mean, [2])
    assert_same(invstd, np.array([np.sqrt(3 / 8)]))
    assert_same(y, np.array([[-2], [0], [2]]) * np.sqrt(3 / 8))


def test_batch_norm_evaluation_leaves_the_running_statistics():
    mean, var = np.array([10.0]), np.array([20.0])
    naive.batch_norm(np.array([[0.0], [2], [4]]), mean, var)
    naive.batch_norm_backward(np.ones((3, 1)), np.array([[0.0], [2], [4]]), mean, var, training=True)
    assert mean == 10 and var == 20


def test_batch_norm_running_statistics_are_updated_through_a_view():
    stored = np.zeros((2, 4))
    naive.batch_norm(np.array([[0.0, 2], [2, 6]]), stored[0, ::2], stored[1, ::-2], training=True, momentum=1.0)
    same(stored, [[1, 0, 4, 0], [0, 8, 0, 2]])


@pytest.mark.parametrize("shape", [(1, 3), (1, 3, 1, 1)])
def test_batch_norm_one_value_per_channel_is_refused_in_training(shape):
    with pytest.raises(ValueError, match="more than one value per channel"):
        naive.batch_norm(np.ones(shape), np.zeros(3), np.ones(3), training=True)
    with pytest.raises(ValueError, match="more than one value per channel"):
        naive.batch_norm(np.ones(shape), None, None)
    naive.batch_norm(np.ones(shape), np.zeros(3), np.ones(3))


def test_batch_norm_of_an_empty_batch_leaves_the_running_statistics():
    mean, var = np.array([10.0]), np.array([20.0])
    assert naive.batch_norm(np.zeros((0, 1, 2)), mean, var, training=True).shape == (0, 1, 2)
    assert mean == 10 and var == 20


@pytest.mark.parametrize("training", [False, True])
def test_batch_norm_backward_takes_the_statistics_of_the_forward(training):
    x, mean, var, weight, bias = next(case for case in norm_cases() if case.id == "train-NCHW").arrays()
    _, used_mean, invstd = naive.batch_norm(x, mean.copy(), var.copy(), weight, bias, training, return_stats=True)
    dout = random_array(x.shape)
    expected = naive.batch_norm_backward(dout, x, mean, var, weight, bias, training)
    assert_same(naive.batch_norm_backward(dout, x, mean, var, weight, bias, training, mean=used_mean, invstd=invstd), expected)


def test_avg_pool2d_count_include_pad_is_the_default():
    x = image([4, 4])
    same(naive.avg_pool2d(x, (1, 2), padding=(0, 1)), image([2, 2]))
    same(naive.avg_pool2d(x, (1, 2), padding=(0, 1), count_include_pad=False), image([4, 4]))
    same(naive.avg_pool2d(x, (1, 2), padding=(0, 1), divisor_override=1), image([4, 4]))


def test_avg_pool2d_does_not_count_what_ceil_mode_adds():
    x = image([6, 6, 6])
    same(naive.avg_pool2d(x, (1, 2), ceil_mode=True), image([6, 6]))
    same(naive.avg_pool2d(x, (1, 3), 2, ((0, 0), (0, 1)), ceil_mode=True), image([6, 3]))
    same(naive.avg_pool2d_backward(image([6, 6]), x, (1, 2), ceil_mode=True), image([3, 3, 6]))


def test_avg_pool2d_of_no_element_is_zero():
    x = image([6])
    y = naive.avg_pool2d(x, (1, 2), 1, (0, 3), count_include_pad=False, dilation=(1, 3))
    same(y, image([6, 0, 0, 6]))
    same(naive.avg_pool2d_backward(np.ones_like(y), x, (1, 2), 1, (0, 3), count_include_pad=False, dilation=(1, 3)), image([2]))


@pytest.mark.parametrize("pool", [naive.max_pool2d, naive.avg_pool2d])
def test_ceil_mode_drops_a_window_that_would_start_in_the_padding(pool):
    assert pool(np.ones((1, 1, 3, 5)), 2, 2, 1, ceil_mode=True).shape == (1, 1, 2, 3)
    assert pool(np.ones((1, 1, 3, 5)), 2, 2, ceil_mode=True).shape == (1, 1, 2, 3)
    assert pool(np.ones((1, 1, 3, 5)), 2, 2).shape == (1, 1, 1, 2)
    assert pool(np.ones((1, 1, 4, 6)), 2, 2, ceil_mode=True).shape == (1, 1, 2, 3)
    assert pool(np.ones((1, 1, 4, 6)), 2, 3, ceil_mode=True).shape == (1, 1, 2, 2)


def test_max_pool2d_padding_is_minus_infinity():
    same(naive.max_pool2d(image([-5, -3]), (1, 2), padding=(0, 1)), image([-5, -3]))
    same(naive.max_pool2d(np.array([[[[-5, -3]]]]), (1, 2), padding=(0, 1)), [[[[-5, -3]]]], np.int64)


def test_max_pool2d_ties_go_to_the_first_in_row_major_order():
    y, indices = naive.max_pool2d(image([1, 7, 7], [7, 7, 7]), 2, 1, return_indices=True)
    same(y, image([7, 7]))
    same(indices, [[[[1, 1]]]], np.int64)
    same(naive.max_pool2d_backward(image([1, 10]), image([1, 7, 7], [7, 7, 7]), 2, 1), image([0, 11, 0], [0, 0, 0]))
    same(naive.max_pool2d(image([0.0, -0.0], [-0.0, 0.0]), 2, return_indices=True)[1], [[[[0]]]], np.int64)


def test_max_pool2d_first_nan_wins():
    y, indices = naive.max_pool2d(image([inf, nan, 3, 4], [nan, 1, inf, 5]), 2, return_indices=True)
    same(y, image([nan, inf]))
    same(indices, [[[[1, 6]]]], np.int64)
    same(naive.max_pool2d_backward(image([1, 2]), image([inf, nan, 3, 4], [nan, 1, inf, 5]), 2), image([0, 1, 0, 0], [0, 0, 2, 0]))


def test_max_pool2d_window_of_minus_infinity_gives_its_first_element():
    y, indices = naive.max_pool2d(np.full((1, 1, 2, 4), -inf), 2, (2, 1), padding=((0, 0), (1, 0)), return_indices=True)
    same(y, image([-inf] * 4))
    same(indices, [[[[0, 0, 1, 2]]]], np.int64)


def test_max_pool2d_window_that_misses_the_image():
    y, indices = naive.max_pool2d(image([6]), (1, 2), 1, (0, 3), (1, 3), return_indices=True)
    same(y, image([6, -inf, -inf, 6]))
    same(indices, [[[[0, -1, -1, 0]]]], np.int64)
    same(naive.max_pool2d_backward(np.ones_like(y), image([6]), (1, 2), 1, (0, 3), (1, 3)), image([2]))


def test_padding_is_zeros_that_take_part():
    ones = np.ones((1, 1, 1, 2))
    with np.errstate(invalid="ignore"):
        same(naive.conv2d(ones, image([inf, 1]), padding=(0, 1)), image([nan, inf, inf]))
        same(naive.conv2d_backward(image([inf, 1, 1]), ones, image([1, 1]), padding=(0, 1))[1], image([nan, inf]))
    same(naive.conv2d(image([inf, 1]), image([1, 1]), padding=(0, 1)), image([inf, inf, 1]))
    same(naive.im2col(image([nan, 1]), (1, 2), padding=(0, 1)), [[[0, nan, 1], [nan, 1, 0]]])


def test_mixed_dtypes_promote_as_in_numpy():
    x32, weight = np.ones((1, 1, 2, 2), np.float32), np.ones((1, 1, 1, 1), np.float32)
    assert naive.conv2d(x32, weight, np.ones(1, np.float32)).dtype == np.float32
    assert naive.conv2d(x32.astype(np.float64), weight).dtype == np.float64
    assert naive.conv2d(x32, weight, np.ones(1, np.int64)).dtype == np.float64
    assert naive.conv2d(x32.astype(np.uint8), weight.astype(np.int8)).dtype == np.float64
    assert {g.dtype for g in naive.conv2d_backward(x32, x32.astype(np.float64), weight, np.ones(1, np.int64))} == {np.dtype(np.float64)}
    assert naive.batch_norm(x32, np.zeros(1), np.ones(1), training=True).dtype == np.float32
    assert naive.batch_norm(x32, np.zeros(1), np.ones(1)).dtype == np.float64
    assert {naive.avg_pool2d(x32.astype(dtype), 2).dtype for dtype in (bool, np.uint8, np.int32)} == {np.dtype(np.float64)}
    assert naive.max_pool2d(x32.astype(np.int32), 2).dtype == np.int32
    assert naive.max_pool2d(x32.astype(">f4"), 2).dtype == np.dtype("=f4")


def test_float16_is_rounded_once():
    x = np.full((1, 1, 64, 64), 1.001, np.float16)  # a running float16 sum would stop growing at 2048
    same(naive.conv2d(x, np.ones_like(x)), np.full((1, 1, 1, 1), np.float16(1.001) * np.float32(4096)), np.float16)
    same(naive.avg_pool2d(x, 64), np.full((1, 1, 1, 1), 1.001), np.float16)
    y, mean, invstd = naive.batch_norm(x, None, None, training=True, return_stats=True)
    assert (y.dtype, mean.dtype, invstd.dtype) == (np.float16, np.float32, np.float32)


# Where the course's originals are wrong: non-square kernels, Fortran order, overlapping windows (ties: above)


@pytest.mark.parametrize("case", [case for case in conv_cases() if case.id.startswith(("non-square", "pad-nested", "groups"))], ids=str)
def test_conv2d_is_im2col_times_the_weights(case):
    x, weight, _ = case.arrays(integers=True)
    groups, kwargs = case.kwargs.get("groups", 1), {k: v for k, v in case.kwargs.items() if k != "groups"}
    cols = naive.im2col(x, weight.shape[2:], **kwargs)  # (..., C*KH*KW, L)
    cols = cols.reshape(*x.shape[:-3], groups, -1, cols.shape[-1])
    y = np.matmul(weight.reshape(groups, len(weight) // groups, -1), cols)
    assert_same(naive.conv2d(x, weight, **case.kwargs), y.reshape(case.out_shape), exact=True)


@pytest.mark.parametrize("case", pool_cases(), ids=str)
def test_avg_pool2d_is_the_average_of_im2col_columns(case):
    (x,), stride, kernel = case.arrays(integers=True), case.kwargs.get("stride"), pair(case.kernel_size)
    dilation, stride = case.kwargs.get("dilation", 1), kernel if stride is None else pair(stride)
    pad = pad_pairs(case.kwargs.get("padding", 0), kernel, (1, 1))
    image, inside = (np.pad(a, ((0, 0),) * (x.ndim - 2) + pad) for a in (x, np.ones_like(x)))
    taken = inside if not case.average.get("count_include_pad", True) else np.ones_like(image)

    def sums(a):
        grown = np.pad(a, ((0, 0),) * (x.ndim - 2) + ((0, stride[0] - 1), (0, stride[1] - 1)))  # room for ceil_mode's window
        cols = naive.im2col(grown, kernel, dilation, 0, stride)
        size = [output_size(n, k, s, (0, 0), d) for n, k, s, d in zip(grown.shape[-2:], kernel, stride, pair(dilation))]
        total = cols.reshape(*x.shape[:-2], kernel[0] * kernel[1], *size).sum(axis=-3)
        return total[..., : case.out_shape[-2], : case.out_shape[-1]]

    divisor = case.average.get("divisor_override", np.maximum(sums(taken), 1))
    assert_same(naive.avg_pool2d(x, **case.avg_kwargs), sums(image) / divisor, exact=True)


FORWARD = {
    "conv2d": lambda x: naive.conv2d(x, WEIGHT, None, (2, 1), ((1, 0), (0, 2))),
    "im2col": lambda x: naive.im2col(x, (3, 2), 1, ((1, 0), (0, 2)), (2, 1)),
    "max_pool2d": lambda x: naive.max_pool2d(x, (3, 2), (2, 1), return_indices=True),
    "avg_pool2d": lambda x: naive.avg_pool2d(x, (3, 2), (2, 1)),
    "batch_norm": lambda x: naive.batch_norm(x, None, None),
    "conv2d_backward": lambda dout: naive.conv2d_backward(dout, X, X[:3, :, :2, :3], None, padding=((1, 0), (0, 2))),
    "max_pool2d_backward": lambda dout: naive.max_pool2d_backward(dout, X, 3, 1, 1),
    "avg_pool2d_backward": lambda dout: naive.avg_pool2d_backward(dout, X, 3, 1, 1),
    "batch_norm_backward": lambda dout: naive.batch_norm_backward(dout, X, None, None),
    "col2im_backward": lambda dout: naive.col2im_backward(dout, np.zeros((3, 18, 12)), (5, 6), (3, 3)),
}
X = random_array((3, 3, 5, 6), integers=True)
WEIGHT = random_array((4, 3, 3, 2), integers=True)


@pytest.mark.parametrize("name", FORWARD)
def test_memory_layout_does_not_matter(name):
    shape = (3, 2, 5, 6) if name == "col2im_backward" else X.shape
    x = random_array(shape, integers=True, seed=3)
    for view in [*layouts(x).values(), *broadcasts(x).values()]:
        # assert_same with functions also proves that no input is written to.
        assert_same(FORWARD[name], FORWARD[name], (view,))
        exact = not name.startswith("batch_norm")  # NumPy sums in memory order
        assert_same(FORWARD[name](view), FORWARD[name](view.astype(np.float64, "C")), exact=exact)


# Numerical gradients


@pytest.mark.parametrize("case", [case for case in conv_cases() if not case.id.startswith(("channels", "output"))][::2], ids=str)
def test_conv2d_gradient(case):
    assert_gradient(naive.conv2d, naive.conv2d_backward, case.arrays(), case.kwargs, samples=15)


@pytest.mark.parametrize("case", pool_cases()[:56:2], ids=str)
def test_max_pool2d_gradient(case):
    x = random_array(case.x)
    distinct = np.argsort(np.argsort(x, axis=None)).reshape(x.shape).astype(float)  # no two elements closer than the step
    assert_gradient(naive.max_pool2d, naive.max_pool2d_backward, (distinct,), case.max_kwargs, samples=30)


@pytest.mark.parametrize("case", pool_cases()[:56], ids=str)
def test_avg_pool2d_gradient(case):
    assert_gradient(naive.avg_pool2d, naive.avg_pool2d_backward, case.arrays(), case.avg_kwargs, samples=30)


@pytest.mark.parametrize("case", norm_cases(), ids=str)
def test_batch_norm_gradient(case):
    assert_gradient(naive.batch_norm, naive.batch_norm_backward, case.arrays(), case.kwargs, wrt=(0, 3, 4), samples=30)


@pytest.mark.parametrize("case", fold_cases(), ids=str)
def test_fold_gradient(case):
    x, kwargs = case.arrays()[0], {"kernel_size": case.kernel_size, **case.kwargs}
    assert_gradient(naive.im2col, naive.im2col_backward, (x,), kwargs, samples=30)
    assert_gradient(naive.col2im, naive.col2im_backward, (case.cols(), case.output_size), kwargs, samples=30)


# Every case: shapes as counted by hand, the precision that is promised of the fast functions, NaN where it belongs


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
class TestEveryCase:
    @pytest.mark.parametrize("case", conv_cases(), ids=str)
    def test_conv2d(self, case, dtype):
        assert_same(naive.conv2d, naive.conv2d, case.arrays(dtype), case.kwargs)
        assert naive.conv2d(*case.arrays(dtype), **case.kwargs).shape == case.out_shape
        assert_same(naive.conv2d_backward, naive.conv2d_backward, (case.dout(dtype), *case.arrays(dtype)), case.kwargs)

    @pytest.mark.parametrize("case", pool_cases(), ids=str)
    def test_pool(self, case, dtype):
        for forward, backward, kwargs in (
            (naive.max_pool2d, naive.max_pool2d_backward, case.max_kwargs),
            (naive.avg_pool2d, naive.avg_pool2d_backward, case.avg_kwargs),
        ):
            assert_same(forward, forward, case.arrays(dtype), kwargs)
            assert forward(*case.arrays(dtype), **kwargs).shape == case.out_shape
            assert_same(backward, backward, (case.dout(dtype), *case.arrays(dtype)), kwargs)

    @pytest.mark.parametrize("case", norm_cases(), ids=str)
    def test_norm(self, case, dtype):
        assert_same(naive.batch_norm, naive.batch_norm, case.arrays(dtype), case.kwargs)
        assert_same(naive.batch_norm_backward, naive.batch_norm_backward, (case.dout(dtype), *case.arrays(dtype)), case.kwargs)

    @pytest.mark.parametrize("case", fold_cases(), ids=str)
    def test_fold(self, case, dtype):
        kwargs = {"kernel_size": case.kernel_size, **case.kwargs}
        cols = naive.im2col(*case.arrays(dtype), **kwargs)
        assert cols.shape == case.cols_shape and cols.dtype == dtype
        assert_same(naive.col2im, naive.col2im, (case.cols(dtype), case.output_size), kwargs)


@pytest.mark.parametrize("case", conv_cases()[::4], ids=str)
def test_nan_reaches_the_outputs_whose_window_holds_it(case):
    x, weight, bias = case.arrays()
    x = inject(x, (nan,))
    y = naive.conv2d(x, weight, bias, **case.kwargs)
    holds = naive.conv2d(np.isnan(x), np.ones(weight.shape), **case.kwargs) > 0
    assert np.array_equal(np.isnan(y), holds)


# The interface


@pytest.mark.parametrize("name", ["conv2d", "im2col", "col2im", "max_pool2d", "avg_pool2d", "batch_norm"])
def test_out_is_filled_and_returned(name):
    args = {"conv2d": (X, WEIGHT), "col2im": (random_array((3, 18, 12)), (5, 6), 3), "batch_norm": (X, None, None)}.get(name, (X, 2))
    expected = getattr(naive, name)(*args)
    out = np.full(expected.shape[::-1], 77.0).T
    assert getattr(naive, name)(*args, out=out) is out
    assert_same(out, expected, exact=True)


def test_need_leaves_out_gradients():
    dout, bias = random_array((3, 4, 3, 5)), np.ones(4)
    every = naive.conv2d_backward(dout, X, WEIGHT, bias)
    for need in [(True, False, False), (False, True, False), (False, False, True)]:
        expected = tuple(g if wanted else None for g, wanted in zip(every, need))
        assert_same(naive.conv2d_backward(dout, X, WEIGHT, bias, need=need), expected, exact=True)
    assert [g is None for g in naive.conv2d_backward(dout, X, WEIGHT)] == [False, False, True]
    norm = naive.batch_norm_backward(X, X, None, None, np.ones(3), np.ones(3), need=(False, True, False))
    assert [g is None for g in norm] == [True, False, True]
    assert [g is None for g in naive.batch_norm_backward(X, X, None, None)] == [False, True, True]


@pytest.mark.parametrize("name", [name for name in naive.__all__ if name.endswith("_backward")])
def test_backward_takes_dout_and_the_arguments_of_the_forward(name):
    forward = list(inspect.signature(getattr(naive, name.removesuffix("_backward"))).parameters.values())
    backward = list(inspect.signature(getattr(naive, name)).parameters.values())
    positional = [(p.name, p.default) for p in forward if p.kind is p.POSITIONAL_OR_KEYWORD]
    assert [(p.name, p.default) for p in backward if p.kind is p.POSITIONAL_OR_KEYWORD] == [("dout", inspect.Parameter.empty), *positional]


def test_naive_imports_only_numpy():
    for path in pathlib.Path(naive.__file__).parent.glob("*.py"):
        nodes = list(ast.walk(ast.parse(path.read_text())))
        modules = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
        modules |= {node.module for node in nodes if isinstance(node, ast.ImportFrom)}
        assert {module.split(".")[0] for module in modules} <= {"numpy", "naive"}, path.name
