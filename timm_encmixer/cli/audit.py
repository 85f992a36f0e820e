"""encmixer audit: attack a model and its images, and report what each attacker gets."""

from __future__ import annotations

import contextlib
import functools
import importlib
import operator
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource
from click.shell_completion import CompletionItem

from timm_encmixer.audit.extra import require_extra
from timm_encmixer.audit.names import ATTACK_NAMES, check_names
from timm_encmixer.cli.early import free_target, look_up, refuse_other_key
from timm_encmixer.cli.options import (
    CHECK_FAILED,
    cipher_option,
    force_option,
    json_option,
    key_if_any_option,
    label_column_option,
    model_option,
    report,
)
from timm_encmixer.cli.words import PATH, PATH_TEXT, SOURCE, Choice, Text
from timm_encmixer.errors import AuditError, MissingKeyError
from timm_encmixer.keys import SecretKey

if TYPE_CHECKING:
    from timm_encmixer.audit import Report


def _attacks(context: click.Context, parameter: click.Parameter, value: tuple[str, ...]) -> tuple[str, ...]:
    check_names(value, "--only")
    return value


class Threshold(click.ParamType):  # type: ignore[type-arg]  # generic in newer versions only
    """ATTACK=THRESHOLD, as a pair of a name and a number from 0 to 1."""

    name = "attack=threshold"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, float]:
        """Split and check."""
        attack, _, number = str(value).partition("=")
        try:
            threshold = float(number)
        except ValueError:
            threshold = -1.0
        if not attack or not 0 <= threshold <= 1:
            self.fail(f"{value!r} is not ATTACK=THRESHOLD with a threshold from 0 to 1", param, ctx)
        return attack, threshold

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Return the attacks whose names begin so; the number is the user's."""
        return [CompletionItem(f"{name}=") for name in ATTACK_NAMES if name.startswith(incomplete)]


_OF_MODELS = ("key", "base", "cipher")  # options that say nothing where a cipher without a model is attacked


