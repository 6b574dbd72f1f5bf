"""Activations and their gradients against the formulas in higher precision, and against numerical gradients."""
import math

import numpy as np
import pytest
from cases import inject, layouts, random_array

import fastconv
from fastconv import activation
from fastconv.kernels import activation as kernels
from fastconv.kernels import dropout as drops
from fastconv.kernels.past import in_parts
from fastconv.kernels.tasks import address
from fastconv.testing import assert_gradient, assert_same

EACH_DTYPE = pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64], ids=["f2", "f4", "f8"])
ERF = np.vectorize(math.erf, otypes=[float])
ERFC = np.vectorize(math.erfc, otypes=[float])
ROOT = math.sqrt(2 / math.pi)


def logistic(x):
    z = np.exp(-np.abs(x))
    return np.where(x < 0, z, 1) / (1 + z), z / (1 + z) ** 2


def cubic(x):
    return logistic(2 * ROOT * (x + 0.044715 * x ** 3))


# name, arguments after x: the function and its derivative in float64
FUNCTIONS = {
    ("relu", ()): (lambda x: np.where(x < 0, 0, x), lambda x: np.where(x <= 0, 0.0, 1.0)),
    ("leaky_relu", ()): (lambda x: np.where(x > 0, x, x * 0.01), lambda x: np.where(x > 0, 1, 0.01)),
    ("leaky_relu", (0.3,)): (lambda x: np.where(x > 0, x, x * 0.3), lambda x: np.where(x > 0, 1, 0.3)),
    ("sigmoid", ()): (lambda x: logistic(x)[0], lambda x: logistic(x)[1]),
    ("tanh", ()): (np.tanh, lambda x: 4 * logistic(2 * x)[1]),
    ("gelu", ()): (lambda x: x / 2 * ERFC(-x / math.sqrt(2)), lambda x: ERFC(-x / math.sqrt(2)) / 2 + x * np.exp(-x * x / 2) / math.sqrt(2 * math.pi)),
    ("gelu", ("tanh",)): (lambda x: x * cubic(x)[0],
                          lambda x: cubic(x)[0] + x * cubic(x)[1] * 2 * ROOT * (1 + 3 * 0.044715 * x * x)),
}
EACH = pytest.mark.parametrize("name, arguments", FUNCTIONS, ids=str)
SHAPES = [(), (1,), (0, 3), (3, 5), (2, 3, 4, 5), (7, 1000), *[(size,) for size in (7, 8, 15, 16, 17, 31, 33, 63, 65)]]


def functions(name):
    return getattr(fastconv, name), getattr(fastconv, f"{name}_backward")


def check(name, arguments, x, dout):
    """Forward and backward against the formula, which sees the same rounded numbers in float64."""
    forward, backward = functions(name)
    value, slope = FUNCTIONS[name, arguments]
    wide = x.astype(np.float64)
    with np.errstate(all="ignore"):
        assert_same(forward(x, *arguments), np.asarray(value(wide), x.dtype).reshape(x.shape))
        assert_same(forward(x, *arguments).astype(np.float64), np.asarray(value(wide)), tolerance={2: 1e-3, 4: 1e-6, 8: 1e-13}[x.itemsize])
        got = backward(dout, x, *arguments)
        assert got.dtype == x.dtype and got.shape == x.shape
        assert_same(got.astype(np.float64), np.asarray(dout.astype(np.float64) * slope(wide)), tolerance={2: 1e-3, 4: 2e-6, 8: 1e-13}[x.itemsize])


@EACH_DTYPE
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@EACH
def test_values(name, arguments, shape, dtype):
    check(name, arguments, np.asarray(random_array(shape, dtype, seed=1)), np.asarray(random_array(shape, dtype, seed=2)))


@pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["f4", "f8"])
@EACH
def test_every_stretch_of_arguments(name, arguments, dtype):
    """Each stretch by itself: near 0, in both tails, and where results round to 0 or overflow in the middle of the formula."""
    for low, high in ((-1e-3, 1e-3), (-1e-30, 1e-30), (-3, -2), (2, 3), (-6, -4), (5, 12), (-9, -7), (30, 300), (-300, -30), (1e4, 1e5)):
        x = np.linspace(low, high, 999).astype(dtype)
        if (name, arguments) == ("gelu", ("tanh",)) and high < -3:
            continue                         # the cubic's rounding is in the exponent: its tail is compared below
        if name == "gelu" and (high <= -30 or (dtype == np.float64 and high < -3)):
            continue
        check(name, arguments, x, np.ones_like(x))


def test_tails_of_gelu():
    """An error of the exponent is one of the result: relative to the result, so many digits are left."""
    for dtype, tolerance in ((np.float32, 3e-5), (np.float64, 1e-12)):
        for kind in ((), ("tanh",)):
            x = np.linspace(-10, -4, 500).astype(dtype) if not kind else np.linspace(-5, -3, 500).astype(dtype)
            got, wanted = fastconv.gelu(x, *kind).astype(np.float64), FUNCTIONS["gelu", kind][0](x.astype(np.float64))
            assert np.max(np.abs(got / wanted - 1)) < tolerance


@pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["f4", "f8"])
def test_special_values(dtype):
    tiny, huge = np.finfo(dtype).smallest_subnormal, np.finfo(dtype).max
    x = np.array([np.nan, np.inf, -np.inf, tiny, -tiny, huge, -huge, 0.0], dtype)
    nan, inf = np.nan, np.inf
    wanted = {
        ("relu", ()): [nan, inf, 0, tiny, 0, huge, 0, 0],
        ("leaky_relu", (0.5,)): [nan, inf, -inf, tiny, -tiny * 0.5, huge, -huge / 2, 0],
        ("sigmoid", ()): [nan, 1, 0, 0.5, 0.5, 1, 0, 0.5],
        ("tanh", ()): [nan, 1, -1, tiny, -tiny, 1, -1, 0],
        ("gelu", ()): [nan, inf, nan, tiny / 2, -tiny / 2, huge, 0, 0],
        ("gelu", ("tanh",)): [nan, inf, nan, tiny / 2, -tiny / 2, huge, 0, 0],
    }
    with np.errstate(all="ignore"):
        for (name, arguments), values in wanted.items():
            assert_same(functions(name)[0](x, *arguments), np.array(values, dtype), tolerance=1e-7)
        slopes = {"relu": [nan] * 0 + [1, 1, 0, 1, 0, 1, 0, 0], "sigmoid": [nan, 0, 0, 0.25, 0.25, 0, 0, 0.25], "tanh": [nan, 0, 0, 1, 1, 0, 0, 1]}
        for name, values in slopes.items():
            assert_same(functions(name)[1](np.ones_like(x), x), np.array(values, dtype), tolerance=1e-6)
        for kind in ((), ("tanh",)):
            back = fastconv.gelu_backward(np.ones_like(x), x, *kind)
            assert_same(back[3:], np.array([0.5, 0.5, 1, 0, 0.5], dtype), tolerance=1e-6)
            assert np.isnan(back[0])


def test_small_results_are_rounded_not_flushed():
    x = np.array([-88.5, -90, -100, -103.5], np.float32)
    wanted = np.exp(x.astype(np.float64)).astype(np.float32)
    assert np.max(np.abs(fastconv.sigmoid(x) - wanted) / np.finfo(np.float32).smallest_subnormal) <= 128     # 2e-7 of the largest of them
    assert fastconv.sigmoid(x)[-1] == wanted[-1] > 0


@EACH
def test_gradient(name, arguments):
    x = random_array((4, 5), seed=5)
    assert np.min(np.abs(x)) > 1e-4
    assert_gradient(*functions(name), (x, *arguments))


