"""encmixer app: the page."""

from __future__ import annotations

import click

from timm_encmixer.cli.early import look_up
from timm_encmixer.cli.options import model_option
from timm_encmixer.cli.signals import end_served
from timm_encmixer.web.extra import require_extra
from timm_encmixer.web.listener import HOST, PORT, listen


@click.command("app")
@model_option("Plain or encrypted model: timm name, hf-hub:ID or folder; default: the bundled one.")
@click.option("--host", metavar="ADDRESS", default=HOST, show_default=True, help="Where to listen; 0.0.0.0 for all.")
@click.option("--port", type=click.IntRange(0, 65535), default=PORT, show_default=True, help="0 takes any that is free.")
@click.option(
    "--allow-host",
    multiple=True,
    metavar="NAME",
    help="Answer to this name too; repeatable. Addresses and localhost need none.",
)
def app_command(model: str | None, host: str, port: int, allow_host: tuple[str, ...]) -> None:
    """Serve a page that encrypts in the browser, and shows it all.

    It has three roles: your side, the server with the model, and an attacker who collects what is sent. A plain model is
    encrypted with a new key, which every visitor gets: a demo. For an encrypted one the page asks for its key, which stays in
    the browser. Nothing is loaded from elsewhere, and nothing is written. It needs the extra `web`.

    \b
    Example: encmixer app
    Example: encmixer app --model encrypted --port 8000
    """
    from timm_encmixer.bundled import BUNDLED_MODEL

    require_extra()
    source = look_up(model or BUNDLED_MODEL)
    with listen(host, port) as listener:
        from timm_encmixer.web import make_app, serve
        from timm_encmixer.web.samples import pixel_note

        app = make_app(source, allow_hosts=allow_host)
        name, number, *_ = listener.getsockname()
        if (note := pixel_note()) is not None:
            click.echo(note, err=True)
        click.echo(f"The page is http://{f'[{name}]' if ':' in name else name}:{number}/ (Ctrl-C ends it)")
        try:
            serve(app, listener)
        except KeyboardInterrupt:
            end_served()
