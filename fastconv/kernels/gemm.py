"""C += A B on packed blocks: the matrix product under the im2col convolution.

Packed layouts, after BLIS: A goes into panels of `rows` rows, element (r, k) of a panel at k * rows + r, so that one step of the
register tile reads `rows` neighbours; B into panels of `width` columns, element (k, j) at k * width + j. Panels are padded with
zeros. A panel of A is read again and again from L1 while B, at most a block of L2, streams past.
"""
from __future__ import annotations

import numpy as np

from .jit import jit
from .rows import add_strided, copy_strided
from .simd import gemm_tile, transpose_block
from .tiles import ROWS, ROWS_HALF, ROWS_SMALL, VECTOR_BYTES, VECTORS

PANEL_BYTES = VECTORS * VECTOR_BYTES         # one row of a panel of B
ALIGNMENT = 64                               # a cache line; vectors that cross one are loaded twice


@jit
def width_of(a):
    """Columns in one panel of B for the dtype of `a`."""
    return PANEL_BYTES // a.itemsize


@jit
def aligned(n, like):
    """n uninitialised elements of like's dtype, starting at a cache line."""
    spare = ALIGNMENT // like.itemsize
    raw = np.empty(n + spare, like.dtype)
    start = (-raw.ctypes.data // like.itemsize) % spare
    return raw[start:start + n]


@jit
def panel_rows(left):
    """Rows of the next panel of A where `left` rows are left: the smallest tile that takes them, or the full one."""
    if left > ROWS_HALF:
        return ROWS
    if left > ROWS_SMALL:
        return ROWS_HALF
    return ROWS_SMALL


@jit
def packed_rows(rows):
    """Rows of packed A, padding included: only the last panel has any."""
    tail = rows % ROWS
    return rows - tail + (panel_rows(tail) if tail else 0)


@jit
def pack_a(a, a_at, rows, row_step, columns, column_step, packed, at):
    """The rows x columns matrix whose element (r, k) is a[a_at + r * row_step + k * column_step], into panels from packed[at]."""
    r0 = 0
    while r0 < rows:
        height = panel_rows(rows - r0)
        valid = min(height, rows - r0)
        base, start = at + r0 * columns, a_at + r0 * row_step
        if valid < height:
            packed[base:base + height * columns] = 0
        if row_step <= column_step:                      # read along the rows, whichever way they lie
            for k in range(columns):
                copy_strided(a, start + k * column_step, row_step, packed, base + k * height, valid)
        else:
            k0 = 0
            if column_step == 1 and valid == height == ROWS:
                lanes = VECTOR_BYTES // a.itemsize
                while k0 + lanes <= columns:
                    transpose_block(ROWS, a, start + k0, row_step, packed, base + k0 * ROWS, ROWS)
                    k0 += lanes
            for r in range(valid):
                source, panel = a[start + r * row_step:], packed[base + r:]
                for k in range(k0, columns):
                    panel[k * height] = source[k * column_step]
        r0 += height


@jit
def tile_any(height, columns, K, a, a_at, b, b_at, c, c_at, c_row):
    """The register tile for a panel of `height` rows, one of the three heights of the table; half as wide where that will do."""
    width = width_of(b)
    if height == ROWS:
        if columns <= width // VECTORS:
            gemm_tile(ROWS, 1, K, a, a_at, b, b_at, width, c, c_at, c_row)
        else:
            gemm_tile(ROWS, VECTORS, K, a, a_at, b, b_at, width, c, c_at, c_row)
    elif height == ROWS_HALF:
        gemm_tile(ROWS_HALF, VECTORS, K, a, a_at, b, b_at, width, c, c_at, c_row)
    else:
        gemm_tile(ROWS_SMALL, VECTORS, K, a, a_at, b, b_at, width, c, c_at, c_row)


@jit
def multiply(rows, columns, K, a, a_at, a_depth, k0, b, b_depth, c, c_at, c_row, edge):
    """c[c_at + i * c_row + j] += sum over k < K of A[i, k0 + k] * B[k, j], for i < rows and j < columns.

    a: panels of depth a_depth from a_at; b: panels of depth b_depth, from its start; edge: scratch of ROWS * width elements for
    the tiles that stick out of c.
    """
    width = width_of(b)
    i = 0
    while i < rows:
        height = panel_rows(rows - i)
        valid = min(height, rows - i)
        a_panel = a_at + i * a_depth + k0 * height
        for j in range(0, columns, width):
            b_panel = j * b_depth
            if valid == height and columns - j >= width:
                tile_any(height, width, K, a, a_panel, b, b_panel, c, c_at + i * c_row + j, c_row)
            else:
                edge[:height * width] = 0
                tile_any(height, columns - j, K, a, a_panel, b, b_panel, edge, 0, width)
                for r in range(valid):
                    add_strided(edge, r * width, 1, c, c_at + (i + r) * c_row + j, min(width, columns - j))
        i += height
