"""Writes the named stores of golden-format-1/ and their part of golden.json: new ones, or after a change of format that
was decided on. Others stay as the version wrote them that they are of.

    python tests/store/make_golden.py top1
"""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
import tempfile
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import numpy as np
from tiny_stores import FEATURE_MAPS, FEATURE_ROWS, MAPS, ROWS, build_at, contents_of, targets_of

from reinforce.store.codecs import Fp16Codec, Int8Codec, TargetCodec
from reinforce.store.codecs.kept_top1 import KeptTop1
from reinforce.store.codecs.klt import KltCodec
from reinforce.store.codecs.packing import Packing
from reinforce.store.codecs.sqrt_p import SqrtPCodec
from reinforce.store.codecs.top_k import TopKCodec
from reinforce.store.reader import Store
from reinforce.store.schema import CARD
from reinforce.store.shapes import TargetShape

HERE = Path(__file__).parent
CONTRASTS = [[100, -100, 0, 0, 0], [60, 60, -120, 0, 0], [40, 40, 40, -120, 0], [30, 30, 30, 30, -120]]
KLT = KltCodec(
    digits=Packing((0, 1, 2, 1, 0)),
    image_digits=Packing((1, 3, 0, 0, 0)),
    mean=np.array([0.5, 0, -0.25, 1, -1.25], np.float32),
    basis=np.array(CONTRASTS, np.int8),
    scales=np.array([1 / 64, 1 / 64, 1 / 128, 1 / 128], np.float32),
    weights=np.array([1, 0.5, 1, 1.5, 1], np.float32),
)
STORES: dict[str, tuple[TargetCodec, TargetShape]] = {
    "fp16": (Fp16Codec(), ROWS),
    "int8": (Int8Codec(), ROWS),
    "klt": (KLT, ROWS),
    "sqrt-p": (SqrtPCodec(0.03125, 1.0), ROWS),
    "top-k": (TopKCodec(3, 5, 1.0), ROWS),
    "top1": (KeptTop1(KLT), ROWS),
    "maps": (SqrtPCodec(0.03125, 1.0), MAPS),
    "global-features": (replace(KLT, absolute=True), FEATURE_ROWS),
    "patch-features": (Int8Codec(absolute=True), FEATURE_MAPS),
}
MEASURED = ("units.json", "manifest.json", *CARD)
"""Fidelity is measured in floating point: its last digits differ by machine."""


def digests(root: Path) -> dict[str, str]:
    contents = contents_of(root).items()
    return {path: hashlib.sha256(data).hexdigest() for path, data in contents if path not in MEASURED}


def decoded(root: Path) -> list[float]:
    """Some decoded logits, rounded as matrix products on other machines allow."""
    store = Store.open(root)
    return [round(float(x), 3) for unit in range(3) for x in store.read_targets(unit, unit)[0].ravel()]


def main() -> None:
    golden = json.loads((HERE / "golden.json").read_text())
    for name in sys.argv[1:]:
        codec, shape = STORES[name]
        root = Path(tempfile.mkdtemp()) / name
        with targets_of(shape):
            build_at(root, codec, max_kl=0.05)
        shutil.rmtree(HERE / "golden-format-1" / name, ignore_errors=True)
        shutil.copytree(root, HERE / "golden-format-1" / name)
        golden["stores"][name] = digests(root)
        golden["decoded"][name] = decoded(root)
        golden["manifests"][name] = Store.open(root).manifest.digest
    golden["numcodecs"] = version("numcodecs")
    (HERE / "golden.json").write_text(json.dumps(golden, indent=1) + "\n")


if __name__ == "__main__":
    main()
