"""The header rules on every Python of this machine, for its email package is what they tame."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from email import policy
from email.message import EmailMessage
from pathlib import Path
from types import SimpleNamespace

import pytest

import header_cases
from conftest import ROOT
from postroom.letters import headers

MINORS = range(11, 20)


def pythons() -> list[str]:
    """Return the Pythons that are supported, each once: on PATH, and where pyenv keeps them."""
    kept = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"), "versions").glob("*/bin")
    places = [*os.environ.get("PATH", "").split(os.pathsep), *map(str, sorted(kept))]
    found = [shutil.which(f"python3.{minor}", path=place) for place in places for minor in MINORS]
    # A shim of pyenv's stands for versions that are not there, too.
    real = [Path(one) for one in found if one and Path(one).parent.name != "shims"]
    return sorted({str(one.resolve()) for one in (Path(sys.executable), *real)})


@pytest.mark.parametrize("python", pythons())
def test_m1_m2_m3_m4_the_rules_hold_on_every_python(python: str) -> None:
    """Names come back, fields stay plain and nothing is injected, on every Python that runs."""
    rules = str(ROOT / "src/postroom/letters/headers.py")
    command = [python, "-I", header_cases.__file__, rules]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", timeout=60, check=False)
    expected = f"{len(header_cases.NAMES)} names well\n"
    assert (done.stdout, done.stderr, done.returncode) == (expected, "", 0)


def test_the_proof_finds_what_the_email_package_does() -> None:
    """The same proof fails where the standard library writes the address to leave at."""
    usual = SimpleNamespace(**vars(headers))
    usual.plain = written
    expected = [f"{case}: another List-Unsubscribe" for case in header_cases.NAMES]
    assert list(header_cases.faults(usual))[: len(expected)] == expected


def written(name: str, value: str) -> str:
    """Return a field as the email package folds and encodes it."""
    mail = EmailMessage(policy=policy.SMTP)
    mail[name] = value
    return mail.as_bytes().decode("ascii", "replace").replace("\ufffd", "?").removesuffix("\r\n")
