"""Builds and training whose images lie on an object store: bytes as from a folder, whatever the network does."""

from __future__ import annotations

import signal
from pathlib import Path

import numpy as np
import pytest
from faulty_proxy import CUT, DROP, FAIL, FORBID
from s3_server import Bucket
from tiny_builds import BAD, LICENCE, NUM_IMAGES, ROWS_ONLY, digest_of, run

from reinforce.cli import command
from reinforce.command import run_group
from reinforce.dataset import open_dataset
from reinforce.pack import PackConfig, pack


def upload(bucket: Bucket, folder: Path, name: str) -> str:
    files = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    return bucket.upload(files, f"{name}/")


@pytest.fixture(scope="module")
def reference(teacher: Path, images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The store of the folder."""
    folder = tmp_path_factory.mktemp("reference")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REINFORCE_HOME", str(folder / "home"))
        run(teacher, images, out=str(folder / "out.zarr"))
    return folder / "out.zarr"


@ROWS_ONLY
class TestBuild:
    @pytest.mark.parametrize("workers", [0, pytest.param(1, marks=pytest.mark.long)])
    def test_a_store_is_that_of_the_folder(
        self, reference: Path, teacher: Path, images: Path, bucket: Bucket, workers: int
    ) -> None:
        location = upload(bucket, images, images.name)
        bucket.proxy.requests.clear()
        bucket.proxy.faults.extend(["", FAIL, "", "", DROP, "", CUT, "", "", "", FAIL])
        run(teacher, location, workers=workers)
        assert digest_of(Path("out.zarr")) == digest_of(reference)
        num_tries = len([part for _, part in bucket.requests() if part])
        assert num_tries <= NUM_IMAGES + len(BAD) + 4  # each image is asked for once, and cached

    @pytest.mark.long
    def test_packed_tars(self, teacher: Path, images: Path, bucket: Bucket) -> None:
        pack(PackConfig(transfer=str(images), out="packed", shard_size=40, quiet=True))
        run(teacher, Path("packed"), out="local.zarr")
        run(teacher, upload(bucket, Path("packed"), "packed"), out="remote.zarr")
        assert digest_of(Path("remote.zarr")) == digest_of(Path("local.zarr"))

    def test_a_refusal_is_one_line_and_resume_goes_on(
        self,
        reference: Path,
        teacher: Path,
        images: Path,
        bucket: Bucket,
        capsys: pytest.CaptureFixture[str],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setenv("REINFORCE_CACHE_MB", "0")
        location = upload(bucket, images, images.name)
        argv = ["build", "--teacher", str(teacher), "--transfer", location, "--views", "3", "--batch-size", "16",
                "--out", "out.zarr", "--workers", "0", "--json", "--quiet", "--resume",
                "--data-license", LICENCE]  # fmt: skip
        bucket.proxy.choose = lambda: FORBID if Path("out.zarr/claims").exists() else ""
        status, err = call(argv, capsys)
        assert status == 1
        assert err.count("\n") == 1
        assert "access is denied (403" in err
        assert "what is done stays: mend that, then type the same command with --resume" in err
        assert "not-to-be-seen" not in err
        bucket.proxy.choose = lambda: ""
        status, _ = call(argv, capsys)
        assert status == 0
        assert digest_of(Path("out.zarr")) == digest_of(reference)


def call(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    before = signal.getsignal(signal.SIGTERM)
    try:
        status = run_group(command, arguments)
    finally:
        signal.signal(signal.SIGTERM, before)
    return status, capsys.readouterr().err


@ROWS_ONLY
class TestTraining:
    def test_batches_are_those_of_the_folder(
        self, reference: Path, images: Path, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("REINFORCE_CACHE_MB", "0")
        location = upload(bucket, images, "elsewhere")
        local, remote = open_dataset(reference, str(images)), open_dataset(reference, location)
        bucket.proxy.requests.clear()
        bucket.proxy.faults.extend([FAIL, "", CUT])
        for expected, found in zip(local.batches(1, 16), remote.batches(1, 16), strict=True):
            assert np.array_equal(expected.rows, found.rows)
            assert np.array_equal(expected.images, found.images)
            assert np.array_equal(expected.targets, found.targets)
