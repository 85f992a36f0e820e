"""What the ciphers are: one table of their parts. Everything else asks it, and compares no names.

The JavaScript client and the tables in the documents are made from it (`make ciphers`).
Source: docs/format.md, "Ciphers".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from timm_encmixer.errors import SchemeError

SUB_BLOCK_PX = 8  # side of a block of JPEG's transform
Moves = Literal["nothing", "numbers", "numbers of a channel", "sub-blocks", "blocks"]


@dataclass(frozen=True, kw_only=True)
class Part:
    """One part of a cipher's name, and what it does to images.

    Args:
        name: As it stands between the `+` of a cipher's name.
        words: What it does, for people.
        moves: What changes its place: nothing, any number of a block, numbers within their colour channel, squares of 8 x 8 px
            with all their channels, or whole blocks.
        inverts: Whether some values are reflected about mid-grey: 255 - x.
        exact: Whether uint8 images stay uint8 and decrypt bit for bit. Other parts mix all numbers of a block.
        takes_jpeg: Whether ciphertext may be compressed as JPEG, with the loss that the plain image would have.
        side_multiple: The side of a block is a multiple of so many pixels.
        mixes_channels: Whether a number may come to another colour channel.
        keeps_normalisation: Whether ciphertext is normalised by the plain model's mean and std, not by 1/2 and 1/2. Then the
            normalisation leaves no constant. Only parts that neither invert nor mix channels can.
        since: Version of the record that knows it.
    """

    name: str
    words: str
    moves: Moves = "nothing"
    inverts: bool = False
    exact: bool = True
    takes_jpeg: bool = False
    side_multiple: int = 1
    mixes_channels: bool = False
    keeps_normalisation: bool = False
    since: int = 1


PARTS = {
    part.name: part
    for part in (
        Part(name="shuffle", words="permutes the numbers of a block", moves="numbers", mixes_channels=True),
        Part(name="negpos", words="inverts half of the numbers of a block", inverts=True),
        Part(name="orthogonal", words="multiplies each block by a random orthogonal matrix", exact=False, mixes_channels=True),
        Part(
            name="shuffle-planes",
            words="permutes the numbers of each colour channel of a block",
            moves="numbers of a channel",
            keeps_normalisation=True,
            since=5,
        ),
        Part(
            name="etc",
            words="moves, turns, inverts and recolours squares of 8 x 8 px",
            moves="sub-blocks",
            inverts=True,
            takes_jpeg=True,
            side_multiple=SUB_BLOCK_PX,
            mixes_channels=True,
            since=4,
        ),
        Part(name="scramble", words="permutes the blocks", moves="blocks", since=3),
    )
}
DEFAULT_CIPHER = "shuffle+negpos"
SCRAMBLE = "scramble"
ETC = "etc"


@dataclass(frozen=True)
class CipherFacts:
    """What is known of a cipher: parts that are applied one after the other.

    Args:
        name: The names of its parts, with `+` between them.
        parts: The parts, in the order in which they are applied.
    """

    name: str
    parts: tuple[Part, ...]

    @property
    def scrambles(self) -> bool:
        """Whether the blocks change places, so that images have one size."""
        return any(part.moves == "blocks" for part in self.parts)

    @property
    def within_blocks(self) -> CipherFacts | None:
        """The cipher without what moves the blocks; None where nothing is left."""
        parts = tuple(part for part in self.parts if part.moves != "blocks")
        return _joined(parts) if parts else None

    @property
    def moves(self) -> bool:
        """Whether numbers of a block change their places."""
        return any(part.moves not in ("nothing", "blocks") for part in self.parts)

    @property
    def moves_sub_blocks(self) -> bool:
        """Whether squares of 8 x 8 px stay together, so that there are few keys."""
        return any(part.moves == "sub-blocks" for part in self.parts)

    @property
    def inverts(self) -> bool:
        """Whether some numbers of a block are reflected about mid-grey."""
        return any(part.inverts for part in self.parts)

    @property
    def exact(self) -> bool:
        """Whether uint8 images stay uint8 and decrypt bit for bit."""
        return all(part.exact for part in self.parts)

    @property
    def takes_jpeg(self) -> bool:
        """Whether ciphertext may be compressed as JPEG."""
        return any(part.takes_jpeg for part in self.parts)

    @property
    def mixes_channels(self) -> bool:
        """Whether a number may come to another colour channel."""
        return any(part.mixes_channels for part in self.parts)

    @property
    def keeps_means(self) -> bool:
        """Whether a block keeps the mean of its numbers."""
        return self.exact and not self.inverts

    @property
    def keeps_normalisation(self) -> bool:
        """Whether ciphertext is normalised by the plain model's mean and std."""
        return any(part.keeps_normalisation for part in self.parts)

    @property
    def side_multiple(self) -> int:
        """The side of a block is a multiple of so many pixels."""
        return max(part.side_multiple for part in self.parts)

    @property
    def since(self) -> int:
        """Lowest version of a record that knows it."""
        return max(part.since for part in self.parts)

    def fits(self, patch_px: int) -> bool:
        """Whether blocks may have this side in pixels."""
        return patch_px % self.side_multiple == 0


def _joined(parts: tuple[Part, ...]) -> CipherFacts:
    return CipherFacts("+".join(part.name for part in parts), parts)


def _made(*names: str) -> CipherFacts:
    return _joined(tuple(PARTS[name] for name in names))


_OF_BLOCKS = [
    _made("shuffle"),
    _made("negpos"),
    _made("shuffle", "negpos"),
    _made("orthogonal"),
    _made("shuffle-planes"),
    _made("etc"),
]
_SCRAMBLING = [_made(SCRAMBLE), *(_joined((*cipher.parts, PARTS[SCRAMBLE])) for cipher in _OF_BLOCKS)]
_TABLE = {cipher.name: cipher for cipher in (*_OF_BLOCKS, *_SCRAMBLING)}

CIPHERS = tuple(_TABLE)
BLOCK_CIPHERS = tuple(cipher.name for cipher in _OF_BLOCKS)
SCRAMBLING_CIPHERS = tuple(cipher.name for cipher in _SCRAMBLING)
JPEG_CIPHERS = tuple(name for name, cipher in _TABLE.items() if cipher.takes_jpeg)


def facts_of(name: str) -> CipherFacts:
    """Return what is known of a cipher.

    Raises:
        SchemeError: There is no cipher of this name.
    """
    found = _TABLE.get(name) if isinstance(name, str) else None
    if found is None:
        raise SchemeError("cipher", f"one of {', '.join(CIPHERS)}", repr(name)[:100], "choose one of these")
    return found
