"""`reinforce doctor`: real packages made broken, old or absent; real folders; a report for people and for programs."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from reinforce.cli import command
from reinforce.command import run_group
from reinforce.doctor.doctor import Diagnosis
from reinforce.doctor.finding import Finding
from reinforce.doctor.imports import try_imports
from reinforce.doctor.machine import machine_findings
from reinforce.doctor.packages import PURPOSES, extra_findings, package_findings, wanted_packages
from reinforce.doctor.places import catalog_findings, disk_findings, left_findings
from reinforce.doctor.variables import variable_findings

NOT_FOR_USERS = {"all", "test", "fuzz"}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with a home of its own."""
    monkeypatch.setenv("REINFORCE_HOME", str(tmp_path / "home"))
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "work"


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of packages that come before those that are installed, in this process and in others."""
    (tmp_path / "packages").mkdir()
    monkeypatch.syspath_prepend(str(tmp_path / "packages"))
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path / 'packages'}:{Path(__file__).parents[1]}")
    return tmp_path / "packages"


def broken(findings: Iterator[Finding]) -> list[str]:
    return [str(finding) for finding in findings if finding.level == "broken"]


@pytest.mark.parametrize(
    ("program", "words"),
    [
        ("raise ImportError('libcudart.so.13: cannot open shared object file')", "(ImportError: libcudart.so.13: "),
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "crashes when it is imported (SIGSEGV)"),
        ("import sys; sys.exit('no licence')", "ends the process that imports it (no licence)"),
    ],
    ids=["raises", "crashes", "exits"],
)
def test_a_broken_package_is_a_finding_and_the_others_are_looked_at(packages: Path, program: str, words: str) -> None:
    (packages / "torch.py").write_text(program)
    found = try_imports(["click", "torch", "tqdm"])
    assert (found["click"].error, found["tqdm"].error) == (None, None)
    assert words in str(found["torch"].error)
    (finding,) = broken(package_findings(wanted_packages(), found))
    assert "torch" in finding
    assert finding.endswith("pip install --force-reinstall 'torch>=2.6'")
    assert broken(machine_findings(found["torch"].facts)) == []


@pytest.mark.parametrize(
    ("name", "version", "words"),
    [
        ("zarr", "3.0.1", "zarr 3.0.1 is not >=3.1: pip install 'zarr>=3.1'"),
        ("faiss_cpu", "1.2", "faiss-cpu 1.2 is not >=1.9: pip install 'faiss-cpu>=1.9'"),
    ],
    ids=["always needed", "of an extra"],
)
def test_a_version_out_of_range_is_broken(packages: Path, name: str, version: str, words: str) -> None:
    record = packages / f"{name}-{version}.dist-info"
    record.mkdir()
    (record / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    wanted = wanted_packages()
    (finding,) = broken(iter([*package_findings(wanted, {}), *extra_findings(wanted, {})]))
    assert words in finding


def test_every_extra_says_what_it_is_for() -> None:
    import tomllib

    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]
    assert {*PURPOSES} | NOT_FOR_USERS == {*project["optional-dependencies"]}


def test_an_absent_extra_is_a_note_with_what_to_type() -> None:
    absent = {"share": [replace(one, version=None) for one in wanted_packages()["share"]]}
    (finding,) = extra_findings(absent, {})
    assert finding.level == "note"
    assert "obstore (not installed)" in finding.what
    assert finding.mend == "pip install 'reinforce-vision[share]'"


def test_names_of_the_catalog_that_lead_nowhere_are_broken(folder: Path) -> None:
    (folder / "no-model").mkdir()
    (folder / "images").mkdir()
    Path("reinforce.toml").write_text(
        '[models]\ngone = "runs/gone"\nhollow = "no-model"\n'
        '[data]\nhere = "images"\npattern = "x/{00..11}.tar"\nfar = "s3://bucket/images"\n'
        'tars = "s3://bucket/{0..3}.tar"\n'
    )
    findings = list(catalog_findings())
    assert [text.split("]")[1].split(":")[0].strip() for text in broken(iter(findings))] == [
        "gone",
        "hollow",
        "pattern",
    ]
    assert all("reinforce.toml" in text for text in broken(iter(findings)))
    (good,) = [finding.what for finding in findings if finding.level == "ok"]
    assert good == "data: far (remote: not looked at), here, tars (remote: not looked at)"


def test_a_catalog_that_is_no_toml_is_broken(folder: Path) -> None:
    Path("reinforce.toml").write_text("[models\n")
    (finding,) = broken(catalog_findings())
    assert "is not a valid TOML file" in finding


def test_what_is_unfinished_is_told_with_what_to_type(folder: Path) -> None:
    for name in ("half.zarr/plan.json", "whole.zarr/plan.json", "whole.zarr/manifest.json"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("{}")
    for name in ("runs/half", "runs/whole"):
        (folder / name / "checkpoints").mkdir(parents=True)
        (folder / name / "config.json").write_text("{}")
    (folder / "runs/whole/result.json").write_text("{}")
    assert [finding.what.split()[0] for finding in left_findings(folder)] == ["half.zarr", "runs/half"]
    assert all("--resume" in str(finding.mend) for finding in left_findings(folder))


def test_a_plan_that_cannot_be_read_is_no_part(folder: Path) -> None:
    for name in ("a.zarr", "b.zarr"):
        (folder / name / "plan.json").mkdir(parents=True)
    assert [str(finding.mend) for finding in left_findings(folder)] == [
        f"its command again with --resume, or remove {name}" for name in ("a.zarr", "b.zarr")]  # fmt: skip


@pytest.mark.parametrize(
    ("stores", "merged"),
    [
        ({"a.zarr": (0, 2, 4), "my b.zarr": (1,)}, "a.zarr 'my b.zarr'"),
        ({"a.zarr": (0, 2, 4)}, "a.zarr OTHER_PARTS"),
        ({"a.zarr": (1, 3)}, "a.zarr OTHER_PARTS"),
        ({"a.zarr": (0, 2)}, None),
        ({"a.zarr": (0, 1, 2)}, None),
        ({"a.zarr": ()}, None),
    ],
    ids=["both parts", "the first part", "the second part", "stopped", "stopped with some in a row", "only begun"],
)
def test_parts_of_a_build_are_told_to_be_merged(
    stores: dict[str, tuple[int, ...]], merged: str | None, folder: Path
) -> None:
    """As `--shard` of five units leaves them; another build's store beside them is none of theirs."""
    for name, done in {**stores, "other.zarr": ()}.items():
        (folder / name / "units").mkdir(parents=True)
        plan = {"units": [[0, 0, 1]] * 5, "of": "another" if name == "other.zarr" else "one"}
        (folder / name / "plan.json").write_text(json.dumps(plan))
        for unit in done:
            (folder / name / "units" / f"{unit:08}.json").write_text("{}")
    *parts, other = [str(finding.mend) for finding in left_findings(folder)]
    assert "merge" not in other
    for mend in parts:
        assert mend.startswith("its command again with --resume, ")
        found = re.search(r"reinforce merge (.*) --out STORE, or remove", mend)
        assert (found and found[1]) == merged


