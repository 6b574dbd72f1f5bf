"""CS231n's networks: the notebooks' checks, and every gradient against numerical ones in float64."""
import inspect

import numpy as np
import pytest
from cs231n_checks import check_network, normal

from fastconv.cs231n import checkpoint
from fastconv.cs231n.classifiers import cnn, fc_net, neural_net
from fastconv.cs231n.classifiers.cnn import VGG, ThreeLayerConvNet
from fastconv.cs231n.classifiers.fc_net import FullyConnectedNet, TwoLayerNet
from fastconv.cs231n.losses import regularize
from fastconv.testing import assert_same


def labelled(*shape, classes=10, seed=0):
    return normal(*shape, seed=seed), np.random.default_rng(seed).integers(0, classes, shape[0])


def test_the_course_s_arguments():
    def written(function, count):
        parameters = list(inspect.signature(function).parameters.values())[:count]
        return " ".join(p.name if p.default is p.empty else f"{p.name}={getattr(p.default, '__name__', p.default)}" for p in parameters)

    assert written(neural_net.TwoLayerNet, 9) == "input_size hidden_size output_size std=0.0001"
    assert written(TwoLayerNet, 9) == "input_dim=3072 hidden_dim=100 num_classes=10 weight_scale=0.001 reg=0.0"
    assert written(FullyConnectedNet, 9) == (
        "hidden_dims input_dim=3072 num_classes=10 dropout_keep_ratio=1 normalization=None reg=0.0 weight_scale=0.01 dtype=float32 seed=None"
    )
    assert written(ThreeLayerConvNet, 9) == (
        "input_dim=(3, 32, 32) num_filters=32 filter_size=7 hidden_dim=100 num_classes=10 weight_scale=0.001 reg=0.0 dtype=float32"
    )
    assert written(neural_net.TwoLayerNet.train, 11) == (
        "self X y X_val y_val learning_rate=0.001 learning_rate_decay=0.95 reg=5e-06 num_iters=100 batch_size=200 verbose=False"
    )


def test_import_star_gives_the_layers_too():
    """The notebook on dropout imports no more than fc_net."""
    assert {"dropout_forward", "affine_relu_backward", "batchnorm_backward_alt", "TwoLayerNet"} <= set(fc_net.__all__)
    assert {"conv_forward_naive", "max_pool_forward_fast", "conv_bn_relu_forward", "ThreeLayerConvNet", "VGG"} <= set(cnn.__all__)
    for module in (fc_net, cnn):
        assert all(hasattr(module, name) for name in module.__all__)


# --- assignment 1


def toy():
    np.random.seed(0)
    net = neural_net.TwoLayerNet(4, 10, 3, std=1e-1)
    np.random.seed(1)
    return net, 10 * np.random.randn(5, 4), np.array([0, 1, 2, 2, 1])


def test_notebook_toy_network():
    net, X, y = toy()
    printed = [
        [-0.81233741, -1.27654624, -0.70335995], [-0.17129677, -1.18803311, -0.47310444], [-0.51590475, -1.01354314, -0.8504215],
        [-0.15419291, -0.48629638, -0.52901952], [-0.00618733, -0.12435261, -0.15226949],
    ]
    assert np.sum(np.abs(net.loss(X) - printed)) < 1e-7
    loss, gradients = net.loss(X, y, reg=0.05)
    assert abs(loss - 1.30378789133) < 1e-11
    for name, gradient in gradients.items():
        w = net.params[name]
        for place in np.ndindex(w.shape):
            value = w[place]
            sides = []
            for step in (1e-5, -1e-5):
                w[place] = value + step
                sides.append(net.loss(X, y, reg=0.05)[0])
            w[place] = value
            assert abs((sides[0] - sides[1]) / 2e-5 - gradient[place]) < 1e-8


def test_notebook_toy_training(capsys):
    net, X, y = toy()
    stats = net.train(X, y, X, y, learning_rate=1e-1, reg=5e-6, num_iters=101, verbose=True)
    assert stats["loss_history"][-1] < 0.02
    assert len(stats["loss_history"]) == len(stats["train_acc_history"]) == len(stats["val_acc_history"]) == 101
    assert np.array_equal(net.predict(X), y)
    assert [line.split(":")[0] for line in capsys.readouterr().out.splitlines()] == ["iteration 0 / 101", "iteration 100 / 101"]
    rates = neural_net.TwoLayerNet(4, 10, 3)
    before = rates.params["W1"].copy()
    rates.train(X, y, X, y, learning_rate=1.0, learning_rate_decay=0.0, num_iters=1, batch_size=2)
    after = rates.params["W1"].copy()
    assert not np.array_equal(before, after)


