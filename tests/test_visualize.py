"""Qué se dibuja: cada nodo, cada texto y cada color, con qué argumentos y con qué errores."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from micrograd.engine import Value as MicrogradValue

from michigrad import _drawing
from michigrad.engine import Value
from michigrad.nn import MLP
from michigrad.visualize import show_graph, show_graph_interactive, trace
from tests.helpers import neuron

HUGE = 10**5000
SVG = '{http://www.w3.org/2000/svg}'


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
    assert 'n0 [label="x|data 3.0000|grad 6.0000"' in source
    assert re.search(r'n1op \[label="·" .*shape=ellipse', source)
    assert 'n1 [label="L|data 9.0000|grad 1.0000"' in source
    assert re.findall(r'^\t(\w+) -> (\w+)$', source, re.MULTILINE) == [
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


def test_what_has_no_name_is_called_by_its_expression() -> None:
    x, w = Value(3.0, name='x'), Value(2.0, name='W₀')
    root = ((x * w + 1) * 0.5).tanh() * (x * x)
    names = {box[0] for box in drawn_texts(show_graph(root).pipe(encoding='utf-8')) if len(box) > 1}
    assert names == {
        *('x', 'W₀', 'x·W₀', 'x·W₀ + c₁', '(x·W₀ + c₁)·c₂', 'v₁', 'x·x', 'L'),
        *('constante c₁', 'constante c₂'),
    }


@pytest.mark.parametrize('rankdir', ['LR', 'RL', 'TB', 'BT'])
def test_the_lines_of_a_box_are_one_below_the_other(rankdir: str) -> None:
    svg = ET.fromstring(show_graph(neuron(), rankdir=rankdir).pipe(encoding='utf-8'))
    for node in svg.iterfind(f'.//{SVG}g[@class="node"]'):
        texts = node.findall(f'{SVG}text')
        assert len({text.get('x') for text in texts}) == 1
        heights = [float(text.get('y', 0)) for text in texts]
        assert heights == sorted(heights)
        assert len({*heights}) == len(texts)


@pytest.mark.parametrize(('decimals', 'expected'), [(0, '3'), (2, '3.14'), (6, '3.141593')])
def test_decimals(decimals: int, expected: str) -> None:
    texts = drawn_texts(show_graph(Value(3.14159265), decimals=decimals).pipe(encoding='utf-8'))
    assert texts[0][1] == f'data {expected}'


@settings(max_examples=50, deadline=None)
@given(st.floats(-1e300, 1e300) | st.just(-0.0), st.integers(0, 6))
def test_no_number_is_minus_zero_or_long(number: float, decimals: int) -> None:
    source = show_graph(Value(number), decimals=decimals).source
    (text,) = re.findall(r'data ([^|]+)', source)
    assert not re.fullmatch(r'-0(\.0*)?', text)
    assert len(text) <= 18
    assert float(text) == pytest.approx(number, rel=0.5, abs=10**-decimals)


names = st.text(st.characters(exclude_categories=()), max_size=12) | st.sampled_from(
    ['{', '}', 'a|b', '<p>', '&amp;', '\\N', '\\', '"', 'a\nb', 'ŷ', '\x00ñ', '\ud800w', '<b>']
)


def printable(text: str) -> str:
    """Lo que se ve de un nombre: en un renglón y sin lo que XML no admite."""
    text = ' '.join(text.split())
    text = ''.join(c for c in text if c.isprintable() or ord(c) > 0x9F)
    return re.sub('[\ud800-\udfff\ufffe\uffff]', '', text).replace('\xa0', ' ').strip()


@settings(max_examples=25, deadline=None)
@given(st.lists(names, min_size=12, max_size=12, unique_by=printable))
def test_any_name_draws_as_written(texts: list[str]) -> None:
    assume(all(map(printable, texts)))
    assume(texts[10] not in ('+', '*'))  # tienen su propio signo
    leaves = [Value(1, name=text) for text in texts[:10]]
    svg = show_graph(Value(1, leaves, texts[10], texts[11])).pipe(encoding='utf-8')
    drawn = [[line.replace('\xa0', ' ').strip() for line in node] for node in drawn_texts(svg)]
    box = ['data 1.0000', 'grad 0.0000']
    expected = [[printable(text), *box] for text in [*texts[:10], texts[11]]]
    assert sorted(drawn) == sorted([*expected, [printable(texts[10])]])


def test_a_long_name_is_cut() -> None:
    (texts,) = drawn_texts(show_graph(Value(1, name='ñandú ' * 50)).pipe(encoding='utf-8'))
    assert len(texts[0]) < 30
    assert texts[0].endswith('…')


# De cualquier clase


class Node:
    """Un Value escrito por un estudiante: sin name y con _prev como en micrograd."""

    def __init__(self, data: Any, _children: Any = (), _op: Any = '') -> None:
        self.data = data
        self.grad: Any = 0.0
        self._prev = set(_children)
        self._op = _op


class Labeled(Node):
    label = 'peso'


def test_draws_the_values_of_micrograd() -> None:
    x, w = MicrogradValue(3.0), MicrogradValue(-2.0)
    out = (x * w + 1).relu()
    out.backward()
    nodes, edges = trace(out)
    assert len(nodes) == 6
    assert len(edges) == 5
    texts = drawn_texts(show_graph(out).pipe(encoding='utf-8'))
    assert ['L', 'data 0.0000', 'grad 1.0000'] in texts
    assert ['ReLU'] in texts


def test_draws_a_class_of_their_own() -> None:
    a, b = Labeled(2.0), Node(np.float32(3.0))
    square = Node(4.0, (a, a), '*')  # en un conjunto queda uno solo
    out = Node(np.array(7.0), (square, b), 'mezcla')
    texts = drawn_texts(show_graph(out).pipe(encoding='utf-8'))
    assert sorted(text[0] for text in texts) == sorted(
        ['peso', 'constante c₁', '*(peso)', 'L', '*', 'mezcla']
    )
    assert ['L', 'data 7.0000', 'grad 0.0000'] in texts


@pytest.mark.parametrize(
    ('amount', 'shown'),
    [
        (None, 'None'),
        ('3', "'3'"),
        ([1.0, 2.0], '[1.0, 2.0]'),
        (np.arange(3.0), 'array([0., 1., 2.])'),
        (1 + 2j, '(1+2j)'),
        (Value(2.0), 'Value(data=2.0, grad=0, name=)'),
        pytest.param(HUGE, 'un entero de unas 5000 cifras', id='enorme'),
        (True, '1.0000'),
        (-0.0, '0.0000'),
    ],
)
def test_what_is_not_a_number_is_drawn_as_it_is(amount: Any, shown: str) -> None:
    v = Value(1.0, name='v')
    out = v * 2
    v.data = amount
    out.grad = amount
    boxes = {box[0]: box[1:] for box in drawn_texts(show_graph(out).pipe(encoding='utf-8'))}
    assert boxes['v'][0].replace('\xa0', ' ') == f'data {shown}'
    assert boxes['L'][1].replace('\xa0', ' ') == f'grad {shown}'


def test_an_operation_without_a_name() -> None:
    leaf = Node(1.0, (), None)
    texts = drawn_texts(show_graph(Node(2.0, (leaf,), None)).pipe(encoding='utf-8'))
    assert ['op'] in texts


def test_an_operand_that_is_not_a_node_is_told() -> None:
    for operand in (3.0, None, 'x', Value):
        with pytest.raises(TypeError, match=r'el _prev de .* tiene'):
            show_graph(Node(1.0, (operand,), 'op'))


def test_nodes_that_could_be_equal_are_told() -> None:
    class ByData(Node):
        def __eq__(self, other: object) -> bool:
            return isinstance(other, Node) and self.data == other.data

        def __hash__(self) -> int:
            return hash(self.data)

    class Unhashable(Node):
        __hash__ = None  # type: ignore[assignment]

    class Mended(ByData):
        __hash__ = object.__hash__

    for kind in (ByData, Unhashable):
        with pytest.raises(TypeError, match=r'agregale __hash__ = object\.__hash__'):
            show_graph(kind(1.0))
    assert len(trace(Mended(2.0, (Mended(1.0), Mended(1.0)), '+'))[0]) == 3


# Los errores


def test_large_graphs_are_refused_with_a_way_out() -> None:
    chain = Value(1.0)
    for _ in range(100_000):
        chain = chain + 1
    with pytest.raises(ValueError, match=r'tendría 200001 cajas .* 1500 como máximo.*max_nodes='):
        show_graph(chain)
    small = neuron()
    assert len(trace(small)[0]) == 6
    show_graph(small, max_nodes=6).pipe()
    with pytest.raises(ValueError, match='tendría 6 cajas y se dibujan 5'):
        show_graph(small, max_nodes=5)


@pytest.mark.parametrize('draw', [show_graph, trace, show_graph_interactive])
@pytest.mark.parametrize(
    ('root', 'hint'),
    [
        (None, 'falta el return'),
        (3.0, r'Value\(2\.0\) \* 3'),
        ('x', r'Value\(2\.0\) \* 3'),
        ([Value(1), Value(2)], 'elegí uno'),
        ([[Value(1)] * 50] * 50, r'Value\(2\.0\) \* 3'),
        (np.array([Value(1)]), r'resultado\.item\(\)'),
        (MLP(2, [1]), r'show_graph\(modelo\(x\)\)'),
        (MLP, r'show_graph\(modelo\(x\)\)'),
        (Value, r'show_graph\(modelo\(x\)\)'),
        pytest.param(HUGE, '5000 cifras', id='enorme'),
    ],
)
def test_rejects_what_is_not_a_value(draw: Callable[[Any], Any], root: Any, hint: str) -> None:
    with pytest.raises(TypeError, match=f'se esperaba un Value y llegó .*{hint}') as caught:
        draw(root)
    assert len(str(caught.value)) < 350


def test_rejects_unknown_format_and_rankdir() -> None:
    with pytest.raises(ValueError, match="no existe el formato 'gatite'"):
        show_graph(neuron(), format='gatite')
    with pytest.raises(ValueError, match="llegó 'arriba'"):
        show_graph(neuron(), rankdir='arriba')


@pytest.mark.parametrize(
    ('kwargs', 'error', 'message'),
    [
        ({'width': 'ancho'}, TypeError, 'width: se esperaba un número real'),
        ({'height': None, 'width': [3]}, TypeError, 'width: se esperaba un número real'),
        ({'width': 0}, ValueError, 'width es en pulgadas'),
        ({'height': -1}, ValueError, 'height tiene que ser'),
        ({'width': 1280}, ValueError, 'width es en pulgadas'),
        ({'width': float('nan')}, ValueError, 'width'),
        ({'decimals': 2.5}, TypeError, 'decimals es un int'),
        ({'decimals': True}, TypeError, 'decimals es un int'),
        ({'decimals': -1}, ValueError, 'desde 0 hasta 17'),
        ({'max_nodes': '9'}, TypeError, 'max_nodes es un int'),
        ({'max_nodes': -1}, ValueError, 'max_nodes va desde 0: llegó -1'),
        pytest.param({'decimals': HUGE}, ValueError, 'desde 0 hasta 17', id='enorme'),
        ({'groups': 'capas'}, TypeError, 'groups es True o False'),
        ({'format': 'x' * 1000}, ValueError, 'no existe el formato'),
        ({'rankdir': ['LR']}, ValueError, 'rankdir es'),
    ],
)
def test_bad_arguments(kwargs: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message) as caught:
        show_graph(neuron(), **kwargs)
    assert len(str(caught.value)) < 250


def test_interactive_writes_the_page_and_returns_its_path(tmp_path: Path) -> None:
    path = show_graph_interactive(neuron(), tmp_path / 'red.html')
    assert path == tmp_path / 'red.html'
    assert path.read_text(encoding='utf-8').startswith('<!doctype html>')
