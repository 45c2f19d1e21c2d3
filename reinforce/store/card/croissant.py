"""`croissant.json`: the same for machines, as Croissant 1.0 (JSON-LD over schema.org, by ML Commons).

Croissant knows neither Zarr nor a store's time and place, so there are no record sets, no publication date and no URL.
"""

from __future__ import annotations

from typing import Any

from reinforce.card_text import plain
from reinforce.store.canonical import canonical_json
from reinforce.store.card.subject import Subject
from reinforce.store.marker import ObjectDigest
from reinforce.store.schema import PLAN, PROBES, UNITS

_TERMS = (
    "citeAs", "column", "equivalentProperty", "extract", "field", "fileProperty", "fileObject", "fileSet", "format",
    "includes", "isLiveDataset", "jsonPath", "key", "md5", "parentField", "path", "recordSet", "references", "regex",
    "repeated", "replace", "samplingRate", "separator", "source", "subField", "transform",
)  # fmt: skip
CONTEXT = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "sc": "https://schema.org/",
    "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "dct": "http://purl.org/dc/terms/",
    "conformsTo": "dct:conformsTo",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "examples": {"@id": "cr:examples", "@type": "@json"},
    **{term: f"cr:{term}" for term in _TERMS},
}
"""The context that the specification gives."""


def croissant(subject: Subject) -> bytes:
    """Canonical JSON."""
    schema, manifest, licences = subject.schema, subject.manifest, subject.licences
    return canonical_json(
        {
            "@context": CONTEXT,
            "@type": "sc:Dataset",
            "conformsTo": "http://mlcommons.org/croissant/1.0",
            "name": subject.title,
            "description": _description(subject),
            "license": [plain(licence) for licence in licences.all],
            "version": "1.0.0",
            "identifier": f"sha256:{subject.content_digest}",
            "citeAs": f"{subject.title}, sha256:{subject.content_digest}",
            "keywords": list(subject.tags),
            "isLiveDataset": False,
            "size": f"{schema.num_samples} samples x {schema.num_views} views, {manifest.num_bytes} bytes",
            "isBasedOn": [_teacher(subject), _transfer(subject)],
            "variableMeasured": [
                {"@type": "PropertyValue", "name": name, "value": value}
                for name, value in sorted(manifest.certificate.items())
            ],
            "distribution": [
                *(_file(path, manifest.objects[path]) for path in (PLAN, UNITS, PROBES) if path in manifest.objects),
                _arrays(),
            ],
        }
    )


def _description(subject: Subject) -> str:
    schema, policy = subject.schema, plain(subject.policy("name"))
    (width,) = schema.width_json
    return (
        f"{subject.title}: {schema.num_samples} samples in {schema.num_views} stored augmentations (view policy "
        f"{policy}), {schema.target} of {schema.num_channels} {width}, compressed by codec {schema.codec_name} with a "
        "certificate of their fidelity, to distill small students from."
    )


def _teacher(subject: Subject) -> dict[str, Any]:
    return {
        "@type": "SoftwareApplication",
        "name": plain(subject.teacher("name")),
        "description": f"teacher, architecture {plain(subject.teacher('architecture'))}",
        "identifier": f"sha256:{plain(subject.teacher('weights_sha256'))}",
        "license": plain(subject.licences.weights),
    }


def _transfer(subject: Subject) -> dict[str, Any]:
    return {
        "@type": "sc:Dataset",
        "name": plain(subject.transfer("name")),
        "identifier": f"sha256:{plain(subject.transfer('digest'))}",
        "license": plain(subject.licences.images),
    }


def _file(path: str, digest: ObjectDigest) -> dict[str, Any]:
    return {
        "@type": "cr:FileObject",
        "@id": path,
        "name": path,
        "contentUrl": path,
        "contentSize": f"{digest.num_bytes} B",
        "encodingFormat": "application/json",
        "sha256": digest.sha256,
    }


def _arrays() -> dict[str, Any]:
    """Zarr groups and their chunks; `manifest.json` has the hash of each."""
    return {
        "@type": "cr:FileSet",
        "@id": "zarr",
        "name": "zarr",
        "description": "A Zarr v3 group: samples, targets and the codec's calibration.",
        "encodingFormat": "application/vnd.zarr; version=3",
        "includes": ["zarr.json", "samples/**", "targets/**", "codec/**", "probes/**"],
    }
