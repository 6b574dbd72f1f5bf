"""The report: what it measures, that it notices a wrong result and says where, and the files it writes."""

import inspect
import json
import re
from dataclasses import fields
from html.parser import HTMLParser
from math import prod

import numpy as np
import pytest

from fastconv import cli, shapes
from fastconv.testing import assert_same

pytest.importorskip("rich")
pytest.importorskip("jinja2")
pytest.importorskip("matplotlib")

from fastconv.report import charts, figures, operations, run, terminal
from fastconv.report.measure import Case, Failure, Result, crop, measure
from fastconv.report.page import render
from fastconv.report.photo import pixels

SMALL = {"cs231n": ("naive_conv", "naive_pool", "gradient_bn", "spatial_grad_bn"), "vgg16": (), "resnet50": (), "mobilenetv2": ()}
BY_NAME = {operation.name: operation for operation in operations.OPERATIONS}


@pytest.fixture
def quick(monkeypatch):
    """A report of the smallest layers, in no time."""
    monkeypatch.setattr(operations, "QUICK", SMALL)
    monkeypatch.setattr(run, "SECONDS", {True: 0.1})


def report(folder, *only):
    """Exit status of a quick report of these operations, and what its JSON file holds."""
    status = cli.main(["report", "--quick", "--output", str(folder), *(("--only", *only) if only else ())])
    return status, json.loads((folder / "report.json").read_text(encoding="utf-8"))


def small_layer(operation):
    """The smallest layer of the notebooks that an operation takes."""
    layers = [layer for table, layer in operations.layers(operation, quick=False) if table == "cs231n"]
    return min(layers, key=lambda layer: prod(layer.y_shape))


# ---------------------------------------------------------------------------------------------------------------- what is measured


def test_every_layer_of_networks_of_images_is_measured():
    """Other poolings, and boxes, are proven by their own tests."""
    kinds = ("conv2d", "im2col", "col2im", "max_pool2d", "avg_pool2d", "batch_norm", "instance_norm", "group_norm", "layer_norm", "rms_norm")
    assert {operation.function for operation in operations.OPERATIONS} == {name for kind in kinds for name in (kind, f"{kind}_backward")}


@pytest.mark.parametrize("operation", operations.OPERATIONS, ids=lambda o: o.name)
def test_arguments_fit_fast_and_naive(operation):
    args, options = operation.arguments(small_layer(operation))
    for function in (operation.fast(), operation.naive()):
        inspect.signature(function).bind(*args, **options)
    assert ("out" in inspect.signature(operation.fast()).parameters) == operation.out
    assert ("algorithm" in inspect.signature(operation.fast()).parameters) == (operation.algorithms != ("",))


@pytest.mark.parametrize("layer_of", [small_layer, lambda o: crop(operations.layers(o, quick=True)[-1][1], 200)], ids=["small", "crop"])
@pytest.mark.parametrize("operation", operations.OPERATIONS, ids=lambda o: o.name)
def test_the_truth_at_full_size_is_that_of_the_loops(operation, layer_of):
    assert_same(operation.truth(), operation.naive(), *operation.arguments(layer_of(operation)))


@pytest.mark.parametrize("operation", operations.OPERATIONS, ids=lambda o: o.name)
def test_layers_are_distinct_and_quick_ones_are_few(operation):
    everything, few = operations.layers(operation, quick=False), operations.layers(operation, quick=True)
    assert 1 <= len(few) <= 4 and set(few) <= set(everything)
    shapes_only = [layer._replace(name="", op="", count=0) for _, layer in everything]
    assert len(set(shapes_only)) == len(shapes_only)


def test_quick_layers_exist():
    for table, names in operations.QUICK.items():
        assert set(names) <= {layer.name for layer in shapes.load(table)}
    assert set(operations.QUICK) == set(shapes.tables())


def test_work():
    layer = shapes.Layer("a", "conv", 2, 3, 8, 8, 5, 3, 3, 1, 1, 1, 1)
    assert BY_NAME["conv2d"].work(layer) == 2 * (2 * 5 * 8 * 8) * (3 * 3 * 3)
    assert BY_NAME["conv2d_backward"].work(layer) == 2 * BY_NAME["conv2d"].work(layer)
    assert BY_NAME["im2col"].work(layer) == 2 * 3 * 8 * 8 + 2 * (3 * 9) * 64
    pool = shapes.Layer("b", "maxpool", 2, 3, 8, 8, 0, 2, 2, 2, 0, 0, 1)
    assert BY_NAME["max_pool2d_backward"].work(pool) == 2 * 3 * (64 + 64 + 16)


