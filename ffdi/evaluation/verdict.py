"""The verdict on a pipeline's results in one sentence, and what a sceptical reader should know about it."""

from __future__ import annotations

from collections.abc import Callable

from ffdi.evaluation.below_chance import TURNED, explain, keys_below
from ffdi.evaluation.compare import AUC, NO_DIFFERENCE, UNIT_AUC
from ffdi.evaluation.page_data import by_unit, members_of
from ffdi.evaluation.results import Results
from ffdi.intake.auditing.shortcuts import FACTS, shortcuts

FEW_GROUPS = 20  # below it a bootstrap over groups gives intervals that are too narrow
_LARGE_FALL = 0.05  # of the AUC or accuracy on perturbed images
_UNLIKE = 0.02  # a share of unlike test images, of which 1 % is expected
_MISCALIBRATED = 0.05  # an ECE that is visible in use


def verdict(results: Results) -> str:
    """One sentence: the best recipe, its interval, and whether the audit passed."""
    name, best = results.best_name, results.best
    leaks = results.audit["leaks"]
    audit = "the audit found no leak" if leaks == 0 else f"the audit found {leaks} leaks: no figure here can be trusted"
    if leaks == 0 and not results.audit["images_with_group"]:
        audit = "the audit found no leak of copies, and without groups it could find no other"
    if best["auc"] is None:
        return f"{name} has no test AUC ({best['auc_reason']}); {audit}."
    kind = "on an ImageNet-pretrained prefix" if best["pretrained"] else "on a random prefix"
    if members := members_of(best):
        kind = f"which joins {', '.join(members[:-1])} and {members[-1]}"
        kind += " on ImageNet-pretrained prefixes" if best["pretrained"] else ", not all of them on pretrained prefixes"
    interval = "no interval"
    if best["auc_low"] is not None:
        interval = f"95 % interval {best['auc_low']:.3f} to {best['auc_high']:.3f}"
    if "auc" in keys_below(best):
        interval += f": {TURNED}: labels are most likely turned round"
    return (
        f"{name}, {kind}, tells fake from real at a test AUC of {best['auc']:.3f} "
        f"({interval}, {best['n_test']} images in {best['n_groups']} groups){by_unit(best)}; {audit}."
    )


def caveats(results: Results) -> list[str]:
    """What a sceptical reader should know about the verdict, each in a sentence."""
    return [line for caveat in _CAVEATS for line in caveat(results)]


def _no_groups(results: Results) -> list[str]:
    if results.audit["images_with_group"]:
        return []
    return [
        "No image has a group of its own: people, videos and sources may stand in the training and the test set "
        "alike, and every figure here may be too good."
    ]


def _below_chance(results: Results) -> list[str]:
    judged = [*results.ranked, *((str(m["recipe"]), m) for m in results.cross)]
    return [f"{recipe}: {line}." for recipe, metrics in judged for line in explain(metrics)]


def _dropped_images(results: Results) -> list[str]:
    dropped = results.audit["images_dropped"]
    if not dropped:
        return []
    return [
        f"{dropped} images whose groups stand on two sides were dropped (split.two_sources), so that "
        "the others can be told apart."
    ]


def _few_groups(results: Results) -> list[str]:
    groups = results.best["n_groups"]
    if not (isinstance(groups, int) and groups < FEW_GROUPS):
        return []
    return [f"The test set has {groups} groups: an interval over so few is itself uncertain, and rather too narrow."]


def _unlike_validation(results: Results) -> list[str]:
    """A mean AUC of the validation folds that lies outside the test AUC's interval, where folds are like the test set."""
    if "held_out_worst" in results.best:
        return []
    validation, spread, low, high = (results.best[k] for k in ("val_auc_mean", "val_auc_std", "auc_low", "auc_high"))
    if not (isinstance(validation, float) and isinstance(low, float) and isinstance(high, float)):
        return []
    if low <= validation <= high:
        return []
    value = f"{validation:.3f}" + (f" ± {spread:.3f}" if isinstance(spread, float) else "")
    if validation < low:
        return [
            f"On the folds its AUC is lower, {value}, a single tail each: the test groups may be easier than the rest."
        ]
    return [f"On the folds its AUC is higher, {value}: their epochs were chosen by it, or the test groups are harder."]


