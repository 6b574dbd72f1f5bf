"""Winograd's convolution: tiles of results with fewer multiplications than taps.

    F(4x4, 3x3)   tiles of 4x4 results, 36 multiplications for 144      F(4, 3)   1x4 and 4x1 results of 1x3 and 3x1 filters, 6 for 12
    F(2x2, 5x5)   tiles of 2x2 results, 36 multiplications for 100
    F(2x2, 3x3)   tiles of 2x2 results, 16 multiplications for 36: less than half as many numbers of transformed filters
    STEPS         tiles of 2x2 results of 3x3 filters in steps of two, 25 multiplications for 36

    input tile, 6x6 pixels of a channel   -> V, 36 numbers        transform of the pixels, B^T d B
    filter, 3x3 taps of a channel         -> U, 36 numbers        transform of the filter, G g G^T, once
    M[e] = V[e] U[e], e < 36                                      36 products of (tiles x channels) and (channels x filters) matrices
    M, 36 numbers of a tile and a filter  -> 4x4 results          transform of the result, A^T m A

The 5x5 filters have the same six points and the same V. Lines of six pixels are transformed along their axis alone, to 6 numbers. In steps
of two, 5x5 pixels become 25 numbers and a filter 16: some of those serve two or four products. One description serves the forward pass and,
of stride 1, the gradient to the input, which is the same with turned filters; the gradient to the weights is in `winograd_weight`.

A task is a block of tiles and a share of the filters. Channels lie along the vectors of V, filters along those of U and M; V and M stay in
L2. U is made before for all tasks, or, where few blocks of tiles share it, by each task for itself, a panel of filters at a time: several
times as large as the filters, it would go to memory and come back. Images with few channels go in lines: see `winograd_lines`.

A NaN or inf in one pixel reaches all results of its tile, and large numbers may overflow in between. So a tile with a result that is
not finite is summed again directly: every NaN and inf stands where the loops have it.

After: Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", CVPR 2016. The transforms: see `points`.
"""
from __future__ import annotations

from .direct import panel_width
from .gemm import aligned
from .jit import jit, keeping
from .simd import ALL_LEVELS, SECOND_LEVEL, prefetch_rows
from .simd_tiles import STEPS_AHEAD
from .simd_winograd import DOUT, INPUT, INPUT_2, INPUT_COLUMN, INPUT_ROW, INPUT_STEPS, POINTS, place_pixels, product_tile, spread
from .team import first_task, next_task
from .tiles import ROWS, ROWS_HALF, ROWS_SMALL, VECTOR_BYTES, VECTORS
from .winograd_filters import FILTER_CHANNELS, GRADIENT, ROW, SQUARE, SQUARE_2, SQUARE_5, STEPS, transform_panel
from .winograd_results import nearest, unpack_job, write_results

TAPS = 9                                     # of 3x3 filters
ELEMENTS = POINTS * POINTS                   # of a transformed square
V_BLOCK = 64                                 # channels of a tile in V that lie together,
V_PITCH = 80                                 # and from tile to tile: not at the same place of a page for many of them
STEPS_POINTS, STEPS_KINDS = 5, 4             # of an axis of a tile in steps, and of a filter: results share the last one

# ---------------------------------------------------------------- pixels
@jit
def load_pixels(src, at, plane, pixels, valid, window, to, places):
    """Pixels of `valid` planes to window[to + places[p]:], channels along the vector."""
    lanes = VECTOR_BYTES // src.itemsize
    if pixels < lanes:
        for p in range(pixels):
            place = to + places[p]
            for c in range(lanes):
                window[place + c] = src[at + min(c, valid - 1) * plane + p]
        return
    for p in range(0, pixels - lanes, lanes):
        prefetch_rows(0, src, at + p + lanes * plane, plane)
        place_pixels(valid, src, at + p, plane, window, to, places, p)
    place_pixels(valid, src, at + pixels - lanes, plane, window, to, places, pixels - lanes)


