"""From a map of logits to class ids at an image's own size.

C classes, h, w sides of a map, S side of the view, H, W the image's own size, all in px but h and w.
"""

from __future__ import annotations

import torch
from reinforce.models import upsample
from torch import Tensor

BAND_BYTES = 64 << 20
"""Float32 logits that are resized at once, unless one row of pixels has more."""


def predicted_mask(map_Chw: Tensor, size_px: int, content: tuple[int, int, int, int],
                   size_HW: tuple[int, int]) -> Tensor:  # fmt: skip
    """The most likely class of every pixel of the image, uint8 (H, W) on the map's device.

    The map is upsampled to the view of `size_px`, cropped to where the image is (`content`: left, top, width, height),
    and the logits are resized bilinearly to the image's own size; ties go to the lower class id.
    """
    left, top, width, height = content
    logits_CSS = upsample(map_Chw[None].float(), size_px)[0]
    return resized_argmax(logits_CSS[:, top : top + height, left : left + width], size_HW)


def resized_argmax(logits_Cyx: Tensor, size_HW: tuple[int, int]) -> Tensor:
    """argmax over classes of the logits resized bilinearly (align_corners=False) to (H, W): uint8, in bands of rows."""
    height, width = size_HW
    if logits_Cyx.shape[1:] == size_HW:
        return logits_Cyx.argmax(dim=0).to(torch.uint8)
    rows_in_band = max(1, BAND_BYTES // (4 * len(logits_Cyx) * max(width, logits_Cyx.shape[2])))
    bands = [_band(logits_Cyx, start, min(start + rows_in_band, height), size_HW)
             for start in range(0, height, rows_in_band)]  # fmt: skip
    return torch.cat(bands)


def _band(logits_Cyx: Tensor, start: int, stop: int, size_HW: tuple[int, int]) -> Tensor:
    """Rows start..stop-1 of the result: first the rows are blended, then the columns."""
    above, below, share = _neighbours(logits_Cyx.shape[1], size_HW[0], start, stop, logits_Cyx.device)
    rows = torch.lerp(logits_Cyx[:, above], logits_Cyx[:, below], share[:, None])
    left, right, share = _neighbours(logits_Cyx.shape[2], size_HW[1], 0, size_HW[1], logits_Cyx.device)
    return torch.lerp(rows[:, :, left], rows[:, :, right], share).argmax(dim=0).to(torch.uint8)


def _neighbours(old: int, new: int, start: int, stop: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """For new pixels start..stop-1 of one axis: the two old pixels that are blended, and the share of the second.

    The centre of new pixel j lies at (j + 1/2) old / new - 1/2, clipped to the old centres.
    """
    centres = (torch.arange(start, stop, device=device, dtype=torch.float64) + 0.5) * old / new - 0.5
    centres = centres.clamp(0, old - 1)
    first = centres.long()
    return first, (first + 1).clamp(max=old - 1), (centres - first).float()
