"""Every recipe at its smallest: settings and data, for tests that try them all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import xarray as xr
from affine import Affine
from recipe_steps import SMALL, kinds, scene

from torchspectral.geo.grids import place
from torchspectral.learn.patches import PatchStore
from torchspectral.learn.recipe import Recipe

GRID = Affine(30, 0, 5e5, 0, -30, 5e6)
SPEC = {"network": {"dim": 8, "depth": 1, "heads": 2}, "patch": 8, "stride": 8, "view": 8}
LESS: dict[str, Any] = {
    "network": {"embed_dim": 32, "depth": 1, "num_heads": 2, "patch_size": 4}, "view": 8, "drop": 0.0, "attn_drop": 0.0,
    "decoder": {"decoder_dim": 32, "decoder_depth": 1, "decoder_heads": 2}, "drop_path": 0.0,
}  # fmt: skip
INTL = {**SPEC, "backbone": "spec-vit-t", "hidden": 16, "outputs": 12}
SOFTCON = {"hidden": 16, "outputs": 8, "patch": 28, "stride": 28, "view": 28}
SIZES: dict[str, dict[str, Any]] = {
    "spectralearth-dino": {**SPEC, "outputs": 6, "hidden": 8, "bottleneck": 4, "locals": 1, "local_size": 4},
    "spectralearth-moco": {**SPEC, "outputs": 6, "hidden": 8, "queue": 20},
    "spectralearth-mae": {**SPEC, "mask": 0.5, "decoder_dim": 8, "decoder_heads": 2},
    "spectralgpt": {
        "network": {"embed_dim": 16, "depth": 1, "num_heads": 2, "patch_size": 4}, "decoder_dim": 16, "decoder_depth": 1,
        "decoder_heads": 2, "sizes": [8, 16], "shares": [0.5, 0.5], "mask_ratio": 0.75,
    },
    "hyper-mae": {**LESS, "channel_least": 0.2, "channel_most": 0.4},
    "hyper-mae-v1": {**LESS, "radar": True},
    "softcon": {
        **SOFTCON, "backbone": "softcon-vit-s", "network": {"dim": 12, "depth": 1, "heads": 2, "layer_scale": 1.0},
    },
    "intl": INTL,
    "intl-m": INTL,
}  # fmt: skip
MORE: dict[str, dict[str, Any]] = {
    "spectralgpt with fresh positions": {**SIZES["spectralgpt"], "positions": "fresh"},
    "softcon with a queue": {**SIZES["softcon"], "style": "moco-v2", "queue": 20},
    "softcon with a queue of another size": {**SIZES["softcon"], "style": "moco-v2", "queue": 12},
    "spectralearth-moco both ways": {**SIZES["spectralearth-moco"], "symmetric": True, "queue": 0},
    "hyper-mae of one sensor": SIZES["hyper-mae"],
}
"""Other ways of a recipe; its name comes first."""


def settings_of(case: str) -> dict[str, Any]:
    """Settings of a case, of `SIZES` or `MORE`."""
    return {**SMALL, "validate_patches": 8, "block": 32, "guard": 0, **{**SIZES, **MORE}[case]}


def holed(cube: xr.DataArray) -> xr.DataArray:
    """The cube with nodata here and there."""
    gaps = np.random.default_rng(5).random(cube.shape[1:]) < 0.05
    return cube.where(xr.DataArray(~gaps, dims=("y", "x")))


def data_of(case: str, folder: Path) -> tuple[list[Any], dict[str, Any]]:
    """Scenes of a case, and settings that name files."""
    method = case.split()[0]
    if method.startswith(("spectralearth", "intl")):
        return [holed(scene(78))], {}
    if method == "hyper-mae":
        return [holed(scene(8)), *([] if "one" in case else [holed(scene(6, 1, 450.0, 1650.0))])], {}
    if method == "hyper-mae-v1":
        radar = np.random.default_rng(0).normal(-12, 3, (2, 64, 64)).astype(np.float32)
        return [xr.Dataset({"cube": scene(5), "radar": xr.DataArray(radar, dims=("layer", "y", "x"))})], {}
    if method == "softcon":
        file = folder / "cover.tif"
        profile = {"driver": "GTiff", "height": 64, "width": 64, "count": 1, "dtype": "uint8", "crs": "EPSG:32632"}
        if not file.exists():  # a resumed run must find the very file
            with rasterio.open(file, "w", transform=GRID, **profile) as out:
                out.write((kinds(field=28) + 1).astype(np.uint8), 1)
        from torchspectral.backbones.softcon.bands import softcon_bands

        cube = scene(13).assign_coords(wavelength=("band", np.array(softcon_bands().wavelengths)))
        return [place(holed(cube), GRID, 32632)], {"labels": [str(file)]}
    return [holed(scene(6))], {}


def with_second_dates(store: PatchStore, recipe: Recipe) -> PatchStore:
    """The store with another date of each place, where the recipe looks at one."""
    if "later" not in recipe.uses:
        return store
    plain = store.sample

    def sample(part: str, index: int, rng: np.random.Generator | None = None) -> dict[str, np.ndarray]:
        found = plain(part, index, rng)
        other = plain(part, (index + 1) % store.count(part), rng)
        return {**found, "later": other["image"] * 0.9, "later_valid": other["valid"]}

    store.sample = sample  # type: ignore[method-assign]
    return store
