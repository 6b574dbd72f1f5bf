"""How work is cut into tasks."""
import numpy as np
import pytest

from fastconv import plan_conv2d
from fastconv.blocking import direct
from fastconv.blocking.parts import LAYER_TASKS, MANY_TASKS, TASKS, parts_of
from fastconv.blocking.shape import Shape
from fastconv.kernels import winograd_results

MUCH = 1e12


@pytest.mark.parametrize("n, most, multiple, tasks", [(3136, 384, 32, 1), (784, 768, 32, 1), (1024, 250, 32, 1), (2048, 1003, 32, 1), (224, 30, 1, 1),
                                                      (56, 56, 7, 3), (64, 64, 14, 8), (100, 7, 3, 5), (7, 7, 1, 1), (5, 1, 4, 1), (1, 1, 1, 1), (0, 4, 4, 1)])
def test_parts_are_small_enough_and_busy_threads_are_equally_busy(n, most, multiple, tasks):
    units, found = -(-n // multiple), parts_of(n, most, multiple, tasks, MUCH)
    assert found == 1 or found <= units
    if n > most:
        assert -(-units // found) * multiple <= max(most, multiple)
    if tasks * units >= 2 * TASKS:
        assert tasks * found >= TASKS
        for threads in (2, 4, 8):            # of nine equal tasks one of two threads does five
            assert tasks * found >= MANY_TASKS or -(-tasks * found // threads) * threads <= 1.21 * tasks * found


@pytest.mark.parametrize("C, H, F", [(64, 56, 256), (256, 56, 128), (128, 28, 512), (2048, 7, 512)])
def test_a_prepared_layer_cuts_one_image_into_more_tasks(C, H, F):
    shape = Shape(1, C, H, H, F, H, H, 1, 1, 1, 1, 0, 0, 1, 1, 1, 4)
    assert TASKS <= direct.forward(shape).tasks and LAYER_TASKS <= direct.forward(shape, prepared=True).tasks


def test_little_work_and_no_work_is_not_cut():
    assert parts_of(1000, 1000, 1, 1, 1.0) == 1
    assert parts_of(1000, 1000, 1, 8, MUCH) == 1
    assert parts_of(1000, 1000, 1, 0, 0.0) == 1


@pytest.mark.parametrize("N, C, H", [(1, 64, 14), (1, 32, 28), (4, 32, 14), (1, 64, 28), (1, 32, 56)])
def test_few_tiles_and_filters_of_winograd_serve_two_threads(N, C, H):
    made = plan_conv2d((N, C, H, H), (C, C, 3, 3), padding=1, algorithm="winograd")
    assert made.forward.tasks in (2, 4) and (C < 64 or made.to_weight.tasks * made.to_weight.parts > 1)


@pytest.mark.parametrize("C, H", [(64, 56), (128, 28), (256, 14), (512, 7), (192, 27), (128, 35), (64, 112)])
def test_one_image_of_winograd_keeps_several_threads_equally_busy(C, H):
    stage = plan_conv2d((1, C, H, H), (C, C, 3, 3), padding=1, algorithm="winograd").forward
    job = dict(zip(winograd_results.JOB, stage.job.tolist()))
    blocks, shares = -(-job["tiles_h"] // job["rows"]), -(-C // job["share"])
    rows = np.diff([winograd_results.nearest(k, job["tiles_h"], blocks) for k in range(blocks + 1)])
    assert rows.max() <= job["rows"] and stage.tasks == blocks * -(-job["tiles_w"] // job["columns"]) * shares
    work = np.repeat(rows, stage.tasks // blocks)            # of each task
    for threads, most in ((2, 1.06), (4, 1.3), (8, 1.8)):
        busy = [work[t * stage.tasks // threads:(t + 1) * stage.tasks // threads].sum() for t in range(threads)]
        assert max(busy) <= most * sum(busy) / threads
