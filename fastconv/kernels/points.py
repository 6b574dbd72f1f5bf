"""Winograd's transforms, made from their points.

The 1-D convolution of `outputs` results from a filter of `kernel` taps d * g is a product of two polynomials. A polynomial of degree n - 1 is
known by its values at n = outputs + kernel - 1 points, and at each point the product is one multiplication:

    y = A^T [(G g) * (B^T d)]        g: (kernel,), d: (n,), y: (outputs,), * element by element; in 2-D each transform is applied along both axes.

The points are 0, pairs +-sqrt(s) for each s of `squares`, and infinity, in this order. All coefficients but the powers of the points themselves
are made from the squares, so small numbers stay exact. Which points decides on the error: 0, +-1/sqrt(2), +-sqrt(2) and infinity lose four
times less than 0, +-1, +-2 and infinity, for powers and their reciprocals stay near 1.

`through` makes the matrices of any points, `strided` those of a convolution in steps of two: few, which come in no pairs.

After: Winograd, "Arithmetic Complexity of Computations", 1980; Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", CVPR 2016;
Barabasz, Anderson, Soodhalter, Gregg, "Error Analysis and Improving the Accuracy of Winograd Convolution for Deep Neural Networks", 2020.
"""
from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

SQUARES = (0.5, 2.0)                         # of the points of F(4, 3), F(3, 4) and F(2, 5), six with 0 and infinity
FEW = (1.0,)                                 # of F(2, 3): four


def source(squares: Sequence[float]) -> np.ndarray:
    """B^T (n, n): row i has the coefficients, lowest first, of the product of (x - q) over all finite points q but the i-th."""
    n = 2 * len(squares) + 2
    rows = np.zeros((n, n))
    rows[0, :n - 1] = _product(squares)
    for i, square in enumerate(squares):
        others = _product([s for s in squares if s != square])
        rows[2 * i + 1:2 * i + 3, 2:n - 1] = others
        odd = math.sqrt(square) * others
        rows[2 * i + 1, 1:n - 2] += odd
        rows[2 * i + 2, 1:n - 2] -= odd
    rows[n - 1, 1:] = _product(squares)
    return rows


def kernel(taps: int, squares: Sequence[float]) -> np.ndarray:
    """G (n, taps): row i has the powers of point p, divided by the product of (p - q) over the other finite points q."""
    rows = _powers(taps, squares)
    rows[0] /= math.prod(-s for s in squares)
    for i, square in enumerate(squares):
        rows[2 * i + 1:2 * i + 3] /= 2 * square * math.prod(square - s for s in squares if s != square)
    return rows


def result(outputs: int, squares: Sequence[float]) -> np.ndarray:
    """A^T (outputs, n): row j has the j-th powers of the points."""
    return _powers(outputs, squares).T.copy()


def through(finite: Sequence[float], taps: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """B^T (n, n), G (n, taps) and A^T (n - taps + 1, n) of any finite points and infinity."""
    n = len(finite) + 1
    B, G, A = np.zeros((n, n)), np.zeros((n, taps)), np.zeros((n - taps + 1, n))
    for i, point in enumerate(finite):
        others = [q for q in finite if q != point]
        B[i, :-1] = np.poly(others)[::-1]
        G[i] = np.array([point ** j for j in range(taps)]) / math.prod(point - q for q in others)
        A[:, i] = [point ** j for j in range(len(A))]
    B[-1], G[-1, -1], A[-1, -1] = np.poly(finite)[::-1], 1, 1
    return B, G, A


def strided(outputs: int, finite: Sequence[float]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """B^T (n, 2 * outputs + 1), G (k, 3) and A^T (outputs, n) of `outputs` results of three taps in steps of two.

    Even pixels meet the outer taps, a convolution of two taps by way of `outputs` finite points and infinity, and odd ones the middle tap, a
    product for each result. Those `outputs` products share the last of the k numbers of a filter.
    """
    b, g, a = through(finite, 2)
    m = len(b)
    assert len(a) == outputs
    B, G = np.zeros((m + outputs, 2 * outputs + 1)), np.zeros((m + 1, 3))
    B[:m, ::2], B[m:, 1::2] = b, np.eye(outputs)
    G[:m, ::2], G[m, 1] = g, 1
    return B, G, np.hstack([a, np.eye(outputs)])


def _powers(count: int, squares: Sequence[float]) -> np.ndarray:
    """(n, count): the powers of each point from the 0th on; of infinity, the last one alone."""
    rows = np.zeros((2 * len(squares) + 2, count))
    rows[0, 0] = rows[-1, -1] = 1
    for i, square in enumerate(squares):
        for j in range(count):
            power = square ** (j // 2) * (math.sqrt(square) if j % 2 else 1)
            rows[2 * i + 1, j], rows[2 * i + 2, j] = power, -power if j % 2 else power
    return rows


def _product(squares: Sequence[float]) -> np.ndarray:
    """The coefficients, lowest first, of the product of (x^2 - s)."""
    total = np.ones(1)
    for square in squares:
        total = np.convolve(total, [-square, 0, 1])
    return total
