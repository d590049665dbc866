"""The card of a set of weights: what it was trained on, what it expects, what may be done with it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from torchspectral.errors import BadWeights

NAME = re.compile(r"[a-z0-9][a-z0-9_-]*(\.[a-z0-9][a-z0-9_-]*)?")
LARGEST_CARD = 4 << 20
"""Bytes; a card of 1000 bands with statistics is far below."""


class WorkingScale(BaseModel):
    """How scene values become the numbers that the network sees: (value - offset) / gain, then mean and std.

    Attributes
    ----------
    rule : {"physical", "fixed", "max", "range", "meanstd"}
        As in `engine.method.Scale`; "range" brings the scene's smallest and largest value to 0 and 1.
    gain, offset : float or list of float
        One for all bands, or one a band.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    rule: Literal["physical", "fixed", "max", "range", "meanstd"] = "physical"
    gain: float | list[float] = 1.0
    offset: float | list[float] = 0.0


class WeightsCard(BaseModel):
    """What stands beside a weights file, as YAML.

    Attributes
    ----------
    name : str
        ``family-size.tag``: the model and the name of this set.
    model : str
        Name for `weights.create_model`; "" where unknown (foreign files).
    constructor : dict
        Arguments of the network, plain values.
    wavelengths : list of float or "any"
        Band centres that the network expects, in order [nm].
    fwhm : list of float, optional
        Widths of those bands [nm], for resampling.
    quantity : {"reflectance", "radiance", "dn", "any"}
    scale : WorkingScale
    mean, std : list of float, optional
        Standardisation after the scale, one a band.
    values : tuple of float, optional
        Lowest and highest working value seen in training (0.1 and 99.9 percent); scenes far outside are refused.
    noise : tuple of float, optional
        Valid range of the noise level, in the method's own unit.
    ratio : int, optional
        Valid ratio of the grids.
    key_map : dict of str to str
        Regular expressions and replacements that turn the file's keys into the network's, applied in order.
    optional_keys : list of str
        Regular expressions of keys that may be absent from the file, or in excess.
    role : {"final", "start"}
        "final": fitting is skipped; "start": the method goes on fitting on the scene from these.
    fits_on_scene : bool
        The method learns from the scene, so that fresh weights are allowed.
    licence, commercial, source, attribution : str
        Terms; note on commercial use; where it comes from, in words; who must be named.
    sha256 : str
        Of the weights file; "" only while unknown.
    metrics : dict
        Figures that were measured with these weights.
    trained_on, preprocessing, command : str
        In words; the command that repeats the training.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())

    name: str
    model: str = ""
    constructor: dict[str, Any] = Field(default_factory=dict)
    wavelengths: list[float] | Literal["any"] = "any"
    fwhm: list[float] | None = None
    quantity: Literal["reflectance", "radiance", "dn", "any"] = "any"
    scale: WorkingScale = WorkingScale()
    mean: list[float] | None = None
    std: list[float] | None = None
    values: tuple[float, float] | None = None
    noise: tuple[float, float] | None = None
    ratio: int | None = None
    key_map: dict[str, str] = Field(default_factory=dict)
    optional_keys: list[str] = Field(default_factory=list)
    role: Literal["final", "start"] = "final"
    fits_on_scene: bool = False
    licence: str = "unknown"
    commercial: str = ""
    source: str = ""
    attribution: str = ""
    sha256: str = ""
    metrics: dict[str, Any] = Field(default_factory=dict)
    trained_on: str = ""
    preprocessing: str = ""
    command: str = ""

    @field_validator("name")
    @classmethod
    def _name_is_plain(cls, value: str) -> str:
        if not NAME.fullmatch(value):
            raise ValueError("expected family-size.tag in lower case letters, digits, '-' and '_'")
        return value

    @field_validator("sha256")
    @classmethod
    def _digest_is_hex(cls, value: str) -> str:
        if value and not re.fullmatch(r"[0-9a-f]{64}", value):
            raise ValueError("expected 64 hexadecimal digits")
        return value

    @field_validator("key_map", "optional_keys")
    @classmethod
    def _patterns_compile(cls, value: Any) -> Any:
        for pattern in value:
            try:
                re.compile(pattern)
            except re.error as error:
                raise ValueError(f"{pattern!r} is no regular expression: {error}") from None
        return value

    @property
    def bands(self) -> int | None:
        """Number of bands that the network expects; None where it takes any."""
        if self.wavelengths != "any":
            return len(self.wavelengths)
        count = self.constructor.get("bands")
        return int(count) if isinstance(count, int) else None

    def is_optional(self, key: str) -> bool:
        """Whether the network works without this key."""
        return any(re.fullmatch(pattern, key) for pattern in self.optional_keys)

    def rename(self, key: str) -> str:
        """The network's name of a key of the file."""
        for pattern, new in self.key_map.items():
            key = re.sub(pattern, new, key)
        return key

    def to_yaml(self) -> str:
        """Text of the card file, without the fields that have their default."""
        plain = self.model_dump(mode="json", exclude_defaults=True)
        return yaml.safe_dump(plain, sort_keys=False, allow_unicode=True, width=120)


def make_card(values: Any, *, where: str) -> WeightsCard:
    """Validate a card.

    Raises
    ------
    BadWeights
        With the place, the field and what is wrong.
    """
    if not isinstance(values, dict):
        raise BadWeights(f"{where}: got {type(values).__name__} as weights card, expected a map of fields")
    try:
        return WeightsCard(**values)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"]) or "card"
        raise BadWeights(f"{where}: field {field} of the weights card: {first['msg']}") from None
    except TypeError as error:
        raise BadWeights(f"{where}: the weights card has a field that is not a word: {error}") from None


def read_card(path: Path) -> WeightsCard:
    """Read a card file.

    Raises
    ------
    BadWeights
        Not YAML, too long, or not a card.
    """
    if path.stat().st_size > LARGEST_CARD:
        raise BadWeights(f"{path}: the weights card has {path.stat().st_size} bytes, expected at most {LARGEST_CARD}")
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        line = " ".join(str(error).split())[:200]
        raise BadWeights(f"{path}: the weights card is not YAML: {line}") from None
    return make_card(values, where=str(path))


def slug(text: str) -> str:
    """A valid weights name made from a file name."""
    parts = [re.sub(r"[^a-z0-9_-]+", "-", part.lower()).strip("-_") for part in text.split(".", 1)]
    return ".".join(part for part in parts if part) or "weights"
