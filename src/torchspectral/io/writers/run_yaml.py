"""``OUT.run.yaml``: what stands beside an output, enough to repeat it."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any

import yaml

from torchspectral.io.raw import output_failed
from torchspectral.io.writers.base import plain


def run_path(output: str | Path) -> Path:
    """Where the report of an output lies: its name with ``.run.yaml`` added."""
    path = Path(output)
    return path.with_name(path.name + ".run.yaml")


def write_run(file: Path, report: Any, output: Path) -> None:
    """Write a report (a `Report` or a mapping) as YAML.

    Raises
    ------
    OutputFailed
        The file cannot be written.
    """
    import torchspectral

    facts = report.as_dict() if hasattr(report, "as_dict") else dict(report)
    whole = {
        "output": output.name,
        "written": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "torchspectral": torchspectral.__version__,
        **{str(k): plain(v, f"report entry {k}") for k, v in facts.items()},
    }
    try:
        with file.open("w", encoding="utf-8") as out:
            yaml.safe_dump(whole, out, sort_keys=False, allow_unicode=True, width=110)
    except OSError as error:
        raise output_failed(file, error) from error
