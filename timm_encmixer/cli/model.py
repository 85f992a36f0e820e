"""encmixer model: encrypt, decrypt, rotate, verify and look at models."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from timm_encmixer.cli.early import (
    architecture,
    existing_images,
    free_target_in_folder,
    key_file,
    look_up,
    refuse_encrypted,
    refuse_other_key,
    refuse_plain,
    refuse_same_key,
    refuse_unsupported,
)
from timm_encmixer.cli.model_hub import report_commit
from timm_encmixer.cli.options import (
    CANNOT_TELL,
    CHECK_FAILED,
    arch_option,
    cipher_option,
    create_pr_option,
    device_option,
    dst_argument,
    encrypted_src_argument,
    force_option,
    json_option,
    key_option,
    limit_option,
    logger,
    numbers,
    plain_text,
    report,
    src_argument,
    token_option,
)
from timm_encmixer.cli.words import PATH, PATH_TEXT, SOURCE, TIMM_NAME, Choice, Commands
from timm_encmixer.keys import SecretKey

_GIVE_ENCRYPTED = "give what encmixer model encrypt wrote"
_PLAIN_FIRST = "give the plain model first, the encrypted one second"
_DST_OR_PUSH = "give either DST, or hf-hub:ID with --push (and --create-pr or --super-squash)"
OLD_REVISION_STAYS = "the revision under the old key stays in the repository's history; --super-squash removes it for good"


@click.group(cls=Commands)
def model() -> None:
    """Encrypt, decrypt, rotate, verify and look at models."""


@model.command("encrypt")
@src_argument
@dst_argument
@key_option
@cipher_option
@click.option(
    "--arch",
    metavar="NAME",
    type=TIMM_NAME,
    callback=architecture,
    help="timm name whose normalisation and stem a .safetensors file has.",
)
@click.option("--mean", callback=numbers, metavar="M,M,M", help="Plain normalisation, one per channel.")
@click.option("--std", callback=numbers, metavar="S,S,S", help="Plain normalisation, one per channel.")
@click.option("--first-conv", metavar="NAME", help="Name of the stem convolution, for example stem.0.")
@click.option(
    "--stem-stride",
    type=int,
    metavar="PX",
    help="Of a file without --arch: the stem's stride. Nobody checks that the stem alone reads the image, without padding.",
)
@force_option
@json_option
def model_encrypt(src: str, dst: Path, key: SecretKey, as_json: bool, **options: Any) -> None:
    """Encrypt the plain model SRC to DST.

    SRC is a timm model name, hf-hub:ID, a folder with config.json, or a .safetensors file (with --arch, or for a
    model that timm has not with --mean, --std and --stem-stride).

    \b
    Example: encmixer model encrypt encmixer_256_8_ks5_p4.cifar10 encrypted --key owner.key
    """
    refuse_unsupported(src, options["cipher"])
    source = look_up(src)
    refuse_encrypted(source, remedy="decrypt or rotate it instead")
    from timm_encmixer.checkpoints.encryption import encrypt_checkpoint

    scheme = encrypt_checkpoint(source, dst, key, **options)
    logger.warning(source.provenance.warning)
    if scheme.takes_jpeg:
        from timm_encmixer.ciphers.parts.etc import few_keys

        logger.warning(few_keys(scheme))
    report(
        {"target": str(dst), "encmixer": scheme.to_dict()},
        as_json,
        lambda: (
            f"{dst}: encrypted with key {scheme.fingerprint} ({scheme.cipher}); stem {scheme.stem}, "
            + _constant(scheme)
            + (f", {' x '.join(map(str, scheme.grid))} blocks scrambled with {scheme.positions}" if scheme.grid else "")
        ),
    )


def _constant(scheme: Any) -> str:
    """Say where the constant of the normalisation went."""
    if scheme.facts.keeps_normalisation or all(mean == 0.5 for mean in scheme.plain.mean):
        return "no constant of the normalisation to fold"
    return f"the constant of the normalisation in {scheme.constant or scheme.stem + '.bias'}"


@model.command("decrypt")
@encrypted_src_argument
@dst_argument
@key_option
@force_option
@json_option
def model_decrypt(src: str, dst: Path, key: SecretKey, force: bool, as_json: bool) -> None:
    """Decrypt the encrypted model SRC to DST.

    SRC is a folder, hf-hub:ID or a .safetensors file.

    \b
    Example: encmixer model decrypt encrypted plain --key owner.key
    """
    source = look_up(src)
    refuse_plain(source, remedy=_GIVE_ENCRYPTED)
    refuse_other_key(source, key)
    from timm_encmixer.checkpoints.encryption import decrypt_checkpoint

    scheme = decrypt_checkpoint(source, dst, key, force=force)
    report({"target": str(dst), "was": scheme.to_dict()}, as_json, lambda: f"the plain model is in {dst}")


@model.command("rotate")
@encrypted_src_argument
@click.argument("dst", type=PATH, callback=free_target_in_folder, required=False)
@key_option
@click.option(
    "--new-key", required=True, metavar="FILE", type=PATH_TEXT, callback=key_file, help="File of the key to change to."
)
@click.option("--push", is_flag=True, help="SRC is hf-hub:ID: commit the result there instead of writing DST.")
@create_pr_option
@click.option("--super-squash", is_flag=True, help="With --push: make the history one commit, without the old key's revision.")
@token_option
@force_option
@json_option
def model_rotate(
    src: str,
    dst: Path | None,
    key: SecretKey,
    new_key: SecretKey,
    push: bool,
    create_pr: bool,
    super_squash: bool,
    token: str | None,
    force: bool,
    as_json: bool,
) -> None:
    """Change the key of the encrypted model SRC.

    Nobody needs the plain weights for that. The result is written to DST, or pushed back to the Hub.

    \b
    Example: encmixer model rotate encrypted rotated --key owner.key --new-key next.key
    Example: encmixer model rotate hf-hub:me/encmixer-cifar10 --key owner.key --new-key next.key --push
    """
    from timm_encmixer.hub.client import repository_in

    repository = repository_in(src)
    if push != (dst is None) or ((create_pr or super_squash) and not push) or (push and repository is None):
        raise click.UsageError(_DST_OR_PUSH)
    refuse_same_key(key, new_key)
    source = look_up(src, token=token)
    refuse_plain(source, remedy=_GIVE_ENCRYPTED)
    refuse_other_key(source, key)
    if dst is None:
        _rotate_on_hub(
            str(repository),
            (key, new_key),
            create_pr=create_pr,
            super_squash=super_squash,
            token=token,
            force=force,
            as_json=as_json,
        )
        return
    from timm_encmixer.checkpoints.encryption import rotate_checkpoint

    scheme = rotate_checkpoint(source, dst, key, new_key, force=force)
    report(
        {"target": str(dst), "encmixer": scheme.to_dict()}, as_json, lambda: f"{dst}: encrypted with key {scheme.fingerprint}"
    )


def _rotate_on_hub(repository: str, keys: tuple[Any, Any], *, super_squash: bool, as_json: bool, **options: Any) -> None:
    """Rotate a repository's model and report the commit."""
    from timm_encmixer.publishing.rotation import rotate_on_hub

    commit = rotate_on_hub(repository, *keys, super_squash=super_squash, **options)
    if not super_squash:
        logger.warning(OLD_REVISION_STAYS)
    report_commit(commit, as_json)


