"""From a finished store to its page."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from reinforce.dataset import ReinforcedDataset, join
from reinforce.errors import DataError, MissingDataError, MissingExtraError, RemoteAccessError, UsageError
from reinforce.pages import Mark, Plotter, check_writable, class_colours, css, render, write_page
from reinforce.progress import human_bytes
from reinforce.store import FEATURES, PLAN, LocalObjects, MapShape, Objects, Store, open_objects
from reinforce.store.canonical import Fields
from reinforce.store_page.certificate import (
    error_plot,
    promised_error,
    rate_distortion_plot,
    read_calibration,
    stored_fidelity,
)
from reinforce.store_page.gallery import Gallery, look, replay_line
from reinforce.store_page.provenance import policy_rows, provenance_tables
from reinforce.store_page.targets import Choice, ClassShare, TargetSums, class_shares, max_entropy

CLASSES_SHOWN, LEAST_SHOWN, SKIPPED_SHOWN, POINTS_SHOWN = 30, 8, 200, 60
NUM_BARS = 40
NOT_AT_HAND = (MissingDataError, MissingExtraError, RemoteAccessError)
"""What opening a transfer set raises where it is not here, or its object store cannot be reached or refuses."""
PIXELATED_PX = 96
"""Views under this size are shown as the squares that they are."""


@dataclass(frozen=True, kw_only=True)
class WrittenPage:
    path: Path
    without_pictures: str | None
    """Why the page has no pictures, or None."""


def write_store_page(
    location: str | Path, html: Path, *, transfer: str | None = None, overwrite: bool = False
) -> WrittenPage:
    """Write the page of the store at `location` to the file `html`.

    Where the transfer set is not here, or is another one, the page has no pictures and says so.

    Args:
        transfer: where the transfer set lies; by default what the catalog knows for the store's digest or name.

    Raises:
        StoreError: the store is missing, unfinished or damaged.
        OutputExistsError: `html` exists and is not to be overwritten.
        UsageError: `html` is a folder or lies inside the store, whose every file is listed.
        MissingExtraError: matplotlib is not installed.
    """
    objects = open_objects(location)
    if isinstance(objects, LocalObjects) and objects.root.resolve() in html.resolve().parents:
        raise UsageError(f"{html} lies inside the store: type --html with a file beside it")
    store = Store.open(objects)
    check_writable(html, overwrite=overwrite)
    plotter = Plotter("inspect --html")
    Fields(store.plan, PLAN).inner("teacher")
    dataset, reason = _try_open(store, transfer)
    content = page_content(store, dataset, plotter, _name(objects), _told(store, reason))
    write_page(html, render("store.html", **content), overwrite=overwrite)
    return WrittenPage(path=html, without_pictures=None if reason is None else str(reason))


def page_content(
    store: Store, dataset: ReinforcedDataset | None, plotter: Plotter, name: str, without_pictures: str | None
) -> dict[str, Any]:
    """What the template `store.html` shows. `dataset` has the store's pixels, where they are here."""
    choice = Choice.of(store)
    gallery = look(store, dataset, choice)
    return {
        "name": name,
        "teacher_name": store.plan["teacher"].get("name", "the teacher"),
        "architecture": store.plan["teacher"].get("architecture"),
        "transfer_name": store.plan["transfer"]["name"],
        "plan": store.plan,
        "tiles": _tiles(store),
        "gallery": gallery,
        "num_views_shown": len(choice.views),
        "without_pictures": without_pictures,
        "replay": None if dataset is None else replay_line(dataset),
        "is_pixelated": store.plan["policy"]["size_px"] < PIXELATED_PX,
        "tables": provenance_tables(store),
        "policy": policy_rows(store.policy_json),
        "skipped": store.manifest.skipped[:SKIPPED_SHOWN],
        "num_skipped": len(store.manifest.skipped),
        "is_features": store.target in FEATURES,
        "is_map": store.map_size is not None,
        "row": _row_word(store),
        **_target_content(plotter, gallery, store),
        **_certificate_content(plotter, store),
    }


def _name(objects: Objects) -> str:
    """The last part of where the store lies: no path of this machine goes into the page."""
    where = objects.root.resolve() if isinstance(objects, LocalObjects) else PurePosixPath(objects.name)
    return where.name


def _try_open(store: Store, transfer: str | None) -> tuple[ReinforcedDataset | None, Exception | None]:
    try:
        return join([store], transfer), None
    except (DataError, *NOT_AT_HAND) as error:
        return None, error


def _told(store: Store, reason: Exception | None) -> str | None:
    """The reason in words of the page's own: the error's may hold paths of this machine."""
    if reason is None:
        return None
    name = store.plan["transfer"]["name"]
    if isinstance(reason, NOT_AT_HAND):
        return f"The transfer set '{name}' was not at hand when this page was made."
    return f"The images that were at hand as '{name}' are not those that the store was built from."


def _row_word(store: Store) -> str:
    """What the histograms count."""
    return "row" if store.map_size is None else "cell"


