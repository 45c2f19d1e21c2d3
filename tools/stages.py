"""Commands of an experiment, run once each: their JSON and seconds are kept, and a recorded one is not run again.

A stage is cached by a hash of its command and of what it reads: outputs of other stages (a model's weights, a store's
manifest) and data or models from outside. Killed at any moment, the next start goes on: a stage that had begun is
resumed by its own --resume, and one whose command or inputs are others now starts again with --overwrite.
"""

from __future__ import annotations

import ctypes
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import braceexpand

from reinforce import catalog
from reinforce.errors import ReinforceError

PR_SET_PDEATHSIG = 1


@dataclass(frozen=True)
class Stage:
    """A command. `--json` is added to it. Where it must start again, `--resume` in it becomes `--overwrite`; what a
    command without `--resume` wrote is removed."""

    name: str
    argv: tuple[str, ...]
    inputs: tuple[str, ...] = ()
    """Stages whose output it reads."""
    reads: tuple[str, ...] = ()
    """Data and models from outside, by catalog name or path."""
    out: Path | None = None
    """What it writes."""
    leaves: tuple[Path, str] | None = None
    """A folder of another stage, and a pattern of what this one leaves there: it goes when that folder is made anew."""

    @property
    def is_there(self) -> bool:
        """Whether what it made still exists."""
        return (self.out is None or self.out.exists()) and (
            self.leaves is None or any(self.leaves[0].glob(self.leaves[1]))
        )


class StageFailedError(Exception):
    pass


def call(argv: Sequence[str]) -> dict[str, Any]:
    """Run a command in a process that ends with this one; its progress is shown. Raises StageFailedError."""
    done = subprocess.run(argv, stdout=subprocess.PIPE, text=True, check=False, preexec_fn=_end_with_parent)
    if done.returncode != 0:
        raise StageFailedError(f"status {done.returncode}")
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def _end_with_parent() -> None:
    """On Linux a killed parent's command gets SIGTERM: going on, it would write beside its own successor."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


@dataclass
class Runner:
    """Runs stages and keeps folder/record.json: name -> key, argv, seconds, result, digest."""

    folder: Path
    execute: Callable[[Sequence[str]], dict[str, Any]] = call
    failed: dict[str, str] = field(default_factory=dict)
    """Stages that failed, or that wait for one that did, and why."""

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.path = self.folder / "record.json"
        self.record: dict[str, Any] = json.loads(self.path.read_text()) if self.path.exists() else {}
        self._outside: dict[str, str] = {}

    def run(self, stages: Sequence[Stage], *, keep_going: bool = False) -> dict[str, Any]:
        """The record after all stages, in order. A failure ends the program, or with `keep_going` what waits for it."""
        for stage in stages:
            waits_for = next((name for name in stage.inputs if name in self.failed), None)
            if waits_for is not None:
                self.failed[stage.name] = f"waits for '{waits_for}'"
                continue
            try:
                self._run(stage)
            except StageFailedError as error:
                if not keep_going:
                    sys.exit(f"the stage '{stage.name}' failed with {error}")
                self.failed[stage.name] = str(error)
        return self.record

    def key(self, stage: Stage) -> str:
        """Of the command and of what its inputs hold now; the inputs must have run."""
        inputs = {name: self.record[name]["digest"] for name in stage.inputs}
        outside = {name: self._outside_digest(name) for name in stage.reads}
        return _sha256(json.dumps([stage.argv, inputs, outside], sort_keys=True))

    def is_done(self, stage: Stage) -> bool:
        known = self.record.get(stage.name, {})
        return stage.is_there and "result" in known and bool(known.get("key") == self.key(stage))

    def _run(self, stage: Stage) -> None:
        if self.is_done(stage):
            return
        key = self.key(stage)
        known = self.record.get(stage.name, {})
        argv = stage.argv if known.get("key") == key else _afresh(stage, is_ours=bool(known))
        print(f"\n== {stage.name}\n$ {' '.join(argv)}", flush=True)
        self._note(stage, {"key": key, "argv": list(stage.argv)})
        started = time.monotonic()
        result = self.execute([*argv, "--json"])
        seconds = time.monotonic() - started
        self._note(stage, {"key": key, "argv": list(stage.argv), "seconds": seconds, "result": result,
                           "digest": output_digest(stage.out, result)})  # fmt: skip

    def _note(self, stage: Stage, entry: dict[str, Any]) -> None:
        self.record[stage.name] = entry
        temporary = self.path.with_suffix(f".{os.getpid()}.partial")
        temporary.write_text(json.dumps(self.record, indent=1) + "\n")
        temporary.replace(self.path)

    def _outside_digest(self, name: str) -> str:
        if name not in self._outside:
            self._outside[name] = outside_digest(name)
        return self._outside[name]


def run_stages(stages: Sequence[Stage], folder: Path) -> dict[str, Any]:
    """Run what folder/record.json does not have yet, and give all of it: name -> argv, seconds, result."""
    return Runner(folder).run(stages)


def output_digest(out: Path | None, result: dict[str, Any]) -> str:
    """What a stage made: a model by its weights, a store by its manifest, anything else by its JSON."""
    if out is not None and (out / "manifest.json").is_file():
        return _sha256((out / "manifest.json").read_text())
    if out is not None and (out / "model.json").is_file():
        return str(json.loads((out / "model.json").read_text())["provenance"]["weights_sha256"])
    return _sha256(json.dumps(result, sort_keys=True))


def outside_digest(name: str) -> str:
    """A model by its weights; a folder or tars by names and sizes of the files, for a split of all; else the name."""
    places = [Path(path) for path in _expanded(name)]
    info = places[0] / "model.json"
    if info.is_file():
        return str(json.loads(info.read_text())["provenance"].get("weights_sha256", _sha256(info.read_text())))
    files = [file for place in places for file in (sorted(place.rglob("*")) if place.is_dir() else [place])]
    sizes = [(file.name, file.stat().st_size) for file in files if file.is_file()]
    return _sha256(json.dumps([name, sizes]))


def _expanded(name: str) -> list[str]:
    for resolve in (catalog.resolve_data, catalog.resolve_model):
        try:
            path = resolve(name).path
        except ReinforceError:
            continue
        if path is not None:
            return list(braceexpand.braceexpand(catalog.split_off(path)[0]))
    return [name]


def _afresh(stage: Stage, *, is_ours: bool) -> tuple[str, ...]:
    if stage.out is None or not stage.out.exists():
        return stage.argv
    if is_ours and "--resume" not in stage.argv:
        shutil.rmtree(stage.out)
    return tuple("--overwrite" if word == "--resume" else word for word in stage.argv)


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
