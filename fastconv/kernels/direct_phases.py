"""The gradient to the input of a convolution of stride 2, pixels along the vectors: all four phases of some channels in one register tile.

    dx[n, c, 2 i + p, 2 j + q] = sum over f and the shifts of phase (p, q) of dout[n, f, i + shift_h, j + shift_w] * weight[f, c, its tap]
"""
from __future__ import annotations

from .gemm import aligned
from .jit import jit, keeping
from .simd import lanes_of
from .simd_phases import phase_tile
from .simd_tiles import KEEP
from .team import first_task, next_task
from .tiles import REGISTERS
from .window import load_window

CHANNELS = 3                                 # of one tile: 12 sums, of one or two vectors each
TILE_VECTORS = 2 if REGISTERS >= 32 else 1

JOB = ("N", "G", "C", "F", "H", "W", "OH", "OW", "low_h", "low_w", "extent_h", "extent_w", "rows", "columns", "panels", "chunk", "each")


@jit
def pack_phases(first, last, src, weight, dst, bias, residual, job, table):
    """Task: one panel of channels of one group, (F, entries) with the weights of each filter in the order in which `phase_tile` reads them.

    weight: (G * F, C, T). job: C, F, T, panels, entries. table: each entry's channel of the panel and its tap.
    """
    C, F, T, panels, entries = job[0], job[1], job[2], job[3], job[4]
    for t in range(first, last):
        g, c0 = t // panels, t % panels * CHANNELS
        to = dst[t * F * entries:(t + 1) * F * entries]
        for k in range(entries):
            c, column = c0 + table[2 * k], to[k:]
            row = weight[(g * F * C + min(c, C - 1)) * T + table[2 * k + 1]:]
            for f in range(F):
                column[f * entries] = row[f * C * T] if c < C else 0


@keeping
@jit
def phases(first, last, src, weight, dst, bias, residual, job, table):
    """Tasks: some panels of channels of a block of rows and columns of the phases of one group of one image; panels go fastest.

    src: dout, weight: as `pack_phases` left it, dst: dx. job: the integers of JOB; C and F of one group, rows, columns and panels of a block, filters
    of one chain, weights of one filter for a panel. table: as `phase_tile` reads it, with the shifts in a window of (filters, rows, columns).
    """
    G, C, F, H, W, OH, OW = job[1], job[2], job[3], job[4], job[5], job[6], job[7]
    low_h, low_w, extent_h, extent_w, rows, columns = job[8], job[9], job[10], job[11], job[12], job[13]
    panels, chunk, each = job[14], job[15], job[16]
    lanes = lanes_of(src)
    width = TILE_VECTORS * lanes
    grid_h, grid_w, all_panels = (H + 1) // 2, (W + 1) // 2, (C + CHANNELS - 1) // CHANNELS
    blocks, row_blocks, column_blocks = (all_panels + panels - 1) // panels, (grid_h + rows - 1) // rows, (grid_w + columns - 1) // columns
    segment = (columns + width - 1) // width * width + extent_w - 1
    window, at_hand = aligned(F * (rows + extent_h - 1) * segment, src), -1
    task, stop = first_task(first, last)
    while task < stop:
        block, place = task % blocks, task // blocks
        j0, t = place % column_blocks * columns, place // column_blocks
        i0, t = t % row_blocks * rows, t // row_blocks
        g, n = t % G, t // G
        ni, nj = min(rows, grid_h - i0), min(columns, grid_w - j0)
        plane = (ni + extent_h - 1) * segment
        if place != at_hand:                 # one window for all channels that follow
            at_hand = place
            load_window(src, (n * G + g) * F * OH * OW, F, OH, OW, i0 + low_h, 1, ni + extent_h - 1, j0 + low_w, segment, 1, 1, window)
        for panel in range(block * panels, min(all_panels, (block + 1) * panels)):
            c0 = panel * CHANNELS
            for i in range(ni):
                row = (((n * G + g) * C + c0) * H + 2 * (i0 + i)) * W + 2 * j0
                for j in range(0, nj, width):
                    for f0 in range(0, F, chunk):
                        at, a_at = f0 * plane + i * segment + j, ((g * all_panels + panel) * F + f0) * each
                        flags, nf = KEEP if f0 else 0, min(chunk, F - f0)
                        if nj - j <= lanes:
                            phase_tile(CHANNELS, 1, C - c0, flags, nf, plane, window, at, table, 0, weight, a_at, dst, row + 2 * j, W, H * W,
                                       H - 2 * (i0 + i), W - 2 * (j0 + j))
                        else:
                            phase_tile(CHANNELS, TILE_VECTORS, C - c0, flags, nf, plane, window, at, table, 0, weight, a_at, dst, row + 2 * j, W, H * W,
                                       H - 2 * (i0 + i), W - 2 * (j0 + j))
        task, stop = next_task(task, stop, first, last)
