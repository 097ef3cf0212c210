"""The settings of extraction: section `extract` of params.yaml."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from ffdi.bounds import LATER, NonNegative, NonNegativeFloat, Positive, Rule
from ffdi.errors import ParamsError
from ffdi.storage import is_url
from ffdi.urls import checked_url

EngineName = Literal["local", "ray"]
OWN_CLUSTER = "local"  # the address of a cluster that is started for the run


def _ray_address(address: str) -> None:
    """ParamsError unless it is one of a cluster."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if address not in ("auto", OWN_CLUSTER) and not (host and port.isdecimal() and "@" not in host):
        raise ParamsError("is none of auto, local, ray://HOST:PORT and HOST:PORT")


@dataclass(frozen=True)
class RaySettings:
    """The Ray cluster, and what a worker takes of it; read with `engine: ray`. None of these settings changes a result."""

    address: Annotated[str, Rule(_ray_address)] = "auto"
    """The cluster: `auto` is the one that runs on this machine or that $RAY_ADDRESS names, `local` one that is started
    on this machine for the run, `ray://HOST:10001` one elsewhere (it needs `ray[client]`), `HOST:6379` one that this
    machine has joined."""

    cpus_per_task: Literal["auto"] | Positive = "auto"
    """The cores of a worker, and its threads; `auto` is one, or with GPUs, the node's cores for each of them."""

    gpus_per_task: Literal["auto"] | NonNegativeFloat = "auto"
    """The GPUs of a worker, also a part of one, such as 0.5; `auto` is one where the cluster has any."""

    max_in_flight: Literal["auto"] | Positive = "auto"
    """The most workers at once; `auto` is as many as the cluster has room for. A cluster that grows needs a number here."""

    retries: NonNegative = 3
    """How many times a task is tried again after it failed or its worker was lost; the pauses grow from one second on."""


def _check_store(url: str | None) -> None:
    """ParamsError unless shards can be written to this URL; StorageError for one that holds a credential."""
    if url is None:
        return
    if not is_url(url):
        raise ParamsError("is no URL, such as s3://bucket/features; without it shards lie in data/features")
    checked_url(url)
    if url.startswith(("http://", "https://")):
        raise ParamsError("a web server cannot be written to: name a store, such as s3://bucket/features")


@dataclass(frozen=True)
class ExtractSettings:
    """How features are computed and stored; none of these settings changes a feature."""

    engine: EngineName = "local"
    """What runs the tasks: `local` is this machine, `ray` a Ray cluster (see ray and docs/scale.md)."""

    workers: Literal["auto"] | Positive = "auto"
    """The number of threads that decode and render images; `auto` takes one for each core."""

    shard_rows: Positive = 4096
    """The number of rows in a shard file."""

    compression: Literal["none", "bitshuffle-lz4"] = "none"
    """How shards are compressed, without loss."""

    ray: Annotated[RaySettings, LATER] = RaySettings()
    """The Ray cluster of `engine: ray`."""

    store: Annotated[str | None, Rule(_check_store), LATER] = None
    """A URL for the shards, such as `s3://bucket/features`: those of backbone NAME go to URL/NAME, and data/features/NAME
    only points there (see docs/features.md)."""
