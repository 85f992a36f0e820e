"""One file from the Hugging Face Hub, or one line that says why not."""

from __future__ import annotations

import os
from pathlib import Path

from timm_encmixer.errors import SourceError

HUB_PREFIX = "hf-hub:"


def download_file(model_id: str, filename: str, *, cache_dir: str | os.PathLike[str] | None = None) -> Path | None:
    """Return the cached path of a repository's file, None when the repository has no such file.

    Args:
        model_id: "owner/name" or "owner/name@revision", as timm writes it.
        filename: Path inside the repository.
        cache_dir: Cache folder; None takes huggingface_hub's own.

    Raises:
        SourceError: No such repository, no access, or no connection.
    """
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, HFValidationError, LocalEntryNotFoundError

    repo_id, _, revision = model_id.partition("@")
    remedy = "check the name, your connection and your token (hf auth login)"
    try:
        return Path(
            hf_hub_download(repo_id, filename, revision=revision or None, cache_dir=Path(cache_dir) if cache_dir else None)
        )
    except LocalEntryNotFoundError as error:
        raise SourceError(
            HUB_PREFIX + model_id, f"{filename} from the Hub", "no connection and no cached copy", remedy
        ) from error
    except EntryNotFoundError:
        return None
    except (OSError, HFValidationError) as error:  # every HTTP error of huggingface_hub is an OSError
        got = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise SourceError(HUB_PREFIX + model_id, f"{filename} from the Hub", got, remedy) from error
