"""Bad input: ValueError or TypeError that names the argument, what came and what is wanted; inputs stay as they were.

CALLS holds one good call of every public function; the tests spoil one argument at a time.
"""
import re
import warnings
from fractions import Fraction

import numpy as np
import pytest

import fastconv

F4 = np.float32


def ones(*shape, dtype=F4):
    return np.ones(shape, dtype)


CONV = {"x": ones(2, 4, 6, 7), "weight": ones(6, 2, 3, 3), "bias": ones(6), "stride": 1, "padding": 0, "dilation": 1, "groups": 2,
        "algorithm": "auto"}
FOLD = {"kernel_size": 3, "dilation": 1, "padding": 0, "stride": 1}
POOL = {"x": ones(2, 4, 6, 7), "kernel_size": 2, "stride": 1, "padding": 0, "dilation": 1, "ceil_mode": False}
NORM = {"x": ones(2, 4, 6, 7), "running_mean": ones(4), "running_var": ones(4), "weight": ones(4), "bias": ones(4), "training": True,
        "momentum": 0.1, "eps": 1e-5}
AVERAGE = {**POOL, "count_include_pad": True, "divisor_override": 2}
POWER = {"x": ones(2, 4, 6, 7), "norm_type": 2, "kernel_size": 2, "stride": 1, "ceil_mode": False, "padding": 0, "dilation": 1}
UNPOOL = {"x": ones(2, 4, 6, 7), "indices": ones(2, 4, 6, 7, dtype=np.int64), "kernel_size": 2, "stride": 2, "padding": 0, "output_size": (12, 14)}
RESPONSE = {"x": ones(2, 4, 6, 7), "size": 3, "alpha": 0.1, "beta": 0.75, "k": 1.0}
INSTANCE = {**{name: value for name, value in NORM.items() if name != "training"}, "use_input_stats": True}
GROUP = {"x": ones(2, 4, 6, 7), "num_groups": 2, "weight": ones(4), "bias": ones(4), "eps": 1e-5}
LAYER = {"x": ones(2, 4, 6, 7), "normalized_shape": (6, 7), "weight": ones(6, 7), "bias": ones(6, 7), "eps": 1e-5}
ROOT = {name: value for name, value in LAYER.items() if name != "bias"}
CALLS = {
    "conv2d": {**CONV, "out": ones(2, 6, 4, 5)},
    "conv2d_backward": {"dout": ones(2, 6, 4, 5), **CONV, "need": (True, True, True)},
    "im2col": {"x": ones(2, 4, 6, 7), **FOLD, "out": ones(2, 36, 20)},
    "im2col_backward": {"dout": ones(2, 36, 20), "x": ones(2, 4, 6, 7), **FOLD},
    "col2im": {"cols": ones(2, 36, 20), "output_size": (6, 7), **FOLD, "out": ones(2, 4, 6, 7)},
    "col2im_backward": {"dout": ones(2, 4, 6, 7), "cols": ones(2, 36, 20), "output_size": (6, 7), **FOLD},
    "max_pool2d": {**POOL, "return_indices": False, "out": ones(2, 4, 5, 6)},
    "max_pool2d_backward": {"dout": ones(2, 4, 5, 6), **POOL, "return_indices": False, "indices": ones(2, 4, 5, 6, dtype=np.int64)},
    "avg_pool2d": {**AVERAGE, "out": ones(2, 4, 5, 6)},
    "avg_pool2d_backward": {"dout": ones(2, 4, 5, 6), **AVERAGE},
    "batch_norm": {**NORM, "return_stats": False, "out": ones(2, 4, 6, 7)},
    "batch_norm_backward": {"dout": ones(2, 4, 6, 7), **NORM, "mean": ones(4), "invstd": ones(4), "need": (True, True, True)},
    "adaptive_avg_pool2d": {"x": ones(2, 4, 6, 7), "output_size": 3, "out": ones(2, 4, 3, 3)},
    "adaptive_avg_pool2d_backward": {"dout": ones(2, 4, 3, 3), "x": ones(2, 4, 6, 7), "output_size": 3},
    "adaptive_max_pool2d": {"x": ones(2, 4, 6, 7), "output_size": 3, "return_indices": False, "out": ones(2, 4, 3, 3)},
    "adaptive_max_pool2d_backward": {"dout": ones(2, 4, 3, 3), "x": ones(2, 4, 6, 7), "output_size": 3, "return_indices": False,
                                     "indices": ones(2, 4, 3, 3, dtype=np.int64)},
    "lp_pool2d": {**POWER, "out": ones(2, 4, 5, 6)},
    "lp_pool2d_backward": {"dout": ones(2, 4, 5, 6), **POWER},
    "max_unpool2d": {**UNPOOL, "out": ones(2, 4, 12, 14)},
    "max_unpool2d_backward": {"dout": ones(2, 4, 12, 14), **UNPOOL},
    "local_response_norm": {**RESPONSE, "out": ones(2, 4, 6, 7)},
    "local_response_norm_backward": {"dout": ones(2, 4, 6, 7), **RESPONSE},
    "leaky_relu": {"x": ones(2, 4, 6, 7), "negative_slope": 0.1, "out": ones(2, 4, 6, 7)},
    "leaky_relu_backward": {"dout": ones(2, 4, 6, 7), "x": ones(2, 4, 6, 7), "negative_slope": 0.1},
    "sigmoid": {"x": ones(2, 4, 6, 7), "out": ones(2, 4, 6, 7)},
    "tanh_backward": {"dout": ones(2, 4, 6, 7), "x": ones(2, 4, 6, 7), "y": ones(2, 4, 6, 7)},
    "gelu": {"x": ones(2, 4, 6, 7), "approximate": "none", "out": ones(2, 4, 6, 7)},
    "softmax": {"x": ones(2, 4, 6, 7), "dim": 1, "out": ones(2, 4, 6, 7)},
    "softmax_backward": {"dout": ones(2, 4, 6, 7), "x": ones(2, 4, 6, 7), "dim": 1, "y": ones(2, 4, 6, 7)},
    "dropout": {"x": ones(2, 4, 6, 7), "p": 0.5, "training": True, "generator": np.random.default_rng(0), "return_mask": False,
                "out": ones(2, 4, 6, 7)},
    "dropout_backward": {"dout": ones(2, 4, 6, 7), "x": ones(2, 4, 6, 7), "p": 0.5, "training": True, "mask": ones(2, 4, 6, 7)},
    "instance_norm": {**INSTANCE, "return_stats": False, "out": ones(2, 4, 6, 7)},
    "instance_norm_backward": {"dout": ones(2, 4, 6, 7), **INSTANCE, "mean": ones(2, 4), "invstd": ones(2, 4), "need": (True, True, True)},
    "group_norm": {**GROUP, "return_stats": False, "out": ones(2, 4, 6, 7)},
    "group_norm_backward": {"dout": ones(2, 4, 6, 7), **GROUP, "mean": ones(2, 2), "invstd": ones(2, 2), "need": (True, True, True)},
    "layer_norm": {**LAYER, "return_stats": False, "out": ones(2, 4, 6, 7)},
    "layer_norm_backward": {"dout": ones(2, 4, 6, 7), **LAYER, "mean": ones(2, 4), "invstd": ones(2, 4), "need": (True, True, True)},
    "rms_norm": {**ROOT, "return_stats": False, "out": ones(2, 4, 6, 7)},
    "rms_norm_backward": {"dout": ones(2, 4, 6, 7), **ROOT, "invrms": ones(2, 4), "need": (True, True)},
    "plan_conv2d": {"x_shape": (2, 4, 6, 7), "weight_shape": (6, 2, 3, 3), "dtype": F4, "stride": 1, "padding": 0, "dilation": 1,
                    "groups": 2, "algorithm": "auto"},
    "set_num_threads": {"n": 1},
    "set_precision": {"precision": "high"},
    "set_recycling": {"mib": 256},
}
ARRAYS = {"x", "weight", "bias", "dout", "cols", "running_mean", "running_var", "mean", "invstd", "invrms", "indices", "out", "y", "mask"}
OPTIONAL = {"bias", "running_mean", "running_var", "mean", "invstd", "invrms", "indices", "out", "stride", "divisor_override", "output_size", "y"}
INTEGERS = {"stride", "padding", "dilation", "groups", "kernel_size", "output_size", "divisor_override", "n", "size", "mib", "num_groups"}
PAIRS = {"stride", "padding", "dilation", "kernel_size", "output_size"}
FLAGS = {"ceil_mode", "count_include_pad", "return_indices", "training", "return_stats", "return_mask", "use_input_stats"}
NUMBERS = {"momentum", "eps"}
NORMS = ("batch_norm", "instance_norm", "group_norm", "layer_norm", "rms_norm")
ANY_RANK = ("local_response_norm", "leaky_relu", "sigmoid", "tanh", "gelu", "softmax", "dropout")


