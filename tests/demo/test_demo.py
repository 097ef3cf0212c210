"""The demo data set: its plan, its bytes, its format."""

import csv
import hashlib
import runpy
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from ffdi.demo.dataset import FAMILY, Planned, draw_picture, forged_region, plan_demo, write_demo
from ffdi.demo.faces import draw_portrait
from ffdi.demo.forgeries import REGIONS, forge
from ffdi.demo.people import draw_identity, draw_shot
from ffdi.errors import InputError

HERE = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("demo") / "demo"
    write_demo(out, identities=6, seed=1, workers=2)
    return out


def rows(demo: Path) -> list[dict[str, str]]:
    with open(demo / "labels.csv", newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def digest(folder: Path) -> dict[str, str]:
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def families(plan: tuple[Planned, ...]) -> dict[int, list[Planned]]:
    found = defaultdict(list)
    for one in plan:
        found[one.family].append(one)
    return found


def test_workers_and_former_runs_do_not_change_the_bytes(demo: Path, tmp_path: Path) -> None:
    stale = tmp_path / "demo" / "img" / "99999.jpg"
    stale.parent.mkdir(parents=True)
    stale.write_bytes(b"left over")
    write_demo(tmp_path / "demo", identities=6, seed=1, workers=1)
    assert digest(tmp_path / "demo") == digest(demo)  # names included: the left-over file is gone
    assert [path.name for path in tmp_path.iterdir()] == ["demo"]


def test_the_foreign_set_is_of_others_and_more_compressed(tmp_path: Path) -> None:
    """So that nothing in it can have been trained on; the same people at that quality would be 10 kB a picture more."""
    (tmp_path / "params.yaml").write_text((HERE / "params.yaml").read_text().replace("identities: 90", "identities: 9"))
    stage = runpy.run_path(str(HERE / "stages" / "demo.py"))["main"]
    for name, options in (("demo", []), ("foreign", ["--foreign"])):
        command = [f"--params={tmp_path / 'params.yaml'}", f"--out={tmp_path / name}", *options]
        assert CliRunner().invoke(stage, command).exit_code == 0
    demo, foreign = (sorted((tmp_path / name / "img").iterdir()) for name in ("demo", "foreign"))
    assert (len(demo), len(foreign)) == (48, 32)  # 16 of each family of three; two families at least
    sizes = [np.mean([file.stat().st_size for file in files]) for files in (demo, foreign)]
    assert sizes[1] < 0.7 * sizes[0]
    assert {f.read_bytes() for f in demo}.isdisjoint({f.read_bytes() for f in foreign})


def test_another_seed_draws_other_people() -> None:
    plan = plan_demo(6, 1)
    for one in (next(one for one in plan if one.label == label) for label in (0, 1)):
        first, second = np.asarray(draw_picture(one, 1)), np.asarray(draw_picture(one, 2))
        assert np.abs(first.astype(int) - second).mean() > 5
    assert [one.label for one in plan] != [one.label for one in plan_demo(6, 2)]


def test_files_give_nothing_away(demo: Path) -> None:
    tables, sampling = [], set()
    for row in rows(demo):
        with Image.open(demo / row["path"]) as image:
            assert (image.format, image.mode, image.size) == ("JPEG", "RGB", (256, 256))
            assert not image.getexif()
            tables.append(image.quantization)
            sampling.add(tuple(part[1:3] for part in image.layer))
            assert set(image.info) == {"jfif", "jfif_version", "jfif_unit", "jfif_density"}
    assert all(table == tables[0] for table in tables)
    assert len(sampling) == 1


def test_labels_table(demo: Path) -> None:
    text = (demo / "labels.csv").read_bytes()
    assert text.startswith(b"path,label,group,identity,forgery\n") and b"\r" not in text
    table = rows(demo)
    assert [row["path"] for row in table] == sorted(str(path.relative_to(demo)) for path in demo.glob("img/*"))
    assert len(table) == 32  # two families of 16
    for row in table:
        assert (row["label"] == "1") == (row["forgery"] in REGIONS)
        assert row["label"] == "1" or row["forgery"] == ""
        assert int(row["identity"].removeprefix("person-")) // FAMILY == int(row["group"].removeprefix("family-"))


@pytest.mark.parametrize(("identities", "seed"), [(90, 0), (90, 3), (61, 0), (6, 5), (8, 2)])
def test_plan(identities: int, seed: int) -> None:
    plan = plan_demo(identities, seed)
    assert plan == plan_demo(identities, seed)
    assert {one.identity for one in plan} == set(range(identities))
    assert len({(one.identity, one.shot) for one in plan}) == len(plan)
    assert 0.45 <= np.mean([one.label for one in plan]) <= 0.55
    for family, members in families(plan).items():
        people = {one.identity for one in members}
        assert len(people) <= FAMILY
        assert {one.label for one in members} == {0, 1}
        assert {one.donor for one in members if one.donor is not None} <= people
        assert all(one.donor is None for one in members if not one.label), family


def test_default_plan_is_large_enough() -> None:
    plan = plan_demo(90, 0)
    assert len(plan) == 480 and len(families(plan)) == 30
    assert {one.forgery for one in plan} == {None, *REGIONS}
    labels = np.array([one.label for one in plan])
    assert abs(np.corrcoef(labels, np.arange(len(plan)))[0, 1]) < 0.15  # names do not order the classes


def test_forgery_stays_in_its_region() -> None:
    person = draw_identity(1, 0, 0)
    shot = replace(draw_shot(1, 0, 0), zoom=0.6)
    target = draw_portrait(person, shot)
    donor = draw_portrait(draw_identity(1, 0, 1), shot).picture
    for region in REGIONS:
        forged = forge(target.picture, target.face, donor, region, np.random.default_rng(0))
        changed = np.abs(forged - target.picture).max(0) > 1e-3
        assert 0.002 < changed.mean() < 0.5, region
        assert not changed[:8].any() and not changed[:, :8].any(), region


def test_too_few_identities() -> None:
    with pytest.raises(InputError, match="at least 6"):
        plan_demo(5, 0)


def test_the_forged_region_is_where_the_picture_differs_from_the_genuine_one() -> None:
    planned = next(one for one in plan_demo(6, 0) if one.forgery == "face")
    forged, genuine = (
        np.asarray(draw_picture(one, 0), int) for one in (planned, replace(planned, forgery=None, donor=None))
    )
    region, changed = forged_region(planned, 0), np.abs(forged - genuine).max(axis=2) > 0
    assert region.shape == (256, 256) and 0.7 < region.max() <= 0.95
    assert not changed[region == 0].any() and changed[region > 0.5].mean() > 0.9
    assert not forged_region(replace(planned, forgery=None, donor=None), 0).any()
