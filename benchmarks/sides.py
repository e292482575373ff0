"""One side of one comparison, run in a process of its own: ``sides.py NAME ARG...``.

``run.py`` starts these alternately. What a side needs is imported before the
clock starts; the last line on standard output is what was measured, as JSON.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any, Callable, Dict

Prepared = Callable[[], Any]


def _status_kilobytes(field: str) -> int:
    """A line of /proc/self/status: VmHWM is the peak of resident memory.

    Not ru_maxrss: a process inherits the peak of the one that started it.
    """
    with open("/proc/self/status") as status:
        for line in status:
            if line.startswith(field + ":"):
                return int(line.split()[1])
    raise LookupError("/proc/self/status has no line {}".format(field))


def _bytes_read() -> int:
    """What this process has read so far, page cache included (not mmap)."""
    with open("/proc/self/io") as io:
        return int(dict(line.split(": ") for line in io)["rchar"])


def convert(source: str, destination: str) -> Prepared:
    """``hub_compat.convert``."""
    import hub_compat as hub
    import hub_compat.converters.hub_module  # noqa: F401

    function = hub.convert
    return lambda: function(source, destination)


def load_and_save(source: str, destination: str) -> Prepared:
    """What there is without hub_compat: TensorFlow loads it and saves it."""
    import tensorflow as tf

    load, save = tf.saved_model.load, tf.saved_model.save

    def run() -> None:
        loaded = load(source, tags=[])
        save(loaded, destination, signatures=loaded.signatures)

    return run


def hub_compat_load(source: str) -> Prepared:
    """``hub_compat.load``; the cache is what HUB_COMPAT_CACHE_DIR says."""
    import hub_compat as hub
    import hub_compat.converters.hub_module  # noqa: F401

    function = hub.load
    return lambda: function(source)


def tensorflow_hub_load(source: str) -> Prepared:
    """``tensorflow_hub.load``."""
    import tensorflow_hub

    return lambda: tensorflow_hub.load(source)


def tensorflow_load(source: str) -> Prepared:
    """``tf.saved_model.load``."""
    import tensorflow as tf

    load = tf.saved_model.load
    return lambda: load(source)


def _measure(prepared: Prepared) -> Dict[str, Any]:
    memory, read = _status_kilobytes("VmHWM"), _bytes_read()
    start = time.perf_counter()
    result = prepared()
    seconds = time.perf_counter() - start
    facts = {
        "seconds": seconds,
        "extra_memory": (_status_kilobytes("VmHWM") - memory) * 1024,
        # Reading the counters reads a little itself: some hundred bytes.
        "bytes_read": _bytes_read() - read,
    }
    for field in ("weight_bytes_read", "bytes_linked", "bytes_copied", "nodes"):
        if hasattr(result, field):
            facts[field] = getattr(result, field)
    return facts


def imported(module: str) -> Dict[str, Any]:
    """How long an import takes, and whether it brought TensorFlow along."""
    start = time.perf_counter()
    __import__(module)
    return {
        "seconds": time.perf_counter() - start,
        "tensorflow": "tensorflow" in sys.modules,
    }


def main() -> None:
    """Runs the side that the command line names."""
    name, arguments = sys.argv[1], sys.argv[2:]
    if name == "imported":
        facts = imported(*arguments)
    else:
        import tensorflow as tf

        # Creates the device and the eager context, which whoever comes first pays.
        tf.constant(0) + 1
        sides = (convert, load_and_save, hub_compat_load, tensorflow_hub_load)
        sides += (tensorflow_load,)
        prepare = {side.__name__: side for side in sides}[name]
        facts = _measure(prepare(*arguments))
    print("\n" + json.dumps(facts))


if __name__ == "__main__":
    main()
