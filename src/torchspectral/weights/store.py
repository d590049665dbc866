"""Where weights are: a path, the user's store, or shipped with a room."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from torchspectral.errors import BadWeights, MissingWeights, OutputExists, ProductNotFound, UnknownName, closest
from torchspectral.registry import ROOMS
from torchspectral.weights.card import NAME, WeightsCard, read_card
from torchspectral.weights.files import SUFFIXES, card_of, card_path, copy_whole, read_state, sha256_of

RUN_WEIGHTS = "weights.safetensors"


@dataclass(frozen=True)
class Entry:
    """One set of weights that is known by name.

    Attributes
    ----------
    name : str
    card : WeightsCard
    path : Path or None
        None where only the card is known: the file must be fetched and added by the user.
    where : str
        "store", or the room that ships it.
    """

    name: str
    card: WeightsCard
    path: Path | None
    where: str


def store_dir() -> Path:
    """The user's store: ``$TORCHSPECTRAL_STORE``, else ``~/.local/share/torchspectral/weights``."""
    given = os.environ.get("TORCHSPECTRAL_STORE")
    if given:
        return Path(given).expanduser()
    base = os.environ.get("XDG_DATA_HOME")
    return (Path(base) if base else Path.home() / ".local" / "share") / "torchspectral" / "weights"


def _folders() -> Iterator[tuple[str, Path]]:
    yield "store", store_dir()
    for room in ("backbones", *ROOMS):
        try:
            folder = Path(str(resources.files(f"torchspectral.{room}").joinpath("weights")))
        except ModuleNotFoundError:
            continue
        yield room, folder


def listing() -> list[Entry]:
    """All weights known by name: the user's first, then the shipped ones and cards without a file.

    Raises
    ------
    BadWeights
        A card is broken.
    """
    found: dict[str, Entry] = {}
    for where, folder in _folders():
        if not folder.is_dir():
            continue
        for file in sorted(folder.glob("*.yaml")):
            name = file.stem
            entry = Entry(name, read_card(file), _weights_file(folder, name), where)
            if name not in found or (found[name].path is None and entry.path is not None):
                found[name] = entry
    return list(found.values())


def list_weights() -> list[dict[str, str]]:
    """`listing` as rows of words, for tables.

    Raises
    ------
    BadWeights
    """
    return [
        {
            "name": entry.name,
            "where": entry.where if entry.path is not None else "not here",
            "model": entry.card.model,
            "bands": str(entry.card.bands or "any"),
            "quantity": entry.card.quantity,
            "licence": entry.card.licence,
            "trained on": entry.card.trained_on,
        }
        for entry in listing()
    ]


def _weights_file(folder: Path, name: str) -> Path | None:
    return next((p for s in SUFFIXES if (p := folder / f"{name}{s}").is_file()), None)


def _known_card(name: str) -> WeightsCard | None:
    for _, folder in _folders():
        file = folder / f"{name}.yaml"
        if file.is_file():
            return read_card(file)
    return None


def _looks_like_path(text: str) -> bool:
    return "/" in text or os.sep in text or text.startswith("~") or Path(text).suffix in SUFFIXES


def find(name: str | Path) -> Path:
    """The file of a set of weights.

    Parameters
    ----------
    name : str or path
        A weights file, a run folder (see `learn.train`), or a name ``family-size.tag``; a bare family name takes the
        only set of that family.

    Raises
    ------
    MissingWeights
        Not on this machine; the message names source, licence and the command that adds it.
    ProductNotFound
        A path that does not exist.
    BadWeights
        A folder without weights.
    """
    if not isinstance(name, (str, os.PathLike)):
        raise BadWeights(f"got {name!r} as weights, expected a name or a path")
    path = Path(name).expanduser()
    if path.is_dir():
        return _in_folder(path)
    if path.is_file():
        return path
    text = str(name)
    if isinstance(name, Path) or _looks_like_path(text):
        raise ProductNotFound(
            f"{text}: there is no such weights file; give a path or a name such as 'hyperpnn.indian-pines'"
        )
    if not NAME.fullmatch(text):
        raise BadWeights(
            f"got {text!r} as name of weights, expected family-size.tag in lower case letters, digits, '-' and '_'"
        )
    for _, folder in _folders():
        file = _weights_file(folder, text)
        if file is not None:
            return file
    if "." not in text:
        sets = [entry for entry in listing() if entry.name.split(".")[0] == text and entry.path is not None]
        if len(sets) == 1 and sets[0].path is not None:
            return sets[0].path
        if len(sets) > 1:
            raise UnknownName(
                f"{text!r} has several sets of weights: {', '.join(e.name for e in sets)}: give one of them"
            )
    raise MissingWeights(_missing(text))


