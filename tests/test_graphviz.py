"""Con qué se dibuja, en qué archivo, de qué tamaño y qué muestra un notebook."""

from __future__ import annotations

import copy
import importlib.metadata
import os
import re
import shutil
import struct
import subprocess
import sys
import sysconfig
import textwrap
import threading
import webbrowser
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import graphviz
import pytest
from graphviz.backend import dot_command
from packaging.requirements import Requirement

from michigrad import _graphviz
from michigrad.engine import Value
from michigrad.nn import MLP, Neuron
from michigrad.visualize import show_graph
from tests.helpers import neuron

SVG = '{http://www.w3.org/2000/svg}'


def chain(n: int) -> Value:
    v = Value(0.5, name='x')
    for _ in range(n):
        v = v.tanh()
    return v


def network(*sizes: int) -> Value:
    inputs = [Value(1.0, name=f'x{i}') for i in range(sizes[0])]
    loss: Value = (Value(1.0, name='y') - MLP(sizes[0], sizes[1:])(inputs)) ** 2
    loss.backward()
    return loss


def inches(svg: str) -> tuple[float, float]:
    """El tamaño con el que se ve un SVG."""
    width, height = re.findall(r'<svg [^>]*?width="([\d.]+)pt" height="([\d.]+)pt"', svg)[0]
    return float(width) / 72, float(height) / 72


def points(svg: str) -> float:
    """El tamaño con el que se ve la letra de un SVG."""
    root = ET.fromstring(svg)
    smallest = min(float(t.get('font-size', 0)) for t in root.iterfind(f'.//{SVG}text'))
    _, _, width, _ = map(float, root.get('viewBox', '').split())
    scale = float(re.findall(r'scale\(([\d.]+)', svg)[0])
    return smallest * scale * float((root.get('width') or '')[:-2]) / width


def pixels(png: bytes) -> tuple[int, int]:
    assert png.startswith(b'\x89PNG')
    width, height = struct.unpack('>II', png[16:24])
    return width, height


# Con qué


def fake_dot(folder: Path) -> Path:
    """Deja en `folder` un comando dot: el mismo graphviz-pure con otro nombre."""
    pure = Path(_graphviz._find_renderer())
    folder.mkdir()
    return Path(shutil.copy(pure, folder / f'dot{pure.suffix}'))


