"""The Ray cluster of `engine: ray`: whether it answers, and what a worker takes of it."""

from __future__ import annotations

from ffdi.doctor.diagnosis import Diagnosis
from ffdi.errors import FfdiError
from ffdi.features.engines.ray import Cluster
from ffdi.features.settings import OWN_CLUSTER, RaySettings


def cluster_diagnosis(settings: RaySettings, section: str, name: str) -> Diagnosis:
    """Of `extract.ray` or `train.ray`, which `name` says. A cluster that a run starts itself is not started for this."""
    if settings.address == OWN_CLUSTER:
        return Diagnosis(section, name, "ok", "a cluster is started on this machine for each run")
    try:
        with Cluster(settings) as cluster:
            share = cluster.share
    except FfdiError as error:
        return Diagnosis(section, name, "missing", f"{error}", "or leave the engine at local")
    found = f"the cluster answers; a worker takes {share['num_cpus']:g} cores and {share['num_gpus']:g} GPUs of it"
    return Diagnosis(section, name, "ok", found, facts=share)
