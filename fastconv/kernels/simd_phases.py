"""The register tile of the gradient to the input at stride 2, and its plain-loop twin: every phase of some channels, a vector of pixels each.

Pixel (i, j) of dx falls into phase (i % 2, j % 2), and the phases of one channel read the same pixels of dout with taps of their own. The tile
keeps the sums of all four, so that each vector of dout is loaded once for all of them, no multiplication is wasted on a tap that a phase does
not have, and nothing is added up in memory: two phases side by side are rows of dx.
"""
from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.core import cgutils

from .simd import I32, I64, Vector, _pointer, either
from .simd_tiles import KEEP, _accumulate, _const, _flag
from .tiles import VECTOR_BYTES

# A shift of dout serves the phases of some parities, the same along both axes or not: which of the rows, and which of the columns.
PARITIES = ((0,), (1,), (0, 1))
CLASSES = [(rows, columns) for rows in PARITIES for columns in PARITIES]


def _phase_tile(channels, vectors, valid, flags, outer, step, x, x_at, table, table_at, a, a_at, y, y_at, y_row, y_plane, rows, columns):
    """y[y_at + c * y_plane + p * y_row + 2 * j + q] = sum over o < outer and the shifts s of phase (p, q) of x[x_at + o * step + s + j] * its weight.

    For c < channels and c < valid, p < 2 and p < rows, 2 * j + q < 2 * width and 2 * j + q < columns, width = vectors * lanes. From table_at on
    the table says for each of CLASSES how many shifts it has, then all shifts, class by class. a: for each o, shift by shift, `channels`
    weights for each phase of the class. channels, vectors: integer literals. flags: KEEP or 0. Of x all `width` elements from each place on
    are read.
    """
    width = vectors * VECTOR_BYTES // x.itemsize
    for c in range(min(channels, valid)):
        for place in range(2 * 2 * width):
            p, j, q = place // (2 * width), place % (2 * width) // 2, place % 2
            if p >= rows or 2 * j + q >= columns:
                continue
            total, weight = x.dtype.type(0), a_at
            for o in range(outer):
                shift = table_at + 9
                for k in range(9):           # 1: phase 0, 2: phase 1, 3: both
                    down, along = k // 3 + 1, k % 3 + 1
                    here = (down >> p & 1) * (along >> q & 1)
                    before = (p if down == 3 else 0) * (2 if along == 3 else 1) + (q if along == 3 else 0)
                    for _ in range(table[table_at + k]):
                        if here:
                            total += x[x_at + o * step + table[shift] + j] * a[weight + before * channels + c]
                        weight += (2 if down == 3 else 1) * (2 if along == 3 else 1) * channels
                        shift += 1
            to = y_at + c * y_plane + p * y_row + 2 * j + q
            y[to] = y[to] + total if flags & KEEP else total


