"""Training states on disk: nested dictionaries and lists of numbers, texts and arrays in one .npz file that holds no code.

The arrays are members of the file; everything else is one JSON text, in which an array stands as {"array": its number}. Floats come
back bit for bit.
"""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..files import replacing

__all__ = ["check_weights", "load", "save"]

TREE = "tree"  # the member with the JSON text


def save(path: str | os.PathLike[str], state: dict[str, Any]) -> None:
    """Write state to path: whole or not at all, even where the process is killed meanwhile. TypeError: a value of another kind."""
    path, arrays = Path(path), []
    text = json.dumps(_packed(state, arrays))
    members = {str(n): array for n, array in enumerate(arrays)}
    with replacing(path) as file:
        np.savez(file, **{TREE: np.frombuffer(text.encode(), np.uint8)}, **members)


def load(path: str | os.PathLike[str], wanted: Sequence[str] = ()) -> dict[str, Any]:
    """What `save` wrote. Nothing in the file is executed.

    ValueError: another kind of file, a damaged one, or a state without one of the entries `wanted`.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            state = _unpacked(json.loads(file[TREE].tobytes().decode()), file)
    except OSError:
        raise
    except Exception as error:  # NumPy, zipfile and json have a dozen between them
        raise ValueError(f"{path} is not a checkpoint, or it is damaged: {error}") from None
    missing = [name for name in wanted if name not in state] if isinstance(state, dict) else wanted
    if missing:
        raise ValueError(f"{path} has no {', '.join(missing)}: it is a checkpoint of another kind; wanted: {', '.join(wanted)}")
    return state


def check_weights(path: str | os.PathLike[str], state: dict[str, Any], model: Any) -> None:
    """ValueError unless the params and bn_params of a state are this model's: names, shapes, kinds of normalisation."""
    if not isinstance(state["params"], dict) or not isinstance(state["bn_params"], list) or not all(isinstance(p, dict) for p in state["bn_params"]):
        raise ValueError(f"{path} holds no network; wanted: params, a dictionary, and bn_params, a list of dictionaries")
    (came, came_norms), (wanted, wanted_norms) = (_layout(params, norms) for params, norms in (
        (state["params"], state["bn_params"]), (model.params, getattr(model, "bn_params", []))))
    kind = type(model).__name__
    if came != wanted:
        raise ValueError(f"{path} holds a {state.get('model', 'network')} with {came}; wanted: a {kind} with {wanted}")
    if came_norms != wanted_norms:
        raise ValueError(f"{path} holds a network with normalisation by {came_norms}; wanted: a {kind} by {wanted_norms}")


def _layout(params: dict[str, Any], norms: list[dict[str, Any]]) -> tuple[dict[str, tuple[int, ...]], list[str]]:
    """The shapes of the weights, and what each layer normalises by."""
    return {name: np.shape(w) for name, w in params.items()}, ["batch" if "mode" in param else "layer" for param in norms]


def _packed(value: Any, arrays: list[np.ndarray]) -> Any:
    if isinstance(value, dict):
        if not all(isinstance(key, str) for key in value):
            raise TypeError(f"the keys {list(value)} cannot be saved; wanted: texts")
        return {"dict": {key: _packed(item, arrays) for key, item in value.items()}}
    if isinstance(value, (list, tuple)):
        return [_packed(item, arrays) for item in value]
    if isinstance(value, (np.ndarray, np.generic)) and not value.dtype.hasobject:
        arrays.append(np.asarray(value))
        return {"array" if isinstance(value, np.ndarray) else "scalar": len(arrays) - 1}
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise TypeError(f"a {type(value).__name__} cannot be saved; wanted: arrays, numbers, texts, None, and lists and dictionaries of them")


def _unpacked(value: Any, arrays: Any) -> Any:
    if isinstance(value, list):
        return [_unpacked(item, arrays) for item in value]
    if not isinstance(value, dict):
        return value
    ((kind, content),) = value.items()
    if kind == "dict":
        return {key: _unpacked(item, arrays) for key, item in content.items()}
    array = arrays[str(content)]
    return array if kind == "array" else array[()]
