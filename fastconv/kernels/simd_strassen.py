"""Strassen's products on vectors, each with a plain-loop twin: the sums of the quarters of the pixels, and the register tile."""
from __future__ import annotations

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils

from .simd import BYTES, I64, SECOND_LEVEL, Vector, _pointer, either
from .simd_tiles import _accumulate
from .tiles import ROWS, VECTOR_BYTES

QUARTERS = 7                                 # and sums of quarters, as many as products
TOGETHER = 16                                # channels of which the same pixels are read: runs of lines are written, and what is read stays in L1
FETCH = 32                                   # steps of a tile that fetch lines evenly apart
B11, B21, B22, T4, T1, T2, T3 = range(QUARTERS)          # in this order; T4 with its sign turned, so that all products are added


def _const(n):
    return ir.Constant(I64, n)


def pitch_of(lanes):
    """Elements from one channel of a panel of ROWS pixels to the next: whole vectors."""
    return -(-ROWS // lanes) * lanes


def _sum_quarters(first, second, channels, source, b11, b12, b21, b22, plane, target, to, tile_step, step):
    """Panels of ROWS pixels of the quarters of B and of Winograd's sums of them: pixel p of channel k of sum q at target[to + q * step +

    p // ROWS * tile_step + k * pitch + p % ROWS]. Quarters begin at b11, b12, b21 and b22 of the source, channels are `plane` apart. The left ones have
    `first` pixels, the right ones `second`, which may be one less: zeros stand for what is missing, up to the end of the last panel.
    """
    pitch = pitch_of(VECTOR_BYTES // source.itemsize)
    for k in range(channels):
        for p in range(-(-first // ROWS) * ROWS):
            left = (source[b11 + k * plane + p], source[b21 + k * plane + p]) if p < first else (source.dtype.type(0),) * 2
            right = (source[b12 + k * plane + p], source[b22 + k * plane + p]) if p < second else (source.dtype.type(0),) * 2
            t1 = right[0] - left[0]
            t2 = right[1] - t1
            place = to + p // ROWS * tile_step + k * pitch + p % ROWS
            for q, value in enumerate((left[0], left[1], right[1], left[1] - t2, t1, t2, right[1] - right[0])):
                target[place + q * step] = value


def _sum_quarters_intrinsic(typingctx, first, second, channels, source, b11, b12, b21, b22, plane, target, to, tile_step, step):
    i = types.int64

    def codegen(context, builder, sig, args):
        first, second, channels, plane, tile_step, step = *args[:3], args[8], *args[11:]
        v = Vector(context, builder, sig.args[3].dtype)
        pitch = pitch_of(v.lanes)
        starts = [_pointer(context, builder, sig.args[3], args[3], args[n]) for n in (4, 6, 5, 7)]       # left ones, right ones
        end = _pointer(context, builder, sig.args[9], args[9], args[10])

        def one(here, there, load):
            left, low_left, right, low_right = (load(n, builder.gep(start, [here])) for n, start in enumerate(starts))
            for start in starts:
                v.prefetch(builder.gep(start, [builder.add(here, builder.mul(plane, _const(TOGETHER)))]))
            t1 = builder.fsub(right, left)
            t2 = builder.fsub(low_right, t1)
            for q, value in enumerate((left, low_left, low_right, builder.fsub(low_left, t2), t1, t2, builder.fsub(low_right, right))):
                v.store(value, builder.gep(end, [builder.add(there, builder.mul(step, _const(q)))]))

        with cgutils.for_range_slice(builder, _const(0), channels, _const(TOGETHER), I64) as (k0, _):
            left = builder.sub(channels, k0)
            here = builder.select(builder.icmp_signed("<", left, _const(TOGETHER)), left, _const(TOGETHER))
            with cgutils.for_range_slice(builder, _const(0), first, _const(ROWS), I64) as (p, tile):
                for j in range(0, pitch, v.lanes):
                    q = builder.add(p, _const(j))
                    place = builder.add(builder.mul(tile, tile_step), builder.add(builder.mul(k0, _const(pitch)), _const(j)))

                    def panel(load, q=q, place=place):
                        with cgutils.for_range(builder, here) as loop:
                            k = builder.add(k0, loop.index)
                            one(builder.add(builder.mul(k, plane), q), builder.add(place, builder.mul(loop.index, _const(pitch))), load)

                    inside = builder.icmp_signed(">=", builder.sub(second, q), _const(v.lanes))
                    with builder.if_else(inside, likely=True) as (whole, part):
                        with whole:
                            panel(lambda n, pointer: v.load(pointer))
                        with part:
                            masks = [v.mask(builder.sub(size, q)) for size in (first, first, second, second)]
                            panel(lambda n, pointer, masks=masks: v.load_masked(pointer, masks[n]))
        return context.get_dummy_value()

    return types.void(i, i, i, source, i, i, i, i, i, target, i, i, i), codegen


def _quarter_tile(rows, vectors, K, a, a_at, b, b_at, c, before, given, to, also, check, ahead, ahead_step, ahead_block):
    """c[to + r * width + j] = given + before + the sum over k < K of a[a_at + k * pitch + r] * b[b_at + k * width + j], for r < rows, j < width, where

    before and given stand for c[before + r * width + j] and so on. To c[also + r * width + j] the same is added, without given. before, given, also: negative
    for none. Returns whether a number was written that is not finite, where `check` says so. At step k the cache line at address
    ahead + k // FETCH * ahead_block + k % FETCH * ahead_step is fetched, which may be any.
    """
    lanes = VECTOR_BYTES // a.itemsize
    width, finite = vectors * lanes, True
    for r in range(rows):
        for j in range(width):
            total, place = a.dtype.type(0), r * width + j
            for k in range(K):
                total += a[a_at + k * pitch_of(lanes) + r] * b[b_at + k * width + j]
            if before >= 0:
                total += c[before + place]
            if also >= 0:
                c[also + place] += total
                finite = finite and np.isfinite(c[also + place])
            if given >= 0:
                total += c[given + place]
            c[to + place] = total
            finite = finite and np.isfinite(total)
    return bool(check) and not finite


def _quarter_tile_intrinsic(typingctx, rows, vectors, K, a, a_at, b, b_at, c, before, given, to, also, check, ahead, ahead_step, ahead_block):
    if not isinstance(rows, types.IntegerLiteral) or not isinstance(vectors, types.IntegerLiteral):
        return None
    R, V, i = rows.literal_value, vectors.literal_value, types.int64

    def codegen(context, builder, sig, args):
        K, before, given, to, also, check, ahead, ahead_step, ahead_block = args[2], *args[8:]
        v = Vector(context, builder, sig.args[3].dtype)
        a0, b0, c0 = (_pointer(context, builder, sig.args[n], args[n], at) for n, at in ((3, args[4]), (5, args[6]), (7, _const(0))))
        total = [[cgutils.alloca_once_value(builder, v.zero) for _ in range(V)] for _ in range(R)]
        a_next, b_next, line, fetch = (cgutils.alloca_once_value(builder, start) for start in (a0, b0, ahead, ahead))
        with cgutils.for_range_slice(builder, _const(0), K, _const(FETCH), I64) as (first, _):
            left = builder.sub(K, first)
            builder.store(builder.load(line), fetch)
            with cgutils.for_range(builder, builder.select(builder.icmp_signed("<", left, _const(FETCH)), left, _const(FETCH))):
                a_k, b_k = builder.load(a_next), builder.load(b_next)
                b_v = [v.load(builder.gep(b_k, [_const(j * v.lanes)])) for j in range(V)]
                v.prefetch(builder.inttoptr(builder.load(fetch), BYTES), locality=SECOND_LEVEL)
                builder.store(builder.add(builder.load(fetch), ahead_step), fetch)
                _accumulate(builder, v, total, lambda r: builder.load(builder.gep(a_k, [_const(r)])), b_v)
                builder.store(builder.gep(a_k, [_const(pitch_of(v.lanes))]), a_next)
                builder.store(builder.gep(b_k, [_const(V * v.lanes)]), b_next)
            builder.store(builder.add(builder.load(line), ahead_block), line)
        seen = cgutils.alloca_once_value(builder, v.zero)

        def each(at, do):
            for r in range(R):
                for j in range(V):
                    do(total[r][j], builder.gep(c0, [builder.add(at, _const((r * V + j) * v.lanes))]))

        def add(element, place):
            builder.store(builder.fadd(v.load(place), builder.load(element)), element)

        def look(value):                     # 0 times NaN or inf is NaN
            builder.store(v.multiply_add(value, v.zero, builder.load(seen)), seen)

        def add_there(element, place):
            value = builder.fadd(v.load(place), builder.load(element))
            v.store(value, place)
            look(value)

        def write(element, place):
            v.store(builder.load(element), place)

        for at, do in ((before, add), (also, add_there), (given, add)):
            with builder.if_then(builder.icmp_signed(">=", at, _const(0))):
                each(at, do)
        each(to, write)
        with builder.if_then(builder.icmp_signed("!=", check, _const(0))):
            each(to, lambda element, place: look(builder.load(element)))
        bits, last = ir.IntType(v.lanes), builder.load(seen)
        other = builder.icmp_unsigned("!=", builder.bitcast(builder.fcmp_unordered("uno", last, last), bits), ir.Constant(bits, 0))
        return builder.and_(other, builder.icmp_signed("!=", check, _const(0)))

    return types.boolean(rows, vectors, i, a, i, b, i, c, i, i, i, i, i, i, i, i), codegen


sum_quarters = either(_sum_quarters, _sum_quarters_intrinsic)
quarter_tile = either(_quarter_tile, _quarter_tile_intrinsic, literal=True)
