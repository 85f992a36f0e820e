"""Encrypting and decrypting image files and folders: any Pillow format in, PNG out, the same tree, resumable."""

from __future__ import annotations

import functools
import io
import os
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image
from tqdm import tqdm

from timm_encmixer.checkpoints.schemes import find_scheme
from timm_encmixer.checkpoints.sources import SourceLike
from timm_encmixer.ciphers.image_cipher import ImageCipher
from timm_encmixer.errors import EncMixerError, FileAccessError, ImageError, SourceError, TargetExistsError, warn_caller
from timm_encmixer.files import PathLike, as_path, file_error, refuse_elsewhere, refuse_existing, replacing_file
from timm_encmixer.images.codec import DECRYPT, ENCRYPT, Codec, OwnRecords, make_codec
from timm_encmixer.images.file_format import find_format, format_of_suffix
from timm_encmixer.images.folders import SUFFIX, walk
from timm_encmixer.images.formats.base import FileFormat
from timm_encmixer.images.image_record import UNMARKED, record_text
from timm_encmixer.images.reading import image_suffixes, open_ciphertext, open_plain, without_bomb_warnings
from timm_encmixer.keys import KeyLike, find_key
from timm_encmixer.scheme import Scheme
from timm_encmixer.temporaries import remove_leftovers

if TYPE_CHECKING:
    from torch import nn

_NAMED = 4  # files that failed, in one line
_ANOTHER = "another image, or one that was made with another key, model or option"


@dataclass(frozen=True)
class ImageCounts:
    """What a run did with the files of its source.

    Args:
        written: Images that were written.
        kept: Images that were at the target already, as this run would write them.
        left_out: Names of what was not taken, by reason: "hidden", "linked", "special" or "suffix".
        unmarked: Ciphertexts that carry no record, so that nobody can say whether they are whole and of this key.
    """

    written: int
    kept: int
    left_out: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    unmarked: int = 0

    @property
    def passed_over(self) -> int:
        """How many entries were not taken."""
        return sum(map(len, self.left_out.values()))


def encrypt_images(
    src: PathLike,
    dst: PathLike,
    key: KeyLike | None,
    model: nn.Module | Scheme | SourceLike,
    *,
    resize: bool = True,
    force: bool = False,
    format: str = "png",
    quality: int | None = None,
) -> ImageCounts:
    """Encrypt an image file, or every image of a folder, to PNG or JPEG, on all cores. Metadata (EXIF, comments) is dropped.

    Each file carries a record of its own: cipher, key fingerprint, size, and in PNG a digest of its pixels (docs/format.md).

    Args:
        src: Image file or folder.
        dst: PNG file or folder; each image keeps its place and name in the tree, with the suffix .png, or .jpg for JPEG.
        key: The key, its file, or None for the file that TIMM_ENCMIXER_KEY names.
        model: As for `create_transform`.
        resize: Bring images to the model's input size; False keeps sizes that are multiples of the patch side.
        force: Replace what is there already. Otherwise it is kept if it is what this run would write, so that an interrupted
            run can be taken up again, and is an error if it is anything else.
        format: "png", or for the ciphers `JPEG_CIPHERS` "jpeg": baseline, with 4:4:4 sampling.
        quality: Of JPEG, 1 to 100; None takes 85.

    Raises:
        ImageError: Some images could not be encrypted, or are ciphertexts; all others have been encrypted.
        TargetExistsError: Something else is at a target, or two images have one target; all others have been encrypted.
        SourceError, FileAccessError: There are no images, or a file or folder cannot be read or written.
        KeyMismatchError, SchemeError: The key is not the model's, or the record does not allow PNG, or JPEG.

    Examples:
        >>> te.encrypt_images("photos", "ciphertexts", "owner.key", "encrypted").written
        2
    """
    cipher = ImageCipher(find_key(key), find_scheme(model))
    written = find_format(format, cipher.scheme, quality)
    codec = make_codec(ENCRYPT, cipher, resize=resize, format=written, setting=quality)
    return ImageCounts(**convert_all(src, dst, codec, force=force, label="encrypting"))


