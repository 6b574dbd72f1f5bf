"""The gradient to the weights, directly: filters along the vectors, taps along the rows of the tile, pixels summed.

    dweight[f, c, kh, kw] = sum over n, oh, ow of dout[n, f, oh, ow] * x[n, c, oh * SH - PT + kh * DH, ow * SW - PL + kw * DW]

The batch's pixels are cut into units of at most 512: some images, or rows of one image, or part of a row. `turn_dout` brings the units of a
round into the order (pixel, filter); `weights` then loads for each unit a window of some channels, or reads x in place where there is one tap
and no step, and multiplies. The sum over a unit is one chain; a part's units are added one by one, and the parts by the caller, in float64.
"""
from __future__ import annotations

from .direct import NEXT_ROWS, gather_pixels, panel_width
from .gemm import aligned
from .jit import jit
from .simd import LINE_BYTES, borrowed, copy_row, integers, lanes_of, one_of, prefetch, prefetch_rows, transpose_square, turn_column
from .simd_tiles import KEEP, turn_block
from .tiles import ROWS, VECTORS
from .window import load_window

JOB = ("N", "G", "C", "F", "H", "W", "OH", "OW", "step_h", "step_w", "row0", "column0", "extent_h", "extent_w", "images", "rows", "columns",
       "first_unit", "units", "parts", "channels", "filters", "taps", "row_table", "packed_filters", "local", "straight", "in_place",
       "apart_h", "apart_w", "across", "whole_h", "whole_w")
SIZES = len(JOB)
FEW_UNITS = 4                                # whose sums are added where they belong at once: with more of them it pays to keep the sums side by side


@jit
def unpack_job(job):
    """The integers of JOB: C and F of one group; images, rows, columns of a unit; units of this round; channels and filters of a block."""
    return integers(SIZES, job)


@jit
def unit_at(unit, N, OH, OW, images, rows, columns):
    """n0, how many images, row0, how many rows, column0, how many columns: of a unit, counted over the whole batch."""
    row_units, column_units = (OH + rows - 1) // rows, (OW + columns - 1) // columns
    j0, t = unit % column_units * columns, unit // column_units
    i0, n0 = t % row_units * rows, t // row_units * images
    return n0, min(images, N - n0), i0, min(rows, OH - i0), j0, min(columns, OW - j0)


@jit
def turn_unit(src, plane, stride, filters, images, image_stride, run, dst, to, room):
    """Filters of a unit along the vectors: dst[to + f * room + p * panel] from src[plane + f * stride + image * image_stride + p].

    In panels of filters, (pixel, panel) each, room pixels apart; run: pixels of one image, side by side in memory.
    """
    lanes = lanes_of(src)
    width, whole = VECTORS * lanes, run // lanes * lanes
    for f0 in range(0, filters, width):
        panel = panel_width(filters - f0, lanes)
        for v in range(0, panel, lanes):
            valid, at = min(lanes, filters - f0 - v), to + f0 * room + v
            if valid <= 0:
                for p in range(images * run):
                    dst[at + p * panel:at + p * panel + lanes] = 0
                continue
            for image in range(images):
                start = plane + (f0 + v) * stride + image * image_stride
                for p in range(0, whole, lanes):
                    prefetch_rows(0, src, start + p + lanes * stride, stride)
                    transpose_square(valid, src, start + p, stride, dst, at + p * panel, panel)
                for p in range(whole, run):
                    if valid == lanes:
                        turn_column(src, start + p, stride, dst, at + p * panel)
                    else:
                        for f in range(lanes):
                            dst[at + p * panel + f] = src[start + p + min(f, valid - 1) * stride]
                at += run * panel


