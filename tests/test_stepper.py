"""show_backprop sin navegador: los pasos, sus números y lo que no tiene que cambiar.

El juez de los gradientes es `Value.backward`; el de las fórmulas es Python, que las evalúa.
"""

from __future__ import annotations

import base64
import json
import math
import random
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from michigrad.engine import Value, topological_order
from michigrad.nn import MLP
from michigrad.stepper import show_backprop
from tests.screenshots import neuron


def xor_loss() -> Value:
    random.seed(0)
    loss: Value = (MLP(2, [2, 1])([1, 0]) - 1) ** 2
    return loss


def story(root: Value, **kwargs: str) -> Any:
    """Lo que la página cuenta: sus nodos y sus pasos."""
    page = show_backprop(root, **kwargs).html
    (content,) = re.findall(r'<script type="application/json" id="story">(.*?)</script>', page)
    assert not set('<>&') & set(content)  # nada que HTML pueda leer como suyo
    return json.loads(content)


def formulas(root: Value) -> list[str]:
    return [
        line['text'] + line['answer'] for step in story(root)['steps'] for line in step['lines']
    ]


def notes(root: Value) -> list[str]:
    return [line['note'] for step in story(root)['steps'] for line in step['lines'] if line['note']]


def final_grads(root: Value) -> list[float]:
    """Los gradientes del último paso, en orden topológico y con todos sus dígitos."""
    told = story(root)
    grads = {id: node['exactGrad'] for id, node in told['nodes'].items()}
    for step in told['steps']:
        grads |= {line['node']: line['exact'] for line in step['lines'] if line['exact']}
    return [float(grad.replace('−', '-')) for grad in grads.values()]


def backward_grads(root: Value) -> list[float]:
    root.backward()
    return [float(v.grad) for v in topological_order(root)]


def cube(x: Value) -> Value:
    """Una operación propia, escrita como en micrograd."""
    out = Value(x.data**3, (x,), 'cubo')

    def _backward() -> None:
        x.grad += 3 * x.data**2 * out.grad

    out._backward = _backward
    return out


# ---- Los pasos ----


def test_the_neuron_of_the_readme() -> None:
    loss = neuron()
    told = formulas(loss)
    assert 'x₀·W₀ = 0.5000 · 0.3745 = 0.1873' in told
    assert 'ŷ = x₀·W₀ + x₁·W₁ + b = 1.1380 + 0.7320 = 1.8700' in told
    assert 'L = (y − ŷ)² = 0.1300² = 0.0169' in told
    assert '∂L/∂L += 1.0000' in told
    assert '∂L/∂ŷ += ∂L/∂(y − ŷ) · (−1) = 0.2600 · (−1.0000) = −0.2600' in told
    assert told[-1] == '∂L/∂W₀ += ∂L/∂(x₀·W₀) · x₀ = −0.2600 · 0.5000 = −0.1300'


def test_forward_goes_in_topological_order_and_backward_returns() -> None:
    loss = xor_loss()
    order = topological_order(loss)
    ids = {v: f'n{i}' for i, v in enumerate(order)}
    steps = story(loss)['steps']
    forward = [step['node'] for step in steps if step['phase'] == 'forward']
    backward = [step['node'] for step in steps if step['phase'] == 'backward']
    assert forward == list(ids.values())
    assert backward == [ids[loss], *(ids[v] for v in reversed(order) if v._prev), '']
    assert [step['given'] for step in steps[: len(order)]] == [not v._prev for v in order]


def test_each_operation_gives_to_each_of_its_operands() -> None:
    loss = xor_loss()
    order = topological_order(loss)
    steps = story(loss)['steps'][len(order) + 1 : -1]
    for v, step in zip([v for v in reversed(order) if v._prev], steps, strict=True):
        assert [line['node'] for line in step['lines']] == [f'n{order.index(u)}' for u in v._prev]


def test_a_node_used_twice_accumulates() -> None:
    x = Value(3.0, name='x')
    assert notes(x * x) == ['acumula 3.0000 + 3.0000 = 6.0000']


