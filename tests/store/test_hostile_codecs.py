"""Codecs fed by hostile stores: parameters, calibration and codes that no encoder wrote are refused, unread if huge."""

from __future__ import annotations

import json
import tracemalloc

import numpy as np
import pytest
from hostile_stores import forge, forge_calibration, forge_parameters, forge_targets, refused
from make_golden import KLT
from tiny_stores import NUM_CLASSES, UNIT_ROWS, build_at

from reinforce.errors import CorruptStoreError, StoreError
from reinforce.store.codecs import Fp16Codec, Int8Codec, load_codec
from reinforce.store.codecs.kept_top1 import KeptTop1
from reinforce.store.codecs.sqrt_p import SqrtPCodec
from reinforce.store.codecs.top_k import TopKCodec
from reinforce.store.reader import Store

NAN, INF = float("nan"), float("inf")
CODECS = {
    "fp16": Fp16Codec(),
    "int8": Int8Codec(),
    "klt": KLT,
    "sqrt-p": SqrtPCodec(0.03125, 1.0),
    "top-k": TopKCodec(3, 5, 1.0),
    "fp16, top1": KeptTop1(Fp16Codec()),
}


@pytest.fixture
def store_of(tmp_path):
    """A finished store of a codec, by name."""
    return lambda name: build_at(tmp_path / "x.zarr", CODECS[name], max_kl=0.05).root


def with_value(values, value):
    changed = values.copy()
    changed.reshape(-1)[1] = value
    return changed


class TestCalibration:
    @pytest.mark.parametrize("name", ["mean", "scales", "weights"])
    @pytest.mark.parametrize("value", [NAN, INF, -INF])
    def test_values_that_are_not_finite(self, name, value, store_of):
        root = store_of("klt")
        forge_calibration(root, {name: with_value(KLT.calibration()[name], value)})
        assert "not finite" in refused(root)

    @pytest.mark.parametrize("name", ["mean", "scales", "weights", "basis"])
    @pytest.mark.parametrize("dtype", ["float64", "int32", "uint8", "float16"])
    def test_values_of_another_kind(self, name, dtype, store_of):
        root = store_of("klt")
        forge_calibration(root, {name: KLT.calibration()[name].astype(dtype)})
        assert "codec klt" in refused(root)

    @pytest.mark.parametrize(
        "arrays",
        [
            {"mean": KLT.mean[:-1]},
            {"mean": np.zeros((1, 5), np.float32)},
            {"basis": KLT.basis.T.copy()},
            {"basis": KLT.basis[:-1]},
            {"basis": np.zeros((5, 5), np.int8)},
            {"scales": np.zeros(1, np.float32)},
            {"weights": np.zeros(4, np.float32)},
            {"weights": None},
            {"mean": None},
            {"more": np.zeros(1, np.float32)},
            {"rate_zero": np.full(4, 0.5, np.float32)},
            {"basis": np.zeros((6, 5), np.int8), "scales": np.zeros(6, np.float32)},
        ],
        ids=lambda arrays: " ".join(f"{k}{getattr(v, 'shape', '')}" for k, v in arrays.items()),
    )
    def test_shapes_that_do_not_fit(self, arrays, store_of):
        root = store_of("klt")
        forge_calibration(root, arrays)
        assert "codec klt" in refused(root)

    @pytest.mark.parametrize("shape", [[0], [], [-1, 5], [1 << 32, 9], [2.0, 5], "ab", [[4, 5]], [True, 5]], ids=str)
    def test_shapes_that_are_none(self, shape, store_of):
        root = store_of("klt")
        forge_calibration(root, {"basis": KLT.basis}, shape=shape)
        assert "plan.json" in refused(root)

    @pytest.mark.parametrize("dtype", ["object", "float128", "int7", "<f4", "bool", "complex64", "str", ""])
    def test_data_types_that_no_array_has(self, dtype, store_of):
        root = store_of("klt")
        forge_calibration(root, {"basis": KLT.basis}, dtype=dtype)
        assert "data type" in refused(root)

    def test_the_same_bytes_under_another_data_type(self, store_of):
        root = store_of("klt")
        forge_calibration(root, {"mean": KLT.mean.view(np.int32)})
        assert "codec klt" in refused(root)

    def test_scales_whose_logits_overflow(self, store_of):
        root = store_of("klt")
        forge_calibration(root, {"scales": np.full(4, 3e38, np.float32)})
        assert "NaN or infinite" in refused(root)

    @pytest.mark.parametrize("name", CODECS)
    def test_a_bomb_is_not_even_read(self, name, store_of):
        root = store_of(name)
        forge_calibration(root, {"basis": np.zeros((1 << 11, 1 << 13), np.int64)})
        tracemalloc.start()
        codec = name.partition(",")[0]
        with pytest.raises(CorruptStoreError, match=f"codec {codec}: the calibration arrays are not those"):
            Store.open(root)
        _, peak_bytes = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak_bytes < 8 << 20

    def test_more_values_than_any_codec_has(self, store_of):
        root = store_of("klt")
        forge_calibration(root, {"basis": KLT.basis}, shape=[1 << 20, 1 << 20])
        assert "values" in refused(root)


