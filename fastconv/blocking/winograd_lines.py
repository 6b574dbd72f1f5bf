"""Blocks of Winograd's convolution of images with few channels, in lines: rows of results, in the order of the image."""
from __future__ import annotations

import numpy as np

from ..kernels import winograd_filters, winograd_lines, winograd_results
from ..kernels.tiles import ROWS, ROWS_HALF, VECTOR_BYTES, VECTORS
from ..kernels.winograd_filters import FILTER_CHANNELS, LINES, LONG_LINES
from . import direct
from .parts import round_up, split, wanted_tasks
from .shape import Shape
from .winograd_form import PRODUCT_COST, START_COST, STORE_COST, TILE_COST, Form, Stage, step_of

FORMS = {                                    # by the taps of a line
    3: Form(LINES, 1, 4, 6, 6, 60.0, 65.0, 0.14),
    4: Form(LONG_LINES, 1, 4, 7, 7, 75.0, 80.0, 0.14),
}
MOST_TERMS = 256                             # of a sum: it is one chain, and seven points lose more than six
HALF_COST = 1.2                              # times as much as in the large register tiles
BLOCK_BYTES = 640 * 1024                     # V and M of a block: they stay in L2


def fits(s: Shape) -> bool:
    """Whether these lines can do it: steps of more than one, and few channels."""
    return -(-s.KW // s.SW) in FORMS and s.SW > 1 and s.DH == s.DW == 1 and s.KH * s.SW * (s.C // s.G) <= MOST_TERMS


def forward(s: Shape, relu: bool, prepared: bool) -> Stage:
    """The stage of a forward pass. prepared: the filters are transformed beforehand, and the weights stand behind them."""
    form, high, wide, elements, _, input_cost, result_cost, filter_cost = FORMS[-(-s.KW // s.SW)]
    C, F = s.C // s.G, s.F // s.G
    N, G, size, KH, KW, SH, SW, OH, OW, T = s.N, s.G, s.size, s.KH, s.KW, s.SH, s.SW, s.OH, s.OW, s.KH * s.KW
    lanes = VECTOR_BYTES // size
    width, pad, deep = VECTORS * lanes, lanes, SW * C if SW * C <= lanes else round_up(SW * C, lanes)
    depth, vectors = KH * deep, -(-deep // lanes)
    tiles_h, tiles_w = max(1, OH), max(1, -(-OW // wide))
    filters = round_up(min(F, width), lanes)
    m_row = filters + lanes
    one_row = elements * tiles_w * (SH * vectors * lanes + m_row) * size
    rows = max(1, (BLOCK_BYTES - elements * tiles_w * KH * vectors * lanes * size) // one_row)
    flops = 2.0 * N * G * elements * depth * F * tiles_h * tiles_w
    blocks = max(-(-tiles_h // rows), min(split(N * G, flops, wanted_tasks(prepared)), tiles_h))
    rows = -(-tiles_h // (blocks + (blocks % 2 if N * G == 1 else 0)))           # as many for each of two threads
    rows_in = SH * (rows - 1) + KH
    tiles = rows * tiles_w
    whole, rest = divmod(tiles_w, ROWS)
    computed = {ROWS: ROWS * whole + (0 if rest == 0 else ROWS if rest > ROWS_HALF else HALF_COST * ROWS_HALF),
                ROWS_HALF: HALF_COST * round_up(tiles_w, ROWS_HALF)}           # of a row of tiles, by the height of the register tiles
    height = min(computed, key=lambda rows: computed[rows])
    v_step, m_step = step_of(rows_in * tiles_w * vectors * lanes, size), step_of((tiles + ROWS) * m_row, size)
    across = SW * (wide - 1) + KW
    begins = [SW * j for j in range(wide)]
    begins += begins[-1:] * (-len(begins) % ROWS_HALF)
    taps = [i * across + j for i in range(KH) for j in range(KW)]
    table = np.array([*begins, *taps], np.int64)
    group = elements * (depth * direct.padded_filters(F, width, lanes) + -(-F // width) * pad)
    raw_at, kept = (G * group if prepared else -1), G * group + (G * C * F * T if prepared else 0)
    numbers = dict(N=N, G=G, C=C, F=F, H=s.H, W=s.W, OH=OH, OW=OW, SH=SH, SW=SW, row0=-s.PT, column0=-s.PL, form=form, KH=KH, KW=KW, high=high, wide=wide,
                   elements=elements, tiles_h=tiles_h, tiles_w=tiles_w, images=1, rows=rows, columns=tiles_w, share=F, filters=filters, height=height,
                   chunk=C, flags=s.flags(s.N * s.F * s.OH * s.OW, relu),
                   v_block=0, v_step=v_step, m_row=m_row, m_step=m_step, panel_pad=pad, group=group, raw_at=raw_at,
                   raw_group=F * C * T, raw_filter=C * T, raw_channel=T, turned=False, places=0, fresh=False)
    job = np.array([numbers[name] for name in winograd_results.JOB], np.int64)
    all_tiles, F_vectors = N * tiles_h * tiles_w, -(-F // lanes)
    product = elements * (depth + TILE_COST) * F_vectors * all_tiles * computed[height] / tiles_w
    size_u = elements * depth * F * size
    cost = G * (PRODUCT_COST * product + all_tiles * (input_cost * vectors * rows_in / rows + result_cost * F_vectors))
    cost += 0 if prepared else START_COST + (filter_cost + STORE_COST[False]) * G * size_u
    scratch = FILTER_CHANNELS * (KH * across + T * lanes) + (high * wide + ROWS_HALF + lanes) * lanes
    room = elements * (v_step + m_step) + ROWS * lanes + (high * wide * tiles_w + lanes) * lanes
    room += (wide * tiles_w + elements) * (deep + lanes) + scratch
    return Stage(winograd_lines.results, job, table, N * G * -(-tiles_h // rows), winograd_filters.transform_rows,
                 np.array([C, F, form, T, elements, pad, group, F * C * T, C * T, T, False, 0, KW, SW], np.int64), G * -(-F // width), kept,
                 room * size, raw_at, cost)
