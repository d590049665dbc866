"""Devices: from the user's word to a torch device, and fixed thread counts."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from torchspectral.errors import BadSettings

if TYPE_CHECKING:
    import torch


def parse_device(name: str) -> torch.device:
    """Turn ``auto``, ``cpu``, ``cuda`` or ``cuda:N`` into a device.

    Raises
    ------
    BadSettings
        Another word, or a device that this machine does not have.
    """
    import torch

    word = str(name).strip().lower()
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", word):
        raise BadSettings(f"got device {name!r}, expected auto, cpu, cuda or cuda:N")
    if word == "auto":
        word = "cuda" if torch.cuda.is_available() else "cpu"
    if word == "cpu":
        return torch.device("cpu")
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if count == 0:
        raise BadSettings(f"got device {name!r}, but torch sees no CUDA device here: use device='cpu'")
    index = int(word.partition(":")[2] or 0)
    if index >= count:
        raise BadSettings(
            f"got device {name!r}, but this machine has {count} CUDA device(s): cuda:0 to cuda:{count - 1}"
        )
    return torch.device("cuda", index)


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute with one thread: a sum over many threads depends on how many there are."""
    torch = sys.modules.get("torch")
    if torch is None:
        yield
        return
    before = torch.get_num_threads()
    if before == 1:
        yield
        return
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
