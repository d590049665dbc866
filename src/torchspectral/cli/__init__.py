"""The command line: a file per verb."""

from torchspectral.cli.app import main

__all__ = ["main"]
