"""From uint8 views to a model's own input, on the device where the model is.

Shapes: B batch, S side of the views, P side of the model's input, in px.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import interpolate

from reinforce.models.info import ModelInfo


@dataclass(frozen=True, kw_only=True)
class Preprocess:
    """Resize with antialiasing when S != P, scale to 0..1, subtract the mean, divide by the std.

    The views travel to the device as uint8, a quarter of the bytes. Picklable.
    """

    image_size: int
    """P."""
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    interpolation: Literal["bilinear", "bicubic"]

    @classmethod
    def from_info(cls, info: ModelInfo) -> Preprocess:
        return cls(image_size=info.image_size, mean=info.mean, std=info.std, interpolation=info.interpolation)

    def __call__(self, views_BSS3: Tensor | NDArray[np.uint8], device: torch.device | str | None = None) -> Tensor:
        """uint8 (B, S, S, 3) -> float32 (B, 3, P, P) on `device` (default: where the views are).

        Raises ValueError for other shapes or dtypes.
        """
        views = torch.from_numpy(views_BSS3) if isinstance(views_BSS3, np.ndarray) else views_BSS3
        if views.dtype != torch.uint8 or views.ndim != 4 or views.shape[3] != 3 or views.shape[1] != views.shape[2]:
            raise ValueError(f"expected uint8 views (B, S, S, 3), got {views.dtype} {tuple(views.shape)}")
        pixels = views.to(device, non_blocking=True) if device is not None else views
        pixels = pixels.permute(0, 3, 1, 2).to(torch.float32, memory_format=torch.contiguous_format)
        return self._normalise(self._resize(pixels))

    def _resize(self, pixels_B3SS: Tensor) -> Tensor:
        if pixels_B3SS.shape[-1] == self.image_size:
            return pixels_B3SS
        size = (self.image_size, self.image_size)
        resized = interpolate(pixels_B3SS, size, mode=self.interpolation, antialias=True, align_corners=False)
        return resized.clamp_(0, 255)  # bicubic overshoots

    def _normalise(self, pixels_B3PP: Tensor) -> Tensor:
        mean = torch.tensor(self.mean, device=pixels_B3PP.device).mul_(255).view(1, 3, 1, 1)
        std = torch.tensor(self.std, device=pixels_B3PP.device).mul_(255).view(1, 3, 1, 1)
        return pixels_B3PP.sub_(mean).div_(std)
