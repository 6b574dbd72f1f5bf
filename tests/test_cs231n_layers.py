"""CS231n's affine, ReLU, dropout, normalisation and loss layers, and layer_utils: the notebooks' checks and what they leave out."""
import inspect

import numpy as np
import pytest
from cs231n_checks import check_layer, normal, ramp, relative

from fastconv.cs231n import layer_utils, layers
from fastconv.cs231n.gradient_check import eval_numerical_gradient
from fastconv.testing import assert_same

SIGNATURES = {
    "affine_forward": "x w b",
    "relu_forward": "x",
    "dropout_forward": "x dropout_param",
    "layernorm_forward": "x gamma beta ln_param",
    "spatial_groupnorm_forward": "x gamma beta G gn_param",
    "svm_loss": "x y",
    "softmax_loss": "x y",
    "affine_relu_forward": "x w b",
    "affine_bn_relu_forward": "x w b gamma beta bn_param",
    "affine_ln_relu_forward": "x w b gamma beta ln_param",
    "conv_relu_forward": "x w b conv_param",
    "conv_bn_relu_forward": "x w b gamma beta conv_param bn_param",
    "conv_relu_pool_forward": "x w b conv_param pool_param",
}


@pytest.mark.parametrize("name", SIGNATURES)
def test_the_course_s_arguments(name):
    house = layers if name in layers.__all__ else layer_utils
    assert " ".join(inspect.signature(getattr(house, name)).parameters) == SIGNATURES[name]
    if name.endswith("forward"):
        assert " ".join(inspect.signature(getattr(house, name.replace("forward", "backward"))).parameters) == "dout cache"


# --- affine and ReLU


def test_notebook_affine():
    x, w, b = ramp(-0.1, 0.5, 2, 4, 5, 6), ramp(-0.2, 0.3, 120, 3), np.linspace(-0.3, 0.1, num=3)
    out, cache = layers.affine_forward(x, w, b)
    assert relative(out, np.array([[1.49834967, 1.70660132, 1.91485297], [3.25553199, 3.5141327, 3.77273342]])) < 1e-8
    assert all(kept is given for kept, given in zip(cache, (x, w, b)))


@pytest.mark.parametrize("b_shape", [(5,), (1, 5)])
def test_affine_gradients(b_shape):
    check_layer(layers.affine_forward, layers.affine_backward, (normal(10, 2, 3), normal(6, 5), normal(*b_shape)), 1e-8)


def test_affine_promotes_and_takes_any_layout():
    x = np.asfortranarray(normal(4, 3, 2))
    out, cache = layers.affine_forward(x, normal(6, 5).astype(np.float32), np.arange(5))
    assert_same(out, x.reshape(4, 6) @ normal(6, 5).astype(np.float32).astype(np.float64) + np.arange(5))
    assert [gradient.shape for gradient in layers.affine_backward(out, cache)] == [(4, 3, 2), (6, 5), (5,)]
    out, _ = layers.affine_forward(np.ones((0, 3, 2)), normal(6, 5), np.zeros(5))
    assert out.shape == (0, 5)


@pytest.mark.parametrize("dtypes", [("f4", "f4"), ("f8", "f8"), ("f4", "f8"), ("f8", "i8")])
def test_relu_passes_gradients_where_x_is_positive_or_nan(dtypes):
    dout, x = np.arange(1, 7).astype(dtypes[0]), np.array([-2, -0.0, 3, np.inf if dtypes[1] != "i8" else 9, 0, 1]).astype(dtypes[1])
    wanted = np.array([0, 0, 3, 4, 0, 6], dtypes[0])
    if dtypes[1] != "i8":
        x[4], wanted[4] = np.nan, 5
    assert_same(layers.relu_backward(dout, x), wanted, exact=True)


@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float32, 2e-6), (np.float64, 1e-13)])
def test_large_affine_layers_against_truth_in_float64(dtype, tolerance):
    """As a convolution: more than 2**18 terms. NaN stays in its row."""
    x, w, b, dout = (normal(*shape).astype(dtype) for shape in ((17, 30, 31), (930, 33), (1, 33), (17, 33)))
    out, cache = layers.affine_forward(x, w, b)
    wide, w64, dout64 = x.astype(np.float64).reshape(17, 930), w.astype(np.float64), dout.astype(np.float64)
    assert_same(out, (wide @ w64 + b).astype(dtype), tolerance=tolerance)
    truth = (dout64 @ w64.T).reshape(x.shape).astype(dtype), (wide.T @ dout64).astype(dtype), dout64.sum(axis=0)[None].astype(dtype)
    assert_same(layers.affine_backward(dout, cache), truth, tolerance=tolerance)
    assert_same(layers.affine_forward(np.asfortranarray(x)[::-1], np.asfortranarray(w), b)[0][::-1], out, tolerance=tolerance)
    x[3, 2, 1] = np.nan
    assert np.isnan(layers.affine_forward(x, w, b)[0]).any(axis=1).nonzero()[0].tolist() == [3]