def _refit(results: Results) -> list[str]:
    """What the tails of the folds say of a tail that is none of them."""
    if not results.best.get("refit"):
        return []
    return [
        "One tail of all training images scores: its threshold and its calibration are of the folds' tails, and so are the "
        "figures of the folds."
    ]


def _equal_recipes(results: Results) -> list[str]:
    name, figure = results.best_name, UNIT_AUC if results.unit else AUC
    equal = [
        row["b"] if row["a"] == name else row["a"]
        for row in results.pairs.to_dict("records")
        if name in (row["a"], row["b"]) and row["figure"] == figure and row["verdict"] == NO_DIFFERENCE
    ]
    if not equal:
        return []
    return [f"No difference is shown between {name} and {', '.join(sorted(equal))}: which of them leads may be chance."]


def _errors(results: Results) -> list[str]:
    count = results.confusion(results.best_name)
    reals, fakes = (count[f"{kind} as real"] + count[f"{kind} as fake"] for kind in ("real", "fake"))
    return [
        f"At its threshold it calls {count['real as fake']} of {reals} real test images fake, and "
        f"{count['fake as real']} of {fakes} fakes real."
    ]


def _calibration(results: Results) -> list[str]:
    best = results.best
    ece, expected = best["ece"], best.get("ece_if_calibrated")
    if not (isinstance(ece, float) and isinstance(expected, float)):
        return []
    if ece > expected:
        return [
            f"Its scores are no probabilities: they are off by {ece:.3f} on average (ECE; good ones are below "
            f"{expected:.3f})."
        ]
    if expected > _MISCALIBRATED:
        return [
            f"{best['n_test']} images are too few to judge its calibration: ECE {ece:.3f}, good ones reach "
            f"{expected:.3f}."
        ]
    return []


def _unresolved_rates(results: Results) -> list[str]:
    rates = {"tpr_at_fpr_1e_2": "1 %", "tpr_at_fpr_1e_3": "0.1 %"}
    best = results.best
    unresolved = [rate for key, rate in rates.items() if best[key] is None and f"{key}_at_most" in best]
    if not unresolved:
        return []
    return [
        f"The real test images are too few to say what is found at a false-alarm rate of {' and '.join(unresolved)}."
    ]


def _perturbations(results: Results) -> list[str]:
    """Where AUC, and accuracy at the frozen threshold, fall most on perturbed images."""
    sentences = {
        "auc": "On images that were handled otherwise it is worth less: AUC {:.3f} at {}.",
        "accuracy": "Its threshold does not carry over to images handled otherwise: accuracy falls from {clean:.3f} to "
        "{:.3f} at {}.",
    }
    table = results.table(results.best_name, "robustness").to_dict("records")
    out = []
    for key, sentence in sentences.items():
        levels = [(row[key], row["level"]) for row in table if row[key] == row[key]]
        if levels and isinstance(clean := results.best[key], float) and clean - min(levels)[0] > _LARGE_FALL:
            out.append(sentence.format(*min(levels), clean=clean))
    return out


def _shortcuts(results: Results) -> list[str]:
    short = [probe.replace("_", " ") for probe in shortcuts(results.audit) if probe not in FACTS]
    if not short:
        return []
    return [f"The data has shortcuts: {', '.join(short)} alone tell fake from real better than chance."]


def _source_overlap(results: Results) -> list[str]:
    overlap = results.audit["source_overlap"]
    if not overlap:
        return []
    return [f"{overlap} forgeries stand on another side of a border than the photo they are of."]


def _other_data(results: Results) -> list[str]:
    home = (results.best_name, results.best["trained_on"])
    elsewhere = [
        f"{m['auc']:.3f} ({m['auc_low']:.3f} to {m['auc_high']:.3f}) on {m['tested_on']}"
        for m in results.cross
        if m["tested_on"] != m["trained_on"]
        and (m["recipe"], m["trained_on"]) == home
        and None not in (m["auc"], m["auc_low"])
    ]
    if not elsewhere:
        return ["It was not judged on any other data set."]
    return [f"On other data its AUC is {', '.join(elsewhere)}."]


