"""Stage demo: the synthetic data set."""

from pathlib import Path

import click

from ffdi.cli import stage_command
from ffdi.demo.dataset import write_demo
from ffdi.params import read_params


@stage_command
@click.option("--params", "params_file", type=click.Path(path_type=Path), default=Path("params.yaml"))
@click.option("--out", type=click.Path(path_type=Path), default=Path("data/demo"))
def main(params_file: Path, out: Path) -> None:
    """Draw the demo's faces and forge half of them."""
    demo = read_params(params_file).demo
    write_demo(out, identities=demo.identities, seed=demo.seed)


if __name__ == "__main__":
    main()
