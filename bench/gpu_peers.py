"""The peer of bench/gpu.py: extraction and training as the reproduced notebooks do them."""

from __future__ import annotations

import copy
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from gpu_page import Bench


@contextmanager
def as_torch_is(device: str) -> Iterator[None]:
    """For the peer, who told torch nothing: the fastest kernels, and convolutions in TF32."""
    import torch

    from ffdi.features.devices import precision_on, repeating

    with repeating(False), precision_on(torch.device(device), "tf32"):
        yield


def peer_extraction(bench: Bench, name: str) -> float:
    """Views a second as the reproduced notebooks do it: one image at a time, Pillow, one float32 file a view."""
    import torch
    from PIL import Image
    from torchvision import transforms

    prefix, device = bench.lab.prefix(name), torch.device(bench.lab.device)
    b, files = prefix.backbone, [bench.lab.root / path for path in bench.lab.rows()["path"]]
    see = transforms.Compose(
        [
            transforms.Resize((b.pixels.size, b.pixels.size)),
            transforms.RandomHorizontalFlip(),
            transforms.ToTensor(),
            transforms.Normalize(b.pixels.mean, b.pixels.std),
        ]
    )
    assert prefix.module is not None
    network = copy.deepcopy(prefix.module.prefix).train().to(device)
    started, done = time.perf_counter(), 0
    with tempfile.TemporaryDirectory() as folder, torch.no_grad():
        while time.perf_counter() - started < bench.seconds:
            with Image.open(files[done % len(files)]) as image:
                pixels = see(image.convert("RGB"))
            torch.save(network(pixels.unsqueeze(0).to(device)).flatten().cpu(), Path(folder) / f"{done}.flatten")
            done += 1
    return done / (time.perf_counter() - started)


def peer_training(
    tail: Any, features: Any, training: Any, shape: tuple[int, ...], cut: int, device: Any, seconds: float
) -> float:
    """Samples a second as the reproduced notebooks do it: one torch.load a sample, L1 as a term of the loss, accuracy over
    all samples every 10 batches with gradients on. Stops after an epoch, or `seconds` and whole tens of batches."""
    import torch
    from torch import nn
    from torch.utils.data import DataLoader, Dataset, Subset

    with tempfile.TemporaryDirectory() as folder:
        for at, one in enumerate(features):
            torch.save(one.float().flatten().clone(), Path(folder) / f"{at}.flatten")

        class Files(Dataset[Any]):
            def __len__(self) -> int:
                return len(features)

            def __getitem__(self, at: int) -> tuple[Any, int]:
                return torch.load(Path(folder) / f"{at}.flatten", weights_only=True), at % 2

        files = Files()
        train = DataLoader(Subset(files, range(cut)), training.batch_size, shuffle=True)
        validation = DataLoader(Subset(files, range(cut, len(files))), 120)
        model = nn.Sequential(tail.body, tail.norm, tail.head).to(device).to(memory_format=torch.contiguous_format)
        for module in model.modules():
            module._forward_hooks.clear()
        optimizer = torch.optim.Adam(model.parameters(), training.lr, weight_decay=training.optimizer.weight_decay)
        started, done = time.perf_counter(), 0
        for number, (x, y) in enumerate(train, 1):
            loss = nn.functional.cross_entropy(model(x.view(-1, *shape).to(device)), y.to(device))
            loss = loss + training.l1 * sum(torch.norm(p, 1) for p in model.parameters())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            done += len(y)
            if number % 10 == 0:
                for side in (train, validation):
                    sum(int((model(a.view(-1, *shape).to(device)).argmax(1).cpu() == b).sum()) for a, b in side)
                if time.perf_counter() - started > seconds:
                    break
        return done / (time.perf_counter() - started)
