"""The whole report: which cases, within which time, and the two files that come out."""

import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

from .. import processes, runtime
from ..files import replacing
from .measure import Case, Failure, Result, measure, prepare
from .operations import Operation, layers
from .peaks import Peaks

__all__ = ["DTYPES", "Progress", "Report", "cases", "run", "write"]

DTYPES = ("float32", "float64")
SECONDS = {True: 35.0, False: 480.0}  # quick or not: for all cases together, once the kernels are compiled
LEAST, MOST = 0.05, 1.0  # seconds for a case


class Progress(Protocol):
    """What shows that something happens: terminal.py has one with a bar and one that prints lines."""

    def start(self, title: str, total: int) -> None: ...

    def step(self, text: str) -> None: ...


@dataclass
class Report:
    """All that was found, as it goes to the JSON file."""

    created: str
    quick: bool
    machine: dict[str, str]
    threads: int
    seconds: float = 0.0
    fma_gflops_per_core: dict[str, float] = field(default_factory=dict)
    copy_gbytes_per_second: dict[int, float] = field(default_factory=dict)
    results: list[Result] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def cases(operations: Sequence[Operation], quick: bool) -> list[Case]:
    """Every operation on every layer it fits, in every dtype."""
    return [Case(o, table, layer, dtype) for o in operations for table, layer in layers(o, quick) for dtype in DTYPES]


def run(operations: Sequence[Operation], quick: bool, progress: Progress) -> Report:
    """Compile, prove and time everything. A case gets its share of the time that is left, so a slow one costs later ones repetitions."""
    begin = time.perf_counter()
    threads = runtime.get_num_threads()
    report = Report(time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime()), quick, runtime.info(), threads)
    peaks = Peaks(threads)
    todo = cases(operations, quick)

    kernels = [(operation.name, dtype) for operation in operations for dtype in DTYPES]
    progress.start("compiling", len(kernels))
    for (name, dtype), _ in processes.each(prepare, kernels):
        progress.step(f"{name}, {dtype}")

    progress.start("measuring", len(todo))
    deadline = time.perf_counter() + SECONDS[quick]
    for number, case in enumerate(todo):
        progress.step(str(case))
        seconds = (deadline - time.perf_counter()) / (len(todo) - number)
        outcomes = measure(case, min(max(seconds, LEAST), MOST), peaks)
        report.results += [outcome for outcome in outcomes if isinstance(outcome, Result)]
        report.failures += [outcome for outcome in outcomes if isinstance(outcome, Failure)]

    report.results = [peaks.settle(result) for result in report.results]
    report.fma_gflops_per_core = dict(sorted(peaks.arithmetic.items()))
    report.copy_gbytes_per_second = dict(sorted(peaks.copy.items()))
    report.seconds = time.perf_counter() - begin
    return report


def write(report: Report, folder: Path) -> tuple[Path, Path]:
    """report.html and report.json in this folder, each complete or not there at all."""
    from .page import render  # needs jinja2

    found = report.as_dict()
    texts = {folder / "report.html": render(found), folder / "report.json": json.dumps(found, indent=1) + "\n"}
    folder.mkdir(parents=True, exist_ok=True)
    for path, text in texts.items():
        with replacing(path) as file:
            file.write(text.encode())
    page, data = texts
    return page, data
