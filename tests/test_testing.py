"""The comparison helper is fed wrong answers: each must raise, and right ones must pass."""

import importlib.util
import sys

import numpy as np
import pytest
from cases import layouts, random_array

from fastconv.testing import assert_gradient, assert_same

DTYPES = (np.float16, np.float32, np.float64)
TOLERANCES = {np.float16: 1e-3, np.float32: 2e-6, np.float64: 1e-13}


def answer(dtype=np.float32):
    return random_array((3, 4, 5), dtype, seed=1)


def changed(y, index, value):
    y = y.copy()
    y[index] = value
    return y


# Right answers


@pytest.mark.parametrize("dtype", DTYPES)
def test_equal_arrays_pass(dtype):
    assert assert_same(answer(dtype), answer(dtype)) == 0


@pytest.mark.parametrize("value", [np.arange(6).reshape(2, 3), np.zeros((2, 0, 3)), np.array(2.5), 3, 2.5, True, None, "valid"])
def test_other_right_results_pass(value):
    assert assert_same(value, value) == 0


def test_nested_results_pass():
    y = answer()
    assert assert_same((y, (None, {"mode": "train", "mean": y}), [y, 3]), (y, (None, {"mode": "train", "mean": y}), [y, 3])) == 0


def test_equal_nan_and_inf_pass():
    y = np.array([np.nan, np.inf, -np.inf, 1.0])
    assert assert_same(y, y.copy()) == 0
    assert assert_same(y, y.copy(), exact=True) == 0


def test_rounding_passes_and_is_returned():
    truth = answer(np.float64)
    fast = truth * (1 + 1e-14)
    assert 5e-15 < assert_same(fast, truth) < 2e-14


# Wrong values


@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
class TestWrongValues:
    def test_all_zeros(self, dtype, exact):
        with pytest.raises(AssertionError, match="relative error 1 |must be equal"):
            assert_same(np.zeros_like(answer(dtype)), answer(dtype), exact=exact)

    def test_zeros_expected(self, dtype, exact):
        with pytest.raises(AssertionError):
            assert_same(changed(np.zeros((3, 4), dtype), (1, 2), 1e-7), np.zeros((3, 4), dtype), exact=exact)

    def test_one_flipped_sign(self, dtype, exact):
        y = answer(dtype)
        with pytest.raises(AssertionError, match=r"at \(1, 2, 3\)"):
            assert_same(changed(y, (1, 2, 3), -y[1, 2, 3]), y, exact=exact)

    def test_two_swapped_elements(self, dtype, exact):
        y = answer(dtype)
        with pytest.raises(AssertionError):
            assert_same(changed(y, (0, 0), y[0, 0][::-1]), y, exact=exact)

    def test_nan_extra(self, dtype, exact):
        with pytest.raises(AssertionError, match=r"at \(0, 1, 2\).*NaN and inf must agree"):
            assert_same(changed(answer(dtype), (0, 1, 2), np.nan), answer(dtype), exact=exact)

    def test_nan_missing(self, dtype, exact):
        with pytest.raises(AssertionError, match="NaN and inf must agree"):
            assert_same(answer(dtype), changed(answer(dtype), (0, 1, 2), np.nan), exact=exact)

    def test_all_nan(self, dtype, exact):
        with pytest.raises(AssertionError, match="60 of 60 elements"):
            assert_same(answer(dtype) * np.nan, answer(dtype), exact=exact)

    @pytest.mark.parametrize(
        "fast, naive", [(np.inf, -np.inf), (-np.inf, np.inf), (np.inf, np.nan), (np.nan, np.inf), (np.inf, 0), (0, -np.inf)]
    )
    def test_inf_of_wrong_sign_or_place(self, dtype, exact, fast, naive):
        y = answer(dtype)
        with pytest.raises(AssertionError, match="NaN and inf must agree"):
            assert_same(changed(y, (2, 3, 4), fast), changed(y, (2, 3, 4), naive), exact=exact)

    def test_error_hidden_beside_inf(self, dtype, exact):
        y = changed(answer(dtype), (0, 0, 0), np.inf)
        with pytest.raises(AssertionError, match=r"at \(2, 2, 2\)"):
            assert_same(changed(y, (2, 2, 2), 3 * y[2, 2, 2]), y, exact=exact)


