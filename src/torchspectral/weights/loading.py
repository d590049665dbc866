"""Loading weights: every key and shape must be what the network expects."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torchspectral.errors import BadWeights
from torchspectral.weights.card import WeightsCard
from torchspectral.weights.files import card_of, is_tensor, read_state, sha256_of, strip_prefixes
from torchspectral.weights.store import check_digest, find

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Weights:
    """A loaded set of weights.

    Attributes
    ----------
    state : dict
        Tensors on the CPU, and plain values of a fitted method.
    card : WeightsCard
    path : Path
    """

    state: dict[str, Any]
    card: WeightsCard
    path: Path

    def build(self) -> torch.nn.Module:
        """The card's network with these weights, in evaluation mode.

        Raises
        ------
        BadWeights
            The card names no model, or the keys do not fit it.
        """
        from torchspectral.weights.networks import create_model

        if not self.card.model:
            raise BadWeights(f"{self.path}: the card names no model: write `model` and `constructor` into it")
        network = create_model(self.card.model, **self.card.constructor)
        fill(network, self.state, self.card, str(self.path))
        return network.eval()


def load(
    name: str | Path,
    *,
    model: torch.nn.Module | None = None,
    expect: torch.nn.Module | Mapping[str, Any] | Iterable[str] | None = None,
    card: WeightsCard | None = None,
) -> Weights:
    """Load weights by path, run folder or name.

    Parameters
    ----------
    name : str or path
        See `find`.
    model : torch.nn.Module, optional
        Network that gets the weights.
    expect : torch.nn.Module, mapping or iterable of str, optional
        What the file must hold, where no network is to be filled: a network, names with tensors or shapes, or names.
    card : WeightsCard, optional
        Instead of the one beside the file (it may carry the key map of foreign weights).

    Returns
    -------
    Weights
        Its state has the network's names: wrappers and prefixes removed, key map applied.

    Raises
    ------
    MissingWeights, ProductNotFound
    BadWeights
        Checksum, content, or keys and shapes that do not fit; the message lists the first differences.
    UnsafeInput
        The file wants to run code.

    Examples
    --------
    >>> weights = load("hyperpnn.indian-pines")  # doctest: +SKIP
    >>> network = weights.build()  # doctest: +SKIP
    """
    path = find(name)
    if card is None:
        card = card_of(path)
        check_digest(path, card)
    wanted = expected_shapes(model if model is not None else expect)
    state = rename(read_state(path), card, str(path), wanted)
    if wanted is not None:
        check(state, wanted, card, str(path))
    if model is not None:
        fill(model, state, card, str(path))
    return Weights(state, card, path)


def expected_shapes(expect: Any) -> dict[str, tuple[int, ...] | None] | None:
    """Names and shapes that a network or a mapping stands for; None where the shape is free."""
    if expect is None:
        return None
    if hasattr(expect, "state_dict"):
        expect = expect.state_dict()
    if isinstance(expect, Mapping):
        return {str(key): _shape(value) for key, value in expect.items()}
    return {str(key): None for key in expect}


def _shape(value: Any) -> tuple[int, ...] | None:
    if value is None:
        return None
    if hasattr(value, "shape"):
        return tuple(int(n) for n in value.shape)
    return tuple(int(n) for n in value) if isinstance(value, (tuple, list)) else None


def rename(
    state: dict[str, Any], card: WeightsCard, where: str, expected: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Strip prefixes and apply the card's key map.

    Raises
    ------
    BadWeights
        Two keys would get one name.
    """
    state = strip_prefixes(state, expected)
    if not card.key_map:
        return state
    renamed: dict[str, Any] = {}
    for key, value in state.items():
        new = card.rename(key)
        if new in renamed:
            raise BadWeights(f"{where}: the card's key map gives two tensors the name {new!r}: correct key_map")
        renamed[new] = value
    return renamed


def check(state: Mapping[str, Any], expected: Mapping[str, Any], card: WeightsCard, where: str) -> None:
    """Hold the keys and shapes of a state against what is expected.

    Raises
    ------
    BadWeights
        With the first differences.
    """
    absent = [k for k in expected if k not in state and not card.is_optional(k)]
    excess = [k for k in state if k not in expected and not card.is_optional(k)]
    shapes = [
        f"{k} is {_shape(state[k])}, expected {expected[k]}"
        for k in expected
        if k in state and expected[k] is not None and is_tensor(state[k]) and _shape(state[k]) != expected[k]
    ]
    if not (absent or excess or shapes):
        return
    parts = []
    if absent:
        parts.append(f"{len(absent)} absent ({_first(absent)})")
    if excess:
        parts.append(f"{len(excess)} in excess ({_first(excess)})")
    if shapes:
        parts.append(f"{len(shapes)} of another shape ({_first(shapes)})")
    raise BadWeights(
        f"{where}: {len(state)} keys do not fit the {len(expected)} expected: {'; '.join(parts)}: "
        "check model and constructor, or name differing keys in the card's key_map and optional_keys"
    )


def _first(names: list[str]) -> str:
    return ", ".join(name[:60] for name in names[:3]) + (", .." if len(names) > 3 else "")


def fill(model: torch.nn.Module, state: Mapping[str, Any], card: WeightsCard, where: str) -> None:
    """Copy a state into a network, strictly.

    Raises
    ------
    BadWeights
        Keys or shapes differ beyond what the card calls optional.
    """
    own = model.state_dict()
    check(state, {k: tuple(v.shape) for k, v in own.items()}, card, where)
    try:
        model.load_state_dict({k: v for k, v in state.items() if k in own}, strict=False)
    except (RuntimeError, TypeError) as error:
        raise BadWeights(f"{where}: the network refuses the weights: {' '.join(str(error).split())[:200]}") from None


def inspect(name: str | Path) -> dict[str, Any]:
    """What a weights file holds, without building a network.

    Returns
    -------
    dict
        ``path, bytes, sha256, checksum`` ("ok", "differs" or "not on the card"), ``parameters``, ``keys`` (name,
        shape, dtype), ``values`` (names of plain values) and ``card`` (plain fields).

    Raises
    ------
    MissingWeights, ProductNotFound, BadWeights, UnsafeInput
    """
    path = find(name)
    card = card_of(path)
    digest = sha256_of(path)
    state = read_state(path)
    tensors = [
        {"name": key, "shape": list(value.shape), "dtype": str(value.dtype).removeprefix("torch.")}
        for key, value in state.items()
        if is_tensor(value)
    ]
    return {
        "path": str(path),
        "bytes": path.stat().st_size,
        "sha256": digest,
        "checksum": "not on the card" if not card.sha256 else "ok" if card.sha256 == digest else "differs",
        "parameters": sum(int(v.numel()) for v in state.values() if is_tensor(v)),
        "keys": tensors,
        "values": [key for key, value in state.items() if not is_tensor(value)],
        "card": card.model_dump(mode="json", exclude_defaults=True),
    }
