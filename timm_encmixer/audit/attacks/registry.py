"""All attacks, by name, in the order of the report."""

from __future__ import annotations

from timm_encmixer.audit.attack import Attack
from timm_encmixer.audit.attacks.adversarial_transfer import AdversarialTransfer
from timm_encmixer.audit.attacks.blind_jigsaw import BlindJigsaw
from timm_encmixer.audit.attacks.chosen_plaintext import ChosenPlaintext
from timm_encmixer.audit.attacks.ciphertext_only_etc import CiphertextOnlyEtc
from timm_encmixer.audit.attacks.ciphertext_only_orthogonal import CiphertextOnlyOrthogonal
from timm_encmixer.audit.attacks.ciphertext_only_shuffle import CiphertextOnlyShuffle
from timm_encmixer.audit.attacks.feature_reconstruction import FeatureReconstruction
from timm_encmixer.audit.attacks.inverse_network import InverseNetwork
from timm_encmixer.audit.attacks.jigsaw import Jigsaw
from timm_encmixer.audit.attacks.key_reuse import KeyReuse
from timm_encmixer.audit.attacks.known_plaintext import KnownPlaintext
from timm_encmixer.audit.attacks.known_tables import KnownTables
from timm_encmixer.audit.attacks.own_keys_network import OwnKeysNetwork
from timm_encmixer.audit.attacks.public_base_weights import FinetunedBaseWeights, PublicBaseWeights
from timm_encmixer.audit.attacks.random_key import NearbyKey, RandomKey
from timm_encmixer.audit.attacks.server_view import ServerView
from timm_encmixer.audit.attacks.stolen_model_finetune import StolenModelFinetune
from timm_encmixer.audit.attacks.thumbnail import Thumbnail
from timm_encmixer.audit.attacks.weights_only import WeightsOnly

_ATTACKS: tuple[type[Attack], ...] = (
    WeightsOnly,
    CiphertextOnlyShuffle,
    CiphertextOnlyOrthogonal,
    CiphertextOnlyEtc,
    PublicBaseWeights,
    FinetunedBaseWeights,
    KnownPlaintext,
    KnownTables,
    ChosenPlaintext,
    KeyReuse,
    InverseNetwork,
    OwnKeysNetwork,
    ServerView,
    Thumbnail,
    FeatureReconstruction,
    Jigsaw,
    BlindJigsaw,
    RandomKey,
    NearbyKey,
    StolenModelFinetune,
    AdversarialTransfer,
)
ATTACKS: dict[str, type[Attack]] = {attack.name: attack for attack in _ATTACKS}  # the names are those of ATTACK_NAMES