def test_learning_rate_decays_each_epoch():
    net, X, y = toy()
    stats = net.train(X, y, X, y, learning_rate=1e-1, learning_rate_decay=0.0, num_iters=5, batch_size=2)
    assert len(stats["val_acc_history"]) == 3  # steps 0, 2 and 4
    kept = {name: w.copy() for name, w in net.params.items()}
    net.train(X, y, X, y, learning_rate=0.0, num_iters=3)
    assert_same(net.params, kept, exact=True)


# --- fully connected


def test_notebook_two_layers():
    model = TwoLayerNet(input_dim=5, hidden_dim=50, num_classes=7, weight_scale=1e-3)
    assert abs(model.params["W1"].std() - 1e-3) < 1e-4
    model.params["W1"] = np.linspace(-0.7, 0.3, num=250).reshape(5, 50)
    model.params["b1"] = np.linspace(-0.1, 0.9, num=50)
    model.params["W2"] = np.linspace(-0.3, 0.4, num=350).reshape(50, 7)
    model.params["b2"] = np.linspace(-0.9, 0.1, num=7)
    X, y = np.linspace(-5.5, 4.5, num=15).reshape(5, 3).T, np.array([0, 5, 1])
    assert np.allclose(model.loss(X)[:, [0, 6]], [[11.53165108, 16.09215096], [12.05769098, 16.18839143], [12.58373087, 16.2846329]], atol=1e-5)
    assert abs(model.loss(X, y)[0] - 3.4702243556) < 1e-10
    model.reg = 1.0
    assert abs(model.loss(X, y)[0] - 26.5948426952) < 1e-10
    for reg in (0.0, 0.7):
        model.reg = reg
        check_network(model, X, y)


@pytest.mark.parametrize("reg", [0, 3.14])
@pytest.mark.parametrize("normalization", [None, "batchnorm", "layernorm"])
def test_fully_connected_gradients(reg, normalization):
    np.random.seed(231)
    X, y = labelled(5, 3, 4)
    model = FullyConnectedNet([7, 6], 12, 10, normalization=normalization, reg=reg, weight_scale=0.5, dtype=np.float64)
    check_network(model, X, y)


def test_notebook_initial_losses():
    np.random.seed(231)
    X, y = np.random.randn(2, 15), np.random.randint(10, size=2)
    for reg, printed in ((0, 2.3004790897684924), (3.14, 7.052114776533016)):
        loss, _ = FullyConnectedNet([20, 30], 15, 10, reg=reg, weight_scale=5e-2, dtype=np.float64).loss(X, y)
        assert abs(loss - printed) < 1e-12


@pytest.mark.parametrize("keep", [0.75, 0.5])
def test_dropout_gradients(keep):
    X, y = labelled(4, 9)
    model = FullyConnectedNet([8, 6], 9, 10, dropout_keep_ratio=keep, weight_scale=0.5, dtype=np.float64, seed=123)
    for name in ("b1", "b2"):  # where dropout takes everything, a bias of zero would sit on ReLU's kink
        model.params[name] = normal(*model.params[name].shape)
    check_network(model, X, y)
    assert model.use_dropout
    assert model.loss(X, y)[0] != FullyConnectedNet.loss(_without_dropout(model), X, y)[0]


def _without_dropout(model):
    plain = FullyConnectedNet([8, 6], 9, 10, dtype=np.float64)
    plain.params = model.params
    return plain


@pytest.mark.parametrize("off", [0, 1, None, 1.0])
def test_no_dropout(off):
    X, y = labelled(4, 9)
    for kwargs in ({"dropout": off}, {"dropout_keep_ratio": off}):
        model = FullyConnectedNet([8, 6], 9, 10, weight_scale=0.5, dtype=np.float64, **kwargs)
        assert not model.use_dropout
        assert model.loss(X, y)[0] == _without_dropout(model).loss(X, y)[0]


def test_dropout_by_its_two_names():
    assert FullyConnectedNet([4], 3, dropout=0.3).dropout_param == FullyConnectedNet([4], 3, 10, 0.3).dropout_param == {"mode": "train", "p": 0.3}
    with pytest.raises(ValueError, match="one of them"):
        FullyConnectedNet([4], dropout=0.3, dropout_keep_ratio=0.4)
    with pytest.raises(ValueError, match="from 0 to 1"):
        FullyConnectedNet([4], dropout=1.5)


def test_normalisation_by_its_names():
    for name, kind in (("batch", "batchnorm"), ("layer", "layernorm"), (True, "batchnorm"), (False, None), ("layernorm", "layernorm")):
        assert FullyConnectedNet([4], 3, normalization=name).normalization == kind
    assert FullyConnectedNet([4], 3, use_batchnorm=True).normalization == "batchnorm"
    assert FullyConnectedNet([4, 4], 3, use_batchnorm=True).bn_params == [{"mode": "train"}] * 2
    with pytest.raises(ValueError, match="'spectral'"):
        FullyConnectedNet([4], normalization="spectral")


