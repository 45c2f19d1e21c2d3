"""Any codec of logits with the largest class kept: where its error would name another one, the teacher's is stored.

V = views, R = rows of a unit, C = classes.

At a mean KL of 1e-3 up to a few rows in a hundred have two classes so near each other that an error changes which is
the largest. A number a row, nearly always 0, puts that right for a fraction of a byte, whatever the codec.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reinforce.store.codecs.base import Arrays, ArraySpec, CodecFamily, TargetCodec, Wrapping, view_arrays
from reinforce.store.codecs.klt_maps import KltMapsCodec

TOP1 = "top1"
"""Name of the array, and of the parameter that says that there is one."""
FORMULA = "then, where top1 > 0: targets[top1 - 1] = m + max(1, |m|) / 4096, m the row's largest"
_LEAD = np.float32(1 / 4096)
"""Far more than readers' float32 arithmetic differs by, so that all of them find the same class."""


@dataclass(frozen=True, eq=False)
class KeptTop1(Wrapping):
    """`codec`, and in `top1` the teacher's class (+ 1) of rows where it does not lead clearly when decoded; else 0."""

    codec: TargetCodec

    def __post_init__(self) -> None:
        if getattr(self.codec, "absolute", False) or isinstance(self.codec, KltMapsCodec):
            raise ValueError("a largest class is kept of rows of logits alone")

    @property
    def formula(self) -> str:
        return f"{self.codec.formula}; {FORMULA}"

    def parameters(self) -> dict[str, Any]:
        return {**self.codec.parameters(), TOP1: True}

    def arrays(self, num_channels: int) -> dict[str, ArraySpec]:
        return {**self.codec.arrays(num_channels), TOP1: ArraySpec(dtype=_dtype(num_channels))}

    def encode(
        self, targets_VRC: NDArray[np.float32], /, *, level: int = 0, spilled_VR: NDArray[np.bool_] | None = None,
        shared: Arrays | None = None,
    ) -> dict[str, NDArray[Any]]:  # fmt: skip
        encoded = self.codec.encode(targets_VRC, level=level, spilled_VR=spilled_VR, shared=shared)
        num_channels = targets_VRC.shape[-1]
        top1 = np.zeros(targets_VRC.shape[:2], _dtype(num_channels))
        for view, targets_RC in enumerate(targets_VRC):
            decoded_RC = self.codec.decode(view_arrays(self.codec, encoded, view, num_channels))
            wanted_R = targets_RC.argmax(axis=1)
            lost = ~_leads(decoded_RC, wanted_R)
            top1[view, lost] = wanted_R[lost] + 1
        return {**encoded, TOP1: top1}

    def decode(self, arrays: Arrays) -> NDArray[np.float32]:
        logits_RC = self.codec.decode(arrays)
        rows = np.flatnonzero(arrays[TOP1])
        classes = arrays[TOP1][rows].astype(np.int64) - 1
        if len(rows) and int(classes.max()) >= logits_RC.shape[1]:
            raise ValueError("top1 names a class beyond the last")
        largest = logits_RC[rows].max(axis=1)
        logits_RC[rows, classes] = largest + _lead(largest)
        return logits_RC


@dataclass(frozen=True)
class KeptTop1Family:
    """A family whose codecs keep the largest class."""

    family: CodecFamily

    @property
    def knobs(self) -> Any:
        return self.family.knobs

    def codec(self, knob: Any) -> TargetCodec:
        return KeptTop1(self.family.codec(knob))


def without_top1(parameters: Mapping[str, Any]) -> tuple[dict[str, Any], bool]:
    """The inner codec's parameters, and whether the largest class is kept. Raises ValueError."""
    if parameters.get(TOP1, True) is not True:
        raise ValueError(f"'{TOP1}' is there only where it is true")
    return {name: value for name, value in parameters.items() if name != TOP1}, TOP1 in parameters


def _leads(decoded_RC: NDArray[np.float32], wanted_R: NDArray[np.int64]) -> NDArray[np.bool_]:
    """(R,) whether the wanted class is above all others by what `decode` would give it, or more."""
    others_RC, rows = decoded_RC.copy(), np.arange(len(decoded_RC))
    others_RC[rows, wanted_R] = -np.inf
    second = others_RC.max(axis=1)
    return np.asarray(decoded_RC[rows, wanted_R] >= second + _lead(np.where(np.isfinite(second), second, 0)))


def _lead(largest_R: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.maximum(np.float32(1), np.abs(largest_R)) * _LEAD


def _dtype(num_classes: int) -> str:
    return next(dtype for dtype in ("uint8", "uint16", "uint32") if num_classes <= np.iinfo(dtype).max)
