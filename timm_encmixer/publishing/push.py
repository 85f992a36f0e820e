"""Publishing an encrypted model on the Hugging Face Hub: checked before it is sent, compared after; docs/hub.md."""

from __future__ import annotations

import contextlib
import os
import tempfile
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import timm
import torch
from huggingface_hub import ModelCard
from torch import nn

from timm_encmixer.checkpoints.checkpoint import Checkpoint, check_weights, save_model
from timm_encmixer.checkpoints.config_file import CONFIG_NAME, RECORD_NAME, SEALED_NAME, WEIGHTS_NAME
from timm_encmixer.checkpoints.encryption import encrypt_checkpoint
from timm_encmixer.checkpoints.inspection import read_remote_record
from timm_encmixer.checkpoints.loading import load_model
from timm_encmixer.checkpoints.seal import seal_model
from timm_encmixer.checkpoints.sources import find_source
from timm_encmixer.ciphers import BlockCipher
from timm_encmixer.errors import LeakError, MissingKeyError, NotEncryptedError, PublicWeightsWarning, SchemeError, SourceError
from timm_encmixer.hub.card_section import CARD_NAME, read_card
from timm_encmixer.hub.commit import commit_files, open_repository
from timm_encmixer.hub.leak_guard import LeakGuard
from timm_encmixer.hub.snapshot import Snapshot, Token, is_public, repo_info
from timm_encmixer.keys import KEY_VARIABLE, KeyLike, SecretKey, find_key
from timm_encmixer.models.encryption import encrypt_model, scheme_of
from timm_encmixer.models.provenance import PUBLIC_WEIGHTS, Provenance
from timm_encmixer.publishing.model_card import CardFacts, read_evaluation, write_card
from timm_encmixer.scheme import DEFAULT_CIPHER, Scheme

if TYPE_CHECKING:
    from huggingface_hub import CommitInfo, EvalResult

_PLAIN_WEIGHTS = (".bin", ".pt", ".pth", ".ckpt", ".safetensors", ".npz", ".onnx", ".tar", ".pkl")
NO_BASE = "none"


@dataclass(frozen=True, kw_only=True)
class _Outgoing:
    """A checked folder on its way out."""

    folder: Path
    config: Mapping[str, Any]
    scheme: Scheme


def push_to_hub(
    model_or_folder: nn.Module | str | os.PathLike[str],
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
    key: SecretKey | str | os.PathLike[str] | None = None,
    plain: str | os.PathLike[str] | None = None,
    seal_to: Sequence[str] = (),
    parent_commit: str | None = None,
    force: bool = False,
    ask: Callable[[str], str | None] | None = None,
) -> CommitInfo:
    """Publish an encrypted model as one commit of model.safetensors, config.json and README.md.

    Nothing else of a folder is sent. Nothing is sent at all when a file holds the key, the weights are not encrypted, or the
    repository holds plain weights. Afterwards sizes and digests are read back and compared. A reply that was lost is
    settled by looking at what is there.

    What it does not do: make the weights confidential (docs/security.md); `seal_to` does, until they are opened.

    Args:
        model_or_folder: An encrypted model, or a folder as `encrypt_checkpoint` and `save_model` write it.
        repo_id: "owner/name"; made if it does not exist.
        private: True refuses a repository that is public already; False makes a new one public; None takes it as it is.
        revision: Branch; made if it does not exist. None is main.
        create_pr: Open a pull request instead of committing to the branch.
        commit_message: None says what it is.
        license: Hub licence identifier; None takes the one in the source repository, the existing card or the config.
        base_model: Hub id of the plain model; None takes the one noted when it was encrypted, "none" says there is none.
        eval_results: What `encmixer eval --json` printed, as an object or a file, or huggingface_hub's EvalResult objects.
        token: As huggingface_hub's; None is the one that you logged in with.
        key: The key or its file, to be searched for in what is sent; None takes the file that TIMM_ENCMIXER_KEY names.
        plain: Folder or file of the plain weights, to be compared with what is sent.
        seal_to: age or ssh recipients: the weights are sealed to them, and only the sealed file is sent (extra `seal`).
        parent_commit: Commit that the branch must be at; None takes the one it is at now.
        force: Publish beside plain weights that are there already.
        ask: Called with a question when licence or base model are not known; returns the answer, or None.

    Returns:
        huggingface_hub's CommitInfo: oid, commit_url, pr_url.

    Raises:
        NotEncryptedError: The model is plain.
        LeakError: A key, or plain weights.
        SourceError, HubError: The Hub refused or could not be reached.
        IntegrityError: The Hub lists other bytes than were sent.

    Warns:
        PublicWeightsWarning: The plain weights are public.
    """
    evaluation, results = read_evaluation(eval_results)
    secret = _key_to_look_for(key)
    with tempfile.TemporaryDirectory(prefix="encmixer-push-") as scratch:
        outgoing = _check_model(model_or_folder, Path(scratch), secret, plain)
        provenance = _provenance(outgoing.config["pretrained_cfg"], base_model, repo_id, ask)
        if provenance.public:
            warnings.warn(PUBLIC_WEIGHTS, PublicWeightsWarning, stacklevel=2)
        message = commit_message or f"Encrypted {outgoing.config['architecture']}, key {outgoing.scheme.fingerprint}"
        guard = LeakGuard(secret, outgoing.scheme.fingerprint)
        guard.check_text("commit message", message.encode())
        for name in (CONFIG_NAME, WEIGHTS_NAME):
            guard.check_file(outgoing.folder / name)
        weights = {WEIGHTS_NAME: outgoing.folder / WEIGHTS_NAME}
        if seal_to:
            weights = {SEALED_NAME: Path(scratch) / SEALED_NAME}
            seal_model(outgoing.folder, weights[SEALED_NAME], recipients=seal_to)
        target = open_repository(repo_id, private=private, revision=revision, create_pr=create_pr, token=token)
        _refuse_plain_neighbours(target, force=force)
        existing = _existing_card(target, outgoing.folder)
        facts = CardFacts(
            repo_id=repo_id,
            scheme=outgoing.scheme,
            architecture=outgoing.config["architecture"],
            stock=_is_stock(outgoing.config["architecture"]),
            provenance=provenance,
            license=license or _known_license(outgoing.config, provenance, existing, token, ask),
            sealed=bool(seal_to),
            evaluation=evaluation,
            results=results,
        )
        card = Path(scratch) / CARD_NAME
        card.write_text(write_card(facts, existing), encoding="utf-8")
        guard.check_file(card)
        files = {CARD_NAME: card, CONFIG_NAME: outgoing.folder / CONFIG_NAME, **weights}
        stale = {WEIGHTS_NAME, SEALED_NAME} & set(target.files) - set(files)
        return commit_files(
            target,
            files,
            delete=sorted(stale),
            message=message,
            create_pr=create_pr,
            parent_commit=parent_commit or target.commit,
        )


