"""A probe finds the planted shortcut and no other; swapped labels are reported, correct ones are not."""

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from probe_cases import aucs, changed, probe, uniform, written

from ffdi.bootstrap import Bootstrap
from ffdi.console import Console
from ffdi.errors import InputError
from ffdi.intake.auditing import probe_inputs
from ffdi.intake.auditing.classifier import cross_validated_scores
from ffdi.intake.auditing.file_facts import fact_features, file_facts
from ffdi.intake.auditing.inverted_labels import inverted_labels
from ffdi.intake.auditing.probe_inputs import ProbeInputs, ProbeSample, read_probe_inputs
from ffdi.intake.auditing.shortcuts import FACTS, PROBES, warnings
from ffdi.intake.decoding.images import ImageSource
from ffdi.intake.near_duplicates.variants import sketch

SHORTCUTS: list[tuple[str, dict[str, Any]]] = [
    ("size", {"bytes": 5500}),
    ("dimensions", {"width": 30, "height": 40}),  # as many pixels
    ("dimensions", {"width": 60, "height": 20}),
    ("encoding", {"coarseness": 9.1}),
    ("encoding", {"tables": "cd"}),
    ("encoding", {"sampling": "1x1 1x1 1x1"}),
    ("encoding", {"mode": "L"}),
    ("encoding", {"progressive": 1}),
    ("encoding", {"format": "PNG"}),
    ("metadata", {"exif_tags": 4}),
    ("metadata", {"software": "||GIMP"}),
    ("metadata", {"marks": "dpi jfif"}),
    ("name", {"path": lambda i: f"{i}/y.jpg"}),
    ("name", {"path": lambda i: f"{i}/xx.jpg"}),
    ("name", {"path": lambda i: f"{i}/7.jpg"}),
]


@pytest.mark.parametrize(("family", "values"), SHORTCUTS)
def test_each_family_finds_its_own_shortcut_and_no_other(family: str, values: dict[str, Any]) -> None:
    rows, inputs = uniform(40)
    out = aucs(probe(*changed(rows, inputs, rows["label"], **values)))
    assert out == {name: 1.0 if name in (family, "file_facts") else 0.5 for name in PROBES[:-1]} | {
        "nearest_neighbour": None
    }


@pytest.mark.parametrize("fakes", [2, 3, 7])
def test_what_is_the_same_everywhere_tells_nothing(fakes: int) -> None:
    rows, inputs = uniform(61, fakes)
    out = probe(rows, inputs)
    assert set(aucs(out).values()) == {0.5, None}
    assert all(out[f"probe_{name}_auc_{end}"] == 0.5 for name in PROBES[:-1] for end in ("low", "high"))


def test_a_number_in_the_name_is_a_shortcut_by_its_height() -> None:
    rows, inputs = uniform(40)
    rows["path"] = [f"{4000 + i if y else 1000 + i}.png" for i, y in enumerate(rows["label"])]
    assert probe(rows, inputs)["probe_name_auc"] == 1.0
    rows["path"] = [f"face/{1000 + i}.png" for i in range(40)]  # by turns: neither pattern nor height
    assert probe(rows, inputs)["probe_name_auc"] < 0.75


def test_folders_endings_and_case_are_no_shortcut() -> None:
    rows, inputs = uniform(40)
    rows["path"] = [f"fake/a.b/{i:02d}_X.png" if i % 2 else f"{i:02d}_x.jpg" for i in range(40)]
    rows["label"] = [i % 2 for i in range(40)]
    name = fact_features(rows, inputs.facts)["name"]
    assert name.shape == (40, 4)  # length, digits, number, one pattern
    assert (name[:, :2] == [4, 2]).all() and (name[:, 2] == np.arange(40)).all() and (name[:, 3] == 1).all()


def test_file_facts_are_all_facts_together() -> None:
    rows, inputs = uniform(60)
    # Each family gives away another fifth of the fakes.
    fakes = np.flatnonzero(rows["label"])
    for fifth, (_, values) in enumerate([SHORTCUTS[i] for i in (0, 1, 3, 9, 12)]):
        rows, inputs = changed(rows, inputs, np.isin(np.arange(60), fakes[fifth::5]), **values)
    out = aucs(probe(rows, inputs))
    assert all(0.5 < out[name] < 0.8 for name in FACTS) and out["file_facts"] == 1.0 and out["thumbnail"] == 0.5
    facts = fact_features(rows, inputs.facts)
    assert tuple(facts) == FACTS and all(len(matrix) == 60 for matrix in facts.values())


def test_only_the_commonest_values_are_told_apart() -> None:
    rows, inputs = uniform(60)
    facts = inputs.facts.assign(software=[f"tool {min(i // 2, 25)}" for i in range(60)])
    # 8 images of the last tool and two of each other: it and 19 of the others, besides the number of tags and one mark.
    metadata = fact_features(rows, facts)["metadata"]
    assert metadata.shape == (60, 22) and sorted(metadata.sum(axis=0)) == [0.0, *[2.0] * 19, 10.0, 60.0]


