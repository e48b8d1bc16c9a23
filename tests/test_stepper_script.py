"""Lo que la página de show_backprop calcula y escribe, en un Chromium de verdad.

El juez de los números es el motor; el de las fórmulas es Python, que las evalúa. Donde falta
Chromium o Playwright estas pruebas se saltean.
"""

from __future__ import annotations

import math
import random
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from michigrad._notation import significant
from michigrad.engine import Value, topological_order
from tests.needs import need

pytest.importorskip('playwright', reason='falta Playwright: pip install -e ".[dev]"')

from tests.helpers import cube
from tests.page_script import Script
from tests.screenshots import find_chromium, neuron, open_chromium
from tests.test_notation import random_floats
from tests.test_stepper import xor_loss

pytestmark = pytest.mark.skipif(
    find_chromium() is None, reason='falta Chromium: apt-get install chromium'
)


@pytest.fixture(scope='module')
def script() -> Iterator[Script]:
    with open_chromium() as browser:
        yield Script(browser)


def backward_grads(root: Value) -> list[float]:
    root.backward()
    return [float(v.grad) for v in topological_order(root)]


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
    Value.softplus,
    Value.relu,
    lambda x: x**0,
    lambda x: x**1,
    lambda x: x**2,
    lambda x: x**3,
    lambda x: x**-1,
    lambda x: x**-2,
    lambda x: x**0.5,
    lambda x: x**-1.5,
]
ARITHMETIC: list[Callable[[Value, Value], Value]] = [
    lambda x, y: x + y,
    lambda x, y: x - y,
    lambda x, y: x * y,
    lambda x, y: x / y,
]
BINARY: list[Callable[[Value, Value], Value]] = [
    *ARITHMETIC,
    lambda x, y: x**y,
    lambda x, y: x.maximum(y),
    lambda x, y: x.minimum(y),
    lambda x, y: x.clip(min=y),
    lambda x, y: x.clip(max=y),
]
OPERATIONS: list[Callable[[Value, Value], Value]] = [
    *((lambda x, y, f=f: f(x)) for f in UNARY),
    *BINARY,
]


def random_graph(seed: int, leaves: list[float]) -> Value:
    """Un grafo con todas las operaciones, de esas hojas; lo que no tiene resultado se saltea."""
    rng = random.Random(seed)
    values = [Value(x, name=f'x{i}') for i, x in enumerate(leaves)]
    for operation in rng.sample(OPERATIONS, len(OPERATIONS)):
        a, b = rng.choices(values, k=2)
        a, b = (
            (a.tanh() + 1.5, b.sin() + 1.25) if rng.random() < 0.7 else (a * a + 0.1, b.tanh() + 2)
        )
        values.append(operation(a, b).tanh() if rng.random() < 0.5 else operation(a, b))
    return sum(rng.sample(values, 12), Value(0.0))


def leaves_of(seed: int) -> list[float]:
    rng = random.Random(seed)
    return [rng.uniform(-2, 2) for _ in range(4)]


# ---- Los números ----


def test_two_hundred_graphs_with_every_operation(script: Script) -> None:
    seeds = range(200)
    roots = [random_graph(seed, leaves_of(seed)) for seed in seeds]
    moved = [leaves_of(seed + 1000) for seed in seeds]
    names = [{f'x{i}': x for i, x in enumerate(leaves)} for leaves in moved]
    told = script.calculate([(root, {}) for root in roots])
    there = script.calculate(list(zip(roots, names, strict=True)))
    seen: set[str] = set()
    for seed in seeds:
        order = topological_order(roots[seed])
        seen |= {re.sub(r'^\*\*.+', '**n', v._op) for v in order}
        assert not told[seed]['stale']
        assert told[seed]['data'] == [v.data for v in order]  # sin cambiar nada, el mismo bit
        assert told[seed]['grads'] == backward_grads(roots[seed])
        expected = random_graph(seed, moved[seed])
        data = [v.data for v in topological_order(expected)]
        assert there[seed]['data'] == pytest.approx(data, rel=1e-12, abs=1e-12)
        grads = backward_grads(expected)
        assert there[seed]['grads'] == pytest.approx(grads, rel=1e-11, abs=1e-12)
    assert {'+', '-', '*', '/', '**', '**n', 'max', 'min', 'clamp_min', 'clamp_max'} <= seen
    assert len(seen) >= 22