def test_nan_scalar_against_number():
    with pytest.raises(AssertionError):
        assert_same(float("nan"), 1.0)


@pytest.mark.parametrize("dtype", [np.int64, np.uint8, bool])
def test_integers_off_by_one(dtype):
    y = np.zeros((3, 4), dtype)
    with pytest.raises(AssertionError, match=r"at \(1, 2\).*must be equal.*1 of 12"):
        assert_same(changed(y, (1, 2), 1), y, tolerance=10)


# Wrong form


@pytest.mark.parametrize(
    "wrong", [lambda y: y[None], lambda y: y[:-1], lambda y: y.reshape(4, 3, 5), lambda y: y[:, :1], lambda y: y[0, 0, 0]]
)
def test_wrong_shape(wrong):
    with pytest.raises(AssertionError, match="shape"):
        assert_same(wrong(answer()), answer())


def test_wrong_shape_of_nothing():
    with pytest.raises(AssertionError, match="shape"):
        assert_same(np.zeros((0, 3)), np.zeros((0, 4)))


@pytest.mark.parametrize("dtype", [np.float64, np.float16, np.int32, np.complex64, ">f4", object])
def test_wrong_dtype(dtype):
    with pytest.raises(AssertionError, match=r"dtype"):
        assert_same(np.ones(3, dtype), np.ones(3, np.float32))


@pytest.mark.parametrize(
    "fast, naive",
    [
        ((1.0,), (1.0, 2.0)),
        ((1.0, 2.0, 3.0), (1.0, 2.0)),
        ((), (1.0,)),
        ([1.0, 2.0], (1.0, 2.0)),
        (np.ones(2), (1.0, 1.0)),
        ((np.ones(2), np.ones(2)), np.ones((2, 2))),
        (None, np.ones(2)),
        (np.ones(2), None),
        ((np.ones(2), None), (np.ones(2), np.ones(2))),
        ((np.ones(2), np.ones(2)), (np.ones(2), None)),
        ({"a": 1.0}, {"b": 1.0}),
        ({"a": 1.0}, {"a": 1.0, "b": 1.0}),
        ({"a": 1.0}, {"a": 2.0}),
        ("valid", "same"),
    ],
)
def test_wrong_structure(fast, naive):
    with pytest.raises(AssertionError):
        assert_same(fast, naive)


def test_message_names_the_place():
    y = answer()
    with pytest.raises(
        AssertionError, match=r"dx\[1\]\['w'\] at \(1, 0, 2\): fast 9\.0, expected .* relative error .* tolerance 2e-06.*2 of 60"
    ):
        assert_same((y, {"w": changed(changed(y, (1, 0, 2), 9), (1, 0, 1), 6)}), (y, {"w": y}), name="dx")


# Tolerance


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("factor, passes", [(0.9, True), (1.1, False)])
def test_default_tolerance(dtype, factor, passes):
    # Around 0 beside a 1, the numbers are dense enough to hit the boundary in every dtype.
    naive, fast = np.array([0, 1], dtype), np.array([factor * TOLERANCES[dtype], 1], dtype)
    if passes:
        assert assert_same(fast, naive) == pytest.approx(factor * TOLERANCES[dtype], rel=1e-3)
    else:
        with pytest.raises(AssertionError):
            assert_same(fast, naive)


def test_tolerance_boundary():
    assert assert_same(np.array([0.25, 1]), np.array([0.0, 1]), tolerance=0.25) == 0.25
    with pytest.raises(AssertionError):
        assert_same(np.array([np.nextafter(0.25, 1), 1]), np.array([0.0, 1]), tolerance=0.25)
    with pytest.raises(AssertionError):
        assert_same(np.array([0.25, 1]), np.array([0.0, 1]), tolerance=0.25, exact=True)


def test_tolerance_is_for_each_array_alone():
    small, large = np.array([1e-9, 2e-9]), np.array([1e9])
    with pytest.raises(AssertionError, match=r"result\[1\]"):
        assert_same((large, small * 1.01), (large, small))


