"""The gradient of an average pooling row by row, each kernel with a plain-loop twin: what every window gives, and its sum over the windows."""
from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.core import cgutils

from .simd import AHEAD_BYTES, I32, I64, Vector, _pointer, either
from .simd_depthwise import MASKS, _const, _store_part
from .tiles import VECTOR_BYTES

MOST_TAPS = 3, 4                             # of `overlay`, of stride 1 and of stride 2


def _share_row(douts, at, n, count, counts, counts_at, line, to):
    """line[to + i] = douts[at + i] / (count * counts[counts_at + i]) for i < n, and zeros up to the end of the vector.

    counts has room for a whole vector behind its last element.
    """
    lanes = VECTOR_BYTES // douts.itemsize
    line[to:to + (n + lanes - 1) // lanes * lanes] = 0
    for i in range(n):
        line[to + i] = douts[at + i] / (count * counts[counts_at + i])


def _share_row_intrinsic(typingctx, douts, at, n, count, counts, counts_at, line, to):
    i = types.int64

    def codegen(context, builder, sig, args):
        b, v, n = builder, Vector(context, builder, sig.args[0].dtype), args[2]
        source, divisors, target = (_pointer(context, b, sig.args[k], *args[k:k + 2]) for k in (0, 4, 6))
        factor = v.broadcast(args[3])

        def share(value, done):
            return b.fdiv(value, b.fmul(factor, v.load(b.gep(divisors, [done]))))

        with cgutils.for_range_slice(b, _const(0), n, _const(v.lanes), I64) as (done, _):
            left, here, end = b.sub(n, done), b.gep(source, [done]), b.gep(target, [done])
            with b.if_else(b.icmp_signed(">=", left, _const(v.lanes)), likely=True) as (whole, part):
                with whole:
                    v.store(share(v.load(here), done), end)
                with part:
                    if MASKS:
                        v.store(share(v.load_masked(here, v.mask(left)), done), end)
                    else:
                        v.store(v.zero, end)
                        with cgutils.for_range(b, left) as loop:
                            divisor = b.fmul(args[3], b.load(b.gep(divisors, [b.add(done, loop.index)])))
                            b.store(b.fdiv(b.load(b.gep(here, [loop.index])), divisor), b.gep(end, [loop.index]))
        return context.get_dummy_value()

    return types.void(douts, i, i, douts.dtype, counts, i, line, i), codegen


def _overlay(stride, taps, lines, a, b, c, zeros, dst, to, pad, n):
    """dst[to + w] = the sum of lines[a + j] + lines[b + j] + lines[c + j] over the windows j that hold column w, for w < n.

    Window j holds the columns j * stride - pad + k, k < taps <= MOST_TAPS. lines: zeros wherever there is no window, for a vector before and two
    behind; so all of the line `zeros`. stride: the literal 1 or 2.
    """
    for w in range(n):
        total = dst.dtype.type(0)
        for k in range(taps):
            if (w + pad - k) % stride == 0:
                j = (w + pad - k) // stride
                total += lines[a + j] + lines[b + j] + lines[c + j]
        dst[to + w] = total


def _overlay_intrinsic(typingctx, stride, taps, lines, a, b, c, zeros, dst, to, pad, n):
    if not isinstance(stride, types.IntegerLiteral):
        return None
    S, i = stride.literal_value, types.int64

    def codegen(context, builder, sig, args):
        build, v, taps, pad, n = builder, Vector(context, builder, sig.args[2].dtype), args[1], args[9], args[10]
        target, lanes, index = _pointer(context, build, sig.args[7], *args[7:9]), _const(v.lanes), ir.VectorType(I32, v.lanes)
        halves = [ir.Constant(index, [half * v.lanes // 2 + j // 2 + j % 2 * v.lanes for j in range(v.lanes)]) for half in range(2)]
        sources = []                         # of each column q < S of dst: for each of its taps, where the lines start
        for q in range(S):
            place = build.add(pad, _const(q))
            odd, taps_of_q = build.and_(place, _const(S - 1)), []
            for step in range(-(-MOST_TAPS[S - 1] // S)):
                k = build.add(odd, _const(step * S))
                j, real = build.ashr(build.sub(place, k), _const(S - 1)), build.icmp_signed("<", k, taps)
                starts = [build.select(real, build.add(at, j), args[6]) for at in args[3:6]]
                taps_of_q.append([_pointer(context, build, sig.args[2], args[2], start) for start in starts])
            sources.append(taps_of_q)

        def put(value, w):
            left, end = build.sub(n, w), build.gep(target, [w])
            with build.if_else(build.icmp_signed(">=", left, lanes), likely=True) as (whole, part):
                with whole:
                    v.store(value, end)
                with part:
                    with build.if_then(build.icmp_signed(">", left, _const(0))):
                        _store_part(build, v, value, left, end)

        with cgutils.for_range_slice(build, _const(0), n, _const(S * v.lanes), I64) as (w, _):
            j, phases = build.ashr(w, _const(S - 1)), []
            for taps_of_q in sources:
                values = []
                for rows in taps_of_q:
                    one, two, three = (v.load(build.gep(row, [j])) for row in rows)
                    values.append(build.fadd(build.fadd(one, two), three))
                total = values[0]
                for value in values[1:]:
                    total = build.fadd(total, value)
                phases.append(total)
            if S == 1:
                put(phases[0], w)
            else:
                for half in range(2):
                    put(build.shuffle_vector(*phases, halves[half]), build.add(w, _const(half * v.lanes)))
        return context.get_dummy_value()

    return types.void(stride, i, lines, i, i, i, i, dst, i, i, i), codegen


def _repeat_rows(taps, douts, at, n, count, dst, to, width, rows, windows):
    """dst[to + (r * rows + q) * width + i * taps + k] = douts[at + r * n + i] / count for r < windows, q < rows, i < n and k < taps.

    Windows of `rows` x `taps` elements side by side, and zeros behind them, fewer than `taps` a row. taps: an integer literal.
    """
    for r in range(windows):
        for q in range(rows):
            dst[to + (r * rows + q) * width:to + (r * rows + q + 1) * width] = 0
            for i in range(n):
                for k in range(taps):
                    dst[to + (r * rows + q) * width + i * taps + k] = douts[at + r * n + i] / count


def _repeat_rows_intrinsic(typingctx, taps, douts, at, n, count, dst, to, width, rows, windows):
    if not isinstance(taps, types.IntegerLiteral):
        return None
    K, i = taps.literal_value, types.int64

    def codegen(context, builder, sig, args):
        _, _, _, n, count, _, _, width, rows, windows = args
        b, v = builder, Vector(context, builder, sig.args[1].dtype)
        source, target = cgutils.alloca_once_value(b, _pointer(context, b, sig.args[1], *args[1:3])), _pointer(context, b, sig.args[5], *args[5:7])
        target, lanes, divisor = cgutils.alloca_once_value(b, target), _const(v.lanes), v.broadcast(count)
        spread = [ir.Constant(ir.VectorType(I32, v.lanes), [(p * v.lanes + j) // K for j in range(v.lanes)]) for p in range(K)]
        last = b.sub(n, lanes)

        def parts(value):
            shares = b.fdiv(value, divisor)
            return [b.shuffle_vector(shares, shares, lanes_of) for lanes_of in spread]

        def every_row(place, store):
            row = cgutils.alloca_once_value(b, place)
            with cgutils.for_range(b, rows):
                here = b.load(row)
                store(here)
                b.store(b.gep(here, [width]), row)

        with cgutils.for_range(b, windows):
            start, end = b.load(source), b.load(target)
            with cgutils.for_range_slice(b, _const(0), b.mul(width, rows), lanes, I64) as (ahead, _):
                v.prefetch(b.gep(end, [b.add(ahead, _const(AHEAD_BYTES // v.itemsize))]), write=True)
            with b.if_else(b.icmp_signed(">=", last, _const(0)), likely=True) as (long, short):
                with long:
                    with cgutils.for_range_slice(b, _const(0), n, lanes, I64) as (done, _):
                        first = b.select(b.icmp_signed(">", done, last), last, done)      # overlaps the one before where n is no multiple
                        values = parts(v.load(b.gep(start, [first])))

                        def whole(here, values=values):
                            for p, value in enumerate(values):
                                v.store(value, b.gep(here, [_const(p * v.lanes)]))

                        every_row(b.gep(end, [b.mul(first, _const(K))]), whole)
                    with cgutils.for_range_slice(b, b.mul(n, _const(K)), width, _const(1), I64) as (column, _):
                        every_row(b.gep(end, [column]), lambda here: b.store(ir.Constant(v.scalar, 0.0), here))
                with short:
                    if MASKS:
                        values = parts(v.load_masked(start, v.mask(n)))
                    else:
                        value = cgutils.alloca_once_value(b, v.zero)
                        with cgutils.for_range(b, n) as loop:
                            element = b.load(b.gep(start, [loop.index]))
                            b.store(b.insert_element(b.load(value), element, b.trunc(loop.index, I32)), value)
                        values = parts(b.load(value))

                    def partly(here):
                        for p, value in enumerate(values):
                            left, place = b.sub(width, _const(p * v.lanes)), b.gep(here, [_const(p * v.lanes)])
                            with b.if_else(b.icmp_signed(">=", left, lanes)) as (all_of_it, some):
                                with all_of_it:
                                    v.store(value, place)
                                with some:
                                    with b.if_then(b.icmp_signed(">", left, _const(0))):
                                        _store_part(b, v, value, left, place)

                    every_row(end, partly)
            b.store(b.gep(start, [n]), source)
            b.store(b.gep(end, [b.mul(width, rows)]), target)
        return context.get_dummy_value()

    return types.void(taps, douts, i, i, douts.dtype, dst, i, i, i, i), codegen


share_row = either(_share_row, _share_row_intrinsic)
overlay = either(_overlay, _overlay_intrinsic, literal=True)
repeat_rows = either(_repeat_rows, _repeat_rows_intrinsic, literal=True)
