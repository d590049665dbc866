"""Opening products costs no deep-learning stack: what plain imports must not bring along."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

HEAVY = ("torch", "matplotlib", "sklearn", "lightning", "torchmetrics", "geopandas", "distributed", "jinja2")


STATEMENTS = (
    "import torchspectral",
    "import torchspectral.registry",
    "import torchspectral.io",
    "import torchspectral as ts; ts.open; ts.methods()",
    "import torchspectral.sensors as s; s.get('enmap')",
    "import torchspectral.spectra as s; s.resample; s.spectral_index; s.rgb_picture",
)


@pytest.fixture(scope="module")
def loaded() -> dict[str, set[str]]:
    """Modules that are there after each statement, in one fresh process: what one does not bring, none before it did."""
    tell = "print(json.dumps(sorted(sys.modules)))"
    code = "import sys, json\n" + "\n".join(f"{statement}\n{tell}" for statement in STATEMENTS)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return {s: set(json.loads(line)) for s, line in zip(STATEMENTS, done.stdout.splitlines(), strict=True)}


@pytest.mark.parametrize("statement", STATEMENTS)
def test_light_imports(statement: str, loaded: dict[str, set[str]]) -> None:
    assert not [name for name in HEAVY if name in loaded[statement]]


def test_the_top_package_brings_little_more_than_xarray(loaded: dict[str, set[str]]) -> None:
    """Only own modules that hold no work: the accessor; and none of the libraries that readers need."""
    first = loaded["import torchspectral"]
    assert not {"rasterio", "h5py", "zarr", "pydantic", "scipy", "yaml"} & first
    own = {name for name in first if name.startswith("torchspectral.")}
    assert own <= {"torchspectral.accessor", "torchspectral.lazy"}
