"""The networks of presets/foundation.yaml at full size on random weights, and a ViT's prefix on the CPU by each runtime.

Writes Markdown tables to bench/foundation.md, which is committed. One network is in memory at a time.
"""

from __future__ import annotations

import argparse
import gc
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import timm
import torch
from page import machine, write_page
from torch import Tensor, nn

from ffdi.features.backbone import Backbone
from ffdi.features.cuts import cut_network, list_cuts
from ffdi.features.fused_attention import attention_as_one_operator
from ffdi.features.keep import keep_features, resolve_keep
from ffdi.features.networks import FrozenPrefix, headless_network
from ffdi.features.pooled_cuts import pooled_cuts
from ffdi.features.stated_preprocessing import described_preprocessing, resolved
from ffdi.files import human_bytes
from ffdi.params.reading import read_params
from ffdi.stagekit.console import console

ABOUT = """Random weights, one image of noise. Difference: of the body behind the cut, given the prefix's features, from the network
itself, relative (L2); at the preset's cut, and at one in the middle of the network. Of several cuts it is that of their
features from what enters these modules in the network. Milliseconds are processor time of one thread; ratios are
medians of paired runs. Memory is what computing one image adds to the peak of a process that has loaded the graph."""
MIDDLE = {
    "patch": "blocks.12",
    "convnext": "stages.2",
    "xception": "block6",
    "efficientnet": "blocks.3",
}  # a cut inside
VIT, CUT = "vit_small_patch16_224", "norm"
PEAK = """
import sys
import numpy, onnxruntime

def peak():  # of this process alone: getrusage would give that of the one which started it
    return int(open("/proc/self/status").read().split("VmHWM:")[1].split()[0])

session = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
image = numpy.zeros((1, int(sys.argv[2]), int(sys.argv[2]), 3), numpy.uint8)
loaded = peak()
session.run(None, {"images": image})
print(peak() - loaded)
"""
SIZES = (224, 512)  # 197 and 1025 tokens


def network_table(preset: Path) -> Iterator[str]:
    """Rows of the table of the preset's networks."""
    columns = ("pixels", "cut", "features there", "kept", "bytes", "FLOPs of the prefix", "parameters, millions")
    yield f"| backbone | {' | '.join(columns)} | difference | in the middle |"
    yield "| --- |" + " --- |" * 4 + " ---: |" * 5
    backbones = read_params(preset).backbones.values()
    for backbone in console("bench foundation").progress(backbones, len(backbones), unit="networks"):
        torch.manual_seed(0)
        network = headless_network(backbone.network, backbone.network_args).eval().requires_grad_(False)
        yield network_row(network, backbone, resolved(backbone, described_preprocessing(backbone)).pixels.size)
        del network
        gc.collect()  # graphs and modules hold each other


def network_row(network: nn.Module, b: Backbone, size: int) -> str:
    """A row: what is stored, and how far body(prefix(x)) is from network(x), at its cut and in the middle of the network."""
    x = torch.randn(1, 3, size, size, generator=torch.Generator().manual_seed(0))
    middle = next(cut for kind, cut in MIDDLE.items() if kind in b.network)
    with torch.no_grad():
        whole = network(x)
        inside = at_cut(network, middle, x, whole)[1]
        gc.collect()
        at, kept, difference = by(x), x, 0.0  # of the empty prefix
        if len(b.cuts) > 1:
            at, kept, difference = at_cuts(network, b, x)
        elif b.has_prefix:
            features, difference, tokens = at_cut(network, b.cuts[0], x, whole)
            at, kept = by(features), torch.from_numpy(keep_features(features.numpy(), resolve_keep(b.keep), tokens))
    gc.collect()
    share = {cut.name: cut.flops_before for cut in list_cuts(network, size)}[b.cuts[-1]] if b.has_prefix else 0.0
    cells = [str(size), f"`{', '.join(b.cuts)}`", at, by(kept)]
    cells += [human_bytes(kept.numel() * (2 if b.has_prefix else 1)), f"{share:.1%}".replace("%", " %")]
    cells.append(f"{sum(p.numel() for p in network.parameters()) / 1e6:.1f}")
    return f"| {b.name} | {' | '.join(cells)} | {difference:.1g} | {inside:.1g} |"


def at_cut(network: nn.Module, cut: str, x: Tensor, whole: Tensor) -> tuple[Tensor, float, Any]:
    """The features at a cut, how far the body makes of them what the network makes of x, and where tokens are."""
    prefix, body = cut_network(network, cut, x.shape[-1])
    assert prefix is not None
    features = prefix(x)
    return features, apart(body.eval()(features), whole), prefix.tokens


