"""Overlaps of boxes. Boxes stand as five rows of one array: left, top, right, bottom and area, a column a box.

A NaN in a box shows in its area, from where it reaches every result of that box.
"""
from __future__ import annotations

from .jit import jit


@jit(exact=True)
def length(end1, end2, begin1, begin2):
    """How long two intervals overlap: not above 0 where they do not."""
    return (end1 if end1 < end2 else end2) - (begin1 if begin1 > begin2 else begin2)


@jit(exact=True)
def shared(width, height, zero):
    """The area of an overlap. zero: of the boxes' dtype, which a plain 0 would widen."""
    return width * height if (width > zero) & (height > zero) else zero


@jit(exact=True)
def overlap(left1, top1, right1, bottom1, area1, left2, top2, right2, bottom2, area2, zero):
    """Intersection over union of two boxes, 0 where the union is 0, and the union."""
    both = shared(length(right1, right2, left1, left2), length(bottom1, bottom2, top1, top2), zero)
    union = area1 + area2 - both
    return both / union if union != 0 else union, union


@jit(exact=True)
def iou_rows(first, last, src, weight, dst, bias, residual, job, table):
    """dst (N, M): intersection over union of each box of src (5, N) and each of weight (5, M); 0 where the union is 0."""
    N, M, rows, zero = job[0], job[1], job[2], src.dtype.type(0)
    left, top, right, bottom, area = weight[:M], weight[M:2 * M], weight[2 * M:3 * M], weight[3 * M:4 * M], weight[4 * M:5 * M]
    for n in range(first * rows, min(N, last * rows)):
        left1, top1, right1, bottom1, area1 = src[n], src[N + n], src[2 * N + n], src[3 * N + n], src[4 * N + n]
        row = dst[n * M:n * M + M]
        for m in range(M):
            row[m] = overlap(left1, top1, right1, bottom1, area1, left[m], top[m], right[m], bottom[m], area[m], zero)[0]


@jit(exact=True)
def generalized_iou_rows(first, last, src, weight, dst, bias, residual, job, table):
    """dst (N, M): iou_rows, less the share of the smallest box around both that neither covers."""
    N, M, rows, zero = job[0], job[1], job[2], src.dtype.type(0)
    left, top, right, bottom, area = weight[:M], weight[M:2 * M], weight[2 * M:3 * M], weight[3 * M:4 * M], weight[4 * M:5 * M]
    for n in range(first * rows, min(N, last * rows)):
        left1, top1, right1, bottom1, area1 = src[n], src[N + n], src[2 * N + n], src[3 * N + n], src[4 * N + n]
        row = dst[n * M:n * M + M]
        for m in range(M):
            iou, union = overlap(left1, top1, right1, bottom1, area1, left[m], top[m], right[m], bottom[m], area[m], zero)
            width = (right1 if right1 > right[m] else right[m]) - (left1 if left1 < left[m] else left[m])
            height = (bottom1 if bottom1 > bottom[m] else bottom[m]) - (top1 if top1 < top[m] else top[m])
            hull = shared(width, height, zero)
            row[m] = iou - (hull - union) / hull if hull != 0 else iou


@jit(exact=True)
def suppress(first, last, src, weight, dst, bias, residual, job, table):
    """Greedy suppression of N boxes src (5, N), the best first. bias[0]: the threshold.

    table (2, N): classes, and what to keep, all 1 at the start: 0 is put where a box kept before it, of its class, overlaps it more.
    """
    N, threshold, zero = job[0], bias[0], src.dtype.type(0)
    for n in range(N):
        if table[N + n]:
            left1, top1, right1, bottom1, area1 = src[n], src[N + n], src[2 * N + n], src[3 * N + n], src[4 * N + n]
            kind, rest = table[n], N - n - 1
            left, top, right, bottom = src[n + 1:N], src[N + n + 1:2 * N], src[2 * N + n + 1:3 * N], src[3 * N + n + 1:4 * N]
            area, kinds, keep = src[4 * N + n + 1:5 * N], table[n + 1:N], table[N + n + 1:2 * N]
            for m in range(rest):
                iou = overlap(left1, top1, right1, bottom1, area1, left[m], top[m], right[m], bottom[m], area[m], zero)[0]
                keep[m] = 0 if (iou > threshold) & (kinds[m] == kind) else keep[m]
