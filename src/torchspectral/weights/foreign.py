"""Foreign pickled checkpoints, read without importing or calling anything that they name.

The unpickler below knows ordered dictionaries, tensor rebuilders and storages. Every other name in the stream becomes
an inert class made on the spot: it can be "called" and "built", which only records what it was given. Storages are
read as bytes afterwards. Nothing of the stream is ever imported, compiled or executed.
"""

from __future__ import annotations

import io
import pickle
import struct
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torchspectral.errors import BadWeights, OutputExists, ProductNotFound, TorchspectralError, UnsafeInput
from torchspectral.weights.card import WeightsCard, make_card, slug
from torchspectral.weights.files import check_zip, save, strip_prefixes, torch_module, unwrap

if TYPE_CHECKING:
    import torch

LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
LARGEST_PICKLE = 256 << 20
LARGEST_TENSORS = 64 << 30
MOST_MODULES = 100_000
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
class _InertUnpickler(pickle._Unpickler):  # type: ignore[name-defined,misc]
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


def _unpickle(file: Any, where: str) -> Any:
    try:
        return _InertUnpickler(file).load()
    except TorchspectralError:
        raise
    except MemoryError:
        raise UnsafeInput(f"{where}: the pickle asks for more memory than there is, expected a checkpoint") from None
    except Exception as error:  # a hostile stream can raise anything
        raise BadWeights(
            f"{where}: the pickle cannot be read ({_one_line(error)}), expected a PyTorch checkpoint"
        ) from None


def read_foreign(path: Path) -> Any:
    """Content of a pickled checkpoint with tensors in place and everything else inert.

    Raises
    ------
    ProductNotFound, BadWeights, UnsafeInput
    """
    if not path.is_file():
        raise ProductNotFound(f"{path}: there is no such weights file")
    if zipfile.is_zipfile(path):
        return _read_zip(path)
    return _read_stream(path)


def _archive(path: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(path)
    except Exception as error:  # a damaged archive raises many types
        raise BadWeights(f"{path}: the archive cannot be read ({_one_line(error)}): fetch the file again") from None


def _entry(archive: zipfile.ZipFile, name: str, path: Path) -> bytes:
    try:
        return archive.read(name)
    except Exception as error:  # a damaged archive raises many types
        raise BadWeights(f"{path}: entry {name!r} cannot be read ({_one_line(error)}): fetch it again") from None


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:120] or type(error).__name__


def _read_zip(path: Path) -> Any:
    check_zip(path)
    with _archive(path) as archive:
        names = archive.namelist()
        main = next((n for n in names if n.rsplit("/", 1)[-1] == "data.pkl"), None)
        if main is None:
            raise BadWeights(f"{path}: an archive without data.pkl, expected a PyTorch checkpoint")
        if archive.getinfo(main).file_size > LARGEST_PICKLE:
            raise UnsafeInput(f"{path}: data.pkl unpacks to more than {LARGEST_PICKLE} bytes")
        root = main[: -len("data.pkl")]
        content = _unpickle(io.BytesIO(_entry(archive, main, path)), str(path))

        def fetch(ref: StorageRef) -> bytes:
            return _entry(archive, f"{root}data/{ref.key}", path)

        return _fill(content, fetch, str(path))


def _read_stream(path: Path) -> Any:
    where = str(path)
    with path.open("rb") as file:
        first = _unpickle(file, where)
        if first != LEGACY_MAGIC:
            return _fill(first, _no_storage(where), where)
        for _ in range(2):  # protocol version, system facts
            _unpickle(file, where)
        content = _unpickle(file, where)
        keys = _unpickle(file, where)
        if not isinstance(keys, list):
            raise BadWeights(f"{where}: the list of storages is broken: fetch the file again")
        sizes = {ref.key: ref for ref in _storages(content)}
        blocks: dict[str, bytes] = {}
        for key in keys:
            head = file.read(8)
            ref = sizes.get(str(key))
            if len(head) != 8 or ref is None:
                raise BadWeights(f"{where}: storage {key!r} is cut off or unused: fetch the file again")
            count = struct.unpack("<q", head)[0]
            length = count * _itemsize(ref.dtype)
            if not 0 <= length <= path.stat().st_size:
                raise BadWeights(f"{where}: storage {key!r} claims {count} elements, more than the file holds")
            blocks[str(key)] = file.read(length)

        def fetch(ref: StorageRef) -> bytes:
            return blocks.get(ref.key, b"")

        return _fill(content, fetch, where)


def _no_storage(where: str) -> Any:
    def fetch(ref: StorageRef) -> bytes:
        raise BadWeights(f"{where}: the pickle names storages but holds none, expected a PyTorch checkpoint")

    return fetch


def _itemsize(dtype: str) -> int:
    return int(getattr(torch_module(), dtype).itemsize)


def _storages(value: Any) -> Iterator[StorageRef]:
    for item in _walk(value):
        if isinstance(item, TensorRef):
            yield item.storage
        elif isinstance(item, StorageRef):
            yield item


def _children(value: Any) -> list[Any]:
    if isinstance(value, Mapping):
        return list(value.values())
    if isinstance(value, (list, tuple, set, frozenset)):
        return list(value)
    if isinstance(value, Inert):
        return [value.state, [v for _, v in value.items]]
    return []


def _walk(value: Any) -> Iterator[Any]:
    seen: set[int] = set()
    todo = [value]
    while todo:
        item = todo.pop()
        if id(item) in seen:
            continue
        seen.add(id(item))
        yield item
        todo.extend(_children(item))


