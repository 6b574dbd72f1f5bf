"""Winograd's convolution of images with few channels: lines of pixels, whose sums go over the rows of a filter too.

A filter of KW taps in steps of SW is SW filters of every SW-th tap: three or four taps, for four results of steps of one, with six or seven
products. The vectors of a pixel hold all SW side by side with their channels, and a sum goes over KH rows of them: of 7x7 filters in steps of two and
three channels, 42 numbers, where the channels alone would be three.
"""
from __future__ import annotations

from .jit import jit
from .simd import ALL_LEVELS
from .simd_tiles import STEPS_AHEAD
from .simd_winograd import INPUT_LONG, INPUT_ROW, copy_apart, product_tile, spread
from .tiles import ROWS, ROWS_HALF, VECTOR_BYTES, VECTORS
from .winograd_filters import LINES

LANE = 0                                     # tiles that lie a vector apart


@jit
def load_lines(form, src, base, image, plane, C, H, W, top, left, images, rows, columns, SW, taps, wide, window, V, step):
    """Transformed lines of so many images and rows of pixels: V (elements, images, rows, vectors, columns, lanes), matrices `step` elements apart.

    Every SW-th pixel from column left + SW * wide * j on is a line, so a row has SW of them for each tile j: numbers phase * C + c of a pixel's vectors.
    """
    lanes = VECTOR_BYTES // src.itemsize
    across = wide * columns + taps - 1
    vectors = (SW * C + lanes - 1) // lanes
    window[:vectors * across * lanes] = 0
    for n in range(images):
        for r in range(rows):
            h, to = top + r, (n * rows + r) * vectors * columns * lanes
            if not 0 <= h < H:
                window[:vectors * across * lanes] = 0
            for phase in range(SW if 0 <= h < H else 0):
                first = (-left - phase + SW - 1) // SW if left + phase < 0 else 0        # in the image
                begin = left + phase + first * SW
                count = min(across - first, (W - begin + SW - 1) // SW)
                for c in range(C):
                    number = phase * C + c
                    copy_apart(count, src, base + n * image + c * plane + h * W + begin, SW, window,
                               (number // lanes * across + first) * lanes + number % lanes, lanes)
            for v in range(vectors):
                for j in range(columns):
                    if form == LINES:
                        spread(INPUT_ROW, window, (v * across + wide * j) * lanes, taps, V, to, step)
                    else:
                        spread(INPUT_LONG, window, (v * across + wide * j) * lanes, taps, V, to, step)
                    to += lanes


@jit
def multiply_lines(images, rows, columns, height, rows_in, SH, KH, depth, vectors, V, at, U, u_at, M, m_at, m_row):
    """M[m_at + t * m_row:] = the sums over KH rows of pixels and `depth` numbers of each of V's lines times U[u_at:]; some rows too many are written."""
    lanes = VECTOR_BYTES // V.itemsize
    panel, pitch = vectors * lanes, columns * lanes
    block, ahead = min(depth, lanes), STEPS_AHEAD * panel
    for n in range(images):
        for i in range(rows):
            line, to = at + (n * rows_in + SH * i) * ((depth + lanes - 1) // lanes) * pitch, m_at + (n * rows + i) * columns * m_row
            j = 0
            while j < columns:
                left, v_at, m = columns - j, line + j * lanes, to + j * m_row
                if vectors == 1:
                    product_tile(ROWS, 1, ALL_LEVELS, LANE, 0, KH * depth, block, V, v_at, 1, pitch, U, u_at, M, m, m_row, ahead, panel)
                    j += ROWS
                elif left > ROWS_HALF and height == ROWS:
                    product_tile(ROWS, VECTORS, ALL_LEVELS, LANE, 0, KH * depth, block, V, v_at, 1, pitch, U, u_at, M, m, m_row, ahead, panel)
                    j += ROWS
                else:
                    product_tile(ROWS_HALF, VECTORS, ALL_LEVELS, LANE, 0, KH * depth, block, V, v_at, 1, pitch, U, u_at, M, m, m_row, ahead, panel)
                    j += ROWS_HALF
