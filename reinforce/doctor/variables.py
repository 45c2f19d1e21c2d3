"""Variables of the environment that change what commands do. Values that may be secret are never shown."""

from __future__ import annotations

import os
from collections.abc import Iterator

from reinforce.doctor.finding import Finding

SHOWN = {
    "REINFORCE_HOME": "names, assets and caches",
    "REINFORCE_CACHE_MB": "parts of object stores kept on disk, in MiB",
    "REINFORCE_RETRIES": "tries of a request to an object store",
    "OMP_NUM_THREADS": "threads of torch",
    "CUDA_VISIBLE_DEVICES": "GPUs that are seen",
    "HF_HOME": "downloads of the Hugging Face Hub",
    "HF_HUB_OFFLINE": "no downloads",
    "RANK": "set by torchrun",
    "WORLD_SIZE": "set by torchrun",
}
"""Name -> what it decides."""
NAMED = {
    "AWS_ACCESS_KEY_ID": "s3://",
    "AWS_SECRET_ACCESS_KEY": "s3://",
    "AWS_SESSION_TOKEN": "s3://",
    "AWS_ENDPOINT_URL": "s3://",
    "GOOGLE_APPLICATION_CREDENTIALS": "gs://",
    "GOOGLE_SERVICE_ACCOUNT": "gs://",
    "GOOGLE_BASE_URL": "gs://",
    "AZURE_STORAGE_ACCOUNT_NAME": "az://",
    "AZURE_STORAGE_ACCOUNT_KEY": "az://",
    "AZURE_STORAGE_SAS_TOKEN": "az://",
    "AZURE_STORAGE_ENDPOINT": "az://",
    "HF_TOKEN": "the Hugging Face Hub",
    "HTTP_PROXY": "requests",
    "HTTPS_PROXY": "requests",
    "ALL_PROXY": "requests",
}
"""Name -> what it is for; values may hold secrets."""


def variable_findings() -> Iterator[Finding]:
    for name, what in SHOWN.items():
        if name in os.environ:
            yield Finding("environment", "ok", f"{name}={os.environ[name]} ({what})")
    for name, what in NAMED.items():
        if name in os.environ:
            yield Finding("environment", "ok", f"{name} is set (for {what}; its value is not shown)")
