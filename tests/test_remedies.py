"""What is wrong is said with what to do about it: a command, a key to change, or the names that would be right."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import HERE, tiny_backbone

from ffdi.errors import FfdiError, said
from ffdi.features.cuts import cut_network
from ffdi.features.devices import set_up_device
from ffdi.features.networks import build_network, headless_network
from ffdi.features.runtimes import runtime_name
from ffdi.features.shard_index import read_index
from ffdi.features.weight_sources import read_state
from ffdi.files import sole_writer, write_json, write_text
from ffdi.intake.archives import unpacked
from ffdi.intake.tables import read_folds
from ffdi.params.reading import read_params
from ffdi.tails.ensemble import load_model


def params(old: str, new: str) -> Callable[[], Any]:
    """Reads the project's params.yaml with one text replaced."""

    def read() -> None:
        write_text(Path("params.yaml"), (HERE / "params.yaml").read_text().replace(old, new, 1))
        read_params(Path("params.yaml")).backbone("late_cut").check()

    return read


def edited_model() -> None:
    write_json(Path("model/bundle.json"), {"format_version": 1, "facts_sha256": "0"})
    load_model(Path("model"))


def table() -> None:
    write_text(Path("folds.csv"), "image_id,group,cluster,role,fold\na,g,a,valid,0\n")
    read_folds(Path("folds.csv"))


def no_archive() -> None:
    write_text(Path("faces.zip"), "no zip")
    unpacked(Path("faces.zip"))


def two_writers() -> None:
    with sole_writer(Path("out")), sole_writer(Path("out")):
        raise AssertionError("two writers")


WRONG: dict[str, tuple[Callable[[], Any], str]] = {
    "no params.yaml": (lambda: read_params(Path("params.yaml")), "run in the folder that has it, or name it"),
    "an unknown key": (params("folds: 5", "fold: 5"), "choose one of method, "),
    "a wrong name": (params("embedding: efficientnet_lite0", "embedding: vgg"), "is not one of efficientnet_lite0, "),
    "another backbone": (params("backbone: late_cut, folds: 2", "backbone: mobilenet_v2, folds: 2"), "set it to that"),
    "no model": (
        lambda: load_model(Path("none")),
        "name a folder such as data/models/NAME, which `dvc repro train@NAME`",
    ),
    "an edited model": (edited_model, "or train again"),
    "no features": (lambda: read_index(Path("none")), "run the extract stage first"),
    "no weights": (lambda: read_state(Path("none.safetensors")), "offline choices: package:"),
    "no table": (lambda: read_folds(Path("none.csv")), "run the stage that writes it first"),
    "a damaged table": (table, "correct it, or run the stage that writes it again"),
    "no archive": (no_archive, "unpack it yourself"),
    "two writers": (two_writers, "wait for it or end it"),
    "no GPU": (lambda: set_up_device("cuda"), "set it to auto; `ffdi doctor` says more"),
    "of a GPU alone": (lambda: runtime_name(tiny_backbone(compile=True)), "on the CPU: leave it out"),
    "no network": (lambda: build_network("torchvision:mobilenet_v9"), "close names: mobilenet_v"),
    "no cut": (lambda: cut_network(headless_network("timm:test_resnet"), "layer9", 64), "close cuts: layer"),
}


@pytest.mark.parametrize("what", WRONG)
def test_an_error_says_what_to_do(what: str, tmp_path: Path, no_cuda: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    cause, remedy = WRONG[what]
    with pytest.raises(FfdiError) as caught:
        cause()
    assert remedy in str(caught.value) and "\n" not in str(caught.value)


def test_what_the_system_refuses_has_a_remedy_where_one_is_known() -> None:
    assert said(OSError(errno.ENOSPC, "No space left on device")) == "No space left on device: free some space"
    assert said(OSError(errno.ELOOP, "Too many links")) == "Too many links"
    assert said(OSError("of a library")) == "of a library"
