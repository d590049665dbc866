"""Weights files: reading tensors without running anything, and writing them whole or not at all."""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import numpy as np

from torchspectral.errors import (
    BadWeights,
    MissingDependency,
    OutputExists,
    OutputFailed,
    ProductNotFound,
    UnsafeInput,
)
from torchspectral.weights.card import WeightsCard, make_card, read_card, slug

if TYPE_CHECKING:
    import torch

State = dict[str, Any]
WRAPPERS = (
    "state_dict", "model_state_dict", "model", "net", "network", "params_ema", "params", "teacher", "student",
    "encoder", "generator", "weights",
)  # fmt: skip
"""Keys under which training scripts keep the network's tensors, in the order in which they are tried."""
PREFIXES = ("module.", "_orig_mod.", "model.", "net.", "network.")
SUFFIXES = (".safetensors", ".pth", ".pt", ".ckpt", ".tar", ".bin")


def torch_module() -> Any:
    """The torch package.

    Raises
    ------
    MissingDependency
        It is not installed.
    """
    try:
        import torch
    except ModuleNotFoundError as error:
        raise MissingDependency(
            "weights need torch, which is not installed: pip install 'torchspectral[torch]'"
        ) from error
    return torch


def sha256_of(path: Path) -> str:
    """Hexadecimal SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_state(path: Path) -> State:
    """Tensors (and plain values) of a safetensors or PyTorch file, wrappers removed; nothing is executed.

    Raises
    ------
    BadWeights
        The content is no weights file, is truncated, or holds no tensors.
    UnsafeInput
        A PyTorch file needs code to be read (pickled module), or unpacks to far more than its size.
    """
    if not path.is_file():
        raise ProductNotFound(f"{path}: there is no such weights file")
    with path.open("rb") as file:
        head = file.read(9)
    if len(head) == 9 and head[8:9] == b"{":
        return _read_safetensors(path)
    return unwrap(_read_torch(path), str(path))


def _read_safetensors(path: Path) -> State:
    torch_module()
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(path), framework="pt") as file:
            state: State = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  not a mapping
            meta = file.metadata() or {}
    except (SafetensorError, ValueError, OSError) as error:
        raise BadWeights(f"{path}: the safetensors file cannot be read ({error}): fetch it again") from None
    values = _json(meta.get("values"), path)
    if isinstance(values, dict):
        state.update(values)
    return state


def _json(text: str | None, path: Path) -> Any:
    if not text:
        return None
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise BadWeights(f"{path}: the metadata of the safetensors file is not JSON: fetch it again") from None


def _read_torch(path: Path) -> Any:
    torch = torch_module()
    import pickle

    if zipfile.is_zipfile(path):
        check_zip(path)
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        text = str(error)
        if "Unsupported global" in text or "Unsupported class" in text or "legacy .tar" in text or "GLOBAL" in text:
            name = text.split("GLOBAL ", 1)[1].split()[0] if "GLOBAL " in text else "a foreign object"
            raise UnsafeInput(
                f"{path}: the file wants to run {name} when it is read, expected only tensors: use "
                f"`torchspectral weights convert {path.name} OUT.safetensors`, which reads it without running anything"
            ) from None
        raise _not_weights(path) from None
    except Exception:  # torch raises many types on broken files, with advice that is not for users
        raise _not_weights(path) from None


def _not_weights(path: Path) -> BadWeights:
    return BadWeights(
        f"{path}: no weights file, or a broken one: expected safetensors, or tensors that torch.save wrote; check the path, "
        "or fetch the file again"
    )


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:160] or type(error).__name__


def check_zip(path: Path) -> None:
    """Refuse archives that unpack to far more than they are.

    Raises
    ------
    UnsafeInput
        Ratio above 100, or an entry that points outside.
    BadWeights
        The directory of the archive is broken.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            total = sum(entry.file_size for entry in archive.infolist())
    except Exception as error:  # a damaged archive raises many types
        raise BadWeights(f"{path}: the archive is broken ({_short(error)}): fetch it again") from None
    size = path.stat().st_size
    if total > 100 * size:
        raise UnsafeInput(f"{path}: {size} bytes unpack to {total}, expected at most 100 times as many")


def is_tensor(value: Any) -> bool:
    """Whether a value is a tensor, without importing torch for the question."""
    return type(value).__name__ in ("Tensor", "Parameter") and hasattr(value, "numel")


def unwrap(content: Any, where: str, part: str = "") -> State:
    """The mapping of tensors inside what a PyTorch file holds.

    Parameters
    ----------
    content : Any
    where : str
        For messages.
    part : str
        Dotted key of the mapping to take; "" looks at the usual ones.

    Raises
    ------
    BadWeights
        There is no mapping of tensors, or several and none of the usual names.
    """
    if part:
        for key in part.split("."):
            if not isinstance(content, Mapping) or key not in content:
                known = ", ".join(str(k) for k in content) if isinstance(content, Mapping) else type(content).__name__
                raise BadWeights(f"{where}: no part {part!r}, expected one of {known[:200]}")
            content = content[key]
    for _ in range(4):
        if not isinstance(content, Mapping):
            break
        if any(is_tensor(v) for v in content.values()):
            tensors = {str(k): v for k, v in content.items() if is_tensor(v)}
            _check_bounds(tensors, where)
            return tensors
        inner = [str(k) for k, v in content.items() if isinstance(v, Mapping) and _holds_tensors(v)]
        chosen = next((key for key in WRAPPERS if key in inner), inner[0] if len(inner) == 1 else None)
        if chosen is None:
            if inner:
                raise BadWeights(f"{where}: tensors under {', '.join(inner)}: choose one part (convert --part NAME)")
            break
        content = content[chosen]
    raise BadWeights(f"{where}: got {type(content).__name__} without tensors, expected a mapping of names to tensors")


