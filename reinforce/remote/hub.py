"""Repositories of the Hugging Face Hub as places: read object by object, written by commits of many objects.

The endpoint comes from HF_ENDPOINT, the token from HF_TOKEN or `hf auth login`, as huggingface_hub reads them. Neither
is ever a part of a message or of what is pickled.
"""

from __future__ import annotations

import errno
import hashlib
import importlib
import importlib.util
import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from reinforce.errors import MissingExtraError, ReinforceError, RemoteAccessError, UsageError
from reinforce.remote.hub_reasons import is_missing_object, is_transient, reason_of
from reinforce.remote.place import RemoteObject
from reinforce.remote.reasons import RANGE_NOT_SATISFIABLE
from reinforce.remote.retries import num_retries, wait_before_retry

SCHEME = "hf://"
DATASETS = "datasets/"
"""Stands before the names of repositories of data; those of models have nothing there."""
_URL = re.compile(
    r"hf://(?P<datasets>datasets/)?(?P<repo>(?!(?:datasets|models|spaces)/)[\w.-]+/[\w.-]+)"
    r"(@(?P<revision>[\w.-]+))?(/(?P<prefix>[\w./-]+?))?/?",
    re.A,
)
_TIMEOUT_SECONDS = 60
T = TypeVar("T")


@dataclass(frozen=True)
class HubAddress:
    """hf://datasets/OWNER/NAME[@REVISION][/PREFIX], or without "datasets/" a repository of a model."""

    kind: Literal["dataset", "model"]
    repo: str
    revision: str
    prefix: str

    @classmethod
    def parse(cls, url: str) -> HubAddress:
        """Raises UsageError."""
        found = _URL.fullmatch(url)
        if found is None or ".." in url or "//" in url.removeprefix(SCHEME):
            plain = re.sub(r"//[^/]*@", "//", url.partition("?")[0])
            raise UsageError(f"{plain!r} is no place on the Hub: type hf://datasets/OWNER/NAME, or "
                             "hf://datasets/OWNER/NAME/FOLDER")  # fmt: skip
        kind: Literal["dataset", "model"] = "dataset" if found["datasets"] else "model"
        return cls(kind, found["repo"], found["revision"] or "main", found["prefix"] or "")

    def path_of(self, path: str) -> str:
        """In the repository."""
        return f"{self.prefix}/{path}" if self.prefix else path


def is_hub(location: str) -> bool:
    return location.startswith(SCHEME)


