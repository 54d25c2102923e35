"""Downloads over HTTP that go on where they stopped.

A download goes to a partial file, which stays when the connection or the process ends: the next
download asks the server for the rest, and starts anew where the server has another file by then.
(torch.hub, pooch and iopath, which also download, start anew always.)
"""

import json
import os
import shutil
import socket
import ssl
import string
import time
from collections.abc import Callable
from contextlib import suppress
from http.client import HTTPException, HTTPResponse, InvalidURL
from pathlib import Path
from typing import BinaryIO, NamedTuple
from urllib.error import HTTPError, URLError
from urllib.parse import quote, urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

from tqdm import tqdm

from segcore.errors import printable

CHUNK = 1 << 20  # bytes
TIMEOUT = 30.0  # seconds without a sign of the server
TRIES = 5  # without a byte between them
# Statuses after which the same request may succeed: time-outs, too many requests, an overload.
TRANSIENT = {408, 425, 429, 500, 502, 503, 504}
RANGE_NOT_SATISFIABLE = 416


class DownloadError(Exception):
    """A download that failed; the message is the reason, for a person.

    Attributes:
        transient: the same download may succeed later.
    """

    def __init__(self, reason: object, transient: bool = False) -> None:
        super().__init__(printable(reason))
        self.transient = transient


def download(
    address: str,
    path: Path,
    *,
    limit: int,
    title: str,
    progress: bool = True,
    pause: Callable[[float], object] = time.sleep,
) -> str:
    """Write what is at an address to a file, which may hold the beginning of it already.

    Redirects are followed, but none from https to http. A connection that drops is made again.

    Args:
        address: http or https.
        path: the partial file; which version of the address it holds stands beside it.
        limit: bytes that the file may have at most.
        title: what the progress bar shows.
        progress: show a progress bar, where standard error is a terminal.
        pause: waits some seconds.

    Returns:
        the header Content-Disposition, which may name the file; "" where it is absent.

    Raises:
        DownloadError: the server cannot be reached, refuses, or sends a web page, too much or too
            little; or the file cannot be written.
    """
    partial, failures = _Partial(path), 0
    hidden = None if progress else True  # None: unless standard error is a terminal
    with tqdm(desc=title, unit="B", unit_scale=True, unit_divisor=1024, disable=hidden) as bar:
        while True:
            before = partial.size
            try:
                return _receive(address, partial, limit, bar)
            except DownloadError as error:
                failures = 1 if partial.size > before else failures + 1
                if failures >= TRIES or not error.transient:
                    raise
            pause(2.0 ** (failures - 1))


def forget(path: Path) -> None:
    """Remove a partial file, if it is still there, and what is noted of it."""
    _Partial(path).remove()


class _Version(NamedTuple):
    """What a response says of the file that it is of; "" for headers that are absent.

    Attributes:
        address: as asked for.
        etag, modified: the headers ETag and Last-Modified, which change with the file.
        disposition: the header Content-Disposition.
    """

    address: str = ""
    etag: str = ""
    modified: str = ""
    disposition: str = ""


class _Partial:
    """The beginning of a file, and which version of which address it is of."""

    def __init__(self, path: Path) -> None:
        self.path, self.about = path, path.with_name(f"{path.name}.json")

    @property
    def size(self) -> int:
        """Bytes that are there."""
        return self.path.stat().st_size if self.path.is_file() else 0

    def version(self) -> _Version:
        """The version as it was written; one of empty texts where none was."""
        with suppress(OSError, ValueError, TypeError):
            version = _Version(*json.loads(self.about.read_text("utf-8")))
            if all(isinstance(text, str) for text in version):
                return version
        return _Version()

    def open(self, start: int, version: _Version) -> BinaryIO:
        """Open the file, readable by the user alone, to write it from a byte on."""
        self.about.write_text(json.dumps(version), "utf-8")
        flags = os.O_WRONLY | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0)
        file = os.fdopen(os.open(self.path, flags, 0o600), "wb")
        file.truncate(start)
        file.seek(start)
        return file

    def remove(self) -> None:
        """Remove the file, to start anew."""
        self.path.unlink(missing_ok=True)
        self.about.unlink(missing_ok=True)


