"""What the terminal shows: a live bar (plain lines where the output is no terminal), then a table and the verdict."""

from collections.abc import Iterator
from contextlib import contextmanager
from statistics import median

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as RichProgress
from rich.table import Table

from . import figures
from .measure import Result
from .run import Progress, Report

__all__ = ["console", "progress", "show"]

NOT_NARROW = ("naive", "error")  # columns left out below 100 characters a line
MOST_FAILURES = 20
MOST_ROWS = 150  # a longer table gives one line an operation and dtype instead of one a layer


def console() -> Console:
    """Standard output; wide enough for the table where that is a file or a pipe."""
    found = Console(highlight=False)
    return found if found.is_terminal else Console(highlight=False, width=140)


class _Bar:
    def __init__(self, rich: RichProgress) -> None:
        self._rich = rich
        self._task = rich.add_task("", title="", visible=False)

    def start(self, title: str, total: int) -> None:
        self._rich.remove_task(self._task)
        self._task = self._rich.add_task("", title=title, total=total, completed=-1)  # a step is announced when it begins

    def step(self, text: str) -> None:
        self._rich.update(self._task, advance=1, description=text)


class _Lines:
    def __init__(self, out: Console) -> None:
        self._out = out

    def start(self, title: str, total: int) -> None:
        self._title, self._total, self._done = title, total, 0

    def step(self, text: str) -> None:
        self._done += 1
        self._out.print(f"{self._title} {self._done}/{self._total}: {text}", markup=False, soft_wrap=True)


@contextmanager
def progress(out: Console) -> Iterator[Progress]:
    """A live bar in a terminal, one line a step elsewhere."""
    if not out.is_terminal:
        yield _Lines(out)
        return
    columns = (
        TextColumn("{task.fields[title]}"),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.description}"),
    )
    with RichProgress(*columns, console=out, transient=True) as rich:
        yield _Bar(rich)


def show(report: Report, out: Console) -> None:
    """The table: a line for each layer and dtype, or medians over the layers where that would be too long; then the verdict."""
    long = len(report.results) > MOST_ROWS
    narrow = out.width < 100
    table = Table(box=None, pad_edge=False, collapse_padding=narrow, header_style="bold")
    table.add_column("medians over all layers" if long else "layer", no_wrap=True)
    for name in ("dtype", "time", "naive", "speed-up", "rate", "of peak", "error"):
        if not (narrow and name in NOT_NARROW):
            table.add_column(name, justify="right", no_wrap=True)

    groups: dict[tuple[str, str], list[Result]] = {}
    for result in report.results:
        groups.setdefault((result.operation, result.algorithm or ""), []).append(result)
    for (operation, algorithm), results in groups.items():
        table.add_row(f"[bold]{operation}[/] {algorithm}".rstrip())
        for dtype in sorted({r.dtype for r in results}) if long else ():
            chosen = [r for r in results if r.dtype == dtype]
            table.add_row(*_cells(f"  {len(chosen)} layers", chosen, narrow))
        for result in results if not long else ():
            table.add_row(*_cells(f"  {result.table} {result.layer}", [result], narrow))
    out.print(table)
    out.print(_legend(report), style="dim")
    for failure in report.failures[:MOST_FAILURES]:
        out.print(f"NOT EQUAL: {failure}", style="bold red", markup=False, soft_wrap=True)
    if len(report.failures) > MOST_FAILURES:
        out.print(f"NOT EQUAL: {len(report.failures)} results in all; the page lists every one", style="bold red")
    if not report.failures:
        out.print(f"All {len(report.results)} results are equal to the plain loops.", style="bold green")


def _cells(label: str, results: list[Result], narrow: bool) -> list[str]:
    """The cells of one line: medians over the results, the worst error."""

    def middle(name: str) -> float:
        return median(getattr(r, name) for r in results)

    first = [label, results[0].dtype, figures.time(middle("fast_seconds"))]
    naive = ("" if all(r.naive_crop is None for r in results) else "≈ ") + figures.time(middle("naive_seconds"))
    rates = [figures.speedup(middle("speedup")), figures.rate(middle("rate"), results[0].unit), figures.share(middle("share_of_peak"))]
    return [*first, *rates] if narrow else [*first, naive, *rates, figures.error(max(r.error for r in results))]


def _legend(report: Report) -> str:
    threads = f"{report.threads} thread{'s' if report.threads > 1 else ''}"
    peaks = ", ".join(f"{figures.rate(value, 'GFLOP/s')} a core in {dtype}" for dtype, value in report.fma_gflops_per_core.items())
    return (
        f"{report.machine.get('CPU', '')}, {threads}. ≈: naive time scaled from a crop. Peak: measured in this run, all threads"
        f"{f'; FMA peak {peaks}' if peaks else ''}. error: largest, relative to the largest value."
    )
