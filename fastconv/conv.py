"""2-D convolution (cross-correlation: nothing is flipped) and its gradients."""
from __future__ import annotations

from typing import Any

import numpy as np

from . import check, recycling
from . import plan as planning
from .algorithms import ALGORITHMS
from .check import F32, F64
from .kernels import sums
from .kernels.tasks import NOTHING, run_tasks

X_SHAPE = "(N, C, H, W) or (C, H, W)"
W_SHAPE = "(F, C / groups, KH, KW)"


def conv2d(x: np.ndarray, weight: np.ndarray, bias: np.ndarray | None = None, stride: Any = 1, padding: Any = 0, dilation: Any = 1,
           groups: int = 1, *, algorithm: str = "auto", out: np.ndarray | None = None) -> np.ndarray:
    """Cross-correlate x with each filter of `weight`, as torch.nn.functional.conv2d.

        y[n, f, oh, ow] = bias[f] + sum over c, kh, kw of x[n, c, oh * SH - top + kh * DH, ow * SW - left + kw * DW] * weight[f, c, kh, kw]

    x: (N, C, H, W) or one image (C, H, W); weight: (F, C / groups, KH, KW); bias: (F,) or None; all of one dtype, float32, float64
    or float16 (computed in float32, rounded once). stride, dilation: an int or (height, width). padding: an int, (height, width),
    ((top, bottom), (left, right)), "valid" or "same". algorithm: "auto", "direct", "im2col", "depthwise" (one channel a group),
    "winograd" (dilation 1; 3x3, 5x5, 1x3 and 3x1 with stride 1, 3x3 with stride 2, wider strided kernels on few channels) or "strassen" (1x1
    without padding); in float32 these two err by up to 1e-5 of the largest result, where the others keep 2e-6. out: an array of the
    result's shape and dtype to write into.

    Returns y: (N, F, OH, OW), or (F, OH, OW) for one image, with OH = (H + top + bottom - DH * (KH - 1) - 1) // SH + 1.
    Raises TypeError or ValueError that name the argument.
    """
    known = _known(x, weight, bias, stride, padding, dilation, groups, algorithm) if out is None else None
    if known is not None:
        y = (np if known.bytes < recycling.LEAST else recycling).empty(known.y_shape, known.dtype)
        if y.size:
            ALGORITHMS[known.algorithm].forward(known, x, weight, NOTHING[known.dtype] if bias is None else bias, y)
        return y
    call = _Call(x, weight, bias, stride, padding, dilation, groups, algorithm)
    plan, dtype = call.plan, call.working
    shape = plan.y_shape if x.ndim == 4 else plan.y_shape[1:]
    given = check.output(out, shape, call.dtype, (x, weight, bias))
    y = check.target(given, shape, dtype)
    if y.size:
        bs = check.native(bias, dtype) if bias is not None else NOTHING[dtype]
        ALGORITHMS[plan.algorithm].forward(plan, call.x(), call.weight(), bs, y if y.ndim == 4 else y.reshape(plan.y_shape))
    return check.deliver(y, given, call.dtype)


# The plans of calls that needed nothing changed: the common arguments of a small layer are checked once, not at every call.
_plans: dict[Any, planning.Plan] = {}
MOST_PLANS = 4096


def _key(x: Any, weight: Any, bias: Any, stride: Any, padding: Any, dilation: Any, groups: Any, algorithm: Any) -> Any:
    """What decides on the plan of a call whose arguments are in their plainest form; None for any other call."""
    if (type(x) is np.ndarray is type(weight) and type(stride) is int is type(padding) and type(dilation) is int is type(groups)
            and type(algorithm) is str):
        dtype = x.dtype                      # an array out of a pickle has a dtype object of its own, which `is` does not know
        if (dtype is F32 or dtype is F64 or dtype == F32 or dtype == F64) and (weight.dtype is dtype or weight.dtype == dtype):
            if bias is None:
                return x.shape, weight.shape, dtype.num, stride, padding, dilation, groups, algorithm, planning.get_precision()
            if type(bias) is np.ndarray and (bias.dtype is dtype or bias.dtype == dtype):
                return x.shape, weight.shape, dtype.num, stride, padding, dilation, groups, algorithm, planning.get_precision(), bias.shape
    return None


def _known(x: Any, weight: Any, bias: Any, stride: Any, padding: Any, dilation: Any, groups: Any, algorithm: Any) -> planning.Plan | None:
    """The plan of a call like an earlier one, whose arrays the kernels can take as they are."""
    plan = _plans.get(_key(x, weight, bias, stride, padding, dilation, groups, algorithm))
    if plan is not None and x.flags.carray and weight.flags.carray and (bias is None or bias.flags.carray):
        return plan
    return None


