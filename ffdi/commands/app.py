"""ffdi app: a page on this machine where pictures are dropped and judged."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import click

from ffdi.commands.scoring import MODEL
from ffdi.errors import FfdiError
from ffdi.stagekit.command import OneLineErrors
from ffdi.stagekit.console import say


@click.command(
    cls=OneLineErrors,
    short_help="a page on this machine where pictures are judged",
    epilog="ffdi app --model data/models/NAME\nffdi app --model data/ensembles/NAME --port 8010",
)
@MODEL
@click.option("--port", default=8000, show_default=True, type=click.IntRange(0, 65535), help="0 takes a free one")
@click.option("--host", default="127.0.0.1", show_default=True, help="the address to listen on; others need --public")
@click.option("--public", is_flag=True, help="let other machines in: without a password, and in the clear")
@click.option(
    "--name", "names", multiple=True, help="a host name under which a browser may reach it, such as that of a proxy"
)
@click.option("--max-pixels", default=50_000_000, show_default=True, type=click.IntRange(min=1), help="of a picture")
@click.option("--max-megabytes", default=20, show_default=True, type=click.IntRange(min=1), help="of a file")
@click.option(
    "--seconds", default=60.0, show_default=True, type=click.FloatRange(min=1), help="for the judging of a picture"
)
@click.option(
    "--places", default=16, show_default=True, type=click.IntRange(min=1), help="pictures that may wait at once"
)
def app(
    model: Path,
    port: int,
    host: str,
    public: bool,
    names: tuple[str, ...],
    max_pixels: int,
    max_megabytes: int,
    seconds: float,
    places: int,
) -> None:
    """Serve a page that judges the pictures that are dropped on it, until Ctrl-C. It needs the extra ffdi[app].

    Only this machine reaches it. With --host ADDRESS --public everyone does who reaches that address: there is no password
    and no TLS, so put it behind a proxy that has both. No picture is written to disk, and nothing is fetched.
    """
    missing = [name for name in ("starlette", "uvicorn") if find_spec(name) is None]
    if missing:
        raise FfdiError(f"{' and '.join(missing)} not installed: pip install 'ffdi[app]'")
    from ffdi.deploy.app.limits import UploadLimits
    from ffdi.deploy.app.server import is_loopback, listen, serve

    if not public and not is_loopback(host):
        raise FfdiError(
            f"--host {host} lets everyone in who reaches it, without a password and in the clear: add --public if you mean it"
        )
    if public and is_loopback(host):
        raise FfdiError(f"--public: only this machine reaches {host}: add --host ADDRESS, or leave it out")
    limits = UploadLimits(max_megabytes, max_pixels, seconds, places=places)
    with listen(host, port) as listener:
        shown = f"[{host}]" if ":" in host else host
        address = f"http://{shown}:{listener.getsockname()[1]}"
        serve(model, listener, limits, names, lambda: say(f"app: {address} judges with {model.name}; Ctrl-C ends it"))
