"""A data set at a URL gives the tables of the same files in a folder, whatever the network does meanwhile."""

from __future__ import annotations

import runpy
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from conftest import write_pictures
from remote_trees import LAYOUTS
from s3_server import S3Server

from ffdi import store_faults
from ffdi.doctor.data_root import root_diagnosis
from ffdi.errors import FfdiError, InputError, StorageError
from ffdi.intake.decoding.images import ImageSource
from ffdi.intake.ingest import IngestedDataSet, IntakeFiles, ingest_data_set
from ffdi.intake.listing.manifest import is_manifest, list_root, read_manifest
from ffdi.intake.settings import DataSettings
from ffdi.params.paths import image_source
from ffdi.storage import Remote

pytestmark = pytest.mark.s3


def read_all(data: DataSettings, out: Path, manifest: Path | None = None) -> IngestedDataSet:
    files = IntakeFiles(*(out / f"{name}.csv" for name in ("images", "rejected", "skipped")))
    return ingest_data_set(image_source(data), data, files, manifest=manifest)


def tables(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


PARAMS = """
data: {{root: "{root}"}}
split: {{embedding: b}}
backbones: {{b: {{network: "torchvision:mobilenet_v2", weights: random, cut: features.16}}}}
recipes: {{r: {{backbone: b}}}}
ladder: {{recipe: r, backbone: b}}
"""


@pytest.fixture
def two(tmp_path: Path, s3: S3Server) -> Callable[[str], tuple[DataSettings, DataSettings]]:
    """The same data set in a folder and at a URL."""

    def make(layout: str) -> tuple[DataSettings, DataSettings]:
        LAYOUTS[layout](root := tmp_path / "set")
        url = s3.put_folder(root, "lake/set")
        return tuple(DataSettings(where, layout, max_rejected=0.5) for where in (str(root), url))  # type: ignore[return-value, arg-type]

    return make


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_url_gives_the_tables_of_a_folder(
    two: Callable[..., list[DataSettings]], layout: str, tmp_path: Path
) -> None:
    local, remote = two(layout)
    found = read_all(local, tmp_path / "local")
    list_root(remote, manifest := tmp_path / "root")
    again = read_all(remote, tmp_path / "remote", manifest)
    assert tables(tmp_path / "local") == tables(tmp_path / "remote")
    assert found.summary() == again.summary() and found.listing.messages == again.listing.messages
    assert len(found.intake.images) > 3
    read_all(remote, tmp_path / "listed")
    assert tables(tmp_path / "local") == tables(tmp_path / "listed")
    first = [read_all(replace(data, limit=1), tmp_path / "limit").intake.images for data in (local, remote)]
    assert first[0].equals(first[1])  # the first by the parts of their paths: a/ before "a b/"


@pytest.mark.parametrize("layout", ["csv", "multi_ffdi"])
def test_by_its_table_a_root_is_found_without_a_listing(
    two: Callable[..., list[DataSettings]], layout: str, tmp_path: Path, s3: S3Server
) -> None:
    local, remote = two(layout)
    if layout == "csv":  # nobody can say that a name is spelt otherwise in the store
        file = tmp_path / "set/labels.csv"
        file.write_text(file.read_text().replace("JPG", "jpg"))
        s3.put("lake/set/labels.csv", file.read_bytes())
    by_table = DataSettings(remote.root, remote.layout, list_by="table", max_rejected=0.5)
    s3.fail("403", 100, part="list-type")
    read_all(local, tmp_path / "local")
    found = read_all(by_table, tmp_path / "remote")
    assert (tmp_path / "local/images.csv").read_bytes() == (tmp_path / "remote/images.csv").read_bytes()
    assert not [path for path, _ in found.listing.skipped if "unlisted" in path]


def test_a_table_may_hold_whole_urls(tmp_path: Path, s3: S3Server) -> None:
    write_pictures(tmp_path / "set", 4, groups=2)
    url = s3.put_folder(tmp_path / "set", "set")
    text = (tmp_path / "set/labels.csv").read_text()
    s3.put(
        "set/labels.csv",
        "\n".join(f"{url}/{line}" if line[0] == "0" else line for line in text.split("\n")[:-1]).encode(),
    )
    assert min(read_all(DataSettings(url), tmp_path / "out").intake.images["path"]) == "0000.jpg"


def test_faults_that_pass_change_nothing(two: Callable[..., list[DataSettings]], tmp_path: Path, s3: S3Server) -> None:
    local, remote = two("csv")
    read_all(local, tmp_path / "local")
    list_root(remote, manifest := tmp_path / "root")
    for kind in ("500", "503", "drop", "truncate", "short"):
        s3.fail(kind, method="GET", part=".jpg")
    read_all(remote, tmp_path / "remote", manifest)
    assert tables(tmp_path / "local") == tables(tmp_path / "remote")


def test_a_store_that_stays_away_stops_the_run_and_rejects_nothing(
    two: Callable[..., list[DataSettings]], tmp_path: Path, s3: S3Server
) -> None:
    _, remote = two("csv")
    s3.fail("403", 100, part="0003.jpg")
    with pytest.raises(StorageError, match=r"0003.jpg: access denied"):
        read_all(remote, tmp_path / "remote")


def test_a_change_is_seen_in_the_manifest_and_by_those_who_read_later(
    two: Callable[..., list[DataSettings]], tmp_path: Path, s3: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, remote = two("csv")
    told = list_root(remote, manifest := tmp_path / "root")
    before = manifest.read_bytes()
    assert told.startswith(f"{remote.root}: 8 files, ") and is_manifest(manifest)
    assert list_root(remote, manifest) == told and manifest.read_bytes() == before
    rows = read_all(remote, tmp_path / "out", manifest).intake.images
    s3.put("lake/set/0003.jpg", (tmp_path / "set/0004.jpg").read_bytes())
    list_root(remote, manifest)
    assert manifest.read_bytes() != before
    (row,) = rows[rows["path"] == "0003.jpg"].to_dict("records")
    source = image_source(remote)
    assert source.read(row["path"], row["image_id"]) == (tmp_path / "set/0003.jpg").read_bytes()  # kept here by ingest
    monkeypatch.setenv("FFDI_CACHE_GB", "0")
    with pytest.raises(Exception, match="changed since it was ingested"):
        source.read(row["path"], row["image_id"])


def test_a_table_that_changed_since_the_listing_is_said(
    two: Callable[..., list[DataSettings]], tmp_path: Path, s3: S3Server
) -> None:
    _, remote = two("csv")
    list_root(remote, manifest := tmp_path / "root")
    s3.put("lake/set/labels.csv", b"path,label\n0000.jpg,0\n")
    with pytest.raises(InputError, match=r"labels.csv: has changed since it was listed: .*dvc repro"):
        read_all(remote, tmp_path / "out", manifest)


def test_a_table_may_be_one_of_this_machine_but_not_lead_out(
    two: Callable[..., list[DataSettings]], tmp_path: Path
) -> None:
    local, remote = two("csv")
    table = shutil.move(tmp_path / "set/labels.csv", tmp_path / "mine.csv")
    read_all(replace(remote, table=str(table)), tmp_path / "out")
    read_all(replace(local, table=str(table)), tmp_path / "local")
    assert (tmp_path / "out/images.csv").read_bytes() == (tmp_path / "local/images.csv").read_bytes()
    with pytest.raises(InputError, match=r"data.table: '../labels.csv' leads out of s3://"):
        read_all(replace(remote, table="../labels.csv"), tmp_path / "out")


def test_a_file_that_changed_since_the_listing_is_said(
    two: Callable[..., list[DataSettings]], tmp_path: Path, s3: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_faults.time, "sleep", lambda seconds: None)
    _, remote = two("csv")
    list_root(remote, manifest := tmp_path / "root")
    s3.put("lake/set/0003.jpg", b"other")
    with pytest.raises(
        InputError, match=r"0003.jpg: has 5 bytes, and had \d+ when it was listed: list it again: dvc repro"
    ):
        read_all(remote, tmp_path / "out", manifest)


def test_errors_of_a_table_name_the_url(two: Callable[..., list[DataSettings]], tmp_path: Path, s3: S3Server) -> None:
    _, remote = two("csv")
    s3.put("lake/set/labels.csv", b"name,label\n0000.jpg,0\n")
    with pytest.raises(FfdiError, match=r"^s3://bucket-\d+/lake/set/labels.csv: no column 'path'"):
        read_all(remote, tmp_path / "out")


def test_a_manifest_of_another_root_is_not_taken(two: Callable[..., list[DataSettings]], tmp_path: Path) -> None:
    _, remote = two("csv")
    list_root(remote, manifest := tmp_path / "root")
    assert read_manifest(manifest, Remote(remote.root)) and read_manifest(manifest, Remote("s3://other/set")) is None


def test_no_file_below_a_root_is_an_error(tmp_path: Path, s3: S3Server) -> None:
    with pytest.raises(InputError, match="no file below it"):
        list_root(DataSettings(f"{s3.url}/nothing"), tmp_path / "root")
    assert not (tmp_path / "root").exists()


@pytest.mark.parametrize("kind", ["zip", "gztar"])
def test_an_archive_is_fetched_once(tmp_path: Path, s3: S3Server, kind: str) -> None:
    write_pictures(tmp_path / "set", 4, groups=2)
    archive = Path(shutil.make_archive(str(tmp_path / "packed"), kind, tmp_path, "set"))
    s3.put(archive.name, archive.read_bytes())
    data = DataSettings(f"{s3.url}/{archive.name}")
    list_root(data, manifest := tmp_path / "root")
    assert archive.name in manifest.read_text()
    s3.fail("truncate", method="GET", part="packed")
    read_all(DataSettings(str(tmp_path / "set")), tmp_path / "local")
    for _ in range(2):
        read_all(data, tmp_path / "remote", manifest)
    assert tables(tmp_path / "local") == tables(tmp_path / "remote")
    assert s3.asked("GET", "packed") == 2  # one of them cut off
    s3.put(archive.name, b"no archive")
    with pytest.raises(InputError, match=rf"s3://bucket-\d+/{archive.name} is neither"):
        image_source(data)


def test_many_reads_are_under_way_at_once(two: Callable[..., list[DataSettings]], tmp_path: Path) -> None:
    """Each answer waits until 8 requests are there, with 1 thread that decodes."""
    import threading

    from ffdi.intake.ingest import ingest
    from ffdi.intake.listing.layouts import read_layout

    local, _ = two("csv")
    gate = threading.Barrier(6)

    class Slow(ImageSource):
        is_remote = True  # type: ignore[assignment]

        def read(self, path: str, image_id: str = "") -> bytes:
            gate.wait(20)
            return super().read(path, image_id)

        def keep(self, data: bytes, image_id: str) -> None:
            pass

    rows = read_layout(Path(local.root), local).rows[:6]
    assert len(ingest(rows, Slow(Path(local.root)), max_rejected=1.0, workers=1).images) == 6


def test_root_is_a_link_or_a_manifest_and_never_another_file(
    two: Callable[..., list[DataSettings]], tmp_path: Path
) -> None:
    stage = runpy.run_path(str(Path(__file__).parents[2] / "stages/root.py"))["main"]
    out, params = tmp_path / "data/root", tmp_path / "params.yaml"
    for data in 2 * list(two("csv")):
        params.write_text(PARAMS.format(root=data.root))
        done = CliRunner().invoke(stage, ["--params", str(params), "--out", str(out)])
        assert done.exit_code == 0, done.stderr
        assert is_manifest(out) == data.root.startswith("s3://") != out.is_symlink()
    out.write_text("mine")
    done = CliRunner().invoke(stage, ["--params", str(params), "--out", str(out)])
    assert done.exit_code == 1 and "is no link and no manifest" in done.stderr and out.read_text() == "mine"


def test_the_doctor_asks_a_url_for_its_first_file(tmp_path: Path, s3: S3Server) -> None:
    def said(root: str, layout: Any = "csv") -> tuple[str, str]:
        found = root_diagnosis(DataSettings(root, layout), "project")
        return found.state, f"{found.found}; {found.remedy}"

    s3.put("set/labels.csv", b"path,label\n")
    state, line = said(f"{s3.url}/set")
    assert state == "ok" and "is there; a change there is seen after dvc repro --single-item --force root" in line
    assert said(f"{s3.url}/empty") == ("missing", f"{s3.url}/empty has no file; correct data.root in params.yaml")
    assert said("s3://no-such-bucket/set") == (
        "missing",
        "s3://no-such-bucket/set: no such bucket or folder; correct the URL",
    )
    s3.fail("403", 9)
    state, line = said(f"{s3.url}/set")
    assert state == "missing" and "access denied" in line and "AWS_ACCESS_KEY_ID" in line
    assert said(f"file://{tmp_path}")[0] == "ok"
