"""Average pooling, and its gradient."""
from __future__ import annotations

from typing import Any

import numpy as np

from .. import check
from ..blocking.parts import bands_of
from ..kernels import pool_average as kernels
from ..runtime import run
from .window import Window


def avg_pool2d(x: np.ndarray, kernel_size: Any, stride: Any = None, padding: Any = 0, ceil_mode: bool = False,
               count_include_pad: bool = True, divisor_override: int | None = None, *, dilation: Any = 1, out: np.ndarray | None = None,
               ) -> np.ndarray:
    """The mean of each window, as torch.nn.functional.avg_pool2d.

    Arguments as for `max_pool2d`. count_include_pad: zeros of the padding count as elements (those that ceil_mode adds beyond it do
    not). divisor_override: divide every sum by this instead of by the number of elements. Returns y: (N, C, OH, OW) or (C, OH, OW).
    """
    window = Window(x, kernel_size, stride, padding, dilation, ceil_mode)
    counts = window.counts(count_include_pad, divisor_override)
    working, shape = check.working_dtype(window.dtype), window.shape_like(x)
    given = check.output(out, shape, window.dtype, (x,))
    y = check.target(given, shape, working)
    run(kernels.average_serial, kernels.average_parallel, 8 * x.size * working.itemsize, check.native(x, working).reshape(window.x_shape),
        y.reshape(window.y_shape), window.integers, *counts)
    return check.deliver(y, given, window.dtype)


def avg_pool2d_backward(dout: np.ndarray, x: np.ndarray, kernel_size: Any, stride: Any = None, padding: Any = 0, ceil_mode: bool = False,
                        count_include_pad: bool = True, divisor_override: int | None = None, *, dilation: Any = 1) -> np.ndarray:
    """The gradient of `avg_pool2d`: dx, of the shape of x. Each window's dout is shared out among its elements."""
    window = Window(x, kernel_size, stride, padding, dilation, ceil_mode)
    counts = window.counts(count_include_pad, divisor_override)
    check.array("dout", dout, "like the result of the forward", (3, 4))
    check.common_dtype((("x", x), ("dout", dout)))
    check.shape_of("dout", dout, window.shape_like(x), "the shape of the forward's result")
    working = check.working_dtype(window.dtype)
    N, C, H, W = window.x_shape
    dx = np.empty(window.x_shape, working)
    run(kernels.average_backward_serial, kernels.average_backward_parallel, 8 * x.size * working.itemsize,
        check.native(dout, working).reshape(window.y_shape), dx, window.integers, *counts,
        bands_of(N * C, H, W * working.itemsize))
    return check.deliver(dx.reshape(x.shape), None, window.dtype)
