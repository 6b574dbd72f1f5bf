"""What the blocks of Winograd's convolution have in common: forms of tiles, stages and what things cost."""
from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ..kernels.tiles import TILES
from .parts import round_up

PRODUCT_COST = 1.06 if TILES.registers >= 32 else 1.25        # a multiply-add in the register tiles
TILE_COST = 4                                # channels' worth, to start and to store a register tile
STORE_COST = {True: 0.26, False: 0.06}       # a byte of those made for all tasks, to bring it to memory or to that cache
START_COST = 20_000.0                        # to start making those
PAGE = 4096


class Form(NamedTuple):
    """Tiles of one size of filters."""

    number: int                              # in the kernels
    high: int                                # results of a tile
    wide: int
    elements: int                            # of a transformed tile
    kinds: int                               # of a transformed filter
    # What a part of the work costs, in vector multiply-adds.
    input_cost: float                        # to bring a tile of a vector of channels into V
    result_cost: float                       # to make the results of a tile and a vector of filters of M
    filter_cost: float                       # a byte of transformed filters, to make it


class Stage(NamedTuple):
    """One run of the tiles, and how the filters are transformed for it."""

    kernel: Any
    job: np.ndarray
    table: np.ndarray
    tasks: int
    pack: Any                                # None: each task transforms the filters it needs
    pack_job: np.ndarray
    pack_tasks: int
    packed: int                              # elements of the transformed filters, and of the weights behind them
    workspace: int                           # bytes one thread keeps
    raw_at: int                              # where among them the weights stand as they are; -1: nowhere
    cost: float                              # of a call, in vector multiply-adds


def step_of(elements: int, size: int) -> int:
    """So many elements and more, an odd number of cache lines modulo a page: 36 streams that do not push each other out."""
    line, page = 64 // size, PAGE // size
    return round_up(elements, page) + line
