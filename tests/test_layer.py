"""The prepared layer against the naive loops: convolution, batch norm in evaluation, residual, ReLU, one after the other."""
import copy
import doctest
import pickle
import subprocess
import sys
import threading

import numpy as np
import pytest
from cases import ConvCase, conv_cases, inject, layouts, random_array
from isolated import ROOT

import fastconv
import naive
from fastconv import Conv2d, layer
from fastconv.algorithms import ALGORITHMS
from fastconv.blocking import direct
from fastconv.kernels import handed
from fastconv.plan import BLOCKING, plan_conv2d
from fastconv.testing import assert_same

EACH_DTYPE = pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["f4", "f8"])

# Beside the small cases: layers whose vectors lie along the filters and along the pixels, in one chunk of channels and in several.
LAYERS = [
    ConvCase("first-layer", (2, 3, 20, 22), (24, 3, 7, 7), kwargs={"stride": 2, "padding": 3}),
    ConvCase("deep-layer", (1, 96, 7, 7), (64, 96, 3, 2), kwargs={"padding": 1}),
    ConvCase("deep-1x1", (2, 70, 6, 6), (48, 70, 1, 1), bias=False),
    ConvCase("few-filters", (1, 100, 9, 60), (3, 100, 3, 3), kwargs={"padding": 1}),
    ConvCase("many-channels-one-filter", (1, 600, 5, 40), (1, 600, 1, 1)),
]
CASES = pytest.mark.parametrize("case", [*LAYERS, *conv_cases()[::3], *(c for c in conv_cases() if "depthwise" in c.id)], ids=str)


@pytest.fixture
def highest():
    """Direct sums alone: a layer, whose weights are transformed before, may take Winograd's way where a call does not."""
    fastconv.set_precision("highest")
    yield
    fastconv.set_precision("high")


def by_id(name):
    return next(case for case in [*LAYERS, *conv_cases()] if case.id == name)


def stages(case, dtype):
    """The stage of the case's forward pass, and its algorithm."""
    plan = plan_conv2d(case.x, case.weight, dtype, **case.kwargs)
    return BLOCKING[plan.algorithm].forward(plan.shape, False, True), ALGORITHMS[plan.algorithm]


def norm_of(F, dtype, seed=0):
    mean, var, weight, bias = random_array((4, F), dtype, seed=f"norm {seed}")
    return mean, np.abs(var) + dtype(0.5), weight, bias, 1e-3


def prepared(x, weight, bias, norm, residual, activation, kwargs):
    return Conv2d(weight, bias, batch_norm=norm, activation=activation, **kwargs)(x, residual)


def plain(x, weight, bias, norm, residual, activation, kwargs):
    y = naive.conv2d(x, weight, bias, **kwargs)
    if norm is not None:
        mean, var, gamma, beta, eps = norm
        y = naive.batch_norm(y if x.ndim == 4 else y[None], mean, var, gamma, beta, eps=eps).reshape(y.shape)
    if residual is not None:
        y = y + residual
    return np.maximum(y, 0) if activation else y


# ---------------------------------------------------------------- values
@EACH_DTYPE
@CASES
def test_everything_at_once(case, dtype):
    """The folded norm rounds the weights once more: twice the tolerance of a convolution."""
    arrays = *case.arrays(dtype), norm_of(case.weight[0], dtype, case.id), case.dout(dtype), "relu", case.kwargs
    assert_same(prepared, plain, arrays, tolerance=4e-6 if dtype is np.float32 else 2e-13)


@EACH_DTYPE
@CASES
def test_residual_and_relu_are_exact_on_integers(case, dtype):
    arrays = case.arrays(dtype, integers=True)
    residual = case.dout(dtype, integers=True)
    for activation in (None, "relu"):
        for added in (None, residual):
            assert_same(prepared, plain, (*arrays, None, added, activation, case.kwargs), exact=True)


@EACH_DTYPE
@CASES
def test_a_plain_layer_gives_the_bits_of_conv2d(case, dtype, highest):
    x, weight, bias = case.arrays(dtype)
    prepared, wanted = Conv2d(weight, bias, **case.kwargs), fastconv.conv2d(x, weight, bias, **case.kwargs)
    for _ in range(2):                       # the second call takes the short way
        assert np.array_equal(prepared(x), wanted)
        out = np.full(wanted.shape, 7, dtype)
        assert prepared(x, out=out) is out and np.array_equal(out, wanted)


