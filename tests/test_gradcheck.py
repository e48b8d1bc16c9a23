"""gradcheck: aprueba lo que está bien y atrapa los errores que de verdad se cometen."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from michigrad import functional, nn
from michigrad.engine import Value
from michigrad.gradcheck import gradcheck
from tests.expressions import EXPRESSIONS, Expression

Slope = Callable[[float, float], float]


def tanh_slope(x: float, out: float) -> float:
    return 1 - out**2


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def operation(forward: Callable[[float], float], slope: Slope, rule: str = '+=') -> Any:
    """Una operación propia con la derivada `slope`, y con el error que diga `rule`."""

    def f(self: Value) -> Value:
        out = Value(forward(self.data), (self,), 'propia')

        def _backward() -> None:
            local = slope(self.data, out.data)
            if rule == '=':
                self.grad = local * out.grad
            elif rule == 'sin out.grad':
                self.grad += local
            else:
                self.grad += local * out.grad

        if rule != 'sin regla':
            out._backward = _backward
        return out

    return f


# Lo que está bien


@pytest.mark.parametrize('expression', EXPRESSIONS, ids=lambda e: e.name)
def test_every_operation_of_the_engine_passes(expression: Expression) -> None:
    smooth = (p for p in expression.points if all(1e-3 < abs(x) < 10 for x in p))
    point = next(smooth, (2.0,) * len(expression.points[0]))
    assert gradcheck(expression.function, *point) is True


@pytest.mark.parametrize(
    'f',
    [
        lambda a, b, c: functional.softmax([a, b, c])[1],
        lambda a, b, c: functional.cross_entropy([a, b, c], 2),
        lambda a, b, c: functional.cross_entropy([a, b], [c, 1 - c]),
        lambda a, b, c: functional.mse_loss([a, b], [c, 0.5]),
        lambda a, b, c: functional.hinge_loss([a, b, c], [1, -1, 1]),
        lambda a, b, c: functional.binary_cross_entropy([a.sigmoid(), c], [0.2, b.sigmoid()]),
        lambda a, b, c: functional.binary_cross_entropy_with_logits([a, b, 0 * c], [0, 1, c]),
    ],
)
def test_every_loss_passes(f: Any) -> None:
    assert gradcheck(f, 0.3, -1.2, 0.6)


def test_parameters_of_a_network_may_be_the_inputs() -> None:
    random.seed(3)
    model = nn.Sequential(nn.Layer(2, 3, nonlin=False), nn.Tanh(), nn.Layer(3, 1, nonlin=False))
    assert gradcheck(lambda *_: functional.mse_loss(model([0.5, -1.0]), 1.0), *model.parameters())


@pytest.mark.parametrize('x', [-3.0, 0.0, 0.5, 400.0, 1e12])
def test_a_right_operation_passes_at_any_size(x: float) -> None:
    assert gradcheck(operation(math.tanh, tanh_slope), x)
    assert gradcheck(lambda v: v**2 * 3, x)


def test_the_same_value_twice_and_ints_and_identity() -> None:
    x = Value(3)
    assert gradcheck(lambda a, b: a * b, x, x)
    assert type(x.data) is int
    assert gradcheck(lambda a: a, x)
    assert gradcheck(lambda a, b: a * 1, x, 2.0)  # b no interviene: su derivada es 0


def test_an_operation_that_stops_the_gradient_on_purpose_passes() -> None:
    step = operation(lambda x: float(x > 0), lambda x, out: 0.0)
    assert gradcheck(step, 2.0)


# Los errores que se cometen


def report(f: Any, *values: Any) -> str:
    with pytest.raises(ArithmeticError) as caught:
        gradcheck(f, *values)
    return str(caught.value)


def test_assigning_instead_of_accumulating() -> None:
    text = report(operation(math.tanh, tanh_slope, rule='='), Value(0.5, name='x'))
    once, twice = text.splitlines()[2:4]
    assert not once.endswith('no coincide')  # con un uso da bien
    assert twice.endswith('no coincide')
    assert "'propia' asigna el gradiente con =" in text


def test_assigning_inside_a_network() -> None:
    """La entrada de la operación es un nodo intermedio, y así ni con dos usos se nota."""
    f = operation(math.tanh, tanh_slope, rule='=')
    assert "'propia' asigna el gradiente con =" in report(lambda x: f(x * 2) + 1, 0.5)
    assert "'propia' asigna el gradiente con =" in report(lambda x: f(x) * x, 0.5)


def test_forgetting_out_grad() -> None:
    text = report(operation(math.tanh, tanh_slope, rule='sin out.grad'), 0.5)
    assert "a la derivada de 'propia' le falta multiplicar por out.grad" in text


def test_forgetting_to_assign_backward() -> None:
    with pytest.raises(ValueError, match=r"'propia' .* falta out\._backward = _backward"):
        gradcheck(operation(math.tanh, tanh_slope, rule='sin regla'), 0.5)


def test_forgetting_the_graph() -> None:
    text = report(lambda x, y: Value(x.data**2) + y, Value(3.0, name='x'), Value(1.0, name='y'))
    assert 'x=3 no está en el grafo de f' in text
    assert 'y=1 no está' not in text


def test_wrong_sigmoid_derivative() -> None:
    """e^x/(1 + e^-x)^2 en lugar de e^-x/(1 + e^-x)^2: en 0 son iguales, en 1 no."""
    wrong = operation(sigmoid, lambda x, _: math.exp(x) / (1 + math.exp(-x)) ** 2)
    assert gradcheck(wrong, 0.0)
    text = report(wrong, Value(1.0, name='x'))
    assert [line.split() for line in text.splitlines()[1:3]] == [
        ['entrada', 'analítico', 'numérico', 'diferencia'],
        ['x=1', 'f', '1.45278', '0.196612', '1.3', '<-', 'no', 'coincide'],
    ]
    assert 'Error probable' not in text  # no lo puede saber y no inventa
    with pytest.raises(OverflowError, match='la derivada de f se desborda con entrada=800'):
        gradcheck(wrong, 800.0)


def test_naive_tanh_overflows_at_400() -> None:
    def naive(x: float) -> float:
        return (math.exp(2 * x) - 1) / (math.exp(2 * x) + 1)

    assert gradcheck(operation(naive, tanh_slope), 0.5)
    with pytest.raises(OverflowError, match=r'f se desborda con x=400 .* e\^-\|x\|'):
        gradcheck(operation(naive, tanh_slope), Value(400.0, name='x'))


def test_naive_tanh_with_numpy_gives_nan_at_400() -> None:
    def naive(x: float) -> float:
        with np.errstate(over='ignore', invalid='ignore'):
            return float((np.exp(2 * x) - 1) / (np.exp(2 * x) + 1))

    assert 'f da nan: la cuenta se desborda' in report(operation(naive, tanh_slope), 400.0)


def test_a_derivative_that_is_infinite() -> None:
    text = report(operation(math.tanh, lambda *_: math.inf), 0.5)
    assert 'la derivada respecto de entrada=0.5 se desborda' in text


@pytest.mark.parametrize(
    ('slope', 'slip'),
    [
        (lambda x, _: -2 * x, 'tiene el signo cambiado'),
        (lambda x, _: x, 'es 0.5 veces la derivada'),
        (lambda x, _: 6 * x, 'es 3 veces la derivada'),
        (lambda x, _: -4 * x, 'es -2 veces la derivada'),
    ],
)
def test_sign_and_factor(slope: Slope, slip: str) -> None:
    f = operation(lambda x: x**2, slope)
    assert slip in report(f, 0.7)
    assert slip in report(lambda a, b: f(a) + f(b), 0.7, -3.0)


def test_wrong_in_different_ways_is_not_named() -> None:
    double = operation(lambda x: x**2, lambda x, _: 4 * x)
    triple = operation(lambda x: x**2, lambda x, _: 6 * x)
    assert 'Error probable' not in report(lambda a, b: double(a) + triple(b), 0.7, 0.9)


def test_a_corner_has_no_derivative() -> None:
    assert 'f tiene una esquina en x=0' in report(Value.relu, Value(0.0, name='x'))
    assert gradcheck(Value.relu, 1e-3)


def test_a_function_that_changes_between_calls() -> None:
    rng = random.Random(0)
    assert 'f no da siempre lo mismo' in report(lambda x: x * rng.random(), 2.0)


def test_the_table_lists_each_input() -> None:
    f = operation(lambda x: x**2, lambda x, _: 5 * x)
    text = report(lambda w, x: f(w) * x, Value(2.0, name='w'), Value(3.0, name='x'))
    cells = [line.split()[:5] for line in text.splitlines()[2:6]]
    assert cells == [
        ['w=2', 'f', '30', '12', '18'],
        ['x=3', 'f', '4', '4', cells[1][4]],
        ['w=2', 'f', '+', '2·f', '90'],
        ['x=3', 'f', '+', '2·f', '12'],
    ]


# No deja rastros


@pytest.mark.parametrize('fails', ['nunca', 'en f', 'en backward', 'no coincide'])
def test_leaves_everything_as_it_was(fails: str) -> None:
    weight = Value(2.0, name='w')  # no es una entrada, pero está en el grafo
    x = Value(3, name='x')
    weight.grad, x.grad = 5.0, 7
    calls = 0

    def f(v: Value) -> Value:
        nonlocal calls
        calls += 1
        v.name = 'otro'
        if fails == 'en f' and calls == 4:
            raise RuntimeError(fails)
        out = Value(v.data * weight.data, (v, weight), 'por')

        def _backward() -> None:
            v.grad += weight.data * out.grad * (2 if fails == 'no coincide' else 1)
            weight.grad += v.data * out.grad
            if fails == 'en backward':
                raise RuntimeError(fails)

        out._backward = _backward
        return out

    if fails == 'nunca':
        assert gradcheck(f, x)
    else:
        with pytest.raises((RuntimeError, ArithmeticError)):
            gradcheck(f, x)
    assert (x.data, x.grad, x.name) == (3, 7, 'x')
    assert (weight.data, weight.grad) == (2.0, 5.0)
    assert type(x.data) is int


# Argumentos


def square(x: Value) -> Value:
    return x**2


@pytest.mark.parametrize(
    ('call', 'error', 'message'),
    [
        (lambda: gradcheck(Value(3.0), Value(3.0)), TypeError, 'la función, sin llamarla'),  # type: ignore[arg-type]
        (lambda: gradcheck(square), ValueError, 'al menos una entrada'),
        (lambda: gradcheck(square, 'a'), TypeError, "llegó 'a'"),
        (lambda: gradcheck(square, [1.0]), TypeError, 'list'),
        (lambda: gradcheck(square, math.inf), ValueError, 'finitas'),
        (lambda: gradcheck(square, Value(1.0) * 2), ValueError, r'Value\(v.data\)'),
        (lambda: gradcheck(lambda x: None, 1.0), TypeError, 'si le falta el return'),  # type: ignore[arg-type,return-value]
        (lambda: gradcheck(lambda x: [x], 1.0), TypeError, 'un solo Value'),  # type: ignore[arg-type,return-value]
        (lambda: gradcheck(square, 1.0, eps=0), ValueError, 'eps tiene que ser mayor que 0'),
        (lambda: gradcheck(square, 1.0, eps=-1), ValueError, 'eps'),
        (lambda: gradcheck(square, 1.0, atol=math.nan), ValueError, 'atol .* llegó nan'),
        (lambda: gradcheck(square, 1.0, rtol=None), TypeError, 'rtol: .* llegó None'),  # type: ignore[arg-type]
        (lambda: gradcheck(Value.log, 0.0), ValueError, 'log con'),
    ],
)
def test_bad_arguments(call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()


@pytest.mark.parametrize('junk', [None, 'a', [1.0], np.ones(2), Value(1.0), 10**400])
def test_data_that_is_not_a_number_is_told(junk: Any) -> None:
    x = Value(1.0, name='x')
    x.data = junk
    with pytest.raises((TypeError, OverflowError), match='data de x tiene que ser un número'):
        gradcheck(square, x)
    assert x.data is junk


def test_a_result_whose_data_is_not_a_number_is_told() -> None:
    def broken(x: Value) -> Value:
        out = x * 2
        out.name, out.data = 'out', None  # type: ignore[assignment]
        return out

    with pytest.raises(TypeError, match='data de out tiene que ser un número y es None'):
        gradcheck(broken, 1.0)


@pytest.mark.parametrize('junk', [None, 'a', [1.0], math.nan])
def test_what_was_in_grad_does_not_matter_and_stays(junk: Any) -> None:
    x, w = Value(2.0), Value(3.0)
    x.grad = w.grad = junk
    assert gradcheck(lambda v: v * w, x)
    assert x.grad is junk
    assert w.grad is junk


def test_messages_are_short() -> None:
    x = Value(2.0, name='x' * 500)
    calls: list[Callable[[], Any]] = [
        lambda: gradcheck([1.0] * 1000, x),  # type: ignore[arg-type]
        lambda: gradcheck(lambda v: [v] * 1000, x),  # type: ignore[arg-type,return-value]
        lambda: gradcheck(lambda v: v.relu() if v > 2 else v * 3, x),
        lambda: gradcheck(square, x * 2),
    ]
    for call in calls:
        with pytest.raises((TypeError, ValueError, ArithmeticError)) as caught:
            call()
        assert max(map(len, str(caught.value).splitlines())) < 500


def test_tolerances_are_those_of_the_documentation() -> None:
    almost = operation(lambda x: x**2, lambda x, _: 2 * x * (1 + 5e-4))
    assert gradcheck(almost, 2.0)
    with pytest.raises(ArithmeticError):
        gradcheck(almost, 2.0, rtol=1e-4)
    assert gradcheck(almost, 2.0, rtol=0, atol=0.01)
