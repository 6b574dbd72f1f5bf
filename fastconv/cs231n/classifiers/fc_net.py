"""The fully connected networks of CS231n, for its Solver. As in the course, `import *` also gives the layers they are made of."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from .. import layer_utils, layers
from ..layer_utils import *  # noqa: F403
from ..layers import *  # noqa: F403
from .network import Network, keep_probability, normalization_kind
from .steps import Affine, Dropout, ReLU

__all__ = ["FullyConnectedNet", "TwoLayerNet"]
__all__ += layers.__all__
__all__ += layer_utils.__all__


class TwoLayerNet(Network):
    """affine - ReLU - affine - softmax, in float64. params: W1 (input_dim, hidden_dim), b1, W2 (hidden_dim, num_classes), b2.

    weight_scale: the standard deviation of the weights; reg: see `loss`.
    """

    def __init__(
        self, input_dim: int = 3 * 32 * 32, hidden_dim: int = 100, num_classes: int = 10, weight_scale: float = 1e-3, reg: float = 0.0
    ) -> None:
        super().__init__(reg)
        self._add_weights(1, (input_dim, hidden_dim), weight_scale, hidden_dim)
        self._add_weights(2, (hidden_dim, num_classes), weight_scale, num_classes)
        self._steps = [Affine(1), ReLU(), Affine(2)]


class FullyConnectedNet(Network):
    """(affine - [normalisation] - ReLU - [dropout]) for each of hidden_dims - affine - softmax.

    params: W1, b1, gamma1, beta1 of the first layer, and so on; b, gamma and beta may be (D,) or (1, D).
    dropout_keep_ratio, dropout: both are the probability of KEEPING a unit; 0, 1 and None mean no dropout.
    normalization: 'batchnorm', 'layernorm' or None; use_batchnorm: older code's way to ask for the first.
    weight_scale: the standard deviation of the weights; reg: see `loss`; dtype: what is computed in; seed: the same dropout at every call.
    """

    def __init__(
        self,
        hidden_dims: Sequence[int],
        input_dim: int = 3 * 32 * 32,
        num_classes: int = 10,
        dropout_keep_ratio: float | None = 1,
        normalization: Any = None,
        reg: float = 0.0,
        weight_scale: float = 1e-2,
        dtype: Any = np.float32,
        seed: int | None = None,
        *,
        dropout: float | None = None,
        use_batchnorm: bool = False,
    ) -> None:
        super().__init__(reg, dtype)
        keep = keep_probability(dropout_keep_ratio, dropout)
        self.use_dropout = keep != 1
        self.normalization = normalization_kind(True if use_batchnorm else normalization)
        self.num_layers = 1 + len(hidden_dims)
        if self.use_dropout:
            self.dropout_param = {"mode": "train", "p": keep} | ({} if seed is None else {"seed": seed})
        inputs = input_dim
        for number, units in enumerate(hidden_dims, 1):
            self._add_weights(number, (inputs, units), weight_scale, units)
            self._steps.append(Affine(number))
            self._add_normalization(number, units)
            self._steps.append(ReLU())
            if self.use_dropout:
                self._steps.append(Dropout(self.dropout_param))
            inputs = units
        self._add_weights(self.num_layers, (inputs, num_classes), weight_scale, num_classes)
        self._steps.append(Affine(self.num_layers))