@pytest.mark.parametrize("name", ["sigmoid", "tanh"])
@EACH_DTYPE
def test_gradients_by_the_result(name, dtype):
    x, dout = random_array((5, 40), dtype), random_array((5, 40), dtype, seed=1)
    forward, backward = functions(name)
    y = forward(x)
    wide = y.astype(np.float64)
    wanted = dout.astype(np.float64) * (wide * (1 - wide) if name == "sigmoid" else 1 - wide ** 2)
    assert_same(backward(dout, x, y=y).astype(np.float64), wanted, tolerance={2: 1e-3, 4: 1e-6, 8: 1e-13}[x.itemsize])


@pytest.mark.parametrize("name, arguments", [*FUNCTIONS, ("softmax", (1,)), ("log_softmax", (0,))], ids=str)
def test_any_memory_layout(name, arguments):
    x, dout = random_array((3, 4, 5, 6), np.float32), random_array((3, 4, 5, 6), np.float32, seed=1)
    forward, backward = functions(name)
    wanted, wanted_back = forward(x, *arguments), backward(dout, x, *arguments)
    for odd, odd_dout in zip(layouts(x).values(), layouts(dout).values()):
        assert np.array_equal(forward(odd, *arguments), wanted)
        assert np.array_equal(backward(odd_dout, odd, *arguments), wanted_back)
    for out in layouts(np.zeros_like(x)).values():
        if out.flags.writeable:
            assert forward(x, *arguments, out=out) is out and np.array_equal(out, wanted)


# ---------------------------------------------------------------- softmax
SUMS = [((5,), 0), ((), 0), ((), -1), ((3, 10), 1), ((3, 10), 0), ((3, 10), -2), ((2, 3, 4, 5), 1), ((2, 3, 4, 5), 3), ((2, 3, 4, 5), 0), ((4, 1), 1),
        ((1, 5000), 1), ((3, 4096), 1), ((2, 9001), 1), ((700, 7), 1), ((5000, 2), 0), ((2, 300, 130), 1), ((1, 40, 600), 1), ((3, 1, 5), 1),
        ((0, 5), 1), ((2, 0, 3), 1), ((2, 0, 3), 2), ((200, 100, 5), 1), *[((3, size), 1) for size in (63, 64, 65, 127, 128, 129, 191)]]


@pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["f4", "f8"])
@EACH
def test_results_stored_past_the_caches(name, arguments, dtype, monkeypatch):
    """Wherever they begin, and in however many parts and blocks: the same bits, and none beside them."""
    forward, backward = functions(name)
    x, dout = random_array((40_003,), dtype, seed=1), random_array((40_003,), dtype, seed=2)
    x[[0, 5000, -1]] = np.nan, np.inf, -np.inf

    def results():
        found = []
        for size in (1, 5, 700, 3089, x.size):
            for start in (0, 1, 3):
                room = np.full(size + 64, 7.5, dtype)
                forward(x[:size], *arguments, out=room[start + 16:start + 16 + size])
                found += [room[start:start + size + 32], backward(dout[:size], x[:size], *arguments)]
                if name in ("sigmoid", "tanh"):
                    found.append(backward(dout[:size], x[:size], y=room[start + 16:start + 16 + size]))
        mask = np.where(dout > 0, dtype(2), dtype(0))
        return [*found, fastconv.dropout_backward(dout, x, mask=mask)]

    activation.SHORT.clear()
    monkeypatch.setattr(activation, "_remember", lambda *_: None)
    wanted, done = results(), []
    monkeypatch.setattr(activation, "PAST", 0)
    monkeypatch.setattr(activation, "QUICK", {kernel for kernel in vars(kernels).values() if callable(kernel)} | activation.QUICK)
    monkeypatch.setattr(activation, "address", lambda kernel, dtype: done.append(kernel) or address(kernel, dtype))
    found = results()
    assert len(done) >= len(wanted)
    for ours, theirs in zip(found, wanted, strict=True):
        assert ours.tobytes() == theirs.tobytes()


@pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["f4", "f8"])
def test_parts_of_several_threads(dtype):
    """Tasks in any order, each alone: those of other threads begin where these end."""
    x, job, none = random_array((5 * kernels.BLOCK + 77,), dtype), np.array([address(kernels.relu, np.dtype(dtype))]), np.empty(0, dtype)
    for start in (0, 1, 3, 16):
        room = np.full(x.size + 64, 7.5, dtype)
        y = room[start + 8:start + 8 + x.size]
        for first, last in ((3, 6), (0, 1), (1, 3)):
            in_parts(first, last, x, none, y, none, none, job, np.empty(0, np.int64))
        assert np.array_equal(y, np.maximum(x, 0))
        assert (room[:start + 8] == 7.5).all() and (room[start + 8 + x.size:] == 7.5).all()


def softmax_formula(x, dim):
    x = np.atleast_1d(x.astype(np.float64))
    if 0 in x.shape:
        return x, x
    e = np.exp(x - x.max(dim, keepdims=True))
    total = e.sum(dim, keepdims=True)
    return e / total, x - x.max(dim, keepdims=True) - np.log(total)


@EACH_DTYPE
@pytest.mark.parametrize("shape, dim", SUMS, ids=str)
def test_softmax(shape, dim, dtype):
    for size in (1, 30):
        x, dout = np.asarray(random_array(shape, dtype) * np.asarray(size, dtype)), np.asarray(random_array(shape, dtype, seed=1))
        wide = np.atleast_1d(dout.astype(np.float64))
        y, logarithm = softmax_formula(x, dim)
        gradients = y * (wide - (wide * y).sum(dim, keepdims=True)), wide - y * wide.sum(dim, keepdims=True)
        for name, value, gradient in zip(("softmax", "log_softmax"), (y, logarithm), gradients):
            forward, backward = functions(name)
            got = forward(x, dim)
            assert got.dtype == x.dtype and got.shape == x.shape
            assert_same(got.astype(np.float64), value.reshape(shape), tolerance={2: 1e-3, 4: 2e-6, 8: 1e-13}[x.itemsize])
            for known in ({}, {"y": got}):
                back = backward(dout, x, dim, **known)
                assert back.dtype == x.dtype and back.shape == x.shape
                # dout less a sum of it: that may cancel, so the error is one of the largest term
                term = max(1, np.max(np.abs(wide), initial=0), np.max(np.abs(wide.sum(dim)), initial=0) if name == "log_softmax" else 0)
                error = np.max(np.abs(back.astype(np.float64) - gradient.reshape(shape)), initial=0) / term
                # a logarithm of 100, rounded, is known to so many digits less: its exp has them no more
                assert error <= {2: 1e-3 if not known else 2e-2, 4: 1e-6, 8: 1e-14}[x.itemsize] * (3 if size > 1 else 1)


@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
@pytest.mark.parametrize("shape, dim", [((4, 6), 1), ((4, 6), 0), ((2, 3, 4), 1)], ids=str)
def test_gradient_of_softmax(name, shape, dim):
    assert_gradient(*functions(name), (random_array(shape), dim))


@pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["f4", "f8"])
@pytest.mark.parametrize("shape", [(2, 5, 96), (3, 4, 8208), (2, 7, 333), (1, 3, 1)], ids=str)
def test_gradient_of_softmax_stored_past_the_caches(shape, dtype, monkeypatch):
    x, dout = random_array(shape, dtype), random_array(shape, dtype, seed=1)
    y = fastconv.softmax(x, 1)

    def result():
        activation.SHORT.clear()
        activation._sums.cache_clear()
        return fastconv.softmax_backward(dout, x, 1, y=y)

    wanted = result()
    monkeypatch.setattr(activation, "PAST", 0)
    found = result()
    monkeypatch.undo()
    assert found.tobytes() == wanted.tobytes() == result().tobytes()
    wide = y.astype(np.float64)
    truth = wide * (dout - (dout.astype(np.float64) * wide).sum(1, keepdims=True))
    assert_same(found.astype(np.float64), truth, tolerance=1e-6 if dtype == np.float32 else 1e-13)