@pytest.mark.parametrize("shape, F, kernel, stride", [((1, 320, 8, 8), 1024, 1, 1), ((1, 256, 28, 28), 160, 1, 1), ((1, 256, 32, 32), 128, 3, 2)])
def test_a_layer_goes_the_way_of_a_plain_call(shape, F, kernel, stride):
    """Where both cost almost the same, and more tasks cost one of them more."""
    for dtype in ("float32", "float64"):
        plan = fastconv.plan_conv2d(shape, (F, shape[1], kernel, kernel), dtype, stride=stride, algorithm="direct")
        assert direct.forward(plan.shape, prepared=True).across == plan.forward.across


def test_both_orders_of_the_weights_are_tried():
    """And sums of several chunks of channels in each."""
    seen = {(stage.across, algorithm.over(stage)) for stage, algorithm in (stages(case, np.float32) for case in LAYERS)}
    assert {order for order, _ in seen} == {"filters", "pixels"} and ("pixels", False) in seen


@pytest.mark.parametrize("case", [*LAYERS[:2], by_id("groups2")], ids=str)
def test_packed_weights_do_not_depend_on_the_image(case):
    """The layer packs once for each order: all other sizes must read the same packed weights."""
    weight = random_array(case.weight, np.float32)
    packed = {}
    for size in (7, 8, 11, 20, 21, 63, 118, 231):
        for N in (1, 9):
            for relu in (False, True):
                plan = plan_conv2d((N, case.x[1], size, size), case.weight, **case.kwargs)
                stage, algorithm = BLOCKING[plan.algorithm].forward(plan.shape, relu, prepared=True), ALGORITHMS[plan.algorithm]
                new = algorithm.pack(stage, weight)
                assert np.array_equal(packed.setdefault((plan.algorithm, algorithm.order(stage)), new), new)


def test_one_layer_serves_images_of_all_sizes_and_ranks():
    weight, bias = random_array((20, 5, 3, 3), np.float32), random_array((20,), np.float32)
    prepared = Conv2d(weight, bias, padding=1)
    for shape in [(1, 5, 4, 4), (3, 5, 40, 9), (5, 4, 4), (1, 5, 90, 90), (0, 5, 4, 4), (1, 5, 4, 4), (2, 5, 1, 200)]:
        x = random_array(shape, np.float32)
        assert np.array_equal(prepared(x), fastconv.conv2d(x, weight, bias, padding=1))


def test_shapes_that_are_remembered_are_bounded(monkeypatch):
    monkeypatch.setattr(layer, "MOST_SHAPES", 5)
    prepared = Conv2d(np.ones((2, 1, 2, 2), np.float32))
    for size in range(2, 20):
        assert prepared(np.ones((1, 1, size, size), np.float32)).sum() == 8 * (size - 1) ** 2
        assert len(prepared._known) <= 5
    assert len(prepared._packed) <= 2


@pytest.mark.parametrize("missing", [(), (2,), (3,), (2, 3)])
def test_norm_without_weight_or_bias(missing):
    case = by_id("plain-3x3")
    norm = tuple(None if i in missing else value for i, value in enumerate(norm_of(4, np.float64)))
    x, weight, bias = case.arrays()
    for b in (bias, None):
        assert_same(prepared, plain, (x, weight, b, norm, None, None, {}), tolerance=1e-13)


def test_the_norm_is_folded_in_float64_and_rounded_once():
    case = by_id("plain-3x3")
    x, weight, bias = case.arrays(np.float32)
    mean, var, gamma, beta, eps = norm_of(4, np.float32)
    folded = Conv2d(weight, bias, batch_norm=(mean, var, gamma, beta, eps))
    scale = gamma / np.sqrt(var.astype(np.float64) + eps)
    assert np.array_equal(folded.weight, (weight * scale[:, None, None, None]).astype(np.float32))
    assert np.array_equal(folded.bias, ((bias - mean.astype(np.float64)) * scale + beta).astype(np.float32))


def test_a_norm_that_divides_by_zero_warns_of_nothing():
    """What it scales by is infinite, or no number: so is the result."""
    var = np.array([0, -1, 1e-30, 1], np.float32)
    weight = np.full((4, 1, 1, 1), 1e30, np.float32)
    y = Conv2d(weight, batch_norm=(np.zeros(4, np.float32), var, None, None, 0))(np.ones((1, 1, 2, 2), np.float32))
    assert not np.isfinite(y[0, :3]).any() and (y[0, 3] == np.float32(1e30)).all()


