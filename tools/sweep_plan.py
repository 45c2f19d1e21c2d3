"""From arms, label budgets and seeds to the commands of a sweep: each stage once, however many arms share it.

An arm is what happens to a student before it is finetuned on the labels. Its stages are named by what they depend on
alone, so that a teacher serves all students of its labels and seed, a store of features all budgets, and so on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from stages import Stage

Words = tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Arm:
    """`teacher`: how the VFM is adapted before its pass. `target`: what the pass keeps. `method`: of train pretrain."""

    name: str
    teacher: str | None = None
    target: str | None = None
    method: str | None = None
    tune: str = "full"
    """Mode of the student's finetuning."""


ARMS = (
    Arm(name="scratch"),
    Arm(name="oriented-ft", teacher="full", target="logits"),
    Arm(name="oriented-lp", teacher="linear-probe", target="logits"),
    Arm(name="agnostic-global", target="global-features", tune="best"),
    Arm(name="agnostic-patch", target="patch-features", tune="best"),
    Arm(name="supervised", method="supervised"),
    Arm(name="dino", method="dino"),
)


@dataclass(frozen=True, kw_only=True)
class Task:
    """A target task. `budgets` and `transfers`: a short name -> the words that give it to a command."""

    data: str
    budgets: Mapping[str, Words]
    transfers: Mapping[str, str]
    """ "related" or "generic" -> a transfer set."""
    limits: Mapping[str, int] = field(default_factory=dict)
    """Transfer set -> how many of its first images are enough. None where they lie class by class: the first are of the
    first classes alone."""
    labelled: str | None = None
    """A related labelled set for supervised pretraining."""
    student: Words = ()
    """Of every command that trains a student: its input size."""
    head_alone: tuple[str, ...] = ()
    """Budgets at which nobody finetunes all of a VFM."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """The words of each command. "{task}", "{budget}" and "{transfer}" in them are filled in, and "{set}": what the
    transfer set is called, the task where it is related."""

    adapt: Words
    modes: Mapping[str, Words]
    """Mode of adapting -> its words."""
    build: Words
    logits: Words = ()
    """More of building logits; views of features have the size of the VFM's input."""
    distill: Words
    features: Words
    """Of distilling features."""
    pretrain: Mapping[str, Words]
    """Method -> its words."""
    finetune: Words
    scratch: Words
    evaluate: Words = ()


@dataclass(frozen=True, kw_only=True)
class Preset:
    """A sweep's size. `vfms`: catalog name or path -> words of adapting it and of its pass."""

    tasks: Mapping[str, Task]
    vfms: Mapping[str, Words]
    student: str
    recipe: Recipe
    prelude: tuple[Stage, ...] = ()
    """Stages before all others, such as one that makes a VFM."""
    seeds: tuple[int, ...] = (0, 1, 2)
    views: int = 4
    view_counts: tuple[int, ...] = ()
    """Of the experiment on the number of views, at the last budget, all with the same steps."""
    kept_steps: tuple[int, ...] = ()
    """Steps of pretraining that are kept and finetuned, too, at the last budget: quality by compute."""


@dataclass
class Plan:
    """Stages in the order in which they can run, and which runs belong together in a report."""

    folder: Path
    preset: Preset
    stages: dict[str, Stage] = field(default_factory=dict)
    reports: dict[str, list[Path]] = field(default_factory=dict)

    def add_arm(self, arm: Arm, task: str, vfm: str, transfer: str, budget: str, seed: int) -> None:
        """An arm at one budget, with its measured students, and its teacher for reference."""
        report = f"{task}-{Path(vfm).name}-{transfer}"
        one = Case(self, task, vfm, transfer, budget, seed)
        start = one.pretrained(arm, self.preset.views)
        self._tuned(report, one, arm, start)
        if arm.teacher is not None:
            self._measured(report, one, one.teacher(arm.teacher))
        if budget == list(self.preset.tasks[task].budgets)[-1] and start is not None:
            for step in self.preset.kept_steps:
                self._tuned(report, one, arm, start, step)

    def add_views(self, task: str, vfm: str, transfer: str, seed: int) -> None:
        """The finetuned teacher's students from 1, 2, ... views of an image: parts of one store."""
        arm = next(arm for arm in ARMS if arm.name == "oriented-ft")
        one = Case(self, task, vfm, transfer, list(self.preset.tasks[task].budgets)[-1], seed)
        most = max(self.preset.view_counts)
        whole = one.store(arm, most)
        for count in self.preset.view_counts:
            store = whole if count == most else one.first_views(whole, count)
            self._tuned(f"{task}-{Path(vfm).name}-{transfer}-views", one, arm, one.distilled(arm, store))

    def add(self, stage: Stage) -> Stage:
        """The stage of that name. Two stages of one name must be the same."""
        known = self.stages.setdefault(stage.name, stage)
        assert known == stage, f"two stages are called {stage.name}"
        return known

    def _tuned(self, report: str, one: Case, arm: Arm, start: Stage | None, step: int | None = None) -> None:
        self._measured(report, one, one.finetuned(arm, start, step))

    def _measured(self, report: str, one: Case, stage: Stage) -> None:
        one.evaluated(stage)
        runs = self.reports.setdefault(report, [])
        if stage.out not in runs:
            runs.append(_out(stage))


