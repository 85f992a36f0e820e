"""All of them by name: published ciphers, then controls, then this package's own ciphers."""

from __future__ import annotations

from timm_encmixer.audit.published_ciphers.cfe import CFE
from timm_encmixer.audit.published_ciphers.cipher import PublishedCipher
from timm_encmixer.audit.published_ciphers.controls import AesCtr, Identity, Noise
from timm_encmixer.audit.published_ciphers.ele import ELE
from timm_encmixer.audit.published_ciphers.encmixer import EncMixer, EncMixerEtc
from timm_encmixer.audit.published_ciphers.etc_blocks import EtcBlocks
from timm_encmixer.audit.published_ciphers.ffx_blocks import FFX
from timm_encmixer.audit.published_ciphers.instahide import InstaHide
from timm_encmixer.audit.published_ciphers.le import LE
from timm_encmixer.audit.published_ciphers.neuracrypt import NeuraCrypt
from timm_encmixer.audit.published_ciphers.np_blocks import NP
from timm_encmixer.audit.published_ciphers.pixelwise import Pixelwise, PixelwisePerImage
from timm_encmixer.audit.published_ciphers.shf import SHF
from timm_encmixer.audit.published_ciphers.vit_blocks import VitBlocks

_CLASSES: tuple[type[PublishedCipher], ...] = (
    LE,
    ELE,
    Pixelwise,
    PixelwisePerImage,
    EtcBlocks,
    SHF,
    NP,
    FFX,
    VitBlocks,
    CFE,
    NeuraCrypt,
    InstaHide,
    Identity,
    AesCtr,
    Noise,
    EncMixer,
    EncMixerEtc,
)
PUBLISHED_CIPHERS: dict[str, type[PublishedCipher]] = {cipher.name: cipher for cipher in _CLASSES}
