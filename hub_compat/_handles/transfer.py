"""Downloads from a server: retries after failures, resumes after cuts.

Requests are those of the library ``requests``, which knows proxies and certificates by
the usual variables (``HTTPS_PROXY``, ``NO_PROXY``, ``REQUESTS_CA_BUNDLE``). Its
``urllib3`` repeats what a server refuses for now (429, 5xx, and as ``Retry-After``
says). A body that is cut is read on with ``Range`` and ``If-Range``, from the original
address: what a redirect leads to may have expired.

Not by ``pooch``: it unpacks by ``extractall`` what is there as a whole, and has no
``Range`` and no locks. Not by ``httpx``: that of Python 3.7 is not that of today.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import random
import re
import ssl
import time
from typing import Any, Dict, Iterator, List, Optional, Tuple
from urllib.parse import urlsplit, urlunsplit

from hub_compat._handles import settings
from hub_compat._handles.grammar import printable
from hub_compat.errors import HandleError, MissingDependencyError

__all__ = ["Body", "Changed", "ask", "mirrored", "session", "start_of", "with_format"]

_logger = logging.getLogger(__name__)

_REDIRECTS = 10
_CONNECTIONS = 3
_FOR_NOW = (429, 500, 502, 503, 504)
# A server that asks for more is asked again sooner.
_LONGEST_PAUSE = 60.0
_FIRST_PAUSE = 0.5
_CHINA = "https://hub.tensorflow.google.cn/"
_CHINA_FILES = "https://gcs.tensorflow.google.cn/tfhub-modules/"
_RANGE = re.compile(r"bytes (\d+)-\d+/(\d+|\*)$")
_BODY_START = 2000
_CHUNK = 1 << 20


class Changed(Exception):
    """The server began anew, or has another file by now."""


def with_format(address: str, kind: str) -> str:
    """An address that asks for a format; what its query says besides stays."""
    parts = urlsplit(address)
    # As it is written, also if it names a format: a signature may be of the text.
    added = "tf-hub-format=" + kind
    query = parts.query + "&" + added if parts.query else added
    return urlunsplit(parts._replace(query=query))


@contextlib.contextmanager
def session() -> Iterator[Any]:
    """A session of ``requests``.

    Raises:
      MissingDependencyError: there is no ``requests``.
    """
    _requests()
    from requests import Session as PlainSession
    from requests.adapters import HTTPAdapter
    from urllib3.util.retry import Retry

    class Patient(Retry):
        """Pauses that differ, so that many clients do not come back at once."""

        def get_backoff_time(self) -> float:
            return float(super().get_backoff_time()) * random.uniform(0.5, 1.0)

        def get_retry_after(self, response: Any) -> Optional[float]:
            found = super().get_retry_after(response)
            return None if found is None else min(float(found), _LONGEST_PAUSE)

    class Trusting(HTTPAdapter):
        """Which trusts what this system does, beside what requests has."""

        def init_poolmanager(self, *arguments: Any, **more: Any) -> Any:
            self.options = _options()
            return super().init_poolmanager(*arguments, **dict(more, **self.options))

        def proxy_manager_for(self, *arguments: Any, **more: Any) -> Any:
            return super().proxy_manager_for(*arguments, **dict(more, **self.options))

    class Session(PlainSession):
        """Which reads the authorities, of which there are many, when it needs them."""

        def get_adapter(self, url: str) -> Any:
            if url.lower().startswith("https:") and "https://" not in self.adapters:
                self.mount("https://", Trusting(max_retries=retry))
            return super().get_adapter(url)

    retry = Patient(
        total=settings.retries(),
        # Without a network, nobody wants to wait long for the error.
        connect=min(_CONNECTIONS, settings.retries()),
        redirect=0,
        status_forcelist=_FOR_NOW,
        backoff_factor=_FIRST_PAUSE,
        raise_on_status=False,
    )
    with Session() as made:
        made.max_redirects = _REDIRECTS
        made.adapters.pop("https://")
        made.mount("http://", HTTPAdapter(max_retries=retry))
        if not settings.verifies_certificates():
            _logger.warning(
                "TFHUB_DISABLE_CERT_VALIDATION is true: certificates of servers are "
                "not checked"
            )
        yield made


def _options() -> Dict[str, Any]:
    context = _trusted()
    return {} if context is None else {"ssl_context": context}


def _trusted() -> Any:
    """The authorities of this system, and those of ``SSL_CERT_FILE``.

    None where ``requests`` has all that are named, or none are. By itself it has but
    its own, and TensorFlow Hub, by ``urllib``, those of the system.
    """
    if not settings.verifies_certificates():
        return None
    more = os.environ.get("SSL_CERT_FILE")
    try:
        if not any(map(os.environ.get, ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"))):
            return ssl.create_default_context()
        if not more:
            return None
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(more)
        return context
    except OSError as error:
        raise HandleError(
            "The certificate authorities cannot be read: {}. Set SSL_CERT_FILE to a "
            "file of certificates. Received: {!r}".format(error, more)
        ) from error


def _requests() -> Any:
    try:
        import requests
    except ImportError as error:
        raise MissingDependencyError(
            "Downloads need the package requests, which is not installed: pip "
            "install requests. Received: {}".format(error)
        ) from error
    return requests


def ask(made: Any, address: str, headers: Dict[str, str], follow: bool = True) -> Any:
    """Sends a request; returns the answer, whose body is not read yet.

    Raises:
      HandleError: the server cannot be reached.
    """
    requests = _requests()
    try:
        return made.get(
            address,
            headers=dict(headers, **{"Accept-Encoding": "identity"}),
            stream=True,
            allow_redirects=follow,
            # Of a session, REQUESTS_CA_BUNDLE would override it.
            verify=None if settings.verifies_certificates() else False,
            timeout=(settings.connect_timeout(), settings.read_timeout()),
        )
    except HandleError:
        raise
    except requests.exceptions.TooManyRedirects as error:
        raise HandleError(
            "The server redirects more than {} times. Received: {!r}".format(
                _REDIRECTS, printable(address)
            )
        ) from error
    except requests.exceptions.SSLError as error:
        raise HandleError(
            "The server's certificate is not accepted: {}. Set REQUESTS_CA_BUNDLE "
            "or SSL_CERT_FILE to the authorities that you trust. Received: {!r}".format(
                _cause(error), printable(address)
            )
        ) from error
    except (requests.exceptions.RequestException, ValueError, OSError) as error:
        raise HandleError(
            "The server cannot be reached: {}. Try again. Behind a proxy, set "
            "HTTPS_PROXY. Without a network, copy the cache of another machine. "
            "Received: {!r}".format(_cause(error), printable(address))
        ) from error


# The errors of requests hold those of urllib3, which hold those of the system.
def _cause(error: BaseException) -> str:
    """The innermost reason, as the outer ones hold objects' addresses."""
    inner: Any = error
    for _ in range(10):
        following = getattr(inner, "reason", None)
        if not isinstance(following, BaseException):
            following = next(
                (a for a in inner.args if isinstance(a, BaseException)), None
            )
        if following is None:
            break
        inner = following
    text = str(inner).partition("object at 0x")[2].partition(">: ")[2] or str(inner)
    return printable(text) or type(inner).__name__


