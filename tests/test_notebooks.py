"""Los notebooks: se ejecutan de arriba abajo, cumplen lo que cuentan y guardan lo que muestran.

python -m tests.test_notebooks

los vuelve a ejecutar y guarda lo que dieron, sin fechas ni rutas de la máquina. Hace falta después
de cambiar una celda.
"""

from __future__ import annotations

import base64
import json
import math
import os
import re
import sys
import tempfile
import types
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.needs import need

Notebook = dict[str, Any]
Cell = dict[str, Any]

EXAMPLES = Path(__file__).parents[1] / 'examples'
PACKAGES = {
    '01_autograd': ['matplotlib'],
    '02_xor': ['matplotlib'],
    '03_generar_nombres': ['matplotlib', 'faker'],
}
NAMES = list(PACKAGES)

# Lo que se mira al final de cada uno: una expresión que se evalúa con sus variables.
FACTS = {
    '01_autograd': '[losses, (x0 * W0 + x1 * W1 + b).data]',
    '02_xor': '[linear_losses, curved_losses, [curved(x).data for x in X]]',
    '03_generar_nombres': """[
        train_curve, test_curve, baseline, uniform, names, names_before, names_after,
        {letter: [p.data for p in model.embedding(ONE_HOT[letter])] for letter in LETTERS},
    ]""",
}

# Respuestas equivocadas a cada ejercicio, y qué tiene que contestar la comprobación.
NO_ZERO_GRAD = """
def train(weights, steps, lr):
    losses = []
    for _ in range(steps):
        loss = neuron_loss(weights)
        losses.append(loss.data)
        loss.backward()
        for w in weights:
            w.data -= lr * w.grad
    return losses
"""
WRONG_SIGN = """
def reciprocal(self):
    out = Value(1 / self.data, (self,), '1/x')

    def _backward():
        self.grad += 1 / self.data**2 * out.grad

    out._backward = _backward
    return out
"""
WITHOUT_BACKWARD = """
def reciprocal(self):
    return Value(1 / self.data, (self,), '1/x')
"""
LINEAR = """
def build_and_train():
    return Sequential(Layer(3, 6, nonlin=False), Layer(6, 1, nonlin=False))
"""
WRONG = {
    '01_autograd': [
        [
            ('dM_dp, dM_dq, dM_dr = -4, -4, 3', 'ojo con el signo'),
            ('dM_dp, dM_dq, dM_dr = 1, 4, 3', '∂M/∂p es otra'),
            ('dM_dp, dM_dq, dM_dr = Value(-4), Value(4), Value(5)', '∂M/∂r es otra'),
        ],
        [('dN_ds, dN_dt = 3, 5', 'sumá lo que llega'), ('dN_ds, dN_dt = 1, 8', '∂N/∂s es otra')],
        [
            (NO_ZERO_GRAD, '¿ponés los gradientes en 0?'),
            (NO_ZERO_GRAD.replace('loss.data', 'loss'), 'guardá su número, loss.data'),
            (NO_ZERO_GRAD.replace('return losses', 'losses'), '¿falta el return?'),
            (NO_ZERO_GRAD.replace('-=', '+='), '¿te moviste en contra del gradiente?'),
            (NO_ZERO_GRAD.replace('range(steps)', 'range(3)'), 'una pérdida por paso, 15, y hay 3'),
            (NO_ZERO_GRAD.replace('w.grad', 'w.gradiente'), 'no anda. AttributeError'),
        ],
        [
            (WRONG_SIGN, 'el signo cambiado'),
            (WRONG_SIGN.replace('1 / self.data,', '1 - self.data,'), 'el forward da'),
            (WITHOUT_BACKWARD, 'no anda'),
            ('def reciprocal(self):\n    return 1 / self', 'así lo deriva Value'),
            ('def reciprocal(self):\n    return self**-1', 'así lo deriva Value'),
            ('def reciprocal(self):\n    return 1 / self.data', 'tiene que devolver un Value'),
        ],
    ],
    '02_xor': [
        [
            (
                'def my_mse(predictions, targets):\n'
                '    return sum((p - t) ** 2 for p, t in zip(predictions, targets))',
                'tenía que dar',
            ),
            ('def my_mse(predictions, targets):\n    return 3.02', 'tiene que devolver un Value'),
        ],
        [('u0, u1, bias = 1, -1, 0', '1 xor 1 es 0')],
        [(LINEAR, 'más neuronas'), ('def build_and_train():\n    Layer(3, 1)', 'no anda')],
    ],
    '03_generar_nombres': [
        [
            ('def weirdest(names):\n    return names[0]', 'el más raro es wxyz, y da ana'),
            (
                "def weirdest(names):\n    return 'wxyz' if len(names) == 3 else names[0]",
                'más raro',
            ),
        ],
        [
            ('def my_softmax(logits):\n    return [z.exp() for z in logits]', 'sumar 1'),
            ('def my_softmax(logits):\n    return logits[1:]', 'tienen que ser 3 números y son 2'),
            (
                'def my_softmax(logits):\n    return [p.data for p in softmax(logits)]',
                'tienen que ser Values',
            ),
        ],
        [
            ('def complete(start):\n    return invent()', 'no empieza con lu'),
            ("def complete(start):\n    return start + 'na'", 'dan todos iguales, luna'),
        ],
    ],
}


