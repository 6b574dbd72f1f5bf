"""Layer and RMS normalisation, over the last axes, and their gradients."""
from __future__ import annotations

import math
from typing import Any

import numpy as np

from .. import check
from ..kernels import norm as kernels
from . import layout
from .known import Planned
from .passes import backward, forward

__all__ = ["layer_norm", "layer_norm_backward", "rms_norm", "rms_norm_backward"]

Shape = tuple[int, ...] | list[int]


def layer_norm(x: np.ndarray, normalized_shape: Shape, weight: np.ndarray | None = None, bias: np.ndarray | None = None, eps: float = 1e-5,
               *, return_stats: bool = False, out: np.ndarray | None = None) -> Any:
    """Normalise over the last axes, as torch.nn.functional.layer_norm (Ba, Kiros and Hinton, 2016).

        y = (x - mean) * invstd * weight + bias,    invstd = 1 / sqrt(var + eps)

    x: (..., *normalized_shape), float32, float64 or float16 (computed in float32, rounded once); weight, bias: of normalized_shape, or None.
    mean and var are those of the values of the last axes, var divided by their number.

    Returns y, of the shape of x; with return_stats (y, mean, invstd), the statistics of the shape of the axes before, for
    `layer_norm_backward`.
    """
    return forward(Call, x, (weight, bias), (normalized_shape, eps), return_stats, out, _flat(False, normalized_shape, eps))


def layer_norm_backward(dout: np.ndarray, x: np.ndarray, normalized_shape: Shape, weight: np.ndarray | None = None,
                        bias: np.ndarray | None = None, eps: float = 1e-5, *, mean: np.ndarray | None = None,
                        invstd: np.ndarray | None = None, need: tuple[bool, bool, bool] = (True, True, True),
                        ) -> tuple[np.ndarray | None, np.ndarray | None, np.ndarray | None]:
    """The gradients of `layer_norm`: dx, dweight, dbias; None for an argument that was None or is not in `need`.

    mean, invstd: what the forward returned with return_stats; without them they are computed again. The other arguments are the
    forward's.
    """
    return backward(Call, dout, x, (weight, bias), (normalized_shape, eps), (mean, invstd), need, _flat(False, normalized_shape, eps))


def rms_norm(x: np.ndarray, normalized_shape: Shape, weight: np.ndarray | None = None, eps: float | None = None, *,
             return_stats: bool = False, out: np.ndarray | None = None) -> Any:
    """Divide by the root mean square over the last axes, as torch.nn.functional.rms_norm (Zhang and Sennrich, 2019).

        y = x * invrms * weight,    invrms = 1 / sqrt(mean(x ** 2) + eps)

    x: (..., *normalized_shape), float32, float64 or float16 (computed in float32, rounded once); weight: of normalized_shape, or None. eps:
    None stands for the distance from 1 to the next number of the dtype that is computed in.

    Returns y, of the shape of x; with return_stats (y, invrms), of the shape of the axes before, for `rms_norm_backward`.
    """
    found = forward(Call, x, (weight, None), (normalized_shape, eps, True), return_stats, out, _flat(True, normalized_shape, eps))
    return (found[0], found[2]) if return_stats else found


def rms_norm_backward(dout: np.ndarray, x: np.ndarray, normalized_shape: Shape, weight: np.ndarray | None = None, eps: float | None = None,
                      *, invrms: np.ndarray | None = None, need: tuple[bool, bool] = (True, True),
                      ) -> tuple[np.ndarray | None, np.ndarray | None]:
    """The gradients of `rms_norm`: dx, dweight; None for an argument that was None or is not in `need`.

    invrms: what the forward returned with return_stats; without it it is computed again. The other arguments are the forward's.
    """
    wanted = *check.need(need, 2), False
    flat = _flat(True, normalized_shape, eps)
    return backward(Call, dout, x, (weight, None), (normalized_shape, eps, True), (invrms, invrms), wanted, flat)[:2]       # no mean is looked at


def _flat(root: bool, normalized_shape: Any, eps: Any) -> tuple[Any, ...]:
    return (root, eps, *normalized_shape) if type(normalized_shape) is tuple else (root, eps, normalized_shape)


class Call(Planned):
    """The arguments of one layer norm, or RMS norm (`root`), checked."""

    def __init__(self, x: Any, weight: Any, bias: Any, normalized_shape: Any, eps: Any, root: bool = False) -> None:
        check.array("x", x, "(..., *normalized_shape)", range(1, 33))
        self.dtype, self.working = check.dtypes(x)
        self.shape, shape = x.shape, check.shape("normalized_shape", normalized_shape, "that x ends with", range(1, 33))
        if x.shape[-len(shape):] != shape:
            raise ValueError(f"normalized_shape is {shape} and x has shape {x.shape}; wanted: the sizes of the last axes of x")
        for name, value in (("weight", weight), ("bias", bias)):
            if value is not None:
                check.parameter(name, value, shape, "that of normalized_shape", self.dtype)
        self.function = "rms_norm" if root else "layer_norm"
        self.centered, self.K = not root, math.prod(shape)
        self.eps = float(np.finfo(self.working).eps) if root and eps is None else check.number("eps", eps, 0.0)
        self.stats, self.parameters = x.shape[:x.ndim - len(shape)], shape

    def check_statistics(self, mean: Any, invstd: Any) -> None:
        if self.centered:
            super().check_statistics(mean, invstd)
        elif invstd is not None:
            self.check_statistic("invrms", invstd)

    def lay_out(self, flags: int, gradient: bool = False, dx: bool = False, parameters: bool = False) -> layout.Layout:
        flags |= kernels.OWN | (kernels.CENTERED if self.centered else 0)
        return layout.rows(math.prod(self.stats), self.K, 1, self.K, 1, self.working.itemsize, flags, gradient)