def _holds_tensors(value: Mapping[Any, Any], depth: int = 3) -> bool:
    return any(
        is_tensor(v) or (depth and isinstance(v, Mapping) and _holds_tensors(v, depth - 1)) for v in value.values()
    )


def _check_bounds(tensors: dict[str, torch.Tensor], where: str) -> None:
    """A tensor with stride 0 may claim far more elements than the file holds."""
    stored = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors.values()}
    claimed = sum(t.numel() * t.element_size() for t in tensors.values())
    if claimed > 100 * (sum(stored.values()) + 4096):
        raise UnsafeInput(
            f"{where}: tensors claim {claimed} bytes of {sum(stored.values())} stored ones, expected no more"
        )


def strip_prefixes(state: State, expected: Mapping[str, Any] | None = None) -> State:
    """Remove ``module.`` and similar prefixes that all keys share, unless the network has them too."""
    while state:
        prefix = next((p for p in PREFIXES if all(key.startswith(p) for key in state)), None)
        if prefix is None:
            return state
        plain = {key[len(prefix) :]: value for key, value in state.items()}
        if expected is None:
            if prefix not in PREFIXES[:2]:
                return state
        elif sum(k in expected for k in plain) < sum(k in expected for k in state):
            return state
        state = plain
    return state


def card_path(path: Path) -> Path:
    """Where the card of a weights file stands."""
    return path.with_name(path.stem + ".yaml") if path.suffix in SUFFIXES else path.with_name(path.name + ".yaml")


def card_of(path: Path) -> WeightsCard:
    """Card of a weights file: the YAML beside it, else the one inside, else an empty one.

    Raises
    ------
    BadWeights
        The card cannot be read.
    """
    beside = card_path(path)
    if beside.is_file():
        return read_card(beside)
    if path.suffix == ".safetensors":
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(str(path), framework="numpy") as file:
                inside = _json((file.metadata() or {}).get("card"), path)
        except (SafetensorError, ValueError, OSError) as error:
            raise BadWeights(f"{path}: the safetensors file cannot be read ({error}): fetch it again") from None
        if inside is not None:
            return make_card(inside, where=str(path))
    return WeightsCard(name=slug(path.stem))


def save(path: Path | str, state: Mapping[str, Any], card: WeightsCard, *, overwrite: bool = False) -> Path:
    """Write tensors and plain values as safetensors with the card beside; both appear only when complete.

    Parameters
    ----------
    path : path
        Gets the suffix ``.safetensors`` where it has none.
    state : mapping of str to Tensor, ndarray or plain value
        A network's or a method's state.
    card : WeightsCard
        Its `sha256` is filled in.
    overwrite : bool
        Replace an existing file.

    Returns
    -------
    Path
        Of the weights file.

    Raises
    ------
    OutputExists, OutputFailed
    BadWeights
        The state holds something that is neither tensor, array nor plain value.
    """
    torch = torch_module()
    from safetensors.torch import save_file

    path = Path(path)
    if path.suffix != ".safetensors":
        path = path.with_name(path.name + ".safetensors")
    if path.exists() and not overwrite:
        raise OutputExists(f"{path} exists: choose another name or say overwrite")
    tensors: dict[str, Any] = {}
    plain: dict[str, Any] = {}
    for name, value in state.items():
        if isinstance(value, np.ndarray) and value.dtype.kind in "biuf":
            value = torch.from_numpy(np.ascontiguousarray(value))
        if isinstance(value, torch.Tensor):
            tensors[str(name)] = value.detach().to("cpu").contiguous().clone()
        else:
            plain[str(name)] = value
    try:
        values = json.dumps(plain, sort_keys=True)
    except (TypeError, ValueError) as error:
        raise BadWeights(f"{path}: the state holds a value that is no tensor and no plain value ({error})") from None
    inside = card.model_copy(update={"sha256": ""}).model_dump(mode="json", exclude_defaults=True)
    meta = {"format": "pt", "card": json.dumps(inside, sort_keys=True), "values": values}
    mark = uuid4().hex[:8]
    temporary = path.with_name(f".{path.name}.{mark}")
    temporary_card = temporary.with_name(temporary.name + ".yaml")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.touch()  # with the user's own permissions; the library would make it private
        mode = temporary.stat().st_mode
        save_file(tensors, str(temporary), metadata=meta)
        temporary.chmod(mode)
        card = card.model_copy(update={"sha256": sha256_of(temporary)})
        temporary_card.write_text(card.to_yaml(), encoding="utf-8")
        temporary.replace(path)
        temporary_card.replace(card_path(path))
    except OSError as error:
        raise OutputFailed(f"{path} could not be written: {error}") from error
    finally:
        for left in (temporary, temporary_card):
            left.unlink(missing_ok=True)
    return path


def copy_whole(source: Path, target: Path) -> None:
    """Copy a file so that the target appears only when it is complete.

    Raises
    ------
    OutputFailed
    """
    import shutil

    temporary = target.with_name(f".{target.name}.{uuid4().hex[:8]}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, temporary)
        temporary.replace(target)
    except OSError as error:
        raise OutputFailed(f"{target} could not be written: {error}") from error
    finally:
        temporary.unlink(missing_ok=True)
