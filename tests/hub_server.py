"""The part of the Hugging Face Hub's interface that huggingface_hub calls for us, on loopback, behind a faulty proxy.

Repositories, their files, large-file storage and commits live in memory; a commit changes all of its files or none.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit

import pytest
import yaml
from faulty_proxy import FaultyProxy

TOKEN = "hf_nottobeseen"
SECRET_OF_UPLOADS = "signature-not-to-be-seen"
LFS_BYTES = 1000
"""Files from this size on go to large-file storage; smaller ones are a part of the commit."""
PAGE = 20
"""Files that one answer lists."""
KINDS = {"models": "model", "datasets": "dataset"}


@dataclass
class Repository:
    url: str
    private: bool = True
    files: dict[str, bytes] = field(default_factory=dict)
    commits: list[list[str]] = field(default_factory=list)
    """Paths of every commit."""


@dataclass
class HubServer:
    """`repositories` by (kind, name); `rights` are what the token may do."""

    repositories: dict[tuple[str, str], Repository] = field(default_factory=dict)
    blobs: dict[str, bytes] = field(default_factory=dict)
    rights: set[str] = field(default_factory=lambda: {"read", "write"})
    proxy: FaultyProxy = field(init=False)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, kind: str, name: str) -> Repository:
        url = f"{self.proxy.url}/{'datasets/' if kind == 'dataset' else ''}{name}"
        self.repositories[kind, name] = Repository(url)
        return self.repositories[kind, name]

    def repository(self, name: str, kind: str = "dataset") -> Repository:
        return self.repositories[kind, name]


class HurriedTime:
    """huggingface_hub waits for seconds between its tries."""

    time, monotonic = staticmethod(time.time), staticmethod(time.monotonic)

    @staticmethod
    def sleep(seconds: float) -> None:
        time.sleep(min(seconds, 0.01))


class Refusal(Exception):  # noqa: N818
    def __init__(self, status: int, code: str = "", message: str = "") -> None:
        self.status, self.headers = status, {"X-Error-Code": code, "X-Error-Message": message}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: HubServer

    def answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        url = urlsplit(self.path)
        status, headers, data = 200, {}, b""
        try:
            with self.hub.lock:
                status, headers, data = self.route(unquote(url.path), parse_qs(url.query), body)
        except Refusal as refusal:
            status, headers = refusal.status, refusal.headers
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(data))} | headers).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    do_GET = do_HEAD = do_POST = do_PUT = answer

    def log_message(self, format: str, *args: object) -> None:
        pass

    def route(self, path: str, query: dict[str, list[str]], body: bytes) -> tuple[int, dict[str, str], bytes]:
        if self.command == "PUT" and (found := re.fullmatch(r"/storage/(\w+)", path)):
            if hashlib.sha256(body).hexdigest() != found[1]:
                raise Refusal(400)
            self.hub.blobs[found[1]] = body
            return 200, {}, b""
        self.authorize(write=self.command in ("POST", "PUT") and "paths-info" not in path)
        if path == "/api/repos/create":
            return self.create(json.loads(body))
        if path == "/api/validate-yaml":
            return self.validate(json.loads(body)["content"])
        if found := re.fullmatch(r"/(datasets/)?([^/]+/[^/]+)\.git/info/lfs/objects/batch", path):
            return self.batch(json.loads(body))
        if found := re.fullmatch(r"/(datasets/)?([^/]+/[^/]+)/resolve/main/(.+)", path):
            return self.resolve(self.open("dataset" if found[1] else "model", found[2]), found[3])
        if found := re.fullmatch(r"/api/(models|datasets)/([^/]+/[^/]+)/(\w[\w-]*)/main/?(.*)", path):
            repository = self.open(KINDS[found[1]], found[2])
            call = {"revision": self.info, "tree": self.tree, "paths-info": self.paths_info,
                    "preupload": self.preupload, "commit": self.commit}[found[3]]  # fmt: skip
            return call(repository, found[4], query, body)
        raise Refusal(404)

    def authorize(self, *, write: bool) -> None:
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            raise Refusal(401, message="Invalid username or password.")
        if write and "write" not in self.hub.rights:
            raise Refusal(403, message=f"Forbidden for {TOKEN}")

    def open(self, kind: str, name: str) -> Repository:
        if (kind, name) not in self.hub.repositories:
            raise Refusal(404, "RepoNotFound")
        return self.hub.repositories[kind, name]

    def create(self, wanted: dict[str, object]) -> tuple[int, dict[str, str], bytes]:
        kind = str(wanted.get("type") or "model")
        name = f"{wanted['organization']}/{wanted['name']}"
        private = wanted.get("private") or wanted.get("visibility") == "private"
        if (kind, name) in self.hub.repositories:
            return 409, {}, to_json({"url": self.hub.repositories[kind, name].url})
        repository = self.hub.add(kind, name)
        repository.private, repository.files = bool(private), {".gitattributes": b"* text\n"}
        return 200, {}, to_json({"url": repository.url})

    def validate(self, content: str) -> tuple[int, dict[str, str], bytes]:
        document = yaml.safe_load(content.split("---\n")[1])
        errors = [] if isinstance(document, dict) else [{"message": "no metadata"}]
        return (400 if errors else 200), {}, to_json({"errors": errors, "warnings": []})

    def info(self, repository: Repository, rest: str, query: dict[str, list[str]], body: bytes):
        oid = hashlib.sha1(str(len(repository.commits)).encode()).hexdigest()
        return 200, {}, to_json({"id": repository.url, "sha": oid, "private": repository.private})

    def tree(self, repository: Repository, folder: str, query: dict[str, list[str]], body: bytes):
        files = {path: data for path, data in sorted(repository.files.items())
                 if not folder or path.startswith(f"{folder}/")}  # fmt: skip
        if folder and not files:
            raise Refusal(404, "EntryNotFound")
        start = int(query.get("cursor", ["0"])[0])
        page = [described(path, files[path]) for path in list(files)[start : start + PAGE]]
        more = start + PAGE < len(files)
        following = f"{self.hub.proxy.url}{urlsplit(self.path).path}?recursive=True&cursor={start + PAGE}"
        return 200, {"Link": f'<{following}>; rel="next"'} if more else {}, to_json(page)

    def paths_info(self, repository: Repository, rest: str, query: dict[str, list[str]], body: bytes):
        wanted = json.loads(body)["paths"] if body[:1] == b"{" else parse_qs(body.decode())["paths"]
        found = [described(path, repository.files[path]) for path in wanted if path in repository.files]
        return 200, {}, to_json(found)

    def preupload(self, repository: Repository, rest: str, query: dict[str, list[str]], body: bytes):
        files = []
        for file in json.loads(body)["files"]:
            mode = "lfs" if file["size"] >= LFS_BYTES else "regular"
            found = repository.files.get(file["path"])
            oid = None if found is None else described("", found)["oid"]
            files.append({"path": file["path"], "uploadMode": mode, "shouldIgnore": False, "oid": oid})
        return 200, {}, to_json({"files": files})

    def batch(self, wanted: dict[str, list[dict[str, object]]]) -> tuple[int, dict[str, str], bytes]:
        objects = []
        for entry in wanted["objects"]:
            href = f"{self.hub.proxy.url}/storage/{entry['oid']}?{SECRET_OF_UPLOADS}"
            actions = {} if entry["oid"] in self.hub.blobs else {"actions": {"upload": {"href": href}}}
            objects.append({"oid": entry["oid"], "size": entry["size"], **actions})
        return 200, {}, to_json({"transfer": "basic", "objects": objects})

    def commit(self, repository: Repository, rest: str, query: dict[str, list[str]], body: bytes):
        changed = {}
        for line in body.splitlines():
            entry = json.loads(line)
            value = entry["value"]
            if entry["key"] == "file":
                changed[value["path"]] = base64.b64decode(value["content"])
            elif entry["key"] == "lfsFile":
                if value["oid"] not in self.hub.blobs:
                    raise Refusal(400, message="a large file was never uploaded")
                changed[value["path"]] = self.hub.blobs[value["oid"]]
        repository.files |= changed
        repository.commits.append(sorted(changed))
        oid = hashlib.sha1(str(len(repository.commits)).encode()).hexdigest()
        return 200, {}, to_json({"commitUrl": f"{repository.url}/commit/{oid}", "commitOid": oid})

    def resolve(self, repository: Repository, path: str) -> tuple[int, dict[str, str], bytes]:
        if path not in repository.files:
            raise Refusal(404, "EntryNotFound")
        data = repository.files[path]
        if part := re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", "")):
            start, stop = int(part[1]), min(int(part[2]) + 1, len(data))
            if start >= len(data):
                raise Refusal(416)
            return 206, {"Content-Range": f"bytes {start}-{stop - 1}/{len(data)}"}, data[start:stop]
        return 200, {}, data


def described(path: str, data: bytes) -> dict[str, object]:
    """A file as listings describe it."""
    git = hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
    lfs = {"oid": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 130}
    large = {"lfs": lfs, "oid": lfs["oid"]} if len(data) >= LFS_BYTES else {}
    return {"type": "file", "path": path, "size": len(data), "oid": git, **large}


def to_json(value: object) -> bytes:
    return json.dumps(value).encode()


@contextmanager
def hub_server() -> Iterator[HubServer]:
    """The server behind its proxy, and the environment that leads there."""
    hub = HubServer()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (Handler,), {"hub": hub}))
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    hub.proxy = FaultyProxy(server.server_port)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment(hub).items():
            patch.setenv(name, value)
        patch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)
        patch.setattr("huggingface_hub.utils._http.time", HurriedTime)
        yield hub
    hub.proxy.close()
    server.shutdown()
    server.server_close()


def environment(hub: HubServer) -> dict[str, str]:
    """Of a process that is to use this Hub."""
    return {"HF_ENDPOINT": hub.proxy.url, "HF_TOKEN": TOKEN, "HF_HUB_DISABLE_XET": "1", "REINFORCE_RETRIES": "2"}
