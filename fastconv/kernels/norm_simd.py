"""The loops of normalisation, each with a plain-loop twin: sums in float64 and elementwise passes over runs of memory.

Sums widen every element to float64 and take it from a shift first, so that they are right for a mean of 1e6 and a deviation of 1 in
float32; several chains of vectors hide the latency, and their order depends on the length alone. An elementwise pass stores to whole
lines: it begins with the elements before the first one, and its long runs may go past the caches (`stream`) where the result will not
stay in them anyway.
"""
from __future__ import annotations

from contextlib import contextmanager

from llvmlite import ir
from numba import types
from numba.core import cgutils

from ..instruction_set import isa
from .simd import AHEAD_BYTES, ALL_LEVELS, I32, I64, LINE_BYTES, SECOND_LEVEL, _pointer, either, emit_choice
from .tiles import FMA, VECTOR_BYTES

MASKS = isa() == "avx512"                    # elsewhere the elements of a part of a vector are done one by one
DOUBLE = ir.DoubleType()
WIDE = VECTOR_BYTES // 8                     # float64 lanes of a vector
ALIGNED_FROM = 8                             # vectors of a run that is worth bringing to a line's start
SETS = 2 if VECTOR_BYTES == 64 else 4        # chains of a sum
CHAIN = 16                                   # float32 vectors of a chain, before it is added in float64
SIDE_BY_SIDE = 4                             # rows of a matrix whose columns are added at a time
PROBES = (8, 4, 2, 1)                        # values whose mean is a shift: as many of these as a run has
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
@contextmanager
def _swept(builder, begin, stop, width):
    with _steps(builder, begin, stop, width) as (i, _):
        yield i


def emit_run(builder, v, n, at, target=None, aligned=None, stream=None, sweep=None):
    """at(lanes, i, mask, past) for i < n, a vector at a time. target: what is stored to, or None; aligned: whether to begin with the elements before
    its first line, and, if `stream`, to store whole lines past the caches: values of the running kernel. sweep(begin, stop): the loop over
    i = begin, begin + lanes .. before stop, a context that yields i, if it is no plain one."""
    one = Lanes(builder, v.scalar, 1)

    def some(begin, end):
        """Fewer than a vector's elements."""
        if MASKS:
            with builder.if_then(builder.icmp_signed("<", begin, end)):
                at(v, begin, v.mask(builder.sub(end, begin)))
        else:
            with _steps(builder, begin, end, 1) as (i, _):
                at(one, i)

    head = _const(0)
    if target:
        before = builder.and_(builder.sub(_const(0), builder.ptrtoint(target, I64)), _const(VECTOR_BYTES - 1))
        head = builder.select(aligned, builder.lshr(before, _const(2 if v.itemsize == 4 else 3)), head)
        some(_const(0), head)
    sweep = sweep or (lambda begin, stop: _swept(builder, begin, stop, v.lanes))
    stop = builder.add(head, _whole(builder, builder.sub(n, head), v.lanes))
    if target:
        with builder.if_else(builder.and_(stream, aligned)) as (yes, no):
            with yes, sweep(head, stop) as i:
                at(v, i, past=True)
            with no, sweep(head, stop) as i:
                at(v, i)
    else:
        with sweep(head, stop) as i:
            at(v, i)
    some(stop, n)


def emit_shared_line(builder, pointer, stream):
    """Ask for the line of this address, to write, where stores go past the caches but for those to lines that two runs share: they wait for memory."""
    shared = builder.icmp_signed("!=", builder.and_(builder.ptrtoint(pointer, I64), _const(LINE_BYTES - 1)), _const(0))
    with builder.if_then(builder.and_(stream, shared)):
        emit_prefetch(builder, pointer, write=True)


def _emit_each(builder, scalar, sources, target, n, formula, stream, uniform, ahead):
    """target[i] = formula(lanes, sources' values at i, uniform values) for i < n. All are pointers; uniform: scalars to splat.

    stream: whether to store past the caches, a value of the running kernel; lines of the sources, `ahead` elements behind their own, are then asked
    for meanwhile.
    """
    lanes = VECTOR_BYTES // (8 if scalar == DOUBLE else 4)
    v, one = Lanes(builder, scalar, lanes), Lanes(builder, scalar, 1)
    splat = {w.lanes: [w.splat(u) for u in uniform] for w in (v, one)}
    long = builder.icmp_signed(">=", n, _const(ALIGNED_FROM * lanes))
    emit_shared_line(builder, builder.gep(target, [ahead]), builder.and_(stream, long))

    def at(w, i, mask=None, past=False):
        for source in sources if past else ():
            emit_prefetch(builder, builder.gep(source, [builder.add(i, ahead)]))
        values = [w.load(builder.gep(source, [i]), mask) for source in sources]
        w.store(formula(w, values, splat[w.lanes]), builder.gep(target, [i]), mask, past)

    emit_run(builder, v, n, at, target, long, stream)


# ---------------------------------------------------------------- shifts
def _shifts_of_first(x, at, row, n, count, f, to):
    """A shift for the sums of each run x[at + i * row:][:n], i < count, at f[to + i]: of the dtype of x and finite.

    It is 0, or the mean of the first values where it exceeds half their spread. A shift that is not needed would round every term, often the
    same way: of dout a small sum of many terms is wanted.
    """
    for i in range(count):
        first = x[at + i * row:at + i * row + next(probe for probe in PROBES if probe <= n)]
        mean, spread = first.sum() / x.dtype.type(first.size), first.max() - first.min()
        f[to + i] = mean if 2 * abs(mean) > spread and abs(mean) < float("inf") else 0.0


def _emit_shift(b, scalar, source, count):
    """The shift of a run whose first `count` values stand at source."""
    probe = count
    total = low = high = Lanes(b, scalar, probe).load(source)
    while probe > 1:
        probe //= 2
        (low, low_), (high, high_), (total, total_) = (
            [b.shuffle_vector(value, value, ir.Constant(ir.VectorType(I32, probe), list(range(i, i + probe)))) for i in (0, probe)]
            for value in (low, high, total))
        low, high = b.select(b.fcmp_ordered("<", low_, low), low_, low), b.select(b.fcmp_ordered(">", high_, high), high_, high)
        total = b.fadd(total, total_)
    low, high, total = (b.extract_element(value, ir.Constant(I32, 0)) for value in (low, high, total))
    mean, zero = b.fmul(total, ir.Constant(scalar, 1 / count)), ir.Constant(scalar, 0.0)
    size = b.select(b.fcmp_ordered("<", mean, zero), b.fsub(zero, mean), mean)
    useful = b.and_(b.fcmp_ordered(">", b.fadd(size, size), b.fsub(high, low)), b.fcmp_ordered("<", size, ir.Constant(scalar, float("inf"))))
    return b.select(useful, mean, zero)


