"""The gradient of a max pooling row by row, each kernel with a plain-loop twin: who wins, as bits, and what the winners get.

Of each vector of windows there are three integers, one for each of three candidates: bit r is set where it is the first maximum of window r.
Lines lie in scratch memory with room for two vectors behind what is in use, which may be read and written.
"""
from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.core import cgutils

from ..instruction_set import isa
from .simd import I32, I64, Vector, _pointer, either
from .simd_depthwise import _const
from .tiles import VECTOR_BYTES


def _winners(stride, keep, lines, a, b, c, best, best_at, bits, bits_at, n):
    """Candidates 0, 1, 2 of window j are lines[a + j * stride], lines[b + ...] and lines[c + ...], without NaN. best[best_at + j]: the largest.

    bits[bits_at + 3 * (j // lanes) + k]: where candidate k wins; for all j < n, and up to the end of the vector. stride (1 or 2) and keep
    (0: best is not written): integer literals.
    """
    lanes = VECTOR_BYTES // lines.itemsize
    for first in range(0, n, lanes):
        masks = [0, 0, 0]
        for r in range(lanes):
            values = [lines[at + (first + r) * stride] for at in (a, b, c)]
            k = max(range(3), key=lambda k: (values[k], -k))
            masks[k] |= 1 << r
            if keep:
                best[best_at + first + r] = values[k]
        for k in range(3):
            bits[bits_at + first // lanes * 3 + k] = masks[k]


def _winners_intrinsic(typingctx, stride, keep, lines, a, b, c, best, best_at, bits, bits_at, n):
    if not isinstance(stride, types.IntegerLiteral) or not isinstance(keep, types.IntegerLiteral):
        return None
    S, i = stride.literal_value, types.int64

    def codegen(context, builder, sig, args):
        build, v = builder, Vector(context, builder, sig.args[2].dtype)
        sources = [_pointer(context, build, sig.args[2], args[2], at) for at in args[3:6]]
        top_end, bits_end = (_pointer(context, build, sig.args[k], args[k], args[k + 1]) for k in (6, 8))
        even = ir.Constant(ir.VectorType(I32, v.lanes), [S * j for j in range(v.lanes)])
        with cgutils.for_range_slice(build, _const(0), args[10], _const(v.lanes), I64) as (j, _):
            values = []
            for source in sources:
                place = build.gep(source, [build.mul(j, _const(S))])
                value = v.load(place)
                values.append(build.shuffle_vector(value, v.load(build.gep(place, [_const(v.lanes)])), even) if S == 2 else value)
            second = build.fcmp_ordered(">", values[1], values[0])
            top = build.select(second, values[1], values[0])
            third = build.fcmp_ordered(">", values[2], top)
            if keep.literal_value:
                v.store(build.select(third, values[2], top), build.gep(top_end, [j]))
            masks = [build.not_(build.or_(second, third)), build.and_(second, build.not_(third)), third]
            end = build.gep(bits_end, [build.mul(build.sdiv(j, _const(v.lanes)), _const(3))])
            for k, mask in enumerate(masks):
                build.store(build.zext(build.bitcast(mask, ir.IntType(v.lanes)), I64), build.gep(end, [_const(k)]))
        return context.get_dummy_value()

    return types.void(stride, keep, lines, i, i, i, best, i, bits, i, i), codegen


def _give(stride, rows, row_a, row_b, row_c, columns, column, douts, a, b, c, dst, to, pad, n):
    """dst[to + w] for w < n: of each window what it gives, in the column that won. Window j gives douts[a + j] where its bit among rows[row_a] is
    set, so also b and c; candidate k of columns[column] is place j * stride + k - pad of dst. stride: the literal 1 or 2.
    """
    lanes = VECTOR_BYTES // douts.itemsize
    dst[to:to + n] = 0
    for j in range((n + pad + stride - 1) // stride):
        block, bit, total = j // lanes * 3, 1 << j % lanes, 0
        for row, at in ((row_a, a), (row_b, b), (row_c, c)):
            total += douts[at + j] if rows[row + block] & bit else 0
        for k in range(3):
            w = j * stride + k - pad
            if columns[column + block + k] & bit and 0 <= w < n:
                dst[to + w] += total


def _give_intrinsic(typingctx, stride, rows, row_a, row_b, row_c, columns, column, douts, a, b, c, dst, to, pad, n):
    if not isinstance(stride, types.IntegerLiteral):
        return None
    S, i = stride.literal_value, types.int64

    def codegen(context, builder, sig, args):
        build, v, pad, n = builder, Vector(context, builder, sig.args[7].dtype), args[13], args[14]
        row_bits = [_pointer(context, build, sig.args[1], args[1], at) for at in args[2:5]]
        column_bits = _pointer(context, build, sig.args[5], args[5], args[6])
        sources = [_pointer(context, build, sig.args[7], args[7], at) for at in args[8:11]]
        target, lanes = _pointer(context, build, sig.args[11], args[11], args[12]), _const(v.lanes)
        index = ir.VectorType(I32, v.lanes)
        halves = [ir.Constant(index, [half * v.lanes // 2 + j // 2 + j % 2 * v.lanes for j in range(v.lanes)]) for half in range(2)]
        before = [cgutils.alloca_once_value(build, v.zero) for _ in range(3)]        # what each column got in the vector before

        def where(pointer, block, k=0):
            bits = build.load(build.gep(pointer, [build.add(block, _const(k))]))
            return build.bitcast(build.trunc(bits, ir.IntType(v.lanes)), v._bits)

        def put(value, w):
            left, end = build.sub(n, w), build.gep(target, [w])
            inside = build.and_(build.icmp_signed(">=", w, _const(0)), build.icmp_signed(">=", left, lanes))
            with build.if_else(inside, likely=True) as (whole, part):
                with whole:
                    v.store(value, end)
                with part:
                    first = build.sub(_const(0), w)
                    if isa() == "avx512":
                        every = ir.Constant(index, list(range(v.lanes)))
                        limits = [v.broadcast_index(limit) for limit in (_clamped(build, first, v.lanes), _clamped(build, left, v.lanes))]
                        mask = build.and_(build.icmp_signed(">=", every, limits[0]), build.icmp_signed("<", every, limits[1]))
                        v.store_masked(value, end, mask)
                    else:
                        for r in range(v.lanes):
                            here = build.and_(build.icmp_signed("<=", first, _const(r)), build.icmp_signed("<", _const(r), left))
                            with build.if_then(here):
                                build.store(build.extract_element(value, ir.Constant(I32, r)), build.gep(end, [_const(r)]))

        def shifted(k, value, by):
            """The vector that starts `by` lanes earlier."""
            old = build.load(before[k])
            build.store(value, before[k])
            return build.shuffle_vector(old, value, ir.Constant(index, [v.lanes - by + r for r in range(v.lanes)]))

        windows = build.sdiv(build.add(build.add(n, pad), _const(S - 1)), _const(S))
        with cgutils.for_range_slice(build, _const(0), windows, lanes, I64) as (j, _):
            block = build.mul(build.sdiv(j, lanes), _const(3))
            terms = [build.select(where(bits, block), v.load(build.gep(source, [j])), v.zero) for bits, source in zip(row_bits, sources)]
            given = build.fadd(build.fadd(terms[0], terms[1]), terms[2])
            got = [build.select(where(column_bits, block, k), given, v.zero) for k in range(3)]
            w = build.sub(build.mul(j, _const(S)), pad)
            if S == 1:
                put(build.fadd(build.fadd(got[0], shifted(1, got[1], 1)), shifted(2, got[2], 2)), w)
            else:
                phases = [build.fadd(got[0], shifted(2, got[2], 1)), got[1]]
                put(build.shuffle_vector(*phases, halves[0]), w)
                put(build.shuffle_vector(*phases, halves[1]), build.add(w, lanes))
        return context.get_dummy_value()

    return types.void(stride, rows, i, i, i, columns, i, douts, i, i, i, dst, i, i, i), codegen


def _clamped(builder, n, most):
    """n between 0 and most."""
    n = builder.select(builder.icmp_signed("<", n, _const(0)), _const(0), n)
    return builder.select(builder.icmp_signed(">", n, _const(most)), _const(most), n)


winners = either(_winners, _winners_intrinsic, literal=True)
give = either(_give, _give_intrinsic, literal=True)