def _phase_tile_intrinsic(typingctx, channels, vectors, valid, flags, outer, step, x, x_at, table, table_at, a, a_at, y, y_at, y_row, y_plane, rows,
                          columns):
    if not isinstance(channels, types.IntegerLiteral) or not isinstance(vectors, types.IntegerLiteral):
        return None
    C, V, i = channels.literal_value, vectors.literal_value, types.int64
    sig = types.void(channels, vectors, i, i, i, i, x, i, table, i, a, i, y, i, i, i, i, i)

    def codegen(context, builder, sig, args):
        valid, flags, outer, step = args[2:6]
        y_row, y_plane, rows, columns = args[14:]
        v = Vector(context, builder, sig.args[6].dtype)
        x0, table0, a0, y0 = (_pointer(context, builder, sig.args[n], args[n], args[n + 1]) for n in (6, 8, 10, 12))
        total = [[[cgutils.alloca_once_value(builder, v.zero) for _ in range(V)] for _ in range(C)] for _ in range(4)]     # phase, channel, vector
        at, a_next, shift_next = (cgutils.alloca_once_value(builder, start) for start in (x0, a0, table0))
        with cgutils.for_range(builder, outer):
            x_here = builder.load(at)
            builder.store(builder.gep(table0, [_const(len(CLASSES))]), shift_next)
            for k, (down, along) in enumerate(CLASSES):
                with cgutils.for_range(builder, builder.load(builder.gep(table0, [_const(k)]))):
                    shift, a_here = builder.load(shift_next), builder.load(a_next)
                    place = builder.gep(x_here, [builder.load(shift)])
                    x_v = [v.load(builder.gep(place, [_const(j * v.lanes)])) for j in range(V)]
                    sums = [row for p in down for q in along for row in total[2 * p + q]]
                    _accumulate(builder, v, sums, lambda r, a_here=a_here: builder.load(builder.gep(a_here, [_const(r)])), x_v)
                    builder.store(builder.gep(a_here, [_const(len(sums))]), a_next)
                    builder.store(builder.gep(shift, [_const(1)]), shift_next)
            builder.store(builder.gep(x_here, [step]), at)
        orders = [ir.Constant(ir.VectorType(I32, v.lanes), [half * v.lanes // 2 + n // 2 + n % 2 * v.lanes for n in range(v.lanes)]) for half in range(2)]
        masks = [v.mask(builder.sub(columns, _const(n * v.lanes))) for n in range(2 * V)]
        keep = _flag(builder, flags, KEEP)
        for c in range(C):
            for p in range(2):
                exists = builder.and_(builder.icmp_signed("<", _const(c), valid), builder.icmp_signed("<", _const(p), rows))
                with builder.if_then(exists, likely=True):
                    row = builder.gep(y0, [builder.add(builder.mul(y_plane, _const(c)), builder.mul(y_row, _const(p)))])
                    even, odd = ([builder.load(place) for place in total[2 * p + q][c]] for q in range(2))
                    both = [builder.shuffle_vector(even[n // 2], odd[n // 2], orders[n % 2]) for n in range(2 * V)]
                    places = [builder.gep(row, [_const(n * v.lanes)]) for n in range(2 * V)]
                    with builder.if_else(keep, likely=False) as (kept, over):
                        with kept:
                            for value, place, mask in zip(both, places, masks):
                                v.store_masked(builder.fadd(v.load_masked(place, mask), value), place, mask)
                        with over:
                            for value, place, mask in zip(both, places, masks):
                                v.store_masked(value, place, mask)
        return context.get_dummy_value()

    return sig, codegen


def _merge_row(source, even, odd, n, target, to):
    """target[to + 2 * j] = source[even + j] and target[to + 2 * j + 1] = source[odd + j], for j < n."""
    for j in range(n):
        target[to + 2 * j] = source[even + j]
        target[to + 2 * j + 1] = source[odd + j]


def _merge_row_intrinsic(typingctx, source, even, odd, n, target, to):
    i = types.int64

    def codegen(context, builder, sig, args):
        n, v = args[3], Vector(context, builder, sig.args[0].dtype)
        even, odd = (_pointer(context, builder, sig.args[0], args[0], at) for at in args[1:3])
        end = _pointer(context, builder, sig.args[4], args[4], args[5])

        def chunk(w, j):
            """w elements of each, from j on."""
            halves, at = [v.load(builder.gep(start, [j]), w) for start in (even, odd)], builder.mul(j, _const(2))
            for part in range(2):
                order = ir.Constant(ir.VectorType(I32, w), [part * w // 2 + k // 2 + k % 2 * w for k in range(w)])
                v.store(builder.shuffle_vector(*halves, order), builder.gep(end, [builder.add(at, _const(part * w))]))

        def rows_of(w):
            if w < 2:
                with builder.if_then(builder.icmp_signed(">", n, _const(0))):
                    for part, start in enumerate((even, odd)):
                        builder.store(builder.load(start), builder.gep(end, [_const(part)]))
                return
            last = builder.sub(n, _const(w))
            with builder.if_else(builder.icmp_signed(">=", last, _const(0))) as (fits, short):
                with fits:
                    with cgutils.for_range_slice(builder, _const(0), last, _const(w), I64) as (j, _):
                        chunk(w, j)
                    chunk(w, last)           # overlaps the one before where n is no multiple of w
                with short:
                    rows_of(w // 2)

        rows_of(v.lanes)
        return context.get_dummy_value()

    return types.void(source, i, i, i, target, i), codegen


def _spread_rows(source, at, source_row, rows, lines, target, to, target_line, target_row, width):
    """target[to + r * target_row + w] = source[at + r * source_row + w / 2] for r < rows and even w < width, and zeros for odd ones, and in the
    following of `lines` lines, target_line apart. Whole vectors of source are read.
    """
    for r in range(rows):
        end = to + r * target_row
        for k in range(lines):
            target[end + k * target_line:end + k * target_line + width] = 0
        target[end:end + width:2] = source[at + r * source_row:][:(width + 1) // 2]


def _spread_rows_intrinsic(typingctx, source, at, source_row, rows, lines, target, to, target_line, target_row, width):
    i = types.int64

    def codegen(context, builder, sig, args):
        v = Vector(context, builder, sig.args[0].dtype)
        source_row, rows, lines, target_line, target_row, width = *args[2:5], *args[7:]
        start, end = (cgutils.alloca_once_value(builder, _pointer(context, builder, sig.args[k], args[k], args[k + 1])) for k in (0, 5))
        orders = [ir.Constant(ir.VectorType(I32, v.lanes), [v.lanes if k % 2 else (part * v.lanes + k) // 2 for k in range(v.lanes)]) for part in range(2)]

        def write(line, w, values):
            for part, value in enumerate(values):
                at = builder.add(w, _const(part * v.lanes))
                place, left = builder.gep(line, [at]), builder.sub(width, at)
                with builder.if_else(builder.icmp_signed(">=", left, _const(v.lanes)), likely=True) as (whole, rest):
                    with whole:
                        v.store(value, place)
                    with rest:
                        v.store_masked(value, place, v.mask(left))

        with cgutils.for_range(builder, rows):
            line = builder.load(end)
            with cgutils.for_range_slice(builder, _const(0), width, _const(2 * v.lanes), I64) as (w, _):
                value = v.load(builder.gep(builder.load(start), [builder.lshr(w, _const(1))]))
                write(line, w, [builder.shuffle_vector(value, v.zero, order) for order in orders])
                with cgutils.for_range_slice(builder, _const(1), lines, _const(1), I64) as (k, _):
                    write(builder.gep(line, [builder.mul(k, target_line)]), w, [v.zero, v.zero])
            builder.store(builder.gep(builder.load(start), [source_row]), start)
            builder.store(builder.gep(line, [target_row]), end)
        return context.get_dummy_value()

    return types.void(source, i, i, i, i, target, i, i, i, i), codegen


spread_rows = either(_spread_rows, _spread_rows_intrinsic)
merge_row = either(_merge_row, _merge_row_intrinsic)
phase_tile = either(_phase_tile, _phase_tile_intrinsic, literal=True)
