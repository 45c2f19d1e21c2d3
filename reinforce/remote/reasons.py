"""Why a request to an object store failed, in words that say what to do, without URLs' queries and without credentials.

obstore tells the kind of an error by its class where the service has a word for it, and by its text otherwise.
"""

from __future__ import annotations

import re

from reinforce.remote.services import service_of

RANGE_NOT_SATISFIABLE = 416
_STATUS = re.compile(r"status code: (\d{3})")
_CODE = re.compile(r"<Code>(\w{1,60})</Code>")
_METADATA = ("169.254.169.254", "latest/api/token")
"""Where machines of a cloud ask for credentials, in the URL of a request that failed."""
_NO_CREDENTIALS = (*_METADATA, "token request", "credential", "must be specified")
_MALFORMED = ("invalid access key", "decode service account")
_LOST = ("error sending request", "connection", "timed out", "timeout", "body error", "error decoding response body",
         "incomplete", "end of file", "channel closed")  # fmt: skip
_URL = re.compile(r"\w+://\S+")


def is_no_bucket(error: Exception) -> bool:
    return _code(error) in ("NoSuchBucket", "ContainerNotFound")


def is_past_the_end(error: Exception) -> bool:
    """Whether a range begins behind the object: 416, or an answer in which obstore finds the end before it."""
    return status_of(error) == RANGE_NOT_SATISFIABLE or _says(error, ("wanted range starting at",))


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
    if refusal := _refusal(error, url):
        return refusal
    if status:
        return f"the server answers {_told(status, code)}, after several tries where that could help: try again later"
    if _says(error, _LOST):
        service = service_of(url)
        what = " and ".join(["the network", *(service.endpoints[:1] if service else ())])
        return f"no connection, after several tries: check {what}, then try again"
    return _URL.sub("...", str(error).partition("\n")[0])[:160]


def _refusal(error: Exception, url: str) -> str | None:
    """What no further try would change."""
    status, code, service = status_of(error), _code(error), service_of(url)
    variables = service.credentials if service else "the credentials"
    if is_no_bucket(error) or (isinstance(error, FileNotFoundError) and not url.startswith("http")):
        what = _told(status, code)
        return f"there is no such bucket ({what}): check its name, and the endpoint if it is not the cloud's own"
    if _says(error, _MALFORMED):
        return f"the credentials are malformed: check the environment: {variables}"
    if _says(error, _NO_CREDENTIALS):
        return f"no credentials were found: set in the environment {variables}"
    if status in (401, 403) or type(error).__name__ in ("PermissionDeniedError", "UnauthenticatedError"):
        return f"access is denied ({_told(status, code)}): check the environment: {variables}"
    if isinstance(error, NotImplementedError) or (url.startswith("http") and status in (404, 405, 501)):
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
    """In its own words: an object's name may hold any."""
    text = str(error).partition("Debug source")[0].lower()
    text = _URL.sub(lambda url: " ".join(word for word in _METADATA if word in url[0]), text)
    return any(word in text for word in words)
