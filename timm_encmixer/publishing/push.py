"""Pushing an encrypted model to the Hugging Face Hub: checked before it is sent, compared afterwards; docs/hub.md."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from timm_encmixer.checkpoints.checkpoint import Checkpoint, save_to_open, write_config
from timm_encmixer.checkpoints.config_file import CONFIG_NAME, SEALED_NAME, WEIGHTS_NAME
from timm_encmixer.checkpoints.encryption import encrypt_checkpoint
from timm_encmixer.checkpoints.inspection import read_remote_record
from timm_encmixer.checkpoints.loading import load_model
from timm_encmixer.checkpoints.seal import seal_checkpoint
from timm_encmixer.checkpoints.sources import SourceLike, find_source
from timm_encmixer.errors import LeakError, MissingKeyError, PublicWeightsWarning, SourceError, warn_caller
from timm_encmixer.files import PathLike, scratch_folder
from timm_encmixer.hub.card_section import CARD_NAME
from timm_encmixer.hub.commit import commit_files, open_repository
from timm_encmixer.hub.leak_guard import LeakGuard
from timm_encmixer.hub.snapshot import Snapshot, Token
from timm_encmixer.keys import KeyLike, find_key, find_optional_key
from timm_encmixer.models.encryption import encrypt_model
from timm_encmixer.models.families import is_timms_own
from timm_encmixer.models.provenance import PUBLIC_WEIGHTS
from timm_encmixer.models.stem_sketch import with_sketch
from timm_encmixer.publishing.model_card import CardFacts, read_evaluation, write_card
from timm_encmixer.publishing.options import Ask, PushOptions
from timm_encmixer.publishing.outgoing import Outgoing, check_outgoing
from timm_encmixer.publishing.statements import existing_card, state_license, state_provenance
from timm_encmixer.scheme import DEFAULT_CIPHER

if TYPE_CHECKING:
    from huggingface_hub import CommitInfo, EvalResult

_PLAIN_WEIGHTS = (".bin", ".pt", ".pth", ".ckpt", ".safetensors", ".npz", ".onnx", ".tar", ".pkl")


def push_to_hub(
    model_or_folder: nn.Module | PathLike,
    repo_id: str,
    *,
    private: bool | None = True,
    revision: str | None = None,
    create_pr: bool = False,
    commit_message: str | None = None,
    license: str | None = None,
    base_model: str | None = None,
    eval_results: str | Path | Mapping[str, Any] | Sequence[EvalResult] | None = None,
    token: Token = None,
    key: KeyLike | None = None,
    plain: PathLike | None = None,
    seal_to: Sequence[str] = (),
    parent_commit: str | None = None,
    force: bool = False,
    ask: Ask | None = None,
) -> CommitInfo:
    """Push an encrypted model to the Hub as one commit of model.safetensors, config.json and README.md.

    Nothing else of a folder is sent. Nothing is sent at all if a file holds the key, if the weights are not encrypted, or if
    the repository holds plain weights. Afterwards sizes and digests are read back and compared. If the Hub's reply is lost,
    the repository is looked at before anything is sent again.

    What it does not do: make the weights confidential (docs/security.md); `seal_to` does, until they are opened.

    Args:
        model_or_folder: An encrypted model, or a folder as `encrypt_checkpoint` and `save_model` write it.
        repo_id: "owner/name"; made if it does not exist.
        private: True refuses a repository that is public already; False makes a new one public; None takes it as it is.
        revision: Branch; made if it does not exist. None is main.
        create_pr: Open a pull request instead of committing to the branch.
        commit_message: Title of the commit; None names the architecture and the key's fingerprint.
        license: Hub licence identifier; None takes the one in the source repository, the existing card or the config.
        base_model: Hub id of the plain model; None takes the one noted when it was encrypted, "none" says there is none.
        eval_results: What `encmixer eval --json` printed, as an object or a file, or huggingface_hub's EvalResult objects.
        token: As huggingface_hub's; None is the one that you logged in with.
        key: The key or its file, to be searched for in what is sent; None takes the file that TIMM_ENCMIXER_KEY names.
        plain: Folder or file of the plain weights, to be compared with what is sent.
        seal_to: age or ssh recipients: the weights are sealed to them, and only the sealed file is sent (extra `seal`).
        parent_commit: Commit that the branch must be at; None takes the one it is at now.
        force: Push beside plain weights that are there already.
        ask: Called with a question when licence or base model are not known; returns the answer, or None.

    Returns:
        huggingface_hub's CommitInfo: oid, commit_url, pr_url.

    Raises:
        NotEncryptedError: The model is plain, or its weights are, whatever its record says.
        LeakError: A key, or plain weights.
        SourceError, HubError: The Hub refused or could not be reached.
        IntegrityError: The Hub lists other bytes than were sent.

    Warns:
        PublicWeightsWarning: The plain weights are public.

    Examples:
        >>> commit = te.push_to_hub(te.load_model("encrypted"), "me/encrypted", key="owner.key")
        >>> te.find_scheme("hf-hub:me/encrypted").cipher
        'shuffle+negpos'
    """
    options = PushOptions(
        private=private,
        revision=revision,
        create_pr=create_pr,
        commit_message=commit_message,
        license=license,
        base_model=base_model,
        eval_results=eval_results,
        token=token,
        seal_to=seal_to,
        parent_commit=parent_commit,
        force=force,
        ask=ask,
    )
    if isinstance(model_or_folder, nn.Module):
        return _push_model(model_or_folder, repo_id, key, None if plain is None else Checkpoint.open(plain), options)
    if not isinstance(model_or_folder, (str, os.PathLike)):
        got = type(model_or_folder).__name__
        raise SourceError("model_or_folder", "an encrypted model, or a folder's path", got, "give one of these")
    compared = None if plain is None else Checkpoint.open(plain)
    return push_checkpoint(Checkpoint.open(model_or_folder), repo_id, options, key=key, plain=compared)


def push_source(
    src: SourceLike,
    repo_id: str,
    options: PushOptions,
    *,
    key: KeyLike | None = None,
    cipher: str = DEFAULT_CIPHER,
    arch: str | None = None,
) -> CommitInfo:
    """Push a model source; a plain one is encrypted first, and its plain weights never leave this machine.

    Args:
        src: timm model name, hf-hub:ID, a folder, or a .safetensors file.
        repo_id: "owner/name".
        options: Of the push.
        key: Needed for a plain source; for an encrypted one it is checked and searched for in what is sent.
        cipher: For a plain source.
        arch: timm name of a .safetensors file's architecture; of a folder no other than its config's.

    Raises:
        MissingKeyError: The source is plain and there is no key.
        SourceError: `arch` is another architecture than the config's. And as `push_to_hub`.
    """
    source = find_source(src, token=options.token)
    checkpoint = source.checkpoint
    checkpoint.check_architecture(arch)
    plain = checkpoint if checkpoint.scheme is None else None
    if plain is not None:
        key = _needed_key(key, source.name)
    if checkpoint.config is None:
        model = load_model(source, arch=arch)
        model = model if plain is None else encrypt_model(model, find_key(key), cipher=cipher)
        return _push_model(model, repo_id, key, plain, options)
    if plain is None:
        return push_checkpoint(checkpoint, repo_id, options, key=key)
    with scratch_folder() as scratch:
        folder = scratch / "encrypted"
        encrypt_checkpoint(source, folder, find_key(key), cipher=cipher)
        return push_checkpoint(Checkpoint.open(folder), repo_id, options, key=key, plain=plain)


def push_checkpoint(
    checkpoint: Checkpoint, repo_id: str, options: PushOptions, *, key: KeyLike | None = None, plain: Checkpoint | None = None
) -> CommitInfo:
    """Push a folder with config.json and model.safetensors that is open; `push_to_hub` describes the arguments and errors."""
    evaluation, results = read_evaluation(options.eval_results)
    secret = find_optional_key(key)
    outgoing = check_outgoing(checkpoint, secret, plain)
    provenance = state_provenance(outgoing.config["pretrained_cfg"], repo_id, options)
    if provenance.public:
        warn_caller(PUBLIC_WEIGHTS, PublicWeightsWarning)
    message = options.commit_message or f"Encrypted {outgoing.architecture}, key {outgoing.scheme.fingerprint}"
    guard = LeakGuard(secret, outgoing.scheme.fingerprint)
    guard.check_text("commit message", message.encode())
    for name in (CONFIG_NAME, WEIGHTS_NAME):
        guard.check_file(outgoing.folder / name)
    with scratch_folder() as scratch:
        weights = _weights_to_send(outgoing, scratch, options.seal_to)
        target = open_repository(
            repo_id,
            private=options.private,
            revision=options.revision,
            create_pr=options.create_pr,
            token=options.token,
        )
        if not options.force:
            _refuse_plain_neighbours(target)
        existing = existing_card(target, outgoing.folder)
        stated = options.license or state_license(outgoing.config, provenance, existing, options.token, options.ask)
        facts = CardFacts(
            repo_id=repo_id,
            scheme=outgoing.scheme,
            architecture=outgoing.architecture,
            stock=is_timms_own(outgoing.architecture),
            provenance=provenance,
            license=stated,
            sealed=bool(options.seal_to),
            evaluation=evaluation,
            results=results,
        )
        card = scratch / CARD_NAME
        card.write_text(write_card(facts, existing), encoding="utf-8")
        guard.check_file(card)
        files = {CARD_NAME: card, CONFIG_NAME: _config_to_send(outgoing, scratch, options.seal_to), **weights}
        return commit_files(
            target,
            files,
            delete=sorted({WEIGHTS_NAME, SEALED_NAME} & set(target.files) - set(files)),
            message=message,
            create_pr=options.create_pr,
            parent_commit=options.parent_commit or target.commit,
        )


def _push_model(
    model: nn.Module, repo_id: str, key: KeyLike | None, plain: Checkpoint | None, options: PushOptions
) -> CommitInfo:
    with scratch_folder() as scratch:
        checkpoint = save_to_open(model, scratch / "model")
        return push_checkpoint(checkpoint, repo_id, options, key=key, plain=plain)


def _weights_to_send(outgoing: Outgoing, scratch: Path, seal_to: Sequence[str]) -> dict[str, Path]:
    """Return the weights' file by its name in the repository: sealed, if there are recipients."""
    if not seal_to:
        return {WEIGHTS_NAME: outgoing.folder / WEIGHTS_NAME}
    seal_checkpoint(outgoing.checkpoint, scratch / SEALED_NAME, recipients=seal_to)
    return {SEALED_NAME: scratch / SEALED_NAME}


def _config_to_send(outgoing: Outgoing, scratch: Path, seal_to: Sequence[str]) -> Path:
    """Return config.json: beside sealed weights without their sketch, which would say something of them in the open."""
    if not seal_to:
        return outgoing.folder / CONFIG_NAME
    write_config(scratch, {**outgoing.config, "pretrained_cfg": with_sketch(outgoing.config["pretrained_cfg"], None)})
    return scratch / CONFIG_NAME


def _needed_key(key: KeyLike | None, where: str) -> KeyLike:
    try:
        return find_key(key, where=where)
    except MissingKeyError as error:
        raise MissingKeyError(where, "a key to encrypt the plain weights with", "none", error.remedy) from error


def _refuse_plain_neighbours(target: Snapshot) -> None:
    """Raise when the repository holds weights that are not encrypted: together with the encrypted ones they give the key."""
    for name in sorted(target.files):
        plain = name.endswith(_PLAIN_WEIGHTS) and (name != WEIGHTS_NAME or read_remote_record(target) is None)
        if plain:
            raise LeakError(
                f"{target.where}: {name}",
                "a repository without plain weights",
                "weights without a record of their encryption",
                "choose another repository; --force (force=True) pushes beside them, and then the key can be computed",
            )
