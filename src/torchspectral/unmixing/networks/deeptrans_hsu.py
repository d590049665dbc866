"""DeepTrans-HSU: a transformer that draws the abundances of an image of fixed size; larger scenes are tiled."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import torch
from torch import nn
from torch.nn import functional

from torchspectral.engine.method import SceneInfo, Scope, Size, Source, State, Tile, Window
from torchspectral.engine.plan import cut_scene
from torchspectral.errors import BadSettings
from torchspectral.learn.on_scene import FitPlan, SceneObjective
from torchspectral.settings import Settings, setting
from torchspectral.unmixing.networks.base import NetworkSettings, SceneNetwork, Trained, residual
from torchspectral.unmixing.networks.deeptrans_network import DEPTH, DeepTransHSUNetwork
from torchspectral.unmixing.networks.losses import paired_angles, weighted_mean
from torchspectral.unmixing.networks.pixelwise import decoder_spectra

PRESETS: dict[str, dict[str, float]] = {
    "samson": {"patch": 5, "dim": 200, "learning_rate": 6e-3, "epochs": 200, "angle": 3e-2, "weight_decay": 4e-5},
    "apex": {"patch": 5, "dim": 200, "learning_rate": 9e-3, "epochs": 200, "angle": 5e-2, "weight_decay": 4e-5},
    "dc": {"patch": 10, "dim": 400, "learning_rate": 6e-3, "epochs": 150, "angle": 1e-4, "weight_decay": 3e-5},
}
"""What the authors set for each scene."""

LARGEST = 290
"""Largest image of the paper [pixel]: scenes beyond are tiled by themselves."""


class DeepTransHSUSettings(NetworkSettings):
    """Settings of DeepTrans-HSU; 0 or -1 stands for the preset's value."""

    preset: Literal["samson", "apex", "dc"] = setting("samson", "set of the authors' values for a scene")
    size: int = setting(
        0, "side of the image that the network sees; 0: the scene's longer side, at most 290, up to full patches",
        unit="pixel", ge=0,
    )  # fmt: skip
    overlap: int = setting(20, "pixels that neighbouring tiles of larger scenes share", unit="pixel", ge=0)
    patch: int = setting(0, "side of a patch; 0: the preset's (5, 5, 10)", unit="pixel", ge=0)
    dim: int = setting(0, "width of a token for each endmember; 0: the preset's (200, 200, 400)", ge=0)
    epochs: int = setting(0, "passes over the tiles; 0: the preset's (200, 200, 150)", ge=0)
    learning_rate: float = setting(0.0, "learning rate of Adam; 0: the preset's (6e-3, 9e-3, 6e-3)", ge=0)
    weight_decay: float = setting(-1.0, "weight decay; -1: the preset's (4e-5, 4e-5, 3e-5)", ge=-1)
    decay: float = setting(0.8, "factor of the rate after every `decay_every` epochs", gt=0, le=1)
    decay_every: int = setting(15, "epochs between two cuts of the rate", ge=1)
    dropout: float = setting(0.25, "share of the first layer's values that training drops", ge=0, lt=1)
    error: float = setting(5e3, "weight of the mean squared error", ge=0)
    angle: float = setting(-1.0, "weight of the sum of the angles; -1: the preset's (3e-2, 5e-2, 1e-4)", ge=-1)

    def chosen(self, name: str) -> float:
        """A value, or the preset's."""
        given = getattr(self, name)
        unset = given < 0 if name in ("weight_decay", "angle") else given == 0
        return PRESETS[self.preset][name] if unset else float(given)


