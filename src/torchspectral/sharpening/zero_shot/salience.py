"""Which patches of a large scene to tune on: few, and as unlike each other as the scene has them."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch

from torchspectral.errors import BadWeights, MissingDependency, MissingWeights


def equal_pieces(image: torch.Tensor, side: int) -> torch.Tensor:
    """Cut images into equal pieces of at most `side` pixels, row by row, (n * pieces, band, y', x').

    Where the size is no multiple, pieces are as large as equal ones can be; less than a pixel a piece is left over.
    """
    rows, cols = image.shape[-2:]
    down, across = -(-rows // side), -(-cols // side)
    return grid_pieces(image, rows // down, cols // across)


def grid_pieces(image: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Non-overlapping pieces of a size, row by row; what is left over at the right and bottom is dropped."""
    n, bands, rows, cols = image.shape
    down, across = rows // height, cols // width
    cut = image[..., : down * height, : across * width].reshape(n, bands, down, height, across, width)
    return cut.permute(0, 2, 4, 1, 3, 5).reshape(n * down * across, bands, height, width)


def statistics(pieces: torch.Tensor) -> np.ndarray:
    """Mean, deviation and mean gradient of each band of each piece, (pieces, 3 * bands)."""
    x = pieces.double()
    down, across = x[..., 1:, :] - x[..., :-1, :], x[..., 1:] - x[..., :-1]
    slope = down.abs().mean((-2, -1)) + across.abs().mean((-2, -1))
    return torch.cat([x.mean((-2, -1)), x.std((-2, -1), unbiased=False), slope], 1).cpu().numpy()


def mobilenet_features(pieces: torch.Tensor, weights: str | Path, seed: int) -> np.ndarray:
    """Three principal components of pooled MobileNetV3-small features, as the authors choose patches.

    Parameters
    ----------
    pieces : Tensor, shape (pieces, 3, y, x)
        Three bands as red, green and blue.
    weights : path
        ImageNet weights in torchvision's format (mobilenet_v3_small).
    seed : int
        Of the principal components.

    Raises
    ------
    MissingDependency, MissingWeights, BadWeights
    """
    from torchspectral.weights.files import read_state

    if not weights:
        raise MissingWeights(
            "salience=mobilenet needs the ImageNet weights of torchvision's mobilenet_v3_small (BSD-3-Clause): give "
            "mobilenet_weights=FILE, or use salience=statistics, which needs none"
        )
    try:
        models = import_module("torchvision.models")
    except ImportError as error:
        raise MissingDependency(
            "salience=mobilenet needs torchvision, which is not installed: pip install torchvision"
        ) from error
    net = models.mobilenet_v3_small(weights=None)
    try:
        net.load_state_dict(read_state(Path(weights)))
    except RuntimeError as error:
        raise BadWeights(f"{weights}: no weights of mobilenet_v3_small: {' '.join(str(error).split())[:160]}") from None
    net = net.eval().to(pieces.device)
    x = torch.nn.functional.interpolate(pieces.float(), (256, 256), mode="bilinear", antialias=True)[
        ..., 16:240, 16:240
    ]
    mean, std = (torch.tensor(v, device=x.device).reshape(1, 3, 1, 1) for v in (_MEAN, _STD))
    with torch.no_grad():
        found = net.avgpool(net.features((x - mean) / std)).flatten(1)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        _, _, axes = torch.pca_lowrank(found.cpu(), q=min(3, *found.shape), niter=50)
    return (found.cpu() @ axes).numpy()


_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def most_different(features: np.ndarray, count: int) -> list[int]:
    """Pieces nearest to the centres of `count` clusters, none twice, in order.

    The clusters start from the pieces that lie farthest apart, so that nothing is drawn at random.
    """
    from scipy.cluster.vq import kmeans2

    if len(features) <= count:
        return list(range(len(features)))
    spread = features.std(0)
    points = (features - features.mean(0)) / np.where(spread > 0, spread, 1.0)
    first = int(np.argmax((points**2).sum(1)))
    chosen = [first]
    for _ in range(count - 1):
        nearest = np.min([((points - points[c]) ** 2).sum(1) for c in chosen], axis=0)
        chosen.append(int(np.argmax(nearest)))
    centres, _ = kmeans2(points, points[chosen].copy(), iter=50, minit="matrix", missing="warn")
    picked: list[int] = []
    for centre in centres:
        distance = ((points - centre) ** 2).sum(1)
        distance[picked] = np.inf
        picked.append(int(np.argmin(distance)))
    return sorted(picked)


def choose_pieces(pieces: Any, count: int, *, salience: str, weights: str, seed: int) -> list[int]:
    """Numbers of the pieces to tune on.

    Parameters
    ----------
    pieces : Tensor, shape (pieces, 3, y, x)
        Three bands of every piece.
    count : int
    salience : {"statistics", "mobilenet"}
    weights : str
        Of the network, for "mobilenet".
    seed : int
    """
    if len(pieces) <= count:
        return list(range(len(pieces)))
    features = statistics(pieces) if salience == "statistics" else mobilenet_features(pieces, weights, seed)
    return most_different(features, count)
