"""One prefix of an object store: the few requests that are made of it, tried again where that helps, one-line errors.

Credentials and endpoints come from the environment, as obstore reads it: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY,
AWS_ENDPOINT_URL, AWS_REGION, AWS_SKIP_SIGNATURE, GOOGLE_APPLICATION_CREDENTIALS, AZURE_STORAGE_ACCOUNT_NAME ...
(services.py has those that errors name).
They are never part of a URL, of a message, or of anything that is written or pickled.
"""

from __future__ import annotations

import contextlib
import errno
import importlib.util
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

from reinforce.errors import MissingExtraError, ReinforceError, RemoteAccessError, UsageError
from reinforce.remote.reasons import is_broken_off, is_no_bucket, is_past_the_end, is_transient, reason_of
from reinforce.remote.retries import FIRST_WAIT_SECONDS, LONGEST_WAIT_SECONDS, num_retries, wait_before_retry
from reinforce.remote.services import has_credentials, service_of

REQUEST_TIMEOUT_SECONDS = 60
CONNECT_TIMEOUT_SECONDS = 10
CHUNK = 1000
"""Objects that one listing request asks for."""


@dataclass(frozen=True, slots=True)
class RemoteObject:
    path: str
    """Relative to the place."""
    size: int
    tag: str
    """Changes with the object's content: its ETag, or when it was written."""


def is_url(location: str) -> bool:
    return "://" in location


class RemotePlace:
    """Everything below a URL such as s3://bucket/prefix. Picklable; each process opens a client of its own.

    Reads of what is not there raise FileNotFoundError; all else that fails is a RemoteAccessError of one line.
    """

    def __init__(self, url: str) -> None:
        """Connects to nothing. Raises UsageError for a URL with credentials, MissingExtraError without obstore."""
        if has_credentials(url):
            parts = urlsplit(url)
            plain = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
            raise UsageError(f"{plain}: credentials and options don't belong into a URL: set them in the environment")
        if (service := service_of(url)) is None:
            raise UsageError(f"cannot read {url}: type s3://, gs://, az:// or https://, or copy it here first")
        if importlib.util.find_spec("obstore") is None:
            raise MissingExtraError("obstore", "share", url)
        self.url = url.rstrip("/")
        self._endpoints = service.endpoints
        self._client: Any = None
        self._once: Any = None

    def __reduce__(self) -> tuple[type[RemotePlace], tuple[str]]:
        return (RemotePlace, (self.url,))

    def name_of(self, path: str) -> str:
        """The URL of an object, for messages."""
        return f"{self.url}/{path}" if path else self.url

    def get(self, path: str) -> bytes:
        return bytes(self._request("read", path, lambda client: client.get(path).bytes()))

    def get_range(self, path: str, start: int, length: int) -> bytes:
        """Fewer bytes at the object's end."""
        if length == 0:
            return b""
        try:
            return bytes(self._tried(lambda client: client.get_range(path, start=start, length=length)))
        except Exception as error:
            if is_past_the_end(error):
                return b""
            raise self._error("read", path, error) from None

    def head(self, path: str) -> RemoteObject:
        return _object(self._request("read", path, lambda client: client.head(path)), path)

    def list(self) -> Iterator[RemoteObject]:
        """Every object below, in the order of their paths' bytes where the service lists in one."""
        listing = _Listing()
        while page := self._request("list", "", listing.next_page):
            yield from (_object(meta, meta["path"]) for meta in page)

    def put_new(self, path: str, data: bytes) -> bool:
        """Create an object, or say False where one of other content is there.

        A try whose answer was lost may have created it: one of equal content is then ours.
        """
        from obstore.exceptions import AlreadyExistsError

        may_be_ours = False
        for attempt in range(num_retries() + 1):
            try:
                self._writer().put(path, data, mode="create", use_multipart=False)
                return True
            except AlreadyExistsError:
                return may_be_ours and self.get(path) == data
            except Exception as error:
                if attempt == num_retries() or not is_transient(error):
                    raise self._error("write", path, error) from None
                may_be_ours = True
                wait_before_retry(attempt)
        raise AssertionError

    def put(self, path: str, data: bytes) -> None:
        """Create or replace."""
        self._request("write", path, lambda client: client.put(path, data, use_multipart=False))

    def delete(self, path: str) -> None:
        """Nothing happens where there is none."""
        with contextlib.suppress(FileNotFoundError):
            self._request("delete", path, lambda client: client.delete(path))

    def _request(self, action: str, path: str, call: Callable[[Any], Any]) -> Any:
        try:
            return self._tried(call)
        except Exception as error:
            raise self._error(action, path, error) from None

    def _tried(self, call: Callable[[Any], Any]) -> Any:
        """obstore makes failed requests again; an answer that breaks off in the middle is for us."""
        for attempt in range(num_retries()):
            try:
                return call(self._open())
            except Exception as error:
                if not is_broken_off(error):
                    raise
                wait_before_retry(attempt)
        return call(self._open())

    def _error(self, action: str, path: str, error: Exception) -> Exception:
        if isinstance(error, ReinforceError):
            return error
        if isinstance(error, FileNotFoundError) and action != "write" and not is_no_bucket(error):
            return FileNotFoundError(errno.ENOENT, "no such object", self.name_of(path))
        return RemoteAccessError(f"cannot {action} {self.name_of(path)}: {reason_of(error, self.url)}")

    def _open(self) -> Any:
        if self._client is None:
            self._client = self._connect(num_retries())
        return self._client

    def _writer(self) -> Any:
        """A client that tries nothing again by itself: `put_new` must know of each try."""
        if self._once is None:
            self._once = self._connect(0)
        return self._once

    def _connect(self, retries: int) -> Any:
        from obstore.store import from_url

        endpoints = [self.url, *(os.environ.get(name, "") for name in self._endpoints)]
        options: Any = {"timeout": f"{REQUEST_TIMEOUT_SECONDS}s", "connect_timeout": f"{CONNECT_TIMEOUT_SECONDS}s"}
        if any(endpoint.startswith("http://") for endpoint in endpoints):
            options["allow_http"] = True
        backoff: Any = {"init_backoff": timedelta(seconds=FIRST_WAIT_SECONDS),
                   "max_backoff": timedelta(seconds=LONGEST_WAIT_SECONDS), "base": 2}  # fmt: skip
        return from_url(self.url, client_options=options, retry_config={"max_retries": retries, "backoff": backoff})


class _Listing:
    """The pages of a listing. One that breaks off goes on behind the last object that came."""

    def __init__(self) -> None:
        self._last: str | None = None
        self._stream: Any = None

    def next_page(self, client: Any) -> list[Any]:
        """Empty at the end."""
        stream, self._stream = self._stream or client.list(offset=self._last, chunk_size=CHUNK), None
        page: list[Any] = next(stream, [])
        self._last = page[-1]["path"] if page else self._last
        self._stream = stream
        return page


def _object(meta: Any, path: str) -> RemoteObject:
    tag = meta["e_tag"] or str(meta["last_modified"])
    return RemoteObject(path, int(meta["size"]), tag.strip('"'))  # Azure quotes it in answers and not in listings
