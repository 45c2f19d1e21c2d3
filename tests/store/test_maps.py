"""Targets that are maps: every cell is a row to its codec, and what counts is the pixel after upsampling."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny_stores import plan_of

from reinforce.errors import BuildError, CorruptStoreError, UsageError
from reinforce.store import CodecRequest, MapShape, Promise, RowShape, Schema, calibrate, decode_unit, encode_within
from reinforce.store.codecs import Fp16Codec, Int8Codec, klt_maps
from reinforce.store.codecs.base import view_arrays
from reinforce.store.codecs.klt_maps import (
    KltMapsCodec,
    KltMapsFamily,
    to_patches,
)
from reinforce.store.codecs.packing import Packing
from reinforce.store.codecs.sqrt_p import SqrtPCodec
from reinforce.store.measures import Divergence
from reinforce.store.shapes import MEASURED_VALUES, parse_shape, upsample

SHAPE = MapShape(5, 4, 3, 16)
RNG = np.random.default_rng(3)


@pytest.fixture(autouse=True)
def same_numbers_in_any_order():
    RNG.bit_generator.state = np.random.default_rng(3).bit_generator.state


def smooth_maps(views: int, rows: int, shape: MapShape = SHAPE, scale: float = 3.0) -> np.ndarray:
    """(V, R, N, C): like a teacher's, neighbouring cells are alike."""
    coarse = RNG.normal(size=(views, rows, 2, 2, shape.num_channels)).astype(np.float32) * scale
    fine = [[upsample(item, 16, np.arange(16))[: shape.height, : shape.width] for item in view] for view in coarse]
    return np.array(fine).reshape(views, rows, *shape.item_shape)


class TestUpsampling:
    @pytest.mark.parametrize("size_px", [3, 8, 13, 16, 32])
    @pytest.mark.parametrize("sides", [(2, 2), (4, 3), (1, 5), (8, 8)], ids=str)
    def test_is_torchs(self, sides, size_px):
        maps = RNG.normal(size=(*sides, 3)).astype(np.float32)
        images = torch.from_numpy(maps).permute(2, 0, 1)[None]
        wanted = torch.nn.functional.interpolate(images, (size_px, size_px), mode="bilinear", align_corners=False)
        found = upsample(maps, size_px, np.arange(size_px))
        np.testing.assert_allclose(found, wanted[0].permute(1, 2, 0).numpy(), atol=1e-5)

    def test_some_places_are_those_of_all(self):
        maps, places = RNG.normal(size=(4, 4, 2)).astype(np.float32), np.array([0, 3, 31])
        np.testing.assert_array_equal(upsample(maps, 32, places), upsample(maps, 32, np.arange(32))[places][:, places])


class TestMapCodec:
    @pytest.mark.parametrize("codec", [SqrtPCodec(0.02, 1.0), Int8Codec(), Fp16Codec()], ids=lambda codec: codec.name)
    def test_is_the_codec_of_every_cell(self, codec):
        maps = smooth_maps(2, 3)
        fitted = SHAPE.fitted(codec)
        arrays = fitted.encode(maps)
        flat = codec.encode(maps.reshape(2, -1, 5))
        for name, spec in fitted.arrays(5).items():
            assert arrays[name].shape == spec.unit_shape(2, 3)
            np.testing.assert_array_equal(arrays[name].ravel(), flat[name].ravel())
        for view in range(2):
            rows = codec.decode(view_arrays(codec, flat, view, 5))
            np.testing.assert_array_equal(fitted.decode(view_arrays(fitted, arrays, view, 5)).reshape(-1, 5), rows)

    def test_single_cells_are_spilled(self):
        maps = smooth_maps(1, 2)
        spilled = np.zeros(maps.shape[:3], np.bool_)
        spilled[0, 1, 7] = True
        fitted = SHAPE.fitted(SqrtPCodec(0.2, 1.0))
        decoded = fitted.decode(view_arrays(fitted, fitted.encode(maps, spilled_VR=spilled), 0, 5))
        kl = Divergence(1.0).errors(maps[0].reshape(-1, 5), decoded.reshape(-1, 5)).reshape(2, -1)
        assert kl[1, 7] < 1e-5 < np.median(kl)


def fitted_klt(maps: np.ndarray, knob: float = 0.3, shape: MapShape = SHAPE) -> KltMapsCodec:
    return KltMapsFamily.of_logits(maps, shape.height, shape.width, temperature=1.0).codec(knob)


