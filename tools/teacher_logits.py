"""A teacher's logits over views of images spread over a transfer set, kept in an .npz: what codecs are fitted on.

python tools/teacher_logits.py --teacher efficientnet-lite0 --transfer openclipart --images 2048 --out flat.npz
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from reinforce import catalog
from reinforce.data import ImageSource, open_source
from reinforce.errors import UndecodableImageError
from reinforce.progress import Progress
from reinforce.teacher import Teacher
from reinforce.views import UnitReplayer, named_policy

IMAGES_HELD = 64
"""Images whose views are rendered together."""


def teacher_logits(teacher: Teacher, source: ImageSource, *, policy: str, num_images: int,
                   num_views: int) -> NDArray[np.float32]:  # fmt: skip
    """(V, R, C) float32; R counts the images that can be decoded."""
    places = _spread(source, num_images)
    view_policy = named_policy(policy, size_px=teacher.info.image_size)
    parts = []
    with Progress("logits", num_images * num_views, unit="views") as progress:
        for block in _blocks(places):
            keys = [source.shards[shard].keys[row] for shard, row in block]
            replayer = UnitReplayer(view_policy, keys, partial(_read, source, block), 512 << 20)
            for row in range(len(block)):
                progress.update(num_views)
                if (images := _views(replayer, row, num_views)) is not None:
                    parts.append(teacher.targets(images))
    return np.stack(parts, axis=1)


def _read(source: ImageSource, block: list[tuple[int, int]], row: int) -> bytes:
    return source.read(*block[row])


def _spread(source: ImageSource, num_images: int) -> list[tuple[int, int]]:
    places = [(shard, row) for shard, keys in enumerate(source.shards) for row in range(len(keys.keys))]
    chosen = np.unique(np.linspace(0, len(places) - 1, num_images).round().astype(int))
    return [places[i] for i in chosen.tolist()]


def _blocks(places: list[tuple[int, int]]) -> Iterator[list[tuple[int, int]]]:
    for start in range(0, len(places), IMAGES_HELD):
        yield places[start : start + IMAGES_HELD]


def _views(replayer: UnitReplayer, row: int, num_views: int) -> NDArray[np.uint8] | None:
    try:
        return np.stack([replayer.view(row, view) for view in range(num_views)])
    except UndecodableImageError:
        return None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--teacher", required=True)
    parser.add_argument("--transfer", required=True)
    parser.add_argument("--policy", default="randaugment")
    parser.add_argument("--images", type=int, default=2048)
    parser.add_argument("--views", type=int, default=4)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    teacher = Teacher(args.teacher, device="auto", dtype="auto", threads=args.threads, batch_size=args.views)
    source = open_source(str(catalog.resolve_data(args.transfer).path))
    logits = teacher_logits(teacher, source, policy=args.policy, num_images=args.images, num_views=args.views)
    np.savez(args.out, logits=logits)
    print(f"wrote {args.out}: {logits.shape[1]} images, {logits.shape[0]} views, {logits.shape[2]} classes")


if __name__ == "__main__":
    main()
