"""Class names as queries: the zero-shot classifier of an open_clip pair, in the space of its images."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from safetensors.torch import load_file, save_file

from reinforce.curate.curate import CurateConfig, curate
from reinforce.curate.curated import CuratedSet
from reinforce.curate.embeddings import check_unit_length
from reinforce.curate.text_queries import published_templates, text_queries
from reinforce.embed import EmbedConfig, embed
from reinforce.errors import ModelError, ReinforceError, UnknownNameError, UsageError
from reinforce.import_model import ImportModelConfig, import_model
from reinforce.models import create_model, save_model
from reinforce.teacher import Teacher

NAME, WIDTH, SIZE_PX = "reinforce-test-tiny-queries", 16, 16
CLASSES = ("annual_crop", "Highway", "sea or lake")
SENTENCES = ("a photo of a {}.", "{} from above", "a drawing of {}")


@pytest.fixture(scope="module", autouse=True)
def two_configurations() -> None:
    """A pair that fits into a test, and one whose tokenizer would have to be downloaded."""
    vision = {"image_size": SIZE_PX, "layers": 1, "width": 64, "patch_size": 8}
    text = {"context_length": 16, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2}
    pair = {"embed_dim": WIDTH, "vision_cfg": vision, "text_cfg": text}
    open_clip.factory._MODEL_CONFIGS[NAME] = pair
    open_clip.factory._MODEL_CONFIGS[f"{NAME}-hf"] = pair | {"text_cfg": text | {"hf_tokenizer_name": "some/name"}}


@pytest.fixture(scope="module")
def original(two_configurations: None) -> Any:
    """An untrained pair as open_clip has it."""
    torch.manual_seed(0)
    pair = open_clip.create_model(NAME).eval()
    with torch.no_grad():  # untrained, its features would hardly depend on the words
        pair.token_embedding.weight.mul_(30)
    return pair


@pytest.fixture(scope="module")
def pair(original: Any, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The same, imported."""
    folder = tmp_path_factory.mktemp("models")
    torch.save(original.state_dict(), folder / "pair.pt")
    import_model(ImportModelConfig(arch=f"open_clip:{NAME}", weights=str(folder / "pair.pt"), out=str(folder / "pair")))
    return str(folder / "pair")


def queries(model: str, names: tuple[str, ...] = CLASSES, **options: Any) -> tuple[tuple[str, ...], np.ndarray]:
    return text_queries(model, names, **{"device": "cpu", "batch_size": 4, "templates": SENTENCES} | options)


def test_a_query_is_the_zero_shot_classifier_of_its_class(pair: str, original: Any) -> None:
    """Against open_clip's own encode_text, sentence by sentence."""
    keys, vectors = queries(pair)
    assert keys == CLASSES
    assert (vectors.shape, vectors.dtype) == ((3, WIDTH), np.float16)
    check_unit_length(vectors, (WIDTH,), "queries")
    tokenize = open_clip.SimpleTokenizer(context_length=16)
    for vector, words in zip(vectors, ("annual crop", "Highway", "sea or lake"), strict=True):
        with torch.inference_mode():
            rows = [original.encode_text(tokenize([s.format(words)]), normalize=True)[0].double() for s in SENTENCES]
        mean = torch.stack(rows).mean(dim=0)
        assert np.allclose(vector, mean / mean.norm(), atol=1e-3)
    assert (vectors.astype(np.float64) @ vectors.T.astype(np.float64))[0, 1] < 0.99  # the comparison can fail


def test_published_templates_give_what_open_clip_gives(pair: str, original: Any) -> None:
    tokenize, names = open_clip.SimpleTokenizer(context_length=16), ["annual crop", "Highway"]
    expected = open_clip.build_zero_shot_classifier(original, tokenize, names, open_clip.OPENAI_IMAGENET_TEMPLATES)
    _, vectors = queries(pair, CLASSES[:2], templates=None, batch_size=64)
    assert np.allclose(vectors, expected.T.numpy(), atol=1e-3)


def test_images_of_the_pair_are_in_the_same_space(pair: str, original: Any) -> None:
    """Cosines of texts and images as open_clip has them."""
    teacher = Teacher(pair, device="cpu", dtype="float32", threads=1, batch_size=5, target="global-features")
    images = np.random.default_rng(0).integers(0, 256, (5, SIZE_PX, SIZE_PX, 3), np.uint8)
    features = teacher.targets(images).astype(np.float64)
    _, vectors = queries(pair, ("highway",), templates=("a {}",))
    ours = features @ vectors[0] / np.linalg.norm(features, axis=1)
    with torch.inference_mode():
        theirs = original.encode_image(teacher.preprocess(torch.from_numpy(images)), normalize=True)
        text = original.encode_text(open_clip.SimpleTokenizer(context_length=16)(["a highway"]), normalize=True)
    assert np.allclose(ours, (theirs @ text.T)[:, 0], atol=2e-3)


