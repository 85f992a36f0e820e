"""The server: images from the output of the encrypted model's stem alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from timm_encmixer.audit.attack import BROKEN, HOLDS, PARTLY, Attack
from timm_encmixer.audit.effort import Effort, budgeted
from timm_encmixer.audit.material import Held
from timm_encmixer.audit.methods.alignment import align, inverse_root
from timm_encmixer.audit.methods.statistics import block_statistics, common
from timm_encmixer.audit.recovery import RecoveredImages
from timm_encmixer.ciphers.blocks import join


@dataclass(frozen=True, kw_only=True)
class ServerView(Attack):
    """The stem's outputs are an unknown linear image of every plain block, whatever the cipher.

    Both sides are whitened, which leaves an orthogonal matrix; covariances between neighbours give it.

    Args:
        points: As for every attack.
        starts: Starting points of the alignment.
    """

    starts: int = budgeted(12, 48)

    name = "server_view"
    place = 130
    attacker = "someone who runs the encrypted model, with nothing but the outputs of its stem"
    material = ("features", "public_statistics")
    citation = "our own"
    findings: ClassVar[Mapping[str, str]] = {
        BROKEN: "Reads every image that is sent for inference.",
        PARTLY: "Sees what the images show that are sent for inference.",
        HOLDS: "Does not get images from the stem's outputs.",
    }
    advice = "Run the model only where its input images may be seen."
    work = 3.9

    def attack(self, held: Held, effort: Effort) -> RecoveredImages:
        """Whiten, align, and undo the public photos' whitening."""
        public, scheme = held.public_statistics, held.scheme
        channels_last = held.features.permute(0, 2, 3, 1).double()
        raw = block_statistics([channels_last])
        values, vectors = torch.linalg.eigh(raw.within)
        kept = slice(-min(scheme.block_size, int((values > 1e-10 * values[-1]).sum())), None)
        white = vectors[:, kept] * values[kept].rsqrt()  # (dim, rank)
        seen = block_statistics([(channels_last - raw.mean) @ white])
        targets, references = common(seen, public)
        root = inverse_root(references[0])
        whitened = root @ references @ root
        if white.shape[1] < scheme.block_size:  # a narrow stem: keep the public directions of largest variance
            basis = torch.linalg.eigh(references[0])[1][:, -white.shape[1] :]
            back = torch.linalg.inv(root) @ basis
            whitened = basis.T @ whitened @ basis
        else:
            back = torch.linalg.inv(root)
        turn = align(
            targets[1:],
            whitened[1:],
            starts=self.starts,
            iterations=300,
            generator=effort.generator,
            track=effort.track,
        )
        unmix = back @ turn.T
        if float((unmix @ seen.light) @ public.light) < 0:
            unmix = -unmix

        def reconstruct(features: Tensor) -> Tensor:
            blocks = (features.permute(0, 2, 3, 1).double() - raw.mean) @ white @ unmix.T + public.mean + 0.5
            return join(blocks, scheme.in_chans, scheme.patch_size)

        return RecoveredImages(reconstruct, sees="features")
