"""The verb: a vector for each cell of a scene.

What comes back are layers, one a dimension, on a grid whose pixels are the encoder's positions (or windows), in the scene's
CRS: `diagnose` reads them, and any GIS.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from torchspectral.cube import check_cube
from torchspectral.errors import BadSettings
from torchspectral.log import Progress, no_progress
from torchspectral.result import Report, Result

ROOM, METHOD = "embedding", "backbone"


def embed(
    cube: xr.DataArray,
    *,
    backbone: str | None = None,
    weights: Path | str | None = None,
    settings: Mapping[str, Any] | None = None,
    out: Path | str | None = None,
    progress: Progress = no_progress,
    **options: Any,
) -> Result:
    """Turn a scene of any size into vectors by a backbone.

    Parameters
    ----------
    cube : DataArray, dims (band, y, x)
        Lazy cubes are streamed. Their bands must be those that the weights were trained on, or are resampled to them by
        spectral response with ``resample=True``, which the report says, with the least coverage; encoders that compute
        with wavelengths take the scene's own.
    backbone : str, optional
        Name of an encoder, such as "spec-vit-s"; by default that of the weights.
    weights : path or str, optional
        A run (of pretraining, or of a tuned encoder), a file or a name; files of an encoder's authors need `backbone`
        beside. By default the only weights of the backbone on this machine. Untrained ones are never taken, unless
        ``settings={"initial": "random"}`` asks for them.
    settings : mapping, optional
        Fields of `EmbeddingSettings`: ``what``, ``window``, ``stride``, ``grid``, ..
    out : path, optional
        File for the vectors, or folder (existing, or a name that ends in "/") for them, the table of their principal
        components and a picture of the first three.
    **options
        Fields of `engine.RunOptions`.

    Returns
    -------
    Result
        ``embedding`` (layers), ``components`` (table: share of the variance).

    Raises
    ------
    BandMismatch, MissingMetadata, BadInput
        The scene does not fit the encoder.
    MissingWeights, BadWeights, UnsafeInput, ProductNotFound
        The weights are not here, of another model, or no weights.
    UnknownName, BadSettings

    Examples
    --------
    >>> import torchspectral as ts
    >>> vectors = ts.embed(ts.open("scene.tif"), weights="runs/dino", out="emb.tif")  # doctest: +SKIP
    """
    from torchspectral import registry
    from torchspectral.embedding.encoders import find_encoder
    from torchspectral.embedding.fitting import fit_bands, statistics, windows
    from torchspectral.embedding.method import ENCODER, EmbeddingSettings
    from torchspectral.engine import RunOptions, run
    from torchspectral.weights import Weights

    cube = check_cube(cube)
    s = EmbeddingSettings.make(dict(settings or {}))
    asked = RunOptions.make(options)
    if backbone and s.backbone and backbone != s.backbone:
        raise BadSettings(f"got backbone={backbone} and the setting backbone={s.backbone}, expected one of them")
    found = find_encoder(
        backbone or s.backbone,
        weights,
        initial=s.initial,
        network=s.network,
        window=s.window,
        bands=int(np.count_nonzero(cube["good"].values)) if asked.bands == "good" else cube.sizes["band"],
        seed=asked.seed,
    )
    cube, index, resampled = fit_bands(cube, found, s, options)
    if resampled and not isinstance(asked.bands, str):
        options = {**options, "bands": "all"}
    scale, mean, std, notes = statistics(found, s, np.asarray(cube["wavelength"].values, dtype=np.float64)[index])
    decided = windows(found, s)
    for name in ("scope", "step", "reach"):
        given = getattr(s, name)
        if name in s.model_fields_set and given != decided.get(name, given):
            raise BadSettings(
                f"got {name}={given}, which the encoder decides ({decided[name]}): give window and stride"
            )
    if decided["scope"] == "tile" and asked.tile is not None:
        raise BadSettings(
            "got a tile size, but the windows of this encoder are set by window= and stride=: leave it out"
        )
    made = registry.create(ROOM, METHOD, {**s.model_dump(exclude_unset=True), **decided, "backbone": found.name})
    made.scale = scale
    facts = {
        "name": found.name,
        "arguments": found.arguments,
        "bands": int(index.size),
        "mean": mean,
        "std": std,
        "scale": [scale.rule, scale.gain, scale.offset],
    }
    dim = found.network.dim if s.what == "pooled" else int(found.network.map_dims[-1])
    state = {
        **{k: v.detach() for k, v in found.network.state_dict().items()},
        ENCODER: facts,
        "names": [f"embedding {n + 1}" for n in range(dim)],
    }
    weighed: Any = Weights(state, found.card, Path()) if found.trained else state
    picture: list[np.ndarray] = []
    review = _review([*found.notes, *notes], resampled, picture, out, asked.changed())
    result = run(
        made,
        {"cube": cube},
        out=out,
        options=RunOptions.make(options),
        state=weighed,
        progress=progress,
        review=review,
    )
    _draw(result, picture, asked.overwrite)
    return result


def _review(
    notes: list[str], resampled: list[str], picture: list[np.ndarray], out: Any, options: dict[str, Any]
) -> Any:
    """Says in the report what was done, and finds the principal components where they are kept."""
    from torchspectral.embedding.picture import colours, principal_components
    from torchspectral.engine import Output, Review

    table = Output("components", kind="table")

    def look(values: Mapping[str, Any], report: Report) -> dict[str, Any]:
        report.resampled += resampled
        report.notes += notes
        report.options |= options  # as they were asked for: bands are chosen before they are resampled
        if out is not None and not _is_folder(out):
            return {}
        components = principal_components(values["embedding"])
        if components is None:
            report.notes.append("fewer than 2 cells have data: there are no principal components")
            return {}
        report.figures["first_three_components"] = round(float(components.share[:3].sum()), 4)
        if out is not None:
            picture.append(colours(values["embedding"], components))
        return {"components": components.table()}

    return Review(look, (table,))


def _is_folder(out: Any) -> bool:
    from torchspectral.engine.method import Output
    from torchspectral.engine.paths import plan_paths

    found = plan_paths(out, (Output("embedding", kind="layers"), Output("components", kind="table")))
    return found is not None and (found.folder or "components" in found.files)


def _draw(result: Result, picture: list[np.ndarray], overwrite: bool) -> None:
    """The picture beside the vectors, in a folder of all values."""
    written = result.paths.get("embedding")
    if not picture or written is None:
        return
    from torchspectral.embedding.picture import as_png
    from torchspectral.report.files import write_whole

    path = Path(written).with_name("preview.png")
    write_whole(path, as_png(picture[0]), overwrite=overwrite)
    result.paths["picture"] = str(path)
