"""Fills the table of figures in README.md from what pytest-benchmark has saved: every layer of the run, losses included.

    pytest bench --benchmark-autosave && python bench/readme_table.py [FILE.json]

Without a file the newest under .benchmarks/ is taken. float32, but for the course's layers, which are float64 as in its notebooks. The
fastconv column is the default call (algorithm="auto"); NumPy's is the fastest of NumPy's contenders, the course's own layer among them.
"""
from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))     # run as a script: the house itself

from fastconv.report import figures

HOUSE = Path(__file__).resolve().parents[1]
BEGIN, END = "<!-- figures: begin -->", "<!-- figures: end -->"
SHOWN = (
    "conv2d", "conv2d_backward", "im2col", "col2im", "max_pool2d", "max_pool2d_backward", "avg_pool2d", "avg_pool2d_backward",
    "batch_norm_training", "batch_norm_training_backward",
)
HEAD = ("| operation | layer | fastconv | plain loops | NumPy | speed | of peak |\n"
        "|---|---|---:|---:|---:|---:|---:|")


def table(saved: dict[str, Any]) -> str:
    """The Markdown table, one line for each operation and layer, under a line that says on what machine."""
    groups: dict[str, dict[str, dict[str, Any]]] = {}
    for bench in saved["benchmarks"]:
        groups.setdefault(bench["group"], {})[bench["extra_info"]["contender"].removesuffix("_crop")] = bench["extra_info"]
    rows = [row for operation in SHOWN for rivals in groups.values() if (row := _row(operation, rivals))]
    return "\n".join([_machine(saved), "", HEAD, *rows])


def _row(operation: str, rivals: dict[str, dict[str, Any]]) -> str | None:
    """None for a group of another operation or dtype, or one that is not complete."""
    ours = rivals.get("auto") or rivals.get("fastconv")
    others = [rivals[name]["seconds_of_whole_layer"] for name in ("numpy", "course") if name in rivals]
    if ours is None or "naive" not in rivals or not others or ours["operation"] != operation:
        return None
    if ours["dtype"] != ("float64" if ours["table"] == "cs231n" else "float32"):
        return None
    naive, fast = rivals["naive"], ours["seconds_of_whole_layer"]
    filters = f" -> {ours['y_shape'][1]}, {ours['weight_shape'][2]}x{ours['weight_shape'][3]}" if operation.startswith("conv2d") else ""
    layer = f"{ours['table']} {ours['layer']}, {' × '.join(map(str, ours['x_shape']))}{filters.replace('->', '→').replace('x', '×')}"
    about = "≈ " if naive["crop"] else ""
    cells = (
        f"`{operation}`", layer + (", float64" if ours["dtype"] == "float64" else ""), figures.time(fast),
        about + figures.time(naive["seconds_of_whole_layer"]), figures.time(min(others)), figures.speedup(min(others) / fast),
        figures.share(ours["per_cent_of_peak"] / 100),
    )
    return f"| {' | '.join(cells)} |"


def _machine(saved: dict[str, Any]) -> str:
    facts = saved["machine_info"]["fastconv"]
    return (
        f"{facts['CPU']}, {facts['instruction set']}, threads: {facts['threads']}; NumPy {facts['numpy']}, {facts['BLAS']};"
        f" fastconv {facts['fastconv']}, {saved['datetime'][:10]}. ≈: scaled from a crop."
        " speed: NumPy's time over fastconv's, so below 1 is a loss."
    )


def fill(readme: str, text: str) -> str:
    """The README with this text between the two marker lines. ValueError where they are not there once each, in order."""
    if readme.count(BEGIN) != 1 or readme.count(END) != 1 or readme.index(BEGIN) > readme.index(END):
        raise ValueError(f"README.md: wanted one line {BEGIN} and after it one line {END}")
    return f"{readme[:readme.index(BEGIN)]}{BEGIN}\n{text}\n{readme[readme.index(END):]}"


def main() -> None:
    files = [Path(name) for name in sys.argv[1:]] or sorted(HOUSE.glob(".benchmarks/**/*.json"), key=lambda path: path.stat().st_mtime)[-1:]
    if not files:
        sys.exit("nothing is saved under .benchmarks/: run `pytest bench --benchmark-autosave` first")
    readme = HOUSE / "README.md"
    text = table(json.loads(files[0].read_text(encoding="utf-8")))
    readme.write_text(fill(readme.read_text(encoding="utf-8"), text), encoding="utf-8")
    print(f"README.md: {text.count(chr(10)) - 3} lines from {files[0]}")


if __name__ == "__main__":
    main()
