"""Every instruction set that this machine can run, each in a process of its own, and NEON's assembly; what FASTCONV_ISA may say."""
import os
import platform

import numba
import pytest
from assembly import ADD, FUSED, LIBRARY, MULTIPLY, assembly_for, count, loops, on_stack, spills
from isolated import ROOT, run
from llvmlite import binding

from fastconv import instruction_set, runtime

pytestmark = pytest.mark.skipif(bool(numba.config.DISABLE_JIT or os.environ.get("NUMBA_CPU_NAME") or os.environ.get("NUMBA_CPU_FEATURES")),
                                reason="nothing is compiled, or Numba's own settings choose the processor")

HERE = instruction_set.available()
EACH = pytest.mark.parametrize("isa", HERE)
X86 = pytest.mark.skipif("sse" not in HERE, reason="not an x86 processor")
BYTES = {"avx512": 64, "avx2": 32, "avx": 32, "sse": 16, "neon": 16, "generic": 16}
NOT_WIDER = {"avx512": (), "avx2": ("%zmm", "mm16", "mm31"), "avx": ("%zmm", "mm16", "mm31"), "sse": ("%zmm", "%ymm", "\tv"),
             "generic": ("%zmm", "%ymm", "\tv"), "neon": ()}


def llvm_makes_arm_code():
    binding.initialize_all_targets()
    try:
        return bool(binding.Target.from_triple("aarch64-unknown-linux-gnu"))
    except RuntimeError:
        return False


ARM = pytest.mark.skipif(not llvm_makes_arm_code(), reason="this llvmlite was built without the AArch64 back end")


# ---------------------------------------------------------------- what is compiled
@EACH
def test_vectors_and_llvms_processor(isa):
    made = assembly_for(isa)
    assert (made["isa"], made["bytes"]) == (isa, BYTES[isa])
    assert made["fma"] == (isa in ("avx512", "avx2", "neon"))
    if isa == HERE[0]:
        assert made["cpu"] is None and made["features"] is None      # the machine itself: Numba is told nothing
    else:
        assert made["cpu"] == "generic"
        assert set(made["features"].replace("+", "").split(",")) - {""} <= set(instruction_set.EXTENSIONS[isa])


@pytest.mark.parametrize("word", ["", "auto", " AUTO "])
def test_without_a_word_the_machine_decides(word):
    assert run("from fastconv import runtime; print(runtime.isa())", FASTCONV_ISA=word) == HERE[0]


@pytest.mark.parametrize("isa", [*HERE, pytest.param("neon", marks=ARM)] if "neon" not in HERE else HERE)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("tile", ["gemm_tile", "gather_tile", "pixel_tile", "product_tile", "dot_tile", "fma_burst"])
def test_a_tile_is_vector_multiply_adds_on_registers(tile, dtype, isa):
    """Scalars, calls of the C library's fma, or accumulators that live on the stack would pass every test of a tile's values."""
    made = assembly_for(isa)
    text = made["tiles"][tile][dtype]
    assert not count(LIBRARY, text.splitlines())
    wide = [mark for mark in NOT_WIDER[isa] if mark in text]
    assert not wide, f"{wide} under {isa}"
    if isa == "generic" and "sse" not in HERE:
        return                               # whatever LLVM makes of it there
    wanted = made[{"fma_burst": "chains", "dot_tile": "dots"}.get(tile, "accumulators")]
    inner = [lines for lines in loops(text) if count(FUSED, lines) or count(MULTIPLY, lines)]
    assert inner
    for lines in inner:
        assert tile != "product_tile" or not on_stack(lines)         # nor the places of its rows: one register holds them all
        register = {64: "%zmm", 32: "%ymm", 16: "%xmm"}[made["bytes"]] if isa != "neon" else ".4s" if dtype == "float32" else ".2d"
        lines = [line for line in lines if register in line or spills([line])]
        counts = [count(pattern, lines) for pattern in (FUSED, MULTIPLY, ADD)]
        times = max(counts) // wanted        # LLVM may do several steps in one go
        assert times and counts == ([times * wanted, 0, 0] if made["fma"] else [0, times * wanted, times * wanted])
        assert not spills(lines)


