"""Cualquier cosa en cualquier función: un resultado, o un error con palabras nuestras.

Hypothesis inventa los argumentos, malos y buenos mezclados. Un error vale si es TypeError,
ValueError o ArithmeticError y salió de un `raise` de Michigrad, no de Python en el medio de una
cuenta; y después de un error, el modelo tiene que estar como antes.
"""

from __future__ import annotations

import linecache
import random
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import michigrad
from michigrad import functional, nn, optim
from michigrad.autograd import grad
from michigrad.engine import Value
from michigrad.gradcheck import gradcheck

PACKAGE = Path(michigrad.__file__).parent

random.seed(0)
W = Value(0.5, name='w')
NEURON, LAYER, MLP = nn.Neuron(2), nn.Layer(2, 2), nn.MLP(2, [2, 1])
SEQUENTIAL = nn.Sequential(nn.Layer(2, 2), nn.Tanh(), nn.Layer(2, 3), nn.Softmax())
MODELS = (NEURON, LAYER, MLP, SEQUENTIAL)

SELF_CONTAINED: list[Any] = []
SELF_CONTAINED.append(SELF_CONTAINED)

NUMBERS = st.one_of(
    st.integers(-3, 4),
    st.floats(-3, 3),
    st.sampled_from([0, 1, 1.0, -1, 0.5, True]),
    st.sampled_from([float('nan'), float('inf'), -float('inf'), 1e308, -1e308, 5e-324, -0.0]),
    st.sampled_from([10**9, -(10**30), 10**308, 10**400, 10**5000, Fraction(1, 3)]),
    st.sampled_from([np.float32(0.5), np.int64(2), np.array(1.5), np.array(2)]),
)
VALUES = st.one_of(st.builds(Value, st.floats()), st.builds(lambda: Value(2.0) * 3), st.just(W))
FOREIGN = st.one_of(
    st.text(max_size=3),
    st.sampled_from(['un texto largo ' * 50, list(range(1000)), [10**5000], {'clave': 10**5000}]),
    st.sampled_from([None, b'ab', 1j, Decimal('0.5'), object(), object, Value, len, Ellipsis]),
    st.sampled_from([nn.Tanh, nn.Tanh(), np.array([]), np.array([1.0, 2.0]), np.ones((2, 2))]),
    st.sampled_from([range(2), range(0), SELF_CONTAINED, np.array(None), np.array([W, None])]),
    st.builds(lambda: iter([1.0, 2.0])),
    st.dictionaries(st.sampled_from(['w0', 'w1', 'b', 'otra']), NUMBERS, max_size=3),
    st.sets(st.integers(0, 3), max_size=2),
)
SCALARS = st.one_of(NUMBERS, VALUES, FOREIGN)
GOOD = st.one_of(NUMBERS, VALUES)
ANYTHING = st.one_of(
    SCALARS,
    st.lists(SCALARS, max_size=3),
    st.lists(st.lists(SCALARS, max_size=3), max_size=3),
    st.lists(GOOD, min_size=2, max_size=2),
    st.lists(st.lists(GOOD, min_size=2, max_size=2), max_size=2),
    st.lists(GOOD, min_size=1, max_size=3).map(tuple),
    st.lists(st.integers(0, 2), max_size=3),
    st.lists(st.sampled_from([nn.Tanh(), nn.Softmax()]), max_size=2),
)
REDUCTIONS = st.one_of(st.sampled_from(['mean', 'sum', 'none', '']), SCALARS)


def with_entry(name: str, number: Any) -> dict[str, Any]:
    return {**NEURON.state_dict(), name: number}


def step(optimizer: Any, attribute: str, junk: Any) -> None:
    params = [Value(1.0), Value(2.0), Value(3.0)]
    driver = optimizer(params, lr=0.5)
    for p in params:
        p.grad = 1.0
    setattr(params[1], attribute, junk)
    try:
        driver.step()
    except Exception:
        assert params[0].data == 1.0
        assert params[2].data == 3.0
        raise


