"""SoftCon: encoders and the soft contrastive loss."""

from __future__ import annotations

import re
from typing import Any

import torch
from parity_case import Case

import torchspectral as ts
from torchspectral.learn.losses.soft_contrastive import SoftContrastive, label_similarity


@torch.no_grad()
def run(case: Case) -> dict[str, Any]:
    """Compute the outputs of one case."""
    state = case.meta.get("state", {})
    if not state:
        return soft(case)
    (x,) = case.tensors("x")
    modality = "sentinel-2" if x.shape[1] == 13 else "sentinel-1"
    if "conv1.weight" in state:
        return {"feat": case.load_into(ts.create_model("softcon-resnet50", modality=modality))(x)}
    size = round((state["pos_embed"][0][1] - 1) ** 0.5) * 14
    name = "softcon-vit-b" if state["cls_token"][0][2] == 768 else "softcon-vit-s"
    network = case.load_into(ts.create_model(name, modality=modality, image_size=size))
    ((patch, cls),) = network.get_intermediate_layers(x, 1, return_class_token=True)
    return {name: value for name, value in {"cls": cls, "patch": patch}.items() if name in case.meta["output"]}


def soft(case: Case) -> dict[str, Any]:
    """The loss on labels made as the case says."""
    z1, z2, y = case.tensors("z1", "z2", "y")
    words = f"{case.constructor} {case.meta.get('notes', '')}"
    labels = (y > float((re.search(r"u *> *([\d.]+)", words) or [0, "0.6"])[1])).float()
    if "all-zero row gets class 0" in words:
        labels[labels.sum(1) == 0, 0] = 1
    settings = [
        float((re.search(rf"{name} *= *([\d.]+)", words) or [0, default])[1])
        for name, default in (("tau", 0.2), ("lam", 0.1))
    ]
    terms = SoftContrastive(*settings).terms(z1, z2, labels)
    return {
        "labels": labels, "label_sim": label_similarity(labels), "soft": terms.soft.reshape(1),
        "info_nce": terms.contrast.reshape(1), "total": terms.total.reshape(1),
    }  # fmt: skip
