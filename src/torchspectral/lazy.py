"""Public names that are imported when they are first asked for."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any


def lookup(package: str, table: Mapping[str, str], name: str) -> Any:
    """What a package's `__getattr__` returns.

    Parameters
    ----------
    table : dict of str to str
        Public name to ``module`` or ``module:attribute``; modules are below the package unless they start with
        ``torchspectral.``.

    Raises
    ------
    AttributeError
        The table does not have the name.
    MissingDependency
        An optional library is not installed.
    """
    target = table.get(name)
    if target is None:
        raise AttributeError(f"module {package!r} has no attribute {name!r}")
    module, _, attribute = target.partition(":")
    path = module if module.startswith("torchspectral.") else f"{package}.{module}"
    try:
        return getattr(import_module(path), attribute or name)
    except ModuleNotFoundError as error:
        from torchspectral.errors import missing_dependency

        told = missing_dependency(f"{package}.{name}", error)
        if told is None:
            raise
        raise told from error
