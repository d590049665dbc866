"""What all methods of this room have in common: roles, compatibility, pixels around nodata."""

from __future__ import annotations

from typing import Any, ClassVar

from torchspectral.engine.method import Input, Method, Output, SceneInfo, Scope
from torchspectral.errors import GridMismatch
from torchspectral.settings import Settings, setting


class FusionSettings(Settings):
    """Settings that every sharpening method has."""

    hole_reach: int = setting(
        1,
        "pixels of the cube around nodata whose result is nodata too; beyond 1 a filled value weighs 0.15 at most in "
        "the interpolation; 0: keep all",
        unit="pixel",
        ge=0,
        le=6,
    )


class Fusion(Method):
    """Base of the sharpening methods."""

    Settings: ClassVar[type[Settings]] = FusionSettings
    inputs: tuple[Input, ...] = (Input("cube"), Input("pan", ratio="finer"))
    outputs: tuple[Output, ...] = (Output("cube", grid="pan"),)
    scope = Scope.LOCAL

    def __init__(self, settings: Any = None) -> None:
        super().__init__(settings)
        self.hole_reach = int(self.settings.hole_reach)
        if self.as_authors and self.scope is Scope.LOCAL:
            self.scope = Scope.SCENE  # the circular border reads the opposite edge

    @property
    def as_authors(self) -> bool:
        """Whether to do as the authors' or the benchmark's code does."""
        return bool(getattr(self.settings, "compat", ""))

    @property
    def border(self) -> str:
        """Border of the interpolator."""
        return "wrap" if self.as_authors else "symmetric"

    @staticmethod
    def check_ratio(info: SceneInfo, role: str = "pan") -> int:
        """Ratio of the grids, at least 2.

        Raises
        ------
        GridMismatch
            The finer image is not finer than the cube.
        """
        ratio = int(info.ratio.get(role, 1))
        if ratio < 2:
            what = "PAN" if role == "pan" else role
            one = "a PAN" if role == "pan" else role
            raise GridMismatch(
                f"got {one} with {ratio} pixel per pixel of the cube, expected {one} at least 2 times finer: swap the "
                f"images, or resample the {what} to a finer grid first"
            )
        return ratio
