"""The gradient of a max pooling line by line, for windows of any size, each kernel with a plain-loop twin: which of many lines is the first
maximum, and the sum of what lines give to one of them.

Elements are compared as integers in their order, keys, kept in the memory of floats of the same size: padding is less than -inf, which is less
than all numbers, and NaN is more than all of them. -0 and 0 have one key, and all NaN. Which line won is its number, in 8 bits.
"""
from __future__ import annotations

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils

from .simd import I32, I64, Vector, _pointer, either
from .simd_depthwise import _const, _load_part, _store_part
from .tiles import VECTOR_BYTES

MOST_LINES = 127                             # that a number of 8 bits can tell apart
I8 = ir.IntType(8)


def _keys_of(x):
    return x.view(np.int32 if x.itemsize == 4 else np.int64)


def _order(src, at, line, to, n):
    """line[to + i] = the key of src[at + i] for i < n."""
    x = src[at:at + n] + src.dtype.type(0)
    keys, most = _keys_of(x), np.iinfo(_keys_of(x).dtype).max
    _keys_of(line)[to:to + n] = np.where(x != x, most, np.where(keys < 0, keys ^ most, keys))


def _integers(v):
    return ir.VectorType(ir.IntType(8 * v.itemsize), v.lanes)


def _order_intrinsic(typingctx, src, at, line, to, n):
    def codegen(context, builder, sig, args):
        b, v = builder, Vector(context, builder, sig.args[0].dtype)
        source, target, n = _pointer(context, b, sig.args[0], *args[:2]), _pointer(context, b, sig.args[2], *args[2:4]), args[4]
        kind = _integers(v)
        most, sign = (ir.Constant(kind, [number] * v.lanes) for number in (2 ** (8 * v.itemsize - 1) - 1, 8 * v.itemsize - 1))

        def key(value):
            value = b.fadd(value, v.zero)
            bits = b.bitcast(value, kind)
            bits = b.xor(bits, b.and_(b.ashr(bits, sign), most))
            return b.bitcast(b.select(b.fcmp_unordered("uno", value, value), most, bits), v.type)

        with cgutils.for_range_slice(b, _const(0), n, _const(v.lanes), I64) as (i, _):
            here, end, left = b.gep(source, [i]), b.gep(target, [i]), b.sub(n, i)
            with b.if_else(b.icmp_signed(">=", left, _const(v.lanes)), likely=True) as (whole, part):
                with whole:
                    v.store(key(v.load(here)), end)
                with part:
                    _store_part(b, v, key(_load_part(b, v, left, here)), left, end)
        return context.get_dummy_value()

    i = types.int64
    return types.void(src, i, line, i, i), codegen


def _pad(line, at, n):
    """line[at + i] = the key of padding, which never wins, for i < n."""
    _keys_of(line)[at:at + n] = np.iinfo(_keys_of(line).dtype).min


def _pad_intrinsic(typingctx, line, at, n):
    def codegen(context, builder, sig, args):
        v = Vector(context, builder, sig.args[0].dtype)
        kind = ir.IntType(8 * v.itemsize)
        target = builder.bitcast(_pointer(context, builder, sig.args[0], *args[:2]), kind.as_pointer())
        with cgutils.for_range(builder, args[2]) as loop:
            builder.store(ir.Constant(kind, -2 ** (8 * v.itemsize - 1)), builder.gep(target, [loop.index]))
        return context.get_dummy_value()

    return types.void(line, types.int64, types.int64), codegen


def _in_groups(b, v, n, group):
    """group(j, many) for the vectors j, j + lanes, ... of n elements, some at a time: what a line needs is done for all of these once."""
    done = cgutils.alloca_once_value(b, _const(0))
    vectors = b.mul(b.sdiv(b.add(n, _const(v.lanes - 1)), _const(v.lanes)), _const(v.lanes))
    for many in (4, 1):
        first, step = b.load(done), _const(many * v.lanes)
        stop = b.add(first, b.mul(b.sdiv(b.sub(vectors, first), step), step))
        with cgutils.for_range_slice(b, first, stop, step, I64) as (j, _):
            group(j, many)
        b.store(stop, done)


