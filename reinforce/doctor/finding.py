"""One line of the report."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Topic = Literal["packages", "extras", "machine", "disk", "catalog", "left", "environment"]
Level = Literal["ok", "note", "broken"]


@dataclass(frozen=True)
class Finding:
    topic: Topic
    level: Level
    """note: works without, but look at it."""
    what: str
    mend: str | None = None
    """What to type or do."""

    def __str__(self) -> str:
        return f"{self.level:6}  {self.what}{f': {self.mend}' if self.mend else ''}"
