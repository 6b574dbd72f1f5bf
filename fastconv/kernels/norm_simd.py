"""The loops of normalisation, each with a plain-loop twin: sums in float64 and elementwise passes over runs of memory.

Sums widen every element to float64 and take it from a shift first, so that they are right for a mean of 1e6 and a deviation of 1 in
float32; several chains of vectors hide the latency, and their order depends on the length alone. An elementwise pass stores to whole
lines: it begins with the elements before the first one, and its long runs may go past the caches (`stream`) where the result will not
stay in them anyway.
"""
from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.core import cgutils

from ..instruction_set import isa
from .simd import I32, I64, LINE_BYTES, _pointer, either
from .tiles import FMA, REGISTERS, VECTOR_BYTES

MASKS = isa() == "avx512"                    # elsewhere the elements of a part of a vector are done one by one
X86 = isa() in ("avx512", "avx2", "avx", "sse")
DOUBLE = ir.DoubleType()
WIDE = VECTOR_BYTES // 8                     # float64 lanes of a vector
ALIGNED_FROM = 8                             # vectors of a run that is worth bringing to a line's start
ABREAST = 4 if REGISTERS >= 32 else 2        # vectors of a row that a pass down the columns takes at a time
SETS = 2 if VECTOR_BYTES == 64 else 4        # chains of a sum
AHEAD = 8192                                 # bytes that a sum asks for lines ahead
CHAIN = 16                                   # float32 vectors of a chain, before it is added in float64
LARGE, SMALL = 1e37, 1e-30                   # sums of squares of float32 beyond these are to be made again in float64


def _const(n):
    return ir.Constant(I64, n)


class Lanes:
    """Emits code for vectors of `lanes` elements of one floating type; a lone element is a vector of one."""

    def __init__(self, builder, scalar, lanes):
        self.b, self.scalar, self.lanes = builder, scalar, lanes
        self.itemsize = 8 if scalar == DOUBLE else 4
        self.type = ir.VectorType(scalar, lanes)
        self.zero = ir.Constant(self.type, [0.0] * lanes)

    def splat(self, scalar):
        one = self.b.insert_element(ir.Constant(self.type, ir.Undefined), scalar, ir.Constant(I32, 0))
        return self.b.shuffle_vector(one, one, ir.Constant(ir.VectorType(I32, self.lanes), [0] * self.lanes))

    def fma(self, x, y, z):
        """x * y + z, fused where the processor can."""
        if not FMA:
            return self.b.fadd(self.b.fmul(x, y), z)
        name = f"llvm.fma.v{self.lanes}f{8 * self.itemsize}"
        return self.b.call(cgutils.get_or_insert_function(self.b.module, ir.FunctionType(self.type, [self.type] * 3), name), [x, y, z])

    def mask(self, n):
        """Which lanes are before lane n."""
        count = ir.VectorType(I32, self.lanes)
        one = self.b.insert_element(ir.Constant(count, ir.Undefined), self.b.trunc(n, I32), ir.Constant(I32, 0))
        limit = self.b.shuffle_vector(one, one, ir.Constant(count, [0] * self.lanes))
        return self.b.icmp_signed("<", ir.Constant(count, list(range(self.lanes))), limit)

    def _masked(self, what, kind, arguments):
        name = f"llvm.masked.{what}.v{self.lanes}f{8 * self.itemsize}.p0"
        function = ir.FunctionType(kind, [argument.type for argument in arguments])
        return self.b.call(cgutils.get_or_insert_function(self.b.module, function, name), arguments)

    def load(self, pointer, mask=None):
        """A whole vector, or the lanes of a mask and zeros."""
        place = self.b.bitcast(pointer, self.type.as_pointer())
        if mask is not None:
            return self._masked("load", self.type, [place, ir.Constant(I32, self.itemsize), mask, self.zero])
        value = self.b.load(place)
        value.align = self.itemsize
        return value

    def store(self, value, pointer, mask=None, stream=False):
        place = self.b.bitcast(pointer, self.type.as_pointer())
        if mask is not None:
            self._masked("store", ir.VoidType(), [value, place, ir.Constant(I32, self.itemsize), mask])
            return
        instruction = self.b.store(value, place)
        instruction.align = VECTOR_BYTES if stream else self.itemsize
        if stream:
            instruction.set_metadata("nontemporal", self.b.module.add_metadata([ir.Constant(I32, 1)]))

    def widened(self, value):
        return value if self.scalar == DOUBLE else self.b.fpext(value, ir.VectorType(DOUBLE, self.lanes))

    def narrowed(self, value):
        return value if self.scalar == DOUBLE else self.b.fptrunc(value, self.type)


def _steps(builder, begin, end, width):
    return cgutils.for_range_slice(builder, begin, end, _const(width), I64)


def _whole(builder, n, width):
    """The largest multiple of width up to n."""
    return builder.and_(n, _const(-width))


