"""Options that mean the same in every verb."""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer

from torchspectral.cli.config import read_config
from torchspectral.errors import BadSettings
from torchspectral.settings import parse_pairs


class OutPath(type(Path())):  # type: ignore[misc]
    """A path that remembers whether it was typed with a slash at its end, which asks for a folder."""

    folder: bool = False

    @classmethod
    def read(cls, text: Any) -> OutPath:
        """From the command line."""
        if not str(text).strip():
            raise typer.BadParameter("it is empty, expected a file, or a folder that ends in '/'")
        path = cls(str(text))
        path.folder = getattr(text, "folder", str(text).endswith(("/", "\\")))
        return path


Scene = Annotated[Path, typer.Argument(help="Product: file, folder or ZIP.", show_default=False)]
Scenes = Annotated[
    list[Path],
    typer.Argument(help="Products, folders of products, or a .txt list of paths.", show_default=False),
]
Out = Annotated[
    OutPath,
    typer.Option(
        "--output",
        "-o",
        help="File for the main value, or DIR/ for all.",
        show_default=False,
        parser=OutPath.read,
        metavar="FILE|DIR/",
    ),
]
Method = Annotated[str, typer.Option("--method", "-m", help="Method; see `torchspectral methods`.")]
Settings = Annotated[
    list[str] | None, typer.Option("--set", help="Settings of the method, FIELD=VALUE; one or more, and again.")
]
Weights = Annotated[str | None, typer.Option("--weights", help="Weights: a file or a name.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Config = Annotated[
    Path | None,
    typer.Option("--config", help="YAML with options, such as OUT.run.yaml.", callback=read_config, is_eager=True),
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace an existing output.")]
Seed = Annotated[int, typer.Option("--seed", help="Seed of everything random.", min=0)]
SkipExisting = Annotated[bool, typer.Option("--skip-existing", help="Leave inputs alone whose output exists.")]
Bands = Annotated[str, typer.Option("--bands", help='"good", "all", or numbers from 1: 1-50,60.')]
Bbox = Annotated[
    tuple[float, float, float, float] | None,
    typer.Option("--bbox", help="West south east north in the scene's CRS."),
]
Opening = Annotated[
    list[str] | None,
    typer.Option("--open", help="Option of the product's reader, KEY=VALUE, such as overlap=average; repeat for more."),
]
Mask = Annotated[
    str | None, typer.Option("--mask", help='"clear" (the product\'s own flags) or a mask file; True is kept.')
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and stop.")]


@dataclass(frozen=True)
class Engine:
    """How a method is run over a scene."""

    bands: Bands = "good"
    bbox: Bbox = None
    mask: Mask = None
    opening: Opening = None
    seed: Seed = 0
    device: Annotated[str, typer.Option("--device", help="Where to compute: auto, cpu, cuda or cuda:N.")] = "auto"
    workers: Annotated[int, typer.Option("--workers", help="Processes.", min=1)] = 1
    cluster: Annotated[str | None, typer.Option("--cluster", help="Address of a Dask scheduler.")] = None
    tile: Annotated[str | None, typer.Option("--tile", help="Tile size, ROWSxCOLS.")] = None
    batch: Annotated[int, typer.Option("--batch", help="Tiles per batch.", min=1)] = 1
    align: Annotated[
        bool,
        typer.Option(
            "--align", help="Resample inputs that do not fit (PAN, library) onto the scene's pixels or bands."
        ),
    ] = False
    max_memory: Annotated[
        str | None, typer.Option("--max-memory", help="Most that a scene held at once may take, such as 4GB.")
    ] = None
    dtype: Annotated[
        str | None,
        typer.Option(
            "--dtype", help="Stored numbers: float32, float64, or scaled integers: uint8, int16, uint16, int32, uint32."
        ),
    ] = None
    overwrite: Overwrite = False
    resume: Annotated[bool, typer.Option("--resume", help="Go on with a half-done output.")] = False
    dry_run: DryRun = False
    config: Config = None

    def as_options(self) -> dict[str, Any]:
        """Keywords for the Python verbs."""
        return {
            "bands": parse_bands(self.bands),
            "seed": self.seed,
            "device": self.device,
            "workers": self.workers,
            "cluster": self.cluster,
            "tile": parse_tile(self.tile),
            "batch": self.batch,
            "dtype": self.dtype,
            "resample": self.align,
            "max_memory": self.max_memory,
            "overwrite": self.overwrite,
            "resume": self.resume,
        }


def with_engine(function: Callable[..., Any]) -> Callable[..., Any]:
    """Give a verb that takes `engine: Engine` one command-line option for each field."""
    hints = get_type_hints(Engine, include_extras=True)
    extra = [
        inspect.Parameter(f.name, inspect.Parameter.KEYWORD_ONLY, default=f.default, annotation=hints[f.name])
        for f in fields(Engine)
    ]
    signature = inspect.signature(function, eval_str=True)
    own = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in signature.parameters.values() if p.name != "engine"]

    @functools.wraps(function)
    def verb(**values: Any) -> Any:
        chosen = Engine(**{f.name: values.pop(f.name) for f in fields(Engine)})
        return function(engine=chosen, **values)

    verb.__signature__ = inspect.Signature(own + extra)  # type: ignore[attr-defined]
    verb.__annotations__ = {p.name: p.annotation for p in own + extra}
    del verb.__wrapped__
    return verb


def repeat_pairs(words: Sequence[str]) -> list[str]:
    """Words of a command line in which each of several pairs after one ``--set`` or ``--open`` has its own.

    ``--set a=1 b=2`` becomes ``--set a=1 --set b=2``; a file whose name looks like a pair stays a file.
    """
    found: list[str] = []
    option, due = "", False
    for number, word in enumerate(words):
        if word == "--":
            return [*found, *words[number:]]
        name, equals, _ = word.partition("=")
        if name in _PAIRED:
            option, due = name, not equals
        elif due:
            due = False
        elif option and _PAIR.match(word) and not Path(word).exists():
            found.append(option)
        else:
            option = ""
        found.append(word)
    return found


_PAIRED = ("--set", "--open")
_PAIR = re.compile(r"[A-Za-z_][\w.-]*=")


def parse_count(text: str | None) -> Any:
    """A number of endmembers as given with -k: a whole number, "auto", or None where it was not given.

    Raises
    ------
    BadSettings
    """
    if text is None or text == "auto":
        return text
    if not text.isascii() or not text.isdigit():
        raise BadSettings(f'got -k {text!r}, expected a whole number or "auto"')
    return int(text)


def parse_opening(pairs: Sequence[str] | None) -> dict[str, Any]:
    """Read KEY=VALUE pairs into keywords of `io.open_product`; the reader itself says which it knows.

    Raises
    ------
    BadSettings
        No pair, one twice, or a word that has an option of its own.
    """
    found: dict[str, Any] = {}
    for pair in pairs or ():
        name, equals, _ = pair.partition("=")
        name = name.strip()
        if not equals or not name.isidentifier():
            raise BadSettings(f"cannot read --open {pair!r}: expected KEY=VALUE such as overlap=average")
        if name in _ELSEWHERE:
            raise BadSettings(f"got --open {pair}: {_ELSEWHERE[name]}")
        if name in found:
            raise BadSettings(f"got --open {name}=... twice, expected it once")
        found |= parse_pairs([pair])
    return found


_ELSEWHERE = {
    "bands": "bands are chosen by --bands",
    "bbox": "a window is cut by --bbox",
    "window": "a window is cut by --bbox",
    "layers": "`torchspectral info` lists layers, ts.open(layers=...) opens them",
    "raw": "stored integers are kept wherever nothing is computed",
    "path": "the product is the argument before the options",
}


def parse_bands(text: str) -> str | list[int]:
    """Read "good", "all" or 1-based numbers and ranges into 0-based indices.

    Raises
    ------
    BadSettings
        Anything else.
    """
    if text in ("good", "all"):
        return text
    found: list[int] = []
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if not first.isdigit() or (dash and not last.isdigit()) or int(first) < 1 or (dash and int(last) < int(first)):
            raise BadSettings(f"cannot read --bands {text!r}: expected good, all, or numbers from 1 such as 1-50,60")
        found += range(int(first) - 1, int(last or first))
    return found


def parse_tile(text: str | None) -> tuple[int, int] | None:
    """Read "256" or "256x512" as rows and columns.

    Raises
    ------
    BadSettings
        Not one or two positive numbers.
    """
    if text is None:
        return None
    parts = text.lower().split("x")
    if not 1 <= len(parts) <= 2 or not all(p.isdigit() and int(p) > 0 for p in parts):
        raise BadSettings(f"cannot read --tile {text!r}: expected ROWSxCOLS such as 256x256")
    return int(parts[0]), int(parts[-1])
