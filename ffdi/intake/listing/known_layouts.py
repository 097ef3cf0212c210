"""The layouts that are known, by the names that `data.layout` gives them."""

from __future__ import annotations

from ffdi.intake.listing.celeb_df import CELEB_DF
from ffdi.intake.listing.csv_table import CSV
from ffdi.intake.listing.deepfakebench import DEEPFAKEBENCH
from ffdi.intake.listing.df40 import DF40
from ffdi.intake.listing.dfdc import DFDC
from ffdi.intake.listing.faceforensics import FACEFORENSICS
from ffdi.intake.listing.imagefolder import IMAGEFOLDER
from ffdi.intake.listing.importer import Importer
from ffdi.intake.listing.multi_ffdi import MULTI_FFDI
from ffdi.intake.listing.openfake import OPENFAKE
from ffdi.intake.listing.real_and_fake_140k import REAL_AND_FAKE_140K

LAYOUTS: dict[str, Importer] = {
    "imagefolder": IMAGEFOLDER,
    "csv": CSV,
    "multi_ffdi": MULTI_FFDI,
    "faceforensics": FACEFORENSICS,
    "celeb_df": CELEB_DF,
    "dfdc": DFDC,
    "deepfakebench": DEEPFAKEBENCH,
    "df40": DF40,
    "real_and_fake_140k": REAL_AND_FAKE_140K,
    "openfake": OPENFAKE,
}
