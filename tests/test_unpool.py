"""Max unpooling of 1 to 3 axes and its gradient against the naive loops."""
import numpy as np
import pytest
from cases import inject, layouts, random_array

import fastconv
import naive
from fastconv.testing import assert_gradient, assert_same

# (shape of x, arguments after indices, pooled axes)
CASES = [
    ((2, 3, 4), {"kernel_size": 2}, 1), ((3, 5), {"kernel_size": (3,), "stride": 2, "padding": 1}, 1), ((1, 1, 300), {"kernel_size": 60}, 1),
    ((2, 3, 4, 5), {"kernel_size": 2}, 2), ((3, 4, 5), {"kernel_size": (2, 3), "stride": (1, 2)}, 2), ((0, 3, 4, 5), {"kernel_size": 2}, 2),
    ((2, 3, 4, 5), {"kernel_size": 3, "stride": 2, "padding": 1}, 2), ((2, 3, 4, 5), {"kernel_size": 2, "output_size": (9, 10)}, 2),
    ((2, 3, 4, 5), {"kernel_size": 2, "output_size": (2, 3, 8, 11)}, 2), ((1, 2, 4, 5), {"kernel_size": 3, "stride": 2, "padding": ((1, 0), (0, 1))}, 2),
    ((1, 1, 40, 50), {"kernel_size": 5, "stride": 4}, 2), ((2, 3, 2, 3, 4), {"kernel_size": 2}, 3),
    ((3, 2, 3, 4), {"kernel_size": (2, 1, 3), "output_size": (4, 3, 13)}, 3),
]
EACH = pytest.mark.parametrize("shape, kwargs, nd", CASES, ids=str)
EACH_DTYPE = pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64], ids=["f2", "f4", "f8"])


