"""The ``.hsi`` accessor of `xarray.DataArray`: short ways to what the library's functions do with a cube.

Importing this module costs no more than xarray; everything else is imported when it is asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import xarray as xr

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from torchspectral.geo.grids import Grid
    from torchspectral.sensors import Sensor


@xr.register_dataarray_accessor("hsi")
class HsiAccessor:
    """Pictures, spectra, windows and band selection of a cube with dims (band, y, x).

    Examples
    --------
    >>> import numpy as np, torchspectral as ts
    >>> cube = ts.make_cube(np.ones((4, 6, 8)), wavelength=[450, 550, 650, 850], quantity="reflectance")
    >>> cube.hsi.window(row=1, col=2, height=3, width=4).shape
    (4, 3, 4)
    """

    def __init__(self, cube: xr.DataArray) -> None:
        self._cube = cube

    @property
    def grid(self) -> Grid:
        """Where the pixels lie on the ground."""
        from torchspectral.geo.grids import grid_of

        return grid_of(self._cube)

    @property
    def sensor(self) -> Sensor | None:
        """Sensor that the cube comes from, by its attributes or its wavelengths; None where it is not known."""
        from torchspectral.sensors import match

        return match(self._cube)

    def rgb(self, **options: Any) -> xr.DataArray:
        """Natural-colour picture, dims (y, x, colour): red, green, blue, alpha in 0..1.

        See `torchspectral.spectra.rgb_picture` for the options.

        Reads three bands, and every n-th pixel where the cube is large. Takes the wavelengths that suit the sensor.

        Raises
        ------
        BadCube, BadSettings, BandMismatch
        """
        from torchspectral.spectra.picture import rgb_picture

        if options.get("wavelengths") is None:
            options["wavelengths"] = self._colours()
        return rgb_picture(self._cube, **options)

    def at(
        self,
        x: float | None = None,
        y: float | None = None,
        *,
        lon: float | None = None,
        lat: float | None = None,
        row: int | None = None,
        col: int | None = None,
    ) -> xr.DataArray:
        """Spectrum of one pixel, dims (band,) (and time); stays lazy.

        Give one pair: `x, y` in CRS units, `lon, lat` [deg, WGS 84], or `row, col` (0-based).

        Raises
        ------
        BadSettings
            Not exactly one pair.
        GridMismatch
            The place lies outside the image, or the image lies nowhere.
        """
        row, col = self._pixel(x, y, lon, lat, row, col)
        return self._cube.isel(y=row, x=col)

    def drop_bad(self) -> xr.DataArray:
        """Cube without the bands that are not good.

        Raises
        ------
        BandMismatch
            No band is good.
        """
        from torchspectral.cube import good_bands
        from torchspectral.errors import BandMismatch

        keep = good_bands(self._cube)
        if keep.size == 0:
            raise BandMismatch(f"none of the {self._cube.sizes['band']} bands is good: nothing would be left")
        return self._cube.isel(band=keep)

    def resample(self, to: Any, **options: Any) -> xr.DataArray:
        """Cube in the bands of a sensor, another cube or given wavelengths; see `torchspectral.spectra.resample`."""
        from torchspectral.spectra.resampling import resample

        return resample(self._cube, to, **options)

    def index(self, *names: str, tolerance: float | None = None) -> xr.DataArray:
        """Spectral indices as layers; see `torchspectral.spectra.spectral_index`."""
        from torchspectral.spectra.indices import spectral_index

        return spectral_index(self._cube, *names, tolerance=tolerance)

    def remove_continuum(self, **options: Any) -> xr.DataArray:
        """Cube divided by each spectrum's upper hull; see `torchspectral.spectra.remove_continuum`."""
        from torchspectral.spectra.continuum import remove_continuum

        return remove_continuum(self._cube, **options)

    def spectrum(self, mask: Any = None, *, stats: Sequence[str] = ("mean", "std")) -> xr.DataArray:
        """Statistics of all pixels, or of those under a mask, as spectra (spectrum, band); streams a lazy cube.

        Parameters
        ----------
        mask : array_like of bool, shape (y, x), optional
            True where pixels count.
        stats : sequence of {"mean", "std", "min", "max"}
            NaN pixels do not count; the standard deviation is that of the population.

        Raises
        ------
        BadSettings, GridMismatch, BadInput
        """
        from torchspectral.spectra.statistics import region_spectrum

        return region_spectrum(self._cube, mask, stats)

    def window(
        self,
        *,
        row: int | None = None,
        col: int | None = None,
        height: int | None = None,
        width: int | None = None,
        bbox: Sequence[float] | None = None,
        crs: Any = None,
    ) -> xr.DataArray:
        """Window of the cube; stays lazy, its transform and the GeoTransform that GDAL reads are right.

        Parameters
        ----------
        row, col : int
            Upper left pixel, 0-based.
        height, width : int
            Size in pixels; to the image's edge by default.
        bbox : (west, south, east, north), optional
            Instead: every pixel that this box touches, in the scene's CRS (lon/lat for swaths) or in `crs`.

        Raises
        ------
        BadSettings
            Neither or both ways are given.
        GridMismatch
            The window leaves the image, or the box lies outside the scene.
        """
        from torchspectral.errors import BadSettings
        from torchspectral.geo.cropping import crop, window

        pixels = (row, col, height, width)
        if (bbox is None) == all(v is None for v in pixels):
            raise BadSettings(
                "a window needs either row, col, height, width (pixels) or bbox=(west, south, east, north)"
            )
        if bbox is not None:
            return self._placed(crop(self._cube, bbox, crs))
        top, left = row or 0, col or 0
        tall = self._cube.sizes["y"] - top if height is None else height
        wide = self._cube.sizes["x"] - left if width is None else width
        return self._placed(window(self._cube, top, left, tall, wide))

    def plot(self, kind: str = "rgb", *, pixels: Sequence[tuple[int, int]] | None = None, **options: Any) -> Figure:
        """Figure of the picture ("rgb"), of spectra ("spectra") or of both side by side ("both").

        Parameters
        ----------
        pixels : sequence of (row, col), optional
            Whose spectra to draw; the mean over a central window by default.
        **options
            Of `rgb`.

        Returns
        -------
        matplotlib.figure.Figure
            Made without pyplot: ``.savefig(path)`` writes it.

        Raises
        ------
        BadSettings, BadCube, BandMismatch, GridMismatch
        """
        from torchspectral._plots import draw

        return draw(self._cube, self.rgb(**options) if kind != "spectra" else None, kind, pixels)

    def _repr_html_(self) -> str:
        """Facts, a small picture and a spectrum for notebooks."""
        from torchspectral._plots import cube_html

        return cube_html(self._cube, self._colours())

    def __repr__(self) -> str:
        sizes = " x ".join(f"{n} {name}" for name, n in self._cube.sizes.items())
        return (
            f"<hsi of {self._cube.attrs.get('sensor') or 'a cube'}: {sizes}, {self._cube.attrs.get('quantity', '?')}>"
        )

    def _colours(self) -> tuple[float, ...] | None:
        """The sensor's wavelengths for a picture, where the cube still has bands near them."""
        import numpy as np

        if "wavelength" not in self._cube.coords or not np.isfinite(self._cube["wavelength"].values).any():
            return None
        sensor = self.sensor
        if sensor is None or len(sensor.rgb) != 3:
            return None
        gaps = np.abs(self._cube["wavelength"].values[None, :] - np.asarray(sensor.rgb)[:, None])
        return sensor.rgb if np.nanmin(gaps, axis=1).max() <= 40 else None

    def _placed(self, cube: xr.DataArray) -> xr.DataArray:
        from torchspectral.geo.grids import grid_of, place

        grid = grid_of(cube)
        return place(cube, grid.transform, grid.crs) if grid.kind in ("map", "rotated") else cube

    def _pixel(
        self, x: float | None, y: float | None, lon: float | None, lat: float | None, row: int | None, col: int | None
    ) -> tuple[int, int]:
        from torchspectral.errors import BadSettings, GridMismatch

        pairs = [(x, y), (lon, lat), (row, col)]
        given = [i for i, pair in enumerate(pairs) if pair != (None, None)]
        if len(given) != 1 or None in pairs[given[0]]:
            raise BadSettings("give one place: x and y (CRS units), lon and lat (degrees), or row and col")
        if given[0] == 2:
            assert row is not None and col is not None
            place = row, col
        else:
            from torchspectral._places import ground_to_pixel

            a, b = pairs[given[0]]
            assert a is not None and b is not None
            place = ground_to_pixel(self._cube, float(a), float(b), degrees=given[0] == 1)
        rows, cols = self._cube.sizes["y"], self._cube.sizes["x"]
        if not (0 <= place[0] < rows and 0 <= place[1] < cols):
            raise GridMismatch(f"row {place[0]}, col {place[1]} lies outside the image of {rows} rows x {cols} cols")
        return place
