"""What the losses at test say, by rule from ``missing.measure_missing``'s numbers."""

from finelib.inputs import NAMES
from finelib.paper import significance
from finelib.study.losses import WHOLE, subset_name


def sentences(content: dict) -> list[str]:
    """Of each modality who predicts better or worse without it, and why; who cannot do without; the average."""
    found = [_average(content)]
    if len(content["modalities"]) < 2:
        return [*found, f"There is {_named(content['modalities'])} alone, so no whole modality can be missing."]
    for m in content["modalities"]:
        found += _without(content, m)
    return found + _refused(content)


def span(found: dict) -> str:
    """A difference with its interval, where there is one."""
    spread = "" if found["low"] is None else f" [{found['low']:+.3f}, {found['high']:+.3f}]"
    return f"{found['mean']:+.3f}{spread}"


def better_without(content: dict, m: str) -> list[str]:
    """Systems whose Corr is shown to rise when a modality is taken away at test."""
    return [s for s, found in content["without"][m].items() if _clear(found) and found["mean"] > 0]


def _clear(found: dict) -> bool:
    return found["p_holm"] is not None and found["p_holm"] < significance.LEVEL


def _without(content: dict, m: str) -> list[str]:
    changes, better = content["without"][m], better_without(content, m)
    worse = [s for s, found in changes.items() if _clear(found) and found["mean"] < 0]
    said = f"Without {NAMES[m]}, {len(better)} of {len(changes)} systems are shown to predict better"
    said += f" ({', '.join(f'{s} {span(changes[s])}' for s in better)})" if better else ""
    found = [f"{said} and {len(worse)} worse, by Corr."]
    if better:
        found.append(_why(content, m, better))
    return found


def _why(content: dict, m: str, better: list[str]) -> str:
    """What a modality alone tells of training and of test utterances, and a linear model trained without it."""
    others = [n for n in content["modalities"] if n != m]

    def mean(s: str, n: str) -> float:
        return content["scores"]["corr"][s][n]["mean"]

    told = []
    for s in better:
        known = content["remembered"][s]
        parts = [f"{known[n]:.2f} and {mean(s, n):.2f} with {NAMES[n]} alone" for n in (m, *others) if n in known]
        told.append(f"{s} {', '.join(parts)}")
    said = f"Corr of these systems on training and on test utterances: {'; '.join(told)}."
    if linear := content["linear"]:
        side = "higher too" if linear[m] > linear[WHOLE] else "not higher"
        said += f" A linear model that never sees {NAMES[m]} is {side} ({linear[m]:.2f} against {linear[WHOLE]:.2f})."
    return said


def _refused(content: dict) -> list[str]:
    found = []
    for s, names in content["refused"].items():
        needed = [m for m in content["modalities"] if all(m not in name.split(" + ") for name in names)]
        found.append(f"{s} cannot do without {_named(needed)} and is left out where there is none.")
    for m in content["modalities"]:
        rest = subset_name(tuple(n for n in content["modalities"] if n != m))
        blind = [s for s, scores in content["scores"]["corr"].items() if rest in scores and _nothing(scores[rest])]
        if blind:
            found.append(f"Without {NAMES[m]} nothing is shown to be left of the Corr of {', '.join(blind)}.")
    return found


def _nothing(found: dict) -> bool:
    return found["low"] is not None and found["low"] <= 0 <= found["high"]


def _average(content: dict) -> str:
    average = content["average"]["corr"]
    best = max(average, key=lambda s: average[s]["mean"])
    said = f"Over the ten rates {best} has the highest mean Corr, {average[best]['mean']:.3f}"
    differences = {s: found["minus_fine"] for s, found in average.items() if "minus_fine" in found}
    if differences:
        above, below = ([s for s, d in differences.items() if _clear(d) and side * d["mean"] > 0] for side in (1, -1))
        said += f"; {len(above)} of {len(differences)} other systems are shown to be above FINE and {len(below)} below"
        said += f" (above: {', '.join(above)})" if above else ""
    return said + "."


def _named(modalities: list[str]) -> str:
    return " and ".join(NAMES[m] for m in modalities)
