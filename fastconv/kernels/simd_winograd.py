"""Winograd's transforms on vectors, each with a plain-loop twin: one tile of 16 channels (or as many as a vector has) at a time.

The matrices come from `points`. Points come in pairs +p and -p, and so do the sums: the even and the odd terms are added up once for both.
"""
from __future__ import annotations

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils

from . import points
from .simd import I64, LINE_BYTES, Vector, _pointer, either
from .simd_tiles import _accumulate
from .tiles import VECTOR_BYTES

# Which transform. Of squares of 6x6 points: pixels; filters 3x3 and 5x5 and their results; the gradient to the weights, F(3, 4). Of lines of 6.
INPUT, FILTER, FORWARD, FILTER_5, FORWARD_5, DOUT, WEIGHT, INPUT_ROW, INPUT_COLUMN, FILTER_LINE, FORWARD_ROW, FORWARD_COLUMN = range(12)
INPUT_2, FILTER_2, FORWARD_2 = range(12, 15)             # of squares of 4x4 points: 3x3 filters, 2x2 results
INPUT_STEPS, FILTER_STEPS, FORWARD_STEPS = range(15, 18)  # of 3x3 filters in steps of two, 2x2 results
INPUT_LONG, FILTER_LONG, FORWARD_LONG = range(18, 21)     # of lines of four taps, 4 results
POINTS = 6                                   # of one axis, infinity included
OUTPUTS = 4                                  # of one axis of a tile and three taps
B, G, A = points.source(points.SQUARES), points.kernel(3, points.SQUARES), points.result(OUTPUTS, points.SQUARES)
STEPS = points.strided(2, (0.0, 1.0))
LONG = points.through((0.0, 0.5, -0.5, 1.0, -1.0, -2.0), 4)
ONE = np.ones((1, 1))                        # an axis that is left as it is
MATRICES = {                                 # of both axes
    INPUT: (B, B), FILTER: (G, G), FORWARD: (A, A), FILTER_5: (points.kernel(5, points.SQUARES),) * 2, FORWARD_5: (points.result(2, points.SQUARES),) * 2,
    DOUT: (points.kernel(OUTPUTS, points.SQUARES),) * 2, WEIGHT: (points.result(3, points.SQUARES),) * 2,
    INPUT_2: (points.source(points.FEW),) * 2, FILTER_2: (points.kernel(3, points.FEW),) * 2, FORWARD_2: (points.result(2, points.FEW),) * 2,
    INPUT_STEPS: (STEPS[0],) * 2, FILTER_STEPS: (STEPS[1],) * 2, FORWARD_STEPS: (STEPS[2],) * 2,
    INPUT_LONG: (ONE, LONG[0]), FILTER_LONG: (ONE, LONG[1]), FORWARD_LONG: (ONE, LONG[2]),
    INPUT_ROW: (ONE, B), INPUT_COLUMN: (B, ONE), FILTER_LINE: (ONE, G), FORWARD_ROW: (ONE, A), FORWARD_COLUMN: (A, ONE),
}


def _const(n):
    return ir.Constant(I64, n)


def _full(v, number):
    return ir.Constant(v.type, [number] * v.lanes)


def _sum(v, factors, values):
    """The sum of factors[i] * values[i]; zeros cost nothing, ones no multiplication."""
    terms = sorted(((f, x) for f, x in zip(factors, values) if f), key=lambda term: term[0] != 1)
    factor, total = terms[0]
    if factor != 1:
        total = v.b.fmul(_full(v, factor), total)
    for factor, value in terms[1:]:
        if factor == 1:
            total = v.b.fadd(total, value)
        else:
            total = v.multiply_add(_full(v, factor), value, total)
    return total


def _terms(rows):
    """The rows in order, those for +p and -p, which differ in the sign of the odd terms alone, in pairs: lists of one or two places."""
    terms, i = [], 0
    while i < len(rows):
        paired = i + 1 < len(rows) and rows[i][1::2].any() and (rows[i] * (-1.0) ** np.arange(len(rows[i])) == rows[i + 1]).all()
        terms.append([i, i + 1] if paired else [i])
        i += len(terms[-1])
    return terms


