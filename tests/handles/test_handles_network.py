"""Certificates, proxies, passwords, and odd addresses, on loopback."""

from __future__ import annotations

import email.utils
import os
import socket
import ssl
import time
from pathlib import Path
from typing import Any, Dict, Iterator

import pytest
from loopback import Answer, Proxy, Server, proxying, serving, tar_of

import hub_compat as hub

requests = pytest.importorskip("requests")

FILES = {"saved_model.pb": b"\x08\x01", "variables/variables.index": b"index"}
TLS = Path(__file__).resolve().parents[1] / "support" / "tls"
AUTHORITY = str(TLS / "authority.pem")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: Any) -> Path:
    """A cache of the test's own, and nothing of the machine's settings."""
    for name in list(os.environ):
        if name.startswith("TFHUB_") or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("TFHUB_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("HUB_COMPAT_READ_TIMEOUT", "5")
    monkeypatch.setenv("HUB_COMPAT_RETRIES", "1")
    monkeypatch.setattr("hub_compat._handles.transfer._FIRST_PAUSE", 0.01)
    return tmp_path / "cache"


def content(folder: str) -> Dict[str, bytes]:
    """The files of a directory."""
    found = [p for p in Path(folder).rglob("*") if p.is_file()]
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in found}


@pytest.fixture
def server() -> Iterator[Server]:
    """A server."""
    with serving() as found:
        yield found


@pytest.fixture
def secure() -> Iterator[Server]:
    """A server with a certificate of a private authority."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(str(TLS / "server.pem"))
    with serving(lambda s: context.wrap_socket(s, server_side=True)) as found:
        yield found


@pytest.fixture
def proxy() -> Iterator[Proxy]:
    """A proxy."""
    with proxying() as found:
        yield found


@pytest.mark.parametrize(
    "variable", ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"]
)
def test_private_authority(secure: Server, variable: str, monkeypatch: Any) -> None:
    """Refused until it is named; the message names how."""
    address = secure.on("/m", Answer(tar_of(FILES)))
    with pytest.raises(hub.errors.HandleError, match="REQUESTS_CA_BUNDLE"):
        hub.resolve(address)
    monkeypatch.setenv(variable, AUTHORITY)
    assert content(hub.resolve(address)) == FILES


def test_two_bundles(secure: Server, tmp_path: Path, monkeypatch: Any) -> None:
    """Those of one variable and of the other; what cannot be read is named."""
    import certifi

    address = secure.on("/m", Answer(tar_of(FILES)))
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", certifi.where())
    monkeypatch.setenv("SSL_CERT_FILE", "/no/such.pem")
    with pytest.raises(hub.errors.HandleError, match="/no/such.pem"):
        hub.resolve(address)
    monkeypatch.setenv("SSL_CERT_FILE", AUTHORITY)
    assert content(hub.resolve(address)) == FILES


def test_any_certificate(secure: Server, monkeypatch: Any, caplog: Any) -> None:
    """R13: exactly "true" accepts it, with a warning, whatever else is named."""
    address = secure.on("/m", Answer(tar_of(FILES)))
    # Another authority than that of the server.
    import certifi

    monkeypatch.setenv("REQUESTS_CA_BUNDLE", certifi.where())
    monkeypatch.setenv("TFHUB_DISABLE_CERT_VALIDATION", "True")
    with pytest.raises(hub.errors.HandleError, match="certificate"):
        hub.resolve(address)
    monkeypatch.setenv("TFHUB_DISABLE_CERT_VALIDATION", "true")
    assert content(hub.resolve(address)) == FILES
    assert "TFHUB_DISABLE_CERT_VALIDATION" in caplog.text


def test_wrong_host(secure: Server, monkeypatch: Any) -> None:
    """The certificate is not for 127.0.0.2."""
    monkeypatch.setenv("SSL_CERT_FILE", AUTHORITY)
    address = secure.on("/m", Answer(tar_of(FILES))).replace("localhost", "127.0.0.2")
    with pytest.raises(hub.errors.HandleError):
        hub.resolve(address)


def test_no_such_authority(secure: Server, monkeypatch: Any) -> None:
    """A file of authorities that is not there is named."""
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/no/such.pem")
    with pytest.raises(hub.errors.HandleError, match="/no/such.pem"):
        hub.resolve(secure.on("/m", Answer(tar_of(FILES))))


@pytest.mark.parametrize("variable", ["HTTPS_PROXY", "https_proxy", "ALL_PROXY"])
def test_tunnel(secure: Server, proxy: Proxy, variable: str, monkeypatch: Any) -> None:
    """By CONNECT, with the password of the proxy; NO_PROXY goes without."""
    monkeypatch.setenv("SSL_CERT_FILE", AUTHORITY)
    monkeypatch.setenv(variable, "http://user:hidden@" + proxy.address)
    assert content(hub.resolve(secure.on("/m", Answer(tar_of(FILES))))) == FILES
    ((asked, headers),) = proxy.asked
    assert asked == "CONNECT " + secure.base.partition("://")[2]
    assert any(h.startswith("Proxy-Authorization: Basic ") for h in headers)
    monkeypatch.setenv("NO_PROXY", "localhost")
    assert content(hub.resolve(secure.on("/n", Answer(tar_of(FILES))))) == FILES
    assert len(proxy.asked) == 1


def test_proxy_without_tunnel(server: Server, proxy: Proxy, monkeypatch: Any) -> None:
    """http:// needs none."""
    monkeypatch.setenv("HTTP_PROXY", "http://" + proxy.address)
    address = server.on("/m", Answer(tar_of(FILES)))
    assert content(hub.resolve(address)) == FILES
    assert [asked for asked, _ in proxy.asked] == [
        "GET " + address + "?tf-hub-format=compressed"
    ]


