"""Each intrinsic against its plain-loop twin and NumPy, and the vector instructions that it must become."""
import numpy as np
import pytest
from numba import njit

from fastconv import runtime
from fastconv.kernels import gemm, simd, tiles

EACH_DTYPE = pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["f4", "f8"])
FULL, HALF, SMALL, VECTORS = tiles.ROWS, tiles.ROWS_HALF, tiles.ROWS_SMALL, tiles.VECTORS
LANES = {np.float32: simd.lanes(np.float32), np.float64: simd.lanes(np.float64)}


@njit
def full_tile(valid, keep, K, a, b, b_row, c, c_row):
    simd.gemm_tile(FULL, VECTORS, valid, keep, K, a, 1, b, 2, b_row, c, 3, c_row)


@njit
def narrow_tile(valid, keep, K, a, b, b_row, c, c_row):
    simd.gemm_tile(FULL, 1, valid, keep, K, a, 1, b, 2, b_row, c, 3, c_row)


@njit
def half_tile(valid, keep, K, a, b, b_row, c, c_row):
    simd.gemm_tile(HALF, VECTORS, valid, keep, K, a, 1, b, 2, b_row, c, 3, c_row)


@njit
def small_tile(valid, keep, K, a, b, b_row, c, c_row):
    simd.gemm_tile(SMALL, VECTORS, valid, keep, K, a, 1, b, 2, b_row, c, 3, c_row)


@njit
def tile_ahead(valid, keep, K, a, b, b_row, c, c_row):
    simd.gemm_tile_ahead(FULL, VECTORS, valid, keep, K, a, 1, b, 2, b_row, c, 3, c_row, b.ctypes.data - 99999, 4096)


@EACH_DTYPE
@pytest.mark.parametrize("tile, rows, vectors", [(full_tile, FULL, VECTORS), (narrow_tile, FULL, 1), (half_tile, HALF, VECTORS),
                                                 (small_tile, SMALL, VECTORS), (tile_ahead, FULL, VECTORS)],
                         ids=["full", "narrow", "half", "small", "ahead"])
@pytest.mark.parametrize("missing", [0, 1, 2])
@pytest.mark.parametrize("keep", [0, 1])
@pytest.mark.parametrize("K", [0, 1, 5, 64])
def test_gemm_tile(tile, rows, vectors, K, keep, missing, dtype):
    rng = np.random.default_rng(K)
    width = vectors * LANES[dtype]
    b_row, c_row = width + 3, width + 5
    a, b = (rng.integers(-8, 9, n).astype(dtype) for n in (1 + K * rows, 2 + K * b_row + width))
    c = rng.integers(-8, 9, 3 + rows * c_row).astype(dtype)
    wanted, twin = c.copy(), c.copy()
    A = a[1:].reshape(K, rows)
    B = b[2:2 + K * b_row].reshape(K, b_row)[:, :width]
    valid = rows - missing
    block = wanted[3:].reshape(rows, c_row)[:valid, :width]
    block[:] = keep * block + (A.T @ B)[:valid]
    simd._gemm_tile(rows, vectors, valid, keep, K, a, 1, b, 2, b_row, twin, 3, c_row)
    tile(valid, keep, K, a, b, b_row, c, c_row)
    assert np.array_equal(c, wanted) and np.array_equal(twin, wanted)
    simd._gemm_tile_ahead(rows, vectors, valid, 0, K, a, 1, b, 2, b_row, twin, 3, c_row, 0, 1)
    simd._gemm_tile(rows, vectors, valid, 0, K, a, 1, b, 2, b_row, wanted, 3, c_row)
    assert np.array_equal(twin, wanted)


@njit
def copy(source, at, target, to):
    simd.copy_vectors(VECTORS, source, at, target, to)


@EACH_DTYPE
def test_copy_vectors(dtype):
    n = VECTORS * LANES[dtype]
    source, target = np.arange(n + 9).astype(dtype), np.zeros(n + 9, dtype)
    wanted, twin = target.copy(), target.copy()
    wanted[2:2 + n] = source[7:7 + n]
    copy(source, 7, target, 2)
    simd._copy_vectors(VECTORS, source, 7, twin, 2)
    assert np.array_equal(target, wanted) and np.array_equal(twin, wanted)


@njit
def fetch(source, at):
    simd.prefetch(source, at, 100)


@EACH_DTYPE
def test_prefetch_changes_nothing_and_never_fails(dtype):
    source = np.arange(5).astype(dtype)
    for at in (0, 3, 10**9, -10**9):
        fetch(source, at)
        simd._prefetch(source, at, 100)
    assert np.array_equal(source, np.arange(5))


@njit
def first_five(values):
    return simd.integers(5, values)


def test_the_first_integers_as_a_tuple():
    values = np.array([3, -2**62, 0, 7, -1, 9])
    assert first_five(values) == simd._integers(5, values) == (3, -2**62, 0, 7, -1)


@njit
def copy_every(source, at, target, to, n):
    simd.copy_row(1, source, at, target, to, n)


@njit
def copy_second(source, at, target, to, n):
    simd.copy_row(2, source, at, target, to, n)


