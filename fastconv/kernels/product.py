"""C = A B for matrices with contiguous rows or columns: what affine layers are made of. A kernel of the shared signature (kernels/tasks.py).

A block of A is packed for the register tile. B is read where it stands if its rows are contiguous, and turned panel by panel, just before it
is used, if its columns are: once for each block of rows of C, and while the tiles of one panel multiply, the lines of the next one are
fetched. Where the block of B is small, C is written row by row instead, its lines fetched a tile before.
"""
from __future__ import annotations

from .gemm import aligned, pack_a, pack_a_columns, pack_b_transposed, packed_rows, panel_rows, tile_ahead, width_of
from .jit import jit
from .simd import LINE_BYTES, copy_rows, prefetch
from .tiles import ROWS, VECTORS

NEAR = 256 * 1024                            # bytes of B that stay in the second cache beside the rest


@jit
def deliver(edge, rows, columns, keep, c, c_at, c_row):
    """The first columns of a tile in edge into c, added (keep) or written over."""
    width = width_of(edge)
    for r in range(rows):
        source, target = edge[r * width:r * width + columns], c[c_at + r * c_row:c_at + r * c_row + columns]
        for j in range(columns):
            target[j] = target[j] + source[j] if keep else source[j]


@jit
def product(first, last, src, weight, dst, bias, residual, job, table):
    """job: R, S, K; the steps of A and B, so that A[r, k] is src[r * a_row + k * a_column] and B[k, s] is weight[k * b_row + s * b_column], one of

    each pair being 1; rows and columns of C that a task computes; depth of a chain of sums; and parts of K: dst is (parts, R, S), to be added.
    """
    R, S, K, a_row, a_column, b_row, b_column = job[0], job[1], job[2], job[3], job[4], job[5], job[6]
    rows, columns, depth, parts = job[7], job[8], job[9], job[10]
    width, column_blocks, chunks = width_of(src), (S + columns - 1) // columns, (K + depth - 1) // depth
    a, b, edge = aligned(packed_rows(min(rows, R)) * depth, src), aligned(depth * width, src), aligned(ROWS * width, src)
    for t in range(first, last):
        part, block = t % parts, t // parts
        r0, s0 = block // column_blocks * rows, block % column_blocks * columns
        nr, ns, at = min(rows, R - r0), min(columns, S - s0), (part * R + r0) * S + s0
        down, across = (nr + ROWS - 1) // ROWS, (ns + width - 1) // width
        begin = part * chunks // parts
        for chunk in range(begin, (part + 1) * chunks // parts):
            k0, keep = chunk * depth, int(chunk > begin)
            kc = min(depth, K - k0)
            if a_row == 1:
                pack_a_columns(src, r0 + k0 * a_column, nr, kc, a_column, a)
            else:
                pack_a(src, r0 * a_row + k0, nr, a_row, kc, 1, a, 0)
            along_rows = b_column == 1 and kc * ns * src.itemsize <= NEAR
            for n in range(down * across):
                i, j = (n // across, n % across) if along_rows else (n % down, n // down)
                r, s = i * ROWS, j * width
                if chunks == 1 and ns >= width:
                    s = min(s, ns - width)               # the last panel overlaps the one before it
                nw, b_at, to = min(width, ns - s), k0 * b_row + (s0 + s) * b_column, at + r * S + s
                height = panel_rows(nr - r)
                valid, in_place = min(height, nr - r), b_column == 1 and nw == width
                if i == 0 and not in_place:
                    if b_column == 1:
                        copy_rows(1, weight, b_at, b_row, b, 0, width, kc, 0, nw, width)
                    else:
                        if nw < width:
                            b[:kc * width] = 0
                        pack_b_transposed(weight, b_at, nw, b_column, kc, b)
                ahead, step = b_at, 0                    # what is fetched: elements of B
                if along_rows:
                    for k in range(valid):
                        prefetch(dst, to + k * S + width, width)
                elif b_column == 1:                      # a line of each row of the next panel
                    ahead, step = b_at + width if j + 1 < across else (k0 + depth) * b_row + s0, b_row * src.itemsize
                    ahead += i * LINE_BYTES // src.itemsize
                elif chunks == 1:                        # the next panel, line by line; parts of long rows the processor fetches by itself
                    ahead, step = b_at + width * b_column + i * kc * LINE_BYTES // src.itemsize, LINE_BYTES
                ahead = weight.ctypes.data + ahead * src.itemsize
                # The last columns, where half a panel holds them: of an overlapping panel the second half.
                narrow = height == ROWS and ns - j * width <= width // VECTORS
                shift = width - width // VECTORS if narrow and nw == width else 0
                source, start, step_of_b = (weight, b_at + shift, b_row) if in_place else (b, shift, width)
                target, place, row, add = (dst, to + shift, S, keep) if nw == width else (edge, 0, width, 0)
                tile_ahead(height, narrow, valid, add, kc, a, r * kc, source, start, step_of_b, target, place, row, ahead, step)
                if nw < width:
                    deliver(edge, valid, nw, keep, dst, to, S)
