"""A backbone with a head: classes of pixels, of images, several at once, or change between two dates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from torch import nn
from torch.nn.functional import interpolate, pad

from torchspectral.backbones.starting import encoder
from torchspectral.errors import BadInput, BadSettings
from torchspectral.learn.heads.dense import ConvHead, FCNHead
from torchspectral.learn.heads.linear import LinearHead
from torchspectral.learn.heads.neighbours import NeighbourHead
from torchspectral.learn.heads.upernet import LinearMapHead, TokenPyramid, UPerNetHead

Head = Literal["linear", "fcn", "conv", "upernet", "knn"]
Task = Literal["pixels", "scenes", "multilabel", "change"]
DENSE: tuple[Task, ...] = ("pixels", "change")


class BackboneClassifier(nn.Module):
    """Logits from a backbone's features; the standardisation of the input is part of the network.

    Parameters
    ----------
    backbone : str
        Name of an encoder, see ``weights.models``.
    class_names : sequence of str
    class_numbers : sequence of int
        What is written for each class, 1..254.
    class_colors : sequence of (int, int, int)
    bands : int
    patch : int
        Side of the images that it is trained with [pixel]; transformers with a table of positions take only these.
    arguments : mapping
        Of the backbone's constructor.
    wavelengths : sequence of float, optional
        Band centres [nm], for backbones that compute with them.
    head : {"linear", "fcn", "conv", "upernet", "knn"}
        "linear": one linear layer on each position (of ResNets the maps of all stages) or on the image's feature; "fcn"
        and "conv": the heads of SpectralEarth for ResNets and transformers; "knn" votes of labelled features.
    task : {"pixels", "scenes", "multilabel", "change"}
    width : int
        Channels of UPerNet; the paper's 512.
    bank, k, temperature
        Of `NeighbourHead`.
    lora : mapping, optional
        ``rank, alpha, dropout, targets`` while low-rank updates are trained; they are merged before export.

    Raises
    ------
    UnknownName, BadSettings
    """

    mean: torch.Tensor
    std: torch.Tensor
    waves: torch.Tensor | None

    def __init__(
        self,
        backbone: str,
        class_names: Sequence[str],
        class_numbers: Sequence[int],
        class_colors: Sequence[Sequence[int]],
        bands: int,
        patch: int,
        arguments: Mapping[str, Any] | None = None,
        wavelengths: Sequence[float] | None = None,
        head: Head = "linear",
        task: Task = "pixels",
        width: int = 512,
        bank: int = 0,
        k: int = 20,
        temperature: float = 0.07,
        lora: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        classes = len(class_names)
        if classes != len(class_numbers) or classes < 2:
            raise BadSettings(f"got {classes} names and {len(class_numbers)} numbers of classes, expected 2 or more")
        if task not in DENSE and head not in ("linear", "knn"):
            raise BadSettings(f"got head={head} with task={task}, which has one feature an image: expected linear")
        if task in ("multilabel", "change") and head == "knn":
            raise BadSettings(f"got tuning=knn with task={task}, expected pixels or scenes: choose tuning=linear")
        self.task, self.head_kind, self.patch, self.classes = task, head, patch, classes
        self.backbone = encoder(backbone, arguments)
        self.backbone.bands.check(bands, wavelengths)
        self.register_buffer("mean", torch.zeros(bands))
        self.register_buffer("std", torch.ones(bands))
        waves = torch.tensor([float(w) for w in wavelengths]) if wavelengths is not None else None
        self.register_buffer("waves", waves, persistent=False)
        self.fixed_size = hasattr(self.backbone, "image_size")
        self.frozen = False
        self.layers = self._layers(head, task)
        self.head, self.neck = self._head(head, task, width, bank, k, temperature)
        if lora is not None:
            from torchspectral.classification.tuned.lora import add_lora

            add_lora(self, **lora)

    def _layers(self, head: Head, task: Task) -> list[int] | None:
        """Blocks whose maps a pyramid is made of, where the backbone has maps of one size only."""
        if head != "upernet" or task not in DENSE or len(self.backbone.map_dims) > 1:
            return None
        blocks = getattr(self.backbone, "blocks", None)
        depth = getattr(self.backbone, "depth", None) or (len(blocks) if blocks is not None else 1)
        return [max(round(depth * (i + 1) / 4) - 1, 0) for i in range(4)]

    def _head(
        self, head: Head, task: Task, width: int, bank: int, k: int, temperature: float
    ) -> tuple[nn.Module, nn.Module]:
        dims, count = tuple(self.backbone.map_dims), self.classes
        neck: nn.Module = nn.Identity()
        made: nn.Module
        if task not in DENSE:
            dims = (self.backbone.dim,)
        if head == "knn":
            made = NeighbourHead(dims[-1], count, max(bank, 1), k, temperature)
        elif task not in DENSE:
            made = LinearHead(dims[0], count, norm=True)
        elif head == "linear":
            made = LinearMapHead(dims, count)
        elif head == "fcn":
            made = FCNHead(dims[-1], count)
        elif head == "conv":
            made = ConvHead(dims[-1], count, self.backbone.stride)
        else:
            if self.layers is not None:
                dims, neck = dims * 4, TokenPyramid(dims[0])
            made = UPerNetHead(dims, count, width)
        return made, neck

    def train(self, mode: bool = True) -> BackboneClassifier:
        """As usual, but a frozen backbone stays in evaluation mode: its running statistics do not drift."""
        super().train(mode)
        if self.frozen:
            self.backbone.eval()
        return self

    def standardised(self, x: torch.Tensor, valid: torch.Tensor | None = None) -> torch.Tensor:
        """What the backbone sees of physical values (n, bands, y, x); nodata is the mean of its band."""
        return self.backbone.as_input(x, self.mean, self.std, None if valid is None else valid > 0)  # type: ignore[arg-type]

    def encode(self, x: torch.Tensor, valid: torch.Tensor | None = None) -> list[torch.Tensor]:
        """Maps that the head takes, finest first, or the image's feature as (n, dim, 1, 1).

        Parameters
        ----------
        x : Tensor (n, bands, y, x)
            Physical values as in training.
        valid : Tensor (n, 1, y, x), optional
            Above 0 where there are values; default: where x is not NaN.
        """
        seen = self.standardised(x, valid)
        waves = self.waves
        if self.task not in DENSE:
            return [self.backbone.forward_features(seen, waves)[:, :, None, None]]
        if self.layers is not None:
            once = sorted(set(self.layers))
            found = dict(zip(once, self.backbone.feature_maps(seen, waves, once), strict=True))
            return [found[layer] for layer in self.layers]
        maps = self.backbone.feature_maps(seen, waves)
        return maps[-1:] if self.head_kind in ("fcn", "conv", "knn") else maps

    def decide(self, features: Sequence[torch.Tensor], size: tuple[int, int]) -> torch.Tensor:
        """Logits of features: (n, classes, *size), or (n, classes) of images."""
        if self.task not in DENSE:
            return self.head(features[0][:, :, 0, 0])
        if self.head_kind == "knn":
            wide = interpolate(features[-1], size=size, mode="bilinear", align_corners=False)
            flat = wide.movedim(1, -1).reshape(-1, wide.shape[1])
            return self.head(flat).unflatten(0, (len(wide), *size)).movedim(-1, 1)
        if self.head_kind in ("fcn", "conv"):
            logits = self.head(features[-1])
        else:
            logits = self.head(self.neck(features))
        if tuple(logits.shape[-2:]) == size:
            return logits
        return interpolate(logits, size=size, mode="bilinear", align_corners=False)

    def forward(
        self,
        x: torch.Tensor,
        valid: torch.Tensor | None = None,
        later: torch.Tensor | None = None,
        later_valid: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Logits of images (n, bands, y, x): (n, classes, y, x), or (n, classes) of tasks with one answer an image.

        Images are padded at the lower and right edge, as if there were no data, to what the backbone takes.

        Raises
        ------
        BadInput
            A later date is missing (task change), or the images are larger than the backbone takes.
        """
        rows, cols = x.shape[-2:]
        images = [(x, valid)]
        if self.task == "change":
            if later is None:
                raise BadInput("got images of one date, expected those of two: give the later ones")
            images.append((later, later_valid))
        maps = [self.encode(*self._padded(image, seen)) for image, seen in images]
        features = maps[0] if len(maps) == 1 else [b - a for a, b in zip(*maps, strict=True)]
        high, wide = (self._side(n) for n in (rows, cols))
        logits = self.decide(features, (high, wide))
        return logits[..., :rows, :cols] if self.task in DENSE else logits

    def _side(self, size: int) -> int:
        if self.fixed_size:
            return self.patch
        return -(-size // self.backbone.stride) * self.backbone.stride

    def _padded(self, x: torch.Tensor, valid: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor]:
        rows, cols = x.shape[-2:]
        down, right = self._side(rows) - rows, self._side(cols) - cols
        if down < 0 or right < 0:
            raise BadInput(f"got images of {rows} x {cols} pixels, expected at most {self.patch}: cut them")
        seen = (~torch.isnan(x).any(1, keepdim=True)).to(x.dtype) if valid is None else valid
        if down or right:
            x, seen = (pad(t, (0, right, 0, down)) for t in (x, seen))
        return x, seen
