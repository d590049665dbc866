"""Contrastive losses: NT-Xent within the batch, InfoNCE against a queue of keys.

References
----------
Chen, Kornblith, Norouzi, Hinton, "A simple framework for contrastive learning of visual representations", ICML (2020).
He, Fan, Wu, Xie, Girshick, "Momentum contrast for unsupervised visual representation learning", CVPR (2020).
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.functional import cross_entropy, normalize

from torchspectral.errors import BadInput, BadSettings
from torchspectral.learn.losses.gather import gather_batch, in_batch_order


def check_pair(one: torch.Tensor, two: torch.Tensor) -> None:
    """Refuse embeddings that are not two views of one batch.

    Raises
    ------
    BadInput
    """
    if one.ndim != 2 or one.shape != two.shape or not len(one):
        raise BadInput(
            f"got embeddings of {tuple(one.shape)} and {tuple(two.shape)}, expected two of (images, features)"
        )


def at_least_float32(x: torch.Tensor) -> torch.Tensor:
    """Half precisions become float32; float64 stays."""
    return x if x.dtype == torch.float64 else x.float()


def check_temperature(value: float) -> None:
    """Refuse a temperature that is not positive.

    Raises
    ------
    BadSettings
    """
    if not value > 0:
        raise BadSettings(f"temperature={value}, expected more than 0")


class NTXent(nn.Module):
    """Normalised, temperature-scaled cross entropy: each view must find its other view among all of the batch.

    Embeddings of all processes are joined, with gradients.

    Parameters
    ----------
    temperature : float
        Above 0.
    """

    def __init__(self, temperature: float = 0.1) -> None:
        super().__init__()
        check_temperature(temperature)
        self.temperature = temperature

    def forward(self, one: torch.Tensor, two: torch.Tensor) -> torch.Tensor:
        """Mean over both views.

        Parameters
        ----------
        one, two : Tensor (n, features)
            The same images; need not be normalised.

        Returns
        -------
        Tensor, scalar

        Raises
        ------
        BadInput
        """
        check_pair(one, two)
        one, two = (gather_batch(normalize(at_least_float32(view), dim=1)) for view in (one, two))
        both = torch.cat([one, two])
        logits = both @ both.T / self.temperature
        logits.fill_diagonal_(-torch.inf)
        target = torch.arange(len(both), device=both.device).roll(len(one))
        return cross_entropy(logits, target)


class InfoNCE(nn.Module):
    """Cross entropy of the positive key against a queue of earlier keys (MoCo).

    Parameters
    ----------
    features : int
        Length of an embedding.
    queue : int
        Keys that are kept, 32768 in SpectralEarth; 0: the other keys of the batch are the negatives.
    temperature : float
        Above 0.
    seed : int
        Of the random unit vectors that fill the queue before the first keys.

    Attributes
    ----------
    keys : Tensor (queue, features)
        Buffer, saved with the loss so that a resumed run goes on alike.
    """

    keys: torch.Tensor
    next_key: torch.Tensor

    def __init__(self, features: int = 128, queue: int = 32768, temperature: float = 0.1, seed: int = 0) -> None:
        super().__init__()
        check_temperature(temperature)
        if queue < 0 or features < 1:
            raise BadSettings(f"features={features} and queue={queue}, expected at least 1 and at least 0")
        self.temperature, self.features = temperature, features
        drawn = torch.randn(queue, features, generator=torch.Generator().manual_seed(seed))
        self.register_buffer("keys", normalize(drawn, dim=1))
        self.register_buffer("next_key", torch.zeros((), dtype=torch.int64))

    def forward(self, queries: torch.Tensor, keys: torch.Tensor, *, update: bool = True) -> torch.Tensor:
        """Mean over the queries.

        Parameters
        ----------
        queries, keys : Tensor (n, features)
            Two views of the same images; the keys get no gradient where there is a queue.
        update : bool
            In training, put the keys of all processes into the queue afterwards.

        Returns
        -------
        Tensor, scalar

        Raises
        ------
        BadInput
        """
        check_pair(queries, keys)
        if queries.shape[1] != self.features:
            raise BadInput(f"got embeddings of {queries.shape[1]} features, expected {self.features}")
        queries, keys = (normalize(at_least_float32(x), dim=1) for x in (queries, keys))
        if not len(self.keys):
            queries, keys = gather_batch(queries), gather_batch(keys)
            target = torch.arange(len(queries), device=queries.device)
            return cross_entropy(queries @ keys.T / self.temperature, target)
        keys = keys.detach()
        positive = (queries * keys).sum(1, keepdim=True)
        # A copy: the queue changes before the backward pass needs it.
        logits = torch.cat([positive, queries @ self.keys.to(queries.dtype, copy=True).T], 1) / self.temperature
        if update and self.training:
            self.enqueue(keys)
        return cross_entropy(logits, logits.new_zeros(len(logits), dtype=torch.int64))

    @torch.no_grad()
    def enqueue(self, keys: torch.Tensor) -> None:
        """Replace the oldest keys of the queue by those of all processes."""
        keys = in_batch_order(keys)[-len(self.keys) :]
        places = (self.next_key + torch.arange(len(keys), device=keys.device)) % len(self.keys)
        self.keys[places] = keys.to(self.keys.dtype)
        self.next_key.copy_((self.next_key + len(keys)) % len(self.keys))
