"""Direct convolution: windows of the image times packed filters, in register tiles; no patch matrix.

One description serves the forward pass and the gradient to the input: the destination's pixels fall into phases, pixel (i, j) of phase (a, b)
at row i * phases_h + a and column j * phases_w + b, and each is a sum over the source's channels and the taps of its phase,

    dst[n, f, ...] = sum over c, t of src[n, c, i * step_h + row[t], j * step_w + column[t]] * weight[f, c, t].

The forward pass is one phase; the gradient to the input of a strided convolution has as many as the stride is large, each with some of the
taps. `filters` has filters (the destination's channels) along the vectors, `pixels` has pixels along them, and so has `columns`, which makes
the gradient to the input of few channels tap by tap, and `direct_phases`, which makes all phases of stride 2 at once; `blocking.direct` chooses.
The sum of a chunk of channels is one chain of a bounded number of terms; chunks are added one by one.

After: Zhang, Franchetti, Low, "High Performance Zero-Memory Overhead Direct Convolutions", ICML 2018; Goto and van de Geijn, "Anatomy of
High-Performance Matrix Multiplication", 2008.
"""
from __future__ import annotations

import numpy as np

from .gemm import aligned, panel_rows
from .geometry import inside, unpack
from .im2col import add_patch_row
from .jit import jit, keeping
from .simd import (
    LINE_BYTES,
    borrowed,
    copy_row,
    copy_runs,
    integers,
    lanes_of,
    one_of,
    prefetch,
    settle,
    transpose_square,
    turn_column,
    turn_columns,
)
from .simd_phases import merge_row, spread_rows
from .simd_tiles import KEEP, PAST, RELU, TAP, add_taps, gather_tile, gather_tile_ahead, pixel_tile, pixel_tile_near, turn_block
from .team import first_task, next_task
from .tiles import ROWS, ROWS_HALF, ROWS_SMALL, VECTORS
from .window import load_window

# The integers of a job, in this order.
JOB = ("N", "G", "C", "F", "H", "W", "OH", "OW", "grid_h", "grid_w", "phases_h", "phases_w", "step_h", "step_w", "row0", "column0",
       "extent_h", "extent_w", "in_place", "rows", "columns", "filters", "channels", "taps", "flags", "group_weights", "pixel_table", "panel", "whole", "raw",
       "row_blocks", "column_blocks", "images")
SIZES = len(JOB)
TRANSPOSED, COPIED, TURNED = 1, 2, 3         # raw weights: the forward's, and in the gradient to the input those of one tap and of several
TOGETHER = 4                                 # panels of one tap that are copied at once: longer runs of each row of the weights
AHEAD = 4                                    # rows of raw weights fetched before they are packed
NEXT_PIXELS = -1                             # instead of an address: what the next tile reads
NEXT_ROWS = -2                               # the same, from its first row on
FEW_COLUMNS = 2                              # taps left over that are packed one by one
PHASE = 3                                    # integers of the table for each phase: its first tap, how many taps, where its weights start


@jit
def unpack_job(job):
    """The integers of JOB: C and F of one group; rows, columns, filters, channels, taps, images: the sizes of a block."""
    return integers(SIZES, job)


@jit
def panel_width(left, lanes):
    """Filters in the next panel along the vectors where `left` are left: whole panels, and one vector for a short rest."""
    return lanes if left <= lanes else VECTORS * lanes


@jit
def pack_panel(weight, start, row, columns, filters, panel, dst, to):
    """dst[to + k * panel + f] = weight[start + f * row + k] for k < columns and f < filters <= panel: vectors of filters."""
    lanes = lanes_of(weight)
    whole = columns // lanes * lanes
    for v in range(0, panel, lanes):
        valid, here = min(lanes, filters - v), start + v * row
        if valid <= 0:
            for k in range(columns):
                dst[to + k * panel + v:to + k * panel + v + lanes] = 0
            continue
        for k in range(0, whole, lanes):
            transpose_square(valid, weight, here + k, row, dst, to + v + k * panel, panel)
        for k in range(whole, columns):
            line, column = dst[to + v + k * panel:to + v + k * panel + lanes], weight[here + k:]
            for f in range(lanes):
                line[f] = column[min(f, valid - 1) * row]