def _fill(content: Any, fetch: Any, where: str) -> Any:
    """Turn tensor views into tensors, and modules into mappings of dotted names."""
    refs = [item for item in _walk(content) if isinstance(item, TensorRef)]
    if not refs:
        raise BadWeights(f"{where}: no tensors in the pickle, expected a PyTorch checkpoint")
    total = sum(_itemsize(ref.storage.dtype) * _count(ref.size) for ref in refs)
    if total > LARGEST_TENSORS:
        raise UnsafeInput(f"{where}: tensors claim {total} bytes, expected at most {LARGEST_TENSORS}")
    cache: dict[StorageRef, torch.Tensor] = {}
    made = {id(ref): _tensor(ref, fetch, cache, where) for ref in refs}
    return _plain(content, made, {}, 0)


def _count(size: tuple[int, ...]) -> int:
    product = 1
    for n in size:
        product *= max(n, 0)
    return product


def _tensor(ref: TensorRef, fetch: Any, cache: dict[StorageRef, torch.Tensor], where: str) -> torch.Tensor:
    torch = torch_module()
    if ref.storage not in cache:
        data = bytearray(fetch(ref.storage))
        dtype = getattr(torch, ref.storage.dtype)
        usable = len(data) - len(data) % dtype.itemsize
        whole = (
            torch.frombuffer(data, dtype=dtype, count=usable // dtype.itemsize)
            if usable
            else torch.empty(0, dtype=dtype)
        )
        cache[ref.storage] = whole
    storage = cache[ref.storage]
    bad = ref.offset < 0 or len(ref.size) != len(ref.stride) or any(n < 0 for n in (*ref.size, *ref.stride))
    last = ref.offset + sum((n - 1) * s for n, s in zip(ref.size, ref.stride, strict=False))
    if bad or (_count(ref.size) and last >= storage.numel()):
        raise BadWeights(
            f"{where}: a tensor of size {ref.size} reaches beyond its storage of {storage.numel()} elements"
        )
    if _count(ref.size) > 100 * max(storage.numel(), 1024):
        raise UnsafeInput(
            f"{where}: a tensor of size {ref.size} claims far more than the {storage.numel()} stored elements"
        )
    try:
        return torch.as_strided(storage, ref.size, ref.stride, ref.offset).clone()
    except (RuntimeError, OverflowError, TypeError) as error:
        raise BadWeights(f"{where}: a tensor of size {ref.size} cannot be made ({_one_line(error)})") from None


def _plain(value: Any, made: dict[int, Any], done: dict[int, Any], depth: int) -> Any:
    if isinstance(value, TensorRef):
        return made[id(value)]
    if depth > 200 or id(value) in done:
        return done.get(id(value))
    if isinstance(value, Inert) and "_modules" in value.state:
        done[id(value)] = flat = dict(_module_tensors(value, "", made, [0]))
        return flat
    if isinstance(value, Inert):
        value = value.state
    if isinstance(value, Mapping):
        out: dict[str, Any] = {}
        done[id(value)] = out
        out.update({str(k): _plain(v, made, done, depth + 1) for k, v in value.items()})
        return out
    if isinstance(value, (list, tuple)):
        listed: list[Any] = []
        done[id(value)] = listed
        listed.extend(_plain(v, made, done, depth + 1) for v in value)
        return listed
    return value if isinstance(value, (str, int, float, bool, type(None))) else None


def _module_tensors(module: Inert, prefix: str, made: dict[int, Any], visited: list[int]) -> Iterator[tuple[str, Any]]:
    """State of a pickled ``nn.Module`` from its dictionaries, in the order of ``state_dict``."""
    visited[0] += 1
    if visited[0] > MOST_MODULES or prefix.count(".") > 100:
        raise UnsafeInput(f"the pickle nests more than {MOST_MODULES} modules, or more than 100 deep: no network does")
    state = module.state
    transient = state.get("_non_persistent_buffers_set")
    skip = set(transient) if isinstance(transient, (set, list, tuple)) else set()
    for part in ("_parameters", "_buffers"):
        tensors = state.get(part)
        for name, value in tensors.items() if isinstance(tensors, Mapping) else ():
            if isinstance(value, TensorRef) and name not in skip:
                yield f"{prefix}{name}", made[id(value)]
    children = state.get("_modules")
    for name, child in children.items() if isinstance(children, Mapping) else ():
        if isinstance(child, Inert):
            yield from _module_tensors(child, f"{prefix}{name}.", made, visited)


def convert(
    path: str | Path,
    out: str | Path,
    *,
    card: WeightsCard | Mapping[str, Any] | None = None,
    part: str = "",
    overwrite: bool = False,
) -> Path:
    """Turn a foreign checkpoint, pickled modules included, into safetensors with a card; nothing in it is executed.

    Parameters
    ----------
    path : path
        PyTorch file (zip or legacy), or a plain pickle that holds one.
    out : path
        The safetensors file.
    card : WeightsCard or mapping, optional
        Fields that you know: model, constructor, wavelengths, licence, ...
    part : str
        Dotted key of the tensors to take, where the file holds several networks.
    overwrite : bool

    Returns
    -------
    Path

    Raises
    ------
    ProductNotFound, BadWeights, UnsafeInput, OutputExists, OutputFailed
    """
    path, out = Path(path).expanduser(), Path(out).expanduser()
    if out.suffix != ".safetensors":
        raise BadWeights(f"{out}: weights are converted to safetensors, expected a name that ends in .safetensors")
    if out.exists() and not overwrite:
        raise OutputExists(f"{out} exists: choose another name or say overwrite")
    state = strip_prefixes(unwrap(read_foreign(path), str(path), part))
    if not isinstance(card, WeightsCard):
        fields = {"name": slug(out.stem), "source": f"converted from {path.name}", **dict(card or {})}
        card = make_card(fields, where=str(path))
    return save(out, state, card, overwrite=overwrite)
