"""The control of cached distillation: a live teacher answers for every view, as if there were no store of targets.

B batch, S side of a view in px, C channels (classes, or dimensions of features), h, w sides of a map.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from reinforce.errors import UsageError
from reinforce.models import (
    Preprocess,
    change_image_size,
    global_features,
    load_model,
    patch_features,
    short_name,
    weights_sha256,
)
from reinforce.store import GLOBAL_FEATURES, PATCH_FEATURES, Store
from torch import Tensor, nn

from train.batches import Batch
from train.optim import autocast

DTYPES = {"bfloat16": torch.bfloat16, "float32": None}


@dataclasses.dataclass(frozen=True, kw_only=True)
class LiveTeacher:
    """The teacher that a store was built from, with its preprocessing and arithmetic."""

    module: nn.Module
    target: str
    """What the store holds of it."""
    preprocess: Preprocess
    device: torch.device
    dtype: torch.dtype | None
    """Of the autocast; None for plain float32."""
    batch_size: int
    """Views that it sees at once, at most: as many as when the store was built."""
    provenance: dict[str, Any]

    @classmethod
    def open(cls, name: str, store: Store, device: torch.device) -> LiveTeacher:
        """The model `name` on `device`, at the input size and in the arithmetic that the store's plan states.

        Raises UsageError where its weights are not those of the store's teacher, ModelError, UnknownNameError.
        """
        plan = store.plan
        planned, dtype = plan["teacher"], plan["environment"]["dtype"]
        module, info = load_model(name)
        if (found := weights_sha256(module)) != planned["weights_sha256"]:
            raise UsageError(f"--online-teacher {name} is not the teacher of {store.name}, which is {planned['name']} "
                             f"with weights of SHA-256 {planned['weights_sha256'][:12]}..., not {found[:12]}...: "
                             "type the model that the store was built from")  # fmt: skip
        module, info = change_image_size(module, info, planned["preprocess"]["image_size"])
        return cls(
            module=module.to(device).eval().requires_grad_(False),
            target=store.target,
            preprocess=Preprocess.from_info(info),
            device=device,
            dtype=DTYPES[dtype],
            batch_size=plan["batch_size"],
            provenance={"teacher": short_name(name), "weights_sha256": found, "dtype": dtype},
        )

    def relabelled(self, batch: Batch) -> Batch:
        """The batch with targets computed now, in the layout of the store's: (B, C), or (B, h, w, C) of maps."""
        parts = [self._answer(views) for views in torch.split(batch.inputs, self.batch_size)]
        return dataclasses.replace(batch, targets=torch.cat(parts))

    def _answer(self, views_BSS3: Tensor) -> Tensor:
        with torch.inference_mode(), torch.autocast(self.device.type, enabled=False), autocast(self.device, self.dtype):
            answer = self._forward(self.preprocess(views_BSS3))
        return answer.float().movedim(1, -1).clone()  # a tensor that a loss may keep for its gradient

    def _forward(self, images_B3PP: Tensor) -> Tensor:
        if self.target == GLOBAL_FEATURES:
            return global_features(self.module, images_B3PP)
        if self.target == PATCH_FEATURES:
            return patch_features(self.module, images_B3PP)
        answer: Tensor = self.module(images_B3PP)
        return answer
