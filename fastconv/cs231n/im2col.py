"""im2col and col2im with CS231n's arguments and its order of columns: by position, then by image (fastconv.im2col keeps images apart)."""

from collections.abc import Iterator

import numpy as np

from .. import check, fold
from .promote import promote

__all__ = ["col2im", "col2im_indices", "field_coords", "get_im2col_indices", "get_num_fields", "im2col_indices", "im2col_naive"]

Pair = int | tuple[int, int]


def get_im2col_indices(
    x_shape: tuple[int, int, int, int], field_height: int, field_width: int, padding: Pair = 1, stride: Pair = 1
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(k, i, j) such that x_padded[:, k, i, j] has an image's windows as columns: channels (C*FH*FW, 1), rows and columns (C*FH*FW, OH*OW).

    OH = (H + 2 padding - field_height) // stride + 1: rows and columns left over are ignored. ValueError: no window fits.
    """
    OH, OW = _windows(x_shape, field_height, field_width, padding, stride)
    SH, SW = check.pair("stride", stride, 1)
    k, p, q = np.indices((x_shape[1], field_height, field_width)).reshape(3, -1, 1)
    top, left = np.indices((OH, OW)).reshape(2, 1, -1)
    return k, p + SH * top, q + SW * left


def im2col_indices(x: np.ndarray, field_height: int, field_width: int, padding: Pair = 1, stride: Pair = 1) -> np.ndarray:
    """x (N, C, H, W) -> cols (C*FH*FW, OH*OW*N): column l*N + n is window l of image n."""
    (x,) = promote(x)
    cols = fold.im2col(x, (field_height, field_width), padding=padding, stride=stride)  # (N, C*FH*FW, OH*OW)
    N, K, L = cols.shape
    return cols.transpose(1, 2, 0).reshape(K, L * N)


def col2im_indices(
    cols: np.ndarray, x_shape: tuple[int, int, int, int], field_height: int = 3, field_width: int = 3, padding: Pair = 1, stride: Pair = 1
) -> np.ndarray:
    """cols (C*FH*FW, OH*OW*N) -> x of shape x_shape: where windows overlap they are added."""
    N, C, H, W = x_shape
    OH, OW = _windows(x_shape, field_height, field_width, padding, stride)
    (cols,) = promote(cols)
    cols = cols.reshape(C * field_height * field_width, OH * OW, N).transpose(2, 0, 1)
    return fold.col2im(cols, (H, W), (field_height, field_width), padding=padding, stride=stride)


def get_num_fields(
    x_shape: tuple[int, int, int, int], field_height: int, field_width: int, padding: Pair, stride: Pair
) -> tuple[int, int]:
    """(OH, OW): how many windows fit below and beside each other."""
    return _windows(x_shape, field_height, field_width, padding, stride)


def field_coords(
    H: int, W: int, field_height: int, field_width: int, padding: Pair, stride: Pair
) -> Iterator[tuple[int, int, int, int]]:
    """(top, bottom, left, right) of each window in the padded image, row by row."""
    OH, OW = _windows((1, 1, H, W), field_height, field_width, padding, stride)
    SH, SW = check.pair("stride", stride, 1)
    for oh, ow in np.ndindex(OH, OW):
        yield oh * SH, oh * SH + field_height, ow * SW, ow * SW + field_width


def im2col_naive(x: np.ndarray, field_height: int = 3, field_width: int = 3, padding: Pair = 1, stride: Pair = 1) -> np.ndarray:
    """im2col_indices with a default size."""
    return im2col_indices(x, field_height, field_width, padding, stride)


col2im = col2im_indices


def _windows(x_shape: tuple[int, int, int, int], field_height: int, field_width: int, padding: Pair, stride: Pair) -> tuple[int, int]:
    """(OH, OW): how many windows fit."""
    SH, SW = check.pair("stride", stride, 1)
    rows, columns = check.padding("padding", padding)
    FH, FW = check.integer("field_height", field_height, 1), check.integer("field_width", field_width, 1)
    OH = check.output_size("the height", x_shape[2], FH, SH, rows, 1, argument="field_height")
    return OH, check.output_size("the width", x_shape[3], FW, SW, columns, 1, argument="field_width")