def _shifts_of_first_intrinsic(typingctx, x, at, row, n, count, f, to):
    def codegen(context, builder, sig, args):
        b, scalar = builder, context.get_value_type(sig.args[0].dtype)
        source, n = _pointer(context, b, sig.args[0], *args[:2]), args[3]
        target = _pointer(context, b, sig.args[5], *args[5:])

        def probed(count):
            with cgutils.for_range(b, args[4]) as loop:
                shift = _emit_shift(b, scalar, b.gep(source, [b.mul(loop.index, args[2])]), count)
                b.store(shift if scalar == DOUBLE else b.fpext(shift, DOUBLE), b.gep(target, [loop.index]))

        emit_choice(b, PROBES, lambda probe: b.icmp_signed(">=", n, _const(probe)), probed)
        return context.get_dummy_value()

    i = types.int64
    return types.void(x, i, i, i, i, f, i), codegen


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


def _combined_all(w, vectors, period=1):
    """As few vectors as hold a sum of each of these, which have `period` each, in its lanes."""
    while len(vectors) > 1 and 2 * period <= w.lanes:
        vectors = [_combined(w, a, b, period) for a, b in zip(vectors[::2], vectors[1::2])]
        period *= 2
    return vectors


def _reduced(w, vectors, period=1):
    """The sum over the lanes of each vector, as scalars; of vectors that hold `period` sums each of those."""
    count = period * len(vectors)
    vectors = _combined_all(w, vectors, period)
    period, found = count // len(vectors), []
    for total in vectors:
        step = period
        while step < w.lanes:
            turned = w.b.shuffle_vector(total, total, ir.Constant(ir.VectorType(I32, w.lanes), [i ^ step for i in range(w.lanes)]))
            total, step = w.b.fadd(total, turned), 2 * step
        found += [w.b.extract_element(total, ir.Constant(I32, i)) for i in range(period)]
    return found