class TestParameters:
    @pytest.mark.parametrize(
        ("name", "change"),
        [
            ("klt", {"digits": [1 << 19, 0, 0, 0, 0]}),
            ("klt", {"digits": [1 << 20, 1 << 20, 1 << 20, 1 << 20, 1 << 20]}),
            ("klt", {"digits": [10**30, 0, 0, 0, 0]}),
            ("klt", {"digits": [-1, 5, 0, 0, 0]}),
            ("klt", {"digits": [0, 0, 0, 0, 0]}),
            ("klt", {"digits": [0, 1, 2, 1]}),
            ("klt", {"digits": [0, 1, 2, 1, 0, 0]}),
            ("klt", {"digits": [0.0, 1.0, 2.0, 1.0, 0.0]}),
            ("klt", {"digits": "01210"}),
            ("klt", {"digits": None}),
            ("klt", {"digits": {"0": 4}}),
            ("klt", {"image_digits": [0, 5, 0, 0, 0]}),
            ("klt", {"image_digits": [1 << 19, 0, 0, 0, 0]}),
            ("klt", {"image_digits": 3}),
            ("klt", {"rounding": []}),
            ("klt", {"rounding": {}}),
            ("klt", {"rounding": {"price": 1, "temperature": 1}}),
            ("klt", {"rounding": {"price": 1, "temperature": 1, "sweeps": 0}}),
            ("sqrt-p", {"step": 0}),
            ("sqrt-p", {"step": -1}),
            ("sqrt-p", {"step": "0.1"}),
            ("sqrt-p", {"step": 10**400}),
            ("sqrt-p", {"temperature": 0}),
            ("sqrt-p", {"temperature": 1e300}),
            ("sqrt-p", {"temperature": True}),
            ("top-k", {"k": 0}),
            ("top-k", {"k": 6}),
            ("top-k", {"k": 1 << 40}),
            ("top-k", {"k": 2.0}),
            ("top-k", {"num_classes": 1 << 19}),
            ("top-k", {"num_classes": 4, "k": 4}),
            ("top-k", {"temperature": -1}),
            ("fp16", {"step": 1}),
            ("int8", {"step": 1}),
            ("fp16", {"top1": 1}),
            ("fp16", {"top1": False}),
        ],
        ids=str,
    )
    def test_that_no_codec_gives(self, name, change, store_of):
        root = store_of(name)
        forge_parameters(root, **change)
        assert f"codec {name}" in refused(root)

    def test_a_largest_class_that_no_array_has(self, store_of):
        root = store_of("fp16")
        forge_parameters(root, top1=True)
        assert "targets/top1/zarr.json: not in the manifest" in refused(root)

    def test_nan_which_json_cannot_say(self):
        with pytest.raises(CorruptStoreError):
            load_codec("sqrt-p", {"step": NAN, "temperature": 1.0}, {}, NUM_CLASSES)

    @pytest.mark.parametrize("name", ["klt2", "../klt", "", "x" * 4000, "K\nLT"])
    def test_unknown_codecs(self, name):
        with pytest.raises(StoreError, match="unknown to this version: upgrade") as caught:
            load_codec(name, {}, {}, NUM_CLASSES)
        assert "\n" not in str(caught.value)
        assert len(str(caught.value)) < 300


