"""The `encmixer` command: parse, call, print. What takes seconds to import is imported by the command that needs it."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import Any

import click

from timm_encmixer import __version__
from timm_encmixer.cli.audit import audit_command
from timm_encmixer.cli.dataset import dataset
from timm_encmixer.cli.evaluation import demo, evaluate_command
from timm_encmixer.cli.images import images
from timm_encmixer.cli.key import key
from timm_encmixer.cli.logs import say, start_logging, take_log_options
from timm_encmixer.cli.model import model
from timm_encmixer.cli.model_hub import pull, push
from timm_encmixer.cli.model_seal import open_, seal
from timm_encmixer.cli.models import models
from timm_encmixer.cli.options import BAD_INPUT, NOBODY_READS
from timm_encmixer.cli.page import app_command
from timm_encmixer.cli.signals import catch_signals, end_interrupted
from timm_encmixer.cli.words import Commands, dashes_meant, option_meant
from timm_encmixer.errors import RESIZE_REMEDY, EncMixerError, MissingKeyError, of_full_installation
from timm_encmixer.files import file_error
from timm_encmixer.keys import KEY_VARIABLE, refuse_key_words
from timm_encmixer.limits import LIMITS

_GIVE_A_KEY = f"give --key FILE, or set {KEY_VARIABLE} to one; encmixer key new owner.key makes one"

_EPILOG = f"""{" ".join(LIMITS)} encmixer audit attacks your own model and images.

To complete words with the Tab key, add a line to the file that your shell reads when it starts:

\b
bash (~/.bashrc)  eval "$(_ENCMIXER_COMPLETE=bash_source encmixer)"
zsh (~/.zshrc)    eval "$(_ENCMIXER_COMPLETE=zsh_source encmixer)"
fish (~/.config/fish/completions/encmixer.fish)
                  _ENCMIXER_COMPLETE=fish_source encmixer | source
"""


@contextlib.contextmanager
def _a_reader_may_go() -> Iterator[None]:
    """End when whoever read the output has enough of it, as `head` has."""
    try:
        yield
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(NOBODY_READS)


class _TopCommands(Commands):
    """The top group; ends at Ctrl-C before click prints an empty line for it, and where nobody reads before click says 1."""

    def make_context(self, *names: Any, **extra: Any) -> click.Context:
        with _a_reader_may_go():
            return super().make_context(*names, **extra)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            with _a_reader_may_go():
                return super().invoke(ctx)
        except (KeyboardInterrupt, click.Abort):  # an Abort is what click makes of either at a question
            end_interrupted()


@click.group(
    cls=_TopCommands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110}, epilog=_EPILOG
)
@click.version_option(__version__)
def cli() -> None:
    """Key-based encryption of timm's patch-stem models (ConvMixer, ViT and many more) and of images.

    An encrypted model computes on encrypted images what the plain model computes on plain ones.
    """


for command in (demo, key, model, models, images, dataset, evaluate_command, audit_command, app_command):
    cli.add_command(command)
for command in (push, pull, seal, open_):
    model.add_command(command)
take_log_options(cli)


def main() -> None:
    """Run the command line.

    Exit codes: 0 done, 1 a check did not hold, 2 bad input with one line on stderr, 3 a check could not tell, 130 interrupted,
    141 nobody reads.
    """
    catch_signals()
    start_logging()
    try:
        refuse_key_words(sys.argv[1:])
        with of_full_installation("this command"):
            sys.exit(cli.main(prog_name="encmixer", standalone_mode=False) or 0)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message())
    except click.ClickException as error:
        context = getattr(error, "ctx", None)
        if isinstance(error, click.NoSuchOption):
            error = option_meant(error)
        hint = f"; see {context.command_path} --help" if context is not None else ""
        _fail(" ".join(error.format_message().split()).rstrip(".") + hint)
    except EncMixerError as error:
        told = _in_options(error)
        if error.shared:  # by the processes of a distributed run: the main one says it
            from timm_encmixer.distributed import exit_on_error

            with exit_on_error():
                raise told from error
        _fail(str(told))
    except KeyboardInterrupt:
        end_interrupted()
    except OSError as error:
        _fail(str(file_error(error.filename or "output", "a file to use", error)))


def _in_options(error: EncMixerError) -> EncMixerError:
    """Return an error whose remedy is of the command line where it was Python's."""
    remedy = _GIVE_A_KEY if isinstance(error, MissingKeyError) else error.remedy
    if "--no-resize" in sys.argv:
        remedy = remedy.replace(RESIZE_REMEDY, "leave out --no-resize, or resize or crop it first")
    told = type(error)(error.where, error.expected, error.got, remedy)
    told.shared = error.shared
    return told


def _fail(message: str) -> None:
    meant = dashes_meant(cli, sys.argv[1:])
    say("error", f"{message}; did you mean {' or '.join(meant)}?" if meant else message)
    sys.exit(BAD_INPUT)
