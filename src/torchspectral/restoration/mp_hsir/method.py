"""MP-HSIR as a method of the engine."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch
import xarray as xr
from torch import nn

from torchspectral.engine.method import BandRule, Input, Method, Scale, SceneInfo, Scope, Size, State, Tile
from torchspectral.errors import BadSettings, BandMismatch, MissingWeights
from torchspectral.restoration.mp_hsir.bridge import Bridge, model_grid
from torchspectral.restoration.mp_hsir.network import MULTIPLE, MPHSIRNetwork
from torchspectral.restoration.mp_hsir.prompts import TextMode
from torchspectral.restoration.mp_hsir.tasks import PROMPTS, WORDS, read_text_features, split_tasks, task_numbers
from torchspectral.settings import Settings, setting
from torchspectral.weights.card import WeightsCard
from torchspectral.weights.loading import check

OPTIONAL = [r".*\.attn_mask", r".*\.relative_position_index"]
"""Keys of the authors' checkpoints that follow from the sizes."""
WRAPPER = "net."
HOLES = ("inpaint", "bands")
"""Tasks whose missing values are zero to the network."""


class MPHSIRSettings(Settings):
    """Settings of MP-HSIR."""

    task: str = setting(
        "denoise",
        f"what to undo: {', '.join(WORDS)}, a number of the weights' tasks, or several joined with + (equal shares); "
        "auto (by `restore`): told by gaps of the scene, else by the predictor",
    )
    predictor: Path | None = setting(None, "weights of a trained mp-hsir-predictor, for task=auto")
    text_features: Path | None = setting(
        None, "file (.npy, .safetensors) of the task prompts' CLIP features, tasks x 512, for weights trained with them"
    )
    text_mode: Literal["auto", "learned", "paper", "released"] = setting(
        "auto",
        "what text features do: nothing (learned prompts alone), as the paper has it, or as the released code; auto: "
        "as the weights were trained",
    )
    gain: float = setting(0.0, "values are divided by it for the network; 0: by the scene's largest value", ge=0)
    resample: Literal["auto", "never"] = setting(
        "auto", "interpolate to the network's bands by wavelength and map the change back where bands differ"
    )
    first_band: float = setting(0.0, "first wavelength of the network's evenly spaced bands; 0: as on the weights' card, else the paper's", unit="nm",
                                ge=0)  # fmt: skip
    last_band: float = setting(0.0, "last wavelength of them; 0: the same", unit="nm", ge=0)
    keep_observed: bool = setting(
        False, "inpaint and bands: values that were there come back as they were; the paper's network changes them"
    )
    clamp: bool = setting(False, "clamp the network's output to 0..1, as the paper does before it scores")
    tile: int = setting(128, "side of a tile; the result depends on it", unit="pixel", ge=MULTIPLE)
    overlap: int = setting(32, "of neighbouring tiles, blended", unit="pixel", ge=0)


