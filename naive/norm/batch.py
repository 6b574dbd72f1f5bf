"""Batch normalisation as plain loops over the channels."""

import numpy as np

from naive.norm.moments import moments
from naive.shared import deliver, dtypes

__all__ = ["batch_norm", "batch_norm_backward"]


def batch_norm(x: np.ndarray, running_mean: np.ndarray | None, running_var: np.ndarray | None, weight: np.ndarray | None = None,
               bias: np.ndarray | None = None, training: bool = False, momentum: float = 0.1, eps: float = 1e-5, *,
               return_stats: bool = False, out: np.ndarray | None = None) -> np.ndarray | tuple[np.ndarray, np.ndarray, np.ndarray]:
    """x (N, C) or (N, C, ...), the other arrays (C,) -> y like x; with return_stats also mean and invstd, (C,).

    y[n, c, ...] = weight[c] * (x[n, c, ...] - mean[c]) * invstd[c] + bias[c]        invstd = 1 / sqrt(var + eps)

    In training, and where there are no running statistics, mean and var are the batch's own, over m values per channel, with
    var divided by m; otherwise they are the running ones. Training moves the running ones in place, with var divided by m - 1:

    running = (1 - momentum) * running + momentum * new

    An empty batch moves nothing. mean and invstd are returned as they were used: of float16 in float32.
    """
    work, result = _dtypes(x, running_mean, running_var, weight, bias, training)
    mean, var = _statistics(x, running_mean, running_var, training, work)
    invstd = 1 / np.sqrt(var + work.type(eps))

    y = np.zeros(x.shape, work)
    for c in range(x.shape[1]):
        y[:, c] = (x[:, c].astype(work) - mean[c]) * invstd[c]
        if weight is not None:
            y[:, c] *= weight[c]
        if bias is not None:
            y[:, c] += bias[c]

    m = _values_per_channel(x)
    if training and m > 0:
        for running, new in ((running_mean, mean), (running_var, var * m / (m - 1))):
            if running is not None:
                running[...] = (1 - momentum) * running.astype(np.result_type(running, work)) + momentum * new
    y = deliver(y, True, result, out)
    return (y, mean, invstd) if return_stats else y


def batch_norm_backward(dout: np.ndarray, x: np.ndarray, running_mean: np.ndarray | None, running_var: np.ndarray | None,
                        weight: np.ndarray | None = None, bias: np.ndarray | None = None, training: bool = False, momentum: float = 0.1,
                        eps: float = 1e-5, *, mean: np.ndarray | None = None, invstd: np.ndarray | None = None,
                        need: tuple[bool, bool, bool] = (True, True, True)) -> tuple[np.ndarray | None, np.ndarray | None, np.ndarray | None]:
    """dout like x -> dx like x, dweight (C,), dbias (C,); `mean` and `invstd` of the forward save computing them again.

    With xhat = (x - mean) * invstd, and sums and averages over the m values of a channel:

    dbias = sum(dout)        dweight = sum(dout * xhat)
    dx = weight * invstd * dout                                                    with running statistics: they are constants
    dx = weight * invstd * (dout - average(dout) - xhat * average(dout * xhat))    with the batch's own: they depend on x
    """
    work, result = _dtypes(x, running_mean, running_var, weight, bias, training, dout)
    if mean is None or invstd is None:
        mean, var = _statistics(x, running_mean, running_var, training, work)
        invstd = 1 / np.sqrt(var + work.type(eps))
    m = max(_values_per_channel(x), 1)

    dx, dweight, dbias = np.zeros(x.shape, work), np.zeros(x.shape[1], work), np.zeros(x.shape[1], work)
    for c in range(x.shape[1]):
        dy, xhat = dout[:, c].astype(work), (x[:, c].astype(work) - mean[c]) * invstd[c]
        dbias[c] = np.sum(dy)
        dweight[c] = np.sum(dy * xhat)
        dx[:, c] = dy - dbias[c] / m - xhat * (dweight[c] / m) if _own(running_mean, running_var, training) else dy
        dx[:, c] *= invstd[c] if weight is None else weight[c] * invstd[c]

    dx = dx.astype(result) if need[0] else None
    dweight = dweight.astype(result) if need[1] and weight is not None else None
    dbias = dbias.astype(result) if need[2] and bias is not None else None
    return dx, dweight, dbias


def _own(running_mean, running_var, training):
    """Whether the batch's own statistics are used."""
    return training or running_mean is None or running_var is None


def _dtypes(x, running_mean, running_var, weight, bias, training, dout=None):
    used = (None, None) if _own(running_mean, running_var, training) else (running_mean, running_var)
    return dtypes(x, weight, bias, dout, *used)


def _values_per_channel(x):
    return x.size // x.shape[1]


def _statistics(x, running_mean, running_var, training, dtype):
    """mean and var, (C,) each."""
    if not _own(running_mean, running_var, training):
        return running_mean.astype(dtype), running_var.astype(dtype)
    m = _values_per_channel(x)
    if m == 1:
        raise ValueError(f"x: expected more than one value per channel in training, got shape {x.shape}")
    mean, var = np.zeros(x.shape[1], dtype), np.zeros(x.shape[1], dtype)
    for c in range(x.shape[1] if m > 0 else 0):
        mean[c], var[c] = moments(x[:, c].astype(dtype))
    return mean, var
