"""C += A B on packed blocks: the matrix product under the im2col convolution.

Packed layouts, after BLIS: A goes into panels of `rows` rows, element (r, k) of a panel at k * rows + r, so that one step of the
register tile reads `rows` neighbours; B into panels of `width` columns, element (k, j) at k * width + j. Panels are padded, B's with zeros,
A's with anything, since the rows of C that come of it are dropped. A panel of A is read again and again from L1 while B, at most a
block of L2, streams past.
"""
from __future__ import annotations

import numpy as np

from .jit import jit
from .rows import add_strided, copy_strided
from .simd import copy_row, gemm_tile, gemm_tile_ahead, lanes_of, transpose_block, transpose_square
from .tiles import ROWS, ROWS_HALF, ROWS_SMALL, VECTORS

ALIGNMENT = 64                               # a cache line; vectors that cross one are loaded twice


@jit
def width_of(a):
    """Columns in one panel of B for the dtype of `a`."""
    return VECTORS * lanes_of(a)


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
def transpose_panel(height, valid, a, start, row_step, columns, packed, base):
    """The part of a panel that whole vectors of columns make up; returns how many columns that is."""
    lanes = lanes_of(a)
    whole = columns // lanes * lanes
    if height == ROWS:
        for k in range(0, whole, lanes):
            transpose_block(ROWS, valid, a, start + k, row_step, packed, base + k * ROWS, ROWS)
    elif height == ROWS_HALF:
        for k in range(0, whole, lanes):
            transpose_block(ROWS_HALF, valid, a, start + k, row_step, packed, base + k * ROWS_HALF, ROWS_HALF)
    else:
        for k in range(0, whole, lanes):
            transpose_block(ROWS_SMALL, valid, a, start + k, row_step, packed, base + k * ROWS_SMALL, ROWS_SMALL)
    return whole


@jit
def pack_a(a, a_at, rows, row_step, columns, column_step, packed, at):
    """The rows x columns matrix whose element (r, k) is a[a_at + r * row_step + k * column_step], into panels from packed[at]."""
    r0 = 0
    while r0 < rows:
        height = panel_rows(rows - r0)
        valid = min(height, rows - r0)
        base, start = at + r0 * columns, a_at + r0 * row_step
        if valid < height:
            packed[base:base + height * columns] = 0     # only so that no forgotten denormal slows the product down
        if row_step <= column_step:                      # read along the rows, whichever way they lie
            for k in range(columns):
                copy_strided(a, start + k * column_step, row_step, packed, base + k * height, valid)
        else:
            k0 = 0
            if column_step == 1:
                k0 = transpose_panel(height, valid, a, start, row_step, columns, packed, base)
            for r in range(valid):
                source, panel = a[start + r * row_step:], packed[base + r:]
                for k in range(k0, columns):
                    panel[k * height] = source[k * column_step]
        r0 += height


@jit
def pack_a_columns(a, at, rows, columns, column_step, packed):
    """pack_a of a matrix whose columns are contiguous: column by column, as at some distances between them the cache holds only a few at a time."""
    for k in range(columns):
        start = at + k * column_step
        for r0 in range(0, rows, ROWS):
            copy_row(1, a, start + r0, packed, r0 * columns + k * panel_rows(rows - r0), min(ROWS, rows - r0))


@jit
def pack_b_transposed(a, at, rows, row_step, columns, packed):
    """The transpose of the rows x columns matrix at a[at], rows row_step apart, as packed B of depth `columns`: panels of `width` rows of a."""
    width, lanes = width_of(a), lanes_of(a)
    whole = columns // lanes * lanes
    for r0 in range(0, rows, lanes):
        valid = min(lanes, rows - r0)
        start, to = at + r0 * row_step, r0 // width * width * columns + r0 % width
        for k in range(0, whole, lanes):
            transpose_square(valid, a, start + k, row_step, packed, to + k * width, width)
        for r in range(valid):
            source, panel = a[start + r * row_step:], packed[to + r:]
            for k in range(whole, columns):
                panel[k * width] = source[k]


