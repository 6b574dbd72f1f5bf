"""The gradient of a max pooling from its indices, a row of windows at once, with its plain-loop twin: each index is held against its own window.

So rows of dx are written once and in order, and nothing is read back. What does not lie in its window is reported, not scattered.
"""
from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.core import cgutils

from .simd import AHEAD_BYTES, I32, I64, LINE_BYTES, Vector, _pointer, either
from .simd_depthwise import _const

BITS = 28                                    # of an index: planes have fewer than 2 ** BITS elements


def _give_at(stride, taps, odd, where, douts, at, windows, first, size, carry, pitch, dst, to, line, pad, n, below):
    """Window j holds the columns j * stride - pad .. + taps - 1 of `taps` rows of n >= 8 elements, and gives douts[at + j] to the one of them that
    where[at + j] says, for j < windows. Element (r, column) of these rows has the number first + r * n + column; there are `size`.

    dst[to + w], w < n, gets what is given to the first row (to = -1: it is not wanted) and line[w], of stride 2, what is given to the second. Rows
    behind are kept for the next row of windows, and added to what that gives: column m * stride + q of kept row i is
    carry[(i * stride + q) * pitch + m], of which there are zeros in the beginning. line: n elements that are written over in any case. pitch:
    n / stride and a vector, at least. below: how far behind dst[to] lies what is to be fetched meanwhile, `stride` rows.

    Returns whether an index lies outside of its window or of the plane. Integer literals: stride (1 or 2), taps (up to 3), odd (pad % stride).
    """
    rows, missed = [[douts.dtype.type(0)] * (stride * pitch) for _ in range(taps)], False
    for i in range(taps - stride):
        for q in range(stride):
            rows[i][q::stride] = carry[(i * stride + q) * pitch:(i * stride + q + 1) * pitch]
    for j in range(windows):
        place, column = where[at + j], j * stride - pad
        r, k = divmod(place - first - column, n)
        if 0 <= place < size and 0 <= r < taps and k < taps and 0 <= column + k < n:
            rows[r][column + k] += douts[at + j]
        else:
            missed = True
    line[:n] = rows[stride - 1][:n]
    if to >= 0:
        dst[to:to + n] = rows[0][:n]
    for i in range(taps - stride):
        for q in range(stride):
            carry[(i * stride + q) * pitch:(i * stride + q + 1) * pitch] = rows[stride + i][q::stride]
    return missed


