"""Patches as TorchGeo's trainers take them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch.utils.data import Dataset

from torchspectral.errors import BandMismatch
from torchspectral.learn.patch_sets.patch_set import PatchSet

NOTHING = -100
"""Number of pixels without a class where a set has none for them; PyTorch's losses leave it out by default."""


class TorchGeoSamples(Dataset[dict[str, torch.Tensor]]):
    """A part of a patch set as a map-style dataset with TorchGeo's key names, types and shapes.

    Parameters
    ----------
    patches : PatchSet
    part : {"train", "held-out", "test"}
    mean, std : sequence of float, optional
        One a band, in the unit of the values: images are standardised by them; `PatchSet.statistics` has those of the
        training part. Without, images are physical, 0 where nodata.

    Notes
    -----
    ``image`` is float32 (bands, y, x). ``mask`` is int64 (y, x), the set's ignored number (``ignore``) where a pixel has
    nodata. ``label`` is int64: the number of the class, (), or 0 and 1 for each, (classes,); measured values are
    float32 (targets,). Standardised images are 0, the mean, where nodata.

    Raises
    ------
    BandMismatch
        Not one mean and deviation a band.
    UnknownName
        There is no such part.

    Examples
    --------
    ``SemanticSegmentationTask(in_channels=patches.shape[0], num_classes=.., ignore_index=samples.ignore)`` of TorchGeo
    trains on ``DataLoader(samples, 8)``.
    """

    def __init__(
        self,
        patches: PatchSet,
        part: str = "train",
        mean: Sequence[float] | np.ndarray | None = None,
        std: Sequence[float] | np.ndarray | None = None,
    ) -> None:
        self.patches, self.part, self.rows = patches, part, patches.part(part)
        ignore = patches.labels.get("ignore")
        self.ignore = NOTHING if ignore is None else int(ignore)
        self.statistics: tuple[np.ndarray, np.ndarray] | None = None
        if mean is not None or std is not None:
            made = [np.asarray([] if v is None else v, dtype=np.float32).reshape(-1, 1, 1) for v in (mean, std)]
            if any(len(v) != patches.shape[0] for v in made):
                raise BandMismatch(
                    f"got {len(made[0])} means and {len(made[1])} deviations for {patches.shape[0]} bands, expected one of "
                    "each a band"
                )
            self.statistics = made[0], made[1]

    def __len__(self) -> int:
        return int(self.rows.size)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        """One sample.

        Raises
        ------
        IndexError
        BrokenProduct, BadInput
        """
        sample = self.patches.sample(self.part, index)
        image, seen = sample["image"], sample["valid"][0] > 0
        if self.statistics is not None:
            image = np.where(seen, (image - self.statistics[0]) / self.statistics[1], 0).astype(np.float32)
        made = {"image": torch.from_numpy(np.ascontiguousarray(image))}
        if "mask" in sample:
            mask = np.where(seen, sample["mask"][0], self.ignore).astype(np.int64)
            made["mask"] = torch.from_numpy(mask)
        if "label" in sample:
            label = torch.from_numpy(sample["label"].reshape(-1))
            if self.patches.labels["kind"] == "single":
                made["label"] = label[0].long()
            else:
                made["label"] = label if self.patches.labels["kind"] == "regression" else label.long()
        return made