def test_what_a_wrong_tile_would_look_like():
    spilled = ["\tvmovups\t%zmm3, 64(%rsp)", "\tvfmadd231ps\t-64(%rbp), %ymm1, %ymm2", "\tstr\tq0, [sp]", "\tldp\tq0, q1, [sp, #32]"]
    assert spills(spilled) == spilled
    assert not spills(["\tvbroadcastss\t(%rbp,%r10,4), %zmm30", "\tmovq\t8(%rsp), %rax", "\tldr\ts14, [x12, x25, lsl #2]",
                       "\tldr\tx2, [sp]"])
    assert count(LIBRARY, ["\tmovabsq\t$fmaf, %rax", "\tcallq\tfma", "\tbl\tfmaf", "\tcallq\t_fma"]) == 4
    assert not count(LIBRARY, ["\tfmla\tv0.4s, v1.4s, v2.4s", "\t.globl\tfma_burst", "\tvfmadd231ps\t%zmm0, %zmm0, %zmm1"])
    assert loops(".LBB0_1:\n\tnop\n.LBB0_2:\n\tmulps\t%xmm0, %xmm1\n\tjne\t.LBB0_2\n\tjmp\t.LBB0_1\n") == [["\tmulps\t%xmm0, %xmm1"]]
    assert loops(".LBB0_2:\n\tfmla\tv0.4s, v1.4s, v2.4s\n\tcbnz\tx1, .LBB0_2\n") == [["\tfmla\tv0.4s, v1.4s, v2.4s"]]


@pytest.mark.parametrize("isa", HERE[1:])
def test_each_intrinsic_against_its_twin(isa):
    """The suite itself runs them for the machine's own instruction set."""
    run(f"import sys, pytest; sys.exit(pytest.main(['-q', '-p', 'no:cacheprovider', {str(ROOT / 'tests' / 'test_kernels.py')!r}]))",
        FASTCONV_ISA=isa)


@pytest.mark.parametrize("isa", dict.fromkeys((HERE[0], HERE[-1])))
def test_the_twins_compute_where_nothing_is_compiled(isa):
    program = """
import numpy as np, fastconv, naive
from fastconv.testing import assert_same
rng = np.random.default_rng(0)
for dtype in (np.float32, np.float64):
    x, weight, bias = (rng.integers(-4, 5, shape).astype(dtype) for shape in ((2, 3, 5, 6), (4, 3, 3, 3), 4))
    for algorithm in ('auto', 'direct', 'im2col'):
        for stride in (1, 2):
            kwargs = dict(stride=stride, padding=1, algorithm=algorithm)
            y = fastconv.conv2d(x, weight, bias, **kwargs)
            assert_same(y, naive.conv2d(x, weight, bias, stride=stride, padding=1), exact=True)
            assert_same(fastconv.conv2d_backward(y, x, weight, bias, **kwargs),
                        naive.conv2d_backward(y, x, weight, bias, stride=stride, padding=1), exact=True)
print("right")
"""
    assert run(program, FASTCONV_ISA=isa, NUMBA_DISABLE_JIT="1") == "right"


@X86
def test_the_cache_keeps_instruction_sets_apart(tmp_path):
    program = """
import numpy as np
from fastconv.kernels.burst import burst
burst(np.zeros(1, np.float32), 1)
print(sum(burst.stats.cache_hits.values()), sum(burst.stats.cache_misses.values()))
"""
    seen = set()
    for isa, hits in (("avx", 0), ("sse", 0), ("generic", 0), ("sse", 1)):
        if isa in HERE:
            assert run(program, FASTCONV_ISA=isa, FASTCONV_CACHE_DIR=tmp_path) == f"{hits} {1 - hits}", isa
            found = set(tmp_path.rglob("*.kernel"))
            assert len(found - seen) == 1 - hits
            seen = found


# ---------------------------------------------------------------- what may be said
V2 = "sse,sse2,sse3,ssse3,sse4.1,sse4.2,popcnt,cx16,sahf"
V3 = V2 + ",avx,avx2,fma,bmi,bmi2,f16c,lzcnt,movbe"
V4 = V3 + ",avx512f,avx512bw,avx512cd,avx512dq,avx512vl"


@pytest.fixture
def machine(monkeypatch):
    """Make this process believe that it runs on another machine, with settings of its own, before Numba has decided on anything."""
    def pretend(features, kind="x86_64", word=None, cpu=None, cpu_features=None):
        present = frozenset(features.split(","))
        monkeypatch.setattr(instruction_set, "_host_features", lambda: present)
        monkeypatch.setattr(instruction_set.codegen, "get_host_cpu_features", lambda: ",".join("+" + name for name in present))
        monkeypatch.setattr(instruction_set, "_code_generator", lambda: None)
        monkeypatch.setattr(instruction_set, "_isa", None)
        monkeypatch.setattr(platform, "machine", lambda: kind)
        monkeypatch.setattr(numba.config, "CPU_NAME", cpu)
        monkeypatch.setattr(numba.config, "CPU_FEATURES", cpu_features)
        monkeypatch.delenv("FASTCONV_ISA", raising=False)
        if word is not None:
            monkeypatch.setenv("FASTCONV_ISA", word)
    return pretend


