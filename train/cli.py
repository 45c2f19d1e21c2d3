"""The `train` command: verbs in pipeline order, imported when called."""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path

import click
from reinforce import __version__
from reinforce.command import LazyGroup, run_group

VERBS = {
    "adapt": ("train.adapt:adapt", "Teach a foundation model a task with few labels."),
    "distill": ("train.distill:distill", "Train a student from a store, without the teacher."),
    "finetune": ("train.finetune:finetune", "Train a model on labels; an untrained name trains from scratch."),
    "pretrain": ("train.pretrain.pretrain:pretrain", "Pretrain a model the classical ways, to compare with."),
    "evaluate": ("train.evaluate:evaluate", "Measure a model on a labelled split."),
    "export": ("train.export.export:export", "Hand a model to others: ONNX, Core ML, a folder for timm and the Hub."),
    "compare": ("train.compare.compare:compare", "Set runs beside each other: tables, plots, a page."),
}

command = click.version_option(__version__)(
    LazyGroup("train", verbs=VERBS, help="Adapt teachers; distill, finetune and evaluate students.")
)


def main() -> None:
    """Under torchrun the first rank speaks for all."""
    is_first = os.environ.get("RANK", "0") == "0"
    with contextlib.ExitStack() as stack:
        if not is_first:
            silence = stack.enter_context(Path(os.devnull).open("w"))
            stack.enter_context(contextlib.redirect_stdout(silence))
        status = run_group(command, tells_stops=is_first)
    sys.exit(status)