def _first_of(lines, at, starts, count, best, best_at, won, won_at, n):
    """best[best_at + j]: the largest of the keys lines[at + starts[t] + j], t < count; won[won_at + j]: the first t that has it. For j < n, and up to
    the end of the vector. count: 1 to MOST_LINES."""
    lanes = VECTOR_BYTES // lines.itemsize
    n = -(-n // lanes) * lanes
    keys = np.stack([_keys_of(lines)[at + starts[t]:at + starts[t] + n] for t in range(count)])
    won[won_at:won_at + n] = keys.argmax(0)
    _keys_of(best)[best_at:best_at + n] = keys.max(0)


def _first_of_intrinsic(typingctx, lines, at, starts, count, best, best_at, won, won_at, n):
    def codegen(context, builder, sig, args):
        b, v = builder, Vector(context, builder, sig.args[0].dtype)
        lines, target, numbers = (_pointer(context, b, sig.args[k], *args[k:k + 2]) for k in (0, 4, 6))
        starts = _pointer(context, b, sig.args[2], args[2], _const(0))
        kind, small = _integers(v), ir.VectorType(I8, v.lanes)

        def load(t, j, many):
            place = b.gep(lines, [b.add(b.load(b.gep(starts, [t])), j)])
            return [b.bitcast(v.load(b.gep(place, [_const(k * v.lanes)])), kind) for k in range(many)]

        def group(j, many):
            tops, found = [[cgutils.alloca_once(b, which) for _ in range(many)] for which in (kind, small)]
            for slot, number, value in zip(tops, found, load(_const(0), j, many)):
                b.store(value, slot)
                b.store(ir.Constant(small, [0] * v.lanes), number)
            with cgutils.for_range_slice(b, _const(1), args[3], _const(1), I64) as (t, _):
                line = _splat(b, b.trunc(t, I8), small)
                for slot, number, value in zip(tops, found, load(t, j, many)):
                    old = b.load(slot)
                    take = b.icmp_signed(">", value, old)
                    b.store(b.select(take, value, old), slot)
                    b.store(b.select(take, line, b.load(number)), number)
            for k, (slot, number) in enumerate(zip(tops, found)):
                place = b.add(j, _const(k * v.lanes))
                v.store(b.bitcast(b.load(slot), v.type), b.gep(target, [place]))
                b.store(b.load(number), b.bitcast(b.gep(numbers, [place]), small.as_pointer())).align = 1

        _in_groups(b, v, args[8], group)
        return context.get_dummy_value()

    i = types.int64
    return types.void(lines, i, starts, i, best, i, won, i, i), codegen


def _splat(b, value, kind):
    one = b.insert_element(ir.Constant(kind, ir.Undefined), value, ir.Constant(I32, 0))
    return b.shuffle_vector(one, one, ir.Constant(ir.VectorType(I32, kind.count), [0] * kind.count))


def _collect(stride, won, won_at, values, at, taps, first, dst, to, n):
    """dst[to + j * stride + q] = the sum of those values[at + s + j] where won[won_at + w + j] is k, over the rows (w, k, s) of taps that belong to
    number first + q. For q < stride and j < n, and up to the end of the vector. stride: the literal 1 or 2.

    taps: (numbers, most rows and one, 3); taps[number, 0, 0] says how many rows there are, and they stand behind that.
    """
    lanes = VECTOR_BYTES // values.itemsize
    n = -(-n // lanes) * lanes
    for q in range(stride):
        total, own = np.zeros(n, values.dtype), taps[first + q]
        for w, k, s in own[1:own[0, 0] + 1]:
            total += np.where(won[won_at + w:won_at + w + n] == k, values[at + s:at + s + n], values.dtype.type(0))
        dst[to + q:to + stride * n:stride] = total


def _collect_intrinsic(typingctx, stride, won, won_at, values, at, taps, first, dst, to, n):
    if not isinstance(stride, types.IntegerLiteral):
        return None
    S, i = stride.literal_value, types.int64

    def codegen(context, builder, sig, args):
        b, v = builder, Vector(context, builder, sig.args[3].dtype)
        winners, values, target = (_pointer(context, b, sig.args[k], args[k], at) for k, at in ((1, args[2]), (3, args[4]), (7, args[8])))
        taps, small = context.make_array(sig.args[5])(context, b, args[5]), ir.VectorType(I8, v.lanes)
        each = b.mul(b.extract_value(taps.shape, 1), _const(3))
        halves = [ir.Constant(ir.VectorType(I32, v.lanes), [half * v.lanes // 2 + r // 2 + r % 2 * v.lanes for r in range(v.lanes)])
                  for half in range(2)]

        def totals(q, j, many):
            slots = [cgutils.alloca_once(b, v.type) for _ in range(many)]
            place, own = cgutils.alloca_once(b, I64.as_pointer()), b.gep(taps.data, [b.mul(each, b.add(args[6], _const(q)))])
            for slot in slots:
                b.store(v.zero, slot)
            b.store(b.gep(own, [_const(3)]), place)
            with cgutils.for_range(b, b.load(own)):
                here = b.load(place)
                begin, number, start = (b.load(b.gep(here, [_const(k)])) for k in range(3))
                b.store(b.gep(here, [_const(3)]), place)
                line, codes, given = _splat(b, b.trunc(number, I8), small), b.gep(winners, [b.add(begin, j)]), b.gep(values, [b.add(start, j)])
                for k, slot in enumerate(slots):
                    code = b.load(b.bitcast(b.gep(codes, [_const(k * v.lanes)]), small.as_pointer()))
                    code.align = 1
                    old = b.load(slot)
                    more = b.fadd(old, v.load(b.gep(given, [_const(k * v.lanes)])))
                    b.store(b.select(b.icmp_signed("==", code, line), more, old), slot)
            return [b.load(slot) for slot in slots]

        def group(j, many):
            phases = [totals(q, j, many) for q in range(S)]
            for k, values in enumerate(zip(*phases)):
                end = b.gep(target, [b.mul(b.add(j, _const(k * v.lanes)), _const(S))])
                for half in range(S):
                    v.store(b.shuffle_vector(*values, halves[half]) if S > 1 else values[0], b.gep(end, [_const(half * v.lanes)]))

        _in_groups(b, v, args[9], group)
        return context.get_dummy_value()

    return types.void(stride, won, i, values, i, taps, i, dst, i, i), codegen


order = either(_order, _order_intrinsic)
pad = either(_pad, _pad_intrinsic)
first_of = either(_first_of, _first_of_intrinsic)
collect = either(_collect, _collect_intrinsic, literal=True)
