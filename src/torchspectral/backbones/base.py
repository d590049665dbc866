"""What a backbone is: an encoder that several rooms use, as a plain module (torch, timm, einops).

A backbone says which bands it sees (`Bands`), how wide its features are (`dim`, `map_dims`) and how many pixels one
position of a feature map covers (`stride`). `forward_features` gives one vector an image, `feature_maps` what decoders
take. It never resamples, fills or repeats bands: what does not fit is refused, and whoever holds the scene resamples it.
Statistics for standardisation stand on the weights card. Published files are read through `KeyMap`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import nn

from torchspectral.backbones.standardise import standardise
from torchspectral.errors import BadInput, BadWeights, BandMismatch, MissingMetadata
from torchspectral.log import get_logger

LEAST_MATCH = 0.9
"""Share of a backbone's keys that a published file must fill."""


@dataclass(frozen=True)
class Bands:
    """Bands that a backbone sees.

    Attributes
    ----------
    wavelengths : tuple of float or None
        Band centres in order [nm]: those that the network takes, or, where `fixed` is False, those of its published
        weights; None where there are none such.
    fixed : bool
        The network takes exactly `wavelengths`; else any count within the limits.
    fwhm : tuple of float or None
        Widths of those bands [nm], for resampling by spectral response.
    names : tuple of str
        Band names in order, where the sensor's bands are known by name.
    minimum, maximum : int, int or None
        Count where it is free.
    needs_wavelengths : bool
        The network computes with the wavelengths it is given.
    """

    wavelengths: tuple[float, ...] | None = None
    fwhm: tuple[float, ...] | None = None
    fixed: bool = True
    names: tuple[str, ...] = ()
    minimum: int = 1
    maximum: int | None = None
    needs_wavelengths: bool = False

    @property
    def count(self) -> int | None:
        """Number of bands; None where it is free."""
        if self.minimum == self.maximum:
            return self.minimum
        return len(self.wavelengths) if self.fixed and self.wavelengths is not None else None

    def check(self, count: int, wavelengths: torch.Tensor | Sequence[float] | None = None) -> None:
        """Hold an input against these bands.

        Raises
        ------
        BandMismatch
            Another number of bands, or wavelengths that are not one a band.
        MissingMetadata
            The network needs wavelengths and got none.
        """
        if self.count is not None and count != self.count:
            raise BandMismatch(
                f"got {count} bands, expected the {self.count} bands that this backbone was built for: resample the "
                "scene to them by spectral response, or choose a backbone that takes any bands"
            )
        if count < self.minimum or (self.maximum is not None and count > self.maximum):
            most = "" if self.maximum is None else f" and at most {self.maximum}"
            raise BandMismatch(
                f"got {count} bands, expected at least {self.minimum}{most}: choose a backbone for fewer bands"
                if count < self.minimum
                else f"got {count} bands, expected at least {self.minimum}{most}: leave bands out, or resample"
            )
        if wavelengths is not None and len(wavelengths) != count:
            raise BandMismatch(f"got {len(wavelengths)} wavelengths for {count} bands, expected one a band [nm]")
        if wavelengths is None and self.needs_wavelengths:
            raise MissingMetadata("this backbone computes with wavelengths: give the centre of each band [nm]")


@dataclass(frozen=True)
class Match:
    """How far a file's keys fit a backbone.

    Attributes
    ----------
    state : dict
        Tensors under the backbone's names.
    absent, shapes, unused : tuple of str
        Keys of the backbone without a tensor, keys whose shape differs (in words), keys of the file without a place.
    share : float
        Keys filled, of those that are not optional, 0..1.
    """

    state: dict[str, torch.Tensor]
    absent: tuple[str, ...]
    shapes: tuple[str, ...]
    unused: tuple[str, ...]
    share: float


