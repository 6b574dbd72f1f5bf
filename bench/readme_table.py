"""Fills the tables of figures from what pytest-benchmark has saved: docs/figures.md has every layer of the run, README.md a few.

    pytest bench --benchmark-autosave && python bench/readme_table.py [FILE.json]

Without a file the newest under .benchmarks/ is taken. float32, but for the course's layers, which are float64 as in its notebooks. The
fastconv column is the default call (algorithm="auto"); NumPy's is the fastest of NumPy's contenders, the course's own layer among them.
"""
from __future__ import annotations

import argparse
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
FEW = (                                      # what README.md shows: operation, layer
    ("conv2d", "fast_conv"), ("conv2d", "conv1_1"), ("conv2d", "conv3_2"), ("conv2d", "conv2_3x3"), ("conv2d", "conv4_reduce"), ("conv2d", "dw_144x56"),
    ("conv2d_backward", "fast_conv"), ("conv2d_backward", "conv3_2"), ("conv2d_backward", "dw_144x56"), ("im2col", "conv3_2"), ("max_pool2d", "pool1"),
    ("max_pool2d_backward", "pool1"), ("avg_pool2d", "pool1"), ("batch_norm_training", "bn_256x56"), ("batch_norm_training_backward", "bn_256x56"),
)
HEAD = ("| operation | layer | fastconv | plain loops | NumPy | speed | of peak |\n"
        "|---|---|---:|---:|---:|---:|---:|")


def table(saved: dict[str, Any], few: tuple[tuple[str, str], ...] | None = None) -> str:
    """The Markdown table, one line for each operation and layer, or only for those of `few`, under a line that says on what machine."""
    groups: dict[str, dict[str, dict[str, Any]]] = {}
    for bench in saved["benchmarks"]:
        groups.setdefault(bench["group"], {})[bench["extra_info"]["contender"].removesuffix("_crop")] = bench["extra_info"]
    rows = [row for operation in SHOWN for rivals in groups.values() if (row := _row(operation, rivals, few))]
    return "\n".join([_machine(saved), "", HEAD, *rows])


def _row(operation: str, rivals: dict[str, dict[str, Any]], few: tuple[tuple[str, str], ...] | None) -> str | None:
    """None for a group of another operation or dtype, one that is not among the few, or not complete."""
    ours = rivals.get("auto") or rivals.get("fastconv")
    others = [rivals[name]["seconds_of_whole_layer"] for name in ("numpy", "course") if name in rivals]
    if ours is None or "naive" not in rivals or not others or ours["operation"] != operation:
        return None
    if ours["dtype"] != ("float64" if ours["table"] == "cs231n" else "float32"):
        return None
    if few is not None and (operation, ours["layer"]) not in few:
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


def fill(page: str, text: str) -> str:
    """The page with this text between the two marker lines. ValueError where they are not there once each, in order."""
    if page.count(BEGIN) != 1 or page.count(END) != 1 or page.index(BEGIN) > page.index(END):
        raise ValueError(f"wanted one line {BEGIN} and after it one line {END}")
    return f"{page[:page.index(BEGIN)]}{BEGIN}\n{text}\n{page[page.index(END):]}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", nargs="?", type=Path, help="what pytest-benchmark saved (default: the newest under .benchmarks/)")
    file = parser.parse_args().file or max(HOUSE.glob(".benchmarks/**/*.json"), key=lambda path: path.stat().st_mtime, default=None)
    if file is None:
        sys.exit("nothing is saved under .benchmarks/: run `pytest bench --benchmark-autosave` first")
    if not file.is_file():
        sys.exit(f"{file} is no file")
    saved = json.loads(file.read_text(encoding="utf-8"))
    for name, few in (("README.md", FEW), ("docs/figures.md", None)):
        text, page = table(saved, few), HOUSE / name
        page.write_text(fill(page.read_text(encoding="utf-8"), text), encoding="utf-8")
        print(f"{name}: {text.count(chr(10)) - 3} lines from {file}")


if __name__ == "__main__":
    main()
