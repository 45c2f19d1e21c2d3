"""The plan: everything that a store's bytes depend on, written once before the first unit; what that will cost.

Two builds of one plan in one environment give the same bytes, however often they are killed and whoever computes what.
"""

from __future__ import annotations

import math
import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from reinforce import catalog
from reinforce.calibrate import Calibration, calibration_targets
from reinforce.data import (
    FolderSource,
    ImageSource,
    Listing,
    UnitImages,
    freeze,
    num_images,
    open_captioned,
    open_source,
)
from reinforce.data.licence import data_licence
from reinforce.decoding_workers import choose_workers
from reinforce.encoding_effort import rounding_flops
from reinforce.errors import BuildError, UsageError
from reinforce.plan import PlanEstimate
from reinforce.progress import Progress, human_bytes
from reinforce.shared_views import SharedViews
from reinforce.store import (
    DENSE_LOGITS,
    FEATURES,
    LOGITS,
    TEXT_FEATURES,
    CodecRequest,
    SampleColumns,
    Schema,
    TargetCodec,
    TargetShape,
    bytes_per_view,
    calibrate,
    canonical_json,
    check_codec,
    codec_record,
    differing_members,
    member,
    plan_objects,
    probe_objects,
)
from reinforce.store.schema import PART_FORMAT
from reinforce.target_options import TargetOptions
from reinforce.unit_captions import UnitCaptions, UnitViews, Words
from reinforce.units import MOST_UNITS, check_count, choose_block_rows, choose_unit_rows, cut_units, fewer_units
from reinforce.views import Fingerprint, Policy, UnitReplayer, make_fingerprint, named_policy

if TYPE_CHECKING:
    from reinforce.models import ModelInfo

PROBES = 256
KEPT_PROBES = 16
BYTES_PER_UNIT = 600
"""A unit's lines in the manifest and in the records."""
CARD_BYTES = 9000
"""README.md and croissant.json."""


@dataclass(frozen=True)
class DraftPlan:
    """A plan and what is written beside it; nothing is written yet."""

    plan: dict[str, Any]
    listing: Listing
    fingerprint: Fingerprint
    codec: TargetCodec
    calibration: Calibration

    @property
    def samples(self) -> SampleColumns:
        listing = self.listing
        return SampleColumns(keys=listing.keys, sha64=listing.sha64, width=listing.width, height=listing.height)


class Inputs:
    """The teacher, the transfer set and the policy that a request names; opened once, compared with a plan."""

    def __init__(self, options: TargetOptions) -> None:
        from reinforce.teacher import default_threads
        from reinforce.text_teacher import TextTeacher

        self.shared = None if options.like is None else SharedViews.of(options.like)
        self.options = options = options if self.shared is None else self.shared.applied(options)
        entry = catalog.resolve_data(options.transfer)
        self.location, self.transfer_name = str(entry.path), entry.name
        is_text = options.target == TEXT_FEATURES
        captioned = open_captioned(self.location) if is_text else None
        self.source = open_source(self.location) if captioned is None else captioned.images
        self.data_license = options.data_license or data_licence(entry, self.source)
        _warn_of_unread(self.source)
        self.threads = default_threads()
        self.teacher = options.open_teacher(self.threads)
        self.words = None
        if captioned is not None and isinstance(self.teacher, TextTeacher):
            self.words = Words(captioned, self.teacher.tokenizer)
        info = self.teacher.info
        self.policy = _named_policy(options, info) if self.shared is None else self.shared.policy
        if self.shared is not None and self.teacher.target not in FEATURES and options.temperature is None:
            self.options = options = replace(options, temperature=self.shared.temperature)
        self.measure = options.measure(self.teacher.target)
        self.shape = self.teacher.target_shape(self.policy.size_px)
        _check_policy(options, self.policy, self.shape)
        check_codec(options.codec, self.shape)
        if options.keep_top1 and self.shape.target != LOGITS:
            raise UsageError(f"--keep-top1 is of logits of whole images, not of {self.shape.target}: leave it out")

    @cached_property
    def _captions_sha256(self) -> str:
        """Of the captions of the images that are taken; reads them all."""
        assert self.words is not None
        total = num_images(self.source)
        return self.words.sha256(min(total, self.options.limit or total))

    @cached_property
    def rounding_flops(self) -> float:
        return rounding_flops(self.teacher)

    def freeze(self) -> Listing:
        """Read and hash every image once."""
        options, total = self.options, num_images(self.source)
        with Progress("freeze", min(total, options.limit or total), quiet=options.quiet) as progress:
            return freeze(self.source, limit=options.limit, progress=progress.update)

    def request(self) -> dict[str, Any]:
        """The part of a plan that was asked for: a store is continued only with the same."""
        options, info, teacher = self.options, self.teacher.info, self.teacher.describe()
        return {
            **self.shape.to_json(),
            "views": options.num_views,
            "limit": options.limit,
            "class_names": [] if self.shape.target in FEATURES else list(info.class_names),
            "policy": self.policy.to_json(),
            "teacher": {**teacher, "license": options.teacher_license or teacher["license"]},
            "batch_size": self.teacher.batch_size,
            "promise": options.promise.to_json(self.measure),
            "forced_codec": options.codec,
            "effort": options.effort,
            **({} if self.words is None else {"captions": self._captions_sha256}),
        }

    def unit_views(self, images: UnitImages, budget_bytes: int) -> UnitViews:
        """What the teacher is shown of a unit."""
        if self.words is not None:
            return UnitCaptions(self.words, images)
        return UnitReplayer(self.policy, images.keys, images.read, budget_bytes)

    def fingerprint(self, units: Sequence[UnitImages]) -> Fingerprint:
        """Probe views of every unit of a store."""
        rows = [(index, own.keys, own.read) for index, own in enumerate(units)]
        return make_fingerprint(self.policy, rows, num_views=self.options.num_views, num_probes=PROBES,
                                num_kept=KEPT_PROBES)  # fmt: skip

    def environment(self) -> dict[str, Any]:
        from reinforce.teacher import environment

        return environment(self.teacher.device, self.teacher.dtype, is_compiled=self.options.compile)


