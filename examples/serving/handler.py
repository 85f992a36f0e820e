"""Inference Endpoints of the Hugging Face Hub: run an encrypted model on ciphertext. It belongs in the model's repository.

Needs timm only, which requirements.txt beside it names. docs/serving.md says how to send the three files to the repository.
"""

from __future__ import annotations

from typing import Any

import timm
import torch
from ciphertext import open_ciphertext, read_config


class EndpointHandler:
    """What the endpoint makes of its repository, and calls for every request.

    Args:
        path: The folder of the repository.

    Raises:
        ValueError: It is not the folder of an encrypted model, or timm does not know the model's shape.
    """

    def __init__(self, path: str = "") -> None:
        self.config = read_config(path, timm.is_model)
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        self.model = timm.create_model(f"local-dir:{path}", pretrained=True).eval().to(self.device)
        self.transform = timm.data.create_transform(**timm.data.resolve_model_data_config(self.model))

    @torch.inference_mode()
    def __call__(self, data: dict[str, Any]) -> dict[str, list[float]]:
        """Return the logits of `data["inputs"]`: an image that the endpoint opened, or base64 of a file.

        Raises:
            ValueError: It is not ciphertext for this model. The endpoint answers with the text and HTTP 400.
        """
        image = open_ciphertext(data.get("inputs"), self.config)
        logits = self.model(self.transform(image)[None].to(self.device))
        return {"logits": logits[0].tolist()}
