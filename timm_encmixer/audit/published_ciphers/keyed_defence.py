"""What the three transforms of AprilPyone and Kiya's keyed defence share: their source and purpose."""

from __future__ import annotations

KEYED_DEFENCE = (
    "AprilPyone and Kiya, Block-wise Image Transformation with Secret Key for Adversarially Robust Defense, IEEE TIFS 16, "
    "2021, arXiv 2010.00801"
)
AGAINST_ADVERSARIES = "Defence of a model against adversarial images; it hides no image."
