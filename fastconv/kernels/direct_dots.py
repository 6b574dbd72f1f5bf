"""The gradient to the weights, directly: pixels along the vectors, taps along the rows of the tile, filters along its columns.

    dweight[f, c, kh, kw] = sum over n, oh, ow of dout[n, f, oh, ow] * x[n, c, oh * SH - PT + kh * DH, ow * SW - PL + kw * DW]

is for each filter and tap a product of two rows of pixels. The batch's pixels are cut into units as in `direct_weight`: some images, or rows
of one image, or part of a row. For each unit the pixels that a tap reads are put side by side, zeros where they are padding. Where rows
are wide enough, all taps read one padded window of an image, row by row: there the columns of each phase of the stride are side by side.
Where pixels are so already, dout's and those of a 1x1 convolution of stride 1, they are read in place, unless each image would leave much
of its last vector empty.
A chain is one lane of a unit; a part's units are added one by one, and the parts by the caller, in float64.
"""
from __future__ import annotations

from .direct_weight import unit_at
from .gemm import aligned
from .geometry import inside
from .jit import jit
from .simd import copy_row, copy_rows, integers, lanes_of
from .simd_tiles import KEEP
from .simd_weight import dot_tile
from .tiles import DOT_COLUMNS, DOT_COLUMNS_SMALL, DOT_ROWS, DOT_ROWS_SMALL

JOB = ("N", "G", "C", "F", "H", "W", "OH", "OW", "step_h", "step_w", "images", "rows", "columns", "first_unit", "units", "parts", "channels",
       "filters", "taps", "pitch", "x_in_place", "in_place", "windowed", "window_rows", "segment")
SIZES = len(JOB)


@jit
def unpack_job(job):
    """The integers of JOB: C and F of one group; images, rows, columns of a unit; units of this round; channels and filters of a block."""
    return integers(SIZES, job)


@jit(inline=True)
def load_tap(src, base, H, W, row0, row_step, rows, column0, column_step, columns, dst, to):
    """dst[to + r * columns + k] = src[base + (row0 + r * row_step) * W + column0 + k * column_step], 0 outside the plane."""
    top, bottom = inside(row0, row_step, H, rows)
    first, last = inside(column0, column_step, W, columns)
    dst[to:to + top * columns] = 0
    dst[to + bottom * columns:to + rows * columns] = 0
    start, to, n = base + (row0 + top * row_step) * W + column0 + first * column_step, to + top * columns, last - first
    if column_step == 1:
        copy_rows(1, src, start, row_step * W, dst, to, columns, bottom - top, first, n, columns)
    elif column_step == 2:
        copy_rows(2, src, start, row_step * W, dst, to, columns, bottom - top, first, n, columns)
    else:
        for r in range(bottom - top):
            line, row = dst[to + r * columns:to + (r + 1) * columns], src[start + r * row_step * W:]
            for k in range(columns):
                line[k] = row[(k - first) * column_step] if first <= k < last else 0


@jit
def line_up_dout(first, last, src, weight, dst, bias, residual, job, table):
    """Task: one unit of the round of one group of dout (src), each filter's pixels side by side, into dst for `dots`."""
    (N, G, C, F, H, W, OH, OW, step_h, step_w, images, rows, columns, first_unit, units, parts, channels, filters, taps, pitch, x_in_place,
     in_place, windowed, window_rows, segment) = unpack_job(job)
    for t in range(first, last):
        g, u = t % G, t // G
        n0, nn, i0, ni, j0, nj = unit_at(first_unit + u, N, OH, OW, images, rows, columns)
        run = ni * OW if nj == OW else nj
        for f in range(F):
            for image in range(nn):
                copy_row(1, src, (((n0 + image) * G + g) * F + f) * OH * OW + i0 * OW + j0, dst, ((u * G + g) * F + f) * pitch + image * run, run)


