"""`reinforce embed`: unit vectors of whole images and crops, by one or several encoders, in a store like any other."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from curate_data import SIZE_PX
from PIL import Image

from reinforce.audit import VerifyConfig, verify
from reinforce.cli import command
from reinforce.command import run_group
from reinforce.curate.curate import CurateConfig, curate
from reinforce.curate.stored import EmbeddingStore
from reinforce.data import open_source
from reinforce.embed import EmbedConfig, embed
from reinforce.errors import BuildError, EmbeddingError, UsageError
from reinforce.inspect_store import StoreSummary
from reinforce.models import create_model, save_model
from reinforce.store import CosineDistance
from reinforce.teacher import Teacher
from reinforce.views import UnitReplayer, named_policy

NUM_IMAGES, CROPS = 20, 2
BAD = "b/bad.png"


@pytest.fixture(scope="session")
def gallery(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, rng = tmp_path_factory.mktemp("images") / "gallery", np.random.default_rng(6)
    for index in range(NUM_IMAGES):
        path = folder / "ab"[index % 2] / f"{index:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        coarse = Image.fromarray(rng.integers(0, 256, (4, 4, 3), dtype=np.uint8))
        coarse.resize((48, 40), Image.Resampling.BICUBIC).save(path)
    (folder / BAD).write_bytes(b"no image")
    return folder


@pytest.fixture(scope="session")
def embedded(encoders: list[str], gallery: Path, tmp_path_factory: pytest.TempPathFactory) -> EmbeddingStore:
    with pytest.MonkeyPatch.context() as patch:
        home = tmp_path_factory.mktemp("embedded")
        patch.setenv("REINFORCE_HOME", str(home))
        summary = embed(config(encoders, gallery, crops=CROPS, out=str(home / "gallery-emb.zarr")))
    assert isinstance(summary, StoreSummary)
    assert (summary.target, summary.views, summary.skipped) == ("embeddings", CROPS + 1, 1)
    assert "reinforce curate" in str(summary)
    return EmbeddingStore(summary.path)


def config(encoders: list[str], gallery: Path, **changes: object) -> EmbedConfig:
    base = {"gallery": str(gallery), "encoder": tuple(encoders), "batch_size": 8, "workers": 0, "quiet": True}
    return EmbedConfig(**base | changes)  # type: ignore[arg-type]


def test_vectors_are_what_the_live_encoders_say_of_the_views(embedded, encoders, gallery):
    source = open_source(str(gallery))
    keys = [key for shard in source.shards for key in shard.keys]
    policy = named_policy("gallery", size_px=SIZE_PX)
    replayer = UnitReplayer(policy, keys, lambda row: source.read(0, row))
    for number, name in enumerate(encoders):
        live = Teacher(name, target="global-features", device="cpu", dtype="auto", threads=1, batch_size=8)
        start = sum(embedded.widths[:number])
        for sample, view in ((0, 0), (3, 2), (19, 1)):
            expected = live.targets(replayer.view(sample, view)[None])
            item = np.array([sample * (CROPS + 1) + view])
            stored = embedded.searched.vectors(item)[:, start : start + embedded.widths[number]].astype(np.float32)
            assert CosineDistance().errors(expected, stored)[0] < 1e-3  # another batch: other bits of bfloat16
            assert np.linalg.norm(stored) == pytest.approx(1, abs=1e-3)


def test_damaged_metadata_of_views_of_two_policies_are_written_anew(embedded, tmp_path):
    root = Path(shutil.copytree(embedded.name, tmp_path / "x.zarr"))
    damaged = ["probes/pixels/zarr.json", "targets/values/zarr.json"]
    for name in damaged:
        (root / name).write_bytes(b"x")
    report = verify(VerifyConfig(store=str(root), repair=True, quiet=True))
    assert report.repairs == [f"wrote {name} anew" for name in damaged]
    assert verify(VerifyConfig(store=str(root), quiet=True)).ok


class TestItems:
    def test_crops_are_searched_and_wholes_compared(self, embedded):
        items = np.concatenate([embedded.searched.unit(unit).items for unit in range(embedded.searched.num_units)])
        bad = embedded.keys.index(BAD)
        expected = [3 * sample + view for sample in range(NUM_IMAGES + 1) if sample != bad for view in (1, 2)]
        assert items.tolist() == expected
        assert embedded.searched.num_embedded == len(expected)
        assert embedded.whole(np.array([3 * 4 + 2])).tolist() == [3 * 4]
        wholes = np.concatenate([embedded.wholes.unit(unit).items for unit in range(embedded.wholes.num_units)])
        assert wholes.tolist() == [3 * sample for sample in range(NUM_IMAGES + 1) if sample != bad]

    def test_units_and_single_vectors_agree(self, embedded):
        for unit in range(embedded.searched.num_units):
            block = embedded.searched.unit(unit)
            np.testing.assert_array_equal(embedded.searched.vectors(block.items), block.vectors)

    def test_ties_are_in_the_order_of_keys_then_crops(self, embedded):
        items = np.arange(3 * (NUM_IMAGES + 1))
        order = items[np.argsort(embedded.searched.tie_order(items))]
        named = [(embedded.keys[embedded.sample(item)], embedded.view(item)) for item in order.tolist()]
        assert named == sorted(named)

    def test_what_has_no_vector_has_none(self, embedded):
        with pytest.raises(KeyError):
            embedded.wholes.vectors(np.array([3 * embedded.keys.index(BAD)]))


def test_verify_deep_recomputes_them(embedded, gallery, encoders, monkeypatch, tmp_path):
    (tmp_path / "reinforce.toml").write_text(
        "[models]\n" + "".join(f'{Path(name).name} = "{name}"\n' for name in encoders)
    )
    monkeypatch.chdir(tmp_path)
    report = verify(VerifyConfig(store=embedded.name, deep=True, transfer=str(gallery), quiet=True))
    assert report.ok, report.problems


def test_whole_images_alone_by_one_encoder(encoders, gallery, tmp_path, monkeypatch):
    monkeypatch.setenv("REINFORCE_HOME", str(tmp_path / "home"))
    embed(config(encoders[:1], gallery, out=str(tmp_path / "wholes.zarr")))
    store = EmbeddingStore(tmp_path / "wholes.zarr")
    assert (store.num_crops, len(store.widths), store.searched.num_embedded) == (0, 1, NUM_IMAGES)


def test_an_encoder_that_nobody_knows_by_name_is_asked_for(encoders, gallery, task, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("REINFORCE_HOME", str(tmp_path / "home"))
    shutil.copytree(encoders[0], tmp_path / "my-encoder")
    embed(config([str(tmp_path / "my-encoder")], gallery, out=str(tmp_path / "x.zarr"), quiet=False))
    told = capsys.readouterr().err
    assert "embed: " in told
    assert "build: " not in told
    asked = {"query": str(task), "shots": 1, "gallery": str(tmp_path / "x.zarr"), "size": 3, "quiet": True}
    with pytest.raises(UsageError, match="encoder 'my-encoder' is not known here: type --encoder DIRECTORY"):
        curate(CurateConfig(**asked, out=str(tmp_path / "a")))
    assert curate(CurateConfig(**asked, out=str(tmp_path / "b"), encoder=(str(tmp_path / "my-encoder"),))).items == 3
    report = verify(VerifyConfig(store=str(tmp_path / "x.zarr"), deep=True, transfer=str(gallery), quiet=True))
    assert "encoder 'my-encoder' is not known here: type --teacher DIRECTORY" in str(report)


class TestRefuses:
    @pytest.mark.parametrize(
        ("changes", "words"),
        [({"encoder": ()}, "--encoder NAME"), ({"crops": -1}, "--crops"), ({"crop_scale": (0.1, 1.0)}, "--crops"),
         ({"overwrite": True, "resume": True}, "--overwrite")],
    )  # fmt: skip
    def test_options(self, encoders, gallery, changes, words):
        with pytest.raises(UsageError, match=words):
            config(encoders, gallery, **changes).request()

    def test_another_kind_of_store(self, encoders, gallery, tmp_path, monkeypatch):
        monkeypatch.setenv("REINFORCE_HOME", str(tmp_path / "home"))
        monkeypatch.chdir(tmp_path)
        argv = ["build", "--teacher", encoders[0], "--transfer", str(gallery), "--target", "global-features", "--views",
                "1", "--workers", "0", "--quiet", "--out", "features.zarr"]  # fmt: skip
        assert run_group(command, argv) == 0
        with pytest.raises(EmbeddingError, match="store of global-features: type reinforce embed"):
            EmbeddingStore("features.zarr")

    def test_an_encoder_of_zeros(self, gallery, tmp_path, monkeypatch):
        monkeypatch.setenv("REINFORCE_HOME", str(tmp_path / "home"))
        model, info = create_model("test_vit", num_classes=0, image_size=SIZE_PX)
        with torch.no_grad():
            for weights in model.norm.parameters():
                weights.zero_()
        save_model(tmp_path / "zeros", model, info)
        with pytest.raises(BuildError, match="no direction"):
            embed(config([str(tmp_path / "zeros")], gallery, out=str(tmp_path / "z.zarr")))


def test_the_option_is_typed_once_for_each_encoder(encoders, gallery, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("REINFORCE_HOME", str(tmp_path / "home"))
    argv = ["embed", "--gallery", str(gallery), "--encoder", encoders[0], "--encoder", encoders[1], "--limit", "4",
            "--batch-size", "8", "--workers", "0", "--quiet", "--json", "--out", str(tmp_path / "2.zarr")]  # fmt: skip
    assert run_group(command, argv) == 0
    assert len(json.loads(capsys.readouterr().out)["teacher"]["encoders"]) == 2
