"""Object stores and the Hugging Face Hub by URL: places, parts of objects read ahead, a cache on disk. A leaf."""

from reinforce.remote.cache import PartCache, default_cache
from reinforce.remote.hub import HubPlace, is_hub
from reinforce.remote.parts import Part, PartReader
from reinforce.remote.place import RemoteObject, RemotePlace, is_url

__all__ = [
    "HubPlace",
    "Part",
    "PartCache",
    "PartReader",
    "RemoteObject",
    "RemotePlace",
    "default_cache",
    "is_hub",
    "is_url",
]