def test_leaves_accumulate_on_the_gradient_that_they_had() -> None:
    loss = neuron()
    (W0,) = (v for v in topological_order(loss) if v.name == 'W₀')
    W0.grad = 0.5
    assert 'acumula 0.5000 + (−0.1300) = 0.3700' in notes(loss)
    assert any('ya tenían' in step['caption'] for step in story(loss)['steps'])


def test_the_root_alone() -> None:
    x = Value(2.0, name='x')
    assert formulas(x) == ['x = 2.0000', '∂x/∂x += 1.0000']
    x.grad = 4
    assert final_grads(x) == backward_grads(x) == [5.0]


def test_without_names_the_result_is_L_and_long_expressions_get_a_number() -> None:
    loss = xor_loss()
    told = story(loss)
    names = [node['name'] for node in told['nodes'].values()]
    assert names[-1] == 'L'
    numbered = [name for name in names if re.fullmatch('v[₀-₉]+', name)]
    assert numbered
    picture = show_backprop(loss).picture
    assert all(f'>{name}</text>' in picture for name in [*numbered, 'L'])
    taken = Value(1.0, name='L') * Value(2.0, name='b')
    assert story(taken)['nodes']['n2']['name'] == 'L·b'


# ---- Los números ----

UNARY: list[Callable[[Value], Value]] = [
    Value.__neg__,
    Value.__abs__,
    Value.exp,
    Value.log,
    Value.sqrt,
    Value.sin,
    Value.cos,
    Value.tanh,
    Value.sigmoid,
    Value.relu,
    lambda x: x**0,
    lambda x: x**1,
    lambda x: x**2,
    lambda x: x**3,
    lambda x: x**-1,
    lambda x: x**0.5,
    lambda x: x**-1.5,
]
BINARY: list[Callable[[Value, Value], Value]] = [
    lambda x, y: x + y,
    lambda x, y: x - y,
    lambda x, y: x * y,
    lambda x, y: x / y,
    lambda x, y: x**y,
]
OPERATIONS: list[Callable[[Value, Value], Value]] = [
    *((lambda x, y, f=f: f(x)) for f in UNARY),
    *BINARY,
]


def evaluate(text: str, **names: float) -> float:
    """El valor de una fórmula escrita como en el pizarrón."""
    digits = {ord(up): str(n) for n, up in enumerate('⁰¹²³⁴⁵⁶⁷⁸⁹')} | {ord('⁻'): '-'}
    text = re.sub('[⁻⁰¹²³⁴⁵⁶⁷⁸⁹]+', lambda up: f'**({up[0].translate(digits)})', text)
    text = re.sub(r'√(\w+|\([^()]*\))', r'sqrt(\1)', text)
    text = re.sub(r'\|([^|]*)\|', r'abs(\1)', text)
    text = re.sub(r'\((\S+) si (.*), si no (\S+)\)', r'(\1 if \2 else \3)', text)
    text = text.replace('·', '*').replace('−', '-').replace('^', '**')
    functions: dict[str, Any] = {
        name: getattr(math, name) for name in ('exp', 'log', 'sqrt', 'sin', 'cos', 'tanh')
    }
    functions['sigmoid'] = lambda x: 1 / (1 + math.exp(-x))
    functions['signo'] = lambda x: math.copysign(1, x)
    functions['ReLU'] = lambda x: max(0, x)
    return float(eval(text, {'__builtins__': {'abs': abs}}, functions | names))


