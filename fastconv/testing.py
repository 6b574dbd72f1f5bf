"""Comparing a fast function with its plain twin, for the layers here and for your own.

`assert_same` proves two functions, or two results, equal; `assert_gradient` proves a backward function against numerical
gradients. Both raise AssertionError with the place of the worst difference. Only NumPy is needed.
"""

import copy
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

TOLERANCE = {np.dtype(np.float16): 1e-3, np.dtype(np.float32): 2e-6, np.dtype(np.float64): 1e-13}
WINOGRAD = 1e-5  # in float32, where the plan may choose Winograd's algorithm or Strassen's


def promised(dtype: Any, winograd: bool = False) -> float:
    """The bound on max|fast - truth| / max|truth| that fastconv promises in this dtype; winograd: of a result by that algorithm."""
    dtype = np.dtype(dtype)
    return WINOGRAD if winograd and dtype == np.float32 else TOLERANCE[dtype]


def assert_same(
    fast: Any,
    naive: Any,
    args: Sequence[Any] | None = None,
    kwargs: dict[str, Any] | None = None,
    *,
    tolerance: float | None = None,
    exact: bool = False,
    name: str = "result",
) -> float:
    """Raise AssertionError unless `fast` gives what `naive` gives; return the largest relative error found.

    fast, naive: two results (an array, a number, None, or tuples, lists and dicts of these), or, where `args` is given, two
        functions. Functions are called with copies of args and kwargs, in the memory layout they came in. `naive` is also
        called with all floats widened to float64, and that is the truth the values are compared with; dtype and shape are
        compared with the plain call. A function that writes into its arguments fails, unless the twin writes the same.
    tolerance: bound on max|fast - truth| / max|truth| over the finite elements, for each array by itself. None stands for
        2e-6 in float32, 1e-13 in float64 and 1e-3 in float16 (which is one rounding).
    exact: values must be equal. Integers and booleans always must.
    name: what to call the result in the message.

    NaN and inf must be at the same places, inf with the same sign; what overflows the dtype of `fast` counts as inf.
    """
    compare = _Comparison(tolerance, exact)
    if args is None:
        return compare(fast, naive, naive, name)

    call = {"args": list(args), "kwargs": dict(kwargs or {})}
    fast_call, naive_call, truth_call = _copied(call), _copied(call), _copied(call, widen=True)
    with np.errstate(all="ignore"):  # NaN and inf are data here
        results = [f(*c["args"], **c["kwargs"]) for f, c in ((fast, fast_call), (naive, naive_call), (naive, truth_call))]
    error = compare(*results, name)
    for path, before in _arrays(call):
        after_fast, after_naive, after_truth = (_follow(c, path) for c in (fast_call, naive_call, truth_call))
        place = path[0] + "".join(f"[{key!r}]" for key in path[1:])
        if after_naive.tobytes() != before.tobytes():
            error = max(error, compare(after_fast, after_naive, after_truth, f"{place}, which is written to,"))
        elif after_fast.tobytes() != before.tobytes():
            raise AssertionError(f"{place}: the fast function wrote into its input, the naive one does not")
    return error


