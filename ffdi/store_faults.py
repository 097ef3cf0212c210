"""What the errors of a store and its package mean: whether they pass, and the one line that says what mends them.

An error is known by its HTTP status, the store's code or the name of its class, so no store's package is imported. Its
text is never repeated: it may hold keys or a signed URL.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from ffdi.errors import NoFileError, StorageError
from ffdi.urls import where_keys_are

T = TypeVar("T")

_PASSING = {408, 425, 429, 500, 502, 503, 504}  # states of a store that pass, by HTTP
_PASSING_CODES = {"SlowDown", "InternalError", "ServiceUnavailable", "RequestTimeout", "OperationAborted"}
_PASSING_CODES |= {"ConditionalRequestConflict", "IncompleteBody", "BadDigest", "ThrottlingException", "Throttling"}
_BROKEN = {"HTTPClientError", "IncompleteRead", "IncompleteReadError", "ResponseParserError", "FSTimeoutError"}
_BROKEN |= {"ClientPayloadError", "ClientConnectionError", "ServiceRequestError", "ServiceResponseError"}
_BROKEN |= {"EndpointConnectionError", "ConnectionError", "TimeoutError", "ChecksumError", "FlexibleChecksumError"}
_NO_CREDENTIALS = {"NoCredentialsError", "PartialCredentialsError", "CredentialRetrievalError", "ProfileNotFound"}
_NO_CREDENTIALS |= {"DefaultCredentialsError", "ClientAuthenticationError", "SSOError", "UnauthorizedSSOTokenError"}
_REFUSED_KEYS = {"InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken", "RequestTimeTooSkewed"}
_LOST_RACE = {"PreconditionFailed", "412"}


@dataclass(frozen=True)
class Patience:
    """How often a call to a store is tried, and the pauses between: `first` seconds, each `factor` times the one before.

    A pause is drawn between half of that and all of it, so that many workers do not come back at the same moment.
    """

    attempts: int = 6
    first: float = 0.2
    factor: float = 3.0
    longest: float = 30.0

    def pause(self, failures: int) -> float:
        """Seconds to wait after so many failures."""
        return random.uniform(0.5, 1) * min(self.longest, self.first * self.factor ** (failures - 1))


def patiently(call: Callable[[], T], patience: Patience, url: str, at: str) -> T:
    """The result of `call`, tried again where its failure may pass; StorageError with the reason where that ends."""
    failures = 0
    while True:
        try:
            return call()
        except StorageError:
            raise
        except Exception as error:
            failures += 1
            passing = passing_reason(error)
            if not passing or failures >= patience.attempts:
                told = told_of(error, url, at, passing and f"{passing}, {failures} attempts")
                break
        time.sleep(patience.pause(failures))
    raise told  # outside of the handler: the store's own error, which may hold anything, is no part of this one


class CutOff(Exception):
    """A body or an upload that is shorter or longer than it should be."""


def check_size(size: int, wanted: int | None) -> None:
    if wanted is not None and wanted >= 0 and size != wanted:
        raise CutOff(f"{size} bytes of {wanted} arrived")


def passing_reason(error: Exception) -> str:
    """The reason for a failure that may pass, "" for one that stays."""
    if isinstance(error, CutOff):
        return f"the body is cut off: {error}"
    code = store_code(error)
    reason = (
        error.__cause__ if isinstance(error, FileNotFoundError) and not code else error
    )  # aiohttp's, of any failure
    names = {kind.__name__ for kind in type(reason).__mro__}
    if names & _BROKEN and not names & _NO_CREDENTIALS:
        return f"the connection failed ({type(reason).__name__})"
    passes = code in _PASSING_CODES or (code.isdigit() and int(code) in _PASSING)
    return f"the store is busy or failing ({code})" if passes else ""


def store_code(error: BaseException) -> str:
    """The store's code of an error (SlowDown), or the HTTP status as text; "" where it has neither."""
    seen: BaseException | None = error
    while seen is not None:
        response = getattr(seen, "response", None)
        if isinstance(response, dict):
            said, met = response.get("Error", {}), response.get("ResponseMetadata", {})
            return str(said.get("Code") or met.get("HTTPStatusCode") or "")
        for name in ("status", "status_code", "code"):
            if isinstance(value := getattr(seen, name, None), int):
                return str(value)
        seen = seen.__cause__
    return ""


def is_absent(error: Exception) -> bool:
    """Whether a store says that there is no such file, in a bucket that is there."""
    known = store_code(error) in ("", "404", "410", "NoSuchKey")
    return isinstance(error, FileNotFoundError) and known and not passing_reason(error)


def lost_race(error: Exception) -> bool:
    """Whether a store refused to write because its file is not the one that the writer asked for."""
    return isinstance(error, FileExistsError) or store_code(error) in _LOST_RACE


def told_of(error: Exception, url: str, at: str, passing: str) -> StorageError:
    """The error of this project for one of a store or its package: `at` is the file's URL, below `url`.

    `passing` is what `passing_reason` says of it, with the number of attempts.
    """
    code, keys = store_code(error), where_keys_are(url.partition("://")[0])
    names = {kind.__name__ for kind in type(error).__mro__}
    if passing:
        return StorageError(f"{at}: {passing}: try again later, or with fewer workers")
    if code == "NoSuchBucket" or (is_absent(error) and at == url):
        return NoFileError(f"{url}: no such bucket or folder: correct the URL")
    if is_absent(error):
        return NoFileError(f"{at}: no such file")
    if names & _NO_CREDENTIALS:
        return StorageError(f"{at}: no credentials, or incomplete ones: {keys}")
    if code in _REFUSED_KEYS:
        return StorageError(f"{at}: the store refuses the credentials ({code}): {keys}")
    if isinstance(error, PermissionError) or code in ("401", "403"):
        what = "access denied, or no such file where these credentials may not list"
        return StorageError(f"{at}: {what} ({code or 403}): give them the right, or others: {keys}")
    if isinstance(error, OSError) and error.errno and not code and error.strerror:
        return StorageError(f"{at}: {error.strerror}")
    return StorageError(f"{at}: fails with {type(error).__name__}{f' ({code})' if code else ''}")
