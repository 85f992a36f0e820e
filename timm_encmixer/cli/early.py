"""Early looks: what is wrong with the words of a command is said before anything slow is imported.

Where the work is done everything is looked at again, and that look decides: something may have changed meanwhile.
"""

from __future__ import annotations

import contextlib
import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from timm_encmixer.errors import (
    AlreadyEncryptedError,
    FileAccessError,
    KeyFormatError,
    KeyMismatchError,
    KeyPermissionWarning,
    NotEncryptedError,
    SourceError,
    TargetExistsError,
)
from timm_encmixer.files import refuse_existing, similar_paths
from timm_encmixer.keys import KeyLike, SecretKey, find_key

if TYPE_CHECKING:
    from timm_encmixer.checkpoints.sources import Source
    from timm_encmixer.scheme import Scheme

_RANKS = ("RANK", "LOCAL_RANK", "PMI_RANK", "OMPI_COMM_WORLD_RANK", "MV2_COMM_WORLD_RANK")  # set by what starts many processes


def is_alone() -> bool:
    """Whether no launcher has started this process beside others."""
    return not any(name in os.environ for name in _RANKS)


def load_key(key: KeyLike | None, *, where: str = "--key") -> SecretKey:
    """Load a key; like ssh, refuse a file that others can read, where the Python API warns.

    Args:
        key: Key file; None takes the one that TIMM_ENCMIXER_KEY names. A key is returned as it is.
        where: The option, for messages.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("error", KeyPermissionWarning)
        try:
            return find_key(key, where=where)
        except KeyPermissionWarning as warning:
            where = str(warning).partition(":")[0]
            raise KeyFormatError(
                where, "a key file for your eyes only", "one that others can read", f"run: chmod 600 {where}"
            ) from None


def key_file(context: click.Context, parameter: click.Parameter, value: str | None) -> SecretKey | None:
    """Load the key that a command needs."""
    return None if context.resilient_parsing else load_key(value, where=parameter.opts[0])


def key_file_if_any(context: click.Context, parameter: click.Parameter, value: str | None) -> SecretKey | None:
    """Load the key of a command that can do without."""
    return None if value is None else key_file(context, parameter, value)


def key_file_if_alone(context: click.Context, parameter: click.Parameter, value: str | None) -> KeyLike | None:
    """Load the key; beside other processes only the main one has the file, and loads it when they have met."""
    return key_file(context, parameter, value) if is_alone() else value


def free_target(context: click.Context, parameter: click.Parameter, value: Path | None) -> Path | None:
    """Refuse a target that exists, unless --force was given."""
    if value is not None and not context.resilient_parsing:
        refuse_existing(value, overwrite=context.params.get("force", False))
    return value


def in_folder(context: click.Context, parameter: click.Parameter, value: Path | None) -> Path | None:
    """Refuse a target whose folder does not exist."""
    if value is not None and not context.resilient_parsing and not value.parent.exists():
        raise FileAccessError(str(value), "a folder to write into", "no such folder", f"make it first: mkdir -p {value.parent}")
    return value


def free_target_in_folder(context: click.Context, parameter: click.Parameter, value: Path | None) -> Path | None:
    """Refuse a target that exists, unless --force was given, or whose folder does not."""
    return free_target(context, parameter, in_folder(context, parameter, value))


def existing_images(context: click.Context, parameter: click.Parameter, value: Path) -> Path:
    """Refuse a path of images that does not exist."""
    if not context.resilient_parsing and not os.path.lexists(value):
        remedy = similar_paths(value)
        raise FileAccessError(str(value), "an image or a folder of images", "no such path", remedy)
    return value


def folder_or_none(context: click.Context, parameter: click.Parameter, value: Path) -> Path:
    """Refuse a target folder where something else is."""
    if not context.resilient_parsing and os.path.lexists(value) and not value.is_dir():
        raise TargetExistsError(str(value), "a folder, or nothing", "something else", "choose another target")
    return value


def existing_file(what: str) -> Callable[[click.Context, click.Parameter, str | None], str | None]:
    """Return the callback that refuses the path of a file that does not exist; `what` is what it should be."""

    def look(context: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
        if value is not None and not context.resilient_parsing and not os.path.lexists(value):
            raise FileAccessError(value, what, "no such path", similar_paths(value))
        return value

    return look


def architecture(context: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    """Refuse a name of an architecture that timm has not."""
    from timm_encmixer.models.listing import is_model, plain_name, similar_names

    if value is not None and not context.resilient_parsing and not is_model(plain_name(value)):
        remedy = similar_names(value, otherwise="encmixer models lists the names that timm has")
        raise SourceError(parameter.opts[0], "a timm model name", repr(value), remedy)
    return value


def few_cores(context: click.Context, parameter: click.Parameter, value: int | None) -> None:
    """Let this process, which uses all cores that it may, have no more than so many."""
    if value is not None and not context.resilient_parsing:
        if not hasattr(os, "sched_setaffinity"):
            raise click.BadParameter("this system cannot limit a process to some cores")
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:value])


def many_processes(context: click.Context, parameter: click.Parameter, value: int | None) -> None:
    """Say how a data set is made by many processes: a launcher starts them."""
    if value is not None and not context.resilient_parsing:
        launch = f"accelerate launch --multi_gpu --num_processes {value} --num_machines 1 -m timm_encmixer"
        words = context.command_path.partition(" ")[2]
        raise click.BadParameter(f"one process uses one core; for {value} of them run: {launch} {words} ...")


def reach(repo_id: str, *, token: str | None) -> None:
    """Find out whether the Hub answers about a repository, which may be yet to be made.

    Raises:
        SourceError: No repository can be called so.
        HubError: The Hub refused or could not be reached.
    """
    from timm_encmixer.hub.client import split_revision
    from timm_encmixer.hub.snapshot import Snapshot, refuse_bad_id

    refuse_bad_id(split_revision(repo_id)[0], where=repo_id)
    with contextlib.suppress(SourceError):
        Snapshot.open(repo_id, token=token)


def look_up(name: str, *, token: str | None = None, sealed: bool = False) -> Source:
    """Find out what the name of a model means, and of a repository of the Hub that it is there and answers.

    Args:
        name: As for `find_source`.
        token: Of the Hub.
        sealed: It is a sealed file: a path, or a repository.
    """
    from timm_encmixer.checkpoints.sources import find_source

    source = find_source(name, token=token, exists=not sealed)
    if source.repo_id is not None:
        _ = source.snapshot
    elif source.path is not None and not os.path.lexists(source.path):
        raise FileAccessError(name, "a sealed model: a file or hf-hub:ID", "no such path", similar_paths(name))
    return source


def refuse_unsupported(name: str, cipher: str) -> None:
    """Refuse the name of an architecture that cannot be encrypted, before the Hub is asked for its weights.

    Raises:
        StemError: It cannot, or not by this cipher.
    """
    from timm_encmixer.models.listing import check_name

    if not os.path.lexists(name):  # a folder goes before an architecture of its name
        check_name(name, cipher)


def refuse_encrypted(source: Source, *, remedy: str) -> None:
    """Refuse an encrypted model where a plain one is needed.

    Raises:
        AlreadyEncryptedError: It is encrypted.
    """
    if _record(source) is not None:
        raise AlreadyEncryptedError(source.name, "a plain model", "an encrypted one", remedy)


def refuse_plain(source: Source, *, remedy: str) -> None:
    """Refuse a plain model where an encrypted one is needed.

    Raises:
        NotEncryptedError: It is plain.
    """
    if source.timm_name is not None or (_is_readable(source) and source.record is None):
        raise NotEncryptedError(source.name, "an encrypted model with its record", "a plain model", remedy)


def refuse_other_key(source: Source, key: SecretKey | None) -> None:
    """Refuse a key that is not the one that an encrypted model's record names.

    Raises:
        KeyMismatchError: It is another one.
    """
    record = _record(source)
    if key is not None and record is not None and record.fingerprint not in (None, key.fingerprint):
        expected, got = f"the key with fingerprint {record.fingerprint}", f"one with fingerprint {key.fingerprint}"
        raise KeyMismatchError("--key", expected, got, "ask the model's owner for its key")


def refuse_same_key(key: SecretKey, new_key: SecretKey) -> None:
    """Refuse a new key that is the old one.

    Raises:
        KeyMismatchError: It is.
    """
    if key == new_key:
        raise KeyMismatchError("--new-key", "another key than the old one", "the same", "make one: encmixer key new PATH")


def _record(source: Source) -> Scheme | None:
    """Return the record of a model, None where it is plain or where only its weights would show one."""
    return source.record if source.timm_name is None and _is_readable(source) else None


def _is_readable(source: Source) -> bool:
    """Whether a record can be read without the weights: of a repository that has a config, and of what is on this machine."""
    from timm_encmixer.checkpoints.config_file import CONFIG_NAME

    return source.repo_id is None or CONFIG_NAME in source.snapshot.files
