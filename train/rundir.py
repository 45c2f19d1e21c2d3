"""The run directory: model.safetensors, model.json, config.json, metrics.jsonl, cost.json, result.json, report.html,
checkpoints/, and with --tensorboard tensorboard/.

`train evaluate` adds an evaluation-DATA-SPLIT.json for each split that it measures the run on, and what report.html
shows of it, shown-DATA-SPLIT.json."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reinforce.command import BEFORE
from reinforce.errors import NO_ROOM, OutputExistsError, StoreAccessError, UsageError
from reinforce.locking import FolderHold
from reinforce.whole_file import TEMPORARY_PREFIX, written_whole

if TYPE_CHECKING:
    from train.events import EventFiles
    from train.world import World

COST_FILE, REPORT_FILE, EVENTS = "cost.json", "report.html", "tensorboard"
EVALUATIONS, SHOWN = "evaluation-*.json", "shown-*.json"
LEFTOVERS = f"{TEMPORARY_PREFIX}*"
OWN_FILES = ("model.safetensors", "extra.safetensors", "model.json", "config.json", "metrics.jsonl", COST_FILE,
             "result.json", REPORT_FILE)  # fmt: skip
NOT_THE_RUN = (
    "preset",
    "out",
    "device",
    "workers",
    "overwrite",
    "resume",
    "dry_run",
    "json",
    "quiet",
    "debug",
    "save_every",
    "log_every",
    "tensorboard",
    "cache",
    "text_cache",
    "transfer",
    "resolved",
)
"""What changes where or how a run goes, not what it computes: `--resume` may change it."""


class RunDirectory:
    """Opens or makes `path` by the rules of --overwrite and --resume, and writes into it."""

    def __init__(self, path: str | Path, config: Any, *, verb: str, overwrite: bool, resume: bool,
                 world: World | None = None) -> None:  # fmt: skip
        """`config`: the verb's dataclass, kept in config.json. Only the main rank checks and writes.

        Raises OutputExistsError where something is there already and neither flag was given; UsageError for
        --overwrite of what is no run directory, --resume with other options than the run was started with, or a
        directory that another process trains in (until `finished` or `reported` end this one's hold, or it ends).
        """
        self._hold: FolderHold | None = None
        self.path, self.verb = Path(path), verb
        self.config = _plain({"verb": verb, **dataclasses.asdict(config)})
        self._unchosen = _plain(_defaults(config))
        self.is_main = world is None or world.is_main
        self.resumed = resume
        if self.config.get("tensorboard"):
            from train.events import check_tensorboard

            check_tensorboard()
        if self.is_main:
            self._prepare(overwrite, resume)
        if world is not None:
            world.barrier()

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def metrics(self) -> MetricsLog:
        """metrics.jsonl; with --tensorboard its figures also go into event files."""
        from train.events import EventFiles

        events = EventFiles(self.path / EVENTS) if self.config.get("tensorboard") else None
        return MetricsLog(self.path / "metrics.jsonl", is_main=self.is_main, events=events)

    def finished(self) -> dict[str, Any] | None:
        """The result of a run that --resume finds complete."""
        path = self.path / "result.json"
        if not (self.resumed and path.exists()):
            return None
        self._release()
        result: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return result

    def resolve(self, **values: Any) -> None:
        """Add what the options came to to config.json, under "resolved": steps, sizes, learning rates, devices."""
        self.config["resolved"] = self.config.get("resolved", {}) | _plain(values)
        if self.is_main:
            write_json(self.path / "config.json", self.config)

    def finish(self, result: Mapping[str, Any]) -> None:
        """Record the result; from here on the run counts as complete."""
        if self.is_main:
            write_json(self.path / "result.json", dict(result))

    @contextlib.contextmanager
    def reported(self) -> Iterator[None]:
        """Around a training: however it ends, the run has a report.html that says where it stands.

        Raises StoreAccessError where the disk is full.
        """
        try:
            yield
        except (OSError, RuntimeError) as error:
            if (reason := _no_room(error)) is None:
                raise
            raise StoreAccessError(f"cannot write {self.path}: {reason}; free some, then type the same command with "
                                   "--resume") from error  # fmt: skip
        finally:
            if self.is_main:
                from train.run_report import report_run

                report_run(self.path)
            self._release()

    def _prepare(self, overwrite: bool, resume: bool) -> None:
        if self.path.exists() and not self.path.is_dir():
            raise UsageError(f"--out {self.path} is a file: type another --out")
        self.path.mkdir(parents=True, exist_ok=True)
        self._take()
        try:
            self._claim(overwrite, resume)
        except BaseException:
            self._release()
            raise

    def _take(self) -> None:
        try:
            self._hold = FolderHold(self.path)
        except BlockingIOError:
            raise UsageError(f"another command trains in {self.path}: wait for it, or type another --out") from None

    def _release(self) -> None:
        if self._hold is not None:
            self._hold.release()

    def _claim(self, overwrite: bool, resume: bool) -> None:
        started = holds_run_config(self.path)
        if resume and started:
            self._check_same_run()
            self._sweep()
        elif any(not entry.name.startswith(".") for entry in self.path.iterdir()):
            self._clear(started, overwrite)
        write_json(self.path / "config.json", self.config)

    def _sweep(self) -> None:
        """Remove files that a killed command was writing."""
        for path in (*self.path.glob(LEFTOVERS), *self.checkpoints.rglob(LEFTOVERS)):
            path.unlink(missing_ok=True)

    def _clear(self, started: bool, overwrite: bool) -> None:
        if not overwrite and started:
            raise OutputExistsError(self.path, "type --resume to continue, --overwrite to replace it or another --out")
        if not overwrite:
            raise OutputExistsError(self.path, "it is no run directory: type another --out")
        if not started:
            raise UsageError(f"{self.path} is no run directory, so --overwrite leaves it: type another --out")
        # config.json stays to the last, and is replaced: what a kill leaves of this is still known for a run
        (self.path / "result.json").unlink(missing_ok=True)
        for folder in (self.checkpoints, self.path / EVENTS):
            shutil.rmtree(folder, ignore_errors=True)
        kept = {self.path / "config.json"}
        measured = (*self.path.glob(EVALUATIONS), *self.path.glob(SHOWN))
        for path in {*(self.path / name for name in OWN_FILES), *measured} - kept:
            path.unlink(missing_ok=True)
        self._sweep()

    def _check_same_run(self) -> None:
        before = self._unchosen | json.loads((self.path / "config.json").read_text(encoding="utf-8"))
        names = sorted({*before, *self.config} - set(NOT_THE_RUN))
        changed = [name for name in names if before.get(name) != self.config.get(name)]
        self.config["resolved"] = before.get("resolved", {})
        if changed:
            old, new = (_typed(changed[0], config.get(changed[0])) for config in (before, self.config))
            raise UsageError(f"{self.path} was started {old}, not {new}: "
                             "type the former options to --resume, or --overwrite to start again")  # fmt: skip


def holds_run_config(folder: Path) -> bool:
    """Whether a run was started here: a folder for timm has a config.json, too, of another kind."""
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(config, dict) and "verb" in config


def refuse_own_input(out: str, *inputs: str | None) -> None:
    """Raises UsageError where a run would write over a model that it starts from."""
    for name in inputs:
        if name is not None and Path(name).exists() and Path(name).resolve() == Path(out).resolve():
            raise UsageError(f"--out {out} is the model that it starts from: type another --out")


class MetricsLog:
    """metrics.jsonl: one JSON object a line; cut back to the checkpoint when a run is resumed."""

    def __init__(self, path: Path, *, is_main: bool = True, events: EventFiles | None = None) -> None:
        """`events` gets the same figures."""
        self.path, self.is_main, self.events = path, is_main, events

    def write(self, line: Mapping[str, Any]) -> None:
        if not self.is_main:
            return
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        if self.events is not None:
            self.events.write(line)

    def lines(self) -> list[dict[str, Any]]:
        """Lines so far; one that a kill cut short is left out."""
        if not self.path.exists():
            return []
        found = []
        for text in self.path.read_text(encoding="utf-8").splitlines():
            try:
                found.append(json.loads(text))
            except json.JSONDecodeError:
                break
        return found

    def forget_after(self, step: int, trial: str) -> None:
        """Drop what `trial` wrote after `step`: the resumed run writes it again."""
        if not self.is_main:
            return
        kept = [line for line in self.lines() if line.get("trial", "") != trial or line["step"] <= step]
        with written_whole(self.path) as file:
            file.write("".join(json.dumps(line) + "\n" for line in kept).encode())
        if self.events is not None:
            self.events.forget_after(step, trial)


def write_json(path: Path, value: object) -> None:
    """Replace `path` atomically by `value` as indented JSON."""
    with written_whole(path) as file:
        file.write((json.dumps(value, indent=2) + "\n").encode())


def _no_room(error: BaseException | None) -> str | None:
    """What the system says of a full disk, which torch's writer of files may have met first."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in NO_ROOM:
            return error.strerror
        error = error.__cause__ or error.__context__
    return None


def _plain(value: Any) -> Any:
    """What JSON makes of it: tuples become lists, so that a config compares equal to its own file."""
    return json.loads(json.dumps(value))


def _defaults(config: Any) -> dict[str, Any]:
    """What options were where nobody chose: a run of an earlier version does not know those that came later."""
    return {field.name: field.metadata.get(BEFORE, field.default) for field in dataclasses.fields(config)
            if field.default is not dataclasses.MISSING}  # fmt: skip


def _typed(name: str, value: Any) -> str:
    """An option in the words of the command line: "with --lr 0.1,0.2", "without --compile"."""
    option = name if name == "verb" else "--" + name.replace("_", "-")
    if value is None or value is False:
        return f"without {option}"
    words = ",".join(map(str, value)) if isinstance(value, list) else str(value)
    return f"with {option}" if value is True else f"with {option} {words}"
