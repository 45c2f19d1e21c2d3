"""Text towers of open_clip's pairs with their tokenizer. open_clip is imported only when one is asked for.

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

from reinforce.errors import MissingExtraError, ModelError, UnknownNameError, UsageError

DEFAULT_TEXT_TOWER = "ViT-S-32-alt"
"""10 layers of width 256, 20 million parameters, a joint space of 256."""
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
    open_clip = _open_clip()
    if name not in open_clip.list_models():
        raise UnknownNameError("text tower", name, open_clip.list_models())
    config: Mapping[str, Any] = open_clip.get_model_config(name)
    text: Mapping[str, Any] = config["text_cfg"]
    foreign = any(text.get(key) for key in ("hf_model_name", "hf_tokenizer_name", "tokenizer_kwargs"))
    if foreign or "multimodal_cfg" in config or text.get("vocab_size", NUM_TOKENS) < NUM_TOKENS:
        raise UsageError(f"the text tower of {name} does not go with open_clip's own tokenizer: "
                         f"type {DEFAULT_TEXT_TOWER} or ViT-B-32")  # fmt: skip
    return TextConfig(name, int(config["embed_dim"]), Tokenizer(int(text.get("context_length", 77))))


def create_text_tower(config: TextConfig) -> nn.Module:
    """Untrained: maps tokens (B, L) to (B, E), not normalised. Raises ModelError where open_clip cannot make it."""
    try:
        with _without_warnings():
            pair = _open_clip().create_model(config.name, force_custom_text=True)
    except Exception as error:
        reason = " ".join(str(error).split())[:160]
        raise ModelError(f"open_clip cannot create {config.name} ({type(error).__name__}: {reason})") from error
    return cast(nn.Module, pair.text)


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
    return _open_clip().tokenizer.SimpleTokenizer(context_length=context_length)


def _open_clip() -> Any:
    try:
        import open_clip
    except ImportError as error:
        raise MissingExtraError("open_clip_torch", "clip", "a text tower") from error
    return open_clip
