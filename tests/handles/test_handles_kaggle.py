"""Kaggle's own client, 0.2 and 1, against a stand-in for Kaggle.

The tests of what is done where the client is not installed are in test_handles.py.
"""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path
from typing import Any, Dict, Iterator

import pytest
from archives_made import tar_with
from loopback import Answer, Server, serving, tar_of

import hub_compat as hub

kagglehub = pytest.importorskip("kagglehub")

FILES = {"saved_model.pb": b"\x08\x01", "variables/variables.index": b"index"}


@pytest.fixture
def server(tmp_path: Path, monkeypatch: Any) -> Iterator[Server]:
    """The stand-in, which the client takes for Kaggle."""
    for name in list(os.environ):
        if name.startswith(("KAGGLE", "TFHUB_")) or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("TFHUB_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("KAGGLEHUB_CACHE", str(tmp_path / "kagglehub"))
    with serving() as found:
        monkeypatch.setenv("KAGGLE_API_ENDPOINT", found.base)
        monkeypatch.setenv("KAGGLE_API_ENVIRONMENT", "LOCALHOST")
        if int(kagglehub.__version__.split(".")[0]) > 0:
            from kagglesdk import kaggle_env

            # Its server has a port of its own.
            local = kaggle_env.KaggleEnv.LOCAL
            monkeypatch.setitem(kaggle_env._env_to_endpoint, local, found.base)
        yield found


def offer(server: Server, files: Dict[str, bytes], archive: bytes = b"") -> None:
    """Has the stand-in give version 3 of a model; as an archive, if there is one."""

    def said(value: Any) -> Answer:
        text = json.dumps(value).encode()
        return Answer(text, headers={"Content-Type": "application/json"})

    listed = [{"name": name, "totalBytes": len(files[name])} for name in files]
    listing = {"files": listed, "nextPageToken": "more" if archive else ""}
    # Version 0.2 has a path for each, and 1 a method.
    model = "/api/v1/models/google/nnlm/tensorFlow2/en"
    server.on(model + "/get", said({"versionNumber": 3}))
    server.on(model + "/3/files", said(listing))
    server.on(model + "/3/download", Answer(archive))
    for name, data in files.items():
        server.on(model + "/3/download/" + name, Answer(data))

    def download(path: str) -> Answer:
        name = json.loads(path.partition("?")[2]).get("path")
        return Answer(files[name] if name else archive)

    service = "/api/v1/models.ModelApiService/"
    server.on(service + "GetModelInstance", said({"versionNumber": 3}))
    server.on(service + "ListModelInstanceVersionFiles", said(listing))
    server.on(service + "DownloadModelInstanceVersion", download)


def content(folder: str) -> Dict[str, bytes]:
    """The files of a directory."""
    found = [p for p in Path(folder).rglob("*") if p.is_file()]
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in found}


@pytest.mark.parametrize("packed", [False, True])
def test_fetched_once(server: Server, packed: bool) -> None:
    """Without a version, too, though the client asks for it each time."""
    offer(server, FILES, tar_of(FILES) if packed else b"")
    address = "https://www.kaggle.com/models/google/nnlm/frameworks/tensorFlow2"
    address += "/variations/en"
    assert content(hub.resolve("kaggle://google/nnlm/tensorFlow2/en/3")) == FILES
    assert content(hub.resolve(address)) == FILES
    count = len(server.asked)
    assert content(hub.resolve(address)) == FILES
    assert len(server.asked) == count


@pytest.mark.parametrize("how", ["up", "link", "long", "no archive"])
def test_hostile(server: Server, tmp_path: Path, how: str) -> None:
    """What it would unpack without a look is refused; nothing is outside."""
    archive = {
        "up": lambda: tar_with("../../../../../../evil", size=1),
        "link": lambda: tar_with("l", type=b"2", linkname="/etc/passwd"),
        "long": lambda: tar_with("x" * 300, size=1),
        "no archive": lambda: b"<html>",
    }[how]()
    offer(server, FILES, archive)
    for _ in range(2):
        with pytest.raises(hub.errors.ArchiveError, match="Received: 'kaggle://"):
            hub.resolve("kaggle://google/nnlm/tensorFlow2/en/3")
    assert not list(tmp_path.rglob("evil"))
    offer(server, FILES, tar_of(FILES))
    assert content(hub.resolve("kaggle://google/nnlm/tensorFlow2/en/3")) == FILES


def test_names_that_lead_elsewhere(server: Server, tmp_path: Path) -> None:
    """A listing is no more to be trusted than an archive."""
    offer(server, {"../../../../../evil": b"x"})
    with pytest.raises(hub.errors.ArchiveError, match="leads outside of it"):
        hub.resolve("kaggle://google/nnlm/tensorFlow2/en/3")
    assert not list(tmp_path.rglob("evil"))


def test_not_given(server: Server) -> None:
    """Its errors become ours, with what to do."""
    with pytest.raises(hub.errors.HandleError, match=r"kagglehub\.login") as raised:
        hub.resolve("kaggle://google/nnlm/tensorFlow2/en/3")
    assert "kaggle://google/nnlm/tensorFlow2/en/3" in str(raised.value)


def test_one_at_a_time(server: Server) -> None:
    """Two handles of one model do not write its cache at the same time."""
    offer(server, FILES, tar_of(FILES))
    handles = ["kaggle://google/nnlm/tensorFlow2/en" + end for end in ("", "/3")]
    found = {}
    threads = [
        threading.Thread(target=lambda h=h: found.update({h: hub.resolve(h)}))
        for h in handles
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [content(found[h]) for h in handles] == [FILES, FILES]
    downloads = [p for p, _ in server.asked if "ownload" in p]
    assert len(downloads) == 1
