"""Where a store lies, as people type it: a folder, a file:// URL, or the URL of an object store or of the Hub."""

from __future__ import annotations

from pathlib import Path

from reinforce import catalog
from reinforce.errors import UsageError
from reinforce.remote import HubPlace, RemotePlace, default_cache, is_hub, is_url
from reinforce.store.objects import LocalObjects, Objects
from reinforce.store.remote_objects import CachedObjects, RemoteObjects

_FILE = "file://"


def open_objects(location: str | Path | Objects, *, cached: bool = True) -> Objects:
    """The objects at a location, whatever they are. Touches nothing.

    `cached`: what is read from a URL is kept in the cache on disk. Raises UsageError, MissingExtraError.
    """
    if not isinstance(location, (str, Path)):
        return location
    if not is_url(str(location)) or str(location).startswith(_FILE):
        return LocalObjects(local_folder(location))
    place = HubPlace(str(location)) if is_hub(str(location)) else RemotePlace(str(location))
    cache = default_cache(catalog.home())
    return CachedObjects(place, cache) if cached and cache.limit_bytes else RemoteObjects(place)


def local_folder(location: str | Path, advice: str = "type a folder") -> Path:
    """The folder that a path or a file:// URL names. Raises UsageError for any other URL."""
    text = str(location)
    if text.startswith(_FILE):
        host, slash, path = text.removeprefix(_FILE).partition("/")
        if host in ("", "localhost") and slash:
            from urllib.request import url2pathname

            return Path(url2pathname(slash + path))
    if is_url(text):
        raise UsageError(f"{text} is no folder of this machine: {advice}")
    return Path(location)