@pytest.mark.parametrize('operation', OPERATIONS)
def test_the_local_derivatives_say_what_they_measure(
    operation: Callable[[Value, Value], Value],
) -> None:
    x, y = Value(0.7, name='x'), Value(1.3, name='y')
    out = operation(x, y)
    out.name = 'z'
    told = story(out)
    slopes = told['nodes'][f'n{len(told["nodes"]) - 1}']['slopes']
    step = 1e-6
    for slope in slopes:
        derivative, *symbol, number = slope.split(' = ')
        wrt = derivative.removeprefix('∂z/∂')
        shift = {'x': (step, 0.0), 'y': (0.0, step)}[wrt]
        ahead = operation(Value(0.7 + shift[0]), Value(1.3 + shift[1])).data
        behind = operation(Value(0.7 - shift[0]), Value(1.3 - shift[1])).data
        expected = (ahead - behind) / (2 * step)
        for text in symbol:
            assert evaluate(text, x=0.7, y=1.3) == pytest.approx(expected, abs=1e-6)
        assert evaluate(number) == pytest.approx(expected, abs=5e-5)
    assert len(slopes) == len(out._prev)


def test_the_derivative_of_an_operation_that_has_no_formula() -> None:
    out = Value(0.5, name='x').exp()
    out._op = 'nueva'
    assert '∂L/∂x += ∂L/∂L · ∂L/∂x = 1.0000 · 1.6487 = 1.6487' in formulas(out)
    assert story(out)['nodes']['n1']['slopes'] == ['∂L/∂x = 1.6487']


@pytest.mark.parametrize('data', [(0.7, 1.3), (2.0, -1.5)])
@pytest.mark.parametrize('outer', OPERATIONS)
@pytest.mark.parametrize('inner', BINARY[:4])
@pytest.mark.parametrize('left', [True, False])
def test_parentheses_where_they_are_needed(
    inner: Callable[[Value, Value], Value],
    outer: Callable[[Value, Value], Value],
    left: bool,
    data: tuple[float, float],
) -> None:
    x, y = Value(data[0], name='x'), Value(data[1], name='y')
    try:
        out = outer(inner(x, y), -x) if left else outer(-x, inner(x, y))
    except (ArithmeticError, ValueError):
        return
    out.name = 'z'
    expression = next(text for text in formulas(out) if text.startswith('z = ')).split(' = ')[1]
    assert evaluate(expression, x=data[0], y=data[1]) == pytest.approx(float(out.data))


@pytest.mark.parametrize('operation', OPERATIONS)
@pytest.mark.parametrize('data', [(0.7, 1.3), (0.0, 2.0), (2, 3), (1e-8, 1e8)])
def test_the_last_step_is_what_backward_leaves(
    operation: Callable[[Value, Value], Value], data: tuple[float, float]
) -> None:
    x, y = Value(data[0], name='x'), Value(data[1], name='y')
    try:
        out = operation(x, y) * x + x
    except (ArithmeticError, ValueError):
        return
    x.grad = 0.1
    told = final_grads(out)
    assert [repr(grad) for grad in told] == [repr(grad) for grad in backward_grads(out)]
    # En una segunda pasada las hojas acumulan y los intermedios no.
    told = final_grads(out)
    assert [repr(grad) for grad in told] == [repr(grad) for grad in backward_grads(out)]


@given(seed=st.integers(0, 10**6))
@settings(max_examples=25, deadline=None)
def test_random_graphs_end_as_backward_leaves_them(seed: int) -> None:
    rng = random.Random(seed)
    values = [Value(rng.uniform(-2, 2)) for _ in range(4)]
    smooth: list[Callable[[Value], Value]] = [Value.tanh, Value.sigmoid, Value.relu, cube]
    for _ in range(15):
        a, b = rng.choices(values, k=2)
        values.append(rng.choice([a + b, a - b, a * b, rng.choice(smooth)(a).tanh()]))
    out = sum(values, Value(0))
    assert final_grads(out) == backward_grads(out)


def test_tiny_and_huge_numbers_are_not_shown_as_zero_nor_as_a_wall_of_digits() -> None:
    x = Value(1e-7, name='x')
    assert 'L = x·10000 = 1.0e−07 · 10000.0000 = 0.0010' in formulas(x * 10000)
    assert 'L = x² = (−2000000.0000)² = 4.0000e+12' in formulas(Value(-2e6, name='x') ** 2)
    assert not any('−0.0000' in text for text in formulas(Value(-1.0) * 0))


# ---- Operaciones propias ----