@jit
def turn_dout(first, last, src, weight, dst, bias, residual, job, table):
    """Task: one unit of the round of one group of dout (src), into dst for `weights`.

    Or of the x of one strided tap: of its planes (whole_h, whole_w) each apart_h-th row and each apart_w-th column, `across` of a row.
    """
    (N, G, C, F, H, W, OH, OW, step_h, step_w, row0, column0, extent_h, extent_w, images, rows, columns, first_unit, units, parts, channels,
     filters, taps, row_table, packed_filters, local, straight, in_place, apart_h, apart_w, across, whole_h, whole_w) = unpack_job(job)
    room, P, width = images * rows * columns, OH * OW, VECTORS * lanes_of(src)
    spread = across > 0
    near = aligned(images * width * (columns + 2 * across) if spread else 0, src)
    for t in range(first, last):
        g, u = t % G, t // G
        n0, nn, i0, ni, j0, nj = unit_at(first_unit + u, N, OH, OW, images, rows, columns)
        run, place = ni * OW if nj == OW else nj, (u * G + g) * packed_filters * room
        if not spread:
            turn_unit(src, (n0 * G + g) * F * P + i0 * OW + j0, P, F, nn, G * F * P, run, dst, place, room)
            continue
        begin, end = j0 // across, (j0 + nj + across - 1) // across          # rows that hold the unit's pixels
        plane = (end - begin) * across
        for f in range(0, F, width):
            nf = min(width, F - f)
            for image in range(nn):
                load_window(src, (((n0 + image) * G + g) * F + f) * whole_h * whole_w, nf, whole_h, whole_w, begin * apart_h, apart_h, end - begin, 0,
                            across, apart_w, 1, near[image * nf * plane:])
            turn_unit(near, j0 - begin * across, plane, nf, nn, nf * plane, run, dst, place + f * room, room)