def _key_to_look_for(key: SecretKey | str | os.PathLike[str] | None) -> SecretKey | None:
    return find_key(key) if key is not None or os.environ.get(KEY_VARIABLE) else None


def _check_model(
    model_or_folder: nn.Module | str | os.PathLike[str],
    scratch: Path,
    key: SecretKey | None,
    plain: str | os.PathLike[str] | None,
) -> _Outgoing:
    """Bring the model into a folder and make sure that it is encrypted, whole, and told apart from its plain source."""
    if isinstance(model_or_folder, nn.Module):
        if scheme_of(model_or_folder) is None:
            raise NotEncryptedError("model", "an encrypted model", "a plain one", "encrypt it first: encrypt_model(model, key)")
        folder = scratch / "model"
        save_model(model_or_folder, folder)
    else:
        folder = Path(model_or_folder)
    checkpoint = Checkpoint.open(folder)
    if checkpoint.config is None:
        raise SourceError(str(folder), "a folder with config.json and model.safetensors", "a file", "give the folder")
    scheme = checkpoint.scheme
    if scheme is None:
        raise NotEncryptedError(str(folder), "an encrypted model", "a plain one", "encrypt it first, or pass --key")
    if scheme.fingerprint is None or scheme.stem is None:
        raise SchemeError(f"{folder}: record", "a key fingerprint and a stem", "none", "encrypt the model anew")
    if RECORD_NAME not in checkpoint.weights.metadata or RECORD_NAME not in checkpoint.config:
        remedy = "load it and save it with timm_encmixer.save_model"
        raise SchemeError(str(folder), "the record in config.json and in the weights' metadata", "one without", remedy)
    if key is not None:
        BlockCipher(key, scheme)  # raises KeyMismatchError
    check_weights(checkpoint.weights, checkpoint.config, where=str(folder))
    if plain is not None:
        _refuse_equal_stems(Checkpoint.open(plain), checkpoint, scheme.stem)
    return _Outgoing(folder=folder, config=checkpoint.config, scheme=scheme)


def _refuse_equal_stems(plain: Checkpoint, encrypted: Checkpoint, stem: str) -> None:
    name = f"{stem}.weight"
    before, after = (checkpoint.weights.read(name).double() for checkpoint in (plain, encrypted))
    if before.shape == after.shape and torch.allclose(before, after, rtol=1e-3, atol=1e-6):
        got = "the plain weights of " + str(plain.path)
        raise LeakError(f"{encrypted.path}: {name}", "an encrypted stem", got, "encrypt the model; its record is not true")


