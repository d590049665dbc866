"""Labelling a scene as the benchmark scenes were: spectra that a person chose, abundances, and what to check them by."""

from __future__ import annotations

import math
from typing import Any, Literal

import numpy as np
import torch

from torchspectral.engine.method import BandRule, Gram, Input, Output, Scope, Source, State, Tile
from torchspectral.errors import BadInput
from torchspectral.ops.fcls import Constraint
from torchspectral.settings import setting
from torchspectral.unmixing.counting import check_sums, count_endmembers
from torchspectral.unmixing.library.base import library_state
from torchspectral.unmixing.polygons import PolygonsSettings, labelled_spectra
from torchspectral.unmixing.scoring import angle_matrix
from torchspectral.unmixing.vca_fcls import Abundances, unmix_tile

ALIKE = 0.05
"""Angle [rad] below which two endmembers are called hard to tell apart."""

ILL = 1e3
"""Condition number above which abundances hang on noise."""

SCALES_APART = 10.0
"""Ratio of the scene's values to the endmembers' above which one of them is likely in other units."""


class LabelSettings(PolygonsSettings):
    """Which spectra, and in what units the scene is."""

    scene_scale: float | Literal["max"] = setting(
        1.0,
        "the scene is divided by this before its abundances are solved: 1 where endmembers are in its units; max, its "
        "largest value, for endmembers of scenes that were divided by it; or a number (Jasper Ridge: 5000)",
    )


class Label(Abundances):
    """Ground-truth labelling: spectra of drawn areas or of a table, exact FCLS abundances, and checks.

    The four steps: how many endmembers (the report has the estimators' counts; a person decides), their spectra,
    abundances that are at least 0 and sum to one, and a look at maps, residual, angles and condition number; where these
    are wrong an endmember is, and the steps are repeated.

    Outputs
    -------
    abundances : layers, one a class
    rmse : layer
        Root mean square residual over the bands, in the cube's units.
    endmembers : spectra
        In the units of the scene divided by `scene_scale`.
    spread : spectra
        Standard deviation of each class's pixels; 0 for spectra that were given.
    angles : table
        Spectral angles [rad] between the endmembers.

    References
    ----------
    Zhu, "Hyperspectral unmixing: ground truth labeling, datasets, benchmark performances and survey", arXiv 1708.05125
    (2017). Heinz and Chang, IEEE TGRS 39(3), 2001 (abundances).
    """

    Settings = LabelSettings
    inputs = (
        Input("cube"),
        Input("library", kind="spectra", optional=True),
        Input("labels", fit_only=True, optional=True),
    )
    outputs = (
        *Abundances.outputs,
        Output("spread", kind="spectra", names="=endmember_names", undo_scale=True, from_state=True),
        Output("angles", kind="table", from_state=True),
    )
    scope = Scope.PIXEL
    bands = BandRule(least=2)
    needs_fit = True
    constraint: Constraint = "fcls"

    def fit(self, source: Source, seed: int, state: State | None) -> State:
        """Sums for the counts, then the spectra: one pass for each, two for drawn areas."""
        gram = source.gram()
        check_sums(gram)
        scale = gram.peak if self.settings.scene_scale == "max" else float(self.settings.scene_scale)
        if not (math.isfinite(scale) and scale > 0):
            raise BadInput(f"got a scene scale of {scale:g}, expected a positive number")
        first = next(iter(source.tiles()))
        if state is None and "labels" in first:
            if "library" in first:
                raise BadInput("got spectra and drawn areas, expected one of them as endmembers")
            found = labelled_spectra(source, self.settings)
            found["endmembers"] = found["endmembers"] / scale
            found["spread"] = found["spread"] / scale
        elif state is None and "library" not in first:
            raise BadInput(
                "got no endmembers to label with, expected drawn areas (labels=, --polygons) or spectra (library=, "
                "--endmembers)"
            )
        else:
            found = dict(library_state(source, state))
            found.setdefault("spread", torch.zeros_like(found["endmembers"]))
        found["scene_scale"] = scale
        return {**found, **_checks(found, gram, scale)}

    def apply(self, tile: Tile, state: State) -> dict[str, torch.Tensor]:
        """FCLS of the scaled scene; the residual is in the cube's units."""
        scale, cube = float(state.get("scene_scale", 1.0)), tile["cube"]
        solver = self._solver_for(self._spectra(tile, state), cube.shape[1])
        out = unmix_tile(cube if scale == 1 else cube / scale, solver)
        return {**out, "rmse": out["rmse"] * scale}

    def figures(self, state: State) -> dict[str, Any]:
        """Counts of the estimators, condition number, pixels of each class, and what looks wrong."""
        told = ("condition_number", "counts", "scene_scale", "warnings")
        said = {key: state[key] for key in told if state.get(key) not in (None, {}, [])}
        if "pixels_of_class" in state:
            said["pixels"] = dict(zip(state["endmember_names"], state["pixels_of_class"], strict=True))
        return said


def _checks(state: State, gram: Gram, scale: float) -> State:
    """Angles, condition number, counts, and sentences about what a person should look at."""
    spectra = np.asarray(state["endmembers"].cpu(), dtype=np.float64)
    names = [str(n) for n in state["endmember_names"]]
    angles = angle_matrix(spectra, spectra)
    np.fill_diagonal(angles, 0.0)
    condition = float(np.linalg.cond(spectra))
    missing = [str(name) for name in state.get("without_pixels", [])]
    warnings = (
        [f"{', '.join(missing)}: no valid pixel is labelled so, and there is no such endmember"] if missing else []
    )
    warnings += [
        f"{names[i]} and {names[j]} differ by {angles[i, j]:.3f} rad only: their abundances are hard to tell apart"
        for i, j in np.argwhere(np.triu(angles < ALIKE, 1)).tolist()[:8]
    ]
    if condition > ILL:
        warnings.append(f"the endmembers' condition number is {condition:.3g}: abundances hang on noise")
    size = math.sqrt(float(gram.cross.diagonal().mean()) / gram.n) / scale
    ratio = size / max(float(np.sqrt((spectra**2).mean())), 1e-300)
    if not 1 / SCALES_APART < ratio < SCALES_APART:
        warnings.append(
            f"the scene's values are about {ratio:.3g} times the endmembers': are both in the same units? "
            "scene_scale=max or a number divides the scene"
        )
    try:
        counts = count_endmembers(gram.n, gram.total.cpu(), gram.cross.cpu())
    except BadInput:
        counts = {}
    table = {
        "endmember": names,
        **{name: [float(v) for v in column] for name, column in zip(names, angles.T, strict=True)},
    }
    return {"angles": table, "condition_number": condition, "counts": counts, "warnings": warnings}
