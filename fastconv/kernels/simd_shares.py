"""The gradient of an average pooling row by row, each kernel with a plain-loop twin: what every window gives, and its sum over the windows."""
from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.core import cgutils

from .simd import AHEAD_BYTES, I32, I64, Vector, _pointer, either, emit_choice
from .simd_depthwise import MASKS, _const, _store_part
from .tiles import VECTOR_BYTES

MOST_TAPS = 3, 4                             # of `share_row`, of stride 1 and of stride 2
SHIFTS = 3                                   # windows of a row at which `share_row` looks for each column


def _share_row(stride, taps, douts, at, windows, factors, line, to, pad, n, ahead):
    """line[to + w] = the sum of douts[at + j] * factors[lanes + j] over the windows j < windows that hold column w, for w < n, and anything behind it
    up to the end of `stride` vectors.

    Window j holds the columns j * stride - pad + k, k < taps <= MOST_TAPS. factors has room for a vector before and two behind. stride: the literal
    1 or 2. What lies `ahead` behind these douts is fetched meanwhile.
    """
    first = VECTOR_BYTES // douts.itemsize
    for w in range(n):
        total = line.dtype.type(0)
        for k in range(taps):
            j = (w + pad - k) // stride
            if (w + pad - k) % stride == 0 and 0 <= j < windows:
                total += douts[at + j] * factors[first + j]
        line[to + w] = total


def _share_row_intrinsic(typingctx, stride, taps, douts, at, windows, factors, line, to, pad, n, ahead):
    if not isinstance(stride, types.IntegerLiteral):
        return None
    S, i = stride.literal_value, types.int64

    def codegen(context, builder, sig, args):
        b, v, (taps, windows, pad, n, ahead) = builder, Vector(context, builder, sig.args[2].dtype), (args[k] for k in (1, 4, 8, 9, 10))
        L, index = v.lanes, ir.VectorType(I32, v.lanes)
        halves = [ir.Constant(index, [half * L // 2 + j // 2 + j % 2 * L for j in range(L)]) for half in range(2)]
        base = b.sdiv(b.add(pad, _const(S - 1)), _const(S))      # the last window that can hold column 0 or, of stride 2, 1
        source, target = _pointer(context, b, sig.args[2], args[2], b.add(args[3], base)), _pointer(context, b, sig.args[6], *args[6:8])
        shares = _pointer(context, b, sig.args[5], args[5], b.add(base, _const(L)))
        first, left = b.sub(pad, b.mul(base, _const(S))), b.sub(windows, base)
        wanted = []                          # for each column q < S, which of the windows base - s hold it
        for q in range(S):
            hold = [b.icmp_unsigned("<", b.add(first, _const(q + S * s)), taps) for s in range(SHIFTS)]
            wanted.append([b.icmp_signed("!=", v.broadcast_index(b.zext(yes, I64)), ir.Constant(index, [0] * L)) for yes in hold])

        def given(j, there=None):
            place = b.gep(source, [j])
            return b.fmul(v.load(place) if there is None else v.load_masked(place, there), v.load(b.gep(shares, [j])))

        def block(j, now):
            old, w = b.load(before), b.mul(j, _const(S))
            b.store(now, before)
            v.prefetch(b.gep(source, [b.add(j, ahead)]))
            shifted = [now, *(b.shuffle_vector(old, now, ir.Constant(index, [L - s + r for r in range(L)])) for s in range(1, SHIFTS))]
            phases = []
            for holds in wanted:
                total = v.zero
                for which, value in zip(holds, shifted):
                    total = b.select(which, b.fadd(total, value), total)
                phases.append(total)
            for part, value in enumerate(phases if S == 1 else [b.shuffle_vector(*phases, half) for half in halves]):
                v.store(value, b.gep(target, [b.add(w, _const(part * L))]))

        earlier = b.icmp_signed(">=", ir.Constant(index, list(range(L))), v.broadcast_index(b.sub(_const(L), base)))
        earlier = b.and_(earlier, b.icmp_signed("<", ir.Constant(index, list(range(L))), v.broadcast_index(b.add(left, _const(L)))))
        before = cgutils.alloca_once_value(b, given(_const(-L), earlier))
        with cgutils.for_range_slice(b, _const(0), b.sdiv(b.add(n, _const(S - 1)), _const(S)), _const(L), I64) as (j, _):
            rest = b.sub(left, j)
            with b.if_else(b.icmp_signed(">=", rest, _const(L)), likely=True) as (whole, part):
                with whole:
                    block(j, given(j))
                with part:
                    block(j, given(j, v.mask(rest)))
        return context.get_dummy_value()

    return types.void(stride, i, douts, i, i, factors, line, i, i, i, i), codegen


def _add_rows(lines, at, step, count, dst, to, n):
    """dst[to + i] = the sum of lines[at + r * step + i] over r < count <= 3, for i < n."""
    for i in range(n):
        total = dst.dtype.type(0)
        for r in range(count):
            total += lines[at + r * step + i]
        dst[to + i] = total


def _add_rows_intrinsic(typingctx, lines, at, step, count, dst, to, n):
    i = types.int64

    def codegen(context, builder, sig, args):
        b, v, n = builder, Vector(context, builder, sig.args[0].dtype), args[6]
        source, target, lanes = _pointer(context, b, sig.args[0], *args[:2]), _pointer(context, b, sig.args[4], *args[4:6]), _const(v.lanes)

        def rows_of(rows):
            places = [b.gep(source, [b.mul(args[2], _const(r))]) for r in range(rows)]

            def total(done):
                value = v.load(b.gep(places[0], [done])) if rows else v.zero
                for place in places[1:]:
                    value = b.fadd(value, v.load(b.gep(place, [done])))
                return value

            whole = b.mul(b.sdiv(n, lanes), lanes)
            with cgutils.for_range_slice(b, _const(0), whole, lanes, I64) as (done, _):
                v.store(total(done), b.gep(target, [done]))
            left = b.sub(n, whole)
            with b.if_then(b.icmp_signed(">", left, _const(0))):
                _store_part(b, v, total(whole), left, b.gep(target, [whole]))

        emit_choice(b, (0, 1, 2, 3), lambda rows: b.icmp_signed("==", args[3], _const(rows)), rows_of)
        return context.get_dummy_value()

    return types.void(lines, i, i, i, dst, i, i), codegen


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


share_row = either(_share_row, _share_row_intrinsic, literal=True)
add_rows = either(_add_rows, _add_rows_intrinsic)
repeat_rows = either(_repeat_rows, _repeat_rows_intrinsic, literal=True)
