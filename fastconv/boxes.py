"""Boxes of object detection: overlaps of all pairs, non-maximum suppression, and formats. Not differentiable.

A box is four numbers, the last axis of an array, in one of the formats

    "xyxy"    left, top, right, bottom
    "xywh"    left, top, width, height
    "cxcywh"  the centre's x and y, width, height

Continuous boxes (the default) are right - left wide. With `inclusive`, corners are the first and the last pixel that belong to the box,
which is right - left + 1 wide.

Boxes without area (degenerate ones, and inverted ones, whose right is left of their left or bottom above top) overlap nothing: their
intersection over union is 0, also with themselves. A box with a NaN, or of infinite area, gives NaN where NumPy's arithmetic does.
Arrays are float32, float64 or float16 (computed in float32, rounded once), or integers (as float64).
"""
from __future__ import annotations

from typing import Any

import numpy as np

from . import check
from .kernels import boxes as kernels
from .kernels.tasks import NO_TABLE, NOTHING, run_tasks

__all__ = ["batched_nms", "box_convert", "box_iou", "generalized_box_iou", "nms"]

FORMATS = ("xyxy", "xywh", "cxcywh")
ROW_BLOCK = 16384                            # pairs that a task takes


def box_convert(boxes: np.ndarray, in_fmt: str, out_fmt: str, *, inclusive: bool = False) -> np.ndarray:
    """boxes (..., 4) in another format, as torchvision.ops.box_convert; a new array, in float64 where boxes are integers."""
    boxes = _checked("boxes", boxes, range(1, 65), "(..., 4)")
    check.choice("in_fmt", in_fmt, FORMATS)
    check.choice("out_fmt", out_fmt, FORMATS)
    more = 1 if check.flag("inclusive", inclusive) else 0
    working = boxes.astype(check.working_dtype(boxes.dtype))
    begin, size = working[..., :2], working[..., 2:]
    if in_fmt == out_fmt:
        return working.astype(boxes.dtype)
    if in_fmt == "xyxy":
        size = size - begin + more
    elif in_fmt == "cxcywh":
        begin = begin - (size - more) / 2
    if out_fmt == "xyxy":
        size = begin + size - more
    elif out_fmt == "cxcywh":
        begin = begin + (size - more) / 2
    return np.concatenate((begin, size), -1).astype(boxes.dtype)


def box_iou(boxes1: np.ndarray, boxes2: np.ndarray, fmt: str = "xyxy", *, inclusive: bool = False, out: np.ndarray | None = None) -> np.ndarray:
    """Intersection over union of every pair, as torchvision.ops.box_iou.

    boxes1 (N, 4), boxes2 (M, 4) -> (N, M); an axis falls away where a single box (4,) is given. Memory beside the result: a copy of
    the boxes. out: an array to write the result into.
    """
    return _all_pairs(kernels.iou_rows, boxes1, boxes2, fmt, inclusive, out)


def generalized_box_iou(boxes1: np.ndarray, boxes2: np.ndarray, fmt: str = "xyxy", *, inclusive: bool = False,
                        out: np.ndarray | None = None) -> np.ndarray:
    """box_iou less the share of the smallest box around both that neither covers: from -1 to 1 (Rezatofighi et al., 2019).

    A box without area counts as the point, or the line, at its left and top corner. Where that box around both has no area either,
    the result is box_iou's.
    """
    return _all_pairs(kernels.generalized_iou_rows, boxes1, boxes2, fmt, inclusive, out)


def nms(boxes: np.ndarray, scores: np.ndarray, iou_threshold: float, *, fmt: str = "xyxy", inclusive: bool = False) -> np.ndarray:
    """The places of the boxes that non-maximum suppression keeps, best first, int64, as torchvision.ops.nms.

    boxes (N, 4), scores (N,). From the highest score down, each box that is left removes those that overlap it with an intersection
    over union above iou_threshold. Of equal scores the first box is first; NaN scores come last; an overlap of NaN removes nothing.
    """
    return _suppressed(boxes, scores, None, iou_threshold, fmt, inclusive)


def batched_nms(boxes: np.ndarray, scores: np.ndarray, idxs: np.ndarray, iou_threshold: float, *, fmt: str = "xyxy",
                inclusive: bool = False) -> np.ndarray:
    """`nms` in which boxes remove only those of their own class, idxs (N,), integers; as torchvision.ops.batched_nms."""
    if not isinstance(idxs, np.ndarray) or idxs.dtype.kind not in "iu":
        came = f"has dtype {idxs.dtype}" if isinstance(idxs, np.ndarray) else f"is a {type(idxs).__name__}"
        raise TypeError(f"idxs {came}; wanted: an array of integers, the class of each box")
    return _suppressed(boxes, scores, idxs, iou_threshold, fmt, inclusive)


