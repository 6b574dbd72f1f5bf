"""Normalisation of rows, each with statistics of its own: layer, RMS, instance norm and groups that one core takes whole.

Memory is KEYS rows of COUNT elements. A row is read once from memory: its sums are taken, and it is changed while the caches still hold it.
A row is a group of DIV segments, one for each channel, or every element of it has a weight and a bias of its own, which stand in `bias` and
`residual`: there row r begins at r % PERIOD * COUNT (layer norm: at 0). COUNT is the length of a row; the rest is as in norm.py.

Rows too long for that, or too few, are cut into parts of SPAN elements and take two passes.
"""
from __future__ import annotations

import numpy as np

from .gemm import aligned
from .jit import jit
from .norm import (
    CENTERED,
    CHANNELS,
    COEFFICIENTS,
    COLUMNS,
    COUNT,
    DIV,
    EPS,
    FLAGS,
    FOLDED,
    GIVEN,
    GRADIENTS,
    KEYS,
    LENGTH,
    PADDED,
    PARAMETERS,
    PARTS,
    PERIOD,
    PLANES,
    ROWS,
    RUNNING,
    SHIFTS,
    SPAN,
    STATS,
    STREAM,
    SUMS,
    UNITS,
    add_columns,
    group_gradients,
    move_running,
    spread_of,
    wide_gradient_moments,
    within_range,
)
from .norm_simd import (
    LARGE,
    SMALL,
    gradient_rows,
    gradient_segment,
    row_gradient_moments,
    row_gradient_sums,
    row_moments,
    scale_rows,
    scale_segment,
    segment_gradient_sums,
    segment_moments,
    shift_of_row,
    shifts_of_first,
)
from .past import pour_all, pour_for
from .simd import AHEAD_BYTES, LINE_BYTES, settle

PIECE = 2048                                 # bytes of rows that go past the caches together: reading and writing in small turns wait least for each other
STRIP = 16                                   # rows whose gradients to weight and bias are added in the dtype of x


# ---------------------------------------------------------------- statistics of a few rows
@jit(views=True)
def shift_rows(src, other, job, f, key, count):
    """The shifts of rows key .. key + count - 1: of given statistics the mean, else from the first values; 0 where no mean is subtracted."""
    keys, L, shifts = job[KEYS], job[COUNT], job[SHIFTS]
    line = f[shifts + key:shifts + key + count]
    if job[FLAGS] & CENTERED and job[FLAGS] & GIVEN:
        mean = f[job[STATS] + key:job[STATS] + key + count]
        for i in range(count):
            line[i] = src.dtype.type(mean[i])
        for i in range(count):
            line[i] = line[i] if np.isfinite(line[i]) else 0.0
    elif job[FLAGS] & CENTERED:
        shifts_of_first(src, key * L, L, L, count, f, shifts + key)
    else:
        line[:] = 0
    if other.size:
        shifts_of_first(other, key * L, L, L, count, f, shifts + keys + key)


@jit(views=True)
def row_statistics(job, f, key, count, sums):
    """mean and invstd of `count` rows from their sums, which stand at f[sums] and f[sums + count], one for each row."""
    keys, n, eps, folded = job[KEYS], job[COUNT], f[0], job[FOLDED]
    total, square, shift = f[sums:sums + count], f[sums + count:sums + 2 * count], f[job[SHIFTS] + key:job[SHIFTS] + key + count]
    mean, invstd = f[job[STATS] + key:job[STATS] + key + count], f[job[STATS] + keys + key:job[STATS] + keys + key + count]
    centered = job[FLAGS] & CENTERED
    for i in range(count):
        offset = total[i] / n if centered else 0.0           # no factor of 0: a sum of inf would leave NaN
        variance = square[i] / n - offset * offset
        variance = 0.0 if variance < 0 else variance
        square[i] = variance
        mean[i], invstd[i] = shift[i] + offset, 1 / np.sqrt(variance + eps)
    for i in range(count if job[FLAGS] & RUNNING else 0):            # no assignment of arrays, which Numba compiles for seconds
        f[folded + key + i], f[folded + keys + key + i] = mean[i], square[i]


