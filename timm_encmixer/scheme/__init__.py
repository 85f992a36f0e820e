"""The public record of an encryption, and what is known of the ciphers that it names."""

from timm_encmixer.scheme.cipher_facts import BLOCK_CIPHERS as BLOCK_CIPHERS
from timm_encmixer.scheme.cipher_facts import CIPHERS as CIPHERS
from timm_encmixer.scheme.cipher_facts import DEFAULT_CIPHER as DEFAULT_CIPHER
from timm_encmixer.scheme.cipher_facts import ETC as ETC
from timm_encmixer.scheme.cipher_facts import JPEG_CIPHERS as JPEG_CIPHERS
from timm_encmixer.scheme.cipher_facts import PARTS as PARTS
from timm_encmixer.scheme.cipher_facts import SCRAMBLE as SCRAMBLE
from timm_encmixer.scheme.cipher_facts import SCRAMBLING_CIPHERS as SCRAMBLING_CIPHERS
from timm_encmixer.scheme.cipher_facts import SUB_BLOCK_PX as SUB_BLOCK_PX
from timm_encmixer.scheme.cipher_facts import CipherFacts as CipherFacts
from timm_encmixer.scheme.cipher_facts import Part as Part
from timm_encmixer.scheme.cipher_facts import facts_of as facts_of
from timm_encmixer.scheme.preprocessing import LARGEST_NORMALISATION as LARGEST_NORMALISATION
from timm_encmixer.scheme.preprocessing import Preprocessing as Preprocessing
from timm_encmixer.scheme.record import MID_GREY as MID_GREY
from timm_encmixer.scheme.record import NOTE_PREFIX as NOTE_PREFIX
from timm_encmixer.scheme.record import PATCH_PX as PATCH_PX
from timm_encmixer.scheme.record import RECORD_VERSIONS as RECORD_VERSIONS
from timm_encmixer.scheme.record import Scheme as Scheme
from timm_encmixer.scheme.record import scheme_in_notes as scheme_in_notes
