"""Networks by name: ``models.yaml`` of the rooms and backbones, and entry points of other packages."""

from __future__ import annotations

import inspect
from functools import lru_cache
from importlib import metadata, resources
from typing import TYPE_CHECKING, Any, get_type_hints

import yaml
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError
from pydantic.errors import PydanticUserError

from torchspectral.errors import BadSettings, TorchspectralError, UnknownName, closest
from torchspectral.log import get_logger
from torchspectral.registry import ROOMS, load_target

if TYPE_CHECKING:
    import torch


class ModelCard(BaseModel):
    """One row of ``models.yaml``.

    Attributes
    ----------
    name : str
        ``family-size``.
    target : str
        ``module:Class`` or a function that returns a network.
    defaults : dict
        Constructor arguments of this size.
    title, paper : str
    """

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())

    name: str
    target: str
    defaults: dict[str, Any] = {}
    title: str = ""
    paper: str = ""


@lru_cache(maxsize=1)
def models() -> dict[str, ModelCard]:
    """Every network by name: rooms and backbones, then entry points in ``torchspectral.models``.

    An entry point's name is the model's, its value ``module:Class``; ours win over it.
    """
    found: dict[str, ModelCard] = {}
    for package in ("backbones", *ROOMS):
        try:
            file = resources.files(f"torchspectral.{package}").joinpath("models.yaml")
        except ModuleNotFoundError:
            continue
        if not file.is_file():
            continue
        for row in yaml.safe_load(file.read_text(encoding="utf-8")) or []:
            card = ModelCard(**row)
            if card.name in found:
                raise ValueError(f"model {card.name!r} stands in {package} and in {found[card.name].target}")
            found[card.name] = card
    for entry in metadata.entry_points(group="torchspectral.models"):
        if entry.name in found:
            get_logger("weights").warning("model %s of %s is hidden by ours", entry.name, entry.value)
        else:
            found[entry.name] = ModelCard(name=entry.name, target=entry.value)
    return found


def create_model(name: str, **constructor: Any) -> torch.nn.Module:
    """Build a network.

    Parameters
    ----------
    name : str
        ``family-size`` for fresh weights, ``family-size.tag`` for a network with those weights loaded.
    **constructor
        Arguments of the network, over the size's defaults; those of a tagged name come from its card.

    Raises
    ------
    UnknownName
        No such model; the message has the closest names.
    BadSettings
        An unknown, missing or ill-typed argument, or one that contradicts the weights.
    MissingWeights, BadWeights, MissingDependency

    Examples
    --------
    >>> network = create_model("hyperpnn", bands=159)  # doctest: +SKIP
    """
    known = models()
    if name not in known and "." in name:
        return _with_weights(name, constructor)
    if name not in known:
        raise UnknownName(f"no model {name!r}: {closest(name, tuple(known))}")
    card = known[name]
    target = load_target(card.target)
    arguments = check_arguments(name, target, {**card.defaults, **constructor})
    try:
        return target(**arguments)
    except TorchspectralError:
        raise
    except (TypeError, ValueError, AssertionError, RuntimeError) as error:
        text = " ".join(str(error).split()) or type(error).__name__
        raise BadSettings(f"model {name!r} cannot be built with {arguments}: {text[:200]}") from error


def _with_weights(name: str, constructor: dict[str, Any]) -> torch.nn.Module:
    from torchspectral.weights.loading import load

    weights = load(name)
    for key, value in constructor.items():
        if key in weights.card.constructor and weights.card.constructor[key] != value:
            raise BadSettings(
                f"{name} was trained with {key}={weights.card.constructor[key]!r}, got {key}={value!r}: leave it out, "
                f"or build {weights.card.model!r} without weights"
            )
    return weights.build()


def check_arguments(name: str, target: Any, given: dict[str, Any]) -> dict[str, Any]:
    """Hold arguments against the signature and annotations of a network.

    Raises
    ------
    BadSettings
    """
    parameters = inspect.signature(target).parameters
    free = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    names = [k for k, p in parameters.items() if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)]
    for key in given:
        if key not in names and not free:
            raise BadSettings(f"model {name!r} has no argument {key!r}: {closest(key, names)}")
    missing = [k for k in names if k not in given and parameters[k].default is inspect.Parameter.empty]
    if missing:
        raise BadSettings(f"model {name!r} needs {', '.join(missing)}: give {', '.join(f'{m}=..' for m in missing)}")
    try:
        hints = get_type_hints(target.__init__ if inspect.isclass(target) else target)
    except (NameError, TypeError):
        hints = {}
    checked = {}
    for key, value in given.items():
        checked[key] = _checked(name, key, value, hints[key]) if key in hints else value
    return checked


def _checked(name: str, key: str, value: Any, hint: Any) -> Any:
    try:
        adapter: TypeAdapter[Any] = TypeAdapter(hint)
    except PydanticUserError:
        return value  # a type that only the network itself can judge
    try:
        return adapter.validate_python(value)
    except ValidationError as error:
        message = error.errors()[0]["msg"]
        raise BadSettings(f"model {name!r}: argument {key}={value!r}: {message}") from None