def load(name: str) -> Notebook:
    notebook: Notebook = json.loads((EXAMPLES / f'{name}.ipynb').read_text(encoding='utf-8'))
    return notebook


def source(cell: Cell) -> str:
    return ''.join(cell['source'])


def code_cells(notebook: Notebook) -> list[Cell]:
    return [cell for cell in notebook['cells'] if cell['cell_type'] == 'code']


def tagged(notebook: Notebook, tag: str) -> list[Cell]:
    return [cell for cell in notebook['cells'] if tag in cell['metadata'].get('tags', [])]


def stream(cell: Cell, name: str = 'stdout') -> str:
    """Lo que la celda imprimió."""
    streams = [output for output in cell['outputs'] if output['output_type'] == 'stream']
    return ''.join(''.join(output['text']) for output in streams if output['name'] == name)


def pictures(cell: Cell) -> list[dict[str, str]]:
    """Lo que la celda mostró además de texto: por cada cosa, su contenido según su tipo."""
    found = []
    for output in cell['outputs']:
        rich = {kind: ''.join(data) for kind, data in output.get('data', {}).items()}
        rich.pop('text/plain', None)
        found.append(rich)
    return [rich for rich in found if rich]


def solutions(notebook: Notebook) -> list[str]:
    """El código de cada solución plegada."""
    folded = [source(cell) for cell in notebook['cells'] if 'Solución</summary>' in source(cell)]
    return [re.findall(r'^```python\n(.*?)^```', text, re.M | re.S)[-1] for text in folded]


def execute(notebook: Notebook, folder: Path) -> Notebook:
    """Lo ejecuta en un kernel que solo escribe en `folder`."""
    nbclient, nbformat = need('nbclient'), need('nbformat')
    need('ipykernel')
    places = ('IPYTHONDIR', 'JUPYTER_CONFIG_DIR', 'JUPYTER_DATA_DIR', 'JUPYTER_RUNTIME_DIR')
    with pytest.MonkeyPatch.context() as patch:
        for place in places:
            patch.setenv(place, str(folder / place.lower()))
        client = nbclient.NotebookClient(
            nbformat.reads(json.dumps(notebook), as_version=4),
            timeout=300,
            kernel_name='python3',
            record_timing=False,
            coalesce_streams=True,
            resources={'metadata': {'path': str(folder)}},
        )
        executed: Notebook = client.execute()
    return executed


def new_cell(text: str, tag: str) -> Cell:
    return {
        'cell_type': 'code',
        'id': os.urandom(4).hex(),
        'execution_count': None,
        'metadata': {'tags': [tag]},
        'outputs': [],
        'source': text,
    }


def with_answers(name: str) -> Notebook:
    """El notebook, y después de cada ejercicio mal resuelto, bien resuelto y otra vez sin resolver.

    Termina con una celda que imprime FACTS.
    """
    notebook = load(name)
    answers = zip(WRONG[name], solutions(notebook), strict=True)
    cells: list[Cell] = []
    for cell in notebook['cells']:
        cells.append(cell)
        tags = cell['metadata'].get('tags', [])
        if 'ejercicio' in tags:
            exercise = source(cell)
        elif 'comprobación' in tags:
            wrong, solution = next(answers)
            for answer, _ in wrong:
                cells += [new_cell(answer, 'respuesta'), new_cell(source(cell), 'mal')]
            cells += [
                new_cell(solution, 'respuesta'),
                new_cell(source(cell), 'resuelto'),
                new_cell(exercise, 'respuesta'),
            ]
    cells.append(new_cell(f'import json\nprint(json.dumps({FACTS[name]}))', 'hechos'))
    return notebook | {'cells': cells}


@pytest.fixture(scope='module', params=NAMES)
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """El nombre de cada notebook, y el notebook recién ejecutado, con sus respuestas."""
    name = request.param
    need(*PACKAGES[name])
    return name, execute(with_answers(name), tmp_path_factory.mktemp(name))


def facts(notebook: Notebook) -> Any:
    return json.loads(stream(notebook['cells'][-1]))


