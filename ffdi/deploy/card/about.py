"""The sections of a model card on what a model is, and how it is used; what was not measured is said in its place."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ffdi.deploy.card.facts import CardFacts
from ffdi.deploy.card.text import figure, percent, plain, table
from ffdi.deploy.licences import binding, source_name
from ffdi.features.backbone import Backbone
from ffdi.intake.auditing.shortcuts import PROBES, shortcuts
from ffdi.metrics import Metrics

NOT_FOR = (
    "a verdict about a person, or any decision about one, by its score alone",
    "evidence: it cannot show where an image comes from, who made it, or what was changed",
    "images of other kinds than those of its training, until it was measured on them (`ffdi evaluate`) and, where that is "
    "needed, recalibrated (`ffdi recalibrate`)",
    "a proof that an image is real: `real` means that nothing was found which this model knows",
)
_RULES = {
    "youden": "with the most fakes found less false alarms",
    "accuracy": "with the fewest errors",
    "fpr": "with {} of the reals above it",
}
_HOW_TO_RUN = """\
With `{packages}` installed, in the folder of the model:

```bash
ffdi predict {files} --model .
ffdi export --model . --format onnx ../model.onnx
```

```python
import ffdi

print(ffdi.load(".").predict({listed}))
```

The ONNX file takes RGB, uint8 (N, S, S, 3), and gives the calibrated P(fake); onnxruntime and numpy run it.{squares}

