"""Activations element by element, and their gradients. Kernels of the shared signature (kernels/tasks.py): task t is block t of BLOCK elements.

src: x, or the forward's result y where a backward takes it. weight: dout. dst: the result. bias: what a function needs besides, in the dtype
of x. job and table are not looked at. The loops are plain and exact (NaN must pass comparisons): LLVM makes vectors of them.
"""
from __future__ import annotations

from .elementary import by_type, hyperbolic_tangent, logistic, normal
from .jit import jit

BLOCK = 16384                                # elements of one task


@jit
def relu(first, last, src, weight, dst, bias, residual, job, table):
    lo, hi = first * BLOCK, min(dst.size, last * BLOCK)
    x, y = src[lo:hi], dst[lo:hi]
    for i in range(x.size):
        y[i] = 0 if x[i] < 0 else x[i]


@jit
def relu_backward(first, last, src, weight, dst, bias, residual, job, table):
    lo, hi = first * BLOCK, min(dst.size, last * BLOCK)
    x, dout, dx = src[lo:hi], weight[lo:hi], dst[lo:hi]
    for i in range(x.size):
        dx[i] = 0 if x[i] <= 0 else dout[i]


@jit
def leaky_relu(first, last, src, weight, dst, bias, residual, job, table):
    """bias: the slope."""
    lo, hi, slope = first * BLOCK, min(dst.size, last * BLOCK), bias[0]
    x, y = src[lo:hi], dst[lo:hi]
    for i in range(x.size):
        y[i] = x[i] if x[i] > 0 else x[i] * slope


@jit
def leaky_relu_backward(first, last, src, weight, dst, bias, residual, job, table):
    """bias: the slope."""
    lo, hi, slope = first * BLOCK, min(dst.size, last * BLOCK), bias[0]
    x, dout, dx = src[lo:hi], weight[lo:hi], dst[lo:hi]
    for i in range(x.size):
        dx[i] = dout[i] if x[i] > 0 else dout[i] * slope


@jit(exact=True)
def sigmoid(first, last, src, weight, dst, bias, residual, job, table):
    lo, hi = first * BLOCK, min(dst.size, last * BLOCK)
    x, y = src[lo:hi], dst[lo:hi]
    for i in range(x.size):
        y[i] = logistic(x[i])[0]


@jit(exact=True)
def sigmoid_backward(first, last, src, weight, dst, bias, residual, job, table):
    """bias: empty where src is x; one element where it is y."""
    lo, hi = first * BLOCK, min(dst.size, last * BLOCK)
    x, dout, dx = src[lo:hi], weight[lo:hi], dst[lo:hi]
    if bias.size:
        for i in range(x.size):
            dx[i] = dout[i] * (x[i] * (by_type(x[i], 1.0, 1.0) - x[i]))
    else:
        for i in range(x.size):
            dx[i] = dout[i] * logistic(x[i])[1]


@jit(exact=True)
def tanh(first, last, src, weight, dst, bias, residual, job, table):
    lo, hi = first * BLOCK, min(dst.size, last * BLOCK)
    x, y = src[lo:hi], dst[lo:hi]
    for i in range(x.size):
        y[i] = hyperbolic_tangent(x[i])


@jit(exact=True)
def tanh_backward(first, last, src, weight, dst, bias, residual, job, table):
    """bias: empty where src is x; one element where it is y."""
    lo, hi = first * BLOCK, min(dst.size, last * BLOCK)
    x, dout, dx = src[lo:hi], weight[lo:hi], dst[lo:hi]
    if bias.size:
        for i in range(x.size):
            one = by_type(x[i], 1.0, 1.0)
            dx[i] = dout[i] * ((one - x[i]) * (one + x[i]))
    else:
        for i in range(x.size):
            dx[i] = dout[i] * (by_type(x[i], 4.0, 4.0) * logistic(by_type(x[i], 2.0, 2.0) * x[i])[1])


@jit(exact=True)
def gelu(first, last, src, weight, dst, bias, residual, job, table):
    lo, hi = first * BLOCK, min(dst.size, last * BLOCK)
    x, y = src[lo:hi], dst[lo:hi]
    for i in range(x.size):
        y[i] = x[i] * normal(x[i])[0]


@jit(exact=True)
def gelu_backward(first, last, src, weight, dst, bias, residual, job, table):
    lo, hi = first * BLOCK, min(dst.size, last * BLOCK)
    x, dout, dx = src[lo:hi], weight[lo:hi], dst[lo:hi]
    for i in range(x.size):
        share, density = normal(x[i])
        dx[i] = dout[i] * (share + x[i] * density)


@jit(exact=True)
def cubic(x):
    """2 sqrt(2 / pi) (x + 0.044715 x^3), of which gelu's tanh form takes the logistic function, and its derivative."""
    square = x * x
    return (by_type(x, 1.5957691216057308, 1.5957691216057308) * (x + by_type(x, 0.044715, 0.044715) * (square * x)),
            by_type(x, 1.5957691216057308, 1.5957691216057308) * (by_type(x, 1.0, 1.0) + by_type(x, 0.134145, 0.134145) * square))


@jit(exact=True)
def gelu_tanh(first, last, src, weight, dst, bias, residual, job, table):
    lo, hi = first * BLOCK, min(dst.size, last * BLOCK)
    x, y = src[lo:hi], dst[lo:hi]
    for i in range(x.size):
        y[i] = x[i] * logistic(cubic(x[i])[0])[0]


@jit(exact=True)
def gelu_tanh_backward(first, last, src, weight, dst, bias, residual, job, table):
    lo, hi = first * BLOCK, min(dst.size, last * BLOCK)
    x, dout, dx = src[lo:hi], weight[lo:hi], dst[lo:hi]
    for i in range(x.size):
        v = x[i]
        limit = by_type(v, 40.0, 40.0)       # beyond it the function is x or 0: the slope does not overflow
        v = limit if v > limit else v
        v = -limit if v < -limit else v
        inner, slope = cubic(v)
        share, steepness = logistic(inner)
        dx[i] = dout[i] * (share + v * steepness * slope)
