"""The gradient of a max pooling by 3 x 3, a few rows of windows at once, with plain-loop twins: who wins stays in registers.

A vector of windows goes down the rows of x. Of each row its first largest column is found once, for all windows that hold it; of each window
the first row that is as large. So what windows give to a row is added up before it goes to that row's columns. With stride 2 columns of dx
are made as vectors of even and of odd ones; with stride 1 a vector of windows has all that is given to its columns but the first and the
last, so vectors overlap by two.
"""
from __future__ import annotations

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils

from .simd import I32, Vector, _pointer, either
from .simd_depthwise import _const
from .simd_places import _clamped


def _give(S, columns, x, at, h, H, n, low, douts, dout_at, oh, OH, windows, none, count, carry, out, to, ahead):
    """Both twins: columns[l] is the first of lane l."""
    given = np.zeros((S * count + 3 - S, len(columns)), x.dtype)
    given[:3 - S] = carry[:given[:3 - S].size].reshape(3 - S, -1)
    line = np.zeros((len(given), columns[-1] + 6), x.dtype)

    def elements(row, lane):
        return [x[at + row * n + w] if 0 <= row < H and 0 <= w < n else low[0] for w in range(columns[lane], columns[lane] + 3)]

    for i in range(count):
        for lane in range(len(columns)):
            if 0 <= oh + i < OH and 0 <= lane + ahead < windows:
                tops = [max(elements(h + S * i + r, lane)) for r in range(3)]
                given[S * i + tops.index(max(tops)), lane] += douts[dout_at + (oh + i) * windows + lane + ahead]
    for r in range(S * count):
        for lane, column in enumerate(columns):
            values = elements(h + r, lane)
            line[r, column + 2 + values.index(max(values))] += given[r, lane]
        out[to + r * n:to + (r + 1) * n] = line[r, 2:2 + n]
    carry[:given[:3 - S].size] = given[S * count:].reshape(-1)


