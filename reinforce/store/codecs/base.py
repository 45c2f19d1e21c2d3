"""The contract of target codecs: arrays with a documented formula, and nothing else, stand between teacher and student.

V = views, R = rows of a unit, C = channels: classes of logits, dimensions of features.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, Self

import numpy as np
from numpy.typing import NDArray

Arrays = Mapping[str, NDArray[Any]]
TEMPERATURES = (1e-3, 1e3)
"""Least and greatest temperature of a codec."""
MAX_CLASSES = 1 << 20
ABSOLUTE = "absolute"
"""Name of the parameter that says: a row's constant is kept, too."""
GROUP_VALUES = 6144
"""Values of a chunk of a grouped array: enough to pay for an entropy code's table, few enough to be alike."""
MAX_GROUPS = 1 << 15
"""Chunks of a unit: its index stays small."""


@dataclass(frozen=True, kw_only=True)
class ArraySpec:
    """One stored array of a codec: for every item, `shape` values of `dtype`.

    An item is a row of a view; a view of a unit (`per_row=False`), say a step of its own; a row, shared by its views
    (`per_view=False`), say a mean over them; or a unit. `items_last` puts an item's last axis first inside a chunk, and
    the rows behind it (class-major), which often packs better; `grouped` cuts the item's last axis into chunks of a few
    columns, each of which gets an entropy code of its own: for columns in an order of likeness.
    """

    dtype: str
    shape: tuple[int, ...] = ()
    per_view: bool = True
    per_row: bool = True
    items_last: bool = False
    grouped: bool = False

    def unit_shape(self, num_views: int, num_rows: int) -> tuple[int, ...]:
        """Shape of the array that `encode` gives for one unit: ([V,] [R,] *shape); a unit's sole item has axis 1."""
        leading = [num_views] if self.per_view else []
        return (*leading, num_rows if self.per_row else 1, *self.shape)

    def chunk_columns(self, num_views: int, num_rows: int) -> int:
        """Columns (of the last axis) in a chunk: all, or as many as make GROUP_VALUES with a unit's rows."""
        columns = self.shape[-1] if self.shape else 1
        if not self.grouped:
            return columns
        fewest = -(-columns * num_views // MAX_GROUPS)
        return min(columns, max(1, fewest, round(GROUP_VALUES / (num_rows * math.prod(self.shape[:-1])))))


class TargetCodec(Protocol):
    """How targets become arrays and back. Decoded logits may differ from the teacher's by a constant per row; of
    features, which `absolute` codecs keep, they do not.

    Deterministic: equal units give equal arrays. A codec is a function of its `parameters` (JSON, in the plan) and
    `calibration` arrays (in the store under `codec/`) alone.
    """

    @property
    def name(self) -> str: ...

    @property
    def formula(self) -> str:
        """One line: how to decode, in terms of the arrays' names."""

    @property
    def num_levels(self) -> int:
        """Levels of fineness of `encode`; at each the error of a row is about half of that at the one before."""

    @property
    def can_spill(self) -> bool:
        """Whether `encode` can keep single rows in half precision: then a unit can meet a promise whatever it holds."""

    def parameters(self) -> dict[str, Any]: ...

    def calibration(self) -> dict[str, NDArray[Any]]: ...

    def arrays(self, num_channels: int) -> dict[str, ArraySpec]: ...

    def encode(
        self, targets_VRC: NDArray[np.float32], /, *, level: int = 0, spilled_VR: NDArray[np.bool_] | None = None,
        shared: Arrays | None = None,
    ) -> dict[str, NDArray[Any]]:  # fmt: skip
        """A unit's arrays, shapes `ArraySpec.unit_shape`. Raises ValueError for NaN, infinity or too wide a range.

        `level` 0 is what the codec was made for, higher ones are finer, negative ones coarser; `spilled_VR` marks the
        rows to keep nearly exactly (codecs that cannot ignore it). Where other views of the unit are encoded already,
        `shared` has its arrays without a view axis: they come back as they are, whatever the `level`.
        """

    def decode(self, arrays: Arrays) -> NDArray[np.float32]:
        """(R, C) targets of one view, from its part of each array, the view axis taken off.

        Raises ValueError where the arrays hold what `encode` never gives (NaN, infinity).
        """


class CodecKind(TargetCodec, Protocol):
    """A codec that a store names and describes."""

    name: ClassVar[str]

    @classmethod
    def from_parameters(cls, parameters: Mapping[str, Any], calibration: Arrays) -> Self:
        """Inverse of `parameters` and `calibration`. Raises ValueError for what they never give."""

    @classmethod
    def calibration_shapes(cls, parameters: Mapping[str, Any], num_channels: int) -> dict[str, tuple[int, ...]]:
        """Which calibration arrays these parameters go with, known before one is read. Raises as `from_parameters`."""


class Uncalibrated:
    """For codecs that their parameters alone describe."""

    def calibration(self) -> dict[str, NDArray[Any]]:
        return {}

    @classmethod
    def calibration_shapes(cls, parameters: Mapping[str, Any], num_channels: int) -> dict[str, tuple[int, ...]]:
        return {}


class Wrapping:
    """Of a codec around another one: what it leaves as that has it."""

    codec: TargetCodec

    @property
    def name(self) -> str:
        return self.codec.name

    @property
    def num_levels(self) -> int:
        return self.codec.num_levels

    @property
    def can_spill(self) -> bool:
        return self.codec.can_spill

    def parameters(self) -> dict[str, Any]:
        return self.codec.parameters()

    def calibration(self) -> dict[str, NDArray[Any]]:
        return self.codec.calibration()


class CodecFamily(Protocol):
    """The codecs of one kind for one teacher, from exact to coarse."""

    @property
    def knobs(self) -> Sequence[Any]:
        """What `codec` takes, from the most exact to the coarsest."""

    def codec(self, knob: Any) -> TargetCodec: ...


def view_arrays(codec: TargetCodec, arrays: Arrays, view: int, num_channels: int) -> dict[str, NDArray[Any]]:
    """One view's part of a unit's arrays, as `decode` takes them."""
    specs = codec.arrays(num_channels)
    return {name: arrays[name][view] if spec.per_view else arrays[name] for name, spec in specs.items()}


def decode_finite(codec: TargetCodec, arrays: Arrays) -> NDArray[np.float32]:
    """`codec.decode`, refusing what a hostile store may make of it. Raises ValueError."""
    with np.errstate(all="ignore"):
        logits_RC = codec.decode(arrays)
    if not np.isfinite(logits_RC).all():
        raise ValueError("decoded targets are NaN or infinite")
    return logits_RC


def number(parameters: Mapping[str, Any], name: str, low: float, high: float) -> float:
    """A parameter from a plan that anybody may have written. Raises ValueError unless it is a number within limits."""
    value = parameters[name]
    if type(value) not in (int, float) or not low <= value <= high:
        raise ValueError(f"'{name}' is {value!r:.40}, not a number in {low:g}..{high:g}")
    return float(value)


def count(parameters: Mapping[str, Any], name: str, low: int, high: int) -> int:
    value = parameters[name]
    if type(value) is not int or not low <= value <= high:
        raise ValueError(f"'{name}' is {value!r:.40}, not an integer in {low}..{high}")
    return value


def absolute_json(absolute: bool) -> dict[str, Any]:
    """The parameter that codecs of features have; absent for logits."""
    return {ABSOLUTE: True} if absolute else {}


def parse_absolute(parameters: Mapping[str, Any]) -> bool:
    """Raises ValueError."""
    if parameters.get(ABSOLUTE, True) is not True:
        raise ValueError(f"'{ABSOLUTE}' is there only where it is true")
    return ABSOLUTE in parameters


def require_finite(targets: NDArray[np.float32]) -> None:
    if not np.isfinite(targets).all():
        raise ValueError("targets hold NaN or infinity")
