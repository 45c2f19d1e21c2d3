"""What is compared: a run's facets (how it was trained), its labels, and the name that tells it from the others.

An arm's name has the method and, of the other facets, those in which the compared runs differ.
"""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatch
from typing import Any

from reinforce.counting import counted
from reinforce.errors import UnknownNameError, UsageError

from train.compare.lineage import Lineage
from train.compare.runs import Run, mapping
from train.rundir import NOT_THE_RUN

TRANSFERS = {
    "kl": "task-oriented",
    "contrastive": "task-agnostic (global features)",
    "cosine": "task-agnostic (patch features)",
}
"""Loss of a distillation -> the paper's name of it (section 2)."""
PRETRAININGS = {
    "supervised": "supervised pretraining",
    "dino": "DINO pretraining",
    "clip": "CLIP pretraining",
    "clip-affinity": "CLIP pretraining, affinity mimicking",
}
MODES = {"full": "finetuned", "linear-probe": "linear-probed"}
FACETS = ("method", "vfm", "teacher", "source", "views", "student", "size", "tuning")
"""In the order in which a name has them."""
OF_A_METHOD = ("vfm", "teacher", "source", "views", "tuning")
"""Facets that a name has where the runs of one method differ in them; the others where any runs do."""
LABELLED = ("finetune", "adapt")
"""Verbs that are given labels of the task."""
ALWAYS = ("method", "targets", "finetuning")
SCRATCH, TEACHER = "from scratch", "the teacher itself"


@dataclasses.dataclass(frozen=True)
class Budget:
    """The labels that a run and all that it came from were given of the task."""

    num_images: int
    """The most of any of them."""
    name: str = "0 labels"
    """Its own, and in brackets those of what it came from where these are more."""


@dataclasses.dataclass(frozen=True)
class Described:
    """A run, what it came from, and how it is described."""

    run: Run
    ancestors: tuple[Run, ...]
    """The runs before it, nearest first: what it started from, or the teacher of its store."""
    facets: Mapping[str, str]
    budget: Budget
    seed: int

    @property
    def pretraining(self) -> Run | None:
        """What a finetuned run started from."""
        return self.ancestors[0] if self.ancestors and self.run.verb == "finetune" else None

    @property
    def step(self) -> int | None:
        """Of the kept checkpoint that it is, or that it started from; None for whole trainings."""
        start = self.pretraining
        return self.run.step if start is None or self.run.step is not None else start.step

    @property
    def is_teacher(self) -> bool:
        return self.facets["method"] == TEACHER


def describe(run: Run, lineage: Lineage) -> Described:
    chain = _ancestors(run, lineage)
    before = run.training if run.verb != "finetune" else mapping(run.training.get("before"))
    trained = run if run.verb != "finetune" else lineage.start(run)
    facets = {"student": str(run.info["architecture"]), "size": f"{run.info['image_size']} px"}
    if run.verb == "finetune":
        facets |= {"tuning": _tuning(run)}
    return Described(run, chain, facets | _method(run, before, trained, lineage), _budget(run, chain), _seed(run))


def arm_names(described: Sequence[Described], *, group_by: Sequence[str] = (),
              labels: Sequence[str] = ()) -> list[str]:  # fmt: skip
    """The arm of each run; `labels`, "PATTERN=NAME" over run directories, come first, then `group_by` facets.

    Raises UsageError, UnknownNameError.
    """
    shown = tuple(group_by) or (*ALWAYS[:1], *_varying(described), *ALWAYS[1:])
    return [_given(one, labels) or _name(one, shown) for one in described]


def _name(one: Described, shown: Sequence[str]) -> str:
    words = [facet(one, name) for name in shown]
    return ", ".join(word for word in words if word) or "all runs"


def facet(one: Described, name: str) -> str:
    """A facet, an option of the run ("lr"), or one of what it came from ("distill.steps"); "" where it has none.

    Raises UnknownNameError.
    """
    if name in (*FACETS, *ALWAYS):
        return one.facets.get(name, "")
    verb, _, option = name.rpartition(".")
    runs = [run for run in (one.run, *one.ancestors) if not verb or run.verb == verb]
    found = next((run.config[option] for run in runs[: None if verb else 1] if option in run.config), None)
    if found is None and not verb:
        raise UnknownNameError("facet", name, (*FACETS, *one.run.config))
    return "" if found is None else f"{name} {found}"


def differences(a: Described, b: Described) -> list[str]:
    """What --group-by could tell two runs of one arm apart by."""
    found = [name for name in FACETS if a.facets.get(name) != b.facets.get(name)]
    for first, second in zip((a.run, *a.ancestors), (b.run, *b.ancestors), strict=False):
        names = sorted({*first.config, *second.config} - {*NOT_THE_RUN, "verb", "model", "seed"})
        prefix = "" if first is a.run else f"{first.verb}."
        found += [prefix + name for name in names if first.config.get(name) != second.config.get(name)]
    return found


def _given(one: Described, labels: Sequence[str]) -> str | None:
    for label in labels:
        pattern, equals, name = label.partition("=")
        if not equals or not name:
            raise UsageError(f"--label takes PATTERN=NAME such as 'runs/crops-*=milder views', not '{label}'")
        path = one.run.path.as_posix()
        if fnmatch(path, pattern) or fnmatch(path, f"*/{pattern}") or fnmatch(one.run.path.name, pattern):
            return name
    return None


