"""Downloads over HTTP resume, and say why they fail."""

import os
import socket
import sys
from pathlib import Path
from types import SimpleNamespace
from urllib.request import Request

import pytest

from segcore.checkpoint import http
from segcore.checkpoint.http import TRIES, DownloadError, download

sys.path.insert(0, str(Path(__file__).parents[2]))
from file_server import serving

CONTENT = os.urandom(3_000_000)


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with serving() as facts:
        facts.files["/m.pth"] = CONTENT
        yield facts


@pytest.fixture
def part(tmp_path):
    return tmp_path / ".part"


def fetch(server, part, path="/m.pth", limit=1 << 30, pauses=None):
    pause = (lambda _: None) if pauses is None else pauses.append
    return download(
        server.address + path, part, limit=limit, title="m", progress=False, pause=pause
    )


def test_a_file_arrives_whole_and_is_readable_by_its_owner_alone(server, part):
    assert fetch(server, part) == ""
    assert part.read_bytes() == CONTENT and part.stat().st_mode & 0o777 == 0o600
    assert server.requests == [("/m.pth", "")]


def test_a_dropped_connection_goes_on_where_it_ended(server, part):
    server.drops["/m.pth"] = [1_000_000, 500_000]
    pauses = []
    fetch(server, part, pauses=pauses)
    assert part.read_bytes() == CONTENT
    assert server.requests == [
        ("/m.pth", ""),
        ("/m.pth", "bytes=1000000-"),
        ("/m.pth", "bytes=1500000-"),
    ]
    assert pauses == [1.0, 1.0]  # progress was made between them


def test_the_next_process_goes_on_too(server, part):
    server.drops["/m.pth"] = [1_000_000] + [0] * TRIES
    with pytest.raises(DownloadError, match="ended after 1000000 of 3000000 bytes"):
        fetch(server, part)
    server.drops.clear()
    server.requests.clear()
    fetch(server, part)
    assert part.read_bytes() == CONTENT
    assert server.requests == [("/m.pth", "bytes=1000000-")]


def test_a_server_without_progress_is_given_up(server, part):
    server.drops["/m.pth"] = [0] * 100
    pauses = []
    with pytest.raises(DownloadError, match="the connection ended after 0 of"):
        fetch(server, part, pauses=pauses)
    assert len(server.requests) == TRIES and pauses == [1.0, 2.0, 4.0, 8.0]


def test_without_support_for_ranges_it_starts_anew(server, part):
    server.ranges, server.drops["/m.pth"] = False, [1_000_000]
    fetch(server, part)
    assert part.read_bytes() == CONTENT


@pytest.mark.parametrize("etag", ['"second"', 'W/"second"', ""])
def test_a_file_that_changed_between_is_received_anew(server, part, etag):
    server.drops["/m.pth"] = [1_000_000] + [0] * TRIES
    with pytest.raises(DownloadError):
        fetch(server, part)
    server.drops.clear()
    changed = os.urandom(2_000_000)
    server.files["/m.pth"], server.etags["/m.pth"] = changed, etag
    fetch(server, part)
    assert part.read_bytes() == changed


def test_a_weak_validator_is_compared_here(server, part):
    """If-Range takes strong ones alone, so such a server sends the rest of whatever it has."""
    server.etags["/m.pth"], server.drops["/m.pth"] = 'W/"1"', [1_000_000]
    fetch(server, part)
    assert part.read_bytes() == CONTENT
    assert server.requests[1] == ("/m.pth", "bytes=1000000-")


def test_without_a_version_nothing_is_resumed(server, part):
    server.etags["/m.pth"], server.drops["/m.pth"] = "", [1_000_000]
    fetch(server, part)
    assert part.read_bytes() == CONTENT
    assert server.requests == [("/m.pth", ""), ("/m.pth", "")]


def test_a_partial_file_of_another_address_is_not_continued(server, part):
    server.files["/other.pth"] = b"other"
    server.drops["/m.pth"] = [1_000_000] + [0] * TRIES
    with pytest.raises(DownloadError):
        fetch(server, part)
    fetch(server, part, "/other.pth")
    assert part.read_bytes() == b"other"


def test_what_is_whole_already_is_not_sent_again(server, part):
    fetch(server, part)
    fetch(server, part)
    assert part.read_bytes() == CONTENT
    assert server.requests[1:] == [("/m.pth", "bytes=3000000-")]


def test_redirects_are_followed_but_to_no_other_scheme(server, part):
    server.redirects |= {"/a": "/b", "/b": f"{server.address}/m.pth"}
    fetch(server, part, "/a")
    assert part.read_bytes() == CONTENT
    part.unlink()
    for address in ("ftp://127.0.0.1/m.pth", "file:///etc/passwd"):
        server.redirects["/f"] = address
        with pytest.raises(DownloadError, match=f"{address}.*(not safe|not allowed)"):
            fetch(server, part, "/f")
    server.redirects["/loop"] = "/loop"
    with pytest.raises(DownloadError, match="the server says 302"):
        fetch(server, part, "/loop")


def test_a_redirect_does_not_give_up_encryption():
    secure = Request("https://host/m.pth")
    with pytest.raises(DownloadError, match=r"leads on to http://host/m\.pth, which is not safe"):
        http._Redirects().redirect_request(secure, None, 302, "Found", {}, "http://host/m.pth")
    assert http._Redirects().redirect_request(secure, None, 302, "Found", {}, "https://other/m.pth")


def test_a_busy_server_is_asked_again_a_refusal_is_not(server, part):
    server.statuses["/m.pth"] = [503, 429]
    fetch(server, part)
    assert part.read_bytes() == CONTENT
    for status in (403, 404, 410):
        server.requests.clear()
        server.statuses["/m.pth"] = [status]
        with pytest.raises(DownloadError, match=f"the server says {status}"):
            fetch(server, part, "/m.pth")
        assert len(server.requests) == 1


def test_a_web_page_in_place_of_the_file_is_refused(server, part):
    server.headers["/m.pth"] = {"Content-Type": "text/html; charset=utf-8"}
    with pytest.raises(DownloadError, match="sends a web page"):
        fetch(server, part)
    assert not part.exists()


@pytest.mark.parametrize("lengths", [True, False])
def test_too_much_is_refused(server, part, lengths):
    server.lengths = lengths
    with pytest.raises(DownloadError, match=r"more than the 1000 expected|larger than 1000 bytes"):
        fetch(server, part, limit=1000)
    assert not part.exists() or part.stat().st_size < 2_100_000


def test_a_full_disk_is_noticed_before(server, part, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=1000))
    with pytest.raises(DownloadError, match="3000000 bytes are to come, and the disk of"):
        fetch(server, part)


def test_without_a_network_there_is_no_waiting(part, monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{free.getsockname()[1]}/m.pth"
    pauses = []

    def attempt(address):
        download(address, part, limit=9, title="m", progress=False, pause=pauses.append)

    with pytest.raises(DownloadError, match="refused"):
        attempt(address)
    with pytest.raises(DownloadError):
        attempt("http://no-such-host.invalid/m.pth")
    with pytest.raises(DownloadError):
        attempt("http:///m.pth")
    with pytest.raises(DownloadError):
        attempt("http://127.0.0.1:port/m.pth")
    assert not pauses


def test_a_link_that_was_laid_in_the_place_of_the_partial_file_is_not_followed(
    server, part, tmp_path
):
    (tmp_path / "precious").write_text("mine")
    part.symlink_to(tmp_path / "precious")
    with pytest.raises(DownloadError):
        fetch(server, part)
    assert (tmp_path / "precious").read_text() == "mine"