def _to_points(v, matrix, values):
    """matrix @ values for a matrix whose rows belong to points."""
    if len(matrix) == 1:
        return values
    out = []
    for term in _terms(matrix):
        row = matrix[term[0]]
        if len(term) == 1:
            out.append(_sum(v, row, values))
        else:
            even, scale = _sum(v, row[::2], values[::2]), next(f for f in row[1::2] if f)
            odd = _sum(v, row[1::2] / scale, values[1::2])
            out += [v.multiply_add(_full(v, scale), odd, even), v.multiply_add(_full(v, -scale), odd, even)]
    return out


def _from_points(v, matrix, values):
    """matrix @ values for a matrix whose columns belong to points."""
    if len(matrix) == 1:
        return values
    terms = _terms(matrix.T)
    added = [values[t[0]] if len(t) == 1 else (v.b.fadd(values[t[0]], values[t[1]]), v.b.fsub(values[t[0]], values[t[1]])) for t in terms]
    return [_sum(v, [row[t[0]] for t in terms], [value if len(t) == 1 else value[j % 2] for t, value in zip(terms, added)]) for j, row in enumerate(matrix)]


def _spread(kind, source, at, pitch, target, to, step):
    """target[to + (i * columns + j) * step + l] = (R d C^T)[i, j], d[r, s] = source[at + (r * pitch + s) * lanes + l], for every lane l.

    kind: the integer literal of a transform of pixels, filters or gradients; R and C its matrices, which have len(C) = columns.
    """
    (rows, columns), lanes = MATRICES[kind], VECTOR_BYTES // source.itemsize
    for lane in range(lanes):
        block = np.array([[source[at + (r * pitch + s) * lanes + lane] for s in range(columns.shape[1])] for r in range(rows.shape[1])])
        for e, value in enumerate((rows @ block @ columns.T).ravel()):
            target[to + e * step + lane] = value


def _spread_intrinsic(typingctx, kind, source, at, pitch, target, to, step):
    if not isinstance(kind, types.IntegerLiteral):
        return None
    (by_row, by_column), i = MATRICES[kind.literal_value], types.int64

    def codegen(context, builder, sig, args):
        v = Vector(context, builder, sig.args[1].dtype)
        start, end = _pointer(context, builder, sig.args[1], args[1], args[2]), _pointer(context, builder, sig.args[4], args[4], args[5])
        lines = [builder.gep(start, [builder.mul(args[3], _const(r * v.lanes))]) for r in range(by_row.shape[1])]
        columns = [_to_points(v, by_row, [v.load(builder.gep(line, [_const(s * v.lanes)])) for line in lines]) for s in range(by_column.shape[1])]
        for p in range(len(by_row)):
            for q, value in enumerate(_to_points(v, by_column, [column[p] for column in columns])):
                v.store(value, builder.gep(end, [builder.mul(args[6], _const(len(by_column) * p + q))]))
        return context.get_dummy_value()

    return types.void(kind, source, i, i, target, i, i), codegen


def _collect(kind, source, at, step, target, to, pitch, rows, columns):
    """target[to + (r * pitch + s) * lanes + l] = (R m C^T)[r, s], m[i, j] = source[at + (i * points + j) * step + l], for r < rows, s < columns.

    kind: the integer literal of a transform of results; R and C its matrices, C of so many points. Returns whether any of all its results, of
    any lane, is not finite.
    """
    (by_row, by_column), lanes, finite = MATRICES[kind], VECTOR_BYTES // source.itemsize, True
    for lane in range(lanes):
        block = np.array([source[at + e * step + lane] for e in range(by_row.shape[1] * by_column.shape[1])])
        with np.errstate(all="ignore"):
            done = (by_row @ block.reshape(by_row.shape[1], by_column.shape[1]) @ by_column.T).astype(source.dtype)
        finite = finite and bool(np.isfinite(done).all())
        for r in range(min(rows, len(by_row))):
            for s in range(min(columns, len(by_column))):
                target[to + (r * pitch + s) * lanes + lane] = done[r, s]
    return not finite


