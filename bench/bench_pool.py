"""Max and average pooling and their gradients: plain loops, NumPy (one operation for each tap), CS231n's own layer, and fastconv."""
from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

import fastconv
import naive
from bench import course
from bench.harness import Arrays, Options, fast, padded, plain, taps

Pair = tuple[int, int]


def _output(x: np.ndarray, kernel_size: Pair, stride: int, padding: int) -> Pair:
    OH, OW = ((size + 2 * padding - kernel) // stride + 1 for size, kernel in zip(x.shape[2:], kernel_size))
    return OH, OW


def max_pool2d(x: np.ndarray, kernel_size: Pair, stride: int, padding: int) -> np.ndarray:
    OH, OW = _output(x, kernel_size, stride, padding)
    y = np.full((*x.shape[:2], OH, OW), -np.inf, x.dtype)
    for _, _, pixels in taps(padded(x, padding, -np.inf) if padding else x, *kernel_size, stride, OH, OW):
        np.maximum(y, pixels, out=y)
    return y


def max_pool2d_backward(dout: np.ndarray, x: np.ndarray, kernel_size: Pair, stride: int, padding: int) -> np.ndarray:
    (KH, KW), (H, W), (OH, OW) = kernel_size, x.shape[2:], dout.shape[2:]
    y = max_pool2d(x, kernel_size, stride, padding)
    xp, dxp = padded(x, padding, -np.inf), padded(np.zeros_like(x), padding)
    left = np.ones(dout.shape, bool)         # windows whose maximum is not found yet
    for (_, _, pixels), (_, _, gradient) in zip(taps(xp, KH, KW, stride, OH, OW), taps(dxp, KH, KW, stride, OH, OW)):
        found = left & (pixels == y)
        gradient += dout * found
        left &= ~found
    return dxp[:, :, padding : padding + H, padding : padding + W]


def avg_pool2d(x: np.ndarray, kernel_size: Pair, stride: int, padding: int) -> np.ndarray:
    OH, OW = _output(x, kernel_size, stride, padding)
    y = np.zeros((*x.shape[:2], OH, OW), x.dtype)
    for _, _, pixels in taps(padded(x, padding), *kernel_size, stride, OH, OW):
        y += pixels
    y /= kernel_size[0] * kernel_size[1]
    return y


def avg_pool2d_backward(dout: np.ndarray, x: np.ndarray, kernel_size: Pair, stride: int, padding: int) -> np.ndarray:
    (KH, KW), (H, W) = kernel_size, x.shape[2:]
    dxp, share = padded(np.zeros_like(x), padding), dout / (KH * KW)
    for _, _, gradient in taps(dxp, KH, KW, stride, *dout.shape[2:]):
        gradient += share
    return dxp[:, :, padding : padding + H, padding : padding + W]


def _course(args: Arrays, options: Options, out: np.ndarray) -> Callable[[], Any]:
    return partial(course.max_pool_forward, *args, options["stride"])


def _course_backward(args: Arrays, options: Options, out: np.ndarray) -> Callable[[], Any]:
    dout, x = args
    return partial(course.max_pool_backward, dout, x, course.max_pool_forward(x, options["stride"]), options["stride"])


CONTENDERS = {
    function.__name__: {
        "naive": plain(getattr(naive, function.__name__)),
        "numpy": plain(function),
        "fastconv": fast(getattr(fastconv, function.__name__), out=function in (max_pool2d, avg_pool2d)),
    }
    for function in (max_pool2d, max_pool2d_backward, avg_pool2d, avg_pool2d_backward)
}
CONTENDERS["max_pool2d"]["course"] = _course
CONTENDERS["max_pool2d_backward"]["course"] = _course_backward


def test_max_pool2d(race):
    race()


def test_max_pool2d_backward(race):
    race()


def test_avg_pool2d(race):
    race()


def test_avg_pool2d_backward(race):
    race()
