"""Leaks and shortcuts of 28 kinds are all found. Every seed plants them at another strength and in other images.

On the demo, and on real faces where these are available. bench/audit_rates.py measures a wider range of strengths.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from drawn_demo import drawn_demo
from plants import (
    COPIES,
    Added,
    DataSet,
    by_class,
    crop,
    draw_strength,
    draw_victims,
    edited,
    elsewhere,
    found,
    jpeg,
    plant_copy,
    with_given_splits,
)

from ffdi.errors import InputError
from ffdi.intake.auditing.findings import SOURCE_OVERLAP
from ffdi.intake.auditing.leaks import find_leaks
from ffdi.intake.decoding.images import ImageSource, read_bytes
from ffdi.intake.ingest import ingest
from ffdi.intake.settings import AuditSettings, SplitSettings
from ffdi.intake.splitting.folds import assign_folds
from ffdi.intake.tables import sides

SEEDS = [0, 1, 2, *(pytest.param(seed, marks=pytest.mark.long) for seed in range(3, 10))]


pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", params=["demo", pytest.param("ciplab160", marks=[pytest.mark.real, pytest.mark.long])])
def data(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[DataSet]:
    folder = tmp_path_factory.mktemp(request.param)
    if request.param == "demo":
        yield DataSet.read(drawn_demo(folder), "csv", folder)
    else:
        real: Path = request.getfixturevalue("real")
        yield DataSet.read(real / "data" / "ciplab160", "imagefolder", folder)


def test_nothing_is_found_in_the_clean_set(data: DataSet) -> None:
    assert data.leaks() == []
    assert not any(data.is_loud(family) for family in ("size", "dimensions", "encoding", "metadata"))


@pytest.mark.parametrize("seed", SEEDS)
def test_copies(data: DataSet, seed: int) -> None:
    draw = np.random.default_rng([seed, 0])
    victims = draw_victims(data, draw, len(COPIES) + 1)
    strengths = {kind: draw_strength(kind, draw) for kind in COPIES}
    added = [
        plant_copy(data, row, jpeg(change(data.picture(row), strengths[kind], draw)), kind, draw)
        for row, (kind, (change, _, _)) in zip(victims, COPIES.items(), strict=False)
    ]
    added.append(plant_copy(data, victims[-1], read_bytes(data.root, data.rows["path"][victims[-1]]), "copy", draw))
    added[-1].fields["image_id"] = data.rows["image_id"][victims[-1]]
    leaks = data.with_images(added).leaks()
    assert {kind: strengths.get(kind) for kind in (*COPIES, "copy") if not found(leaks, kind)} == {}
    assert found(leaks, "copy", ("exact_duplicate_across_border",))
    assert [f for f in leaks if "planted/" not in f.path_a + f.path_b] == []


@pytest.mark.parametrize("seed", SEEDS)
def test_persons_videos_labels_and_forgeries(data: DataSet, seed: int) -> None:
    draw = np.random.default_rng([seed, 1])
    person, video, conflict, forged, other = draw_victims(data, draw, 5)
    picture, label = data.picture(conflict), int(data.rows["label"][conflict])
    stranger = jpeg(data.picture(other).rotate(90).resize((80, 80)).rotate(45).convert("RGB"))
    forgery = edited(data.picture(forged), data.picture(other), draw.uniform(0.15, 0.25), draw)
    named = data.rows.assign(intake_group=data.rows["intake_group"].where(data.rows.index != person, "anna"))
    added = [
        Added(
            stranger, {"path": "planted/person.jpg", "label": 0, "intake_group": "anna"} | elsewhere(data, person, draw)
        ),
        plant_copy(data, conflict, jpeg(picture, int(draw.integers(60, 90))), "conflict", draw, label=1 - label),
        plant_copy(
            data,
            forged,
            jpeg(crop(forgery, draw.uniform(0.9, 1), draw)),
            "forged",
            draw,
            label=1 - data.rows["label"][forged],
        ),
    ]
    frames = int(draw.integers(3, 6))
    added += [
        plant_copy(
            data, video, jpeg(COPIES["video frame, movement"][0](data.picture(video), 0.05, draw)), f"frame{n}", draw
        )
        for n in range(frames)
    ]
    leaks = DataSet(data.root, named, data.inputs).with_images(added).leaks()
    assert found(leaks, "person", ("group_across_border",))
    assert found(leaks, "conflict", ("label_conflict",))
    assert found(leaks, "forged", (SOURCE_OVERLAP, "perceptual_duplicate_across_border"))
    assert not found(leaks, "forged", ("label_conflict",))
    assert all(found(leaks, f"frame{n}") for n in range(frames))


@pytest.mark.parametrize("seed", SEEDS)
def test_shortcuts_of_the_files(data: DataSet, seed: int) -> None:
    draw = np.random.default_rng([seed, 2])
    planted = by_class(data, draw, share=draw.uniform(0.4, 1))
    assert {family for family, marked in planted.items() if not marked.is_loud(family)} == set()


@pytest.mark.parametrize("seed", SEEDS)
def test_swapped_polarity(data: DataSet, seed: int) -> None:
    draw = np.random.default_rng([seed, 3])
    assert with_given_splits(data, draw, turned=True).inverted()
    assert not with_given_splits(data, draw, turned=False).inverted()


@pytest.mark.parametrize("seed", SEEDS)
def test_what_split_and_ingest_refuse(data: DataSet, seed: int) -> None:
    draw = np.random.default_rng([seed, 4])
    rows = data.rows.assign(group="", given_split="")
    one, other = draw.choice(len(rows), 2, replace=False)
    rows.loc[[one, other], "group"] = "anna"
    rows.loc[[one, other], "given_split"] = ["train", "test"]
    with pytest.raises(InputError, match="'anna' stands in two given splits"):
        assign_folds(rows, np.empty((0, 2), np.int64), SplitSettings())

    twice = data.rows.loc[[one, one], ["path", "label"]].assign(group="", given_split="")
    merged = ingest(twice.reset_index(drop=True), ImageSource(data.root, 10**8))
    assert (len(merged.images), merged.duplicates) == (1, 1)
    twice["label"] = [0, 1]
    with pytest.raises(InputError, match="the same image under two labels"):
        ingest(twice.reset_index(drop=True), ImageSource(data.root, 10**8))

    place = str(draw.choice([s for s in np.unique(sides(data.rows)) if s != "test"]))
    alone = data.rows[(sides(data.rows) != place) | (data.rows["label"] == draw.integers(2))]
    assert place in next(f.detail for f in find_leaks(alone, AuditSettings()) if f.check == "fold_without_class")
