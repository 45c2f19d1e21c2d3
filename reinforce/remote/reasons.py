"""Why a request to an object store failed, in words that say what to do, without URLs' queries and without credentials.

obstore tells the kind of an error by its class where the service has a word for it, and by its text otherwise.
"""

from __future__ import annotations

import re
from urllib.parse import urlsplit

ENDPOINT_VARIABLES = ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT")
_CREDENTIALS = {
    "s3": "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_SKIP_SIGNATURE=true for what is public",
    "gs": "GOOGLE_APPLICATION_CREDENTIALS, or GOOGLE_SKIP_SIGNATURE=true for what is public",
    "az": "AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY",
}
_STATUS = re.compile(r"status code: (\d{3})")
_CODE = re.compile(r"<Code>(\w{1,60})</Code>")
_NO_CREDENTIALS = ("169.254.169.254", "latest/api/token", "token request", "credential", "must be specified")
_LOST = ("error sending request", "connection", "timed out", "timeout", "body error", "error decoding response body",
         "incomplete", "end of file", "channel closed")  # fmt: skip
_URL = re.compile(r"\w+://\S+")


def is_no_bucket(error: Exception) -> bool:
    return _code(error) in ("NoSuchBucket", "ContainerNotFound")


def is_transient(error: Exception) -> bool:
    """Whether the same request may succeed later: the server failed, or the connection was lost."""
    status = status_of(error)
    return status >= 500 or status == 429 or (status == 0 and _says(error, _LOST))


def is_broken_off(error: Exception) -> bool:
    """Whether an answer had begun and did not end, or made no sense: nobody has tried again yet."""
    if status_of(error) or _says(error, _NO_CREDENTIALS):
        return False
    return _says(error, ("response body",)) or (_says(error, _LOST) and not _says(error, ("max_retries",)))


def reason_of(error: Exception, url: str) -> str:
    """One line: what is wrong and what to do."""
    status, code = status_of(error), _code(error)
    if refusal := _refusal(error, urlsplit(url).scheme):
        return refusal
    if status:
        return f"the server answers {_told(status, code)}, after several tries where that could help: try again later"
    if _says(error, _LOST):
        return f"no connection, after several tries: check the network and {ENDPOINT_VARIABLES[0]}, then try again"
    return _URL.sub("...", str(error).partition("\n")[0])[:160]


def _refusal(error: Exception, scheme: str) -> str | None:
    """What no further try would change."""
    status, code = status_of(error), _code(error)
    variables = _CREDENTIALS.get(scheme[:2], "the credentials")
    if is_no_bucket(error):
        return f"there is no such bucket ({code}): check its name, and the endpoint if it is not the cloud's own"
    if _says(error, _NO_CREDENTIALS):
        return f"no credentials were found: set in the environment {variables}"
    if status in (401, 403) or type(error).__name__ in ("PermissionDeniedError", "UnauthenticatedError"):
        return f"access is denied ({_told(status, code)}): check the environment: {variables}"
    if isinstance(error, NotImplementedError) or (scheme.startswith("http") and status in (404, 405, 501)):
        return "this web server does not do that: name its files, such as https://host/x/{00000..00012}.tar"
    return None


def _told(status: int, code: str) -> str:
    return f"{status} {code}".strip() if status else code or "refused"


def status_of(error: Exception) -> int:
    """Of the HTTP answer; 0 where there was none."""
    found = _STATUS.search(str(error))
    return int(found[1]) if found else 0


def _code(error: Exception) -> str:
    found = _CODE.search(str(error))
    return found[1] if found else ""


def _says(error: Exception, words: tuple[str, ...]) -> bool:
    text = str(error).partition("Debug source")[0].lower()
    return any(word in text for word in words)
