"""The scene as `fit` sees it: streams of tiles, samples, sums, and arrays that it writes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from torchspectral.engine.device import one_thread
from torchspectral.engine.executor import Workers, read_ahead
from torchspectral.engine.memory import check_fits
from torchspectral.engine.method import Gram, SceneInfo, Tile, Window
from torchspectral.engine.plan import Cut
from torchspectral.engine.reading import Loaded, Scene, move, whole_role
from torchspectral.engine.scratch import FileScratch, MemoryScratch, Workspace
from torchspectral.engine.shelf import Shelf
from torchspectral.engine.states import to_device
from torchspectral.errors import BadInput, BadSettings
from torchspectral.log import Progress, Step

if TYPE_CHECKING:
    import torch

TRIES = 200
"""Places that are looked at for each patch before giving up."""


@dataclass
class FitStage:
    """Apply a function to tiles; its result comes back on the CPU."""

    scene: Scene
    function: Callable[[Tile], Any]
    device: str

    def read(self, item: Any) -> Loaded:
        """Read a tile; an item is a cut, or a frame number with one."""
        frame, cut = item
        return self.scene.load((cut,), frame)

    def compute(self, loaded: Loaded) -> Any:
        """Call the function with one thread."""
        import torch

        with one_thread():
            return to_device(self.function(move(loaded.tile, torch.device(self.device))), "cpu")

    def write(self, done: Any) -> Any:
        """Nothing to store."""
        return done


@dataclass
class MapStage(FitStage):
    """Apply a function to tiles and write the cores of what it returns."""

    target: MemoryScratch | FileScratch | None = None

    def compute(self, loaded: Loaded) -> Any:
        """Call the function; keep the core."""
        result = super().compute(loaded)
        return loaded.cuts[0].inner, core_of(result, loaded.tile)

    def write(self, done: Any) -> Any:
        """Store the block."""
        inner, block = done
        assert self.target is not None
        self.target.write(inner.row, inner.col, block)
        return None


def core_of(result: torch.Tensor, tile: Tile) -> np.ndarray:
    """Core of a whole-tile or core tensor on the lead grid, (band, y, x)."""
    t = result if result.ndim == 4 else result[None]
    if t.shape[-2:] == (tile.window.height, tile.window.width):
        t = tile.core(t)
    elif t.shape[-2:] != (tile.inner.height, tile.inner.width):
        raise ValueError(
            f"map returned {tuple(t.shape)}, expected the tile's {tile.window.height} x {tile.window.width} pixels or "
            f"its core's {tile.inner.height} x {tile.inner.width}"
        )
    block: np.ndarray = t[0].detach().cpu().numpy()
    return block


class EngineSource:
    """`Source` over a scene; see `engine.method.Source` for what the calls mean.

    Parameters
    ----------
    scene : Scene
    cuts : sequence of Cut
        A partition of the scene.
    frames : int
        Frames of a video, else 1.
    limit : int, optional
        Bytes that `whole` may take; what is free by default.
    """

    def __init__(
        self,
        scene: Scene,
        cuts: Sequence[Cut],
        workers: Workers,
        workspace: Workspace,
        *,
        seed: int,
        device: str,
        frames: int = 1,
        multiple: int = 1,
        limit: int | None = None,
        progress: Progress,
    ) -> None:
        self.info: SceneInfo = scene.info
        self.scene = scene
        self.cuts = tuple(cuts)
        self.draws = 0
        self.passes = 0
        self._items = [(frame, cut) for frame in range(frames) for cut in self.cuts]
        self._workers, self._workspace = workers, workspace
        self._seed, self._device, self._limit = seed, device, limit
        self._multiple = multiple
        self._progress = progress
        self._versions: dict[str, int] = {}
        self._kept: set[str] = set()
        self._gram: Gram | None = None

    def tiles(self) -> Iterator[Tile]:
        """All tiles in order, on the device."""
        import torch

        device = torch.device(self._device)
        scene = replace(self.scene, mapped=dict(self.scene.mapped))
        self.passes += 1
        for number, loaded in enumerate(read_ahead(lambda item: scene.load((item[1],), item[0]), self._items)):
            yield move(loaded.tile, device)
            self._tell(number)

    def patches(self, n: int, size: int) -> Tile:
        """`n` square patches at seeded random places without nodata."""
        import torch

        rows, cols = self.info.shape
        if n < 1 or size < 1:
            raise BadSettings(f"got {n} patches of {size} pixels, expected at least one of one pixel")
        if size > min(rows, cols):
            raise BadInput(f"patches of {size} x {size} pixels do not fit into a scene of {rows} x {cols}")
        self.draws += 1
        generator = np.random.default_rng([self._seed, 1, self.draws])
        step = self._multiple
        found: list[Loaded] = []
        frames = self._items[-1][0] + 1
        for _ in range(TRIES * n):
            row = int(generator.integers(0, (rows - size) // step + 1)) * step
            col = int(generator.integers(0, (cols - size) // step + 1)) * step
            frame = int(generator.integers(0, frames)) if frames > 1 else 0
            window = Window(row, col, size, size)
            loaded = self.scene.load((Cut(0, window, window),), frame)
            if not loaded.empty[0].any() and not any(e[0].any() for e in loaded.role_empty.values()):
                found.append(loaded)
                if len(found) == n:
                    break
        else:
            raise BadInput(
                f"found {len(found)} of {n} patches of {size} x {size} pixels without nodata: use smaller patches or a "
                "scene with larger valid areas"
            )
        first = found[0].tile
        data = {
            name: tensor if name in self.scene.spectra else torch.cat([p.tile.data[name] for p in found])
            for name, tensor in first.data.items()
        }
        valid = torch.cat([p.tile.valid for p in found])
        return move(replace(first, data=data, valid=valid), torch.device(self._device))

    def sample(self, n: int) -> torch.Tensor:
        """At most `n` valid lead pixels, seeded, whatever the tiles: (band, n)."""
        import torch

        if n < 1:
            raise BadSettings(f"got a sample of {n} pixels, expected at least one")
        take = _Sample(n, self._seed, self.info.shape[1])
        keys, pixels = self.reduce(take, take.merge)
        if keys.numel() == 0:
            raise BadInput("the scene has no valid pixel: all are nodata or masked out")
        return pixels[:, torch.argsort(keys[1])].to(self._device)

    def gram(self) -> Gram:
        """Count, sums and cross products of the lead's valid pixels, float64."""
        if self._gram is None:
            self._gram = self.reduce(_gram_of, _merge_grams)
            if self._gram.n == 0:
                self._gram = None
                raise BadInput("the scene has no valid pixel: all are nodata or masked out")
        found = self._gram
        return replace(found, total=found.total.to(self._device), cross=found.cross.to(self._device))

    def reduce(self, f: Callable[[Tile], Any], merge: Callable[[Any, Any], Any]) -> Any:
        """Apply `f` to each tile, in parallel, and fold with `merge` in tile order."""
        stage = FitStage(replace(self.scene, mapped=dict(self.scene.mapped)), f, self._device)
        self.passes += 1
        result: Any = None
        for number, part in enumerate(self._workers.run(stage, self._items)):
            result = part if number == 0 else merge(result, part)
            self._tell(number)
        return result

    def map(self, name: str, f: Callable[[Tile], torch.Tensor]) -> None:
        """Write an array on the lead grid that later tiles carry as role `name`."""
        if name in self.scene.roles or name in self.scene.spectra:
            raise BadSettings(f"cannot map onto {name!r}, which is an input: expected another name")
        if self._items[-1][0] > 0:
            raise BadSettings("map works on scenes, not on videos: carry what the frames share in the state")
        seen = replace(self.scene, mapped=dict(self.scene.mapped))
        self.passes += 1
        probe = MapStage(seen, f, self._device)
        inner, block = probe.compute(probe.read(self._items[0]))
        version = self._versions.get(name, 0) + 1
        log = self._workspace.tiles(f"map-{name}-{version}", f)
        shape = (block.shape[0], *self.info.shape)
        target = self._workspace.array(f"map-{name}-{version}", shape, block.dtype, reuse=bool(log.done))
        target.write(inner.row, inner.col, block)
        stage = MapStage(seen, f, self._device, target)
        left = [number for number in range(1, len(self._items)) if number not in log.done]
        done = self._workers.run(stage, [self._items[number] for number in left])
        for number, _ in zip(left, done, strict=True):
            log.add(number)
            self._tell(number)
        self._forget(name)
        self._versions[name] = version
        self.scene.mapped[name] = target

    def shelf(self, name: str, count: int, size: int) -> Shelf:
        """Room for `count` float32 vectors of `size` values outside memory."""
        return Shelf(self._workspace.array(f"shelf-{name}", (1, count, size), np.float32))

    def whole(self, name: str) -> torch.Tensor:
        """A role or mapped array in one piece, (1, band, y, x)."""
        if name not in self.scene.roles and name not in self.scene.mapped:
            raise BadSettings(f"no role or mapped array {name!r}, expected one of {', '.join(self._names())}")
        rows, cols = self.info.shape
        if name in self.scene.mapped:
            bands, ratio = self.scene.mapped[name].shape[0], 1
        else:
            bands, ratio = len(self.scene.roles[name].bands), self.scene.roles[name].ratio
        # The stored values stand beside the working ones while they are read.
        need = 2 * bands * rows * cols * ratio**2 * np.dtype(self.scene.dtype).itemsize
        check_fits(need, self._limit, f"the whole of {name} ({bands} x {rows * ratio} x {cols * ratio})")
        return whole_role(self.scene, name).to(self._device)

    def _names(self) -> list[str]:
        return [*self.scene.roles, *self.scene.mapped]

    def _forget(self, name: str) -> None:
        """Drop the version of an array that is no longer needed: not the current one of a journaled round."""
        old = f"map-{name}-{self._versions.get(name, 0)}"
        if old not in self._kept:
            self._workspace.drop(old)

    def snapshot(self) -> dict[str, Any]:
        """What a journaled round must record beside the state."""
        arrays = {
            name: {"version": self._versions[name], "bands": int(a.shape[0]), "dtype": str(a.dtype)}
            for name, a in self.scene.mapped.items()
        }
        return {"arrays": arrays, "draws": self.draws}

    def commit(self) -> None:
        """Keep the arrays of this round until the next is journaled; drop those of the round before."""
        now = {f"map-{name}-{version}" for name, version in self._versions.items()}
        for old in self._kept - now:
            self._workspace.drop(old)
        self._kept = now

    def restore(self, snapshot: dict[str, Any]) -> None:
        """Go back to a journaled round."""
        self.draws = snapshot["draws"]
        for name, facts in snapshot["arrays"].items():
            self._versions[name] = facts["version"]
            shape = (facts["bands"], *self.info.shape)
            self.scene.mapped[name] = self._workspace.array(
                f"map-{name}-{facts['version']}", shape, facts["dtype"], reuse=True
            )
        self._kept = {f"map-{name}-{version}" for name, version in self._versions.items()}

    def _tell(self, number: int) -> None:
        self._progress(Step(f"fit pass {self.passes}", (number + 1) / len(self._items)))


