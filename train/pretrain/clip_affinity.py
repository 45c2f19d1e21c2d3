"""`--method clip-affinity`: two towers learn a pair's affinities between images and texts from two stores of its
features (TinyCLIP, Wu et al. 2023, arXiv:2309.12314); the pair itself is not needed.

Code is tested; what such encoders are worth is unmeasured here, where there are neither weights nor real pairs.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, Literal, cast

from train.pretrain.clip import PairOptions, PairResult

if TYPE_CHECKING:
    from torch import Tensor, nn

    from train.batches import Batch


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClipAffinityConfig(PairOptions):
    method: Literal["clip-affinity"] = "clip-affinity"
    """This method."""
    cache: str
    """A store of the pair's image features, by reinforce build --target global-features."""
    text_cache: str
    """A store of its features of the images' captions, by reinforce build --target text-features."""
    transfer: str | None = None
    """Where the transfer set lies (default: what the catalog knows)."""


def pretrain_clip_affinity(config: ClipAffinityConfig) -> PairResult | dict[str, Any]:
    """Train an encoder and a text tower to have a pair's affinities; the encoder is what is kept as a model.

    Raises UsageError where the stores are not of one pair and one transfer set, CorruptStoreError where they don't say.
    """
    from reinforce.dataset import open_dataset
    from reinforce.models.open_clip_text import DEFAULT_TEXT_TOWER, text_config
    from reinforce.store import Store

    from train.pretrain.affinity_pairs import AffinityBatch, HeldOutAffinities, PairedStores, TrainingAffinities
    from train.pretrain.clip_losses import affinity_loss
    from train.pretrain.clip_training import PairTraining, PairWork, entered_training

    text = text_config(config.text_tower or DEFAULT_TEXT_TOWER)
    dataset = open_dataset(config.cache, config.transfer)
    stores = PairedStores(dataset, Store.open(config.text_cache), text.tokenizer)
    data, held_out = TrainingAffinities(stores, seed=config.seed), HeldOutAffinities(stores)
    num_pairs = len(data.epoch_order(0))
    if config.dry_run:
        return {"out": config.out, "model": config.model, "text_tower": text.name, "num_pairs": num_pairs,
                "num_held_out": len(held_out.rows), "logit_scale": stores.logit_scale}  # fmt: skip

    def work(training: PairTraining) -> PairWork:
        replay = dataset.check_replay()

        def objective(model: nn.Module, batch: Batch) -> Tensor:
            pairs = cast(AffinityBatch, batch)
            images_BE, texts_BE, scale = model(training.preprocess(pairs.inputs), pairs.tokens)
            return affinity_loss(images_BE, texts_BE, scale, pairs.targets, pairs.teacher_texts,
                                 stores.logit_scale, training.world)  # fmt: skip

        digests = {"store_digest": dataset.store.manifest.digest, "text_store_digest": stores.texts.manifest.digest}
        return PairWork(
            data=data,
            held_out=held_out if len(held_out.rows) else None,
            num_pairs=num_pairs,
            objective=objective,
            binding=digests,
            provenance={"stores": digests, "teacher": stores.texts.plan["teacher"],
                        "transfer": dataset.store.plan["transfer"]["name"],
                        "transfer_license": dataset.store.plan["transfer"].get("license"),
                        "num_pairs": num_pairs, "replay": replay.to_json()},
        )  # fmt: skip

    with entered_training(config, text, config.method, dataset.size_px) as training:
        return training.run(work)
