"""Inverted dropout of CS231n: p is the probability of KEEPING a value (in torch, that of dropping it)."""

from typing import Any

import numpy as np

from .promote import promote

__all__ = ["dropout_backward", "dropout_forward"]

Cache = tuple[dict[str, Any], np.ndarray | None]


def dropout_forward(x: np.ndarray, dropout_param: dict[str, Any]) -> tuple[np.ndarray, Cache]:
    """x of any shape -> out, and the cache (dropout_param, mask).

    dropout_param: 'mode': 'train' keeps each value with probability 'p' and divides it by p, 'test' gives x itself; 'seed': the same
    mask at every call. With a seed, the mask is the one that np.random.seed(seed) followed by np.random.rand would draw; NumPy's own
    generator is left alone, so that a seeded network does not see the same batch at every step.
    ValueError: another mode, or a p outside [0, 1].
    """
    p, mode = dropout_param["p"], dropout_param["mode"]
    if mode not in ("train", "test"):
        raise ValueError(f"dropout_param['mode'] is {mode!r}; wanted: 'train' or 'test'")
    if not 0 <= p <= 1:
        raise ValueError(f"dropout_param['p'] is {p!r}; wanted: the probability of keeping a value, from 0 to 1")
    (x,) = promote(x)
    if mode == "test":
        return x, (dropout_param, None)
    random = np.random.RandomState(dropout_param["seed"]) if "seed" in dropout_param else np.random
    mask = (random.random_sample(x.shape) < p).astype(x.dtype)
    if p > 0:
        mask *= x.dtype.type(1 / p)
    return x * mask, (dropout_param, mask)


def dropout_backward(dout: np.ndarray, cache: Cache) -> np.ndarray:
    """dout times the forward's mask; dout itself of a forward in test mode."""
    mask = cache[1]
    return dout if mask is None else dout * mask
