from __future__ import annotations

import hashlib
import io
import struct
import warnings
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from reinforce.data import (
    ImageSource,
    Listing,
    Shard,
    freeze,
    hash64,
    header_size,
    num_images,
    open_source,
)
from reinforce.errors import DataError, MissingDataError, UsageError

Tree = Callable[[Mapping[str, bytes]], str]
Encode = Callable[..., bytes]


class MemorySource:
    """Shards of (key, bytes), for sets that no one has to write."""

    name = "memory"

    def __init__(self, *shards: Sequence[tuple[str, bytes]]) -> None:
        self.data = shards
        self.shards = tuple(Shard(f"s{number}", tuple(key for key, _ in shard)) for number, shard in enumerate(shards))

    def read(self, shard: int, row: int) -> bytes:
        return self.data[shard][row][1]


def png_header(width: int, height: int) -> bytes:
    """A PNG that states a size and holds no pixels."""
    body = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    end = b"IEND"
    return (
        b"\x89PNG\r\n\x1a\n"
        + struct.pack(">I", 13) + body + struct.pack(">I", zlib.crc32(body))
        + struct.pack(">I", 0) + end + struct.pack(">I", zlib.crc32(end))
    )  # fmt: skip


class TestFreeze:
    @pytest.fixture
    def source(self) -> ImageSource:
        return MemorySource([("a", b"1"), ("b", b"22")], [("c", png_header(7, 4))], [("d", b"")])

    def test_columns(self, source: ImageSource) -> None:
        listing = freeze(source)
        assert (listing.shard_names, listing.shard_sizes, listing.shard_starts) == (
            ("s0", "s1", "s2"), (2, 1, 1), (0, 2, 3),
        )  # fmt: skip
        assert listing.keys == ("a", "b", "c", "d")
        assert len(listing) == 4
        assert listing.sha64.tolist() == [hash64(data) for data in (b"1", b"22", png_header(7, 4), b"")]
        assert listing.num_bytes.tolist() == [1, 2, len(png_header(7, 4)), 0]
        assert (listing.width.tolist(), listing.height.tolist()) == ([0, 0, 7, 0], [0, 0, 4, 0])
        dtypes = [listing.sha64.dtype, listing.num_bytes.dtype, listing.width.dtype, listing.height.dtype]
        assert dtypes == [np.uint64, np.int64, np.int32, np.int32]

    def test_digests_follow_the_documented_formula(self, source: ImageSource) -> None:
        listing = freeze(source)
        first = hashlib.sha256(
            b"a\x00" + hashlib.sha256(b"1").hexdigest()[:16].encode() + b"\n"
            b"b\x00" + hashlib.sha256(b"22").hexdigest()[:16].encode() + b"\n"
        ).hexdigest()
        assert listing.shard_digests[0] == first
        text = "reinforce listing 1\n" + "".join(f"{digest}\n" for digest in listing.shard_digests)
        assert listing.digest == hashlib.sha256(text.encode()).hexdigest()

    def test_golden_digest(self) -> None:
        listing = freeze(MemorySource([("ä/1.png", b"1"), ("b", b"2")], [("c", b"3")]))
        assert listing.digest == GOLDEN_DIGEST

    @pytest.mark.parametrize(
        ("limit", "sizes", "keys"),
        [(1, (1,), "a"), (2, (2,), "ab"), (3, (2, 1), "abc"), (4, (2, 1, 1), "abcd"), (99, (2, 1, 1), "abcd")],
    )
    def test_limit_takes_the_first(self, source: ImageSource, limit: int, sizes: tuple[int, ...], keys: str) -> None:
        listing = freeze(source, limit=limit)
        assert (listing.shard_sizes, listing.keys) == (sizes, tuple(keys))
        assert len(listing.shard_digests) == len(listing.shard_names) == len(sizes)

    def test_limit_below_one(self, source: ImageSource) -> None:
        with pytest.raises(UsageError, match="--limit 0 leaves no samples"):
            freeze(source, limit=0)

    @pytest.mark.parametrize("count", [1, 127, 128, 129, 300])
    def test_progress_adds_up(self, count: int) -> None:
        done: list[int] = []
        freeze(MemorySource([(str(row), b"") for row in range(count)]), progress=done.append)
        assert sum(done) == count
        assert all(done)

    def test_a_moved_or_renamed_set_keeps_its_digest(self, tree: Tree, image: Encode, tmp_path: Path) -> None:
        location = tree({"a.png": image(1), "b/c.png": image(2)})
        digest = freeze(open_source(location)).digest
        Path(location).rename(tmp_path / "other")
        assert freeze(open_source(str(tmp_path / "other"))).digest == digest

    def test_an_image_that_goes_between_opening_and_freezing(self, tree: Tree, image: Encode) -> None:
        location = tree({"a.png": image(1), "b.png": image(2)})
        source = open_source(location)
        Path(location, "b.png").unlink()
        with pytest.raises(MissingDataError, match=r"b\.png is not there"):
            freeze(source)

    def test_tars_freeze_to_the_columns_of_their_files(self, tree: Tree, image: Encode, tar: Encode) -> None:
        files = {f"{row}.png": image(row) for row in range(5)}
        loose = freeze(open_source(tree(files)))
        packed = freeze(open_source(tree({"x/0.tar": tar(files)}) + "/x/0.tar"))
        for column in ("sha64", "num_bytes", "width", "height"):
            assert getattr(packed, column).tolist() == getattr(loose, column).tolist()


