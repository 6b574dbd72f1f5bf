"""Winograd's convolution F(4x4, 3x3): 3x3 filters, stride 1, in tiles of 4x4 results with 36 multiplications for 144.

    input tile, 6x6 pixels of a channel   -> V, 36 numbers        transform of the pixels, B^T d B
    filter, 3x3 taps of a channel         -> U, 36 numbers        transform of the filter, G g G^T, once
    M[e] = V[e] U[e], e < 36                                      36 products of (tiles x channels) and (channels x filters) matrices
    M, 36 numbers of a tile and a filter  -> 4x4 results          transform of the result, A^T m A

One description serves the forward pass and the gradient to the input, which is the same with turned filters; the gradient to the weights is
in `winograd_weight`. A task is a block of filters of a block of tiles. Channels lie along the vectors of V, filters along those of U and M;
V and M stay in L2.

A NaN or inf in one pixel reaches all 16 results of its tile, and large numbers may overflow in between. So a tile with a result that is
not finite is summed again directly: every NaN and inf stands where the loops have it.

After: Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", CVPR 2016. The transforms: see `points`.
"""
from __future__ import annotations

from .direct import pack_panel, panel_width
from .gemm import aligned
from .jit import jit
from .simd_tiles import RELU, turn_block
from .simd_winograd import DOUT, FILTER, FORWARD, INPUT, OUTPUTS, POINTS, collect, place_pixels, product_tile, spread
from .tiles import ROWS, ROWS_HALF, ROWS_SMALL, VECTOR_BYTES, VECTORS

TAPS = 9
ELEMENTS = POINTS * POINTS                   # of a transformed tile
FILTER_CHANNELS = 32                         # of filters that are brought into vectors at a time

# The integers of a job, in this order.
JOB = ("N", "G", "C", "F", "H", "W", "OH", "OW", "row0", "column0", "tiles_h", "tiles_w", "images", "rows", "columns", "share", "filters", "height", "chunk",
       "relu", "v_row", "v_step", "m_row", "m_step", "panel_pad", "group", "raw_at", "raw_group", "raw_filter", "raw_channel", "turned")


@jit
def unpack_job(job):
    """The integers of JOB: C and F of one group; images, rows, columns: tiles of a block; share, filters: filters of a task, and of its M."""
    return (job[0], job[1], job[2], job[3], job[4], job[5], job[6], job[7], job[8], job[9], job[10], job[11], job[12], job[13], job[14], job[15],
            job[16], job[17], job[18], job[19], job[20], job[21], job[22], job[23], job[24], job[25], job[26], job[27], job[28], job[29], job[30])


# ---------------------------------------------------------------- filters
@jit
def transform(first, last, src, weight, dst, bias, residual, job, table):
    """U. Tasks: panels of filters of one group, as `panel_width` cuts them.

    job: C, F, panel_pad, elements of a group's U, then raw_group, raw_filter, raw_channel and turned of JOB. A panel is 36 times
    (C, panel), with panel_pad zeros behind each, or no two of the 36 streams that are written could stay in L1.
    """
    C, F, pad, group, raw_group, raw_filter, raw_channel, turned = job[0], job[1], job[2], job[3], job[4], job[5], job[6], job[7]
    lanes = VECTOR_BYTES // weight.itemsize
    width = VECTORS * lanes
    panels = (F + width - 1) // width
    taps = aligned((FILTER_CHANNELS * TAPS + lanes) * lanes, weight)
    for task in range(first, last):
        g, f0 = task // panels, task % panels * width
        panel = panel_width(F - f0, lanes)
        base = g * group + f0 // width * ELEMENTS * (C * width + pad)
        for e in range(ELEMENTS):
            dst[base + e * (C * panel + pad) + C * panel:base + (e + 1) * (C * panel + pad)] = 0
        for c0 in range(0, C, FILTER_CHANNELS):
            nc = min(FILTER_CHANNELS, C - c0)
            for v in range(0, panel, lanes):
                valid = min(lanes, F - f0 - v)
                at = g * raw_group + (f0 + v) * raw_filter + c0 * raw_channel
                if turned:
                    for c in range(nc):
                        for f in range(lanes):
                            source = weight[at + c * raw_channel + min(f, valid - 1) * raw_filter:]
                            target = taps[c * TAPS * lanes + f:]
                            for k in range(TAPS):
                                target[k * lanes] = source[TAPS - 1 - k]
                else:
                    pack_panel(weight, at, raw_filter, nc * TAPS, valid, lanes, taps, 0)
                for c in range(nc):
                    spread(FILTER, taps, c * TAPS * lanes, 3, dst, base + (c0 + c) * panel + v, C * panel + pad)


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
        place_pixels(valid, src, at + p, plane, window, to, places, p)
    place_pixels(valid, src, at + pixels - lanes, plane, window, to, places, pixels - lanes)