class MPHSIR(Method):
    """Undo one of nine degradations with one network.

    Bands that the network does not have are reached by interpolation: the change that it makes is interpolated back,
    bands beyond its range stay as they are. For ``inpaint`` and ``bands``, missing values are NaN or zero in the scene.

    State
    -----
    Weights of `MPHSIRNetwork`, in the authors' names; ``text_features`` where the weights keep them; ``wavelengths`` of
    the network's bands [nm] where their card has them.

    References
    ----------
    Wu et al., "MP-HSIR: a multi-prompt framework for universal hyperspectral image restoration", arXiv 2503.09131
    (2025).
    """

    Settings: ClassVar[type[Settings]] = MPHSIRSettings
    inputs = (Input("cube"),)
    scope = Scope.TILE
    multiple = MULTIPLE
    bands = BandRule()
    any_bands: ClassVar[bool] = True
    """Other numbers of bands than the network's are reached by interpolation."""
    bridges_bands: ClassVar[bool] = True

    def __init__(self, settings: Any = None) -> None:
        super().__init__(settings)
        s = self.settings
        self.words = split_tasks(s.task)
        self.holes = any(WORDS.get(word, word) in HOLES for word in self.words)
        if s.tile % MULTIPLE or s.overlap >= s.tile or s.overlap % MULTIPLE:
            raise BadSettings(
                f"got tile={s.tile} and overlap={s.overlap}, expected multiples of {MULTIPLE} and the tile larger"
            )
        if bool(s.first_band) != bool(s.last_band) or s.first_band > s.last_band:
            raise BadSettings(
                f"got first_band={s.first_band:g} and last_band={s.last_band:g}, expected both in order, or neither"
            )
        if s.text_features is not None and s.text_mode == "learned":
            raise BadSettings("got text_features and text_mode=learned, which has no use for them: leave one out")
        self.fills_bands = self.holes
        self.tile, self.overlap = (s.tile, s.tile), s.overlap
        self.scale = Scale("fixed", gain=s.gain) if s.gain else Scale("max")
        self.fill = "none" if self.holes else "nearest"
        self.text = None if s.text_features is None else torch.from_numpy(read_text_features(s.text_features))
        self.info: SceneInfo | None = None
        self._built: tuple[Any, nn.Module] | None = None

    @classmethod
    def foresee(cls, cube: xr.DataArray, settings: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
        """Settings for a scene, the task among them where it is to be told from the scene; and why.

        Raises
        ------
        BadSettings, BadWeights, BandMismatch, BadInput
        """
        given = {key: value for key, value in settings.items() if key != "predictor"}
        if str(settings.get("task", "")).strip().lower() != "auto":
            if settings.get("predictor") is not None:
                raise BadSettings("got a predictor and a task, expected task=auto with it")
            return given, []
        from torchspectral.restoration.mp_hsir.telling import tell

        task, why = tell(cube, settings.get("predictor"))
        return {**given, "task": task}, [why]

    def prepare(self, info: SceneInfo) -> None:
        """Keep the scene's bands for the report."""
        self.info = info

    def apply(self, tile: Tile, state: State) -> dict[str, torch.Tensor]:
        """Restore a tile, (n, band, y, x)."""
        cube, network = tile["cube"], Loaded(self, unwrapped(state), tile["cube"])
        bridge = self.bridge(network.bands, network.known_tasks, tile.info.wavelength, state.get("wavelengths"))
        missing = None
        if self.holes:
            missing = ~torch.isfinite(cube) | (cube == 0)
            cube = cube.masked_fill(missing, 0.0)
        into = cube if bridge is None else torch.einsum("mb,nbyx->nmyx", _like(bridge.there, cube), cube)
        out = network(into)
        if self.settings.clamp:
            out = out.clamp(0, 1)
        if bridge is not None:
            out = self._returned(cube, into, out, bridge, missing)
        if missing is not None and self.settings.keep_observed:
            out = torch.where(missing, out, cube)
        return {"cube": out}

    def _returned(
        self, cube: torch.Tensor, into: torch.Tensor, out: torch.Tensor, bridge: Bridge, missing: torch.Tensor | None
    ) -> torch.Tensor:
        """The scene with the network's change; missing values take the network's own."""
        back, touched = _like(bridge.back, cube), torch.from_numpy(bridge.touched).to(cube.device)
        changed = cube + torch.einsum("bm,nmyx->nbyx", back, out - into)
        if missing is None:
            return changed
        own = torch.einsum("bm,nmyx->nbyx", back, out)
        return torch.where(missing & touched[:, None, None], own, changed)

    def bridge(
        self, bands: int, tasks: int, wavelength: np.ndarray, known: Sequence[float] | None = None
    ) -> Bridge | None:
        """How the scene's bands meet the network's, `known` or the paper's; None where they are the same.

        Raises
        ------
        BandMismatch, MissingMetadata
        """
        s = self.settings
        grid = model_grid(bands, tasks) if known is None else np.asarray(known, dtype=np.float64)
        if s.last_band:
            grid = np.linspace(s.first_band, s.last_band, bands)
        scene = np.asarray(wavelength, dtype=np.float64)
        if grid is None or s.resample == "never" or (scene.size == bands and not np.isfinite(scene).all()):
            if scene.size != bands:
                raise BandMismatch(
                    f"the weights are for {bands} bands and the scene has {scene.size}: "
                    + ("leave out resample=never" if grid is not None else "give first_band and last_band of the "
                       "network's evenly spaced bands, or train on this sensor (torchspectral train restore --method "
                       "mp-hsir-remote)")
                )  # fmt: skip
            return None
        step = (grid[-1] - grid[0]) / max(bands - 1, 1)
        if scene.size == bands and float(np.abs(scene - grid).max()) <= step / 2:
            return None
        return Bridge.build(scene, grid)

    def mode(self, state: State) -> TextMode:
        """What the text features do with these weights.

        Raises
        ------
        MissingWeights
            The weights want text features and there are none.
        BadSettings
            There are text features and the weights have no use for them.
        """
        asked = self.settings.text_mode
        authors = any(key.endswith(".attn_mask") for key in state)
        stored = isinstance(state.get("text_features"), torch.Tensor)
        mode: TextMode = asked if asked != "auto" else "released" if authors else "paper" if stored else "learned"
        if mode == "learned" and self.text is not None:
            raise BadSettings(
                "got text_features, but these weights were trained with learned prompts alone: leave them out, or set "
                "text_mode=paper or released for weights that were trained so"
            )
        if mode != "learned" and self.text is None and not stored:
            raise MissingWeights(
                f"these weights steer by text features (text_mode={mode}), which are not in the file: give "
                "text_features=FILE, the CLIP ViT-B/32 features of the task prompts in the order of their numbers, "
                "or set text_mode=learned to do without, at a loss nobody has measured"
            )
        return mode

    def built(self, arguments: Mapping[str, Any]) -> nn.Module:
        """The network without weights, in evaluation mode."""
        key = repr(sorted(arguments.items()))
        if self._built is None or self._built[0] != key:
            with torch.device("meta"):
                self._built = key, MPHSIRNetwork(**arguments).eval()
        return self._built[1]

    def memory(self, size: Size) -> dict[str, int]:
        """Bytes of the feature maps at the paper's larger width (96 channels), and copies of the cube."""
        rows, cols = (-(-n // MULTIPLE) * MULTIPLE for n in (size.rows, size.cols))
        return {"fit": 0, "apply": 4 * rows * cols * (4 * size.bands + FEATURES * 96)}

    def figures(self, state: State) -> dict[str, Any]:
        """Task numbers, text mode, weights, and what was done about bands."""
        state = unwrapped(state)
        arguments = arguments_of(state)
        bands = arguments["bands"]
        found: dict[str, Any] = {
            "tasks": task_numbers(self.settings.task, arguments["tasks"]),
            "text": self.mode(state),
            "parameters": sum(int(p.numel()) for p in self.built(arguments).parameters()),
        }
        warnings = []
        trained = [word for word in self.words if word in WORDS]
        if {"motion", "poisson", "real"} & set(trained):
            names = ", ".join(f"{w} answers to {WORDS[w]}" for w in trained if w in ("motion", "poisson", "real"))
            warnings.append(f"the paper's networks were not trained on this task: {names} (motion: after fine-tuning)")
        if (
            self.info is not None
            and (bridge := self.bridge(bands, arguments["tasks"], self.info.wavelength, state.get("wavelengths")))
            is not None
        ):
            kept = int((~bridge.touched).sum())
            found["bands"] = {"network": bands, "scene": bridge.touched.size, "untouched": kept}
            warnings.append(
                f"{int(bridge.touched.sum())} bands were interpolated to the network's {bands} and its change back; "
                f"{kept} bands beyond its range were left as they are"
            )
        return {**found, "warnings": warnings}


FEATURES = 40
"""Values a pixel and channel of the first level that are alive at once (36 measured on 256 x 256 pixels)."""


def _like(matrix: np.ndarray, cube: torch.Tensor) -> torch.Tensor:
    return torch.from_numpy(matrix).to(cube)


class Loaded:
    """The network with the weights of a state.

    Parameters
    ----------
    method : MPHSIR
    state : State
    cube : Tensor
        For device and precision.

    Raises
    ------
    MissingWeights, BadWeights, BadSettings
    """

    def __init__(self, method: MPHSIR, state: State, cube: torch.Tensor) -> None:
        arguments = arguments_of(state)
        self.bands, self.known_tasks = arguments["bands"], arguments["tasks"]
        self.tasks = torch.tensor([task_numbers(method.settings.task, arguments["tasks"])], device=cube.device)
        arguments["text_mode"] = method.mode(state)
        self.module = method.built(arguments)
        own = {key: tuple(tensor.shape) for key, tensor in self.module.state_dict().items()}
        given = {key: value for key, value in state.items() if isinstance(value, torch.Tensor)}
        check(given, own, WeightsCard(name="mp-hsir", optional_keys=OPTIONAL), "weights of mp-hsir")
        self.weights = {key: given[key].to(cube) for key in own}
        self.text = None if method.text is None else method.text.to(cube)
        if self.text is not None and len(self.text) != arguments["tasks"]:
            raise BadSettings(
                f"got text features of {len(self.text)} tasks and weights of {arguments['tasks']}: expected a row a "
                f"task, for the prompts {list(PROMPTS.values())}"
            )

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """Restore (n, band, y, x)."""
        out: torch.Tensor = torch.func.functional_call(self.module, self.weights, (x, self.tasks, self.text))
        return out


def unwrapped(state: State) -> State:
    """A state with the network's names: the authors' checkpoints put ``net.`` before them."""
    if f"{WRAPPER}patch_embed.proj.weight" not in state:
        return state
    return {key.removeprefix(WRAPPER): value for key, value in state.items()}


def arguments_of(state: Mapping[str, Any]) -> dict[str, Any]:
    """Constructor arguments of `MPHSIRNetwork`, read off its weights.

    Raises
    ------
    MissingWeights
        The state holds no weights of this network.
    """

    def shape(key: str, axis: int) -> int:
        tensor = state.get(key)
        if not isinstance(tensor, torch.Tensor) or tensor.ndim <= axis:
            raise MissingWeights(
                "mp-hsir needs trained weights: give weights=FILE or a name (torchspectral weights list), or train: "
                "torchspectral train restore --method mp-hsir-remote --data SCENES -o RUN"
            )
        return int(tensor.shape[axis])

    def blocks(stage: str) -> int:
        found = {int(m[1]) for key in state if (m := re.match(rf"{stage}\.blocks\.(\d+)\.", key))}
        return max(found, default=0) + 1

    stages = ("encoder_level1", "encoder_level2", "latent")
    width, hidden = shape("latent.blocks.0.mlp.fc2.weight", 0), shape("latent.blocks.0.mlp.fc2.weight", 1)
    return {
        "bands": shape("patch_embed.proj.weight", 1),
        "dim": shape("patch_embed.proj.weight", 0),
        "tasks": shape("prompt1.text_prompt_learnable", 1),
        "blocks": tuple(blocks(stage) for stage in stages),
        "refinement": blocks("refinement"),
        "heads": tuple(shape(f"{stage}.blocks.0.attn.relative_position_bias_table", 1) for stage in stages),
        # Only whole numbers of hidden channels are stored, and the same factor gives those of every width.
        "expansion": 2.66 if int(width * 2.66) == hidden else (hidden + 0.5) / width,
        "stored_text": "text_features" in state,
    }
