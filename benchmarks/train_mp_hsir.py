"""The small checkpoint of MP-HSIR that is shipped: ``python benchmarks/train_mp_hsir.py RUN [--steps N]``.

Learned prompts alone, all seven tasks of remote sensing, Gaussian noise four times as often as each of the others, on
generated cubes of 31 bands from 400 to 1000 nm (those of `train_denoisers`) and rows 0 to 107 of Indian Pines. Each pixel
goes through as many channels as bands: with fewer the network cannot know the noise that it is to subtract. RUN gets,
beside the run, ``shipped/`` with the weights, in half precision, and their card; its figures are of generated cubes with
other seeds and of rows 108 to 143, made with these weights.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
import xarray as xr

import torchspectral as ts
from torchspectral.learn.train import find_recipe
from torchspectral.weights import WeightsCard, load, save
from train_denoisers import clean_cube
from train_superres import GROUND, PINES, pines

BANDS = np.linspace(400.0, 1000.0, 31)
OTHERS = ("complex", "blur", "sr", "inpaint", "haze", "bands")
TASKS = 4 * ("gaussian:5-70",) + OTHERS
MODEL = "mp-hsir-m"
NAME = f"{MODEL}.generated"


def cube(values: np.ndarray) -> xr.DataArray:
    """A cube of the network's bands."""
    return ts.make_cube(np.ascontiguousarray(values, dtype=np.float32), wavelength=BANDS, quantity="reflectance")


def scenes() -> list[xr.DataArray]:
    """What is learned from; Indian Pines several times, so that one patch in four is of it."""
    return [cube(clean_cube(31, 80, 31_000 + k)) for k in range(96)] + 6 * [cube(pines(slice(0, GROUND), BANDS))]


def held_out() -> dict[str, torch.Tensor]:
    """Clean cubes that trained nothing, (n, band, y, x)."""
    real = pines(slice(GROUND, GROUND + 32), BANDS)
    return {
        "generated": torch.from_numpy(np.stack([clean_cube(31, 64, 900_000 + k) for k in range(6)])),
        "indian_pines": torch.from_numpy(np.stack([real[:, :, left : left + 32] for left in (0, 32, 64, 96)])),
    }


def score(network: torch.nn.Module) -> dict[str, float]:
    """PSNR of the held-out cubes before and after [dB], peak 1, by task."""
    found: dict[str, float] = {}
    for place, clean in held_out().items():
        for task in ("gaussian:10", "gaussian:30", "gaussian:50", *OTHERS):
            made = find_recipe("restore", MODEL, {"noise": task})
            made.wavelength = BANDS
            noisy, numbers, facts = made.degraded(clean, 0, torch.Generator().manual_seed(5))
            with torch.no_grad():
                out = made.restored(network.eval(), noisy, numbers, facts).clamp(0, 1)
            name = task.replace("gaussian:", "sigma")
            for kind, image in (("before", noisy), ("after", out)):
                mse = (image - clean).square().mean((1, 2, 3))
                found[f"{place}_{name}_{kind}"] = round(float((-10 * mse.log10()).mean()), 2)
    return found


def begin(folder: Path) -> str:
    """Fresh weights that change nothing yet."""
    torch.manual_seed(0)
    network = ts.create_model(MODEL)
    torch.nn.init.zeros_(network.get_parameter("output.weight"))
    card = WeightsCard(name=f"{MODEL}.fresh", model=MODEL)
    return str(save(folder / card.name, dict(network.state_dict()), card, overwrite=True))


def main() -> None:
    """Train, score and save."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("run", type=Path)
    parser.add_argument("--steps", type=int, default=420)
    parser.add_argument("--start", default="", help="a run to go on from")
    given = parser.parse_args()
    torch.set_num_threads(1)
    settings = {
        "patch": 32, "batch": 8, "stride": 16, "split": "random", "held_out": 0.02, "learning_rate": 1e-3, "decay": "cosine",
        "clip": 1.0, "start": given.start or begin(Path(f"{given.run}-start")), "validate_every": 200, "checkpoint_every": 100, "noise": ",".join(TASKS), "reversal": True,
    }  # fmt: skip
    card = {
        "name": NAME,
        "quantity": "any",
        "scale": {"rule": "max"},
        "noise": (0.0, 70.0),
        "licence": "Apache-2.0",
        "commercial": "free, also commercially; name the authors of the data",
        "source": "trained for torchspectral, shipped with it",
        "attribution": PINES.split("; photographs")[0],
        "trained_on": "generated cubes of 31 bands from 400 to 1000 nm, and AVIRIS Indian Pines, rows 0 to 107 of 145, "
        "interpolated to these bands; all seven tasks of remote sensing (noise of 5 to 70 of 255, complex noise, blur, "
        "super-resolution, inpainting, haze, lost bands), learned prompts only: no text features",
        "preprocessing": "scenes divided by their largest value",
        "command": f"python benchmarks/train_mp_hsir.py RUN --steps {given.steps}"
        + (" --start BEFORE, after the same without" if given.start else ""),
    }
    result = ts.train(
        "restore", MODEL, scenes(), out=given.run, steps=given.steps, device="cpu", settings=settings, card=card,
        resume=(given.run / "run.yaml").is_file(),
    )  # fmt: skip
    made = load(given.run)
    half = {key: value.half() if value.is_floating_point() else value for key, value in made.state.items()}
    network = result["network"]
    network.load_state_dict({key: value.float() for key, value in half.items()})
    metrics = {"steps": given.steps, **score(network)}
    print(metrics)
    card = made.card.model_copy(update={"metrics": metrics, "wavelengths": "any"})
    print(save(given.run / "shipped" / NAME, half, card, overwrite=True))


if __name__ == "__main__":
    main()
