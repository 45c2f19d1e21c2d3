"""Copies of stores, to a folder and to real S3 and Azure servers: equal, whatever fails, or not a store at all."""

from __future__ import annotations

import itertools
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import click
import pytest
import tiny_stores
from faulty_proxy import CUT, DROP, FAIL, FORBID, LOSE, SLOW
from s3_server import Bucket
from tiny_stores import build_at, columns, contents_of, exact_codec, plan_of
from web_server import web_server

from reinforce.cli import command
from reinforce.command import run_group
from reinforce.errors import (
    CorruptStoreError,
    MissingStoreError,
    OutputExistsError,
    RemoteAccessError,
    StoreAccessError,
    UnfinishedStoreError,
    UsageError,
)
from reinforce.pull import PullConfig, Pulled, pull
from reinforce.push import PushConfig, Pushed, push
from reinforce.store import EMBEDDINGS, GLOBAL_FEATURES, LOGITS, LocalObjects, Store, create_store, open_objects, verify
from reinforce.store.codecs import Int8Codec
from reinforce.store.schema import CARD, MANIFEST
from train.cli import command as train_command

TARGETS = "targets/values/c/0/1/0"
COMMAND = """
import signal
from reinforce.cli import main
signal.signal(signal.SIGINT, signal.default_int_handler)  # which a shell's background jobs begin with ignored
main()
"""
REINFORCE = (sys.executable, "-c", COMMAND)


@pytest.fixture(params=["folder", "file URL", "S3", "Azure"])
def place(request: pytest.FixtureRequest, bucket: Bucket, tmp_path: Path) -> str:
    """Of each kind, with nothing there yet."""
    if request.param == "S3":
        return f"{bucket.url}/team/tiny.zarr"
    if request.param == "Azure":
        return f"{request.getfixturevalue('container').url}/team/tiny.zarr"
    folder = tmp_path / "mounted" / "tiny.zarr"
    return f"file://{folder}" if request.param == "file URL" else str(folder)


def put(store: str | Path, destination: str, **options: Any) -> Pushed:
    return push(PushConfig(store=str(store), destination=destination, quiet=True, **options))


def fetch(source: str, out: str = "here.zarr", **options: Any) -> Pulled:
    return pull(PullConfig(source=source, out=out, quiet=True, **options))


def there(place: str) -> dict[str, bytes]:
    objects = open_objects(place, cached=False)
    return {path: objects.get(path) for path, size in objects.list() if size >= 0}


def change(place: str, path: str, data: bytes | None) -> None:
    """Replace an object (None deletes), as a failing disk or somebody else would."""
    objects = open_objects(place, cached=False)
    objects.delete(path)
    if data is not None:
        objects.put_new(path, data)


def attempt(failures: list[BaseException], work: Callable[..., object], *arguments: Any) -> None:
    try:
        work(*arguments)
    except BaseException as error:
        failures.append(error)


@contextmanager
def slowly(bucket: Bucket, method: str, number: int, words: str = "") -> Iterator[threading.Event]:
    """Requests take their time, and the event says when so many of a method, and of such paths, have come."""
    reached = threading.Event()

    def choose() -> str:
        if sum(words in path for path, _ in bucket.requests(method)) >= number:
            reached.set()
        return SLOW

    bucket.proxy.requests.clear()
    bucket.proxy.choose = choose
    try:
        yield reached
    finally:
        bucket.proxy.choose = lambda: ""


def kill_after(bucket: Bucket, argv: list[str], method: str, number: int, words: str = "") -> None:
    """kill -9 in the middle of the number-th request."""
    with slowly(bucket, method, number, words) as reached, subprocess.Popen([*REINFORCE, *argv, "--quiet"]) as process:
        assert reached.wait(60)
        process.kill()


def flipped(data: bytes) -> bytes:
    return data[:-1] + bytes([data[-1] ^ 1])