def assign(optimizer: Any, name: str, junk: Any) -> None:
    driver = optimizer([Value(1.0)])
    before = repr(driver.state_dict())
    try:
        setattr(driver, name, junk)
    except Exception:
        assert repr(driver.state_dict()) == before
        raise
    driver.step()


def load(key: str, junk: Any) -> None:
    driver = optim.Adam([Value(1.0)])
    before = driver.state_dict()
    try:
        driver.load_state_dict({**before, key: junk} if key else junk)
    except Exception:
        assert driver.state_dict() == before
        raise


def clip(grad: Any) -> None:
    w, x = Value(1.0), Value(2.0)
    w.grad, x.grad = 3.0, grad
    try:
        optim.clip_grad_norm_([w, x], 1.0)
    except Exception:
        assert w.grad == 3.0
        raise


class Own(nn.Module):
    """Un módulo propio con cualquier cosa en sus parámetros."""

    def __init__(self, found: Any) -> None:
        self.found = found

    def parameters(self) -> Any:
        return self.found


def own_module(found: Any) -> None:
    Own(found).state_dict()
    Own(found).zero_grad()


def own_neuron(neuron: Any) -> None:
    layer = nn.Layer(2, 2)
    layer.neurons[0] = neuron
    nn.Sequential(layer)


def assigned(field: str, junk: Any) -> None:
    """Un nodo con cualquier cosa en `data` o `grad`: se opera, se deriva y se escribe."""
    w, x = Value(0.5, name='w'), Value(2.0)
    out = w * x
    setattr(w, field, junk)
    try:
        for use in (lambda: (x - w) * w, lambda: w.tanh() / x, lambda: f'{w:.2f}', out.backward):
            use()
    except Exception:
        assert x.grad == 0
        assert out.grad == 0
        raise


def own_operation(children: Any, op: Any, rule: Any) -> None:
    out = Value(1.0, children, op)
    out._backward = rule
    if out._prev:
        (out * W).backward()


def backward(data: Any, operation: str) -> None:
    getattr(Value(data), operation)().backward()


