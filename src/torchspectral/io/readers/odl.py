"""Metadata files of USGS: groups of KEY = VALUE lines (ODL), or the same as JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from torchspectral.errors import BrokenProduct, TooLarge

MOST = 8 << 20
Groups = dict[str, dict[str, str]]


def parse_odl(text: str, name: str) -> Groups:
    """Groups of a metadata file by name, with their own keys only; values as text without quotes.

    Parameters
    ----------
    text : str
        ``GROUP = NAME``, ``KEY = VALUE``, ``END_GROUP = NAME`` lines, or a JSON object of objects.
    name : str
        For messages.

    Raises
    ------
    BrokenProduct
        It is neither, or a group is not closed.
    TooLarge
    """
    if len(text) > MOST:
        raise TooLarge(f"{name} has {len(text)} characters, more than the metadata of a product may have")
    if text.lstrip()[:1] == "{":
        return _from_json(text, name)
    groups: Groups = {}
    stack: list[str] = []
    closed = 0
    for number, line in enumerate(text.replace("\0", " ").splitlines(), start=1):
        words = line.strip()
        if not words or words.startswith("/*"):
            continue
        if words.upper() == "END":
            break
        key, equals, value = (part.strip() for part in words.partition("="))
        if not equals:
            raise BrokenProduct(f"{name}, line {number}: got {words[:40]!r}, expected KEY = VALUE")
        if key.upper() == "GROUP":
            stack.append(value)
            groups.setdefault(value, {})
            if len(stack) > 32:
                raise BrokenProduct(f"{name} nests its groups more than 32 deep, so it is no product's metadata")
        elif key.upper() == "END_GROUP":
            if not stack:
                raise BrokenProduct(f"{name}, line {number}: END_GROUP without a GROUP")
            stack.pop()
            closed += 1
        elif stack:
            groups[stack[-1]][key] = value.strip('"')
    if stack or not closed:
        raise BrokenProduct(f"{name} ends inside group {stack[-1] if stack else '(none)'}: is it cut off?")
    return groups


def _from_json(text: str, name: str) -> Groups:
    try:
        root = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BrokenProduct(f"{name} is no readable JSON: {' '.join(str(error).split())[:120]}") from None
    groups: Groups = {}
    stack: list[tuple[str, Any, int]] = [("", root, 0)]
    while stack:
        group, value, depth = stack.pop()
        if not isinstance(value, Mapping) or depth > 32:
            continue
        for key, inner in value.items():
            if isinstance(inner, Mapping):
                groups.setdefault(str(key), {})
                stack.append((str(key), inner, depth + 1))
            elif isinstance(inner, (str, int, float)) and group:
                groups[group][str(key)] = str(inner)
    return groups


def number_in(groups: Groups, group: str, key: str) -> float | None:
    """One value as a number; None where it is absent or none."""
    try:
        value = float(groups.get(group, {})[key])
    except (KeyError, ValueError):
        return None
    return value if math.isfinite(value) else None


def first_text(groups: Groups, key: str, *order: str) -> str:
    """The value of a key in the first of some groups that has it, "" where none has."""
    return next((groups[g][key] for g in order if key in groups.get(g, {})), "")