@jit
def load_tiles(src, base, image, plane, channels, H, W, top, left, images, rows, columns, edge, window, places, V, row, step):
    """Transformed tiles of so many images, rows and columns of tiles: V (36, tiles, channels), tiles `row` and matrices `step` elements apart.

    Tile (n, i, j) reads 4 + edge pixels squared, from row top + 4 i and column left + 4 j of each channel's (H, W) on, zeros outside; images
    and channels are `image` and `plane` elements apart. edge: 2 for pixels, 0 for gradients to results. Whole vectors of channels are written,
    the last channel for those that are missing. window: room for all pixels of one image's tiles; places: where those of whole rows go in it.
    """
    lanes = VECTOR_BYTES // src.itemsize
    high, pitch = OUTPUTS * rows + edge, OUTPUTS * columns + edge
    h0, h1, w0, w1 = max(0, top), min(H, top + high), max(0, left), min(W, left + pitch)
    start = ((h0 - top) * pitch + w0 - left) * lanes
    whole = w1 - w0 == W and places[W] == pitch * lanes
    if h1 - h0 < high or w1 - w0 < pitch:
        window[:high * pitch * lanes] = 0
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
            to = c + n * rows * columns * row
            for i in range(rows):
                for j in range(columns):
                    if edge:
                        spread(INPUT, window, OUTPUTS * (i * pitch + j) * lanes, pitch, V, to, step)
                    else:
                        spread(DOUT, window, OUTPUTS * (i * pitch + j) * lanes, pitch, V, to, step)
                    to += row


@jit
def multiply(tiles, height, vectors, keep, channels, V, at, v_row, U, u_at, M, m_at, m_row):
    """M[m_at + t * m_row:] (+)= the sum over the channels of V[at + t * v_row + c] * U[u_at + c * panel:]; some rows too many are written."""
    t = 0
    while t < tiles:
        left, v_at, to = tiles - t, at + t * v_row, m_at + t * m_row
        if vectors == 1:
            product_tile(ROWS, 1, keep, channels, V, v_at, v_row, U, u_at, M, to, m_row)
            t += ROWS
        elif left > ROWS_HALF and height == ROWS:
            product_tile(ROWS, VECTORS, keep, channels, V, v_at, v_row, U, u_at, M, to, m_row)
            t += ROWS
        elif left > ROWS_SMALL:
            product_tile(ROWS_HALF, VECTORS, keep, channels, V, v_at, v_row, U, u_at, M, to, m_row)
            t += ROWS_HALF
        else:
            product_tile(ROWS_SMALL, VECTORS, keep, channels, V, v_at, v_row, U, u_at, M, to, m_row)
            t += ROWS_SMALL


@jit
def sum_directly(src, plane_at, C, H, W, i0, j0, rows, columns, valid, weight, at, raw_filter, raw_channel, turned, target, to, pitch):
    """The results of one tile and one vector of filters by plain sums, for what the transforms cannot tell apart."""
    lanes = VECTOR_BYTES // src.itemsize
    for r in range(rows):
        for s in range(columns):
            for f in range(valid):
                total = src.dtype.type(0)
                for c in range(C):
                    part, taps = src.dtype.type(0), at + f * raw_filter + c * raw_channel
                    for k in range(TAPS):
                        h, w = i0 + r + k // 3, j0 + s + k % 3
                        if 0 <= h < H and 0 <= w < W:
                            part += src[plane_at + (c * H + h) * W + w] * weight[taps + (TAPS - 1 - k if turned else k)]
                    total += part
                target[to + (r * pitch + s) * lanes + f] = total


