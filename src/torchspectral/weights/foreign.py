"""Foreign pickled checkpoints, read without importing or calling anything that they name.

The unpickler (`weights.inert`) knows ordered dictionaries, tensor rebuilders and storages. Every other name in the
stream becomes an inert class made on the spot: it can be "called" and "built", which only records what it was given.
Storages are read as bytes afterwards. Nothing of the stream is ever imported, compiled or executed.
"""

from __future__ import annotations

import io
import struct
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torchspectral.errors import BadWeights, OutputExists, ProductNotFound, TorchspectralError, UnsafeInput
from torchspectral.weights.card import WeightsCard, make_card, slug
from torchspectral.weights.files import check_zip, save, strip_prefixes, torch_module, unwrap
from torchspectral.weights.inert import Inert, InertUnpickler, StorageRef, TensorRef

if TYPE_CHECKING:
    import torch

LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
LARGEST_PICKLE = 256 << 20
LARGEST_TENSORS = 64 << 30
MOST_MODULES = 100_000


def _unpickle(file: Any, where: str) -> Any:
    try:
        return InertUnpickler(file).load()
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
