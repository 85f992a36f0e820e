"""The server: encrypted models, stock timm, and ciphertext. It has no key, keeps nothing between calls, and writes no file."""

from __future__ import annotations

import base64
import binascii
import io
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import timm
import torch
from PIL import Image
from torch import Tensor, nn

from timm_encmixer.audit import recover
from timm_encmixer.errors import ImageError, SchemeError, did_you_mean
from timm_encmixer.evaluation.accuracy import wrong_key
from timm_encmixer.images.file_format import ciphertext_formats
from timm_encmixer.images.image_record import check_ciphertext
from timm_encmixer.images.preprocessing import resize_and_crop
from timm_encmixer.images.reading import open_ciphertext, to_channels
from timm_encmixer.images.tensors import normalised_plain, to_tensor
from timm_encmixer.images.transform import create_transform
from timm_encmixer.models.record import scheme_of
from timm_encmixer.scheme import Scheme
from timm_encmixer.web.samples import ALBUM_PICTURES, album, png, sample, sheet

SHOWN_CLASSES = 5
_OVERHEAD_BYTES = 16_384  # of a PNG file beside its pixels
_COLUMNS, _FEW, _FEW_COLUMNS = 15, 50, 10  # of a sheet of recovered pictures; fewer columns for a few of them
_LARGEST_BLOCK = 192  # numbers in a block, up to which the order of blocks is found in seconds
_WHERE = "ciphertext"
Answer = list[dict[str, Any]]


class ModelServer:
    """Runs encrypted models with stock timm, on ciphertext alone.

    Args:
        models: By cipher; all are of one key.
        classes: Names of their classes.
        key_is_public: Everybody has the key, so the public album is encrypted with it and attacks are measured on the album.
    """

    def __init__(self, models: Mapping[str, nn.Module], classes: Sequence[str], *, key_is_public: bool = False) -> None:
        self._models, self._classes, self._key_is_public = models, classes, key_is_public
        self._transforms = {cipher: _stock_transform(model) for cipher, model in models.items()}

    @property
    def records(self) -> dict[str, Scheme]:
        """The public records by cipher."""
        found = {cipher: scheme_of(model) for cipher, model in self._models.items()}
        return {cipher: scheme for cipher, scheme in found.items() if scheme is not None}

    def classify(self, ciphertext: str, cipher: str, any_key: bool = False) -> dict[str, Any]:
        """Return the best classes of a ciphertext, and what arrived.

        Args:
            ciphertext: A PNG file in base64, of the model's input size, with its record.
            cipher: Which of the models reads it.
            any_key: Take ciphertext of another key than the model's too: the answer is worth nothing then.

        Raises:
            SchemeError: There is no such model.
            ImageError: It is no such file.
        """
        data = _from_base64(ciphertext)
        image = self._opened(data, cipher, any_key)
        logits = self._logits(cipher, self._transforms[cipher](image)[None])
        arrived = {"bytes": len(data), "height": image.height, "width": image.width, "image": ciphertext}
        return {"classes": self.best(logits), "arrived": arrived}

    def attack(self, ciphertext: str, collected: list[str], cipher: str, any_key: bool = False) -> dict[str, Any]:
        """Recover a picture from its ciphertext, and others of the same key that somebody has collected.

        Args:
            ciphertext: As for `classify`.
            collected: Other ciphertexts, at most `ALBUM_PICTURES`. Under the key of a demo, those of the first pictures
                of the album: the verdict is measured on these. Under another key nothing is measured.
            cipher: Which cipher they are of.
            any_key: As for `classify`.

        Raises:
            SchemeError: There is no such cipher here, or finding the order of its blocks takes long.
            ImageError: A ciphertext is none, or there are too many of them.
        """
        if not isinstance(collected, list) or len(collected) > ALBUM_PICTURES:
            got = f"{len(collected)}" if isinstance(collected, list) else type(collected).__name__
            raise ImageError("collected", f"a list of at most {ALBUM_PICTURES} ciphertexts", got, "send fewer")
        scheme = self._record(cipher)
        if scheme.scrambles and scheme.block_size > _LARGEST_BLOCK:
            got, remedy = f"{cipher} with blocks of {scheme.patch_size} px", "run encmixer audit, which takes minutes for it"
            raise SchemeError("attack", "a cipher that is attacked in seconds", got, remedy)
        seen = [np.asarray(self._opened(_from_base64(one), cipher, any_key)) for one in (*collected, ciphertext)]
        known = album()[: len(collected)] if self._key_is_public and not any_key else []
        plain = [np.asarray(_prepared(picture, scheme)) for picture in known]
        seen, plain = [[_with_channels(one) for one in images] for images in (seen, plain)]
        recovered = recover(seen, scheme, plain=plain or None)
        *others, image = [Image.fromarray(one.squeeze()).convert("RGB") for one in recovered.images]
        return {
            "image": _to_base64(png(image)),
            "others": _to_base64(png(sheet(others, columns=_COLUMNS if len(others) > _FEW else _FEW_COLUMNS)))
            if others
            else None,
            "attacks": list(recovered.attacks),
            "collected": recovered.collected,
            "seconds": round(recovered.seconds, 2),
            "verdict": recovered.verdict,
            "finding": recovered.finding,
            "ssim": recovered.ssim,
            "measured_on": len(plain),
        }

    def without_key(self, name: str, cipher: str) -> dict[str, Answer]:
        """Return what the encrypted model makes of a sample under a wrong key, which is public, and of the plain sample.

        Raises:
            ImageError: There is no such sample.
            SchemeError: There is no such model.
        """
        scheme = self._record(cipher)
        transform = create_transform(scheme, key=wrong_key(0), wrong_key=True, output="image")
        ciphertext, plain = transform(sample(name)), _prepared(sample(name), scheme)
        assert isinstance(ciphertext, Image.Image)  # as output says
        made = {"wrong key": ciphertext, "no key": plain}
        return {who: self.best(self._logits(cipher, self._transforms[cipher](image)[None]), 3) for who, image in made.items()}

    def best(self, logits: Tensor, count: int = SHOWN_CLASSES) -> Answer:
        """Return the names and shares of the best classes of logits (1, classes)."""
        shares, indices = logits.float().softmax(dim=1)[0].topk(min(count, logits.shape[1]))
        found = zip(shares.tolist(), indices.tolist(), strict=True)
        return [{"class": self._classes[index], "share": round(share, 4)} for share, index in found]

    def _record(self, cipher: str) -> Scheme:
        records = self.records
        if not isinstance(cipher, str) or cipher not in records:
            remedy = did_you_mean(str(cipher), records, otherwise="choose one of these")
            raise SchemeError("cipher", f"one of {', '.join(records)}", repr(cipher)[:100], remedy)
        return records[cipher]

    def _opened(self, data: bytes, cipher: str, any_key: bool) -> Image.Image:
        """Return a ciphertext that the model can read; its size is looked at before its pixels are."""
        scheme = self._record(cipher)
        assert scheme.plain is not None
        channels, height, width = scheme.plain.input_size
        most = channels * (height * (width + 1)) + _OVERHEAD_BYTES
        if len(data) > most:
            raise ImageError(_WHERE, f"a file of at most {most} bytes", f"{len(data)}", "send one image of the model's size")
        _check_size(data, (height, width))
        image = open_ciphertext(data, channels, where=_WHERE, formats=ciphertext_formats(scheme))
        check_ciphertext(image, scheme.without_fingerprint() if any_key is True else scheme, where=_WHERE, strict=True)
        return image

    @torch.inference_mode()
    def _logits(self, cipher: str, inputs: Tensor) -> Tensor:
        logits: Tensor = self._models[cipher](inputs)
        return logits