def arguments(shape, kwargs, nd, dtype=np.float64, distinct=True):
    """x, indices and dout: indices in any order, some -1; where they are not distinct, many the same."""
    x = random_array(shape, dtype)
    size = naive.__dict__[f"max_unpool{nd}d"](x, np.zeros(shape, np.int64), **kwargs).shape
    plane, n, rng = int(np.prod(size[-nd:])), int(np.prod(shape[-nd:])), np.random.default_rng(0)
    rows = [rng.permutation(plane)[:n] if distinct else rng.integers(-1, max(2, plane // 3), n) for _ in range(x.size // n)]
    return x, np.array(rows, np.int64).reshape(shape), random_array(size, dtype, seed=2)


def functions(nd, end=""):
    return getattr(fastconv, f"max_unpool{nd}d{end}"), getattr(naive, f"max_unpool{nd}d{end}")


@EACH_DTYPE
@EACH
def test_same_as_the_loops(shape, kwargs, nd, dtype):
    for distinct in (True, False):
        x, indices, dout = arguments(shape, kwargs, nd, dtype, distinct)
        assert_same(*functions(nd), (x, indices), kwargs, exact=True)
        assert_same(*functions(nd, "_backward"), (dout, x, indices), kwargs, exact=True)
        assert_same(*functions(nd), (inject(x), indices), kwargs, exact=True)
        assert_same(*functions(nd, "_backward"), (inject(dout), x, indices), kwargs, exact=True)


@pytest.mark.parametrize("shape, kwargs, nd", [CASES[0], CASES[3], CASES[11]], ids=str)
def test_gradient(shape, kwargs, nd):
    x, indices, _ = arguments(shape, kwargs, nd)
    assert_gradient(functions(nd)[0], functions(nd, "_backward")[0], (x, indices), kwargs, wrt=[0])


@pytest.mark.parametrize("pool", [{"kernel_size": 2}, {"kernel_size": 3, "stride": 2, "padding": 1}, {"kernel_size": (2, 3), "stride": 1}], ids=str)
def test_unpooling_puts_the_maxima_back(pool):
    x = random_array((2, 3, 9, 11), np.float32)
    y, indices = fastconv.max_pool2d(x, **pool, return_indices=True)
    back = fastconv.max_unpool2d(y, indices, **pool, output_size=x.shape)
    assert back.shape == x.shape
    assert np.array_equal(back != 0, np.isin(np.arange(99), indices.reshape(6, -1)).reshape(9, 11)[None, None] & (back != 0))
    assert np.array_equal(back[back != 0], x[back != 0])
    for plane, places in zip(back.reshape(6, -1), indices.reshape(6, -1)):
        assert set(np.flatnonzero(plane)) == set(places.tolist())


def test_any_memory_layout_and_any_integer():
    x, indices, dout = arguments((2, 3, 4, 5), {"kernel_size": 2}, 2, np.float32)
    for odd, where, odd_dout in zip(layouts(x).values(), layouts(indices.astype(np.int32)).values(), layouts(dout).values()):
        assert_same(*functions(2), (odd, where, 2), exact=True)
        assert_same(*functions(2, "_backward"), (odd_dout, odd, where, 2), exact=True)
    wanted = fastconv.max_unpool2d(x, indices, 2)
    for kind in (np.uint8, np.int16, np.uint64):
        assert np.array_equal(fastconv.max_unpool2d(x, indices.astype(kind), 2), wanted)
    for out in layouts(np.full(wanted.shape, 7, np.float32)).values():
        if out.flags.writeable:
            assert fastconv.max_unpool2d(x, indices, 2, out=out) is out and np.array_equal(out, wanted)


@pytest.mark.parametrize("shape", [(1, 1, 500, 500), (16, 32, 40, 41), (3000, 4, 3, 3)], ids=str)
def test_threads_change_no_bit(shape):
    before = fastconv.get_num_threads()
    x, indices, dout = arguments(shape, {"kernel_size": 2}, 2, np.float32, distinct=False)
    results = []
    try:
        for threads in {1, min(2, fastconv.runtime.max_threads())}:
            fastconv.set_num_threads(threads)
            results.append((fastconv.max_unpool2d(x, indices, 2), fastconv.max_unpool2d_backward(dout, x, indices, 2)))
    finally:
        fastconv.set_num_threads(before)
    for one, two in zip(results[0], results[-1]):
        assert np.array_equal(one, two)
    wanted = np.zeros((len(x.reshape(-1, shape[2] * shape[3])), 4 * shape[2] * shape[3] + 1), np.float32)
    for plane, values, places in zip(wanted, x.reshape(len(wanted), -1), indices.reshape(len(wanted), -1)):
        plane[places] = values               # NumPy too keeps the last of several; -1 is the element that is cut off
    assert np.array_equal(results[0][0].reshape(len(wanted), -1), wanted[:, :-1])


def test_indices_outside_the_plane_are_refused():
    x, dout = np.ones((1, 2, 3, 3)), np.ones((1, 2, 6, 6))
    for bad in (-2, 36, 10 ** 12, -10 ** 12):
        indices = np.zeros((1, 2, 3, 3), np.int64)
        indices[0, 1, 2, 1] = bad
        with pytest.raises(ValueError, match=f"indices hold {bad};"):
            fastconv.max_unpool2d(x, indices, 2)
        with pytest.raises(ValueError, match=f"indices hold {bad};"):
            fastconv.max_unpool2d_backward(dout, x, indices, 2)


def test_output_size_lies_within_one_stride():
    x, indices = np.ones((1, 1, 3, 3)), np.zeros((1, 1, 3, 3), int)
    for size in (3, 9, (6, 3), (1, 1, 6, 9), (6,) * 5, (6, 6, 6)):
        with pytest.raises(ValueError, match="output_size"):
            fastconv.max_unpool2d(x, indices, 3, 3, 1 if size == 3 else 0, output_size=4 if size == 3 else 12 if size == 9 else size)
    assert fastconv.max_unpool2d(x, indices, 2, output_size=7).shape == (1, 1, 7, 7)
    with pytest.raises(ValueError, match="padding"):
        fastconv.max_unpool2d(np.ones((1, 1, 1, 1)), np.zeros((1, 1, 1, 1), int), 2, padding=1)
