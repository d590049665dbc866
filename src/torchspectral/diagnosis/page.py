"""The HTML page of a diagnosis."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torchspectral.diagnosis import pictures
from torchspectral.diagnosis.embedded import Embedded
from torchspectral.diagnosis.measures import Finding
from torchspectral.report.html import write_html
from torchspectral.result import Result

MEANING = {
    "samples": "samples",
    "dimensions": "dimensions",
    "dse": "diffusion spectral entropy [bit]",
    "dse_share": "of its largest value",
    "dse_median": "entropy with sigma as wide as the median distance [bit]",
    "renyi2": "Renyi entropy of order 2 [bit]",
    "dsmi_labels": "information about the labels [bit]",
    "dsmi_labels_median": "the same with sigma as wide as the median distance [bit]",
    "dsmi_shuffled": "the same, labels shuffled [bit]",
    "dsmi_input": "information about the input [bit]",
    "effective_rank": "effective rank",
    "participation_ratio": "participation ratio",
    "rank_me": "RankMe",
    "uniformity": "uniformity (0: collapsed)",
    "self_cluster": "mean squared cosine, rescaled (1: collapsed)",
    "zero_rows": "share of samples that are zero",
    "median_distance": "median distance of two samples",
    "sigma": "sigma of the kernel",
    "t": "diffusion time",
    "classes": "classes",
    "label_entropy": "entropy of the labels [bit]",
    "majority": "share of the largest class",
    "knn_overall": "kNN accuracy",
    "knn_macro": "kNN accuracy, mean over classes",
    "linear_overall": "linear accuracy",
    "linear_macro": "linear accuracy, mean over classes",
    "dse_first": "entropy before training [bit]",
}


def write_page(path: Path, found: Embedded, finding: Finding | None, result: Result) -> None:
    """Write the report: words first, then numbers, curves and pictures, then how it was made.

    Raises
    ------
    OutputFailed
    """
    alarming = result["alarms"]
    verdict = "ALARM: " + "; ".join(alarming) + "." if alarming else "No sign of collapse in what was measured."
    sections: list[dict[str, Any]] = [
        {"name": "words", "title": "What it means", "text": "\n\n".join([verdict, *result["words"]])}
    ]
    if pictures.curve_panels(result["curves"]):
        figure = pictures.curves_figure(result["curves"])
        sections.append({"name": "curves", "title": "Curves", "figures": [("Over the steps of the training", figure)]})
    if finding is not None:
        rows = [{"measure": text, "value": finding.numbers[k]} for k, text in MEANING.items() if k in finding.numbers]
        sections.append({"name": "numbers", "title": "Numbers", "tables": [("", rows)]})
        figures = [("Samples along the first two principal components", pictures.scatter(found, finding))]
        if found.picture is not None:
            figures.append(("The scene in the colours of the first three components", pictures.scene(found)))
        figures.append(("Share of the variance of each component", pictures.spectrum(finding)))
        sections.append({"name": "pictures", "title": "Pictures", "figures": figures})
    sections.append(
        {
            "name": "made",
            "title": "How it was made",
            "text": "\n\n".join(result.report.notes),
            "provenance": [result.report],
        }
    )
    write_html(
        path,
        title=f"Diagnosis of {found.name}",
        intro="What a representation has learnt: how many regions it tells apart, and what they have to do with labels "
        "and input.",
        sections=sections,
    )
