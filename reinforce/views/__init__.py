"""Views: `(policy, key, view index, frozen listing) -> pixels` as a pure, exactly specified function.

tables        float settings -> integer tables, once, when a policy is made
policy        the resolved policy: what a store keeps, integers only
dense_policy  another kind, for segmentation
dino_policy   a third, for the crops of self-distillation; no store is built of it
gallery_policy  a fourth, of two of the first kind: the whole image and crops of it, for retrieval
policies      every kind, by name or from JSON
words         key, view -> random words (Philox)
params        policy, key, view -> what happens to the pixels (fixed slots), and doing it
dense_params  the same for dense policies
dino_params   the same for DINO's crops
decode        file bytes -> RGB working image, by one rule
ops           the pixel operations, each with its integer formula
dense_ops     those that only dense views have
placement     where a view's pixels come from: its valid mask, labels moved with the image
replay        working image + params -> view; one decode serves all views of a sample
fingerprint   checksums after every stage, to find out whether a machine replays the same pixels

`docs/store-format.md` says all of it again for readers in other languages; `tests/views/vectors.json`,
`dense_vectors.json` and `dino_vectors.json` beside it hold the test vectors.
"""

from reinforce.views.decode import decode_image, image_kind, image_suffix
from reinforce.views.dense_params import DenseParams, dense_params
from reinforce.views.dense_policy import DensePolicy, resolve_dense_policy
from reinforce.views.dino_params import DinoParams, dino_params
from reinforce.views.dino_policy import DinoPolicy, MultiCrop, resolve_multi_crop
from reinforce.views.fingerprint import DriftReport, Fingerprint, Probe, check, compare, libraries, make_fingerprint
from reinforce.views.gallery_policy import GalleryPolicy, resolve_gallery_policy
from reinforce.views.params import ViewParams, view_params
from reinforce.views.placement import IGNORE
from reinforce.views.policies import DENSE_POLICY_NAMES, POLICY_NAMES, Policy, named_policy, policy_from_json
from reinforce.views.policy import RandomOp, ViewPolicy, resolve_policy
from reinforce.views.replay import Params, UnitReplayer, draw_params, replay, replay_stages

__all__ = [
    "DENSE_POLICY_NAMES",
    "IGNORE",
    "POLICY_NAMES",
    "DenseParams",
    "DensePolicy",
    "DinoParams",
    "DinoPolicy",
    "DriftReport",
    "Fingerprint",
    "GalleryPolicy",
    "MultiCrop",
    "Params",
    "Policy",
    "Probe",
    "RandomOp",
    "UnitReplayer",
    "ViewParams",
    "ViewPolicy",
    "check",
    "compare",
    "decode_image",
    "dense_params",
    "dino_params",
    "draw_params",
    "image_kind",
    "image_suffix",
    "libraries",
    "make_fingerprint",
    "named_policy",
    "policy_from_json",
    "replay",
    "replay_stages",
    "resolve_dense_policy",
    "resolve_gallery_policy",
    "resolve_multi_crop",
    "resolve_policy",
    "view_params",
]