def _in_folder(path: Path) -> Path:
    if (path / RUN_WEIGHTS).is_file():
        return path / RUN_WEIGHTS
    files = sorted(path.glob("*.safetensors"))
    if len(files) == 1:
        return files[0]
    if (path / "run.yaml").is_file():
        raise BadWeights(
            f"{path}: the run has no finished weights: continue it with its command (run.yaml) and --resume"
        )
    raise BadWeights(
        f"{path}: got a folder with {len(files)} safetensors files, expected a run folder or one weights file"
    )


def _missing(name: str) -> str:
    card = _known_card(name)
    command = f"torchspectral weights add {name} FILE"
    if card is None:
        names = [entry.name for entry in listing()]
        return f"weights {name!r} are not on this machine: {closest(name, names)}; add a file with `{command}`"
    source = card.source or "source unknown"
    terms = f"licence: {card.licence}" + (f", {card.commercial}" if card.commercial else "")
    return f"weights {name!r} are not on this machine: get the file from {source} ({terms}), then run `{command}`"


def add(name: str, file: str | Path, *, card: WeightsCard | None = None, overwrite: bool = False) -> Path:
    """Put a weights file into the user's store, unchanged, with its card and checksum.

    Parameters
    ----------
    name : str
        ``family-size.tag``. Where a card of this name is shipped, the file must have its checksum.
    file : path
        safetensors or a PyTorch file that holds tensors only (`convert` others first).
    card : WeightsCard, optional
        Default: the shipped card of that name, else the one beside or inside the file.
    overwrite : bool
        Replace what is in the store.

    Returns
    -------
    Path
        In the store.

    Raises
    ------
    BadWeights
        Bad name, checksum or content.
    UnsafeInput, OutputExists, ProductNotFound
    """
    if not NAME.fullmatch(name):
        raise BadWeights(
            f"got {name!r} as name of weights, expected family-size.tag in lower case letters, digits, '-' and '_'"
        )
    file = Path(file).expanduser()
    read_state(file)
    digest = sha256_of(file)
    known = _known_card(name)
    if card is None:
        card = known or card_of(file)
    if card.sha256 and card.sha256 != digest and card is known:
        raise BadWeights(
            f"{file}: checksum {digest[:12]}.. is not that of {name} ({card.sha256[:12]}..): "
            f"fetch the file again from {card.source or 'its source'}, or add it under another name"
        )
    suffix = file.suffix if file.suffix in SUFFIXES else ".pt"
    target = store_dir() / f"{name}{suffix}"
    present = _weights_file(store_dir(), name)
    if present is not None and not overwrite:
        raise OutputExists(f"{present} exists: choose another name or say overwrite")
    card = card.model_copy(update={"name": name, "sha256": digest})
    copy_whole(file, target)
    temporary = target.with_name(f".{name}.yaml.tmp")
    temporary.write_text(card.to_yaml(), encoding="utf-8")
    temporary.replace(card_path(target))
    if present is not None and present != target:
        present.unlink()
    return target


def check_digest(path: Path, card: WeightsCard) -> str:
    """SHA-256 of a file, held against its card.

    Raises
    ------
    BadWeights
    """
    digest = sha256_of(path)
    if card.sha256 and card.sha256 != digest:
        raise BadWeights(
            f"{path}: checksum {digest[:12]}.. differs from {card.sha256[:12]}.. of its card: the file is damaged "
            "or was changed, fetch it again"
        )
    return digest


def family(name: str) -> str:
    """Family and size of a weights name, without its tag."""
    return re.split(r"\.", name, maxsplit=1)[0]
