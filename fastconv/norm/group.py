"""Group normalisation, each image's channels in groups, and its gradients."""
from __future__ import annotations

import math
from typing import Any

import numpy as np

from .. import check
from ..kernels import norm as kernels
from . import layout
from .known import Planned
from .passes import backward, forward

__all__ = ["group_norm", "group_norm_backward"]


def group_norm(x: np.ndarray, num_groups: int, weight: np.ndarray | None = None, bias: np.ndarray | None = None, eps: float = 1e-5, *,
               return_stats: bool = False, out: np.ndarray | None = None) -> Any:
    """Normalise each group of C / num_groups channels of each image, as torch.nn.functional.group_norm (Wu and He, 2018).

        y = (x - mean) * invstd * weight + bias,    invstd = 1 / sqrt(var + eps)

    x: (N, C) or (N, C, ...), float32, float64 or float16 (computed in float32, rounded once); weight, bias: (C,) or None. mean and var are
    those of a group's values, var divided by their number.

    Returns y, of the shape of x; with return_stats (y, mean, invstd), the statistics (N, num_groups), for `group_norm_backward`.
    ValueError where C is no multiple of num_groups, and for a batch of one group of one value.
    """
    return forward(Call, x, (weight, bias), (num_groups, eps), return_stats, out)


def group_norm_backward(dout: np.ndarray, x: np.ndarray, num_groups: int, weight: np.ndarray | None = None, bias: np.ndarray | None = None,
                        eps: float = 1e-5, *, mean: np.ndarray | None = None, invstd: np.ndarray | None = None,
                        need: tuple[bool, bool, bool] = (True, True, True),
                        ) -> tuple[np.ndarray | None, np.ndarray | None, np.ndarray | None]:
    """The gradients of `group_norm`: dx, dweight, dbias; None for an argument that was None or is not in `need`.

    mean, invstd: what the forward returned with return_stats; without them they are computed again. The other arguments are the
    forward's.
    """
    return backward(Call, dout, x, (weight, bias), (num_groups, eps), (mean, invstd), need)


class Call(Planned):
    """The arguments of one group norm, checked."""

    function = "group_norm"

    def __init__(self, x: Any, weight: Any, bias: Any, num_groups: Any, eps: Any) -> None:
        check.array("x", x, "(N, C) or (N, C, ...)", range(2, 33))
        self.dtype, self.working = check.dtypes(x)
        self.shape = x.shape
        self.N, self.C, self.S = *x.shape[:2], math.prod(x.shape[2:])
        self.G = check.integer("num_groups", num_groups, 1)
        if self.C % self.G:
            raise ValueError(f"num_groups is {self.G} and x has {self.C} channels, shape {x.shape}; wanted: a divisor of the channels")
        self.eps = check.number("eps", eps, 0.0)
        for name, value in (("weight", weight), ("bias", bias)):
            if value is not None:
                check.parameter(name, value, (self.C,), "one value for each channel of x", self.dtype, x.shape)
        if self.N * (self.C // self.G) * self.S == 1:
            raise ValueError(f"x has one value a group, shape {x.shape} in {self.G} groups; wanted: at least 2")
        self.stats, self.parameters = (self.N, self.G), (self.C,)

    def lay_out(self, flags: int, gradient: bool = False, dx: bool = False, parameters: bool = False) -> layout.Layout:
        return layout.groups(self.N, self.C, self.S, self.G, self.working.itemsize, flags | kernels.OWN | kernels.CENTERED, gradient)
