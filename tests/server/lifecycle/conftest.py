"""What the tests of this directory share."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.environments import clean_environment
from tests.support.otlp_sink import OtlpSink, otlp_sink


@pytest.fixture
def exported_to() -> Iterator[OtlpSink]:
    """A receiver of OTLP."""
    with otlp_sink() as sink:
        yield sink


@pytest.fixture(scope="module")
def mysite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `django-admin startproject` makes, untouched."""
    directory: Path = tmp_path_factory.mktemp("startproject")
    subprocess.run(
        [sys.executable, "-m", "django", "startproject", "mysite", directory],
        check=True,
        env=clean_environment(directory, {}),
    )
    return directory
