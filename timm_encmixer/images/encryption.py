"""Encrypting and decrypting image files and folders: any Pillow format in, PNG out, the same tree, resumable."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image
from torch import nn
from tqdm import tqdm

from timm_encmixer.checkpoints.loading import find_scheme
from timm_encmixer.ciphers import BlockCipher
from timm_encmixer.errors import EncMixerError, ImageError, SchemeError, SourceError, TargetExistsError
from timm_encmixer.files import PathLike, file_error, refuse_existing, replacing_file
from timm_encmixer.images.reading import JPEG_REASON, JPEG_SUFFIXES, image_suffixes, open_ciphertext, open_plain
from timm_encmixer.images.transform import ClientTransform
from timm_encmixer.keys import KeyLike, find_key
from timm_encmixer.scheme import Scheme


@dataclass(frozen=True)
class ImageCounts:
    """How many files a run wrote, found already there, and passed over because they are no images."""

    written: int
    kept: int
    passed_over: int


def encrypt_images(
    src: PathLike,
    dst: PathLike,
    key: KeyLike | None,
    model: nn.Module | Scheme | PathLike,
    *,
    resize: bool = True,
    force: bool = False,
) -> ImageCounts:
    """Encrypt an image file, or every image of a folder, to PNG, on all cores. Metadata (EXIF, comments) is dropped.

    Args:
        src: Image file or folder.
        dst: PNG file or folder; each image keeps its place and name in the tree, with the suffix .png.
        key: The key, its file, or None for the file that TIMM_ENCMIXER_KEY names.
        model: As for `create_transform`.
        resize: Bring images to the model's input size; False keeps sizes that are multiples of the patch side.
        force: Replace what is there already; otherwise it is kept, so that an interrupted run can be taken up again.

    Raises:
        ImageError: Some images could not be encrypted; all others have been.
        SourceError, FileAccessError: There are no images, or a file cannot be read or written.
        KeyMismatchError, SchemeError: The key is not the model's, or the record does not allow PNG ciphertext.
    """
    transform = ClientTransform(BlockCipher(find_key(key), find_scheme(model)), output="image", resize=resize)

    def encrypt(path: Path) -> Image.Image:
        ciphertext = transform(open_plain(path))
        assert isinstance(ciphertext, Image.Image)  # output="image"
        return ciphertext

    return _convert(Path(src), Path(dst), encrypt, force=force, label="encrypting")


def decrypt_images(
    src: PathLike, dst: PathLike, key: KeyLike | None, model: nn.Module | Scheme | PathLike, *, force: bool = False
) -> ImageCounts:
    """Decrypt a ciphertext PNG, or every PNG of a folder; arguments and errors as for `encrypt_images`."""
    scheme = find_scheme(model)
    cipher = BlockCipher(find_key(key), scheme)
    if not scheme.exact:
        raise SchemeError("model", "a cipher with PNG ciphertext", scheme.cipher, "its ciphertext is float tensors")
    return _convert(
        Path(src),
        Path(dst),
        lambda path: cipher.decrypt(open_ciphertext(path, scheme.in_chans)),
        force=force,
        label="decrypting",
    )


def open_folder(folder: PathLike, *, limit: int | None = None) -> list[tuple[str, Image.Image]]:
    """Read the images of a folder (or one image file), by name, in the order of their paths.

    Raises:
        SourceError: No images there.
        ImageError: One of them cannot be read.
    """
    path = Path(folder)
    files = _images(path)[0] if path.is_dir() else [path]
    return [(str(file.relative_to(path)) if path.is_dir() else file.name, open_plain(file)) for file in files[:limit]]


def _convert(src: Path, dst: Path, convert: Callable[[Path], Image.Image], *, force: bool, label: str) -> ImageCounts:
    pairs, passed_over = _plan(src, dst)
    todo = [(source, target) for source, target in pairs if force or not os.path.lexists(target)]

    def work(source: Path, target: Path) -> None:
        image = convert(source)
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise file_error(target.parent, "a folder to write", error) from error
        with replacing_file(target, overwrite=force, durable=False) as temporary:
            image.save(temporary, format="PNG")

    failures: list[EncMixerError] = []
    threads = torch.get_num_threads()
    pool = ThreadPoolExecutor(_cores(), initializer=torch.set_num_threads, initargs=(1,))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # open_plain makes it an error
            futures: list[Future[None]] = [pool.submit(work, *pair) for pair in todo]
            for future in tqdm(as_completed(futures), total=len(futures), desc=label, unit="image", disable=None):
                error = future.exception()
                if isinstance(error, EncMixerError):
                    failures.append(error)
                elif error is not None:
                    raise error
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(threads)
    if failures:
        first = failures[0]
        if len(pairs) == 1:
            raise first
        got = f"{len(failures)} that failed, the first because: expected {first.expected}, got {first.got}"
        raise ImageError(
            first.where, f"{len(todo)} usable images in {src}", got, "correct or remove them and run again; the rest is done"
        )
    return ImageCounts(written=len(todo), kept=len(pairs) - len(todo), passed_over=passed_over)


def _plan(src: Path, dst: Path) -> tuple[list[tuple[Path, Path]], int]:
    """Return (source, target) pairs and the number of files that are no images."""
    if not src.is_dir():
        target = dst / f"{src.stem}.png" if dst.is_dir() else dst
        if target.suffix.lower() in JPEG_SUFFIXES:
            raise SourceError(str(target), "a PNG target", "JPEG", JPEG_REASON)
        if target.suffix.lower() != ".png":
            raise SourceError(str(target), "a target that ends in .png", repr(target.suffix), "ciphertext is written as PNG")
        if src.exists() and target.exists() and target.samefile(src):
            raise SourceError(str(target), "a target other than the source", "the same file", "choose another name")
        return [(src, target)], 0
    if dst.exists() and not dst.is_dir():
        refuse_existing(dst, overwrite=False, remedy="give a folder as target of a folder")
    if dst.resolve().is_relative_to(src.resolve()):
        raise SourceError(str(dst), f"a target outside {src}", "one inside", "choose another folder")
    files, passed_over = _images(src)
    targets: dict[Path, Path] = {}
    for source in files:
        target = (dst / source.relative_to(src)).with_suffix(".png")
        if target in targets:
            raise TargetExistsError(
                str(target), "one image per target", f"{targets[target]} and {source}", "rename one of them"
            )
        targets[target] = source
    return [(source, target) for target, source in targets.items()], passed_over


def _images(folder: Path) -> tuple[list[Path], int]:
    """Return a folder's image files and the number of its other files.

    Raises:
        SourceError: There are no images.
    """
    suffixes = image_suffixes()
    files = list(_files(folder))
    found = [file for file in files if file.suffix.lower() in suffixes]
    if not found:
        raise SourceError(str(folder), "a folder with images", f"{len(files)} other files", "check the path")
    return found, len(files) - len(found)


def _files(folder: Path) -> Iterator[Path]:
    for root, folders, names in os.walk(folder):
        folders.sort()
        yield from (Path(root) / name for name in sorted(names))


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
