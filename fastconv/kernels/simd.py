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

from .tiles import FMA, VECTOR_BYTES

I32, I64 = ir.IntType(32), ir.IntType(64)
CHAINS = 24                                  # independent accumulators of the burst: enough to hide the latency of any multiply-add


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
        self.zero = ir.Constant(self.type, [0.0] * self.lanes)
        self._undefined = ir.Constant(self.type, ir.Undefined)
        self._splat = ir.Constant(ir.VectorType(I32, self.lanes), [0] * self.lanes)
        name = f"llvm.fma.v{self.lanes}f{element.bitwidth}"
        self._fma = cgutils.get_or_insert_function(builder.module, ir.FunctionType(self.type, [self.type] * 3), name) if FMA else None

    def load(self, pointer):
        value = self.b.load(self.b.bitcast(pointer, self.type.as_pointer()))
        value.align = self.itemsize
        return value

    def store(self, value, pointer):
        self.b.store(value, self.b.bitcast(pointer, self.type.as_pointer())).align = self.itemsize

    def store_first(self, value, n, pointer):
        """Store the first n lanes of value."""
        if n >= self.lanes:
            return self.store(value, pointer)
        mask_type, place = ir.VectorType(ir.IntType(1), self.lanes), self.b.bitcast(pointer, self.type.as_pointer())
        function = ir.FunctionType(ir.VoidType(), [self.type, place.type, I32, mask_type])
        name = f"llvm.masked.store.v{self.lanes}f{8 * self.itemsize}.p0"
        self.b.call(cgutils.get_or_insert_function(self.b.module, function, name),
                    [value, place, ir.Constant(I32, self.itemsize), ir.Constant(mask_type, [int(i < n) for i in range(self.lanes)])])

    def transpose(self, rows):
        """`lanes` vectors as the rows of a square matrix; its columns. One exchange of halves, quarters, ... a step."""
        n, half = self.lanes, self.lanes // 2
        while half:
            low = ir.Constant(ir.VectorType(I32, n), [i if not i & half else n + i - half for i in range(n)])
            high = ir.Constant(ir.VectorType(I32, n), [i + half if not i & half else n + i for i in range(n)])
            for i in range(n):
                if not i & half:
                    a, b = rows[i], rows[i + half]
                    rows[i], rows[i + half] = self.b.shuffle_vector(a, b, low), self.b.shuffle_vector(a, b, high)
            half //= 2
        return rows

    def broadcast(self, scalar):
        one = self.b.insert_element(self._undefined, scalar, ir.Constant(I32, 0))
        return self.b.shuffle_vector(one, self._undefined, self._splat)

    def multiply_add(self, x, y, z):
        """x * y + z, fused where the processor can."""
        if self._fma is not None:
            return self.b.call(self._fma, [x, y, z])
        return self.b.fadd(self.b.fmul(x, y), z)


def _pointer(context, builder, array_type, array, at):
    return builder.gep(context.make_array(array_type)(context, builder, array).data, [at])


def _gemm_tile(rows, vectors, K, a, a_at, b, b_at, b_row, c, c_at, c_row):
    """c[c_at + r * c_row + j] += sum over k of a[a_at + k * rows + r] * b[b_at + k * b_row + j], for r < rows and j < width.

    width = vectors * lanes. a (K, rows) is packed; rows of b and c hold at least `width` elements, b_row and c_row apart.
    a, b, c: 1-D, contiguous, one floating dtype; rows and vectors: integer literals. One chain of K terms for each element.
    """
    width = vectors * VECTOR_BYTES // a.itemsize
    for r in range(rows):
        for j in range(width):
            total = a.dtype.type(0)
            for k in range(K):
                total += a[a_at + k * rows + r] * b[b_at + k * b_row + j]
            c[c_at + r * c_row + j] += total


