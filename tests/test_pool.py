"""Max and average pooling and their gradients against the naive loops and float64 truth."""
import gc
import tracemalloc
from functools import partial

import numpy as np
import pytest
from cases import broadcasts, inject, layouts, pool_cases
from numba import njit

import fastconv
import naive
from fastconv import remembered
from fastconv.kernels import simd_shares
from fastconv.kernels.simd_shares import repeat_rows
from fastconv.pool import average, window
from fastconv.testing import assert_same, promised

DTYPES = [np.float16, np.float32, np.float64]
ALL = [case for nd in (1, 2, 3) for case in pool_cases(nd)]
CASES = pytest.mark.parametrize("case", ALL, ids=str)
EACH_DTYPE = pytest.mark.parametrize("dtype", DTYPES, ids=["f2", "f4", "f8"])


def functions(case):
    """Both poolings of the case: (fast, naive, fast backward, naive backward, kwargs)."""
    return [(*(getattr(house, f"{kind}_pool{case.nd}d{end}") for end in ("", "_backward") for house in (fastconv, naive)), kwargs)
            for kind, kwargs in (("max", case.max_kwargs), ("avg", case.avg_kwargs))]


@EACH_DTYPE
@CASES
def test_forward(case, dtype):
    for fast, plain, _, _, kwargs in functions(case):
        assert_same(fast, plain, case.arrays(dtype), kwargs)


@EACH_DTYPE
@CASES
def test_backward(case, dtype):
    for _, _, fast, plain, kwargs in functions(case):
        assert_same(fast, plain, (case.dout(dtype), *case.arrays(dtype)), kwargs)


@EACH_DTYPE
@CASES
def test_max_pooling_is_exact_with_its_indices(case, dtype):
    (x,), kwargs = case.arrays(dtype, integers=True), {**case.max_kwargs, "return_indices": True}     # integers: many ties
    fast, plain, fast_back, plain_back, _ = functions(case)[0]
    assert_same(fast, plain, (x,), kwargs, exact=True)
    indices = plain(x, **kwargs)[1]
    dout = case.dout(dtype, integers=True)
    assert_same(fast_back, plain_back, (dout, x), {**case.max_kwargs, "indices": indices}, exact=True)
    assert_same(fast_back, plain_back, (dout, x), case.max_kwargs, exact=True)


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int16, np.uint32, np.int64, np.uint64])
@pytest.mark.parametrize("case", ALL[::11], ids=str)
def test_max_pooling_takes_integers(case, dtype):
    info = np.iinfo(dtype)
    x = np.random.default_rng(0).integers(info.min, info.max, case.x, dtype, endpoint=True)
    fast, plain, fast_back, plain_back, _ = functions(case)[0]
    assert_same(fast, plain, (x,), case.max_kwargs, exact=True)
    assert_same(fast, plain, (x,), {**case.max_kwargs, "return_indices": True}, exact=True)
    dout = case.dout(np.float32, integers=True)
    assert np.array_equal(fast_back(dout, x, **case.max_kwargs), plain_back(dout.astype(np.float64), x, **case.max_kwargs))


@EACH_DTYPE
@CASES
def test_nan_and_inf(case, dtype):
    (x,) = case.arrays(dtype)
    for values in ((np.nan, np.inf, -np.inf), (-np.inf,)):
        odd, odd_dout = inject(x, values), inject(case.dout(dtype), values)
        (fast, plain, fast_back, plain_back, kwargs), (average, plain_average, average_back, plain_average_back, average_kwargs) = functions(case)
        assert_same(fast, plain, (odd,), {**kwargs, "return_indices": True}, exact=True)
        assert_same(fast, plain, (odd,), kwargs, exact=True)
        assert_same(fast_back, plain_back, (case.dout(dtype), odd), kwargs)
        assert_same(fast_back, plain_back, (odd_dout, x), kwargs)
        assert_same(average, plain_average, (odd,), average_kwargs)
        assert_same(average_back, plain_average_back, (odd_dout, x), average_kwargs)


