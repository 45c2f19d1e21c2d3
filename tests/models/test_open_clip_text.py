"""Text towers of open_clip's pairs: kept when a pair is imported, loaded again with its scale, refused by name."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from reinforce.errors import ModelError, UsageError
from reinforce.import_model import ImportModelConfig, import_model
from reinforce.models import create_model, load_extra, load_model, save_model
from reinforce.models.open_clip_text import Tokenizer, load_text_tower, text_config

NAME = "reinforce-test-tiny-words"
CAPTIONS = ["a red square", "zwei Hände", ""]


@pytest.fixture(scope="module")
def pair() -> Any:
    """An untrained pair that open_clip knows by NAME."""
    import open_clip

    vision = {"image_size": 32, "layers": 1, "width": 64, "patch_size": 8}
    text = {"context_length": 8, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1}
    open_clip.factory._MODEL_CONFIGS[NAME] = {"embed_dim": 16, "vision_cfg": vision, "text_cfg": text}
    made = open_clip.create_model(NAME)
    with torch.no_grad():
        made.logit_scale.fill_(3.0)
    return made.eval()


def imported(pair: nn.Module, folder: Path, prefix: str = "") -> Path:
    """What import-model makes of the pair's checkpoint; with a prefix, text tensors lie below "text."."""
    nested = {name if name.startswith(("visual.", "logit")) else prefix + name: value
              for name, value in pair.state_dict().items()}  # fmt: skip
    torch.save(nested, folder / "pair.pt")
    import_model(ImportModelConfig(arch=f"open_clip:{NAME}", weights=str(folder / "pair.pt"), out=str(folder / "m")))
    return folder / "m"


@pytest.mark.parametrize("prefix", ["", "text."], ids=["beside the image tower", "below text."])
@torch.inference_mode()
def test_an_imported_pair_embeds_as_open_clip_does(pair: Any, tmp_path: Path, prefix: str) -> None:
    import open_clip

    tower = load_text_tower(str(imported(pair, tmp_path, prefix)))
    expected = pair.encode_text(open_clip.get_tokenizer(NAME)(CAPTIONS))
    assert torch.allclose(tower.module(tower.config.tokenizer(CAPTIONS)), expected, atol=1e-6)
    assert tower.scale == pytest.approx(20.0855, rel=1e-4)
    assert load_model(tmp_path / "m")[1].head == "none"


def test_only_the_image_tower_decides_the_models_hash(pair: Any, tmp_path: Path) -> None:
    """A teacher is the same one with and without the text tower beside it."""
    model, info = load_model(imported(pair, tmp_path))
    alone = save_model(tmp_path / "alone", model, info)
    assert alone.provenance["weights_sha256"] == load_model(tmp_path / "m")[1].provenance["weights_sha256"]


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        pytest.param("alone", ModelError, "has no text tower: import the whole pair again", id="image tower alone"),
        pytest.param("timm", UsageError, "timm has no text tower, as it is no open_clip pair", id="no pair"),
        pytest.param("open_clip:ViT-B-16-SigLIP/webli", UsageError, "does not go with open_clip's own", id="tokenizer"),
    ],
)
def test_what_has_no_text_tower_is_refused_in_one_line(
    pair: Any, tmp_path: Path, name: str, error: type[Exception], message: str
) -> None:
    for folder, architecture in (("alone", f"open_clip:{NAME}"), ("timm", "test_vit")):
        save_model(tmp_path / folder, *create_model(architecture, num_classes=0))
    with pytest.raises(error, match=message) as caught:
        load_text_tower(str(tmp_path / name) if "open_clip" not in name else name)
    assert "\n" not in str(caught.value)


def test_a_checkpoint_without_text_leaves_nothing_beside_the_model(pair: Any, tmp_path: Path) -> None:
    visual = {name: value for name, value in pair.state_dict().items() if name.startswith("visual.")}
    torch.save(visual, tmp_path / "visual.pt")
    import_model(
        ImportModelConfig(arch=f"open_clip:{NAME}", weights=str(tmp_path / "visual.pt"), out=str(tmp_path / "m"))
    )
    assert load_extra(tmp_path / "m") == {}


def test_tokens_are_framed_cut_and_padded() -> None:
    tokens = Tokenizer(5)(["a cat", "a cat on a mat", ""])
    start, end = 49406, 49407
    assert tokens.dtype == torch.int64
    assert tokens[0].tolist() == [start, 320, 2368, end, 0]
    assert tokens[1].tolist()[-1] == end
    assert tokens[2].tolist() == [start, end, 0, 0, 0]


def test_a_tokenizer_survives_pickling(pair: Any) -> None:
    tokenizer = text_config(NAME).tokenizer
    tokenizer(CAPTIONS)
    assert torch.equal(pickle.loads(pickle.dumps(tokenizer))(CAPTIONS), tokenizer(CAPTIONS))