@pytest.mark.parametrize("kind, features, largest, has", [
    ("x86_64", V4, "avx512", ("avx512", "avx2", "avx", "sse", "generic")),
    ("AMD64", V3, "avx2", ("avx2", "avx", "sse", "generic")),
    ("x86_64", V3.replace(",fma", ""), "avx", ("avx", "sse", "generic")),
    ("x86_64", V3 + ",avx512f", "avx2", ("avx2", "avx", "sse", "generic")),       # the first AVX-512 processors had not enough of it
    ("x86_64", "sse,sse2", "sse", ("sse", "generic")),
    ("arm64", "neon", "neon", ("neon", "generic")),
    ("riscv64", "v", "generic", ("generic",)),
])
def test_what_a_machine_has(machine, kind, features, largest, has):
    machine(features, kind)
    assert runtime.isa() == largest and instruction_set.available() == has
    assert (numba.config.CPU_NAME, numba.config.CPU_FEATURES) == (None, None)
    for word in has:
        machine(features, kind, word)
        assert runtime.isa() == word
        told = set() if numba.config.CPU_FEATURES is None else set(numba.config.CPU_FEATURES.replace("+", "").split(",")) - {""}
        assert numba.config.CPU_NAME == (None if word == largest else "generic")
        assert told <= set(features.split(","))              # nothing that the machine does not have
        assert word == largest or told == set(instruction_set.EXTENSIONS[word]) & set(features.split(","))


@pytest.mark.parametrize("word", ["avx-512", "AVX3", "x", "0", "sse4"])
def test_a_word_that_is_none(machine, word):
    machine(V3, word=word)
    with pytest.raises(ValueError, match=f"FASTCONV_ISA is '{word}'; wanted: auto, or .*: avx2, avx, sse, generic$"):
        runtime.isa()


@pytest.mark.parametrize("kind, features, word", [("x86_64", V3, "avx512"), ("x86_64", V2, "avx"), ("x86_64", V4, "neon"),
                                                  ("aarch64", "neon", "sse"), ("riscv64", "v", "neon")])
def test_an_instruction_set_that_the_machine_lacks(machine, kind, features, word):
    machine(features, kind, word)
    with pytest.raises(ValueError, match=f"FASTCONV_ISA is '{word}', which this machine does not have; wanted: auto, or one of .*generic$"):
        runtime.isa()


@pytest.mark.parametrize("word, cpu, features", [("avx2", None, "+avx"), ("sse", "haswell", "+avx2,+fma"), ("avx2", "haswell", None),
                                                 ("generic", "nehalem", "+sse4.2")])
def test_a_word_against_numbas_own_settings(machine, word, cpu, features):
    machine(V4, word=word, cpu=cpu, cpu_features=features)
    with pytest.raises(ValueError, match=f"FASTCONV_ISA is '{word}', but .* NUMBA_CPU_NAME is {cpu!r} and NUMBA_CPU_FEATURES is"):
        runtime.isa()
    assert (numba.config.CPU_NAME, numba.config.CPU_FEATURES) == (cpu, features)


@pytest.mark.parametrize("word, cpu, features", [("avx2", "haswell", "+avx2,+fma"), ("avx512", "znver4", None),
                                                 ("sse", "nehalem", "+sse4.2"), ("generic", "generic", ""), (None, None, "+avx2,+fma")])
def test_a_word_beside_numbas_own_settings(machine, word, cpu, features):
    machine(V4, word=word, cpu=cpu, cpu_features=features)
    assert runtime.isa() == (word or "avx2")
    assert (numba.config.CPU_NAME, numba.config.CPU_FEATURES) == (cpu, features)


FAILS = """
import numba
{first}
try:
    import fastconv
except {error} as problem:
    print(problem)
"""


@X86
def test_a_wrong_word_ends_the_import():
    message = run(FAILS.format(first="", error="ValueError"), FASTCONV_ISA="avx1024")
    assert message.startswith("the environment variable FASTCONV_ISA is 'avx1024'; wanted: auto, or ")


@X86
def test_numba_that_has_already_decided():
    """Its processor stays: tiles of AVX2 on 32 registers, or worse, would be the result."""
    decorated = "numba.njit(lambda: 0)"
    message = run(FAILS.format(first=decorated, error="RuntimeError"), FASTCONV_ISA="generic")
    assert message.startswith("the environment variable FASTCONV_ISA is 'generic', but Numba already compiles for ")
    assert "Import fastconv before that" in message
    for word in (HERE[0], "auto"):           # nothing to change
        assert run(f"import numba\n{decorated}\nfrom fastconv import runtime; print(runtime.isa())", FASTCONV_ISA=word) == HERE[0]


@X86
def test_info_tells_of_the_word():
    program = "from fastconv import runtime; print(runtime.info()['instruction set'])"
    assert run(program, FASTCONV_ISA="sse") == "sse (FASTCONV_ISA is set, LLVM's CPU: generic)"
    assert run(program, FASTCONV_ISA="auto") == HERE[0]
