"""Los ejemplos: cada script numerado corre con --rapido y cumple lo que promete.

Para sumar uno alcanza con una función que reciba lo que imprimió y la carpeta donde dibujó, y un
renglón en CHECKS.
"""

from __future__ import annotations

import functools
import importlib.util
import json
import os
import random
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.needs import need

EXAMPLES = Path(__file__).parents[1] / 'examples'


def call(
    script: Path, *arguments: str, env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Lo corre como quien lo escribe en la terminal; una advertencia lo hace fallar."""
    command = [sys.executable, '-X', 'utf8', '-W', 'error', str(script), *arguments]
    return subprocess.run(command, capture_output=True, encoding='utf-8', check=False, env=env)


def run(script: Path, *arguments: str) -> str:
    """Lo que imprime `script`."""
    result = call(script, *arguments)
    assert result.returncode == 0, result.stderr
    return result.stdout


def numbers(pattern: str, out: str) -> list[float]:
    """Los números que `pattern` encuentra en la salida, en orden."""
    found = re.findall(pattern, out, re.MULTILINE)
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


def check_moons(out: str, folder: Path) -> None:
    first, last = numbers(r'Pérdida: de ([\d.]+) a ([\d.]+)', out)
    assert last < first / 2
    (accuracy,) = numbers(r'Exactitud: ([\d.]+)%', out)
    assert accuracy >= 90
    (difference,) = numbers(r'Las pérdidas difieren en ([\d.e-]+)', out)
    assert difference < 1e-9
    with_values, with_tape = numbers(r'([\d.]+) ms por paso', out)
    assert numbers(r'Tape es ([\d.]+) veces', out)
    assert with_values > 0
    assert with_tape > 0


def check_digits(out: str, folder: Path) -> None:
    first, last = numbers(r'Pérdida: de ([\d.]+) en la primera época a ([\d.]+)', out)
    assert last < first / 5
    train, test = numbers(r'([\d.]+)% en (?:entrenamiento|prueba)', out)
    assert train >= 95
    assert test >= 95
    assert 'responde lo mismo? Sí' in out
    weights = json.loads((folder / '04_digitos.json').read_text(encoding='utf-8'))
    assert len(weights) == 64 * 32 + 32 + 32 * 10 + 10


def invented(out: str) -> list[str]:
    """Los nombres que el modelo inventó después de entrenar."""
    (line,) = re.findall(r'Después: (.*)', out)
    return str(line).split()


def check_names(out: str, folder: Path) -> None:
    assert numbers(r'(\d+) nombres', out)[0] >= 1000
    loss, bigrams = numbers(r'no vio: ([\d.]+) \(contar bigramas: ([\d.]+)\)', out)
    assert loss < bigrams
    assert len(invented(out)) >= 6


def check_gpt(out: str, folder: Path) -> None:
    assert numbers(r'(\d+) nombres', out)[0] >= 1000
    first, last = numbers(r'Pérdida por letra: de ([\d.]+) a ([\d.]+)', out)
    assert last < first - 0.8
    assert all(len(name) <= 8 for name in invented(out))
    eager, taped = numbers(r'Un paso: ([\d.]+) ms sin cinta y ([\d.]+) ms', out)
    assert eager > taped


def check_devices(out: str, folder: Path) -> None:
    first, *rest = numbers(r'la pérdida va de ([\d.]+) a ([\d.]+)', out)
    assert rest[0] < first / 2
    assert rest[2] < rest[1] / 5
    differences = numbers(r'difieren en ([\d.e+-]+) y los gradientes en ([\d.e+-]+),', out)
    assert max(differences) < 1e-12
    assert min(numbers(r'en los Values: ([\d.]+)%', out)) > 75
    speeds = numbers(r'^\| \d+ \| (\d+) \| (\d+) \| (\d+) \| (\d+)', out)
    assert len(speeds) == 2 * 2 * 4  # dos problemas, dos lotes; 1, 2 y 4 dispositivos, y Tape
    assert max(speeds) > 0


# De cada script: qué paquetes le hacen falta, qué imágenes dibuja y cómo se controla lo demás.
CHECKS: dict[str, tuple[list[str], list[str], Callable[[str, Path], None]]] = {
    '02_xor.py': (
        ['matplotlib', 'tqdm'],
        ['02_xor.png', '02_grafo_forward.png', '02_grafo_backward.png'],
        check_xor,
    ),
    '03_lunas.py': (['matplotlib', 'sklearn', 'tqdm'], ['03_lunas.png'], check_moons),
    '04_digitos.py': (['matplotlib', 'sklearn', 'tqdm'], ['04_digitos.png'], check_digits),
    '05_nombres.py': (['faker', 'matplotlib', 'tqdm'], ['05_nombres.png'], check_names),
    '06_gpt.py': (['faker', 'matplotlib', 'tqdm'], ['06_gpt.png'], check_gpt),
    '07_muchos_dispositivos.py': (
        ['jax', 'matplotlib', 'sklearn', 'tqdm'],
        ['07_muchos_dispositivos.png'],
        check_devices,
    ),
}

# El primero, que no tiene --rapido, está en test_readme.py.
SCRIPTS = [path.name for path in sorted(EXAMPLES.glob('[0-9]*.py')) if path.name[:2] != '01']
TWINS = sorted(path.name for path in EXAMPLES.glob('pytorch/*.py'))
EVERY = [*sorted(EXAMPLES.glob('[0-9]*.py')), *sorted(EXAMPLES.glob('pytorch/*.py'))]


@pytest.fixture(scope='session')
def run_script(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[str, Path]]:
    """Corre un script una sola vez; da lo que imprimió y la carpeta donde dibujó."""

    @functools.cache
    def run_script(name: str) -> tuple[str, Path]:
        folder = tmp_path_factory.mktemp('salida') / 'imágenes' / 'nuevas'  # todavía no existe
        return run(EXAMPLES / name, '--rapido', '--salida', str(folder)), folder

    return run_script


@pytest.mark.parametrize('name', SCRIPTS)
def test_script_does_what_it_says(name: str, run_script: Callable[[str], tuple[str, Path]]) -> None:
    modules, pictures, check = CHECKS[name]
    need(*modules)
    out, folder = run_script(name)
    assert {path.name for path in folder.iterdir() if path.suffix == '.png'} == set(pictures)
    for picture in pictures:
        assert (folder / picture).read_bytes().startswith(b'\x89PNG'), picture
        assert f'Imagen: {folder / picture}' in out.splitlines()
    check(out, folder)


@pytest.mark.parametrize('script', EVERY, ids=lambda script: script.name)
def test_help_explains_and_does_nothing_else(script: Path) -> None:
    need(*CHECKS.get(script.name.replace('_pytorch', ''), ([],))[0])
    if script.parent.name == 'pytorch':
        need('torch')
    out = run(script, '--help')
    words = ' '.join(out.split())
    assert f'python {script.relative_to(EXAMPLES.parent).as_posix()}' in out
    assert re.search(r'Tarda [^.]*(segundo|minuto)', words)
    assert '--help muestra esta ayuda y termina' in words
    assert ('--rapido menos pasos, para probar' in words) == ('01_' not in script.name)
    assert ('--salida CARPETA' in words) == (script.parent == EXAMPLES)
    assert not re.search('usage|options|show this', words)
    assert len(out.splitlines()) < 45


def test_an_unknown_option_is_told_in_one_line() -> None:
    result = call(EXAMPLES / '01_neurona.py', '--rapidísimo', '3')
    assert result.returncode == 2
    assert result.stdout == ''
    expected = 'No entiendo «--rapidísimo 3». Las opciones se ven con --help.'
    assert result.stderr.splitlines() == [expected]


@pytest.mark.parametrize('script', EVERY[1:], ids=lambda script: script.name)
def test_a_missing_extra_is_told_in_one_line(script: Path, tmp_path: Path) -> None:
    """Cada uno pide primero algo que no viene en la instalación mínima; acá no está nada de eso."""
    for module in ('faker', 'jax', 'matplotlib', 'sklearn', 'torch', 'tqdm'):
        hidden = f'raise ModuleNotFoundError("No module named {module}", name={module!r})'
        (tmp_path / f'{module}.py').write_text(hidden, encoding='utf-8')
    result = call(script, env=os.environ | {'PYTHONPATH': str(tmp_path)})
    assert result.returncode == 1
    assert result.stdout == ''
    (line,) = result.stderr.splitlines()
    assert re.fullmatch(
        r'Falta PyTorch\. Se instala como dice pytorch\.org.*'
        r'|Falta \w+\. Se instala.*: python -m pip install -e "\.\[examples(,jax)?\]"',
        line,
    )


def test_pictures_stay_away_from_the_ones_in_the_repository() -> None:
    """Sin --salida van a una carpeta que git no mira."""
    common = load(EXAMPLES / 'common.py')

    assert common.OUTPUT.parent == EXAMPLES
    ignored = (EXAMPLES.parent / '.gitignore').read_text(encoding='utf-8').splitlines()
    assert f'examples/{common.OUTPUT.name}/' in ignored


@pytest.mark.parametrize('name', TWINS)
def test_twin_prints_the_same_results(
    name: str, run_script: Callable[[str], tuple[str, Path]]
) -> None:
    script = name.replace('_pytorch', '')
    need('torch', *CHECKS[script][0])
    ours, _ = run_script(script)
    lines = run(EXAMPLES / 'pytorch' / name, '--rapido').splitlines()
    assert lines
    assert set(lines) <= set(ours.splitlines())


@pytest.fixture(autouse=True)
def _examples_can_import_common(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(EXAMPLES)


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
    need('torch', 'matplotlib', 'sklearn', 'tqdm')
    import torch

    before = torch.get_default_dtype()
    yield torch
    torch.set_default_dtype(before)


@pytest.mark.usefixtures('torch')
@pytest.mark.parametrize('network', ['linear_network', 'tanh_network'])
def test_xor_twin_has_the_same_losses(network: str) -> None:
    ours, twin = load(EXAMPLES / '02_xor.py'), load(EXAMPLES / 'pytorch' / '02_xor_pytorch.py')
    losses = ours.train(getattr(ours, network)(), 300, network)
    expected = twin.train(getattr(twin, network)(), 300, network)
    assert losses == pytest.approx(expected, rel=0, abs=1e-9)


@pytest.mark.usefixtures('torch')
def test_moons_twin_has_the_same_losses() -> None:
    ours, twin = load(EXAMPLES / '03_lunas.py'), load(EXAMPLES / 'pytorch' / '03_lunas_pytorch.py')
    model = ours.new_model()
    losses = ours.train_with_tape(model, 100, ours.record_loss(model))
    assert losses == pytest.approx(twin.train(twin.new_model(), 100), rel=0, abs=1e-9)


@pytest.mark.usefixtures('torch')
def test_gpt_twin_has_the_same_losses() -> None:
    need('faker')
    ours, twin = load(EXAMPLES / '06_gpt.py'), load(EXAMPLES / 'pytorch' / '06_gpt_pytorch.py')
    names = ours.load_names()
    assert names == twin.load_names()
    losses = []
    for script in (ours, twin):
        model = script.build_model(random.Random(0))
        trainer = script.Trainer(model, names, random.Random(1))
        losses.append([trainer.step(lr=0.01) for _ in range(20)])
    assert losses[0] == pytest.approx(losses[1], rel=0, abs=1e-9)
