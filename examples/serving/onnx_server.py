"""ONNX Runtime: serve an encrypted model over HTTP, from the one file that onnx_export.py wrote.

Needs no extra and no torch: onnxruntime, fastapi, uvicorn, numpy, Pillow.
Run: python examples/serving/onnx_server.py model.onnx --port 8000
"""

from __future__ import annotations

import argparse

import numpy as np
import onnxruntime
import uvicorn
from ciphertext import checked_config, open_ciphertext
from fastapi import FastAPI, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel


class Inputs(BaseModel):
    """A request: base64 of a ciphertext file."""

    inputs: str


def application(path: str) -> FastAPI:
    """Return the server of an ONNX file.

    Raises:
        ValueError: onnx_export.py did not write it.
    """
    try:
        session = onnxruntime.InferenceSession(path)
    except Exception as error:  # ONNX Runtime's errors have no class in common
        raise ValueError(f"{path}: expected an ONNX file, got {type(error).__name__}; onnx_export.py writes one") from error
    config = checked_config(session.get_modelmeta().custom_metadata_map.get("config", ""), path)
    app = FastAPI()

    @app.exception_handler(RequestValidationError)
    def refuse(request: Request, error: RequestValidationError) -> JSONResponse:
        """FastAPI itself would send back what came."""
        return JSONResponse({"detail": 'request: expected {"inputs": base64 of a ciphertext file}, got something else'}, 422)

    @app.get("/health")
    def health() -> str:
        return "ok"

    @app.post("/predict")
    def predict(request: Inputs) -> dict[str, list[float]]:
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
    try:
        app = application(arguments.onnx)
    except ValueError as error:
        raise SystemExit(f"onnx_server.py: {error}") from None
    uvicorn.run(app, host=arguments.host, port=arguments.port)