"""
_SQUARES = (
    " Its squares are crops of faces, which it does not make itself, and so are images for `--faces none`: {how}. A whole "
    "photo gives a score that means nothing."
)


def intended_use(facts: CardFacts) -> list[str]:
    """What it is for, and what not."""
    lines = [
        f"Images like those of the data set {plain(facts.data)}: to sort many by how likely they are fake, so that a person "
        "looks at the first ones, and to compare detectors. It is not intended for",
        "",
    ]
    return [*lines, *(f"- {line};" for line in NOT_FOR[:-1]), f"- {NOT_FOR[-1]}.", ""]


def what_it_is(facts: CardFacts) -> list[str]:
    """Networks, weights, tails, and what the network sees of an image."""
    rows = [(f"{plain(name)}", *_of_part(part)) for name, part in facts.parts.items()]
    lines = table(("recipe", "network", "cut", "weights", "head", "tails", "it sees"), rows)
    if "members" in facts.record:
        weights = ", ".join(f"{plain(n)} {m['weight']:.3f}" for n, m in facts.record["members"].items())
        how = (
            f"Its score joins those of its members, in logits, by {plain(facts.record['stacking'])} weights: {weights}."
        )
        lines += [how, ""]
    m, of_each = facts.metrics, " of each recipe" if len(facts.parts) > 1 else ""
    if isinstance(flops := m.get("flops_per_image"), int):
        parameters = f"{m['parameters_prefix']:,} parameters in what is frozen, {m['parameters_tail']:,} in one tail"
        lines += [f"An image takes {flops / 1e9:.2f} GFLOPs; {parameters}{of_each}.", ""]
    return lines


def _of_part(part: Mapping[str, Any]) -> tuple[str, ...]:
    backbone, views = Backbone.from_dict(part["backbone"]), part["recipe"].get("tta", ())
    weights = str(backbone.weights if part["provenance"]["pretrained"] else "**random**")
    tails = f"1, on all training images ({part['refit']['epochs']} epochs)" if "refit" in part else ""
    return (
        plain(backbone.network),
        plain(backbone.cut_name),
        weights if weights.startswith("**") else plain(source_name(weights)),
        plain(part["head"]["kind"]),
        tails or f"{len(part['val_auc'])}, one a fold; the score is their mean",
        plain("; and ".join([backbone.pixels.words, *views])),
    )


def training_data(facts: CardFacts) -> list[str]:
    """The data set, how it was split, and what the audit found."""
    audit = facts.audit
    lines = [f"Trained on {facts.images} images of the data set {plain(facts.data)}."]
    if crops := facts.crops:
        lines.append(f"They are crops: {plain(crops.words)}. The detector's file has the sha256 `{crops.sha256}`.")
    if made := facts.record["provenance"].get("synthesised"):
        lines.append(f"{made} more training fakes were made of its real images.")
    if not audit:
        return [*lines, "Not measured: the split was not audited (`metrics/details/audit.json` is missing).", ""]
    lines.append(
        f"The data set has {audit['images']} images, {audit['fakes']} of them fake, in {audit['groups']} groups; "
        f"{audit.get('test_images', 'some')} are the test set. Images of one group (a person, a video, a source photo, "
        "near-duplicates) are on one side of every border."
    )
    return [*lines, "", *(f"- {line}" for line in _audited(audit)), "", *_probes(audit)]


def _audited(audit: Metrics) -> list[str]:
    lines = [f"Leaks that the audit found: **{audit['leaks']}**."]
    if not audit.get("images_with_group"):
        lines.append(
            "No image has a group that the data set names: only copies could be found, and no people or videos."
        )
    if dropped := audit.get("images_dropped"):
        lines.append(f"{dropped} images were left out, because their groups stand on two sides.")
    if overlap := audit.get("source_overlap"):
        lines.append(f"{overlap} forgeries stand on another side of a border than the photo they are of.")
    if found := shortcuts(audit):
        lines.append(
            f"**Shortcuts of the data**: {', '.join(found).replace('_', ' ')} tell fake from real by themselves."
        )
    else:
        lines.append("Shortcuts that the probes found: none.")
    return lines


def _probes(audit: Metrics) -> list[str]:
    """What each probe, which knows a fact about the files but not the faces, tells by itself."""
    known = [name for name in PROBES if isinstance(audit.get(f"probe_{name}_auc"), float)]
    rows = [(plain(name.replace("_", " ")), figure(audit, f"probe_{name}_auc")) for name in known]
    return table(("probe", "AUC of fake from real, by itself"), rows) if rows else []


def verdicts(facts: CardFacts) -> list[str]:
    """The threshold policy and the calibration."""
    record, policy = facts.record, facts.record.get("policy", {})
    threshold = float(record["threshold"])
    rule = _RULES[policy.get("rule", "youden")].format(percent(float(policy.get("threshold_at", 0))))
    lines = [f"- An image is called fake from a score of {threshold:.4f} on: the score {rule}, out of fold."]
    if "abstain_low" in policy:
        lines.append(
            f"- Between {policy['abstain_low']:.4f} and {policy['abstain_high']:.4f} it is `undecided`: the band was set for "
            f"at most {percent(policy['abstain_error'])} errors among the others."
        )
    else:
        lines.append("- No score is left undecided.")
    if isinstance(expected := policy.get("expected_fpr"), float):
        lines.append(f"- It is expected to call {percent(expected)} of real images fake{_interval(policy)}.")
    lines.append(
        f"- Scores are calibrated with the temperature {float(record['temperature']):.3f}, fitted on out-of-fold scores; "
        f"among those images {percent(float(record['prior']))} are fake. Where fakes are rarer, a score says too much."
    )
    if found := record.get("recalibrated"):
        lines.append(
            f"- Temperature and threshold were fitted again on {found['images']} images of another domain: by "
            f"cross-validation its accuracy there went from {found['accuracy_before']:.3f} to {found['accuracy_after']:.3f}."
        )
    if "refit" in record:
        lines.append(
            "- The one tail was trained on all training images; threshold and temperature are those of the folds' tails, "
            "which saw fewer."
        )
    return [*lines, ""]


def _interval(policy: Mapping[str, Any]) -> str:
    low, high = policy.get("expected_fpr_low"), policy.get("expected_fpr_high")
    return f" ({percent(low)} to {percent(high)})" if isinstance(low, float) and isinstance(high, float) else ""


def how_to_run(facts: CardFacts) -> list[str]:
    """In the folder of the card: the command, Python, ONNX; of a model of face crops, what raw photos and videos become."""
    files = ["photo.jpg", "clip.mp4"] if facts.crops else ["photo.jpg"]
    squares = _SQUARES.format(how=plain(facts.crops.words)) if facts.crops else ""
    packages, listed = "ffdi[faces]" if facts.crops else "ffdi", "[" + ", ".join(f'"{name}"' for name in files) + "]"
    return _HOW_TO_RUN.format(packages=packages, files=" ".join(files), listed=listed, squares=squares).splitlines()


def licences(facts: CardFacts) -> list[str]:
    """What it is published under, and what the weights were."""
    own = (
        f"The model is published under {plain(facts.licence)}."
        if facts.licence
        else "No licence was given: ask its author."
    )
    lines = [own, ""]
    for source, licence in facts.licences.items():
        lines.append(f"- Weights {plain(source)}: {plain(licence or 'the licence is not known')}.")
    if any(part["provenance"]["weights"] == "random" for part in facts.parts.values()):
        lines.append("- Random weights: nobody's.")
    return [*lines, *(f"- **Mind**: {plain(line)}." for line in binding(facts.licences)), ""]
