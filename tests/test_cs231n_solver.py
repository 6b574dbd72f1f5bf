"""CS231n's Solver, and the checkpoints it resumes from."""
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from cs231n_checks import normal
from isolated import ROOT

from fastconv.cs231n import checkpoint
from fastconv.cs231n.classifiers.fc_net import FullyConnectedNet, TwoLayerNet
from fastconv.cs231n.solver import Solver
from fastconv.testing import assert_same


def examples(count=60, seed=0):
    """Three classes of points that a line can tell apart."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 3, count)
    return (normal(3, 8)[y] * 3 + rng.standard_normal((count, 8))).astype(np.float32), y


def data():
    (X_train, y_train), (X_val, y_val) = examples(), examples(30, 1)
    return {"X_train": X_train, "y_train": y_train, "X_val": X_val, "y_val": y_val}


def network(**kwargs):
    np.random.seed(5)
    return FullyConnectedNet([12, 7], 8, 3, dropout_keep_ratio=0.8, normalization="batchnorm", weight_scale=0.3, **kwargs)


def solver(model, **kwargs):
    settings = {"update_rule": "adam", "optim_config": {"learning_rate": 5e-3}, "lr_decay": 0.9, "num_epochs": 6, "batch_size": 20}
    return Solver(model, data(), **{**settings, "num_train_samples": 40, "print_every": 2, **kwargs})


def test_it_learns_and_keeps_the_histories(capsys):
    model = network()
    found = solver(model, num_epochs=20)
    found.train()
    assert len(found.loss_history) == 60
    assert len(found.train_acc_history) == len(found.val_acc_history) == 21
    assert found.epoch == 20
    assert found.val_acc_history[-1] > 0.9
    assert np.mean(found.loss_history[-5:]) < 0.7 * found.loss_history[0]
    assert found.best_val_acc == max(found.val_acc_history)
    assert model.params is found.best_params
    assert found.check_accuracy(found.X_val, found.y_val) == found.best_val_acc
    assert abs(found.optim_configs["W1"]["learning_rate"] - 5e-3 * 0.9**20) < 1e-12
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("(Iteration 1 / 60) loss: ")
    assert lines[1].startswith("(Epoch 0 / 20) train acc: ")
    assert sum(line.startswith("(Iteration") for line in lines) == 30
    assert sum(line.startswith("(Epoch") for line in lines) == 21
    assert not any("\x1b" in line or "\r" in line for line in lines)  # no bar


def test_the_best_weights_are_kept():
    """A learning rate that grows until all is lost: the weights of the best epoch come back, with their running averages."""
    found = solver(network(), lr_decay=12.0, num_epochs=9, verbose=False)
    found.train()
    assert found.val_acc_history[-1] < found.best_val_acc
    assert found.check_accuracy(found.X_val, found.y_val) == found.best_val_acc


def test_a_model_that_is_never_right_keeps_its_weights():
    model = TwoLayerNet(8, 4, 3)
    found = solver(model, num_epochs=1, verbose=False)
    found.y_val = np.full(30, 5)
    found.train()
    assert found.best_val_acc == 0
    assert model.params.keys() == {"W1", "b1", "W2", "b2"}


def test_check_accuracy():
    model = TwoLayerNet(8, 4, 3)
    found = solver(model, verbose=False)
    X, y = examples(45)
    right = np.mean(np.argmax(model.loss(X), axis=1) == y)
    assert found.check_accuracy(X, y) == found.check_accuracy(X, y, batch_size=7) == right
    seen = []
    model.loss = lambda X: seen.append(len(X)) or np.zeros((len(X), 3))
    found.check_accuracy(X, y, num_samples=25, batch_size=10)
    assert seen == [10, 10, 5]
    assert np.isnan(found.check_accuracy(X[:0], y[:0]))


def test_silence_and_defaults(capsys):
    found = Solver(TwoLayerNet(8, 4, 3), data(), verbose=False)
    found.train()
    assert capsys.readouterr().out == ""
    assert (found.lr_decay, found.batch_size, found.num_epochs, found.print_every) == (1.0, 100, 10, 10)
    assert (found.num_train_samples, found.num_val_samples, found.checkpoint_name, found.optim_config) == (1000, None, None, {})
    assert found.update_rule.__name__ == "sgd"
    assert len(found.loss_history) == 10  # fewer examples than a batch: one step an epoch


def test_unknown_arguments_and_rules():
    with pytest.raises(ValueError, match="'learning_rate'"):
        Solver(TwoLayerNet(8, 4, 3), data(), learning_rate=1)
    for rule in ("adagrad", "np", "_filled"):
        with pytest.raises(ValueError, match="update_rule"):
            Solver(TwoLayerNet(8, 4, 3), data(), update_rule=rule)


# --- checkpoints


@pytest.mark.parametrize("epoch", [0, 1, 4])
@pytest.mark.parametrize("rule", ["adam", "sgd_momentum"])
def test_resumed_bit_for_bit(tmp_path, epoch, rule):
    name = str(tmp_path / "run")
    whole = solver(network(), checkpoint_name=name, update_rule=rule, verbose=False)
    np.random.seed(77)
    whole.train()
    after = np.random.rand()
    np.random.seed(1)
    resumed = Solver(network(), data(), num_epochs=6, verbose=False)
    resumed.model.params["W1"] *= 0
    resumed.resume(f"{name}_epoch_{epoch}.npz")
    assert resumed.epoch == epoch
    resumed.train()
    assert np.random.rand() == after
    for history in ("loss_history", "train_acc_history", "val_acc_history", "best_val_acc"):
        assert getattr(resumed, history) == getattr(whole, history)
    assert_same(resumed.model.params, whole.model.params, exact=True)
    assert_same(resumed.model.bn_params, whole.model.bn_params, exact=True)
    assert_same(resumed.optim_configs, whole.optim_configs, exact=True)


def test_training_twice_trains_on():
    found = solver(network(), num_epochs=2, verbose=False)
    found.train()
    found.train()
    assert found.epoch == 4
    assert len(found.loss_history) == 12


def test_the_newest_checkpoint_is_found(tmp_path):
    name = str(tmp_path / "run[1]")
    solver(network(), checkpoint_name=name, num_epochs=11, verbose=False).train()
    (tmp_path / "run_epoch_99.npz").write_bytes(b"another run's")
    assert len(list(tmp_path.iterdir())) == 13
    resumed = solver(network(), checkpoint_name=name, num_epochs=12, verbose=False)
    resumed.resume()
    assert resumed.epoch == 11
    resumed.train()
    assert resumed.epoch == 12
    assert len(resumed.loss_history) == 36


def test_what_cannot_be_resumed(tmp_path):
    name = str(tmp_path / "run")
    found = solver(network(), checkpoint_name=name, num_epochs=1, verbose=False)
    with pytest.raises(FileNotFoundError, match="run_epoch_"):
        found.resume()
    with pytest.raises(ValueError, match="checkpoint_name"):
        solver(network(), verbose=False).resume()
    found.train()
    with pytest.raises(ValueError, match="FullyConnectedNet.*wanted: a TwoLayerNet"):
        solver(TwoLayerNet(8, 12, 3)).resume(f"{name}_epoch_1.npz")
    with pytest.raises(ValueError, match=r"a FullyConnectedNet with .*wanted: a FullyConnectedNet with .*'W1': \(8, 5\)"):
        solver(FullyConnectedNet([5], 8, 3)).resume(f"{name}_epoch_1.npz")
    found.model.save(tmp_path / "weights.npz")
    checkpoint.save(tmp_path / "list.npz", [1])
    for other in ("weights.npz", "list.npz"):
        with pytest.raises(ValueError, match="has no lr_decay.* of another kind; wanted: "):
            found.resume(tmp_path / other)
    damaged = tmp_path / "run_epoch_1.npz"
    damaged.write_bytes(damaged.read_bytes()[:-200])
    with pytest.raises(ValueError, match="damaged"):
        found.resume(damaged)


class Malice:
    def __reduce__(self):
        return print, ("the file ran code",)


def test_a_checkpoint_runs_no_code(tmp_path, capsys):
    np.savez(tmp_path / "a.npz", tree=np.array([Malice()], dtype=object))
    with pytest.raises(ValueError, match="not a checkpoint"):
        checkpoint.load(tmp_path / "a.npz")
    assert "ran code" not in capsys.readouterr().out
    with pytest.raises(TypeError, match="Malice"):
        checkpoint.save(tmp_path / "b.npz", {"a": Malice()})
    with pytest.raises(TypeError, match="ndarray"):
        checkpoint.save(tmp_path / "b.npz", {"a": np.array([None])})
    with pytest.raises(TypeError, match="keys"):
        checkpoint.save(tmp_path / "b.npz", {1: 2})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.npz"]


def test_states_come_back_as_they_were(tmp_path):
    state = {
        "nothing": None, "flag": True, "text": 'a "b" \u00e9', "numbers": [1, -(2**100), 0.1, float("inf"), 1e-320],
        "arrays": [np.arange(3), np.asfortranarray(normal(2, 3)), np.float32([np.nan]), np.zeros((0, 2))],
        "scalars": [np.float32(0.1), np.int64(3)], "nested": {"array": {"dict": [], "scalar": {}}},
    }
    checkpoint.save(tmp_path / "state.npz", state)
    back = checkpoint.load(tmp_path / "state.npz")
    assert_same(back, state, exact=True)
    assert type(back["scalars"][0]) is np.float32


def test_a_failing_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "state.npz"
    checkpoint.save(path, {"a": 1})

    def full(*args, **kwargs):
        args[0].write(b"the first half")
        raise OSError("no space left")

    monkeypatch.setattr(np, "savez", full)
    with pytest.raises(OSError, match="no space"):
        checkpoint.save(path, {"a": 2})
    assert checkpoint.load(path) == {"a": 1}
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.skipif(os.name == "nt", reason="kill -9 does not exist")
def test_killed_while_saving(tmp_path):
    """Whenever the process dies, a whole file is there."""
    program = (
        "import numpy as np\nfrom fastconv.cs231n import checkpoint\n"
        f"for n in range(10**6):\n    checkpoint.save({str(tmp_path / 's.npz')!r}, {{'n': n, 'a': np.full(200000, n)}})\n"
    )
    process = subprocess.Popen([sys.executable, "-c", program], cwd=ROOT)
    deadline = time.monotonic() + 60
    while not (tmp_path / "s.npz").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.2)
    process.send_signal(signal.SIGKILL)
    process.wait()
    state = checkpoint.load(tmp_path / "s.npz")
    assert (state["a"] == state["n"]).all()
