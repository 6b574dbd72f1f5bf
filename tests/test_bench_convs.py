"""The benches of the convolutions: which layers, which figures are asked of them, their means, and that the proof sees a wrong answer."""
import json
import subprocess
import sys

import numpy as np
import pytest
from isolated import ROOT

import naive
from bench import convs, engine, peers, stacks
from fastconv import shapes
from fastconv.shapes import Layer

SMALL = Layer("small", "conv", 2, 5, 9, 8, 4, 3, 2, 2, 1, 1, 1)
WIDE = Layer("wide", "conv", 1, 64, 14, 14, 128, 3, 3, 1, 1, 1, 1)


def groups(subject, layer):
    return [case.group for case in engine.CASES[subject]("table", layer)]


# ---------------------------------------------------------------- layers and groups
def test_each_shape_once():
    layers = convs.conv_layers()
    every = {layer._replace(name="", count=0) for table in shapes.tables() for layer in shapes.load(table) if layer.op == "conv"}
    assert len(layers) == len(every) == len({layer._replace(name="", count=0) for _, layer in layers})
    assert [layer.name for _, layer in convs.conv_layers(("vgg16",), ("conv5_1",))] == ["conv5_1"]
    with pytest.raises(ValueError, match="nowhere"):
        convs.conv_layers(names=("nowhere",))


def test_every_layer_is_in_a_group_of_each_direction():
    for _, layer in convs.conv_layers():
        forward = {"first"} if layer.C == 3 else {"forward", "prepared"}
        wanted = {"depthwise"} if layer.groups > 1 else forward | {"input", "weight"}
        assert {subject for subject in engine.CASES if groups(subject, layer)} - {"threads"} == wanted, layer


def test_groups_that_figures_are_asked_for():
    assert groups("forward", WIDE) == [engine.FORWARD, "forward, functional call, batch 1"]
    assert groups("prepared", WIDE) == [engine.PREPARED]
    assert groups("input", WIDE._replace(stride=2)) == ["input, stride 2, batch 8", "input, stride 2, batch 1"]
    assert groups("weight", WIDE) == ["weight, batch 8"]
    assert groups("weight", WIDE._replace(H=7, W=7)) == ["weight, batch 8", "weight, one 7x7 image"]
    assert groups("weight", engine.ALEXNET[1]) == ["weight, C = 3"] and groups("first", engine.ALEXNET[1]) == [engine.FIRST]
    assert {case.group for subject in engine.CASES for case in engine.cases(subject)} >= set(engine.SHARES)
    assert [case.layer.N for case in engine.CASES["forward"]("table", WIDE)] == [16, 1]


def test_goals():
    assert engine.goal(engine.PREPARED, "float32") == (0.90, 0.70, "%", True)
    assert engine.goal("weight, C = 3", "float64") == (0.50, 0.50, "%", True)
    assert engine.goal("forward, functional call, batch 1", "float32") == (None, None, "%", True)
    assert not engine.goal(engine.WARM, "all").at_least


def test_goals_of_avx2():
    """The same layers in two groups each; layers that nothing is asked for stay where they are."""
    for subject in engine.CASES:
        for wide, narrow in zip(engine.cases(subject), engine.cases(subject, isa="avx2"), strict=True):
            plain = (wide.layer.KH, wide.layer.stride) == (3, 1)
            part = f", {'3x3 stride 1' if plain else 'the rest'}" if wide.group in engine.SHARES else ""
            assert narrow.group == wide.group + part
            if part:
                assert engine.goal(narrow.group, "float64").median == (0.80 if plain else 0.65)


def test_a_miss_is_marked_and_the_worst_comes_first():
    rows = [engine.Row(engine.PREPARED, "float32", name, share, "") for name, share in (("a", 0.95), ("b", 0.6), ("c", 0.91))]
    head, first, *_ = engine.lines(rows)
    assert "median 91.0 % (asked: at least 90 %), worst 60.0 % (< asked: at least 70 %), 3 rows" in head
    assert first.split() == ["60.0", "%", "<", "b"]
    slow = [engine.Row(engine.TINY, "float32", name, us, "") for name, us in (("a", 2.0), ("b", 9.0))]
    assert "worst 9.00 us (< asked: at most 3.50 us)" in engine.lines(slow)[0]


# ---------------------------------------------------------------- against peers
def test_geometric_mean():
    assert peers.geometric_mean([0.5, 2.0, 8.0]) == pytest.approx(2.0)


def test_layers_with_a_batch_of_their_own_come_once():
    assert {layer.N for _, layer in peers.layers(["vgg16"], (), 16, [1, 16])} == {16}
    course = peers.layers(["cs231n"], (), 1, [1, 16])
    assert {layer.N for _, layer in course} > {2, 100} and not peers.layers(["cs231n"], (), 16, [1, 16])


def test_summary():
    race = peers.Race("table", "a", "a", "forward", "float32", 1, False, 1.0, 1.0, 2.0, None, 1.0, 1.0)
    depthwise = race._replace(what="b", depthwise=True, multiple=0.5, channels_last=1.5)
    every, alone, last = peers.summary([race, depthwise])
    assert "geometric mean 1.000 x (< asked: at least 1.1 x); worst 0.500 x (< asked: at least 0.95 x), b; 2 layers, 1 below" in every
    assert "worst 0.500 x (< asked: at least 1.8 x)" in alone and "worst 1.500 x (asked: at least 1 x)" in last
    assert "asked" not in "".join(peers.summary([race, depthwise], against_torch=False))