@jit
def dots(first, last, src, weight, dst, bias, residual, job, table):
    """Tasks: a block of filters and a block of channels of one group, over one part of the round's units; filters go fastest.

    src: x. weight: dout (in_place), or what `line_up_dout` left. dst: (parts, G * F, C * taps). table: where each tap of a block of channels
    begins in what is lined up; then, for each tap, or for each phase of the stride along a row where an image's window is lined up (windowed), its
    row and its column in the image for the first output. x_in_place: x's planes are dout's.
    """
    (N, G, C, F, H, W, OH, OW, step_h, step_w, images, rows, columns, first_unit, units, parts, channels, filters, taps, pitch, x_in_place,
     in_place, windowed, window_rows, segment) = unpack_job(job)
    lanes = lanes_of(src)
    slot = (DOT_ROWS * DOT_COLUMNS + lanes - 1) // lanes * lanes
    K, P = C * taps, OH * OW
    f_blocks, c_blocks = (F + filters - 1) // filters, (C + channels - 1) // channels
    downs = (channels * taps + DOT_ROWS - 1) // DOT_ROWS
    pieces = step_w if windowed else taps
    lined = aligned(0 if x_in_place else channels * pieces * pitch, src)
    total = aligned((filters + DOT_COLUMNS - 1) // DOT_COLUMNS * downs * slot, src)
    a = src if x_in_place else lined
    src_start, weight_start = src.ctypes.data, weight.ctypes.data
    a_row, a_step = (H * W, G * C * H * W) if x_in_place else (pitch, 0)
    b_row, b_step = (P, G * F * P) if in_place else (pitch, 0)
    for task in range(first, last):
        f0, t = task % f_blocks * filters, task // f_blocks
        c0, t = t % c_blocks * channels, t // c_blocks
        g, part = t % G, t // G
        nf, nc = min(filters, F - f0), min(channels, C - c0)
        n_rows = nc * taps
        begin, end = part * units // parts, (part + 1) * units // parts
        for u in range(begin, end):
            n0, nn, i0, ni, j0, nj = unit_at(first_unit + u, N, OH, OW, images, rows, columns)
            run = ni * OW if nj == OW else nj
            x_at = ((n0 * G + g) * C + c0) * H * W
            a_at = x_at + j0 if x_in_place else 0
            b_at = ((n0 * G + g) * F + f0) * P + i0 * OW + j0 if in_place else ((u * G + g) * F + f0) * pitch
            outer, n, a_next, b_line = (nn, run, a_step if x_in_place else run, b_step) if in_place else (1, nn * run, 0, 0)
            row_step, high, wide = step_h, ni, nj
            if windowed:
                outer, n, a_next, b_line, row_step, high, wide = ni, nj, step_h * segment, OW, 1, window_rows, segment
            if not x_in_place:
                for c in range(nc):
                    for t in range(pieces):
                        to, at = (c * pieces + t) * pitch, channels * taps + 2 * t
                        for image in range(nn):
                            load_tap(src, x_at + (image * G * C + c) * H * W, H, W, i0 * step_h + table[at], row_step, high,
                                     j0 * step_w + table[at + 1], step_w, wide, lined, to + image * high * wide)
            # What comes next, of this task or of the one after it, is fetched ahead: dout's next rows now, x's in time for the next unit.
            after = task if u + 1 < end else min(task + 1, parts * G * c_blocks * f_blocks - 1)
            f_next, t = after % f_blocks * filters, after // f_blocks
            c_next, t = t % c_blocks * channels, t // c_blocks
            g_next, u_next = t % G, u + 1 if after == task else t // G * units // parts
            m0, mn, k0, mi, l0, mj = unit_at(first_unit + u_next, N, OH, OW, images, rows, columns)
            x_next = ((m0 * G + g_next) * C + c_next) * H * W + l0
            b_last = ((m0 * G + g_next) * F + f_next) * P + k0 * OW + l0 if in_place else ((u_next * G + g_next) * F + f_next) * pitch
            spare = (nf + DOT_COLUMNS - 1) // DOT_COLUMNS * ((n_rows + DOT_ROWS - 1) // DOT_ROWS - DOT_COLUMNS) - channels
            ahead_x, to = min(0, -spare), 0
            for f in range(0, nf, DOT_COLUMNS):
                left, b_here = nf - f, b_at + f * b_row
                b_next = b_here + DOT_COLUMNS * b_row if left > DOT_COLUMNS else b_last
                for r in range(0, n_rows, DOT_ROWS):
                    down, ahead, ahead_step = min(DOT_ROWS, n_rows - r), src_start, 0
                    if r < DOT_ROWS * DOT_COLUMNS:
                        ahead, ahead_step = weight_start + src.itemsize * (b_next + r // DOT_ROWS * b_row), src.itemsize * b_line
                    elif x_in_place:
                        if 0 <= ahead_x < channels:
                            ahead, ahead_step = src_start + src.itemsize * (x_next + ahead_x * a_row), src.itemsize * a_step
                        ahead_x += 1
                    if down <= DOT_ROWS_SMALL:
                        dot_tile(DOT_ROWS_SMALL, DOT_COLUMNS, down, min(DOT_COLUMNS, left), KEEP if u > begin else 0, outer, n,
                                 a, a_at, table[r:], a_next, weight, b_here, b_row, b_line, ahead, ahead_step, total, to)
                    elif left <= DOT_COLUMNS_SMALL:
                        dot_tile(DOT_ROWS, DOT_COLUMNS_SMALL, down, left, KEEP if u > begin else 0, outer, n,
                                 a, a_at, table[r:], a_next, weight, b_here, b_row, b_line, ahead, ahead_step, total, to)
                    else:
                        dot_tile(DOT_ROWS, DOT_COLUMNS, down, min(DOT_COLUMNS, left), KEEP if u > begin else 0, outer, n,
                                 a, a_at, table[r:], a_next, weight, b_here, b_row, b_line, ahead, ahead_step, total, to)
                    to += slot
        to = 0
        for f in range(0, nf, DOT_COLUMNS):
            left = nf - f
            for r in range(0, n_rows, DOT_ROWS):
                down = min(DOT_ROWS, n_rows - r)
                height = DOT_ROWS_SMALL if down <= DOT_ROWS_SMALL else DOT_ROWS
                for j in range(min(left, DOT_COLUMNS)):
                    copy_row(1, total, to + j * height, dst, (part * G * F + g * F + f0 + f + j) * K + c0 * taps + r, down)
                to += slot
