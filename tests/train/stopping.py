"""A run that is told to stop: SIGTERM comes while it loads one of its batches."""

from __future__ import annotations

import os
import signal
from typing import Any

import pytest


def stop_at_load(monkeypatch: pytest.MonkeyPatch, views: type, number: int) -> None:
    """From the `number`th batch that any `views` load, counted from 1."""
    load, loads = views.load, []  # type: ignore[attr-defined]

    def load_and_stop(self: Any, *args: Any) -> Any:
        loads.append(args)
        if len(loads) == number:
            os.kill(os.getpid(), signal.SIGTERM)
        return load(self, *args)

    monkeypatch.setattr(views, "load", load_and_stop)
