"""The gradient of max pooling in lines: each intrinsic against its plain-loop twin and NumPy, and any window against the indices of the forward."""
import numpy as np
import pytest
from isolated import run
from numba import njit

import fastconv
from fastconv.instruction_set import available
from fastconv.kernels import simd, simd_lines
from fastconv.kernels.simd_lines import MOST_LINES
from fastconv.pool import maximum, window

EACH_DTYPE = pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["f4", "f8"])


@njit
def lay(step, keys, src, at, n, line, to, before, length):
    if keys:
        simd_lines.lay(1, 1, src, at, n, line, to, before, length, 100)
    elif step == 2:
        simd_lines.lay(2, 0, src, at, n, line, to, before, length, 100)
    else:
        simd_lines.lay(1, 0, src, at, n, line, to, before, length, 100)


@njit
def first_of(lines, at, count, step, best, best_at, won, won_at, n):
    simd_lines.first_of(lines, at, count, step, best, best_at, won, won_at, n)


@njit
def collect(won, won_at, values, at, count, step, dst, to, n):
    simd_lines.collect(won, won_at, values, at, count, step, dst, to, n)


@njit
def down(src, at, offsets, rows, n, best, to, which, which_to):
    simd_lines.down(src, at, offsets, rows, n, best, to, which, which_to)


@njit
def across(best, which, taps, step, rows, won, n):
    simd_lines.across(best, which, taps, step, rows, won, n)


def nasty(n, dtype):
    """Ties, both zeros, infinities and two NaN."""
    x = np.random.default_rng(n).integers(-2, 3, n).astype(dtype)
    for k, value in enumerate((-0.0, np.inf, -np.inf, np.nan, -np.nan)):
        x[k::7] = value
    return x


@EACH_DTYPE
@pytest.mark.parametrize("step, keys", [(1, 0), (2, 0), (1, 1)])
def test_lay(step, keys, dtype):
    lanes = simd.lanes(dtype)
    for n in (0, 1, lanes - 1, lanes, lanes + 1, 5 * lanes + 3):
        src, length = nasty(n + 4, dtype), 3 + n * step + 9
        found, twin = (np.full(length + 2 + 3 * lanes, 5, dtype) for _ in range(2))
        lay(step, keys, src, 1, n, found, 2, 3, length)
        simd_lines._lay(step, keys, src, 1, n, twin, 2, 3, length, 100)
        bits = simd_lines._keys_of
        assert np.array_equal(bits(found)[:2 + length], bits(twin)[:2 + length])
        if not keys:
            wanted = np.zeros(length, dtype)
            wanted[3:3 + n * step:step] = src[1:1 + n]
            assert np.array_equal(found[2:2 + length], wanted, equal_nan=True)


