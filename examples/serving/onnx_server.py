"""ONNX Runtime: serve an encrypted model over HTTP, from the one file that onnx_export.py wrote.

Needs no extra and no torch: onnxruntime, fastapi, uvicorn, numpy, Pillow.
Run: python examples/serving/onnx_server.py model.onnx --port 8000
"""

from __future__ import annotations

import argparse
import json

import numpy as np
import onnxruntime
import uvicorn
from ciphertext import open_ciphertext
from fastapi import FastAPI, HTTPException
from pydantic import BaseModel


class Request(BaseModel):
    """A request: base64 of a ciphertext file."""

    inputs: str


def application(path: str) -> FastAPI:
    """Return the server of an ONNX file."""
    session = onnxruntime.InferenceSession(path)
    config = json.loads(session.get_modelmeta().custom_metadata_map["config"])
    app = FastAPI()

    @app.get("/health")
    def health() -> str:
        return "ok"

    @app.post("/predict")
    def predict(request: Request) -> dict[str, list[float]]:
        try:
            image = open_ciphertext(request.inputs, config)
        except ValueError as error:
            raise HTTPException(400, str(error)) from error
        pixels = np.asarray(image).reshape(1, image.height, image.width, -1)
        (logits,) = session.run(["logits"], {"pixels": pixels})
        return {"logits": logits[0].tolist()}

    return app


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("onnx", help="file that onnx_export.py wrote")
    parser.add_argument("--host", default="127.0.0.1", help="0.0.0.0 listens to other machines")
    parser.add_argument("--port", type=int, default=8000)
    arguments = parser.parse_args()
    uvicorn.run(application(arguments.onnx), host=arguments.host, port=arguments.port)
