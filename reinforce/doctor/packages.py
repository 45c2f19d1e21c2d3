"""What is installed, against what the project asks for."""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from reinforce.doctor.finding import Finding, Topic
from reinforce.doctor.imports import Import

DISTRIBUTION = "reinforce-vision"
PURPOSES = {
    "clip": "open_clip teachers, text queries",
    "curate": "approximate search, a review's map",
    "ray": "--engine ray",
    "share": "transfer sets and stores on S3, GCS, Azure and the Hugging Face Hub",
    "export": "students as ONNX",
    "report": "plots of pages",
    "assets": "tools/fetch_assets.py",
    "webdataset": "reading our tars by that package",
    "tensorboard": "train ... --tensorboard",
    "datasets": "transfer sets hf:NAME",
}
"""Of the extras that a user may want."""
_MODULES = {"pillow": "PIL", "faiss-cpu": "faiss", "scikit-learn": "sklearn", "open-clip-torch": "open_clip"}
"""Where a distribution's module has another name."""


@dataclass(frozen=True)
class Wanted:
    """A distribution that the project or one of its extras asks for, and what is here."""

    name: str
    specifier: SpecifierSet
    version: str | None

    @property
    def module(self) -> str:
        return _MODULES.get(self.name.replace("_", "-").lower(), self.name.replace("-", "_"))

    @property
    def is_in_range(self) -> bool:
        return self.version is not None and self.specifier.contains(self.version, prereleases=True)

    def __str__(self) -> str:
        return f"{self.name} {self.version}" if self.version else f"{self.name} (not installed)"


def wanted_packages() -> dict[str, list[Wanted]]:
    """By extra; "" is what is always needed. Raises PackageNotFoundError where the project itself is not installed."""
    metadata = importlib.metadata.metadata(DISTRIBUTION)
    extras = ["", *(metadata.get_all("Provides-Extra") or [])]
    requirements = [Requirement(line) for line in importlib.metadata.requires(DISTRIBUTION) or []]
    return {
        extra: [_wanted(one) for one in requirements if _is_of(one, extra) and one.name != DISTRIBUTION]
        for extra in extras
        if extra == "" or extra in PURPOSES
    }


def _is_of(requirement: Requirement, extra: str) -> bool:
    """Whether an extra adds it to what is needed anyway."""
    marker = requirement.marker
    if marker is None:
        return extra == ""
    return marker.evaluate({"extra": extra}) and (extra == "" or not marker.evaluate({"extra": ""}))


def _wanted(requirement: Requirement) -> Wanted:
    try:
        version = importlib.metadata.version(requirement.name)
    except importlib.metadata.PackageNotFoundError:
        version = None
    return Wanted(requirement.name, requirement.specifier, version)


def not_installed() -> Iterator[Finding]:
    """Of the project run from its folder."""
    yield python_finding(">=3.11")
    yield Finding("packages", "note", f"{DISTRIBUTION} is not installed, so versions are not checked",
                  "pip install -e . in its folder")  # fmt: skip


def python_finding(specifier: str) -> Finding:
    version = platform.python_version()
    if SpecifierSet(specifier).contains(version, prereleases=True):
        return Finding("packages", "ok", f"python {version}")
    return Finding("packages", "broken", f"python {version} is not {specifier}", "make an environment of another one")


def package_findings(wanted: Mapping[str, Sequence[Wanted]], imports: Mapping[str, Import]) -> Iterator[Finding]:
    yield python_finding(importlib.metadata.metadata(DISTRIBUTION)["Requires-Python"])
    needed = wanted[""]
    bad = [finding for one in needed if (finding := _fault(one, imports))]
    yield from bad
    good = [one for one in needed if not _fault(one, imports)]
    yield Finding("packages", "ok", ", ".join(map(str, good)))


def extra_findings(wanted: Mapping[str, Sequence[Wanted]], imports: Mapping[str, Import]) -> Iterator[Finding]:
    """One for each extra, and one for each package of it that is here and not as it should be."""
    for extra, packages in wanted.items():
        if not extra:
            continue
        installed = [one for one in packages if one.version]
        yield from (finding for one in installed if (finding := _fault(one, imports, "extras")))
        what = f"{extra} ({PURPOSES[extra]}): {', '.join(map(str, packages))}"
        if len(installed) == len(packages):
            yield Finding("extras", "ok", what)
        else:
            yield Finding("extras", "note", what, f"pip install '{DISTRIBUTION}[{extra}]'")


def _fault(one: Wanted, imports: Mapping[str, Import], topic: Topic = "packages") -> Finding | None:
    asked = f"{one.name}{one.specifier}"
    if not one.is_in_range:
        what = f"{one.name} {one.version} is not {one.specifier}" if one.version else f"{one.name} is not installed"
        return Finding(topic, "broken", what, f"pip install '{asked}'")
    error = imports[one.module].error if one.module in imports else None
    if error is None:
        return None
    return Finding(topic, "broken", f"{one.name} {one.version} {error}", f"pip install --force-reinstall '{asked}'")
