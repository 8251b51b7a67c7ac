"""Image files to pixels: (H, W, 3) uint8 RGB in the orientation that CVAT shows."""

from __future__ import annotations

import io
import os

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image as PillowImage
from PIL import TiffImagePlugin, UnidentifiedImageError

from common.errors import BadRequest, StartupError

DEFAULT_MAX_PIXELS = 2**27  # 134 megapixels, 400 MB of RGB
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF")
_ORIENTATION = 0x0112

# The limit is checked here, before any pixel is decoded, and named in the reply; Pillow's own is half of ours.
PillowImage.MAX_IMAGE_PIXELS = None


def max_pixels() -> int:
    """The largest image that is decoded, in pixels: the environment variable MAX_IMAGE_PIXELS."""
    text = os.environ.get("MAX_IMAGE_PIXELS", "").strip()
    if not text:
        return DEFAULT_MAX_PIXELS
    try:
        value = int(float(text))
        if value > 0:
            return value
    except (ValueError, OverflowError):
        pass
    raise StartupError(f"MAX_IMAGE_PIXELS: expected a positive number of pixels, got {text!r}")


def decode_image(data: bytes, field: str = "image") -> NDArray[np.uint8]:
    """The pixels of a JPEG, PNG, WebP, BMP, TIFF or GIF (first frame) file.

    Any colour mode and 8 or 16 bit (32 bit is scaled to its range); transparency is dropped as CVAT drops it, the
    EXIF orientation is applied.

    Args:
        data: The file.
        field: The field that it came in, as errors name it.

    Returns:
        (H, W, 3) uint8 RGB, writable and contiguous.

    Raises:
        BadRequest: It is not an image, is truncated, or larger than `max_pixels()`.
    """
    if not data:
        raise BadRequest(f"{field}: expected an image file, got nothing")
    limit = max_pixels()
    try:
        with PillowImage.open(io.BytesIO(data), formats=FORMATS) as image:
            for width, height in (image.size, _tile_size(image)):
                if width * height > limit:
                    raise BadRequest(
                        f"{field}: {width} x {height} pixels are over the limit of {limit} "
                        "(MAX_IMAGE_PIXELS of the function)"
                    )
            if image.format in ("JPEG", "MPO") and image.mode in ("RGB", "L"):
                pixels = _decode_jpeg(data, image.mode)
                if pixels is not None:
                    return oriented(pixels, _orientation(image))
            return pillow_to_rgb(image)
    except (UnidentifiedImageError, ImportError):
        # ImportError: the package ultralytics replaces Pillow's open by one that asks for another package at this point.
        raise BadRequest(
            f"{field}: expected an image file (JPEG, PNG, WebP, BMP, TIFF or GIF), got {len(data)} bytes of something else"
        ) from None
    except (BadRequest, MemoryError):
        raise
    except Exception as error:  # on bad data Pillow raises OSError, SyntaxError, ValueError, struct.error and others
        raise BadRequest(f"{field}: the image is damaged or truncated: {error}") from error


def pillow_to_rgb(image: PillowImage.Image) -> NDArray[np.uint8]:
    """The pixels of an image that Pillow has opened, as `decode_image` returns them.

    Args:
        image: The image; errors in its file come as Pillow raises them.

    Returns:
        (H, W, 3) uint8 RGB.
    """
    image.load()  # turns a TIFF, and takes its orientation away
    return oriented(_to_rgb(image), _orientation(image))


def oriented(pixels: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """Pixels rotated and mirrored as the EXIF orientation says.

    Args:
        pixels: (H, W, 3) as stored in the file.
        orientation: 1 to 8; other values change nothing.

    Returns:
        (H, W, 3) or (W, H, 3), contiguous.
    """
    if orientation in (5, 6, 7, 8):
        pixels = pixels.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return np.ascontiguousarray(pixels)


def _tile_size(image: PillowImage.Image) -> tuple[int, int]:
    """Width and height of the tiles of a TIFF, for which memory is taken whatever the image's own size; else 0, 0."""
    if not isinstance(image, TiffImagePlugin.TiffImageFile):
        return 0, 0
    size = image.tag_v2.get(TiffImagePlugin.TILEWIDTH, 0), image.tag_v2.get(TiffImagePlugin.TILELENGTH, 0)
    return size if all(isinstance(side, int) for side in size) else (0, 0)


def _orientation(image: PillowImage.Image) -> int:
    try:
        orientation = image.getexif().get(_ORIENTATION, 1)
    except Exception:  # damaged metadata is no reason to refuse an image whose pixels are intact
        return 1
    return orientation if isinstance(orientation, int) else 1


def _decode_jpeg(data: bytes, mode: str) -> NDArray[np.uint8] | None:
    # libjpeg-turbo's own interface gives the pixels that Pillow gives, in two thirds of the time or less. What it does
    # not take, Pillow decides about: an odd file is then decoded, a damaged one refused.
    try:
        pixels = simplejpeg.decode_jpeg(data, colorspace="RGB" if mode == "RGB" else "GRAY")
    except ValueError:
        return None
    return pixels if mode == "RGB" else np.repeat(pixels, 3, axis=2)


def _to_rgb(image: PillowImage.Image) -> NDArray[np.uint8]:
    if image.mode.startswith("I") or image.mode == "F":
        grey = _to_8_bit(np.asarray(image))
        return np.repeat(grey[:, :, None], 3, axis=2)
    return np.array(image if image.mode == "RGB" else image.convert("RGB"))


def _to_8_bit(values: NDArray[np.generic]) -> NDArray[np.uint8]:
    """Grey values of more than 8 bit as 8 bit: integers by the depth in use, 10, 12, 14 or 16 bit, others by range."""
    if np.issubdtype(values.dtype, np.integer):
        lowest, highest = int(values.min()), int(values.max())
        if lowest >= 0 and highest < 2**16:
            depth = next(bits for bits in (8, 10, 12, 14, 16) if highest < 2**bits)
            return (values.astype(np.uint16) >> (depth - 8)).astype(np.uint8)
    exact = values.astype(np.float64)  # one copy, worked on in place: it is eight times the size of the result
    finite = np.isfinite(exact)
    if not finite.all():  # infinities become black and white, NaN becomes black
        black, white = (exact[finite].min(), exact[finite].max()) if finite.any() else (0.0, 0.0)
        np.nan_to_num(exact, copy=False, nan=black, posinf=white, neginf=black)
    exact -= exact.min()
    exact *= 255 / exact.max() if exact.max() else 0
    np.rint(exact, out=exact)
    return exact.astype(np.uint8)
