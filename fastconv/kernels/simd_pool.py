"""The row of a pooling, each kernel with a plain-loop twin: first all rows of the windows, column by column, then along the row.

The columns of one vector are combined down the rows in a register; neighbouring vectors, shifted against each other, give the windows. So each
element is loaded once for all windows of a row that hold it, and nothing is written in between. Columns outside the image are lanes of what
changes nothing: -inf for the maximum, 0 for the sum. Rows outside are not in the list of rows.
"""
from __future__ import annotations

import numpy as np
from llvmlite import ir
from numba import config, types
from numba.core import cgutils
from numba.extending import intrinsic

from ..instruction_set import isa
from .simd import I32, I64, Vector, _pointer
from .simd_depthwise import MASKS, Columns, _const, _store_part

MAX, SUM, MEAN = 0, 1, 2                     # what becomes of a window


class Filled(Vector):
    """Vectors whose lanes outside the image are -inf."""

    def __init__(self, context, builder, element):
        super().__init__(context, builder, element)
        self.zero = ir.Constant(self.type, [float("-inf")] * self.lanes)


def _pool_row(kind, stride, taps, src, at, offsets, rows, W, col, dst, to, n, row_count, counts, count_at):
    """dst[to + i] = max or sum of src[at + offsets[r] + c] over r < rows and the columns c = col + i * stride + k, k < taps, in 0 .. W - 1.

    For i < n. MEAN: the sum over row_count * counts[count_at + i], where counts has room for a whole vector behind its last element. kind,
    stride (1 or 2) and taps: integer literals.
    """
    for i in range(n):
        total = src.dtype.type(-np.inf if kind == MAX else 0)
        for k in range(taps):
            c = col + i * stride + k
            if 0 <= c < W:
                for r in range(rows):
                    value = src[at + offsets[r] + c]
                    if kind != MAX:
                        total += value
                    elif value > total:
                        total = value
        if kind == MEAN:
            total /= row_count * counts[count_at + i]
        dst[to + i] = total