class NoRepr:
    def __repr__(self):
        raise RuntimeError("cannot be shown")


class BadIndex:
    def __index__(self):
        raise RuntimeError("no index")


class WrongIndex:
    def __index__(self):
        return "3"


def places(*kinds, without=()):
    """(function, argument) for every argument of the kinds."""
    wanted = set().union(*kinds)
    return pytest.mark.parametrize("function, argument", [(f, a) for f, arguments in CALLS.items() for a in arguments
                                                          if a in wanted and a not in without])


def refuse(function, argument, value, *words, **others):
    """Call the function with one argument replaced; the error must be of the right type, name the argument, and change nothing."""
    arguments = {**CALLS[function], **others, argument: value}
    before = {name: a.copy() for name, a in arguments.items() if isinstance(a, np.ndarray) and a.size < 1e6}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises((TypeError, ValueError)) as caught:
            getattr(fastconv, function)(**arguments)
    message = str(caught.value)
    assert type(caught.value) in (TypeError, ValueError), repr(caught.value)
    assert re.search(rf"\b{argument}\b", message), f"{argument} is not named: {message}"
    assert "wanted:" in message and len(message) < 500, message
    for word in words:
        assert word in message, message
    for name, copy in before.items():
        assert np.array_equal(copy, arguments[name]), f"{name} was written to"


