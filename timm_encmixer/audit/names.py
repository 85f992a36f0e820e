"""The names of the attacks, in the order of the report: what the command line needs to know before it imports torch."""

from __future__ import annotations

from collections.abc import Iterable

from timm_encmixer.errors import AuditError, did_you_mean

ATTACK_NAMES = (
    "weights_only",
    "ciphertext_only_shuffle",
    "ciphertext_only_orthogonal",
    "ciphertext_only_etc",
    "public_base_weights",
    "finetuned_base_weights",
    "known_plaintext",
    "known_tables",
    "chosen_plaintext",
    "key_reuse",
    "inverse_network",
    "own_keys_network",
    "server_view",
    "thumbnail",
    "feature_reconstruction",
    "jigsaw",
    "blind_jigsaw",
    "random_key",
    "nearby_key",
    "stolen_model_finetune",
    "adversarial_transfer",
)


def check_names(names: Iterable[str], where: str, among: Iterable[str] | None = None) -> None:
    """Raise `AuditError` for a name that is no attack, or none of those in `among`."""
    allowed = ATTACK_NAMES if among is None else tuple(among)
    for name in names:
        if name not in allowed:
            remedy = did_you_mean(name, allowed, otherwise="choose among these")
            raise AuditError(where, f"names among {', '.join(allowed)}", repr(name), remedy)
