"""`torchspectral methods`: what exists, without importing any of it."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from torchspectral.cli.options import Json


def methods(
    room: Annotated[
        str | None,
        typer.Argument(help="Room or its verb, such as sharpening, or io for the readers.", show_default=False),
    ] = None,
    method: Annotated[
        str | None, typer.Argument(help="Method for its settings, or reader for its options.", show_default=False)
    ] = None,
    as_json: Json = False,
) -> None:
    """List methods; with a room and a method, everything known about it.

    Example: torchspectral methods sharpening gsa
    """
    from torchspectral import registry
    from torchspectral.cli.show import facts, print_json, table

    if room == "io":
        from torchspectral.io import reader_cards

        rows = reader_cards()
        if method is not None:
            _reader(method, rows, as_json)
        elif as_json:
            print_json(rows)
        else:
            table(rows)
        return
    room = room and registry.room_of(room)
    if room is None or method is None:
        cards = registry.methods(room)
        if as_json:
            print_json([card.model_dump() for card in cards])
            return
        table(
            [
                {
                    "room": c.room,
                    "method": c.name,
                    "title": c.title,
                    "year": c.year,
                    "scope": c.scope,
                    "needs": c.needs,
                }
                for c in cards
            ]
        )
        return
    card = registry.card(room, method)
    settings = registry.settings_table(card)
    if as_json:
        print_json({**card.model_dump(), "settings": settings})
        return
    facts({k: v for k, v in card.model_dump().items() if v not in ("", [], None)})
    if settings:
        typer.echo("")
        table(settings)


def _reader(name: str, rows: list[dict[str, Any]], as_json: bool) -> None:
    """One reader with the options of `open` that are its own."""
    from torchspectral.cli.show import facts, print_json
    from torchspectral.errors import UnknownName, closest
    from torchspectral.io.opening import SHARED_OPTIONS, get_reader

    known = {row["name"]: row for row in rows}
    if name not in known:
        raise UnknownName(f"no reader {name!r}: {closest(name, tuple(known))}")
    found = {**known[name], "options": list(dict.fromkeys([*get_reader(name).options, *SHARED_OPTIONS]))}
    if as_json:
        print_json(found)
    else:
        facts(found)
