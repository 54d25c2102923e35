"""The REST interface: results, limits, errors of one line, nothing of the server's files."""

import io
import json
import threading
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as masks

from catrank.serving.engine import once
from catrank.serving.limits import TooLarge

from .conftest import ADDRESS, png

WORDS = "red striped square, blue dotted circle, grass, sand"


def post(client: Any, image: bytes, name: str = "photo.png", **fields: object):
    return client.post("/v1/segment", files={"image": (name, image)}, data=fields)


def error(reply, status: int) -> str:
    """Return the one line of an error."""
    assert reply.status_code == status, reply.text
    assert [*reply.json()] == ["error"]
    message = reply.json()["error"]
    assert message and "\n" not in message and len(message) < 500
    return message


def test_json_holds_the_result_of_the_library(client, model, image, pixels):
    reply = post(client, image, classes=WORDS)
    assert reply.status_code == 200, reply.text
    assert reply.headers["content-disposition"] == "attachment; filename*=UTF-8''photo.json"
    found = reply.json()
    expected = model.segment(pixels, WORDS.split(", "))
    assert found["classes"] == WORDS.split(", ") and found["task"] == "semantic"
    assert found["image"] == {"file_name": "photo.png", "height": 64, "width": 64}
    assert [each["class_id"] for each in found["segments"]] == expected.class_ids.tolist()
    for index, each in enumerate(found["segments"]):
        assert (masks.decode(each["segmentation"]) == expected.mask(index)).all()
        assert each["area"] == expected.mask(index).sum()


def test_no_names_are_those_of_the_model(client, model, image):
    for fields in ({}, {"classes": " ,\n"}):
        assert post(client, image, **fields).json()["classes"] == [*model.class_names]


@pytest.mark.parametrize("output", ["labels", "overlay"])
def test_png(client, model, image, pixels, output):
    reply = post(client, image, classes=WORDS, output=output)
    assert reply.headers["content-type"] == "image/png"
    drawn = np.asarray(Image.open(io.BytesIO(reply.content)))
    expected = model.segment(pixels, WORDS.split(", "))
    wanted = expected.labels if output == "labels" else np.asarray(expected.overlay())
    assert (drawn == wanted).all()


@pytest.mark.parametrize("output", ["coco", "labelme"])
def test_annotation_files(client, image, output):
    found = post(client, image, classes=WORDS, output=output).json()
    if output == "coco":
        assert [each["name"] for each in found["categories"]] == WORDS.split(", ")
    else:
        assert found["imagePath"] == "photo.png" and found["imageData"]


def test_dial(client, image):
    assert post(client, image, classes=WORDS, keep="2").status_code == 200
    message = error(post(client, image, keep="many"), 400)
    assert message.startswith("keep is many: use a number of classes")


def test_model_and_health(client, model):
    assert client.get("/v1/health").json() == {"status": "ok"}
    found = client.get("/v1/model").json()
    assert found["name"] == "scenes-60" and found["open_vocabulary"] and found["adjustable_keep"]
    assert found["classes"] == [*model.class_names] and found["limits"]["pixels"] == 100_000


# ---- limits -----------------------------------------------------------------------------------


def test_pixels_are_counted_before_an_image_is_decoded(client, monkeypatch):
    bomb = png(np.zeros((1000, 1001, 3), dtype=np.uint8))
    monkeypatch.setattr(Image.Image, "load", lambda *_: pytest.fail("decoded"))
    message = error(post(client, bomb), 400)
    assert message.startswith("photo.png has 1001 x 1000 pixels, more than the limit of 0.1 ")


def test_bytes_of_a_file(client):
    message = error(post(client, bytes(4_000_000)), 413)
    assert message == "the upload has more than 3 MB: make it smaller"


def test_bytes_are_counted_as_they_come(client):
    """A body of unknown length ends where the limit is, and is never stored whole."""
    sent = 0

    def endless():
        nonlocal sent
        yield b'--x\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\n'
        while sent < 100 << 20:
            sent += 1 << 16
            yield bytes(1 << 16)

    form = {"content-type": "multipart/form-data; boundary=x"}
    error(client.post("/v1/segment", content=endless(), headers=form), 413)
    reply = client.post("/v1/segment", content=b"", headers=form | {"content-length": "9" * 12})
    error(reply, 413)


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        ("a," * 51, "51 class names are given: use at most 50 names of 100 characters"),
        ("a" * 101, "the class name 'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa...' has 101 characters"),
        ("a," * 200_000, "the class names have 400000 characters: use at most 50 names"),
        (",".join(map(str, range(180_000))), "the form cannot be read (Part exceeded"),
        ("sky, sky", "sky"),
        ("a\x00b", "control character"),
    ],
)
def test_class_names(client, image, classes, message):
    assert message in error(post(client, image, classes=classes), 400)


def test_a_million_class_names(client, image):
    message = error(post(client, image, classes=",".join(map(str, range(1_000_000)))), 413)
    assert message == "the upload has more than 3 MB: make it smaller"


def test_a_full_queue(service, client, image):
    go = threading.Event()
    jobs = [service.engine.submit(once(go.wait)) for _ in range(service.limits.queue)]
    try:
        reply = post(client, image)
        assert error(reply, 503) == "the server is busy with 4 requests: try again soon"
        assert reply.headers["retry-after"] == "2"
    finally:
        go.set()
    assert all(job.future.result(10) for job in jobs)
    assert post(client, image).status_code == 200


