"""The limits that a container sets for its processes, read from Linux's control groups."""

from __future__ import annotations

from pathlib import Path


def control_group_settings(system: Path, controller: str, name: str) -> list[str]:
    """The values of a setting of this process's control group and of its parents; no `controller` means version 2.

    A group is bound by its parents' limits too. A container sees its own group as the root.
    """
    values = []
    try:
        lines = (system / "proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
    for line in lines:  # "0::/user.slice/x" or "4:cpu,cpuacct:/docker/x"
        _, controllers, group = line.split(":", 2)
        if controller not in controllers.split(","):
            continue
        here = Path(group.lstrip("/"))
        for mounted in dict.fromkeys((controllers, controller)):
            for folder in (here, *here.parents):
                try:
                    text = (system / "sys/fs/cgroup" / mounted / folder / name).read_text(encoding="ascii")
                except OSError:
                    continue
                values.append(text.strip())
    return values
