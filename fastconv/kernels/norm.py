"""Normalisation of segments of memory in two passes: batch norm of images, and groups too large for one core.

Memory is M segments of S elements, one for each image and channel; segment i has channel i % C and statistics i // DIV % KEYS: of batch norm
DIV is 1 and KEYS is C, of group norm KEYS counts the groups of all images and DIV the channels of one. Both passes go through memory in its
own order, cut into parts of segments; between them what the parts found is folded.

    y = (x - mean) * invstd * weight + bias                                                            xhat = (x - mean) * invstd
    dx = (weight * dout - average(weight * dout) - xhat * average(weight * dout * xhat)) * invstd

Sums are taken of deviations from a shift, the mean of the first values, and added in float64: right for a mean of 1e6 and a deviation of 1 in
float32. A mean is kept in float64 and used in two steps: its value in the dtype of x, whose difference is exact where it matters, and
what that left out, which goes into the constant of the second pass.

The kernels share the signature of tasks.py; src is x, weight is dout in a backward, dst is y or dx. `table`, seen as float64, holds everything
that belongs to a channel, a group or a part; where each begins stands in `job` (`fastconv/norm/layout.py` lays them out).
"""
from __future__ import annotations

import numpy as np

from .jit import jit
from .norm_simd import LARGE, SMALL, gradient_segment, scale_segment, segment_gradient_sums, segment_moments, shifts_of_first
from .simd import AHEAD_BYTES, settle

# What stands where in `job`: sizes, and where the areas of `table` begin.
SEGMENTS, LENGTH, DIV, KEYS, CHANNELS, PARTS, SPAN, UNITS, STREAM, FLAGS, COUNT = range(11)
PARAMETERS = 11                              # weight, bias, running mean, running variance: C each
STATS = 12                                   # mean, invstd: KEYS each, and in the backward of some families more
SHIFTS = 13                                  # of x and of dout: KEYS each
FOLDED = 14                                  # sums over the parts: KEYS each, 2 or 4; of the forward then the mean and variance of x
GRADIENTS = 15                               # dweight, dbias: C each
PLANES = 16                                  # what each segment adds to them: M each
COEFFICIENTS = 17                            # of the second pass: 6 lines, a number for each of CYCLE segments, whose turn then comes again
SUMS = 18                                    # of the parts, M * PARTS each, 2 or 4
ROWS, COLUMNS, PADDED, PERIOD = 19, 20, 21, 22       # of the families with columns
CYCLE = 23                                   # C, or of groups M
EACH = 24                                    # whether each element of a row has a weight and a bias of its own
RESIDUAL, TABLE = 25, 26                     # elements of what each column needs, and numbers of `table`
JOB = 27

# Flags: statistics of x itself; the running ones move; mean and invstd are given; the mean is subtracted; table has ...; dx is wanted.
OWN, RUNNING, GIVEN, CENTERED = 1, 2, 4, 8

EPS, MOMENTUM = 0, 1                         # the first numbers of `table`


# ---------------------------------------------------------------- sums
@jit(views=True)
def within_range(x, n, f, sums, apart, count, products):
    """Whether nothing left the range of float32 on the way to the sums at f[sums + k * apart + i] of runs i < count of n elements of x: of d, d * d
    and, if there are `products`, e and e * d. Nothing but zeros is in it."""
    bad, total, square = 0, f[sums:sums + count], f[sums + apart:sums + apart + count]
    for i in range(count if x.itemsize == 4 else 0):
        bad += 0 if ((n * SMALL < square[i]) & (square[i] < LARGE)) | ((total[i] == 0) & (square[i] == 0)) else 1
    if products:
        product = f[sums + 3 * apart:sums + 3 * apart + count]
        for i in range(count if x.itemsize == 4 else 0):
            bad += 0 if abs(product[i]) < LARGE else 1
    return bad == 0


@jit(merged=True, views=True)
def split(value, like):
    """A float64 in two: its value in the dtype of `like`, and what that leaves out; 0 if that is not finite."""
    head = np.float64(like.dtype.type(value))
    return (head, value - head) if np.isfinite(head) else (head, 0.0)


@jit(views=True)
def finite(value):
    return value if np.isfinite(value) else 0.0


@jit(views=True)
def wide_gradient_moments(x, dout, at, n, shift, dout_shift):
    """As `gradient_moments`, all in float64. dout may be x."""
    total, square, gradient, product = np.float64(0), np.float64(0), np.float64(0), np.float64(0)
    xs, es = x[at:at + n], dout[at:at + n]
    for i in range(n):
        d, e = np.float64(xs[i]) - shift, np.float64(es[i]) - dout_shift
        total += d
        square += d * d
        gradient += e
        product += e * d
    return total, square, gradient, product


