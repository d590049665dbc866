"""Bad EnMAP and PRISMA products, and bad masks."""

from __future__ import annotations

import sys
import zipfile
from pathlib import Path

import h5py
import numpy as np
from table import Row, info, opens

sys.path.insert(0, str(Path(__file__).parents[1] / "io"))
import enmap_miniature
import prisma_miniature

import torchspectral as ts
from torchspectral.errors import (
    BadInput,
    BadSettings,
    BandMismatch,
    BrokenProduct,
    GridMismatch,
    MissingMetadata,
    UnknownName,
    UnsafeInput,
)
from torchspectral.io.masks import clear_mask


def enmap(change=None, **more):
    """Writes a product, damages it, returns what is opened."""

    def prepare(folder: Path) -> Path:
        meta, _, _ = enmap_miniature.write_product(folder / "p", **more)
        return (change(meta) if change else None) or meta

    return prepare


def image_of(meta: Path) -> Path:
    return next(meta.parent.glob("*SPECTRAL_IMAGE*"))


def without_image(meta: Path) -> None:
    image_of(meta).unlink()


def without_xml(meta: Path) -> Path:
    image = image_of(meta)
    meta.unlink()
    return image


def fewer_bands(meta: Path) -> None:
    enmap_miniature.write_raster(image_of(meta), np.ones((4, 20, 24), np.int16))


def other_size(meta: Path) -> None:
    enmap_miniature.write_raster(next(meta.parent.glob("*QUALITY_CLOUD.*")), np.ones((1, 9, 9), np.uint8))


def cut_image(meta: Path) -> None:
    image = image_of(meta)
    image.write_bytes(image.read_bytes()[:700])


def edited(old: str, new: str):
    def change(meta: Path) -> None:
        meta.write_text(meta.read_text().replace(old, new))

    return change


def zipped(extra: str = "", link: bool = False):
    def change(meta: Path) -> Path:
        archive = enmap_miniature.zip_product(meta.parent, meta.parent.parent / "p.zip")
        with zipfile.ZipFile(archive, "a") as out:
            if extra:
                out.writestr(extra, "x")
            if link:
                entry = zipfile.ZipInfo("link.tif")
                entry.external_attr = 0o120777 << 16
                out.writestr(entry, "/etc/passwd")
        return archive

    return change


def bomb(meta: Path) -> Path:
    archive = meta.parent.parent / "p.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as out:
        out.write(meta, f"x/{meta.name}")
        out.writestr(f"x/{image_of(meta).name}", b"\0" * (80 << 20))
    return archive


def prisma(change=None, level: str = "L2D", **more):
    def prepare(folder: Path) -> Path:
        path = folder / f"PRS_{level}_STD_x.he5"
        prisma_miniature.write_product(path, level, **more)
        if change:
            with h5py.File(path, "a") as file:
                change(file)
        return path

    return prepare


def drop(name: str):
    def change(file: h5py.File) -> None:
        if name in file.attrs:
            del file.attrs[name]
        else:
            del file[name]

    return change


def unused(file: h5py.File) -> None:
    for name in ("Vnir", "Swir"):
        file.attrs[f"List_Cw_{name}"] = np.zeros_like(file.attrs[f"List_Cw_{name}"])


def soft(file: h5py.File) -> None:
    place = "HDFEOS/SWATHS/PRS_L2D_HCO/Data Fields/VNIR_Cube"
    del file[place]
    file[place] = h5py.ExternalLink("elsewhere.h5", "/x")


def external(file: h5py.File) -> None:
    place = "HDFEOS/SWATHS/PRS_L2D_HCO/Data Fields/VNIR_Cube"
    del file[place]
    file.create_dataset(place, (7, 66, 9), np.uint16, external=[("/etc/passwd", 0, h5py.h5f.UNLIMITED)])


