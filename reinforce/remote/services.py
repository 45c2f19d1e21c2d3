"""The services that URLs name: how their schemes are spelled, and which variables lead to them and let one in."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit


@dataclass(frozen=True, slots=True)
class Service:
    schemes: tuple[str, ...]
    credentials: str
    """What to set in the environment, in the words of an error."""
    endpoints: tuple[str, ...]
    """Variables that name another server than the cloud's own."""


SERVICES = (
    Service(
        ("s3", "s3a"),
        "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_SKIP_SIGNATURE=true for what is public",
        ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT"),
    ),
    Service(
        ("gs",),
        "GOOGLE_APPLICATION_CREDENTIALS, or GOOGLE_SKIP_SIGNATURE=true for what is public",
        ("GOOGLE_BASE_URL",),
    ),
    Service(
        ("az", "azure", "adl", "abfs", "abfss"),
        "AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY, or AZURE_SKIP_SIGNATURE=true for what is public",
        ("AZURE_STORAGE_ENDPOINT", "AZURE_ENDPOINT"),
    ),
    Service(("http", "https"), "the credentials", ()),
)


def service_of(url: str) -> Service | None:
    """None for a scheme that nobody here speaks."""
    scheme = urlsplit(url).scheme
    return next((service for service in SERVICES if scheme in service.schemes), None)


def has_credentials(url: str) -> bool:
    """Whether a URL holds some, or options that may be some. abfs://CONTAINER@ACCOUNT.dfs... names an account only."""
    parts = urlsplit(url)
    user = parts.netloc.rpartition("@")[0]
    is_container = parts.scheme in ("abfs", "abfss") and ":" not in user
    return bool(parts.query or parts.fragment or (user and not is_container))
