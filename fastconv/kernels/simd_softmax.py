"""The gradient of softmax across lines of memory, with its plain-loop twin."""
from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.core import cgutils

from .norm_simd import DOUBLE, Lanes, emit_prefetch, emit_run
from .simd import ALL_LEVELS, I32, I64, _pointer, either
from .tiles import VECTOR_BYTES


def _column_gradients(y, dout, dx, at, D, inner, n, ahead, past):
    """dx = y * (dout - the sum over D of dout * y) at each at + d * inner + j, d < D, j < n; the sum in float64.

    past: whether to store whole lines past the caches; what follows `ahead` elements later is then asked for meanwhile.
    """
    for j in range(at, at + n):
        total = 0.0
        for i in range(j, j + D * inner, inner):
            total += float(dout[i] * y[i])
        for i in range(j, j + D * inner, inner):
            dx[i] = y[i] * (dout[i] - y.dtype.type(total))


def _column_gradients_intrinsic(typingctx, y, dout, dx, at, D, inner, n, ahead, past):
    def codegen(context, builder, sig, args):
        b, scalar = builder, context.get_value_type(sig.args[0].dtype)
        v = Lanes(b, scalar, VECTOR_BYTES // (8 if scalar == DOUBLE else 4))
        sources, target = [_pointer(context, b, sig.args[i], args[i], args[3]) for i in (0, 1)], _pointer(context, b, sig.args[2], args[2], args[3])
        D, inner, n, ahead, past = args[4:]
        alike = b.icmp_signed("==", b.and_(inner, ir.Constant(I64, v.lanes - 1)), ir.Constant(I64, 0))

        def each(w, j, mask=None, past=False):
            # A vector of float32 has its sums in float64 in two vectors, a lone element in one.
            count = 1 if scalar == DOUBLE or w.lanes == 1 else 2
            kind = ir.VectorType(DOUBLE, w.lanes // count)
            parts = [ir.Constant(ir.VectorType(I32, kind.count), list(range(i, i + kind.count))) for i in range(0, w.lanes, kind.count)]
            totals = [cgutils.alloca_once(b, kind) for _ in parts]
            for total in totals:
                b.store(ir.Constant(kind, [0.0] * kind.count), total)

            def here(d):
                place = b.add(j, b.mul(d, inner))
                return place, *(w.load(b.gep(source, [place]), mask) for source in sources)

            with cgutils.for_range(b, D) as loop:
                _, value, e = here(loop.index)
                product = b.fmul(e, value)
                for part, total in zip(parts, totals):
                    term = b.shuffle_vector(product, product, part)
                    b.store(b.fadd(b.load(total), term if scalar == DOUBLE else b.fpext(term, kind)), total)
            found = [b.load(total) if scalar == DOUBLE else b.fptrunc(b.load(total), ir.VectorType(scalar, kind.count)) for total in totals]
            share = b.shuffle_vector(found[0], found[-1], ir.Constant(ir.VectorType(I32, w.lanes), list(range(w.lanes))))
            with cgutils.for_range(b, D) as loop:
                place, value, e = here(loop.index)
                for source in sources if past else ():
                    emit_prefetch(b, b.gep(source, [b.add(place, ahead)]), locality=ALL_LEVELS)
                w.store(b.fmul(value, b.fsub(e, share)), b.gep(target, [place]), mask, past)

        past = b.icmp_signed("!=", past, ir.Constant(I64, 0))
        emit_run(b, v, n, each, target, b.and_(past, alike), past)
        return context.get_dummy_value()

    i = types.int64
    return types.void(y, dout, dx, i, i, i, i, i, i), codegen


column_gradients = either(_column_gradients, _column_gradients_intrinsic)
