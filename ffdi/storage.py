"""Files at a URL: s3://, gs://, az://, https://. The only room that knows fsspec."""

from __future__ import annotations

import re


def is_url(place: str) -> bool:
    """Whether a setting names a place at a URL, and not a path of this machine."""
    return bool(re.match(r"[a-z][a-z0-9+.-]*://", place))