def test_runs_from_top_to_bottom_without_warnings(run: Any) -> None:
    for cell in code_cells(run[1]):
        assert not [output for output in cell['outputs'] if output['output_type'] == 'error'], cell
        assert not stream(cell, 'stderr'), cell


def test_shows_what_it_has_saved(run: Any) -> None:
    """Lo guardado es lo que da: si no, falta python -m tests.test_notebooks."""
    name, executed = run
    saved = load(name)
    fresh = {cell['id']: cell for cell in code_cells(executed)}
    for cell in code_cells(saved):
        again = fresh[cell['id']]
        assert [set(rich) for rich in pictures(cell)] == [set(rich) for rich in pictures(again)]
        assert bool(stream(cell)) == bool(stream(again)), source(cell)
        if name != '03_generar_nombres':  # sus números dependen de la versión de faker
            assert stream(cell) == stream(again)


def test_exercises_say_in_one_line_if_the_answer_is_missing_wrong_or_right(run: Any) -> None:
    name, executed = run
    unsolved = tagged(executed, 'comprobación')
    assert unsolved
    for i, cell in enumerate(unsolved, start=1):
        assert stream(cell).startswith(f'Ejercicio {i}: reemplazá los ...')
    for i, cell in enumerate(tagged(executed, 'resuelto'), start=1):
        assert stream(cell).startswith(f'Ejercicio {i}: ¡bien!')
    expected = [(i, hint) for i, wrong in enumerate(WRONG[name], start=1) for _, hint in wrong]
    for cell, (i, hint) in zip(tagged(executed, 'mal'), expected, strict=True):
        (line,) = stream(cell).splitlines()
        assert line.startswith(f'Ejercicio {i}: ')
        assert hint in line
        assert '¡bien!' not in line


def test_the_claims_are_true(run: Any) -> None:
    name, executed = run
    claims: dict[str, Any] = {
        '01_autograd': check_neuron,
        '02_xor': check_xor,
        '03_generar_nombres': check_names,
    }
    claims[name](*facts(executed))


def check_neuron(losses: list[float], answer: float) -> None:
    assert losses == sorted(losses, reverse=True)
    assert losses[0] == pytest.approx(0.04)
    assert answer == pytest.approx(2, abs=1e-3)


def check_xor(linear: list[float], curved: list[float], answers: list[float]) -> None:
    """La lineal se queda en 1/4, y la otra da los cuatro resultados."""
    assert linear[0] > linear[-1] == pytest.approx(1 / 4, abs=1e-3)
    assert curved[-1] < 1e-4 < curved[0]
    assert answers == pytest.approx([0, 1, 1, 0], abs=0.01)


def check_names(
    train: list[float],
    test: list[float],
    bigrams: float,
    uniform: float,
    names: list[str],
    before: list[str],
    after: list[str],
    points: dict[str, list[float]],
) -> None:
    """Le gana a los bigramas, y los nombres son nuevos pero suenan a nombres."""
    assert len(names) > 1000
    assert train[0] == pytest.approx(uniform, abs=0.1)
    assert train[-1] < test[-1] < bigrams - 0.1 < bigrams < uniform
    assert sum(name in names for name in after) < len(after) / 4
    assert len(set(after)) > len(after) / 2

    assert familiar(before, names) < 0.5 < 0.8 < familiar(after, names)
    assert is_separable([points[c] for c in 'aeiou'], [points[c] for c in 'bcdfglmnprstv'])


def familiar(invented: list[str], names: list[str]) -> float:
    """Qué parte de los tríos de letras de los inventados aparece en algún nombre de verdad."""
    text = f'.{".".join(names)}.'
    trios = [f'.{name}.'[i : i + 3] for name in invented for i in range(len(name))]
    return sum(trio in text for trio in trios) / len(trios)


def is_separable(some: list[list[float]], others: list[list[float]]) -> bool:
    """Si hay una recta que deja a unos de un lado y a otros del otro: prueba 360 direcciones."""
    for degrees in range(360):
        x, y = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
        if min(a * x + b * y for a, b in some) > max(a * x + b * y for a, b in others):
            return True
    return False


@pytest.mark.parametrize(
    ('name', 'kinds'),
    [
        ('01_autograd', {'image/png': 6, 'image/svg+xml': 4, 'text/html': 1}),
        ('02_xor', {'image/png': 7, 'image/svg+xml': 2}),
        ('03_generar_nombres', {'image/png': 4, 'image/svg+xml': 1}),
    ],
)
def test_pictures_are_inside(name: str, kinds: dict[str, int]) -> None:
    notebook = load(name)
    everything = [rich for cell in code_cells(notebook) for rich in pictures(cell)]
    shown = [item for rich in everything for item in rich.items()]
    assert Counter(kind for kind, _ in shown) == kinds
    for kind, data in shown:
        if kind == 'image/png':
            assert base64.b64decode(data).startswith(b'\x89PNG')
        elif kind == 'image/svg+xml':
            assert '<svg' in data
        else:
            assert '<iframe' in data
    text = ''.join(source(cell) for cell in notebook['cells'])
    assert '](http' not in text
    assert '![' not in text
    assert 'src=' not in text


