"""INTL: whitening, trace loss, losses of given embeddings, and the whole model, each with the gradients asked for."""

from __future__ import annotations

import re

import torch
from parity_case import Case

from torchspectral.backbones.padded_resnet import PaddedResNet
from torchspectral.learn.losses.intl import INTL, INTLLoss, IterNorm, projector, trace_loss


def run(case: Case) -> dict:
    """Compute the outputs of one case."""
    text = str(case.constructor)
    n = {
        k: int(v)
        for k, v in re.findall(r"(axis|iterations|iters|projection_layers|projection_size|emb)[= ](\d+)", text)
    }
    axis, rounds = n.get("axis", 0), n.get("iterations", n.get("iters", 4))
    if "x" in case.inputs:
        (x,) = case.tensors("x")
        z = IterNorm(axis, rounds)(x.requires_grad_())
        loss = trace_loss(z, axis)
        (grad,) = torch.autograd.grad(loss, x)
        return {"whitened": z, "trace_loss": loss[None], "grad_trace_loss": grad}
    made, slow = (INTLLoss(axis, rounds, momentum=m, guard=False) for m in (False, True))
    views = case.tensors(*sorted(case.inputs))
    if case.meta["state"]:
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