GOLDEN_DIGEST = "391e7a4f5a36db0c1485775aba3b908446075c6344da31c25394a08144422960"

ROWS = st.lists(
    st.tuples(st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1), st.binary(max_size=4)),
    unique_by=lambda row: row[0],
    max_size=8,
)


@given(rows=ROWS, cut=st.integers(0, 8))
def test_a_listing_can_be_kept_as_plain_columns(rows: list[tuple[str, bytes]], cut: int) -> None:
    listing = freeze(MemorySource(*(part for part in (rows[:cut], rows[cut:]) if part)))
    copy = Listing.from_columns(
        shard_names=listing.shard_names,
        shard_sizes=listing.shard_sizes,
        keys=list(listing.keys),
        sha64=listing.sha64.copy(),
        num_bytes=listing.num_bytes.tolist(),
        width=listing.width.tolist(),
        height=listing.height.tolist(),
    )
    assert (copy.digest, copy.shard_digests, copy.keys) == (listing.digest, listing.shard_digests, listing.keys)


def test_columns_of_different_lengths() -> None:
    with pytest.raises(DataError, match="different lengths"):
        Listing.from_columns(
            shard_names=["a"], shard_sizes=[2], keys=["x"], sha64=[1], num_bytes=[1], width=[1], height=[1]
        )


class TestHeaderSize:
    @pytest.mark.parametrize("format_name", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM"])
    def test_every_format(self, image: Encode, format_name: str) -> None:
        assert header_size(image(9, (13, 7), format_name)) == (13, 7)

    @pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"])
    def test_every_png_mode(self, image: Encode, mode: str) -> None:
        assert header_size(image(0, (13, 7), "PNG", mode)) == (13, 7)

    @pytest.mark.parametrize("mode", ["CMYK", "L"])
    def test_other_jpeg_modes(self, image: Encode, mode: str) -> None:
        assert header_size(image(0, (13, 7), "JPEG", mode)) == (13, 7)

    def test_exif_rotation_is_not_applied(self) -> None:
        buffer = io.BytesIO()
        exif = Image.Exif()
        exif[0x0112] = 6
        Image.new("RGB", (13, 7)).save(buffer, "JPEG", exif=exif)
        assert header_size(buffer.getvalue()) == (13, 7)

    @pytest.mark.parametrize("side", [10_000, 13_000, 60_000])
    def test_sizes_that_pillow_warns_of_or_refuses(self, side: int) -> None:
        assert side * side > (Image.MAX_IMAGE_PIXELS or 0)
        assert header_size(png_header(side, side)) == (side, side)

    def test_pixels_may_be_cut_off(self, image: Encode) -> None:
        data = image(3, (64, 64), "JPEG", "RGB")
        assert header_size(data[:-20]) == (64, 64)

    @pytest.mark.parametrize(
        "data",
        [
            pytest.param(b"", id="empty"),
            pytest.param(b"\x89PNG\r\n\x1a\n", id="signature only"),
            pytest.param(b"<svg/>", id="another format"),
            pytest.param(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", id="a format that runs programs"),
            pytest.param(png_header(0, 7), id="no width"),
            pytest.param(b"P5 99999999999999999999 1 255\n", id="a width beyond all bounds"),
            pytest.param(b"II*\0\xff\xff\xff\xff", id="TIFF that points nowhere"),
        ],
    )
    def test_no_image(self, data: bytes) -> None:
        assert header_size(data) == (0, 0)

    @given(data=st.data())
    def test_damage_neither_raises_nor_warns(self, image: Encode, data: st.DataObject) -> None:
        format_name = data.draw(st.sampled_from(["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM"]))
        hurt = bytearray(image(3, (9, 5), format_name))
        for _ in range(data.draw(st.integers(1, 4))):
            hurt[data.draw(st.integers(0, len(hurt) - 1))] = data.draw(st.integers(0, 255))
        hurt = hurt[: data.draw(st.integers(0, len(hurt)))]
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            width, height = header_size(bytes(hurt))
        assert (width == 0) == (height == 0)


BEFORE = MemorySource([("a", b"1"), ("b", b"2")], [("c", b"3"), ("d", b"4"), ("e", b"5")])


@pytest.mark.parametrize(
    "after",
    [
        MemorySource([("a", b"1"), ("b", b"X")], [("c", b"3"), ("d", b"4"), ("e", b"5")]),
        MemorySource([("a", b"1"), ("b", b"2")], [("c", b"3"), ("d", b"4"), ("e", b"5"), ("f", b"6")]),
        MemorySource([("a", b"1"), ("b", b"2")], [("c", b"3"), ("d", b"4")]),
        MemorySource([("b", b"2"), ("a", b"1")], [("c", b"3"), ("d", b"4"), ("e", b"5")]),
        MemorySource([("a", b"1"), ("b", b"2"), ("c", b"3")], [("d", b"4"), ("e", b"5")]),
    ],
    ids=["replaced", "added", "removed", "reordered", "cut into other shards"],
)
def test_any_change_gives_another_digest(after: MemorySource) -> None:
    assert freeze(after).digest != freeze(BEFORE).digest


def test_num_images() -> None:
    assert num_images(BEFORE) == 5
