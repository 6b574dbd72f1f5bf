"""Patches of images as columns of a matrix, and back: im2col, col2im, and the packed blocks that the matrix product reads.

Row k = (c * KH + kh) * KW + kw of the patch matrix of one image holds, for every output pixel p = oh * OW + ow, the element
(c, oh * SH - PT + kh * DH, ow * SW - PL + kw * DW), or 0 in the padding.
"""
from __future__ import annotations

from .gemm import panel_rows, width_of
from .geometry import inside, unpack
from .jit import jit
from .rows import add_spread, copy_strided
from .simd import add_even, copy_row, copy_vectors, lanes_of, prefetch, transpose_square
from .tiles import VECTORS

ROWS_AHEAD = 2                               # planes that are fetched before they are packed


@jit(inline=True)
def shifted_plane(x, plane, h_offset, w_offset, H, W, p0, p1, line, to):
    """`patch_row` where output rows are as wide as input rows: one copy over all of them, then zeros where a row wrapped around."""
    shift, n = h_offset * W + w_offset, p1 - p0
    first = min(p1, max(p0, -h_offset * W, -shift)) - p0
    last = max(first, min(p1, (H - h_offset) * W, H * W - shift) - p0)
    row = line[to:to + n]
    for p in range(first):
        row[p] = 0
    copy_row(1, x, plane + p0 + first + shift, row, first, last - first)
    for p in range(last, n):
        row[p] = 0
    if w_offset != 0:
        start = 0 if w_offset < 0 else max(0, W - w_offset)
        for column in range(start, min(W, start + abs(w_offset))):
            for p in range((column - p0) % W, n, W):
                row[p] = 0


@jit
def patch_row(x, plane, h_offset, w_offset, geometry, p0, p1, line, to):
    """line[to + p - p0] = the tap with the given offsets of the patches p0 <= p < p1, read from the plane that starts at x[plane]."""
    N, C, H, W, F, OH, OW, KH, KW, SH, SW, PT, PL, DH, DW, G = unpack(geometry)
    if SH == 1 and SW == 1 and OW == W:
        shifted_plane(x, plane, h_offset, w_offset, H, W, p0, p1, line, to)
        return
    lo, hi = inside(w_offset, SW, W, OW)
    row, p, h, ow = line[to:to + p1 - p0], p0, p0 // OW * SH + h_offset, p0 % OW
    while p < p1:
        end, base = min(OW, ow + p1 - p), p - p0 - ow
        first, last = end, end
        if 0 <= h < H:
            first, last = min(max(ow, lo), end), max(min(end, hi), ow)
            source = plane + h * W + first * SW + w_offset
            if first >= last:
                first, last = end, end
            elif SW == 1:                    # the intrinsics themselves: a call costs as much as a short row
                copy_row(1, x, source, row, base + first, last - first)
            elif SW == 2:
                copy_row(2, x, source, row, base + first, last - first)
            else:
                copy_strided(x, source, SW, row, base + first, last - first)
        for i in range(base + ow, base + first):
            row[i] = 0
        for i in range(base + last, base + end):
            row[i] = 0
        p, h, ow = p + end - ow, h + SH, 0


@jit
def add_patch_row(line, at, p0, p1, x, plane, h_offset, w_offset, geometry, h0, h1):
    """The transpose of `patch_row`: adds line[at + p - p0] to the elements it came from, where their row is h0 <= h < h1."""
    N, C, H, W, F, OH, OW, KH, KW, SH, SW, PT, PL, DH, DW, G = unpack(geometry)
    lo, hi = inside(w_offset, SW, W, OW)
    p, h, ow = p0, p0 // OW * SH + h_offset, p0 % OW
    while p < p1:
        end = min(OW, ow + p1 - p)
        if h0 <= h < h1:
            first, last = max(ow, lo), min(end, hi)
            source, target = at + p - p0 - ow + first, plane + h * W + first * SW + w_offset
            if SW == 2:
                add_even(line, source, x, target, last - first)
            elif first < last:
                add_spread(line, source, x, target, SW, last - first)
        p, h, ow = p + end - ow, h + SH, 0


