"""Boxes against their plain twins, known overlaps, and boxes that are none."""
import tracemalloc

import numpy as np
import pytest

import naive
from fastconv import boxes as fast
from fastconv.testing import assert_same
from naive import boxes as slow

KINDS = [(fmt, inclusive) for fmt in fast.FORMATS for inclusive in (False, True)]


def some_boxes(count, seed=0, dtype=np.float32, fmt="xyxy"):
    """Boxes of a few pixels close to each other: most pairs overlap somewhere."""
    rng = np.random.default_rng(seed)
    begin, size = rng.uniform(0, 20, (count, 2)), rng.uniform(0, 15, (count, 2))
    return np.hstack((begin, size if fmt != "xyxy" else begin + size)).astype(dtype)


def odd_boxes():
    """Degenerate, inverted, touching, equal, far away, NaN and infinite ones."""
    nan, inf = np.nan, np.inf
    return np.array([
        [0, 0, 10, 10], [0, 0, 10, 10], [10, 0, 20, 10], [5, 5, 5, 9], [5, 5, 5, 5], [9, 9, 2, 2], [8, 0, 2, 10], [1e6, 1e6, 1e6 + 1, 1e6 + 2],
        [nan, 0, 1, 1], [0, 0, nan, 0], [0, nan, 0, 5], [nan, nan, nan, nan], [0, 0, inf, 1], [0, 0, inf, inf], [-inf, 0, inf, 0], [inf, inf, inf, inf],
    ])