def test_vectors_do_not_hang_on_batches_or_on_other_classes(pair: str) -> None:
    _, vectors = queries(pair)
    for batch_size in (1, 2, 9, 64):
        assert np.allclose(queries(pair, batch_size=batch_size)[1], vectors, atol=1e-3)
    keys, backwards = queries(pair, CLASSES[::-1])
    assert keys == CLASSES[::-1]
    assert (backwards[::-1] == vectors).all()


@pytest.mark.parametrize("name", ["{0}", "{}", "100%", "caf\udce9", "日本"])
def test_names_are_words_whatever_they_hold(pair: str, name: str) -> None:
    keys, vectors = queries(pair, (name,), templates=("a {} in {curly} braces",))
    assert keys == (name,)
    check_unit_length(vectors, (WIDTH,), "queries")


def test_lists_of_templates_hold_a_place_once() -> None:
    assert [len(published_templates(name)) for name in ("openai", "simple")] == [80, 7]
    assert all(template.count("{}") == 1 for name in ("openai", "simple") for template in published_templates(name))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param({"names": ()}, "need class names: type a labelled dataset as --query", id="no classes"),
        pytest.param({"names": ("a", "_ _")}, "class name '_ _' has no letters", id="no letters"),
        pytest.param({"names": ("sea_lake", "b", "Sea lake")}, "two classes read 'sea lake'", id="the same words"),
        pytest.param({"templates": ()}, "there are no templates: write one a line", id="no templates"),
        pytest.param({"templates": ("a {}.", "no place")}, "'no place' holds {} 0 times, not once", id="no place"),
        pytest.param({"templates": ("{} and {}",)}, "holds {} 2 times, not once: write it as", id="two places"),
    ],
)
def test_what_cannot_be_a_query_is_refused_before_the_model_is_read(change: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        queries("no-such-model", **change)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("model", "error", "message"),
    [
        pytest.param("timm", UsageError, "has no text tower, as it is no open_clip pair: type open", id="no pair"),
        pytest.param("alone", ModelError, "has no text tower: import the whole pair again", id="image tower alone"),
        pytest.param("no-such-model", UnknownNameError, "no-such-model", id="unknown"),
        pytest.param("foreign", UsageError, "does not go with open_clip's own tokenizer", id="tokenizer"),
    ],
)
def test_a_model_without_a_text_tower_is_refused(
    tmp_path: Path, model: str, error: type[ReinforceError], message: str
) -> None:
    known = {"timm": "test_vit", "alone": f"open_clip:{NAME}", "foreign": f"open_clip:{NAME}-hf"}
    if model in known:
        save_model(tmp_path / model, *create_model(known[model], num_classes=0))
        model = str(tmp_path / model)
    with pytest.raises(error, match=message) as caught:
        queries(model)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("weight", [np.nan, np.inf, 0.0])
def test_a_tower_without_a_direction_is_named(pair: str, tmp_path: Path, weight: float) -> None:
    broken = shutil.copytree(pair, tmp_path / "broken")
    state = load_file(broken / "extra.safetensors")
    last = next(name for name in state if name.endswith("text_projection"))
    save_file(state | {last: torch.full_like(state[last], weight)}, broken / "extra.safetensors")
    with pytest.raises(ModelError, match="gives no direction for class 'annual_crop': type --dtype float32"):
        queries(str(broken))


def test_curate_asks_a_gallery_of_the_pair_by_class_names(pair, images, task, tmp_path, monkeypatch):
    monkeypatch.setenv("REINFORCE_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    embed(EmbedConfig(gallery=str(images), encoder=(pair,), batch_size=8, workers=0, quiet=True, out="web.zarr"))
    request = {"gallery": "web.zarr", "query": str(task), "strategy": "text", "encoder": (pair,), "size": 9,
               "quiet": True}  # fmt: skip
    curate(CurateConfig(**request, templates="simple"))
    found = CuratedSet.open("curated")
    assert {item.query for item in found.items} <= {"blue", "green", "red"}
    assert (len(found.items), found.queries, found.summary["num_queries"]) == (9, (), 3)
    curate(CurateConfig(**request, templates="simple", shots=1, out="united"))
    united = CuratedSet.open("united")
    assert united.items == found.items
    assert len(united.queries) == 3
