"""A real Azure blob server on loopback for the tests (Azurite, which npm installs), and containers of it."""

from __future__ import annotations

import base64
import hashlib
import hmac
import itertools
import os
import re
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from email.utils import formatdate
from pathlib import Path

import pytest
from faulty_proxy import FaultyProxy

ACCOUNT = "account"
KEY = base64.b64encode(b"not-to-be-seen, by nobody").decode()
VERSION = "2021-08-06"
SERVER = shutil.which("azurite-blob", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")
_numbers = itertools.count()


class Container:
    """An empty one behind a proxy that can fail. See s3_server.Bucket."""

    missing = "az://no-such-container/x"
    missing_code = "ContainerNotFound"
    secret = KEY
    credentials = ("AZURE_STORAGE_ACCOUNT_NAME", "AZURE_STORAGE_ACCOUNT_KEY")
    endpoint = "AZURE_STORAGE_ENDPOINT"

    def __init__(self, proxy: FaultyProxy) -> None:
        self.proxy = proxy
        self.name = f"container-{os.getpid()}-{next(_numbers)}"
        self._create()

    @property
    def url(self) -> str:
        return f"az://{self.name}"

    def upload(self, files: Mapping[str, bytes], prefix: str = "") -> str:
        """Past the proxy; the URL of what was uploaded."""
        from obstore.store import AzureStore

        past = f"http://127.0.0.1:{self.proxy.port}/{ACCOUNT}"
        store = AzureStore(self.name, endpoint=past, client_options={"allow_http": True})
        for name, data in files.items():
            store.put(prefix + name, data)
        return f"{self.url}/{prefix}".rstrip("/")

    def _create(self) -> None:
        """obstore creates no containers; signed as the documentation of Azure's shared key has it."""
        path, date = f"/{ACCOUNT}/{self.name}", formatdate(usegmt=True)
        signed = "PUT" + "\n" * 12 + f"x-ms-date:{date}\nx-ms-version:{VERSION}\n/{ACCOUNT}{path}\nrestype:container"
        signature = base64.b64encode(hmac.digest(base64.b64decode(KEY), signed.encode(), hashlib.sha256)).decode()
        headers = {"Authorization": f"SharedKey {ACCOUNT}:{signature}", "x-ms-date": date, "x-ms-version": VERSION,
                   "Content-Length": "0"}  # fmt: skip
        url = f"http://127.0.0.1:{self.proxy.port}{path}?restype=container"
        urllib.request.urlopen(urllib.request.Request(url, headers=headers, method="PUT")).close()


@contextmanager
def azure_server() -> Iterator[FaultyProxy]:
    """Azurite behind the proxy, and the environment that leads there."""
    if SERVER is None:
        pytest.skip("needs Azurite: npm install --global azurite")
    command = [SERVER, "--blobPort", "0", "--inMemoryPersistence", "--skipApiVersionCheck", "--disableTelemetry"]
    environment = {**os.environ, "AZURITE_ACCOUNTS": f"{ACCOUNT}:{KEY}"}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as server:
        try:
            proxy = FaultyProxy(_port(server))
            leads = {"AZURE_STORAGE_ACCOUNT_NAME": ACCOUNT, "AZURE_STORAGE_ACCOUNT_KEY": KEY,
                     "AZURE_STORAGE_ENDPOINT": f"{proxy.url}/{ACCOUNT}", "REINFORCE_RETRIES": "3"}  # fmt: skip
            with pytest.MonkeyPatch.context() as patch:
                for name, value in leads.items():
                    patch.setenv(name, value)
                yield proxy
            proxy.close()
        finally:
            server.kill()


def _port(server: subprocess.Popen[str]) -> int:
    assert server.stdout is not None
    for line in server.stdout:
        if found := re.search(r"successfully listens on http://127.0.0.1:(\d+)", line):
            return int(found[1])
    raise AssertionError("Azurite did not start")
