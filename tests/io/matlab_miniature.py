"""Writes miniature benchmark scenes as .mat files of both versions; shares nothing with the reader."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import scipy.io

# Spec: scene, file, key, (rows, columns, bands), key of the labels, number of classes.
SCENES = [
    ("Indian Pines", "Indian_pines_corrected", "indian_pines_corrected", (145, 145, 200), "indian_pines_gt", 16),
    ("Salinas", "Salinas_corrected", "salinas_corrected", (512, 217, 204), "salinas_gt", 16),
    ("Salinas-A", "SalinasA_corrected", "salinasA_corrected", (83, 86, 204), "salinasA_gt", 16),
    ("Pavia University", "PaviaU", "paviaU", (610, 340, 103), "paviaU_gt", 9),
    ("Pavia Centre", "Pavia", "pavia", (1096, 715, 102), "pavia_gt", 9),
    ("KSC", "KSC", "KSC", (512, 614, 176), "KSC_gt", 13),
    ("Botswana", "Botswana", "Botswana", (1476, 256, 145), "Botswana_gt", 14),
    ("LongKou", "WHU_Hi_LongKou", "WHU_Hi_LongKou", (550, 400, 270), "WHU_Hi_LongKou_gt", 9),
    ("HanChuan", "WHU_Hi_HanChuan", "WHU_Hi_HanChuan", (1217, 303, 274), "WHU_Hi_HanChuan_gt", 16),
    ("HongHu", "WHU_Hi_HongHu", "WHU_Hi_HongHu", (940, 475, 270), "WHU_Hi_HongHu_gt", 22),
]
CLASSES = {"f8": "double", "f4": "single", "i2": "int16", "u2": "uint16", "u1": "uint8", "i4": "int32"}


def save(path: Path, version: str, **variables: np.ndarray) -> Path:
    """v5 through scipy (compressed); v7.3 as MATLAB lays HDF5 out: axes reversed, class as an attribute."""
    if version == "v5":
        scipy.io.savemat(path, variables, do_compression=True)
        return path
    with h5py.File(path, "w", userblock_size=512) as file:
        for name, value in variables.items():
            dataset = file.create_dataset(name, data=np.asarray(value).transpose(), compression="gzip")
            dataset.attrs["MATLAB_class"] = np.bytes_(CLASSES[value.dtype.str[1:]])
    with path.open("r+b") as file:
        file.write(b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(124) + b"\x00\x02IM")
    return path


def scene(
    folder: Path, row: tuple, version: str, *, sizes: tuple[int, int, int] | None = None
) -> dict[str, np.ndarray]:
    """One scene and its labels, cut to a few bands where `sizes` says so."""
    _, stem, key, published, labels_key, classes = row
    rows, cols, bands = sizes or published
    # Rows and columns repeat, so that large scenes pack well.
    cube = (np.arange(rows)[:, None, None] * 7 + np.arange(cols)[None, :, None] * 3 + np.arange(bands)) % 8192
    gt = (np.arange(rows * cols).reshape(rows, cols) % (classes + 1)).astype(np.uint8)
    save(folder / f"{stem}.mat", version, **{key: cube.astype(np.uint16)})
    save(folder / f"{labels_key}.mat", version, **{labels_key: gt})
    return {"cube": cube.astype(np.uint16), "labels": gt}
