"""Layer and RMS normalisation as plain loops over the rows."""

import numpy as np

from naive.norm.moments import moments
from naive.shared import deliver, dtypes

__all__ = ["layer_norm", "layer_norm_backward", "rms_norm", "rms_norm_backward"]

Shape = tuple[int, ...] | list[int]


def layer_norm(x: np.ndarray, normalized_shape: Shape, weight: np.ndarray | None = None, bias: np.ndarray | None = None, eps: float = 1e-5,
               *, return_stats: bool = False, out: np.ndarray | None = None) -> np.ndarray | tuple[np.ndarray, np.ndarray, np.ndarray]:
    """x (..., *normalized_shape), weight and bias of normalized_shape -> y like x; with return_stats also mean and invstd, (...).

    y[i] = (x[i] - mean[i]) * invstd[i] * weight + bias        invstd = 1 / sqrt(var + eps), i any index of the axes before

    mean and var are those of the values of x[i], var divided by their number.
    """
    work, result = dtypes(x, weight, bias)
    before = x.shape[: x.ndim - len(normalized_shape)]
    y, mean, var = np.zeros(x.shape, work), np.zeros(before, work), np.zeros(before, work)
    for i in np.ndindex(before):
        values = x[i].astype(work)
        mean[i], var[i] = moments(values)
        y[i] = (values - mean[i]) / np.sqrt(var[i] + work.type(eps))
        if weight is not None:
            y[i] *= weight
        if bias is not None:
            y[i] += bias
    y = deliver(y, True, result, out)
    return (y, mean, 1 / np.sqrt(var + work.type(eps))) if return_stats else y


def layer_norm_backward(dout: np.ndarray, x: np.ndarray, normalized_shape: Shape, weight: np.ndarray | None = None,
                        bias: np.ndarray | None = None, eps: float = 1e-5, *, mean: np.ndarray | None = None,
                        invstd: np.ndarray | None = None,
                        need: tuple[bool, bool, bool] = (True, True, True)) -> tuple[np.ndarray | None, np.ndarray | None, np.ndarray | None]:
    """dout like x -> dx like x, dweight and dbias of normalized_shape; `mean` and `invstd` of the forward save computing them again.

    With xhat = (x - mean) * invstd, sums over the rows, averages over the values of a row:

    dbias = sum(dout)        dweight = sum(dout * xhat)
    dx = (weight * dout - average(weight * dout) - xhat * average(weight * dout * xhat)) * invstd
    """
    work, result = dtypes(x, weight, bias, dout)
    if mean is None or invstd is None:
        _, mean, invstd = layer_norm(x.astype(work), normalized_shape, eps=eps, return_stats=True)
    dx, dweight, dbias = np.zeros(x.shape, work), np.zeros(normalized_shape, work), np.zeros(normalized_shape, work)
    for i in np.ndindex(x.shape[: x.ndim - len(normalized_shape)]):
        dy, xhat = dout[i].astype(work), (x[i].astype(work) - mean[i]) * invstd[i]
        dxhat, m = dy if weight is None else dy * weight, max(dy.size, 1)
        dbias += dy
        dweight += dy * xhat
        dx[i] = (dxhat - np.sum(dxhat) / m - xhat * (np.sum(dxhat * xhat) / m)) * invstd[i]
    dx = dx.astype(result) if need[0] else None
    dweight = dweight.astype(result) if need[1] and weight is not None else None
    dbias = dbias.astype(result) if need[2] and bias is not None else None
    return dx, dweight, dbias


def rms_norm(x: np.ndarray, normalized_shape: Shape, weight: np.ndarray | None = None, eps: float | None = None, *,
             return_stats: bool = False, out: np.ndarray | None = None) -> np.ndarray | tuple[np.ndarray, np.ndarray]:
    """x (..., *normalized_shape), weight of normalized_shape -> y like x; with return_stats also invrms, (...).

    y[i] = x[i] * invrms[i] * weight        invrms = 1 / sqrt(average(x ** 2) + eps), i any index of the axes before

    eps None: from 1 to the next number of the dtype computed in.
    """
    work, result = dtypes(x, weight)
    before = x.shape[: x.ndim - len(normalized_shape)]
    y, invrms = np.zeros(x.shape, work), np.zeros(before, work)
    for i in np.ndindex(before):
        values = x[i].astype(work)
        square = np.sum(values**2) / max(values.size, 1)
        invrms[i] = 1 / np.sqrt(square + (np.finfo(work).eps if eps is None else work.type(eps)))
        y[i] = values * invrms[i]
        if weight is not None:
            y[i] *= weight
    y = deliver(y, True, result, out)
    return (y, invrms) if return_stats else y


def rms_norm_backward(dout: np.ndarray, x: np.ndarray, normalized_shape: Shape, weight: np.ndarray | None = None, eps: float | None = None,
                      *, invrms: np.ndarray | None = None,
                      need: tuple[bool, bool] = (True, True)) -> tuple[np.ndarray | None, np.ndarray | None]:
    """dout like x -> dx like x, dweight of normalized_shape; `invrms` of the forward saves computing it again.

    With xhat = x * invrms, sums over the rows, averages over the values of a row:

    dweight = sum(dout * xhat)        dx = (weight * dout - xhat * average(weight * dout * xhat)) * invrms
    """
    work, result = dtypes(x, weight, dout)
    if invrms is None:
        _, invrms = rms_norm(x.astype(work), normalized_shape, eps=eps, return_stats=True)
    dx, dweight = np.zeros(x.shape, work), np.zeros(normalized_shape, work)
    for i in np.ndindex(x.shape[: x.ndim - len(normalized_shape)]):
        dy, xhat = dout[i].astype(work), x[i].astype(work) * invrms[i]
        dxhat = dy if weight is None else dy * weight
        dweight += dy * xhat
        dx[i] = (dxhat - xhat * (np.sum(dxhat * xhat) / max(dy.size, 1))) * invrms[i]
    return (dx.astype(result) if need[0] else None, dweight.astype(result) if need[1] and weight is not None else None)