@pytest.mark.parametrize('operation', OPERATIONS)
def test_each_operation_at_the_edges(
    operation: Callable[[Value, Value], Value], script: Script
) -> None:
    edges = [(0.0, 2.0), (2.0, 0.0), (-1.5, 3.0), (1.0, 1.0), (-0.0, 0.5), (1e-8, 1e8), (1e-310, 2)]
    for point in edges:
        try:
            expected = operation(Value(point[0]), Value(point[1])) * 1e-9
        except (ArithmeticError, ValueError):
            continue
        x, y = Value(0.7, name='x'), Value(1.3, name='y')
        there = script.tell(operation(x, y) * 1e-9, {'x': point[0], 'y': point[1]})
        assert there['data'] == pytest.approx(
            [v.data for v in topological_order(expected)], rel=1e-12, nan_ok=True
        )
        assert there['grads'] == pytest.approx(backward_grads(expected), rel=1e-12, nan_ok=True)


@pytest.mark.parametrize(
    ('out', 'x'),
    [
        (Value(0.5, name='x').log(), -1.0),
        (Value(0.5, name='x').sqrt(), -1.0),
        (1 / Value(0.5, name='x'), 0.0),
        (Value(0.5, name='x') ** 0.5, -2.0),
        (Value(0.5, name='x').exp(), 1000.0),
        (Value(2.0, name='x') ** Value(0.5, name='y'), -1.0),
    ],
)
def test_where_the_engine_raises_there_is_no_result(out: Value, x: float, script: Script) -> None:
    with pytest.raises(Exception, match='sin resultado'):
        script.tell(out, {'x': x})


def test_numbers_are_written_as_python_writes_them(script: Script) -> None:
    numbers = [*random_floats(1000), 0.0, -0.0, 1.0, 0.5, 1e6, 123456.7, -9999.96, 0.00012346]
    told = script.call('numbers => numbers.map((x) => significant(x))', numbers)
    assert told == [significant(x) for x in numbers]
    assert script.call('[NaN, Infinity, -Infinity].map((x) => significant(x))') == [
        'nan',
        'inf',
        '−inf',
    ]


def test_the_gradients_may_go_on_from_those_the_leaves_had(script: Script) -> None:
    loss = neuron()
    loss.backward()
    first = [float(v.grad) for v in topological_order(loss)]
    assert script.tell(loss)['grads'] == first
    assert script.tell(loss, start=True)['grads'] == backward_grads(loss)
    assert any('acumula' in note or 'suma' in note for note in script.notes(loss, start=True))
    x = Value(2.0, name='x')
    x.grad = 4
    assert script.tell(x, start=True)['grads'] == backward_grads(x) == [5.0]


def test_data_changed_after_the_sum_is_told(script: Script) -> None:
    x = Value(2.0, name='x')
    out = x * 3
    x.data = 5.0
    (note,) = script.notes(out)
    assert note == 'este dato se calculó antes de que cambiara alguno de sus operandos'
    assert script.tell(out)['grads'] == backward_grads(out)


# ---- Los pasos ----


def test_the_neuron_of_the_readme(script: Script) -> None:
    told = script.formulas(neuron())
    assert 'x₀·W₀ = 0.5 · 0.3745 = 0.1873' in told
    assert 'ŷ = x₀·W₀ + x₁·W₁ + b = 1.138 + 0.7320 = 1.870' in told
    assert 'L = (y − ŷ)² = 0.1300² = 0.01691' in told
    assert '∂L/∂L += 1' in told
    assert '∂L/∂ŷ += ∂L/∂(y − ŷ) · ∂(y − ŷ)/∂ŷ = 0.2600 · (−1) = −0.2600' in told
    assert told[-1] == (
        '∂L/∂W₀ += ∂L/∂(x₀·W₀) · ∂(x₀·W₀)/∂W₀ = ∂L/∂(x₀·W₀) · x₀ = −0.2600 · 0.5 = −0.1300'
    )


def test_the_leaves_come_first_and_backward_returns(script: Script) -> None:
    loss = xor_loss()
    order = topological_order(loss)
    operations = [i for i, v in enumerate(order) if v._prev]
    first, *steps = script.tell(loss)['steps']
    assert (first['phase'], first['given']) == ('forward', True)
    assert [line['to'] for line in first['lines']] == [
        i for i, v in enumerate(order) if not v._prev
    ]
    forward = [step['node'] for step in steps if step['phase'] == 'forward']
    backward = [step['node'] for step in steps if step['phase'] == 'backward']
    assert forward == operations
    assert backward == [operations[-1], *reversed(operations), -1]
    givers = steps[len(operations) + 1 : -1]
    for i, step in zip(reversed(operations), givers, strict=True):
        assert [line['to'] for line in step['lines']] == [order.index(u) for u in order[i]._prev]


