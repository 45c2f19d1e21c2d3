"""`reinforce doctor`: what works here, and what to type where something does not."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, get_args

import click

from reinforce.command import TalkOptions
from reinforce.doctor.finding import Finding, Topic
from reinforce.doctor.imports import try_imports
from reinforce.doctor.machine import machine_findings
from reinforce.doctor.packages import extra_findings, not_installed, package_findings, wanted_packages
from reinforce.doctor.places import catalog_findings, disk_findings, left_findings
from reinforce.doctor.variables import variable_findings


@dataclass(frozen=True, kw_only=True)
class DoctorConfig(TalkOptions):
    pass


@dataclass(frozen=True)
class Diagnosis:
    findings: tuple[Finding, ...]

    @property
    def num_broken(self) -> int:
        return sum(finding.level == "broken" for finding in self.findings)

    @property
    def exit_code(self) -> int:
        return 1 if self.num_broken else 0

    def to_json(self) -> dict[str, Any]:
        return {"ok": not self.num_broken, "findings": [asdict(finding) for finding in self.findings]}

    def __str__(self) -> str:
        return "\n".join([*self._lines(), "nothing is broken" if not self.num_broken else f"{self.num_broken} broken"])

    def _lines(self) -> Iterator[str]:
        for topic in get_args(Topic):
            if own := [finding for finding in self.findings if finding.topic == topic]:
                yield from (topic, *(f"  {finding}" for finding in own), "")


def doctor(config: DoctorConfig) -> Diagnosis:
    """Say what is installed, which devices, disks and names there are, and what to type to mend what is broken.

    Exit status 0 where nothing is broken, else 1.
    """
    if not config.quiet:
        click.echo("importing what is installed, to see whether it works ...", err=True)
    return Diagnosis(tuple(_findings()))


def _findings() -> Iterator[Finding]:
    try:
        wanted = wanted_packages()
    except importlib.metadata.PackageNotFoundError:
        yield from not_installed()
        imports = try_imports(["torch"])
    else:
        imports = try_imports([one.module for packages in wanted.values() for one in packages if one.version])
        yield from package_findings(wanted, imports)
        yield from extra_findings(wanted, imports)
    yield from machine_findings(imports["torch"].facts if "torch" in imports else {})
    yield from disk_findings()
    yield from catalog_findings()
    yield from left_findings(Path.cwd())
    yield from variable_findings()
