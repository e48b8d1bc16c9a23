"""show_backprop sin navegador: lo que la página recibe, el dibujo y lo que no tiene que cambiar.

El juez de los gradientes es `Value.backward`. Lo que la página calcula y escribe con eso se prueba
en test_stepper_script.py, y cómo se ve y se maneja, en test_stepper_browser.py.
"""

from __future__ import annotations

import base64
import gzip
import html
import random
import re
import threading
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from michigrad._notation import significant
from michigrad.engine import Value, topological_order
from michigrad.nn import MLP
from michigrad.stepper import show_backprop
from michigrad.visualize import show_graph, show_graph_interactive
from tests.helpers import cube
from tests.needs import need
from tests.page_script import graph_of
from tests.screenshots import neuron


def xor_loss() -> Value:
    random.seed(0)
    loss: Value = (MLP(2, [2, 1])([1, 0]) - 1) ** 2
    return loss


# ---- Lo que la página recibe ----


def test_the_numbers_and_the_derivatives_of_each_node() -> None:
    loss = xor_loss()
    order = topological_order(loss)
    nodes = graph_of(loss)['nodes']
    assert [node['data'] for node in nodes] == [v.data for v in order]
    assert [node['operands'] for node in nodes] == [
        [order.index(u) for u in v._prev] for v in order
    ]
    assert [tuple(node['slopes']) for node in nodes] == [v._local_derivatives for v in order]
    assert [node['rule'] for node in nodes if node['operands']].count('**n') == 1


def test_the_leaves_that_are_adjusted() -> None:
    def adjusted(root: Value) -> list[str]:
        return [node['name'] for node in graph_of(root)['nodes'] if node['trainable']]

    assert adjusted(neuron()) == ['W₀', 'W₁', 'b']
    assert adjusted((Value(3.0, name='x') - 1) ** 2) == ['x']  # sin pesos, las que tienen nombre
    assert adjusted(Value(3.0) * 2) == []


def test_infinities_and_nan_travel_as_text() -> None:
    x = Value(0.0, name='x')
    assert graph_of(x.sqrt() * float('nan'))['nodes'][1]['slopes'] == ['Infinity']
    assert graph_of(Value(float('-inf')) * 1)['nodes'][0]['data'] == '-Infinity'


def measured(root: Value, i: int) -> Any:
    return graph_of(root)['nodes'][i]['measured']


def test_an_operation_of_ones_own_is_measured() -> None:
    x = Value(2.0, name='x')
    out = cube(x) * 0.5 + x
    assert measured(out, 1) == {'grad': 0.5, 'gains': [[0, 6.0, 12.0, False]]}
    x.grad = 7.0
    assert measured(out, 1) == {'grad': 0.5, 'gains': [[0, 6.0, 12.0, False]]}


def test_what_overwrites_and_what_reaches_further_is_told() -> None:
    x, far = Value(2.0, name='x'), Value(1.0, name='lejano')
    out = Value(2.0, (x,), 'rara') + far

    def _backward() -> None:
        x.grad = 3.0
        far.grad += 5.0

    out._prev[0]._backward = _backward
    order = topological_order(out)
    gains = [[order.index(x), 3.0, 3.0, True], [order.index(far), 5.0, 5.0, False]]
    assert measured(out, 1)['gains'] == gains


# ---- Otras clases ----


class Mine:
    """Un Value como el que escribe quien hace el curso: sin nombre, y con operandos en tupla."""

    def __init__(self, data: float, _prev: tuple[Mine, ...] = (), _op: str = '') -> None:
        self.data = data
        self.grad = 0.0
        self._prev = _prev
        self._op = _op
        self._backward: Callable[[], None] = lambda: None

    def __mul__(self, other: Mine) -> Mine:
        out = Mine(self.data * other.data, (self, other), '*')

        def _backward() -> None:
            self.grad += other.data * out.grad
            other.grad += self.data * out.grad

        out._backward = _backward
        return out


def test_a_class_of_ones_own() -> None:
    a, b = Mine(2.0), Mine(-3.0)
    a.label = 'a'  # type: ignore[attr-defined]
    out = a * b * a
    nodes = graph_of(out)['nodes']
    assert [node['name'] for node in nodes] == ['a', 'c₁', 'a·c₁', 'L']
    assert [node['measured'] is None for node in nodes] == [True, True, False, False]
    picture = show_backprop(out).picture  # type: ignore[arg-type]
    assert '>grad −12<' in picture
    assert '>grad 4<' in picture
    assert (a.grad, b.grad, out.grad) == (0, 0, 0)
    assert '"a|data' in show_graph(out).source.replace('{', '')


