"""How CS231n's notebooks check: their measure of an error, and gradients against numerical ones."""
import numpy as np

from fastconv.cs231n.gradient_check import eval_numerical_gradient, eval_numerical_gradient_array


def normal(*shape, seed=0):
    return np.random.default_rng((seed, *shape)).standard_normal(shape)


def ramp(first, last, *shape):
    return np.linspace(first, last, num=int(np.prod(shape))).reshape(shape)


def relative(a, b):
    """The largest |a - b| / (|a| + |b|)."""
    assert np.shape(a) == np.shape(b)
    return np.max(np.abs(a - b) / np.maximum(1e-8, np.abs(a) + np.abs(b)))


def check_layer(forward, backward, arrays, bound, seed=9):
    """The gradients that backward gives to each of the arrays, against numerical ones of forward(*arrays)."""
    arrays = [array.copy() for array in arrays]
    out, cache = forward(*arrays)
    dout = normal(*out.shape, seed=seed)
    gradients = backward(dout, cache)
    gradients = gradients if isinstance(gradients, tuple) else (gradients,)
    assert len(gradients) == len(arrays)
    for array, gradient in zip(arrays, gradients):
        assert relative(eval_numerical_gradient_array(lambda _: forward(*arrays)[0], array, dout), gradient) < bound


def check_network(model, X, y, bound=1e-6, h=1e-5, names=None):
    """All gradients of a network against numerical ones of its loss, relative to the largest of each array."""
    _, gradients = model.loss(X, y)
    assert gradients.keys() == model.params.keys()
    for name in names or model.params:
        number = eval_numerical_gradient(lambda _: model.loss(X, y)[0], model.params[name], verbose=False, h=h)
        assert gradients[name].shape == number.shape
        assert np.max(np.abs(gradients[name] - number)) < bound * max(np.max(np.abs(number)), 1e-3), name
