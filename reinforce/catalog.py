"""Names for models and data: `catalog.toml` under the home folder, overridden by `reinforce.toml` files.

    [models]
    dinov2-ft = "runs/dinov2-ft"                            # relative paths are relative to this file
    [data]                                                  # [transfer] is the same table under another name
    cc3m = { path = "/data/cc3m/{00000..00331}.tar", license = "..." }

The nearest `reinforce.toml` wins, from the working folder upwards, then the home catalog. Where transfer sets lie on
this machine is kept by digest in `locations.toml` beside the catalog: stores hold no paths.
"""

from __future__ import annotations

import os
import re
import sys
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import tomli_w

from reinforce.errors import MissingDataError, ModelError, UnknownNameError, UsageError
from reinforce.locking import hold_lock
from reinforce.whole_file import written_whole

Kind = Literal["models", "data"]

_TABLES: Mapping[Kind, tuple[str, ...]] = {"models": ("models",), "data": ("data", "transfer")}
_PROJECT_FILE = "reinforce.toml"
_CATALOG_FILE = "catalog.toml"
_LOCATIONS_FILE = "locations.toml"
_SPLIT = re.compile(r"(?P<whole>.+)@(?P<split>train|val|test)")
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9_+.-]+:")  # two letters or more: "hf:", "s3:", "open_clip:", but not "C:"


@dataclass(frozen=True)
class Entry:
    """What a name stands for."""

    name: str
    """A catalog name, or what a path is called for short; never a path, so that it may go into a store."""
    path: str | None
    """A path, pattern, "hf:NAME" or URL; None for a model that is only an architecture's name."""
    table: Mapping[str, Any] = field(default_factory=dict)
    """The catalog's other fields: arch, license, note ..."""
    origin_file: str | None = None
    """The catalog file that says so; None when no catalog does."""


def home() -> Path:
    """$REINFORCE_HOME, else `reinforce` in the user's cache folder. It need not exist yet."""
    if chosen := os.environ.get("REINFORCE_HOME"):
        return Path(chosen).expanduser().absolute()
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "reinforce"


def entries(kind: Kind) -> tuple[Entry, ...]:
    """All entries of a kind by name; of equal names the nearest file's. Raises UsageError for a malformed catalog."""
    found = _entries_by_name(kind)
    return tuple(found[name] for name in sorted(found))


def split_off(location: str) -> tuple[str, str | None]:
    """ "eurosat@train" as what the whole is called and the name of one of its splits; None where no split is asked for.

    What exists under that very name is no split.
    """
    found = _SPLIT.fullmatch(location)
    if found is None or (_SCHEME.match(location) and "://" not in location) or Path(location).exists():
        return location, None
    return found["whole"], found["split"]


def resolve_data(name: str) -> Entry:
    """A dataset or transfer set by catalog name, path, pattern, "hf:NAME" or URL; "@train" behind it is a split of it.

    A name with a separator is a path; others are looked up in the catalog first, then in the working folder. Raises
    MissingDataError when a path is not there and UnknownNameError when a name is nowhere.
    """
    whole, split = split_off(name)
    entry = _resolve("data", whole)
    if entry is None:
        hint = f'give a path, or add it to {_PROJECT_FILE}: [data] {_toml_key(whole)} = "/path"'
        raise UnknownNameError("data", whole, _entries_by_name("data"), hint)
    if entry.path is None:
        raise UsageError(f"'{name}' in {entry.origin_file} has no path: add path = \"...\"")
    if not is_there(entry.path):
        raise MissingDataError(f"{_description(entry)} is not there: {_remedy(entry)}")
    return entry if split is None else replace(entry, name=f"{entry.name}-{split}", path=f"{entry.path}@{split}")


def resolve_model(name: str) -> Entry:
    """A model directory by catalog name or path; any other name is returned with path None, for `reinforce.models`
    to try as a timm or open_clip name. Raises ModelError when a path is not there.
    """
    entry = _resolve("models", name)
    if _SCHEME.match(name) or entry is None:
        return Entry(name, None)
    if entry.path is not None and not is_there(entry.path):
        raise ModelError(f"{_description(entry)} is not there: {_remedy(entry)}")
    return entry


def register(kind: Kind, name: str, path: str | Path, **table: str | int | float | bool | None) -> Entry:
    """Add or replace a name in the home catalog, with fields such as `license` (None = left out).

    `path` is made absolute. Safe against concurrent writers. Raises UsageError when the catalog cannot be written.
    """
    location = _absolute(str(path), Path.cwd())
    fields = {key: value for key, value in table.items() if value is not None}

    def add(catalog: dict[str, Any]) -> None:
        for alias in _TABLES[kind][1:]:
            catalog.get(alias, {}).pop(name, None)
        catalog.setdefault(kind, {})[name] = {"path": location} | fields if fields else location

    _update(home() / _CATALOG_FILE, add)
    return Entry(name, location, fields, str(home() / _CATALOG_FILE))


