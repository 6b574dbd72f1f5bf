"""Normalisation and its gradients against the naive loops and float64 truth."""
import numba
import numpy as np
import pytest
from cases import inject, layouts, norm_cases, row_norm_cases

import fastconv
import naive
from fastconv.kernels import norm, norm_rows
from fastconv.kernels.tasks import crew
from fastconv.norm import known, layout, passes
from fastconv.testing import TOLERANCE, assert_gradient, assert_same

ROW_CASES = pytest.mark.parametrize("case", row_norm_cases(), ids=str)
CASES = pytest.mark.parametrize("case", norm_cases(), ids=str)
EACH_DTYPE = pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64], ids=["f2", "f4", "f8"])


@EACH_DTYPE
@CASES
def test_forward(case, dtype):
    assert_same(fastconv.batch_norm, naive.batch_norm, case.arrays(dtype), {**case.kwargs, "return_stats": True})


@EACH_DTYPE
@CASES
def test_backward(case, dtype):
    assert_same(fastconv.batch_norm_backward, naive.batch_norm_backward, (case.dout(dtype), *case.arrays(dtype)), case.kwargs)


@EACH_DTYPE
@CASES
def test_backward_with_the_statistics_of_the_forward(case, dtype):
    arrays, dout = case.arrays(dtype), case.dout(dtype)
    _, mean, invstd = fastconv.batch_norm(*case.arrays(dtype), **case.kwargs, return_stats=True)
    got = fastconv.batch_norm_backward(dout, *arrays, **case.kwargs, mean=mean, invstd=invstd)
    wide = [a if a is None else a.astype(np.float64) for a in (dout, *arrays)]
    with np.errstate(all="ignore"):
        truth = naive.batch_norm_backward(*wide, **case.kwargs)
    tolerance = {2: 2e-3, 4: 4e-6, 8: 2e-13}[np.dtype(dtype).itemsize]      # the statistics themselves were rounded
    for g, t in zip(got, truth):
        assert (g is None) == (t is None)
        if g is not None:
            assert_same(g.astype(np.float64), t, tolerance=tolerance)


@CASES
def test_gradient(case):
    wrt = (0, 3 if case.weight else None, 4 if case.bias else None)
    kwargs = {k: v for k, v in case.kwargs.items() if k != "return_stats"}
    if 0 in case.x:
        return
    assert_gradient(fastconv.batch_norm, fastconv.batch_norm_backward, _frozen(case), kwargs, wrt=[0] + [w for w in wrt[1:] if w], samples=20) \
        if all(wrt[1:]) else None


def _frozen(case):
    """Arguments for numerical gradients: no offset, which would drown the differences."""
    x, *rest = case.arrays(np.float64)
    return (x - x.mean() if case.offset else x, *rest)


@EACH_DTYPE
@pytest.mark.parametrize("shape", [(64, 5), (4, 3, 40, 41), (7, 20, 3)], ids=str)
def test_large_mean_small_deviation(shape, dtype):
    """Mean 1e6 and deviation 1: float32 keeps four bits of each deviation, and no statistic may lose more."""
    offset = 1e6 if dtype != np.float16 else 1e2
    x = (np.random.default_rng(0).standard_normal(shape) + offset).astype(dtype)
    dout = np.random.default_rng(1).standard_normal(shape).astype(dtype)
    weight = bias = np.linspace(0.5, 1.5, shape[1]).astype(dtype)
    y, mean, invstd = fastconv.batch_norm(x, None, None, weight, bias, True, return_stats=True)
    wide = x.astype(np.float64)
    truth = naive.batch_norm(wide, None, None, weight.astype(np.float64), bias.astype(np.float64), True)
    truth_back = naive.batch_norm_backward(dout.astype(np.float64), wide, None, None, weight.astype(np.float64), bias.astype(np.float64), True)
    tolerance = {2: 1e-3, 4: 2e-6, 8: 2e-9}[np.dtype(dtype).itemsize]       # float64: 1e6 / 1 digits of 1e-16 are gone in the input
    assert_same(y.astype(np.float64), truth, tolerance=tolerance)
    for kwargs in ({}, {"mean": mean, "invstd": invstd}):
        back = fastconv.batch_norm_backward(dout, x, None, None, weight, bias, True, **kwargs)
        for got, wanted in zip(back, truth_back):
            assert_same(got.astype(np.float64), wanted, tolerance=2 * tolerance)


