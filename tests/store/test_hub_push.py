"""Stores on the Hugging Face Hub: pushed in commits, gone on with after any failure, and nothing overwritten."""

from __future__ import annotations

import os
import pickle
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from faulty_proxy import CUT, DROP, FAIL, FORBID, LOSE
from hub_server import SECRET_OF_UPLOADS, TOKEN, HubServer, environment, hub_server
from tiny_stores import build_at, contents_of

from reinforce.errors import (
    CorruptStoreError,
    OutputExistsError,
    ReinforceError,
    RemoteAccessError,
    UnfinishedStoreError,
    UsageError,
)
from reinforce.pull import PullConfig, pull
from reinforce.push import PushConfig
from reinforce.push import push as push_verb
from reinforce.remote import HubPlace, hub_upload
from reinforce.remote.hub import HubAddress
from reinforce.remote.hub_upload import upload_files
from reinforce.store import Store
from reinforce.store.codecs import Int8Codec

pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")
"""Of the way in which huggingface_hub puts large files."""
NAME = "team/tiny"
URL = f"hf://datasets/{NAME}"


@pytest.fixture
def hub():
    with hub_server() as server:
        yield server


@pytest.fixture(autouse=True)
def small_commits(monkeypatch):
    monkeypatch.setattr(hub_upload, "COMMIT_OBJECTS", 5)


def push(root: Path, url: str = URL, **options: Any):
    return push_verb(PushConfig(store=str(root), destination=url, quiet=True, jobs=2, **options)).copied


def stored(hub: HubServer, prefix: str = "") -> dict[str, bytes]:
    """The store that the repository holds."""
    files = hub.repository(NAME).files.items()
    return {path.removeprefix(prefix): data for path, data in files
            if path.startswith(prefix) and not path.startswith(".")}  # fmt: skip


class TestAddresses:
    @pytest.mark.parametrize(
        ("url", "expected"),
        [
            ("hf://datasets/o/n", HubAddress("dataset", "o/n", "main", "")),
            ("hf://datasets/o/n/", HubAddress("dataset", "o/n", "main", "")),
            ("hf://datasets/o/n/a/b.zarr", HubAddress("dataset", "o/n", "main", "a/b.zarr")),
            ("hf://datasets/o/n@v1.0/a", HubAddress("dataset", "o/n", "v1.0", "a")),
            ("hf://o/n", HubAddress("model", "o/n", "main", "")),
        ],
    )
    def test_are_parsed(self, url, expected):
        assert HubAddress.parse(url) == expected
        assert pickle.loads(pickle.dumps(HubPlace(url))).url == url.rstrip("/")

    @pytest.mark.parametrize("url", ["hf://", "hf://datasets/o", "hf://o", "hf://datasets/o/n/../x",
                                     "hf://datasets/o/n//x", "hf://datasets/o/n?token=hf_secret", "hf://u:hf_secret@o/n",
                                     "hf://datasets/o/n\nx"])  # fmt: skip
    def test_others_are_refused(self, url):
        with pytest.raises(UsageError, match="type hf://datasets/OWNER/NAME") as caught:
            HubPlace(url)
        assert "hf_secret" not in str(caught.value)
        assert "\n" not in str(caught.value)