def test_proxy_that_refuses(secure: Server, proxy: Proxy, monkeypatch: Any) -> None:
    """Its password is not in the message."""
    proxy.refuses = True
    monkeypatch.setenv("HTTPS_PROXY", "http://user:hidden@" + proxy.address)
    with pytest.raises(hub.errors.HandleError, match="407") as raised:
        hub.resolve(secure.on("/m", Answer(tar_of(FILES))))
    assert "hidden" not in str(raised.value)


def test_no_proxy_there(secure: Server, monkeypatch: Any) -> None:
    """The error names what to set."""
    monkeypatch.setenv("HTTPS_PROXY", "http://user:hidden@127.0.0.1:9")
    with pytest.raises(hub.errors.HandleError, match="HTTPS_PROXY") as raised:
        hub.resolve(secure.on("/m", Answer(tar_of(FILES))))
    assert "hidden" not in str(raised.value)


def test_password(server: Server, cache: Path, caplog: Any, capsys: Any) -> None:
    """It is sent to its host and no other, and never shown or written."""
    elsewhere = server.base.replace("localhost", "127.0.0.1") + "/signed"
    server.on("/signed", Answer(tar_of(FILES)))
    server.on("/m", Answer(status=302, headers={"Location": elsewhere}))
    base = server.base.replace("://", "://me:pa%40ss@")
    address = base + "/m?apikey=hidden&a=b"
    found = hub.resolve(address)
    assert server.asked[0][1]["Authorization"].startswith("Basic ")
    assert server.asked[0][0] == "/m?apikey=hidden&a=b&tf-hub-format=compressed"
    assert "Authorization" not in server.asked[1][1]
    os.remove(os.path.join(found, "saved_model.pb"))
    hub.resolve(address)
    messages = [caplog.text]
    server.on("/bad", Answer(b"<html>"))
    server.on("/not", Answer(b"", 403))
    server.on("/loop", Answer(status=302, headers={"Location": base + "/loop"}))
    server.on("/to", Answer(status=302, headers={"Location": "ftp://me:pa%40ss@h/"}))
    for path in ("/bad", "/not", "/loop", "/to", "/none"):
        with pytest.raises(hub.errors.HandleError) as raised:
            hub.resolve(base + path + "?apikey=hidden&a=b")
        messages.append(str(raised.value))
    for text in messages + [p.read_text() for p in cache.glob("*.*")]:
        assert "pa%40ss" not in text
        assert "hidden" not in text
    assert "***@localhost" in messages[0]
    from hub_compat import cli

    assert cli.main(["hub-compat", "cache", "list"]) == 0
    assert cli.main(["hub-compat", "resolve", base + "/not", "--json"]) == 1
    shown = capsys.readouterr()
    assert "pa%40ss" not in shown.out + shown.err
    # What stands for it in the list is of use all the same.
    assert cli.main(["hub-compat", "cache", "remove", os.path.basename(found)]) == 0
    assert not os.path.exists(found)


