"""INTL: whitening, trace loss, losses of given embeddings, and the whole model, each with the gradients asked for."""

from __future__ import annotations

import re

import torch
from parity_case import Case
from parity_words import Said, nothing

from torchspectral.backbones.padded_resnet import PaddedResNet
from torchspectral.learn.losses.intl import INTL, INTLLoss, IterNorm, projector, trace_loss

ALIASES = {"iters": "iterations", "T": "iterations", "beta": "trade_off", "batch_size": "bs", "projection_dim": "emb"}
PROSE = ("axis", "iterations", "iters", "trade_off", "beta")
WORDS = ("grad", "samples", "arch", "dataset", "train", "momentum")
IDLE = {"zero_init_residual": lambda v: True, "guard": nothing, "bs": lambda v: True, "m": lambda v: True}


def run(case: Case) -> dict:
    """Compute the outputs of one case."""
    said = Said(case, ALIASES, PROSE)
    axis, rounds = said.take("axis", 0), said.take("iterations", 4)
    weight = said.take("trade_off", "auto")
    n = {k: said.take(k) for k in ("projection_layers", "projection_size", "emb")}
    said.finish(WORDS, IDLE)
    if "x" in case.inputs:
        (x,) = case.tensors("x")
        z = IterNorm(axis, rounds)(x.requires_grad_())
        loss = trace_loss(z, axis)
        (grad,) = torch.autograd.grad(loss, x)
        return {"whitened": z, "trace_loss": loss[None], "grad_trace_loss": grad}
    made, slow = (INTLLoss(axis, rounds, weight, momentum=m, guard=False) for m in (False, True))
    views = case.tensors(*sorted(case.inputs))
    if case.meta["state"]:
        text = str(case.constructor)
        depth, momentum = int(re.search(r"resnet(\d+)", text)[1]), any("momentum" in k for k in case.meta["state"])
        net = PaddedResNet(views[0].shape[1], depth, "cifar" if "cifar" in text else "imagenet")
        head = projector(net.dim, n["projection_size"], n["emb"], n["projection_layers"])
        model = case.load_into(INTL(net, head, slow if momentum else made))
        rate = re.search(r"m=([\d.]+)", text)
        return {"loss": model(views, *([float(rate[1])] if momentum and rate else []))[None]}
    loss = made([v.requires_grad_() for v in views])
    grads = dict(zip([f"grad_z{i}" for i in range(len(views))], torch.autograd.grad(loss, views), strict=True))
    return {
        "trade_off": made.parts["trade_off"][None],
        "loss_intl": loss[None],
        "loss_intl_m": slow(views)[None],
        **grads,
    }