def test_thumbnails_find_brightness_and_nothing_else_does() -> None:
    rows, inputs = uniform(40)
    bright = ProbeInputs(
        inputs.facts, inputs.thumbnails + 40 * rows["label"].to_numpy(np.uint8)[:, None], inputs.sketches
    )
    assert aucs(probe(rows, bright)) == dict.fromkeys(PROBES, 0.5) | {"thumbnail": 1.0, "nearest_neighbour": None}


def test_probes_tell_a_shortcut_from_none(tmp_path: Path) -> None:
    rows = written(tmp_path, 40)
    out = probe(rows, tmp_path)
    assert out["probe_file_facts_auc"] < 0.75 and out["probe_thumbnail_auc"] < 0.75
    assert out["probe_file_facts_auc_low"] < out["probe_file_facts_auc"] < out["probe_file_facts_auc_high"]
    assert out["probe_nearest_neighbour_auc"] is None
    assert "use_embedding is off" in out["probe_nearest_neighbour_auc_reason"]
    assert not [line for line in warnings(out) if line.startswith("WARNING")]
    json.dumps(out, allow_nan=False)
    assert probe(rows, tmp_path) == out

    heavy = written(tmp_path, 40, comment=b"x" * 2000)  # every fake file is longer, its pixels are as before
    out = probe(heavy, tmp_path)
    assert out["probe_file_facts_auc"] == out["probe_size_auc"] == out["probe_metadata_auc"] == 1.0
    assert out["probe_encoding_auc"] == out["probe_dimensions_auc"] == 0.5
    sizes = rows.assign(width=[32 + y for y in rows["label"]])
    assert probe(sizes, tmp_path)["probe_file_facts_auc"] == 1.0