@jit(merged=True, views=True)
def statistics(total, square, count, shift, eps):
    """(mean, biased variance, 1 / sqrt(variance + eps)) from the sums of deviations from the shift and of their squares."""
    offset = total / count
    variance = square / count - offset * offset
    if variance < 0:
        variance = 0.0
    return shift + offset, variance, 1 / np.sqrt(variance + eps)


@jit(views=True)
def spread_of(total, square, count):
    """The variances, into `square`, from the sums of deviations and of their squares."""
    for c in range(total.size):
        offset = total[c] / count
        variance = square[c] / count - offset * offset
        square[c] = 0.0 if variance < 0 else variance


# ---------------------------------------------------------------- before and between the passes
@jit(views=True)
def running_statistics(job, f):
    """mean and invstd as they are in evaluation: the running ones."""
    C, stats, parameters, eps = job[CHANNELS], job[STATS], job[PARAMETERS], f[EPS]
    mean, invstd = f[stats:stats + C], f[stats + C:stats + 2 * C]
    running_mean, running_var = f[parameters + 2 * C:parameters + 3 * C], f[parameters + 3 * C:parameters + 4 * C]
    for c in range(C):
        mean[c] = running_mean[c]
    for c in range(C):
        invstd[c] = 1 / np.sqrt(running_var[c] + eps)


@jit(views=True)
def move_running(job, f, mean, variance):
    """Move the running statistics towards the averages over the images of these, which stand at `mean` and `variance` (biased)."""
    C, count, momentum, parameters = job[CHANNELS], job[COUNT], f[MOMENTUM], job[PARAMETERS]
    images = job[KEYS] // C
    for new, to, factor in ((mean, parameters + 2 * C, 1.0), (variance, parameters + 3 * C, count / max(count - 1.0, 1.0))):
        running, total, factor = f[to:to + C], f[new:new + C], momentum * factor / images
        for n in range(1, images):
            more = f[new + n * C:new + (n + 1) * C]
            for c in range(C):
                total[c] += more[c]
        for c in range(C):
            running[c] = (1 - momentum) * running[c] + factor * total[c]


@jit(views=True)
def prepare(first, last, src, weight, dst, bias, residual, job, table):
    """Before the first pass: the shifts."""
    f = table.view(np.float64)
    S, keys, shifts, known = job[LENGTH], job[KEYS], job[SHIFTS], job[FLAGS] & GIVEN or not job[FLAGS] & OWN
    if not job[FLAGS] & (OWN | GIVEN):
        running_statistics(job, f)
    if known:
        for key in range(keys):
            f[shifts + key] = finite(split(f[job[STATS] + key], src)[0])
    else:
        shifts_of_first(src, 0, job[DIV] * S, S, keys, f, shifts)
    if weight.size:
        shifts_of_first(weight, 0, job[DIV] * S, S, keys, f, shifts + keys)


