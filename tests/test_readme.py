"""El README, las otras páginas y el primer ejemplo: lo que muestran se ejecuta y da eso."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.needs import need

ROOT = Path(__file__).parents[1]
PAGES = [
    ROOT / 'README.md',
    *sorted((ROOT / 'examples').glob('*.md')),
    *sorted((ROOT / 'tests').rglob('*.md')),
]


def read(page: Path) -> str:
    return page.read_text(encoding='utf-8')


def blocks() -> list[Any]:
    """Cada bloque de Python de cada página, con un nombre para reconocerlo."""
    found = []
    for page in PAGES:
        for i, block in enumerate(re.findall(r'^```python\n(.*?)^```', read(page), re.M | re.S)):
            name = f'{page.relative_to(ROOT).as_posix()}, bloque {i + 1}'
            found.append(pytest.param(block, id=name))
    return found


def promised_lines(source: str) -> list[str]:
    """Lo que el código dice que imprime: los comentarios al final de cada print."""
    return re.findall(r'print\(.*\)  # (.*)', source)


@pytest.mark.parametrize('block', blocks())
def test_blocks_print_what_they_say(
    block: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for module in ('jax', 'matplotlib'):
        if re.search(f'^(import|from) {module}', block, re.M):
            need(module)
    if 'michigrad.plot' in block:
        need('matplotlib')
    monkeypatch.chdir(tmp_path)
    exec(compile(block, 'página', 'exec'), {'__name__': '__main__'})
    assert capsys.readouterr().out.splitlines() == promised_lines(block)


@pytest.mark.parametrize('page', PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_pictures_and_links_exist(page: Path) -> None:
    for target in re.findall(r'\]\((?!https?:)([^)#]+)\)', read(page)):
        assert (page.parent / target).exists(), target


def test_commands_name_extras_that_exist() -> None:
    """Los de todas las páginas, y los scripts y archivos que nombran."""
    project = read(ROOT / 'pyproject.toml')
    section = project.split('[project.optional-dependencies]')[1].split('\n[')[0]
    extras = set(re.findall(r'^(\w+) = \[', section, re.M))
    for page in PAGES:
        for names in re.findall(r'-e "\.\[(.*?)\]"', read(page)):
            assert set(names.split(',')) <= extras, page
        for script in re.findall(r'python (examples[/\\]\S+\.py)', read(page)):
            assert (ROOT / script.replace('\\', '/')).exists(), page


def test_first_example_prints_its_lines_and_draws_its_picture(tmp_path: Path) -> None:
    script = ROOT / 'examples' / '01_neurona.py'
    command = [sys.executable, '-X', 'utf8', '-W', 'error', str(script), '--salida']
    command.append(str(tmp_path / 'nueva'))
    out = subprocess.run(command, capture_output=True, encoding='utf-8', check=True).stdout
    promised = promised_lines(read(script))
    lines = out.splitlines()
    assert len(promised) == 5
    assert lines[:5] == promised
    picture = tmp_path / 'nueva' / 'graph.png'
    assert lines[5] == f'El grafo quedó en {picture}'
    assert picture.read_bytes().startswith(b'\x89PNG')
    losses = [float(line) for line in lines[6:]]
    assert losses == sorted(losses, reverse=True)
    assert 0 < losses[-1] < losses[0] < 0.0169
