"""A CUDA device for machines without one: `with FakeCuda()`, or the fixture `fake_cuda` of conftest.

A tensor on it has `device cuda:0` and keeps its numbers in CPU memory that the test cannot reach, so complete runs
finish with real figures. As on a GPU, an operation on tensors of two devices is an error, and so is `.numpy()`. (torch's
FakeTensorMode has no numbers, so no loss, no figure and no epoch to choose; and its autograd needs a driver.)
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_map

from ffdi.features import devices

CUDA = torch.device("cuda:0")
_FACTORIES = ("arange", "empty", "full", "linspace", "ones", "rand", "randint", "randn", "randperm", "tensor", "zeros")
_LIKE = ("empty_like", "full_like", "ones_like", "rand_like", "randn_like", "zeros_like")
_BETWEEN = ("aten::_to_copy", "aten::copy_", "aten::_foreach_copy_")  # they are what moves tensors between devices
_DRAWN_THERE = ("aten::rand_like", "aten::randn_like")  # by the device's own generator, not by the CPU's


class OnCuda(Tensor):
    """A tensor on the fake device; `inner` has its numbers."""

    inner: Tensor
    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, inner: Tensor) -> OnCuda:
        made: OnCuda = Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls, inner.size(), inner.stride(), inner.storage_offset(), dtype=inner.dtype, device="cpu"
        )
        made.inner = inner
        return made

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        _refuse_two_devices(func, args, kwargs)
        _COUNTS.launched += 1
        known: dict[int, Tensor] = {}  # by what carries the numbers: whatever is changed in place stays itself
        for t in tree_flatten((args, kwargs))[0]:
            if isinstance(t, Tensor):
                known[id(t.inner if isinstance(t, OnCuda) else t)] = t
        asked = kwargs.get("device")
        args, kwargs = tree_map(lambda t: t.inner if isinstance(t, OnCuda) else t, (args, kwargs))
        if asked is not None:
            kwargs["device"] = torch.device("cpu")
        with torch.inference_mode(False):  # a view of a parameter is made in it, too, and keeps its version counter
            if func._schema.name in _DRAWN_THERE:
                with torch.random.fork_rng(devices=[]):
                    torch.manual_seed(99)
                    out = func(*args, **kwargs)
            else:
                out = func(*args, **kwargs)
            return tree_map(lambda t: known[id(t)] if id(t) in known else _wrapped(t), out)

    device = property(lambda self: CUDA)
    is_cuda = property(lambda self: True)
    is_cpu = property(lambda self: False)

    def cpu(self, memory_format: torch.memory_format = torch.preserve_format) -> Tensor:
        _COUNTS.moved += 1
        return _Down.apply(self)  # type: ignore[no-any-return]

    def to(self, *args: Any, **kwargs: Any) -> Tensor:
        return _to(self, *args, **kwargs)

    def cuda(self, *args: Any, **kwargs: Any) -> Tensor:
        return self

    def numpy(self, *args: Any, **kwargs: Any) -> Any:
        raise TypeError("can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu() first.")

    __array__ = numpy

    def tolist(self) -> Any:
        return self.inner.tolist()

    def data_ptr(self) -> int:
        return self.inner.data_ptr()

    def get_device(self) -> int:
        return 0

    def is_pinned(self, device: Any = None) -> bool:
        return False

    def __deepcopy__(self, memo: dict[int, Any]) -> OnCuda:
        if id(self) not in memo:
            with torch.no_grad():
                copied = OnCuda(self.inner.clone())
            copied.requires_grad_(self.requires_grad)
            if isinstance(self, torch.nn.Parameter):
                copied._is_param = True  # type: ignore[attr-defined]
            memo[id(self)] = copied
        return memo[id(self)]  # type: ignore[no-any-return]

    def __repr__(self, **_: Any) -> str:  # type: ignore[override]
        return f"OnCuda({self.inner!r})"


class _Counts(threading.local):
    """Of a thread: operations on the device, and copies that the host waits for."""

    launched = 0
    moved = 0


_COUNTS = _Counts()


class _Up(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, tensor: Tensor) -> Tensor:  # type: ignore[override]
        return OnCuda(tensor.detach().clone(memory_format=torch.preserve_format))

    @staticmethod
    def backward(ctx: Any, gradient: Any) -> Any:  # type: ignore[override]
        return gradient.inner


class _Down(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, tensor: Any) -> Tensor:  # type: ignore[override]
        return tensor.inner.detach().clone(memory_format=torch.preserve_format)  # type: ignore[no-any-return]

    @staticmethod
    def backward(ctx: Any, gradient: Any) -> Any:  # type: ignore[override]
        return OnCuda(gradient)


def _wrapped(value: Any) -> Any:
    return OnCuda(value) if isinstance(value, Tensor) else value


_true_to = Tensor.to


def _to(tensor: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    """Tensor.to: first the dtype, then the device."""
    args = tuple(a.device if isinstance(a, OnCuda) else a for a in args)
    device, dtype, at_once, layout = torch._C._nn._parse_to(*args, **{k: v for k, v in kwargs.items() if k != "copy"})
    moved = tensor
    if device is not None and device.type == "meta":
        return _true_to(tensor.inner if isinstance(tensor, OnCuda) else tensor, *args, **kwargs)
    if device is not None and device.type != tensor.device.type:
        moved = (_Up if device.type == "cuda" else _Down).apply(tensor)
        _COUNTS.moved += not at_once
    options = {"dtype": dtype, "memory_format": layout, "copy": kwargs.get("copy")}
    options = {k: v for k, v in options.items() if v}
    return _true_to(moved, **options) if options else moved


def _refuse_two_devices(func: Any, args: Any, kwargs: Any) -> None:
    """As CUDA does: 0-dimensional tensors of the CPU count as numbers, and indices of the CPU may index CUDA."""
    name = func._schema.name
    tensors = [t for t in tree_flatten((args, kwargs))[0] if isinstance(t, Tensor)]
    if name in _BETWEEN:
        return
    if name in ("aten::index", "aten::index_put_", "aten::index_put", "aten::_unsafe_index"):
        on_gpu = isinstance(args[0], OnCuda)
        tensors = [args[0], *args[2:3]] if on_gpu else tensors
        tensors = [t for t in tensors if isinstance(t, Tensor)]
    strangers = [t for t in tensors if not isinstance(t, OnCuda) and t.dim() > 0]
    if strangers and any(isinstance(t, OnCuda) for t in tensors):
        raise RuntimeError(
            f"Expected all tensors to be on the same device, but found at least two devices, cuda:0 and cpu! ({name}, "
            f"{tuple(strangers[0].shape)} on the CPU)"
        )


def _factory(true: Callable[..., Tensor]) -> Callable[..., Tensor]:
    def make(*args: Any, **kwargs: Any) -> Tensor:
        kwargs.pop("pin_memory", None)
        asked = kwargs.get("device")
        if asked is None or torch.device(asked).type != "cuda":
            return true(*args, **kwargs)
        generator = kwargs.get("generator")
        if generator is not None and generator.device.type != "cuda":
            raise RuntimeError("Expected a 'cuda' device type for generator but found 'cpu'")
        requires_grad = kwargs.pop("requires_grad", False)
        made = OnCuda(true(*args, **(kwargs | {"device": "cpu"})))
        return made.requires_grad_(requires_grad)

    return make


class _Stream:
    def synchronize(self) -> None:
        pass

    def wait_stream(self, other: Any) -> None:
        pass


class FakeCuda:
    """What the fixture gives: `memory`, free bytes that the device says to have, and what was asked of it."""

    @property
    def launched(self) -> int:
        """Operations that this thread has given the device."""
        return _COUNTS.launched

    @property
    def moved(self) -> int:
        """Copies between the CPU and the device that this thread has waited for."""
        return _COUNTS.moved

    def __init__(self) -> None:
        self.memory = 80 * 10**9
        self.total = 80 * 10**9
        self.emptied = 0

    def install(self, patch: pytest.MonkeyPatch) -> None:
        cuda: Any = torch.cuda
        patch.setattr(devices, "_driver", lambda: 99)
        patch.setattr(devices, "_driver_version", lambda: "570.86.15")
        patch.setattr(cuda, "is_available", lambda: True)
        patch.setattr(cuda, "_lazy_init", lambda: None)
        patch.setattr(cuda, "device_count", lambda: 1)
        patch.setattr(cuda, "current_device", lambda: 0)
        patch.setattr(cuda, "get_device_name", lambda device=None: "NVIDIA Fake")
        patch.setattr(torch.backends.cudnn, "version", lambda: 92600)
        patch.setattr(cuda, "mem_get_info", lambda device=None: (self.memory, self.total))
        patch.setattr(cuda, "synchronize", lambda device=None: None)
        patch.setattr(cuda, "Stream", _Stream)
        patch.setattr(cuda, "Event", _Stream)
        patch.setattr(cuda, "stream", lambda stream: contextlib.nullcontext())
        patch.setattr(cuda, "current_stream", lambda device=None: _Stream())
        patch.setattr(cuda, "empty_cache", self._empty)
        state = torch.zeros(16, dtype=torch.uint8)
        patch.setattr(cuda, "get_rng_state", lambda device=None: state.clone())
        patch.setattr(cuda, "set_rng_state", lambda new, device=None: state.copy_(new))
        for check in ("_accelerator_graph_capture_health_check", "_cuda_graph_capture_health_check"):
            patch.setattr(torch.optim.Optimizer, check, lambda self: None, raising=False)
        patch.setattr(Tensor, "to", _to)
        patch.setattr(Tensor, "cuda", lambda self, *_, **__: _to(self, CUDA))
        patch.setattr(Tensor, "pin_memory", lambda self, device=None: self.clone())
        for name in (*_FACTORIES, *_LIKE):
            patch.setattr(torch, name, _factory(getattr(torch, name)))
        true_autocast = torch.autocast

        def autocast(device_type: str, *args: Any, **kwargs: Any) -> Any:
            return true_autocast("cpu", *args, **kwargs)

        patch.setattr(torch, "autocast", autocast)
        patch.setattr(torch, "compile", lambda model, **_: model)
        true_one_hot = torch.nn.functional.one_hot  # in C++ it makes its numbers where the labels are, as it thinks

        def one_hot(labels: Tensor, num_classes: int = -1) -> Tensor:
            if isinstance(labels, OnCuda):
                return OnCuda(true_one_hot(labels.inner, num_classes))
            return true_one_hot(labels, num_classes)

        from torchvision.transforms.v2 import _augment  # has the name of its own

        patch.setattr(torch.nn.functional, "one_hot", one_hot)
        patch.setattr(_augment, "one_hot", one_hot)
        patch.setattr(torch.__future__, "_swap_module_params_on_conversion", True)

    def _empty(self) -> None:
        self.emptied += 1


@contextlib.contextmanager
def faking() -> Iterator[FakeCuda]:
    """The device while the body runs, and torch's flags afterwards as they were."""
    flags = torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.deterministic
    fake = FakeCuda()
    # torch remembers its constructors when it first makes a tensor in `with torch.device(...)`. If those were the fake ones,
    # the real ones would ignore every such `with` in later tests.
    with torch.device("cpu"):
        torch.empty(0)
    with pytest.MonkeyPatch.context() as patch:
        fake.install(patch)
        try:
            yield fake
        finally:
            torch.use_deterministic_algorithms(flags[0])
            torch.backends.cudnn.deterministic = flags[1]
