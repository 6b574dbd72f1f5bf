"""Local response normalisation as plain loops."""

import numpy as np

from naive.shared import deliver, dtypes

__all__ = ["local_response_norm", "local_response_norm_backward"]


def local_response_norm(x: np.ndarray, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0, *,
                        out: np.ndarray | None = None) -> np.ndarray:
    """x (N, C, ...) -> y like x.

    y[n, c] = x[n, c] / div[n, c] ** beta        div[n, c] = k + alpha / size * sum of x[n, c'] ** 2 over c - size // 2 <= c' <= c + (size - 1) // 2

    Channels that do not exist add nothing.
    """
    work, result = dtypes(x)
    y = np.zeros(x.shape, work)
    for c in range(x.shape[1]):
        y[:, c] = x[:, c] / _divisor(x.astype(work), c, size, alpha, k) ** beta
    return deliver(y, True, result, out)


def local_response_norm_backward(dout: np.ndarray, x: np.ndarray, size: int, alpha: float = 1e-4, beta: float = 0.75,
                                 k: float = 1.0) -> np.ndarray:
    """dout like x -> dx like x.

    dx[n, c] = dout[n, c] / div[n, c] ** beta
               - 2 * alpha * beta / size * x[n, c] * sum of dout[n, c'] * x[n, c'] / div[n, c'] ** (beta + 1)

    over the channels c' whose divisor holds channel c.
    """
    work, result = dtypes(dout, x)
    dy, values = dout.astype(work), x.astype(work)
    dx = np.zeros(x.shape, work)
    for c in range(x.shape[1]):
        div = _divisor(values, c, size, alpha, k)
        dx[:, c] += dy[:, c] / div**beta
        for other in _neighbours(x.shape[1], c, size):
            dx[:, other] -= 2 * alpha * beta / size * values[:, other] * (dy[:, c] * values[:, c] / div ** (beta + 1))
    return deliver(dx, True, result)


def _neighbours(channels, c, size):
    return range(max(0, c - size // 2), min(channels, c + (size - 1) // 2 + 1))


def _divisor(x, c, size, alpha, k):
    total = np.zeros(x[:, c].shape, x.dtype)
    for other in _neighbours(x.shape[1], c, size):
        total += x[:, other] ** 2
    return k + alpha / size * total