def test_a_home_that_cannot_be_made_is_broken(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "file").write_text("")
    monkeypatch.setenv("REINFORCE_HOME", str(folder / "file" / "home"))
    (finding,) = broken(disk_findings())
    assert "set REINFORCE_HOME" in finding


def test_values_of_secrets_are_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s3cr3t")
    monkeypatch.setenv("HTTPS_PROXY", "http://me:s3cr3t@proxy")
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    text = "\n".join(map(str, variable_findings()))
    assert "s3cr3t" not in text
    assert "AWS_SECRET_ACCESS_KEY is set" in text
    assert "OMP_NUM_THREADS=3" in text


def test_a_program_of_the_same_name_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = tmp_path / "train"
    other.write_text("#!/bin/sh\n")
    other.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{Path(sys.executable).parent}")
    assert [finding.what.split(",")[0] for finding in machine_findings({}) if finding.level == "note"] == [
        f"train on the PATH is {other}"
    ]


def test_the_report_has_one_line_a_finding() -> None:
    found = Diagnosis((Finding("packages", "ok", "python 3.11"), Finding("disk", "broken", "full", "free some")))
    assert str(found) == "packages\n  ok      python 3.11\n\ndisk\n  broken  full: free some\n\n1 broken"
    assert (found.exit_code, found.to_json()["ok"]) == (1, False)


def test_the_command_reports_this_machine(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status = run_group(command, ["doctor", "--json", "--quiet"])
    found = json.loads(capsys.readouterr().out)
    assert status == (0 if found["ok"] else 1)
    assert any(finding["what"].startswith("torch 2") for finding in found["findings"])


def test_torch_is_not_imported_by_the_command_itself() -> None:
    code = "import sys, reinforce.doctor.doctor; assert not {'torch', 'numpy'} & {*sys.modules}"
    subprocess.run([sys.executable, "-c", code], check=True)
