"""Pictures on disk: PNG and JPEG in, arrays out, and back. A file is written whole or not at all. Needs Pillow (extra `examples`)."""
from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageOps, UnidentifiedImageError

from .files import replacing

FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG"}
QUALITY = 92                                 # of JPEG
GAP = 8                                      # pixels between pictures side by side
LABEL = 22                                   # pixels of height for a name


class BadPicture(ValueError):
    """What is wrong with a file, in one line."""


def read(path: Path) -> np.ndarray:
    """The picture as (3, H, W) float32, 0 to 255, turned as its camera held it; what is transparent lies on white."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow warns of large pictures; it refuses the absurd ones
            with Image.open(path, formats=tuple(dict.fromkeys(FORMATS.values()))) as file:
                picture = ImageOps.exif_transpose(file)
                if picture.mode.startswith("I"):         # 16 bits a pixel
                    picture = Image.fromarray((np.asarray(picture, np.float64) / 257).round().astype(np.uint8))
                if picture.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in picture.info:
                    picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture.convert("RGBA"))
                pixels = np.asarray(picture.convert("RGB"))
    except FileNotFoundError:
        raise BadPicture(f"there is no file {path}") from None
    except IsADirectoryError:
        raise BadPicture(f"{path} is a folder; wanted: a PNG or JPEG file") from None
    except UnidentifiedImageError:
        raise BadPicture(f"{path} is not a picture that can be read; wanted: a PNG or JPEG file") from None
    except Image.DecompressionBombError as error:
        raise BadPicture(f"{path} is too large: {error}") from None
    except PermissionError:
        raise BadPicture(f"{path} may not be read: permission denied") from None
    except (OSError, SyntaxError, ValueError, EOFError) as error:                # what Pillow raises for broken files
        raise BadPicture(f"{path} is broken: {error}") from None
    return np.ascontiguousarray(pixels.transpose(2, 0, 1), np.float32)


def picture(image: np.ndarray) -> Image.Image:
    """(3, H, W) of any float values, rounded and clipped to 0 .. 255."""
    pixels = np.clip(np.rint(np.nan_to_num(image)), 0, 255).astype(np.uint8)
    return Image.fromarray(np.ascontiguousarray(pixels.transpose(1, 2, 0)))


def sheet(images: list[tuple[str, np.ndarray]], columns: int) -> Image.Image:
    """Pictures of one size with their names above them, in rows of `columns`."""
    pictures = [(name, picture(image)) for name, image in images]
    width, height = pictures[0][1].size
    rows = -(-len(pictures) // columns)
    whole = Image.new("RGB", (columns * (width + GAP) + GAP, rows * (height + LABEL + GAP) + GAP), "white")
    draw = ImageDraw.Draw(whole)
    for number, (name, part) in enumerate(pictures):
        x, y = GAP + number % columns * (width + GAP), GAP + number // columns * (height + LABEL + GAP)
        draw.text((x, y + 4), name, fill="black")
        whole.paste(part, (x, y + LABEL))
    return whole


def format_of(path: Path) -> str:
    """PNG or JPEG, as the name ends."""
    try:
        return FORMATS[path.suffix.lower()]
    except KeyError:
        raise BadPicture(f"{path} ends in {path.suffix!r}; wanted: {', '.join(FORMATS)}") from None


def write(image: Image.Image, path: Path) -> None:
    """Write the picture in the format that the name ends in: into a file beside it first, which then takes its place."""
    kind = format_of(path)
    try:
        with replacing(path) as file:
            image.save(file, kind, **({"quality": QUALITY} if kind == "JPEG" else {}))
    except OSError as error:
        raise BadPicture(f"cannot write {path}: {error.strerror or error}") from None
