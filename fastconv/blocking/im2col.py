"""Blocks of the im2col convolution: how much of the patch matrix is packed at a time, and how its product is cut into tasks."""
from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ..kernels import geometry
from ..kernels.tiles import ROWS as MOST_ROWS
from ..kernels.tiles import TILES, VECTOR_BYTES, VECTORS
from .parts import even, round_up, split
from .shape import Shape

CHUNK_TERMS = {4: 384, 8: 256}               # of one chain of a sum, by itemsize; also the depth of a packed block
BLOCK_BYTES = 448 * 1024                     # a packed block of patches: with a block of the result, well within a 1 MiB L2 cache
RESULT_BYTES = 256 * 1024                    # the block of dW or of columns that such a block is multiplied into
PARTS_BYTES = 4 * 1024 * 1024                # of the gradients to the weights that parts of the batch keep for themselves
COLUMN_ROWS = 288                            # rows of the column block that a gradient to the input adds back: 32 channels of 3 x 3
PACK_INSIDE = 2                              # blocks of pixels up to which each packs the weights by itself: once or twice is soon done
FEW_PIXELS = 256                             # images up to which the product may be turned around
PATCH_USES = 160                             # filters that a task multiplies a packed patch with, before it is worth packing it twice


class Stage(NamedTuple):
    """One direction: the integers of the convolution, its blocks, and the weights packed ahead."""

    geometry: np.ndarray
    blocks: np.ndarray
    tasks: int
    packed: int                              # elements of the packed weights; 0: packed by the tasks that need them
    pack_tasks: int
    workspace: int                           # bytes one thread keeps


def describe(stage: Stage) -> str:
    """The blocks of a forward pass, in words."""
    k, p, f, turned = (int(size) for size in stage.blocks)
    return f"{k} terms x {p} pixels x {f} filters, vectors of {'filters' if turned else 'pixels'}"


def _geometry(s: Shape) -> np.ndarray:
    return geometry.pack(N=s.N, C=s.C, H=s.H, W=s.W, F=s.F, OH=s.OH, OW=s.OW, KH=s.KH, KW=s.KW, SH=s.SH, SW=s.SW, PT=s.PT, PL=s.PL, DH=s.DH,
                         DW=s.DW, G=s.G)


def _sizes(s: Shape) -> tuple[int, int, int, int, int]:
    """Channels and filters of a group, terms, pixels, columns of one packed panel."""
    return s.C // s.G, s.F // s.G, s.C // s.G * s.KH * s.KW, s.OH * s.OW, VECTORS * VECTOR_BYTES // s.size


