"""A bundle on another data set: scored from files, without the images it was trained on."""

from __future__ import annotations

import json
import runpy
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from click.testing import CliRunner, Result
from conftest import Tiny, Trained, picture, tiny_backbone
from PIL import Image
from ruamel.yaml import YAML

from ffdi.bootstrap import Bootstrap
from ffdi.commands.main import main
from ffdi.errors import FfdiError, InputError
from ffdi.evaluation.other_data import OtherData, evaluate_on_other_data, resampling_groups, seen_before
from ffdi.features.extractor import load_extractor
from ffdi.features.weights import load_network
from ffdi.files import write_json
from ffdi.intake.decoding.images import ImageSource
from ffdi.intake.ingest import ingest
from ffdi.intake.listing.layouts import read_layout
from ffdi.intake.settings import DataSettings
from ffdi.intake.tables import read_images, write_table
from ffdi.metrics import Metrics, auc
from ffdi.tails.bundle import Bundle, load_bundle
from ffdi.tails.heads import TailFactory
from ffdi.tails.policy import Policy
from ffdi.tails.predict import predict_files, score_files
from ffdi.tails.recipe import Head

pytestmark = pytest.mark.usefixtures("restore_threads")

HERE = Path(__file__).parents[2]
CPU = torch.device("cpu")
KNOWN = ("again", "mirrored", "trained")