@jit(views=True)
def sum_rows(src, job, f, key, count, sums):
    """The sums of `count` rows and their statistics."""
    L, shifts = job[COUNT], job[SHIFTS] + key
    shift_rows(src, src[:0], job, f, key, count)
    segment_moments(src, key * L, L, L, count, f, shifts, 1, sums, count)
    if not within_range(src, L, f, sums, count, count, False):
        for i in range(count):
            if not within_range(src, L, f, sums + i, count, 1, False):
                found = wide_gradient_moments(src, src, (key + i) * L, L, f[shifts + i], f[shifts + i])
                f[sums + i], f[sums + count + i] = found[0], found[1]
    row_statistics(job, f, key, count, sums)


# ---------------------------------------------------------------- groups of segments
@jit(views=True)
def group_rows(first, last, src, weight, dst, bias, residual, job, table):
    """The forward of groups: task t is UNITS rows, ROWS at a time."""
    f = table.view(np.float64)
    S, div, keys, C, block = job[LENGTH], job[DIV], job[KEYS], job[CHANNELS], job[ROWS]
    for t in range(first, last):
        sums, known = job[SUMS] + t * 4 * block * div, job[COEFFICIENTS] + t * 6 * block * div
        for key in range(t * job[UNITS], min(keys, (t + 1) * job[UNITS]), block):
            count = min(block, min(keys, (t + 1) * job[UNITS]) - key)
            sum_rows(src, job, f, key, count, sums)
            c = key * div % C
            for i in range(count):
                mean, invstd = f[job[STATS] + key + i], f[job[STATS] + keys + key + i]
                center = np.float64(src.dtype.type(mean))
                rest = mean - center if np.isfinite(center) else 0.0
                for to in range(known + 6 * i * div, known + 6 * (i + 1) * div, 6):
                    scale = invstd * f[job[PARAMETERS] + c]
                    f[to], f[to + 1], f[to + 2] = center, scale, f[job[PARAMETERS] + C + c] - (rest * scale if rest != 0 else 0.0)
                    c = c + 1 if c + 1 < C else 0
            scale_segment(src, dst, key * div * S, S, S, count * div, f, known, 6, 1, 0, count * div, block * div * S, job[STREAM])
    settle(job[STREAM])


@jit
def group_rows_gradient(first, last, src, weight, dst, bias, residual, job, table):
    """The backward of groups, but for the sums over the images of what their channels add to dweight and dbias."""
    block, div = job[ROWS], job[DIV]
    known, lines = np.empty(6 * block * div, src.dtype), np.empty(block * div + 4 * block, np.float64)
    for t in range(first, last):
        some_group_gradients(t, src, weight, dst, job, table.view(np.float64), known, lines)
    settle(job[STREAM])


@jit(views=True)
def some_group_gradients(t, src, weight, dst, job, f, known, lines):
    S, div, keys, block, shifts, end = job[LENGTH], job[DIV], job[KEYS], job[ROWS], job[SHIFTS], min(job[KEYS], (t + 1) * job[UNITS])
    sums = job[SUMS] + t * 4 * block * div
    for key in range(t * job[UNITS], end, block):
        count = min(block, end - key)
        run = count * div
        shift_rows(src, weight, job, f, key, count)
        if div == 1:
            segment_gradient_sums(src, weight, key * S, S, S, count, f, shifts + key, shifts + keys + key, 1, sums, run)
        else:
            for i in range(key, key + count):
                segment_gradient_sums(src, weight, i * div * S, S, S, div, f, shifts + i, shifts + keys + i, 0, sums + (i - key) * div, run)
        if not within_range(src, S, f, sums, run, run, True):
            for i in range(run):
                if not within_range(src, S, f, sums + i, run, 1, True):
                    owner = key + i // div
                    found = wide_gradient_moments(src, weight, (key * div + i) * S, S, f[shifts + owner], f[shifts + keys + owner])
                    f[sums + i], f[sums + run + i], f[sums + 2 * run + i], f[sums + 3 * run + i] = found
        group_gradients(src, job, f, key, count, f[sums:sums + 4 * run], lines, known)
        if dst.size:
            gradient_segment(src, weight, dst, key * div * S, S, S, run, known, 0, 1, run, 0, run, run * S, job[STREAM])