def _held_out(results: Results) -> list[str]:
    """What carries over to fakes of a value that training did not have."""
    best = results.best
    worst, low, name = (best.get(f"held_out_worst{end}") for end in ("_auc", "_auc_low", ""))
    if not isinstance(worst, float):
        return []
    if isinstance(low, float) and low <= 0.5:
        return [f"Trained without {name}, it is not shown to find {name} better than by chance: AUC {worst:.3f}."]
    clean, mean = best["auc"], best.get("held_out_mean_auc")
    if not (isinstance(clean, float) and isinstance(mean, float) and clean - worst > _LARGE_FALL):
        return []
    return [
        f"On fakes of a kind that training did not have it is worth less: AUC {mean:.3f} on average, {worst:.3f} without "
        f"{name}."
    ]


def _protocol(results: Results) -> list[str]:
    """Random folds that are easier than those of the split."""
    m = results.protocol.get(results.best_name, {})
    harder, low = m.get("harder_by"), m.get("harder_by_low")
    if not (isinstance(harder, float) and isinstance(low, float) and low > 0):
        return []
    return [
        f"Random folds of the same images flatter: on them its AUC is {harder:.3f} higher than on the folds of the split, "
        "which are less alike."
    ]


def _seen_levels(results: Results) -> list[str]:
    """A robustness that was trained for."""
    best = results.best
    seen = [value for key, value in best.items() if key.startswith("robustness_") and key.endswith("_seen")]
    if not seen or not any(seen):
        return []
    if all(seen):
        return ["Every perturbation that it was tested on was also in its training: how it stands others is not known."]
    unseen = best.get("robust_unseen_auc")
    if not isinstance(unseen, float):
        return []
    return [
        f"{sum(map(bool, seen))} of {len(seen)} levels of perturbation were also in its training; on the others alone its "
        f"mean AUC is {unseen:.3f}."
    ]


def _false_alarms(results: Results) -> list[str]:
    """A rate on the test set that the out-of-fold scores did not promise, by more than either can be uncertain."""
    best = results.best
    keys = [f"{key}{end}" for key in ("fpr", "expected_fpr") for end in ("", "_low", "_high")]
    found = [best.get(key) for key in keys]
    if not all(isinstance(value, float) for value in found):
        return []
    rate, low, high, expected, expected_low, expected_high = (float(value) for value in found if value is not None)
    if expected_low <= rate <= expected_high or low <= expected <= high:
        return []
    return [
        f"It calls {_percent(rate)} of the real test images fake: its threshold was expected to give {_percent(expected)} "
        f"({_percent(expected_low)} to {_percent(expected_high)})."
    ]


def _undecided(results: Results) -> list[str]:
    """What a band of undecided scores leaves, and whether its error holds."""
    best = results.best
    coverage, error, low = (best.get(key) for key in ("coverage", "decided_error", "decided_error_low"))
    asked = best.get("abstain_error")
    if not (isinstance(coverage, float) and isinstance(error, float)):
        return []
    share = f"It leaves {_percent(1 - coverage)} of the test images undecided, and" if coverage < 1 else "It"
    line = f"{share} is wrong on {_percent(error)} of the {'others' if coverage < 1 else 'test images'}"
    if isinstance(asked, float) and isinstance(low, float) and low > asked:
        return [f"{line}: more than the {_percent(asked)} that its band was set for."]
    return [f"{line}."] if coverage < 1 else []


def _unlike_training(results: Results) -> list[str]:
    """A test set that is not like the training: surely more than 1 % of its images lie beyond the training's limit."""
    best = results.best
    share, low = (best.get(key) for key in ("unlike_share", "unlike_share_low"))
    if not (isinstance(share, float) and isinstance(low, float) and low > _UNLIKE):
        return []
    return [
        f"{_percent(share)} of the test images are unlike those of the training, where 1 % would be: the test set has "
        "images of a kind that the training lacks."
    ]


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


_CAVEATS: tuple[Callable[[Results], list[str]], ...] = (
    *(_no_groups, _below_chance, _dropped_images, _few_groups, _unlike_validation, _refit, _equal_recipes, _errors),
    *(_false_alarms, _unlike_training, _undecided, _calibration, _unresolved_rates, _held_out, _protocol),
    *(_perturbations, _seen_levels, _shortcuts, _source_overlap, _other_data),
)
