"""What the loops share: short arguments written out, output sizes, zero padding, dtypes."""

import numpy as np

Size = int | tuple[int, ...]
Pair = int | tuple[int, int]
Padding = int | tuple[int, int] | tuple[tuple[int, int], tuple[int, int]] | str


def pair(value: Pair) -> tuple[int, int]:
    """3 -> (3, 3); (3, 5) and ((1, 2), (0, 1)) stay."""
    return (value, value) if np.ndim(value) == 0 else tuple(value)


def pad_pairs(padding: Padding, kernel: tuple[int, int], dilation: tuple[int, int]) -> tuple[tuple[int, int], tuple[int, int]]:
    """Any spelling of padding -> ((top, bottom), (left, right)). "same" puts the odd extra element at the end."""
    if padding == "valid":
        padding = 0
    if padding == "same":
        totals = [d * (k - 1) for k, d in zip(kernel, dilation)]
        return tuple((total // 2, total - total // 2) for total in totals)
    return tuple(pair(sides) for sides in pair(padding))


def output_size(size: int, kernel: int, stride: int, pad: tuple[int, int], dilation: int, ceil_mode: bool = False) -> int:
    """How many windows fit along one axis.

    size_out = floor((size + before + after - dilation * (kernel - 1) - 1) / stride) + 1

    ceil_mode rounds up instead, but drops a last window that would start in the padding behind the image.
    """
    before, after = pad
    room = size + before + after - dilation * (kernel - 1) - 1
    if not ceil_mode:
        return room // stride + 1
    count = -(-room // stride) + 1
    return count - 1 if (count - 1) * stride >= size + before else count


def taps(i: int, kernel: int, stride: int, dilation: int) -> slice:
    """The positions along one axis of the padded image that window i covers."""
    start = i * stride
    return slice(start, start + dilation * (kernel - 1) + 1, dilation)


def zero_pad(x: np.ndarray, pad: tuple[tuple[int, int], tuple[int, int]]) -> np.ndarray:
    """x (N, C, H, W) -> a copy (N, C, top + H + bottom, left + W + right) with zeros around."""
    return np.pad(x, ((0, 0), (0, 0), *pad))


def crop(xpad: np.ndarray, pad: tuple[tuple[int, int], tuple[int, int]]) -> np.ndarray:
    """The inverse of zero_pad: a view of the image without its padding."""
    (top, bottom), (left, right) = pad
    return xpad[:, :, top : xpad.shape[2] - bottom, left : xpad.shape[3] - right]


def batched(x: np.ndarray, ndim: int = 4) -> np.ndarray:
    """x with a batch axis in front, if it came without."""
    return x if x.ndim == ndim else x[None]


def dtypes(*arrays: np.ndarray | None) -> tuple[np.dtype, np.dtype]:
    """(dtype to compute in, dtype of the result); None is skipped."""
    result = np.result_type(*[array for array in arrays if array is not None])
    if result.kind in "biu":
        result = np.dtype(np.float64)
    return (np.dtype(np.float32) if result == np.float16 else result), result


def deliver(y: np.ndarray, batch: bool, dtype: np.dtype, out: np.ndarray | None = None) -> np.ndarray:
    """y rounded to dtype, without the batch axis if the input had none, in `out` if it is given."""
    y = (y if batch else y[0]).astype(dtype)
    if out is None:
        return y
    out[...] = y
    return out