LOSSES: tuple[Callable[..., Value], ...] = (
    functional.mse_loss,
    functional.hinge_loss,
    functional.binary_cross_entropy,
    functional.binary_cross_entropy_with_logits,
    functional.cross_entropy,
    functional.nll_loss,
)
UNARY = (
    *('exp', 'log', 'sqrt', 'sin', 'cos', 'tanh', 'sigmoid', 'softplus', 'relu'),
    *('__neg__', '__abs__'),
)
A, R = ANYTHING, REDUCTIONS
make: Any = Value  # para lo que mypy también rechaza
CALLS: list[tuple[str, Callable[..., Any], tuple[Any, ...]]] = [
    ('Value(a)', Value, (A,)),
    ('Value(1.0, a, b, c)', lambda a, b, c: Value(1.0, a, b, c), (A, A, A)),
    ('w + a', lambda a: W + a, (A,)),
    ('a + w', lambda a: a + W, (A,)),
    ('w - a', lambda a: W - a, (A,)),
    ('a - w', lambda a: a - W, (A,)),
    ('w * a', lambda a: W * a, (A,)),
    ('a * w', lambda a: a * W, (A,)),
    ('w / a', lambda a: W / a, (A,)),
    ('a / w', lambda a: a / W, (A,)),
    ('w ** a', lambda a: W**a, (A,)),
    ('a ** w', lambda a: a**W, (A,)),
    ('w.maximum(a)', W.maximum, (A,)),
    ('w.minimum(a)', W.minimum, (A,)),
    ('w.clip(a, b)', W.clip, (A, A)),
    ('Value(2.0, label=a)', lambda a: make(2.0, label=a), (A,)),
    ('w.data = a', lambda a: assigned('data', a), (A,)),
    ('w.grad = a', lambda a: assigned('grad', a), (A,)),
    ('Value(1.0, a, b)._backward = c', own_operation, (A, A, A.filter(lambda a: not callable(a)))),
    ('a > w', lambda a: a > W, (A,)),
    ('a <= w', lambda a: a <= W, (A,)),
    ('Value(a) ** Value(b)', lambda a, b: (Value(a) ** Value(b)).backward(), (NUMBERS, NUMBERS)),
    *((f'{op}', lambda a, op=op: backward(a, op), (A,)) for op in UNARY),
    ('Neuron(a)', nn.Neuron, (A,)),
    ('Layer(a, b)', nn.Layer, (A, A)),
    ('MLP(a, b)', nn.MLP, (A, A)),
    ('Neuron(2, nonlin=a)', lambda a: nn.Neuron(2, nonlin=a), (A,)),
    ('MLP(2, [2, 1], nonlin=a)', lambda a: nn.MLP(2, [2, 1], nonlin=a), (A,)),
    ('MLP(2, b)', lambda b: nn.MLP(2, b), (A,)),
    ('Sequential(a, b)', nn.Sequential, (A, A)),
    ('Sequential(a)', nn.Sequential, (A,)),
    ('neuron(a)', NEURON, (A,)),
    ('layer(a)', LAYER, (A,)),
    ('mlp(a)', MLP, (A,)),
    ('sequential(a)', SEQUENTIAL, (A,)),
    ('ReLU()(a)', nn.ReLU(), (A,)),
    ('Tanh()(a)', nn.Tanh(), (A,)),
    ('Sigmoid()(a)', nn.Sigmoid(), (A,)),
    ('Softmax()(a)', nn.Softmax(), (A,)),
    ('Softplus()(a)', nn.Softplus(), (A,)),
    ('Linear(a, b)', nn.Linear, (A, A)),
    ('Layer(2, 2, nonlin=a)', lambda a: nn.Layer(2, 2, nonlin=a), (A,)),
    ('Layer(2, 2, foo=a)', lambda a: nn.Layer(2, 2, foo=a), (A,)),
    ('MLP(a)', nn.MLP, (A,)),
    ('parameters() da a', own_module, (A,)),
    ('layer.neurons[0] = a', own_neuron, (A,)),
    *(
        (f'{name}(a, b)', getattr(nn.init, name), (A, A))
        for name in ('kaiming_uniform_', 'kaiming_normal_', 'xavier_uniform_', 'xavier_normal_')
    ),
    ('xavier_normal_(w, a)', lambda a: nn.init.xavier_normal_([[W]], a), (A,)),
    ('kaiming_normal_(w, a)', lambda a: nn.init.kaiming_normal_([[W]], a), (A,)),
    ('load_state_dict(a)', lambda a: NEURON.load_state_dict(a), (A,)),
    ('load_state_dict(b=a)', lambda a: NEURON.load_state_dict(with_entry('b', a)), (A,)),
    ('softmax(a)', functional.softmax, (A,)),
    ('log_softmax(a)', functional.log_softmax, (A,)),
    ('softplus(a)', functional.softplus, (A,)),
    (
        'cross_entropy(z, 0, smoothing=a)',
        lambda a: functional.cross_entropy([1.0, W], 0, label_smoothing=a),
        (A,),
    ),
    *((f'{loss.__name__}(a, b, c)', loss, (A, A, R)) for loss in LOSSES),
    ('mse_loss(a, a)', lambda a: functional.mse_loss(a, a), (A,)),
    *(
        (f'{loss.__name__}([a], [b])', lambda a, b, loss=loss: loss([a], [b]), (SCALARS, SCALARS))
        for loss in LOSSES
    ),
    ('cross_entropy(z, b)', lambda b: functional.cross_entropy([1.0, W], b), (A,)),
    ('cross_entropy(a, 0)', lambda a: functional.cross_entropy(a, 0), (A,)),
    ('SGD(a, lr=b)', lambda a, b: optim.SGD(a, lr=b), (A, A)),
    ('SGD([w], a, b, c, d)', lambda *a: optim.SGD([W], *a), (A, A, SCALARS, A)),
    ('Adam(a)', optim.Adam, (A,)),
    ('Adam([w], a, b, c, d)', lambda *a: optim.Adam([W], *a), (A, A, A, A)),
    ('Adam([w], betas=a)', lambda a: optim.Adam([W], betas=a), (A,)),
    ('AdamW([w], a, b, c, d)', lambda *a: optim.AdamW([W], *a), (A, A, A, A)),
    ('AdamW(a)', optim.AdamW, (A,)),
    *(
        (f'SGD.{name} = a', lambda a, name=name: assign(optim.SGD, name, a), (A,))
        for name in ('lr', 'momentum', 'nesterov', 'weight_decay')
    ),
    *(
        (f'Adam.{name} = a', lambda a, name=name: assign(optim.Adam, name, a), (A,))
        for name in ('betas', 'eps')
    ),
    *(
        (f'optimizer.load_state_dict({name}=a)', lambda a, name=name: load(name, a), (A,))
        for name in ('', 'lr', 'betas', 'step', 'exp_avg', 'exp_avg_sq', 'otra')
    ),
    ('AdamW.step, grad = a', lambda a: step(optim.AdamW, 'grad', a), (A,)),
    ('Adam.step, data = a', lambda a: step(optim.Adam, 'data', a), (A,)),
    ('clip_grad_norm_(a, b)', optim.clip_grad_norm_, (A, A)),
    ('clip_grad_norm_([w], a)', lambda a: optim.clip_grad_norm_([Value(1.0)], a), (A,)),
    ('clip_grad_norm_, grad = a', clip, (A,)),
    ('grad(a, b)', grad, (A, A)),
    ('grad(w * 2, a)', lambda a: grad(W * 2, a), (A,)),
    ('SGD.step, grad = a', lambda a: step(optim.SGD, 'grad', a), (A,)),
    ('SGD.step, data = a', lambda a: step(optim.SGD, 'data', a), (A,)),
    ('Adam.step, grad = a', lambda a: step(optim.Adam, 'grad', a), (A,)),
    ('gradcheck(a, b)', gradcheck, (A.filter(lambda a: not callable(a)), A)),
    ('gradcheck(f, a, b)', lambda a, b: gradcheck(lambda x, y: x * y, a, b), (A, A)),
    ('gradcheck(f returns a)', lambda a: gradcheck(lambda _: a, 1.0), (A,)),
    ('gradcheck(eps=a)', lambda a: gradcheck(Value.tanh, 0.5, eps=a), (A,)),
    ('gradcheck(atol=a, rtol=b)', lambda a, b: gradcheck(Value.tanh, 0.5, atol=a, rtol=b), (A, A)),
]
EXAMPLES = 100


