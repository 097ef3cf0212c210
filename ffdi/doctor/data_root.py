"""Whether the images are where data.root says."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from ffdi.doctor.diagnosis import Diagnosis, State, one_of
from ffdi.errors import InputError, StorageError
from ffdi.intake.listing.layouts import recognised_layout
from ffdi.intake.listing.placing import has_other_files
from ffdi.intake.listing.remote_listing import tables_by_name
from ffdi.intake.remote_archives import is_archive_name
from ffdi.intake.settings import DataSettings
from ffdi.params.paths import resolve_path
from ffdi.storage import Remote
from ffdi.store_faults import Patience
from ffdi.urls import local_path

_SOON = Patience(attempts=2)
_MADE = {"data/demo": "dvc repro draws it", "data/faces": "dvc repro makes it where section faces has its name"}
_LIST_AGAIN = "dvc repro --single-item --force root"
_AGAIN = f"a change there is seen after {_LIST_AGAIN}"


def root_diagnoses(data: DataSettings, section: str) -> Iterator[Diagnosis]:
    """Of data.root, or of each of the sets that it lists."""
    for one in data.sets:
        yield root_diagnosis(one, section, f"data.root {one.called}", Path("data/root") / one.called)
    if not data.sets:
        yield root_diagnosis(data, section)


def root_diagnosis(
    data: DataSettings, section: str, name: str = "data.root", manifest: Path = Path("data/root")
) -> Diagnosis:
    """Of the root of one set: a folder, an archive, or a URL that is asked for its first file."""
    path = local_path(data.place)
    if path is None:
        return _of_url(data, section, name, manifest)
    root = resolve_path(path)
    found = f"{root} {'is there' if root.exists() else 'is not there'}"
    if data.layout == "auto" and root.is_dir():
        try:
            found += f"; {recognised_layout(root, data)}"
        except InputError as error:
            place, _, told = str(error).partition(": ")
            return Diagnosis(section, name, "missing", f"{place}: {told}", "name the layout in params.yaml")
    if root.is_dir() and has_other_files(root, manifest):
        return Diagnosis(section, name, "note", f"{found}, with other files than {manifest}", _LIST_AGAIN)
    made = next((remedy for place, remedy in _MADE.items() if Path(path).is_relative_to(place)), "")
    state: State = "ok" if root.exists() else "note" if made else "missing"
    return one_of(state, section, name, found, made or f"correct {name} in params.yaml")


def _of_url(data: DataSettings, section: str, name: str, manifest: Path) -> Diagnosis:
    try:
        remote = Remote(data.place, _SOON)
        if is_archive_name(remote.url):
            there = remote.exists("")
        elif remote.can_list:
            there = next(remote.files(), None) is not None
        else:
            there = any(map(remote.exists, tables_by_name(remote, data)))
    except (InputError, StorageError) as error:
        place, _, reason = str(error).partition(": ")
        told, _, cure = reason.partition(": ")
        return Diagnosis(section, name, "missing", f"{place}: {told}", cure or "correct data.root in params.yaml")
    listed = f" (listed in {manifest})" if manifest.is_file() else ""
    found = f"{remote.url} is there{listed}; {_AGAIN}" if there else f"{remote.url} has no file"
    return one_of("ok" if there else "missing", section, name, found, "correct data.root in params.yaml")
