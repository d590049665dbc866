"""Recipes of the characterisation: which steps, with which polynomials, limits and models."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import ConfigDict

from torchspectral.calibration.interferometer.polynomials import Family
from torchspectral.errors import BadSettings, BrokenProduct, UnknownName, closest
from torchspectral.io.safety import existing_path, read_text
from torchspectral.settings import Settings, setting

DEGREES = {"gain": 5, "reflectivity": 5, "opd": 0, "phase_shift": 0}
"""Degree of each polynomial where a recipe says nothing."""


class Parameter(Settings):
    """How one of the four polynomials is treated in a step."""

    degree: int | None = setting(
        None, "degree; gain and reflectivity 5, path difference and phase shift 0", ge=0, le=20
    )
    choice: bool = setting(True, "whether the regression changes it, or keeps what the step before found")
    relative_minimum: float = setting(0.01, "least path difference, relative to the largest that can be told", ge=0)
    relative_maximum: float = setting(1.0, "largest path difference, relative to the largest that can be told", gt=0)
    relative_span: float = setting(0.1, "farthest from the nominal one, relative to the largest that can be told", gt=0)
    samples: int = setting(
        10_000,
        "path differences that are tried; by es also reflectivities (100 where this is 10000) and phase shifts (360)",
        ge=2,
        le=10_000_000,
    )


class Step(Settings):
    """One step: "ml" estimates, "es" searches exhaustively, "gn" regresses."""

    model_config = ConfigDict(protected_namespaces=(), **Settings.model_config)  # type: ignore[misc]

    id: Literal["ml", "es", "gn"] = setting("ml", "ml: periodogram; es: exhaustive search; gn: non-linear regression")
    average: bool = setting(False, "use the window mean of each sub-image in place of its central pixel")
    model: int = setting(0, "waves that interfere; 0: infinitely many", ge=0)
    polynomial: Family = setting("Polynomial", "family of the polynomials in the wavenumber")
    parameters: dict[Literal["gain", "reflectivity", "opd", "phase_shift"], Parameter] = setting(
        {}, "treatment of gain, reflectivity, opd and phase_shift"
    )

    def of(self, name: str) -> Parameter:
        """Treatment of one polynomial."""
        return self.parameters.get(name) or Parameter()  # type: ignore[call-overload]

    def degree(self, name: str) -> int:
        """Degree of one polynomial."""
        given = self.of(name).degree
        return DEGREES[name] if given is None else given

    @property
    def label(self) -> str:
        """Short name: "gn m0 g1" regresses Airy's function with a free gain."""
        gain = int(self.of("gain").choice)
        return f"{self.id} m{self.model} g{gain}" if self.id == "gn" else self.id


@dataclass(frozen=True)
class Recipe:
    """Steps in order, the first of them an estimate.

    Raises
    ------
    BadSettings
        No step, or a regression with nothing to start from.
    """

    steps: tuple[Step, ...]
    label: str = ""

    def __post_init__(self) -> None:
        if not self.steps:
            raise BadSettings("got a recipe without steps, expected ml (or es), and gn after it")
        if self.steps[0].id == "gn":
            raise BadSettings("the recipe begins with gn, expected ml or es before it: a regression needs a start")
        if not self.label:
            object.__setattr__(self, "label", self.steps[-1].label)

    def as_list(self) -> list[dict[str, Any]]:
        """Plain values, as in the authors' files."""
        return [step.model_dump(mode="json") for step in self.steps]


def parse_recipe(value: Any, what: str = "recipe") -> Recipe:
    """A recipe from plain values: a list of steps, or ``{"__root__": [steps]}`` as the authors write it.

    Raises
    ------
    BadSettings
        Unknown fields or values, or steps in no workable order.
    """
    if isinstance(value, Recipe):
        return value
    label = str(value.get("label", "")) if isinstance(value, Mapping) else ""
    if isinstance(value, Mapping):
        value = value.get("__root__", value.get("steps", value.get("options")))
    if isinstance(value, Sequence) and value and all(isinstance(s, Step) for s in value):
        return Recipe(tuple(value), label)
    if not isinstance(value, Sequence) or isinstance(value, str) or not all(isinstance(s, Mapping) for s in value):
        raise BadSettings(f"cannot read the {what}: expected a list of steps, each with an id (ml, es or gn)")
    return Recipe(tuple(Step.make({str(k): v for k, v in step.items()}) for step in value), label)


def read_recipe(path: str | Path) -> Recipe:
    """A recipe from the authors' JSON.

    Raises
    ------
    ProductNotFound, BrokenProduct, BadSettings
    """
    return parse_recipe(_read_json(path), Path(path).name)


def read_options_list(path: str | Path) -> list[Recipe]:
    """Several recipes from one JSON, as the authors compare them: a list of recipes, each of them a list of steps.

    Raises
    ------
    ProductNotFound, BrokenProduct, BadSettings
    """
    value = _read_json(path)
    value = value.get("__root__", value) if isinstance(value, Mapping) else value
    if not isinstance(value, list):
        raise BadSettings(f"{Path(path).name} is no list of recipes: expected [[step, ...], ...]")
    return [parse_recipe(one, Path(path).name) for one in value]


def published_recipe(device: str) -> Recipe:
    """The recipe that the authors published for one of their prototypes.

    Raises
    ------
    UnknownName
        No such prototype.
    """
    known = published_devices()
    if device not in known:
        raise UnknownName(f"no published recipe for device {device!r}: {closest(device, tuple(known))}")
    opd = known[device]["opd"]
    return default_recipe(**opd)


def published_devices() -> dict[str, dict[str, Any]]:
    """Facts of the authors' prototypes by name: nominal step of the path difference [um], limits of the search."""
    file = resources.files(__package__).joinpath("prototypes.yaml")
    found: dict[str, dict[str, Any]] = yaml.safe_load(file.read_text(encoding="utf-8"))
    return found


def default_recipe(
    relative_minimum: float = 0.01,
    relative_maximum: float = 1.0,
    relative_span: float = 0.1,
    samples: int = 10_000,
    *,
    model: int = 0,
    free_gain: bool = True,
    degree: int = 5,
) -> Recipe:
    """Periodogram of the window mean, then regression of the central pixel, as published."""
    gain = Parameter(degree=degree)
    opd = Parameter(
        relative_minimum=relative_minimum,
        relative_maximum=relative_maximum,
        relative_span=relative_span,
        samples=samples,
    )
    start = Step(id="ml", average=True, model=2, parameters={"gain": gain, "opd": opd})
    regress = Step(
        id="gn",
        model=model,
        parameters={"gain": Parameter(degree=degree, choice=free_gain), "reflectivity": Parameter(degree=degree)},
    )
    return Recipe((start, regress))


def options_list(base: Recipe) -> list[Recipe]:
    """The four recipes that the authors compare: regression with two or infinitely many waves, gain fixed or free."""
    found = []
    for model in (2, 0):
        for free in (False, True):
            steps = []
            for step in base.steps:
                if step.id == "gn":
                    gain = step.of("gain").model_copy(update={"choice": free})
                    step = step.model_copy(update={"model": model, "parameters": {**step.parameters, "gain": gain}})
                steps.append(step)
            found.append(Recipe(tuple(steps)))
    return found


def _read_json(path: str | Path) -> Any:
    file = existing_path(path)
    try:
        return json.loads(read_text(file))
    except (ValueError, RecursionError) as error:
        raise BrokenProduct(f"{file.name} is no readable JSON: {error}") from None