@click.command("audit")
@model_option("Plain or encrypted model: timm name, hf-hub:ID or folder; default: the bundled one.")
@key_if_any_option
@click.option(
    "--images",
    "--data",
    metavar="SRC",
    type=PATH_TEXT,
    help="Images, best with labels: a folder, parquet folder or Hub data set.",
)
@click.option("--split", help="Split of --images; default: test, else validation, else train.")
@label_column_option
@click.option("--public-images", metavar="SRC", type=PATH_TEXT, help="Public photos that are not among --images, likewise.")
@click.option("--public-split", help="Split of --public-images; default: train.")
@click.option("--base", metavar="MODEL", type=SOURCE, help="Public plain weights that the model was made from, as for --model.")
@click.option(
    "--out", type=PATH, callback=free_target, default=Path("encmixer-audit"), show_default=True, help="Folder for the report."
)
@click.option("--budget", type=Choice(["quick", "full"]), default="quick", show_default=True, help="Minutes, or an hour.")
@click.option(
    "--only",
    multiple=True,
    metavar="ATTACK",
    type=Text(lambda: ATTACK_NAMES, paths=False),
    callback=_attacks,
    help=f"Run this attack alone; repeatable. One of {', '.join(ATTACK_NAMES)}.",
)
@click.option(
    "--fail-on",
    multiple=True,
    type=Threshold(),
    metavar="ATTACK=SHARE",
    help="Exit 1 if this attack recovers so much (0 to 1).",
)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="For all that is left to chance.")
@cipher_option
@click.option(
    "--cipher-from",
    metavar="MODULE:NAME",
    help="Attack this Python function of uint8 images (N, H, W, C) instead of a model; --model then reads what is recovered.",
)
@click.option(
    "--block",
    type=click.IntRange(2, 32),
    metavar="PX",
    help="With --cipher-from: side of the cipher's blocks; default: asked of it.",
)
@click.option("--keyed", is_flag=True, help="With --cipher-from: the function takes a key (32 bytes) and returns the cipher.")
@click.option("--decrypt-from", metavar="MODULE:NAME", help="With --cipher-from: its inverse, to say how exact it is.")
@force_option
@json_option
@click.pass_context
def audit_command(
    context: click.Context,
    /,
    model: str | None,
    key: SecretKey | None,
    images: str | None,
    public_images: str | None,
    base: str | None,
    out: Path,
    only: tuple[str, ...],
    fail_on: tuple[tuple[str, float], ...],
    cipher: str,
    cipher_from: str | None,
    block: int | None,
    keyed: bool,
    decrypt_from: str | None,
    force: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Attack a model and its images; report what each attacker gets.

    Every attack runs that the material allows. A plain model is encrypted with --cipher and a fixed public key, or --key; an
    encrypted one needs its --key. Without --images and --public-images all is offline: bundled images, and statistics of
    public photos that come with the package. The folder gets audit.html, audit.md, audit.json and pictures. It needs the
    extra `audit`.

    \b
    Example: encmixer audit --out report
    Example: encmixer audit --model encrypted --key owner.key --images photos --out report --fail-on weights_only=0.5
    Example: encmixer audit --cipher-from my_cipher:encrypt --out report
    """
    from timm_encmixer.images.data_source import find_data

    check_names([name for name, _ in fail_on], "--fail-on", among=only or None)
    require_extra()
    for data in filter(None, (images, public_images)):
        find_data(data)
    _refuse_mixtures(context, cipher_from)
    common: dict[str, Any] = {"images": images, "public_images": public_images, "attacks": only or None, **options}
    attack = (
        _on_model(model, key=key, base=base, cipher=cipher)
        if cipher_from is None
        else _on_cipher(cipher_from, model, block=block, keyed=keyed, decrypt_from=decrypt_from)
    )
    from timm_encmixer.audit.report import above, refuse_nothing_run, refuse_target, report_table

    refuse_target(out, overwrite=force)
    with contextlib.redirect_stdout(sys.stderr):  # a user's cipher may print
        result = attack(**common)
    refuse_nothing_run(result)
    result.save(out, overwrite=force)
    report(
        {"out": str(out), **result.to_dict()}, as_json, lambda: f"{report_table(result)}\nThe report is {out / 'audit.html'}"
    )
    failed = above(result, fail_on)
    for line in failed:
        click.echo(f"encmixer: {line}", err=True)
    sys.exit(CHECK_FAILED if failed else 0)


def _on_model(model: str | None, *, key: SecretKey | None, base: str | None, cipher: str) -> Callable[..., Report]:
    """Look everything up that an audit of a model needs, and return what runs it."""
    from timm_encmixer.bundled import BUNDLED_MODEL

    source, plain = look_up(model or BUNDLED_MODEL), None if base is None else look_up(base)
    if key is None and source.timm_name is None and source.record is not None:
        raise MissingKeyError(source.name, "the key of the encrypted model", "none", "pass --key")
    refuse_other_key(source, key)
    from timm_encmixer.audit import run

    return functools.partial(run, source, base=plain, key=key, cipher=cipher)


def _on_cipher(
    cipher_from: str, model: str | None, *, block: int | None, keyed: bool, decrypt_from: str | None
) -> Callable[..., Report]:
    """Import what an audit of a cipher without a model needs, and return what runs it."""
    plain = None if model is None else look_up(model)
    encrypt = _function(cipher_from, "--cipher-from")
    decrypt = None if decrypt_from is None else _function(decrypt_from, "--decrypt-from")
    from timm_encmixer.audit import run_cipher

    return functools.partial(
        run_cipher, encrypt, plain_model=plain, block=block, keyed=keyed, decrypt=decrypt, name=cipher_from
    )


def _refuse_mixtures(context: click.Context, cipher_from: str | None) -> None:
    """Refuse options of a model beside those of a cipher without one."""
    given = [name for name in (*_OF_MODELS, "block", "keyed", "decrypt_from") if _is_given(context, name)]
    if cipher_from is None:
        wrong, remedy = (
            [name for name in given if name not in _OF_MODELS],
            "is for a cipher without a model: pass --cipher-from",
        )
    else:
        wrong, remedy = [name for name in given if name in _OF_MODELS], "is for models: leave it out, or --cipher-from"
    if wrong:
        raise click.UsageError(f"--{wrong[0].replace('_', '-')} {remedy}")


def _is_given(context: click.Context, name: str) -> bool:
    return context.get_parameter_source(name) is ParameterSource.COMMANDLINE


def _function(spec: str, where: str) -> Callable[[Any], Any]:
    """Return a function by module and name, as Python finds modules from the current folder.

    Raises:
        AuditError: There is no such function, or its module fails.
    """
    module, _, name = spec.partition(":")
    expected = "MODULE:NAME of a Python function that can be imported from here"
    if not (module and name):
        raise AuditError(where, expected, repr(spec), "for def encrypt(images) in my_cipher.py it is my_cipher:encrypt")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        with contextlib.redirect_stdout(sys.stderr):
            found = operator.attrgetter(name)(importlib.import_module(module))
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # the module is the user's, and may call sys.exit
        raise AuditError(
            where, expected, f"{spec}: {type(error).__name__}: {error}"[:300], "correct the name or the module"
        ) from error
    if not callable(found):
        raise AuditError(where, expected, f"{spec}, a {type(found).__name__}", "name a function")
    function: Callable[[Any], Any] = found
    return function
