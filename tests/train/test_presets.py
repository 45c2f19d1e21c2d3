"""Presets against the paper's sentences (A.4), restated here one by one; and how they become a verb's options."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import pickle
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import click
import pytest

from reinforce.command import field_docs, run_group
from reinforce.errors import UnknownNameError, UsageError
from reinforce.paper import DATASETS, RECIPES
from train.adapt import AdaptConfig
from train.cli import command
from train.distill import DistillConfig
from train.finetune import FinetuneConfig
from train.options import TrainOptions
from train.presets import check_preset, find_recipe, preset_config
from train.pretrain.pretrain import PretrainConfig

CONFIGS = {"adapt": AdaptConfig, "distill": DistillConfig, "finetune": FinetuneConfig, "pretrain": PretrainConfig}

SENTENCES: dict[str, dict[str, dict[str, Any]]] = {
    "VFM finetuning": {
        "adapt places365-50": {"epochs": 200, "batch_size": 512, "shots": 50},
        "adapt places365-250": {"epochs": 100, "batch_size": 512, "shots": 250},
        "adapt places365-1000": {"epochs": 100, "batch_size": 512, "shots": 1000},
        "adapt ham10k-100": {"epochs": 200, "batch_size": 128, "shots": 100},
        "adapt ham10k-250": {"epochs": 200, "batch_size": 128, "shots": 250},
        "adapt ham10k-500": {"epochs": 200, "batch_size": 128, "shots": 500},
        "adapt ham10k-1000": {"epochs": 200, "batch_size": 128, "shots": 1000},
        "adapt eurosat-5": {"epochs": 500, "batch_size": 50, "shots": 5},
        "adapt eurosat-10": {"epochs": 400, "batch_size": 100, "shots": 10},
        "adapt eurosat-25": {"epochs": 300, "batch_size": 128, "shots": 25},
        "adapt imagenet-1pct": {"epochs": 100, "batch_size": 1024, "mode": "linear-probe"},
        "adapt imagenet-10pct": {"epochs": 25, "batch_size": 512},
        "adapt imagenet-25pct": {"epochs": 25, "batch_size": 512},
        "adapt imagenet-50pct": {"epochs": 25, "batch_size": 512},
        "adapt ade20k-1200": {"epochs": 300, "batch_size": 32, "num_labelled": 1200},
        "adapt ade20k-2401": {"epochs": 250, "batch_size": 32, "num_labelled": 2401},
        "adapt ade20k-4802": {"epochs": 200, "batch_size": 32, "num_labelled": 4802},
        "adapt ade20k-9605": {"epochs": 100, "batch_size": 32, "num_labelled": 9605},
    },
    "Target model finetuning": {
        "finetune places365-50": {"epochs": 200, "batch_size": 512, "shots": 50},
        "finetune places365-250": {"epochs": 100, "batch_size": 512, "shots": 250},
        "finetune places365-1000": {"epochs": 100, "batch_size": 512, "shots": 1000},
        "finetune ham10k-100": {"epochs": 200, "batch_size": 128, "shots": 100},
        "finetune ham10k-250": {"epochs": 200, "batch_size": 128, "shots": 250},
        "finetune ham10k-500": {"epochs": 200, "batch_size": 128, "shots": 500},
        "finetune ham10k-1000": {"epochs": 200, "batch_size": 128, "shots": 1000},
        "finetune eurosat-5": {"epochs": 800, "batch_size": 50, "shots": 5},
        "finetune eurosat-10": {"epochs": 600, "batch_size": 100, "shots": 10},
        "finetune eurosat-25": {"epochs": 400, "batch_size": 128, "shots": 25},
        "finetune imagenet-1pct": {"epochs": 50, "batch_size": 512},
        "finetune imagenet-10pct": {"epochs": 50, "batch_size": 512},
        "finetune imagenet-25pct": {"epochs": 50, "batch_size": 512},
        "finetune imagenet-50pct": {"epochs": 50, "batch_size": 512},
        "finetune ade20k-1200": {"epochs": 500, "batch_size": 32, "num_labelled": 1200},
        "finetune ade20k-2401": {"epochs": 400, "batch_size": 32, "num_labelled": 2401},
        "finetune ade20k-4802": {"epochs": 300, "batch_size": 32, "num_labelled": 4802},
        "finetune ade20k-9605": {"epochs": 200, "batch_size": 32, "num_labelled": 9605},
    },
    "Distillation of finetuned VFM": {
        "distill places365-cc3m": {"epochs": 100, "lr": 7e-4, "batch_size": 512},
        "distill ham10k-cc3m": {"epochs": 100, "lr": 7e-4, "batch_size": 512},
        "distill eurosat-cc3m": {"epochs": 100, "lr": 7e-4, "batch_size": 1024},
        "distill imagenet-cc3m": {"epochs": 150, "lr": 3e-3, "batch_size": 1024},
        "distill ade20k-cc3m": {"epochs": 15, "lr": 7e-4, "batch_size": 128},
        "distill places365-related": {"epochs": 200, "lr": 7e-4, "batch_size": 512},
        "distill ham10k-related": {"epochs": 7_000, "lr": 7e-4, "batch_size": 128},
        "distill eurosat-related": {"epochs": 10_000, "lr": 7e-4, "batch_size": 1024},
        "distill imagenet-related": {"epochs": 300, "lr": 3e-3, "batch_size": 1024},
        "distill ade20k-related": {"epochs": 2_000, "lr": 7e-4, "batch_size": 128},
        "distill ham10k-curated": {"steps": 550_000, "lr": 7e-4, "batch_size": 128},
        "distill ade20k-curated": {"steps": 200_000, "lr": 7e-4, "batch_size": 128},
        "distill eurosat-curated": {"steps": 30_000, "lr": 7e-4, "batch_size": 1024},
    },
    "Task-agnostic VFM feature distillation": {
        "distill features-cc3m": {"epochs": 100, "batch_size": 2048, "lr": 1e-3},
        "distill features-places365": {"epochs": 200, "batch_size": 2048, "lr": 1e-3},
        "distill features-imagenet": {"epochs": 200, "batch_size": 2048, "lr": 1e-3},
        "distill features-ade20k": {"epochs": 10_000, "batch_size": 1024, "lr": 1e-3},
        "distill features-ham10k": {"epochs": 20_000, "batch_size": 1024, "lr": 1e-3},
        "distill features-eurosat": {"epochs": 10_000, "batch_size": 2048, "lr": 1e-3},
    },
    "DINO pretraining": {
        "pretrain dino-cc3m": {"epochs": 100, "batch_size": 1024, "lr": 3e-3, "transfer": "cc3m"},
        "pretrain dino-places365": {"epochs": 200, "batch_size": 1024, "lr": 3e-3, "transfer": "places365@train"},
        "pretrain dino-imagenet": {"epochs": 300, "batch_size": 1024, "lr": 3e-3, "transfer": "imagenet@train"},
        "pretrain dino-eurosat": {"epochs": 10_000, "batch_size": 1024, "lr": 3e-3, "transfer": "eurosat@train"},
        "pretrain dino-ade20k": {"epochs": 15_000, "batch_size": 1024, "lr": 3e-3, "transfer": "ade20k@train"},
        "pretrain dino-ham10k": {"epochs": 20_000, "batch_size": 1024, "lr": 3e-3, "transfer": "ham10k@train"},
    },
    "ImageNet and CLIP pretraining": {
        "pretrain supervised-imagenet": {"epochs": 300, "batch_size": 1024, "lr": 2e-3, "data": "imagenet"},
        "pretrain clip": {"steps": 200_000, "batch_size": 65_536, "lr": 5e-4},
        "pretrain clip-affinity": {"steps": 200_000, "batch_size": 65_536, "lr": 5e-4},
    },
}
RESTATED = {name: values for presets in SENTENCES.values() for name, values in presets.items()}


def recipe(name: str) -> Any:
    return find_recipe(*name.split(" "))


class TestAgainstThePaper:
    @pytest.mark.parametrize("name", RESTATED)
    def test_numbers(self, name: str) -> None:
        assert recipe(name).values.items() >= RESTATED[name].items()
        assert {"epochs", "steps"} & {*recipe(name).values} == {"epochs", "steps"} & {*RESTATED[name]}

    def test_there_are_no_others(self) -> None:
        assert Counter(f"{one.verb} {one.name}" for one in RECIPES) == Counter([*RESTATED])

    def test_classification_has_256_px_and_segmentation_512(self) -> None:
        """VFMs with patches of 14 px see 252 of the 256."""
        sizes = {(one.verb, one.name.startswith("ade20k"), one.values["image_size"]) for one in RECIPES}
        assert sizes == {
            ("adapt", False, 252), ("finetune", False, 256), ("distill", False, 256), ("pretrain", False, 256),
            ("adapt", True, 512), ("finetune", True, 512), ("distill", True, 512),
        }  # fmt: skip

    def test_percentages_are_of_imagenets_training_images(self) -> None:
        counts = {name: recipe(f"finetune imagenet-{name}pct").values["num_labelled"] for name in (1, 10, 25, 50)}
        assert counts == {percent: round(1_281_167 * percent / 100) for percent in counts}

    def test_the_numbers_of_ade20ks_labels_are_halves_of_the_papers_training_split(self) -> None:
        names = [one.name for one in RECIPES if one.verb == "adapt" and one.name.startswith("ade20k")]
        assert sorted(names) == sorted(f"ade20k-{(20_210 - 1000) // 2**halvings}" for halvings in (1, 2, 3, 4))

    def test_learning_rates_to_try_span_the_papers_range_at_equal_ratios(self) -> None:
        rates = recipe("finetune eurosat-5").values["lr"]
        assert (rates[0], rates[-1]) == (7e-6, 3e-3)
        ratio = (rates[-1] / rates[0]) ** (1 / (len(rates) - 1))
        assert [high / low for low, high in pairwise(rates)] == pytest.approx([ratio] * 5, rel=0.04)
        assert all(one.values["lr"] == rates for one in RECIPES if one.verb in ("adapt", "finetune"))

    def test_every_validation_image_chooses(self) -> None:
        sizes = {"places365": 3650, "eurosat": 5400, "ham10k": 193, "ade20k": 1000, "imagenet": 10_000}
        default = next(field.default for field in dataclasses.fields(FinetuneConfig) if field.name == "val_limit")
        for one in RECIPES:
            if one.verb in ("adapt", "finetune"):
                assert one.values.get("val_limit", default) >= sizes[one.name.partition("-")[0]]


class TestRecipesFitTheVerbs:
    @pytest.mark.parametrize("one", RECIPES, ids=lambda one: f"{one.verb} {one.name}")
    def test_every_value_is_an_option_and_makes_a_config(self, one: Any) -> None:
        config_class = CONFIGS[one.verb]
        needed = {"cache": "c.zarr"} if one.verb == "distill" else {"model": "fastvit_t8", "out": "runs/x"}
        chosen = {option: allowed[0] for option, allowed in one.needs.items()}
        config = preset_config(config_class, one.name, **needed | chosen)
        assert {name: getattr(config, name) for name in one.values} == one.values
        assert one.values.keys() <= field_docs(config_class).keys()

    def test_data_are_called_by_known_names(self) -> None:
        called = {one.values[key].removesuffix("@train")
                  for one in RECIPES for key in ("data", "transfer") if key in one.values}  # fmt: skip
        assert called <= {dataset.name for dataset in DATASETS}

    @pytest.mark.parametrize("config_class", CONFIGS.values())
    def test_every_training_verb_has_the_option(self, config_class: type) -> None:
        assert "preset" in {field.name for field in dataclasses.fields(config_class)}
        assert config_class.preset_verb in CONFIGS  # type: ignore[attr-defined]


def finetune(**typed: Any) -> FinetuneConfig:
    return FinetuneConfig(**{"preset": "eurosat-10", "model": "fastvit_t8", "out": "runs/x"} | typed)


class TestWhatIsTypedWins:
    @pytest.mark.parametrize(
        ("typed", "expected"),
        [
            ({}, {"epochs": 600, "steps": None, "shots": 10, "batch_size": 100, "data": "eurosat"}),
            ({"batch_size": 64, "data": "mine"}, {"batch_size": 64, "data": "mine", "epochs": 600}),
            ({"lr": (1e-3,)}, {"lr": (1e-3,)}),
            ({"steps": 100}, {"steps": 100, "epochs": None}),
            ({"num_labelled": 50}, {"num_labelled": 50, "shots": None}),
            ({"steps": None}, {"epochs": 600}),
            ({"batch_size": 64, "preset": "eurosat-5"}, {"batch_size": 64, "epochs": 800}),
        ],
        ids=["nothing", "others", "rates", "steps, not epochs", "labels, not shots", "None", "a default, typed"],
    )
    def test_values(self, typed: dict[str, Any], expected: dict[str, Any]) -> None:
        config = finetune(**typed)
        assert {name: getattr(config, name) for name in expected} == expected

    def test_a_config_can_be_changed_copied_and_read_back(self) -> None:
        config = finetune(batch_size=64)
        assert dataclasses.replace(config, batch_size=32).batch_size == 32
        assert dataclasses.replace(config, batch_size=32).epochs == 600
        assert FinetuneConfig(**dataclasses.asdict(config)) == config
        assert pickle.loads(pickle.dumps(config)) == config

    def test_without_a_preset_nothing_changes(self) -> None:
        plain = FinetuneConfig(model="fastvit_t8", data="d", out="runs/x")
        assert (plain.preset, plain.epochs, plain.batch_size, plain.lr) == (None, None, 64, ())


@pytest.mark.parametrize(
    ("config_class", "typed", "message"),
    [
        (FinetuneConfig, {"preset": "eurosat-cc3m"},
         "--preset eurosat-cc3m is of train distill: train finetune has eurosat-5, eurosat-10, eurosat-25"),
        (DistillConfig, {"preset": "eurosat-10"},
         "is of train adapt and train finetune: train distill has eurosat-cc3m, eurosat-related, eurosat-curated"),
        (FinetuneConfig, {"preset": "supervised-imagenet"}, "train pretrain: train finetune has imagenet-1pct"),
        (FinetuneConfig, {"preset": "clip"}, r"is of train pretrain: train finetune has places365-50, \.\.\."),
        (AdaptConfig, {"preset": "eurosat-11"}, "unknown preset 'eurosat-11', did you mean 'eurosat-10'"),
        (DistillConfig, {"preset": "features-cc3m", "loss": "kl", "cache": "x"},
         "features-cc3m is not for --loss kl: type --loss contrastive or --loss cosine"),
        (PretrainConfig, {"preset": "dino-cc3m", "method": "supervised", "model": "x", "out": "y"},
         "dino-cc3m is not for --method supervised: type --method dino, or another preset"),
        (FinetuneConfig, {"preset": "eurosat-10", "model": "x", "out": "y", "steps": 1, "epochs": 1},
         "--epochs and --steps exclude each other"),
    ],
    ids=lambda value: value.get("preset") if isinstance(value, dict) else "",
)  # fmt: skip
def test_what_does_not_fit_is_said_on_one_line(config_class: type, typed: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        config_class(**typed)
    assert "\n" not in str(caught.value)
    assert isinstance(caught.value, UnknownNameError) == ("unknown" in message)


@pytest.mark.parametrize(
    ("preset", "loss", "fits"),
    [
        ("features-cc3m", "kl", False), ("features-cc3m", "cosine", True), ("features-cc3m", None, True),
        ("eurosat-cc3m", "kl", True), ("eurosat-cc3m", "contrastive", False), (None, "contrastive", True),
    ],
)  # fmt: skip
def test_a_preset_is_held_against_what_the_store_asks_for(preset: str | None, loss: str | None, fits: bool) -> None:
    config = DistillConfig(cache="c.zarr", **({"loss": None} if preset else {}), preset=preset)
    with (
        contextlib.nullcontext() if fits else pytest.raises(UsageError, match=f"is not for --loss {loss}: type --loss")
    ):
        check_preset(config, loss=loss)


class TestCommandLine:
    def parsed(self, verb: str, line: str) -> dict[str, Any]:
        found = command.get_command(click.Context(command), verb)
        assert found is not None
        return found.make_context(verb, line.split()).params

    def test_required_options_count_as_given(self) -> None:
        assert self.parsed("finetune", "--model x --out y --preset eurosat-10")["preset"] == "eurosat-10"
        with pytest.raises(click.MissingParameter):
            self.parsed("finetune", "--model x --out y")

    def test_errors_are_one_line_with_status_2(self, capsys: pytest.CaptureFixture[str]) -> None:
        for line in ("finetune --preset eurosat-cc3m --model x --out y", "finetune --preset eurosat-10 --model x"):
            assert run_group(command, line.split()) == 2
            assert capsys.readouterr().err.count("\n") == 1

    def test_config_json_holds_the_resolved_values(self, colours: Path, tmp_path: Path) -> None:
        typed = f"--data {colours} --shots 2 --steps 2 --image-size 32 --lr 1e-3 --batch-size 4 --policy center --quiet"
        line = f"finetune --preset eurosat-10 --model mobilevitv2_050 --out run --device cpu --workers 0 {typed}"
        assert run_group(command, line.split()) == 0
        config = json.loads((tmp_path / "run" / "config.json").read_text())
        expected = {"preset": "eurosat-10", "steps": 2, "epochs": None, "shots": 2, "val_limit": 5400, "lr": [1e-3]}
        assert config.items() >= expected.items()
        without = line.replace("--preset eurosat-10", "--val-limit 5400")
        assert run_group(command, [*without.split(), "--resume"]) == 0

    def test_help_names_the_option(self) -> None:
        assert "`reinforce list`" in field_docs(TrainOptions)["preset"]
