"""The layers of a network as steps that know the names of their weights: a network is a list of them.

forward(x, params, training) -> out, cache; backward(dout, cache, gradients, first) -> dx, with the gradients to the weights added to
the dictionary. `first`: nobody needs dx, so the steps that would pay for it give None.
"""

from abc import ABC, abstractmethod
from typing import Any

import numpy as np

from ..dense import affine_backward, affine_forward, affine_parameter_gradients, relu_backward, relu_forward
from ..dropout import dropout_backward, dropout_forward
from ..fast_layers import conv_backward_fast, conv_forward_fast, conv_parameter_gradients, max_pool_backward_fast, max_pool_forward_fast
from ..normalization import (
    batchnorm_backward,
    batchnorm_forward,
    layernorm_backward,
    layernorm_forward,
    spatial_batchnorm_forward,
    spatial_groupnorm_forward,
)

__all__ = ["Affine", "Convolution", "Dropout", "Normalization", "Pool", "ReLU", "Step"]

Arrays = dict[str, np.ndarray]


class Step(ABC):
    """What all steps have. number: of the weights' names, W1, b1, gamma1, beta1 for the first."""

    def __init__(self, number: int = 0) -> None:
        self.number = number

    def named(self, *names: str) -> list[str]:
        return [f"{name}{self.number}" for name in names]

    @abstractmethod
    def forward(self, x: np.ndarray, params: Arrays, training: bool) -> tuple[np.ndarray, Any]:
        """The result, and what the gradient needs of it."""

    @abstractmethod
    def backward(self, dout: np.ndarray, cache: Any, gradients: Arrays, first: bool) -> Any:
        """dx, None where the step is the first of its network; the gradients to its parameters go into `gradients`."""

    def _keep(self, gradients: Arrays, **found: np.ndarray) -> None:
        gradients.update({f"{name}{self.number}": gradient for name, gradient in found.items()})


class Affine(Step):
    """x (N, ...) -> (N, M)."""

    def forward(self, x: np.ndarray, params: Arrays, training: bool) -> tuple[np.ndarray, Any]:
        return affine_forward(x, *(params[name] for name in self.named("W", "b")))

    def backward(self, dout: np.ndarray, cache: Any, gradients: Arrays, first: bool) -> Any:
        dx, dw, db = (None, *affine_parameter_gradients(dout, cache)) if first else affine_backward(dout, cache)
        self._keep(gradients, W=dw, b=db)
        return dx


class Convolution(Step):
    """x (N, C, H, W) -> (N, F, H, W): stride 1, padded to keep the size."""

    def forward(self, x: np.ndarray, params: Arrays, training: bool) -> tuple[np.ndarray, Any]:
        w, b = (params[name] for name in self.named("W", "b"))
        pad = tuple((size - 1) // 2 for size in w.shape[2:])
        return conv_forward_fast(x, w, b, {"stride": 1, "pad": pad})

    def backward(self, dout: np.ndarray, cache: Any, gradients: Arrays, first: bool) -> Any:
        dx, dw, db = (None, *conv_parameter_gradients(dout, cache)) if first else conv_backward_fast(dout, cache)
        self._keep(gradients, W=dw, b=db)
        return dx


class Normalization(Step):
    """x (N, D) or (N, C, H, W) by batch, or each example by itself. param: its bn_param or ln_param."""

    def __init__(self, number: int, kind: str, param: dict[str, Any]) -> None:
        super().__init__(number)
        self.batch, self.param = kind == "batchnorm", param

    def forward(self, x: np.ndarray, params: Arrays, training: bool) -> tuple[np.ndarray, Any]:
        gamma, beta = (params[name] for name in self.named("gamma", "beta"))
        if self.batch:
            self.param["mode"] = "train" if training else "test"
            return (batchnorm_forward if x.ndim == 2 else spatial_batchnorm_forward)(x, gamma, beta, self.param)
        return layernorm_forward(x, gamma, beta, self.param) if x.ndim == 2 else spatial_groupnorm_forward(x, gamma, beta, 1, self.param)

    def backward(self, dout: np.ndarray, cache: Any, gradients: Arrays, first: bool) -> Any:
        dx, dgamma, dbeta = (batchnorm_backward if self.batch else layernorm_backward)(dout, cache)  # of images too
        self._keep(gradients, gamma=dgamma, beta=dbeta)
        return dx


class ReLU(Step):
    """max(x, 0). Its gradient is told the result, so that nothing keeps x."""

    def forward(self, x: np.ndarray, params: Arrays, training: bool) -> tuple[np.ndarray, Any]:
        return (relu_forward(x)[0],) * 2

    def backward(self, dout: np.ndarray, cache: Any, gradients: Arrays, first: bool) -> Any:
        return relu_backward(dout, cache)


class Pool(Step):
    """x (N, C, H, W) -> the maxima of 2 x 2 windows; an axis of length 1 stays as it is.

    ReLU comes after it: the results are the same, and a quarter of the elements is left.
    """

    def forward(self, x: np.ndarray, params: Arrays, training: bool) -> tuple[np.ndarray, Any]:
        height, width = (min(2, size) for size in x.shape[2:])
        return max_pool_forward_fast(x, {"pool_height": height, "pool_width": width, "stride": (height, width)})

    def backward(self, dout: np.ndarray, cache: Any, gradients: Arrays, first: bool) -> Any:
        return max_pool_backward_fast(dout, cache)


class Dropout(Step):
    """param: its dropout_param."""

    def __init__(self, param: dict[str, Any]) -> None:
        super().__init__()
        self.param = param

    def forward(self, x: np.ndarray, params: Arrays, training: bool) -> tuple[np.ndarray, Any]:
        self.param["mode"] = "train" if training else "test"
        return dropout_forward(x, self.param)

    def backward(self, dout: np.ndarray, cache: Any, gradients: Arrays, first: bool) -> Any:
        return dropout_backward(dout, cache)
