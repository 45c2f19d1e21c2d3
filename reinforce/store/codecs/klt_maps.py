"""A transform of whole patches of a map: over channels that of klt, over the patch's cells a cosine transform.

V = views, R = rows of a unit, N = h * w cells of a map, C = channels, B = side of a patch in cells, Q = patches of a
map, K = components over channels, D = digits of a patch: of its K * B * B coefficients those that are not always 0,
T = rows of patches, X = patches in such a row, S = patches of some rows, W = waves: frequencies of a patch.

Neighbouring cells of a map are alike, and channels go together: after both transforms most coefficients are small, and
what is left needs no table of probabilities: logits far below the maximum count here, too, because upsampling mixes
logits and not probabilities.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from reinforce.store.codecs.base import Arrays, ArraySpec, absolute_json, count, parse_absolute, require_finite
from reinforce.store.codecs.channel_axes import ChannelAxes, centred, least_squares
from reinforce.store.codecs.klt import checked, dead_zone_round, fitting, root_mean_square
from reinforce.store.codecs.maps import FlatCells, of_cells
from reinforce.store.codecs.packing import Digits, Packing
from reinforce.store.codecs.spill import FORMULA, encode_spill, put_spilled, spill_specs

PATCH_SIDES = (4, 2, 1)
"""The largest that divides both sides of a map is taken."""
WEIGHT_POWER = 0.25
"""Of a class's mean probability: what counts here is logits, and less which classes are likely."""
KEPT_STD = 0.2
"""In steps: coefficients that vary less are always 0."""
FITTED_VALUES = 1 << 23
"""Logits of calibration maps that are looked at: a large map holds thousands of cells."""
BLOCK_VALUES = 1 << 19
"""Targets that are decoded together: their waves stay in the processor's cache."""
_LARGEST = 32767


