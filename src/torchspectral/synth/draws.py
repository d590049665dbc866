"""Where the random numbers of a degradation come from.

Choices that hold for a whole scene (which bands, which columns, how strong) are drawn on the host; values of pixels
come in bulk. `LegacyDraw` makes the calls of published generators in their order, `NumpyDraw` and `TorchDraw` are for
arrays and tensors in memory, and `RowDraw` gives each row of each band its own stream, so that any window of a scene
holds the same values however it is read.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from torchspectral.errors import BadSettings

if TYPE_CHECKING:
    import torch


class Draw:
    """Random numbers for one degradation.

    `size` is (bands, rows, columns) of the block that pixels are drawn for, `bands` the positions in the block that
    get them; `part` tells several draws of one step apart.
    """

    legacy = False

    def integers(self, low: int, high: int, count: int) -> np.ndarray:
        """Whole numbers from `low` to `high` - 1."""
        raise NotImplementedError

    def permutation(self, count: int) -> np.ndarray:
        """0..count-1 in random order."""
        raise NotImplementedError

    def host_uniform(self, count: int) -> np.ndarray:
        """Numbers in 0..1, on the host."""
        raise NotImplementedError

    def normal(self, size: tuple[int, int, int], bands: Sequence[int] | None = None, part: int = 0) -> Any:
        """Standard normal values, (bands, rows, columns)."""
        raise NotImplementedError

    def chance(self, share: float, size: tuple[int, int, int], bands: Sequence[int], part: int = 0) -> Any:
        """True with probability `share`, (len(bands), rows, columns)."""
        raise NotImplementedError

    def poisson(self, mean: Any) -> Any:
        """Poisson counts of these means, (bands, rows, columns)."""
        raise NotImplementedError

    def array(self, values: np.ndarray, like: Any) -> Any:
        """Host values in the kind, type and place of `like` (booleans and indices keep their type)."""
        return np.asarray(values)

    def where(self, condition: Any, one: Any, other: Any) -> Any:
        """Element-wise choice."""
        return np.where(condition, one, other)


class _Numpy(Draw):
    def __init__(self, source: Any) -> None:
        self.source = source

    def permutation(self, count: int) -> np.ndarray:
        """0..count-1 in random order."""
        return np.asarray(self.source.permutation(count))

    def poisson(self, mean: Any) -> Any:
        """Poisson counts."""
        return self.source.poisson(mean).astype(np.float64)


class LegacyDraw(_Numpy):
    """numpy's legacy generator, called as the published code does.

    Parameters
    ----------
    source : int or RandomState
        Seed of a private generator, or one that goes on from image to image.
    """

    legacy = True

    def __init__(self, source: int | np.random.RandomState) -> None:
        super().__init__(np.random.RandomState(source) if isinstance(source, int | np.integer) else source)

    def integers(self, low: int, high: int, count: int) -> np.ndarray:
        """``randint``."""
        return np.asarray(self.source.randint(low, high, count))

    def host_uniform(self, count: int) -> np.ndarray:
        """``uniform(0, 1)``."""
        return np.asarray(self.source.uniform(0, 1, size=(count,)))

    def normal(self, size: tuple[int, int, int], bands: Sequence[int] | None = None, part: int = 0) -> np.ndarray:
        """``randn``."""
        return np.asarray(self.source.randn(size[0] if bands is None else len(bands), *size[1:]))

    def chance(self, share: float, size: tuple[int, int, int], bands: Sequence[int], part: int = 0) -> np.ndarray:
        """``choice([True, False])`` for each band."""
        p = [share, 1 - share]
        return np.stack([self.source.choice([True, False], size=size[1:], p=p) for _ in bands])


class NumpyDraw(_Numpy):
    """A `numpy.random.Generator`.

    Parameters
    ----------
    source : int, sequence of int or Generator
    """

    def __init__(self, source: int | Sequence[int] | np.random.Generator) -> None:
        super().__init__(np.random.default_rng(source))

    def integers(self, low: int, high: int, count: int) -> np.ndarray:
        """Whole numbers."""
        return np.asarray(self.source.integers(low, high, count))

    def host_uniform(self, count: int) -> np.ndarray:
        """Numbers in 0..1."""
        return np.asarray(self.source.random(count))

    def normal(self, size: tuple[int, int, int], bands: Sequence[int] | None = None, part: int = 0) -> np.ndarray:
        """Standard normal values."""
        return np.asarray(self.source.standard_normal((size[0] if bands is None else len(bands), *size[1:])))

    def chance(self, share: float, size: tuple[int, int, int], bands: Sequence[int], part: int = 0) -> np.ndarray:
        """True with probability `share`."""
        return np.asarray(self.source.random((len(bands), *size[1:])) < share)


class TorchDraw(NumpyDraw):
    """Pixels from a `torch.Generator` on its device, choices from a host generator that is seeded by it.

    Parameters
    ----------
    generator : torch.Generator, optional
        By default torch's own of the device, so that `torch.manual_seed` decides.
    device : torch.device or str
    """

    def __init__(self, generator: torch.Generator | None = None, device: Any = "cpu") -> None:
        import torch

        self.generator = generator
        self.device = torch.device(device) if generator is None else generator.device
        # Without a generator the host's own is asked: it needs no wait for the device.
        where = self.device if generator is not None else "cpu"
        seed = torch.randint(0, 2**31 - 1, (2,), generator=generator, device=where).tolist()
        super().__init__(seed)

    def normal(self, size: tuple[int, int, int], bands: Sequence[int] | None = None, part: int = 0) -> Any:
        """Standard normal values, a tensor."""
        import torch

        count = size[0] if bands is None else len(bands)
        return torch.randn((count, *size[1:]), generator=self.generator, device=self.device)

    def chance(self, share: float, size: tuple[int, int, int], bands: Sequence[int], part: int = 0) -> Any:
        """True with probability `share`, a tensor."""
        import torch

        return torch.rand((len(bands), *size[1:]), generator=self.generator, device=self.device) < share

    def poisson(self, mean: Any) -> Any:
        """Poisson counts, a tensor."""
        import torch

        return torch.poisson(mean, generator=self.generator)

    def array(self, values: np.ndarray, like: Any) -> Any:
        """Host values as a tensor."""
        import torch

        found = torch.from_numpy(np.ascontiguousarray(values)).to(self.device)
        return found.to(like.dtype) if found.is_floating_point() else found

    def where(self, condition: Any, one: Any, other: Any) -> Any:
        """Element-wise choice of tensors."""
        import torch

        return torch.where(condition, torch.as_tensor(one, dtype=other.dtype, device=other.device), other)


class RowDraw(Draw):
    """Pixels of some whole rows and bands of a scene, each from the stream of its row and band.

    Parameters
    ----------
    seed : int
    step : int
        Number of the step in its recipe.
    bands, rows : ndarray of int
        Where the block lies in the scene.
    """

    def __init__(self, seed: int, step: int, bands: np.ndarray, rows: np.ndarray) -> None:
        self.seed, self.step, self.bands, self.rows = seed, step, bands, rows

    def _streams(self, bands: Sequence[int] | None, part: int) -> list[list[np.random.Generator]]:
        key = (self.seed % (1 << 48)) << 16 | self.step << 8 | part
        chosen = self.bands if bands is None else self.bands[np.asarray(bands, dtype=np.int64)]
        return [
            [np.random.Generator(np.random.Philox(key=[key, int(band) << 32 | int(row)])) for row in self.rows]
            for band in chosen
        ]

    def normal(self, size: tuple[int, int, int], bands: Sequence[int] | None = None, part: int = 0) -> np.ndarray:
        """Standard normal values."""
        rows = [[one.standard_normal(size[2]) for one in band] for band in self._streams(bands, part)]
        return np.array(rows).reshape(-1, *size[1:])

    def chance(self, share: float, size: tuple[int, int, int], bands: Sequence[int], part: int = 0) -> np.ndarray:
        """True with probability `share`."""
        rows = [[one.random(size[2]) < share for one in band] for band in self._streams(bands, part)]
        return np.array(rows, dtype=bool).reshape(-1, *size[1:])

    def poisson(self, mean: Any) -> np.ndarray:
        """Poisson counts."""
        streams = self._streams(None, 0)
        return np.array(
            [[one.poisson(line) for one, line in zip(s, m, strict=True)] for s, m in zip(streams, mean, strict=True)],
            dtype=np.float64,
        )


def as_draw(source: Any) -> Draw:
    """A `Draw` of a seed (numpy's Generator), a numpy Generator or RandomState, or a torch Generator.

    Raises
    ------
    BadSettings
        Anything else.
    """
    if isinstance(source, Draw):
        return source
    if isinstance(source, np.random.RandomState):
        return LegacyDraw(source)
    if isinstance(source, np.random.Generator) or (
        isinstance(source, int | np.integer) and not isinstance(source, bool) and source >= 0
    ):
        return NumpyDraw(source)  # type: ignore[arg-type]
    if type(source).__module__.startswith("torch"):
        return TorchDraw(source)
    raise BadSettings(f"got {source!r} to draw from, expected a seed from 0, or a numpy or torch generator")