def decrypt_images(
    src: PathLike,
    dst: PathLike,
    key: KeyLike | None,
    model: nn.Module | Scheme | SourceLike | None = None,
    *,
    force: bool = False,
    strict: bool = False,
) -> ImageCounts:
    """Decrypt a ciphertext, or every ciphertext of a folder, to PNG; other arguments and errors as for `encrypt_images`.

    A ciphertext that carries a record must be of this key and cipher, and whole. One that carries none, because other
    software wrote it, is decrypted as it is where a model is named, and refused where none is.

    Args:
        src: Ciphertext PNG, or JPEG of a cipher that allows it, or folder.
        dst: As for `encrypt_images`.
        key: Likewise.
        model: As for `encrypt_images`. None takes each file's own record: then files may be of several models.
        force: Likewise.
        strict: Refuse ciphertexts that carry no record.

    Warns:
        UserWarning: Ciphertexts carry no record; one warning for all.

    Examples:
        >>> counts = te.encrypt_images("photos", "sent", "owner.key", "encrypted")
        >>> te.decrypt_images("sent", "received", "owner.key").written
        2
    """
    unmarked: list[str] = []
    secret = find_key(key)
    codec: Codec = OwnRecords(secret)
    if model is not None:
        codec = make_codec(DECRYPT, ImageCipher(secret, find_scheme(model)), strict=strict, unmarked=unmarked.append)
    try:
        counts = convert_all(src, dst, codec, force=force, label="decrypting")
    finally:  # also where some others have failed
        if unmarked:
            warn_caller(f"{min(unmarked)}: {UNMARKED}; there are {len(unmarked)}")
    return ImageCounts(**counts, unmarked=len(unmarked))


def open_folder(folder: PathLike, *, limit: int | None = None) -> list[tuple[str, Image.Image]]:
    """Read the images of a folder (or one image file), by name, in the order of their paths.

    Raises:
        SourceError: No images there.
        ImageError: One of them cannot be read.
    """
    path = as_path(folder, where="folder")
    files = _images(path)[0] if path.is_dir() else [path]
    return [(str(file.relative_to(path)) if path.is_dir() else file.name, open_plain(file)) for file in files[:limit]]


def convert_all(src: PathLike, dst: PathLike, codec: Codec, *, force: bool, label: str) -> dict[str, Any]:
    """Convert all images of a source, on all cores; returns the fields of `ImageCounts`."""
    source, target = as_path(src, where="src"), as_path(dst, where="dst")
    todo = _work_list(source, target, codec)
    failures: list[EncMixerError] = list(todo.collisions)
    work = functools.partial(_convert_one, codec=codec, root=todo.root, force=force)
    written = 0
    for folder in {target.parent for _, target in todo.pairs}:
        remove_leftovers(folder)
    bar = tqdm(total=len(todo.pairs), desc=label, unit="image", disable=None)  # before the work: it starts a thread of its own
    pool = ThreadPoolExecutor(min(_cores(), len(todo.pairs) or 1))
    try:
        with without_bomb_warnings():
            futures: list[Future[bool]] = [pool.submit(work, *pair) for pair in todo.pairs]
            for future in as_completed(futures):
                bar.update()
                error = future.exception()
                if isinstance(error, EncMixerError):
                    failures.append(error)
                elif error is not None:
                    raise error
                else:
                    written += future.result()
    finally:
        pool.shutdown(cancel_futures=True)
        bar.close()
    if failures:
        raise _summary(failures, source, len(todo.pairs) + len(todo.collisions), written)
    return {"written": written, "kept": len(todo.pairs) - written, "left_out": todo.left_out}


def _convert_one(source: Path, target: Path, *, codec: Codec, root: Path, force: bool) -> bool:
    """Write the ciphertext or plain image of one file; returns whether it was written, and not there already.

    Args:
        source: The image.
        target: The file to write.
        codec: That makes one of the other.
        root: The folder that all targets lie in.
        force: As `encrypt_images`.
    """
    (content,) = codec([source], [str(source)])
    if isinstance(content, ImageError):
        raise content
    if not force and os.path.lexists(target):
        return _keep(target, content, codec.format)
    refuse_elsewhere(target, root)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except FileExistsError as error:
        remedy = "move it away or choose another target"
        raise TargetExistsError(str(target.parent), "a folder, or nothing", "something else", remedy) from error
    except OSError as error:
        raise file_error(target.parent, "a folder to write", error) from error
    try:
        with replacing_file(target, overwrite=force, durable=False, kind=codec.format.kind) as temporary:
            temporary.write_bytes(content)
    except TargetExistsError:
        if force:  # it is nothing that may be replaced
            raise
        return _keep(target, content, codec.format)  # it has appeared meanwhile
    return True


def _keep(target: Path, content: bytes, written: FileFormat) -> bool:
    """Keep what is at a target if it is the image that would be written there; returns False then: nothing was written.

    Raises:
        TargetExistsError: It is something else.
    """
    image = Image.open(io.BytesIO(content))
    try:
        there = open_ciphertext(target, len(image.getbands()), formats=(written,))
        same = there.format == image.format and np.array_equal(np.asarray(there), np.asarray(image))
        same = same and record_text(there) == record_text(image)
    except EncMixerError:
        same = False
    if not same:
        remedy = "choose another target, or pass --force (force=True) to replace it"
        raise TargetExistsError(str(target), "nothing, or the image that this run writes", _ANOTHER, remedy)
    return False