@jit
def transpose_into(a, a_row, rows, columns, c, c_at, c_row):
    """c[c_at + j * c_row + i] = a[i * a_row + j] for i < rows, j < columns."""
    lanes = lanes_of(a)
    whole = columns // lanes * lanes if rows >= lanes else 0
    for j in range(0, whole, lanes):
        for i in range(0, rows, lanes):
            first = min(i, rows - lanes)             # the last block overlaps the one before it
            transpose_square(lanes, a, first * a_row + j, a_row, c, c_at + j * c_row + first, c_row)
    for j in range(whole, columns):
        row, column = c[c_at + j * c_row:], a[j:]
        for i in range(rows):
            row[i] = column[i * a_row]


@jit
def tile_any(height, valid, columns, keep, K, a, a_at, b, b_at, c, c_at, c_row):
    """The register tile for a panel of `height` rows, one of the three heights of the table; half as wide where that will do."""
    width = width_of(b)
    if height == ROWS:
        if columns <= width // VECTORS:
            gemm_tile(ROWS, 1, valid, keep, K, a, a_at, b, b_at, width, c, c_at, c_row)
        else:
            gemm_tile(ROWS, VECTORS, valid, keep, K, a, a_at, b, b_at, width, c, c_at, c_row)
    elif height == ROWS_HALF:
        gemm_tile(ROWS_HALF, VECTORS, valid, keep, K, a, a_at, b, b_at, width, c, c_at, c_row)
    else:
        gemm_tile(ROWS_SMALL, VECTORS, valid, keep, K, a, a_at, b, b_at, width, c, c_at, c_row)


@jit
def tile_ahead(height, narrow, valid, keep, K, a, a_at, b, b_at, b_row, c, c_at, c_row, ahead, ahead_step):
    """tile_any with rows of b b_row apart, one vector wide if narrow, which a full height alone may be; at each step the cache line at the next

    of the addresses ahead, ahead + ahead_step ... is fetched.
    """
    if narrow:
        gemm_tile_ahead(ROWS, 1, valid, keep, K, a, a_at, b, b_at, b_row, c, c_at, c_row, ahead, ahead_step)
    elif height == ROWS:
        gemm_tile_ahead(ROWS, VECTORS, valid, keep, K, a, a_at, b, b_at, b_row, c, c_at, c_row, ahead, ahead_step)
    elif height == ROWS_HALF:
        gemm_tile_ahead(ROWS_HALF, VECTORS, valid, keep, K, a, a_at, b, b_at, b_row, c, c_at, c_row, ahead, ahead_step)
    else:
        gemm_tile_ahead(ROWS_SMALL, VECTORS, valid, keep, K, a, a_at, b, b_at, b_row, c, c_at, c_row, ahead, ahead_step)


@jit
def multiply(rows, columns, keep, K, a, a_at, a_depth, k0, b, b_depth, c, c_at, c_row, edge):
    """c[c_at + i * c_row + j] += sum over k < K of A[i, k0 + k] * B[k, j], for i < rows and j < columns.

    keep: 1 to add to what stands in c, 0 to write over it. a: panels of depth a_depth from a_at; b: panels of depth b_depth, from its
    start; edge: scratch of ROWS * width elements for the tiles that stick out of c.
    """
    width = width_of(b)
    i = 0
    while i < rows:
        height = panel_rows(rows - i)
        valid = min(height, rows - i)
        a_panel = a_at + i * a_depth + k0 * height
        for j in range(0, columns, width):
            b_panel = j * b_depth
            if columns - j >= width:
                tile_any(height, valid, width, keep, K, a, a_panel, b, b_panel, c, c_at + i * c_row + j, c_row)
            else:
                tile_any(height, valid, columns - j, 0, K, a, a_panel, b, b_panel, edge, 0, width)
                for r in range(valid):
                    if keep:
                        add_strided(edge, r * width, 1, c, c_at + (i + r) * c_row + j, min(width, columns - j))
                    else:
                        copy_strided(edge, r * width, 1, c, c_at + (i + r) * c_row + j, min(width, columns - j))
        i += height
