"""Settings: validated hyper-parameters with the paper's names, defaults and units."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from torchspectral.errors import BadSettings, closest


def setting(default: Any, description: str, unit: str = "", **limits: Any) -> Any:
    """Declare one field of a settings class.

    Parameters
    ----------
    default : Any
        The paper's value.
    description : str
        What it is, with the paper's symbol.
    unit : str
        Physical unit or "" for a plain number.
    **limits
        pydantic constraints: ``ge``, ``gt``, ``le``, ``lt``, ``min_length``, ...
    """
    return Field(default, description=description, json_schema_extra={"unit": unit}, **limits)


class Settings(BaseModel):
    """Base of all settings: frozen, no unknown fields, every error a `BadSettings`."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, arbitrary_types_allowed=False)

    @classmethod
    def make(cls, values: Mapping[str, Any] | None = None, /, **more: Any) -> Self:
        """Build from a mapping and keywords.

        Raises
        ------
        BadSettings
            Unknown field, wrong type or value out of range; the message names the field and its default.
        """
        given = {**(values or {}), **more}
        fields = cls.model_fields
        for name in given:
            if name not in fields:
                raise BadSettings(f"unknown setting {name!r}: {closest(name, tuple(fields))}")
        try:
            return cls.model_validate(given)
        except ValidationError as error:
            first = error.errors()[0]
            name = str(first["loc"][0]) if first["loc"] else "settings"
            field = fields.get(str(first["loc"][0])) if first["loc"] else None
            default = f" (default {field.default!r})" if field is not None else ""
            raise BadSettings(f"setting {name}={first.get('input')!r}: {first['msg']}{default}") from None

    @classmethod
    def parse(cls, pairs: Iterable[str]) -> Self:
        """Build from ``field=value`` strings of a command line; values are read as YAML."""
        return cls.make(parse_pairs(pairs))

    @classmethod
    def table(cls) -> list[dict[str, str]]:
        """One row a field: name, type, default, unit, meaning."""
        rows = []
        for name, field in cls.model_fields.items():
            extra = field.json_schema_extra if isinstance(field.json_schema_extra, dict) else {}
            kind = getattr(field.annotation, "__name__", None) or str(field.annotation).replace("typing.", "")
            kind = str(field.annotation).replace("typing.", "") if "[" in str(field.annotation) else kind
            rows.append(
                {
                    "name": name,
                    "type": kind,
                    "default": repr(field.default),
                    "unit": str(extra.get("unit", "")),
                    "meaning": field.description or "",
                }
            )
        return rows


class _Words(yaml.SafeLoader):
    """YAML in which 1e-4 is a number: YAML 1.1 wants 1.0e-4, and nobody types that."""


_Words.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?\d+(?:\.\d*)?[eE][-+]?\d+$"), list("-+0123456789")
)


def parse_pairs(pairs: Iterable[str]) -> dict[str, Any]:
    """Turn ``field=value`` strings into a mapping; values are read as YAML scalars, lists or maps.

    Raises
    ------
    BadSettings
        A pair without "=" or a value that is not YAML.
    """
    values: dict[str, Any] = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not equals or not name.strip():
            raise BadSettings(f"cannot read setting {pair!r}: expected field=value")
        try:
            values[name.strip()] = yaml.load(text, Loader=_Words)
        except yaml.YAMLError:
            raise BadSettings(f"cannot read the value of setting {pair!r}: expected a YAML scalar or list") from None
    return values
