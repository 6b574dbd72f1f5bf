"""Convolution and its gradients: plain loops, NumPy (im2col and BLAS), CS231n's own layer, and each algorithm of fastconv.

The backward of NumPy and of the course starts from the patches that their forward has made, as the course's cache holds them.
"""
from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

import fastconv
import naive
from bench import course
from bench.bench_fold import col2im, im2col
from bench.harness import Arrays, Options, fast, plain


def _columns(x: np.ndarray, weight: np.ndarray, stride: int, padding: int, groups: int) -> np.ndarray:
    """(N, groups, C / groups * KH * KW, OH * OW)."""
    return im2col(x, weight.shape[2:], padding, stride).reshape(len(x), groups, weight[0].size, -1)


def conv2d(x: np.ndarray, weight: np.ndarray, bias: np.ndarray, stride: int, padding: int, groups: int) -> np.ndarray:
    KH, KW = weight.shape[2:]
    OH, OW = ((size + 2 * padding - kernel) // stride + 1 for size, kernel in zip(x.shape[2:], (KH, KW)))
    y = weight.reshape(groups, -1, weight[0].size) @ _columns(x, weight, stride, padding, groups)
    y = y.reshape(len(x), len(weight), OH, OW)
    y += bias[:, None, None]
    return y


def conv2d_backward(
    cols: np.ndarray, dout: np.ndarray, x: np.ndarray, weight: np.ndarray, stride: int, padding: int, groups: int
) -> Arrays:
    w, dy = weight.reshape(groups, -1, weight[0].size), dout.reshape(len(x), groups, len(weight) // groups, -1)
    dweight = (dy @ cols.swapaxes(2, 3)).sum(axis=0).reshape(weight.shape)
    dcols = (w.swapaxes(1, 2) @ dy).reshape(len(x), -1, dy.shape[-1])
    return col2im(dcols, x.shape[2:], weight.shape[2:], padding, stride), dweight, dout.sum(axis=(0, 2, 3))


def _numpy_backward(args: Arrays, options: Options, out: np.ndarray) -> Callable[[], Any]:
    dout, x, weight, _ = args
    return partial(conv2d_backward, _columns(x, weight, **options), dout, x, weight, **options)


def _course(args: Arrays, options: Options, out: np.ndarray) -> Callable[[], Any]:
    return lambda: course.conv_forward(*args, options["stride"], options["padding"])[0]


def _course_backward(args: Arrays, options: Options, out: np.ndarray) -> Callable[[], Any]:
    dout, x, weight, bias = args
    _, patches = course.conv_forward(x, weight, bias, options["stride"], options["padding"])
    return partial(course.conv_backward, dout, x, weight, patches, options["stride"], options["padding"])


ALGORITHMS = ("direct", "im2col", "auto")
CONTENDERS = {
    "conv2d": {"naive": plain(naive.conv2d), "numpy": plain(conv2d), "course": _course}
    | {name: fast(fastconv.conv2d, out=True, algorithm=name) for name in ALGORITHMS},
    "conv2d_backward": {"naive": plain(naive.conv2d_backward), "numpy": _numpy_backward, "course": _course_backward}
    | {name: fast(fastconv.conv2d_backward, out=False, algorithm=name) for name in ALGORITHMS},
}


def test_conv2d(race):
    race()


def test_conv2d_backward(race):
    race()
