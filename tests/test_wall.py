"""The wall: training needs the store alone. Static: banned imports. At run time: what a distill really imports."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TEACHER_SIDE = ("reinforce.teacher", "reinforce.build", "reinforce.plan", "reinforce.planning", "reinforce.job",
                "reinforce.audit", "reinforce.engine", "reinforce.curate", "reinforce.cli",
                "reinforce.import_model")  # fmt: skip
HEAVY = ("torch", "timm", "zarr", "numcodecs", "tqdm", "jinja2", "matplotlib", "obstore", "huggingface_hub", "ray",
         "ssl", "urllib.request")  # fmt: skip
"""What no verb needs to say its options; numpy (0.05 s) and Pillow (0.02 s) come with the modules of verbs."""
FOREIGN = ("open_clip", "faiss", "ray", "zarr", "datasets", "webdataset")

DISTILL = """
import json, sys

class Wall:
    def find_spec(self, name, path=None, target=None):
        if name.split('.')[0] in {foreign!r} or name in {teacher_side!r}:
            raise ImportError(f'{{name}} is behind the wall')

sys.meta_path.insert(0, Wall())
from train.cli import command
from reinforce.command import run_group
status = run_group(command, sys.argv[1:])
json.dump({{'status': status, 'modules': sorted(sys.modules)}}, open('wall.json', 'w'))
"""


@pytest.mark.slow
def test_distill_runs_with_everything_else_absent(tmp_path: Path) -> None:
    sys.path.insert(0, str(ROOT / "tests" / "train"))
    try:
        import tiny_reinforced as tiny
    finally:
        sys.path.pop(0)
    images = tiny.write_images(tmp_path / "coloured", count=40)
    tiny.build_store(tmp_path / "coloured.zarr", images)
    program = DISTILL.format(foreign=set(FOREIGN), teacher_side=set(TEACHER_SIDE))
    argv = ["distill", "--cache", "coloured.zarr", "--transfer", str(images), "--student", "mobilevitv2_050",
            "--image-size", "32", "--steps", "2", "--batch-size", "8", "--out", "student", "--quiet"]  # fmt: skip
    environment = {**os.environ, "REINFORCE_HOME": str(tmp_path / "home"), "OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, "-c", program, *argv], cwd=tmp_path, env=environment, check=True)
    seen = json.loads((tmp_path / "wall.json").read_text())
    assert seen["status"] == 0
    assert (tmp_path / "student" / "model.safetensors").exists()
    loaded = set(seen["modules"])
    assert not loaded & {*FOREIGN, *TEACHER_SIDE, "train.online"}
    assert {name for name in loaded if name.startswith("reinforce.")} >= {"reinforce.dataset", "reinforce.store"}


@pytest.mark.parametrize(
    ("line", "file"),
    [
        ("from train import losses", "reinforce/x.py"),
        ("import reinforce.teacher", "train/x.py"),
        ("from reinforce.build import build", "train/x.py"),
        ("from reinforce import teacher", "train/x.py"),
    ],
)
def test_lint_refuses_an_import_over_the_wall(line: str, file: str) -> None:
    argv = [sys.executable, "-m", "ruff", "check", "--select", "TID251", "--stdin-filename", str(ROOT / file), "-"]
    done = subprocess.run(argv, input=f"{line}\n", capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "TID251" in done.stdout


@pytest.mark.parametrize("program", ["reinforce", "train"])
def test_help_imports_nothing_heavy(program: str) -> None:
    code = f"""
import sys
from {program}.cli import VERBS, command
from reinforce.command import run_group
assert all(run_group(command, [*verb, '--help']) == 0 for verb in ([], *([name] for name in VERBS)))
print([name for name in {HEAVY} if name in sys.modules], file=sys.stderr)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"


@pytest.mark.parametrize(("program", "verb"), [("reinforce", "plan"), ("reinforce", "build"), ("train", "distill")])
def test_help_of_the_verbs_that_are_typed_most_imports_no_pixels(program: str, verb: str) -> None:
    code = f"""
import sys
from {program}.cli import command
from reinforce.command import run_group
assert run_group(command, ['{verb}', '--help']) == 0
print([name for name in ('PIL', 'reinforce.views', 'reinforce.data') if name in sys.modules], file=sys.stderr)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"