@dataclass(frozen=True)
class Case:
    """One combination: its stages, added to the plan where they are not there yet."""

    plan: Plan
    task_name: str
    vfm: str
    transfer: str
    budget: str
    seed: int

    @property
    def task(self) -> Task:
        return self.plan.preset.tasks[self.task_name]

    @property
    def recipe(self) -> Recipe:
        return self.plan.preset.recipe

    def teacher(self, mode: str) -> Stage:
        """The VFM adapted to the labels; finetuning starts from the probed one (its head must fit first)."""
        start = self.teacher("linear-probe") if mode == "full" else None
        name = f"{self.task_name}-{Path(self.vfm).name}-{mode}-{self.budget}-s{self.seed}"
        model = self.vfm if start is None else str(start.out)
        words = (*self.plan.preset.vfms[self.vfm], *self.recipe.adapt, *self.recipe.modes[mode], *self._labels())
        return self._stage(name, ("train", "adapt", "--model", model, "--mode", mode), words, start, self.task.data,
                           self.vfm)  # fmt: skip

    def store(self, arm: Arm, views: int) -> Stage:
        """Features depend neither on labels nor on the seed, which draws labels and students."""
        transfer = self.task.transfers[self.transfer]
        teacher = None if arm.teacher is None else self.teacher(arm.teacher)
        short = f"{Path(self.vfm).name}-{arm.target}" if teacher is None else teacher.name
        name = f"{short}-on-{self.task_name}-{self.transfer}-v{views}.zarr"
        model = self.vfm if teacher is None else str(teacher.out)
        more = self.recipe.logits if arm.target == "logits" else ()
        seed = "0" if teacher is None else str(self.seed)
        words = (*self._limit(), *self.recipe.build, *more, "--views", str(views), "--seed", seed)
        size = () if teacher is not None else _only(self.plan.preset.vfms[self.vfm], "--image-size")
        argv = ("reinforce", "build", "--teacher", model, "--transfer", transfer, "--target", str(arm.target), *size)
        return self._stage(name, argv, words, teacher, transfer, self.vfm)

    def first_views(self, whole: Stage, count: int) -> Stage:
        """A store's first views of every image, without another pass of the teacher."""
        name = f"{whole.name.removesuffix('.zarr')}-first-{count}.zarr"
        out = self.plan.folder / "runs" / name
        argv = ("reinforce", "pull", str(whole.out), "--views", f"0:{count}", "--out", str(out))
        return self.plan.add(Stage(name, argv, (whole.name,), (), out))

    def _limit(self) -> Words:
        count = self.task.limits.get(self.task.transfers[self.transfer])
        return () if count is None else ("--limit", str(count))

    def pretrained(self, arm: Arm, views: int) -> Stage | None:
        """What the student is finetuned from; None: nothing."""
        if arm.target is not None:
            return self.distilled(arm, self.store(arm, views))
        if arm.method is None:
            return None
        source = self.task.labelled if arm.method == "supervised" else self.task.transfers[self.transfer]
        option = "--data" if arm.method == "supervised" else "--transfer"
        place = "" if arm.method == "supervised" else f"-{self.transfer}"
        argv = ("train", "pretrain", "--method", arm.method, "--model", self.plan.preset.student, option, str(source))
        limit = () if arm.method == "supervised" else self._limit()
        words = (*self.recipe.pretrain[arm.method], *limit, *self._kept(), *self.task.student)
        return self._stage(f"{self.task_name}{place}-{arm.method}-s{self.seed}", argv, words, None, str(source))

    def distilled(self, arm: Arm, store: Stage) -> Stage:
        words = self.recipe.distill if arm.target == "logits" else self.recipe.features
        argv = ("train", "distill", "--cache", str(store.out), "--student", self.plan.preset.student)
        name = f"{store.name.removesuffix('.zarr')}-student-s{self.seed}"
        return self._stage(name, argv, (*words, *self._kept(), *self.task.student), store)

    def finetuned(self, arm: Arm, start: Stage | None, step: int | None) -> Stage:
        model = self.plan.preset.student if start is None else str(_kept_model(start, step))
        short = f"{self.task_name}-scratch" if start is None else f"{start.name}{'' if step is None else f'-at-{step}'}"
        name = f"{short}-on-{self.task_name}-{self.budget}" if start is None or arm.teacher is None else f"{short}-ft"
        name = name if start is not None else f"{name}-s{self.seed}"
        words = (*(self.recipe.scratch if start is None else self.recipe.finetune), *self._labels(), *self.task.student)
        argv = ("train", "finetune", "--model", model, "--mode", arm.tune)
        return self._stage(name, argv, words, start, self.task.data)

    def evaluated(self, stage: Stage) -> Stage:
        argv = ("train", "evaluate", "--model", str(stage.out), "--data", self.task.data, "--split", "test",
                *self.recipe.evaluate)  # fmt: skip
        return self.plan.add(Stage(f"evaluate {stage.name}", argv, (stage.name,), (self.task.data,),
                                   leaves=(_out(stage), "evaluation-*.json")))  # fmt: skip

    def _stage(self, name: str, argv: Words, words: Words, before: Stage | None, *reads: str) -> Stage:
        out = self.plan.folder / "runs" / name
        known = {"task": self.task_name, "budget": self.budget, "transfer": self.transfer,
                 "set": self.task_name if self.transfer == "related" else self.transfer}  # fmt: skip
        filled = tuple(word.format_map(known) for word in words)
        made = {str(stage.out): stage.name for stage in self.plan.stages.values()}
        inputs = (*(() if before is None else (before.name,)), *(made[place] for place in reads if place in made))
        outside = tuple(place for place in reads if place not in made)
        return self.plan.add(Stage(name, (*argv, *filled, "--resume", "--out", str(out)), inputs, outside, out))

    def _labels(self) -> Words:
        return ("--data", self.task.data, *self.task.budgets[self.budget], "--seed", str(self.seed))

    def _kept(self) -> Words:
        steps = self.plan.preset.kept_steps
        return (("--save-every", str(steps[0])) if steps else ()) + ("--seed", str(self.seed))


