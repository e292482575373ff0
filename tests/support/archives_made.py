"""Archives with what a test puts in."""

from __future__ import annotations

import io
import tarfile
from typing import Any


def tar_with(name: str, **fields: Any) -> bytes:
    """A tar with a model and one more member."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        good = tarfile.TarInfo("saved_model.pb")
        good.size = 2
        archive.addfile(good, io.BytesIO(b"xx"))
        member = tarfile.TarInfo(name)
        for key, value in fields.items():
            setattr(member, key, value)
        archive.addfile(member, io.BytesIO(b"x" * member.size))
    return out.getvalue()