# Functions


def double(x):
    return 2 * x


def test_functions_are_called():
    assert assert_same(double, lambda x: x + x, (answer(),)) == 0
    assert assert_same(double, lambda x: x + x, (), {"x": answer()}) == 0
    with pytest.raises(AssertionError):
        assert_same(lambda x: 2.001 * x, double, (answer(np.float64),))


def test_truth_is_naive_in_float64():
    def running_sum(x):
        return np.cumsum(x)[-1:]

    def twice_rounded_sum(x):
        return np.sum(x, dtype=np.float64, keepdims=True).astype(x.dtype)

    x = np.full(1_000_000, 0.1, np.float32)
    assert assert_same(twice_rounded_sum, running_sum, (x,)) < 1e-7
    with pytest.raises(AssertionError):  # the plain float32 loop is wrong here, though equal to itself
        assert_same(running_sum, running_sum, (x,))


def test_dtype_is_compared_with_the_plain_call():
    with pytest.raises(AssertionError, match="got dtype float64, expected float32"):
        assert_same(lambda x: x.astype(np.float64), lambda x: x, (answer(),))


def test_overflow_in_the_results_dtype_counts_as_inf():
    x = np.array([60000, 1], np.float16)
    assert assert_same(double, double, (x,)) == 0
    with pytest.raises(AssertionError, match="NaN and inf must agree"):
        assert_same(lambda x: np.minimum(double(x), 65504), double, (x,))


def test_naive_may_divide_by_zero():
    assert assert_same(lambda x: 1 / x, lambda x: 1 / x, (np.array([0.0, -0.0, np.nan]),)) == 0


def overwrite(x):
    y = 2 * x
    x += 1
    return y


class TestInputsWrittenTo:
    def test_by_fast_alone(self):
        with pytest.raises(AssertionError, match=r"args\[0\]: the fast function wrote into its input"):
            assert_same(overwrite, double, (answer(),))

    def test_by_naive_alone(self):
        with pytest.raises(AssertionError, match=r"args\[0\], which is written to"):
            assert_same(double, overwrite, (answer(),))

    def test_by_both_the_same(self):
        assert assert_same(overwrite, overwrite, (answer(),)) < 1e-7

    def test_by_both_differently(self):
        def overwrite_more(x):
            y = 2 * x
            x += 1.1
            return y

        with pytest.raises(AssertionError, match=r"args\[0\], which is written to, at"):
            assert_same(overwrite_more, overwrite, (answer(),))

    def test_in_a_dict_by_keyword(self):
        def count(state):
            state["steps"][1][:] += 1

        with pytest.raises(AssertionError, match=r"kwargs\['state'\]\['steps'\]\[1\]: the fast function wrote"):
            assert_same(count, lambda state: None, (), {"state": {"steps": [0, np.zeros(3)]}})

    def test_one_bit(self):
        def negative_zero(x):
            x[0] = -0.0

        with pytest.raises(AssertionError, match="wrote into its input"):
            assert_same(negative_zero, lambda x: None, (np.zeros(3),))

    def test_the_callers_arrays_never_change(self):
        x = answer()
        assert_same(overwrite, overwrite, (x,))
        assert np.array_equal(x, answer())


@pytest.mark.parametrize("shape", [(3, 4, 5), (1, 7), (5,), (2, 0, 3)])
@pytest.mark.parametrize("dtype", [np.float32, np.int64])
def test_functions_get_the_layout_they_are_tested_on(shape, dtype):
    for name, view in {**layouts(random_array(shape, dtype)), "broadcast": np.broadcast_to(np.ones((), dtype), shape)}.items():
        seen = []

        def record(x, seen=seen):
            seen.append((x.strides, x.dtype.str, x.flags.aligned, x.flags.writeable, x.ctypes.data % 64 if x.size else 0, x.tolist()))

        assert_same(record, lambda x: None, (view,))
        address = view.ctypes.data % 64 if view.size else 0
        assert seen == [(view.strides, view.dtype.str, view.flags.aligned, view.flags.writeable, address, view.tolist())], name


# Gradients


def scaled(x, weight=None):
    return x**2 if weight is None else x**2 * weight


