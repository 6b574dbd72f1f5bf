"""The register tiles of the direct engine and the windows they read: each against its plain-loop twin, and both against NumPy."""
import itertools

import numpy as np
import pytest
from numba import njit

from fastconv.kernels import simd, simd_phases, simd_tiles, simd_weight, tiles
from fastconv.kernels.direct_dots import load_tap
from fastconv.kernels.simd_tiles import KEEP, PAST, RELU
from fastconv.kernels.window import load_window

EACH_DTYPE = pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["f4", "f8"])
FULL, HALF, SMALL, VECTORS = tiles.ROWS, tiles.ROWS_HALF, tiles.ROWS_SMALL, tiles.VECTORS
HEIGHTS = [FULL, HALF, SMALL]
DOTS = [(tiles.DOT_ROWS, tiles.DOT_COLUMNS), (tiles.DOT_ROWS_SMALL, tiles.DOT_COLUMNS), (tiles.DOT_ROWS, tiles.DOT_COLUMNS_SMALL)]
(DOWN, ACROSS), (DOWN_SMALL, _), (_, ACROSS_SMALL) = DOTS


@njit(error_model="numpy")
def gather(rows, valid, flags, outer, step, inner, x, offsets, taps, b, c, c_row):
    if rows == FULL:
        simd_tiles.gather_tile(FULL, VECTORS, 0, valid, flags, outer, step, inner, x, 3, offsets, 1, taps, 2, b, 4, c, 5, c_row)
    elif rows == HALF:
        simd_tiles.gather_tile(HALF, VECTORS, 0, valid, flags, outer, step, inner, x, 3, offsets, 1, taps, 2, b, 4, c, 5, c_row)
    else:
        simd_tiles.gather_tile(SMALL, VECTORS, 0, valid, flags, outer, step, inner, x, 3, offsets, 1, taps, 2, b, 4, c, 5, c_row)


@EACH_DTYPE
@pytest.mark.parametrize("rows, missing", [(FULL, 0), (FULL, 1), (FULL, FULL - 1), (HALF, 0), (HALF, 1), (SMALL, 0), (SMALL, 1)])
@pytest.mark.parametrize("outer, inner", [(1, 1), (3, 4), (0, 5)])
@pytest.mark.parametrize("flags", [0, KEEP])
def test_gather_tile(rows, missing, outer, inner, flags, dtype):
    """Rows that are missing are neither looked up nor written."""
    rng = np.random.default_rng(rows)
    width, step, valid = VECTORS * simd.lanes(dtype), 50, rows - missing
    c_row = width + rows % 3
    x, b, c = (rng.integers(-4, 5, n).astype(dtype) for n in (600, 4 + 20 * width, 7 + rows * c_row))
    offsets, taps = rng.integers(0, 300, rows + 1), rng.integers(0, 90, inner + 2)
    offsets[1 + valid:] = 1 << 40
    twin, wanted = c.copy(), c.copy()
    elements = np.array([[x[3 + offsets[1 + r] + o * step + taps[2 + t]] for o in range(outer) for t in range(inner)] for r in range(valid)])
    block = wanted[5:5 + valid * c_row].reshape(valid, c_row)[:, :width]
    block[:] = (block if flags else 0) + elements.reshape(valid, outer * inner) @ b[4:4 + outer * inner * width].reshape(outer * inner, width)
    gather(rows, valid, flags, outer, step, inner, x, offsets, taps, b, c, c_row)
    simd_tiles._gather_tile(rows, VECTORS, 0, valid, flags, outer, step, inner, x, 3, offsets, 1, taps, 2, b, 4, twin, 5, c_row)
    assert np.array_equal(c, wanted) and np.array_equal(twin, wanted)


@njit(error_model="numpy")
def gather_runs(flags, outer, step, inner, x, offsets, taps, b, c, c_row):
    simd_tiles.gather_tile(FULL, VECTORS, 1, FULL, flags, outer, step, inner, x, 3, offsets, 1, taps, 2, b, 4, c, 5, c_row)


