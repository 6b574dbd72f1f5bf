"""Small planes side by side, each intrinsic with a plain-loop twin: element e of as many planes as a vector has lanes is one vector.

So a window is the same few vectors for all of them, whatever its size, stride or dilation: no shifts along a row, no edge inside a vector.
"""
from __future__ import annotations

from numba import types
from numba.core import cgutils

from .simd import I64, Vector, _pointer, either
from .simd_depthwise import _const, _store_part
from .tiles import VECTOR_BYTES

MAX, EXACT, SUM = 0, 1, 2                    # what becomes of a window; EXACT: the maximum where there are NaN


def _planes_in(src, at, V, target, places, ahead):
    """target[places[e] + r] = src[at + r * V + e] for e < V and r < lanes: planes of V elements one behind the other. V >= lanes.

    What is read `ahead` elements further on is fetched, wherever it is.
    """
    for e in range(V):
        for r in range(VECTOR_BYTES // src.itemsize):
            target[places[e] + r] = src[at + r * V + e]


def _planes_in_intrinsic(typingctx, src, at, V, target, places, ahead):
    def codegen(context, builder, sig, args):
        b, v, V = builder, Vector(context, builder, sig.args[0].dtype), args[2]
        source, end = _pointer(context, b, sig.args[0], *args[:2]), context.make_array(sig.args[3])(context, b, args[3]).data
        places = context.make_array(sig.args[4])(context, b, args[4]).data

        def block(first):
            start = b.gep(source, [first])
            _fetch(b, v, b.gep(source, [args[5]]), first)
            put(first, v.transpose([v.load(b.gep(start, [b.mul(V, _const(r))])) for r in range(v.lanes)]))

        def few(first):
            start, group = b.gep(source, [first]), 16 // v.itemsize
            pieces = [v.load(b.gep(start, [b.mul(V, _const(r))]), group) for r in range(v.lanes)]
            put(first, v.turn([v.join(pieces[k::group]) for k in range(group)]))

        def put(first, columns):
            place = b.gep(places, [first])
            for k, column in enumerate(columns):
                v.store(column, b.gep(end, [b.load(b.gep(place, [_const(k)]))]))

        _all_columns(b, v, V, block, few)
        return context.get_dummy_value()

    return types.void(src, types.int64, types.int64, target, places, types.int64), codegen


def _fetch(b, v, place, first):
    """Ask for as much memory as `lanes` columns take ahead of its turn, in order: more at once, and the processor waits until it has asked for all."""
    for r in range(v.lanes):
        v.prefetch(b.gep(place, [b.mul(b.add(first, _const(r)), _const(v.lanes))]))


def _all_columns(b, v, V, block, few):
    """Emit what turns V columns around, V >= lanes: block(first) does `lanes` of them, few(first) 16 bytes.

    Where V is no multiple the last ones overlap those before.
    """
    rest, group = b.and_(V, _const(v.lanes - 1)), _const(16 // v.itemsize)
    with cgutils.for_range_slice(b, _const(0), b.sub(V, rest), _const(v.lanes), I64) as (first, _):
        block(first)
    with b.if_then(b.icmp_signed("!=", rest, _const(0))):
        with b.if_else(b.icmp_signed("<=", rest, group)) as (little, much):
            with little:
                few(b.sub(V, group))
            with much:
                block(b.sub(V, _const(v.lanes)))


def _planes_out(source, V, dst, to, ahead):
    """dst[to + r * V + e] = source[e * lanes + r] for e < V and r < lanes. source has room for `lanes` vectors more.

    What is written `ahead` elements further on is fetched, wherever it is.
    """
    lanes = VECTOR_BYTES // source.itemsize
    for e in range(V):
        for r in range(lanes):
            dst[to + r * V + e] = source[e * lanes + r]


def _planes_out_intrinsic(typingctx, source, V, dst, to, ahead):
    def codegen(context, builder, sig, args):
        b, v, V = builder, Vector(context, builder, sig.args[0].dtype), args[1]
        start, end = context.make_array(sig.args[0])(context, b, args[0]).data, _pointer(context, b, sig.args[2], *args[2:4])

        group = 16 // v.itemsize

        def vectors(first, n):
            here = b.gep(start, [b.mul(first, _const(v.lanes))])
            return [v.load(b.gep(here, [_const(k * v.lanes)])) for k in range(n)]

        def block(first, store=v.store):
            place = b.gep(end, [first])
            _fetch(b, v, b.gep(end, [args[4]]), first)
            for r, row in enumerate(v.transpose(vectors(first, v.lanes))):
                store(row, b.gep(place, [b.mul(V, _const(r))]))

        def few(first):
            place = b.gep(end, [first])
            for k, rows in enumerate(v.turn(vectors(first, group))):
                for part in range(v.lanes // group):
                    v.store(v.part(rows, part * group, group), b.gep(place, [b.mul(V, _const(part * group + k))]))

        with b.if_else(b.icmp_signed(">=", V, _const(v.lanes)), likely=True) as (long, short):
            with long:
                _all_columns(b, v, V, block, few)
            with short:
                block(_const(0), lambda row, place: _store_part(b, v, row, V, place))
        return context.get_dummy_value()

    return types.void(source, types.int64, dst, types.int64, types.int64), codegen


def _windows(kind, taps, src, at, step, skip, dst, to, n):
    """dst[to + c * lanes + r] = the maximum or sum of src[at + c * skip + k * step + r] over k < taps, for c < n and r < lanes.

    MAX is wrong where there is a NaN. kind: an integer literal.
    """
    lanes = VECTOR_BYTES // src.itemsize
    for c in range(n):
        for r in range(lanes):
            total = src[at + c * skip + r]
            for k in range(1, taps):
                value = src[at + c * skip + k * step + r]
                if kind == SUM:
                    total += value
                elif value > total or (kind == EXACT and value != value):
                    total = value
            dst[to + c * lanes + r] = total


def _windows_intrinsic(typingctx, kind, taps, src, at, step, skip, dst, to, n):
    if not isinstance(kind, types.IntegerLiteral):
        return None
    what, i = kind.literal_value, types.int64

    def codegen(context, builder, sig, args):
        _, taps, _, _, step, skip, _, _, n = args
        b, v = builder, Vector(context, builder, sig.args[2].dtype)
        source, target = _pointer(context, b, sig.args[2], *args[2:4]), _pointer(context, b, sig.args[6], *args[6:8])

        def combine(total, value):
            if what == SUM:
                return b.fadd(total, value)
            if what == MAX:
                return v.larger(total, value)
            return b.select(b.or_(b.fcmp_ordered(">", value, total), b.fcmp_unordered("uno", value, value)), value, total)

        def vectors(known):
            """All of them; known: the taps, if they are unrolled."""
            with cgutils.for_range(b, n) as loop:
                here = b.gep(source, [b.mul(loop.index, skip)])
                total = v.load(here)
                if known:
                    for k in range(1, known):
                        total = combine(total, v.load(b.gep(here, [b.mul(step, _const(k))])))
                else:
                    slot, place = cgutils.alloca_once_value(b, total), cgutils.alloca_once_value(b, here)
                    with cgutils.for_range_slice(b, _const(1), taps, _const(1), I64):
                        b.store(b.gep(b.load(place), [step]), place)
                        b.store(combine(b.load(slot), v.load(b.load(place))), slot)
                    total = b.load(slot)
                v.store(total, b.gep(target, [b.mul(loop.index, _const(v.lanes))]))

        with b.if_else(b.icmp_signed("==", taps, _const(3)), likely=True) as (three, other):
            with three:
                vectors(3)
            with other:
                with b.if_else(b.icmp_signed("==", taps, _const(2)), likely=True) as (two, any_number):
                    with two:
                        vectors(2)
                    with any_number:
                        vectors(0)
        return context.get_dummy_value()

    return types.void(kind, i, src, i, i, i, dst, i, i), codegen


def _divide(target, places, at, n, divisors):
    """target[places[at + e] + r] /= divisors[e] for e < n and r < lanes."""
    for e in range(n):
        for r in range(VECTOR_BYTES // target.itemsize):
            target[places[at + e] + r] /= divisors[e]


def _divide_intrinsic(typingctx, target, places, at, n, divisors):
    def codegen(context, builder, sig, args):
        b, v = builder, Vector(context, builder, sig.args[0].dtype)
        end, divisors = (context.make_array(sig.args[k])(context, b, args[k]).data for k in (0, 4))
        places = _pointer(context, b, sig.args[1], *args[1:3])
        with cgutils.for_range(b, args[3]) as loop:
            place = b.gep(end, [b.load(b.gep(places, [loop.index]))])
            v.store(b.fdiv(v.load(place), v.broadcast(b.load(b.gep(divisors, [loop.index])))), place)
        return context.get_dummy_value()

    return types.void(target, places, types.int64, types.int64, divisors), codegen


def _winners(kind, src, elements, at, n, best, where, to, lowest):
    """best[to + r], where[to + r]: the maximum of src[elements[at + k] * lanes + r] over k < n, and its element, the first of those.

    lowest and -1 where n is 0. where: int32. kind: the literal MAX, wrong where there is a NaN, or EXACT: the first NaN wins.
    """
    for r in range(VECTOR_BYTES // src.itemsize):
        best[to + r], where[to + r] = lowest, -1
        for k in range(n):
            value, top = src[elements[at + k] * (VECTOR_BYTES // src.itemsize) + r], best[to + r]
            if k == 0 or value > top or (kind == EXACT and value != value and top == top):
                best[to + r], where[to + r] = value, elements[at + k]


def _winners_intrinsic(typingctx, kind, src, elements, at, n, best, where, to, lowest):
    if not isinstance(kind, types.IntegerLiteral):
        return None

    def codegen(context, builder, sig, args):
        b, v = builder, Vector(context, builder, sig.args[1].dtype)
        source, elements = context.make_array(sig.args[1])(context, b, args[1]).data, _pointer(context, b, sig.args[2], *args[2:4])
        top, place = cgutils.alloca_once_value(b, v.broadcast(args[8])), cgutils.alloca_once_value(b, v.broadcast_index(_const(-1)))

        def look(k, first):
            element = b.load(b.gep(elements, [k]))
            value, number = v.load(b.gep(source, [b.mul(element, _const(v.lanes))])), v.broadcast_index(element)
            if not first:
                old = b.load(top)
                take = b.fcmp_ordered(">", value, old)
                if kind.literal_value == EXACT:
                    take = b.or_(take, b.and_(b.fcmp_unordered("uno", value, value), b.fcmp_ordered("ord", old, old)))
                value, number = b.select(take, value, old), b.select(take, number, b.load(place))
            b.store(value, top)
            b.store(number, place)

        with b.if_then(b.icmp_signed(">", args[4], _const(0)), likely=True):
            look(_const(0), True)
            with cgutils.for_range_slice(b, _const(1), args[4], _const(1), I64) as (k, _):
                look(k, False)
        v.store(b.load(top), _pointer(context, b, sig.args[5], args[5], args[7]))
        numbers = b.load(place)
        b.store(numbers, b.bitcast(_pointer(context, b, sig.args[6], args[6], args[7]), numbers.type.as_pointer())).align = 4
        return context.get_dummy_value()

    return types.void(kind, src, elements, types.int64, types.int64, best, where, types.int64, src.dtype), codegen


def _mean(src, elements, at, n, dst, to):
    """dst[to + r] = the mean of src[elements[at + k] * lanes + r] over k < n."""
    lanes = VECTOR_BYTES // src.itemsize
    for r in range(lanes):
        total = src.dtype.type(0)
        for k in range(n):
            total += src[elements[at + k] * lanes + r]
        dst[to + r] = total / n


def _mean_intrinsic(typingctx, src, elements, at, n, dst, to):
    def codegen(context, builder, sig, args):
        b, v = builder, Vector(context, builder, sig.args[0].dtype)
        source, elements = context.make_array(sig.args[0])(context, b, args[0]).data, _pointer(context, b, sig.args[1], *args[1:3])
        total = cgutils.alloca_once_value(b, v.zero)
        with cgutils.for_range(b, args[3]) as loop:
            element = b.load(b.gep(elements, [loop.index]))
            b.store(b.fadd(b.load(total), v.load(b.gep(source, [b.mul(element, _const(v.lanes))]))), total)
        count = v.broadcast(b.sitofp(args[3], v.scalar))
        v.store(b.fdiv(b.load(total), count), _pointer(context, b, sig.args[4], *args[4:]))
        return context.get_dummy_value()

    i = types.int64
    return types.void(src, elements, i, i, dst, i), codegen


def _share(src, at, elements, begin, n, dst):
    """dst[e * lanes + r] += src[at + r] / n for the e among elements[begin .. begin + n - 1]."""
    lanes = VECTOR_BYTES // src.itemsize
    for e in elements[begin:begin + n]:
        for r in range(lanes):
            dst[e * lanes + r] += src[at + r] / src.dtype.type(n)


def _share_intrinsic(typingctx, src, at, elements, begin, n, dst):
    i = types.int64

    def codegen(context, builder, sig, args):
        b, v = builder, Vector(context, builder, sig.args[0].dtype)
        share = b.fdiv(v.load(_pointer(context, b, sig.args[0], *args[:2])), v.broadcast(b.sitofp(args[4], v.scalar)))
        elements, end = _pointer(context, b, sig.args[2], *args[2:4]), context.make_array(sig.args[5])(context, b, args[5]).data
        with cgutils.for_range(b, args[4]) as loop:
            place = b.gep(end, [b.mul(b.load(b.gep(elements, [loop.index])), _const(v.lanes))])
            v.store(b.fadd(v.load(place), share), place)
        return context.get_dummy_value()

    return types.void(src, i, elements, i, i, dst), codegen


planes_in = either(_planes_in, _planes_in_intrinsic)
planes_out = either(_planes_out, _planes_out_intrinsic)
winners = either(_winners, _winners_intrinsic, literal=True)
mean = either(_mean, _mean_intrinsic)
share = either(_share, _share_intrinsic)
windows = either(_windows, _windows_intrinsic, literal=True)
divide = either(_divide, _divide_intrinsic)
