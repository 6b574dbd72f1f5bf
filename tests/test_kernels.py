"""Each intrinsic against its plain-loop twin and NumPy, and the vector instructions that it must become."""
import numpy as np
import pytest
from numba import njit

from fastconv import runtime
from fastconv.kernels import gemm, simd, tiles

EACH_DTYPE = pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["f4", "f8"])
FULL, HALF, SMALL, VECTORS = tiles.ROWS, tiles.ROWS_HALF, tiles.ROWS_SMALL, tiles.VECTORS
LANES = {np.float32: simd.lanes(np.float32), np.float64: simd.lanes(np.float64)}
LANES_32, LANES_64 = LANES[np.float32], LANES[np.float64]


@njit
def full_tile(K, a, b, b_row, c, c_row):
    simd.gemm_tile(FULL, VECTORS, K, a, 1, b, 2, b_row, c, 3, c_row)


@njit
def narrow_tile(K, a, b, b_row, c, c_row):
    simd.gemm_tile(FULL, 1, K, a, 1, b, 2, b_row, c, 3, c_row)


@njit
def half_tile(K, a, b, b_row, c, c_row):
    simd.gemm_tile(HALF, VECTORS, K, a, 1, b, 2, b_row, c, 3, c_row)


@njit
def small_tile(K, a, b, b_row, c, c_row):
    simd.gemm_tile(SMALL, VECTORS, K, a, 1, b, 2, b_row, c, 3, c_row)


@EACH_DTYPE
@pytest.mark.parametrize("tile, rows, vectors", [(full_tile, FULL, VECTORS), (narrow_tile, FULL, 1), (half_tile, HALF, VECTORS),
                                                 (small_tile, SMALL, VECTORS)], ids=["full", "narrow", "half", "small"])
@pytest.mark.parametrize("K", [0, 1, 5, 64])
def test_gemm_tile(tile, rows, vectors, K, dtype):
    rng = np.random.default_rng(K)
    width = vectors * LANES[dtype]
    b_row, c_row = width + 3, width + 5
    a, b = (rng.integers(-8, 9, n).astype(dtype) for n in (1 + K * rows, 2 + K * b_row + width))
    c = rng.integers(-8, 9, 3 + rows * c_row).astype(dtype)
    wanted, twin = c.copy(), c.copy()
    A = a[1:].reshape(K, rows)
    B = b[2:2 + K * b_row].reshape(K, b_row)[:, :width]
    wanted[3:].reshape(rows, c_row)[:, :width] += A.T @ B
    simd._gemm_tile(rows, vectors, K, a, 1, b, 2, b_row, twin, 3, c_row)
    tile(K, a, b, b_row, c, c_row)
    assert np.array_equal(c, wanted) and np.array_equal(twin, wanted)


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
def transpose_full(source, source_row, target, target_row):
    simd.transpose_block(FULL, source, 1, source_row, target, 2, target_row)


@njit
def transpose_32(source, source_row, target, target_row):
    simd.transpose_block(LANES_32, source, 1, source_row, target, 2, target_row)


@njit
def transpose_64(source, source_row, target, target_row):
    simd.transpose_block(LANES_64, source, 1, source_row, target, 2, target_row)


@EACH_DTYPE
@pytest.mark.parametrize("transpose, rows", [(transpose_full, FULL), (transpose_32, LANES_32), (transpose_64, LANES_64)],
                         ids=["tile", "lanes-f4", "lanes-f8"])
def test_transpose_block(transpose, rows, dtype):
    """Every element in its place, and nothing written beside the block."""
    lanes = LANES[dtype]
    source = np.arange(1 + rows * (lanes + 3)).astype(dtype)
    target = np.full(2 + lanes * (rows + 2), -1).astype(dtype)
    wanted, twin = target.copy(), target.copy()
    wanted[2:].reshape(lanes, rows + 2)[:, :rows] = source[1:].reshape(rows, lanes + 3)[:, :lanes].T
    transpose(source, lanes + 3, target, rows + 2)
    simd._transpose_block(rows, source, 1, lanes + 3, twin, 2, rows + 2)
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
    assert np.array_equal(along, down)
    wanted, r0 = [], 0
    while r0 < rows:
        height = gemm.panel_rows(rows - r0)
        panel = np.zeros((height, K), dtype)
        panel[:min(height, rows - r0)] = matrix[r0:r0 + height]
        wanted.append(panel.T.reshape(-1))
        r0 += height
    assert np.array_equal(along, np.concatenate(wanted))


def test_the_tile_is_vector_multiply_adds():
    """A tile that fell back to scalars, or to library calls, would pass every test of its values."""
    a = np.zeros(64 * FULL, np.float32)
    full_tile(1, a, a, 64, a, 64)
    assembly = "\n".join(full_tile.inspect_asm().values())
    register, instruction = {"avx512": ("zmm", "vfmadd"), "avx2": ("ymm", "vfmadd"), "avx": ("ymm", "vmulps"), "sse": ("xmm", "mulps"),
                             "neon": ("v", "fmla")}[runtime.isa()]
    lines = [line for line in assembly.splitlines() if instruction in line and register in line]
    assert len(lines) >= FULL * VECTORS
