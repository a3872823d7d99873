"""Write files so that a symbolic link in their place is never followed.

A pull request may contain a symbolic link where a command is going to write. Its target may be any
file that the user can write.
"""

from __future__ import annotations

import os
import secrets
import shutil
from pathlib import Path

NOT_FOLLOWED = "which Postroom does not follow when it writes"


def link_fault(folder: Path, path: Path) -> str:
    """Return why `path`, which is below `folder`, must not be written, or an empty string.

    The result is the rest of a sentence that begins with the path. Neither the file nor a folder
    between `folder` and the file may be a symbolic link. Paths elsewhere have no fault.
    """
    home, place = os.path.abspath(folder), os.path.abspath(path)  # noqa: PTH100 - a Path keeps `..`
    if not Path(place).is_relative_to(home):
        return ""
    reached = Path(home)
    for part in Path(place).relative_to(home).parts:
        reached = reached / part
        if reached.is_symlink():
            if reached == Path(place):
                return f"is a symbolic link, {NOT_FOLLOWED}"
            name = reached.relative_to(home).as_posix()
            return f"leads through the symbolic link '{name}', {NOT_FOLLOWED}"
    return ""


def create_file(path: Path, data: bytes) -> None:
    """Write `data` into the new file `path`.

    Raises `OSError` and writes nothing if there is a file or a symbolic link already.
    """
    with path.open("xb") as file:  # O_EXCL follows no link (open(2))
        file.write(data)


def replace_file(path: Path, data: bytes) -> None:
    """Write `data` into the file `path` at once; no other program sees half of it.

    An existing file keeps its mode. A symbolic link is replaced by the file. Raises `OSError`.
    """
    staged = path.with_name(f".{secrets.token_hex(8)}.tmp")
    try:
        create_file(staged, data)
        if path.is_file() and not path.is_symlink():
            shutil.copymode(path, staged)
        staged.replace(path)  # rename(2) replaces a link, not its target
    finally:
        staged.unlink(missing_ok=True)
