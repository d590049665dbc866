"""Figures of merit of classifications: confusion, agreement, F1, intersection over union, average precision, calibration.

Micro and macro are told apart in every name: ``iou_micro`` pools the counts of all classes, ``iou_macro`` is the mean
over classes; papers call either of them mIoU.
"""

from __future__ import annotations

from typing import Any

from torchspectral.lazy import lookup

_PUBLIC = {
    "Confusion": "confusion",
    "confusion_matrix": "confusion",
    "MultiLabel": "multilabel",
    "Calibration": "calibration",
    "score_classes": "score",
    "confusion_csv": "tables",
    "confusion_figure": "tables",
}

__all__ = sorted(_PUBLIC)


def __getattr__(name: str) -> Any:
    return lookup(__name__, _PUBLIC, name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_PUBLIC])