@EACH_DTYPE
def test_nan_and_inf(dtype):
    for case in norm_cases()[::4]:
        if 0 in case.x:
            continue
        x, *rest = case.arrays(dtype)
        assert_same(fastconv.batch_norm, naive.batch_norm, (inject(x, (np.nan,)), *rest), case.kwargs)
        assert_same(fastconv.batch_norm_backward, naive.batch_norm_backward, (inject(case.dout(dtype), (np.nan,)), x, *rest), case.kwargs)


@pytest.mark.parametrize("name", ["layer_norm", "group_norm", "instance_norm", "batch_norm"])
def test_values_all_alike(name):
    """Nothing of x - mean is left but the rounding of the mean, of which invstd makes 316 times as much: fast and naive are to take it out."""
    value = (22 / 255 - 0.45) / 0.27
    x, dout = np.full((1, 1, 3), value), np.array([[[1.1, -0.3, 0.2]]])
    others = {"layer_norm": ((3,),), "group_norm": (1,), "instance_norm": (), "batch_norm": (None, None)}[name]
    options = {"training": True} if name == "batch_norm" else {}
    true = (dout - dout.mean()) / np.sqrt(1e-5)
    for module in (fastconv, naive):
        assert_same(getattr(module, f"{name}_backward")(dout, x, *others, **options)[0], true, tolerance=1e-15)
        assert np.all(np.abs(getattr(module, name)(x, *others, **options)) < 1e-15)


@pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["f4", "f8"])
@pytest.mark.parametrize("shape", [(6, 5), (3, 4, 5, 6)], ids=str)
def test_any_memory_layout(shape, dtype):
    rng = np.random.default_rng(0)
    x, dout = rng.standard_normal((2, *shape)).astype(dtype)
    weight, bias = rng.standard_normal((2, shape[1])).astype(dtype)
    wanted = fastconv.batch_norm(x, None, None, weight, bias, True)
    wanted_back = fastconv.batch_norm_backward(dout, x, None, None, weight, bias, True)
    for name, odd in layouts(x).items():
        running = [layouts(a)[name] if layouts(a)[name].flags.writeable else a.copy() for a in (bias, weight ** 2)]
        plain = bias.copy(), weight ** 2
        assert np.array_equal(fastconv.batch_norm(odd, *running, weight, bias, True), wanted), name
        fastconv.batch_norm(x, *plain, weight, bias, True)
        assert np.array_equal(running[0], plain[0]) and np.array_equal(running[1], plain[1]), name
        for got, full in zip(fastconv.batch_norm_backward(layouts(dout)[name], odd, None, None, layouts(weight)[name], bias, True), wanted_back):
            assert np.array_equal(got, full), name


def test_running_statistics_move_in_place_and_only_in_training():
    x = np.random.default_rng(0).standard_normal((8, 3, 2, 2)).astype(np.float32)
    mean, var = np.zeros(3, np.float32), np.ones(3, np.float32)
    fastconv.batch_norm(x, mean, var)
    assert not mean.any() and (var == 1).all()
    fastconv.batch_norm(x, mean, var, training=True, momentum=0.25)
    assert np.allclose(mean, 0.25 * x.mean((0, 2, 3)), rtol=1e-5)
    assert np.allclose(var, 0.75 + 0.25 * x.var((0, 2, 3), ddof=1), rtol=1e-5)


def test_running_statistics_through_a_view():
    x = np.random.default_rng(0).standard_normal((8, 3)).astype(np.float32)
    store = np.zeros((3, 4), np.float32)
    fastconv.batch_norm(x, store[::-1, 1], store[:, 2], training=True, momentum=1.0)
    assert np.allclose(store[::-1, 1], x.mean(0), atol=1e-6) and np.allclose(store[:, 2], x.var(0, ddof=1), rtol=1e-5)
    assert not store[:, [0, 3]].any()


def test_what_training_refuses():
    x, mean, var = np.zeros((2, 3)), np.zeros(3), np.ones(3)
    with pytest.raises(ValueError, match="one value a channel"):
        fastconv.batch_norm(x[:1], mean, var, training=True)
    with pytest.raises(ValueError, match="one value a channel"):
        fastconv.batch_norm(np.zeros((1, 3, 1, 1)), None, None)
    mean.flags.writeable = False
    with pytest.raises(ValueError, match="running_mean is read-only"):
        fastconv.batch_norm(x, mean, var, training=True)
    assert fastconv.batch_norm(x[:1], mean, var).shape == (1, 3)