@pytest.mark.parametrize("name", ["box_iou", "generalized_box_iou"])
@pytest.mark.parametrize(("fmt", "inclusive"), KINDS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_all_pairs(name, fmt, inclusive, dtype):
    a, b = some_boxes(7, 1, dtype, fmt), some_boxes(37, 2, dtype, fmt)
    assert_same(getattr(fast, name), getattr(slow, name), (a, b, fmt), {"inclusive": inclusive}, tolerance=4e-6 if dtype == np.float32 else None)
    a, b = np.round(a), np.round(b)
    assert_same(getattr(fast, name), getattr(slow, name), (a, b, fmt), {"inclusive": inclusive}, tolerance=4e-6 if dtype == np.float32 else None)


@pytest.mark.parametrize("name", ["box_iou", "generalized_box_iou"])
@pytest.mark.parametrize(("fmt", "inclusive"), KINDS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_odd_boxes(name, fmt, inclusive, dtype):
    odd = odd_boxes().astype(dtype)
    fast_result, slow_result = (getattr(house, name)(odd, odd, fmt, inclusive=inclusive) for house in (fast, slow))
    assert_same(fast_result, slow_result, tolerance=1e-6)


def test_known_overlaps():
    a = np.array([0.0, 0.0, 10.0, 10.0])
    b = np.array([[5.0, 5.0, 15.0, 15.0], [10.0, 0.0, 20.0, 10.0], [0.0, 0.0, 10.0, 10.0], [2.0, 2.0, 4.0, 4.0]])
    assert_same(fast.box_iou(a, b), np.array([25 / 175, 0, 1, 0.04]))
    assert_same(fast.generalized_box_iou(a, b), np.array([25 / 175 - 50 / 225, 0, 1, 0.04]))
    assert fast.box_iou(a, b[0]).shape == ()
    assert float(fast.box_iou(a, b[0])) == 25 / 175
    # eleven pixels a side, and a column that both have
    assert_same(fast.box_iou(a, b, inclusive=True), np.array([36 / 206, 11 / 231, 1, 9 / 121]))
    assert_same(fast.generalized_box_iou(a, np.array([20.0, 0.0, 30.0, 10.0])), np.array(-1 / 3))


def test_boxes_without_area():
    line, point, inverted, nan = np.array([[5.0, 5.0, 5.0, 9.0], [5.0, 5.0, 5.0, 5.0], [9.0, 9.0, 2.0, 2.0], [np.nan, 0.0, 9.0, 9.0]])
    whole = np.array([0.0, 0.0, 10.0, 10.0])
    for empty in (line, point, inverted):
        assert fast.box_iou(empty, empty) == fast.box_iou(empty, whole) == 0
        assert fast.generalized_box_iou(empty, whole) == 0  # nothing of the hull is uncovered
        assert np.isnan(fast.box_iou(empty, nan))
    assert fast.generalized_box_iou(point, point) == 0
    assert fast.generalized_box_iou(point, np.array([8.0, 8.0, 8.0, 8.0])) == -1
    assert fast.box_iou(point, point, inclusive=True) == 1  # one pixel


@pytest.mark.parametrize(("in_fmt", "inclusive"), KINDS)
@pytest.mark.parametrize("out_fmt", fast.FORMATS)
def test_formats(in_fmt, inclusive, out_fmt):
    boxes = some_boxes(6, 3, np.float64).reshape(2, 3, 4)
    kwargs = {"inclusive": inclusive}
    assert_same(fast.box_convert, slow.box_convert, (boxes, in_fmt, out_fmt), kwargs)
    there = fast.box_convert(boxes, in_fmt, out_fmt, **kwargs)
    assert there is not boxes
    assert_same(fast.box_convert(there, out_fmt, in_fmt, **kwargs), boxes)
    pixels = np.array([2, 3, 5, 9], np.int32)
    assert_same(fast.box_convert(pixels, "xyxy", "xywh", inclusive=True), np.array([2.0, 3.0, 4.0, 7.0]))
    assert_same(fast.box_convert(pixels, "xyxy", "cxcywh", inclusive=True), np.array([3.5, 6.0, 4.0, 7.0]))
    assert_same(fast.box_convert(pixels, "xyxy", "cxcywh"), np.array([3.5, 6.0, 3.0, 6.0]))


def test_dtypes_layouts_and_out():
    a, b = some_boxes(5), some_boxes(4, 1)
    half = a.astype(np.float16)
    assert_same(fast.box_iou, slow.box_iou, (half, half))
    ints = np.round(a).astype(np.int16)
    assert_same(fast.box_iou, slow.box_iou, (ints, ints))
    turned = np.asfortranarray(b)[::-1]
    turned.flags.writeable = False
    out = np.zeros((5, 4), np.float32)
    assert fast.box_iou(a, turned, out=out) is out
    assert_same(out, fast.box_iou(a, b[::-1].copy()), exact=True)
    swapped = b.astype(b.dtype.newbyteorder())
    assert_same(fast.box_iou(a, swapped), fast.box_iou(a, b), exact=True)
    assert fast.box_iou(a[:0], b).shape == (0, 4)
    assert fast.generalized_box_iou(a, b[:0]).shape == (5, 0)


def test_threads_give_the_same_bits():
    a, b = some_boxes(400, 1), some_boxes(300, 2)
    whole = fast.box_iou(a, b)
    for n in (0, 137, 399):
        assert np.array_equal(fast.box_iou(a[n], b), whole[n])


def test_no_large_temporary():
    """10,000 x 10,000 pairs: beside the 400 MB of the result, less than a row of them for each box."""
    a = some_boxes(10_000)
    out = np.empty((10_000, 10_000), np.float32)
    fast.box_iou(a[:10], a[:10])
    tracemalloc.start()
    fast.box_iou(a, a, out=out)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 4e6
    assert (np.diag(out) == 1).all()
    assert_same(out[17, ::100], fast.box_iou(a[17], a[::100]), exact=True)


# --- suppression


@pytest.mark.parametrize("threshold", [0.0, 0.3, 0.7, 1.0])
@pytest.mark.parametrize(("fmt", "inclusive"), KINDS)
def test_nms(threshold, fmt, inclusive):
    boxes = some_boxes(60, 4, np.float64, fmt)
    scores = np.round(np.random.default_rng(0).uniform(size=60), 1)  # with ties
    kinds = np.random.default_rng(1).integers(-1, 2, 60)
    for name, args in (("nms", (boxes, scores, threshold)), ("batched_nms", (boxes, scores, kinds, threshold))):
        kept = getattr(fast, name)(*args, fmt=fmt, inclusive=inclusive)
        assert kept.dtype == np.int64
        assert_same(kept, getattr(slow, name)(*args, fmt=fmt, inclusive=inclusive))


def test_known_suppression():
    boxes = np.array([[0, 0, 10, 10], [1, 0, 11, 10], [20, 0, 30, 10], [2, 0, 12, 10], [0, 0, 10, 10]], np.float32)
    scores = np.array([0.5, 0.9, 0.1, 0.4, 0.5])
    assert fast.nms(boxes, scores, 0.5).tolist() == [1, 2]
    assert fast.nms(boxes, scores, 0.9).tolist() == [1, 0, 3, 2]
    assert fast.nms(boxes, scores, 1.0).tolist() == [1, 0, 4, 3, 2]  # only more than the threshold removes
    assert fast.batched_nms(boxes, scores, np.array([0, 1, 0, 0, 1]), 0.5).tolist() == [1, 0, 2]
    assert fast.nms(boxes[:0], scores[:0], 0.5).tolist() == []
    assert fast.nms(boxes, np.array([3, 2, 1, 0, -1]), 0.5).tolist() == [0, 2]
    assert fast.nms(boxes, np.array([255, 2, 1, 0, 3], np.uint8), 0.5).tolist() == [0, 2]


def test_odd_boxes_and_scores():
    """NaN boxes neither remove nor are removed; NaN scores are last; infinite ones are scores."""
    boxes = np.array([[np.nan, 0, 10, 10], [0, 0, 10, 10], [0, 0, 10, 10], [9, 9, 0, 0], [9, 9, 0, 0]])
    assert fast.nms(boxes, np.array([0.9, np.nan, 0.1, np.inf, -np.inf]), 0.5).tolist() == [3, 0, 2, 4]
    odd, scores = odd_boxes(), np.arange(16.0)
    scores[[3, 8]] = np.nan
    for threshold in (0.0, 0.5):
        assert_same(fast.nms(odd, scores, threshold), slow.nms(odd, scores, threshold))


# --- errors


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda b, s: fast.box_iou(b.tolist(), b), TypeError, "boxes1 is a list"),
        (lambda b, s: fast.box_iou(b, b[:, :3]), ValueError, r"boxes2 has shape \(3, 3\); wanted: \(N, 4\) or \(4,\), four"),
        (lambda b, s: fast.box_convert(b[:, :3], "xyxy", "xywh"), ValueError, r"boxes has shape \(3, 3\); wanted: \(\.\.\., 4\), four"),
        (lambda b, s: fast.box_convert(b[0, 0], "xyxy", "xywh"), TypeError, r"boxes is a float32; wanted: a NumPy array \(\.\.\., 4\)"),
        (lambda b, s: fast.box_iou(b, b[None]), ValueError, "boxes2 has 3 dimensions"),
        (lambda b, s: fast.box_iou(b, b.astype(np.float64)), TypeError, "boxes2 has dtype float64"),
        (lambda b, s: fast.box_iou(b, b, "xyhw"), ValueError, "fmt"),
        (lambda b, s: fast.box_iou(b, b, inclusive=2), TypeError, "inclusive"),
        (lambda b, s: fast.box_iou(b, b, out=np.empty((3, 4), np.float32)), ValueError, "out"),
        (lambda b, s: fast.box_convert(b, "xyxy", "yxyx"), ValueError, "out_fmt"),
        (lambda b, s: fast.nms(b, s[:2], 0.5), ValueError, "scores has shape"),
        (lambda b, s: fast.nms(b[0], s, 0.5), ValueError, r"boxes has 1 dimensions, shape \(4,\); wanted: \(N, 4\)$"),
        (lambda b, s: fast.nms(b, s, -0.5), ValueError, "iou_threshold"),
        (lambda b, s: fast.nms(b, s, "half"), TypeError, "iou_threshold"),
        (lambda b, s: fast.batched_nms(b, s, s, 0.5), TypeError, "idxs has dtype"),
        (lambda b, s: fast.batched_nms(b, s, np.arange(2), 0.5), ValueError, "idxs has shape"),
        (lambda b, s: fast.batched_nms(b, s, [1, 2, 3], 0.5), TypeError, "idxs is a list"),
    ],
)
def test_errors(call, error, message):
    with pytest.raises(error, match=message):
        call(some_boxes(3), np.ones(3))


def test_public_names():
    import fastconv

    for name in ("batched_nms", "box_convert", "box_iou", "generalized_box_iou", "nms"):
        assert getattr(fastconv, name) is getattr(fast, name)
        assert getattr(naive, name) is getattr(slow, name)
