"""One sub-pixel shift between a hyperspectral image and finer guides, by Gauss-Newton with robust weights.

For each guide the hyperspectral bands, weighted by the guide's response, give the image h_k that it should look like.
The shift d minimises ``sum_k |h_k - (a_k s_k(d) + b_k)|^2 / var(h_k)`` where s_k(d) is the guide at ``p + d`` as the
hyperspectral sensor would see it; gain and offset are fitted anew in every step.

References
----------
Lucas, Kanade, "An iterative image registration technique with an application to stereo vision", IJCAI (1981).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from torchspectral.engine.method import Window
from torchspectral.sharpening.guided.operators import low_pairs, run_pairs

BLOCK = 64
"""Side of the blocks that are compared [coarse pixels]."""
SAMPLE = 1 << 15
"""Coarse pixels that are compared at most."""
EDGE = 2
"""Coarse pixels at the scene's edge that do not count."""
STEPS = 8
STEP = 0.25
"""Of the numerical derivatives [fine pixels]."""
LEAST = 32
"""Coarse pixels below which no shift is estimated."""
ROUGH = 1e-4
"""Tolerance of the low-pass kernel."""
CUT = 3.0
"""Residuals of this many standard deviations count a quarter."""


@dataclass
class Piece:
    """A part of the scene that is compared.

    Attributes
    ----------
    wanted : Tensor, shape (K, y, x)
        h_k, float64.
    weight : Tensor, shape (y, x)
        1 where it counts, else 0.
    guides : Tensor, shape (K, R Y, R X)
        With margins.
    inner : Window
        The part (y, x) within the guides' window, coarse pixels.
    """

    wanted: torch.Tensor
    weight: torch.Tensor
    guides: torch.Tensor
    inner: Window


@dataclass(frozen=True)
class Found:
    """A shift: the guides' content at ``p + shift`` belongs to p [fine pixels].

    Attributes
    ----------
    rows, cols : float
    deviation : float
        Standard deviation of the estimate [fine pixels].
    before, after : float
        Share of the variance that the guides leave unexplained, without the shift (or with the one that was to be
        beaten) and with it, 0..1.
    trusted : bool
        Whether the search settled within its limit and the shift explains more than none.
    why : str
        Where it is not trusted.
    """

    rows: float = 0.0
    cols: float = 0.0
    deviation: float = 0.0
    before: float = 1.0
    after: float = 1.0
    trusted: bool = False
    why: str = ""


