"""Settings that every pretraining has."""

from __future__ import annotations

from typing import Any

from torchspectral.learn.recipe import TrainingSettings
from torchspectral.settings import setting


class PretrainingTraining(TrainingSettings):
    """Settings that every pretraining has; sizes and views are those of SpectralEarth."""

    backbone: str = setting("spec-vit-s", "encoder, see `torchspectral.create_model`")
    network: dict[str, Any] = setting({}, "arguments of the encoder over those of its size, such as {depth: 4}")
    start: str = setting("", "weights that the encoder begins from, a file, a run or a name; empty: fresh ones")
    batch: int = setting(64, "patches in a step, over all devices", ge=1)
    patch: int = setting(128, "side of a square patch", unit="pixel", ge=1)
    view: int = setting(0, "side of a view, which the encoder is built for; 0: that of the patch", unit="pixel", ge=0)
    patches: int = setting(1_000_000, "most training patches; more are thinned out evenly, seeded", ge=1)
    decay: str = setting(
        "cosine",
        "learning rate after the warm-up: cosine, constant, or steps (a tenth after 60 and 80 percent)",
        pattern="^(cosine|constant|steps)$",
    )
    warm_up: float = setting(0.0, "share of the steps in which the learning rate rises", ge=0, lt=1)
    final_rate: float = setting(0.0, "share of the learning rate after the last step of the cosine", ge=0, le=1)
    final_weight_decay: float = setting(
        -1.0, "weight decay after the last step, along a cosine; -1: as at first", ge=-1
    )
    decay_vectors: bool = setting(True, "weight decay also of biases and normalisations")
    crop_least: float = setting(0.08, "least share of a patch's area that a view shows", gt=0, le=1)
    crop_most: float = setting(1.0, "largest share of a patch's area that a view shows", gt=0, le=1)
    flips: bool = setting(True, "views are mirrored at random, in both directions")
    turns: bool = setting(False, "views are turned by quarters at random")
    blur: float = setting(0.5, "share of the views that are blurred", ge=0, le=1)
    blur_most: float = setting(2.0, "largest deviation of the blur", unit="pixel", gt=0.1)
    jitter: float = setting(
        0.0, "views are brighter or darker by a gain within 1 +- jitter, all bands alike", ge=0, lt=1
    )
    offset_jitter: float = setting(0.0, "views are moved within +- this, all bands alike", unit="scene's", ge=0)
    spectral_jitter: float = setting(0.0, "distort spectra by a smooth curve within 1 +- this", ge=0, lt=1)
    masked_bands: float = setting(0.0, "share of the bands that a view lacks, drawn at random", ge=0, lt=1)
    temporal: bool = setting(True, "the second view shows another date of the place, where the data have one")
    statistics_patches: int = setting(2000, "training patches that mean and deviation are computed from", ge=1)
    validate_patches: int = setting(512, "held-out patches that are validated on, evenly thinned; 0: all", ge=0)
    checkpointing: bool = setting(False, "recompute the encoder's blocks in the backward pass, to save memory")