@jit(views=True)
def finish_running(first, last, src, weight, dst, bias, residual, job, table):
    """Move the running statistics of instance norm."""
    move_running(job, table.view(np.float64), job[FOLDED], job[FOLDED] + job[KEYS])


# ---------------------------------------------------------------- a weight and a bias for each element
@jit(views=True)
def scale_coefficients(src, job, f, key, count, known, apart):
    """center, rest and invstd of rows key .. key + count - 1, at known[k * apart + i]."""
    mean, invstd = f[job[STATS] + key:job[STATS] + key + count], f[job[STATS] + job[KEYS] + key:job[STATS] + job[KEYS] + key + count]
    split_rows(src, mean, invstd, known[:count], known[apart:apart + count])
    factor = known[2 * apart:2 * apart + count]
    for i in range(count):
        factor[i] = invstd[i]


@jit(views=True)
def split_rows(src, mean, invstd, center, rest):
    """The means in two, as `split`: what the dtype of x leaves out counts times -invstd."""
    for i in range(mean.size):
        center[i] = src.dtype.type(mean[i])
    for i in range(mean.size):
        left = (center[i] - mean[i]) * invstd[i]
        rest[i] = left if np.isfinite(center[i]) and center[i] != mean[i] else 0.0


@jit(merged=True, views=True)
def known_of_row(src, job, f, key, share):
    """Of one row: center, rest and invstd."""
    n, at, shift = job[COUNT], key * job[COUNT], shift_row(src, job, f, key)
    total, square = row_moments(src, at, n, shift)
    if not row_within_range(src, n, total, square, 0.0):
        wide = wide_gradient_moments(src, src, at, n, shift, shift)
        total, square = wide[0], wide[1]
    return row_known(src, job, f, key, shift, total, square, share)[1:]


@jit(merged=True, views=True)
def scale_past(src, dst, at, n, rows, together, bias, residual, to, known, known_at, apart, ahead, line, begin, end):
    """As `scale_rows`, past the caches, `together` rows at a time: see `gradient_past`."""
    piece, r = PIECE // src.itemsize, 0
    while r < rows:
        many = min(together, rows - r)
        j = 0
        while j < n:
            size, here = min(piece, n - j), at + r * n + j
            begin, end = pour_for(many * size, line, begin, end, dst, here)
            scale_rows(src, here, size, many, line, end, bias, residual, to + j, known, known_at + r, apart, ahead)
            end += many * size
            j += size
        r += many
    return begin, end


