"""im2col, col2im and their gradients against the naive loops: they move elements, so the first is exact."""
import numpy as np
import pytest
from cases import broadcasts, fold_cases, inject, layouts

import fastconv
import naive
from fastconv.testing import assert_same

CASES = pytest.mark.parametrize("case", fold_cases(), ids=str)
EACH_DTYPE = pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64], ids=["f2", "f4", "f8"])


@EACH_DTYPE
@CASES
def test_im2col(case, dtype):
    (x,) = case.arrays(dtype)
    kwargs = {"kernel_size": case.kernel_size, **case.kwargs}
    assert_same(fastconv.im2col, naive.im2col, (x,), kwargs, exact=True)
    assert_same(fastconv.im2col, naive.im2col, (inject(x) if x.size else x,), kwargs, exact=True)
    assert_same(fastconv.im2col_backward, naive.im2col_backward, (case.cols(dtype, integers=True), x), kwargs, exact=True)


@EACH_DTYPE
@CASES
def test_col2im(case, dtype):
    cols, kwargs = case.cols(dtype), {"output_size": case.output_size, "kernel_size": case.kernel_size, **case.kwargs}
    assert_same(fastconv.col2im, naive.col2im, (cols,), kwargs, tolerance=1e-3 if dtype == np.float16 else None)
    assert_same(fastconv.col2im, naive.col2im, (case.cols(dtype, integers=True),), kwargs, exact=True)
    (dout,) = case.arrays(dtype)
    assert_same(fastconv.col2im_backward, naive.col2im_backward, (dout, cols), kwargs, exact=True)


@CASES
def test_col2im_is_the_transpose_of_im2col(case):
    (x,), cols = case.arrays(np.float64, integers=True), case.cols(np.float64, integers=True)
    patches = fastconv.im2col(x, case.kernel_size, **case.kwargs)
    image = fastconv.col2im(cols, case.output_size, case.kernel_size, **case.kwargs)
    assert (patches * cols).sum() == (x * image).sum()


@pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["f4", "f8"])
def test_any_memory_layout(dtype):
    case = next(c for c in fold_cases() if len(c.x) == 4 and min(c.x) > 1)
    (x,), cols, kwargs = case.arrays(dtype), case.cols(dtype), {"kernel_size": case.kernel_size, **case.kwargs}
    for odd, odd_cols in zip(layouts(x).values(), layouts(cols).values()):
        assert_same(fastconv.im2col, naive.im2col, (odd,), kwargs, exact=True)
        assert_same(fastconv.col2im, naive.col2im, (odd_cols,), {"output_size": case.output_size, **kwargs})
    for view in broadcasts(x).values():
        assert_same(fastconv.im2col, naive.im2col, (view,), kwargs, exact=True)
    out = np.empty_like(naive.im2col(x, **kwargs))
    assert fastconv.im2col(x, **kwargs, out=out) is out and np.array_equal(out, naive.im2col(x, **kwargs))
