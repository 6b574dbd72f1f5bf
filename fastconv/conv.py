"""2-D convolution (cross-correlation: nothing is flipped) and its gradients."""
from __future__ import annotations

from typing import Any

import numpy as np

from . import check
from . import plan as planning
from .kernels import conv_im2col, direct, sums
from .runtime import run

X_SHAPE = "(N, C, H, W) or (C, H, W)"
W_SHAPE = "(F, C / groups, KH, KW)"
NO_BIAS = {dtype: np.empty(0, dtype) for dtype in (check.F32, check.F64)}


def conv2d(x: np.ndarray, weight: np.ndarray, bias: np.ndarray | None = None, stride: Any = 1, padding: Any = 0, dilation: Any = 1,
           groups: int = 1, *, algorithm: str = "auto", out: np.ndarray | None = None) -> np.ndarray:
    """Cross-correlate x with each filter of `weight`, as torch.nn.functional.conv2d.

        y[n, f, oh, ow] = bias[f] + sum over c, kh, kw of x[n, c, oh * SH - top + kh * DH, ow * SW - left + kw * DW] * weight[f, c, kh, kw]

    x: (N, C, H, W) or one image (C, H, W); weight: (F, C / groups, KH, KW); bias: (F,) or None; all of one dtype, float32, float64
    or float16 (computed in float32, rounded once). stride, dilation: an int or (height, width). padding: an int, (height, width),
    ((top, bottom), (left, right)), "valid" or "same". algorithm: "auto", "direct" or "im2col". out: an array of the result's shape
    and dtype to write into.

    Returns y: (N, F, OH, OW), or (F, OH, OW) for one image, with OH = (H + top + bottom - DH * (KH - 1) - 1) // SH + 1.
    Raises TypeError or ValueError that name the argument.
    """
    call = _Call(x, weight, bias, stride, padding, dilation, groups, algorithm)
    plan, dtype = call.plan, call.working
    shape = plan.y_shape if x.ndim == 4 else plan.y_shape[1:]
    given = check.output(out, shape, call.dtype, (x, weight, bias))
    y = check.target(given, shape, dtype)
    xs, ws, bs = call.x(), call.weight(), check.native(bias, dtype) if bias is not None else NO_BIAS[dtype]
    _forward(plan, xs, ws, bs, y if y.ndim == 4 else y.reshape(plan.y_shape))
    return check.deliver(y, given, call.dtype)


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
    dx = dweight = dbias = None
    if wanted[0]:
        dx = np.empty(plan.x_shape, dtype)
        _to_input(plan, douts, call.weight(), dx)
        dx = check.deliver(dx.reshape(x.shape), None, call.dtype)
    if wanted[1]:
        dweight = np.empty(plan.weight_shape, dtype)
        _to_weight(plan, douts, call.x(), dweight)
        dweight = check.deliver(dweight, None, call.dtype)
    if wanted[2] and bias is not None:
        N, F, OH, OW = plan.y_shape
        total = np.empty(F, np.float64)
        run(sums.sum_channels_serial, sums.sum_channels_parallel, 8 * douts.size, douts.reshape(N, F, OH * OW), total)
        dbias = total.astype(call.dtype)
    return dx, dweight, dbias


class _Call:
    """The arguments of one convolution, checked: dtype as given, dtype computed in, and the plan."""

    def __init__(self, x: Any, weight: Any, bias: Any, stride: Any, padding: Any, dilation: Any, groups: Any, algorithm: Any) -> None:
        self._x = check.array("x", x, X_SHAPE, (3, 4))
        self._weight = check.array("weight", weight, W_SHAPE, (4,))
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

    def x(self) -> np.ndarray:
        """x (N, C, H, W) as the kernels take it."""
        x = check.native(self._x, self.working)
        return x if x.ndim == 4 else x.reshape(self.plan.x_shape)

    def weight(self) -> np.ndarray:
        return check.native(self._weight, self.working)


def _forward(plan: planning.Plan, x: np.ndarray, weight: np.ndarray, bias: np.ndarray, y: np.ndarray) -> None:
    if plan.algorithm == "direct":
        run(direct.forward_serial, direct.forward_parallel, plan.flops, x, weight, bias, y, plan.geometry)
    elif y.size:
        packed = np.empty(plan.packed, plan.dtype)
        if plan.packed:
            blocks = -(-plan.y_shape[1] // plan.groups // planning.MOST_ROWS)
            run(conv_im2col.pack_weight_serial, conv_im2col.pack_weight_parallel, 8 * weight.nbytes, weight, packed, plan.geometry, blocks)
        run(conv_im2col.forward_serial, conv_im2col.forward_parallel, plan.flops, x, weight, packed, bias, y, plan.geometry,
            plan.forward_blocks)


def _to_input(plan: planning.Plan, dout: np.ndarray, weight: np.ndarray, dx: np.ndarray) -> None:
    if plan.algorithm == "direct":
        run(direct.input_serial, direct.input_parallel, plan.flops, dout, weight, dx, plan.geometry)
    elif dx.size:
        packed = np.empty(plan.packed_transposed, plan.dtype)
        run(conv_im2col.input_serial, conv_im2col.input_parallel, plan.flops, dout, weight, packed, dx, plan.geometry, plan.input_blocks)


def _to_weight(plan: planning.Plan, dout: np.ndarray, x: np.ndarray, dweight: np.ndarray) -> None:
    if plan.algorithm == "direct":
        run(direct.weight_serial, direct.weight_parallel, plan.flops, dout, x, dweight, plan.geometry)
    else:
        run(conv_im2col.weight_serial, conv_im2col.weight_parallel, plan.flops, dout, x, dweight, plan.geometry, plan.weight_blocks)
