"""Raw photos and videos -> face crops: detectors, footage, tracks, crops, and the set of them that stage faces makes."""
