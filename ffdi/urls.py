"""What is a URL and what may be in one: never a credential."""

from __future__ import annotations

import re
from urllib.parse import unquote, urlsplit

from ffdi.errors import StorageError

S3, WEB, GOOGLE, AZURE = ("s3", "s3a"), ("http", "https"), ("gs", "gcs"), ("az", "abfs", "abfss")
BUCKETS = (*S3, *GOOGLE, *AZURE)
_CREDENTIAL = re.compile(r"(?<=://)[^\s/'\"@]*@|\?[^\s'\"]*")


def is_url(place: str) -> bool:
    """Whether a setting names a place at a URL, and not a path of this machine."""
    return bool(re.match(r"[a-z][a-z0-9+.-]*://", place))


def checked_url(url: str) -> str:
    """The URL of a folder or file, without slashes at its end.

    Raises StorageError, which does not repeat it, for one that holds a credential, and for one that names no place.
    """
    protocol, _, rest = url.partition("://")
    try:
        host = urlsplit(url).netloc
    except ValueError:
        raise StorageError(f"{protocol}://...: is no valid URL") from None
    user, at, _ = host.rpartition("@")
    if at and (":" in user or protocol in (*S3, *WEB, *GOOGLE)):
        raise StorageError(f"{protocol}://...: holds a user name or a key: leave it out; {where_keys_are(protocol)}")
    if "?" in rest:
        raise StorageError(f"{protocol}://...: holds a query, such as a signature: leave it out, from the '?' on")
    if not rest.strip("/"):
        raise StorageError(f"{url}: names no {'bucket' if protocol not in (*WEB, 'file') else 'place'}")
    return f"{protocol}://{rest.rstrip('/')}"


def local_path(place: str) -> str | None:
    """The path of this machine that a setting names, as it stands or as file://; None for any other URL."""
    if not is_url(place):
        return place
    url = checked_url(place)
    return unquote(url.removeprefix("file://")) if url.startswith("file://") else None


def shown(text: str) -> str:
    """The text of a setting for a message, without what a URL in it may hold of keys and signatures."""
    return _CREDENTIAL.sub("...", text) if "://" in text else text


def where_keys_are(protocol: str) -> str:
    variables = {
        "s3": "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, AWS_PROFILE, or the machine's role; FSSPEC_S3_ANON=true reads "
        "without any",
        "gs": "GOOGLE_APPLICATION_CREDENTIALS, or the machine's service account",
        "az": "AZURE_STORAGE_CONNECTION_STRING, or AZURE_STORAGE_ACCOUNT_NAME and a key",
    }
    aliases = {"s3a": "s3", "gcs": "gs", "abfs": "az", "abfss": "az"}
    found = variables.get(aliases.get(protocol, protocol))
    return f"credentials come from the environment ({found})" if found else "credentials come from the environment"
