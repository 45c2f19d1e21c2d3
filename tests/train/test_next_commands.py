"""What training verbs print to be typed next is one command of a shell, whatever the folders are called."""

from __future__ import annotations

import shlex

import pytest

from train.results import finetune_command


@pytest.mark.parametrize("out", ["runs/student", "my runs/$tudent", "it's"])
def test_a_shell_reads_back_the_folder(out: str) -> None:
    words = shlex.split(finetune_command(out, "--task segmentation "))
    options = dict(zip(words[2::2], words[3::2], strict=True))
    assert words[:2] == ["train", "finetune"]
    assert options == {"--task": "segmentation", "--model": out, "--data": "DATA", "--out": f"{out}-ft"}
