"""Pictures of a characterisation: all interferometers at a glance, and fits beside the data."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from torchspectral.calibration.interferometer.acquisition import Acquisition
from torchspectral.calibration.interferometer.characterization import Characterization
from torchspectral.errors import BadSettings
from torchspectral.report.style import in_style, new_figure
from torchspectral.spectra.axes import COLOURS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BAD = COLOURS[1]


@in_style
def overview_figure(device: Characterization, *, width: float = 7.0, height: float = 6.5) -> Figure:
    """Path difference, reflectivity and residual of every interferometer; flagged ones are crossed.

    Parameters
    ----------
    device : Characterization
    width, height : float
        [inch].
    """
    figure = new_figure(
        width, height, f"{device.name or 'Interferometers'}: {device.count}, {(~device.good).sum()} flagged"
    )
    rows = [("optical path\ndifference [um]", device.mean_opd(), device.nominal_opd)]
    if device.nominal_opd is not None:
        rows.append(("minus nominal [um]", device.mean_opd() - device.nominal_opd, None))
    middle = device.at(np.array([np.mean(device.known_wavenumber()[[0, -1]])]))["reflectivity"][:, 0]
    rows.append(("reflectivity at\nthe middle", middle, None))
    if device.rmse is not None:
        rows.append(("relative RMSE", device.rmse, None))
    index = np.arange(device.count)
    for axes, (label, values, nominal) in zip(
        np.atleast_1d(figure.subplots(len(rows), 1, sharex=True)), rows, strict=True
    ):
        if nominal is not None:
            axes.plot(index, nominal, color="#999999", lw=1.0, label="nominal")
        axes.plot(index[device.good], values[device.good], ".", ms=3, color=COLOURS[0], label="fitted")
        axes.set_ylabel(label)
        low, high = _limit(axes, values, device.good)
        if not device.good.all():
            # What lies beyond the axis is drawn at its edge.
            bad = np.clip(np.nan_to_num(values[~device.good]), low, high)
            axes.plot(index[~device.good], bad, "x", ms=4, color=BAD, label="flagged", clip_on=False)
        axes.grid(True)
        if nominal is not None:
            axes.legend(loc="upper left")
    axes.set_xlabel("interferometer")
    return figure


@in_style
def fits_figure(
    device: Characterization,
    acquisition: Acquisition,
    rows: list[int] | None = None,
    *,
    most: int = 12,
    width: float = 10.0,
) -> Figure:
    """Responses to the lines and the fitted transmittances.

    Parameters
    ----------
    rows : list of int, optional
        Interferometers to draw; by default some over the whole range, and the flagged ones with the largest residuals.
    most : int
        Panels.

    Raises
    ------
    BadSettings
        No such interferometer, or another instrument's acquisition.
    """
    if len(acquisition.data) != device.count:
        raise BadSettings(
            f"got an acquisition of {len(acquisition.data)} interferometers for a device of {device.count}"
        )
    chosen = choose_rows(device, most) if rows is None else list(rows)
    if not chosen or min(chosen) < 0 or max(chosen) >= device.count:
        raise BadSettings(f"got interferometers {chosen}, expected some of 0 to {device.count - 1}")
    across = min(3, len(chosen))
    down = -(-len(chosen) // across)
    figure = new_figure(width, 1.9 * down + 0.5, f"{device.name or 'Interferometers'}: data and fits")
    panels = np.atleast_1d(figure.subplots(down, across, sharex=True)).ravel()
    sigma = acquisition.wavenumber
    part = device.rows(chosen)
    fine = np.linspace(sigma[0], sigma[-1], max(4 * sigma.size, 800))
    fitted, opd = part.transfer(fine), part.mean_opd()
    for axes, i, curve, length, flags in zip(panels, chosen, fitted, opd, part.flags, strict=False):
        level = abs(acquisition.data[i].mean()) or 1.0
        axes.plot(sigma, acquisition.data[i] / level, ".", ms=2, color="#888888")
        axes.plot(fine, curve / level, lw=0.9, color=BAD if flags else COLOURS[0])
        rmse = f", RMSE {device.rmse[i]:.3f}" if device.rmse is not None else ""
        axes.set_title(f"{i}: {length:.3f} um{rmse}", loc="left", color=BAD if flags else "black")
        if flags:
            axes.text(
                0.01, 0.02, "\n".join(flags), transform=axes.transAxes, color=BAD, fontsize=7, va="bottom", ha="left"
            )
        _limit(axes, acquisition.data[i] / level, np.ones(sigma.size, dtype=bool))
        axes.grid(True)
    for axes in panels[len(chosen) :]:
        axes.set_visible(False)
    for axes in panels[max(0, len(chosen) - across) : len(chosen)]:
        axes.set_xlabel("wavenumber [1/um]")
    for axes in panels[: len(chosen) : across]:
        axes.set_ylabel("response / mean")
    return figure


def choose_rows(device: Characterization, most: int = 12) -> list[int]:
    """Interferometers worth drawing, in order: half of them flagged where there are as many."""
    bad = np.flatnonzero(~device.good)
    if device.rmse is not None:
        bad = bad[np.argsort(-device.rmse[bad], kind="stable")]
    bad = bad[: most // 2]
    good = np.flatnonzero(device.good)
    count = min(most - len(bad), len(good))
    picked = good[np.unique(np.linspace(0, len(good) - 1, count).round().astype(int))] if count else good[:0]
    return sorted(int(i) for i in [*picked, *bad])


def _limit(axes: Axes, values: np.ndarray, good: np.ndarray) -> tuple[float, float]:
    """Axis limits that one wild value does not squeeze."""
    known = values[good & np.isfinite(values)]
    known = known if known.size else values[np.isfinite(values)]
    low, high = (float(known.min()), float(known.max())) if known.size else (0.0, 1.0)
    room = 0.08 * (high - low) or 0.1 * (abs(high) or 1.0)
    axes.set_ylim(low - room, high + room)
    return low - room, high + room