def _spread(odd, x, at, h, H, n, low, douts, dout_at, oh, OH, windows, none, count, pad, carry, out, to):
    """Rows oh .. oh + count - 1 of windows give their douts to the first maximum of each: two rows of `out` for each row of them.

    Window j of row oh holds columns 2 * j - pad .. + 2 of rows h .. h + 2 of x, a plane of H rows of n elements at x[at]; row oh + 1 begins at
    h + 2. It gives douts[dout_at + oh * windows + j], of OH rows, outside of which nothing is given. low: n elements -inf, none: `windows`
    zeros. out[to + r * n + w], r < 2 * count, is what row h + r of dx gets, before the image and behind it, too. What is given to the row
    behind these is carried: carry holds it for each window, zeros where no row of windows came before, and has room for two vectors behind them.
    out[to - 2:to] is lost. No NaN or -inf in x. odd: the literal pad % 2. What comes behind these rows is fetched meanwhile.
    """
    columns = [2 * lane + odd - 2 for lane in range((n + 1) // 2 + 1)]
    _give(2, columns, x, at, h, H, n, low, douts, dout_at, oh, OH, windows, none, count, carry, out, to, (pad + odd) // 2 - 1)


def _spread_each(x, at, h, H, n, low, douts, dout_at, oh, OH, windows, none, count, pad, carry, out, to):
    """The same with stride 1: row oh + 1 begins at h + 1, and out has one row for each of windows. carry holds two vectors for each vector of
    windows, and has room for `lanes` more; out[to - 1] is not lost."""
    _give(1, list(range(-2, n)), x, at, h, H, n, low, douts, dout_at, oh, OH, windows, none, count, carry, out, to, pad - 2)


class Windows:
    """What both intrinsics emit: a vector of windows of three rows, at columns given by their lanes."""

    def __init__(self, context, builder, sig, args, S):
        self.b, self.S = builder, S
        self.v = v = Vector(context, builder, sig.args[0].dtype)
        b, (self.h, self.H, self.n) = builder, args[2:5]
        self.oh, self.OH, self.windows, self.count, self.pad = *args[8:11], *args[12:14]
        self.plane, self.douts, self.target = (_pointer(context, b, sig.args[k], args[k], args[k + 1]) for k in (0, 6, 15))
        self.low, self.none, self.carries = (_pointer(context, b, sig.args[k], args[k], _const(0)) for k in (5, 11, 14))
        self.index, self.lowest = ir.VectorType(I32, v.lanes), ir.Constant(v.type, [float("-inf")] * v.lanes)
        # The next rows are fetched in the order of memory: as many vectors of x and of dout as are worked at.
        after = b.add(self.h, b.add(b.mul(self.count, _const(S)), _const(3 - S)))
        places = b.gep(self.plane, [b.mul(self.n, after)]), b.gep(self.douts, [b.mul(self.windows, b.add(self.oh, self.count))])
        self._fetched = [(cgutils.alloca_once_value(b, place), lines) for place, lines in zip(places, (S * S, 1))]

    def lanes_from(self, place, end):
        """The lanes r with 0 <= place + r < end."""
        b, L, every = self.b, self.v.lanes, ir.Constant(self.index, list(range(self.v.lanes)))
        return b.and_(b.icmp_signed(">=", every, self.v.broadcast_index(_clamped(b, b.neg(place), L))),
                      b.icmp_signed("<", every, self.v.broadcast_index(_clamped(b, b.sub(end, place), L))))

    def loads(self, row, places, masks):
        """Vectors of row `row` of x; masks: their lanes inside of it, or None for all."""
        b, v = self.b, self.v
        start = b.select(b.icmp_unsigned("<", row, self.H), b.gep(self.plane, [b.mul(row, self.n)]), self.low)
        here = [b.gep(start, [place]) for place in places]
        return [v.load(place) if mask is None else b.select(mask, v.load_masked(place, mask), self.lowest) for place, mask in zip(here, masks)]

    def first_of(self, values):
        """The largest of three, and where the second and the third of them is the first of that size."""
        b = self.b
        second = b.fcmp_ordered(">", values[1], values[0])
        top = b.select(second, values[1], values[0])
        third = b.fcmp_ordered(">", values[2], top)
        return b.select(third, values[2], top), b.and_(second, b.not_(third)), third

    def down(self, m, j, there, three_of, put):
        """Vector m of windows, from window j on, which are there or not, down all rows: three_of(row) are the elements of each window in a row of x,
        put(r, first, second, third) is called with what goes to these of row r."""
        b, v, S = self.b, self.v, self.S
        rows = [[cgutils.alloca_once_value(b, value) for value in self.first_of(three_of(b.add(self.h, _const(r))))] for r in range(3 - S)]
        kept = [b.gep(self.carries, [b.mul(b.add(b.mul(m, _const(3 - S)), _const(r)), _const(v.lanes))]) for r in range(3 - S)]
        sums = [cgutils.alloca_once_value(b, v.load(place)) for place in kept]
        with cgutils.for_range(b, self.count) as loop:
            for slot, lines in self._fetched:
                place = b.load(slot)
                for k in range(lines):
                    v.prefetch(b.gep(place, [_const(k * v.lanes)]))
                b.store(b.gep(place, [_const(lines * v.lanes)]), slot)
            top = b.add(self.h, b.mul(loop.index, _const(S)))
            found = [*([b.load(slot) for slot in row] for row in rows), *(self.first_of(three_of(b.add(top, _const(r)))) for r in range(3 - S, 3))]
            _, second, third = self.first_of([best for best, *_ in found])
            number = b.add(self.oh, loop.index)
            place = b.gep(b.select(b.icmp_unsigned("<", number, self.OH), b.gep(self.douts, [b.mul(number, self.windows)]), self.none), [j])
            dout = v.load(place) if there is None else v.load_masked(place, there)
            old = [*(b.load(slot) for slot in sums), *[None] * S]
            given = []
            for which, before in zip((b.not_(b.or_(second, third)), second, third), old):
                given.append(b.select(which, dout, v.zero) if before is None else b.select(which, b.fadd(before, dout), before))
            for r in range(S):
                _, middle, last = found[r]
                put(b.add(b.mul(loop.index, _const(S)), _const(r)),
                    *(b.select(which, given[r], v.zero) for which in (b.not_(b.or_(middle, last)), middle, last)))
            for slot, value in zip((slot for row in rows for slot in row), (value for row in found[S:] for value in row)):
                b.store(value, slot)
            for slot, value in zip(sums, given[S:]):
                b.store(value, slot)
        for slot, place in zip(sums, kept):
            v.store(b.load(slot), place)

    def each(self, count, inside, column):
        """column(m, whether it lies inside) for m < count, twice in the code."""
        with cgutils.for_range(self.b, count) as loop:
            with self.b.if_else(inside(loop.index)) as (whole, part):
                with whole:
                    column(loop.index, True)
                with part:
                    column(loop.index, False)


def _spread_intrinsic(typingctx, odd, x, at, h, H, n, low, douts, dout_at, oh, OH, windows, none, count, pad, carry, out, to):
    if not isinstance(odd, types.IntegerLiteral):
        return None
    P, i = odd.literal_value, types.int64
    own = types.void(x, i, i, i, i, x, douts, i, i, i, i, douts, i, i, carry, out, i)

    def codegen(context, builder, _, args):
        w = Windows(context, builder, own, args[1:], 2)
        b, v, n, index, L = builder, w.v, w.n, w.index, w.v.lanes
        ahead = b.sub(b.sdiv(b.add(w.pad, _const(P)), _const(2)), _const(1))         # the window of lane 0
        even, odds = (ir.Constant(index, [2 * r + phase for r in range(L)]) for phase in range(2))
        halves = [ir.Constant(index, [half * L // 2 + r // 2 + r % 2 * L for r in range(L)]) for half in range(2)]
        later = ir.Constant(index, list(range(1, L + 1)))
        last = [ir.Constant(index, [2 * L - 2 + phase, *range(L - 1)]) for phase in range(2)]        # of another vector, before all but the last of one

        def column(m, inside):
            start, j = b.mul(m, _const(2 * L)), b.add(b.mul(m, _const(L)), ahead)
            places = [b.add(start, _const(k * L)) for k in (-1, 0, 1)]
            masks = [None if inside else w.lanes_from(place, n) for place in places]

            def three_of(row):
                left, near, far = w.loads(row, places, masks)
                first, second = b.shuffle_vector(near, far, even), b.shuffle_vector(near, far, odds)
                before = b.shuffle_vector(second, left, last[1])
                return (before, first, second) if P else (b.shuffle_vector(first, left, last[0]), before, first)

            def put(r, first, second, third):
                line, first_later = b.gep(w.target, [b.add(b.mul(r, n), start)]), b.shuffle_vector(first, v.zero, later)
                if P:
                    phases, more = (second, b.fadd(third, first_later)), [first]
                else:
                    phases, more = (b.fadd(third, first_later), b.shuffle_vector(second, v.zero, later)), [first, second]
                for half in range(2):
                    value, place = b.shuffle_vector(*phases, halves[half]), b.gep(line, [_const(half * L)])
                    if inside:
                        v.store(value, place)
                    else:
                        v.store_masked(value, place, masks[1 + half])
                for k, value in enumerate(more):     # these columns lie in the vector of windows before
                    place = b.gep(line, [_const(k - len(more))])
                    b.store(b.fadd(b.load(place), b.extract_element(value, ir.Constant(I32, 0))), place)

            w.down(m, j, None if inside else w.lanes_from(j, w.windows), three_of, put)

        def inside(m):
            end = b.mul(b.add(m, _const(1)), _const(L))
            inside = b.and_(b.icmp_signed(">", m, _const(0)), b.icmp_signed("<=", b.mul(end, _const(2)), n))
            return b.and_(inside, b.icmp_signed("<=", b.add(end, ahead), w.windows))

        half, there = b.sdiv(b.add(n, _const(1)), _const(2)), b.sub(w.windows, ahead)
        most = b.add(half, _const(1))        # behind the columns there may be one more window that holds the last of them
        there = b.select(b.icmp_signed("<", there, most), there, most)
        lanes = b.select(b.icmp_signed(">", there, half), there, half)
        w.each(b.sdiv(b.add(lanes, _const(L - 1)), _const(L)), inside, column)
        return context.get_dummy_value()

    return types.void(odd, *own.args), codegen


def _spread_each_intrinsic(typingctx, x, at, h, H, n, low, douts, dout_at, oh, OH, windows, none, count, pad, carry, out, to):
    i = types.int64

    def codegen(context, builder, sig, args):
        w = Windows(context, builder, sig, args, 1)
        b, v, n, index, L = builder, w.v, w.n, w.index, w.v.lanes
        later = [ir.Constant(index, list(range(k, L + k))) for k in range(3)]
        step = max(1, L - 2)

        def column(m, inside):
            start = b.sub(b.mul(m, _const(step)), _const(1))     # the middle of lane 0
            j, places = b.add(start, b.sub(w.pad, _const(1))), [b.add(start, _const(k)) for k in (-1, 0, 1)]
            masks = [None if inside else w.lanes_from(place, n) for place in places]
            if not inside:
                stored = b.and_(masks[2], ir.Constant(v._bits, [*[1] * (L - 2), 0, 0]))

            def put(r, first, second, third):
                total = b.fadd(b.shuffle_vector(first, v.zero, later[2]), b.fadd(b.shuffle_vector(second, v.zero, later[1]), third))
                place = b.gep(w.target, [b.add(b.mul(r, n), places[2])])
                if inside:
                    v.store(total, place)        # the last two lanes are stored again by the next vector
                else:
                    v.store_masked(total, place, stored)

            w.down(m, j, None if inside else w.lanes_from(j, w.windows), lambda row: w.loads(row, places, masks), put)

        def inside(m):
            end = b.add(b.mul(b.add(m, _const(1)), _const(step)), _const(1))         # behind the middle of the last lane
            inside = b.and_(b.icmp_signed(">", m, _const(0)), b.icmp_signed("<", end, n))
            return b.and_(inside, b.icmp_signed("<=", b.add(end, b.sub(w.pad, _const(1))), w.windows))

        w.each(b.sdiv(b.add(n, _const(step - 1)), _const(step)), inside, column)
        return context.get_dummy_value()

    return types.void(x, i, i, i, i, x, douts, i, i, i, i, douts, i, i, carry, out, i), codegen


spread = either(_spread, _spread_intrinsic, literal=True)
spread_each = either(_spread_each, _spread_each_intrinsic)
