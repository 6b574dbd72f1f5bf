"""What each algorithm does with a plan: the kernels it runs, forward and for both gradients.

Each is a class of three functions over 4-D arrays as `check.native` gives them: forward(plan, x, weight, bias, y), bias empty for none;
to_input(plan, dout, weight, dx); to_weight(plan, dout, x, dweight). They write y, dx, dweight.
"""
from __future__ import annotations

from typing import Any

import numpy as np

from .blocking.direct import WeightStage
from .blocking.im2col import MOST_ROWS
from .kernels import conv_im2col, direct, direct_weight
from .kernels.tasks import run_tasks
from .plan import Plan
from .runtime import run

NONE = {np.dtype(kind): np.empty(0, kind) for kind in (np.float32, np.float64)}
NO_TABLE = np.empty(0, np.int64)


def flat(x: np.ndarray) -> np.ndarray:
    return x.reshape(-1)


class Direct:
    """Tiles that read the image itself, or a padded window of it."""

    @staticmethod
    def pack(stage: Any, weight: np.ndarray) -> np.ndarray:
        """The weights in the order in which the stage's tiles read them."""
        none, packed = NONE[weight.dtype], np.empty(stage.packed, weight.dtype)
        run_tasks(stage.pack, stage.pack_tasks, 8 * packed.nbytes, none, flat(weight), packed, none, none, stage.pack_job, stage.pack_table)
        return packed

    @staticmethod
    def forward(plan: Plan, x: np.ndarray, weight: np.ndarray, bias: np.ndarray, y: np.ndarray) -> None:
        stage = plan.forward
        run_tasks(stage.kernel, stage.tasks, plan.flops, flat(x), Direct.pack(stage, weight), flat(y), bias, NONE[plan.dtype], stage.job, stage.table)

    @staticmethod
    def to_input(plan: Plan, dout: np.ndarray, weight: np.ndarray, dx: np.ndarray) -> None:
        stage = plan.to_input
        if stage.shuffle is None or not Direct._shuffled(plan, dout, weight, dx):
            stage, none = stage.exact or stage, NONE[plan.dtype]
            run_tasks(stage.kernel, stage.tasks, plan.flops, flat(dout), Direct.pack(stage, weight), flat(dx), none, none, stage.job, stage.table)

    @staticmethod
    def _shuffled(plan: Plan, dout: np.ndarray, weight: np.ndarray, dx: np.ndarray) -> bool:
        """The phases of dx as channels of their own, then merged. False where a result is not finite: it may come from a weight that was put to 0."""
        stage, none = plan.to_input, NONE[plan.dtype]
        N, C = dx.shape[:2]
        packed, tasks = Direct.pack(stage, weight), stage.tasks // stage.images
        phases = np.empty(stage.images * C * int(stage.shuffle[8:12].prod()), plan.dtype)
        for n in range(0, N, stage.images):
            images = min(stage.images, N - n)
            job = stage.job.copy()
            job[0] = images
            run_tasks(stage.kernel, images * tasks, plan.flops * images / N, flat(dout[n:n + images]), packed, phases, none, none, job, stage.table)
            run_tasks(direct.merge, images * C, 8 * phases.nbytes, phases, none, flat(dx[n:n + images]), none, none, stage.shuffle, NO_TABLE)
        with np.errstate(all="ignore"):
            return bool(np.isfinite(dx.sum()))

    @staticmethod
    def to_weight(plan: Plan, dout: np.ndarray, x: np.ndarray, dweight: np.ndarray) -> None:
        stage: WeightStage = plan.to_weight
        image, turned = (dout, x) if stage.straight else (x, dout)
        none, place, total = NONE[plan.dtype], np.empty(stage.turned, plan.dtype), None
        for job, turns in zip(stage.jobs, stage.turn_tasks):
            parts = int(job[19])
            alone = parts == len(stage.jobs) == 1
            sums = dweight if alone else np.empty((parts, *dweight.shape), plan.dtype)
            if turns:
                run_tasks(direct_weight.turn_dout, turns, 8 * place.nbytes, flat(turned), none, place, none, none, job, stage.table)
            run_tasks(direct_weight.weights, stage.tasks * parts, plan.flops / len(stage.jobs), flat(image), place if turns else flat(turned),
                      flat(sums), none, none, job, stage.table)
            if not alone:
                part = sums.sum(0, dtype=np.float64)
                total = part if total is None else total + part
        if total is not None:
            dweight[...] = total


class Im2col:
    """Blocks of the patch matrix times the weights."""

    @staticmethod
    def forward(plan: Plan, x: np.ndarray, weight: np.ndarray, bias: np.ndarray, y: np.ndarray) -> None:
        stage = plan.forward
        packed = np.empty(stage.packed, plan.dtype)
        if stage.packed:
            blocks = -(-plan.y_shape[1] // plan.groups // MOST_ROWS)
            run(conv_im2col.pack_weight_serial, conv_im2col.pack_weight_parallel, 8 * weight.nbytes, weight, packed, stage.geometry, blocks)
        run(conv_im2col.forward_serial, conv_im2col.forward_parallel, plan.flops, x, weight, packed, bias, y, stage.geometry, stage.blocks)

    @staticmethod
    def to_input(plan: Plan, dout: np.ndarray, weight: np.ndarray, dx: np.ndarray) -> None:
        stage = plan.to_input
        packed = np.empty(stage.packed, plan.dtype)
        run(conv_im2col.input_serial, conv_im2col.input_parallel, plan.flops, dout, weight, packed, dx, stage.geometry, stage.blocks)

    @staticmethod
    def to_weight(plan: Plan, dout: np.ndarray, x: np.ndarray, dweight: np.ndarray) -> None:
        stage = plan.to_weight
        run(conv_im2col.weight_serial, conv_im2col.weight_parallel, plan.flops, dout, x, dweight, stage.geometry, stage.blocks)


ALGORITHMS: dict[str, Any] = {"direct": Direct, "im2col": Im2col}
