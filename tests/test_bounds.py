"""Kernels of the direct engine write nothing beside their result: every array they write to stands between guards.

Sizes around whole vectors and tiles, where a tile that computes more rows or columns than it may store would show.
"""
import itertools

import numpy as np
import pytest

from fastconv.blocking import direct, direct_weight
from fastconv.blocking.shape import Shape
from fastconv.kernels.tasks import NOTHING, run_tasks

GUARD, MARK = 512, 7.5
SIZES = list(itertools.product([1, 3, 8, 16, 17, 32], [1, 8, 16, 17, 32, 40], [(1, 1, 0), (1, 2, 0), (3, 1, 1), (3, 2, 1), (2, 1, 0)]))


class Guarded:
    """Arrays of marks, whose inner part a kernel may write."""

    def __init__(self, dtype):
        self.dtype, self.made = dtype, []

    def __call__(self, n):
        self.made.append(np.full(n + 2 * GUARD, MARK, self.dtype))
        return self.made[-1][GUARD:GUARD + n]

    def whole(self):
        return all((array[:GUARD] == MARK).all() and (array[-GUARD:] == MARK).all() for array in self.made)


def run(stage, src, weight, n, room):
    none, packed = NOTHING[src.dtype], weight.ravel()
    if stage.pack is not None:
        packed = room(stage.packed)
        run_tasks(stage.pack, stage.pack_tasks, 1, none, weight.ravel(), packed, none, none, stage.pack_job, stage.pack_table)
    run_tasks(stage.kernel, stage.tasks, 1, src.ravel(), packed, room(n), none, none, stage.job, stage.table)


@pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["f4", "f8"])
@pytest.mark.parametrize("C, F, options", SIZES, ids=str)
def test_nothing_is_written_beside_the_result(C, F, options, dtype):
    (kernel, stride, padding), size = options, np.dtype(dtype).itemsize
    for N, G, H, W in ((1, 1, 7, 7), (2, 2, 9, 12), (9, 1, 5, 33)):
        OH, OW = ((n + 2 * padding - kernel) // stride + 1 for n in (H, W))
        s = Shape(N, G * C, H, W, G * F, OH, OW, kernel, kernel, stride, stride, padding, padding, 1, 1, G, size)
        x, weight, dout = np.ones((N, G * C, H, W), dtype), np.ones((G * F, C, kernel, kernel), dtype), np.ones((N, G * F, OH, OW), dtype)
        room = Guarded(dtype)
        for prepared in (False, True):
            run(direct.forward(s, False, prepared), x, weight, dout.size, room)
        for to_input in (direct.to_input, direct._phases) if stride == 2 else (direct.to_input,):
            run(to_input(s), dout, weight, x.size, room)
        for stage in (direct_weight.turned(s), direct_weight.dots(s), direct_weight.dots(s, True)):
            none, place = NOTHING[np.dtype(dtype)], room(stage.place)
            image, other = (dout, x) if stage.straight else (x, dout)
            for job, parts, ready_tasks in stage.rounds:
                if ready_tasks:
                    run_tasks(stage.ready, ready_tasks, 1, other.ravel(), none, place, none, none, job, stage.table)
                run_tasks(stage.kernel, stage.tasks * parts, 1, image.ravel(), place if ready_tasks else other.ravel(), room(parts * weight.size), none, none,
                          job, stage.table)
        assert room.whole(), (N, G, H, W)
