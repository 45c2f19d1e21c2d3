"""docs/export.md: its commands and its Python run as they stand, and answer as the trained model does."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import ExifTags, Image
from tiny_exports import NAMES, write_model

import train.cli
from reinforce.command import run_group
from reinforce.models import Preprocess, load_model
from reinforce.views import UnitReplayer, named_policy

PAGE = (Path(__file__).parents[3] / "docs" / "export.md").read_text("utf-8")


def write_photo(path: Path) -> None:
    """One that is turned by EXIF and transparent in places: whoever reads it otherwise gets other answers."""
    pixels = np.random.default_rng(3).integers(0, 256, (9, 12, 4), dtype=np.uint8)
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    Image.fromarray(pixels).resize((120, 90)).save(path, exif=exif)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # see test_coreml_export.py
def test_from_a_run_to_an_answer(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_model(Path("runs/student-ft"), "fastvit_t8", image_size=64)
    write_photo(Path("photo.png"))
    commands = re.findall(r"^    train (.*)$", PAGE, re.M)
    assert len(commands) == 3
    for command in commands:
        assert run_group(train.cli.command, shlex.split(command)) == 0
    assert Path("Student.mlpackage").is_dir()
    capsys.readouterr()
    names: dict[str, Any] = {}
    for block in re.findall(r"^```python\n(.*?)^```", PAGE, re.M | re.S):
        exec(compile(block, "export.md", "exec"), names)
    model, info = load_model(Path("runs/student-ft"))
    photo = Path("photo.png").read_bytes()
    view = UnitReplayer(named_policy("center", size_px=64), ["photo"], lambda row: photo).view(0, 0)
    with torch.no_grad():
        wanted = model(Preprocess.from_info(info)(view[None]))[0]
    assert capsys.readouterr().out.splitlines() == [NAMES[int(wanted.argmax())]] * 2
    assert names["logits"][0] == pytest.approx(wanted.numpy(), abs=0.02 * float(wanted.abs().max()))
