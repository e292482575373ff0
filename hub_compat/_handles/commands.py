"""The commands about handles: resolve, prefetch, and cache."""

from __future__ import annotations

import concurrent.futures
import os
import re
import time
from typing import Any, Callable, Dict, List, Optional

from absl import flags

from hub_compat import _printing
from hub_compat._handles import inventory, shelf
from hub_compat._handles.grammar import printable
from hub_compat._handles.inventory import Entry
from hub_compat._handles.resolving import resolve as resolve_handle
from hub_compat.cache import directory as converted_root
from hub_compat.errors import HubCompatError, OptionsError

__all__ = [
    "cache",
    "define_cache",
    "define_prefetch",
    "define_resolve",
    "prefetch",
    "resolve",
]

_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}


def define_resolve(values: flags.FlagValues) -> None:
    """Defines the flags of ``resolve``."""
    flags.DEFINE_bool("json", False, "Print a JSON object, path by handle.", values)


def define_prefetch(values: flags.FlagValues) -> None:
    """Defines the flags of ``prefetch``."""
    define_resolve(values)
    flags.DEFINE_string(
        "to", None, "The cache to fetch into, in place of TFHUB_CACHE_DIR.", values
    )
    flags.DEFINE_integer(
        "jobs", 4, "How many handles to fetch at a time.", 1, flag_values=values
    )


def define_cache(values: flags.FlagValues) -> None:
    """Defines the flags of ``cache``."""
    flags.DEFINE_bool("json", False, "Print a JSON object.", values)
    flags.DEFINE_string(
        "older-than", None, "For prune: an age, such as 30d, 12h or 2w.", values
    )
    flags.DEFINE_string(
        "max-size",
        None,
        "For prune: the size that may stay, such as 500M or 20G.",
        values,
    )


def resolve(handles: List[str], values: flags.FlagValues) -> int:
    """Runs ``hub-compat resolve``."""
    return _fetch(handles, values, jobs=1)


def prefetch(handles: List[str], values: flags.FlagValues) -> int:
    """Runs ``hub-compat prefetch``."""
    if values.to:
        os.environ["TFHUB_CACHE_DIR"] = values.to
    return _fetch(handles, values, values.jobs)


def _fetch(handles: List[str], values: flags.FlagValues, jobs: int) -> int:
    found: Dict[str, Any] = {}
    # A password in an address is not printed.
    with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        waiting = {handle: pool.submit(resolve_handle, handle) for handle in handles}
        for handle, future in waiting.items():
            handle = printable(handle)
            try:
                found[handle] = future.result()
            except HubCompatError as error:
                found[handle] = {"error": _printing.error_to_json(error)}
                _printing.print_error(str(error))
            else:
                if not values.json:
                    print(found[handle])
    if values.json:
        _printing.print_json(found)
    return int(any(isinstance(place, dict) for place in found.values()))


def cache(arguments: List[str], values: flags.FlagValues) -> int:
    """Runs ``hub-compat cache``."""
    name, handles = arguments[0], arguments[1:]
    try:
        action = _ACTIONS.get(name)
        if action is None:
            raise OptionsError(
                "Unknown cache command. Choose one of {}. Received: {!r}".format(
                    ", ".join(_ACTIONS), name
                )
            )
        if bool(handles) != (name == "remove"):
            raise OptionsError(
                "Only the cache command remove takes handles. Received: {!r}".format(
                    " ".join(arguments)
                )
            )
        return action(handles, values)
    except HubCompatError as error:
        if values.json:
            _printing.print_json({"error": _printing.error_to_json(error)})
        _printing.print_error(str(error))
        return 2 if isinstance(error, OptionsError) else 1


def _list(handles: List[str], values: flags.FlagValues) -> int:
    found, converted = inventory.entries(), inventory.converted()
    if values.json:
        _printing.print_json(
            {
                "entries": [entry._asdict() for entry in found],
                "converted": [entry._asdict() for entry in converted],
            }
        )
        return 0
    _print_entries("downloads", found, values)
    return _print_entries("converted", converted, values)