def test_the_values_of_micrograd() -> None:
    micrograd = need('micrograd.engine')
    a, b = micrograd.Value(2.0), micrograd.Value(-3.0)
    out = (a * b + b**2).relu() * a
    picture = show_backprop(out).picture
    out.backward()
    assert f'>grad {significant(a.grad)}<' in picture
    assert f'>grad {significant(b.grad)}<' in picture


# ---- Nada cambia ----


def snapshot(root: Value) -> list[tuple[object, ...]]:
    return [
        (id(v), repr(v.data), repr(v.grad), v.name, v._op, *map(id, v._prev))
        for v in topological_order(root)
    ]


@pytest.mark.parametrize('twice', [False, True])
def test_nothing_changes(twice: bool) -> None:
    for root in (neuron(), xor_loss(), cube(Value(2.0)), Value(1)):
        if twice:
            root.backward()
        before = snapshot(root)
        show_backprop(root)
        assert snapshot(root) == before


def test_nothing_changes_when_a_rule_fails() -> None:
    x = Value(2.0, name='x')
    out = cube(x) + x
    x.grad = 0.25

    def _backward() -> None:
        x.grad = x.data = 7.0
        raise RuntimeError('falla')

    out._prev[0]._backward = _backward
    before = snapshot(out)
    with pytest.raises(RuntimeError, match='falla'):
        show_backprop(out)
    assert snapshot(out) == before