def test_depths_and_dtypes():
    X, y = labelled(3, 6)
    for depth in (0, 1, 4):
        model = FullyConnectedNet([5] * depth, 6, 10)
        assert model.num_layers == depth + 1
        assert model.loss(X).shape == (3, 10)
        _, gradients = model.loss(X, y)
        assert {a.dtype for a in (*model.params.values(), *gradients.values(), model.loss(X))} == {np.dtype(np.float32)}


def test_parameters_of_shape_1_by_d():
    X, y = labelled(5, 6)
    np.random.seed(3)
    model = FullyConnectedNet([7, 4], 6, 10, normalization="batchnorm", weight_scale=0.5, dtype=np.float64, reg=0.1)
    loss, gradients = model.loss(X, y)
    for name, w in model.params.items():
        if not name.startswith("W"):
            model.params[name] = w.reshape(1, -1)
    rows_loss, rows_gradients = model.loss(X, y)
    assert rows_loss == loss
    for name, gradient in rows_gradients.items():
        assert gradient.shape == model.params[name].shape
        assert np.array_equal(gradient.ravel(), gradients[name].ravel())


def test_modes():
    """Scores are those of test mode, of running averages and without dropout, and leave the averages alone."""
    X, y = labelled(50, 6)
    model = FullyConnectedNet([7], 6, 10, 0.5, "batchnorm", weight_scale=0.5, dtype=np.float64)
    for _ in range(3):
        model.loss(X, y)
    average = model.bn_params[0]["running_mean"].copy()
    assert np.array_equal(model.loss(X), model.loss(X))
    assert np.allclose(model.loss(X[:1]), model.loss(X)[:1])
    assert np.array_equal(model.bn_params[0]["running_mean"], average)
    assert model.loss(X, y)[0] != model.loss(X, y)[0]
    assert not np.array_equal(model.bn_params[0]["running_mean"], average)


def test_saved_and_loaded(tmp_path, capsys):
    X, y = labelled(8, 6)
    model, other = (FullyConnectedNet([7], 6, 10, normalization="batchnorm") for _ in range(2))
    model.loss(X, y)
    model.save(tmp_path / "best.npy")
    assert other.load(tmp_path / "best.npy")
    assert np.array_equal(other.loss(X), model.loss(X))
    assert not other.load(tmp_path / "none.npy")
    assert [line.split()[-1] for line in capsys.readouterr().out.splitlines()] == ["saved.", "loaded.", "available."]
    untrained = FullyConnectedNet([7], 6, 10, normalization="batchnorm")
    untrained.save(tmp_path / "untrained.npy")
    assert other.load(tmp_path / "untrained.npy") and np.array_equal(other.loss(X), untrained.loss(X))     # no running averages of before
    wide = FullyConnectedNet([7], 6, 10, normalization="batchnorm", dtype=np.float64)
    assert wide.load(tmp_path / "best.npy")
    assert {w.dtype for w in wide.params.values()} == {np.dtype(np.float64)}


@pytest.mark.parametrize("other, says", [
    (lambda: FullyConnectedNet([8], 6, 10, normalization="batchnorm"), r"'W1': \(6, 7\).*wanted: a FullyConnectedNet with .*'W1': \(6, 8\)"),
    (lambda: TwoLayerNet(6, 7, 10), r"'gamma1'.*wanted: a TwoLayerNet with "),
    (lambda: FullyConnectedNet([7], 6, 10, normalization="layernorm"), r"by \['batch'\]; wanted: a FullyConnectedNet by \['layer'\]"),
])
def test_weights_of_another_network_are_refused(tmp_path, other, says):
    FullyConnectedNet([7], 6, 10, normalization="batchnorm").save(tmp_path / "w.npz")
    found = other()
    before = dict(found.params)
    with pytest.raises(ValueError, match=says):
        found.load(tmp_path / "w.npz")
    assert all(w is before[name] for name, w in found.params.items())


def test_a_file_of_another_kind_is_refused(tmp_path):
    np.savez(tmp_path / "a.npz", W1=np.ones(3))
    checkpoint.save(tmp_path / "b.npz", {"weights": 1})
    checkpoint.save(tmp_path / "c.npz", {"params": 1, "bn_params": []})
    checkpoint.save(tmp_path / "d.npz", {"params": {}, "bn_params": [3]})
    for name, says in (("a.npz", "is not a checkpoint"), ("b.npz", "has no params, bn_params"), ("c.npz", "no network"), ("d.npz", "no network")):
        with pytest.raises(ValueError, match=says):
            TwoLayerNet().load(tmp_path / name)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [(3, 5), (700, 61), (0, 4)])
