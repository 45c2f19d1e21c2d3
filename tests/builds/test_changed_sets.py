"""A finished store beside a transfer set, a library or bytes that changed: training refuses, and names what differs."""

from __future__ import annotations

import json
import shutil
import signal
import tarfile
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import forked
import pytest
import torch
from forked import Ended
from tiny_builds import LICENCE, VIEWS, make_images, make_teacher, run

from reinforce.cli import command as reinforce_command
from reinforce.command import run_group
from train.cli import command as train_command

Members = list[tuple[str, bytes]]


def write_tar(path: Path, members: Members) -> None:
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, BytesIO(data))


def read_tar(path: Path) -> Members:
    with tarfile.open(path) as tar:
        return [(member.name, tar.extractfile(member).read()) for member in tar]  # type: ignore[union-attr]


@pytest.fixture(scope="module")
def place(teacher: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder `set`, the same images as tars in `tars`, and a finished store of each."""
    folder = tmp_path_factory.mktemp("changed")
    make_images(folder / "set", num=24)
    images = sorted((folder / "set").rglob("*.png"))
    (folder / "tars").mkdir()
    for number, part in enumerate((images[:12], images[12:])):
        members = [(f"{i:04d}.png", path.read_bytes()) for i, path in enumerate(part)]
        write_tar(folder / f"tars/part{number}.tar", members)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REINFORCE_HOME", str(folder / "home"))
        for name in ("set", "tars"):
            run(teacher, folder / name, out=str(folder / f"{name}.zarr"))
    return folder


def distill_argv(store: Path, transfer: Path, *more: str) -> list[str]:
    options = "--student test_vit --image-size 32 --batch-size 8 --epochs 1 --workers 0 --device cpu --out run --quiet"
    return ["distill", "--cache", str(store), "--transfer", str(transfer), *options.split(), *more]


def resume_argv(teacher: Path, images: Path, *more: str) -> list[str]:
    options = f"--views {VIEWS} --batch-size 16 --out out.zarr --resume --quiet --data-license {LICENCE}"
    return ["build", "--teacher", str(teacher), "--transfer", str(images), *options.split(), *more]


def refusal_of_training(store: Path, transfer: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """What `train distill` says; one line, exit 1, no student."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    status = run_group(train_command, distill_argv(store, transfer))
    for number, handler in handlers.items():
        signal.signal(number, handler)
    err = capsys.readouterr().err
    assert status == 1, err
    assert err.count("\n") == 1, err
    assert err.startswith("train: ")
    assert not Path("run/model.safetensors").exists()
    return err


def replace_image(folder: Path) -> None:
    shutil.copy(folder / "a/000.png", folder / "b/003.png")


def swap_images(folder: Path) -> None:
    first, second = folder / "a/000.png", folder / "b/003.png"
    first.rename(folder / "kept")
    second.rename(first)
    (folder / "kept").rename(second)


def with_members(change: Callable[[Members], Members]) -> Callable[[Path], None]:
    return lambda folder: write_tar(folder / "part1.tar", change(read_tar(folder / "part1.tar")))


def other_content(members: Members) -> Members:
    (name, _), (_, data), *rest = members
    return [(name, data), members[1], *rest]


def swapped_contents(members: Members) -> Members:
    (one, first), (two, second), *rest = members
    return [(one, second), (two, first), *rest]


def flip_a_bit_in_place(folder: Path) -> None:
    """Of a member's pixels: its size, its headers and everything around it stay."""
    path = folder / "part1.tar"
    with tarfile.open(path) as tar:
        member = tar.getmembers()[4]
    data = bytearray(path.read_bytes())
    data[member.offset_data + member.size // 2] ^= 1
    path.write_bytes(data)


class TestTransferSets:
    @pytest.mark.parametrize(
        ("kind", "change", "words"),
        [
            ("set", replace_image, "image 'b/003.png' changed"),
            ("set", swap_images, "changed since the transfer set was frozen"),
            ("set", lambda folder: (folder / "b/003.png").unlink(), "1 image missing, such as 'b/003.png'"),
            ("set", lambda folder: shutil.copy(folder / "a/000.png", folder / "new.png"), "added, such as 'new.png'"),
            ("set", lambda folder: (folder / "b/003.png").rename(folder / "b/999.png"),
             "1 image missing, such as 'b/003.png', and 1 image added, such as 'b/999.png'"),
            ("tars", with_members(other_content), "image 'part1/0000' changed"),
            ("tars", with_members(swapped_contents), "changed since the transfer set was frozen"),
            ("tars", flip_a_bit_in_place, "image 'part1/0004' changed"),
            ("tars", with_members(lambda members: members[1:]), "1 image missing, such as 'part1/0000'"),
            ("tars", with_members(lambda members: [*members, ("x.png", members[0][1])]), "added, such as 'part1/x'"),
            ("tars", with_members(lambda members: members[::-1]), "the same images are in another order"),
            ("tars", lambda folder: (folder / "part0.tar").unlink(), "12 images missing, such as 'part0/0000'"),
            ("tars", lambda folder: (folder / "part0.tar").rename(folder / "part7.tar"),
             "12 images missing, such as 'part0/0000', and 12 images added, such as 'part7/0000'"),
        ],
        ids=lambda value: value if isinstance(value, str) else "",
    )
    def test_are_refused_by_what_differs(
        self, kind: str, change: Callable[[Path], None], words: str, place: Path, tmp_path: Path,
        capsys: pytest.CaptureFixture[str],
    ) -> None:  # fmt: skip
        changed = Path(shutil.copytree(place / kind, tmp_path / kind))
        change(changed)
        assert words in refusal_of_training(place / f"{kind}.zarr", changed, capsys)

    def test_a_tar_that_is_cut_short(self, place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        changed = Path(shutil.copytree(place / "tars", tmp_path / "tars"))
        data = (changed / "part1.tar").read_bytes()
        (changed / "part1.tar").write_bytes(data[: len(data) // 2])
        assert "part1" in refusal_of_training(place / "tars.zarr", changed, capsys)


class TestResuming:
    """Begun with one teacher, size and policy, continued with another."""

    @pytest.mark.parametrize(
        ("more", "words"),
        [
            (["--image-size", "48"], "policy.size_px"),
            (["--policy", "crops"], "policy.name"),
            (["--crop-scale", "0.5,1"], "another policy."),
            (["--seed", "5"], "begun with policy.seed 0, not 5: type"),
            (["--batch-size", "8"], "begun with batch_size 16, not 8: type"),
            (["--views", "4"], "begun with views 3, not 4: type"),
            (["--max-kl", "0.5"], "begun with promise.max_kl 0.001, not 0.5: type"),
        ],
        ids=lambda value: value if isinstance(value, str) else " ".join(value),
    )
    def test_other_options(
        self, more: list[str], words: str, teacher: Path, images: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        run(teacher, images, shard="1/2")
        assert run_group(reinforce_command, resume_argv(teacher, images, *more)) == 1
        err = capsys.readouterr().err
        assert words in err
        assert err.count("\n") == 1

    @pytest.mark.parametrize("member", ["mean", "std"])
    def test_another_preprocessing_of_the_same_weights(
        self, member: str, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        teacher = make_teacher(tmp_path / "mine")
        run(teacher, images, shard="1/2")
        info = json.loads((teacher / "model.json").read_text())
        info[member][1] += 0.125
        (teacher / "model.json").write_text(json.dumps(info))
        assert run_group(reinforce_command, resume_argv(teacher, images)) == 1
        assert f"another teacher.preprocess.{member}:" in capsys.readouterr().err


# whole processes

DRIFT = """
from PIL import Image

resize = Image.Image.resize
Image.Image.resize = lambda image, size, resample=None, *rest, **more: resize(image, size, Image.NEAREST, *rest, **more)
"""


def train(arguments: list[str], before: str = "") -> Ended:
    return forked.run(f"{before}\nfrom train.cli import main; main()", arguments, folder=Path.cwd())


@pytest.mark.slow
class TestProcesses:
    def test_a_library_that_resizes_otherwise_is_named_by_its_stage(self, place: Path) -> None:
        done = train(distill_argv(place / "set.zarr", place / "set"), before=DRIFT)
        assert done.returncode == 1
        assert done.stderr.count("\n") == 1
        assert "probe views replay differently" in done.stderr
        assert "from stage 'crop' on, by up to" in done.stderr
        assert "--accept-drift" in done.stderr

    @pytest.mark.parametrize("damaged", ["targets/*/c/0/**/*", "samples/sha64/c/0", "plan.json", "manifest.json"])
    def test_a_flipped_bit_is_refused_on_first_read(self, damaged: str, place: Path, tmp_path: Path) -> None:
        store = Path(shutil.copytree(place / "set.zarr", tmp_path / "set.zarr"))
        path = max(filter(Path.is_file, store.glob(damaged)), key=lambda path: path.stat().st_size)
        data = bytearray(path.read_bytes())
        data[len(data) // 3] ^= 4
        path.write_bytes(data)
        done = train(distill_argv(store, place / "set"))
        assert done.returncode == 1
        assert done.stderr.count("\n") == 1
        assert path.relative_to(store).as_posix() in done.stderr
        assert "Traceback" not in done.stderr
        assert not Path("run/model.safetensors").exists()


def test_the_sound_store_trains(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Else the refusals above would prove nothing."""
    torch.set_num_threads(1)
    assert run_group(train_command, distill_argv(place / "set.zarr", place / "set")) == 0
    assert run_group(train_command, [*distill_argv(place / "tars.zarr", place / "tars"), "--overwrite"]) == 0
