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

from .simd import I32, I64, Vector, _pointer, either, emit_choice
from .simd_depthwise import _const, _load_part
from .tiles import VECTOR_BYTES

MOST_LINES = 127                             # that a number of 8 bits can tell apart
UNROLLED = 3, 5                              # taps that have code of their own, 1.1 times as fast
I8 = ir.IntType(8)


def _keys_of(x):
    return x.view(np.int32 if x.itemsize == 4 else np.int64)


def _keys(x):
    x = x + x.dtype.type(0)
    bits, most = _keys_of(x), np.iinfo(_keys_of(x).dtype).max
    return np.where(x != x, most, np.where(bits < 0, bits ^ most, bits)).astype(bits.dtype)


def _integers(v):
    return ir.VectorType(ir.IntType(8 * v.itemsize), v.lanes)


def _key(b, v, value):
    kind = _integers(v)
    most, sign = (ir.Constant(kind, [number] * v.lanes) for number in (2 ** (8 * v.itemsize - 1) - 1, 8 * v.itemsize - 1))
    value = b.fadd(value, v.zero)
    bits = b.bitcast(value, kind)
    bits = b.xor(bits, b.and_(b.ashr(bits, sign), most))
    return b.bitcast(b.select(b.fcmp_unordered("uno", value, value), most, bits), v.type)


def _padding(b, v):
    return b.bitcast(ir.Constant(_integers(v), [-2 ** (8 * v.itemsize - 1)] * v.lanes), v.type)