def _summary(failures: list[EncMixerError], src: Path, images: int, written: int) -> EncMixerError:
    """Return one error for all that failed: the first by name, and how many there are."""
    first = min(failures, key=lambda error: error.where)
    if images == 1:
        return first
    names = ", ".join(sorted(error.where for error in failures)[1:_NAMED])
    more = f"; failed too: {names}{', ...' if len(failures) > _NAMED else ''}" if names else ""
    got = f"{len(failures)} that failed, the first because: expected {first.expected}, got {first.got}"
    kind = type(first) if isinstance(first, TargetExistsError) else ImageError
    kept = images - len(failures) - written
    done = f"{written} written{f', {kept} kept' if kept else ''}{more}"
    remedy = f"{first.remedy}; the rest is done ({done}), run again when it is corrected"
    return kind(first.where, f"{images} usable images in {src}", got, remedy)


@dataclass(frozen=True)
class _WorkList:
    """What a run is to do.

    Args:
        root: The folder that all targets lie in.
        pairs: Source and target of each image.
        collisions: Errors of images that would have one target.
        left_out: As `ImageCounts`.
    """

    root: Path
    pairs: list[tuple[Path, Path]]
    collisions: list[TargetExistsError] = field(default_factory=list)
    left_out: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


def _work_list(src: Path, dst: Path, codec: Codec) -> _WorkList:
    if not os.path.lexists(src):
        raise FileAccessError(str(src), "an image or a folder of images", "no such path", "check the path")
    if not src.is_dir():
        target = dst / f"{src.stem}{codec.format.suffix}" if dst.is_dir() else dst
        _check_suffix(target, codec)
        if src.exists() and target.exists() and target.samefile(src):
            raise SourceError(str(target), "a target other than the source", "the same file", "choose another name")
        return _WorkList(target.parent, [(src, target)])
    if os.path.lexists(dst) and not dst.is_dir():
        refuse_existing(dst, overwrite=False, remedy="give a folder as target of a folder")
    if dst.resolve().is_relative_to(src.resolve()):
        raise SourceError(str(dst), f"a target outside {src}", "one inside", "choose another folder")
    files, left_out = _images(src)
    sources: dict[Path, list[Path]] = {}  # by target
    for file in files:
        sources.setdefault((dst / file.relative_to(src)).with_suffix(codec.format.suffix), []).append(file)
    pairs = [(files[0], target) for target, files in sources.items() if len(files) == 1]
    collisions = [
        TargetExistsError(str(file), f"one image for {target}", f"{len(files)}: {_names(files)}", "rename all but one of them")
        for target, files in sources.items()
        if len(files) > 1
        for file in files
    ]
    return _WorkList(dst, pairs, collisions, left_out)


def _check_suffix(target: Path, codec: Codec) -> None:
    """Refuse a target whose suffix is not that of the format."""
    written, suffix = codec.format, target.suffix.lower()
    if suffix in written.suffixes:
        return
    other = format_of_suffix(suffix)
    remedy = other and (codec.only or other.refused)
    if other is not None and remedy:
        raise SourceError(str(target), f"a {written.name} target", other.name, remedy)
    raise SourceError(str(target), f"a target that ends in {written.suffix}", repr(target.suffix), f"{written.name} is written")


def _names(files: list[Path]) -> str:
    return ", ".join(file.name for file in files)


def _images(folder: Path) -> tuple[list[Path], dict[str, tuple[str, ...]]]:
    """Return a folder's image files, and the names of what is left out by reason.

    Raises:
        SourceError: There are no images.
        FileAccessError: A folder cannot be read.
    """
    suffixes = image_suffixes()
    found: list[Path] = []
    left_out: dict[str, list[str]] = {}
    for path, status in walk(folder):
        reason = status if isinstance(status, str) else SUFFIX
        if status is not reason and path.suffix.lower() in suffixes:
            found.append(path)
        else:
            left_out.setdefault(reason, []).append(path.relative_to(folder).as_posix())
    if not found:
        counts = ", ".join(f"{len(names)} left out as {reason} ({names[0]})" for reason, names in sorted(left_out.items()))
        raise SourceError(str(folder), "a folder with images", counts or "an empty one", "check the path")
    return found, {reason: tuple(names) for reason, names in sorted(left_out.items())}


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