def accept(function, **others):
    """The result of the function with some arguments replaced, in a new array unless they say otherwise."""
    arguments = {**CALLS[function], **({"out": None} if "out" in CALLS[function] else {}), **others}
    if "generator" in arguments:
        arguments["generator"] = np.random.default_rng(0)
    return getattr(fastconv, function)(**arguments)


@pytest.fixture(autouse=True)
def settings_as_they_were():
    threads, precision = fastconv.get_num_threads(), fastconv.get_precision()
    yield
    fastconv.set_num_threads(threads)
    fastconv.set_precision(precision)


@pytest.mark.parametrize("function", CALLS)
def test_the_good_calls_are_good(function):
    accept(function)
    getattr(fastconv, function)(**CALLS[function])


# ---------------------------------------------------------------- types
NO_ARRAYS = [object(), NoRepr(), [1.0, 2.0], [[1, 2], [3]], "abc", b"x", 3, 1.5, F4(3), True, {}, range(3), NotImplemented, np.ndarray]


@places(ARRAYS)
def test_what_is_no_array(function, argument):
    for value in NO_ARRAYS:
        refuse(function, argument, value, type(value).__name__)


@places(ARRAYS, without=OPTIONAL)
def test_none_for_an_array(function, argument):
    if "_norm" in function and argument == "weight":
        assert accept(function, weight=None) is not None
    else:
        refuse(function, argument, None, "None")


@places(ARRAYS, without={"indices"})
@pytest.mark.parametrize("dtype", [complex, object, bool, "U3", "S3", "datetime64[s]", "timedelta64[s]", np.longdouble, [("a", "f4")], int,
                                   np.uint8], ids=str)
def test_arrays_of_other_dtypes(function, argument, dtype):
    value = np.zeros(CALLS[function][argument].shape, dtype)
    if value.dtype.kind in "iu" and function.startswith("max_pool2d") and argument == "x":
        accept(function, x=value)
    else:
        refuse(function, argument, value, str(value.dtype))


@places(ARRAYS, without={"indices"})
def test_mixed_dtypes(function, argument):
    others = {} if argument == "out" or "out" not in CALLS[function] else {"out": None}
    if len((ARRAYS - {"indices"}) & set(CALLS[function]) - set(others)) > 1:
        refuse(function, argument, CALLS[function][argument].astype(np.float64), "float64", "float32", **others)


def test_complex_and_lists_are_told_what_would_help():
    refuse("conv2d", "x", ones(2, 4, 6, 7, dtype=complex), "real and imaginary")
    refuse("conv2d", "x", [[1.0]], "numpy.asarray(x")
    refuse("conv2d", "bias", ones(6, dtype=int), "bias.astype(numpy.float32)")
    refuse("conv2d", "weight", ones(6, 2, 3, 3, dtype=np.float64), "weight.astype(x.dtype)")
    refuse("avg_pool2d", "x", np.ma.zeros((2, 4, 6, 7), F4), "x.filled(0)")


@places(ARRAYS)
def test_masked_arrays(function, argument):
    value = CALLS[function][argument]
    refuse(function, argument, np.ma.masked_less(value.copy(), 5))


# ---------------------------------------------------------------- shapes
@places(ARRAYS)
def test_wrong_rank(function, argument):
    value = CALLS[function][argument]
    for wrong in (np.zeros((), value.dtype), value[..., None, None, None], np.zeros(0, value.dtype)):
        any_rank = function.startswith(NORMS) and argument in ("x", "dout") and wrong.ndim > 1
        if wrong.shape != value.shape and not any_rank and not (function.startswith(ANY_RANK) and argument == "x"):
            refuse(function, argument, wrong)


