"""The rule of check-repro: it allows what another machine may change, and reports everything else.

tests/reproducing has figures and scores of the demo that were made once. `demo/recorded` and `demo/other` are one commit on
two processors (AMD EPYC of family 26 and 25). `recipes` has its four recipes trained again: as recorded, with the
instructions of an older processor (AVX2), on one thread; and one of them with five defects.
"""

from __future__ import annotations

import copy
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import check_repro
import pandas as pd
import pytest
from check_repro import (
    changed_hashes,
    other_headlines,
    problems_elsewhere,
    read_all,
    readme_with_figures,
    record,
    unequal,
)
from figures import MEAN, Figures, digest, figure_differences, read_figures, score_differences

HERE = Path(__file__).parent / "reproducing"
DEFECTS = ("seed", "lr", "flipped", "leaked", "normalisation")


def run_of(folder: Path) -> Figures:
    return read_figures(
        folder / "metrics",
        plots=folder / "plots",
        models=folder / "models",
        cross=folder / "cross",
        images=HERE / "images.csv",
    )


def problems(recorded: Figures, made: Figures) -> list[str]:
    digests = {name: digest(scores) for name, scores in recorded.scores.items()}
    moved = [line for name in digests for line in score_differences(digests[name], made.scores[name])]
    return moved + figure_differences(recorded.metrics, made, digests)


def test_another_processor_passes() -> None:
    recorded, made = run_of(HERE / "demo/recorded"), run_of(HERE / "demo/other")
    assert recorded.metrics != made.metrics
    assert figure_differences(recorded.metrics, made) == []


@pytest.mark.parametrize("processor", ["avx2", "one-thread"])
def test_an_older_processor_and_another_number_of_threads_pass(processor: str) -> None:
    recorded, made = run_of(HERE / "recipes/recorded"), run_of(HERE / "recipes" / processor)
    assert recorded.metrics != made.metrics
    assert problems(recorded, made) == []


@pytest.mark.parametrize("defect", DEFECTS)
def test_a_defect_fails(defect: str) -> None:
    recorded, made = run_of(HERE / "recipes/recorded"), run_of(HERE / "recipes" / defect)
    (moved,) = score_differences(digest(recorded.scores["late_cut"]), made.scores["late_cut"])
    assert moved.startswith("test scores differ by")


@pytest.mark.parametrize("processor", ["avx2", "one-thread"])
def test_the_bounds_are_no_wider_than_they_must_be(processor: str) -> None:
    """Half of them would call another number of threads a defect; twice them would still see every defect."""
    recorded, made = run_of(HERE / "recipes/recorded"), run_of(HERE / "recipes" / processor)
    name = "efficientnet_lite0"
    moved = (
        recorded.scores[name].set_index("image_id")["score"] - made.scores[name].set_index("image_id")["score"]
    ).abs()
    spread = recorded.scores[name]["score"].std(ddof=0)
    assert MEAN / 2.5 < moved.mean() / spread < MEAN / 1.5
    for defect in DEFECTS:
        wrong = run_of(HERE / "recipes" / defect).scores["late_cut"].set_index("image_id")["score"]
        right = recorded.scores["late_cut"].set_index("image_id")["score"]
        assert (wrong - right).abs().mean() / right.std(ddof=0) > 3 * MEAN


@pytest.fixture
def made() -> Figures:
    """Four images of one recipe, a real and a fake near the threshold of .5; `differs` says that a score moved by .004."""
    scores = pd.DataFrame(
        {
            "image_id": ["a", "b", "c", "d"],
            "label": [0, 0, 1, 1],
            "score": [0.1, 0.499, 0.503, 0.9],
            "fold_0": [0.1, 0.2, 0.8, 0.9],
        }
    )
    oof = pd.DataFrame({"label": [0, 0, 1, 1], "score": [0.2, 0.4, 0.6, 0.8]})
    metrics = {"accuracy": 1.0, "recall": 1.0, "precision": 1.0, "fold_0_accuracy": 1.0, "auc": 1.0, "threshold": 0.5}
    return Figures({"one": {**metrics, "n_test": 4, "weights": "x"}}, {"one": scores}, {"one": oof})


def differs(made: Figures, **changed: Any) -> list[str]:
    recorded = {**made.metrics["one"], **changed}
    scores = made.scores["one"].assign(score=made.scores["one"]["score"] + [0.004, 0, 0, 0])
    figures = {"one": {key: value for key, value in recorded.items() if value is not ...}}
    return figure_differences(figures, made, {"one": scores})


