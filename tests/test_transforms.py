from __future__ import annotations

import copy
import io
import pickle
from collections.abc import Callable

import numpy as np
import pytest
import timm
import torch
from conftest import ANY_SIDE, assert_no_secret
from PIL import Image, ImageOps

import timm_encmixer as te
from timm_encmixer.checkpoints.schemes import find_scheme
from timm_encmixer.errors import (
    HubError,
    ImageError,
    KeyMismatchError,
    MissingKeyError,
    NotEncryptedError,
    SchemeError,
    SchemeMismatchError,
    SourceError,
)
from timm_encmixer.scheme import Preprocessing


@pytest.fixture
def encrypted(plain_model, key):
    return te.encrypt_model(plain_model, key)


@pytest.fixture
def photo(photos):
    return photos[3].resize((50, 41))


def test_the_client_does_the_plain_preprocessing_then_the_cipher(encrypted, plain_model, key, photo):
    config = timm.data.resolve_model_data_config(plain_model)
    plain = timm.data.create_transform(**config, normalize=False)(photo)  # uint8
    cipher = te.BlockCipher(key, encrypted.encmixer)
    sent = te.create_transform(encrypted, key=key, output="uint8")(photo)
    assert sent.dtype == torch.uint8
    assert torch.equal(sent, cipher.encrypt(plain))
    picture = te.create_transform(encrypted, key=key, output="image")(photo)
    assert picture.mode == "RGB"
    assert np.array_equal(np.array(picture), sent.permute(1, 2, 0).numpy())
    ready = te.create_transform(encrypted, key=key)(photo)
    assert ready.dtype == torch.float32
    assert torch.allclose(ready, (sent.float() / 255 - 0.5) / 0.5)
    with torch.no_grad():
        want = plain_model(timm.data.create_transform(**config)(photo)[None])
        assert torch.allclose(encrypted(ready[None]), want, atol=1e-4)


def test_the_server_uses_stock_timm(encrypted, key, photo):
    server = timm.data.create_transform(**timm.data.resolve_model_data_config(encrypted))
    sent = te.create_transform(encrypted, key=key, output="image")(photo)
    assert torch.equal(server(sent), te.create_transform(encrypted, key=key)(photo))


@pytest.mark.parametrize("cipher", ANY_SIDE)
def test_every_cipher_as_model_input(plain_model, key, photo, cipher):
    encrypted = te.encrypt_model(plain_model, key, cipher=cipher)
    transform = timm.data.create_transform(**timm.data.resolve_model_data_config(plain_model))
    with torch.no_grad():
        got = encrypted(te.create_transform(encrypted, key=key)(photo)[None])
        assert torch.allclose(got, plain_model(transform(photo)[None]), atol=1e-4)


def test_targets(encrypted, encrypted_folder, key, photo):
    want = te.create_transform(encrypted, key=key)(photo)
    config_only = encrypted_folder.parent / "config-only"
    config_only.mkdir()
    (config_only / "config.json").write_bytes((encrypted_folder / "config.json").read_bytes())
    targets = [
        encrypted.encmixer,
        encrypted_folder,
        str(encrypted_folder),
        f"local-dir:{encrypted_folder}",
        encrypted_folder / "model.safetensors",
        config_only,
    ]
    for target in targets:
        assert torch.equal(te.create_transform(target, key=key)(photo), want)