def test_captions_speak_as_the_blackboard(script: Script) -> None:
    x = Value(3.0, name='x')
    y = -x
    y.name = 'y'
    captions = [step['caption'] for step in script.tell((y**2) * x)['steps']]
    assert 'La operación −x calcula y' in captions
    assert 'La operación x² calcula un valor' in captions
    assert 'La operación · calcula L' in captions


def test_a_node_that_receives_several_gradients_shows_their_sum(script: Script) -> None:
    x = Value(1.0, name='x')
    assert script.notes(x * 3 + x * 3 + x) == [
        'acumula 1 + 3 = 4',
        'la suma: ∂L/∂x = 1 + 3 + 3 = 7',
    ]
    assert script.notes(x * x) == ['la suma: ∂L/∂x = 1 + 1 = 2']


def test_the_root_alone(script: Script) -> None:
    assert script.formulas(Value(2.0, name='x')) == ['x = 2', '∂x/∂x += 1']


def test_an_inactive_relu_says_so(script: Script) -> None:
    assert script.notes(Value(-1.0, name='x').relu()) == ['por acá no pasa gradiente']


# ---- Las fórmulas ----


def evaluate(text: str, **names: float) -> float:
    """El valor de una fórmula escrita como en el pizarrón."""
    digits = {ord(up): str(n) for n, up in enumerate('⁰¹²³⁴⁵⁶⁷⁸⁹')} | {ord('⁻'): '-'}
    text = re.sub('[⁻⁰¹²³⁴⁵⁶⁷⁸⁹]+', lambda up: f'**({up[0].translate(digits)})', text)
    text = re.sub(r'√([\w.]+|\([^()]*\))', r'sqrt(\1)', text)
    text = re.sub(r'\|([^|]*)\|', r'abs(\1)', text)
    text = text.replace('½ si son iguales', '½')
    text = re.sub(
        r'\((\S+) si ([^,()]*(?:\([^()]*\)[^,()]*)*)(?:, ½)?, si no (\S+)\)',
        r'(\1 if \2 else \3)',
        text,
    )
    text = text.replace('≥', '>=').replace('≤', '<=')
    text = text.replace('·', '*').replace('−', '-').replace('^', '**')
    functions: dict[str, Any] = {
        name: getattr(math, name) for name in ('exp', 'log', 'sqrt', 'sin', 'cos', 'tanh', 'inf')
    }
    functions['sigmoid'] = lambda x: 1 / (1 + math.exp(-x))
    functions['softplus'] = lambda x: math.log(1 + math.exp(x))
    functions['signo'] = lambda x: math.copysign(1, x)
    functions['ReLU'] = lambda x: max(0, x)
    builtins = {'abs': abs, 'max': max, 'min': min}
    return float(eval(text, {'__builtins__': builtins}, functions | names))


@pytest.mark.parametrize('operation', OPERATIONS)
def test_the_local_derivatives_say_what_they_measure(
    operation: Callable[[Value, Value], Value], script: Script
) -> None:
    x, y = Value(0.7, name='x'), Value(1.3, name='y')
    out = operation(x, y)
    out.name = 'z'
    told = script.tell(out)
    slopes = told['slopes'][-1]
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
        assert evaluate(number) == pytest.approx(expected, rel=5e-4, abs=1e-9)
    assert len(slopes) == len(out._prev)


@pytest.mark.parametrize('outer', OPERATIONS)
def test_parentheses_where_they_are_needed(
    outer: Callable[[Value, Value], Value], script: Script
) -> None:
    for data in ((0.7, 1.3), (2.0, -1.5)):
        for inner in ARITHMETIC:
            for left in (True, False):
                x, y = Value(data[0], name='x'), Value(data[1], name='y')
                try:
                    out = outer(inner(x, y), -x) if left else outer(-x, inner(x, y))
                except (ArithmeticError, ValueError):
                    continue
                out.name = 'z'
                (told,) = (text for text in script.formulas(out) if text.startswith('z = '))
                expression = told.split(' = ')[1]
                assert evaluate(expression, x=data[0], y=data[1]) == pytest.approx(float(out.data))


def unit(number: str) -> float:
    """Lo que vale la última cifra de un número escrito con cuatro cifras."""
    size = abs(float(number))
    return 10.0 ** (math.floor(math.log10(size)) - 3) if size else 0.0


def check_arithmetic(told: dict[str, Any]) -> int:
    """Las cuentas, hechas con los números que se muestran, dan el resultado que se muestra."""
    checked = 0
    for line in [line for step in told['steps'] for line in step['lines']]:
        *sides, answer = (line['text'] + line['answer']).replace('−', '-').split(' = ')
        if len(sides) > 1 and answer != 'nan':
            shown = evaluate(sides[-1].replace(' · ', '*'))
            assert shown == pytest.approx(float(answer), abs=1.001 * unit(answer)), line['text']
            checked += 1
        sums = re.search(r'(?:acumula|=) ([^=]* \+ [^=]*) = ([^=]*)$', line['note'])
        if sums:
            total = sums[2].replace('−', '-')
            assert evaluate(sums[1]) == pytest.approx(float(total), abs=1.001 * unit(total))
            checked += 1
    return checked


