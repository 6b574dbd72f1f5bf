"""Which poolings lay their planes side by side (kernels/pool_planes.py), and how."""
from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from ..kernels import pool_planes
from ..kernels.tasks import NO_TABLE
from ..kernels.tiles import VECTOR_BYTES
from .window import TASKS, Window

MOST_BYTES, MOST_BYTES_GRADIENT = 10 * 1024, 32 * 1024       # of a group of padded planes: rows of larger ones fill vectors (measured)
MOST_BYTES_LISTS = 256 * 1024                # of the planes alone, of windows that are lists: they stay in L2


class Planes(NamedTuple):
    """What `run_tasks` needs to know."""

    tasks: int
    job: np.ndarray
    table: np.ndarray


def side_by_side(window: Window, gradient: bool = False, most_bytes: int = 0) -> Planes | None:
    """The plan of a window over small planes, or None where they are large or few. gradient: that of the average. most_bytes: of a group of padded
    planes, if not as measured for maxima and averages."""
    if window.working.kind != "f":
        return None
    lanes, planes = VECTOR_BYTES // window.working.itemsize, window.x_shape[0] * window.x_shape[1]
    axes = []                                # of each: padded size, where its elements go, taps, stride, dilation, size of the result
    for size, outputs, k, s, (before, _), d, reach in zip(window.x_shape[2:], window.y_shape[2:], window.kernel, window.stride, window.pads,
                                                          window.dilation, window.reach):
        if gradient:
            axes.append((size + reach, np.arange(outputs) * s + reach - before, k, 1, d, size))
        else:
            axes.append((max(before + size, (outputs - 1) * s + reach + 1), np.arange(size) + before, k, s, d, outputs))
    padded = math.prod(axis[0] for axis in axes)
    if 2 * planes <= lanes or padded * VECTOR_BYTES > (most_bytes or (MOST_BYTES_GRADIENT if gradient else MOST_BYTES)):
        return None
    axes = [(1, np.arange(1), 1, 1, 1, 1)] * (3 - window.nd) + axes
    (DP, d, KD, SD, DD, OD), (HP, h, KH, SH, DH, OH), (WP, w, KW, SW, DW, OW) = axes
    places = (d[:, None, None] * HP + h[:, None]) * WP + w
    units = -(-planes // lanes)
    sizes = {"planes": planes, "tasks": min(TASKS, units), "units": units, "V": places.size, "HP": HP, "WP": WP, "DP": DP, "KD": KD, "KH": KH,
             "KW": KW, "SD": SD, "SH": SH, "SW": SW, "DD": DD, "DH": DH, "DW": DW, "OD": OD, "OH": OH, "OW": OW, "gradient": int(gradient)}
    table = np.concatenate([places.reshape(-1), np.arange(OD * OH * OW)]).astype(np.int64) * lanes
    return Planes(sizes["tasks"], np.array([sizes[name] for name in pool_planes.NAMES], np.int64), table)


def listed(window: Window, most_bytes: int = MOST_BYTES_LISTS) -> Planes | None:
    """The plan of the kernels in `pool_winners`, or None where planes are large or few. most_bytes: of a group of planes."""
    if not window.listed:
        return None
    axes = []
    for length, outputs, k, s, (before, _), d in zip(window.x_shape[2:], window.y_shape[2:], window.kernel, window.stride, window.pads,
                                                     window.dilation):
        at = np.arange(outputs)[:, None] * s - before + np.arange(k) * d
        axes.append((length, at, (0 <= at) & (at < length)))
    return lists(axes, math.prod(window.x_shape[:2]), window.working, most_bytes)


def lists(axes: list[tuple[int, np.ndarray, np.ndarray]], planes: int, dtype: np.dtype,
          most_bytes: int = MOST_BYTES_LISTS) -> Planes | None:
    """The same for any windows. Of each axis its length, the elements of each window, (windows, taps), and which of them are any."""
    lanes, size = VECTOR_BYTES // dtype.itemsize, math.prod(length for length, _, _ in axes)
    if dtype.kind != "f" or 2 * planes <= lanes or size * VECTOR_BYTES > most_bytes:
        return None
    elements, inside = np.zeros((1, 1), np.int64), np.ones((1, 1), bool)         # of each window, each tap: its element, if it has one
    for length, at, there in axes:
        shape = len(elements) * len(at), elements.shape[1] * at.shape[1]
        elements = (elements[:, None, :, None] * length + at[None, :, None, :]).reshape(shape)
        inside = (inside[:, None, :, None] & there[None, :, None, :]).reshape(shape)
    units = -(-planes // lanes)
    tasks = min(TASKS, units)
    begins = np.concatenate([[0], np.cumsum(inside.sum(1))])
    return Planes(tasks, np.concatenate([[planes, tasks, units, size, len(elements)], begins, elements[inside]]).astype(np.int64), NO_TABLE)
