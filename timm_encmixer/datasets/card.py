"""The card of an encrypted data set: the source's own, with a part that says what was done and what it does not protect."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from huggingface_hub import DatasetCard

from timm_encmixer.checkpoints.record import RECORD_NAME
from timm_encmixer.datasets.layout import Layout
from timm_encmixer.datasets.ledger import MANIFEST, Ledger
from timm_encmixer.datasets.sources import DatasetSource
from timm_encmixer.hub.card_section import CARD_NAME, place_section, read_card
from timm_encmixer.scheme import Scheme

TAGS = ("encmixer", "perceptual-encryption")
_SIZES = ("splits", "download_size", "dataset_size")  # of the plain files; `datasets` compares them


def write_card(source: DatasetSource, layout: Layout, ledger: Ledger, manifest: Mapping[str, Any]) -> None:
    """Write README.md: the source's text and metadata (its configurations name the splits), and our part.

    The card of decrypted data is the source's without our part's claims: only its sizes are dropped.

    Raises:
        SourceError: The metadata of the source's card cannot be read.
    """
    text = "---\n{}\n---\n"
    if layout.card:
        with source.local(CARD_NAME, ledger.scratch) as path:
            text = path.read_text(encoding="utf-8", errors="replace")
    elif RECORD_NAME not in manifest:
        return
    card = read_card(DatasetCard, text, where=f"{source.where}/{CARD_NAME}")
    _drop_sizes(card.data)
    if RECORD_NAME in manifest:
        data: Any = card.data
        data.tags = [*dict.fromkeys([*(getattr(data, "tags", None) or ()), *TAGS])]
        place_section(card, _section(manifest))
    else:
        place_section(card, "Decrypted with `timm-encmixer`: the images are the plain model's input, no longer ciphertext.")
    with ledger.writing(CARD_NAME) as new:
        new.write_text(str(card), encoding="utf-8")


def _drop_sizes(data: Any) -> None:
    """Forget the sizes of the plain files; features stay."""
    info = getattr(data, "dataset_info", None)
    for entry in info if isinstance(info, list) else [info]:
        if isinstance(entry, dict):
            for name in _SIZES:
                entry.pop(name, None)


def _section(manifest: Mapping[str, Any]) -> str:
    scheme = Scheme.from_dict(manifest[RECORD_NAME])
    totals = manifest["totals"]
    size = " x ".join(map(str, scheme.plain.input_size[1:])) + " px" if scheme.plain is not None else "as they were"
    left_out = (
        f" {totals['bad']} samples could not be used and were left out; `{MANIFEST}` lists them." if totals["bad"] else ""
    )
    row = (f"`{scheme.cipher}`", f"{scheme.patch_size} px", scheme.in_chans, size, f"`{scheme.fingerprint}`", totals["images"])
    return "\n\n".join(
        [
            "## Encrypted images",
            f"The {totals['images']} images are ciphertext for encrypted models with the key `{scheme.fingerprint}`, made with "
            f"`timm-encmixer` from `{manifest['source']}`.{left_out} Labels and all other columns are as they were. Keep the "
            "images as PNG: JPEG or resizing destroys them.",
            "| cipher | block | channels | image size | key fingerprint | images |\n|---|---|---|---|---|---|\n"
            f"| {' | '.join(map(str, row))} |",
            f"`{MANIFEST}` holds the record and the SHA-256 of every shard; `encmixer dataset info --verify` compares them.",
            "### What the key does not protect",
            "- The key is access control and visual obfuscation at no cost. It does not make images confidential.\n"
            "- Anyone who studies many of these images can compute the key from their statistics; one image both plain and "
            "encrypted is enough.\n"
            "- Other columns are plain: captions, thumbnails or embeddings may show what the images show.\n"
            "- With `shuffle`, the mean of every block survives: a small picture of a large image.",
        ]
    )
