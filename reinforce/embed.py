"""`reinforce embed`: encoders once over a gallery or a query set, and their unit vectors kept in a store.

It is a build whose teacher is the encoders and whose codec is float16: planned, cut into units, resumed and verified
as any other.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Literal

from reinforce import catalog
from reinforce.build import BuildConfig, build
from reinforce.command import REPEATED
from reinforce.engine.options import EngineOptions
from reinforce.errors import UsageError
from reinforce.inspect_store import StoreSummary
from reinforce.plan import PlanEstimate

if TYPE_CHECKING:
    from reinforce.encoders import Encoders

MAX_ROUNDING = 1e-6
"""Promised mean cosine distance: float16 of a unit vector of 1,000 dimensions is at some 1e-8."""


@dataclass(frozen=True, kw_only=True)
class EmbedConfig(EngineOptions):
    gallery: str
    """Images to embed, a gallery or a query set: a folder, tars, a CSV of paths, hf:NAME, a URL such as
    s3://bucket/images, or a catalog name; DATA@train is a split of a dataset."""
    encoder: tuple[str, ...] = field(metadata=REPEATED)
    """A catalog name, a timm or open_clip name with weights, or a model directory; type it again for another one:
    similarities are means over all."""
    crops: int = 0
    """Random crops an image (scale 0.08 to 1, RandAugment) besides the whole image."""
    crop_scale: tuple[float, ...] | None = None
    """Smallest and largest area of a crop as a share of the image; by default 0.08,1."""
    image_size: int | None = None
    """Side of a view in px, and input size of encoders without a head; by default the largest of the encoders' own."""
    batch_size: int = 64
    """Views a batch."""
    dtype: Literal["auto", "bfloat16", "float32"] = "auto"
    """Arithmetic of the encoders."""
    limit: int | None = None
    """Only the first N images, for tries: of folders, those of the first."""
    unit_budget_mb: int = 256
    """Memory for the decoded images of a unit, and for its vectors, in MB."""
    data_license: str | None = None
    """Licence of the images, such as CC-BY-4.0; by default what the catalog says."""
    out: str | None = None
    """Store to write; by default the gallery's name + -emb.zarr."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.encoder:
            raise UsageError("no encoder is named: type --encoder NAME")
        if self.crops < 0:
            raise UsageError(f"--crops must be at least 0, not {self.crops}")
        if self.crop_scale is not None and not self.crops:
            raise UsageError("--crop-scale is of crops: type --crops with their number, too")

    @property
    def path(self) -> str:
        return self.out or f"{catalog.resolve_data(self.gallery).name}-emb.zarr"

    def request(self) -> EmbeddingRequest:
        """The build that does it."""
        shared = {f.name for f in fields(BuildConfig)} & {f.name for f in fields(self)}
        same = {name: getattr(self, name) for name in shared}
        policy = "gallery" if self.crops else "center"
        return EmbeddingRequest(**same | {"out": self.path}, teacher="+".join(self.encoder), encoders=self.encoder,
                                transfer=self.gallery, views=self.crops + 1, policy=policy, codec="fp16",
                                max_cosine_distance=MAX_ROUNDING)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class EmbeddingRequest(BuildConfig):
    encoders: tuple[str, ...]

    @property
    def verb(self) -> str:
        return "embed"

    @property
    def models(self) -> tuple[str, ...]:
        return self.encoders

    def open_teacher(self, threads: int) -> Encoders:
        from reinforce.encoders import open_encoders

        return open_encoders(self.encoders, dtype=self.dtype, device=self.device, threads=threads,
                             batch_size=self.batch_size, image_size=self.image_size)  # fmt: skip


def embed(config: EmbedConfig) -> StoreSummary | PlanEstimate:
    """Embed a gallery or a query set by one or several encoders, once, for every curation.

    Killed at any moment it continues with --resume, and the store has the same bytes as if it had not been.
    """
    return build(config.request())