class TestKltMaps:
    @pytest.mark.parametrize("sides", [(4, 4), (8, 4), (6, 2), (3, 5)], ids=str)
    def test_patches_are_the_largest_that_cover(self, sides):
        height, width = sides
        maps = RNG.normal(size=(1, 3, height * width, 5)).astype(np.float32)
        codec = KltMapsFamily.of_logits(maps, height, width, temperature=1.0).codec(0.3)
        assert codec.patch == {(4, 4): 4, (8, 4): 4, (6, 2): 2, (3, 5): 1}[sides]
        patches = to_patches(maps[0].astype(np.float64), height, width, codec.patch)
        assert patches.shape == (3 * height * width // codec.patch**2, 5, codec.patch**2)
        last = maps[0, -1].reshape(height, width, 5)[-codec.patch :, -codec.patch :]
        np.testing.assert_array_equal(patches[-1], last.reshape(-1, 5).T)

    @pytest.mark.parametrize("patch", [1, 2, 4])
    def test_its_waves_are_scipys(self, patch):
        fft = pytest.importorskip("scipy.fft")
        codec = fitted_klt(smooth_maps(1, 4, MapShape(5, patch, patch, 16)), shape=MapShape(5, patch, patch, 16))
        cells = RNG.normal(size=(patch, patch))
        np.testing.assert_allclose(codec.cosines @ cells.ravel(), fft.dctn(cells, norm="ortho").ravel(), atol=1e-12)

    def test_equals_a_slow_reference(self):
        shape = MapShape(5, 8, 4, 32)
        maps = smooth_maps(2, 3, shape)
        codec = fitted_klt(maps, shape=shape)
        arrays = codec.encode(maps, level=1)
        found = codec.decode(view_arrays(codec, arrays, 1, 5))
        np.testing.assert_allclose(found, slow_klt_maps(codec, arrays, 1), rtol=1e-4, atol=1e-4)

    @pytest.mark.parametrize("rows", [1, 2, 3, 5])
    def test_maps_decode_alike_whatever_is_decoded_with_them(self, rows, monkeypatch):
        maps = smooth_maps(1, 5)
        codec = fitted_klt(maps)
        arrays = view_arrays(codec, codec.encode(maps), 0, 5)
        together = codec.decode(arrays)
        monkeypatch.setattr(klt_maps, "BLOCK_VALUES", rows * maps[0, 0].size)
        np.testing.assert_allclose(codec.decode(arrays), together, rtol=1e-6, atol=1e-6)

    @pytest.mark.parametrize("order", [[0], [5], [2, 17], [33, 16, 1]], ids=str)
    def test_waves_that_no_patch_has_are_left_out(self, order):
        shape = MapShape(5, 8, 4, 32)
        codec = fitted_klt(smooth_maps(1, 3, shape), shape=shape)
        few = replace(codec, order=np.array(order, np.int32), digits=Packing((1, len(order) - 1, 0, 0, 0)))
        arrays = few.encode(smooth_maps(1, 3, shape))
        decoded = few.decode(view_arrays(few, arrays, 0, 5))
        np.testing.assert_allclose(decoded, slow_klt_maps(few, arrays, 0), rtol=1e-4, atol=1e-4)

    def test_finer_levels_are_closer(self):
        maps = smooth_maps(2, 32, MapShape(5, 4, 4, 16))
        shape = MapShape(5, 4, 4, 16)
        codec = fitted_klt(maps, 1.0, shape)
        kls = []
        for level in range(codec.num_levels):
            decoded = codec.decode(view_arrays(codec, codec.encode(maps, level=level), 0, 5))
            kls.append(shape.fidelity(maps[0], decoded, Divergence(1.0)).mean)
        assert kls == sorted(kls, reverse=True)

    def test_single_cells_are_spilled(self):
        maps = smooth_maps(1, 2)
        spilled = np.zeros(maps.shape[:3], np.bool_)
        spilled[0, 1, 7] = True
        codec = fitted_klt(maps, 4.0)
        decoded = codec.decode(view_arrays(codec, codec.encode(maps, spilled_VR=spilled), 0, 5))
        kl = Divergence(1.0).errors(maps[0].reshape(-1, 5), decoded.reshape(-1, 5)).reshape(2, -1)
        assert kl[1, 7] < 1e-5 < np.median(kl)

    def test_is_a_function_of_what_a_plan_says(self):
        maps = smooth_maps(2, 8)
        codec = fitted_klt(maps)
        again = KltMapsCodec.from_parameters(codec.parameters(), codec.calibration())
        shapes = {name: values.shape for name, values in codec.calibration().items()}
        assert shapes == KltMapsCodec.calibration_shapes(codec.parameters(), 5)
        for name, values in codec.encode(maps).items():
            np.testing.assert_array_equal(again.encode(maps)[name], values)

    @pytest.mark.parametrize(
        "change",
        [{"patch": 3}, {"patch": 0}, {"height": 0}, {"height": 10**6}, {"components": 6}, {"components": 0},
         {"digits": [10**6, 0, 0, 0, 0]}, {"digits": "x"}],
        ids=str,
    )  # fmt: skip
    def test_absurd_parameters_are_refused(self, change):
        codec = fitted_klt(smooth_maps(1, 8))
        with pytest.raises(ValueError):
            KltMapsCodec.calibration_shapes(codec.parameters() | change, 5)

    @pytest.mark.parametrize("order", [[0, 0], [-1, 0], [0, 10**6]], ids=str)
    def test_an_order_that_is_none_is_refused(self, order):
        codec = fitted_klt(smooth_maps(1, 8))
        wrong = codec.order.copy()
        wrong[:2] = order
        with pytest.raises(ValueError, match="fit"):
            KltMapsCodec.from_parameters(codec.parameters(), codec.calibration() | {"order": wrong})

    def test_rows_and_maps_of_another_size_are_refused(self):
        codec = fitted_klt(smooth_maps(1, 8))
        for shape in (RowShape(5), MapShape(5, 4, 4, 16)):
            with pytest.raises(CorruptStoreError, match="klt-maps"):
                shape.fitted(codec)


def slow_klt_maps(codec: KltMapsCodec, arrays: dict[str, np.ndarray], view: int) -> np.ndarray:
    """(R, N, C) by the words of docs/store-format.md, one cell after the other."""
    num_rows, side = arrays["codes"].shape[1], codec.patch
    logits = np.zeros((num_rows, codec.height, codec.width, len(codec.mean)))
    for row in range(num_rows):
        digits = codec.digits.unpack(arrays["codes"][view, row]).whole()
        for y in range(codec.height):
            for x in range(codec.width):
                patch = y // side * (codec.width // side) + x // side
                components = np.zeros(len(codec.scales))
                for place, digit in zip(codec.order.tolist(), digits[patch], strict=True):
                    component, rest = divmod(place, side * side)
                    wave = 1.0
                    for frequency, offset in zip(divmod(rest, side), (y % side, x % side), strict=True):
                        wave *= np.sqrt((1 if frequency == 0 else 2) / side)
                        wave *= np.cos(np.pi * frequency * (offset + 0.5) / side)
                    components[component] += digit * arrays["steps"][0] * wave
                logits[row, y, x] = components @ (codec.basis * codec.scales[:, None]) + codec.mean
    return logits.reshape(num_rows, -1, len(codec.mean))


class TestMeasuring:
    def test_every_pixel_counts_in_a_small_view(self):
        maps, noisy = smooth_maps(1, 3)[0], smooth_maps(1, 3)[0]
        pixels = [np.stack([upsample(item.reshape(4, 3, 5), 16, np.arange(16)) for item in some]).reshape(-1, 5)
                  for some in (maps, noisy)]  # fmt: skip
        found = SHAPE.fidelity(maps, noisy, Divergence(2.0))
        assert found.count == 3 * 16 * 16
        assert found.mean == pytest.approx(Divergence(2.0).errors(*pixels).mean(), rel=1e-6)
        assert found.top1_agreement == pytest.approx((pixels[0].argmax(1) == pixels[1].argmax(1)).mean())

    @pytest.mark.parametrize(("size_px", "distance"), [(64, 1), (128, 1), (256, 3), (384, 3), (512, 5)])
    def test_of_a_large_view_pixels_at_an_odd_distance(self, size_px, distance):
        shape = MapShape(2, 8, 8, size_px)
        found = shape.fidelity(np.zeros((1, 64, 2), np.float32), np.zeros((1, 64, 2), np.float32), Divergence(1.0))
        assert found.count == len(range(size_px // 2 % distance, size_px, distance)) ** 2

    @pytest.mark.parametrize(
        ("num_ok", "views", "shape"), [(4, 3, SHAPE), (0, 3, SHAPE), (40, 10, MapShape(150, 64, 64, 512))], ids=str
    )
    def test_views_spread_over_the_unit_within_a_limit(self, num_ok, views, shape):
        ok_R = np.arange(50) < num_ok
        sample = shape.sample(views, ok_R)
        assert all(ok_R[rows].all() for _, rows in sample)
        count = sum(len(rows) for _, rows in sample)
        per_view = len(range(0, shape.size_px, max(1, round(shape.size_px / 128)) | 1)) ** 2 * shape.num_channels
        assert count == min(num_ok * views, max(1, MEASURED_VALUES // per_view))


def dense_schema(shape: MapShape, codec, rows: int = 16) -> Schema:
    plan = plan_of(shape.fitted(codec), unit_rows=rows, num_samples=rows, units=[[0, 0, rows]], **shape.to_json())
    return Schema.from_plan(plan | {"policy": {"size_px": shape.size_px}})


class TestPromise:
    @pytest.mark.parametrize("max_kl", [3e-2, 1e-2, 1e-3, 1e-4])
    @pytest.mark.parametrize("scale", [0.5, 3, 12])
    @pytest.mark.parametrize("make", [lambda maps: SqrtPCodec(0.1, 1.0), fitted_klt], ids=["sqrt-p", "klt-maps"])
    def test_is_kept_per_pixel(self, make, max_kl, scale):
        maps = smooth_maps(3, 16, scale=scale)
        codec = SHAPE.fitted(make(smooth_maps(3, 16)))
        schema = dense_schema(SHAPE, codec)
        encoded = encode_within(schema, codec, 0, maps, np.ones(16, np.bool_), Promise(max_error=max_kl))
        decoded = decode_unit(schema, codec, 0, encoded.contents)
        found = SHAPE.fidelity(maps.reshape(-1, 12, 5), decoded.reshape(-1, 12, 5), Divergence(1.0))
        assert found.mean <= max_kl
        assert encoded.fidelity.mean == found.mean

    def test_what_cannot_be_kept_says_what_to_type(self):
        schema = dense_schema(SHAPE, Int8Codec(8))
        maps = smooth_maps(3, 16, scale=30)
        with pytest.raises(BuildError, match="type --codec fp16"):
            encode_within(schema, SHAPE.fitted(Int8Codec(8)), 0, maps, np.ones(16, np.bool_), Promise(max_error=1e-7))


def maps_request(**sizes) -> CodecRequest:
    return CodecRequest(max_error=1e-2, measure=Divergence(1.0), num_views=4, shape=SHAPE, **sizes)


@pytest.mark.parametrize(("num_fitted", "images"), [(12, 12), (48, 48), (96, 48), (192, 48), (500, 48)])
def test_a_transform_is_fitted_on_as_many_images_as_can_be_and_on_all_views(monkeypatch, num_fitted, images):
    monkeypatch.setattr(klt_maps, "FITTED_VALUES", 6 * num_fitted)
    maps = np.arange(4 * 48, dtype=np.float32).reshape(4, 48, 1, 1) * np.ones((1, 1, 2, 3), np.float32)
    fitted = klt_maps.fitted_maps(maps)[:, 0, 0].astype(int)
    assert len(fitted) == len(set(fitted)) == min(num_fitted, 4 * 48)
    assert len(set(fitted % 48)) == images
    assert set(fitted // 48) == {0, 1, 2, 3}


class TestCalibration:
    def test_smooth_maps_are_transformed(self):
        request = CodecRequest(
            max_error=1e-2, measure=Divergence(1.0), num_samples=10**6, num_views=4, unit_rows=64, shape=SHAPE
        )
        choice = calibrate(smooth_maps(4, 64), request)
        assert choice.codec.name == "klt-maps"
        assert {point.kind for point in choice.measured} == {"klt-maps", "sqrt-p", "int8", "fp16"}

    def test_a_codec_of_rows_only_is_refused(self):
        request = CodecRequest(
            max_error=1e-2, measure=Divergence(1.0), num_samples=10, num_views=4, unit_rows=16, shape=SHAPE
        )
        with pytest.raises(UsageError, match="klt"):
            calibrate(smooth_maps(4, 32), request, "klt")


@pytest.mark.parametrize(
    "change",
    [{"map": [4]}, {"map": [0, 4]}, {"map": [4, 2048]}, {"map": "4x4"}, {"map": [True, 4]}, {"map": [4.0, 4]},
     {"policy": {}}, {"policy": {"size_px": 0}}],
    ids=str,
)  # fmt: skip
def test_absurd_maps_are_refused(change):
    plan = {"target": "dense-logits", "map": [4, 4], "policy": {"size_px": 32}}
    assert parse_shape(plan, "plan.json", 5) == MapShape(5, 4, 4, 32)
    with pytest.raises(CorruptStoreError):
        parse_shape(plan | change, "plan.json", 5)


def test_maps_of_too_many_values_are_refused():
    plan = {"target": "dense-logits", "map": [1024, 1024], "policy": {"size_px": 32}}
    with pytest.raises(CorruptStoreError, match="values"):
        parse_shape(plan, "plan.json", 1000)


def test_rows_have_no_map():
    assert parse_shape({"target": "logits"}, "plan.json", 5) == RowShape(5)
