"""Scenes and their labels as a tuning needs them: in the backbone's bands, with classes, cut to patches it takes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import xarray as xr

from torchspectral.backbones.less_vit.statistics import sensor_statistics, statistics_for
from torchspectral.backbones.starting import arguments_of, declared, find_start, native_patch
from torchspectral.classification.labels import IGNORED, Classes, with_labels
from torchspectral.classification.spectral_angle import MOST_CLASSES, class_colours
from torchspectral.engine.method import Window
from torchspectral.errors import BadInput, BadSettings
from torchspectral.geo.grids import grid_of
from torchspectral.io.statistics import values_of
from torchspectral.learn.patch_sets.store import labels_of
from torchspectral.learn.recipe import Scene, common_bands
from torchspectral.learn.scenes import OpenedScene, common_quantity, cubes_of
from torchspectral.weights import Weights
from torchspectral.weights.card import WeightsCard
from torchspectral.weights.fit import band_problem, check_fit

STRIP = 256
"""Rows that are looked through at once."""


class TuningData:
    """What is tuned on.

    Parameters
    ----------
    settings : BackboneTraining

    Attributes
    ----------
    backbone : str
    start : Weights or None
        What the backbone begins with; None: random numbers.
    arguments : dict
        Of the backbone's constructor; known after `prepare`.
    classes : Classes
    unlabelled : int
        Number in the role ``mask`` that stands for no class.
    wavelength, fwhm : ndarray [nm]
    index : ndarray of int
        Bands of the scenes that are used.
    quantity : str
    notes : list of str
        What the card says of all this.
    """

    def __init__(self, settings: Any) -> None:
        self.settings = settings
        self.backbone: str = settings.backbone
        self.start: Weights | None = None
        self.unlabelled = IGNORED
        self.classes = Classes((), (), ())
        self.wavelength, self.fwhm, self.index = np.zeros(0), np.zeros(0), np.zeros(0, dtype=np.int64)
        self.quantity = "dn"
        self.arguments: dict[str, Any] = {}
        self.notes: list[str] = []
        self._marked: list[np.ndarray] = []

    @property
    def wavelengths(self) -> list[float] | None:
        """Centres [nm], or None where the scenes do not say."""
        return _known(self.wavelength)

    def sensor_of_weights(self, must: bool = False) -> tuple[list[float], list[float], float] | None:
        """Mean and deviation of each band, and pixel size [m], that weights of several sensors have of this one.

        Parameters
        ----------
        must : bool
            Whether such weights may not lack the sensor.

        Raises
        ------
        BandMismatch
        """
        if self.start is None or self.start.card.mean is not None:
            return None
        if must:
            waves, name = [float(w) for w in self.wavelength], self.start.card.name
            return statistics_for(self.start.state, waves, name, "those of the patches: statistics=train")
        return sensor_statistics(self.start.state, self.wavelengths or [])

    def attach(self, scenes: list[OpenedScene]) -> list[OpenedScene]:
        """Bring scenes to the backbone's bands where asked for, and put labels and later dates beside them."""
        s = self.settings
        self.backbone, self.start = find_start(s.backbone, s.initial)
        if scenes[0].patch_set is not None:
            self._of_patch_set(scenes)
            return scenes
        fitted = [self._fitted(scene) for scene in scenes]
        if s.task == "change":
            from torchspectral.classification.tuned.dates import with_later

            fitted = with_later(fitted, s.later, self._fitted)
        elif s.later:
            raise BadSettings(f"got later scenes with task={s.task}, expected task=change")
        made, self.classes, notes = with_labels(fitted, s.labels, s.field, s.ignore)
        self.notes += notes
        return made

    def _of_patch_set(self, scenes: list[OpenedScene]) -> None:
        """Classes of patch sets, which hold their own labels.

        Raises
        ------
        BadSettings, BadInput, BandMismatch
        """
        s = self.settings
        if s.labels or s.later or s.ignore:
            raise BadSettings("got labels, later or ignore with a patch set, which has its own: leave them out")
        if s.resample:
            raise BadSettings("got resample=true with a patch set, whose files are read as they are: leave it out")
        kinds = {"pixels": ("pixels",), "change": ("pixels",), "multilabel": ("multi",)}.get(s.task, ("single",))
        facts = labels_of([scene.cube for scene in scenes], *kinds)
        names = [str(name) for name in facts["classes"]]
        if len(names) < 2 or len(names) > MOST_CLASSES:
            raise BadInput(f"the patch set has {len(names)} classes, expected 2 to {MOST_CLASSES}")
        spread = class_colours(len(names) + 1)[1:]
        colors = tuple((int(c[0]), int(c[1]), int(c[2])) for c in spread)
        self.classes = Classes(tuple(range(1, len(names) + 1)), tuple(names), colors)
        self.unlabelled = IGNORED if facts.get("ignore") is None else int(facts["ignore"])
        for scene in scenes:
            self._to_bands(scene.cube)

    def _fitted(self, scene: OpenedScene) -> OpenedScene:
        """A scene whose bands the backbone takes."""
        whole = scene.cube
        good = np.flatnonzero(whole["good"].values) if "good" in whole.coords else np.arange(whole.sizes["band"])
        cube, card = self._to_bands(whole.isel(band=good))
        if card is None and good.size == whole.sizes["band"]:
            return scene
        if not isinstance(scene.scene, xr.Dataset):
            return replace(scene, scene=cube)
        rest: dict[str, Any] = {
            str(n): (("y", "x"), a.squeeze().data, a.attrs)
            for n, a in scene.scene.items()
            if n not in ("cube", "later")
        }
        if "later" in scene.scene:
            later = whole.copy(data=scene.scene["later"].variable._data).isel(band=good)
            later = later if card is None else check_fit(card, later, resample=True)[0]
            rest["later"] = (("band", "y", "x"), later.variable._data, later.attrs)
        return replace(scene, scene=xr.Dataset({"cube": cube, **rest}, attrs=scene.scene.attrs))

    def _to_bands(self, cube: xr.DataArray) -> tuple[xr.DataArray, WeightsCard | None]:
        """A cube as the backbone takes it, and the card whose bands it was resampled to, if it was.

        Raises
        ------
        BandMismatch, MissingMetadata
        """
        known = declared(self.backbone, self._arguments_for(cube))
        card = self.start.card if self.start is not None and self.start.card.wavelengths != "any" else None
        if card is None and known.bands.wavelengths is not None:
            fwhm = None if known.bands.fwhm is None else list(known.bands.fwhm)
            card = WeightsCard(name=self.backbone, wavelengths=list(known.bands.wavelengths), fwhm=fwhm)
        used = None
        if card is not None:
            card = card.model_copy(update={"quantity": "any", "values": None, "constructor": {}})
            placed = bool(np.isfinite(cube["wavelength"].values).all())
            problem = band_problem(card, cube) if placed else "the scene has no wavelengths"
            if problem and self.settings.resample:
                cube, notes = check_fit(card, cube, resample=True)
                self.notes += notes
                used = card
            elif problem and known.bands.fixed and known.bands.wavelengths is not None:
                check_fit(card, cube)
            elif problem and self.start is not None:
                self.notes.append(f"{problem}: the backbone takes the scene's own bands")
        known.bands.check(cube.sizes["band"], _known(cube["wavelength"].values))
        return cube, used

    def _arguments_for(self, cube: xr.DataArray) -> dict[str, Any]:
        metres = None
        grid = grid_of(cube)
        if grid.kind in ("map", "rotated") and grid.crs is not None and not grid.crs.is_geographic:
            metres = float(np.mean(grid.resolution))
        elif (sensor := self.sensor_of_weights()) is not None:
            metres = sensor[2]
        facts = {"bands": cube.sizes["band"], "wavelengths": _known(cube["wavelength"].values), "resolution": metres}
        return arguments_of(self.backbone, self.start, dict(self.settings.arguments), self.settings.patch, facts)

    def prepare(self, scenes: Sequence[Scene]) -> dict[str, Any]:
        """Bands, quantity and size of the patches.

        Returns
        -------
        dict
            Settings that the user left open: ``patch``, and ``block`` and ``guard`` where scenes are held out whole.

        Raises
        ------
        BandMismatch, BadInput
        """
        self.wavelength, self.index = common_bands(scenes)
        cubes = cubes_of(scenes)
        self.quantity = common_quantity(cubes)
        first = cubes[0]
        if "fwhm" in first.coords:
            self.fwhm = np.asarray(first["fwhm"].values, dtype=np.float64)[self.index]
        self._marked = [
            self.classes.indices(scene["labels"].values) for scene in scenes if isinstance(scene, xr.Dataset)
        ]
        decided = self._sizes([(cube.sizes["y"], cube.sizes["x"]) for cube in cubes])
        self.settings = self.settings.model_copy(update=decided)
        self.arguments = self._arguments_for(first)
        if self._marked:
            self._check_labels(cubes)
        return decided

    def _sizes(self, shapes: list[tuple[int, int]]) -> dict[str, Any]:
        """The side of patches and blocks, where the user left them open."""
        s = self.settings
        size = s.patch
        if not size:
            size = native_patch(self.backbone, self.start, dict(s.arguments))
            stride = declared(self.backbone, self.plain_arguments()).stride
            smallest = min(min(shape) for shape in shapes)
            ground = sum(rows * cols for rows, cols in shapes)
            whole = all(rows < 2 * size and cols < 2 * size for rows, cols in shapes) and len(shapes) > 3
            while (
                not (whole and size <= smallest)
                and size >= 2 * stride
                and (ground < 12 * size * size or size > smallest)
            ):
                size = max(size // 2 // stride * stride, stride)
        update: dict[str, Any] = {"patch": size}
        alike = all(rows < 2 * size and cols < 2 * size for rows, cols in shapes)
        if s.split == "blocks" and not s.block and len(shapes) > 1 and alike:
            update |= {"block": max(max(shape) for shape in shapes), "guard": 0}
            self.notes.append("scenes are no larger than two patches: whole scenes are held out")
        return update

    def plain_arguments(self) -> dict[str, Any]:
        """Constructor arguments of the backbone as far as they are known without the ground."""
        facts = {"bands": len(self.index), "wavelengths": _known(self.wavelength)}
        return arguments_of(self.backbone, self.start, dict(self.settings.arguments), self.settings.patch, facts)

    def _check_labels(self, cubes: Sequence[xr.DataArray]) -> None:
        for marks, cube in zip(self._marked, cubes, strict=True):
            rows = np.flatnonzero((marks >= 0).any(1))
            if not rows.size:
                continue
            for start in range(int(rows[0]), int(rows[-1]) + 1, STRIP):
                strip = slice(start, start + STRIP)
                if not (marks[strip] >= 0).any():
                    continue
                first = values_of(cube.isel(band=[int(self.index[0])], y=strip))[0]
                if (np.isfinite(first) & (marks[strip] >= 0)).any():
                    return
        raise BadInput("every labelled pixel is nodata in the scene, expected labels on valid data: check the labels")

    def chooses(self, scene: int, window: Window) -> bool:
        """Only patches with a label are cut."""
        return bool((self._marked[scene][window.slices] >= 0).any())

    def class_counts(self, scene: int, window: Window) -> np.ndarray:
        """Labelled pixels of each class."""
        marks = self._marked[scene][window.slices]
        return np.bincount(marks[marks >= 0].astype(np.int64), minlength=len(self.classes.numbers))

    def pairs(self, scene: Scene) -> dict[str, np.ndarray]:
        """Physical values and class indices (-1 unlabelled) of a block."""
        if not isinstance(scene, xr.Dataset):  # a patch of a set, whose labels come from elsewhere
            return {"image": values_of(scene.isel(band=self.index)).astype(np.float32)}
        image = values_of(scene["cube"].isel(band=self.index)).astype(np.float32)
        made = {"image": image, "mask": self.classes.indices(scene["labels"].values)[None].astype(np.float32)}
        if self.settings.task == "change":
            made["later"] = values_of(scene["later"].isel(band=self.index)).astype(np.float32)
        return made


def _known(wavelength: Any) -> list[float] | None:
    values = np.asarray(wavelength, dtype=np.float64)
    return [float(w) for w in values] if values.size and np.isfinite(values).all() else None
