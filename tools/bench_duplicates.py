"""Exact de-duplication: how long it takes, what a within-cluster method misses, and which copies encoders tell.

    python tools/bench_duplicates.py                  # tables
    python tools/bench_duplicates.py --json           # {"figures": [{"name", "value", "limit", "peer", "goal", ...}]}
    python tools/bench_duplicates.py --items 5000     # a try
    python tools/bench_duplicates.py --store openclipart-emb.zarr    # real vectors, as `reinforce embed` writes them
    python tools/bench_duplicates.py --encoder dinov2-vits14=84 --encoder efficientnet-lite0=96

Speed: synthetic unit vectors with planted near-copies. `limit` is the same blocks' bare matrix products; `peer` is
spherical k-means (faiss) and a comparison within its cells, as SemDeDup does. Seconds are on the clock, and of the
process by number of threads, which other work on the machine changes little.

Recall: real images and altered copies of them, embedded by real encoders (`--images 0` leaves this out). A false pair
is one of two different originals: whether these really differ is for a person to see (`--pairs` names them).
"""

from __future__ import annotations

import argparse
import io
import sys
import time
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from figures import Figure, table, to_json
from numpy.typing import NDArray
from PIL import Image, ImageOps

from reinforce.catalog import resolve_data
from reinforce.curate.duplicates import Pairs, connecting_pairs, duplicate_clusters, similar_pairs
from reinforce.curate.embeddings import Vectors, parts, similarity
from reinforce.curate.likeness import TILE_ROWS, float_blocks
from reinforce.curate.stored import EmbeddingStore
from reinforce.data import header_size, open_source
from reinforce.errors import UndecodableImageError
from reinforce.teacher import Teacher
from reinforce.views import UnitReplayer, decode_image, named_policy

WIDTHS = ((384, 384), (384,))
ITEMS, CELL_ITEMS, TOPIC_ITEMS = 50_000, 1000, 100
COPIED = 0.1
"""Of the items are near-copies of others, with cosines from 0.985 to 1."""
SPREAD = 0.15
GOAL_SECONDS = 60.0
THRESHOLDS = (0.9, 0.95, 0.97, 0.98, 0.99, 0.995)
DATA = (("openclipart", 0.5), ("photographs", 0.5))
LEAST_PX, MOST_PIXELS = 64, 4_000_000
FULL_PX = 4096
BATCH = 32


