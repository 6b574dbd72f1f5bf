"""`fastconv filter`: convolution as image processing, on PNG and JPEG files."""
import numpy as np
import pytest
from PIL import Image

from fastconv import cli, filters, pictures


def filtered(*arguments):
    return cli.main(["filter", *map(str, arguments)])


@pytest.fixture
def photo(tmp_path):
    """A PNG with a dark left half and a bright right half, one coloured row."""
    pixels = np.zeros((20, 30, 3), np.uint8)
    pixels[:, 15:] = 255
    pixels[3] = 200, 100, 50
    path = tmp_path / "photo.png"
    Image.fromarray(pixels).save(path)
    return path


def pixels_of(path):
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB")).astype(int)


def test_grey_is_the_weighted_mean_of_the_colours(photo, capsys):
    assert filtered(photo, "--filter", "grey") == 0
    out = photo.with_name("photo-grey.png")
    assert capsys.readouterr().out == f"{out}: 30 x 20 pixels\n"
    assert (pixels_of(out)[3] == round(0.299 * 200 + 0.587 * 100 + 0.114 * 50)).all() and (pixels_of(out)[10, 20] == 255).all()


def test_edges_are_255_at_a_step_and_0_on_flat_ground(photo):
    assert filtered(photo, "--filter", "edges") == 0
    row = pixels_of(photo.with_name("photo-edges.png"))[10, :, 0]
    assert row.tolist() == [0] * 14 + [255, 255] + [0] * 14


def test_blur_keeps_the_mean_and_flat_ground_up_to_the_border():
    step = np.zeros((3, 40, 40), np.float32)
    step[:, :, 20:] = 255
    y = filters.blur(step)
    assert np.allclose(filters.blur(np.full((3, 9, 9), 77, np.float32)), 77) and abs(y.mean() - step.mean()) < 1
    wanted = np.cumsum(np.exp(-0.5 * (np.arange(-6, 7) / 2) ** 2))
    assert np.allclose(y[0, 5, 14:27], np.concatenate([wanted / wanted[-1]]) * 255, atol=0.01)


def test_a_kernel_is_applied_as_it_is_printed(photo, tmp_path):
    image = np.random.default_rng(0).random((3, 7, 9), np.float32) * 255
    kernel = np.arange(6.0).reshape(2, 3) - 2
    padded = np.pad(image, ((0, 0), (0, 1), (1, 1)), mode="edge")
    wanted = sum(kernel[i, j] * padded[:, i:i + 7, j:j + 9] for i in range(2) for j in range(3))
    assert np.allclose(filters.correlate(image, kernel), wanted, rtol=1e-4, atol=1e-2)
    shifted = tmp_path / "shifted.jpg"
    assert filtered(photo, "--kernel", "1 0 0", "--output", shifted, "--beside") == 0      # each pixel becomes its left neighbour
    assert pixels_of(shifted).shape == (20 + pictures.LABEL + 2 * pictures.GAP, 2 * 30 + 3 * pictures.GAP, 3)
    assert filtered(photo, "--kernel", "1 0 0") == 0
    assert (pixels_of(photo.with_name("photo-kernel.png"))[10, :, 0] == [0] * 16 + [255] * 14).all()


def test_a_kernel_comes_from_a_file_too(photo, tmp_path):
    file = tmp_path / "mean.txt"
    file.write_text("# the mean of nine\n1/9, 1/9 1/9\n1/9 1/9 1/9\n1/9 1/9 1/9\n")
    assert np.allclose(filters.read_kernel(str(file)), np.full((3, 3), 1 / 9))
    assert np.array_equal(filters.read_kernel("1 2;3,4"), [[1, 2], [3, 4]]) and filters.read_kernel("-3e-1").tolist() == [[-0.3]]


