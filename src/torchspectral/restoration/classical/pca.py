"""Principal components: keep those that stand above noise, and turn back."""

from __future__ import annotations

from typing import Any

import torch

from torchspectral.engine.method import Input, Method, Output, Scope, Size, Source, State, Tile
from torchspectral.errors import BadInput, BandMismatch
from torchspectral.ops.gram import covariance, eigh_descending
from torchspectral.restoration.classical.levels import is_flat
from torchspectral.restoration.subspace import noise_edge
from torchspectral.settings import Settings, setting


class PcaSettings(Settings):
    """Principal components."""

    components: int | None = setting(
        None, "components to keep; None: those whose variance is above the largest that noise alone would have", ge=1
    )
    variance: float | None = setting(
        None, "keep as many components as hold this share of the variance; takes the place of `components`", gt=0, le=1
    )


class Pca(Method):
    """Projection of each pixel on the leading principal components of the scene.

    The number of components is found as for white noise of one level in all bands (its eigenvalues follow the law of
    Tracy and Widom); where bands differ in noise, "mnf" and "fast-eigen" divide by it first and keep more of the scene.

    State
    -----
    mean : Tensor, shape (bands,)
    basis : Tensor, shape (bands, k)
    components : int
    variance : float
        Share that the components hold.

    References
    ----------
    Pearson, "On lines and planes of closest fit to systems of points in space", Philosophical Magazine 2(11), 1901.
    Johnstone, "On the distribution of the largest eigenvalue in principal components analysis", Annals of Statistics
    29(2), 2001.
    """

    Settings = PcaSettings
    inputs = (Input("cube"),)
    outputs = (Output("cube"),)
    scope = Scope.PIXEL
    needs_fit = True
    state_keys = ("mean", "basis", "components")

    def fit(self, source: Source, seed: int, state: State | None) -> State:
        """Covariance in one pass, then one eigenproblem of bands x bands."""
        if state is not None and "basis" in state:
            return state
        gram = source.gram()
        wanted, bands = self.settings.components, source.info.bands
        if wanted is not None and wanted > bands:
            raise BadInput(f"got components={wanted} for {bands} bands, expected at most as many")
        if gram.n < 1:
            raise BadInput("got no valid pixel: check the mask and nodata")
        mean = gram.mean.cpu()
        power, vectors = eigh_descending(covariance(gram.n, gram.total.cpu(), gram.cross.cpu()))
        power = power.clamp_min(0)
        held = power.cumsum(0) / power.sum().clamp_min(1e-300)
        if self.settings.variance is not None:
            k = int((held < self.settings.variance - 1e-12).sum()) + 1
        elif wanted is not None:
            k = wanted
        else:
            k = 0 if is_flat(gram) else int((power > power.median() * noise_edge(gram.n, bands)).sum())
        k = min(max(k, 1), bands)
        return {"mean": mean, "basis": vectors[:, :k], "components": k, "variance": float(held[k - 1])}

    def apply(self, tile: Tile, state: State) -> dict[str, torch.Tensor]:
        """Project, (n, bands, y, x)."""
        cube = tile["cube"]
        basis, mean = state["basis"].to(cube), state["mean"].to(cube)[:, None, None]
        if len(basis) != cube.shape[1]:
            raise BandMismatch(f"the components are of {len(basis)} bands, the cube has {cube.shape[1]}: fit it here")
        scores = torch.einsum("bk,nbyx->nkyx", basis, cube - mean)
        return {"cube": torch.einsum("bk,nkyx->nbyx", basis, scores).add_(mean)}

    def memory(self, size: Size) -> dict[str, int]:
        """A centred copy, the scores and the answer."""
        pixels = size.rows * size.cols * size.bands * 4
        return {"fit": 2 * pixels, "apply": 3 * pixels}

    def figures(self, state: State) -> dict[str, Any]:
        """Components kept, and the share of the variance that they hold."""
        return {"components": state["components"], "variance_kept": float(f"{state['variance']:.6g}")}
