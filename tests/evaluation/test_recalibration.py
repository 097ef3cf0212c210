"""Temperature and threshold for another domain, from a few labelled images of it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from click.testing import CliRunner, Result
from conftest import Tiny, Trained, picture
from two_recipes import edit_record

from ffdi.bootstrap import Bootstrap, interval_around, mean_of, resample
from ffdi.commands.main import main
from ffdi.errors import InputError, PolicyError
from ffdi.evaluation.recalibration import At, Recalibration, cross_validated, recalibrate, refuse_too_few
from ffdi.intake.tables import read_table
from ffdi.metrics import expected_calibration_error
from ffdi.tails.bundle import load_bundle, sigmoid
from ffdi.tails.policy import Policy
from ffdi.tails.policy_settings import PolicySettings, ThresholdRule

pytestmark = pytest.mark.usefixtures("restore_threads")

Array = npt.NDArray[Any]
FEW = Bootstrap(200)


def planted(
    seed: int, *, temperature: float = 1.0, shift: float = 0.0, count: int = 200, groups: int = 100
) -> tuple[At, Array, Array]:
    """Images whose true P(fake) is sigmoid(l); the model says l * temperature + shift."""
    rng = np.random.default_rng(seed)
    true = rng.normal(0, 2, count)
    labels = (rng.random(count) < sigmoid(true)).astype(int)
    said = true * temperature + shift
    return lambda at: sigmoid(said / at), labels, np.arange(count) % groups


def found(at: At, labels: Array, groups: Array, old: float = 1.0) -> Recalibration:
    return recalibrate(at, labels, groups, PolicySettings(), (old, Policy(0.5)), FEW)


@pytest.mark.parametrize("temperature", [0.3, 1.0, 4.0])
def test_the_temperature_of_overconfident_and_timid_scores_is_found(temperature: float) -> None:
    """And a gain is shown where there is one, and hardly ever where there is none."""
    draws = [found(*planted(seed, temperature=temperature)) for seed in range(12)]
    assert np.mean(np.log([one.temperature for one in draws])) == pytest.approx(np.log(temperature), abs=0.1)
    enough = sum(one.enough_for_temperature for one in draws)
    assert enough <= 2 if temperature == 1 else enough >= 10
    gains = [float(one.figures["ece_gain"] or 0) for one in draws]
    assert np.mean(gains) > 0.03 or temperature == 1.0


def test_a_threshold_that_all_scores_have_passed_is_mended() -> None:
    """The domain moves every logit by 3: at .5 nearly all is called fake."""
    at, labels, groups = planted(0, shift=3.0)
    moved = found(at, labels, groups)
    assert moved.enough_for_threshold
    passed = moved.temperature * np.log(moved.policy.threshold / (1 - moved.policy.threshold))
    assert passed == pytest.approx(3.0, abs=1.0)
    figures = moved.figures
    assert figures["fpr_before"] == pytest.approx((at(1.0) >= 0.5)[labels == 0].mean())
    assert float(figures["fpr_after"] or 0) < float(figures["fpr_before"] or 0) - 0.3
    assert not found(*planted(0)).enough_for_threshold


def test_no_image_is_judged_with_what_was_fitted_on_it() -> None:
    """Scores that say nothing: on its own images a threshold is better than chance, on others it is not."""
    own, others = [], []
    for seed in range(20):
        at, _, groups = planted(seed, count=40, groups=40)
        labels = np.random.default_rng(seed).permutation(np.arange(40) % 2)
        fitted = found(at, labels, groups)
        own.append(((at(fitted.temperature) >= fitted.policy.threshold) == labels).mean())
        others.append(fitted.figures["accuracy_after"])
    assert np.mean(own) > 0.58 and np.mean(others) < 0.53


def test_a_group_is_not_parted() -> None:
    """Images of one group share a threshold, for it comes from the other groups."""
    at, labels, groups = planted(1, count=60, groups=12)
    _, thresholds = cross_validated(at, labels, groups, PolicySettings(), FEW)
    assert len(set(thresholds)) > 1
    assert all(len(set(thresholds[groups == group])) == 1 for group in set(groups))


def test_the_figures_are_those_of_the_scores() -> None:
    at, labels, groups = planted(2, temperature=3.0)
    figures = found(at, labels, groups).figures
    scores, thresholds = cross_validated(at, labels, groups, PolicySettings(), FEW)
    assert figures["ece_before"] == pytest.approx(expected_calibration_error(labels, at(1.0)))
    assert figures["accuracy_after"] == pytest.approx(((scores >= thresholds) == labels).mean())
    due = -np.log(np.where(labels == 1, at(1.0), 1 - at(1.0))).mean()
    assert figures["log_loss_before"] == pytest.approx(due)
    losses = [-np.log(np.where(labels == 1, one, 1 - one)) for one in (at(1.0), scores)]
    drawn = resample(groups, {"": mean_of(losses[0] - losses[1])}, bootstrap=FEW)[""]
    ends = interval_around(float(figures["log_loss_gain"] or 0), drawn, within=(-9, 9))
    assert ends == pytest.approx([figures["log_loss_gain_low"], figures["log_loss_gain_high"]])
    for key in ("log_loss", "ece", "accuracy"):
        low, gain, high = (float(figures[f"{key}_gain{end}"] or 0) for end in ("_low", "", "_high"))
        assert low <= gain <= high


def test_a_rate_that_cross_validation_cannot_resolve_says_so() -> None:
    labels = np.repeat([0, 1], 20)
    at, settings = (lambda _: np.linspace(0.1, 0.9, 40)), PolicySettings(ThresholdRule("fpr", 0.055))
    with pytest.raises(
        PolicyError, match=r"in cross-validation, with 32 of the 40 images: threshold.at: 16 real images"
    ):
        cross_validated(at, labels, np.arange(40).astype(str), settings, Bootstrap(100))


def test_too_few_images_or_one_class_are_refused() -> None:
    labels, groups = np.arange(40) % 2, np.arange(40)
    refuse_too_few(labels, groups)
    with pytest.raises(InputError, match="19 labelled images are too few: it takes 20 or more"):
        refuse_too_few(labels[:19], groups[:19])
    with pytest.raises(InputError, match="0 groups with fake images are too few: it takes 5 or more of each class"):
        refuse_too_few(np.zeros(40), groups)
    with pytest.raises(InputError, match="4 groups with real images"):
        refuse_too_few(labels, np.where(labels == 0, groups % 8, groups))


# The command


@pytest.fixture(scope="module")
def domain(tiny: Tiny, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 new pictures and one that the model was trained on, with few.csv beside their folder."""
    root = tmp_path_factory.mktemp("domain") / "images"
    root.mkdir()
    lines = ["path,label,group"]
    for number in range(24):
        picture(2000 + number, 72, bool(number % 2)).save(root / f"{number}.jpg", quality=92)
        lines.append(f"{number}.jpg,{number % 2},p{number // 2}")
    trained = tiny.rows[tiny.rows["role"] == "train"].iloc[0]
    (root / "known.jpg").write_bytes((tiny.root / trained["path"]).read_bytes())
    lines.append(f"known.jpg,{trained['label']},p99")
    (root.parent / "few.csv").write_text("\n".join(lines) + "\n")
    return root


