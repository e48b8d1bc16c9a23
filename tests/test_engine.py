"""El motor: valores y gradientes contra PyTorch, semántica de backward, errores y numpy."""

from __future__ import annotations

import copy
import gc
import importlib.util
import json
import math
import operator
import pickle
import sys
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from michigrad import engine
from michigrad._numbers import short
from michigrad.engine import Value, topological_order
from tests import torch_reference
from tests.expressions import CASE_IDS, CASES, OPERATIONS, Expression
from tests.helpers import close, cube
from tests.needs import need

REFERENCE = json.loads(torch_reference.PATH.read_text(encoding='utf-8'))


def run(expression: Expression, point: tuple[float, ...]) -> tuple[Value, list[Value]]:
    leaves = [Value(x) for x in point]
    out = expression.function(*leaves)
    out.backward()
    return out, leaves


# Contra PyTorch y contra diferencias finitas


@pytest.mark.parametrize(('expression', 'point'), CASES, ids=CASE_IDS)
def test_equals_recorded_pytorch(expression: Expression, point: tuple[float, ...]) -> None:
    expected = REFERENCE[f'{expression.name} en {point}']
    out, leaves = run(expression, point)
    assert out.data == close(expected['value'], abs=1e-300)
    assert [leaf.grad for leaf in leaves] == close(expected['grads'], abs=1e-300)


@pytest.mark.parametrize(('expression', 'point'), CASES, ids=CASE_IDS)
def test_recorded_pytorch_is_up_to_date(expression: Expression, point: tuple[float, ...]) -> None:
    need('torch')
    expected = torch_reference.evaluate(expression, point)
    recorded = REFERENCE[f'{expression.name} en {point}']
    assert recorded['value'] == close(expected['value'], abs=1e-300)
    assert recorded['grads'] == close(expected['grads'], abs=1e-300)


@pytest.mark.parametrize('expression', OPERATIONS, ids=lambda e: e.name)
def test_gradient_equals_finite_differences(expression: Expression) -> None:
    h = 1e-6
    for point in expression.points:
        far = all(0.1 <= abs(x) <= 10 for x in point)
        if not far or len(set(point)) < len(point):  # lejos de los bordes y de los empates
            continue
        _, leaves = run(expression, point)
        for i, leaf in enumerate(leaves):
            up, down = list(point), list(point)
            up[i] += h
            down[i] -= h
            rise = expression.function(*map(Value, up)) - expression.function(*map(Value, down))
            assert leaf.grad == pytest.approx(rise.data / (2 * h), rel=1e-5, abs=1e-6)


def test_every_operation_is_in_the_table() -> None:
    methods = {
        name
        for name, member in vars(Value).items()
        if callable(member) and not name.startswith('_') and name not in ('backward', 'conjugate')
    }
    assert methods <= {e.name for e in OPERATIONS}


@pytest.mark.parametrize('expression', OPERATIONS, ids=lambda e: e.name)
def test_op_is_one_constant_string(expression: Expression) -> None:
    for point in expression.points:
        out, _ = run(expression, point)
        assert out._op == expression.op


numbers = st.floats(-3, 3) | st.sampled_from([-1.0, 0.0, 0.5, 1.0, 2.0])
steps = st.tuples(st.sampled_from(OPERATIONS), st.integers(0, 30), st.integers(0, 30))


def build(program: list[Any], leaves: list[Any], evaluated: list[Any] | None = None) -> list[Any]:
    """Aplica los pasos en orden; salta los que en `evaluated` (o ahora) no tienen resultado."""
    values = list(leaves)
    for i, (operation, a, b) in enumerate(program):
        operands = [values[a % len(values)], values[b % len(values)]]
        operands = operands[: len(operation.points[0])]
        if evaluated is not None and evaluated[len(leaves) + i] is None:
            values.append(values[a % len(values)])
            continue
        values.append(operation.function(*operands))
    return values


