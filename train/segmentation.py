"""Segmentation: images with masks, cross entropy per pixel, mean IoU at the images' own size, a probe on maps."""

from __future__ import annotations

from collections.abc import Callable

from reinforce.data import MaskedDataset, MaskedSample, named_masked, shortage, take_masked
from reinforce.views import named_policy
from torch import Tensor, nn

from train.batches import Batch
from train.losses import pixel_cross_entropy
from train.map_probe import MapProbe
from train.mask_tally import tally_masked
from train.masked import MaskedTrainingViews, WholeViews
from train.options import LabelledOptions
from train.tasks import Bench, Task, crop_range, warn_of


class Segmentation(Task[MaskedDataset, MaskedSample]):
    metric = "mean_iou"

    @classmethod
    def open(cls, config: LabelledOptions) -> Segmentation:
        dataset = named_masked(config.data)
        samples, count = dataset.split("train"), config.num_labelled
        warn_of(shortage([0] * len(samples), (), num_labelled=count))
        train = take_masked(samples, num_labelled=count, limit=config.limit, seed=config.seed)
        val = dataset.splits.get("val", ())
        # A fixed seed: the validation images stay the same ones when --seed draws other training images.
        return cls(dataset, train, take_masked(val, num_labelled=config.val_limit) if val else ())

    def training_data(self, bench: Bench) -> MaskedTrainingViews:
        return self.augmented(bench, bench.config.policy or "segmentation")

    def augmented(self, bench: Bench, policy: str) -> MaskedTrainingViews:
        """The training images under a policy by name."""
        config = bench.config
        scale = None if policy == "whole" else crop_range(config)
        named = named_policy(policy, size_px=bench.info.image_size, seed=config.seed, crop_scale=scale)
        return MaskedTrainingViews(self.dataset, self.train, named, seed=config.seed)

    def whole(self, bench: Bench) -> WholeViews:
        """The validation images."""
        return WholeViews(self.dataset, self.val, size_px=bench.info.image_size)

    def objective(self, bench: Bench, model: nn.Module, batch: Batch) -> Tensor:
        return pixel_cross_entropy(model(bench.preprocess(batch.inputs)), batch.targets)

    def validator(self, bench: Bench) -> Callable[[nn.Module], dict[str, float]]:
        preprocess, rows = bench.preprocess, bench.rows(self.whole(bench), keeps=True)

        def evaluate(model: nn.Module) -> dict[str, float]:
            model.eval()
            return tally_masked(lambda images: model(preprocess(images)), rows, num_classes=len(self.class_names),
                                dtype=bench.dtype, skipped=bench.skipped).scores()  # fmt: skip

        return evaluate

    def probe(self, bench: Bench) -> MapProbe:
        return MapProbe(self, bench)