def in_sample(row: int, col: int, shape: tuple[int, int]) -> bool:
    """Whether the block (row, col) is compared: all of a small scene, blocks spread evenly over a large one."""
    rows, cols = (-(-n // BLOCK) for n in shape)
    stride = 1
    while -(-rows // stride) * -(-cols // stride) * BLOCK**2 > SAMPLE:
        stride += 1
    # Starting in the middle of each stride keeps the sample off the scene's edge.
    first = [min(stride // 2, n - 1) for n in (rows, cols)]
    return (row - first[0]) % stride == 0 and (col - first[1]) % stride == 0


def cut_pieces(
    inner: Window,
    window: Window,
    scene: tuple[int, int],
    wanted: torch.Tensor,
    weight: torch.Tensor,
    guides: torch.Tensor,
    reach: int,
    *,
    every: bool = False,
) -> list[Piece]:
    """Parts of a tile's core that are compared.

    Parameters
    ----------
    inner, window : Window
        Core and whole of the tile, coarse pixels of the scene.
    scene : tuple of int
        Rows and columns of the scene.
    wanted : Tensor, shape (K, y, x), over the tile's window
    weight : Tensor, shape (y, x), over the tile's window
    guides : Tensor, shape (K, R y, R x), over the tile's window
    reach : int
        Coarse pixels that the low-pass of a shifted guide looks around.
    every : bool
        Compare all blocks of the core, whatever the size of the scene.
    """
    rows, cols = scene
    ratio = guides.shape[-1] // window.width
    found = []
    for block_row in range(inner.row // BLOCK, (inner.row + inner.height - 1) // BLOCK + 1):
        for block_col in range(inner.col // BLOCK, (inner.col + inner.width - 1) // BLOCK + 1):
            if not (every or in_sample(block_row, block_col, scene)):
                continue
            top, left = max(block_row * BLOCK, inner.row, EDGE), max(block_col * BLOCK, inner.col, EDGE)
            bottom = min((block_row + 1) * BLOCK, inner.row + inner.height, rows - EDGE)
            right = min((block_col + 1) * BLOCK, inner.col + inner.width, cols - EDGE)
            if bottom <= top or right <= left:
                continue
            a, b = max(top - reach, window.row), max(left - reach, window.col)
            c = min(bottom + reach, window.row + window.height)
            d = min(right + reach, window.col + window.width)
            here = (slice(top - window.row, bottom - window.row), slice(left - window.col, right - window.col))
            fine = (
                slice((a - window.row) * ratio, (c - window.row) * ratio),
                slice((b - window.col) * ratio, (d - window.col) * ratio),
            )
            if float(weight[here].sum()) == 0:
                continue
            found.append(
                Piece(
                    wanted[:, here[0], here[1]].clone(),
                    weight[here].clone(),
                    guides[:, fine[0], fine[1]].double(),
                    Window(top - a, left - b, bottom - top, right - left),
                )
            )
    return found


class _Sample:
    """All pieces, those of one shape together."""

    def __init__(self, pieces: list[Piece], ratio: int, gain: float, offset: float) -> None:
        self.ratio, self.gain, self.offset = ratio, gain, offset
        groups: dict[tuple[int, ...], list[Piece]] = {}
        for p in pieces:
            i = p.inner
            groups.setdefault((*p.guides.shape[-2:], i.row, i.col, i.height, i.width), []).append(p)
        self.groups = [(torch.stack([p.guides for p in g]), g[0].inner) for g in groups.values()]
        members = [p for g in groups.values() for p in g]
        self.wanted = torch.cat([p.wanted.flatten(1) for p in members], dim=1)
        self.weight = torch.cat([p.weight.flatten() for p in members]).double()

    def seen(self, shift: tuple[float, float]) -> torch.Tensor:
        """s_k(d) of every pixel compared, (K, pixels)."""
        parts = []
        moved = (shift[0] + self.offset, shift[1] + self.offset)
        for guides, inner in self.groups:
            low = run_pairs(
                guides, low_pairs((guides.shape[-2], guides.shape[-1]), self.ratio, self.gain, moved, ROUGH)
            )
            rows, cols = inner.slices
            parts.append(low[..., rows, cols].movedim(1, 0).flatten(1))
        return torch.cat(parts, dim=1)

    def fit(self, s: torch.Tensor, weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Gains a_k and residuals of the weighted lines, (K,) and (K, pixels)."""
        total = weight.sum()
        s0 = s - (s @ weight / total)[:, None]
        h0 = self.wanted - (self.wanted @ weight / total)[:, None]
        spread = (s0.square() @ weight).clamp_min(1e-300)
        gain = ((s0 * h0) @ weight) / spread
        return gain, h0 - gain[:, None] * s0

    def share(self, rest: torch.Tensor, weight: torch.Tensor) -> float:
        """Mean share of the variance of h_k that is left."""
        mean = self.wanted @ weight / weight.sum()
        power = (self.wanted - mean[:, None]).square() @ weight
        return float(((rest.square() @ weight) / power.clamp_min(1e-300)).mean())


def find_shift(
    pieces: list[Piece],
    ratio: int,
    gain: float,
    *,
    offset: float = 0.0,
    limit: float = 2.0,
    robust: bool = True,
    against: tuple[float, float] = (0.0, 0.0),
) -> Found:
    """The shift that all guides share.

    Parameters
    ----------
    pieces : list of Piece
    ratio : int
    gain : float
        MTF gain of the hyperspectral sensor.
    offset : float
        See `operators.centre_offset`.
    limit : float
        Largest shift searched for [coarse pixels].
    robust : bool
        Let pixels where the scenes differ count less.
    against : tuple of float
        Shift that must be beaten [fine pixels]; ``before`` is its share.
    """
    if not pieces:
        return Found(why="no pixel can be compared")
    sample = _Sample(pieces, ratio, gain, offset)
    plain = sample.weight
    if int(plain.sum()) < LEAST:
        return Found(why=f"only {int(plain.sum())} coarse pixels can be compared, expected at least {LEAST}")
    mean = sample.wanted @ plain / plain.sum()
    variance = (sample.wanted - mean[:, None]).square() @ plain / plain.sum()
    usable = variance > 1e-12 * mean.square() + 1e-300
    if not bool(usable.any()):
        return Found(why="the hyperspectral image is constant where the guides see it")
    sample.wanted = sample.wanted[usable]
    sample.groups = [(guides[:, usable], inner) for guides, inner in sample.groups]
    variance = variance[usable]

    def left(shift: tuple[float, float]) -> float:
        return sample.share(sample.fit(sample.seen(shift), plain)[1], plain)

    before = left(against)
    whole = int(limit)
    starts = [(i * ratio, j * ratio) for i in range(-whole, whole + 1) for j in range(-whole, whole + 1)]
    best = min(
        ((left((float(i), float(j))) if (i, j) != against else before, abs(i) + abs(j), (i, j)) for i, j in starts)
    )
    shift = (float(best[2][0]), float(best[2][1]))
    weight, moved, normal = plain, 1.0, torch.eye(2, dtype=torch.float64)
    for _ in range(STEPS):
        s = sample.seen(shift)
        a, rest = sample.fit(s, weight)
        if robust:
            weight = plain * _robust(rest, plain)
            a, rest = sample.fit(s, weight)
        slopes = []
        for axis in (0, 1):
            ends = [list(shift), list(shift)]
            ends[0][axis] += STEP
            ends[1][axis] -= STEP
            change = sample.seen((ends[0][0], ends[0][1])) - sample.seen((ends[1][0], ends[1][1]))
            slopes.append(a[:, None] * change / (2 * STEP))
        # Gain and offset follow the shift: what they can explain of a slope does not count.
        slopes = [_without(j, s, weight) for j in slopes]
        scale = weight[None] / variance[:, None]
        normal = torch.stack([torch.stack([(i * j * scale).sum() for j in slopes]) for i in slopes])
        right = torch.stack([(j * rest * scale).sum() for j in slopes])
        if not bool(torch.linalg.det(normal) > 1e-12 * normal.diagonal().prod()):
            return Found(before=before, after=before, why="the guides have no detail that tells where they lie")
        step = torch.linalg.solve(normal, right).clamp(-ratio, ratio)
        shift = (shift[0] + float(step[0]), shift[1] + float(step[1]))
        moved = float(step.abs().max())
        if moved < 1e-4 or max(abs(d) for d in shift) > (limit + 1) * ratio:
            break
    if max(abs(d) for d in shift) > limit * ratio + 1e-9:
        return Found(*shift, before=before, after=before, why=f"the search left the limit of {limit:g} coarse pixels")
    _, rest = sample.fit(sample.seen(shift), weight)
    after, compared = sample.share(rest, weight), sample.share(sample.fit(sample.seen(against), weight)[1], weight)
    noise = float(((rest.square() * weight).sum(1) / variance).sum() / (weight.sum() * rest.shape[0]))
    deviation = float(torch.linalg.inv(normal).diagonal().max().sqrt()) * noise**0.5
    if moved > 0.05 and after >= compared:
        return Found(*shift, deviation, before, before, False, "the search did not settle")
    return Found(
        shift[0], shift[1], deviation, compared, after, after < compared, "" if after < compared else "no gain"
    )


def _robust(rest: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Weight of each pixel from its residuals in all guides, 0..1 (Geman-McClure)."""
    keep = weight > 0
    scale = 1.4826 * rest[:, keep].abs().median(1).values.clamp_min(1e-300)
    distance = (rest / scale[:, None]).square().mean(0)
    return 1 / (1 + distance / CUT**2).square()


def _without(slope: torch.Tensor, s: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    total = weight.sum()
    s0 = s - (s @ weight / total)[:, None]
    j0 = slope - (slope @ weight / total)[:, None]
    share = ((s0 * j0) @ weight) / (s0.square() @ weight).clamp_min(1e-300)
    return j0 - share[:, None] * s0
