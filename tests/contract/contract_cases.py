"""Tiny inputs for every registered method, by its declared roles; rows for methods that need something special."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np
import torch
import xarray as xr
from affine import Affine

import torchspectral as ts
from torchspectral import registry
from torchspectral.cube import make_layers, make_spectra
from torchspectral.engine.method import Method
from torchspectral.geo import grid_of, place

RATIO = 2
BANDS = 8


@dataclass
class Special:
    """What a method needs beside its roles.

    Attributes
    ----------
    settings : dict
        That make it quick or possible on a tiny scene.
    state : callable
        State from the number of bands, for methods that need trained weights: theirs need not be good here.
    roles : tuple of str
        Optional roles that it needs all the same.
    bands : int
        Of the tiny scene.
    """

    settings: dict[str, Any] = field(default_factory=dict)
    state: Callable[[int], dict[str, Any]] | None = None
    roles: tuple[str, ...] = ()
    bands: int = BANDS


def _hyperpnn(bands: int) -> dict[str, Any]:
    from torchspectral.sharpening.deep.hyperpnn import HyperPNNNetwork

    torch.manual_seed(0)
    return dict(HyperPNNNetwork(bands).state_dict())


def _r_pnn(bands: int) -> dict[str, Any]:
    from torchspectral.sharpening.zero_shot.networks import RPNNNetwork

    torch.manual_seed(0)
    return dict(RPNNNetwork().state_dict())


def _network(name: str, **sizes: int) -> Callable[[int], dict[str, Any]]:
    def state(bands: int) -> dict[str, Any]:
        torch.manual_seed(0)
        return dict(ts.create_model(name, bands=bands, **sizes).state_dict())

    return state


def _small(name: str, *, by_bands: bool) -> Callable[[int], dict[str, Any]]:
    def state(bands: int) -> dict[str, Any]:
        torch.manual_seed(0)
        network = ts.create_model(name, channels=2, **({"bands": bands} if by_bands else {}))
        return dict(network.state_dict())

    return state


PRIOR = {"iterations": 6, "channels": 4, "gain": 1.0}


def _z_pnn(bands: int) -> dict[str, Any]:
    from torchspectral.sharpening.zero_shot.networks import PNN

    torch.manual_seed(0)
    return dict(PNN(bands).state_dict())


def _essaformer(bands: int) -> dict[str, Any]:
    torch.manual_seed(0)
    return dict(ts.create_model("essaformer", bands=bands, dim=8, scale=2).state_dict())


def _spectral_mixup(bands: int) -> dict[str, Any]:
    torch.manual_seed(0)
    made = ts.create_model("spectral-mixup", bands=bands, n_subs=4, n_ovls=1, n_feats=16, scale=2)
    return dict(made.state_dict())


def _mp_hsir(bands: int) -> dict[str, Any]:
    torch.manual_seed(0)
    made = ts.create_model("mp-hsir", bands=bands, dim=8, blocks=[1, 1, 1], refinement=1)
    return dict(made.state_dict())


def _gains(*names: str) -> Callable[[int], dict[str, Any]]:
    return lambda bands: {n: torch.full((bands, 1), v) for n, v in zip(names, (1.0, 0.0), strict=True)}


def _interferometer(bands: int) -> dict[str, Any]:
    """An ideal instrument: regular path differences, five wavenumbers."""
    opd, sigma = np.arange(bands) * 0.2, np.linspace(1.0, 2.0, 5)
    matrix = 1 + 0.5 * np.cos(2 * np.pi * opd[:, None] * sigma)
    return {
        "matrix": torch.from_numpy(matrix[None]),
        "rows": list(range(bands)),
        "wavelength": [1000 / float(s) for s in sigma],
        "opd": torch.from_numpy(opd),
        "wavenumber": torch.from_numpy(sigma),
    }


def _tuned(bands: int) -> dict[str, Any]:
    """A small LESS ViT with a linear head, whatever the bands."""
    arguments = {
        "backbone": "less-vit-s",
        "arguments": {"patch_size": 4, "embed_dim": 16, "depth": 1, "num_heads": 2},
        "class_names": ["a", "b", "c"],
        "class_numbers": [1, 2, 4],
        "class_colors": [[9, 9, 9]] * 3,
        "bands": bands,
        "patch": 8,
        "wavelengths": np.linspace(420, 2400, bands).tolist(),
    }
    torch.manual_seed(0)
    network = ts.create_model("backbone-classifier", **arguments)
    torch.nn.init.normal_(network.head.linear.weight)
    return {**network.state_dict(), "constructor": arguments, "class_names": arguments["class_names"]}


def _embedding(bands: int) -> dict[str, Any]:
    """A small LESS ViT without a head, whatever the bands."""
    arguments = {"patch_size": 4, "embed_dim": 16, "depth": 1, "num_heads": 2}
    torch.manual_seed(0)
    network = ts.create_model("less-vit-s", **arguments)
    facts = {"name": "less-vit-s", "arguments": arguments, "bands": bands, "mean": [0.3] * bands, "std": [0.2] * bands}
    return {**network.state_dict(), "encoder": facts, "names": [f"embedding {n}" for n in range(network.dim)]}


SPECIAL: dict[tuple[str, str], Special] = {
    ("calibration", "relative-gain"): Special(state=_gains("gain", "offset")),
    ("calibration", "reflectance"): Special(state=_gains("factor", "dark")),
    ("superresolution", "essaformer"): Special({"scale": 2, "gain": 1.0}, _essaformer),
    ("superresolution", "spectral-mixup"): Special(
        {"scale": 2, "gain": 1.0, "n_ovls": 1, "tile": 16, "overlap": 4}, _spectral_mixup
    ),
    ("sharpening", "z-pnn"): Special(settings={"epochs": 3}, state=_z_pnn),
    ("sharpening", "z-pnn-scratch"): Special(settings={"epochs": 3}),
    ("sharpening", "r-pnn"): Special({"first_iterations": 2, "most_iterations": 2}, _r_pnn, bands=4),
    ("sharpening", "rho-pnn"): Special(
        {"ensemble": 2, "ensemble_epochs": 1, "epochs": 1, "sharpenings": 1, "eta": 0.0, "tolerance": 9.0}, bands=4
    ),
    ("sharpening", "hyperpnn"): Special(state=_hyperpnn),
    ("sharpening", "hspenet"): Special(state=_network("hspenet")),
    ("sharpening", "hyper-dsnet"): Special(state=_network("hyper-dsnet")),
    ("sharpening", "dhp-darn"): Special(PRIOR, _network("dhp-darn", features=8)),
    ("sharpening", "dip-hyperkite"): Special(PRIOR | {"block": 16}, _network("dip-hyperkite", features=2)),
    ("sharpening", "pca-z-pnn"): Special({"iterations": 6}),
    ("sharpening", "tv"): Special(settings={"iterations": 5}),
    ("sharpening", "hysure"): Special(settings={"iterations": 5, "p": 4}),
    ("restoration", "hsdt"): Special({"tile": 32, "overlap": 8}, _small("hsdt-s", by_bands=True)),
    ("restoration", "man"): Special(state=_small("man-s", by_bands=False)),
    ("restoration", "mp-hsir"): Special({"tile": 32, "overlap": 0}, _mp_hsir),
    ("restoration", "fast-eigen"): Special({"search": 4, "loops": 2}),
    ("restoration", "ngmeet"): Special({"iterations": 2, "search": 6}),
    ("restoration", "fasthyde"): Special({"k": 2, "patch": 4, "search": 3}),
    ("restoration", "fasthyin"): Special({"k": 2, "patch": 4, "search": 3, "reach": 2}),
    ("restoration", "l1hymixde"): Special({"k": 2, "patch": 4, "search": 2, "window": 7, "iterations": 2}),
    ("restoration", "hyres"): Special({"levels": 3}),
    ("restoration", "hyminor"): Special({"levels": 3}),
    ("restoration", "forpdn"): Special({"levels": 3}),
    ("restoration", "wsrrr"): Special({"levels": 2, "iterations": 4}),
    ("restoration", "otvca"): Special({"iterations": 4}),
    ("classification", "sam"): Special(roles=("library",)),
    ("classification", "backbone"): Special({"tile": 8, "overlap": 4}, _tuned),
    ("embedding", "backbone"): Special({"window": 8, "stride": 4, "step": 4, "grid": "pixels"}, _embedding),
    ("classification", "pca-lda"): Special(roles=("labels",)),
    ("classification", "svm"): Special({"c": [1.0], "gamma": [0.1]}, roles=("labels",)),
    ("classification", "random-forest"): Special({"trees": 5}, roles=("labels",)),
    ("calibration", "ridge"): Special(state=_interferometer),
    ("calibration", "pinv"): Special(state=_interferometer),
    ("calibration", "phillips-twomey"): Special(state=_interferometer),
    ("calibration", "tsvd"): Special(state=_interferometer),
    ("calibration", "loris-verhoeven"): Special({"iterations": 50}, state=_interferometer),
    ("calibration", "idct"): Special(state=_interferometer),
    ("unmixing", "fcls"): Special(roles=("library",)),
    ("unmixing", "label"): Special(roles=("library",)),
    ("unmixing", "admmnet"): Special({"k": 3, "epochs": 2}),
    ("unmixing", "cnnaeu"): Special({"k": 3, "epochs": 3, "patch": 8, "batch": 3, "dropout": 0.0}),
    ("unmixing", "cycu-net"): Special({"k": 3, "epochs": 3, "dropout": 0.0}),
    ("unmixing", "deeptrans-hsu"): Special(
        {"k": 3, "epochs": 2, "size": 12, "overlap": 4, "patch": 4, "dim": 16, "dropout": 0.0}
    ),
    ("unmixing", "misicnet"): Special({"k": 3, "iterations": 3}),
    ("unmixing", "msnet"): Special({"k": 3, "iterations": 3, "dropout": 0.0}),
    ("unmixing", "pgmsu"): Special({"k": 3, "epochs": 2, "batches": 2}),
    ("unmixing", "suncnn"): Special({"iterations": 3}),
    ("unmixing", "undip"): Special({"k": 3, "iterations": 3}),
    ("unmixing", "vca-fcls"): Special(settings={"k": 3}),
    ("unmixing", "vca"): Special(settings={"k": 3}),
    ("unmixing", "n-findr"): Special(settings={"k": 3}),
    ("unmixing", "sivm"): Special(settings={"k": 3}),
    ("unmixing", "atgp"): Special(settings={"k": 3}),
    ("unmixing", "sisal"): Special(settings={"k": 3}),
    ("unmixing", "ppi"): Special(settings={"k": 3, "skewers": 300}),
    ("unmixing", "sunsal"): Special(roles=("library",)),
    ("unmixing", "sunsal-tv"): Special({"iterations": 20}, roles=("library",)),
    ("unmixing", "clsunsal"): Special({"iterations": 30}, roles=("library",)),
    ("unmixing", "s2wsu"): Special({"outer": 5}, roles=("library",)),
    ("unmixing", "mua"): Special({"iterations": 50}, roles=("library",)),
    ("unmixing", "sma"): Special(roles=("library",)),
    ("unmixing", "sma-best"): Special({"n_mc": 2, "num_endmembers": 2, "sigma": 0.01}, roles=("library",)),
    ("unmixing", "mesma"): Special(roles=("library",)),
    ("unmixing", "mesma-best"): Special({"n_mc": 2, "sigma": 0.01}, roles=("library",)),
    ("unmixing", "sunaa"): Special({"k": 2, "iterations": 4}, roles=("library",)),
    ("unmixing", "edaa"): Special({"k": 3, "runs": 3, "iterations": 5}),
    ("unmixing", "archetypal-analysis"): Special({"k": 3, "iterations": 4}),
    ("unmixing", "nmf"): Special(settings={"k": 3, "iterations": 20}),
    ("unmixing", "l1-nmf"): Special(settings={"k": 3, "iterations": 20}),
    ("unmixing", "l12-nmf"): Special(settings={"k": 3, "iterations": 20}),
    ("unmixing", "w-nmf"): Special(settings={"k": 3, "iterations": 20}),
    ("unmixing", "g-nmf"): Special(settings={"k": 3, "iterations": 20}),
    ("unmixing", "g-l1-nmf"): Special(settings={"k": 3, "iterations": 20}),
    ("unmixing", "edc-nmf"): Special(settings={"k": 3, "iterations": 20}),
    ("unmixing", "cnmf-mvc"): Special(settings={"k": 3, "iterations": 20}),
    ("unmixing", "rrlbs"): Special(settings={"k": 3, "iterations": 20, "burn_in": 5, "every": 5}),
}


def special(card: registry.Card) -> Special:
    return SPECIAL.get((card.room, card.name), Special())


def create(card: registry.Card) -> Method:
    made: Method = registry.create(card.room, card.name, special(card).settings)
    return made


def cube_of(bands: int = BANDS, rows: int = 24, cols: int = 20, *, grid: str = "map", seed: int = 0) -> xr.DataArray:
    """A mixture of four smooth spectra with some noise, to do with as one likes."""
    return _cube(bands, rows, cols, grid, seed).copy(deep=True)


@lru_cache
def _cube(bands: int, rows: int, cols: int, grid: str, seed: int) -> xr.DataArray:
    rng = np.random.default_rng(seed)
    pure = rng.random((4, bands)).cumsum(1) / bands + 0.1
    shares = rng.dirichlet(np.full(4, 0.6), (rows, cols))
    values = np.einsum("yxk,kb->byx", shares, pure) + rng.normal(0, 0.005, (bands, rows, cols))
    cube = ts.make_cube(
        np.clip(values, 0.01, 1).astype(np.float32),
        wavelength=np.linspace(420, 2400, bands),
        fwhm=np.full(bands, 10.0),
        quantity="reflectance",
    )
    if grid == "map":
        return place(cube, Affine(30, 0, 600000, 0, -30, 5000000), "EPSG:32633")
    if grid == "rotated":
        return place(cube, Affine(25, 8, 600000, 8, -25, 5000000), "EPSG:32633")
    return cube


def inputs_of(card: registry.Card, method: Method, cube: xr.DataArray) -> dict[str, xr.DataArray]:
    """The scene in the first role, and something fitting in every other that is needed."""
    found: dict[str, xr.DataArray] = {}
    rng = np.random.default_rng(9)
    rows, cols, bands = cube.sizes["y"], cube.sizes["x"], cube.sizes["band"]
    for number, role in enumerate(method.inputs):
        if number == 0:
            found[role.role] = cube
        elif role.optional and role.role not in special(card).roles:
            continue
        elif role.kind == "spectra":
            spectra = rng.random((3, bands)).cumsum(1) / bands + 0.1
            found[role.role] = make_spectra(
                spectra.astype(np.float32), ["oak", "soil", "water"], wavelength=cube["wavelength"].values
            )
        elif role.role == "labels":
            classes = (np.arange(rows * cols).reshape(rows, cols) % 4).astype(np.int16)
            found[role.role] = make_layers(classes[None], ["classes"], like=cube)
        else:
            found[role.role] = finer(cube, RATIO if role.ratio == "finer" else 1, 1 if role.role == "pan" else 3)
    return found


def finer(cube: xr.DataArray, ratio: int, bands: int) -> xr.DataArray:
    """Broad bands of the same ground on a finer grid."""
    mean = np.nan_to_num(cube.values, nan=0.2).mean(0)
    up = np.repeat(np.repeat(mean, ratio, 0), ratio, 1)
    texture = np.random.default_rng(4).normal(0, 0.02, (bands, *up.shape))
    values = np.clip(up + texture, 0.01, None).astype(np.float32)
    out = ts.make_cube(values, wavelength=np.linspace(500, 800, bands), quantity=cube.attrs["quantity"])
    grid = grid_of(cube)
    return out if grid.kind == "none" else place(out, grid.scaled(ratio).transform, grid.crs)


def state_of(card: registry.Card, bands: int) -> dict[str, Any] | None:
    make = special(card).state
    return make(bands) if make else None


def run(
    card: registry.Card,
    cube: xr.DataArray,
    *,
    method: Method | None = None,
    inputs: dict[str, xr.DataArray] | None = None,
    **options: Any,
) -> Any:
    """Run a method over a scene, and over something fitting in its other roles where no `inputs` are given."""
    method = method or create(card)
    more = {name: options.pop(name) for name in ("out", "progress") if name in options}
    state = options.pop("state", None) or state_of(card, len(_used(method, cube, options)))
    inputs = inputs or inputs_of(card, method, cube)
    return ts.run(method, inputs, options=ts.RunOptions(**options), state=state, **more)


def _used(method: Method, cube: xr.DataArray, options: dict[str, Any]) -> np.ndarray:
    every = options.get("bands") == "all" or method.allows_bad_bands
    return np.arange(cube.sizes["band"]) if every else np.flatnonzero(cube["good"].values)
