"""Planes that lie one behind the other pooled as one long line, with the plain-loop twin: vectors go on from row to row and from plane to plane.

A window is found at one of its elements, `taps // 2` rounded down behind its first along both axes; so there is one at every element, and those
that are not wanted are left out when they are stored. Rows and columns beyond the plane are lanes that a mask leaves out.
"""
from __future__ import annotations

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils

from ..instruction_set import isa
from .simd import AHEAD_BYTES, I32, I64, Vector, _pointer, either
from .simd_depthwise import _const
from .simd_places import _clamped
from .simd_pool import MAX, MEAN, Filled
from .tiles import VECTOR_BYTES

VECTORS = isa() == "avx512"                  # elsewhere to leave lanes out costs too much
EVERY, SOME = (3, 5), (2, 3)                 # taps that `pool_flat` has code for: of windows at every element, and at some


class Counter:
    """The numbers of the lanes' elements, modulo a size that may be less than a vector."""

    def __init__(self, v, start, size):
        self.b, lanes = v.b, _const(v.lanes)
        self.size, self.step = v.broadcast_index(size), v.broadcast_index(self.b.srem(lanes, size))
        self.slot = cgutils.alloca_once_value(self.b, self.b.add(v.broadcast_index(start), ir.Constant(self.size.type, list(range(v.lanes)))))
        with cgutils.for_range(self.b, self.b.add(self.b.sdiv(lanes, size), _const(1))):
            self.b.store(self._wrapped(self.b.load(self.slot)), self.slot)

    def _wrapped(self, values):
        less = self.b.sub(values, self.size)         # huge, as there is no sign, where nothing is to be taken off
        return self.b.select(self.b.icmp_unsigned("<", less, values), less, values)

    def turn(self):
        """These numbers, and on to those of the next vector."""
        value = self.b.load(self.slot)
        self.b.store(self._wrapped(self.b.add(value, self.step)), self.slot)
        return value