def _remember(plan: planning.Plan, x: Any, weight: Any, bias: Any, stride: Any, padding: Any, dilation: Any, groups: Any, algorithm: Any) -> None:
    key = _key(x, weight, bias, stride, padding, dilation, groups, algorithm)
    if key is not None and x.ndim == 4:
        if len(_plans) >= MOST_PLANS:
            _plans.clear()
        _plans[key] = plan


def conv2d_backward(dout: np.ndarray, x: np.ndarray, weight: np.ndarray, bias: np.ndarray | None = None, stride: Any = 1, padding: Any = 0,
                    dilation: Any = 1, groups: int = 1, *, algorithm: str = "auto", need: tuple[bool, bool, bool] = (True, True, True),
                    ) -> tuple[np.ndarray | None, np.ndarray | None, np.ndarray | None]:
    """The gradients of `conv2d`: dx, dweight, dbias, from dout, the gradient to its result, of the result's shape and dtype.

    The other arguments are the forward's. need: which of the three to compute; None stands for the others, and for dbias where bias
    is None.
    """
    call = _Call(x, weight, bias, stride, padding, dilation, groups, algorithm)
    wanted = check.need(need)
    plan, dtype = call.plan, call.working
    check.array("dout", dout, "like the result of the forward", (3, 4))
    check.common_dtype((("x", x), ("dout", dout)))
    check.shape_of("dout", dout, plan.y_shape if x.ndim == 4 else plan.y_shape[1:], "the shape of the forward's result")
    douts = check.native(dout, dtype).reshape(plan.y_shape)
    dx = dweight = dbias = total = None
    if wanted[0]:
        dx = recycling.empty(plan.x_shape, dtype)
        if douts.size == 0:
            dx[...] = 0
        elif dx.size:
            ALGORITHMS[plan.input_algorithm].to_input(plan, douts, call.weight(), dx)
        dx = check.deliver(dx.reshape(x.shape), None, call.dtype)
    if wanted[1]:
        dweight = recycling.empty(plan.weight_shape, dtype)
        if douts.size == 0:
            dweight[...] = 0
        else:
            total = ALGORITHMS[plan.weight_algorithm].to_weight(plan, douts, call.x(), dweight)
        dweight = check.deliver(dweight, None, call.dtype)
    if wanted[2] and bias is not None:
        if total is None:                    # the kernel of dweight left it to us
            N, F, OH, OW = plan.y_shape
            none, sizes = NOTHING[dtype], np.array([N, F, OH * OW], np.int64)
            total = np.empty(F, dtype)
            run_tasks(sums.sum_channels, F, 8 * douts.size, douts.ravel(), none, total, none, none, sizes, sizes)
        dbias = check.deliver(total, None, call.dtype)
    return dx, dweight, dbias


class _Call:
    """The arguments of one convolution, checked: dtype as given, dtype computed in, and the plan."""

    def __init__(self, x: Any, weight: Any, bias: Any, stride: Any, padding: Any, dilation: Any, groups: Any, algorithm: Any) -> None:
        self._x, self._weight = x, weight
        known = _known(x, weight, bias, stride, padding, dilation, groups, algorithm)
        if known is not None:
            self.plan, self.dtype, self.working = known, known.dtype, known.dtype
            return
        check.array("x", x, X_SHAPE, (3, 4))
        check.array("weight", weight, W_SHAPE, (4,))
        arrays = [("x", x), ("weight", weight)]
        if bias is not None:
            check.array("bias", bias, "(F,) or None", (1,))
            check.shape_of("bias", bias, (weight.shape[0],), "one value for each filter of weight")
            arrays.append(("bias", bias))
        self.dtype = check.common_dtype(arrays)
        self.working = check.working_dtype(self.dtype)
        normal = planning.normal_conv(weight.shape[2:], stride, padding, dilation)
        shape = x.shape if x.ndim == 4 else (1, *x.shape)
        self.plan = planning.conv_plan(shape, weight.shape, self.working, *normal, check.integer("groups", groups, 1),
                                       check.choice("algorithm", algorithm, planning.ALGORITHMS), planning.get_precision())
        _remember(self.plan, x, weight, bias, stride, padding, dilation, groups, algorithm)

    def x(self) -> np.ndarray:
        """x (N, C, H, W) as the kernels take it."""
        x = check.native(self._x, self.working)
        return x if x.ndim == 4 else x.reshape(self.plan.x_shape)

    def weight(self) -> np.ndarray:
        return check.native(self._weight, self.working)
