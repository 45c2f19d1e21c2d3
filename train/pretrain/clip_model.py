"""An image tower and a text tower that lead into one space (Radford et al. 2021, arXiv:2103.00020, section 2.3 to 2.5).

B pairs, P side of the input in px, L tokens a caption, D features of the encoder, E dimensions of the joint space.
"""

from __future__ import annotations

import math
from typing import Any, cast

import torch
from reinforce.models import feature_dim, pooled_features
from reinforce.models.open_clip_text import TextConfig, create_text_tower
from torch import Tensor, nn

START_SCALE, MAX_SCALE = 1 / 0.07, 100.0


class ClipModel(nn.Module):
    """Encoder with a linear projection, text tower, and the logarithm of the scale of their cosines."""

    def __init__(self, encoder: nn.Module, text: TextConfig, *, seed: int) -> None:
        """`encoder` has no head. What is new is drawn by `seed`. Raises ModelError."""
        super().__init__()
        torch.manual_seed(seed)
        self.encoder = encoder
        width = feature_dim(encoder)
        self.image_projection = nn.Linear(width, text.embed_dim, bias=False)
        nn.init.normal_(self.image_projection.weight, std=width**-0.5)
        self.text_tower = create_text_tower(text)
        self.log_scale = nn.Parameter(torch.tensor(math.log(START_SCALE)))

    def forward(self, images_B3PP: Tensor, tokens_BL: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(images (B, E), texts (B, E), scale), the rows not normalised."""
        images_BE = self.image_projection(pooled_features(self.encoder, images_B3PP))
        return images_BE, self.text_tower(tokens_BL), self.scale()

    def scale(self) -> Tensor:
        """What multiplies cosines, at most 100. In training the parameter itself is held there, so that it can fall."""
        bounds = 0.0, math.log(MAX_SCALE)
        if not self.training:
            return self.log_scale.clamp(*bounds).exp()
        with torch.no_grad():
            self.log_scale.clamp_(*bounds)
        return self.log_scale.exp()

    def no_weight_decay(self) -> set[str]:
        """Positions and tokens, as the towers name them."""
        towers: dict[str, Any] = {"encoder": self.encoder, "text_tower": self.text_tower}
        return {f"{name}.{own}" for name, tower in towers.items() if hasattr(tower, "no_weight_decay")
                for own in tower.no_weight_decay()}  # fmt: skip

    def beside_encoder(self) -> dict[str, Tensor]:
        """What the encoder's model directory keeps in extra.safetensors: "image_projection.weight", "log_scale" and the
        text tower's tensors, which begin with "text_tower."."""
        state = cast(dict[str, Tensor], self.state_dict())
        return {name: value for name, value in state.items() if not name.startswith("encoder.")}