@places({"dout", "bias", "running_mean", "running_var", "mean", "invstd", "indices", "out"})
def test_wrong_shape(function, argument):
    value = CALLS[function][argument]
    for axis in range(value.ndim):
        for wrong in (np.concatenate([value, value.take([0], axis)], axis), value.take([], axis)):
            refuse(function, argument, wrong, str(wrong.shape))
    if value.ndim > 1:
        refuse(function, argument, value[0], str(value.shape))          # without the batch axis


def test_weight_that_does_not_fit():
    for function in ("conv2d", "conv2d_backward"):
        refuse(function, "weight", ones(6, 3, 3, 3), "(6, 3, 3, 3)", "4 channels")
        refuse(function, "weight", ones(5, 2, 3, 3), "(5,)", bias=ones(6))
        refuse(function, "weight", ones(5, 2, 3, 3), "5 filters", bias=None)
        refuse(function, "weight", ones(6, 2, 0, 3), "axis 2 is 0")
        refuse(function, "weight", ones(6, 2, 7, 3), "at most 6", "height")
        refuse(function, "weight", ones(6, 2, 3, 8), "at most 7", "width")
        refuse(function, "groups", 3, "divide the channels")
        refuse(function, "groups", 4, "divide the filters", weight=ones(6, 1, 3, 3))
        refuse(function, "x", ones(2, 3, 6, 7), "3 channels", groups=1)
        refuse(function, "x", ones(2, 0, 6, 7), "0 channels")


@places({"kernel_size"})
def test_kernel_larger_than_the_padded_input(function, argument):
    if not function.startswith(("col2im", "max_unpool")):
        refuse(function, argument, 9, "height", "at most 6")
        refuse(function, argument, (1, 8), "width", "at most 7")
        refuse(function, argument, (10, 1), "10", "at most 9", padding=((1, 2), (0, 0)))
        refuse(function, argument, (4, 1), "with dilation 2: 7", dilation=2)
        refuse(function, argument, 2 ** 31 - 1)


def test_col2im_sizes():
    for function in ("col2im", "col2im_backward"):
        refuse(function, "cols", ones(2, 35, 20), "multiple of kernel_size, KH * KW = 9")
        refuse(function, "cols", ones(2, 36, 21), "(2, 36, 20)")
        refuse(function, "cols", ones(2, 36, 0), "(2, 36, 20)")
        refuse(function, "output_size", (6, 8), "(2, 36, 24)")
        refuse(function, "output_size", 2 ** 31 - 1)
        one_patch = {"cols": ones(1, 1, 1), "kernel_size": 1, "stride": 2 ** 31 - 1}
        refuse(function, "output_size", 2 ** 31 - 1, "elements", **one_patch)


def test_pooling_padding_reaches_less_than_the_window():
    for function in ("max_pool2d", "max_pool2d_backward", "avg_pool2d", "avg_pool2d_backward"):
        refuse(function, "padding", 2, "less than that")
        refuse(function, "padding", ((0, 0), (0, 3)), "width")
        accept("max_pool2d", padding=((1, 0), (0, 1)))


# ---------------------------------------------------------------- integers
@places(INTEGERS)
def test_integers_that_are_none(function, argument):
    for value in (1.0, 2.0, 0.5, np.float64(1), float("nan"), float("inf"), 1j, Fraction(1), True, False, np.True_, "1", b"1", {}, {1},
                  object(), NoRepr(), BadIndex(), WrongIndex(), slice(1), np.array(1.0), np.array([1.0, 1.0]), np.zeros((3, 4)), range(2)):
        refuse(function, argument, value)
    if not (argument in OPTIONAL and not function.startswith(("conv2d", "im2col", "col2im", "plan"))):
        refuse(function, argument, None, "None")


@places(INTEGERS)
def test_integers_beyond_all_sizes(function, argument):
    for value in (10 ** 30, 2 ** 40, 2 ** 63, 2 ** 64 - 1, 10 ** 5000, np.uint64(2 ** 64 - 1), -10 ** 30, -2 ** 63):
        refuse(function, argument, value)
    if argument in PAIRS:
        for value in ((10 ** 30, 1), (1, 10 ** 30), (1, -2 ** 70)):
            refuse(function, argument, value)


@places(INTEGERS, without={"padding", "divisor_override", "mib"})
def test_zero_and_negative(function, argument):
    for value in (0, -1, np.int64(0), np.int8(-1)) + (((0, 1), (1, 0), (1, -1)) if argument in PAIRS else ()):
        refuse(function, argument, value)


