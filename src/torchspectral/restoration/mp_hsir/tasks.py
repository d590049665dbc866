"""MP-HSIR: tasks by name, their numbers, and the text features of their prompts. Nothing here needs torch."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from torchspectral.errors import BadInput, BadSettings, ProductNotFound, UnknownName, closest

NATURAL = ("gaussian", "complex", "blur", "sr", "inpaint", "bands")
"""Tasks of the configuration for natural scenes, in the order of their numbers."""
REMOTE = ("gaussian", "complex", "blur", "sr", "inpaint", "haze", "bands")
"""The same for remote sensing."""

PROMPTS = {
    "gaussian": "A hyperspectral image corrupted by Gaussian noise.",
    "complex": "A hyperspectral image affected by complex noise patterns.",
    "blur": "A hyperspectral image degraded by Gasussian blur.",
    "sr": "A hyperspectral image with reduced spatial resolution.",
    "inpaint": "A hyperspectral image compressed to a certain ratio.",
    "haze": "A hyperspectral image degraded by atmospheric haze.",
    "bands": "A hyperspectral image with missing spectral bands.",
}
"""What the text encoder (CLIP ViT-B/32 of OpenAI) is given, to the letter, misprint included."""

WORDS = {
    "denoise": "gaussian",
    "poisson": "gaussian",
    "destripe": "complex",
    "deblur": "blur",
    "motion": "gaussian",
    "superres": "sr",
    "inpaint": "inpaint",
    "dehaze": "haze",
    "bands": "bands",
    "real": "complex",
}
"""What a user asks for, and the trained task that answers; motion blur and Poisson noise answer to Gaussian noise, real
noise to complex noise, as in the paper."""

LARGEST_FILE = 16 << 20
TEXT = 512


def task_names(count: int) -> tuple[str, ...] | None:
    """Names of the tasks of a network with `count` of them; None where only numbers are known."""
    return {len(NATURAL): NATURAL, len(REMOTE): REMOTE, 1: ("gaussian",)}.get(count)


def split_tasks(text: str) -> list[str]:
    """The words of a setting such as ``denoise+deblur``; numbers are words too.

    Raises
    ------
    UnknownName, BadSettings
    """
    words = [part.strip().lower() for part in str(text).split("+")]
    for word in words:
        if not (word in WORDS or word in PROMPTS or re.fullmatch(r"[0-9]{1,3}", word)):
            raise UnknownName(f"no task {word!r} (task={text!r}): {closest(word, (*WORDS, *PROMPTS))}")
    if len(set(words)) != len(words):
        raise BadSettings(f"got task={text!r}, expected each task once")
    return words


def task_numbers(text: str, count: int) -> list[int]:
    """Numbers of the tasks of a setting for a network with `count` tasks.

    Raises
    ------
    UnknownName
        No such word.
    BadSettings
        The network was not trained for the task.
    """
    known, found = task_names(count), []
    for word in split_tasks(text):
        if word.isdigit():
            number = int(word)
        elif known is None:
            raise BadSettings(
                f"the weights have {count} tasks of unknown names, got task={text!r}: expected a number, 0 to {count - 1}"
            )
        else:
            name = WORDS.get(word, word)
            if name not in known:
                raise BadSettings(
                    f"the weights know the {count} tasks {', '.join(known)} and not {name!r} (task={text!r}): take "
                    f"weights with {len(REMOTE)} tasks (remote sensing), or another task"
                )
            number = known.index(name)
        if number >= count:
            raise BadSettings(f"got task={text!r}, expected a number of the weights' tasks, 0 to {count - 1}")
        found.append(number)
    if len(set(found)) != len(found):
        raise BadSettings(f"got task={text!r}, but two of these are one task to the network: name it once")
    return found


def read_text_features(path: Path | str) -> np.ndarray:
    """Text features of the prompts from a file.

    Parameters
    ----------
    path : path
        ``.npy``, or ``.safetensors`` with one tensor or one named ``text_features``; a row a task, in the order of
        the numbers: what the text encoder of CLIP ViT-B/32 gives for `PROMPTS`, not normalised.

    Returns
    -------
    ndarray of float32, shape (tasks, 512)

    Raises
    ------
    ProductNotFound, BadInput
    """
    path = Path(path)
    if not path.is_file():
        raise ProductNotFound(f"{path}: there is no such file of text features")
    if path.stat().st_size > LARGEST_FILE:
        raise BadInput(f"{path}: {path.stat().st_size} bytes are too many for text features, expected tasks x {TEXT}")
    try:
        array = _stored(path)
    except (ValueError, OSError, EOFError, SyntaxError) as error:
        line = " ".join(str(error).split())[:120]
        raise BadInput(f"{path}: cannot be read as text features ({line}): give a .npy or .safetensors file") from None
    if array.ndim != 2 or array.shape[1] != TEXT or not 1 <= array.shape[0] <= 64 or array.dtype.kind != "f":
        raise BadInput(
            f"{path}: got {array.dtype} of shape {array.shape}, expected floats of shape (tasks, {TEXT}): a row a task, "
            "from CLIP ViT-B/32"
        )
    if not np.isfinite(array).all():
        raise BadInput(f"{path}: the text features have values that are not finite: compute them again")
    return array.astype(np.float32)


def _stored(path: Path) -> np.ndarray:
    if path.suffix == ".npy":
        return np.asarray(np.load(path, allow_pickle=False))
    if path.suffix != ".safetensors":
        raise ValueError(f"a file name that ends in {path.suffix or 'nothing'}")
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        tensors = load_file(path)
    except SafetensorError as error:
        raise ValueError(str(error)) from None
    if "text_features" in tensors:
        return np.asarray(tensors["text_features"])
    if len(tensors) != 1:
        raise ValueError(f"{len(tensors)} tensors, none of them named text_features")
    return np.asarray(next(iter(tensors.values())))