def _provenance(
    cfg: Mapping[str, Any], base_model: str | None, repo_id: str, ask: Callable[[str], str | None] | None
) -> Provenance:
    noted = Provenance.of(cfg)
    base = base_model or noted.base_model
    if base is None and not noted.public and ask is not None:
        base_model = base = ask(f"Hub id of the plain base model of {repo_id} ({NO_BASE} if there is none)")
    if base in (None, NO_BASE, repo_id):
        return Provenance(None, noted.public)
    return Provenance(base, noted.public or (base_model is not None and is_public(str(base))))


def _known_license(
    config: Mapping[str, Any],
    provenance: Provenance,
    existing: str | None,
    token: Token,
    ask: Callable[[str], str | None] | None,
) -> str | None:
    """Return the licence that the card, the source repository or the config states; never one that none of them states."""
    stated = getattr(read_card(ModelCard, existing, where=CARD_NAME).data, "license", None) if existing is not None else None
    if stated is None and provenance.base_model is not None:
        with contextlib.suppress(SourceError):  # the source may have gone, or may not be ours to see
            stated = getattr(repo_info(provenance.base_model, None, token).card_data, "license", None)
    stated = stated or config["pretrained_cfg"].get("license")
    if stated is None and ask is not None:
        stated = ask("Licence, as the Hub writes it (mit, apache-2.0, other, ...)")
    if stated is None:
        warnings.warn("the licence is not known, so the card states none: pass license= (--license)", stacklevel=3)
    return str(stated) if stated is not None else None


def _existing_card(target: Snapshot, folder: Path) -> str | None:
    """Return the card in the repository, else the one in the folder."""
    (path,) = target.fetch(CARD_NAME)
    path = path or (folder / CARD_NAME if (folder / CARD_NAME).is_file() else None)
    try:
        return path.read_text(encoding="utf-8") if path is not None else None
    except UnicodeDecodeError as error:
        raise SourceError(f"{target.where}: {CARD_NAME}", "UTF-8 text", "something else", "mend it by hand") from error


def _refuse_plain_neighbours(target: Snapshot, *, force: bool) -> None:
    """Raise when the repository holds weights that are not encrypted: together with the encrypted ones they give the key."""
    if force:
        return
    for name in sorted(target.files):
        plain = name.endswith(_PLAIN_WEIGHTS) and (name != WEIGHTS_NAME or read_remote_record(target) is None)
        if plain:
            raise LeakError(
                f"{target.where}: {name}",
                "a repository without plain weights",
                "weights without a record of their encryption",
                "choose another repository; --force (force=True) publishes beside them, and then the key can be computed",
            )


def _is_stock(architecture: str) -> bool:
    """Whether stock timm has the name; this package registers a few shapes of its own."""
    return bool(timm.is_model(architecture)) and not timm.models.is_model_in_modules(architecture, ["encmixer"])


def publish(
    src: str, repo_id: str, *, key: KeyLike | None = None, cipher: str = DEFAULT_CIPHER, arch: str | None = None, **options: Any
) -> CommitInfo:
    """Publish a model source; a plain one is encrypted first, and its plain weights never leave this machine.

    Args:
        src: timm model name, hf-hub:ID, a folder, or a .safetensors file.
        repo_id: "owner/name".
        key: Needed for a plain source; for an encrypted one it is checked and searched for in what is sent.
        cipher: For a plain source.
        arch: timm name of a .safetensors file's architecture.
        **options: Of `push_to_hub`.

    Raises:
        MissingKeyError: The source is plain and there is no key. And as `push_to_hub`.
    """
    source = find_source(src, token=options.get("token"))
    checkpoint = Checkpoint.open(source.path)
    if checkpoint.scheme is None:
        key = _needed_key(key, src)
    if checkpoint.config is None:
        model = load_model(src, arch=arch)
        if checkpoint.scheme is None:
            model = encrypt_model(model, find_key(key), cipher=cipher)
        return push_to_hub(model, repo_id, key=key, plain=source.path if checkpoint.scheme is None else None, **options)
    if checkpoint.scheme is not None:
        return push_to_hub(source.path, repo_id, key=key, **options)
    with tempfile.TemporaryDirectory(prefix="encmixer-publish-") as scratch:
        folder = Path(scratch) / "encrypted"
        encrypt_checkpoint(source.path, folder, find_key(key), cipher=cipher, provenance=source.provenance)
        return push_to_hub(folder, repo_id, key=key, plain=source.path, **options)


def _needed_key(key: KeyLike | None, src: str) -> KeyLike:
    try:
        return find_key(key, where=src)
    except MissingKeyError as error:
        raise MissingKeyError(src, "a key to encrypt the plain weights with", "none", error.remedy) from error
