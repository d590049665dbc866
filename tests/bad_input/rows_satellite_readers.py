"""Bad satellite products: Landsat, Hyperion, DESIS, Sentinel-2, STAC items, and new options of EnMAP and PRISMA."""

from __future__ import annotations

import json
import sys
import zipfile
from pathlib import Path

import numpy as np
from table import Row, info, opens

sys.path.insert(0, str(Path(__file__).parents[1] / "io"))
import desis_miniature
import enmap_miniature
import hyperion_miniature
import landsat_miniature
import prisma_miniature
import sentinel2_miniature
import stac_miniature

import torchspectral as ts
from torchspectral.errors import (
    BadSettings,
    BandMismatch,
    BrokenProduct,
    MissingMetadata,
    ProductNotFound,
    TooLarge,
    UnknownName,
    UnknownProduct,
    UnsafeInput,
)

BANDS = [8, 20, 29, 31, 50, 77, 110, 150]
OFFSETS = dict.fromkeys(range(13), -1000.0)


def landsat(change=None, level: int = 2, **more):
    def prepare(folder: Path) -> Path:
        (landsat_miniature.write_l2 if level == 2 else landsat_miniature.write_l1)(folder / "p", **more)
        mtl = next((folder / "p").glob("*_MTL.*"))
        return (change(mtl) if change else None) or mtl

    return prepare


def hyperion(change=None, **more):
    def prepare(folder: Path) -> Path:
        hyperion_miniature.write_scene(folder / "p", bands=BANDS, **more)
        return (change(folder / "p") if change else None) or folder / "p"

    return prepare


def desis(change=None, **more):
    def prepare(folder: Path) -> Path:
        desis_miniature.write_product(folder / "p", **more)
        return (change(folder / "p") if change else None) or folder / "p"

    return prepare


def safe(change=None, level: str = "L2A", **more):
    def prepare(folder: Path) -> Path:
        product, _ = sentinel2_miniature.write_safe(folder, level, **{"offsets": OFFSETS, **more})
        return (change(product) if change else None) or product

    return prepare


def item(assets=None, change=None, **properties):
    def prepare(folder: Path) -> Path:
        stac_miniature.write_asset(folder / "a.tif")
        listed = assets or {"a": stac_miniature.asset("a.tif", 490)}
        path = stac_miniature.write_item(folder, listed, **properties)
        if change:
            path.write_text(change(path.read_text()))
        return path

    return prepare


def edited(old: str, new: str, pattern: str = ""):
    def change(path: Path) -> None:
        file = next(path.rglob(pattern)) if pattern else path
        file.write_text(file.read_text().replace(old, new))

    return change


def removed(pattern: str):
    def change(path: Path) -> None:
        for file in list((path if path.is_dir() else path.parent).rglob(pattern)):
            file.unlink()

    return change


def cut(pattern: str, size: int):
    def change(path: Path) -> None:
        for file in (path if path.is_dir() else path.parent).rglob(pattern):
            file.write_bytes(file.read_bytes()[:size])

    return change


def second_mtl(mtl: Path) -> Path:
    (mtl.parent / "LC08_OTHER_MTL.txt").write_text(mtl.read_text())
    return mtl.parent


def other_size(pattern: str):
    def change(path: Path) -> None:
        folder = path if path.is_dir() else path.parent
        landsat_miniature.write_band(next(folder.rglob(pattern)), np.ones((3, 3), np.uint16))

    return change


def only_l1r(folder: Path) -> Path:
    removed("*")(folder)
    (folder / f"{hyperion_miniature.STEM}.L1R").write_bytes(b"\x0e\x03\x13\x01" + bytes(32))
    return folder


def fewer_in_header(folder: Path) -> None:
    removed("*METADATA*")(folder)
    edited("401.9, ", "", "*.hdr")(folder)


def zipped(extra: str):
    def change(product: Path) -> Path:
        archive = sentinel2_miniature.zip_safe(product, product.parent / "p.zip")
        with zipfile.ZipFile(archive, "a") as out:
            out.writestr(extra, "x")
        return archive

    return change


def s2_bomb(product: Path) -> Path:
    archive = product.parent / "p.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as out:
        out.write(product / "MTD_MSIL2A.xml", f"{product.name}/MTD_MSIL2A.xml")
        out.writestr(f"{product.name}/GRANULE/g/IMG_DATA/R10m/T32TPS_20240830T100559_B02_10m.jp2", b"\0" * (80 << 20))
    return archive


def two_products(product: Path) -> Path:
    (product.parent / "x.SAFE").mkdir()
    (product.parent / "x.SAFE" / "MTD_MSIL2A.xml").write_text("<a/>")
    return product.parent


def prisma(level: str = "L1", **more):
    def prepare(folder: Path) -> Path:
        path = folder / f"PRS_{level}_STD_20210601101112_x.he5"
        prisma_miniature.write_product(path, level, **more)
        return path

    return prepare


