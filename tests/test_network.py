"""Networks against their layers called one by one: the same bits, whatever shares memory with what."""
import copy
import doctest
import pickle
import threading

import numba
import numpy as np
import pytest

import fastconv
from fastconv import Conv2d, Network, network, network_pass

EACH_DTYPE = pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["f4", "f8"])
X_SHAPE = 2, 16, 12, 13


def array(shape, seed=0, dtype=np.float32):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def conv(C, F, kernel=1, seed=0, dtype=np.float32, **options):
    return Conv2d(0.3 * array((F, C, kernel, kernel), seed, dtype), array(F, seed + 1, dtype), padding=kernel // 2, activation="relu", **options)


class Plain:
    """Steps as a Network takes them, done one by one on arrays that nothing shares."""

    def __init__(self, x_shape, dtype):
        self.net, self.steps = Network(x_shape, dtype), []
        self.x = self.net.x

    def add(self, what, source, *args, residual=None, **options):
        self.steps.append((what, source.number, None if residual is None else residual.number, args, options))
        return self.net.add(what, source, *args, residual=residual, **options)

    def __call__(self, x):
        values = [x]
        for what, source, residual, args, options in self.steps:
            if residual is not None:
                args = (values[residual], *args)
            values.append(what(values[source], *args, **options))
        return values[-1]


def block(dtype=np.float32, x_shape=X_SHAPE):
    """Layers, poolings, a function, a residual that lives on and one that is replaced; x is read last of all."""
    plain = Plain(x_shape, dtype)
    a = plain.add(conv(16, 32, 3, 1, dtype), plain.x)
    b = plain.add(fastconv.max_pool2d, a, 3, 1, padding=1)
    c = plain.add(conv(32, 32, 3, 2, dtype), b, residual=a)
    d = plain.add(fastconv.tanh, c)
    e = plain.add(conv(32, 16, 1, 3, dtype), d)
    f = plain.add(fastconv.avg_pool2d, e, (3, 3), 1, 1, count_include_pad=False)
    g = plain.add(conv(16, 16, 1, 4, dtype), f, residual=e)
    plain.add(conv(16, 16, 3, 5, dtype), g, residual=plain.x)
    return plain


def drawn(seed):
    """Layers and poolings that read any earlier values of their shapes, which some nobody reads."""
    random, plain = np.random.default_rng(seed), Plain((1, 16, 9, 9), np.float32)
    values = [plain.x]
    for number in range(14):
        source = values[random.integers(len(values))]
        kind = random.integers(4)
        if kind == 0:
            values.append(plain.add(fastconv.max_pool2d, source, 3, 1, 1))
            continue
        F = int(random.choice([16, 48]))
        fitting = [value for value in values if value.shape[1] == F]
        residual = fitting[random.integers(len(fitting))] if fitting and kind > 1 else None
        values.append(plain.add(conv(source.shape[1], F, int(random.choice([1, 3])), number), source, residual=residual))
    return plain


@pytest.fixture
def threads():
    before = fastconv.get_num_threads()
    yield fastconv.set_num_threads
    fastconv.set_num_threads(before)


@EACH_DTYPE
def test_the_bits_of_its_layers(dtype, threads):
    plain = block(dtype)
    for number in range(4):                  # the first call does one kernel after the other, later ones all at once
        threads(min(1 + number % 2, numba.config.NUMBA_NUM_THREADS))
        x = array(X_SHAPE, 100 + number, dtype)
        before = x.copy()
        y = plain.net(x)
        assert y.dtype == dtype and np.array_equal(y, plain(x)) and np.array_equal(x, before)


@pytest.mark.parametrize("seed", range(12))
def test_any_value_may_be_read_at_any_time(seed):
    plain = drawn(seed)
    for number in range(3):
        x = array((1, 16, 9, 9), number)
        assert np.array_equal(plain.net(x), plain(x))


@pytest.mark.skipif(numba.config.DISABLE_JIT, reason="nothing is compiled")
def test_layers_and_poolings_are_one_compiled_call(monkeypatch):
    plain, x = drawn(3), array((1, 16, 9, 9))
    for _ in range(2):
        plain.net(x)
    called = []
    monkeypatch.setattr(network_pass, "run_call", lambda *arguments: called.append(arguments))
    assert np.array_equal(plain.net(x), plain(x)) and not called
    made, = plain.net._state.passes.values()
    assert len(made.parts) == 1


def test_large_enough_for_several_threads(threads):
    """Work for two in every layer: helpers take part in one after the other."""
    plain, shape = Plain((1, 64, 56, 56), np.float32), (1, 64, 56, 56)
    value = plain.x
    for number in range(6):
        value = plain.add(conv(64, 64, 3 if number % 2 else 1, number), value, residual=value if number > 2 else None)
    plain.add(fastconv.max_pool2d, value, 2)
    x = array(shape)
    want = plain(x)
    for count in (1, min(2, numba.config.NUMBA_NUM_THREADS)) * 3:
        threads(count)
        assert np.array_equal(plain.net(x), want)


def test_a_layer_that_cannot_write_over_its_residual():
    """Depthwise, planes side by side: it reads the residual of other planes when some results stand."""
    shape = 2, 32, 7, 7
    plain, x, layer = Plain(shape, np.float32), array(shape), Conv2d(array((32, 1, 3, 3)), padding=1, groups=32)
    value = plain.add(conv(32, 32), plain.x)
    plain.add(conv(32, 32, 3), plain.add(layer, plain.x, residual=value))
    for _ in range(2):
        assert np.array_equal(plain.net(x), plain(x))


def test_one_image_without_the_batch_axis():
    plain, x = block(x_shape=X_SHAPE[1:]), array(X_SHAPE[1:])
    for _ in range(3):
        assert np.array_equal(plain.net(x), plain(x))


def test_results_are_the_callers():
    plain, (one, other) = block(), (array(X_SHAPE, seed) for seed in (1, 2))
    for _ in range(3):
        first = plain.net(one)
        kept = first.copy()
        assert not np.may_share_memory(first, plain.net(other)) and np.array_equal(first, kept)
        out = np.full(first.shape, np.nan, np.float32)
        assert plain.net(other, out) is out and plain.net(other, out=out) is out and np.array_equal(out, plain(other))


def test_any_layout_of_x_and_out():
    plain, x = block(), array(X_SHAPE)
    want, strided = plain(x), np.zeros((2, 32, 12, 13), np.float32)[:, ::2]
    for other in (np.asfortranarray(x), np.repeat(x, 2, 1)[:, ::2], x.astype(">f4"), x[..., ::-1].copy()[..., ::-1]):
        assert np.array_equal(plain.net(other), want)
    strided.fill(7)
    assert plain.net(x, strided) is strided and np.array_equal(strided, want)


def test_no_images():
    plain = block(x_shape=(0, 16, 12, 13))
    assert plain.net(array((0, 16, 12, 13))).shape == (0, 16, 12, 13)


def test_the_precision_in_force_counts():
    plain, x = Plain((4, 64, 28, 28), np.float32), array((4, 64, 28, 28))
    plain.add(conv(64, 64, 3), plain.x)
    high = [plain.net(x) for _ in range(3)][-1]
    fastconv.set_precision("highest")
    try:
        for _ in range(2):
            highest = plain.net(x)
            assert np.array_equal(highest, plain(x))
    finally:
        fastconv.set_precision("high")
    assert not np.array_equal(high, highest) and np.array_equal(plain.net(x), high)


def test_threads_share_a_network():
    plain = block()
    inputs = [array(X_SHAPE, seed) for seed in range(8)]
    want, wrong = [plain(x) for x in inputs], []

    def work(number):
        for turn in range(20):
            k = (number + turn) % len(inputs)
            if not np.array_equal(plain.net(inputs[k]), want[k]):
                wrong.append(k)

    running = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    assert not wrong and len(plain.net._state.passes["high"].rooms) <= 6


@pytest.mark.parametrize("copied", [lambda net: pickle.loads(pickle.dumps(net)), copy.deepcopy], ids=["pickle", "deepcopy"])
def test_copies(copied):
    plain, x = block(), array(X_SHAPE)
    plain.net(x)
    other = copied(plain.net)
    assert other is not plain.net and repr(other) == repr(plain.net)
    for _ in range(2):
        assert np.array_equal(other(x), plain(x))


def test_steps_added_after_a_call():
    plain, x = block(), array(X_SHAPE)
    for _ in range(2):
        plain.net(x)
    plain.add(fastconv.max_pool2d, plain.add(conv(16, 8), plain.x), 2)
    for _ in range(2):
        assert np.array_equal(plain.net(x), plain(x))


def test_memory_is_used_again():
    plain = Plain(X_SHAPE, np.float32)
    value = plain.x
    for number in range(10):
        value = plain.add(conv(16, 16, 3, number), value)
    plain.net(array(X_SHAPE))
    made, = plain.net._state.passes.values()
    assert made.size * 4 <= 2 * (array(X_SHAPE).nbytes + 64)


class Flat:
    """A function that is an object, cannot be a key and makes a matrix."""

    __hash__ = None

    def __call__(self, x, out=None):
        out = np.empty((len(x), x[0].size), x.dtype) if out is None else out
        out[...] = x.reshape(out.shape)
        return out


def test_functions_of_any_kind():
    plain, x = Plain(X_SHAPE, np.float32), array(X_SHAPE)
    inner = Network(X_SHAPE)
    inner.add(conv(16, 16), inner.x)
    a = plain.add(inner, plain.x)
    b = plain.add(np.sqrt, plain.add(fastconv.relu, a))
    plain.add(fastconv.softmax, plain.add(Flat(), b), dim=1)
    for _ in range(2):
        assert np.array_equal(plain.net(x), plain(x))


def test_arguments_are_copied_and_left_alone():
    mean, var, size = np.ones(16, np.float32), np.full(16, 2, np.float32), [2, 2]
    net, x = Network(X_SHAPE), array(X_SHAPE)
    value = net.add(fastconv.batch_norm, net.x, mean, var)
    net.add(fastconv.max_pool2d, value, size)
    want = fastconv.max_pool2d(fastconv.batch_norm(x, mean, var), 2)
    assert (mean == 1).all() and (var == 2).all()
    mean[:], size[:] = 5, [1, 1]
    for _ in range(2):
        assert np.array_equal(net(x), want)


def test_a_layer_that_is_another_by_now_is_refused():
    layer, net = conv(16, 16, 3), Network(X_SHAPE)
    net.add(conv(16, 16), net.add(layer, net.x))
    layer.stride = 2, 2
    layer._forget()
    with pytest.raises(RuntimeError, match="made one of .2, 16, 12, 13. when it was added"):
        net(array(X_SHAPE))


def test_each_precision_has_its_own_memory():
    """Direct sums in several chunks of channels cannot write over the residual, Winograd's can: so this takes more memory when precision is highest."""
    plain, x = Plain((1, 16, 112, 112), np.float32), array((1, 16, 112, 112))
    a = plain.add(conv(16, 8), plain.x)
    b = plain.add(conv(8, 1024), a)
    plain.add(conv(8, 16), plain.add(conv(1024, 8, 3), b, residual=a))
    try:
        for _ in range(2):
            for precision in ("high", "highest"):
                fastconv.set_precision(precision)
                assert np.array_equal(plain.net(x), plain(x))
    finally:
        fastconv.set_precision("high")
    for made in plain.net._state.passes.values():
        assert all(room.size == made.size for room in made.rooms)


def test_steps_added_while_others_call():
    plain = block()
    x, wrong, more = array(X_SHAPE), [], threading.Event()
    want = {plain(x).shape: plain(x)}
    grown = copy.copy(plain)
    grown.steps = [*plain.steps, (fastconv.max_pool2d, len(plain.steps), None, (2,), {})]
    want[grown(x).shape] = grown(x)

    def work():
        while not more.is_set():
            y = plain.net(x)
            if not np.array_equal(y, want[y.shape]):
                wrong.append(y.shape)

    running = [threading.Thread(target=work) for _ in range(4)]
    for thread in running:
        thread.start()
    last = plain.net.add(fastconv.max_pool2d, network.Value(plain.net, len(plain.steps), X_SHAPE), 2)
    for _ in range(20):
        plain.net(x)
    more.set()
    for thread in running:
        thread.join()
    assert not wrong and plain.net(x).shape == last.shape


def test_a_shallow_copy_keeps_its_steps():
    plain, x = block(), array(X_SHAPE)
    other = copy.copy(plain.net)
    before = plain(x)
    value = plain.net.add(fastconv.max_pool2d, network.Value(plain.net, 1, (2, 32, 12, 13)), 8)
    for _ in range(2):
        assert np.array_equal(other(x), before) and plain.net(x).shape == value.shape
    assert np.array_equal(other(x), before)
    other.add(fastconv.relu, other.x)
    assert np.array_equal(other(x), np.maximum(x, 0))


def test_errors_say_what_is_wanted():
    net, layer = Network(X_SHAPE), conv(16, 8)
    value = net.add(layer, net.x)
    for call, error, said in (
            (lambda: Network((1, 2)), ValueError, "x_shape is (1, 2)"),
            (lambda: Network(X_SHAPE, np.float16), TypeError, "dtype is float16; wanted: float32 or float64"),
            (lambda: Network(X_SHAPE, "int8"), TypeError, "dtype"),
            (lambda: net.add(layer, array(X_SHAPE)), TypeError, "source is a ndarray; wanted: a value of this network"),
            (lambda: net.add(layer, Network(X_SHAPE).x), ValueError, "source is a value of another network"),
            (lambda: net.add(layer, net.x, residual=Network(X_SHAPE).x), ValueError, "residual is a value of another network"),
            (lambda: net.add(layer, value), ValueError, "16 channels of x"),
            (lambda: net.add(layer, net.x, residual=net.x), ValueError, "residual has shape (2, 16, 12, 13); wanted: (2, 8, 12, 13)"),
            (lambda: net.add(layer, net.x, 3), TypeError, "add got 3 beside a Conv2d"),
            (lambda: net.add(conv(16, 8, dtype=np.float64), net.x), TypeError, "the layer has dtype float64 and the network float32"),
            (lambda: net.add("relu", net.x), TypeError, "what is a str"),
            (lambda: net.add(fastconv.relu, net.x, residual=net.x), TypeError, "residual was given with a function"),
            (lambda: net.add(fastconv.relu, net.x, out=array(X_SHAPE)), TypeError, "out was given"),
            (lambda: net.add(fastconv.max_pool2d, net.x, 2, return_indices=True), TypeError, "return_indices is True; wanted: False"),
            (lambda: net.add(fastconv.max_pool2d, net.x, 99), ValueError, "99"),
            (lambda: net.add(fastconv.adaptive_max_pool2d, net.x, 1, return_indices=True), TypeError, "adaptive_max_pool2d makes a tuple; wanted: one array"),
            (lambda: net.add(lambda x: x + 1, net.x), TypeError, "<lambda> takes no out=; wanted: a function that writes"),
            (lambda: net.add(lambda x, out=None: x + 1, net.x), TypeError, "<lambda> did not write its result into out="),
            (lambda: net.add(np.add, net.x, net.x), TypeError, "wanted: one value, source"),
            (lambda: net.add(layer, net.x, net.x), TypeError, "a second one as residual="),
            (lambda: net.add(net, net.x), TypeError, "what is the network itself"),
            (lambda: net.add(layer, net.add(Flat(), net.x)), ValueError, "source has shape (2, 2496); wanted: (N, C, H, W)"),
            (lambda: Network((2 ** 31 - 1,) * 4), ValueError, "x_shape"),
            (lambda: Network(X_SHAPE)(array(X_SHAPE)), ValueError, "the network has no step"),
            (lambda: net(array((1, 16, 12, 13))), ValueError, "x has shape (1, 16, 12, 13); wanted: (2, 16, 12, 13)"),
            (lambda: net(array(X_SHAPE, dtype=np.float64)), TypeError, "x has dtype float64 and the network float32; wanted: one dtype. Convert it: x.astype("),
            (lambda: net([1.0]), TypeError, "x is a list"),
            (lambda: net(array(X_SHAPE), array(X_SHAPE)), ValueError, "out has shape (2, 16, 12, 13)")):
        with pytest.raises(error) as raised:
            call()
        assert said in str(raised.value)
    x = array(X_SHAPE)
    assert np.array_equal(net(x), Flat()(x))             # of all that nothing was added but this


def test_x_is_not_written_over():
    net = Network(X_SHAPE)
    net.add(conv(16, 16), net.x, residual=net.x)
    x = array(X_SHAPE)
    with pytest.raises(ValueError, match="shares memory"):
        net(x, x)


def test_the_example_runs():
    assert doctest.testmod(network) == (0, 5)
