"""A classifier that is measured and shown, and what it said of every image.

B batch, C classes, N images that could be decoded, S side of a view in px.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from reinforce.data import LabelledDataset, LabelledSample
from reinforce.models import Preprocess
from reinforce.progress import Progress
from torch import Tensor

from train.batches import SkippedImages
from train.classification import tally_labelled
from train.evaluated import EvaluatedModel
from train.labelled import PlainViews
from train.metrics import Tally
from train.passes import Pass
from train.world import World

if TYPE_CHECKING:
    from train.evaluate import EvaluateConfig


@dataclasses.dataclass
class Answers(Tally):
    """A tally that keeps, of each image: its row, its label, the most likely class, and the probabilities of both."""

    kept: list[tuple[Tensor, ...]] = dataclasses.field(default_factory=list)

    def add(self, logits_BC: Tensor, target_BC: Tensor, rows: Sequence[int] = ()) -> None:
        super().add(logits_BC, target_BC, rows)
        labels_B = target_BC.argmax(dim=1)
        probs_BC = torch.softmax(logits_BC.float(), dim=1)
        confidence_B, predicted_B = probs_BC.max(dim=1)
        of_label_B = probs_BC.gather(1, labels_B[:, None])[:, 0]
        self.kept.append((torch.tensor(rows), labels_B.cpu(), predicted_B.cpu(), confidence_B.cpu(), of_label_B.cpu()))

    def sum_over(self, world: World) -> None:
        super().sum_over(world)
        self.kept = [batch for rank in world.gather(self.kept) for batch in rank]

    @property
    def rows(self) -> NDArray[np.int64]:
        """(N,) in the listing, ascending: the other columns are in this order."""
        return self._column(0)

    @property
    def labels(self) -> NDArray[np.int64]:
        """(N,)."""
        return self._column(1)

    @property
    def predicted(self) -> NDArray[np.int64]:
        """(N,)."""
        return self._column(2)

    @property
    def confidence(self) -> NDArray[np.float32]:
        """(N,) probability of the most likely class."""
        return self._column(3)

    @property
    def of_label(self) -> NDArray[np.float32]:
        """(N,) probability of the label."""
        return self._column(4)

    def confusion(self, num_classes: int) -> NDArray[np.int64]:
        """(C, C) images by label and by most likely class."""
        counts = np.bincount(self.labels * num_classes + self.predicted, minlength=num_classes**2)
        return counts.reshape(num_classes, num_classes)

    def _column(self, number: int) -> NDArray[Any]:
        rows, column = (torch.cat([batch[each] for batch in self.kept]).numpy() for each in (0, number))
        in_order: NDArray[Any] = column[rows.argsort()]
        return in_order


class Classifier(EvaluatedModel):
    task, choose = "classification", "classifies"

    def views(self, dataset: LabelledDataset, samples: Sequence[LabelledSample]) -> PlainViews:
        return PlainViews(dataset.source, samples, num_classes=self.info.num_classes, size_px=self.info.image_size)

    def measure(self, dataset: LabelledDataset, samples: Sequence[LabelledSample], config: EvaluateConfig,
                skipped: SkippedImages) -> Answers:  # fmt: skip
        """Of all images that can be decoded, in order; the others are noted in `skipped`."""
        answers = Answers()
        quiet = config.quiet or not self.world.is_main
        with Progress(f"evaluate {self.name}", len(samples), quiet=quiet) as progress:
            rows = Pass(self.views(dataset, samples), self.batch_size, world=self.world, workers=config.workers)
            tally_labelled(self.model, rows, Preprocess.from_info(self.info), dtype=self.dtype, skipped=skipped,
                           progress=progress, tally=answers)  # fmt: skip
        return answers
