"""``python -m torchspectral.cli``."""

from torchspectral.cli.app import main

main()
