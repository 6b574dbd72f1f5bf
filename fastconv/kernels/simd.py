"""All intrinsics, each with a plain-loop twin: explicit vectors where LLVM would not find them by itself.

Vector width and the choice between fused and separate multiply-add come from `tiles`. The twins serve where intrinsics cannot run
(NUMBA_DISABLE_JIT=1) and as the definition that the tests hold the intrinsics against.
"""
from __future__ import annotations

import numpy as np
from llvmlite import ir
from numba import config, types
from numba.core import cgutils
from numba.extending import intrinsic

from ..instruction_set import isa
from .tiles import FMA, REGISTERS, VECTOR_BYTES

I32, I64 = ir.IntType(32), ir.IntType(64)
PIN_REGISTER = {"avx512": "v", "avx2": "v", "neon": "w"}        # LLVM's constraint letter for a vector register, where there is FMA
CHAINS = 24 if REGISTERS >= 32 else 14         # independent accumulators of the burst: they hide the latency, and fit the registers
LINE_BYTES = 64
X86 = isa() in ("avx512", "avx2", "avx", "sse")
AHEAD_BYTES = 8192                             # how far before its turn memory is asked for: the processor sees no order in rows of planes
BYTES = ir.IntType(8).as_pointer()
ALL_LEVELS, SECOND_LEVEL = 3, 2                # of the caches that a prefetched line goes into


def either(twin, code, literal=False):
    """The intrinsic that `code` emits, or its plain-loop twin where nothing is compiled. literal: some arguments are known when it is emitted."""
    if config.DISABLE_JIT:
        return twin
    made = intrinsic(prefer_literal=literal)(code)
    made.__doc__ = twin.__doc__
    return made


def lanes(dtype: np.dtype | type) -> int:
    """Elements of `dtype` in one vector."""
    return VECTOR_BYTES // np.dtype(dtype).itemsize