@places({"padding"})
def test_padding(function, argument):
    conv = function in ("conv2d", "conv2d_backward", "plan_conv2d")
    for value in (-1, (0, -1), ((0, 0), (0, -1)), (1, 2, 3), (), ((1, 1),), ((1, 1), (1, 1), (1, 1)), ((1, 2), 3), ((1,), (2,)),
                  (None, None), (1.0, 1.0), ((1.0, 0), (0, 0)), "full", "SAME", "", ("same", "same"), np.array([1, 1]),
                  *(() if conv else ("same", "valid"))):
        refuse(function, argument, value)
    for value in (2 ** 31 - 1, 2 ** 30, ((0, 0), (0, 2 ** 31 - 1))):
        if function.startswith(("conv2d", "im2col", "plan")) and value != ((0, 0), (0, 2 ** 31 - 1)):
            refuse(function, argument, value, "elements")
    if conv:
        refuse(function, argument, "same", "stride", stride=2)


@places(PAIRS, without={"padding"})
def test_pairs(function, argument):
    for value in ((), (1, 2, 3), [1, 2, 3], ((1, 2), 3), (1, 1.0), (None, 1), ("1", "1"), (True, 1)):
        if value != (None, 1) or not function.startswith("adaptive"):
            refuse(function, argument, value)


def test_a_float_is_refused_after_the_equal_integer_was_cached():
    for function, arguments in CALLS.items():
        for argument in INTEGERS & set(arguments) - {"n"}:
            good = arguments[argument]
            if isinstance(good, int):
                accept(function)
                refuse(function, argument, float(good))
                refuse(function, argument, (float(good), good)) if argument in PAIRS else None
                accept(function, **{argument: np.int32(good)})


def test_numpy_scalars_and_integer_0_d_arrays_are_integers():
    wanted = accept("conv2d", stride=2, padding=1)
    for one, two in ((np.int8(1), np.uint64(2)), (np.array(1), np.array(2, np.int16))):
        assert np.array_equal(accept("conv2d", stride=two, padding=(one, one), dilation=[one, one], groups=two), wanted)
        assert np.array_equal(accept("max_pool2d", kernel_size=two, stride=one), accept("max_pool2d"))
        assert np.array_equal(accept("col2im", output_size=(np.int64(6), np.uint8(7))), accept("col2im"))


# ---------------------------------------------------------------- flags, numbers, choices
@places(FLAGS)
def test_flags(function, argument):
    for value in (None, 0, 1, 1.0, "True", [], np.array([True]), object(), NoRepr(), 10 ** 5000):
        refuse(function, argument, value)
    plain = {"mean": None, "invstd": None} if function == "instance_norm_backward" else {}      # of running statistics they have another shape
    accept(function, **{argument: np.False_}, **plain)


@places(NUMBERS)
def test_numbers(function, argument):
    for value in (float("nan"), np.float32("nan"), float("inf"), -1e-9, -1, 10 ** 400, 10 ** 5000, None, "1", 1j, True, [0.1],
                  np.array([0.1]), NoRepr()):
        if value is not None or not function.startswith("rms_norm"):
            refuse(function, argument, value)
    for value in (0, 1, 0.5, np.float32(0.5), np.float16(0.5), np.int64(1)):
        accept(function, **{argument: value}, **({"training": False} if "training" in CALLS[function] else {}))


@places({"algorithm", "precision"})
def test_choices(function, argument):
    for value in (None, 1, "", "AUTO", "fft", b"auto", ("auto",), np.array(["auto", "direct"]), np.zeros((2, 3)), NoRepr(), "a" * 10_000):
        refuse(function, argument, value, "one of '")


@places({"need"})
def test_need(function, argument):
    count = len(CALLS[function]["need"])
    for value in (None, True, (True,) * (count - 1), (True,) * (count + 1), (1, 0, 1), (None,) * 3, "yes", {True}, np.array([True] * 3), [True, True, "x"],
                  NoRepr()):
        refuse(function, argument, value)
    assert [g is None for g in accept(function, need=[False, True, np.False_][:count])] == [True, False, True][:count]