def _receive(address: str, partial: _Partial, limit: int, bar: tqdm) -> str:
    """Ask for what is missing of the file and append it; see :func:`download`."""
    known = partial.version()
    # Without ETag and Last-Modified nothing says whether the rest would be of the same file.
    dated = known.etag or known.modified
    offset = partial.size if known.address == address and dated else 0
    try:
        with _open(address, offset, known) as response:
            headers = response.headers
            names = ("ETag", "Last-Modified", "Content-Disposition")
            version = _Version(address, *(headers.get(name, "") for name in names))
            start = offset if response.status == 206 else 0
            if start and (version != known or not _continues(response, start)):
                partial.remove()
                raise DownloadError("the server has another file than before", transient=True)
            _refuse_page(response)
            total = _total(response, start)
            _require_room(partial.path.parent, start, total, limit)
            bar.reset(total)
            bar.update(start)
            with partial.open(start, version) as file:
                while chunk := response.read1(CHUNK):
                    file.write(chunk)
                    bar.update(len(chunk))
                    if file.tell() > limit:
                        raise DownloadError(f"it is larger than {limit} bytes")
            if total is not None and partial.size != total:
                raise DownloadError(
                    f"the connection ended after {partial.size} of {total} bytes", transient=True
                )
            return version.disposition
    except _OutOfRangeError as error:
        if error.total == offset:  # all of it was there already
            return known.disposition
        partial.remove()
        raise DownloadError("the server has another file than before", transient=True) from error
    except InvalidURL as error:
        raise DownloadError(error) from error
    except (HTTPException, TimeoutError, ConnectionError, ssl.SSLError) as error:
        raise DownloadError(str(error) or type(error).__name__, transient=True) from error
    except OSError as error:
        raise DownloadError(error.strerror or error) from error


class _OutOfRangeError(Exception):
    """The file at the server has ``total`` bytes, and none where the partial file ends."""

    def __init__(self, content_range: str) -> None:
        text = content_range.rpartition("/")[2]
        self.total = int(text) if text.isdecimal() else None


def _open(address: str, offset: int, version: _Version) -> HTTPResponse:
    """The response to a request for a file from some byte on.

    A server that has another version by now sends the whole file, as If-Range asks for.
    """
    headers = {"User-Agent": "catrank", "Accept-Encoding": "identity"}
    if offset:
        headers["Range"] = f"bytes={offset}-"
        strong = "" if version.etag.startswith("W/") else version.etag
        if condition := strong or version.modified:
            headers["If-Range"] = condition
    request = Request(quote(address, safe=string.punctuation), headers=headers)
    try:
        return build_opener(_Redirects).open(request, timeout=TIMEOUT)
    except HTTPError as error:
        if error.code == RANGE_NOT_SATISFIABLE and offset:
            raise _OutOfRangeError(error.headers.get("Content-Range", "")) from error
        reason = f"the server says {error.code} {error.reason}"
        raise DownloadError(reason, transient=error.code in TRANSIENT) from error
    except URLError as error:
        reason = error.reason
        # No network, no such server, nothing that listens there, or a wrong certificate.
        final = (socket.gaierror, ConnectionRefusedError, ssl.SSLCertVerificationError, str)
        raise DownloadError(
            getattr(reason, "strerror", None) or reason, transient=not isinstance(reason, final)
        ) from error


class _Redirects(HTTPRedirectHandler):
    def redirect_request(self, req, fp, code, msg, headers, newurl):
        schemes = urlsplit(req.full_url).scheme, urlsplit(newurl).scheme
        if schemes[1] not in ("http", "https") or schemes == ("https", "http"):
            raise DownloadError(f"the server leads on to {newurl}, which is not safe")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _continues(response: HTTPResponse, start: int) -> bool:
    """Whether a partial response begins where it was asked to."""
    return response.headers.get("Content-Range", "").startswith(f"bytes {start}-")


def _total(response: HTTPResponse, start: int) -> int | None:
    """How many bytes the whole file has, where the server says it."""
    length = response.headers.get("Content-Length", "")
    return start + int(length) if length.isdecimal() else None


def _refuse_page(response: HTTPResponse) -> None:
    """Refuse what servers send in place of a file: a log-in, a warning, an error."""
    if (kind := response.headers.get_content_type()) in ("text/html", "application/xhtml+xml"):
        raise DownloadError(f"the server sends a web page ({kind}) in place of the file")


def _require_room(folder: Path, start: int, total: int | None, limit: int) -> None:
    """Refuse a file that is too large, before it is received."""
    if total is not None and total > limit:
        raise DownloadError(f"it has {total} bytes, more than the {limit} expected at most")
    free = shutil.disk_usage(folder).free
    if total is not None and total - start > free:
        raise DownloadError(
            f"{total - start} bytes are to come, and the disk of {folder} has {free}: free some, "
            "or set CATRANK_CACHE to a folder with more space"
        )
