"""Monte-Carlo draws of an unmixing, gathered one by one: their mean and deviation, or the best of them."""

from __future__ import annotations

import torch

from torchspectral.engine.method import State


class Draws:
    """Mean and deviation of the draws' outputs, or the draw of least residual."""

    def __init__(self, best: bool) -> None:
        self.best, self.count = best, 0
        self.kept: list[torch.Tensor] = []
        self.mean = self.square = torch.empty(0)

    def add(self, *values: torch.Tensor) -> None:
        """Layers (classes, n), brightness (n,), residual (n,), fractions (spectra, n) of one draw."""
        layers, brightness, error, fractions = values
        told = torch.cat([layers, brightness[None]])
        if not self.count:
            self.mean, self.square = told.clone(), torch.zeros_like(told)
            self.kept = [layers.clone(), brightness.clone(), error.clone(), fractions.clone()]
        else:
            gap = told - self.mean
            self.mean = self.mean + gap / (self.count + 1)
            self.square = self.square + gap * (told - self.mean)
            if self.best:
                better = error < self.kept[2]
                self.kept = [torch.where(better, new, old) for new, old in zip(values, self.kept, strict=True)]
            else:
                self.kept = [old + new for new, old in zip(values, self.kept, strict=True)]
        self.count += 1

    def result(self) -> dict[str, torch.Tensor]:
        """The outputs."""
        share = 1 if self.best else self.count
        layers, brightness, error, fractions = (value / share for value in self.kept)
        out = {
            "abundances": layers,
            "brightness": brightness[None],
            "rmse": error[None],
            "fractions": fractions,
        }
        if self.count > 1:
            out["uncertainty"] = (self.square / (self.count - 1)).sqrt()
        return out


def membership(state: State, count: int, shade: bool, device: torch.device) -> torch.Tensor:
    """(classes, spectra): 1 where a spectrum is of a class; shade has a row of zeros."""
    names = list(state["class_names"])
    out = torch.zeros((len(names), count), dtype=torch.float64, device=device)
    for index, name in enumerate(state["classes"]):
        out[names.index(name), index] = 1.0
    return out
