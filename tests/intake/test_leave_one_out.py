"""Folds that hold out a value: what they hold out, who is barred, and a leak that is planted in them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from fold_cases import NO_PAIRS, assign, table

from ffdi.errors import InputError
from ffdi.intake.auditing.findings import HELD_OUT
from ffdi.intake.auditing.leaks import find_leaks
from ffdi.intake.settings import AuditSettings, SplitSettings
from ffdi.intake.splitting.folds import assign_folds
from ffdi.intake.splitting.leave_one_out import describe_held_out, with_held_values
from ffdi.intake.tables import join, read_folds, write_table

SETTINGS = SplitSettings("leave_one_out", by="attr_maker", min_fakes=5, test_size=0.25)
MAKERS = ("gan", "swap", "blend", "paint")


def people(makers: tuple[str, ...] = MAKERS, count: int = 48, *, each: bool = True) -> pd.DataFrame:
    """Each person has a real photo and fakes: of every maker, or of one by turns."""
    rows = []
    for person in range(count):
        rows.append((0, f"p{person:02d}", ""))
        own = makers if each else (makers[person % len(makers)],)
        rows += [(1, f"p{person:02d}", maker) for maker in own]
    labels, groups, maker = zip(*rows, strict=True)
    return table(list(labels), list(groups)).assign(attr_maker=list(maker))


def drawn(images: pd.DataFrame, **changes: Any) -> pd.DataFrame:
    """Training rows of images.csv with their folds, as integers."""
    settings = {"method": "leave_one_out", "by": "maker", "min_fakes": 5} | changes
    out = assign(images, **settings)
    merged = images.drop(columns="group").merge(out[out["role"] == "train"], on="image_id")
    return merged.assign(**{c: merged[c].replace("", "-1").astype(int) for c in ("fold", "also_out")})


@pytest.mark.parametrize("each", [True, False])
def test_no_fold_trains_on_its_value_or_on_a_group_that_it_validates(each: bool) -> None:
    rows = drawn(people(each=each))
    assert sorted(rows["held_out"].unique()) == sorted(MAKERS)
    for fold, inside in rows.groupby("fold"):
        (name,) = inside["held_out"].unique()
        trains = rows[(rows["fold"] != fold) & (rows["also_out"] != fold)]
        validates = inside[inside["also_out"] == -1]
        assert name not in set(trains["attr_maker"])
        assert set(validates["attr_maker"][validates["label"] == 1]) == {name}
        assert not set(trains["group"]) & set(validates["group"])
        assert set(trains["attr_maker"]) - {""} == set(MAKERS) - {name}
        if each:
            assert (validates["label"] == 0).sum() == (rows["label"] == 0).sum() / len(MAKERS)
    assert (rows["also_out"] >= 0).any() == each  # people of one maker are left out once


def test_reals_alone_are_dealt_in_equal_shares_and_reals_with_a_value_go_with_it() -> None:
    fakes = table([1] * 40, [""] * 40).assign(attr_maker=["gan"] * 20 + ["swap"] * 20)
    reals = table([0] * 40, [""] * 40).assign(attr_maker=["gan"] * 10 + ["camera"] * 10 + [""] * 20)
    images = pd.concat([fakes, reals.assign(image_id=[f"r{i:03d}" for i in range(40)])], ignore_index=True)
    rows = drawn(images)
    known = rows[(rows["label"] == 0) & (rows["attr_maker"] == "gan")]
    assert set(known["held_out"]) == {"gan"}
    shares = rows[rows["label"] == 0].groupby("held_out").size()
    assert shares["gan"] == pytest.approx(shares["swap"], abs=1)


def test_rare_values_are_pooled_and_named() -> None:
    images = people(("gan", "gan", "gan", "swap", "blend", "paint"), 60, each=False)
    images.loc[images["attr_maker"] == "paint", "attr_maker"] = ""  # fakes without a value
    settings = SplitSettings("leave_one_out", by="maker", min_fakes=12, test_size=0.25)
    folds = assign_folds(images, NO_PAIRS, settings)
    assert set(folds["held_out"]) == {"gan", "blend+none+swap", ""}
    lines = describe_held_out(images, folds, settings)
    (pooled,) = [line for line in lines if "held out together" in line]
    assert "fewer than 12 training fakes" in pooled and "blend (" in pooled and "none (" in pooled
    assert lines[0].startswith("fold 0 holds out gan: ")


def test_a_pool_that_is_still_too_small_takes_the_smallest_value_in() -> None:
    images = people(("gan",) * 4 + ("swap",) * 3 + ("blend",), 64, each=False)
    assert set(drawn(images, min_fakes=12)["held_out"]) == {"gan", "blend+swap"}


@pytest.mark.parametrize(
    ("makers", "changes", "message"),
    [
        (("gan",), {}, r"'maker' has one value to hold out .* it has gan \(36\): name another attribute"),
        (MAKERS, {"min_fakes": 400}, "two are needed; it has blend"),
        (("gan", "swap", "gan+swap"), {}, r"'gan\+swap' of 'maker' reads as 'gan' and others held out together"),
        (MAKERS, {"by": "camera"}, "split.by: 'camera' is no attribute of images.csv; it has maker"),
    ],
)
def test_what_cannot_be_held_out_is_said(makers: tuple[str, ...], changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        drawn(people(makers), **changes)


def test_a_fold_without_reals_names_its_value() -> None:
    images = people(("gan", "swap"), 40, each=False)
    images = images[(images["label"] == 1) | (images.index % 4 < 2)]
    with pytest.raises(InputError, match="which holds out swap, would validate 0 real"):
        drawn(images.reset_index(drop=True))


def audited(images: pd.DataFrame, folds: pd.DataFrame) -> list[str]:
    rows = join(with_held_values(images, SETTINGS), folds)
    unlike = [f"{i * 0x9E3779B97F4A7C15 % 2**64:016x}" * 2 for i in range(len(rows))]
    found = find_leaks(rows.assign(phash=unlike), AuditSettings(phash_bits=0))
    return [f"{finding.path_a}: {finding.detail}" for finding in found if finding.check == HELD_OUT]


def test_the_audit_finds_an_image_that_trains_where_its_value_is_held_out(tmp_path: Path) -> None:
    images = people()
    write_table(tmp_path / "folds.csv", assign_folds(images, NO_PAIRS, SETTINGS))
    folds = read_folds(tmp_path / "folds.csv")
    assert folds["also_out"].dtype == int and audited(images, folds) == []
    row = int(np.flatnonzero(folds["also_out"] >= 0)[0])
    number = folds["also_out"][row]
    held = folds["held_out"][folds["fold"] == number].iloc[0]
    planted = folds.assign(also_out=folds["also_out"].where(folds.index != row, -1))
    assert held == images["attr_maker"][row]
    assert audited(images, planted) == [f"{images['path'][row]}: fold {number} holds out {held} and trains on {held}"]
    other = images.assign(attr_maker=images["attr_maker"].replace("gan", "ganv2"))
    assert audited(other, folds) and all("no fold holds out ganv2" in line for line in audited(other, folds))
    with pytest.raises(InputError, match="run split again"):
        audited(images, folds.drop(columns=["held_out", "also_out"]))