@pytest.mark.parametrize("case", [*LAYERS, by_id("depthwise"), by_id("stride2")], ids=str)
def test_relu_keeps_nan(case):
    x, weight, bias = case.arrays(np.float32)
    residual = inject(case.dout(np.float32))
    assert_same(prepared, plain, (inject(x), weight, bias, None, None, "relu", case.kwargs))
    assert_same(prepared, plain, (x, weight, bias, None, residual, "relu", case.kwargs))
    y = prepared(x, weight, bias, None, np.full_like(residual, np.nan), "relu", case.kwargs)
    assert np.isnan(y).all()


@pytest.mark.parametrize("case", [LAYERS[0], LAYERS[1], by_id("unbatched"), by_id("batch0"), by_id("depthwise")], ids=str)
def test_float16_is_rounded_once(case):
    x, weight, bias = case.arrays(np.float16)
    residual = case.dout(np.float16)
    for _ in range(2):
        assert_same(prepared, plain, (x, weight, bias, None, residual, "relu", case.kwargs))
    norm = norm_of(case.weight[0], np.float32)           # in either type
    for given in (norm, (*(a.astype(np.float16) for a in norm[:4]), 1e-3)):
        half = Conv2d(weight, bias, batch_norm=given, **case.kwargs)
        assert half.dtype == np.float16 and half.weight.dtype == np.float32
        wide = [None if a is None else a.astype(np.float64) for a in (x, weight, bias)]
        truth = plain(*wide, (*(a.astype(np.float64) for a in given[:4]), 1e-3), None, None, case.kwargs)
        assert_same(half(x), truth.astype(np.float16), tolerance=1e-3)


def test_the_set_precision_is_looked_at():
    x, prepared = random_array((1, 3, 9, 9), np.float32), Conv2d(random_array((4, 3, 3, 3), np.float32))
    high = prepared(x)
    fastconv.set_precision("highest")
    try:
        assert np.abs(prepared(x) - high).max() < 1e-5 and len(prepared._known) == 2
    finally:
        fastconv.set_precision("high")


# ---------------------------------------------------------------- arrays
@EACH_DTYPE
@pytest.mark.parametrize("case", [*LAYERS, by_id("plain-3x3"), by_id("unbatched"), by_id("depthwise")], ids=str)
def test_the_result_may_replace_the_residual(case, dtype):
    x, weight, bias = case.arrays(dtype)
    residual = case.dout(dtype)
    prepared = Conv2d(weight, bias, activation="relu", **case.kwargs)
    wanted = prepared(x, residual)
    for _ in range(2):
        for view in (lambda a: a, lambda a: a[...]):     # the same array, and another of the same memory
            place = residual.copy()
            assert prepared(x, view(place), place) is place
            assert np.array_equal(place, wanted)
    large = np.zeros((2, *residual.shape), dtype)[:, ..., ::-1]
    large[1] = residual
    assert np.array_equal(prepared(x, large[1], large[1]), wanted) and not large[0].any()


def test_the_result_may_replace_the_residual_of_a_large_layer():
    """On threads: whole tasks read and write."""
    for C, F, H in ((64, 64, 40), (300, 8, 60)):
        x, weight = random_array((2, C, H, H), np.float32), random_array((F, C, 3, 3), np.float32)
        residual = random_array((2, F, H, H), np.float32)
        prepared = Conv2d(weight, padding=1, activation="relu")
        wanted, place = prepared(x, residual), residual.copy()
        assert np.array_equal(prepared(x, place, out=place), wanted)


def test_any_memory_layout():
    case = by_id("plain-3x3")
    x, weight, bias = case.arrays(np.float32, integers=True)
    residual = case.dout(np.float32, integers=True)
    wanted = plain(x, weight, bias, None, residual, "relu", {})
    for odd_x, odd_weight, odd_residual in zip(*(layouts(a).values() for a in (x, weight, residual))):
        prepared = Conv2d(odd_weight, bias[::-1][::-1], activation="relu")
        for _ in range(2):
            assert np.array_equal(prepared(odd_x, odd_residual), wanted)
    for out in layouts(np.zeros(wanted.shape, np.float32)).values():
        if out.flags.writeable:
            assert prepared(x, residual, out) is out and np.array_equal(out, wanted)