def build_values(program: list[Any], leaves: list[Value]) -> tuple[list[Value], list[Any]]:
    """Lo mismo con Values, y qué pasos se hicieron: None donde la operación dio un error."""
    values, done = list(leaves), list[Any](leaves)
    for step in program:
        before = values[step[1] % len(values)]
        try:
            out = build([step], values)[-1]
        except (ArithmeticError, ValueError):
            out = None
        # Fuera de esta escala (sin(1e12), una resta que casi se cancela) el resultado depende del
        # último bit de sus operandos, y ahí PyTorch y la biblioteca de C no siempre coinciden.
        if out is not None and not (out.data == 0 or 1e-3 <= abs(out.data) <= 1e3):
            out = None
        done.append(out)
        values.append(before if out is None else out)
    return values, done


@settings(max_examples=1000, deadline=None, derandomize=True)
@given(st.lists(numbers, min_size=1, max_size=4), st.lists(steps, min_size=1, max_size=12))
def test_random_expressions_equal_live_pytorch(data: list[float], program: list[Any]) -> None:
    torch = need('torch')
    leaves = [Value(x) for x in data]
    values, done = build_values(program, leaves)
    values[-1].backward()

    tensors = [torch.tensor(x, dtype=torch.float64, requires_grad=True) for x in data]
    out = build(program, tensors, done)[-1]
    out.backward()
    expected = [0.0 if t.grad is None else t.grad.item() for t in tensors]

    assert values[-1].data == pytest.approx(out.item(), rel=1e-9, abs=1e-9)
    for leaf, grad in zip(leaves, expected, strict=True):
        assert leaf.grad == pytest.approx(grad, rel=1e-9, abs=1e-9, nan_ok=True)


# Qué es un Value


def test_constructor_positions_keywords_and_defaults() -> None:
    x = Value(2.0)
    assert (x.data, x.grad, x.name, x._prev, x._op) == (2.0, 0, '', (), '')
    assert type(x.grad) is int
    by_position = Value(1, (x,), 'op', 'n')
    by_keyword = Value(data=1, _children=(x,), _op='op', name='n')
    for v in (by_position, by_keyword):
        assert (v.data, v._prev, v._op, v.name) == (1, (x,), 'op', 'n')


def test_repr() -> None:
    v = Value(0.3745401188473625, name='W₀')
    assert repr(v) == 'Value(data=0.3745401188473625, grad=0, name=W₀)'
    assert repr(Value(3)) == 'Value(data=3, grad=0, name=)'


@pytest.mark.parametrize(
    ('data', 'expected'),
    [
        (3, 3),
        (2.5, 2.5),
        (True, 1),
        (Fraction(1, 4), 0.25),
        (np.float64(1.5), 1.5),
        (np.float32(0.5), 0.5),
        (np.longdouble(0.5), 0.5),
        (np.int64(7), 7),
        (np.bool_(True), 1),
        (np.array(2.5), 2.5),
        (np.array(4), 4),
    ],
)
def test_accepts_any_real_number(data: Any, expected: float) -> None:
    v = Value(data)
    assert v.data == expected
    assert type(v.data) is type(expected)


