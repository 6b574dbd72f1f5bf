"""Numerical gradients by central differences, as CS231n's notebooks check layers with them.

The array that is moved is changed in place, element by element, and put back. Use float64: in float32 a step of 1e-5 is lost in rounding.
"""

from collections.abc import Callable, Iterator
from random import randrange
from typing import Any

import numpy as np

__all__ = [
    "eval_numerical_gradient",
    "eval_numerical_gradient_array",
    "eval_numerical_gradient_blobs",
    "eval_numerical_gradient_net",
    "grad_check_sparse",
]


def eval_numerical_gradient(f: Callable[[np.ndarray], Any], x: np.ndarray, verbose: bool = True, h: float = 0.00001) -> np.ndarray:
    """The gradient at x, shaped as x, of f(x), a number. verbose prints each element as it is found."""
    gradient = np.zeros_like(x)
    for place, above, below in _moved(x, h, lambda: f(x)):
        gradient[place] = (above - below) / (2 * h)
        if verbose:
            print(place, gradient[place])
    return gradient


def eval_numerical_gradient_array(f: Callable[[np.ndarray], np.ndarray], x: np.ndarray, df: Any, h: float = 1e-5) -> np.ndarray:
    """The gradient at x, shaped as x, of sum(f(x) * df): df is the gradient that comes back to f's result."""
    gradient = np.zeros_like(x)
    for place, above, below in _moved(x, h, lambda: np.array(f(x))):
        gradient[place] = np.sum((above - below) * df) / (2 * h)
    return gradient


def eval_numerical_gradient_blobs(f: Callable[..., Any], inputs: tuple[Any, ...], output: Any, h: float = 1e-5) -> list[np.ndarray]:
    """The gradient to each of inputs of sum(output.vals * output.diffs), where f(*inputs, output) writes output.vals.

    A blob has the arrays vals and diffs. Each gradient is shaped as its input's diffs.
    """

    def run() -> np.ndarray:
        f(*inputs, output)
        return np.array(output.vals)

    gradients = []
    for blob in inputs:
        gradient = np.zeros_like(blob.diffs)
        for place, above, below in _moved(blob.vals, h, run):
            gradient[place] = np.sum((above - below) * output.diffs) / (2 * h)
        gradients.append(gradient)
    return gradients


def eval_numerical_gradient_net(net: Any, inputs: tuple[Any, ...], output: Any, h: float = 1e-5) -> list[np.ndarray]:
    """eval_numerical_gradient_blobs of net.forward(), which reads inputs and writes output."""
    return eval_numerical_gradient_blobs(lambda *_: net.forward(), inputs, output, h=h)


def grad_check_sparse(f: Callable[[np.ndarray], Any], x: np.ndarray, analytic_grad: np.ndarray, num_checks: int = 10, h: float = 1e-5) -> None:
    """Print the numerical gradient of f(x), a number, beside analytic_grad at num_checks random places, and their relative error."""
    for _ in range(num_checks):
        place = tuple(randrange(size) for size in x.shape)
        above, below = _both_sides(x, place, h, lambda: f(x))
        numerical, analytic = (above - below) / (2 * h), analytic_grad[place]
        scale = abs(numerical) + abs(analytic)
        error = abs(numerical - analytic) / scale if scale else 0.0
        print(f"numerical: {numerical:f} analytic: {analytic:f}, relative error: {error:e}")


def _moved(x: np.ndarray, h: float, run: Callable[[], Any]) -> Iterator[tuple[tuple[int, ...], Any, Any]]:
    """Each place of x, and what run() gives with that element h larger and h smaller."""
    for place in np.ndindex(x.shape):
        yield place, *_both_sides(x, place, h, run)


def _both_sides(x: np.ndarray, place: tuple[int, ...], h: float, run: Callable[[], Any]) -> tuple[Any, Any]:
    value = x[place]
    try:
        x[place] = value + h
        above = run()
        x[place] = value - h
        return above, run()
    finally:
        x[place] = value