@jit
def tiles(first, last, src, weight, dst, bias, residual, job, table):
    """Tasks: a share of the filters of a block of tiles of one group; the share goes fastest.

    weight: U, and from raw_at on the weights as they are; raw_at negative: those are the residual, and no residual is added. raw_group,
    raw_filter, raw_channel: their strides; turned: their taps are read backwards. table: the places of the pixels in the window of a
    block of whole rows.
    """
    (N, G, C, F, H, W, OH, OW, row0, column0, tiles_h, tiles_w, images, rows, columns, share, block, height, chunk, relu, v_row, v_step, m_row, m_step,
     panel_pad, group, raw_at, raw_group, raw_filter, raw_channel, turned) = unpack_job(job)
    lanes = VECTOR_BYTES // src.itemsize
    width = VECTORS * lanes
    shares, row_blocks, column_blocks = (F + share - 1) // share, (tiles_h + rows - 1) // rows, (tiles_w + columns - 1) // columns
    window = aligned((OUTPUTS * rows + 2) * (OUTPUTS * columns + 2) * lanes, src)
    V = aligned(ELEMENTS * v_step + ROWS * v_row, src)
    M = aligned(ELEMENTS * m_step, src)
    line = aligned((OUTPUTS * OUTPUTS * columns + lanes) * lanes, src)
    at_hand = -1
    for task in range(first, last):
        first_f, b = task % shares * share, task // shares
        j0, t = b % column_blocks * columns, b // column_blocks
        i0, t = t % row_blocks * rows, t // row_blocks
        g, n0 = t % G, t // G * images
        nn, ni, nj = min(images, N - n0), min(rows, tiles_h - i0), min(columns, tiles_w - j0)
        count, top, left = nn * ni * nj, OUTPUTS * i0 + row0, OUTPUTS * j0 + column0
        if b != at_hand:
            at_hand = b
            load_tiles(src, (n0 * G + g) * C * H * W, G * C * H * W, H * W, C, H, W, top, left, nn, ni, nj, 2, window, table, V, v_row, v_step)
        last_f = min(first_f + share, F)
        for f0 in range(first_f, last_f, block):
            nf = min(block, last_f - f0)
            for f in range(0, nf, width):        # U in the order in which it stands in memory
                panel, u_at = panel_width(F - f0 - f, lanes), g * group + (f0 + f) // width * ELEMENTS * (C * width + panel_pad)
                for e in range(ELEMENTS):
                    for c in range(0, C, chunk):
                        multiply(count, height, panel // lanes, c, min(chunk, C - c), V, e * v_step + c, v_row, weight, u_at + c * panel,
                                 M, e * m_step + f, m_row)
                    u_at += C * panel + panel_pad
            pixels = min(OUTPUTS * nj, OW - OUTPUTS * j0)        # of one row
            for f in range(0, nf, lanes):
                valid, channel = min(lanes, nf - f), g * F + f0 + f
                for n in range(nn):
                    for i in range(ni):
                        done = min(OUTPUTS, OH - OUTPUTS * (i0 + i))
                        for j in range(nj):
                            t, ends = (n * ni + i) * nj + j, min(OUTPUTS, OW - OUTPUTS * (j0 + j))
                            if collect(FORWARD, M, t * m_row + f, m_step, line, OUTPUTS * j * lanes, pixels, done, ends):
                                sum_directly(src, ((n0 + n) * G + g) * C * H * W, C, H, W, top + OUTPUTS * i, left + OUTPUTS * j, done, ends, valid,
                                             residual if raw_at < 0 else weight, max(0, raw_at) + g * raw_group + (f0 + f) * raw_filter, raw_filter,
                                             raw_channel, turned, line, OUTPUTS * j * lanes, pixels)
                        place = (((n0 + n) * G * F + channel) * OH + OUTPUTS * (i0 + i)) * OW + OUTPUTS * j0
                        runs, run = (1, done * OW) if pixels == OW else (done, pixels)
                        for r in range(runs):
                            for p in range(0, run, lanes):
                                here = place + r * OW + p
                                turn_block(min(lanes, run - p), valid, RELU if relu else 0, line, (r * pixels + p) * lanes, lanes, bias,
                                           channel if bias.size else -1, residual, here if residual.size and raw_at >= 0 else -1, dst, here, OH * OW)