def _lay(step, keys, src, at, n, line, to, before, length, ahead):
    """line[to + before + i * step] = src[at + i] for i < n, of those that lie in line[to:to + length], and zeros elsewhere there. What stood in the two
    vectors behind is lost.

    step: the literal 1 or 2; keys: the literal 0, or 1: of the elements their keys, and for zeros those of padding. ahead: how far behind src[at]
    lies what is to be fetched meanwhile.
    """
    row = np.zeros(length, line.dtype)
    if keys:
        _keys_of(row)[:] = np.iinfo(_keys_of(row).dtype).min
    most = max(0, min(n, (length - before + step - 1) // step))
    x = src[at:at + most]
    if keys:
        x = _keys(x).view(line.dtype)
    row[before:before + most * step:step] = x
    line[to:to + length] = row


def _lay_intrinsic(typingctx, step, keys, src, at, n, line, to, before, length, ahead):
    if not isinstance(keys, types.IntegerLiteral) or not isinstance(step, types.IntegerLiteral):
        return None
    S = step.literal_value

    def codegen(context, builder, sig, args):
        b, v = builder, Vector(context, builder, sig.args[2].dtype)
        source, target = _pointer(context, b, sig.args[2], *args[2:4]), _pointer(context, b, sig.args[5], *args[5:7])
        n, (before, length, ahead), lanes = args[4], args[7:], _const(v.lanes)
        nothing = _padding(b, v) if keys.literal_value else v.zero
        halves = [ir.Constant(ir.VectorType(I32, v.lanes), [v.lanes if r % 2 else half * v.lanes // 2 + r // 2 for r in range(v.lanes)])
                  for half in range(2)]

        def key(value):
            return _key(b, v, value) if keys.literal_value else value

        def put(value, i):
            end = b.gep(target, [b.add(before, b.mul(i, _const(S)))])
            if S == 1:
                v.store(value, end)
                return
            for half in range(2):
                v.store(b.shuffle_vector(value, nothing, halves[half]), b.gep(end, [_const(half * v.lanes)]))

        def clear(first, end):
            with cgutils.for_range_slice(b, first, end, lanes, I64) as (j, _):
                v.store(nothing, b.gep(target, [j]))

        clear(_const(0), before)
        whole = b.mul(b.sdiv(n, lanes), lanes)
        with cgutils.for_range_slice(b, _const(0), whole, lanes, I64) as (i, _):
            place = b.gep(source, [i])
            v.prefetch(b.gep(place, [ahead]))
            put(key(v.load(place)), i)
        left = b.sub(n, whole)
        with b.if_then(b.icmp_signed(">", left, _const(0))):
            place = b.gep(source, [whole])
            v.prefetch(b.gep(place, [ahead]))
            put(key(_load_part(b, v, left, place)), whole)         # what lies behind is cleared next
        clear(b.add(before, b.mul(n, _const(S))), length)
        return context.get_dummy_value()

    i = types.int64
    return types.void(step, keys, src, i, i, line, i, i, i, i), codegen


def _in_groups(b, v, n, count, group):
    """group(j, many, taps) for the vectors j, j + lanes, ... of n elements, some at a time. taps: how many there are (`count`), if they are unrolled."""
    def all_of(taps):
        done = cgutils.alloca_once_value(b, _const(0))
        vectors = b.mul(b.sdiv(b.add(n, _const(v.lanes - 1)), _const(v.lanes)), _const(v.lanes))
        b.store(_const(0), done)
        for many in (4, 1):
            first, step = b.load(done), _const(many * v.lanes)
            stop = b.add(first, b.mul(b.sdiv(b.sub(vectors, first), step), step))
            with cgutils.for_range_slice(b, first, stop, step, I64) as (j, _):
                group(j, many, taps)
            b.store(stop, done)

    emit_choice(b, (*UNROLLED, 0), lambda taps: b.icmp_signed("==", count, _const(taps)), all_of)


def _first_of(lines, at, count, step, best, best_at, won, won_at, n):
    """best[best_at + j]: the largest of the keys lines[at + j + t * step], t < count; won[won_at + j]: the first t that has it. For j < n, and up to
    the end of the vector. best may be lines: vectors are done in order. count: 1 to MOST_LINES."""
    lanes = VECTOR_BYTES // lines.itemsize
    n = -(-n // lanes) * lanes
    keys = np.stack([_keys_of(lines)[at + t * step:at + t * step + n] for t in range(count)])
    won[won_at:won_at + n] = keys.argmax(0)
    _keys_of(best)[best_at:best_at + n] = keys.max(0)


def _first_of_intrinsic(typingctx, lines, at, count, step, best, best_at, won, won_at, n):
    def codegen(context, builder, sig, args):
        b, v = builder, Vector(context, builder, sig.args[0].dtype)
        lines, target, numbers = (_pointer(context, b, sig.args[k], *args[k:k + 2]) for k in (0, 4, 6))
        kind, small = _integers(v), ir.VectorType(I8, v.lanes)

        def load(place, many):
            return [b.bitcast(v.load(b.gep(place, [_const(k * v.lanes)])), kind) for k in range(many)]

        def group(j, many, taps):
            tops, found = [[cgutils.alloca_once(b, which) for _ in range(many)] for which in (kind, small)]
            here = cgutils.alloca_once_value(b, b.gep(lines, [j]))
            for slot, number, value in zip(tops, found, load(b.load(here), many)):
                b.store(value, slot)
                b.store(ir.Constant(small, [0] * v.lanes), number)

            def look(line):
                b.store(b.gep(b.load(here), [args[3]]), here)
                for slot, number, value in zip(tops, found, load(b.load(here), many)):
                    old = b.load(slot)
                    take = b.icmp_signed(">", value, old)
                    b.store(b.select(take, value, old), slot)
                    b.store(b.select(take, line, b.load(number)), number)

            if taps:
                for t in range(1, taps):
                    look(ir.Constant(small, [t] * v.lanes))
            else:
                with cgutils.for_range_slice(b, _const(1), args[2], _const(1), I64) as (t, _):
                    look(_splat(b, b.trunc(t, I8), small))
            for k, (slot, number) in enumerate(zip(tops, found)):
                place = b.add(j, _const(k * v.lanes))
                v.store(b.bitcast(b.load(slot), v.type), b.gep(target, [place]))
                b.store(b.load(number), b.bitcast(b.gep(numbers, [place]), small.as_pointer())).align = 1

        _in_groups(b, v, args[8], args[2], group)
        return context.get_dummy_value()

    i = types.int64
    return types.void(lines, i, i, i, best, i, won, i, i), codegen


def _splat(b, value, kind):
    one = b.insert_element(ir.Constant(kind, ir.Undefined), value, ir.Constant(I32, 0))
    return b.shuffle_vector(one, one, ir.Constant(ir.VectorType(I32, kind.count), [0] * kind.count))


def _collect(won, won_at, values, at, count, step, dst, to, n):
    """dst[to + j] = the sum of those values[at + j - t * step] where won[won_at + j - t * step] is t, over t < count, the last first. For j < n, and
    up to the end of the vector. dst may be values where to <= at - (count - 1) * step: vectors are done in order."""
    lanes = VECTOR_BYTES // values.itemsize
    n = -(-n // lanes) * lanes
    total = np.zeros(n, values.dtype)
    for t in range(count - 1, -1, -1):
        w, s = won_at - t * step, at - t * step
        total += np.where(won[w:w + n] == t, values[s:s + n], values.dtype.type(0))
    dst[to:to + n] = total


def _collect_intrinsic(typingctx, won, won_at, values, at, count, step, dst, to, n):
    i = types.int64

    def codegen(context, builder, sig, args):
        b, v = builder, Vector(context, builder, sig.args[2].dtype)
        count, step = args[4:6]
        most = b.sub(count, _const(1))
        back = b.mul(most, step)
        winners, values, target = (_pointer(context, b, sig.args[k], args[k], at)
                                   for k, at in ((0, b.sub(args[1], back)), (2, b.sub(args[3], back)), (6, args[7])))
        small = ir.VectorType(I8, v.lanes)

        def group(j, many, taps):
            slots = [cgutils.alloca_once(b, v.type) for _ in range(many)]
            for slot in slots:
                b.store(v.zero, slot)
            code_place, place = (cgutils.alloca_once_value(b, b.gep(start, [j])) for start in (winners, values))

            def add(line):
                codes, given = b.load(code_place), b.load(place)
                b.store(b.gep(codes, [step]), code_place)
                b.store(b.gep(given, [step]), place)
                for k, slot in enumerate(slots):
                    code = b.load(b.bitcast(b.gep(codes, [_const(k * v.lanes)]), small.as_pointer()))
                    code.align = 1
                    old = b.load(slot)
                    more = b.fadd(old, v.load(b.gep(given, [_const(k * v.lanes)])))
                    b.store(b.select(b.icmp_signed("==", code, line), more, old), slot)

            if taps:
                for t in range(taps - 1, -1, -1):
                    add(ir.Constant(small, [t] * v.lanes))
            else:
                with cgutils.for_range_slice(b, _const(0), count, _const(1), I64) as (t, _):
                    add(_splat(b, b.trunc(b.sub(most, t), I8), small))
            for k, slot in enumerate(slots):
                v.store(b.load(slot), b.gep(target, [b.add(j, _const(k * v.lanes))]))

        _in_groups(b, v, args[8], count, group)
        return context.get_dummy_value()

    return types.void(won, i, values, i, i, i, dst, i, i), codegen


def _down(src, at, offsets, rows, n, best, to, which, which_to):
    """best[to + i]: the largest of the keys of src[at + offsets[r] + i], r < rows; which[which_to + i]: the first r that has it. For i < n, and
    padding and MOST_LINES up to the end of the vector. rows: 1 to MOST_LINES."""
    lanes = VECTOR_BYTES // best.itemsize
    end = -(-n // lanes) * lanes
    keys = np.full((rows, end), np.iinfo(_keys_of(best).dtype).min, _keys_of(best).dtype)
    for r in range(rows):
        keys[r, :n] = _keys(src[at + offsets[r]:at + offsets[r] + n])
    _keys_of(best)[to:to + end] = keys.max(0)
    which[which_to:which_to + end] = MOST_LINES
    which[which_to:which_to + n] = keys[:, :n].argmax(0)


def _down_intrinsic(typingctx, src, at, offsets, rows, n, best, to, which, which_to):
    i = types.int64

    def codegen(context, builder, sig, args):
        b, v = builder, Vector(context, builder, sig.args[0].dtype)
        source, target, numbers = (_pointer(context, b, sig.args[k], *args[k:k + 2]) for k in (0, 5, 7))
        offsets, rows, n, lanes = _pointer(context, b, sig.args[2], args[2], _const(0)), args[3], args[4], v.lanes
        kind, small = _integers(v), ir.VectorType(I8, lanes)

        def group(j, many, left=None):
            """left: how many lanes there are, if not all."""
            def load(r):
                place = b.gep(source, [b.add(b.load(b.gep(offsets, [r])), j)])
                places = [b.gep(place, [_const(k * lanes)]) for k in range(many)]
                return [b.bitcast(_key(b, v, v.load(at) if left is None else _load_part(b, v, left, at)), kind) for at in places]

            tops, found = [[cgutils.alloca_once(b, which) for _ in range(many)] for which in (kind, small)]
            for slot, number, value in zip(tops, found, load(_const(0))):
                b.store(value, slot)
                b.store(ir.Constant(small, [0] * lanes), number)
            with cgutils.for_range_slice(b, _const(1), rows, _const(1), I64) as (r, _):
                line = _splat(b, b.trunc(r, I8), small)
                for slot, number, value in zip(tops, found, load(r)):
                    old = b.load(slot)
                    take = b.icmp_signed(">", value, old)
                    b.store(b.select(take, value, old), slot)
                    b.store(b.select(take, line, b.load(number)), number)
            for k, (slot, number) in enumerate(zip(tops, found)):
                place, top, which = b.add(j, _const(k * lanes)), b.bitcast(b.load(slot), v.type), b.load(number)
                if left is not None:
                    top = b.select(v.mask(left), top, _padding(b, v))
                    which = b.select(v.mask(left), which, ir.Constant(small, [MOST_LINES] * lanes))
                v.store(top, b.gep(target, [place]))
                b.store(which, b.bitcast(b.gep(numbers, [place]), small.as_pointer())).align = 1

        done = _const(0)
        for many in (4, 1):
            step = _const(many * lanes)
            stop = b.add(done, b.mul(b.sdiv(b.sub(n, done), step), step))
            with cgutils.for_range_slice(b, done, stop, step, I64) as (j, _):
                group(j, many)
            done = stop
        left = b.sub(n, done)
        with b.if_then(b.icmp_signed(">", left, _const(0))):
            group(done, 1, left)
        return context.get_dummy_value()

    return types.void(src, i, offsets, i, i, best, i, which, i), codegen


def _across(best, which, taps, step, rows, won, n):
    """rows[j], won[j]: which[j + t * step] and t < taps where the key best[j + t * step] is the largest; of those the one of the smallest which, of those
    the first. For j < n, and up to the end of the vector."""
    n = -(-n // (VECTOR_BYTES // best.itemsize)) * (VECTOR_BYTES // best.itemsize)
    keys = _keys_of(best)
    for j in range(n):
        t = min(range(taps), key=lambda t: (-int(keys[j + t * step]), which[j + t * step], t))
        rows[j], won[j] = which[j + t * step], t


def _across_intrinsic(typingctx, best, which, taps, step, rows, won, n):
    i = types.int64

    def codegen(context, builder, sig, args):
        b, v = builder, Vector(context, builder, sig.args[0].dtype)
        source, numbers, first, second = (_pointer(context, b, sig.args[k], args[k], _const(0)) for k in (0, 1, 4, 5))
        kind, small = _integers(v), ir.VectorType(I8, v.lanes)

        def line(place):
            value = b.load(b.bitcast(place, small.as_pointer()))
            value.align = 1
            return value

        with cgutils.for_range_slice(b, _const(0), args[6], _const(v.lanes), I64) as (j, _):
            key_place, number_place = (cgutils.alloca_once_value(b, b.gep(start, [j])) for start in (source, numbers))
            top = cgutils.alloca_once_value(b, b.bitcast(v.load(b.load(key_place)), kind))
            row, tap = cgutils.alloca_once_value(b, line(b.load(number_place))), cgutils.alloca_once_value(b, ir.Constant(small, [0] * v.lanes))
            with cgutils.for_range_slice(b, _const(1), args[2], _const(1), I64) as (t, _):
                for slot in (key_place, number_place):
                    b.store(b.gep(b.load(slot), [args[3]]), slot)
                key, number, old, old_row = b.bitcast(v.load(b.load(key_place)), kind), line(b.load(number_place)), b.load(top), b.load(row)
                take = b.or_(b.icmp_signed(">", key, old), b.and_(b.icmp_signed("==", key, old), b.icmp_signed("<", number, old_row)))
                for slot, new in ((top, key), (row, number), (tap, _splat(b, b.trunc(t, I8), small))):
                    b.store(b.select(take, new, b.load(slot)), slot)
            for slot, start in ((row, first), (tap, second)):
                b.store(b.load(slot), b.bitcast(b.gep(start, [j]), small.as_pointer())).align = 1
        return context.get_dummy_value()

    return types.void(best, which, i, i, rows, won, i), codegen


lay = either(_lay, _lay_intrinsic, literal=True)
first_of = either(_first_of, _first_of_intrinsic)
down = either(_down, _down_intrinsic)
across = either(_across, _across_intrinsic)
collect = either(_collect, _collect_intrinsic)