@jit
def load_tiles(form, src, base, image, plane, channels, H, W, top, left, images, rows, columns, step_h, step_w, edge_h, edge_w, window, places, V, row, block,
               step):
    """Transformed tiles of so many images, rows and columns of tiles: V (elements, V_BLOCKs of channels, tiles, channels), matrices `step`, blocks

    of channels `block` and tiles `row` elements apart.

    Tile (n, i, j) reads step_h + edge_h by step_w + edge_w pixels, from row top + step_h * i and column left + step_w * j of each channel's (H, W)
    on, zeros outside; images and channels are `image` and `plane` elements apart. Whole vectors of channels are written, the last channel
    for those that are missing. window: room for all pixels of one image's tiles; places: where those of whole rows go in it.
    """
    lanes = VECTOR_BYTES // src.itemsize
    tall, pitch = step_h * rows + edge_h, step_w * columns + edge_w
    h0, h1, w0, w1 = max(0, top), min(H, top + tall), max(0, left), min(W, left + pitch)
    start = ((h0 - top) * pitch + w0 - left) * lanes
    whole = w1 - w0 == W and places[W] == pitch * lanes
    if h1 - h0 < tall or w1 - w0 < pitch:
        window[:tall * pitch * lanes] = 0
    for c in range(0, channels, lanes):
        valid = min(lanes, channels - c)
        for n in range(images):
            at = base + n * image + c * plane
            if h0 < h1 and w0 < w1:
                if whole:
                    load_pixels(src, at + h0 * W, plane, (h1 - h0) * W, valid, window, start, places)
                else:
                    for h in range(h0, h1):
                        load_pixels(src, at + h * W + w0, plane, w1 - w0, valid, window, start + (h - h0) * pitch * lanes, places)
            to = c // V_BLOCK * block + c % V_BLOCK + n * rows * columns * row
            for i in range(rows):
                for j in range(columns):
                    corner = (step_h * i * pitch + step_w * j) * lanes
                    if form == SQUARE or form == SQUARE_5:
                        spread(INPUT, window, corner, pitch, V, to, step)
                    elif form == SQUARE_2:
                        spread(INPUT_2, window, corner, pitch, V, to, step)
                    elif form == STEPS:
                        spread(INPUT_STEPS, window, corner, pitch, V, to, step)
                    elif form == GRADIENT:
                        spread(DOUT, window, corner, pitch, V, to, step)
                    elif form == ROW:
                        spread(INPUT_ROW, window, corner, pitch, V, to, step)
                    else:
                        spread(INPUT_COLUMN, window, corner, pitch, V, to, step)
                    to += row


@jit
def multiply(tiles, height, vectors, keep, channels, V, at, v_block, U, u_at, M, m_at, m_row):
    """M[m_at + t * m_row:] (+)= the sum over the channels of V's tile t, from V[at] on, times U[u_at + c * panel:]; some rows too many are written.

    What follows in U is fetched: a few steps ahead, or, where two low tiles of rows read these numbers, half of the next ones at each of them,
    so that memory is as busy at the second as at the first.
    """
    t, panel = 0, vectors * VECTOR_BYTES // V.itemsize
    ahead, step = STEPS_AHEAD * panel, panel
    if height == ROWS_HALF < tiles <= 2 * ROWS_HALF and vectors == VECTORS:
        ahead, step = channels * panel, panel // 2
    while t < tiles:
        left, v_at, to = tiles - t, at + t * V_PITCH, m_at + t * m_row
        if vectors == 1:
            product_tile(ROWS, 1, ALL_LEVELS, V_PITCH, keep, channels, V_BLOCK, V, v_at, 1, v_block, U, u_at, M, to, m_row, ahead, step)
            t += ROWS
        elif left > ROWS_HALF and height == ROWS:
            product_tile(ROWS, VECTORS, ALL_LEVELS, V_PITCH, keep, channels, V_BLOCK, V, v_at, 1, v_block, U, u_at, M, to, m_row, ahead, step)
            t += ROWS
        elif left > ROWS_SMALL:
            product_tile(ROWS_HALF, VECTORS, SECOND_LEVEL, V_PITCH, keep, channels, V_BLOCK, V, v_at, 1, v_block, U, u_at, M, to, m_row, ahead, step)
            t += ROWS_HALF
            if step < panel:
                ahead += channels * step
        else:
            product_tile(ROWS_SMALL, VECTORS, ALL_LEVELS, V_PITCH, keep, channels, V_BLOCK, V, v_at, 1, v_block, U, u_at, M, to, m_row, ahead, step)
            t += ROWS_SMALL


