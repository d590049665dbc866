"""The method: a tuned backbone on a scene."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import torch

from torchspectral.backbones.on_scenes import KeptNetwork, filled_up
from torchspectral.backbones.reflection import reflected
from torchspectral.classification.spectral_angle import class_colours
from torchspectral.classification.tuned.derived import Classes, Entropy, entropy_share, replaced
from torchspectral.classification.tuned.evaluation import probabilities
from torchspectral.classification.tuned.network import BackboneClassifier
from torchspectral.engine.method import BandRule, Input, Method, Output, SceneInfo, Scope, Size, State, Tile
from torchspectral.errors import BadInput, BandMismatch, MissingWeights
from torchspectral.settings import Settings, setting

CONSTRUCTOR = "constructor"
"""Key of a state under which the network's constructor arguments stand."""


class BackboneSettings(Settings):
    """Settings of a tuned backbone on a scene; the weights decide all that are not set."""

    scope: Literal["tile", "local"] = setting(
        "tile", "tile: results depend on the tiles, which overlap and are blended; local: convolutions, tiles are exact"
    )
    tile: int = setting(128, "side of a tile", unit="pixel", ge=1)
    overlap: int = setting(32, "pixels that neighbouring tiles share", unit="pixel", ge=0)
    reach: int = setting(0, "scope=local: pixels that the network looks to either side", unit="pixel", ge=0)
    multiple: int = setting(1, "origins of tiles are multiples of it", unit="pixel", ge=1)
    least_probability: float = setting(
        0.0, "pixels without a class as probable as this are unclassified (0)", ge=0, le=1
    )


