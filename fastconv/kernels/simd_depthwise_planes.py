"""The tiles of depthwise convolution of planes side by side (simd_planes.py), each with a plain-loop twin: a vector is one pixel of many channels.

So a tap is one vector of weights, whatever stride and dilation, and no lane is ever empty.
"""
from __future__ import annotations

from numba import types
from numba.core import cgutils

from .simd import I64, Vector, _pointer, either
from .simd_depthwise import _const
from .tiles import REGISTERS, VECTOR_BYTES

COLUMNS = 7 if REGISTERS >= 32 else 4        # results of a row at once: enough sums in flight, and no more than small planes have
TAPS = 9                                     # of 3x3: known when compiled, and sums of the gradient to the weights at once


def _taps_of_planes(known, src, at, rise, taps, first, last, weight, addend, dst, to, down, step, rows, columns):
    """dst[to + i * down + j * step + r] = weight[addend + r] + the sum over taps first .. last, (offset, w), of
    src[at + i * rise + offset + j * lanes + r] * weight[w + r].

    For i < rows, j < columns and r < lanes. known: last - first, an integer literal, or 0. taps: pairs of integers. Of each row up to COLUMNS - 1
    more are written than there are, with any values, before the next row is, and what they would be made of is read.
    """
    lanes = VECTOR_BYTES // src.itemsize
    for i in range(rows):
        for j in range(columns):
            for r in range(lanes):
                total = weight[addend + r]
                for k in range(first, last):
                    total += src[at + i * rise + taps[2 * k] + j * lanes + r] * weight[taps[2 * k + 1] + r]
                dst[to + i * down + j * step + r] = total


def _taps_of_planes_intrinsic(typingctx, known, src, at, rise, taps, first, last, weight, addend, dst, to, down, step, rows, columns):
    if not isinstance(known, types.IntegerLiteral):
        return None
    T, i = known.literal_value, types.int64

    def codegen(context, builder, sig, args):
        _, _, _, rise, _, first, last, _, addend, _, _, down, step, rows, columns = args
        b, v = builder, Vector(context, builder, sig.args[1].dtype)
        source, target = (_pointer(context, b, sig.args[k], *args[k:k + 2]) for k in (1, 9))
        all_pairs, weights = (context.make_array(sig.args[k])(context, b, args[k]).data for k in (4, 7))
        start, count, pairs = v.load(b.gep(weights, [addend])), b.sub(last, first), b.gep(all_pairs, [b.mul(first, _const(2))])
        sums = [cgutils.alloca_once_value(b, v.zero) for _ in range(COLUMNS)]

        def tap(k):
            pair = b.gep(pairs, [b.mul(k, _const(2))])
            return b.load(pair), v.load(b.gep(weights, [b.load(b.gep(pair, [_const(1)]))]))

        def add(line, factor):
            for c, total in enumerate(sums):
                b.store(v.multiply_add(v.load(b.gep(line, [_const(c * v.lanes)])), factor, b.load(total)), total)

        kept = [tap(_const(k)) for k in range(T)]
        with cgutils.for_range(b, rows) as row:
            here, there = b.gep(source, [b.mul(row.index, rise)]), b.gep(target, [b.mul(row.index, down)])
            lines = [b.gep(here, [offset]) for offset, _ in kept]
            with cgutils.for_range_slice(b, _const(0), columns, _const(COLUMNS), I64) as (j, _):
                across, place = b.mul(j, _const(v.lanes)), b.gep(there, [b.mul(j, step)])
                for total in sums:
                    b.store(start, total)
                for line, (_, factor) in zip(lines, kept):
                    add(b.gep(line, [across]), factor)
                if not T:
                    with cgutils.for_range(b, count) as loop:
                        offset, factor = tap(loop.index)
                        add(b.gep(here, [b.add(offset, across)]), factor)
                for c, total in enumerate(sums):
                    v.store(b.load(total), b.gep(place, [b.mul(step, _const(c))]))
        return context.get_dummy_value()

    return types.void(known, src, i, i, taps, i, i, weight, i, dst, i, i, i, i, i), codegen


def _sums_of_planes(src, rise, taps, first, valid, dout, rows, columns, sums, to, d_to):
    """sums[to + k * lanes + r] += the sum over i < rows, j < columns of
    src[i * rise + taps[2 * (first + k)] + j * lanes + r] * dout[(i * columns + j) * lanes + r].

    For k < valid <= TAPS and r < lanes; taps: pairs of integers, of which the first counts. One chain for each sum. Where `first` is 0, dout
    itself is added up as well, at sums[d_to + r].
    """
    lanes = VECTOR_BYTES // src.itemsize
    for k in range(valid):
        for r in range(lanes):
            total = src.dtype.type(0)
            for i in range(rows):
                for j in range(columns):
                    total += src[i * rise + taps[2 * (first + k)] + j * lanes + r] * dout[(i * columns + j) * lanes + r]
            sums[to + k * lanes + r] += total
    for i in range(0 if first else rows * columns):
        sums[d_to:d_to + lanes] += dout[i * lanes:(i + 1) * lanes]


def _sums_of_planes_intrinsic(typingctx, src, rise, taps, first, valid, dout, rows, columns, sums, to, d_to):
    i = types.int64

    def codegen(context, builder, sig, args):
        b, v = builder, Vector(context, builder, sig.args[0].dtype)
        _, rise, _, first, valid, _, rows, columns, _, _, d_to = args
        source, pairs, given = (context.make_array(sig.args[k])(context, b, args[k]).data for k in (0, 2, 5))
        target, last = _pointer(context, b, sig.args[8], *args[8:10]), b.sub(valid, _const(1))
        total = [cgutils.alloca_once_value(b, v.zero) for _ in range(TAPS + 1)]
        for place in total:
            b.store(v.zero, place)
        lines = []
        for k in range(TAPS):                # those that are missing are made of the last one, and dropped
            tap = b.add(first, b.select(b.icmp_signed("<", _const(k), last), _const(k), last))
            lines.append(b.gep(source, [b.load(b.gep(pairs, [b.mul(tap, _const(2))]))]))
        with cgutils.for_range(b, rows) as row:
            down, line_of_dout = b.mul(row.index, rise), b.gep(given, [b.mul(row.index, b.mul(columns, _const(v.lanes)))])
            pixels = [b.gep(line, [down]) for line in lines]
            with cgutils.for_range(b, columns) as column:
                across = b.mul(column.index, _const(v.lanes))
                value = v.load(b.gep(line_of_dout, [across]))
                for line, place in zip(pixels, total):
                    b.store(v.multiply_add(v.load(b.gep(line, [across])), value, b.load(place)), place)
                b.store(b.fadd(b.load(total[TAPS]), value), total[TAPS])
        kept = [(b.icmp_signed("<", _const(k), valid), b.gep(target, [_const(k * v.lanes)])) for k in range(TAPS)]
        kept.append((b.icmp_signed("==", first, _const(0)), _pointer(context, b, sig.args[8], args[8], d_to)))
        for (condition, to), place in zip(kept, total):
            with b.if_then(condition, likely=True):
                v.store(b.fadd(v.load(to), b.load(place)), to)
        return context.get_dummy_value()

    return types.void(src, i, taps, i, i, dout, i, i, sums, i, i), codegen


taps_of_planes = either(_taps_of_planes, _taps_of_planes_intrinsic, literal=True)
sums_of_planes = either(_sums_of_planes, _sums_of_planes_intrinsic)