def at_cuts(network: nn.Module, b: Backbone, x: Tensor) -> tuple[str, Tensor, float]:
    """Of several cuts: the shapes there, their pooled features, and how far these are from what enters the modules."""
    entering = dict[str, Tensor]()
    hooks = []
    for cut in b.cuts:
        watch = partial(lambda name, module, args: entering.update({name: args[0]}), cut)
        hooks.append(network.get_submodule(cut).register_forward_pre_hook(watch))
    network(x)
    for hook in hooks:  # a copy of the network would have them, too
        hook.remove()
    pooled = pooled_cuts(network, b.cuts, x.shape[-1], resolve_keep(b.keep))
    kept = pooled(x)
    pooled.prefix = nn.Identity()
    return ", ".join(dict.fromkeys(map(by, entering.values()))), kept, apart(kept, pooled(list(entering.values())))


def by(features: Tensor) -> str:
    """The shape of one image's features."""
    return "x".join(map(str, features.shape[1:]))


def apart(given: Tensor, due: Tensor) -> float:
    return float((given - due).norm() / due.norm())


def speed_table(runs: int) -> Iterator[str]:
    """Rows of the table of a ViT's prefix: milliseconds an image of one thread, and what ONNX Runtime allocates."""
    columns = ("tokens", "torch eager", "attention in parts", "as one operator", "torch / one operator", "memory")
    yield f"| timm `{VIT}` cut at `{CUT}` | {' | '.join(columns)} |"
    yield "| --- |" + " ---: |" * len(columns)
    torch.set_num_threads(1)
    for size in SIZES:
        torch.manual_seed(0)
        prefix = cut_network(timm.create_model(VIT, img_size=size, num_classes=0), CUT, size)[0]
        assert prefix is not None
        frozen = FrozenPrefix(prefix, (0.5,) * 3, (0.5,) * 3)
        image = np.random.default_rng(0).integers(0, 256, (1, size, size, 3), np.uint8)
        with tempfile.TemporaryDirectory() as folder:
            files = [Path(folder) / "parts.onnx", Path(folder) / "one.onnx"]
            for file, table in zip(files, (None, attention_as_one_operator()), strict=True):
                file.write_bytes(exported(frozen, image, table))
            ways: list[Callable[[], Any]] = [
                partial(eager, frozen, image),
                *(one_thread(file, image) for file in files),
            ]
            due, *given = [way() for way in ways]
            error = max(np.linalg.norm(one - due) / np.linalg.norm(due) for one in given)
            assert error < 1e-5, error
            times = [[seconds(way) for way in ways] for _ in range(runs)]
            memory = [allocated(file, size) for file in files]
        torch_ms, parts, one = (f"{1e3 * statistics.median(side):.0f} ms" for side in zip(*times, strict=True))
        ratio = statistics.median(run[0] / run[2] for run in times)
        yield (
            f"| {size}x{size} pixels | {due.shape[1]} | {torch_ms} | {parts} | {one} | **{ratio:.2f}** "
            f"| {human_bytes(memory[1])}, in parts {human_bytes(memory[0])} |"
        )


def exported(prefix: FrozenPrefix, image: Any, table: Any) -> bytes:
    """The ONNX graph of a prefix for one image."""
    options: dict[str, Any] = {"custom_translation_table": table, "verbose": False}
    program = torch.onnx.export(prefix, (torch.from_numpy(image),), dynamo=True, input_names=["images"], **options)
    assert program is not None
    body: bytes = program.model_proto.SerializeToString()
    return body


def eager(prefix: FrozenPrefix, image: Any) -> Any:
    with torch.inference_mode():
        return prefix(torch.from_numpy(image)).numpy()


def one_thread(file: Path, image: Any) -> Callable[[], Any]:
    """A session as the runtime opens it."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    session: Any = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    return lambda: session.run(None, {"images": image})[0]


def seconds(way: Callable[[], Any]) -> float:
    """Of processor time, which other programs on the machine change little."""
    started = time.process_time()
    way()
    return time.process_time() - started


def allocated(file: Path, size: int) -> int:
    """Bytes that computing adds to the peak of a process that has loaded the graph."""
    command = [sys.executable, "-c", PEAK, str(file), str(size)]
    return 1024 * int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=15)
    parser.add_argument("--preset", type=Path, default=Path("presets/foundation.yaml"))
    parser.add_argument("--out", type=Path, default=Path("bench/foundation.md"))
    chosen = parser.parse_args()
    sections = {
        "The networks of presets/foundation.yaml": network_table(chosen.preset),
        "The prefix of a ViT on the CPU": speed_table(chosen.runs),
    }
    head = ["# Foundation models, measured by `python bench/foundation.py`", "", f"{machine()}.", "", ABOUT]
    write_page(chosen.out, head, sections)


if __name__ == "__main__":
    main()
