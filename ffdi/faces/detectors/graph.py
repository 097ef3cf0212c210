"""The ONNX file of a detector -> what computes its outputs, of a picture of any size where the graph allows that.

A file may name one size of its input and compute any other as well: CenterFace's is 32 x 32 pixels. So sizes are taken out
of the graph first. One that computes its own size alone is used at that.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from ffdi.errors import FfdiError, InputError, one_line
from ffdi.faces.detectors.candidates import Floats, Size

T = TypeVar("T")
# Multiples of all strides that have no number of places in common: a graph that computes both computes any size.
_PROBES = ((128, 256), (256, 384))
_FLOAT32 = 1  # onnx.TensorProto.FLOAT
_CUDA, _CPU = "CUDAExecutionProvider", "CPUExecutionProvider"
# Kernels that are chosen by a rule and not by their time, and float32 that is float32: the same bytes in every run.
_CUDA_OPTIONS = {"cudnn_conv_algo_search": "HEURISTIC", "use_tf32": "0"}


@dataclass(frozen=True, eq=False)
class DetectorGraph:
    """A graph that is ready to run; `size` is the only (height, width) that it computes, or None."""

    session: Any
    entry: str
    size: Size | None

    def __call__(self, blob: Floats) -> list[Floats]:
        """(1, 3, H, W) -> its outputs, in the graph's order; several threads may call at once.

        Raises FfdiError where ONNX Runtime fails, as it does when a GPU's memory runs out.
        """
        try:
            return [np.asarray(output, np.float32) for output in self.session.run(None, {self.entry: blob})]
        except Exception as error:  # it raises classes of its own
            raise FfdiError(f"the face detector fails: {one_line(error)[:200]}") from error

    @property
    def where(self) -> str:
        """What computes it, for a line."""
        import onnxruntime

        runtime = f"ONNX Runtime {onnxruntime.__version__}"
        if _CUDA in self.session.get_providers():
            return f"{runtime} on CUDA"
        lame = _CUDA in onnxruntime.get_available_providers()
        return f"{runtime} on the CPU" + (": its CUDA provider is installed and does not start here" if lame else "")


def open_graph(body: bytes, recognise: Callable[[Sequence[Floats], Size], T | None]) -> tuple[DetectorGraph, T]:
    """The graph in these bytes, and what `recognise` makes of its outputs for an input of some size.

    Raises InputError, without a place, for bytes that are no ONNX file and for a graph that is not recognised.
    """
    import onnx

    try:
        model = onnx.load_model_from_string(body)
        given = {tensor.name for tensor in model.graph.initializer}
        (entry,) = [value for value in model.graph.input if value.name not in given] or [None]
    except ValueError:
        raise InputError("its graph takes several inputs, and a face detector takes a picture") from None
    except Exception as error:  # protobuf's DecodeError
        raise InputError(f"is not an ONNX file ({one_line(error)[:100]})") from error
    if entry is None:
        raise InputError("is not an ONNX file of a face detector: its graph takes no input")
    dims = [dim.dim_value for dim in entry.type.tensor_type.shape.dim]  # 0 for one without a value
    described = f"it takes {entry.name} ({_shape(entry)}) and gives " + ", ".join(
        f"{output.name} ({_shape(output)})" for output in model.graph.output
    )
    if len(dims) != 4 or dims[1] not in (0, 3) or entry.type.tensor_type.elem_type != _FLOAT32:
        raise InputError(
            f"no face detector that takes (1, 3, height, width) float32 is known by this graph: {described}"
        )
    own, failure = (dims[2], dims[3]), ""
    for size, probes in ((None, _PROBES), (own, (own,))):
        if not all(probes[0]):
            break
        try:
            graph = DetectorGraph(_session(body if size else _of_any_size(model, entry)), entry.name, size)
            kinds = [recognise(graph(np.zeros((1, 3, *probe), np.float32)), probe) for probe in probes]
        except Exception as error:  # ONNX Runtime raises classes of its own
            failure = f"; {one_line(error)[:200]}"
            continue
        if all(kinds) and (kind := kinds[0]):
            return graph, kind
    raise InputError(f"no face detector is known by this graph: {described}{failure}")


def _shape(value: Any) -> str:
    return ", ".join(str(dim.dim_value or dim.dim_param or "?") for dim in value.type.tensor_type.shape.dim)


def _of_any_size(model: Any, entry: Any) -> bytes:
    """The bytes of the graph without the sizes that it names; they are worked out anew when it runs."""
    dims = entry.type.tensor_type.shape.dim
    dims[0].dim_value, dims[2].dim_param, dims[3].dim_param = 1, "height", "width"
    for output in model.graph.output:
        output.type.tensor_type.ClearField("shape")
    del model.graph.value_info[:]
    made: bytes = model.SerializeToString()
    return made


def _session(body: bytes) -> Any:
    """On CUDA where ONNX Runtime has it and it starts, else on the CPU with one thread: the callers' threads share the cores."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.enable_mem_pattern = False  # it plans memory for one size of picture
    options.use_deterministic_compute = True
    if _CUDA in onnxruntime.get_available_providers():
        try:
            return onnxruntime.InferenceSession(
                body, options, providers=[(_CUDA, _CUDA_OPTIONS), _CPU], enable_fallback=0
            )
        except Exception:  # no driver, or a library that is missing: `where` says so
            pass
    return onnxruntime.InferenceSession(body, options, providers=[_CPU])
