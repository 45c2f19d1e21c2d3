"""Requests to real S3 and Azure servers through a proxy that fails on demand: tried again, or one line."""

from __future__ import annotations

import pickle
from collections.abc import Callable

import pytest
from azure_server import Container
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


Service = Bucket | Container


@pytest.fixture(params=["bucket", "container"])
def service(request: pytest.FixtureRequest) -> Service:
    found = request.getfixturevalue(request.param)
    assert isinstance(found, Service)
    return found


@pytest.fixture
def place(service: Service) -> RemotePlace:
    return RemotePlace(service.upload({"a": b"0123456789"}, "pre/fix/"))


@pytest.mark.parametrize("name", REQUESTS)
@pytest.mark.parametrize("fault", [DROP, FAIL, CUT, LOSE, SLOW])
def test_what_passes_is_tried_again(name: str, fault: str, place: RemotePlace, service: Service) -> None:
    service.proxy.delay_seconds = 0.02
    request, expected = REQUESTS[name]
    service.proxy.faults.extend([fault] if fault == SLOW else [fault, fault])
    assert request(place) == expected


@pytest.mark.parametrize("name", REQUESTS)
@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (FORBID, r"access is denied \(403.*{variable}"),
        (FAIL, "answers 500"),
        (DROP, "no connection.*{endpoint}"),
    ],
)
def test_what_stays_is_one_line_without_secrets(name: str, fault: str, words: str, place: RemotePlace, service: Service,
                                                monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    monkeypatch.setenv("REINFORCE_RETRIES", "1")
    service.proxy.faults.extend([fault] * 4)
    words = words.format(variable=service.credentials[0], endpoint=service.endpoint)
    with pytest.raises(RemoteAccessError, match=words) as caught:
        REQUESTS[name][0](place)
    assert "\n" not in str(caught.value)
    assert place.url in str(caught.value)
    assert service.secret not in str(caught.value)
    assert service.secret not in repr(place)


@pytest.mark.parametrize(("fault", "words"), [(DROP, "no connection"), (FAIL, "answers 500")])
def test_an_objects_name_is_no_reason(
    fault: str, words: str, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REINFORCE_RETRIES", "0")
    service.proxy.faults.append(fault)
    with pytest.raises(RemoteAccessError, match=words):
        RemotePlace(f"{service.url}/credential/must be specified/timeout").get("response body")


def test_a_lost_answer_of_a_put_is_not_taken_for_another_writer(place: RemotePlace, service: Service) -> None:
    service.proxy.faults.append(LOSE)
    assert place.put_new("mine", b"mine") is True
    service.proxy.faults.append(LOSE)
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


def test_a_bucket_that_is_not_there(service: Service) -> None:
    place = RemotePlace(service.missing)
    for request in (lambda: place.get("a"), lambda: list(place.list()), lambda: place.put_new("a", b"")):
        with pytest.raises(RemoteAccessError) as caught:
            request()
        assert f"there is no such bucket (404 {service.missing_code})" in str(caught.value)
        assert service.missing in str(caught.value)


def test_a_tag_changes_with_the_content_alone(place: RemotePlace) -> None:
    tag = place.head("a").tag
    assert [found.tag for found in place.list()] == [tag]
    place.put("a", b"987")
    assert place.head("a").tag != tag


def test_listings_of_many_pages(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reinforce.remote.place.CHUNK", 7)
    names = {f"{number:02d}/é {number}": b"x" for number in range(30)}
    place = RemotePlace(service.upload(names, "many/"))
    service.proxy.faults.extend(["", CUT, "", CUT])
    assert [found.path for found in place.list()] == sorted(names)


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("ftp://host/x", "cannot read ftp://host/x: type s3://"),
        ("https://me:not-to-be-seen@host/x", "https://host/x: credentials and options don't belong into a URL"),
        ("https://host/x?sig=not-to-be-seen", "https://host/x: credentials and options"),
        ("abfs://me:not-to-be-seen@host.net/x", "abfs://host.net/x: credentials and options"),
        ("s3://not-to-be-seen@bucket/x", "s3://bucket/x: credentials and options"),
    ],
)
def test_urls_that_are_refused(url: str, words: str) -> None:
    with pytest.raises(UsageError, match=words) as caught:
        RemotePlace(url)
    assert "not-to-be-seen" not in str(caught.value)


def test_azure_names_a_container_and_its_account(container: Container) -> None:
    container.upload({"a": b"0123456789"})
    assert RemotePlace(f"abfs://{container.name}@account.dfs.core.windows.net").get("a") == b"0123456789"


def test_no_credentials(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REINFORCE_RETRIES", "0")
    for name in service.credentials:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_METADATA_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(RemoteAccessError, match=f"set in the environment {service.credentials[0]}"):
        RemotePlace(service.url).get("a")


@pytest.mark.parametrize(("service", "variable", "value"), [
    ("container", "AZURE_STORAGE_ACCOUNT_KEY", "not a key, not-to-be-seen"),
    ("bucket", "GOOGLE_SERVICE_ACCOUNT_KEY", '{"not": "to-be-seen"}'),
], indirect=["service"])  # fmt: skip
def test_malformed_credentials(
    service: Service, variable: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, value)
    url = "gs://bucket" if variable.startswith("GOOGLE") else service.url
    with pytest.raises(RemoteAccessError, match="the credentials are malformed: check the environment: ") as caught:
        RemotePlace(url).get("a")
    assert "to-be-seen" not in str(caught.value)


def test_without_obstore(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"s3://b/x needs obstore: pip install 'reinforce-vision\[share\]'"):
        RemotePlace("s3://b/x")


def test_pickles_without_client_or_credentials(place: RemotePlace, service: Service) -> None:
    place.get("a")
    data = pickle.dumps(place)
    assert service.secret.encode() not in data
    assert pickle.loads(data).get("a") == b"0123456789"


def test_retries_must_be_a_number(place: RemotePlace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REINFORCE_RETRIES", "many")
    with pytest.raises(UsageError, match="REINFORCE_RETRIES is 'many'"):
        place.get("a")
