"""ResNet of the INTL runs: torchvision's, but the image is first padded by one pixel of zeros on each side.

References
----------
He, Zhang, Ren, Sun, "Deep residual learning for image recognition", CVPR 2016; Weng et al., ICLR 2024 (see
`learn.losses.intl`).
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import nn
from torch.nn.functional import pad

from torchspectral.backbones.base import Bands, KeyMap
from torchspectral.backbones.staged import StagedBackbone
from torchspectral.errors import BadSettings

DEPTHS = (18, 34, 50, 101, 152)


class PaddedResNet(StagedBackbone):
    """ResNet with torchvision's key names, any number of bands.

    Parameters
    ----------
    bands : int
    depth : {18, 34, 50, 101, 152}
    stem : {"imagenet", "cifar"}
        7 x 7 convolution of stride 2 (padding 2 after the extra pixel: as torchvision's 3) and max pooling; or, for
        small patches, 3 x 3 of stride 1 without pooling, padding 1 beside the extra pixel: maps are 2 pixels wider
        than the image.

    Raises
    ------
    BadSettings
    """

    key_map: ClassVar[KeyMap] = KeyMap(
        prefixes=("module.", "backbone."), optional=(r".*num_batches_tracked", r"fc\..*", r".*projection\..*")
    )

    def __init__(self, bands: int = 3, depth: int = 50, stem: str = "imagenet") -> None:
        super().__init__()
        if depth not in DEPTHS or stem not in ("imagenet", "cifar") or bands < 1:
            raise BadSettings(
                f"got a ResNet of depth {depth}, stem {stem!r} and {bands} bands, expected a depth of "
                f"{', '.join(map(str, DEPTHS))}, stem imagenet or cifar, and at least one band"
            )
        import timm

        # The released runs start residual branches at zero, but for ResNet-18.
        net: Any = timm.create_model(f"resnet{depth}", pretrained=False, in_chans=bands, zero_init_last=depth != 18)
        self.conv1, self.bn1, self.act1, self.maxpool = net.conv1, net.bn1, net.act1, net.maxpool
        self.layer1, self.layer2, self.layer3, self.layer4 = net.layer1, net.layer2, net.layer3, net.layer4
        if stem == "cifar":
            self.conv1 = nn.Conv2d(bands, 64, 3, stride=1, padding=1, bias=False)
            nn.init.kaiming_normal_(self.conv1.weight, mode="fan_out", nonlinearity="relu")
            self.maxpool = nn.Identity()
        else:
            self.conv1.padding = (2, 2)
        self.bands = Bands(minimum=bands, maximum=bands)
        self.stride = 8 if stem == "cifar" else 32
        self.dim = int(net.num_features)
        self.map_dims = tuple(int(info["num_chs"]) for info in net.feature_info[1:])

    def stem(self, x: torch.Tensor) -> torch.Tensor:
        """The padded image through the first convolution and the pooling."""
        return super().stem(pad(x, (1, 1, 1, 1)))
