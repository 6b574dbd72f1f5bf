"""Strassen's matrix product for convolutions of one tap: seven products of quarters of the matrices instead of eight.

The result Y = A B of the weights A, filters x channels, and the pixels B, channels x pixels, each cut into quarters: filters f and f + half, channels c and
c + half, pixels p and p + half of a block. In Winograd's form, with fifteen sums:

    S1 = A21 + A22    S2 = S1 - A11     S3 = A11 - A21    S4 = A12 - S2        of the weights, once
    T1 = B12 - B11    T2 = B22 - T1     T3 = B22 - B12    T4 = T2 - B21        of the pixels, for a block of them
    P1 = A11 B11      P2 = A12 B21      P3 = S4 B22       P4 = A22 T4          P5 = S1 T1      P6 = S2 T2      P7 = S3 T3
    U2 = P1 + P6      U3 = U2 + P7
    Y11 = P1 + P2     Y12 = U2 + P5 + P3                  Y21 = U3 - P4        Y22 = U3 + P5

A task is a block of pixels and a share of the filters. The sums T, in panels of ROWS pixels, and the results of one panel of filters and its other half stay
in L2; each product is added to what the register tile of the last one left, and so are U2, U3 and Y. Then the results are turned into place.

A NaN or inf in a pixel or weight reaches other results than its own, and large numbers may overflow in the sums; but where the loops have a number that
is not finite, so have the sums. So a tile with a result that is not finite is summed again directly: every NaN and inf stands where the loops have it.

After: Strassen, "Gaussian Elimination is Not Optimal", Numerische Mathematik 1969, in the form of Winograd; see Higham, "Accuracy and Stability of
Numerical Algorithms", 2002, chapter 23.
"""
from __future__ import annotations

import numpy as np

from .direct import pack_panel
from .gemm import aligned
from .jit import jit, keeping
from .past import rows_past
from .simd import LINE_BYTES, copy_row, integers, lanes_of, one_of, settle
from .simd_strassen import B11, B21, B22, FETCH, QUARTERS, T1, T2, T3, T4, quarter_tile, sum_quarters
from .simd_tiles import KEEP, gather_tile, turn_block
from .team import first_task, next_task
from .tiles import ROWS, ROWS_HALF, VECTORS
from .window import load_window

# The integers of a job, in this order.
JOB = ("N", "G", "C", "F", "H", "W", "OH", "OW", "step_h", "step_w", "in_place", "rows", "share", "chunk", "flags", "group", "raw_at", "raw_group",
       "raw_filter", "raw_channel")
SIZES = len(JOB)
CHANNELS = 64                                # of weights that are brought into panels at a time
RESULTS = 4                                  # quarters of the result, the first four places of sums; where sums are chunked, one more for each product

# The products, in the order in which they are made: what of the pixels, then places of sums: what is added, where it goes, and where it is added to as well,
# -1 for none; and whether it completes results. P1, P6 (U2), P2 (Y11), P7 (U3), P3, P4 (Y21), P5 (Y22, Y12).
STEPS = np.array([[B11, -1, 0, -1, 0], [T2, 0, 1, -1, 0], [B21, 0, 0, -1, 1], [T3, 1, 3, -1, 0], [B22, 1, 1, -1, 0], [T4, 3, 2, -1, 1], [T1, 3, 3, 1, 1]])


# ---------------------------------------------------------------- weights
@jit
def load_panel(weight, at, raw_filter, raw_channel, channels, filters, panel, target, to):
    """target[to + c * panel + f] = weight[at + f * raw_filter + c * raw_channel]; zeros where there are no filters."""
    if raw_channel == 1:
        pack_panel(weight, at, raw_filter, channels, filters, panel, target, to)
        return
    for c in range(channels):
        line = to + c * panel
        target[line:line + panel] = 0
        copy_row(1, weight, at + c * raw_channel, target, line, max(0, min(panel, filters)))


