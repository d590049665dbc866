"""The table of spectral indices: formulas on reflectance at given wavelengths."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Index:
    """One spectral index.

    Attributes
    ----------
    name, title : str
    bands : dict of str to float
        Wavelength of each symbol of the formula [nm].
    text : str
        Formula in those symbols.
    compute : callable
        The formula on arrays, in the order of `bands`.
    tolerance : float
        How far a band's centre may lie from the wavelength [nm]; half the band's FWHM counts where it is larger.
    reference : str
    reflectance : bool
        Whether the formula has constants that only fit reflectance (0..1).
    unit : str
        Of the result; "1" for plain numbers.
    """

    name: str
    title: str
    bands: Mapping[str, float]
    text: str
    compute: Callable[..., np.ndarray]
    tolerance: float
    reference: str
    reflectance: bool = False
    unit: str = "1"


def _difference(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return (a - b) / (a + b)


def _ratio(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return a / b


def _evi(nir: np.ndarray, red: np.ndarray, blue: np.ndarray) -> np.ndarray:
    return 2.5 * (nir - red) / (nir + 6 * red - 7.5 * blue + 1)


def _evi2(nir: np.ndarray, red: np.ndarray) -> np.ndarray:
    return 2.5 * (nir - red) / (nir + 2.4 * red + 1)


def _savi(nir: np.ndarray, red: np.ndarray) -> np.ndarray:
    return 1.5 * (nir - red) / (nir + red + 0.5)


def _osavi(nir: np.ndarray, red: np.ndarray) -> np.ndarray:
    return 1.16 * (nir - red) / (nir + red + 0.16)


def _mcari(r550: np.ndarray, r670: np.ndarray, r700: np.ndarray) -> np.ndarray:
    return ((r700 - r670) - 0.2 * (r700 - r550)) * (r700 / r670)


def _tcari(r550: np.ndarray, r670: np.ndarray, r700: np.ndarray) -> np.ndarray:
    return 3 * ((r700 - r670) - 0.2 * (r700 - r550) * (r700 / r670))


def _mtci(r681: np.ndarray, r709: np.ndarray, r754: np.ndarray) -> np.ndarray:
    return (r754 - r709) / (r709 - r681)


def _rep(r670: np.ndarray, r700: np.ndarray, r740: np.ndarray, r780: np.ndarray) -> np.ndarray:
    return 700 + 40 * ((r670 + r780) / 2 - r700) / (r740 - r700)


def _less_one(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return a / b - 1


def _inverse(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return 1 / a - 1 / b


def _sipi(r445: np.ndarray, r680: np.ndarray, r800: np.ndarray) -> np.ndarray:
    return (r800 - r445) / (r800 - r680)


def _psri(r500: np.ndarray, r678: np.ndarray, r750: np.ndarray) -> np.ndarray:
    return (r678 - r500) / r750


def _cai(r2000: np.ndarray, r2100: np.ndarray, r2200: np.ndarray) -> np.ndarray:
    return 0.5 * (r2000 + r2200) - r2100


def _log_difference(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return (np.log10(1 / a) - np.log10(1 / b)) / (np.log10(1 / a) + np.log10(1 / b))


def _bai(nir: np.ndarray, red: np.ndarray) -> np.ndarray:
    return 1 / ((0.1 - red) ** 2 + (0.06 - nir) ** 2)


def _bsi(blue: np.ndarray, red: np.ndarray, nir: np.ndarray, swir: np.ndarray) -> np.ndarray:
    return ((swir + red) - (nir + blue)) / ((swir + red) + (nir + blue))


_NARROW, _MEDIUM, _BROAD = 6.0, 12.0, 25.0

INDICES: tuple[Index, ...] = (
    # Greenness
    Index("NDVI", "normalised difference vegetation index", {"nir": 800, "red": 670}, "(nir - red) / (nir + red)",
          _difference, _BROAD, "Rouse et al. 1974, NASA SP-351"),
    Index("GNDVI", "green normalised difference vegetation index", {"nir": 800, "green": 550},
          "(nir - green) / (nir + green)", _difference, _BROAD, "Gitelson et al. 1996, RSE 58"),
    Index("NDRE", "normalised difference red edge", {"r790": 790, "r720": 720}, "(r790 - r720) / (r790 + r720)",
          _difference, _MEDIUM, "Barnes et al. 2000, Proc. 5th Int. Conf. Precision Agriculture"),
    Index("EVI", "enhanced vegetation index", {"nir": 850, "red": 660, "blue": 470},
          "2.5 * (nir - red) / (nir + 6 * red - 7.5 * blue + 1)", _evi, _BROAD, "Huete et al. 2002, RSE 83", True),
    Index("EVI2", "enhanced vegetation index without blue", {"nir": 850, "red": 660},
          "2.5 * (nir - red) / (nir + 2.4 * red + 1)", _evi2, _BROAD, "Jiang et al. 2008, RSE 112", True),
    Index("SAVI", "soil-adjusted vegetation index", {"nir": 800, "red": 670},
          "1.5 * (nir - red) / (nir + red + 0.5)", _savi, _BROAD, "Huete 1988, RSE 25 (L = 0.5)", True),
    Index("OSAVI", "optimised soil-adjusted vegetation index", {"nir": 800, "red": 670},
          "1.16 * (nir - red) / (nir + red + 0.16)", _osavi, _BROAD, "Rondeaux et al. 1996, RSE 55", True),
    # Pigments and red edge
    Index("MCARI", "modified chlorophyll absorption ratio index", {"r550": 550, "r670": 670, "r700": 700},
          "((r700 - r670) - 0.2 * (r700 - r550)) * (r700 / r670)", _mcari, _NARROW,
          "Daughtry et al. 2000, RSE 74", True),
    Index("TCARI", "transformed chlorophyll absorption ratio index", {"r550": 550, "r670": 670, "r700": 700},
          "3 * ((r700 - r670) - 0.2 * (r700 - r550) * (r700 / r670))", _tcari, _NARROW,
          "Haboudane et al. 2002, RSE 81", True),
    Index("MTCI", "MERIS terrestrial chlorophyll index", {"r681": 681.25, "r709": 708.75, "r754": 753.75},
          "(r754 - r709) / (r709 - r681)", _mtci, _NARROW, "Dash and Curran 2004, IJRS 25"),
    Index("REP", "red edge position, linear four-point", {"r670": 670, "r700": 700, "r740": 740, "r780": 780},
          "700 + 40 * ((r670 + r780) / 2 - r700) / (r740 - r700)", _rep, _NARROW, "Guyot and Baret 1988, ESA SP-287",
          unit="nm"),
    Index("CIRE", "red edge chlorophyll index", {"r790": 790, "r710": 710}, "r790 / r710 - 1", _less_one, _MEDIUM,
          "Gitelson et al. 2003, J. Plant Physiol. 160"),
    Index("CRI1", "carotenoid reflectance index 1", {"r510": 510, "r550": 550}, "1 / r510 - 1 / r550", _inverse,
          _NARROW, "Gitelson et al. 2002, Photochem. Photobiol. 75", True),
    Index("ARI1", "anthocyanin reflectance index 1", {"r550": 550, "r700": 700}, "1 / r550 - 1 / r700", _inverse,
          _NARROW, "Gitelson et al. 2001, Photochem. Photobiol. 74", True),
    Index("SIPI", "structure-insensitive pigment index", {"r445": 445, "r680": 680, "r800": 800},
          "(r800 - r445) / (r800 - r680)", _sipi, _NARROW, "Penuelas et al. 1995, Photosynthetica 31"),
    Index("PSRI", "plant senescence reflectance index", {"r500": 500, "r678": 678, "r750": 750},
          "(r678 - r500) / r750", _psri, _NARROW, "Merzlyak et al. 1999, Physiol. Plant. 106"),
    Index("PRI", "photochemical reflectance index", {"r531": 531, "r570": 570}, "(r531 - r570) / (r531 + r570)",
          _difference, _NARROW, "Gamon et al. 1992, RSE 41; sign of Penuelas et al. 1995"),
    # Water
    Index("NDWI", "normalised difference water index, open water", {"green": 560, "nir": 830},
          "(green - nir) / (green + nir)", _difference, _BROAD, "McFeeters 1996, IJRS 17"),
    Index("MNDWI", "modified normalised difference water index", {"green": 560, "swir": 1610},
          "(green - swir) / (green + swir)", _difference, _BROAD, "Xu 2006, IJRS 27"),
    Index("NDWI1240", "normalised difference water index, canopy water", {"r857": 857, "r1241": 1241},
          "(r857 - r1241) / (r857 + r1241)", _difference, _MEDIUM, "Gao 1996, RSE 58"),
    Index("NDMI", "normalised difference moisture index", {"nir": 860, "swir": 1640}, "(nir - swir) / (nir + swir)",
          _difference, _BROAD, "Hardisky et al. 1983, PE&RS 49"),
    Index("MSI", "moisture stress index", {"r1599": 1599, "r819": 819}, "r1599 / r819", _ratio, _MEDIUM,
          "Hunt and Rock 1989, RSE 30"),
    Index("WBI", "water band index", {"r900": 900, "r970": 970}, "r900 / r970", _ratio, _NARROW,
          "Penuelas et al. 1993, IJRS 14"),
    # Litter, lignin, nitrogen
    Index("CAI", "cellulose absorption index", {"r2000": 2000, "r2100": 2100, "r2200": 2200},
          "0.5 * (r2000 + r2200) - r2100", _cai, _MEDIUM, "Daughtry 2001, Agron. J. 93", True),
    Index("NDLI", "normalised difference lignin index", {"r1754": 1754, "r1680": 1680},
          "(log10(1 / r1754) - log10(1 / r1680)) / (log10(1 / r1754) + log10(1 / r1680))", _log_difference, _MEDIUM,
          "Serrano et al. 2002, RSE 81", True),
    Index("NDNI", "normalised difference nitrogen index", {"r1510": 1510, "r1680": 1680},
          "(log10(1 / r1510) - log10(1 / r1680)) / (log10(1 / r1510) + log10(1 / r1680))", _log_difference, _MEDIUM,
          "Serrano et al. 2002, RSE 81", True),
    # Fire, snow, built-up, soil, minerals
    Index("NBR", "normalised burn ratio", {"nir": 850, "swir": 2200}, "(nir - swir) / (nir + swir)", _difference,
          _BROAD, "Key and Benson 2006, USDA RMRS-GTR-164"),
    Index("BAI", "burned area index", {"nir": 850, "red": 660}, "1 / ((0.1 - red) ** 2 + (0.06 - nir) ** 2)", _bai,
          _BROAD, "Chuvieco et al. 2002, IJRS 23", True),
    Index("NDSI", "normalised difference snow index", {"green": 560, "swir": 1640}, "(green - swir) / (green + swir)",
          _difference, _BROAD, "Hall et al. 1995, RSE 54"),
    Index("NDBI", "normalised difference built-up index", {"swir": 1640, "nir": 830}, "(swir - nir) / (swir + nir)",
          _difference, _BROAD, "Zha et al. 2003, IJRS 24"),
    Index("BSI", "bare soil index", {"blue": 480, "red": 660, "nir": 850, "swir": 1640},
          "((swir + red) - (nir + blue)) / ((swir + red) + (nir + blue))", _bsi, _BROAD,
          "Rikimaru et al. 2002, Trop. Ecol. 43"),
    Index("CLAY", "clay (hydroxyl) ratio", {"r1650": 1650, "r2200": 2200}, "r1650 / r2200", _ratio, _BROAD,
          "Sabins 1999, Ore Geol. Rev. 14 (TM5 / TM7)"),
    Index("FERRIC", "ferric iron (iron oxide) ratio", {"red": 660, "blue": 480}, "red / blue", _ratio, _BROAD,
          "Sabins 1999, Ore Geol. Rev. 14 (TM3 / TM1)"),
    Index("FERROUS", "ferrous minerals ratio", {"swir": 1650, "nir": 830}, "swir / nir", _ratio, _BROAD,
          "Segal 1982, Int. Symp. Remote Sensing of Environment (TM5 / TM4)"),
)  # fmt: skip