def forward(s: Shape) -> Stage:
    """Blocks: k_size, p_size, f_size, and whether the product is turned around."""
    _, FG, K, P, width = _sizes(s)
    blocks, workspace = _forward_blocks(s.N, s.G, FG, K, P, width, s.size)
    p_blocks, f_blocks = -(-P // int(blocks[1])), -(-FG // int(blocks[2]))
    inside = bool(blocks[3]) or s.N * p_blocks <= PACK_INSIDE
    return Stage(_geometry(s), blocks, s.N * s.G * p_blocks * f_blocks, 0 if inside else s.G * (FG + MOST_ROWS) * K, s.G * -(-FG // MOST_ROWS), workspace)


def to_input(s: Shape) -> Stage:
    """Blocks: f_size, p_size, c_size, bands, k_size."""
    CG, FG, _, P, width = _sizes(s)
    blocks, workspace = _input_blocks(s.N, s.G, CG, FG, s.KH * s.KW, s.H, P, width, s.size)
    c_blocks, bands = -(-CG // int(blocks[2])), int(blocks[3])
    return Stage(_geometry(s), blocks, s.N * s.G * c_blocks * bands, s.G * c_blocks * (int(blocks[2]) * s.KH * s.KW + MOST_ROWS) * FG, s.G * c_blocks,
                 workspace)


def to_weight(s: Shape) -> Stage:
    """Blocks: p_size, k_size, f_size, n_parts."""
    _, FG, K, P, width = _sizes(s)
    blocks, workspace = _weight_blocks(s.N, s.G, FG, K, P, width, s.size)
    k_size, f_size, n_parts = (int(size) for size in blocks[1:])
    return Stage(_geometry(s), blocks, n_parts * s.G * -(-K // k_size) * -(-FG // f_size), 0, 0, workspace)


def _forward_blocks(N: int, G: int, FG: int, K: int, P: int, width: int, size: int) -> tuple[np.ndarray, int]:
    k_size = even(K, CHUNK_TERMS[size])
    flops = 2.0 * N * G * FG * K * P
    turned = P <= FEW_PIXELS and P / _tile_rows(P) * FG / round_up(FG, width) > 1.1 * P / round_up(P, width // VECTORS)
    if turned:                               # pixels along the rows of a tile, filters along its vectors
        p_size = even(P, max(4 * MOST_ROWS, -(-P // split(N * G, flops))), MOST_ROWS)
        f_size = even(FG, max(PATCH_USES, -(-FG // split(N * G * -(-P // p_size), flops))), width)
        return np.array([k_size, p_size, f_size, 1], np.int64), (k_size * (p_size + f_size) + p_size * f_size) * size
    p_size = even(P, min(BLOCK_BYTES // (k_size * size), RESULT_BYTES // (min(FG, 64) * size)), width)
    p_blocks = -(-P // p_size)
    if p_blocks > 1:                         # one block: its tasks share out the filters instead
        p_size = even(P, max(2 * width, p_size // split(N * G * p_blocks, flops)), width)
    tasks = N * G * -(-P // p_size)
    f_size = even(FG, max(PATCH_USES, -(-FG // split(tasks, flops))), MOST_ROWS)
    inside = k_size * f_size if N * -(-P // p_size) <= PACK_INSIDE else 0
    return np.array([k_size, p_size, f_size, 0], np.int64), ((k_size + 1) * p_size + inside) * size


def _tile_rows(rows: int) -> int:
    """Rows that tiles compute for so many: whole tiles, and a smaller one for what is left over."""
    tail = rows % MOST_ROWS
    return rows - tail + next((height for height in sorted(TILES.rows) if height >= tail), 0) if tail else rows


def _input_blocks(N: int, G: int, CG: int, FG: int, T: int, H: int, P: int, width: int, size: int) -> tuple[np.ndarray, int]:
    f_size = even(FG, CHUNK_TERMS[size])
    flops = 2.0 * N * G * FG * CG * T * P
    c_size = max(1, min(CG, COLUMN_ROWS // T))
    tasks = N * G * -(-CG // c_size)
    c_size = even(CG, max(1, c_size // split(tasks, flops)))
    tasks = N * G * -(-CG // c_size)
    bands = min(max(1, H), split(tasks, flops))
    k_size = round_up(min(c_size * T, 4 * COLUMN_ROWS), MOST_ROWS)
    p_size = even(P, RESULT_BYTES // (k_size * size), width)
    return np.array([f_size, p_size, c_size, bands, k_size], np.int64), (f_size + k_size) * p_size * size


def _weight_blocks(N: int, G: int, FG: int, K: int, P: int, width: int, size: int) -> tuple[np.ndarray, int]:
    p_size = even(P, CHUNK_TERMS[size])
    flops = 2.0 * N * G * FG * K * P
    k_size = even(K, BLOCK_BYTES // (p_size * size), width)
    f_size = even(FG, 2 * RESULT_BYTES // (k_size * (size + 8)), MOST_ROWS)
    tasks = G * -(-K // k_size) * -(-FG // f_size)
    # More tasks: first parts of the batch, as long as their sums are small; then of the taps; a patch is packed twice only at last.
    n_parts = min(max(1, N), split(tasks, flops), max(1, PARTS_BYTES // (8 * G * FG * K)))
    tasks *= n_parts
    k_size = even(K, max(2 * width, k_size // split(tasks, flops)), width)
    tasks = n_parts * G * -(-K // k_size) * -(-FG // f_size)
    f_size = even(FG, -(-f_size // split(tasks, flops)), MOST_ROWS)
    return np.array([p_size, k_size, f_size, n_parts], np.int64), (f_size + k_size) * p_size * size + f_size * k_size * size
