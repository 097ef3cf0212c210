"""Every check finds its planted leak and nothing in a clean set; the stage stops the pipeline on a leak."""

import json
import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner, Result
from conftest import Tiny, make_tiny, picture
from PIL import Image, ImageOps

from ffdi.evaluation.headline import OF_AUDIT, of_audit
from ffdi.intake.auditing import leaks as leaks_module
from ffdi.intake.auditing.advice import advise, settings_that_join
from ffdi.intake.auditing.findings import CHECKS, FINDING_COLUMNS, SOURCE_OVERLAP, Finding, findings_table, leaks_among
from ffdi.intake.auditing.leaks import find_leaks
from ffdi.intake.auditing.summary import coverage, summarise
from ffdi.intake.decoding.images import perceptual_hash
from ffdi.intake.near_duplicates.copies import Copies
from ffdi.intake.settings import AuditSettings, SplitSettings
from ffdi.intake.tables import tables_digest, write_table

AUDIT = Path(__file__).parents[2] / "stages" / "audit.py"


def leaks(rows: pd.DataFrame, check: str, **changes: Any) -> list[Finding]:
    """All findings, which must be of the one check."""
    fields = {key: changes.pop(key) for key in ("phash_bits", "find_copies", "min_cosine") if key in changes}
    found = find_leaks(rows, AuditSettings(**({"phash_bits": 0, "min_cosine": 1.0} | fields)), **changes)
    assert {f.check for f in found} <= {check}
    return found


@pytest.fixture
def clean() -> pd.DataFrame:
    """Twelve images in six groups of a real and a fake: two groups in the test set, two in each of two folds."""
    rng = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "image_id": [f"id{i:02d}" for i in range(12)],
            "path": [f"{i}.jpg" for i in range(12)],
            "label": [0, 1] * 6,
            "intake_group": "",
            "group": [f"g{i // 2}" for i in range(12)],
            "role": ["test"] * 4 + ["train"] * 8,
            "fold": [-1] * 4 + [0] * 4 + [1] * 4,
            "phash": [f"{a:016x}{b:016x}" for a, b in rng.integers(0, 2**63, (12, 2))],
        }
    )


def test_a_clean_set_has_no_finding(clean: pd.DataFrame, tiny: Tiny) -> None:
    assert find_leaks(clean, AuditSettings(min_cosine=0.9), embeddings=np.eye(12)) == []
    assert find_leaks(tiny.rows, AuditSettings(phash_bits=2)) == []


@pytest.mark.parametrize(
    ("row", "other", "border"), [(0, 11, "test | fold 1"), (4, 11, "fold 0 | fold 1"), (0, 4, "test | fold 0")]
)
def test_a_group_across_a_border(clean: pd.DataFrame, row: int, other: int, border: str) -> None:
    clean.loc[other, "group"] = clean["group"][row]
    (found,) = leaks(clean, "group_across_border")
    assert (found.path_a, found.path_b) == (f"{row}.jpg", f"{other}.jpg")
    assert found.detail == f"{border}: {clean['group'][row]}"


def test_a_group_in_three_places_is_found_at_each_border(clean: pd.DataFrame) -> None:
    clean.loc[[4, 8], "group"] = "g0"
    found = leaks(clean, "group_across_border")
    assert [(f.path_a, f.path_b) for f in found] == [("0.jpg", "4.jpg"), ("0.jpg", "8.jpg")]


def test_the_groups_of_images_csv_hold_whatever_folds_csv_says(clean: pd.DataFrame) -> None:
    clean.loc[[1, 10], "intake_group"] = "person"
    (found,) = leaks(clean, "group_across_border")
    assert (found.path_a, found.path_b, found.detail) == ("1.jpg", "10.jpg", "test | fold 1: person")


def test_rows_without_a_group_share_none(clean: pd.DataFrame) -> None:
    assert leaks(clean.assign(group=""), "") == []


def test_an_exact_duplicate_across_a_border(clean: pd.DataFrame) -> None:
    clean.loc[11, "image_id"] = "id01"  # both fake: no conflict
    (found,) = leaks(clean, "exact_duplicate_across_border")
    assert (found.path_a, found.path_b, found.detail) == ("1.jpg", "11.jpg", "test | fold 1: id01")


