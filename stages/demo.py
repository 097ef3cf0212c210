"""Stage demo: the synthetic data set."""

from pathlib import Path

import click

from ffdi.demo.dataset import FAMILY, POSTED, QUALITY, write_demo
from ffdi.params.reading import read_params
from ffdi.stagekit.command import stage_command
from ffdi.stagekit.console import console
from ffdi.stagekit.options import PARAMS, path

FOREIGN = click.option(
    "--foreign", is_flag=True, help="a third as many other people, more compressed: to test on, never to train"
)


@stage_command(PARAMS, path("--out", default="data/demo"), FOREIGN)
def main(params_file: Path, out: Path, foreign: bool) -> None:
    """Draw the demo's faces and forge half of them."""
    demo = read_params(params_file).demo
    identities = max(2 * FAMILY, demo.identities // 3) if foreign else demo.identities
    seed, quality = demo.seed + foreign, POSTED if foreign else QUALITY
    write_demo(out, identities=identities, seed=seed, quality=quality, console=console("demo"))


if __name__ == "__main__":
    main()
