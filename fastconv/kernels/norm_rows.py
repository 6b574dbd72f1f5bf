"""Normalisation of rows, each with statistics of its own: layer, RMS, instance norm and groups that one core takes whole.

Memory is KEYS rows of ROW elements. A row is read once from memory: its sums are taken, and it is changed while the caches still hold it.
Where it is a group of DIV segments (PERIOD 0) a channel has a segment; else every element has a weight and a bias of its own, at `bias` and
`residual`: row r begins there at r % PERIOD * ROW (layer norm: 0). The rest is as in norm.py, `bias` and `residual` being free there.

Rows too long for that (`PARTS` of them) go through the passes of norm.py, and of `scale_parts` and `gradient_parts` here.
"""
from __future__ import annotations

import numpy as np

from .jit import jit
from .norm import (CENTERED, CHANNELS, COEFFICIENTS, COLUMNS, COUNT, DIV, FLAGS, FOLDED, GIVEN, GRADIENTS, KEYS, LENGTH, PADDED, PARAMETERS,
                   PARTS, PERIOD, PLANES, ROWS, RUNNING, SEGMENTS, SHIFTS, SPAN, STATS, STREAM, SUMS, UNITS, finite, forward_coefficients,
                   group_gradients, mean_of_first, move_running, split, statistics, wide_gradient_moments)
from .norm_simd import (gradient_rows, gradient_segment, row_gradient_sums, scale_row, scale_segment, segment_gradient_sums, segment_moments,
                        settle)
