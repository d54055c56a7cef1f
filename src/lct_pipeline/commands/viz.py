"""``kedro lct viz``: a run in the browser, or as a static site."""

from __future__ import annotations

import socket
import warnings
import webbrowser
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from lct_pipeline.runs.reading import Run

HOST = "127.0.0.1"


@click.command()
@click.argument("run", required=False)
@click.option("--port", default=4141, show_default=True, help="0 takes any free one.")
@click.option("--browser/--no-browser", default=True, help="Open the browser.")
@click.option(
    "--build",
    type=click.Path(file_okay=False, path_type=Path),
    help="Write a static site to this folder instead.",
)
def viz(run: str | None, port: int, browser: bool, build: Path | None) -> None:
    """Show a run in kedro-viz; without RUN the one that ran last."""
    from lct_pipeline.browsing import build_site, load_run, run_to_show
    from lct_pipeline.commands.runs import project_folder

    # kedro-viz's server calls it at every start
    warnings.filterwarnings("ignore", message="ORJSONResponse is deprecated")
    shown = run_to_show(project_folder(), run)
    if build is not None:
        load_run(shown)
        build_site(shown, build)
        click.echo(f"Run {shown.name} is in {build}: any web server shows it.")
        return
    listener = _listener(port)
    load_run(shown)
    _serve(shown, listener, browser)


def _listener(port: int) -> socket.socket:
    """Return a socket that listens; whoever connects before the server is up waits."""
    try:
        return socket.create_server((HOST, port))
    except OSError as error:
        raise click.ClickException(
            f"port {port} is taken ({error.strerror}): choose another with --port, 0 for any."
        ) from None


def _serve(run: Run, listener: socket.socket, browser: bool) -> None:
    import uvicorn

    from lct_pipeline.browsing import app_of

    address = f"http://{HOST}:{listener.getsockname()[1]}/"
    click.echo(f"Run {run.name} is at {address} (Ctrl+C ends this).")
    if browser:
        webbrowser.open(address)
    config = uvicorn.Config(app_of(run), log_config=None, access_log=False)
    uvicorn.Server(config).run(sockets=[listener])