@pytest.mark.parametrize("text, says", [
    ("", "no numbers"), (";", "no numbers"), ("1 2; 3", "rows of 2, 1"), ("1 x", "'x'"), ("nan", "nan"), ("1/0", "1/0"), ("1 inf", "inf"),
    ("missing.txt", "missing.txt"), ("1 " * 300, "at most 255"), ("1e999", "1e999"), ("1/2/3", "1/2/3"),
])
def test_bad_kernels_are_refused_before_anything_is_written(photo, text, says, capsys):
    assert filtered(photo, "--kernel", text) == 2
    assert says in capsys.readouterr().err and list(photo.parent.iterdir()) == [photo]


def test_without_a_choice_all_filters_stand_on_one_sheet(photo):
    assert filtered(photo) == 0
    sheet = pixels_of(photo.with_name("photo-filters.png"))
    assert sheet.shape == (2 * (20 + pictures.LABEL + pictures.GAP) + pictures.GAP, 3 * (30 + pictures.GAP) + pictures.GAP, 3)
    top = pictures.GAP + pictures.LABEL
    assert np.array_equal(sheet[top:top + 20, pictures.GAP:pictures.GAP + 30], pixels_of(photo))
    assert set(cli.FILTERS) == set(filters.FILTERS)


def test_missing_broken_and_foreign_files(photo, tmp_path, capsys, monkeypatch):
    whole = photo.read_bytes()
    Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(tmp_path / "really.gif")
    (tmp_path / "really.gif").rename(tmp_path / "gif.png")
    for name, content in (("cut.png", whole[:60]), ("empty.png", b""), ("text.jpg", b"hello"), ("cut.jpg", b"\xff\xd8\xff\xe0")):
        (tmp_path / name).write_bytes(content)
    names = set(tmp_path.iterdir())
    for name in ("cut.png", "empty.png", "text.jpg", "cut.jpg", "none.png", ".", "gif.png"):
        assert filtered(tmp_path / name) == 2
        said = capsys.readouterr().err
        assert said.startswith("fastconv filter: ") and said.count("\n") == 1 and str(tmp_path) in said
    monkeypatch.chdir(tmp_path)
    for name in (".", "/", ""):              # folders without a name to make the output's of
        assert filtered(name) == 2
        assert "is a folder" in capsys.readouterr().err
    for output in ("x.gif", "x", "nowhere/x.png"):
        assert filtered(photo, "--output", tmp_path / output) == 2
    assert filtered(photo, "--filter", "grey", "--output", photo) == 2
    assert set(tmp_path.iterdir()) == names and photo.read_bytes() == whole


def test_a_write_that_fails_leaves_the_old_file(photo, monkeypatch, capsys):
    out = photo.with_name("photo-grey.png")
    assert filtered(photo, "--filter", "grey") == 0
    before = out.read_bytes()

    def full(self, file, *_, **__):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", full)
    assert filtered(photo, "--filter", "grey") == 2
    assert out.read_bytes() == before and len(list(photo.parent.iterdir())) == 2 and "No space" in capsys.readouterr().err


def test_every_kind_of_picture_is_read(tmp_path):
    pixels = (np.arange(12 * 8) * 2).reshape(12, 8).astype(np.uint8)
    grey, path = Image.fromarray(pixels), tmp_path / "x.png"
    for mode in ("L", "RGB", "RGBA", "LA", "P", "1"):
        grey.convert(mode).save(path)
        assert pictures.read(path).shape == (3, 12, 8) and pictures.read(path).dtype == np.float32
    Image.fromarray(pixels.astype(np.uint16) * 257).save(path)       # 16 bits
    assert np.array_equal(pictures.read(path)[0], pixels)
    clear = np.zeros((2, 2, 4), np.uint8)
    Image.fromarray(clear).save(path)
    assert (pictures.read(path) == 255).all()                        # transparent: the white below
    turned = Image.fromarray(np.zeros((4, 6, 3), np.uint8))
    exif = turned.getexif()
    exif[0x0112] = 6                                                 # the camera lay on its side
    turned.save(tmp_path / "x.jpg", exif=exif)
    assert pictures.read(tmp_path / "x.jpg").shape == (3, 6, 4)
