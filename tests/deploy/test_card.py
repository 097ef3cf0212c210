"""The model card: hubs read its head, each figure is of the files of this very model, and what is missing is said."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from card_cases import write_metrics, write_model
from click.testing import CliRunner
from conftest import tiny_backbone
from huggingface_hub import EvalResult, ModelCard

from ffdi.commands.main import main
from ffdi.console import Console
from ffdi.deploy.card.facts import Publication, read_facts
from ffdi.deploy.card.writing import card, write_card
from ffdi.errors import BundleError, InputError
from ffdi.files import write_json


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with model/ and metrics/ that belong together."""
    write_metrics(tmp_path / "metrics", write_model(tmp_path / "model"))
    return tmp_path


def text_of(folder: Path, licence: str | None = None, console: Console = Console(), dataset: str | None = None) -> str:
    return card(read_facts(folder / "model", folder / "metrics", Publication(licence, dataset), console))


def test_a_hub_reads_the_head(folder: Path) -> None:
    write_card(
        folder / "model",
        folder / "README.md",
        metrics=folder / "metrics",
        published=Publication("cc-by-nc-4.0", "me/faces"),
    )
    data = ModelCard.load(folder / "README.md").data
    assert (data.license, data.library_name, data.pipeline_tag) == ("cc-by-nc-4.0", "ffdi", "image-classification")
    assert (data.datasets, data.model_name) == (["me/faces"], "tiny")
    assert data.tags[:2] == ["deepfake-detection", "ffdi"]
    results: list[EvalResult] = data.eval_results
    found = {(result.dataset_name, result.metric_type): result.metric_value for result in results}
    assert found["faces", "roc_auc"] == 0.8765
    assert found["street", "roc_auc"] == 0.65
    assert found["faces", "accuracy"] == found["street", "accuracy"] == 0.75
    assert "AUC (95 % interval 0.800 to 0.900)" in [result.metric_name for result in results]


def test_it_says_what_the_files_say(folder: Path) -> None:
    text = text_of(folder)
    for said in (
        "Its test AUC is 0.877 [0.800, 0.900], on 40 test images in 30 groups",
        "| AUC | 0.877 [0.800, 0.900] | 0.650 [0.600, 0.900] |",
        "| fakes found at 1 % false alarms | none: 20 reals cannot resolve it |",
        "Trained on 6 images of the data set faces",
        "46 images, 23 of them fake, in 36 groups; 40 are the test set",
        "Leaks that the audit found: **0**",
        "**Shortcuts of the data**: name tell fake from real",
        "| name | 0.700 [0.600, 0.800] |",
        "2 levels of perturbation) its mean AUC is 0.660, the lowest 0.610 at jpeg-30",
        "accuracy falls to 0.550 at resize 0.5",
        "worst at kind whole: AUC 0.550 [0.500, 0.600] (0 reals, 7 fakes",
        "called fake from a score of 0.4375 on",
        "temperature 1.250",
        "has no index of them",
        "Weights package:efficientnet-lite0: apache-2.0",
        "No licence was given",
        "| tiny | torchvision:mobilenet_v2 |",
    ):
        assert said in text, said


def test_figures_of_videos_are_rows_of_their_own(folder: Path) -> None:
    assert "AUC by" not in text_of(folder)
    file = folder / "metrics" / "details" / "tiny.json"
    unit = {
        "unit": "video",
        "unit_auc": 0.9,
        "unit_auc_low": 0.85,
        "unit_auc_high": 0.95,
        "unit_accuracy": 0.8,
        "unit_count": 9,
    }
    write_json(file, json.loads(file.read_text()) | unit)
    text = text_of(folder)
    assert "| AUC by video | 0.900 [0.850, 0.950] | none: not measured |" in text
    assert (
        "| accuracy by video | 0.800 | none: not measured |" in text
        and "| video: how many | 9 | not measured |" in text
    )


def test_what_was_not_measured_is_said(tmp_path: Path) -> None:
    write_model(tmp_path / "model")
    text = text_of(tmp_path)
    for missing in (
        "was not audited",
        "a test set (its",
        "on any other data set",
        "compressed, resized",
        "fakes apart",
    ):
        assert f"Not measured: {missing}" in text or missing in text
    assert text.count("Not measured") == 5
    assert "model-index" not in text
    assert ModelCard(text).data.eval_results is None


