"""Text towers of open_clip's pairs with their tokenizer. open_clip is imported only when one is asked for.

A model directory that has a text tower keeps it in extra.safetensors, under names that begin with "text_tower.", beside
"log_scale", the logarithm of what multiplies cosines.

B captions, L tokens a caption, E dimensions of the joint space.
"""

from __future__ import annotations

import contextlib
import functools
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from torch import Tensor, nn

from reinforce.errors import ModelError, UnknownNameError, UsageError
from reinforce.models.checkpoint import load_strictly
from reinforce.models.create import find_directory
from reinforce.models.directory import EXTRA, load_extra, read_info
from reinforce.models.open_clip_encoder import PREFIX, import_open_clip

DEFAULT_TEXT_TOWER = "ViT-S-32-alt"
"""10 layers of width 256, 20 million parameters, a joint space of 256."""
TOWER_PREFIX, LOG_SCALE = "text_tower.", "log_scale"
NUM_TOKENS = 49408
"""Of CLIP's byte pair encoding, which is the only tokenizer that comes with open_clip."""


@dataclass(frozen=True)
class Tokenizer:
    """CLIP's byte pair encoding, cut or padded to a length. Picklable; equal captions give equal tokens."""

    context_length: int

    def __call__(self, captions: Sequence[str]) -> Tensor:
        """int64 (B, L), start and end tokens included; padding is 0."""
        return cast(Tensor, _simple_tokenizer(self.context_length)(list(captions)))


@dataclass(frozen=True)
class TextConfig:
    """The text half of open_clip's configuration `name`."""

    name: str
    embed_dim: int
    """E."""
    tokenizer: Tokenizer


def text_config(name: str) -> TextConfig:
    """The text half of open_clip's configuration `name`, such as ViT-B-32.

    Raises MissingExtraError, UnknownNameError, and UsageError for captioning models and for towers or tokenizers of
    Hugging Face, which would have to be downloaded.
    """
    open_clip = import_open_clip("a text tower")
    if name not in open_clip.list_models():
        raise UnknownNameError("text tower", name, open_clip.list_models())
    config: Mapping[str, Any] = open_clip.get_model_config(name)
    text: Mapping[str, Any] = config["text_cfg"]
    foreign = any(text.get(key) for key in ("hf_model_name", "hf_tokenizer_name", "tokenizer_kwargs"))
    if foreign or "multimodal_cfg" in config or text.get("vocab_size", NUM_TOKENS) < NUM_TOKENS:
        raise UsageError(f"the text tower of {name} does not go with open_clip's own tokenizer: "
                         f"type {DEFAULT_TEXT_TOWER} or ViT-B-32")  # fmt: skip
    return TextConfig(name, int(config["embed_dim"]), Tokenizer(int(text.get("context_length", 77))))


@dataclass(frozen=True)
class TextTower:
    """One with weights, in eval mode."""

    module: nn.Module
    """Maps tokens (B, L) to (B, E), not normalised."""
    config: TextConfig
    scale: float
    """What multiplies cosines between images and texts: exp of the pair's logit scale."""


def create_text_tower(config: TextConfig) -> nn.Module:
    """Untrained: maps tokens (B, L) to (B, E), not normalised. Raises ModelError where open_clip cannot make it."""
    return cast(nn.Module, _create_pair(config.name).text)


def load_text_tower(name: str) -> TextTower:
    """The text tower of a model directory, catalog name or "open_clip:MODEL/PRETRAINED".

    Raises UsageError for what is no open_clip pair, ModelError where the text tower is not there, and as `text_config`.
    """
    directory = find_directory(name)
    architecture = name if directory is None else read_info(directory).architecture
    if not architecture.startswith(PREFIX):
        raise UsageError(f"{name} has no text tower, as it is no open_clip pair: type open_clip:MODEL/PRETRAINED, or a "
                         "directory that was imported from such a pair")  # fmt: skip
    model_name, _, pretrained = architecture.removeprefix(PREFIX).partition("/")
    config = text_config(model_name)
    if directory is None:
        pair = _create_pair(model_name, pretrained or None)
        return TextTower(pair.text.eval(), config, float(pair.logit_scale.detach().exp()))
    extra = load_extra(directory)
    state = {name.removeprefix(TOWER_PREFIX): value for name, value in extra.items() if name.startswith(TOWER_PREFIX)}
    if not state or LOG_SCALE not in extra:
        raise ModelError(f"{directory} has no text tower: import the whole pair again, reinforce import-model "
                         f"--arch {architecture} --weights FILE --out DIR")  # fmt: skip
    module = create_text_tower(config)
    load_strictly(module, state, str(directory / EXTRA))
    return TextTower(module.eval(), config, float(extra[LOG_SCALE].exp()))


def text_half(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Text tower and scale of a pair's checkpoint, under the names of extra.safetensors; {} where it has no text tower.

    open_clip and OpenAI keep a text tower's tensors beside the image tower's ("visual."), or below "text.".
    """
    if "logit_scale" not in state:
        return {}
    is_nested = any(name.startswith("text.") for name in state)
    own = ("text.",) if is_nested else ("token_embedding.", "positional_embedding", "transformer.", "ln_final.",
                                        "text_projection")  # fmt: skip
    tower = {TOWER_PREFIX + name.removeprefix("text."): value for name, value in state.items() if name.startswith(own)}
    return {**tower, LOG_SCALE: state["logit_scale"].float()} if tower else {}


def _create_pair(name: str, pretrained: str | None = None) -> Any:
    try:
        with _without_warnings():
            return import_open_clip("a text tower").create_model(name, pretrained=pretrained, force_custom_text=True)
    except Exception as error:  # hub clients raise errors of several libraries
        reason = " ".join(str(error).split())[:160]
        raise ModelError(f"open_clip cannot create {name} ({type(error).__name__}: {reason})") from error


@contextlib.contextmanager
def _without_warnings() -> Iterator[None]:
    """open_clip warns of random weights through the root logger, also where they are what is asked for."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)


@functools.cache
def _simple_tokenizer(context_length: int) -> Any:
    return import_open_clip("a text tower").tokenizer.SimpleTokenizer(context_length=context_length)