def _checked(name: str, boxes: Any, ndims: Any = (1, 2), shape: str = "(N, 4) or (4,)") -> np.ndarray:
    """boxes, in native floats."""
    boxes = check.array(name, boxes, shape, ndims, integers=True)
    if boxes.shape[-1] != 4:
        raise ValueError(f"{name} has shape {boxes.shape}; wanted: {shape}, four numbers a box")
    return boxes.astype(np.float64 if boxes.dtype.kind in "iu" else boxes.dtype.newbyteorder("="), copy=False)


def _columns(boxes: np.ndarray, fmt: str, inclusive: bool) -> np.ndarray:
    """boxes (N, 4) or (4,) as the kernels take them: left, top, right, bottom and area, (5, N). Inverted boxes have become empty."""
    table = np.empty((5, boxes.size // 4), check.working_dtype(boxes.dtype))
    with np.errstate(all="ignore"):          # NaN and inf are data here
        corners = box_convert(boxes.astype(table.dtype, copy=False).reshape(-1, 4), fmt, "xyxy", inclusive=inclusive)
        table[:2] = corners[:, :2].T
        table[2:4] = np.maximum(table[:2], corners[:, 2:].T + (1 if inclusive else 0))
        width, height = table[2:4] - table[:2]
        table[4] = np.where((width == 0) | (height == 0), 0, width * height)
    table[4][np.isnan(corners).any(axis=1)] = np.nan
    return table


def _all_pairs(kernel: Any, boxes1: Any, boxes2: Any, fmt: Any, inclusive: Any, out: Any) -> np.ndarray:
    boxes1, boxes2 = _checked("boxes1", boxes1), _checked("boxes2", boxes2)
    dtype = check.common_dtype((("boxes1", boxes1), ("boxes2", boxes2)))
    check.choice("fmt", fmt, FORMATS)
    check.flag("inclusive", inclusive)
    shape = boxes1.shape[:-1] + boxes2.shape[:-1]
    check.result_shape("the numbers of boxes", *shape)
    given = check.output(out, shape, dtype, (boxes1, boxes2))
    columns1, columns2 = _columns(boxes1, fmt, inclusive), _columns(boxes2, fmt, inclusive)
    result = check.target(given, shape, columns1.dtype)
    if result.size:
        N, M, nothing = columns1.shape[1], columns2.shape[1], NOTHING[columns1.dtype]
        rows = max(1, ROW_BLOCK // M)
        run_tasks(kernel, -(-N // rows), 32 * result.size, columns1.reshape(-1), columns2.reshape(-1), result.reshape(-1), nothing, nothing,
                  np.array([N, M, rows], np.int64), NO_TABLE)
    return check.deliver(result, given, dtype)


def _suppressed(boxes: Any, scores: Any, classes: np.ndarray | None, threshold: Any, fmt: Any, inclusive: Any) -> np.ndarray:
    boxes = _checked("boxes", boxes, (2,), "(N, 4)")
    N = len(boxes)
    scores = check.array("scores", scores, "(N,)", (1,), integers=True)
    check.shape_of("scores", scores, (N,), "one for each box")
    if classes is not None:
        check.shape_of("idxs", classes, (N,), "one for each box")
    check.choice("fmt", fmt, FORMATS)
    threshold = check.number("iou_threshold", threshold, 0.0)
    check.flag("inclusive", inclusive)
    # Backwards and stable from there: the highest score first, of equal ones the first box, NaN last.
    order = N - 1 - np.argsort(scores[::-1], kind="stable")[::-1]
    if scores.dtype.kind == "f":
        order = np.concatenate((order[~np.isnan(scores[order])], np.flatnonzero(np.isnan(scores))))
    columns = _columns(boxes[order], fmt, inclusive)
    table = np.ones((2, N), np.int64)
    if classes is not None:
        table[0] = classes[order]
    nothing = NOTHING[columns.dtype]
    kernels.suppress(0, 1, columns.reshape(-1), nothing, nothing, np.array([threshold], columns.dtype), nothing, np.array([N], np.int64),
                     table.reshape(-1))
    return order[table[1] == 1]
