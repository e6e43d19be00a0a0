"""How pictures look: white ground, so that they are read on a light and on a dark page; no frame on top and right."""

from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

OURS, OTHER, SECOND, FAINT = "#1b6ca8", "#c8c8c8", "#e08e0b", "#8a8a8a"
_DPI = 120


def new_figure(width: float, height: float) -> Figure:
    """Inches."""
    return Figure(figsize=(width, height), dpi=_DPI, layout="constrained", facecolor="white")


def plain(panel: Axes) -> None:
    panel.spines[["top", "right"]].set_visible(False)


def save(figure: Figure, path: Path) -> None:
    figure.savefig(path, format="png", dpi=_DPI, facecolor="white")