def enmap_alone(folder: Path) -> Path:
    meta, values, table = enmap_miniature.write_product(folder / "p")
    meta.unlink()
    image = next(meta.parent.glob("*SPECTRAL_IMAGE*"))
    tags = [{"wavelength": str(w), "wavelength_units": "Nanometers", "fwhm": str(f)} for w, f, _ in table]
    enmap_miniature.write_raster(image, values, nodata=-32768, scale=1e-4, tags=tags)
    return image


def huge_item(text: str) -> str:
    document = json.loads(text)
    document["assets"] = {f"a{i}": {"href": "a.tif"} for i in range(5000)}
    return json.dumps(document)


DEEP = '{"type": "Feature", "stac_version": "1.0.0", "assets": ' + "[" * 100000
ROWS = [
    Row("landsat-no-bands", opens(), BrokenProduct, "SR_B1.TIF", cli=info, prepare=landsat(removed("*.TIF"))),
    Row("landsat-cut", opens(reader="landsat"), BrokenProduct, "cut off", prepare=landsat(edited("END_GROUP = LANDSAT_METADATA_FILE", ""))),
    Row("landsat-line", opens(reader="landsat"), BrokenProduct, "KEY = VALUE", prepare=landsat(edited("CLOUD_COVER = 12.5", "what"))),
    Row("landsat-json", opens(reader="landsat"), BrokenProduct, "no readable JSON",
        prepare=landsat(edited('"LANDSAT_METADATA_FILE"', "{"), as_json=True)),
    Row("landsat-other", opens(reader="landsat"), BrokenProduct, "SENTINEL", prepare=landsat(edited("LANDSAT_8", "SENTINEL"))),
    Row("landsat-path", opens(), UnsafeInput, "plain name", prepare=landsat(edited('"LC08_L2SP_193024_20210601_20210609_02_T1_SR_B3', '"../x'))),
    Row("landsat-two", opens(reader="landsat"), BrokenProduct, "2 Landsat products", prepare=landsat(second_mtl)),
    Row("landsat-factors", opens(), MissingMetadata, "coefficients", prepare=landsat(edited("_MULT_", "_M_"))),
    Row("landsat-quantity", opens(quantity="temperature"), BadSettings, "reflectance or radiance", prepare=landsat()),
    Row("landsat-radiance", opens(quantity="radiance"), MissingMetadata, "surface reflectance only", prepare=landsat()),
    Row("landsat-layer", opens(layers=["clouds"]), UnknownName, "cloud", prepare=landsat()),
    Row("landsat-truncated", lambda p: ts.open(p).values, BrokenProduct, "cannot be (opened|read)",
        prepare=landsat(cut("*_SR_B2.TIF", 200))),
    Row("hyperion-hdf4", opens(), UnknownProduct, "HDF4", cli=info, prepare=hyperion(only_l1r)),
    Row("hyperion-size", opens(), BrokenProduct, "must agree", prepare=hyperion(other_size("*B029*"))),
    Row("hyperion-overlap", opens(overlap="mean"), BadSettings, "average", prepare=hyperion()),
    Row("hyperion-layer", opens(layers=["cloud"]), UnknownName, "nodata", prepare=hyperion()),
    Row("hyperion-cut", lambda p: ts.open(p).values, BrokenProduct, "cannot be (opened|read)", prepare=hyperion(cut("*B020*", 150))),
    Row("hyperion-mtl", opens(reader="hyperion"), BrokenProduct, "cut off", prepare=hyperion(edited("END_GROUP = L1_METADATA_FILE", "", "*MTL*"))),
    Row("desis-no-image", opens(reader="desis"), BrokenProduct, "image is missing", prepare=desis(removed("*SPECTRAL_IMAGE.tif"))),
    Row("desis-no-bands", opens(), MissingMetadata, r"METADATA.xml and -SPECTRAL_IMAGE.hdr", cli=info,
        prepare=desis(xml=False, header=False)),
    Row("desis-count", opens(), BandMismatch, "11 wavelengths but 12 fwhm", prepare=desis(fewer_in_header)),
    Row("desis-differ", opens(), BrokenProduct, "of one product", prepare=desis(gain_in_header=3.0)),
    Row("desis-entity", opens(), UnsafeInput, "document type",
        prepare=desis(edited("<hsi_doc", '<!DOCTYPE a [<!ENTITY b "c">]><hsi_doc', "*METADATA*"))),
    Row("desis-wavelength", opens(), BrokenProduct, "band 1 no wavelengthCenterOfBand",
        prepare=desis(edited("<wavelengthCenterOfBand>401.9<", "<wavelengthCenterOfBand><", "*METADATA*"))),
    Row("desis-layer-size", opens(layers=["shadow"]), BrokenProduct, "3 x 3 pixels", prepare=desis(other_size("*QUALITY-2*"))),
    Row("desis-layer", opens(layers=["clouds"]), UnknownName, "cloud", prepare=desis()),
    Row("s2-no-images", opens(), BrokenProduct, "no band images", cli=info, prepare=safe(removed("T32TPS*"))),
    Row("s2-entity", opens(), UnsafeInput, "document type",
        prepare=safe(edited("<n1:Level-2A_U", '<!DOCTYPE a [<!ENTITY b "c">]><n1:Level-2A_U', "MTD_MSIL2A.xml"))),
    Row("s2-xml-cut", opens(), BrokenProduct, "no readable XML", prepare=safe(cut("MTD_MSIL2A.xml", 900))),
    Row("s2-quantification", opens(), MissingMetadata, "QUANTIFICATION_VALUE", prepare=safe(quantification=False)),
    Row("s2-offset", opens(), MissingMetadata, "BOA_ADD_OFFSET", prepare=safe(offsets=None)),
    Row("s2-resolution", opens(resolution=30), BadSettings, "10, 20 or 60", prepare=safe()),
    Row("s2-resample", opens(resample="cubic"), BadSettings, "none, repeat, product", prepare=safe()),
    Row("s2-given", opens(boa_offset="x"), BadSettings, "such as -1000", prepare=safe()),
    Row("s2-two", opens(reader="sentinel2"), BrokenProduct, "2 Sentinel-2 products", prepare=safe(two_products)),
    Row("s2-zip-path", opens(reader="sentinel2"), UnsafeInput, "leads out", prepare=safe(zipped("../../x.txt"))),
    Row("s2-zip-bomb", opens(reader="sentinel2"), UnsafeInput, "unpacks", prepare=safe(s2_bomb)),
    Row("s2-image-cut", lambda p: ts.open(p).values, BrokenProduct, "cannot be (opened|read)", prepare=safe(cut("*_B03_10m.jp2", 120))),
    Row("s2-layer", opens(layers=["clouds"]), UnknownName, "cloud", prepare=safe()),
    Row("stac-file", opens(), UnsafeInput, "file: URL", cli=info, prepare=item({"a": stac_miniature.asset("file:a.tif", 490)})),
    Row("stac-remote", opens(), UnsafeInput, "nothing is fetched", cli=info,
        prepare=item({"a": stac_miniature.asset("https://host/far.tif", 490)})),
    Row("stac-up", opens(), UnsafeInput, "leads out", prepare=item({"a": stac_miniature.asset("../a.tif", 490)})),
    Row("stac-absolute", opens(), UnsafeInput, "absolute path", prepare=item({"a": stac_miniature.asset("/etc/a.tif", 490)})),
    Row("stac-missing", opens(), ProductNotFound, "b.tif", prepare=item({"a": stac_miniature.asset("b.tif", 490)})),
    Row("stac-none", opens(reader="stac"), BrokenProduct, "without assets",
        prepare=item(change=lambda t: '{"type": "Feature", "stac_version": "1", "assets": {}}')),
    Row("stac-deep", opens(reader="stac"), BrokenProduct, "no readable JSON", prepare=item(change=lambda t: DEEP)),
    Row("stac-collection", opens(reader="stac"), BrokenProduct, "no STAC item", prepare=item(change=lambda t: t.replace('"Feature"', '"Collection"'))),
    Row("stac-many", opens(reader="stac"), TooLarge, "5000 assets", prepare=item(change=huge_item)),
    Row("stac-assets", opens(assets=["z"]), UnknownName, "no asset 'z'", prepare=item()),
    Row("stac-no-choice", opens(assets=[]), BadSettings, "expected keys", prepare=item()),
    Row("stac-layer", opens(layers=["z"]), UnknownName, "no layer 'z'", prepare=item()),
    Row("enmap-average-alone", opens(overlap="average"), MissingMetadata, "METADATA.XML", prepare=enmap_alone),
    Row("enmap-average-l1b", opens(overlap="average"), BadSettings, "not registered",
        prepare=lambda folder: enmap_miniature.write_product(folder / "p", "L1B", gain=1e-6)[0]),
    Row("prisma-average", opens(overlap="average", registered=False), BadSettings, "not registered",
        prepare=prisma(registered=False)),
    Row("prisma-map", opens(wavelength_map="yes"), BadSettings, "True or False", prepare=prisma()),
    Row("prisma-grid", opens(grid="utm"), BadSettings, "swath or l2d", prepare=prisma()),
    Row("prisma-l2d-missing", opens(grid="l2d"), ProductNotFound, "L2D_STD", prepare=prisma("L2C")),
    Row("prisma-registered", opens(registered=False), BrokenProduct, "HRC", prepare=prisma()),
]  # fmt: skip
