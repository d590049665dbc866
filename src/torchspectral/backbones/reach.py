"""How far a network looks: the reach of convolutions, or a whole tile."""

from __future__ import annotations

from torch import nn

from torchspectral.backbones.base import Backbone


def reach_of(backbone: Backbone) -> int | None:
    """Pixels that one position of the coarsest feature map looks to either side.

    Returns
    -------
    int or None
        None where the network must see a whole tile: transformers, and networks whose maps do not begin at the image's
        first pixel.
    """
    from torchspectral.backbones.padded_resnet import PaddedResNet
    from torchspectral.backbones.softcon.resnet import SoftConResNet50
    from torchspectral.backbones.spectralearth.baselines import PlainResNet50
    from torchspectral.backbones.spectralearth.resnet import SpecResNet50

    if isinstance(backbone, PaddedResNet) and backbone.stride != 32:
        return None
    if isinstance(backbone, (PaddedResNet, PlainResNet50, SoftConResNet50, SpecResNet50)):
        return convolution_reach(backbone)
    return None


def convolution_reach(network: nn.Module) -> int:
    """Pixels that the last map of a chain of convolutions and poolings looks to either side; shortcuts do not count."""
    reach, jump = 0, 1
    for name, module in network.named_modules():
        if isinstance(module, (nn.Conv2d, nn.MaxPool2d)) and "downsample" not in name:
            size, stride, dilation = (
                int(n[0]) if isinstance(n, tuple) else int(n)
                for n in (module.kernel_size, module.stride, module.dilation)
            )
            reach += size // 2 * dilation * jump
            jump *= stride
    return reach
