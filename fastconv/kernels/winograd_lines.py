"""Winograd's convolution of images with few channels: lines of pixels, whose sums go over the rows of a filter too.

A filter of KW taps in steps of SW is SW filters of every SW-th tap: three or four taps, for four results of steps of one, with six or seven
products. The vectors of a pixel hold all SW side by side with their channels, and a sum goes over KH rows of them: of 7x7 filters in steps of two and
three channels, 42 numbers, where the channels alone would be three.
"""
from __future__ import annotations

from .direct import panel_width
from .gemm import aligned
from .jit import jit
from .simd import ALL_LEVELS
from .simd_tiles import STEPS_AHEAD
from .simd_winograd import INPUT_LONG, INPUT_ROW, copy_apart, product_tile, spread
from .tiles import ROWS, ROWS_HALF, VECTOR_BYTES, VECTORS
from .winograd_filters import FILTER_CHANNELS, LINES, depth_of
from .winograd_results import nearest, unpack_job, write_results

LANE = 0                                     # tiles that lie a vector apart


@jit
def load_lines(form, src, base, plane, C, H, W, end, top, left, rows, columns, SW, taps, wide, window, V, step):
    """Transformed lines of so many rows of pixels: V (elements, rows, vectors, columns, lanes), matrices `step` elements apart.

    Every SW-th pixel from column left + SW * wide * j on is a line, so a row has SW of them for each tile j: numbers phase * C + c of a pixel's vectors.
    No pixel from column `end` on is read: behind the last window, those would only leave their rounding errors in the last tile.
    """
    lanes = VECTOR_BYTES // src.itemsize
    across = wide * columns + taps - 1
    vectors = (SW * C + lanes - 1) // lanes
    window[:vectors * across * lanes] = 0
    to = 0
    for r in range(rows):
        h = top + r
        if not 0 <= h < H:
            window[:vectors * across * lanes] = 0
        for phase in range(SW if 0 <= h < H else 0):
            first = (-left - phase + SW - 1) // SW if left + phase < 0 else 0            # in the image
            begin = left + phase + first * SW
            count = min(across - first, (end - begin + SW - 1) // SW)
            for c in range(C):
                number = phase * C + c
                copy_apart(count, src, base + c * plane + h * W + begin, SW, window, (number // lanes * across + first) * lanes + number % lanes, lanes)
        for v in range(vectors):
            for j in range(columns):
                if form == LINES:
                    spread(INPUT_ROW, window, (v * across + wide * j) * lanes, taps, V, to, step)
                else:
                    spread(INPUT_LONG, window, (v * across + wide * j) * lanes, taps, V, to, step)
                to += lanes


@jit
def multiply_lines(rows, columns, height, SH, KH, depth, vectors, V, at, U, u_at, M, m_at, m_row):
    """M[m_at + t * m_row:] = the sums over KH rows of pixels and `depth` numbers of each of V's lines times U[u_at:]; some rows too many are written."""
    lanes = VECTOR_BYTES // V.itemsize
    panel, pitch, apart = vectors * lanes, columns * lanes, SH * ((depth + lanes - 1) // lanes) * columns * lanes
    block, ahead = min(depth, lanes), STEPS_AHEAD * panel
    for i in range(rows):
        j = 0
        while j < columns:
            left, v_at, m = columns - j, at + i * apart + j * lanes, m_at + (i * columns + j) * m_row
            if vectors == 1:
                product_tile(ROWS, 1, ALL_LEVELS, LANE, 0, KH * depth, block, V, v_at, 1, pitch, U, u_at, M, m, m_row, ahead, panel)
                j += ROWS
            elif left > ROWS_HALF and height == ROWS:
                product_tile(ROWS, VECTORS, ALL_LEVELS, LANE, 0, KH * depth, block, V, v_at, 1, pitch, U, u_at, M, m, m_row, ahead, panel)
                j += ROWS
            else:
                product_tile(ROWS_HALF, VECTORS, ALL_LEVELS, LANE, 0, KH * depth, block, V, v_at, 1, pitch, U, u_at, M, m, m_row, ahead, panel)
                j += ROWS_HALF


@jit
def results(first, last, src, weight, dst, bias, residual, job, table):
    """Tasks: blocks of rows of results, of all filters of one group. The arguments are those of `winograd.tiles`."""
    (N, G, C, F, H, W, OH, OW, SH, SW, row0, column0, form, KH, KW, high, wide, elements, tiles_h, tiles_w, images, rows, columns, share, block, height, chunk,
     flags, v_block, v_step, m_row, m_step, panel_pad, group, raw_at, raw_group, raw_filter, raw_channel, turned, places, fresh) = unpack_job(job)
    lanes = VECTOR_BYTES // src.itemsize
    width, depth, row_blocks = VECTORS * lanes, depth_of(C, SW, lanes), (tiles_h + rows - 1) // rows
    v_size, m_size, line_size = elements * v_step + ROWS * lanes, elements * m_step, (wide * columns + lanes) * lanes
    window_size = (wide * columns + elements) * (depth + lanes)
    scratch_size = FILTER_CHANNELS * (KH * (SW * (wide - 1) + KW) + KH * KW * lanes) + (wide + ROWS_HALF + lanes) * lanes
    V = aligned(v_size + m_size + line_size + window_size + scratch_size, src)
    M = V[v_size:]
    line = M[m_size:]
    window = line[line_size:]
    scratch = window[window_size:]
    for task in range(first, last):
        b, t = task % row_blocks, task // row_blocks
        i0, i1, g, n = nearest(b, tiles_h, row_blocks), nearest(b + 1, tiles_h, row_blocks), t % G, t // G
        ni, rows_in = i1 - i0, SH * (i1 - i0 - 1) + KH
        load_lines(form, src, (n * G + g) * C * H * W, H * W, C, H, W, min(W, column0 + SW * (OW - 1) + KW), SH * i0 + row0, column0,
                   rows_in, columns, SW, elements - wide + 1, wide, window, V, v_step)
        for f0 in range(0, F, block):
            nf = min(block, F - f0)
            for f in range(0, nf, width):
                panel = panel_width(F - f0 - f, lanes)
                start = g * group + (f0 + f) // width * elements * (KH * depth * width + panel_pad)
                for e in range(elements):
                    multiply_lines(ni, columns, height, SH, KH, depth, panel // lanes, V, e * v_step, weight,
                                   start + e * (KH * depth * panel + panel_pad), M, e * m_step + f, m_row)
            write_results(job, src, weight, dst, bias, residual, table, M, line, scratch, g, n, 1, i0, ni, 0, columns, f0, nf)
