"""Students of features, from real tiny stores of both kinds: build, distill, stop and resume, finetune."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import timm
import tiny_reinforced as tiny
import torch
from stopping import stop_at_load

from reinforce.build import BuildConfig, build
from reinforce.dataset import open_dataset
from reinforce.errors import ModelError, UsageError
from reinforce.models import create_model, global_features, load_extra, load_model, patch_features, save_model
from train.batches import Batch
from train.cached import CachedViews, row_bytes
from train.distill import DistillConfig, DistillResult, distill
from train.feature_matching import DistanceTally, RetrievalTally, retrieval_rate
from train.finetune import FinetuneConfig, finetune
from train.loop import TrainingStoppedError
from train.losses import contrastive, cosine
from train.online import LiveTeacher
from train.projections import ProjectedStudent, Projections
from train.world import World

LOSSES = {"global-features": "contrastive", "patch-features": "cosine"}
FIGURES = {"global-features": ("contrastive", "retrieval"), "patch-features": ("cosine_distance",)}
DIM, SIDE = 64, 2
CPU = torch.device("cpu")


def write_teacher(folder: Path, seed: int = 3) -> str:
    """Untrained and without a head, its weights turned up, so that views can be told apart."""
    torch.manual_seed(seed)
    model, info = create_model("test_vit", num_classes=0, image_size=32)
    with torch.no_grad():
        for weights in model.parameters():
            weights.normal_(0, 0.3)
    save_model(folder, model, info)
    return str(folder)


def build_store(teacher: str, images: Path, out: Path, target: Any) -> Path:
    build(BuildConfig(teacher=teacher, transfer=str(images), out=str(out), target=target, views=2, workers=0,
                      batch_size=16, dtype="float32", max_cosine_distance=1e-3, quiet=True))  # fmt: skip
    return out


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write_images(tmp_path_factory.mktemp("transfer") / "coloured")


@pytest.fixture(scope="module")
def stores(images: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Target -> store; "teacher" and "another", whose store of patches is "foreign"."""
    folder = tmp_path_factory.mktemp("stores")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REINFORCE_HOME", str(folder / "home"))
        teacher, another = write_teacher(folder / "teacher"), write_teacher(folder / "another", seed=4)
        built = {target: build_store(teacher, images, folder / f"{target}.zarr", target) for target in LOSSES}
        foreign = build_store(another, images, folder / "foreign.zarr", "global-features")
    return {**built, "teacher": teacher, "another": another, "foreign": foreign}


@pytest.fixture(params=LOSSES)
def target(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def run(cache: Path, images: Path, out: Path, **changes: Any) -> DistillResult:
    defaults: dict[str, Any] = {"student": "test_vit", "image_size": 32, "lr": 3e-3, "steps": 12, "batch_size": 16,
                                "precision": "fp32", "log_every": 3, "eval_every": 6, "quiet": True}  # fmt: skip
    result = distill(DistillConfig(cache=str(cache), transfer=str(images), out=str(out), **(defaults | changes)))
    assert isinstance(result, DistillResult)
    return result


def curve(out: Path) -> list[dict[str, Any]]:
    timed = ("images_per_second", "data_wait", "seconds")
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key not in timed} for line in lines]


def projections_of(run_directory: Path) -> dict[str, Any]:
    found: dict[str, Any] = load_model(run_directory)[1].provenance["training"]["projections"]
    return found


def test_batches_hold_the_teachers_features_of_just_these_views(target: str, stores: dict[str, Any],
                                                                images: Path) -> None:  # fmt: skip
    dataset = open_dataset(str(stores[target]), str(images))
    batch = CachedViews(dataset, seed=0).load(np.array([3, 0, 20]), 1)
    live = LiveTeacher.open(stores["teacher"], dataset.store, CPU).relabelled(batch)
    assert batch.targets.shape == live.targets.shape
    assert (torch.cosine_similarity(batch.targets, live.targets, dim=-1) > 0.99).all()
    assert not (torch.cosine_similarity(batch.targets, live.targets.roll(1, 0), dim=-1) > 0.99).all()
    assert (batch.valid, batch.num_counted) == (None, None)
    cells = 1 if target == "global-features" else SIDE**2
    assert row_bytes(dataset) == 3 * dataset.size_px**2 + 4 * cells * DIM


