"""The convolutional networks of CS231n, for its Solver. As in the course, `import *` also gives the layers they are made of."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from .. import fast_layers, layer_utils, layers
from ..fast_layers import *  # noqa: F403
from ..layer_utils import *  # noqa: F403
from ..layers import *  # noqa: F403
from .network import Network, keep_probability, normalization_kind
from .steps import Affine, Convolution, Dropout, Pool, ReLU

__all__ = ["VGG", "ThreeLayerConvNet"]
__all__ += layers.__all__
__all__ += fast_layers.__all__
__all__ += layer_utils.__all__

# Filters of each convolution, block by block (Simonyan and Zisserman, 2015, table 1: A, B, D and E).
BLOCKS: dict[str, tuple[tuple[int, ...], ...]] = {
    "vgg11": ((64,), (128,), (256, 256), (512, 512), (512, 512)),
    "vgg13": ((64, 64), (128, 128), (256, 256), (512, 512), (512, 512)),
    "vgg16": ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512)),
    "vgg19": ((64, 64), (128, 128), (256, 256, 256, 256), (512, 512, 512, 512), (512, 512, 512, 512)),
}


class ThreeLayerConvNet(Network):
    """convolution - ReLU - 2x2 max pool - affine - ReLU - affine - softmax, for images (N, C, H, W).

    input_dim (C, H, W); num_filters filters of filter_size x filter_size, odd, padded to keep the size; hidden_dim units.
    params: W1 (F, C, size, size), b1, W2 (F * (H // 2) * (W // 2), hidden_dim), b2, W3 (hidden_dim, num_classes), b3.
    weight_scale: the standard deviation of the weights; reg: see `loss`; dtype: what is computed in.
    """

    def __init__(
        self,
        input_dim: tuple[int, int, int] = (3, 32, 32),
        num_filters: int = 32,
        filter_size: int = 7,
        hidden_dim: int = 100,
        num_classes: int = 10,
        weight_scale: float = 1e-3,
        reg: float = 0.0,
        dtype: Any = np.float32,
    ) -> None:
        super().__init__(reg, dtype)
        C, H, W = input_dim
        if filter_size % 2 == 0:
            raise ValueError(f"filter_size is {filter_size}; wanted: an odd size, which padding can keep the image's size with")
        self._add_weights(1, (num_filters, C, filter_size, filter_size), weight_scale, num_filters)
        self._add_weights(2, (num_filters * _halved(H) * _halved(W), hidden_dim), weight_scale, hidden_dim)
        self._add_weights(3, (hidden_dim, num_classes), weight_scale, num_classes)
        self._steps = [Convolution(1), Pool(), ReLU(), Affine(2), ReLU(), Affine(3)]


class VGG(Network):
    """Blocks of (3x3 convolution - [normalisation] - ReLU) that end in a 2x2 max pool, then affine layers (Simonyan and Zisserman, 2015).

    blocks: 'vgg11', 'vgg13', 'vgg16', 'vgg19', or the filters of each convolution of each block, ((64,), (128, 128)).
    input_dim (C, H, W): any size; a side that has shrunk to 1 is not pooled any more.
    hidden_dims: units of the affine layers before the last (ImageNet's networks have (4096, 4096)), each with ReLU and dropout.
    normalization, of convolutions and hidden layers: 'batchnorm', 'layernorm' (each image by itself) or None.
    dropout_keep_ratio: the probability of KEEPING a unit; 0, 1 and None mean no dropout; seed: the same dropout at every call.
    weight_scale: the standard deviation of the weights; None: sqrt(2 / inputs) of each layer, as ReLU wants it (He et al., 2015).
    params: W1, b1, gamma1, beta1 of the first layer, and so on. reg: see `loss`; dtype: what is computed in.
    """

    def __init__(
        self,
        blocks: str | Sequence[Sequence[int]] = "vgg11",
        input_dim: tuple[int, int, int] = (3, 32, 32),
        num_classes: int = 10,
        hidden_dims: Sequence[int] = (512,),
        normalization: Any = None,
        dropout_keep_ratio: float | None = 1,
        weight_scale: float | None = None,
        reg: float = 0.0,
        dtype: Any = np.float32,
        seed: int | None = None,
    ) -> None:
        super().__init__(reg, dtype)
        if isinstance(blocks, str):
            if blocks not in BLOCKS:
                raise ValueError(f"blocks is {blocks!r}; wanted: one of {', '.join(BLOCKS)}, or the filters of each block")
            blocks = BLOCKS[blocks]
        self.normalization, self._weight_scale = normalization_kind(normalization), weight_scale
        keep = keep_probability(dropout_keep_ratio, None)
        if keep != 1:
            self.dropout_param = {"mode": "train", "p": keep} | ({} if seed is None else {"seed": seed})
        C, H, W = input_dim
        for block in blocks:
            for place, filters in enumerate(block):
                number = self._add_layer(Convolution, (filters, C, 3, 3), filters, 9 * C)
                self._add_normalization(number, filters)
                self._steps += [Pool(), ReLU()] if place == len(block) - 1 else [ReLU()]
                C = filters
            H, W = _halved(H), _halved(W)
        inputs = C * H * W
        for units in hidden_dims:
            self._add_normalization(self._add_layer(Affine, (inputs, units), units, inputs), units)
            self._steps += [ReLU(), Dropout(self.dropout_param)] if self.dropout_param else [ReLU()]
            inputs = units
        self._add_layer(Affine, (inputs, num_classes), num_classes, inputs)

    def _add_layer(self, kind: type, shape: tuple[int, ...], bias: int, inputs: int) -> int:
        number = 1 + sum(name.startswith("W") for name in self.params)
        self._add_weights(number, shape, math.sqrt(2 / inputs) if self._weight_scale is None else self._weight_scale, bias)
        self._steps.append(kind(number))
        return number


def _halved(size: int) -> int:
    """What a pool leaves of a side."""
    return max(size // 2, 1)