def _varying(described: Sequence[Described]) -> list[str]:
    """Facets with several values among the runs that have them; the teacher's own rows tell nothing of the others."""
    students = [one for one in described if not one.is_teacher] or described
    values: dict[tuple[str, str], set[str]] = defaultdict(set)
    for one in students:
        for name, value in one.facets.items():
            values[name, one.facets["method"] if name in OF_A_METHOD else ""].add(value)
    found = {name for (name, _), different in values.items() if len(different) > 1}
    return [name for name in FACETS if name not in ALWAYS and name in found]


def _method(run: Run, training: Mapping[str, Any], trained: Run | None, lineage: Lineage) -> dict[str, str]:
    verb = training.get("verb")
    if run.verb == "adapt":
        return _teacher_itself(run.training)
    if verb == "distill":
        return _distilled(run, training, trained, lineage)
    if verb == "pretrain":
        name = training.get("method") or (trained.config.get("method") if trained else None) or "supervised"
        source = training.get("transfer") or training.get("data")
        return {"method": PRETRAININGS.get(name, f"{name} pretraining"), **_on(source)}
    if verb == "finetune":
        return {"method": "finetuned before", **_on(training.get("data"))}
    if run.origin or "from_sha256" in run.training:
        return {"method": f"published weights of {run.training.get('model', run.info['architecture'])}"}
    return {"method": SCRATCH}


def _teacher_itself(training: Mapping[str, Any]) -> dict[str, str]:
    mode = MODES.get(training.get("mode", ""), "adapted")
    return {"method": TEACHER, "targets": f"{_vfm(training)} {mode}"}


def _vfm(training: Mapping[str, Any]) -> str:
    """What was adapted, be it in one training or in several."""
    while mapping(training.get("before")).get("verb") == "adapt":
        training = training["before"]
    return str(training.get("model"))


def _distilled(run: Run, training: Mapping[str, Any], trained: Run | None, lineage: Lineage) -> dict[str, str]:
    described = mapping(training.get("store"))
    named = mapping(described.get("teacher")).get("name", "a teacher")
    facets = {"method": TRANSFERS.get(training.get("loss", "kl"), f"distilled ({training.get('loss')})"),
              "vfm": f"from {named}", **_on(described.get("transfer"))}  # fmt: skip
    if training.get("targets") == "online":
        facets["targets"] = "online teacher"
    if others := training.get("other_stores"):
        facets["targets"] = f"mean of {1 + len(others)} teachers"
    if run.verb == "distill":
        facets["finetuning"] = "not finetuned"
    teacher = lineage.teacher(trained) if trained is not None else None
    if teacher is not None and teacher.verb == "adapt":
        facets["vfm"] = f"from {_vfm(teacher.training)}"
        facets["teacher"] = f"teacher {MODES.get(teacher.training.get('mode', ''), 'adapted')}"
    store = lineage.store(trained) if trained is not None else None
    if store is not None and store.num_views is not None:
        facets["views"] = f"{store.num_views} view{'s' * (store.num_views != 1)}"
    return facets


def _on(source: str | None) -> dict[str, str]:
    return {"source": f"on {source}"} if source else {}


def _tuning(run: Run) -> str:
    mode = run.config.get("mode", "full")
    return {"full": "everything tuned", "linear-probe": "head alone", "best": "better of head and everything"}.get(
        mode, str(mode)
    )


def _ancestors(run: Run, lineage: Lineage) -> tuple[Run, ...]:
    found: list[Run] = []
    for candidate in (lineage.start(run) if "before" in run.training else None,
                      lineage.teacher(run)):  # fmt: skip
        if candidate is not None:
            found += [candidate, *_ancestors(candidate, lineage)]
    return tuple(found)


def _budget(run: Run, ancestors: Sequence[Run]) -> Budget:
    """A distilled student has seen the labels of its teacher alone; labels of other data are none of the task."""
    labelled = [one for start in (run, *ancestors) for one in _trainings(start) if one.get("verb") in LABELLED]
    if not labelled:
        return Budget(0)
    own = labelled[0]
    most = max((one for one in labelled if one.get("data") == own.get("data")), key=_num_images)
    if _num_images(most) == _num_images(own):
        return Budget(_num_images(own), _labels(own))
    whose = "teacher" if most["verb"] == "adapt" else "before"
    return Budget(_num_images(most), f"{_labels(own)} ({whose} {_labels(most).removesuffix(' a class')})")


def _trainings(run: Run) -> Iterator[Mapping[str, Any]]:
    """The last one and those before it, which its model tells of."""
    training = run.training
    while training:
        yield training
        training = mapping(training.get("before"))


def _num_images(training: Mapping[str, Any]) -> int:
    return _integer(training.get("num_images"))


def _labels(training: Mapping[str, Any]) -> str:
    shots = training.get("shots")
    return counted(_num_images(training), "label") if shots is None else f"{shots} a class"


def _integer(value: Any) -> int:
    return value if isinstance(value, int) else 0


def _seed(run: Run) -> int:
    return _integer(run.training.get("seed", run.config.get("seed")))
