"""A finished store into a repository of the Hugging Face Hub: the plan first, the manifest last and alone.

Until the manifest is there nothing takes the repository for a store.
"""

from __future__ import annotations

from collections.abc import Mapping

from reinforce.copying import Copied, CopyOptions, resumable
from reinforce.counting import counted
from reinforce.errors import CorruptStoreError, OutputExistsError
from reinforce.progress import Progress, human_bytes
from reinforce.remote.hub import HubPlace, content_tags
from reinforce.remote.hub_upload import Upload
from reinforce.remote.place import RemoteObject
from reinforce.store import MANIFEST, PLAN, Manifest, Objects, read_manifest
from reinforce.store.canonical import one_line
from reinforce.store.inventory import differences, mending_advice
from reinforce.store.objects import is_hidden
from reinforce.store.verified import read_object


def push_to_hub(source: Objects, place: HubPlace, options: CopyOptions, *, is_public: bool = False) -> Copied:
    """Make `place` the store at `source`; a repository that is not there yet becomes a private one, or a public one.

    Every object is hashed when it is read, and compared with the hashes of the Hub's listing.

    Raises MissingStoreError and UnfinishedStoreError for the source, CorruptStoreError for an object that is damaged at
    either end, OutputExistsError where the place holds something else, RemoteAccessError.
    """
    manifest = read_manifest(source)
    for difference in differences(source, manifest):
        if not difference.harmless:
            raise CorruptStoreError(f"{source.name}: {difference}; {mending_advice(source.name)}")
    num_objects = len(manifest.objects)

    def read(path: str) -> bytes:
        return manifest.to_bytes() if path == MANIFEST else read_object(source, manifest, path)

    place.create(is_private=not is_public)
    upload = Upload(place, read, num_objects, f"Store {manifest.digest[:12]}", options.jobs, options.repair)
    _check_way(place, upload.there, manifest)
    report, known = upload.report, {path: digest.sha256 for path, digest in manifest.objects.items()}

    def words() -> str:
        return f"{report.num_sent + report.num_there} of {counted(num_objects, 'object')} there"

    with resumable(words), Progress("push", num_objects, unit="objects", quiet=options.quiet) as progress:
        upload.run([PLAN, *sorted(known.keys() - {PLAN})], known,
                   lambda num: progress.update(num, copied=human_bytes(report.sent_bytes)))  # fmt: skip
        copied = Copied(manifest, report.num_sent, report.sent_bytes, report.num_there)
        upload.run([MANIFEST], {}, lambda num: None)
    return copied


def _check_way(place: HubPlace, there: Mapping[str, RemoteObject], manifest: Manifest) -> None:
    """Raises OutputExistsError where the place holds another store, or other things."""
    own = {*manifest.objects, MANIFEST}
    if MANIFEST in there:
        try:
            found = Manifest.parse(place.get(MANIFEST)).digest
        except CorruptStoreError:
            if PLAN not in there:  # beside this store's plan it is replaced on request
                own.remove(MANIFEST)
        else:
            if found != manifest.digest:
                raise _taken(place, f"it holds another store, {found[:12]} and not {manifest.digest[:12]}")
    if PLAN in there and content_tags(place.get(PLAN))[0] != manifest.plan_digest:
        raise _taken(place, "it holds another store, which is not finished")
    foreign = sorted(path for path in there if path not in own and not is_hidden(path))
    if foreign:
        raise _taken(place, f"it holds other things, such as {one_line(foreign[0])}")


def _taken(place: HubPlace, why: str) -> OutputExistsError:
    return OutputExistsError(place.url, f"{why}; type another repository, or a folder in it: {place.url}/NAME")