# ---------------------------------------------------------------- group, instance, layer and RMS norm
def both(case):
    return [(getattr(house, case.function), getattr(house, f"{case.function}_backward")) for house in (fastconv, naive)]


@EACH_DTYPE
@ROW_CASES
def test_rows_forward(case, dtype):
    (fast, _), (plain, _) = both(case)
    assert_same(fast, plain, case.arrays(dtype), {**case.kwargs, "return_stats": True})


@EACH_DTYPE
@ROW_CASES
def test_rows_backward(case, dtype):
    (fast, backward), (_, plain) = both(case)
    dout = case.dout(dtype)
    assert_same(backward, plain, (dout, *case.arrays(dtype)), case.kwargs)
    _, *stats = fast(*case.arrays(dtype), **case.kwargs, return_stats=True)
    stats = dict(zip(("invrms",) if case.function == "rms_norm" else ("mean", "invstd"), stats))
    wide = [a.astype(np.float64) if isinstance(a, np.ndarray) else a for a in (dout, *case.arrays(dtype))]
    tolerance = {2: 2e-3, 4: 4e-6, 8: 2e-13}[np.dtype(dtype).itemsize]      # the statistics themselves were rounded
    for got, truth in zip(backward(dout, *case.arrays(dtype), **case.kwargs, **stats), plain(*wide, **case.kwargs)):
        assert (got is None) == (truth is None)
        if got is not None:
            assert_same(got.astype(np.float64), truth, tolerance=tolerance)


@ROW_CASES
def test_rows_gradient(case):
    arrays = case.arrays()
    if arrays[0].size:
        (fast, backward), _ = both(case)
        x = arrays[0] - case.offset              # no offset, which would drown the differences
        first = 3 if case.shape is None else 2
        wrt = [0, *(i if arrays[i] is not None else None for i in range(first, len(arrays)))]
        assert_gradient(fast, backward, (x, *arrays[1:]), case.kwargs, wrt=wrt, samples=20)


@ROW_CASES
def test_rows_move_running_statistics_as_the_loops_do(case):
    (fast, _), (plain, _) = both(case)
    ours, theirs = case.arrays(np.float32), case.arrays(np.float64)
    fast(*ours, **case.kwargs)
    plain(*theirs, **case.kwargs)
    for a, b in zip(ours, theirs):
        assert not isinstance(a, np.ndarray) or np.allclose(a, b, rtol=1e-5, atol=1e-6)


LONG = [("group_norm", (2, 4, 300, 160), 2), ("group_norm", (1, 2, 160, 420), 1), ("instance_norm", (1, 2, 300, 230), None),
        ("layer_norm", (3, 70001), (70001,)), ("layer_norm", (90, 1040), (1040,)), ("rms_norm", (2, 66000), (66000,)),
        ("batch_norm", (3, 2, 180, 200), None), ("batch_norm", (300, 37), None), ("batch_norm", (200, 300, 2, 2), None)]


@pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["f4", "f8"])
@pytest.mark.parametrize(("function", "shape", "of"), LONG, ids=str)
def test_more_than_one_part(function, shape, of, dtype):
    """Rows in parts, several tasks, and the whole arrays' NumPy formula as truth; a mean that exceeds the deviation a thousand times."""
    rng = np.random.default_rng(0)
    parameters = of if isinstance(of, tuple) else shape[1:2]
    x, dout = rng.standard_normal(shape) + (0 if function == "rms_norm" else 1000), rng.standard_normal(shape)
    weight, bias = rng.standard_normal((2, *parameters))
    x, dout, weight, bias = (a.astype(dtype) for a in (x, dout, weight, bias))
    arguments = {"group_norm": (of, weight, bias), "instance_norm": (None, None, weight, bias), "layer_norm": (of, weight, bias),
                 "rms_norm": (of, weight, 1e-5), "batch_norm": (None, None, weight, bias, True)}[function]
    got = [getattr(fastconv, function)(x, *arguments), *getattr(fastconv, f"{function}_backward")(dout, x, *arguments)]
    wide, e, a, b = (value.astype(np.float64) for value in (x, dout, weight, bias))
    if not isinstance(of, tuple):
        a, b = (value.reshape(-1, *[1] * (len(shape) - 2)) for value in (a, b))
    view = {"group_norm": (shape[0], of or 1, -1), "instance_norm": (*shape[:2], -1), "batch_norm": shape}.get(function, (shape[0], -1))
    axes = tuple(i for i in range(len(shape)) if i != 1) if function == "batch_norm" else -1

    def average(value):
        return np.broadcast_to(value.reshape(view).mean(axes, keepdims=True), value.reshape(view).shape).reshape(shape)

    center = 0 if function == "rms_norm" else average(wide)
    xhat = (wide - center) / np.sqrt(average((wide - center) ** 2) + 1e-5)
    g, over = e * a, tuple(i for i in range(len(shape)) if i != 1) if not isinstance(of, tuple) else 0
    dx = (g - (0 if function == "rms_norm" else average(g)) - xhat * average(g * xhat)) / np.sqrt(average((wide - center) ** 2) + 1e-5)
    truth = [xhat * a + (0 if function == "rms_norm" else b), dx, (e * xhat).sum(over), e.sum(over)]
    for value, wanted in zip(got, truth):
        assert_same(value.astype(np.float64), wanted, tolerance={4: 4e-6, 8: 5e-12}[x.itemsize])


