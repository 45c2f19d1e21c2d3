"""The decode rule: every kind of image that the wild holds is converted as documented or refused with its reason."""

from __future__ import annotations

import contextlib
import io
import threading
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import view_oracles
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFile
from view_images import encode, jpeg, pattern, png, png_header, smooth

from reinforce.errors import UndecodableImageError, UsageError
from reinforce.views import decode, decode_image, named_policy, resolve_policy
from reinforce.views.decode import reduction_factor

POLICY = named_policy("center", size_px=64)  # large enough that test images are not reduced
SMALL = named_policy("center", size_px=8)


def decoded(data: bytes, policy: Any = POLICY) -> np.ndarray:
    image = decode_image(data, policy)
    assert image.mode == "RGB"
    return np.array(image)


RGB = pattern(21, 14)
GREY = RGB[..., 0]
ALPHA = RGB[..., 1]
RGBA = np.dstack([RGB, ALPHA])
CMYK = np.dstack([RGB, RGB[..., 0] // 2])
GREY16 = (GREY.astype(np.uint16) << 8) + RGB[..., 1]


def _palette(transparency: bytes | int | None) -> bytes:
    image = Image.frombytes("P", (21, 14), (GREY // 64).tobytes())
    image.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90, 200, 210, 220])
    return encode(image, "PNG", **({} if transparency is None else {"transparency": transparency}))


PALETTE = np.array([[10, 20, 30], [40, 50, 60], [70, 80, 90], [200, 210, 220]], dtype=np.uint8)[GREY // 64]


def _over_white(rgb: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    return view_oracles.over_white(np.dstack([rgb, alpha]))


def _cmyk_as_rgb(cmyk: np.ndarray) -> np.ndarray:
    white = 255 - cmyk[..., 3:].astype(int)
    t = cmyk[..., :3].astype(int) * white + 128
    return np.clip(white - ((t >> 8) + t >> 8), 0, 255).astype(np.uint8)


def _grey(levels: np.ndarray) -> np.ndarray:
    return np.repeat(levels[..., None], 3, axis=2).astype(np.uint8)


def _gif() -> bytes:
    frames = [Image.fromarray(PALETTE).quantize(4), Image.new("P", (21, 14), 1)]
    return encode(frames[0], "GIF", save_all=True, append_images=frames[1:])


def _bits() -> Image.Image:
    return Image.fromarray(GREY > 100)


CONVERTED: dict[str, tuple[Callable[[], bytes], np.ndarray]] = {
    "png-rgb": (lambda: encode(Image.fromarray(RGB), "PNG"), RGB),
    "png-rgba": (lambda: encode(Image.fromarray(RGBA), "PNG"), view_oracles.over_white(RGBA)),
    "png-grey": (lambda: encode(Image.fromarray(GREY), "PNG"), _grey(GREY)),
    "png-grey-alpha": (
        lambda: encode(Image.merge("LA", [Image.fromarray(GREY), Image.fromarray(ALPHA)]), "PNG"),
        _over_white(_grey(GREY), ALPHA),
    ),
    "png-grey-transparent-level": (
        lambda: encode(Image.fromarray(GREY), "PNG", transparency=int(GREY[3, 3])),
        np.where(_grey(GREY) == GREY[3, 3], 255, _grey(GREY)),
    ),
    "png-rgb-transparent-color": (
        lambda: encode(Image.fromarray(RGB), "PNG", transparency=tuple(int(v) for v in RGB[3, 3])),
        np.where((RGB[3, 3] == RGB).all(axis=2, keepdims=True), 255, RGB),
    ),
    "png-1-bit": (lambda: encode(_bits(), "PNG"), _grey((GREY > 100) * 255)),
    "png-16-bit-grey": (lambda: encode(Image.fromarray(GREY16), "PNG"), _grey(GREY)),
    "png-palette": (lambda: _palette(None), PALETTE),
    "png-palette-transparent-index": (
        lambda: _palette(2),
        np.where((GREY // 64 == 2)[..., None], 255, PALETTE),
    ),
    "png-palette-alpha": (
        lambda: _palette(bytes([255, 100, 0, 7])),
        _over_white(PALETTE, np.array([255, 100, 0, 7])[GREY // 64]),
    ),
    "gif-first-frame": (_gif, PALETTE),
    "webp-lossless": (lambda: encode(Image.fromarray(RGB), "WEBP", lossless=True), RGB),
    "webp-alpha": (
        lambda: encode(Image.fromarray(RGBA), "WEBP", lossless=True, exact=True),
        view_oracles.over_white(RGBA),
    ),
    "bmp": (lambda: encode(Image.fromarray(RGB), "BMP"), RGB),
    "ppm": (lambda: encode(Image.fromarray(RGB), "PPM"), RGB),
    "pgm-16-bit": (lambda: encode(Image.fromarray(GREY16.astype(np.int32)), "PPM"), _grey(GREY)),
    "tiff-cmyk": (lambda: encode(Image.frombytes("CMYK", (21, 14), CMYK.tobytes()), "TIFF"), _cmyk_as_rgb(CMYK)),
    "tiff-16-bit-grey": (lambda: encode(Image.fromarray(GREY16), "TIFF"), _grey(GREY)),
    "tiff-lzw": (lambda: encode(Image.fromarray(RGB), "TIFF", compression="tiff_lzw"), RGB),
}


@pytest.mark.parametrize(("make", "expected"), CONVERTED.values(), ids=CONVERTED)
def test_kinds_are_converted_by_the_rule(make: Callable[[], bytes], expected: np.ndarray) -> None:
    np.testing.assert_array_equal(decoded(make()), expected)


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_jpeg_modes_decode_as_pillow_does(mode: str) -> None:
    data = encode(smooth(40, 30).convert(mode), "JPEG")
    np.testing.assert_array_equal(decoded(data), np.array(Image.open(io.BytesIO(data)).convert("RGB")))


def test_16_bit_transparency_becomes_white() -> None:
    expected = np.where((GREY16[2, 2] == GREY16)[..., None], 255, _grey(GREY))
    np.testing.assert_array_equal(
        decoded(encode(Image.fromarray(GREY16), "PNG", transparency=int(GREY16[2, 2]))), expected
    )


def test_alpha_is_composited_exactly_for_every_level() -> None:
    color, alpha = np.mgrid[:256, :256].astype(np.uint8)
    rgba = np.dstack([color, 255 - color, color, alpha])
    np.testing.assert_array_equal(decoded(encode(Image.fromarray(rgba), "PNG")), view_oracles.over_white(rgba))


def _lab() -> bytes:
    return encode(Image.frombytes("LAB", (21, 14), RGB.tobytes()), "TIFF")


REFUSED: dict[str, tuple[Callable[[], bytes], str]] = {
    "empty": (lambda: b"", "the file is empty"),
    "text": (lambda: b"<html>404 not found</html>", "unknown format"),
    "truncated-jpeg": (lambda: jpeg(80, 60)[:700], "broken JPEG: image file is truncated"),
    "truncated-png": (lambda: png(80, 60)[:700], "broken PNG: image file is truncated"),
    "truncated-gif": (lambda: encode(smooth(80, 60).convert("P"), "GIF")[:1500], "broken GIF"),
    "truncated-webp": (lambda: encode(smooth(80, 60), "WEBP", lossless=True)[:700], "broken WebP"),
    "truncated-tiff": (lambda: encode(smooth(80, 60), "TIFF")[:700], "broken TIFF"),
    "truncated-bmp": (lambda: encode(smooth(80, 60), "BMP")[:700], "broken BMP"),
    "header-only-jpeg": (lambda: b"\xff\xd8\xff\xe0", "broken JPEG"),
    "header-only-png": (lambda: png(8, 8)[:20], "broken PNG"),
    "float-tiff": (lambda: encode(Image.fromarray(RGB[..., 0].astype(np.float32)), "TIFF"), "float samples"),
    "lab-tiff": (_lab, "colour mode LAB"),
    "169-megapixel-png": (lambda: png_header(13000, 13000), "13000x13000 px is over the limit of 89 megapixels"),
    "gigapixel-png": (lambda: png_header(60000, 60000), "60000x60000 px is over the limit"),
}


@pytest.mark.parametrize(("make", "reason"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_decoded_is_refused_with_its_reason(make: Callable[[], bytes], reason: str) -> None:
    with pytest.raises(UndecodableImageError) as caught:
        decode_image(make(), POLICY)
    assert str(caught.value).startswith(reason)
    assert " at 0x" not in str(caught.value)  # a store lists it: no addresses
    assert "\n" not in str(caught.value)


@given(cut=st.integers(0, 2000), flips=st.lists(st.tuples(st.integers(0, 3000), st.integers(0, 255)), max_size=4))
@settings(max_examples=150, deadline=None)
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP"])
def test_damaged_files_give_pixels_or_a_reason(kind: str, cut: int, flips: list[tuple[int, int]]) -> None:
    data = bytearray(encode(smooth(24, 20), kind))
    for position, value in flips:
        data[position % len(data)] = value
    data = data[: max(1, len(data) - cut)] if cut < 500 else data
    with contextlib.suppress(UndecodableImageError):  # any other error fails
        assert decode_image(bytes(data), SMALL).mode == "RGB"


TURNED = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
    8: lambda a: np.rot90(a, 1),
}


class TestOrientation:
    @pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
    @pytest.mark.parametrize("orientation", sorted(TURNED))
    def test_exif_is_applied(self, kind: str, orientation: int) -> None:
        exif = Image.Exif()
        exif[0x0112] = orientation
        options = {"lossless": True} if kind == "WEBP" else {}
        data = encode(smooth(40, 30), kind, exif=exif, **options)
        upright = decoded(encode(smooth(40, 30), kind, **options))
        np.testing.assert_array_equal(decoded(data), TURNED[orientation](upright))

    @pytest.mark.parametrize("orientation", [6, 7])
    def test_after_the_reduction(self, orientation: int) -> None:
        exif = Image.Exif()
        exif[0x0112] = orientation
        data = encode(Image.fromarray(pattern(135, 70)), "PNG", exif=exif)
        expected = TURNED[orientation](view_oracles.block_means(pattern(135, 70), 2))
        np.testing.assert_array_equal(decoded(data, SMALL), expected)

    @pytest.mark.parametrize("exif", [b"Exif\0\0garbage", b"Exif\0\0MM\0*\0\0\0\x08\xff\xff", b""], ids=repr)
    def test_broken_metadata_is_upright(self, exif: bytes) -> None:
        np.testing.assert_array_equal(decoded(jpeg(40, 30, exif=exif)), decoded(jpeg(40, 30)))


class TestReduction:
    @pytest.mark.parametrize(
        ("size", "factor"),
        [((500, 375), 8), ((64, 64), 2), ((63, 999), 1), ((127, 127), 2), ((128, 200), 4), ((1023, 1023), 16)],
    )  # fmt: skip
    def test_factor_leaves_four_views_in_the_shorter_side(self, size: tuple[int, int], factor: int) -> None:
        assert reduction_factor(*size, 8) == factor

    @pytest.mark.parametrize("size", [(70, 64), (141, 129), (300, 257), (520, 530), (1100, 1029)], ids=str)
    def test_block_means_equal_the_oracle(self, size: tuple[int, int]) -> None:
        pixels = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
        factor = reduction_factor(*size, 8)
        assert factor > 1
        expected = view_oracles.block_means(pixels, factor)
        np.testing.assert_array_equal(decoded(encode(Image.fromarray(pixels), "BMP"), SMALL), expected)

    def test_white_blocks_stay_white(self) -> None:
        assert (decoded(encode(Image.new("RGB", (2100, 2080), "white"), "BMP"), SMALL) == 255).all()

    @pytest.mark.parametrize("size", [(64, 70), (129, 141), (257, 300), (511, 640), (700, 523)], ids=str)
    def test_jpegs_are_decoded_at_exactly_the_scale(self, size: tuple[int, int]) -> None:
        scale = min(8, reduction_factor(*size, 8))
        rest = reduction_factor(*size, 8) // scale
        image = decode_image(jpeg(*size), SMALL)
        assert image.size == (-(-size[0] // scale) // rest, -(-size[1] // scale) // rest)
        reference = Image.open(io.BytesIO(jpeg(*size)))
        reference.draft("RGB", (size[0] // scale, size[1] // scale))
        np.testing.assert_array_equal(np.array(image), view_oracles.block_means(np.array(reference), rest))

    @given(width=st.integers(8, 200), height=st.integers(8, 200), scale=st.sampled_from([1, 2, 4, 8]))
    @settings(max_examples=40, deadline=None)
    def test_draft_takes_the_scale_that_is_asked(self, width: int, height: int, scale: int) -> None:
        image = Image.open(io.BytesIO(encode(Image.new("RGB", (width, height)), "JPEG")))
        image.draft(None, (width // scale, height // scale))
        assert image.size == (-(-width // scale), -(-height // scale))

    def test_bands_give_the_same_pixels(self, monkeypatch: pytest.MonkeyPatch) -> None:
        grey16 = encode(Image.fromarray(GREY16).resize((150, 140), Image.Resampling.NEAREST), "PNG")
        files = [grey16, encode(Image.fromarray(np.dstack([pattern(150, 141), pattern(150, 141)[..., 0]])), "PNG")]
        files += [jpeg(150, 140), encode(smooth(150, 140).convert("P"), "GIF")]
        whole = [decoded(data, SMALL) for data in files]
        monkeypatch.setattr(decode, "BAND_PIXELS", 1000)
        for data, expected in zip(files, whole, strict=True):
            np.testing.assert_array_equal(decoded(data, SMALL), expected)


class TestPixelLimit:
    LIMITED = resolve_policy(name="limited", size_px=8, max_pixels=2000)

    def test_scaled_jpegs_much_over_the_limit_are_decoded(self) -> None:
        assert decode_image(jpeg(300, 260), self.LIMITED).size == (38, 33)

    def test_progressive_jpegs_are_not_scaled(self) -> None:
        with pytest.raises(UndecodableImageError, match="300x260 px is over the limit of 2000 px"):
            decode_image(jpeg(300, 260, progressive=True), self.LIMITED)
        full = decode_image(jpeg(140, 130, progressive=True), SMALL)
        expected = view_oracles.block_means(np.array(Image.open(io.BytesIO(jpeg(140, 130, progressive=True)))), 4)
        np.testing.assert_array_equal(np.array(full), expected)

    def test_other_formats_are_refused_from_their_header(self) -> None:
        with pytest.raises(UndecodableImageError, match="50x50 px is over the limit of 2000 px"):
            decode_image(png_header(50, 50), self.LIMITED)

    def test_pillows_own_limit_neither_matters_nor_changes(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
        assert decoded(png(21, 14)).shape == (14, 21, 3)
        assert Image.MAX_IMAGE_PIXELS == 10


@pytest.fixture
def lenient_pillow() -> Iterator[None]:
    ImageFile.LOAD_TRUNCATED_IMAGES = True
    yield
    ImageFile.LOAD_TRUNCATED_IMAGES = False


@pytest.mark.usefixtures("lenient_pillow")
def test_a_lenient_pillow_is_refused() -> None:
    with pytest.raises(UsageError, match="LOAD_TRUNCATED_IMAGES"):
        decode_image(png(4, 4), POLICY)


def test_warnings_stay_inside_and_filters_as_they_were() -> None:
    bad_tag = bytearray(encode(Image.fromarray(RGB), "TIFF"))
    before = list(warnings.filters)
    threads = [threading.Thread(target=decode_image, args=(data, POLICY)) for data in [bytes(bad_tag), png(9, 9)] * 8]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert list(warnings.filters) == before