def test_counts_and_names_are_exact(made: Figures) -> None:
    assert differs(made) == []
    assert differs(made, n_test=5) == ["one: n_test: recorded 5, now 4"]
    assert differs(made, weights="y") == ["one: weights: recorded 'y', now 'x'"]
    assert differs(made, weights=...) == ["one: weights: only in one of the two"]
    assert differs(made, auc=None) == ["one: auc: recorded None, now 1.0"]
    assert figure_differences({}, made) == ["one: only in one of the two"]


def test_what_is_counted_may_differ_by_the_images_near_the_threshold(made: Figures) -> None:
    """b (real) and c (fake) are near: accuracy may be 2/4 to 4/4, recall 1/2 or 1, precision 1/2 to 1."""
    assert differs(made, accuracy=0.5, recall=0.5, precision=0.5) == []
    assert differs(made, accuracy=0.25) == ["one: accuracy: recorded 0.25, now 1; may be 0.5 to 1"]
    assert differs(made, recall=0.0) == ["one: recall: recorded 0, now 1; may be 0.5 to 1"]
    assert differs(made, fold_0_accuracy=0.75) == ["one: fold_0_accuracy: recorded 0.75, now 1; may be 1 to 1"]


def test_a_ratio_may_have_lost_its_images(made: Figures) -> None:
    """Were both fakes near, none might have been called fake: no precision."""
    made.scores["one"]["score"] = [0.1, 0.2, 0.498, 0.499]
    reason = {"precision": None, "precision_reason": "undefined", "accuracy": 0.5, "recall": 0.0}
    assert differs(made, **reason) == []
    made.scores["one"]["score"] = [0.1, 0.2, 0.498, 0.9]
    assert differs(made, **reason)


def test_the_threshold_may_be_another_one_that_is_as_good(made: Figures) -> None:
    assert differs(made, threshold=0.45) == []  # between the same two out-of-fold scores
    (worse,) = differs(made, threshold=0.3)
    assert worse.startswith("one: threshold: recorded 0.3, now 0.5; may be 0.49")


def test_ranks_differ_by_pairs_that_are_close(made: Figures) -> None:
    """Of four pairs b and c alone are within twice .004, and two are the least that is let pass."""
    assert differs(made, auc=0.5) == []
    assert differs(made, auc=0.49) == ["one: auc: recorded 0.49, now 1; may be 0.5 to 1.5"]


def test_a_fold_is_ranked_by_its_own_validation_images(made: Figures) -> None:
    """Each fold has four pairs, of which two may change places; both folds together would have sixteen."""
    folds = pd.DataFrame({"fold": [0] * 4 + [1] * 4, "label": [0, 0, 1, 1] * 2, "score": [0.1, 0.2, 0.8, 0.9] * 2})
    made.oof["one"] = folds  # type: ignore[index]
    made.metrics["one"]["fold_1_val_auc"] = 1.0  # type: ignore[index]
    assert differs(made, fold_1_val_auc=0.5) == []
    assert differs(made, fold_1_val_auc=0.49) == ["one: fold_1_val_auc: recorded 0.49, now 1; may be 0.5 to 1.5"]


def test_what_lies_below_chance_follows_from_the_intervals(made: Figures) -> None:
    below = {"auc": 0.4, "auc_low": 0.3, "auc_high": 0.499, "below_chance": 1, "below_chance_at": "auc"}
    made.metrics["one"].update(below)  # type: ignore[attr-defined]
    assert differs(made, auc_high=0.501, below_chance=0, below_chance_at=...) == []
    for wrong in ({"below_chance": 2}, {"below_chance_at": "fold_0_auc"}, {"below_chance": ...}):
        assert differs(made, **wrong), wrong


def test_ranks_of_many_images_differ_by_a_hundredth() -> None:
    """No pair of 100 reals and 100 fakes is close, and one of them is a ten thousandth."""
    scores = pd.DataFrame({"image_id": [f"{i:03}" for i in range(200)], "label": [0] * 100 + [1] * 100})
    scores["score"] = scores["label"] * 0.5 + 0.25
    made = Figures({"one": {"auc": 1.0}}, {"one": scores})
    assert figure_differences({"one": {"auc": 0.991}}, made, {"one": scores}) == []
    (line,) = figure_differences({"one": {"auc": 0.989}}, made, {"one": scores})
    assert line == "one: auc: recorded 0.989, now 1; may be 0.99 to 1.01"


def test_scores_are_compared_image_by_image(made: Figures) -> None:
    """Their spread is .283: one may move by .0566, all of them on average by .01414."""
    old, new = digest(made.scores["one"]), made.scores["one"]
    assert score_differences(old, new) == []
    assert score_differences(old, new.assign(score=new["score"] + [0.05, 0, 0, 0])) == []
    assert score_differences(old, new.assign(score=new["score"] + [0.06, 0, 0, 0])) == [
        "test scores differ by 0.0150 on average and 0.0600 at most, over 4 images; another machine explains 0.0141 and "
        "0.0566"
    ]
    assert score_differences(old, new.assign(score=new["score"] + 0.015))  # each a little, which is too much together
    assert score_differences(old, new.assign(label=1)) == ["2 of 4 test images are others now, or have another label"]
    assert score_differences(old, new.head(3)) == ["1 of 4 test images are others now, or have another label"]


