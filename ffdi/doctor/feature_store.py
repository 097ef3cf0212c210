"""The URL that features go to: whether it can be reached, and whether the cache here is large enough to read from it."""

from __future__ import annotations

from collections.abc import Sequence

from ffdi.byte_cache import BOUND, cache_bound
from ffdi.doctor.diagnosis import Diagnosis, one_of
from ffdi.errors import FfdiError, ShardError
from ffdi.features.stored_set import set_at
from ffdi.files import human_bytes
from ffdi.storage import Remote
from ffdi.store_faults import Patience

_SECTION, _NAME = "project", "extract.store"


def store_diagnosis(url: str, backbones: Sequence[str]) -> Diagnosis:
    """Of `extract.store`: the sets of which backbones it has, and their bytes against the bound of the cache."""
    try:
        bound = cache_bound()
        next(iter(Remote(url, Patience(attempts=2)).files()), None)
        held = {name: size for name in backbones if (size := _bytes_at(f"{url.rstrip('/')}/{name}")) is not None}
    except FfdiError as error:
        remedy = "mend that, or leave extract.store out: shards then lie in data/features"
        return Diagnosis(_SECTION, _NAME, "missing", f"{error}", remedy)
    sets = ", ".join(f"{name} {human_bytes(size)}" for name, size in held.items()) or "none of the backbones yet"
    found = f"{url} has {sets}; the cache here takes {human_bytes(bound)}"
    remedy = f"{BOUND}=N: a set that is larger than the cache is downloaded again by every pass over it"
    facts = {"bytes": held, "cache": bound}
    fits = one_of("ok" if max(held.values(), default=0) <= bound else "note", _SECTION, _NAME, found, remedy)
    return Diagnosis(fits.section, fits.name, fits.state, fits.found, fits.remedy, facts)


def _bytes_at(url: str) -> int | None:
    """The bytes of the set at a URL; None where there is none that can be read."""
    try:
        stored = set_at(url)[0]
    except ShardError:
        return None
    return sum(file.size for file in stored.remote.shards) if stored and stored.remote else None
