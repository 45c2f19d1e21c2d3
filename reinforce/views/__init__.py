"""Views: `(policy, key, view index, frozen listing) -> pixels` as a pure, exactly specified function.

tables        float settings -> integer tables, once, when a policy is made
policy        the resolved policy: what a store keeps, integers only
dense_policy  the other kind, for segmentation
policies      either kind, by name or from JSON
words         key, view -> random words (Philox)
params        policy, key, view -> what happens to the pixels (fixed slots), and doing it
dense_params  the same for dense policies
decode        file bytes -> RGB working image, by one rule
ops           the pixel operations, each with its integer formula
dense_ops     those that only dense views have
placement     where a view's pixels come from: its valid mask, labels moved with the image
replay        working image + params -> view; one decode serves all views of a sample
fingerprint   checksums after every stage, to find out whether a machine replays the same pixels

`docs/store-format.md` says all of it again for readers in other languages; `tests/views/vectors.json` and
`tests/views/dense_vectors.json` hold its test vectors.
"""

from reinforce.views.decode import decode_image
from reinforce.views.dense_params import DenseParams, content_rect, dense_params
from reinforce.views.dense_policy import DensePolicy, resolve_dense_policy
from reinforce.views.fingerprint import DriftReport, Fingerprint, Probe, check, compare, libraries, make_fingerprint
from reinforce.views.params import ViewParams, view_params
from reinforce.views.placement import IGNORE
from reinforce.views.policies import DENSE_POLICY_NAMES, POLICY_NAMES, Policy, named_policy, policy_from_json
from reinforce.views.policy import RandomOp, ViewPolicy, resolve_policy
from reinforce.views.replay import Params, UnitReplayer, replay, replay_stages

__all__ = [
    "DENSE_POLICY_NAMES",
    "IGNORE",
    "POLICY_NAMES",
    "DenseParams",
    "DensePolicy",
    "DriftReport",
    "Fingerprint",
    "Params",
    "Policy",
    "Probe",
    "RandomOp",
    "UnitReplayer",
    "ViewParams",
    "ViewPolicy",
    "check",
    "compare",
    "content_rect",
    "decode_image",
    "dense_params",
    "libraries",
    "make_fingerprint",
    "named_policy",
    "policy_from_json",
    "replay",
    "replay_stages",
    "resolve_dense_policy",
    "resolve_policy",
    "view_params",
]