@EACH_DTYPE
@pytest.mark.parametrize("nd, size", [(1, (9,)), (2, (2, 2)), (2, (7, 7)), (2, (5, 3)), (3, (2, 3, 4))], ids=str)
@pytest.mark.parametrize("arguments", [
    {"kernel_size": 2}, {"kernel_size": 2, "padding": 1, "stride": 1}, {"kernel_size": 3, "stride": 2, "padding": 1},
    {"kernel_size": 3, "stride": 1, "padding": 1}, {"kernel_size": 2, "stride": 3, "padding": 1, "dilation": 2, "ceil_mode": True}], ids=str)
def test_many_small_planes(arguments, nd, size, dtype):
    """More planes than a vector has lanes, and some that fill none; every fifth with a NaN."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((3, 13, *size)).astype(dtype)
    odd = x.copy()
    odd.reshape(39, -1)[::5, rng.integers(np.prod(size))] = np.nan
    for kind in ("max", "avg"):
        (fast, plain), (fast_back, plain_back) = ([getattr(house, f"{kind}_pool{nd}d{end}") for house in (fastconv, naive)] for end in ("", "_backward"))
        assert_same(fast, plain, (x,), arguments)
        assert_same(fast, plain, (odd,), arguments)
        dout = rng.standard_normal(plain(x, **arguments).shape).astype(dtype)
        assert_same(fast_back, plain_back, (dout, x), arguments)
        assert_same(fast_back, plain_back, (dout, odd), arguments)
    assert_same(fast, plain, (x,), {**arguments, "count_include_pad": False})
    assert_same(fast_back, plain_back, (dout, x), {**arguments, "count_include_pad": False})


@pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["f4", "f8"])
@pytest.mark.parametrize("arguments", [
    (2, 2, 1), (3, 2, 1), (3, 1, 1), (2, 1, 1), (3, 2, 0, 1, True), ((2, 3), (3, 1), (1, 0), 1, True), ((3, 2), (1, 2), 1), (1, 2),
    (3, 2, (1, 0)), (3, (1, 2), ((2, 2), (2, 1)))], ids=str)
def test_gradients_of_wide_rows_with_ties(arguments, dtype, monkeypatch):
    """Rows of several vectors and a rest, planes of several bands; ties, elements -inf and NaN, planes of -inf."""
    names = ("kernel_size", "stride", "padding", "dilation", "ceil_mode")
    kwargs = dict(zip(names, arguments))
    monkeypatch.setattr(window, "BAND_BYTES", 1024)
    window.WINDOWS.clear()
    rng = np.random.default_rng(0)
    x = rng.integers(-2, 3, (1, 2, 21, 40)).astype(dtype)
    dout = rng.integers(-9, 10, naive.max_pool2d(x, **kwargs).shape).astype(dtype)
    for values, step in ((x[0, 0, 0, 0], 7), (-np.inf, 7), (np.nan, 401), (-np.inf, 1)):
        x.reshape(-1)[::step] = values
        assert_same(fastconv.max_pool2d_backward, naive.max_pool2d_backward, (dout, x), kwargs, exact=True)
    assert_same(fastconv.avg_pool2d_backward, naive.avg_pool2d_backward, (dout, x), {n: v for n, v in kwargs.items() if n != "dilation"})
    window.WINDOWS.clear()


@pytest.mark.parametrize("kernel, stride, padding", [((1, 2, 2), None, 0), ((1, 3, 3), (1, 2, 2), (0, 1, 1)), ((1, 3, 3), (2, 1, 1), (0, 1, 1)),
                                                     ((1, 2, 2), 1, 0), ((1, 5, 5), 1, (0, 2, 2)), (1, 1, 0), (1, (2, 1, 1), 0)], ids=str)
def test_flat_windows_lie_at_every_depth(kernel, stride, padding):
    x = np.random.default_rng(0).integers(-9, 10, (1, 2, 5, 9, 20)).astype(np.float32)
    other = x.copy()
    other[0, 1, 2, 4, 5:7], other[0, 0, 4, 0, 0] = np.nan, np.inf
    for name in ("max_pool3d", "avg_pool3d"):
        for image in (x, other):
            assert_same(getattr(fastconv, name), getattr(naive, name), (image, kernel, stride, padding))
        dout = getattr(naive, name)(x, kernel, stride, padding)
        assert_same(getattr(fastconv, name + "_backward"), getattr(naive, name + "_backward"), (dout, x, kernel, stride, padding))


def test_nan_wins_wherever_it_stands_in_the_window():
    for place in range(4):
        x = np.arange(4.0, dtype=np.float32).reshape(1, 1, 2, 2).repeat(20, 3)
        x[0, 0, place // 2, place % 2::2] = np.nan
        y, indices = fastconv.max_pool2d(x, 2, return_indices=True)
        assert np.isnan(y).all() and np.isnan(fastconv.max_pool2d(x, 2)).all()
        assert np.isnan(x.reshape(-1)[indices.reshape(-1)]).all()


def test_windows_of_minus_infinity_only_give_their_first_element():
    x = np.full((1, 1, 4, 4), -np.inf)
    y, indices = fastconv.max_pool2d(x, 2, return_indices=True)
    assert (y == -np.inf).all() and indices.reshape(-1).tolist() == [0, 2, 8, 10]
    _, indices = fastconv.max_pool2d(x, 3, 2, 1, return_indices=True)
    assert indices.reshape(-1).tolist() == [0, 1, 4, 5]


@pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["f4", "f8"])
def test_any_memory_layout(dtype):
    case = next(c for c in pool_cases() if len(c.x) == 4 and min(c.x) > 1)
    for fast, plain, fast_back, plain_back, kwargs in functions(case):
        (x,), dout = case.arrays(dtype, integers=True), case.dout(dtype, integers=True)
        for odd, odd_dout in zip(layouts(x).values(), layouts(dout).values()):
            assert_same(fast, plain, (odd,), kwargs)
            assert_same(fast_back, plain_back, (odd_dout, odd), kwargs)
        for view in broadcasts(x).values():
            assert_same(fast, plain, (view,), kwargs)
        wanted = fast(x, **kwargs)
        for out in layouts(np.zeros(wanted.shape, dtype)).values():
            if out.flags.writeable:
                assert fast(x, **kwargs, out=out) is out and np.array_equal(out, wanted)


def test_out_takes_the_indices_too():
    x = np.random.default_rng(0).standard_normal((2, 3, 8, 9)).astype(np.float32)
    wanted = fastconv.max_pool2d(x, 3, 2, 1, return_indices=True)
    out = np.zeros_like(wanted[0]), np.zeros_like(wanted[1])
    got = fastconv.max_pool2d(x, 3, 2, 1, return_indices=True, out=out)
    assert got[0] is out[0] and got[1] is out[1]
    assert np.array_equal(out[0], wanted[0]) and np.array_equal(out[1], wanted[1])


@pytest.mark.parametrize("kernel, stride", [(40, 1), ((3, 60), 7), ((60, 2), 5), (64, 64)])
def test_large_windows_keep_their_digits(kernel, stride):
    x = np.random.default_rng(0).random((1, 2, 64, 64), np.float32)
    kwargs = {"kernel_size": kernel, "stride": stride}
    assert_same(fastconv.avg_pool2d, naive.avg_pool2d, (x,), kwargs, tolerance=1e-6)
    y = naive.avg_pool2d(x, **kwargs)
    dout = np.random.default_rng(1).random(y.shape, np.float32)
    assert_same(fastconv.avg_pool2d_backward, naive.avg_pool2d_backward, (dout, x), kwargs, tolerance=1e-6)


def test_indices_outside_the_plane_are_refused():
    x, dout = np.zeros((1, 1, 4, 4)), np.zeros((1, 1, 2, 2))
    for bad in (-2, 16):
        with pytest.raises(ValueError, match="indices"):
            fastconv.max_pool2d_backward(dout, x, 2, indices=np.full((1, 1, 2, 2), bad))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape, arguments", [
    ((2, 1, 80, 113), (3, 1, 1)), ((1, 16, 96, 97), (3, 1, ((2, 1), (0, 2)))), ((1, 2, 1200, 8), (3, 1, 1)), ((1, 16, 100, 91), (3, 2, 1)),
    ((1, 2, 1200, 9), (3, 2, 1, 1, True)), ((1, 1, 97, 117), (3, 2, ((1, 0), (2, 1)))), ((1, 16, 90, 101), (3, 2)), ((1, 1, 97, 117), (2, 2, 0, 1, True)),
    ((1, 16, 92, 99), (2, 2, ((1, 1), (0, 1)))),
], ids=str)
def test_gradients_of_wide_planes_from_indices(shape, arguments, dtype):
    rng = np.random.default_rng(0)
    x = rng.integers(-2, 3, shape).astype(dtype)
    y, indices = fastconv.max_pool2d(x, *arguments, return_indices=True)
    dout = rng.integers(-9, 10, y.shape).astype(dtype)
    for places in (indices, np.roll(indices, (-40, 1), (-2, -1)), np.where(rng.random(y.shape) < 0.01, -1, indices)):     # of the windows, of others, of none
        expected = np.zeros((shape[0] * shape[1], shape[2] * shape[3]), dtype)
        for plane, where, given in zip(expected, places.reshape(len(expected), -1), dout.reshape(len(expected), -1)):
            np.add.at(plane, where[where >= 0], given[where >= 0])
        np.testing.assert_array_equal(fastconv.max_pool2d_backward(dout, x, *arguments, indices=places), expected.reshape(shape))
    for wrong in (-2, shape[2] * shape[3], -2 ** 32, 2 ** 32, 2 ** 62):
        bad = indices.copy()
        bad[-1, -1, -1, -1] += wrong if abs(wrong) > 2 ** 31 else wrong - bad[-1, -1, -1, -1]
        with pytest.raises(ValueError, match="indices go from"):
            fastconv.max_pool2d_backward(dout, x, *arguments, indices=bad)


@pytest.mark.parametrize("nd, shape, arguments", [
    (2, (1, 2, 20, 70), (5, 1, 2)), (2, (1, 1, 150, 75), ((3, 9), (2, 1), ((2, 0), (3, 5)), (2, 1), True)), (2, (1, 1, 12, 40), (5, 2, 2)),
    (2, (1, 1, 9, 37), ((3, 5), (2, 3), (1, 2))), (3, (1, 2, 5, 8, 19), (3, 1, 1)), (3, (1, 1, 6, 7, 9), ((2, 3, 4), (2, 1, 1), 1, (2, 1, 2))),
    (1, (1, 2, 300), (7, 1, 3)),
], ids=str)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_gradients_of_windows_that_overlap(nd, shape, arguments, dtype):
    rng = np.random.default_rng(0)
    x = rng.integers(-3, 4, shape).astype(dtype)
    for value, share in ((-0.0, 0.1), (-np.inf, 0.4), (np.inf, 0.01), (np.nan, 0.03)):
        x[rng.random(shape) < share] = value
        dout = rng.integers(-9, 10, getattr(fastconv, f"max_pool{nd}d")(x, *arguments).shape).astype(dtype)
        assert_same(getattr(fastconv, f"max_pool{nd}d_backward"), getattr(naive, f"max_pool{nd}d_backward"), (dout, x, *arguments), exact=True)


@pytest.mark.parametrize("nd, shape", [(2, (1, 1, 40, 800)), (3, (1, 1, 8, 40, 100))])
def test_indices_of_other_windows_count_too(nd, shape):
    x = np.random.default_rng(0).standard_normal(shape, np.float32)
    y, indices = getattr(fastconv, f"max_pool{nd}d")(x, 5, 2, return_indices=True)
    places, dout = np.flip(indices), np.random.default_rng(1).integers(-9, 10, y.shape).astype(np.float32)
    expected = np.zeros(x.size, np.float32)
    np.add.at(expected, places.reshape(-1), dout.reshape(-1))
    np.testing.assert_array_equal(getattr(fastconv, f"max_pool{nd}d_backward")(dout, x, 5, 2, indices=places).reshape(-1), expected)


@pytest.mark.parametrize("nd, arguments, words", [
    (1, {"kernel_size": (2, 2)}, "kernel_size is (2, 2)"), (1, {"padding": ((1, 1), (0, 0))}, "((before, after),)"),
    (1, {"padding": 2}, "along the length"), (1, {"kernel_size": 8}, "the length of the kernel"),
    (3, {"stride": (1, 1)}, "a triple (depth, height, width)"), (3, {"padding": ((1, 1), (0, 0))}, "(front, back)"),
    (3, {"padding": (2, 0, 0)}, "along the depth"), (3, {"dilation": 7}, "the depth of the kernel"), (3, {"kernel_size": (2, True, 2)}, "bool"),
    (3, {"stride": (1.0, 1, 1)}, "float")])
def test_arguments_of_other_dimensions_are_named(nd, arguments, words):
    x, dout = np.zeros((1, 1, *[7] * nd), np.float32), np.zeros((1, 1, *[6] * nd), np.float32)
    for name in (f"max_pool{nd}d", f"avg_pool{nd}d"):
        good = {"kernel_size": 2, "stride": 1}
        getattr(fastconv, name)(x, **good)           # what it may remember does not let the next pass
        for arrays, end in (((x,), ""), ((dout, x), "_backward")):
            with pytest.raises((TypeError, ValueError)) as caught:
                getattr(fastconv, name + end)(*arrays, **{**good, **arguments})
            assert words in str(caught.value) and "wanted:" in str(caught.value)


def test_what_is_equal_to_a_known_argument_is_still_refused():
    x = np.zeros((1, 1, 4, 4), np.float32)
    fastconv.max_pool2d(x, 1, (1, 1), 0, 1, False)
    for bad in ({"kernel_size": True}, {"kernel_size": 1.0}, {"stride": (True, 1)}, {"stride": (1, 1.0)}, {"ceil_mode": 0}, {"padding": False}):
        with pytest.raises(TypeError):
            fastconv.max_pool2d(x, **{"kernel_size": 1, "stride": (1, 1), "padding": 0, "dilation": 1, "ceil_mode": False, **bad})


@pytest.mark.parametrize("nd, shape", [(1, (3, 4)), (1, (1, 1, 1, 4)), (2, (4, 4)), (3, (4, 4, 4)), (3, (1, 1, 1, 4, 4, 4))])
def test_ranks_of_x(nd, shape):
    for name in (f"max_pool{nd}d", f"avg_pool{nd}d"):
        if len(shape) in (nd + 1, nd + 2):
            assert getattr(fastconv, name)(np.zeros(shape), 2).shape == (3, 2)
        else:
            with pytest.raises(ValueError, match="x has"):
                getattr(fastconv, name)(np.zeros(shape), 2)


LONG_CALLS = {
    "avg_pool1d": lambda x: fastconv.avg_pool1d(x, 3, 1), "avg_pool1d, divided": lambda x: fastconv.avg_pool2d(x, (1, 3), 1, divisor_override=2),
    "max_pool1d": lambda x: fastconv.max_pool1d(x, 3, 1), "lp_pool1d": lambda x: fastconv.lp_pool1d(x, 2, 3, 1),
    "adaptive_avg_pool1d": lambda x: fastconv.adaptive_avg_pool1d(x, x.shape[-1] - 1),
    "adaptive_max_pool1d_backward": lambda x: fastconv.adaptive_max_pool1d_backward(x[..., 1:], x, x.shape[-1] - 1)}


@pytest.mark.parametrize("name", LONG_CALLS)
def test_what_is_remembered_of_long_arrays_is_bounded(name):
    call = LONG_CALLS[name]
    call(np.zeros((1, 1, 50_000), np.float32))
    tracemalloc.start()
    for length in range(100_000, 100_030):
        call(np.zeros((1, 1, length), np.float32))
    gc.collect()
    held = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert held < 4 * 2 ** 20


def test_what_is_remembered_of_divisors_is_bounded():
    x = np.zeros((1, 1, 1, 20_000), np.float32)
    tracemalloc.start()
    for divisor in range(2, 60):
        fastconv.avg_pool2d(x, (1, 2), 1, divisor_override=divisor)
    held = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert held < 2 ** 20


LARGE = [  # x, kernel, stride, padding, dilation: more windows a row than columns, and fewer; far taps; images smaller than a window
    ((1, 2, 40, 60), 17, 1, 8, 1), ((2, 1, 40, 60), (18, 30), (3, 2), (9, 0), 1), ((1, 1, 50, 70), 16, 2, 5, (2, 3)), ((1, 2, 30, 30), 30, 1, 0, 1),
    ((1, 1, 9, 12), (9, 18), 1, (4, 9), 1), ((1, 2, 5, 90), (1, 20), 4, 0, 2), ((1, 1, 3, 20, 22), (3, 16, 17), 2, (1, 8, 8), 1)]


@pytest.mark.parametrize("where", [(2, 2), (3, 3), (4, 4), ((2, 3), (2, 3)), (3, 2, 1), (2, 1), (3, 1, 1), (4, 2, ((2, 0), (3, 1))), ((9, 5), 5)])
def test_shares_of_rows_of_any_length(where):
    rng = np.random.default_rng(5)
    for dtype in (np.float32, np.float64):
        for width in (5, 8, 15, 16, 31, 33, 70):
            x = np.zeros((1, 3, 9, width), dtype)                        # so few planes that they are not laid side by side
            dout = 36 * rng.integers(-9, 10, naive.avg_pool2d(x, *where).shape).astype(dtype)
            dout.flat[rng.integers(dout.size)] = np.nan
            assert_same(fastconv.avg_pool2d_backward, naive.avg_pool2d_backward, (dout, x, *where))


@njit
def repeat_fours(douts, at, n, count, dst, to, width, rows, windows):
    repeat_rows(4, douts, at, n, count, dst, to, width, rows, windows)


@pytest.mark.parametrize("n", [1, 7, 17, 32])
def test_every_column_behind_the_windows_is_written(n):
    width, douts = 4 * n + 3, np.arange(-1, 2 * n).astype(np.float32)
    for function in (repeat_fours, partial(simd_shares._repeat_rows, 4)):
        dx = np.full((2 * 3 + 2, width), np.nan, np.float32)             # a row before and one behind: not to be touched
        function(douts, 1, n, np.float32(2), dx.reshape(-1), width, width, 3, 2)
        wanted = np.zeros((2, 3, width), np.float32)
        wanted[..., :4 * n] = np.repeat(douts[1:].reshape(2, 1, n) / 2, 4, axis=-1)
        assert np.array_equal(dx[1:-1].reshape(2, 3, width), wanted) and np.isnan(dx[[0, -1]]).all()


@pytest.mark.parametrize("columns", [average.MOST_COLUMNS[0], 3])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_large_windows_are_summed_in_float64(columns, dtype, monkeypatch):
    """On data so large beside its differences that a sum in float32 would lose them."""
    monkeypatch.setattr(average, "MOST_COLUMNS", np.array([columns]))
    window.WINDOWS.clear()
    rng = np.random.default_rng(0)
    for shape, kernel, stride, padding, dilation in LARGE:
        x, nd = (1e4 + rng.standard_normal(shape)).astype(dtype), len(shape) - 2
        pool, twin = (getattr(module, f"avg_pool{nd}d") for module in (fastconv, naive))
        y = pool(x, kernel, stride, padding, dilation=dilation, count_include_pad=False)
        truth = twin(x.astype(np.float64), kernel, stride, padding, dilation=dilation, count_include_pad=False)
        roundings = 1 if dtype is np.float32 else 8      # float32: of the result alone; float64: of its sums, and of the loops' own
        assert np.abs(y - truth).max() <= roundings * np.finfo(dtype).eps * 1e4
        x[(0,) * nd + (1, 2)] = np.inf
        assert_same(pool, twin, (x, kernel, stride, padding), {"dilation": dilation})
    window.WINDOWS.clear()


def test_poolings_remembered_are_bounded(monkeypatch):
    monkeypatch.setattr(remembered, "MOST_ENTRIES", 5)
    window.WINDOWS.clear()
    for length in range(20, 40):
        fastconv.max_pool1d(np.ones((1, 1, length), np.float32), 2)
        assert 0 < len(window.WINDOWS) <= 5


@pytest.mark.parametrize("spelled", [
    {"kernel_size": [2, 2]}, {"kernel_size": np.int64(2)}, {"stride": [2, 2]},
    {"padding": ((0, 0), (0, 0))}, {"padding": [0, 0]}, {"dilation": (np.int8(1), 1)},
    {"ceil_mode": np.False_}])
def test_every_spelling_of_a_pooling_is_remembered(spelled, monkeypatch):
    x = np.random.default_rng(0).standard_normal((1, 2, 6, 8)).astype(np.float32)
    usual = {"kernel_size": 2, "stride": 2, "padding": 0, "dilation": 1, "ceil_mode": False}
    for name in ("max_pool2d", "avg_pool2d", "lp_pool2d"):
        first = (x, 2.0) if name == "lp_pool2d" else (x,)
        y = getattr(fastconv, name)(*first, **usual)
        assert np.array_equal(getattr(fastconv, name)(*first, **{**usual, **spelled}), y)
        with monkeypatch.context() as patch:
            patch.setattr(window, "Window", None)
            assert np.array_equal(getattr(fastconv, name)(*first, **{**usual, **spelled}), y)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("padding, ceil_mode", [(0, False), (1, False), (1, True), (((1, 0), (0, 1)), False), (((2, 2), (2, 2)), True)])
def test_gradient_of_threes_by_two_at_every_edge(padding, ceil_mode, dtype):
    rng = np.random.default_rng(0)
    for shape in ((1, 1, 3, 3), (1, 1, 7, 3), (1, 2, 9, 11), (1, 1, 8, 40), (2, 1, 21, 70), (1, 1, 150, 90)):       # the last: several bands
        x = rng.integers(-2, 3, shape).astype(dtype)
        dout = rng.integers(-9, 10, naive.max_pool2d(x, 3, 2, padding, 1, ceil_mode).shape).astype(dtype)
        wanted = naive.max_pool2d_backward(dout, x, 3, 2, padding, 1, ceil_mode)
        assert np.array_equal(fastconv.max_pool2d_backward(dout, x, 3, 2, padding, 1, ceil_mode), wanted), shape


@pytest.mark.parametrize("pool", ["max_pool2d", "avg_pool2d"])
@pytest.mark.parametrize("dilation", [1, 2])
def test_a_stride_beyond_the_image_costs_nothing(pool, dilation):
    """As much is fetched ahead as the image has: a kernel that counted rows by the stride would not end."""
    x, stride = np.random.default_rng(1).standard_normal((20, 3, 40, 40)).astype(np.float32), 2**31 - 1
    found = getattr(fastconv, pool)(x, 3, stride, 1, dilation=dilation)
    assert_same(found, getattr(naive, pool)(x, 3, stride, 1, dilation=dilation), tolerance=promised("float32"))
