"""Karhunen-Loeve transform with one step: for teachers that spread their probability over many classes.

V = views, R = rows of a unit, C = classes, K = coefficients.

Logits less their mean are expanded in the eigenvectors of their covariance, where a class weighs its mean probability
to the power of 3/4 (an error in a likely class costs more KL); the coefficients are divided by one step and rounded.
Their decoder is one small matrix product.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from reinforce.store.codecs.base import Arrays, ArraySpec, absolute_json, parse_absolute, require_finite
from reinforce.store.codecs.channel_axes import ChannelAxes, centred, least_squares
from reinforce.store.codecs.packing import Digits, Packing
from reinforce.store.codecs.product import int8_product
from reinforce.store.codecs.rounding import QUICK_SWEEPS, DigitRates, Rounding
from reinforce.store.codecs.spill import FORMULA, encode_spill, put_spilled, spill_specs

DEAD_ZONE = 0.4
"""A coefficient of size x is rounded to floor(x + 0.4): small ones are zero a little oftener, which packs better."""
WEIGHT_POWER = 0.75
"""Of a class's mean probability."""
KEPT_STD, KEPT_STD_ROUNDED = 0.2, 0.36
"""Coefficients that vary less, in steps, are left out: they would round to zero nearly always, and a zero is not free.
Rate-distortion rounding makes up for some of them with the others, so that it can do with fewer."""
CUT_TOLERANCE = 0.01
"""Mean square, in steps, that the limits of a digit may cut off."""
MAX_CHANNELS = 4096
"""Above, the covariance is too large to be worth it."""
PRICE = 4.5e-5
"""Nats of KL a bit may save, at a step of 1; it grows with the square of the step, as KL does."""
ROWS_FOR_RATES = 768
"""Rounding takes milliseconds a row: rates are measured on so many."""
SMALL_BASIS = 1 << 16
"""Up to so many entries a basis is kept in 16 bits, else in 8: in a larger one that would cost more than it gives."""
QUICK_BASIS = 160_000
"""Quick rounding is for bases of up to so many entries: 0.4 ms a row or less, of one core; ..."""
QUICK_FLOPS_PER_ENTRY = 70
"""... and of fewer where it may take fewer operations a row."""