@pytest.mark.parametrize("C, F, H, K", [(3, 4, 6, 3), (64, 64, 40, 3), (1000, 8, 30, 1)])
def test_calls_of_a_known_shape_give_what_the_first_one_gives(C, F, H, K):
    """Compiled code looks at their arrays, and does nothing where one is not as it must be: bits, and messages, are those of a fresh layer."""
    x, weight = random_array((2, C, H, H), np.float32), random_array((F, C, K, K), np.float32)
    y = random_array((2, F, H, H), np.float32)
    room = np.zeros(2 * max(x.size, y.size) + 16, np.float32)

    def at(start, like):
        place = room[start:start + like.size].reshape(like.shape)
        place[...] = like
        return place

    def calls():
        yield lambda: (x,)
        yield lambda: (x, y)
        yield lambda: (x, y, np.empty_like(y))
        yield lambda: (x, *[at(0, y)] * 2)                           # over the residual
        yield lambda: (x, at(0, y), room[:y.size].reshape(y.shape))  # the same memory, another array
        yield lambda: (x, at(4, y), room[:y.size].reshape(y.shape))  # half of it
        yield lambda: (at(0, x), None, room[x.size - 1:x.size - 1 + y.size].reshape(y.shape))
        yield lambda: (x[..., ::-1],)
        yield lambda: (np.asfortranarray(x), y)
        yield lambda: (x, np.asfortranarray(y))
        yield lambda: (x, y[:1])
        yield lambda: (x, y.astype(np.float64))
        yield lambda: (x.astype(np.float64),)
        yield lambda: (x.astype(">f4"), y.astype(">f4"))
        yield lambda: (x, None, np.empty_like(y, np.float64))
        yield lambda: (x, None, np.asfortranarray(y))
        yield lambda: (x, None, np.empty_like(y)[:1])
        yield lambda: (x, None, np.broadcast_to(y[:1, :1], y.shape))
        yield lambda: (x, 0.0)
        yield lambda: (x, [1], "out")
        yield lambda: (x.tolist(),)

    def outcome(layer, arguments):
        try:
            result = layer(*arguments)
            return result.tobytes(), len(arguments) == 3 and result is arguments[2]
        except (TypeError, ValueError) as error:
            return type(error), str(error)

    known = Conv2d(weight, padding="same", activation="relu")
    for _ in range(3):
        known(x)
    assert len(known._quick) == handed.readable()
    for call in calls():
        assert outcome(known, call()) == outcome(Conv2d(weight, padding="same", activation="relu"), call())


def test_the_layer_has_copies():
    x, weight, bias = by_id("plain-3x3").arrays(np.float32)
    prepared = Conv2d(weight, bias)
    wanted = prepared(x)
    weight[...] = bias[...] = 0
    assert np.array_equal(prepared(x), wanted)
    assert np.array_equal(prepared(np.concatenate([x, x]))[:2], wanted) and np.array_equal(prepared(x[0]), wanted[0])


def test_attributes():
    prepared = Conv2d(np.ones((4, 1, 3, 3), np.float32), np.ones(4, np.float32), 2, ((1, 0), (0, 2)), [1, 2], 2, activation="relu")
    assert (prepared.stride, prepared.padding, prepared.dilation, prepared.groups) == ((2, 2), ((1, 0), (0, 2)), (1, 2), 2)
    assert (prepared.activation, prepared.dtype) == ("relu", np.float32)
    assert prepared.weight.shape == (4, 1, 3, 3) and prepared.bias.shape == (4,)
    assert not prepared.weight.flags.writeable and not prepared.bias.flags.writeable
    assert repr(prepared) == ("Conv2d(weight (4, 1, 3, 3) float32, bias, stride=(2, 2), padding=((1, 0), (0, 2)), dilation=(1, 2), groups=2, "
                              "activation='relu')")
    assert Conv2d(np.ones((1, 1, 1, 1))).bias is None and repr(Conv2d(np.ones((1, 1, 1, 1)))) == "Conv2d(weight (1, 1, 1, 1) float64)"
    with pytest.raises(ValueError, match="read-only"):
        prepared.weight[0] = 0
    with pytest.raises(AttributeError):
        prepared.weight = np.zeros((4, 1, 3, 3), np.float32)


def test_the_example_of_the_documentation():
    finder = doctest.DocTestFinder(recurse=False).find(Conv2d, globs={"np": np, "Conv2d": Conv2d})
    assert doctest.DocTestRunner().run(finder[0]) == (0, 2)