@dataclass(frozen=True)
class KeyMap:
    """How keys of published files become a backbone's.

    Attributes
    ----------
    prefixes : tuple of str
        Removed, repeatedly, from keys that the backbone does not have; where two keys of a file then meet, the one
        whose first prefix stands earlier here wins, and a key without prefix before all.
    renames : mapping of str to str
        Regular expressions and replacements, applied in order before the prefixes are looked at.
    optional : tuple of str
        Regular expressions of the backbone's keys that a file need not have (heads, counters).
    """

    prefixes: tuple[str, ...] = ("module.", "model.", "backbone.")
    renames: Mapping[str, str] = field(default_factory=dict)
    optional: tuple[str, ...] = (r".*num_batches_tracked",)

    def match(self, state: Mapping[str, Any], expected: Mapping[str, torch.Tensor]) -> Match:
        """Assign the tensors of a file to the keys of a backbone; nothing is loaded."""
        ranked: dict[str, tuple[int, str]] = {}
        for key in state:
            target, rank = self._name(key, expected)
            if target in expected and (target not in ranked or rank < ranked[target][0]):
                ranked[target] = (rank, key)
        taken = {source for _, source in ranked.values()}
        filled, shapes = {}, []
        for target, (_, source) in ranked.items():
            value, want = state[source], expected[target]
            if tuple(value.shape) == tuple(want.shape):
                filled[target] = value
            else:
                shapes.append(f"{target} is {tuple(value.shape)}, expected {tuple(want.shape)}")
        needed = [k for k in expected if not self.is_optional(k)]
        share = sum(k in filled for k in needed) / max(len(needed), 1)
        absent = tuple(k for k in needed if k not in ranked)
        return Match(filled, absent, tuple(shapes), tuple(k for k in state if k not in taken), share)

    def is_optional(self, key: str) -> bool:
        """Whether a file need not have this key of the backbone."""
        return any(re.fullmatch(pattern, key) for pattern in self.optional)

    def _name(self, key: str, expected: Mapping[str, Any]) -> tuple[str, int]:
        for pattern, new in self.renames.items():
            key = re.sub(pattern, new, key)
        rank = -1
        while key not in expected:
            found = next((i for i, p in enumerate(self.prefixes) if key.startswith(p)), None)
            if found is None:
                break
            key = key[len(self.prefixes[found]) :]
            rank = found if rank < 0 else rank
        return key, rank