# ---------------------------------------------------------------- elementwise
def _emit_each(builder, scalar, sources, target, n, formula, stream=None, uniform=()):
    """target[i] = formula(lanes, sources' values at i, uniform values) for i < n. sources, target: pointers; uniform: scalars to splat.

    stream: whether to store past the caches, a value of the running kernel; None for never.
    """
    lanes = VECTOR_BYTES // (8 if scalar == DOUBLE else 4)
    v, one = Lanes(builder, scalar, lanes), Lanes(builder, scalar, 1)
    splat = {w.lanes: [w.splat(u) for u in uniform] for w in (v, one)}

    def at(w, i, mask=None, past=False):
        values = [w.load(builder.gep(source, [i]), mask) for source in sources]
        w.store(formula(w, values, splat[w.lanes]), builder.gep(target, [i]), mask, past)

    def some(begin, end):
        """Fewer than a vector's elements."""
        if MASKS:
            with builder.if_then(builder.icmp_signed("<", begin, end)):
                at(v, begin, v.mask(builder.sub(end, begin)))
        else:
            with _steps(builder, begin, end, 1) as (i, _):
                at(one, i)

    address = builder.ptrtoint(target, I64)
    before = builder.lshr(builder.and_(builder.sub(_const(0), address), _const(VECTOR_BYTES - 1)), _const(2 if v.itemsize == 4 else 3))
    head = builder.select(builder.icmp_signed("<", n, _const(ALIGNED_FROM * lanes)), _const(0), before)
    some(_const(0), head)
    stop = builder.add(head, _whole(builder, builder.sub(n, head), lanes))
    if stream is None:
        with _steps(builder, head, stop, lanes) as (i, _):
            at(v, i)
    else:
        past = builder.and_(stream, builder.icmp_signed(">=", n, _const(ALIGNED_FROM * lanes)))
        with builder.if_else(past) as (yes, no):
            with yes, _steps(builder, head, stop, lanes) as (i, _):
                at(v, i, past=True)
            with no, _steps(builder, head, stop, lanes) as (i, _):
                at(v, i)
    some(stop, n)


# ---------------------------------------------------------------- sums
def _combined(w, a, b, period):
    """Vectors whose element i belongs to sum i % period of their own: one whose element i belongs to sum i % (2 * period) of both."""
    half = max(8 if w.itemsize == 4 else 4, 4 * period) // 4          # of 128 bits, where shuffles are cheapest
    patterns = []
    for first in (0, half):
        groups = [[base + i for base in range(block + first + g, block + first + g + period)[:1] for i in range(period)]
                  for block in range(0, w.lanes, 2 * half) for g in range(0, half, period)]
        patterns.append([i for group in groups for i in (*group, *(w.lanes + j for j in group))])
    low, high = (w.b.shuffle_vector(a, b, ir.Constant(ir.VectorType(I32, w.lanes), pattern)) for pattern in patterns)
    return w.b.fadd(low, high)


def _reduced(w, vectors):
    """The sum over the lanes of each vector, as scalars."""
    period = 1
    while len(vectors) > 1 and 2 * period <= w.lanes:
        vectors = [_combined(w, a, b, period) for a, b in zip(vectors[::2], vectors[1::2])]
        period *= 2
    found = []
    for total in vectors:
        step = period
        while step < w.lanes:
            turned = w.b.shuffle_vector(total, total, ir.Constant(ir.VectorType(I32, w.lanes), [i ^ step for i in range(w.lanes)]))
            total, step = w.b.fadd(total, turned), 2 * step
        found += [w.b.extract_element(total, ir.Constant(I32, i)) for i in range(period)]
    return found