def test_errors(plain_model, encrypted, key, other_key, tmp_path, photo):
    with pytest.raises(KeyMismatchError):
        te.create_transform(encrypted, key=other_key)
    with pytest.raises(MissingKeyError):
        te.create_transform(encrypted)
    with pytest.raises(NotEncryptedError):
        te.create_transform(plain_model, key=key)
    with pytest.raises(SourceError, match="no such path"):
        te.create_transform(str(tmp_path / "nowhere"), key=key)
    with pytest.raises(SchemeError, match="one of input, image, uint8"):
        te.create_transform(encrypted, key=key, output="jpeg")
    with pytest.raises(SchemeError, match="plain model's preprocessing"):
        te.create_transform(te.Scheme(patch_size=4), key=key)
    with pytest.raises(ImageError, match="a PIL image"):
        te.create_transform(encrypted, key=key)(np.array(photo))
    orthogonal = te.encrypt_model(plain_model, key, cipher="orthogonal")
    for output in ("image", "uint8"):
        with pytest.raises(SchemeError, match="its ciphertext is float"):
            te.create_transform(orthogonal, key=key, output=output)
    plain = Preprocessing(input_size=(3, 30, 32), mean=(0.5,) * 3, std=(0.5,) * 3)
    with pytest.raises(SchemeMismatchError, match="multiples of 4 px, got 30 x 32 px"):
        te.create_transform(te.Scheme(patch_size=4, plain=plain), key=key)


