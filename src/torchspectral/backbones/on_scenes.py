"""What methods share that put a network over a scene: the network of a state, and tiles that must be filled up."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Generic, TypeVar

import torch

from torchspectral.errors import BadWeights
from torchspectral.weights.card import WeightsCard
from torchspectral.weights.loading import check

Network = TypeVar("Network", bound=torch.nn.Module)


class KeptNetwork(Generic[Network]):
    """A network with the tensors of a state, built once and kept from tile to tile.

    Parameters
    ----------
    make : callable
        The network with fresh weights, from its facts.
    what : str
        For messages: "the tuned backbone".
    """

    def __init__(self, make: Callable[[dict[str, Any]], Network], what: str) -> None:
        self.make, self.what = make, what
        self._kept: tuple[dict[str, Any], torch.device, Network] | None = None

    def of(self, facts: dict[str, Any], state: Mapping[str, Any], device: torch.device) -> Network:
        """The network of these facts, in evaluation mode.

        Raises
        ------
        BadWeights
            The tensors are not those of the network.
        """
        if self._kept is None or self._kept[0] != facts or self._kept[1] != device:
            self._kept = facts, device, self._filled(facts, state).to(device).eval()
        return self._kept[2]

    def _filled(self, facts: dict[str, Any], state: Mapping[str, Any]) -> Network:
        try:
            network = self.make(facts)
        except TypeError as error:
            raise BadWeights(f"these are no weights of {self.what}: {error}") from None
        own = {key: tuple(value.shape) for key, value in network.state_dict().items()}
        tensors = {key: value for key, value in state.items() if isinstance(value, torch.Tensor)}
        counters = WeightsCard(name="network", optional_keys=[r".*num_batches_tracked"])
        check(tensors, own, counters, f"weights of {self.what}")
        network.load_state_dict(tensors, strict=False)
        return network


def filled_up(shape: tuple[int, int], tile: int, overlap: int = 0) -> bool:
    """Whether a scene's last tiles are cut short by its edge, so that a network of one size sees reflections there."""
    return any(n < tile or (n - tile) % (tile - overlap) for n in shape)