@pytest.mark.parametrize("argument", ["x_shape", "weight_shape"])
def test_shapes_of_a_plan(argument):
    for value in (None, 3, "abc", (1, 2), (1,) * 5, (2, 4, 6.0, 7), (2, 4, -6, 7), (2, 4, None, 7), (2, 4, 10 ** 30, 7),
                  np.zeros((2, 4, 6, 7)), object()):
        refuse("plan_conv2d", argument, value)
    for dtype in (None, int, complex, "abc", object, object(), 3, NoRepr(), np.longdouble):
        refuse("plan_conv2d", "dtype", dtype)
    for dtype in (np.float32, "f8", np.dtype(">f4"), np.float16):
        assert accept("plan_conv2d", dtype=dtype).dtype in (np.float32, np.float64)


def test_num_threads():
    most = fastconv.runtime.max_threads()
    refuse("set_num_threads", "n", most + 1, str(most))
    fastconv.set_num_threads(np.int64(1))
    assert fastconv.get_num_threads() == 1 and type(fastconv.get_num_threads()) is int


# ---------------------------------------------------------------- out, indices, statistics
@places({"out"})
def test_out(function, argument):
    right = CALLS[function]["out"]
    read_only = right.copy()
    read_only.flags.writeable = False
    refuse(function, argument, read_only, "read-only")
    refuse(function, argument, np.broadcast_to(right[:1, :1], right.shape), "read-only")
    refuse(function, argument, right.astype(np.float64), "float64", str(right.shape))
    refuse(function, argument, right.T, "shape")
    refuse(function, argument, (right, right))
    source = "cols" if function == "col2im" else "x"
    both = np.ones(max(right.size, CALLS[function][source].size) + 5, F4)
    x = both[:CALLS[function][source].size].reshape(CALLS[function][source].shape)
    for shift in (0, 5):
        refuse(function, argument, both[shift:shift + right.size].reshape(right.shape), "shares memory", **{source: x})
    apart = np.ones((2, *right.shape), F4)           # interleaved with the input, but no element is shared
    twice = np.ones((*CALLS[function][source].shape, 2), F4)
    if right.shape == twice.shape[:-1]:
        assert accept(function, **{source: twice[..., 0], "out": twice[..., 1]}).base is twice
    assert accept(function, out=apart[1]) is not None


def test_out_overlapping_other_inputs():
    weight = np.ones(2 * 6 * 4 * 5, F4)
    refuse("conv2d", "out", weight.reshape(2, 6, 4, 5), "shares memory", weight=weight[:108].reshape(6, 2, 3, 3))
    out = np.ones((2, 4, 6, 7), F4)
    for name in ("running_mean", "running_var", "weight", "bias"):
        refuse("batch_norm", "out", out, "shares memory", **{name: out.reshape(-1)[3:7]})


def test_out_of_max_pool_with_indices():
    y, indices = ones(2, 4, 5, 6), ones(2, 4, 5, 6, dtype=np.int64)
    for value in (y, [y, indices], (y,), (y, indices, y), "ab"):
        refuse("max_pool2d", "out", value, "tuple", return_indices=True)
    refuse("max_pool2d", "out", (y, y), "out[1]", "int64", return_indices=True)
    refuse("max_pool2d", "out", (indices, y), "out[0]", return_indices=True)
    same = indices.copy()
    refuse("max_pool2d", "out", (same, same), "out[1]", "shares memory", x=ones(2, 4, 6, 7, dtype=np.int64), return_indices=True)
    for out in ((y, indices), (None, indices), (y, None), (None, None)):
        got = accept("max_pool2d", out=out, return_indices=True)
        assert all(given is None or given is result for given, result in zip(out, got))


def test_indices_outside_the_plane():
    for value in (42, -2, 2 ** 40, np.iinfo(np.int64).max):
        wrong = ones(2, 4, 5, 6, dtype=np.int64)
        wrong[1, 2, 3, 4] = value
        refuse("max_pool2d_backward", "indices", wrong, str(value))
    refuse("max_pool2d_backward", "indices", np.full((2, 4, 5, 6), 2 ** 64 - 1, np.uint64))
    refuse("max_pool2d_backward", "indices", ones(2, 4, 5, 6), "float32")
    accept("max_pool2d_backward", indices=np.full((2, 4, 5, 6), 41, np.int8))


def test_batch_norm_statistics():
    for function in ("batch_norm", "batch_norm_backward"):
        for x in (ones(1, 4), ones(1, 4, 1, 1)):
            refuse(function, "x", x, "one value", **({"out": None} if function == "batch_norm" else {"dout": x}))
        refuse(function, "running_mean", None, "both or neither")
        refuse(function, "running_var", None, "both or neither")
        refuse(function, "running_var", CALLS[function]["running_mean"], "share memory")
        read_only = np.broadcast_to(F4(1), 4)
        refuse(function, "running_mean", read_only, "read-only")
        refuse(function, "running_var", read_only, "read-only")
        accept(function, running_mean=read_only, running_var=read_only, training=False)
    refuse("batch_norm_backward", "mean", None, "invstd")
    refuse("batch_norm_backward", "invstd", None, "mean")