def remember_location(digest: str, location: str | Path) -> None:
    """Note where the transfer set with this digest lies on this machine; the latest note wins."""
    absolute = _absolute(str(location), Path.cwd())
    _update(home() / _LOCATIONS_FILE, lambda document: document.setdefault("locations", {}).update({digest: absolute}))


def locate(digest: str) -> str | None:
    """Where the transfer set with this digest was last seen, or None. It may have gone since."""
    return locations().get(digest)


def locations() -> dict[str, str]:
    """Digest of a transfer set -> where it was last seen. Raises UsageError for a malformed file."""
    found = _read(home() / _LOCATIONS_FILE).get("locations", {})
    return {digest: location for digest, location in found.items() if isinstance(location, str)}


def _resolve(kind: Kind, name: str) -> Entry | None:
    if _SCHEME.match(name):
        return Entry(_short_name(name), name)
    if _is_pattern(name) or _has_separator(name):
        return Entry(_short_name(name), str(Path(name).expanduser()))
    if entry := _entries_by_name(kind).get(name):
        return entry
    return Entry(_short_name(name), name) if Path(name).exists() else None


def _short_name(location: str) -> str:
    """What a location is called where paths must not go: the last part that is not a pattern, without .tar or .csv."""
    plain = location.partition("{")[0]
    if plain != location:
        plain = plain.rpartition("/")[0]
    if "://" in plain:
        return plain.rstrip("/").rpartition("/")[2].removesuffix(".tar")
    if _SCHEME.match(plain):
        return plain.partition(":")[2].partition(":")[0].rstrip("/").rpartition("/")[2]
    path = Path(os.path.normpath(Path(plain).expanduser().absolute()))
    return path.stem if path.suffix in (".tar", ".csv") else path.name


def _entries_by_name(kind: Kind) -> dict[str, Entry]:
    found: dict[str, Entry] = {}
    for path in _catalog_files():
        found |= _read_entries(path, kind)
    return found


def _catalog_files() -> list[Path]:
    """Farthest first, so that the nearest overrides."""
    folder = Path.cwd()
    nearest_first = [parent / _PROJECT_FILE for parent in (folder, *folder.parents)]
    return [path for path in (home() / _CATALOG_FILE, *reversed(nearest_first)) if path.is_file()]


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UsageError(f"{path} is not a valid TOML file: {error}") from error


def _read_entries(path: Path, kind: Kind) -> dict[str, Entry]:
    document = _read(path)
    found: dict[str, Entry] = {}
    for table_name in reversed(_TABLES[kind]):
        table = document.get(table_name, {})
        if not isinstance(table, dict):
            raise UsageError(f"{path}: [{table_name}] must be a table of names")
        found |= {name: _entry(name, value, path) for name, value in table.items()}
    return found


def _entry(name: str, value: object, origin: Path) -> Entry:
    table = {"path": value} if isinstance(value, str) else value
    if not isinstance(table, dict) or not isinstance(table.get("path", ""), str):
        raise UsageError(f'{origin}: {name} must be a path or a table: {name} = {{ path = "..." }}')
    path = table.get("path")
    rest = {key: item for key, item in table.items() if key != "path"}
    return Entry(name, None if path is None else _absolute(path, origin.parent), rest, str(origin))


def _absolute(location: str, base: Path) -> str:
    if _SCHEME.match(location):
        return location
    return str(base.absolute() / Path(location).expanduser())


def _has_separator(name: str) -> bool:
    return "/" in name or os.sep in name or name in (".", "..", "~")


def _is_pattern(name: str) -> bool:
    return "{" in name


def is_there(path: str) -> bool:
    """Patterns and what is not on this machine are checked by those who open them."""
    return is_remote(path) or _is_pattern(path) or Path(split_off(path)[0]).exists()


def is_remote(path: str) -> bool:
    """s3://bucket/photos, hf:NAME: what only the network can tell to be there."""
    return bool(_SCHEME.match(path))


def _description(entry: Entry) -> str:
    return str(entry.path) if entry.origin_file is None else f"{entry.path} ('{entry.name}' in {entry.origin_file})"


def _remedy(entry: Entry) -> str:
    return "check the path" if entry.origin_file is None else "correct the entry or bring the files back"


def _toml_key(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else f'"{name}"'


def _update(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Read, change and replace a TOML file; readers see the old or the new one, writers wait for each other."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with hold_lock(path):
            document = _read(path)
            change(document)
            with written_whole(path) as file:
                file.write(tomli_w.dumps(document).encode())
    except OSError as error:
        raise UsageError(f"{path} cannot be written ({error.strerror or error}): set REINFORCE_HOME") from error