def test_choose():
    assert operations.choose([]) == operations.OPERATIONS
    chosen = [operation.name for operation in operations.choose(["max_pool2d", "conv2d_backward"])]
    assert chosen == ["conv2d_backward", "max_pool2d", "max_pool2d_backward"]
    with pytest.raises(ValueError, match="called 'conv'"):
        operations.choose(["conv"])


def test_pixels_are_those_of_the_photograph():
    x = pixels((2, 4, 30, 700), seed=1)
    assert x.shape == (2, 4, 30, 700) and x.dtype == np.float64
    assert 0.3 < x.std() < 2 and abs(x.mean()) < 1.5
    assert len(np.unique(x)) <= 256
    assert np.array_equal(x, pixels((2, 4, 30, 700), seed=1)) and not np.array_equal(x, pixels((2, 4, 30, 700), seed=2))
    assert pixels((5, 7), seed=1).shape == (5, 7) and pixels((2, 5, 7), seed=1).shape == (2, 5, 7)


@pytest.mark.parametrize("operation", operations.OPERATIONS, ids=lambda o: o.name)
def test_crops_are_small_layers_that_run(operation):
    for _, layer in operations.layers(operation, quick=False):
        small = crop(layer, 64)
        assert 0 < prod(small.y_shape) <= 64
        assert small == layer or prod(small.y_shape) >= 8, layer.name
        assert (small.KH, small.KW, small.stride, small.padding) == (layer.KH, layer.KW, layer.stride, layer.padding)
        assert operation.naive()(*operation.arguments(small)[0], **operation.arguments(small)[1]) is not None
    assert crop(layer, 10**9) == layer


# ---------------------------------------------------------------------------------------------------------------- a whole run


def test_a_report_has_every_operation(quick, tmp_path, capsys):
    status, found = report(tmp_path)
    assert status == 0, found["failures"]
    assert found["failures"] == []
    assert {row["operation"] for row in found["results"]} == set(BY_NAME)
    assert {row["algorithm"] for row in found["results"] if row["operation"] == "conv2d"} == {"auto", "im2col"}
    assert {row["dtype"] for row in found["results"]} == {"float32", "float64"}

    assert set(found) == {field.name for field in fields(run.Report)}
    for row in found["results"]:
        assert set(row) == {field.name for field in fields(Result)}
        assert row["fast_seconds"] > 0 and row["naive_seconds"] > 0 and row["rate"] > 0 and row["peak"] > 0
        assert row["speedup"] == row["naive_seconds"] / row["fast_seconds"]
        assert row["share_of_peak"] == row["rate"] / row["peak"]
        assert 0 <= row["error"] <= row["tolerance"] == (1e-13 if row["dtype"] == "float64" else 1e-5 if row["algorithm"] == "auto" else 2e-6)
    assert found["quick"] is True and found["threads"] >= 1 and found["machine"]["CPU"]

    out = capsys.readouterr().out
    assert f"measuring 1/{len(run.cases(operations.OPERATIONS, True))}: conv2d, cs231n naive_conv, float32" in out
    assert f"All {len(found['results'])} results are equal" in out
    assert {path.name for path in tmp_path.iterdir()} == {"report.html", "report.json"}


def spoil(function, dtype, smallest=0):
    """The function with one wrong element in its (first) result, in this dtype, where that has at least so many elements."""

    def wrong(*args, **options):
        result = function(*args, **options)
        first = result[0] if isinstance(result, tuple) else result
        if first.dtype == dtype and first.size >= smallest:
            first[(0,) * (first.ndim - 1) + (1,)] += 0.5
        return result

    return wrong