def _named_policy(options: TargetOptions, teacher: ModelInfo) -> Policy:
    """The one that the options name, or that is called like the teacher's task."""
    scale = None if options.crop_scale is None else (options.crop_scale[0], options.crop_scale[1])
    name = "center" if options.target == TEXT_FEATURES else options.policy or teacher.task
    size_px = options.image_size or teacher.image_size
    return named_policy(name, size_px=size_px, seed=options.seed, crop_scale=scale)


def _check_policy(options: TargetOptions, policy: Policy, shape: TargetShape) -> None:
    """Raises UsageError for features of views that show padding: nothing masks it out."""
    if shape.target in FEATURES and policy.is_dense:
        raise UsageError(
            f"--policy {options.policy} is of dense logits: type classification, randaugment, crops or center"
        )


def _warn_of_unread(source: ImageSource) -> None:
    """Say which images of the folder are left out."""
    unread = source.unread if isinstance(source, FolderSource) else ()
    if unread:
        kinds = Counter(key.rpartition(".")[2] for key in unread)
        counts = ", ".join(f"{count} .{kind}" for kind, count in kinds.most_common())
        click.echo(f"warning: images of kinds that are not read are left out: {counts}, such as {unread[0]}", err=True)


def draft_plan(inputs: Inputs, listing: Listing) -> DraftPlan:
    """Cut the units, probe the pixels, calibrate the codec."""
    options, policy = inputs.options, inputs.policy
    budget = options.unit_budget_mb << 20
    num_values = math.prod(inputs.shape.item_shape)
    _check_budget(options, num_values)
    if inputs.shared is None:
        unit_rows = choose_unit_rows(listing.shard_sizes, options.num_views, num_values, budget)
    else:
        unit_rows = inputs.shared.unit_rows(listing, num_values, options.unit_budget_mb)
    units = cut_units(listing.shard_sizes, unit_rows)
    _check_count(len(units), len(listing.shard_sizes), inputs)
    images = [UnitImages.of(inputs.source, listing, unit.shard, unit.start, unit.stop) for unit in units]
    fingerprint = inputs.fingerprint(images)
    shown = [inputs.unit_views(own, budget // len(images)) for own in images]
    calibration = calibration_targets(inputs.teacher, shown, options.num_views, inputs.shape)
    request = _codec_request(inputs, len(listing), unit_rows)
    choice = calibrate(calibration.targets, request, options.codec)
    codec = choice.codec
    plan = inputs.request() | {
        "format": 1,
        "num_samples": len(listing),
        "dimensions" if inputs.shape.target in FEATURES else "classes": inputs.shape.num_channels,
        "transfer": {
            "name": inputs.transfer_name,
            "digest": listing.digest,
            "license": inputs.data_license,
            "shards": _shard_records(listing),
        },
        "unit_rows": unit_rows,
        "block_rows": choose_block_rows(listing, policy.size_px, unit_rows, budget),
        "units": [[unit.shard, unit.start, unit.stop] for unit in units],
        "codec": codec_record(codec, request.zstd_level),
        "calibration": {"views": calibration.num_views, "curve": [p.to_json(inputs.measure) for p in choice.measured]},
        "threads": inputs.threads,
        "environment": inputs.environment(),
    }
    return DraftPlan(plan, listing, fingerprint, codec, calibration)


def _check_count(num_units: int, num_shards: int, inputs: Inputs) -> None:
    """Raises as `check_count`."""
    budget_mb = inputs.options.unit_budget_mb
    check_count(num_units, num_shards, budget_mb, of_pixels=inputs.shape.target == DENSE_LOGITS)
    if num_units > MOST_UNITS:
        advice = fewer_units(num_units, MOST_UNITS, num_shards, budget_mb)
        click.echo(f"warning: {num_units} units make folders of as many files: {advice}", err=True)


def _check_budget(options: TargetOptions, num_values: int) -> None:
    """A unit has a row at least. Raises UsageError where its views' targets are more than the budget."""
    needed = 4 * options.num_views * num_values
    if needed > options.unit_budget_mb << 20:
        raise UsageError(f"one sample's {options.num_views} views have {human_bytes(needed)} of targets: type "
                         f"--unit-budget-mb {-(-needed >> 20)} or more, or fewer --views")  # fmt: skip


def _codec_request(inputs: Inputs, num_samples: int, unit_rows: int) -> CodecRequest:
    options = inputs.options
    return CodecRequest(
        max_error=options.promise.max_error or math.inf,
        max_bytes=options.promise.max_bytes,
        measure=inputs.measure,
        num_samples=num_samples,
        num_views=options.num_views,
        unit_rows=unit_rows,
        effort=options.effort,
        rounding_flops=inputs.rounding_flops,
        shape=inputs.shape,
        keep_top1=options.keep_top1,
    )


def check_request(plan: dict[str, Any], inputs: Inputs) -> None:
    """Raises BuildError naming the options that differ from those a store was begun with."""
    if plan["format"] == PART_FORMAT:
        raise BuildError("the store is a part of another one, which was pulled: type its 'reinforce pull' again")
    asked, plan = _without_licences(inputs.request()), _without_licences(plan)
    differing = differing_members({name: plan.get(name) for name in asked}, asked)
    if differing:
        said = ", ".join(_difference(name, member(plan, name), member(asked, name)) for name in differing)
        raise BuildError(f"the store was begun with {said}: type the options that it was begun with, or --overwrite")


def _difference(name: str, begun: Any, asked: Any) -> str:
    """ "views 6, not 8"; "another name" where the values are no numbers or short words."""
    words = ["none" if value is None else str(value) for value in (begun, asked)]
    is_plain = all(isinstance(value, int | float | str | None) for value in (begun, asked))
    return f"{name} {words[0]}, not {words[1]}" if is_plain and max(map(len, words)) <= 20 else f"another {name}"


def _without_licences(value: Any) -> Any:
    """They are said of what a store was made from, and change none of its targets: the first plan's stay."""
    if isinstance(value, dict):
        return {name: _without_licences(inner) for name, inner in value.items() if name != "license"}
    return [_without_licences(inner) for inner in value] if isinstance(value, list) else value


def estimate(inputs: Inputs, draft: DraftPlan, path: Path, num_stored: int = 0) -> PlanEstimate:
    """Predict size and time from the calibration views, for a store at `path` that has `num_stored` views already."""
    views, calibration = inputs.options.num_views, draft.calibration
    request = _codec_request(inputs, len(draft.listing), draft.plan["unit_rows"])
    total = len(draft.listing) * (views - num_stored)
    teacher_seconds = total * calibration.teacher_seconds_per_view
    replay_seconds = total * calibration.replay_seconds_per_view
    device = inputs.teacher.device.type
    workers = choose_workers(inputs.options.workers, total, device)
    return PlanEstimate(
        samples=len(draft.listing),
        views=views,
        units=len(draft.plan["units"]),
        bytes=_store_bytes(draft, request),
        disk_free_bytes=shutil.disk_usage(_existing_parent(path)).free,
        teacher_seconds=teacher_seconds,
        replay_seconds=replay_seconds,
        build_seconds=build_seconds(device, workers, teacher_seconds=teacher_seconds, replay_seconds=replay_seconds),
        codec=draft.codec.name,
        stored_views=num_stored,
    )


def build_seconds(device: str, workers: int, *, teacher_seconds: float, replay_seconds: float) -> float:
    """A teacher on the CPU shares its cores with decoding; beside another device, the slower of the two counts."""
    if device == "cpu" or workers == 0:
        return teacher_seconds + replay_seconds
    return max(teacher_seconds, replay_seconds / workers)


def _existing_parent(path: Path) -> Path:
    return next(parent for parent in [path, *path.absolute().parents] if parent.exists())


def _store_bytes(draft: DraftPlan, request: CodecRequest) -> int:
    """What the plan fixes, exactly; and the units, from how the calibration rows pack."""
    schema = Schema.from_plan(draft.plan)
    fixed = plan_objects(schema, draft.codec, draft.samples)
    fixed |= probe_objects(draft.fingerprint.kept, draft.fingerprint.to_json())
    logits = draft.calibration.targets
    units = round(bytes_per_view(draft.codec, logits, request) * schema.num_samples * schema.num_views)
    bookkeeping = len(canonical_json(draft.plan)) + BYTES_PER_UNIT * schema.num_units + CARD_BYTES
    return sum(len(data) for data in fixed.values()) + units + bookkeeping


def _shard_records(listing: Listing) -> list[dict[str, Any]]:
    columns = zip(listing.shard_names, listing.shard_sizes, listing.shard_digests, strict=True)
    return [{"name": name, "samples": size, "digest": digest} for name, size, digest in columns]