def test_scores_beside_one_value_have_a_floor() -> None:
    """What has learned nothing scores all images alike: their spread tells nothing."""
    flat = pd.DataFrame({"image_id": list("abcdef"), "label": [0, 1] * 3, "score": [0.5] * 6})
    assert score_differences(flat, flat.assign(score=[0.5049, *[0.5] * 5])) == []
    assert score_differences(flat, flat.assign(score=[0.5051, *[0.5] * 5]))
    assert score_differences(flat, flat.assign(score=0.5011))


def test_a_verdict_may_turn_only_beside_its_level() -> None:
    def summary(p: float, verdict: str) -> dict[str, Any]:
        return {"a_minus_b_auc_p_corrected": p, "a_minus_b_auc_verdict": verdict}

    def turned(old: float, new: float) -> list[str]:
        return figure_differences({"summary": summary(old, "a is better")}, Figures({"summary": summary(new, "none")}))

    assert turned(0.049, 0.051) == []
    assert turned(0.001, 0.2)
    assert turned(0.02, 0.06) == [
        "summary: a_minus_b_auc_p_corrected: recorded 0.02, now 0.06; may be 0.034 to 0.086",
        "summary: a_minus_b_auc_verdict: recorded 'a is better', now 'none'",
    ]


def test_a_p_value_that_shows_nothing_may_be_any_other_such() -> None:
    """Of two recipes whose AUCs differ by .033, .004 more made .53 of .42."""
    key = "a_minus_b_auc_p_corrected"
    assert figure_differences({"summary": {key: 0.533}}, Figures({"summary": {key: 0.425}})) == []
    assert figure_differences({"summary": {key: 0.05}}, Figures({"summary": {key: 0.425}}))
    assert figure_differences({"summary": {key: 0.425}}, Figures({"summary": {key: 0.05}}))


@pytest.mark.parametrize(("pretrained", "lines"), [(False, 0), (True, 1)])
def test_random_weights_are_made_of_sums(pretrained: bool, lines: int) -> None:
    old, new = ({"weights_sha256": sha256, "pretrained": pretrained} for sha256 in ("a", "b"))
    assert len(figure_differences({"one": old}, Figures({"one": new}))) == lines


def test_on_the_same_type_of_machine_everything_is_equal() -> None:
    recorded = {f"details/{name}.json": dict(m) for name, m in run_of(HERE / "recipes/recorded").metrics.items()}
    made = copy.deepcopy(recorded)
    assert unequal(recorded, made) == []
    made["details/late_cut.json"]["auc"] += 1e-16 + 1e-15
    made["details/late_cut.json"]["more"] = None
    made["details/late.json"] = {}
    assert [line.rpartition(", made")[0].rpartition(" committed")[0] for line in unequal(recorded, made)] == [
        "",
        "details/late_cut.json: auc:",
        "details/late_cut.json: more:",
    ]


def test_a_headline_says_what_its_details_say() -> None:
    metrics = {"one.json": {"auc": 0.5}, "details/one.json": {"auc": 0.5, "ap": 0.1}, "details/two.json": {}}
    assert other_headlines(metrics) == []
    metrics["one.json"]["auc"] = 0.25
    assert other_headlines(metrics) == ["one.json: auc is 0.25, in the details 0.5"]


def test_changed_hashes_name_their_stages(tmp_path: Path) -> None:
    for name, md5 in (("a", 1), ("b", 2)):
        (tmp_path / name).write_text(f"stages: {{same: {{outs: 0}}, train: {{outs: {md5}}}, report: {{outs: {md5}}}}}")
    assert changed_hashes(tmp_path / "a", tmp_path / "a") == []
    assert changed_hashes(tmp_path / "a", tmp_path / "b") == ["dvc.lock: report", "dvc.lock: train"]