def test_refused_training_moves_no_statistics():
    """Every check comes before the first write."""
    for bad in ({"momentum": -1.0}, {"eps": float("nan")}, {"out": ones(3)}, {"return_stats": 1}, {"bias": ones(3)},
                {"weight": ones(4, dtype=np.float64)}):
        mean, var = ones(4), ones(4)
        with pytest.raises((TypeError, ValueError)):
            accept("batch_norm", x=np.arange(336, dtype=F4).reshape(2, 4, 6, 7), running_mean=mean, running_var=var, **bad)
        assert (mean == 1).all() and (var == 1).all()


def test_weight_and_bias_may_be_the_running_statistics():
    x = np.random.default_rng(0).standard_normal((3, 4, 5)).astype(F4)
    mean, var = np.arange(4, dtype=F4), np.arange(1, 5, dtype=F4)
    wanted = fastconv.batch_norm(x, mean.copy(), var.copy(), var.copy(), mean.copy(), training=True)
    assert np.array_equal(fastconv.batch_norm(x, mean, var, var, mean, training=True), wanted)


# ---------------------------------------------------------------- channels last
def test_channels_last_images_are_recognised():
    for shape, transpose in (((2, 32, 48, 3), "x.transpose(0, 3, 1, 2)"), ((32, 48, 3), "x.transpose(2, 0, 1)")):
        for weight, groups in ((ones(8, 3, 3, 3), 1), (ones(6, 1, 3, 3), 3)):
            refuse("conv2d", "x", ones(*shape), "channels first", transpose, weight=weight, groups=groups, bias=None, out=None)
            refuse("conv2d_backward", "x", ones(*shape), "channels first", transpose, weight=weight, groups=groups, bias=None)
            fastconv.conv2d(np.moveaxis(ones(*shape), -1, -3), weight, groups=groups)
    refuse("batch_norm", "x", ones(2, 6, 7, 4), "channels first", "x.transpose(0, 3, 1, 2)", out=None)
    refuse("conv2d", "x", ones(32, 48), "x[None]")
    with pytest.raises(ValueError) as caught:
        fastconv.conv2d(ones(2, 5, 6, 7), ones(6, 2, 3, 3))
    assert "come last" not in str(caught.value)


# ---------------------------------------------------------------- odd arrays that work
class Tagged(np.ndarray):
    """A subclass that a kernel must not see."""

    def reshape(self, *shape, **kwargs):
        raise AssertionError("a kernel saw the subclass")


def test_subclasses_are_their_data(tmp_path):
    for function, arguments in CALLS.items():
        names = [name for name in arguments if name in ARRAYS - {"out", "running_mean", "running_var"}]
        if names:
            tagged = {name: arguments[name].copy().view(Tagged) for name in names}
            mapped = {}
            for name in names:
                np.save(tmp_path / f"{name}.npy", arguments[name])
                mapped[name] = np.load(tmp_path / f"{name}.npy", mmap_mode="r")
            for odd in (tagged, mapped):
                for result, wanted in zip(*(r if isinstance(r, tuple) else (r,) for r in (accept(function, **odd), accept(function)))):
                    assert type(result) is np.ndarray
                    assert np.array_equal(result, wanted)


def test_results_go_into_subclasses(tmp_path):
    for function in ("conv2d", "im2col", "col2im", "max_pool2d", "avg_pool2d", "batch_norm"):
        wanted = accept(function)
        out = np.memmap(tmp_path / function, F4, "w+", shape=wanted.shape)
        assert accept(function, out=out) is out
        assert np.array_equal(out, wanted)
        out = np.zeros(wanted.shape, F4).view(Tagged)
        assert accept(function, out=out) is out
        assert np.array_equal(out, wanted)


def test_numbers_of_poolings_and_activations():
    bad = (float("nan"), float("inf"), -1e-9, 10 ** 400, None, "1", 1j, True, [0.1], np.array([0.1]), NoRepr())
    for function, argument in (("lp_pool2d", "norm_type"), ("lp_pool2d_backward", "norm_type"), ("local_response_norm", "alpha"),
                               ("local_response_norm", "beta"), ("local_response_norm_backward", "k"), ("leaky_relu", "negative_slope"),
                               ("leaky_relu_backward", "negative_slope"), ("dropout", "p"), ("dropout_backward", "p")):
        for value in bad:
            refuse(function, argument, value)
        accept(function, **{argument: np.float32(0.5)})
    refuse("lp_pool2d", "norm_type", 0)
    refuse("dropout", "p", 1.5)
    for value in (4, -5, 1.0, None, "1", True, NoRepr(), 10 ** 30):
        refuse("softmax", "dim", value)
        refuse("softmax_backward", "dim", value)
    for value in (None, 3, np.random, np.random.RandomState(0)):
        refuse("dropout", "generator", value)
    refuse("dropout_backward", "mask", None)
    for value in ("", "NONE", None, 1, NoRepr()):
        refuse("gelu", "approximate", value)


