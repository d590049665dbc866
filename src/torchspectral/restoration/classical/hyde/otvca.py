"""OTVCA: few features with orthonormal spectra, each of small total variation."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from torchspectral.engine.method import AnySettings, Input, Method, Output, Round, Scope, Size, Source, State, Tile
from torchspectral.ops.gram import eigh_descending
from torchspectral.ops.total_variation import tv_denoise
from torchspectral.restoration.classical.hyde.units import Units, project, units_of, unproject
from torchspectral.restoration.subspace import at_most
from torchspectral.settings import Settings, setting


class OtvcaSettings(Settings):
    """OTVCA."""

    features: int | None = setting(None, "features; None: components above what noise alone would have", ge=1)
    weight: float | None = setting(
        None,
        "lambda, of the total variation, with each band's values from 0 to 1 (the paper: 0.01); None: the mean noise",
        ge=0,
    )
    iterations: int = setting(200, "iterations at most", ge=1)
    tolerance: float = setting(1e-3, "change of the spectra below which it stops", ge=0)
    inner: int = setting(20, "iterations of each total variation step", ge=1, le=200)
    write_features: bool = setting(False, "return the features as layers")


class Otvca(Method):
    """Orthogonal total variation component analysis.

    min |Y - F V^T|^2 / 2 + weight sum TV(F_i) with V^T V = I, by turns: F is the projected scene after a total variation
    step, V the orthonormal matrix nearest to Y^T F. Each band's values are brought to 0..1 before. Begins with the eigenvectors of the second moments. Each iteration is one pass over the scene.

    State
    -----
    offset : Tensor, shape (bands,)
        Least value of each band.
    forward, inverse : Tensor, shapes (features, bands) and (bands, features)
        V^T over the bands' ranges, and V times these.
    weight : float
    feature_names : list of str
    rounds : int
    change : float
        Of the spectra in the last iteration.

    References
    ----------
    Rasti, Ulfarsson and Sveinsson, "Hyperspectral feature extraction using total variation component analysis", IEEE
    TGRS 54(12), 2016.
    """

    Settings = OtvcaSettings
    inputs = (Input("cube"),)
    scope = Scope.LOCAL
    needs_fit = True
    state_keys = ("offset", "forward", "inverse", "feature_names", "weight")

    def __init__(self, settings: AnySettings | None = None) -> None:
        super().__init__(settings)
        self.halo = self.settings.inner + 1

    @property
    def outputs(self) -> tuple[Output, ...]:  # type: ignore[override]
        """The cube, and the features where asked for."""
        if not self.settings.write_features:
            return (Output("cube"),)
        return Output("cube"), Output("features", kind="layers", names="=feature_names", undo_scale=False)

    def fit(self, source: Source, seed: int, state: State | None) -> Iterator[Round]:
        """Ranges and second moments, then rounds of one pass each."""
        if state is None or "forward" not in state:
            state = self._start(source)
        yield state, 0.0
        while state["rounds"] < self.settings.iterations and state["change"] > self.settings.tolerance:
            product = source.reduce(self._product(state), torch.add)
            left, _, right = torch.linalg.svd(product, full_matrices=False)
            vectors, live = left @ right, state["live"]
            change = float((vectors.T - state["forward"][:, live] * state["range"][live]).norm() / vectors.norm())
            state = {**state, **_bases(state, vectors), "rounds": state["rounds"] + 1, "change": change}
            yield state, state["rounds"] / self.settings.iterations

    def _start(self, source: Source) -> State:
        at_most("features", self.settings.features, len(source.info.wavelength))
        units = units_of(source)
        low, high = source.reduce(_extremes, lambda a, b: (torch.minimum(a[0], b[0]), torch.maximum(a[1], b[1])))
        live, spread = units.live, high.double() - low.double()
        k = min(self.settings.features or units.rank, len(live))
        state: State = {
            "offset": _lowest(units, low.double()),
            "range": spread,
            "live": live,
            "copies": units.with_copies(torch.diag((units.noise > 0).double())),
            "feature_names": [f"feature {i}" for i in range(1, max(k, 1) + 1)],
            "rounds": 0,
            "change": 1.0 if k else 0.0,
        }
        if not k:
            empty = {"forward": units.mean.new_zeros(1, len(low)), "inverse": units.mean.new_zeros(len(low), 1)}
            return state | empty | {"weight": 0.0}
        part, scale = low[live].double(), spread[live]
        rest = units.mean[live] - part
        power = (units.spread[live][:, live] + torch.outer(rest, rest)) / torch.outer(scale, scale)
        noise = float((units.noise[live] / scale).mean())
        weight = noise if self.settings.weight is None else self.settings.weight
        return state | _bases(state, eigh_descending(power)[1][:, :k]) | {"weight": weight}

    def _product(self, state: State) -> Any:
        live = state["live"]

        def sums(tile: Tile) -> torch.Tensor:
            features = self._features(tile, state)
            pixels = tile.core_pixels(tile["cube"][:, live.to(tile.lead.device)])
            pixels = (pixels - state["offset"].to(pixels)[live, None]) / state["range"].to(pixels)[live, None]
            return (pixels @ tile.core_pixels(features).T).double().cpu()

        return sums

    def _features(self, tile: Tile, state: State) -> torch.Tensor:
        return tv_denoise(project(tile["cube"], state), float(state["weight"]), iterations=self.settings.inner)

    def apply(self, tile: Tile, state: State) -> dict[str, torch.Tensor]:
        """Features and the cube that they make, (n, bands, y, x)."""
        features = self._features(tile, state)
        out = {"cube": unproject(features, state)}
        return out | {"features": features} if self.settings.write_features else out

    def memory(self, size: Size) -> dict[str, int]:
        """A centred copy and the answer; ten copies of the features."""
        k = min(self.settings.features or 40, size.bands)
        need = size.rows * size.cols * (4 * size.bands + 10 * k) * 4
        return {"fit": need, "apply": need}

    def figures(self, state: State) -> dict[str, Any]:
        """Features and iterations; a warning where it has not settled."""
        out: dict[str, Any] = {"features": len(state["forward"]), "iterations": int(state["rounds"])}
        if float(state["change"]) > self.settings.tolerance:
            out["warnings"] = [f"the spectra still changed by {float(state['change']):.2g} in the last iteration"]
        return out


def _extremes(tile: Tile) -> tuple[torch.Tensor, torch.Tensor]:
    pixels = tile.core_pixels("cube")
    if not pixels.shape[1]:
        empty = pixels.new_full((len(pixels),), torch.inf).cpu()
        return empty, -empty
    return pixels.amin(1).cpu(), pixels.amax(1).cpu()


def _bases(state: State, vectors: torch.Tensor) -> State:
    """Maps between all bands and features from orthonormal vectors (live, k) of bands from 0 to 1."""
    live, spread = state["live"], state["range"]
    forward = vectors.new_zeros(vectors.shape[1], len(spread))
    forward[:, live] = vectors.T / spread[live]
    inverse = vectors.new_zeros(len(spread), vectors.shape[1])
    inverse[live] = vectors * spread[live, None]
    return {"forward": forward, "inverse": state["copies"] @ inverse}


def _lowest(units: Units, low: torch.Tensor) -> torch.Tensor:
    """Least values; of a copy what it is where the other has its least value."""
    out = low.clone()
    for band, source in enumerate(units.twin.tolist()):
        if source != band:
            slope = units.spread[band, source] / units.spread[source, source]
            out[band] = units.mean[band] + slope * (low[source] - units.mean[source])
    return out