def test_a_perceptual_duplicate_across_a_border(clean: pd.DataFrame) -> None:
    image = picture(3)
    clean.loc[[1, 11], "phash"] = [perceptual_hash(image), perceptual_hash(ImageOps.mirror(image))]
    clean.loc[5, "phash"] = clean["phash"][4]  # alike too, but on one side
    (found,) = leaks(clean, "perceptual_duplicate_across_border", phash_bits=2)
    assert (found.path_a, found.path_b, found.detail) == ("1.jpg", "11.jpg", "test | fold 1")


def test_an_embedding_duplicate_across_a_border(clean: pd.DataFrame) -> None:
    embeddings = np.eye(12)
    embeddings[6, 2] = 3.0  # image 6 (fold 0) is now at a cosine of .95 to image 2 (test)
    (found,) = leaks(clean, "embedding_duplicate_across_border", embeddings=embeddings, min_cosine=0.9)
    assert (found.path_a, found.path_b, found.detail) == ("2.jpg", "6.jpg", "test | fold 0")
    assert leaks(clean, "", embeddings=embeddings, min_cosine=0.96) == []


def test_each_of_a_parted_cluster_is_named(clean: pd.DataFrame) -> None:
    clean.loc[6, "label"] = 1
    for row, bits in ((1, 0b0), (6, 0b1), (7, 0b11), (11, 0b111)):  # a chain; 6 and 7 are in one fold
        clean.loc[row, "phash"] = f"{bits:016x}{'5' * 16}"
    found = leaks(clean, "perceptual_duplicate_across_border", phash_bits=1)
    assert [(f.path_a, f.path_b, f.detail) for f in found] == [
        ("1.jpg", "6.jpg", "test | fold 0"),
        ("7.jpg", "11.jpg", "fold 0 | fold 1"),
    ]
    clean.loc[11, "phash"] = f"{0b110000:016x}{'5' * 16}"  # now 7 is near none on another side
    found = leaks(clean, "perceptual_duplicate_across_border", phash_bits=1)
    assert [(f.path_a, f.path_b, f.detail) for f in found] == [
        ("1.jpg", "6.jpg", "test | fold 0"),
        ("1.jpg", "7.jpg", "test | fold 0: one cluster"),
    ]


