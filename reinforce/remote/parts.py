"""Parts of objects: from what was asked for ahead, from the cache on disk, or by a request of their own.

Parts that lie next to each other in one object are asked for by one request. What is read ahead is bounded in bytes:
more is asked for as it is used.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, NamedTuple

from reinforce.remote.cache import PartCache
from reinforce.remote.place import RemotePlace

NUM_THREADS = 32
AHEAD_BYTES = 256 << 20
"""Memory of what is read ahead and not used yet, per process."""
MOST_REQUESTS = 64
"""Requests whose answers wait: a process that ends early waits for these."""
JOINED_BYTES = 4 << 20
"""Neighbouring parts are asked for together up to this size."""
GAP_BYTES = 16 << 10
"""Parts so near to each other count as neighbours: headers of a tar lie between."""


class Part(NamedTuple):
    path: str
    tag: str
    """Of the object's content, so that a replaced object is another one to the cache."""
    start: int
    length: int


@dataclass
class _Request:
    """Parts of one object that are asked for together."""

    parts: list[Part]
    num_waiting: int = 0
    """Parts that were asked for and not used yet."""

    @property
    def start(self) -> int:
        return self.parts[0].start

    @property
    def length(self) -> int:
        return self.parts[-1].start + self.parts[-1].length - self.start

    def takes(self, part: Part) -> bool:
        """Whether the part may join."""
        last = self.parts[-1]
        gap = part.start - last.start - last.length
        return ((part.path, part.tag) == (last.path, last.tag) and 0 <= gap <= GAP_BYTES
                and part.start + part.length - self.start <= JOINED_BYTES)  # fmt: skip


class PartReader:
    """Reads parts of the objects of a place. Picklable; for one thread at a time."""

    def __init__(self, place: RemotePlace, cache: PartCache) -> None:
        self.place, self.cache = place, cache
        self._reset()

    def _reset(self) -> None:
        self._pool: ThreadPoolExecutor | None = None
        self._wanted: deque[_Request] = deque()
        self._asked: dict[Part, tuple[_Request, Future[bytes]]] = {}
        self._ahead_bytes = self._num_requests = 0

    def __getstate__(self) -> dict[str, Any]:
        return {"place": self.place, "cache": self.cache}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._reset()

    def read(self, part: Part) -> bytes:
        """Fewer bytes where the object is shorter. Raises FileNotFoundError, RemoteAccessError."""
        if part in self._asked:
            request, answer = self._take(part)
            self._ask_more()
            data = answer.result()
            first = part.start - request.start
            return data[first : first + part.length]
        found = self.cache.get(self._name(part))
        if found is None:
            found = self.place.get_range(part.path, part.start, part.length)
            self._keep(part, found)
        return found

    def prefetch(self, parts: Sequence[Part]) -> None:
        """Say which parts will be read next, in this order. It takes the place of what was said before."""
        soon = set(parts)
        for part in [part for part in self._asked if part not in soon]:
            request, answer = self._take(part)
            if not soon.intersection(request.parts):
                answer.cancel()
        missing = (part for part in dict.fromkeys(parts) if part not in self._asked and part.length)
        self._wanted = deque(_joined(missing))
        self._ask_more()

    def _ask_more(self) -> None:
        while self._wanted and self._ahead_bytes < AHEAD_BYTES and self._num_requests < MOST_REQUESTS:
            request = self._wanted.popleft()
            if self._pool is None:
                self._pool = ThreadPoolExecutor(NUM_THREADS, thread_name_prefix="prefetch")
            answer = self._pool.submit(self._fetch, request)
            request.num_waiting = len(request.parts)
            self._num_requests += 1
            for part in request.parts:
                self._asked[part] = (request, answer)
                self._ahead_bytes += part.length

    def _take(self, part: Part) -> tuple[_Request, Future[bytes]]:
        request, answer = self._asked.pop(part)
        self._ahead_bytes -= part.length
        request.num_waiting -= 1
        self._num_requests -= not request.num_waiting
        return request, answer

    def _fetch(self, request: _Request) -> bytes:
        """In a thread of the pool. Where all parts are cached, nothing is asked for."""
        cached = [self.cache.get(self._name(part)) for part in request.parts]
        data = bytearray(request.length)
        if any(found is None for found in cached):
            data = bytearray(self.place.get_range(request.parts[0].path, request.start, request.length))
        for part, found in zip(request.parts, cached, strict=True):
            first = part.start - request.start
            if found is None:
                self._keep(part, bytes(data[first : first + part.length]))
            else:
                data[first : first + part.length] = found
        return bytes(data)

    def _keep(self, part: Part, data: bytes) -> None:
        if len(data) == part.length:
            self.cache.put(self._name(part), data)

    def _name(self, part: Part) -> str:
        return "\0".join([self.place.name_of(part.path), part.tag, str(part.start), str(part.length)])


def _joined(parts: Iterator[Part]) -> Iterator[_Request]:
    request: _Request | None = None
    for part in parts:
        if request is not None and request.takes(part):
            request.parts.append(part)
        else:
            if request is not None:
                yield request
            request = _Request([part])
    if request is not None:
        yield request
