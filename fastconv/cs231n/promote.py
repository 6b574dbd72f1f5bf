"""One dtype for all arrays of a call: the course mixes integers, float32 and float64 freely, fastconv's functions want one."""

from typing import Any

import numpy as np


def promote(*arrays: Any) -> list[Any]:
    """The arrays in their common NumPy dtype; integers and booleans as float64. None stays None. Arrays that fit already are not copied."""
    arrays = tuple(array if array is None else np.asarray(array) for array in arrays)
    dtype = np.result_type(*(array.dtype for array in arrays if array is not None))
    if dtype.kind in "biu":
        dtype = np.dtype(np.float64)
    return [array if array is None else array.astype(dtype, copy=False) for array in arrays]