def assert_gradient(
    forward: Callable[..., Any],
    backward: Callable[..., Any],
    args: Sequence[Any],
    kwargs: dict[str, Any] | None = None,
    *,
    wrt: Sequence[int | None] | None = None,
    step: float = 1e-5,
    tolerance: float = 1e-6,
    samples: int | None = None,
    seed: int = 0,
    name: str = "gradient",
) -> float:
    """Raise AssertionError unless `backward` agrees with numerical gradients of `forward`; return the largest relative error.

    forward(*args, **kwargs) gives an array, or a tuple that starts with it; backward(dout, *args, **kwargs) gives one gradient
    or a tuple of them, each of its argument's shape and dtype. All floats are widened to float64, dout is random, and each
    gradient is compared with central differences of sum(forward * dout).

    wrt: for each gradient the index in args of the argument it belongs to, or None for a gradient that must be None. Without it
        they belong to the first arguments in order. The gradient of an argument that is None must be None.
    tolerance: bound on max|gradient - numerical| / max|numerical|, for each gradient by itself.
    step: how far an element is moved to either side. Where the function has kinks (maximum), no kink may lie within it.
    samples: of an array with more elements than this only so many, drawn at random, are compared.
    """
    args, kwargs = _copied(list(args), widen=True), _copied(kwargs or {}, widen=True)

    def run() -> np.ndarray:
        y = forward(*_copied(args), **_copied(kwargs))
        return np.array(y[0] if isinstance(y, tuple) else y, np.float64)

    rng = np.random.default_rng(seed)
    dout = rng.standard_normal(run().shape)
    gradients = backward(dout.copy(), *_copied(args), **_copied(kwargs))
    gradients = gradients if isinstance(gradients, (tuple, list)) else (gradients,)
    wrt = range(min(len(gradients), len(args))) if wrt is None else wrt
    if len(wrt) != len(gradients):
        raise AssertionError(f"{name}: {len(gradients)} gradients came, for {len(wrt)} arguments")

    worst = 0.0
    for number, (gradient, index) in enumerate(zip(gradients, wrt)):
        place = f"{name}[{number}]"
        x = None if index is None else args[index]
        if x is None or gradient is None:
            if x is not None or gradient is not None:
                raise AssertionError(f"{place}: got {_kind(gradient)} for an argument that is {_kind(x)}")
            continue
        _same_form(gradient, x, place)
        elements = list(np.ndindex(x.shape))
        if samples is not None and len(elements) > samples:
            elements = [elements[i] for i in rng.choice(len(elements), samples, replace=False)]
        numerical = np.zeros(len(elements))
        for i, element in enumerate(elements):
            value = x[element]
            x[element] = value + step
            above = run()
            x[element] = value - step
            below = run()
            x[element] = value
            moved = above != below  # an output that is infinite on both sides does not move
            numerical[i] = np.sum((above[moved] - below[moved]) * dout[moved]) / (2 * step)
        analytic = np.array([gradient[element] for element in elements])
        # Rounding in the differences leaves about 1e-16 / step, so below `step` the error is an absolute one.
        scale = max(np.max(np.abs(numerical), initial=0), step)
        errors = np.abs(analytic - numerical) / scale
        if not np.all(errors <= tolerance):  # so written, NaN fails
            i = int(np.argmax(np.where(np.isnan(errors), np.inf, errors)))
            raise AssertionError(
                f"{place} at {elements[i]}: backward {analytic[i]!s}, numerical {numerical[i]!s}: "
                f"relative error {errors[i]:.3g} is over the tolerance {tolerance:.3g}"
            )
        worst = max(worst, float(np.max(errors, initial=0)))
    return worst


class _Comparison:
    """Compares nested results; the values with `truth`, everything else with `naive`."""

    def __init__(self, tolerance: float | None, exact: bool) -> None:
        self.tolerance, self.exact = tolerance, exact

    def __call__(self, fast: Any, naive: Any, truth: Any, name: str) -> float:
        container = next((kind for kind in (tuple, list, dict) if isinstance(naive, kind)), None)
        if container is not None:
            keys = list(naive) if container is dict else range(len(naive))
            if not isinstance(fast, container) or len(fast) != len(naive) or (container is dict and fast.keys() != naive.keys()):
                raise AssertionError(f"{name}: got {_kind(fast)}, expected {_kind(naive)}")
            return max((self(fast[key], naive[key], truth[key], f"{name}[{key!r}]") for key in keys), default=0.0)
        if not _is_numeric(naive):
            if type(fast) is not type(naive) or not np.array_equal(fast, naive):
                raise AssertionError(f"{name}: got {_kind(fast)}, expected {_kind(naive)}")
            return 0.0
        _same_form(fast, naive, name)
        return self.values(np.asarray(fast), np.asarray(truth), name)

    def values(self, fast: np.ndarray, truth: np.ndarray, name: str) -> float:
        if fast.size == 0:
            return 0.0
        if fast.dtype.kind not in "fc":
            return _raise_if(fast != truth, fast, truth, name, "they must be equal")
        with np.errstate(all="ignore"):
            rounded = truth.astype(fast.dtype)
            same_nonfinite = (fast == rounded) | (np.isnan(fast) & np.isnan(rounded))
            finite = np.isfinite(fast) & np.isfinite(rounded)
            _raise_if(~finite & ~same_nonfinite, fast, truth, name, "NaN and inf must agree")
            if self.exact:
                return _raise_if(finite & (fast != rounded), fast, truth, name, "they must be equal")
            wide = np.result_type(fast, truth, np.float64)
            difference = np.where(finite, np.abs(fast.astype(wide) - truth), 0)
            scale = np.max(np.abs(truth), where=finite, initial=0)
            errors = difference / scale if scale > 0 else np.where(difference > 0, np.inf, 0)
        tolerance = TOLERANCE.get(fast.dtype, 1e-13) if self.tolerance is None else self.tolerance
        error = float(np.max(errors))
        if error > tolerance:
            problem = f"relative error {error:.3g} (of the largest, {scale:.3g}) is over the tolerance {tolerance:.3g}"
            _raise_if(errors > tolerance, fast, truth, name, problem, errors)
        return error


