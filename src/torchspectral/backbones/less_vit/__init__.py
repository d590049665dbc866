"""LESS ViT: low-rank spatial-spectral transformers for any channels, and their masked autoencoder."""

from torchspectral.backbones.less_vit.decoder import HyperDecoder
from torchspectral.backbones.less_vit.encoder import LessViT
from torchspectral.backbones.less_vit.grid import Kept
from torchspectral.backbones.less_vit.hyper_mae import HyperMAE, Reconstruction

__all__ = ["HyperDecoder", "HyperMAE", "Kept", "LessViT", "Reconstruction"]
