"""Images with captions as training batches. A pair's view and caption are functions of (seed, epoch, row) alone.

B pairs, S side of a view in px, L tokens a caption.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from reinforce.counting import counted
from reinforce.data import CaptionedSource, hash64
from reinforce.errors import DataError, UndecodableImageError
from reinforce.models.open_clip_text import Tokenizer
from reinforce.views import named_policy, resolve_policy
from reinforce.views.policies import Policy

from train.batches import Batch, Rows, shuffled
from train.pretrain.transfer_images import Image
from train.rendered import Pixels, Problems, RenderedViews


def clip_policy(size_px: int, seed: int, crop_scale: tuple[float, float]) -> Policy:
    """A random crop that leaves out little, and nothing else: no flip, since captions tell left from right.

    Radford et al. (section 2.4) crop a square of the resized image; as open_clip does, the crop takes a share of the
    area, (0.9, 1) there, with a ratio of 3:4 to 4:3.
    """
    return resolve_policy(name="clip", size_px=size_px, seed=seed, crop_scale=crop_scale, flip_prob=0.0)


class PairViews(RenderedViews):
    """Shared half of training and held-out pairs."""

    def __init__(self, source: CaptionedSource, pairs: Sequence[Image], policy: Policy, tokenizer: Tokenizer) -> None:
        super().__init__(source.images, pairs, policy)
        self.captions, self.tokenizer = source, tokenizer

    def pair(self, row: int, epoch: int, choice: int) -> tuple[Pixels, str]:
        """View `epoch` and the caption number `choice` (modulo their count) of a row.

        Raises UndecodableImageError where the image or its caption cannot be used.
        """
        sample = self.samples[row]
        try:
            captions = self.captions.captions(sample.shard, sample.row)
        except DataError as error:
            raise UndecodableImageError(str(error)) from error
        return self.replayer.view(row, epoch), captions[choice % len(captions)]

    def batch(self, found: Sequence[tuple[Pixels, str]], skipped: Problems) -> Batch:
        """`inputs` uint8 (B, S, S, 3), `targets` tokens int64 (B, L)."""
        tokens = self.tokenizer([caption for _, caption in found]) if found else torch.empty(
            (0, self.tokenizer.context_length), dtype=torch.int64)  # fmt: skip
        return Batch(self.stacked([image for image, _ in found]), tokens, tuple(skipped))


class TrainingPairs(PairViews):
    """Cropped views, shuffled by (seed, epoch). A pair that cannot be read is replaced by the next one."""

    def __init__(self, source: CaptionedSource, pairs: Sequence[Image], policy: Policy, tokenizer: Tokenizer, *,
                 seed: int) -> None:  # fmt: skip
        super().__init__(source, pairs, policy, tokenizer)
        self.seed = seed

    def epoch_order(self, epoch: int) -> Rows:
        return shuffled(len(self), seed=self.seed, epoch=epoch)

    def load(self, rows: Rows, epoch: int) -> Batch:
        """See `batch`. Raises DataError where no pair at all can be read."""
        found, skipped = [], []
        for row in rows.tolist():
            one, problems = self._readable(row, epoch)
            found.append(one)
            skipped += problems
        return self.batch(found, skipped)

    def _readable(self, row: int, epoch: int) -> tuple[tuple[Pixels, str], Problems]:
        problems: Problems = []
        for offset in range(len(self)):
            shown = (row + offset) % len(self)
            try:
                return self.pair(shown, epoch, self._choice(shown, epoch)), problems
            except UndecodableImageError as error:
                problems.append((self.samples[shown].key, str(error)))
        raise DataError(f"none of the {counted(len(self), 'training pair')} can be read: {problems[0][1]}")

    def _choice(self, row: int, epoch: int) -> int:
        return hash64(f"caption {self.seed} {epoch} {row}")


class HeldOutPairs(PairViews):
    """The central square with the first caption, in listing order. What cannot be read is left out of its batch."""

    def __init__(self, source: CaptionedSource, pairs: Sequence[Image], tokenizer: Tokenizer, *, size_px: int) -> None:
        super().__init__(source, pairs, named_policy("center", size_px=size_px), tokenizer)

    def epoch_order(self, epoch: int) -> Rows:
        return np.arange(len(self), dtype=np.int64)

    def load(self, rows: Rows, epoch: int) -> Batch:
        found: list[tuple[Pixels, str]] = []
        skipped: Problems = []
        for row in rows.tolist():
            try:
                found.append(self.pair(row, 0, 0))
            except UndecodableImageError as error:
                skipped.append((self.samples[row].key, str(error)))
        return self.batch(found, skipped)