def _gemm_tile_intrinsic(typingctx, rows, vectors, K, a, a_at, b, b_at, b_row, c, c_at, c_row):
    if not isinstance(rows, types.IntegerLiteral) or not isinstance(vectors, types.IntegerLiteral):
        return None
    R, V, i = rows.literal_value, vectors.literal_value, types.int64
    sig = types.void(rows, vectors, i, a, i, b, i, i, c, i, i)

    def codegen(context, builder, sig, args):
        _, _, K, a_array, a_at, b_array, b_at, b_row, c_array, c_at, c_row = args
        v = Vector(context, builder, sig.args[3].dtype)

        def const(n):
            return ir.Constant(I64, n)

        a_next = cgutils.alloca_once_value(builder, _pointer(context, builder, sig.args[3], a_array, a_at))
        b_next = cgutils.alloca_once_value(builder, _pointer(context, builder, sig.args[5], b_array, b_at))
        total = [[cgutils.alloca_once_value(builder, v.zero) for _ in range(V)] for _ in range(R)]      # registers, after mem2reg
        with cgutils.for_range(builder, K):
            a_k, b_k = builder.load(a_next), builder.load(b_next)
            b_v = [v.load(builder.gep(b_k, [const(j * v.lanes)])) for j in range(V)]
            for r in range(R):
                a_r = v.broadcast(builder.load(builder.gep(a_k, [const(r)])))
                for j in range(V):
                    builder.store(v.multiply_add(a_r, b_v[j], builder.load(total[r][j])), total[r][j])
            builder.store(builder.gep(a_k, [const(R)]), a_next)
            builder.store(builder.gep(b_k, [b_row]), b_next)
        c0 = _pointer(context, builder, sig.args[8], c_array, c_at)
        for r in range(R):
            row = builder.gep(c0, [builder.mul(c_row, const(r))])
            for j in range(V):
                place = builder.gep(row, [const(j * v.lanes)])
                v.store(builder.fadd(v.load(place), builder.load(total[r][j])), place)
        return context.get_dummy_value()

    return sig, codegen


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


def _transpose_block(rows, source, at, source_row, target, to, target_row):
    """target[to + k * target_row + r] = source[at + r * source_row + k] for r < rows and k < lanes. rows: an integer literal."""
    for k in range(VECTOR_BYTES // source.itemsize):
        for r in range(rows):
            target[to + k * target_row + r] = source[at + r * source_row + k]


def _transpose_block_intrinsic(typingctx, rows, source, at, source_row, target, to, target_row):
    if not isinstance(rows, types.IntegerLiteral):
        return None
    R, i = rows.literal_value, types.int64

    def codegen(context, builder, sig, args):
        v = Vector(context, builder, sig.args[1].dtype)
        start, end = _pointer(context, builder, sig.args[1], args[1], args[2]), _pointer(context, builder, sig.args[4], args[4], args[5])
        for r0 in range(0, R, v.lanes):
            square = [v.zero] * v.lanes
            for r in range(r0, min(R, r0 + v.lanes)):
                square[r - r0] = v.load(builder.gep(start, [builder.mul(args[3], ir.Constant(I64, r))]))
            for k, column in enumerate(v.transpose(square)):
                row = builder.gep(end, [builder.mul(args[6], ir.Constant(I64, k))])
                v.store_first(column, R - r0, builder.gep(row, [ir.Constant(I64, r0)]))
        return context.get_dummy_value()

    return types.void(rows, source, i, i, target, i, i), codegen


def _fma_burst(like, n):
    """Run n steps of CHAINS independent vector multiply-adds of like's dtype: the core's peak. Returns a sum that depends on all."""
    total = like.dtype.type(0)
    for chain in range(CHAINS):
        value = like.dtype.type(chain)
        for _ in range(n):
            value = value * like.dtype.type(0.999) + like.dtype.type(1e-6)
        total += value
    return total


def _fma_burst_intrinsic(typingctx, like, n):
    def codegen(context, builder, sig, args):
        v = Vector(context, builder, sig.args[0].dtype)
        factor, term = ir.Constant(v.type, [0.999] * v.lanes), ir.Constant(v.type, [1e-6] * v.lanes)
        chains = [cgutils.alloca_once_value(builder, ir.Constant(v.type, [float(i)] * v.lanes)) for i in range(CHAINS)]
        with cgutils.for_range(builder, args[1]):
            for chain in chains:
                builder.store(v.multiply_add(builder.load(chain), factor, term), chain)
        total = v.zero
        for chain in chains:
            total = builder.fadd(total, builder.load(chain))
        return builder.extract_element(total, ir.Constant(I32, 0))
    return like.dtype(like, types.int64), codegen


if config.DISABLE_JIT:
    gemm_tile, copy_vectors, transpose_block, fma_burst = _gemm_tile, _copy_vectors, _transpose_block, _fma_burst
else:
    gemm_tile = intrinsic(prefer_literal=True)(_gemm_tile_intrinsic)
    copy_vectors = intrinsic(prefer_literal=True)(_copy_vectors_intrinsic)
    transpose_block = intrinsic(prefer_literal=True)(_transpose_block_intrinsic)
    fma_burst = intrinsic(_fma_burst_intrinsic)
    for _compiled, _twin in ((gemm_tile, _gemm_tile), (copy_vectors, _copy_vectors), (transpose_block, _transpose_block),
                             (fma_burst, _fma_burst)):
        _compiled.__doc__ = _twin.__doc__
