"""The gradient of a max pooling by 3 x 3 with stride 2, a row of windows at once, with its plain-loop twin: who wins stays in registers."""
from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.core import cgutils

from .simd import I32, I64, Vector, _pointer, either
from .simd_depthwise import _const
from .simd_places import _clamped


def _spread(x, row_a, row_b, row_c, lows, douts, dout_at, windows, carry, dst, first_at, second_at, dump, pad, n, below):
    """Window j holds columns 2 * j - pad .. + 2 of three rows of x, and gives douts[dout_at + j] to its first maximum, for j < windows.

    x[row_a + w], w < n: its first row, so also b and c, -1 for a row of padding (lows: n elements that never win). dst[first_at + w] gets
    what the windows give to the first row, and carry[w + pad], what the row of windows before gave to it; dst[second_at + w] what they give to
    the second, carry what they give to the third. A row of dst of which the place is -1 is not wanted: it goes to dump, of n elements.
    carry has room for four vectors behind n + pad. No NaN in x. below: how far behind these two rows of dst are those to be fetched meanwhile.
    """
    given = [[douts.dtype.type(0)] * (n + pad + 2) for _ in range(3)]        # to each row, from column -pad on
    for j in range(min(windows, (n + pad + 1) // 2)):
        places = [(r, k) for r in range(3) for k in range(3)]
        values = []
        for r, k in places:
            w, at = 2 * j + k - pad, (row_a, row_b, row_c)[r]
            values.append(x[at + w] if at >= 0 and 0 <= w < n else lows[0])
        r, k = places[max(range(9), key=lambda i: (values[i], -i))]
        given[r][2 * j + k] += douts[dout_at + j]
    for w in range(n):
        (dst if first_at >= 0 else dump)[max(first_at, 0) + w] = given[0][w + pad] + carry[w + pad]
        (dst if second_at >= 0 else dump)[max(second_at, 0) + w] = given[1][w + pad]
        carry[w + pad] = given[2][w + pad]


def _spread_intrinsic(typingctx, x, row_a, row_b, row_c, lows, douts, dout_at, windows, carry, dst, first_at, second_at, dump, pad, n, below):
    i = types.int64

    def codegen(context, builder, sig, args):
        build, v = builder, Vector(context, builder, sig.args[0].dtype)
        L, windows, pad, n, below = v.lanes, args[7], *args[13:16]
        index = ir.VectorType(I32, L)

        def either_of(array, place, other):
            """Where a line starts, in this array or, for -1, in the other."""
            here = _pointer(context, build, sig.args[array], args[array], place)
            return build.select(build.icmp_signed(">=", place, _const(0)), here, _pointer(context, build, sig.args[other], args[other], _const(0)))

        rows = [either_of(0, at, 4) for at in args[1:4]]
        douts, carries = _pointer(context, build, sig.args[5], args[5], args[6]), _pointer(context, build, sig.args[8], args[8], _const(0))
        targets = [either_of(9, at, 12) for at in args[10:12]]
        low = ir.Constant(v.type, [float("-inf")] * L)
        even, odd = (ir.Constant(index, [2 * r + phase for r in range(L)]) for phase in range(2))
        halves = [ir.Constant(index, [half * L // 2 + r // 2 + r % 2 * L for r in range(L)]) for half in range(2)]
        earlier = ir.Constant(index, [L - 1 + r for r in range(L)])
        before = [cgutils.alloca_once_value(build, v.zero) for _ in range(3)]        # what the last column of each row got in the vector before

        def lanes_from(place, end):
            """The lanes r with 0 <= place + r < end."""
            every = ir.Constant(index, list(range(L)))
            return build.and_(build.icmp_signed(">=", every, v.broadcast_index(_clamped(build, build.neg(place), L))),
                              build.icmp_signed("<", every, v.broadcast_index(_clamped(build, build.sub(end, place), L))))

        def block(j, inside):
            """The windows j .. j + L - 1; inside: nothing of them lies beyond an end."""
            p = build.sub(build.mul(j, _const(2)), pad)
            masks = {}

            def load(pointer, offset):
                place = build.add(p, _const(offset))
                if inside:
                    return v.load(build.gep(pointer, [place]))
                if offset not in masks:
                    masks[offset] = lanes_from(place, n)
                return build.select(masks[offset], v.load_masked(build.gep(pointer, [place]), masks[offset]), low)

            def candidates(pointer):
                near, far = ((load(pointer, k), load(pointer, k + L)) for k in (0, 2))
                return [build.shuffle_vector(*near, even), build.shuffle_vector(*near, odd), build.shuffle_vector(*far, even)]

            def first_of(values):
                """The largest of three, and where each of them is the first of that size."""
                second = build.fcmp_ordered(">", values[1], values[0])
                top = build.select(second, values[1], values[0])
                third = build.fcmp_ordered(">", values[2], top)
                return build.select(third, values[2], top), [build.not_(build.or_(second, third)), build.and_(second, build.not_(third)), third]

            for target in targets:
                for half in range(2):
                    v.prefetch(build.gep(target, [build.add(build.add(p, _const(half * L)), below)]), write=True)
            best = [first_of(candidates(pointer)) for pointer in rows]
            _, won = first_of([value for value, _ in best])
            place = build.gep(douts, [j])
            dout = v.load(place) if inside else v.load_masked(place, lanes_from(j, windows))
            given = []                       # to each row: two vectors, from column p on
            for r, (_, columns) in enumerate(best):
                share = build.select(won[r], dout, v.zero)
                first, second, third = (build.select(column, share, v.zero) for column in columns)
                phases = build.fadd(first, build.shuffle_vector(build.load(before[r]), third, earlier)), second
                build.store(third, before[r])
                given.append([build.shuffle_vector(*phases, half) for half in halves])
            for half in range(2):
                to, line = build.add(p, _const(half * L)), build.gep(carries, [build.add(build.mul(j, _const(2)), _const(half * L))])
                for value, target in ((build.fadd(given[0][half], v.load(line)), targets[0]), (given[1][half], targets[1])):
                    if inside:
                        v.store(value, build.gep(target, [to]))
                    else:
                        v.store_masked(value, build.gep(target, [to]), lanes_from(to, n))
                v.store(given[2][half], line)

        count = build.sdiv(build.add(build.add(n, pad), _const(1)), _const(2))
        with cgutils.for_range_slice(build, _const(0), count, _const(L), I64) as (j, _):
            p = build.sub(build.mul(j, _const(2)), pad)
            inside = build.and_(build.icmp_signed(">=", p, _const(0)), build.icmp_signed("<=", build.add(p, _const(2 * L + 2)), n))
            inside = build.and_(inside, build.icmp_signed("<=", build.add(j, _const(L)), windows))
            with build.if_else(inside) as (whole, part):
                with whole:
                    block(j, True)
                with part:
                    block(j, False)
        return context.get_dummy_value()

    return types.void(x, i, i, i, lows, douts, i, i, carry, dst, i, i, dump, i, i, i), codegen


spread = either(_spread, _spread_intrinsic)
