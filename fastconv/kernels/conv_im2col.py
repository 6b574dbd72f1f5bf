"""Convolution as a matrix product over blocks of the patch matrix: forward, gradient to the input, gradient to the weights.

    forward         y    (F x P)  = W   (F x K) . patches (K x P)            K = C / G * KH * KW,  P = OH * OW, for each image and group
    to the input    cols (K x P)  = W^T (K x F) . dout    (F x P),  then col2im adds the columns into dx
    to the weights  dW   (F x K)  = dout (F x P) . patches^T (P x K),  summed over the batch

The patch matrix is never whole: a task packs one block of it, small enough for the L2 cache, and multiplies it at once. Tasks write
to places of their own and every sum runs in an order given by the blocks, so neither the number of threads nor their timing can show.
`blocks` is the int64 array that each docstring lists; blocking/im2col.py chooses it. The kernels have the signature of `tasks`: blocks is their
table, the geometry their job.
"""
from __future__ import annotations

import numpy as np

from .gemm import ROWS, aligned, multiply, pack_a, pack_b_transposed, packed_rows, transpose_into, width_of
from .geometry import outputs_of, unpack
from .im2col import add_patch_row, pack_patch_panels, pack_patches, pack_patches_transposed
from .jit import jit
from .rows import copy_strided
from .simd import copy_vectors
from .tiles import VECTORS


@jit
def round_up(n, multiple):
    return (n + multiple - 1) // multiple * multiple