class _Chains:
    """`count` (1, 2 or 4) sums over i < n of what formula(lanes, values at i, uniform values, valid) returns: an (a, b or None) each, for the
    term a * b or a. Behind the last element stand zeros; valid(a) makes an a zero there.

    Lines of the first `asked` sources are asked for ahead of their turn.
    """

    def __init__(self, builder, scalar, n, formula, count, asked):
        self.b, self.scalar, self.n, self.formula, self.asked = builder, scalar, n, formula, asked
        self.v, self.one = Lanes(builder, scalar, VECTOR_BYTES // (8 if scalar == DOUBLE else 4)), Lanes(builder, scalar, 1)
        # Of short segments its own lines, for the processor does well by itself there (and worse with advice).
        self.ahead = builder.select(builder.icmp_signed(">=", n, _const(8 * self.v.lanes)), _const(AHEAD_BYTES // self.v.itemsize), _const(0))
        self.sets = [[cgutils.alloca_once(builder, self.v.type) for _ in range(count)] for _ in range(2 * SETS if count == 1 else SETS)]

    def vectors(self, sources, uniform, begin, end):
        """The sums over begin <= i < end, a vector each."""
        b, v, one = self.b, self.v, self.one
        splat = {w.lanes: [w.splat(u) for u in uniform] for w in (v, one)}

        def terms(i, w, mask=None):
            def valid(a):
                return a if mask is None else b.select(mask, a, w.zero)

            return self.formula(w, [w.load(b.gep(source, [i]), mask) for source in sources], splat[w.lanes], valid)

        def add(j, i, mask=None):
            for (x, y), place in zip(terms(i, v, mask), self.sets[j]):
                old = b.load(place)
                b.store(b.fadd(old, x) if y is None else v.fma(x, y, old), place)

        for place in (place for chain in self.sets for place in chain):
            b.store(v.zero, place)
        step = len(self.sets) * v.lanes
        main = b.add(begin, _whole(b, b.sub(end, begin), step))
        with _steps(b, begin, main, step) as (i, _):
            for j in range(len(self.sets)):
                if j * VECTOR_BYTES % LINE_BYTES == 0:
                    for source in sources[:self.asked]:
                        emit_prefetch(b, b.gep(source, [b.add(i, b.add(self.ahead, _const(j * v.lanes)))]))
                add(j, b.add(i, _const(j * v.lanes)))
        stop = b.add(begin, _whole(b, b.sub(end, begin), v.lanes))
        with _steps(b, main, stop, v.lanes) as (i, _):
            add(0, i)
        if MASKS:
            with b.if_then(b.icmp_signed("<", stop, end)):
                add(1, stop, v.mask(b.sub(end, stop)))
        else:
            with _steps(b, stop, end, 1) as (i, _):
                for (x, y), place in zip(terms(i, one), self.sets[1]):
                    term = b.extract_element(x if y is None else b.fmul(x, y), ir.Constant(I32, 0))
                    old, first = b.load(place), ir.Constant(I32, 0)
                    b.store(b.insert_element(old, b.fadd(b.extract_element(old, first), term), first), place)
        found = [[b.load(place) for place in chain] for chain in self.sets]
        while len(found) > 1:
            found = [[b.fadd(x, y) for x, y in zip(*pair)] for pair in zip(found[::2], found[1::2])]
        return found[0]


def _block_of(chains):
    """Elements whose sums stay in the dtype of x."""
    return _const(2 ** 62 if chains.scalar == DOUBLE else len(chains.sets) * CHAIN * chains.v.lanes)


def _emit_long_run(chains, sources, uniform, n, sums):
    """The sums of one run, as scalars: blocks of it are added in float64."""
    b, v, wide, block = chains.b, chains.v, Lanes(chains.b, DOUBLE, WIDE), _block_of(chains)
    totals = [cgutils.alloca_once(b, wide.type) for _ in range(sums)]
    for total in totals:
        b.store(wide.zero, total)
    with cgutils.for_range_slice(b, _const(0), n, block, I64) as (begin, _):
        end = b.add(begin, block)
        end = b.select(b.icmp_signed("<", end, n), end, n)
        for vector, total in zip(chains.vectors(sources, uniform, begin, end), totals):
            for half in range(0, v.lanes, WIDE):
                part = b.shuffle_vector(vector, vector, ir.Constant(ir.VectorType(I32, WIDE), list(range(half, half + WIDE))))
                b.store(b.fadd(b.load(total), part if chains.scalar == DOUBLE else b.fpext(part, wide.type)), total)
    return _reduced(wide, [b.load(total) for total in totals])


def _emit_runs(builder, scalar, sources, n, count, shifts, step, target, apart, formula, sums, asked=2):
    """`sums` (1, 2 or 4) sums of `_Chains` over each of `count` runs of n elements, in float64: sum k of run i to target[k * apart + i].

    sources: (pointer, elements from one run to the next). shifts: pointers to float64, `step` apart for each run, rounded first: the uniform
    values. float32 is summed in chains of CHAIN vectors, and these in float64. The lanes of several short runs are added up together.
    """
    b = builder
    chains = _Chains(b, scalar, n, formula, sums, asked)
    v = chains.v
    together = max(1, v.lanes // sums)
    kept = cgutils.alloca_once(b, ir.ArrayType(v.type, together))
    block = _block_of(chains)

    def prepared(i):
        uniform = _rounded(b, scalar, [b.load(b.gep(shift, [b.mul(i, step)])) for shift in shifts])
        return [b.gep(source, [b.mul(i, row)]) for source, row in sources], uniform

    def slot(r):
        return b.gep(kept, [_const(0), r])

    def place(k, i):
        return b.gep(target, [b.add(b.mul(_const(k), apart), i)])

    def store(i, values):
        for k, value in enumerate(values):
            b.store(value if value.type == DOUBLE else b.fpext(value, DOUBLE), place(k, i))

    def short():
        with cgutils.for_range_slice(b, _const(0), count, _const(together), I64) as (first, _):
            left = b.sub(count, first)
            full = b.icmp_signed("<=", _const(together), left)
            with cgutils.for_range(b, b.select(full, _const(together), left)) as loop:
                run = b.add(first, loop.index)
                found = chains.vectors(*prepared(run), _const(0), n)
                if together > 1:
                    b.store(_combined_all(v, found)[0], slot(loop.index))
                else:
                    store(run, _reduced(v, found))
            if together == 1:
                return
            with b.if_else(full, likely=True) as (all_of_them, some):
                with all_of_them:
                    every, = _combined_all(v, [b.load(slot(_const(r))) for r in range(together)], sums)
                    for k in range(sums):
                        part = b.shuffle_vector(every, every, ir.Constant(ir.VectorType(I32, together), [r * sums + k for r in range(together)]))
                        Lanes(b, DOUBLE, together).store(part if scalar == DOUBLE else b.fpext(part, ir.VectorType(DOUBLE, together)), place(k, first))
                with some, cgutils.for_range(b, left) as loop:
                    store(b.add(first, loop.index), _reduced(v, [b.load(slot(loop.index))], sums))

    def long():
        with cgutils.for_range(b, count) as run:
            store(run.index, _emit_long_run(chains, *prepared(run.index), n, sums))

    if scalar == DOUBLE:
        short()
        return
    with b.if_else(b.icmp_signed("<=", n, block)) as (yes, no):
        with yes:
            short()
        with no:
            long()


def _rounded(builder, scalar, values):
    return values if scalar == DOUBLE else [builder.fptrunc(value, scalar) for value in values]


def _segment_sums(x, at, n, row, count, f, to):
    """f[to + i] = the sum of segment x[at + i * row:][:n], i < count."""
    for i in range(count):
        f[to + i] = sum(float(value) for value in x[at + i * row:at + i * row + n])


def _segment_sums_intrinsic(typingctx, x, at, n, row, count, f, to):
    def codegen(context, builder, sig, args):
        _, at, n, row, count, f, to = args
        source, target = _pointer(context, builder, sig.args[0], args[0], at), _pointer(context, builder, sig.args[5], f, to)
        _emit_runs(builder, context.get_value_type(sig.args[0].dtype), [(source, row)], n, count, [], _const(0), target, _const(0),
                   lambda w, values, uniform, valid: [(values[0], None)], 1)
        return context.get_dummy_value()

    i = types.int64
    return types.void(x, i, i, i, i, f, i), codegen


def _segment_moments(x, at, n, row, count, f, shift, step, to, apart):
    """Of each segment x[at + i * row:][:n], i < count: the sums of d and d * d, d = x - f[shift + i * step], at f[to + i] and f[to + apart + i].

    The shift is rounded to the dtype of x. In float32 squares may leave its range: see `within_range`.
    """
    kind = x.dtype.type
    for i in range(count):
        total = square = 0.0
        for j in range(at + i * row, at + i * row + n):
            d = float(x[j] - kind(f[shift + i * step]))
            total += d
            square += d * d
        f[to + i], f[to + apart + i] = total, square


def _emit_segment_sums(context, builder, sig, args, arrays, formula, sums):
    """arrays: of the arguments, how many come first. The others as for `_segment_moments`, with `arrays` shifts."""
    scalar = context.get_value_type(sig.args[0].dtype)
    at, n, row, count, f = args[arrays:arrays + 5]
    shifts, (step, to, apart) = args[arrays + 5:2 * arrays + 5], args[2 * arrays + 5:]
    sources = [(_pointer(context, builder, sig.args[i], args[i], at), row) for i in range(arrays)]
    shifts = [_pointer(context, builder, sig.args[arrays + 4], f, shift) for shift in shifts]
    target = _pointer(context, builder, sig.args[arrays + 4], f, to)
    _emit_runs(builder, scalar, sources, n, count, shifts, step, target, apart, formula, sums)
    return context.get_dummy_value()


def _segment_moments_intrinsic(typingctx, x, at, n, row, count, f, shift, step, to, apart):
    def formula(w, values, uniform, valid):
        d = valid(w.b.fsub(values[0], uniform[0]))
        return (d, None), (d, d)

    def codegen(context, builder, sig, args):
        return _emit_segment_sums(context, builder, sig, args, 1, formula, 2)

    i = types.int64
    return types.void(x, i, i, i, i, f, i, i, i, i), codegen


def _segment_gradient_sums(x, dout, at, n, row, count, f, shift, dout_shift, step, to, apart):
    """As `segment_moments`, the sums of d, d * d, e and e * d (at f[to + k * apart + i]), e = dout - f[dout_shift + i * step]."""
    kind = x.dtype.type
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


def _segment_gradient_sums_intrinsic(typingctx, x, dout, at, n, row, count, f, shift, dout_shift, step, to, apart):
    def formula(w, values, uniform, valid):
        d, e = (valid(w.b.fsub(value, shift)) for value, shift in zip(values, uniform))
        return (d, None), (d, d), (e, None), (e, d)

    def codegen(context, builder, sig, args):
        return _emit_segment_sums(context, builder, sig, args, 2, formula, 4)

    i = types.int64
    return types.void(x, dout, i, i, i, i, f, i, i, i, i, i), codegen


def _scale_segment(x, y, at, n, row, count, known, known_at, step, apart, first, cycle, ahead, stream):
    """y = (x - center) * scale + shift of each segment at + i * row .. + n, i < count: center, scale, shift are three numbers
    known[known_at + (first + i) % cycle * step + k * apart], rounded to the dtype of x first. ahead: how many elements further on memory is asked for
    meanwhile."""
    kind = x.dtype.type
    for i in range(count):
        center, scale, shift = (kind(known[known_at + (first + i) % cycle * step + k * apart]) for k in range(3))
        for j in range(at + i * row, at + i * row + n):
            y[j] = (x[j] - center) * scale + shift


def _emit_known(builder, scalar, pointer, apart, count):
    """`count` numbers apart from each other, in the dtype of x."""
    values = [builder.load(builder.gep(pointer, [builder.mul(_const(k), apart)])) for k in range(count)]
    return values if values[0].type == scalar else _rounded(builder, scalar, values)


def _emit_each_segment(context, builder, sig, args, arrays, formula, count_known):
    """arrays: how many arguments are arrays, the last of them the target. The others as for `_scale_segment`."""
    scalar, b = context.get_value_type(sig.args[0].dtype), builder
    at, n, row, count, known, known_at, step, apart, first, cycle, ahead, stream = args[arrays:]
    places = [_pointer(context, b, sig.args[i], args[i], at) for i in range(arrays)]
    known, stream = _pointer(context, b, sig.args[arrays + 4], known, known_at), b.icmp_signed("!=", stream, _const(0))
    turn = cgutils.alloca_once(b, I64)
    b.store(first, turn)

    def following():
        """The numbers of the next segment."""
        now = b.load(turn)
        after = b.add(now, _const(1))
        b.store(b.select(b.icmp_signed("==", after, cycle), _const(0), after), turn)
        return _emit_known(b, scalar, b.gep(known, [b.mul(now, step)]), apart, count_known)

    lanes = VECTOR_BYTES // (8 if scalar == DOUBLE else 4)
    short = b.and_(b.icmp_signed("<", n, _const(ALIGNED_FROM * lanes)), b.icmp_signed(">=", n, _const(lanes)))
    with b.if_else(b.and_(b.and_(stream, b.icmp_signed("==", n, row)), short)) as (yes, no):
        with yes, b.if_then(b.icmp_signed(">", count, _const(0))):
            _emit_crossed(b, scalar, places[:-1], places[-1], n, count, formula, following, ahead)
        with no, cgutils.for_range(b, count) as loop:
            here = b.mul(loop.index, row)
            *sources, target = [b.gep(place, [here]) for place in places]
            _emit_each(b, scalar, sources, target, n, formula, stream, following(), ahead)
    return context.get_dummy_value()


def _emit_crossed(b, scalar, sources, target, n, count, formula, following, ahead):
    """As `_emit_each` for each of `count` segments of n elements one behind the other, a vector at least: whole lines of target go past the caches, and a
    vector may hold the end of one segment and the beginning of the next. following(): the uniform values of the next segment."""
    v, one = Lanes(b, scalar, VECTOR_BYTES // (8 if scalar == DOUBLE else 4)), Lanes(b, scalar, 1)
    uniform = [cgutils.alloca_once_value(b, v.splat(value)) for value in following()]
    place = cgutils.alloca_once(b, I64)
    emit_shared_line(b, b.gep(target, [ahead]), ir.Constant(ir.IntType(1), 1))

    def at(w, i, values, mask=None):
        for source in sources if mask is None else ():
            emit_prefetch(b, b.gep(source, [b.add(i, ahead)]))
        result = formula(w, [w.load(b.gep(source, [i]), mask) for source in sources], values)
        w.store(result, b.gep(target, [i]), mask, mask is None and w is v)

    def some(begin, end):
        values = [b.load(value) for value in uniform]
        if MASKS:
            with b.if_then(b.icmp_signed("<", begin, end)):
                at(v, begin, values, v.mask(b.sub(end, begin)))
        else:
            alone = [one.splat(b.extract_element(value, ir.Constant(I32, 0))) for value in values]
            with _steps(b, begin, end, 1) as (i, _):
                at(one, i, alone)

    before = b.and_(b.sub(_const(0), b.ptrtoint(target, I64)), _const(VECTOR_BYTES - 1))
    head = b.lshr(before, _const(2 if v.itemsize == 4 else 3))
    some(_const(0), head)
    b.store(head, place)
    with cgutils.for_range(b, b.sub(count, _const(1))) as loop:
        begin, end = b.load(place), b.mul(b.add(loop.index, _const(1)), n)
        values = [b.load(value) for value in uniform]
        stop = b.add(begin, _whole(b, b.sub(end, begin), v.lanes))
        with _steps(b, begin, stop, v.lanes) as (i, _):
            at(v, i, values)
        own, others = v.mask(b.sub(end, stop)), [v.splat(value) for value in following()]
        at(v, stop, [b.select(own, value, other) for value, other in zip(values, others)])
        for value, other in zip(uniform, others):
            b.store(other, value)
        b.store(b.add(stop, _const(v.lanes)), place)
    begin, end = b.load(place), b.mul(count, n)
    values = [b.load(value) for value in uniform]
    stop = b.add(begin, _whole(b, b.sub(end, begin), v.lanes))
    with _steps(b, begin, stop, v.lanes) as (i, _):
        at(v, i, values)
    some(stop, end)


def _scale_segment_intrinsic(typingctx, x, y, at, n, row, count, known, known_at, step, apart, first, cycle, ahead, stream):
    def formula(w, values, uniform):
        center, scale, shift = uniform
        return w.fma(w.b.fsub(values[0], center), scale, shift)

    def codegen(context, builder, sig, args):
        return _emit_each_segment(context, builder, sig, args, 2, formula, 3)

    i = types.int64
    return types.void(x, y, i, i, i, i, known, i, i, i, i, i, i, i), codegen


def _gradient_segment(x, dout, dx, at, n, row, count, known, known_at, step, apart, first, cycle, ahead, stream):
    """dx = (a * (dout - dout_center) + (b * (x - center) + d)) * invstd, as `scale_segment` with the six numbers center, dout_center, a, b, d,
    invstd: apart, for the square of invstd may leave the range of float32."""
    kind = x.dtype.type
    for i in range(count):
        center, dout_center, a, b, d, invstd = (kind(known[known_at + (first + i) % cycle * step + k * apart]) for k in range(6))
        for j in range(at + i * row, at + i * row + n):
            dx[j] = (a * (dout[j] - dout_center) + (b * (x[j] - center) + d)) * invstd


def _gradient_segment_intrinsic(typingctx, x, dout, dx, at, n, row, count, known, known_at, step, apart, first, cycle, ahead, stream):
    def formula(w, values, uniform):
        center, dout_center, a, b, d, invstd = uniform
        return w.b.fmul(w.fma(a, w.b.fsub(values[1], dout_center), w.fma(b, w.b.fsub(values[0], center), d)), invstd)

    def codegen(context, builder, sig, args):
        return _emit_each_segment(context, builder, sig, args, 3, formula, 6)

    i = types.int64
    return types.void(x, dout, dx, i, i, i, i, known, i, i, i, i, i, i, i), codegen


# ---------------------------------------------------------------- rows with parameters of their own for each column
def _row_gradient_sums(x, dout, at, n, row, count, weight, to, step, f, shift, sums, apart):
    """Of each row at + i * row .. + n, i < count, the sums of d, d * d, e and e * d, at f[sums + k * apart + i], k = 0 .. 3.

    d = x - f[shift + i], rounded first, e = dout * weight[to + i * step + j]. The rest as for `segment_moments`.
    """
    kind = x.dtype.type
    for i in range(count):
        total = square = gradient = product = 0.0
        for j in range(n):
            d, e = float(x[at + i * row + j] - kind(f[shift + i])), float(dout[at + i * row + j] * weight[to + i * step + j])
            total += d
            square += d * d
            gradient += e
            product += e * d
        for k, value in enumerate((total, square, gradient, product)):
            f[sums + k * apart + i] = value


def _row_gradient_formula(w, values, uniform, valid):
    d, e = valid(w.b.fsub(values[0], uniform[0])), w.b.fmul(values[1], values[2])
    return (d, None), (d, d), (e, None), (e, d)


def _row_gradient_sums_intrinsic(typingctx, x, dout, at, n, row, count, weight, to, step, f, shift, sums, apart):
    def codegen(context, builder, sig, args):
        _, _, at, n, row, count, _, to, step, _, shift, sums, apart = args
        sources = [(_pointer(context, builder, sig.args[i], args[i], first), further) for i, first, further in ((0, at, row), (1, at, row), (6, to, step))]
        shifts, target = (_pointer(context, builder, sig.args[9], args[9], place) for place in (shift, sums))
        _emit_runs(builder, context.get_value_type(sig.args[0].dtype), sources, n, count, [shifts], _const(1), target, apart, _row_gradient_formula, 4)
        return context.get_dummy_value()

    i = types.int64
    return types.void(x, dout, i, i, i, i, weight, i, i, f, i, i, i), codegen


# ---------------------------------------------------------------- down the columns of a matrix
def emit_prefetch(builder, pointer, write=False, locality=SECOND_LEVEL):
    """Have the line of this address brought near, or to be written; it may lie behind the array."""
    byte = ir.IntType(8).as_pointer()
    function = ir.FunctionType(ir.VoidType(), [byte, I32, I32, I32])
    locality = ALL_LEVELS if write else locality
    arguments = [builder.bitcast(pointer, byte), *(ir.Constant(I32, value) for value in (int(write), locality, 1))]      # the last: data
    builder.call(cgutils.get_or_insert_function(builder.module, function, "llvm.prefetch.p0"), arguments)


def _emit_rows(builder, scalar, sources, row, rows, n, columns, sums, formula, far=None):
    """Add the terms (a, b or None), a * b or a, of formula(lanes, sources' values at r * row + j, columns' values at j) to those of `sums` at j, r < rows,
    j < n. A few rows after the other, nearly as memory lies: the sums stay in L1. Rows that follow are asked for meanwhile. far: whether to take one row
    after the other, a value of the running kernel: memory beyond the caches gives less where several places of two arrays are read in turns."""
    v = Lanes(builder, scalar, VECTOR_BYTES // (8 if scalar == DOUBLE else 4))
    further = builder.mul(row, builder.add(builder.udiv(_const(AHEAD_BYTES // v.itemsize - 1), n), _const(1)))

    def some(first, count):
        """Rows first .. first + count - 1, side by side: shifts and sums are loaded, and sums stored, once for all."""
        begins = [builder.mul(builder.add(first, _const(r)), row) for r in range(count)]
        lines = [[builder.gep(source, [begin]) for source in sources] for begin in begins]

        def at(w, j, mask=None):
            fixed, totals = ([w.load(builder.gep(place, [j]), mask) for place in places] for places in (columns, sums))
            for line in lines:
                values = [w.load(builder.gep(place, [j]), mask) for place in line]
                for place in line if mask is None else ():
                    emit_prefetch(builder, builder.gep(place, [builder.add(further, j)]), locality=ALL_LEVELS)
                totals = [builder.fadd(total, a) if b is None else w.fma(a, b, total) for (a, b), total in zip(formula(w, values, fixed), totals)]
            for total, place in zip(totals, sums):
                w.store(total, builder.gep(place, [j]), mask)

        emit_run(builder, v, n, at)

    together = _whole(builder, rows, SIDE_BY_SIDE)
    together = together if far is None else builder.select(far, _const(0), together)
    with _steps(builder, _const(0), together, SIDE_BY_SIDE) as (r, _):
        some(r, SIDE_BY_SIDE)
    with _steps(builder, together, rows, 1) as (r, _):
        some(r, 1)


def _emit_matrix(builder, scalar, sources, target, row, rows, n, columns, formula, stream):
    """target[r * row + j] = formula(lanes, sources' values there, columns' values at j) for r < rows, j < n. stream: as for `_emit_each`.

    Whole rows are one run of memory: so where target begins inside a line, rows do not share lines, which would be read before they are written.
    For that the first vector of each of `columns` stands once more behind its last element.
    """
    v = Lanes(builder, scalar, VECTOR_BYTES // (8 if scalar == DOUBLE else 4))
    whole = builder.and_(builder.icmp_signed("==", n, row), builder.icmp_signed(">=", n, _const(v.lanes)))
    all_rows = builder.mul(row, rows)
    length, further = builder.select(whole, all_rows, n), builder.select(whole, _const(AHEAD_BYTES // v.itemsize), all_rows)
    enough = builder.icmp_signed(">=", length, _const(ALIGNED_FROM * v.lanes))
    place, lead = (cgutils.alloca_once(builder, I64) for _ in range(2))      # of vectors, and how far ahead of it their column is
    with cgutils.for_range(builder, builder.select(whole, _const(1), rows)) as loop:
        begin = builder.mul(loop.index, row)
        line, to = [builder.gep(source, [begin]) for source in sources], builder.gep(target, [begin])
        emit_shared_line(builder, builder.gep(to, [further]), builder.and_(stream, enough))
        builder.store(_const(0), lead)

        @contextmanager
        def sweep(first, stop):
            """The vectors that begin in one row, then those of the next."""
            builder.store(first, place)
            with cgutils.for_range(builder, builder.select(whole, rows, _const(1))):
                i = builder.load(place)
                j = builder.add(i, builder.load(lead))
                end = builder.add(i, _whole(builder, builder.add(builder.sub(n, j), _const(v.lanes - 1)), v.lanes))
                end = builder.select(builder.icmp_signed("<", end, stop), end, stop)
                with _steps(builder, i, end, v.lanes) as (k, _):
                    yield k
                over = builder.icmp_signed(">=", builder.add(j, builder.sub(end, i)), n)
                builder.store(builder.select(over, builder.sub(builder.load(lead), n), builder.load(lead)), lead)
                builder.store(end, place)

        def at(w, i, mask=None, past=False):
            for source in line if past else ():
                emit_prefetch(builder, builder.gep(source, [builder.add(further, i)]))
            j = builder.add(i, builder.load(lead))
            values, fixed = ([w.load(builder.gep(source, [k]), mask) for source in some] for some, k in ((line, i), (columns, j)))
            w.store(formula(w, values, fixed), builder.gep(to, [i]), mask, past)

        emit_run(builder, v, length, at, to, enough, stream, sweep)


def _column_moments(x, at, row, rows, n, shifts, sums, step):
    """Add to sums[j] and sums[step + j] the sums over r < rows of d and d * d, d = x[at + r * row + j] - shifts[j], for j < n.

    sums: of the dtype of x. rows: so few that their sums may stay in it."""
    for j in range(n):
        for r in range(rows):
            d = x[at + r * row + j] - shifts[j]
            sums[j] += d
            sums[step + j] += d * d


def _column_moments_intrinsic(typingctx, x, at, row, rows, n, shifts, sums, step):
    def formula(w, values, columns):
        d = w.b.fsub(values[0], columns[0])
        return (d, None), (d, d)

    def codegen(context, builder, sig, args):
        scalar = context.get_value_type(sig.args[0].dtype)
        x, shifts, *sums = (_pointer(context, builder, sig.args[i], args[i], j)
                            for i, j in ((0, args[1]), (5, _const(0)), (6, _const(0)), (6, args[7])))
        _emit_rows(builder, scalar, [x], *args[2:5], [shifts], sums, formula)
        return context.get_dummy_value()

    i = types.int64
    return types.void(x, i, i, i, i, shifts, sums, i), codegen


def _column_gradient_sums(x, dout, at, row, rows, n, shifts, dout_shift, sums, step, stream):
    """Add to sums[k * step + j] the sums over r < rows of d, d * d, e and e * d (k = 0 .. 3), for j < n.

    d = x[at + r * row + j] - shifts[j], e = dout[at + r * row + j] - shifts[dout_shift + j]. stream: x and dout are in no cache. The rest as for
    `column_moments`.
    """
    for j in range(n):
        for r in range(rows):
            d, e = x[at + r * row + j] - shifts[j], dout[at + r * row + j] - shifts[dout_shift + j]
            for k, term in enumerate((d, d * d, e, e * d)):
                sums[k * step + j] += term


def _column_gradient_sums_intrinsic(typingctx, x, dout, at, row, rows, n, shifts, dout_shift, sums, step, stream):
    def formula(w, values, columns):
        d, e = (w.b.fsub(value, shift) for value, shift in zip(values, columns))
        return (d, None), (d, d), (e, None), (e, d)

    def codegen(context, builder, sig, args):
        scalar = context.get_value_type(sig.args[0].dtype)
        sources = [_pointer(context, builder, sig.args[i], args[i], args[2]) for i in (0, 1)]
        shifts = [_pointer(context, builder, sig.args[6], args[6], at) for at in (_const(0), args[7])]
        sums = [_pointer(context, builder, sig.args[8], args[8], builder.mul(_const(k), args[9])) for k in range(4)]
        _emit_rows(builder, scalar, sources, *args[3:6], shifts, sums, formula, builder.icmp_signed("!=", args[10], _const(0)))
        return context.get_dummy_value()

    i = types.int64
    return types.void(x, dout, i, i, i, i, shifts, i, sums, i, i), codegen


def _scale_columns(x, y, at, row, rows, n, coefficients, step, stream):
    """y = (x - center) * scale + shift at each at + r * row + j, r < rows, j < n: center, scale, shift of column j are
    coefficients[k * step + j], k = 0, 1, 2. Of whole rows (n == row) the first vector of each stands again behind the last column."""
    for r in range(rows):
        for j in range(n):
            center, scale, shift = coefficients[j], coefficients[step + j], coefficients[2 * step + j]
            y[at + r * row + j] = (x[at + r * row + j] - center) * scale + shift


def _scale_columns_intrinsic(typingctx, x, y, at, row, rows, n, coefficients, step, stream):
    def formula(w, values, columns):
        center, scale, shift = columns
        return w.fma(w.b.fsub(values[0], center), scale, shift)

    def codegen(context, builder, sig, args):
        x, y = (_pointer(context, builder, sig.args[i], args[i], args[2]) for i in (0, 1))
        columns = [_pointer(context, builder, sig.args[6], args[6], builder.mul(_const(k), args[7])) for k in range(3)]
        _emit_matrix(builder, context.get_value_type(sig.args[0].dtype), [x], y, *args[3:6], columns, formula,
                     builder.icmp_signed("!=", args[8], _const(0)))
        return context.get_dummy_value()

    i = types.int64
    return types.void(x, y, i, i, i, i, coefficients, i, i), codegen


def _gradient_columns(x, dout, dx, at, row, rows, n, coefficients, step, stream):
    """dx = (a * (dout - dout_center) + (b * (x - center) + d)) * invstd at each at + r * row + j: center, dout_center, a, b, d, invstd of
    column j are coefficients[k * step + j], k = 0 .. 5, as for `scale_columns`."""
    for r in range(rows):
        for j in range(n):
            center, dout_center, a, b, d, invstd = (coefficients[k * step + j] for k in range(6))
            i = at + r * row + j
            dx[i] = (a * (dout[i] - dout_center) + (b * (x[i] - center) + d)) * invstd


def _gradient_columns_intrinsic(typingctx, x, dout, dx, at, row, rows, n, coefficients, step, stream):
    def formula(w, values, columns):
        (x, dout), (center, dout_center, a, b, d, invstd) = values, columns
        return w.b.fmul(w.fma(a, w.b.fsub(dout, dout_center), w.fma(b, w.b.fsub(x, center), d)), invstd)

    def codegen(context, builder, sig, args):
        x, dout, dx = (_pointer(context, builder, sig.args[i], args[i], args[3]) for i in (0, 1, 2))
        columns = [_pointer(context, builder, sig.args[7], args[7], builder.mul(_const(k), args[8])) for k in range(6)]
        _emit_matrix(builder, context.get_value_type(sig.args[0].dtype), [x, dout], dx, *args[4:7], columns, formula,
                     builder.icmp_signed("!=", args[9], _const(0)))
        return context.get_dummy_value()

    i = types.int64
    return types.void(x, dout, dx, i, i, i, i, coefficients, i, i), codegen


# ---------------------------------------------------------------- rows by themselves
def _shift_of_row(x, at):
    """As `shifts_of_first` of one run of PROBES[0] values at least."""
    f = [0.0]
    _shifts_of_first(x, at, 0, PROBES[0], 1, f, 0)
    return float(f[0])


def _shift_of_row_intrinsic(typingctx, x, at):
    def codegen(context, builder, sig, args):
        scalar = context.get_value_type(sig.args[0].dtype)
        shift = _emit_shift(builder, scalar, _pointer(context, builder, sig.args[0], *args), PROBES[0])
        return shift if scalar == DOUBLE else builder.fpext(shift, DOUBLE)

    return types.float64(x, types.int64), codegen


def _row_moments(x, at, n, shift):
    """The sums of d and d * d, d = x[at + i] - shift for i < n. The rest as for `segment_moments`."""
    shift, total, square = x.dtype.type(shift), 0.0, 0.0
    for value in x[at:at + n]:
        d = float(value - shift)
        total += d
        square += d * d
    return total, square


def _emit_row_sums(context, builder, sig, args, arrays, formula, sums, asked):
    """arrays: (an argument, the one that says where its run begins) each; behind that of the first stands n, and the shift is the last argument."""
    scalar = context.get_value_type(sig.args[0].dtype)
    sources = [_pointer(context, builder, sig.args[i], args[i], args[at]) for i, at in arrays]
    chains = _Chains(builder, scalar, args[arrays[0][1] + 1], formula, sums, asked)
    found = _emit_long_run(chains, sources, _rounded(builder, scalar, args[-1:]), chains.n, sums)
    return context.make_tuple(builder, sig.return_type, found)


def _row_moments_intrinsic(typingctx, x, at, n, shift):
    def formula(w, values, uniform, valid):
        d = valid(w.b.fsub(values[0], uniform[0]))
        return (d, None), (d, d)

    def codegen(context, builder, sig, args):
        return _emit_row_sums(context, builder, sig, args, [(0, 1)], formula, 2, 0)

    i = types.int64
    return types.UniTuple(types.float64, 2)(x, i, i, types.float64), codegen


def _row_gradient_moments(x, dout, at, n, weight, to, shift):
    """The sums of d, d * d, e and e * d, d = x[at + i] - shift and e = dout[at + i] * weight[to + i] for i < n. The rest as for `row_gradient_sums`.

    Of x what follows is asked for meanwhile, of dout by `gradient_rows`: requests that are spread over both passes wait least for each other."""
    shift, total, square, gradient, product = x.dtype.type(shift), 0.0, 0.0, 0.0, 0.0
    for i in range(n):
        d, e = float(x[at + i] - shift), float(dout[at + i] * weight[to + i])
        total += d
        square += d * d
        gradient += e
        product += e * d
    return total, square, gradient, product


def _row_gradient_moments_intrinsic(typingctx, x, dout, at, n, weight, to, shift):
    def codegen(context, builder, sig, args):
        return _emit_row_sums(context, builder, sig, args, [(0, 2), (1, 2), (4, 5)], _row_gradient_formula, 4, 1)

    i = types.int64
    return types.UniTuple(types.float64, 4)(x, dout, i, i, weight, i, types.float64), codegen


def _emit_rows_alike(context, builder, sig, args, sources, columns, target, known, count, formula, sums, ahead):
    """target[r * n + j] = the first of formula(lanes, sources' values at r * n + j, columns' values at j, numbers of row r) for j < n, the second are
    terms (a, b or None), a * b or a, which are added to those of `sums` at j. Arrays are (an argument, the one that says where it begins); n and the
    number of rows stand behind the sources, the numbers `count` times `apart` in known, whose arguments `known` is the first of three. The sources
    are asked for `ahead` elements further on."""
    scalar = context.get_value_type(sig.args[0].dtype)
    sources, columns, (target,) = ([_pointer(context, builder, sig.args[i], args[i], args[at]) for i, at in some] for some in (sources, columns, [target]))
    n, rows, first = args[len(sources) + 1], args[len(sources) + 2], _pointer(context, builder, sig.args[known], args[known], args[known + 1])
    v, one = Lanes(builder, scalar, VECTOR_BYTES // (8 if scalar == DOUBLE else 4)), Lanes(builder, scalar, 1)
    with cgutils.for_range(builder, rows) as loop:
        begin = builder.mul(loop.index, n)
        line, to = [builder.gep(source, [begin]) for source in sources], builder.gep(target, [begin])
        numbers = _emit_known(builder, scalar, builder.gep(first, [loop.index]), args[known + 2], count)
        splat = {w.lanes: [w.splat(number) for number in numbers] for w in (v, one)}

        def at(w, j, mask=None):
            values, fixed, totals = ([w.load(builder.gep(place, [j]), mask) for place in places] for places in (line, columns, sums))
            result, terms = formula(w, values, fixed, splat[w.lanes])
            w.store(result, builder.gep(to, [j]), mask)
            if mask is None:
                for place in line:
                    emit_prefetch(builder, builder.gep(place, [builder.add(args[ahead], j)]))
            for (a, b), total, place in zip(terms, totals, sums):
                w.store(builder.fadd(total, a) if b is None else w.fma(a, b, total), builder.gep(place, [j]), mask)

        emit_run(builder, v, n, at)
    return context.get_dummy_value()


def _scale_rows(x, at, n, rows, y, place, weight, bias, to, known, known_at, apart, ahead):
    """y[place + r * n + j] = ((x[at + r * n + j] - center) * invstd + rest) * weight[to + j] + bias[to + j] for r < rows, j < n; center, rest, invstd of
    row r are known[known_at + k * apart + r], rounded to the dtype of x first. ahead: how many elements further on x is asked for meanwhile."""
    kind = x.dtype.type
    for r in range(rows):
        center, rest, invstd = (kind(known[known_at + k * apart + r]) for k in range(3))
        for j in range(n):
            y[place + r * n + j] = ((x[at + r * n + j] - center) * invstd + rest) * weight[to + j] + bias[to + j]


def _scale_rows_intrinsic(typingctx, x, at, n, rows, y, place, weight, bias, to, known, known_at, apart, ahead):
    def formula(w, values, columns, numbers):
        (x,), (weight, bias), (center, rest, invstd) = values, columns, numbers
        return w.fma(w.fma(w.b.fsub(x, center), invstd, rest), weight, bias), []

    def codegen(context, builder, sig, args):
        return _emit_rows_alike(context, builder, sig, args, [(0, 1)], [(6, 8), (7, 8)], (4, 5), 9, 3, formula, [], 12)

    i = types.int64
    return types.void(x, i, i, i, y, i, weight, bias, i, known, i, i, i), codegen


def _gradient_rows(x, dout, at, n, rows, dx, place, weight, to, known, known_at, apart, sums, sums_at, step, ahead):
    """The gradient of a few rows to x, at dx[place + r * n + j], and what they add to those of weight and bias: sums[sums_at + j] and
    sums[sums_at + step + j], r < rows, j < n.

        xhat = (x - center) * invstd + rest;  dx = (dout * weight[to + j] + less_mean + xhat * less_slope) * invstd
        sums of dout * xhat and of dout

    The five numbers of row r are known[known_at + k * apart + r], rounded to the dtype of x first. sums: as for `column_moments`. ahead: how many
    elements further on x and dout are asked for meanwhile.
    """
    kind = x.dtype.type
    for r in range(rows):
        center, rest, invstd, less_mean, less_slope = (kind(known[known_at + k * apart + r]) for k in range(5))
        for j in range(n):
            e, xhat = dout[at + r * n + j], (x[at + r * n + j] - center) * invstd + rest
            dx[place + r * n + j] = (e * weight[to + j] + less_mean + xhat * less_slope) * invstd
            sums[sums_at + j] += e * xhat
            sums[sums_at + step + j] += e


def _gradient_rows_intrinsic(typingctx, x, dout, at, n, rows, dx, place, weight, to, known, known_at, apart, sums, sums_at, step, ahead):
    def formula(w, values, columns, numbers):
        (value, e), (center, rest, invstd, less_mean, less_slope) = values, numbers
        xhat = w.fma(w.b.fsub(value, center), invstd, rest)
        return w.b.fmul(w.fma(xhat, less_slope, w.fma(e, columns[0], less_mean)), invstd), [(e, xhat), (e, None)]

    def codegen(context, builder, sig, args):
        places = [_pointer(context, builder, sig.args[12], args[12], at) for at in (args[13], builder.add(args[13], args[14]))]
        return _emit_rows_alike(context, builder, sig, args, [(0, 2), (1, 2)], [(7, 8)], (5, 6), 9, 5, formula, places, 15)

    i = types.int64
    return types.void(x, dout, i, i, i, dx, i, weight, i, known, i, i, sums, i, i, i), codegen


shifts_of_first = either(_shifts_of_first, _shifts_of_first_intrinsic)
segment_sums = either(_segment_sums, _segment_sums_intrinsic)
segment_moments = either(_segment_moments, _segment_moments_intrinsic)
segment_gradient_sums = either(_segment_gradient_sums, _segment_gradient_sums_intrinsic)
scale_segment = either(_scale_segment, _scale_segment_intrinsic)
gradient_segment = either(_gradient_segment, _gradient_segment_intrinsic)
row_gradient_sums = either(_row_gradient_sums, _row_gradient_sums_intrinsic)
column_moments = either(_column_moments, _column_moments_intrinsic)
column_gradient_sums = either(_column_gradient_sums, _column_gradient_sums_intrinsic)
scale_columns = either(_scale_columns, _scale_columns_intrinsic)
gradient_columns = either(_gradient_columns, _gradient_columns_intrinsic)
shift_of_row = either(_shift_of_row, _shift_of_row_intrinsic)
row_moments = either(_row_moments, _row_moments_intrinsic)
row_gradient_moments = either(_row_gradient_moments, _row_gradient_moments_intrinsic)
scale_rows = either(_scale_rows, _scale_rows_intrinsic)
gradient_rows = either(_gradient_rows, _gradient_rows_intrinsic)
