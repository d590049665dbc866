"""Opening products costs no deep-learning stack: what plain imports must not bring along."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

HEAVY = ("torch", "matplotlib", "sklearn", "lightning", "torchmetrics", "geopandas", "distributed", "jinja2")


def _modules(statement: str) -> set[str]:
    code = f"{statement}\nimport sys, json\nprint(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout.splitlines()[-1]))


@pytest.mark.parametrize(
    "statement",
    [
        "import torchspectral",
        "import torchspectral.registry",
        "import torchspectral.io",
        "import torchspectral as ts; ts.open; ts.methods()",
        "import torchspectral.sensors as s; s.get('enmap')",
        "import torchspectral.spectra as s; s.resample; s.spectral_index; s.rgb_picture",
    ],
)
def test_light_imports(statement: str) -> None:
    loaded = _modules(statement)
    assert not [name for name in HEAVY if name in loaded]


def test_the_top_package_brings_little_more_than_xarray() -> None:
    """Only own modules that hold no work: the accessor; and none of the libraries that readers need."""
    loaded = _modules("import torchspectral")
    assert not {"rasterio", "h5py", "zarr", "pydantic", "scipy", "yaml"} & loaded
    own = {name for name in loaded if name.startswith("torchspectral.")}
    assert own <= {"torchspectral.accessor", "torchspectral.lazy"}
