"""Arguments of `timm.create_model` that a model directory keeps: which ones, of which values, and how they are typed.

They come from files of others. So nothing is kept that makes timm read a file, fetch an address or wrap the model, and
a value is a number, true or false, a single word, or a list of numbers: nothing that could be run or opened.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from typing import Any

from reinforce.errors import UsageError

RESERVED = frozenset({
    "model_name", "pretrained", "pretrained_cfg", "pretrained_cfg_overlay", "pretrained_strict",
    "pretrained_filter_fn", "pretrained_model_args", "checkpoint_path", "cache_dir", "scriptable", "exportable",
    "no_jit", "model_cls", "model_cfg", "cfg", "variant", "kwargs_filter", "pruned", "features_only", "feature_cfg",
    "feature_cls", "out_indices", "num_classes", "in_chans",
})  # fmt: skip
"""What timm takes for itself, and what class names and RGB decide."""
KNOWN_OTHERWISE = {
    "num_classes": "it is read from the weights",
    "in_chans": "images are RGB",
    "img_size": "type --image-size",
}
"""What is no --arch-arg, and why."""
LARGEST, MOST_VALUES = 65_536, 64
"""Of a number, and of a list."""
NAME, WORD = re.compile(r"[A-Za-z]\w{0,63}"), re.compile(r"[\w.+-]{1,64}")


def problem_of(args: Any) -> str:
    """What is wrong with the arguments, in one line; empty where nothing is."""
    if not isinstance(args, Mapping):
        return "model_args must be an object of names and values"
    if reserved := sorted(name for name in args if name in RESERVED or not NAME.fullmatch(str(name))):
        return f"model_args may not set {', '.join(reserved)[:200]}"
    if type(args.get("img_size", 1)) is not int:
        return "model_args.img_size must be a number of pixels"
    strange = sorted(name for name, value in args.items() if not _is_plain(value))
    return f"model_args.{strange[0]} must be a number up to {LARGEST:,}, true or false, a word, or a list of numbers" \
        if strange else ""  # fmt: skip


def parse(typed: Iterable[str]) -> dict[str, Any]:
    """("depth=6", "depths=2,2,6,2", "class_token=false") -> names and values. Raises UsageError."""
    args: dict[str, Any] = {}
    for text in typed:
        name, equals, value = (part.strip() for part in text.partition("="))
        if not (name and equals and value):
            raise UsageError(f"--arch-arg {text}: type a name and a value, such as --arch-arg depth=6")
        if name in KNOWN_OTHERWISE:
            raise UsageError(f"--arch-arg {text}: leave it out, {KNOWN_OTHERWISE[name]}")
        if name in RESERVED:
            raise UsageError(f"--arch-arg {text}: leave it out, it is no argument of an architecture")
        if value.lower() in ("none", "null"):
            raise UsageError(f"--arch-arg {text}: leave it out, None is timm's default or cannot be kept")
        if name in args:
            raise UsageError(f"--arch-arg gives {name} twice: type one value")
        args[name] = _value(value)
        if problem := problem_of({name: args[name]}):
            raise UsageError(f"--arch-arg {text}: {problem.removeprefix('model_args.')}")
    return args


def shown(args: Mapping[str, Any]) -> str:
    """ "depth=6, depths=2,2,6,2": what was typed; the size is said elsewhere."""
    return ", ".join(f"{name}={_text(value)}" for name, value in args.items() if name != "img_size")


def for_timm(args: Mapping[str, Any]) -> dict[str, Any]:
    """Lists as tuples, of which timm's own defaults are."""
    return {name: tuple(value) if isinstance(value, list) else value for name, value in args.items()}


def _is_plain(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return 0 < len(value) <= MOST_VALUES and all(_is_number(one) for one in value)
    return bool(WORD.fullmatch(value)) if isinstance(value, str) else isinstance(value, bool) or _is_number(value)


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value) and abs(value) <= LARGEST


def _value(text: str) -> Any:
    if "," in text:
        return [_value(part.strip()) for part in text.strip("()[]").split(",") if part.strip()]
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def _text(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ",".join(map(str, value))
    return str(value).lower() if isinstance(value, bool) else str(value)
