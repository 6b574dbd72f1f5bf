"""The row of a pooling, each kernel with a plain-loop twin: first all rows of the windows, column by column, then along the row.

The columns of one vector are combined down the rows in a register; neighbouring vectors, shifted against each other, give the windows. So each
element is loaded once for all windows of a row that hold it, and nothing is written in between. Columns outside the image are lanes of what
changes nothing: -inf for the maximum, 0 for the sum. Rows outside are not in the list of rows.
"""
from __future__ import annotations

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils

from .simd import AHEAD_BYTES, I32, I64, Vector, _pointer, either
from .simd_depthwise import MASKS, Columns, _const, _store_part

MAX, SUM, MEAN = 0, 1, 2                     # what becomes of a window


class Filled(Vector):
    """Vectors whose lanes outside the image are -inf."""

    def __init__(self, context, builder, element):
        super().__init__(context, builder, element)
        self.zero = ir.Constant(self.type, [float("-inf")] * self.lanes)


def _pool_row(kind, stride, taps, square, src, at, offsets, rows, W, col, dst, to, n, row_count, counts, count_at):
    """dst[to + i] = max or sum of src[at + offsets[r] + c] over r < rows and the columns c = col + i * stride + k, k < taps, in 0 .. W - 1.

    For i < n. MEAN: the sum over row_count * counts[count_at + i], where counts has room for a whole vector behind its last element. MAX:
    returns whether there was a NaN among the elements; then the result is wrong.

    kind, stride (1 or 2) and taps: integer literals. square: the rows are the `taps` rows of src from `at` on, which has code of its own,
    and NaN is looked for only in the last `stride` of them.
    """
    seen, steps = False, [r * W for r in range(taps)] if square else offsets[:rows]
    for i in range(n):
        total = src.dtype.type(-np.inf if kind == MAX else 0)
        for k in range(taps):
            c = col + i * stride + k
            if 0 <= c < W:
                for step in steps:
                    value = src[at + step + c]
                    if kind != MAX:
                        total += value
                    elif value > total:
                        total = value
                    seen = seen or (kind == MAX and value != value)
        if kind == MEAN:
            total /= row_count * counts[count_at + i]
        dst[to + i] = total
    return seen


