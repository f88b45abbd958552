"""Who gets an answer: the token, the name in the Host header, methods, headers, files of the page."""

from __future__ import annotations

import json
import socket

import pytest

from ndvol.toy import toy_catalog
from ndvol.viewer.server import HEADERS


@pytest.fixture
def client(serve):
    return serve(toy_catalog(1))


def test_it_listens_on_the_loopback_address_alone(client):
    assert client.server.socket.getsockname()[0] == "127.0.0.1"
    assert client.server.url == f"http://127.0.0.1:{client.server.server_port}/{client.server.token}/"


def test_each_server_has_a_token_of_its_own(serve):
    tokens = {serve(toy_catalog(1)).server.token for _ in range(2)}
    assert len(tokens) == 2
    assert all(len(token) >= 32 for token in tokens)


@pytest.mark.parametrize("route", ["", "assets/main.js", "api/bundle", "api/nothing"])
@pytest.mark.parametrize("token", ["", "x", "{token}x", "%C3%BC"])
def test_without_the_token_there_is_no_answer(client, route, token):
    answer, body = client.get(f"/{token.format(token=client.server.token)}/{route}")
    assert (answer.status, json.loads(body)["code"]) == (403, "token")


def test_a_token_elsewhere_is_none(client):
    token = client.server.token
    for path in (f"/?token={token}", f"/api/bundle/{token}/", f"/x/../{token}/"):
        assert client.get(path)[0].status == 403


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:{port}", "127.0.0.1", "127.0.0.1:1", "[::1]:{port}", ""]
)
def test_a_name_that_was_made_to_lead_here_is_refused(client, host):
    port = client.server.server_port
    answer, body = client.get(f"/{client.server.token}/", headers={"Host": host.format(port=port)})
    assert (answer.status, json.loads(body)["code"]) == (403, "host")


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        ("/{token}/", b"Host: 127.0.0.1:{port}\r\nHost: evil.example\r\n", 403),
        ("/{token}/", b"", 403),
        ("/\xff/", b"Host: 127.0.0.1:{port}\r\n", 403),
        ("http://[/{token}/", b"Host: 127.0.0.1:{port}\r\n", 400),
    ],
)
def test_requests_that_no_browser_makes_are_refused(client, path, headers, status):
    port, token = client.server.server_port, client.server.token
    with socket.create_connection(("127.0.0.1", port), timeout=10) as raw:
        line = f"GET {path.replace('{token}', token)} HTTP/1.1\r\n".encode("latin-1")
        raw.sendall(line + headers.replace(b"{port}", str(port).encode()) + b"Connection: close\r\n\r\n")
        assert raw.recv(100).startswith(f"HTTP/1.1 {status} ".encode())


def test_the_other_name_of_the_address_is_served(client):
    host = {"Host": f"localhost:{client.server.server_port}"}
    assert client.get(f"/{client.server.token}/", headers=host)[0].status == 200


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "PATCH", "<i>"])
def test_nothing_but_reading_is_served(client, method):
    answer, body = client.get(f"/{client.server.token}/", method=method)
    assert answer.status == 501
    assert answer.headers["Content-Type"] == "application/json"
    assert json.loads(body)["code"] == "request"


def test_every_answer_carries_the_headers_that_keep_the_page_to_itself(client):
    for path in ("/", f"/{client.server.token}/", f"/{client.server.token}/api/bundle", f"/{client.server.token}/no"):
        answer, _ = client.get(path)
        assert {name: answer.headers[name] for name in HEADERS} == HEADERS
    assert "default-src 'none'" in HEADERS["Content-Security-Policy"]
    assert "unsafe" not in HEADERS["Content-Security-Policy"]


def test_the_page_and_its_files_are_kept_by_their_content(client):
    token = client.server.token
    for name, kind in (("", "text/html"), ("assets/main.js", "text/javascript"), ("assets/view.css", "text/css")):
        answer, body = client.get(f"/{token}/{name}")
        assert (answer.status, answer.headers.get_content_type()) == (200, kind)
        assert body
        again, none = client.get(f"/{token}/{name}", headers={"If-None-Match": answer.headers["ETag"]})
        assert (again.status, none) == (304, b"")


def test_the_head_alone_can_be_asked_for(client):
    answer, body = client.get(f"/{client.server.token}/", method="HEAD")
    assert (answer.status, body) == (200, b"")
    assert int(answer.headers["Content-Length"]) > 100


@pytest.mark.parametrize(
    "path",
    ["assets/", "assets/../server.py", "assets/..%2fserver.py", "assets/%2fetc%2fpasswd", "../", "api", "api/tile/"],
)
def test_no_path_leads_to_a_file(client, path):
    answer, body = client.get(f"/{client.server.token}/{path}")
    assert (answer.status, json.loads(body)["code"]) == (404, "path")


def test_the_page_holds_no_markup_made_of_text_and_names_no_other_place(client):
    for name, answer in client.server.routes._assets.items():
        text = answer.body.decode()
        for word in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "//cdn", "https:"):
            assert word not in text, (name, word)
        assert "http:" not in text.replace("http://www.w3.org/2000/svg", "")


def test_a_fault_of_the_viewer_itself_is_told_and_the_server_goes_on(client, monkeypatch, capsys):
    routes = client.server.routes
    monkeypatch.setitem(routes._table, "api/bundle", (lambda query: 1 / 0, ()))
    status, told = client.ask("bundle")
    assert (status, told["code"]) == (500, "bug")
    assert client.ask("cases")[0] == 200
    assert "ZeroDivisionError" in capsys.readouterr().err
