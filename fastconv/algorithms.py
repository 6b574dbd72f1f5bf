"""What each algorithm does with a plan: the kernels it runs, forward and for both gradients.

Each is a class of three functions over 4-D arrays as `check.native` gives them: forward(plan, x, weight, bias, y), bias empty for none;
to_input(plan, dout, weight, dx); to_weight(plan, dout, x, dweight). They write y, dx, dweight; to_weight returns dbias where its kernel has dout at hand.
All are contiguous, so ravel() is a view. One that a prepared layer may run has
`pack`, `order` and `over` too, and its forward stage is one run of a kernel that takes bias, residual and ReLU.
"""
from __future__ import annotations

from typing import Any

import numpy as np

from . import recycling
from .blocking import depthwise, winograd
from .blocking.direct_weight import WeightStage
from .kernels import conv_im2col, depthwise_planes, depthwise_rolls, direct
from .kernels.gemm import ALIGNMENT
from .kernels.tasks import NOTHING, run_tasks
from .plan import Plan


def _aligned(n: int, dtype: np.dtype) -> np.ndarray:
    """Room for n elements, whose vectors cross no cache line."""
    room = recycling.empty((n + ALIGNMENT if n else 0,), dtype)
    return room[-room.ctypes.data // room.itemsize % (ALIGNMENT // room.itemsize):][:n]


class Direct:
    """Tiles that read the image itself, or a padded window of it."""

    @staticmethod
    def pack(stage: Any, weight: np.ndarray) -> np.ndarray:
        """The weights in the order in which the stage's tiles read them."""
        if stage.pack is None:
            return weight.ravel()
        none, packed = NOTHING[weight.dtype], np.empty(stage.packed, weight.dtype)
        run_tasks(stage.pack, stage.pack_tasks, 8 * packed.nbytes, none, weight.ravel(), packed, none, none, stage.pack_job, stage.pack_table)
        return packed

    @staticmethod
    def order(stage: Any) -> str:
        """What the order of the packed weights depends on: what lies along the vectors, and the rows of a panel."""
        return f"{stage.across}, {stage.pack_job[-1]} rows"

    @staticmethod
    def over(stage: Any) -> bool:
        """May the result be written over the residual? Not where sums of some of the channels go there before."""
        job = dict(zip(direct.JOB, stage.job.tolist()))
        return stage.kernel is direct.filters or (job["channels"] == job["C"] and int(stage.table[1]) <= job["taps"])

    @staticmethod
    def forward(plan: Plan, x: np.ndarray, weight: np.ndarray, bias: np.ndarray, y: np.ndarray) -> None:
        stage = plan.forward
        run_tasks(stage.kernel, stage.tasks, plan.flops, x.ravel(), Direct.pack(stage, weight), y.ravel(), bias, NOTHING[plan.dtype], stage.job, stage.table)

    @staticmethod
    def to_input(plan: Plan, dout: np.ndarray, weight: np.ndarray, dx: np.ndarray) -> None:
        stage, none = plan.to_input, NOTHING[plan.dtype]
        run_tasks(stage.kernel, stage.tasks, plan.flops, dout.ravel(), Direct.pack(stage, weight), dx.ravel(), none, none, stage.job, stage.table)

    @staticmethod
    def to_weight(plan: Plan, dout: np.ndarray, x: np.ndarray, dweight: np.ndarray) -> None:
        Direct.weight_stage(plan.to_weight, plan, dout, x, dweight)

    @staticmethod
    def weight_stage(stage: WeightStage, plan: Plan, dout: np.ndarray, x: np.ndarray, dweight: np.ndarray) -> None:
        """The gradient to the weights by these blocks."""
        image, other = (dout, x) if stage.straight else (x, dout)
        none, place, total = NOTHING[plan.dtype], _aligned(stage.place, plan.dtype), None
        for job, parts, ready_tasks in stage.rounds:
            alone = parts == len(stage.rounds) == 1
            sums = dweight if alone else np.empty((parts, *dweight.shape), plan.dtype)
            if ready_tasks:
                run_tasks(stage.ready, ready_tasks, 8 * place.nbytes, other.ravel(), none, place, none, none, job, stage.table)
            run_tasks(stage.kernel, stage.tasks * parts, plan.flops / len(stage.rounds), image.ravel(), place if ready_tasks else other.ravel(),
                      sums.ravel(), none, none, job, stage.table)
            if not alone:
                part = sums.sum(0, dtype=np.float64)
                total = part if total is None else total + part
        if total is not None:
            dweight[...] = total


class Im2col:
    """Blocks of the patch matrix times the weights."""

    @staticmethod
    def _pack(stage: Any, kernel: Any, weight: np.ndarray) -> np.ndarray:
        none, packed = NOTHING[weight.dtype], np.empty(stage.packed, weight.dtype)
        if stage.packed:
            run_tasks(kernel, stage.pack_tasks, 8 * weight.nbytes, none, weight.ravel(), packed, none, none, stage.geometry, stage.blocks)
        return packed

    @staticmethod
    def forward(plan: Plan, x: np.ndarray, weight: np.ndarray, bias: np.ndarray, y: np.ndarray) -> None:
        stage = plan.forward
        packed = Im2col._pack(stage, conv_im2col.pack_weight, weight)
        kernel = conv_im2col.forward_turned if stage.blocks[3] else conv_im2col.forward
        run_tasks(kernel, stage.tasks, plan.flops, x.ravel(), weight.ravel(), y.ravel(), bias, packed, stage.geometry, stage.blocks)

    @staticmethod
    def to_input(plan: Plan, dout: np.ndarray, weight: np.ndarray, dx: np.ndarray) -> None:
        stage, none = plan.to_input, NOTHING[plan.dtype]
        packed = Im2col._pack(stage, conv_im2col.pack_transposed, weight)
        run_tasks(conv_im2col.to_input, stage.tasks, plan.flops, dout.ravel(), packed, dx.ravel(), none, none, stage.geometry, stage.blocks)

    @staticmethod
    def to_weight(plan: Plan, dout: np.ndarray, x: np.ndarray, dweight: np.ndarray) -> None:
        stage, none = plan.to_weight, NOTHING[plan.dtype]
        n_parts = int(stage.blocks[3])
        parts = dweight if n_parts == 1 else np.empty((n_parts, *dweight.shape), plan.dtype)
        run_tasks(conv_im2col.to_weight, stage.tasks, plan.flops, x.ravel(), dout.ravel(), parts.ravel(), none, none, stage.geometry, stage.blocks)
        if n_parts > 1:
            dweight[...] = parts.sum(0, dtype=np.float64)


class Plain:
    """For prepared layers, of algorithms whose packed weights and results depend on nothing but the weights and the images."""

    @staticmethod
    def order(stage: Any) -> str:
        """The packed weights serve images of all sizes."""
        return ""

    @staticmethod
    def over(stage: Any) -> bool:
        """May the result be written over the residual? Each element is read before it is written, and once."""
        return True


class Depthwise(Plain):
    """One channel for each filter."""

    @staticmethod
    def over(stage: Any) -> bool:
        """May the result be written over the residual? Not where the sums go there before."""
        return stage.kernel not in (depthwise_planes.results, depthwise_rolls.forward)

    @staticmethod
    def pack(stage: Any, weight: np.ndarray) -> np.ndarray:
        """The weights as they are."""
        return weight.ravel()

    @staticmethod
    def forward(plan: Plan, x: np.ndarray, weight: np.ndarray, bias: np.ndarray, y: np.ndarray) -> None:
        stage = plan.forward
        run_tasks(stage.kernel, stage.tasks, plan.flops, x.ravel(), weight.ravel(), y.ravel(), bias, NOTHING[plan.dtype], stage.job, stage.table)

    @staticmethod
    def to_input(plan: Plan, dout: np.ndarray, weight: np.ndarray, dx: np.ndarray) -> None:
        stage, none = plan.to_input, NOTHING[plan.dtype]
        run_tasks(stage.kernel, stage.tasks, plan.flops, dout.ravel(), weight.ravel(), dx.ravel(), none, none, stage.job, stage.table)

    @staticmethod
    def to_weight(plan: Plan, dout: np.ndarray, x: np.ndarray, dweight: np.ndarray) -> np.ndarray | None:
        stage, none = plan.to_weight, NOTHING[plan.dtype]
        alone = stage.parts == 1
        parts = dweight if alone else np.empty((stage.parts, *dweight[:, 0].shape), plan.dtype)
        dbias = np.empty((stage.parts, len(dweight)), plan.dtype) if stage.bias else none
        run_tasks(stage.kernel, stage.tasks, plan.flops, x.ravel(), dout.ravel(), parts.ravel(), dbias.ravel(), none, stage.job, stage.table)
        if not alone:
            depthwise.add_parts(parts, dweight)
        return (dbias[0] if alone else dbias.sum(0, dtype=np.float64).astype(plan.dtype)) if stage.bias else None


class Transformed(Plain):
    """Weights that become something else before the images are looked at."""

    @staticmethod
    def pack(stage: Any, weight: np.ndarray) -> np.ndarray:
        """What they become; behind it, where the stage keeps room for that, the weights as they are. Those alone where its tasks do it."""
        if stage.pack is None:
            return weight.ravel()
        none, packed = NOTHING[weight.dtype], _aligned(stage.packed, weight.dtype)
        run_tasks(stage.pack, stage.pack_tasks, 8 * packed.nbytes, none, weight.ravel(), packed, none, none, stage.pack_job, stage.table)
        if stage.raw_at >= 0:
            packed[stage.raw_at:] = weight.ravel()
        return packed

    @staticmethod
    def _run(stage: Any, plan: Plan, src: np.ndarray, weight: np.ndarray, bias: np.ndarray, dst: np.ndarray) -> None:
        packed = Transformed.pack(stage, weight)
        run_tasks(stage.kernel, stage.tasks, plan.flops, src.ravel(), packed, dst.ravel(), bias, weight.ravel(), stage.job, stage.table)

    @staticmethod
    def forward(plan: Plan, x: np.ndarray, weight: np.ndarray, bias: np.ndarray, y: np.ndarray) -> None:
        Transformed._run(plan.forward, plan, x, weight, bias, y)

    @staticmethod
    def to_input(plan: Plan, dout: np.ndarray, weight: np.ndarray, dx: np.ndarray) -> None:
        Transformed._run(plan.to_input, plan, dout, weight, NOTHING[plan.dtype], dx)


class Strassen(Transformed):
    """Fewer products of matrices than the definition has. The gradient to the weights is the direct one."""

    @staticmethod
    def to_weight(plan: Plan, dout: np.ndarray, x: np.ndarray, dweight: np.ndarray) -> None:
        Direct.weight_stage(plan.to_weight, plan, dout, x, dweight)


class Winograd(Transformed):
    """Tiles of results with fewer multiplications. The gradient to the weights goes in rounds and parts, as the direct one."""

    @staticmethod
    def order(stage: Any) -> str:
        """Images with few tiles have smaller ones, and filters transformed for them."""
        return f"tiles {winograd.form_of(stage)}"

    @staticmethod
    def to_weight(plan: Plan, dout: np.ndarray, x: np.ndarray, dweight: np.ndarray) -> None:
        with np.errstate(all="ignore"):
            Direct.weight_stage(plan.to_weight, plan, dout, x, dweight)
        if not np.isfinite(dweight).all():   # a NaN reaches all nine taps, and large numbers may overflow on the way: sum directly
            Direct.weight_stage(plan.stages.to_weight("direct"), plan, dout, x, dweight)


ALGORITHMS: dict[str, Any] = {"direct": Direct, "im2col": Im2col, "depthwise": Depthwise, "winograd": Winograd, "strassen": Strassen}
