"""2-D convolution (cross-correlation: the kernel is not flipped) as plain loops."""

import numpy as np

from naive.shared import Padding, Pair, batched, crop, deliver, dtypes, output_size, pad_pairs, pair, taps, zero_pad


def conv2d(x: np.ndarray, weight: np.ndarray, bias: np.ndarray | None = None, stride: Pair = 1, padding: Padding = 0, dilation: Pair = 1,
           groups: int = 1, *, algorithm: str = "auto", out: np.ndarray | None = None) -> np.ndarray:
    """x (N, C, H, W), weight (F, C/groups, KH, KW), bias (F,) -> y (N, F, OH, OW).

    y[n, f, i, j] = bias[f] + sum over c, p, q of  weight[f, c, p, q] * xpad[n, first + c, i*stride + p*dilation, j*stride + q*dilation]

    where xpad is x with zeros around, and first is the first channel of f's group. The zeros take part: inf * 0 is NaN.
    """
    work, result = dtypes(x, weight, bias)
    xpad, (OH, OW), stride, dilation, _ = _prepare(x, weight, stride, padding, dilation, work)
    N, F, CG, KH, KW = len(xpad), *weight.shape
    weight = weight.astype(work)

    y = np.zeros((N, F, OH, OW), work)
    for n, f, i, j in np.ndindex(N, F, OH, OW):
        first = f // (F // groups) * CG
        rows, columns = taps(i, KH, stride[0], dilation[0]), taps(j, KW, stride[1], dilation[1])
        window = xpad[n, first : first + CG, rows, columns]  # (C/groups, KH, KW)
        y[n, f, i, j] = np.sum(weight[f] * window)
        if bias is not None:
            y[n, f, i, j] += bias[f]
    return deliver(y, x.ndim == 4, result, out)


def conv2d_backward(dout: np.ndarray, x: np.ndarray, weight: np.ndarray, bias: np.ndarray | None = None, stride: Pair = 1,
                    padding: Padding = 0, dilation: Pair = 1, groups: int = 1, *, algorithm: str = "auto",
                    need: tuple[bool, bool, bool] = (True, True, True)) -> tuple[np.ndarray | None, np.ndarray | None, np.ndarray | None]:
    """dout (N, F, OH, OW) and the forward's arguments -> dx, dweight, dbias, shaped as x, weight, bias.

    Each y[n, f, i, j] is a sum of products, so its gradient goes to both factors of each product, and to the bias:

    dxpad[n, first + c, i*stride + p*dilation, j*stride + q*dilation] += dout[n, f, i, j] * weight[f, c, p, q]
    dweight[f, c, p, q] += dout[n, f, i, j] * xpad[n, first + c, i*stride + p*dilation, j*stride + q*dilation]
    dbias[f] += dout[n, f, i, j]
    """
    work, result = dtypes(dout, x, weight, bias)
    xpad, (OH, OW), stride, dilation, pad = _prepare(x, weight, stride, padding, dilation, work)
    N, F, CG, KH, KW = len(xpad), *weight.shape
    weight, dy = weight.astype(work), batched(dout).astype(work)

    dxpad, dweight, dbias = np.zeros_like(xpad), np.zeros_like(weight), np.zeros(F, work)
    for n, f, i, j in np.ndindex(N, F, OH, OW):
        first = f // (F // groups) * CG
        rows, columns = taps(i, KH, stride[0], dilation[0]), taps(j, KW, stride[1], dilation[1])
        dxpad[n, first : first + CG, rows, columns] += dy[n, f, i, j] * weight[f]
        dweight[f] += dy[n, f, i, j] * xpad[n, first : first + CG, rows, columns]
        dbias[f] += dy[n, f, i, j]

    dx = deliver(crop(dxpad, pad), x.ndim == 4, result) if need[0] else None
    dweight = dweight.astype(result) if need[1] else None
    dbias = dbias.astype(result) if need[2] and bias is not None else None
    return dx, dweight, dbias


def _prepare(x, weight, stride, padding, dilation, dtype):
    """The padded input, the output's height and width, and stride, dilation and padding written out."""
    kernel, stride, dilation = weight.shape[2:], pair(stride), pair(dilation)
    pad = pad_pairs(padding, kernel, dilation)
    size = [output_size(*axis) for axis in zip(x.shape[-2:], kernel, stride, pad, dilation)]
    return zero_pad(batched(x).astype(dtype), pad), size, stride, dilation, pad
