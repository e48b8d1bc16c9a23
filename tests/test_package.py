"""El paquete: qué exporta, qué versión dice tener, qué no carga al importarse y cómo se instala."""

from __future__ import annotations

import importlib.metadata
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import michigrad
from tests.needs import need

ROOT = Path(__file__).parents[1]


def test_exports() -> None:
    assert michigrad.Value is michigrad.engine.Value
    assert michigrad.show_graph is michigrad.visualize.show_graph
    assert michigrad.show_backprop is michigrad.stepper.show_backprop
    assert michigrad.gradcheck is sys.modules['michigrad.gradcheck'].gradcheck  # no el módulo
    assert {*michigrad.__all__} <= {*dir(michigrad), 'show_backprop', 'show_graph'}
    with pytest.raises(AttributeError, match="no tiene 'MLP': tiene Value, "):
        _ = michigrad.MLP
    assert Path(michigrad.__file__).with_name('py.typed').exists()


def test_version_is_the_installed_one() -> None:
    assert michigrad.__version__ == importlib.metadata.version('michigrad')


@pytest.mark.parametrize('statement', ['import michigrad', 'from michigrad.engine import Value'])
def test_importing_loads_nothing_heavy(statement: str) -> None:
    heavy = {'numpy', 'graphviz', 'numba', 'torch', 'jax', 'random', 'asyncio'}
    code = f'{statement}\nimport sys\nprint(*sys.modules)'
    out = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True)
    assert heavy.isdisjoint(out.stdout.split())


def test_a_wheel_is_all_that_is_needed(tmp_path: Path) -> None:
    """El .whl se instala con pip y trae también los archivos que no son de Python."""
    need('build', 'hatchling')
    command = [
        sys.executable,
        '-m',
        'build',
        '--wheel',
        '--no-isolation',
        '--outdir',
        str(tmp_path),
    ]
    subprocess.run([*command, str(ROOT)], capture_output=True, check=True)
    (wheel,) = tmp_path.glob('*.whl')
    site = tmp_path / 'site'
    pip = [sys.executable, '-m', 'pip', '--disable-pip-version-check', 'install', '--no-deps']
    subprocess.run([*pip, '--target', str(site), str(wheel)], capture_output=True, check=True)
    code = """
import michigrad
from michigrad import Value
from michigrad.stepper import show_backprop

print(michigrad.__file__)
show_backprop(Value(2.0) * 3).save('backprop.html')
"""
    run = subprocess.run(
        [sys.executable, '-c', code],
        cwd=tmp_path,
        env=os.environ | {'PYTHONPATH': str(site)},
        capture_output=True,
        encoding='utf-8',
        check=True,
    )
    assert Path(run.stdout.strip()) == site / 'michigrad' / '__init__.py'
    assert (tmp_path / 'backprop.html').stat().st_size > 0


def test_the_workflows_call_steps_that_exist() -> None:
    steps = re.findall(r'^(\w+)\(\) \{$', (ROOT / '.ci' / 'run').read_text(encoding='utf-8'), re.M)
    for workflow in (ROOT / '.github' / 'workflows').glob('*.yml'):
        called = re.findall(r'\.ci/run (\w+)', workflow.read_text(encoding='utf-8'))
        assert set(called) <= set(steps), workflow.name
