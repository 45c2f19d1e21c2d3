"""What a benchmark prints: figures beside what bounds them and what a peer takes, as a table or as JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass


@dataclass(frozen=True, kw_only=True)
class Figure:
    name: str
    value: float
    limit: float | None = None
    """What the machine itself does."""
    peer: float | None = None
    """What others take for the same, in the same run."""
    goal: float | None = None
    lower_is_better: bool = False


def table(figures: Sequence[Figure], *, limit: str, peer: str) -> str:
    """Markdown; `limit` and `peer` say what these are here."""
    lines = [f"| figure | value | {limit} | {peer} | goal |", "|---|---|---|---|---|"]
    for figure in figures:
        values = (figure.value, figure.limit, figure.peer, figure.goal)
        value, bound, other, goal = ("" if value is None else _short(value) for value in values)
        sign = "<=" if figure.lower_is_better else ">="
        lines.append(f"| {figure.name} | {value} | {bound} | {other} | {goal and f'{sign} {goal}'} |")
    return "\n".join(lines)


def to_json(figures: Sequence[Figure]) -> str:
    return json.dumps({"figures": [asdict(figure) for figure in figures]})


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
