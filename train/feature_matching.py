"""Losses of features (paper section 3.1, A.4) as ways to distill; students are `ProjectedStudent`s.

B batch, P the student's input side in px, N held-out rows, D dimensions.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from train.batches import Batch
from train.losses import contrastive, cosine, cosine_distances
from train.matching import HeldOutTally, Matching
from train.world import World


class ContrastiveMatching(Matching):
    """--loss contrastive: of features of whole images; the negatives are the step's other views, of all ranks."""

    figures = ("contrastive", "retrieval")

    def __init__(self, temperature: float, world: World) -> None:
        self.temperature, self.world = temperature, world

    def loss(self, student: nn.Module, images_B3PP: Tensor, batch: Batch) -> Tensor:
        own_BD, teacher_BD = student(images_B3PP, batch.targets)
        return contrastive(own_BD, teacher_BD, self.temperature, self.world)

    def tally(self) -> HeldOutTally:
        return RetrievalTally(self.temperature)


class RetrievalTally(HeldOutTally):
    """`contrastive`: the loss among all held-out rows at once, in nats; `retrieval`: share of rows whose student's
    feature is nearer to the own teacher's feature than to all others'."""

    def __init__(self, temperature: float) -> None:
        self.temperature = temperature
        self.pairs: list[tuple[Tensor, Tensor]] = []

    def add(self, student: nn.Module, images_B3PP: Tensor, batch: Batch) -> None:
        own_BD, teacher_BD = student(images_B3PP, batch.targets)
        self.pairs.append((own_BD.float(), teacher_BD.float()))

    def figures(self) -> dict[str, float]:
        students_ND, teachers_ND = (torch.cat(rows) for rows in zip(*self.pairs, strict=True))
        loss = contrastive(students_ND, teachers_ND, self.temperature, World(students_ND.device))
        return {"contrastive": float(loss), "retrieval": retrieval_rate(students_ND, teachers_ND)}


class CosineMatching(Matching):
    """--loss cosine: of patch features, cell by cell of the student's map."""

    figures = ("cosine_distance",)

    def loss(self, student: nn.Module, images_B3PP: Tensor, batch: Batch) -> Tensor:
        own_BDhw, teacher_BDHW = student(images_B3PP, batch.targets)
        return cosine(own_BDhw, teacher_BDHW)

    def tally(self) -> HeldOutTally:
        return DistanceTally()


class DistanceTally(HeldOutTally):
    """`cosine_distance`: mean over held-out rows and cells of 1 - cos, 0..2."""

    def __init__(self) -> None:
        self.total, self.num_cells = 0.0, 0

    def add(self, student: nn.Module, images_B3PP: Tensor, batch: Batch) -> None:
        own_BDhw, teacher_BDHW = student(images_B3PP, batch.targets)
        distances_Bhw = cosine_distances(own_BDhw, teacher_BDHW)
        self.total += float(distances_Bhw.sum(dtype=torch.float64))
        self.num_cells += distances_Bhw.numel()

    def figures(self) -> dict[str, float]:
        return {"cosine_distance": self.total / max(self.num_cells, 1)}


def retrieval_rate(rows_ND: Tensor, others_ND: Tensor) -> float:
    """Share of rows, 0..1, whose nearest other by cosine is the one of the same number. In float32 whatever the
    autocast: bfloat16 makes near ones equal."""
    with torch.autocast(rows_ND.device.type, enabled=False):
        rows_ND, others_ND = (functional.normalize(side.float(), dim=1) for side in (rows_ND, others_ND))
        nearest_N = (rows_ND @ others_ND.T).argmax(dim=1)
    return float((nearest_N == torch.arange(len(nearest_N), device=nearest_N.device)).double().mean())
