"""The layer tables: each network's channels and sizes fit together, its sums are the published ones, and a bad line is named."""

import re

import pytest

from fastconv import shapes

LINE = "conv1 conv 1 3 8 8 4 3 3 1 1 1 1"


def sizes(table):
    """{(channels, height)} of every output of the convolutions and pools of a table, with the image itself."""
    return {(3, 224)} | {layer.y_shape[1:3] for layer in shapes.load(table) if layer.op != "batchnorm"}


@pytest.mark.parametrize(("table", "billions"), [("vgg16", 15.347), ("resnet50", 4.087), ("mobilenetv2", 0.2995)])
def test_multiply_adds_are_the_published_ones(table, billions):
    total = sum(layer.multiply_adds * layer.count for layer in shapes.load(table))
    assert total / 1e9 == pytest.approx(billions, rel=5e-4)


@pytest.mark.parametrize(("table", "convs", "norms"), [("vgg16", 13, 0), ("resnet50", 53, 53), ("mobilenetv2", 52, 52)])
def test_counts(table, convs, norms):
    layers = shapes.load(table)
    assert sum(layer.count for layer in layers if layer.op == "conv") == convs
    assert sum(layer.count for layer in layers if layer.op == "batchnorm") == norms


@pytest.mark.parametrize("table", ["vgg16", "resnet50", "mobilenetv2"])
def test_every_layer_takes_the_output_of_another(table):
    outputs = sizes(table)
    for layer in shapes.load(table):
        assert (layer.C, layer.H) in outputs, layer.name
        assert layer.N == 1 and layer.H == layer.W


def test_vgg16_is_a_chain():
    shape = (1, 3, 224, 224)
    for layer in shapes.load("vgg16"):
        assert layer.x_shape == shape, layer.name
        shape = layer.y_shape
    assert shape == (1, 512, 7, 7)


@pytest.mark.parametrize("table", ["resnet50", "mobilenetv2"])
def test_batch_norms_follow_the_convolutions(table):
    after, norms = {}, {}
    for layer in shapes.load(table):
        if layer.op == "conv":
            after[layer.y_shape] = after.get(layer.y_shape, 0) + layer.count
        elif layer.op == "batchnorm":
            norms[layer.x_shape] = norms.get(layer.x_shape, 0) + layer.count
    assert norms == after


@pytest.mark.parametrize("table", shapes.tables())
def test_no_layer_stands_twice(table):
    layers = [layer._replace(name="", count=1) for layer in shapes.load(table)]
    assert len(set(layers)) == len(layers)


def test_the_notebook_convolution():
    layer = shapes.load("cs231n")[0]
    assert layer == shapes.Layer("fast_conv", "conv", 100, 3, 31, 31, 25, 3, 3, 2, 1, 1, 1)
    assert (layer.x_shape, layer.weight_shape, layer.y_shape) == ((100, 3, 31, 31), (25, 3, 3, 3), (100, 25, 16, 16))


def test_unused_columns_are_zero():
    norm = next(layer for layer in shapes.load("cs231n") if layer.name == "alt_bn")
    assert norm == shapes.Layer("alt_bn", "batchnorm", 100, 500, 0, 0, 0, 0, 0, 0, 0, 0, 1)
    assert (norm.x_shape, norm.weight_shape, norm.y_shape, norm.multiply_adds) == ((100, 500), (500,), (100, 500), 0)


def test_load_gives_a_list_of_its_own():
    shapes.load("vgg16").clear()
    assert shapes.load("vgg16")


def test_unknown_table():
    with pytest.raises(ValueError, match=r"'alexnet'.*cs231n, vgg16, resnet50, mobilenetv2"):
        shapes.load("alexnet")


def test_comments_and_empty_lines():
    assert shapes.parse(f"# head\n\n   {LINE} # tail\n") == [shapes.Layer("conv1", "conv", 1, 3, 8, 8, 4, 3, 3, 1, 1, 1, 1)]


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("conv1 conv 1 3 8 8 4 3 3 1 1 1", "12 columns, expected 13: name op N C"),
        (LINE + " 7", "14 columns"),
        (LINE.replace(" conv ", " convolution "), "op 'convolution' is none of conv, maxpool"),
        (LINE.replace(" 3 8 ", " x 8 "), "C = 'x' is not an integer of at least 1"),
        (LINE.replace(" 3 8 ", " ３ 8 "), "C = '３' is not an integer"),
        (LINE.replace(" 3 8 ", " -3 8 "), "C = '-3' is not"),
        (LINE.replace(" 3 8 ", " - 8 "), "C = '-' is not"),
        (LINE.replace("3 3 1 1 1 1", "3 3 0 1 1 1"), "stride = '0' is not an integer of at least 1"),
        (LINE.replace("3 3 1 1 1 1", "3 3 1 -1 1 1"), "padding = '-1' is not an integer of at least 0"),
        (LINE.replace("3 3 1 1 1 1", "3 3 1 1 2 1"), "groups = 2 divides not both C = 3 and F = 4"),
        (LINE.replace("4 3 3", "4 3 11"), "the kernel (3, 11) is larger than the padded input"),
        ("pool maxpool 1 3 8 8 4 2 2 2 0 - 1", "maxpool has no F: expected '-', not '4'"),
        ("bn batchnorm 1 3 8 - - - - - - - 1", "W = '-' is not an integer"),
        (LINE, "a second layer called 'conv1'"),
    ],
)
def test_a_bad_line_is_named(line, complaint):
    with pytest.raises(ValueError, match=re.escape(f"net.txt, line 3: {complaint}")):
        shapes.parse(f"# net\n{LINE}\n{line}\n", "net.txt")
