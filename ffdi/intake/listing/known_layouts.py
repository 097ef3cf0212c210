"""The layouts that are known, by the names that `data.layout` gives them."""

from __future__ import annotations

from ffdi.intake.listing.celeb_df import CELEB_DF
from ffdi.intake.listing.csv_table import CSV
from ffdi.intake.listing.dfdc import DFDC
from ffdi.intake.listing.faceforensics import FACEFORENSICS
from ffdi.intake.listing.imagefolder import IMAGEFOLDER
from ffdi.intake.listing.importer import Importer
from ffdi.intake.listing.multi_ffdi import MULTI_FFDI

LAYOUTS: dict[str, Importer] = {
    "imagefolder": IMAGEFOLDER,
    "csv": CSV,
    "multi_ffdi": MULTI_FFDI,
    "faceforensics": FACEFORENSICS,
    "celeb_df": CELEB_DF,
    "dfdc": DFDC,
}