@EACH_DTYPE
@pytest.mark.parametrize("apart", [1, 2, 5, 64])
def test_gather_tile_in_two_runs(apart, dtype):
    """Where each half of the rows is a run, the sums are those of the table of all their offsets."""
    rng = np.random.default_rng(apart)
    width, outer, inner = VECTORS * simd.lanes(dtype), 3, 4
    x, b, c = (rng.integers(-4, 5, n).astype(dtype) for n in (1200, 4 + 20 * width, 7 + FULL * width))
    run = apart * np.arange(FULL // 2)
    offsets, taps = np.concatenate([[0], 7 + run, 500 + run]), rng.integers(0, 90, inner + 2)
    wanted = c.copy()
    gather(FULL, FULL, KEEP, outer, 50, inner, x, offsets, taps, b, wanted, width)
    offsets[3:1 + FULL // 2], offsets[2 + FULL // 2:] = -1000, -1000       # what is not read
    twin = c.copy()
    gather_runs(KEEP, outer, 50, inner, x, offsets, taps, b, c, width)
    simd_tiles._gather_tile(FULL, VECTORS, 1, FULL, KEEP, outer, 50, inner, x, 3, offsets, 1, taps, 2, b, 4, twin, 5, width)
    assert np.array_equal(c, wanted) and np.array_equal(twin, wanted)


@njit(error_model="numpy")
def gather_ahead(ahead, ahead_step, flags, outer, step, inner, x, offsets, taps, b, c, c_row):
    simd_tiles.gather_tile_ahead(FULL, VECTORS, 0, FULL, flags, outer, step, inner, x, 3, offsets, 1, taps, 2, b, 4, c, 5, c_row, ahead, ahead_step)


@EACH_DTYPE
@pytest.mark.parametrize("beyond", [None, 0, 1 << 40])
def test_fetching_ahead_changes_nothing(beyond, dtype):
    """Whatever address is fetched, inside an array or nowhere."""
    rng = np.random.default_rng(1)
    width, outer, inner = VECTORS * simd.lanes(dtype), 3, 4
    x, b, c = (rng.integers(-4, 5, n).astype(dtype) for n in (600, 4 + 20 * width, 7 + FULL * width))
    offsets, taps = rng.integers(0, 300, FULL + 1), rng.integers(0, 90, inner + 2)
    wanted, twin = c.copy(), c.copy()
    gather(FULL, FULL, KEEP, outer, 50, inner, x, offsets, taps, b, wanted, width)
    ahead = 0 if beyond is None else x.ctypes.data + beyond
    gather_ahead(ahead, 4096, KEEP, outer, 50, inner, x, offsets, taps, b, c, width)
    simd_tiles._gather_tile_ahead(FULL, VECTORS, 0, FULL, KEEP, outer, 50, inner, x, 3, offsets, 1, taps, 2, b, 4, twin, 5, width, ahead, 4096)
    assert np.array_equal(c, wanted) and np.array_equal(twin, wanted)


def finished(value, bias, old, residual, flags):
    """What a tile does to its sums before it stores them."""
    value = value + (0 if bias is None else bias) + (old if flags & KEEP else 0) + (0 if residual is None else residual)
    return np.where(value < 0, 0, value) if flags & RELU else value


EXTRAS = pytest.mark.parametrize("flags", [0, KEEP, RELU, KEEP | RELU])
GIVEN = pytest.mark.parametrize("bias_at, residual_at", [(-1, -1), (2, -1), (-1, 3), (2, 3)])


@njit(error_model="numpy")
def turn(pixels, filters, flags, source, row, bias, bias_at, residual, residual_at, target, target_row):
    simd_tiles.turn_block(pixels, filters, flags, source, 2, row, bias, bias_at, residual, residual_at, target, 4, target_row)


@EACH_DTYPE
@EXTRAS
@GIVEN
@pytest.mark.parametrize("missing", [(0, 0), (1, 0), (0, 1), (1, 1)])
def test_turn_block(missing, bias_at, residual_at, flags, dtype):
    rng = np.random.default_rng(flags)
    lanes = simd.lanes(dtype)
    pixels, filters = lanes - missing[0], lanes - missing[1]
    row, target_row = lanes + 3, lanes + 1
    source, bias, residual, target = (rng.integers(-4, 5, n).astype(dtype) for n in (2 + lanes * row, 2 + lanes, 400, 400))
    source[2] = np.nan                                       # ReLU keeps NaN
    twin, wanted = target.copy(), target.copy()

    def block(array, at):
        return np.lib.stride_tricks.as_strided(array[at:], (filters, pixels), (target_row * array.itemsize, array.itemsize))

    values = np.lib.stride_tricks.as_strided(source[2:], (filters, pixels), (source.itemsize, row * source.itemsize))
    place = block(wanted, 4)
    place[:] = finished(values, bias[2:2 + filters, None] if bias_at >= 0 else None, place.copy(), block(residual, 3) if residual_at >= 0 else None, flags)
    turn(pixels, filters, flags, source, row, bias, bias_at, residual, residual_at, target, target_row)
    simd_tiles._turn_block(pixels, filters, flags, source, 2, row, bias, bias_at, residual, residual_at, twin, 4, target_row)
    assert np.array_equal(target, wanted, equal_nan=True) and np.array_equal(twin, wanted, equal_nan=True)


@njit(error_model="numpy")
def pixel(rows, valid, columns, flags, outer, step, inner, a, x, taps, bias, bias_at, residual, residual_at, y, y_row, split, pitch, jump):
    line = y.ctypes.data
    if rows == FULL:
        simd_tiles.pixel_tile(FULL, VECTORS, valid, columns, flags, outer, step, inner, a, 1, x, 3, taps, 2, bias, bias_at, residual, residual_at, y, 4,
                              y_row, split, pitch, jump, line, 0, line, 64)
    elif rows == HALF:
        simd_tiles.pixel_tile(HALF, 1, valid, columns, flags, outer, step, inner, a, 1, x, 3, taps, 2, bias, bias_at, residual, residual_at, y, 4,
                              y_row, split, pitch, jump, line, 0, line, 64)
    else:
        simd_tiles.pixel_tile(SMALL, VECTORS, valid, columns, flags, outer, step, inner, a, 1, x, 3, taps, 2, bias, bias_at, residual, residual_at, y, 4,
                              y_row, split, pitch, jump, line, 0, line, 64)


@EACH_DTYPE
@EXTRAS
@GIVEN
@pytest.mark.parametrize("rows, vectors", [(FULL, VECTORS), (HALF, 1), (SMALL, VECTORS)])
def test_pixel_tile(rows, vectors, bias_at, residual_at, flags, dtype):
    """Whole and partial tiles; the columns of the result in one run, and in runs that lie apart."""
    rng = np.random.default_rng(flags)
    width, outer, step, inner = vectors * simd.lanes(dtype), 3, 60, 4
    y_row = width + 2
    a, x, bias, residual, y = (rng.integers(-4, 5, n).astype(dtype) for n in (1 + rows * 12, 600, 2 + rows, *(4 + (width + 2) * rows * y_row,) * 2))
    taps = rng.integers(0, 90, inner + 2)
    terms = np.array([x[3 + o * step + taps[2 + t]:][:width] for o in range(outer) for t in range(inner)])
    sums = a[1:].reshape(12, rows).T @ terms
    for valid, columns, split, pitch in ((rows, width, width, width), (rows - 1, width, width, width), (rows, width - 1, width, width), (1, 1, 1, 1),
                                         (rows, width, 1, width - 1), (rows, width, width - 1, width), (rows - 1, width - 1, 1, 1), (rows, width, 2, 3)):
        jump = rows * y_row                                  # as far as the next image
        j = np.arange(columns)
        places = np.arange(valid)[:, None] * y_row + j + (0 if split == width else np.where(j < split, 0, 1 + (j - split) // pitch) * jump)
        result, twin, wanted = y.copy(), y.copy(), y.copy()
        extra = residual[3:][places] if residual_at >= 0 else None
        wanted[4:][places] = finished(sums[:valid, :columns], bias[2:2 + valid, None] if bias_at >= 0 else None, y[4:][places], extra, flags)
        pixel(rows, valid, columns, flags, outer, step, inner, a, x, taps, bias, bias_at, residual, residual_at, result, y_row, split, pitch, jump)
        simd_tiles._pixel_tile(rows, vectors, valid, columns, flags, outer, step, inner, a, 1, x, 3, taps, 2, bias, bias_at, residual, residual_at, twin, 4,
                               y_row, split, pitch, jump, 0, 0, 0, 0)
        assert np.array_equal(result, wanted) and np.array_equal(twin, wanted)


@EACH_DTYPE
@pytest.mark.parametrize("start, behind", [(0, 0), (3, 0), (0, 3), (0, 16)])
def test_past_the_caches(start, behind, dtype):
    """Whole tiles whose rows begin with lines of the cache, and such that do not; nothing is written beside them."""
    rng = np.random.default_rng(1)
    width, lanes, terms = VECTORS * simd.lanes(dtype), simd.lanes(dtype), 5
    y_row = 128 // np.dtype(dtype).itemsize * 2 + behind
    a, x, taps = rng.integers(-4, 5, 1 + FULL * terms).astype(dtype), rng.integers(-4, 5, 600).astype(dtype), np.zeros(3, np.int64)
    memory = np.full(max(FULL, lanes) * y_row + 64, 77, dtype)
    lead = -memory.ctypes.data % simd.LINE_BYTES // memory.itemsize + start - 4          # the tiles write from element 4 on
    y = memory[lead + (simd.LINE_BYTES // memory.itemsize):]
    wanted = y.copy()
    wanted[4:4 + FULL * y_row].reshape(FULL, y_row)[:, :width] = np.maximum(0, a[1:].reshape(terms, FULL).T @ [x[3 + 60 * o:][:width] for o in range(terms)])
    pixel(FULL, FULL, width, RELU | PAST, terms, 60, 1, a, x, taps, a, -1, a, -1, y, y_row, width, width, 0)
    settled()
    assert np.array_equal(y, wanted)
    source = rng.integers(-4, 5, 2 + lanes * (lanes + 3)).astype(dtype)
    wanted = y.copy()
    for p in range(lanes):
        wanted[4 + p:][:lanes * y_row:y_row] = source[2 + p * (lanes + 3):][:lanes]
    turn(lanes, lanes, PAST, source, lanes + 3, a, -1, a, -1, y, y_row)
    settled()
    assert np.array_equal(y, wanted)


@njit
def settled():
    simd.settle(1)


@njit
def pixel_near(outer, step, inner, a, x, taps, y, near):
    line = y.ctypes.data
    simd_tiles.pixel_tile_near(FULL, VECTORS, FULL, y.size // FULL, 0, outer, step, inner, a, 0, x, 3, taps, 0, a, -1, a, -1, y, 0, y.size // FULL,
                               y.size, y.size, 0, line, 0, line, 0, near, 5)


@EACH_DTYPE
def test_pixel_tile_near(dtype):
    """The sums, and what they were made of."""
    rng = np.random.default_rng(1)
    width, outer, step, inner = VECTORS * simd.lanes(dtype), 11, 60, 2
    a, x, taps = rng.integers(-4, 5, 22 * FULL).astype(dtype), rng.integers(-4, 5, 1200).astype(dtype), np.array([7, 0])
    terms = np.array([x[3 + o * step + tap:][:width] for o in range(outer) for tap in taps])
    (y, twin), (near, near_twin) = np.zeros((2, FULL * width), dtype), np.full((2, 10 + 22 * width), 77, dtype)
    pixel_near(outer, step, inner, a, x, taps, y, near)
    simd_tiles._pixel_tile_near(FULL, VECTORS, FULL, width, 0, outer, step, inner, a, 0, x, 3, taps, 0, a, -1, a, -1, twin, 0, width, width, width, 0,
                                0, 0, 0, 0, near_twin, 5)
    wanted = np.full_like(near, 77)
    wanted[5:-5] = terms.ravel()
    assert np.array_equal(near, wanted) and np.array_equal(near_twin, wanted)
    assert np.array_equal(y, (a.reshape(22, FULL).T @ terms).ravel()) and np.array_equal(twin, y)


@njit
def runs(rows, first, last, source, source_row, target, target_row):
    simd.copy_runs(rows, first, last, source, 2, source_row, target, 3, target_row)


@EACH_DTYPE
def test_copy_runs(dtype):
    """Some lanes of rows that lie apart, and nothing beside them."""
    source, lanes = np.arange(400).astype(dtype), simd.lanes(dtype)
    for first, last in ((0, lanes), (1, lanes), (0, lanes - 1), (1, 2), (0, 1)):
        wanted, got, twin = np.full((3, 200), 77, dtype)
        for r in range(5):
            wanted[3 + r * 32 + first:3 + r * 32 + last] = source[2 + r * 49 + first:2 + r * 49 + last]
        runs(5, first, last, source, 49, got, 32)
        simd._copy_runs(5, first, last, source, 2, 49, twin, 3, 32)
        assert np.array_equal(got, wanted) and np.array_equal(twin, wanted)


@njit
def merge(source, even, odd, n, target, to):
    simd_phases.merge_row(source, even, odd, n, target, to)


@EACH_DTYPE
def test_merge_row(dtype):
    """Rows shorter than a vector, whole vectors and rests; nothing is written beside them."""
    source = np.arange(100).astype(dtype)
    for n in (0, 1, 2, 3, 7, 16, 17, 37):
        wanted = np.full(90, 77, dtype)
        wanted[3:3 + 2 * n:2], wanted[4:4 + 2 * n:2] = source[5:5 + n], source[50:50 + n]
        got, twin = np.full((2, 90), 77, dtype)
        merge(source, 5, 50, n, got, 3)
        simd_phases._merge_row(source, 5, 50, n, twin, 3)
        assert np.array_equal(got, wanted) and np.array_equal(twin, wanted)


@njit
def spread(source, source_row, rows, lines, target, target_line, target_row, width):
    simd_phases.spread_rows(source, 5, source_row, rows, lines, target, 3, target_line, target_row, width)


@EACH_DTYPE
@pytest.mark.parametrize("lines", [1, 2, 3])
def test_spread_rows(lines, dtype):
    """Rows shorter than a vector, whole vectors and rests, odd widths; nothing is written beside them."""
    source = np.arange(1, 200).astype(dtype)
    for width in (0, 1, 2, 15, 32, 33, 64, 75):
        wanted = np.full(800, 77, dtype)
        for r, k in itertools.product(range(3), range(lines)):
            row = wanted[3 + r * 260 + k * 80:][:width]
            row[:] = 0
            row[::2] = source[5 + r * 40:][:(width + 1) // 2] if k == 0 else 0
        got, twin = np.full((2, 800), 77, dtype)
        spread(source, 40, 3, lines, got, 80, 260, width)
        simd_phases._spread_rows(source, 5, 40, 3, lines, twin, 3, 80, 260, width)
        assert np.array_equal(got, wanted) and np.array_equal(twin, wanted)


@njit(error_model="numpy")
def phase(vectors, valid, flags, outer, x, table, a, y, rows, columns):
    if vectors == 1:
        simd_phases.phase_tile(3, 1, valid, flags, outer, 200, x, 2, table, 1, a, 3, y, 4, 70, 150, rows, columns)
    else:
        simd_phases.phase_tile(3, 2, valid, flags, outer, 200, x, 2, table, 1, a, 3, y, 4, 70, 150, rows, columns)


@EACH_DTYPE
@pytest.mark.parametrize("flags", [0, KEEP])
@pytest.mark.parametrize("vectors", [1, 2])
@pytest.mark.parametrize("shifts", [(0, 0, 0, 0, 1, 1, 0, 1, 1), (1, 0, 2, 0, 1, 0, 1, 2, 4), (0,) * 9])
def test_phase_tile(shifts, vectors, flags, dtype):
    """shifts: how many serve each class of phases."""
    rng, width, outer = np.random.default_rng(vectors), vectors * simd.lanes(dtype), 3
    places, weights = rng.integers(0, 60, sum(shifts)), [len(p) * len(q) * 3 for p, q in simd_phases.CLASSES]
    table = np.array([0, *shifts, *places])
    x, a, y = (rng.integers(-4, 5, n).astype(dtype) for n in (800, 3 + outer * np.dot(shifts, weights), 500))
    sums, weight = np.zeros((3, 2, 2 * width)), 3
    for o in range(outer):
        shift = iter(places)
        for (down, along), count in zip(simd_phases.CLASSES, shifts):
            for _ in range(count):
                row = x[2 + o * 200 + next(shift):][:width]
                for p, q, c in itertools.product(down, along, range(3)):
                    sums[c, p, q::2] += row * a[weight]
                    weight += 1
    for valid, rows, columns in ((3, 2, 2 * width), (5, 9, 99), (2, 1, 2 * width - 1), (1, 2, 3)):
        result, twin, wanted = y.copy(), y.copy(), y.copy()
        for c, p in itertools.product(range(min(3, valid)), range(min(2, rows))):
            line = wanted[4 + c * 150 + p * 70:][:min(columns, 2 * width)]
            line[:] = sums[c, p, :line.size] + (line if flags else 0)
        phase(vectors, valid, flags, outer, x, table, a, result, rows, columns)
        simd_phases._phase_tile(3, vectors, valid, flags, outer, 200, x, 2, table, 1, a, 3, twin, 4, 70, 150, rows, columns)
        assert np.array_equal(result, wanted) and np.array_equal(twin, wanted)


PLACES = np.array([140, 0, 210, 70, 350, 280])              # of a tile's rows


@njit(error_model="numpy")
def dot(rows, columns, valid_rows, valid_columns, flags, outer, n, a, b, c):
    if rows == DOWN_SMALL:
        simd_weight.dot_tile(DOWN_SMALL, ACROSS, valid_rows, valid_columns, flags, outer, n, a, 1, PLACES, 500, b, 2, 60, 400, b.ctypes.data, 4, c, 3)
    elif columns == ACROSS_SMALL:
        simd_weight.dot_tile(DOWN, ACROSS_SMALL, valid_rows, valid_columns, flags, outer, n, a, 1, PLACES, 500, b, 2, 60, 400, b.ctypes.data, 4, c, 3)
    else:
        simd_weight.dot_tile(DOWN, ACROSS, valid_rows, valid_columns, flags, outer, n, a, 1, PLACES, 500, b, 2, 60, 400, b.ctypes.data, 4, c, 3)


@EACH_DTYPE
@pytest.mark.parametrize("flags", [0, KEEP])
@pytest.mark.parametrize("outer, n", [(1, 64), (1, 1), (2, 37), (3, 0), (2, 16)])
@pytest.mark.parametrize("rows, columns", DOTS)
def test_dot_tile(rows, columns, outer, n, flags, dtype):
    rng = np.random.default_rng(rows)
    a, b, c = (rng.integers(-4, 5, size).astype(dtype) for size in (1600, 1200, 3 + rows * columns + simd.lanes(dtype)))
    for valid_rows, valid_columns in ((rows, columns), (1, columns), (rows, 1)):
        result, twin, wanted = c.copy(), c.copy(), c.copy()
        x, y = (np.array([[m[at + places[min(r, valid - 1)] + o * step:][:n] for o in range(outer)] for r in range(count)]).reshape(count, -1)
                for m, at, places, step, count, valid in ((a, 1, PLACES, 500, rows, valid_rows), (b, 2, 60 * np.arange(columns), 400, columns, valid_columns)))
        poisoned = [np.full_like(m, np.nan) for m in (a, b)]         # whatever stands outside the rows takes no part
        for m, p, at, places, step, count in ((a, poisoned[0], 1, PLACES, 500, valid_rows), (b, poisoned[1], 2, 60 * np.arange(columns), 400, valid_columns)):
            for start in (at + places[r] + o * step for r in range(count) for o in range(outer)):
                p[start:start + n] = m[start:start + n]
        sums = (y @ x.T).ravel()
        wanted[3:3 + sums.size] = sums + (c[3:3 + sums.size] if flags else 0)
        dot(rows, columns, valid_rows, valid_columns, flags, outer, n, *poisoned, result)
        simd_weight._dot_tile(rows, columns, valid_rows, valid_columns, flags, outer, n, poisoned[0], 1, PLACES, 500, poisoned[1], 2, 60, 400, 0, 4, twin, 3)
        assert np.array_equal(result[:3 + sums.size], wanted[:3 + sums.size]) and np.array_equal(twin, wanted)


@EACH_DTYPE
@pytest.mark.parametrize("row0, row_step", [(-2, 1), (0, 2), (4, 1), (-9, 3), (7, 1)])
@pytest.mark.parametrize("column0, column_step", [(-4, 1), (0, 2), (-3, 2), (2, 3), (30, 1)])
def test_load_tap(row0, row_step, column0, column_step, dtype):
    H, W, rows, columns = 6, 11, 5, 7
    src = np.arange(1, 100, dtype=dtype)
    image = np.zeros((60, 100), dtype)                       # the plane in the middle of zeros
    image[20:20 + H, 40:40 + W] = src[7:7 + H * W].reshape(H, W)
    wanted = image[20 + row0:, 40 + column0:][:rows * row_step:row_step, :columns * column_step:column_step]
    result = np.full(wanted.size + 6, -1, dtype)
    load_tap(src, 7, H, W, row0, row_step, rows, column0, column_step, columns, result, 3)
    assert np.array_equal(result[3:-3].reshape(wanted.shape), wanted) and (result[[0, 1, 2, -3, -2, -1]] == -1).all()


@njit(error_model="numpy")
def columns_of(source, source_row, n, target, places):
    simd.prefetch(source, 5 * source.size, 100)
    simd.turn_columns(source, 3, source_row, n, target, places, 1)


@njit(error_model="numpy")
def column_of(source, source_row, target):
    simd.prefetch(source, 0, 100)
    simd.turn_column(source, 3, source_row, target, 2)


@EACH_DTYPE
def test_columns_of_rows(dtype):
    """Columns of as many rows as a vector has lanes: up to half a vector of them, each to a place of its own, or one."""
    lanes, row = simd.lanes(dtype), 11
    source = np.arange(3 + lanes * row, dtype=dtype)
    rows = source[3:].reshape(lanes, row)
    for n in range(lanes // 2 + 1):
        places = np.random.default_rng(n).permutation(lanes // 2 + 1) * (lanes + 1)
        target = np.full((lanes // 2 + 1) * (lanes + 1), -1, dtype)
        twin, wanted = target.copy(), target.copy()
        for k in range(n):
            wanted[places[1 + k]:places[1 + k] + lanes] = rows[:, k]
        columns_of(source, row, n, target, places)
        simd._turn_columns(source, 3, row, n, twin, places, 1)
        assert np.array_equal(target, wanted) and np.array_equal(twin, wanted)
    target = np.full(lanes + 4, -1, dtype)
    twin, wanted = target.copy(), target.copy()
    wanted[2:2 + lanes] = rows[:, 0]
    column_of(source, row, target)
    simd._turn_column(source, 3, row, twin, 2)
    assert np.array_equal(target, wanted) and np.array_equal(twin, wanted)


@njit(error_model="numpy")
def taps_of(step, source, n, entries, target, width):
    if step == 1:
        simd_tiles.add_taps(1, source, n, entries, target, 3, width)
    elif step == 2:
        simd_tiles.add_taps(2, source, n, entries, target, 3, width)
    else:
        simd_tiles.add_taps(4, source, n, entries, target, 3, width)


@EACH_DTYPE
@pytest.mark.parametrize("step", [1, 2, 4])
@pytest.mark.parametrize("n", [1, 7, 40])
def test_add_taps(step, n, dtype):
    """Taps that read before, inside and behind their row, phases without any; beside the rows lies what must not be read."""
    rng = np.random.default_rng(n)
    shifts = [[rng.integers(-2, 3) for _ in range(b % 3)] for b in range(1, step + 1)]
    rows = rng.integers(-9, 9, (5, n)).astype(dtype)
    source = np.full((5, n + 2 * simd.lanes(dtype)), np.nan, dtype)
    source[:, simd.lanes(dtype):simd.lanes(dtype) + n] = rows
    entries = np.zeros(1 + step * 5, np.int64)
    entries[0] = 5
    for width in (1, n * step, n * step + 3, max(1, n * step - 1)):
        target = rng.integers(-9, 9, width + 10).astype(dtype)
        twin, wanted = target.copy(), target.copy()
        for b, taps in enumerate(shifts):
            entries[1 + 5 * b] = len(taps)
            for t, shift in enumerate(taps):
                entries[2 + 5 * b + 2 * t:][:2] = (b + t) % 5 * source.shape[1] + simd.lanes(dtype), shift
                for j, w in enumerate(range(b, width, step)):
                    if 0 <= j + shift < n:
                        wanted[3 + w] += rows[(b + t) % 5, j + shift]
        taps_of(step, source.ravel(), n, entries, target, width)
        simd_tiles._add_taps(step, source.ravel(), n, entries, twin, 3, width)
        assert np.array_equal(target, wanted) and np.array_equal(twin, wanted)


@njit(error_model="numpy")
def rows_one(source, source_row, target, target_row, rows, first, n, length):
    simd.copy_rows(1, source, 2, source_row, target, 3, target_row, rows, first, n, length)


@njit(error_model="numpy")
def rows_two(source, source_row, target, target_row, rows, first, n, length):
    simd.copy_rows(2, source, 2, source_row, target, 3, target_row, rows, first, n, length)


@EACH_DTYPE
@pytest.mark.parametrize("call, step", [(rows_one, 1), (rows_two, 2)])
@pytest.mark.parametrize("n", [0, 1, 3, 4, 15, 16, 17, 40])
@pytest.mark.parametrize("first, behind", [(0, 0), (1, 2)])
def test_copy_rows(call, step, n, first, behind, dtype):
    length, rows = first + n + behind, 3
    source, target = np.arange(1, 400, dtype=dtype), np.full(300, -1, dtype)
    twin, wanted = target.copy(), target.copy()
    for r in range(rows):
        line = wanted[3 + r * 60:3 + r * 60 + length]
        line[:] = 0
        line[first:first + n] = source[2 + r * 90:][:n * step:step]
    call(source, 90, target, 60, rows, first, n, length)
    simd._copy_rows(step, source, 2, 90, twin, 3, 60, rows, first, n, length)
    assert np.array_equal(target, wanted) and np.array_equal(twin, wanted)


@EACH_DTYPE
@pytest.mark.parametrize("phases, kept", [(1, 1), (2, 2), (3, 3), (2, 1), (3, 1)])
@pytest.mark.parametrize("row0, row_step, rows", [(-2, 1, 5), (0, 1, 6), (3, 1, 9), (-9, 1, 4), (7, 1, 3), (-3, 1, 14), (-3, 2, 7), (1, 3, 4), (-9, 4, 6)])
@pytest.mark.parametrize("col0", [-4, 0, 2, 30])
def test_load_window(phases, kept, row0, row_step, rows, col0, dtype):
    C, H, W, segment = 2, 6, 11, 5
    src = np.arange(1, 1 + 3 * C * H * W).astype(dtype)
    image = np.zeros((C, 60, 100), dtype)                    # the planes in the middle of zeros
    image[:, 20:20 + H, 40:40 + W] = src[7:7 + C * H * W].reshape(C, H, W)
    wanted = image[:, 20 + row0:20 + row0 + rows * row_step:row_step, 40 + col0:40 + col0 + segment * phases]
    wanted = wanted.reshape(C, rows, segment, phases).transpose(0, 1, 3, 2)[:, :, :kept]
    window = np.full(wanted.size + 3, -1, dtype)
    load_window(src, 7, C, H, W, row0, row_step, rows, col0, segment, phases, kept, window)
    assert np.array_equal(window[:wanted.size].reshape(wanted.shape), wanted) and (window[wanted.size:] == -1).all()
