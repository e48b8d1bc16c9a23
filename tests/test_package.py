"""El paquete: qué exporta, qué versión dice tener y qué no carga al importarse."""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys
from pathlib import Path

import pytest

import michigrad


def test_exports() -> None:
    assert michigrad.__all__ == ['Value', '__version__']
    assert michigrad.Value is michigrad.engine.Value
    assert Path(michigrad.__file__).with_name('py.typed').exists()


def test_version_is_the_installed_one() -> None:
    assert michigrad.__version__ == importlib.metadata.version('michigrad')


@pytest.mark.parametrize('statement', ['import michigrad', 'from michigrad.engine import Value'])
def test_importing_loads_nothing_heavy(statement: str) -> None:
    heavy = {'numpy', 'graphviz', 'numba', 'torch', 'jax', 'random', 'asyncio'}
    code = f'{statement}\nimport sys\nprint(*sys.modules)'
    out = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True)
    assert heavy.isdisjoint(out.stdout.split())
