"""Results of elementwise kernels stored past the caches.

A store to a line that is in no cache reads it from memory first; one that goes past the caches does not, but it wants whole lines, one after
the other. So a kernel does one part at a time, into an array that stays in L1; from there whole lines go to memory, while those of the next
part come from it.
"""
from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.core import cgutils

from .activation import BLOCK
from .gemm import aligned
from .jit import jit
from .norm_simd import Lanes, emit_prefetch, emit_run, emit_shared_line
from .simd import ALL_LEVELS, I64, LINE_BYTES, _pointer, either, settle
from .simd_tiles import PAST as FLAG
from .tasks import call
from .tiles import VECTOR_BYTES

PAST = 12 * 2 ** 20                          # bytes that a pass touches, from which its result is stored past the caches
PART = 6144                                  # bytes of a part: two of each source and one of the result fit into L1 (4 to 8 KiB are as fast)


def _store_past(line, dst, at, n, src, other, ahead):
    """dst[at + i] = line[i] for i < n, past the caches but for parts of lines; what follows `ahead` elements later is asked for meanwhile."""
    dst[at:at + n] = line[:n]


def _store_past_intrinsic(typingctx, line, dst, at, n, src, other, ahead):
    def codegen(context, builder, sig, args):
        scalar = context.get_value_type(sig.args[0].dtype)
        source, always = context.make_array(sig.args[0])(context, builder, args[0]).data, ir.Constant(ir.IntType(1), 1)
        target, *further = (_pointer(context, builder, sig.args[i], args[i], begin)
                            for i, begin in ((1, args[2]), *((i, builder.add(args[2], args[6])) for i in (4, 5))))

        def each(w, i, mask=None, past=False):
            for place in further if past else ():
                emit_prefetch(builder, builder.gep(place, [i]), locality=ALL_LEVELS)
            w.store(w.load(builder.gep(source, [i]), mask), builder.gep(target, [i]), mask, past)

        emit_shared_line(builder, builder.gep(target, [args[6]]), always)
        emit_run(builder, Lanes(builder, scalar, 8 * VECTOR_BYTES // sig.args[0].dtype.bitwidth), args[3], each, target, always, always)
        return context.get_dummy_value()

    i = types.int64
    return types.void(line, dst, i, i, src, other, i), codegen


def _lines_past(line, begin, dst, at, n):
    """dst[at + i] = line[begin + i] for i < n, at least a vector, past the caches but for parts of lines."""
    dst[at:at + n] = line[begin:begin + n]


def _lines_past_intrinsic(typingctx, line, begin, dst, at, n):
    def codegen(context, builder, sig, args):
        lanes, always = Lanes(builder, context.get_value_type(sig.args[0].dtype), 8 * VECTOR_BYTES // sig.args[0].dtype.bitwidth), ir.Constant(ir.IntType(1), 1)
        source, target, n = _pointer(context, builder, sig.args[0], *args[:2]), _pointer(context, builder, sig.args[2], *args[2:4]), args[4]

        def each(w, i, mask=None, past=False):
            w.store(w.load(builder.gep(source, [i]), mask), builder.gep(target, [i]), mask, past)

        emit_shared_line(builder, builder.gep(target, [n]), always)
        emit_run(builder, lanes, n, each, target, always, always)
        return context.get_dummy_value()

    i = types.int64
    return types.void(line, i, dst, i, i), codegen


def _whole_lines_past(line, begin, dst, at, n):
    """dst[at + i] = line[begin + i] for i < n, past the caches: whole lines of both."""
    dst[at:at + n] = line[begin:begin + n]


def _whole_lines_past_intrinsic(typingctx, line, begin, dst, at, n):
    def codegen(context, builder, sig, args):
        v = Lanes(builder, context.get_value_type(sig.args[0].dtype), 8 * VECTOR_BYTES // sig.args[0].dtype.bitwidth)
        source, target = _pointer(context, builder, sig.args[0], *args[:2]), _pointer(context, builder, sig.args[2], *args[2:4])
        with cgutils.for_range_slice(builder, ir.Constant(I64, 0), args[4], ir.Constant(I64, v.lanes), I64) as (i, _):
            v.store(v.load(builder.gep(source, [i])), builder.gep(target, [i]), stream=True)
        return context.get_dummy_value()

    i = types.int64
    return types.void(line, i, dst, i, i), codegen


whole_lines_past = either(_whole_lines_past, _whole_lines_past_intrinsic)
store_past = either(_store_past, _store_past_intrinsic)
lines_past = either(_lines_past, _lines_past_intrinsic)


@jit
def rows_past(flags, dst, row):
    """Does `turn_block` store rows of dst past the caches, which are so many elements apart? Of those that begin with a line."""
    return flags & FLAG != 0 and VECTOR_BYTES == LINE_BYTES and (dst.ctypes.data | row * dst.itemsize) % LINE_BYTES == 0


@jit
def in_parts(first, last, src, weight, dst, bias, residual, job, table):
    """The tasks of the elementwise kernel whose address stands in `job`; each begins at a line of dst, but for the first."""
    part, lead = PART // src.itemsize, -dst.ctypes.data % LINE_BYTES // src.itemsize
    line, other = aligned(part, src), weight if weight.size else src
    lo, end, failed = first * BLOCK + lead, min(dst.size, last * BLOCK + lead), False
    if first == 0:
        failed |= call(job[0], 0, 1, src[:lead], weight[:lead], dst[:lead], bias, residual, job, table)
    while lo < end:
        n = min(part, end - lo)
        failed |= call(job[0], 0, 1, src[lo:lo + n], weight[lo:lo + n], line[:n], bias, residual, job, table)
        store_past(line, dst, lo, n, src, other, part)
        lo += n
    settle(1)
    if failed:
        raise MemoryError


@jit(views=True)
def pour(line, begin, end, dst, at):
    """dst[at + i] = line[i] for begin <= i < end, past the caches, but for the last line where it is not whole: that moves to the beginning of `line`.

    line and dst[at] begin at a line of the caches; if begin > 0 that line of dst is another's, too. Returns where the next of `line` begin and end.
    """
    lanes = LINE_BYTES // line.itemsize
    whole = end // lanes * lanes
    if whole == 0:
        return begin, end
    first = lanes if begin > 0 else 0
    for i in range(begin, first):
        dst[at + i] = line[i]
    whole_lines_past(line, first, dst, at + first, whole - first)
    for i in range(end - whole):
        line[i] = line[whole + i]
    return 0, end - whole


@jit(merged=True, views=True)
def pour_for(more, line, begin, end, dst, at):
    """As `pour`, where `more` elements behind end would not fit into `line`. at: the place in dst of what comes there."""
    if end + more > line.size:
        return pour(line, begin, end, dst, at - end)
    return begin, end


@jit(views=True)
def pour_all(line, begin, end, dst, at):
    """As `pour`, and what is left follows, through the caches."""
    begin, left = pour(line, begin, end, dst, at)
    for i in range(begin, left):
        dst[at + end - left + i] = line[i]
