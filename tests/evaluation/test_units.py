"""Images that are judged together: which they are, their score, and the figures of hand-worked units."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pandas as pd
import pytest
from conftest import Tiny, Trained

from ffdi.bootstrap import Bootstrap
from ffdi.errors import InputError, ParamsError
from ffdi.evaluation.below_chance import keys_below
from ffdi.evaluation.compare import UNIT_AUC, compare, comparison_metrics, read_scores, read_units
from ffdi.evaluation.evaluate import EvaluationInputs, evaluate_recipe
from ffdi.evaluation.headline import OF_RECIPE, OF_UNITS, of_recipe
from ffdi.evaluation.other_data import OtherData, OtherDataSet, evaluate_on_other_data, other_data_metrics
from ffdi.evaluation.settings import EvaluateSettings, JudgedBy, OtherDataSettings, UnitRule
from ffdi.evaluation.unit_figures import unit_figures, unit_line, unit_validation
from ffdi.evaluation.units import Units, aggregated
from ffdi.files import write_json
from ffdi.intake.decoding.images import ImageSource
from ffdi.metrics import Metrics
from ffdi.tails.bundle import load_bundle
from ffdi.tails.policy import Policy

BOOTSTRAP = Bootstrap(200)
VIDEO = UnitRule("video")


def frames(*rows: tuple[str, int, float, str]) -> pd.DataFrame:
    """Rows of (video, label, score, group)."""
    made = pd.DataFrame(rows, columns=["attr_video", "label", "score", "group"])
    return made.assign(image_id=[f"i{n}" for n in range(len(made))])


def model(threshold: float = 0.5) -> Any:
    return cast(Any, SimpleNamespace(threshold=threshold, policy=Policy(threshold)))


def figures(rows: pd.DataFrame, rule: UnitRule = VIDEO, threshold: float = 0.5) -> Metrics:
    scores = rows["score"].to_numpy()
    return dict(unit_figures(model(threshold), rows, scores, JudgedBy(unit=rule), bootstrap=BOOTSTRAP).metrics)


def test_mean_median_and_most_fake_by_hand() -> None:
    of_image = np.array([1, 0, 1, 0, 1, 1, 2])
    scores = np.array([0.1, 0.4, 0.9, 0.2, 0.3, 0.7, 0.6])  # of unit 0: .4 .2; of unit 1: .9 .7 .3 .1; of unit 2: .6
    assert aggregated(of_image, scores, "mean") == pytest.approx([0.3, 0.5, 0.6])
    assert aggregated(of_image, scores, "median") == pytest.approx([0.3, 0.5, 0.6])
    assert aggregated(of_image, scores, "top-1") == pytest.approx([0.4, 0.9, 0.6])
    assert aggregated(of_image, scores, "top-3") == pytest.approx([0.3, (0.9 + 0.7 + 0.3) / 3, 0.6])
    odd = aggregated(np.array([0, 0, 0]), np.array([0.9, 0.1, 0.2]), "median")
    assert odd.tolist() == [0.2]
    back = np.arange(7)[::-1]
    for rule in ("mean", "median", "top-2"):  # to the bit: the order of the images plays no part
        assert (aggregated(of_image[back], scores[back], rule) == aggregated(of_image, scores, rule)).all()


METHODS = ("Deepfakes", "Face2Face", "FaceSwap", "NeuralTextures")


def merged_benchmark() -> pd.DataFrame:
    """Two frames each of 003_000 by four methods, and of the real 003: their folders share the name 003_000."""
    rows = [(f"manipulated/{m}/c23/frames/003_000", 1, s, "003|000") for m in METHODS for s in (0.2, 0.9)]
    rows += [("original/c23/frames/003_000", 0, s, "003") for s in (0.1, 0.3)]
    return frames(*rows)


def test_videos_of_four_methods_in_folders_of_one_name_are_four_units_beside_the_real_one() -> None:
    units = Units.of(merged_benchmark(), VIDEO)
    assert list(units.table["unit"]) == [*(f"manipulated/{m}/c23/frames/003_000" for m in METHODS), "original/c23/frames/003_000"]  # fmt: skip
    assert list(units.table["images"]) == [2] * 5 and list(units.table["label"]) == [1] * 4 + [0]
    found = figures(merged_benchmark())
    assert (found["unit_count"], found["unit_fakes"], found["unit_reals"], found["unit_mixed"]) == (5, 4, 1, 0)
    assert found["unit_auc"] == 1.0  # .55 of each fake, .2 of the real one; a merged unit would have one label


def test_figures_by_hand() -> None:
    """Three fake videos of means .8, .45 and .6, two real of .2 and .55: 5 of 6 pairs are in order."""
    rows = frames(
        *(("a", 1, 0.7, "g0"), ("a", 1, 0.9, "g0"), ("b", 1, 0.45, "g1")),
        *(("c", 1, 0.9, "g2"), ("c", 1, 0.2, "g2"), ("c", 1, 0.7, "g2")),
        *(("d", 0, 0.1, "g3"), ("d", 0, 0.3, "g3"), ("e", 0, 0.55, "g4")),
    )
    found = figures(rows)
    assert found["unit_auc"] == pytest.approx(5 / 6)
    assert found["unit_accuracy"] == pytest.approx(3 / 5)  # b is called real, e fake
    assert found["unit_balanced_accuracy"] == pytest.approx((2 / 3 + 1 / 2) / 2)
    assert found["unit_fpr"] == 0.5 and found["unit_recall"] == pytest.approx(2 / 3)
    assert found["unit_brier"] == pytest.approx((0.2**2 + 0.55**2 + 0.4**2 + 0.2**2 + 0.55**2) / 5)
    assert (found["unit_images_min"], found["unit_images_median"], found["unit_images_max"]) == (1, 2.0, 3)
    assert (found["unit"], found["unit_score"], found["unit_n_groups"]) == ("video", "mean", 5)
    assert found["unit_auc_low"] <= found["unit_auc"] <= found["unit_auc_high"]  # type: ignore[operator]
    assert figures(rows, UnitRule("video", "top-1"))["unit_auc"] == pytest.approx(5 / 6)
    assert figures(rows, UnitRule("video", "median"))["unit_brier"] != found["unit_brier"]
    (line,) = unit_line(found)
    assert line.startswith("by video, mean of its images: AUC 0.833 [") and line.endswith(
        "5 units of 1 to 3 images, median 2"
    )


def test_an_image_without_a_unit_is_one_of_its_own() -> None:
    units = Units.of(frames(("", 0, 0.1, "g"), ("a", 1, 0.9, "h"), ("", 0, 0.2, "g"), ("a", 1, 0.8, "h")), VIDEO)
    assert list(units.table["unit"]) == ["a", "i0", "i2"] and list(units.of_image) == [1, 0, 2, 0]


def test_a_unit_of_both_labels_is_fake_and_is_told() -> None:
    rows = frames(("a", 0, 0.1, "g"), ("a", 1, 0.9, "g"), ("b", 0, 0.2, "h"), ("c", 1, 0.7, "i"))
    found = unit_figures(model(), rows, rows["score"].to_numpy(), JudgedBy(unit=VIDEO), bootstrap=BOOTSTRAP)
    assert found.metrics["unit_mixed"] == 1 and found.metrics["unit_fakes"] == 2
    assert list(found.warnings) == ["1 of 3 units (video) have real and fake images, and count as fake: 'a'"]


def test_groups_that_share_a_unit_are_drawn_as_one() -> None:
    """g0 and g1 share video a, g1 and g2 share b: three units, two clusters."""
    rows = frames(
        *(("a", 1, 0.9, "g0"), ("a", 1, 0.9, "g1"), ("b", 0, 0.1, "g1"), ("b", 0, 0.1, "g2")), ("c", 0, 0.2, "g3")
    )
    assert figures(rows)["unit_n_groups"] == 2


def test_an_interval_is_by_group_and_null_with_its_reason_where_there_is_one() -> None:
    one = frames(("a", 1, 0.9, "g"), ("b", 0, 0.1, "g"))
    found = figures(one)
    assert found["unit_auc"] == 1.0 and found["unit_auc_low"] is None
    assert found["unit_auc_low_reason"] == "undefined: 1 reals and 1 fakes, 1 groups"
    alone = figures(frames(("a", 1, 0.9, "g"), ("b", 1, 0.1, "h")))
    assert alone["unit_auc"] is None and "0 reals" in str(alone["unit_auc_reason"])
    for metrics in (found, alone):
        for key, value in metrics.items():
            assert (value is None) == (f"{key}_reason" in metrics), key


def test_the_band_of_a_policy_counts_units() -> None:
    policy = Policy(0.5, 0.4, 0.6, {"rule": "youden", "expected_fpr": 0.1})
    abstains = cast(Any, SimpleNamespace(threshold=0.5, policy=policy))
    rows = frames(("a", 1, 0.9, "g"), ("a", 1, 0.2, "g"), ("b", 0, 0.1, "h"), ("c", 1, 0.2, "i"))
    found = unit_figures(abstains, rows, rows["score"].to_numpy(), JudgedBy(unit=VIDEO), bootstrap=BOOTSTRAP).metrics
    assert found["unit_undecided"] == 1 and found["unit_coverage"] == pytest.approx(2 / 3)  # a, at .55
    assert found["unit_decided_error"] == 0.5  # c is called real
    assert not {"unit_expected_fpr", "unit_threshold"} & set(found)  # promised of images


def test_attributes_that_all_images_share_split_the_units() -> None:
    rows = merged_benchmark().assign(
        attr_method=[m for m in METHODS for _ in "ab"] + [""] * 2, attr_frame=[*"0123456789"]
    )
    rows.loc[0, "score"] = 0.0  # the unit of Deepfakes: .45
    found = figures(rows)
    assert found["unit_attr_method_Deepfakes_fakes"] == 1 and found["unit_attr_method_FaceSwap_auc"] == 1.0
    assert found["unit_attr_method_Deepfakes_accuracy"] == 0.0
    assert not [key for key in found if "attr_frame" in key]


def test_a_missing_attribute_is_named_with_those_there_are() -> None:
    with pytest.raises(InputError, match=r"no attribute clip to judge by; they have video"):
        Units.of(merged_benchmark(), UnitRule("clip"))


def test_out_of_fold_figures_are_of_each_folds_units() -> None:
    oof = frames(
        *(("a", 1, 0.9, "g0"), ("a", 1, 0.1, "g0"), ("b", 0, 0.4, "g1"), ("c", 1, 0.8, "g2"), ("d", 0, 0.9, "g3")),
    ).assign(fold=[0, 0, 0, 1, 1])
    images = oof.drop(columns="score").assign(role="train")
    found = unit_validation(oof[["image_id", "label", "score", "fold"]], images, VIDEO, bootstrap=BOOTSTRAP)
    assert (found.metrics["unit_fold_0_val_auc"], found.metrics["unit_fold_1_val_auc"]) == (1.0, 0.0)
    assert found.metrics["unit_val_auc_mean"] == 0.5 and found.metrics["unit_on_two_sides"] == 0
    assert not found.warnings
    torn = images.assign(fold=[0, 1, 0, 1, 1])
    told = unit_validation(oof[["image_id", "label", "score", "fold"]], torn, VIDEO, bootstrap=BOOTSTRAP)
    assert told.metrics["unit_on_two_sides"] == 1
    assert list(told.warnings) == [
        "1 units (video) have images on two sides of the split, which no group holds together: 'a'"
    ]


@pytest.fixture(scope="module")
def clips(tiny: Tiny) -> pd.DataFrame:
    """The tiny set with two images of one class and group to a clip."""
    names = tiny.rows["group"] + "/" + tiny.rows["label"].astype(str)
    return tiny.rows.assign(attr_video=names)


def judged(trained: Trained, rows: pd.DataFrame, by: JudgedBy) -> Any:
    import torch

    inputs = EvaluationInputs.load(trained.model, trained.features, rows, by)
    return evaluate_recipe(inputs, bootstrap=BOOTSTRAP, memory_gb=1, device=torch.device("cpu"))


def test_a_recipe_is_judged_by_unit_beside_its_images(trained: Trained, clips: pd.DataFrame, tmp_path: Path) -> None:
    plain, found = judged(trained, clips, JudgedBy()), judged(trained, clips, JudgedBy(unit=VIDEO))
    units = {key for key in found.metrics if key.startswith("unit")}
    marks = {"below_chance", "below_chance_at"}
    assert {k: v for k, v in found.metrics.items() if k not in units | marks} == {
        k: v for k, v in plain.metrics.items() if k not in marks
    }
    write_json(tmp_path / "m.json", found.metrics)  # finite alone
    test = clips[clips["role"] == "test"].merge(found.plots["scores"][["image_id", "score", "unit"]], on="image_id")
    assert (test["unit"] == test["attr_video"]).all() and "unit" not in plain.plots["scores"]
    means = test.groupby("attr_video").agg({"score": "mean", "label": "max"})
    from ffdi.metrics import auc

    assert found.metrics["unit_auc"] == pytest.approx(auc(means["label"].to_numpy(), means["score"].to_numpy()))
    assert list(of_recipe(found.metrics)) == [*OF_RECIPE, *OF_UNITS] and list(of_recipe(plain.metrics)) == [*OF_RECIPE]
    assert any(line.startswith("by video, mean of its images: AUC ") for line in found.lines())
    assert found.metrics["below_chance"] == len(keys_below(found.metrics))


def test_recipes_are_compared_by_unit(trained: Trained, clips: pd.DataFrame, tmp_path: Path) -> None:
    found = judged(trained, clips, JudgedBy(unit=VIDEO))
    for name in ("one", "two"):
        found.write_plots(tmp_path / name / "test")
    folds = clips[["image_id", "group", "cluster", "role", "fold"]]
    labels, groups, scores = read_scores(tmp_path, ["one", "two"], folds)
    units = read_units(tmp_path, scores, folds, VIDEO)
    assert units is not None and len(units.labels) == found.metrics["unit_count"]
    units.scores["two"][:] = -units.scores["two"]  # type: ignore[index]
    pairs = compare(labels, groups, scores, units=units, bootstrap=BOOTSTRAP)
    (row,) = pairs[pairs["figure"] == UNIT_AUC].to_dict("records")
    assert row["difference"] == pytest.approx(2 * found.metrics["unit_auc"] - 1)
    assert {"one_minus_two_auc", "one_minus_two_unit_auc"} <= set(comparison_metrics(pairs))
    assert read_units(tmp_path, scores, folds, None) is None
    judged(trained, clips, JudgedBy()).write_plots(tmp_path / "two" / "test")
    with pytest.raises(InputError, match=r"no column 'unit'"):
        read_units(tmp_path, scores, folds, VIDEO)


def test_other_data_are_judged_by_unit_where_they_have_it(trained: Trained, tiny: Tiny, clips: pd.DataFrame) -> None:
    import torch

    from ffdi.console import Console

    bundle = load_bundle(trained.model)
    fresh = clips[clips["role"] == "test"].drop(columns=["role", "fold", "cluster"])
    said: list[str] = []
    data_set = OtherDataSet(
        "wild", OtherDataSettings(root=str(tiny.root), recipes=("a",)), ImageSource(tiny.root), VIDEO
    )
    data = data_set.ingested(fresh, Console(say=said.append))
    assert data.unit == VIDEO and not said
    options: dict[str, Any] = {"phash_bits": 0, "bootstrap": BOOTSTRAP, "device": torch.device("cpu")}
    metrics = evaluate_on_other_data(bundle, data, **options).metrics
    name = metrics["recipe"]
    summary = other_data_metrics([metrics])
    assert summary[f"{name}_on_wild_unit_auc"] == metrics["unit_auc"] is not None
    without = data_set.ingested(fresh.drop(columns="attr_video"), Console(say=said.append))
    assert without.unit is None and said == ["no attribute video: its images are judged one by one alone"]
    with pytest.raises(InputError, match="no attribute video"):
        evaluate_on_other_data(bundle, OtherData("x", data.source, without.images, VIDEO), **options)


@pytest.mark.parametrize("name", ["video", "attr_video"])
def test_the_attribute_is_named_with_or_without_its_mark(name: str) -> None:
    assert EvaluateSettings(unit=name, unit_score="top-3").units == UnitRule("video", "top-3")
    assert EvaluateSettings().units is None


@pytest.mark.parametrize(
    ("name", "rule"), [("", "mean"), ("attr_", "mean"), ("video", "top-0"), ("video", "max"), ("video", "top3")]
)
def test_a_wrong_rule_is_refused(name: str, rule: str) -> None:
    with pytest.raises(ParamsError):
        UnitRule.named(name, rule)


def test_the_command_judges_any_images_by_unit(
    trained: Trained, tiny: Tiny, clips: pd.DataFrame, tmp_path: Path
) -> None:
    import json

    import torch
    from click.testing import CliRunner

    from ffdi.commands.main import main
    from ffdi.intake.tables import write_table

    threads = torch.get_num_threads()
    columns = clips.set_index("image_id")["attr_video"]
    write_table(tmp_path / "images.csv", tiny.images.assign(attr_video=tiny.images["image_id"].map(columns).fillna("")))
    out = tmp_path / "out.json"
    files = ("--images", tmp_path / "images.csv", "--folds", tiny.folds_file, "--root", tiny.root, "--out", out)
    arguments = ["evaluate", "--model", str(trained.model), "--phash-bits", "0", "--bootstrap", "100", *map(str, files)]
    done = CliRunner().invoke(main, [*arguments, "--unit", "video", "--unit-score", "top-2"])
    assert done.exit_code == 0, done.output
    metrics = json.loads(out.read_text())
    assert metrics["unit"] == "video" and metrics["unit_score"] == "top-2" and metrics["unit_count"] > 1
    assert any(line.startswith("by video, top-2 of its images: AUC ") for line in done.stderr.splitlines()), done.stderr
    missing = CliRunner().invoke(main, [*arguments, "--unit", "clip"])
    assert missing.exit_code == 1 and "no attribute clip to judge by; they have video" in missing.stderr
    torch.set_num_threads(threads)
