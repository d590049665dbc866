"""SMA and MESMA with bundles of spectra: fractions of classes, Monte-Carlo uncertainty, shade.

The modes are those of EMIT's production (sma, sma-best, mesma, mesma-best). Against that code: the image is normalised
with the library, so that the bounds mean the same with every normalisation, and `brightness` is put back afterwards;
the best draw is the one of least residual, not of least index; noise is normal unless uniform is asked for; a library
smaller than the number of spectra asked for is used as a whole.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import numpy as np
import torch

from torchspectral.engine.method import BandRule, Input, Method, Output, Scope, Size, Source, State, Tile
from torchspectral.errors import BadSettings, BandMismatch
from torchspectral.ops.bvls import bvls_gram, simplex_gram
from torchspectral.settings import Settings, setting
from torchspectral.unmixing.geometric.base import ENDMEMBERS
from torchspectral.unmixing.library import bundles
from torchspectral.unmixing.library.base import library_state, spectra_for
from torchspectral.unmixing.library.draws import Draws, membership

CHUNK = 16_384


class SmaSettings(Settings):
    """Spectral mixture analysis with a library of classes."""

    normalisation: bundles.Normalisation = setting(
        "brightness",
        "of spectra and pixels: brightness (root mean square outside the water bands), l2, none, or a wavelength [nm]",
    )
    ignore: tuple[tuple[float, float], ...] = setting(
        bundles.EMIT_REGIONS, "wavelength regions that are left out, [[first, last], ...]", unit="nm"
    )
    classes: tuple[str, ...] = setting((), "class of each spectrum; none: names without their last number")
    num_endmembers: int = setting(
        -1, "spectra of a draw, classes in turn; -1: all of the library (EMIT's production: 30, with n_mc 20)", ge=-1
    )
    combination_type: Literal["class-even", "all"] = setting("class-even", "draw classes in turn, or any spectra")
    optimizer: Literal["bvls", "ldsqp", "inverse", "nnls", "fcls"] = setting(
        "bvls",
        "bvls: each fraction 0..1; nnls: not negative; fcls: also sum to one; inverse: unconstrained; ldsqp: the same "
        "minimum as bvls, which EMIT's tool seeks by sequential quadratic programming and which is exact here in one",
    )
    shade: bool = setting(
        False, "fractions are not divided by their sum: the rest up to one is the class shade; needs normalisation none"
    )
    n_mc: int = setting(1, "Monte-Carlo draws of spectra and of noise; from 2 on their deviation is written", ge=1)
    noise: Literal["gaussian", "uniform"] = setting(
        "gaussian", "gaussian: the uncertainty is a standard deviation; uniform: it is the half width"
    )
    sigma: float = setting(0.0, "uncertainty of every band where no uncertainty is given", unit="cube's", ge=0)
    bootstrap: bool = setting(False, "draw the library's spectra with replacement within their classes")


class MesmaSettings(SmaSettings):
    """Multiple-endmember spectral mixture analysis."""

    max_combinations: int = setting(-1, "models of each size, drawn at random where there are more; -1: all", ge=-1)
    levels: tuple[int, ...] = setting(
        (), "spectra of a model, beside shade, such as [1, 2, 3]; none: one of each class"
    )
    rmse_gain: float = setting(
        0.007, "a larger model must lower the residual by this much to be taken", unit="cube's", ge=0
    )
    min_fraction: float = setting(-0.05, "with optimizer=inverse, models with a smaller fraction are passed over")
    max_fraction: float = setting(1.05, "with optimizer=inverse, models with a larger fraction are passed over")


class Sma(Method):
    """Spectral mixture analysis with a library of classes: fractions by class, averaged over Monte-Carlo draws.

    Outputs
    -------
    abundances : layers, one a class (and shade)
        Fractions of the classes.
    brightness : layer
        Sum of the fractions before they were divided by it, times the pixel's own size where it was normalised: low
        where there is shade.
    rmse : layer
        Root mean square residual over the bands used, in the cube's units.
    fractions : layers, one a spectrum of the library
    endmembers : spectra
        The library.
    uncertainty : layers, as abundances, with brightness
        Standard deviation over the draws, where there is more than one.

    References
    ----------
    Ochoa, Brodrick, Okin et al., "Soil and vegetation cover from imaging spectroscopy: SpectralUnmixing", EMIT L3
    algorithm theoretical basis. Roberts, Smith and Adams, "Green vegetation, nonphotosynthetic vegetation, and soils in
    AVIRIS data", Remote Sensing of Environment 44, 1993.
    """

    Settings: ClassVar[type[Settings]] = SmaSettings
    best = False
    """Keep the draw of least residual instead of the mean over the draws."""
    inputs = (
        Input("cube"),
        Input("library", kind="spectra", optional=True),
        Input("uncertainty", optional=True),
    )
    scope = Scope.PIXEL
    bands = BandRule(least=2)

    def __init__(self, settings: Any = None) -> None:
        super().__init__(settings)
        if self.settings.shade and self.settings.normalisation != "none":
            raise BadSettings("got shade=True with a normalisation, which removes shade: set normalisation=none")
        self.outputs = (
            Output("abundances", kind="layers", names="=class_names", undo_scale=False),
            Output("brightness", kind="layers", names=("brightness",), undo_scale=False),
            Output("rmse", kind="layers", names=("rmse",), undo_scale=False),
            Output("fractions", kind="layers", names="=endmember_names", undo_scale=False),
            ENDMEMBERS,
        )
        if self.settings.n_mc > 1:
            self.outputs += (Output("uncertainty", kind="layers", names="=uncertain_names", undo_scale=False),)

    def fit(self, source: Source, seed: int, state: State | None) -> State:
        """Put the library into the state, with its classes and the bands that are used; no pixel is looked at."""
        s, info = self.settings, source.info
        state = dict(library_state(source, state))
        names = [str(n) for n in state["endmember_names"]]
        classes = bundles.classes_of(names, s.classes)
        used = bundles.outside(info.wavelength, s.ignore)
        if int(used.sum()) < 2:
            raise BandMismatch(
                f"{int(used.sum())} of {info.bands} bands lie outside the ignored regions, expected at least 2: set "
                "ignore=[] to use all"
            )
        layers = list(dict.fromkeys(classes)) + (["shade"] if s.shade else [])
        return {
            **state,
            "classes": classes,
            "class_names": layers,
            "uncertain_names": [*layers, "brightness"],
            "used": np.flatnonzero(used).tolist(),
            "wavelength": torch.from_numpy(np.asarray(info.wavelength, dtype=np.float64)[used]),
            "seed": int(seed),
        }

    def apply(self, tile: Tile, state: State) -> dict[str, torch.Tensor]:
        """Layers of a tile, each (n, layers, y, x)."""
        cube = tile["cube"]
        n, _, rows, cols = cube.shape
        used = torch.as_tensor(state["used"], device=cube.device)
        spectra = spectra_for(tile, state)[:, used]
        flat = cube.movedim(1, 0)[used].reshape(len(used), -1)
        doubt = tile["uncertainty"].movedim(1, 0)[used].reshape(len(used), -1) if "uncertainty" in tile else None
        parts = []
        for start in range(0, flat.shape[1], CHUNK):
            part = slice(start, start + CHUNK)
            parts.append(self._unmix(flat[:, part], spectra, None if doubt is None else doubt[:, part], state))
        joined = {name: torch.cat([p[name] for p in parts], dim=1) for name in parts[0]}
        return {name: v.reshape(-1, n, rows, cols).movedim(1, 0).to(cube.dtype) for name, v in joined.items()}

    def _unmix(
        self, pixels: torch.Tensor, spectra: torch.Tensor, doubt: torch.Tensor | None, state: State
    ) -> dict[str, torch.Tensor]:
        """Outputs (layers, n), float64, of pixels (bands used, n)."""
        s = self.settings
        wavelength = state["wavelength"].cpu().numpy()
        sized = spectra / bundles.sizes(spectra.T, s.normalisation, wavelength)[:, None]
        of_class = membership(state, len(spectra), s.shade, pixels.device)
        exact = pixels.to(torch.float64)
        draws = Draws(self.best)
        for draw in range(s.n_mc):
            y = exact
            width = doubt.to(torch.float64) if doubt is not None else s.sigma
            if s.n_mc > 1 and (doubt is not None or s.sigma > 0):
                y = exact + bundles.noise(pixels, int(state["seed"]), draw, s.noise) * width
            gauge = bundles.sizes(y, s.normalisation, wavelength)
            y = y / gauge
            random = np.random.default_rng([int(state["seed"]), draw])
            raw, cost = self._solve(y, sized, state["classes"], random)
            kept = raw.clamp_min(0)
            total = kept.sum(0)
            fractions = kept if s.shade else kept / torch.where(total > 0, total, 1.0)
            layers = of_class @ fractions
            if s.shade:
                layers[-1] = 1 - total
            error = (cost.clamp_min(0) / len(y)).sqrt() * gauge
            draws.add(layers, total * gauge, error, fractions)
        return draws.result()

    def _solve(
        self, y: torch.Tensor, spectra: torch.Tensor, classes: list[str], random: np.random.Generator
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Fractions (spectra, n) of pixels (bands, n) and the squared residual (n,), with one draw of the library."""
        s = self.settings
        if s.combination_type == "class-even":
            chosen = bundles.draw_evenly(classes, s.num_endmembers, random, s.bootstrap)
        else:
            chosen = bundles.draw_any(len(classes), s.num_endmembers, random, s.bootstrap)
        part = spectra[chosen]
        found = solve_model(part @ part.T, part @ y, s.optimizer, s.shade)
        raw = y.new_zeros((len(spectra), y.shape[1]))
        raw[chosen] = found
        return raw, (y - part.T @ found).square().sum(0)

    def memory(self, size: Size) -> dict[str, int]:
        """Float64 copies of one chunk and the layers of the tile."""
        pixels = size.rows * size.cols
        chunk = min(pixels, CHUNK) * 8
        return {"fit": 0, "apply": pixels * 4 * (2 * size.bands + 600) + chunk * (6 * size.bands + 1000)}

    def figures(self, state: State) -> dict[str, Any]:
        """Classes and the bands used."""
        if "classes" not in state:
            return {}
        members = {name: state["classes"].count(name) for name in dict.fromkeys(state["classes"])}
        return {"spectra_of_class": members, "bands_used": len(state["used"])}