@keeping
@jit
def tiles(first, last, src, weight, dst, bias, residual, job, table):
    """Tasks: a share of the filters of a block of tiles of one group; the share goes fastest.

    weight: U, and from raw_at on the weights as they are; raw_at negative: those are the residual, and no residual is added. fresh: they are
    `weight` too, and each task makes the U it needs. raw_group, raw_filter, raw_channel: their strides; turned: their taps are read backwards.
    table: what `sum_directly` looks up, and from `places` on the places of the pixels in the window of a block of whole rows.
    """
    (N, G, C, F, H, W, OH, OW, SH, SW, row0, column0, form, KH, KW, high, wide, elements, tiles_h, tiles_w, images, rows, columns, share, block, height, chunk,
     flags, v_block, v_step, m_row, m_step, panel_pad, group, raw_at, raw_group, raw_filter, raw_channel, turned, places, fresh) = unpack_job(job)
    lanes = VECTOR_BYTES // src.itemsize
    width = VECTORS * lanes
    kinds = STEPS_KINDS ** 2 if form == STEPS else elements  # numbers of a transformed filter
    chunks = (C + chunk - 1) // chunk
    step_h, step_w, edge_h, edge_w = SH * high, SW * wide, KH - SH, KW - SW
    shares, row_blocks, column_blocks = (F + share - 1) // share, (tiles_h + rows - 1) // rows, (tiles_w + columns - 1) // columns
    # One room for all: the allocator keeps it from call to call, where the pages of several would be given back and fetched anew.
    v_size, m_size, line_size = elements * v_step + ROWS * V_PITCH, elements * m_step, (high * wide * columns + lanes) * lanes
    window_size = (step_h * rows + edge_h) * (step_w * columns + edge_w) * lanes
    scratch_size = FILTER_CHANNELS * ((step_h + edge_h) * (step_w + edge_w) + KH * KW * lanes) + (high * wide + ROWS_HALF + lanes) * lanes
    V = aligned(v_size + m_size + line_size + window_size + scratch_size + (kinds * (chunk * width + panel_pad) if fresh else 0), src)
    M = V[v_size:]
    line = M[m_size:]
    window = line[line_size:]
    scratch = window[window_size:]
    U = scratch[scratch_size:] if fresh else weight
    at_hand = -1
    task, stop = first_task(first, last)
    while task < stop:
        first_f, b = task % shares * share, task // shares
        j0, t = b % column_blocks * columns, b // column_blocks
        i0, i1, t = nearest(t % row_blocks, tiles_h, row_blocks), nearest(t % row_blocks + 1, tiles_h, row_blocks), t // row_blocks
        g, n0 = t % G, t // G * images
        nn, ni, nj = min(images, N - n0), i1 - i0, min(columns, tiles_w - j0)
        if b != at_hand:
            at_hand = b
            load_tiles(form, src, (n0 * G + g) * C * H * W, G * C * H * W, H * W, C, H, W, step_h * i0 + row0, step_w * j0 + column0, nn, ni, nj,
                       step_h, step_w, edge_h, edge_w, window, table[places:], V, V_PITCH, v_block, v_step)
        last_f = min(first_f + share, F)
        for f0 in range(first_f, last_f, block):
            nf = min(block, last_f - f0)
            for f in range(0, nf, width):
                panel, at = panel_width(F - f0 - f, lanes), g * raw_group + (f0 + f) * raw_filter
                start = 0 if fresh else g * group + (f0 + f) // width * kinds * (C * width + panel_pad)
                for k in range(elements * chunks):           # of U that stands in memory, in that order
                    e, c = (k % elements, k // elements * chunk) if fresh else (k // chunks, k % chunks * chunk)
                    nc = min(chunk, C - c)
                    if fresh and e == 0:
                        transform_panel(form, weight, at + c * raw_channel, raw_filter, raw_channel, nc, KH * KW, F - f0 - f, panel, turned, table,
                                        places - KH * KW, scratch, U, 0, nc * panel + panel_pad)
                    kind = e if form != STEPS else STEPS_KINDS * min(e // STEPS_POINTS, STEPS_KINDS - 1) + min(e % STEPS_POINTS, STEPS_KINDS - 1)
                    u_at = start + (kind * (nc * panel + panel_pad) if fresh else kind * (C * panel + panel_pad) + c * panel)
                    multiply(nn * ni * nj, height, panel // lanes, c, nc, V, e * v_step + c // V_BLOCK * v_block, v_block, U, u_at, M, e * m_step + f, m_row)
            write_results(job, src, weight, dst, bias, residual, table, M, line, scratch, g, n0, nn, i0, ni, j0, nj, f0, nf)
        task, stop = next_task(task, stop, first, last)
