"""docs/clusters: each config is one of its program, names versions and settings that exist, and the Slurm job runs."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from ffdi.params.reading import read_params

HERE = Path(__file__).parents[1]
CLUSTERS = HERE / "docs" / "clusters"
RAY_VERSION = re.search(r"^ray==(.+)$", (HERE / "requirements.lock").read_text(encoding="utf-8"), re.M)


def yaml(name: str) -> dict[str, Any]:
    return YAML(typ="safe", pure=True).load((CLUSTERS / name).read_text(encoding="utf-8"))


def ray_file(path: str) -> str:
    """A file of the installed Ray, which is not imported."""
    found = importlib.util.find_spec("ray")
    if found is None or found.origin is None:
        pytest.skip("needs ffdi[ray]")
    return (Path(found.origin).parent / path).read_text(encoding="utf-8")


def test_ray_up_is_valid_by_rays_own_schema() -> None:
    jsonschema = pytest.importorskip("jsonschema")
    schema, config = json.loads(ray_file("autoscaler/ray-schema.json")), yaml("ray-up.yaml")
    jsonschema.validate(config, schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(config | {"max_worker": 3}, schema)
    assert config["head_node_type"] in config["available_node_types"]


def test_kuberay_is_a_job_whose_parts_fit_together() -> None:
    """The whole schema of a RayJob is KubeRay's, and not here: docs/scale.md says which version it was checked against."""
    job = yaml("kuberay.yaml")
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    cluster = job["spec"]["rayClusterSpec"]
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    for group in groups:
        pod = group["template"]["spec"]
        for container in pod["containers"]:
            mounted = {mount["name"] for mount in container["volumeMounts"]}
            assert mounted == {volume["name"] for volume in pod["volumes"]}
            assert container["resources"]["requests"] == container["resources"]["limits"]
    assert len({c["image"] for group in groups for c in group["template"]["spec"]["containers"]}) == 1
    claimed = cluster["headGroupSpec"]["template"]["spec"]["containers"][0]["volumeMounts"][0]["mountPath"]
    assert f"cd {claimed} && dvc repro" in job["spec"]["entrypoint"]


def test_all_name_the_version_of_ray_that_is_locked() -> None:
    assert RAY_VERSION
    image = re.search(r"rayproject/ray:([\d.]+)-py(\d)(\d+)", (CLUSTERS / "Dockerfile").read_text(encoding="utf-8"))
    assert image and image[1] == RAY_VERSION[1]
    assert (3, 10) <= (int(image[2]), int(image[3])) <= (3, 14)
    assert yaml("kuberay.yaml")["spec"]["rayClusterSpec"]["rayVersion"] == RAY_VERSION[1]


def test_ray_start_has_every_option_that_they_give_it() -> None:
    known = set(re.findall(r'"(--[\w-]+)"', ray_file("scripts/scripts.py")))
    commands = [line for line in (CLUSTERS / "ray-up.yaml").read_text().splitlines() if "ray start" in line]
    commands += [
        line for line in (CLUSTERS / "slurm.sh").read_text().splitlines() if re.search("ray start|^node=", line)
    ]
    given = {option for line in commands for option in re.findall(r"--[\w-]+", line)}
    cluster = yaml("kuberay.yaml")["spec"]["rayClusterSpec"]
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        given |= {f"--{option}" for option in group["rayStartParams"]}
    assert len(given) >= 6
    assert given <= known


def test_the_extras_that_the_image_installs_exist() -> None:
    extras = re.search(r"ffdi\[(.+?)\]", (CLUSTERS / "Dockerfile").read_text(encoding="utf-8"))
    listed = re.findall(r"^(\w+) =$", (HERE / "setup.cfg").read_text().split("[options.extras_require]")[1], re.M)
    assert extras and set(extras[1].split(",")) <= set(listed)


def test_the_two_lines_of_params_are_valid_and_those_of_the_page(tmp_path: Path) -> None:
    lines = (CLUSTERS / "params.yaml").read_text(encoding="utf-8").splitlines()[-2:]
    assert "\n".join(["```yaml", *lines, "```"]) in (HERE / "docs" / "scale.md").read_text(encoding="utf-8")
    whole = YAML(typ="safe", pure=True).load((HERE / "params.yaml").read_text(encoding="utf-8"))
    for section, keys in yaml("params.yaml").items():
        whole[section] = whole.get(section, {}) | keys
    (tmp_path / "params.yaml").write_text(json.dumps(whole))
    params = read_params(tmp_path / "params.yaml")
    assert (params.extract.engine, params.data.root) == ("ray", "s3://bucket/faces")


def test_the_slurm_job_is_bash() -> None:
    subprocess.run(["bash", "-n", CLUSTERS / "slurm.sh"], check=True)


SRUN = """#!/bin/bash
while [[ "$1" == --* ]]; do
    [[ "$1" == --export=ALL,* ]] && export "${1#--export=ALL,}"
    shift
done
[ "$1" = hostname ] && { echo 127.0.0.1; exit; }
exec "$@"
"""
COUNT = """
import ray, time
ray.init(address="auto", logging_level="error", log_to_driver=False)
while len([node for node in ray.nodes() if node["Alive"]]) < 2:
    time.sleep(0.5)
print("nodes: 2", ray.get(ray.remote(lambda: "task done").remote()))
"""


@pytest.mark.long
@pytest.mark.ray
def test_the_slurm_job_starts_a_cluster_with_a_token_and_ends_it(tmp_path: Path) -> None:
    """Two nodes, both on this machine, in place of Slurm's programs two of a few lines."""
    pytest.importorskip("ray")
    for name, text in (("srun", SRUN), ("scontrol", "#!/bin/bash\nprintf 'one\\ntwo\\n'\n"), ("count.py", COUNT)):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    slurm = {"JOB_ID": str(os.getpid()), "JOB_NODELIST": "x", "JOB_NUM_NODES": "2", "CPUS_PER_TASK": "1"}
    done = subprocess.run(
        ["bash", CLUSTERS / "slurm.sh", "python", tmp_path / "count.py"],
        env=os.environ
        | {f"SLURM_{key}": value for key, value in slurm.items()}
        | {"PATH": f"{tmp_path}:{Path(sys.executable).parent}:{os.environ['PATH']}"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert "nodes: 2 task done" in done.stdout