@model.command("verify")
@click.argument("plain", type=SOURCE)
@click.argument("encrypted", type=PATH_TEXT)
@key_option
@click.option("--images", required=True, type=PATH, callback=existing_images, metavar="DIR", help="Folder of plain images.")
@limit_option
@click.option("--precision", type=Choice(["fp32", "bf16", "fp16"]), default="fp32", show_default=True)
@device_option
@arch_option
@json_option
def model_verify(
    plain: str,
    encrypted: str,
    key: SecretKey,
    images: Path,
    limit: int | None,
    precision: str,
    device: str,
    arch: str | None,
    as_json: bool,
) -> None:
    """Compare the logits of an encrypted model with the plain one's.

    ENCRYPTED reads encrypted images and PLAIN reads plain ones. The exit code is 1 if the logits differ. It is 3 if they agree
    and that tells nothing: PLAIN answers all images alike, or ENCRYPTED's stem is not the one that was encrypted.

    \b
    Example: encmixer model verify plain encrypted --key owner.key --images photos
    """
    sources = look_up(plain), look_up(encrypted)
    refuse_encrypted(sources[0], remedy=_PLAIN_FIRST)
    refuse_plain(sources[1], remedy=_PLAIN_FIRST)
    refuse_other_key(sources[1], key)
    from timm_encmixer.checkpoints.loading import load_model
    from timm_encmixer.evaluation.exactness import DIFFERS, EXACT, verification_table, verify
    from timm_encmixer.images.encryption import open_folder

    models = [load_model(source, arch=arch, device=device) for source in sources]
    result = verify(models[0], models[1], key, open_folder(images, limit=limit), precision=precision)
    report(result.to_dict(), as_json, lambda: verification_table(result))
    sys.exit({EXACT: 0, DIFFERS: CHECK_FAILED}.get(result.verdict, CANNOT_TELL))


@model.command("info")
@src_argument
@json_option
def model_info(src: str, as_json: bool) -> None:
    """Say what SRC is, and how it is encrypted.

    Prints the architecture, and the record of the encryption if there is one. From hf-hub:ID only the config and the header
    of the weights are fetched.

    \b
    Example: encmixer model info encrypted
    """
    source = look_up(src)
    from timm_encmixer.checkpoints.inspection import describe

    info = describe(source)
    report(info, as_json, lambda: "\n".join(f"{name}: {plain_text(value)}" for name, value in info.items()))
