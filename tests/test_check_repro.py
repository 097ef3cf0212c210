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
from figure_rules import figure_differences
from figures import MEAN, Figures, digest, read_figures, score_differences

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
    monkeypatch.setattr(sys, "argv", ["check_repro.py", "--keep-demo"])
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
        (clone / "data/demo").mkdir(exist_ok=True)
        (clone / "data/demo/labels.csv").write_text("drawn")
        for file, value in figure.items():
            (clone / file).write_text(json.dumps(json.loads((clone / file).read_text()) | {"auc": value}))
        return []

    monkeypatch.setattr(check_repro, "repro", repro)
    check_repro.main()
    assert " metrics files come out again" in capsys.readouterr().out
    assert (checkout / "data/demo/labels.csv").read_text() == "drawn"
    figure["metrics/details/late_cut.json"] = 0.5
    with pytest.raises(SystemExit, match=r"do not come out again:\n  (details/)?late_cut(.json)?: auc: .* 0.5"):
        check_repro.main()


def test_the_type_of_machine_names_the_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check_repro, "describe_cuda", dict)
    plain = check_repro.machine_type()
    assert re.search(r"Python 3\.\d+, \d+ cores", plain)
    monkeypatch.setattr(check_repro, "describe_cuda", lambda: {"gpu": "NVIDIA H100", "cuda": "13.2", "cudnn": "91200"})
    assert check_repro.machine_type() == f"{plain}, NVIDIA H100, 13.2, 91200"
