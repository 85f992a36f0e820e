"""Pictures of how an attack fares with more, or less, of what its attacker holds."""

from __future__ import annotations

from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from timm_encmixer.audit.attack import BROKEN_DB, BROKEN_SHARE, Result

_SHARES = {"recovered": "recovered", "accuracy": "accuracy"}
_NO_SHARES = ("x", "psnr_db", "ssim", "seen_psnr_db", "seen_ssim")
_WIDE = 20  # the axis is logarithmic if its last value is more than so many times its first


def draw_curve(result: Result, path: Path, *, plain_accuracy: float | None) -> None:
    """Write a PNG with the shares of an attack's curve, and beside them its PSNR if it recovers images.

    Args:
        result: Of an attack with a curve.
        path: File to write.
        plain_accuracy: Drawn as a line to compare with; None draws no line.
    """
    images = any(point["psnr_db"] is not None for point in result.curve)
    figure = Figure(figsize=(8 if images else 4.5, 3), layout="constrained")
    panels = figure.subplots(1, 2 if images else 1, squeeze=False)[0]
    for name in dict.fromkeys(name for point in result.curve for name in point):
        values = [point.get(name) for point in result.curve]
        if name not in _NO_SHARES and any(value is not None for value in values):
            _draw(panels[0], result, values, _SHARES.get(name, name))
    if plain_accuracy is not None:
        panels[0].axhline(plain_accuracy, color="grey", linestyle=":", label="accuracy, plain model")
    panels[0].set(ylim=(-0.03, 1.05), ylabel="share")
    panels[0].legend(fontsize="small")
    if images:
        _draw(panels[1], result, [point["psnr_db"] for point in result.curve], "")
        panels[1].axhline(BROKEN_DB, color="grey", linestyle=":")
        panels[1].set(ylabel="PSNR in dB", ylim=(0, None))
    else:
        panels[0].axhline(BROKEN_SHARE, color="grey", linestyle=":", linewidth=0.5)
    figure.savefig(path, format="png", dpi=120)


def _draw(axes: Axes, result: Result, values: list[float | None], label: str) -> None:
    points = [(point["x"] or 0.0, value) for point, value in zip(result.curve, values, strict=True) if value is not None]
    places, heights = zip(*sorted(points), strict=True)
    axes.plot(places, heights, marker="o", label=label)
    axes.set_xlabel(result.curve_label)
    if places[0] > 0 and places[-1] > _WIDE * places[0]:
        axes.set_xscale("log")