@jit(views=True)
def fold(job, f, count):
    """The `count` sums of each key over all its parts, in their order."""
    keys, run, units = job[KEYS], job[DIV] * job[PARTS], job[SEGMENTS] * job[PARTS]
    for k in range(count):
        total = f[job[FOLDED] + k * keys:job[FOLDED] + (k + 1) * keys]
        total[:] = 0
        for n in range(units // (run * keys)):
            source = f[job[SUMS] + k * units + n * run * keys:job[SUMS] + k * units + (n + 1) * run * keys]
            if run == 1:
                for key in range(keys):
                    total[key] += source[key]
            else:
                for key in range(keys):
                    for value in source[key * run:(key + 1) * run]:
                        total[key] += value


@jit(views=True)
def own_statistics(job, f):
    """mean and invstd from the folded sums; these become the mean and the variance of x."""
    keys, stats, folded = job[KEYS], job[STATS], job[FOLDED]
    total, square, shift = f[folded:folded + keys], f[folded + keys:folded + 2 * keys], f[job[SHIFTS]:job[SHIFTS] + keys]
    mean, invstd, count, eps = f[stats:stats + keys], f[stats + keys:stats + 2 * keys], job[COUNT], f[EPS]
    spread_of(total, square, count)          # one array at a time: LLVM makes vectors of loops that write a single one
    for key in range(keys):
        invstd[key] = 1 / np.sqrt(square[key] + eps)
    for key in range(keys):
        mean[key] = shift[key] + total[key] / count
    for key in range(keys):
        total[key] = mean[key]
    if job[FLAGS] & RUNNING:
        move_running(job, f, folded, folded + keys)


@jit(merged=True, views=True)
def forward_coefficients(src, job, f, mean, invstd, c, to, apart):
    """center, scale and shift of y = (x - center) * scale + shift for channel c, or a column of it, to f[to + k * apart]."""
    center, rest = split(mean, src)
    scale = invstd * f[job[PARAMETERS] + c]
    f[to], f[to + apart], f[to + 2 * apart] = center, scale, f[job[PARAMETERS] + job[CHANNELS] + c] - (rest * scale if rest != 0 else 0.0)


@jit(views=True)
def finish_forward(first, last, src, weight, dst, bias, residual, job, table):
    """Between the passes: statistics and coefficients."""
    f = table.view(np.float64)
    C, keys, stats = job[CHANNELS], job[KEYS], job[STATS]
    if job[FLAGS] & OWN:
        fold(job, f, 2)
        own_statistics(job, f)
    else:
        running_statistics(job, f)
    for i in range(job[CYCLE]):
        key = i // job[DIV]
        forward_coefficients(src, job, f, f[stats + key], f[stats + keys + key], i % C, job[COEFFICIENTS] + i, job[CYCLE])


@jit(merged=True, views=True)
def gradient_coefficients(src, mean, invstd, weight, dout_shift, dout_mean, slope, f, to, apart):
    """center, dout_center, a, b, d, invstd of dx = (weight * dout - dout_mean - (x - mean) * slope) * invstd
    = (a * (dout - dout_center) + (b * (x - center) + d)) * invstd, to f[to + k * apart]."""
    center, rest = split(mean, src)
    constant = weight * dout_shift - dout_mean
    if rest != 0 and np.isfinite(slope):
        constant += rest * slope
    f[to], f[to + apart], f[to + 2 * apart] = center, dout_shift, weight
    f[to + 3 * apart], f[to + 4 * apart], f[to + 5 * apart] = -slope, constant, invstd


@jit(merged=True, views=True)
def batch_gradients(src, job, f, c):
    """Of channel c, whose key is c: mean and invstd, dweight and dbias; returns what its dx is made of."""
    C, stats, shifts, folded, gradients = job[CHANNELS], job[STATS], job[SHIFTS], job[FOLDED], job[GRADIENTS]
    shift, dout_shift, count = f[shifts + c], f[shifts + C + c], max(job[COUNT], 1)
    total, square, gradient, product = f[folded + c], f[folded + C + c], f[folded + 2 * C + c], f[folded + 3 * C + c]
    dout_sum = gradient + job[COUNT] * dout_shift
    if job[FLAGS] & OWN:
        found = statistics(total, square, count, shift, f[EPS])
        f[stats + c] = found[0]
        if not job[FLAGS] & GIVEN:
            f[stats + C + c] = found[2]
        product -= total / count * gradient
    else:
        product += dout_shift * total + (shift - f[stats + c]) * dout_sum
    invstd = f[stats + C + c]
    f[gradients + c], f[gradients + C + c] = product * invstd, dout_sum
    weight = f[job[PARAMETERS] + c]
    return f[stats + c], invstd, weight, dout_shift, weight * (dout_sum / count), weight * (product * invstd * invstd / count)


@jit(views=True)
def finish_batch_backward(first, last, src, weight, dst, bias, residual, job, table):
    """Between the passes: statistics, dweight and dbias, and coefficients; of running statistics dx = dout * scale."""
    f = table.view(np.float64)
    fold(job, f, 4)
    for c in range(job[CHANNELS]):
        mean, invstd, weight_c, dout_shift, dout_mean, slope = batch_gradients(src, job, f, c)
        if job[FLAGS] & OWN:
            gradient_coefficients(src, mean, invstd, weight_c, dout_shift, dout_mean, slope, f, job[COEFFICIENTS] + c, job[CYCLE])


@jit(views=True)
def finish_running_backward(first, last, src, weight, dst, bias, residual, job, table):
    """The coefficients of dx = dout * scale, where the statistics are the running ones."""
    f = table.view(np.float64)
    if not job[FLAGS] & GIVEN:
        running_statistics(job, f)
    for c in range(job[CHANNELS]):
        to, apart = job[COEFFICIENTS] + c, job[CYCLE]
        f[to], f[to + apart], f[to + 2 * apart] = 0.0, f[job[STATS] + job[CHANNELS] + c] * f[job[PARAMETERS] + c], 0.0


@jit(views=True)
def each_segment(values, div, line):
    """line[i * div + j] = values[i] for j < div: what belongs to a group, for each of its segments."""
    if div == 1:
        for i in range(line.size):
            line[i] = values[i]
    else:
        for i in range(values.size):
            part, value = line[i * div:(i + 1) * div], values[i]
            for j in range(part.size):
                part[j] = value


@jit(views=True)
def group_gradients(src, job, f, key, count, sums, lines, known):
    """Of groups key .. key + count - 1, of DIV segments each: their statistics, what the segments add to dweight and dbias (at PLANES), and what
    their dx is made of.

    With s one of these run = count * DIV segments, sums[k * run + s] is its k-th sum, and center, dout_center, a, b, d, invstd of
    `gradient_coefficients` go to known[k * run + s]. lines: run + 4 * count numbers to work in. Each loop writes one array: LLVM makes vectors of it.
    """
    div, keys, n, M, C, S, run = job[DIV], job[KEYS], job[COUNT], job[SEGMENTS], job[CHANNELS], job[LENGTH], count * job[DIV]
    stats, shifts, planes, c = job[STATS] + key, job[SHIFTS] + key, job[PLANES] + key * div, key * div % C
    mean, invstd = f[stats:stats + count], f[stats + keys:stats + keys + count]
    shift, dout_shift = f[shifts:shifts + count], f[shifts + keys:shifts + keys + count]
    total, square, gradient, product = sums[:run], sums[run:2 * run], sums[2 * run:3 * run], sums[3 * run:4 * run]
    line, one, two = lines[:run], lines[run:run + count], lines[run + count:run + 2 * count]
    add_columns(total, div, one)
    for i in range(count):
        mean[i] = shift[i] + one[i] / n
    if not job[FLAGS] & GIVEN:
        add_columns(square, div, two)
        spread_of(one, two, n)
        for i in range(count):
            invstd[i] = 1 / np.sqrt(two[i] + f[EPS])
    each_segment(dout_shift, div, line)
    for s in range(run):
        gradient[s] += S * line[s]
    for s in range(run):
        product[s] += line[s] * total[s]
    for i in range(count):
        one[i] /= -n                         # not shift - mean: the mean is rounded
    each_segment(one, div, line)
    for s in range(run):
        product[s] += line[s] * gradient[s]
    each_segment(invstd, div, line)
    to_weight, to_bias = f[planes:planes + run], f[planes + M:planes + M + run]
    for s in range(run):
        to_weight[s] = product[s] * line[s]
    for s in range(run):
        to_bias[s] = gradient[s]

    center, dout_center, a = known[:run], known[run:2 * run], known[2 * run:3 * run]
    b, d, factor = known[3 * run:4 * run], known[4 * run:5 * run], known[5 * run:6 * run]
    for s in range(run):
        factor[s] = line[s]
    done = 0
    while done < run:                        # the weights, channel after channel
        more = min(run - done, C - c)
        part, values = a[done:done + more], f[job[PARAMETERS] + c:job[PARAMETERS] + c + more]
        for s in range(more):
            part[s] = values[s]
        done, c = done + more, 0
    for s in range(run):
        gradient[s] *= a[s]
    for s in range(run):
        product[s] *= a[s]
    dout_mean, slope = lines[run + 2 * count:run + 3 * count], lines[run + 3 * count:run + 4 * count]
    add_columns(gradient, div, dout_mean)
    add_columns(product, div, slope)
    for i in range(count):
        slope[i] *= invstd[i] * invstd[i] / n
    for i in range(count):
        one[i] = src.dtype.type(mean[i])
    for i in range(count):
        rest = (mean[i] - one[i]) * slope[i]
        two[i] = rest if np.isfinite(one[i]) and one[i] != mean[i] and np.isfinite(slope[i]) else 0.0
    for i in range(count):
        two[i] -= dout_mean[i] / n
    each_segment(one, div, center)
    each_segment(dout_shift, div, dout_center)
    each_segment(two, div, line)
    for s in range(run):
        d[s] = line[s] + np.float64(a[s]) * dout_center[s]
    each_segment(slope, div, line)
    for s in range(run):
        b[s] = -line[s]


@jit(views=True)
def fold_planes(first, last, src, weight, dst, bias, residual, job, table):
    """dweight and dbias: the sums over the images of what their segments add."""
    f = table.view(np.float64)
    C, M = job[CHANNELS], job[SEGMENTS]
    for k in range(2):
        total = f[job[GRADIENTS] + k * C:job[GRADIENTS] + (k + 1) * C]
        total[:] = 0
        for n in range(M // C):
            source = f[job[PLANES] + k * M + n * C:job[PLANES] + k * M + (n + 1) * C]
            for c in range(C):
                total[c] += source[c]


@jit
def finish_group_backward(first, last, src, weight, dst, bias, residual, job, table):
    """Between the passes: statistics, dweight and dbias, and coefficients."""
    f = table.view(np.float64)
    M, keys, parts, sums, to = job[SEGMENTS], job[KEYS], job[PARTS], job[SUMS], job[COEFFICIENTS]
    each, lines = np.empty(4 * M, np.float64), np.empty(M + 4 * keys, np.float64)
    add_columns(f[sums:sums + 4 * M * parts], parts, each)
    group_gradients(src, job, f, 0, keys, each, lines, f[to:to + 6 * M])
    fold_planes(0, 1, src, weight, dst, bias, residual, job, table)


# ---------------------------------------------------------------- the passes
@jit(views=True)
def sum_again(src, weight, job, f, unit, count):
    """The sums of these units once more, all in float64: some left the range of float32."""
    S, parts, span, units, shifts, sums = job[LENGTH], job[PARTS], job[SPAN], job[SEGMENTS] * job[PARTS], job[SHIFTS], job[SUMS]
    for u in range(unit, unit + count):
        segment, s = u // parts, u % parts * span
        at, n, key = segment * S + s, min(span, S - s), segment // job[DIV] % job[KEYS]
        if weight.size:
            found = wide_gradient_moments(src, weight, at, n, f[shifts + key], f[shifts + job[KEYS] + key])
            f[sums + 2 * units + u], f[sums + 3 * units + u] = found[2], found[3]
        else:
            found = wide_gradient_moments(src, src, at, n, f[shifts + key], f[shifts + key])
        f[sums + u], f[sums + units + u] = found[0], found[1]


@jit(views=True)
def sum_segments(first, last, src, weight, dst, bias, residual, job, table):
    """First pass: 2 sums of the forward, 4 of the backward."""
    f = table.view(np.float64)
    S, div, keys, parts, span, units = job[LENGTH], job[DIV], job[KEYS], job[PARTS], job[SPAN], job[SEGMENTS] * job[PARTS]
    u, end = first * job[UNITS], min(units, last * job[UNITS])
    while u < end:                           # runs of segments whose shifts are side by side, or one; or a part
        segment, s = u // parts, u % parts * span
        at, n, key = segment * S + s, min(span, S - s), segment // div % keys
        shift, to, count = job[SHIFTS] + key, job[SUMS] + u, 1
        if parts == 1:
            count = min(end - u, keys - key if div == 1 else div - segment % div)
        if weight.size:
            segment_gradient_sums(src, weight, at, n, S, count, f, shift, shift + keys, div == 1, to, units)
        else:
            segment_moments(src, at, n, S, count, f, shift, div == 1, to, units)
        if not within_range(src, n, f, to, units, count, weight.size > 0):
            sum_again(src, weight, job, f, u, count)
        u += count


@jit(views=True)
def change_segments(first, last, src, weight, dst, bias, residual, job, table):
    """Second pass: y from x, or dx from x and dout, by the coefficients of each channel or segment."""
    f = table.view(np.float64)
    S, parts, span, C = job[LENGTH], job[PARTS], job[SPAN], job[CYCLE]
    u, end = first * job[UNITS], min(job[SEGMENTS] * parts, last * job[UNITS])
    while u < end:
        segment, s = u // parts, u % parts * span
        at, n, c, known = segment * S + s, min(span, S - s), segment % C, job[COEFFICIENTS]
        count = end - u if parts == 1 else 1
        if weight.size:
            gradient_segment(src, weight, dst, at, n, S, count, f, known, 1, C, c, C, AHEAD_BYTES // src.itemsize, job[STREAM])
        else:
            scale_segment(src, dst, at, n, S, count, f, known, 1, C, c, C, AHEAD_BYTES // src.itemsize, job[STREAM])
        u += count
    settle(job[STREAM])


@jit(views=True)
def add_columns(line, S, total):
    """total[c] = the sum of the S numbers of `line` from c * S on."""
    if S == 1:
        for c in range(total.size):
            total[c] = line[c]
    else:
        for c in range(total.size):
            total[c] = line[c * S:(c + 1) * S].sum()
