"""Open Clip Art, from the Debian package openclipart-png: its tree below `png/`, as it is, links included."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

from assets.download import debian_package
from reinforce.errors import DataError

TREE_SHA256 = "21f2947286b500151f6a9245482d1ced566a3ed64883e26dd961baa4d4806c49"


def make(downloads: Path, out: Path) -> None:
    """Raises DataError or MissingDataError when the package cannot be had or holds other files."""
    unpacked = debian_package("openclipart-png", downloads, out.with_name(f"{out.name}-package"))
    tree = unpacked / "usr/share/openclipart/png"
    actual = tree_sha256(tree)
    if actual != TREE_SHA256:
        raise DataError(f"openclipart-png holds other images than expected (tree {actual[:16]}...): "
                        f"remove it from {downloads} and start again")  # fmt: skip
    shutil.rmtree(out, ignore_errors=True)
    tree.rename(out)
    shutil.rmtree(unpacked)


def tree_sha256(root: Path) -> str:
    """SHA-256 over the lines "relative/path TAB sha256 of the bytes" of all files in order; links are followed."""
    digest = hashlib.sha256()
    for path in sorted(path for path in root.rglob("*") if path.is_file()):
        content = hashlib.sha256(path.read_bytes()).hexdigest()
        digest.update(f"{path.relative_to(root).as_posix()}\t{content}\n".encode())
    return digest.hexdigest()