class BackboneMethod(Method):
    """Classes, probabilities and their entropy by an encoder with a head, tuned on labels.

    State
    -----
    The network's tensors, and ``constructor``: its arguments, with names, numbers and colours of the classes.

    Outputs
    -------
    classes : layer, uint8
        0 where no class is probable enough; 255 where there are no data.
    probabilities : layers, one a class
        0..1; they sum to 1 but for several classes at once (task multilabel).
    entropy : layer
        Of the probabilities, over that of equal ones, 0..1.

    Notes
    -----
    Transformers see one tile at a time. Tiles that are cut short by the scene's edge are filled up by reflection, and
    what is made of the filling is dropped. Models with one answer an image give it to all pixels of a tile.

    References
    ----------
    The encoder's.
    """

    Settings: ClassVar[type[Settings]] = BackboneSettings
    inputs = (Input("cube"), Input("later", optional=True))
    outputs = (
        Output("classes", kind="layers", names=("class",), dtype="uint8", undo_scale=False),
        Output("probabilities", kind="layers", names="=class_names", undo_scale=False),
        Output("entropy", kind="layers", names=("entropy",), undo_scale=False),
    )
    bands = BandRule(least=1)
    needs_fit = True
    fill = "zero"

    def __init__(self, settings: Any = None) -> None:
        super().__init__(settings)
        s = self.settings
        self.scope = Scope.TILE if s.scope == "tile" else Scope.LOCAL
        self.tile = (s.tile, s.tile) if s.scope == "tile" else None
        self.overlap = min(s.overlap, s.tile - 1) if s.scope == "tile" else 0
        self.halo, self.multiple = (s.reach, s.multiple) if s.scope == "local" else (0, 1)
        self.network = KeptNetwork(_made, "a tuned backbone")
        self._short = False

    def prepare(self, info: SceneInfo) -> None:
        """Note whether tiles will be filled up."""
        self._short = self.scope is Scope.TILE and filled_up(info.shape, self.settings.tile, self.overlap)

    def loaded(self, state: State, like: torch.Tensor) -> BackboneClassifier:
        """The network with a state's weights.

        Raises
        ------
        MissingWeights, BadWeights
        """
        arguments = state.get(CONSTRUCTOR)
        if not isinstance(arguments, dict):
            raise MissingWeights(
                "the method backbone needs tuned weights: give weights=RUN, or tune a backbone: torchspectral train "
                "classify --backbone NAME --data SCENE --labels FILE -o RUN"
            )
        return self.network.of(arguments, state, like.device)

    def apply(self, tile: Tile, state: State) -> dict[str, torch.Tensor]:
        """Classes, probabilities and entropy of one tile, (n, layers, y, x)."""
        cube = tile["cube"]
        network = self.loaded(state, cube)
        if cube.shape[1] != network.mean.numel():
            raise BandMismatch(
                f"the weights are for {network.mean.numel()} bands and the scene has {cube.shape[1]}: resample the scene "
                "(resample=True, --align), or train on this sensor"
            )
        later = tile.data.get("later")
        if network.task == "change" and later is None:
            raise BadInput("these weights tell change between two dates: give the later scene (later=, --later)")
        rows, cols = cube.shape[-2:]
        valid = tile.valid.to(cube.dtype)
        if self.scope is Scope.TILE:
            ground = (0, max(rows, self.settings.tile), 0, max(cols, self.settings.tile))
            cube, valid = (reflected(t, *ground) for t in (cube, valid))
            later = None if later is None else reflected(later, *ground)
        found = probabilities(network, network(cube, valid, later, valid).float())
        if found.ndim == 2:
            found = found[:, :, None, None].expand(-1, -1, rows, cols)
        found = found[..., :rows, :cols].to(cube.dtype)
        numbers = torch.as_tensor(state[CONSTRUCTOR]["class_numbers"], dtype=torch.uint8, device=cube.device)
        best, index = found.max(1, keepdim=True)
        none = torch.zeros((), dtype=torch.uint8, device=cube.device)
        classes = torch.where(best >= self.settings.least_probability, numbers[index], none)
        entropy = torch.stack([torch.from_numpy(entropy_share(p.cpu().numpy())) for p in found])[:, None]
        return {"classes": classes, "probabilities": found, "entropy": entropy.to(cube)}

    def finish(self, outputs: dict[str, Any], state: State) -> dict[str, Any]:
        """Classes and entropy of what was blended; names and colours."""
        facts = state[CONSTRUCTOR]
        numbers = [int(n) for n in facts["class_numbers"]]
        blended = outputs.get("probabilities")
        if blended is not None and self.overlap:
            made = Classes(blended.variable, numbers, self.settings.least_probability)
            outputs["classes"] = replaced(outputs["classes"], made)
            outputs["entropy"] = replaced(outputs["entropy"], Entropy(blended.variable))
        names = ["unclassified", *(f"class {n}" for n in range(1, max(numbers) + 1))]
        colors = class_colours(max(numbers) + 1)
        for number, name, colour in zip(numbers, facts["class_names"], facts["class_colors"], strict=True):
            names[number], colors[number] = str(name), [int(c) for c in colour]
        if "classes" in outputs:
            outputs["classes"].attrs.update(class_names=names, class_colors=colors)
        return outputs

    def memory(self, size: Size) -> dict[str, int]:
        """Rough: input, maps of a few hundred channels at each position, and the network."""
        pixels = size.rows * size.cols
        return {"fit": 0, "apply": pixels * (size.bands * 12 + 4000) + 512 * 2**20}

    def figures(self, state: State) -> dict[str, Any]:
        """Size of the network, and what must be known of the tiles."""
        facts = state[CONSTRUCTOR]
        found: dict[str, Any] = {
            "backbone": facts["backbone"],
            "head": facts.get("head", "linear"),
            "task": facts.get("task", "pixels"),
            "parameters": sum(int(v.numel()) for v in state.values() if isinstance(v, torch.Tensor)),
        }
        warnings = []
        if self._short:
            warnings.append("tiles at the lower or right edge were filled up by reflection to the network's size")
        if found["task"] in ("scenes", "multilabel"):
            warnings.append(f"one answer for each tile of {self.settings.tile} x {self.settings.tile} pixels")
        return found | ({"warnings": warnings} if warnings else {})


def _made(arguments: dict[str, Any]) -> BackboneClassifier:
    return BackboneClassifier(**arguments)
