"""The registry: cards say which methods, readers, models and sensors exist, without importing any of them."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from functools import lru_cache
from importlib import metadata, resources
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from torchspectral.errors import UnknownName, closest, missing_dependency
from torchspectral.log import get_logger
from torchspectral.settings_source import settings_in_source

ROOMS = (
    "sharpening", "restoration", "superresolution", "unmixing", "calibration", "classification", "detection",
    "tracking", "regression", "pretraining", "embedding", "diagnosis", "zeroshot", "pde",
)  # fmt: skip


class Card(BaseModel):
    """What the registry knows about one method.

    Attributes
    ----------
    name, room : str
        As typed on the command line.
    target : str
        ``module:Class``.
    paper, year, link : str, int, str
        Where the method was published.
    needs : list of str
        Inputs and trained weights in words.
    scope : str
        As declared by the class.
    cost : str
        Time and memory in words, with the size they were seen at.
    licence : str
        Of the weights that it ships or expects; "" where it has none.
    evidence : str
        What was seen to hold (parity cases, real scenes), and what was not.
    weights : str
        Name of the default weights; "" where the method fits on the scene or needs none.
    verb : str
        Function of the top package that runs it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    room: str
    target: str
    title: str
    paper: str
    year: int
    link: str = ""
    needs: list[str]
    scope: str
    cost: str
    licence: str = ""
    evidence: str
    weights: str = ""
    verb: str = ""


@lru_cache(maxsize=1)
def cards() -> dict[tuple[str, str], Card]:
    """Every method card by (room, name): our own and those of entry points in ``torchspectral.methods``.

    An entry point names a package that holds a ``cards.yaml``; a broken one warns and is skipped.
    """
    found: dict[tuple[str, str], Card] = {}
    for room in ROOMS:
        for card in _package_cards(f"torchspectral.{room}", room):
            found[card.room, card.name] = card
    for entry in metadata.entry_points(group="torchspectral.methods"):
        try:
            for card in _package_cards(entry.value, entry.name):
                if (card.room, card.name) in found:
                    get_logger("registry").warning(
                        "method %s/%s of %s is hidden by ours", card.room, card.name, entry.value
                    )
                else:
                    found[card.room, card.name] = card
        except Exception as error:  # a broken plugin must not break listing
            get_logger("registry").warning("plugin %s skipped: %s", entry.name, error)
    return found


def _package_cards(package: str, room: str) -> Iterator[Card]:
    try:
        file = resources.files(package).joinpath("cards.yaml")
    except ModuleNotFoundError:
        return
    if not file.is_file():
        return
    for row in yaml.safe_load(file.read_text(encoding="utf-8")) or []:
        try:
            yield Card(**{"room": room, **row})
        except ValidationError as error:
            raise ValueError(f"card {row.get('name')!r} of {package}: {error}") from error


def methods(room: str | None = None) -> list[Card]:
    """Cards of a room, or of all, in the order of the house.

    Raises
    ------
    UnknownName
        No such room.
    """
    if room is not None and room not in ROOMS:
        raise UnknownName(f"no room {room!r}: {closest(room, ROOMS)}")
    return [card for card in cards().values() if room in (None, card.room)]


def room_of(word: str) -> str:
    """The room of a verb ("sharpen") or of its own name ("sharpening").

    Raises
    ------
    UnknownName
    """
    if word in ROOMS:
        return word
    verbs = {card.verb: card.room for card in cards().values() if card.verb}
    if word in verbs:
        return verbs[word]
    raise UnknownName(f"no task or room {word!r}: {closest(word, (*verbs, *ROOMS))}")


def card(room: str, name: str) -> Card:
    """One card.

    Raises
    ------
    UnknownName
        No such room or method; the message has the closest names.
    """
    known = methods(room)
    for found in known:
        if found.name == name:
            return found
    raise UnknownName(f"no method {name!r} in {room}: {closest(name, [c.name for c in known])}")


def load_target(target: str) -> Any:
    """Import ``module:name``.

    Raises
    ------
    MissingDependency
        An optional library is not installed.
    """
    module, _, attribute = target.partition(":")
    try:
        return getattr(importlib.import_module(module), attribute)
    except ModuleNotFoundError as error:
        told = missing_dependency(target, error)
        if told is None:
            raise
        raise told from error


def settings_table(found: Card) -> list[dict[str, str]]:
    """Settings of a method: name, type, default, unit, meaning.

    Read from the method's source, so that listing imports no torch; a class whose settings are not written there (a
    plugin's, say) is imported.
    """
    rows = settings_in_source(*found.target.split(":"))
    return rows if rows is not None else list(load_target(found.target).Settings.table())


def create(room: str, name: str, settings: dict[str, Any] | None = None) -> Any:
    """Build a method with validated settings.

    Raises
    ------
    UnknownName, BadSettings, MissingDependency
    """
    cls = load_target(card(room, name).target)
    return cls(cls.Settings.make(settings or {}))
