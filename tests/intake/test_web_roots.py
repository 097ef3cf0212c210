"""A data set at https://, where nobody can list files: its table names them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from conftest import write_pictures

from ffdi.errors import InputError, StorageError
from ffdi.intake.decoding.images import ImageSource
from ffdi.intake.ingest import IntakeFiles, ingest_data_set
from ffdi.intake.listing.manifest import list_root
from ffdi.intake.settings import DataSettings
from ffdi.params.paths import image_source
from ffdi.storage import Remote
from ffdi.store_faults import Patience


class Quiet(SimpleHTTPRequestHandler):
    busy = 0  # answers that are 503

    def log_message(self, *_: Any) -> None:
        pass

    def do_HEAD(self) -> None:
        if not self.refused():
            super().do_HEAD()

    def do_GET(self) -> None:
        if not self.refused():
            super().do_GET()

    def refused(self) -> bool:
        if Quiet.busy:
            Quiet.busy -= 1
            self.send_error(503)
            return True
        return False


@pytest.fixture
def web(tmp_path: Path) -> Iterator[str]:
    """The URL of a data set on loopback."""
    write_pictures(tmp_path / "a set", 6, groups=2)
    (tmp_path / "a set/0000.jpg").rename(tmp_path / "a set/50% ä#1?.jpg")
    labels = tmp_path / "a set/labels.csv"
    labels.write_text(labels.read_text().replace("0000.jpg", "50% ä#1?.jpg") + "none.jpg,0,g9\n")
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path)))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/a set"
    finally:
        server.shutdown()
        server.server_close()


def test_a_table_names_the_files_of_a_web_server(web: str, tmp_path: Path) -> None:
    there = DataSettings(web, max_rejected=0.5)
    told = list_root(there, manifest := tmp_path / "root")
    assert told.startswith(f"{web}: 7 files, ")
    before = manifest.read_bytes()
    for source, name in ((ImageSource(tmp_path / "a set"), "local"), (image_source(there), "web")):
        files = IntakeFiles(*(tmp_path / name / f"{table}.csv" for table in ("images", "rejected", "skipped")))
        Quiet.busy = 2 * (name == "web")
        ingest_data_set(source, there, files, manifest=manifest)
    for table in ("images", "rejected", "skipped"):
        assert (tmp_path / f"local/{table}.csv").read_bytes() == (tmp_path / f"web/{table}.csv").read_bytes(), table
    (tmp_path / "a set/0003.jpg").write_bytes((tmp_path / "a set/0002.jpg").read_bytes() + b"\0")
    list_root(there, manifest)
    assert manifest.read_bytes() != before


def test_what_is_wrong_at_a_web_server_is_said(web: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="a web server lists no files, as layout imagefolder needs"):
        list_root(DataSettings(web, "imagefolder"), tmp_path / "root")
    with pytest.raises(InputError, match="lists no files, as layout celeb_df needs: take layout csv"):
        list_root(DataSettings(web, "celeb_df"), tmp_path / "root")
    with pytest.raises(InputError, match="lists no files, as layout auto needs: name the layout"):
        list_root(DataSettings(web, "auto"), tmp_path / "root")
    with pytest.raises(InputError, match=r"labels2.csv: No such file"):
        list_root(DataSettings(web, table="labels2.csv"), tmp_path / "root")
    Quiet.busy = 4
    with pytest.raises(StorageError, match=r"busy or failing \(503\), 2 attempts"):
        Remote(web, Patience(2, 0.01)).exists("labels.csv")
    Quiet.busy = 0
    assert Remote(web)._files.client_kwargs["timeout"].total is None  # aiohttp's own ends a large file
    with pytest.raises(StorageError, match=r"the connection failed"):
        Remote("http://127.0.0.1:9/set", Patience(2, 0.01)).exists("labels.csv")
