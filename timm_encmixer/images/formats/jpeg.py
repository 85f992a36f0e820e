"""JPEG: lossy, for the ciphers whose ciphertext survives it. The record is a comment, without a digest of the pixels."""

from __future__ import annotations

import io
from collections.abc import Iterable
from dataclasses import dataclass

from PIL import Image

from timm_encmixer.checkpoints.record import RECORD_NAME
from timm_encmixer.ciphers.formats import to_pil
from timm_encmixer.errors import ImageError
from timm_encmixer.files import FileKind
from timm_encmixer.images.formats.base import Encoder, FileFormat, Pixels
from timm_encmixer.images.jpeg_file import comments
from timm_encmixer.scheme import JPEG_CIPHERS, Scheme

_LONGEST_PX = 65500  # libjpeg's limit
_COMMENT = RECORD_NAME + ":"  # how the comment begins that holds a record


@dataclass(frozen=True)
class Jpeg(FileFormat):
    """Baseline JPEG without subsampling of colours, at quality 1 to 100."""

    def keeps(self, scheme: Scheme) -> bool:
        """Whether ciphertext loses no more than the plain image would."""
        return scheme.takes_jpeg

    def encoder(self, setting: int) -> Encoder:
        """Return the encoder at a quality."""

        def encode(pixels: Pixels, record: bytes | None) -> bytes:
            if max(pixels.shape[:2]) > _LONGEST_PX:
                got = f"{pixels.shape[0]} x {pixels.shape[1]} px"
                raise ImageError("image", f"sides of at most {_LONGEST_PX} px for JPEG", got, "write PNG, or crop it first")
            buffer = io.BytesIO()
            comment = {} if record is None else {"comment": _COMMENT.encode() + record}
            to_pil(pixels).save(buffer, format="JPEG", quality=setting, subsampling=0, progressive=False, **comment)
            return buffer.getvalue()

        return encode

    def record_in(self, image: Image.Image) -> str | None:
        """Return the last comment that holds a record; Pillow's `info` has the last comment of all."""
        others = [content for marker, content in getattr(image, "applist", ()) if marker == "COM"]
        return _last_record((*others, image.info.get("comment")))

    def record_in_file(self, content: bytes) -> str | None:
        """Return the last comment that holds a record, of all comments: Pillow reads those before the pixels alone."""
        return _last_record(comments(content, _COMMENT.encode()))

    def attach(self, image: Image.Image, record: str) -> None:
        """Put the record where every Pillow finds it; `image.save("x.jpg", quality=85, subsampling=0)` writes it."""
        image.info["comment"] = (_COMMENT + record).encode()

    def refuse_changed(self, image: Image.Image, *, where: str) -> None:
        """Refuse a file whose neighbouring squares of 8 x 8 px were mixed, as far as it shows.

        Raises:
            ImageError: Its colours are subsampled, or it is progressive.
        """
        remedy = "take the file that encmixer wrote, or save it as baseline JPEG with 4:4:4 sampling"
        factors = [(across, down) for _, across, down, _ in getattr(image, "layer", ())]
        if len(set(factors)) > 1:
            others = f"colours at other factors ({', '.join(f'{a} x {d}' for a, d in factors)})"
            got = "4:2:0" if factors[0] == (2, 2) else others
            raise ImageError(where, "a JPEG whose colours are not subsampled (4:4:4)", got, remedy)
        if image.info.get("progressive"):
            got = "a progressive one, which was saved again"
            raise ImageError(where, "a baseline JPEG, as encmixer writes it", got, remedy)


def _last_record(comments: Iterable[object]) -> str | None:
    found = [one for one in comments if isinstance(one, bytes) and one.startswith(_COMMENT.encode())]
    return found[-1].removeprefix(_COMMENT.encode()).decode("utf-8", "replace") if found else None


FORMAT = Jpeg(
    "JPEG",
    (".jpg", ".jpeg", ".jpe", ".jfif"),
    FileKind("a JPEG file", b"\xff\xd8\xff"),
    lossless=False,
    settings=range(1, 101),
    for_ciphertext=85,
    for_plain=95,
    refused="JPEG changes ciphertext pixels beyond recovery; keep ciphertext as PNG from end to end, or encrypt the model "
    f"with cipher={JPEG_CIPHERS[0]!r} (--cipher) and images with format='jpeg' (--format)",
    advice="Keep the images as they are: resizing, cropping or JPEG with subsampled colours destroys them.",
    option="jpeg_quality",
    others=("MPO",),
)
