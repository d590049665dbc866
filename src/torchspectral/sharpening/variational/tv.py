"""TV: pansharpening by total variation."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import torch

from torchspectral.engine.method import Scale, SceneInfo, Scope, Size, Source, State, Tile
from torchspectral.errors import BadSettings
from torchspectral.ops.interpolate import ideal_interp
from torchspectral.ops.mtf import mtf_filter
from torchspectral.ops.nnls import nnls_gram
from torchspectral.settings import Settings, setting
from torchspectral.sharpening.injection import Injection, SensorSettings, check_count, merge_sums
from torchspectral.sharpening.variational.observation import bilinear_observation, mtf_observation

BLOCK_BYTES = 8 << 20
"""Fine values of the bands that are worked on at a time: they should stay in the cache."""

_WRONG_START = 4
_LARGEST_STEP = 1.9


class TVSettings(SensorSettings):
    """Settings of TV."""

    alpha: float = setting(0.75, "curvature of the majorised data term (alpha)", gt=0)
    lam: float = setting(1e-3, "weight of the total variation (lambda), for images whose largest value is 1", ge=0)
    c: float = setting(8.0, "bound of the squared norm of the differences (c)", ge=1)
    iterations: int = setting(50, "rounds of majorisation and minimisation", ge=1)
    weights: tuple[float, ...] = setting(
        (), "weight of each band in the PAN, sum 1; none: non-negative least squares of the coarse PAN on the bands"
    )
    observation: Literal["mtf", "bilinear"] = setting(
        "mtf",
        "how the bands see the image: through the sensor's MTF, or by bilinear reduction as in the benchmark's code",
    )
    units: Literal["max", "physical"] = setting(
        "max", "'max': values are divided by the scene's largest; 'physical': lambda counts for the values as they are"
    )


class TV(Injection):
    """Total variation: the image whose reduction is the bands, whose weighted sum is the PAN, and that varies least.

    Solved by majorisation and minimisation, from the interpolated image. The PAN is brought to the level of the weighted bands first.
    ``compat="authors-code"`` starts from zero, works on the values as they are, sees the image by bilinear reduction,
    takes the differences along y from the wrong bands, and has the wrong sign in the dual step.

    References
    ----------
    Palsson, Sveinsson, Ulfarsson, "A new pansharpening algorithm based on total variation", IEEE GRSL 11 (2014).
    """

    Settings: ClassVar[type[Settings]] = TVSettings
    scope = Scope.SCENE
    needs_fit = True

    def __init__(self, settings: Any = None) -> None:
        super().__init__(settings)
        if not self.as_authors and self.settings.units == "max":
            self.scale = Scale("max")

    def prepare(self, info: SceneInfo) -> None:
        """Check ratio and weights.

        Raises
        ------
        BadSettings
            Weights that do not fit the bands.
        """
        self.check_ratio(info)
        given = self.settings.weights
        if given and len(given) != info.bands:
            raise BadSettings(
                f"got {len(given)} weights for {info.bands} bands, expected one a band: leave weights out"
            )
        if self.as_authors and not given:
            raise BadSettings("the benchmark's code has no weights for these bands: give weights=, or leave compat out")

    # Weights

    def fit(self, source: Source, seed: int, state: State | None) -> State:
        """One streaming pass: the coarse PAN as a line of the bands."""
        given = torch.tensor(self.settings.weights, dtype=torch.float64)
        if self.as_authors:
            return {"weights": given, "slope": 1.0, "offset": 0.0, "r2": 1.0}
        s = source.reduce(self._products, merge_sums)
        n = check_count(s["n"], "the coarse PAN", 1)
        cross, bands = s["cross"], s["cross"].shape[0] - 2
        mean = cross[:, -1] / n
        spread = cross - n * mean[:, None] * mean[None, :]
        gram, right, power = spread[:bands, :bands], spread[:bands, bands], float(spread[bands, bands])
        found = given if len(given) else nnls_gram(gram, right)
        if not float(found.sum()) > 0:
            found = torch.full_like(right, 1 / bands)
        weights = found / found.sum()
        with_pan, own = float(weights @ right), float(weights @ gram @ weights)
        # PAN = slope * intensity + offset by regression; a PAN that tells nothing of the bands has no weight.
        slope = with_pan / own if own > 0 and with_pan > 0 and power > 1e-13 * float(cross[bands, bands]) else 0.0
        offset = float(mean[bands]) - slope * float(weights @ mean[:bands])
        r2 = with_pan**2 / max(own * power, 1e-300)
        return {"weights": weights, "slope": slope, "offset": offset, "r2": r2}

    def _products(self, tile: Tile) -> State:
        """Cross products of bands, coarse PAN and ones over valid coarse pixels."""
        ratio = tile["pan"].shape[-1] // tile.window.width
        pan = mtf_filter(tile["pan"].double(), ratio, self.gain(tile.info), normalize=True, decimated=True)
        rows = torch.cat([tile.core_pixels("cube").double(), tile.core_pixels(pan)])
        rows = torch.cat([rows, torch.ones_like(rows[:1])])
        return {"n": torch.tensor(float(rows.shape[1]), dtype=torch.float64), "cross": rows @ rows.T}

    # The solver

    def apply(self, tile: Tile, state: State) -> dict[str, torch.Tensor]:
        """Solve for the whole scene."""
        low, pan = tile["cube"], tile["pan"]
        slope = float(state["slope"])
        weights = state["weights"].to(low) * (slope > 0)
        target = (pan - state["offset"]) / (slope if slope > 0 else 1.0)
        gain = self.gain(tile.info)
        pairs = zip(low, target[:, 0], strict=True)
        return {"cube": torch.stack([self._solve(*pair, weights, gain) for pair in pairs])}

    def _curvature(self, weights: torch.Tensor) -> float:
        """Alpha, raised where the rounds would not converge: they do while it exceeds half the data term's curvature."""
        alpha = float(self.settings.alpha)
        return alpha if self.as_authors else max(alpha, (1 + float(weights.square().sum())) / _LARGEST_STEP)

    def _solve(self, low: torch.Tensor, pan: torch.Tensor, weights: torch.Tensor, gain: float) -> torch.Tensor:
        bands, ratio = low.shape[0], pan.shape[-1] // low.shape[-1]
        alpha = self._curvature(weights)
        if self.as_authors or self.settings.observation == "bilinear":
            reduce, enlarge = bilinear_observation(ratio)
        else:
            reduce, enlarge = mtf_observation((pan.shape[0], pan.shape[1]), ratio, gain, pan.device)
        image = low.new_zeros(bands, *pan.shape) if self.as_authors else ideal_interp(low, ratio)
        dual = low.new_zeros(2, bands, *pan.shape)
        block = bands if self.as_authors else max(1, BLOCK_BYTES // (pan.numel() * image.element_size()))
        mixed = torch.einsum("b,byx->yx", weights, image)
        for _ in range(self.settings.iterations):
            missing = pan - mixed
            mixed = torch.zeros_like(pan)
            for start in range(0, bands, block):
                some = slice(start, start + block)
                x, w = image[some], weights[some]
                back = enlarge(low[some] - reduce(x))
                b = torch.addcmul(back, w[:, None, None], missing).add_(x, alpha=alpha)
                z = self._dual(dual[:, some], x, b, alpha)
                dual[:, some] = z
                torch.div(b - self._adjoint(z), alpha, out=x)
                mixed += torch.einsum("b,byx->yx", w, x)
        return image

    def _dual(self, z: torch.Tensor, x: torch.Tensor, b: torch.Tensor, alpha: float) -> torch.Tensor:
        c, lam = self.settings.c, self.settings.lam
        slope = torch.hypot(*differences(x))
        if self.as_authors:
            above = differences(b) + differences(self._adjoint(z))
        else:
            above = differences(b - self._adjoint(z)).add_(z, alpha=c)
        if lam == 0:
            return torch.zeros_like(z)
        return above / slope.mul_(2 * alpha / lam).add_(c)

    def _adjoint(self, z: torch.Tensor) -> torch.Tensor:
        across, down = z
        if self.as_authors:
            down = z.flatten(0, 1)[_WRONG_START : _WRONG_START + z.shape[1]]
        return adjoint_difference(across, -1) + adjoint_difference(down, -2)

    def memory(self, size: Size) -> dict[str, int]:
        """Bytes beside the inputs: the image and two dual images of all bands, and blocks of a few of them."""
        fine = size.bands * size.rows * size.cols * size.zoom**2
        block = max(BLOCK_BYTES, 4 * size.rows * size.cols * size.zoom**2)
        coarse = size.bands * size.rows * size.cols
        return {"fit": 24 * coarse, "apply": (60 if self.as_authors else 16) * fine + 16 * block}

    def figures(self, state: State) -> dict[str, Any]:
        """How well the weighted bands explain the coarse PAN, and the alpha that was used."""
        return {"pan_r2": float(state["r2"]), "alpha_used": self._curvature(state["weights"])}


def differences(image: torch.Tensor) -> torch.Tensor:
    """Forward differences along x and along y, zero at the far edges, (2, band, y, x)."""
    out = image.new_zeros(2, *image.shape)
    torch.sub(image[..., 1:], image[..., :-1], out=out[0, ..., :-1])
    torch.sub(image[..., 1:, :], image[..., :-1, :], out=out[1, ..., :-1, :])
    return out


def adjoint_difference(values: torch.Tensor, axis: int) -> torch.Tensor:
    """Adjoint of the forward difference along an axis, the same shape."""
    size = values.shape[axis]
    inner = values.narrow(axis, 0, size - 1)
    out = torch.zeros_like(values)
    out.narrow(axis, 1, size - 1).add_(inner)
    out.narrow(axis, 0, size - 1).sub_(inner)
    return out
