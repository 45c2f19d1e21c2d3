"""Why a request to the Hugging Face Hub failed, in words that say what to do, without tokens and signed URLs."""

from __future__ import annotations

import re

_TOKEN = "set HF_TOKEN, or type hf auth login"
_CLIENTS = ("httpx", "httpx2", "httpcore", "httpcore2", "requests", "urllib3", "hf_xet")
_URL = re.compile(r"\w+://\S+")
_SECRET = re.compile(r"hf_\w+")
_NO_REPOSITORY = f"there is no such repository, or the token may not see it (404): check its name, and {_TOKEN}"
_OF_KINDS = {
    "LocalTokenNotFoundError": f"no token was found: {_TOKEN}",
    "RevisionNotFoundError": "there is no such revision (404): check what stands behind @",
    "GatedRepoError": "access is to be asked for on the repository's page first (403)",
    "RepositoryNotFoundError": _NO_REPOSITORY,
}
_OF_STATUS = {
    401: f"access is denied (401): {_TOKEN}",
    403: "access is denied (403): the token may not do that, ask for one that may write to this repository",
    404: _NO_REPOSITORY,
    409: "somebody else is writing to it (409): try again",
    429: "the Hub's rate limit is reached (429), after several tries: wait some minutes, then try again",
}


def status_of(error: BaseException) -> int:
    """Of the HTTP answer; 0 where there was none."""
    found = getattr(getattr(_root(error), "response", None), "status_code", 0)
    return found if isinstance(found, int) else 0


def is_missing_object(error: Exception) -> bool:
    """Whether the repository is there, and this object or folder in it is not."""
    return _kind(error) in ("EntryNotFoundError", "RemoteEntryNotFoundError")


def is_transient(error: Exception) -> bool:
    """Whether the same request may succeed later: the server failed, or the connection was lost."""
    status = status_of(error)
    return status >= 500 or status in (409, 429) or (status == 0 and _is_of_connection(error))


def reason_of(error: Exception) -> str:
    """One line: what is wrong and what to do."""
    status, kind = status_of(error), _kind(error)
    if known := _OF_KINDS.get(kind) or _OF_STATUS.get(status):
        return known
    if status:
        return f"the Hub answers {status}, after several tries where that could help: try again later"
    if _is_of_connection(error):
        return "no connection, after several tries: check the network and HF_ENDPOINT, then try again"
    text = _SECRET.sub("...", _URL.sub("...", str(_root(error))))
    return " ".join(text.split())[:160] or kind


def _is_of_connection(error: Exception) -> bool:
    root = _root(error)
    return type(root).__module__.partition(".")[0] in _CLIENTS or isinstance(root, ConnectionError)


def _kind(error: Exception) -> str:
    return type(_root(error)).__name__


def _root(error: BaseException) -> BaseException:
    """The error that a RuntimeError of an upload hides."""
    while isinstance(error, RuntimeError) and error.__cause__ is not None:
        error = error.__cause__
    return error
