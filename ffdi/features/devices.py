"""The device that computes: set up by one function, so that figures never depend on which code touched it first.

On CUDA every kernel repeats its bytes, and float32 is float32: TF32, which has ten bits, is used only inside
`precision_on`. Torch is loaded only when a device is asked for: without a driver, there is no CUDA to ask torch about.
"""

from __future__ import annotations

import ctypes
import os
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ffdi.errors import FfdiError, ParamsError
from ffdi.memory import keep_freed_memory
from ffdi.parallel import cpu_count

if TYPE_CHECKING:
    import torch

_REPEATABLE_CUBLAS = (":4096:8", ":16:8")  # the two workspaces with which cuBLAS repeats its bytes (NVIDIA's manual)


def has_cuda() -> bool:
    """Whether torch can compute on CUDA."""
    if "torch" not in sys.modules and _driver() is None:
        return False
    import torch

    with warnings.catch_warnings():  # about a driver that is too old, which device_line reports
        warnings.simplefilter("ignore")
        return torch.cuda.is_available()


def set_up_torch(device: str = "auto", number: int = 0, count: int = 1) -> torch.device:
    """Set up this process for training and scoring: as many threads as processors, freed memory kept, and the device.

    `device` is `auto`, `cpu` or `cuda`; see set_up_device. Where `count` processes of this machine compute together, number
    `number` of them has its part of the processors, and the GPU of its number: ParamsError where there is none.
    """
    import torch

    torch.set_num_threads(max(1, cpu_count() // count))
    keep_freed_memory()
    here = set_up_device(device)
    if here.type == "cuda" and count > 1:
        if count > torch.cuda.device_count():
            raise ParamsError(
                f"{count} processes, but {torch.cuda.device_count()} GPUs here: start one for each, or set train.device "
                "to cpu"
            )
        torch.cuda.set_device(number)
    return here


def set_up_device(wanted: str = "auto") -> torch.device:
    """The wanted device, set up so that kernels on CUDA repeat their bytes and float32 is float32.

    `auto` is CUDA where it is, and the CPU elsewhere. Raises ParamsError when `cuda` is wanted and there is none.
    """
    import torch

    if wanted == "cuda" and not has_cuda():
        raise ParamsError(f"device: cuda, but here is {device_line()}: set it to auto; `ffdi doctor` says more")
    device = torch.device(wanted if wanted != "auto" else "cuda" if has_cuda() else "cpu")
    if device.type == "cuda":
        if os.environ.get("CUBLAS_WORKSPACE_CONFIG") not in _REPEATABLE_CUBLAS:
            os.environ["CUBLAS_WORKSPACE_CONFIG"] = _REPEATABLE_CUBLAS[0]
        torch.backends.cudnn.benchmark = False  # it would choose kernels by their time
        _repeat_bytes(True)
        _allow_tf32(False)
    return device


def device_line(wanted: str = "auto") -> str:
    """The device that computes here and why, on one line: `cuda: NVIDIA H100, driver 570.86` or `cpu: no driver`."""
    if wanted == "cpu":
        return "cpu: asked for"
    if has_cuda():
        return f"cuda: {describe_cuda()['gpu']}, driver {_driver_version()}"
    driver = _driver()
    if driver is None:
        return "cpu: no driver"
    import torch

    if torch.version.cuda is None:
        return f"cpu: torch {torch.__version__} is built without CUDA (driver {_driver_version()})"
    if driver < int(torch.version.cuda.split(".")[0]):
        return f"cpu: driver {_driver_version()} is too old for torch's CUDA {torch.version.cuda}"
    return f"cpu: driver {_driver_version()} shows no GPU"


def describe_cuda() -> dict[str, str]:
    """The names and versions that decide the bytes of a computation on CUDA; empty where there is no CUDA."""
    if not has_cuda():
        return {}
    import torch

    return {
        "gpu": torch.cuda.get_device_name(),
        "cuda": str(torch.version.cuda),
        "cudnn": str(torch.backends.cudnn.version()),
    }


@contextmanager
def precision_on(device: torch.device, precision: str) -> Iterator[None]:
    """Launch the body's float32 work on `device` in TF32 for `tf32`, and in float32 for any other precision.

    The flag belongs to the process, so bodies of one kind run together while those of the other kind wait: threads that
    extract in TF32 never change a tail in float32. Do not enter it inside a body of the other kind.
    """
    if device.type != "cuda":
        yield
        return
    with _TF32.allowed(precision == "tf32"):
        yield


@contextmanager
def repeating(
    wanted: bool = True, remedy: str = "set train.deterministic to false, or train.device to cpu"
) -> Iterator[None]:
    """Compute the body with kernels that repeat their bytes, or with the fastest ones when not `wanted`.

    It matters on CUDA alone. Raises FfdiError naming the operation for which CUDA has no such kernel, and the remedy.
    """
    import torch

    strict = torch.are_deterministic_algorithms_enabled()
    try:
        if strict and not wanted:
            _repeat_bytes(False)
        yield
    except RuntimeError as error:
        if "does not have a deterministic implementation" not in str(error):
            raise
        operation = str(error).split()[0]
        raise FfdiError(f"{operation} has no kernel on CUDA that repeats its bytes: {remedy}") from error
    finally:
        if strict and not wanted:
            _repeat_bytes(True)


def _repeat_bytes(wanted: bool) -> None:
    """Not `warn_only`: with it, attention's backward pass warns and does not repeat its bytes."""
    import torch

    torch.backends.cudnn.deterministic = wanted
    torch.use_deterministic_algorithms(wanted)
    # This code never reads memory that it has not written; filling each new tensor would only take time.
    settings: Any = torch.utils.deterministic
    settings.fill_uninitialized_memory = False


def _allow_tf32(allowed: bool) -> None:
    """Set both of torch's settings: with the old one alone, torch.backends.fp32_precision would still decide."""
    import torch

    backends: Any = torch.backends
    backends.cuda.matmul.allow_tf32 = allowed
    backends.cudnn.allow_tf32 = allowed
    for part in (backends.cuda.matmul, backends.cudnn.conv, backends.cudnn.rnn):
        part.fp32_precision = "tf32" if allowed else "ieee"


class _Tf32:
    """The process's TF32 flag, which threads share: a thread that wants another value waits until all others have left."""

    def __init__(self) -> None:
        self._turn = threading.Condition()
        self._inside: list[int] = []  # threads
        self._now = False

    @contextmanager
    def allowed(self, wanted: bool) -> Iterator[None]:
        me = threading.get_ident()
        with self._turn:
            assert wanted == self._now or me not in self._inside, "a body of the other precision would wait for itself"
            self._turn.wait_for(lambda: wanted == self._now or not self._inside)
            if not self._inside:
                _allow_tf32(wanted)
                self._now = wanted
            self._inside.append(me)
        try:
            yield
        finally:
            with self._turn:
                self._inside.remove(me)
                if not self._inside:
                    if self._now:
                        _allow_tf32(False)
                        self._now = False
                    self._turn.notify_all()


_TF32 = _Tf32()  # one per process, like the flag


@cache
def _driver() -> int | None:
    """The major version of CUDA that the driver supports; None where there is no driver."""
    try:
        library = ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
        version = ctypes.c_int()
        library.cuDriverGetVersion(ctypes.byref(version))
    except (OSError, AttributeError):
        return None
    return version.value // 1000


def _driver_version() -> str:
    """The version of the driver, such as 570.86.15; its CUDA version when its management library does not answer."""
    try:
        nvml = ctypes.CDLL("nvml.dll" if sys.platform == "win32" else "libnvidia-ml.so.1")
        version = ctypes.create_string_buffer(80)
        if nvml.nvmlInit_v2() == 0 and nvml.nvmlSystemGetDriverVersion(version, 80) == 0:
            return version.value.decode()
    except (OSError, AttributeError):
        pass
    try:  # "NVRM version: NVIDIA UNIX x86_64 Kernel Module  570.86.15  ..."
        words = Path("/proc/driver/nvidia/version").read_text(encoding="utf-8").splitlines()[0].split()
        return next(word for word in words if word.replace(".", "").isdigit() and "." in word)
    except (OSError, IndexError, StopIteration):
        return f"of CUDA {_driver()}"
