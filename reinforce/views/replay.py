"""Working image + params -> view: uint8 in, uint8 out, one backend for build and train, for every kind of policy.

Stages: "decode", then those of the params (`ViewParams.stages` and the like), then mixup or cutmix. A stage
that a view does not have is left out.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image

from reinforce.errors import DataError, UndecodableImageError, UsageError
from reinforce.views import ops
from reinforce.views.decode import decode_sized
from reinforce.views.dense_params import DenseParams, dense_params
from reinforce.views.dense_policy import DensePolicy
from reinforce.views.dino_params import DinoParams, dino_params
from reinforce.views.dino_policy import DinoPolicy
from reinforce.views.gallery_policy import GalleryPolicy
from reinforce.views.params import Mix, ViewParams, view_params
from reinforce.views.policies import Policy

Pixels = npt.NDArray[np.uint8]
"""RGB, (H, W, 3); a view is (S, S, 3), S = size_px."""
Labels = npt.NDArray[np.uint8]
"""Class ids, (H, W); 255 is none."""
Params = ViewParams | DenseParams | DinoParams

NUM_PASSING = 2
"""Images without a place in the budget that are kept for the moment: a row and its mixing partner."""
FINISHED_SHARE = 4
"""One part in this many of a replayer's budget may hold finished views, the rest working images."""


def draw_params(policy: Policy, key: str, view: int, image_size: tuple[int, int], num_rows: int, row: int) -> Params:
    """What the policy's kind draws. Raises ValueError for a view or row out of range."""
    if isinstance(policy, DensePolicy):
        return dense_params(policy, key, view, image_size)
    if isinstance(policy, DinoPolicy):
        return dino_params(policy, key, view, image_size)
    if isinstance(policy, GalleryPolicy):
        policy = policy.part(view)
    return view_params(policy, key, view, image_size, num_rows, row)


def replay(image: Image.Image, params: Params, policy: Policy, partner: Pixels | None = None) -> Pixels:
    """The view, uint8 (S, S, 3), of a working image; `partner` is the other row's finished view if `params` mix.

    `params` are of the policy's kind.
    """
    *_, (_, finished) = params.stages(image, policy.size_px, policy.fill)
    own = np.array(finished)
    return own if params.mix is None else _mixed(own, params.mix, partner)


def replay_stages(
    image: Image.Image, params: Params, policy: Policy, partner: Pixels | None = None
) -> Iterator[tuple[str, Pixels]]:
    """(stage, pixels after it) for every stage; the last one is what `replay` gives."""
    yield "decode", np.array(image)
    own: Pixels = np.empty(0, dtype=np.uint8)
    for stage, single in params.stages(image, policy.size_px, policy.fill):
        own = np.array(single)
        yield stage, own
    if params.mix is not None:
        yield params.mix[0], _mixed(own, params.mix, partner)


def _mixed(own: Pixels, mix: Mix, partner: Pixels | None) -> Pixels:
    if partner is None:
        raise ValueError("these params mix with another row: pass its finished view as partner")
    if mix[0] == "mixup":
        return ops.mixup(own, partner, mix[2])
    return ops.cutmix(own, partner, mix[2])


