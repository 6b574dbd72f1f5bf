"""Max and average pooling and their gradients against the naive loops and float64 truth."""
import numpy as np
import pytest
from cases import broadcasts, inject, layouts, pool_cases

import fastconv
import naive
from fastconv.testing import assert_same

DTYPES = [np.float16, np.float32, np.float64]
CASES = pytest.mark.parametrize("case", pool_cases(), ids=str)
EACH_DTYPE = pytest.mark.parametrize("dtype", DTYPES, ids=["f2", "f4", "f8"])
MAX = [(fastconv.max_pool2d, naive.max_pool2d, fastconv.max_pool2d_backward, naive.max_pool2d_backward)]
AVERAGE = [(fastconv.avg_pool2d, naive.avg_pool2d, fastconv.avg_pool2d_backward, naive.avg_pool2d_backward)]


def functions(case):
    """The poolings this case is for: (fast, naive, fast backward, naive backward), kwargs."""
    both = [(*MAX[0], case.max_kwargs)]
    return both + [(*AVERAGE[0], case.avg_kwargs)]


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
    assert_same(fastconv.max_pool2d, naive.max_pool2d, (x,), kwargs, exact=True)
    indices = naive.max_pool2d(x, **kwargs)[1]
    dout = case.dout(dtype, integers=True)
    assert_same(fastconv.max_pool2d_backward, naive.max_pool2d_backward, (dout, x), {**case.max_kwargs, "indices": indices}, exact=True)
    assert_same(fastconv.max_pool2d_backward, naive.max_pool2d_backward, (dout, x), case.max_kwargs, exact=True)


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int16, np.uint32, np.int64, np.uint64])
@pytest.mark.parametrize("case", pool_cases()[::9], ids=str)
def test_max_pooling_takes_integers(case, dtype):
    info = np.iinfo(dtype)
    x = np.random.default_rng(0).integers(info.min, info.max, case.x, dtype, endpoint=True)
    assert_same(fastconv.max_pool2d, naive.max_pool2d, (x,), {**case.max_kwargs, "return_indices": True}, exact=True)


@EACH_DTYPE
@CASES
def test_nan_and_inf(case, dtype):
    (x,) = case.arrays(dtype)
    for values in ((np.nan, np.inf, -np.inf), (-np.inf,)):
        odd = inject(x, values)
        assert_same(fastconv.max_pool2d, naive.max_pool2d, (odd,), {**case.max_kwargs, "return_indices": True}, exact=True)
        assert_same(fastconv.max_pool2d_backward, naive.max_pool2d_backward, (case.dout(dtype), odd), case.max_kwargs)
        assert_same(fastconv.avg_pool2d, naive.avg_pool2d, (odd,), case.avg_kwargs)
        assert_same(fastconv.avg_pool2d_backward, naive.avg_pool2d_backward, (inject(case.dout(dtype), values), x), case.avg_kwargs)


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