def _give_at_intrinsic(typingctx, stride, taps, odd, where, douts, at, windows, first, size, carry, pitch, dst, to, line, pad, n, below):
    if not all(isinstance(literal, types.IntegerLiteral) for literal in (stride, taps, odd)):
        return None
    S, K, P, i = stride.literal_value, taps.literal_value, odd.literal_value, types.int64

    def codegen(context, builder, sig, args):
        build, v = builder, Vector(context, builder, sig.args[4].dtype)
        at, windows, first, size, pitch, to, pad, n, below = *args[5:9], args[10], args[12], *args[14:]
        L, index, long = v.lanes, ir.VectorType(I32, v.lanes), ir.VectorType(I64, v.lanes)
        indices, douts, carries = (_pointer(context, build, sig.args[k], args[k], start) for k, start in ((3, at), (4, at), (9, _const(0))))
        line = _pointer(context, build, sig.args[13], args[13], _const(0))
        target = build.select(build.icmp_signed(">=", to, _const(0)), _pointer(context, build, sig.args[11], args[11], to), line)
        ahead = build.sdiv(build.add(pad, _const(P)), _const(S))     # window j + ahead is the last to hold the columns from j * stride on
        columns = ir.Constant(index, [S * r for r in range(L)])      # of the windows of a vector, behind that of the first
        wanted = [[v.broadcast_index(build.add(build.mul(n, _const(r)), _const(k))) for k in range(K)] for r in range(K)]
        width, every = v.broadcast_index(n), v.broadcast_index(size)
        halves = [ir.Constant(index, [half * L // 2 + r // 2 + r % 2 * L for r in range(L)]) for half in range(2)]
        seen = cgutils.alloca_once_value(build, ir.Constant(long, [0] * L))          # the bits of all indices
        missed = cgutils.alloca_once_value(build, ir.Constant(v._bits, [0] * L))
        before = cgutils.alloca_once_value(build, ir.Constant(index, [0] * L)), cgutils.alloca_once_value(build, v.zero)

        def lanes_from(place, end):
            """The lanes r with 0 <= place + r < end."""
            lanes = ir.Constant(index, list(range(L)))
            return build.and_(build.icmp_signed(">=", lanes, v.broadcast_index(_clamped(build, build.neg(place), L))),
                              build.icmp_signed("<", lanes, v.broadcast_index(_clamped(build, build.sub(end, place), L))))

        def load_indices(place, there):
            place = build.bitcast(place, long.as_pointer())
            if there is None:
                found = build.load(place)
                found.align = 8
                return found
            kind = ir.FunctionType(long, [place.type, I32, v._bits, long])
            masked = cgutils.get_or_insert_function(build.module, kind, f"llvm.masked.load.v{L}i64.p0")
            return build.call(masked, [place, ir.Constant(I32, 8), there, ir.Constant(long, [0] * L)])

        def load(j, inside):
            """Of the windows j .. j + L - 1: how far behind the first of its window each index is, and dout. inside: they all are windows."""
            there = None if inside else lanes_from(j, windows)
            found = load_indices(build.gep(indices, [j]), there)
            dout = v.load(build.gep(douts, [j])) if inside else v.load_masked(build.gep(douts, [j]), there)
            build.store(build.or_(build.load(seen), found), seen)
            short, column = build.trunc(found, index), build.sub(build.mul(j, _const(S)), pad)
            beyond = build.sub(short, build.add(v.broadcast_index(build.add(first, column)), columns))
            tap = beyond
            for r in range(1, K):
                behind = build.icmp_signed(">=", beyond, wanted[r][0])
                tap = build.select(behind, build.sub(tap, width), tap)
            good = build.and_(build.icmp_unsigned("<", tap, ir.Constant(index, [K] * L)), build.icmp_unsigned("<", short, every))
            if not inside:
                place = build.add(tap, build.add(v.broadcast_index(column), columns))
                good = build.or_(build.and_(good, build.icmp_unsigned("<", place, width)), build.not_(there))
            build.store(build.or_(build.load(missed), build.not_(good)), missed)
            return beyond, dout

        def block(m, inside):
            """The columns of m .. m + L - 1; inside: nothing of them, and of the windows, lies beyond an end."""
            w = build.mul(m, _const(S))
            for row in range(S):
                fetched = build.gep(target, [build.add(w, build.add(below, build.mul(n, _const(row))))])
                for part in range(S):
                    v.prefetch(build.gep(fetched, [_const(part * L)]), write=True)
            far = AHEAD_BYTES // 8           # of indices, and as many of dout
            for part in range(8 // v.itemsize):
                v.prefetch(build.gep(indices, [build.add(m, _const(far + part * LINE_BYTES // 8))]))
            v.prefetch(build.gep(douts, [build.add(m, _const(far))]))
            now = load(build.add(m, ahead), inside)
            old = [build.load(slot) for slot in before]
            for slot, value in zip(before, now):
                build.store(value, slot)
            shifts = {0: now}
            for s in range(1, (P + K - 1) // S + 1):
                lanes = ir.Constant(index, [L - s + r for r in range(L)])
                shifts[s] = [build.shuffle_vector(one, two, lanes) for one, two in zip(old, now)]
            for r in range(K):
                phases = []
                for q in range(S):
                    total = v.load(build.gep(carries, [build.add(build.mul(pitch, _const(r * S + q)), m)])) if r < K - S else None
                    for k in range(K - 1, -1, -1):               # windows in their order
                        s, other = divmod(P + k - q, S)
                        if other == 0 and s >= 0:
                            beyond, dout = shifts[s]
                            more = dout if total is None else build.fadd(total, dout)
                            total = build.select(build.icmp_signed("==", beyond, wanted[r][k]), more, v.zero if total is None else total)
                    phases.append(total)
                if r >= S:
                    for q in range(S):
                        v.store(phases[q], build.gep(carries, [build.add(build.mul(pitch, _const((r - S) * S + q)), m)]))
                    continue
                for part, value in enumerate(phases if S == 1 else [build.shuffle_vector(*phases, half) for half in halves]):
                    column, row = build.add(w, _const(part * L)), target if r == 0 else line
                    if inside:
                        v.store(value, build.gep(row, [column]))
                    else:
                        v.store_masked(value, build.gep(row, [column]), lanes_from(column, n))

        with build.if_then(build.icmp_signed(">", ahead, _const(0))):
            for slot, value in zip(before, load(build.sub(ahead, _const(L)), False)):
                build.store(value, slot)
        with cgutils.for_range_slice(build, _const(0), build.sdiv(build.add(n, _const(S - 1)), _const(S)), _const(L), I64) as (m, _):
            end = build.add(m, _const(L))
            inside = build.and_(build.icmp_signed("<=", build.add(build.mul(end, _const(S)), _const(P + K - S)), n),
                                build.icmp_signed("<=", build.add(end, ahead), windows))
            with build.if_else(inside, likely=True) as (whole, part):
                with whole:
                    block(m, True)
                with part:
                    block(m, False)
        large = build.icmp_unsigned(">", build.load(seen), ir.Constant(long, [2 ** BITS - 1] * L))
        bits = build.bitcast(build.or_(build.load(missed), large), ir.IntType(L))
        return build.icmp_unsigned("!=", bits, ir.Constant(bits.type, 0))

    return types.boolean(stride, taps, odd, where, douts, i, i, i, i, carry, i, dst, i, line, i, i, i), codegen


def _clamped(builder, n, most):
    """n between 0 and most."""
    n = builder.select(builder.icmp_signed("<", n, _const(0)), _const(0), n)
    return builder.select(builder.icmp_signed(">", n, _const(most)), _const(most), n)


give_at = either(_give_at, _give_at_intrinsic, literal=True)