class TestPush:
    def test_a_repository_holds_just_the_store(self, hub, finished_store):
        report = push(finished_store)
        assert stored(hub) == contents_of(finished_store)
        assert report.num_copied == len(contents_of(finished_store)) - 1
        assert report.copied_bytes == report.manifest.num_bytes

    def test_objects_come_in_commits_the_plan_first_and_the_manifest_last_and_alone(self, hub, finished_store):
        push(finished_store)
        commits = hub.repository(NAME).commits
        assert "plan.json" in commits[0]
        assert commits[-1] == ["manifest.json"]
        assert max(map(len, commits)) == 5

    @pytest.mark.parametrize("is_public", [False, True])
    def test_a_new_repository_is_private_unless_asked_for(self, hub, is_public, finished_store):
        push(finished_store, public=is_public, teacher_license="MIT", data_license="CC0-1.0")
        assert b'- "cc0-1.0"\n' in stored(hub)["README.md"]
        assert hub.repository(NAME).private is not is_public

    def test_a_public_store_needs_licences(self, hub, finished_store):
        with pytest.raises(UsageError, match="weights and of the transfer set's images is unknown"):
            push(finished_store, public=True)
        assert not hub.repositories

    def test_a_damaged_manifest_is_replaced_on_request(self, hub, finished_store):
        push(finished_store)
        hub.repository(NAME).files["manifest.json"] = b"{"
        with pytest.raises(CorruptStoreError, match=r"manifest.json is there with other content: type --repair"):
            push(finished_store)
        push(finished_store, repair=True)
        assert stored(hub) == contents_of(finished_store)

    def test_folders_of_a_repository_hold_stores_of_their_own(self, hub, finished_store, tmp_path):
        other = build_at(tmp_path / "other.zarr", Int8Codec()).root
        push(finished_store, f"{URL}/a")
        push(other, f"{URL}/b/c")
        assert stored(hub, "a/") == contents_of(finished_store)
        assert stored(hub, "b/c/") == contents_of(other)

    def test_again_sends_nothing(self, hub, finished_store):
        push(finished_store)
        commits = len(hub.repository(NAME).commits)
        report = push(finished_store)
        assert (report.num_copied, report.num_there) == (0, len(report.manifest.objects))
        assert len(hub.repository(NAME).commits) == commits

    def test_only_whole_stores_are_pushed(self, hub, store_copy):
        (store_copy / "manifest.json").rename(store_copy / "manifest.old")
        with pytest.raises(UnfinishedStoreError):
            push(store_copy)
        (store_copy / "manifest.old").rename(store_copy / "manifest.json")
        unit = store_copy / "targets/values/c/0/1/0"
        unit.write_bytes(b"x" + unit.read_bytes()[1:])
        with pytest.raises(CorruptStoreError, match="targets/values/c/0/1/0"):
            push(store_copy)
        assert "manifest.json" not in stored(hub)


class TestNothingIsOverwritten:
    @pytest.mark.parametrize(
        ("files", "message"),
        [
            ({"data.csv": b"1,2"}, "other things, such as data.csv"),
            ({"plan.json": b"{}"}, "another store, which is not finished"),
            ({"manifest.json": b"{}"}, "other things, such as manifest.json"),
        ],
    )
    @pytest.mark.parametrize("repair", [False, True])
    def test_by_a_store(self, hub, finished_store, files, message, repair):
        hub.add("dataset", NAME).files |= files
        with pytest.raises(OutputExistsError, match=message):
            push(finished_store, repair=repair)
        assert hub.repository(NAME).files == files

    def test_a_finished_store_by_another(self, hub, finished_store, tmp_path):
        push(finished_store)
        with pytest.raises(OutputExistsError, match="another store"):
            push(build_at(tmp_path / "other.zarr", Int8Codec()).root)
        assert stored(hub) == contents_of(finished_store)

    def test_an_edited_object_is_named_and_replaced_when_asked(self, hub, finished_store):
        push(finished_store)
        hub.repository(NAME).files["README.md"] = b"# mine\n"
        with pytest.raises(CorruptStoreError, match=r"README.md is there with other content: type --repair"):
            push(finished_store)
        assert push(finished_store, repair=True).num_copied == 1
        assert stored(hub) == contents_of(finished_store)


class TestARepositoryOfAModel:
    """Is where a URL without "datasets/" leads."""

    @pytest.mark.parametrize("holds", [{}, {"model.safetensors": b"weights"}], ids=["new", "a model"])
    @pytest.mark.parametrize(
        ("url", "meant"),
        [
            (f"hf://{NAME}", URL),
            (f"hf://{NAME}/a.zarr/", f"{URL}/a.zarr"),
            (f"hf://{NAME}@v1/a", f"{URL}@v1/a"),
        ],
    )
    def test_takes_no_store(self, hub, finished_store, url, meant, holds):
        hub.add("model", NAME).files |= holds
        with pytest.raises(UsageError, match=rf"is a store, and .* a repository of a model: type {re.escape(meant)}$"):
            push(finished_store, url)
        assert {key: one.files for key, one in hub.repositories.items()} == {("model", NAME): holds}