class DeepTransHSU(SceneNetwork):
    """DeepTrans-HSU: unmixing with a transformer network.

    The abundances of a whole image are drawn from the class token of its patches, so the network is built for one
    image size. A scene that fits is seen whole; a larger one is cut into tiles of that size that overlap, one network
    learns them all, each normalised by itself, and the engine blends them. Tiles that reach over the scene's edge are filled by repetition, and
    what was filled does not count in the loss. The decoder starts from VCA and is kept within 1e-6..1.

    References
    ----------
    Ghosh, Roy, Koirala, Rasti, Scheunders, "Hyperspectral unmixing using transformer network", IEEE TGRS 60 (2022), doi
    10.1109/TGRS.2022.3196057.
    """

    Settings: ClassVar[type[Settings]] = DeepTransHSUSettings
    scope = Scope.TILE
    name: ClassVar[str] = "deeptrans-hsu"
    network: ClassVar[type[nn.Module]] = DeepTransHSUNetwork
    sizes: ClassVar[Mapping[str, tuple[str, int]]] = {"bands": ("decoder.0.weight", 0), "k": ("decoder.0.weight", 1)}

    def prepare(self, info: SceneInfo) -> None:
        """Settle the size of the tiles."""
        super().prepare(info)
        s = self.settings
        patch = int(s.chosen("patch"))
        longest = max(info.shape)
        size = s.size or -(-min(longest, LARGEST) // patch) * patch
        if size % patch:
            raise BadSettings(f"got size={size} with patches of {patch} pixels, expected a multiple of the patch")
        self.tile = (size, size)
        self.overlap = s.overlap if longest > size else 0
        if self.overlap >= size:
            raise BadSettings(f"got overlap={self.overlap} with tiles of {size} pixels, expected less")

    def arguments(self, bands: int, k: int) -> dict[str, Any]:
        """Sizes."""
        assert self.tile is not None
        s = self.settings
        patch, dim = int(s.chosen("patch")), int(s.chosen("dim"))
        return {"bands": bands, "k": k, "size": self.tile[0], "patch": patch, "dim": dim, "dropout": s.dropout}

    @classmethod
    def settings_of(cls, weights: Mapping[str, Any]) -> dict[str, Any]:
        """Image, patch and token."""
        wide, place = weights.get("upscale.0.weight"), weights.get("vtrans.pos_embedding")
        if wide is None or place is None or wide.ndim != 2 or place.ndim != 3 or place.shape[1] < 2:
            return {}
        size = math.isqrt(wide.shape[0])
        return {"size": size, "patch": size // math.isqrt(place.shape[1] - 1), "dim": int(wide.shape[1])}

    def begin(self, network: Any, start: State) -> None:
        """Decoder from the endmembers."""
        network.decoder[0].weight.copy_(start["endmembers"].T[..., None, None])
        network.decoder[0].weight.clamp_(1e-6, 1.0)

    def objective(self, network: nn.Module, source: Source, start: State, seed: int) -> SceneObjective:
        """Squared errors and angles of the tiles."""
        assert self.tile is not None
        return _Objective(network, source, self.tile[0], self.overlap, self.settings)

    def plan(self, objective: Any) -> FitPlan:
        """Adam with a falling rate; the gradient's l1 norm is held below 10."""
        s, tiles = self.settings, len(objective.windows)
        return FitPlan(
            int(s.chosen("epochs")) * tiles, s.chosen("learning_rate"), weight_decay=s.chosen("weight_decay"),
            decay=s.decay, decay_every=s.decay_every * tiles, clip=10.0, clip_norm=1.0,
        )  # fmt: skip

    def found(self, network: Any, source: Source, start: State, objective: SceneObjective | None) -> Mapping[str, Any]:
        """The decoder's columns are the endmembers; whether tiles were normalised one by one."""
        several = isinstance(objective, _Objective) and len(objective.windows) > 1
        return {**decoder_spectra(network.decoder[0].weight), "own_statistics": several}

    def apply(self, tile: Tile, state: State) -> dict[str, torch.Tensor]:
        """Abundances and residual of a tile."""
        assert self.tile is not None
        cube, size = tile["cube"], self.tile[0]
        rows, cols = cube.shape[-2:]
        if max(rows, cols) > size:
            raise BadSettings(
                f"got a tile of {rows} x {cols} pixels for a network of {size} x {size}: leave tile= away and set size="
            )
        network = self.loaded(state, cube.shape[1], cube)
        if state.get("own_statistics"):
            # Running statistics follow the last tile; each was learned with those of its own.
            network = _normalised_alone(network)
        images = [network(grown(image[None], size)) for image in cube]
        abundances = torch.cat([a for a, _ in images])[..., :rows, :cols]
        model = torch.cat([m for _, m in images])[..., :rows, :cols]
        return {"abundances": abundances, "rmse": residual(cube, model)}

    def memory(self, size: Size) -> dict[str, int]:
        """Bytes of the scene, the weights with their moments and one tile's layers for `fit`; of a tile for `apply`."""
        s, k = self.settings, self.known_k()
        side = self.tile[0] if self.tile else size.rows
        patch, dim = int(s.chosen("patch")), int(s.chosen("dim"))
        width = dim * k
        weights = DEPTH * 4 * width**2 + ((side // patch) ** 2 + 60) * width + dim * side**2
        layers = side**2 * (6 * 128 + 3 * 64 + 8 * width // patch**2 + 4 * size.bands + 4 * k)
        scene = 2 * size.rows * size.cols * size.bands
        return {"fit": 4 * (scene + 4 * weights + 2 * layers), "apply": 4 * (weights + layers + scene)}


def _normalised_alone(network: Trained) -> Trained:
    """The same network with norms that use the statistics of the image itself."""
    module = copy.deepcopy(network.module)
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.track_running_stats, part.running_mean, part.running_var = False, None, None
            part.num_batches_tracked = None
    own = module.state_dict()
    return Trained(module, {key: value for key, value in network.weights.items() if key in own})


def grown(image: torch.Tensor, size: int) -> torch.Tensor:
    """An image (n, c, y, x) at the top left of a square one, its edges repeated."""
    rows, cols = image.shape[-2:]
    if (rows, cols) == (size, size):
        return image
    return functional.pad(image, (0, size - cols, 0, size - rows), mode="replicate")


class _Objective(SceneObjective):
    def __init__(
        self, network: nn.Module, source: Source, size: int, overlap: int, settings: DeepTransHSUSettings
    ) -> None:
        self.network, self.size, self.settings = network, size, settings
        self.cube = source.whole("cube")
        self.valid = torch.ones_like(self.cube[:, :1])
        for tile in source.tiles():
            rows, cols = tile.inner.slices
            self.valid[..., rows, cols] = tile.core(tile.valid).to(self.valid)
        self.windows: list[Window] = [cut.inner for cut in cut_scene(source.info.shape, (size, size), overlap=overlap)]

    def loss(self, step: int) -> torch.Tensor:
        s = self.settings
        rows, cols = self.windows[step % len(self.windows)].slices
        image, valid = self.cube[..., rows, cols], self.valid[..., rows, cols]
        _, model = self.network(grown(image, self.size))
        model = model[..., : image.shape[-2], : image.shape[-1]]
        error = weighted_mean((model - image).square(), valid)
        angles = paired_angles(model, image, dim=1)[:, None] * valid
        return s.error * error + s.chosen("angle") * angles.sum()

    @torch.no_grad()
    def after(self, step: int) -> None:
        self.network.decoder[0].weight.clamp_(1e-6, 1.0)  # type: ignore[index,union-attr,operator]
