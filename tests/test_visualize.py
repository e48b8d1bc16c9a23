"""Los dibujos: qué se dibuja, que cualquier nombre se vea tal cual, y con qué programa."""

from __future__ import annotations

import importlib.metadata
import re
import shutil
import struct
import sys
import sysconfig
import threading
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import graphviz
import pytest
from graphviz.backend import dot_command
from hypothesis import given, settings
from hypothesis import strategies as st

from michigrad import _drawing
from michigrad.engine import Value
from michigrad.visualize import show_graph, trace

SVG = '{http://www.w3.org/2000/svg}'


def neuron() -> Value:
    x, w, b = Value(0.5, name='x'), Value(2.0, name='W₀'), Value(1, name='b')
    out = (x * w + b).tanh()
    out.name = 'ŷ'
    return out


def drawn_texts(svg: str) -> list[list[str]]:
    """Los renglones de texto de cada nodo del dibujo, en orden."""
    nodes = ET.fromstring(svg).iterfind(f'.//{SVG}g[@class="node"]')
    return [[t.text or '' for t in node.iterfind(f'.//{SVG}text')] for node in nodes]


# Qué se dibuja


def test_trace_lists_nodes_in_order_and_an_edge_for_each_operand() -> None:
    x = Value(3.0)
    square = x * x
    out = square + x
    nodes, edges = trace(out)
    assert nodes == [x, square, out]
    assert edges == [(x, square), (x, square), (square, out), (x, out)]


def test_one_box_for_each_value_one_ellipse_for_each_operation_one_edge_for_each_operand() -> None:
    x = Value(3.0, name='x')
    out = x * x
    out.backward()
    source = show_graph(out).source
    assert 'n0 [label="{ x | data 3.0000 | grad 6.0000 }"' in source
    assert re.search(r'n1op \[label="\*" .*shape=ellipse', source)
    assert 'n1 [label="{  | data 9.0000 | grad 1.0000 }"' in source
    assert re.findall(r'^\t(.*) -> (.*)$', source, re.MULTILINE) == [
        ('n1op', 'n1'),
        ('n0', 'n1op'),
        ('n0', 'n1op'),
    ]


def test_same_graph_same_text() -> None:
    assert show_graph(neuron()).source == show_graph(neuron()).source


def test_kinds_of_nodes_look_different_also_in_grey() -> None:
    x, w, b = Value(1, name='x'), Value(2, name='L0.N1.w0'), Value(3, name='bias')
    source = show_graph((x * w + b).tanh()).source
    looks = dict(re.findall(r'^\t(n\d+(?:op)?) \[.*?fillcolor="#(\w+)"', source, re.MULTILINE))
    leaf, weight, bias = looks['n0'], looks['n1'], looks['n3']
    intermediate, result, operation = looks['n2'], looks['n5'], looks['n2op']
    assert weight == bias
    kinds = [leaf, weight, intermediate, result, operation]
    greys = [
        sum(c * w for c, w in zip(bytes.fromhex(k), (0.3, 0.6, 0.1), strict=True)) for k in kinds
    ]
    assert len({round(grey) for grey in greys}) == 5
    assert min(greys) > 150  # el texto negro se lee


@pytest.mark.parametrize('name', ['W', 'w0', 'W₁₀', 'b', 'L0.N1.w0', 'L3.N0.b', 'weight', 'w_1'])
def test_names_of_parameters(name: str) -> None:
    assert _drawing.kind(Value(1, name=name), Value(0)) == 'parameter'


@pytest.mark.parametrize('name', ['', 'x₀', 'y', 'banana', 'wow', 'x.y', '2'])
def test_names_of_other_leaves(name: str) -> None:
    assert _drawing.kind(Value(1, name=name), Value(0)) == 'leaf'


@pytest.mark.parametrize('number', [1e300, -1e300, float('inf'), float('nan'), 10**200])
def test_numbers_fit_their_box(number: float) -> None:
    assert len(drawn_texts(show_graph(Value(number)).pipe(encoding='utf-8'))[0][1]) < 20


names = st.text(st.characters(exclude_categories=()), max_size=12) | st.sampled_from(
    ['{', '}', 'a|b', '<p>', '&amp;', '\\N', '\\', '"', 'a\nb', '', 'ŷ', '\x00', '\ud800', '<b>']
)


