"""`fastconv train`, on few of the digits: what it writes, how it goes on after it was killed, and what it says of wrong arguments."""
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import fastconv
from fastconv import cli
from fastconv.cs231n import checkpoint
from fastconv.testing import assert_same
from fastconv.training import data, picture, run

# Killed in the third epoch.
KILLED = """
import os, signal, sys
from fastconv.training import data
whole = data.images
def few(folder):
    images, classes = whole(folder)
    return {name: array[:200] for name, array in images.items()}, classes
data.images = few
from fastconv import cli
from fastconv.training import run
step = run._Solver._step
def step_or_die(solver):
    if len(solver.loss_history) == 5:
        os.kill(os.getpid(), signal.SIGKILL)
    step(solver)
run._Solver._step = step_or_die
cli.main(["train", "--model", "fc", "--epochs", "4", "--output", sys.argv[1]])
"""


@pytest.fixture(scope="module")
def digits():
    return data.images(None)


@pytest.fixture
def few(digits, monkeypatch):
    images, classes = digits
    cut = {name: array[:200] for name, array in images.items()}
    monkeypatch.setattr(data, "images", lambda folder: (cut, classes))


def trained(folder, *arguments, model="fc", epochs=4):
    return cli.main(["train", "--model", model, "--epochs", str(epochs), "--output", str(folder), *map(str, arguments)])


def test_the_digits_held_out_are_a_fifth_and_others_than_those_trained_on(digits):
    images, classes = digits
    assert images["X_train"].shape == (17500, 1, 28, 28) and images["X_test"].shape == (1000, 1, 28, 28) and len(classes) == 10
    assert all(array.dtype == np.float32 for name, array in images.items() if name[0] == "X")
    seen = {image.tobytes() for image in images["X_train"][:3500]}
    assert len(seen) == 3500 and not any(image.tobytes() in seen for image in images["X_test"])


def test_shifted_images_are_moved_by_two_pixels_at_most():
    X = np.random.default_rng(0).random((20, 2, 6, 7), np.float32)
    moved = data.shifted(X, np.random.default_rng(1))
    padded = np.pad(X, ((0, 0), (0, 0), (2, 2), (2, 2)), mode="edge")
    found = [[(i, j) for i in range(5) for j in range(5) if np.array_equal(m, p[:, i : i + 6, j : j + 7])] for m, p in zip(moved, padded)]
    assert all(len(places) == 1 for places in found) and len({places[0] for places in found}) > 5


def test_a_training_writes_checkpoint_history_and_picture(few, tmp_path, capsys):
    assert trained(tmp_path / "new" / "folder", model="convnet", epochs=6) == 0
    folder = tmp_path / "new" / "folder"
    assert sorted(path.name for path in folder.iterdir()) == ["checkpoint.npz", "history.json", "picture.png"]
    history = json.loads((folder / run.HISTORY).read_text())
    assert (history["model"], history["data"], history["epochs"]) == ("convnet", "digits", 6)
    assert len(history["loss_history"]) == 12 and len(history["val_acc_history"]) == 7
    assert history["loss_history"][-1] < 0.9 * history["loss_history"][0] and history["test_accuracy"] > 0.4
    with Image.open(folder / run.PICTURE) as image:
        assert image.size == (1300, 820) and len(image.convert("RGB").getcolors(2**20)) > 500
    said = capsys.readouterr().out
    assert f"epoch 6 of 6: loss {np.mean(history['loss_history'][-2:]):.3f}" in said
    assert f"{history['test_accuracy']:.1%} of 200 test images are right" in said and str(folder / run.PICTURE) in said


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL on this system")
def test_a_killed_training_goes_on_bit_for_bit(few, tmp_path, capsys):
    environment = {**os.environ, "PYTHONPATH": str(Path(fastconv.__file__).parents[1])}
    killed = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path / "killed")], check=False, capture_output=True, timeout=120, env=environment)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert [path.name for path in (tmp_path / "killed").iterdir()] == ["checkpoint.npz"]
    assert trained(tmp_path / "killed") == trained(tmp_path / "whole") == 0
    assert f"going on after epoch 2, from {tmp_path / 'killed'}" in capsys.readouterr().out
    killed, whole = (checkpoint.load(tmp_path / name / run.CHECKPOINT) for name in ("killed", "whole"))
    assert_same(killed["params"], whole["params"], exact=True)
    assert killed["loss_history"] == whole["loss_history"] and len(whole["loss_history"]) == 8
    for name in (run.HISTORY, run.PICTURE):
        assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_more_epochs_go_on_and_fewer_train_no_more(few, tmp_path, capsys):
    assert trained(tmp_path, epochs=2) == 0
    capsys.readouterr()
    assert trained(tmp_path, epochs=1) == 0
    assert "has 2 epochs already" in capsys.readouterr().out
    assert json.loads((tmp_path / run.HISTORY).read_text())["epochs"] == 2
    assert trained(tmp_path, epochs=3) == 0
    assert "going on after epoch 2" in capsys.readouterr().out
    assert len(json.loads((tmp_path / run.HISTORY).read_text())["loss_history"]) == 6