@jit
def pack(first, last, src, weight, dst, bias, residual, job, table):
    """The weights' matrices of the seven products. Tasks: pairs of panels of one group: QUARTERS times (half of the channels, panel)."""
    N, G, C, F, H, W, OH, OW, step_h, step_w, in_place, rows, share, chunk, flags, group, raw_at, raw_group, raw_filter, raw_channel = integers(SIZES, job)
    lanes = lanes_of(weight)
    width, K, half = VECTORS * lanes, (C + 1) // 2, (F + 1) // 2
    panels, size = (half + width - 1) // width, CHANNELS * width
    room = aligned(4 * size, weight)
    for task in range(first, last):
        g, f0 = task // panels, task % panels * width
        to = g * group + f0 * QUARTERS * K
        for c0 in range(0, K, CHANNELS):
            nc = min(CHANNELS, K - c0)
            for q in range(4):
                f, c, end = q // 2 * half + f0, q % 2 * K + c0, F if q // 2 else half
                valid = max(0, min(nc, C - c))
                room[q * size + valid * width:(q + 1) * size] = 0
                load_panel(weight, g * raw_group + f * raw_filter + c * raw_channel, raw_filter, raw_channel, valid, min(width, end - f), width, room, q * size)
            begin, n, step = to + c0 * width, nc * width, K * width
            a11, a12, a21, a22 = room[:n], room[size:size + n], room[2 * size:2 * size + n], room[3 * size:3 * size + n]
            one, six, two, seven = dst[begin:], dst[begin + step:], dst[begin + 2 * step:], dst[begin + 3 * step:]
            three, four, five = dst[begin + 4 * step:], dst[begin + 5 * step:], dst[begin + 6 * step:]
            for i in range(n):
                s1 = a21[i] + a22[i]
                s2 = s1 - a11[i]
                one[i], six[i], two[i], seven[i], three[i], four[i], five[i] = a11[i], s2, a12[i], a11[i] - a21[i], a12[i] - s2, a22[i], s1


# ---------------------------------------------------------------- products
@jit
def sum_directly(src, at, plane, C, W, OW, step_h, step_w, pixel, valid, weight, raw, raw_filter, raw_channel, filters, room, offsets, target, to):
    """The results of up to ROWS pixels and a panel of filters by plain sums, for what the sums of quarters cannot tell apart."""
    width = VECTORS * lanes_of(src)
    for r in range(valid):
        p = pixel + r
        offsets[r] = p // OW * step_h * W + p % OW * step_w
    offsets[ROWS] = 0
    for c0 in range(0, C, CHANNELS):
        nc = min(CHANNELS, C - c0)
        load_panel(weight, raw + c0 * raw_channel, raw_filter, raw_channel, nc, filters, width, room, 0)
        gather_tile(ROWS, VECTORS, 0, valid, KEEP if c0 else 0, nc, plane, 1, src, at + c0 * plane, offsets, 0, offsets, ROWS, room, 0, target, to, width)


