"""Tile sizes per instruction set: how many rows and vectors of accumulators one register tile keeps.

    isa       bytes  registers  fma  rows of a tile (largest first)  vectors  dots
Rows x vectors accumulators, `vectors` operands and one broadcast must fit the registers, or the tile spills and halves its speed. The same
for rows x columns of dots, `columns` operands and one more, and a product where it is not fused.
"""
from __future__ import annotations

from typing import NamedTuple

from ..instruction_set import cpu_features, isa


class Tiles(NamedTuple):
    vector_bytes: int
    registers: int                  # of that size
    fma: bool                       # llvm.fma without the instruction becomes one library call per lane
    rows: tuple[int, int, int]      # a full tile, and two smaller ones for what is left over
    vectors: int
    dots: tuple[int, int]           # rows and columns of a tile of products of rows with rows: each sum a vector


TABLE = {
    "avx512": Tiles(64, 32, True, (14, 8, 4), 2, (6, 4)),
    "avx2": Tiles(32, 16, True, (6, 4, 2), 2, (4, 3)),
    "avx": Tiles(32, 16, False, (6, 4, 2), 2, (3, 3)),
    "sse": Tiles(16, 16, False, (6, 4, 2), 2, (3, 3)),
    "neon": Tiles(16, 32, True, (14, 8, 4), 2, (6, 4)),
    "generic": Tiles(16, 16, False, (6, 4, 2), 2, (3, 3)),
}

TILES = TABLE[isa()]
if isa() == "sse" and "fma" in cpu_features():
    TILES = TILES._replace(fma=True)

VECTOR_BYTES = TILES.vector_bytes
REGISTERS = TILES.registers
FMA = TILES.fma
ROWS, ROWS_HALF, ROWS_SMALL = TILES.rows
VECTORS = TILES.vectors
DOT_ROWS, DOT_COLUMNS = TILES.dots
DOT_ROWS_SMALL, DOT_COLUMNS_SMALL = DOT_ROWS - 2, 2        # for what is left over
