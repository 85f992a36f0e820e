"""What the name of a data set of images means, found out before anything slow is imported."""

from __future__ import annotations

import re
from pathlib import Path

from timm_encmixer.errors import DataError, HubError, SourceError, require_packages
from timm_encmixer.files import similar_paths
from timm_encmixer.hub.snapshot import open_dataset

FOLDER, TABLE = "folder", "table"
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+(@[\w./-]+)?")
_EXPECTED = "a folder or a Hub data set"


def find_data(src: str) -> str:
    """Say what a name means: FOLDER, of images; or TABLE, a folder of parquet files or a data set of the Hub.

    The Hub is asked only about a name of the form owner/name that is no folder. It is asked here because `datasets` goes on
    asking for most of a minute where there is no network.

    Raises:
        DataError: There is no such folder, and none on the Hub; or the Hub refused or could not be reached.
        MissingExtraError: It is a table, and `datasets` is not installed.
    """
    path = Path(src)
    if path.is_dir() and not any(path.rglob("*.parquet")):
        return FOLDER
    if path.exists() and not path.is_dir():
        raise DataError(src, _EXPECTED, "a file", "give the folder that it lies in")
    on_hub = not path.is_dir()
    if on_hub and (not _HUB_ID.fullmatch(src) or src.startswith(".") or Path(path.parts[0]).is_dir()):
        remedy = similar_paths(src, otherwise="check the path; a data set of the Hub is written owner/name")
        raise DataError(src, _EXPECTED, "no such folder", remedy)
    require_packages(src, "data", "datasets")
    if on_hub:
        try:
            open_dataset(src)
        except (SourceError, HubError) as error:
            cached = "" if isinstance(error, SourceError) else ", or set HF_HUB_OFFLINE=1 for one in the cache of datasets"
            raise DataError(src, _EXPECTED, error.got, f"{error.remedy}{cached}") from error
    return TABLE