@pytest.mark.parametrize(
    ('data', 'message'),
    [
        ('3.5', r"llegó '3\.5' \(str\): convertilo antes con float"),
        (None, r'llegó None \(NoneType\): .* return'),
        ([1, 2], r'llegó \[1, 2\] \(list\): .* \[Value\(x\) for x in datos\]'),
        ((1, 2), r'\(tuple\): .* \[Value\(x\) for x in datos\]'),
        (np.ones(3), r'\(ndarray\): .* \[Value\(x\) for x in datos\]'),
        (1j, r'llegó 1j \(complex\): .* z\.real'),
        (np.complex64(1), r'\(complex\)'),
        (Value(1), r'\(Value\): ya es un Value'),
        (object(), r'\(object\): usá un int o un float'),
    ],
)
def test_rejects_what_is_not_a_number(data: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        Value(data)
    if not isinstance(data, (Value, np.ndarray, np.generic)):
        for operation in (operator.add, operator.mul, operator.pow, operator.lt):
            with pytest.raises(TypeError, match=message):
                operation(Value(1), data)
            with pytest.raises(TypeError, match=message):
                operation(data, Value(1))


@pytest.mark.parametrize('huge', [10**400, -(10**5000), Fraction(10**400, 3)], ids='abc')
def test_rejects_numbers_beyond_floats(huge: Any) -> None:
    with pytest.raises(OverflowError, match='no entra en un float'):
        Value(huge)
    with pytest.raises(OverflowError, match='no entra en un float'):
        Value(1) + huge


@pytest.mark.parametrize('children', [Value(1), [1], ('x',), 'x', 3.0, None, np.array([1, 2])])
def test_rejects_children_that_are_not_values(children: Any) -> None:
    with pytest.raises(TypeError, match=r'los operandos, como \(self,\)'):
        Value(1, children)


def named(data: float, name: str = 'x') -> Value:
    return Value(data, name=name)


@pytest.mark.parametrize(
    ('operation', 'error', 'message'),
    [
        (lambda: named(1) / named(0, 'z'), ZeroDivisionError, '^/ con x=1 y z=0: el divisor'),
        (lambda: 1 / named(0.0), ZeroDivisionError, r'^/ con 1 y x=0\.0'),
        (lambda: named(0.0) ** -1, ZeroDivisionError, r'^\*\* con x=0\.0 y -1: .* base 0'),
        (lambda: named(-8.0) ** (1 / 3), ValueError, r'^\*\* con x=-8\.0 y 0\.33.* negativa'),
        (lambda: named(-8.0) ** named(0.5, 'n'), ValueError, r'^\*\* con x=-8\.0 y n=0\.5'),
        (
            lambda: named(10) ** 400,
            OverflowError,
            r'^\*\* con x=10 y 400: .* no entra.* lr más chico',
        ),
        (lambda: named(10) ** 10**9, OverflowError, 'no entra en un float'),
        (lambda: named(1e200) ** 2, OverflowError, 'no entra en un float'),
        (lambda: named(1000.0).exp(), OverflowError, r'^exp con x=1000\.0: .* lr más chico'),
        (lambda: named(-1.0).log(), ValueError, r'^log con x=-1\.0: pide un número mayor que 0'),
        (lambda: Value(0).log(), ValueError, '^log con 0: pide un número mayor que 0'),
        (lambda: named(-1.0).sqrt(), ValueError, r'^sqrt con x=-1\.0: .* mayor o igual'),
        (lambda: named(math.inf).sin(), ValueError, '^sin con x=inf: el ángulo'),
        (lambda: named(math.inf).cos(), ValueError, '^cos con x=inf: el ángulo'),
        (lambda: named(10**200) * 10**200, OverflowError, 'no entra en un float'),
    ],
)
def test_domain_errors_say_operation_value_and_name(
    operation: Callable[[], Value], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        operation()


def test_integers_stay_exact_and_gradients_are_floats() -> None:
    a, b = Value(2), Value(3)
    h = a * b - 1
    out = h**2 + a
    out.backward()
    assert (out.data, a.grad, b.grad) == (27, 31, 20)
    assert type(out.data) is int
    assert [type(v.grad) for v in (out, h, a, b)] == [int, float, float, float]


def test_gradients_of_integers_do_not_grow_without_bound() -> None:
    x = Value(0)
    out = x
    for _ in range(1100):
        out = out + out
    (out * 0.5).backward()
    assert x.grad == math.inf  # 2**1099: un int no lo pierde, y después no entra en un float


@pytest.mark.parametrize('data', [-3, -3.0, -0.0, 0])
def test_relu_off_is_a_float(data: float) -> None:
    out = Value(data).relu()
    assert (out.data, type(out.data)) == (0.0, float)


def test_reads_as_a_number() -> None:
    v = Value(1.23456, name='v')
    assert f'{v:.2f}' == '1.23'
    assert f'{v}' == str(v) == repr(v)


make: Any = Value  # mypy también rechaza lo que se rechaza acá
REFUSED: list[tuple[Callable[[Any], Any], str]] = [
    (float, 'v.exp()'),
    (math.exp, 'v.exp()'),
    (math.tanh, 'v.data'),
    (lambda v: np.asarray([v], float), 'v.data'),
    (lambda v: np.zeros(2).__setitem__(0, v), 'v.data'),
    (int, 'int(v.data)'),
    (round, 'round(v.data)'),
    (lambda v: round(v, 2), 'round(v.data)'),
    (math.trunc, 'math.trunc(v.data)'),
    (lambda v: v % 2, 'v.data % n'),
    (lambda v: 2 % v, 'v.data % n'),
    (lambda v: v // 2, 'v.data // n'),
    (lambda v: 2 // v, 'v.data // n'),
    (lambda v: divmod(v, 2), 'divmod(v.data, n)'),
    (lambda v: v.item(), 'v.data'),
    (lambda v: v.detach(), 'Value(v.data)'),
    (lambda v: v.clip(), 'v.clip(-1, 1)'),
    (lambda v: make(2.0, label='x'), "Value(2.0, name='x')"),
    (lambda v: make(2.0, nombre='x'), "Value(2.0, name='x')"),
    (lambda v: make(2.0, 'x'), "Value(2.0, name='x')"),
    (lambda v: make(12.0, (v,), (4.0,)), 'out._backward'),
    (lambda v: make(12.0, (), None), 'out._backward'),
    (lambda v: setattr(v, '_backward', None), 'out._backward = _backward'),
    (lambda v: Value(np.array([1.0])), 'array.item()'),
    (lambda v: v.maximum(np.ones(2)), 'array.item()'),
    (lambda v: v.minimum(np.ones(2)), 'array.item()'),
    (lambda v: v.clip(np.zeros(2), 1), 'array.item()'),
    (lambda v: v.clip(max=np.ones(2)), 'array.item()'),
]


@pytest.mark.parametrize(('slip', 'instead'), REFUSED)
def test_what_does_not_exist_says_what_to_write(slip: Any, instead: str) -> None:
    with pytest.raises(TypeError) as caught:
        slip(Value(0.5))
    assert instead in str(caught.value)


def test_plus_sign() -> None:
    v = Value(1.0)
    assert +v is v


def test_compares_by_data() -> None:
    a, b = Value(1.0), Value(2)
    assert a < b
    assert a <= 1
    assert b > 1.5
    assert 2 >= b  # noqa: SIM300 (la comparación al revés es lo que se prueba)
    assert not a >= b
    assert max([a, b]) is b
    assert sorted([b, a]) == [a, b]


def test_equality_is_identity() -> None:
    a, b = Value(1.0), Value(1.0)
    assert a != b
    assert len({a, b, a}) == 2


# Operandos, numpy y números de los dos lados


def test_prev_keeps_order_and_repeats() -> None:
    x, y = Value(2.0), Value(3.0)
    assert (x - y)._prev == (x, y)
    assert (x * x)._prev == (x, x)
    assert x.tanh()._prev == (x,)
    assert (x**2)._prev == (x,)
    assert [v.data for v in (5 / x)._prev] == [5, 2.0]


UNARY = ['exp', 'log', 'sqrt', 'sin', 'cos', 'tanh', 'sigmoid', 'softplus', 'relu', '__abs__']
BINARY = [operator.add, operator.sub, operator.mul, operator.truediv, operator.pow]


@pytest.mark.parametrize('operation', BINARY)
@pytest.mark.parametrize(
    'number', [3, 2.5, True, Fraction(3, 2), np.float64(2.5), np.float32(1.5), np.array(2.0)]
)
def test_number_on_either_side(operation: Callable[[Any, Any], Any], number: Any) -> None:
    v = Value(1.5)
    for out, expected in (
        (operation(v, number), operation(1.5, float(number))),
        (operation(number, v), operation(float(number), 1.5)),
    ):
        assert isinstance(out, Value)
        assert out.data == pytest.approx(expected)


@pytest.mark.parametrize('operation', BINARY)
def test_array_on_either_side(operation: Callable[[Any, Any], Any]) -> None:
    v, array = Value(1.5), np.array([1.0, 2.0, 3.0])
    for out, expected in (
        (operation(v, array), operation(1.5, array)),
        (operation(array, v), operation(array, 1.5)),
    ):
        assert [o.data for o in out] == pytest.approx(list(expected))


def test_array_comparisons() -> None:
    v, array = Value(1.5), np.array([1.0, 2.0])
    assert np.asarray(v < array).tolist() == [False, True]
    assert np.asarray(array < v).tolist() == [True, False]


def test_numpy_functions_and_gradients_on_arrays_of_values() -> None:
    rng = np.random.default_rng(0)
    w, x, b = rng.normal(size=(3, 2)), rng.normal(size=2), rng.normal(size=3)
    weights = np.array([[Value(wij) for wij in row] for row in w])
    out = np.tanh(weights @ x + b)
    assert [o.data for o in out] == pytest.approx(list(np.tanh(w @ x + b)))
    out.sum().backward()
    slopes = 1 - np.tanh(w @ x + b) ** 2
    grads = [[v.grad for v in row] for row in weights]
    assert np.array(grads) == pytest.approx(np.outer(slopes, x))


@pytest.mark.parametrize('name', ['exp', 'log', 'sqrt', 'sin', 'cos', 'tanh', 'abs', 'negative'])
def test_numpy_ufunc_on_a_value(name: str) -> None:
    out = getattr(np, name)(Value(0.5))
    assert isinstance(out, Value)
    assert out.data == pytest.approx(getattr(np, name)(0.5))


def test_values_of_a_second_copy_of_the_engine_mix_with_the_first() -> None:
    spec = importlib.util.spec_from_file_location('otra_copia', engine.__file__)
    assert spec is not None
    assert spec.loader is not None
    copy_of_engine = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(copy_of_engine)
    a, b = Value(2.0), copy_of_engine.Value(3.0)
    out = a * b + b / a - b**a + a.maximum(b)
    out.backward()
    assert (a.grad, b.grad) == pytest.approx((3 - 0.75 - 9 * math.log(3), 2 + 0.5 - 6 + 1))
    with pytest.raises(TypeError, match='ya es un Value'):
        Value(b)


# backward


def test_two_calls_on_one_graph_accumulate_in_leaves_only() -> None:
    x = Value(3.0)
    h = x * x
    out = h * 2
    out.backward()
    out.backward()
    assert (x.grad, h.grad, out.grad) == (24.0, 2, 1)


def test_two_losses_over_shared_nodes() -> None:
    x = Value(3.0)
    h = x * x
    first, second = h * 2, h * 5
    first.backward()
    second.backward()
    assert (x.grad, h.grad) == (6.0 * 2 + 6.0 * 5, 5)


def test_root_gets_int_one_and_a_leaf_accumulates() -> None:
    x = Value(3.0)
    out = x * 2
    out.backward()
    assert out.grad == 1
    assert type(out.grad) is int
    leaf = Value(3.0)
    leaf.backward()
    leaf.backward()
    assert leaf.grad == 2


def test_gradient_is_of_the_recorded_forward() -> None:
    x, w = Value(2.0), Value(3.0)
    out = x * w
    w.data = 100.0
    out.backward()
    assert x.grad == 3.0


@pytest.mark.parametrize('junk', [None, '0', [1.0], np.ones(2), Value(1.0), 1j], ids=short)
@pytest.mark.parametrize('field', ['data', 'grad'])
def test_what_is_assigned_is_told_with_the_name_of_the_node(field: str, junk: Any) -> None:
    w, x = Value(2.0, name='peso'), Value(3.0)
    out = (w * x).tanh()
    setattr(w, field, junk)
    uses: dict[str, list[Callable[[], Any]]] = {
        'data': [
            *(lambda op=op: op(w, x) for op in BINARY),
            *(lambda op=op: op(x, w) for op in BINARY),
            *(lambda name=name: getattr(w, name)() for name in UNARY),
            lambda: f'{w:.2f}',
        ],
        'grad': [out.backward, w.backward],
    }
    for use in uses[field]:
        with pytest.raises(TypeError, match=f'^{field} de peso tiene que ser un número') as caught:
            use()
        assert len(str(caught.value)) < 200
    assert getattr(w, field) is junk
    assert (x.grad, out.grad, out._prev[0].grad) == (0, 0, 0)


def test_a_value_assigned_where_its_number_goes() -> None:
    w = Value(2.0, name='peso')
    w.data = w - 0.1  # type: ignore[assignment]
    with pytest.raises(TypeError, match=r'data de peso .*: de un Value va el número, v\.data'):
        w * 2


def test_a_huge_assigned_integer_is_told_in_few_words() -> None:
    w = Value(2.0, name='peso')
    w.data = 10**5000
    with pytest.raises(OverflowError, match=r'^data de peso .* entero de unas 5000 cifras'):
        w * 0.5
    assert repr(w) == 'Value(data=un entero de unas 5000 cifras, grad=0, name=peso)'


@pytest.mark.parametrize('number', [np.float32(0.5), np.float64(0.5), np.array(0.5)], ids=repr)
def test_every_operation_accepts_an_assigned_number_of_numpy(number: Any) -> None:
    v, x = Value(0.5), Value(0.25)
    results = []
    for data in (0.5, number):
        v.data = data
        results.append(
            [getattr(v, name)().data for name in UNARY]
            + [op(v, x).data for op in BINARY]
            + [(-v).data]
        )
    assert results[0] == pytest.approx(results[1], rel=1e-6)  # float32
    assert all(type(result) is float for result in results[1])


def test_accepts_assigned_numbers_of_numpy() -> None:
    w = Value(2.0)
    w.data, w.grad = np.float32(0.5), np.float32(1.0)  # type: ignore[assignment]
    (w * 3).backward()
    assert (w.grad, type(w.grad)) == (4.0, float)


def test_custom_operation_between_built_in_ones() -> None:
    x = Value(2.0)
    out = cube(x * 3) + cube(x)
    out.backward()
    assert x.grad == 3 * 6.0**2 * 3 + 3 * 2.0**2


def test_custom_operation_with_many_operands() -> None:
    values = [Value(float(i), name=f'x{i}') for i in range(5)]
    out = Value(sum(v.data for v in values), values, 'suma')

    def _backward() -> None:
        for v in values:
            v.grad += out.grad

    out._backward = _backward
    (out * 2).backward()
    assert out._prev == tuple(values)
    assert [v.grad for v in values] == [2] * 5


@pytest.mark.parametrize('children', [list, set, iter, lambda x: dict.fromkeys(x).keys()])
def test_operands_may_be_any_iterable(children: Any) -> None:
    x = Value(2.0)
    assert Value(1.0, children([x]), 'op')._prev == (x,)


@pytest.mark.parametrize('inside', [False, True])
@pytest.mark.parametrize('share', [Value(3.0), np.ones(1), 1j, None], ids=short)
def test_what_a_custom_operation_leaves_in_grad_is_told(share: Any, inside: bool) -> None:
    x = Value(2.0, name='x')
    x.grad = 0.5
    operand = x * 2 if inside else x
    operand.name = 'operando'
    out = Value(4.0, (operand,), 'doble')

    def _backward() -> None:  # lo más común: self.grad += other * out.grad, sin .data
        operand.grad = share

    out._backward = _backward
    with pytest.raises(TypeError, match='grad de operando tiene que ser un número'):
        (out * 3).backward()
    assert x.grad == 0.5


def test_an_operation_without_a_rule_is_named() -> None:
    x = Value(2.0)
    forgotten = Value(8.0, (x * 3,), 'cubo')
    out = forgotten + x
    with pytest.raises(ValueError, match=r"'cubo' tiene operandos.*out\._backward = _backward"):
        out.backward()
    assert (x.grad, out.grad) == (0, 0)


def test_local_derivatives() -> None:
    x, y = Value(-2.0), Value(4.0)
    assert x._local_derivatives == ()
    assert (x * y)._local_derivatives == (4.0, -2.0)
    assert x.relu()._local_derivatives == (None,)
    assert cube(x)._local_derivatives is None
    assert Value(1.0, (x,), 'a medias')._local_derivatives is None


def test_fixed_exponent() -> None:
    x = Value(2.0)
    assert [(x**n)._fixed_exponent for n in (2, 0.5, -1)] == [2.0, 0.5, -1.0]
    assert [v._fixed_exponent for v in (x, x**x, 2**x, x * x, Value(1.0, (x,), '**2'))] == [
        None
    ] * 5


def test_attributes_of_ones_own() -> None:
    w = Value(2.0)
    w.m = 0.5  # type: ignore[attr-defined]
    assert w.m == 0.5  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    'clone', [copy.copy, copy.deepcopy, lambda v: pickle.loads(pickle.dumps(v))]
)
def test_only_leaves_are_copied(clone: Callable[[Any], Any]) -> None:
    w = Value(0.1 + 0.2, name='w')
    w.grad, w.m = 0.5, [1.0]  # type: ignore[attr-defined]
    twin = clone(w)
    assert (twin.data, twin.grad, twin.name, twin.m) == (w.data, 0.5, 'w', [1.0])
    assert twin is not w
    (twin * 2).backward()
    assert (twin.grad, w.grad) == (2.5, 0.5)
    for result in (w * 2, cube(w)):
        result.name = 'h'
        with pytest.raises(TypeError, match=r'h es el resultado .* Value\(v\.data\)'):
            clone(result)


def test_custom_operation_added_to_the_class(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Value, 'cube', cube, raising=False)
    x = Value(2.0)
    x.cube().backward()  # type: ignore[attr-defined]
    assert x.grad == 12.0


def test_a_failing_custom_operation_leaves_the_gradients_as_they_were() -> None:
    x, y = Value(2.0), Value(5.0)
    (x * y).backward()
    h = x * 3
    broken = Value(h.data, (h,), 'rota')

    def _backward() -> None:
        h.grad += 1
        raise RuntimeError('rota')

    broken._backward = _backward
    out = broken * y
    with pytest.raises(RuntimeError, match='rota'):
        out.backward()
    assert [v.grad for v in (x, y, h, broken, out)] == [5.0, 2.0, 0, 0, 0]


def test_backward_by_hand_node_by_node() -> None:
    a, b = Value(2.0), Value(-3.0)
    e = a * b
    out = e.tanh()
    out.grad = 1
    out._backward()
    e._backward()
    assert e.grad == 1 - math.tanh(-6.0) ** 2
    assert a.grad == -3.0 * e.grad


def test_same_bits_on_repeated_runs() -> None:
    def grads() -> list[float]:
        leaves = [Value(math.sin(i)) for i in range(50)]
        out = Value(0.0)
        for i, leaf in enumerate(leaves):
            out = (out + leaf * leaves[-i]).tanh() + leaf.exp()
        out.backward()
        return [leaf.grad for leaf in leaves]

    assert grads() == grads()


def test_topological_order_puts_operands_first_and_is_stable() -> None:
    a, b = Value(1.0, name='a'), Value(2.0, name='b')
    h = a * b
    out = h + h * a
    order = topological_order(out)
    assert order[:3] == [a, b, h]
    assert order[-1] is out
    assert len(order) == len(set(order)) == 5
    for v in order:
        assert all(order.index(operand) < order.index(v) for operand in v._prev)


# Grafos profundos y memoria


def test_a_million_operations_deep() -> None:
    assert sys.getrecursionlimit() <= 10_000
    x = Value(1.0)
    out = x
    for _ in range(1_000_000):
        out = out + 1
    out.backward()
    assert (out.data, x.grad) == (1_000_001.0, 1)
    del out


def test_a_graph_is_freed_at_once_without_the_collector() -> None:
    def alive() -> int:
        return sum(type(o) is Value for o in gc.get_objects())

    gc.collect()
    gc.disable()
    try:
        before = alive()
        x = Value(0.5)
        out = ((x * 2 + 1).tanh().exp() / 3 - x**2).sigmoid().relu()
        out.backward()
        assert alive() > before + 10
        del x, out
        assert alive() == before
    finally:
        gc.enable()
