"""`reinforce inspect`: what a store holds, at which fidelity, from which teacher and images."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from shlex import quote
from typing import Any

from reinforce.command import POSITIONAL, TalkOptions
from reinforce.counting import counted
from reinforce.progress import human_bytes
from reinforce.store import (
    EMBEDDINGS,
    MANIFEST,
    TEXT_FEATURES,
    CosineDistance,
    Divergence,
    Store,
    UnfinishedStore,
    open_objects,
)
from reinforce.store.canonical import one_line
from reinforce.store.interrupted import finishing_command
from reinforce.store.schema import check_described

SKIPPED_SHOWN = 5


@dataclass(frozen=True, kw_only=True)
class InspectConfig(TalkOptions):
    store: str = field(metadata=POSITIONAL)
    """The store."""
    html: str | None = None
    """Also write an offline page about a finished store to this file: views, targets, fidelity, provenance."""
    transfer: str | None = None
    """Where the transfer set lies, for --html; by default as registered."""
    overwrite: bool = False
    """Replace an existing page."""


@dataclass(frozen=True, kw_only=True)
class StoreSummary:
    """What `inspect` and `build` print."""

    path: str
    status: str
    """complete, or unfinished."""
    samples: int
    views: int
    classes: int | None
    """None for features."""
    dimensions: int | None
    """Of features; None for logits."""
    target: str
    units: int
    units_done: int
    skipped: int
    skipped_samples: list[dict[str, Any]]
    """key and reason of every image that has no target."""
    bytes: int
    certificate: dict[str, Any] | None
    manifest_digest: str | None
    teacher: dict[str, Any]
    transfer: dict[str, Any]
    policy: str
    finished_by: str | None = None
    """What to type to finish it, or None."""
    page: str | None = None
    """The page that was written, or None."""
    page_without_pictures: str | None = None
    """Why it has no pictures, or None."""

    def to_json(self) -> dict[str, Any]:
        return dict(self.__dict__)

    def __str__(self) -> str:
        lines = [
            f"{self.path}: {self.status}, {human_bytes(self.bytes)}",
            f"  {counted(self.samples, 'sample')} x {counted(self.views, 'view')} (policy {self.policy}), "
            f"{self.target} of {self._width()}",
            f"  teacher   {one_line(self.teacher['name'])}, {one_line(self.teacher['architecture'])} "
            f"({self.teacher['weights_sha256'][:12]})",
            f"  transfer  {one_line(self.transfer['name'])} ({self.transfer['digest'][:12]})",
        ]
        if self.certificate is not None:
            lines.append(_certificate_line(self.certificate))
        if self.skipped:
            lines.append(f"  skipped   {counted(self.skipped, 'image')}:")
            lines += [f"    {one_line(item['key'])}: {one_line(item['reason'])}"
                      for item in self.skipped_samples[:SKIPPED_SHOWN]]  # fmt: skip
            if self.skipped > SKIPPED_SHOWN:
                lines.append(f"    ... and {self.skipped - SKIPPED_SHOWN} more (--json lists all)")
        if self.page is not None:
            without = self.page_without_pictures
            lines.append(f"  page      {self.page}{f' without pictures: {without}' if without else ''}")
        return "\n".join([*lines, self._next_line()])

    def _width(self) -> str:
        return f"{self.dimensions} dimensions" if self.classes is None else counted(self.classes, "class", "classes")

    def _next_line(self) -> str:
        if self.status == "complete":
            return f"next: {next_command(self.target, self.path)}"
        done = f"{self.units_done} of {counted(self.units, 'unit')} done; " if self.units_done else ""  # of a copy none
        return f"next: {done}to go on, type {self.finished_by}"


def next_command(target: str, store: str) -> str:
    """What a finished store of these targets is for."""
    if target == TEXT_FEATURES:
        return f"train pretrain --method clip-affinity --cache IMAGES --text-cache {quote(store)}"
    if target == EMBEDDINGS:
        return f"reinforce curate --query DATA --shots 10 --gallery {quote(store)} --size N"
    return f"train distill --cache {quote(store)}"


def next_command_elsewhere(target: str, store: str, transfer: str) -> str:
    """The same where nothing is known of the images of the transfer set, or gallery, of this name."""
    return (f"{next_command(target, store)} --transfer PLACE, where the images of '{transfer}' lie: a store does not "
            "hold them")  # fmt: skip


def inspect(config: InspectConfig) -> StoreSummary:
    """Print what a store holds: samples, views, teacher, fidelity, size, skipped images."""
    if config.html is None:
        return summarize(config.store)
    from reinforce.store_page import write_store_page

    page = write_store_page(config.store, Path(config.html), transfer=config.transfer, overwrite=config.overwrite)
    return replace(summarize(config.store), page=str(page.path), page_without_pictures=page.without_pictures)


def summarize(location: str | Path) -> StoreSummary:
    """Of a finished or an unfinished store. Raises MissingStoreError, CorruptStoreError."""
    objects = open_objects(location)
    if objects.exists(MANIFEST):
        return _summarize_finished(Store.open(objects))
    unfinished = UnfinishedStore(objects)
    markers = unfinished.markers()
    skipped = [{"key": row.key, "reason": row.reason} for marker in markers for row in marker.skipped]
    num_bytes = sum(size for _, size in objects.list() if size > 0)
    summary = _summary(objects.name, unfinished.plan, "unfinished", len(markers), skipped, num_bytes)
    return replace(summary, finished_by=finishing_command(objects))


def _summarize_finished(store: Store) -> StoreSummary:
    manifest = store.manifest
    skipped = [{"key": row["key"], "reason": row["reason"]} for row in manifest.skipped]
    num_bytes = manifest.num_bytes + len(manifest.to_bytes())
    return _summary(
        store.name, store.plan, "complete", store.num_units, skipped, num_bytes, dict(manifest.certificate),
        manifest.digest,
    )


def _summary(
    path: str,
    plan: dict[str, Any],
    status: str,
    units_done: int,
    skipped: list[dict[str, Any]],
    num_bytes: int,
    certificate: dict[str, Any] | None = None,
    manifest_digest: str | None = None,
) -> StoreSummary:
    check_described(plan)
    return StoreSummary(
        path=path,
        status=status,
        samples=plan["num_samples"],
        views=plan["views"],
        classes=plan.get("classes"),
        dimensions=plan.get("dimensions"),
        target=plan["target"],
        units=len(plan["units"]),
        units_done=units_done,
        skipped=len(skipped),
        skipped_samples=skipped,
        bytes=num_bytes,
        certificate=certificate,
        manifest_digest=manifest_digest,
        teacher=plan["teacher"],
        transfer={"name": plan["transfer"]["name"], "digest": plan["transfer"]["digest"]},
        policy=plan["policy"]["name"],
    )


def _certificate_line(certificate: dict[str, Any]) -> str:
    line = f"  fidelity  {certificate['codec']}, {certificate['bytes_per_view']:.1f} bytes per view"
    if "measured_views" in certificate:
        line += f"; figures are of all {certificate['measured_views']} views of the store that it is a part of"
    if CosineDistance.prefix + "_mean" in certificate:
        return f"{line}\n            cosine distance {_figures(certificate, CosineDistance.prefix)}"
    return (
        f"{line}, top-1 agreement {100 * certificate['top1_agreement']:.2f} %\n"
        f"            KL {_figures(certificate, Divergence.prefix)} nats at temperature {certificate['temperature']:g}"
    )


def _figures(certificate: dict[str, Any], prefix: str) -> str:
    mean, p50, p99, worst = (f"{certificate[f'{prefix}_{name}']:.2g}" for name in ("mean", "p50", "p99", "max"))
    return f"mean {mean}, p50 {p50}, p99 {p99}, worst {worst}"
