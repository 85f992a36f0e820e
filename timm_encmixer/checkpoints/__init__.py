"""Models on disk and on the Hub: safetensors and config.json, read, written, encrypted and sealed."""
