"""States on disk: nested plain values as JSON, their tensors as safetensors; nothing is pickled."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from torchspectral.engine.journal import write_atomically
from torchspectral.engine.method import State
from torchspectral.engine.shelf import Shelf
from torchspectral.errors import BadSettings, BrokenProduct, ProductNotFound


def save_state(path: Path, state: State) -> None:
    """Write a state so that it appears under its name only when it is whole.

    A shelf whose file lies in the same folder is named, not copied.

    Raises
    ------
    BadSettings
        A value is neither a tensor, an array nor plain; the message names it.
    OutputFailed
    """
    from safetensors.torch import save

    tensors: dict[str, Any] = {}
    skeleton = _pack(state, tensors, "state", path.parent)
    if not tensors:
        import torch

        tensors["none"] = torch.zeros(1)
    write_atomically(path, save(tensors, metadata={"skeleton": json.dumps(skeleton)}))


def load_state(path: Path) -> State:
    """Read what `save_state` wrote.

    Raises
    ------
    BrokenProduct
        The file is damaged.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(path), framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            skeleton = json.loads((file.metadata() or {})["skeleton"])
        return _unpack(skeleton, tensors, path.parent)
    except (OSError, ValueError, KeyError, SafetensorError, ProductNotFound, BrokenProduct) as error:
        raise BrokenProduct(f"the state in {path} is damaged ({error}): overwrite=True starts anew") from None


def to_device(value: Any, device: Any) -> Any:
    """The same nested value with its tensors on a device."""
    import torch

    if isinstance(value, torch.Tensor):
        return value.detach().to(device)
    if isinstance(value, dict):
        return {key: to_device(part, device) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(to_device(part, device) for part in value) if not hasattr(value, "_fields") else value
    return value


def _pack(value: Any, tensors: dict[str, Any], where: str, folder: Path) -> Any:
    import torch

    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray) and value.dtype.kind in "biuf":
        name = f"t{len(tensors)}"
        tensors[name] = torch.from_numpy(np.ascontiguousarray(value).copy())
        return {"array": name}
    if isinstance(value, Shelf):
        if value.path is not None and value.path.parent == folder:
            return {"shelf": [value.path.name, *value.shape, str(value.dtype)]}
        value = value[:]
    if isinstance(value, torch.Tensor):
        name = f"t{len(tensors)}"
        # A clone of its own: safetensors refuses tensors that share memory.
        tensors[name] = value.detach().cpu().contiguous().clone()
        return {"tensor": name}
    if isinstance(value, (list, tuple)):
        return {type(value).__name__ if type(value) in (list, tuple) else "list": [
            _pack(part, tensors, f"{where}[{n}]", folder) for n, part in enumerate(value)
        ]}  # fmt: skip
    if isinstance(value, dict):
        for key in value:
            if not isinstance(key, (str, int)):
                raise BadSettings(f"{where} has a key {key!r}, expected text or numbers in a state")
        return {"map": [[key, _pack(part, tensors, f"{where}[{key!r}]", folder)] for key, part in value.items()]}
    raise BadSettings(f"{where} is a {type(value).__name__}, expected tensors, arrays and plain values in a state")


def _unpack(value: Any, tensors: dict[str, Any], folder: Path) -> Any:
    if not isinstance(value, dict):
        return value
    ((kind, part),) = value.items()
    if kind == "tensor":
        return tensors[part]
    if kind == "array":
        return tensors[part].numpy()
    if kind == "shelf":
        name, count, size, dtype = part
        return Shelf.open(folder / Path(name).name, (count, size), dtype)
    if kind == "map":
        return {key: _unpack(inner, tensors, folder) for key, inner in part}
    items = [_unpack(inner, tensors, folder) for inner in part]
    return tuple(items) if kind == "tuple" else items