@pytest.mark.parametrize("of", [(4, 3), (3, 4, 40), (2, 3, 5, 7)], ids=str)
def test_the_range_of_float32(of):
    """Squares of 1e25 and of 1e-25 are beyond it, the results are not."""
    x, dout = np.random.default_rng(0).standard_normal((2, *of)).astype(np.float32)
    for scale in (1e25, 1e-25):
        small = (x * np.float32(scale)).astype(np.float32)
        calls = [(fastconv.batch_norm, fastconv.batch_norm_backward, (None, None, None, None, True)),
                 (fastconv.layer_norm, fastconv.layer_norm_backward, (of[1:],)), (fastconv.group_norm, fastconv.group_norm_backward, (1,)),
                 (fastconv.rms_norm, fastconv.rms_norm_backward, (of[1:],))]
        for forward, backward, arguments in calls:
            loops = [getattr(naive, function.__name__) for function in (forward, backward)]
            wide = small.astype(np.float64), dout.astype(np.float64)
            assert_same(forward(small, *arguments, eps=0.0).astype(np.float64), loops[0](wide[0], *arguments, eps=0.0), tolerance=2e-6)
            got, truth = backward(dout, small, *arguments, eps=0.0)[0], loops[1](wide[1], wide[0], *arguments, eps=0.0)[0]
            assert_same(got.astype(np.float64) * scale, truth * scale, tolerance=4e-6)


def test_rows_of_nan_stay_alone():
    """A NaN reaches its own row, group or plane and dweight's channels, and nothing else; whatever part of a vector it stands in."""
    x = np.random.default_rng(0).standard_normal((6, 4, 5)).astype(np.float32)
    x[2, 1, 3] = np.nan
    for function, arguments, reached in (("layer_norm", ((5,),), (2, 1)), ("rms_norm", ((5,),), (2, 1)), ("group_norm", (2,), (2, slice(0, 2))),
                                         ("instance_norm", (), (2, 1))):
        wanted = np.zeros(x.shape, bool)
        wanted[reached] = True
        assert np.array_equal(np.isnan(getattr(fastconv, function)(x, *arguments)), wanted), function
        dx = getattr(fastconv, f"{function}_backward")(np.ones_like(x), x, *arguments)[0]
        assert np.array_equal(np.isnan(dx), wanted), function
    weight = np.ones(4, np.float32)
    gradients = fastconv.group_norm_backward(np.ones_like(x), x, 2, weight, weight)
    assert np.array_equal(np.isnan(gradients[1]), [True, True, False, False]) and not np.isnan(gradients[2]).any()


@pytest.mark.parametrize("function, arguments", [("layer_norm", ((37,),)), ("rms_norm", ((37,),)), ("group_norm", (2,)), ("instance_norm", ())])
@pytest.mark.parametrize("value", [np.nan, 3e30, 1e-30])
def test_rows_beside_one_that_is_summed_again_keep_their_bits(function, arguments, value):
    rng = np.random.default_rng(0)
    x, dout = rng.standard_normal((2, 60, 4, 37)).astype(np.float32)
    other = x.copy()
    other[5] = value * x[5]
    one, two = ([getattr(fastconv, function)(v, *arguments), getattr(fastconv, f"{function}_backward")(dout, v, *arguments)[0]] for v in (x, other))
    for a, b in zip(one, two):
        assert np.array_equal(np.delete(a, 5, 0), np.delete(b, 5, 0))


