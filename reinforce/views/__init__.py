"""Views: `(policy, key, view index, frozen listing) -> pixels` as a pure, exactly specified function.

tables       float settings -> integer tables, once, when a policy is made
policy       the resolved policy: what a store keeps, integers only
params       policy, key, view -> what happens to the pixels (Philox, fixed slots)
decode       file bytes -> RGB working image, by one rule
ops          the pixel operations, each with its integer formula
replay       working image + params -> view; one decode serves all views of a sample
fingerprint  checksums after every stage, to find out whether a machine replays the same pixels

`docs/store-format.md` says all of it again for readers in other languages; `tests/views/vectors.json` holds its test
vectors.
"""

from reinforce.views.decode import decode_image
from reinforce.views.fingerprint import DriftReport, Fingerprint, Probe, check, compare, libraries, make_fingerprint
from reinforce.views.params import ViewParams, view_params
from reinforce.views.policy import POLICY_NAMES, RandomOp, ViewPolicy, named_policy, resolve_policy
from reinforce.views.replay import UnitReplayer, replay, replay_stages

__all__ = [
    "POLICY_NAMES",
    "DriftReport",
    "Fingerprint",
    "Probe",
    "RandomOp",
    "UnitReplayer",
    "ViewParams",
    "ViewPolicy",
    "check",
    "compare",
    "decode_image",
    "libraries",
    "make_fingerprint",
    "named_policy",
    "replay",
    "replay_stages",
    "resolve_policy",
    "view_params",
]