def test_a_checkpoint_of_another_model_or_a_damaged_one_is_left_alone(few, tmp_path, capsys):
    assert trained(tmp_path, epochs=1) == 0
    path = tmp_path / run.CHECKPOINT
    for complaint in ("holds a FullyConnectedNet", "is not a checkpoint, or it is damaged"):
        before = path.read_bytes()
        capsys.readouterr()
        assert trained(tmp_path, model="convnet") == 2
        said = capsys.readouterr().err
        assert said.startswith(f"fastconv train: {path} {complaint}") and said.endswith("give another --output, to begin anew\n")
        assert path.read_bytes() == before
        path.write_bytes(before[: len(before) // 2])


def test_a_loss_that_is_not_finite_ends_the_training(few, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(run.FullyConnectedNet, "loss", lambda self, X, y=None: (np.nan, self.params))
    assert trained(tmp_path) == 2
    assert capsys.readouterr().err == "fastconv train: the loss has become nan at step 1, so training ends\n"


def test_missing_and_incomplete_cifar_folders(tmp_path, capsys):
    assert trained(tmp_path / "out", "--data", tmp_path / "nowhere") == 2
    assert f"{tmp_path / 'nowhere'} lacks data_batch_1, data_batch_2" in capsys.readouterr().err
    (tmp_path / "data_batch_1").write_bytes(b"")
    assert trained(tmp_path / "out", "--data", tmp_path) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"fastconv train: {tmp_path} lacks data_batch_2") and "cs.toronto.edu" in said and said.count("\n") == 1


def test_an_output_that_cannot_be_written(tmp_path, capsys):
    file = tmp_path / "file"
    file.write_text("mine")
    assert trained(file) == trained(file / "folder") == 2
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 2 and all(line.startswith(f"fastconv train: cannot write to {file}") for line in said)
    assert file.read_text() == "mine"


@pytest.mark.parametrize("arguments", [["--epochs", "0"], ["--epochs", "two"], ["--model", "resnet"]])
def test_wrong_arguments(arguments, capsys):
    with pytest.raises(SystemExit) as stopped:
        cli.main(["train", *arguments])
    assert stopped.value.code == 2 and arguments[1] in capsys.readouterr().err


@pytest.mark.parametrize("module", ["matplotlib", "mlxtend"])
def test_a_missing_extra(module, monkeypatch, tmp_path, capsys):
    monkeypatch.setitem(sys.modules, module, None)
    assert trained(tmp_path / "out") == 2
    assert capsys.readouterr().err == f'fastconv train: needs {module}, which is not installed: pip install "fastconv[examples]"\n'
    assert not (tmp_path / "out").exists()


def test_models_and_confusion():
    assert cli.MODELS == run.MODELS
    assert picture.confusion(np.array([0, 0, 2]), np.array([1, 0, 2]), 3).tolist() == [[1, 1, 0], [0, 0, 0], [0, 0, 1]]


def test_pictures_of_colour_images_with_long_names_and_of_no_mistake(tmp_path):
    """And of a VGG, whose images are CIFAR-10's."""
    class Trained:
        model = run._network("vgg11", (3, 32, 32), 10)
        loss_history, train_acc_history, val_acc_history, epoch = [2.3, 1.0], [0.1, 1.0], [0.1, 1.0], 1

    X, y = np.random.default_rng(0).standard_normal((10, 3, 32, 32)), np.arange(10)
    for predicted in (y, (y + 1) % 10):
        with open(tmp_path / "picture.png", "wb") as file:
            picture.draw(file, Trained(), X, y, predicted, data.CIFAR10)
        with Image.open(tmp_path / "picture.png") as image:
            assert image.size == (1300, 820)
