"""Does a source list the images that something was made of? By keys and their order; bytes are hashed when read."""

from __future__ import annotations

from collections.abc import Sequence

from reinforce.data.sources import ImageSource, num_images
from reinforce.errors import TransferMismatchError

ADVICE = "type --transfer PATH of the set that the store was built from"


def check_keys_match(source: ImageSource, shards: Sequence[Sequence[str]], *, is_whole: bool) -> None:
    """Compare the source with the keys of each shard of a frozen listing.

    `is_whole`: the listing was of all of the source, so that further images are a difference too.
    Raises TransferMismatchError naming an image that is missing, was added or moved.
    """
    frozen = [key for keys in shards for key in keys]
    found = [key for shard in source.shards for key in shard.keys]
    if not is_whole:
        found = found[: len(frozen)]
    if frozen == found and _cuts(shards, source, len(frozen)):
        return
    missing, added = set(frozen) - set(found), set(found) - set(frozen)
    if missing:
        what = f"{len(missing)} images are missing, such as '{min(missing)}'"
    elif added:
        what = f"{len(added)} images were added, such as '{min(added)}'"
    else:
        what = "the same images are in another order"
    raise TransferMismatchError(f"{source.name} is not the store's transfer set: {what}; {ADVICE}")


def _cuts(shards: Sequence[Sequence[str]], source: ImageSource, num_frozen: int) -> bool:
    """Whether the shards begin at the same positions; the last may go on in the source."""
    if num_frozen > num_images(source):
        return False
    sizes = [len(shard.keys) for shard in source.shards[: len(shards)]]
    return [len(keys) for keys in shards[:-1]] == sizes[:-1]