def test_affine_refuses_weights_of_another_size():
    with pytest.raises(ValueError, match="rows of w"):
        layers.affine_forward(normal(4, 6), normal(8, 3), np.zeros(3))


def test_relu():
    x = ramp(-0.5, 0.5, 3, 4)
    out, cache = layers.relu_forward(x)
    assert cache is x
    assert_same(out, np.where(x > 0, x, 0), exact=True)
    check_layer(layers.relu_forward, layers.relu_backward, (normal(10, 10),), 1e-8)
    assert np.array_equal(layers.relu_forward(np.array([np.nan, -np.inf, np.inf]))[0], [np.nan, 0, np.inf], equal_nan=True)
    assert np.array_equal(layers.relu_backward(np.array([np.nan, np.inf, 2.0]), np.array([-1.0, 0.0, 1.0])), [0, 0, 2])


# --- dropout


@pytest.mark.parametrize("p", [0.25, 0.4, 0.7])
def test_notebook_dropout(p):
    np.random.seed(231)
    x = np.random.randn(500, 500) + 10
    out, _ = layers.dropout_forward(x, {"mode": "train", "p": p})
    test, _ = layers.dropout_forward(x, {"mode": "test", "p": p})
    assert abs(out.mean() - 10) < 0.1
    assert abs((out == 0).mean() - (1 - p)) < 0.01
    assert np.array_equal(test, x)
    assert_same(out[out != 0], (x / p)[out != 0])


def test_dropout_gradients_and_seed():
    param = {"mode": "train", "p": 0.2, "seed": 123}
    check_layer(lambda x: layers.dropout_forward(x, param), layers.dropout_backward, (normal(10, 10) + 10,), 1e-9)
    np.random.seed(123)
    expected = np.random.rand(10, 10) < 0.2
    np.random.seed(7)
    out, _ = layers.dropout_forward(np.ones((10, 10)), param)
    assert np.array_equal(out != 0, expected)
    after = np.random.rand()
    np.random.seed(7)
    assert np.random.rand() == after  # the seed is the mask's alone


def test_dropout_keeps_the_dtype_and_its_mode():
    param = {"mode": "train", "p": 0.5}
    x = np.ones((8, 8), np.float32)
    out, cache = layers.dropout_forward(x, param)
    param["mode"] = "test"  # as a network's next forward does
    assert out.dtype == np.float32
    assert np.array_equal(layers.dropout_backward(x, cache), out)
    out, cache = layers.dropout_forward(x, param)
    assert layers.dropout_backward(x, cache) is x
    assert not layers.dropout_forward(x, {"mode": "train", "p": 0})[0].any()


@pytest.mark.parametrize(("param", "message"), [({"mode": "eval", "p": 0.5}, "mode"), ({"mode": "train", "p": 1.5}, "'p'")])
def test_dropout_refuses(param, message):
    with pytest.raises(ValueError, match=message):
        layers.dropout_forward(np.ones(3), param)


# --- layer and group normalisation


def layernorm(x, gamma, beta):
    return layers.layernorm_forward(x, gamma, beta, {})


@pytest.mark.parametrize("shape", [(5,), (1, 5)])
def test_layernorm(shape):
    x, gamma, beta = 5 * normal(4, 5) + 12, normal(*shape), normal(*shape, seed=1)
    out, _ = layernorm(x, gamma, beta)
    deviation = np.sqrt(x.var(axis=1, keepdims=True) + 1e-5)
    assert_same(out, (x - x.mean(axis=1, keepdims=True)) / deviation * gamma.reshape(5) + beta.reshape(5), tolerance=1e-12)
    check_layer(layernorm, layers.layernorm_backward, (x, gamma, beta), 1e-6)


