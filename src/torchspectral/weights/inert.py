"""An unpickler that cannot run anything: foreign names become inert stand-ins."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

STORAGES = {
    "FloatStorage": "float32", "DoubleStorage": "float64", "HalfStorage": "float16", "BFloat16Storage": "bfloat16",
    "LongStorage": "int64", "IntStorage": "int32", "ShortStorage": "int16", "CharStorage": "int8",
    "ByteStorage": "uint8", "BoolStorage": "bool", "UntypedStorage": "uint8",
}  # fmt: skip


class Inert:
    """Stands for any foreign object: remembers name and state, does nothing."""

    origin = ""

    def __new__(cls, *args: Any, **kwargs: Any) -> Inert:
        """Make an instance from any arguments."""
        made = super().__new__(cls)
        object.__setattr__(made, "state", {})
        object.__setattr__(made, "items", [])
        return made

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        """Keep the object's attributes as plain data."""
        if isinstance(state, tuple) and len(state) == 2 and isinstance(state[0], Mapping):
            state = state[0]
        if isinstance(state, Mapping):
            self.state.update({str(k): v for k, v in state.items()})

    def __setitem__(self, key: Any, value: Any) -> None:
        self.items.append((key, value))

    def append(self, value: Any) -> None:
        """Record an element that the stream appends."""
        self.items.append((None, value))

    def extend(self, values: Any) -> None:
        """Record elements that the stream appends."""
        self.items.extend((None, v) for v in values)

    def add(self, value: Any) -> None:
        """Record an element that the stream adds."""
        self.items.append((None, value))

    def __call__(self, *args: Any, **kwargs: Any) -> Inert:
        """Another inert object, whatever the arguments."""
        return type(self)()

    def __hash__(self) -> int:
        return id(self)

    state: dict[str, Any]
    items: list[tuple[Any, Any]]


@dataclass(frozen=True)
class StorageRef:
    """A storage that the stream names: its key in the file, dtype and number of elements."""

    key: str
    dtype: str
    numel: int


@dataclass(frozen=True)
class TensorRef:
    """A view of a storage."""

    storage: StorageRef
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]


class _Dict(dict):  # type: ignore[type-arg]
    """A mapping of the stream; what is set on it beside its items (``_metadata``) is dropped."""

    def __setstate__(self, state: Any) -> None:
        """Forget it."""


class _Dtype:
    """Marks a storage class of the stream."""

    def __init__(self, dtype: str) -> None:
        self.dtype = dtype


def _rebuilders() -> dict[tuple[str, str], Any]:
    """Fresh functions for each stream, so that a stream that writes onto them reaches no other."""

    def tensor(storage: Any, offset: Any, size: Any, stride: Any, *rest: Any) -> Any:
        if not isinstance(storage, StorageRef):
            return None
        return TensorRef(storage, int(offset), tuple(int(n) for n in size), tuple(int(n) for n in stride))

    def tensor_v3(
        storage: Any, offset: Any, size: Any, stride: Any, grad: Any, hooks: Any, dtype: Any, *rest: Any
    ) -> Any:
        return tensor(storage, offset, size, stride)

    def parameter(data: Any, *rest: Any) -> Any:
        return data

    def mapping(*pairs: Any) -> _Dict:
        return _Dict(pairs[0]) if pairs and isinstance(pairs[0], (list, tuple, dict)) else _Dict()

    def values(*items: Any) -> tuple[Any, ...]:
        return tuple(items[0]) if items and isinstance(items[0], (list, tuple)) else ()

    return {
        ("collections", "OrderedDict"): mapping,
        ("torch", "Size"): values,
        ("builtins", "set"): values,
        ("__builtin__", "set"): values,
        ("torch._utils", "_rebuild_tensor"): tensor,
        ("torch._utils", "_rebuild_tensor_v2"): tensor,
        ("torch._utils", "_rebuild_tensor_v3"): tensor_v3,
        ("torch._utils", "_rebuild_parameter"): parameter,
        ("torch._utils", "_rebuild_parameter_with_state"): parameter,
    }


# The Python unpickler: its memo is a dict, so that a stream cannot make it allocate gigabytes with one opcode.
class InertUnpickler(pickle._Unpickler):  # type: ignore[name-defined,misc]
    """Reads a stream into plain containers, tensor views and `Inert` objects."""

    def __init__(self, file: Any) -> None:
        super().__init__(file, encoding="latin1")
        self.known = _rebuilders()
        self.made: dict[tuple[str, str], Any] = {}

    def find_class(self, module: str, name: str) -> Any:
        """One of the known stand-ins, or an inert class of that name; nothing is imported."""
        key = (str(module), str(name))
        if key in self.known:
            return self.known[key]
        if key[0] in ("torch", "torch.storage", "torch.cuda") and key[1] in STORAGES:
            return _Dtype(STORAGES[key[1]])
        if key not in self.made:
            self.made[key] = type("Inert", (Inert,), {"origin": f"{key[0]}.{key[1]}"[:200]})
        return self.made[key]

    def get_extension(self, code: int) -> None:
        """Extension codes stand for registered classes: inert too."""
        self.append(Inert)  # type: ignore[attr-defined]

    def persistent_load(self, pid: Any) -> Any:
        """Name a storage; its bytes are read later."""
        if isinstance(pid, tuple) and len(pid) >= 5 and pid[0] == "storage" and isinstance(pid[1], _Dtype):
            return StorageRef(str(pid[2]), pid[1].dtype, int(pid[4]))
        if isinstance(pid, tuple) and len(pid) >= 2 and pid[0] == "module":
            return pid[1]
        return Inert()
