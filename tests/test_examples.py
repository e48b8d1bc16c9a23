"""Los ejemplos: cada script numerado corre con --rapido y cumple lo que promete.

Para sumar uno alcanza con una función que reciba lo que imprimió y la carpeta donde dibujó, y un
renglón en CHECKS.
"""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

EXAMPLES = Path(__file__).parents[1] / 'examples'


def run(script: Path, *arguments: str) -> str:
    """Lo que imprime `script`; una advertencia lo hace fallar, igual que en las pruebas."""
    command = [sys.executable, '-X', 'utf8', '-W', 'error', str(script), *arguments]
    result = subprocess.run(command, capture_output=True, encoding='utf-8', check=False)
    assert result.returncode == 0, result.stderr
    return result.stdout


def numbers(pattern: str, out: str) -> list[float]:
    """Los números que `pattern` encuentra en la salida, en orden."""
    found = re.findall(pattern, out)
    assert found, f'no está {pattern!r} en:\n{out}'
    return [float(x) for match in found for x in ([match] if isinstance(match, str) else match)]


def check_xor(out: str, folder: Path) -> None:
    linear, tanh = numbers(r'la pérdida va de [\d.]+ a ([\d.]+)', out)
    assert linear == 0.25
    assert tanh < 0.02
    predictions = numbers(r'la red dice (-?[\d.]+)', out)
    assert predictions[:4] == [0.5] * 4
    assert predictions[4:] == pytest.approx([0, 1, 1, 0], abs=0.2)
    assert 'los 9 gradientes' in out
    forward, backward = (folder / f'02_grafo_{when}.png' for when in ('forward', 'backward'))
    assert forward.read_bytes() != backward.read_bytes()


# De cada script: qué paquetes le hacen falta, qué imágenes dibuja y cómo se controla lo demás.
CHECKS: dict[str, tuple[list[str], list[str], Callable[[str, Path], None]]] = {
    '02_xor.py': (
        ['matplotlib', 'tqdm'],
        ['02_xor.png', '02_grafo_forward.png', '02_grafo_backward.png'],
        check_xor,
    ),
}

# El primero, que no entrena ni tiene opciones, está en test_readme.py.
SCRIPTS = [path.name for path in sorted(EXAMPLES.glob('[0-9]*.py')) if path.name[:2] != '01']


@pytest.mark.parametrize('name', SCRIPTS)
def test_script_does_what_it_says(name: str, tmp_path: Path) -> None:
    modules, pictures, check = CHECKS[name]
    for module in modules:
        pytest.importorskip(module, reason=f'{name} usa {module}: pip install -e ".[examples]"')
    folder = tmp_path / 'imágenes' / 'nuevas'  # no existe, y con un acento
    out = run(EXAMPLES / name, '--rapido', '--salida', str(folder))
    drawn = {path.name for path in folder.iterdir() if path.suffix == '.png'}
    assert drawn == set(pictures)
    for picture in pictures:
        assert (folder / picture).read_bytes().startswith(b'\x89PNG'), picture
    check(out, folder)


def load(path: Path) -> Any:
    """El script como módulo, sin correr su main()."""
    spec = importlib.util.spec_from_file_location(f'ejemplo_{path.stem}', path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def torch() -> Any:
    """PyTorch, con el dtype de siempre al terminar: los gemelos usan float64."""
    torch = pytest.importorskip('torch', reason='los gemelos usan PyTorch: pip install torch')
    before = torch.get_default_dtype()
    yield torch
    torch.set_default_dtype(before)


def test_xor_twin_has_the_same_losses(torch: Any) -> None:
    pytest.importorskip('matplotlib')
    pytest.importorskip('tqdm')
    ours, twin = load(EXAMPLES / '02_xor.py'), load(EXAMPLES / 'pytorch' / '02_xor_pytorch.py')
    for network in ('linear_network', 'tanh_network'):
        losses = ours.train(getattr(ours, network)(), 300, network)
        assert losses == pytest.approx(
            twin.train(getattr(twin, network)(), 300, network), rel=0, abs=1e-9
        )


@pytest.mark.parametrize('twin', sorted(EXAMPLES.glob('pytorch/*.py')), ids=lambda path: path.name)
def test_twin_prints_the_same_results(twin: Path, tmp_path: Path) -> None:
    for module in ('torch', 'matplotlib', 'sklearn', 'tqdm'):
        pytest.importorskip(module)
    script = EXAMPLES / twin.name.replace('_pytorch', '')
    ours = run(script, '--rapido', '--salida', str(tmp_path)).splitlines()
    lines = run(twin, '--rapido').splitlines()
    assert lines
    assert set(lines) <= set(ours)
