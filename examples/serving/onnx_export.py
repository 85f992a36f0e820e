"""Write an encrypted model as an ONNX file, for ONNX Runtime and Triton. It reads pixels: servers have nothing to preprocess.

Input `pixels`: uint8, (N, H, W, C), ciphertext as it is in its file. Output `logits`: float32, (N, classes). The file holds
config.json of the model too, as metadata with the name `config`.

Needs timm only, with onnx and onnxscript. Run: python examples/serving/onnx_export.py encrypted model.onnx
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import timm
import torch
from ciphertext import read_config
from torch import nn


class FromPixels(nn.Module):
    """The model with its preprocessing: scaling and normalisation by its own config.

    Args:
        model: As timm loads it.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        data = timm.data.resolve_model_data_config(model)
        self.register_buffer("mean", torch.tensor(data["mean"]).reshape(-1, 1, 1))
        self.register_buffer("std", torch.tensor(data["std"]).reshape(-1, 1, 1))

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Return the logits of uint8 pixels, (N, H, W, C)."""
        return self.model((pixels.permute(0, 3, 1, 2) / 255 - self.mean) / self.std)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="encrypted model: encmixer model encrypt or encmixer model pull wrote it")
    parser.add_argument("onnx", type=Path, help="file to write")
    arguments = parser.parse_args()

    try:
        config = read_config(arguments.folder, timm.is_model)
    except ValueError as error:
        raise SystemExit(f"onnx_export.py: {error}") from None
    model = timm.create_model(f"local-dir:{arguments.folder}", pretrained=True).eval()
    channels, height, width = config["pretrained_cfg"]["input_size"]
    program = torch.onnx.export(
        FromPixels(model).eval(),
        (torch.zeros(2, height, width, channels, dtype=torch.uint8),),
        input_names=["pixels"],
        output_names=["logits"],
        dynamic_shapes=({0: torch.export.Dim("batch")},),
        dynamo=True,
        verbose=False,
    )
    program.model.metadata_props["config"] = json.dumps(config)
    program.save(arguments.onnx)
    print(f"{arguments.onnx}: pixels (N, {height}, {width}, {channels}) -> logits (N, {config['num_classes']})")


if __name__ == "__main__":
    main()
