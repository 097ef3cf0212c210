"""Roots in several layouts, with files of every kind, that tests put at a URL."""

from __future__ import annotations

from pathlib import Path

from conftest import lay_out_multi_ffdi, picture, write_pictures


def imagefolder(root: Path) -> None:
    for number, place in enumerate(
        ("Real/a b", "Real/a", "Real/x", "fake/x", "fake/masks", "fake/.hidden", "@eaDir", "fake/ä#?%&+")
    ):
        (root / place).mkdir(parents=True)
        picture(number).save(root / place / f"{number}.png")
    (root / "Real/notes.txt").write_text("x")
    (root / "Real/x/damaged.jpg").write_bytes(b"\xff\xd8\xff no jpeg")
    (root / "fake/twin.png").write_bytes((root / "fake/x/3.png").read_bytes())


def csv_table(root: Path) -> None:
    write_pictures(root, 6, groups=2)
    text = (root / "labels.csv").read_text()
    (root / "labels.csv").write_text(text.replace("0001.jpg", "0001.JPG") + "none.jpg,1,g9\n")
    (root / "unlisted.jpg").write_bytes((root / "0000.jpg").read_bytes())


def multi_ffdi(root: Path) -> None:
    write_pictures(root.with_name("pictures"), 6, groups=2)
    files = sorted(root.with_name("pictures").glob("*.jpg"))
    lay_out_multi_ffdi(root / "phase1", [(file, i % 2, i > 3) for i, file in enumerate(files)])


def celeb_df(root: Path) -> None:
    for number, place in enumerate(("Celeb-real/id0_0000", "YouTube-real/00170/0", "Celeb-synthesis/id0_id1_0000")):
        for below in ("", "masks/"):
            (root / place / below).mkdir(parents=True)
            picture(2 * number + len(below)).save(root / place / f"{below}0.png")
    picture(20).save(root / "Celeb-real/id1_0000.png")
    picture(21).save(root / "Celeb-real/other.png")
    (root / "List_of_testing_videos.txt").write_text("1 YouTube-real/00170.mp4\n")


def auto(root: Path) -> None:
    csv_table(root)
    (root / "labels.csv").write_text((root / "labels.csv").read_text().replace("label", "Target", 1))
    (root / "labels.csv").rename(root / "faces.csv")


LAYOUTS = {"imagefolder": imagefolder, "csv": csv_table, "multi_ffdi": multi_ffdi, "celeb_df": celeb_df, "auto": auto}
