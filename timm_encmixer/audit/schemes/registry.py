"""All schemes, by name: the published ones, then controls, then this package's own."""

from __future__ import annotations

from timm_encmixer.audit.schemes.cfe import CFE
from timm_encmixer.audit.schemes.controls import AesCtr, Identity, Noise
from timm_encmixer.audit.schemes.ele import ELE
from timm_encmixer.audit.schemes.encmixer import EncMixer, EncMixerEtc
from timm_encmixer.audit.schemes.etc_blocks import EtcBlocks
from timm_encmixer.audit.schemes.ffx_blocks import FFX
from timm_encmixer.audit.schemes.instahide import InstaHide
from timm_encmixer.audit.schemes.le import LE
from timm_encmixer.audit.schemes.neuracrypt import NeuraCrypt
from timm_encmixer.audit.schemes.np_blocks import NP
from timm_encmixer.audit.schemes.pixelwise import Pixelwise, PixelwisePerImage
from timm_encmixer.audit.schemes.scheme import PublishedScheme
from timm_encmixer.audit.schemes.shf import SHF
from timm_encmixer.audit.schemes.vit_blocks import VitBlocks

_SCHEMES: tuple[type[PublishedScheme], ...] = (
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
SCHEMES: dict[str, type[PublishedScheme]] = {scheme.name: scheme for scheme in _SCHEMES}
