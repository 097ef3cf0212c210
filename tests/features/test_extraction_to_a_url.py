"""extract.store from end to end: the features, the commands that look at them, and what is refused."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from conftest import Tiny
from s3_server import S3Server
from tiny_extraction import TinyExtraction, contents

from ffdi import store_faults
from ffdi.commands.main import main
from ffdi.console import Console
from ffdi.doctor.feature_store import store_diagnosis
from ffdi.errors import ParamsError
from ffdi.features.backbone import Backbone
from ffdi.features.extractor import load_extractor
from ffdi.features.perturbed import PerturbationSweep, extract_perturbed
from ffdi.features.settings import ExtractSettings
from ffdi.features.shard_dataset import ShardDataset
from ffdi.features.store import FeatureStore
from ffdi.intake.decoding.images import ImageSource
from ffdi.params.reading import read_params
from ffdi.storage import Remote

pytestmark = pytest.mark.s3


@pytest.fixture
def extraction(
    s3: S3Server,
    tiny: Tiny,
    backbone: Callable[..., Backbone],
    weights: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> TinyExtraction:
    monkeypatch.setattr(store_faults.time, "sleep", lambda seconds: None)
    monkeypatch.setenv("FFDI_CACHE", str(tmp_path / "cache"))
    return TinyExtraction(tiny, backbone, weights, tmp_path / "f")


def test_features_at_a_url_are_those_of_a_folder(extraction: TinyExtraction, s3: S3Server, tmp_path: Path) -> None:
    said: list[str] = []
    there = extraction(store=s3.url, console=Console(say=said.append))
    here = extraction(out=tmp_path / "local")
    assert (there.computed, there.bytes) == (here.computed, here.bytes) and f" at {s3.url}/tiny" in said[0]
    local = contents(tmp_path / "local")
    assert contents(tmp_path / "f")["index.json"] == local["index.json"]
    stores = [FeatureStore(place) for place in (tmp_path / "f", f"{s3.url}/tiny", tmp_path / "local")]
    rows = stores[2].rows
    assert all(store.rows == rows and store.read(rows).tobytes() == stores[2].read(rows).tobytes() for store in stores)
    again = extraction(store=s3.url)
    assert (again.computed, again.reused) == (0, len(rows))
    data = ShardDataset(f"{s3.url}/tiny", {rows[0][0]: 1})
    assert data[0][1] == 1 and np.array_equal(data[0][0], stores[2].read(rows[:1])[0])


def test_a_narrower_keep_is_derived_from_shards_at_a_url(
    extraction: TinyExtraction, s3: S3Server, tmp_path: Path
) -> None:
    extraction(store=s3.url)
    extraction(keep="mean", out=tmp_path / "computed" / "narrow")
    same = extraction(keep="mean", store=s3.url)  # in its place
    assert (same.computed, same.derived) == (0, same.rows)
    narrow, computed = FeatureStore(tmp_path / "f"), FeatureStore(tmp_path / "computed/narrow")
    assert narrow.read(narrow.rows).tobytes() == computed.read(computed.rows).tobytes()
    assert [e["sha256"] for e in narrow.index.shards] == [e["sha256"] for e in computed.index.shards]
    assert len([key for key in sorted(s3.stored()) if key.endswith(".h5")]) == len(narrow.index.shards)


def test_perturbed_features_stay_in_their_folder(
    extraction: TinyExtraction, s3: S3Server, tiny: Tiny, weights: Path, tmp_path: Path
) -> None:
    sweep = PerturbationSweep(
        ["jpeg-30"], tmp_path / "swept", ImageSource(tiny.root, 10**6), ExtractSettings(store=s3.url)
    )
    extract_perturbed(load_extractor(extraction.backbone(), weights), tiny.rows.head(2), sweep)
    assert s3.stored() == [] and (tmp_path / "swept/jpeg-30/shard-00000.h5").exists()


def test_the_commands_read_a_url(extraction: TinyExtraction, s3: S3Server, tmp_path: Path) -> None:
    extraction(store=s3.url)
    url, (first, *_) = f"{s3.url}/tiny", (key for key in sorted(s3.stored()) if key.endswith(".h5"))
    for place in (url, str(tmp_path / "f")):
        listed = CliRunner().invoke(main, ["shards", "ls", place])
        assert f"at {url}\n" in listed.stdout and re.search(
            r"shard-00000\.h5  7 rows  [\d.]+ kB  sha256", listed.stdout
        )
        verified = CliRunner().invoke(main, ["shards", "verify", place])
        assert verified.exit_code == 0 and "shards are whole" in verified.stdout
    exported = CliRunner().invoke(main, ["shards", "export", url, str(tmp_path / "npz")])
    assert len(exported.stdout.splitlines()) == len(FeatureStore(url).index.shards)
    remote = Remote(s3.url)
    whole = remote.read(first)
    remote.put_bytes(whole[:-9] + bytes(9), first)  # the cache has the right bytes: verify reads those at the URL
    damaged = CliRunner().invoke(main, ["shards", "verify", url])
    assert damaged.exit_code == 1 and f"{s3.url}/{first}: sha256 differs from the index" in damaged.stderr
    again = extraction(store=s3.url)
    assert 0 < again.computed <= 7 and remote.read(first) == whole
    remote.delete(first)
    assert "  missing  " in CliRunner().invoke(main, ["shards", "ls", url]).stdout


def test_doctor_says_what_is_there_and_whether_the_cache_holds_it(
    extraction: TinyExtraction, s3: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    empty = store_diagnosis(s3.url, ["tiny", "other"])
    assert (empty.state, empty.found) == ("ok", f"{s3.url} has none of the backbones yet; the cache here takes 20 GB")
    extraction(store=s3.url)
    full = store_diagnosis(s3.url, ["tiny", "other"])
    assert full.state == "ok" and re.search(r" has tiny [\d.]+ kB; ", full.found) and full.facts["bytes"]["tiny"] > 0
    monkeypatch.setenv("FFDI_CACHE_GB", "0.00001")
    assert store_diagnosis(s3.url, ["tiny"]).remedy.startswith("FFDI_CACHE_GB=N: a set that is larger")
    gone = store_diagnosis("s3://no-such-bucket/f", ["tiny"])
    assert (gone.state, gone.found) == ("missing", "s3://no-such-bucket/f: no such bucket or folder: correct the URL")


def test_a_store_that_refuses_to_be_written_ends_the_run_in_one_line(extraction: TinyExtraction, s3: S3Server) -> None:
    s3.fail("403", 1000, method="PUT")
    with pytest.raises(store_faults.StorageError, match=r"^s3://.*\.h5: access denied") as raised:
        extraction(store=s3.url)
    assert "\n" not in str(raised.value)
    assert not (extraction.out / "index.json").exists()
    s3.faults.clear()
    assert replace(extraction, out=extraction.out)(store=s3.url).computed > 0


@pytest.mark.parametrize(
    ("store", "says"),
    [
        ("s3://key:hidden@bucket/f", r"extract\.store: .*holds a user name or a key: leave it out"),
        ("s3://bucket/f?X-Amz-Signature=hidden", r"extract\.store: .*holds a query, such as a signature"),
        ("https://example.org/f", r"extract\.store: .*a web server cannot be written to"),
        ("/mnt/features", r"extract\.store: .*is no URL, such as s3://bucket/features"),
    ],
)
def test_a_store_that_cannot_be_is_refused_without_its_secret(store: str, says: str, tmp_path: Path) -> None:
    params = (
        (Path(__file__).parents[2] / "params.yaml").read_text().replace("extract: {", f'extract: {{store: "{store}", ')
    )
    file = tmp_path / "params.yaml"
    file.write_text(params)
    with pytest.raises(ParamsError, match=says) as raised:
        read_params(file)
    assert "hidden" not in str(raised.value)
    file.write_text(params.replace("extract: {", "extract: [{"))
    with pytest.raises(ParamsError, match="not readable as YAML") as raised:
        read_params(file)
    assert "hidden" not in str(raised.value)
    file.write_text(params.replace(store, "s3://bucket/features"))
    assert read_params(file).extract.store == "s3://bucket/features"


@pytest.mark.ray
@pytest.mark.long
def test_workers_of_a_cluster_upload_themselves(ray_cluster: Any, extraction: TinyExtraction, tmp_path: Path) -> None:
    extraction(out=tmp_path / "local")
    url = (tmp_path / "mounted").as_uri()  # whose environment is that of every worker
    done = extraction(store=url, engine="ray")
    assert done.computed == done.rows and contents(tmp_path / "f").keys() == {"index.json", "store.json"}
    assert contents(tmp_path / "f")["index.json"] == contents(tmp_path / "local")["index.json"]
    there, here = FeatureStore(f"{url}/tiny"), FeatureStore(tmp_path / "local")
    there.verify_bytes()
    assert there.read(here.rows).tobytes() == here.read(here.rows).tobytes()