@pytest.mark.parametrize("shape, groups", [((12, 6, 512), 3), ((50, 8, 48), 8)])
def test_gradients_of_groups_far_from_zero_keep_their_digits(shape, groups):
    """float64: the mean of 1e6 is rounded, and dweight must not see that."""
    rng = np.random.default_rng(0)
    x, dout = rng.standard_normal(shape) + 1e6, rng.standard_normal(shape) + 3
    ones, dweight = np.ones(shape[1]), []
    for values in (x, x - 1e6):              # exact
        dweight.append(fastconv.group_norm_backward(dout, values, groups, ones, ones)[1])
    assert_same(dweight[0], dweight[1], tolerance=2e-11)


@pytest.mark.parametrize("function", ["group_norm", "instance_norm", "layer_norm", "rms_norm"])
def test_rows_any_memory_layout(function):
    x, dout = np.random.default_rng(0).standard_normal((2, 3, 4, 5, 6))
    arguments = {"group_norm": (2,), "instance_norm": (), "layer_norm": ((5, 6),), "rms_norm": ((5, 6),)}[function]
    forward, backward = getattr(fastconv, function), getattr(fastconv, f"{function}_backward")
    for name, odd in layouts(x).items():
        assert np.array_equal(forward(odd, *arguments), forward(x, *arguments)), name
        assert np.array_equal(backward(layouts(dout)[name], odd, *arguments)[0], backward(dout, x, *arguments)[0]), name


def test_what_the_row_norms_refuse():
    x = np.zeros((1, 4, 1), np.float32)
    for call in (lambda: fastconv.group_norm(x, 4), lambda: fastconv.instance_norm(x), lambda: fastconv.instance_norm(x[..., 0])):
        with pytest.raises(ValueError, match="one value"):
            call()
    assert fastconv.group_norm(np.zeros((2, 4)), 4).shape == (2, 4)         # as torch: two images, one value a group
    with pytest.raises(ValueError, match="num_groups is 3 and x has 4 channels"):
        fastconv.group_norm(x, 3)
    with pytest.raises(ValueError, match="running_mean is None and use_input_stats is False"):
        fastconv.instance_norm(x, use_input_stats=False)
    with pytest.raises(ValueError, match=r"normalized_shape is \(5,\) and x has shape"):
        fastconv.layer_norm(x, (5,))


# ---------------------------------------------------------------- how a result is stored, and what is remembered
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [(37, 512), (9, 333), (1, 700), (40, 64)], ids=str)
def test_results_past_the_caches_are_the_same_bits(shape, dtype, monkeypatch):
    rng = np.random.default_rng(shape[1])
    x, dout, weight, bias = (rng.standard_normal(s).astype(dtype) for s in (shape, shape, shape[1:], shape[1:]))

    def results():
        kept = []
        for at in (0, 1, 5):                 # a line's elements are 16 or 8: some of them stand before the first whole one
            out = np.full(x.size + 32, -7, dtype)
            y = out[at:at + x.size].reshape(shape)
            fastconv.layer_norm(x, shape[1:], weight, bias, out=y)
            kept.append(out.copy())
            if shape[0] > 1:
                fastconv.batch_norm(x, None, None, weight, bias, training=True, out=y)
                kept.append(out.copy())
        kept += fastconv.layer_norm_backward(dout, x, shape[1:], weight, bias)
        if shape[0] > 1:
            kept += fastconv.batch_norm_backward(dout, x, None, None, weight, bias, training=True)
        return kept

    def forget():
        known._calls.clear()
        known.SHORT.clear()
        layout.rows.cache_clear()
        layout.columns.cache_clear()

    wanted = results()
    truth = naive.layer_norm(x.astype(np.float64), shape[1:], weight, bias)
    assert_same(wanted[0][:x.size].reshape(shape).astype(np.float64), truth, tolerance=TOLERANCE[np.dtype(dtype)])
    with monkeypatch.context() as patch:
        patch.setattr(layout, "PAST", 0)
        forget()
        found = results()
    forget()
    assert all(np.array_equal(a, b) for a, b in zip(found, wanted, strict=True))


