"""SpectralGPT: transformers over tokens of bands and pixels, their masked autoencoder, scalings and bands."""

from torchspectral.backbones.spectralgpt.bands import sentinel2_bands, to_sentinel2
from torchspectral.backbones.spectralgpt.encoder import SpectralGPT, SpectralGPTClassifier
from torchspectral.backbones.spectralgpt.mae import Reconstruction, SpectralGPTMAE, multi_target_loss
from torchspectral.backbones.spectralgpt.optimisation import layer_decay_groups
from torchspectral.backbones.spectralgpt.scaling import scale

__all__ = [
    "Reconstruction", "SpectralGPT", "SpectralGPTClassifier", "SpectralGPTMAE", "layer_decay_groups",
    "multi_target_loss", "scale", "sentinel2_bands", "to_sentinel2",
]  # fmt: skip