def test_the_hub_without_a_connection_is_one_clear_error(key, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(HubError, match=r"hf-hub:me/nothing: config\.json: expected a copy in the cache, got offline mode"):
        te.create_transform("hf-hub:me/nothing", key=key)


@pytest.mark.parametrize("mode", ["RGBA", "P", "L", "LA", "CMYK", "1", "I;16"])
def test_every_kind_of_image_gives_three_channels(encrypted, key, photo, mode):
    image = photo.convert("L").convert("I;16") if mode == "I;16" else photo.convert(mode)
    assert te.create_transform(encrypted, key=key, output="uint8")(image).shape == (3, 32, 32)


def test_a_wrong_key_is_taken_on_purpose_only(photos, encrypted_folder, key, other_key):
    with pytest.raises(te.KeyMismatchError, match="expected the key with fingerprint"):
        te.create_transform(encrypted_folder, key=other_key)
    scheme = find_scheme(encrypted_folder)
    transform = te.create_transform(encrypted_folder, key=other_key, wrong_key=True, output="image")
    sent = transform(photos[0])
    wanted = te.ImageCipher(other_key, scheme.without_fingerprint()).encrypt(transform.prepare(photos[0]))
    assert sent.tobytes() == wanted.tobytes()
    assert other_key.fingerprint in sent.info["encmixer"]  # it does not pretend to be of the right key
    with pytest.raises(te.KeyMismatchError, match="expected a wrong key, as wrong_key says"):
        te.create_transform(encrypted_folder, key=key, wrong_key=True)


def test_a_server_without_the_key_compares_ciphertext_with_its_model(photos, encrypted_folder, key, other_key):
    scheme = find_scheme(encrypted_folder)
    sent = te.create_transform(scheme, key=key, output="image")(photos[0])
    wrong = te.create_transform(scheme, key=other_key, wrong_key=True, output="image")(photos[0])
    assert te.images.check_ciphertext(sent, scheme, where="sent", strict=True)
    with pytest.raises(te.errors.ImageError, match=f"got the key {other_key.fingerprint}; encrypt the plain image with the"):
        te.images.check_ciphertext(wrong, scheme, where="sent", strict=True)
    assert te.images.check_ciphertext(wrong, scheme.without_fingerprint(), where="sent", strict=True)
    changed = sent.point(lambda value: value ^ 1)
    changed.info = sent.info
    with pytest.raises(te.errors.ImageError, match="expected the pixels that were written"):
        te.images.check_ciphertext(changed, scheme, where="sent", strict=True)


def opened(photo: Image.Image, format_: str = "JPEG", **options: object) -> Image.Image:
    file = io.BytesIO()
    photo.save(file, format_, **options)
    return Image.open(file)


def test_an_opened_photo_is_encrypted_as_its_file_is(encrypted_folder, key, photo, tmp_path):
    """A phone's photo that lies, with the README's client and with the command."""
    exif = Image.Exif()
    exif[0x0112] = 6
    photo.save(tmp_path / "phone.jpg", exif=exif)
    te.encrypt_images(tmp_path / "phone.jpg", tmp_path / "command.png", key, encrypted_folder)
    client = te.create_transform(encrypted_folder, key=key, output="image")
    with Image.open(tmp_path / "phone.jpg") as image:
        client(image).save(tmp_path / "client.png")
        assert image.getexif()[0x0112] == 6  # it stays as it is
    assert (tmp_path / "client.png").exists()
    assert Image.open(tmp_path / "client.png").tobytes() == Image.open(tmp_path / "command.png").tobytes()
    upright = ImageOps.exif_transpose(Image.open(tmp_path / "phone.jpg"))
    assert np.array_equal(np.asarray(client(upright)), np.asarray(client(Image.open(tmp_path / "phone.jpg"))))


def test_opened_images_are_refused_for_the_reasons_of_their_files(encrypted, key, photo):
    client = te.create_transform(encrypted, key=key)
    several = {"save_all": True, "append_images": [photo.rotate(90, expand=True)]}
    for image, reason in (
        (opened(photo, "GIF", **several), "a still image, got 2 frames; extract the frame you mean"),
        (opened(photo, "TIFF", **several), "a still image, got 2 frames"),
        (cut(opened(photo)), "a whole image, got a damaged one"),
        (cut(opened(photo, "PNG")), "a whole image, got a damaged one"),
        (Image.new("RGB", (0, 0)), "an image with pixels, got 0 x 0 px"),
        (closed(opened(photo)), "a whole image, got a damaged one"),
        (opened(Image.fromarray(np.arange(64, dtype=np.int32).reshape(8, 8)), "TIFF"), "8 or 16 bits per pixel, got 32-bit"),
    ):
        with pytest.raises(ImageError, match=f"^image: expected {reason}"):
            client(image)
    frame = opened(photo, "GIF", **several)
    frame.seek(1)
    assert client(frame.copy()).shape == (3, 32, 32)  # the frame that was extracted


def cut(image: Image.Image) -> Image.Image:
    """An image whose file ends early."""
    image.fp.seek(0)
    return Image.open(io.BytesIO(image.fp.read()[:-200]))


def closed(image: Image.Image) -> Image.Image:
    image.fp.close()
    return image


def round_trips() -> dict[str, Callable[[Image.Image], Image.Image]]:
    return {
        "as it is": lambda image: image,
        "copied": lambda image: image.copy(),
        "by copy.copy": copy.copy,
        "by copy.deepcopy": copy.deepcopy,
        "pickled": lambda image: pickle.loads(pickle.dumps(image)),
        "a copy pickled": lambda image: pickle.loads(pickle.dumps(image.copy())),
    }


@pytest.mark.parametrize("how", round_trips())
def test_the_record_is_written_wherever_the_ciphertext_has_been(how, encrypted, key, photo):
    sent = te.create_transform(encrypted, key=key, output="image")(photo)
    made = round_trips()[how](sent)
    file = io.BytesIO()
    made.save(file, "PNG")
    written = Image.open(file)
    assert written.info["encmixer"] == sent.info["encmixer"]
    assert te.images.check_ciphertext(written, encrypted.encmixer, where="written", strict=True)
    assert_no_secret(key, pickle.dumps(made))


def test_the_record_is_written_by_another_process(encrypted, key, photo, tmp_path):
    """A worker of a DataLoader makes the ciphertext, this process saves it; and a worker saves what this process made."""
    loader = torch.utils.data.DataLoader(
        Photos(te.create_transform(encrypted.encmixer, key=key, output="image"), photo), batch_size=None, num_workers=1
    )
    for name, picture in zip("ab", loader, strict=True):
        picture.save(tmp_path / f"{name}.png")
        with Image.open(tmp_path / f"{name}.png") as image:
            assert te.images.check_ciphertext(image, encrypted.encmixer, where=name, strict=True)


class Photos(torch.utils.data.Dataset):
    """One photo, twice, as ciphertext."""

    def __init__(self, transform: Callable[[Image.Image], Image.Image], photo: Image.Image) -> None:
        self.transform, self.photo = transform, photo

    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: int) -> Image.Image:
        return self.transform(self.photo)
