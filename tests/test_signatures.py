"""One operation, one name, one signature: in fastconv, in naive and in fastconv.functional."""
import inspect
import types

import pytest

import fastconv
import naive
from fastconv import functional

OPERATIONS = ("avg_pool2d", "batch_norm", "col2im", "conv2d", "group_norm", "im2col", "instance_norm", "layer_norm", "max_pool2d", "rms_norm")
SETTINGS = {"Conv2d", "Plan", "get_num_threads", "get_precision", "plan_conv2d", "set_num_threads", "set_precision"}
TORCH_NAMES = {"im2col": "unfold", "col2im": "fold"}
BOTH = sorted(name for operation in OPERATIONS for name in (operation, f"{operation}_backward"))

# As torch 2.13 has them, `input` called x (of fold: cols); what follows is keyword-only.
FORWARD = {
    "conv2d": "x weight bias=None stride=1 padding=0 dilation=1 groups=1",
    "im2col": "x kernel_size dilation=1 padding=0 stride=1",
    "col2im": "cols output_size kernel_size dilation=1 padding=0 stride=1",
    "max_pool2d": "x kernel_size stride=None padding=0 dilation=1 ceil_mode=False return_indices=False",
    "avg_pool2d": "x kernel_size stride=None padding=0 ceil_mode=False count_include_pad=True divisor_override=None",
    "batch_norm": "x running_mean running_var weight=None bias=None training=False momentum=0.1 eps=1e-05",
    "group_norm": "x num_groups weight=None bias=None eps=1e-05",
    "instance_norm": "x running_mean=None running_var=None weight=None bias=None use_input_stats=True momentum=0.1 eps=1e-05",
    "layer_norm": "x normalized_shape weight=None bias=None eps=1e-05",
    "rms_norm": "x normalized_shape weight=None eps=None",
}


def parameters(function):
    """(name, kind, default) of each parameter: all of a signature but the annotations."""
    return [(p.name, p.kind, p.default) for p in inspect.signature(function).parameters.values()]


def positional(function):
    return [(name, default) for name, kind, default in parameters(function) if kind is inspect.Parameter.POSITIONAL_OR_KEYWORD]


@pytest.mark.parametrize("name", BOTH)
def test_naive_has_the_same_signature(name):
    assert parameters(getattr(naive, name)) == parameters(getattr(fastconv, name))


@pytest.mark.parametrize("operation", OPERATIONS)
def test_backward_takes_dout_and_the_arguments_of_the_forward(operation):
    for house in (fastconv, naive):
        forward, backward = positional(getattr(house, operation)), positional(getattr(house, f"{operation}_backward"))
        assert backward == [("dout", inspect.Parameter.empty), *forward]


@pytest.mark.parametrize("operation", OPERATIONS)
def test_names_order_and_defaults_are_those_of_torch(operation):
    arguments = positional(getattr(fastconv, operation))
    assert [n if default is inspect.Parameter.empty else f"{n}={default!r}" for n, default in arguments] == FORWARD[operation].split()


@pytest.mark.parametrize("name", BOTH)
def test_nothing_is_variadic_and_extras_are_keyword_only(name):
    function, operation = getattr(fastconv, name), name.removesuffix("_backward")
    kinds = {kind for _, kind, _ in parameters(function)}
    assert kinds <= {inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY}
    allowed = {"out", "need", "algorithm", "indices", "return_stats", "mean", "invstd", "invrms"} | ({"dilation"} if "avg" in name else set())
    assert {n for n, kind, _ in parameters(function) if kind is inspect.Parameter.KEYWORD_ONLY} <= allowed
    assert ("out" in inspect.signature(function).parameters) == (name == operation)


def test_all_lists_are_complete():
    def functions(module):
        return {name for name, value in vars(module).items() if isinstance(value, (types.FunctionType, type)) and not name.startswith("_")}

    assert set(naive.__all__) == functions(naive) == set(BOTH)
    assert set(fastconv.__all__) == functions(fastconv) == {*BOTH, *SETTINGS}
    assert set(functional.__all__) == functions(functional)
    for module in (fastconv, naive, functional):
        assert sorted(module.__all__) == list(module.__all__)


def test_functional_has_the_names_of_torch_for_the_same_functions():
    for operation in OPERATIONS:
        for end in ("", "_backward"):
            assert getattr(functional, TORCH_NAMES.get(operation, operation) + end) is getattr(fastconv, operation + end)
    assert len(functional.__all__) == len(BOTH)


@pytest.mark.parametrize("name", BOTH)
def test_every_public_function_is_documented_and_typed(name):
    function = getattr(fastconv, name)
    assert function.__doc__
    annotations = inspect.get_annotations(function)
    assert set(annotations) == {*inspect.signature(function).parameters, "return"}
