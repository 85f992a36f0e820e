"""LitServe: serve an encrypted model over HTTP, with stock timm.

Needs litserve and timm only. Run: python examples/serving/litserve_server.py encrypted --port 8000
"""

import argparse  # no `from __future__ import annotations`: LitServe reads the type of a request
from pathlib import Path

import litserve
import timm
import torch
from ciphertext import open_ciphertext, read_config
from fastapi import HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel


class Inputs(BaseModel):
    """A request: base64 of a ciphertext file."""

    inputs: str


class EncryptedModel(litserve.LitAPI):
    """Answers a request with {"logits": [...]}.

    No `max_batch_size`: LitServe refuses a whole batch for one refused image.

    Args:
        folder: Of the encrypted model.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder

    def setup(self, device: str) -> None:
        """Load the model, once in every worker."""
        self.config = read_config(self.folder, timm.is_model)
        self.model = timm.create_model(f"local-dir:{self.folder}", pretrained=True).eval().to(device)
        self.transform = timm.data.create_transform(**timm.data.resolve_model_data_config(self.model))
        self.torch_device = device

    def decode_request(self, request: Inputs) -> torch.Tensor:
        """Return the model's input, or refuse the request."""
        try:
            return self.transform(open_ciphertext(request.inputs, self.config))[None]
        except ValueError as error:
            raise HTTPException(400, str(error)) from error

    @torch.inference_mode()
    def predict(self, images: torch.Tensor) -> torch.Tensor:
        """Return the logits."""
        return self.model(images.to(self.torch_device))

    def encode_response(self, logits: torch.Tensor) -> dict[str, list[float]]:
        """Return what is sent."""
        return {"logits": logits[0].tolist()}


def refuse(request: Request, error: RequestValidationError) -> JSONResponse:
    """FastAPI itself would send back what came."""
    return JSONResponse({"detail": 'request: expected {"inputs": base64 of a ciphertext file}, got something else'}, 422)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="encrypted model: encmixer model encrypt or encmixer model pull wrote it")
    parser.add_argument("--host", default="127.0.0.1", help="0.0.0.0 listens to other machines")
    parser.add_argument("--port", type=int, default=8000)
    arguments = parser.parse_args()
    try:
        read_config(arguments.folder, timm.is_model)  # here too, where the workers have not started
    except ValueError as error:
        raise SystemExit(f"litserve_server.py: {error}") from None
    server = litserve.LitServer(EncryptedModel(arguments.folder), max_payload_size=10_000_000)  # bytes
    server.app.add_exception_handler(RequestValidationError, refuse)
    server.run(host=arguments.host, port=arguments.port, generate_client_file=False)