@pytest.mark.parametrize("key", ["weights_sha256", "threshold", "temperature"])
def test_figures_of_another_model_are_refused(folder: Path, key: str) -> None:
    file = folder / "metrics" / "details" / "tiny.json"
    write_json(file, json.loads(file.read_text()) | {key: 0.3})
    with pytest.raises(
        InputError, match=rf"tiny.json: is of another model: its {key} is 0.3, .*`dvc repro evaluate@tiny`"
    ):
        text_of(folder)


def test_an_audit_of_other_data_is_refused(folder: Path) -> None:
    file = folder / "metrics" / "details" / "audit.json"
    write_json(file, json.loads(file.read_text()) | {"images": 50})
    with pytest.raises(InputError, match=r"audit.json: is of other data: it has 10 training images, .* trained on 6"):
        text_of(folder)


def test_an_evaluation_of_another_model_is_left_out_and_said(folder: Path) -> None:
    file = folder / "metrics" / "cross" / "tiny-on-street.json"
    write_json(file, json.loads(file.read_text()) | {"model_sha256": "00"})
    said: list[str] = []
    text = text_of(folder, console=Console(say=said.append))
    assert "street" not in text and "Not measured: how it does on any other data set" in text
    assert [line for line in said if "tiny-on-street.json: is of another model" in line]


def test_evaluations_of_the_pipeline_are_found_beside_the_metrics(folder: Path) -> None:
    (folder / "metrics" / "cross").rename(folder / "there")
    (folder / "data").mkdir()
    (folder / "there").rename(folder / "data" / "cross")
    assert "| 0.650 [0.600, 0.900] |" in text_of(folder)


def test_a_recalibrated_model_has_evaluations_of_its_own(tmp_path: Path) -> None:
    found = {"images": 60, "accuracy_before": 0.5, "accuracy_after": 0.7}
    record = write_model(tmp_path / "model", recalibrated=found, parent={"name": "tiny", "facts_sha256": "cd"})
    write_metrics(tmp_path / "metrics", record)
    text = text_of(tmp_path)
    assert "\n# tiny, recalibrated\n" in text and "| AUC | 0.650 [0.600, 0.900] |" in text


def test_a_refit_tail_and_images_unlike_the_training(tmp_path: Path) -> None:
    record = write_model(tmp_path / "model", refit={"images": 6, "epochs": 3}, unlike={"limit": 1.5, "rows": 6})
    shares = {"unlike_share": 0.025, "unlike_share_low": 0.01, "unlike_share_high": 0.05}
    figures = {"folds_auc": 0.86, "refit_minus_folds_auc": 0.016}
    figures |= {"refit_minus_folds_auc_low": -0.01, "refit_minus_folds_auc_high": 0.04}
    write_metrics(tmp_path / "metrics", record, **shares, **figures)
    text = text_of(tmp_path)
    assert "1, on all training images (3 epochs)" in text
    assert "a test AUC of 0.860; the difference is 0.016 [-0.010, 0.040]" in text
    assert "unlike those of its training: 2.5 % (1.0 % to 5.0 %) of the test images." in text


def test_a_recalibrated_model_takes_no_figure_of_its_parent(tmp_path: Path) -> None:
    found = {"images": 60, "accuracy_before": 0.5, "accuracy_after": 0.7}
    parent = {"name": "tiny", "facts_sha256": "cd" * 32}
    record = write_model(tmp_path / "model", recalibrated=found, parent=parent)
    write_metrics(tmp_path / "metrics", record | {"threshold": 0.1})
    text = text_of(tmp_path)
    assert "0.877" not in text and "fitted again after its parent was tested" in text
    assert (
        "fitted again on 60 images of another domain: by cross-validation its accuracy there went from 0.500 to 0.700"
        in text
    )
    assert "cd" * 32 in text


def test_a_policy_with_a_band_and_a_rate(tmp_path: Path) -> None:
    policy = {
        **{
            "rule": "fpr",
            "threshold_at": 0.01,
            "expected_fpr": 0.02,
            "expected_fpr_low": 0.01,
            "expected_fpr_high": 0.04,
        },
        **{"abstain_error": 0.05, "abstain_low": 0.3, "abstain_high": 0.7},
    }
    write_model(tmp_path / "model", policy=policy)
    text = text_of(tmp_path)
    assert "the score with 1.0 % of the reals above it" in text
    assert "Between 0.3000 and 0.7000 it is `undecided`: the band was set for at most 5.0 % errors" in text
    assert "expected to call 2.0 % of real images fake (1.0 % to 4.0 %)" in text