@jit
def turn_taps(weight, start, T, valid, dst, places):
    """dst[places[k] + c] = weight[start + c * T + k] for k < T and c < lanes: one filter's taps of one vector of channels.

    Only `valid` channels are read; the last of them stands for those that are missing.
    """
    lanes = lanes_of(weight)
    half, done = lanes // 2, 0
    if valid < lanes:
        for k in range(T):
            line, column = dst[places[k]:places[k] + lanes], weight[start + k:]
            for c in range(lanes):
                line[c] = column[min(c, valid - 1) * T]
        return
    while done + FEW_COLUMNS < T and start + (lanes - 1) * T + done + half <= weight.size:
        turn_columns(weight, start + done, T, min(half, T - done), dst, places, done)
        done += half
    for k in range(done, T):
        turn_column(weight, start + k, T, dst, places[k])


@jit
def place_taps(table, numbers, phases, at, phase_step, offset, panel, places, steps):
    """places[tap]: where the taps of a panel's first row go, at + their place in a panel of (rows * taps of the phase, panel); steps[tap]: and how
    far the next row's are behind. Phases begin phase_step for each tap before them, and this panel `offset` for each of their taps behind that.

    The numbers of the taps stand in table[numbers], phase by phase.
    """
    before = 0
    for q in range(phases):
        taps = table[PHASE * q + 1]
        for t in range(taps):
            tap = table[numbers + before + t]
            places[tap], steps[tap] = at + before * phase_step + offset * taps + t * panel, taps * panel
        before += taps


@jit(inline=True)
def pack_near(raw, weight, g, C, F, T, c0, nc, f, count, phases, table, numbers, places, steps, packed):
    """Weights as they are into the panels of `count` filters from f on, for a chunk of channels: all phases of one panel, or one tap of several.

    places, steps: scratch for `place_taps`.
    """
    lanes = lanes_of(weight)
    panel = panel_width(count, lanes)
    if raw == TRANSPOSED:
        pack_panel(weight, (g * F + f) * C * T + c0 * T, C * T, nc * T, min(panel, count), panel, packed, 0)
    elif raw == COPIED:
        for k in range(nc):
            to, start = 0, (g * C + c0 + k) * F + f
            prefetch(weight, start + AHEAD * F, count)
            for v in range(0, count, VECTORS * lanes):
                panel = panel_width(count - v, lanes)
                copy_row(1, weight, start + v, packed, to + k * panel, min(panel, count - v))
                to += nc * panel
    else:
        for v in range(0, panel, lanes):
            place_taps(table, numbers, phases, v, nc * panel, 0, panel, places, steps)
            for k in range(nc):
                start = ((g * C + c0 + k) * F + f + v) * T
                if v == 0:
                    prefetch(weight, start + AHEAD * F * T, count * T)
                turn_taps(weight, start, T, min(lanes, count - v), packed, places)
                for t in range(T):
                    places[t] += steps[t]


# ---------------------------------------------------------------- filters along the vectors
@jit
def in_runs(offsets, at, apart):
    """Do the offsets of a tile's rows from offsets[at] on lie `apart` in each half?

    They grow by that within a row of pixels and by one other number at its end: ends of a half that fit have no row's end between them.
    """
    half = ROWS // 2
    return apart > 0 and offsets[at + half - 1] - offsets[at] == (half - 1) * apart and offsets[at + ROWS - 1] - offsets[at + half] == (half - 1) * apart


