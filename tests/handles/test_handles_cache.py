"""The commands that look after the cache of downloads."""

from __future__ import annotations

import gc
import json
import os
import time
from pathlib import Path
from typing import Any, Iterator

import pytest
from loopback import Answer, Server, serving, tar_of

import hub_compat as hub
from hub_compat import cache, cli
from hub_compat._io import entries, leftovers

requests = pytest.importorskip("requests")

FILES = {"saved_model.pb": b"\x08\x01", "variables/variables.index": b"index"}


@pytest.fixture
def server(tmp_path: Path, monkeypatch: Any) -> Iterator[Server]:
    """The server, and a cache of the test's own."""
    monkeypatch.setenv("TFHUB_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("HUB_COMPAT_CACHE_DIR", str(tmp_path / "models"))
    with serving() as found:
        yield found


def run(capsys: Any, *arguments: str, code: int = 0) -> Any:
    """The JSON that a command prints."""
    assert cli.main(["hub-compat", *arguments, "--json"]) == code
    return json.loads(capsys.readouterr().out)


def fetched(server: Server, *names: str) -> Any:
    """Modules in the cache, by address."""
    return {
        address: Path(hub.resolve(address))
        for address in (server.on("/" + n, Answer(tar_of(FILES))) for n in names)
    }


def test_list_and_size(server: Server, capsys: Any, tmp_path: Path) -> None:
    """Each module with its handle, also of tensorflow_hub."""
    assert run(capsys, "cache", "list") == {"entries": [], "converted": []}
    modules = fetched(server, "a", "b")
    found = run(capsys, "cache", "list")["entries"]
    assert [entry["handle"] for entry in found] == sorted(modules)
    assert {entry["size"] for entry in found} == {7}
    assert run(capsys, "cache", "size") == {
        "directory": str(tmp_path / "cache"),
        "entries": 2,
        "size": 14,
        "converted": {
            "directory": str(tmp_path / "models"),
            "entries": 0,
            "size": 0,
        },
    }
    theirs = tmp_path / "cache" / ("0" * 40)
    theirs.mkdir()
    theirs.with_name(theirs.name + ".descriptor.txt").write_text("Module: http://x/y\n")
    assert run(capsys, "cache", "list")["entries"][-1]["handle"] == "http://x/y"
    assert cli.main(["hub-compat", "cache", "list"]) == 0
    assert "downloads: 3 modules" in capsys.readouterr().out


def test_verify_and_repair(server: Server, capsys: Any, tmp_path: Path) -> None:
    """What is not what was fetched is found, and removed."""
    modules = fetched(server, "a", "b")
    assert not any(e["damaged"] for e in run(capsys, "cache", "verify"))
    path = modules[server.base + "/a"] / "variables" / "variables.index"
    path.write_bytes(b"xndex")
    found = run(capsys, "cache", "verify", code=1)
    assert [e["damaged"] for e in found] == [["variables/variables.index"], []]
    cache = tmp_path / "cache"
    os.mkdir(leftovers.hidden(str(cache / ("1" * 40)), "tmp"))
    (cache / ("2" * 40 + ".hub_compat.json")).write_text("{}")
    done = run(capsys, "cache", "repair")
    assert done == {"removed": [server.base + "/a"], "leftovers": 2}
    assert {p.name[:40] for p in cache.iterdir() if p.name[0] != "."} == {
        modules[server.base + "/b"].name
    }
    assert path.parent.parent == Path(hub.resolve(server.base + "/a"))
    assert path.read_bytes() == b"index"


def converted(source: Path) -> str:
    """An entry of the other shelf, as what was made of a module."""
    source.mkdir(exist_ok=True)
    # Equal modules share an entry.
    (source / "saved_model.pb").write_bytes(b"\x08\x01" + source.name.encode())

    def build(folder: str) -> None:
        Path(folder, "saved_model.pb").write_bytes(b"\x08\x01made")

    return cache.normalised(str(source), ["test"], build)


def test_both_shelves(server: Server, capsys: Any, tmp_path: Path) -> None:
    """What was converted is listed, checked, and goes, unless it is in use."""
    fetched(server, "a")
    one, two = (converted(tmp_path / name) for name in ("one", "two"))
    found = run(capsys, "cache", "list")
    assert [e["handle"] for e in found["converted"]] == [
        str(tmp_path / "one"),
        str(tmp_path / "two"),
    ]
    sizes = run(capsys, "cache", "size")
    assert sizes["entries"] == 1
    assert sizes["converted"]["entries"] == 2
    assert sizes["converted"]["size"] == sum(e["size"] for e in found["converted"])
    Path(two, "saved_model.pb").write_bytes(b"\x08\x01mede")
    found = run(capsys, "cache", "verify", code=1)
    assert [e["damaged"] for e in found] == [[], [], ["saved_model.pb"]]

    class Holder:
        """What has the other one loaded."""

    holder = Holder()
    cache.keep(one, holder)
    entries.drop(two)
    assert run(capsys, "cache", "repair")["removed"] == [str(tmp_path / "two")]
    gone = run(capsys, "cache", "prune", "--max-size=0")["removed"]
    assert [e["handle"] for e in gone] == [server.base + "/a"]
    assert os.path.isdir(one)
    del holder
    gc.collect()
    gone = run(capsys, "cache", "prune", "--max-size=0")["removed"]
    assert [e["handle"] for e in gone] == [str(tmp_path / "one")]
    assert not os.path.exists(one)


def test_remove(server: Server, capsys: Any) -> None:
    """By handle, with all that is written beside it."""
    modules = fetched(server, "a", "b")
    address = server.base + "/a"
    assert run(capsys, "cache", "remove", address)["removed"][0]["handle"] == address
    assert not list(modules[address].parent.glob(modules[address].name + "*"))
    assert modules[server.base + "/b"].is_dir()
    error = run(capsys, "cache", "remove", address, code=1)["error"]
    assert error["type"] == "HandleError"


def test_prune(server: Server, capsys: Any) -> None:
    """By age, and by size: the oldest first."""
    modules = fetched(server, "a", "b", "c")
    for age, path in enumerate(modules.values()):
        os.utime(str(path), (time.time() - 86400 * age,) * 2)
    gone = run(capsys, "cache", "prune", "--older-than=36h")["removed"]
    assert [entry["handle"] for entry in gone] == [server.base + "/c"]
    gone = run(capsys, "cache", "prune", "--max-size=0.008k")["removed"]
    assert [entry["handle"] for entry in gone] == [server.base + "/b"]
    assert run(capsys, "cache", "size")["entries"] == 1
    for arguments in ([], ["--older-than=soon"], ["--max-size=7x"]):
        error = run(capsys, "cache", "prune", *arguments, code=2)["error"]
        assert "Received: " in error["message"]


def test_bad_usage(server: Server, capsys: Any) -> None:
    """No such command, or one that takes no handle."""
    assert run(capsys, "cache", "look", code=2)["error"]["type"] == "OptionsError"
    assert run(capsys, "cache", "list", "x", code=2)["error"]["type"] == "OptionsError"


def test_prefetch_for_another_machine(
    server: Server, capsys: Any, tmp_path: Path, monkeypatch: Any
) -> None:
    """Fetched to a directory that is copied, and used without a network."""
    addresses = [server.on("/" + n, Answer(tar_of(FILES))) for n in "abcdef"]
    missing = server.base + "/missing"
    before = os.environ["TFHUB_CACHE_DIR"]
    to = "--to={}".format(tmp_path / "carried")
    found = run(capsys, "prefetch", to, *addresses, missing, code=1)
    assert found[missing]["error"]["type"] == "HandleError"
    assert all(str(tmp_path / "carried") in found[a] for a in addresses)
    monkeypatch.setenv("TFHUB_CACHE_DIR", before)
    os.rename(str(tmp_path / "carried"), before)
    monkeypatch.setenv("HUB_COMPAT_OFFLINE", "1")
    assert hub.resolve(addresses[3]).startswith(before)
    assert len(server.asked) == 7