class TestFailures:
    @pytest.mark.parametrize(("fault", "first"), [(DROP, 0), (FAIL, 3), (CUT, 6), (LOSE, 9)])
    def test_one_fault_at_any_request_makes_no_difference(self, hub, finished_store, fault, first):
        push(finished_store)
        total = len(hub.proxy.requests)
        assert total > 24
        for number in range(first, total, 12):
            hub.repositories.clear(), hub.blobs.clear(), hub.proxy.requests.clear()
            hub.proxy.choose = lambda number=number: fault if len(hub.proxy.requests) == number + 1 else ""
            push(finished_store)
            assert stored(hub) == contents_of(finished_store), f"{fault} at request {number}"

    def test_a_network_that_goes_is_one_line_and_the_same_command_goes_on(self, hub, finished_store):
        hub.proxy.choose = lambda: DROP if len(hub.proxy.requests) > 12 else ""
        with pytest.raises(RemoteAccessError, match=r"no connection.*objects there: mend that, then type the same"):
            push(finished_store)
        there = len(stored(hub))
        assert 0 < there < len(contents_of(finished_store))
        hub.proxy.choose = lambda: ""
        assert push(finished_store).num_there == there
        assert stored(hub) == contents_of(finished_store)

    @pytest.mark.parametrize(
        ("rights", "token", "message"),
        [
            ({"read"}, TOKEN, r"access is denied \(403\): the token may not"),
            ({"read", "write"}, "hf_wrong", "401|404"),
        ],
        ids=["reads only", "wrong"],
    )
    def test_a_token_that_may_not_is_one_line(self, hub, finished_store, rights, token, message, monkeypatch):
        hub.rights = rights
        monkeypatch.setenv("HF_TOKEN", token)
        with pytest.raises(RemoteAccessError, match=message) as caught:
            push(finished_store)
        text = str(caught.value)
        assert "\n" not in text
        assert "HF_TOKEN" in text or "token" in text
        assert token not in text

    def test_no_repository_to_read_is_one_line(self, hub):
        with pytest.raises(RemoteAccessError, match="there is no such repository") as caught:
            HubPlace(URL).get("manifest.json")
        assert "\n" not in str(caught.value)

    def test_no_error_names_a_signed_url_or_the_token(self, hub, finished_store, capfd):
        """Whichever request fails for good."""
        push(finished_store)
        total = len(hub.proxy.requests)
        for number in range(0, total, 6):
            hub.repositories.clear(), hub.blobs.clear(), hub.proxy.requests.clear()
            hub.proxy.choose = lambda number=number: FORBID if len(hub.proxy.requests) > number else ""
            with pytest.raises(ReinforceError) as caught:
                push(finished_store)
            seen = str(caught.value) + "".join(capfd.readouterr())
            assert "\n" not in seen
            assert TOKEN not in seen
            assert SECRET_OF_UPLOADS not in seen

    @pytest.mark.parametrize("num_commits", [1, 3])
    def test_a_kill_in_the_middle_costs_one_commit(self, hub, finished_store, num_commits):
        source = (
            "from reinforce.remote import hub_upload; hub_upload.COMMIT_OBJECTS = 5; "
            "from reinforce.cli import command; from reinforce.command import run_group; "
            f"run_group(command, ['push', {str(finished_store)!r}, {URL!r}, '--quiet'])"
        )
        child = subprocess.Popen([sys.executable, "-c", source], env=os.environ | environment(hub))

        def kill_in_time() -> str:
            repository = hub.repositories.get(("dataset", NAME))
            if repository and len(repository.commits) == num_commits:
                child.send_signal(signal.SIGKILL)
            return ""

        hub.proxy.choose = kill_in_time
        assert child.wait(120) == -signal.SIGKILL
        hub.proxy.choose = lambda: ""
        assert "manifest.json" not in stored(hub)
        there = len(stored(hub))
        report = push(finished_store)
        assert report.num_there == there >= 5
        assert stored(hub) == contents_of(finished_store)


