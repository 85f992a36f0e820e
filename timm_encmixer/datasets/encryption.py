"""Encrypting and decrypting whole data sets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from timm_encmixer.checkpoints.schemes import find_scheme
from timm_encmixer.datasets.inspection import manifest_in
from timm_encmixer.datasets.manifest import Options
from timm_encmixer.datasets.run import DatasetCounts, convert_dataset, join_processes
from timm_encmixer.datasets.samples import STOP
from timm_encmixer.datasets.sources import open_source
from timm_encmixer.distributed.processes import from_main
from timm_encmixer.errors import AlreadyEncryptedError, NotEncryptedError, SchemeError, SchemeMismatchError
from timm_encmixer.files import PathLike, path_text
from timm_encmixer.hub.snapshot import Token
from timm_encmixer.images.codec import DECRYPT, ENCRYPT
from timm_encmixer.images.file_format import PNG, find_format
from timm_encmixer.keys import KeyLike
from timm_encmixer.scheme import Scheme

_OF_PIXELS = ("cipher", "patch_size", "in_chans", "fingerprint", "grid")  # what ciphertext depends on


def encrypt_dataset(
    src: PathLike,
    dst: PathLike,
    key: KeyLike | None,
    model: Any,
    *,
    resize: bool = True,
    image_columns: Sequence[str] = (),
    include: Sequence[str] = (),
    on_error: str = STOP,
    png_level: int | None = None,
    format: str = "png",
    quality: int | None = None,
    token: Token = None,
    progress: bool = True,
) -> DatasetCounts:
    """Encrypt a data set to one of the same kind, with the same columns, labels, splits and shard names.

    Image cells become ciphertext PNGs, which lose nothing, or JPEGs; all other cells, members and features stay as they are.
    Run it again after an interruption, with the same arguments, and it goes on; the result is the same, byte for byte. Under
    `accelerate launch` every process must call this; the shards are divided among them.

    What it does not do: look into other columns and files, which may show the images too (thumbnails, embeddings, captions);
    or hide images from anyone who studies many ciphertexts (docs/security.md).

    Args:
        src: Hub data set id, folder (parquet, `save_to_disk`, images, WebDataset tars), or a URL that fsspec reads.
        dst: New folder, or one that this call began.
        key: The key, its file, or None for the file that TIMM_ENCMIXER_KEY names; only the main process reads it.
        model: As for `create_transform`: the encrypted model that the images are for. They are resized to its input.
        resize: Bring images to the model's input; False keeps sizes that are multiples of the patch side.
        image_columns: Columns (WebDataset: fields) to encrypt; none takes all that hold images.
        include: Shell patterns of shards to take; none takes all.
        on_error: What to do with a sample whose image cannot be used: "stop"; "skip", which leaves it out and lists it; or
            "quarantine", which also keeps its plain cells in the folder DST.quarantine.
        png_level: PNG compression, 0 to 9; None takes 0: ciphertext hardly compresses.
        format: "png", or for the ciphers `JPEG_CIPHERS` "jpeg": baseline, with 4:4:4 sampling.
        quality: Of JPEG, 1 to 100; None takes 85.
        token: Of the Hub.
        progress: Show a bar on a terminal.

    Raises:
        ImageError: A bad cell, with on_error="stop".
        DataError: A shard that cannot be read, or has no images in columns of their own.
        SourceError, HubError: The source is no data set of one kind, or cannot be reached.
        AlreadyEncryptedError: It is an encrypted data set.
        IntegrityError: The target was finished, and is not what it was.
        TargetExistsError, FileAccessError: The target belongs to another run, or cannot be written.
        KeyMismatchError, SchemeError: The key is not the model's, or the record does not allow this.
        MissingExtraError: A package of the extra `data` is not installed.

    Examples:
        >>> counts = te.encrypt_dataset("photos", "encrypted-photos", "owner.key", "encrypted", progress=False)
        >>> counts.images
        2
    """
    join_processes()
    scheme = from_main(lambda: _scheme_for_plain(path_text(src, where="src"), model, token))
    options: dict[str, Any] = {"resize": resize, "image_columns": image_columns, "include": include, "png_level": png_level}
    written = from_main(lambda: find_format(format, scheme, quality))
    if written.option not in Options.__struct_fields__:
        raise SchemeError("format", "one that a manifest can name", written.name, "write PNG")
    if written.option != PNG.option:
        if png_level is not None:
            raise SchemeError("png_level", f"none for {written.name}", f"{png_level}", "leave it out, or write PNG")
        options[written.option] = written.for_ciphertext if quality is None else quality
    return convert_dataset(ENCRYPT, src, dst, key, scheme, options=options, on_error=on_error, token=token, progress=progress)


def decrypt_dataset(
    src: PathLike,
    dst: PathLike,
    key: KeyLike | None,
    model: Any = None,
    *,
    image_columns: Sequence[str] = (),
    include: Sequence[str] = (),
    on_error: str = STOP,
    png_level: int | None = None,
    token: Token = None,
    progress: bool = True,
    strict: bool = False,
) -> DatasetCounts:
    """Undo `encrypt_dataset`: the images come back as the plain model's input, pixel for pixel; from JPEG with its loss.

    Args:
        src: An encrypted data set, wherever it is.
        dst: New folder, or one that this call began.
        key: The key.
        model: Whose record to use; None takes the one in the data set's manifest.
        image_columns: As for `encrypt_dataset`.
        include: Likewise.
        on_error: Likewise.
        png_level: None takes 1.
        token: Of the Hub.
        progress: Show a bar on a terminal.
        strict: Refuse ciphertext images that carry no record of their own, because an earlier release or other software
            wrote them. Otherwise there is one warning.

    Raises:
        SchemeError: No model was given and the data set names no record.
        SchemeMismatchError: The data set's record is another than the model's.
        NotEncryptedError: It is a decrypted one.
        IntegrityError: Shards or images that its manifest lists are missing, or there are others.

    Examples:
        >>> counts = te.encrypt_dataset("photos", "there", "owner.key", "encrypted", progress=False)
        >>> te.decrypt_dataset("there", "and-back", "owner.key", progress=False).images
        2
    """
    join_processes()
    scheme = from_main(lambda: _scheme_of_ciphertext(path_text(src, where="src"), model, token))
    options = {"resize": False, "image_columns": image_columns, "include": include, "png_level": png_level}
    how: dict[str, Any] = {"on_error": on_error, "token": token, "progress": progress, "strict": strict}
    return convert_dataset(DECRYPT, src, dst, key, scheme, options=options, **how)


def _scheme_for_plain(src: str, model: Any, token: Token) -> Scheme:
    """Return a model's record, to encrypt a data set that is not encrypted yet."""
    scheme = find_scheme(model)
    manifest = manifest_in(open_source(src, token=token))
    if manifest is not None and manifest.record is not None:
        got = f"one that is encrypted with the key {Scheme.from_dict(manifest.record, where=f'{src}: record').fingerprint}"
        raise AlreadyEncryptedError(src, "a plain data set", got, "decrypt it first, or take its source")
    return scheme


def _scheme_of_ciphertext(src: str, model: Any, token: Token) -> Scheme:
    """Return the record that a data set is encrypted with: its manifest's, with which a model has to agree."""
    scheme = find_scheme(model) if model is not None else None
    manifest = manifest_in(open_source(src, token=token))
    if manifest is None:
        if scheme is None:
            remedy = "name the model with model= (--model)"
            raise SchemeError(src, "an encrypted data set that names its record", "none", remedy)
        return scheme
    if manifest.record is None:
        raise NotEncryptedError(src, "an encrypted data set", "a decrypted one", "give the encrypted one")
    record = Scheme.from_dict(manifest.record, where=f"{src}: record")
    differing = [name for name in _OF_PIXELS if scheme is not None and getattr(scheme, name) != getattr(record, name)]
    if differing:
        name = differing[0]
        expected = f"the data set's {name} {getattr(record, name)}"
        got = f"{getattr(scheme, name)}"
        remedy = "leave the model out, or name the data set's own"
        raise SchemeMismatchError(f"{src}: record of model= (--model)", expected, got, remedy)
    return record