class TestPush:
    def test_the_copy_is_the_store(self, finished_store: Path, place: str) -> None:
        copied = put(finished_store, place).copied
        assert there(place) == contents_of(finished_store)
        assert verify(place, "full").ok
        assert copied.num_copied == len(contents_of(finished_store)) - 1
        assert copied.manifest.digest == Store.open(finished_store).manifest.digest

    def test_once_more_copies_nothing(self, finished_store: Path, place: str) -> None:
        put(finished_store, place)
        again = put(finished_store, place).copied
        assert (again.num_copied, again.num_there) == (0, len(contents_of(finished_store)) - 1)

    def test_what_is_missing_is_added(self, finished_store: Path, place: str) -> None:
        put(finished_store, place)
        for path in (MANIFEST, "units.json", TARGETS):
            change(place, path, None)
        assert put(finished_store, place).copied.num_copied == 2
        assert there(place) == contents_of(finished_store)

    def test_an_unfinished_store_is_refused(self, tmp_path: Path, place: str) -> None:
        begun = LocalObjects(tmp_path / "begun.zarr")
        create_store(begun, plan_of(exact_codec()), exact_codec(), columns())
        with pytest.raises(UnfinishedStoreError, match=r"begun.zarr is not finished"):
            put(begun.root, place)
        assert there(place) == {}

    @pytest.mark.parametrize("is_finished", [True, False])
    def test_another_store_is_never_touched(self, finished_store: Path, tmp_path: Path, place: str, is_finished: bool
                                            ) -> None:  # fmt: skip
        other = contents_of(build_at(tmp_path / "other.zarr", Int8Codec()).root)
        if not is_finished:
            del other[MANIFEST]
        for path, data in other.items():
            open_objects(place).put_new(path, data)
        for repair in (False, True):
            with pytest.raises(OutputExistsError, match=r"it holds another store.*type another place"):
                put(finished_store, place, repair=repair)
        assert there(place) == other

    def test_things_that_are_no_store_are_never_touched(self, finished_store: Path, place: str) -> None:
        open_objects(place).put_new("thesis.tex", b"years")
        with pytest.raises(OutputExistsError, match=r"holds other things, such as thesis.tex"):
            put(finished_store, place)
        assert there(place) == {"thesis.tex": b"years"}

    def test_what_is_there_is_named_as_it_is_written(self, finished_store: Path, tmp_path: Path) -> None:
        (tmp_path / "photos" / "Käfer").mkdir(parents=True)
        (tmp_path / "photos" / "Käfer" / "a\x1b[31m.png").write_bytes(b"mine")
        with pytest.raises(OutputExistsError, match=r"such as Käfer/a\\x1b\[31m\.png;"):
            put(finished_store, str(tmp_path / "photos"))

    @pytest.mark.parametrize("path", [TARGETS, "units.json"])
    def test_damage_here_is_named_and_no_store_appears(self, store_copy: Path, place: str, path: str) -> None:
        (store_copy / path).write_bytes(flipped((store_copy / path).read_bytes()))
        with pytest.raises(CorruptStoreError, match=rf"{path}: its SHA-256 differs.*verify .*copy.zarr"):
            put(store_copy, place)
        assert MANIFEST not in there(place)

    @pytest.mark.parametrize("damage", [flipped, lambda data: data[:-1]], ids=["flipped", "cut"])
    def test_damage_there_is_named_and_mended_on_request(
        self, finished_store: Path, place: str, damage: Callable[[bytes], bytes]
    ) -> None:
        put(finished_store, place)
        change(place, TARGETS, damage(contents_of(finished_store)[TARGETS]))
        with pytest.raises(CorruptStoreError, match=rf"{TARGETS} is there with other content: type --repair"):
            put(finished_store, place)
        assert put(finished_store, place, repair=True).copied.num_copied == 1
        assert there(place) == contents_of(finished_store)

    def test_two_at_once_make_one_store(self, finished_store: Path, place: str) -> None:
        failures: list[BaseException] = []
        threads = [threading.Thread(target=attempt, args=(failures, put, finished_store, place)) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failures == []
        assert there(place) == contents_of(finished_store)

    def test_a_damaged_store_onto_itself_keeps_what_there_is(self, store_copy: Path) -> None:
        (store_copy / TARGETS).write_bytes(flipped((store_copy / TARGETS).read_bytes()))
        before = contents_of(store_copy)
        with pytest.raises(CorruptStoreError, match=TARGETS):
            put(store_copy, str(store_copy), repair=True)
        assert contents_of(store_copy) == before

    def test_inside_of_itself(self, store_copy: Path) -> None:
        with pytest.raises(UsageError, match="lies inside the store"):
            put(store_copy, str(store_copy / "copy"))


@contextmanager
def origins(teacher: str, data: str) -> Iterator[None]:
    """Stores that are built within state these licences."""
    real = tiny_stores.plan_of
    with pytest.MonkeyPatch.context() as patch:
        transfer = {"name": "tiny", "digest": "1" * 64, "shards": [], "license": data}
        patch.setattr(tiny_stores, "plan_of", lambda codec: real(codec, transfer=transfer,
                      teacher={"sha256": "0" * 64, "license": teacher}))  # fmt: skip
        yield


class TestLicences:
    """What a build did not know is stated by who shares: the copy is what the build would have been."""

    @pytest.fixture
    def unlicensed(self, tmp_path: Path) -> Path:
        with origins("MIT", "CC-BY-4.0, unknown"):
            return build_at(tmp_path / "unlicensed.zarr").root

    def test_the_copy_is_the_store_of_a_build_that_was_told(
        self, unlicensed: Path, tmp_path: Path, place: str
    ) -> None:
        with origins("MIT", "CC-BY-4.0, CC0-1.0"):
            told = build_at(tmp_path / "told.zarr")
        before = contents_of(unlicensed)
        copied = put(unlicensed, place, data_license="CC-BY-4.0, CC0-1.0", public=True).copied
        assert there(place) == contents_of(told.root)
        assert verify(place, "full").ok
        assert copied.manifest.digest == Store.open(told).manifest.digest
        assert contents_of(unlicensed) == before
        assert put(unlicensed, place, data_license="CC-BY-4.0, CC0-1.0").copied.num_copied == 0

    def test_of_a_store_without_a_card(self, unlicensed: Path, place: str) -> None:
        """As older versions wrote them."""
        manifest = Store.open(unlicensed).manifest
        bare = {path: digest for path, digest in manifest.objects.items() if path not in CARD}
        for path in (MANIFEST, *CARD):
            change(str(unlicensed), path, None)
        (unlicensed / MANIFEST).write_bytes(replace(manifest, objects=bare).to_bytes())
        put(unlicensed, place, data_license="MIT")
        assert b"- The transfer set's images: `MIT`\n" in there(place)[CARD[0]]

    def test_unknown_ones_are_not_made_public(self, unlicensed: Path, place: str) -> None:
        with pytest.raises(UsageError, match=r"images is unknown, so .* cannot be public: .* --data-license"):
            put(unlicensed, place, public=True)
        assert there(place) == {}

    def test_what_the_build_knew_stays(self, unlicensed: Path, place: str) -> None:
        put(unlicensed, place, teacher_license="MIT")
        assert there(place) == contents_of(unlicensed)
        with pytest.raises(UsageError, match="--teacher-license BSD: the store was built under MIT: leave it out"):
            put(unlicensed, place, teacher_license="BSD")

    def test_damage_is_named(self, unlicensed: Path, place: str) -> None:
        (unlicensed / TARGETS).write_bytes(flipped((unlicensed / TARGETS).read_bytes()))
        with pytest.raises(CorruptStoreError, match=rf"unlicensed.zarr: {TARGETS}: its SHA-256 differs"):
            put(unlicensed, place, data_license="MIT")
        assert MANIFEST not in there(place)


def options_of(line: str) -> tuple[click.Command, set[str]]:
    """The verb of a command that is told, and the options that it is told with."""
    tool, verb, *words = line.split()
    group = command if tool == "reinforce" else train_command
    found = group.get_command(click.Context(group), verb)
    assert found is not None
    return found, {word for word in words if word.startswith("--")}


@pytest.mark.parametrize(
    ("target", "verb"),
    [(LOGITS, "train distill"), (GLOBAL_FEATURES, "train distill"), (EMBEDDINGS, "reinforce curate")],
)
def test_what_to_type_elsewhere(target: str, verb: str, finished_store: Path, tmp_path: Path) -> None:
    """Every option that is told is one of the verb's, and what cannot be known is explained."""
    copied = put(finished_store, str(tmp_path / "copy.zarr"))
    copied.copied.manifest = replace(copied.copied.manifest, summary={"target": target})
    said = str(copied).rpartition("\n")[2]
    start = f"next, elsewhere: reinforce pull {tmp_path}/copy.zarr --out STORE, or without a copy "
    assert said.startswith(start + verb + " ")
    assert said.endswith("--transfer PLACE, where the images of 'tiny' lie: a store does not hold them")
    told, options = options_of(said.removeprefix(start).partition(",")[0])
    assert options <= {option for parameter in told.params for option in parameter.opts}


def test_a_place_with_a_space_is_quoted(finished_store: Path, tmp_path: Path) -> None:
    said = str(put(finished_store, str(tmp_path / "a c.zarr")))
    assert f"reinforce pull '{tmp_path}/a c.zarr' --out STORE" in said
    assert f"--cache '{tmp_path}/a c.zarr' --transfer" in said


class TestOverABadNetwork:
    @pytest.fixture(autouse=True)
    def patience(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Requests at once share the faults, so that one of them may meet several in a row."""
        monkeypatch.setenv("REINFORCE_RETRIES", "8")

    @pytest.mark.parametrize("fault", [FAIL, DROP, CUT, LOSE])
    def test_a_push_comes_through(self, finished_store: Path, bucket: Bucket, fault: str) -> None:
        faults = itertools.cycle(["", "", "", fault])
        bucket.proxy.choose = lambda: next(faults)
        put(finished_store, f"{bucket.url}/x.zarr")
        bucket.proxy.choose = lambda: ""
        assert there(f"{bucket.url}/x.zarr") == contents_of(finished_store)

    @pytest.mark.parametrize("fault", [FAIL, DROP, CUT])
    def test_a_pull_comes_through(self, finished_store: Path, bucket: Bucket, fault: str) -> None:
        put(finished_store, f"{bucket.url}/x.zarr")
        faults = itertools.cycle(["", "", "", fault])
        bucket.proxy.choose = lambda: next(faults)
        fetch(f"{bucket.url}/x.zarr")
        assert contents_of(Path("here.zarr")) == contents_of(finished_store)

    def test_a_refusal_says_that_the_same_command_goes_on(self, finished_store: Path, bucket: Bucket) -> None:
        requests = itertools.count()
        bucket.proxy.choose = lambda: FORBID if next(requests) > 8 else ""
        with pytest.raises(RemoteAccessError, match=r"access is denied.*\d+ of \d+ objects there: mend that, then "
                                                    "type the same command again") as caught:  # fmt: skip
            put(finished_store, f"{bucket.url}/x.zarr", jobs=1)
        assert "not-to-be-seen" not in str(caught.value)
        bucket.proxy.choose = lambda: ""
        put(finished_store, f"{bucket.url}/x.zarr")
        assert there(f"{bucket.url}/x.zarr") == contents_of(finished_store)


class TestWhatIsCompared:
    def test_the_md5_of_s3_spares_reading_back(self, finished_store: Path, bucket: Bucket) -> None:
        assert put(finished_store, f"{bucket.url}/x.zarr").copied.num_read_back == 0
        assert len(bucket.requests("GET")) <= 5  # listings and the manifest

    def test_without_it_everything_is_read_back(
        self, finished_store: Path, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("reinforce.store.remote_objects.RemoteObjects.md5", lambda self, path: "0" * 32)
        assert put(finished_store, f"{bucket.url}/x.zarr").copied.num_read_back == len(contents_of(finished_store)) - 1

    @pytest.mark.parametrize("says_md5", [True, False])
    def test_what_arrives_wrong_is_named(
        self, finished_store: Path, bucket: Bucket, says_md5: bool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        place = f"{bucket.url}/x.zarr"
        objects = open_objects(place, cached=False)

        def put_wrong(self: Any, path: str, data: bytes) -> None:
            real(self, path, flipped(data) if path == TARGETS else data)

        real = type(objects).put_new
        monkeypatch.setattr(type(objects), "put_new", put_wrong)
        if not says_md5:
            monkeypatch.setattr(type(objects), "md5", lambda self, path: None)
        with pytest.raises(CorruptStoreError, match=f"{TARGETS} is not there as it was put"):
            put(finished_store, place)
        assert MANIFEST not in there(place)


class TestPull:
    def test_what_was_pushed_comes_back(self, finished_store: Path, place: str) -> None:
        put(finished_store, place)
        pulled = fetch(place)
        assert contents_of(Path("here.zarr")) == contents_of(finished_store)
        assert pulled.copied.manifest.digest == Store.open(finished_store).manifest.digest
        assert fetch(place).copied.num_copied == 0

    def test_damage_there_is_named_and_no_store_appears(self, finished_store: Path, place: str) -> None:
        put(finished_store, place)
        change(place, TARGETS, flipped(contents_of(finished_store)[TARGETS]))
        with pytest.raises(CorruptStoreError, match=rf"{TARGETS}: its SHA-256 differs"):
            fetch(place)
        assert MANIFEST not in contents_of(Path("here.zarr"))
        change(place, TARGETS, contents_of(finished_store)[TARGETS])
        fetch(place)
        assert contents_of(Path("here.zarr")) == contents_of(finished_store)

    def test_damage_here_is_named_and_mended_on_request(self, finished_store: Path, place: str) -> None:
        put(finished_store, place)
        fetch(place)
        target = Path("here.zarr") / TARGETS
        target.write_bytes(flipped(target.read_bytes()))
        with pytest.raises(CorruptStoreError, match=r"other content: type --repair"):
            fetch(place)
        assert fetch(place, repair=True).copied.num_copied == 1
        assert verify("here.zarr", "full").ok

    @pytest.mark.usefixtures("bucket")
    @pytest.mark.parametrize("path", [MANIFEST, "samples/sha64/c/0"])
    @pytest.mark.parametrize("damage", [flipped, lambda data: b"", None], ids=["flipped", "empty", "gone"])
    def test_repair_heals_the_manifest_and_samples_too(
        self, finished_store: Path, path: str, damage: Callable[[bytes], bytes] | None
    ) -> None:
        fetch(str(finished_store))
        change("here.zarr", path, None if damage is None else damage(contents_of(finished_store)[path]))
        if damage is not None:
            with pytest.raises(CorruptStoreError, match=f"{path} is there with other content: type --repair"):
                fetch(str(finished_store))
        fetch(str(finished_store), repair=True)
        assert contents_of(Path("here.zarr")) == contents_of(finished_store)

    @pytest.mark.usefixtures("bucket")
    def test_after_a_repair_that_dropped_units(self, finished_store: Path, capsys: pytest.CaptureFixture[str]) -> None:
        fetch(str(finished_store))
        change("here.zarr", TARGETS, None)
        assert run_group(command, ["verify", "here.zarr", "--repair"]) == 1
        assert "'reinforce build' with --resume or 'reinforce pull'" in capsys.readouterr().out
        assert fetch(str(finished_store)).copied.num_copied == 1
        assert contents_of(Path("here.zarr")) == contents_of(finished_store)

    @pytest.mark.usefixtures("bucket")
    def test_what_others_put_beside_markers_is_never_touched(self, finished_store: Path) -> None:
        fetch(str(finished_store))
        change("here.zarr", TARGETS, None)
        run_group(command, ["verify", "here.zarr", "--repair", "--quiet"])
        Path("here.zarr/units/thesis.tex").write_bytes(b"years")
        with pytest.raises(OutputExistsError, match=r"such as units/thesis\.tex"):
            fetch(str(finished_store))
        assert Path("here.zarr/units/thesis.tex").read_bytes() == b"years"

    def test_a_damaged_manifest_of_another_store_is_never_touched(self, finished_store: Path, tmp_path: Path) -> None:
        other = build_at(tmp_path / "other.zarr", Int8Codec()).root
        change(str(other), MANIFEST, b"")
        with pytest.raises(OutputExistsError, match="it holds another store, which is not finished"):
            fetch(str(finished_store), str(other), repair=True)
        assert (other / MANIFEST).read_bytes() == b""

    @pytest.mark.parametrize("views", [None, "0:1"])
    @pytest.mark.parametrize("name", ["essay", ".env", "manifest.json"])
    def test_a_folder_with_other_things_is_never_touched(
        self, finished_store: Path, tmp_path: Path, name: str, views: str | None
    ) -> None:
        (tmp_path / "home-work").mkdir()
        (tmp_path / "home-work" / name).write_bytes(b"x")
        with pytest.raises(OutputExistsError, match=f"such as {name}"):
            fetch(str(finished_store), str(tmp_path / "home-work"), views=views, repair=True)
        assert [path.name for path in (tmp_path / "home-work").iterdir()] == [name]

    @pytest.mark.parametrize("source", ["s3://{bucket}/none", "none"])
    def test_nothing_there(self, bucket: Bucket, source: str) -> None:
        with pytest.raises(MissingStoreError, match="none is no store"):
            fetch(source.format(bucket=bucket.name))

    def test_a_url_is_no_folder(self, finished_store: Path, bucket: Bucket) -> None:
        with pytest.raises(UsageError, match=r"s3://b/x is no folder.*or reinforce push"):
            fetch(str(finished_store), "s3://b/x")

    def test_a_full_disk_is_said_before(self, finished_store: Path, monkeypatch: pytest.MonkeyPatch, bucket: Bucket
                                        ) -> None:  # fmt: skip
        monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=100))
        with pytest.raises(StoreAccessError, match=r"here.zarr needs .* more and 100 B are free"):
            fetch(str(finished_store))
        assert not Path("here.zarr").exists()


class TestFromAWebServer:
    """It can neither be listed nor written; here it also drops connections."""

    @pytest.fixture(params=["", DROP, CUT])
    def url(self, finished_store: Path, request: pytest.FixtureRequest, bucket: Bucket,
            monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:  # fmt: skip
        with web_server(finished_store.parent) as proxy:
            monkeypatch.setenv("REINFORCE_RETRIES", "8")
            faults = itertools.cycle(["", "", "", request.param])
            proxy.choose = lambda: next(faults)
            yield f"{proxy.url}/{finished_store.name}"

    def test_a_pull(self, finished_store: Path, url: str) -> None:
        fetch(url)
        assert contents_of(Path("here.zarr")) == contents_of(finished_store)

    def test_reading_in_place(self, finished_store: Path, url: str) -> None:
        assert verify(url, "full").ok
        here, far = Store.open(finished_store), Store.open(url)
        assert (far.read_targets(1, 2) == here.read_targets(1, 2)).all()

    def test_nothing_can_be_put(self, finished_store: Path, url: str) -> None:
        for place in (url, f"{url}-new"):
            with pytest.raises(UsageError, match=r"can only be read: type a folder, s3://.*hf://datasets/OWNER/NAME$"):
                put(finished_store, place)

    def test_nothing_there(self, url: str) -> None:
        with pytest.raises(MissingStoreError, match="none is no store"):
            Store.open(f"{url}/none")


class TestKilled:
    @pytest.mark.parametrize("verb", ["push", "pull"])
    def test_kill_9_then_the_same_command(self, finished_store: Path, bucket: Bucket, verb: str) -> None:
        place = f"{bucket.url}/x.zarr"
        if verb == "pull":
            put(finished_store, place)
        argv = [verb, *((str(finished_store), place) if verb == "push" else (place, "--out", "here.zarr"))]
        copy = place if verb == "push" else "here.zarr"
        for _ in range(3):
            kill_after(bucket, [*argv, "--jobs", "2"], "PUT" if verb == "push" else "GET", 5)
            partly = there(copy)
            assert MANIFEST not in partly
            whole = {path: data for path, data in partly.items() if ".tmp-" not in path}
            assert whole.items() <= contents_of(finished_store).items()
        how = f"push STORE {place}" if verb == "push" else "pull SOURCE --out here.zarr"
        with pytest.raises(UnfinishedStoreError, match=f"type the command that began it again, 'reinforce {how}'"):
            verify(copy)
        assert run_group(command, [*argv, "--quiet"]) == 0
        assert there(copy) == contents_of(finished_store)

    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["Ctrl-C", "SIGTERM"])
    def test_a_signal_says_how_to_go_on(self, finished_store: Path, bucket: Bucket, number: int) -> None:
        argv = ["push", str(finished_store), f"{bucket.url}/x.zarr", "--quiet", "--jobs", "1"]
        with slowly(bucket, "PUT", 5) as reached:
            process = subprocess.Popen([*REINFORCE, *argv], stderr=subprocess.PIPE, text=True)
            assert reached.wait(60)
            process.send_signal(number)
            _, err = process.communicate(timeout=60)
        assert process.returncode == 130
        assert err.count("\n") == 1
        assert "objects there: type the same command again to go on" in err
