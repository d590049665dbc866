"""INTL: iterative normalisation with a trace loss, self-supervision without negatives, predictor or stop-gradient.

References
----------
Weng, Ni, Song, Luo, Anwer, Khan, Khan, Huang, "Modulate your spectrum in self-supervised learning", ICLR 2024,
arXiv:2305.16789.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence

import torch
from torch import nn
from torch.nn.functional import normalize

from torchspectral.errors import BadInput, BadSettings
from torchspectral.learn.losses.gather import gather_batch

TINY = 1e-12


class IterNorm(nn.Module):
    """Whitening by Newton's iteration that is stopped early: large eigenvalues go to 1, small ones stay small.

    Computed in float32 (float64 where the input is) whatever the surrounding autocast.

    Parameters
    ----------
    axis : {0, 1}
        0 whitens the samples over the features (the released runs), 1 the features over the batch.
    iterations : int
        T; 4 in the paper. From about 12 on, the covariance of the output is the identity.

    Raises
    ------
    BadSettings
    """

    def __init__(self, axis: int = 0, iterations: int = 4) -> None:
        super().__init__()
        if axis not in (0, 1) or iterations < 0:
            raise BadSettings(f"got axis={axis} and {iterations} iterations, expected axis 0 or 1 and none or more")
        self.axis, self.iterations = axis, iterations

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Whitened embeddings, shape (n, d) as given; the batch of this process only, see `gather_batch`."""
        with torch.autocast(x.device.type, enabled=False):
            return self._whitened(x if x.dtype == torch.float64 else x.float())

    def _whitened(self, x: torch.Tensor) -> torch.Tensor:
        rows = x if self.axis == 1 else x.T
        centred = rows - rows.mean(0, keepdim=True)
        covariance = centred.T @ centred / max(rows.shape[0] - 1, 1)
        trace = covariance.diagonal().sum().clamp_min(TINY)
        scaled = covariance / trace
        root = torch.eye(scaled.shape[0], dtype=x.dtype, device=x.device)
        for _ in range(self.iterations):
            root = 1.5 * root - 0.5 * (torch.linalg.matrix_power(root, 3) @ scaled)
        out = centred @ (root / trace.sqrt())
        return out if self.axis == 1 else out.T

    def extra_repr(self) -> str:
        """For printing."""
        return f"axis={self.axis}, iterations={self.iterations}"


def trace_loss(z: torch.Tensor, axis: int = 0) -> torch.Tensor:
    """Sum over variables of ``(variance - 1)^2``: the samples for axis 0, the features for axis 1.

    Parameters
    ----------
    z : Tensor, shape (n, d)
        Whitened embeddings.
    axis : {0, 1}
    """
    rows = z if axis == 1 else z.T
    centred = rows - rows.mean(0, keepdim=True)
    variance = centred.square().sum(0) / max(rows.shape[0] - 1, 1)
    return (variance - 1).square().sum()