def planted_vectors(count: int, widths: Sequence[int], seed: int = 0) -> Vectors:
    """(N, D) around topics, as images are; some rows are others with noise of up to SPREAD of their length."""
    rng = np.random.default_rng(seed)
    num_copies = int(COPIED * count)
    topics, sources = rng.integers(0, -(-count // TOPIC_ITEMS), count), rng.integers(0, count - num_copies, num_copies)
    spreads = rng.uniform(0, SPREAD, (num_copies, 1)).astype(np.float32)
    rows = np.empty((count, sum(widths)), np.float16)
    for start, stop in parts(widths):
        centres = _directions(rng, topics.max() + 1, stop - start)
        own = _unit(centres[topics] + _directions(rng, count, stop - start))
        own[-num_copies:] = _unit(own[sources] + spreads * _directions(rng, num_copies, stop - start))
        rows[:, start:stop] = own
    return rows[rng.permutation(count)]


def stored_vectors(location: str) -> tuple[Vectors, tuple[int, ...]]:
    """(N, D) of the whole images of a store of embeddings, and the encoders' widths."""
    store = EmbeddingStore(location)
    return store.wholes.vectors(store.embedded_samples * store.store.num_views), store.widths


def speed(a_ND: Vectors, widths: Sequence[int]) -> list[Figure]:
    """Seconds of a comparison of all pairs, and what a within-cluster method finds of them in which time."""
    count, name = len(a_ND), f"{len(a_ND)} items, D = {sum(widths)}"
    found: list[Pairs] = []
    clock, process = seconds(lambda: found.append(similar_pairs(a_ND, widths)))
    bare_clock, bare_process = seconds(lambda: bare_products(a_ND))
    cells: list[NDArray[np.int64]] = []
    cell_clock, cell_process = seconds(lambda: cells.append(k_means_cells(a_ND, max(2, count // CELL_ITEMS))))
    within = seconds(lambda: [similar_pairs(a_ND[cells[0] == cell], widths) for cell in range(cells[0].max() + 1)])
    pairs, cell_N = found[0], cells[0]
    kept = pairs.only(cell_N[pairs.left] == cell_N[pairs.right])
    clustering, _ = seconds(lambda: clusters_of(a_ND, pairs, widths))
    connecting, _ = seconds(lambda: connecting_pairs(a_ND, widths))
    return [
        Figure(name=f"{name}: all pairs, s", value=clock, limit=bare_clock, peer=cell_clock + within[0],
               goal=GOAL_SECONDS, lower_is_better=True),
        Figure(name=f"{name}: ... s of the process / threads", value=process, limit=bare_process,
               peer=cell_process + within[1], goal=GOAL_SECONDS, lower_is_better=True),
        Figure(name=f"{name}: ... those that connect only, s", value=connecting, lower_is_better=True),
        Figure(name=f"{name}: clusters and their weakest pairs, s", value=clustering, lower_is_better=True),
        Figure(name=f"{name}: pairs found", value=len(pairs), peer=len(kept)),
        Figure(name=f"{name}: duplicates that stay in the set", value=0, lower_is_better=True,
               peer=num_removed(a_ND, pairs, widths) - num_removed(a_ND, kept, widths)),
    ]  # fmt: skip


def seconds(action: Callable[[], object]) -> tuple[float, float]:
    """On the clock, and of the process by number of threads."""
    clock, process = time.perf_counter(), time.process_time()
    action()
    return time.perf_counter() - clock, (time.process_time() - process) / torch.get_num_threads()


def bare_products(a_ND: Vectors) -> None:
    """Of half the matrix, block by block, and nothing else."""
    products_TB, device = torch.empty(TILE_ROWS, TILE_ROWS), torch.device("cpu")
    for start in range(0, len(a_ND), TILE_ROWS):
        tile_TD = torch.from_numpy(a_ND[start : start + TILE_ROWS]).float()
        for _, block_BD in float_blocks(a_ND[: start + len(tile_TD)], device):
            torch.mm(tile_TD, block_BD.T, out=products_TB[: len(tile_TD), : len(block_BD)])


def k_means_cells(a_ND: Vectors, num_cells: int) -> NDArray[np.int64]:
    """(N,) cell of each row."""
    import faiss

    faiss.omp_set_num_threads(torch.get_num_threads())
    rows = _unit(a_ND.astype(np.float32))
    k_means = faiss.Kmeans(rows.shape[1], num_cells, niter=20, spherical=True, seed=0)
    k_means.train(rows)
    return np.asarray(k_means.index.search(rows, 1)[1][:, 0], np.int64)


def clusters_of(a_ND: Vectors, pairs: Pairs, widths: Sequence[int]) -> list[tuple[int, ...]]:
    rows = np.arange(len(a_ND))
    return [cluster.members for cluster in duplicate_clusters(len(a_ND), pairs, a_ND, widths, rows)]


def num_removed(a_ND: Vectors, pairs: Pairs, widths: Sequence[int]) -> int:
    return sum(len(members) - 1 for members in clusters_of(a_ND, pairs, widths))


def originals(count: int) -> Iterator[tuple[str, bytes]]:
    """(name, encoded image), spread evenly over the data sets; the huge, the tiny and the broken are passed over."""
    for name, share in DATA:
        source, wanted = open_source(str(resolve_data(name).path)), round(share * count)
        places = [(shard, row) for shard, own in enumerate(source.shards) for row in range(len(own.keys))]
        taken = 0
        for place in np.random.default_rng(0).permutation(len(places)).tolist():
            data = source.read(*places[place])
            if taken < wanted and is_fit(data):
                taken += 1
                yield f"{name}/{source.shards[places[place][0]].keys[places[place][1]]}", data
            if taken == wanted:
                break


def is_fit(data: bytes) -> bool:
    width, height = header_size(data)
    return min(width, height) >= LEAST_PX and width * height <= MOST_PIXELS


def altered(data: bytes) -> dict[str, bytes]:
    """Copies by what was done to them."""
    image = decode_image(data, named_policy("center", size_px=FULL_PX))
    width, height = image.size
    x, y = max(1, round(width / 100)), max(1, round(height / 100))
    return {
        "byte-equal": data,
        "JPEG, quality 90": encoded(image, "JPEG", quality=90),
        "JPEG, quality 50": encoded(image, "JPEG", quality=50),
        "resized to 75 %": encoded(image.resize((width * 3 // 4, height * 3 // 4), Image.Resampling.LANCZOS)),
        "resized to 50 %": encoded(image.resize((width // 2, height // 2), Image.Resampling.LANCZOS)),
        "cropped by 2 %": encoded(image.crop((x, y, width - x, height - y))),
        "flipped": encoded(ImageOps.mirror(image)),
    }


def encoded(image: Image.Image, kind: str = "PNG", quality: int = 0) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **({"quality": quality} if kind == "JPEG" else {"compress_level": 1}))
    return file.getvalue()


def embedded(images: Sequence[bytes], encoder: str, size_px: int) -> Vectors:
    """(N, D) of their central squares."""
    teacher = Teacher(encoder, device="cpu", dtype="float32", threads=torch.get_num_threads(), batch_size=BATCH,
                      target="global-features", image_size=size_px)  # fmt: skip
    replayer = UnitReplayer(named_policy("center", size_px=size_px), list(map(str, range(len(images)))),
                            images.__getitem__)  # fmt: skip
    batches = []
    for start in range(0, len(images), BATCH):
        views = [replayer.view(row, 0) for row in range(start, min(start + BATCH, len(images)))]
        batches.append(teacher.targets(np.stack(views)))
    return np.asarray(_unit(np.concatenate(batches)), np.float16)


def recall(count: int, encoders: Sequence[tuple[str, int]], show: int) -> list[Figure]:
    """Share of copies above each threshold, and pairs of different originals, for each encoder and for all together."""
    names, copies = [], []
    for name, data in originals(count):
        try:
            copies.append(altered(data))
            names.append(name)
        except UndecodableImageError:
            continue
    changes = list(copies[0])
    images = [copy[change] for change in changes for copy in copies]
    vectors = {f"{name} at {size_px} px": embedded(images, name, size_px) for name, size_px in encoders}
    figures = []
    for name, own in [*((name, [own]) for name, own in vectors.items()), ("both", list(vectors.values()))]:
        widths = [part.shape[1] for part in own]
        rows = np.concatenate(own, axis=1).reshape(len(changes), len(names), -1)
        figures += _recall(name, changes, rows, widths)
        _name_pairs(name, names, rows[0], widths, show)
    return figures


def _recall(name: str, changes: Sequence[str], rows_CND: Vectors, widths: Sequence[int]) -> list[Figure]:
    figures = []
    for change, copies_ND in zip(changes, rows_CND, strict=True):
        scores = similarity(rows_CND[0], copies_ND, widths)
        figures += [Figure(name=f"{name}: {change}: recall at {threshold}", value=float((scores > threshold).mean()))
                    for threshold in THRESHOLDS]  # fmt: skip
    figures += [Figure(name=f"{name}: false pairs: number at {threshold}", lower_is_better=True,
                       value=len(similar_pairs(rows_CND[0], widths, threshold=threshold)))
                for threshold in THRESHOLDS]  # fmt: skip
    return figures


def _name_pairs(name: str, names: Sequence[str], rows_ND: Vectors, widths: Sequence[int], show: int) -> None:
    pairs = similar_pairs(rows_ND, widths, threshold=THRESHOLDS[0])
    for place in np.argsort(-pairs.scores)[:show]:
        left, right = names[pairs.left[place]], names[pairs.right[place]]
        print(f"{name}: {pairs.scores[place]:.4f}  {left}  {right}", file=sys.stderr)


def _directions(rng: np.random.Generator, count: int, width: int) -> NDArray[np.float32]:
    return _unit(rng.standard_normal((count, width), np.float32))


def _unit(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), np.float32)


def by_threshold(figures: Sequence[Figure]) -> str:
    """Speed figure by figure, recall with a column for each threshold."""
    others: list[Figure] = []
    rows: dict[str, list[str]] = {}
    for figure in figures:
        name, at, _ = figure.name.rpartition(" at ")
        if at and figure.goal is None and ": " in name and ("recall" in name or "number" in name):
            rows.setdefault(name.rpartition(":")[0], []).append(f"{figure.value:.3g}")
        else:
            others.append(figure)
    lines = [table(others, limit="bare products", peer="within cells")] if others else []
    if rows:
        lines += ["", f"| encoder: copies | {' | '.join(map(str, THRESHOLDS))} |", "|---" * (len(THRESHOLDS) + 1) + "|"]
        lines += [f"| {name} | {' | '.join(cells)} |" for name, cells in rows.items()]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=ITEMS, help="vectors to compare; 0: no speed")
    parser.add_argument("--store", help="embeddings to compare instead")
    parser.add_argument("--images", type=int, default=300, help="originals to make copies of; 0: no recall")
    parser.add_argument("--encoder", action="append", help="NAME=SIZE_PX, again for another one")
    parser.add_argument("--pairs", type=int, default=0, help="name the N most similar pairs of originals on stderr")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    figures = [figure for widths in WIDTHS if args.items and not args.store
               for figure in speed(planted_vectors(args.items, widths), widths)]  # fmt: skip
    figures += speed(*stored_vectors(args.store)) if args.store else []
    if args.images:
        given = args.encoder or ["dinov2-vits14=84", "efficientnet-lite0=96"]
        encoders = [(name, int(size)) for name, _, size in (text.partition("=") for text in given)]
        figures += recall(args.images, encoders, args.pairs)
    print(to_json(figures) if args.json else by_threshold(figures))


if __name__ == "__main__":
    main()
