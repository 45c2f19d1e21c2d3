"""The `reinforce` command: verbs in pipeline order, imported when called."""

from __future__ import annotations

import sys

import click

from reinforce import __version__
from reinforce.command import LazyGroup, run_group

VERBS = {
    "import-model": ("reinforce.import_model:import_model", "Make a model directory of your own finetuned checkpoint."),
    "pack": ("reinforce.pack:pack", "Write loose images into tars with a frozen listing."),
    "plan": ("reinforce.plan:plan", "Say what a build will cost before it runs."),
    "build": ("reinforce.build:build", "Run a teacher once over a transfer set and keep what it says."),
    "merge": ("reinforce.merge:merge", "Join stores of one plan that were built apart."),
    "verify": ("reinforce.audit:verify", "Check a store against its manifest, pixels and teacher."),
    "inspect": ("reinforce.inspect_store:inspect", "Print what a store holds."),
    "diff": ("reinforce.diff:diff", "Say what differs between two stores."),
    "embed": ("reinforce.embed:embed", "Embed a gallery or a query set, to curate from."),
    "curate": ("reinforce.curate.curate:curate", "Retrieve a transfer set from an embedded gallery."),
    "review": ("reinforce.review:review", "Look at a curated set, and judge its possible leaks."),
    "push": ("reinforce.push:push", "Copy a finished store to a folder or an object store."),
    "pull": ("reinforce.pull:pull", "Copy a finished store, or a part of one, to this machine."),
    "list": ("reinforce.list_names:list_names", "List the models and data that the catalog knows."),
    "doctor": ("reinforce.doctor.doctor:doctor", "Say what works here, and how to mend what does not."),
}

command = click.version_option(__version__)(
    LazyGroup(
        "reinforce",
        verbs=VERBS,
        help="Cache a teacher's logits over stored views of a transfer set, once, for every student.",
    )
)


def main() -> None:
    sys.exit(run_group(command))
