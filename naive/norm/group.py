"""Group and instance normalisation as plain loops over the images and groups."""

import numpy as np

from naive.norm.batch import batch_norm, batch_norm_backward
from naive.norm.moments import moments
from naive.shared import deliver, dtypes

__all__ = ["group_norm", "group_norm_backward", "instance_norm", "instance_norm_backward"]


def group_norm(x: np.ndarray, num_groups: int, weight: np.ndarray | None = None, bias: np.ndarray | None = None, eps: float = 1e-5, *,
               return_stats: bool = False, out: np.ndarray | None = None) -> np.ndarray | tuple[np.ndarray, np.ndarray, np.ndarray]:
    """x (N, C) or (N, C, ...), weight and bias (C,) -> y like x; with return_stats also mean and invstd, (N, num_groups).

    y[n, c, ...] = weight[c] * (x[n, c, ...] - mean[n, g]) * invstd[n, g] + bias[c]      g the group of c, invstd = 1 / sqrt(var + eps)

    mean and var are those of the values of group g in image n, var divided by their number.
    """
    work, result = dtypes(x, weight, bias)
    mean, invstd = _statistics(x, num_groups, eps, work)
    y = np.zeros(x.shape, work)
    for n in range(x.shape[0]):
        for c in range(x.shape[1]):
            g = c * num_groups // x.shape[1]
            y[n, c] = (x[n, c].astype(work) - mean[n, g]) * invstd[n, g]
            if weight is not None:
                y[n, c] *= weight[c]
            if bias is not None:
                y[n, c] += bias[c]
    y = deliver(y, True, result, out)
    return (y, mean, invstd) if return_stats else y


def group_norm_backward(dout: np.ndarray, x: np.ndarray, num_groups: int, weight: np.ndarray | None = None, bias: np.ndarray | None = None,
                        eps: float = 1e-5, *, mean: np.ndarray | None = None, invstd: np.ndarray | None = None,
                        need: tuple[bool, bool, bool] = (True, True, True)) -> tuple[np.ndarray | None, np.ndarray | None, np.ndarray | None]:
    """dout like x -> dx like x, dweight (C,), dbias (C,); `mean` and `invstd` of the forward save computing them again.

    With xhat = (x - mean) * invstd, sums over the images and pixels of a channel, averages over the values of a group:

    dbias = sum(dout)        dweight = sum(dout * xhat)
    dx = (weight * dout - average(weight * dout) - xhat * average(weight * dout * xhat)) * invstd
    """
    work, result = dtypes(x, weight, bias, dout)
    if mean is None or invstd is None:
        mean, invstd = _statistics(x, num_groups, eps, work)
    C = x.shape[1]
    dx, dweight, dbias = np.zeros(x.shape, work), np.zeros(C, work), np.zeros(C, work)
    for n in range(x.shape[0]):
        for g in range(num_groups):
            channels = range(g * C // num_groups, (g + 1) * C // num_groups)
            dxhat, xhat = np.zeros((len(channels), *x.shape[2:]), work), np.zeros((len(channels), *x.shape[2:]), work)
            for i, c in enumerate(channels):
                dy = dout[n, c].astype(work)
                xhat[i] = (x[n, c].astype(work) - mean[n, g]) * invstd[n, g]
                dxhat[i] = dy if weight is None else dy * weight[c]
                dbias[c] += np.sum(dy)
                dweight[c] += np.sum(dy * xhat[i])
            m = max(dxhat.size, 1)
            average, slope = np.sum(dxhat) / m, np.sum(dxhat * xhat) / m
            for i, c in enumerate(channels):
                dx[n, c] = (dxhat[i] - average - xhat[i] * slope) * invstd[n, g]
    dx = dx.astype(result) if need[0] else None
    dweight = dweight.astype(result) if need[1] and weight is not None else None
    dbias = dbias.astype(result) if need[2] and bias is not None else None
    return dx, dweight, dbias


def instance_norm(x: np.ndarray, running_mean: np.ndarray | None = None, running_var: np.ndarray | None = None,
                  weight: np.ndarray | None = None, bias: np.ndarray | None = None, use_input_stats: bool = True, momentum: float = 0.1,
                  eps: float = 1e-5, *, return_stats: bool = False,
                  out: np.ndarray | None = None) -> np.ndarray | tuple[np.ndarray, np.ndarray, np.ndarray]:
    """x (N, C) or (N, C, ...), the other arrays (C,) -> y like x; with return_stats also mean and invstd, (N, C).

    A group norm of one channel a group. Running statistics move in place, by the average over the images, var divided by m - 1:

    running = (1 - momentum) * running + momentum * average(new)

    Without use_input_stats they are used as they are, mean and invstd (C,).
    """
    if not use_input_stats:
        return batch_norm(x, running_mean, running_var, weight, bias, False, momentum, eps, return_stats=return_stats, out=out)
    _check_values(x)
    y, mean, invstd = group_norm(x, x.shape[1], weight, bias, eps, return_stats=True, out=out)
    N, C = x.shape[:2]
    for c in range(C if running_mean is not None and x.size else 0):
        values = x[:, c].reshape(N, -1).astype(mean.dtype)
        new_mean = np.sum(np.mean(values, axis=1)) / N
        new_var = np.sum(np.var(values, axis=1, ddof=1)) / N
        for running, new in ((running_mean, new_mean), (running_var, new_var)):
            running[c] = (1 - momentum) * running[c].astype(mean.dtype) + momentum * new
    return (y, mean, invstd) if return_stats else y


def instance_norm_backward(dout: np.ndarray, x: np.ndarray, running_mean: np.ndarray | None = None, running_var: np.ndarray | None = None,
                           weight: np.ndarray | None = None, bias: np.ndarray | None = None, use_input_stats: bool = True,
                           momentum: float = 0.1, eps: float = 1e-5, *, mean: np.ndarray | None = None, invstd: np.ndarray | None = None,
                           need: tuple[bool, bool, bool] = (True, True, True)) -> tuple[np.ndarray | None, np.ndarray | None, np.ndarray | None]:
    """dout like x -> dx like x, dweight (C,), dbias (C,): those of a group norm of one channel a group, or of constant statistics."""
    if not use_input_stats:
        return batch_norm_backward(dout, x, running_mean, running_var, weight, bias, False, momentum, eps, mean=mean, invstd=invstd, need=need)
    _check_values(x)
    return group_norm_backward(dout, x, x.shape[1], weight, bias, eps, mean=mean, invstd=invstd, need=need)


def _check_values(x):
    if x.size and x[0, 0].size == 1:
        raise ValueError(f"x: expected more than one value per plane, got shape {x.shape}")


def _statistics(x, num_groups, eps, dtype):
    """mean and invstd, (N, num_groups) each."""
    N, C = x.shape[:2]
    if N * (C // num_groups) * x[:1, :1].size == 1:
        raise ValueError(f"x: expected more than one value per group, got shape {x.shape}")
    mean, var = np.zeros((N, num_groups), dtype), np.zeros((N, num_groups), dtype)
    for n in range(N if x.size else 0):
        for g in range(num_groups):
            mean[n, g], var[n, g] = moments(x[n, g * C // num_groups : (g + 1) * C // num_groups].astype(dtype))
    return mean, 1 / np.sqrt(var + dtype.type(eps))
