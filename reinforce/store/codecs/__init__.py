"""Target codecs by name, from the cheapest to the most exact."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reinforce.errors import CorruptStoreError, StoreError, UnknownNameError, UsageError
from reinforce.store.canonical import one_line
from reinforce.store.codecs.base import Arrays, ArraySpec, TargetCodec, view_arrays
from reinforce.store.codecs.fp16 import Fp16Codec
from reinforce.store.codecs.int8 import Int8Codec
from reinforce.store.fidelity import row_kl

__all__ = [
    "CODECS",
    "ArraySpec",
    "TargetCodec",
    "calibrate",
    "codec_record",
    "load_codec",
    "named_codec",
    "view_arrays",
]

CODECS: dict[str, type[TargetCodec]] = {"int8": Int8Codec, "fp16": Fp16Codec}
ZSTD_LEVEL = 3


def named_codec(name: str) -> type[TargetCodec]:
    """Raises UnknownNameError with the nearest name."""
    if name not in CODECS:
        raise UnknownNameError("codec", name, CODECS)
    return CODECS[name]


def calibrate(
    logits_RC: NDArray[np.float32], *, max_kl: float, temperature: float, name: str | None = None
) -> TargetCodec:
    """The first codec of `CODECS` (or the named one) that keeps mean KL <= `max_kl` at `temperature` on these rows.

    Raises UsageError, saying what can be had, where none does; UnknownNameError for a codec that there is not.
    """
    best = float("inf")
    for kind in CODECS.values() if name is None else [named_codec(name)]:
        codec = kind.calibrate(logits_RC, max_kl=max_kl, temperature=temperature)
        arrays = codec.encode(logits_RC[None])
        decoded_RC = codec.decode(view_arrays(codec, arrays, 0, logits_RC.shape[1]))
        mean_kl = float(row_kl(logits_RC, decoded_RC, temperature).mean())
        if mean_kl <= max_kl:
            return codec
        best = min(best, mean_kl)
    what = f"codec {name} does not keep" if name else "no codec keeps"
    hint = f"{best:.2g} is reached here, type --max-kl {best * 1.5:.1g}"
    raise UsageError(f"{what} a mean KL of {max_kl:g}: {hint}")


def codec_record(codec: TargetCodec, zstd_level: int = ZSTD_LEVEL) -> dict[str, Any]:
    """What a plan says of its codec: enough to make it again, its calibration arrays bound by their hashes."""
    arrays = {}
    for name, values in codec.calibration().items():
        arrays[name] = {"dtype": values.dtype.name, "shape": list(values.shape), "sha256": array_sha256(values)}
    return {"name": codec.name, "parameters": codec.parameters(), "arrays": arrays, "zstd_level": zstd_level}


def load_codec(name: str, parameters: Mapping[str, Any], calibration: Arrays) -> TargetCodec:
    """The codec that a store's plan describes.

    Raises StoreError for a codec of a newer version, CorruptStoreError for parameters that its kind never has.
    """
    if name not in CODECS:
        raise StoreError(f"codec {one_line(repr(name))} is unknown to this version: upgrade reinforce-vision")
    try:
        return CODECS[name].from_parameters(parameters, calibration)
    except (ValueError, TypeError, KeyError) as error:
        raise CorruptStoreError(f"codec {name}: {one_line(error)}") from error


def array_sha256(values: NDArray[Any]) -> str:
    """SHA-256 of an array's values in C order, little endian."""
    return hashlib.sha256(np.ascontiguousarray(values, values.dtype.newbyteorder("<")).tobytes()).hexdigest()
