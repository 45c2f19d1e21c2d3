"""Classes of objects that belong together: folders of the assets, and what lies in them but is something else."""

from __future__ import annotations

from collections.abc import Sequence

from reinforce.errors import UnknownNameError, UsageError
from scenes.emoji_groups import EMOJI_GROUPS
from scenes.fine_groups import FINE_GROUPS
from scenes.group import Group

BACKGROUND = "background"
SETS = {"fine": FINE_GROUPS, "emoji": EMOJI_GROUPS}
"""What --classes takes for a whole set of other classes, instead of names."""

CARD_DECKS = ("bordered", "cardbacks", "ornamental", "simple", "white")

GROUPS = (
    Group(
        name="fruit",
        clipart=("food/fruit",),
        photographs=("food/fruit",),
        left_out=(
            "juice",
            "/pie_",
            "champignon",
            "gumnut",
            "grenade",
            "slate-apple",
            "tree_whit",
            "turkey",
            "tote",
            "tile_",
        ),
    ),
    Group(
        name="mammals",
        clipart=("animals/mammals/",),
        photographs=("animals/mammals/",),
        left_out=(
            "sleeping_bear",
            "crazy_monkey",
            "cat_scrathing",
            "toro_al_tramonto",
            "elephant_symbol",
            "horse_1_",
            "gatto_nero",
            "drawn_with_strai_02",
            "/toys/",
            "skoynk",
            "squeek",
            "shaezy",
            "mhooo",
        ),
    ),
    Group(
        name="flags",
        clipart=("signs_and_symbols/flags/",),
        photographs=("town/flags",),
        left_out=(
            "semaphore",
            "umbrella",
            "inukshuk",
            "ampel",
            "route_jakob",
            "capitol",
            "_map_",
            "map_of",
            "fleur_de_lis",
            "arkansas_symbol",
            "bretagne_01",
            "ile_de_france_01",
            "citt_di_torino",
            "coat_of_arms",
            "spanish_regions",
            "spain_peninsule",
            "antarctica",
            "florence_flag",
        ),
        may_fill_box=True,
    ),
    Group(
        name="cards",
        clipart=tuple(f"recreation/games/cards/{deck}" for deck in CARD_DECKS),
        may_fill_box=True,
    ),
    Group(
        name="road-signs",
        clipart=("transportation/roadsigns",),
        photographs=("town/roadsigns",),
        left_out=(
            "transportation/roadsigns/stop.png",
            "transportation/roadsigns/yield.png",
            "nws_government",
            "bus_symbol",
            "traffic_cone",
            "stop-sign-angled",
        ),
        may_fill_box=True,
    ),
    Group(
        name="vehicles",
        clipart=("transportation/vehicles/", "transportation/boating", "transportation"),
        photographs=("vehicles/", "military/vehicles"),
        left_out=(
            "lighthouse",
            "crossroads",
            "curve_ahead",
            "cycle_route",
            "road_runner",
            "sledge",
            "boating_rules",
            "knot_",
            "capsize",
            "anchor",
            "elevator",
            "suitcase",
            "plane_in_the_sky",
            "7spoke",
            "wheel_tractor",
            "sunset",
            "departing_plane",
            "ampel",
            "sign_",
            "labels",
        ),
    ),
    Group(
        name="music",
        clipart=("recreation/music",),
        photographs=("hobbies/music/",),
        left_out=("bach_", "beethoveo", "handel", "singing", "piano_theory", "harmon_mute", "straight_mute"),
    ),
    Group(
        name="birds-bugs-fish",
        clipart=("animals/birds/", "animals/bugs", "animals/fish"),
        photographs=("animals/birds", "animals/insects", "animals/fish"),
        left_out=("cigno_di_notte", "mirjam_meijer", "turkey_on_platter", "paesaggio", "ragno_figo", "manager_mimooh"),
    ),
)


def choose_groups(names: Sequence[str] | None) -> tuple[Group, ...]:
    """The groups of these names, in this order; all without names; those of a set for its name alone.

    Raises UnknownNameError and UsageError.
    """
    by_name = {group.name: group for group in GROUPS}
    if names is None:
        return GROUPS
    if chosen := [name for name in names if name in SETS]:
        if len(names) > 1:
            raise UsageError(f"--classes {chosen[0]} is a set of classes of its own: type it without other names")
        return SETS[chosen[0]]
    if unknown := [name for name in names if name not in by_name]:
        raise UnknownNameError("class", unknown[0], by_name)
    if len(set(names)) != len(names):
        raise UsageError("--classes names a class twice: name each once")
    return tuple(by_name[name] for name in names)