def assert_in_our_own_words(error: Exception) -> None:
    traceback = error.__traceback__
    assert traceback is not None
    while traceback.tb_next is not None:
        traceback = traceback.tb_next
    filename = traceback.tb_frame.f_code.co_filename
    assert Path(filename).parent == PACKAGE, f'{error!r} salió de {filename}'
    line = linecache.getline(filename, traceback.tb_lineno).strip()
    assert line.startswith('raise'), f'{error!r} salió de {line!r}'
    assert 10 < len(str(error)) < 400 or 'gradcheck encontró' in str(error)


def test_there_are_enough_cases() -> None:
    assert len(CALLS) * EXAMPLES >= 2000


@pytest.mark.parametrize(('name', 'call', 'arguments'), CALLS, ids=[name for name, _, _ in CALLS])
def test_a_result_or_an_error_in_our_own_words(
    name: str, call: Callable[..., Any], arguments: tuple[Any, ...]
) -> None:
    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        derandomize=True,
        suppress_health_check=[HealthCheck.too_slow],
    )
    @given(st.tuples(*arguments))
    def run(junk: tuple[Any, ...]) -> None:
        before = [(repr(m.state_dict()), m.named_parameters()) for m in MODELS]
        try:
            call(*junk)
        except (TypeError, ValueError, ArithmeticError) as error:
            assert_in_our_own_words(error)
            after = [(repr(m.state_dict()), m.named_parameters()) for m in MODELS]
            assert after == before

    run()
