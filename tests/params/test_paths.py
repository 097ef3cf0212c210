"""The paths of params.yaml: where relative ones start, and the folder of an archive's images."""

from pathlib import Path

import pytest
from params_files import changed

from ffdi.intake.settings import DataSettings
from ffdi.params.paths import image_source, main_checkout, resolve_path, weights_file
from ffdi.params.reading import read_params


def test_relative_paths_start_from_the_main_checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    experiment = tmp_path / "repo" / ".dvc" / "tmp" / "exps" / "standalone" / "tmpx1"
    experiment.mkdir(parents=True)
    (tmp_path / "repo" / "faces").mkdir()
    monkeypatch.chdir(tmp_path / "repo")
    assert main_checkout() == tmp_path / "repo"
    monkeypatch.chdir(experiment)  # where `dvc exp run --temp` works
    assert main_checkout() == tmp_path / "repo"
    assert resolve_path("faces") == tmp_path / "repo" / "faces"
    (experiment / "faces").mkdir()  # a stage's output is here, though
    assert resolve_path("faces").resolve() == experiment / "faces"
    assert resolve_path("/abs/faces") == Path("/abs/faces")


def test_an_override_and_the_default_weights() -> None:
    assert image_source(DataSettings("faces"), Path("elsewhere")).root == Path("elsewhere")
    assert weights_file("mobilenet_v2") == Path("data/weights/mobilenet_v2.safetensors")


@pytest.mark.parametrize(
    ("root", "name"),
    [("data/demo", "demo"), ("/faces/v1.2/", "v1.2"), ("../set.tar.gz", "set"), ("a/zip", "zip"), ("x.v2.tgz", "x.v2")],
)
def test_a_data_set_is_called_by_its_folder_or_archive(root: str, name: str, tmp_path: Path) -> None:
    assert read_params(changed(tmp_path, **{"data.root": root})).data.name == name