def _size(handles: List[str], values: flags.FlagValues) -> int:
    shelves = [
        (shelf.root(), inventory.entries()),
        (converted_root(), inventory.converted()),
    ]
    facts = [
        {
            "directory": root,
            "entries": len(found),
            "size": sum(entry.size for entry in found),
        }
        for root, found in shelves
    ]
    if values.json:
        _printing.print_json(dict(facts[0], converted=facts[1]))
        return 0
    for (root, found), one in zip(shelves, facts):
        modules = _printing.count(len(found), "module")
        print("{}: {}, {}".format(root, modules, _printing.size(int(str(one["size"])))))
    return 0


def _verify(handles: List[str], values: flags.FlagValues) -> int:
    every = inventory.entries() + inventory.converted()
    found = {entry: inventory.damages(entry) for entry in every}
    if values.json:
        _printing.print_json(
            [dict(entry._asdict(), damaged=names) for entry, names in found.items()]
        )
    else:
        for entry, names in found.items():
            known = entry.is_converted or bool(shelf.manifest(entry.path))
            said = (
                "whole"
                if known
                else ("fetched by tensorflow_hub: no checksums are known")
            )
            if names:
                said = "damaged: " + ", ".join(names)
            print("{}\n  {}".format(entry.handle or entry.path, said))
    return int(any(found.values()))


def _repair(handles: List[str], values: flags.FlagValues) -> int:
    done = inventory.repair()
    if values.json:
        _printing.print_json(done._asdict())
    else:
        removed = done.removed or ["nothing was damaged"]
        left = _printing.count(done.leftovers, "unfinished one")
        fields = [("removed", removed), ("left over", [left])]
        _printing.print_fields(shelf.root(), fields)
    return 0


def _prune(handles: List[str], values: flags.FlagValues) -> int:
    age = _quantity(values["older-than"].value, _SECONDS, "--older-than", "30d")
    size = _quantity(values["max-size"].value, _UNITS, "--max-size", "20G")
    if age is None and size is None:
        raise OptionsError(
            "prune needs --older-than or --max-size. To remove damaged entries, use "
            "repair. Received: neither"
        )
    limit = None if size is None else int(size)
    return _print_entries("removed", inventory.prune(age, limit, time.time()), values)


def _remove(handles: List[str], values: flags.FlagValues) -> int:
    return _print_entries("removed", list(map(inventory.remove, handles)), values)


def _print_entries(title: str, found: List[Entry], values: flags.FlagValues) -> int:
    if values.json:
        _printing.print_json({title: [entry._asdict() for entry in found]})
        return 0
    for entry in found:
        day = time.strftime("%Y-%m-%d", time.localtime(entry.fetched))
        size = _printing.size(entry.size)
        print("{:>10}  {}  {}".format(size, day, entry.handle or entry.path))
    total = _printing.size(sum(entry.size for entry in found))
    print("{}: {}, {}".format(title, _printing.count(len(found), "module"), total))
    return 0


def _quantity(
    text: Optional[str], units: Dict[str, int], flag: str, example: str
) -> Optional[float]:
    """A number with a unit; None where there is no text."""
    if text is None:
        return None
    found = re.match(r"([0-9]+(?:\.[0-9]+)?)\s*([a-z]?)b?$", text.strip().lower())
    if found is None or found.group(2) not in units:
        raise OptionsError(
            "{} is a number with a unit, such as {}. Received: {!r}".format(
                flag, example, text
            )
        )
    return float(found.group(1)) * units[found.group(2)]


_Action = Callable[[List[str], flags.FlagValues], int]
_ACTIONS: Dict[str, _Action] = {
    "list": _list,
    "size": _size,
    "verify": _verify,
    "repair": _repair,
    "prune": _prune,
    "remove": _remove,
}