class TestTargets:
    @pytest.mark.parametrize(
        ("codec", "array", "value", "words"),
        [
            ("fp16", "values", NAN, "values hold NaN"),
            ("fp16", "values", -INF, "values hold NaN"),
            ("int8", "steps", NAN, "steps hold"),
            ("int8", "steps", INF, "steps hold"),
            ("int8", "steps", -0.5, "steps hold"),
            ("klt", "steps", NAN, "steps hold"),
            ("klt", "steps", INF, "steps hold"),
            ("klt", "steps", -1.0, "steps hold"),
            ("klt", "steps", 3e38, "NaN or infinite"),
            ("sqrt-p", "steps", NAN, "outside of 1/255..1"),
            ("sqrt-p", "steps", 0.0, "outside of 1/255..1"),
            ("sqrt-p", "steps", 1e-3, "outside of 1/255..1"),
            ("sqrt-p", "steps", 2.0, "outside of 1/255..1"),
            ("sqrt-p", "steps", -0.5, "outside of 1/255..1"),
            ("top-k", "classes", 5, "beyond the last"),
            ("top-k", "classes", 255, "beyond the last"),
            ("top-k", "classes", 2, "a class twice"),
            ("top-k", "log_p", NAN, "NaN or values above 0"),
            ("top-k", "log_p", 0.5, "NaN or values above 0"),
            ("top-k", "log_p", -INF, "NaN or infinite"),
            ("fp16, top1", "top1", 6, "beyond the last"),
            ("fp16, top1", "top1", 255, "beyond the last"),
        ],
    )
    def test_values_that_no_encoder_gives(self, codec, array, value, words, store_of):
        root = store_of(codec)
        path = forge_targets(root, array, value)
        message = refused(root)
        assert words in message
        assert path.rpartition("/")[0] in message or "targets/" in message

    @pytest.mark.parametrize("codec", ["klt", "sqrt-p", "top-k"])
    @pytest.mark.parametrize("value", [NAN, INF, -INF])
    def test_spilled_rows_that_are_not_finite(self, codec, value, store_of):
        root = store_of(codec)
        forge_targets(root, "spilled_logits", value)
        forge_targets(root, "is_spilled", 7)
        assert "NaN or infinite" in refused(root)

    @pytest.mark.parametrize(
        ("codec", "array"),
        [("klt", "codes"), ("klt", "image_codes"), ("sqrt-p", "codes"), ("sqrt-p", "tails"), ("top-k", "tails"),
         ("int8", "codes"), ("klt", "is_spilled"), ("klt", "steps"), ("fp16, top1", "values")],
    )  # fmt: skip
    @pytest.mark.parametrize("value", [0, 255])
    def test_any_code_is_a_value(self, codec, array, value, store_of):
        root = store_of(codec)
        forge_targets(root, array, np.asarray(value).astype(np.int8) if codec == "int8" else value)
        store = Store.open(root)
        logits = np.stack([store.read_targets(1, view) for view in range(store.num_views)])
        assert logits.shape == (store.num_views, UNIT_ROWS, NUM_CLASSES)
        assert np.isfinite(logits).all()

    @pytest.mark.parametrize("codec", CODECS)
    def test_an_array_of_another_data_type(self, codec, store_of):
        root = store_of(codec)
        for name, array in Store.open(root).target_arrays.items():
            path = f"targets/{name}/zarr.json"
            before = (root / path).read_bytes()
            document = json.loads(before) | {"data_type": "float64" if array.spec.dtype != "float64" else "int64"}
            forge(root, {path: json.dumps(document).encode()})
            assert path in refused(root)
            forge(root, {path: before})