def _gram_of(tile: Tile) -> Gram:
    import torch

    from torchspectral.ops.gram import gram_sums

    pixels = tile.core_pixels(tile.lead)
    n, total, cross = gram_sums(pixels)
    peak = float(pixels.abs().max()) if n else 0.0
    return Gram(n, total.to(torch.float64).cpu(), cross.to(torch.float64).cpu(), peak)


def _merge_grams(a: Gram, b: Gram) -> Gram:
    return Gram(a.n + b.n, a.total + b.total, a.cross + b.cross, max(a.peak, b.peak))


@dataclass(frozen=True)
class _Sample:
    """The `n` valid pixels with the smallest hashes of their place: a uniform sample that no tiling changes."""

    n: int
    seed: int
    cols: int

    def __call__(self, tile: Tile) -> tuple[torch.Tensor, torch.Tensor]:
        import torch

        keep = tile.core(tile.valid).reshape(-1).cpu().numpy()
        inner = tile.inner
        rows, cols = np.divmod(np.flatnonzero(keep).astype(np.uint64), np.uint64(inner.width))
        place = (rows + np.uint64(inner.row)) * np.uint64(self.cols) + cols + np.uint64(inner.col)
        keys = _hash(place, self.seed)
        if keys.size > self.n:
            best = np.argpartition(keys, self.n - 1)[: self.n]
        else:
            best = np.arange(keys.size)
        pixels = tile.core_pixels(tile.lead)[:, torch.from_numpy(best).to(tile.lead.device)]
        both = np.stack([keys[best], place[best]]).astype(np.int64)
        return torch.from_numpy(both), pixels.cpu()

    def merge(
        self, a: tuple[torch.Tensor, torch.Tensor], b: tuple[torch.Tensor, torch.Tensor]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The best of two samples."""
        import torch

        keys, pixels = torch.cat([a[0], b[0]], 1), torch.cat([a[1], b[1]], 1)
        if keys.shape[1] > self.n:
            best = torch.topk(keys[0], self.n, largest=False).indices
            keys, pixels = keys[:, best], pixels[:, best]
        return keys, pixels


def _hash(place: np.ndarray, seed: int) -> np.ndarray:
    """SplitMix64 of the place and the seed, as positive int64 (collisions do not matter)."""
    with np.errstate(over="ignore"):
        z = place + np.uint64(0x9E3779B97F4A7C15) * np.uint64((seed % (1 << 32)) + 1)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return (z ^ (z >> np.uint64(31))) >> np.uint64(1)
