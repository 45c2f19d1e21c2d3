"""Stores of features: what the encoder says of the views, under a promise of cosine distance."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_builds import VIEWS, config, digest_of, run

from reinforce.audit import VerifyConfig, verify
from reinforce.build import build
from reinforce.dataset import open_dataset
from reinforce.errors import CorruptStoreError, UsageError
from reinforce.inspect_store import InspectConfig, inspect
from reinforce.models import create_model, save_model
from reinforce.store import CosineDistance, Schema, Store, canonical_json
from reinforce.store.schema import check_described
from reinforce.teacher import Teacher

NUM_IMAGES = 40
TARGETS = {"global-features": (64,), "patch-features": (2, 2, 64)}


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Without a head, as published."""
    torch.manual_seed(5)
    model, info = create_model("test_vit", num_classes=0, image_size=32)
    folder = tmp_path_factory.mktemp("models") / "tiny-encoder"
    save_model(folder, model, info)
    return folder


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Smooth ones, of which an untrained network says different things."""
    folder, rng = tmp_path_factory.mktemp("transfer") / "smooth", np.random.default_rng(6)
    folder.mkdir()
    for index in range(NUM_IMAGES):
        coarse = Image.fromarray(rng.integers(0, 256, (3, 3, 3), dtype=np.uint8))
        coarse.resize((48, 40), Image.Resampling.BICUBIC).save(folder / f"{index:02d}.png")
    return folder


@pytest.fixture(scope="module", params=[*TARGETS])
def built(
    request: pytest.FixtureRequest, encoder: Path, images: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, Path]:
    folder = tmp_path_factory.mktemp(request.param)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REINFORCE_HOME", str(folder / "home"))
        run(encoder, images, out=str(folder / "out.zarr"), target=request.param)
    return request.param, folder / "out.zarr"


def test_targets_are_what_the_live_encoder_says_of_the_replayed_views(built, encoder, images):
    target, path = built
    dataset = open_dataset(path, str(images))
    live = Teacher(str(encoder), target=target, device="cpu", dtype="auto", threads=1, batch_size=16)
    for epoch in range(VIEWS):
        batch = dataset.load(dataset.epoch_order(epoch)[:16], epoch)
        assert batch.targets.shape[1:] == TARGETS[target]
        assert batch.valid is None
        expected = live.targets(batch.images).reshape(batch.targets.shape)
        rows = [values.reshape(-1, 64) for values in (expected, batch.targets)]
        assert CosineDistance().errors(*rows).mean() < 2e-3
        lengths = [np.linalg.norm(values, axis=1) for values in rows]
        np.testing.assert_allclose(*lengths, rtol=0.2)


def test_the_certificate_is_of_cosine_distances(built):
    target, path = built
    summary = inspect(InspectConfig(store=str(path))).to_json()
    assert (summary["target"], summary["classes"], summary["dimensions"]) == (target, None, 64)
    certificate = summary["certificate"]
    assert 0 < certificate["cosine_distance_mean"] <= 1e-3
    assert "kl_mean" not in certificate
    assert "temperature" not in certificate
    assert Store.open(path).temperature is None


def test_takes_fewer_bytes_than_half_of_half_precision(built):
    target, path = built
    assert Store.open(path).manifest.certificate["bytes_per_view"] < np.prod(TARGETS[target])


def test_two_builds_are_equal_and_one_may_be_stopped(built, encoder, images, tmp_path):
    target, _ = built
    options: dict[str, Any] = {"out": str(tmp_path / "out.zarr"), "target": target, "unit_budget_mb": 1}
    build(config(encoder, images, shard="1/2", **options))
    assert not (tmp_path / "out.zarr" / "manifest.json").exists()
    build(config(encoder, images, resume=True, **options))
    run(encoder, images, out=str(tmp_path / "again.zarr"), target=target, unit_budget_mb=1)
    assert digest_of(tmp_path / "out.zarr") == digest_of(tmp_path / "again.zarr")


def test_a_finer_promise_is_kept(encoder, images, tmp_path):
    summary = run(encoder, images, out=str(tmp_path / "x.zarr"), target="global-features", max_cosine_distance=1e-5)
    assert summary.certificate is not None
    assert summary.certificate["cosine_distance_mean"] <= 1e-5


def test_deep_verification_recomputes_features(built, encoder, images):
    _, path = built
    report = verify(VerifyConfig(store=str(path), deep=True, transfer=str(images), teacher=str(encoder), device="cpu"))
    assert report.ok, report.problems
    assert any("cosine distance" in check for check in report.checks)


def test_the_page_shows_how_alike_views_are(built, images, tmp_path):
    _, path = built
    inspect(InspectConfig(store=str(path), html=str(tmp_path / "page.html"), transfer=str(images)))
    page = (tmp_path / "page.html").read_text()
    assert "64 dimensions" in page
    assert 'id="likeness"' in page
    assert "cosine 1.000" in page
    assert "top-1" not in page


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "no classes whose logits could be kept.*--target global-features"),
        ({"target": "dense-logits"}, "classification model, which gives logits"),
        ({"target": "global-features", "max_kl": 1e-3}, "--max-kl is not of features: type --max-cosine-distance"),
        ({"target": "patch-features", "temperature": 2.0}, "--temperature is not of features"),
        ({"target": "global-features", "policy": "segmentation"}, "is of dense logits: type classification"),
        ({"target": "global-features", "codec": "sqrt-p"}, "--codec sqrt-p does not keep global-features: type klt"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_wrong_requests_say_what_to_type(encoder, images, tmp_path, options, message):
    with pytest.raises(UsageError, match=message):
        run(encoder, images, out=str(tmp_path / "x.zarr"), **options)
    assert not (tmp_path / "x.zarr").exists()


def test_a_cosine_distance_is_not_promised_of_logits(teacher, images, tmp_path):
    with pytest.raises(UsageError, match="--max-cosine-distance is not of logits: type --max-kl"):
        run(teacher, images, out=str(tmp_path / "x.zarr"), max_cosine_distance=1e-3)


def test_an_encoder_without_a_head_sees_views_at_their_size(encoder, images, tmp_path):
    summary = run(encoder, images, out=str(tmp_path / "x.zarr"), target="patch-features", image_size=48, limit=8)
    store = Store.open(tmp_path / "x.zarr")
    assert (store.map_size, store.plan["policy"]["size_px"]) == ((3, 3), 48)
    assert store.plan["teacher"]["preprocess"]["image_size"] == 48
    smaller = run(encoder, images, out=str(tmp_path / "y.zarr"), target="patch-features", image_size=32, limit=8)
    assert summary.teacher["weights_sha256"] == smaller.teacher["weights_sha256"]


def test_a_size_that_patches_do_not_cover_is_refused(encoder, images, tmp_path):
    with pytest.raises(UsageError, match="--image-size 32 or --image-size 48"):
        run(encoder, images, out=str(tmp_path / "x.zarr"), target="global-features", image_size=40)


def test_a_certificate_of_other_targets_is_damage(built, tmp_path):
    _, path = built
    shutil.copytree(path, tmp_path / "x.zarr")
    manifest = json.loads((path / "manifest.json").read_text())
    figures = dict.fromkeys(("kl_mean", "kl_p50", "kl_p99", "kl_max", "top1_agreement", "temperature"), 0.5)
    body = manifest | {"certificate": figures | {"bytes_per_view": 1.0, "codec": "klt"}}
    del body["digest"]
    digest = hashlib.sha256(canonical_json(body)).hexdigest()
    (tmp_path / "x.zarr" / "manifest.json").write_bytes(canonical_json(body | {"digest": digest}))
    with pytest.raises(CorruptStoreError, match="the certificate is not one of"):
        Store.open(tmp_path / "x.zarr")


@pytest.mark.parametrize("parameters", [{"absolute": False}, {}], ids=["false", "absent"])
def test_a_codec_of_logits_is_damage(built, parameters):
    _, path = built
    plan = Store.open(path).plan
    with pytest.raises(CorruptStoreError, match=r"absolute|does not keep"):
        Schema.from_plan(plan | {"codec": plan["codec"] | {"name": "fp16", "parameters": parameters}}).codec({})


@pytest.mark.parametrize("teacher", ["x", {}, {"name": 1, "architecture": "a", "weights_sha256": "b"}], ids=str)
def test_a_plan_must_say_who_the_teacher_is(built, teacher):
    _, path = built
    with pytest.raises(CorruptStoreError, match="teacher"):
        check_described(Store.open(path).plan | {"teacher": teacher})
