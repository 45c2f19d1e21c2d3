"""A real S3 server on loopback for the tests, and a bucket of its own for each that asks."""

from __future__ import annotations

import itertools
import logging
import os
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import pytest
from faulty_proxy import FaultyProxy

HEADERS = {
    "Content-Type": "image/png",
    "Authorization": "AWS4-HMAC-SHA256 Credential=key/20260101/us-east-1/s3/aws4_request",
}
_numbers = itertools.count()


class Bucket:
    """An empty bucket behind a proxy that can fail."""

    missing = "s3://no-such-bucket/x"
    missing_code = "NoSuchBucket"
    secret = "not-to-be-seen"
    credentials = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
    endpoint = "AWS_ENDPOINT_URL"

    def __init__(self, proxy: FaultyProxy) -> None:
        self.proxy = proxy
        self.name = f"bucket-{os.getpid()}-{next(_numbers)}"
        self.request("PUT", "")
        proxy.requests.clear()

    @property
    def url(self) -> str:
        return f"s3://{self.name}"

    def request(self, method: str, path: str, data: bytes | None = None) -> bytes:
        """Past the proxy."""
        url = f"http://127.0.0.1:{self.proxy.port}/{self.name}/{urllib.request.quote(path)}"
        request = urllib.request.Request(url, data, HEADERS, method=method)
        with urllib.request.urlopen(request) as answer:
            data = answer.read()
        assert isinstance(data, bytes)
        return data

    def upload(self, files: Mapping[str, bytes], prefix: str = "") -> str:
        """The URL of what was uploaded."""
        for name, data in files.items():
            self.request("PUT", prefix + name, data)
        return f"{self.url}/{prefix}".rstrip("/")

    def requests(self, method: str = "GET") -> list[tuple[str, str]]:
        """(path, range) of those that passed the proxy."""
        return [(path, part) for verb, path, part in self.proxy.requests if verb == method]


@contextmanager
def s3_server() -> Iterator[FaultyProxy]:
    """moto's server behind the proxy, and the environment that leads there."""
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    proxy = FaultyProxy(server.get_host_and_port()[1])
    environment = {"AWS_ENDPOINT_URL": proxy.url, "AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": Bucket.secret,
                   "AWS_REGION": "us-east-1", "REINFORCE_RETRIES": "3"}  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        yield proxy
    proxy.close()
    server.stop()