class Row:
    """Emits a row of the result: `down`, the rows of the windows into vectors of columns, and `along`, these into windows."""

    def __init__(self, v, kind, stride, taps, W):
        self.v, self.b, self.kind, self.stride, self.taps, self.W = v, v.b, kind, stride, taps, W
        # Vectors of windows that stay from one step to the next: the last taps of a window lie so many vectors further.
        self.ahead = -(-((taps - 1) // stride) // v.lanes)
        self._seen = cgutils.alloca_once_value(v.b, ir.Constant(v._bits, [0] * v.lanes))

    def combine(self, a, b):
        return self.b.fadd(a, b) if self.kind != MAX else self.v.larger(a, b)

    def combined(self, values):
        total = values[0]
        for value in values[1:]:
            total = self.combine(total, value)
        return total

    def note_nan(self, values):
        if self.kind == MAX:
            for one, two in zip(values[::2], values[1::2] if len(values) % 2 == 0 else [*values[1::2], values[-1]]):
                self.b.store(self.b.or_(self.b.load(self._seen), self.b.fcmp_unordered("uno", one, two)), self._seen)

    def seen(self):
        lanes = self.b.bitcast(self.b.load(self._seen), ir.IntType(self.v.lanes))
        return self.b.icmp_unsigned("!=", lanes, ir.Constant(lanes.type, 0))

    def shifted(self, vectors, by):
        """The vector that starts `by` lanes into these."""
        first, rest = divmod(by, self.v.lanes)
        if not rest:
            return vectors[first]
        lanes = ir.Constant(ir.VectorType(I32, self.v.lanes), list(range(rest, rest + self.v.lanes)))
        return self.b.shuffle_vector(vectors[first], vectors[first + 1], lanes)

    def along(self, phases):
        """The windows from phases[s]: vectors of the columns s, s + stride, ..."""
        return self.combined([self.shifted(phases[k % self.stride], k // self.stride) for k in range(self.taps)])

    def phases(self, vectors):
        """Of `stride` vectors side by side the columns 0, stride, ... and 1, stride + 1, ..."""
        lanes = self.v.lanes
        return [self.b.shuffle_vector(vectors[0], vectors[-1], ir.Constant(ir.VectorType(I32, lanes), [self.stride * j + s for j in range(lanes)]))
                if self.stride > 1 else vectors[0] for s in range(self.stride)]

    def places(self, place):
        return [self.b.add(place, _const(p * self.v.lanes)) for p in range(self.stride)]

    def down_square(self, columns, place, pointers):
        """The vectors at the columns from `place` on, over rows known when the kernel is compiled."""
        found = []
        for c in self.places(place):
            values = [columns._run(row, c, self.W) for row in pointers]
            self.note_nan(values[-self.stride:])
            found.append(self.combined(values))
        return found

    def down_any(self, columns, place, source, offsets, rows):
        """The same over the rows of a list."""
        places, b = self.places(place), self.b
        for c in places:
            columns._mask(c, 1, self.W)      # made here, for all rows
        totals = [cgutils.alloca_once_value(b, self.v.zero) for _ in places]
        with cgutils.for_range(b, rows) as loop:
            row = b.gep(source, [b.load(b.gep(offsets, [loop.index]))])
            for total, c in zip(totals, places):
                value = columns._run(row, c, self.W)
                self.note_nan([value])
                b.store(self.combine(b.load(total), value), total)
        return [b.load(total) for total in totals]


def _pool_row_intrinsic(typingctx, kind, stride, taps, square, src, at, offsets, rows, W, col, dst, to, n, row_count, counts, count_at):
    if not all(isinstance(t, types.IntegerLiteral) for t in (kind, stride, taps)):
        return None
    what, S, K, i = kind.literal_value, stride.literal_value, taps.literal_value, types.int64
    sig = types.boolean(kind, stride, taps, types.boolean, src, i, offsets, i, i, i, dst, i, i, src.dtype, counts, i)

    def codegen(context, builder, sig, args):
        _, _, _, square, src_array, at, offsets_array, rows, W, col, dst_array, to, n, row_count, counts_array, count_at = args
        b, v = builder, (Filled if what == MAX else Vector)(context, builder, sig.args[4].dtype)
        source, target = _pointer(context, b, sig.args[4], src_array, at), _pointer(context, b, sig.args[10], dst_array, to)
        offsets = context.make_array(sig.args[6])(context, b, offsets_array).data
        edge = "masked" if MASKS else "lanes"
        width = _const(S * v.lanes)          # columns of one step
        row = Row(v, what, S, K, W)
        if what == MEAN:
            divisors, factor = _pointer(context, b, sig.args[14], counts_array, count_at), v.broadcast(row_count)

        def line(load):
            """load(place, first): the vectors of the columns from `place` on."""
            kept = [[cgutils.alloca_once_value(b, v.zero) for _ in range(row.ahead)] for _ in range(S)]

            def turn(place, first):
                phases = [[*map(b.load, slots), new] for slots, new in zip(kept, row.phases(load(place, first)))]
                for slots, phase in zip(kept, phases):
                    for slot, vector in zip(slots, phase[1:]):
                        b.store(vector, slot)
                return phases

            start = col
            for _ in range(row.ahead):
                turn(start, True)
                start = b.add(start, width)
            here = cgutils.alloca_once_value(b, start)
            with cgutils.for_range_slice(b, _const(0), n, _const(v.lanes), I64) as (done, _):
                place = b.load(here)
                b.store(b.add(place, width), here)
                total = row.along(turn(place, False))
                if what == MEAN:
                    total = b.fdiv(total, b.fmul(factor, v.load(b.gep(divisors, [done]))))
                left, end = b.sub(n, done), b.gep(target, [done])
                with b.if_else(b.icmp_signed(">=", left, _const(v.lanes)), likely=True) as (whole, part):
                    with whole:
                        v.store(total, end)
                    with part:
                        _store_part(b, v, total, left, end)

        with b.if_else(square, likely=True) as (usual, other):
            with usual:
                pointers = [b.gep(source, [b.mul(W, _const(r))]) for r in range(K)]
                slots = [cgutils.alloca_once_value(b, v.zero) for _ in range(S)]

                def load(place, first):
                    def emit(mode):
                        for slot, vector in zip(slots, row.down_square(Columns(v, mode, 1, W), place, pointers)):
                            b.store(vector, slot)

                    if first:
                        emit(edge)
                    else:
                        inside = b.and_(b.icmp_signed(">=", place, _const(0)), b.icmp_signed("<=", b.add(place, width), W))
                        with b.if_else(inside, likely=True) as (whole, part):
                            with whole:
                                emit("whole")
                            with part:
                                emit(edge)
                    return [b.load(slot) for slot in slots]

                line(load)
            with other:
                line(lambda place, first: row.down_any(Columns(v, edge, 1, W), place, source, offsets, rows))
        return row.seen() if what == MAX else cgutils.false_bit

    return sig, codegen


def _any_nan(src, at, n):
    """Is any of src[at + i], i < n, not a number? All are read, in order, also where nobody asks for the answer."""
    for i in range(n):
        if src[at + i] != src[at + i]:
            return True
    return False


def _any_low(src, at, n):
    """Is any of src[at + i], i < n, not a number or -inf?"""
    for i in range(n):
        if not src[at + i] > -np.inf:
            return True
    return False


def _any_nan_intrinsic(typingctx, src, at, n):
    return _any(src, lambda b, one, two: b.fcmp_unordered("uno", one, two))


def _any_low_intrinsic(typingctx, src, at, n):
    def low(b, one, two):
        least = ir.Constant(one.type, [float("-inf")] * one.type.count if isinstance(one.type, ir.VectorType) else float("-inf"))
        return b.or_(b.fcmp_unordered("<=", one, least), b.fcmp_unordered("<=", two, least))

    return _any(src, low)


def _any(src, found_in):
    """Whether a test that takes two vectors, or two elements, holds anywhere."""
    def codegen(context, builder, sig, args):
        b, v = builder, Vector(context, builder, sig.args[0].dtype)
        source, n = _pointer(context, b, sig.args[0], args[0], args[1]), args[2]
        bits = ir.VectorType(ir.IntType(1), v.lanes)
        seen = [cgutils.alloca_once_value(b, ir.Constant(bits, [0] * v.lanes)) for _ in range(2)]
        done = cgutils.alloca_once_value(b, _const(0))

        def note(place, pairs):
            for p in range(pairs):
                for q in range(2):
                    v.prefetch(b.gep(place, [_const(AHEAD_BYTES // v.itemsize + (2 * p + q) * v.lanes)]))
                one, two = (v.load(b.gep(place, [_const((2 * p + q) * v.lanes)])) for q in range(2))
                b.store(b.or_(b.load(seen[p % 2]), found_in(b, one, two)), seen[p % 2])

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
                        b.store(b.or_(b.load(result), found_in(b, value, value)), result)
        lanes = b.bitcast(b.or_(b.load(seen[0]), b.load(seen[1])), ir.IntType(v.lanes))
        found = b.or_(b.load(result), b.icmp_unsigned("!=", lanes, ir.Constant(ir.IntType(v.lanes), 0)))
        b.asm(ir.FunctionType(ir.VoidType(), [I64]), "", "r", [b.zext(found, I64)], True)
        return found

    return types.boolean(src, types.int64, types.int64), codegen


def _index_row(stride, taps, src, at, offsets, rows, W, col, best, where, n):
    """best[i], where[i]: the maximum of a window of `_pool_row` and its place: offsets[r] + c, the smallest of those that hold it.

    -1 for a window that holds no element. best and where have room for a whole vector behind n; the rows of a plane, W apart, are fewer than
    2 ** 31 elements. Returns whether there was a NaN: then the result is wrong. stride (1 or 2) and taps: integer literals.
    """
    seen = False
    for i in range(n):
        best[i], where[i] = -np.inf, -1
        for r in range(rows):
            for c in range(max(0, col + i * stride), min(W, col + i * stride + taps)):
                value = src[at + offsets[r] + c]
                seen = seen or value != value
                if value > best[i] or where[i] < 0:
                    best[i], where[i] = value, offsets[r] + c
    return seen


class IndexRow(Row):
    """Values in pairs, a vector of elements and one of their places: the larger element wins, of equal ones that of the smaller place."""

    def __init__(self, v, stride, taps, W):
        super().__init__(v, MAX, stride, taps, W)
        self.index = ir.VectorType(ir.IntType(8 * v.itemsize), v.lanes)
        self.nowhere = ir.Constant(self.index, [2 ** (8 * v.itemsize - 1) - 1] * v.lanes)

    def combine(self, a, b):
        build, (old, old_place), (new, new_place) = self.b, a, b
        earlier = build.and_(build.fcmp_ordered("==", new, old), build.icmp_signed("<", new_place, old_place))
        take = build.or_(build.fcmp_ordered(">", new, old), earlier)
        return build.select(take, new, old), build.select(take, new_place, old_place)

    def shifted(self, vectors, by):
        return tuple(super(IndexRow, self).shifted([pair[part] for pair in vectors], by) for part in range(2))

    def phases(self, vectors):
        values, places = (super(IndexRow, self).phases([pair[part] for pair in vectors]) for part in range(2))
        return list(zip(values, places))

    def splat(self, value):
        element = self.index.element
        value = self.b.trunc(value, element) if element.width < 64 else value
        one = self.b.insert_element(ir.Constant(self.index, ir.Undefined), value, ir.Constant(I32, 0))
        return self.b.shuffle_vector(one, one, ir.Constant(ir.VectorType(I32, self.v.lanes), [0] * self.v.lanes))

    def down(self, columns, place, source, offsets, rows):
        b, lanes = self.b, ir.Constant(self.index, list(range(self.v.lanes)))
        places = self.places(place)
        masks = [columns._mask(c, 1, self.W) for c in places]
        here = [b.add(self.splat(c), lanes) for c in places]
        totals = [[cgutils.alloca_once_value(b, start) for start in (self.v.zero, self.nowhere)] for _ in places]
        with cgutils.for_range(b, rows) as loop:
            offset = b.load(b.gep(offsets, [loop.index]))
            row, first = b.gep(source, [offset]), self.splat(offset)
            for total, c, column, mask in zip(totals, places, here, masks):
                value = columns._run(row, c, self.W)
                self.note_nan([value])
                new = value, b.select(mask, b.add(first, column), self.nowhere)
                for slot, result in zip(total, self.combine([b.load(slot) for slot in total], new)):
                    b.store(result, slot)
        return [tuple(b.load(slot) for slot in total) for total in totals]


def _index_row_intrinsic(typingctx, stride, taps, src, at, offsets, rows, W, col, best, where, n):
    if not all(isinstance(t, types.IntegerLiteral) for t in (stride, taps)):
        return None
    S, K, i = stride.literal_value, taps.literal_value, types.int64
    sig = types.boolean(stride, taps, src, i, offsets, i, i, i, best, where, i)

    def codegen(context, builder, sig, args):
        _, _, src_array, at, offsets_array, rows, W, col, best_array, where_array, n = args
        b, v = builder, Filled(context, builder, sig.args[2].dtype)
        source = _pointer(context, b, sig.args[2], src_array, at)
        offsets, best, where = (context.make_array(sig.args[k])(context, b, array).data
                                for k, array in ((4, offsets_array), (8, best_array), (9, where_array)))
        row, width = IndexRow(v, S, K, W), _const(S * v.lanes)
        columns = Columns(v, "masked" if MASKS else "lanes", 1, W)
        kept = [[[cgutils.alloca_once_value(b, start) for start in (v.zero, row.nowhere)] for _ in range(row.ahead)] for _ in range(S)]

        def turn(place):
            columns.forget()
            phases = []
            for slots, new in zip(kept, row.phases(row.down(columns, place, source, offsets, rows))):
                phase = [*[tuple(b.load(slot) for slot in pair) for pair in slots], new]
                for pair, vectors in zip(slots, phase[1:]):
                    for slot, vector in zip(pair, vectors):
                        b.store(vector, slot)
                phases.append(phase)
            return phases

        start = col
        for _ in range(row.ahead):
            turn(start)
            start = b.add(start, width)
        here = cgutils.alloca_once_value(b, start)
        wide = ir.VectorType(I64, v.lanes)
        with cgutils.for_range_slice(b, _const(0), n, _const(v.lanes), I64) as (done, _):
            place = b.load(here)
            b.store(b.add(place, width), here)
            value, index = row.along(turn(place))
            index = b.select(b.icmp_signed("==", index, row.nowhere), ir.Constant(row.index, [-1] * v.lanes), index)
            v.store(value, b.gep(best, [done]))
            index = b.sext(index, wide) if v.itemsize < 8 else index
            b.store(index, b.bitcast(b.gep(where, [done]), wide.as_pointer())).align = 8
        return row.seen()

    return sig, codegen


def _pairs_gradient(x, at, W, dout, d_at, dx, to, row, n):
    """Of n windows of 2 x 2 side by side the gradients: dx[to + r * row + 2 * i + k] is dout[d_at + i] where x[at + r * W + 2 * i + k] is the
    first maximum of window i, else 0. x without NaN."""
    for i in range(n):
        best, place = x[at + 2 * i], to + 2 * i
        for r in range(2):
            for k in range(2):
                dx[to + r * row + 2 * i + k] = 0
                if x[at + r * W + 2 * i + k] > best:
                    best, place = x[at + r * W + 2 * i + k], to + r * row + 2 * i + k
        dx[place] = dout[d_at + i]


def _pairs_gradient_intrinsic(typingctx, x, at, W, dout, d_at, dx, to, row, n):
    i = types.int64

    def codegen(context, builder, sig, args):
        _, _, W, _, _, _, _, row, n = args
        b, v = builder, Vector(context, builder, sig.args[0].dtype)
        top, douts, target = (_pointer(context, b, sig.args[k], args[k], args[k + 1]) for k in (0, 3, 5))
        sources, targets = [top, b.gep(top, [W])], [target, b.gep(target, [row])]
        L, two = v.lanes, _const(2)
        split = [ir.Constant(ir.VectorType(I32, L), [2 * j + k for j in range(L)]) for k in range(2)]
        merge = [ir.Constant(ir.VectorType(I32, L), [half * L // 2 + j // 2 + j % 2 * L for j in range(L)]) for half in range(2)]

        def emit(first, load, load_dout, store):
            at2 = b.mul(first, two)
            rows = [[load(b.gep(source, [b.add(at2, _const(p * L))]), p) for p in range(2)] for source in sources]
            values = [b.shuffle_vector(*parts, mask) for parts in rows for mask in split]
            dout, best, won = load_dout(b.gep(douts, [first])), values[0], []
            for value in values[1:]:
                won.append(b.fcmp_ordered(">", value, best))
                best = b.select(won[-1], value, best)
            shares = []
            for k in (3, 2, 1):              # the last that replaced the one before it
                shares.append(b.select(won[k - 1], dout, v.zero))
                dout = b.select(won[k - 1], v.zero, dout)
            shares = [dout, *shares[::-1]]
            for r, end in enumerate(targets):
                for half in range(2):
                    store(b.shuffle_vector(shares[2 * r], shares[2 * r + 1], merge[half]), b.gep(end, [b.add(at2, _const(half * L))]), half)

        lanes = _const(L)
        with b.if_else(b.icmp_signed(">=", n, lanes), likely=True) as (long, short):
            with long:
                last = b.sub(n, lanes)
                with cgutils.for_range_slice(b, _const(0), n, lanes, I64) as (done, _):
                    first = b.select(b.icmp_signed(">", done, last), last, done)      # overlaps the one before where n is no multiple
                    emit(first, lambda place, part: v.load(place), v.load, lambda value, place, half: v.store(value, place))
            with short:
                with cgutils.for_range(b, n) as loop:
                    at2 = b.mul(loop.index, two)
                    values = [b.load(b.gep(source, [b.add(at2, _const(k))])) for source in sources for k in range(2)]
                    share, best, zero = b.load(b.gep(douts, [loop.index])), values[0], ir.Constant(v.scalar, 0.0)
                    shares, won = [], []
                    for value in values[1:]:
                        won.append(b.fcmp_ordered(">", value, best))
                        best = b.select(won[-1], value, best)
                    for k in (3, 2, 1):
                        shares.append(b.select(won[k - 1], share, zero))
                        share = b.select(won[k - 1], zero, share)
                    for k, part in enumerate([share, *shares[::-1]]):
                        b.store(part, b.gep(targets[k // 2], [b.add(at2, _const(k % 2))]))
        return context.get_dummy_value()

    return types.void(x, i, i, dout, i, dx, i, i, i), codegen


pool_row = either(_pool_row, _pool_row_intrinsic, literal=True)
any_nan = either(_any_nan, _any_nan_intrinsic)
any_low = either(_any_low, _any_low_intrinsic)
index_row = either(_index_row, _index_row_intrinsic, literal=True)
pairs_gradient = either(_pairs_gradient, _pairs_gradient_intrinsic)