def test_the_workspace_of_many_rows_is_bounded():
    """Beside the statistics of each row: areas for the gradients of weight and bias, of which there are only so many."""
    for keys, length in ((2 ** 16, 2 ** 12), (2 ** 22, 8), (2 ** 10, 2 ** 15)):
        plan = layout.rows(keys, length, 1, length, 1, 4, norm.OWN | norm.CENTERED, True)
        assert 8 * (plan.table - 4 * keys) <= 64 * 2 ** 20, (keys, length)


def test_an_equal_argument_of_another_type_is_not_a_known_call():
    x = np.random.default_rng(0).standard_normal((3, 8)).astype(np.float32)
    fastconv.layer_norm(x, (8,))
    fastconv.group_norm(x, 1)
    fastconv.batch_norm(x, None, None, training=True)
    for call in (lambda: fastconv.layer_norm(x, (8.0,)), lambda: fastconv.group_norm(x, True), lambda: fastconv.batch_norm(x, None, None, training=1)):
        with pytest.raises(TypeError):
            call()
    wide = fastconv.layer_norm(x.astype(np.float64), (8,))
    assert wide.dtype == np.float64 and not np.array_equal(wide, fastconv.layer_norm(x, (8,)))


def test_known_calls_are_bounded(monkeypatch):
    monkeypatch.setattr(known, "MOST", 5)
    for length in range(2, 20):
        fastconv.layer_norm(np.ones((2, length), np.float32), (length,))
        assert 0 < len(known._calls) <= 5


class Number:
    """An integer that can change its mind, and is hashed and compared as an object."""

    def __init__(self, value):
        self.value = value

    def __index__(self):
        return self.value


class Shape(tuple):
    """A tuple equal to every other one of its kind."""

    def __eq__(self, other):
        return isinstance(other, Shape)

    def __hash__(self):
        return 0


@pytest.mark.parametrize("backward", [False, True], ids=["forward", "backward"])
def test_a_large_call_is_remembered_for_any_number_of_threads(monkeypatch, backward):
    if fastconv.runtime.max_threads() < 2:
        pytest.skip("needs two threads")
    (x, dout), crews, before = np.random.default_rng(0).standard_normal((2, 2000, 512), np.float32), [], fastconv.get_num_threads()
    monkeypatch.setattr(passes, "crew", lambda *work: crews.append(crew(*work)) or crews[-1])

    def call():
        if backward:
            return fastconv.batch_norm_backward(dout, x, None, None, x[0], training=True)[0]
        return fastconv.batch_norm(x, None, None, x[0], training=True)

    known.SHORT.clear()
    try:
        fastconv.set_num_threads(1)
        wanted = [call() for _ in range(3)][-1]
        if not len(known.SHORT):
            pytest.skip("nobody hands over objects here")
        monkeypatch.setattr(known, "recall", None)           # nothing is looked at once more
        for threads in (1, 2):
            fastconv.set_num_threads(threads)
            assert np.array_equal(call(), wanted) and crews[-1][2] == threads
    finally:
        fastconv.set_num_threads(before)
        known.SHORT.clear()


def test_settings_that_may_change_are_no_known_call():
    x = np.random.default_rng(0).standard_normal((3, 8, 2)).astype(np.float32)
    groups = Number(2)
    fastconv.group_norm(x, groups)
    groups.value = 4
    assert np.array_equal(fastconv.group_norm(x, groups), fastconv.group_norm(x, 4))
    size = Number(2)
    fastconv.layer_norm(x, (size,))
    size.value = 3
    with pytest.raises(ValueError, match="normalized_shape"):
        fastconv.layer_norm(x, (size,))
    fastconv.layer_norm(x, Shape((2,)))
    assert np.array_equal(fastconv.layer_norm(x, Shape((8, 2))), fastconv.layer_norm(x, (8, 2)))


@pytest.mark.parametrize("N", [4, 40_000], ids=["small", "large"])
def test_arrays_that_are_written_share_no_memory(N):
    x, numbers = np.ones((N, 8), np.float32), np.ones(24, np.float32)
    for call in (lambda: fastconv.batch_norm(x, numbers[:8], numbers[4:12], training=True), lambda: fastconv.batch_norm(x, None, None, training=True, out=x),
                 lambda: fastconv.layer_norm(x[1:], (8,), out=x[:-1]), lambda: fastconv.group_norm(x, 2, x[1], out=x)):
        with pytest.raises(ValueError, match="share"):
            call()
    assert (x == 1).all() and (numbers == 1).all()