# ---------------------------------------------------------------- the proof
def answer(given, direction):
    """The plain loops' result of one direction."""
    if direction == "forward":
        return naive.conv2d(given.x, given.weight, given.bias, **given.options)
    gradients = naive.conv2d_backward(given.dout, given.x, given.weight, given.bias, **given.options)
    return tuple(g if wanted else None for g, wanted in zip(gradients, convs.NEED[direction]))


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("direction", ["forward", "input", "weight", "backward"])
@pytest.mark.parametrize("layer", [SMALL, SMALL._replace(KW=3, stride=1, padding=0), SMALL._replace(KH=1, KW=1, padding=0)])
def test_the_proof_takes_the_right_answer_and_no_other(layer, direction, whole):
    given = convs.problem(layer, "float64", direction)
    right = answer(given, direction)
    assert convs.prove(given, direction, right, whole=whole) < 1e-13
    results = right if isinstance(right, tuple) else (right,)
    for number, result in enumerate(results):
        if result is None:
            continue
        for place in (0, result.size // 2, -1):
            wrong = result.copy()
            wrong.reshape(-1)[place] += 1e-3
            changed = tuple(wrong if i == number else r for i, r in enumerate(results))
            with pytest.raises(AssertionError):
                convs.prove(given, direction, changed if isinstance(right, tuple) else wrong, whole=whole)
        with pytest.raises(AssertionError):
            convs.prove(given, direction, tuple(r if i != number else r.astype("float32") for i, r in enumerate(results)), whole=whole)


def test_the_proof_of_a_depthwise_layer():
    given = convs.problem(SMALL._replace(F=10, groups=5), "float64", "backward")
    assert convs.prove(given, "backward", answer(given, "backward")) < 1e-13
    assert convs.prove(given, "forward", answer(given, "forward")) < 1e-13


# ---------------------------------------------------------------- the scripts
def script(*words):
    done = subprocess.run([sys.executable, *map(str, words)], cwd=ROOT, capture_output=True, text=True, timeout=180)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


def test_engine_runs(tmp_path):
    printed = script("bench/engine.py", "--quick", "--only", "tiny", "--json", tmp_path / "engine.json")
    assert "conv2d(x, weight)" in printed and "asked: at most 3.50 us" in printed
    saved = json.loads((tmp_path / "engine.json").read_text())
    assert all(row["value"] > 0 for row in saved["rows"]) and saved["machine"]["instruction set"]


def test_peers_runs(tmp_path):
    pytest.importorskip("torch", reason="needs the extra `peers`: pip install fastconv[peers]")
    printed = script("bench/peers.py", "--layers", "gradient_conv", "dw_960x7", "--seconds", "0", "--json", tmp_path / "peers.json")
    assert "channels last:" in printed and "of its time" in printed
    rows = json.loads((tmp_path / "peers.json").read_text())["rows"]
    assert [(row["direction"], row["layer"]) for row in rows] == [
        (direction, layer) for direction in ("forward", "backward") for layer in ("gradient_conv", "dw_960x7")]
    assert all(np.isfinite(row["multiple"]) for row in rows)


# ---------------------------------------------------------------- whole networks
def test_networks_are_those_of_the_papers():
    assert [sum(step.weight is not None for step in network().steps) for network in (stacks.vgg16, stacks.resnet50)] == [13, 53]
    weights = sum(step.weight.size for step in stacks.resnet50().steps if step.weight is not None)
    assert weights == 25_557_032 - 2_049_000 - 53_120                # torchvision's ResNet-50 without its head and its batch norms


def test_layers_of_a_network_write_only_where_no_later_one_reads():
    """A stem, a pool, and two blocks, of which the first needs a shortcut: again and again the same, that of plain loops."""
    network, image = stacks.Network(), np.random.default_rng(0).standard_normal((1, 3, 9, 9)).astype(np.float32)
    value = network.pool(network.conv(0, 3, 4, 3), 2)
    for C, stride in ((4, 2), (6, 1)):
        shortcut = network.conv(value, C, 6, 1, stride, relu=False) if stride > 1 else value
        value = network.conv(network.conv(value, C, 5, 3, stride), 5, 6, 1, residual=shortcut)
    values = [image.astype(np.float64)]
    for step in network.steps:
        if step.weight is None:
            y = naive.max_pool2d(values[step.source], step.kernel, step.stride, step.padding)
        else:
            y = naive.conv2d(values[step.source], step.weight.astype(np.float64), step.bias.astype(np.float64), step.stride, step.padding)
            y = y if step.residual is None else y + values[step.residual]
            y = np.maximum(y, 0) if step.relu else y
        values.append(y)
    run = stacks.of_fastconv(network, image)
    for _ in range(3):
        assert np.abs(run() - values[-1]).max() <= 1e-5 * np.abs(values[-1]).max()
