"""The register tiles of the direct engine, each with a plain-loop twin: a block of sums stays in registers while its terms stream past.

Two ways to lay a convolution on vectors. `gather_tile` has filters along the vectors and one broadcast element for each row, read from
wherever a table says: pixels of any stride and any image width, or taps. `pixel_tile` has pixels of one output row along the vectors and a
filter for each row. `turn_block` brings what the first one left, filters along the vectors, back to pixels along the vectors.

LLVM's scheduler would move all broadcasts of a step to its front, and the accumulators out of the registers with them; `Vector.pin` keeps
each row's multiply-adds behind its broadcast (65 % of the peak without, 98 % with it).
"""
from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.core import cgutils

from .simd import BYTES, I32, I64, LINE_BYTES, SECOND_LEVEL, Vector, _pointer, either
from .tiles import VECTOR_BYTES

STEPS_AHEAD = 64                             # of a tile's rows of b, from where they are fetched
NEAR_AHEAD = 8                               # planes whose pixels are fetched before a tile brings them near
TAP = 2                                      # integers of a tap of `add_taps`
KEEP, RELU, PAST = 1, 2, 4                   # flags: add to what stands in the result; negative results become 0; whole lines go past the caches


def _const(n):
    return ir.Constant(I64, n)


def _accumulate(builder, v, total, row_operand, vectors):
    """total[r][j] += row_operand(r) * vectors[j], row by row."""
    for r, row in enumerate(total):
        a = v.broadcast(row_operand(r))
        for j, place in enumerate(row):
            builder.store(v.pin(v.multiply_add(a, vectors[j], builder.load(place))), place)


def _along(builder, v, apart, count):
    """For each r < count what takes a pointer to r elements times `apart` behind it: odd multiples in registers, the others by the address's scale."""
    word = ir.FunctionType(I64, [I64])

    def opaque(n):                           # or LLVM would keep every multiple in a register of its own
        return builder.asm(word, "", "=r,0", [n], False)

    step = opaque(builder.mul(apart, _const(v.itemsize)))
    odd = {n: opaque(builder.mul(step, _const(n))) if n > 1 else step for n in range(1, count, 2)}

    def mover(r):
        def move(pointer):
            if r == 0:
                return pointer
            shift = (r & -r).bit_length() - 1
            behind = builder.gep(builder.bitcast(pointer, BYTES), [builder.shl(odd[r >> shift], _const(shift))])
            return builder.bitcast(behind, pointer.type)
        return move

    return [mover(r) for r in range(count)]


def _flag(builder, flags, bit):
    return builder.icmp_signed("!=", builder.and_(flags, _const(bit)), _const(0))


def _past(builder, v, vectors, flags, start, row):
    """May tiles of so many vectors, whole rows of `row` elements from start on, go past the caches? If flags say so and they are whole lines."""
    if vectors * VECTOR_BYTES % LINE_BYTES:
        return ir.Constant(ir.IntType(1), 0)
    ends = builder.or_(builder.ptrtoint(start, I64), builder.mul(row, _const(v.itemsize)))
    return builder.and_(_flag(builder, flags, PAST), builder.icmp_signed("==", builder.and_(ends, _const(LINE_BYTES - 1)), _const(0)))


