"""Builds the command and turns every error into one line and an exit code."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

import typer

from torchspectral.errors import TorchspectralError

# Verb -> module of this package; order is the order of `--help`.
VERBS = {
    "info": "info",
    "convert": "convert",
    "quicklook": "quicklook",
    "spectrum": "spectrum",
    "coregister": "coregister",
    "simulate": "simulate",
    "score": "score",
    "sharpen": "sharpen",
    "restore": "restore",
    "unmix": "unmix",
    "endmembers": "endmembers",
    "classify": "classify",
    "train": "train",
    "bench": "bench",
    "methods": "methods",
    "weights": "weights",
    "demo": "demo",
}
USER_ERROR, BUG, STOPPED = 2, 1, 130


def build() -> typer.Typer:
    """Assemble the command from its verbs; imports nothing heavy."""
    app = typer.Typer(
        name="torchspectral",
        help="Open any hyperspectral product, run the field's published methods, get georeferenced results.",
        no_args_is_help=True,
        add_completion=True,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
        context_settings={"help_option_names": ["-h", "--help"]},
    )

    @app.callback(invoke_without_command=True)
    def top(
        version: bool = typer.Option(False, "--version", help="Print the version and stop."),
        debug: bool = typer.Option(False, "--debug", help="Show the traceback of an error."),
        verbose: bool = typer.Option(False, "--verbose", "-v", help="Log what is being done."),
    ) -> None:
        if version:
            from torchspectral import __version__

            typer.echo(__version__)
            raise typer.Exit()
        if verbose:
            _log_to_stderr()

    for verb, module in VERBS.items():
        loaded = importlib.import_module(f"torchspectral.cli.{module}")
        if hasattr(loaded, "app"):
            app.add_typer(loaded.app, name=verb)
        else:
            app.command(name=verb)(getattr(loaded, verb))
    return app


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Run the command line; always ends in `SystemExit`.

    Exit codes: 0 done, 1 a bug in torchspectral, 2 something the user can mend, 130 stopped by the user.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in words
    # `--debug` may stand anywhere, as people type it last.
    words = (["--debug"] if debug else []) + [w for w in words if w != "--debug"]
    try:
        code = build()(words, standalone_mode=False)
    except KeyboardInterrupt:
        _fail("stopped by the user", STOPPED)
    except TorchspectralError as error:
        if debug:
            raise
        _fail(str(error), USER_ERROR)
    except BrokenPipeError:
        # The reader of our output left (`| head`); nothing is wrong.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except Exception as error:
        if hasattr(error, "format_message"):
            _fail(error.format_message(), getattr(error, "exit_code", USER_ERROR) or USER_ERROR)
        if type(error).__name__ == "Abort":
            _fail("stopped by the user", STOPPED)
        if type(error).__name__ == "Exit":
            sys.exit(getattr(error, "exit_code", 0))
        if debug:
            raise
        _fail(
            f"this is a bug in torchspectral: {type(error).__name__}: {error} (run again with --debug and report it)",
            BUG,
        )
    sys.exit(code if isinstance(code, int) else 0)


def _fail(message: str, code: int) -> NoReturn:
    text = " ".join(message.split())
    typer.echo(f"torchspectral: {text}", err=True)
    sys.exit(code)


def _log_to_stderr() -> None:
    import logging

    from rich.console import Console
    from rich.logging import RichHandler

    logger = logging.getLogger("torchspectral")
    logger.addHandler(RichHandler(console=Console(stderr=True), show_path=False))
    logger.setLevel(logging.INFO)