@dataclass(frozen=True, eq=False)
class KltCodec:
    """See the module. `level` n of `encode` divides the step by 2^(n/2): digits have room for n = 1."""

    digits: Packing
    image_digits: Packing | None
    """Of the mean over an image's views, where that is coded once and its views as residuals."""
    mean: NDArray[np.float32]
    """(C,)"""
    basis: NDArray[np.int8] | NDArray[np.int16]
    """(K, C), each row divided by its scale"""
    scales: NDArray[np.float32]
    """(K,)"""
    weights: NDArray[np.float32]
    """(C,), of the classes; for encoding only"""
    rounding: Rounding | None = None
    """How digits are improved after rounding; for encoding only"""
    absolute: bool = False
    """Of features: a row's constant is kept, too"""

    name: ClassVar[str] = "klt"
    formula: ClassVar[str] = (
        "targets = mean + float32(steps) * (digits(codes) [+ digits(image_codes)]) @ (basis * scales[:, None]), "
        "digits by parameters.digits (and image_digits): see docs/store-format.md; " + FORMULA
    )
    num_levels: ClassVar[int] = 2
    can_spill: ClassVar[bool] = True

    def parameters(self) -> dict[str, Any]:
        image = None if self.image_digits is None else list(self.image_digits.counts)
        rounding = None if self.rounding is None else self.rounding.parameters()
        return {"digits": list(self.digits.counts), "image_digits": image, "rounding": rounding,
                **absolute_json(self.absolute)}  # fmt: skip

    def calibration(self) -> dict[str, NDArray[Any]]:
        rates = {} if self.rounding is None else self.rounding.rates.arrays()
        return {"mean": self.mean, "basis": self.basis, "scales": self.scales, "weights": self.weights, **rates}

    @classmethod
    def from_parameters(cls, parameters: Mapping[str, Any], calibration: Arrays) -> KltCodec:
        image = parameters["image_digits"]
        codec = cls(
            digits=Packing.parse(parameters["digits"]),
            image_digits=None if image is None else Packing.parse(image),
            mean=checked(calibration["mean"], np.float32, 1),
            basis=checked(calibration["basis"], calibration["basis"].dtype.type, 2),
            scales=checked(calibration["scales"], np.float32, 1),
            weights=checked(calibration["weights"], np.float32, 1),
            rounding=Rounding.from_parameters(parameters["rounding"], calibration),
            absolute=parse_absolute(parameters),
        )
        num_digits = {codec.digits.num_digits, (codec.image_digits or codec.digits).num_digits, len(codec.scales)}
        shape = (len(codec.scales), len(codec.mean))
        is_basis = codec.basis.shape == shape and codec.basis.dtype in (np.int8, np.int16)
        if len(num_digits) != 1 or shape[0] > shape[1] or not is_basis or codec.weights.shape != codec.mean.shape:
            raise ValueError("the calibration's shapes do not fit each other")
        return codec

    @classmethod
    def calibration_shapes(cls, parameters: Mapping[str, Any], num_channels: int) -> dict[str, tuple[int, ...]]:
        count = Packing.parse(parameters["digits"]).num_digits
        if count > num_channels:
            raise ValueError(f"{count} digits are more than {num_channels} channels")
        shapes = {
            "mean": (num_channels,),
            "basis": (count, num_channels),
            "scales": (count,),
            "weights": (num_channels,),
        }
        rates = {} if parameters["rounding"] is None else {"rate_zero": (count,), "rate_decay": (count,)}
        return shapes | rates

    def arrays(self, num_channels: int) -> dict[str, ArraySpec]:
        if num_channels != len(self.mean):
            raise ValueError(f"made for {len(self.mean)} classes, not {num_channels}")
        specs = {"codes": ArraySpec(dtype="uint8", shape=(self.digits.num_bytes,), items_last=True, grouped=True)}
        if self.image_digits is not None:
            shape = (self.image_digits.num_bytes,)
            specs["image_codes"] = ArraySpec(dtype="uint8", shape=shape, per_view=False, items_last=True, grouped=True)
        return {
            **specs,
            "steps": ArraySpec(dtype="float32", per_view=False, per_row=False),
            **spill_specs(num_channels),
        }

    def encode(
        self, targets_VRC: NDArray[np.float32], *, level: int = 0, spilled_VR: NDArray[np.bool_] | None = None,
        shared: Arrays | None = None,
    ) -> dict[str, NDArray[Any]]:  # fmt: skip
        require_finite(targets_VRC)
        step = np.float32(2.0 ** (-level / 2)) if shared is None else shared["steps"][0]
        coefficients_VRK = self.coefficients(targets_VRC) / float(step)
        image_codes = self._image_codes(coefficients_VRK, shared)
        image_RK = np.zeros(coefficients_VRK.shape[1:])
        if self.image_digits is not None:
            image_RK = self.image_digits.unpack(image_codes["image_codes"]).whole().astype(np.float64, order="C")
        digits_VRK = self.digits.cut(dead_zone_round(coefficients_VRK - image_RK))
        if self.rounding is not None:
            digits_VRK = self._improved(self.rounding, targets_VRC, digits_VRK, image_RK, step)
        return {
            "codes": self.digits.pack(digits_VRK),
            **image_codes,
            "steps": np.full((1,), step, np.float32),
            **encode_spill(targets_VRC, spilled_VR, absolute=self.absolute),
        }

    def _image_codes(self, coefficients_VRK: NDArray[np.float64], shared: Arrays | None) -> dict[str, NDArray[Any]]:
        if self.image_digits is None:
            return {}
        if shared is not None:
            return {"image_codes": shared["image_codes"]}
        return {"image_codes": self.image_digits.pack(self.image_digits.cut(np.rint(coefficients_VRK.mean(axis=0))))}

    def _improved(self, rounding: Rounding, targets_VRC: NDArray[np.float32], digits_VRK: NDArray[np.float64],
                  image_RK: NDArray[np.float64], step: np.float32) -> NDArray[np.float64]:  # fmt: skip
        improve = rounding.improver(self.decoder, self.digits, float(step))
        image_RC = self.mean + image_RK.astype(np.float32) * step @ self.decoder
        views = zip(targets_VRC, digits_VRK, strict=True)
        return np.stack([improve(targets_RC, digits_RK, image_RC) for targets_RC, digits_RK in views])

    def decode(self, arrays: Arrays) -> NDArray[np.float32]:
        step = arrays["steps"].astype(np.float32)
        if not (np.isfinite(step).all() and (step >= 0).all()):
            raise ValueError("steps hold NaN, infinity or negative values")
        digits = self.digits.unpack(arrays["codes"])
        if self.image_digits is not None:
            digits += self.image_digits.unpack(arrays["image_codes"])
        return put_spilled(self._expanded(digits, step), arrays)

    def _expanded(self, digits: Digits, step: NDArray[np.float32]) -> NDArray[np.float32]:
        """(R, C) mean + step * digits @ decoder; as integers where the basis is an 8-bit one of one scale."""
        if self._is_even:
            logits_RC = int8_product(digits, self._narrow_basis, step[0] * self.scales[0], self.mean)
            if logits_RC is not None:
                return logits_RC
        scaled_RK = digits.whole()
        scaled_RK *= step
        logits_RC = scaled_RK @ self.decoder
        logits_RC += self.mean
        return logits_RC

    @functools.cached_property
    def _is_even(self) -> bool:
        return self.basis.dtype == np.int8 and bool((self.scales == self.scales[0]).all())

    @functools.cached_property
    def _narrow_basis(self) -> NDArray[np.int8]:
        """A copy that may be written to, as torch wants it."""
        return np.array(self.basis, np.int8)

    def coefficients(self, targets_VRC: NDArray[np.float32]) -> NDArray[np.float64]:
        """(V, R, K) in steps, those that give the least weighted error with the basis as it is stored."""
        return (centred(targets_VRC, self.weights, absolute=self.absolute) - self.mean) @ self.encoder

    @functools.cached_property
    def decoder(self) -> NDArray[np.float32]:
        return self.basis.astype(np.float32) * self.scales[:, None]

    @functools.cached_property
    def encoder(self) -> NDArray[np.float64]:
        return least_squares(self.decoder, self.weights)


