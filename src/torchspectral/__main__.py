"""``python -m torchspectral``."""

from torchspectral.cli.app import main

main()
