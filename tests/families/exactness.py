"""Does the encrypted model compute what the plain one does? Measured in float64, on random weights and a random image.

    python tests/families/exactness.py --out tests/families/exactness.jsonl      # all of timm that fits in memory
    python tests/families/exactness.py --cipher shuffle-planes --out tests/families/exactness-planes.jsonl
    python tests/families/exactness.py --cipher etc --out tests/families/exactness-etc.jsonl     # those with blocks that fit

One JSON line a model, the smallest first: the largest difference of features and of logits, as a share of their standard
deviation, with one cipher and, where blocks can be scrambled, with them scrambled. What is in the file already is not
measured again.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import timm
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

import timm_encmixer as te
from timm_encmixer.images.tensors import normalise
from timm_encmixer.models.bare import bare_model
from timm_encmixer.models.support import Support, Table
from timm_encmixer.scheme import DEFAULT_CIPHER, facts_of

KEY = te.SecretKey(bytes(range(32)))
BOUND = 1e-9  # of a standard deviation; float64 rounds at 1e-16
SCRAMBLING = f"{DEFAULT_CIPHER}+scramble"


class _Float64(TorchFunctionMode):
    """Keeps float64 where a model asks for float32, as timm's RmsNormFp32 does: that hides differences, or rounds two ways."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        asked = func is torch.Tensor.float or (func is torch.Tensor.to and torch.float32 in (*args[1:], *kwargs.values()))
        return args[0] if asked and args[0].dtype == torch.float64 else func(*args, **kwargs)


@torch.inference_mode()
def measure(name: str, *, scramble: bool, images: int = 1, cipher: str = DEFAULT_CIPHER, **overrides: Any) -> dict[str, Any]:
    """Return the differences between a plain model and its encryption.

    Args:
        name: timm's name.
        scramble: Measure the logits with scrambled blocks too.
        images: How many.
        cipher: That the model is encrypted with.
        **overrides: Arguments of the architecture, to make a smaller one.
    """
    model = lively(timm.create_model(name, **overrides).double(), name)
    encrypted = te.encrypt_model(model, KEY)
    size = encrypted.encmixer.plain.input_size
    pixels = torch.rand(images, *size, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    mean, std = (torch.tensor(model.pretrained_cfg[field], dtype=torch.float64).reshape(-1, 1, 1) for field in ("mean", "std"))
    plain_input = (pixels - mean) / std
    settle(model, plain_input)
    features, logits = both(model, plain_input)
    encrypted = te.encrypt_model(model, KEY, cipher=cipher)
    keyed_features, keyed_logits = both(encrypted, sent(encrypted, pixels))
    result = {
        "model": name,
        "features": difference(features, keyed_features),
        "logits": difference(logits, keyed_logits),
        "wrong": difference(logits, both(model, sent(encrypted, pixels))[1]) if images > 1 else None,
    }
    if scramble:
        scrambled = te.encrypt_model(model, KEY, cipher=f"{cipher}+scramble")
        result["scrambled logits"] = difference(logits, both(scrambled, sent(scrambled, pixels))[1])
    return {field: value for field, value in result.items() if value is not None}


def lively(model: nn.Module, name: str) -> nn.Module:
    """Give a fresh model weights that let the answer depend on the image: heads, scales and biases are constant at first."""
    generator = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        if parameter.numel() > 1 and bool((parameter == parameter.flatten()[0]).all()):
            parameter.add_(torch.empty_like(parameter).normal_(std=0.05, generator=generator))
    return model.eval()


def settle(model: nn.Module, inputs: Tensor) -> None:
    """Set the statistics of BatchNorm by these inputs."""
    norms = [module for module in model.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    for norm in norms:
        norm.momentum = None
        norm.train()
    if norms:
        model(torch.cat([inputs, inputs.flip(-1)]))
        model.eval()


def both(model: nn.Module, inputs: Tensor) -> tuple[Tensor, Tensor]:
    """Return features before the pooling, and the logits, or what a model without a head gives."""
    untyped: Any = model
    with _Float64():
        features = untyped.forward_features(inputs)
        try:
            logits = untyped.forward_head(features)
        except NotImplementedError:  # an encoder for other models, which takes no answer of its own
            logits = model(inputs)
    return tensor_of(features), tensor_of(logits)


def tensor_of(answer: Any) -> Tensor:
    """Return one tensor of an answer that may be several."""
    if isinstance(answer, Tensor):
        return answer
    parts = answer.values() if isinstance(answer, dict) else answer
    return torch.cat([tensor_of(part).flatten() for part in parts if part is not None])


def sent(encrypted: nn.Module, pixels: Tensor) -> Tensor:
    """Return what a client makes of plain pixels for an encrypted model."""
    return normalise(te.BlockCipher(KEY, encrypted.encmixer).encrypt(pixels), torch.float64, scheme=encrypted.encmixer)


def difference(one: Tensor, other: Tensor) -> float:
    """Return the largest difference as a share of the first one's standard deviation."""
    return float((one - other).abs().max() / one.std())


def cost(support: Support) -> float:
    """Return the parameters of a model times its blocks, about half its multiplications for a flat one."""
    blocks = support.input_size[1] * support.input_size[2] / support.patch_size**2
    return parameters(support) * blocks


def parameters(support: Support) -> int:
    """Return how many numbers a model's weights are."""
    return sum(parameter.numel() for parameter in bare_model(support.name, None, where=support.name).parameters())


def main() -> None:
    """Measure what is not measured yet, smallest first."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--cipher", default=DEFAULT_CIPHER, help=f"without +scramble [{DEFAULT_CIPHER}]")
    parser.add_argument("--gib", type=float, default=12.0, help="weights that fit in memory, in float64 [12]")
    parser.add_argument("--minutes", type=float, default=600.0, help="begin no model after so long")
    arguments = parser.parse_args()
    lines = arguments.out.read_text().splitlines() if arguments.out.exists() else []
    done = {json.loads(line)["model"] for line in lines}
    todo = [support for support in Table.read().models.values() if support.supported and support.name not in done]
    todo = [support for support in todo if facts_of(arguments.cipher).fits(support.patch_size)]
    begun = time.monotonic()
    for support in sorted(todo, key=cost):
        if parameters(support) * 8 / 2**30 > arguments.gib or time.monotonic() - begun > 60 * arguments.minutes:
            print(f"{support.name}: left out")
            continue
        result = measure(support.name, scramble=not support.unscrambled, cipher=arguments.cipher)
        with arguments.out.open("a") as file:
            file.write(json.dumps(result) + "\n")
        worst = max(value for field, value in result.items() if field != "model")
        print(f"{support.name}: {worst:.1e}{'' if worst < BOUND else '  NOT EXACT'}", flush=True)


if __name__ == "__main__":
    main()
