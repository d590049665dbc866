"""Small methods, one for each thing that the engine can do; imported by the tests and by processes that they start."""

from __future__ import annotations

import time
from functools import partial

import numpy as np
import torch
from torch.nn import functional

import torchspectral as ts
from torchspectral.engine.method import Input, Method, Output, Scale, Scope
from torchspectral.settings import Settings, setting


def scene(bands=5, rows=60, cols=47, seed=0, holes=True, **more):
    """A random cube on a map grid with nodata, missing values and a bad band."""
    from affine import Affine

    from torchspectral.geo import place

    rng = np.random.default_rng(seed)
    smooth = rng.normal(size=(3, rows, cols)).cumsum(1).cumsum(2)
    values = np.tensordot(rng.random((bands, 3)), smooth, 1) + rng.normal(size=(bands, rows, cols))
    values = (values / np.abs(values).max() + 1.5).astype(np.float32)
    if holes:
        values[:, 3:9, 4:9] = np.nan
        values[:, 20:40, cols - 5 :] = np.nan
        values[bands // 2, rows // 2, :] = np.nan
    good = np.ones(bands, dtype=bool)
    if holes and bands > 2:
        good[-2] = False
    wavelength = np.linspace(450, 2400, bands)
    cube = ts.make_cube(
        values, wavelength=wavelength, fwhm=np.full(bands, 10.0), good=good, quantity="reflectance", **more
    )
    return place(cube, Affine(30, 0, 500000, 0, -30, 4000000), "EPSG:32632")


class Negate(Method):
    """Pixel scope."""

    def apply(self, tile, state):
        return {"cube": -tile.lead}


class Blur(Method):
    """Local scope, two outputs."""

    scope = Scope.LOCAL
    halo = 2
    outputs = (Output("cube"), Output("mean", kind="layers", names=("mean", "deviation")))

    def apply(self, tile, state):
        blurred = functional.avg_pool2d(functional.pad(tile.lead, (2, 2, 2, 2)), 5, 1)
        layers = torch.stack([blurred.mean(1), (tile.lead - blurred).square().mean(1)], 1)
        return {"cube": blurred, "mean": layers}


class Destripe(Method):
    """Column scope: subtracts the mean of each column's valid pixels."""

    scope = Scope.COLUMN

    def apply(self, tile, state):
        weight = tile.valid.to(tile.lead.dtype)
        mean = (tile.lead * weight).sum(-2, keepdim=True) / weight.sum(-2, keepdim=True).clamp(min=1)
        return {"cube": tile.lead - mean}


class Follow(Method):
    """Frames scope: running mean as state, a table of the brightest pixel."""

    class Settings(Settings):
        """Pause that makes the run long enough to be killed."""

        pause: float = setting(0.0, "pause in each frame", unit="s", ge=0)

    inputs = (Input("video"),)
    outputs = (Output("cube"), Output("tracks", kind="table"))
    scope = Scope.FRAMES

    def apply(self, tile, state):
        time.sleep(self.settings.pause)
        before = state.get("mean", torch.zeros_like(tile.lead))
        mean = 0.8 * before + 0.2 * tile.lead
        flat = int(mean.sum(1).argmax())
        row, col = divmod(flat, mean.shape[-1])
        table = {"row": [row], "col": [col], "value": [float(mean.sum(1).max())]}
        return {"cube": tile.lead - mean, "tracks": table}, {"mean": mean}


class Contrast(Method):
    """Tile scope: depends on the tile."""

    scope = Scope.TILE
    tile = (16, 16)
    overlap = 4
    outputs = (Output("cube"), Output("class", kind="layers", names=("class",), dtype="uint8", undo_scale=False))

    def apply(self, tile, state):
        centred = tile.lead - tile.lead.mean((-1, -2), keepdim=True)
        return {"cube": centred, "class": (centred[:, :1] > 0).to(torch.uint8)}


class Rank(Method):
    """Scene scope."""

    scope = Scope.SCENE

    def apply(self, tile, state):
        mean = tile.lead.mean((-1, -2), keepdim=True)
        return {"cube": tile.lead - mean}


class Learn(Method):
    """Fit with every call of the source but `map`; spectra and a table from the state."""

    class Settings(Settings):
        """Which calls."""

        patches: bool = setting(True, "whether to take patches")

    needs_fit = True
    outputs = (
        Output("cube"),
        Output("ends", kind="spectra", names="=ends_names", from_state=True),
        Output("bands", kind="table", from_state=True),
    )

    def fit(self, source, seed, state):
        gram = source.gram()
        sample = source.sample(40)
        extremes = source.reduce(
            lambda tile: (tile.core_pixels(tile.lead).amax(1), tile.core_pixels(tile.lead).amin(1)),
            lambda a, b: (torch.maximum(a[0], b[0]), torch.minimum(a[1], b[1])),
        )
        count = sum(int(tile.core(tile.valid).sum()) for tile in source.tiles())
        found = {
            "mean": gram.mean.float(),
            "covariance": gram.covariance,
            "peak": gram.peak,
            "count": count,
            "n": gram.n,
            "sample": sample,
            "ends": torch.stack(extremes),
            "ends_names": ["highest", "lowest"],
            "bands": {"wavelength": [float(w) for w in source.info.wavelength], "mean": gram.mean.tolist()},
        }
        if self.settings.patches:
            found["patches"] = source.patches(3, 4).lead
            found["more"] = source.patches(2, 4).lead
        return found

    def apply(self, tile, state):
        return {"cube": tile.lead - state["mean"][None, :, None, None]}

    def figures(self, state):
        return {"count": state["count"]}


class Diffuse(Method):
    """Generator fit with `map` and a generator's state: heat flow with noise, round by round."""

    class Settings(Settings):
        """Rounds and how long each takes."""

        rounds: int = setting(6, "rounds", ge=1)
        pause: float = setting(0.0, "pause in each round", unit="s", ge=0)

    needs_fit = True
    scope = Scope.LOCAL
    halo = 1

    def fit(self, source, seed, state):
        random = torch.Generator().manual_seed(seed)
        start = 0
        if state is not None:
            random.set_state(state["generator"])
            start = state["round"]
        else:
            source.map("u", lambda tile: tile.lead)
        for number in range(start, self.settings.rounds):
            kick = float(torch.rand(1, generator=random))
            place = source.patches(1, 3).lead.mean()
            source.map("u", lambda tile, k=kick, p=place: _smooth(tile["u"]) + 0.01 * k * p)
            time.sleep(self.settings.pause)
            total = source.reduce(lambda tile: tile.core("u").double().sum(), lambda a, b: a + b)
            nested = {"list": [1, (2.5, None)], 3: "x"}
            state = {"round": number + 1, "generator": random.get_state(), "nested": nested, "total": total}
            yield state, (number + 1) / self.settings.rounds

    def apply(self, tile, state):
        time.sleep(self.settings.pause / 4)
        return {"cube": tile["u"] + float(state["total"]) * 1e-9}


def _smooth(u):
    padded = functional.pad(u, (1, 1, 1, 1), mode="replicate")
    return functional.avg_pool2d(padded, 3, 1)


def _less(tile, mean):
    return tile.lead - mean[:, None, None]


class Mapped(Method):
    """Fit whose whole work is one array over the scene."""

    needs_fit = True

    def fit(self, source, seed, state):
        gram = source.gram()
        mean = (gram.total / gram.n).float()
        source.map("u", partial(_less, mean=mean))
        return {"mean": mean}

    def apply(self, tile, state):
        return {"cube": tile["u"]}


class Whole(Method):
    """Fit that asks for a role in one piece."""

    needs_fit = True

    def fit(self, source, seed, state):
        source.map("twice", lambda tile: 2 * tile.lead)
        return {"median": source.whole("cube").flatten(1).median(), "twice": source.whole("twice").amax()}

    def apply(self, tile, state):
        return {"cube": tile.lead - state["median"]}


class Sharpen(Method):
    """A finer role, an output on its grid and one on the lead's times two."""

    inputs = (Input("cube"), Input("pan", ratio="finer"))
    outputs = (Output("cube", grid="pan"), Output("double", kind="layers", zoom=2, names=("double",)))
    scope = Scope.LOCAL
    halo = 1

    def apply(self, tile, state):
        ratio = tile.info.ratio["pan"]
        up = functional.interpolate(tile.lead, scale_factor=ratio, mode="nearest")
        double = functional.interpolate(tile.lead.mean(1, keepdim=True), scale_factor=2, mode="nearest")
        return {"cube": up + tile["pan"], "double": double}


class Boxes(Method):
    """Table rows with positions in tile pixels."""

    scope = Scope.LOCAL
    halo = 1
    outputs = (Output("boxes", kind="table"),)

    def apply(self, tile, state):
        rows, cols = torch.nonzero(tile.core(tile.lead)[0, 0] > 2.2, as_tuple=True)
        top, left = tile.inner.row - tile.window.row, tile.inner.col - tile.window.col
        return {"boxes": {"x0": cols + left, "y0": rows + top, "x1": cols + left + 1, "y1": rows + top + 1}}


class Classify(Method):
    """Labels in fit only, class numbers out, counted in `finish`."""

    inputs = (Input("cube"), Input("labels", fit_only=True))
    outputs = (
        Output("classes", kind="layers", names=("class",), dtype="uint8", undo_scale=False),
        Output("counts", kind="table"),
    )
    needs_fit = True

    def fit(self, source, seed, state):
        def sums(tile):
            keep = tile.core(tile.valid)[0, 0]
            labels = tile.core("labels")[0, 0][keep]
            pixels = tile.core_pixels("cube").double()
            return torch.stack([pixels[:, labels == k].sum(1) for k in (1, 2)]), torch.bincount(labels, minlength=3)[1:]

        total, count = source.reduce(sums, lambda a, b: (a[0] + b[0], a[1] + b[1]))
        return {"centres": (total / count[:, None]).float()}

    def apply(self, tile, state):
        distance = (tile.lead[:, None] - state["centres"][None, :, :, None, None]).square().sum(2)
        return {"classes": distance.argmin(1, keepdim=True) + 1}

    def finish(self, outputs, state):
        import pandas as pd

        numbers, counts = np.unique(outputs["classes"].values, return_counts=True)
        return {**outputs, "counts": pd.DataFrame({"class": numbers, "pixels": counts})}


class Scaled(Method):
    """Says what it saw, so that tests can look at the working scale."""

    class Settings(Settings):
        """The rule."""

        rule: str = setting("max", "scale rule")

    inputs = (Input("cube"), Input("library", kind="spectra", optional=True))
    outputs = (Output("cube"), Output("seen", undo_scale=False))

    @property
    def scale(self):
        """By the settings."""
        return Scale(self.settings.rule, gain=(2.0, 4.0, 8.0), offset=1.0)

    def apply(self, tile, state):
        return {"cube": tile.lead, "seen": tile.lead}


class Repair(Method):
    """Works on all bands and sees NaN."""

    allows_bad_bands = True
    fill = "none"

    def apply(self, tile, state):
        return {"cube": torch.nan_to_num(tile.lead, nan=7.0)}
