"""What CS231n's networks have in common: weights by name, a list of steps, softmax loss with L2 regularisation, saving and loading."""

import os
from typing import Any

import numpy as np

from .. import checkpoint
from ..losses import regularize, softmax_loss
from .steps import Normalization, Step

__all__ = ["Network", "keep_probability", "normalization_kind"]


class Network:
    """A network of steps. params: its weights by name; reg: the strength of regularisation; dtype: what it computes in, None: as X comes."""

    def __init__(self, reg: float, dtype: Any = None) -> None:
        self.params: dict[str, np.ndarray] = {}
        self.bn_params: list[dict[str, Any]] = []
        self.dropout_param: dict[str, Any] = {}
        self.reg, self.dtype = reg, dtype
        self.normalization: str | None = None  # of hidden layers: 'batchnorm', 'layernorm'
        self._steps: list[Step] = []

    def loss(self, X: np.ndarray, y: np.ndarray | None = None) -> Any:
        """Scores (N, num_classes) of X (N, d1, ..., dk) in test mode; with labels y (N,) the training loss, and the gradients by name.

        loss = the mean softmax loss + reg / 2 * the sum of all squared W; biases, gamma and beta are not regularised.
        """
        x = np.asarray(X) if self.dtype is None else np.asarray(X).astype(self.dtype, copy=False)
        caches = []
        for step in self._steps:
            x, cache = step.forward(x, self.params, y is not None)
            if y is not None:
                caches.append(cache)
        if y is None:
            return x
        loss, dout = softmax_loss(x, y)
        gradients: dict[str, np.ndarray] = {}
        for place in reversed(range(len(self._steps))):
            dout = self._steps[place].backward(dout, caches.pop(), gradients, first=place == 0)
        for name, w in self.params.items():
            if name.startswith("W") and self.reg:
                loss = loss + 0.5 * self.reg * regularize(w, gradients[name], self.reg)
        return loss, gradients

    def save(self, fname: str | os.PathLike[str]) -> None:
        """Write the weights, and the running averages of batch normalisation, to the file fname."""
        checkpoint.save(fname, {"params": self.params, "bn_params": self.bn_params})
        print(fname, "saved.")

    def load(self, fname: str | os.PathLike[str]) -> bool:
        """Take the weights of a file that `save` or a Solver wrote, without running code; False where there is no such file.

        ValueError: another kind of file, or another network's.
        """
        if not os.path.exists(fname):
            print(fname, "not available.")
            return False
        state = checkpoint.load(fname, ("params", "bn_params"))
        checkpoint.check_weights(fname, state, self)
        self.params = {name: saved.astype(self.params[name].dtype, copy=False) for name, saved in state["params"].items()}
        for param, saved in zip(self.bn_params, state["bn_params"]):
            param.clear()                        # running statistics of before, where the saved network has none yet
            param.update(saved)
        print(fname, "loaded.")
        return True

    def _add_weights(self, number: int, shape: tuple[int, ...], scale: float, bias: int) -> None:
        """W{number} drawn from a normal distribution by NumPy's own generator, and b{number} of zeros."""
        self.params[f"W{number}"] = (scale * np.random.randn(*shape)).astype(self.dtype or np.float64)
        self.params[f"b{number}"] = np.zeros(bias, self.dtype or np.float64)

    def _add_normalization(self, number: int, channels: int) -> None:
        """Where there is any: gamma{number} of ones, beta{number} of zeros, and the step."""
        if self.normalization:
            self.params[f"gamma{number}"] = np.ones(channels, self.dtype or np.float64)
            self.params[f"beta{number}"] = np.zeros(channels, self.dtype or np.float64)
            self.bn_params.append({"mode": "train"} if self.normalization == "batchnorm" else {})
            self._steps.append(Normalization(number, self.normalization, self.bn_params[-1]))


def normalization_kind(normalization: Any) -> str | None:
    """'batchnorm', 'layernorm' or None; also 'batch' and 'layer', and the True and False of older code."""
    kinds = {None: None, False: None, True: "batchnorm", "batch": "batchnorm", "layer": "layernorm"}
    kinds |= {"batchnorm": "batchnorm", "layernorm": "layernorm"}
    if normalization not in kinds:
        raise ValueError(f"normalization is {normalization!r}; wanted: 'batchnorm', 'layernorm' or None")
    return kinds[normalization]


def keep_probability(ratio: float | None, dropout: float | None) -> float:
    """The probability of keeping a unit, from its two names; 1 stands for no dropout, and so do 0 and None."""
    if dropout is not None:
        if ratio not in (None, 0, 1):
            raise ValueError(f"dropout_keep_ratio is {ratio} and dropout {dropout}; wanted: one of them: they mean the same")
        ratio = dropout
    if ratio is not None and not 0 <= ratio <= 1:
        raise ValueError(f"dropout_keep_ratio is {ratio}; wanted: the probability of keeping a unit, from 0 to 1")
    return ratio or 1
