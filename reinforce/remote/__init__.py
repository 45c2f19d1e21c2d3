"""Object stores by URL, through obstore: places, parts of objects read ahead, a bounded cache on disk. A leaf."""

from reinforce.remote.cache import PartCache, default_cache
from reinforce.remote.parts import Part, PartReader
from reinforce.remote.place import RemoteObject, RemotePlace, is_url

__all__ = ["Part", "PartCache", "PartReader", "RemoteObject", "RemotePlace", "default_cache", "is_url"]
