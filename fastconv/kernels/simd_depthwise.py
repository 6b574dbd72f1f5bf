"""The register tiles of depthwise convolution, each with a plain-loop twin: vectors along a row of pixels, one plane at a time.

Planes are read in place: no padded copy is made. A row outside the image is read from a row of zeros; columns outside are zero lanes. Where
a vector lies inside, it is loaded whole; at an edge it is loaded under a mask (AVX), loaded and then blended with zeros (elsewhere, where
the memory around belongs to the array), or gathered lane by lane (before the first and behind the last plane).
"""
from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.core import cgutils

from ..instruction_set import isa
from .simd import I32, I64, Vector, _pointer, either
from .simd_weight import add_lanes
from .tiles import VECTOR_BYTES

RESIDUAL, RELU = 1, 2                        # flags: add the residual; negative results become 0
MIDDLE = 4                                   # rows of the tiles
ENTRY = 6                                    # integers of one entry of `any_tile`'s table
MASKS = isa() in ("avx512", "avx2", "avx")   # elsewhere LLVM would make a branch for each lane of a mask


def _const(n):
    return ir.Constant(I64, int(n))


def _mixed(lanes, itemsize):
    """Every second pixel of two vectors, in the order that takes one instruction: pixels change places within 16 bytes only."""
    part = 16 // itemsize
    return [i // part * part + i % (part // 2) * 2 + i % part // (part // 2) * lanes for i in range(lanes)]


def _all(builder, first, *others):
    for other in others:
        first = builder.and_(first, other)
    return first


class Columns:
    """Emits the loads of pixels from rows of one plane, `stride` columns between lanes (an int or a value), for one kind of place:

    "whole": all lanes inside the image; "masked", "blended", "lanes": some may not be, see above.
    """

    def __init__(self, v: Vector, mode: str, stride, width):
        self.v, self.b, self.mode, self.stride, self.width = v, v.b, mode, stride, width
        self.index = ir.VectorType(I32, v.lanes)
        self._known = {}                     # masks by column: one serves all rows
        self._from = {}                      # columns by another and how far behind: what is added last needs no register

    def forget(self):
        """The masks made so far do not exist in the code that follows: a loop begins or ends."""
        self._known.clear()

    def _splat(self, value):
        one = self.b.insert_element(ir.Constant(self.index, ir.Undefined), self.b.trunc(value, I32), ir.Constant(I32, 0))
        return self.b.shuffle_vector(one, one, ir.Constant(self.index, [0] * self.v.lanes))

    def _mask(self, c, stride, limit):
        """The lanes j whose column c + j * stride lies in 0 .. limit - 1."""
        if (c, stride) not in self._known:
            b, count = self.b, ir.Constant(self.index, list(range(self.v.lanes)))
            if not isinstance(stride, int):
                count = b.mul(count, self._splat(stride))
            self._known[c, stride] = b.icmp_unsigned("<", b.add(count, self._splat(c)), self._splat(limit))
        return self._known[c, stride]

    def _run(self, row, c, limit):
        """Lane j: column c + j."""
        if self.mode == "lanes":
            return self._gathered(row, c, 1, limit)
        before, n = self._from.get(c, (c, 0))
        place = self.b.gep(self.b.gep(row, [before]), [_const(n)])
        if self.mode == "masked":
            return self.v.load_masked(place, self._mask(c, 1, limit))
        value = self.v.load(place)
        return value if self.mode == "whole" else self.b.select(self._mask(c, 1, limit), value, self.v.zero)

    def _gathered(self, row, c, stride, limit):
        """Lane j: column c + j * stride, one by one; outside the image the nearest pixel is read, and blended out."""
        b, v = self.b, self.v
        value, last = ir.Constant(v.type, ir.Undefined), b.sub(self.width, _const(1))
        step = _const(stride) if isinstance(stride, int) else stride
        for j in range(v.lanes):
            at = b.add(c, b.mul(_const(j), step))
            if self.mode != "whole":
                at = b.select(b.icmp_signed("<", at, _const(0)), _const(0), at)
                at = b.select(b.icmp_signed(">", at, last), last, at)
            value = b.insert_element(value, b.load(b.gep(row, [at])), ir.Constant(I32, j))
        return value if self.mode == "whole" else b.select(self._mask(c, stride, limit), value, v.zero)

    def after(self, c, n):
        """Column c + n."""
        before, gone = self._from.get(c, (c, 0))
        column = self.b.add(before, _const(gone + n))
        self._from[column] = before, gone + n
        return column

    def halves(self, c):
        """The two columns that the vectors of a pair start loading at."""
        return c, self.after(c, self.v.lanes)

    def pair(self, row, halves, limit):
        """Of stride 2: the vectors that start at column c and at c + 1."""
        return self._pair(row, halves, limit, range(0, 2 * self.v.lanes, 2))

    def mixed_pair(self, row, halves, limit):
        """The same with the lanes in another order, which `sort` undoes."""
        return self._pair(row, halves, limit, _mixed(self.v.lanes, self.v.itemsize))

    def _pair(self, row, halves, limit, columns):
        both = [self._run(row, half, limit) for half in halves]
        return [self.b.shuffle_vector(*both, ir.Constant(self.index, [column + k for column in columns])) for k in range(2)]

    def sort(self, value):
        """The lanes of a mixed vector in their own order."""
        order = _mixed(self.v.lanes, self.v.itemsize)
        return self.b.shuffle_vector(value, value, ir.Constant(self.index, [order.index(2 * j) for j in range(self.v.lanes)]))

    def at(self, row, c, limit):
        """Lane j: column c + j * stride."""
        if self.stride == 1:
            return self._run(row, c, limit)
        return self._gathered(row, c, self.stride, limit)


def _store_part(builder, v, value, n, place):
    """The first n lanes, 0 <= n < lanes."""
    if isa() == "avx512":                    # of AVX2 the masked store is slow on some processors
        v.store_masked(value, place, v.mask(n))
        return
    rest, to, w = cgutils.alloca_once_value(builder, value), cgutils.alloca_once_value(builder, place), v.lanes // 2
    while w:
        with builder.if_then(builder.icmp_signed("!=", builder.and_(n, _const(w)), _const(0))):
            now, at = builder.load(rest), builder.load(to)
            v.store(builder.shuffle_vector(now, now, ir.Constant(ir.VectorType(I32, w), list(range(w)))), at)
            turn = ir.Constant(ir.VectorType(I32, v.lanes), [(j + w) % v.lanes for j in range(v.lanes)])
            builder.store(builder.shuffle_vector(now, now, turn), rest)
            builder.store(builder.gep(at, [_const(w)]), to)
        w //= 2


def _load_part(builder, v, n, place):
    """The first n lanes, 0 < n <= lanes; what the others hold is not said."""
    if MASKS:
        return v.load_masked(place, v.mask(n))
    value, last = ir.Constant(v.type, ir.Undefined), builder.sub(n, _const(1))
    for j in range(v.lanes):
        at = builder.select(builder.icmp_signed("<", _const(j), last), _const(j), last)
        value = builder.insert_element(value, builder.load(builder.gep(place, [at])), ir.Constant(I32, j))
    return value


def _each_mode(builder, whole, safe, emit, masked=True):
    """Emit the code for each kind of place under its condition: all lanes inside, all memory the array's, anything.

    masked: one code for all of them, where masks cost little.
    """
    if isa() == "avx512" and masked:
        emit("masked")
        return
    with builder.if_else(whole, likely=True) as (here, edge):
        with here:
            emit("whole")
        with edge:
            if MASKS:
                emit("masked")
            else:
                with builder.if_else(safe) as (blended, lanes):
                    with blended:
                        emit("blended")
                    with lanes:
                        emit("lanes")


def _finish(builder, v, sums, dst, residual, to, row, valid, n, addend, flags):
    """Add, clip and store the first n results of `valid` rows. sums[r][p], stack slots: lane j is result p + j * len(sums[r]) of row r.

    row: elements between rows of the result.
    """
    b, R, P = builder, len(sums), len(sums[0])
    # x < floor is never true of a floor of -inf
    relu = b.icmp_signed("!=", b.and_(flags, _const(RELU)), _const(0))
    floor = v.broadcast(b.select(relu, ir.Constant(v.scalar, 0.0), ir.Constant(v.scalar, float("-inf"))))
    extra, more = v.broadcast(addend), b.icmp_signed("!=", b.and_(flags, _const(RESIDUAL)), _const(0))
    vector_n = [b.sub(n, _const(p * v.lanes)) for p in range(P)]

    def ready(parts):
        if P == 2:
            halves = [[i * v.lanes // 2 + j // 2 + j % 2 * v.lanes for j in range(v.lanes)] for i in range(2)]
            parts = [b.shuffle_vector(*parts, ir.Constant(ir.VectorType(I32, v.lanes), half)) for half in halves]
        return [b.fadd(part, extra) for part in parts]

    def clipped(value):
        return b.select(b.fcmp_ordered("<", value, floor), floor, value)

    dst_line, residual_line = b.gep(dst, [to]), b.gep(residual, [to])
    offsets = [[b.add(b.mul(row, _const(r)), _const(p * v.lanes)) for p in range(P)] for r in range(R)]

    def write(masks):
        """All rows, unrolled; masks of their lanes, or None for whole vectors."""
        for line in sums:
            for value, place in zip(ready([b.load(x) for x in line]), line):
                b.store(value, place)
        with b.if_then(more, likely=False):
            for r in range(R):
                for p, place in enumerate(sums[r]):
                    source = b.gep(residual_line, [offsets[r][p]])
                    value = v.load_masked(source, masks[r][p]) if masks else v.load(source)
                    b.store(b.fadd(b.load(place), value), place)
        for r in range(R):
            for p, place in enumerate(sums[r]):
                value, target = clipped(b.load(place)), b.gep(dst_line, [offsets[r][p]])
                if masks:
                    v.store_masked(value, target, masks[r][p])
                else:
                    v.store(value, target)

    if isa() == "avx512":                    # a mask costs nothing, whether it hides lanes or a row
        write([[v.mask(b.select(b.icmp_signed("<", _const(r), valid), count, _const(0))) for count in vector_n] for r in range(R)])
        return
    full = b.and_(b.icmp_signed("==", valid, _const(R)), b.icmp_signed(">=", n, _const(P * v.lanes)))
    with b.if_else(full, likely=True) as (whole, part):
        with whole:
            write(None)
        with part:                           # rarely used: through memory, so that the code is short
            block = cgutils.alloca_once(b, ir.ArrayType(v.type, R * P))
            vectors = b.bitcast(block, v.type.as_pointer())
            for r, line in enumerate(sums):
                for p, value in enumerate(ready([b.load(x) for x in line])):
                    b.store(value, b.gep(vectors, [_const(r * P + p)])).align = v.itemsize
            with cgutils.for_range(b, valid) as rows:
                for p in range(P):
                    with b.if_then(b.icmp_signed(">", vector_n[p], _const(0))):
                        at = b.add(b.mul(row, rows.index), _const(p * v.lanes))
                        value = cgutils.alloca_once_value(b, v.load(b.gep(vectors, [b.add(b.mul(rows.index, _const(P)), _const(p))])))
                        count = b.select(b.icmp_signed("<", vector_n[p], _const(v.lanes)), vector_n[p], _const(v.lanes))
                        with b.if_then(more):
                            b.store(b.fadd(b.load(value), _load_part(b, v, count, b.gep(residual_line, [at]))), value)
                        target, result = b.gep(dst_line, [at]), clipped(b.load(value))
                        with b.if_else(b.icmp_signed("==", count, _const(v.lanes))) as (all_lanes, some):
                            with all_lanes:
                                v.store(result, target)
                            with some:
                                _store_part(b, v, result, count, target)


# ---------------------------------------------------------------- whole columns of the kernel at once
def _row_tile(rows, column, stride, src, at, height, width, row, col, taps, weight, w_at, w_row, w_tap, dst, to, d_row, valid, columns, addend,
              residual, flags, zeros, zero_at):
    """`valid` <= `rows` rows of `columns` results, from a column of `column` weights for each of `taps` columns of the kernel:

        dst[to + r * d_row + j] = addend + sum over k < column, t < taps of pixel(row + r * stride + k, col + j * stride + t) * w(k, t)

    pixel(h, w) = src[at + h * width + w], 0 outside the plane (height, width); w(k, t) = weight[w_at + k * w_row + t * w_tap].
    flags: RESIDUAL: add residual, laid out as dst; RELU. zeros: at least `width` of them from zero_at on, and slack around.
    rows, column and stride: integer literals. One chain for each result.
    """
    zero = src.dtype.type(0)
    for r in range(valid):
        for j in range(columns):
            value = zero
            for t in range(taps):
                for k in range(column):
                    h, w = row + r * stride + k, col + j * stride + t
                    pixel = src[at + h * width + w] if 0 <= h < height and 0 <= w < width else zero
                    value += pixel * weight[w_at + k * w_row + t * w_tap]
            value += addend
            place = to + r * d_row + j
            if flags & RESIDUAL:
                value += residual[place]
            dst[place] = zero if flags & RELU and value < 0 else value


def _row_tile_intrinsic(typingctx, rows, column, stride, src, at, height, width, row, col, taps, weight, w_at, w_row, w_tap, dst, to, d_row,
                        valid, columns, addend, residual, flags, zeros, zero_at):
    literals = (rows, column, stride)
    if not all(isinstance(literal, types.IntegerLiteral) for literal in literals):
        return None
    R, K, S = (literal.literal_value for literal in literals)
    i = types.int64
    sig = types.void(*literals, src, i, i, i, i, i, i, weight, i, i, i, dst, i, i, i, i, src.dtype, residual, i, zeros, i)

    def codegen(context, builder, sig, args):
        b, zero = builder, _const(0)
        _, at, height, width, row, col, taps, _, _, w_row, w_tap, _, to, d_row, valid, columns, addend, _, flags, _, zero_at = args[3:]
        v = Vector(context, b, sig.args[3].dtype)
        src0, w0, zero0 = (_pointer(context, b, sig.args[n], args[n], args[n + 1]) for n in (3, 10, 22))
        dst0, residual0 = _pointer(context, b, sig.args[14], args[14], zero), _pointer(context, b, sig.args[20], args[20], zero)
        size = context.make_array(sig.args[3])(context, b, args[3]).nitems
        lines = []
        for o in range((R - 1) * S + K):
            h = b.add(row, _const(o))
            lines.append(b.select(b.icmp_unsigned("<", h, height), b.gep(src0, [b.mul(h, width)]), zero0))

        def weights_of(t):
            place = b.gep(w0, [b.mul(t, w_tap)])
            return [v.broadcast(b.load(b.gep(place, [b.mul(w_row, _const(k))]))) for k in range(K)]

        reach = b.add(taps, _const((v.lanes - 1) * S + (S == 2)))           # columns that a vector reads, pairs and all taps
        first_line, last_line = b.select(b.icmp_signed("<", row, zero), zero, row), b.add(row, _const((R - 1) * S + K - 1))
        last_line = b.select(b.icmp_signed("<", last_line, height), last_line, b.sub(height, _const(1)))
        first_at, last_at = b.add(at, b.mul(first_line, width)), b.add(at, b.mul(last_line, width))

        def accumulate(plane, c, sums):
            def add(o, pixels, taps_k):
                for r in range(R):
                    if 0 <= o - r * S < K:
                        b.store(v.multiply_add(pixels, taps_k[o - r * S], b.load(sums[r])), sums[r])

            def add_pair(t, taps_k):
                halves = plane.halves(b.add(c, t))
                for o, line in enumerate(lines):
                    for pixels, taps_t in zip(plane.mixed_pair(line, halves, width), taps_k):
                        add(o, pixels, taps_t)

            def looped(begin, end, step, body):
                with cgutils.for_range_slice(b, begin, end, _const(step), I64) as (t, _):
                    plane.forget()
                    body(t)
                plane.forget()

            def single(t):
                taps_k, c_t = weights_of(t), b.add(c, t)
                for o, line in enumerate(lines):
                    add(o, plane.at(line, c_t, width), taps_k)

            if S == 2:
                even = b.and_(taps, _const(-2))
                looped(zero, even, 2, lambda t: add_pair(t, [weights_of(t), weights_of(b.add(t, _const(1)))]))
                looped(even, taps, 1, lambda t: add_pair(t, [weights_of(t)]))
            else:
                looped(zero, taps, 1, single)

        with cgutils.for_range_slice(b, zero, columns, _const(v.lanes), I64) as (j, _):
            c = b.add(col, b.mul(j, _const(S)))
            sums, results = ([cgutils.alloca_once_value(b, v.zero) for _ in range(R)] for _ in range(2))
            end = b.add(c, reach)
            whole = _all(b, b.icmp_signed(">=", c, zero), b.icmp_signed("<=", end, width))
            safe = _all(b, b.icmp_signed(">=", b.add(first_at, c), zero), b.icmp_signed("<=", b.add(last_at, end), size),
                        b.icmp_signed(">=", b.add(zero_at, c), zero), b.icmp_signed("<=", end, b.add(width, zero_at)))

            def emit(mode):
                for place in sums:
                    b.store(v.zero, place)
                plane = Columns(v, mode, S, width)
                accumulate(plane, c, sums)
                for place, place_of_all in zip(sums, results):
                    b.store(plane.sort(b.load(place)) if S == 2 else b.load(place), place_of_all)

            _each_mode(b, whole, safe, emit, masked=S == 1)
            _finish(b, v, [[place] for place in results], dst0, residual0, b.add(to, j), d_row, valid, b.sub(columns, j), addend, flags)
        return context.get_dummy_value()

    return sig, codegen


# ---------------------------------------------------------------- any kernel, row by row
def _any_tile(rows, stride, phases, src, at, height, width, row, col, row_step, lane_step, tap_step, weight, w_at, w_tap, table, first,
              middle, end, dst, to, d_row, valid, columns, addend, residual, flags, zeros, zero_at):
    """Rows of results as `row_tile` makes them, from entries of a table, (plane, row_e, column, weight, taps, cut) each:

        dst[to + r * d_row + j] = addend + sum over entries e, t < taps of
            pixel(plane, row + row_e + r * row_step, col + column + j * lane_step + t * tap_step) * weight[w_at + weight + t * w_tap]

    pixel(plane, h, w) = src[at + plane + h * width + w]. cut: the chain of the sum ends after this entry.
    phases 1: entries first .. middle. 2: result 2 * j + p is lane j of the sum over entries first .. middle, or middle .. end.
    stride: lane_step where that is 1 or 2, else 0. rows, stride and phases: integer literals.
    """
    zero = src.dtype.type(0)
    for r in range(valid):
        for i in range(columns):
            j, p = (i // 2, i % 2) if phases == 2 else (i, 0)
            total, chain = zero, zero
            for e in range(middle if p else first, end if p else middle):
                plane, row_e, col_e, w_e, taps, cut = table[ENTRY * e:ENTRY * e + ENTRY]
                for t in range(taps):
                    h, w = row + row_e + r * row_step, col + col_e + j * lane_step + t * tap_step
                    pixel = src[at + plane + h * width + w] if 0 <= h < height and 0 <= w < width else zero
                    chain += pixel * weight[w_at + w_e + t * w_tap]
                if cut:
                    total, chain = total + chain, zero
            value, place = total + chain + addend, to + r * d_row + i
            if flags & RESIDUAL:
                value += residual[place]
            dst[place] = zero if flags & RELU and value < 0 else value


def _any_tile_intrinsic(typingctx, rows, stride, phases, src, at, height, width, row, col, row_step, lane_step, tap_step, weight, w_at,
                        w_tap, table, first, middle, end, dst, to, d_row, valid, columns, addend, residual, flags, zeros, zero_at):
    literals = (rows, stride, phases)
    if not all(isinstance(literal, types.IntegerLiteral) for literal in literals):
        return None
    R, S, P = (literal.literal_value for literal in literals)
    i = types.int64
    sig = types.void(*literals, src, *[i] * 8, weight, i, i, table, i, i, i, dst, i, i, i, i, src.dtype, residual, i, zeros, i)

    def codegen(context, builder, sig, args):
        b, zero = builder, _const(0)
        (_, at, height, width, row, col, row_step, lane_step, tap_step, _, _, w_tap, _, first, middle, end, _, to, d_row, valid, columns,
         addend, _, flags, _, zero_at) = args[3:]
        v = Vector(context, b, sig.args[3].dtype)
        src0, w0, zero0 = (_pointer(context, b, sig.args[n], args[n], args[n + 1]) for n in (3, 12, 27))
        table0, dst0, residual0 = (_pointer(context, b, sig.args[n], args[n], zero) for n in (15, 19, 25))
        size = context.make_array(sig.args[3])(context, b, args[3]).nitems
        step = S or lane_step

        def smaller(x, y):
            return b.select(b.icmp_signed("<", x, y), x, y)

        def accumulate(c, begin, stop, chain, total):
            with cgutils.for_range_slice(b, begin, stop, _const(1), I64) as (e, _):
                entry = [b.load(b.gep(table0, [b.add(b.mul(e, _const(ENTRY)), _const(i))])) for i in range(ENTRY)]
                base, h0, c0, taps = b.gep(src0, [entry[0]]), b.add(row, entry[1]), b.add(c, entry[2]), entry[4]
                weights, lines = b.gep(w0, [entry[3]]), []
                for r in range(R):
                    h = b.add(h0, b.mul(row_step, _const(r)))
                    lines.append(b.select(b.icmp_unsigned("<", h, height), b.gep(base, [b.mul(h, width)]), zero0))
                reach = b.mul(tap_step, b.sub(taps, _const(1)))
                low = b.add(c0, smaller(reach, zero))
                high = b.add(b.add(c0, b.sub(reach, smaller(reach, zero))), b.add(b.mul(lane_step, _const(v.lanes - 1)), _const(S == 2)))
                first_line = b.sub(zero, smaller(b.sub(zero, h0), zero))
                last_line = smaller(b.add(h0, b.mul(row_step, _const(R - 1))), b.sub(height, _const(1)))
                here = b.add(at, entry[0])
                whole = _all(b, b.icmp_signed(">=", low, zero), b.icmp_signed("<", high, width))
                safe = _all(b, b.icmp_signed(">=", b.add(b.add(here, b.mul(first_line, width)), low), zero),
                            b.icmp_signed("<", b.add(b.add(here, b.mul(last_line, width)), high), size),
                            b.icmp_signed(">=", b.add(zero_at, low), zero), b.icmp_signed("<", high, b.add(width, zero_at)))

                def emit(mode):
                    plane = Columns(v, mode, step, width)

                    def add(t, width_of_step):
                        """`width_of_step` taps from t on: two share their loads where the lanes step by 2 and the taps by 1."""
                        taps_t = [v.broadcast(b.load(b.gep(weights, [b.mul(b.add(t, _const(k)), w_tap)]))) for k in range(width_of_step)]
                        c_t = b.add(c0, b.mul(t, tap_step))
                        halves = plane.halves(c_t)
                        for line, place in zip(lines, chain):
                            pixels = plane.pair(line, halves, width) if S == 2 else [plane.at(line, c_t, width)]
                            for tap, pixel in zip(taps_t, pixels):
                                b.store(v.multiply_add(pixel, tap, b.load(place)), place)

                    pairs = b.select(b.icmp_signed("==", tap_step, _const(1)), b.and_(taps, _const(-2)), zero) if S == 2 else zero
                    if S == 2:
                        with cgutils.for_range_slice(b, zero, pairs, _const(2), I64) as (t, _):
                            add(t, 2)
                        plane.forget()
                    with cgutils.for_range_slice(b, pairs, taps, _const(1), I64) as (t, _):
                        add(t, 1)

                _each_mode(b, whole, safe, emit)
                with b.if_then(b.icmp_signed("!=", entry[5], zero), likely=False):
                    for part, place in zip(chain, total):
                        b.store(b.fadd(b.load(place), b.load(part)), place)
                        b.store(v.zero, part)

        with cgutils.for_range_slice(b, zero, columns, _const(P * v.lanes), I64) as (j, _):
            c = b.add(col, b.mul(b.udiv(j, _const(P)), lane_step))
            sums = [[cgutils.alloca_once_value(b, v.zero) for _ in range(P)] for _ in range(R)]
            for p in range(P):
                chain = [cgutils.alloca_once_value(b, v.zero) for _ in range(R)]
                total = [line[p] for line in sums]
                accumulate(c, middle if p else first, end if p else middle, chain, total)
                for part, place in zip(chain, total):
                    b.store(b.fadd(b.load(place), b.load(part)), place)
            _finish(b, v, sums, dst0, residual0, b.add(to, j), d_row, valid, b.sub(columns, j), addend, flags)
        return context.get_dummy_value()

    return sig, codegen


# ---------------------------------------------------------------- the gradient to the weights
def _tap_tile(rows, column, stride, planes, src, at, src_plane, height, width, row, col, row_step, lane_step, dout, d_at, d_plane, d_row,
              columns, sums, to, sums_plane, sums_row, zeros, zero_at):
    """Sums over pixels, one for each lane: lane l gets the outputs j with j % lanes == l. For each of so many `planes`, i:

        sums[to + i * sums_plane + k * sums_row * lanes + l] += sum over r < rows, j < columns of
            pixel(row + r * row_step + k, col + j * lane_step) * dout[d_at + i * d_plane + r * d_row + j]     for k < column

    pixel(h, w) = src[at + i * src_plane + h * width + w]; pixels outside take part as zeros. stride: lane_step where that is 1 or 2, else
    0; it is row_step too where column is more than 1. rows, column and stride: integer literals. sums: of src's dtype,
    rows * columns / lanes terms a chain. zeros: as in `row_tile`.
    """
    lanes = VECTOR_BYTES // src.itemsize
    for i in range(planes):
        for k in range(column):
            for r in range(rows):
                for j in range(columns):
                    h, w = row + r * row_step + k, col + j * lane_step
                    pixel = src[at + i * src_plane + h * width + w] if 0 <= h < height and 0 <= w < width else src.dtype.type(0)
                    place = to + i * sums_plane + k * sums_row * lanes + j % lanes
                    sums[place] += pixel * dout[d_at + i * d_plane + r * d_row + j]


def _end_of(b, c, n, step, width):
    """Where the columns from c on end that outputs before lane n read, `step` apart: a pixel behind them may be inf, and inf * 0 is NaN."""
    end = b.add(c, b.mul(n, step))
    end = b.select(b.icmp_signed("<", end, width), end, width)
    return b.select(b.icmp_signed(">", end, _const(0)), end, _const(0))


def _tap_tile_intrinsic(typingctx, rows, column, stride, planes, src, at, src_plane, height, width, row, col, row_step, lane_step, dout, d_at,
                        d_plane, d_row, columns, sums, to, sums_plane, sums_row, zeros, zero_at):
    literals = (rows, column, stride)
    if not all(isinstance(literal, types.IntegerLiteral) for literal in literals):
        return None
    R, K, S = (literal.literal_value for literal in literals)
    i = types.int64
    sig = types.void(*literals, i, src, i, i, i, i, i, i, i, i, dout, i, i, i, i, sums, i, i, i, zeros, i)

    def codegen(context, builder, sig, args):
        b, zero = builder, _const(0)
        (planes, _, at, src_plane, height, width, row, col, row_step, lane_step, _, d_at, d_plane, d_row, columns, _, _, sums_plane,
         sums_row, _, zero_at) = args[3:]
        v = Vector(context, b, sig.args[4].dtype)
        src_first, dout_first, sums_first, zero0 = (_pointer(context, b, sig.args[n], args[n], args[n + 1]) for n in (4, 13, 18, 22))
        size, d_size = (context.make_array(sig.args[n])(context, b, args[n]).nitems for n in (4, 13))
        offsets = [_const(o) if K > 1 else b.mul(row_step, _const(o)) for o in range((R - 1) * S + K if K > 1 else R)]
        inside = [b.icmp_unsigned("<", b.add(row, offset), height) for offset in offsets]
        last_row = b.add(row, offsets[-1])
        first_line = b.select(b.icmp_signed("<", row, zero), zero, row)
        last_line = b.select(b.icmp_signed("<", last_row, height), last_row, b.sub(height, _const(1)))
        step = S or lane_step
        reach = b.add(b.mul(lane_step, _const(v.lanes - 1)), _const(1 + (S == 2)))

        def one_plane(index):
            here = b.add(at, b.mul(index, src_plane))
            first_at, last_at = b.add(here, b.mul(first_line, width)), b.add(here, b.mul(last_line, width))
            d_end = b.add(b.add(d_at, b.mul(index, d_plane)), b.mul(d_row, _const(R - 1)))
            src0, dout0, sums0 = (b.gep(pointer, [b.mul(index, by)])
                                  for pointer, by in ((src_first, src_plane), (dout_first, d_plane), (sums_first, sums_plane)))
            lines = [b.select(there, b.gep(src0, [b.mul(b.add(row, offset), width)]), zero0) for there, offset in zip(inside, offsets)]
            places = [b.gep(sums0, [b.mul(sums_row, _const(k * v.lanes))]) for k in range(K)]
            total = [cgutils.alloca_once_value(b, v.load(place)) for place in places]

            with cgutils.for_range_slice(b, zero, columns, _const(v.lanes), I64) as (j, _):
                c, n = b.add(col, b.mul(j, lane_step)), b.sub(columns, j)
                end = b.add(c, reach)
                whole = _all(b, b.icmp_signed(">=", c, zero), b.icmp_signed("<=", end, width), b.icmp_signed(">=", n, _const(v.lanes)))
                safe = _all(b, b.icmp_signed(">=", b.add(first_at, c), zero), b.icmp_signed("<=", b.add(last_at, end), size),
                            b.icmp_signed(">=", b.add(zero_at, c), zero), b.icmp_signed("<=", end, b.add(width, zero_at)),
                            b.icmp_signed("<=", b.add(b.add(d_end, j), _const(v.lanes)), d_size))

                limit = _end_of(b, c, n, lane_step, width)

                def emit(mode):
                    plane, results = Columns(v, mode, step, width), Columns(v, mode, 1, columns)
                    lines_of_dout, halves = [results.at(b.gep(dout0, [b.mul(d_row, _const(r))]), j, columns) for r in range(R)], plane.halves(c)
                    for o, line in enumerate(lines):
                        pixels = plane.pair(line, halves, limit)[0] if S == 2 else plane.at(line, c, limit)
                        for r in range(R):
                            k = o - r * S if K > 1 else 0 if o == r else -1
                            if 0 <= k < K:
                                b.store(v.multiply_add(pixels, lines_of_dout[r], b.load(total[k])), total[k])

                _each_mode(b, whole, safe, emit)
            for value, place in zip(total, places):
                v.store(b.load(value), place)

        with cgutils.for_range(b, planes) as loop:
            one_plane(loop.index)
        return context.get_dummy_value()

    return sig, codegen


def _drain(sums, at, count, total, to):
    """total[to + i] += the sum of the `lanes` elements from sums[at + i * lanes] on, halves added to halves, for i < count; they are 0 afterwards.

    Whole groups of `lanes` sums are drained: behind the last of `count` there is room for them in both arrays. total: float64.
    """
    lanes = VECTOR_BYTES // sums.itemsize
    for i in range(-(-count // lanes) * lanes):
        place = at + i * lanes
        values = sums[place:place + lanes].copy()
        sums[place:place + lanes] = 0
        while values.size > 1:
            values = values[:values.size // 2] + values[values.size // 2:]
        total[to + i] += values[0]


def _drain_intrinsic(typingctx, sums, at, count, total, to):
    def codegen(context, builder, sig, args):
        v, b = Vector(context, builder, sig.args[0].dtype), builder
        place, target = (_pointer(context, b, sig.args[n], args[n], args[n + 1]) for n in (0, 3))
        wide = ir.VectorType(ir.DoubleType(), v.lanes)
        with cgutils.for_range_slice(b, _const(0), args[2], _const(v.lanes), I64) as (i, _):
            here = b.gep(place, [b.mul(i, _const(v.lanes))])
            parts = [b.gep(here, [_const(k * v.lanes)]) for k in range(v.lanes)]
            values = [v.load(part) for part in parts]
            for part in parts:
                v.store(v.zero, part)
            found = add_lanes(v, values)
            sum_place = b.bitcast(b.gep(target, [i]), wide.as_pointer())
            before = b.load(sum_place)
            before.align = 8
            b.store(b.fadd(before, found if v.itemsize == 8 else b.fpext(found, wide)), sum_place).align = 8
        return context.get_dummy_value()

    i = types.int64
    return types.void(sums, i, i, total, i), codegen


row_tile = either(_row_tile, _row_tile_intrinsic, literal=True)
any_tile = either(_any_tile, _any_tile_intrinsic, literal=True)
tap_tile = either(_tap_tile, _tap_tile_intrinsic, literal=True)
drain = either(_drain, _drain_intrinsic)
