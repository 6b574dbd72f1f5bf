"""The gradient of a max pooling by 3 x 3 with stride 2, a few rows of windows at once, with its plain-loop twin: who wins stays in registers.

A vector of windows goes down the rows: the maxima of a row that two rows of windows share are found once, and what both give to it is added
in registers. Columns of dx are made as vectors of even and of odd ones.
"""
from __future__ import annotations

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils

from .simd import I32, I64, Vector, _pointer, either
from .simd_depthwise import _const
from .simd_places import _clamped
from .tiles import VECTOR_BYTES


def _spread(odd, x, at, h, H, n, low, douts, dout_at, oh, OH, windows, none, count, pad, carry, out, to):
    """Rows oh .. oh + count - 1 of windows give their douts to the first maximum of each: two rows of `out` for each row of them.

    Window j of row oh holds columns 2 * j - pad .. + 2 of rows h .. h + 2 of x, a plane of H rows of n elements at x[at]; row oh + 1 begins at
    h + 2. It gives douts[dout_at + oh * windows + j], of OH rows, outside of which nothing is given. low: n elements -inf, none: `windows`
    zeros. out[to + r * n + w], r < 2 * count, is what row h + r of dx gets, before the image and behind it, too. What is given to the row
    behind these is carried: carry holds three vectors for each vector of windows, zeros where no row of windows came before, and half a
    vector's windows more than there are columns. out[to - 2:to] is lost. No NaN or -inf in x. odd: the literal pad % 2. What comes behind these
    rows is fetched meanwhile.
    """
    lanes, ahead, most = VECTOR_BYTES // x.itemsize, (pad + odd) // 2 - 1, (n + 1) // 2 + 1       # the window of lane 0, and lanes
    given = np.zeros((2 * count + 1, most, 3), x.dtype)      # to each row, by lanes and taps
    places = [[(lane // lanes * 3 + k) * lanes + lane % lanes for k in range(3)] for lane in range(most)]
    given[0] = carry[places]
    for i in range(count):
        for lane in range(max(0, -ahead), min(most, windows - ahead) if 0 <= oh + i < OH else 0):
            taps = [(r, k) for r in range(3) for k in range(3)]
            values = []
            for r, k in taps:
                row, w = h + 2 * i + r, 2 * lane + k + odd - 2
                values.append(x[at + row * n + w] if 0 <= row < H and 0 <= w < n else low[0])
            r, k = taps[max(range(9), key=lambda tap: (values[tap], -tap))]
            given[2 * i + r, lane, k] += douts[dout_at + (oh + i) * windows + lane + ahead]
    for r in range(2 * count):
        line = np.zeros(2 * most + 1, x.dtype)
        for k in range(3):
            line[k:k + 2 * most:2][:most] += given[r, :, k]
        out[to + r * n:to + (r + 1) * n] = line[2 - odd:2 - odd + n]
    carry[places] = given[2 * count]


def _spread_intrinsic(typingctx, odd, x, at, h, H, n, low, douts, dout_at, oh, OH, windows, none, count, pad, carry, out, to):
    if not isinstance(odd, types.IntegerLiteral):
        return None
    P, i = odd.literal_value, types.int64

    def codegen(context, builder, sig, args):
        b, v = builder, Vector(context, builder, sig.args[1].dtype)
        h, H, n, oh, OH, windows, count, pad = args[3], args[4], args[5], args[9], args[10], args[11], args[13], args[14]
        L, index = v.lanes, ir.VectorType(I32, v.lanes)
        plane, douts, target = (_pointer(context, b, sig.args[k], args[k], args[k + 1]) for k in (1, 7, 16))
        low, none, carries = (_pointer(context, b, sig.args[k], args[k], _const(0)) for k in (6, 12, 15))
        ahead = b.sub(b.sdiv(b.add(pad, _const(P)), _const(2)), _const(1))       # the window of lane 0
        lowest = ir.Constant(v.type, [float("-inf")] * L)
        even, odds = (ir.Constant(index, [2 * r + phase for r in range(L)]) for phase in range(2))
        halves = [ir.Constant(index, [half * L // 2 + r // 2 + r % 2 * L for r in range(L)]) for half in range(2)]
        later = ir.Constant(index, list(range(1, L + 1)))
        last = [ir.Constant(index, [2 * L - 2 + phase, *range(L - 1)]) for phase in range(2)]    # of another vector, before all but the last of one

        def lanes_from(place, end):
            """The lanes r with 0 <= place + r < end."""
            every = ir.Constant(index, list(range(L)))
            return b.and_(b.icmp_signed(">=", every, v.broadcast_index(_clamped(b, b.neg(place), L))),
                          b.icmp_signed("<", every, v.broadcast_index(_clamped(b, b.sub(end, place), L))))

        def inside_of(number, end):
            return b.icmp_unsigned("<", number, end)

        def column(m, inside):
            """The lanes of m .. m + L - 1, whose columns begin at 2 * m; inside: nothing of them lies beyond an end."""
            w, j = b.mul(m, _const(2)), b.add(m, ahead)
            places = [b.add(w, _const(k * L)) for k in (-1, 0, 1)]
            masks = [None if inside else lanes_from(place, n) for place in places]
            there = None if inside else lanes_from(j, windows)

            def candidates(row):
                """Of row `row` of x, the three elements of each window."""
                real = inside_of(row, H)
                start = b.select(real, b.gep(plane, [b.mul(row, n)]), low)
                values = []
                for place, mask in zip(places, masks):
                    here = b.gep(start, [place])
                    values.append(v.load(here) if inside else b.select(mask, v.load_masked(here, mask), lowest))
                left, near, far = values
                first, second = b.shuffle_vector(near, far, even), b.shuffle_vector(near, far, odds)
                before = b.shuffle_vector(second, left, last[1])
                return (before, first, second) if P else (b.shuffle_vector(first, left, last[0]), before, first)

            def first_of(values):
                """The largest of three, and where each of them is the first of that size."""
                second = b.fcmp_ordered(">", values[1], values[0])
                top = b.select(second, values[1], values[0])
                third = b.fcmp_ordered(">", values[2], top)
                return b.select(third, values[2], top), (b.not_(b.or_(second, third)), b.and_(second, b.not_(third)), third)

            top, columns = first_of(candidates(h))
            top_slot = cgutils.alloca_once_value(b, top)
            column_slots = [cgutils.alloca_once_value(b, which) for which in columns]
            kept = [b.gep(carries, [b.add(b.mul(m, _const(3)), _const(k * L))]) for k in range(3)]
            carry_slots = [cgutils.alloca_once_value(b, v.load(place)) for place in kept]
            line_slot = cgutils.alloca_once_value(b, b.gep(target, [w]))

            def put(line, first, second, third):
                """A row of dx from what its windows gave to their columns."""
                first_later = b.shuffle_vector(first, v.zero, later)
                if P:
                    phases = second, b.fadd(third, first_later)
                    before, more = b.gep(line, [_const(-1)]), [first]
                else:
                    phases = b.fadd(third, first_later), b.shuffle_vector(second, v.zero, later)
                    before, more = b.gep(line, [_const(-2)]), [first, second]
                for half in range(2):
                    value, place = b.shuffle_vector(*phases, halves[half]), b.gep(line, [_const(half * L)])
                    if inside:
                        v.store(value, place)
                    else:
                        v.store_masked(value, place, masks[1 + half])
                for k, value in enumerate(more):     # these columns lie in the vector of windows before
                    place = b.gep(before, [_const(k)])
                    b.store(b.fadd(b.load(place), b.extract_element(value, ir.Constant(I32, 0))), place)

            with cgutils.for_range(b, count) as loop:
                for slot, lines in zip(fetched, (4, 1)):
                    place = b.load(slot)
                    for k in range(lines):
                        v.prefetch(b.gep(place, [_const(k * L)]))
                    b.store(b.gep(place, [_const(lines * L)]), slot)
                row, line = b.add(h, b.mul(loop.index, _const(2))), b.load(line_slot)
                tops, found = [b.load(top_slot)], [[b.load(slot) for slot in column_slots]]
                for r in (1, 2):
                    top, columns = first_of(candidates(b.add(row, _const(r))))
                    tops.append(top)
                    found.append(columns)
                b.store(top, top_slot)
                for slot, value in zip(column_slots, columns):
                    b.store(value, slot)
                _, won = first_of(tops)
                number = b.add(oh, loop.index)
                place = b.gep(b.select(inside_of(number, OH), b.gep(douts, [b.mul(number, windows)]), none), [j])
                dout = v.load(place) if inside else v.load_masked(place, there)
                shares = [b.select(which, dout, v.zero) for which in won]
                old = [b.load(slot) for slot in carry_slots]
                put(line, *(b.select(which, b.fadd(value, shares[0]), value) for which, value in zip(found[0], old)))
                put(b.gep(line, [n]), *(b.select(which, shares[1], v.zero) for which in found[1]))
                for slot, which in zip(carry_slots, found[2]):
                    b.store(b.select(which, shares[2], v.zero), slot)
                b.store(b.gep(line, [b.mul(n, _const(2))]), line_slot)
            for slot, place in zip(carry_slots, kept):
                v.store(b.load(slot), place)

        half = b.sdiv(b.add(n, _const(1)), _const(2))
        most, more = b.add(half, _const(1)), b.sub(windows, ahead)
        more = b.select(b.icmp_signed("<", more, most), more, most)
        stop = b.select(b.icmp_signed(">", more, half), more, half)
        # The next rows are fetched in the order of memory: as many vectors of x and of dout as are worked at.
        after = b.add(h, b.add(b.mul(count, _const(2)), _const(1)))
        fetched = [cgutils.alloca_once_value(b, b.gep(*place)) for place in ((plane, [b.mul(n, after)]), (douts, [b.mul(windows, b.add(oh, count))]))]
        with cgutils.for_range_slice(b, _const(0), stop, _const(L), I64) as (m, _):
            end = b.add(m, _const(L))
            inside = b.and_(b.icmp_signed(">", m, _const(0)), b.icmp_signed("<=", b.mul(end, _const(2)), n))
            inside = b.and_(inside, b.icmp_signed("<=", b.add(end, ahead), windows))
            with b.if_else(inside) as (whole, part):
                with whole:
                    column(m, True)
                with part:
                    column(m, False)
        return context.get_dummy_value()

    return types.void(odd, x, i, i, i, i, x, douts, i, i, i, i, douts, i, i, carry, out, i), codegen


spread = either(_spread, _spread_intrinsic, literal=True)
