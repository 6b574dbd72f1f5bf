"""How the benches are run: `pytest bench`, with pytest-benchmark's own options and these two.

--fastconv-threads N   threads of fastconv and of NumPy's BLAS (default 1)
--fastconv-layers all  every layer of the tables, not only a selection
A module's CONTENDERS says who takes part: operation name -> contender name -> contender (harness.py). Each test_<operation> there gets a
fixture `race` for every layer, dtype and contender; -k picks from names like test_conv2d[vgg16-conv5_1-float32-im2col].
On a busy machine --benchmark-timer=time.thread_time leaves out what other processes take (one thread only).
"""
from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
import threadpoolctl

from bench import harness
from fastconv import runtime
from fastconv.report.peaks import Peaks

# What pytest-benchmark takes for each of some hundred benches, unless the command line says otherwise.
BUDGET = {"--benchmark-max-time": "0.2", "--benchmark-min-rounds": "3"}
KEPT = pytest.StashKey[bool]()              # does malloc keep freed memory?


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("fastconv")
    group.addoption("--fastconv-threads", type=int, default=1, metavar="N", help="threads of fastconv and of NumPy's BLAS (default: 1)")
    group.addoption("--fastconv-layers", choices=("some", "all"), default="some", help="a selection of layers (default), or every one")


def pytest_configure(config: pytest.Config) -> None:
    given = config.invocation_params.args
    for option, value in BUDGET.items():
        if not any(str(word).startswith(option) for word in given):
            name = option.strip("-").replace("-", "_")
            setattr(config.option, name, type(getattr(config.option, name))(value))
    config.stash[KEPT] = harness.keep_memory()


def _facts(config: pytest.Config) -> dict[str, str]:
    found = [library for library in threadpoolctl.threadpool_info() if library["user_api"] == "blas"]
    own = [library for library in found if "numpy" in library["filepath"]] or found     # SciPy may have brought another
    libraries = [f"{library['internal_api']} {library['version']}" for library in own]
    facts = runtime.info()
    facts["threads"] = f"{config.option.fastconv_threads} of {runtime.max_threads()}, for fastconv and for BLAS"
    return {**facts, "BLAS": ", ".join(libraries) or "unknown", "freed memory": "kept" if config.stash[KEPT] else "given back"}


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    facts, shown = _facts(config), ("CPU", "instruction set", "threads", "BLAS", "freed memory")
    terminalreporter.write_line(", ".join(f"{name}: {facts[name]}" for name in shown))


@pytest.hookimpl(optionalhook=True)
def pytest_benchmark_update_machine_info(config: pytest.Config, machine_info: dict[str, Any]) -> None:
    machine_info["fastconv"] = _facts(config)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "race" not in metafunc.fixturenames:
        return
    operation = metafunc.function.__name__.removeprefix("test_")
    entries, ids = [], []
    for case in harness.cases(operation, metafunc.config.option.fastconv_layers == "all"):
        for name, contender in metafunc.module.CONTENDERS[operation].items():
            if name == "course" and case.table != "cs231n":
                continue
            if name == "naive" and harness.cropped(case.layer) != case.layer:
                name = "naive_crop"
            entries.append((case, name, contender))
            ids.append(f"{case.table}-{case.layer.name}-{case.dtype}-{name}")
    metafunc.parametrize("race", entries, ids=ids, indirect=True)


@pytest.fixture(scope="session")
def peaks(request: pytest.FixtureRequest) -> Iterator[Peaks]:
    n = request.config.option.fastconv_threads
    with harness.threads(n):
        yield Peaks(n)


@pytest.fixture
def race(request: pytest.FixtureRequest, benchmark: Any, peaks: Peaks) -> Callable[[], None]:
    return partial(harness.race, benchmark, peaks, *request.param)
