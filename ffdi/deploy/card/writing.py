"""A model card: README.md with the head that hubs read, of what the bundle, the audit and the evaluations say."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path

from ffdi.console import Console
from ffdi.deploy.card.about import how_to_run, intended_use, licences, training_data, verdicts, what_it_is
from ffdi.deploy.card.facts import UNSAID, CardFacts, Publication, read_facts
from ffdi.deploy.card.figures import figures, weaknesses
from ffdi.deploy.card.head import head
from ffdi.deploy.card.text import figure, plain
from ffdi.errors import InputError
from ffdi.files import write_text
from ffdi.tails.record import seen_file


def write_card(
    model: Path, out: Path, *, metrics: Path, published: Publication = UNSAID, console: Console = Console()
) -> None:
    """Write the card of the model in the folder `model` to the file `out`; see read_facts for the others and for errors."""
    if out.is_dir():
        raise InputError(f"{out}: is a folder: name the file, such as {out / 'README.md'}")
    facts = read_facts(model, metrics, published, console)
    write_text(out, card(facts))
    console.say(f"{out}: the model card of {facts.name}")


def card(facts: CardFacts) -> str:
    """The text of the card."""
    sections: dict[str, Iterable[str]] = {
        "How to run it": how_to_run(facts),
        "Intended use": intended_use(facts),
        "What it is": what_it_is(facts),
        "Training data and split": training_data(facts),
        "Figures": figures(facts),
        "Where it is weak": weaknesses(facts),
        "Threshold and calibration": verdicts(facts),
        "Licence": licences(facts),
        "Provenance": _provenance(facts),
    }
    body = [line for title, lines in sections.items() for line in (f"## {title}", "", *lines)]
    return "\n".join([head(facts), f"# {plain(facts.name)}", "", *_summary(facts), *body]).rstrip() + "\n"


def _summary(facts: CardFacts) -> list[str]:
    """What it does and how well, in a few lines."""
    m = facts.metrics
    verdicts = (
        "`real`, `fake` or `undecided`" if "abstain_low" in facts.record.get("policy", {}) else "`real` or `fake`"
    )
    lines = [f"It says how likely an image is fake: a calibrated P(fake), and {verdicts}."]
    if m:
        groups = f"{m['n_test']} test images in {m['n_groups']} groups"
        lines.append(f"Its test AUC is {figure(m, 'auc')}, on {groups} that played no part in its training.")
    if not facts.pretrained:
        lines += ["", "**A prefix with random weights**: it shows that the path works, and is no detector to be used."]
    if leaks := facts.audit.get("leaks"):
        lines += ["", f"**The audit found {leaks} leaks: no figure here can be trusted.**"]
    return [*lines, ""]


def _provenance(facts: CardFacts) -> list[str]:
    record = facts.record
    lines = [f"- Written by ffdi {version('ffdi')} of the bundle whose facts_sha256 is `{record['facts_sha256']}`."]
    if parent := record.get("parent"):
        lines.append(f"- It was made of {plain(parent['name'])}, `{parent['facts_sha256']}`.")
    lines.append(
        f"- `bundle.json` has the sha256 of every file; `{seen_file(record)}` has the sha256 and a perceptual hash of each training "
        "image, so that an evaluation can leave them out."
    )
    return lines