@EACH_DTYPE
@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 7, MOST_LINES])
def test_first_of_and_collect(count, dtype):
    """In place, too: vectors are done in order."""
    lanes, rng = simd.lanes(dtype), np.random.default_rng(count)
    for n in (1, lanes, 4 * lanes, 9 * lanes + 1):
        end, reach = -(-n // lanes) * lanes, (count - 1) * 3
        keys = simd_lines._keys(nasty(3 + end + reach, dtype)).view(dtype)
        values, won = rng.integers(-9, 10, end + reach).astype(dtype), rng.integers(0, count, end + reach).astype(np.int8)
        for function, other in ((first_of, collect), (simd_lines._first_of, simd_lines._collect)):
            best, numbers = keys.copy(), np.full(end + 2, -9, np.int8)
            function(best, 3, count, 3, best, 3, numbers, 1, n)
            lines = np.stack([simd_lines._keys_of(keys)[3 + 3 * t:3 + 3 * t + end] for t in range(count)])
            assert np.array_equal(simd_lines._keys_of(best)[3:3 + end], lines.max(0)) and np.array_equal(numbers[1:-1], lines.argmax(0))
            assert np.array_equal(best[:3], keys[:3], equal_nan=True) and numbers[0] == numbers[-1] == -9
            sums = values.copy()
            other(won, reach, sums, reach, count, 3, sums, 0, n)
            wanted = sum(np.where(won[reach - 3 * t:][:end] == t, values[reach - 3 * t:][:end], 0) for t in range(count))
            assert np.array_equal(sums[:end], wanted)


@EACH_DTYPE
def test_down_and_across(dtype):
    """The largest, of equal ones in the first row, then in the first column."""
    lanes = simd.lanes(dtype)
    for n, rows, taps in ((1, 1, 1), (lanes, 3, 2), (5 * lanes + 2, 4, 3), (7, MOST_LINES, 5)):
        x, end = nasty(rows * n + 1, dtype), -(-n // lanes) * lanes
        offsets = np.arange(rows) * n
        keys = simd_lines._keys(x[1:]).reshape(rows, n)
        for function, other in ((down, across), (simd_lines._down, simd_lines._across)):
            best, which = simd_lines._keys(np.zeros(end + taps + lanes, dtype)).view(dtype), np.full(end + taps + lanes, 5, np.int8)
            simd_lines._keys_of(best)[:] = np.iinfo(keys.dtype).min
            function(x, 1, offsets, rows, n, best, 0, which, 0)
            assert np.array_equal(simd_lines._keys_of(best)[:n], keys.max(0)) and np.array_equal(which[:n], keys.argmax(0))
            assert (simd_lines._keys_of(best)[n:] == np.iinfo(keys.dtype).min).all() and (which[n:end] == MOST_LINES).all()
            found_rows, won = np.zeros(end, np.int8), np.zeros(end, np.int8)
            other(best, which, taps, 1, found_rows, won, n)
            for j in range(n):
                flat = keys[:, j:j + taps].ravel()
                row, tap = divmod(flat.argmax(), min(taps, n - j))
                assert (found_rows[j], won[j]) == (row, tap)


@EACH_DTYPE
@pytest.mark.parametrize("seed", range(12))
def test_gradients_of_any_window(seed, dtype, monkeypatch):
    """What is given goes to the places that the forward names: lines, and rows that are scattered, whichever the plan takes, in bands of any size."""
    monkeypatch.setattr(window, "WINDOWS", type(window.WINDOWS)())
    monkeypatch.setattr(maximum, "listed", lambda *arguments: None)
    monkeypatch.setattr(maximum, "LINE_BAND_BYTES", (512, 4096, 65536)[seed % 3])
    monkeypatch.setattr(window, "BAND_BYTES", (512, 4096, 65536)[seed % 3])
    monkeypatch.setattr(maximum, "SPARSE", (0, 4, 1000)[seed // 3 % 3])
    rng, done = np.random.default_rng(seed), 0
    while done < 12:
        nd = int(rng.integers(1, 4))
        size, kernel = rng.integers(1, {1: 60, 2: 40, 3: 12}[nd], nd), rng.integers(1, 8, nd)
        stride, dilation = rng.integers(1, 5, nd), rng.integers(1, 4, nd)
        padding = [tuple(map(int, rng.integers(0, (k - 1) * d + 1, 2))) for k, d in zip(kernel, dilation)]
        x = rng.integers(-4, 5, (1, int(rng.integers(1, 4)), *size)).astype(dtype)
        x[rng.random(x.shape) < rng.choice([0, 0.1])] = np.nan
        x[rng.random(x.shape) < rng.choice([0, 0.4])] = -np.inf
        arguments = (x, tuple(map(int, kernel)), tuple(map(int, stride)), tuple(padding), tuple(map(int, dilation)), bool(rng.integers(2)))
        try:
            y, indices = getattr(fastconv, f"max_pool{nd}d")(*arguments, return_indices=True)
        except ValueError:                   # windows larger than the image
            continue
        dout, done = rng.integers(-9, 10, y.shape).astype(dtype), done + 1
        wanted = np.zeros((x.shape[1], int(np.prod(size))), dtype)
        for plane, places, given in zip(wanted, indices.reshape(len(wanted), -1), dout.reshape(len(wanted), -1)):
            np.add.at(plane, places[places >= 0], given[places >= 0])
        found = getattr(fastconv, f"max_pool{nd}d_backward")(dout, *arguments)
        np.testing.assert_array_equal(found.reshape(wanted.shape), wanted, err_msg=str((x.shape, *arguments[1:])))


@pytest.mark.parametrize("stride", [(1, 1), (3, 2)], ids=str)
@pytest.mark.parametrize("many", [126, 127, 128, 129, 255, 257])
def test_the_last_row_and_column_of_a_large_window(many, stride, monkeypatch):
    """Rows and columns are counted in 8 bits, where these are enough."""
    monkeypatch.setattr(window, "WINDOWS", type(window.WINDOWS)())
    monkeypatch.setattr(maximum, "listed", lambda *arguments: None)
    for kernel in ((1, many), (many, 1), (2, many)):
        x = np.arange(np.prod([k + 9 for k in kernel]), dtype=np.float32).reshape(1, 1, *(k + 9 for k in kernel))
        last = np.zeros_like(x)
        last[..., kernel[0] - 1::stride[0], kernel[1] - 1::stride[1]] = 1
        dout = np.ones(fastconv.max_pool2d(x, kernel, stride).shape, np.float32)
        assert np.array_equal(fastconv.max_pool2d_backward(dout, x, kernel, stride), last)


@EACH_DTYPE
def test_what_a_window_gives_stays_where_it_goes(dtype):
    """A NaN or infinity in dout reaches one element."""
    x = np.random.default_rng(0).standard_normal((1, 2, 40, 40)).astype(dtype)
    for arguments in ((3, 1, 1), (5, 1, 2), (5, 5), (3, 3)):
        y, indices = fastconv.max_pool2d(x, *arguments, return_indices=True)
        dout = np.zeros_like(y)
        dout[0, 1, 3, 4], dout[0, 0, 5, 5] = np.nan, np.inf
        found = fastconv.max_pool2d_backward(dout, x, *arguments)[0].reshape(2, -1)
        assert np.isnan(found).sum() == np.isinf(found).sum() == 1
        assert np.isnan(found[1, indices[0, 1, 3, 4]]) and np.isinf(found[0, indices[0, 0, 5, 5]])


PROGRAM = """
import numpy as np, fastconv, naive
from fastconv.pool import adaptive, maximum
maximum.listed = adaptive._listed = lambda *arguments: None
done, run_tasks = set(), maximum.run_tasks

def seen(kernel, *arguments):
    done.add(kernel.__name__)
    run_tasks(kernel, *arguments)

maximum.run_tasks = adaptive.run_tasks = seen
rng = np.random.default_rng(0)

def same(name, x, *arguments):
    x[0, 0, 2, 3:5] = np.nan, -np.inf
    dout = rng.integers(-3, 4, getattr(naive, name)(x, *arguments).shape).astype(np.float32)
    back = name + "_backward"
    assert np.array_equal(getattr(fastconv, back)(dout, x, *arguments), getattr(naive, back)(dout, x, *arguments)), arguments

for arguments in ((3, 1, 1), (5, 1, (1, 2)), ((2, 3), (1, 2), ((1, 0), (0, 2))), (5, 5), (3, 3, 1, 2)):
    same("max_pool2d", rng.integers(-2, 3, (1, 2, 17, 19)).astype(np.float32), *arguments)
for W in range(5, 9):                    # windows that miss the image
    same("max_pool2d", rng.integers(-2, 3, (1, 2, 6, W)).astype(np.float32), 2, 3, ((0, 0), (9, 9)), (1, 10))
for size in ((4, 6), (2, 5), (7, 19)):
    same("adaptive_max_pool2d", rng.integers(-2, 3, (1, 2, 17, 19)).astype(np.float32), size)
assert {"max_backward_lines", "max_backward_places", "adaptive_maximum_backward"} <= done, done
print("right")
"""


@pytest.mark.parametrize("setting", [*(f"FASTCONV_ISA={isa}" for isa in available()[1:][-1:]), "NUMBA_DISABLE_JIT=1"])
def test_the_smallest_vectors_and_plain_loops(setting):
    """Plain loops know the end of an array, too: no row is looked up for a window that has none."""
    name, value = setting.split("=")
    assert run(PROGRAM, **{name: value}) == "right"
