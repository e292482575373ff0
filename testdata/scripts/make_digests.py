"""Writes digests.json: what each recorded module is converted to, as hashes.

    make digests

Every TensorFlow must write the same bytes, see test_convert.py. Run it when they change
on purpose, and raise ``CONVERTER_VERSION`` in hub_compat/provenance.py: the cache keeps
conversions by it.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from pathlib import Path
from typing import Dict

import expected

import hub_compat as hub

PATH = expected.HERE / "digests.json"


def digests(directory: Path) -> Dict[str, str]:
    """A hash of every file below a directory."""
    return {
        path.relative_to(directory).as_posix(): hashlib.sha256(
            path.read_bytes()
        ).hexdigest()
        for path in sorted(directory.rglob("*"))
        if path.is_file()
    }


def main() -> None:
    """Converts all modules."""
    found = {}
    for name in expected.module_names():
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder) / "out"
            hub.convert(expected.load_expected(name).path, out)
            found[name] = digests(out)
    PATH.write_text(json.dumps(found, indent=1, sort_keys=True) + "\n")
    print("{} modules in {}".format(len(found), PATH))


if __name__ == "__main__":
    main()
