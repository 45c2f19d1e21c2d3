"""What is asked of a teacher: targets, views, codec and promise, as `plan` and `build` take them in options."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import click

from reinforce.command import CommonOptions
from reinforce.errors import UsageError
from reinforce.store import (
    FEATURES,
    TEXT_FEATURES,
    CosineDistance,
    Divergence,
    Measure,
    Promise,
    named_codec,
)

if TYPE_CHECKING:
    from reinforce.target_source import TargetSource

DEFAULT_MAX_ERROR = 1e-3
"""Of either measure."""


@dataclass(frozen=True, kw_only=True)
class TargetOptions(CommonOptions):
    """What is computed: shared by `plan` and `build`."""

    teacher: str
    """Model directory or catalog name of an adapted teacher; for features also of one that has learned no task."""
    transfer: str
    """Transfer set: a folder, tars ("x/{000..012}.tar"), a CSV of paths, hf:NAME, a URL such as s3://bucket/images, or
    a catalog name."""
    like: str | None = None
    """A store over the same transfer set whose views this teacher is to answer, too: its policy, number of views, seed,
    view size, temperature and cut into units, so that both can be averaged (train distill --cache A --cache B)."""
    views: int = 10
    """Stored augmentations per image (of captions always one)."""
    policy: str | None = None
    """View policy: classification, randaugment, crops or center; segmentation, segmentation-crops or whole for maps.
    By default the one that is called like the teacher's task."""
    crop_scale: tuple[float, ...] | None = None
    """Smallest and largest area of a random crop as a share of the image, such as 0.08,1; of segmentation: the shorter
    side of a resized image as a share of the view's."""
    image_size: int | None = None
    """Side of a stored view in px, and input size of a teacher without a head; by default the teacher's own."""
    target: Literal["logits", "dense-logits", "global-features", "patch-features", "text-features"] | None = None
    """What is kept of the teacher: by default logits, and of a segmentation model dense-logits, its map of them.
    global-features is one vector a view (the final CLS token, the pooled map, or CLIP's image embedding),
    patch-features the final map; text-features CLIP's embedding of each image's (first) caption, which has one view."""
    codec: str | None = None
    """Force a codec; by default the cheapest that keeps what is promised."""
    max_kl: float | None = None
    """Promised mean KL(teacher || stored) in nats, at --temperature; by default 0.001."""
    max_cosine_distance: float | None = None
    """Promised mean of 1 - cos(teacher, stored) of features; by default 0.001."""
    max_bytes: float | None = None
    """Instead of a promised mean: bytes a view may take; the most exact codec that keeps to them is chosen."""
    keep_top1: bool = False
    """Of logits: keep the likeliest class of every view, too. Without it a few in a thousand to a few in a hundred give
    way to another class that is about as likely; it takes a fraction of a byte a view."""
    effort: int = 1
    """Encoding time for bytes, 0..2: 1 costs a build next to nothing, 2 a good deal (logits are rounded for rate and
    distortion whatever it takes, at 1 where it is quick)."""
    temperature: float | None = None
    """Temperature at which the promise of logits holds and students may distill; by default 1."""
    batch_size: int | None = None
    """Views per teacher batch; by default 64, and fewer where they are larger than 224 px, or 128 px for maps."""
    dtype: Literal["auto", "bfloat16", "float32"] = "auto"
    """Arithmetic of the teacher."""
    compile: bool = False
    """Compile the teacher (torch.compile), in a minute or so: its passes are faster, and need a C++ compiler on a CPU.
    Targets are those without it but for rounding, so a store that was begun with it goes on with it."""
    limit: int | None = None
    """Only the first N images, for tries: of folders, those of the first."""
    unit_budget_mb: int = 256
    """Memory for the decoded images of a unit, and for its targets, in MB."""
    teacher_license: str | None = None
    """Licence of the teacher's weights, such as Apache-2.0; by default what the model directory or the catalog says."""
    data_license: str | None = None
    """Licence of the transfer set's images, such as CC-BY-4.0; by default what the catalog says."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("views", "batch_size", "limit", "image_size", "unit_budget_mb"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UsageError(f"--{name.replace('_', '-')} must be at least 1, not {value}")
        promised = [option for option, value in self._promised() if value is not None]
        if len(promised) > 1:
            raise UsageError(f"{' and '.join(promised)} exclude each other: type one of them")
        for option, value in (*self._promised(), ("--temperature", self.temperature)):
            if value is not None and not 0 < value < math.inf:
                raise UsageError(f"{option} must be above 0 and finite, not {value}")
        if self.crop_scale is not None and len(self.crop_scale) != 2:
            raise UsageError("--crop-scale takes two numbers, such as 0.08,1")
        if not 0 <= self.effort <= 2:
            raise UsageError(f"--effort is 0, 1 or 2, not {self.effort}")
        if self.codec is not None:
            named_codec(self.codec)
        if self.target == TEXT_FEATURES:
            self._refuse(("like", "policy", "crop_scale"), "is of views, and captions have none")
            if self.compile:
                raise UsageError("--compile is of images, and captions have none: leave it out")
        if self.like is not None:
            self._refuse(("policy", "crop_scale", "image_size"), f"is what --like {self.like} says")

    def _refuse(self, names: Sequence[str], why: str) -> None:
        """Raises UsageError where one of these options was typed."""
        for name in names:
            if getattr(self, name) is not None:
                raise UsageError(f"--{name.replace('_', '-')} {why}: leave it out")

    @property
    def num_views(self) -> int:
        """Stored targets an image: of its caption, one."""
        return 1 if self.target == TEXT_FEATURES else self.views

    def open_teacher(self, threads: int) -> TargetSource:
        """Raises UsageError and ModelError for a model that is not there or does not give the target."""
        from reinforce.text_teacher import open_teacher

        if self.compile and not self.quiet:
            click.echo("compiling the teacher", err=True)
        return open_teacher(self.teacher, target=self.target, device=self.device, dtype=self.dtype, threads=threads,
                            batch_size=self.batch_size, image_size=self.image_size, compile=self.compile)  # fmt: skip

    def _promised(self) -> tuple[tuple[str, float | None], ...]:
        """Every option that promises something, and its value."""
        return (("--max-kl", self.max_kl), ("--max-cosine-distance", self.max_cosine_distance),
                ("--max-bytes", self.max_bytes))  # fmt: skip

    def measure(self, target: str) -> Measure:
        """By which targets of this kind are promised. Raises UsageError where an option is of another kind's."""
        is_features = target in FEATURES
        strange = {"max_kl": self.max_kl, "temperature": self.temperature} if is_features else {
            "max_cosine_distance": self.max_cosine_distance}  # fmt: skip
        for name, value in strange.items():
            if value is not None:
                kind, right = ("features", "--max-cosine-distance") if is_features else ("logits", "--max-kl")
                raise UsageError(f"--{name.replace('_', '-')} is not of {kind}: type {right}, or leave it out")
        return CosineDistance() if is_features else Divergence(self.temperature or 1.0)

    @property
    def promise(self) -> Promise:
        error = self.max_kl if self.max_kl is not None else self.max_cosine_distance
        if error is None and self.max_bytes is None:
            error = DEFAULT_MAX_ERROR
        return Promise(max_error=error, max_bytes=self.max_bytes, keep_top1=self.keep_top1)