def test_layernorm_takes_eps_and_float32_and_integers():
    x = normal(3, 40)
    out, _ = layers.layernorm_forward(x, np.ones(40), np.zeros(40), {"eps": 3.0, "mode": "test"})
    assert_same(out, (x - x.mean(axis=1, keepdims=True)) / np.sqrt(x.var(axis=1, keepdims=True) + 3), tolerance=1e-12)
    single, cache = layernorm(*(a.astype(np.float32) for a in (x, np.ones(40), np.zeros(40))))
    assert_same(single.astype(np.float64), layernorm(x.astype(np.float32).astype(np.float64), np.ones(40), np.zeros(40))[0], tolerance=2e-6)
    assert [gradient.dtype for gradient in layers.layernorm_backward(single, cache)] == [np.float32] * 3
    assert layernorm(np.arange(6).reshape(2, 3), np.array([1, 2, 3]), np.array([4, 5, 6]))[0].dtype == np.float64
    with pytest.raises(ValueError, match=r"\(N, D\)"):
        layernorm(normal(2, 3, 4, 5), np.ones(3), np.zeros(3))


@pytest.mark.parametrize("G", [1, 2, 6])
@pytest.mark.parametrize("shape", [(6,), (1, 6, 1, 1)])
def test_spatial_groupnorm(G, shape):
    x, gamma, beta = 5 * normal(2, 6, 4, 5) + 12, normal(*shape), normal(*shape, seed=1)
    out, _ = layers.spatial_groupnorm_forward(x, gamma, beta, G, {})
    for n in range(2):
        for g in range(G):
            part = slice(g * 6 // G, (g + 1) * 6 // G)
            group = x[n, part]
            hat = (group - group.mean()) / np.sqrt(group.var() + 1e-5)
            assert_same(out[n, part], hat * gamma.reshape(6, 1, 1)[part] + beta.reshape(6, 1, 1)[part], tolerance=1e-12)
    check_layer(lambda *a: layers.spatial_groupnorm_forward(*a, G, {}), layers.spatial_groupnorm_backward, (x, gamma, beta), 1e-6)


def test_groups_of_one_value_and_of_none():
    for shape, G in (((1, 3, 1, 1), 3), ((2, 3, 1, 1), 3), ((1, 1, 1, 1), 1), ((0, 4, 2, 2), 2), ((2, 4, 0, 3), 2)):
        C = shape[1]
        x, gamma, beta, dout = normal(*shape), normal(C), normal(C, seed=1), normal(*shape, seed=2)
        out, cache = layers.spatial_groupnorm_forward(x, gamma, beta, G, {})
        assert np.array_equal(out, np.broadcast_to(beta.reshape(C, 1, 1), shape))
        dx, dgamma, dbeta = layers.spatial_groupnorm_backward(dout, cache)
        assert dx.shape == shape and np.allclose(dx, 0, atol=1e-12) and np.array_equal(dgamma, np.zeros(C)) and np.allclose(dbeta, dout.sum((0, 2, 3)))
    assert np.array_equal(layernorm(normal(1, 1), np.ones(1), np.full(1, 3.0))[0], [[3]])


def test_spatial_groupnorm_refuses():
    for G in (0, 4, 12):
        with pytest.raises(ValueError, match="divi"):
            layers.spatial_groupnorm_forward(normal(2, 6, 4, 5), np.ones(6), np.zeros(6), G, {})
    with pytest.raises(ValueError, match=r"\(N, C, H, W\)"):
        layers.spatial_groupnorm_forward(normal(2, 6), np.ones(6), np.zeros(6), 2, {})


@pytest.mark.parametrize("mode", ["train", "test"])
@pytest.mark.parametrize(("spatial", "shape"), [(False, (1, 5)), (True, (1, 3, 1, 1))])
def test_batchnorm_parameters_of_any_shape(mode, spatial, shape):
    """One value a channel; gradients come in the shape they were given."""
    C = max(shape)
    x, gamma, beta = normal(4, C, 2, 3) if spatial else normal(4, C), normal(*shape), normal(*shape, seed=1)
    kind = "spatial_batchnorm" if spatial else "batchnorm"
    forward, backward = getattr(layers, f"{kind}_forward"), getattr(layers, f"{kind}_backward")

    def run(*arrays):
        return forward(*arrays, {"mode": mode, "running_mean": normal(C), "running_var": normal(C) ** 2 + 1})

    assert_same(run(x, gamma, beta)[0], run(x, gamma.reshape(C), beta.reshape(C))[0], exact=True)
    check_layer(run, backward, (x, gamma, beta), 1e-6)


# --- losses


@pytest.mark.parametrize(("function", "printed"), [(layers.svm_loss, 8.999602749096233), (layers.softmax_loss, 2.3025458445007376)])
def test_notebook_losses(function, printed):
    np.random.seed(231)
    x, y = 0.001 * np.random.randn(50, 10), np.random.randint(10, size=50)
    loss, dx = function(x, y)
    assert abs(loss - printed) < 1e-12
    assert relative(eval_numerical_gradient(lambda _: function(x, y)[0], x, verbose=False), dx) < 1e-7


def test_svm_by_loops():
    x, y = 3 * normal(5, 4), np.array([0, 3, 1, 2, 2])
    truth = np.mean([sum(max(0, x[i, j] - x[i, y[i]] + 1) for j in range(4) if j != y[i]) for i in range(5)])
    assert abs(layers.svm_loss(x, y)[0] - truth) < 1e-14


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_softmax_of_large_scores(dtype):
    x = np.array([[1e4, -1e4, 0], [-1e4, -1e4, -1e4], [1e4, 1e4, 9990]], dtype)
    loss, dx = layers.softmax_loss(x, np.array([0, 1, 2]))
    assert np.isclose(loss, (0 + np.log(3) + 10 + np.log(2)) / 3, rtol=1e-5)
    assert np.allclose(3 * dx, [[0, 0, 0], [1 / 3, -2 / 3, 1 / 3], [0.5, 0.5, -1]], atol=1e-4)
    assert dx.dtype == dtype
    assert layers.softmax_loss(x, np.array([1, 1, 2]))[0] > 6600


@pytest.mark.parametrize("loss", [layers.svm_loss, layers.softmax_loss])
def test_losses_keep_their_inputs_and_refuse_wrong_labels(loss):
    x, y = normal(3, 4), np.array([0, 1, 3])
    x.flags.writeable = y.flags.writeable = False
    loss(x, y)
    for wrong, message in (([0, 1, 4], "0 to 3"), ([0, -1, 2], "0 to 3"), ([0, 1], "3 integers"), ([0.0, 1.0, 2.0], "3 integers")):
        with pytest.raises(ValueError, match=message):
            loss(x, np.array(wrong))
    with pytest.raises(ValueError, match=r"\(N, C\)"):
        loss(normal(3), y)


# --- layers that come together

FEATURES = normal(2, 3, 4), normal(12, 10), normal(10), normal(10, seed=1), normal(10, seed=2)
IMAGES = normal(2, 3, 8, 8), normal(4, 3, 3, 3), normal(4), normal(4, seed=1), normal(4, seed=2)
CONV, POOL = {"stride": 1, "pad": 1}, {"pool_height": 2, "pool_width": 2, "stride": 2}


@pytest.mark.parametrize(
    ("name", "arrays", "params"),
    [
        ("affine_relu", FEATURES[:3], ()),
        ("affine_bn_relu", FEATURES, ({"mode": "train"},)),
        ("affine_ln_relu", FEATURES, ({},)),
        ("conv_relu", IMAGES[:3], (CONV,)),
        ("conv_bn_relu", IMAGES, (CONV, {"mode": "train"})),
        ("conv_relu_pool", IMAGES[:3], (CONV, POOL)),
    ],
)
def test_layers_together(name, arrays, params):
    forward, backward = getattr(layer_utils, f"{name}_forward"), getattr(layer_utils, f"{name}_backward")
    if "_bn_" in name and "affine" in name:
        arrays = (normal(7, 3, 4), *arrays[1:])  # of two rows all are plus or minus one
    arrays = [array.copy() for array in arrays]
    out, cache = forward(*arrays, *params)
    assert out.min() == 0  # ReLU was there
    dout = normal(*out.shape, seed=5)
    gradients = backward(dout, cache)
    assert len(gradients) == len(arrays)
    for array, gradient in zip(arrays, gradients):
        assert gradient.shape == array.shape
        for place in list(np.ndindex(array.shape))[:: max(1, array.size // 12)]:
            value, sides = array[place], []
            for step in (1e-6, -1e-6):
                array[place] = value + step
                sides.append(np.sum(forward(*arrays, *params)[0] * dout))
            array[place] = value
            assert abs((sides[0] - sides[1]) / 2e-6 - gradient[place]) < 1e-6 * max(1, np.abs(gradient).max())


def test_conv_relu_pool_is_its_parts():
    from fastconv.cs231n.fast_layers import conv_backward_fast, conv_forward_fast, max_pool_backward_fast, max_pool_forward_fast

    x, w, b = IMAGES[:3]
    out, cache = layer_utils.conv_relu_pool_forward(x, w, b, CONV, POOL)
    a, conv_cache = conv_forward_fast(x, w, b, CONV)
    relu, relu_cache = layers.relu_forward(a)
    parts, pool_cache = max_pool_forward_fast(relu, POOL)
    assert_same(out, parts, exact=True)
    dout = normal(*out.shape)
    slow = conv_backward_fast(layers.relu_backward(max_pool_backward_fast(dout, pool_cache), relu_cache), conv_cache)
    assert_same(layer_utils.conv_relu_pool_backward(dout, cache), slow, exact=True)
