"""One operation, one name, one signature: in fastconv, in naive and in fastconv.functional."""
import inspect
import types

import pytest

import fastconv
import naive
from fastconv import functional

AXES = ("1d", "2d", "3d")
ACTIVATIONS = ("dropout", "gelu", "leaky_relu", "log_softmax", "relu", "sigmoid", "softmax", "tanh")      # their twin is a formula, in their test
WITH_TWINS = ("batch_norm", "col2im", "conv2d", "group_norm", "im2col", "instance_norm", "layer_norm", "local_response_norm", "rms_norm",
              *(kind + axes for kind in ("adaptive_avg_pool", "adaptive_max_pool", "avg_pool", "lp_pool", "max_pool", "max_unpool") for axes in AXES))
OPERATIONS = (*ACTIVATIONS, *WITH_TWINS)
SETTINGS = {"Conv2d", "Network", "Plan", "get_num_threads", "get_precision", "get_recycling", "plan_conv2d", "set_num_threads", "set_precision",
            "set_recycling"}
TORCH_NAMES = {"im2col": "unfold", "col2im": "fold"}
WITHOUT_GRADIENT = ("batched_nms", "box_convert", "box_iou", "generalized_box_iou", "nms")      # torchvision.ops has them
GRADED = sorted(name for operation in OPERATIONS for name in (operation, f"{operation}_backward"))
BOTH = sorted([*GRADED, *WITHOUT_GRADIENT])
TWINS = sorted([*(name for operation in WITH_TWINS for name in (operation, f"{operation}_backward")), *WITHOUT_GRADIENT])

# As torch 2.13 has them, `input` called x (of fold: cols); what follows is keyword-only.
FORWARD = {
    "conv2d": "x weight bias=None stride=1 padding=0 dilation=1 groups=1",
    "im2col": "x kernel_size dilation=1 padding=0 stride=1",
    "col2im": "cols output_size kernel_size dilation=1 padding=0 stride=1",
    **dict.fromkeys(("max_pool1d", "max_pool2d", "max_pool3d"),
                    "x kernel_size stride=None padding=0 dilation=1 ceil_mode=False return_indices=False"),
    "avg_pool1d": "x kernel_size stride=None padding=0 ceil_mode=False count_include_pad=True",
    **dict.fromkeys(("avg_pool2d", "avg_pool3d"),
                    "x kernel_size stride=None padding=0 ceil_mode=False count_include_pad=True divisor_override=None"),
    "batch_norm": "x running_mean running_var weight=None bias=None training=False momentum=0.1 eps=1e-05",
    "local_response_norm": "x size alpha=0.0001 beta=0.75 k=1.0",
    **{f"adaptive_avg_pool{axes}": "x output_size" for axes in AXES},
    **{f"adaptive_max_pool{axes}": "x output_size return_indices=False" for axes in AXES},
    **{f"lp_pool{axes}": "x norm_type kernel_size stride=None ceil_mode=False" for axes in AXES},
    **{f"max_unpool{axes}": "x indices kernel_size stride=None padding=0 output_size=None" for axes in AXES},
    "relu": "x", "leaky_relu": "x negative_slope=0.01", "sigmoid": "x", "tanh": "x", "gelu": "x approximate='none'", "softmax": "x dim",
    "log_softmax": "x dim", "dropout": "x p=0.5 training=True",
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


@pytest.mark.parametrize("name", TWINS)
def test_naive_has_the_same_signature(name):
    assert parameters(getattr(naive, name)) == parameters(getattr(fastconv, name))


@pytest.mark.parametrize("operation", OPERATIONS)
def test_backward_takes_dout_and_the_arguments_of_the_forward(operation):
    for house in (fastconv, naive) if operation in WITH_TWINS else (fastconv,):
        forward, backward = positional(getattr(house, operation)), positional(getattr(house, f"{operation}_backward"))
        assert backward == [("dout", inspect.Parameter.empty), *forward]


@pytest.mark.parametrize("operation", OPERATIONS)
def test_names_order_and_defaults_are_those_of_torch(operation):
    arguments = positional(getattr(fastconv, operation))
    assert [n if default is inspect.Parameter.empty else f"{n}={default!r}" for n, default in arguments] == FORWARD[operation].split()


@pytest.mark.parametrize("name", sorted(set(BOTH) - set(WITHOUT_GRADIENT)))
def test_nothing_is_variadic_and_extras_are_keyword_only(name):
    function, operation = getattr(fastconv, name), name.removesuffix("_backward")
    kinds = {kind for _, kind, _ in parameters(function)}
    assert kinds <= {inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY}
    allowed = {"out", "need", "algorithm", "indices", "return_stats", "mean", "invstd", "invrms", "y", "generator", "mask", "return_mask"}
    allowed |= {"dilation"} if "avg" in name else {"dilation", "padding"} if name.startswith("lp_pool") else set()
    assert {n for n, kind, _ in parameters(function) if kind is inspect.Parameter.KEYWORD_ONLY} <= allowed
    assert ("out" in inspect.signature(function).parameters) == (name == operation)


def test_all_lists_are_complete():
    def functions(module):
        return {name for name, value in vars(module).items() if isinstance(value, (types.FunctionType, type)) and not name.startswith("_")}

    assert set(naive.__all__) == functions(naive) == set(TWINS)
    assert set(fastconv.__all__) == functions(fastconv) == {*BOTH, *SETTINGS}
    assert set(functional.__all__) == functions(functional)
    for module in (fastconv, naive, functional):
        assert len(set(module.__all__)) == len(module.__all__)


def test_functional_has_the_names_of_torch_for_the_same_functions():
    for operation in OPERATIONS:
        for end in ("", "_backward"):
            assert getattr(functional, TORCH_NAMES.get(operation, operation) + end) is getattr(fastconv, operation + end)
    assert len(functional.__all__) == len(GRADED)


@pytest.mark.parametrize("name", BOTH)
def test_every_public_function_is_documented_and_typed(name):
    function = getattr(fastconv, name)
    assert function.__doc__
    annotations = inspect.get_annotations(function)
    assert set(annotations) == {*inspect.signature(function).parameters, "return"}
