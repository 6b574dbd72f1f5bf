"""Depthwise convolution with kernels of 3 x 3, down a plane row by row, each with a plain-loop twin.

A vector lies along a row of results. Going down, each row of the source is read once, gives to the sums of all rows of the result that it touches,
and a row of the result is stored as soon as its sum is complete: a plane has no more rows loaded than it has, whatever its height.
"""
from __future__ import annotations

import itertools

from llvmlite import ir
from numba import types
from numba.core import cgutils

from ..instruction_set import isa
from .simd import I32, I64, Vector, _pointer, either
from .simd_depthwise import RELU, Columns, _all, _const, _each_mode, _end_of, _load_part, _mixed, _store_part
from .tiles import REGISTERS, VECTOR_BYTES

ADD = 1                                      # beside RELU, of flags: add to what stands there
PAIRS = 4                                    # pairs of rows that a small plane of results has
# The gradient of stride 2: results 2 * j and 2 * j + 1 of a row lie between the same sources and get one tap and two, or two and one.
ONE_TWO, TWO_ONE = 12, 21
# (column of the source, [(which of the two results, column of the kernel)])
FORMS = {ONE_TWO: ((0, ((0, 1), (1, 2))), (1, ((1, 0),))),
         TWO_ONE: ((0, ((0, 2),)), (1, ((0, 0), (1, 1))))}


ACROSS = isa() == "avx512"                   # whether one instruction moves any lanes of two vectors anywhere


class Rows:
    """The rows of a plane: pointers to them, to zeros where they lie outside, and when vectors of their columns lie inside."""

    def __init__(self, builder, src0, at, height, width, size, zero0, zero_at):
        self.b, self.src0, self.at, self.height, self.width, self.size = builder, src0, at, height, width, size
        self.zero0, self.zero_at = zero0, zero_at

    def line(self, h):
        return self.b.select(self.b.icmp_unsigned("<", h, self.height), self.b.gep(self.src0, [self.b.mul(h, self.width)]), self.zero0)

    def inside(self, c, end, first, last):
        """Whether columns c .. end - 1 are the plane's; whether those of rows first .. last are memory of the array, as are the zeros beside."""
        b, zero, bottom = self.b, _const(0), _less(self.b, self.height, 1)
        first = b.select(b.icmp_signed("<", first, zero), zero, first)
        last = b.select(b.icmp_signed("<", last, bottom), last, bottom)
        first_at, last_at = (b.add(self.at, b.mul(h, self.width)) for h in (first, last))
        whole = _all(b, b.icmp_signed(">=", c, zero), b.icmp_signed("<=", end, self.width))
        safe = _all(b, b.icmp_signed(">=", b.add(first_at, c), zero), b.icmp_signed("<=", b.add(last_at, end), self.size),
                    b.icmp_signed(">=", b.add(self.zero_at, c), zero), b.icmp_signed("<=", end, b.add(self.width, self.zero_at)))
        return whole, safe


def _less(builder, value, n):
    return builder.sub(value, _const(n))


