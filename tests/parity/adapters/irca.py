"""IRCA: image formation, characterisation and inversion of multi-aperture Fabry-Perot spectrometers."""

import irca_problem
from parity_case import Unsupported

from torchspectral.calibration import interferometer as fp


def run(case):
    """Outputs of one case."""
    part = case.name.partition("_")[0]
    if part == "forward":
        i = irca_problem.doubles(case)
        phi = fp.phase(i["opd"], irca_problem.axis(case.params["wavenumber"]), i["phase_shift"])
        options = irca_problem.forms(case)
        return {name: fp.transfer(phi, i["reflectivity"], i["gain"], **more) for name, more in options.items()}
    if part == "characterize":
        lines = fp.read_acquisition(irca_problem.folder(case)).rows(case.params["rows"])
        start, found = (fp.characterise(lines, recipe=r, solver="trf") for r in (lines.recipe.steps[:1], None))
        first = {f"ml_{n}": getattr(start, n) for n in ("opd", "reflectivity", "phase_shift")}
        names = ("opd", "phase_shift", "rmse")
        return first | {n: getattr(found, n) for n in names} | {"transfer": found.transfer(lines.wavenumber)}
    if part == "inversion":
        p = irca_problem.inversion(case)
        phi = fp.phase(p.opd, p.wavenumber, p.shift)
        whole, cut = (fp.fabry_perot(phi, p.t, p.r, order, correct_transmittance=p.correct) for order in (0, p.order))
        y = p.noisy(whole @ p.spectra)
        found = {name: fp.invert(y, whole, method, **options) for name, (method, options) in p.methods.items()}
        return found | {"transfer": whole, "transfer_3wave": cut, "interferogram": y}
    raise Unsupported(f"{part} is not built")


run.compare = irca_problem.compare