def make_plan(preset: Preset, folder: Path, *, arms: Sequence[str], experiments: Sequence[str]) -> Plan:
    """All stages of the experiments "arms" and "views"."""
    plan = Plan(folder, preset, {stage.name: stage for stage in preset.prelude})
    for seed in preset.seeds:
        for name, task in preset.tasks.items():
            for vfm in preset.vfms:
                for transfer in task.transfers:
                    _add(plan, name, task, vfm, transfer, seed, arms, experiments)
    return plan


def _add(plan: Plan, name: str, task: Task, vfm: str, transfer: str, seed: int, arms: Sequence[str],
         experiments: Sequence[str]) -> None:  # fmt: skip
    for budget in task.budgets if "arms" in experiments else ():
        for arm in ARMS:
            if arm.name in arms and _is_trained(arm, task, budget):
                plan.add_arm(arm, name, vfm, transfer, budget, seed)
    if "views" in experiments and plan.preset.view_counts:
        plan.add_views(name, vfm, transfer, seed)


def _is_trained(arm: Arm, task: Task, budget: str) -> bool:
    if arm.teacher == "full" and budget in task.head_alone:
        return False
    return arm.method != "supervised" or task.labelled is not None


def _kept_model(start: Stage, step: int | None) -> Path:
    if step is None:
        return _out(start)
    trial = [f"full-lr{float(_only(start.argv, '--lr')[1]):g}"] if "supervised" in start.argv else []
    return _out(start).joinpath("checkpoints", *trial, f"step-{step:08d}")


def _out(stage: Stage) -> Path:
    assert stage.out is not None
    return stage.out


def _only(words: Words, option: str) -> Words:
    """An option and its value, where it is among the words."""
    return words[words.index(option) :][:2] if option in words else ()
