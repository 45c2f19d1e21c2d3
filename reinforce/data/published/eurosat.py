"""EuroSAT, RGB: 27,000 satellite images of 10 kinds of land cover (Helber et al. 2019).

    AnnualCrop/AnnualCrop_1.jpg ... SeaLake/SeaLake_3000.jpg

in the folder itself, in 2750/ (EuroSAT.zip), EuroSAT_RGB/, EuroSAT/2750/ or eurosat/2750/ (torchvision).

The set has no published splits. The paper (A.1) takes the hardest setting of Helber et al., 10 % train (2.7K), and cuts
the rest into 5.4K val and 18.9K test. Here each class is cut 10/20/70, as Helber et al. cut theirs class by class, by
the ranks of the hashes of file names: the same in every layout.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

from reinforce.data.folder import FolderSource, folder_source, scan_folder
from reinforce.data.published.layout import Published
from reinforce.data.splits import TEST, TRAIN, VAL, LabelledSample, base_name, carve, part
from reinforce.errors import MissingDataError

CLASSES = ("AnnualCrop", "Forest", "HerbaceousVegetation", "Highway", "Industrial", "Pasture", "PermanentCrop",
           "Residential", "River", "SeaLake")  # fmt: skip
FOLDERS = ("2750", "EuroSAT_RGB", "EuroSAT/2750", "eurosat/2750")
SHARES = {VAL: partial(part, 0.2), TEST: partial(part, 0.7)}


def read(root: Path) -> Published | None:
    """See `open_published`."""
    folder = next((name for name in FOLDERS if any((root / name / kind).is_dir() for kind in CLASSES)), None)
    if folder is None and not all((root / name).is_dir() for name in CLASSES):
        return None
    prefix = "" if folder is None else folder + "/"
    if absent := [name for name in CLASSES if not (root / (prefix + name)).is_dir()]:
        raise MissingDataError(f"{root / (prefix + absent[0])} is not there: EuroSAT has the 10 classes "
                               f"{', '.join(CLASSES[:2])} ... {CLASSES[-1]}, unpack EuroSAT.zip again")  # fmt: skip
    source = folder_source(root, scan_folder(root, [prefix + name for name in CLASSES]))
    splits = carve(_samples(source, len(Path(prefix).parts)), SHARES, group=base_name)
    return Published(source, CLASSES, {name: splits[name] for name in (TRAIN, VAL, TEST)}, prefix + CLASSES[0])


def _samples(source: FolderSource, depth: int) -> list[LabelledSample]:
    """A key's folder at `depth` is its class."""
    label_of = {name: label for label, name in enumerate(CLASSES)}
    return [
        LabelledSample(number, row, key, label_of[key.split("/")[depth]])
        for number, shard in enumerate(source.shards)
        for row, key in enumerate(shard.keys)
    ]