class TestReading:
    def test_a_pulled_store_is_the_pushed_one(self, hub, finished_store, tmp_path):
        push(finished_store, f"{URL}/x")
        hub.proxy.choose = lambda: DROP if len(hub.proxy.requests) % 9 == 0 else ""
        pull(PullConfig(source=f"{URL}/x", out=str(tmp_path / "x.zarr"), quiet=True))
        assert contents_of(tmp_path / "x.zarr") == contents_of(finished_store)

    def test_a_damaged_object_ends_a_pull_with_its_name(self, hub, finished_store, tmp_path):
        push(finished_store)
        files = hub.repository(NAME).files
        files["targets/values/c/0/1/0"] = b"x" + files["targets/values/c/0/1/0"][1:]
        with pytest.raises(CorruptStoreError, match="targets/values/c/0/1/0"):
            pull(PullConfig(source=URL, out=str(tmp_path / "x.zarr"), quiet=True))
        assert not (tmp_path / "x.zarr/manifest.json").exists()

    def test_a_store_is_read_where_it_lies(self, hub, finished_store, tmp_path, monkeypatch):
        monkeypatch.setenv("REINFORCE_HOME", str(tmp_path))
        push(finished_store)
        there, here = Store.open(URL), Store.open(finished_store)
        for unit in range(here.num_units):
            assert (there.read_targets(unit, 1) == here.read_targets(unit, 1)).all()
        assert there.keys(0, 10) == here.keys(0, 10)
        hub.proxy.requests.clear()
        Store.open(URL).read_targets(0, 0)
        assert not [path for _, path, _ in hub.proxy.requests if "resolve" in path and "targets/values/c" in path]

    def test_a_place_reads_lists_and_ranges(self, hub, finished_store):
        push(finished_store, f"{URL}/x")
        place, expected = HubPlace(f"{URL}/x"), contents_of(finished_store)
        assert {found.path: found.size for found in place.list()} == {p: len(data) for p, data in expected.items()}
        for path in ("plan.json", "targets/values/c/0/1/0"):
            data = expected[path]
            assert place.get(path) == data
            assert place.head(path).size == len(data)
            assert place.get_range(path, 3, 7) == data[3:10]
            assert place.get_range(path, len(data) - 2, 10) == data[-2:]
            assert place.get_range(path, len(data), 10) == b""
        for call in (place.get, place.head):
            with pytest.raises(FileNotFoundError):
                call("none")

    def test_what_is_not_there_lists_as_nothing(self, hub, finished_store):
        push(finished_store, f"{URL}/x")
        assert list(HubPlace(f"{URL}/y").list()) == []

    @pytest.mark.parametrize("fault", [DROP, FAIL, CUT])
    def test_a_passing_fault_is_not_seen(self, hub, finished_store, fault):
        push(finished_store)
        data = contents_of(finished_store)["plan.json"]
        hub.proxy.faults.append(fault)
        assert HubPlace(URL).get("plan.json") == data


class TestFiles:
    def test_of_a_student_become_a_model_repository(self, hub, tmp_path):
        weights = os.urandom(5000)
        (tmp_path / "model.safetensors").write_bytes(weights)
        contents = {"config.json": b"{}", "model.safetensors": tmp_path / "model.safetensors",
                    "README.md": b"---\nlicense: mit\n---\n# a student\n"}  # fmt: skip
        report = upload_files(contents, HubPlace("hf://team/student"), "Student", quiet=True)
        files = hub.repository("team/student", "model").files
        assert files["model.safetensors"] == weights
        assert (report.num_sent, report.num_commits) == (3, 1)
        assert upload_files(contents, HubPlace("hf://team/student"), "Student", quiet=True).num_sent == 0
        contents["config.json"] = b'{"a": 1}'
        with pytest.raises(CorruptStoreError, match=r"config.json is there with other content: type --repair"):
            upload_files(contents, HubPlace("hf://team/student"), "Student", quiet=True)
        assert upload_files(contents, HubPlace("hf://team/student"), "Student", repair=True, quiet=True).num_sent == 1