class UnitReplayer:
    """Views of one unit's rows, each image decoded once as far as the budget goes.

    Not for several threads at once. An undecodable partner leaves a view unmixed; errors of `load`, such as
    MissingDataError, pass through.
    """

    def __init__(
        self,
        policy: Policy,
        keys: Sequence[str],
        load: Callable[[int], bytes],
        budget_bytes: int = 256 << 20,
    ) -> None:
        """`keys` are those of the unit's real rows in frozen order; `load(row)` gives a row's encoded image."""
        self.policy = policy
        self.keys = tuple(keys)
        self._load = load
        self._budget_bytes = budget_bytes
        self._images: dict[int, Image.Image] = {}
        self._images_bytes = 0
        self._held = range(len(self.keys))
        self._passing: OrderedDict[int, Image.Image] = OrderedDict()
        self._reasons: dict[int, str] = {}
        self._sizes: dict[int, tuple[int, int]] = {}
        self._finished: dict[int, Pixels] = {}
        self._finished_view = -1

    def view(self, row: int, view: int) -> Pixels:
        """View `view` of row `row`, uint8 (S, S, 3), the caller's own. Raises UndecodableImageError for a bad row."""
        params = self.params(row, view)
        own = self._unmixed(row, view, params)
        if params.mix is None:
            return own.copy()
        return _mixed(own, params.mix, self._unmixed(params.mix[1], view))

    def valid(self, row: int, view: int) -> npt.NDArray[np.bool_]:
        """(S, S), False where the view shows padding or what its rotation uncovered. Raises UndecodableImageError."""
        return self._drawn(row, view).placement(self.policy.size_px).valid()

    def labels(self, row: int, view: int, mask: Labels) -> Labels:
        """The row's mask, uint8 (H, W), moved as its image was: uint8 (S, S), nearest sampling, 255 where not valid.

        H x W is the original image's size with its EXIF orientation applied. Raises DataError for a mask of another
        shape, UsageError for a policy that does more than move pixels, UndecodableImageError for a bad row.
        """
        if not self.policy.moves_masks:
            raise UsageError(f"the view policy '{self.policy.name}' does not move masks: type --policy segmentation")
        width, height = self.original_size(row)
        if mask.shape != (height, width) or mask.dtype != np.uint8:
            size = "x".join(map(str, mask.shape[1::-1] + mask.shape[2:]))
            raise DataError(
                f"the mask of '{self.keys[row]}' is {size} px of {mask.dtype}, its image {width}x{height} px: give it "
                "a mask of one byte a pixel and the image's size"
            )
        placement = self._drawn(row, view).placement(self.policy.size_px)
        return placement.labels(self.image(row).size, mask)

    def original_size(self, row: int) -> tuple[int, int]:
        """(width, height) in px of the row's image before any reduction, its EXIF orientation applied."""
        self.undecodable_reason(row)
        if row in self._reasons:
            raise UndecodableImageError(self._reasons[row])
        return self._sizes[row]

    def stages(self, row: int, view: int) -> list[tuple[str, Pixels]]:
        """(stage, pixels after it) of one view, from the working image ("decode") to what `view` gives.

        A mixed view has its partner's stages before the last one, as "partner:STAGE".
        """
        params = self.params(row, view)
        own = list(self._single_stages(row, params.unmixed()))
        if params.mix is None:
            return own
        partner_row = params.mix[1]
        partner = list(self._single_stages(partner_row, self._drawn(partner_row, view).unmixed()))
        finished = _mixed(own[-1][1], params.mix, partner[-1][1])
        return [*own, *((f"partner:{stage}", pixels) for stage, pixels in partner), (params.mix[0], finished)]

    def hold(self, rows: range) -> None:
        """From now on keep the decoded images of these rows alone: their views are what will be asked for."""
        self._held = rows
        self._images.clear()
        self._images_bytes = 0

    def params(self, row: int, view: int) -> Params:
        """What is really done: `view_params`, without mixing where the partner cannot be decoded."""
        params = self._drawn(row, view)
        if params.mix is not None and self.undecodable_reason(params.mix[1]) is not None:
            return params.unmixed()
        return params

    def image(self, row: int) -> Image.Image:
        """The row's working image; not to be changed. Raises UndecodableImageError."""
        if row in self._reasons:
            raise UndecodableImageError(self._reasons[row])
        for kept in (self._images, self._passing):
            if row in kept:
                return kept[row]
        try:
            image, self._sizes[row] = decode_sized(self._load(row), self.policy)
        except UndecodableImageError as error:
            self._reasons[row] = str(error)
            raise
        self._keep(row, image)
        return image

    def undecodable_reason(self, row: int) -> str | None:
        """Why the row has no views, or None; decodes it if that is not known yet."""
        try:
            self.image(row)
        except UndecodableImageError as error:
            return str(error)
        return None

    def _single_stages(self, row: int, params: Params) -> Iterator[tuple[str, Pixels]]:
        return replay_stages(self.image(row), params, self.policy)

    def _drawn(self, row: int, view: int) -> Params:
        size = self.image(row).size
        return draw_params(self.policy, self.keys[row], view, size, len(self.keys), row)

    def _unmixed(self, row: int, view: int, params: Params | None = None) -> Pixels:
        """The row's finished view before mixing; those of one view index are kept, as each may be asked for twice."""
        if view != self._finished_view:
            self._finished.clear()
            self._finished_view = view
        if row in self._finished:
            return self._finished[row]
        drawn = (params or self._drawn(row, view)).unmixed()
        pixels = replay(self.image(row), drawn, self.policy)
        if self.policy.mixes and self._has_room(pixels):
            self._finished[row] = pixels
        return pixels

    def _has_room(self, pixels: Pixels) -> bool:
        return (len(self._finished) + 1) * pixels.nbytes <= self._budget_bytes // FINISHED_SHARE

    def _keep(self, row: int, image: Image.Image) -> None:
        """Going through the rows again and again, the first that fit are worth more than the latest."""
        limit = self._budget_bytes - self._budget_bytes // FINISHED_SHARE
        if row in self._held and self._images_bytes + _memory_bytes(image) <= limit:
            self._images[row] = image
            self._images_bytes += _memory_bytes(image)
            return
        self._passing[row] = image
        if len(self._passing) > NUM_PASSING:
            self._passing.popitem(last=False)


def _memory_bytes(image: Image.Image) -> int:
    return 4 * image.width * image.height  # Pillow keeps RGB in four bytes