CUBE = "HDFEOS/SWATHS/PRS_L2D_HCO/Data Fields/SWIR_Cube"
ROWS = [
    Row("enmap-no-image", opens(), BrokenProduct, "spectral image is missing", cli=info, prepare=enmap(without_image)),
    Row("enmap-no-xml", opens(), MissingMetadata, r"METADATA\.XML beside it", cli=info, prepare=enmap(without_xml)),
    Row("enmap-bands", opens(), BandMismatch, "4 bands but the XML describes 36", prepare=enmap(fewer_bands)),
    Row(
        "enmap-truncated",
        lambda path: ts.open(path).values,
        BrokenProduct,
        "cannot be (opened|read)",
        prepare=enmap(cut_image),
    ),
    Row(
        "enmap-xml-cut",
        opens(reader="enmap"),
        BrokenProduct,
        "no readable XML",
        prepare=enmap(edited("</level_X>", "")),
    ),
    Row(
        "enmap-xml-entity",
        opens(),
        UnsafeInput,
        "document type",
        prepare=enmap(edited("<level_X", '<!DOCTYPE a [<!ENTITY b "c">]><level_X')),
    ),
    Row(
        "enmap-no-wavelength",
        opens(),
        BrokenProduct,
        "gives band 5 no wavelength",
        prepare=enmap(edited("<wavelengthCenterOfBand>847.6<", "<wavelengthCenterOfBand>?<")),
    ),
    Row("enmap-no-bands", opens(reader="enmap"), BrokenProduct, "bandID", prepare=enmap(edited("bandID", "band"))),
    Row("enmap-no-gain", opens(), MissingMetadata, "GainOfBand", prepare=enmap(edited("GainOfBand", "Gain"))),
    Row("enmap-scales-differ", opens(), BrokenProduct, "give scale=", prepare=enmap(scale=5e-4)),
    Row("enmap-overlap", opens(overlap="mean"), BadSettings, "wavelength, detector, vnir, swir", prepare=enmap()),
    Row("enmap-option", opens(overlapp="vnir"), BadSettings, "overlap", prepare=enmap()),
    Row("enmap-layer", opens(layers=["clouds"]), UnknownName, "cloud", prepare=enmap()),
    Row("enmap-layer-size", opens(layers=["cloud"]), BrokenProduct, "9 x 9 pixels", prepare=enmap(other_size)),
    Row("enmap-zip-escape", opens(reader="enmap"), UnsafeInput, "leads out", prepare=enmap(zipped("../up.txt"))),
    Row("enmap-zip-link", opens(reader="enmap"), UnsafeInput, "link", prepare=enmap(zipped(link=True))),
    Row("enmap-zip-bomb", opens(reader="enmap"), UnsafeInput, "unpacks", prepare=enmap(bomb)),
    Row("enmap-box", opens(bbox=(0, 0, 1, 1)), GridMismatch, r"spans 362175.*deg", prepare=enmap()),
    Row("prisma-no-cube", opens(), BrokenProduct, "SWIR_Cube", cli=info, prepare=prisma(drop(CUBE))),
    Row("prisma-no-centres", opens(), MissingMetadata, "List_Cw_Swir", prepare=prisma(drop("List_Cw_Swir"))),
    Row("prisma-no-scale", opens(), MissingMetadata, "L2ScaleSwirMin", prepare=prisma(drop("L2ScaleSwirMax"))),
    Row(
        "prisma-no-factor",
        opens(),
        MissingMetadata,
        "ScaleFactor_Vnir",
        prepare=prisma(drop("ScaleFactor_Vnir"), level="L1"),
    ),
    Row("prisma-all-unused", opens(), BrokenProduct, "none of its bands", prepare=prisma(unused)),
    Row("prisma-corners", opens(), GridMismatch, "pixel_anchor", cli=info, prepare=prisma(anchor="neither")),
    Row("prisma-anchor", opens(pixel_anchor="left"), BadSettings, "auto, center, edge", prepare=prisma()),
    Row("prisma-preset", opens(preset="toolbox"), BadSettings, "toolbox159", prepare=prisma()),
    Row("prisma-preset-bands", opens(preset="toolbox159"), BandMismatch, "66", prepare=prisma(counts=(9, 9))),
    Row("prisma-pan-size", opens(layers=["pan"]), BrokenProduct, "6 times", prepare=prisma(pan="odd")),
    Row("prisma-link", opens(reader="prisma"), UnsafeInput, "links to another file", prepare=prisma(soft)),
    Row("prisma-external", opens(reader="prisma"), UnsafeInput, "another file", prepare=prisma(external)),
    Row("prisma-is-not", opens(reader="prisma"), BrokenProduct, "PRS_", prepare=prisma(drop("HDFEOS"))),
    Row("mask-rule", lambda path: clear_mask(path, "clean"), UnknownName, "clear", prepare=enmap()),
    Row("mask-none", lambda path: clear_mask(path, "saturated"), BadInput, "none of the flags", prepare=enmap()),
    Row("mask-values", lambda path: clear_mask(path, flagged=[1]), BadSettings, "one-band", prepare=enmap()),
]
