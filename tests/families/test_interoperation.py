"""Encrypted models in the hands of others: transformers, open_clip and ONNX Runtime read them like any model of timm."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import timm
import torch
from conftest import in_float64, normalised

sys.path.insert(0, str(Path(__file__).parent))
from exactness import SCRAMBLING, lively

import timm_encmixer as te

SMALL = {"img_size": 32, "patch_size": 8, "embed_dim": 48, "depth": 2, "num_heads": 2, "num_classes": 10}


@pytest.fixture(scope="module")
def vit():
    torch.manual_seed(0)
    with torch.no_grad():
        return lively(timm.create_model("vit_base_patch32_clip_224", **SMALL), "vit")


@torch.no_grad()
def logits(model, pixels):
    return in_float64(model)(normalised(pixels, model.pretrained_cfg, torch.float64))


def test_transformers_classifies_ciphertext_from_the_hub(vit, key, photos, hub, owner, tmp_path):
    """Stock transformers, without this package, gets a PNG and gives the plain model's answer."""
    te.save_model(te.encrypt_model(vit, key, cipher=SCRAMBLING), tmp_path / "encrypted")
    owner.run("model", "push", tmp_path / "encrypted", "me/vit", "--license", "mit", check=True)
    client = te.create_transform(str(tmp_path / "encrypted"), key=key, output="image")
    client(photos[0]).save(tmp_path / "sent.png")
    code = f"""
import json
from transformers import TimmWrapperForImageClassification, pipeline
model = TimmWrapperForImageClassification.from_pretrained("me/vit")
classify = pipeline("image-classification", model="me/vit", top_k=10)
assert type(classify.model) is type(model), type(classify.model)
print(json.dumps(classify({str(tmp_path / "sent.png")!r})))
"""
    answer = json.loads(owner.python(code, without_plugin=True).strip().splitlines()[-1])
    got = torch.tensor([found["score"] for found in sorted(answer, key=lambda found: int(found["label"].split("_")[1]))])
    expected = logits(vit, client.preprocess(photos[0])[None])[0].softmax(-1)
    assert float(expected.max() - expected.min()) > 1e-3
    assert torch.allclose(got.double(), expected, rtol=0, atol=1e-5)


@pytest.mark.nightly
@torch.no_grad()
@pytest.mark.parametrize("cipher", ["shuffle+negpos", SCRAMBLING])
def test_the_image_tower_of_open_clip(key, cipher):
    """A CLIP model of open_clip with a timm trunk: image embeddings of ciphertext are those of the plain image."""
    import open_clip  # here, as every worker reads this file and the import takes a second

    torch.manual_seed(0)
    pixels = torch.randint(0, 256, (2, 3, 224, 224), dtype=torch.uint8)
    vision = {"timm_model_name": "vit_tiny_patch16_224", "timm_pool": "avg", "timm_proj": "linear", "image_size": 224}
    text = {"context_length": 8, "vocab_size": 64, "width": 32, "heads": 2, "layers": 1}
    clip = open_clip.CustomTextCLIP(embed_dim=24, vision_cfg=vision, text_cfg=text).double().eval()
    mean, std = open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD
    plain = clip.encode_image(normalised(pixels, {"mean": mean, "std": std}, torch.float64), normalize=True)
    clip.visual.trunk = te.encrypt_model(clip.visual.trunk, key, cipher=cipher, mean=mean, std=std)
    ciphertext = te.BlockCipher(key, clip.visual.trunk.encmixer).encrypt(pixels)
    grey = {"mean": (0.5,) * 3, "std": (0.5,) * 3}
    keyed = clip.encode_image(normalised(ciphertext, grey, torch.float64), normalize=True)
    assert float((plain - keyed).abs().max()) < 1e-12
    blank = clip.encode_image(normalised(pixels, grey, torch.float64), normalize=True)
    assert float((plain - blank).abs().max()) > 1e-3


@pytest.mark.nightly
@torch.no_grad()
def test_onnx_runtime(vit, key, photos, tmp_path):
    encrypted = te.encrypt_model(vit, key, cipher=SCRAMBLING)
    torch.onnx.export(encrypted, (torch.zeros(1, 3, 32, 32),), tmp_path / "vit.onnx", dynamo=True, verbose=False)
    client = te.create_transform(encrypted, key=key, output="image")
    sent = client(photos[0])
    image = normalised(torch.from_numpy(np.array(sent)).permute(2, 0, 1)[None], encrypted.pretrained_cfg).numpy()
    session = onnxruntime.InferenceSession(tmp_path / "vit.onnx")
    (got,) = session.run(None, {session.get_inputs()[0].name: image})
    expected = logits(vit, client.preprocess(photos[0])[None])
    assert float((torch.from_numpy(got) - expected).abs().max()) < 1e-4 * float(expected.std())
