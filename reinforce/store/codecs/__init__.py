"""Target codecs by name."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reinforce.errors import CorruptStoreError, StoreError, UnknownNameError
from reinforce.store.canonical import one_line
from reinforce.store.codecs.base import Arrays, ArraySpec, CodecKind, TargetCodec, decode_finite, view_arrays
from reinforce.store.codecs.fp16 import Fp16Codec
from reinforce.store.codecs.int8 import Int8Codec
from reinforce.store.codecs.kept_top1 import KeptTop1, without_top1
from reinforce.store.codecs.klt import KltCodec
from reinforce.store.codecs.klt_maps import KltMapsCodec
from reinforce.store.codecs.sqrt_p import SqrtPCodec
from reinforce.store.codecs.top_k import TopKCodec

__all__ = [
    "CODECS",
    "ArraySpec",
    "CodecKind",
    "TargetCodec",
    "check_calibration",
    "codec_record",
    "decode_finite",
    "load_codec",
    "named_codec",
    "view_arrays",
]

_KINDS: tuple[type[CodecKind], ...] = (KltCodec, KltMapsCodec, SqrtPCodec, TopKCodec, Int8Codec, Fp16Codec)
CODECS: dict[str, type[CodecKind]] = {kind.name: kind for kind in _KINDS}


def named_codec(name: str) -> type[CodecKind]:
    """Raises UnknownNameError with the nearest name."""
    if name not in CODECS:
        raise UnknownNameError("codec", name, CODECS)
    return CODECS[name]


def codec_record(codec: TargetCodec, zstd_level: int = 3) -> dict[str, Any]:
    """What a plan says of its codec: enough to make it again, its calibration arrays bound by their hashes."""
    arrays = {}
    for name, values in codec.calibration().items():
        arrays[name] = {"dtype": values.dtype.name, "shape": list(values.shape), "sha256": array_sha256(values)}
    return {"name": codec.name, "parameters": codec.parameters(), "arrays": arrays, "zstd_level": zstd_level}


def load_codec(name: str, parameters: Mapping[str, Any], calibration: Arrays, num_channels: int) -> TargetCodec:
    """The codec that a store's plan describes, for its number of classes.

    Raises StoreError for a codec of a newer version, CorruptStoreError for parameters that its kind never has.
    """
    with _blaming(name):
        own, keeps_top1 = without_top1(parameters)
        codec: TargetCodec = _kind(name).from_parameters(own, calibration)
        codec = KeptTop1(codec) if keeps_top1 else codec
        codec.arrays(num_channels)
    return codec


def check_calibration(
    name: str, parameters: Mapping[str, Any], shapes: Mapping[str, tuple[int, ...]], num_channels: int
) -> None:
    """Whether a plan's calibration arrays are those of its codec, before they are read. Raises as `load_codec`."""
    with _blaming(name):
        own, _ = without_top1(parameters)
        if dict(shapes) != _kind(name).calibration_shapes(own, num_channels):
            raise ValueError("the calibration arrays are not those of its parameters")


def _kind(name: str) -> type[CodecKind]:
    if name not in CODECS:
        raise StoreError(f"codec {one_line(repr(name))} is unknown to this version: upgrade reinforce-vision")
    return CODECS[name]


@contextlib.contextmanager
def _blaming(name: str) -> Iterator[None]:
    """Whatever parameters from outside make of a codec's checks is the store's fault."""
    try:
        yield
    except (ValueError, TypeError, KeyError, ArithmeticError) as error:
        raise CorruptStoreError(f"codec {name}: {one_line(error)}") from error


def array_sha256(values: NDArray[Any]) -> str:
    """SHA-256 of an array's values in C order, little endian."""
    return hashlib.sha256(np.ascontiguousarray(values, values.dtype.newbyteorder("<")).tobytes()).hexdigest()