def similarity_loss(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """``2 - 2 mean cos(a_i, b_i)``, 0..4."""
    return 2 - 2 * (normalize(a, dim=-1) * normalize(b, dim=-1)).sum(-1).mean()


def trade_off(axis: int, batch: int, dim: int) -> float:
    """Weight of the trace loss: ``0.01 (log2 B - 3)`` of the batch over all processes, or of d for axis 1."""
    return 0.01 * (math.log2(batch if axis == 0 else dim) - 3)


class INTLLoss(nn.Module):
    """Loss of two or more views; a plain module for any training.

    The embeddings of all processes are joined first. A batch that is gathered over several steps (gradient
    accumulation) is another loss: the whitening needs the whole batch at once. Drop the last, smaller batch.

    Parameters
    ----------
    axis, iterations : int
        See `IterNorm`.
    trade_off : "auto" or float
        Weight of the trace loss, see `trade_off`.
    momentum : bool
        View 0 comes from the momentum network (INTL-M): it gets neither a gradient nor a trace loss.
    guard : bool
        Refuse batches whose covariance cannot have full rank (d <= n for axis 0, n <= d for axis 1), where the trace
        loss cannot reach 0.

    Attributes
    ----------
    parts : dict of str to Tensor
        Of the last call, detached: similarity, trace, trade_off.
    """

    def __init__(
        self,
        axis: int = 0,
        iterations: int = 4,
        trade_off: float | str = "auto",
        momentum: bool = False,
        guard: bool = True,
    ) -> None:
        super().__init__()
        if isinstance(trade_off, str) and trade_off != "auto":
            raise BadSettings(f"got trade_off={trade_off!r}, expected a number or 'auto'")
        self.whiten = IterNorm(axis, iterations)
        self.trade_off, self.momentum, self.guard = trade_off, momentum, guard
        self.parts: dict[str, torch.Tensor] = {}
        self._seen: torch.Tensor | None = None

    def forward(self, views: Sequence[torch.Tensor]) -> torch.Tensor:
        """Scalar loss.

        Parameters
        ----------
        views : sequence of Tensor, shape (n, d)
            Embeddings of the views of the same samples, at least two; of this process's share of the batch.

        Raises
        ------
        BadInput
        """
        shapes = {tuple(v.shape) for v in views}
        if len(views) < 2 or len(shapes) != 1 or views[0].ndim != 2:
            raise BadInput(f"got views of shapes {[tuple(v.shape) for v in views]}, expected two or more of (n, d)")
        with torch.autocast(views[0].device.type, enabled=False):
            batches = [gather_batch(v if v.dtype == torch.float64 else v.float()) for v in self._own(views)]
            weight = self._weight(*batches[0].shape)
            self._seen = batches[-1].detach()
            whitened = [self.whiten(b) for b in batches]
            axis = self.whiten.axis
            # A weight of 0 (batches of 8) leaves the trace loss out of the sum and of the graph.
            traces = [trace_loss(z if weight else z.detach(), axis) for z in whitened]
            pairs = len(views) - 1
            similar = torch.stack([similarity_loss(z, whitened[0]) for z in whitened[1:]]).sum() / pairs
            spread = torch.stack(traces[1:]).sum() / pairs
            if not self.momentum:
                spread = spread + traces[0]
        self.parts = {"similarity": similar.detach(), "trace": spread.detach(), "trade_off": similar.new_tensor(weight)}
        return similar + weight * spread

    def effective_rank(self) -> float:
        """Effective rank of the joined embeddings of the last view of the last call: a monitor of collapse, to be logged.

        An eigenvalue problem of the batch, so not for every step.

        Raises
        ------
        BadInput
            Nothing was computed yet.
        """
        from torchspectral.metrics.representation import effective_rank

        if self._seen is None:
            raise BadInput("the loss has seen no batch yet: call it first")
        return float(effective_rank(self._seen))

    def _own(self, views: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        return [views[0].detach(), *views[1:]] if self.momentum else list(views)

    def _weight(self, batch: int, dim: int) -> float:
        axis = self.whiten.axis
        if self.guard and (dim <= batch if axis == 0 else batch <= dim):
            want = "more dimensions than samples" if axis == 0 else "more samples than dimensions"
            raise BadInput(
                f"got a batch of {batch} embeddings of {dim} dimensions, axis {axis} needs {want}: its covariance is "
                "singular and the trace loss cannot reach 0; change the batch, the projector's output or the axis"
            )
        return trade_off(axis, batch, dim) if isinstance(self.trade_off, str) else float(self.trade_off)

    def extra_repr(self) -> str:
        """For printing."""
        return f"trade_off={self.trade_off}, momentum={self.momentum}"


def projector(features: int, hidden: int = 8192, out: int = 8192, layers: int = 3) -> nn.Sequential:
    """``layers - 1`` times linear without bias, batch norm, ReLU; then linear with bias.

    Raises
    ------
    BadSettings
    """
    if layers < 1:
        raise BadSettings(f"got a projector of {layers} layers, expected at least 1")
    parts: list[nn.Module] = []
    for layer in range(layers - 1):
        parts += [nn.Linear(features if layer == 0 else hidden, hidden, bias=False), nn.BatchNorm1d(hidden)]
        parts.append(nn.ReLU(inplace=True))
    return nn.Sequential(*parts, nn.Linear(hidden if layers > 1 else features, out))


def momentum_at(step: int, total: int, base: float = 0.996) -> float:
    """Momentum of the averaged network: from `base` at step 0 to 1 at the last, along half a cosine."""
    return 1 - 0.5 * (1 + math.cos(math.pi * step / total)) * (1 - base)


@torch.no_grad()
def update_average(average: nn.Module, network: nn.Module, momentum: float) -> None:
    """``average <- m average + (1 - m) network``, parameters only: buffers of the average are its own."""
    for mine, theirs in zip(average.parameters(), network.parameters(), strict=True):
        mine.mul_(momentum).add_(theirs.detach(), alpha=1 - momentum)


class INTL(nn.Module):
    """Encoder, projector and loss; each view goes through both on its own, with its own batch statistics.

    Parameters
    ----------
    backbone : Module
        Views to features (n, f).
    projection : Module
        Features to embeddings (n, d), see `projector`.
    loss : INTLLoss
        Where it is INTL-M, averaged copies of both networks make the target from view 0.
    """

    def __init__(self, backbone: nn.Module, projection: nn.Module, loss: INTLLoss) -> None:
        super().__init__()
        self.backbone, self.projection, self.loss = backbone, projection, loss
        if loss.momentum:
            self.momentum_backbone = copy.deepcopy(backbone).requires_grad_(False)
            self.momentum_projection = copy.deepcopy(projection).requires_grad_(False)

    def forward(self, views: Sequence[torch.Tensor], momentum: float | None = None) -> torch.Tensor:
        """Scalar loss of one step.

        Parameters
        ----------
        views : sequence of Tensor, shape (n, band, y, x)
            View 0 is the target of all others; sizes may differ.
        momentum : float, optional
            For INTL-M: update the averaged networks with it before the views go through.

        Raises
        ------
        BadInput
        BadSettings
            A momentum without averaged networks.
        """
        if not self.loss.momentum:
            if momentum is not None:
                raise BadSettings("got a momentum for INTL, expected one for INTL-M only: INTLLoss(momentum=True)")
            return self.loss([self.projection(self.backbone(view)) for view in views])
        if momentum is not None:
            update_average(self.momentum_backbone, self.backbone, momentum)
            update_average(self.momentum_projection, self.projection, momentum)
        with torch.no_grad():
            target = self.momentum_projection(self.momentum_backbone(views[0]))
        return self.loss([target, *(self.projection(self.backbone(view)) for view in views[1:])])