@pytest.mark.parametrize('name', NAMES)
def test_saved_file_is_clean(name: str) -> None:
    """Guardado de una sola corrida entera, y sin nada que cambie de una máquina a otra."""
    notebook = load(name)
    counts = [cell['execution_count'] for cell in code_cells(notebook)]
    assert counts == list(range(1, len(counts) + 1))
    assert notebook['metadata'] == METADATA
    for cell in notebook['cells']:
        assert set(cell['metadata']) <= {'tags'}
        for output in cell.get('outputs', []):
            assert output['output_type'] != 'error'
            assert output.get('name') != 'stderr'
            text = ''.join(output.get('text', '')) or json.dumps(output['data'])
            assert not re.search(r'0x[0-9a-f]{6}|/(home|root|tmp|Users)/|[A-Z]:\\\\', text)


def first_cell(name: str) -> str:
    """La que instala, como la ejecuta IPython: %pip es una llamada a get_ipython()."""
    manager = need('IPython.core.inputtransformer2').TransformerManager()
    text = source(code_cells(load(name))[0])
    assert "\nSOURCE = 'michigrad'\n" in text
    return str(manager.transform_cell(text))


class Shell:
    """Lo que usa de IPython la primera celda: anota lo que se le pide instalar a pip."""

    def __init__(self) -> None:
        self.installed: list[str] = []

    def run_line_magic(self, magic: str, line: str) -> None:
        self.installed.append(f'%{magic} {line}')


@pytest.mark.parametrize('name', NAMES)
@pytest.mark.parametrize('place', ['máquina', 'navegador', 'Colab'])
def test_first_cell_installs_only_where_it_has_to(
    name: str, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if place == 'navegador':
        monkeypatch.setattr(sys, 'platform', 'emscripten')
    elif place == 'Colab':
        monkeypatch.setitem(sys.modules, 'google.colab', types.ModuleType('google.colab'))
    shell = Shell()
    exec(first_cell(name), {'get_ipython': lambda: shell})
    extra = ' faker' if 'faker' in PACKAGES[name] else ''
    wanted = {'navegador': f'michigrad{extra}', 'Colab': f'{{SOURCE}}{extra}'}
    expected = [f'%pip install --quiet {wanted[place]}'] if place in wanted else []
    assert shell.installed == expected


@pytest.mark.parametrize('name', NAMES)
def test_in_colab_the_first_cell_says_what_to_do_if_pip_finds_nothing(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, 'google.colab', types.ModuleType('google.colab'))
    monkeypatch.setitem(sys.modules, 'michigrad', None)  # import da ImportError
    exec(first_cell(name), {'get_ipython': Shell})
    out = capsys.readouterr().out
    assert 'No se pudo instalar' in out
    assert '.whl' in out
    assert 'SOURCE' in out


@pytest.mark.parametrize('name', NAMES)
def test_nothing_is_wider_than_a_narrow_screen(name: str) -> None:
    """En JupyterLab, con una ventana de 800 puntos, entran 78 letras."""
    for cell in code_cells(load(name)):
        text = f'{source(cell)}\n{stream(cell)}'
        assert not [line for line in text.splitlines() if len(line) > 76]


METADATA = {
    'kernelspec': {'display_name': 'Python 3', 'language': 'python', 'name': 'python3'},
    'language_info': {'name': 'python'},
}


def clean(notebook: Notebook) -> None:
    """Quita lo que cambia de una corrida a otra."""
    notebook['metadata'] = METADATA
    for cell in code_cells(notebook):
        cell['outputs'] = [o for o in cell['outputs'] if o.get('name') != 'stderr']
        for output in cell['outputs']:
            if 'text/plain' in output.get('data', {}):
                text = output['data']['text/plain']
                output['data']['text/plain'] = re.sub(' at 0x[0-9a-f]+', '', text)


def main() -> None:
    for name in NAMES:
        with tempfile.TemporaryDirectory() as folder:
            notebook = execute(load(name), Path(folder))
        clean(notebook)
        text = json.dumps(notebook, indent=1, ensure_ascii=False) + '\n'
        (EXAMPLES / f'{name}.ipynb').write_text(text, encoding='utf-8', newline='\n')
        print(f'{name}: listo')


if __name__ == '__main__':
    main()