@jit(inline=True)
def pack_patches(x, image, geometry, k0, k1, p0, p1, packed, line):
    """Rows k0 .. k1 and pixels p0 .. p1 of the patch matrix as packed B: panels of `width` pixels, depth k1 - k0.

    x: 1-D; image: where the first channel's plane starts; line: scratch for p1 - p0 elements, rounded up to whole panels.
    """
    N, C, H, W, F, OH, OW, KH, KW, SH, SW, PT, PL, DH, DW, G = unpack(geometry)
    width, depth, P = width_of(x), k1 - k0, OH * OW
    panels = (p1 - p0 + width - 1) // width
    line[p1 - p0:panels * width] = 0
    as_it_is = KH == KW == SH == SW == 1 and OH == H and OW == W                      # a row of patches is a plane
    whole = (p1 - p0) // width if as_it_is else 0
    c, kh, kw = k0 // (KH * KW), k0 // KW % KH, k0 % KW
    for k in range(k0, k1):
        if as_it_is:
            start = image + k * P + p0
            prefetch(x, start + ROWS_AHEAD * P, p1 - p0)
            for panel in range(whole):
                copy_vectors(VECTORS, x, start + panel * width, packed, (panel * depth + k - k0) * width)
            for p in range(whole * width, p1 - p0):
                line[p] = x[start + p]
        else:
            patch_row(x, image + c * H * W, kh * DH - PT, kw * DW - PL, geometry, p0, p1, line, 0)
        for panel in range(whole, panels):
            copy_vectors(VECTORS, line, panel * width, packed, (panel * depth + k - k0) * width)
        kw += 1
        if kw == KW:
            kw, kh = 0, kh + 1
            if kh == KH:
                kh, c = 0, c + 1


@jit(inline=True)
def pack_patch_panels(x, image, geometry, k0, k1, p0, p1, packed, line):
    """The same block transposed, as packed A: panels of pixels, depth k1 - k0. line: scratch for p1 - p0 elements."""
    N, C, H, W, F, OH, OW, KH, KW, SH, SW, PT, PL, DH, DW, G = unpack(geometry)
    depth, n = k1 - k0, p1 - p0
    c, kh, kw = k0 // (KH * KW), k0 // KW % KH, k0 % KW
    for k in range(k0, k1):
        patch_row(x, image + c * H * W, kh * DH - PT, kw * DW - PL, geometry, p0, p1, line, 0)
        p = 0
        while p < n:
            height = panel_rows(n - p)
            copy_row(1, line, p, packed, p * depth + (k - k0) * height, min(height, n - p))
            p += height
        kw += 1
        if kw == KW:
            kw, kh = 0, kh + 1
            if kh == KH:
                kh, c = 0, c + 1


@jit(inline=True)
def pack_patches_transposed(x, image, geometry, k0, k1, p0, p1, packed, lines):
    """The same block transposed, as packed B: panels of `width` rows k, depth p1 - p0. lines: scratch for lanes x (p1 - p0) elements."""
    N, C, H, W, F, OH, OW, KH, KW, SH, SW, PT, PL, DH, DW, G = unpack(geometry)
    width, depth, lanes = width_of(x), p1 - p0, lanes_of(x)
    for first in range(k0, k0 + (k1 - k0 + width - 1) // width * width, lanes):      # a vector of rows, and zeros to fill the panel
        for row in range(lanes):
            k = first + row
            if k < k1:
                c, kh, kw = k // (KH * KW), k // KW % KH, k % KW
                patch_row(x, image + c * H * W, kh * DH - PT, kw * DW - PL, geometry, p0, p1, lines, row * depth)
            else:
                lines[row * depth:(row + 1) * depth] = 0
        to = (first - k0) // width * width * depth + (first - k0) % width
        p = 0
        while p + lanes <= depth:
            transpose_square(lanes, lines, p, depth, packed, to + p * width, width)
            p += lanes
        while p < depth:
            for row in range(lanes):
                packed[to + p * width + row] = lines[row * depth + p]
            p += 1


@jit
def im2col(first, last, src, weight, dst, bias, residual, job, table):
    """Rows of cols (N, C * KH * KW, OH * OW), counted over the batch, from x (N, C, H, W). src: x, dst: cols, job: geometry."""
    N, C, H, W, F, OH, OW, KH, KW, SH, SW, PT, PL, DH, DW, G = unpack(job)
    P = OH * OW
    for t in range(first, last):
        plane, kh, kw = t // (KH * KW), t // KW % KH, t % KW
        patch_row(src, plane * H * W, kh * DH - PT, kw * DW - PL, job, 0, P, dst, t * P)


@jit
def col2im(first, last, src, weight, dst, bias, residual, job, table):
    """Bands of rows of x (N, C, H, W): the sum over taps of the elements of cols (N, C * KH * KW, OH * OW) that came from them.

    src: cols, dst: x, job: geometry, table: the number of bands of a plane. Task t = plane * bands + band. The order of each sum, taps in
    row-major order, does not depend on the bands.
    """
    N, C, H, W, F, OH, OW, KH, KW, SH, SW, PT, PL, DH, DW, G = unpack(job)
    P, bands = OH * OW, table[0]
    for t in range(first, last):
        plane, band = t // bands, t % bands
        h0, h1 = band * H // bands, (band + 1) * H // bands
        dst[(plane * H + h0) * W:(plane * H + h1) * W] = 0
        for kh in range(KH):
            lo, hi = inside(kh * DH - PT - h0, SH, h1 - h0, OH)      # the output rows whose tap kh lies in h0 .. h1
            for kw in range(KW):
                at = ((plane * KH + kh) * KW + kw) * P
                add_patch_row(src, at + lo * OW, lo * OW, hi * OW, dst, plane * H * W, kh * DH - PT, kw * DW - PL, job, h0, h1)