def _tiles(store: Store) -> list[tuple[str, str]]:
    certificate = store.manifest.certificate
    num_bytes = store.manifest.num_bytes + len(store.manifest.to_bytes())
    return [
        ("samples", f"{store.num_samples:,}"),
        ("views each", f"{store.num_views:,}"),
        ("dimensions" if store.target in FEATURES else "classes", f"{store.num_channels:,}"),
        *([("map, cells", "{} × {}".format(*store.map_size))] if store.map_size else []),
        ("on disk", human_bytes(num_bytes)),
        ("bytes per view", f"{certificate['bytes_per_view']:.1f}"),
        *([("top-1 kept", f"{100 * certificate['top1_agreement']:.2f} %")] if "top1_agreement" in certificate else []),
    ]


def _target_content(plotter: Plotter, gallery: Gallery, store: Store) -> dict[str, Any]:
    if store.target in FEATURES:
        return _likeness_content(plotter, gallery)
    return {**_class_content(gallery.sums, store), **_sureness_content(plotter, gallery, store)}


def _likeness_content(plotter: Plotter, gallery: Gallery) -> dict[str, Any]:
    plots = []
    for values, caption in ((gallery.likeness.within, "Pairs of views of one image."),
                            (gallery.likeness.between, "Pairs of different images, their first views.")):  # fmt: skip
        plot = _bars(plotter, values, 1.0, "Cosine", "cosine of two features", "pairs", least=-1.0)
        plots += [(plot, caption)]
    return {"likeness_plots": plots, "likeness_within": _mean(gallery.likeness.within),
            "likeness_between": _mean(gallery.likeness.between)}  # fmt: skip


def _class_content(sums: TargetSums, store: Store) -> dict[str, Any]:
    shares = class_shares(sums, store.class_names)
    shown, others = shares[:CLASSES_SHOWN], shares[CLASSES_SHOWN:]
    return {
        "num_rows": sums.num_rows,
        "class_shares": shown,
        "colours": _shown_colours(store, shown),
        "largest_share": max((max(share.expected, share.most_likely) for share in shown), default=0.0) or 1.0,
        "num_other_classes": len(others),
        "other_expected": sum(share.expected for share in others),
        "least_likely": [share.name for share in others[::-1][:LEAST_SHOWN]],
        "num_never": sum(share.most_likely == 0 for share in shares),
    }


def _shown_colours(store: Store, shown: list[ClassShare]) -> list[str | None]:
    """Of the classes in maps; None for each of a store of rows."""
    if store.map_size is None:
        return [None] * len(shown)
    colours_C3 = class_colours(store.class_names)
    return [css(colours_C3[share.index]) for share in shown]


def _sureness_content(plotter: Plotter, gallery: Gallery, store: Store) -> dict[str, Any]:
    sums, limit, row = gallery.sums, max_entropy(store.num_channels), _row_word(store)
    know_nothing = Mark(at=limit, label=f"log C = {limit:.2f}", is_alert=True)
    entropy_N, confidence_N = sums.entropy, sums.confidence
    return {
        "mean_entropy": _mean(entropy_N),
        "max_entropy": limit,
        "mean_confidence": _mean(confidence_N),
        "entropy_plot": _bars(plotter, entropy_N, limit, "Entropy", "entropy, nats", f"{row}s", [know_nothing]),
        "confidence_plot": _bars(
            plotter, confidence_N, 1.0, "Confidence", "probability of the most likely class", f"{row}s"
        ),
    }


def _bars(
    plotter: Plotter,
    values_N: NDArray[np.float64],
    limit: float,
    what: str,
    x_label: str,
    rows: str,
    marks: Iterable[Mark] = (),
    least: float = 0.0,
) -> Markup | None:
    """A histogram from `least` to `limit`; None where there is nothing to count."""
    if not len(values_N) or limit == 0:
        return None
    counts, edges = np.histogram(np.clip(values_N, least, limit), NUM_BARS, (least, limit))
    all_marks = [Mark(at=_mean(values_N), label=f"mean = {_mean(values_N):.2f}"), *marks]
    title = f"{what} of {len(values_N)} {rows}"
    return plotter.histogram(
        edges.tolist(), counts.tolist(), title=title, x_label=x_label, y_label=rows, marks=all_marks
    )


def _mean(values_N: NDArray[np.float64]) -> float:
    return float(values_N.mean()) if len(values_N) else 0.0


def _certificate_content(plotter: Plotter, store: Store) -> dict[str, Any]:
    measure, stats = store.measure, stored_fidelity(store)
    calibration = read_calibration(store.plan, measure)
    certificate, measured, promised = store.manifest.certificate, _measured_word(store), promised_error(store)
    return {
        "certificate": dict(certificate),
        "measure": measure,
        "errors": {name: certificate[f"{measure.prefix}_{name}"] for name in ("mean", "p50", "p99", "max")},
        "promise": {"max_error": promised, "max_bytes": store.plan["promise"].get("max_bytes"),
                    "keep_top1": store.plan["promise"].get("keep_top1", False)},
        "num_certified": stats.count,
        "measured": measured,
        "calibration": calibration,
        "max_points": POINTS_SHOWN,
        "curve_plot": None if calibration is None else rate_distortion_plot(plotter, store, calibration),
        "error_plot": error_plot(plotter, stats, promised, measured),
    }


def _measured_word(store: Store) -> str:
    """What the certificate counts."""
    if store.target in FEATURES:
        return _row_word(store)
    return "pixel" if isinstance(store.shape, MapShape) else "row"
