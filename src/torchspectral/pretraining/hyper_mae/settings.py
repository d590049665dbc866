"""Settings of Hyper-MAE: those of the second paper, and of the first."""

from __future__ import annotations

from typing import Any

from torchspectral.pretraining.settings import PretrainingTraining
from torchspectral.settings import setting


class HyperMAETraining(PretrainingTraining):
    """Settings of the second paper (LESSViT): 200 epochs of SpectralEarth, crops of 32 pixels, batches of 1024."""

    backbone: str = setting("less-vit-v2-b", "encoder, see `torchspectral.create_model`")
    batch: int = setting(1024, "patches in a step, over all devices", ge=1)
    view: int = setting(32, "side of a view, cut out as it is; 0: that of the patch", unit="pixel", ge=0)
    learning_rate: float = setting(1e-4, "learning rate", gt=0)
    weight_decay: float = setting(0.05, "weight decay", ge=0)
    decay_vectors: bool = setting(False, "weight decay also of biases and normalisations")
    warm_up: float = setting(0.05, "share of the steps in which the learning rate rises", ge=0, lt=1)
    clip: float = setting(1.0, "largest norm of the gradient; 0: not clipped", ge=0)
    turns: bool = setting(True, "views are turned by quarters at random")
    blur: float = setting(0.0, "share of the views that are blurred", ge=0, le=1)
    crop_least: float = setting(1.0, "not looked at: views are cut out as they are", gt=0, le=1)
    crop_most: float = setting(1.0, "not looked at: views are cut out as they are", gt=0, le=1)
    masked_bands: float = setting(0.0, "not looked at: channels are hidden", ge=0, lt=1)
    temporal: bool = setting(False, "not looked at: an image has one view")
    mask_ratio: float = setting(0.75, "share of the places that is hidden", ge=0, lt=1)
    channel_mask_ratio: float = setting(0.75, "share of the channels that is hidden", ge=0, lt=1)
    channel_least: float = setting(
        0.7, "least share of the channels that a step leaves out, of each sensor", ge=0, lt=1
    )
    channel_most: float = setting(0.8, "largest share of the channels that a step leaves out", ge=0, lt=1)
    norm_pix: bool = setting(False, "standardise each target patch")
    drop: float = setting(0.1, "dropout of projections", ge=0, lt=1)
    attn_drop: float = setting(0.1, "dropout of attention", ge=0, lt=1)
    drop_path: float = setting(0.1, "stochastic depth of the last block", ge=0, lt=1)
    decoder: dict[str, Any] = setting({}, "arguments of the decoder over the paper's: decoder_dim, decoder_depth, ..")
    decoder_rope: bool = setting(True, "rotary: hidden tokens know place and wavelength; published: false")
    resolution: float = setting(0.0, "side of a pixel where scenes do not say it; 0: the backbone's", unit="m", ge=0)
    radar: bool = setting(False, "scenes are Datasets with a layer `radar` (VV, VH [dB]) beside the cube")


class HyperMAEv1Training(HyperMAETraining):
    """Settings of the first paper: Sentinel-2 and -1 at 10 m, 300 epochs."""

    backbone: str = setting("less-vit-b", "encoder, see `torchspectral.create_model`")
    batch: int = setting(256, "patches in a step, over all devices", ge=1)
    view: int = setting(0, "side of a view, cut out as it is; 0: that of the patch", unit="pixel", ge=0)
    channel_mask_ratio: float = setting(0.5, "share of the channels that is hidden", ge=0, lt=1)
    channel_least: float = setting(
        0.0, "least share of the channels that a step leaves out, of each sensor", ge=0, lt=1
    )
    channel_most: float = setting(0.0, "largest share of the channels that a step leaves out", ge=0, lt=1)
    drop: float = setting(0.0, "dropout of projections", ge=0, lt=1)
    attn_drop: float = setting(0.0, "dropout of attention", ge=0, lt=1)
    drop_path: float = setting(0.0, "stochastic depth of the last block", ge=0, lt=1)
