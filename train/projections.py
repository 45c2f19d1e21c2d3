"""A student whose features are compared with a teacher's through linear projections (paper A.4).

The projections are trained with the student and thrown away with the teacher's features: they lie beside the model, in
extra.safetensors, and fit the features of the one teacher that they were trained for.

B batch, D dimensions, P the student's input side in px, h, w sides of its final map, H, W of the teacher's.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

import torch
from reinforce.errors import ModelError, UsageError
from reinforce.models import global_features, global_width, load_extra, patch_features, patch_shape
from reinforce.models.create import find_directory
from reinforce.models.directory import read_info
from reinforce.store import PATCH_FEATURES, Store
from torch import Tensor, nn

Sides = Literal["student", "both"]
PAPER_DIM = 768
PREFIX = "projection."
JOINT_SPACE = "open_clip:"
"""Architectures whose features are already those of a contrastive loss, so that the teacher's stay as they are."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Projections:
    """Which sides are projected, into how many dimensions, and whose features they are for."""

    sides: Sides
    dim: int
    target: str
    teacher_dim: int
    teacher: str
    teacher_sha256: str

    @classmethod
    def planned(cls, store: Store, sides: Sides | None, dim: int | None) -> Projections:
        """For the features in a store. Default: of open_clip teachers and of patches the student's side alone, into the
        teacher's dimensions; else both sides, into 768.

        Raises UsageError for a dimension that cannot be, and for both sides of patches: a student that turned all
        patches into one direction would be without fault.
        """
        teacher, target = store.plan["teacher"], store.target
        one_side = target == PATCH_FEATURES or str(teacher["architecture"]).startswith(JOINT_SPACE)
        sides = sides or ("student" if one_side else "both")
        if sides == "both" and target == PATCH_FEATURES:
            raise UsageError("--projection both lets student and teacher agree on any one direction where --loss is "
                             "cosine: type --projection student")  # fmt: skip
        if sides == "student" and dim not in (None, store.num_channels):
            raise UsageError(f"--projection student leads into the {store.num_channels} dimensions of the teacher, not "
                             f"{dim}: leave --projection-dim out, or type --projection both")  # fmt: skip
        dim = dim or (store.num_channels if sides == "student" else PAPER_DIM)
        return cls(sides=sides, dim=dim, target=target, teacher_dim=store.num_channels, teacher=teacher["name"],
                   teacher_sha256=teacher["weights_sha256"])  # fmt: skip

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


class ProjectedStudent(nn.Module):
    """`forward` gives both sides of a loss of features; `encoder` is the student that is kept."""

    def __init__(self, encoder: nn.Module, projections: Projections, image_size: int) -> None:
        super().__init__()
        self.encoder, self.of_patches = encoder, projections.target == PATCH_FEATURES
        self.teacher_projection: nn.Module = nn.Identity()
        self.student_projection: nn.Module = (
            nn.Conv2d(patch_shape(encoder, image_size)[0], projections.dim, 1)
            if self.of_patches
            else nn.Linear(global_width(encoder), projections.dim)
        )
        if projections.sides == "both":
            self.teacher_projection = nn.Linear(projections.teacher_dim, projections.dim)
        _freeze_unreached(self, image_size)

    def forward(self, images_B3PP: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Student's and teacher's features: (B, D) and (B, D), or (B, D, h, w) and (B, D, H, W). `targets` as the store
        has them: (B, D), or (B, H, W, D)."""
        own = self.student_projection(self.features(images_B3PP))
        return own, targets.movedim(-1, 1) if self.of_patches else self.teacher_projection(targets)

    def features(self, images_B3PP: Tensor) -> Tensor:
        """Of the encoder, before they are projected."""
        return (patch_features if self.of_patches else global_features)(self.encoder, images_B3PP)

    def no_weight_decay(self) -> set[str]:
        """Names of the parameters that the encoder's authors do not decay."""
        rule = getattr(self.encoder, "no_weight_decay", set)
        return {f"encoder.{name}" for name in rule()}

    def projection_state(self) -> dict[str, Tensor]:
        """What extra.safetensors keeps."""
        sides = {"student.": self.student_projection, "teacher.": self.teacher_projection}
        return {PREFIX + side + name: value for side, module in sides.items()
                for name, value in module.state_dict().items()}  # fmt: skip

    def load_projections(self, state: Mapping[str, Tensor], source: str) -> None:
        """Raises ModelError where they are not those of such a student."""
        own = self.projection_state()
        if {name: value.shape for name, value in own.items()} != {name: value.shape for name, value in state.items()}:
            raise ModelError(f"{source}: extra.safetensors does not hold the projections that model.json describes: "
                             "copy the directory again")  # fmt: skip
        with torch.no_grad():
            for name, value in own.items():
                value.copy_(state[name])


def kept_parts(student: nn.Module) -> tuple[nn.Module, dict[str, Tensor]]:
    """What was trained as a model directory holds it: the encoder, and what lies in extra.safetensors."""
    if isinstance(student, ProjectedStudent):
        return student.encoder, student.projection_state()
    return student, {}


def take_over(student: ProjectedStudent, projections: Projections, source: str) -> None:
    """Load the projections of the run that the encoder comes from, if it has some for these features.

    `source`: what was typed for --init-from or --student. Raises UsageError where it was trained on another teacher's
    features, or with other projections; ModelError for a damaged directory.
    """
    directory = find_directory(source)
    before = read_info(directory).provenance.get("training", {}).get("projections") if directory else None
    if directory is None or before is None:
        return
    if before["teacher_sha256"] != projections.teacher_sha256:
        raise UsageError(f"{source} has projections for the features of {before['teacher']}, and these are of "
                         f"{projections.teacher}: features of one VFM cannot be used with another's projection, type a "
                         "run of the same teacher, or an architecture")  # fmt: skip
    if before["target"] != projections.target:
        return
    if (before["sides"], before["dim"]) != (projections.sides, projections.dim):
        raise UsageError(f"{source} has other projections: type --projection {before['sides']} "
                         f"--projection-dim {before['dim']}")  # fmt: skip
    found = load_extra(directory)
    student.load_projections({name: value for name, value in found.items() if name.startswith(PREFIX)}, source)


def _freeze_unreached(student: ProjectedStudent, image_size: int) -> None:
    """Weights behind the features, such as a last convolution on the pooled map, stay and ask for no gradient:
    DistributedDataParallel would wait for them, and weight decay wear them away."""
    parameters, was_training = list(student.encoder.parameters()), student.training
    grey = torch.zeros(1, 3, image_size, image_size, device=parameters[0].device)
    student.eval().features(grey).sum().backward()  # type: ignore[no-untyped-call]
    for parameter in parameters:
        parameter.requires_grad_(parameter.grad is not None)
    student.zero_grad(set_to_none=True)
    student.train(was_training)