# ---------------------------------------------------------------- weights
@jit(inline=True)
def pack_weight_rows(t, weight, packed, geometry, f_blocks):
    """Task t packs filter block t % f_blocks of group t // f_blocks: the A of the forward product, (F/G x K) for each group."""
    N, C, H, W, F, OH, OW, KH, KW, SH, SW, PT, PL, DH, DW, G = unpack(geometry)
    FG, K = F // G, C // G * KH * KW
    g, block = t // f_blocks, t % f_blocks
    size = round_up((FG + f_blocks - 1) // f_blocks, ROWS)
    f0 = min(block * size, FG)
    rows = min(size, FG - f0)
    pack_a(weight.reshape(-1), (g * FG + f0) * K, rows, K, K, 1, packed, (g * packed_rows(FG) + f0) * K)


@jit
def pack_weight(first, last, src, weight, dst, bias, residual, geometry, blocks):
    """Tasks: the blocks of ROWS filters of every group, packed into dst."""
    f_blocks = (geometry[4] // geometry[15] + ROWS - 1) // ROWS
    for t in range(first, last):
        pack_weight_rows(t, weight, dst, geometry, f_blocks)


# ---------------------------------------------------------------- forward
@jit(inline=True)
def forward_place(t, G, FG, P, f_size, p_size):
    """What task t of the forward pass makes: n, g, filters f0 .. f1 of that group, pixels p0 .. p1."""
    f_blocks, p_blocks = (FG + f_size - 1) // f_size, (P + p_size - 1) // p_size
    f0, t = t % f_blocks * f_size, t // f_blocks
    p0, t = t % p_blocks * p_size, t // p_blocks
    return t // G, t % G, f0, min(FG, f0 + f_size), p0, min(P, p0 + p_size)


@jit(inline=True)
def forward_block(t, x, weight, packed, bias, y, geometry, blocks):
    """Task t: f_size filters of one group at p_size output pixels of one image. blocks: k_size, p_size, f_size, turned.

    packed: all of the weights, or empty: then the task packs those it needs, as it needs them.
    """
    N, C, H, W, F, OH, OW, KH, KW, SH, SW, PT, PL, DH, DW, G = unpack(geometry)
    k_size, p_size, f_size = blocks[0], blocks[1], blocks[2]
    CG, FG, P = C // G, F // G, OH * OW
    K = CG * KH * KW
    n, g, f0, f1, p0, p1 = forward_place(t, G, FG, P, f_size, p_size)
    xf, wf, yf, width = x.reshape(-1), weight.reshape(-1), y.reshape(-1), width_of(x)
    y_at = (n * F + g * FG + f0) * P + p0
    for f in range(f1 - f0):
        yf[y_at + f * P:y_at + f * P + p1 - p0] = bias[g * FG + f0 + f] if bias.size else 0
    columns = round_up(p1 - p0, width)
    patches, line, edge = aligned(min(K, k_size) * columns, x), aligned(columns, x), aligned(ROWS * width, x)
    a = packed if packed.size else aligned(packed_rows(f1 - f0) * min(K, k_size), x)
    for k0 in range(0, K, k_size):
        k1 = min(K, k0 + k_size)
        pack_patches(xf, (n * C + g * CG) * H * W, geometry, k0, k1, p0, p1, patches, line)
        a_at, depth, offset = (g * packed_rows(FG) + f0) * K, K, k0
        if packed.size == 0:
            pack_a(wf, (g * FG + f0) * K + k0, f1 - f0, K, k1 - k0, 1, a, 0)
            a_at, depth, offset = 0, k1 - k0, 0
        multiply(f1 - f0, p1 - p0, 1, k1 - k0, a, a_at, depth, offset, patches, k1 - k0, yf, y_at, P, edge)


@jit(inline=True)
def forward_block_turned(t, x, weight, bias, y, geometry, blocks):
    """The same task with the product turned around, y^T (P x F) = patches^T . W^T: for images of few pixels, which fill a tile's rows better
    than its vectors. The task packs the weights it needs."""
    N, C, H, W, F, OH, OW, KH, KW, SH, SW, PT, PL, DH, DW, G = unpack(geometry)
    k_size, p_size, f_size = blocks[0], blocks[1], blocks[2]
    CG, FG, P = C // G, F // G, OH * OW
    K = CG * KH * KW
    n, g, f0, f1, p0, p1 = forward_place(t, G, FG, P, f_size, p_size)
    xf, wf, width, filters = x.reshape(-1), weight.reshape(-1), width_of(x), f1 - f0
    columns, depth = round_up(filters, width), min(K, k_size)
    patches, line = aligned(packed_rows(p1 - p0) * depth, x), aligned(round_up(p1 - p0, ROWS), x)
    b, edge, turned = aligned(depth * columns, x), aligned(ROWS * width, x), aligned((p1 - p0) * columns, x)
    for p in range(p1 - p0):
        for f in range(filters):
            turned[p * columns + f] = bias[g * FG + f0 + f] if bias.size else 0
        turned[p * columns + filters:(p + 1) * columns] = 0
    for k0 in range(0, K, k_size):
        k1 = min(K, k0 + k_size)
        pack_patch_panels(xf, (n * C + g * CG) * H * W, geometry, k0, k1, p0, p1, patches, line)
        pack_b_transposed(wf, (g * FG + f0) * K + k0, filters, K, k1 - k0, b)
        multiply(p1 - p0, columns, 1, k1 - k0, patches, 0, k1 - k0, 0, b, k1 - k0, turned, 0, columns, edge)
    transpose_into(turned, columns, p1 - p0, filters, y.reshape(-1), (n * F + g * FG + f0) * P + p0, P)


@jit
def forward(first, last, src, weight, dst, bias, packed, geometry, blocks):
    """Tasks: blocks of y (dst) from x (src); packed: the weights as `pack_weight` left them, or empty."""
    for t in range(first, last):
        forward_block(t, src, weight, packed, bias, dst, geometry, blocks)


@jit
def forward_turned(first, last, src, weight, dst, bias, residual, geometry, blocks):
    """The same tasks, turned around."""
    for t in range(first, last):
        forward_block_turned(t, src, weight, bias, dst, geometry, blocks)


# ---------------------------------------------------------------- gradient to the input
@jit(inline=True)
def pack_transposed_block(t, weight, packed, geometry, c_size):
    """Task t packs W^T for one block of c_size channels of one group: the A of the gradient to the input, (c_size * KH * KW x F/G)."""
    N, C, H, W, F, OH, OW, KH, KW, SH, SW, PT, PL, DH, DW, G = unpack(geometry)
    CG, FG, T = C // G, F // G, KH * KW
    c_blocks = (CG + c_size - 1) // c_size
    g, c0 = t // c_blocks, t % c_blocks * c_size
    rows = min(c_size, CG - c0) * T
    pack_a(weight.reshape(-1), (g * FG * CG + c0) * T, rows, 1, FG, CG * T, packed, t * packed_rows(c_size * T) * FG)


@jit(inline=True)
def input_block(t, dout, packed, dx, geometry, blocks):
    """Task t: one band of rows of c_size channels of dx. blocks: f_size, p_size, c_size, bands, k_size (rows of one column block)."""
    N, C, H, W, F, OH, OW, KH, KW, SH, SW, PT, PL, DH, DW, G = unpack(geometry)
    f_size, p_size, c_size, bands, k_size = blocks[0], blocks[1], blocks[2], blocks[3], blocks[4]
    CG, FG, P, T = C // G, F // G, OH * OW, KH * KW
    c_blocks = (CG + c_size - 1) // c_size
    band, t = t % bands, t // bands
    block, t = t % c_blocks, t // c_blocks
    g, n = t % G, t // G
    c0 = block * c_size
    channels = min(c_size, CG - c0)
    h0, h1 = band * H // bands, (band + 1) * H // bands
    df, xf, width = dout.reshape(-1), dx.reshape(-1), width_of(dout)
    plane = (n * C + g * CG + c0) * H * W
    for c in range(channels):
        xf[plane + c * H * W + h0 * W:plane + c * H * W + h1 * W] = 0
    first, last = outputs_of(h0, h1, KH, SH, PT, DH, OH)
    columns = round_up(min(p_size, max(0, last - first) * OW), width)
    a_at = (g * c_blocks + block) * packed_rows(c_size * T) * FG
    b, edge = aligned(min(FG, f_size) * columns, dout), aligned(ROWS * width, dout)
    cols = aligned(min(k_size, channels * T) * columns, dout)
    for p0 in range(first * OW, last * OW, p_size):
        p1 = min(last * OW, p0 + p_size)
        for k0 in range(0, channels * T, k_size):
            rows = min(k_size, channels * T - k0)
            for f0 in range(0, FG, f_size):
                f1 = min(FG, f0 + f_size)
                pack_rows(df, (n * F + g * FG + f0) * P + p0, P, f1 - f0, p1 - p0, b)
                multiply(rows, p1 - p0, 1 if f0 else 0, f1 - f0, packed, a_at + k0 * FG, FG, f0, b, f1 - f0, cols, 0, columns, edge)
            for k in range(rows):
                c, kh, kw = (k0 + k) // T, (k0 + k) // KW % KH, (k0 + k) % KW
                add_patch_row(cols, k * columns, p0, p1, xf, plane + c * H * W, kh * DH - PT, kw * DW - PL, geometry, h0, h1)


@jit
def pack_rows(source, at, row, depth, columns, packed):
    """depth rows of `columns` elements, `row` apart, as packed B."""
    width = width_of(source)
    for k in range(depth):
        for j in range(0, columns, width):
            start, to = at + k * row + j, j * depth + k * width
            if columns - j >= width:
                copy_vectors(VECTORS, source, start, packed, to)
            else:
                copy_strided(source, start, 1, packed, to, columns - j)
                packed[to + columns - j:to + width] = 0


@jit
def pack_transposed(first, last, src, weight, dst, bias, residual, geometry, blocks):
    """Tasks: the blocks of channels of every group, their weights packed into dst."""
    for t in range(first, last):
        pack_transposed_block(t, weight, dst, geometry, blocks[2])


@jit
def to_input(first, last, src, weight, dst, bias, residual, geometry, blocks):
    """Tasks: blocks of dx (dst) from dout (src); weight: as `pack_transposed` left it."""
    for t in range(first, last):
        input_block(t, src, weight, dst, geometry, blocks)


# ---------------------------------------------------------------- gradient to the weights
@jit(inline=True)
def weight_block(t, dout, x, parts, geometry, blocks):
    """Task t: f_size filters x k_size taps of dW of one group, over one part of the batch. blocks: p_size, k_size, f_size, n_parts.

    The result goes to its own of the parts (n_parts, F, K); the caller adds them. Products of p_size pixels are summed in the working dtype,
    those sums in float64: a single float32 chain over a batch loses digits.
    """
    N, C, H, W, F, OH, OW, KH, KW, SH, SW, PT, PL, DH, DW, G = unpack(geometry)
    p_size, k_size, f_size, n_parts = blocks[0], blocks[1], blocks[2], blocks[3]
    CG, FG, P = C // G, F // G, OH * OW
    K = CG * KH * KW
    f_blocks, k_blocks = (FG + f_size - 1) // f_size, (K + k_size - 1) // k_size
    f0, t = t % f_blocks * f_size, t // f_blocks
    k0, t = t % k_blocks * k_size, t // k_blocks
    g, n_part = t % G, t // G
    f1, k1 = min(FG, f0 + f_size), min(K, k0 + k_size)
    xf, df, width = x.reshape(-1), dout.reshape(-1), width_of(x)
    columns, depth = round_up(k1 - k0, width), min(P, p_size)
    rows = f1 - f0
    a, b = aligned(packed_rows(rows) * depth, x), aligned(depth * columns, x)
    lines, edge = aligned(depth * width, x), aligned(ROWS * width, x)
    sums, total = aligned(rows * columns, x), np.zeros((rows, k1 - k0), np.float64)
    terms = 0
    for n in range(n_part * N // n_parts, (n_part + 1) * N // n_parts):
        for p0 in range(0, P, p_size):
            p1 = min(P, p0 + p_size)
            if terms + p1 - p0 > p_size:
                add_sums(sums, columns, total)
                terms = 0
            pack_a(df, (n * F + g * FG + f0) * P + p0, rows, P, p1 - p0, 1, a, 0)
            pack_patches_transposed(xf, (n * C + g * CG) * H * W, geometry, k0, k1, p0, p1, b, lines)
            multiply(rows, columns, 1 if terms else 0, p1 - p0, a, 0, p1 - p0, 0, b, p1 - p0, sums, 0, columns, edge)
            terms += p1 - p0
    if terms:
        add_sums(sums, columns, total)
    for f in range(rows):                    # element by element: to compile the assignment of a slice takes seconds
        target, source = parts[((n_part * G + g) * FG + f0 + f) * K + k0:], total[f]
        for k in range(k1 - k0):
            target[k] = source[k]


@jit
def add_sums(sums, columns, total):
    """total[f, k] += sums[f * columns + k]."""
    for f in range(total.shape[0]):
        row, target = sums[f * columns:], total[f]
        for k in range(target.size):
            target[k] += row[k]


@jit
def to_weight(first, last, src, weight, dst, bias, residual, geometry, blocks):
    """Tasks: blocks of the parts of dweight (dst) from x (src) and dout (weight)."""
    for t in range(first, last):
        weight_block(t, weight, src, dst, geometry, blocks)