@pytest.fixture(params=['graphviz-pure', 'dot'])
def renderer(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> str:
    """Corre la prueba sin dot y con dot: el instalado o, si no hay, uno que se le parece."""
    installed = shutil.which('dot')
    monkeypatch.setenv('PATH', str(tmp_path / 'bin'))
    if request.param == 'dot':
        if installed is None:
            fake_dot(tmp_path / 'bin')
        else:
            monkeypatch.setenv('PATH', str(Path(installed).parent))
    return str(request.param)


def test_dot_is_preferred_when_it_is_on_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dot = fake_dot(tmp_path / 'bin')
    monkeypatch.setenv('PATH', str(tmp_path / 'bin'))
    assert Path(_graphviz._find_renderer()) == dot


def test_graphviz_pure_is_found_without_an_activated_environment(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv('PATH', str(tmp_path))
    assert Path(_graphviz._find_renderer()).stem == 'graphviz-pure'

    def missing(name: str) -> None:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, 'files', missing)
    assert Path(_graphviz._find_renderer()).stem == 'graphviz-pure'


def test_graphviz_pure_is_found_on_path(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pure = Path(_graphviz._find_renderer())
    shutil.copy(pure, tmp_path / f'graphviz-pure{pure.suffix}')
    monkeypatch.setattr(importlib.metadata, 'files', lambda name: None)
    monkeypatch.setattr(sysconfig, 'get_path', lambda *_: str(tmp_path / 'nada'))
    monkeypatch.setattr(sys, 'executable', str(tmp_path / 'nada' / 'python'))
    monkeypatch.setenv('PATH', str(tmp_path))
    assert Path(_graphviz._find_renderer()).parent == tmp_path


@pytest.mark.parametrize(
    ('platform', 'machine', 'there_is'),
    [
        ('linux', 'x86_64', True),
        ('linux', 'aarch64', True),
        ('darwin', 'arm64', True),
        ('darwin', 'x86_64', True),
        ('win32', 'AMD64', True),
        ('win32', 'ARM64', True),
        ('linux', 'armv7l', False),  # una Raspberry Pi de 32 bits
        ('linux', 'i686', False),
        ('linux', 'riscv64', False),
        ('win32', 'x86', False),
        ('android', 'aarch64', False),
        ('ios', 'arm64', False),
        ('freebsd14', 'amd64', False),
        ('emscripten', 'wasm32', False),
    ],
)
def test_graphviz_pure_is_asked_for_only_where_it_exists(
    platform: str, machine: str, there_is: bool
) -> None:
    pyproject = Path(__file__).parents[1] / 'pyproject.toml'
    found = re.findall(r'"(graphviz-pure.*)"', pyproject.read_text(encoding='utf-8'))
    markers = [Requirement(line).marker for line in found]
    environment = {'sys_platform': platform, 'platform_machine': machine}
    assert any(marker is None or marker.evaluate(environment) for marker in markers) == there_is


def test_without_any_renderer_the_error_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(shutil, 'which', lambda *_, **__: None)
    with pytest.raises(RuntimeError, match='pip install graphviz-pure') as caught:
        show_graph(neuron()).pipe()
    assert 'apt install graphviz' in str(caught.value)  # donde graphviz-pure no se puede instalar


def test_threads_draw_at_once_and_graphviz_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def not_ours(*_: Any, **__: Any) -> None:
        raise AssertionError('dibuja por la variable global de graphviz')

    monkeypatch.setattr(dot_command, 'command', not_ours)
    before = dot_command.DOT_BINARY
    pictures: dict[int, str] = {}
    together = threading.Barrier(8)

    def draw(i: int) -> None:
        graph = show_graph(chain(i + 1), format='svg')
        together.wait()
        pictures[i] = graph.pipe(encoding='utf-8')

    threads = [threading.Thread(target=draw, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [pictures[i].count('>tanh</text>') for i in range(8)] == [*range(1, 9)]
    assert dot_command.DOT_BINARY is before


def test_nothing_on_stderr_with_non_ascii_names(
    renderer: str, capfd: pytest.CaptureFixture[str]
) -> None:
    show_graph(neuron()).pipe()
    assert capfd.readouterr().err == ''


@pytest.mark.parametrize(
    ('kwargs', 'error', 'message'),
    [
        ({'engine': 'gatite'}, ValueError, "no existe el engine 'gatite'"),
        ({'format': 'gatite'}, ValueError, "no sabe dibujar en 'gatite'.* svg"),
    ],
)
def test_what_graphviz_lacks(
    renderer: str, kwargs: dict[str, str], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        show_graph(neuron()).pipe(**kwargs)


def test_what_graphviz_cannot_draw_is_told(renderer: str) -> None:
    graph = show_graph(neuron())
    graph.body.append('{{{')
    with pytest.raises(RuntimeError, match='no pudo dibujar'):
        graph.pipe()


# En qué archivo


@pytest.mark.parametrize('name', ['red.png', 'RED.PNG', 'red.v2.svg', 'sub/carpeta/red.svg'])
@pytest.mark.parametrize('method', ['save', 'render'])
def test_the_extension_says_the_format_and_no_source_is_left(
    method: str, name: str, renderer: str, tmp_path: Path
) -> None:
    graph = show_graph(neuron(), rankdir='TB')
    assert isinstance(graph, graphviz.Digraph)
    path = getattr(graph, method)(tmp_path / 'salida' / name)
    assert path == str(tmp_path / 'salida' / name)
    written = [p for p in (tmp_path / 'salida').rglob('*') if p.is_file()]
    assert written == [Path(path)]
    start = b'\x89PNG' if path.lower().endswith('png') else b'<?xml'
    assert Path(path).read_bytes().startswith(start)


def test_render_without_an_extension_is_that_of_graphviz(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    graph = show_graph(neuron(), format='png')
    assert graph.render(tmp_path / 'a', cleanup=True) == str(tmp_path / 'a.png')
    assert graph.render('b', directory=tmp_path) == str(tmp_path / 'b.png')
    assert graph.render(tmp_path / 'c', format='svg', cleanup=True) == str(tmp_path / 'c.svg')
    assert show_graph(neuron()).render(outfile='d.svg') == 'd.svg'
    assert sorted(p.name for p in tmp_path.iterdir()) == ['a.png', 'b', 'b.png', 'c.svg', 'd.svg']
    assert (tmp_path / 'b').read_text(encoding='utf-8') == graph.source


def test_the_source_is_saved_as_gv(tmp_path: Path) -> None:
    graph = show_graph(neuron())
    path = graph.save(tmp_path / 'red.gv')
    assert Path(path).read_text(encoding='utf-8') == graph.source
    for name in ('red', 'red.pgn'):
        with pytest.raises(ValueError, match='la extensión dice el formato'):
            graph.save(tmp_path / name)
    assert [p.name for p in tmp_path.iterdir()] == ['red.gv']


def test_a_format_that_the_renderer_lacks_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv('PATH', str(tmp_path))
    graph = show_graph(neuron(), format='pdf')
    lacks = 'graphviz-pure no sabe dibujar en '
    pdf = f"{lacks}'pdf': guardalo como SVG.*imprimilo.*instalá Graphviz"
    for draw in (
        graph.pipe,
        lambda: graph.save(tmp_path / 'a.pdf'),
        lambda: graph.render(tmp_path / 'a'),
        lambda: graph.render(outfile=tmp_path / 'a.pdf'),
    ):
        with pytest.raises(ValueError, match=pdf):
            draw()
    with pytest.raises(ValueError, match=f"{lacks}'ps': usá uno de .*svg"):
        graph.render(tmp_path / 'a', format='ps')
    assert list(tmp_path.iterdir()) == []


def test_a_pdf_where_dot_is_installed(tmp_path: Path) -> None:
    if shutil.which('dot') is None:
        pytest.skip('falta Graphviz: apt install graphviz, o graphviz.org')
    path = show_graph(neuron(), width=5).save(tmp_path / 'red.pdf')
    assert Path(path).read_bytes().startswith(b'%PDF')


def test_view_opens_the_picture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    opened: list[str] = []

    def browse(url: str) -> bool:
        opened.append(url)
        return len(opened) == 1

    monkeypatch.setattr(webbrowser, 'open', browse)
    monkeypatch.chdir(tmp_path)
    graph = show_graph(neuron())
    path = graph.view()
    assert opened == [Path(path).as_uri()]
    assert Path(path).read_text(encoding='utf-8').startswith('<?xml')
    assert list(tmp_path.iterdir()) == []  # nada en la carpeta en la que se está
    assert capsys.readouterr().out == ''
    graph.view('red.svg')
    assert capsys.readouterr().out == 'No encontré un navegador: abrí red.svg\n'


def test_it_is_a_digraph_to_go_on_editing() -> None:
    graph = show_graph(neuron())
    assert graph.copy().source == copy.deepcopy(graph).source == graph.source
    graph.attr(label='Una neurona')
    graph.node('nota', 'acá aprende')
    both = graphviz.Digraph()
    both.subgraph(graph)
    both.subgraph(show_graph(chain(2)))
    assert 'Una neurona' in graph.pipe(encoding='utf-8')
    assert 'acá aprende' in both.source
    assert both.source.count('label=tanh') == 3


# De qué tamaño


@pytest.mark.parametrize('root', [neuron(), chain(40), Neuron(30)([1.0] * 30)])
def test_the_natural_size_is_legible_in_svg_and_png(renderer: str, root: Value) -> None:
    graph = show_graph(root)
    svg = graph.pipe('svg', encoding='utf-8')
    assert points(svg) == pytest.approx(14, rel=1e-4)
    assert pixels(graph.pipe('png')) == pytest.approx([96 * side for side in inches(svg)], abs=20)


@pytest.mark.parametrize(
    ('width', 'height'), [(13.33, 7.5), (5, None), (None, 2), (3, 50), (100, 1), (13.33, 0.5)]
)
def test_the_size_is_the_one_that_was_asked(
    renderer: str, width: float | None, height: float | None
) -> None:
    graph = show_graph(neuron(), width=width, height=height)
    drawn = inches(graph.pipe('svg', encoding='utf-8'))
    filled = [
        side / limit
        for side, limit in zip(drawn, (width, height), strict=True)
        if limit is not None
    ]
    assert max(filled) == pytest.approx(1, abs=0.02)  # toca un borde y no pasa el otro
    assert pixels(graph.pipe('png')) == pytest.approx([192 * side for side in drawn], abs=20)


SHORT = {'groups': True, 'decimals': 2}


@pytest.mark.parametrize(
    ('sizes', 'kwargs'),
    [
        ((2, 2, 1), {}),
        ((2, 2, 1), {'groups': True}),
        ((2, 3, 1), {}),
        ((2, 3, 1), SHORT),
        ((2, 16, 16, 1), {'groups': True}),
        ((3, 4, 4, 1), {'groups': True}),
        ((2, 64, 64, 10, 1), SHORT),
    ],
)
def test_a_network_fits_a_slide_with_legible_letters(
    sizes: tuple[int, ...],
    kwargs: dict[str, Any],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv('PATH', '')  # el ancho de la letra depende de con qué se dibuja
    svg = show_graph(network(*sizes), width=13.33, height=7.5, **kwargs).pipe(encoding='utf-8')
    width, height = inches(svg)
    assert width <= 13.34
    assert height <= 7.51
    assert points(svg) >= 8
    assert not caplog.messages


def test_letters_that_cannot_be_read_are_told(caplog: pytest.LogCaptureFixture) -> None:
    graph = show_graph(chain(40), width=10)
    for format in ('svg', 'png'):
        caplog.clear()
        graph.pipe(format)
        (message,) = caplog.messages
        assert re.search(r'queda de 1\.\d puntos, .* hacen falta 8: .*width=.*groups=True', message)
    caplog.clear()
    show_graph(chain(5), width=10).pipe()
    assert not caplog.messages


def test_a_bitmap_that_nothing_could_open_is_refused_and_its_svg_is_whole() -> None:
    graph = show_graph(chain(700), max_nodes=2000)
    with pytest.raises(
        ValueError, match=r"tendría \d+×\d+ píxeles.*32767 .*\.save\('grafo\.svg'\)"
    ):
        graph.pipe('png')
    svg = graph.pipe(encoding='utf-8')
    assert points(svg) == pytest.approx(14, rel=1e-4)
    assert svg.count('>tanh</text>') == 700
    wide = show_graph(Neuron(120)([1.0] * 120))
    with pytest.raises(ValueError, match='50 millones'):
        wide.pipe('png')


# Qué muestra


def test_a_notebook_gets_svg_and_png(renderer: str) -> None:
    graph = show_graph(neuron(), format='png')
    bundle: dict[str, Any] = graph._repr_mimebundle_()
    assert bundle.keys() == {'image/svg+xml', 'image/png'}
    svg = ET.fromstring(bundle['image/svg+xml'])
    assert [node.findtext(f'.//{SVG}text') for node in svg.iterfind(f'.//{SVG}g[@class="node"]')][
        -2:
    ] == ['tanh', 'ŷ']
    assert min(pixels(bundle['image/png'])) > 50
    assert graph._repr_mimebundle_(include={'image/png'}).keys() == {'image/png'}
    assert graph._repr_mimebundle_(exclude={'image/png'}).keys() == {'image/svg+xml'}


def test_a_notebook_gets_only_svg_when_the_png_would_be_too_large() -> None:
    bundle = show_graph(chain(700), max_nodes=2000)._repr_mimebundle_()
    assert bundle.keys() == {'image/svg+xml'}


@pytest.mark.parametrize(
    ('root', 'kwargs'), [(neuron(), {}), (chain(40), {}), (neuron(), {'width': 50})]
)
def test_a_notebook_gets_a_picture_no_wider_than_its_cell(
    renderer: str, root: Value, kwargs: dict[str, Any]
) -> None:
    graph = show_graph(root, **kwargs)
    bundle: dict[str, Any] = graph._repr_mimebundle_()
    natural = graph.pipe(encoding='utf-8')
    svg = ET.fromstring(bundle['image/svg+xml'])
    assert svg.get('style') == 'max-width: 100%; height: auto'
    if inches(natural)[0] > 9.9:  # como <img>, al estilo de adentro no le hacen caso
        assert svg.get('width') == '100%'
        assert svg.get('height') is None
    else:
        assert inches(bundle['image/svg+xml']) == inches(natural)
    assert svg.get('viewBox') == ET.fromstring(natural).get('viewBox')


def test_a_notebook_says_when_its_cell_is_too_narrow(caplog: pytest.LogCaptureFixture) -> None:
    show_graph(neuron())._repr_mimebundle_()
    assert not caplog.messages
    show_graph(chain(40))._repr_mimebundle_()
    (message,) = caplog.messages
    assert re.search(r'En la celda la letra queda de 1\.\d puntos.*rankdir', message)


def test_printing_says_how_to_see_it() -> None:
    graph = show_graph(neuron())
    for text in (str(graph), repr(graph), f'{graph}'):
        assert ".save('grafo.png')" in text
        assert '.view()' in text
        assert 'object at' not in text


@pytest.mark.parametrize(
    ('use', 'told'),
    [
        ("show_graph(L, rankdir='TB', format='png')", True),  # como termina el README de la semilla
        ('graph = show_graph(L)', True),
        ('print(show_graph(L))', False),
        ('show_graph(L).pipe()', False),
        ("show_graph(L).save('red.svg')", False),
        ("graph = show_graph(L); graph.attr(rankdir='TB'); graph.render('red')", False),
        ('source = show_graph(L).source', False),
        # Con otro error alcanza.
        ("with contextlib.suppress(ValueError): show_graph(L).save('red.nada')", False),
    ],
)
def test_a_script_that_forgets_to_look_is_told(use: str, told: bool, tmp_path: Path) -> None:
    script = f"""
        import contextlib
        from michigrad.engine import Value
        from michigrad.visualize import show_graph

        L = Value(2.0) * 3
        {use}
    """
    run = subprocess.run(
        [sys.executable, '-X', 'utf8', '-c', textwrap.dedent(script)],
        cwd=tmp_path,
        env={**os.environ, 'PYTHONPATH': str(Path(_graphviz.__file__).parents[1])},
        capture_output=True,
        encoding='utf-8',
        check=True,
    )
    assert ('Nadie vio el grafo' in run.stderr) == told
    assert run.stderr.count('\n') == told
