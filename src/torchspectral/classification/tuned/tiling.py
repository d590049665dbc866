"""What a network must see whole: tiles of a transformer, or the reach of convolutions."""

from __future__ import annotations

from typing import Any

from torchspectral.backbones.reach import convolution_reach
from torchspectral.backbones.spectralearth.resnet import SpecResNet50

LOCAL_HEADS = ("linear", "fcn", "knn")


def tiling_of(network: Any, overlap: int = -1) -> dict[str, Any]:
    """Settings of `BackboneMethod` that follow from a network.

    Parameters
    ----------
    network : BackboneClassifier
    overlap : int
        Pixels that tiles share; -1: a quarter of a tile, at least 16.

    Returns
    -------
    dict
        ``scope, tile, overlap, reach, multiple``. Transformers, and heads that pool over the image, answer by the tile;
        ResNets without padding of their own, whose positions lie on multiples of the stride, by a neighbourhood.
    """
    backbone = network.backbone
    size, stride = int(network.patch), int(backbone.stride)
    dense = network.task in ("pixels", "change")
    if dense and isinstance(backbone, SpecResNet50) and network.head_kind in LOCAL_HEADS:
        more = 2 * stride if network.head_kind == "fcn" else stride
        return {
            "scope": "local",
            "tile": size,
            "overlap": 0,
            "reach": convolution_reach(backbone.resnet) + more,
            "multiple": stride,
        }
    if not dense:
        return {"scope": "tile", "tile": size, "overlap": 0, "reach": 0, "multiple": 1}
    shared = max(size // 4, min(16, size // 2)) if overlap < 0 else overlap
    shared = min(shared // stride * stride, size - stride) if size > stride else 0
    return {"scope": "tile", "tile": size, "overlap": shared, "reach": 0, "multiple": 1}