class HubPlace:
    """As RemotePlace reads, so that a store is read from it as from an object store. Picklable.

    Reads of what is not there raise FileNotFoundError; all else that fails is a RemoteAccessError of one line.
    """

    def __init__(self, url: str) -> None:
        """Connects to nothing. Raises UsageError, MissingExtraError without huggingface_hub."""
        self.address = HubAddress.parse(url)
        if importlib.util.find_spec("huggingface_hub") is None:
            raise MissingExtraError("huggingface_hub", "share", url)
        self.url = url.rstrip("/")
        self._client: Any = None

    def __reduce__(self) -> tuple[type[HubPlace], tuple[str]]:
        return (HubPlace, (self.url,))

    def name_of(self, path: str) -> str:
        """The URL of an object, for messages."""
        return f"{self.url}/{path}" if path else self.url

    def get(self, path: str) -> bytes:
        return self._request("read", path, lambda api: self._fetch(api, path, {}))

    def get_range(self, path: str, start: int, length: int) -> bytes:
        """Fewer bytes at the object's end."""
        if length == 0:
            return b""
        wanted = {"Range": f"bytes={start}-{start + length - 1}"}
        return self._request("read", path, lambda api: self._fetch(api, path, wanted))

    def head(self, path: str) -> RemoteObject:
        full = self.address.path_of(path)
        repo = self._repo()
        found = self._request("read", path, lambda api: api.get_paths_info(paths=[full], **repo))
        if not found or not hasattr(found[0], "size"):
            raise FileNotFoundError(errno.ENOENT, "no such object", self.name_of(path))
        return _object(found[0], path)

    def list(self) -> Iterator[RemoteObject]:
        """Every object below; none where the repository or the folder in it is not there yet."""
        prefix, repo = self.address.prefix, self._repo()
        try:
            entries = self._request("list", "", lambda api: list(
                api.list_repo_tree(path_in_repo=prefix or None, recursive=True, **repo)))  # fmt: skip
        except FileNotFoundError:
            return
        for entry in entries:
            if hasattr(entry, "size"):
                yield _object(entry, entry.path.removeprefix(f"{prefix}/" if prefix else ""))

    def create(self, *, is_private: bool) -> None:
        """Make the repository, where there is none; one that is there stays as private as it is."""
        settings = {"repo_type": self.address.kind, "private": is_private, "exist_ok": True}
        self._request("create", "", lambda api: api.create_repo(self.address.repo, **settings))

    def commit(self, contents: Mapping[str, bytes], message: str, *, num_threads: int) -> None:
        """Put objects, all of them or none; those of equal content make no difference, so it may be tried again."""
        from huggingface_hub import CommitOperationAdd

        path_of, repo = self.address.path_of, self._repo()
        self._request("write", "", lambda api: api.create_commit(
            operations=[CommitOperationAdd(path_of(path), data) for path, data in contents.items()],
            commit_message=message, num_threads=num_threads, **repo))  # fmt: skip

    def put_new(self, path: str, data: bytes) -> bool:
        raise RemoteAccessError(f"cannot write {self.name_of(path)} alone: reinforce push writes to the Hub")

    def delete(self, path: str) -> None:
        raise RemoteAccessError(f"cannot delete {self.name_of(path)}: do that on the Hub's own pages")

    def _repo(self) -> dict[str, str]:
        return {"repo_id": self.address.repo, "repo_type": self.address.kind, "revision": self.address.revision}

    def _fetch(self, api: Any, path: str, headers: Mapping[str, str]) -> bytes:
        from huggingface_hub import hf_hub_url

        address, utils = self.address, _utils()
        url = hf_hub_url(address.repo, address.path_of(path), repo_type=address.kind, revision=address.revision,
                         endpoint=api.endpoint)  # fmt: skip
        headers = {**utils.build_hf_headers(), **headers}
        response = utils.get_session().get(url, headers=headers, timeout=_TIMEOUT_SECONDS)
        if response.status_code == RANGE_NOT_SATISFIABLE:
            return b""
        utils.hf_raise_for_status(response)
        return bytes(response.content)

    def _request(self, action: str, path: str, call: Callable[[Any], T]) -> T:
        for attempt in range(num_retries() + 1):
            try:
                return call(self._api())
            except Exception as error:
                if attempt == num_retries() or not is_transient(error):
                    raise self._error(action, path, error) from None
                wait_before_retry(attempt)
        raise AssertionError

    def _error(self, action: str, path: str, error: Exception) -> Exception:
        if isinstance(error, ReinforceError):
            return error
        if is_missing_object(error):
            return FileNotFoundError(errno.ENOENT, "no such object", self.name_of(path))
        return RemoteAccessError(f"cannot {action} {self.name_of(path)}: {reason_of(error)}")

    def _api(self) -> Any:
        if self._client is None:
            from huggingface_hub import HfApi

            utils = _utils()
            utils.logging.set_verbosity_error()  # its warnings name signed URLs
            utils.disable_progress_bars()
            self._client = HfApi(endpoint=os.environ.get("HF_ENDPOINT") or None, library_name="reinforce-vision")
        return self._client


def _utils() -> Any:
    """Of huggingface_hub, whose exports type checkers do not see."""
    return importlib.import_module("huggingface_hub.utils")


def content_tags(data: bytes) -> tuple[str, str]:
    """What the Hub's listing may say of an object of this content: SHA-256, or git's hash where it is small."""
    git = hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False)
    return hashlib.sha256(data).hexdigest(), git.hexdigest()


def _object(entry: Any, path: str) -> RemoteObject:
    return RemoteObject(path, int(entry.size), entry.lfs.sha256 if entry.lfs else entry.blob_id)