def test_parameters_that_are_views_of_the_running_statistics_are_read_first():
    x = np.random.default_rng(0).standard_normal((3, 4, 5)).astype(np.float32)
    for function in (fastconv.batch_norm, fastconv.instance_norm):
        mean, var = np.arange(4, dtype=np.float32), np.ones(4, np.float32)
        wanted = function(x, mean.copy(), var.copy(), mean.copy(), var.copy(), True)
        assert np.array_equal(function(x, mean, var, mean, var, True), wanted) and not np.array_equal(mean, np.arange(4))


@pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["f4", "f8"])
@pytest.mark.parametrize("name, shape, others", [
    ("layer_norm", (11, 256), ((256,),)), ("layer_norm", (11, 301), ((301,),)), ("layer_norm", (1, 300_001), ((300_001,),)), ("rms_norm", (9, 263), ((263,),)),
    ("group_norm", (3, 6, 17, 19), (2,)), ("instance_norm", (3, 5, 300), (None, None)), ("batch_norm", (3, 5, 17, 19), (None, None)),
    ("batch_norm", (21, 320), (None, None)), ("batch_norm", (21, 303), (None, None)), ("batch_norm", (300, 17), (None, None)),
    ("batch_norm", (90, 5), (None, None)), ("batch_norm", (7, 1111), (None, None)), ("batch_norm", (5, 7, 4, 4), (None, None)),
    ("batch_norm", (5, 3, 7, 7), (None, None)), ("batch_norm", (4, 3, 17), (None, None)), ("group_norm", (3, 6, 5, 5), (2,)),
    ("instance_norm", (4, 3, 49), (None, None))], ids=str)
def test_results_stored_past_the_caches(monkeypatch, name, shape, others, dtype):
    """What only large results are, here of small ones: the same bits, and nothing beside them, wherever in a cache line they begin."""
    rng, forward, backward = np.random.default_rng(0), getattr(fastconv, name), getattr(fastconv, f"{name}_backward")
    x, dout = rng.standard_normal((2, *shape)).astype(dtype)
    parameters = rng.standard_normal((1 if name == "rms_norm" else 2, shape[1])).astype(dtype)
    options = {"training": True} if name == "batch_norm" else {}

    def found():
        known._calls.clear()
        known.SHORT.clear()
        for lay_out in (layout.segments, layout.columns, layout.groups, layout.rows):
            lay_out.cache_clear()
        results = []
        for start in (0, 1, 3):
            room = np.full(x.size + 64, 7.5, dtype)
            out = room[start + 16:start + 16 + x.size].reshape(shape)
            forward(x, *others, *parameters, **options, out=out)
            results.append(room[start:start + x.size + 32])
        return [*results, *backward(dout, x, *others, *parameters, **options)]

    wanted = found()
    monkeypatch.setattr(layout, "PAST", 0)
    got = found()
    monkeypatch.undo()
    again = found()
    for a, b, c in zip(got, wanted, again):
        assert np.array_equal(a, b) and np.array_equal(b, c)


@EACH_DTYPE
@pytest.mark.parametrize("shape", [(5, 40), (1, 300_000)], ids=["rows", "parts"])
@pytest.mark.parametrize("name", ["layer_norm", "rms_norm"])
def test_infinities_in_rows_stay_where_the_loops_leave_them(name, shape, dtype):
    """Of a root mean square of inf only the infinities themselves become NaN; of a mean of inf all."""
    x, dout = np.random.default_rng(0).standard_normal((2, *shape)).astype(dtype)
    x[0, [3, 7]] = np.inf
    x[-1, 9] = -np.inf
    assert_same(getattr(fastconv, name), getattr(naive, name), (x, shape[1:]), {"return_stats": True})
    assert_same(getattr(fastconv, f"{name}_backward"), getattr(naive, f"{name}_backward"), (dout, x, shape[1:]), {})


@pytest.mark.skipif(numba.config.DISABLE_JIT, reason="nothing is compiled")
def test_the_rows_of_a_task_count_no_users_of_arrays():
    """A count is an atomic instruction that waits for all stores before it: a fifth of the time of rows of 512."""
    part = norm_rows.some_rows.part()
    part.compile((numba.int64, *[numba.float32[::1]] * 4, numba.int64[::1], numba.float64[::1], *[numba.float32[::1]] * 2, numba.int64))
    code = str(next(iter(part.overloads.values())).library._final_module)
    assert "some_rows" in code and "NRT_incref" not in code and "NRT_decref" not in code
