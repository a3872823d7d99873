"""The whole action on an empty machine: pip downloads and installs everything as on a runner."""

from __future__ import annotations

import io
import subprocess
import tarfile
from pathlib import Path

import pytest

from tests.support.action_runner import Runner, run_blocks

# A backend needs no other package, so that pip can build this one without a registry.
SOURCE = {
    "pyproject.toml": """\
[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]
""",
    "backend.py": """\
import zipfile


def build_wheel(folder, *_):
    info = "kept-1.0.dist-info"
    texts = {
        "METADATA": "Metadata-Version: 2.1\\nName: kept\\nVersion: 1.0\\n",
        "WHEEL": "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n",
        "RECORD": f"{info}/METADATA,,\\n{info}/WHEEL,,\\n{info}/RECORD,,\\n",
    }
    with zipfile.ZipFile(f"{folder}/kept-1.0-py3-none-any.whl", "w") as wheel:
        for name, text in texts.items():
            wheel.writestr(f"{info}/{name}", text)
    return "kept-1.0-py3-none-any.whl"
""",
    "PKG-INFO": "Metadata-Version: 2.1\nName: kept\nVersion: 1.0\n",
}


def write_requirement(folder: Path) -> Path:
    """Write a source distribution and a list of requirements that names it; return the list."""
    archive = folder / "kept-1.0.tar.gz"
    with tarfile.open(archive, "w:gz") as file:
        for name, text in SOURCE.items():
            member = tarfile.TarInfo(f"kept-1.0/{name}")
            member.size = len(text.encode())
            file.addfile(member, io.BytesIO(text.encode()))
    requirements = folder / "requirements.txt"
    requirements.write_text(f"kept @ {archive.as_uri()}\n", encoding="utf-8")
    return requirements


@pytest.mark.slow
@pytest.mark.parametrize("command", ["check", "plan"])
def test_the_action_installs_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    """The action installs this version with the requirements of its command, which then runs."""
    # Pip keeps the wheels that it builds, even where it finds all packages in local folders.
    monkeypatch.setenv("PIP_REQUIREMENT", str(write_requirement(tmp_path)))
    made = Runner(tmp_path, installed=False)
    ran = made.use(command=command, site="news")
    assert ran.code == 0, ran.log
    assert [*ran.steps] == run_blocks()
    python = made.temp / "postroom/bin/python"
    code = "import importlib.util as u; print(u.find_spec('psycopg') is not None)"
    found = subprocess.check_output([python, "-c", code], text=True)
    assert found == f"{command == 'plan'}\n"
    assert any(Path(ran.outputs["path"]).rglob("*")), "pip kept nothing where the cache looks"