def test_a_student_learns_its_teachers_features(target: str, stores: dict[str, Any], images: Path,
                                                tmp_path: Path) -> None:  # fmt: skip
    result = run(stores[target], images, tmp_path / "student", steps=30, eval_every=10)
    main, *_ = FIGURES[target]
    evaluations = [line for line in curve(tmp_path / "student") if main in line]
    assert [line["step"] for line in evaluations] == [10, 20, 30]
    best = min(evaluations, key=lambda line: line[main])
    assert best[main] < evaluations[0][main]
    assert {name: getattr(result, name) for name in FIGURES[target]} == {name: best[name] for name in FIGURES[target]}
    assert (result.best_step, result.loss, result.kl) == (best["step"], LOSSES[target], None)
    if target == "global-features":
        assert result.retrieval is not None
        assert result.retrieval > 1 / 3  # of three held-out views
        assert "finds the teacher's feature of" in str(result)
    else:
        assert f"cosine distance to the teacher's patches {result.cosine_distance:.4f}" in str(result)
    assert "train evaluate" not in str(result)


def test_the_student_is_an_encoder_and_its_projections_lie_beside_it(target: str, stores: dict[str, Any], images: Path,
                                                                     tmp_path: Path) -> None:  # fmt: skip
    out = tmp_path / "student"
    run(stores[target], images, out, steps=2)
    model, info = load_model(out)
    assert (info.task, info.head, info.class_names) == ("classification", "none", ())
    assert set(info.metrics) == {f"held_out_{name}" for name in FIGURES[target]}
    plain = timm.create_model("test_vit", num_classes=0, img_size=32, checkpoint_path=str(out / "model.safetensors"))
    pixels = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(plain.eval()(pixels), model(pixels))
    teacher_sha256 = load_model(stores["teacher"])[1].provenance["weights_sha256"]
    sides, dim = ("both", 768) if target == "global-features" else ("student", DIM)
    assert projections_of(out) == {"sides": sides, "dim": dim, "target": target, "teacher_dim": DIM,
                                   "teacher": "teacher", "teacher_sha256": teacher_sha256}  # fmt: skip
    shapes = {name: tuple(value.shape) for name, value in load_extra(out).items() if name.endswith("weight")}
    assert shapes == ({"projection.student.weight": (768, DIM), "projection.teacher.weight": (768, DIM)}
                      if sides == "both" else {"projection.student.weight": (DIM, DIM, 1, 1)})  # fmt: skip