def _flat_windows(kind, taps, strided, src, at, n, V, W, q, dst, to, room, wanted, divisors, each):
    """Of the elements src[at + i], i < n, the maxima or means of the windows around them: rows and columns -((taps - 1) // 2) .. taps // 2 from theirs.

    Element i is number (q + i) % V of a plane of rows of W; where strided, q is 0. dst[to + i] is its window, or, where strided, dst[to:to + room]
    are those one behind the other of which bit i % lanes of wanted[i // lanes % len(wanted)] is set. MEAN: the sum over divisors[(q + i) % V], where
    strided over divisors[k], k counting what was stored since wanted began anew, or, if `each` is 0, over divisors[0], of which there is then a whole
    vector. divisors has room for a vector behind what is asked for.

    MAX: returns whether there is a NaN in a window (wanted or not), and then the result is wrong. Where not strided, planes and runs have at least
    taps - 1 rows, so that every element is in the first or the last row of a window.

    kind, taps, strided: integer literals.
    """
    lanes, first, seen, end, since = VECTOR_BYTES // src.itemsize, -((taps - 1) // 2), False, to, 0
    for i in range(n):
        place = (q + i) % V
        h, w = place // W, place % W
        values = [src[at + i + r * W + c] for r in range(first, first + taps) for c in range(first, first + taps)
                  if 0 <= h + r < V // W and 0 <= w + c < W]
        seen = seen or any(value != value for value in values)
        if strided and i % (lanes * len(wanted)) == 0:
            since = 0
        if strided and not wanted[i // lanes % len(wanted)] >> i % lanes & 1:
            continue
        total = values[0]
        for value in values[1:]:
            total = total + value if kind != MAX else max(total, value)
        if kind == MEAN:
            total /= divisors[(since if strided else place) * each]
        dst[end] = total
        end, since = end + 1, since + 1
    return seen and kind == MAX


def _flat_windows_intrinsic(typingctx, kind, taps, strided, src, at, n, V, W, q, dst, to, room, wanted, divisors, each):
    if not all(isinstance(literal, types.IntegerLiteral) for literal in (kind, taps, strided)):
        return None
    what, K, S, i = kind.literal_value, taps.literal_value, strided.literal_value, types.int64
    first = -((K - 1) // 2)
    shifts = [s for s in range(first, first + K) if s]

    def codegen(context, builder, sig, args):
        b, v = builder, (Filled if what == MAX else Vector)(context, builder, sig.args[3].dtype)
        n, V, W, q, room, each = *args[5:9], args[11], args[14]
        L, index = v.lanes, ir.VectorType(I32, v.lanes)
        integers = ir.VectorType(ir.IntType(8 * v.itemsize), L)     # shifts of integers are one instruction without a table
        lanes = _const(L)
        source, end, divisors = (_pointer(context, b, sig.args[k], args[k], start) for k, start in ((3, args[4]), (9, args[10]), (13, _const(0))))
        wanted = context.make_array(sig.args[12])(context, b, args[12])
        phases = b.extract_value(wanted.shape, 0)
        seen = cgutils.alloca_once_value(b, ir.Constant(v._bits, [0] * L))

        place, column = Counter(v, q, V), Counter(v, _const(0), W)
        limits = {s: v.broadcast_index(b.mul(W, _const(-s)) if s < 0 else b.sub(V, b.mul(W, _const(s)))) for s in shifts}
        ends = {s: v.broadcast_index(_const(-s) if s < 0 else b.sub(W, _const(s))) for s in shifts}
        rows = {s: b.gep(source, [b.mul(W, _const(s))]) for s in shifts}

        def inside(s, values, limit):
            return b.icmp_signed(">=" if s < 0 else "<", values, limit)

        def combine(total, value):
            return b.fadd(total, value) if what != MAX else v.larger(total, value)

        def down(done, there, inner):
            """The columns of a vector. there: the lanes that are elements, None: all; inner: all rows of their windows are the plane's."""
            here, numbers, loaded = b.gep(source, [done]), place.turn(), {}
            loaded[0] = v.load(here) if there is None else v.load_masked(here, there)
            for s in shifts:
                row = b.gep(rows[s], [done])
                if inner:
                    loaded[s] = v.load(row)
                else:
                    mask = inside(s, numbers, limits[s])
                    loaded[s] = v.load_masked(row, mask if there is None else b.and_(mask, there))
            total = loaded[first]
            for s in range(first + 1, first + K):
                total = combine(total, loaded[s])
            if what == MAX:
                ends_of = (loaded[0], loaded[0]) if S else (loaded[shifts[0]], loaded[shifts[-1]])
                b.store(b.or_(b.load(seen), b.fcmp_unordered("uno", *ends_of)), seen)
            return total

        def along(before, now, after, numbers):
            """The windows of a vector. numbers: its columns."""
            values = {0: b.bitcast(now, v.type)}
            for s in shifts:
                pair, lane = ((before, now), L + s) if s < 0 else ((now, after), s)
                value = b.shuffle_vector(*pair, ir.Constant(index, list(range(lane, lane + L))))
                value = b.select(inside(s, numbers, ends[s]), value, b.bitcast(v.zero, integers))
                values[s] = v.pin(b.bitcast(value, v.type))      # or LLVM compares floats and selects integers: two instructions for one
            total = values[first]
            for s in range(first + 1, first + K):
                total = combine(total, values[s])
            return total

        before, now = (cgutils.alloca_once_value(b, ir.Constant(integers, [0] * L)) for _ in range(2))
        written, phase, divisor = (cgutils.alloca_once_value(b, start) for start in (_const(0), _const(0), q))
        bits = ir.IntType(L)

        def mean(total):
            return b.fdiv(total, v.load(b.gep(divisors, [b.mul(b.load(divisor), each)]))) if what == MEAN else total

        def put_every(total, start, left):
            """Store a vector. left: how many there are, None: all."""
            o = b.add(b.load(divisor), b.srem(lanes, V))
            total = mean(total)
            b.store(b.select(b.icmp_signed(">=", o, V), b.sub(o, V), o), divisor)
            if left is None:
                v.store(total, b.gep(end, [start]))
            else:
                v.store_masked(total, b.gep(end, [start]), v.mask(left))

        def put_some(window, left):
            """Store what is wanted of the vector that window() makes."""
            turn = b.load(phase)
            mask = b.trunc(b.load(b.gep(wanted.data, [turn])), bits)
            mask = mask if left is None else b.and_(mask, b.bitcast(v.mask(left), bits))
            with b.if_then(b.icmp_unsigned("!=", mask, ir.Constant(bits, 0))):
                name = f"llvm.experimental.vector.compress.v{L}f{8 * v.itemsize}"
                compress = cgutils.get_or_insert_function(b.module, ir.FunctionType(v.type, [v.type, v._bits, v.type]), name)
                total = mean(b.call(compress, [window(), b.bitcast(mask, v._bits), v.zero]))
                count, so_far = b.zext(b.ctpop(b.zext(mask, I32)), I64), b.load(written)
                goal = b.gep(end, [so_far])
                with b.if_else(b.icmp_signed(">=", b.sub(room, so_far), lanes), likely=True) as (fits, short):
                    with fits:
                        v.store(total, goal)
                    with short:
                        v.store_masked(total, goal, v.mask(count))
                for slot in (written, divisor):
                    b.store(b.add(b.load(slot), count), slot)
            turn = b.add(turn, _const(1))
            again = b.icmp_signed("==", turn, phases)
            b.store(b.select(again, _const(0), turn), phase)
            b.store(b.select(again, _const(0), b.load(divisor)), divisor)

        def step(done, usual, inner=False):
            left = b.sub(n, done)
            there = None if usual else v.mask(_clamped(b, left, L))
            v.prefetch(b.gep(source, [b.add(done, _const(AHEAD_BYTES // v.itemsize))]))
            after = v.pin(b.bitcast(down(done, there, inner), integers))        # which shifts of integers stay
            old = b.load(now)

            def finish():
                numbers, left_now = column.turn(), None if usual else _clamped(b, b.add(left, lanes), L)
                if S:
                    put_some(lambda: along(b.load(before), old, after, numbers), left_now)
                else:
                    put_every(along(b.load(before), old, after, numbers), b.sub(done, lanes), left_now)

            if usual:
                finish()
            else:
                with b.if_then(b.icmp_signed(">", done, _const(0))):
                    finish()
            b.store(old, before)
            b.store(after, now)

        with cgutils.for_range_slice(b, _const(0), b.add(n, lanes), lanes, I64) as (done, _):
            usual = b.and_(b.icmp_signed(">", done, _const(0)), b.icmp_signed("<=", b.add(done, lanes), n))
            with b.if_else(usual, likely=True) as (whole, part):
                with whole:
                    if K < 5:
                        step(done, True)
                    else:                    # 1.1 times as fast
                        margin = b.mul(W, _const(K // 2))
                        inner = b.and_(b.icmp_signed(">=", b.add(q, done), margin),
                                       b.icmp_signed("<=", b.add(b.add(q, done), lanes), b.sub(V, margin)))
                        with b.if_else(inner) as (far, near):
                            with far:
                                step(done, True, True)
                            with near:
                                step(done, True)
                with part:
                    step(done, False)
        found = b.bitcast(b.load(seen), bits)
        return b.icmp_unsigned("!=", found, ir.Constant(bits, 0))

    return types.boolean(kind, taps, strided, src, i, i, i, i, i, dst, i, i, wanted, divisors, i), codegen


def _flat_first(taps, keep, src, at, step, size, q, n, best, best_at, won, won_at, fetched, fetched_at):
    """best[best_at + i]: the largest of src[at + i + s * step], i < n, over s = -((taps - 1) // 2) .. taps // 2 for which 0 <= (q + i) % size + s * step
    < size; won[won_at + i]: the number of the first of these taps that is as large. Both are written up to the end of the vector. If the literal
    `keep` is 0, best is not; else what follows n elements behind src[at] is fetched meanwhile, and fetched[fetched_at:fetched_at + n], to write there.

    Returns whether one of src[at + i], i < n, is NaN or -inf: then the result is wrong. taps: an integer literal.
    """
    first, low = -((taps - 1) // 2), False
    for i in range(n):
        place, top, number = (q + i) % size, -np.inf, 0
        low = low or not src[at + i] > -np.inf
        for t in range(taps):
            s = (first + t) * step
            if 0 <= place + s < size and src[at + i + s] > top:
                top, number = src[at + i + s], t
        if keep:
            best[best_at + i] = top
        won[won_at + i] = number
    return low


def _flat_first_intrinsic(typingctx, taps, keep, src, at, step, size, q, n, best, best_at, won, won_at, fetched, fetched_at):
    if not all(isinstance(literal, types.IntegerLiteral) for literal in (taps, keep)):
        return None
    K, i = taps.literal_value, types.int64
    first = -((K - 1) // 2)
    shifts = range(first, first + K)

    def codegen(context, builder, sig, args):
        b, v = builder, Filled(context, builder, sig.args[2].dtype)
        L, index, small = v.lanes, ir.VectorType(I32, v.lanes), ir.VectorType(ir.IntType(8), v.lanes)
        step, size, q, n = args[4:8]
        source, tops, numbers, other = (_pointer(context, b, sig.args[k], args[k], args[k + 1]) for k in (2, 8, 10, 12))
        places = Counter(v, q, size)
        steps = {s: b.mul(step, _const(s)) for s in shifts}
        limits = {s: v.broadcast_index(b.neg(steps[s]) if s < 0 else b.sub(size, steps[s])) for s in shifts if s}
        seen = cgutils.alloca_once_value(b, ir.Constant(v._bits, [0] * L))

        def block(done, there):
            here, numbers_here, place = b.gep(source, [done]), b.gep(numbers, [done]), places.turn()
            if keep.literal_value:
                v.prefetch(b.gep(here, [n]))
                v.prefetch(b.gep(other, [done]), write=True)
            top = number = None
            for t, s in enumerate(shifts):
                mask = b.icmp_signed(">=" if s < 0 else "<", place, limits[s]) if s else None
                mask = there if mask is None else mask if there is None else b.and_(mask, there)
                near = b.gep(here, [steps[s]])
                value = v.load(near) if mask is None else v.load_masked(near, mask)
                if s == 0:
                    low = b.fcmp_unordered("<=", value, v.zero)
                    b.store(b.or_(b.load(seen), low if there is None else b.and_(low, there)), seen)
                if top is None:
                    top, number = value, ir.Constant(index, [0] * L)
                    continue
                number = b.select(b.fcmp_ordered(">", value, top), ir.Constant(index, [t] * L), number)
                top = v.larger(top, v.pin(value))        # or LLVM makes two of this one instruction
            if keep.literal_value:
                v.store(top, b.gep(tops, [done]))
            b.store(b.trunc(number, small), b.bitcast(numbers_here, small.as_pointer())).align = 1

        whole = b.mul(b.sdiv(n, _const(L)), _const(L))
        with cgutils.for_range_slice(b, _const(0), whole, _const(L), I64) as (done, _):
            block(done, None)
        left = b.sub(n, whole)
        with b.if_then(b.icmp_signed(">", left, _const(0))):
            block(whole, v.mask(left))
        found = b.bitcast(b.load(seen), ir.IntType(L))
        return b.icmp_unsigned("!=", found, ir.Constant(found.type, 0))

    return types.boolean(taps, keep, src, i, i, i, i, i, best, i, won, i, fetched, i), codegen


flat_windows = either(_flat_windows, _flat_windows_intrinsic, literal=True)
flat_first = either(_flat_first, _flat_first_intrinsic, literal=True)