class Writer:
    """Emits what is done to the first n of `vectors` vectors of results, side by side, and the stores: add what stands there, clip."""

    def __init__(self, v: Vector, vectors, n, dst, adds, flags, zeros):
        b = self.b = v.b
        self.v, self.dst, self.adds = v, dst, adds
        # x < floor is never true of a floor of -inf
        relu = b.icmp_signed("!=", b.and_(flags, _const(RELU)), _const(0))
        self.floor = v.broadcast(b.select(relu, ir.Constant(v.scalar, 0.0), ir.Constant(v.scalar, float("-inf"))))
        self.more = b.icmp_signed("!=", b.and_(flags, _const(ADD)), _const(0))
        self.counts = [_less(b, n, p * v.lanes) for p in range(vectors)]
        self.masks = [v.mask(count) for count in self.counts] if isa() == "avx512" else None
        # zeros are added where nothing is: cheaper than a branch in a loop, though never taken
        self.before, self.each = (b.select(self.more, dst, zeros), b.sext(self.more, I64)) if self.masks else (dst, None)

    def write(self, values, at):
        """at: elements from dst."""
        for p, value in enumerate(values):
            if p:
                with self.b.if_then(self.b.icmp_signed(">", self.counts[p], _const(0)), likely=True):
                    self._vector(p, value, at)
            else:
                self._vector(p, value, at)

    def _clipped(self, value):
        return self.b.select(self.b.fcmp_ordered("<", value, self.floor), self.floor, value)

    def _vector(self, p, value, at):
        b, v, count = self.b, self.v, self.counts[p]
        at = b.add(at, _const(p * v.lanes))
        target, full = b.gep(self.dst, [at]), b.icmp_signed(">=", count, _const(v.lanes))
        if self.masks:                       # a mask costs nothing
            if self.adds:
                value = b.fadd(value, v.load_masked(b.gep(self.before, [b.and_(at, self.each)]), self.masks[p]))
            v.store_masked(self._clipped(value), target, self.masks[p])
            return
        if self.adds:
            kept = cgutils.alloca_once_value(b, value)
            with b.if_then(self.more, likely=False):
                with b.if_else(full, likely=True) as (whole, part):
                    with whole:
                        b.store(b.fadd(value, v.load(target)), kept)
                    with part:
                        b.store(b.fadd(value, _load_part(b, v, count, target)), kept)
            value = b.load(kept)
        value = self._clipped(value)
        with b.if_else(full, likely=True) as (whole, part):
            with whole:
                v.store(value, target)
            with part:
                _store_part(b, v, value, count, target)


