"""bench/course.py computes what it is said to compute: a wrong baseline would make wrong speed-ups."""

import numpy as np
import pytest

import naive
from bench import course
from fastconv.testing import assert_same


def integers(*shape, dtype=np.float64):
    """Small whole numbers: sums are exact in any order. Ties abound."""
    return np.random.default_rng(sum(shape)).integers(-4, 5, shape).astype(dtype)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("col2im", [course.col2im_loop, course.col2im_taps])
@pytest.mark.parametrize(
    ("N", "C", "H", "W", "F", "KH", "KW", "stride", "pad"),
    [(2, 3, 7, 7, 4, 3, 3, 2, 1), (1, 2, 6, 8, 3, 3, 5, 1, 2), (3, 1, 5, 6, 2, 2, 2, 3, 0)],
)
def test_conv(N, C, H, W, F, KH, KW, stride, pad, col2im, dtype):
    x, w, b = integers(N, C, H, W, dtype=dtype), integers(F, C, KH, KW, dtype=dtype), integers(F, dtype=dtype)
    out, patches = course.conv_forward(x, w, b, stride, pad)
    assert_same(out, naive.conv2d(x, w, b, stride, pad), exact=True)
    dout = integers(*out.shape, dtype=dtype)
    fast = course.conv_backward(dout, x, w, patches, stride, pad, col2im)
    assert_same(fast, naive.conv2d_backward(dout, x, w, b, stride, pad), exact=True)


def test_max_pool():
    x = np.random.default_rng(1).permutation(2 * 3 * 6 * 8).reshape(2, 3, 6, 8).astype(np.float64)
    out = course.max_pool_forward(x, 2)
    assert_same(out, naive.max_pool2d(x, 2), exact=True)
    dout = integers(*out.shape)
    assert_same(course.max_pool_backward(dout, x, out, 2), naive.max_pool2d_backward(dout, x, 2), exact=True)


def test_ties_are_split():
    x = np.array([[[[5.0, 5.0], [1.0, 5.0]]]])
    dx = course.max_pool_backward(np.array([[[[3.0]]]]), x, course.max_pool_forward(x, 2), 2)
    assert dx.tolist() == [[[[1.0, 1.0], [0.0, 1.0]]]]