@pytest.mark.parametrize("shape, dim", [((6, 50), 1), ((50, 6), 0), ((3, 20, 70), 1), ((2, 5000), 1), ((2, 300), 1)], ids=str)
def test_softmax_keeps_nan_and_inf(shape, dim):
    x = random_array(shape, np.float32)
    for values in ((np.nan,), (np.inf,), (-np.inf,), (np.nan, np.inf, -np.inf)):
        odd = inject(x, values)
        with np.errstate(all="ignore"):
            y, logarithm = softmax_formula(odd, dim)
        assert_same(fastconv.softmax(odd, dim).astype(np.float64), y, tolerance=2e-6)
        assert_same(fastconv.log_softmax(odd, dim).astype(np.float64), logarithm, tolerance=2e-6)
    for nothing in (-np.inf, np.nan):
        assert np.isnan(fastconv.softmax(np.full(shape, nothing, np.float32), dim)).all()


def test_softmax_of_numbers_too_large_for_exp():
    x = np.array([[1000.0, 1001.0, -1e30]])
    assert_same(fastconv.softmax(x, 1), np.array([[1, math.e, 0]]) / (1 + math.e))
    assert_same(fastconv.log_softmax(x + 1e6, 1)[:, :2], fastconv.log_softmax(x, 1)[:, :2], tolerance=1e-9)


def test_sums_of_many_terms_keep_their_digits():
    for shape, dim in (((1, 1_000_000), 1), ((100_000, 3), 0)):
        x = np.random.default_rng(0).random(shape, np.float32)
        assert_same(fastconv.softmax(x, dim).astype(np.float64), softmax_formula(x, dim)[0], tolerance=1e-6)


@pytest.mark.parametrize("name, arguments", [*FUNCTIONS, ("softmax", (1,)), ("log_softmax", (0,)), ("softmax", (0,))], ids=str)
def test_threads_change_no_bit(name, arguments):
    x, before, results = random_array((300, 1100), np.float32), fastconv.get_num_threads(), []
    forward, backward = functions(name)
    try:
        for threads in {1, min(2, fastconv.runtime.max_threads())}:
            fastconv.set_num_threads(threads)
            results.append((forward(x, *arguments), backward(x, x, *arguments)))
    finally:
        fastconv.set_num_threads(before)
    assert np.array_equal(results[0][0], results[-1][0]) and np.array_equal(results[0][1], results[-1][1])