@pytest.mark.parametrize("name", ["conv2d", "conv2d_backward", "max_pool2d", "batch_norm_training"])
def test_a_wrong_result_fails_and_is_named(quick, tmp_path, capsys, monkeypatch, name):
    operation = BY_NAME[name]
    monkeypatch.setattr(f"fastconv.{operation.module}.{operation.function}", spoil(operation.fast(), np.float32))
    status, found = report(tmp_path, name)
    assert status == 1
    wrong = [failure for failure in found["failures"] if failure["operation"] == name]
    measured = [layer.name for _, layer in operations.layers(operation, quick=True)]
    assert [(failure["algorithm"] or "", failure["dtype"], failure["layer"]) for failure in wrong] == [
        (way, "float32", layer) for layer in measured for way in operation.algorithms]
    layer = measured[0]
    assert not any(row["operation"] == name and row["dtype"] == "float32" for row in found["results"])
    assert any(row["operation"] == name and row["dtype"] == "float64" for row in found["results"])

    said = re.search(rf"NOT EQUAL: {name}.*, cs231n {layer}, float32: .*result.*1\)", capsys.readouterr().out)
    assert said, "the place of the worst element is missing"
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "not equal" in page and "are equal" not in page


def test_a_result_that_is_wrong_only_at_full_size_is_found(monkeypatch):
    operation, layer = BY_NAME["max_pool2d"], next(layer for layer in shapes.load("cs231n") if layer.name == "fast_pool")
    monkeypatch.setattr("fastconv.pool.max_pool2d", spoil(operation.fast(), np.float64, smallest=prod(layer.y_shape)))
    (failure,) = measure(Case(operation, "cs231n", layer, "float64"), 0.01, lambda *_: 1.0)
    assert isinstance(failure, Failure) and failure.message.startswith("whole layer x (100, 3, 32, 32): result")


def test_wrong_running_statistics_are_found(monkeypatch):
    operation = BY_NAME["batch_norm_training"]
    right = operation.fast()

    def forgetful(x, running_mean, running_var, *rest, **options):
        return right(x, running_mean, running_var.copy(), *rest, **options)

    monkeypatch.setattr("fastconv.norm.batch_norm", forgetful)
    (failure,) = measure(Case(operation, "cs231n", small_layer(operation), "float64"), 0.01, lambda *_: 1.0)
    assert isinstance(failure, Failure)


def test_a_function_that_raises_is_a_failure(monkeypatch):
    operation = BY_NAME["avg_pool2d"]

    def broken(x, **options):
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr("fastconv.pool.avg_pool2d", broken)
    (failure,) = measure(Case(operation, "cs231n", small_layer(operation), "float32"), 0.01, lambda *_: 1.0)
    assert isinstance(failure, Failure) and failure.message == "ZeroDivisionError: a bug"


def test_naive_time_is_scaled_from_a_crop():
    operation, layer = BY_NAME["max_pool2d"], next(layer for layer in shapes.load("cs231n") if layer.name == "net_pool")
    (result,) = measure(Case(operation, "cs231n", layer, "float32"), 0.02, lambda *_: 10.0)
    assert isinstance(result, Result) and result.naive_crop is not None and prod(result.naive_crop) < prod(layer.x_shape)
    assert result.peak == 10 and result.naive_seconds > result.fast_seconds


# ---------------------------------------------------------------------------------------------------------------- the page and the table

ROW = {
    "operation": "conv2d", "algorithm": "direct", "table": "vgg16", "layer": "conv1_1", "dtype": "float32",
    "x_shape": (1, 3, 224, 224), "weight_shape": (64, 3, 3, 3), "y_shape": (1, 64, 224, 224),
    "fast_seconds": 2e-3, "naive_seconds": 4.0, "naive_crop": (1, 3, 8, 8), "speedup": 2000.0,
    "rate": 87.0, "unit": "GFLOP/s", "peak": 200.0, "share_of_peak": 0.435, "error": 3e-7, "tolerance": 2e-6,
}  # fmt: skip
ROWS = [
    ROW,
    ROW | {"dtype": "float64", "error": 0.0, "tolerance": 1e-13},
    ROW | {"operation": "max_pool2d", "algorithm": None, "share_of_peak": 1.3, "speedup": 0.4, "naive_crop": None},
]
FAILURE = {key: ROW[key] for key in ("operation", "table", "layer", "dtype")} | {
    "algorithm": "im2col",
    "message": "result at (0, 1): 1 < 2 & so on",
}


def found(**changes):
    return run.Report("2024-05-06 07:08:09 UTC", True, {"CPU": "A <fast> one"}, 2).as_dict() | {"results": ROWS} | changes


class Tags(HTMLParser):
    """Notes every tag with its attributes, and that all that opens is closed."""

    EMPTY = ("meta", "br", "link", "img", "input")

    def __init__(self, text):
        super().__init__()
        self.tags, self.open = [], []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in self.EMPTY:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