def test_the_arithmetic_that_is_shown_holds(script: Script) -> None:
    checked = sum(
        check_arithmetic(script.tell(random_graph(seed, leaves_of(seed)))) for seed in range(60)
    )
    assert checked > 5000
    close = Value(0.99999, name='a') - Value(1.000002, name='b')
    assert script.formulas(close)[2] == 'L = a − b = 0.99999 − 1.000002 = −1.200e−05'


def test_tiny_and_huge_numbers(script: Script) -> None:
    x = Value(1e-7, name='x')
    assert 'L = x·c₁ = 1.000e−07 · 10000 = 0.001' in script.formulas(x * 10000)
    assert 'L = x² = (−2.000e+06)² = 4.000e+12' in script.formulas(Value(-2e6, name='x') ** 2)
    assert not any('−0 ' in f'{text} ' for text in script.formulas(Value(-1.0) * 0))


# ---- Operaciones propias ----


def test_an_operation_of_ones_own(script: Script) -> None:
    x = Value(2.0, name='x')
    out = cube(x) * 0.5 + x
    told = script.tell(out)
    formulas = script.formulas(out)
    assert 'cubo(x) = cubo(2) = 8' in formulas
    assert '∂L/∂x += ∂L/∂cubo(x) · ∂cubo(x)/∂x = 0.5 · 12 = 6' in formulas
    assert 'la suma: ∂L/∂x = 1 + 6 = 7' in script.notes(out)
    assert told['slopes'][1] == ['∂cubo(x)/∂x = 12']
    assert told['grads'] == backward_grads(out)


def test_the_gradient_into_an_operation_of_ones_own_may_change(script: Script) -> None:
    x, w = Value(2.0, name='x'), Value(0.5, name='w')
    out = cube(x) * w
    told = script.tell(out, {'w': -3.0})
    assert told['grads'][0] == -36.0
    assert told['locked'] == ['cubo(x)', None, None, None]


def test_an_operation_of_many_operands(script: Script) -> None:
    xs = [Value(float(i), name=f'x{i}') for i in range(3)]
    out = Value(sum(x.data for x in xs), xs, '+', name='L')

    def _backward() -> None:
        for x in xs:
            x.grad += out.grad

    out._backward = _backward
    assert 'L = x0 + x1 + x2 = 0 + 1 + 2 = 3' in script.formulas(out)
    assert script.tell(out)['grads'] == backward_grads(out) == [1, 1, 1, 1]


def test_the_slips_of_an_operation_of_ones_own_are_told(script: Script) -> None:
    x = Value(2.0, name='x')
    overwrites = Value(4.0, (x,), 'doble')

    def _backward() -> None:
        x.grad = 2 * overwrites.grad

    overwrites._backward = _backward
    out = overwrites + x
    assert 'pisó el 1 que había: ¿dice = en vez de +=?' in script.notes(out)
    assert script.tell(out)['grads'] == backward_grads(out)
    nothing = Value(4.0, (x,), 'nada')
    nothing._backward = lambda: None
    assert script.notes(nothing) == ['no le suma nada: ¿falta out._backward = _backward?']


def test_a_rule_that_reaches_further_than_its_operands(script: Script) -> None:
    x, far = Value(2.0, name='x'), Value(1.0, name='lejano')
    out = Value(2.0, (x,), 'rara') + far

    def _backward() -> None:
        far.grad += 5.0

    out._prev[0]._backward = _backward
    assert script.tell(out)['grads'] == backward_grads(out)


def test_the_derivative_of_an_operation_that_has_no_formula(script: Script) -> None:
    x = Value(0.5, name='x')
    out = Value(1.0, (x,), 'nueva')

    def _backward() -> None:
        x.grad += 1.6487 * out.grad

    out._backward = _backward
    assert '∂L/∂x += ∂L/∂L · ∂L/∂x = 1 · 1.649 = 1.649' in script.formulas(out)


def test_values_of_other_classes(script: Script) -> None:
    micrograd = need('micrograd.engine')
    a, b = micrograd.Value(2.0), micrograd.Value(-3.0)
    out = (a * b + b**2).relu() * a
    told = script.tell(out)
    out.backward()
    order = topological_order(out)
    assert told['grads'] == pytest.approx([float(v.grad) for v in order])
    assert told['names'][-1] == 'L'
