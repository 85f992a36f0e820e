"""How far training moves a stem, and how far the products of its rows: the measurements behind docs/adr/0014.

    python tests/sketch_bounds.py        # some minutes

Each line has the two relative distances by which a sketch judges (`timm_encmixer/models/stem_sketch.py`), and their ratio.
"""

from __future__ import annotations

import copy
import math

import timm
import torch
from torch import nn

import timm_encmixer as te
from timm_encmixer.bundled import BUNDLED_MODEL, bundled_images
from timm_encmixer.images import normalise
from timm_encmixer.models.encryption import stem_of
from timm_encmixer.models.stem_algebra import recentre
from timm_encmixer.models.stem_sketch import StemSketch
from timm_encmixer.scheme import facts_of

KEY, OTHER = te.SecretKey(bytes(range(32))), te.SecretKey(bytes(range(1, 33)))
OPTIMIZERS = {
    "sgd 0.05": lambda parameters: torch.optim.SGD(parameters, 0.05, momentum=0.9, weight_decay=5e-4),
    "adamw 0.001": lambda parameters: torch.optim.AdamW(parameters, 1e-3, weight_decay=0.05),
}


def line(what: str, scheme: te.Scheme, before: torch.Tensor, after: torch.Tensor) -> None:
    old, new = (StemSketch.of(scheme, kernel).kernel for kernel in (before, after))
    pairs = ((old.values, new.values), (old.products, new.products))
    kernel, products = (math.dist(a, b) / math.hypot(*a) for a, b in pairs)
    print(f"{what:50} kernel {kernel:.3f}  products {products:.3f}  ratio {products / max(kernel, 1e-9):.2f}", flush=True)


def train(what: str, model: nn.Module, optimizer: str, epochs: int) -> None:
    images, labels, _ = bundled_images()
    client = te.create_transform(model, key=KEY, output="uint8")
    inputs, targets = normalise(torch.stack([client(image) for image in images])), torch.tensor(labels)
    before = stem_of(model)[0].clone()
    optimiser, order = OPTIMIZERS[optimizer](model.parameters()), torch.Generator().manual_seed(0)
    model.train()
    for epoch in range(1, epochs + 1):
        for batch in torch.randperm(len(inputs), generator=order).split(32):
            optimiser.zero_grad()
            nn.functional.cross_entropy(model(inputs[batch]), targets[batch]).backward()
            optimiser.step()
        if epoch in (1, 4, 16):
            line(f"{what}, {optimizer}, {epoch} epochs", model.encmixer, before, stem_of(model)[0])


def main() -> None:
    torch.manual_seed(0)
    plain = timm.create_model(BUNDLED_MODEL, pretrained=True)
    for cipher in (cipher for cipher in te.BLOCK_CIPHERS if facts_of(cipher).fits(4)):
        encrypted = te.encrypt_model(plain, KEY, cipher=cipher)
        scheme, (kernel, bias) = encrypted.encmixer, stem_of(plain)
        line(f"plain, re-centred, {cipher}", scheme, stem_of(encrypted)[0], recentre(kernel, bias, *normalisation(scheme))[0])
        rotated = te.rotate_model(encrypted, KEY, OTHER)
        line(f"another key, {cipher}", scheme, stem_of(encrypted)[0], stem_of(rotated)[0])
    small = {"img_size": 32, "patch_size": 8, "embed_dim": 48, "depth": 2, "num_heads": 2, "num_classes": 10}
    mixer = {"dim": 32, "depth": 2, "patch_size": 4, "kernel_size": 3, "num_classes": 10}
    for optimizer in OPTIMIZERS:
        tuned = copy.deepcopy(te.encrypt_model(plain, KEY))
        tuned.reset_classifier(10)
        train("fine-tuned ConvMixer", tuned, optimizer, 4)
        scratch = te.encrypt_model(timm.create_model("vit_tiny_patch16_224", **small), KEY)
        train("ViT from scratch", scratch, optimizer, 16)
        scratch = te.encrypt_model(timm.create_model("convmixer_custom", **mixer), KEY, mean=(0.5,) * 3, std=(0.5,) * 3)
        train("ConvMixer from scratch", scratch, optimizer, 16)


def normalisation(scheme: te.Scheme) -> tuple[tuple[float, ...], tuple[float, ...]]:
    assert scheme.plain is not None
    return scheme.plain.mean, scheme.plain.std


if __name__ == "__main__":
    main()
