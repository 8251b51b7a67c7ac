import io
import json
import struct
import subprocess
import sys
import warnings
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageOps

from common.errors import BadRequest, StartupError
from common.vision.image import DEFAULT_MAX_PIXELS, decode_image, max_pixels, oriented
from tests.image_files import encode, photo

PHOTO = photo()


def pillow(data: bytes) -> NDArray[np.uint8]:
    """What Pillow makes of a file, orientation applied, as RGB."""
    with Image.open(io.BytesIO(data)) as image:
        image.load()
        return np.asarray(ImageOps.exif_transpose(image).convert("RGB"))


def assert_is_what_pillow_decodes(data: bytes) -> NDArray[np.uint8]:
    pixels = decode_image(data)
    assert pixels.dtype == np.uint8
    assert pixels.flags.c_contiguous
    assert pixels.flags.writeable
    np.testing.assert_array_equal(pixels, pillow(data))
    return pixels


def png(values: NDArray[np.uint16], colour_type: int) -> bytes:
    """A PNG of 16 bit per channel, which Pillow can't write in colour: values (H, W, channels)."""
    height, width = values.shape[:2]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    header = struct.pack(">IIBBBBB", width, height, 16, colour_type, 0, 0, 0)

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def tiled_tiff(pixels: NDArray[np.uint8], tile_hw: tuple[int, int]) -> bytes:
    """An uncompressed TIFF of tiles, which Pillow can't write: grey (H, W), padded to whole tiles."""
    height, width = tile_hw
    rows, columns = -(-pixels.shape[0] // height), -(-pixels.shape[1] // width)
    padded = np.zeros((rows * height, columns * width), np.uint8)
    padded[: pixels.shape[0], : pixels.shape[1]] = pixels
    tiles = padded.reshape(rows, height, columns, width).swapaxes(1, 2).tobytes()
    return tiff_of_tiles(pixels.shape, tile_hw, rows * columns, tiles)


def tiff_of_tiles(size_hw: tuple[int, ...], tile_hw: tuple[int, int], count: int, content: bytes) -> bytes:
    entries = {256: size_hw[1], 257: size_hw[0], 258: 8, 259: 1, 262: 1, 277: 1, 322: tile_hw[1], 323: tile_hw[0]}
    places = 8 + 2 + 12 * 10 + 4  # behind the directory: where each tile is, how long each is, then the tiles
    length = len(content) // count
    offsets = [places + 8 * count + length * i for i in range(count)]
    directory = struct.pack("<H", 10) + b"".join(
        struct.pack("<HHII", tag, 4, 1, value) for tag, value in entries.items()
    )
    directory += struct.pack("<HHII", 324, 4, count, places if count > 1 else offsets[0])
    directory += struct.pack("<HHII", 325, 4, count, places + 4 * count if count > 1 else length)
    lists = struct.pack(f"<{2 * count}I", *offsets, *[length] * count)
    return b"II*\0" + struct.pack("<I", 8) + directory + struct.pack("<I", 0) + lists + content


class TestJpeg:
    @pytest.mark.parametrize("subsampling", ["4:4:4", "4:2:2", "4:2:0"])
    @pytest.mark.parametrize("progressive", [False, True])
    @pytest.mark.parametrize("quality", [30, 75, 98])
    def test_pixels_are_those_of_pillow(self, subsampling: str, progressive: bool, quality: int) -> None:
        data = encode(PHOTO, "JPEG", subsampling=subsampling, progressive=progressive, quality=quality)
        pixels = assert_is_what_pillow_decodes(data)
        assert abs(pixels.astype(int) - PHOTO).mean() < 40

    @pytest.mark.parametrize("size_hw", [(1, 1), (1, 9), (7, 1), (15, 17), (16, 16), (33, 31)])
    def test_of_any_size(self, size_hw: tuple[int, int]) -> None:
        assert assert_is_what_pillow_decodes(encode(photo(size_hw), "JPEG")).shape == (*size_hw, 3)

    def test_grey(self) -> None:
        pixels = assert_is_what_pillow_decodes(encode(PHOTO[:, :, 0], "JPEG"))
        assert (pixels[:, :, 0] == pixels[:, :, 2]).all()

    def test_cmyk(self) -> None:
        image = Image.fromarray(PHOTO).convert("CMYK")
        pixels = assert_is_what_pillow_decodes(encode(image, "JPEG", quality=98))
        assert abs(pixels.astype(int) - PHOTO).mean() < 12

    def test_with_restart_markers(self) -> None:
        assert_is_what_pillow_decodes(encode(PHOTO, "JPEG", restart_marker_blocks=3))

    def test_stored_as_rgb(self) -> None:
        pixels = assert_is_what_pillow_decodes(encode(PHOTO, "JPEG", keep_rgb=True, quality=98))
        assert abs(pixels.astype(int) - PHOTO).mean() < 3

    def test_several_pictures_in_one_file_give_the_first(self) -> None:
        data = encode(PHOTO, "MPO", save_all=True, append_images=[Image.new("RGB", (128, 96))])
        with Image.open(io.BytesIO(data)) as image:
            assert image.format == "MPO"
        assert assert_is_what_pillow_decodes(data).mean() > 50

    def test_bytes_behind_the_picture_do_no_harm(self) -> None:
        data = encode(PHOTO, "JPEG")
        np.testing.assert_array_equal(decode_image(data + b"trailing" * 100), pillow(data))


class TestLosslessFormats:
    @pytest.mark.parametrize(
        ("file_format", "options"),
        [
            ("PNG", {}),
            ("BMP", {}),
            ("TIFF", {}),
            ("TIFF", {"compression": "tiff_lzw"}),
            ("TIFF", {"compression": "tiff_deflate"}),
            ("TIFF", {"compression": "packbits"}),
            ("WEBP", {"lossless": True}),
        ],
    )
    def test_give_the_pixels_that_were_written(self, file_format: str, options: dict[str, Any]) -> None:
        np.testing.assert_array_equal(decode_image(encode(PHOTO, file_format, **options)), PHOTO)

    def test_webp_with_loss(self) -> None:
        assert_is_what_pillow_decodes(encode(PHOTO, "WEBP", quality=80))

    def test_gif_and_animations_give_the_first_frame(self) -> None:
        frames = [Image.fromarray(np.full((20, 30, 3), value, np.uint8)) for value in ((255, 0, 0), (0, 0, 255))]
        for file_format in ("GIF", "WEBP", "PNG"):
            options = {"lossless": True} if file_format == "WEBP" else {}
            data = encode(frames[0], file_format, save_all=True, append_images=frames[1:], duration=50, **options)
            pixels = decode_image(data)
            assert pixels.shape == (20, 30, 3), file_format
            assert (pixels == (255, 0, 0)).all(), file_format

    def test_gif_of_a_photo(self) -> None:
        assert_is_what_pillow_decodes(encode(PHOTO, "GIF"))

    @pytest.mark.parametrize("tile_hw", [(16, 16), (32, 16), (96, 128)])
    def test_tiff_of_tiles(self, tile_hw: tuple[int, int]) -> None:
        assert_is_what_pillow_decodes(tiled_tiff(PHOTO[:, :, 0], tile_hw))
        np.testing.assert_array_equal(decode_image(tiled_tiff(PHOTO[:, :, 0], tile_hw))[:, :, 1], PHOTO[:, :, 0])

    def test_tiff_of_several_pages_gives_the_first(self) -> None:
        data = encode(PHOTO, "TIFF", save_all=True, append_images=[Image.new("RGB", (5, 5))])
        np.testing.assert_array_equal(decode_image(data), PHOTO)


class TestColourModes:
    @pytest.mark.parametrize(
        ("file_format", "modes"),
        [
            ("PNG", "1 L P RGB RGBA LA"),
            ("TIFF", "1 L P RGB RGBA LA CMYK YCbCr LAB"),
            ("BMP", "1 L P RGB RGBA"),
            ("GIF", "1 L P RGB RGBA LA"),
            ("WEBP", "L P RGB RGBA LA CMYK YCbCr"),
        ],
    )
    def test_each_that_a_format_can_hold(self, file_format: str, modes: str) -> None:
        options = {"lossless": True} if file_format == "WEBP" else {}
        for mode in modes.split():
            image = (
                Image.new("LAB", (128, 96), (90, 120, 60)) if mode == "LAB" else Image.fromarray(PHOTO).convert(mode)
            )
            assert assert_is_what_pillow_decodes(encode(image, file_format, **options)).shape == PHOTO.shape, mode

    def test_transparency_is_dropped_and_the_colour_below_it_stays(self) -> None:
        colour = np.zeros((4, 4, 4), np.uint8)
        colour[:] = (200, 100, 50, 0)
        assert (decode_image(encode(colour)) == (200, 100, 50)).all()
        grey_alpha = np.zeros((4, 4, 2), np.uint8)
        grey_alpha[:] = (77, 0)
        assert (decode_image(encode(Image.fromarray(grey_alpha, "LA"))) == 77).all()

    def test_a_palette_with_a_transparent_entry(self) -> None:
        image = Image.fromarray(PHOTO).convert("P", palette=Image.Palette.ADAPTIVE, colors=16)
        assert_is_what_pillow_decodes(encode(image, "PNG", transparency=3))
        assert_is_what_pillow_decodes(encode(image, "GIF", transparency=3))

    def test_one_bit_is_black_and_white(self) -> None:
        bits = np.array([[True, False], [False, True]])
        np.testing.assert_array_equal(decode_image(encode(bits))[:, :, 0], [[255, 0], [0, 255]])


class TestMoreThan8Bit:
    @pytest.mark.parametrize("file_format", ["PNG", "TIFF"])
    @pytest.mark.parametrize(
        ("values", "expected"),
        [
            ([0, 255, 256, 32768, 65535], [0, 0, 1, 128, 255]),  # 16 bit
            ([0, 15, 16, 2048, 4095], [0, 0, 1, 128, 255]),  # 12 bit in 16
            ([0, 3, 4, 512, 1023], [0, 0, 1, 128, 255]),  # 10 bit in 16
            ([0, 63, 64, 8192, 16383], [0, 0, 1, 128, 255]),  # 14 bit in 16
            ([0, 1, 100, 254, 255], [0, 1, 100, 254, 255]),  # 8 bit in 16
            ([0, 0, 0, 0, 0], [0, 0, 0, 0, 0]),
        ],
    )
    def test_grey_is_scaled_by_the_depth_in_use(self, file_format: str, values: list[int], expected: list[int]) -> None:
        pixels = decode_image(encode(np.array([values], np.uint16), file_format))
        assert pixels.shape == (1, 5, 3)
        assert pixels[0, :, 0].tolist() == pixels[0, :, 1].tolist() == pixels[0, :, 2].tolist() == expected

    def test_big_endian_tiff(self) -> None:
        values = np.array([[0, 256, 65535]], np.uint16)
        data = encode(Image.frombytes("I;16B", (3, 1), values.astype(">u2").tobytes()), "TIFF")
        assert decode_image(data)[0, :, 0].tolist() == [0, 1, 255]

    @pytest.mark.parametrize(("colour_type", "channels"), [(2, 3), (6, 4)])
    def test_colour_png_keeps_the_upper_byte(self, colour_type: int, channels: int) -> None:
        values = np.random.default_rng(1).integers(0, 2**16, (9, 11, channels)).astype(np.uint16)
        np.testing.assert_array_equal(decode_image(png(values, colour_type)), values[:, :, :3] >> 8)

    def test_grey_with_alpha_png_keeps_the_upper_byte(self) -> None:
        values = np.random.default_rng(2).integers(0, 2**16, (9, 11, 2)).astype(np.uint16)
        np.testing.assert_array_equal(decode_image(png(values, 4))[:, :, 0], values[:, :, 0] >> 8)

    @pytest.mark.parametrize(
        ("values", "expected"),
        [
            ([0.0, 0.25, 1.0], [0, 64, 255]),
            ([-5.0, 0.0, 5.0], [0, 128, 255]),
            ([1000.0, 1000.0, 1000.0], [0, 0, 0]),
            ([np.nan, 0.0, 10.0], [0, 0, 255]),
            ([-np.inf, 0.0, 10.0], [0, 0, 255]),
            ([np.inf, 0.0, 10.0], [255, 0, 255]),
            ([np.nan, np.nan, np.inf], [0, 0, 0]),
            ([-3.4e38, 0.0, 3.4e38], [0, 128, 255]),
        ],
    )
    def test_float_tiff_is_scaled_to_its_range(self, values: list[float], expected: list[int]) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            pixels = decode_image(encode(np.array([values], np.float32), "TIFF"))
        assert pixels[0, :, 0].tolist() == expected

    def test_32_bit_tiff_is_scaled_to_its_range(self) -> None:
        pixels = decode_image(encode(np.array([[-(2**31), 0, 2**31 - 1]], np.int32), "TIFF"))
        assert pixels[0, :, 0].tolist() == [0, 128, 255]


class TestOrientation:
    @pytest.mark.parametrize("orientation", range(1, 9))
    @pytest.mark.parametrize("file_format", ["JPEG", "MPO", "PNG", "TIFF", "WEBP"])
    def test_is_applied_once(self, file_format: str, orientation: int) -> None:
        exif = Image.Exif()
        exif[0x0112] = orientation
        options: dict[str, Any] = {"exif": exif}
        if file_format == "WEBP":
            options["lossless"] = True
        if file_format == "MPO":
            options |= {"save_all": True, "append_images": [Image.new("RGB", (128, 96))]}
        pixels = assert_is_what_pillow_decodes(encode(PHOTO, file_format, **options))
        assert pixels.shape == ((96, 128, 3) if orientation <= 4 else (128, 96, 3))
        # The corner that was stored first, and where each orientation shows it.
        corners = {1: (0, 0), 2: (0, -1), 3: (-1, -1), 4: (-1, 0), 5: (0, 0), 6: (0, -1), 7: (-1, -1), 8: (-1, 0)}
        stored_first = pillow(encode(PHOTO, file_format, **{**options, "exif": Image.Exif()}))[0, 0]
        np.testing.assert_array_equal(pixels[corners[orientation]], stored_first)

    def test_of_a_grey_jpeg_and_of_16_bit_grey(self) -> None:
        exif = Image.Exif()
        exif[0x0112] = 6
        assert assert_is_what_pillow_decodes(encode(PHOTO[:, :, 0], "JPEG", exif=exif)).shape == (128, 96, 3)
        values = np.array([[0, 65535, 256]], np.uint16)
        for file_format in ("PNG", "TIFF"):
            pixels = decode_image(encode(values, file_format, exif=exif))
            assert pixels[:, 0, 0].tolist() == [0, 255, 1], file_format

    def test_in_xmp_metadata(self) -> None:
        xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF><rdf:Description tiff:Orientation="6"/></rdf:RDF></x:xmpmeta>'
        assert assert_is_what_pillow_decodes(encode(PHOTO, "JPEG", xmp=xmp)).shape == (128, 96, 3)

    @pytest.mark.parametrize("orientation", [0, 9, 65535])
    def test_that_does_not_exist_changes_nothing(self, orientation: int) -> None:
        exif = Image.Exif()
        exif[0x0112] = orientation
        np.testing.assert_array_equal(decode_image(encode(PHOTO, "PNG", exif=exif)), PHOTO)

    @pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
    @pytest.mark.parametrize(
        "exif",
        [
            b"Exif\0\0",
            b"Exif\0\0garbage of some length",
            b"Exif\0\0MM\0*\0\0\0\x08\0\x05",
            b"Exif\0\0MM\0*\xff\xff\xff\xff",
            b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x02\0\x04\0\0\0six\0\0\0\0\0",  # a text, not a number
        ],
    )
    @pytest.mark.parametrize("file_format", ["JPEG", "PNG"])
    def test_of_damaged_metadata_is_upright(self, file_format: str, exif: bytes) -> None:
        data = encode(PHOTO, file_format)
        np.testing.assert_array_equal(decode_image(encode(PHOTO, file_format, exif=exif)), pillow(data))

    def test_is_undone_by_its_inverse(self) -> None:
        inverse = {1: 1, 2: 2, 3: 3, 4: 4, 5: 5, 6: 8, 7: 7, 8: 6}
        for orientation, back in inverse.items():
            np.testing.assert_array_equal(oriented(oriented(PHOTO, orientation), back), PHOTO)


FILES: dict[str, Callable[[], bytes]] = {
    "JPEG": lambda: encode(PHOTO, "JPEG"),
    "JPEG progressive": lambda: encode(PHOTO, "JPEG", progressive=True),
    "JPEG grey": lambda: encode(PHOTO[:, :, 0], "JPEG"),
    "JPEG CMYK": lambda: encode(Image.fromarray(PHOTO).convert("CMYK"), "JPEG"),
    "PNG": lambda: encode(PHOTO),
    "PNG 16 bit": lambda: encode(PHOTO[:, :, 0].astype(np.uint16) * 257),
    "WebP": lambda: encode(PHOTO, "WEBP"),
    "WebP lossless": lambda: encode(PHOTO, "WEBP", lossless=True),
    "BMP": lambda: encode(PHOTO, "BMP"),
    "TIFF": lambda: encode(PHOTO, "TIFF"),
    "TIFF LZW": lambda: encode(PHOTO, "TIFF", compression="tiff_lzw"),
    "TIFF deflate": lambda: encode(PHOTO, "TIFF", compression="tiff_deflate"),
    "GIF": lambda: encode(PHOTO, "GIF"),
}


@pytest.mark.filterwarnings("ignore::UserWarning")
class TestDamagedFiles:
    @pytest.mark.parametrize("name", FILES)
    def test_cut_anywhere_before_the_last_pixel_are_refused(self, name: str) -> None:
        data = FILES[name]()
        decode_image(data)
        # Behind the last pixel a PNG has two checksums and an empty chunk: pictures that lack only those are whole.
        last = len(data) - 25
        for length in sorted({1, 2, 10, 30, 100, *np.linspace(1, last, 60).astype(int).tolist()}):
            with pytest.raises(BadRequest, match=r"^image: (expected an image file|the image is damaged or truncated)"):
                decode_image(data[:length])

    def test_jpeg_without_its_last_two_bytes_is_refused(self) -> None:
        with pytest.raises(BadRequest, match="damaged or truncated"):
            decode_image(encode(PHOTO, "JPEG")[:-2])

    @pytest.mark.parametrize("name", FILES)
    def test_with_changed_bytes_are_decoded_or_refused(self, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("MAX_IMAGE_PIXELS", "1e6")
        rng = np.random.default_rng(3)
        whole = FILES[name]()
        for _ in range(60):
            data = bytearray(whole)
            end = len(data) if rng.random() < 0.5 else 64
            for position in rng.integers(0, end, int(rng.integers(1, 6))):
                data[position] = rng.integers(0, 256)
            try:
                pixels = decode_image(bytes(data))
            except BadRequest as error:
                assert len(str(error)) <= 500  # noqa: PT017
            else:
                assert pixels.ndim == 3
                assert pixels.shape[2] == 3
                assert pixels.dtype == np.uint8

    @pytest.mark.parametrize(
        "data",
        [
            b"\0",
            b"no image",
            b"<svg xmlns='http://www.w3.org/2000/svg'/>",
            b"%PDF-1.7",
            b"\xff\xd8",
            b"GIF89a",
            b"RIFF",
        ],
    )
    def test_what_is_no_image_is_refused(self, data: bytes) -> None:
        with pytest.raises(BadRequest, match="expected an image file"):
            decode_image(data)

    def test_nothing_is_refused_by_the_name_of_its_field(self) -> None:
        with pytest.raises(BadRequest, match=r"^image1: expected an image file, got nothing$"):
            decode_image(b"", "image1")

    def test_formats_that_cvat_does_not_know_are_refused(self) -> None:
        for file_format in ("PPM", "ICO", "TGA", "PCX"):
            with pytest.raises(BadRequest, match="expected an image file"):
                decode_image(encode(photo((16, 16)), file_format))


BOMBS = """
import io, json, resource, struct, sys, zlib
from PIL import Image
from common.errors import BadRequest
from common.vision.image import decode_image

def encode(file_format, mode="RGB", **options):
    buffer = io.BytesIO()
    Image.effect_noise((16, 16), 90).convert(mode).save(buffer, file_format, **options)
    return bytearray(buffer.getvalue())

def patched(data, place, layout, *values):
    data[place : place + struct.calcsize(layout)] = struct.pack(layout, *values)
    return data

png = patched(encode("PNG"), 16, ">II", 60000, 60000)
png = patched(png, 29, ">I", zlib.crc32(png[12:29]))
jpeg = encode("JPEG")
jpeg = patched(jpeg, jpeg.index(b"\\xff\\xc0") + 5, ">HH", 65000, 65000)
tiff = encode("TIFF", compression="tiff_lzw")
directory = struct.unpack("<I", tiff[4:8])[0]
for entry in range(directory + 2, directory + 2 + 12 * struct.unpack("<H", tiff[directory : directory + 2])[0], 12):
    if struct.unpack("<H", tiff[entry : entry + 2])[0] in (256, 257):  # width, height
        patched(tiff, entry + 2, "<HII", 4, 1, 60000)
lossless = encode("WEBP", lossless=True)
size = struct.unpack("<I", lossless[21:25])[0] & ~0xFFFFFFF | 16382 | 16382 << 14
bombs = {
    "PNG": png,
    "JPEG": jpeg,
    "TIFF": tiff,
    "BMP": patched(encode("BMP"), 18, "<ii", 60000, 60000),
    "GIF": patched(encode("GIF"), 6, "<HH", 65000, 65000),
    "WebP": patched(encode("WEBP"), 26, "<HH", 16383, 16383),
    "WebP lossless": patched(lossless, 21, "<I", size),
}
found = {}
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for name, data in bombs.items():
    assert len(data) < 2000
    try:
        decode_image(bytes(data))
    except BadRequest as error:
        found[name] = str(error)
grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
json.dump({"messages": found, "grown_mb": grown / 1024}, sys.stdout)
"""


class TestLimit:
    def test_small_files_of_huge_pictures_are_refused_before_memory_is_taken(self) -> None:
        result = subprocess.run([sys.executable, "-c", BOMBS], capture_output=True, text=True, check=True)
        found = json.loads(result.stdout)
        assert set(found["messages"]) == {"PNG", "JPEG", "TIFF", "BMP", "GIF", "WebP", "WebP lossless"}
        for message in found["messages"].values():
            assert "pixels are over the limit of 134217728 (MAX_IMAGE_PIXELS of the function)" in message
        assert found["grown_mb"] < 100

    @pytest.mark.parametrize("tile_hw", [(20_000, 20_000), (16, 2**31 - 1), (60_000, 60_000)])
    def test_small_pictures_of_huge_tiles_are_refused_as_well(self, tile_hw: tuple[int, int]) -> None:
        data = tiff_of_tiles((16, 16), tile_hw, 1, bytes(1000))
        with pytest.raises(BadRequest, match=rf"^image: {tile_hw[1]} x {tile_hw[0]} pixels are over the limit of "):
            decode_image(data)

    def test_a_picture_of_100_megapixels_is_within_the_default_one(self) -> None:
        data = encode(np.ones((10_000, 10_000), bool))
        assert len(data) < 200_000
        pixels = decode_image(data)
        assert pixels.shape == (10_000, 10_000, 3)
        assert pixels[::999, ::999].min() == 255

    def test_is_set_by_the_environment(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("MAX_IMAGE_PIXELS", "600")
        assert decode_image(encode(photo((20, 30)))).shape == (20, 30, 3)
        with pytest.raises(BadRequest, match=r"^image: 31 x 20 pixels are over the limit of 600 "):
            decode_image(encode(photo((20, 31))))

    @pytest.mark.parametrize(
        ("text", "pixels"), [("", DEFAULT_MAX_PIXELS), (" ", DEFAULT_MAX_PIXELS), ("2e6", 2_000_000)]
    )
    def test_is_read(self, monkeypatch: pytest.MonkeyPatch, text: str, pixels: int) -> None:
        monkeypatch.setenv("MAX_IMAGE_PIXELS", text)
        assert max_pixels() == pixels

    @pytest.mark.parametrize("text", ["many", "0", "-5", "nan", "inf", "0.5"])
    def test_that_is_none_is_our_fault(self, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
        monkeypatch.setenv("MAX_IMAGE_PIXELS", text)
        with pytest.raises(StartupError, match=r"^MAX_IMAGE_PIXELS: expected a positive number of pixels, got '"):
            decode_image(encode(photo((20, 30))))