class Vector:
    """Emits vector code for one element type: what the intrinsics below are written with."""

    def __init__(self, context, builder, element):
        self.b = builder
        self.scalar = context.get_value_type(element)
        self.itemsize = element.bitwidth // 8
        self.lanes = VECTOR_BYTES // self.itemsize
        self.type = ir.VectorType(self.scalar, self.lanes)
        self.float = isinstance(element, types.Float)
        self.signed = not self.float and element.signed
        self.zero = ir.Constant(self.type, [0.0 if self.float else 0] * self.lanes)
        self._undefined = ir.Constant(self.type, ir.Undefined)
        self._splat = ir.Constant(ir.VectorType(I32, self.lanes), [0] * self.lanes)
        self._bits = ir.VectorType(ir.IntType(1), self.lanes)
        self._fma = None
        if FMA and self.float:
            name = f"llvm.fma.v{self.lanes}f{element.bitwidth}"
            self._fma = cgutils.get_or_insert_function(builder.module, ir.FunctionType(self.type, [self.type] * 3), name)

    def load(self, pointer, lanes=None):
        """`lanes` elements, a whole vector if not said otherwise."""
        vector = self.type if lanes is None else ir.VectorType(self.scalar, lanes)
        value = self.b.load(self.b.bitcast(pointer, vector.as_pointer()))
        value.align = self.itemsize
        return value

    def store(self, value, pointer, past=False):
        """past: the caches, whole vectors to where lines of the cache begin."""
        store = self.b.store(value, self.b.bitcast(pointer, value.type.as_pointer()))
        store.align = VECTOR_BYTES if past else self.itemsize
        if past:
            store.set_metadata("nontemporal", self.b.module.add_metadata([ir.Constant(I32, 1)]))

    def store_first(self, value, n, pointer):
        """Store the first n lanes of value, n known when the kernel is compiled."""
        if n >= self.lanes:
            return self.store(value, pointer)
        self.store_masked(value, pointer, ir.Constant(self._bits, [int(i < n) for i in range(self.lanes)]))

    def mask(self, n):
        """Which lanes are before lane n, an integer of the running kernel."""
        every = self.broadcast_index(n)
        return self.b.icmp_signed("<", ir.Constant(every.type, list(range(self.lanes))), every)

    def broadcast_index(self, n):
        """An integer of the running kernel in all lanes, 32 bits each."""
        one = self.b.insert_element(ir.Constant(ir.VectorType(I32, self.lanes), ir.Undefined), self.b.trunc(n, I32), ir.Constant(I32, 0))
        return self.b.shuffle_vector(one, one, self._splat)

    def _masked(self, what, kind, arguments):
        name = f"llvm.masked.{what}.v{self.lanes}f{8 * self.itemsize}.p0"
        function = ir.FunctionType(kind, [argument.type for argument in arguments])
        return self.b.call(cgutils.get_or_insert_function(self.b.module, function, name), arguments)

    def store_masked(self, value, pointer, mask):
        place = self.b.bitcast(pointer, self.type.as_pointer())
        self._masked("store", ir.VoidType(), [value, place, ir.Constant(I32, self.itemsize), mask])

    def load_masked(self, pointer, mask):
        """The lanes of the mask, and zeros: nothing else is touched."""
        place = self.b.bitcast(pointer, self.type.as_pointer())
        return self._masked("load", self.type, [place, ir.Constant(I32, self.itemsize), mask, self.zero])

    def prefetch(self, place, write=False, locality=ALL_LEVELS):
        """Ask for the cache line of this address, which may be any: to read it, or to write there."""
        place = self.b.bitcast(place, BYTES)
        kind = ir.FunctionType(ir.VoidType(), [BYTES, I32, I32, I32])
        function = cgutils.get_or_insert_function(self.b.module, kind, "llvm.prefetch.p0")
        self.b.call(function, [place, *(ir.Constant(I32, n) for n in (int(write), locality, 1))])       # the last: data

    def relu(self, value):
        """0 where value < 0; NaN stays."""
        return self.b.select(self.b.fcmp_ordered("<", value, self.zero), self.zero, value)

    def transpose(self, rows):
        """`lanes` vectors as the rows of a square matrix; its columns."""
        group, n = 16 // self.itemsize, self.lanes
        columns = [row for first in range(0, n, group) for row in self.turn(rows[first:first + group])]      # column k of `group` rows, k + group, ...
        even = [j for j in range(2 * n) if j // group % 2 == 0]
        step = group
        while step < n:                      # of two such vectors every second 16 bytes, and the others
            for i in range(n):
                if not i & step:
                    a, b = columns[i], columns[i + step]
                    columns[i], columns[i + step] = (self.b.shuffle_vector(a, b, ir.Constant(ir.VectorType(I32, n), [j + odd for j in even]))
                                                     for odd in (0, group))
            step *= 2
        return columns

    def join(self, parts):
        """Short vectors one behind the other."""
        while len(parts) > 1:
            both = ir.Constant(ir.VectorType(I32, 2 * parts[0].type.count), list(range(2 * parts[0].type.count)))
            parts = [self.b.shuffle_vector(low, high, both) for low, high in zip(parts[::2], parts[1::2])]
        return parts[0]

    def part(self, value, first, n):
        """n lanes of it."""
        return self.b.shuffle_vector(value, value, ir.Constant(ir.VectorType(I32, n), list(range(first, first + n))))

    def turn(self, rows):
        """Vectors of 16 bytes' lanes each, many side by side, as the rows of squares: their columns. x86 takes one instruction where lanes stay there."""
        group, n, rows = len(rows), self.lanes, list(rows)
        step = 1
        while step < group:                  # runs of `step` lanes of two rows in turn
            for i in range(group):
                if not i & step:
                    a, b = rows[i], rows[i + step]
                    rows[i], rows[i + step] = (self.b.shuffle_vector(a, b, ir.Constant(ir.VectorType(I32, n), [
                        first + half + k + j + side for first in range(0, n, group) for k in range(0, group // 2, step) for side in (0, n)
                        for j in range(step)])) for half in (0, group // 2))
            step *= 2
        bits = group.bit_length() - 1
        return [rows[int(f"{k:0{bits}b}"[::-1], 2) if bits else 0] for k in range(group)]

    def transpose_halves(self, halves):
        """`lanes` rows of half a vector each; their columns."""
        n = self.lanes // 2
        both = ir.Constant(ir.VectorType(I32, self.lanes), list(range(self.lanes)))
        return self._exchange([self.b.shuffle_vector(halves[r], halves[r + n], both) for r in range(n)], n // 2)

    def _exchange(self, rows, half):
        n = self.lanes
        while half:
            low = ir.Constant(ir.VectorType(I32, n), [i if not i & half else n + i - half for i in range(n)])
            high = ir.Constant(ir.VectorType(I32, n), [i + half if not i & half else n + i for i in range(n)])
            for i in range(len(rows)):
                if not i & half:
                    a, b = rows[i], rows[i + half]
                    rows[i], rows[i + half] = self.b.shuffle_vector(a, b, low), self.b.shuffle_vector(a, b, high)
            half //= 2
        return rows

    def larger(self, a, b):
        """b where b > a, else a."""
        compare = self.b.fcmp_ordered if self.float else self.b.icmp_signed if self.signed else self.b.icmp_unsigned
        return self.b.select(compare(">", b, a), b, a)

    def broadcast(self, scalar):
        one = self.b.insert_element(self._undefined, scalar, ir.Constant(I32, 0))
        return self.b.shuffle_vector(one, self._undefined, self._splat)

    def multiply_add(self, x, y, z):
        """x * y + z, fused where the processor can."""
        if self._fma is not None:
            return self.b.call(self._fma, [x, y, z])
        return self.b.fadd(self.b.fmul(x, y), z)

    def pin(self, value):
        """The same value, through an empty assembly line that LLVM moves nothing across.

        Without it LLVM's scheduler hoists every load and broadcast of a register tile to its top and spills accumulators. A value
        pinned after its multiply-add stays in a register, and the next row's operands are loaded only then. Where a multiply-add is two
        instructions nothing is pinned: LLVM would sum into the product's register and move the accumulators about.
        """
        letter = PIN_REGISTER.get(isa())
        if letter is None:
            return value
        function = ir.FunctionType(value.type, [value.type])
        return self.b.asm(function, "", f"={letter},0,~{{memory}}", [value], True)


def emit_choice(builder, cases, holds, emit):
    """emit(case) of the first case for which holds(case), a value of the running kernel, is true; of the last where none is."""
    case, *others = cases
    if not others:
        emit(case)
        return
    with builder.if_else(holds(case)) as (this, other):
        with this:
            emit(case)
        with other:
            emit_choice(builder, others, holds, emit)


def _pointer(context, builder, array_type, array, at):
    return builder.gep(context.make_array(array_type)(context, builder, array).data, [at])


def _gemm_tile(rows, vectors, valid, keep, K, a, a_at, b, b_at, b_row, c, c_at, c_row):
    """c[c_at + r * c_row + j] += sum over k of a[a_at + k * rows + r] * b[b_at + k * b_row + j], for r < valid <= rows and j < width.

    keep: 1 to add to what stands in c, 0 to write over it.

    width = vectors * lanes. a (K, rows) is packed; rows of b and c hold at least `width` elements, b_row and c_row apart.
    a, b, c: 1-D, contiguous, one floating dtype; rows and vectors: integer literals. One chain of K terms for each element.
    """
    width = vectors * VECTOR_BYTES // a.itemsize
    for r in range(valid):
        for j in range(width):
            total = a.dtype.type(0)
            for k in range(K):
                total += a[a_at + k * rows + r] * b[b_at + k * b_row + j]
            place = c_at + r * c_row + j
            c[place] = c[place] + total if keep else total


def _gemm_tile_ahead(rows, vectors, valid, keep, K, a, a_at, b, b_at, b_row, c, c_at, c_row, ahead, ahead_step):
    """The same, and at step k the cache line at address ahead + k * ahead_step is fetched, which may be any."""
    _gemm_tile(rows, vectors, valid, keep, K, a, a_at, b, b_at, b_row, c, c_at, c_row)


def _gemm_code(rows, vectors, valid, keep, K, a, a_at, b, b_at, b_row, c, c_at, c_row, *ahead):
    if not isinstance(rows, types.IntegerLiteral) or not isinstance(vectors, types.IntegerLiteral):
        return None
    R, V, i = rows.literal_value, vectors.literal_value, types.int64
    sig = types.void(rows, vectors, i, i, i, a, i, b, i, i, c, i, i, *(i for _ in ahead))

    def codegen(context, builder, sig, args):
        _, _, valid, keep, K, a_array, a_at, b_array, b_at, b_row, c_array, c_at, c_row = args[:13]
        v = Vector(context, builder, sig.args[5].dtype)

        def const(n):
            return ir.Constant(I64, n)

        a_next = cgutils.alloca_once_value(builder, _pointer(context, builder, sig.args[5], a_array, a_at))
        b_next = cgutils.alloca_once_value(builder, _pointer(context, builder, sig.args[7], b_array, b_at))
        total = [[cgutils.alloca_once_value(builder, v.zero) for _ in range(V)] for _ in range(R)]      # registers, after mem2reg
        place = cgutils.alloca_once_value(builder, args[13] if ahead else const(0))
        with cgutils.for_range(builder, K):
            if ahead:
                v.prefetch(builder.inttoptr(builder.load(place), BYTES), locality=SECOND_LEVEL)
                builder.store(builder.add(builder.load(place), args[14]), place)
            a_k, b_k = builder.load(a_next), builder.load(b_next)
            b_v = [v.load(builder.gep(b_k, [const(j * v.lanes)])) for j in range(V)]
            for r in range(R):
                a_r = v.broadcast(builder.load(builder.gep(a_k, [const(r)])))
                for j in range(V):
                    builder.store(v.pin(v.multiply_add(a_r, b_v[j], builder.load(total[r][j]))), total[r][j])
            builder.store(builder.gep(a_k, [const(R)]), a_next)
            builder.store(builder.gep(b_k, [b_row]), b_next)
        c0 = _pointer(context, builder, sig.args[10], c_array, c_at)

        def write(add):
            for r in range(R):
                with builder.if_then(builder.icmp_signed("<", const(r), valid), likely=True):
                    row = builder.gep(c0, [builder.mul(c_row, const(r))])
                    for j in range(V):
                        place, value = builder.gep(row, [const(j * v.lanes)]), builder.load(total[r][j])
                        v.store(builder.fadd(v.load(place), value) if add else value, place)

        with builder.if_else(builder.icmp_signed("!=", keep, const(0))) as (kept, over):
            with kept:
                write(True)
            with over:
                write(False)
        return context.get_dummy_value()

    return sig, codegen


def _gemm_tile_intrinsic(typingctx, rows, vectors, valid, keep, K, a, a_at, b, b_at, b_row, c, c_at, c_row):
    return _gemm_code(rows, vectors, valid, keep, K, a, a_at, b, b_at, b_row, c, c_at, c_row)


def _gemm_tile_ahead_intrinsic(typingctx, rows, vectors, valid, keep, K, a, a_at, b, b_at, b_row, c, c_at, c_row, ahead, ahead_step):
    return _gemm_code(rows, vectors, valid, keep, K, a, a_at, b, b_at, b_row, c, c_at, c_row, ahead, ahead_step)


def _copy_vectors(vectors, source, at, target, to):
    """target[to + i] = source[at + i] for i < vectors * lanes."""
    n = vectors * VECTOR_BYTES // source.itemsize
    target[to:to + n] = source[at:at + n]


def _copy_vectors_intrinsic(typingctx, vectors, source, at, target, to):
    if not isinstance(vectors, types.IntegerLiteral):
        return None

    def codegen(context, builder, sig, args):
        v = Vector(context, builder, sig.args[1].dtype)
        start, end = (_pointer(context, builder, sig.args[i], args[i], args[i + 1]) for i in (1, 3))
        for j in range(sig.args[0].literal_value):
            step = [ir.Constant(I64, j * v.lanes)]
            v.store(v.load(builder.gep(start, step)), builder.gep(end, step))
        return context.get_dummy_value()

    return types.void(vectors, source, types.int64, target, types.int64), codegen


def _copy_row(step, source, at, target, to, n):
    """target[to + i] = source[at + i * step] for i < n. step: the literal 1 or 2. Short rows are the point: no scalar tail from 4 on."""
    for i in range(n):
        target[to + i] = source[at + i * step]


def _emit_copy_row(v, S, start, end, n):
    """The code of `copy_row`: from and to pointers."""
    builder = v.b

    def chunk(w, i):
        """w elements from i on. Of a step of 2 two loads that end on the last element read: nothing behind it is touched."""
        at = builder.mul(i, ir.Constant(I64, S))
        value = v.load(builder.gep(start, [at]), w)
        if S == 2:
            rest = v.load(builder.gep(start, [builder.add(at, ir.Constant(I64, w - 1))]), w)
            even = ir.Constant(ir.VectorType(I32, w), [2 * j if j < w // 2 else 2 * j + 1 for j in range(w)])
            value = builder.shuffle_vector(value, rest, even)
        v.store(value, builder.gep(end, [i]))

    def rows_of(w):
        if w < 4:
            with cgutils.for_range(builder, n) as loop:
                element = builder.load(builder.gep(start, [builder.mul(loop.index, ir.Constant(I64, S))]))
                builder.store(element, builder.gep(end, [loop.index]))
            return
        last = builder.sub(n, ir.Constant(I64, w))
        with builder.if_else(builder.icmp_signed(">=", last, ir.Constant(I64, 0))) as (fits, short):
            with fits:
                with cgutils.for_range_slice(builder, ir.Constant(I64, 0), last, ir.Constant(I64, w), I64) as (i, _):
                    chunk(w, i)
                chunk(w, last)               # overlaps the one before where n is no multiple of w
            with short:
                rows_of(w // 2)

    rows_of(v.lanes)


def _copy_row_intrinsic(typingctx, step, source, at, target, to, n):
    if not isinstance(step, types.IntegerLiteral):
        return None
    i64 = types.int64

    def codegen(context, builder, sig, args):
        v = Vector(context, builder, sig.args[1].dtype)
        start, end = _pointer(context, builder, sig.args[1], args[1], args[2]), _pointer(context, builder, sig.args[3], args[3], args[4])
        _emit_copy_row(v, sig.args[0].literal_value, start, end, args[5])
        return context.get_dummy_value()

    return types.void(step, source, i64, target, i64, i64), codegen


def _copy_rows(step, source, at, source_row, target, to, target_row, rows, first, n, length):
    """For each of `rows` rows: `first` zeros, n elements of source a step apart, and zeros to fill `length`. step: the literal 1 or 2.

    Row r of source begins at source[at + r * source_row], of target at target[to + r * target_row].
    """
    for r in range(rows):
        end = to + r * target_row
        target[end:end + length] = 0
        for i in range(n):
            target[end + first + i] = source[at + r * source_row + i * step]


def _copy_rows_intrinsic(typingctx, step, source, at, source_row, target, to, target_row, rows, first, n, length):
    if not isinstance(step, types.IntegerLiteral):
        return None
    i = types.int64

    def codegen(context, builder, sig, args):
        _, _, _, source_row, _, _, target_row, rows, first, n, length = args
        v = Vector(context, builder, sig.args[1].dtype)
        zero = ir.Constant(v.scalar, 0.0)
        start = cgutils.alloca_once_value(builder, _pointer(context, builder, sig.args[1], args[1], args[2]))
        end = cgutils.alloca_once_value(builder, _pointer(context, builder, sig.args[4], args[4], args[5]))
        with cgutils.for_range(builder, rows):
            source_here, here = builder.load(start), builder.load(end)
            with cgutils.for_range(builder, first) as loop:
                builder.store(zero, builder.gep(here, [loop.index]))
            _emit_copy_row(v, sig.args[0].literal_value, source_here, builder.gep(here, [first]), n)
            with cgutils.for_range_slice(builder, builder.add(first, n), length, ir.Constant(I64, 1), I64) as (k, _):
                builder.store(zero, builder.gep(here, [k]))
            builder.store(builder.gep(source_here, [source_row]), start)
            builder.store(builder.gep(here, [target_row]), end)
        return context.get_dummy_value()

    return types.void(step, source, i, i, target, i, i, i, i, i, i), codegen


def _copy_runs(rows, first, last, source, at, source_row, target, to, target_row):
    """target[to + r * target_row + i] = source[at + r * source_row + i] for r < rows and first <= i < last <= lanes: one mask serves all rows."""
    for r in range(rows):
        for i in range(first, last):
            target[to + r * target_row + i] = source[at + r * source_row + i]


def _copy_runs_intrinsic(typingctx, rows, first, last, source, at, source_row, target, to, target_row):
    i = types.int64

    def codegen(context, builder, sig, args):
        rows, first, last, _, _, source_row, _, _, target_row = args
        v = Vector(context, builder, sig.args[3].dtype)
        start, end = (cgutils.alloca_once_value(builder, _pointer(context, builder, sig.args[n], args[n], args[n + 1])) for n in (3, 6))
        mask = builder.and_(builder.not_(v.mask(first)), v.mask(last))
        with cgutils.for_range(builder, rows):
            source_here, here = builder.load(start), builder.load(end)
            v.store_masked(v.load_masked(source_here, mask), here, mask)
            builder.store(builder.gep(source_here, [source_row]), start)
            builder.store(builder.gep(here, [target_row]), end)
        return context.get_dummy_value()

    return types.void(i, i, i, source, i, i, target, i, i), codegen


def _add_even(source, at, target, to, n):
    """target[to + 2 * i] += source[at + i] for i < n; the elements between them are loaded and stored again."""
    for i in range(n):
        target[to + 2 * i] += source[at + i]


def _add_even_intrinsic(typingctx, source, at, target, to, n):
    def codegen(context, builder, sig, args):
        v = Vector(context, builder, sig.args[0].dtype)
        start, end, n = _pointer(context, builder, sig.args[0], args[0], args[1]), _pointer(context, builder, sig.args[2], args[2], args[3]), args[4]
        done = cgutils.alloca_once_value(builder, ir.Constant(I64, 0))

        def chunk(w, i):
            value = v.load(builder.gep(start, [i]), w)
            for part in range(2):
                place = builder.gep(end, [builder.add(builder.mul(i, ir.Constant(I64, 2)), ir.Constant(I64, part * w))])
                old = v.load(place, w)
                spread = ir.Constant(ir.VectorType(I32, w), [part * w // 2 + j // 2 for j in range(w)])
                added = builder.fadd(old, builder.shuffle_vector(value, value, spread))
                mixed = ir.Constant(ir.VectorType(I32, w), [j if j % 2 == 0 else w + j for j in range(w)])
                v.store(builder.shuffle_vector(added, old, mixed), place)

        w = v.lanes
        while w >= 2:                            # as long as more than w are left, or the last store would reach behind the last element
            first, width = builder.load(done), ir.Constant(I64, w)
            chunks = builder.sdiv(builder.sub(builder.sub(n, first), ir.Constant(I64, 1)), width)
            stop = builder.add(first, builder.mul(chunks, width))
            with builder.if_then(builder.icmp_signed(">", chunks, ir.Constant(I64, 0))):
                with cgutils.for_range_slice(builder, first, stop, width, I64) as (i, _):
                    chunk(w, i)
                builder.store(stop, done)
            w //= 2
        with cgutils.for_range_slice(builder, builder.load(done), n, ir.Constant(I64, 1), I64) as (i, _):
            place = builder.gep(end, [builder.mul(i, ir.Constant(I64, 2))])
            builder.store(builder.fadd(builder.load(place), builder.load(builder.gep(start, [i]))), place)
        return context.get_dummy_value()

    i64 = types.int64
    return types.void(source, i64, target, i64, i64), codegen


def _transpose_block(rows, valid, source, at, source_row, target, to, target_row):
    """target[to + k * target_row + r] = source[at + r * source_row + k] for r < rows and k < lanes. rows: an integer literal.

    Of the source only `valid` rows are read, at least one; the last of them stands for those that are missing.
    """
    for k in range(VECTOR_BYTES // source.itemsize):
        for r in range(rows):
            target[to + k * target_row + r] = source[at + min(r, valid - 1) * source_row + k]


def _transpose_block_intrinsic(typingctx, rows, valid, source, at, source_row, target, to, target_row):
    if not isinstance(rows, types.IntegerLiteral):
        return None
    R, i = rows.literal_value, types.int64

    def codegen(context, builder, sig, args):
        v = Vector(context, builder, sig.args[2].dtype)
        start, end = _pointer(context, builder, sig.args[2], args[2], args[3]), _pointer(context, builder, sig.args[5], args[5], args[6])
        last = builder.sub(args[1], ir.Constant(I64, 1))
        for r0 in range(0, R, v.lanes):
            square = [v.zero] * v.lanes
            for r in range(r0, min(R, r0 + v.lanes)):
                row = ir.Constant(I64, r)
                row = builder.select(builder.icmp_signed("<", row, last), row, last)
                square[r - r0] = v.load(builder.gep(start, [builder.mul(args[4], row)]))
            for k, column in enumerate(v.transpose(square)):
                row = builder.gep(end, [builder.mul(args[7], ir.Constant(I64, k))])
                v.store_first(column, R - r0, builder.gep(row, [ir.Constant(I64, r0)]))
        return context.get_dummy_value()

    return types.void(rows, i, source, i, i, target, i, i), codegen


def _transpose_square(valid, source, at, source_row, target, to, target_row):
    """`transpose_block` of as many rows as there are lanes."""
    _transpose_block(VECTOR_BYTES // source.itemsize, valid, source, at, source_row, target, to, target_row)


def _transpose_square_intrinsic(typingctx, valid, source, at, source_row, target, to, target_row):
    rows = types.IntegerLiteral(VECTOR_BYTES * 8 // source.dtype.bitwidth)
    sig, emit = _transpose_block_intrinsic(typingctx, rows, valid, source, at, source_row, target, to, target_row)

    def codegen(context, builder, _, args):
        return emit(context, builder, sig, (None, *args))

    return types.void(*sig.args[1:]), codegen


def _lanes_of(array):
    """Elements of the array in one vector: a constant of the compiled kernel."""
    return VECTOR_BYTES // array.itemsize


def _lanes_of_intrinsic(typingctx, array):
    return types.int64(array), lambda context, builder, sig, args: ir.Constant(I64, VECTOR_BYTES * 8 // array.dtype.bitwidth)


def _one_of(condition, a, b):
    """a where the condition holds, else b: 1-D, contiguous, of one dtype. Both must be in use until after the result is: Numba does not count it.

    It counts an array of two names, and some that are handed on, at each call: an atomic instruction, which waits for all stores before it.
    """
    return a if condition else b


def _one_of_intrinsic(typingctx, condition, a, b):
    def codegen(context, builder, sig, args):
        arrays = [context.make_array(kind)(context, builder, value) for kind, value in zip(sig.args[1:], args[1:])]
        chosen = context.make_array(sig.return_type)(context, builder)
        for field in ("nitems", "itemsize", "data", "shape", "strides"):
            setattr(chosen, field, builder.select(builder.icmp_signed("!=", args[0], ir.Constant(I64, 0)), *(getattr(array, field) for array in arrays)))
        for field in ("meminfo", "parent"):
            setattr(chosen, field, cgutils.get_null_value(getattr(chosen, field).type))
        return chosen._getvalue()

    return a(types.int64, a, b), codegen


def _borrowed(array):
    """The array, whose users Numba does not count: see `one_of`."""
    return array


def _borrowed_intrinsic(typingctx, array):
    sig, emit = _one_of_intrinsic(typingctx, types.int64, array, array)

    def codegen(context, builder, _, args):
        return emit(context, builder, sig, (ir.Constant(I64, 1), args[0], args[0]))

    return array(array), codegen


def _integers(count, values):
    """values[0], ..., values[count - 1]: a tuple, and less to compile than so many subscripts. count: an integer literal."""
    return tuple(values[:count])


def _integers_intrinsic(typingctx, count, values):
    if not isinstance(count, types.IntegerLiteral):
        return None

    def codegen(context, builder, sig, args):
        start = _pointer(context, builder, sig.args[1], args[1], ir.Constant(I64, 0))
        return context.make_tuple(builder, sig.return_type, [builder.load(builder.gep(start, [ir.Constant(I64, i)])) for i in range(count.literal_value)])

    return types.UniTuple(values.dtype, count.literal_value)(count, values), codegen


def _turn_columns(source, at, source_row, n, target, places, places_at):
    """target[places[places_at + k] + r] = source[at + r * source_row + k] for r < lanes and k < n <= half a vector.

    Half a vector of each row of the source is read. places: int64.
    """
    for k in range(n):
        for r in range(VECTOR_BYTES // source.itemsize):
            target[places[places_at + k] + r] = source[at + r * source_row + k]


def _turn_columns_intrinsic(typingctx, source, at, source_row, n, target, places, places_at):
    i = types.int64

    def codegen(context, builder, sig, args):
        v = Vector(context, builder, sig.args[0].dtype)
        start, place = _pointer(context, builder, sig.args[0], args[0], args[1]), _pointer(context, builder, sig.args[5], args[5], args[6])
        end = _pointer(context, builder, sig.args[4], args[4], ir.Constant(I64, 0))
        halves = [v.load(builder.gep(start, [builder.mul(args[2], ir.Constant(I64, r))]), v.lanes // 2) for r in range(v.lanes)]
        for k, column in enumerate(v.transpose_halves(halves)):
            with builder.if_then(builder.icmp_signed("<", ir.Constant(I64, k), args[3]), likely=True):
                v.store(column, builder.gep(end, [builder.load(builder.gep(place, [ir.Constant(I64, k)]))]))
        return context.get_dummy_value()

    return types.void(source, i, i, i, target, places, i), codegen


def _turn_column(source, at, source_row, target, to):
    """target[to + r] = source[at + r * source_row] for r < lanes."""
    for r in range(VECTOR_BYTES // source.itemsize):
        target[to + r] = source[at + r * source_row]


def _turn_column_intrinsic(typingctx, source, at, source_row, target, to):
    i = types.int64

    def codegen(context, builder, sig, args):
        v = Vector(context, builder, sig.args[0].dtype)
        start, end = _pointer(context, builder, sig.args[0], *args[:2]), _pointer(context, builder, sig.args[3], *args[3:])
        column = v.zero
        for r in range(v.lanes):
            element = builder.load(builder.gep(start, [builder.mul(args[2], ir.Constant(I64, r))]))
            column = builder.insert_element(column, element, ir.Constant(I32, r))
        v.store(column, end)
        return context.get_dummy_value()

    return types.void(source, i, i, target, i), codegen


def _fma_burst(like, n):
    """Run n steps of CHAINS independent vector multiply-adds in the dtype of like, the core's peak. Returns a sum that depends on all.

    A fused multiply-add sums its product into the chain, as a register tile does (NEON has no other form). Two instructions are worth
    timing only if both are on the chain: a product of what never changes would be made once.
    """
    factor, term, total = like.dtype.type(0.999), like.dtype.type(0.125), like.dtype.type(0)
    for chain in range(CHAINS):
        value = like.dtype.type(chain)
        for _ in range(n):
            value = factor * term + value if FMA else value * factor + term
        total += value
    return total


def _fma_burst_intrinsic(typingctx, like, n):
    def codegen(context, builder, sig, args):
        v = Vector(context, builder, sig.args[0].dtype)
        factor, term = (v.pin(ir.Constant(v.type, [constant] * v.lanes)) for constant in (0.999, 0.125))
        chains = [cgutils.alloca_once_value(builder, ir.Constant(v.type, [float(i)] * v.lanes)) for i in range(CHAINS)]
        with cgutils.for_range(builder, args[1]):
            for chain in chains:
                value = builder.load(chain)
                builder.store(v.multiply_add(factor, term, value) if FMA else v.multiply_add(value, factor, term), chain)
        total = v.zero
        for chain in chains:
            total = builder.fadd(total, builder.load(chain))
        return builder.extract_element(total, ir.Constant(I32, 0))
    return like.dtype(like, types.int64), codegen


def _prefetch(source, at, n):
    """Bring the cache lines of source[at:at + n] near; they may lie outside."""


def _prefetch_intrinsic(typingctx, source, at, n):
    def codegen(context, builder, sig, args):
        v, start = Vector(context, builder, sig.args[0].dtype), _pointer(context, builder, sig.args[0], *args[:2])
        with cgutils.for_range_slice(builder, ir.Constant(I64, 0), args[2], ir.Constant(I64, LINE_BYTES // v.itemsize), I64) as (i, _):
            v.prefetch(builder.gep(start, [i]))
        return context.get_dummy_value()

    return types.void(source, types.int64, types.int64), codegen


def _prefetch_rows(write, source, at, row):
    """Bring the cache lines of source[at + r * row] near, r < lanes, to write there if the literal `write` is not 0; they may lie outside."""


def _prefetch_rows_intrinsic(typingctx, write, source, at, row):
    if not isinstance(write, types.IntegerLiteral):
        return None

    def codegen(context, builder, sig, args):
        v, place = Vector(context, builder, sig.args[1].dtype), _pointer(context, builder, sig.args[1], *args[1:3])
        for _ in range(v.lanes):
            v.prefetch(place, write=bool(write.literal_value))
            place = builder.gep(place, [args[3]])
        return context.get_dummy_value()

    return types.void(write, source, types.int64, types.int64), codegen


def _settle(stream):
    """Where stores went past the caches: wait until every core sees them."""


def _settle_intrinsic(typingctx, stream):
    def codegen(context, builder, sig, args):
        with builder.if_then(builder.icmp_signed("!=", args[0], ir.Constant(I64, 0))):
            if X86:
                builder.call(cgutils.get_or_insert_function(builder.module, ir.FunctionType(ir.VoidType(), []), "llvm.x86.sse.sfence"), [])
            else:
                builder.fence("release")
        return context.get_dummy_value()

    return types.void(types.int64), codegen


gemm_tile = either(_gemm_tile, _gemm_tile_intrinsic, literal=True)
gemm_tile_ahead = either(_gemm_tile_ahead, _gemm_tile_ahead_intrinsic, literal=True)
copy_vectors = either(_copy_vectors, _copy_vectors_intrinsic, literal=True)
copy_row = either(_copy_row, _copy_row_intrinsic, literal=True)
copy_rows = either(_copy_rows, _copy_rows_intrinsic, literal=True)
copy_runs = either(_copy_runs, _copy_runs_intrinsic)
add_even = either(_add_even, _add_even_intrinsic)
transpose_block = either(_transpose_block, _transpose_block_intrinsic, literal=True)
transpose_square = either(_transpose_square, _transpose_square_intrinsic)
lanes_of = either(_lanes_of, _lanes_of_intrinsic)
one_of = either(_one_of, _one_of_intrinsic)
borrowed = either(_borrowed, _borrowed_intrinsic)
integers = either(_integers, _integers_intrinsic, literal=True)
turn_columns = either(_turn_columns, _turn_columns_intrinsic)
turn_column = either(_turn_column, _turn_column_intrinsic)
fma_burst = either(_fma_burst, _fma_burst_intrinsic)
prefetch = either(_prefetch, _prefetch_intrinsic)
prefetch_rows = either(_prefetch_rows, _prefetch_rows_intrinsic, literal=True)
settle = either(_settle, _settle_intrinsic)
