"""Unmixing: vertex component analysis, fully constrained abundances, scores."""

import unmixing_networks
import unmixing_peers
import unmixing_problem
from parity_case import Unsupported

from torchspectral.ops.fcls import fcls
from torchspectral.unmixing import scoring


def run(case):
    """Outputs of one case."""
    system = case.name.partition("_")[0]
    if system in unmixing_networks.SYSTEMS:
        return unmixing_networks.run(case, system)
    if system in unmixing_peers.SYSTEMS:
        return unmixing_peers.run(system, case)
    if system not in ("fcls", "metrics"):
        raise Unsupported(f"{system} is not built")
    pixels, spectra, shares = unmixing_problem.make(case.params["problem"])
    if system == "fcls":
        return {"abundances": fcls(pixels, spectra)}
    e, a = unmixing_problem.estimates(case.params["problem"])
    return {
        "SADDegrees": scoring.mean_angle(e, spectra, degrees=True),
        "aRMSE": 100 * scoring.rmse(a, shares),
        "eRMSE": 100 * scoring.rmse(e, spectra),
        "SRE": scoring.reconstruction_snr(a, shares),
        "MSEdist": scoring.abundance_distances(a, shares),
        "SADmatrix": scoring.angle_matrix(e, spectra),
    }


run.compare = unmixing_peers.compare