def test_an_operation_of_ones_own() -> None:
    x = Value(2.0, name='x')
    out = cube(x) * 0.5 + x
    told = formulas(out)
    assert 'cubo(x) = cubo(2.0000) = 8.0000' in told
    assert '∂L/∂x += ∂L/∂cubo(x) · ∂cubo(x)/∂x = 0.5000 · 12.0000 = 6.0000' in told
    assert 'acumula 1.0000 + 6.0000 = 7.0000' in notes(out)
    assert '∂cubo(x)/∂x = 12.0000' in story(out)['nodes']['n1']['slopes']
    assert final_grads(out) == backward_grads(out)


def test_an_operation_of_many_operands() -> None:
    xs = [Value(float(i), name=f'x{i}') for i in range(3)]
    out = Value(sum(x.data for x in xs), xs, '+', name='L')

    def _backward() -> None:
        for x in xs:
            x.grad += out.grad

    out._backward = _backward
    assert 'L = x0 + x1 + x2 = 0.0000 + 1.0000 + 2.0000 = 3.0000' in formulas(out)
    assert final_grads(out) == backward_grads(out) == [1, 1, 1, 1]


def test_the_slips_of_an_operation_of_ones_own_are_told() -> None:
    x = Value(2.0, name='x')
    overwrites = Value(4.0, (x,), 'doble')

    def _backward() -> None:
        x.grad = 2 * overwrites.grad

    overwrites._backward = _backward
    out = overwrites + x
    assert 'pisó el 1.0000 que había: ¿dice = en vez de +=?' in notes(out)
    assert final_grads(out) == backward_grads(out)


def test_an_operation_without_backward_is_told() -> None:
    x = Value(2.0, name='x')
    out = Value(2.0, (x,), 'nada')
    assert notes(out) == ['esta operación no tiene _backward']
    assert final_grads(out) == backward_grads(out) == [0, 1]


def test_a_rule_that_reaches_further_than_its_operands() -> None:
    x, far = Value(2.0, name='x'), Value(1.0, name='lejano')
    out = Value(2.0, (x,), 'rara') + far

    def _backward() -> None:
        far.grad += 5.0

    out._prev[0]._backward = _backward
    assert final_grads(out) == backward_grads(out)


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
        shown = f'data {v.data:.4f}, grad {v.grad:.4f}'.replace('-', '−')
        assert ', '.join(map(str, texts[-2:])) == shown
    edges = [g.get('data-op') for g in picture.iter() if g.get('class') == 'edge']
    assert edges.count('n3') == 3  # x₀, W₀ y el resultado


HOSTILE = [
    '</script><img src=x onerror="alert(1)">',
    '<!--svg--><!--story--><!--',
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
    out = Value(4.0, (x,), name) + x
    tags: list[str] = []

    class Tags(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            tags.append(tag)

    page = show_backprop(out)
    Tags().feed(page.html)
    assert tags.count('script') == 2
    assert 'img' not in tags
    assert story(out)['nodes']['n0']['name']
    page.save(tmp_path / 'nombre.html').read_text(encoding='utf-8')


def test_the_page_asks_nothing_of_the_network() -> None:
    page = show_backprop(neuron()).html
    assert re.findall('https?://[^"]+', page) == ['http://www.w3.org/2000/svg']
    assert "default-src 'none'" in page


def test_in_a_notebook() -> None:
    page = show_backprop(neuron())
    seen: list[tuple[str, dict[str, str | None]]] = []

    class Elements(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            seen.append((tag, dict(attrs)))

    Elements().feed(page._repr_html_())
    assert [tag for tag, _ in seen] == ['details', 'summary', 'img', 'iframe']
    image, frame = seen[2][1], seen[3][1]
    kind, _, content = str(image['src']).partition(',')
    assert kind == 'data:image/svg+xml;base64'
    assert base64.b64decode(content).decode() == page.picture
    assert frame['sandbox'] == 'allow-scripts'
    assert frame['srcdoc'] == page.html
    assert '<svg' not in repr(page)


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
    assert len(story(chain(300))['nodes']) == 300
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
