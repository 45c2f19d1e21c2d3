"""The published layouts of the paper's classification datasets, recognised by their names, with its splits (A.1)."""

from __future__ import annotations

from pathlib import Path

from reinforce.data.published import eurosat, ham10k, imagenet, places365
from reinforce.data.published.layout import Published

LAYOUTS = (places365, ham10k, eurosat, imagenet)

__all__ = ["LAYOUTS", "Published", "open_published"]


def open_published(root: Path) -> Published | None:
    """The dataset that lies in folder `root`, or None where it has none of the layouts.

    Keys are paths relative to `root`, as `open_source` gives them; archives left beside the images are not in the way.
    Raises MissingDataError naming what is not there of a layout that is, and DataError for a malformed list.
    """
    return next((found for layout in LAYOUTS if (found := layout.read(root)) is not None), None)
