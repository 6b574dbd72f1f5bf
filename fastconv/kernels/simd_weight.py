"""The register tile of the gradient to the weights with pixels along the vectors, and its plain-loop twin: products of rows with rows.

Each sum is a vector of partial sums until all pixels of a unit are in; then its lanes are added, for as many sums at once as there are
lanes. Nothing is turned around and nothing need be aligned: rows are read where they stand.
"""
from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.core import cgutils

from .simd import BYTES, I32, I64, SECOND_LEVEL, Vector, _pointer, either
from .simd_tiles import KEEP


def _dot_tile(rows, columns, valid_rows, valid_columns, flags, outer, n, a, a_at, places, a_step, b, b_at, b_row, b_step, ahead, ahead_step, c, c_at):
    """c[c_at + j * rows + r] = sum over o < outer, k < n of a[a_at + places[r] + o * a_step + k] * b[b_at + j * b_row + o * b_step + k].

    For r < rows and j < columns, integer literals; of a only valid_rows rows are read and of b valid_columns, the last of them standing for
    those that are missing. places: int64. flags: KEEP or 0. Up to a whole vector is written behind the last sum. ahead: an address from which on
    memory is fetched into the cache, as much as is read of a row of b, ahead_step bytes apart for each o.
    """
    for r in range(rows):
        for j in range(columns):
            total = a.dtype.type(0)
            for o in range(outer):
                for k in range(n):
                    total += a[a_at + places[min(r, valid_rows - 1)] + o * a_step + k] * b[b_at + min(j, valid_columns - 1) * b_row + o * b_step + k]
            place = c_at + j * rows + r
            c[place] = c[place] + total if flags & KEEP else total


def add_lanes(v, sums):
    """One vector: lane i is the sum of all lanes of sums[i]."""
    builder, half = v.b, v.lanes // 2
    sums = sums + [None] * (v.lanes - len(sums))
    while half:
        low = ir.Constant(ir.VectorType(I32, v.lanes), [i if not i & half else v.lanes + i - half for i in range(v.lanes)])
        high = ir.Constant(ir.VectorType(I32, v.lanes), [i + half if not i & half else v.lanes + i for i in range(v.lanes)])
        for i in range(half):
            if sums[i] is not None:
                a, b = sums[i], v.zero if sums[i + half] is None else sums[i + half]
                sums[i] = builder.fadd(builder.shuffle_vector(a, b, low), builder.shuffle_vector(a, b, high))
        half //= 2
    return sums[0]


def _dot_tile_intrinsic(typingctx, rows, columns, valid_rows, valid_columns, flags, outer, n, a, a_at, places, a_step, b, b_at, b_row, b_step, ahead,
                        ahead_step, c, c_at):
    if not isinstance(rows, types.IntegerLiteral) or not isinstance(columns, types.IntegerLiteral):
        return None
    R, V, i = rows.literal_value, columns.literal_value, types.int64
    sig = types.void(rows, columns, i, i, i, i, i, a, i, places, i, b, i, i, i, i, i, c, i)

    def codegen(context, builder, sig, args):
        valid_rows, valid_columns, flags, outer, n, _, _, _, a_step, _, _, b_row, b_step, ahead, ahead_step = args[2:17]
        v = Vector(context, builder, sig.args[7].dtype)

        def const(n):
            return ir.Constant(I64, n)

        def lines(n, place, count, valid):
            """Pointers to the first element of each row."""
            start, last = _pointer(context, builder, sig.args[n], args[n], args[n + 1]), builder.sub(valid, const(1))
            return [builder.gep(start, [place(builder.select(builder.icmp_signed("<", const(r), last), const(r), last))]) for r in range(count)]

        place0 = _pointer(context, builder, sig.args[9], args[9], const(0))
        a_lines = lines(7, lambda r: builder.load(builder.gep(place0, [r])), R, valid_rows)
        b_lines = lines(11, lambda j: builder.mul(b_row, j), V, valid_columns)
        total = [[cgutils.alloca_once_value(builder, v.zero) for _ in range(V)] for _ in range(R)]
        rest = builder.srem(n, const(v.lanes))
        whole, mask = builder.sub(n, rest), v.mask(rest)

        def multiply(load, each, k):
            a_k, b_k = builder.add(builder.mul(each, a_step), k), builder.add(builder.mul(each, b_step), k)
            b_v = [load(builder.gep(line, [b_k])) for line in b_lines]
            for line, row in zip(a_lines, total):
                a_v = load(builder.gep(line, [a_k]))
                for b_j, accumulator in zip(b_v, row):
                    builder.store(v.pin(v.multiply_add(a_v, b_j, builder.load(accumulator))), accumulator)

        with cgutils.for_range(builder, outer) as loop:
            there = builder.add(ahead, builder.mul(loop.index, ahead_step))
            with cgutils.for_range_slice(builder, const(0), whole, const(v.lanes), I64) as (k, _):
                v.prefetch(builder.inttoptr(builder.add(there, builder.mul(k, const(v.itemsize))), BYTES), locality=SECOND_LEVEL)
                multiply(v.load, loop.index, k)
            with builder.if_then(builder.icmp_signed(">", rest, const(0))):
                multiply(lambda pointer: v.load_masked(pointer, mask), loop.index, whole)
        sums = [builder.load(row[j]) for j in range(V) for row in total]
        groups = [add_lanes(v, sums[at:at + v.lanes]) for at in range(0, R * V, v.lanes)]
        c0 = _pointer(context, builder, sig.args[17], args[17], args[18])
        places = [builder.gep(c0, [const(at)]) for at in range(0, R * V, v.lanes)]
        with builder.if_else(builder.icmp_signed("!=", builder.and_(flags, const(KEEP)), const(0))) as (kept, over):
            with kept:
                for group, to in zip(groups, places):
                    v.store(builder.fadd(v.load(to), group), to)
            with over:
                for group, to in zip(groups, places):
                    v.store(group, to)
        return context.get_dummy_value()

    return sig, codegen


dot_tile = either(_dot_tile, _dot_tile_intrinsic, literal=True)
