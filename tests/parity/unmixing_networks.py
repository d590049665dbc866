"""Parity cases of the unmixing networks, as tests/parity/adapters/unmixing.py runs them."""

import re

import torch

import torchspectral as ts
from torchspectral.unmixing.networks.losses import edge_loss, paired_angles
from torchspectral.unmixing.networks.misicnet import misicnet_loss

NAMES = {"cycunet": "cycu-net", "deeptrans": "deeptrans-hsu"}
SETS = {"scale", "size", "patch", "dim", "tied"}
KNOWN = {"nblocks": "blocks", "lambd": "sparsity", "mu": "mu", "z_dim": "latent"}
SPECTRA = {"suncnn": "layer5.1.weight", "undip": "layer5.1.weight", "pgmsu": "fc13.weight", "msnet": "layer3.8.weight"}
SPECTRA |= {"misicnet": "layer4.1.weight", "cnnaeu": "encoder.4.weight", "cycunet": "encoder.7.weight"}
SYSTEMS = (*SPECTRA, "admmnet", "deeptrans")


def network(case, system, x):
    """The network of a case, sizes from its constructor's words and its listed shapes, with the case's weights."""
    words = dict(re.findall(r"(\w+)=([\w.+-]+)", str(case.meta["constructor"])))
    more = {KNOWN.get(key, key): value for key, value in words.items() if key in SETS or key in KNOWN}
    kinds = {"scale": float, "sparsity": float, "mu": float, "tied": lambda text: text == "True"}
    made = {key: kinds.get(key, int)(value) for key, value in more.items()}
    listed = case.meta["state"]
    k = {"admmnet": "decoder.weight", "deeptrans": "smooth.0.weight"} | SPECTRA
    shape = listed[k[system]][0]
    made |= {"bands": x.shape[1], "k": shape[1] if system == "admmnet" else shape[0]}
    if system == "misicnet":
        made["compat"] = "authors-code"
    return ts.create_model(NAMES.get(system, system), **made)


@torch.no_grad()
def run(case, system):
    """Outputs of one case."""
    x = case.tensors(next(iter(case.meta["inputs"])))[0]
    net = network(case, system, x)
    if system == "admmnet":
        net.begin(case.tensors("A_init")[0])
        abundances, model = net.eval()(x)
        first = net.x_blocks[0]
        return {"abundances": abundances, "reconstruction": model, "W0": first.W.weight, "B0": first.B.weight}
    case.load_into(net)
    out = net(x)
    if system in ("suncnn", "undip"):
        return {"abundances": out}
    if system == "pgmsu":
        return dict(zip(("abundances", "y_hat", "endmembers", "mu", "log_var"), out, strict=True))
    if system == "cycunet":
        return dict(zip(("abu1", "rec1", "abu2", "rec2"), out, strict=True))
    if system == "msnet":
        named = dict(zip(("abund1", "rec1", "abund2", "rec2", "abund3", "rec3"), out, strict=True))
        return named | {"edge12": edge_loss(out[0], out[2]), "sad1": paired_angles(out[1], x, dim=1).mean()}
    found = {"abundances": out[0], "reconstruction": out[1]}
    if system == "misicnet":
        pixels = x.movedim(1, -1).flatten(0, 2)
        found["loss"] = misicnet_loss(pixels, out[1], net.decoder.weight, pixels.mean(0), 100.0)
    return found