def _window(plane: Columns, stride, c, limits, zero0, mixed, valid=None):
    """A function that emits the vectors of columns c, c + 1 and c + 2 of a row, from its pointer.

    limits: where the columns of each end. mixed: lanes are as `sort` undoes it, of stride 2. valid: the lanes that are not 0, or None: any.
    """
    b, v = plane.b, plane.v
    places = [plane.after(c, t) for t in range(3)]
    if stride == 1:
        return lambda row: [plane.at(row, place, limit) for place, limit in zip(places, limits)]
    pair = plane.mixed_pair if mixed else plane.pair
    if not ACROSS:
        halves = [plane.halves(places[t]) for t in (0, 2)]
        return lambda row: [*pair(row, halves[0], limits[0]), pair(row, halves[1], limits[2])[0]]
    halves, inside = plane.halves(places[1]), b.icmp_unsigned("<", c, limits[0])
    order = [column // 2 for column in _mixed(v.lanes, v.itemsize)] if mixed else list(range(v.lanes))
    later = ir.Constant(plane.index, [v.lanes + order.index(q - 1) if q else 0 for q in order])

    def vectors(row):
        """Columns c are columns c + 2 a lane further on, and the first."""
        middle, last = pair(row, halves, limits[1])
        first = b.shuffle_vector(v.broadcast(b.load(b.select(inside, b.gep(row, [c]), zero0))), last, later)
        return [first if valid is None else b.select(valid, first, v.zero), middle, last]

    return vectors


# ---------------------------------------------------------------- the convolution, and its gradient of stride 1
def _roll_tile(stride, adds, src, at, height, width, row, col, weight, w_at, w_row, w_tap, dst, to, d_row, rows, columns, addend, flags, zeros,
               zero_at, ahead):
    """For r < rows and j < columns:

        dst[to + r * d_row + j] = addend + sum over k, t < 3 of pixel(row + r * stride + k, col + j * stride + t) * w(k, t)

    pixel(h, w) = src[at + h * width + w], 0 outside the plane (height, width); w(k, t) = weight[w_at + k * w_row + t * w_tap].
    flags: RELU; ADD, where adds is 1: to what stands in dst. zeros: at least `width` of them from zero_at on, and slack around. stride: the
    literal 1 or 2, adds: 0 or 1. One chain for each result. ahead: how many elements before their turn src and dst are asked for; 0: not at all.
    """
    zero = src.dtype.type(0)
    for r in range(rows):
        for j in range(columns):
            value = addend
            for k in range(3):
                for t in range(3):
                    h, w = row + r * stride + k, col + j * stride + t
                    pixel = src[at + h * width + w] if 0 <= h < height and 0 <= w < width else zero
                    value += pixel * weight[w_at + k * w_row + t * w_tap]
            place = to + r * d_row + j
            if adds and flags & ADD:
                value += dst[place]
            dst[place] = zero if flags & RELU and value < 0 else value


def _roll_tile_intrinsic(typingctx, stride, adds, src, at, height, width, row, col, weight, w_at, w_row, w_tap, dst, to, d_row, rows, columns,
                         addend, flags, zeros, zero_at, ahead):
    if not all(isinstance(literal, types.IntegerLiteral) for literal in (stride, adds)):
        return None
    S, i = stride.literal_value, types.int64
    sig = types.void(stride, adds, src, i, i, i, i, i, weight, i, i, i, dst, i, i, i, i, src.dtype, i, zeros, i, i)

    def codegen(context, builder, sig, args):
        b, zero = builder, _const(0)
        at, height, width, row, col, _, _, w_row, w_tap, _, to, d_row, rows, columns, addend, flags, _, zero_at, ahead = args[3:]
        v = Vector(context, b, sig.args[2].dtype)
        src0, w0, dst0, zero0 = (_pointer(context, b, sig.args[n], args[n], args[n + 1]) for n in (2, 8, 12, 19))
        source = Rows(b, src0, at, height, width, context.make_array(sig.args[2])(context, b, args[2]).nitems, zero0, zero_at)
        taps = [[v.broadcast(b.load(b.gep(w0, [b.add(b.mul(w_row, _const(k)), b.mul(w_tap, _const(t)))]))) for t in range(3)] for k in range(3)]
        start, last = v.broadcast(addend), b.add(row, b.add(b.mul(_less(b, rows, 1), _const(S)), _const(2)))
        reach = _const((v.lanes - 1) * S + 3 + (S == 2))         # columns that a vector reads, pairs and all taps
        now, after = (cgutils.alloca_once(b, v.type) for _ in range(2))      # the sums of the next row to be complete, and of the one after

        def add(k, pixels, total):
            for tap, pixel in zip(taps[k], pixels):
                total = v.multiply_add(pixel, tap, total)
            return total

        with cgutils.for_range_slice(b, zero, columns, _const(v.lanes), I64) as (j, _):
            c = b.add(col, b.mul(j, _const(S)))

            def emit(mode):
                plane = Columns(v, mode, S, width)
                window, writer = _window(plane, S, c, [width] * 3, zero0, True), Writer(v, 1, b.sub(columns, j), dst0, sig.args[1].literal_value, flags, zero0)

                def pixels(o):
                    return window(source.line(b.add(row, o)))

                first = add(0, pixels(zero), start)
                if S == 1:
                    second = pixels(_const(1))
                    b.store(add(1, second, first), now)
                    b.store(add(0, second, start), after)
                else:
                    b.store(first, now)
                with cgutils.for_range(b, rows) as loop:
                    r = loop.index
                    with b.if_then(b.icmp_signed("!=", ahead, zero)):
                        for o in range(S):
                            near = b.gep(src0, [b.add(b.mul(b.add(row, b.add(b.mul(r, _const(S)), _const(o))), width), b.add(c, ahead))])
                            for k in range(S):
                                v.prefetch(b.gep(near, [_const(k * v.lanes)]))
                        v.prefetch(b.gep(dst0, [b.add(b.mul(r, d_row), b.add(j, ahead))]))
                    if S == 1:
                        here = pixels(b.add(r, _const(2)))
                        done = add(2, here, b.load(now))
                        b.store(add(1, here, b.load(after)), now)
                        b.store(add(0, here, start), after)
                    else:
                        o = b.mul(r, _const(2))
                        middle = add(1, pixels(b.add(o, _const(1))), b.load(now))
                        here = pixels(b.add(o, _const(2)))
                        done = plane.sort(add(2, here, middle))
                        b.store(add(0, here, start), now)
                    writer.write([done], b.add(b.mul(r, d_row), j))

            _each_mode(b, *source.inside(c, b.add(c, reach), row, last), emit)
        return context.get_dummy_value()

    return sig, codegen


# ---------------------------------------------------------------- the same of small planes and stride 2
def _pair_tile(planes, src, at, src_plane, height, width, row, weight, w_at, w_row, w_tap, dst, to, rows, columns, bias, b_at, flags, zeros,
               zero_at, ahead):
    """What `roll_tile` makes of `planes` planes, one behind the other, each with its own 9 weights and its own element of the bias, if there is one.

    2 * PAIRS - 1 <= rows <= 2 * PAIRS, columns <= lanes / 2, width <= lanes; stride 2, and columns from -1 on. Only of vectors of 64 bytes, and
    without a branch: rows r and r + PAIRS of a result share a vector.
    """
    for i in range(planes):
        addend = bias[b_at + i] if bias.size else src.dtype.type(0)
        _roll_tile(2, 0, src, at + i * src_plane, height, width, row, -1, weight, w_at + 9 * i, w_row, w_tap, dst, to + i * rows * columns, columns,
                   rows, columns, addend, flags, zeros, zero_at, 0)


def _pair_tile_intrinsic(typingctx, planes, src, at, src_plane, height, width, row, weight, w_at, w_row, w_tap, dst, to, rows, columns, bias, b_at,
                         flags, zeros, zero_at, ahead):
    i = types.int64
    sig = types.void(i, src, i, i, i, i, i, weight, i, i, i, dst, i, i, i, bias, i, i, zeros, i, i)

    def codegen(context, builder, sig, args):
        b, zero = builder, _const(0)
        planes, _, _, src_plane, height, width, row, _, _, w_row, w_tap, _, _, rows, columns, _, _, flags, _, _, ahead = args
        v = Vector(context, b, sig.args[1].dtype)
        src0, w0, dst0, bias0, zero0 = (_pointer(context, b, sig.args[n], args[n], args[n + 1]) for n in (1, 7, 11, 15, 18))
        half, index = v.lanes // 2, ir.VectorType(I32, v.lanes)
        plane = Columns(v, "masked", 1, width)
        has_bias = b.icmp_signed(">", context.make_array(sig.args[15])(context, b, args[15]).nitems, zero)
        relu = b.icmp_signed("!=", b.and_(flags, _const(RELU)), zero)
        floor = v.broadcast(b.select(relu, ir.Constant(v.scalar, 0.0), ir.Constant(v.scalar, float("-inf"))))
        offsets = [(b.add(row, _const(o)), b.add(row, _const(o + 2 * PAIRS))) for o in range(2 * PAIRS + 1)]
        inside = [[b.icmp_unsigned("<", h, height) for h in pair] for pair in offsets]
        starts = [[b.mul(h, width) for h in pair] for pair in offsets]
        low = v.mask(columns)
        high = b.and_(b.not_(v.mask(_const(half))), v.mask(b.add(columns, _const(half))))
        last = b.and_(high, v.mask(b.select(b.icmp_signed("==", rows, _const(2 * PAIRS)), _const(v.lanes), zero)))
        step = b.mul(rows, columns)

        def shuffled(x, y, order):
            return b.shuffle_vector(x, y, ir.Constant(index, order))

        def window(one, other):
            """The vectors of columns -1, 0 and 1 of two rows, half of a vector each."""
            even, odd = (shuffled(one, other, [2 * q + t for q in range(v.lanes)]) for t in range(2))
            return [shuffled(odd, v.zero, [q - 1 if q % half else v.lanes for q in range(v.lanes)]), even, odd]

        with cgutils.for_range(b, planes) as loop:
            here, there = b.gep(src0, [b.mul(loop.index, src_plane)]), b.gep(dst0, [b.mul(loop.index, step)])
            filters = b.gep(w0, [b.mul(loop.index, _const(9))])
            with b.if_then(b.icmp_signed("!=", ahead, zero)):
                for at in itertools.chain(*starts):
                    v.prefetch(b.gep(here, [b.add(at, ahead)]))
                for r in range(PAIRS):
                    v.prefetch(b.gep(there, [b.add(ahead, _const(r * v.lanes))]))
            taps = [[v.broadcast(b.load(b.gep(filters, [b.add(b.mul(w_row, _const(k)), b.mul(w_tap, _const(t)))])))
                     for t in range(3)] for k in range(3)]
            addend = v.broadcast(b.load(b.select(has_bias, b.gep(bias0, [loop.index]), zero0)))
            sums = [addend] * PAIRS
            for o, (valid, first) in enumerate(zip(inside, starts)):
                lines = [b.select(there_is, b.gep(here, [at]), zero0) for there_is, at in zip(valid, first)]
                pixels = window(*(plane.at(line, zero, width) for line in lines))
                for r in range(PAIRS):
                    if 0 <= o - 2 * r < 3:
                        for tap, pixel in zip(taps[o - 2 * r], pixels):
                            sums[r] = v.multiply_add(pixel, tap, sums[r])
            for r, total in enumerate(sums):
                total = b.select(b.fcmp_ordered("<", total, floor), floor, total)
                v.store_masked(total, b.gep(there, [b.mul(columns, _const(r))]), low)
                place = b.gep(there, [b.add(b.mul(columns, _const(r + PAIRS)), _const(-half))])
                v.store_masked(total, place, last if r == PAIRS - 1 else high)
        return context.get_dummy_value()

    return sig, codegen


# ---------------------------------------------------------------- the gradient to the input of stride 2
def _spread_tile(form, adds, src, at, height, width, row, col, weight, w_at, dst, to, d_row, rows, columns, flags, zeros, zero_at, ahead):
    """The gradient of stride 2: for r < rows and i < columns, dst[to + r * d_row + i] = the sum over the taps (k, t) of a kernel of 3 x 3 for which
    row + r - k is even, of pixel((row + r - k) / 2, col + i // 2 + u) * weight[w_at + 3 * k + t], as (u, ((i % 2, t), ..)) stands in FORMS[form].

    pixel(h, w) = src[at + h * width + w], 0 outside the plane (height, width). row >= 0. form: a literal; the others as in `roll_tile`.
    """
    zero = src.dtype.type(0)
    for r in range(rows):
        for i in range(columns):
            value = zero
            for k in (2, 0, 1):
                if (row + r - k) % 2 == 0:
                    for u, sums in FORMS[form]:
                        for p, t in sums:
                            h, w = (row + r - k) // 2, col + i // 2 + u
                            if p == i % 2:
                                value += (src[at + h * width + w] if 0 <= h < height and 0 <= w < width else zero) * weight[w_at + 3 * k + t]
            place = to + r * d_row + i
            dst[place] = value + dst[place] if adds and flags & ADD else value


def _spread_tile_intrinsic(typingctx, form, adds, src, at, height, width, row, col, weight, w_at, dst, to, d_row, rows, columns, flags, zeros, zero_at,
                           ahead):
    if not all(isinstance(literal, types.IntegerLiteral) for literal in (form, adds)):
        return None
    uses, i = FORMS[form.literal_value], types.int64
    sig = types.void(form, adds, src, i, i, i, i, i, weight, i, dst, i, i, i, i, i, zeros, i, i)

    def codegen(context, builder, sig, args):
        b, zero = builder, _const(0)
        at, height, width, row, col, _, _, _, to, d_row, rows, columns, flags, _, zero_at, ahead = args[3:]
        v = Vector(context, b, sig.args[2].dtype)
        src0, w0, dst0, zero0 = (_pointer(context, b, sig.args[n], args[n], args[n + 1]) for n in (2, 8, 10, 16))
        source = Rows(b, src0, at, height, width, context.make_array(sig.args[2])(context, b, args[2]).nitems, zero0, zero_at)
        taps = [[v.broadcast(b.load(b.gep(w0, [_const(3 * k + t)]))) for t in range(3)] for k in range(3)]
        halves = [ir.Constant(ir.VectorType(I32, v.lanes), [h * v.lanes // 2 + q // 2 + q % 2 * v.lanes for q in range(v.lanes)]) for h in range(2)]
        first = b.ashr(row, _const(1))                       # of the kernel's rows 0 and 1; row 2 reads the one before
        pairs = b.add(b.sub(b.ashr(b.add(row, _less(b, rows, 1)), _const(1)), first), _const(1))
        last = b.add(first, _less(b, pairs, 1))
        partial = [cgutils.alloca_once(b, v.type) for _ in range(2)]

        def sums(k, pixels, totals):
            totals = list(totals)
            for (_, results), pixel in zip(uses, pixels):
                for p, t in results:
                    totals[p] = v.multiply_add(pixel, taps[k][t], totals[p])
            return totals

        with cgutils.for_range_slice(b, zero, columns, _const(2 * v.lanes), I64) as (j, _):
            c = b.add(col, b.ashr(j, _const(1)))
            def emit(mode):
                plane, writer = Columns(v, mode, 1, width), Writer(v, 2, b.sub(columns, j), dst0, sig.args[1].literal_value, flags, zero0)
                places = [plane.after(c, u) for u, _ in uses]

                def pixels(h):
                    line = source.line(h)
                    return [plane.at(line, place, width) for place in places]

                def write(values, r):
                    writer.write([b.shuffle_vector(*values, half) for half in halves], b.add(b.mul(r, d_row), j))

                for value, place in zip(sums(2, pixels(_less(b, first, 1)), [v.zero] * 2), partial):
                    b.store(value, place)
                with cgutils.for_range(b, pairs) as loop:
                    h = b.add(first, loop.index)
                    r = b.sub(b.mul(h, _const(2)), row)
                    with b.if_then(b.icmp_signed("!=", ahead, zero)):
                        v.prefetch(b.gep(src0, [b.add(b.mul(h, width), b.add(c, ahead))]))
                        for o in range(2):
                            for k in range(2):
                                v.prefetch(b.gep(dst0, [b.add(b.mul(b.add(r, _const(o)), d_row), b.add(j, b.add(ahead, _const(k * v.lanes))))]))
                    here = pixels(h)
                    with b.if_then(b.icmp_signed(">=", r, zero), likely=True):
                        write(sums(0, here, [b.load(place) for place in partial]), r)
                    r = b.add(r, _const(1))
                    with b.if_then(b.icmp_signed("<", r, rows), likely=True):
                        write(sums(1, here, [v.zero] * 2), r)
                    for value, place in zip(sums(2, here, [v.zero] * 2), partial):
                        b.store(value, place)

            _each_mode(b, *source.inside(c, b.add(c, _const(v.lanes + 1)), _less(b, first, 1), last), emit)
        return context.get_dummy_value()

    return sig, codegen


# ---------------------------------------------------------------- the gradient to the weights
def _roll_sums(stride, planes, src, at, src_plane, height, width, row, col, dout, d_at, d_plane, d_row, rows, columns, sums, to, d_to, zeros, zero_at, ahead):
    """Sums over pixels, one for each lane: lane l gets the outputs j with j % lanes == l. For each of so many `planes`, i, and k, t < 3:

        sums[to + ((9 * i + 3 * k) + t) * lanes + l] += sum over r < rows, j < columns of
            pixel(row + r * stride + k, col + j * stride + t) * dout[d_at + i * d_plane + r * d_row + j]

    and dout itself at sums[d_to + i * lanes + l]. pixel(h, w) = src[at + i * src_plane + h * width + w]; pixels outside take part as zeros.
    stride: the literal 1 or 2. sums: of src's dtype, rows * columns / lanes terms a chain. zeros, ahead: as in
    `roll_tile`.
    """
    lanes = VECTOR_BYTES // src.itemsize
    for i in range(planes):
        for r in range(rows):
            for j in range(columns):
                value = dout[d_at + i * d_plane + r * d_row + j]
                sums[d_to + i * lanes + j % lanes] += value
                for k in range(3):
                    for t in range(3):
                        h, w = row + r * stride + k, col + j * stride + t
                        pixel = src[at + i * src_plane + h * width + w] if 0 <= h < height and 0 <= w < width else src.dtype.type(0)
                        sums[to + (9 * i + 3 * k + t) * lanes + j % lanes] += pixel * value


def _roll_sums_intrinsic(typingctx, stride, planes, src, at, src_plane, height, width, row, col, dout, d_at, d_plane, d_row, rows, columns, sums,
                         to, d_to, zeros, zero_at, ahead):
    if not isinstance(stride, types.IntegerLiteral):
        return None
    S, i = stride.literal_value, types.int64
    sig = types.void(stride, i, src, i, i, i, i, i, i, dout, i, i, i, i, i, sums, i, i, zeros, i, i)

    def codegen(context, builder, sig, args):
        b, zero = builder, _const(0)
        _, planes, _, at, src_plane, height, width, row, col, _, d_at, d_plane, d_row, rows, columns, _, _, d_to, _, zero_at, ahead = args
        v = Vector(context, b, sig.args[2].dtype)
        src_first, dout_first, sums_first, zero0 = (_pointer(context, b, sig.args[n], args[n], args[n + 1]) for n in (2, 9, 15, 18))
        d_sums = _pointer(context, b, sig.args[15], args[15], d_to)
        size, d_size = (context.make_array(sig.args[n])(context, b, args[n]).nitems for n in (2, 9))
        last = b.add(row, b.add(b.mul(_less(b, rows, 1), _const(S)), _const(2)))
        reach = _const((v.lanes - 1) * S + 3 + (S == 2))
        # the pixels that the next row of dout meets again; with few registers they are loaded again
        kept = [[cgutils.alloca_once(b, v.type) for _ in range(3)] for _ in range(3 - S if REGISTERS >= 32 or S == 2 else 0)]

        def one_plane(index):
            here, there = b.mul(index, src_plane), b.mul(index, d_plane)
            dout0 = b.gep(dout_first, [there])
            source = Rows(b, b.gep(src_first, [here]), b.add(at, here), height, width, size, zero0, zero_at)
            places = [b.gep(sums_first, [b.mul(b.add(b.mul(index, _const(9)), _const(n)), _const(v.lanes))]) for n in range(9)]
            places.append(b.gep(d_sums, [b.mul(index, _const(v.lanes))]))
            total = [cgutils.alloca_once_value(b, v.load(place)) for place in places]

            def add(k, pixels, line_of_dout):
                for pixel, place in zip(pixels, total[3 * k:3 * k + 3]):
                    b.store(v.multiply_add(pixel, line_of_dout, b.load(place)), place)

            with cgutils.for_range_slice(b, zero, columns, _const(v.lanes), I64) as (j, _):
                c, n = b.add(col, b.mul(j, _const(S))), b.sub(columns, j)

                limits = [_end_of(b, b.add(c, _const(t)), n, _const(S), width) for t in range(3)]
                d_end = b.add(b.add(b.add(d_at, there), b.mul(d_row, _less(b, rows, 1))), b.add(j, _const(v.lanes)))
                whole, safe = source.inside(c, b.add(c, reach), row, last)
                whole = b.and_(whole, b.icmp_signed(">=", n, _const(v.lanes)))
                safe = b.and_(safe, b.icmp_signed("<=", d_end, d_size))

                def emit(mode):
                    results = Columns(v, mode, 1, columns)
                    window = _window(Columns(v, mode, S, width), S, c, limits, zero0, False, v.mask(n))

                    def pixels(o):
                        return window(source.line(b.add(row, o)))

                    for k, line in enumerate(kept):
                        for pixel, place in zip(pixels(_const(k)), line):
                            b.store(pixel, place)
                    with cgutils.for_range(b, rows) as loop:
                        r = loop.index
                        with b.if_then(b.icmp_signed("!=", ahead, zero)):
                            for o in range(S):
                                near = b.gep(source.src0, [b.add(b.mul(b.add(row, b.add(b.mul(r, _const(S)), _const(o))), width), b.add(c, ahead))])
                                for k in range(S):
                                    v.prefetch(b.gep(near, [_const(k * v.lanes)]))
                            v.prefetch(b.gep(dout0, [b.add(b.mul(r, d_row), b.add(j, ahead))]))
                        line_of_dout, o = results.at(b.gep(dout0, [b.mul(d_row, r)]), j, columns), b.mul(r, _const(S))
                        b.store(b.fadd(b.load(total[9]), line_of_dout), total[9])
                        lines = [[b.load(place) for place in line] for line in kept]
                        for k, line in enumerate(lines):
                            add(k, line, line_of_dout)
                        for k in range(len(kept), 3):
                            lines.append(pixels(b.add(o, _const(k))))
                            add(k, lines[k], line_of_dout)
                        for line, later in zip(kept, lines[S:]):
                            for place, pixel in zip(line, later):
                                b.store(pixel, place)

                _each_mode(b, whole, safe, emit)
            for value, place in zip(total, places):
                v.store(b.load(value), place)

        with cgutils.for_range(b, planes) as loop:
            one_plane(loop.index)
        return context.get_dummy_value()

    return sig, codegen


pair_tile = either(_pair_tile, _pair_tile_intrinsic)
roll_tile = either(_roll_tile, _roll_tile_intrinsic, literal=True)
spread_tile = either(_spread_tile, _spread_tile_intrinsic, literal=True)
roll_sums = either(_roll_sums, _roll_sums_intrinsic, literal=True)