# ---------------------------------------------------------------- filters along the vectors
def _gather_tile(rows, vectors, runs, valid, flags, outer, step, inner, x, x_at, offsets, offsets_at, taps, taps_at, b, b_at, c, c_at, c_row):
    """c[c_at + r * c_row + j] = sum over o < outer, t < inner of x[x_at + offsets[r] + o * step + taps[t]] * b[b_at + (o * inner + t) * width + j].

    For r < valid <= rows and j < width = vectors * lanes; offsets and taps (int64) are read from offsets_at and taps_at on. flags: KEEP or 0.
    x, b, c: 1-D, contiguous, one floating dtype; rows, vectors and runs: integer literals. One chain of outer * inner terms for each element.
    runs: 1 where the rows of each half lie evenly, as far apart as the first two, and all are valid: of the offsets only those two and the
    second half's first are read. So many row pointers do not fit the integer registers, but multiples of one distance do.
    """
    width = vectors * VECTOR_BYTES // x.itemsize
    half, apart = rows // 2, offsets[offsets_at + 1] - offsets[offsets_at] if runs else 0
    for r in range(valid):
        start = offsets[offsets_at + r // half * half] + r % half * apart if runs else offsets[offsets_at + r]
        for j in range(width):
            total = x.dtype.type(0)
            for o in range(outer):
                for t in range(inner):
                    total += x[x_at + start + o * step + taps[taps_at + t]] * b[b_at + (o * inner + t) * width + j]
            place = c_at + r * c_row + j
            c[place] = c[place] + total if flags & KEEP else total


def _gather_tile_ahead(rows, vectors, runs, valid, flags, outer, step, inner, x, x_at, offsets, offsets_at, taps, taps_at, b, b_at, c, c_at, c_row, ahead,
                       ahead_step):
    """The same, and of what comes next the cache line at address ahead + o * ahead_step + t * LINE_BYTES is fetched at each step. ahead: 0 for c alone."""
    _gather_tile(rows, vectors, runs, valid, flags, outer, step, inner, x, x_at, offsets, offsets_at, taps, taps_at, b, b_at, c, c_at, c_row)


def _gather_code(rows, vectors, runs, valid, flags, outer, step, inner, x, x_at, offsets, offsets_at, taps, taps_at, b, b_at, c, c_at, c_row, *ahead):
    if not all(isinstance(size, types.IntegerLiteral) for size in (rows, vectors, runs)):
        return None
    R, V, i = rows.literal_value, vectors.literal_value, types.int64
    run = R // 2 if runs.literal_value else 1
    sig = types.void(rows, vectors, runs, i, i, i, i, i, x, i, offsets, i, taps, i, b, i, c, i, i, *(i for _ in ahead))

    def codegen(context, builder, sig, args):
        valid, flags, outer, step, inner = args[3:8]
        v = Vector(context, builder, sig.args[8].dtype)
        x0, offset, tap, b0, c0 = (_pointer(context, builder, sig.args[n], args[n], args[n + 1]) for n in range(8, 18, 2))
        last = builder.sub(valid, _const(1))

        def start(r):
            r = _const(r)
            r = r if run > 1 else builder.select(builder.icmp_signed("<", r, last), r, last)       # the last stands for those that are missing
            return builder.load(builder.gep(offset, [r]))

        def each_row(do):
            for r in range(R):
                if run > 1:
                    do(r)
                    continue
                with builder.if_then(builder.icmp_signed("<", _const(r), valid), likely=True):
                    do(r)

        starts = [builder.gep(x0, [start(r)]) for r in range(0, R, run)]
        along = _along(builder, v, builder.sub(start(1), start(0)), run) if run > 1 else [lambda pointer: pointer]
        total = [[cgutils.alloca_once_value(builder, v.zero) for _ in range(V)] for _ in range(R)]
        at, b_next = cgutils.alloca_once_value(builder, _const(0)), cgutils.alloca_once_value(builder, b0)
        if ahead:
            nothing = builder.icmp_signed("==", args[19], _const(0))
            place = cgutils.alloca_once_value(builder, builder.select(nothing, builder.ptrtoint(b0, I64), args[19]))
            with builder.if_then(nothing):   # then the memory that the tile writes to, which may be far away
                for r in range(R):
                    for j in range(V):
                        v.prefetch(builder.gep(c0, [builder.add(builder.mul(args[18], _const(r)), _const(j * v.lanes))]), write=True)
        with cgutils.for_range(builder, outer):
            with cgutils.for_range(builder, inner) as loop:
                if ahead:
                    v.prefetch(builder.inttoptr(builder.add(builder.load(place), builder.mul(loop.index, _const(LINE_BYTES))), BYTES), locality=SECOND_LEVEL)
                here, b_here = builder.add(builder.load(at), builder.load(builder.gep(tap, [loop.index]))), builder.load(b_next)
                b_v = [v.load(builder.gep(b_here, [_const(j * v.lanes)])) for j in range(V)]
                for line in range(0, V * VECTOR_BYTES, LINE_BYTES):            # of b some steps ahead: where b streams from afar, it arrives in time
                    v.prefetch(builder.gep(b_here, [_const(STEPS_AHEAD * V * v.lanes + line // v.itemsize)]))
                heads = [builder.gep(start, [here]) for start in starts]
                _accumulate(builder, v, total, lambda r: builder.load(along[r % run](heads[r // run])), b_v)
                builder.store(builder.gep(b_here, [_const(V * v.lanes)]), b_next)
            builder.store(builder.add(builder.load(at), step), at)
            if ahead:
                builder.store(builder.add(builder.load(place), args[20]), place)
        lines = [builder.gep(c0, [builder.mul(args[18], _const(r))]) for r in range(R)]
        places = [[builder.gep(line, [_const(j * v.lanes)]) for j in range(V)] for line in lines]

        def add(r):
            for place, element in zip(places[r], total[r]):
                builder.store(builder.fadd(v.load(place), builder.load(element)), element)

        def write(r):
            for place, element in zip(places[r], total[r]):
                v.store(builder.load(element), place)

        with builder.if_then(_flag(builder, flags, KEEP)):
            each_row(add)
        each_row(write)
        return context.get_dummy_value()

    return sig, codegen


def _turn_block(pixels, filters, flags, source, at, source_row, bias, bias_at, residual, residual_at, target, to, target_row):
    """target[to + f * target_row + p] = source[at + p * source_row + f], for p < pixels and f < filters, both at most `lanes`, and on the way

    + bias[bias_at + f] unless bias_at is negative, + residual[residual_at + f * target_row + p] unless residual_at is negative, then
    RELU if flags say so (NaN stays), and KEEP: + what stands in target. PAST: where these are whole lines of the cache, they go past it, and
    `settle` makes other cores see them. All `lanes` x `lanes` elements of source are read.
    """
    for f in range(filters):
        for p in range(pixels):
            place = f * target_row + p
            value = source[at + p * source_row + f]
            if bias_at >= 0:
                value += bias[bias_at + f]
            if flags & KEEP:
                value += target[to + place]
            if residual_at >= 0:
                value += residual[residual_at + place]
            if flags & RELU and value < 0:
                value = source.dtype.type(0)
            target[to + place] = value


def _turn_block_intrinsic(typingctx, pixels, filters, flags, source, at, source_row, bias, bias_at, residual, residual_at, target, to, target_row):
    i = types.int64
    sig = types.void(i, i, i, source, i, i, bias, i, residual, i, target, i, i)

    def codegen(context, builder, sig, args):
        pixels, filters, flags, _, _, source_row, _, bias_at, _, residual_at, _, _, target_row = args
        v = Vector(context, builder, sig.args[3].dtype)
        start, bias0, residual0, end = (_pointer(context, builder, sig.args[n], args[n], args[n + 1]) for n in (3, 6, 8, 10))
        rows = [v.load(builder.gep(start, [builder.mul(source_row, _const(p))])) for p in range(v.lanes)]
        columns = [cgutils.alloca_once_value(builder, column) for column in v.transpose(rows)]
        full, mask = builder.icmp_signed(">=", pixels, _const(v.lanes)), v.mask(pixels)
        given = [builder.icmp_signed(">=", place, _const(0)) for place in (bias_at, residual_at)]
        extras = builder.or_(_flag(builder, flags, KEEP | RELU), builder.or_(*given))

        def each_filter(do):
            for f in range(v.lanes):
                with builder.if_then(builder.icmp_signed("<", _const(f), filters), likely=True):
                    do(f, builder.mul(target_row, _const(f)))

        def add(f, value):
            builder.store(builder.fadd(builder.load(columns[f]), value), columns[f])

        with builder.if_then(extras):
            with builder.if_then(given[0]):
                each_filter(lambda f, row: add(f, v.broadcast(builder.load(builder.gep(bias0, [_const(f)])))))
            with builder.if_then(_flag(builder, flags, KEEP)):
                each_filter(lambda f, row: add(f, v.load_masked(builder.gep(end, [row]), mask)))
            with builder.if_then(given[1]):
                each_filter(lambda f, row: add(f, v.load_masked(builder.gep(residual0, [row]), mask)))
            with builder.if_then(_flag(builder, flags, RELU)):
                for column in columns:
                    builder.store(v.relu(builder.load(column)), column)
        with builder.if_else(full, likely=True) as (whole, part):
            with whole, builder.if_else(_past(builder, v, 1, flags, end, target_row)) as (beyond, within):
                with beyond:
                    each_filter(lambda f, row: v.store(builder.load(columns[f]), builder.gep(end, [row]), past=True))
                with within:
                    each_filter(lambda f, row: v.store(builder.load(columns[f]), builder.gep(end, [row])))
            with part:
                each_filter(lambda f, row: v.store_masked(builder.load(columns[f]), builder.gep(end, [row]), mask))
        return context.get_dummy_value()

    return sig, codegen


# ---------------------------------------------------------------- pixels along the vectors
def _pixel_tile(rows, vectors, valid, columns, flags, outer, step, inner, a, a_at, x, x_at, taps, taps_at, bias, bias_at,
                residual, residual_at, y, y_at, y_row, split, pitch, jump, ahead, ahead_step, also, also_step):
    """y[y_at + r * y_row + j] = sum over o < outer, t < inner of a[a_at + (o * inner + t) * rows + r] * x[x_at + o * step + taps[t] + j]

    for r < valid <= rows and j < columns <= width = vectors * lanes; of x all `width` elements of each row are read. Of y the first `split` columns
    lie there, the next `pitch` >= split of them `jump` elements further, those behind them 2 * jump, and so on. Bias (one element a row), KEEP, residual
    (laid out as y), RELU and PAST as in `turn_block`. taps (int64) are read from taps_at on. At each o the cache lines at addresses ahead + o * ahead_step
    and also + o * also_step are fetched, which may be any.
    """
    for r in range(valid):
        for j in range(columns):
            value = bias[bias_at + r] if bias_at >= 0 else x.dtype.type(0)
            for o in range(outer):
                for t in range(inner):
                    value += a[a_at + (o * inner + t) * rows + r] * x[x_at + o * step + taps[taps_at + t] + j]
            place = r * y_row + j + (j - split + pitch) // pitch * jump
            if flags & KEEP:
                value += y[y_at + place]
            if residual_at >= 0:
                value += residual[residual_at + place]
            if flags & RELU and value < 0:
                value = x.dtype.type(0)
            y[y_at + place] = value


def _pixel_tile_near(rows, vectors, valid, columns, flags, outer, step, inner, a, a_at, x, x_at, taps, taps_at, bias, bias_at,
                     residual, residual_at, y, y_at, y_row, split, pitch, jump, ahead, ahead_step, also, also_step, near, near_at):
    """The same, and what it reads of x stays in near[near_at:], a row of `width` elements behind the other: outer of them, or inner for each of those."""
    _pixel_tile(rows, vectors, valid, columns, flags, outer, step, inner, a, a_at, x, x_at, taps, taps_at, bias, bias_at,
                residual, residual_at, y, y_at, y_row, split, pitch, jump, ahead, ahead_step, also, also_step)
    width = vectors * VECTOR_BYTES // x.itemsize
    for o in range(outer):
        for t in range(inner):
            at, to = x_at + o * step + taps[taps_at + t], near_at + (o * inner + t) * width
            near[to:to + width] = x[at:at + width]


def _pixel_code(rows, vectors, a, x, taps, bias, residual, y, *near):
    if not isinstance(rows, types.IntegerLiteral) or not isinstance(vectors, types.IntegerLiteral):
        return None
    R, V, i = rows.literal_value, vectors.literal_value, types.int64
    sig = types.void(rows, vectors, i, i, i, i, i, i, a, i, x, i, taps, i, bias, i, residual, i, y, i, i, i, i, i, i, i, i, i, *(near and (*near, i)))

    def codegen(context, builder, sig, args):
        valid, columns, flags, outer, step, inner = args[2:8]
        bias_at, residual_at, y_row, split, pitch, jump = args[15], args[17], *args[20:24]
        v = Vector(context, builder, sig.args[8].dtype)
        a0, x0, tap, bias0, residual0, y0 = (_pointer(context, builder, sig.args[n], args[n], args[n + 1]) for n in range(8, 20, 2))
        total = [[cgutils.alloca_once_value(builder, v.zero) for _ in range(V)] for _ in range(R)]

        def each_row(do):
            for r in range(R):
                with builder.if_then(builder.icmp_signed("<", _const(r), valid), likely=True):
                    do(r)

        def add_bias(r):
            value = v.broadcast(builder.load(builder.gep(bias0, [_const(r)])))
            for place in total[r]:
                builder.store(value, place)

        with builder.if_then(builder.icmp_signed(">=", bias_at, _const(0))):
            each_row(add_bias)
        past = _past(builder, v, V, flags, y0, y_row)
        # What lies behind the result and the residual, where the next tile ends: a row a step, all at once would stall.
        fetched = [(y0, builder.select(past, _const(0), _const(R)), True),
                   (residual0, builder.select(builder.icmp_signed(">=", residual_at, _const(0)), _const(R), _const(0)), False)]
        a_next, at = (cgutils.alloca_once_value(builder, start) for start in (a0, x0))
        lines = [(cgutils.alloca_once_value(builder, args[n]), args[n + 1]) for n in (24, 26)]
        if near:
            near_next = cgutils.alloca_once_value(builder, _pointer(context, builder, sig.args[28], args[28], args[29]))
        with cgutils.for_range(builder, outer) as step_loop:
            for base, rows_fetched, write in fetched:
                with builder.if_then(builder.icmp_signed("<", step_loop.index, rows_fetched)):
                    for j in range(V):
                        place = builder.add(builder.mul(step_loop.index, y_row), _const((V + j) * v.lanes))
                        v.prefetch(builder.gep(base, [place]), write=write)
            for line, line_step in lines:
                v.prefetch(builder.inttoptr(builder.load(line), BYTES), locality=SECOND_LEVEL)
                builder.store(builder.add(builder.load(line), line_step), line)
            with cgutils.for_range(builder, inner) as loop:
                a_here = builder.load(a_next)
                x_here = builder.gep(builder.load(at), [builder.load(builder.gep(tap, [loop.index]))])
                x_v = [v.load(builder.gep(x_here, [_const(j * v.lanes)])) for j in range(V)]
                if near:
                    for byte in range(LINE_BYTES, V * VECTOR_BYTES + 1, LINE_BYTES):       # the first line was the last one of the tile before
                        ahead = builder.add(builder.mul(step, _const(NEAR_AHEAD)), _const(byte // v.itemsize - 1))
                        v.prefetch(builder.gep(x_here, [ahead]))
                    near_here = builder.load(near_next)
                    for j, vector in enumerate(x_v):
                        v.store(vector, builder.gep(near_here, [_const(j * v.lanes)]))
                    builder.store(builder.gep(near_here, [_const(V * v.lanes)]), near_next)
                _accumulate(builder, v, total, lambda r: builder.load(builder.gep(a_here, [_const(r)])), x_v)
                builder.store(builder.gep(a_here, [_const(R)]), a_next)
            builder.store(builder.gep(builder.load(at), [step]), at)

        whole_tile = builder.and_(*(builder.icmp_signed(">=", n, _const(V * v.lanes)) for n in (columns, split)))

        def each_place(base, do):
            """The rows' vectors as they lie from base on: `do` takes each one's sum, its place and the mask of a run of columns, one run after the other."""
            behind = builder.sub(columns, split)
            runs = builder.add(_const(1), builder.udiv(builder.add(behind, builder.sub(pitch, _const(1))), pitch))
            runs = builder.select(builder.icmp_signed(">", behind, _const(0)), runs, _const(1))
            with cgutils.for_range(builder, runs) as loop:
                end = builder.add(split, builder.mul(loop.index, pitch))
                begin = builder.sub(end, pitch)
                end = builder.select(builder.icmp_signed("<", end, columns), end, columns)
                start = builder.gep(base, [builder.mul(loop.index, jump)])
                masks = []
                for j in range(V):
                    first, stop = (v.mask(builder.sub(n, _const(j * v.lanes))) for n in (begin, end))
                    masks.append(builder.and_(builder.not_(first), stop))

                def row(r):
                    line = builder.gep(start, [builder.mul(y_row, _const(r))])
                    for j, place in enumerate(total[r]):
                        do(place, builder.gep(line, [_const(j * v.lanes)]), masks[j])

                each_row(row)

        def add(place, source, mask):
            builder.store(builder.fadd(builder.load(place), v.load_masked(source, mask)), place)

        with builder.if_then(_flag(builder, flags, KEEP)):
            each_place(y0, add)
        with builder.if_then(builder.icmp_signed(">=", residual_at, _const(0))):
            each_place(residual0, add)
        with builder.if_then(_flag(builder, flags, RELU)):
            for row in total:
                for place in row:
                    builder.store(v.relu(builder.load(place)), place)
        with builder.if_else(whole_tile, likely=True) as (whole, part):
            with whole:
                def write(r, past):
                    row = builder.gep(y0, [builder.mul(y_row, _const(r))])
                    for j, place in enumerate(total[r]):
                        v.store(builder.load(place), builder.gep(row, [_const(j * v.lanes)]), past)

                with builder.if_else(past) as (beyond, within):
                    with beyond:
                        each_row(lambda r: write(r, True))
                    with within:
                        each_row(lambda r: write(r, False))
            with part:
                each_place(y0, lambda place, target, mask: v.store_masked(builder.load(place), target, mask))
        return context.get_dummy_value()

    return sig, codegen


# ---------------------------------------------------------------- rows of taps
def _add_taps(step, source, n, entries, target, to, width):
    """target[to + w] += sum over the taps of phase w % step of source[begin + w // step + shift], where 0 <= w // step + shift < n, for w < width.

    entries (int64): for each of `step` phases the number of its taps, then room for all; TAP integers a tap: begin and shift. They begin
    entries[0] integers apart, the first one at entries[1]. step: the literal 1, 2 or 4.
    """
    for w in range(width):
        at = 1 + w % step * entries[0]
        for t in range(entries[at]):
            j = w // step + entries[at + 2 + TAP * t]
            if 0 <= j < n:
                target[to + w] += source[entries[at + 1 + TAP * t] + j]


def _add_taps_intrinsic(typingctx, step, source, n, entries, target, to, width):
    if not isinstance(step, types.IntegerLiteral):
        return None
    S, i = step.literal_value, types.int64

    def interleave(v, phases):
        """Vectors of every len(phases)-th element each; vectors of neighbours."""
        if len(phases) == 1:
            return phases
        both = zip(interleave(v, phases[::2]), interleave(v, phases[1::2]))
        orders = [ir.Constant(ir.VectorType(I32, v.lanes), [part * v.lanes // 2 + k // 2 + k % 2 * v.lanes for k in range(v.lanes)]) for part in range(2)]
        return [v.b.shuffle_vector(even, odd, order) for even, odd in both for order in orders]

    def codegen(context, builder, sig, args):
        _, _, n, _, _, _, width = args
        v = Vector(context, builder, sig.args[1].dtype)
        start, entry = (_pointer(context, builder, sig.args[k], args[k], _const(0)) for k in (1, 3))
        end = _pointer(context, builder, sig.args[4], args[4], args[5])
        indices = ir.VectorType(I32, v.lanes)
        iota, limit = ir.Constant(indices, list(range(v.lanes))), v.broadcast_index(n)
        apart = builder.load(entry)
        sums = [cgutils.alloca_once(builder, v.type) for _ in range(S)]
        with cgutils.for_range_slice(builder, _const(0), width, _const(S * v.lanes), I64) as (w, _):
            j = builder.udiv(w, _const(S))
            for b, total in enumerate(sums):
                builder.store(v.zero, total)
                here = builder.gep(entry, [builder.add(builder.mul(apart, _const(b)), _const(1))])
                with cgutils.for_range(builder, builder.load(here)) as loop:
                    tap = builder.gep(here, [builder.add(builder.mul(loop.index, _const(TAP)), _const(1))])
                    k = builder.add(j, builder.load(builder.gep(tap, [_const(1)])))
                    place = builder.gep(start, [builder.add(builder.load(tap), k)])
                    mask = builder.icmp_unsigned("<", builder.add(iota, v.broadcast_index(k)), limit)
                    if S > 1:                # rows are short: no branch is worth it
                        builder.store(builder.fadd(builder.load(total), v.load_masked(place, mask)), total)
                        continue
                    inside = builder.and_(builder.icmp_signed(">=", k, _const(0)), builder.icmp_signed("<=", builder.add(k, _const(v.lanes)), n))
                    with builder.if_else(inside, likely=True) as (whole, part):
                        with whole:
                            builder.store(builder.fadd(builder.load(total), v.load(place)), total)
                        with part:
                            builder.store(builder.fadd(builder.load(total), v.load_masked(place, mask)), total)
            for part, value in enumerate(interleave(v, [builder.load(total) for total in sums])):
                at = builder.add(w, _const(part * v.lanes))
                place, mask = builder.gep(end, [at]), v.mask(builder.sub(width, at))
                v.store_masked(builder.fadd(v.load_masked(place, mask), value), place, mask)
        return context.get_dummy_value()

    return types.void(step, source, i, entries, target, i, i), codegen


def _gather_tile_intrinsic(typingctx, rows, vectors, runs, valid, flags, outer, step, inner, x, x_at, offsets, offsets_at, taps, taps_at, b, b_at, c, c_at,
                           c_row):
    return _gather_code(rows, vectors, runs, valid, flags, outer, step, inner, x, x_at, offsets, offsets_at, taps, taps_at, b, b_at, c, c_at, c_row)


def _gather_tile_ahead_intrinsic(typingctx, rows, vectors, runs, valid, flags, outer, step, inner, x, x_at, offsets, offsets_at, taps, taps_at, b, b_at,
                                 c, c_at, c_row, ahead, ahead_step):
    return _gather_code(rows, vectors, runs, valid, flags, outer, step, inner, x, x_at, offsets, offsets_at, taps, taps_at, b, b_at, c, c_at, c_row, ahead,
                        ahead_step)


def _pixel_tile_intrinsic(typingctx, rows, vectors, valid, columns, flags, outer, step, inner, a, a_at, x, x_at, taps, taps_at, bias, bias_at,
                          residual, residual_at, y, y_at, y_row, split, pitch, jump, ahead, ahead_step, also, also_step):
    return _pixel_code(rows, vectors, a, x, taps, bias, residual, y)


def _pixel_tile_near_intrinsic(typingctx, rows, vectors, valid, columns, flags, outer, step, inner, a, a_at, x, x_at, taps, taps_at, bias, bias_at,
                               residual, residual_at, y, y_at, y_row, split, pitch, jump, ahead, ahead_step, also, also_step, near, near_at):
    return _pixel_code(rows, vectors, a, x, taps, bias, residual, y, near)


gather_tile = either(_gather_tile, _gather_tile_intrinsic, literal=True)
gather_tile_ahead = either(_gather_tile_ahead, _gather_tile_ahead_intrinsic, literal=True)
turn_block = either(_turn_block, _turn_block_intrinsic)
pixel_tile = either(_pixel_tile, _pixel_tile_intrinsic, literal=True)
pixel_tile_near = either(_pixel_tile_near, _pixel_tile_near_intrinsic, literal=True)
add_taps = either(_add_taps, _add_taps_intrinsic, literal=True)