class Backbone(nn.Module):
    """Base of all backbones.

    Attributes
    ----------
    bands : Bands
    stride : int
        Pixels a side of one position of the coarsest feature map.
    dim : int
        Length of the pooled feature.
    map_dims : tuple of int
        Channels of each map that `feature_maps` returns by default, finest first.
    key_map : KeyMap
        For published files.
    """

    key_map: ClassVar[KeyMap] = KeyMap()
    bands: Bands
    stride: int
    dim: int
    map_dims: tuple[int, ...]

    def as_input(
        self,
        x: torch.Tensor,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        valid: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Scene values, in the unit of the statistics, as the network sees them: standardised, nodata at the mean.

        Parameters
        ----------
        x : Tensor (n, bands, y, x)
            NaN where nodata.
        mean, std : sequence of float
            Of the weights card, one a band.
        valid : Tensor of bool, broadcast to x, optional
            False where nodata.

        Raises
        ------
        MissingMetadata
            There are no statistics.
        BandMismatch, BadInput
        """
        if mean is None or std is None:
            raise MissingMetadata(
                f"{type(self).__name__} sees standardised values and the weights card has no statistics: write mean and "
                "std, one a band, into the card"
            )
        return standardise(x, mean, std, valid)

    def forward_features(self, x: torch.Tensor, wavelengths: torch.Tensor | None = None) -> torch.Tensor:
        """One feature vector an image.

        Parameters
        ----------
        x : Tensor (n, bands, y, x)
            As `as_input` returns it.
        wavelengths : Tensor (bands,), optional
            Band centres [nm]; only where ``bands.needs_wavelengths``.

        Returns
        -------
        Tensor (n, dim)

        Raises
        ------
        BandMismatch, MissingMetadata, BadInput
        """
        raise NotImplementedError

    def feature_maps(
        self, x: torch.Tensor, wavelengths: torch.Tensor | None = None, layers: Sequence[int] | None = None
    ) -> list[torch.Tensor]:
        """Feature maps for decoders, finest first.

        Parameters
        ----------
        x, wavelengths
            As for `forward_features`.
        layers : sequence of int, optional
            Blocks or stages to take, counted from 0 (negative: from the end); default: those of `map_dims`.

        Returns
        -------
        list of Tensor (n, channels, rows, cols)
        """
        raise NotImplementedError

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Recompute activations of the blocks in the backward pass, instead of keeping them."""
        raise NotImplementedError

    def load_published(self, path: str | Path, *, least: float = LEAST_MATCH) -> Match:
        """Fill the backbone from a published file (safetensors, or PyTorch read as tensors only).

        Parameters
        ----------
        path : path
        least : float
            Share of keys that must match, 0..1.

        Returns
        -------
        Match
            What was filled, and what was not.

        Raises
        ------
        BadWeights
            Fewer keys match; the log lists those that do not, the message the first of them.
        UnsafeInput
            The file wants to run code.
        """
        from torchspectral.weights.files import is_tensor, read_state

        state = {key: value for key, value in read_state(Path(path)).items() if is_tensor(value)}
        return self.load_matched(state, least=least, where=str(path))

    def load_matched(self, state: Mapping[str, Any], *, least: float = LEAST_MATCH, where: str = "state") -> Match:
        """Fill the backbone from tensors under published names; as `load_published`."""
        return load_matched(self, self.key_map, self.adapt_state(dict(state)), least=least, where=where)

    def adapt_state(self, state: dict[str, Any]) -> dict[str, Any]:
        """What a published state must become before its keys are looked at (position tables of another size)."""
        return state


def load_matched(
    network: nn.Module, key_map: KeyMap, state: Mapping[str, Any], *, least: float = LEAST_MATCH, where: str = "state"
) -> Match:
    """Fill a network from tensors under published names; keys that match are filled, few may stay as built.

    Raises
    ------
    BadWeights
        Fewer than `least` of the keys match, or a key that is not optional has another shape; the message has the first
        of each kind, the log all of them.
    """
    match = key_map.match(state, network.state_dict())
    name = type(network).__name__
    wrong = [text for text in match.shapes if not key_map.is_optional(text.split(" ", 1)[0])]
    if match.share < least or wrong:
        get_logger("backbones").warning("%s: %s", where, describe(match, name))
        raise BadWeights(f"{where}: {describe(match, name, 3)}: it is a file of another model or size")
    network.load_state_dict(match.state, strict=False)
    if match.absent or match.shapes:
        get_logger("backbones").warning("%s: %s", where, describe(match, name))
    return match


def describe(match: Match, name: str, most: int | None = None) -> str:
    """A match in words, with the keys that do not fit, or the first `most` of each kind."""
    words = [f"{match.share:.0%} of the keys of {name} match"]
    for title, keys in (("absent", match.absent), ("of another shape", match.shapes), ("not used", match.unused)):
        if keys:
            more = ", .." if most is not None and len(keys) > most else ""
            words.append(f"{len(keys)} {title} ({', '.join(keys[:most])}{more})")
    return "; ".join(words)


def check_image(x: torch.Tensor, multiple: int = 1, size: tuple[int, int] | None = None) -> None:
    """Refuse inputs that are no batch of images, or whose sides do not fit the patches.

    Raises
    ------
    BadInput
    """
    if x.ndim != 4:
        raise BadInput(f"got an input of shape {tuple(x.shape)}, expected (images, bands, rows, columns)")
    rows, cols = x.shape[-2:]
    if size is not None and (rows, cols) != size:
        raise BadInput(f"got images of {rows} x {cols} pixels, expected {size[0]} x {size[1]}: cut or resize them")
    if rows < multiple or cols < multiple or rows % multiple or cols % multiple:
        raise BadInput(f"got images of {rows} x {cols} pixels, expected multiples of {multiple}: cut or resize them")
