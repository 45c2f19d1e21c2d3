"""Requests to a real S3 server through a proxy that fails on demand: tried again, or one line that says what to do."""

from __future__ import annotations

import pickle
from collections.abc import Callable

import pytest
from faulty_proxy import CUT, DROP, FAIL, FORBID, LOSE, SLOW
from s3_server import Bucket

from reinforce.errors import MissingExtraError, RemoteAccessError, UsageError
from reinforce.remote import RemotePlace

REQUESTS: dict[str, tuple[Callable[[RemotePlace], object], object]] = {
    "get": (lambda place: place.get("a"), b"0123456789"),
    "range": (lambda place: place.get_range("a", 3, 4), b"3456"),
    "head": (lambda place: place.head("a").size, 10),
    "list": (lambda place: [(found.path, found.size) for found in place.list()], [("a", 10)]),
    "put": (lambda place: place.put_new("new", b"x"), True),
    "put over another": (lambda place: place.put_new("a", b"x"), False),
    "delete": (lambda place: place.delete("a"), None),
}


@pytest.fixture
def place(bucket: Bucket) -> RemotePlace:
    return RemotePlace(bucket.upload({"a": b"0123456789"}, "pre/fix/"))


@pytest.mark.parametrize("name", REQUESTS)
@pytest.mark.parametrize("fault", [DROP, FAIL, CUT, LOSE, SLOW])
def test_what_passes_is_tried_again(name: str, fault: str, place: RemotePlace, bucket: Bucket) -> None:
    bucket.proxy.delay_seconds = 0.02
    request, expected = REQUESTS[name]
    bucket.proxy.faults.extend([fault] if fault == SLOW else [fault, fault])
    assert request(place) == expected


@pytest.mark.parametrize("name", REQUESTS)
@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (FORBID, r"access is denied \(403.*AWS_ACCESS_KEY_ID"),
        (FAIL, "answers 500"),
        (DROP, "no connection.*AWS_ENDPOINT_URL"),
    ],
)
def test_what_stays_is_one_line_without_secrets(name: str, fault: str, words: str, place: RemotePlace, bucket: Bucket,
                                                monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    monkeypatch.setenv("REINFORCE_RETRIES", "1")
    bucket.proxy.faults.extend([fault] * 4)
    with pytest.raises(RemoteAccessError, match=words) as caught:
        REQUESTS[name][0](place)
    assert "\n" not in str(caught.value)
    assert place.url in str(caught.value)
    assert "not-to-be-seen" not in str(caught.value)
    assert "not-to-be-seen" not in repr(place)


def test_a_lost_answer_of_a_put_is_not_taken_for_another_writer(place: RemotePlace, bucket: Bucket) -> None:
    bucket.proxy.faults.append(LOSE)
    assert place.put_new("mine", b"mine") is True
    bucket.proxy.faults.append(LOSE)
    assert place.put_new("mine", b"other") is False
    assert place.get("mine") == b"mine"


def test_ranges_end_with_the_object(place: RemotePlace) -> None:
    assert [place.get_range("a", start, length) for start, length in ((8, 9), (10, 1), (99, 5), (0, 0))] == [
        b"89", b"", b"", b""
    ]  # fmt: skip


def test_what_is_not_there(place: RemotePlace) -> None:
    for request in (place.get, place.head, lambda path: place.get_range(path, 0, 1)):
        with pytest.raises(FileNotFoundError):
            request("none")
    place.delete("none")


def test_a_bucket_that_is_not_there(bucket: Bucket) -> None:
    place = RemotePlace("s3://no-such-bucket/x")
    for request in (lambda: place.get("a"), lambda: list(place.list()), lambda: place.put_new("a", b"")):
        with pytest.raises(RemoteAccessError, match=r"no-such-bucket/x.*there is no such bucket \(NoSuchBucket\)"):
            request()


def test_listings_of_many_pages(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reinforce.remote.place.CHUNK", 7)
    names = {f"{number:02d}/é {number}": b"x" for number in range(30)}
    place = RemotePlace(bucket.upload(names, "many/"))
    bucket.proxy.faults.extend(["", CUT, "", CUT])
    assert [found.path for found in place.list()] == sorted(names)


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("ftp://host/x", "cannot read ftp://host/x: type s3://"),
        ("https://me:not-to-be-seen@host/x", "https://host/x: credentials and options don't belong into a URL"),
        ("https://host/x?sig=not-to-be-seen", "https://host/x: credentials and options"),
    ],
)
def test_urls_that_are_refused(url: str, words: str) -> None:
    with pytest.raises(UsageError, match=words) as caught:
        RemotePlace(url)
    assert "not-to-be-seen" not in str(caught.value)


def test_no_credentials(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REINFORCE_RETRIES", "0")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_METADATA_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(RemoteAccessError, match="set in the environment AWS_ACCESS_KEY_ID"):
        RemotePlace(bucket.url).get("a")


def test_without_obstore(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"s3://b/x needs obstore: pip install 'reinforce-vision\[share\]'"):
        RemotePlace("s3://b/x")


def test_pickles_without_client_or_credentials(place: RemotePlace) -> None:
    place.get("a")
    data = pickle.dumps(place)
    assert b"not-to-be-seen" not in data
    assert pickle.loads(data).get("a") == b"0123456789"


def test_retries_must_be_a_number(place: RemotePlace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REINFORCE_RETRIES", "many")
    with pytest.raises(UsageError, match="REINFORCE_RETRIES is 'many'"):
        place.get("a")