@jit
def gather_pixels(pixels, width, lanes, flags, channels, plane, taps, src, base, table, pixel_table, apart, tap_at, weight, weight_at, total, total_at, row,
                  ahead, ahead_step, ahead_tile, ahead_tiles, far, far_step):
    """total[total_at + p * row:][:width] (+)= the sum over a chunk, for all p < pixels: tiles of pixels whose offsets stand in table[pixel_table + p].

    apart: how far one pixel is from the next of its row, or 0 where they follow no rule. ahead: the address of what comes next: the first
    ahead_tiles tiles, ahead_tile bytes apart, fetch `channels` runs of `taps` cache lines, ahead_step bytes apart, while they compute. Or
    NEXT_PIXELS: each tile fetches the next one's pixels, of one tap. Or NEXT_ROWS: each fetches such runs from the next one's first pixel on. 0 for
    none. far: the address of what comes after that: the tiles that are left fetch `channels` runs of it, far_step bytes apart, each tile further
    `taps` lines of them, those before it passed over. 0 for none.

    No array has two names here: Numba would count its users at every tile, and wait each time for all that the last one wrote.
    """
    for p in range(0, pixels, ROWS):
        left, to, at = pixels - p, total_at + p * row, pixel_table + p
        valid = min(ROWS, left)
        if width <= lanes:
            gather_tile(ROWS, 1, 0, valid, flags, channels, plane, taps, src, base, table, at, table, tap_at, weight, weight_at, total, to, row)
        elif left <= ROWS_SMALL:
            gather_tile(ROWS_SMALL, VECTORS, 0, valid, flags, channels, plane, taps, src, base, table, at, table, tap_at, weight, weight_at, total, to, row)
        elif left <= ROWS_HALF:
            gather_tile(ROWS_HALF, VECTORS, 0, valid, flags, channels, plane, taps, src, base, table, at, table, tap_at, weight, weight_at, total, to, row)
        else:
            part, part_step = 0, ahead_step
            if ahead == NEXT_PIXELS:         # as far as the last of them: the line of the first one came with this tile's
                part, part_step = src.ctypes.data + (base + table[pixel_table + min(p + 2 * ROWS, pixels) - 1]) * src.itemsize, plane * src.itemsize
            elif ahead == NEXT_ROWS:
                part = src.ctypes.data + (base + table[at + ROWS]) * src.itemsize if left > ROWS else 0
            elif ahead and p < ahead_tiles * ROWS:
                part = ahead + p // ROWS * ahead_tile
            elif far:
                part, part_step = far + p // ROWS * taps * LINE_BYTES, far_step
            if left >= ROWS and in_runs(table, at, apart):
                gather_tile_ahead(ROWS, VECTORS, 1, valid, flags, channels, plane, taps, src, base, table, at, table, tap_at, weight, weight_at, total, to,
                                  row, part, part_step)
            else:
                gather_tile_ahead(ROWS, VECTORS, 0, valid, flags, channels, plane, taps, src, base, table, at, table, tap_at, weight, weight_at, total, to,
                                  row, part, part_step)