def test_readme_gets_the_recorded_figures(tmp_path: Path) -> None:
    (tmp_path / "metrics").mkdir()
    shutil.copytree(HERE / "demo/recorded/metrics", tmp_path / "metrics/details")
    shutil.copy(HERE / "demo/recorded/params.yaml", tmp_path)
    text = "a\n<!-- verdict -->\nold\n<!-- /verdict -->\nb\n<!-- results -->\nold\n<!-- /results -->\nc\n"
    (tmp_path / "README.md").write_text(text)
    made = readme_with_figures(tmp_path)
    assert made.startswith("a\n<!-- verdict -->\n```\nefficientnet_lite0, on an ImageNet-pretrained prefix, tells fake")
    assert "| late_cut | package:efficientnet-lite0 | 0.882 [0.836, 0.938] |" in made and "old" not in made
    (tmp_path / "README.md").write_text(made)
    assert readme_with_figures(tmp_path) == made


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """One whose pipeline has run, on the other processor."""
    for made, place in (("metrics", "metrics/details"), ("plots", "metrics/plots"), ("models", "data/models")):
        shutil.copytree(HERE / "demo/other" / made, tmp_path / place)
    shutil.copy(HERE / "images.csv", tmp_path / "data")
    shutil.copy(HERE / "demo/recorded/params.yaml", tmp_path)
    (tmp_path / "README.md").write_text("<!-- results -->\n<!-- /results -->\n")
    return tmp_path


def test_what_is_recorded_comes_out_again(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(checkout)
    (checkout / ".ci/scores").mkdir(parents=True)
    (checkout / ".ci/scores/gone.csv").touch()  # of a recipe that was
    record()
    kept = {file.stem: pd.read_csv(file) for file in (checkout / ".ci/scores").iterdir()}
    assert set(kept) == {"efficientnet_lite0", "late_cut", "mobilenet_v2", "wide_resnet50_2"}
    assert list(kept["late_cut"].columns) == ["image_id", "label", "score", *(f"fold_{n}" for n in range(5))]
    assert (checkout / ".ci/machine").read_text() == check_repro.machine_type() + "\n"
    assert "| late_cut |" in (checkout / "README.md").read_text()
    committed = read_all(checkout / "metrics")
    assert problems_elsewhere(checkout, committed) == []
    committed["details/late_cut.json"]["auc"] = 0.5
    kept["mobilenet_v2"].assign(score=0.9).to_csv(checkout / ".ci/scores/mobilenet_v2.csv", index=False)
    (checkout / ".ci/scores/wide_resnet50_2.csv").unlink()
    unrecorded, moved, figure = problems_elsewhere(checkout, committed)
    assert unrecorded == "wide_resnet50_2: no scores are recorded: make record"
    assert moved.startswith("mobilenet_v2: test scores differ by 0.")
    assert figure.startswith("late_cut: auc: recorded 0.5, now 0.88")


def test_nothing_is_recorded_of_a_pipeline_that_has_not_run(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(checkout)
    shutil.rmtree(checkout / "metrics/plots/late_cut")
    with pytest.raises(SystemExit, match="late_cut has no test scores here: run dvc repro first"):
        record()
    assert not (checkout / ".ci").exists()


@pytest.mark.parametrize("machine", ["the recorded one", "another"])
def test_the_whole_check_of_a_clone(
    checkout: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], machine: str
) -> None:
    """Only the run itself is a stand-in: it leaves in the clone all that a pipeline leaves, DVC's files too."""
    monkeypatch.chdir(checkout)
    monkeypatch.setattr(sys, "argv", ["check_repro.py"])
    record()
    live = checkout / "metrics/plots/late_cut/train/live"
    live.mkdir(parents=True)
    (live / "metrics.json").write_text("{}")  # DVCLive's, which no clone has
    (checkout / "dvc.lock").write_text("stages: {}\n")
    (checkout / ".gitignore").write_text("data\nmetrics/plots\n")
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b.c"]
    for command in (["init", "--quiet"], ["add", "."], ["commit", "--quiet", "-m", "figures"]):
        subprocess.run([*git, *command], check=True)
    if machine == "another":
        monkeypatch.setattr(check_repro, "machine_type", lambda: machine)
    figure: dict[str, float] = {}

    def repro(clone: Path) -> list[str]:
        for folder in ("data", "metrics"):
            shutil.copytree(checkout / folder, clone / folder, dirs_exist_ok=True)
        for file, value in figure.items():
            (clone / file).write_text(json.dumps(json.loads((clone / file).read_text()) | {"auc": value}))
        return []

    monkeypatch.setattr(check_repro, "repro", repro)
    check_repro.main()
    assert " metrics files come out again" in capsys.readouterr().out
    figure["metrics/details/late_cut.json"] = 0.5
    with pytest.raises(SystemExit, match=r"do not come out again:\n  (details/)?late_cut(.json)?: auc: .* 0.5"):
        check_repro.main()


def test_the_type_of_machine_names_the_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check_repro, "device_facts", dict)
    plain = check_repro.machine_type()
    assert re.search(r"Python 3\.\d+, \d+ cores", plain)
    monkeypatch.setattr(check_repro, "device_facts", lambda: {"gpu": "NVIDIA H100", "cuda": "13.2", "cudnn": "91200"})
    assert check_repro.machine_type() == f"{plain}, NVIDIA H100, 13.2, 91200"