def run(model: Path, domain: Path, out: Path, *options: str) -> Result:
    paths = ("--model", model, "--labels", domain.parent / "few.csv", "--root", domain, "--out", out)
    return CliRunner().invoke(
        main, ["recalibrate", *map(str, paths), "--phash-bits", "0", "--bootstrap", "100", *options]
    )


def test_the_new_model_has_its_parents_weights_and_names_it(trained: Trained, domain: Path, tmp_path: Path) -> None:
    before = {file.name: file.read_bytes() for file in trained.model.iterdir()}
    done = run(trained.model, domain, tmp_path / "new")
    assert done.exit_code == 0, done.output
    assert "'known.jpg': left out" in done.stderr and "for the temperature, 24 images were" in done.stderr
    assert before == {file.name: file.read_bytes() for file in trained.model.iterdir()}
    made = {file.name: file.read_bytes() for file in (tmp_path / "new").iterdir()}
    changed = {name for name in before if made[name] != before[name]}
    assert made.keys() == before.keys() and changed == {"bundle.json", "seen.csv"}
    old, new = load_bundle(trained.model), load_bundle(tmp_path / "new")
    assert new.record["parent"] == {"name": "tiny", "facts_sha256": old.record["facts_sha256"]}
    assert new.record["recalibrated"]["images"] == 24 and new.temperature != old.temperature
    assert len(new.seen) == len(old.seen) + 24
    assert set(old.seen["image_id"]) < set(read_table(tmp_path / "new/seen.csv", ("image_id", "phash"))["image_id"])
    again = run(trained.model, domain, tmp_path / "new")  # in the place of the former one
    assert again.exit_code == 0 and made == {f.name: f.read_bytes() for f in (tmp_path / "new").iterdir()}
    line = done.stderr.splitlines()[-1]
    assert f"threshold {old.threshold:.3f} -> {new.threshold:.3f}" in line