def _raise_if(wrong: np.ndarray, fast: np.ndarray, truth: np.ndarray, name: str, problem: str, errors: np.ndarray | None = None) -> float:
    """Name the worst of the wrong elements, or the first if there is no measure; 0.0 if none is wrong."""
    if not np.any(wrong):
        return 0.0
    index = np.unravel_index(int(np.argmax(wrong if errors is None else errors)), fast.shape)
    place = f" at {tuple(int(i) for i in index)}" if fast.ndim else ""
    count = f"{np.count_nonzero(wrong)} of {fast.size} elements"
    raise AssertionError(f"{name}{place}: fast {fast[index]!s}, expected {truth[index]!s}: {problem} ({count}, {fast.dtype}, {fast.shape})")


def _same_form(fast: Any, naive: Any, name: str) -> None:
    """Raise unless both are numeric, of one shape and dtype."""
    if not _is_numeric(fast):
        raise AssertionError(f"{name}: got {_kind(fast)}, expected {_kind(naive)}")
    fast, naive = np.asarray(fast), np.asarray(naive)
    if fast.shape != naive.shape:
        raise AssertionError(f"{name}: got shape {fast.shape}, expected {naive.shape}")
    if fast.dtype != naive.dtype:
        raise AssertionError(f"{name}: got dtype {fast.dtype}, expected {naive.dtype}")


def _is_numeric(value: Any) -> bool:
    return isinstance(value, (np.ndarray, np.generic, bool, int, float, complex)) and np.asarray(value).dtype.kind in "biufc"


def _kind(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return f"an array of shape {value.shape} and dtype {value.dtype}"
    if isinstance(value, (tuple, list)):
        return f"a {type(value).__name__} of {len(value)}"
    return f"a dict of {', '.join(map(repr, value))}" if isinstance(value, dict) else repr(value)


def _copied(value: Any, widen: bool = False) -> Any:
    """A copy through tuples, lists and dicts; arrays keep their memory layout, unless they are widened to float64."""
    if isinstance(value, (tuple, list)):
        items = [_copied(item, widen) for item in value]
        return type(value)(*items) if hasattr(value, "_fields") else type(value)(items)
    if isinstance(value, dict):
        return {key: _copied(item, widen) for key, item in value.items()}
    if isinstance(value, (np.ndarray, np.generic)) and widen and value.dtype.kind in "fc":
        return value.astype(np.result_type(value, np.float64))
    return _same_layout(value) if type(value) is np.ndarray and value.dtype.kind in "biufc" else copy.deepcopy(value)


def _same_layout(x: np.ndarray) -> np.ndarray:
    """A copy of x with its strides, alignment, byte order and writeable flag, which x.copy() would tidy up."""
    reach = [max(length - 1, 0) * stride for length, stride in zip(x.shape, x.strides)]
    low = sum(step for step in reach if step < 0)
    high = sum(step for step in reach if step > 0) + x.itemsize
    memory = np.zeros(high - low + 64, np.uint8)
    first = (x.ctypes.data + low - memory.ctypes.data) % 64  # the same place within a cache line
    twin = np.ndarray(x.shape, x.dtype, memory.data, first - low, x.strides)
    twin[...] = x
    twin.flags.writeable = x.flags.writeable
    return twin


def _arrays(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[tuple[Any, ...], np.ndarray]]:
    """Every array of numbers within tuples, lists and dicts, with the keys that lead to it."""
    if isinstance(value, np.ndarray) and _is_numeric(value):
        return [(path, value)]
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, (tuple, list)) else ()
    return [found for key, item in items for found in _arrays(item, (*path, key))]


def _follow(value: Any, path: tuple[Any, ...]) -> Any:
    for key in path:
        value = value[key]
    return value
