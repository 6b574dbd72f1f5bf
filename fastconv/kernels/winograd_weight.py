"""Winograd's gradient to the weights, F(3x3, 4x4): the gradients to 4x4 results are the filter, and the 3x3 taps what comes out.

    tile of x, 6x6 pixels of a channel        -> V, 36 numbers    transform of the pixels, B^T d B
    tile of dout, 4x4 gradients of a filter   -> Y, 36 numbers    transform of the gradients, G d G^T
    M[e] = V[e]^T Y[e], e < 36                                    36 products of (channels x tiles) and (tiles x filters) matrices
    M, 36 numbers of a channel and a filter   -> 3x3 taps         transform of the sums, A^T m A

The sum over the tiles is within the products, so the last transform is done once for all tiles: 36 multiplications for 144 as in the forward
pass. Channels lie along the vectors of V, filters along those of Y and M. Whether a result is finite is the caller's to look at.

After: Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", CVPR 2016. The transforms: see `points`.
"""
from __future__ import annotations

from .direct import panel_width
from .gemm import aligned
from .jit import jit, keeping
from .simd import ALL_LEVELS, integers
from .simd_tiles import KEEP, turn_block
from .simd_winograd import OUTPUTS, WEIGHT, collect, product_tile
from .team import first_task, next_task
from .tiles import ROWS, ROWS_HALF, ROWS_SMALL, VECTOR_BYTES, VECTORS
from .winograd import ELEMENTS, TAPS, V_BLOCK, load_tiles
from .winograd_filters import GRADIENT, SQUARE

# The integers of a job, in this order.
JOB = ("N", "G", "C", "F", "H", "W", "OH", "OW", "row0", "column0", "tiles_h", "tiles_w", "images", "rows", "columns", "first_block", "blocks", "parts",
       "channels", "filters", "v_row", "v_step", "y_step", "m_step", "dout_places")
SIZES = len(JOB)


@jit
def unpack_job(job):
    """The integers of JOB: C and F of one group; images, rows, columns of a block of tiles; blocks of this round; channels and filters of a task."""
    return integers(SIZES, job)


@jit
def multiply(channels, panel, keep, tiles, V, at, v_row, Y, y_at, M, m_at, ahead):
    """M[m_at + c * panel:] (+)= the sum over the tiles of V[at + t * v_row + c] * Y[y_at + t * panel:]; some channels too many are written.

    What is multiplied next, `ahead` elements further in Y, is fetched.
    """
    c, one = 0, panel < VECTORS * VECTOR_BYTES // V.itemsize
    while c < channels:
        left, v_at, to = channels - c, at + c, m_at + c * panel
        if one:
            product_tile(ROWS, 1, ALL_LEVELS, 1, keep, tiles, tiles, V, v_at, v_row, 0, Y, y_at, M, to, panel, ahead, panel)
            c += ROWS
        elif left > ROWS_HALF:
            product_tile(ROWS, VECTORS, ALL_LEVELS, 1, keep, tiles, tiles, V, v_at, v_row, 0, Y, y_at, M, to, panel, ahead, panel)
            c += ROWS
        elif left > ROWS_SMALL:
            product_tile(ROWS_HALF, VECTORS, ALL_LEVELS, 1, keep, tiles, tiles, V, v_at, v_row, 0, Y, y_at, M, to, panel, ahead, panel)
            c += ROWS_HALF
        else:
            product_tile(ROWS_SMALL, VECTORS, ALL_LEVELS, 1, keep, tiles, tiles, V, v_at, v_row, 0, Y, y_at, M, to, panel, ahead, panel)
            c += ROWS_SMALL


@keeping
@jit
def weights(first, last, src, weight, dst, bias, residual, job, table):
    """Tasks: a block of filters and a block of channels of one group, over one part of the round's blocks of tiles; channels go fastest.

    src: x; weight: dout; dst: (parts, G * F, C, 3, 3). table: where the pixels of whole rows of x, and from `dout_places` on of dout, go in
    a window.
    """
    (N, G, C, F, H, W, OH, OW, row0, column0, tiles_h, tiles_w, images, rows, columns, first_block, blocks, parts, channels, filters, v_row, v_step,
     y_step, m_step, dout_places) = unpack_job(job)
    lanes = VECTOR_BYTES // src.itemsize
    width = VECTORS * lanes
    c_blocks, f_blocks, row_blocks, column_blocks = -(-C // channels), -(-F // filters), -(-tiles_h // rows), -(-tiles_w // columns)
    panels = -(-filters // width)
    window = aligned((OUTPUTS * rows + 2) * (OUTPUTS * columns + 2) * lanes, src)
    V, Y, M = aligned(ELEMENTS * v_step + ROWS, src), aligned(panels * ELEMENTS * y_step, src), aligned(panels * ELEMENTS * m_step, src)
    line = aligned((channels * TAPS + lanes) * lanes, src)
    for k in range(V.size):                  # only so that no forgotten denormal slows the products down
        V[k] = 0
    v_at_hand = y_at_hand = -1
    task, stop = first_task(first, last)
    while task < stop:
        c0, t = task % c_blocks * channels, task // c_blocks
        f0, t = t % f_blocks * filters, t // f_blocks
        g, part = t % G, t // G
        nc, nf = min(channels, C - c0), min(filters, F - f0)
        begin, end = first_block + part * blocks // parts, first_block + (part + 1) * blocks // parts
        for block in range(begin, end):
            j0, t = block % column_blocks * columns, block // column_blocks
            i0, n0 = t % row_blocks * rows, t // row_blocks * images
            nn, ni, nj = min(images, N - n0), min(rows, tiles_h - i0), min(columns, tiles_w - j0)
            v_here, y_here = (block * G + g) * C + c0, (block * G + g) * F + f0
            if v_here != v_at_hand:
                load_tiles(SQUARE, src, ((n0 * G + g) * C + c0) * H * W, G * C * H * W, H * W, nc, H, W, OUTPUTS * i0 + row0, OUTPUTS * j0 + column0, nn, ni,
                           nj, OUTPUTS, OUTPUTS, 2, 2, window, table, V, v_row, V_BLOCK, v_step)
            for f in range(0, nf, width):
                panel, q = panel_width(nf - f, lanes), f // width * ELEMENTS
                if y_here != y_at_hand:
                    load_tiles(GRADIENT, weight, ((n0 * G + g) * F + f0 + f) * OH * OW, G * F * OH * OW, OH * OW, min(panel, nf - f), OH, OW, OUTPUTS * i0,
                               OUTPUTS * j0, nn, ni, nj, OUTPUTS, OUTPUTS, 0, 0, window, table[dout_places:], Y[q * y_step:], panel, 0, y_step)
                for e in range(ELEMENTS):
                    multiply(nc, panel, KEEP if block > begin else 0, nn * ni * nj, V, e * v_step, v_row, Y, (q + e) * y_step, M, (q + e) * m_step, y_step)
            v_at_hand, y_at_hand = v_here, y_here
        for f in range(0, nf, lanes):
            panel, valid = panel_width(nf - f // width * width, lanes), min(lanes, nf - f)
            for c in range(nc):
                collect(WEIGHT, M, f // width * ELEMENTS * m_step + c * panel + f % width, m_step, line, c * TAPS * lanes, 3, 3, 3)
            place = (((part * G + g) * F + f0 + f) * C + c0) * TAPS
            for p in range(0, nc * TAPS, lanes):
                turn_block(min(lanes, nc * TAPS - p), valid, 0, line, p * lanes, lanes, bias, -1, residual, -1, dst, place + p, C * TAPS)
        task, stop = next_task(task, stop, first, last)