@njit
def add_even(source, at, target, to, n):
    simd.add_even(source, at, target, to, n)


@EACH_DTYPE
@pytest.mark.parametrize("n", [*range(20), 31, 32, 33, 100])
def test_rows_of_any_length(n, dtype):
    """Every element in its place, nothing written beside the row, and nothing read or written behind its end."""
    for row, step in ((copy_every, 1), (copy_second, 2)):
        source = np.arange(1 + step * max(0, n - 1) + (n > 0)).astype(dtype)     # ends with the last element that is read
        target, twin = np.full(n + 4, -1).astype(dtype), np.full(n + 4, -1).astype(dtype)
        wanted = target.copy()
        wanted[2:2 + n] = source[1::step][:n]
        row(source, 1, target, 2, n)
        simd._copy_row(step, source, 1, twin, 2, n)
        assert np.array_equal(target, wanted) and np.array_equal(twin, wanted)
    source, target = np.arange(1, n + 2).astype(dtype), np.full(2 * n + 3, -5).astype(dtype)
    store = target[:max(2, 2 + 2 * n - 1)]                                       # ends with the last element that is written
    wanted, twin = target.copy(), store.copy()
    wanted[2:2 + 2 * n:2][:n] += source[1:]
    add_even(source, 1, store, 2, n)
    simd._add_even(source, 1, twin, 2, n)
    assert np.array_equal(target, wanted) and np.array_equal(store, twin)


@njit
def transpose_full(valid, source, source_row, target, target_row):
    simd.transpose_block(FULL, valid, source, 1, source_row, target, 2, target_row)


@njit
def transpose_square(valid, source, source_row, target, target_row):
    simd.transpose_square(valid, source, 1, source_row, target, 2, target_row)


@EACH_DTYPE
@pytest.mark.parametrize("transpose, rows", [(transpose_full, FULL), (transpose_square, None)], ids=["tile", "square"])
@pytest.mark.parametrize("missing", [0, 1, 3])
def test_transpose_block(transpose, rows, missing, dtype):
    """Every element in its place, and nothing written beside the block."""
    lanes = LANES[dtype]
    rows = rows or lanes
    source = np.arange(1 + rows * (lanes + 3)).astype(dtype)
    target = np.full(2 + lanes * (rows + 2), -1).astype(dtype)
    wanted, twin = target.copy(), target.copy()
    valid = max(1, rows - missing)
    taken = source[1:].reshape(rows, lanes + 3)[np.minimum(np.arange(rows), valid - 1), :lanes]
    wanted[2:].reshape(lanes, rows + 2)[:, :rows] = taken.T
    source[1 + valid * (lanes + 3):] = np.nan            # must not be read
    transpose(valid, source, lanes + 3, target, rows + 2)
    simd._transpose_block(rows, valid, source, 1, lanes + 3, twin, 2, rows + 2)
    assert np.array_equal(target, wanted) and np.array_equal(twin, wanted)


@njit
def burst(like, n):
    return simd.fma_burst(like, n)


@EACH_DTYPE
def test_fma_burst_does_its_steps(dtype):
    like = np.zeros(1, dtype)
    got, twin = burst(like, 50), simd._fma_burst(like, 50)
    assert abs(got - twin) <= 1e-4 * abs(twin)


@EACH_DTYPE
@pytest.mark.parametrize("rows, K", [(1, 1), (FULL - 1, 7), (FULL, 40), (FULL + 1, 33), (3 * FULL + HALF, 65), (2 * FULL + SMALL - 1, 130)])
def test_pack_a_reads_either_way(rows, K, dtype):
    matrix = np.arange(rows * K).reshape(rows, K).astype(dtype)
    along, down = (np.full(gemm.packed_rows(rows) * K, -1).astype(dtype) for _ in range(2))
    gemm.pack_a(matrix.reshape(-1), 0, rows, K, K, 1, along, 0)
    gemm.pack_a(np.ascontiguousarray(matrix.T).reshape(-1), 0, rows, 1, K, rows, down, 0)
    r0 = 0
    while r0 < rows:
        height = gemm.panel_rows(rows - r0)
        for packed in along, down:
            panel = packed[r0 * K:(r0 + height) * K].reshape(K, height)
            assert np.array_equal(panel.T[:rows - r0], matrix[r0:r0 + height])
        r0 += height


def test_the_tile_is_vector_multiply_adds():
    """A tile that fell back to scalars, or to library calls, would pass every test of its values."""
    a = np.zeros(64 * FULL, np.float32)
    full_tile(FULL, 1, 1, a, a, 64, a, 64)
    assembly = "\n".join(full_tile.inspect_asm().values())
    register, instruction = {"avx512": ("zmm", "vfmadd"), "avx2": ("ymm", "vfmadd"), "avx": ("ymm", "vmulps"), "sse": ("xmm", "mulps"),
                             "neon": ("v", "fmla"), "generic": ("xmm", "mulps")}[runtime.isa()]
    lines = [line for line in assembly.splitlines() if instruction in line and register in line]
    assert len(lines) >= FULL * VECTORS