# One download over several connections:
#
#     GET                                -> 200, ETag "a"; 5 of 9 MB, then it is cut
#     GET Range: 5 MB-, If-Range: "a"    -> 206 from there: read on
#                                        -> 200, 206 from elsewhere, 416: Changed
#
#     _offset:    bytes that the reader has got
#     _failures:  in a row; any byte that comes sets it to zero
#     _validator: the strong ETag of the first answer, if it had one
#
# Changed is for the caller, who has written a part of the old file and begins anew.
class Body(io.RawIOBase):
    """The body of an answer, read on where the connection is cut.

    Args:
      made: a session.
      address: what is asked for, each time.
      entry: where the module is to be put, for messages.

    Attributes:
      size: in bytes; None if the server does not say.

    Raises:
      HandleError: the server does not have it, or does not give it.
    """

    def __init__(self, made: Any, address: str, entry: str) -> None:
        super().__init__()
        self._session = made
        self._address = address
        self._entry = entry
        self._offset = 0
        self._failures = 0
        self._validator: Optional[str] = None
        self._response: Any = None
        self.size: Optional[int] = None
        self._connect()

    def readable(self) -> bool:
        """Yes."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Reads as ``read``."""
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def read(self, size: int = _CHUNK) -> bytes:
        """Reads; raises ``Changed`` where what was read is of no use any more."""
        while True:
            problem = ""
            try:
                data: bytes = self._response.raw.read(size, decode_content=False)
            except _read_errors() as error:
                data, problem = b"", _cause(error)
            if data:
                self._failures = 0
                self._offset += len(data)
                return data
            if not problem and (self.size is None or self._offset >= self.size):
                return b""
            self._failures += 1
            if self._failures > settings.retries():
                raise HandleError(
                    "The connection was cut {} times after {} of {} bytes{}. Try "
                    "again. Received: {!r}".format(
                        self._failures,
                        self._offset,
                        "an unknown number of" if self.size is None else self.size,
                        ": " + problem if problem else "",
                        printable(self._address),
                    )
                )
            pause = _FIRST_PAUSE * 2 ** (self._failures - 1) * random.uniform(0.5, 1.0)
            time.sleep(min(pause, _LONGEST_PAUSE))
            self._response.close()
            self._connect()

    def close(self) -> None:
        """Gives up the connection."""
        if not self.closed and self._response is not None:
            self._response.close()
        super().close()

    def _connect(self) -> None:
        headers = {}
        if self._offset:
            headers["Range"] = "bytes={}-".format(self._offset)
            if self._validator:
                headers["If-Range"] = self._validator
        self._response = ask(self._session, self._address, headers)
        status = self._response.status_code
        if self._offset:
            if status == 206 and self._starts_there():
                return
            if status in (200, 206, 416):
                self._response.close()
                raise Changed()
        if status != 200:
            raise self._refusal(status)
        self._validator = _strong(self._response.headers)
        length = self._response.headers.get("Content-Length", "")
        self.size = int(length) if length.isdigit() else None

    def _starts_there(self) -> bool:
        headers = self._response.headers
        found = _RANGE.match(headers.get("Content-Range", ""))
        if found is None or int(found.group(1)) != self._offset:
            return False
        if self._validator and _strong(headers) not in (None, self._validator):
            return False
        return self.size is None or found.group(2) in ("*", str(self.size))

    def _refusal(self, status: int) -> HandleError:
        host = urlsplit(self._response.url).hostname
        text = re.sub("<[^>]*>", " ", start_of(self._response))
        start = " ".join(text.split())[:200]
        self._response.close()
        if status == 404:
            said = "{} has no such module (404)".format(host)
        elif status in (401, 403):
            said = "{} refuses the module to this client ({})".format(host, status)
        else:
            said = "{} answered {}".format(host, status)
        return HandleError(
            "{}{}. To fetch it by hand, download {}, unpack it and pass the "
            "directory. Or unpack it into {!r}, where hub_compat looks for it. "
            "Received: {!r}".format(
                said,
                ": " + start if start else "",
                printable(self._address),
                self._entry,
                printable(self._address),
            )
        )


def start_of(response: Any) -> str:
    """The first bytes of an answer, as text; "" where they cannot be read."""
    with contextlib.suppress(Exception):
        data: bytes = response.raw.read(_BODY_START, decode_content=True)
        return data.decode("utf-8", "replace")
    return ""


def _strong(headers: Any) -> Optional[str]:
    """The validator that tells one version of a file from another, exactly."""
    tag = headers.get("ETag")
    if tag and not tag.startswith("W/"):
        return str(tag)
    changed = headers.get("Last-Modified")
    return str(changed) if changed else None


def _read_errors() -> Tuple[Any, ...]:
    from urllib3.exceptions import HTTPError

    return (HTTPError, OSError)


def mirrored(address: str) -> List[str]:
    """The addresses to try, the original last, each with what it is asked for.

    Those of TensorFlow Hub in China are files of another host, as TensorFlow Hub says.
    """
    if address.startswith(_CHINA):
        original = _CHINA_FILES + address[len(_CHINA) :] + ".tar.gz"
    else:
        original = with_format(address, "compressed")
    parts = urlsplit(address)
    rest = parts.path + ("?" + parts.query if parts.query else "")
    mirrors = [with_format(base + rest, "compressed") for base in settings.mirrors()]
    return mirrors + [original]
