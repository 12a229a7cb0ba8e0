"""t-SNE of what a layer says of images: the embedding, and its figure."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..core.classes import REFERENCE_CLASSIFIER
from ..core.records import Float32
from ..evaluation.metrics import Int64
from .figures import new_figure, plain, save

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PANEL = 10
"""Classes a panel of the figure: more colours look alike."""

FEWEST = 5
"""Images below which there is nothing to see."""


@dataclass(frozen=True, slots=True)
class Embedding:
    """Images as points: float32 (n, 2), their true classes (n,), and the classes' names."""

    points: Float32
    labels: Int64
    names: Mapping[int, str]

    @property
    def size(self) -> float:
        """The area of a marker, in square points, at which this many don't hide each other."""
        return float(np.clip(25000 / len(self.points), 6, 60))


def embed(features: Float32, seed: int) -> Float32:
    """The t-SNE embedding (n, 2) of features (n, D), n at least FEWEST; the same for a seed.

    It begins at the two principal components, which keeps far apart what is (Kobak and Berens
    2019), moved by a seeded tenth of their size: another seed shows what is chance.
    """
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    perplexity = min(30.0, (len(features) - 1) / 3)
    # One thread: sums over several come out in any order, and t-SNE makes much of a last bit.
    with threadpool_limits(limits=1):
        start = PCA(2, svd_solver="full").fit_transform(features)
        start = start / np.std(start[:, 0])
        start += np.random.default_rng(seed).normal(0, 0.1, start.shape)
        tsne = TSNE(
            perplexity=perplexity, init=(1e-4 * start).astype(np.float32), random_state=seed
        )
        points: Float32 = tsne.fit_transform(features)
    return points


def draw_tsne(embedding: Embedding, title: str, path: Path) -> None:
    """Draw all classes in one panel, and ten a panel over the others in grey.

    Panels of ten classes that have no image are left out.
    """
    tens = np.unique(embedding.labels // PANEL) * PANEL
    columns = min(3, len(tens) + 1)
    rows = -(-(len(tens) + 1) // columns)
    figure = new_figure(5.6 * columns, 5.8 * rows)
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    _draw_all(panels[0], embedding)
    for axes, first in zip(panels[1:], tens.tolist(), strict=False):
        _draw_ten(axes, embedding, first)
    for axes in panels:
        axes.set(xticks=[], yticks=[])
    for axes in panels[len(tens) + 1 :]:
        axes.set_visible(False)
    figure.suptitle(title)
    save(figure, path)


def _draw_all(axes: "Axes", embedding: Embedding) -> None:
    from matplotlib import colormaps

    labels, points = embedding.labels, embedding.points
    # Neighbouring numbers take colours far apart; the number at the middle tells the rest.
    count = max(len(REFERENCE_CLASSIFIER), int(labels.max()) + 1)
    colours = colormaps["hsv"]((labels * 7 % count) / count)
    axes.scatter(points[:, 0], points[:, 1], c=colours, s=embedding.size, linewidths=0)
    present = np.unique(labels)
    box = {"boxstyle": "round,pad=0.15", "facecolor": "white", "alpha": 0.7, "linewidth": 0}
    for label in present.tolist():
        x, y = np.median(points[labels == label], axis=0).tolist()
        axes.text(x, y, str(label), ha="center", va="center", size=8, weight="bold", bbox=box)
    axes.set_title(f"all {len(present)} classes")


def _draw_ten(axes: "Axes", embedding: Embedding, first: int) -> None:
    labels, points, size = embedding.labels, embedding.points, embedding.size
    others = points[labels // PANEL != first // PANEL]
    axes.scatter(others[:, 0], others[:, 1], c="0.9", s=size * 0.5, linewidths=0)
    for label in range(first, first + PANEL):
        chosen = points[labels == label]
        if len(chosen):
            name = plain(f"{label} {embedding.names.get(label, '')}".strip())
            colour = f"C{label - first}"  # matplotlib's cycle has ten
            axes.scatter(chosen[:, 0], chosen[:, 1], color=colour, s=size, linewidths=0, label=name)
    axes.set_title(f"classes {first} to {first + PANEL - 1}")
    axes.legend(
        loc="upper center",
        bbox_to_anchor=(0.5, 0),
        ncols=PANEL // 2,
        fontsize=8,
        markerscale=1.5,
        columnspacing=1,
        handletextpad=0.1,
        frameon=False,
    )