@jit
def weights(first, last, src, weight, dst, bias, residual, job, table):
    """Tasks: a block of filters and a block of channels of one group, over one part of the round's units; filters go fastest.

    src: x. weight: what `turn_dout` left, or dout itself where the task turns what it needs (local). dst: (parts, G * F, C * taps), or where
    the sums need not be turned around (straight: x and dout have changed places, one tap) (parts, G * C, F). table: the offsets of a unit's
    pixels, and from row_table on those of the taps of a block of channels, both in a window of (images, channels, rows, columns). in_place: x is
    read where it lies, each plane one row; then the offsets are those of one image's planes.
    """
    (N, G, C, F, H, W, OH, OW, step_h, step_w, row0, column0, extent_h, extent_w, images, rows, columns, first_unit, units, parts, channels,
     filters, taps, row_table, packed_filters, local, straight, in_place, apart_h, apart_w, across, whole_h, whole_w) = unpack_job(job)
    lanes = lanes_of(src)
    width, room, K, P = VECTORS * lanes, images * rows * columns, C * taps, OH * OW
    f_blocks, c_blocks = (F + filters - 1) // filters, (C + channels - 1) // channels
    window_rows, segment = (rows - 1) * (step_h if extent_h > 1 else 1) + extent_h, (columns - 1) * (step_w if extent_w > 1 else 1) + extent_w
    plane, most = H * W if in_place else window_rows * segment, channels * taps + lanes
    padded = (filters + width - 1) // width * width
    window = aligned(0 if in_place else images * channels * plane, src)
    total, turned = aligned(most * padded, src), aligned(room * padded if local else 0, src)
    pixels_of, douts_of = one_of(in_place, src, window), one_of(local, turned, weight)
    offsets_of, sums_of, results = borrowed(table), borrowed(total), borrowed(dst)
    src_start, weight_start, line = src.ctypes.data, weight.ctypes.data, LINE_BYTES // src.itemsize
    skip_h, skip_w = 1 if extent_h > 1 else step_h, 1 if extent_w > 1 else step_w           # one tap: what lies between is left out
    for task in range(first, last):
        f0, t = task % f_blocks * filters, task // f_blocks
        c0, t = t % c_blocks * channels, t // c_blocks
        g, part = t % G, t // G
        f1, nc = min(F, f0 + filters), min(channels, C - c0)
        begin, end = part * units // parts, (part + 1) * units // parts
        once = straight > 0 and end - begin <= FEW_UNITS     # the sums go where they belong at once
        for u in range(begin, end):
            n0, nn, i0, ni, j0, nj = unit_at(first_unit + u, N, OH, OW, images, rows, columns)
            # What comes next, of this task or of the one after it, is fetched ahead.
            after = task if u + 1 < end else task + 1
            f_next, t = after % f_blocks * filters, after // f_blocks
            c_next, t = t % c_blocks * channels, t // c_blocks
            g_next, u_next = t % G, u + 1 if after == task else t // G * units // parts
            m0, mn, k0, mi, l0, mj = unit_at(first_unit + u_next, N, OH, OW, images, rows, columns)
            base, outer, inner, step, x_next, x_step, ahead, ahead_step = 0, 1, nn * ni * nj, 0, 0, 0, 0, 0
            if not in_place:
                for image in range(nn):
                    load_window(src, (((n0 + image) * G + g) * C + c0) * H * W, nc, H, W, i0 * step_h + row0, skip_h, window_rows, j0 * step_w + column0,
                                segment, skip_w, 1, window[image * channels * plane:])
            else:
                base = ((n0 * G + g) * C + c0) * plane + j0
                if nj == W:                  # the next channels' whole planes, of each image
                    outer, inner, step, x_step, ahead_step = nn, nj, G * C * plane, G * C * plane * src.itemsize, G * F * P * src.itemsize
                elif nj % line == 0:         # or the next channels' parts, one after the other: of `line` channels as many cache lines as there are steps
                    outer, inner, step, x_step, ahead_step = line, nj // line, nj // line, plane * src.itemsize, P * src.itemsize
                if x_step and after < last:  # of the next unit: from the first cache line on that this one does not reach into
                    beyond, there = line - 1 if nj < W else 0, ((m0 * G + g_next) * C + c_next) * plane + l0
                    x_next = src_start + (there + beyond) * src.itemsize if there != base else 0
                    ahead = weight_start + (((m0 * G + g_next) * F + f_next) * P + l0 + beyond) * src.itemsize if local else 0
            if local:
                turn_unit(weight, ((n0 * G + g) * F + f0) * P + i0 * OW + j0, P, f1 - f0, nn, G * F * P, ni * OW if nj == OW else nj, turned, 0, room)
            # The tiles fetch dout of the next unit, `line` filters each, and those of the last panels as many channels of its x.
            to, whole, tile, tiles = 0, max(1, nc // ROWS), line * P * src.itemsize if ahead else 0, (f1 - f0 + line - 1) // line
            x_tiles = (nc + line - 1) // line
            f_last = f1 - min(f1 - f0, (x_tiles + whole - 1) // whole * width) if x_next else f1
            for f in range(f0, f1, width):
                panel = panel_width(F - f, lanes)
                at = (f - f0) * room if local else ((u * G + g) * packed_filters + f) * room
                if f >= f_last:
                    ahead, ahead_step, tile, tiles, f_last = x_next, x_step, line * plane * src.itemsize, x_tiles, f1
                new = f == f0 and u == begin and x_step > 0  # perhaps nobody fetched what this task reads: each tile what the next one does
                fetched, apart = (NEXT_ROWS, x_step) if new else (ahead, ahead_step)
                if once and panel <= F - f:
                    gather_pixels(nc, panel, lanes, KEEP if u > begin else 0, outer, step, inner, pixels_of, base, offsets_of, row_table, plane, 0, douts_of,
                                  at, results, ((part * G + g) * C + c0) * F + f, F, fetched, apart, tile, tiles, 0, 0)
                else:
                    gather_pixels(nc * taps, panel, lanes, KEEP if u > begin else 0, outer, step, inner, pixels_of, base, offsets_of, row_table,
                                  plane if taps == 1 else 0, 0, douts_of, at, sums_of, to, panel, fetched, apart, tile, tiles, 0, 0)
                if not new:
                    ahead += whole * tile
                    tiles -= whole
                if tiles <= 0:
                    ahead = tile = 0
                if u + 1 == end and not straight:            # where these filters' sums go, and where the next panel's will
                    later = width * K if f + width < F else (width - F) * K + channels * taps
                    for v in range(0, min(panel, F - f), lanes):
                        place = (part * G * F + g * F + f + v) * K + c0 * taps
                        for r in range(0, nc * taps, lanes):
                            for k in range(lanes):
                                prefetch(dst, place + later + k * K + r, lanes)
                            turn_block(min(lanes, nc * taps - r), min(lanes, F - f - v), 0, total, to + r * panel + v, panel, bias, -1, residual, -1,
                                       dst, place + r, K)
                elif u + 1 == end and (not once or panel > F - f):
                    for r in range(nc):
                        copy_row(1, total, to + r * panel, dst, ((part * G + g) * C + c0 + r) * F + f, min(panel, F - f))
                to += most * panel