class Row:
    """Emits one row: `down`, the rows of the windows into vectors of columns, and `along`, these into windows."""

    def __init__(self, v, kind, stride, taps, src, offsets, rows, W):
        self.v, self.b, self.kind, self.stride, self.taps = v, v.b, kind, stride, taps
        self.src, self.offsets, self.rows, self.W = src, offsets, rows, W
        # Vectors of windows that stay from one step to the next: the last taps of a window lie so many vectors further.
        self.ahead = -(-((taps - 1) // stride) // v.lanes)

    def combine(self, a, b):
        return self.b.fadd(a, b) if self.kind != MAX else self.v.larger(a, b)

    def down(self, columns, places):
        """The vectors at these columns, over all rows."""
        if columns.mode != "whole":
            for c in places:
                columns._mask(c, 1, self.W)  # made here, for all rows
        b = self.b
        totals = [cgutils.alloca_once_value(b, self.v.zero) for _ in places]
        with cgutils.for_range(b, self.rows) as loop:
            row = b.gep(self.src, [b.load(b.gep(self.offsets, [loop.index]))])
            for total, c in zip(totals, places):
                b.store(self.combine(b.load(total), columns._run(row, c, self.W)), total)
        return [b.load(total) for total in totals]

    def shifted(self, vectors, by):
        """The vector that starts `by` lanes into these."""
        first, rest = divmod(by, self.v.lanes)
        if not rest:
            return vectors[first]
        lanes = ir.Constant(ir.VectorType(I32, self.v.lanes), list(range(rest, rest + self.v.lanes)))
        return self.b.shuffle_vector(vectors[first], vectors[first + 1], lanes)

    def along(self, phases):
        """The windows from phases[s]: vectors of the columns s, s + stride, ..."""
        total = phases[0][0]
        for k in range(1, self.taps):
            total = self.combine(total, self.shifted(phases[k % self.stride], k // self.stride))
        return total

    def phases(self, columns, place):
        """One vector of each phase, of the columns from `place` on."""
        v, b = self.v, self.b
        vectors = self.down(columns, [b.add(place, _const(p * v.lanes)) for p in range(self.stride)])
        if self.stride == 1:
            return vectors
        return [b.shuffle_vector(*vectors, ir.Constant(ir.VectorType(I32, v.lanes), [2 * j + s for j in range(v.lanes)])) for s in range(2)]


def _pool_row_intrinsic(typingctx, kind, stride, taps, src, at, offsets, rows, W, col, dst, to, n, row_count, counts, count_at):
    if not all(isinstance(t, types.IntegerLiteral) for t in (kind, stride, taps)):
        return None
    what, S, K, i = kind.literal_value, stride.literal_value, taps.literal_value, types.int64
    sig = types.void(kind, stride, taps, src, i, offsets, i, i, i, dst, i, i, src.dtype, counts, i)

    def codegen(context, builder, sig, args):
        _, _, _, src_array, at, offsets_array, rows, W, col, dst_array, to, n, row_count, counts_array, count_at = args
        b, v = builder, (Filled if what == MAX else Vector)(context, builder, sig.args[3].dtype)
        source = _pointer(context, b, sig.args[3], src_array, at)
        offsets = context.make_array(sig.args[5])(context, b, offsets_array).data
        target = _pointer(context, b, sig.args[9], dst_array, to)
        row = Row(v, what, S, K, source, offsets, rows, W)
        width = _const(S * v.lanes)          # columns of one step
        kept = [[cgutils.alloca_once_value(b, v.zero) for _ in range(row.ahead)] for _ in range(S)]
        newest = [cgutils.alloca_once_value(b, v.zero) for _ in range(S)]
        if what == MEAN:
            divisors, factor = _pointer(context, b, sig.args[13], counts_array, count_at), v.broadcast(row_count)

        def load(place):
            """newest = the phases of the columns from `place` on."""
            def emit(mode):
                for phase, slot in zip(row.phases(Columns(v, mode, 1, W), place), newest):
                    b.store(phase, slot)

            if isa() == "avx512":            # a mask costs nothing
                return emit("masked")
            inside = b.and_(b.icmp_signed(">=", place, _const(0)), b.icmp_signed("<=", b.add(place, width), W))
            with b.if_else(inside, likely=True) as (whole, edge):
                with whole:
                    emit("whole")
                with edge:
                    emit("masked" if MASKS else "lanes")

        here = cgutils.alloca_once_value(b, col)
        for slot in range(row.ahead):
            load(b.load(here))
            for s in range(S):
                b.store(b.load(newest[s]), kept[s][slot])
            b.store(b.add(b.load(here), width), here)
        with cgutils.for_range_slice(b, _const(0), n, _const(v.lanes), I64) as (done, _):
            load(b.load(here))
            b.store(b.add(b.load(here), width), here)
            phases = [[b.load(slot) for slot in (*kept[s], newest[s])] for s in range(S)]
            total = row.along(phases)
            for s in range(S):
                for slot, vector in zip(kept[s], phases[s][1:]):
                    b.store(vector, slot)
            if what == MEAN:
                total = b.fdiv(total, b.fmul(factor, v.load(b.gep(divisors, [done]))))
            left, place = b.sub(n, done), b.gep(target, [done])
            with b.if_else(b.icmp_signed(">=", left, _const(v.lanes)), likely=True) as (whole, part):
                with whole:
                    v.store(total, place)
                with part:
                    _store_part(b, v, total, left, place)
        return context.get_dummy_value()

    return sig, codegen


def _any_nan(src, at, n):
    """Is any of src[at + i], i < n, not a number?"""
    for i in range(n):
        if src[at + i] != src[at + i]:
            return True
    return False


def _any_nan_intrinsic(typingctx, src, at, n):
    def codegen(context, builder, sig, args):
        b, v = builder, Vector(context, builder, sig.args[0].dtype)
        source, n = _pointer(context, b, sig.args[0], args[0], args[1]), args[2]
        bits = ir.VectorType(ir.IntType(1), v.lanes)
        seen = [cgutils.alloca_once_value(b, ir.Constant(bits, [0] * v.lanes)) for _ in range(2)]
        done = cgutils.alloca_once_value(b, _const(0))

        def note(place, pairs):
            for p in range(pairs):
                one, two = (v.load(b.gep(place, [_const((2 * p + q) * v.lanes)])) for q in range(2))
                b.store(b.or_(b.load(seen[p % 2]), b.fcmp_unordered("uno", one, two)), seen[p % 2])

        for pairs in (4, 1):
            step = _const(2 * pairs * v.lanes)
            first = b.load(done)
            stop = b.add(first, b.mul(b.sdiv(b.sub(n, first), step), step))
            with cgutils.for_range_slice(b, first, stop, step, I64) as (i, _):
                note(b.gep(source, [i]), pairs)
            b.store(stop, done)
        result = cgutils.alloca_once_value(b, cgutils.false_bit)
        left, two = b.sub(n, b.load(done)), _const(2 * v.lanes)
        with b.if_then(b.icmp_signed(">", left, _const(0))):
            with b.if_else(b.icmp_signed(">=", n, two)) as (fits, short):
                with fits:
                    note(b.gep(source, [b.sub(n, two)]), 1)          # overlaps what was seen
                with short:
                    with cgutils.for_range(b, n) as loop:
                        value = b.load(b.gep(source, [loop.index]))
                        b.store(b.or_(b.load(result), b.fcmp_unordered("uno", value, value)), result)
        lanes = b.bitcast(b.or_(b.load(seen[0]), b.load(seen[1])), ir.IntType(v.lanes))
        return b.or_(b.load(result), b.icmp_unsigned("!=", lanes, ir.Constant(ir.IntType(v.lanes), 0)))

    return types.boolean(src, types.int64, types.int64), codegen


_TWINS = (_pool_row, _any_nan)

if config.DISABLE_JIT:
    pool_row, any_nan = _TWINS
else:
    pool_row = intrinsic(prefer_literal=True)(_pool_row_intrinsic)
    any_nan = intrinsic(_any_nan_intrinsic)
    for _compiled, _twin in zip((pool_row, any_nan), _TWINS):
        _compiled.__doc__ = _twin.__doc__