def test_the_new_model_predicts_with_its_own_temperature(trained: Trained, domain: Path, tmp_path: Path) -> None:
    """A recalibration of what is recalibrated on the same images has nothing to add: they are known now."""
    assert run(trained.model, domain, tmp_path / "new", "--rule", "accuracy").exit_code == 0
    facts = json.loads((tmp_path / "new/bundle.json").read_text())
    assert facts["policy"]["rule"] == "accuracy" and "expected_fpr_high" in facts["policy"]
    scores = []
    for model in (trained.model, tmp_path / "new"):
        done = CliRunner().invoke(main, ["predict", "--model", str(model), str(domain / "0.jpg")])
        scores.append(float(done.stdout.splitlines()[1].split(",")[1]))
    assert scores[0] != scores[1]
    known = run(tmp_path / "new", domain, tmp_path / "third")
    assert known.exit_code == 1 and "0 labelled images are too few" in known.stderr.splitlines()[-1]


def test_a_band_that_the_domain_does_not_allow_can_be_left_out(trained: Trained, domain: Path, tmp_path: Path) -> None:
    model = tmp_path / "model"
    shutil.copytree(trained.model, model)
    old = load_bundle(model)
    facts = {"rule": "youden", "abstain_error": 0.001, "abstain_low": 0.4, "abstain_high": 0.6}
    edit_record(model, lambda record: record.update(policy=facts))
    refused = run(model, domain, tmp_path / "new")
    assert refused.exit_code == 1 and "--abstain: no two thresholds" in refused.stderr.splitlines()[-1]
    assert run(model, domain, tmp_path / "new", "--abstain", "0").exit_code == 0
    assert not load_bundle(tmp_path / "new").policy.abstains
    assert run(trained.model, domain, tmp_path / "wide", "--abstain", "0.45").exit_code == 0
    assert load_bundle(tmp_path / "wide").policy.facts["abstain_error"] == 0.45 and not old.policy.abstains


def test_labels_that_a_spreadsheet_saved(trained: Trained, domain: Path, tmp_path: Path) -> None:
    few = domain.parent / "few.csv"
    plain = few.read_bytes()
    few.write_bytes(plain.replace(b",", b"\t").decode().encode("utf-16"))
    done = run(trained.model, domain, tmp_path / "new")
    few.write_bytes(plain)
    assert done.exit_code == 0 and "few.csv: read with UTF-16, tabs between columns" in done.stderr


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--at", "0.2"), "--at has no effect on rule youden: leave it out, or set --rule fpr"),
        (
            ("--rule", "fpr"),
            "--at: 12 real images of 12 groups out of fold cannot resolve a false-positive rate of 0.01",
        ),
        (("--abstain", "0.001"), "--abstain: no two thresholds around"),
    ],
)
def test_what_cannot_be_is_refused(
    trained: Trained, domain: Path, tmp_path: Path, options: tuple[str, ...], says: str
) -> None:
    done = run(trained.model, domain, tmp_path / "new", *options)
    assert done.exit_code == 1 and says in done.stderr.splitlines()[-1] and not (tmp_path / "new").exists()


def test_nothing_but_a_recalibrated_model_is_replaced(trained: Trained, domain: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/notes.txt").write_text("keep")
    for out in (trained.model, trained.model / "new", tmp_path / "mine"):
        done = run(trained.model, domain, out)
        assert done.exit_code == 1 and "name another folder" in done.stderr
    assert (tmp_path / "mine/notes.txt").read_text() == "keep"