@keeping
@jit
def filters(first, last, src, weight, dst, bias, residual, job, table):
    """Tasks: a block of filters of a block of grid rows of one group of some images; the block of filters goes fastest. Several images only in
    place and with all their rows: then the pixels of all stand in tiles one behind the other, and a weight that is fetched serves them all.

    weight: packed by `pack_filters` or `pack_channels`, or as it is, and each task packs what it needs (raw: where each packed element
    would be read but once or twice). whole: the window holds all channels, for one block of filters after the other. table: PHASE integers
    for each phase, the taps' offsets in the window of one channel, and from pixel_table on the offsets of the grid's pixels, image by image.
    """
    (N, G, C, F, H, W, OH, OW, grid_h, grid_w, phases_h, phases_w, step_h, step_w, row0, column0, extent_h, extent_w, in_place, rows, columns,
     block, chunk, most_taps, flags, group_weights, pixel_table, panel_height, whole, raw, row_blocks, column_blocks, images) = unpack_job(job)
    lanes = lanes_of(src)
    width = VECTORS * lanes
    phases = phases_h * phases_w
    f_blocks = (F + block - 1) // block
    skip_h, skip_w = 1 if extent_h > 1 else step_h, 1 if extent_w > 1 else step_w           # one tap: what lies between is left out
    segment, step = (grid_w - 1) * (step_w // skip_w) + extent_w, step_h // skip_h
    window = aligned(0 if in_place else (C if whole else chunk) * ((rows - 1) * step + extent_h) * segment, src)
    all_taps = reached = 0
    for q in range(phases):
        all_taps += table[PHASE * q + 1]
        reached += table[PHASE * q + 1] > 0
    most_pixels = images * rows * grid_w
    numbers = pixel_table + most_pixels
    packed = aligned(chunk * all_taps * width * (TOGETHER if raw == COPIED else 1) if raw else 0, src)
    places, steps = np.empty(all_taps, np.int64), np.empty(all_taps, np.int64)
    ahead_step = (F if raw else width) * all_taps * src.itemsize          # from one channel of the weights to the next
    room = (most_pixels + lanes) * ((block + width - 1) // width * width)
    total = aligned(reached * room, src)
    phase = rows * grid_w * lanes if phases > 1 else 0
    apart = step_w if in_place else step_w // skip_w
    turned = aligned(phases * phase, src)
    turned[:] = 0                            # what no tap reaches stays so
    result, pixels_of, weights_of = one_of(phases == 1, dst, turned), one_of(in_place, src, window), one_of(raw, packed, weight)
    offsets_of, sums_of, at_hand = borrowed(table), borrowed(total), -1
    task, stop = first_task(first, last)
    while task < stop:
        f0, t = task % f_blocks * block, task // f_blocks
        i0, t = t % row_blocks * rows, t // row_blocks
        g, n = t % G, t // G * images
        f1, nn, ni = min(F, f0 + block), min(images, N - n), min(rows, grid_h - i0)
        pixels, loaded = ni * grid_w, (ni - 1) * step + extent_h
        for c0 in range(0, C, chunk):
            nc = min(chunk, C - c0)
            base, plane = ((n * G + g) * C + c0) * H * W, loaded * segment
            if not in_place and (not whole or c0 == 0 and task // f_blocks != at_hand):       # whole: all channels, for all blocks of filters
                load_window(src, base, C if whole else nc, H, W, i0 * step_h + row0, skip_h, loaded, column0, segment, skip_w, 1, window)
            if in_place:
                base += (i0 * step_h + row0) * W + column0
                plane = H * W
            else:
                base = c0 * plane if whole else 0
            to, near, f_near, ahead = 0, 0, f0, 0
            far, far_lines = 0, 0            # what comes into the window next, and how many lines of each channel are still to be fetched
            later = task if c0 + nc < C and not whole else task + 1
            if not in_place and later < stop and (not whole or later // f_blocks != task // f_blocks):
                t = later // f_blocks
                h = max(0, t % row_blocks * rows * step_h + row0)
                far = src.ctypes.data + ((t // row_blocks * C + (c0 if whole else (c0 + nc) % C)) * H + h) * W * src.itemsize
                far_lines = min(H - h, loaded * skip_h) * W * src.itemsize // LINE_BYTES + 1
            for f in range(f0, f1, width):
                panel = panel_width(F - f, lanes)
                if f == f_near:
                    f_near, near, ahead = min(f1, f + (TOGETHER if raw == COPIED else 1) * width), 0, 0
                    next_c, next_f = (c0, f_near) if f_near < f1 else (c0 + nc, f0) if c0 + nc < C else (0, f1)        # here, or of the next task
                    if in_place and all_taps == 1 and not raw and f == f0 and task // f_blocks != at_hand:
                        ahead = NEXT_PIXELS
                    elif next_f < F and (raw == COPIED or raw == TURNED):
                        ahead = weight.ctypes.data + ((g * C + next_c) * F + next_f) * all_taps * src.itemsize
                    elif next_f < F and not raw and phases == 1:
                        ahead = weight.ctypes.data + (g * group_weights + (next_f * C + next_c * panel) * all_taps) * src.itemsize
                    if raw:
                        pack_near(raw, weight, g, C, F, all_taps, c0, nc, f, min(F, f_near) - f, phases, table, numbers, places, steps, packed)
                of_phase = to
                for q in range(phases):
                    tap_at, taps = table[PHASE * q], table[PHASE * q + 1]
                    for t0 in range(0, taps, most_taps):
                        nt = min(most_taps, taps - t0)
                        at = near if raw else g * group_weights + table[PHASE * q + 2] + f * C * taps + (c0 * taps + t0) * panel
                        gather_pixels(nn * pixels, panel, lanes, KEEP if c0 + t0 else 0, nc, plane, nt, pixels_of, base,
                                      offsets_of, pixel_table, apart, tap_at + t0, weights_of, at, sums_of, of_phase, panel, ahead, ahead_step,
                                      nt * LINE_BYTES, VECTORS, far, H * W * src.itemsize)
                        fetched = (nn * pixels + ROWS - 1) // ROWS * nt
                        far, far_lines = far + fetched * LINE_BYTES if far_lines > fetched else 0, far_lines - fetched
                        if ahead and ahead != NEXT_PIXELS:
                            ahead += VECTORS * nt * LINE_BYTES
                    near += nc * taps * panel
                    of_phase += room if taps else 0
                to += (most_pixels + lanes) * panel
        to, at_hand = 0, task // f_blocks
        for f in range(f0, f1, width):
            panel = panel_width(F - f, lanes)
            for v in range(0, panel, lanes):
                valid = min(lanes, F - f - v)
                if valid <= 0:
                    continue
                channel = g * F + f + v
                for image in range(nn):
                    of_phase, plane = to + v + image * pixels * panel, ((n + image) * G * F + channel) * OH * OW
                    for q in range(phases):
                        place = plane + i0 * OW if phases == 1 else q * phase
                        if table[PHASE * q + 1] == 0:        # no tap reaches this phase
                            continue
                        for p in range(0, pixels, lanes):
                            turn_block(min(lanes, pixels - p), valid, flags, total, of_phase + p * panel, panel, bias,
                                       channel if bias.size else -1, residual, place + p if residual.size else -1, result, place + p,
                                       OH * OW if phases == 1 else pixels)
                        of_phase += room
                    for k in range(valid if phases > 1 else 0):
                        merge_phases(turned, k * pixels, phase, phases_h, phases_w, table, i0, ni, grid_w, dst, plane + k * OH * OW, OH, OW)
            to += (most_pixels + lanes) * panel
        task, stop = next_task(task, stop, first, last)
    settle(flags & PAST)


@jit
def merge_phases(turned, at, phase, phases_h, phases_w, table, i0, ni, grid_w, dst, place, OH, OW):
    """Rows i0 .. i0 + ni of every phase of one plane, each (ni, grid_w) from turned[at] on, `phase` apart, to their places in dst[place:].

    table: PHASE integers for each phase, as in `filters`: what phases without taps have in turned are zeros.
    """
    for a in range(phases_h):
        q, reached = a * phases_w, 0
        for b in range(phases_w):
            reached += table[PHASE * (q + b) + 1]
        for i in range(ni):
            h = (i0 + i) * phases_h + a
            if h >= OH:
                break
            start, to = at + q * phase + i * grid_w, place + h * OW
            if reached == 0:
                dst[to:to + OW] = 0
            elif phases_w == 2:
                merge_row(turned, start, start + phase, OW // 2, dst, to)
                if OW % 2:
                    dst[to + OW - 1] = turned[start + OW // 2]
            else:
                row = dst[to:to + OW]
                for b in range(phases_w):
                    line = turned[start + b * phase:]
                    for j in range((OW - b + phases_w - 1) // phases_w):
                        row[j * phases_w + b] = line[j]


# ---------------------------------------------------------------- pixels along the vectors
@jit
def join_panel(src, base, apart, plane, channels, first, count, window, to, width):
    """Elements first .. first + count <= first + width of one long row, for each of so many channels: the planes of all images, `apart` in src from
    base on, one behind the other. Into window[to:]: `width` elements of one channel after the other, zeros behind the last one.
    """
    lanes = lanes_of(src)
    if count < width:
        window[to:to + channels * width] = 0
    j = 0
    while j < count:                         # what lies in one plane and one vector: whole vectors are written, or their store would cross a cache line
        image, at, begin = (first + j) // plane, (first + j) % plane, j % lanes
        n = min(count - j, plane - at, lanes - begin)
        copy_runs(channels, begin, begin + n, src, base + image * apart + at - begin, plane, window, to + j - begin, width)
        j += n


@jit
def normal(image, pixel, plane):
    """The image and the pixel of its plane that a pixel behind the plane's end is: a few steps, cheaper than a division for each tile."""
    while pixel >= plane:
        image, pixel = image + 1, pixel - plane
    return image, pixel


@jit
def spread_tile(sums, at, row, rows, count, first, dst, place, image_step, plane, H, W, stride):
    """Gradients to pixels first .. first + count of one long row, which the kernel's one tap reads, to where they belong, and zeros to the others up to
    the next: sums[at + r * row + p] for r < rows. dst: planes of (H, W) from place on, images image_step apart; plane: pixels that are read of each.
    """
    across, done = (W + 1) // 2, 0
    while done < count:
        image, pixel = (first + done) // plane, (first + done) % plane
        h, j = pixel // across * stride, pixel % across
        n = min(count - done, across - j)
        spread_rows(sums, at + done, row, rows, min(stride, H - h), dst, place + image * image_step + h * W + 2 * j, W, H * W, min(2 * n, W - 2 * j))
        done += n


@jit
def pixels(first, last, src, weight, dst, bias, residual, job, table):
    """Tasks: a block of filters of a block of rows and columns of one group of some images; the block of filters goes fastest. One phase only.
    Blocks of rows and columns differ by one row or one tile's width, so that threads with as many tasks have as much to do.

    weight: packed by `pack_rows` or `pack_rows_turned`, panels as `gemm.pack_a` cuts them. In place: one row of pixels of many planes, copied near
    into panels of a tile's width, one channel after the other: a tile that read every plane where it lies would follow too many streams. Several
    images only in place: their rows are one long row, so that a tile's vectors are full though planes are small. Several phases only of one tap and
    stride 2 along the row: of a gradient in planes of (grid_h, grid_w) the first phase gets sums, the others zeros.
    """
    (N, G, C, F, H, W, OH, OW, grid_h, grid_w, phases_h, phases_w, step_h, step_w, row0, column0, extent_h, extent_w, in_place, rows, columns,
     block, chunk, most_taps, flags, group_weights, pixel_table, panel_height, whole, raw, row_blocks, column_blocks, images) = unpack_job(job)
    lanes = lanes_of(src)
    width = VECTORS * lanes
    taps = table[1]
    tap_at = table[0]
    f_blocks = (F + block - 1) // block
    segment = (columns + width - 1) // width * width + (extent_w - 1) // step_w
    skip, kept = 1 if extent_h > 1 else step_h, step_w if extent_w > 1 else 1                # one tap: what lies between is left out
    step = step_h // skip
    window_rows = (rows - 1) * step + extent_h
    panels = (columns + width - 1) // width
    near = chunk * width + lanes             # of one panel of pixels: no two panels begin at the same place of a page
    window = aligned(panels * near if in_place else chunk * window_rows * segment * kept, src)
    apart = phases_h * phases_w > 1
    pitch, jump = min(OW, width) if in_place and not apart else width, (G * F - 1) * OW
    sums_row = panels * width + lanes
    sums = aligned((block + panel_height) * sums_row if apart else 0, src)
    result = one_of(apart, sums, dst)
    flags = flags & ~PAST if apart else flags
    result_row = sums_row if apart else OH * OW
    for task in range(first, last):
        f0, t = task % f_blocks * block, task // f_blocks
        j_block, t = t % column_blocks, t // column_blocks
        i0, i1, t = t % row_blocks * OH // row_blocks, (t % row_blocks + 1) * OH // row_blocks, t // row_blocks
        g, n = t % G, t // G * images
        across = min(images, N - n) * OW
        tiles = (across + width - 1) // width
        j0, j1 = j_block * tiles // column_blocks * width, (j_block + 1) * tiles // column_blocks * width
        f1, ni, nj = min(F, f0 + block), i1 - i0, min(j1, across) - j0
        f_panels, tiles_here = (f1 - f0 + panel_height - 1) // panel_height, (nj + width - 1) // width
        following = task + 1 if task + 1 < last else task
        j_next, t = following // f_blocks % column_blocks * tiles // column_blocks * width, following // (f_blocks * column_blocks * row_blocks)
        for c0 in range(0, C, chunk):
            nc = min(chunk, C - c0)
            base = ((n * G + g) * C + c0) * H * W
            # The pixels that are copied next: of the next channels, or of the next task.
            next_base, next_j = (base + nc * W, j0) if c0 + nc < C else ((t // G * images * G + t % G) * C * W, j_next)
            loaded = (ni - 1) * step + extent_h
            if not in_place:
                load_window(src, base, nc, H, W, i0 * step_h + row0, skip, loaded, j0 * step_w + column0, segment, step_w, kept, window)
            for t0 in range(0, taps, most_taps):
                nt = min(most_taps, taps - t0)
                begin, end = c0 + t0 == 0, c0 + nc == C and t0 + nt == taps
                of_tile = (0 if begin else KEEP) | (flags & (RELU | PAST if begin else RELU) if end else 0)
                for f in range(f0, f1, panel_height):            # one panel after the other: the result is written in as many streams
                    height = panel_rows(min(panel_height, F - f))
                    valid = min(height, f1 - f)
                    a_at = g * group_weights + f * C * taps + (c0 * taps + t0) * height
                    channel = g * F + f
                    # The weights that are read next: of the next panel, or of the first one again. Each tile fetches its share.
                    f_next, c_next = (f + panel_height, c0) if f + panel_height < f1 else (f0, c0 + nc if c0 + nc < C else 0)
                    panel_next = g * group_weights + f_next * C * taps + (c_next * taps + t0) * panel_rows(min(panel_height, F - f_next))
                    panel_next = weight.ctypes.data + panel_next * weight.itemsize
                    panel_step = nt * height * weight.itemsize // (ni * tiles_here) + 1
                    for i in range(ni):
                        row = ((n * G * F + channel) * OH + i0 + i) * OW + j0
                        bias_at = channel if bias.size and begin else -1
                        image, pixel, line_at = j0 // OW, j0 % OW - width, (f - f0) // panel_height * tiles_here
                        for j in range(0, nj, width):
                            left, place, split = min(width, nj - j), row + j, width
                            at, plane = i * step * kept * segment + j, loaded * kept * segment
                            if in_place:
                                at, plane = j // width * near, width
                                image, pixel = normal(image, pixel + width, OW)
                                split, place = min(width, OW - pixel), ((n + image) * G * F + channel) * OW + pixel
                            copied, ends = in_place and f == f0, split       # the first tile brings the pixels near
                            if apart:
                                ends, place = width, (f - f0) * sums_row + j
                            residual_at = place if residual.size and end else -1
                            panel_line = panel_next + (i * tiles_here + j // width) * nc * panel_step
                            line, line_step = src.ctypes.data, 0
                            if in_place:                     # of the pixels that come next one line of each channel: evenly, or they would not get through
                                to = next_j + (line_at + j // width) * VECTORS // f_panels * lanes
                                if images > 1:
                                    to = to // OW * G * C * W + to % OW
                                line, line_step = line + (next_base + to) * src.itemsize, W * src.itemsize
                            if copied and (split < width or left < width or height < ROWS_HALF):
                                join_panel(src, base, G * C * W, W, nc, j0 + j, left, window, at, width)
                                copied = False
                            source = base + image * G * C * W + pixel
                            if copied and height == ROWS:
                                pixel_tile_near(ROWS, VECTORS, valid, left, of_tile, nc, W, nt, weight, a_at, src, source, table, tap_at,
                                                bias, bias_at, residual, residual_at, result, place, result_row, ends, pitch, jump, line, line_step,
                                                panel_line, panel_step, window, at)
                            elif copied:
                                pixel_tile_near(ROWS_HALF, VECTORS, valid, left, of_tile, nc, W, nt, weight, a_at, src, source, table, tap_at,
                                                bias, bias_at, residual, residual_at, result, place, result_row, ends, pitch, jump, line, line_step,
                                                panel_line, panel_step, window, at)
                            elif height == ROWS:
                                if left <= lanes:
                                    pixel_tile(ROWS, 1, valid, left, of_tile, nc, plane, nt, weight, a_at, window, at, table, tap_at + t0,
                                               bias, bias_at, residual, residual_at, result, place, result_row, ends, pitch, jump, line, line_step,
                                               panel_line, panel_step)
                                else:
                                    pixel_tile(ROWS, VECTORS, valid, left, of_tile, nc, plane, nt, weight, a_at, window, at, table, tap_at + t0,
                                               bias, bias_at, residual, residual_at, result, place, result_row, ends, pitch, jump, line, line_step,
                                               panel_line, panel_step)
                            elif height == ROWS_HALF:
                                if left <= lanes:
                                    pixel_tile(ROWS_HALF, 1, valid, left, of_tile, nc, plane, nt, weight, a_at, window, at, table, tap_at + t0,
                                               bias, bias_at, residual, residual_at, result, place, result_row, ends, pitch, jump, line, line_step,
                                               panel_line, panel_step)
                                else:
                                    pixel_tile(ROWS_HALF, VECTORS, valid, left, of_tile, nc, plane, nt, weight, a_at, window, at, table, tap_at + t0,
                                               bias, bias_at, residual, residual_at, result, place, result_row, ends, pitch, jump, line, line_step,
                                               panel_line, panel_step)
                            else:
                                pixel_tile(ROWS_SMALL, VECTORS, valid, left, of_tile, nc, plane, nt, weight, a_at, window, at, table, tap_at + t0,
                                           bias, bias_at, residual, residual_at, result, place, result_row, ends, pitch, jump, line, line_step,
                                           panel_line, panel_step)
                            if apart and end:
                                spread_tile(sums, place, sums_row, valid, left, j0 + j, dst, (n * G * F + channel) * grid_h * grid_w,
                                            G * F * grid_h * grid_w, OW, grid_h, grid_w, phases_h)
    settle(flags & PAST)


# ---------------------------------------------------------------- columns
@jit
def columns(first, last, src, weight, dst, bias, residual, job, table):
    """The gradient to the input for few channels. Tasks: a band of rows of dx of one group of one image; bands go fastest.

    A block of output rows gives the columns, a row for each tap of each channel and a pixel along the vectors: dout, copied near,
    times the weights as `pack_rows_turned` left them. Then each row of dx takes what its taps left for it. The job begins with the
    geometry; then bands, output rows of a block, filters of a chunk, rows of a panel, elements of one packed group. table: one 0.
    """
    N, C, H, W, F, OH, OW, KH, KW, SH, SW, PT, PL, DH, DW, G = unpack(job)
    bands, block, chunk, panel, group = job[16], job[17], job[18], job[19], job[20]
    lanes = lanes_of(src)
    width = VECTORS * lanes
    P, FG, rows = OH * OW, F // G, C // G * KH * KW
    line = (block * OW + width - 1) // width * width + lanes         # rows of which no two begin at the same place of a page
    start = src.ctypes.data                  # nothing is fetched ahead
    sums, near = aligned(rows * line, src), np.zeros(chunk * line, src.dtype)
    entries = np.empty(1 + SW * (1 + TAP * KH * KW), np.int64)
    for task in range(first, last):
        band, t = task % bands, task // bands
        g, n = t % G, t // G
        h0, h1 = band * H // bands, (band + 1) * H // bands
        plane = (n * C + g * (C // G)) * H * W
        for c in range(C // G):
            dst[plane + c * H * W + h0 * W:plane + c * H * W + h1 * W] = 0
        low, high = OH, 0                    # the output rows that some tap connects with this band
        for kh in range(KH):
            one, other = inside(kh * DH - PT - h0, SH, h1 - h0, OH)
            if one < other:
                low, high = min(low, one), max(high, other)
        for i0 in range(low, high, block):
            i1 = min(high, i0 + block)
            p0, pixels = i0 * OW, (i1 - i0) * OW
            for f0 in range(0, FG, chunk):
                nf = min(chunk, FG - f0)
                for f in range(nf):
                    copy_row(1, src, (n * F + g * FG + f0 + f) * P + p0, near, f * line, pixels)
                flags = KEEP if f0 else 0
                for j in range(0, pixels, width):
                    left = min(width, pixels - j)
                    for r in range(0, rows, panel):
                        height = panel_rows(min(panel, rows - r))
                        valid, a_at, to = min(height, rows - r), g * group + r * FG + f0 * height, r * line + j
                        if height == ROWS:
                            pixel_tile(ROWS, VECTORS, valid, left, flags, nf, line, 1, weight, a_at, near, j, table, 0, bias, -1, residual, -1, sums, to,
                                       line, width, width, 0, start, 0, start, 0)
                        elif height == ROWS_HALF:
                            pixel_tile(ROWS_HALF, VECTORS, valid, left, flags, nf, line, 1, weight, a_at, near, j, table, 0, bias, -1, residual, -1, sums, to,
                                       line, width, width, 0, start, 0, start, 0)
                        else:
                            pixel_tile(ROWS_SMALL, VECTORS, valid, left, flags, nf, line, 1, weight, a_at, near, j, table, 0, bias, -1, residual, -1, sums, to,
                                       line, width, width, 0, start, 0, start, 0)
            if SW == 1 or SW == 2 or SW == 4:
                gather_taps(sums, line, i0, i1, dst, plane, job, h0, h1, entries)
                continue
            for r in range(rows):
                c, kh, kw = r // (KH * KW), r // KW % KH, r % KW
                add_patch_row(sums, r * line, p0, p0 + pixels, dst, plane + c * H * W, kh * DH - PT, kw * DW - PL, job, h0, h1)


@jit
def gather_taps(sums, line, i0, i1, dst, plane, geometry, h0, h1, entries):
    """Each row h0 <= h < h1 of dx that output rows i0 .. i1 reach takes all their taps at once; sums: a row of `line` elements for each tap of each channel."""
    N, C, H, W, F, OH, OW, KH, KW, SH, SW, PT, PL, DH, DW, G = unpack(geometry)
    apart = 1 + TAP * KH * KW
    entries[0] = apart
    for h in range(max(h0, i0 * SH - PT), min(h1, (i1 - 1) * SH + (KH - 1) * DH - PT + 1)):
        for b in range(SW):
            entries[1 + b * apart] = 0
        for kh in range(KH):
            i, rest = divmod(h + PT - kh * DH, SH)
            if rest or i < i0 or i >= i1:
                continue
            for kw in range(KW):
                b = (kw * DW - PL) % SW      # the phase whose columns this tap reaches, and how far along the output row it reads
                at = 1 + b * apart
                tap = at + 1 + TAP * entries[at]
                entries[tap], entries[tap + 1] = (kh * KW + kw) * line + (i - i0) * OW, (b + PL - kw * DW) // SW
                entries[at] += 1
        for c in range(C // G):
            to = plane + (c * H + h) * W
            if SW == 1:
                add_taps(1, sums, OW, entries, dst, to, W)
            elif SW == 2:
                add_taps(2, sums, OW, entries, dst, to, W)
            else:
                add_taps(4, sums, OW, entries, dst, to, W)
            for b in range(SW):              # the next channel's rows
                for t in range(entries[1 + b * apart]):
                    entries[2 + b * apart + TAP * t] += KH * KW * line