def test_adaptive_pooling_of_nothing_and_unpooling_to_elsewhere():
    for function in ("adaptive_avg_pool2d", "adaptive_max_pool2d"):
        refuse(function, "x", ones(2, 4, 0, 7), "no elements", out=None)
        assert accept(function, x=ones(2, 0, 6, 7)).shape == (2, 0, 3, 3)
    refuse("max_unpool2d", "indices", np.full((2, 4, 6, 7), 168), "168", out=None)
    refuse("max_unpool2d", "output_size", (12, 16), "width", "less than 16")
    refuse("max_unpool2d", "output_size", (10, 14), "height", "more than 10")
    refuse("adaptive_max_pool2d_backward", "indices", np.full((2, 4, 3, 3), 42), "42")


def test_matrices():
    x = np.random.default_rng(0).standard_normal((5, 4)).astype(F4)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")          # NumPy would rather have no matrices at all
        m = np.matrix(x)
        cols = np.asmatrix(np.arange(36, dtype=F4).reshape(9, 4))
    assert np.array_equal(fastconv.batch_norm(m, None, None), fastconv.batch_norm(x, None, None))
    out = np.zeros_like(m)
    assert np.array_equal(fastconv.batch_norm(x, None, None, out=out), fastconv.batch_norm(x, None, None))
    assert np.array_equal(fastconv.col2im(cols, (4, 4), 3), fastconv.col2im(np.asarray(cols), (4, 4), 3))


def test_views_too_large_to_copy_are_refused():
    huge = np.broadcast_to(F4(0), (2 ** 13, 4, 2 ** 14, 2 ** 14))
    for function in ("conv2d", "im2col", "max_pool2d", "avg_pool2d", "batch_norm"):
        refuse(function, "x", huge, "elements", out=None)
        refuse(function, "x", huge, "elements", **({"stride": 2 ** 20} if "stride" in CALLS[function] else {}))
    refuse("conv2d", "weight", np.broadcast_to(F4(0), (6, 2, 2 ** 20, 2 ** 20)))
    refuse("conv2d_backward", "dout", np.broadcast_to(F4(0), (6, 2, 2 ** 20, 2 ** 20)))
    refuse("max_pool2d_backward", "indices", np.broadcast_to(np.int64(0), (2 ** 10, 2, 2 ** 20, 2 ** 20)))


def test_arrays_with_empty_axes():
    assert accept("conv2d", x=ones(0, 4, 6, 7)).shape == (0, 6, 4, 5)
    assert accept("conv2d", x=ones(2, 4, 0, 7), padding=2).shape == (2, 6, 2, 9)
    assert accept("conv2d", x=ones(2, 4, 6, 0), padding=2).shape == (2, 6, 8, 2)
    assert (accept("conv2d", x=ones(2, 4, 6, 0), padding=2) == 1).all()
    assert all((g == 0).all() for g in accept("conv2d_backward", x=ones(2, 4, 6, 0), padding=2, dout=ones(2, 6, 8, 2))[:2])
    refuse("conv2d", "weight", CALLS["conv2d"]["weight"], "at most 0", x=ones(2, 4, 0, 7), out=None)
    assert accept("im2col", x=ones(2, 0, 6, 7)).shape == (2, 0, 20)
    assert accept("col2im", cols=ones(2, 0, 20)).shape == (2, 0, 6, 7)
    assert accept("max_pool2d", x=ones(2, 0, 6, 7)).shape == (2, 0, 5, 6)
    assert accept("avg_pool2d", x=ones(0, 4, 6, 7)).shape == (0, 4, 5, 6)
    y, indices = accept("max_pool2d", x=ones(2, 4, 0, 7), padding=1, kernel_size=2, return_indices=True)
    assert y.shape == (2, 4, 1, 8) and (indices == -1).all() and np.isneginf(y).all()
    assert fastconv.batch_norm(ones(0, 4), ones(4), ones(4), training=True).shape == (0, 4)
    assert fastconv.batch_norm(ones(2, 0, 3), None, None).shape == (2, 0, 3)
