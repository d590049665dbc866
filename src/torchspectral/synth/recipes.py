"""Names of degradations, and what runs them on an array."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from torchspectral.errors import BadInput, BadSettings, UnknownName, closest
from torchspectral.synth.blur import Coarsen, GaussianBlur, KernelBlur
from torchspectral.synth.draws import Draw, as_draw
from torchspectral.synth.gaps import MissingBands, MissingElements
from torchspectral.synth.haze import Haze, brightest_mean
from torchspectral.synth.noise import (
    RATIOS,
    SIGMAS,
    BandGaussian,
    DeadLines,
    Gaussian,
    Impulses,
    OneOf,
    Poisson,
    Share,
    Stripes,
)
from torchspectral.synth.steps import Facts, Place, Planned, Step

COMPLEX = ("noniid", "stripe", "deadline", "impulse", "mixture")
Words = list[str]


@dataclass(frozen=True)
class Recipe:
    """A named chain of steps."""

    name: str
    steps: tuple[Step, ...]


@dataclass
class Degraded:
    """What `degrade_array` made.

    Attributes
    ----------
    values : ndarray or Tensor, shape (band, y, x)
    mask : ndarray of uint8, shape (band, y, x)
        Bits `steps.REMOVED`, `STRIPE`, `IMPULSE`; zeros where nothing is marked. Of tensors none is made: all zeros.
    facts : Facts
        What was done to each band, and the numbers that were drawn.
    """

    values: Any
    mask: np.ndarray
    facts: Facts


def degrade_array(
    values: Any,
    recipe: str | Recipe,
    source: Any = 0,
    *,
    wavelength: np.ndarray | None = None,
    cirrus: np.ndarray | None = None,
) -> Degraded:
    """Degrade an image in memory.

    Parameters
    ----------
    values : ndarray or Tensor, shape (band, y, x)
        In 0..1; left as it is. Arrays are worked on in float64 where the generator is a legacy one or they are so
        themselves, else in float32.
    recipe : str or Recipe
        See `make_recipe`.
    source : int, numpy Generator or RandomState, torch Generator or Draw
        With a RandomState the calls are those of the published generators, bit for bit.
    wavelength : ndarray, shape (band,), optional
        [nm], for haze.
    cirrus : ndarray, optional
        Map of cirrus for haze, 0..1, any size.

    Raises
    ------
    UnknownName, BadSettings, BadInput, MissingMetadata

    Notes
    -----
    Memory: two copies of `values` and the bulk draws of one step.
    """
    draw = as_draw(source)
    made = make_recipe(recipe) if isinstance(recipe, str) else recipe
    if getattr(values, "ndim", 0) != 3:
        raise BadInput(f"got values of shape {tuple(getattr(values, 'shape', ()))}, expected (band, y, x)")
    array = isinstance(values, np.ndarray)
    if array != (type(draw).__name__ != "TorchDraw"):
        if array:
            raise BadSettings("got a torch generator for an array, expected a numpy one or a seed")
        import torch

        from torchspectral.synth.draws import TorchDraw

        generator = torch.Generator(values.device).manual_seed(int(draw.integers(0, 2**31 - 1, 1)[0]))
        draw = TorchDraw(generator)
    block = values.astype(np.float64 if draw.legacy or values.dtype == np.float64 else np.float32) if array else values
    facts = Facts(wavelength=wavelength, cirrus=cirrus)
    mask = np.zeros(tuple(values.shape), dtype=np.uint8) if array else None
    kind = block.dtype
    for step in made.steps:
        now = block
        facts.light = lambda share, now=now: brightest_mean(np.asarray(now if array else now.cpu()), share)
        planned = step.plan(tuple(block.shape), draw, facts)
        size = planned.shape(tuple(block.shape))
        if size != tuple(block.shape):
            mask = None
        block = planned.apply(block, Place.whole(tuple(block.shape)), draw, mask, (0, size[1]))
        block = block.astype(kind, copy=False) if array else block.to(kind)
    if array and block.shape == values.shape:
        block = np.where(np.isnan(values), np.nan, block).astype(kind)
    return Degraded(block, mask if mask is not None else np.zeros(tuple(block.shape), dtype=np.uint8), facts)


def make_recipe(text: str) -> Recipe:
    """The recipe of a name; several joined with ``+`` follow one another.

    ==========================================  ==================================================================
    ``gaussian:50``, ``gaussian:10-70``          one deviation, 8-bit units; ``gaussian:blind`` is 10-70
    ``noniid``                                   each band 10, 30, 50 or 70
    ``stripe``, ``deadline``, ``impulse``        on a third of the bands; ``mixture``: a third each
    ``icvl-mixture``, ``icvl-stripe``, ..        the same after ``noniid``, as the ICVL benchmark has them
    ``poisson:10``                               photons at the value 1
    ``blur:9``, ``circle:9``, ``square:9``       kernels; ``motion:15:45`` has an angle
    ``sr:4``, ``down:4``                         bicubic to a coarser grid, enlarged again by repetition or not
    ``inpaint:0.8``, ``bands:0.2``               share of elements, or of bands, that is lost
    ``haze:0.5``                                 strength
    ``mp-hsir:TASK``, ``mp-hsir-remote:TASK``    MP-HSIR's ranges: gaussian, complex, blur, sr, inpaint, haze, bands,
                                                 motion, poisson; a value after a colon fixes what else is drawn
    ==========================================  ==================================================================

    ``:matlab`` after a name with stripes or dead lines counts columns as the MATLAB generator of the test sets does.

    Raises
    ------
    UnknownName, BadSettings
    """
    if not isinstance(text, str) or not text.strip():
        raise BadSettings(f"got recipe {text!r}, expected a name such as gaussian:50 or icvl-mixture")
    steps: list[Step] = []
    for part in text.split("+"):
        name, *words = part.strip().lower().split(":")
        steps += _steps(name, words, part.strip())
    return Recipe(text, tuple(steps))


def _steps(name: str, words: Words, whole: str) -> list[Step]:
    if name in ("mp-hsir", "mp-hsir-remote"):
        if not words or words[0] not in _MP_HSIR:
            raise UnknownName(f"no task in recipe {whole!r}: {closest(words[0] if words else '', tuple(_MP_HSIR))}")
        return _MP_HSIR[words[0]](words[1:], whole, name.endswith("remote"))
    make = _NAMED.get(name)
    if make is None:
        known = (*_NAMED, "mp-hsir:complex", "mp-hsir:haze")
        raise UnknownName(f"no degradation {name!r} (recipe {whole!r}): {closest(name, known)}")
    return make(words, whole)


def _numbers(
    words: Words, whole: str, default: tuple[float, ...], low: float, high: float, most: int = 1
) -> tuple[float, ...]:
    """The one number after the colon, or the default."""
    if not words:
        return default
    try:
        found = tuple(float(word) for word in words)
    except ValueError:
        raise BadSettings(f"cannot read recipe {whole!r}: expected a number after the colon") from None
    if len(found) > most:
        raise BadSettings(f"recipe {whole!r} has {len(found)} numbers, expected at most {most}")
    if not low <= found[0] <= high:
        raise BadSettings(f"recipe {whole!r} asks for {found[0]:g}, expected {low:g} to {high:g}")
    return found


def _whole(words: Words, whole: str, default: tuple[float, ...], low: float, high: float) -> tuple[int, ...]:
    found = _numbers(words, whole, default, low, high)
    if any(value != int(value) for value in found):
        raise BadSettings(f"recipe {whole!r} asks for {found[0]:g}, expected a whole number")
    return tuple(int(value) for value in found)


def _odd(words: Words, whole: str, default: tuple[float, ...]) -> tuple[int, ...]:
    found = _whole(words, whole, default, 3, 255)
    if any(value % 2 == 0 for value in found):
        raise BadSettings(f"recipe {whole!r} asks for a kernel of {found[0]} pixels, expected an odd number")
    return found


def _gaussian(words: Words, whole: str) -> list[Step]:
    if words == ["blind"]:
        return [Gaussian(10, 70)]
    low, dash, high = words[0].partition("-") if len(words) == 1 else ("", "", "")
    try:
        limits = float(low), float(high if dash else low)
    except ValueError:
        raise BadSettings(f"cannot read recipe {whole!r}: expected gaussian:SIGMA (8-bit), LOW-HIGH or blind") from None
    if not 0 <= limits[0] <= limits[1] <= 255 * 100:
        raise BadSettings(f"recipe {whole!r} asks for {words[0]}, expected a deviation from 0 (8-bit units)")
    return [Gaussian(*limits)]


def _rule(words: Words, whole: str) -> str:
    if words not in ([], ["python"], ["matlab"]):
        raise BadSettings(f"cannot read recipe {whole!r}: expected python or matlab after the colon")
    return words[0] if words else "python"


def _mixed(kind: str, first: bool) -> Callable[[Words, str], list[Step]]:
    def make(words: Words, whole: str) -> list[Step]:
        rule = _rule(words, whole)
        steps: list[Step] = [BandGaussian()] if first or kind == "noniid" else []
        if kind != "noniid":
            steps.append(Share())
        if kind in ("stripe", "mixture"):
            steps.append(Stripes(rule=rule))
        if kind in ("deadline", "mixture"):
            steps.append(DeadLines(rule=rule))
        if kind in ("impulse", "mixture"):
            steps.append(Impulses())
        return steps

    return make


def _motion(words: Words, whole: str) -> list[Step]:
    size = _odd(words[:1], whole, (15,))[0]
    angle = _numbers(words[1:], whole, (45.0,), -360, 360)[0]
    return [KernelBlur("motion", size, angle)]


_NAMED: dict[str, Callable[[Words, str], list[Step]]] = {
    "gaussian": _gaussian,
    **{kind: _mixed(kind, False) for kind in COMPLEX},
    **{f"icvl-{kind}": _mixed(kind, True) for kind in COMPLEX},
    "icvl-complex": lambda w, t: [
        BandGaussian(), Share(), OneOf((None, Impulses(), Stripes(rule=_rule(w, t)), DeadLines(rule=_rule(w, t))),
                                       ("noniid", "impulse", "stripe", "deadline")),
    ],
    "poisson": lambda w, t: [Poisson(_numbers(w, t, (10.0,), 1e-3, 1e9)[0])],
    "blur": lambda w, t: [GaussianBlur(_odd(w, t, (9,)))],
    "circle": lambda w, t: [KernelBlur("circle", _odd(w, t, (9,))[0])],
    "square": lambda w, t: [KernelBlur("square", _odd(w, t, (9,))[0])],
    "motion": _motion,
    "sr": lambda w, t: [Coarsen(_whole(w, t, (4,), 2, 64))],
    "down": lambda w, t: [Coarsen(_whole(w, t, (4,), 2, 64), repeat=False)],
    "inpaint": lambda w, t: [MissingElements(_numbers(w, t, (0.8,), 0, 1))],
    "bands": lambda w, t: [MissingBands(_numbers(w, t, (0.2,), 0, 1))],
    "haze": lambda w, t: [Haze(_numbers(w, t, (0.5,), 0, 1))],
}  # fmt: skip


def _mp_complex(words: Words, whole: str, remote: bool) -> list[Step]:
    kinds: dict[str, Step | None] = {
        "deadline": DeadLines(), "impulse": Impulses(ratios=RATIOS, each=False), "stripe": Stripes(),
    }  # fmt: skip
    if words and (len(words) > 1 or words[0] not in (*kinds, "noniid")):
        raise UnknownName(f"no complex noise {':'.join(words)!r}: {closest(words[0], (*kinds, 'noniid'))}")
    steps: list[Step] = [BandGaussian(SIGMAS)]
    if words == ["noniid"]:
        return steps
    if words:
        return [*steps, kinds[words[0]]]  # type: ignore[list-item]
    return [*steps, OneOf(tuple(kinds.values()), tuple(kinds))]


_MP_HSIR: dict[str, Callable[[Words, str, bool], list[Step]]] = {
    "gaussian": lambda w, t, r: _gaussian(w or ["30-70"], t),
    "complex": _mp_complex,
    "blur": lambda w, t, r: [GaussianBlur(_odd(w, t, (7, 11, 15) if r else (9, 15, 21)))],
    "sr": lambda w, t, r: [Coarsen(_whole(w, t, (2, 4, 8), 2, 64))],
    "inpaint": lambda w, t, r: [MissingElements(_numbers(w, t, (0.7, 0.8, 0.9), 0, 1))],
    "haze": lambda w, t, r: [Haze(_numbers(w, t, (0.5, 0.75, 1.0), 0, 1))],
    "bands": lambda w, t, r: [MissingBands(_numbers(w, t, (0.1, 0.2, 0.3), 0, 1))],
    "motion": lambda w, t, r: _motion(w, t),
    "poisson": lambda w, t, r: [Poisson(_numbers(w, t, (10.0,), 1e-3, 1e9)[0])],
}

RECIPES = (*_NAMED, *(f"mp-hsir:{task}" for task in _MP_HSIR))
"""Names that `make_recipe` knows, without their numbers."""

__all__ = ["RECIPES", "Degraded", "Draw", "Planned", "Recipe", "degrade_array", "make_recipe"]
