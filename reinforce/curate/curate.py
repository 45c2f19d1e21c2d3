"""`reinforce curate`: from an embedded gallery and the labelled images of a task to a transfer set (section 3.4)."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from shlex import quote
from typing import Any, Literal

from reinforce.command import REPEATED
from reinforce.counting import counted
from reinforce.curate.curated import DECISIONS, CuratedSet
from reinforce.engine.options import ClusterOptions
from reinforce.errors import StoreAccessError, UnfinishedSearchError, UsageError
from reinforce.job import Share
from reinforce.licences import UNKNOWN

STRATEGIES = Literal["query-balanced", "best-matches", "random", "text"]


ALIKE = 0.9
"""Two members of a cluster that are less alike than this are hardly duplicates of each other."""


@dataclass(frozen=True, kw_only=True)
class CurateConfig(ClusterOptions):
    gallery: str
    """The store that `reinforce embed` wrote."""
    size: int
    """Items to retrieve; the query images are added to them."""
    query: str | None = None
    """Labelled data whose train images (--shots, --num-labelled) are the queries; without these options every image of
    any data."""
    strategy: STRATEGIES = "query-balanced"
    """query-balanced: the same number of neighbours of every query; best-matches: what is nearest to any query; random;
    text: as query-balanced, by the class names of the query data."""
    task: Literal["classification", "segmentation"] = "classification"
    """Of the labelled query data."""
    shots: int | None = None
    """Labelled images a class, by --seed: those that train takes for the same numbers."""
    num_labelled: int | None = None
    """Labelled images in all, by --seed."""
    limit: int | None = None
    """Only the first N queries, for tries."""
    encoder: tuple[str, ...] = field(default=(), metadata=REPEATED)
    """Where the gallery's encoders lie, once for each in their order; by default the names in the store."""
    templates: Literal["openai", "simple"] = "openai"
    """Of text: CLIP's sentences that a class name is put into, all 80 or 7 of them."""
    max_similarity: float = 0.99
    """Of two items whose originals are more alike than this (mean cosine) one stays."""
    keep_duplicates: bool = False
    """Compare no items with each other."""
    decontaminate: str | None = None
    """The whole target dataset, or a store of its embeddings: items that are as good as in it are left out."""
    max_target_cosine: float = 0.95
    """An item that any encoder finds more alike than this to a target image is a possible leak."""
    decisions: str | None = None
    """A CSV of what a person decided of possible leaks; by default leaks.csv in the set. Undecided ones are left
    out."""
    transfer: str | None = None
    """Where the gallery's images lie; by default as registered."""
    index: str | None = None
    """Search approximately, by an index in memory in the words of faiss's index_factory, such as IVF1024,SQfp16; the
    set says how many of the exact neighbours it finds. By default the search is exact."""
    probes: int | None = None
    """Cells of an IVF --index that a query visits; by default 16."""
    shard: str | None = None
    """Search only part i of n of the gallery, as i/n, into the same --out; who finds all parts done writes the set."""
    out: str = "curated"
    """Folder of the transfer set."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("size", "shots", "num_labelled", "limit", "probes"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UsageError(f"--{name.replace('_', '-')} must be at least 1, not {value}")
        for name in ("max_similarity", "max_target_cosine"):
            if not -1 <= getattr(self, name) <= 1:
                raise UsageError(f"--{name.replace('_', '-')} is a cosine, type a number up to 1")
        if self.query is None and self.strategy != "random":
            raise UsageError(f"--strategy {self.strategy} needs queries: type --query DATA")
        Share.parse(self.shard)
        self._check_index()
        if self.overwrite and self.resume:
            raise UsageError("--overwrite and --resume contradict each other: type one of them")

    def _check_index(self) -> None:
        if self.index is None:
            if self.probes is not None:
                raise UsageError("--probes is of --index: type that, too, or leave it out")
            return
        if self.strategy not in ("query-balanced", "text"):
            raise UsageError(f"--index finds the neighbours of queries, which --strategy {self.strategy} does not ask "
                             "for: leave it out")  # fmt: skip
        if self.shard is not None or self.engine != "local":
            divides = "--shard" if self.shard is not None else f"--engine {self.engine}"
            raise UsageError(f"--index holds the whole gallery in one process, and {divides} divides the exact search: "
                             "leave one of them out")  # fmt: skip

    @property
    def has_query_images(self) -> bool:
        """Whether images are searched for, or united with what text or chance found."""
        if self.strategy == "text":
            return self.shots is not None or self.num_labelled is not None
        return self.query is not None

    @property
    def decisions_path(self) -> Path:
        return Path(self.out, DECISIONS) if self.decisions is None else Path(self.decisions)


@dataclass(frozen=True, kw_only=True)
class CuratedSummary:
    """What `curate` prints."""

    path: str
    items: int
    queries: int
    strategy: str
    depth: int
    """k, see `Selection`."""
    approximate: dict[str, Any] | None
    """The index that found the items, and how much it misses; None where the search was exact."""
    duplicates: dict[str, Any] | None
    decontamination: dict[str, Any] | None
    license: str
    """Of the images, with commas between; "unknown" where nobody said one."""
    digest: str

    def to_json(self) -> dict[str, Any]:
        return dict(self.__dict__)

    def __str__(self) -> str:
        deep = f", k = {self.depth}" if self.depth else ""
        lines = [f"{self.path}: {counted(self.items, 'item')} by {self.strategy}{deep}, and "
                 f"{counted(self.queries, 'query image')}"]
        if self.approximate is not None:
            lines.append(f"  approximate {described(self.approximate)}")
        if self.duplicates is not None:
            found = self.duplicates
            lines.append(f"  duplicates  {found['removed']} left out of {counted(found['clusters'], 'cluster')}"
                         f"{_chained(found)}")
        if self.decontamination is not None:
            found = self.decontamination
            lines.append(f"  leaks       {found['possible']} possible ones of {found['data']}: {found['removed']} left "
                         f"out, {found['kept']} kept by decision")  # fmt: skip
        lines.append(f"  licence     {self.license}")
        lines.append(f"next: reinforce review {quote(self.path)} --html review.html, then "
                     f"reinforce build --teacher NAME --transfer {quote(self.path)}")  # fmt: skip
        return "\n".join(lines)


def described(approximate: Mapping[str, Any]) -> str:
    """An approximate search, in words."""
    visits = f" with {counted(approximate['probes'], 'probe')}" if approximate["probes"] is not None else ""
    return (f"{approximate['index']}{visits} finds {100 * approximate['recall']:.1f} % of the exact neighbours "
            f"(of {counted(approximate['sampled_queries'], 'query', 'queries')})")  # fmt: skip


def _chained(duplicates: Mapping[str, Any]) -> str:
    """A warning where duplicates of duplicates are not alike."""
    weakest = duplicates["weakest"]
    if weakest is None or weakest >= ALIKE:
        return ""
    return f"; chained ones are no more alike than {weakest:.2f}: look at them, or type a larger --max-similarity"


@dataclass(frozen=True, kw_only=True)
class CuratePlan:
    """What `curate --dry-run` prints."""

    gallery_items: int
    size: int
    num_queries: int

    def to_json(self) -> dict[str, Any]:
        return dict(self.__dict__)

    def __str__(self) -> str:
        queries = counted(self.num_queries, "query", "queries")
        return f"{self.size} of {counted(self.gallery_items, 'item')} for {queries}"


@dataclass(frozen=True, kw_only=True)
class CuratePart:
    """What `curate --shard` prints while parts of others lack."""

    path: str
    shard: str

    def to_json(self) -> dict[str, Any]:
        return {**self.__dict__, "status": "unfinished"}

    def __str__(self) -> str:
        return (f"{self.path}: part {self.shard} of the search is done, others are not\n"
                "next: type the same command when they are, if none of them wrote the set")  # fmt: skip


def curate(config: CurateConfig) -> CuratedSummary | CuratePlan | CuratePart:
    """Retrieve a transfer set from an embedded gallery: exact, balanced, without duplicates and leaks.

    Killed at any moment it continues with --resume. Decisions on possible leaks are applied by --resume, too.
    """
    from reinforce.curate.curation import Curation

    try:
        with nullcontext() if config.dry_run else config.connected():
            curation = Curation(config)
            if config.dry_run:
                return CuratePlan(gallery_items=curation.gallery.searched.num_embedded, size=config.size,
                                  num_queries=curation.num_queries)  # fmt: skip
            curation.run()
    except UnfinishedSearchError:
        if config.shard is None:
            raise
        return CuratePart(path=config.out, shard=config.shard)
    except StoreAccessError as error:
        raise StoreAccessError(f"{error}; mend that, then type the same command with --resume") from error
    return summarize(Path(config.out))


def summarize(path: Path) -> CuratedSummary:
    """Of a finished set. Raises as `CuratedSet.open`."""
    curated = CuratedSet.open(path)
    summary = curated.summary
    return CuratedSummary(path=str(path), items=len(curated.items), queries=len(curated.queries),
                          strategy=summary["strategy"], depth=summary["depth"],
                          approximate=summary.get("approximate"), duplicates=summary["duplicates"],
                          decontamination=summary["decontamination"], license=summary.get("license", UNKNOWN),
                          digest=summary["digest"])  # fmt: skip
