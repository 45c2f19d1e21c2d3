"""`--compile` of a build, by a real C++ compiler: the same bytes every time, near those without, and never mixed."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import tiny_builds
import torch
from tiny_builds import config, digest_of, run

from reinforce.audit import VerifyConfig, verify
from reinforce.errors import EnvironmentMismatchError, UsageError
from reinforce.store import Store
from reinforce.teacher import Teacher

needs_compiler = pytest.mark.skipif(shutil.which("g++") is None, reason="no C++ compiler here")


@pytest.fixture
def teacher(tmp_path: Path) -> Path:
    return tiny_builds.make_teacher(tmp_path / "teacher")


@needs_compiler
def test_one_store_is_compiled_or_is_not(teacher: Path, images: Path) -> None:
    run(teacher, images, out="whole.zarr", compile=True)
    torch._dynamo.reset()  # as a new process
    run(teacher, images, compile=True, shard="1/2")
    with pytest.raises(EnvironmentMismatchError, match=r"\(compiled True -> None\)"):
        run(teacher, images, resume=True)
    run(teacher, images, compile=True, resume=True)
    assert digest_of(Path("out.zarr")) == digest_of(Path("whole.zarr"))
    assert Store.open("out.zarr").plan["environment"]["compiled"] is True
    assert verify(VerifyConfig(store="out.zarr", deep=True, teacher=str(teacher), quiet=True)).ok


@needs_compiler
def test_targets_are_those_without_it_but_for_rounding(teacher: Path) -> None:
    views = np.random.default_rng(1).integers(0, 256, (5, 32, 32, 3), dtype=np.uint8)
    build = config(teacher, ".")  # its kernels are compiled above
    plain, own = (Teacher(str(teacher), device="cpu", dtype=build.dtype, threads=1, batch_size=build.batch_size,
                          compile=compile) for compile in (False, True))  # fmt: skip
    expected = plain.targets(views)
    np.testing.assert_allclose(own.targets(views), expected, atol=0.02 * expected.std(), rtol=0)
    assert own.flops_per_view() == plain.flops_per_view()


def test_captions_are_not_compiled(teacher: Path, images: Path) -> None:
    with pytest.raises(UsageError, match="--compile is of images, and captions have none: leave it out"):
        run(teacher, images, target="text-features", compile=True)
