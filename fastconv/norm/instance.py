"""Instance normalisation, each channel of each image by itself, and its gradients."""
from __future__ import annotations

from typing import Any

import numpy as np

from .. import check
from . import group
from .batch import batch_norm, batch_norm_backward
from .passes import backward, forward

__all__ = ["instance_norm", "instance_norm_backward"]


def instance_norm(x: np.ndarray, running_mean: np.ndarray | None = None, running_var: np.ndarray | None = None,
                  weight: np.ndarray | None = None, bias: np.ndarray | None = None, use_input_stats: bool = True, momentum: float = 0.1,
                  eps: float = 1e-5, *, return_stats: bool = False, out: np.ndarray | None = None) -> Any:
    """Normalise each channel of each image, as torch.nn.functional.instance_norm (Ulyanov, Vedaldi and Lempitsky, 2016).

        y = (x - mean) * invstd * weight + bias,    invstd = 1 / sqrt(var + eps)

    x: (N, C) or (N, C, ...), float32, float64 or float16 (computed in float32, rounded once); the others: (C,) or None. With
    use_input_stats mean and var are those of each plane (var divided by the number of values), and running statistics that are given move
    in place, running = (1 - momentum) * running + momentum * new, new being the average over the images, of var divided by one less.
    Without, mean and var are the running ones.

    Returns y, of the shape of x; with return_stats (y, mean, invstd) as used, the statistics (N, C), running ones (C,), for
    `instance_norm_backward`. ValueError for one value a plane where its statistics are needed, and for running statistics that
    cannot be written.
    """
    if not _own(running_mean, running_var, use_input_stats):
        return batch_norm(x, running_mean, running_var, weight, bias, False, momentum, eps, return_stats=return_stats, out=out)
    return forward(Call, x, (running_mean, running_var, weight, bias), (momentum, eps), return_stats, out)


def instance_norm_backward(dout: np.ndarray, x: np.ndarray, running_mean: np.ndarray | None = None, running_var: np.ndarray | None = None,
                           weight: np.ndarray | None = None, bias: np.ndarray | None = None, use_input_stats: bool = True,
                           momentum: float = 0.1, eps: float = 1e-5, *, mean: np.ndarray | None = None, invstd: np.ndarray | None = None,
                           need: tuple[bool, bool, bool] = (True, True, True),
                           ) -> tuple[np.ndarray | None, np.ndarray | None, np.ndarray | None]:
    """The gradients of `instance_norm`: dx, dweight, dbias; None for an argument that was None or is not in `need`.

    mean, invstd: what the forward returned with return_stats; without them they are computed again. The other arguments are the
    forward's.
    """
    if not _own(running_mean, running_var, use_input_stats):
        return batch_norm_backward(dout, x, running_mean, running_var, weight, bias, False, momentum, eps, mean=mean, invstd=invstd, need=need)
    return backward(Call, dout, x, (running_mean, running_var, weight, bias), (momentum, eps), (mean, invstd), need)


def _own(running_mean: Any, running_var: Any, use_input_stats: Any) -> bool:
    """Whether a plane's own statistics are used; else there must be running ones."""
    own = check.flag("use_input_stats", use_input_stats)
    if not own and (running_mean is None or running_var is None):
        name = "running_mean" if running_mean is None else "running_var"
        raise ValueError(f"{name} is None and use_input_stats is False; wanted: running_mean and running_var, or use_input_stats=True")
    return own


class Call(group.Call):
    """The arguments of one instance norm that uses the planes' own statistics, checked."""

    function = "instance_norm"

    def __init__(self, x: Any, running_mean: Any, running_var: Any, weight: Any, bias: Any, momentum: Any, eps: Any) -> None:
        check.array("x", x, "(N, C) or (N, C, ...)", range(2, 33))
        if x.size and x[0, 0].size == 1:
            raise ValueError(f"x has one value a plane, shape {x.shape}; wanted: at least 2, or use_input_stats=False")
        super().__init__(x, weight, bias, max(1, x.shape[1]), eps)
        for name, value in (("running_mean", running_mean), ("running_var", running_var)):
            if value is not None:
                check.parameter(name, value, (self.C,), "one value for each channel of x", self.dtype, x.shape)
        if (running_mean is None) != (running_var is None):
            raise ValueError("running_mean and running_var: one is None; wanted: both or neither")
        self.momentum = check.number("momentum", momentum, 0.0)
        self.stats = self.N, self.C
        self.moves = running_mean is not None
