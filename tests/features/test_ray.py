"""Work on a Ray cluster: results in order, whatever fails or dies meanwhile."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from ffdi.console import Console
from ffdi.errors import FfdiError, InputError
from ffdi.features.engines.ray import Cluster
from ffdi.features.settings import RaySettings

pytestmark = pytest.mark.ray
ONE_CPU = RaySettings(cpus_per_task=1, retries=1)


@dataclass(frozen=True)
class Squares:
    """Makes workers that square numbers. What happens at a number the first time, `accident` says."""

    folder: Path
    accidents: dict[int, str]

    def __call__(self) -> Callable[[int, Callable[[Any], None]], int]:
        (self.folder / f"made-{os.getpid()}").touch()
        return self.square

    def square(self, number: int, tell: Callable[[Any], None]) -> int:
        tell(f"squaring {number}")
        accident, before = self.accidents.get(number), self.folder / f"tried-{number}"
        tried = before.exists()
        before.touch()
        if accident == "dies" and not tried:
            os.kill(os.getpid(), signal.SIGKILL)
        if accident == "fails always" or (accident == "fails" and not tried):
            raise InputError(f"image {number} is gone")
        if accident == "slow":
            time.sleep(0.5)
        return number * number


def test_results_come_in_order_and_workers_are_made_once(ray_cluster: Any, tmp_path: Path) -> None:
    told: list[tuple[int, str]] = []
    with Cluster(ONE_CPU) as cluster:
        squares = cluster.map(Squares(tmp_path, {0: "slow"}), range(9), heard=lambda *line: told.append(line))
        assert list(squares) == [(n, n * n) for n in range(9)]
    assert sorted(told) == [(n, f"squaring {n}") for n in range(9)]
    assert len(list(tmp_path.glob("made-*"))) == 2


def test_what_fails_or_kills_its_worker_is_tried_again_and_the_rest_is_finished(
    ray_cluster: Any, tmp_path: Path
) -> None:
    accidents, lines, done = {1: "dies", 2: "fails", 5: "fails always"}, list[str](), list[int]()
    with Cluster(ONE_CPU, Console(say=lines.append)) as cluster:
        squares = cluster.map(Squares(tmp_path, accidents), range(8), named=lambda n: f"number {n}")
        with pytest.raises(InputError, match=r"number 5: failed 2 times, at last on .*:\d+: image 5 is gone"):
            done.extend(number for number, _ in squares)
    assert done == [0, 1, 2, 3, 4, 6, 7]
    assert [line.split(" on ")[0] for line in lines].count("number 5 failed") == 2
    assert any(line.startswith("number 1 failed") and "the worker was lost" in line for line in lines)


@dataclass(frozen=True)
class Meeting:
    """Makes workers that wait for each other."""

    folder: Path

    def __call__(self) -> Callable[[int, Callable[[Any], None]], int]:
        return self.meet

    def meet(self, number: int, tell: Callable[[Any], None]) -> int:
        (self.folder / str(os.getpid())).touch()
        deadline = time.monotonic() + 30
        while len(list(self.folder.iterdir())) < 2:
            assert time.monotonic() < deadline, "the same worker has both"
            time.sleep(0.02)
        return number


def test_the_last_items_go_to_workers_that_have_none(ray_cluster: Any, tmp_path: Path) -> None:
    with Cluster(RaySettings(cpus_per_task=1, retries=0)) as cluster:
        assert [number for number, _ in cluster.map(Meeting(tmp_path), range(2), at_once=2)] == [0, 1]


def refuse() -> Any:
    raise FfdiError("weights/x.safetensors: is not here")


def test_workers_that_cannot_begin_are_an_error_of_one_line(ray_cluster: Any) -> None:
    with (
        Cluster(RaySettings(retries=0)) as cluster,
        pytest.raises(FfdiError, match=r"^\S+:\d+: weights/x.safetensors: is not"),
    ):
        list(cluster.map(refuse, [1]))


@dataclass(frozen=True)
class OneDiffers:
    """Makes workers of which the second says something else about itself, before the first has done anything."""

    folder: Path

    def __call__(self) -> Any:
        try:
            (self.folder / "first").touch(exist_ok=False)
            return Double({"torch": "2.9"}, self.folder / "second")
        except FileExistsError:
            (self.folder / "second").touch()
            return Double({"torch": "2.8"}, self.folder / "second")


@dataclass(frozen=True)
class Double:
    about: dict[str, str]
    second: Path

    def __call__(self, number: int, tell: Callable[[Any], None]) -> tuple[int, str]:
        deadline = time.monotonic() + 60
        while not self.second.exists():
            assert time.monotonic() < deadline, "there is no second worker"
            time.sleep(0.02)
        time.sleep(0.1)  # the driver hears of it meanwhile
        return 2 * number, self.about["torch"]


def test_a_worker_that_differs_from_the_first_gets_no_work(ray_cluster: Any, tmp_path: Path) -> None:
    lines: list[str] = []
    with Cluster(ONE_CPU, Console(say=lines.append)) as cluster:
        results = [result for _, result in cluster.map(OneDiffers(tmp_path), range(6))]
    assert [number for number, _ in results] == [0, 2, 4, 6, 8, 10] and len({torch for _, torch in results}) == 1
    assert any("differs from" in line and "torch 2." in line for line in lines)