# ---------------------------------------------------------------- copies, threads
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_pickle_and_deepcopy(dtype):
    case = by_id("groups-dilated-strided")
    x, weight, bias = case.arrays(dtype)
    prepared = Conv2d(weight, bias, **case.kwargs, batch_norm=norm_of(4, dtype), activation="relu")
    fresh = len(pickle.dumps(prepared))
    wanted = prepared(x)
    assert len(pickle.dumps(prepared)) == fresh          # no packed weights
    for twin in (pickle.loads(pickle.dumps(prepared)), copy.deepcopy(prepared), copy.copy(prepared)):
        assert repr(twin) == repr(prepared) and np.array_equal(twin(x), wanted) and np.array_equal(twin.weight, prepared.weight)
        assert twin(x).dtype is np.dtype(dtype)          # the one object of that type, which conv2d knows at sight


def test_a_pickled_layer_in_a_fresh_process(tmp_path):
    case = LAYERS[0]
    x, weight, bias = case.arrays(np.float32)
    prepared = Conv2d(weight, bias, **case.kwargs, activation="relu")
    (tmp_path / "layer").write_bytes(pickle.dumps((prepared, x, prepared(x))))
    program = "import pickle, sys; layer, x, y = pickle.load(open(sys.argv[1], 'rb')); print((layer(x) == y).all(), layer)"
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path / "layer")], capture_output=True, text=True, cwd=ROOT, timeout=120)
    assert done.stdout.strip() == f"True {prepared}", done.stderr


