"""Builds the command and turns every error into one line and an exit code."""

from __future__ import annotations

import errno
import importlib
import logging
import os
import sys
from collections.abc import Iterable, Sequence
from typing import Any, NoReturn

import typer

from torchspectral.cli.options import repeat_pairs
from torchspectral.errors import Interrupted, TorchspectralError, missing_dependency

# Verb -> module of this package; order is the order of `--help`.
VERBS = {
    "info": "info",
    "convert": "convert",
    "quicklook": "quicklook",
    "spectrum": "spectrum",
    "coregister": "coregister",
    "simulate": "simulate",
    "degrade": "degrade",
    "score": "score",
    "sharpen": "sharpen",
    "restore": "restore",
    "noise": "noise",
    "superres": "superres",
    "unmix": "unmix",
    "endmembers": "endmembers",
    "calibrate": "calibrate",
    "reconstruct": "reconstruct",
    "classify": "classify",
    "embed": "embed",
    "train": "train",
    "bench": "bench",
    "methods": "methods",
    "weights": "weights",
    "diagnose": "diagnose",
    "demo": "demo",
}
USER_ERROR, BUG, STOPPED = 2, 1, 130
_REFUSED = frozenset(
    (errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.ENAMETOOLONG, errno.EMFILE)
)


def build(verbs: Iterable[str] = tuple(VERBS)) -> typer.Typer:
    """Assemble the command from its verbs, or from some of them; imports nothing heavy."""
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

    for verb in verbs:
        loaded = importlib.import_module(f"torchspectral.cli.{VERBS[verb]}")
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
    # `--debug` and `--verbose` may stand anywhere, as people type them last.
    ahead = [w for w in dict.fromkeys(words) if w in ("--debug", "--verbose", "-v")]
    words = repeat_pairs(ahead + [w for w in words if w not in ahead])
    # Warnings are for developers; what users must know stands in the report. `--verbose` shows both.
    logging.captureWarnings(True)
    logging.getLogger().addHandler(logging.NullHandler())
    if not set(words) & {"--verbose", "-v", "--debug"}:
        os.environ.setdefault("CPL_LOG", os.devnull)  # what GDAL would print by itself
    try:
        # Reading the options of every verb takes longer than many a verb.
        verbs = [w for w in words[len(ahead) : len(ahead) + 1] if w in VERBS] or VERBS
        code = build(verbs)(words, prog_name="torchspectral", standalone_mode=False)
        sys.stdout.flush()
    except (KeyboardInterrupt, Interrupted) as stop:
        _fail(str(stop) or "stopped by the user", STOPPED)
    except TorchspectralError as error:
        if debug:
            raise
        _fail(str(error), USER_ERROR)
    except (BrokenPipeError, SystemExit):
        # The reader of our output left (`| head`), which typer may turn into an exit; nothing is wrong.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except Exception as error:
        _other(error, debug)
    if code == STOPPED:
        _fail("stopped by the user", STOPPED)  # typer makes an exit code of Ctrl-C
    sys.exit(code if isinstance(code, int) else 0)


def refused_by_system(error: Exception) -> str | None:
    """What to say where a disk, a permission or a limit stands in the way; None where that is not so."""
    if not isinstance(error, OSError) or error.errno not in _REFUSED:
        return None
    what = error.filename if isinstance(error.filename, str) else "a file"
    return f"the system refuses {what}: {error.strerror}: check permissions and free space, or choose another place"


def _other(error: Exception, debug: bool) -> NoReturn:
    """End for what is no error of ours: wrong usage, a missing library, or a bug."""
    kind = type(error).__name__
    if kind == "NoArgsIsHelpError":
        typer.echo(error.ctx.get_help())  # type: ignore[attr-defined]
        _fail(f"got no verb after `{error.ctx.command_path}`, expected one of those listed", USER_ERROR)  # type: ignore[attr-defined]
    if hasattr(error, "format_message"):
        _fail(_usage(error), getattr(error, "exit_code", USER_ERROR) or USER_ERROR)
    if kind == "Abort":
        _fail("stopped by the user", STOPPED)
    if kind == "Exit":
        sys.exit(getattr(error, "exit_code", 0))
    if debug:
        raise error
    if (refused := refused_by_system(error)) is not None:
        _fail(refused, USER_ERROR)
    if isinstance(error, ImportError):
        told = missing_dependency("this verb", error)
        if told is not None:
            _fail(str(told), USER_ERROR)
    _fail(f"this is a bug in torchspectral: {kind}: {error} (run again with --debug and report it)", BUG)


def _usage(error: Any) -> str:
    """One sentence about wrong usage, and where the right one is told."""
    context, text = getattr(error, "ctx", None), error.format_message().strip().rstrip(".")
    param = getattr(error, "param", None)
    if type(error).__name__ == "MissingParameter" and param is not None:
        long = [o for o in getattr(param, "opts", []) if o.startswith("--")]
        what = (getattr(param, "help", None) or "a value").rstrip(".")
        text = f"got no {long[0] if long else str(param.name).upper()}, which is needed: {what}"
    return f"{text} (see `{context.command_path} --help`)" if context is not None else text


def _fail(message: str, code: int) -> NoReturn:
    text = " ".join(message.split())
    typer.echo(f"torchspectral: {text}", err=True)
    sys.exit(code)


def _log_to_stderr() -> None:
    from rich.console import Console
    from rich.logging import RichHandler

    handler = RichHandler(console=Console(stderr=True), show_path=False)
    for name in ("torchspectral", "py.warnings"):
        logging.getLogger(name).addHandler(handler)
    logging.getLogger("torchspectral").setLevel(logging.INFO)