@pytest.mark.parametrize(
    ("rest", "asked"),
    [
        ("/m%20n/%C3%BC", "/m%20n/%C3%BC?tf-hub-format=compressed"),
        ("/m n/\u00fc", "/m%20n/%C3%BC?tf-hub-format=compressed"),
        ("/m?x", "/m?x&tf-hub-format=compressed"),
        ("/m?x=1=2&x=%2F&y=", "/m?x=1=2&x=%2F&y=&tf-hub-format=compressed"),
        ("/m?", "/m?tf-hub-format=compressed"),
        ("/m#part", "/m?tf-hub-format=compressed"),
        ("/m?a=b#part", "/m?a=b&tf-hub-format=compressed"),
        (
            "/m?tf-hub-format=compressed",
            "/m?tf-hub-format=compressed&tf-hub-format=compressed",
        ),
        ("/m//n", "/m//n?tf-hub-format=compressed"),
        ("/m;v=1", "/m;v=1?tf-hub-format=compressed"),
    ],
)
def test_odd_addresses(server: Server, rest: str, asked: str) -> None:
    """What a server is asked is what the address says, and the format."""
    server.on(asked.partition("?")[0], Answer(tar_of(FILES)))
    assert content(hub.resolve(server.base + rest)) == FILES
    assert server.asked[0][0] == asked


@pytest.mark.parametrize(
    "handle",
    [
        "http://[::1/m",
        "http://a b/m",
        "http://\u00fc..x/m",
        "http://localhost:99999/m",
        "http://localhost:-1/m",
        "http://.../m",
        "http://%zz/m",
        "http://" + "a" * 300 + "/m",
        "http://\0/m",
        "http://localhost:1/\ud800",
        "https://kaggle.com/models/../..",
        "kaggle://",
        "kaggle://../../../..",
        "kaggle://a/b/c/d/e/f",
        "http:///",
        "http:/m",
    ],
)
def test_no_addresses(handle: str, monkeypatch: Any) -> None:
    """They end in an error of ours, or are paths, and soon."""
    monkeypatch.setenv("HUB_COMPAT_RETRIES", "0")
    monkeypatch.setenv("HUB_COMPAT_CONNECT_TIMEOUT", "2")
    try:
        assert hub.resolve(handle) == handle == "http:/m"
    except hub.errors.HubCompatError as error:
        assert "Received: " in str(error)


def test_ipv6() -> None:
    """An address of numbers in brackets."""
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        pytest.skip("there is no IPv6")
    with serving(host="[::1]") as server:
        assert content(hub.resolve(server.on("/m", Answer(tar_of(FILES))))) == FILES


@pytest.mark.parametrize("how", ["seconds", "date", "far away"])
def test_retry_after(server: Server, how: str, monkeypatch: Any) -> None:
    """A server that says when is asked then; not later than we like to wait."""
    value = {
        "seconds": "1",
        "date": email.utils.formatdate(time.time() + 2, usegmt=True),
    }
    if how == "far away":
        monkeypatch.setattr("hub_compat._handles.transfer._LONGEST_PAUSE", 1.0)
    later = Answer(b"", 429, {"Retry-After": value.get(how, "86400")})
    address = server.on("/m", later, Answer(tar_of(FILES)))
    started = time.monotonic()
    assert content(hub.resolve(address)) == FILES
    assert 0.9 < time.monotonic() - started < 4


@pytest.mark.parametrize("lie", [-40, 40, 10**9])
def test_a_length_that_is_not_true(server: Server, lie: int) -> None:
    """Too short is a damaged archive, too long a connection that is cut."""
    body = tar_of(FILES)
    answer = Answer(body, length=len(body) + lie, ranges=False)
    with pytest.raises(
        hub.errors.HandleError, match="damaged|changed the module|was cut"
    ):
        hub.resolve(server.on("/m", answer))
    assert content(hub.resolve(server.on("/n", Answer(body)))) == FILES


def test_silence_before_the_answer(server: Server, monkeypatch: Any) -> None:
    """A server that accepts a connection, and says nothing at all."""
    monkeypatch.setenv("HUB_COMPAT_READ_TIMEOUT", "0.3")

    def silent(path: str) -> Answer:
        time.sleep(2)
        return Answer(tar_of(FILES))

    started = time.monotonic()
    with pytest.raises(hub.errors.HandleError, match="timed out"):
        hub.resolve(server.on("/m", silent))
    assert time.monotonic() - started < 1.9


def test_redirects_have_an_end(server: Server) -> None:
    """Ten are followed; of more the error says so."""
    for number in range(12):
        to = {"Location": "/{}".format(number + 1)}
        server.on("/{}".format(number), Answer(status=301 + number % 2, headers=to))
    server.on("/12", Answer(tar_of(FILES)))
    assert content(hub.resolve(server.base + "/2")) == FILES
    with pytest.raises(hub.errors.HandleError, match="more than 10"):
        hub.resolve(server.base + "/1")