def test_a_shortcut_that_marks_a_person_is_none() -> None:
    """Twelve persons of five images, each of one label, each with a file size of its own: nothing for a new person."""
    rows, inputs = uniform(60)
    rows["group"], rows["label"] = [f"g{i // 5:02d}" for i in range(60)], [i // 5 % 2 for i in range(60)]
    size = np.random.default_rng(2).permutation(12)[np.arange(60) // 5] * 100 + 5000
    tables = [f"table {i // 5}" for i in range(60)]
    facts = inputs.facts.assign(bytes=size, tables=tables)
    out = probe(rows, ProbeInputs(facts, inputs.thumbnails, inputs.sketches))
    assert out["probe_encoding_auc"] < 0.75 and out["probe_encoding_auc_low"] < 0.55


def test_the_neighbour_probe_looks_at_other_groups(tmp_path: Path) -> None:
    rows = written(tmp_path, 24)
    rng = np.random.default_rng(0)
    by_label = np.stack([rows["label"], 1 - rows["label"]], axis=1) + rng.normal(0, 0.01, (24, 2))
    assert probe(rows, tmp_path, embeddings=by_label)["probe_nearest_neighbour_auc"] == 1.0
    lengths = by_label * rng.uniform(0.1, 9, (24, 1))  # a length says nothing
    assert probe(rows, tmp_path, embeddings=lengths)["probe_nearest_neighbour_auc"] == 1.0
    # Four persons of six images each, every one of one label: a person's own images would give all away.
    rows["group"], rows["label"] = [f"g{i // 6}" for i in range(24)], [i // 12 for i in range(24)]
    by_group = np.eye(4)[[i // 6 for i in range(24)]] + rng.normal(0, 0.01, (24, 4))
    assert probe(rows, tmp_path, embeddings=by_group)["probe_nearest_neighbour_auc"] < 0.9


@pytest.mark.parametrize(
    "change",
    [
        {"label": 1},
        {"group": "one"},
        {"group": ["f" if i % 2 else f"r{i}" for i in range(12)]},
    ],
)
def test_probes_that_cannot_be_judged_are_null_with_the_right_reason(tmp_path: Path, change: dict[str, Any]) -> None:
    out = probe(written(tmp_path, 12).assign(**change), tmp_path)
    for name in PROBES[:-1]:
        for key in (f"probe_{name}_auc", f"probe_{name}_auc_low", f"probe_{name}_auc_high"):
            assert out[key] is None
            assert out[f"{key}_reason"] == "undefined: too few groups or one class"
    assert out["probe_nearest_neighbour_auc_reason"] == "undefined: audit.use_embedding is off"
    assert warnings(out) == []


def test_the_neighbours_of_one_class_are_null() -> None:
    rows, inputs = uniform(12)
    out = probe(rows.assign(label=0), inputs, embeddings=np.eye(12))
    assert out["probe_nearest_neighbour_auc"] is None
    assert out["probe_nearest_neighbour_auc_reason"] == "undefined: too few groups or one class"


def test_a_vanished_image_is_named(tmp_path: Path) -> None:
    rows = written(tmp_path, 12)
    (tmp_path / "3.jpg").unlink()
    with pytest.raises(InputError, match=r"3\.jpg: cannot be read: No such file"):
        probe(rows, tmp_path)


def test_inputs_are_what_the_files_hold_in_the_order_of_the_rows(tmp_path: Path) -> None:
    rows = written(tmp_path, 9).iloc[::-1]
    seen: list[Any] = []

    def progress(results: Iterator[Any], total: int, *, unit: str = "images", phase: str = "") -> Iterator[Any]:
        assert (total, unit, phase) == (len(rows), "images", "")
        for result in results:
            seen.append(result)
            yield result

    out = read_probe_inputs(rows, ImageSource(tmp_path, 10**6), Console(progress=progress))
    assert len(seen) == len(out.facts) == 9
    assert out.thumbnails.shape == (9, 192) and out.thumbnails.dtype == np.uint8
    assert out.sketches.shape == (9, 64, 64) and out.sketches.dtype == np.uint8
    for i, path in enumerate(rows["path"]):
        data = (tmp_path / path).read_bytes()
        image = Image.open(io.BytesIO(data))
        assert out.facts.iloc[i].to_dict() == file_facts(data)
        assert (out.sketches[i] == sketch(image)).all()
        assert (out.thumbnails[i].reshape(8, 8, 3) == np.asarray(image.resize((8, 8)))).all()
    with pytest.raises(InputError, match=r"8\.jpg: 32x32 is more than data.max_pixels = 9"):
        read_probe_inputs(rows, ImageSource(tmp_path, 9))


def test_of_very_many_images_the_first_are_probed(monkeypatch: pytest.MonkeyPatch) -> None:
    rows, inputs = uniform(60)
    rng = np.random.default_rng(0)
    facts = inputs.facts.assign(bytes=rng.integers(4000, 6000, 60), exif_tags=rng.integers(0, 5, 60))
    thumbnails = rng.integers(0, 256, (60, 192), dtype=np.uint8)
    embeddings = rng.normal(size=(60, 4))
    rows["given_split"] = ["train"] * 20 + ["test"] * 10 + ["train"] * 30
    first = ProbeInputs(facts[:30], thumbnails[:30], inputs.sketches[:30])
    due = probe(rows[:30], first, embeddings=embeddings[:30])
    whole = ProbeInputs(facts, thumbnails, inputs.sketches)
    assert probe(rows, whole, embeddings=embeddings) != due
    monkeypatch.setattr(probe_inputs, "MOST_PROBED", 30)
    assert probe(rows, whole, embeddings=embeddings) == due
    turned = np.where(np.arange(60) < 20, rows["label"], 1 - rows["label"])
    by_label = rows["label"].to_numpy()[:, None] + rng.normal(0, 0.01, (60, 2))
    rows["label"] = turned
    says = inverted_labels(ProbeSample.take(rows, whole, by_label), Bootstrap(100))
    assert says == inverted_labels(ProbeSample.take(rows[:30], first, by_label[:30]), Bootstrap(100)) != ""


def figures(**values: tuple[float, float, float]) -> dict[str, Any]:
    out: dict[str, Any] = {f"probe_{name}_auc": None for name in PROBES}
    for name, found in values.items():
        out |= {f"probe_{name}_auc{end}": value for end, value in zip(("", "_low", "_high"), found, strict=True)}
    return out


def test_warnings_are_loud_where_the_whole_interval_is_above() -> None:
    assert warnings(figures()) == []
    found = figures(
        thumbnail=(0.7, 0.56, 0.81234),
        file_facts=(0.9, 0.55, 1.0),
        name=(0.1, 0.0, 0.2),
        nearest_neighbour=(0.87654, 0.8, 0.9),
    )
    assert warnings(found) == [
        "file facts alone tells fake from real at AUC 0.900 [0.550, 1.000]",
        "name alone tells fake from real at AUC 0.100 [0.000, 0.200]",
        "WARNING: thumbnail alone tells fake from real at AUC 0.700 [0.560, 0.812]",
        "WARNING: nearest neighbour alone tells fake from real at AUC 0.877 [0.800, 0.900]",
    ]


@pytest.mark.parametrize(("reals", "fakes"), [(0, 6), (6, 0), (1, 6), (6, 1)])
def test_scores_need_two_groups_of_each_class(reals: int, fakes: int) -> None:
    label = np.array([0] * reals + [1] * fakes)
    group = np.array([f"g{i}" for i in range(len(label))])
    assert cross_validated_scores(label[:, None], label, group) is None
    label, group = np.append(label, [0, 0, 1, 1]), np.append(group, ["x", "y", "z", "w"])
    scores = cross_validated_scores(label[:, None], label, group)
    assert scores is not None and scores[label == 1].min() > scores[label == 0].max()
