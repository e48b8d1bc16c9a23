"""El README y el primer ejemplo: todo lo que muestran se ejecuta e imprime lo que dicen."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / 'README.md').read_text(encoding='utf-8')
BLOCKS = re.findall(r'^```python\n(.*?)^```', README, re.MULTILINE | re.DOTALL)


def promised_lines(source: str) -> list[str]:
    """Lo que el código dice que imprime: los comentarios al final de cada print."""
    return re.findall(r'print\(.*\)  # (.*)', source)


@pytest.mark.parametrize('block', BLOCKS, ids=lambda block: block.split('\n')[0])
def test_blocks_print_what_they_say(
    block: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if 'import jax' in block:
        pytest.importorskip('jax', reason='falta JAX: pip install -e ".[jax]"')
    monkeypatch.chdir(tmp_path)
    exec(compile(block, 'README.md', 'exec'), {'__name__': '__main__'})
    assert capsys.readouterr().out.splitlines() == promised_lines(block)


def test_pictures_and_links_exist() -> None:
    targets = re.findall(r'\]\((?!https?:)([^)#]+)\)', README)
    assert targets
    for target in targets:
        assert (ROOT / target).exists(), target


def test_first_example_prints_its_lines_and_draws_its_picture(tmp_path: Path) -> None:
    (tmp_path / 'examples').mkdir()
    script = shutil.copy(ROOT / 'examples' / '01_neurona.py', tmp_path / 'examples')
    command = [sys.executable, '-X', 'utf8', '-W', 'error', script]
    out = subprocess.run(command, capture_output=True, encoding='utf-8', check=True).stdout
    promised = promised_lines(Path(script).read_text(encoding='utf-8'))
    lines = out.splitlines()
    assert len(promised) == 5
    assert lines[:5] == promised
    losses = [float(line) for line in lines[5:]]
    assert losses == sorted(losses, reverse=True)
    assert 0 < losses[-1] < losses[0] < 0.0169
    assert (tmp_path / 'images' / 'graph.png').read_bytes().startswith(b'\x89PNG')
