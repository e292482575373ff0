"""A server on loopback that does to a download what real ones do."""

from __future__ import annotations

import contextlib
import http.server
import io
import re
import select
import socket
import socketserver
import tarfile
import threading
import time
import zipfile
from typing import Any, Callable, Dict, Iterator, List, Optional, Tuple

__all__ = ["Answer", "Proxy", "Server", "proxying", "serving", "tar_of", "zip_of"]


class Answer:
    """What the server does where a path is asked for.

    Args:
      body: what it sends.
      status: of the answer.
      headers: further ones.
      cut_after: how many bytes until the connection is cut; None for all.
      stall: seconds of silence before the last byte.
      ranges: whether it knows ``Range``.
      length: what it says the length is; None for the real one, -1 for none.
      tag: its ETag; "" for none.
    """

    def __init__(
        self,
        body: bytes = b"",
        status: int = 200,
        headers: Optional[Dict[str, str]] = None,
        cut_after: Optional[int] = None,
        stall: float = 0.0,
        ranges: bool = True,
        length: Optional[int] = None,
        tag: str = '"one"',
    ) -> None:
        self.body, self.status, self.headers = body, status, headers or {}
        self.cut_after, self.stall = cut_after, stall
        self.ranges, self.length, self.tag = ranges, length, tag


class Server:
    """The server.

    Attributes:
      base: ``"http://127.0.0.1:PORT"``.
      asked: paths with queries, and headers, in the order of the requests.
      answers: by path without query, answers in order; the last one stays.
    """

    def __init__(self, base: str) -> None:
        self.base = base
        self.asked: List[Tuple[str, Dict[str, str]]] = []
        self.answers: Dict[str, List[Any]] = {}

    def on(self, path: str, *answers: Any) -> str:
        """Has a path answered; returns its address."""
        self.answers[path] = list(answers)
        return self.base + path

    def next_answer(self, path: str) -> Any:
        """What comes next for a path."""
        answers = self.answers.get(path.partition("?")[0])
        if not answers:
            return Answer(b"nothing here", 404)
        found = answers.pop(0) if len(answers) > 1 else answers[0]
        return found(path) if callable(found) else found


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        server: Server = self.server.served  # type: ignore[attr-defined]
        server.asked.append((self.path, dict(self.headers.items())))
        answer = server.next_answer(self.path)
        start, status = 0, answer.status
        wanted = re.match(r"bytes=(\d+)-$", self.headers.get("Range", ""))
        same = self.headers.get("If-Range", answer.tag) == answer.tag
        if wanted and answer.ranges and same and status == 200:
            start, status = int(wanted.group(1)), 206
        body = answer.body[start:]
        self.send_response(status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        if status == 206:
            total = len(answer.body)
            self.send_header(
                "Content-Range", "bytes {}-{}/{}".format(start, total - 1, total)
            )
        if answer.tag:
            self.send_header("ETag", answer.tag)
        length = len(body) if answer.length is None else answer.length
        if length >= 0:
            self.send_header("Content-Length", str(length))
        self.send_header("Connection", "close")
        self.end_headers()
        self.close_connection = True
        with contextlib.suppress(ConnectionError):
            if answer.cut_after is not None:
                self.wfile.write(body[: answer.cut_after])
            elif answer.stall:
                self.wfile.write(body[:-1])
                self.wfile.flush()
                time.sleep(answer.stall)
                self.wfile.write(body[-1:])
            else:
                self.wfile.write(body)

    def do_POST(self) -> None:
        """As a request whose query is the body."""
        body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        self.path += "?" + body.decode()
        self.do_GET()

    def log_message(self, *arguments: Any) -> None:
        """Nothing: the tests look at ``asked``."""


class _Threaded(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128


class _ThreadedV6(_Threaded):
    address_family = socket.AF_INET6


@contextlib.contextmanager
def serving(
    wrap: Optional[Callable[[Any], Any]] = None, host: str = "localhost"
) -> Iterator[Server]:
    """A server for the length of a block; ``wrap`` may make its socket a TLS one."""
    kind = _ThreadedV6 if ":" in host else _Threaded
    listening = kind(("::1" if ":" in host else "127.0.0.1", 0), _Handler)
    scheme = "http"
    if wrap is not None:
        listening.socket = wrap(listening.socket)  # type: ignore[assignment]
        scheme = "https"
    served = Server("{}://{}:{}".format(scheme, host, listening.server_address[1]))
    listening.served = served  # type: ignore[attr-defined]
    thread = threading.Thread(target=listening.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield served
    finally:
        listening.shutdown()
        listening.server_close()


class _Relay(socketserver.StreamRequestHandler):
    """A proxy: a tunnel (CONNECT), or a request that is passed on."""

    def handle(self) -> None:
        proxy: Proxy = self.server.served  # type: ignore[attr-defined]
        first = self.rfile.readline().decode().split()
        headers = []
        for line in iter(self.rfile.readline, b"\r\n"):
            headers.append(line.decode().strip())
        proxy.asked.append((" ".join(first[:2]), headers))
        if proxy.refuses:
            self.wfile.write(b"HTTP/1.1 407 Sign in\r\nContent-Length: 0\r\n\r\n")
            return
        where = first[1] if first[0] == "CONNECT" else first[1].split("/")[2]
        host, _, port = where.rpartition(":")
        with socket.create_connection((host, int(port))) as there:
            if first[0] == "CONNECT":
                self.wfile.write(b"HTTP/1.1 200 OK\r\n\r\n")
            else:
                path = "/" + first[1].split("/", 3)[3]
                lines = [" ".join([first[0], path, first[2]]), *headers, "", ""]
                there.sendall("\r\n".join(lines).encode())
            self._pass_on(there)

    def _pass_on(self, there: Any) -> None:
        both = {self.connection: there, there: self.connection}
        while True:
            for one in select.select(list(both), [], [])[0]:
                data = one.recv(1 << 16)
                if not data:
                    return
                both[one].sendall(data)


class _Relays(socketserver.ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True


class Proxy:
    """A proxy.

    Attributes:
      address: ``"127.0.0.1:PORT"``.
      asked: method with what was asked for, and headers, in the order of the requests.
      refuses: whether it wants a password.
    """

    def __init__(self, address: str) -> None:
        self.address = address
        self.asked: List[Tuple[str, List[str]]] = []
        self.refuses = False


@contextlib.contextmanager
def proxying() -> Iterator[Proxy]:
    """A proxy for the length of a block."""
    listening = _Relays(("127.0.0.1", 0), _Relay)
    served = Proxy("127.0.0.1:{}".format(listening.server_address[1]))
    listening.served = served  # type: ignore[attr-defined]
    thread = threading.Thread(target=listening.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield served
    finally:
        listening.shutdown()
        listening.server_close()


def tar_of(files: Dict[str, bytes], mode: str = "w:gz", top: str = "") -> bytes:
    """A tar with some files."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=mode) as archive:  # type: ignore[call-overload]
        for name, data in files.items():
            member = tarfile.TarInfo(top + name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return out.getvalue()


def zip_of(files: Dict[str, bytes]) -> bytes:
    """A zip with some files."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return out.getvalue()