@pytest.mark.parametrize("changes", [{}, {"failures": [FAILURE]}, {"results": []}], ids=["equal", "failure", "empty"])
def test_the_page_loads_nothing(changes):
    page = render(found(**changes))
    tags = Tags(page).tags
    assert not {tag for tag, _ in tags} & {"script", "link", "img", "iframe", "object", "embed", "base"}
    assert not [attributes for _, attributes in tags if {"src", "href", "srcset", "xlink:href"} & set(attributes)]
    assert not re.search(r"https?://|@import|url\(|//cdn", page)
    assert "prefers-color-scheme: dark" in page and 'name="viewport"' in page


def test_the_page_says_what_was_found():
    page = render(found(fma_gflops_per_core={"float32": 115.2}, copy_gbytes_per_second={1048576: 48.0}))
    assert "All 3 results are equal" in page
    assert "A &lt;fast&gt; one" in page
    for text in ("2.00 ms", "≈ 4.00 s", "2,000 ×", "87.0 GFLOP/s", "44 %", "3.0e-07", "1 × 3 × 224 × 224"):
        assert f">{text}</td>" in page, text
    assert "115 GFLOP/s a core" in page and "48.0 GB/s (1 MiB)" in page


def test_the_page_says_what_failed():
    page = render(found(failures=[FAILURE]))
    assert "1 of 4 results are not equal" in page
    assert "conv2d im2col, vgg16 conv1_1, float32<pre>result at (0, 1): 1 &lt; 2 &amp; so on</pre>" in page


def test_marks_stay_within_the_charts():
    for chart in charts.charts(ROWS):
        places = [mark.at for lane in chart.lanes for mark in (*lane.marks, *lane.medians)] + [at for at, _ in chart.ticks]
        assert min(places) >= 0 and max(places) <= 100.001
        assert [lane.label for lane in chart.lanes] == ["conv2d direct", "max_pool2d"]


def test_the_error_chart_names_every_tolerance():
    assert "(2e-06 in float32, 1e-13 in float64)" in charts.charts(ROWS)[2].note
    wider = [*ROWS, ROW | {"algorithm": "auto", "tolerance": 1e-5}]
    assert "(2e-06 in float32 (1e-05 where Winograd's algorithm may be chosen), 1e-13 in float64)" in charts.charts(wider)[2].note


def test_a_page_that_fails_leaves_the_old_files(tmp_path, monkeypatch):
    report = run.Report("now", True, {}, 1)
    run.write(report, tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    assert len(before) == 2

    monkeypatch.setattr("os.replace", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    report.threads = 2
    with pytest.raises(OSError, match="disk full"):
        run.write(report, tmp_path)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize("width", [80, 140])
@pytest.mark.parametrize("copies", [1, 60])
def test_the_table_fits_the_terminal(width, copies, capsys):
    rows = [Result(**row) for row in ROWS * copies]
    names = [Result(**ROW | {"operation": operation.name, "algorithm": None}) for operation in operations.OPERATIONS]
    out = terminal.Console(width=width, highlight=False)
    terminal.show(run.Report("now", True, {"CPU": "one"}, 2, results=rows + names), out)
    text = capsys.readouterr().out
    assert max(map(len, text.splitlines())) <= width and "…" not in text
    assert "2,000 ×" in text and "GFLOP/s" in text and "44 %" in text
    assert ("layers" in text) == (copies > 1)


def test_figures():
    assert [figures.time(t) for t in (4e-8, 1.234e-6, 12.34e-6, 9.999e-4, 0.5, 75)] == [
        "0.040 µs",
        "1.23 µs",
        "12.3 µs",
        "1.00 ms",
        "500 ms",
        "75.0 s",
    ]
    assert [figures.share(v) for v in (0, 0.0123, 0.5, 1.25)] == ["0 %", "1.2 %", "50 %", "125 %"]
    assert [figures.error(v) for v in (0, 3.21e-7)] == ["0", "3.2e-07"]
    assert [figures.size(n) for n in (4096, 2**21)] == ["4 KiB", "2 MiB"]
    assert figures.speedup(1234.5) == "1,234 ×" and figures.rate(38.25, "GB/s") == "38.2 GB/s" and figures.shape((1, 2)) == "1 × 2"