@pytest.fixture
def copies(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """copies((row, other), ...): these are what the search would confirm of what it is asked for; gives sketches."""

    def confirm(*found: tuple[int, int]) -> Any:
        def search(sketches: Any, wanted: Any, progress: Any) -> Copies:
            pairs = np.array(found, np.int64).reshape(-1, 2)
            pairs = pairs[wanted(*pairs.T)]
            return Copies(pairs, np.full(len(pairs), 0.95))

        monkeypatch.setattr(leaks_module, "find_copies", search)
        return np.random.default_rng(0).integers(0, 256, (12, 64, 64), dtype=np.uint8)

    return confirm


def test_an_augmented_copy_across_a_border(clean: pd.DataFrame, copies: Callable[..., Any]) -> None:
    (found,) = leaks(clean, "augmented_copy_across_border", sketches=copies((1, 11), (4, 6)))  # 4 and 6 are in one fold
    assert (found.path_a, found.path_b, found.detail) == ("1.jpg", "11.jpg", "test | fold 1")
    assert leaks(clean, "", sketches=copies((1, 11)), find_copies=False) == []
    clean.loc[11, "phash"] = clean["phash"][1]  # what the hash sees and pixels confirm is not searched for again
    sketches = copies((1, 11))
    sketches[11] = sketches[1]
    assert len(leaks(clean, "perceptual_duplicate_across_border", sketches=sketches)) == 1


def test_one_picture_under_two_labels(clean: pd.DataFrame, copies: Callable[..., Any]) -> None:
    sketches = copies()
    clean.loc[5, "phash"] = clean["phash"][4]  # on one side, and near by their hashes
    assert leaks(clean, "", sketches=sketches) == []  # but another picture: a forgery with its source
    sketches[5] = sketches[4] // 2 + 10  # the same but darker
    (found,) = leaks(clean, "label_conflict", sketches=sketches)
    assert (found.path_a, found.path_b, found.detail) == (
        "4.jpg",
        "5.jpg",
        "fold 0 | fold 0: one picture, labels 0 and 1",
    )


def test_a_photo_and_its_forgery_on_two_sides_warn_and_stop_nothing(
    clean: pd.DataFrame, copies: Callable[..., Any]
) -> None:
    found = leaks(clean, SOURCE_OVERLAP, sketches=copies((0, 11), (3, 6), (4, 5)))
    assert [(f.path_a, f.path_b) for f in found] == [("0.jpg", "11.jpg"), ("3.jpg", "6.jpg")]
    assert leaks_among(found) == []
    out = summarise(found, clean, {})
    assert (out["leaks"], out["source_overlap"], out["source_overlap_test_share"]) == (0, 2, 0.5)
    assert out["warnings"] == 2  # and no image has a group of its own


def test_labels_that_look_turned_round_are_a_leak(clean: pd.DataFrame) -> None:
    (found,) = leaks(clean, "inverted_labels", inverted=["thumbnail tells the opposite"])
    assert found == Finding("inverted_labels", "", "", "thumbnail tells the opposite")


def smooth(seed: int) -> Any:
    """A sketch with enough in it to be told from every other."""
    coarse = Image.fromarray(np.random.default_rng(seed).integers(0, 256, (8, 8), dtype=np.uint8))
    return np.asarray(coarse.resize((64, 64), Image.Resampling.BICUBIC))


def test_what_only_hashes_alike_is_no_leak(clean: pd.DataFrame) -> None:
    clean.loc[[1, 11], "phash"] = clean["phash"][1]
    sketches = np.stack([smooth(i) for i in range(12)])
    assert len(leaks(clean, "perceptual_duplicate_across_border")) == 1  # unseen, it would be one
    assert leaks(clean, "", sketches=sketches) == []
    for shown in (sketches[1, :, ::-1], np.clip(sketches[1] * 2.5, 0, 255)):  # mirrored; overexposed
        sketches[11] = shown
        assert len(leaks(clean, "perceptual_duplicate_across_border", sketches=sketches, find_copies=False)) == 1


def test_a_stranger_between_two_copies_neither_hides_them_nor_is_accused(clean: pd.DataFrame) -> None:
    """By their hashes 1 and 11 are nearer to the stranger 7 than to each other, so the forest links them by way of it."""
    for row, bits in ((1, 0b0), (7, 0b1), (11, 0b11)):
        clean.loc[row, "phash"] = f"{bits:016x}{'5' * 16}"
    sketches = np.stack([smooth(i) for i in range(12)])
    sketches[11] = sketches[1]
    assert {f.path_b for f in leaks(clean, "perceptual_duplicate_across_border", phash_bits=2)} == {"7.jpg", "11.jpg"}
    (found,) = leaks(clean, "perceptual_duplicate_across_border", phash_bits=2, sketches=sketches)
    assert (found.path_a, found.path_b) == ("1.jpg", "11.jpg")


@pytest.mark.parametrize("search", ["perceptual", "augmented", "embedding"])
def test_a_photo_and_its_forgery_are_a_warning_whichever_search_finds_them(
    clean: pd.DataFrame, copies: Callable[..., Any], search: str
) -> None:
    sketches = np.stack([smooth(i) for i in range(12)])
    options: dict[str, Any] = {}
    copies(*[(0, 11)] * (search == "augmented"))
    if search == "perceptual":
        clean.loc[11, "phash"] = clean["phash"][0]
        sketches[11] = sketches[0]
        sketches[11, :9, :9] = 255 - sketches[0, :9, :9]  # edited: alike, but not in each block
    if search == "embedding":
        embeddings = np.eye(12)
        embeddings[11, 0] = 3.0
        options = {"embeddings": embeddings, "min_cosine": 0.9}
    (found,) = leaks(clean, SOURCE_OVERLAP, sketches=sketches, **options)
    assert (found.path_a, found.path_b, found.detail) == ("0.jpg", "11.jpg", "test | fold 1")
    assert leaks_among([found]) == [] and found.found_by[0].startswith(search)


def test_a_forgery_between_two_photos_hides_no_leak(clean: pd.DataFrame) -> None:
    """A photo (test) and its copy (fold 1) are each nearest to the forgery (fold 0)."""
    hashed = clean.copy()
    hashed.loc[[0, 5, 10], "phash"] = clean["phash"][0]
    sketches = np.stack([smooth(i) for i in range(12)])
    sketches[[5, 10]] = sketches[0]
    sketches[[5, 10], :7, :7] = 255 - sketches[0, :7, :7]
    sketches[10, 57:, 57:] = 255 - sketches[0, 57:, 57:]
    found = find_leaks(hashed, AuditSettings(phash_bits=0), sketches=sketches)
    assert [(f.check, f.path_a, f.path_b) for f in leaks_among(found)] == [
        ("perceptual_duplicate_across_border", "0.jpg", "10.jpg")
    ]
    embeddings = np.eye(12)
    embeddings[5], embeddings[10] = embeddings[0] + 0.1 * embeddings[5], embeddings[0] + 0.2 * embeddings[10]
    found = find_leaks(clean, AuditSettings(phash_bits=0, min_cosine=0.9), embeddings=embeddings)
    assert [(f.check, f.path_a, f.path_b) for f in found] == [
        ("embedding_duplicate_across_border", "0.jpg", "10.jpg"),
        (SOURCE_OVERLAP, "0.jpg", "5.jpg"),
    ]


def test_a_pair_is_one_leak_however_many_checks_find_it(clean: pd.DataFrame, copies: Callable[..., Any]) -> None:
    clean.loc[[1, 11], "group"] = clean.loc[[1, 11], "intake_group"] = "anna"
    clean.loc[11, "image_id"] = "id01"
    clean.loc[11, "phash"] = clean["phash"][1]
    sketches = copies()
    sketches[11] = sketches[1]
    (found,) = find_leaks(clean, AuditSettings(), sketches=sketches)
    assert found.check == "group_across_border"
    assert found.detail == (
        "test | fold 1: anna; also exact_duplicate_across_border, perceptual_duplicate_across_border"
    )
    out = summarise([found], clean, {})
    assert out["leaks"] == 1 and [out[check] for check in CHECKS[:4]] == [1, 1, 1, 0]


def test_every_membership_is_audited(clean: pd.DataFrame) -> None:
    clean["intake_group"] = ["000", "000|003", *[""] * 4, "003", "005", *[""] * 4]
    (found,) = leaks(clean, "group_across_border")  # the second source of row 1, in fold 0
    assert (found.path_a, found.path_b, found.detail) == ("1.jpg", "6.jpg", "test | fold 0: 003")


def test_advice_names_only_what_would_change_something(clean: pd.DataFrame) -> None:
    rows = clean.assign(given_split=["test"] * 4 + ["train"] * 8)
    audit = AuditSettings(phash_bits=6)
    joins = settings_that_join(SplitSettings(phash_bits=6), audit)
    assert joins == {CHECKS[3]: "split.find_copies: true", CHECKS[4]: "split.use_embedding: true"}
    everything = SplitSettings(phash_bits=4, find_copies=True, use_embedding=True)
    assert settings_that_join(everything, audit) == {CHECKS[2]: "split.phash_bits: 6"}
    found = [
        Finding(CHECKS[3], f"{a}.jpg", f"{b}.jpg", "", (CHECKS[3],), (CHECKS[3],)) for a, b in ((0, 4), (1, 5), (6, 9))
    ]
    own = "the data's own split parts 2 of them: leave out one image of each, or split.use_given: false draws another"
    assert advise(found, rows, joins, use_given=True) == f"split.find_copies: true would join 1 of them; {own}"
    assert advise(found, rows, joins, use_given=False) == "split.find_copies: true would join 3 of them"
    assert advise(found, rows, {}, use_given=True) == own
    assert advise(found, rows, {}, use_given=False) == ""  # it is all on already


def test_no_leak_says_coverage(clean: pd.DataFrame) -> None:
    out = summarise([], clean, {})
    assert (out["images_with_group"], out["warnings"]) == (0, 1)
    assert coverage(out).startswith("but no image has a group of its own")
    named = clean.assign(intake_group=["anna", *[""] * 11], group=["anna", "alone", *clean["group"][2:]])
    out = summarise([], named, {})
    assert (out["images_with_group"], out["groups_of_one"], out["warnings"]) == (1, 2, 0)
    assert coverage(out) == "1 images have a group of their own, 2 groups have one image"


def test_a_label_conflict_names_one_path_of_each_label(clean: pd.DataFrame) -> None:
    same = pd.concat([clean, clean.iloc[[4, 4]].assign(path=["again.jpg", "turned.jpg"], label=[0, 1])])
    (found,) = leaks(same, "label_conflict")
    assert (found.path_a, found.path_b, found.detail) == ("4.jpg", "turned.jpg", "sha256 id04")


def test_a_fold_without_a_class(clean: pd.DataFrame) -> None:
    clean.loc[clean["fold"] == 1, "label"] = 1
    (found,) = leaks(clean, "fold_without_class")
    assert found.detail == "fold 1 has 0 real and 4 fake images"


def test_a_test_set_of_one_class_is_no_leak(clean: pd.DataFrame) -> None:
    clean.loc[clean["role"] == "test", "label"] = 1
    assert leaks(clean, "") == []  # its AUC is null, with a reason


def test_summary_and_table(clean: pd.DataFrame) -> None:
    clean.loc[11, "group"] = "g0"
    clean["intake_group"] = ["g0", *clean["group"][1:11], ""]
    found = leaks(clean, "group_across_border")
    out = summarise(found, clean, {"probe": 0.5}, dropped=3)
    assert out == {"leaks": 1} | dict.fromkeys(CHECKS, 0) | {"group_across_border": 1, "probe": 0.5} | {
        "images": 12,
        "fakes": 6,
        "groups": 6,
        "groups_of_one": 1,
        "images_with_group": 11,
        "images_dropped": 3,
        "test_images": 4,
        "source_overlap": 0,
        "source_overlap_test_share": 0.0,
        "warnings": 0,
        "worst_probe": None,
        "worst_probe_reason": "undefined: no probe has a figure",
        "worst_probe_auc": None,
        "worst_probe_auc_reason": "undefined: no probe has a figure",
    }
    assert findings_table(found).values.tolist() == [["group_across_border", "0.jpg", "11.jpg", "test | fold 1: g0"]]
    assert list(findings_table([]).columns) == list(FINDING_COLUMNS)


def test_shortcuts_are_counted_and_the_worst_named(clean: pd.DataFrame) -> None:
    """One interval lies above .55, another probe has the higher AUC, and one was not run."""
    probes = {"probe_thumbnail_auc": 0.7, "probe_thumbnail_auc_low": 0.6, "probe_thumbnail_auc_high": 0.8}
    probes |= {"probe_size_auc": 0.72, "probe_size_auc_low": 0.5, "probe_size_auc_high": 0.9}
    clean["intake_group"] = clean["group"]
    out = summarise([], clean, probes | {"probe_nearest_neighbour_auc": None, "probe_nearest_neighbour_auc_low": None})
    assert of_audit(out) == {"leaks": 0, "warnings": 1, "worst_probe": "size", "worst_probe_auc": 0.72}


PARAMS = """
data: {{root: {root}}}
split: {{embedding: b}}
audit: {{fail: {fail}, phash_bits: 2}}
evaluate: {{bootstrap: 100}}
backbones: {{b: {{network: "torchvision:mobilenet_v2", weights: random, cut: features.16}}}}
recipes: {{r: {{backbone: b}}}}
ladder: {{recipe: r, backbone: b}}
"""


def audit(folder: Path, data: Tiny, fail: str = "true") -> Result:
    """Run the stage on the tables of `folder`; its outputs go to folder/out."""
    (folder / "params.yaml").write_text(PARAMS.format(root=data.root, fail=fail))
    options = {
        "params": "params.yaml",
        "images": "images.csv",
        "folds": "folds.csv",
        "out": "out/audit.json",
        "findings": "out/findings.csv",
        "ok": "out/audit.ok",
    }
    command = runpy.run_path(str(AUDIT))["main"]
    return CliRunner().invoke(command, [word for k, v in options.items() for word in (f"--{k}", str(folder / v))])


def test_the_stage_passes_a_clean_set_and_stops_a_leak(tmp_path: Path) -> None:
    data = make_tiny(tmp_path, count=24, groups=8, folds=2, size=32)
    out = tmp_path / "out"
    done = audit(tmp_path, data)
    assert done.exit_code == 0, done.stderr
    metrics = json.loads((out / "details" / "audit.json").read_text())
    assert json.loads((out / "audit.json").read_text()) == {key: metrics[key] for key in OF_AUDIT}
    assert metrics["leaks"] == 0 and metrics["images"] == 24 and 0 <= metrics["probe_thumbnail_auc"] <= 1
    assert all(value is None or isinstance(value, int | float | str) for value in metrics.values())  # flat
    assert (out / "audit.ok").read_text() == tables_digest(data.images_file, data.folds_file)
    assert (out / "findings.csv").read_text() == "check,path_a,path_b,detail\n"

    folds = pd.read_csv(data.folds_file, dtype=str, keep_default_na=False)
    test, train = folds.index[folds["role"] == "test"][0], folds.index[folds["role"] == "train"][0]
    folds.loc[test, "group"] = folds["group"][train]  # one test image is of a person of the training set
    write_table(data.folds_file, folds)
    done = audit(tmp_path, data)
    assert done.exit_code == 1
    last = done.stderr.strip().splitlines()[-1]
    assert "1 leaks, the first: group_across_border" in last and str(out / "findings.csv") in last
    metrics = json.loads((out / "details" / "audit.json").read_text())
    assert (metrics["leaks"], metrics["group_across_border"]) == (1, 1)
    found = pd.read_csv(out / "findings.csv")
    paths = data.images.set_index("image_id")["path"][folds["image_id"][[test, train]]]
    assert list(found["check"]) == ["group_across_border"]
    assert {found["path_a"][0], found["path_b"][0]} & set(paths)
    assert not (out / "audit.ok").exists()  # the former one is gone

    done = audit(tmp_path, data, fail="false")  # on the user's own word
    assert done.exit_code == 0 and (out / "audit.ok").exists()


def test_the_stage_says_what_no_leak_is_worth_and_looks_at_no_dropped_image(tmp_path: Path) -> None:
    data = make_tiny(tmp_path, count=24, groups=8, folds=2, size=32)
    done = audit(tmp_path, data)
    assert done.stderr.strip().endswith(
        "0 leaks in 24 images and 8 groups; 24 images have a group of their own, 0 groups have one image"
    )
    write_table(data.images_file, data.images.assign(group=""))
    folds = pd.read_csv(data.folds_file, dtype=str, keep_default_na=False)
    folds.loc[0, ["role", "fold"]] = "dropped", ""
    write_table(data.folds_file, folds)
    done = audit(tmp_path, data)
    assert "0 leaks in 23 images and 8 groups; but no image has a group of its own" in done.stderr
    metrics = json.loads((tmp_path / "out" / "details" / "audit.json").read_text())
    assert (metrics["images"], metrics["images_dropped"], metrics["images_with_group"]) == (23, 1, 0)
    assert metrics["warnings"] >= 1


def test_the_stage_leaves_no_ok_when_tables_do_not_fit(tmp_path: Path, tiny: Tiny) -> None:
    (tmp_path / "images.csv").write_bytes(tiny.images_file.read_bytes())
    (tmp_path / "folds.csv").write_text("\n".join(tiny.folds_file.read_text().splitlines()[:-1]) + "\n")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "audit.ok").write_text("of a former run")
    done = audit(tmp_path, tiny)
    assert done.exit_code == 1 and "differ in 1 images" in done.stderr
    assert not list((tmp_path / "out").iterdir())