def test_stop_and_resume_is_the_uninterrupted_run(target: str, stores: dict[str, Any], images: Path, tmp_path: Path,
                                                  monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    cache, student = stores[target], {"student": "test_efficientnet"}
    whole = run(cache, images, tmp_path / "whole", **student)
    stop_at_load(monkeypatch, CachedViews, 8)
    with pytest.raises(TrainingStoppedError, match="stopped at step 8 of 12"):
        run(cache, images, tmp_path / "stopped", **student)
    resumed = run(cache, images, tmp_path / "stopped", resume=True, **student)
    assert curve(tmp_path / "stopped") == curve(tmp_path / "whole")
    assert resumed.to_json() == {**whole.to_json(), "out": resumed.out}
    for name in ("model.safetensors", "extra.safetensors"):
        assert (tmp_path / "stopped" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert run(cache, images, tmp_path / "stopped", resume=True, **student) == resumed


@pytest.mark.parametrize(
    ("student", "target"), [("fastvit_t8", "patch-features"), ("mobilevitv2_050", "global-features"),
                            ("mobilenetv3_small_050", "patch-features")],
)  # fmt: skip
def test_students_by_name(student: str, target: str, stores: dict[str, Any], images: Path, tmp_path: Path) -> None:
    """Maps with other sides than the teacher's; MobileNetV3 has weights behind its map."""
    result = run(stores[target], images, tmp_path / "run", student=student, image_size=64, steps=1, batch_size=4)
    assert result.student == student
    timm.create_model(student, num_classes=0, checkpoint_path=str(tmp_path / "run" / "model.safetensors"))


def test_an_online_run_sees_the_same_views_in_the_same_order(target: str, stores: dict[str, Any], images: Path,
                                                             tmp_path: Path) -> None:  # fmt: skip
    for name, options in (("cached", {}), ("online", {"online_teacher": stores["teacher"]})):
        run(stores[target], images, tmp_path / name, steps=4, lr=1e-4, log_every=1, **options)
    losses = [[line["loss"] for line in curve(tmp_path / name) if "loss" in line] for name in ("cached", "online")]
    assert losses[0] == pytest.approx(losses[1], rel=0.05)
    assert losses[0] != losses[1]


class TestInitFrom:
    def test_takes_the_projections_over(self, target: str, stores: dict[str, Any], images: Path,
                                        tmp_path: Path) -> None:  # fmt: skip
        run(stores[target], images, tmp_path / "first", steps=2, seed=1)
        for option in ("init_from", "student"):
            second = {option: str(tmp_path / "first"), "steps": 1, "lr": 1e-12, "ema": 0.0, "overwrite": True}
            run(stores[target], images, tmp_path / "second", **second)
            for read in (load_extra, lambda folder: load_model(folder)[0].state_dict()):
                before, after = read(tmp_path / "first"), read(tmp_path / "second")
                assert before.keys() == after.keys()
                for name, value in before.items():
                    torch.testing.assert_close(after[name], value, atol=1e-6, rtol=0)

    @pytest.mark.parametrize("option", ["init_from", "student"])
    def test_refuses_projections_of_another_teachers_features(self, option: str, stores: dict[str, Any], images: Path,
                                                              tmp_path: Path) -> None:  # fmt: skip
        run(stores["global-features"], images, tmp_path / "first", steps=1)
        with pytest.raises(UsageError, match="first has projections for the features of teacher, and these are of "
                                             "another: features of one VFM cannot be used with another's"):  # fmt: skip
            run(stores["foreign"], images, tmp_path / "second", **{option: str(tmp_path / "first")})
        assert not (tmp_path / "second").exists()

    def test_another_kind_of_target_gets_new_projections(self, stores: dict[str, Any], images: Path,
                                                         tmp_path: Path) -> None:  # fmt: skip
        run(stores["global-features"], images, tmp_path / "first", steps=1)
        run(stores["patch-features"], images, tmp_path / "second", steps=1, init_from=str(tmp_path / "first"))
        assert projections_of(tmp_path / "second")["target"] == "patch-features"

    def test_names_the_options_of_other_projections(self, stores: dict[str, Any], images: Path,
                                                    tmp_path: Path) -> None:  # fmt: skip
        run(stores["global-features"], images, tmp_path / "first", steps=1, projection_dim=8)
        with pytest.raises(UsageError, match="type --projection both --projection-dim 8"):
            run(stores["global-features"], images, tmp_path / "second", init_from=str(tmp_path / "first"))

    def test_damaged_projections_are_one_line(self, stores: dict[str, Any], images: Path, tmp_path: Path) -> None:
        run(stores["global-features"], images, tmp_path / "first", steps=1)
        (tmp_path / "first" / "extra.safetensors").unlink()
        with pytest.raises(ModelError, match=r"extra\.safetensors does not hold the projections"):
            run(stores["global-features"], images, tmp_path / "second", init_from=str(tmp_path / "first"))


@pytest.mark.parametrize(
    ("target", "options", "message"),
    [
        ("global-features", {"loss": "kl"}, "holds global-features, which --loss kl cannot match: type --loss "
         "contrastive, or reinforce build --target logits or dense-logits"),
        ("patch-features", {"loss": "contrastive"}, "type --loss cosine, or reinforce build --target global-features"),
        ("global-features", {"loss": "cosine"}, "type --loss contrastive, or reinforce build --target patch-features"),
        ("patch-features", {"temperature": 0.1}, "--loss cosine has no temperature: leave --temperature 0.1 out"),
        ("global-features", {"batch_size": 1}, "--batch-size is 1: it must be 2 or more"),
        ("patch-features", {"projection": "both"}, "type --projection student"),
        ("patch-features", {"projection_dim": 32}, "the 64 dimensions of the teacher, not 32: leave --projection-dim"),
        ("global-features", {"task": "segmentation"}, "of no task: leave --task segmentation out"),
        ("patch-features", {"head": "linear"}, "of no task: leave --head linear out"),
    ],
    ids=lambda value: "-".join(map(str, value.values())) if isinstance(value, dict) else "",
)  # fmt: skip
def test_what_does_not_fit_the_features_is_one_line(target: str, options: dict[str, Any], message: str,
                                                    stores: dict[str, Any], images: Path,
                                                    tmp_path: Path) -> None:  # fmt: skip
    with pytest.raises(UsageError, match=message) as caught:
        run(stores[target], images, tmp_path / "run", **options)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_dry_run_says_what_would_be_matched(stores: dict[str, Any], images: Path) -> None:
    plan = distill(DistillConfig(cache=str(stores["global-features"]), transfer=str(images), dry_run=True))
    assert isinstance(plan, dict)
    assert (plan["loss"], plan["temperature"], plan["dimensions"]) == ("contrastive", 0.07, DIM)


@pytest.mark.parametrize(
    ("architecture", "target", "options", "expected"),
    [
        ("open_clip:ViT-L-14/openai", "global-features", {}, ("student", 512)),
        ("vit_large_patch14_dinov2", "global-features", {}, ("both", 768)),
        ("vit_large_patch14_dinov2", "patch-features", {}, ("student", 512)),
        ("open_clip:ViT-L-14/openai", "patch-features", {}, ("student", 512)),
        ("vit_large_patch14_dinov2", "global-features", {"dim": 128}, ("both", 128)),
        ("vit_large_patch14_dinov2", "global-features", {"sides": "student"}, ("student", 512)),
        ("open_clip:ViT-L-14/openai", "global-features", {"sides": "both"}, ("both", 768)),
    ],
)
def test_projections_by_default_are_the_papers(architecture: str, target: str, options: dict[str, Any],
                                               expected: tuple[str, int]) -> None:  # fmt: skip
    teacher = {"architecture": architecture, "name": "x", "weights_sha256": "0"}
    store: Any = SimpleNamespace(plan={"teacher": teacher}, target=target, num_channels=512)
    planned = Projections.planned(store, options.get("sides"), options.get("dim"))
    assert (planned.sides, planned.dim) == expected


def projected(name: str, target: str, sides: Any) -> ProjectedStudent:
    torch.manual_seed(0)
    plan = Projections(sides=sides, dim=5, target=target, teacher_dim=7, teacher="x", teacher_sha256="0")
    return ProjectedStudent(create_model(name, num_classes=0, image_size=64)[0], plan, 64)


class TestProjectedStudent:
    def test_of_images_both_sides_are_projected(self) -> None:
        student, images = projected("test_vit", "global-features", "both"), torch.randn(2, 3, 64, 64)
        targets = torch.randn(2, 7)
        own, other = student.eval()(images, targets)
        torch.testing.assert_close(own, student.student_projection(global_features(student.encoder, images)))
        torch.testing.assert_close(other, student.teacher_projection(targets))
        assert own.shape == other.shape == (2, 5)

    def test_of_patches_the_teachers_map_stays_as_it_is(self) -> None:
        student, images = projected("test_vit", "patch-features", "student"), torch.randn(2, 3, 64, 64)
        targets = torch.randn(2, 3, 3, 5)
        own, other = student.eval()(images, targets)
        map_BDhw = patch_features(student.encoder, images)
        weight = student.student_projection.weight[:, :, 0, 0]
        expected = torch.einsum("bdhw,ed->behw", map_BDhw, weight) + student.student_projection.bias[:, None, None]
        torch.testing.assert_close(own, expected)
        assert torch.equal(other, targets.permute(0, 3, 1, 2))

    def test_only_weights_behind_the_map_are_left_alone(self) -> None:
        student = projected("mobilenetv3_small_050", "patch-features", "student").train()
        frozen = {name for name, parameter in student.named_parameters() if not parameter.requires_grad}
        assert frozen == {"encoder.conv_head.weight", "encoder.conv_head.bias"}
        cosine(*student(torch.randn(2, 3, 64, 64), torch.randn(2, 2, 2, 5))).backward()
        assert all((p.grad is not None) == p.requires_grad for p in student.parameters())
        whole = projected("mobilenetv3_small_050", "global-features", "both")
        assert all(parameter.requires_grad for parameter in whole.parameters())

    def test_positions_and_tokens_stay_free_of_weight_decay(self) -> None:
        assert projected("test_vit", "global-features", "both").no_weight_decay() >= {"encoder.pos_embed",
                                                                                     "encoder.cls_token"}  # fmt: skip


class TestHeldOutFigures:
    """They are those of all rows at once, in whatever batches they come."""

    def test_retrieval(self) -> None:
        student = projected("test_vit", "global-features", "both").eval()
        images, targets = torch.randn(7, 3, 64, 64), torch.randn(7, 7)
        tally = RetrievalTally(0.07)
        with torch.inference_mode():
            for part in (slice(0, 4), slice(4, 7)):
                tally.add(student, images[part], Batch(images[part], targets[part]))
            expected = contrastive(*student(images, targets), 0.07, World(CPU)).item()
        assert tally.figures()["contrastive"] == pytest.approx(expected, rel=1e-5)

    def test_distance(self) -> None:
        student = projected("test_vit", "patch-features", "student").eval()
        images, targets = torch.randn(5, 3, 64, 64), torch.randn(5, 3, 3, 5)
        tally = DistanceTally()
        with torch.inference_mode():
            for part in (slice(0, 4), slice(4, 5)):
                tally.add(student, images[part], Batch(images[part], targets[part]))
            expected = cosine(*student(images, targets)).item()
        assert tally.figures()["cosine_distance"] == pytest.approx(expected, rel=1e-5)

    def test_the_rate_counts_rows_whose_own_teacher_is_nearest(self) -> None:
        teachers = torch.eye(4)
        students = torch.stack([2 * teachers[0], 3 * teachers[1] + teachers[0], teachers[3], teachers[2]])
        assert retrieval_rate(students, teachers) == 0.5


@pytest.mark.parametrize("task", ["classification", "segmentation"])
def test_finetune_gives_the_encoder_a_head(task: Any, target: str, stores: dict[str, Any], images: Path, colours: Path,
                                           scenes: Path, tmp_path: Path) -> None:  # fmt: skip
    run(stores[target], images, tmp_path / "student", steps=2)
    data = {"classification": colours, "segmentation": scenes}[task]
    finetune(FinetuneConfig(model=str(tmp_path / "student"), data=str(data), task=task, out=str(tmp_path / "tuned"),
                            steps=1, lr=(1e-12,), ema=0.0, batch_size=8, precision="fp32", quiet=True, workers=0,
                            head="linear" if task == "segmentation" else None))  # fmt: skip
    model, info = load_model(tmp_path / "tuned")
    assert (info.task, len(info.class_names), info.image_size) == (task, 3, 32)
    assert info.provenance["training"]["before"]["loss"] == LOSSES[target]
    assert not {name for name in load_extra(tmp_path / "tuned") if name.startswith("projection.")}
    before = load_model(tmp_path / "student")[0].state_dict()
    after = (model.encoder if task == "segmentation" else model).state_dict()
    for name, value in before.items():
        torch.testing.assert_close(after[name], value, atol=1e-6, rtol=0)