def dead_zone_round(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.copysign(np.floor(np.abs(values) + DEAD_ZONE), values)


class KltFamily:
    """Codecs of one set of rows, by step: the eigenvectors are found once.

    With `sweeps`, digits of logits are improved by rate-distortion rounding.
    """

    steps: ClassVar[tuple[float, ...]] = tuple(0.005 * 2 ** (i / 8) for i in range(104))
    """From exact to coarse: 0.005 to 38; of features in units of their root mean square."""

    def __init__(self, rows_VRC: NDArray[np.float32], axes: ChannelAxes, *, num_views: int, unit: float = 1.0,
                 absolute: bool = False, temperature: float = 1.0, sweeps: int = 0,
                 quick_flops: float = math.inf) -> None:  # fmt: skip
        """`rows_VRC`: calibration views; `num_views`: views an image will have in the store; `unit` of the steps;
        `quick_flops`: operations that quick rounding may take a row."""
        self.rows_VRC, self.axes, self.num_views, self.unit = rows_VRC, axes, num_views, unit
        self.absolute, self.temperature, self.sweeps = absolute, temperature, sweeps
        self.quick_basis = min(QUICK_BASIS, quick_flops / QUICK_FLOPS_PER_ENTRY)

    @classmethod
    def of_logits(
        cls, logits_VRC: NDArray[np.float32], *, temperature: float, num_views: int, sweeps: int = 0,
        quick_flops: float = math.inf,
    ) -> KltFamily:  # fmt: skip
        axes = ChannelAxes.of_logits(logits_VRC.reshape(-1, logits_VRC.shape[-1]), temperature, WEIGHT_POWER)
        return cls(logits_VRC, axes, num_views=num_views, temperature=temperature, sweeps=sweeps,
                   quick_flops=quick_flops)  # fmt: skip

    @classmethod
    def of_features(cls, features_VRC: NDArray[np.float32], *, num_views: int) -> KltFamily:
        axes = ChannelAxes.of_features(features_VRC.reshape(-1, features_VRC.shape[-1]))
        return cls(features_VRC, axes, num_views=num_views, unit=root_mean_square(features_VRC), absolute=True)

    @functools.cached_property
    def knobs(self) -> tuple[float, ...]:
        """Steps; of quick rounding, only those coarse enough to be quick."""
        if self.sweeps != QUICK_SWEEPS:
            return self.steps
        most = self.quick_basis // len(self.axes.mean)
        quick = tuple(step for step in self.steps if self._num_digits(step) <= most)
        return quick or self.steps[-1:]

    def codec(self, knob: float) -> KltCodec:
        step, count = knob * self.unit, self._num_digits(knob)
        decoder = self.axes.vectors[:count] * step
        dtype = np.int16 if decoder.size <= SMALL_BASIS else np.int8
        peaks = np.abs(decoder).max(axis=1)
        if dtype == np.int8:
            peaks[:] = peaks.max()  # one scale, for the sake of fast integer products
        scales = (peaks / np.iinfo(dtype).max).astype(np.float32)
        basis = np.clip(np.rint(decoder / scales[:, None]), -np.iinfo(dtype).max, np.iinfo(dtype).max).astype(dtype)
        every = Packing((count, 0, 0, 0, 0))
        mean, weights = self.axes.mean.astype(np.float32), self.axes.weights.astype(np.float32)
        draft = KltCodec(every, None, mean, basis, scales, weights, absolute=self.absolute)
        codec = self._packed(draft, draft.coefficients(self.rows_VRC))
        return self._rounding(codec, knob) if self.sweeps else codec

    def _num_digits(self, knob: float) -> int:
        least = KEPT_STD_ROUNDED if self.sweeps else KEPT_STD
        return max(1, int((self.axes.stds / (knob * self.unit) > least).sum()))

    def _packed(self, draft: KltCodec, coefficients_VRK: NDArray[np.float64]) -> KltCodec:
        alone = dead_zone_round(coefficients_VRK)
        image = np.rint(coefficients_VRK.mean(axis=0))
        rest = dead_zone_round(coefficients_VRK - image)
        shares = _entropy(image) / self.num_views + _entropy(rest) < _entropy(alone)
        if self.num_views > 1 and len(coefficients_VRK) > 1 and shares:
            digits, image_digits = fitting(rest), fitting(image)
        else:
            digits, image_digits = fitting(alone), None
        return replace(draft, digits=digits, image_digits=image_digits)

    def _rounding(self, codec: KltCodec, step: float) -> KltCodec:
        """With rates measured on digits that were improved by rates of plain ones; the limits fit what came out."""
        some_VRC = self.rows_VRC[:, :: max(1, self.rows_VRC.shape[1] * len(self.rows_VRC) // ROWS_FOR_RATES)]
        price = PRICE * step**2
        for _ in range(2):
            digits = codec.digits.unpack(codec.encode(some_VRC)["codes"]).whole()
            rounding = Rounding(DigitRates.of(digits), price, self.temperature, self.sweeps)
            codec = replace(codec, digits=fitting(digits), rounding=rounding)
        return codec


def root_mean_square(values: NDArray[np.float32]) -> float:
    """Never 0, so that steps can be counted in it."""
    return float(np.sqrt(np.square(values, dtype=np.float64).mean())) or 1.0


def fitting(digits: NDArray[np.floating]) -> Packing:
    """Limits for digits like these, with room for the finer level."""
    return Packing.fitting(digits.reshape(-1, digits.shape[-1]) * 2**0.5, CUT_TOLERANCE)


def _entropy(digits: NDArray[np.float64]) -> float:
    """Bits a row, if digits were independent."""
    total = 0.0
    for column in digits.reshape(-1, digits.shape[-1]).T:
        _, counts = np.unique(column, return_counts=True)
        share = counts / counts.sum()
        total -= float((share * np.log2(share)).sum())
    return total


def checked(values: NDArray[Any], dtype: type, ndim: int) -> NDArray[Any]:
    """A calibration array as it must be. Raises ValueError."""
    if values.dtype != dtype or values.ndim != ndim or not np.isfinite(values).all():
        raise ValueError("a calibration array is of another kind, or not finite")
    return values