@settings(max_examples=25, deadline=None)
@given(st.lists(names, min_size=20, max_size=20))
def test_any_name_draws_as_written(texts: list[str]) -> None:
    leaves = [Value(1, name=text) for text in texts[:10]]
    root = Value(1, leaves, texts[10], texts[11])
    svg = show_graph(root).pipe(encoding='utf-8')

    def lines(text: str) -> list[str]:
        text = ''.join(c for c in text if c == '\n' or c.isprintable() or ord(c) > 0x9F)
        text = re.sub('[\ud800-\udfff\ufffe\uffff]', '', text)
        return [line.replace('\xa0', ' ').strip() for line in text.split('\n') if line.strip()]

    drawn = [lines('\n'.join(node)) for node in drawn_texts(svg)]
    box = ['data 1.0000', 'grad 0.0000']
    expected = [lines(text) + box for text in texts[:10]]
    expected.append(lines(texts[11]) + box)
    expected.append(lines(texts[10]))
    assert sorted(drawn) == sorted(expected)


def test_large_graphs_are_refused_with_a_way_out() -> None:
    chain = Value(1.0)
    for _ in range(100_000):
        chain = chain + 1
    with pytest.raises(ValueError, match=r'tiene 200001 Values .* 1500 como máximo.*max_nodes='):
        show_graph(chain)
    small = neuron()
    assert len(trace(small)[0]) == 6
    show_graph(small, max_nodes=6)
    with pytest.raises(ValueError, match='tiene 6 Values y se dibujan 5'):
        show_graph(small, max_nodes=5)


@pytest.mark.parametrize('root', [None, 3.0, [Value(1)]])
def test_rejects_what_is_not_a_value(root: Any) -> None:
    with pytest.raises(TypeError, match='se esperaba un Value'):
        show_graph(root)


def test_rejects_unknown_format_and_rankdir() -> None:
    with pytest.raises(ValueError, match="no existe el formato 'gatite'"):
        show_graph(neuron(), format='gatite')
    with pytest.raises(ValueError, match="llegó 'arriba'"):
        show_graph(neuron(), rankdir='arriba')


# Con qué se dibuja


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


def test_render_writes_the_picture(renderer: str, tmp_path: Path) -> None:
    graph = show_graph(neuron(), format='png', rankdir='TB')
    assert isinstance(graph, graphviz.Digraph)
    path = graph.render(tmp_path / 'grafo', cleanup=True)
    assert path == str(tmp_path / 'grafo.png')
    assert Path(path).read_bytes().startswith(b'\x89PNG')
    assert not (tmp_path / 'grafo').exists()
    assert Path(graph.render(outfile=tmp_path / 'otro.svg')).exists()


def test_view_opens_the_rendered_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    monkeypatch.setattr(
        _drawing.PortableDigraph, '_view', lambda self, path, **_: opened.append(path)
    )
    path = show_graph(neuron()).view(tmp_path / 'grafo')
    assert opened == [path]


def test_notebook_draws_it(renderer: str) -> None:
    bundle = show_graph(neuron(), format='png')._repr_mimebundle_()
    assert [text[0] for text in drawn_texts(bundle['image/svg+xml'])][-2:] == ['tanh', 'ŷ']


def test_nothing_on_stderr_with_non_ascii_names(
    renderer: str, capfd: pytest.CaptureFixture[str]
) -> None:
    show_graph(neuron()).pipe()
    assert capfd.readouterr().err == ''


def test_a_long_chain_is_a_bounded_bitmap() -> None:
    chain = Value(1.0)
    for _ in range(150):
        chain = chain.tanh()
    png = show_graph(chain, format='png').pipe()
    width, height = struct.unpack('>II', png[16:24])
    assert width <= 50 * 96 + 20
    assert height <= 50 * 96 + 20


def test_a_format_that_the_renderer_lacks_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv('PATH', str(tmp_path))
    lacks = r"graphviz-pure no sabe dibujar en '(pdf|ps)'.* svg"
    graph = show_graph(neuron(), format='pdf')
    for kwargs in ({}, {'format': 'ps'}, {'outfile': tmp_path / 'grafo.pdf'}):
        with pytest.raises(ValueError, match=lacks):
            graph.render(tmp_path / 'grafo', **kwargs)
    with pytest.raises(ValueError, match=lacks):
        graph.pipe()
    assert list(tmp_path.iterdir()) == []


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


def test_without_any_renderer_the_error_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(shutil, 'which', lambda *_, **__: None)
    with pytest.raises(RuntimeError, match='pip install graphviz-pure'):
        show_graph(neuron()).pipe()


def test_graphviz_is_left_as_it_was_after_success_error_and_threads(tmp_path: Path) -> None:
    before = dot_command.DOT_BINARY
    graph = show_graph(neuron())
    pictures: list[bytes] = []
    threads = [threading.Thread(target=lambda: pictures.append(graph.pipe())) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(pictures)) == 1
    assert len(pictures) == 8
    with pytest.raises(ValueError, match='unknown engine'):
        graph.render(tmp_path / 'grafo', engine='gatite')
    assert dot_command.DOT_BINARY is before