def test_regularisation_in_one_pass(shape, dtype):
    w, dw = normal(*shape).astype(dtype), normal(*shape, seed=1).astype(dtype)
    before, wanted, squares = w.copy(), dw + dtype(0.3) * w, np.sum(w.astype(np.float64) ** 2)
    for layout in (np.array, np.asfortranarray):
        found = np.array(dw)
        total = regularize(layout(w), found, 0.3)
        assert_same(found, wanted, tolerance=1e-6 if dtype == np.float32 else 1e-15)
        assert abs(total - squares) <= (1e-6 if dtype == np.float32 else 1e-14) * squares
    assert np.array_equal(w, before)


# --- convolutional


def test_notebook_convolutional_losses():
    np.random.seed(0)
    X, y = np.random.randn(50, 3, 32, 32), np.random.randint(10, size=50)
    model = ThreeLayerConvNet()
    assert abs(model.loss(X, y)[0] - np.log(10)) < 1e-3
    model.reg = 0.5
    assert 2.4 < model.loss(X, y)[0] < 2.6


@pytest.mark.parametrize("input_dim", [(3, 8, 8), (1, 7, 10)])
def test_three_layers(input_dim):
    np.random.seed(231)
    X, y = labelled(2, *input_dim)
    model = ThreeLayerConvNet(input_dim, 3, 3, 7, weight_scale=0.3, reg=0.1, dtype=np.float64)
    check_network(model, X, y)


def test_filters_of_even_size_are_refused():
    with pytest.raises(ValueError, match="filter_size is 4"):
        ThreeLayerConvNet(filter_size=4)


@pytest.mark.parametrize("normalization", [None, "batchnorm", "layernorm"])
def test_vgg_gradients(normalization):
    np.random.seed(2)
    X, y = labelled(3, 2, 6, 9, classes=4)
    model = VGG([(3, 2), (4,)], (2, 6, 9), 4, (5,), normalization, 0.7, reg=0.2, dtype=np.float64, seed=11)
    check_network(model, X, y, h=1e-6)


@pytest.mark.parametrize(("name", "layers"), [("vgg11", 11), ("vgg13", 13), ("vgg16", 16), ("vgg19", 19)])
def test_vgg_by_name(name, layers, monkeypatch):
    """The number in the name counts layers with weights, in a network with ImageNet's head."""
    monkeypatch.setattr(cnn, "BLOCKS", {name: tuple(tuple(f // 32 for f in block) for block in cnn.BLOCKS[name])})
    model = VGG(name, (3, 20, 40), 5, (6, 6), "batchnorm")
    assert sum(key.startswith("W") for key in model.params) == layers
    assert sum(w.ndim == 4 for w in model.params.values()) == layers - 3
    assert model.params[f"W{layers - 2}"].shape == (16 * 1 * 1, 6)
    X, y = labelled(2, 3, 20, 40, classes=5)
    _, gradients = model.loss(X, y)
    assert gradients.keys() == model.params.keys()
    assert all(np.isfinite(gradient).all() for gradient in gradients.values())
    assert model.loss(X).shape == (2, 5)


def test_filters_of_vgg():
    assert [sum(map(len, cnn.BLOCKS[name])) for name in cnn.BLOCKS] == [8, 10, 13, 16]
    for blocks in cnn.BLOCKS.values():
        assert [set(block) for block in blocks] == [{64}, {128}, {256}, {512}, {512}]
    with pytest.raises(ValueError, match="vgg12"):
        VGG("vgg12")


def test_inputs_and_weights_are_not_written():
    X, y = labelled(2, 3, 8, 8)
    for model in (ThreeLayerConvNet((3, 8, 8), 2, 3, 4, dtype=np.float64), VGG([(2,)], (3, 8, 8), normalization="batchnorm", dtype=np.float64)):
        for array in (X, *model.params.values()):
            array.flags.writeable = False
        model.loss(X, y)
        model.loss(X)


def test_layers_without_inputs_of_their_own_skip_that_gradient(monkeypatch):
    """No step computes the gradient to the images."""
    from fastconv.cs231n import fast_layers

    asked = []
    original = fast_layers.conv2d_backward
    monkeypatch.setattr(fast_layers, "conv2d_backward", lambda *a, **k: asked.append(k.get("need")) or original(*a, **k))
    X, y = labelled(2, 3, 8, 8)
    VGG([(2,), (2,)], (3, 8, 8)).loss(X, y)
    assert asked == [None, (False, True, True)]
