"""The plain loops against PyTorch in float64, over every case whose parameters PyTorch can express."""

import numpy as np
import pytest
from cases import conv_cases, fold_cases, norm_cases, pool_cases, random_array

import naive
from fastconv.testing import assert_same
from naive.pool.window import each

torch = pytest.importorskip("torch", reason="needs the extra `peers`: pip install fastconv[peers]")
F = torch.nn.functional
POOL_CASES = [case for nd in (1, 2, 3) for case in pool_cases(nd)]


def tensor(x, requires_grad=True):
    return None if x is None else torch.tensor(x, requires_grad=requires_grad)


def array(t):
    return None if t is None else t.detach().numpy()


def nested(padding):
    """Whether padding is ((top, bottom), (left, right)), which torch's operations do not take (but F.pad does)."""
    return np.ndim(padding) == 2


def pad_first(x, padding, value=0.0):
    """x padded with F.pad by nested pairs, which wants the last axis first."""
    return F.pad(x, [side for pads in padding[::-1] for side in pads], value=value)


def supported(case):
    """PyTorch pads a pool by at most half its kernel, the same on both sides, and refuses a window that misses the image."""
    padding = case.kwargs.get("padding", 0)
    return not nested(padding) and all(p <= k // 2 for p, k in zip(each(padding, case.nd), each(case.kernel_size, case.nd)))


def pools(case, kind):
    """PyTorch's pooling, the naive one, and its gradient."""
    name = f"{kind}_pool{case.nd}d"
    return getattr(F, name), getattr(naive, name), getattr(naive, f"{name}_backward")


def same_gradients(y, dout, leaves, expected):
    """The gradients torch finds for sum(y * dout) are `expected`, None where the leaf is None."""
    y.backward(torch.tensor(dout))
    assert_same(tuple(array(leaf.grad) if leaf is not None else None for leaf in leaves), expected, tolerance=1e-12)


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")
@pytest.mark.parametrize("case", conv_cases(), ids=str)
def test_conv2d(case):
    arrays, dout, kwargs = case.arrays(), case.dout(), dict(case.kwargs)
    x, weight, bias = leaves = [tensor(a) for a in arrays]
    image = x
    if nested(kwargs.get("padding", 0)):
        image = pad_first(x, kwargs.pop("padding"))
    y = F.conv2d(image, weight, bias, **kwargs)
    assert_same(naive.conv2d(*arrays, **case.kwargs), array(y))
    same_gradients(y, dout, leaves, naive.conv2d_backward(dout, *arrays, **case.kwargs))


@pytest.mark.parametrize("integers", [False, True], ids=["", "ties"])
@pytest.mark.parametrize("case", POOL_CASES, ids=str)
def test_max_pool(case, integers):
    if not supported(case) and not case.kwargs.get("ceil_mode"):
        return max_pool_padded_first(case, integers)
    if not supported(case):
        pytest.skip("PyTorch cannot pad like this in ceil_mode")
    (x,), dout = case.arrays(integers=integers), case.dout()
    t, (peer, plain, backward) = tensor(x), pools(case, "max")
    y, indices = peer(t, **case.max_kwargs, return_indices=True)
    assert_same(plain(x, **case.max_kwargs, return_indices=True), (array(y), array(indices)), exact=True)
    same_gradients(y, dout, [t], (backward(dout, x, **case.max_kwargs),))


def max_pool_padded_first(case, integers):
    (x,), dout, kwargs = case.arrays(integers=integers), case.dout(), dict(case.max_kwargs)
    pad = [each(sides, 2) for sides in each(kwargs.pop("padding"), case.nd)]
    t, (peer, plain, backward) = tensor(x), pools(case, "max")
    y = peer(pad_first(t, pad, -np.inf), **kwargs)
    assert_same(plain(x, **case.max_kwargs), array(y), exact=True)
    same_gradients(y, dout, [t], (backward(dout, x, **case.max_kwargs),))


@pytest.mark.parametrize("case", POOL_CASES, ids=str)
def test_avg_pool(case):
    if np.any(np.array(case.kwargs.get("dilation", 1)) != 1):
        pytest.skip("PyTorch has no dilation here")
    (x,), dout, kwargs = case.arrays(), case.dout(), dict(case.avg_kwargs)
    kwargs.pop("dilation", None)
    t = image = tensor(x)
    if not supported(case):
        if kwargs.get("ceil_mode") or not kwargs.get("count_include_pad", True):
            pytest.skip("PyTorch cannot pad like this in ceil_mode or without counting the padding")
        image = pad_first(t, [each(sides, 2) for sides in each(kwargs.pop("padding"), case.nd)])
    peer, plain, backward = pools(case, "avg")
    y = peer(image, **kwargs)
    assert_same(plain(x, **case.avg_kwargs), array(y))
    same_gradients(y, dout, [t], (backward(dout, x, **case.avg_kwargs),))


@pytest.mark.parametrize("case", norm_cases(), ids=str)
def test_batch_norm(case):
    arrays, dout = case.arrays(), case.dout()
    x, mean, var = arrays[:3]
    t, t_mean, t_var, t_weight, t_bias = (tensor(a, i not in (1, 2)) for i, a in enumerate(arrays))
    training = case.kwargs.get("training", False) or mean is None  # torch wants to be told, where there are no running statistics
    y = F.batch_norm(t, t_mean, t_var, t_weight, t_bias, **{**case.kwargs, "training": training})
    assert_same(naive.batch_norm(*arrays, **case.kwargs), array(y))
    assert_same((mean, var), (array(t_mean), array(t_var)))
    if x.size > 0:
        same_gradients(y, dout, [t, t_weight, t_bias], naive.batch_norm_backward(dout, *arrays, **case.kwargs))


@pytest.mark.parametrize("case", fold_cases(), ids=str)
def test_fold(case):
    (x,), cols = case.arrays(), case.cols()
    expected = naive.im2col(x, case.kernel_size, **case.kwargs), naive.im2col_backward(cols, x, case.kernel_size, **case.kwargs)
    t, kwargs = tensor(x), dict(case.kwargs)
    image = pad_first(t, kwargs.pop("padding")) if nested(kwargs.get("padding", 0)) else t
    y = F.unfold(image, case.kernel_size, **kwargs)
    assert_same(expected[0], array(y), exact=True)
    same_gradients(y, cols, [t], expected[1:])

    if nested(case.kwargs.get("padding", 0)):
        return  # what F.fold would have to crop, unfold's own gradient above has shown
    t = tensor(cols)
    y = F.fold(t, case.output_size, case.kernel_size, **case.kwargs)
    assert_same(naive.col2im(cols, case.output_size, case.kernel_size, **case.kwargs), array(y))
    same_gradients(y, x, [t], (naive.col2im_backward(x, cols, case.output_size, case.kernel_size, **case.kwargs),))


def test_padding_same_is_for_stride_1():
    with pytest.raises(RuntimeError, match="strided"):
        F.conv2d(tensor(random_array((1, 1, 4, 4))), tensor(random_array((1, 1, 3, 3))), padding="same", stride=2)



@pytest.mark.parametrize("nd, size", [(1, 3), (1, 1), (2, (3, None)), (2, 1), (2, (5, 9)), (3, (2, 1, 3)), (3, 4)], ids=str)
def test_adaptive_pool(nd, size):
    x = random_array((2, 3, 5, 7, 6)[: nd + 2], seed=1)
    size = size[0] if nd == 1 and isinstance(size, tuple) else size
    t = tensor(x)
    y = getattr(F, f"adaptive_avg_pool{nd}d")(t, size)
    dout = random_array(tuple(y.shape), seed=2)
    assert_same(getattr(naive, f"adaptive_avg_pool{nd}d")(x, size), array(y))
    same_gradients(y, dout, [t], (getattr(naive, f"adaptive_avg_pool{nd}d_backward")(dout, x, size),))
    t = tensor(x)
    y, indices = getattr(F, f"adaptive_max_pool{nd}d")(t, size, return_indices=True)
    assert_same(getattr(naive, f"adaptive_max_pool{nd}d")(x, size, return_indices=True), (array(y), indices.numpy()), exact=True)
    same_gradients(y, dout, [t], (getattr(naive, f"adaptive_max_pool{nd}d_backward")(dout, x, size),))


@pytest.mark.parametrize("p", [1, 2, 3, 1.5])
@pytest.mark.parametrize("nd, kernel, stride, ceil", [(1, 3, 2, True), (1, 2, None, False), (2, 3, 2, True), (2, (2, 3), None, False), (3, 2, 1, False),
                                                      (3, (1, 2, 2), 2, True)], ids=str)
def test_lp_pool(nd, kernel, stride, ceil, p):
    x = np.abs(random_array((2, 3, 5, 6, 7)[: nd + 2], seed=1)) + 0.1
    t, arguments = tensor(x), (p, kernel, stride, ceil)
    y = getattr(F, f"lp_pool{nd}d")(t, *arguments)
    dout = random_array(tuple(y.shape), seed=2)
    assert_same(getattr(naive, f"lp_pool{nd}d")(x, *arguments), array(y), tolerance=1e-12)
    same_gradients(y, dout, [t], (getattr(naive, f"lp_pool{nd}d_backward")(dout, x, *arguments),))


@pytest.mark.parametrize("nd, kernel, stride, padding, output_size", [(1, 2, None, 0, None), (1, 3, 2, 1, (7,)), (2, 2, None, 0, (9, 11)),
                                                                      (2, 3, 2, 1, None), (3, 2, None, 0, (2, 3, 4, 9, 6))], ids=str)
def test_max_unpool(nd, kernel, stride, padding, output_size):
    x = random_array((2, 3, 4, 9, 6) if nd == 3 else (2, 3, 9, 11)[: nd + 2], seed=1)
    y, indices = getattr(F, f"max_pool{nd}d")(tensor(x), kernel, stride, padding, return_indices=True)
    if nd == 1:
        output_size = None if output_size is None else (x.shape[-1],)
    t, arguments = tensor(array(y)), (kernel, stride, padding, output_size)
    back = getattr(F, f"max_unpool{nd}d")(t, indices, *arguments)
    dout = random_array(tuple(back.shape), seed=2)
    assert_same(getattr(naive, f"max_unpool{nd}d")(array(t), indices.numpy(), *arguments), array(back), exact=True)
    same_gradients(back, dout, [t], (getattr(naive, f"max_unpool{nd}d_backward")(dout, array(t), indices.numpy(), *arguments),))


@pytest.mark.parametrize("shape, size, others", [((2, 7, 5), 5, ()), ((2, 7, 5, 3), 4, (0.5, 0.6, 2.0)), ((1, 3, 2, 3, 4), 9, (0.3, 1.0))], ids=str)
def test_local_response_norm(shape, size, others):
    x, dout = random_array(shape, seed=1), random_array(shape, seed=2)
    t = tensor(x)
    y = F.local_response_norm(t, size, *others)
    assert_same(naive.local_response_norm(x, size, *others), array(y))
    same_gradients(y, dout, [t], (naive.local_response_norm_backward(dout, x, size, *others),))