@pytest.mark.parametrize('own', [False, True])
def test_many_threads_may_draw_one_graph(own: bool) -> None:
    loss = cube(xor_loss()) if own else xor_loss()
    before = snapshot(loss)
    expected = show_backprop(loss).html
    pages: list[str] = []
    threads = [
        threading.Thread(target=lambda: pages.append(show_backprop(loss).html)) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert pages == [expected] * 8
    assert snapshot(loss) == before


@given(seed=st.integers(0, 10**6))
@settings(max_examples=15, deadline=None)
def test_the_picture_shows_what_backward_leaves(seed: int) -> None:
    rng = random.Random(seed)
    values = [Value(rng.uniform(-2, 2)) for _ in range(4)]
    smooth: list[Callable[[Value], Value]] = [Value.tanh, Value.sigmoid, Value.relu, cube]
    for _ in range(8):
        a, b = rng.choices(values, k=2)
        values.append(rng.choice([a + b, a - b, a * b, rng.choice(smooth)(a).tanh()]))
    out = sum(values, Value(0))
    shown = re.findall('>grad ([^<]*)<', show_backprop(out).picture)
    out.backward()
    assert sorted(shown) == sorted(significant(v.grad) for v in topological_order(out))


# ---- La página ----


@pytest.mark.parametrize('rankdir', ['LR', 'TB', 'RL', 'BT'])
def test_the_picture_has_an_id_for_each_value_and_operation(rankdir: str) -> None:
    loss = neuron()
    picture = ElementTree.fromstring(show_backprop(loss, rankdir=rankdir).picture)
    groups = {group.get('id'): group for group in picture.iter() if group.tag.endswith('}g')}
    loss.backward()
    for i, v in enumerate(topological_order(loss)):
        assert (f'n{i}op' in groups) == bool(v._prev)
        texts = [text.text for text in groups[f'n{i}'] if text.tag.endswith('}text')]
        assert texts[-2:] == [f'data {significant(v.data)}', f'grad {significant(v.grad)}']
    edges = [g for g in picture.iter() if g.get('class') == 'edge' and g.get('data-op') == 'n3']
    assert sorted(str(g.get('data-slot')) for g in edges) == ['0', '1', 'None']


def test_boxes_say_what_each_node_is_and_ellipses_the_operation() -> None:
    picture = show_backprop(xor_loss()).picture
    texts = re.findall('<text[^>]*>([^<]*)</text>', picture)
    assert '' not in [text.strip() for text in texts]
    assert {'constante c₁', 'L0.N0.w0·c₁', 'v₁', 'E', '·', '−', 'x²', 'ReLU'} <= set(texts)
    kinds = re.findall('class="node ([a-z]+)"', picture)
    assert {*kinds} == {'result', 'intermediate', 'parameter', 'leaf', 'operation'}


HOSTILE = [
    '</script><img src=x onerror="alert(1)">',
    '<!--svg--><!--graph--><!--style--><!--script--><!--',
    '"\'`&lt;&#60;${1}{0}{a}',
    '\u2028\u2029\x00\x1b\ud800\ufffe',
    r'\u003c\1\g<0>',
    'a = b',
    ' \n ',
    'n0',
    '__proto__',
    'ñandú ' * 20,
]


@pytest.mark.parametrize('name', HOSTILE)
def test_a_name_is_text(name: str, tmp_path: Path) -> None:
    x = Value(2.0, name=name)
    doubled = Value(4.0, (x,), name)
    doubled._backward = lambda: None
    out = doubled + x
    tags: list[str] = []

    class Tags(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            tags.append(tag)

    page = show_backprop(out)
    Tags().feed(page.html)
    assert tags.count('script') == 2
    assert 'img' not in tags
    assert graph_of(out)['nodes'][0]['name']
    page.save(tmp_path / 'nombre.html').read_text(encoding='utf-8')


def test_the_page_asks_nothing_of_the_network() -> None:
    page = show_backprop(neuron()).html
    assert set(re.findall('https?://[^"\']+', page)) <= {'http://www.w3.org/2000/svg'}
    assert "default-src 'none'" in page


def test_in_a_notebook() -> None:
    page = show_backprop(neuron())
    seen: list[tuple[str, dict[str, str | None]]] = []

    class Elements(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            seen.append((tag, dict(attrs)))

    Elements().feed(page._repr_html_())
    assert [tag for tag, _ in seen] == ['div', 'img', 'iframe']
    image, frame = seen[1][1], seen[2][1]
    kind, _, content = str(image['src']).partition(',')
    assert kind == 'data:image/svg+xml;base64'
    assert base64.b64decode(content).decode() == page.picture
    assert frame['sandbox'] == 'allow-scripts'
    packed = re.findall(r'atob\("([^"]+)"\)', html.unescape(str(frame['srcdoc'])))
    assert gzip.decompress(base64.b64decode(packed[0])).decode() == page.html
    assert '<svg' not in repr(page)


@pytest.mark.parametrize('layers', [[1], [4, 1], [8, 1], [6, 6, 1]])
def test_the_output_of_a_notebook_weighs_little_more_than_the_page(layers: list[int]) -> None:
    page = show_backprop((MLP(7, layers)([0.5] * 7) - 1) ** 2)
    assert len(page._repr_html_().encode()) <= 1.2 * len(page.html.encode())


def test_show_graph_interactive_writes_the_page(tmp_path: Path) -> None:
    path = show_graph_interactive(neuron(), str(tmp_path / 'grafo.html'))
    assert path == tmp_path / 'grafo.html'
    assert path.read_text(encoding='utf-8') == show_backprop(neuron()).html


def test_save_writes_utf8(tmp_path: Path) -> None:
    page = show_backprop(neuron())
    path = page.save(str(tmp_path / 'página.html'))
    assert path == tmp_path / 'página.html'
    assert path.read_bytes() == page.html.encode('utf-8')


@pytest.mark.parametrize('found', [True, False])
def test_show(
    found: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    opened: list[str] = []

    def open_browser(url: str) -> bool:
        opened.append(url)
        return found

    monkeypatch.setattr('tempfile.tempdir', str(tmp_path))
    monkeypatch.setattr('webbrowser.open', open_browser)
    page = show_backprop(neuron())
    page.show()
    (path,) = tmp_path.glob('*/backprop.html')
    assert opened == [path.as_uri()]
    assert path.read_text(encoding='utf-8') == page.html
    assert capsys.readouterr().out == ('' if found else f'No encontré un navegador: abrí {path}\n')


# ---- Lo que no se puede ----


def chain(length: int) -> Value:
    out = Value(1.0)
    for _ in range(length - 1):
        out = -out
    return out


def test_up_to_300_values() -> None:
    assert len(graph_of(chain(300))['nodes']) == 300
    with pytest.raises(
        ValueError, match=r'tiene 301 Values .* 300 como máximo: .* un solo ejemplo'
    ):
        show_backprop(chain(301))


def test_bad_arguments() -> None:
    with pytest.raises(TypeError, match=r'se esperaba un Value y llegó 3\.0'):
        show_backprop(3.0)  # type: ignore[arg-type]
    x = Value(1.0)
    with pytest.raises(ValueError, match="rankdir es 'LR', 'TB', 'RL' o 'BT'"):
        show_backprop(x, rankdir='izquierda')
    assert (x.grad, x.name) == (0, '')


def test_an_operation_without_backward() -> None:
    x = Value(2.0, name='x')
    with pytest.raises(ValueError, match=r"'nada' .* falta out\._backward"):
        show_backprop(Value(2.0, (x,), 'nada'))


def test_a_class_without_backward() -> None:
    class Bare:
        def __init__(self, *operands: Any) -> None:
            self.data, self.grad, self._prev, self._op = 1.0, 0.0, operands, '+' * bool(operands)

    with pytest.raises(TypeError, match=r'y Bare no lo tiene: .* usá show_graph'):
        show_backprop(Bare(Bare(), Bare()))  # type: ignore[arg-type]


@pytest.mark.parametrize('field', ['data', 'grad'])
def test_what_is_not_a_number(field: str) -> None:
    x = Value(2.0, name='x')
    out = x * 3
    setattr(x, field, 'tres')
    with pytest.raises(TypeError, match=f"{field} de x tiene que ser un número y es 'tres'"):
        show_backprop(out)