@dataclass(frozen=True, eq=False)
class KltMapsCodec:
    """See the module. `level` n of `encode` divides the step by 2^(n/2)."""

    height: int
    width: int
    patch: int
    digits: Packing
    mean: NDArray[np.float32]
    """(C,)"""
    basis: NDArray[np.int16]
    """(K, C), each row divided by its scale"""
    scales: NDArray[np.float32]
    """(K,)"""
    order: NDArray[np.int32]
    """(D,) which coefficient each digit is: component * B * B + vertical frequency * B + horizontal frequency"""
    weights: NDArray[np.float32]
    """(C,), of the channels; for encoding only"""
    absolute: bool = False
    """Of features: a cell's constant is kept, too"""

    name: ClassVar[str] = "klt-maps"
    formula: ClassVar[str] = (
        "coefficients[order] = float32(steps) * digits(codes), else 0, of each B x B patch, the patches row by row; "
        "cells = cosine transform of each component @ (basis * scales[:, None]) + mean: see docs/store-format.md; "
        + FORMULA
    )
    num_levels: ClassVar[int] = 4
    can_spill: ClassVar[bool] = True

    def parameters(self) -> dict[str, Any]:
        return {"height": self.height, "width": self.width, "patch": self.patch, "components": len(self.scales),
                "digits": list(self.digits.counts), **absolute_json(self.absolute)}  # fmt: skip

    def calibration(self) -> dict[str, NDArray[Any]]:
        return {"mean": self.mean, "basis": self.basis, "scales": self.scales, "order": self.order,
                "weights": self.weights}  # fmt: skip

    @classmethod
    def from_parameters(cls, parameters: Mapping[str, Any], calibration: Arrays) -> KltMapsCodec:
        height, width, patch = _sides(parameters)
        codec = cls(
            height=height,
            width=width,
            patch=patch,
            digits=Packing.parse(parameters["digits"]),
            mean=checked(calibration["mean"], np.float32, 1),
            basis=checked(calibration["basis"], np.int16, 2),
            scales=checked(calibration["scales"], np.float32, 1),
            order=checked(calibration["order"], np.int32, 1),
            weights=checked(calibration["weights"], np.float32, 1),
            absolute=parse_absolute(parameters),
        )
        shape = (len(codec.scales), len(codec.mean))
        order = codec.order
        fits = codec.basis.shape == shape and codec.weights.shape == codec.mean.shape and shape[0] <= shape[1]
        is_order = len(order) == codec.digits.num_digits == len(np.unique(order)) and order.min(initial=0) >= 0
        if not fits or not is_order or order.max(initial=0) >= shape[0] * patch**2:
            raise ValueError("the calibration's shapes do not fit each other")
        return codec

    @classmethod
    def calibration_shapes(cls, parameters: Mapping[str, Any], num_channels: int) -> dict[str, tuple[int, ...]]:
        _, _, patch = _sides(parameters)
        num_digits = Packing.parse(parameters["digits"]).num_digits
        num_components = count(parameters, "components", 1, num_channels)
        if num_digits > num_components * patch**2:
            raise ValueError(f"{num_digits} digits are more than {num_components} components of {patch}x{patch} cells")
        return {"mean": (num_channels,), "basis": (num_components, num_channels), "scales": (num_components,),
                "order": (num_digits,), "weights": (num_channels,)}  # fmt: skip

    def arrays(self, num_channels: int) -> dict[str, ArraySpec]:
        if num_channels != len(self.mean):
            raise ValueError(f"made for {len(self.mean)} classes, not {num_channels}")
        shape = (self.num_patches, self.digits.num_bytes)
        spilled = {name: of_cells(spec, self.num_cells) for name, spec in spill_specs(num_channels).items()}
        return {
            "codes": ArraySpec(dtype="uint8", shape=shape, items_last=True, grouped=True),
            "steps": ArraySpec(dtype="float32", per_view=False, per_row=False),
            **spilled,
        }

    @property
    def num_cells(self) -> int:
        return self.height * self.width

    @property
    def num_patches(self) -> int:
        return self.num_cells // self.patch**2

    def encode(
        self, targets_VRNC: NDArray[np.float32], /, *, level: int = 0, spilled_VR: NDArray[np.bool_] | None = None,
        shared: Arrays | None = None,
    ) -> dict[str, NDArray[Any]]:  # fmt: skip
        """`spilled_VR`, (V, R, N), marks single cells."""
        require_finite(targets_VRNC)
        num_views, num_rows, _, num_channels = targets_VRNC.shape
        step = np.float32(2.0 ** (-level / 2)) if shared is None else shared["steps"][0]
        codes = np.empty((num_views, num_rows, self.num_patches, self.digits.num_bytes), np.uint8)
        for view, targets_RNC in enumerate(targets_VRNC):
            digits = self.digits.cut(dead_zone_round(self.coefficients(targets_RNC) / float(step)))
            codes[view] = self.digits.pack(digits).reshape(codes[view].shape)
        cells = targets_VRNC.reshape(num_views, -1, num_channels)
        marked = None if spilled_VR is None else spilled_VR.reshape(num_views, -1)
        spilled = encode_spill(cells, marked, absolute=self.absolute)
        by_cell = {name: values.reshape(num_views, num_rows, self.num_cells, *values.shape[2:])
                   for name, values in spilled.items()}  # fmt: skip
        return {"codes": codes, "steps": np.full((1,), step, np.float32), **by_cell}

    def coefficients(self, targets_RNC: NDArray[np.float32]) -> NDArray[np.float64]:
        """(R * Q, D) in steps."""
        components_RNK = (centred(targets_RNC, self.weights, absolute=self.absolute) - self.mean) @ self.encoder
        patches = to_patches(components_RNK, self.height, self.width, self.patch)
        return np.asarray((patches @ self.cosines.T).reshape(len(patches), -1)[:, self.order])

    def decode(self, arrays: Arrays) -> NDArray[np.float32]:
        """(R, N, C) logits of one view."""
        step = arrays["steps"].astype(np.float32)
        if not (np.isfinite(step).all() and (step >= 0).all()):
            raise ValueError("steps hold NaN, infinity or negative values")
        side, num_channels, wide = self.patch, len(self.mean), self.width // self.patch
        codes = arrays["codes"]
        codes_TXP = codes.reshape(-1, wide, codes.shape[-1])
        targets = np.empty((len(codes_TXP), side, wide, side, num_channels), np.float32)
        at_once = max(1, min(len(targets), BLOCK_VALUES // targets[0].size))
        scratch = np.empty((2, at_once * targets[0].size), np.float32)
        for stop in [*range(at_once, len(targets), at_once), len(targets)]:
            block = slice(stop - at_once, stop)  # the last one may repeat rows of the one before
            digits_SD = self.digits.unpack(codes_TXP[block].reshape(-1, codes.shape[-1]))
            self._expand(digits_SD, step, scratch, targets[block])
        flat = FlatCells(arrays, frozenset(spill_specs(num_channels)))
        return put_spilled(targets.reshape(-1, num_channels), flat).reshape(-1, self.num_cells, num_channels)

    def _expand(self, digits_SD: Digits, step: NDArray[np.float32], scratch: NDArray[np.float32],
                targets: NDArray[np.float32]) -> None:  # fmt: skip
        """Put the logits of some rows of patches into `targets`, (T, B, X, B, C); `scratch` is twice as large.

        Components become channels first, one wave (frequency) of all patches at a time, and then waves become cells:
        what no patch ever has takes no time.
        """
        num_channels, used = len(self.mean), self._components_of_waves
        coefficients_WKS = scratch[0].reshape(self.patch**2, num_channels, -1)[:, : len(self.scales)]
        self._put_coefficients(digits_SD, coefficients_WKS)
        spectra_WSC = scratch[1].reshape(self.patch**2, -1, num_channels)[: len(used)]
        for spectrum_SC, (wave, num_used) in zip(spectra_WSC, used.items(), strict=True):
            np.matmul(coefficients_WKS[wave, :num_used].T, self.decoder[:num_used], out=spectrum_SC)
        waves_NW = self.cosines[list(used)].T.astype(np.float32) * step
        cells = scratch[0].reshape(self.patch**2, -1)
        np.matmul(waves_NW, spectra_WSC.reshape(len(used), -1), out=cells)
        num_rows, _, wide, _, _ = targets.shape
        cells_BBTXC = cells.reshape(self.patch, self.patch, num_rows, wide, num_channels)
        np.add(cells_BBTXC.transpose(2, 0, 3, 1, 4), self.mean, out=targets)

    def _put_coefficients(self, digits_SD: Digits, coefficients_WKS: NDArray[np.float32]) -> None:
        """In steps: digits in their places, zeros elsewhere."""
        component_D, wave_D = np.divmod(self.order, self.patch**2)
        low_WKS = np.zeros(coefficients_WKS.shape, np.int8)
        low_WKS[wave_D, component_D] = digits_SD.low.T
        coefficients_WKS[:] = low_WKS
        wide = slice(digits_SD.high.shape[-1])
        coefficients_WKS[wave_D[wide], component_D[wide]] += np.float32(256) * digits_SD.high.T

    @functools.cached_property
    def _components_of_waves(self) -> dict[int, int]:
        """Of every wave (frequency) that a patch may have, how many of the leading components it reaches."""
        component_D, wave_D = np.divmod(self.order, self.patch**2)
        return {int(wave): 1 + int(component_D[wave_D == wave].max()) for wave in np.unique(wave_D)}

    @functools.cached_property
    def decoder(self) -> NDArray[np.float32]:
        """(K, C)"""
        return self.basis.astype(np.float32) * self.scales[:, None]

    @functools.cached_property
    def encoder(self) -> NDArray[np.float64]:
        """(C, K)"""
        return least_squares(self.decoder, self.weights)

    @functools.cached_property
    def cosines(self) -> NDArray[np.float64]:
        """(B * B frequencies, B * B cells), orthonormal: the type-II cosine transform of a patch."""
        side = np.arange(self.patch)
        waves = np.cos(np.pi * side[:, None] * (side + 0.5) / self.patch) * np.sqrt(2 / self.patch)
        waves[0] /= np.sqrt(2)
        return np.kron(waves, waves)


def _sides(parameters: Mapping[str, Any]) -> tuple[int, int, int]:
    """Height, width, patch. Raises ValueError."""
    height, width = (count(parameters, name, 1, 1024) for name in ("height", "width"))
    patch = count(parameters, "patch", 1, max(PATCH_SIDES))
    if height % patch or width % patch:
        raise ValueError(f"patches of {patch} do not cover a map of {height}x{width}")
    return height, width, patch


def to_patches(maps_RNK: NDArray[np.float64], height: int, width: int, patch: int) -> NDArray[np.float64]:
    """(R * Q, K, B * B)"""
    num_rows, _, components = maps_RNK.shape
    split = maps_RNK.reshape(num_rows, height // patch, patch, width // patch, patch, components)
    return split.transpose(0, 1, 3, 5, 2, 4).reshape(-1, components, patch**2)


def fitted_maps(maps_VRNC: NDArray[np.float32]) -> NDArray[np.float32]:
    """(R, N, C): some of all views' maps, of as many images as there can be, in turn under each view."""
    num_views, num_images = maps_VRNC.shape[:2]
    total = num_views * num_images
    count = max(1, min(total, FITTED_VALUES // math.prod(maps_VRNC.shape[2:])))
    chosen = np.arange(count)
    return np.asarray(maps_VRNC[chosen % num_views, chosen * total // count // num_views])


class KltMapsFamily:
    """Codecs of one set of maps, by step."""

    knobs: ClassVar[tuple[float, ...]] = tuple(0.02 * 2 ** (i / 16) for i in range(160))
    """Steps, from exact to coarse: 0.02 to 19; of features in units of their root mean square."""

    def __init__(self, maps_RNC: NDArray[np.float32], axes: ChannelAxes, height: int, width: int, *,
                 unit: float = 1.0, absolute: bool = False) -> None:  # fmt: skip
        self.maps_RNC, self.axes, self.height, self.width = maps_RNC, axes, height, width
        self.unit, self.absolute = unit, absolute
        self.patch = next(side for side in PATCH_SIDES if height % side == 0 == width % side)

    @classmethod
    def of_logits(
        cls, logits_VRNC: NDArray[np.float32], height: int, width: int, *, temperature: float
    ) -> KltMapsFamily:
        maps = fitted_maps(logits_VRNC)
        axes = ChannelAxes.of_logits(maps.reshape(-1, maps.shape[-1]), temperature, WEIGHT_POWER)
        return cls(maps, axes, height, width)

    @classmethod
    def of_features(cls, features_VRNC: NDArray[np.float32], height: int, width: int) -> KltMapsFamily:
        maps = fitted_maps(features_VRNC)
        axes = ChannelAxes.of_features(maps.reshape(-1, maps.shape[-1]))
        return cls(maps, axes, height, width, unit=root_mean_square(maps), absolute=True)

    def codec(self, knob: float) -> KltMapsCodec:
        # a cell's constant, where it is left out, takes one direction away
        num_components = max(1, len(self.axes.mean) - (not self.absolute))
        decoder = self.axes.vectors[:num_components] * (knob * self.unit)
        scales = (np.abs(decoder).max(axis=1) / _LARGEST).astype(np.float32)
        basis = np.clip(np.rint(decoder / scales[:, None]), -_LARGEST, _LARGEST).astype(np.int16)
        every = np.arange(num_components * self.patch**2, dtype=np.int32)
        draft = KltMapsCodec(self.height, self.width, self.patch, Packing((len(every), 0, 0, 0, 0)),
                             self.axes.mean.astype(np.float32), basis, scales, every,
                             self.axes.weights.astype(np.float32), self.absolute)  # fmt: skip
        return self._ordered(draft)

    def _ordered(self, draft: KltMapsCodec) -> KltMapsCodec:
        """With the coefficients that vary, most first, in digits as narrow as they allow; no component behind them."""
        coefficients = draft.coefficients(self.maps_RNC)
        stds = np.sqrt(np.square(coefficients).mean(axis=0))
        kept = np.argsort(-stds, kind="stable")[: max(1, int((stds > KEPT_STD).sum()))]
        packing = fitting(dead_zone_round(coefficients[:, kept]))
        num_used = 1 + int(kept.max()) // self.patch**2
        return replace(draft, digits=packing, order=kept.astype(np.int32), basis=draft.basis[:num_used],
                       scales=draft.scales[:num_used])  # fmt: skip
