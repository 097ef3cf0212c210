"""Bring a backbone's weights into one verified file."""

from pathlib import Path

from ffdi.params.paths import main_checkout
from ffdi.params.reading import read_params
from ffdi.stagekit.command import stage_command
from ffdi.stagekit.console import console
from ffdi.stagekit.options import PARAMS, name, path


@stage_command(PARAMS, name("--backbone"), path("--out"))
def main(params_file: Path, name: str, out: Path | None) -> None:
    """Bring a backbone's weights into one verified file."""
    backbone, report = read_params(params_file).backbone(name), console(f"weights {name}")
    from ffdi.features.stated_preprocessing import described_preprocessing, resolved
    from ffdi.features.weights import fetch_backbone_weights

    out = out or Path(f"data/weights/{name}.safetensors")
    stated = described_preprocessing(backbone, report)
    backbone = resolved(backbone, stated)
    provenance = fetch_backbone_weights(backbone, out, base=main_checkout(), preprocessing=stated)
    kind = "pretrained" if provenance.pretrained else "random, BatchNorm calibrated on noise"
    report.say(f"{provenance.network} from {provenance.source} ({kind})")
    if stated:
        report.say(f"it sees {backbone.pixels.words}")


if __name__ == "__main__":
    main()
