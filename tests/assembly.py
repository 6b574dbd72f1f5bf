"""The assembly of the register tiles, for this machine's processor or for another one's, and what to look for in it."""
import functools
import json
import os
import re

from isolated import ROOT, run

# Instructions on whole vectors: multiply and add in one, multiply, add.
FUSED = re.compile(r"\t(vfn?madd\d+p[sd]\t.*%[xyz]mm|fmla\tv\d+\.(4s|2d))")
MULTIPLY, ADD = (re.compile(rf"\tv?{name}p[sd]\t.*%[xyz]mm") for name in ("mul", "add"))

LIBRARY = re.compile(r"(?<![\w.])_?fmaf?\b(?!\.)")              # the C library's fma: one call for each lane
VECTOR = re.compile(r"%[xyz]mm\d+|\t[qdsv]\d+\b")
STACK = re.compile(r"[\t ](\d*\(%rsp|-\d+\(%r[sb]p\))|\[(sp|x29)\b")


def loops(text):
    """The innermost loops of one block, as lists of lines: from a label to the branch back to it."""
    found, label, start = [], None, 0
    lines = text.splitlines()
    for number, line in enumerate(lines):
        here = re.match(r"(\.L\w+):", line)
        if here:
            label, start = here[1], number
        elif label and re.match(rf"\t(j\w+|b\.\w+|cbn?z|tbn?z)\t(.*\s)?{re.escape(label)}\b", line):
            found.append(lines[start + 1:number])
            label = None
    return found


def count(pattern, lines):
    return sum(bool(pattern.search(line)) for line in lines)


def spills(lines):
    """Lines that load a vector from the stack or put one there."""
    return [line for line in on_stack(lines) if VECTOR.search(line)]


def on_stack(lines):
    """Lines that load anything from the stack or put it there."""
    return [line for line in lines if STACK.search(line)]


@functools.cache
def assembly_for(isa):
    """{name of a tile: {dtype: its assembly}} for an instruction set, and what fastconv says of it, from a process of its own."""
    arm = isa == "neon"
    program = f"import assembly; assembly.{'pretend_arm(); assembly.' if arm else ''}show_tiles()"
    return json.loads(run(program, path=os.pathsep.join((str(ROOT), str(ROOT / "tests"))), FASTCONV_ISA="" if arm else isa))


def pretend_arm():
    """From now on Numba makes code for a 64-bit ARM processor, to look at: it is never loaded. Before fastconv is imported."""
    import platform

    from llvmlite import binding
    from numba.core import codegen, config

    binding.initialize_all_targets()
    binding.initialize_all_asmprinters()
    platform.machine = lambda: "aarch64"
    binding.get_process_triple = lambda: "aarch64-unknown-linux-gnu"
    config.CPU_NAME, config.CPU_FEATURES = "generic", "+neon"
    library, generator = codegen.JITCodeLibrary, codegen.JITCPUCodegen
    library.get_pointer_to_function = lambda self, name: self._ensure_finalized() or 0
    library._finalize_specific = lambda self: None
    generator._add_module = lambda self, module: None
    generator.set_env = lambda self, name, environment: None


def show_tiles():
    """Print as one line of JSON: the instruction set in use, what LLVM was told, the sizes of the tiles, and the tiles' assembly."""
    import numba
    from numba import int64

    from fastconv import runtime
    from fastconv.kernels import simd, simd_tiles, simd_weight, simd_winograd, tiles
    from fastconv.kernels.simd import ALL_LEVELS
    from fastconv.kernels.tiles import DOT_COLUMNS, DOT_ROWS, ROWS, VECTORS
    from fastconv.kernels.winograd import V_PITCH

    @numba.njit
    def gemm_tile(K, a, b, b_row, c, c_row):
        simd.gemm_tile(ROWS, VECTORS, ROWS, 0, K, a, 0, b, 0, b_row, c, 0, c_row)

    @numba.njit
    def gather_tile(outer, step, inner, x, offsets, taps, b, c, c_row):
        simd_tiles.gather_tile(ROWS, VECTORS, 0, ROWS, 0, outer, step, inner, x, 0, offsets, 0, taps, 0, b, 0, c, 0, c_row)

    @numba.njit
    def pixel_tile(outer, step, inner, a, x, taps, y, y_row, columns):
        simd_tiles.pixel_tile(ROWS, VECTORS, ROWS, columns, 0, outer, step, inner, a, 0, x, 0, taps, 0, a, -1, a, -1, y, 0, y_row, columns, columns, 0,
                              y.ctypes.data, 0, y.ctypes.data, 0)

    @numba.njit
    def product_tile(K, block, a, a_block, b, c, c_row, ahead, ahead_step):
        simd_winograd.product_tile(ROWS, VECTORS, ALL_LEVELS, V_PITCH, 0, K, block, a, 0, 1, a_block, b, 0, c, 0, c_row, ahead, ahead_step)

    @numba.njit
    def dot_tile(n, a, places, b, b_row, c):
        simd_weight.dot_tile(DOT_ROWS, DOT_COLUMNS, DOT_ROWS, DOT_COLUMNS, 0, 1, n, a, 0, places, 0, b, 0, b_row, 0, 0, 0, c, 0)

    @numba.njit
    def fma_burst(like, n):
        return simd.fma_burst(like, n)

    found = {}
    for dtype in ("float32", "float64"):
        floats, i, ints = getattr(numba, dtype)[::1], int64, int64[::1]
        for tile, kinds in ((gemm_tile, (i, floats, floats, i, floats, i)), (gather_tile, (i, i, i, floats, ints, ints, floats, floats, i)),
                            (pixel_tile, (i, i, i, floats, floats, ints, floats, i, i)), (product_tile, (i, i, floats, i, floats, floats, i, i, i)),
                            (dot_tile, (i, floats, ints, floats, i, floats)), (fma_burst, (floats, i))):
            tile.compile(kinds)
            found.setdefault(tile.__name__, {})[dtype] = tile.inspect_asm(kinds)
    print(json.dumps({"isa": runtime.isa(), "cpu": numba.config.CPU_NAME, "features": numba.config.CPU_FEATURES, "fma": tiles.FMA,
                      "bytes": tiles.VECTOR_BYTES, "accumulators": ROWS * VECTORS, "dots": DOT_ROWS * DOT_COLUMNS, "chains": simd.CHAINS, "tiles": found}))