@jit
def rows(first, last, src, weight, dst, bias, residual, job, table):
    """The forward of rows whose elements have parameters of their own: task t is UNITS rows, ROWS at a time."""
    lanes = LINE_BYTES // src.itemsize
    known, line = np.empty(3 * job[ROWS], src.dtype), aligned(PIECE // src.itemsize + 2 * lanes, src)
    for t in range(first, last):
        begin = (dst.ctypes.data // src.itemsize + t * job[UNITS] * job[COUNT]) % lanes
        some_rows(t, src, dst, bias, residual, job, table.view(np.float64), known, line, begin)
    settle(job[STREAM])


@jit(views=True)
def some_rows(t, src, dst, bias, residual, job, f, known, line, begin):
    """A task, whose part of dst begins `begin` elements after the beginning of a line."""
    L, period, block, end, past = job[COUNT], job[PERIOD], job[ROWS], min(job[KEYS], (t + 1) * job[UNITS]), job[STREAM]
    held, ahead, share, pieces = begin, AHEAD_BYTES // src.itemsize, 1 / L, max(1, PIECE // src.itemsize // L)
    for key in range(t * job[UNITS], end, block):
        count = min(block, end - key)
        if block > 1:
            sum_rows(src, job, f, key, count, job[SUMS] + t * 4 * block)
            scale_coefficients(src, job, f, key, count, known, block)
        else:
            known[0], known[1], known[2] = known_of_row(src, job, f, key, share)
        done, alike = 0, count if period == 1 else 1
        while done < count:
            at, to = (key + done) * L, (key + done) % period * L
            if past:
                begin, held = scale_past(src, dst, at, L, alike, pieces, bias, residual, to, known, done, block, ahead, line, begin, held)
            else:
                scale_rows(src, at, L, alike, dst, at, bias, residual, to, known, done, block, 0)
            done += alike
    if past:
        pour_all(line, begin, held, dst, end * L - held)


@jit(views=True)
def wide_row_gradient_sums(x, dout, at, n, weight, to, shift):
    total, square, gradient, product = np.float64(0), np.float64(0), np.float64(0), np.float64(0)
    xs, es, ws = x[at:at + n], dout[at:at + n], weight[to:to + n]
    for i in range(n):
        d, e = np.float64(xs[i]) - shift, np.float64(es[i]) * np.float64(ws[i])
        total += d
        square += d * d
        gradient += e
        product += e * d
    return total, square, gradient, product


@jit(views=True)
def sum_row_gradients(x, dout, at, n, row, count, weight, to, step, f, shift, sums, apart):
    """As `row_gradient_sums`, once more in float64 where a row leaves the range of float32."""
    row_gradient_sums(x, dout, at, n, row, count, weight, to, step, f, shift, sums, apart)
    if not within_range(x, n, f, sums, apart, count, True):
        for i in range(count):
            if not within_range(x, n, f, sums + i, apart, 1, True):
                found = wide_row_gradient_sums(x, dout, at + i * row, n, weight, to + i * step, f[shift + i])
                f[sums + i], f[sums + apart + i], f[sums + 2 * apart + i], f[sums + 3 * apart + i] = found


@jit(views=True)
def row_gradients(src, job, f, key, count, sums, apart, known, step):
    """Of `count` rows, whose sums stand at f[sums + k * apart + i]: their statistics, and center, rest, invstd, -dout_mean, -slope of their dx,
    at known[k * step + i]. Loops over one array each, which LLVM makes vectors of."""
    n, keys, stats, shifts = job[COUNT], job[KEYS], job[STATS] + key, job[SHIFTS] + key
    total, square, gradient, product = (f[sums:sums + count], f[sums + apart:sums + apart + count], f[sums + 2 * apart:sums + 2 * apart + count],
                                        f[sums + 3 * apart:sums + 3 * apart + count])
    mean, invstd, shift = f[stats:stats + count], f[stats + keys:stats + keys + count], f[shifts:shifts + count]
    if job[FLAGS] & CENTERED:
        for i in range(count):
            product[i] -= total[i] / n * gradient[i]
    else:
        total[:] = 0
        gradient[:] = 0
    for i in range(count):
        mean[i] = shift[i] + total[i] / n
    if not job[FLAGS] & GIVEN:
        spread_of(total, square, n)
        for i in range(count):
            invstd[i] = 1 / np.sqrt(square[i] + f[EPS])
    scale_coefficients(src, job, f, key, count, known, step)
    less_mean, less_slope = known[3 * step:3 * step + count], known[4 * step:4 * step + count]
    for i in range(count):
        less_mean[i] = gradient[i] / -n
    for i in range(count):
        less_slope[i] = product[i] * invstd[i] / -n


@jit(merged=True, views=True)
def shift_row(src, job, f, key):
    """As `shift_rows` of one row, which is returned."""
    if not job[FLAGS] & CENTERED:
        return 0.0
    if job[FLAGS] & GIVEN:
        mean = np.float64(src.dtype.type(f[job[STATS] + key]))
        return mean if np.isfinite(mean) else 0.0
    return shift_of_row(src, key * job[COUNT])


@jit(merged=True, views=True)
def row_within_range(x, n, total, square, product):
    """As `within_range` of the sums of one row."""
    return x.itemsize == 8 or (((n * SMALL < square and square < LARGE) or (total == 0 and square == 0)) and abs(product) < LARGE)


@jit(merged=True, views=True)
def row_known(src, job, f, key, shift, total, square, share):
    """Of one row, from its sums of deviations from the shift and of their squares: mean and invstd, which are kept, and center, rest and invstd as
    `scale_coefficients`, in numbers: loops over rows are vectors, and slow where there is one. share: 1 / COUNT."""
    stats = job[STATS] + key
    offset = total * share if job[FLAGS] & CENTERED else 0.0     # no factor of 0: a sum of inf would leave NaN
    mean, invstd = shift + offset, f[stats + job[KEYS]]
    if not job[FLAGS] & GIVEN:
        variance = square * share - offset * offset
        variance = 0.0 if variance < 0 else variance
        invstd = 1 / np.sqrt(variance + f[EPS])
        f[stats + job[KEYS]] = invstd
        if job[FLAGS] & RUNNING:
            f[job[FOLDED] + key], f[job[FOLDED] + job[KEYS] + key] = mean, variance
    f[stats] = mean
    center = np.float64(src.dtype.type(mean))
    rest = (center - mean) * invstd if np.isfinite(center) and center != mean else 0.0
    return offset, center, rest, invstd


@jit(merged=True, views=True)
def gradient_known(src, weight, bias, job, f, key, share):
    """Of one row: center, rest, invstd, -dout_mean, -slope of its dx."""
    n, at, to, shift = job[COUNT], key * job[COUNT], key % job[PERIOD] * job[COUNT], shift_row(src, job, f, key)
    total, square, gradient, product = row_gradient_moments(src, weight, at, n, bias, to, shift)
    if not row_within_range(src, n, total, square, product):
        total, square, gradient, product = wide_row_gradient_sums(src, weight, at, n, bias, to, shift)
    offset, center, rest, invstd = row_known(src, job, f, key, shift, total, square, share)
    if job[FLAGS] & CENTERED:
        product -= offset * gradient
    else:
        gradient = 0.0
    return center, rest, invstd, -share * gradient, -share * (product * invstd)


@jit(views=True)
def add_near(near, apart, f, to, step, n):
    """The sums of a few rows, near[k * apart + i], into those in float64, f[to + k * step + i], k < 2; then they are 0."""
    for k in range(2):
        line, part = f[to + k * step:to + k * step + n], near[k * apart:k * apart + n]
        for i in range(n):
            line[i] += part[i]
        part[:] = 0


@jit(merged=True, views=True)
def gradient_past(src, weight, dst, at, n, rows, together, bias, to, known, known_at, apart, near, sums, P, ahead, line, begin, end):
    """As `gradient_rows`, but what it leaves in dst goes past the caches, through `line`: from there what stands in line[begin:end] goes before it.
    Returns where the next begin and end. `together` rows of a PIECE at most go at a time, or one in pieces."""
    piece, r = PIECE // src.itemsize, 0
    while r < rows:
        many = min(together, rows - r)
        j = 0
        while j < n:
            size, here = min(piece, n - j), at + r * n + j
            begin, end = pour_for(many * size, line, begin, end, dst, here)
            gradient_rows(src, weight, here, size, many, line, end, bias, to + j, known, known_at + r, apart, near, sums + j, P, ahead)
            end += many * size
            j += size
        r += many
    return begin, end


@jit
def rows_gradient(first, last, src, weight, dst, bias, residual, job, table):
    """The backward of such rows; each task leaves what it adds to dweight and dbias in an area of its own, 2 lines of PADDED numbers."""
    lanes = LINE_BYTES // src.itemsize
    known, near, line = np.empty(5 * job[ROWS], src.dtype), aligned(2 * job[PADDED], src), aligned(PIECE // src.itemsize + 2 * lanes, src)
    near[:] = 0
    for t in range(first, last):
        begin = (dst.ctypes.data // src.itemsize + t * job[UNITS] * job[COUNT]) % lanes
        some_row_gradients(t, src, weight, dst, bias, job, table.view(np.float64), known, near, line, begin)
    settle(job[STREAM])


@jit(exact=True, views=True)
def some_row_gradients(t, src, weight, dst, bias, job, f, known, near, line, begin):
    """A task, whose part of dst begins `begin` elements after the beginning of a line. Exact: LLVM is not to order a column's sums differently in each loop."""
    L, period, P, block, end, past = job[COUNT], job[PERIOD], job[PADDED], job[ROWS], min(job[KEYS], (t + 1) * job[UNITS]), job[STREAM]
    step, strip, taken, held, ahead = 0 if period == 1 else L, STRIP * period, 0, begin, AHEAD_BYTES // src.itemsize
    area, sums, share, pieces = job[PLANES] + t * 2 * P, job[SUMS] + t * 4 * block, 1 / L, max(1, PIECE // src.itemsize // L)
    f[area:area + 2 * P] = 0
    for key in range(t * job[UNITS], end, block):
        count, done = min(block, end - key), 0
        if block > 1:
            shift_rows(src, src[:0], job, f, key, count)
            while done < count:              # rows whose parameters lie one behind the other
                to = (key + done) % period
                more = min(count - done, period - to) if period > 1 else count
                sum_row_gradients(src, weight, (key + done) * L, L, L, more, bias, to * L, step, f, job[SHIFTS] + key + done, sums + done, block)
                done += more
            row_gradients(src, job, f, key, count, sums, block, known, block)
        else:
            known[0], known[1], known[2], known[3], known[4] = gradient_known(src, weight, bias, job, f, key, share)
        done = 0
        while done < count:
            n, at, to = min(strip - taken, count - done) if period == 1 else 1, (key + done) * L, (key + done) % period * L
            if past:
                begin, held = gradient_past(src, weight, dst, at, L, n, pieces, bias, to, known, done, block, near, to, P, ahead, line, begin, held)
            else:
                gradient_rows(src, weight, at, L, n, dst, at, bias, to, known, done, block, near, to, P, 0)
            done, taken = done + n, taken + n
            if taken == strip:
                add_near(near, P, f, area, P, P)
                taken = 0
    if past:
        pour_all(line, begin, held, dst, end * L - held)
    add_near(near, P, f, area, P, P)


@jit(views=True)
def fold_rows(first, last, src, weight, dst, bias, residual, job, table):
    """dweight and dbias of each channel: the sums over its LENGTH columns and the areas, COLUMNS of them."""
    f = table.view(np.float64)
    C, S, P = job[CHANNELS], job[LENGTH], job[PADDED]
    total = f[job[PLANES]:job[PLANES] + 2 * P]
    for t in range(1, job[COLUMNS]):
        more = f[job[PLANES] + t * 2 * P:job[PLANES] + (t + 1) * 2 * P]
        for i in range(2 * P):
            total[i] += more[i]
    for k in range(2):
        found, line = f[job[GRADIENTS] + k * C:job[GRADIENTS] + (k + 1) * C], total[k * P:k * P + C * S]
        add_columns(line, S, found)


# ---------------------------------------------------------------- long rows, in parts
@jit(views=True)
def sum_parts(first, last, src, weight, dst, bias, residual, job, table):
    """First pass: part `unit % PARTS` of each row; 2 sums of the forward, 4 of the backward."""
    f = table.view(np.float64)
    L, parts, span, sums, units = job[COUNT], job[PARTS], job[SPAN], job[SUMS], job[KEYS] * job[PARTS]
    for u in range(first, last):
        key, s = u // parts, u % parts * span
        at, n, shift = key * L + s, min(span, L - s), job[SHIFTS] + key
        if weight.size:
            sum_row_gradients(src, weight, at, n, n, 1, bias, key % job[PERIOD] * L + s, 0, f, shift, sums + u, units)
            continue
        segment_moments(src, at, n, n, 1, f, shift, 0, sums + u, units)
        if not within_range(src, n, f, sums + u, units, 1, False):
            wide = wide_gradient_moments(src, src, at, n, f[shift], f[shift])
            f[sums + u], f[sums + units + u] = wide[0], wide[1]


@jit(views=True)
def prepare_parts(first, last, src, weight, dst, bias, residual, job, table):
    """Before the first pass: the shifts."""
    shift_rows(src, src[:0], job, table.view(np.float64), 0, job[KEYS])


@jit(views=True)
def finish_parts(first, last, src, weight, dst, bias, residual, job, table):
    """Between the passes: the statistics of each row, in the backward what its dx is made of, and no gradients yet."""
    f = table.view(np.float64)
    parts, units, sums, keys = job[PARTS], job[KEYS] * job[PARTS], job[SUMS], job[KEYS]
    for key in range(keys):
        for k in range(4 if weight.size else 2):
            f[job[FOLDED] + k * keys + key] = f[sums + k * units + key * parts:sums + k * units + (key + 1) * parts].sum()
    known = f[job[COEFFICIENTS]:job[COEFFICIENTS] + 5 * keys]
    if weight.size:
        row_gradients(src, job, f, 0, keys, job[FOLDED], keys, known, keys)
        f[job[PLANES]:job[PLANES] + 2 * job[PADDED]] = 0
    else:
        row_statistics(job, f, 0, keys, job[FOLDED])
        scale_coefficients(src, job, f, 0, keys, known, keys)


@jit
def scale_parts(first, last, src, weight, dst, bias, residual, job, table):
    """Second pass of the forward."""
    lanes = LINE_BYTES // src.itemsize
    line, lead = aligned(PIECE // src.itemsize + 2 * lanes, src), dst.ctypes.data // src.itemsize
    for u in range(first, last):
        scale_part(u, src, dst, bias, residual, job, table.view(np.float64), line, lead)
    settle(job[STREAM])


@jit(views=True)
def scale_part(u, src, dst, bias, residual, job, f, line, lead):
    """Part u of all. lead: elements of dst's address."""
    L, parts, span, keys, ahead = job[COUNT], job[PARTS], job[SPAN], job[KEYS], AHEAD_BYTES // src.itemsize
    key, s = u // parts, u % parts * span
    at, n, to, known = key * L + s, min(span, L - s), key % job[PERIOD] * L + s, job[COEFFICIENTS] + key
    if not job[STREAM]:
        scale_rows(src, at, n, 1, dst, at, bias, residual, to, f, known, keys, ahead)
        return
    begin = (lead + at) % (LINE_BYTES // src.itemsize)
    begin, end = scale_past(src, dst, at, n, 1, 1, bias, residual, to, f, known, keys, ahead, line, begin, begin)
    pour_all(line, begin, end, dst, at + n - end)


@jit
def gradient_parts(first, last, src, weight, dst, bias, residual, job, table):
    """Second pass of the backward: a task is a part of the columns, of all rows. PERIOD is 1."""
    lanes = LINE_BYTES // src.itemsize
    near, line = aligned(2 * job[SPAN], src), aligned(PIECE // src.itemsize + 2 * lanes, src)
    near[:] = 0
    for t in range(first, last):
        part_gradient(t * job[SPAN], src, weight, dst, bias, job, table.view(np.float64), near, line, dst.ctypes.data // src.itemsize)
    settle(job[STREAM])


@jit(exact=True, views=True)
def part_gradient(s, src, weight, dst, bias, job, f, near, line, lead):
    """The part from column s on. Exact as `some_row_gradients` is."""
    L, span, P, keys, ahead = job[COUNT], job[SPAN], job[PADDED], job[KEYS], AHEAD_BYTES // src.itemsize
    n = min(span, L - s)
    for key in range(0, keys, STRIP):
        for i in range(key, min(keys, key + STRIP)):
            at, known = i * L + s, job[COEFFICIENTS] + i
            if not job[STREAM]:
                gradient_rows(src, weight, at, n, 1, dst, at, bias, s, f, known, keys, near, 0, span, ahead)
                continue
            begin = (lead + at) % (LINE_BYTES // src.itemsize)
            begin, end = gradient_past(src, weight, dst, at, n, 1, 1, bias, s, f, known, keys, near, 0, span, ahead, line, begin, begin)
            pour_all(line, begin, end, dst, at + n - end)
        add_near(near, span, f, job[PLANES] + s, P, n)
