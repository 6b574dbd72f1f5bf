"""The libraries that peers.py races: how each makes the same convolution, as a call without arguments.

A rival is made for a number of threads. call(given, direction, channels_last) gives None where it has no such convolution; arrays(result)
gives what a call returned as NumPy arrays, channels first. Each rival has its own copy of the inputs, in memory as it likes it.
"""
from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from bench.convs import NEED, Arrays, Call, Problem


class Torch:
    """torch.nn.functional.conv2d, and the operator that its autograd calls for the gradients, without autograd around it."""

    name = "torch"

    def __init__(self, threads: int) -> None:
        import torch

        self.torch, self.version = torch, torch.__version__
        torch.set_num_threads(threads)
        torch.set_grad_enabled(False)

    def call(self, given: Problem, direction: str, channels_last: bool = False) -> Call | None:
        torch, layer = self.torch, given.layer
        layout = torch.channels_last if channels_last else torch.contiguous_format

        def tensor(a: np.ndarray) -> Any:
            return torch.from_numpy(a).clone(memory_format=layout if a.ndim == 4 else torch.contiguous_format)

        x, weight, bias = (tensor(a) for a in (given.x, given.weight, given.bias))
        stride, padding = layer.stride, layer.padding
        if direction == "forward":
            return partial(torch.nn.functional.conv2d, x, weight, bias, stride, padding, 1, layer.groups)
        return partial(torch.ops.aten.convolution_backward.default, tensor(given.dout), x, weight, [layer.F], [stride] * 2, [padding] * 2,
                       [1, 1], False, [0, 0], layer.groups, list(NEED[direction]))

    def arrays(self, result: Any) -> Arrays:
        return tuple(t.contiguous().numpy() for t in (result if isinstance(result, tuple) else (result,)) if t is not None)


class OnnxRuntime:
    """A model of one convolution; its weights are packed ahead, as a prepared layer's are. No gradients, no float64, no channels last."""

    name = "onnxruntime"

    def __init__(self, threads: int) -> None:
        import onnx
        import onnxruntime

        self.onnx, self.runtime, self.version = onnx, onnxruntime, onnxruntime.__version__
        self.options = onnxruntime.SessionOptions()
        self.options.intra_op_num_threads = threads
        self.options.add_session_config_entry("session.intra_op.allow_spinning", "0")

    def call(self, given: Problem, direction: str, channels_last: bool = False) -> Call | None:
        if direction != "forward" or channels_last or given.x.dtype != np.float32:
            return None
        helper, constant, layer = self.onnx.helper, self.onnx.numpy_helper.from_array, given.layer
        x, y = (helper.make_tensor_value_info(name, self.onnx.TensorProto.FLOAT, shape)
                for name, shape in (("x", layer.x_shape), ("y", layer.y_shape)))
        node = helper.make_node("Conv", ["x", "weight", "bias"], ["y"], kernel_shape=[layer.KH, layer.KW], strides=[layer.stride] * 2,
                                pads=[layer.padding] * 4, group=layer.groups)
        graph = helper.make_graph([node], "layer", [x], [y], [constant(given.weight, "weight"), constant(given.bias, "bias")])
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
        session = self.runtime.InferenceSession(model.SerializeToString(), self.options, providers=["CPUExecutionProvider"])
        return partial(session.run, None, {"x": given.x})

    def arrays(self, result: Any) -> Arrays:
        return tuple(result)


class OpenVino:
    """A model of one convolution, compiled for this CPU; its weights are packed ahead. No gradients, no float64, no channels last."""

    name = "openvino"

    def __init__(self, threads: int) -> None:
        import openvino

        self.openvino, self.version = openvino, openvino.__version__
        self.core = openvino.Core()
        self.settings = {"INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": "f32"}

    def call(self, given: Problem, direction: str, channels_last: bool = False) -> Call | None:
        if direction != "forward" or channels_last or given.x.dtype != np.float32:
            return None
        ops, layer, groups = self.openvino.opset13, given.layer, given.layer.groups
        x = ops.parameter(layer.x_shape, np.float32)
        where = {"strides": [layer.stride] * 2, "pads_begin": [layer.padding] * 2, "pads_end": [layer.padding] * 2, "dilations": [1, 1]}
        if groups == 1:
            y = ops.convolution(x, ops.constant(given.weight), **where)
        else:
            y = ops.group_convolution(x, ops.constant(given.weight.reshape(groups, -1, *given.weight.shape[1:])), **where)
        y = ops.add(y, ops.constant(given.bias.reshape(1, -1, 1, 1)))
        compiled = self.core.compile_model(self.openvino.Model([y], [x]), "CPU", self.settings)
        request = compiled.create_infer_request()
        request.set_input_tensor(self.openvino.Tensor(given.x, shared_memory=True))

        def infer() -> Any:
            request.infer()
            return request

        return infer

    def arrays(self, result: Any) -> Arrays:
        return (result.get_output_tensor().data,)


RIVALS: dict[str, Callable[[int], Any]] = {rival.name: rival for rival in (Torch, OnnxRuntime, OpenVino)}
