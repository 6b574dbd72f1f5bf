"""Overlaps of boxes and non-maximum suppression, pair by pair. fastconv.boxes says what boxes are."""

import numpy as np

from naive.shared import deliver, dtypes

__all__ = ["batched_nms", "box_convert", "box_iou", "generalized_box_iou", "nms"]


def box_convert(boxes: np.ndarray, in_fmt: str, out_fmt: str, *, inclusive: bool = False) -> np.ndarray:
    """boxes (..., 4) in another format."""
    compute, dtype = dtypes(boxes)
    converted = np.empty(boxes.shape, compute)
    more = 1 if inclusive else 0  # pixel
    with np.errstate(all="ignore"):
        for place in np.ndindex(boxes.shape[:-1]):
            a, b, c, d = boxes[place].astype(compute)
            if in_fmt == "xyxy":
                left, top, width, height = a, b, c - a + more, d - b + more
            elif in_fmt == "xywh":
                left, top, width, height = a, b, c, d
            else:
                left, top, width, height = a - (c - more) / 2, b - (d - more) / 2, c, d
            if in_fmt == out_fmt:
                converted[place] = a, b, c, d
            elif out_fmt == "xyxy":
                converted[place] = left, top, left + width - more, top + height - more
            elif out_fmt == "xywh":
                converted[place] = left, top, width, height
            else:
                converted[place] = left + (width - more) / 2, top + (height - more) / 2, width, height
    return converted.astype(dtype)


def box_iou(boxes1: np.ndarray, boxes2: np.ndarray, fmt: str = "xyxy", *, inclusive: bool = False, out: np.ndarray | None = None) -> np.ndarray:
    """boxes1 (N, 4), boxes2 (M, 4) -> (N, M): intersection over union."""
    return _pairs(lambda both, union, hull: _ratio(both, union), boxes1, boxes2, fmt, inclusive, out)


def generalized_box_iou(
    boxes1: np.ndarray, boxes2: np.ndarray, fmt: str = "xyxy", *, inclusive: bool = False, out: np.ndarray | None = None
) -> np.ndarray:
    """boxes1 (N, 4), boxes2 (M, 4) -> (N, M): intersection over union, less the share of the hull that neither covers."""
    return _pairs(lambda both, union, hull: _ratio(both, union) - _ratio(hull - union, hull), boxes1, boxes2, fmt, inclusive, out)


def nms(boxes: np.ndarray, scores: np.ndarray, iou_threshold: float, *, fmt: str = "xyxy", inclusive: bool = False) -> np.ndarray:
    """The places of the boxes (N, 4) that are kept, best first."""
    return batched_nms(boxes, scores, np.zeros(len(boxes), np.int64), iou_threshold, fmt=fmt, inclusive=inclusive)


def batched_nms(
    boxes: np.ndarray, scores: np.ndarray, idxs: np.ndarray, iou_threshold: float, *, fmt: str = "xyxy", inclusive: bool = False
) -> np.ndarray:
    """nms in which boxes remove only those of their own class."""
    order = sorted(range(len(boxes)), key=lambda n: (np.isnan(scores[n]), -float(scores[n])))  # stable
    kept: list[int] = []
    for n in order:
        rivals = [m for m in kept if idxs[m] == idxs[n]]
        if not any(box_iou(boxes[m], boxes[n], fmt, inclusive=inclusive) > iou_threshold for m in rivals):
            kept.append(n)
    return np.array(kept, np.int64)


def _pairs(result, boxes1, boxes2, fmt, inclusive, out):
    compute, dtype = dtypes(boxes1, boxes2)
    firsts, seconds = (_edges(boxes.astype(compute).reshape(-1, 4), fmt, inclusive) for boxes in (boxes1, boxes2))
    found = np.empty((len(firsts), len(seconds)), compute)
    with np.errstate(all="ignore"):
        for n, a in enumerate(firsts):
            for m, b in enumerate(seconds):
                both = _area(np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]))
                hull = _area(np.maximum(a[2:], b[2:]) - np.minimum(a[:2], b[:2]))
                found[n, m] = result(both, _area(a[2:] - a[:2]) + _area(b[2:] - b[:2]) - both, hull)
    return deliver(found.reshape(boxes1.shape[:-1] + boxes2.shape[:-1]), True, dtype, out)


def _edges(boxes, fmt, inclusive):
    """left, top, right, bottom of continuous boxes; empty where they were inverted."""
    edges = box_convert(boxes, fmt, "xyxy", inclusive=inclusive)
    edges[:, 2:] += 1 if inclusive else 0
    edges[:, 2:] = np.maximum(edges[:, :2], edges[:, 2:])
    return edges


def _area(size):
    """Of (width, height); 0 where one of them is not above 0, NaN where one is NaN."""
    if np.isnan(size).any():
        return size.dtype.type(np.nan)
    return size[0] * size[1] if (size > 0).all() else size.dtype.type(0)


def _ratio(part, whole):
    return part / whole if whole != 0 else whole