class SmaBest(Sma):
    """As sma, with the draw that leaves the least residual instead of the mean over the draws.

    References
    ----------
    As `Sma`.
    """

    best = True


class Mesma(Sma):
    """Multiple-endmember spectral mixture analysis: each pixel has the model of one spectrum a class that fits it best.

    Outputs
    -------
    As `Sma`, and
    members : layers, one a class, int16
        Number, from 1, of the spectrum that stands for the class in the library; 0 where the model does without.

    References
    ----------
    Roberts, Gardner, Church, Ustin, Scheer and Green, "Mapping chaparral in the Santa Monica Mountains using multiple
    endmember spectral mixture models", Remote Sensing of Environment 65, 1998.
    """

    Settings = MesmaSettings

    def __init__(self, settings: Any = None) -> None:
        super().__init__(settings)
        members = Output("members", kind="layers", names="=member_names", dtype="int16", undo_scale=False)
        self.outputs = (*self.outputs, members)

    def fit(self, source: Source, seed: int, state: State | None) -> State:
        """As `Sma.fit`; the models are counted."""
        state = super().fit(source, seed, state)
        found = self._models(state["classes"], int(seed))
        names = list(dict.fromkeys(state["classes"]))
        return {**state, "member_names": names, "models": {str(size): len(m) for size, m in found.items()}}

    def _models(self, classes: list[str], seed: int) -> dict[int, list[tuple[int, ...]]]:
        s = self.settings
        sizes = s.levels or ((s.num_endmembers,) if s.combination_type == "all" and s.num_endmembers > 0 else ())
        random = np.random.default_rng([seed, 1 << 20])
        return bundles.combinations(classes, s.combination_type, sizes, s.max_combinations, random)

    def apply(self, tile: Tile, state: State) -> dict[str, torch.Tensor]:
        """As `Sma.apply`, and which spectra were taken."""
        out = super().apply(tile, state)
        fractions = out["fractions"]
        planes = []
        for name in state["member_names"]:
            of_class = torch.tensor([c == name for c in state["classes"]], device=fractions.device)
            part = fractions * of_class[None, :, None, None]
            top, at = part.max(1)
            planes.append(torch.where(top > 0, at + 1, 0))
        out["members"] = torch.stack(planes, dim=1).to(torch.int16)
        return out

    def _solve(
        self, y: torch.Tensor, spectra: torch.Tensor, classes: list[str], random: np.random.Generator
    ) -> tuple[torch.Tensor, torch.Tensor]:
        s = self.settings
        models = self._models(classes, int(random.integers(1 << 31)) if s.max_combinations > 0 and s.n_mc > 1 else 0)
        gram, products, power = spectra @ spectra.T, spectra @ y, y.square().sum(0)
        taken = y.new_full((y.shape[1],), torch.inf)
        raw = y.new_zeros((len(spectra), y.shape[1]))
        for size in sorted(models):
            least, at, values = self._level(models[size], gram, products, power)
            gain = s.rmse_gain if taken.isfinite().any() else 0.0
            rms, before = (least / len(y)).clamp_min(0).sqrt(), (taken / len(y)).clamp_min(0).sqrt()
            better = least.isfinite() & (~taken.isfinite() | (before - rms > gain))
            fresh = torch.zeros_like(raw).scatter(0, at, values)
            raw = torch.where(better, fresh, raw)
            taken = torch.where(better, least, taken)
        missing = ~taken.isfinite()
        # No model of the pixel lies within the limits of the fractions.
        raw[:, missing] = torch.nan
        return raw, torch.where(missing, torch.nan, taken)

    def _level(
        self, models: list[tuple[int, ...]], gram: torch.Tensor, products: torch.Tensor, power: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Least squared residual (n,) of the models of one size, their spectra (size, n) and fractions (size, n)."""
        s = self.settings
        n, size = products.shape[1], len(models[0])
        least = power.new_full((n,), torch.inf)
        at = torch.zeros((size, n), dtype=torch.int64, device=power.device)
        values = power.new_zeros((size, n))
        for model in models:
            members = torch.tensor(model, device=power.device)
            inner, right = gram[members][:, members], products[members]
            found = solve_model(inner, right, s.optimizer, s.shade)
            cost = power - 2 * (found * right).sum(0) + (found * (inner @ found)).sum(0)
            if s.optimizer == "inverse":
                able = (found >= s.min_fraction).all(0) & (found <= s.max_fraction).all(0)
                cost = torch.where(able, cost, torch.inf)
            better = cost < least
            least = torch.where(better, cost, least)
            at = torch.where(better, members[:, None], at)
            values = torch.where(better, found, values)
        return least, at, values

    def figures(self, state: State) -> dict[str, Any]:
        """Also the number of models by size."""
        return super().figures(state) | ({"models": state["models"]} if "models" in state else {})


class MesmaBest(Mesma):
    """As mesma, with the draw that leaves the least residual instead of the mean over the draws.

    References
    ----------
    As `Mesma`.
    """

    best = True


def solve_model(gram: torch.Tensor, right: torch.Tensor, optimizer: str, shade: bool) -> torch.Tensor:
    """Fractions (p, n) from cross products (p, p) and (p, n).

    With `shade` the fractions of fcls may sum to less than one: zero is one of the spectra.
    """
    if optimizer == "inverse":
        return torch.linalg.pinv(gram, hermitian=True, rtol=1e-12) @ right
    if optimizer in ("bvls", "ldsqp"):
        return bvls_gram(gram, right, 0.0, 1.0)
    if optimizer == "nnls":
        return bvls_gram(gram, right, 0.0, float("inf"))
    if shade:
        gram = torch.nn.functional.pad(gram, (0, 1, 0, 1))
        right = torch.nn.functional.pad(right, (0, 0, 0, 1))
    found = simplex_gram(gram, right)
    return found[:-1] if shade else found
