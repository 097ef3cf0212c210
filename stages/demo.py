"""Stage demo: the synthetic data set."""

from pathlib import Path

import click

from ffdi.demo.dataset import FAMILY, POSTED, QUALITY, write_demo
from ffdi.params import read_params
from ffdi.stagekit.command import stage_command


@stage_command()
@click.option("--params", "params_file", type=click.Path(path_type=Path), default=Path("params.yaml"))
@click.option("--out", type=click.Path(path_type=Path), default=Path("data/demo"))
@click.option(
    "--foreign", is_flag=True, help="a third as many other people, more compressed: to test on, never to train"
)
def main(params_file: Path, out: Path, foreign: bool) -> None:
    """Draw the demo's faces and forge half of them."""
    demo = read_params(params_file).demo
    identities = max(2 * FAMILY, demo.identities // 3) if foreign else demo.identities
    write_demo(out, identities=identities, seed=demo.seed + foreign, quality=POSTED if foreign else QUALITY)


if __name__ == "__main__":
    main()