def _collect_intrinsic(typingctx, kind, source, at, step, target, to, pitch, rows, columns):
    if not isinstance(kind, types.IntegerLiteral):
        return None
    (by_row, by_column), i = MATRICES[kind.literal_value], types.int64
    (high, m), (wide, n) = by_row.shape, by_column.shape

    def codegen(context, builder, sig, args):
        v = Vector(context, builder, sig.args[1].dtype)
        start, end = _pointer(context, builder, sig.args[1], args[1], args[2]), _pointer(context, builder, sig.args[4], args[4], args[5])
        step, pitch, rows, columns = args[3], args[6], args[7], args[8]

        def load(e):
            return v.load(builder.gep(start, [builder.mul(step, _const(e))]))

        halves = [_from_points(v, by_row, [load(n * p + q) for p in range(m)]) for q in range(n)]
        done = [_from_points(v, by_column, [half[r] for half in halves]) for r in range(high)]
        seen = v.zero                        # finite numbers times zero are zero
        for line in done:
            for value in line:
                seen = v.multiply_add(value, v.zero, seen)
        lines = [builder.gep(end, [builder.mul(pitch, _const(r * v.lanes))]) for r in range(high)]
        whole = builder.and_(builder.icmp_signed(">=", rows, _const(high)), builder.icmp_signed(">=", columns, _const(wide)))

        def write(r, s):
            v.store(done[r][s], builder.gep(lines[r], [_const(s * v.lanes)]))

        with builder.if_else(whole, likely=True) as (inside, edge):
            with inside:
                for r in range(high):
                    for s in range(wide):
                        write(r, s)
            with edge:
                for r in range(high):
                    with builder.if_then(builder.icmp_signed("<", _const(r), rows)):
                        for s in range(wide):
                            with builder.if_then(builder.icmp_signed("<", _const(s), columns)):
                                write(r, s)
        bits = ir.IntType(v.lanes)
        return builder.icmp_unsigned("!=", builder.bitcast(builder.fcmp_unordered("uno", seen, seen), bits), ir.Constant(bits, 0))

    return types.boolean(kind, source, i, i, target, i, i, i, i), codegen


def _place_pixels(valid, source, at, source_row, target, to, places, places_at):
    """target[to + places[places_at + k] + r] = source[at + r * source_row + k], for k < lanes and r < lanes.

    Of the source only `valid` rows are read, at least one; the last of them stands for those that are missing. places: int64.
    """
    lanes = VECTOR_BYTES // source.itemsize
    for k in range(lanes):
        for r in range(lanes):
            target[to + places[places_at + k] + r] = source[at + min(r, valid - 1) * source_row + k]


def _place_pixels_intrinsic(typingctx, valid, source, at, source_row, target, to, places, places_at):
    i = types.int64

    def codegen(context, builder, sig, args):
        v = Vector(context, builder, sig.args[1].dtype)
        start, end, place = (_pointer(context, builder, sig.args[n], args[n], args[n + 1]) for n in (1, 4, 6))
        last = builder.sub(args[0], _const(1))
        rows = [builder.select(builder.icmp_signed("<", _const(r), last), _const(r), last) for r in range(v.lanes)]
        square = [v.load(builder.gep(start, [builder.mul(args[3], row)])) for row in rows]
        for k, column in enumerate(v.transpose(square)):
            v.store(column, builder.gep(end, [builder.load(builder.gep(place, [_const(k)]))]))
        return context.get_dummy_value()

    return types.void(i, source, i, i, target, i, places, i), codegen


def _copy_apart(count, source, at, source_step, target, to, target_step):
    """target[to + k * target_step] = source[at + k * source_step] for k < count."""
    for k in range(count):
        target[to + k * target_step] = source[at + k * source_step]


def _copy_apart_intrinsic(typingctx, count, source, at, source_step, target, to, target_step):
    i = types.int64

    def codegen(context, builder, sig, args):
        start, end = _pointer(context, builder, sig.args[1], args[1], args[2]), _pointer(context, builder, sig.args[4], args[4], args[5])
        with cgutils.for_range(builder, args[0]) as loop:
            builder.store(builder.load(builder.gep(start, [builder.mul(loop.index, args[3])])), builder.gep(end, [builder.mul(loop.index, args[6])]))
        return context.get_dummy_value()

    return types.void(i, source, i, i, target, i, i), codegen