@pytest.mark.parametrize("case", [LAYERS[0], LAYERS[1], by_id("depthwise")], ids=str)
def test_eight_threads_share_a_fresh_layer(case):
    x, weight, bias = case.arrays(np.float32)
    images = [x, x[:, ..., 1:], x[..., 1:, :], x[:1], *([x] * 4)]
    wanted = [fastconv.conv2d(image, weight, bias, **case.kwargs) for image in images]
    for _ in range(10):
        prepared, start, found = Conv2d(weight, bias, **case.kwargs), threading.Barrier(8), [None] * 8

        def call(i, prepared=prepared, start=start, found=found):
            start.wait()
            found[i] = [prepared(images[i]) for _ in range(3)]

        threads = [threading.Thread(target=call, args=(i,)) for i in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for several, right in zip(found, wanted):
            assert several is not None and all(np.array_equal(y, right) for y in several)


@EACH_DTYPE
def test_bits_do_not_depend_on_the_number_of_threads(dtype):
    x, weight = random_array((2, 64, 30, 30), dtype), random_array((70, 64, 3, 3), dtype)
    residual, norm = random_array((2, 70, 30, 30), dtype), norm_of(70, dtype)
    before, found = fastconv.get_num_threads(), []
    try:
        for threads in (1, min(2, before), before):
            fastconv.set_num_threads(threads)
            found.append(Conv2d(weight, padding=1, batch_norm=norm, activation="relu")(x, residual))
    finally:
        fastconv.set_num_threads(before)
    assert all(np.array_equal(y, found[0]) for y in found)


# ---------------------------------------------------------------- errors
W, B, V = np.ones((4, 3, 3, 3), np.float32), np.ones(4, np.float32), np.ones(4, np.float32)


@pytest.mark.parametrize(("arguments", "error", "said"), [
    ({"weight": None}, TypeError, "weight is None; wanted: a NumPy array (F, C / groups, KH, KW)"),
    ({"weight": W[0]}, ValueError, "weight has 3 dimensions"),
    ({"weight": W[:0]}, ValueError, "no empty axis"),
    ({"weight": W.astype(int)}, TypeError, "weight has dtype int64; wanted: float32"),
    ({"bias": B[:3]}, ValueError, "bias has shape (3,); wanted: (4,)"),
    ({"bias": B.astype(float)}, TypeError, "bias has dtype float64 and weight has float32; wanted: one dtype"),
    ({"stride": 0}, ValueError, "stride is 0"),
    ({"padding": -1}, ValueError, "padding is -1"),
    ({"padding": "same", "stride": 2}, ValueError, 'padding is "same" with stride (2, 2)'),
    ({"dilation": (1, 2, 3)}, ValueError, "dilation is (1, 2, 3)"),
    ({"groups": 0}, ValueError, "groups is 0"),
    ({"groups": 3}, ValueError, "groups is 3 and weight has 4 filters"),
    ({"activation": "tanh"}, ValueError, "activation is 'tanh'; wanted: one of None, 'relu'"),
    ({"activation": True}, TypeError, "activation is True of type bool; wanted: one of None, 'relu'"),
    ({"batch_norm": V}, TypeError, "batch_norm is a ndarray; wanted: a tuple (running_mean, running_var, weight, bias, eps)"),
    ({"batch_norm": (V, V, V, V)}, ValueError, "batch_norm has 4 elements; wanted: a tuple (running_mean, running_var, weight, bias, eps)"),
    ({"batch_norm": (None, V, V, V, 0)}, TypeError, "batch_norm's running_mean is None"),
    ({"batch_norm": (V, V[:3], V, V, 0)}, ValueError, "batch_norm's running_var has shape (3,); wanted: (4,)"),
    ({"batch_norm": (V, V, V.astype(float), V, 0)}, TypeError, "batch_norm's weight has dtype float64 and weight has float32"),
    ({"batch_norm": (V, V, V, [1] * 4, 0)}, TypeError, "batch_norm's bias is a list"),
    ({"batch_norm": (V, V, V, V, -1)}, ValueError, "batch_norm's eps is -1"),
    ({"batch_norm": (V, V, V, V, V)}, TypeError, "batch_norm's eps is"),
])
def test_a_wrong_layer_is_refused(arguments, error, said):
    with pytest.raises(error) as raised:
        Conv2d(**{"weight": W, **arguments})
    assert said in str(raised.value)


X, Y = np.ones((2, 3, 5, 6), np.float32), np.ones((2, 4, 3, 4), np.float32)
MEMORY = np.zeros(1000, np.float32)


@pytest.mark.parametrize(("x", "residual", "out", "error", "said"), [
    (None, None, None, TypeError, "x is None"),
    (X.tolist(), None, None, TypeError, "x is a list"),
    (X[0, 0], None, None, ValueError, "x has 2 dimensions"),
    (X[:, :2], None, None, ValueError, "weight has shape (4, 3, 3, 3), so 3 channels in each of 1 groups, and x has 2 channels"),
    (X.transpose(0, 2, 3, 1), None, None, ValueError, "x.transpose(0, 3, 1, 2)"),
    (X[..., :2], None, None, ValueError, "weight is larger than the padded input: the width of the kernel is 3"),
    (X.astype(float), None, None, TypeError, "x has dtype float64 and weight has float32; wanted: one dtype"),
    (X.astype(np.float16), None, None, TypeError, "x has dtype float16 and weight has float32; wanted: one dtype"),
    (X, Y.astype(float), None, TypeError, "residual has dtype float64 and weight has float32"),
    (X, Y[:1], None, ValueError, "residual has shape (1, 4, 3, 4); wanted: (2, 4, 3, 4), the shape of the result"),
    (X, Y[0], None, ValueError, "residual has 3 dimensions"),
    (X, 1.0, None, TypeError, "residual is a float"),
    (X, None, Y[:1].copy(), ValueError, "out has shape (1, 4, 3, 4)"),
    (X, None, Y.astype(float), ValueError, "out has shape (2, 4, 3, 4) and dtype float64; wanted: shape (2, 4, 3, 4) and dtype float32"),
    (X, None, [], TypeError, "out is a list"),
    (MEMORY[:180].reshape(X.shape), None, MEMORY[179:275].reshape(Y.shape), ValueError, "out shares memory with another argument"),
    (X, MEMORY[:96].reshape(Y.shape), MEMORY[1:97].reshape(Y.shape), ValueError, "out shares memory with another argument"),
    (X, MEMORY[:96].reshape(Y.shape), MEMORY[:96].reshape(Y.shape)[::-1], ValueError, "out shares memory with another argument"),
])
def test_a_wrong_call_is_refused(x, residual, out, error, said):
    prepared = Conv2d(W)
    for _ in range(2):                       # fresh, and with the shape known
        with pytest.raises(error) as raised:
            prepared(x, residual, out)
        assert said in str(raised.value)
        prepared(X, Y, Y.copy())


def test_a_read_only_out_and_a_float16_layer_of_float32_images_are_refused():
    out = np.empty_like(Y)
    out.flags.writeable = False
    with pytest.raises(ValueError, match="out is read-only"):
        Conv2d(W)(X, out=out)
    half = Conv2d(W.astype(np.float16))
    half(X.astype(np.float16))
    for _ in range(2):
        with pytest.raises(TypeError, match="x has dtype float32 and weight has float16"):
            half(X)