@pytest.fixture(scope="module")
def away(tiny: Tiny, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder `away` with images.csv: 70 new pictures, and of the home data set a training image, another saved anew,
    a third mirrored, and a test image."""
    folder = tmp_path_factory.mktemp("abroad")
    root = folder / "away"
    root.mkdir()
    names = [f"new-{i}.jpg" for i in range(70)]
    for number, name in enumerate(names):
        picture(1000 + number, 72, bool(number % 2)).save(root / name, quality=92)
    train, test = (list(tiny.rows["path"][tiny.rows["role"] == role]) for role in ("train", "test"))
    shutil.copy(tiny.root / train[3], root / "trained.jpg")
    shutil.copy(tiny.root / test[0], root / "tested.jpg")
    Image.open(tiny.root / train[5]).save(root / "again.jpg", quality=60)
    Image.open(tiny.root / train[8]).transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(root / "mirrored.jpg", quality=90)
    names += ["trained.jpg", "tested.jpg", "again.jpg", "mirrored.jpg"]
    (root / "labels.csv").write_text("path,label,group,maker\n" + "".join(
        f"{name},{number % 2},g{number // 2},{('', 'gan')[number % 2]}\n" for number, name in enumerate(names)
    ))  # fmt: skip
    listed = read_layout(root, DataSettings(".", "csv")).rows
    write_table(folder / "images.csv", ingest(listed, ImageSource(root, 10**6)).images)
    return root


def images_of(away: Path) -> pd.DataFrame:
    return read_images(away.parent / "images.csv")


def crossed(trained: Trained, away: Path, images: pd.DataFrame, **changes: Any) -> tuple[Metrics, pd.DataFrame]:
    options: dict[str, Any] = {"phash_bits": 2, "bootstrap": Bootstrap(200)} | changes
    bundle = options.pop("bundle", None) or load_bundle(trained.model)
    found = evaluate_on_other_data(bundle, OtherData("away", ImageSource(away, 10**6), images), device=CPU, **options)
    assert len(found.scores) == found.metrics["n_test"]
    return found.metrics, found.seen


def test_scores_are_those_of_predict(trained: Trained, away: Path) -> None:
    """More images than a batch, in an order that is not that of their ids."""
    bundle, images = load_bundle(trained.model), images_of(away).sample(frac=1, random_state=0)
    scored = score_files(bundle, images, ImageSource(away, 10**6), device=CPU)
    assert sorted(scored.by_fold) == [0, 1, 2] and all(scores.shape == (74,) for scores in scored.by_fold.values())
    files = [away / path for path in images["path"]]
    due = [score for _, score in predict_files(bundle, files, max_pixels=10**6, device=CPU)]
    assert scored.mean.tolist() == pytest.approx(due, abs=1e-6) and len(set(due)) == 74


@pytest.mark.parametrize("changes", [{"cut": "input"}, {"dtype": "int8"}])
def test_scores_are_those_of_predict_whatever_the_features(changes: dict[str, Any], weights: Path, away: Path) -> None:
    backbone = tiny_backbone(**changes)
    prefix = load_extractor(backbone, weights)
    network = load_network(backbone.network, weights)[0]
    fresh = TailFactory(network, backbone, Head("mlp", (16,), 0.2, 1, 1, 1), prefix.spec.shape).fresh
    source = {"weights_sha256": prefix.spec.weights_sha256, "weights": "random", "pretrained": False}
    facts, seen = {"provenance": source, "shape": prefix.spec.shape}, pd.DataFrame({"image_id": [], "phash": []})
    bundle = Bundle(backbone, prefix.load, {0: fresh(0), 1: fresh(1)}, Policy(0.5), 1.0, 0.5, seen, facts)
    images = images_of(away).head(20)
    found = score_files(bundle, images, ImageSource(away, 10**6), device=CPU).mean
    files = [away / path for path in images["path"]]
    due = [score for _, score in predict_files(bundle, files, max_pixels=10**6, device=CPU)]
    assert found.tolist() == pytest.approx(due, abs=1e-6) and len(set(due)) == 20


def test_known_images_are_left_out_and_counted(trained: Trained, tiny: Tiny, away: Path, tmp_path: Path) -> None:
    images = images_of(away)
    metrics, seen = crossed(trained, away, images)
    # The home test set was not trained on: its image may be judged.
    assert sorted(seen["path"]) == [f"{name}.jpg" for name in KNOWN]
    own = images[~images["path"].isin(seen["path"])]
    assert (metrics["n_seen"], metrics["n_test"]) == (3, 71) == (3, len(own))
    assert (metrics["recipe"], metrics["trained_on"], metrics["tested_on"]) == ("tiny", "tiny", "away")
    scores = score_files(load_bundle(trained.model), own, ImageSource(away, 10**6), device=CPU).mean
    labels, threshold = own["label"].to_numpy(), load_bundle(trained.model).threshold
    assert metrics["auc"] == pytest.approx(auc(labels, scores)) and metrics["threshold"] == threshold
    assert metrics["accuracy"] == ((scores >= threshold) == labels).mean()
    assert metrics["n_groups"] == own["group"].nunique()
    assert metrics["attr_maker_gan_fakes"] == int(labels.sum()) and metrics["fold_1_auc"] is not None
    write_json(tmp_path / "m.json", metrics)  # refuses NaN
    for key, value in metrics.items():
        assert (value is None) == (f"{key}_reason" in metrics), key


def test_the_same_bytes_are_known_whatever_their_hash(trained: Trained, away: Path) -> None:
    images = images_of(away)
    other = images.assign(phash=images["phash"][images["path"] == "new-0.jpg"].iloc[0])
    seen, cluster = seen_before(load_bundle(trained.model), other, 0)
    assert images["path"][seen].tolist() == ["trained.jpg"] and len(set(cluster.tolist())) == 1


def test_when_all_is_known_there_is_nothing_to_judge(trained: Trained, away: Path) -> None:
    images = images_of(away)
    known = images[images["path"].isin(["again.jpg", "trained.jpg"])]
    with pytest.raises(InputError, match="away: all 2 images are known from the training: nothing to evaluate"):
        crossed(trained, away, known)


def test_an_image_without_a_group_stands_with_its_near_duplicates(trained: Trained, away: Path) -> None:
    """As split has it: three of one perceptual hash are one group, every other image is its own."""
    images = images_of(away)
    alike = images["path"].isin(["new-0.jpg", "new-1.jpg", "new-2.jpg"])
    phash = images["phash"].where(~alike, images["phash"][alike].iloc[0])
    metrics, seen = crossed(trained, away, images.assign(group="", phash=phash))
    assert (metrics["n_test"], metrics["n_groups"]) == (len(images) - 3, len(images) - 3 - 2)
    assert (seen["group"] == "").all()  # the rows that are left out are as they were


def test_people_who_share_an_image_are_resampled_as_one() -> None:
    cells = ["anna", "anna|zoe", "zoe", "carl", "", ""]
    near = "near-duplicates 7"
    assert resampling_groups(cells, np.array([0, 1, 2, 3, 7, 7])) == ["anna", "anna", "anna", "carl", near, near]


def test_one_class_gives_nulls_with_reasons(trained: Trained, away: Path, tmp_path: Path) -> None:
    images = images_of(away)
    metrics, _ = crossed(trained, away, images[images["label"] == 1].head(9))
    assert metrics["auc"] is None and metrics["auc_reason"] and metrics["accuracy"] is not None
    write_json(tmp_path / "m.json", metrics)


def test_a_changed_image_and_a_score_that_is_no_number_are_errors(trained: Trained, away: Path, tmp_path: Path) -> None:
    images = images_of(away).head(4)
    shutil.copytree(away, tmp_path / "away")
    picture(7).save(tmp_path / "away" / images["path"].iloc[1])
    with pytest.raises(InputError, match="changed since it was ingested"):
        crossed(trained, tmp_path / "away", images)
    bundle = load_bundle(trained.model)
    with torch.no_grad():
        next(bundle.tails[0].head.parameters()).fill_(float("nan"))
    with pytest.raises(FfdiError, match=r"(\d) of \1 scores are not finite"):
        crossed(trained, away, images, bundle=bundle)


def test_a_bundle_that_has_seen_nothing_leaves_nothing_out(trained: Trained, away: Path) -> None:
    bundle = load_bundle(trained.model)
    assert not seen_before(replace(bundle, seen=bundle.seen.head(0)), images_of(away), 6)[0].any()


def run(trained: Trained, away: Path, *options: str, images: Path | None = None) -> Result:
    images = images or away.parent / "images.csv"
    paths = {"model": trained.model, "images": images, "root": away}
    arguments = [part for name, path in paths.items() for part in (f"--{name}", str(path))]
    return CliRunner().invoke(main, ["evaluate", *arguments, "--bootstrap", "200", "--phash-bits", "2", *options])


def test_the_command_writes_the_same_metrics_twice(
    trained: Trained, away: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    written = []
    for _ in range(2):
        result = run(trained, away)
        assert result.exit_code == 0, result.output
        (file,) = (tmp_path / "metrics").rglob("*.*")
        assert file == tmp_path / "metrics/cross/model-on-away.json"
        written.append(file.read_bytes())
    assert written[0] == written[1]
    assert json.loads(written[0]) == crossed(trained, away, images_of(away))[0]
    *_, one, two, three, closing, out = result.stderr.splitlines()
    known = {f"'{name}.jpg': left out: the model was trained on it or on a near-duplicate" for name in KNOWN}
    assert {one, two, three} == known
    assert closing.startswith("tiny -> away: test AUC ") and closing.endswith("71 images; 3 images left out")
    assert out == "metrics/cross/model-on-away.json"


def test_a_recalibrated_model_goes_by_a_name_of_its_own(trained: Trained, away: Path) -> None:
    model = load_bundle(trained.model)
    again = replace(model, record={**model.record, "parent": {"name": "tiny"}})
    data = OtherData("away", ImageSource(away, 50_000_000), images_of(away))
    options: dict[str, Any] = {"phash_bits": 0, "bootstrap": Bootstrap(100), "device": torch.device("cpu")}
    assert evaluate_on_other_data(again, data, **options).metrics["recipe"] == "tiny, recalibrated"


def test_the_command_judges_the_test_rows_of_folds_under_a_name(
    trained: Trained, tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At home, by its own folds.csv: the very figures of the test set."""
    options = ("--folds", str(tiny.folds_file), "--name", "home", "--out", str(tmp_path / "here.json"))
    result = run(trained, tiny.root, *options, images=tiny.images_file)
    assert result.exit_code == 0, result.output
    metrics = json.loads((tmp_path / "here.json").read_text())
    test = tiny.rows[tiny.rows["role"] == "test"]
    assert (metrics["n_test"], metrics["n_seen"], metrics["tested_on"]) == (len(test), 0, "home")
    assert metrics["n_groups"] == test["group"].nunique()


@pytest.mark.parametrize(
    ("option", "says"),
    [("--images", "none: no such file"), ("--model", "none/bundle.json: missing"), ("--folds", "none: no such file")],
)
def test_a_bad_path_is_one_line(option: str, says: str, trained: Trained, away: Path, tmp_path: Path) -> None:
    result = run(trained, away, option, str(tmp_path / "none"))
    assert result.exit_code == 1 and isinstance(result.exception, SystemExit)
    (line,) = result.stderr.splitlines()
    assert line.startswith(f"evaluate: {tmp_path}/{says}")


def test_the_command_takes_the_reach_of_a_near_duplicate(trained: Trained, away: Path) -> None:
    result = run(trained, away, "--phash-bits", "32")  # half of all bits: whatever is compared is alike
    assert result.exit_code == 1
    assert result.stderr == "evaluate: away: all 74 images are known from the training: nothing to evaluate\n"


def test_a_bad_root_is_said(trained: Trained, away: Path, tmp_path: Path) -> None:
    result = run(trained, tmp_path / "none", images=away.parent / "images.csv")
    assert result.exit_code == 1 and isinstance(result.exception, SystemExit)
    assert result.stderr.splitlines()[-1].startswith("evaluate: ") and "Traceback" not in result.stderr


def test_the_stage_judges_every_named_recipe(
    trained: Trained, away: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Figures are those of the command; what is left out and rejected is listed; without other data there is a 0."""
    params = YAML(typ="safe", pure=True).load(HERE / "params.yaml")
    params["audit"]["phash_bits"] = 2
    params["evaluate"] = {"bootstrap": 200, "cross": {"away": {"root": str(away), "recipes": ["late_cut"]}}}
    stage = runpy.run_path(str(HERE / "stages" / "cross.py"))["main"]
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "late_cut").symlink_to(trained.model)
    options = [f"--{key}={tmp_path / key}" for key in ("params", "models", "out", "details", "folder")]

    def figures() -> Metrics:
        YAML(typ="safe", pure=True).dump(params, tmp_path / "params")
        done = CliRunner().invoke(stage, options)
        assert done.exit_code == 0
        meant = (
            "cross: away: fake is label '1' of labels.csv (37 images), such as mirrored.jpg, new-1.jpg, new-11"
            in done.stderr
        )
        assert meant == bool(params["evaluate"].get("cross"))
        loaded: Metrics = json.loads((tmp_path / "details").read_text())
        assert json.loads((tmp_path / "out").read_text()) == {k: v for k, v in loaded.items() if k.endswith("_auc")}
        return loaded

    made = figures()
    metrics, seen = crossed(trained, away, images_of(away))
    recipe = metrics["recipe"]  # the bundle's own name
    assert made[f"{recipe}_on_away_auc"] == metrics["auc"] and made[f"{recipe}_on_away_n_seen"] == len(seen) == 3
    assert json.loads((tmp_path / "folder" / "late_cut-on-away.json").read_text()) == metrics
    listed = pd.read_csv(tmp_path / "folder" / "late_cut-on-away-seen.csv")
    assert listed["path"].tolist() == seen["path"].tolist()
    assert (tmp_path / "folder" / "away-rejected.csv").read_text() == "path,reason\n"
    assert (tmp_path / "folder" / "away-skipped.csv").read_text().startswith("path,reason\n")
    del params["evaluate"]["cross"]
    assert figures() == {"evaluations": 0, "below_chance": 0} and list((tmp_path / "folder").iterdir()) == []