def _product_tile(rows, vectors, level, apart, keep, K, block, a, a_at, a_step, a_block, b, b_at, c, c_at, c_row, ahead, ahead_step):
    """c[c_at + r * c_row + j] (+)= the sum over k < K of a[a_at + r * apart + place(k)] * b[b_at + k * width + j], for r < rows, j < width.

    place(k) = k // block * a_block + k % block * a_step; width = vectors * lanes; keep: add to what stands in c. rows, vectors, level and apart:
    integer literals, so that one register holds the place of all rows of a; apart of 0: a vector. At step k the cache lines of the `width` elements from
    b[b_at + ahead + k * ahead_step] on are fetched, which may be anywhere, into the caches that `level` says.
    """
    width, apart = vectors * VECTOR_BYTES // a.itemsize, apart or VECTOR_BYTES // a.itemsize
    for r in range(rows):
        for j in range(width):
            total = a.dtype.type(0)
            for k in range(K):
                total += a[a_at + r * apart + k // block * a_block + k % block * a_step] * b[b_at + k * width + j]
            place = c_at + r * c_row + j
            c[place] = c[place] + total if keep else total


def _product_tile_intrinsic(typingctx, rows, vectors, level, apart, keep, K, block, a, a_at, a_step, a_block, b, b_at, c, c_at, c_row, ahead, ahead_step):
    if not all(isinstance(literal, types.IntegerLiteral) for literal in (rows, vectors, level, apart)):
        return None
    R, V, i = rows.literal_value, vectors.literal_value, types.int64
    sig = types.void(rows, vectors, level, apart, i, i, i, a, i, i, i, b, i, c, i, i, i, i)

    def codegen(context, builder, sig, args):
        keep, K, block, a_step, a_block, c_row, ahead, ahead_step = *args[4:7], *args[9:11], *args[15:]
        v = Vector(context, builder, sig.args[7].dtype)
        row = apart.literal_value or v.lanes
        a0, b0, c0 = (_pointer(context, builder, sig.args[n], args[n], args[n + 1]) for n in (7, 11, 13))
        total = [[cgutils.alloca_once_value(builder, v.zero) for _ in range(V)] for _ in range(R)]
        a_next, b_next, a_here, fetch = (cgutils.alloca_once_value(builder, start) for start in (a0, b0, a0, builder.gep(b0, [ahead])))
        with cgutils.for_range_slice(builder, _const(0), K, block, I64) as (first, _):
            left, start = builder.sub(K, first), builder.load(a_next)
            builder.store(start, a_here)
            with cgutils.for_range(builder, builder.select(builder.icmp_signed("<", left, block), left, block)):
                a_k, b_k = builder.load(a_here), builder.load(b_next)
                b_v = [v.load(builder.gep(b_k, [_const(j * v.lanes)])) for j in range(V)]
                for line in range(0, V * VECTOR_BYTES, LINE_BYTES):
                    v.prefetch(builder.gep(builder.load(fetch), [_const(line // v.itemsize)]), locality=level.literal_value)
                builder.store(builder.gep(builder.load(fetch), [ahead_step]), fetch)
                _accumulate(builder, v, total, lambda r: builder.load(builder.gep(a_k, [_const(r * row)])), b_v)
                builder.store(builder.gep(a_k, [a_step]), a_here)
                builder.store(builder.gep(b_k, [_const(V * v.lanes)]), b_next)
            builder.store(builder.gep(start, [a_block]), a_next)
        lines = [builder.gep(c0, [builder.mul(c_row, _const(r))]) for r in range(R)]
        places = [[builder.gep(line, [_const(j * v.lanes)]) for j in range(V)] for line in lines]
        with builder.if_then(builder.icmp_signed("!=", keep, _const(0))):
            for line, sums in zip(places, total):
                for place, value in zip(line, sums):
                    builder.store(builder.fadd(v.load(place), builder.load(value)), value)
        for line, sums in zip(places, total):
            for place, value in zip(line, sums):
                v.store(builder.load(value), place)
        return context.get_dummy_value()

    return sig, codegen


spread = either(_spread, _spread_intrinsic, literal=True)
collect = either(_collect, _collect_intrinsic, literal=True)
copy_apart = either(_copy_apart, _copy_apart_intrinsic)
place_pixels = either(_place_pixels, _place_pixels_intrinsic)
product_tile = either(_product_tile, _product_tile_intrinsic, literal=True)
