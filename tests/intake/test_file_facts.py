"""Facts of files besides their pixels."""

import io
from typing import Any

from conftest import picture
from PIL import Image

from ffdi.intake.auditing.file_facts import file_facts


def saved(image: Image.Image, kind: str = "JPEG", **options: Any) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def test_facts_of_jpegs() -> None:
    image = picture(1, 48)
    plain = saved(image, quality=90)
    facts = file_facts(plain)
    assert facts["bytes"] == len(plain) and facts["mode"] == "RGB" and facts["sampling"] == "2x2 1x1 1x1"
    assert (facts["progressive"], facts["exif_tags"], facts["software"]) == (0, 0, "||")
    assert "jfif" in facts["marks"].split() and len(facts["tables"]) == 12

    coarse = file_facts(saved(image, quality=50))
    assert coarse["tables"] != facts["tables"] and coarse["coarseness"] > facts["coarseness"] > 1
    assert file_facts(saved(picture(2, 48), quality=90))["tables"] == facts["tables"]
    assert file_facts(saved(image, quality=90, progressive=True))["progressive"] == 1
    assert file_facts(saved(image, quality=90, subsampling=0))["sampling"] == "1x1 1x1 1x1"
    grey = file_facts(saved(image.convert("L"), quality=90))
    assert (grey["mode"], grey["sampling"]) == ("L", "1x1")
    assert "dpi" in file_facts(saved(image, dpi=(72, 72)))["marks"].split()
    assert "comment" in file_facts(saved(image, comment=b"by hand"))["marks"].split()


def test_facts_of_exif() -> None:
    exif = Image.Exif()
    exif[271], exif[272], exif[305] = "Maker", "Model", "Editor 2"
    facts = file_facts(saved(picture(1, 48), exif=exif))
    assert facts["exif_tags"] == 3 and facts["software"] == "Maker|Model|Editor 2" and "exif" in facts["marks"].split()


def test_facts_of_pngs() -> None:
    image = picture(1, 48)
    for made, mode in (
        (image, "RGB"),
        (image.convert("L"), "L"),
        (image.convert("P"), "P"),
        (image.convert("RGBA"), "RGBA"),
    ):
        facts = file_facts(saved(made, "PNG"))
        assert facts["mode"] == mode and (facts["tables"], facts["coarseness"], facts["sampling"]) == ("", 0.0, "")
        assert facts["progressive"] == 0
    assert "dpi" in file_facts(saved(image, "PNG", dpi=(72, 72)))["marks"].split()
