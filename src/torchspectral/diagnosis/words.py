"""What the numbers and curves mean, in sentences."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from torchspectral.diagnosis.measures import regions

RISE = 0.05
"""Share of its range by which a curve must change to be called rising or falling."""


def explain(numbers: Mapping[str, float]) -> list[str]:
    """Sentences about the numbers of one set of embeddings."""
    n = numbers
    told = [
        f"Entropy (DSE) {n['dse']:.2f} of at most {np.log2(n['samples']):.2f} bits: the {n['samples']:.0f} samples fall "
        f"into about {_count(regions(n['dse']))} that the embeddings keep apart (sigma {n['sigma']:.3g}, t {n['t']:g}, "
        f"{'rows of length 1' if n['normalised'] else 'raw rows'}). {_entropy_level(n)}It compares with other runs at "
        "the same number of samples, sigma and t only."
    ]
    rank, most = n["effective_rank"], min(n["dimensions"], n["samples"] - 1)
    told.append(
        f"Effective rank {rank:.1f} of at most {most:.0f} (participation ratio {n['participation_ratio']:.1f}, RankMe "
        f"{n['rank_me']:.1f}): " + _rank_level(rank, most)
    )
    if "dse_first" in n:
        change = n["dse"] - n["dse_first"]
        told.append(
            f"Before training the same samples had {n['dse_first']:.2f} bits and rank {n['effective_rank_first']:.1f}: "
            + (
                "training told the samples apart further, as it does where it works."
                if change > RISE
                else "training merged samples that the untrained network kept apart."
                if change < -RISE
                else "training has hardly changed how many regions there are."
            )
        )
    if "dsmi_labels" in n:
        told.append(_labels(n))
    if "knn_overall" in n:
        told.append(
            f"The majority of the nearest neighbours names the right class for {n['knn_overall']:.1%} of the labelled "
            f"samples ({n['knn_macro']:.1%} as mean over classes); always naming the largest class gives "
            f"{n['majority']:.1%}."
            + (
                f" A linear classifier reaches {n['linear_overall']:.1%} ({n['linear_macro']:.1%})."
                if "linear_overall" in n
                else ""
            )
        )
    if "dsmi_input" in n:
        share = n["dsmi_input"] / _reachable(n, "input_entropy")
        told.append(
            f"Information about the input spectra (DSMI) {n['dsmi_input']:.2f} bits, of {n['input_entropy']:.2f} that "
            f"their {n['input_clusters']:.0f} clusters have and {n['dse']:.2f} that the embeddings have: "
            + (
                "the embeddings keep the groups that the spectra form by themselves."
                if share > 0.3
                else "the embeddings order the samples by something else than their spectra (texture, place, noise)."
            )
        )
    return told


def _entropy_level(n: Mapping[str, float]) -> str:
    if n["dse"] < 0.1:
        return "To this kernel all samples are one. "
    if n["dse_share"] > 0.95:
        return (
            "Nearly every sample is a region of its own: no groups at this width, as in noise or with a narrow kernel. "
        )
    return ""


def _count(regions: float) -> str:
    return "one region" if regions < 1.5 else f"{regions:.0f} regions"


def _reachable(n: Mapping[str, float], of: str) -> float:
    """What information can be at most: the entropy of the reference, and that of the embeddings at this kernel."""
    return max(min(n[of], n["dse"]), 1e-9)


def _rank_level(rank: float, most: float) -> str:
    if rank < 0.05 * most and most >= 20:
        return "few of the dimensions carry what there is; the others repeat them or are silent."
    if rank > 0.5 * most:
        return "the spread uses most of the dimensions, evenly."
    return "a part of the dimensions carries the spread."


def _labels(n: Mapping[str, float]) -> str:
    gain, chance = n["dsmi_labels"], n["dsmi_shuffled"]
    text = (
        f"Information about the labels (DSMI) {gain:.2f} bits ({n['classes']:.0f} classes of {n['label_entropy']:.2f} "
        f"bits, {n['labelled']:.0f} samples; {chance:.2f} with the labels shuffled; {n['dsmi_labels_median']:.2f} with sigma as "
        "wide as the median distance, which is what compares encoders of different scale): "
    )
    reachable = _reachable(n, "label_entropy")
    if gain < max(0.02 * reachable, 2 * abs(chance)):
        return text + "the regions have nothing to do with the classes."
    if gain > 0.5 * reachable:
        return text + "the regions are largely those of the classes."
    return (
        text + "the regions follow the classes in part: samples of one class are closer than those of different ones."
    )


def explain_curves(curves: pd.DataFrame) -> tuple[list[str], list[str]]:
    """Sentences about the curves of a training, and what of them is alarming."""
    told: list[str] = []
    alarming: list[str] = []
    dse, information, source = (_trend(curves, name) for name in ("dse", "dsmi_labels", "dsmi_input"))
    if dse:
        series = curves["dse"].dropna().to_numpy()
        if series.max() > 0.1 and series[-1] < 0.5 * series.max():
            alarming.append(
                f"the entropy fell from {series.max():.2f} to {series[-1]:.2f} bits in the course of the training: it is "
                "collapsing"
            )
        told.append(
            {
                "rises": "The entropy rises: the network tells more and more samples apart, as every healthy training in "
                "the published study did.",
                "falls": "The entropy falls: samples become alike. That is right where one class is meant to become one "
                "point, and a collapse where there are no labels.",
                "stays": "The entropy stays where it was: the embeddings of these samples hardly change any more.",
            }[dse]
        )
    if information:
        told.append(
            {
                "rises": "Information about the labels rises: the regions that form are those of the classes; this is "
                "what generalising looks like.",
                "falls": "Information about the labels falls: the regions drift away from the classes; an earlier "
                "checkpoint serves them better.",
                "stays": "Information about the labels stays flat"
                + (
                    " while the entropy rises: the network tells samples apart without regard to the classes, as it does "
                    "when it memorises."
                    if dse == "rises"
                    else "."
                ),
            }[information]
        )
    if source:
        told.append(
            {
                "rises": "Information about the input rises: the embeddings still take in what the spectra say.",
                "falls": "Information about the input falls: the network drops what it does not need of the spectra; the "
                "published study saw this after a first rise on natural images.",
                "stays": "Information about the input stays as it was.",
            }[source]
        )
    losses = [_trend(curves, name) for name in ("train_loss", "held_out_loss")]
    if losses == ["falls", "rises"]:
        told.append("The training loss falls and the held-out loss rises: it learns its patches by heart.")
    elif losses[0] == "falls" and dse == "stays":
        told.append("The loss falls while the embeddings stay: what is learnt sits behind them (decoder, projector).")
    elif losses[0] == "falls":
        told.append("The training loss falls.")
    elif losses[0]:
        told.append(f"The training loss {losses[0]}: look at the learning rate and the data before anything else.")
    return told, alarming


def _trend(curves: pd.DataFrame, name: str) -> str:
    """Whether the last third of a curve lies above or below its first; "" where there are fewer than two values."""
    if name not in curves.columns:
        return ""
    values = curves[name].dropna().to_numpy(np.float64)
    values = values[np.isfinite(values)]
    if values.size < 2:
        return ""
    third = max(values.size // 3, 1)
    change = values[-third:].mean() - values[:third].mean()
    scale = max(float(np.abs(values).max()), 1e-12)
    return "stays" if abs(change) < RISE * scale else "rises" if change > 0 else "falls"
