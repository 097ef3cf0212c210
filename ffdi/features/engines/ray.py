"""Run pieces of work on a Ray cluster. The only module that knows Ray; what the pieces are, its callers know.

A worker is an actor that is made once and then works on one item after another. Items, results and what a worker tells
meanwhile go through Ray, so they are small; what is large goes over the shared storage.
"""

from __future__ import annotations

import importlib.util
import logging
import os
import socket
from collections.abc import Callable, Generator, Sequence
from typing import Any

from ffdi.console import Console
from ffdi.errors import FfdiError, ParamsError, one_line
from ffdi.features.engines.crew import Crew, Item, MapOptions, Result, Work, living_nodes, share_of
from ffdi.features.settings import OWN_CLUSTER, RaySettings
from ffdi.parallel import cpu_count

_OBJECT_STORE_BYTES = 100_000_000  # of a cluster that is started here


class Cluster:
    """A connection to a Ray cluster. It shuts down what it has started itself, and nothing else.

        with Cluster(settings, console) as cluster:
            for item, result in cluster.map(make_work, items):
                ...

    FfdiError when Ray is not installed, or there is no cluster at the address.
    """

    def __init__(self, settings: RaySettings, console: Console = Console()) -> None:
        self.settings, self._console = settings, console
        self._connected_here = False
        self._ray: Any = None

    def __enter__(self) -> Cluster:
        self._ray = _import_ray(starts=self.settings.address == OWN_CLUSTER)
        if not self._ray.is_initialized():
            _connect(self._ray, self.settings.address)
            self._connected_here = True
        return self

    def __exit__(self, *_: object) -> None:
        if self._connected_here:
            self._ray.shutdown()

    @property
    def share(self) -> dict[str, float]:
        """What a worker takes of a node now: `num_cpus` and `num_gpus`."""
        return share_of(living_nodes(self._ray), self.settings)

    def map(
        self,
        make_work: Callable[[], Work[Result]],
        items: Sequence[Item],
        *,
        named: Callable[[Item], str] = str,
        heard: Callable[[Item, Any], None] = lambda item, told: None,
        packed: Callable[[Item], Any] = lambda item: item,
        at_once: int = 1,
    ) -> Generator[tuple[Item, Result], None, None]:
        """Each item and what a worker made of it, in the order of `items`.

        A worker calls `make_work` once, then work(packed(item), tell) for up to `at_once` items at a time, each in a
        thread; `heard` gets what it tells meanwhile, and a Failure when the last try failed. `make_work`, packed items
        and results are sent to other processes. Workers whose work has another `about`, a mapping, than that of the first
        are refused. An item that fails, or whose worker dies, is tried again `retries` times, after a pause; when that is in vain, the others are
        finished first, and then its error is raised, with the worker and what `named` says of the item. Whatever ends
        the iteration, Ctrl-C too, ends the workers.
        """
        options = MapOptions(named, heard, packed, at_once, self._console)
        crew = Crew(self._ray, make_work, items, options, self.settings)
        try:
            yield from crew.results()
        finally:
            crew.dismiss()


def _import_ray(*, starts: bool) -> Any:
    """Ray, quiet, and on loopback where this process `starts` a cluster of its own."""
    if importlib.util.find_spec("ray") is None:
        raise FfdiError("engine: ray needs Ray: pip install 'ffdi[ray]'")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    if starts:  # then Ray takes 127.0.0.1 for its address, on every system
        os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
    import ray

    logging.getLogger("ray").setLevel(logging.ERROR)
    return ray


def _connect(ray: Any, address: str) -> None:
    """Connect this process to the cluster at an address, or to one that it starts."""
    quiet: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False}
    named, said = address, address
    try:
        if address == OWN_CLUSTER:
            own = {"object_store_memory": _OBJECT_STORE_BYTES, "include_dashboard": False}
            ray.init(address=OWN_CLUSTER, num_cpus=cpu_count(), _node_ip_address="127.0.0.1", **own, **quiet)
            return
        if address == "auto":
            variable = os.environ.get("RAY_ADDRESS", "")
            named = variable or _running_here()
            said = f"auto, which is {named} by {'$RAY_ADDRESS' if variable else 'what Ray noted on this machine'},"
        if ":" in named:
            _refuse_silent(named, said)
        ray.init(address=named, **quiet)
    except (ConnectionError, RuntimeError, ValueError, OSError) as error:
        if named == "auto":
            cure = "no Ray cluster runs on this machine: `ray start --head` starts one, or set it to local"
            raise FfdiError(f"ray.address: auto, but {cure}") from error
        raise ParamsError(f"ray.address: {said} cannot be reached ({one_line(error)[:200]})") from error


def _running_here() -> str:
    """The address of the cluster of this machine, as `ray.init` finds it. ConnectionError where there is none."""
    from ray._private.services import get_ray_address_from_environment

    return str(get_ray_address_from_environment("auto", None))


def _refuse_silent(address: str, said: str) -> None:
    """ParamsError when nothing answers there. Ray itself would try for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()
    except (OSError, ValueError) as error:
        cure = "start the cluster, or name where its head listens"
        raise ParamsError(f"ray.address: {said} cannot be reached ({one_line(error)}): {cure}") from error
