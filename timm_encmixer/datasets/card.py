"""The card of an encrypted data set: the source's own, with a part that says what was done and what it does not protect."""

from __future__ import annotations

from typing import Any

from huggingface_hub import DatasetCard

from timm_encmixer.datasets.ledger import Ledger
from timm_encmixer.datasets.manifest import MANIFEST, Manifest
from timm_encmixer.datasets.preparation import with_configs
from timm_encmixer.datasets.readme import source_card
from timm_encmixer.datasets.sources import SourceTree
from timm_encmixer.hub.card_section import CARD_NAME, place_section
from timm_encmixer.images.file_format import ciphertext_formats
from timm_encmixer.scheme import Scheme

TAGS = ("encmixer", "perceptual-encryption")


def write_card(source: SourceTree, ledger: Ledger, manifest: Manifest, configs: list[dict[str, Any]]) -> None:
    """Write README.md: the source's text and metadata, and our part.

    The card of decrypted data is the source's without our part's claims.

    Args:
        source: The source.
        ledger: Of the target.
        manifest: What was done.
        configs: The configurations, as `prepare` returned them.

    Raises:
        SourceError: The metadata of the source's card cannot be read.
    """
    found = source_card(source)
    if found is None and manifest.record is None:
        return
    card = with_configs(found if found is not None else DatasetCard("---\n{}\n---\n"), configs)
    if manifest.record is not None:
        data: Any = card.data
        data.tags = [*dict.fromkeys([*(getattr(data, "tags", None) or ()), *TAGS])]
        place_section(card, _section(manifest, Scheme.from_dict(manifest.record)))
    else:
        place_section(card, "Decrypted with `timm-encmixer`: the images are the plain model's input, no longer ciphertext.")
    with ledger.writing(CARD_NAME) as new:
        new.write_text(str(card), encoding="utf-8")


def _keep(scheme: Scheme) -> str:
    return ciphertext_formats(scheme)[-1].advice  # PNG is the first, and the strictest


def _section(manifest: Manifest, scheme: Scheme) -> str:
    totals = manifest.totals
    size = " x ".join(map(str, scheme.plain.input_size[1:])) + " px" if scheme.plain is not None else "as they were"
    left_out = f" {totals.bad} samples could not be used and were left out; `{MANIFEST}` lists them." if totals.bad else ""
    row = (f"`{scheme.cipher}`", f"{scheme.patch_size} px", scheme.in_chans, size, f"`{scheme.fingerprint}`", totals.images)
    return "\n\n".join(
        [
            "## Encrypted images",
            f"The {totals.images} images are ciphertext for encrypted models with the key `{scheme.fingerprint}`, made with "
            f"`timm-encmixer` from `{manifest.source}`.{left_out} Labels and all other columns are as they "
            f"were. {_keep(scheme)}",
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
