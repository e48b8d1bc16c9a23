"""La notación de los dibujos: nombres, operaciones y números."""

from __future__ import annotations

import math
import random
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from michigrad._notation import box_name, decimal, expression, labels, row, significant
from michigrad.engine import Value, topological_order
from michigrad.nn import MLP
from tests.expressions import OPERATIONS, Expression
from tests.screenshots import neuron


def names(root: Value) -> list[str]:
    nodes = topological_order(root)
    return [term.text for term in labels(root, nodes).values()]


# ---- Un nombre por nodo ----


def test_names_short_expressions_and_the_result() -> None:
    assert names(neuron()) == [
        *('y', 'x₀', 'W₀', 'x₀·W₀', 'x₁', 'W₁', 'x₁·W₁', 'x₀·W₀ + x₁·W₁', 'b', 'ŷ', 'y − ŷ', 'L')
    ]


def test_constants_and_long_expressions_are_numbered() -> None:
    x = Value(3.0, name='la entrada x1')
    out = (x * 2 + 1) * 2
    assert names(out) == ['la entrada x1', 'c₁', 'v₁', 'c₂', 'v₁ + c₂', 'c₃', 'L']
    nodes = topological_order(out)
    terms = labels(out, nodes)
    boxes = [box_name(v, terms) for v in nodes]
    assert boxes[:4] == ['la entrada x1', 'constante c₁', 'v₁', 'constante c₂']


def test_repeated_names_and_repeated_expressions_are_told_apart() -> None:
    a, b = Value(1.0, name='x'), Value(2.0, name='x')
    assert names(a * b + a * b) == ['x', 'x#2', 'x·x#2', 'v₁', 'L']
    taken = Value(1.0, name='x#2')
    assert names(a * b * taken) == ['x', 'x#3', 'x·x#3', 'x#2', 'L']


@pytest.mark.parametrize('name', ['L', 'L0.N0.w0', 'L₀', 'L2', 'L.w'])
def test_the_name_of_the_result_is_not_taken_for_another(name: str) -> None:
    assert names(Value(1.0, name=name) * 2)[-1] == 'E'
    assert names(Value(1.0, name='Lambda') * 2)[-1] == 'L'
    assert names(MLP(2, [1])([1.0, 2.0]))[-1] == 'E'


@given(st.lists(st.text(max_size=3), min_size=2, max_size=6), st.integers(0, 9))
def test_no_two_nodes_are_called_the_same(given_names: list[str], seed: int) -> None:
    rng = random.Random(seed)
    values = [Value(float(i), name=name) for i, name in enumerate(given_names)]
    for _ in range(6):
        a, b = rng.choices(values, k=2)
        values.append(rng.choice([a * b, a + b, -a, a**2]))
        values[-1].name = rng.choice(['', '', 'v₁', 'c₁', *given_names])
    root = sum(values, Value(0.0))
    told = names(root)
    assert len(set(told)) == len(told)
    assert all(told)


# ---- Las operaciones ----


@pytest.mark.parametrize('operation', [e for e in OPERATIONS if e.op], ids=lambda e: e.name)
def test_each_operation_has_its_row(operation: Expression) -> None:
    out = operation.function(*(Value(x) for x in operation.points[-1]))
    known = row(out)
    assert len(known.slopes) == len(out._prev)
    assert all(known.slopes)
    assert known.symbol not in ('neg', '*', '-', '**2')


def test_textbook_forms() -> None:
    x, y = Value(2.0, name='x'), Value(3.0, name='y')
    cases = {
        '−x': -x,
        '1/x': x**-1,
        'x²': x**2,
        '√x': x**0.5,
        'x⁻²': x**-2,
        'x^1.5': x**1.5,
        'x^(−1.5)': x**-1.5,
        'x^y': x**y,
        '|x|': abs(x),
        '−x + y': -x + y,
        'y − (−x)': y - -x,
        '(x + y)²': (x + y) ** 2,
        '(x − y)·x': (x - y) * x,
        'x/(y/x)': x / (y / x),
        '1/(x·y)': (x * y) ** -1,
        'max(x, y)': x.maximum(y),
        'softplus(x)': x.softplus(),
    }
    for text, out in cases.items():
        assert expression(out, labels(out, topological_order(out))).text == text


def test_an_operation_of_ones_own() -> None:
    x = Value(2.0, name='x')
    out = Value(1.0, (x, x), 'raro{0}')
    assert expression(out, labels(out, topological_order(out))).text == 'raro{0}(x, x)'
    assert expression(Value(3.0, [x, x, x], '+'), labels(x, [x])).text == 'x + x + x'


# ---- Los números ----


@pytest.mark.parametrize(
    ('number', 'text'),
    [
        (0, '0'),
        (-0.0, '0'),
        (7, '7'),
        (-2.0, '−2'),
        (0.5, '0.5'),
        (0.1 + 0.2, '0.3000'),
        (-0.26004, '−0.2600'),
        (1.99999, '2.000'),
        (9999.96, '10000'),
        (123456.7, '123457'),
        (999999.9, '1.000e+06'),
        (0.00012346, '0.0001235'),
        (-1.2e-5, '−1.200e−05'),
        (5e-324, '4.941e−324'),
        (math.inf, 'inf'),
        (-math.inf, '−inf'),
        (math.nan, 'nan'),
    ],
)
def test_four_significant_digits(number: float, text: str) -> None:
    assert significant(number) == text


def random_floats(count: int) -> list[float]:
    """Números de todos los tamaños: los bits, al azar."""
    rng = random.Random(0)
    bits = [struct.unpack('<d', rng.randbytes(8))[0] for _ in range(count)]
    return [x for x in bits if math.isfinite(x)] + [rng.uniform(-10, 10) for _ in range(count)]


def test_significant_is_close_and_never_minus_zero() -> None:
    for x in random_floats(2000):
        shown = float(significant(x).replace('−', '-'))
        assert shown == pytest.approx(x, rel=5.01e-4)
        assert significant(x) != '−0'


def test_decimals() -> None:
    assert decimal(-0.00001) == '0.0000'
    assert decimal(-0.0, 2) == '0.00'
    assert decimal(-1.5, 1) == '-1.5'
    assert decimal(-2e9) == '-2.0000e+09'
