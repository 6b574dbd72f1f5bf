"""The results of Winograd's convolution: from M to y, and the job that all its kernels have."""
from __future__ import annotations

from .jit import jit
from .past import rows_past
from .simd import integers, prefetch_rows, settle
from .simd_tiles import KEEP, gather_tile, turn_block
from .simd_winograd import FORWARD, FORWARD_2, FORWARD_5, FORWARD_COLUMN, FORWARD_LONG, FORWARD_ROW, FORWARD_STEPS, collect
from .tiles import ROWS_HALF, VECTOR_BYTES
from .winograd_filters import FILTER_CHANNELS, LINES, LONG_LINES, ROW, SQUARE, SQUARE_2, SQUARE_5, STEPS, load_taps

# The integers of a job, in this order.
JOB = ("N", "G", "C", "F", "H", "W", "OH", "OW", "SH", "SW", "row0", "column0", "form", "KH", "KW", "high", "wide", "elements", "tiles_h", "tiles_w", "images",
       "rows", "columns", "share", "filters", "height", "chunk", "flags", "v_block", "v_step", "m_row", "m_step", "panel_pad", "group", "raw_at",
       "raw_group", "raw_filter", "raw_channel", "turned", "places", "fresh")
SIZES = len(JOB)


@jit
def unpack_job(job):
    """The integers of JOB: C and F of one group; high, wide: results of a tile; images, rows, columns: tiles of a block; share, filters: of a
    task, and of its M at a time."""
    return integers(SIZES, job)


@jit
def finish(form, M, at, step, line, to, pitch, rows, columns):
    """The results of one tile and one vector of filters, from M to line; whether any is not finite."""
    if form == SQUARE:
        return collect(FORWARD, M, at, step, line, to, pitch, rows, columns)
    if form == SQUARE_5:
        return collect(FORWARD_5, M, at, step, line, to, pitch, rows, columns)
    if form == SQUARE_2:
        return collect(FORWARD_2, M, at, step, line, to, pitch, rows, columns)
    if form == STEPS:
        return collect(FORWARD_STEPS, M, at, step, line, to, pitch, rows, columns)
    if form == LONG_LINES:
        return collect(FORWARD_LONG, M, at, step, line, to, pitch, rows, columns)
    if form == ROW or form == LINES:
        return collect(FORWARD_ROW, M, at, step, line, to, pitch, rows, columns)
    return collect(FORWARD_COLUMN, M, at, step, line, to, pitch, rows, columns)


@jit
def sum_directly(src, plane_at, C, H, W, i0, j0, tall, across, high, wide, KH, KW, rows, columns, valid, weight, at, raw_filter, raw_channel, turned, table,
                 scratch, target, to, pitch):
    """The results of one tile, tall by across pixels, and one vector of filters by plain sums, for what the transforms cannot tell apart.

    table: where in a patch of pixels each result begins, up to a multiple of ROWS_HALF of them, then where each tap is, and then what
    `load_taps` looks up. scratch: room for the patches and the taps of FILTER_CHANNELS channels and for the results.
    """
    lanes = VECTOR_BYTES // src.itemsize
    results = -(-high * wide // ROWS_HALF) * ROWS_HALF
    sums = scratch[FILTER_CHANNELS * tall * across:]
    taps = sums[results * lanes:]
    for c0 in range(0, C, FILTER_CHANNELS):
        nc = min(FILTER_CHANNELS, C - c0)
        p = 0
        for c in range(c0, c0 + nc):
            for h in range(i0, i0 + tall):
                for w in range(j0, j0 + across):
                    scratch[p] = src[plane_at + (c * H + h) * W + w] if 0 <= h < H and 0 <= w < W else 0
                    p += 1
        load_taps(weight, at + c0 * raw_channel, raw_filter, raw_channel, nc, KH * KW, valid, turned, table, results + KH * KW, taps)
        for r in range(0, results, ROWS_HALF):
            gather_tile(ROWS_HALF, 1, 0, ROWS_HALF, KEEP if c0 else 0, nc, tall * across, KH * KW, scratch, 0, table, r, table, results, taps, 0,
                        sums, r * lanes, lanes)
    for r in range(rows):
        for s in range(columns):
            begin, end = (r * wide + s) * lanes, to + (r * pitch + s) * lanes
            for f in range(lanes):
                target[end + f] = sums[begin + f]


@jit
def nearest(part, n, parts):
    """Where a part of n begins, rounded to the nearest, so that the parts lie as in a mirror and both halves hold as much."""
    return (2 * part * n + parts) // (2 * parts)


@jit
def write_results(job, src, weight, dst, bias, residual, table, M, line, scratch, g, n0, nn, i0, ni, j0, nj, f0, nf):
    """y of nn images, ni by nj tiles and nf filters of group g, from n0, i0, j0 and f0 on, from M; as the kernels have them.

    line: room for a row of tiles and a vector of filters; scratch: for `sum_directly`.
    """
    (N, G, C, F, H, W, OH, OW, SH, SW, row0, column0, form, KH, KW, high, wide, elements, tiles_h, tiles_w, images, rows, columns, share, block, height, chunk,
     flags, v_block, v_step, m_row, m_step, panel_pad, group, raw_at, raw_group, raw_filter, raw_channel, turned, places, fresh) = unpack_job(job)
    lanes = VECTOR_BYTES // src.itemsize
    top, left, tall, across = SH * high * i0 + row0, SW * wide * j0 + column0, SH * (high - 1) + KH, SW * (wide - 1) + KW
    pixels = min(wide * nj, OW - wide * j0)          # of one row
    past = rows_past(flags, dst, OH * OW)
    for f in range(0, nf, lanes):
        valid, channel = min(lanes, nf - f), g * F + f0 + f
        for n in range(nn):
            for i in range(ni):
                done = min(high, OH - high * (i0 + i))
                place = (((n0 + n) * G * F + channel) * OH + high * (i0 + i)) * OW + wide * j0
                for j in range(nj):
                    t, ends = (n * ni + i) * nj + j, min(wide, OW - wide * (j0 + j))
                    ahead = j * high * wide          # of a row of all tiles' results, so many a tile
                    if ahead % lanes < high * wide and not past:         # a line of the cache that no tile before has reached
                        prefetch_rows(1, dst, place + ahead // pixels * OW + ahead % pixels, OH * OW)
                    if finish(form, M, t * m_row + f, m_step, line, wide * j * lanes, pixels, done, ends):
                        sum_directly(src, ((n0 + n) * G + g) * C * H * W, C, H, W, top + SH * high * i, left + SW * wide * j, tall, across, high, wide, KH, KW,
                                     done, ends, valid, residual if raw_at < 0 else weight, max(0, raw_at) + g * raw_group + (f0 + f) * raw_filter,
                                     raw_filter, raw_channel, turned, table, scratch, line, wide * j * lanes, pixels)
                runs, run = (1, done * OW) if pixels == OW else (done, pixels)
                for r in range(runs):
                    for p in range(0, run, lanes):
                        here = place + r * OW + p
                        turn_block(min(lanes, run - p), valid, flags, line, (r * pixels + p) * lanes, lanes, bias,
                                   channel if bias.size else -1, residual, here if residual.size and raw_at >= 0 else -1, dst, here, OH * OW)
    settle(past)
