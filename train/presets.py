"""`--preset NAME`: a recipe of the paper as defaults of a verb. What is typed wins; config.json has what came out.

In Python a config class takes the same name: `FinetuneConfig(preset="eurosat-10", model=..., out=...)`, or, where types
are checked and the preset gives a required option, `preset_config(FinetuneConfig, "eurosat-10", model=..., out=...)`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from reinforce.errors import UnknownNameError, UsageError
from reinforce.paper import RECIPES, Recipe

EXCLUSIVE = (("epochs", "steps"), ("shots", "num_labelled"))
"""Options of which one is typed: it displaces the preset's other one."""

Config = TypeVar("Config")
_VERB = "preset_verb"


def accepts_presets(verb: str) -> Callable[[type[Config]], type[Config]]:
    """Decorator of a verb's config class, a dataclass with a field `preset`: its defaults are those of the preset."""

    def decorate(config_class: type[Config]) -> type[Config]:
        plain_init: Callable[..., None] = config_class.__init__

        @functools.wraps(plain_init)
        def init(self: Config, **typed: Any) -> None:
            name = typed.get("preset")
            if name is None:
                return plain_init(self, **typed)
            recipe = find_recipe(verb, name)
            plain_init(self, **(_displaced(recipe.values, typed) | typed))
            return _check_fits(recipe, {option: getattr(self, option) for option in recipe.needs})

        setattr(config_class, "__init__", init)  # noqa: B010 - mypy forbids the plain assignment
        setattr(config_class, _VERB, verb)
        return config_class

    return decorate


def preset_config(config_class: type[Config], name: str, **typed: Any) -> Config:
    """The config of a verb by a preset's name and what differs from it. Raises UsageError as `find_recipe` does."""
    build: Callable[..., Config] = config_class
    return build(preset=name, **typed)


def preset_values(config_class: type, name: str) -> Mapping[str, Any]:
    """Defaults that the preset gives the fields of a config class. Raises UsageError as `find_recipe` does."""
    return find_recipe(getattr(config_class, _VERB), name).values


def find_recipe(verb: str, name: str) -> Recipe:
    """The recipe of that name. Raises UsageError for one of another verb, UnknownNameError naming the nearest."""
    found: dict[str, Recipe] = {recipe.verb: recipe for recipe in RECIPES if recipe.name == name}
    if verb in found:
        return found[verb]
    own = [recipe.name for recipe in RECIPES if recipe.verb == verb]
    if found:
        near = [other for other in own if {*name.split("-")} & {*other.split("-")}] or [own[0], "..."]
        raise UsageError(f"--preset {name} is of train {' and train '.join(found)}: train {verb} has "
                         f"{', '.join(near)} (reinforce list shows all)")  # fmt: skip
    raise UnknownNameError("preset", name, {recipe.name for recipe in RECIPES}, "reinforce list shows them")


def check_preset(config: Any, **chosen: Any) -> None:
    """Raises UsageError where a config's preset is not for what an option came to, such as loss="kl" by the store."""
    if config.preset is not None:
        _check_fits(find_recipe(getattr(config, _VERB), config.preset), chosen)


def _displaced(values: Mapping[str, Any], typed: Mapping[str, Any]) -> dict[str, Any]:
    """The preset's values without those that an exclusive other one was typed for."""
    gone = {name for group in EXCLUSIVE for name in group if any(typed.get(other) is not None for other in group)}
    return {name: value for name, value in values.items() if name not in gone}


def _check_fits(recipe: Recipe, chosen: Mapping[str, Any]) -> None:
    """Raises UsageError where an option says something that the recipe is not for; None says nothing."""
    for option, value in chosen.items():
        allowed = recipe.needs.get(option)
        if value is not None and allowed is not None and value not in allowed:
            choices = " or ".join(f"--{option} {other}" for other in allowed)
            raise UsageError(f"--preset {recipe.name} is not for --{option} {value}: type {choices}, or another preset")
