"""One function sets up the device, and one line describes it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
import time
from typing import Any

import pytest
import torch
from conftest import HERE
from fake_cuda import FakeCuda

from ffdi.errors import FfdiError, ParamsError
from ffdi.features import devices
from ffdi.features.devices import describe_cuda, device_line, precision_on, repeating, set_up_device

CUDA, CPU = torch.device("cuda"), torch.device("cpu")


def flags() -> dict[str, Any]:
    backends: Any = torch.backends
    return {
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "warns only": torch.is_deterministic_algorithms_warn_only_enabled(),
        "cudnn deterministic": backends.cudnn.deterministic,
        "cudnn benchmark": backends.cudnn.benchmark,
        "tf32": (backends.cuda.matmul.allow_tf32, backends.cudnn.allow_tf32),
        "precision": {part.fp32_precision for part in (backends.cuda.matmul, backends.cudnn.conv, backends.cudnn.rnn)},
    }


STRICT = {
    "deterministic": True,
    "warns only": False,
    "cudnn deterministic": True,
    "cudnn benchmark": False,
    "tf32": (False, False),
    "precision": {"ieee"},
}


def test_cuda_is_set_up_the_same_whatever_was_set_before(fake_cuda: FakeCuda, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":0:0")
    torch.backends.cudnn.benchmark = True
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = True
    torch.use_deterministic_algorithms(True, warn_only=True)
    assert set_up_device() == CUDA
    assert flags() == STRICT and os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":16:8")  # repeats its bytes too
    assert set_up_device("cuda") == CUDA and os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":16:8"


def test_the_cpu_is_left_as_it_is(fake_cuda: FakeCuda) -> None:
    before = flags()
    assert set_up_device("cpu") == CPU and flags() == before


def test_cuda_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "has_cuda", lambda: False)
    monkeypatch.setattr(devices, "_driver", lambda: None)
    with pytest.raises(ParamsError, match="device: cuda, but here is cpu: no driver"):
        set_up_device("cuda")
    assert set_up_device() == CPU and describe_cuda() == {}


def test_nothing_else_sets_a_device_up() -> None:
    """A second place that asks for CUDA, or sets a flag of it, is how one command came to compute in two precisions."""
    setting = re.compile(
        r"cuda\.is_available|allow_tf32|fp32_precision|use_deterministic_algorithms|CUBLAS_|cudnn\.(?!version)"
    )
    files = [f for folder in ("ffdi", "stages") for f in (HERE / folder).rglob("*.py") if f.name != "devices.py"]
    assert [f.name for f in files if setting.search(f.read_text(encoding="utf-8"))] == []


def test_a_gpu_is_named_with_its_driver(fake_cuda: FakeCuda) -> None:
    assert device_line() == "cuda: NVIDIA Fake, driver 570.86.15"
    assert device_line("cpu") == "cpu: asked for"
    assert describe_cuda() == {"gpu": "NVIDIA Fake", "cuda": str(torch.version.cuda), "cudnn": "92600"}


@pytest.mark.parametrize(
    ("driver", "built_for", "due"),
    [
        (None, "13.2", "cpu: no driver"),
        (12, "13.2", "cpu: driver 535.1 is too old for torch's CUDA 13.2"),
        (13, "13.2", "cpu: driver 535.1 shows no GPU"),
        (13, None, f"cpu: torch {torch.__version__} is built without CUDA (driver 535.1)"),
    ],
)
def test_why_it_is_the_cpu(
    driver: int | None, built_for: str | None, due: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.version, "cuda", built_for)
    monkeypatch.setattr(devices, "_driver", lambda: driver)
    monkeypatch.setattr(devices, "_driver_version", lambda: "535.1")
    assert device_line() == due


@pytest.mark.skipif(devices._driver() is not None, reason="there is a driver")
def test_without_a_driver_the_line_takes_no_torch() -> None:
    code = "import sys; from ffdi.features.devices import device_line; print(device_line(), 'torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=HERE)
    assert done.stdout == "cpu: no driver False\n", done.stderr


def test_tf32_only_where_it_is_asked_for(fake_cuda: FakeCuda) -> None:
    set_up_device("cuda")
    with precision_on(CUDA, "tf32"):
        assert flags()["tf32"] == (True, True) and flags()["precision"] == {"tf32"}
    assert flags() == STRICT
    with pytest.raises(KeyError), precision_on(CUDA, "tf32"):
        raise KeyError
    assert flags() == STRICT
    torch.backends.cudnn.allow_tf32 = True  # by whoever else is in the process
    for precision in ("float32", "bfloat16"):
        with precision_on(CUDA, precision):
            assert flags() == STRICT
    before = flags()
    with precision_on(CPU, "tf32"):
        assert flags() == before


def test_threads_of_two_precisions_never_meet(fake_cuda: FakeCuda) -> None:
    """The flag is the process's: a tail in float32 must not be computed in the TF32 of a prefix in another thread."""
    set_up_device("cuda")
    seen: list[tuple[str, tuple[bool, bool]]] = []
    together = threading.Barrier(2)

    def compute(precision: str, meet: bool) -> None:
        for _ in range(20):
            with precision_on(CUDA, precision):
                if meet:
                    together.wait(10)  # two of one precision do run at once
                seen.append((precision, flags()["tf32"]))
                time.sleep(0.001)
                seen.append((precision, flags()["tf32"]))

    threads = [threading.Thread(target=compute, args=(p, p == "tf32")) for p in ("tf32", "tf32", "float32")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(seen) == 120 and all(now == ((True, True) if p == "tf32" else (False, False)) for p, now in seen)
    assert flags() == STRICT


def test_an_operation_that_cannot_repeat_its_bytes_is_named(fake_cuda: FakeCuda) -> None:
    set_up_device("cuda")
    torchs_own = (
        "adaptive_avg_pool2d_backward_cuda does not have a deterministic implementation, but you set "
        "'torch.use_deterministic_algorithms(True)'. You can turn off determinism just for this operation, or ..."
    )
    with pytest.raises(FfdiError) as raised, repeating():
        raise RuntimeError(torchs_own)
    assert str(raised.value) == (
        "adaptive_avg_pool2d_backward_cuda has no kernel on CUDA that repeats its bytes: set train.deterministic to "
        "false, or train.device to cpu"
    )
    with pytest.raises(RuntimeError, match="another"), repeating():
        raise RuntimeError("another")
    with repeating(False):
        assert (flags()["deterministic"], flags()["cudnn deterministic"]) == (False, False)
    assert flags() == STRICT
