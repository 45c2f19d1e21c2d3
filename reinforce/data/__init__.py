"""Images from where they lie: sources, frozen listings, labelled datasets with splits and subsets. Needs no torch."""

from reinforce.data.captions import CaptionedSource, open_captioned
from reinforce.data.folder import FolderSource
from reinforce.data.keys import check_keys, hash64, hex64
from reinforce.data.labelled import LabelledDataset, open_labelled
from reinforce.data.listing import Listing, freeze, header_size
from reinforce.data.mask_classes import IGNORE
from reinforce.data.masked import MaskedDataset, MaskedSample, open_masked, take_masked
from reinforce.data.matching import check_keys_match, find_shards
from reinforce.data.named import named_labelled, named_masked
from reinforce.data.opening import check_outside, open_source
from reinforce.data.sources import IMAGE_SUFFIXES, ImageSource, Shard, num_images
from reinforce.data.splits import LabelledSample, shortage, take
from reinforce.data.unit_images import UnitImages

__all__ = [
    "IGNORE",
    "IMAGE_SUFFIXES",
    "CaptionedSource",
    "FolderSource",
    "ImageSource",
    "LabelledDataset",
    "LabelledSample",
    "Listing",
    "MaskedDataset",
    "MaskedSample",
    "Shard",
    "UnitImages",
    "check_keys",
    "check_keys_match",
    "check_outside",
    "find_shards",
    "freeze",
    "hash64",
    "header_size",
    "hex64",
    "named_labelled",
    "named_masked",
    "num_images",
    "open_captioned",
    "open_labelled",
    "open_masked",
    "open_source",
    "shortage",
    "take",
    "take_masked",
]
