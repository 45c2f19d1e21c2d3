"""Encoders as the source of embeddings: unit vectors of all of them, side by side in one row.

B = batch, S = view size, D = dimensions of all encoders together, E = encoders
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reinforce.counting import counted
from reinforce.errors import BuildError, UnknownNameError, UsageError
from reinforce.licences import single_licences
from reinforce.models import ModelInfo
from reinforce.store import EMBEDDINGS, GLOBAL_FEATURES, RowShape
from reinforce.teacher import Teacher


class Encoders:
    """See TargetSource. The mean of the encoders' cosines is the inner product of two rows over E (section B.2)."""

    target = EMBEDDINGS

    def __init__(self, teachers: Sequence[Teacher]) -> None:
        self.teachers = tuple(teachers)
        self.name = "+".join(teacher.name for teacher in teachers)
        self.batch_size, self.device = teachers[0].batch_size, teachers[0].device

    @property
    def dtype(self) -> str:
        return "+".join(dict.fromkeys(teacher.dtype for teacher in self.teachers))

    @property
    def info(self) -> ModelInfo:
        """The first encoder's, at the largest input of all."""
        size_px = max(teacher.info.image_size for teacher in self.teachers)
        return replace(self.teachers[0].info, image_size=size_px)

    @property
    def widths(self) -> tuple[int, ...]:
        """Dimensions of each encoder's part of a row."""
        return tuple(teacher.target_shape(1).num_channels for teacher in self.teachers)

    def target_shape(self, size_px: int) -> RowShape:
        return RowShape(sum(self.widths), EMBEDDINGS)

    def targets(self, views: NDArray[np.uint8]) -> NDArray[np.float32]:
        """(B, S, S, 3) uint8 -> (B, D), every encoder's part of unit length. Raises BuildError for a zero vector."""
        return np.concatenate([_normalised(teacher.targets(views), teacher.name) for teacher in self.teachers], axis=1)

    def describe(self) -> dict[str, Any]:
        """The whole as one teacher, and under "encoders" each with its dimensions and arithmetic."""
        records = [{**teacher.describe(), "dimensions": width, "dtype": teacher.dtype}
                   for teacher, width in zip(self.teachers, self.widths, strict=True)]  # fmt: skip
        hashes = [record["weights_sha256"] for record in records]
        joined = hashes[0] if len(hashes) == 1 else hashlib.sha256("\n".join(hashes).encode()).hexdigest()
        return {
            "name": self.name,
            "architecture": "+".join(record["architecture"] for record in records),
            "weights_sha256": joined,
            "license": ", ".join(single_licences(*(record["license"] for record in records))),
            "encoders": records,
        }


def open_encoders(names: Sequence[str], *, dtype: str, **settings: Any) -> Encoders:
    """By catalog names, architectures or model directories; `settings` as `Teacher`. Raises as it does."""
    return Encoders([Teacher(name, target=GLOBAL_FEATURES, dtype=dtype, **settings) for name in names])


def reopen_encoders(records: Sequence[Mapping[str, Any]], names: Sequence[str], *, option: str = "--encoder",
                    **settings: Any) -> Encoders:  # fmt: skip
    """The encoders that a store describes, with its input sizes and arithmetic; `names` are where they lie here, by
    default what the store calls them. `option`: of the command line, that gives them.

    Raises UsageError where their number or their weights are others, or where nothing has their names.
    """
    if names and len(names) != len(records):
        known = ", ".join(record["name"] for record in records)
        here = counted(len(records), "encoder")
        raise UsageError(f"the store has {here} ({known}): type {option} once for each, in order")
    teachers = []
    for record, name in zip(records, names or [record["name"] for record in records], strict=True):
        try:
            teacher = Teacher(name, target=GLOBAL_FEATURES, dtype=record["dtype"],
                              image_size=record["preprocess"]["image_size"], **settings)  # fmt: skip
        except UnknownNameError:
            if names:
                raise
            raise UsageError(f"the store's encoder '{name}' is not known here: type {option} DIRECTORY, once for each "
                             "in the store's order") from None  # fmt: skip
        if teacher.weights_sha256 != record["weights_sha256"]:
            raise UsageError(f"'{name}' has other weights than the store's encoder '{record['name']}': type {option} "
                             "DIRECTORY, once for each in the store's order")  # fmt: skip
        teachers.append(teacher)
    return Encoders(teachers)


def _normalised(features_BD: NDArray[np.float32], name: str) -> NDArray[np.float32]:
    """Rows of unit length; NaN stays, to be named with its sample."""
    lengths = np.linalg.norm(features_BD, axis=1, keepdims=True)
    if not lengths.all():
        raise BuildError(f"the encoder '{name}' gave a feature of zeros, which has no direction: type another one")
    return np.asarray(features_BD / lengths, np.float32)
