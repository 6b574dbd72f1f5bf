"""The integers of a pooling in three dimensions (one and two are three with axes of length 1), and where windows meet the image.

A task does whole units: of a result, blocks of its rows, of a gradient, bands of rows. Rows of a volume (D, H, W) are counted through, d * H + h.
"""
from __future__ import annotations

import numpy as np

from .jit import jit

# The kernel of a row: by stride and taps along it, or by way of a buffer.
BUFFER, ONE_1, TWO_1, THREE_1, FIVE_1, TWO_2, THREE_2 = range(7)
VARIANTS = {(1, 1): ONE_1, (1, 2): TWO_1, (1, 3): THREE_1, (1, 5): FIVE_1, (2, 2): TWO_2, (2, 3): THREE_2}

PART = 8 * 1024                              # bytes of a gradient, about, that are made in L1 and then stored past the caches (measured)

NAMES = ("planes", "D", "H", "W", "OD", "OH", "OW", "KD", "KH", "KW", "SD", "SH", "SW", "PD", "PT", "PL", "DD", "DH", "DW",
         "row_blocks", "column_blocks", "units", "tasks", "variant")


def pack(**sizes: int) -> np.ndarray:
    """The job that `unpack` takes apart: every name of NAMES, once."""
    return np.array([sizes[name] for name in NAMES], np.int64)


@jit
def unpack(job):
    """planes (N * C), sizes of an image and of its result, kernel, stride, padding before, dilation."""
    return (job[0], job[1], job[2], job[3], job[4], job[5], job[6], job[7], job[8], job[9], job[10], job[11], job[12], job[13], job[14],
            job[15], job[16], job[17], job[18])


@jit
def blocks(job):
    """Into how many blocks the rows and the columns of a plane are cut, the units there are, the tasks, and which kernel of a row."""
    return job[19], job[20], job[21], job[22], job[23]


@jit
def units_of(first, last, units, tasks):
    """The units of tasks first .. last."""
    return first * units // tasks, last * units // tasks


@jit
def block_of(unit, job):
    """A unit of a result: where its volume of x begins, od, where its plane of y begins, its rows oh0 .. oh1 and its columns ow0 .. ow1."""
    OD, OH, OW, row_blocks, column_blocks = job[4], job[5], job[6], job[19], job[20]
    column, block = unit % column_blocks, unit // column_blocks
    plane_od, row = block // row_blocks, block % row_blocks
    return (plane_od // OD * (job[1] * job[2] * job[3]), plane_od % OD, plane_od * OH * OW, row * OH // row_blocks, (row + 1) * OH // row_blocks,
            column * OW // column_blocks, (column + 1) * OW // column_blocks)


@jit
def first_tap(start, step):
    """The first tap whose element start + tap * step is not negative."""
    return 0 if start >= 0 else (-start + step - 1) // step


@jit
def rows_of(offsets, job, od, oh):
    """Write where the rows that the windows of row (od, oh) hold start in a volume, in order; how many there are."""
    planes, D, H, W, OD, OH, OW, KD, KH, KW, SD, SH, SW, PD, PT, PL, DD, DH, DW = unpack(job)
    count, h0 = 0, oh * SH - PT
    for kd in range(KD):
        d = od * SD - PD + kd * DD
        if 0 <= d < D:
            for kh in range(KH):
                h = h0 + kh * DH
                if 0 <= h < H:
                    offsets[count] = (d * H + h) * W
                    count += 1
    return count


@jit
def touching(lo, hi, K, S, P, D, outputs):
    """The outputs first <= o < last whose windows may touch lo .. hi - 1 of an axis, and no others that could."""
    first = max(0, -((D * (K - 1) - P - lo) // S))
    return first, max(first, min(outputs, (hi - 1 + P) // S + 1))


@jit
def band_of(unit, job):
    """A unit of a gradient: its volume of x, the rows row0 .. row1 of it, and the od and oh of the outputs whose windows may touch these."""
    planes, D, H, W, OD, OH, OW, KD, KH, KW, SD, SH, SW, PD, PT, PL, DD, DH, DW = unpack(job)
    plane, band, bands = unit // job[19], unit % job[19], job[19]
    row0, row1 = band * D * H // bands, (band + 1) * D * H // bands
    od0, od1 = touching(row0 // H, (row1 - 1) // H + 1, KD, SD, PD, DD, OD)
    oh0, oh1 = touching(row0, row1, KH, SH, PT, DH, OH) if D == 1 else (0, OH)
    return plane, row0, row1, od0, od1, oh0, oh1