def test_random_weights_are_marked(tmp_path: Path) -> None:
    provenance = {"weights": "random", "pretrained": False, "weights_sha256": "ab", "data": "faces"}
    write_model(tmp_path / "model", provenance=provenance, backbone=tiny_backbone().to_dict())
    text = text_of(tmp_path)
    assert "**A prefix with random weights**" in text and "| **random** |" in text and "nobody's" in text


@pytest.mark.parametrize(
    ("network", "weights", "said"),
    [
        ("timm:vit_small_patch16_dinov3", "timm:lvd1689m", "are under dinov3-license: it binds"),
        ("torchvision:vit_b_16", "torchvision:IMAGENET1K_SWAG_E2E_V1", "SWAG/blob/main/LICENSE: it binds"),
        (
            "torchvision:mobilenet_v2",
            "file:/home/someone/w.safetensors",
            "weights file:w.safetensors is not known here",
        ),
    ],
)
def test_licences_that_bind_are_said(tmp_path: Path, network: str, weights: str, said: str) -> None:
    provenance = {"weights": weights, "pretrained": True, "weights_sha256": "ab", "data": "faces"}
    backbone = tiny_backbone(network=network, weights=weights, cut="input").to_dict()
    write_model(tmp_path / "model", provenance=provenance, backbone=backbone)
    lines: list[str] = []
    text = text_of(tmp_path, console=Console(say=lines.append))
    assert said in lines[0] and said in text
    assert "someone" not in text


def test_names_break_neither_markdown_nor_yaml(tmp_path: Path) -> None:
    name = 'a|b: "c" <script>`x` \n## d'
    provenance = {"weights": "random", "pretrained": False, "weights_sha256": "ab", "data": name}
    record = write_model(tmp_path / "model", provenance=provenance)
    write_metrics(tmp_path / "metrics", record)
    text = text_of(tmp_path)
    head = ModelCard(text).data
    assert head.datasets is None  # on a hub the name may be that of another one
    assert {(result.dataset_type, result.dataset_name) for result in head.eval_results} >= {("custom", name)}
    body = text.split("---\n", 2)[2]
    assert "<script>" not in body and "\n## d" not in body
    (row,) = [line for line in body.splitlines() if line.startswith("|  |")]
    assert row == '|  | a\\|b: "c" \\<script\\>\\`x\\` \\#\\# d, test set | street |'


def test_odd_arguments(folder: Path) -> None:
    with pytest.raises(InputError, match="--licence 'My own': is no identifier of a licence such as mit"):
        text_of(folder, "My own")
    with pytest.raises(InputError, match="--dataset 'a/b/c': is no name of a data set on a hub such as USER/NAME"):
        text_of(folder, dataset="a/b/c")
    with pytest.raises(InputError, match=r"is a folder: name the file, such as .*README.md"):
        write_card(folder / "model", folder, metrics=folder / "metrics")
    with pytest.raises(BundleError, match="missing: name a folder such as"):
        read_facts(folder, folder / "metrics")
    (folder / "metrics" / "details" / "audit.json").write_text("{")
    with pytest.raises(InputError, match=r"audit.json: not JSON"):
        text_of(folder)


def test_an_edited_bundle_is_refused(tmp_path: Path) -> None:
    record: dict[str, Any] = write_model(tmp_path / "model")
    write_json(tmp_path / "model" / "bundle.json", record | {"threshold": 0.01})
    with pytest.raises(BundleError, match="was changed"):
        text_of(tmp_path)


def test_the_command(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    call = ["export", "--model", "model", "--format", "card", "README.md"]
    done = CliRunner().invoke(main, [*call, "--licence", "mit"])
    assert (done.exit_code, done.stderr) == (0, "export: README.md: the model card of tiny\n")
    assert "Its test AUC is 0.877" in (folder / "README.md").read_text()  # of metrics/, by default
    write_model(folder / "model", threshold=0.2)
    done = CliRunner().invoke(main, call)
    assert done.exit_code == 1 and done.stderr.count("\n") == 1 and "is of another model: its threshold" in done.stderr
