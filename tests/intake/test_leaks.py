"""Every check finds its planted leak and nothing in a clean set; the stage stops the pipeline on a leak."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
from audit_cases import clean_rows, leaks
from conftest import Tiny, picture
from PIL import Image, ImageOps

from ffdi.intake.auditing import leaks as leaks_module
from ffdi.intake.auditing.findings import CHECKS, SOURCE_OVERLAP, Finding, leaks_among
from ffdi.intake.auditing.leaks import find_leaks
from ffdi.intake.auditing.summary import summarise
from ffdi.intake.decoding.images import perceptual_hash
from ffdi.intake.near_duplicates.copies import Copies
from ffdi.intake.settings import AuditSettings


@pytest.fixture
def clean() -> pd.DataFrame:
    return clean_rows()


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
