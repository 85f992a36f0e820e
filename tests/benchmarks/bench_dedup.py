"""How much of a 200 MB model moves when its key is rotated on the Hub, by hf_xet's own deduplication metrics.

Uploads go to a Xet store in a local folder. Only the stem's chunks differ, because a rewritten checkpoint keeps all other
tensors' bytes and their order. The bound is 1.5%.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import hf_xet
import timm
import torch
from safetensors.torch import save_file

import timm_encmixer as te


def upload(cas: Path, *files: Path) -> hf_xet.DeduplicationMetrics:
    commit = hf_xet.XetSession().new_upload_commit(endpoint=f"local://{cas}")
    for file in files:
        commit.start_upload_file(str(file))
    return commit.wait_to_finish().dedup_metrics


def main() -> None:
    torch.manual_seed(0)
    model = timm.create_model("convmixer_1536_20")
    keys = te.SecretKey(bytes(32)), te.SecretKey(bytes([1]) * 32)
    with tempfile.TemporaryDirectory() as scratch:
        folder, cas = Path(scratch), Path(scratch) / "cas"
        cas.mkdir()
        save_file(model.state_dict(), folder / "plain.safetensors")
        te.encrypt_checkpoint(folder / "plain.safetensors", folder / "a.safetensors", keys[0], arch="convmixer_1536_20")
        te.rotate_checkpoint(folder / "a.safetensors", folder / "b.safetensors", *keys)
        te.seal_model(folder / "b.safetensors", folder / "b.age", passphrase="benchmark")
        print(f"{'upload':<28}{'bytes':>13}{'moved':>13}{'share':>9}")
        for name, file in (("first key", "a.safetensors"), ("second key", "b.safetensors"), ("second key, sealed", "b.age")):
            metrics = upload(cas, folder / file)
            share = metrics.total_bytes_uploaded / metrics.total_bytes
            print(f"{name:<28}{metrics.total_bytes:>13,}{metrics.total_bytes_uploaded:>13,}{share:>9.2%}")


if __name__ == "__main__":
    main()