class PlainComparison:
    """The plain model on plain samples: what the server's answers are compared with. A user's own photo never gets here.

    Args:
        model: Plain.
        server: Whose models are this one's encryptions.
    """

    def __init__(self, model: nn.Module, server: ModelServer) -> None:
        self._model, self._server = model, server
        (self._scheme, *_) = server.records.values()

    @torch.inference_mode()
    def classify(self, name: str) -> Answer:
        """Return the best classes of a sample.

        Raises:
            ImageError: There is no such sample.
        """
        assert self._scheme.plain is not None  # the record of an encrypted model
        image = _prepared(sample(name), self._scheme)
        return self._server.best(self._model(normalised_plain(to_tensor(image)[None], self._scheme.plain)), 3)


def _prepared(picture: Image.Image, scheme: Scheme) -> Image.Image:
    """Return a plain picture after the plain model's resizing and crop."""
    assert scheme.plain is not None  # the record of an encrypted model
    return resize_and_crop(to_channels(picture, scheme.in_chans), scheme.plain)


def _stock_transform(model: nn.Module) -> Callable[[Image.Image], Tensor]:
    """Return timm's own transform of a model."""
    config = timm.data.resolve_model_data_config(model)  # type: ignore[no-untyped-call]
    transform: Callable[[Image.Image], Tensor] = timm.data.create_transform(**config)
    return transform


def _from_base64(text: str) -> bytes:
    """Return the bytes of a text in base64, with or without line breaks, or of a data URL.

    Raises:
        ImageError: It is none.
    """
    try:
        content = text.partition(",")[2] if text.startswith("data:") else text
        return base64.b64decode("".join(content.split()), validate=True)
    except (AttributeError, TypeError, ValueError, binascii.Error) as error:
        raise ImageError(_WHERE, "a PNG file in base64", "other text", "encode the file's bytes") from error


def _to_base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _check_size(data: bytes, size: tuple[int, int]) -> None:
    """Refuse an image of another size than (height, width), by what its header says; what is no image is refused elsewhere."""
    try:
        with Image.open(io.BytesIO(data)) as image:
            width, height = image.size
    except Exception:  # Pillow raises many kinds; `open_ciphertext` says which
        return
    if (height, width) != size:
        remedy = "bring the plain image to the model's size before it is encrypted; ciphertext must not be resized"
        raise ImageError(_WHERE, f"{size[0]} x {size[1]} px, as the model reads", f"{height} x {width} px", remedy)


def _with_channels(pixels: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return pixels[..., None] if pixels.ndim == 2 else pixels