@keeping
@jit
def results(first, last, src, weight, dst, bias, residual, job, table):
    """Tasks: a share of the pairs of panels of filters of a block of rows of one group of one image; the share goes fastest.

    weight: what `pack` made, and from raw_at on the weights as they are; raw_at negative: those are the residual, and no residual is added.
    in_place: all pixels of the image are those of the result, one behind the other, and there is an even number of channels.
    """
    N, G, C, F, H, W, OH, OW, step_h, step_w, in_place, rows, share, chunk, flags, group, raw_at, raw_group, raw_filter, raw_channel = integers(SIZES, job)
    lanes = lanes_of(src)
    width, pitch, line = VECTORS * lanes, (ROWS + lanes - 1) // lanes * lanes, LINE_BYTES // src.itemsize
    K, half = (C + 1) // 2, (F + 1) // 2
    shares, blocks = (half + share - 1) // share, (OH + rows - 1) // rows
    most = ((rows * OW + 1) // 2 + ROWS - 1) // ROWS         # tiles of half a block
    tile_step = K * pitch + line             # no two streams that are written begin at the same place of a page
    step, place = most * tile_step, most * ROWS * width
    t_size, s_size = QUARTERS * step, (RESULTS + (QUARTERS if chunk < K else 0)) * place
    window_size = 0 if in_place else 2 * K * rows * OW + lanes
    T = aligned(t_size + s_size + CHANNELS * width + window_size, src)       # one room for all: the allocator keeps it from call to call
    S = T[t_size:]
    room = S[s_size:]
    window = room[CHANNELS * width:]
    pixels_of, offsets, at_hand = one_of(in_place, src, window), np.empty(ROWS + 1, np.int64), -1
    added, past = residual.size > 0 and raw_at >= 0, rows_past(flags, dst, OH * OW)
    task, stop = first_task(first, last)
    while task < stop:
        f0, b = task % shares * share, task // shares
        i0, t = b % blocks * rows, b // blocks
        g, n = t % G, t // G
        base, ni = (n * G + g) * C * H * W, min(rows, OH - i0)
        pixels = ni * OW
        left = (pixels + 1) // 2
        tiles, columns = (left + ROWS - 1) // ROWS, left // line + 2
        if b != at_hand:
            at_hand = b
            at, plane = base + i0 * OW, H * W
            if not in_place:
                load_window(src, base, C, H, W, i0 * step_h, step_h, ni, 0, OW, step_w, 1, window)
                at, plane = 0, pixels
                window[C * pixels:2 * K * pixels] = 0
            sum_quarters(left, pixels - left, K, pixels_of, at, at + left, at + K * plane, at + K * plane + left, plane, T, 0, tile_step, step)
        for f in range(f0, min(f0 + share, half), width):
            u_at, fetched = g * group + f * QUARTERS * K, 0
            for k0 in range(0, K, chunk):
                nk = min(chunk, K - k0)
                final, many = k0 + nk == K, max(1, nk // FETCH)
                for q in range(QUARTERS):
                    part, given, to, also, check = STEPS[q, 0], STEPS[q, 1], STEPS[q, 2], STEPS[q, 3], STEPS[q, 4]
                    before = RESULTS + q if k0 else -1
                    if not final:
                        given, to, also, check = -1, RESULTS + q, -1, 0
                    b_at = u_at + (q * K + k0) * width
                    corner = ((n * G + g) * F + q // 2 * half + f) * OH * OW + i0 * OW + q % 2 * left         # of quarter q of the result, q < RESULTS
                    for t in range(tiles):
                        # What a tile fetches: lines of the result, of the residual, of the next panel's weights, twice `chunk` of them for each product.
                        ahead, ahead_step, ahead_block = T.ctypes.data, 0, 0
                        column = t * many
                        if k0 == 0 and q < RESULTS and column < columns and not past:
                            ahead, ahead_step, ahead_block = dst.ctypes.data + (corner + column * line) * src.itemsize, OH * OW * src.itemsize, LINE_BYTES
                        elif fetched < 2 * QUARTERS * K:
                            ahead = weight.ctypes.data + (u_at + QUARTERS * K * width) * src.itemsize + fetched * LINE_BYTES
                            ahead_step, ahead_block = LINE_BYTES, FETCH * LINE_BYTES
                            fetched += nk
                        here = t * ROWS * width
                        a_at = part * step + t * tile_step + k0 * pitch
                        old = before * place + here if before >= 0 else -1
                        add, go, other = given * place + here if given >= 0 else -1, to * place + here, also * place + here if also >= 0 else -1
                        if left - t * ROWS > ROWS_HALF:
                            odd = quarter_tile(ROWS, VECTORS, nk, T, a_at, weight, b_at, S, old, add, go, other, check, ahead, ahead_step, ahead_block)
                        else:
                            odd = quarter_tile(ROWS_HALF, VECTORS, nk, T, a_at, weight, b_at, S, old, add, go, other, check, ahead, ahead_step, ahead_block)
                        for quarter in range(RESULTS if odd else 0):
                            low, right = quarter // 2, quarter % 2
                            valid = min(ROWS, (pixels - left if right else left) - t * ROWS)
                            if (quarter == to or quarter == also) and valid > 0:
                                sum_directly(src, base, H * W, C, W, OW, step_h, step_w, i0 * OW + right * left + t * ROWS, valid,
                                             residual if raw_at < 0 else weight, max(0, raw_at) + g * raw_group + (low * half + f) * raw_filter, raw_filter,
                                             raw_channel, min(width, (F if low else half) - low * half - f), room, offsets, S, quarter * place + here)
            for quarter in range(RESULTS):
                low, right = quarter // 2, quarter % 2
                count, end = pixels - left if right else left, F if low else half
                for v in range(low * half + f, min(end, low * half + f + width), lanes):
                    channel, valid = g * F + v, min(lanes, end - v)
                    to, here = quarter * place + v - low * half - f, (n * G * F + channel) * OH * OW + i0 * OW + right * left
                    for p in range(0, count, lanes):
                        turn_block(min(lanes, count - p), valid, flags, S, to + p * width, width, bias, channel if bias.size else -1,
                                   residual, here + p if added else -1, dst, here + p, OH * OW)
        task, stop = next_task(task, stop, first, last)
    settle(past)
