"""MP-HSIR: the network with stubbed text features, and one shifted block."""

from __future__ import annotations

import torch
from parity_case import Case

import torchspectral as ts
from torchspectral.restoration.mp_hsir.blocks import PGSSTB

NAMES = {
    "in_channel": "bands", "dim": "dim", "task_classes": "tasks", "num_blocks": "blocks",
    "num_refinement_blocks": "refinement", "heads": "heads", "ffn_expansion_factor": "expansion",
}  # fmt: skip


def run(case: Case) -> dict:
    """Compute the outputs of one case."""
    made = case.constructor
    if made.get("block") == "PGSSTB":
        block = PGSSTB(
            made["dim"], made["num_heads"], made["compress_ratio"], made["shift_size"], made["mlp_ratio"],
            made["drop_path"], made["window_size"], tuple(made["input_resolution"]),
        )  # fmt: skip
        with torch.no_grad():
            return {"output": case.load_into(block)(case.tensors("x")[0].permute(0, 2, 3, 1)).permute(0, 3, 1, 2)}
    arguments = {NAMES[key]: value for key, value in made.items() if key in NAMES}
    mode = "coupled" if len(case.inputs["x"]) > 1 else "released"
    network = case.load_into(ts.create_model("mp-hsir", **arguments, text_mode=mode, authors_layout=True))
    with torch.no_grad():
        return {"output": network(*case.tensors("x"), *case.tensors("task_id", dtype="int64"),
                                  *case.tensors("text_embeddings"))}  # fmt: skip
