"""encmixer model push and pull: the Hugging Face Hub."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from timm_encmixer.cli.early import existing_file, look_up, reach, refuse_other_key
from timm_encmixer.cli.options import (
    arch_option,
    cipher_option,
    create_pr_option,
    dst_argument,
    force_option,
    json_option,
    key_if_any_option,
    public_option,
    report,
    revision_option,
    src_argument,
    token_option,
)
from timm_encmixer.cli.words import PATH_TEXT
from timm_encmixer.errors import MissingKeyError, require_packages
from timm_encmixer.keys import SecretKey

_results = existing_file("what encmixer eval --json printed")


@click.command("push")
@src_argument
@click.argument("repo_id")
@key_if_any_option
@cipher_option
@arch_option
@public_option
@revision_option
@create_pr_option
@click.option("--commit-message", metavar="TEXT", help="Title of the commit.")
@click.option("--license", metavar="ID", help="Licence as the Hub writes it; default: that of the source.")
@click.option("--base-model", metavar="ID", help="Hub id of the plain model, or none; default: the source.")
@click.option(
    "--eval-results",
    metavar="FILE",
    type=PATH_TEXT,
    callback=_results,
    help="What encmixer eval --json printed, for the model card.",
)
@click.option(
    "--seal-to",
    multiple=True,
    metavar="RECIPIENT",
    type=PATH_TEXT,
    help="Send the weights sealed to this age or ssh key; repeatable.",
)
@token_option
@click.option("--force", is_flag=True, help="Push even beside plain weights, which give the key away.")
@json_option
def push(
    src: str,
    repo_id: str,
    key: SecretKey | None,
    cipher: str,
    arch: str | None,
    public: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Push the model SRC, encrypted, to the Hub as REPO_ID.

    One commit holds model.safetensors, config.json and a model card. SRC is a timm model name, hf-hub:ID, a folder with
    config.json, or a .safetensors file (with --arch). A plain one is encrypted on the way, with --key and --cipher; plain
    weights are never sent.

    \b
    Example: encmixer model push encrypted me/encmixer-cifar10 --key owner.key
    """
    if options["seal_to"]:
        require_packages("--seal-to", "seal", "pyrage")
    source = look_up(src, token=options["token"])
    if key is None and (source.timm_name is not None or source.record is None):
        raise MissingKeyError(source.name, "a key to encrypt the plain weights with", "none", "pass --key")
    refuse_other_key(source, key)
    from timm_encmixer.hub.client import repository_in
    from timm_encmixer.publishing.options import PushOptions
    from timm_encmixer.publishing.statements import ask_first

    target = repository_in(repo_id) or repo_id
    reach(target, token=options["token"])
    ask = _ask if sys.stdin.isatty() else None
    push_options = ask_first(source, target, PushOptions(private=not public, ask=ask, **options))
    from timm_encmixer.publishing.push import push_source

    commit = push_source(source, target, push_options, key=key, cipher=cipher, arch=arch)
    report_commit(commit, as_json)


@click.command("pull")
@click.argument("repo_id")
@dst_argument
@revision_option
@token_option
@force_option
@json_option
def pull(repo_id: str, dst: Path, revision: str | None, token: str | None, force: bool, as_json: bool) -> None:
    """Fetch the model REPO_ID from the Hub to the folder DST.

    Every byte is compared with what the Hub lists.

    \b
    Example: encmixer model pull me/encmixer-cifar10 served
    """
    from timm_encmixer.hub.client import repository_in
    from timm_encmixer.hub.snapshot import Snapshot

    snapshot = Snapshot.open(repository_in(repo_id) or repo_id, revision=revision, token=token)
    from timm_encmixer.checkpoints.inspection import describe
    from timm_encmixer.checkpoints.pull import pull_to_folder

    pull_to_folder(snapshot, dst, force=force)
    info = describe(str(dst))
    record = f"encrypted with key {info['encmixer']['fingerprint']}" if info["encrypted"] else "plain"
    report(info, as_json, lambda: f"{dst}: {info['architecture']}, {record}")


def report_commit(commit: Any, as_json: bool) -> None:
    """Print what the Hub answered to a commit."""
    value = {
        "repository": commit.repo_url.repo_id,
        "commit": commit.oid,
        "url": commit.commit_url,
        "pull_request": commit.pr_url,
    }
    report(value, as_json, lambda: commit.pr_url or commit.commit_url)


def _ask(question: str) -> str | None:
    answer: str = click.prompt(question, default="", show_default=False, err=True)
    return answer.strip() or None