# ---- bad input --------------------------------------------------------------------------------


@pytest.mark.parametrize("content", [b"", b"no image", b"\x89PNG\r\n\x1a\n" + bytes(50)])
def test_no_image(client, content):
    message = error(post(client, content), 400)
    assert "photo.png" in message and "/tmp" not in message


@pytest.mark.parametrize(
    ("fields", "name"), [({"min_score": 2}, "min_score"), ({"output": "exe"}, "output")]
)
def test_fields(client, image, fields, name):
    assert error(post(client, image, **fields), 422).startswith(f"the field {name} is wrong: ")


def test_a_missing_image(client):
    assert error(client.post("/v1/segment", data={"classes": "sky"}), 422)
    assert error(client.post("/v1/segment", json={"image": "/etc/passwd"}), 422)


def test_paths_and_addresses_are_not_read(client, tmp_path, image):
    path = tmp_path / "secret.png"
    path.write_bytes(image)
    for text in (str(path), f"file://{path}", "http://127.0.0.1:9/a.png"):
        error(client.post("/v1/segment", data={"image": text}), 422)
    # Names of files and of vocabularies are class names here.
    (tmp_path / "names.txt").write_text("secret word\n")
    for text in (str(tmp_path / "names.txt"), "ade20k_150"):
        assert post(client, image, classes=text).json()["classes"] == [text]


@pytest.mark.parametrize("name", ["../../etc/cron.d/x.png", "C:\\a\\x.png", "/abs/x.png"])
def test_file_names_lose_their_folders(client, image, name):
    assert post(client, image, name=name).json()["image"]["file_name"] == "x.png"


def test_a_file_of_this_machine_is_not_named(client, image, tmp_path, monkeypatch):
    """LabelMe's file has the image and its plain name, whether or not such a file is here."""
    monkeypatch.chdir(tmp_path)
    before = post(client, image, output="labelme").json()
    (tmp_path / "photo.png").write_bytes(image)
    assert post(client, image, output="labelme").json() == before


@pytest.mark.parametrize("name", ["\udcff.png", "a\nb.png", "<img src=x onerror=alert(1)>.png"])
def test_odd_file_names(client, image, name):
    body = b'--x\r\nContent-Disposition: form-data; name="image"; filename="%s"\r\n\r\n%s\r\n--x--'
    body %= name.replace("\n", "%0A").encode("utf-8", "surrogateescape"), image
    form = {"content-type": "multipart/form-data; boundary=x"}
    reply = client.post("/v1/segment", content=body, headers=form)
    assert reply.status_code == 200, reply.text
    assert reply.json()["image"]["file_name"].isprintable()
    reply.headers["content-disposition"].encode("ascii")


def test_markup_stays_text(client, image):
    word = "<script>alert(1)</script>"
    reply = post(client, image, classes=word)
    assert reply.json()["classes"] == [word]
    assert reply.headers["content-type"] == "application/json"
    assert reply.headers["x-content-type-options"] == "nosniff"


# ---- other web sites --------------------------------------------------------------------------


def test_other_web_sites_are_refused(client):
    for path in ("/v1/health", "/v1/segment"):
        reply = client.post(path, headers={"origin": "https://evil.example"})
        assert "https://evil.example" in error(reply, 403)
        assert "access-control-allow-origin" not in reply.headers
    assert client.get("/v1/health", headers={"origin": ADDRESS}).status_code == 200
    rebound = client.get("/v1/health", headers={"host": "evil.example:7860"})
    assert "evil.example" in error(rebound, 403)


def test_an_allowed_web_site(connect):
    site = "https://good.example"
    client = connect(origins=[site])
    reply = client.get("/v1/health", headers={"origin": site})
    assert reply.headers["access-control-allow-origin"] == site
    assert client.get("/v1/health", headers={"origin": "https://evil.example"}).status_code == 403
    asked = {"origin": site, "access-control-request-method": "POST"}
    assert client.options("/v1/segment", headers=asked).status_code == 200


def test_a_server_for_all_machines_takes_any_name(connect):
    client = connect("http://gpu7.example", loopback=False)
    assert client.get("/v1/health").status_code == 200


def test_unknown_addresses(client):
    assert error(client.get("/v1/secret"), 404) == "GET /v1/secret is no address of this server"
    error(client.get("/v1/segment"), 405)


def test_an_error_of_ours_is_one_line_too(client, service, image, monkeypatch):
    monkeypatch.setattr(type(service.model), "segment", lambda *_, **__: 1 / 0)
    assert error(post(client, image), 500) == "the server failed; its log says why"


def test_the_openapi_document_needs_no_other_server(client):
    document = client.get("/v1/openapi.json").json()
    assert {*document["paths"]} == {"/v1/health", "/v1/model", "/v1/segment"}
    codes = document["paths"]["/v1/segment"]["post"]["responses"]
    assert {*codes} == {"200", "400", "403", "413", "422", "500", "503"}
    assert "HTTPValidationError" not in json.dumps(document)
    assert client.get("/docs").status_code == 404


def test_too_large_is_a_user_error(service):
    with pytest.raises(TooLarge, match="more than"):
        service.limits.check_bytes(3_000_001)
