"""Files of a Hugging Face repository, by the library of that host, which resumes downloads.

Addresses are written as there: ``hf://OWNER/REPOSITORY/FILE``, behind ``hf://spaces/`` and
``hf://datasets/`` for repositories of these kinds, and ``REPOSITORY@REVISION`` for another one than
the main branch.
"""

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from segcore.checkpoint.http import DownloadError
from segcore.errors import UserError, printable

SCHEME = "hf"
_ADDRESS = re.compile(
    r"hf://(?:(?P<kind>space|dataset)s/)?(?P<repo_id>[\w.-]+/[\w.-]+)"
    r"(?:@(?P<revision>[\w.-]+))?/(?P<filename>\S+)",
    re.ASCII,
)


def is_hub(address: str) -> bool:
    """Return whether an address is of this host."""
    return address.startswith(f"{SCHEME}://")


def web_address(address: str) -> str:
    """Return where a browser finds the file of an ``hf://`` address.

    Raises:
        UserError: the address is not of this form.
    """
    from huggingface_hub import hf_hub_url  # takes a second to import

    return hf_hub_url(**_file_of(address))


def download(address: str, path: Path, *, limit: int, progress: bool) -> str | None:
    """Write the file of an ``hf://`` address to ``path``.

    Args:
        address: of the file.
        path: becomes the file once it is whole; what was received of it before is kept beside it.
        limit: bytes that the file may have at most.
        progress: show a progress bar.

    Returns:
        the SHA-256 (hex) that the host has noted of the file; None if none.

    Raises:
        DownloadError: the file cannot be downloaded.
        UserError: the address is not of this form.
    """
    import huggingface_hub

    file = _file_of(address)
    staging = path.with_name(f"{path.name}-hub")
    try:
        with _progress_bars(progress):
            about = huggingface_hub.get_hf_file_metadata(huggingface_hub.hf_hub_url(**file))
            if (about.size or 0) > limit:
                raise DownloadError(f"it has {about.size} bytes, more than {limit} at most")
            whole = _resumed(file, staging)
    except (DownloadError, UserError):
        raise
    # Which errors the library raises changes with its release and the transport below it.
    except Exception as error:
        raise DownloadError(str(error) or type(error).__name__) from error
    Path(whole).replace(path)
    shutil.rmtree(staging)
    digest = about.etag or ""
    return digest if re.fullmatch(r"[0-9a-f]{64}", digest) else None


def _resumed(file: dict[str, Any], folder: Path) -> str:
    """Download a file to a folder; go on after a dropped connection as long as bytes arrive.

    Not all releases of the library do so themselves, but all resume.
    """
    from huggingface_hub import hf_hub_download

    while True:
        before = _bytes_in(folder)
        try:
            return hf_hub_download(**file, local_dir=folder)
        except Exception:
            if _bytes_in(folder) <= before:
                raise


def _bytes_in(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*.incomplete"))


def _file_of(address: str) -> dict[str, Any]:
    """What the library calls the parts of an address."""
    if not (parts := _ADDRESS.fullmatch(address)):
        raise UserError(f"{printable(address)} cannot be fetched: write hf://OWNER/REPOSITORY/FILE")
    named = parts.groupdict()
    return {"repo_type": named.pop("kind"), **named}


@contextmanager
def _progress_bars(wanted: bool) -> Iterator[None]:
    """Meanwhile the library shows none where they are not wanted."""
    from huggingface_hub.utils import (
        are_progress_bars_disabled,
        disable_progress_bars,
        enable_progress_bars,
    )

    if wanted or are_progress_bars_disabled():
        yield
        return
    disable_progress_bars()
    try:
        yield
    finally:
        enable_progress_bars()