# ---------------------------------------------------------------- dropout
def test_the_generator_is_philox():
    """The published test vectors: a counter of 0 and a key of 0; a part's counters count on from the part before."""
    words = np.zeros(drops.PART, np.uint64)
    drops.draw(0, np.uint64(0), np.uint64(0), words)
    assert [hex(word) for word in words[::drops.PART // 4]] == ["0x6627e8d5", "0xe169c58d", "0xbc57ac4c", "0x9b00dbd8"]
    assert len(set(words.tolist())) == drops.PART
    again = np.zeros_like(words)
    drops.draw(1, np.uint64(0), np.uint64(0), again)
    assert not np.isin(again, words).any()


@EACH_DTYPE
@pytest.mark.parametrize("p", [0.1, 0.5, 0.9, 0.25])
def test_dropout(p, dtype):
    x = np.ones((301, 1000), dtype)
    y, mask = fastconv.dropout(x, p, generator=np.random.default_rng(3), return_mask=True)
    kept = mask != 0
    assert np.array_equal(y, mask) and y.dtype == mask.dtype == dtype
    assert np.allclose(mask[kept].astype(float), 1 / (1 - p), rtol=1e-3)
    assert abs(kept.mean() - (1 - p)) < 5 * math.sqrt(p * (1 - p) / x.size)
    assert abs(kept.mean(0) - (1 - p)).max() < 6 * math.sqrt(p * (1 - p) / 301)
    for shift in (1, 4, 256, 1000, 1024):                            # no element tells of another
        flat = kept.reshape(-1)
        both = (flat[shift:] & flat[:-shift]).mean()
        assert abs(both - (1 - p) ** 2) < 6 * math.sqrt(p * (1 - p) / x.size)
    assert np.array_equal(fastconv.dropout(x, p, generator=np.random.default_rng(3)), y)
    assert not np.array_equal(fastconv.dropout(x, p, generator=np.random.default_rng(4)), y)


def test_dropout_and_its_gradient_by_hand():
    x, dout = random_array((7, 50)), random_array((7, 50), seed=1)
    y, mask = fastconv.dropout(x, 0.3, generator=np.random.default_rng(0), return_mask=True)
    assert np.array_equal(y, x * mask)
    assert np.array_equal(fastconv.dropout_backward(dout, x, 0.3, mask=mask), dout * mask)
    generator = np.random.default_rng(0)
    first, second = fastconv.dropout(x, generator=generator), fastconv.dropout(x, generator=generator)
    assert not np.array_equal(first, second)
    out = np.zeros_like(x)
    assert fastconv.dropout(x, 0.3, generator=np.random.default_rng(0), out=out) is out and np.array_equal(out, y)


def test_dropout_that_drops_nothing_or_all():
    x = random_array((3, 4), np.float32)
    for arguments in ((0.5, False), (0, True), (0.0,)):
        y, mask = fastconv.dropout(x, *arguments, return_mask=True)
        assert np.array_equal(y, x) and y is not x and not np.shares_memory(x, y) and (mask == 1).all()
        assert np.array_equal(fastconv.dropout_backward(x, x, *arguments), x)
    y, mask = fastconv.dropout(x, 1, generator=np.random.default_rng(0), return_mask=True)
    assert (y == 0).all() and (mask == 0).all()
    nan = np.full(1000, np.nan)
    assert np.isnan(fastconv.dropout(nan, generator=np.random.default_rng(0))).all()       # NaN times 0, as in torch


def test_dropout_is_the_same_for_every_number_of_threads():
    x, before, results = np.ones((700, 1001), np.float32), fastconv.get_num_threads(), []
    try:
        for threads in {1, min(2, fastconv.runtime.max_threads())}:
            fastconv.set_num_threads(threads)
            results.append(fastconv.dropout(x, generator=np.random.default_rng(5)))
    finally:
        fastconv.set_num_threads(before)
    assert np.array_equal(results[0], results[-1])


def test_bad_arguments():
    x = np.ones((2, 3))
    for generator in (None, 3, np.random.RandomState(0), np.random):
        with pytest.raises(TypeError, match="generator"):
            fastconv.dropout(x, generator=generator)
    for p in (1.1, -0.1, np.nan, "a", None):
        with pytest.raises((TypeError, ValueError), match="p is"):
            fastconv.dropout(x, p, generator=np.random.default_rng(0))
    with pytest.raises(TypeError, match="mask"):
        fastconv.dropout_backward(x, x)
    for dim in (2, -3, 1.0, None, "a", True):
        with pytest.raises((TypeError, ValueError), match="dim"):
            fastconv.softmax(x, dim)
    for slope in (-1, np.nan, "a", None):
        with pytest.raises((TypeError, ValueError), match="negative_slope"):
            fastconv.leaky_relu(x, slope)
    for word in ("exact", None, 1):
        with pytest.raises((TypeError, ValueError), match="approximate"):
            fastconv.gelu(x, word)


def test_a_slope_of_minus_zero_is_one_of_zero():
    x, dout = np.array([-1, 1, -2], np.float32), np.ones(3, np.float32)
    for slopes in ((0.0, -0.0), (-0.0, 0.0)):
        fastconv.activation._slope.cache_clear()
        fastconv.activation.SHORT.clear()
        for slope in slopes:
            assert np.array_equal(np.signbit(fastconv.leaky_relu(x, slope)), [True, False, True])
            assert not np.signbit(fastconv.leaky_relu_backward(dout, x, slope)).any()
