"""DINO: a student learns the centred, sharpened output of its own moving average.

References
----------
Caron et al., "Emerging properties in self-supervised vision transformers", ICCV (2021).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.functional import log_softmax, softmax

from torchspectral.errors import BadInput, BadSettings
from torchspectral.learn.losses.contrastive import at_least_float32
from torchspectral.learn.losses.gather import world_size


class DINOLoss(nn.Module):
    """Cross entropy of teacher and student over all pairs of different views.

    Parameters
    ----------
    outputs : int
        Length of the projections.
    teacher_temperature, warmup_temperature : float
        Of the teacher after and at the start of the warm-up, in between linear.
    warmup_epochs : int
        Epochs of the warm-up.
    student_temperature : float
    momentum : float
        Of the centre, 0..1.

    Attributes
    ----------
    center : Tensor (1, 1, outputs)
        Moving mean of the teacher's outputs, over all processes; saved with the loss.
    """

    center: torch.Tensor

    def __init__(
        self,
        outputs: int = 32768,
        teacher_temperature: float = 0.04,
        warmup_temperature: float = 0.04,
        warmup_epochs: int = 10,
        student_temperature: float = 0.1,
        momentum: float = 0.9,
    ) -> None:
        super().__init__()
        if min(teacher_temperature, warmup_temperature, student_temperature) <= 0 or not 0 <= momentum <= 1:
            raise BadSettings(
                f"temperatures {teacher_temperature}, {warmup_temperature}, {student_temperature} and momentum "
                f"{momentum}: expected temperatures above 0 and a momentum from 0 to 1"
            )
        self.teacher_temperature, self.warmup_temperature = teacher_temperature, warmup_temperature
        self.warmup_epochs, self.student_temperature, self.momentum = warmup_epochs, student_temperature, momentum
        self.register_buffer("center", torch.zeros(1, 1, outputs))

    def temperature(self, epoch: int | None) -> float:
        """Temperature of the teacher in an epoch (from 0); None: after the warm-up."""
        if epoch is None or epoch >= self.warmup_epochs:
            return self.teacher_temperature
        share = epoch / max(self.warmup_epochs - 1, 1)
        return self.warmup_temperature + share * (self.teacher_temperature - self.warmup_temperature)

    def forward(
        self, teacher: Sequence[torch.Tensor], student: Sequence[torch.Tensor], epoch: int | None = None
    ) -> torch.Tensor:
        """Mean over images and pairs of views; in training the centre is updated afterwards.

        Parameters
        ----------
        teacher, student : sequence of Tensor (n, outputs)
            One a view; the views of the teacher are the first of the student's, and no view is compared with itself.
        epoch : int, optional
            See `temperature`.

        Returns
        -------
        Tensor, scalar

        Raises
        ------
        BadInput
        """
        shapes = {tuple(view.shape) for view in (*teacher, *student)}
        if len(shapes) != 1 or len(student) < 2 or not teacher or next(iter(shapes))[1:] != self.center.shape[2:]:
            raise BadInput(
                f"got {len(teacher)} teacher and {len(student)} student views of shapes {sorted(shapes)}, expected at "
                f"least 1 and 2 of one shape (images, {self.center.shape[2]})"
            )
        seen = torch.stack([at_least_float32(view.detach()) for view in teacher])
        target = softmax((seen - self.center) / self.temperature(epoch), -1)
        said = log_softmax(torch.stack([at_least_float32(view) for view in student]) / self.student_temperature, -1)
        pairs = -torch.einsum("tnd,snd->ts", target, said)
        pairs.fill_diagonal_(0)
        terms = pairs.numel() - min(pairs.shape)
        if self.training:
            self.update(seen)
        return pairs.sum() / (terms * seen.shape[1])

    @torch.no_grad()
    def update(self, seen: torch.Tensor) -> None:
        """Move the centre towards the mean of a batch (views, n, outputs), over all processes."""
        mean = seen.mean((0, 1), keepdim=True)
        if world_size() > 1:
            dist.all_reduce(mean)
            mean = mean / world_size()
        self.center.mul_(self.momentum).add_(mean.to(self.center.dtype), alpha=1 - self.momentum)