def scaled_backward(dout, x, weight=None, factor=1.0):
    dx = 2 * x * dout * (1 if weight is None else weight) * factor
    return dx, None if weight is None else np.sum(dout * x**2, axis=0)


def test_right_gradients_pass():
    x, weight = random_array((4, 3)), random_array((3,), seed=1)
    assert 0 < assert_gradient(scaled, scaled_backward, (x, weight)) < 1e-8
    assert_gradient(scaled, scaled_backward, (x.astype(np.float32), weight))
    assert_gradient(scaled, scaled_backward, (x, None))
    assert_gradient(scaled, scaled_backward, (x, weight), samples=5)
    assert_gradient(scaled, lambda dout, x: 2 * x * dout, (x,))
    assert_gradient(lambda x, weight: (scaled(x, weight), x), scaled_backward, (x, weight))
    assert_gradient(scaled, lambda *a: (scaled_backward(*a)[1], None), (x, weight), wrt=(1, None))
    assert_gradient(scaled, lambda dout, x, weight: (2 * x * dout * weight,), (np.zeros((0, 3)), weight))


def test_forward_that_writes_into_its_arguments_is_no_trouble():
    def forward(x, count):
        count += 1
        return count[0] * x**2

    assert_gradient(forward, lambda dout, x, count: 2 * x * dout, (random_array((3, 2)), np.zeros(1)))


@pytest.mark.parametrize(
    "backward",
    {
        "factor": lambda dout, x, weight: scaled_backward(dout, x, weight, factor=1.001),
        "negated": lambda dout, x, weight: scaled_backward(-dout, x, weight),
        "zeros": lambda dout, x, weight: (np.zeros_like(x), np.zeros_like(weight)),
        "nan": lambda dout, x, weight: (x * np.nan, weight * np.nan),
        "inf": lambda dout, x, weight: (x * np.inf, weight * np.inf),
        "one element": lambda dout, x, weight: (
            changed(scaled_backward(dout, x, weight)[0], (1, 2), 0),
            scaled_backward(dout, x, weight)[1],
        ),
        "dout forgotten": lambda dout, x, weight: scaled_backward(np.ones_like(dout), x, weight),
        "only the first wrong": lambda dout, x, weight: (x, scaled_backward(dout, x, weight)[1]),
        "only the last wrong": lambda dout, x, weight: (scaled_backward(dout, x, weight)[0], weight),
        "swapped": lambda dout, x, weight: scaled_backward(dout, x, weight)[::-1],
        "missing": lambda dout, x, weight: (scaled_backward(dout, x, weight)[0], None),
        "too many": lambda dout, x, weight: (*scaled_backward(dout, x, weight), None),
        "shape": lambda dout, x, weight: (scaled_backward(dout, x, weight)[0], np.sum(dout * x**2, axis=0, keepdims=True)),
        "dtype": lambda dout, x, weight: tuple(g.astype(np.float32) for g in scaled_backward(dout, x, weight)),
    }.items(),
    ids=lambda item: item[0],
)
def test_wrong_gradients(backward):
    with pytest.raises(AssertionError):
        assert_gradient(scaled, backward[1], (random_array((4, 3)), random_array((3,), seed=1)))


def test_gradient_of_an_argument_that_is_none():
    with pytest.raises(AssertionError, match=r"gradient\[1\]: got an array"):
        assert_gradient(scaled, lambda dout, x, weight: (2 * x * dout, np.ones(3)), (random_array((4, 3)), None))


def test_gradient_message_names_the_place():
    def wrong(dout, x):
        return changed(2 * x * dout, (2, 1), 50)

    with pytest.raises(AssertionError, match=r"dx\[0\] at \(2, 1\): backward 50\.0, numerical .* tolerance 1e-06"):
        assert_gradient(scaled, wrong, (random_array((4, 3)),), name="dx")


def test_imports_only_numpy_and_the_standard_library():
    path = importlib.util.find_spec("fastconv.testing").origin
    with open(path) as source:
        imports = [line.split()[1].split(".")[0] for line in source if line.startswith(("import ", "from "))]
    assert set(imports) <= {"numpy", *sys.stdlib_module_names}
