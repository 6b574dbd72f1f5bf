"""Products of matrices: every layout, blocks that end anywhere, the same bits for every number of threads."""
import itertools

import numba
import numpy as np
import pytest
from isolated import run

from fastconv.blocking import product as blocking
from fastconv.kernels.tiles import ROWS, VECTOR_BYTES, VECTORS
from fastconv.product import product

WIDTH = VECTORS * VECTOR_BYTES // 8
SHAPES = [  # R, S, K: one element; around a tile; more than a block of rows, of columns, of terms; parts of the sums
    (1, 1, 1), (ROWS - 1, WIDTH - 1, 3), (ROWS + 1, WIDTH + 1, 5), (2 * ROWS, 2 * WIDTH, 8), (5, 3 * WIDTH + 2, 7), (3, 5, 700), (50, 100, 1100),
    (50, 10, 600), (260, 40, 9), (300, 3 * WIDTH + 4, 50), (3, 600, 30), (20, 520, 520), (70, 3 * WIDTH + 20, 2100), (14, 33, 4096),
]
PLAIN = bool(numba.config.DISABLE_JIT)       # then smaller shapes: plain loops take minutes for the others


def matrices(shape, dtype, seed=0, normal=False):
    R, S, K = shape
    rng = np.random.default_rng(seed)
    draw = rng.standard_normal if normal else lambda size: rng.integers(-8, 9, size)
    return draw((R, K)).astype(dtype), draw((K, S)).astype(dtype)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", SHAPES[:5] if PLAIN else SHAPES, ids=str)
def test_exact_on_integers_in_every_layout(shape, dtype):
    a, b = matrices(shape, dtype)
    wanted = a.astype(np.float64) @ b.astype(np.float64)
    backwards = np.ascontiguousarray(a[::-1, ::-1])[::-1, ::-1], np.ascontiguousarray(b[::-1, ::-1])[::-1, ::-1]
    lefts = [a, np.asfortranarray(a), backwards[0]]
    rights = [b, np.asfortranarray(b), backwards[1]]
    for left, right in itertools.product(lefts, rights):
        before = left.copy(), right.copy()
        found = product(left, right)
        assert found.dtype == dtype and np.array_equal(found, wanted)
        assert np.array_equal(left, before[0]) and np.array_equal(right, before[1])


def test_errors_stay_within_the_promise():
    shapes = ((2, 3, 3000), (2, 900, 5), (200, 3, 15)) if PLAIN else ((20, 70, 50000), (20, 8192, 500), (2000, 70, 50))
    for dtype, bound in ((np.float32, 2e-6), (np.float64, 1e-13)):
        for shape in shapes:
            a, b = matrices(shape, dtype, normal=True)
            truth = a.astype(np.longdouble) @ b.astype(np.longdouble) if shape[2] < 1000 else a.astype(np.float64) @ b.astype(np.float64)
            for right in (b, np.asfortranarray(b)):
                assert np.abs(product(a, right) - truth).max() <= bound * np.abs(truth).max()


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_nan_and_inf_reach_their_row_or_column(value):
    a, b = (np.abs(matrix) + 1 for matrix in matrices((20, 45, 30), np.float32))
    wanted = a @ b
    for matrix, place, hit in ((a, (17, 29), np.s_[17, :]), (b, (3, 44), np.s_[:, 44])):
        spoilt = matrix.copy()
        spoilt[place] = value
        for turned in (False, True):
            left, right = (spoilt, b) if matrix is a else (a, spoilt)
            found = product(np.asfortranarray(left), np.asfortranarray(right)) if turned else product(left, right)
            assert (np.isnan(found[hit]) if np.isnan(value) else found[hit] == value).all()
            found[hit] = wanted[hit]
            assert np.array_equal(found, wanted)


def test_shapes_and_dtypes_that_do_not_fit():
    for a, b in ((np.ones((2, 3)), np.ones((4, 5))), (np.ones((2, 3)), np.ones((3, 5), np.float32)),
                 (np.ones((2, 3), ">f4"), np.ones((3, 5), ">f4")), (np.ones((2, 3), np.int32), np.ones((3, 5), np.int32))):
        with pytest.raises(ValueError, match=r"wanted: \(R, K\) and \(K, S\)"):
            product(a, b)


def test_few_blocks_are_cut_into_parts_of_the_sums():
    assert blocking.blocks(50, 500, 8192, (8192, 1), (500, 1), 4).tasks >= 8
    assert blocking.blocks(50, 500, 8192, (8192, 1), (500, 1), 4).parts > 1
    assert blocking.blocks(8192, 500, 50, (1, 8192), (500, 1), 4).parts == 1


def test_bits_do_not_depend_on_the_number_of_threads():
    program = """
import numpy as np, fastconv
from fastconv.kernels import team
from fastconv.product import product
rng = np.random.default_rng(0)
results = {}
for n in (1, 2):
    fastconv.set_num_threads(n)
    rng = np.random.default_rng(0)
    x, w, dout = (rng.standard_normal(shape).astype(np.float32) for shape in ((50, SIZE), (SIZE, 100), (50, 100)))
    results[n] = [product(x, w), product(dout, w.T), product(x.T, dout)]
print(all(a.tobytes() == b.tobytes() for a, b in zip(results[1], results[2])), team._helpers)
""".replace("SIZE", "12" if PLAIN else "3000")
    assert run(program) == f"True {int(not PLAIN)}"              # the other thread was there, if there is anything for it to run
