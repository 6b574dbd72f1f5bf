"""The instruction set that kernels are made for: the host's, or a smaller one that FASTCONV_ISA names.

FASTCONV_ISA = avx512 | avx2 | avx | sse | neon | generic | auto makes a machine compute as a smaller one would: the sizes of the register
tiles, the vectors, and the processor that LLVM compiles for (or the tiles of AVX2 would still find 32 registers). Numba knows one
processor for a whole process and decides on it when the first function is decorated, so fastconv must be imported before that.
avx2 includes FMA; avx and sse (up to SSE4.2) multiply and add; generic is what every processor of its kind has.
"""
from __future__ import annotations

import os
import platform
from typing import Any

from llvmlite import binding
from numba import config
from numba.core import codegen
from numba.core.registry import cpu_target

VARIABLE = "FASTCONV_ISA"

_SSE = ("cx16", "popcnt", "sahf", "sse3", "sse4.1", "sse4.2", "ssse3")
_AVX = (*_SSE, "avx")
_AVX2 = (*_AVX, "avx2", "bmi", "bmi2", "f16c", "fma", "lzcnt", "movbe")
_AVX512 = (*_AVX2, "avx512bw", "avx512cd", "avx512dq", "avx512f", "avx512vl")

# What LLVM may use beyond its generic processor, where the machine has it too.
EXTENSIONS: dict[str, tuple[str, ...]] = {"avx512": _AVX512, "avx2": _AVX2, "avx": _AVX, "sse": _SSE, "neon": ("neon",), "generic": ()}

_isa: str | None = None                      # decided once a process


def isa() -> str:
    """The instruction set whose vectors the kernels use: "avx512", "avx2", "avx", "sse", "neon" or "generic".

    ValueError: FASTCONV_ISA is no such word, names what this machine does not have, or says something else than NUMBA_CPU_NAME and
    NUMBA_CPU_FEATURES. RuntimeError: Numba already compiles for another processor in this process.
    """
    global _isa
    if _isa is None:
        _isa = _decide()
    return _isa


def cpu_features() -> frozenset[str]:
    """The instruction-set extensions that LLVM compiles for: NUMBA_CPU_FEATURES where it is set, else the host's."""
    made = _code_generator()
    if made is not None:
        return _present(made.magic_tuple()[2])
    return _present(codegen.get_host_cpu_features() if config.CPU_FEATURES is None else config.CPU_FEATURES)


def available() -> tuple[str, ...]:
    """The instruction sets that this machine can run, the largest first: what FASTCONV_ISA may be."""
    largest = _largest(_host_features())
    if largest not in ("avx512", "avx2", "avx", "sse"):
        return tuple(dict.fromkeys((largest, "generic")))
    return tuple(EXTENSIONS)[tuple(EXTENSIONS).index(largest):4] + ("generic",)


def override() -> str:
    """What FASTCONV_ISA says; an empty string where it leaves the choice to the machine."""
    word = os.environ.get(VARIABLE, "").strip().lower()
    return "" if word == "auto" else word


def _decide() -> str:
    wanted, natural = override(), _largest(cpu_features())
    if not wanted:
        return natural
    came, has = f"the environment variable {VARIABLE} is {os.environ[VARIABLE]!r}", ", ".join(available())
    if wanted not in EXTENSIONS:
        raise ValueError(f"{came}; wanted: auto, or an instruction set of this machine: {has}")
    if wanted not in available():
        raise ValueError(f"{came}, which this machine does not have; wanted: auto, or one of {has}")
    if wanted == natural:
        return wanted
    features = ",".join(f"+{name}" for name in EXTENSIONS[wanted] if name in _host_features())
    if (config.CPU_NAME, config.CPU_FEATURES) != (None, None) and (config.CPU_NAME, config.CPU_FEATURES) != ("generic", features):
        raise ValueError(f"{came}, but Numba's own settings ask for {natural}: NUMBA_CPU_NAME is {config.CPU_NAME!r} and "
                         f"NUMBA_CPU_FEATURES is {config.CPU_FEATURES!r}; wanted: {VARIABLE} alone, or both for one processor")
    made = _code_generator()
    if made is not None and made.magic_tuple()[1:] != ("generic", features):
        raise RuntimeError(f"{came}, but Numba already compiles for {natural} in this process: it decides when the first function is "
                           f"decorated with njit. Import fastconv before that, or start Python with NUMBA_CPU_NAME=generic "
                           f"NUMBA_CPU_FEATURES={features}")
    config.CPU_NAME, config.CPU_FEATURES = "generic", features
    return wanted


def _largest(features: frozenset[str]) -> str:
    """The instruction set that these extensions make up on this machine."""
    machine = platform.machine().lower()
    if machine in ("aarch64", "arm64"):
        return "neon"
    if machine not in ("x86_64", "amd64", "i686", "x86"):
        return "generic"
    if {"avx512f", "avx512vl", "avx512bw", "avx512dq"} <= features:
        return "avx512"
    if {"avx2", "fma"} <= features:
        return "avx2"
    return "avx" if "avx" in features else "sse"


def _present(features: str) -> frozenset[str]:
    return frozenset(name[1:] for name in features.split(",") if name.startswith("+"))


def _host_features() -> frozenset[str]:
    """The extensions of the processor itself, whatever Numba has been told."""
    try:
        return _present(binding.get_host_cpu_features().flatten())
    except RuntimeError:                     # LLVM cannot tell on this kind of machine
        return frozenset()


def _code_generator() -> Any:
    """Numba's code generator, None before it is made: its processor is then settled for the life of the process."""
    context = vars(cpu_target).get("_toplevel_target_context")
    return None if context is None else context.codegen()