def _emit_sums(builder, scalar, sources, n, formula, uniform, count, early=True):
    """`count` (2 or 4) sums over i < n, in float64, of what formula(lanes, values at i, uniform values, valid) returns: an (a, b or None)
    each, for the term a * b or a. Behind the last element stand zeros; valid(a) makes an a zero there.

    float32 is summed in chains of CHAIN vectors, and these in float64. early: whether lines are asked for AHEAD of their turn.
    """
    v, one = Lanes(builder, scalar, VECTOR_BYTES // (8 if scalar == DOUBLE else 4)), Lanes(builder, scalar, 1)
    wide = Lanes(builder, DOUBLE, WIDE)
    splat = {w.lanes: [w.splat(u) for u in uniform] for w in (v, one)}
    block = _const(2 ** 62 if scalar == DOUBLE else SETS * CHAIN * v.lanes)
    # Of short segments its own lines, for the processor does well by itself there (and worse with advice).
    ahead = builder.select(builder.icmp_signed(">=", n, _const(8 * v.lanes)), _const(AHEAD // v.itemsize), _const(0))
    totals = [cgutils.alloca_once_value(builder, wide.zero) for _ in range(count)]
    lone = [cgutils.alloca_once_value(builder, ir.Constant(DOUBLE, 0.0)) for _ in range(count)]
    sets = [[cgutils.alloca_once_value(builder, v.zero) for _ in range(count)] for _ in range(SETS)]
    results = [cgutils.alloca_once_value(builder, ir.Constant(DOUBLE, 0.0)) for _ in range(count)]

    def terms(i, w, mask=None):
        def valid(a):
            return a if mask is None else builder.select(mask, a, w.zero)

        return formula(w, [w.load(builder.gep(source, [i]), mask) for source in sources], splat[w.lanes], valid)

    def add(j, i, mask=None):
        for (a, b), place in zip(terms(i, v, mask), sets[j]):
            old = builder.load(place)
            builder.store(builder.fadd(old, a) if b is None else v.fma(a, b, old), place)

    def chains(begin, end):
        """The sums over begin <= i < end, a vector each, and the elements of a part of a vector in `lone`."""
        for chain in sets:
            for place in chain:
                builder.store(v.zero, place)
        main = builder.add(begin, _whole(builder, builder.sub(end, begin), SETS * v.lanes))
        with _steps(builder, begin, main, SETS * v.lanes) as (i, _):
            for j in range(SETS):
                if early and j * VECTOR_BYTES % LINE_BYTES == 0:
                    for source in sources[:2]:       # a third would be parameters, which stay near
                        _emit_prefetch(builder, builder.gep(source, [builder.add(i, builder.add(ahead, _const(j * v.lanes)))]))
                add(j, builder.add(i, _const(j * v.lanes)))
        stop = builder.add(begin, _whole(builder, builder.sub(end, begin), v.lanes))
        with _steps(builder, main, stop, v.lanes) as (i, _):
            add(0, i)
        if MASKS:
            with builder.if_then(builder.icmp_signed("<", stop, end)):
                add(1, stop, v.mask(builder.sub(end, stop)))
        else:
            with _steps(builder, stop, end, 1) as (i, _):
                for (a, b), place in zip(terms(i, one), lone):
                    term = builder.extract_element(a if b is None else builder.fmul(a, b), ir.Constant(I32, 0))
                    builder.store(builder.fadd(builder.load(place), term if scalar == DOUBLE else builder.fpext(term, DOUBLE)), place)
        found = [[builder.load(place) for place in chain] for chain in sets]
        while len(found) > 1:
            found = [[builder.fadd(x, y) for x, y in zip(a, b)] for a, b in zip(found[::2], found[1::2])]
        return found[0]

    def finish(w, vectors):
        for total, place, part in zip(_reduced(w, vectors), results, lone):
            total = total if w.scalar == DOUBLE else builder.fpext(total, DOUBLE)
            builder.store(total if MASKS else builder.fadd(total, builder.load(part)), place)

    with builder.if_else(builder.icmp_signed("<=", n, block)) as (short, long):
        with short:
            finish(v, chains(_const(0), n))
        with long:
            if scalar != DOUBLE:
                with cgutils.for_range_slice(builder, _const(0), n, block, I64) as (begin, _):
                    end = builder.add(begin, block)
                    end = builder.select(builder.icmp_signed("<", end, n), end, n)
                    for vector, place in zip(chains(begin, end), totals):
                        for half in (0, WIDE):
                            part = builder.shuffle_vector(vector, vector, ir.Constant(ir.VectorType(I32, WIDE), list(range(half, half + WIDE))))
                            builder.store(builder.fadd(builder.load(place), builder.fpext(part, wide.type)), place)
                finish(wide, [builder.load(place) for place in totals])
    return [builder.load(place) for place in results]


def _floats(count):
    return types.UniTuple(types.float64, count)


def _rounded(builder, scalar, values):
    return values if scalar == DOUBLE else [builder.fptrunc(value, scalar) for value in values]


def _in_range(n, total, square, product=0.0):
    """Whether no product left the range of float32 on the way to these sums over n of them; nothing but zeros is in it."""
    return (n * SMALL < square < LARGE or total == square == 0) and abs(product) < LARGE


def _emit_in_range(builder, n, total, square, product=None):
    def below(a, b):
        return builder.fcmp_ordered("<", a, b)

    def constant(x):
        return ir.Constant(DOUBLE, x)

    zero = builder.and_(builder.fcmp_ordered("==", total, constant(0.0)), builder.fcmp_ordered("==", square, constant(0.0)))
    least = builder.fmul(builder.sitofp(n, DOUBLE), constant(SMALL))
    fits = builder.or_(zero, builder.and_(below(least, square), below(square, constant(LARGE))))
    if product is not None:
        fits = builder.and_(fits, builder.and_(below(constant(-LARGE), product), below(product, constant(LARGE))))
    return fits


def _segment_moments(x, at, n, row, count, f, shift, step, to, apart):
    """Of each segment x[at + i * row:][:n], i < count: the sums of d and d * d, d = x - f[shift + i * step], at f[to + i] and f[to + apart + i].

    The shift is rounded to the dtype of x. Returns whether all is well: in float32 squares may leave its range.
    """
    kind, well = x.dtype.type, True
    for i in range(count):
        total = square = 0.0
        for j in range(at + i * row, at + i * row + n):
            d = float(x[j] - kind(f[shift + i * step]))
            total += d
            square += d * d
        f[to + i], f[to + apart + i] = total, square
        well = well and (x.itemsize == 8 or _in_range(n, total, square))
    return well


def _emit_segment_sums(context, builder, sig, args, arrays, formula, sums):
    """arrays: of the arguments, how many come first. The others as for `_segment_moments`, with `arrays` shifts."""
    scalar = context.get_value_type(sig.args[0].dtype)
    at, n, row, count, f = args[arrays:arrays + 5]
    shifts, (step, to, apart) = args[arrays + 5:2 * arrays + 5], args[2 * arrays + 5:]
    sources = [_pointer(context, builder, sig.args[i], args[i], at) for i in range(arrays)]
    shifts = [_pointer(context, builder, sig.args[arrays + 4], f, shift) for shift in shifts]
    target = _pointer(context, builder, sig.args[arrays + 4], f, to)
    well = cgutils.alloca_once_value(builder, ir.Constant(ir.IntType(1), 1))
    with cgutils.for_range(builder, count) as loop:
        here = [builder.gep(source, [builder.mul(loop.index, row)]) for source in sources]
        uniform = _rounded(builder, scalar, [builder.load(builder.gep(shift, [builder.mul(loop.index, step)])) for shift in shifts])
        found = _emit_sums(builder, scalar, here, n, formula, uniform, sums, early=arrays == 1)     # two streams do better without
        for k, value in enumerate(found):
            builder.store(value, builder.gep(target, [builder.add(builder.mul(_const(k), apart), loop.index)]))
        if scalar != DOUBLE:
            fits = _emit_in_range(builder, n, found[0], found[1], found[3] if sums == 4 else None)
            builder.store(builder.and_(builder.load(well), fits), well)
    return builder.load(well)


def _segment_moments_intrinsic(typingctx, x, at, n, row, count, f, shift, step, to, apart):
    def formula(w, values, uniform, valid):
        d = valid(w.b.fsub(values[0], uniform[0]))
        return (d, None), (d, d)

    def codegen(context, builder, sig, args):
        return _emit_segment_sums(context, builder, sig, args, 1, formula, 2)

    i = types.int64
    return types.boolean(x, i, i, i, i, f, i, i, i, i), codegen


def _segment_gradient_sums(x, dout, at, n, row, count, f, shift, dout_shift, step, to, apart):
    """As `segment_moments`, the sums of d, d * d, e and e * d (at f[to + k * apart + i]), e = dout - f[dout_shift + i * step]."""
    kind, well = x.dtype.type, True
    for i in range(count):
        total = square = gradient = product = 0.0
        for j in range(at + i * row, at + i * row + n):
            d, e = float(x[j] - kind(f[shift + i * step])), float(dout[j] - kind(f[dout_shift + i * step]))
            total += d
            square += d * d
            gradient += e
            product += e * d
        for k, value in enumerate((total, square, gradient, product)):
            f[to + k * apart + i] = value
        well = well and (x.itemsize == 8 or _in_range(n, total, square, product))
    return well


def _segment_gradient_sums_intrinsic(typingctx, x, dout, at, n, row, count, f, shift, dout_shift, step, to, apart):
    def formula(w, values, uniform, valid):
        d, e = (valid(w.b.fsub(value, shift)) for value, shift in zip(values, uniform))
        return (d, None), (d, d), (e, None), (e, d)

    def codegen(context, builder, sig, args):
        return _emit_segment_sums(context, builder, sig, args, 2, formula, 4)

    i = types.int64
    return types.boolean(x, dout, i, i, i, i, f, i, i, i, i, i), codegen


def _scale_segment(x, y, at, n, row, count, f, known, step, stream):
    """y = (x - center) * scale + shift of each segment at + i * row .. + n, i < count: center, scale, shift are three numbers from
    f[known + i * step] on, rounded to the dtype of x first."""
    kind = x.dtype.type
    for i in range(count):
        center, scale, shift = (kind(f[known + i * step + k]) for k in range(3))
        for j in range(at + i * row, at + i * row + n):
            y[j] = (x[j] - center) * scale + shift


def _emit_each_segment(context, builder, sig, args, arrays, formula, count_known):
    """arrays: how many arguments are arrays, the last of them the target. The others as for `_scale_segment`."""
    scalar = context.get_value_type(sig.args[0].dtype)
    at, n, row, count, f, known, step, stream = args[arrays:]
    places = [_pointer(context, builder, sig.args[i], args[i], at) for i in range(arrays)]
    known, stream = _pointer(context, builder, sig.args[arrays + 4], f, known), builder.icmp_signed("!=", stream, _const(0))
    with cgutils.for_range(builder, count) as loop:
        here, line = builder.mul(loop.index, row), builder.gep(known, [builder.mul(loop.index, step)])
        *sources, target = [builder.gep(place, [here]) for place in places]
        uniform = _rounded(builder, scalar, [builder.load(builder.gep(line, [_const(k)])) for k in range(count_known)])
        _emit_each(builder, scalar, sources, target, n, formula, stream, uniform)
    return context.get_dummy_value()


def _scale_segment_intrinsic(typingctx, x, y, at, n, row, count, f, known, step, stream):
    def formula(w, values, uniform):
        center, scale, shift = uniform
        return w.fma(w.b.fsub(values[0], center), scale, shift)

    def codegen(context, builder, sig, args):
        return _emit_each_segment(context, builder, sig, args, 2, formula, 3)

    i = types.int64
    return types.void(x, y, i, i, i, i, f, i, i, i), codegen


def _gradient_segment(x, dout, dx, at, n, row, count, f, known, step, stream):
    """dx = (a * (dout - dout_center) + (b * (x - center) + d)) * invstd, as `scale_segment` with the six numbers center, dout_center, a, b, d,
    invstd: apart, for the square of invstd may leave the range of float32."""
    kind = x.dtype.type
    for i in range(count):
        center, dout_center, a, b, d, invstd = (kind(f[known + i * step + k]) for k in range(6))
        for j in range(at + i * row, at + i * row + n):
            dx[j] = (a * (dout[j] - dout_center) + (b * (x[j] - center) + d)) * invstd


def _gradient_segment_intrinsic(typingctx, x, dout, dx, at, n, row, count, f, known, step, stream):
    def formula(w, values, uniform):
        center, dout_center, a, b, d, invstd = uniform
        return w.b.fmul(w.fma(a, w.b.fsub(values[1], dout_center), w.fma(b, w.b.fsub(values[0], center), d)), invstd)

    def codegen(context, builder, sig, args):
        return _emit_each_segment(context, builder, sig, args, 3, formula, 6)

    i = types.int64
    return types.void(x, dout, dx, i, i, i, i, f, i, i, i), codegen


# ---------------------------------------------------------------- rows with parameters of their own for each column
def _row_gradient_sums(x, dout, at, n, weight, to, shift):
    """The sums over i < n of d, d * d, e and e * d, d = x[at + i] - shift, e = dout[at + i] * weight[to + i]. shift: float64, rounded first."""
    kind = x.dtype.type
    total = square = gradient = product = 0.0
    for i in range(n):
        d, e = float(x[at + i] - kind(shift)), float(dout[at + i] * weight[to + i])
        total += d
        square += d * d
        gradient += e
        product += e * d
    return total, square, gradient, product


def _row_gradient_sums_intrinsic(typingctx, x, dout, at, n, weight, to, shift):
    def formula(w, values, uniform, valid):
        d, e = valid(w.b.fsub(values[0], uniform[0])), w.b.fmul(values[1], values[2])
        return (d, None), (d, d), (e, None), (e, d)

    def codegen(context, builder, sig, args):
        scalar = context.get_value_type(sig.args[0].dtype)
        sources = [_pointer(context, builder, sig.args[i], args[i], args[j]) for i, j in ((0, 2), (1, 2), (4, 5))]
        return context.make_tuple(builder, sig.return_type,
                                  _emit_sums(builder, scalar, sources, args[3], formula, _rounded(builder, scalar, [args[6]]), 4))

    i = types.int64
    return _floats(4)(x, dout, i, i, weight, i, types.float64), codegen


# ---------------------------------------------------------------- down the columns of a matrix
def _emit_prefetch(builder, pointer):
    """Have the line of this address brought to the second level; it may lie behind the array."""
    byte = ir.IntType(8).as_pointer()
    function = ir.FunctionType(ir.VoidType(), [byte, I32, I32, I32])
    arguments = [builder.bitcast(pointer, byte), *(ir.Constant(I32, value) for value in (0, 2, 1))]     # to read, not in the first level, data
    builder.call(cgutils.get_or_insert_function(builder.module, function, "llvm.prefetch.p0"), arguments)


def _emit_columns(builder, scalar, n, body, head=None, stream=None, abreast=ABREAST):
    """body(lanes, columns, mask) for all columns below n: several vectors of them at a time, one, and what is left; mask: of a part of one.

    head: so many columns first. stream: whether those that come several vectors at a time are stored past the caches, body(..., past=True).
    """
    v, one = Lanes(builder, scalar, VECTOR_BYTES // (8 if scalar == DOUBLE else 4)), Lanes(builder, scalar, 1)

    def some(begin, end):
        """Fewer than a vector's columns."""
        if MASKS:
            with builder.if_then(builder.icmp_signed("<", begin, end)):
                body(v, [begin], v.mask(builder.sub(end, begin)))
        else:
            with _steps(builder, begin, end, 1) as (j, _):
                body(one, [j], None)

    def several(**past):
        with _steps(builder, head, group, abreast * v.lanes) as (j, _):
            body(v, [builder.add(j, _const(k * v.lanes)) for k in range(abreast)], None, **past)

    if head is None:
        head = _const(0)
    else:
        some(_const(0), head)
    rest = builder.sub(n, head)
    group, stop = (builder.add(head, _whole(builder, rest, width)) for width in (abreast * v.lanes, v.lanes))
    if stream is None:
        several()
    else:
        with builder.if_else(stream) as (yes, no):
            with yes:
                several(past=True)
            with no:
                several()
    with _steps(builder, group, stop, v.lanes) as (j, _):
        body(v, [j], None)
    some(stop, n)


class _ColumnSums:
    """Sums of columns in registers, over a few rows, which are then added in float64 to those in memory: places[k] + column."""

    def __init__(self, w, columns, places):
        self.w, self.b, self.columns, self.places = w, w.b, columns, places
        self.sums = [[cgutils.alloca_once(w.b, w.type) for _ in places] for _ in columns]
        for place in (place for line in self.sums for place in line):
            w.b.store(w.zero, place)

    def add(self, column, terms):
        for (a, b), place in zip(terms, self.sums[column]):
            old = self.b.load(place)
            self.b.store(self.b.fadd(old, a) if b is None else self.w.fma(a, b, old), place)

    def flush(self):
        lanes = min(self.w.lanes, WIDE)
        wide = Lanes(self.b, DOUBLE, lanes)
        for column, line in zip(self.columns, self.sums):
            for place, memory in zip(line, self.places):
                value = self.b.load(place)
                for first in range(0, self.w.lanes, lanes):
                    to = self.b.gep(memory, [self.b.add(column, _const(first))])
                    part = self.b.shuffle_vector(value, value, ir.Constant(ir.VectorType(I32, lanes), list(range(first, first + lanes))))
                    part = part if self.w.scalar == DOUBLE else self.b.fpext(part, wide.type)
                    wide.store(self.b.fadd(wide.load(to), part), to)


def _column_moments(x, at, row, rows, n, shifts, sums, to, step):
    """Add to sums[to + j] and sums[to + step + j] the sums over r < rows of d and d * d, d = x[at + r * row + j] - shifts[j], for j < n.

    sums: float64, with room for whole vectors. rows: so few that their sums may stay in the dtype of x."""
    for j in range(n):
        for r in range(rows):
            d = float(x[at + r * row + j] - shifts[j])
            sums[to + j] += d
            sums[to + step + j] += d * d


def _column_moments_intrinsic(typingctx, x, at, row, rows, n, shifts, sums, to, step):
    def codegen(context, builder, sig, args):
        scalar = context.get_value_type(sig.args[0].dtype)
        x, shifts, sums = (_pointer(context, builder, sig.args[i], args[i], j) for i, j in ((0, args[1]), (5, _const(0)), (6, args[7])))

        def body(w, columns, mask):
            found = _ColumnSums(w, columns, [sums, builder.gep(sums, [args[8]])])
            shift, ahead = [w.load(builder.gep(shifts, [j]), mask) for j in columns], builder.mul(args[2], args[3])
            with cgutils.for_range(builder, args[3]) as loop:
                line = builder.gep(x, [builder.mul(loop.index, args[2])])
                for k, j in enumerate(columns):
                    _emit_prefetch(builder, builder.gep(line, [builder.add(ahead, j)]))
                    d = builder.fsub(w.load(builder.gep(line, [j]), mask), shift[k])
                    found.add(k, [(d, None), (d, d)])
            found.flush()

        _emit_columns(builder, scalar, args[4], body)
        return context.get_dummy_value()

    i = types.int64
    return types.void(x, i, i, i, i, shifts, sums, i, i), codegen


def _column_gradient_sums(x, dout, at, row, rows, n, shifts, dout_shift, sums, to, step):
    """Add to sums[to + k * step + j] the sums over r < rows of d, d * d, e and e * d (k = 0 .. 3), for j < n.

    d = x[at + r * row + j] - shifts[j], e = dout[at + r * row + j] - shifts[dout_shift + j]. The rest as for `column_moments`.
    """
    for j in range(n):
        for r in range(rows):
            d, e = float(x[at + r * row + j] - shifts[j]), float(dout[at + r * row + j] - shifts[dout_shift + j])
            for k, term in enumerate((d, d * d, e, e * d)):
                sums[to + k * step + j] += term


def _column_gradient_sums_intrinsic(typingctx, x, dout, at, row, rows, n, shifts, dout_shift, sums, to, step):
    def codegen(context, builder, sig, args):
        scalar = context.get_value_type(sig.args[0].dtype)
        sources = [_pointer(context, builder, sig.args[i], args[i], args[2]) for i in (0, 1)]
        shifts = [_pointer(context, builder, sig.args[6], args[6], at) for at in (_const(0), args[7])]
        sums = _pointer(context, builder, sig.args[8], args[8], args[9])

        def body(w, columns, mask):
            found = _ColumnSums(w, columns, [builder.gep(sums, [builder.mul(_const(k), args[10])]) for k in range(4)])
            shift, ahead = [[w.load(builder.gep(place, [j]), mask) for place in shifts] for j in columns], builder.mul(args[3], args[4])
            with cgutils.for_range(builder, args[4]) as loop:
                lines = [builder.gep(source, [builder.mul(loop.index, args[3])]) for source in sources]
                for k, j in enumerate(columns):
                    for line in lines:
                        _emit_prefetch(builder, builder.gep(line, [builder.add(ahead, j)]))
                    d, e = (builder.fsub(w.load(builder.gep(line, [j]), mask), s) for line, s in zip(lines, shift[k]))
                    found.add(k, [(d, None), (d, d), (e, None), (e, d)])
            found.flush()

        _emit_columns(builder, scalar, args[5], body)
        return context.get_dummy_value()

    i = types.int64
    return types.void(x, dout, i, i, i, i, shifts, i, sums, i, i), codegen


def _scale_columns(x, y, at, row, rows, n, coefficients, step, stream):
    """y = (x - center) * scale + shift at each at + r * row + j, r < rows, j < n: center, scale, shift of column j are
    coefficients[k * step + j], k = 0, 1, 2."""
    for r in range(rows):
        for j in range(n):
            center, scale, shift = coefficients[j], coefficients[step + j], coefficients[2 * step + j]
            y[at + r * row + j] = (x[at + r * row + j] - center) * scale + shift


def _emit_block(builder, scalar, sources, target, row, rows, n, stream, prepare, uniform, formula, abreast=ABREAST):
    """target = formula(lanes, prepared, k, uniform, values, mask) at each r * row + j, r < rows, j < n, down a few vectors of columns at a time.

    prepare(lanes, columns, mask): what these columns need in registers, of which k is one; its `flush`, if it has one, is called behind the last
    row. uniform(lanes, r): what a row needs. The next block is asked for meanwhile: it lies right behind. Stores are to whole lines where all
    rows allow it (one row does), and with `stream` then past the caches.
    """
    lanes = VECTOR_BYTES // (8 if scalar == DOUBLE else 4)
    itemsize, ahead = VECTOR_BYTES // lanes, builder.mul(row, rows)
    alike = builder.or_(builder.icmp_signed("==", rows, _const(1)), builder.icmp_signed("==", builder.and_(row, _const(lanes - 1)), _const(0)))
    aligned = builder.and_(alike, builder.icmp_signed(">=", n, _const(ALIGNED_FROM * lanes)))
    before = builder.and_(builder.sub(_const(0), builder.ptrtoint(target, I64)), _const(VECTOR_BYTES - 1))
    head = builder.select(aligned, builder.udiv(before, _const(itemsize)), _const(0))

    def body(w, columns, mask, past=False):
        prepared = prepare(w, columns, mask)
        with cgutils.for_range(builder, rows) as loop:
            down, known = builder.mul(loop.index, row), uniform(w, loop.index)
            for k, j in enumerate(columns):
                place = builder.add(down, j)
                if w.lanes == lanes and k * VECTOR_BYTES % LINE_BYTES == 0:
                    for line in sources if past else [*sources, target]:
                        _emit_prefetch(builder, builder.gep(line, [builder.add(place, ahead)]))
                values = [w.load(builder.gep(source, [place]), mask) for source in sources]
                w.store(formula(w, prepared, k, known, values, mask), builder.gep(target, [place]), mask, past)
        if hasattr(prepared, "flush"):
            prepared.flush()

    _emit_columns(builder, scalar, n, body, head, builder.and_(stream, aligned), abreast)


def _no_uniform(w, r):
    return ()


def _coefficients(pointer, step, count):
    """What `prepare` of a block loads of each column: `count` numbers, step apart."""
    def prepare(w, columns, mask):
        lines = [w.b.gep(pointer, [w.b.mul(_const(k), step)]) for k in range(count)]
        return [[w.load(w.b.gep(line, [j]), mask) for line in lines] for j in columns]

    return prepare


def _scale_columns_intrinsic(typingctx, x, y, at, row, rows, n, coefficients, step, stream):
    def formula(w, prepared, k, uniform, values, mask):
        center, scale, shift = prepared[k]
        return w.fma(w.b.fsub(values[0], center), scale, shift)

    def codegen(context, builder, sig, args):
        scalar = context.get_value_type(sig.args[0].dtype)
        source, target = (_pointer(context, builder, sig.args[i], args[i], args[2]) for i in (0, 1))
        known = _pointer(context, builder, sig.args[6], args[6], _const(0))
        _emit_block(builder, scalar, [source], target, *args[3:6], builder.icmp_signed("!=", args[8], _const(0)),
                    _coefficients(known, args[7], 3), _no_uniform, formula)
        return context.get_dummy_value()

    i = types.int64
    return types.void(x, y, i, i, i, i, coefficients, i, i), codegen


def _gradient_columns(x, dout, dx, at, row, rows, n, coefficients, step, stream):
    """dx = (a * (dout - dout_center) + (b * (x - center) + d)) * invstd at each at + r * row + j: center, dout_center, a, b, d, invstd of
    column j are coefficients[k * step + j], k = 0 .. 5."""
    for r in range(rows):
        for j in range(n):
            center, dout_center, a, b, d, invstd = (coefficients[k * step + j] for k in range(6))
            i = at + r * row + j
            dx[i] = (a * (dout[i] - dout_center) + (b * (x[i] - center) + d)) * invstd


def _gradient_columns_intrinsic(typingctx, x, dout, dx, at, row, rows, n, coefficients, step, stream):
    def formula(w, prepared, k, uniform, values, mask):
        center, dout_center, a, b, d, invstd = prepared[k]
        x, dout = values
        return w.b.fmul(w.fma(a, w.b.fsub(dout, dout_center), w.fma(b, w.b.fsub(x, center), d)), invstd)

    def codegen(context, builder, sig, args):
        scalar = context.get_value_type(sig.args[0].dtype)
        x, dout, dx = (_pointer(context, builder, sig.args[i], args[i], args[3]) for i in (0, 1, 2))
        known = _pointer(context, builder, sig.args[7], args[7], _const(0))
        _emit_block(builder, scalar, [x, dout], dx, *args[4:7], builder.icmp_signed("!=", args[9], _const(0)),
                    _coefficients(known, args[8], 6), _no_uniform, formula)
        return context.get_dummy_value()

    i = types.int64
    return types.void(x, dout, dx, i, i, i, i, coefficients, i, i), codegen


def _scale_rows(x, y, at, row, rows, n, weight, bias, to, known, known_at, stream):
    """y = ((x - center) * invstd + rest) * weight[to + j] + bias[to + j] at each at + r * row + j, r < rows, j < n.

    center, rest, invstd of row r: known[known_at + 5 * r + k], float64, rounded first.
    """
    kind = x.dtype.type
    for r in range(rows):
        center, rest, invstd = (kind(known[known_at + 5 * r + k]) for k in range(3))
        for j in range(n):
            i = at + r * row + j
            y[i] = ((x[i] - center) * invstd + rest) * weight[to + j] + bias[to + j]


def _scale_rows_intrinsic(typingctx, x, y, at, row, rows, n, weight, bias, to, known, known_at, stream):
    def codegen(context, builder, sig, args):
        scalar = context.get_value_type(sig.args[0].dtype)
        source, target = (_pointer(context, builder, sig.args[i], args[i], args[2]) for i in (0, 1))
        parameters = [_pointer(context, builder, sig.args[i], args[i], args[8]) for i in (6, 7)]
        known = _pointer(context, builder, sig.args[9], args[9], args[10])

        def prepare(w, columns, mask):
            return [[w.load(builder.gep(parameter, [j]), mask) for parameter in parameters] for j in columns]

        def formula(w, prepared, k, uniform, values, mask):
            center, rest, invstd = uniform
            weight, bias = prepared[k]
            return w.fma(w.fma(builder.fsub(values[0], center), invstd, rest), weight, bias)

        _emit_block(builder, scalar, [source], target, *args[3:6], builder.icmp_signed("!=", args[11], _const(0)), prepare,
                    _known_rows(builder, scalar, known, 3), formula, 2 * ABREAST)
        return context.get_dummy_value()

    i = types.int64
    return types.void(x, y, i, i, i, i, weight, bias, i, known, i, i), codegen


def _gradient_rows(x, dout, dx, at, row, rows, n, weight, to, known, known_at, sums, sums_at, step, stream):
    """The gradient of a few rows to x, and what they add to those of weight and bias: sums[sums_at + j] and sums[sums_at + step + j].

        xhat = (x - center) * invstd + rest;  dx = (dout * weight[to + j] - dout_mean - xhat * slope) * invstd
        sums of dout * xhat and of dout

    center, rest, invstd, dout_mean, slope of row r: known[known_at + 5 * r + k], float64, rounded first. sums: as for `column_moments`.
    """
    kind = x.dtype.type
    for r in range(rows):
        center, rest, invstd, dout_mean, slope = (kind(known[known_at + 5 * r + k]) for k in range(5))
        for j in range(n):
            i = at + r * row + j
            xhat = (x[i] - center) * invstd + rest
            dx[i] = (dout[i] * weight[to + j] - dout_mean - xhat * slope) * invstd
            sums[sums_at + j] += dout[i] * xhat
            sums[sums_at + step + j] += dout[i]


def _known_rows(builder, scalar, pointer, count):
    """What `uniform` of a block loads of each row: `count` numbers of 5, rounded to the dtype of x."""
    def uniform(w, r):
        first = builder.mul(r, _const(5))
        return [w.splat(u) for u in _rounded(builder, scalar, [builder.load(builder.gep(pointer, [builder.add(first, _const(k))])) for k in range(count)])]

    return uniform


def _gradient_rows_intrinsic(typingctx, x, dout, dx, at, row, rows, n, weight, to, known, known_at, sums, sums_at, step, stream):
    def codegen(context, builder, sig, args):
        scalar = context.get_value_type(sig.args[0].dtype)
        x, dout, dx = (_pointer(context, builder, sig.args[i], args[i], args[3]) for i in (0, 1, 2))
        weights, known, sums = (_pointer(context, builder, sig.args[i], args[i], args[i + 1]) for i in (7, 9, 11))

        def prepare(w, columns, mask):
            found = _ColumnSums(w, columns, [sums, builder.gep(sums, [args[13]])])
            found.weights = [w.load(builder.gep(weights, [j]), mask) for j in columns]
            return found

        def formula(w, prepared, k, uniform, values, mask):
            center, rest, invstd, dout_mean, slope = uniform
            value, e = values
            xhat = w.fma(builder.fsub(value, center), invstd, rest)
            if mask is not None:             # 0 * NaN would reach the sums of the columns behind
                xhat = builder.select(mask, xhat, w.zero)
            prepared.add(k, [(e, xhat), (e, None)])
            g = builder.fsub(builder.fmul(e, prepared.weights[k]), dout_mean)
            return builder.fmul(builder.fsub(g, builder.fmul(xhat, slope)), invstd)

        _emit_block(builder, scalar, [x, dout], dx, *args[4:7], builder.icmp_signed("!=", args[14], _const(0)), prepare,
                    _known_rows(builder, scalar, known, 5), formula)
        return context.get_dummy_value()

    i = types.int64
    return types.void(x, dout, dx, i, i, i, i, weight, i, known, i, sums, i, i, i), codegen


def _settle(stream):
    """Where stores went past the caches: wait until every core sees them."""


def _settle_intrinsic(typingctx, stream):
    def codegen(context, builder, sig, args):
        with builder.if_then(builder.icmp_signed("!=", args[0], _const(0))):
            if X86:
                builder.call(cgutils.get_or_insert_function(builder.module, ir.FunctionType(ir.VoidType(), []), "llvm.x86.sse.sfence"), [])
            else:
                builder.fence("release")
        return context.get_dummy_value()

    return types.void(types.int64), codegen


segment_moments = either(_segment_moments, _segment_moments_intrinsic)
segment_gradient_sums = either(_segment_gradient_sums, _segment_gradient_sums_intrinsic)
scale_segment = either(_scale_segment, _scale_segment_intrinsic)
gradient_segment = either(_gradient_segment, _gradient_segment_intrinsic)
scale_rows = either(_scale_rows, _scale_rows_intrinsic)
row_gradient_sums = either(_row_gradient_sums, _row_gradient_sums_intrinsic)
column_moments = either(_column_moments, _column_moments_intrinsic)
column_gradient_sums = either(_column_gradient_sums, _column_gradient_sums_intrinsic)
scale_columns = either(_scale_columns, _scale_columns_intrinsic)
gradient_columns = either(_gradient_columns, _gradient_columns_intrinsic)
gradient_rows = either(_gradient_rows, _gradient_rows_intrinsic)
settle = either(_settle, _settle_intrinsic)
