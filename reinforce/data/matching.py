"""Does a source list the images that something was made of? By keys and their order; bytes are hashed when read."""

from __future__ import annotations

from collections.abc import Sequence

from reinforce.counting import counted
from reinforce.data.sources import ImageSource, Shard
from reinforce.errors import TransferMismatchError

ADVICE = "type --transfer PATH of the set that the store was built from"


def find_shards(source: ImageSource, shards: Sequence[Sequence[str]]) -> int:
    """Where in the source the first of some shards of it lies; 0 where it does not, for `check_keys_match` to say."""
    first = shards[0][0]
    return next((number for number, shard in enumerate(source.shards) if shard.keys[0] == first), 0)


def check_keys_match(source: ImageSource, shards: Sequence[Sequence[str]], *, is_whole: bool, first_shard: int = 0
                     ) -> None:  # fmt: skip
    """Compare the source, from a shard on, with the keys of each shard of a frozen listing.

    `is_whole`: the listing was of all of the source, so that further images are a difference too.
    Raises TransferMismatchError naming an image that is missing, was added or moved.
    """
    frozen = [key for keys in shards for key in keys]
    found = [key for shard in source.shards[first_shard:] for key in shard.keys]
    if not is_whole:
        found = found[: len(frozen)]
    if frozen == found and _cuts(shards, source.shards[first_shard:]):
        return
    missing, added = set(frozen) - set(found), set(found) - set(frozen)
    counts = ((missing, "missing"), (added, "added"))
    said = [f"{counted(len(keys), 'image')} {word}, such as '{min(keys)}'" for keys, word in counts if keys]
    what = ", and ".join(said) or "the same images are in another order"
    raise TransferMismatchError(f"{source.name} is not the store's transfer set: {what}; {ADVICE}")


def _cuts(shards: Sequence[Sequence[str]], found: Sequence[Shard]) -> bool:
    """Whether the shards begin at the same positions; the last may go on in the source."""
    sizes = [len(shard.keys) for shard in found[: len(shards)]]
    return [len(keys) for keys in shards[:-1]] == sizes[:-1]
