"""Los optimizadores contra torch.optim, sobre Values y sobre arrays de numpy, y sus errores."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from michigrad import nn, optim
from michigrad._numbers import short
from michigrad.engine import Value
from michigrad.functional import mse_loss
from michigrad.optim import SGD, Adam, AdamW, clip_grad_norm_
from tests import torch_nn
from tests.helpers import close
from tests.needs import need
from tests.torch_nn import OPTIMIZERS, WEIGHTS

REFERENCE = json.loads(torch_nn.PATH.read_text(encoding='utf-8'))

EACH_OPTION = pytest.mark.parametrize('case', OPTIMIZERS, ids=torch_nn.key)


@EACH_OPTION
def test_equals_recorded_pytorch(case: tuple[str, dict[str, Any]]) -> None:
    name, options = case
    weights = [Value(w) for w in WEIGHTS]
    optimizer = getattr(optim, name)(weights, **options)
    after = torch_nn.weights_after_steps(optimizer, weights)
    for got, expected in zip(after, REFERENCE[torch_nn.key(case)], strict=True):
        assert got == close(expected)


@EACH_OPTION
def test_recorded_pytorch_is_up_to_date(case: tuple[str, dict[str, Any]]) -> None:
    need('torch')
    for got, expected in zip(
        REFERENCE[torch_nn.key(case)], torch_nn.evaluate_optimizer(case), strict=True
    ):
        assert got == close(expected)


class Arrays:
    """Un parámetro con muchos números: data y grad son arrays."""

    def __init__(self, data: Any) -> None:
        self.data = np.array(data)
        self.grad: Any = np.zeros_like(self.data)


@EACH_OPTION
def test_drives_arrays_like_values(case: tuple[str, dict[str, Any]]) -> None:
    name, options = case
    values, arrays = [Value(w) for w in WEIGHTS], Arrays(WEIGHTS)
    original = arrays.data
    drivers = [getattr(optim, name)(params, **options) for params in (values, [arrays])]
    for step in range(4):
        for driver in drivers:
            driver.zero_grad()
        for i, v in enumerate(values):
            v.grad = math.sin(step * 5 + i)
        arrays.grad = np.array([v.grad for v in values])
        for driver in drivers:
            driver.step()
        assert arrays.data.tolist() == [v.data for v in values]
    assert arrays.data is original  # los cambia en el lugar


def test_gradient_arrays_may_be_reused() -> None:
    arrays = Arrays([1.0, 2.0])
    optimizer = SGD([arrays], lr=1.0, momentum=0.5)
    grad = np.ones(2)
    arrays.grad = grad
    optimizer.step()
    grad[:] = 0  # el momentum no puede guardar este array, sino sus números
    optimizer.step()
    assert arrays.data.tolist() == [-0.5, 0.5]


def test_defaults_are_those_of_pytorch() -> None:
    adam = Adam([Value(1.0)])
    assert (adam.lr, adam.betas, adam.eps, adam.weight_decay) == (1e-3, (0.9, 0.999), 1e-8, 0)
    sgd = SGD([Value(1.0)], 0.1)
    assert (sgd.lr, sgd.momentum, sgd.nesterov, sgd.weight_decay) == (0.1, 0, False, 0)
    assert SGD([Value(1.0)]).lr == 1e-3
    assert AdamW([Value(1.0)]).weight_decay == 1e-2


def test_lr_can_change_during_training() -> None:
    w = Value(1.0)
    optimizer = SGD([w], lr=0.5)
    w.grad = 1.0
    optimizer.step()
    optimizer.lr *= 0.5
    optimizer.step()
    assert w.data == 0.25
    with pytest.raises(ValueError, match='lr tiene que ser'):
        optimizer.lr = -1
    assert optimizer.lr == 0.25


@pytest.mark.parametrize(
    ('name', 'junk', 'error'),
    [
        ('lr', 'x', TypeError),
        ('lr', math.inf, ValueError),
        ('momentum', 'x', TypeError),
        ('momentum', -0.5, ValueError),
        ('weight_decay', -5, ValueError),
        ('weight_decay', None, TypeError),
        ('nesterov', 1, TypeError),
        ('betas', (0.9, 2), ValueError),
        ('betas', 0.9, TypeError),
        ('eps', [1e-8], TypeError),
    ],
)
def test_what_is_assigned_later_is_checked_too(
    name: str, junk: Any, error: type[Exception]
) -> None:
    kind = Adam if name in ('betas', 'eps') else SGD
    optimizer = kind([Value(1.0)])
    before = getattr(optimizer, name)
    with pytest.raises(error, match='β₂' if junk == (0.9, 2) else name):
        setattr(optimizer, name, junk)
    assert getattr(optimizer, name) == before


def test_zero_grad_and_state_stay_out_of_value() -> None:
    w = Value(1.0)
    optimizer = Adam([w])
    w.grad = 3.0
    optimizer.step()
    optimizer.zero_grad()
    assert w.grad == 0
    assert type(w.grad) is int
    assert vars(w) == {}


def test_a_parameter_outside_the_loss_still_moves() -> None:
    """Como en PyTorch con zero_grad(set_to_none=False): lo dice la documentación."""
    torch = need('torch')
    values = [Value(1.0), Value(1.0)]
    tensors = [torch.ones((), dtype=torch.float64, requires_grad=True) for _ in range(2)]
    options: dict[str, Any] = {'lr': 0.1, 'momentum': 0.9, 'weight_decay': 0.1}
    ours, theirs = SGD(values, **options), torch.optim.SGD(tensors, **options)
    for used in ([0, 1], [0], [0]):
        ours.zero_grad()
        theirs.zero_grad(set_to_none=False)
        for i in used:
            (values[i] ** 2).backward()
            (tensors[i] ** 2).backward()
        ours.step()
        theirs.step()
    assert [v.data for v in values] == close([t.item() for t in tensors])


def test_accepts_any_iterable_of_parameters() -> None:
    model = nn.MLP(2, [3, 1])
    assert SGD(iter(model.parameters()), lr=0.1).params == model.parameters()


W = Value(1.0, name='w')


@pytest.mark.parametrize(
    ('call', 'error', 'message'),
    [
        (lambda: SGD([], lr=0.1), ValueError, 'params está vacía'),
        (lambda: SGD(W, lr=0.1), TypeError, r'como red.parameters\(\) o \[w, b\]'),  # type: ignore[arg-type]
        (lambda: SGD(nn.MLP(2, [1]), lr=0.1), TypeError, r'red.parameters\(\)'),  # type: ignore[arg-type]
        (lambda: SGD(None, lr=0.1), TypeError, 'llegó None'),  # type: ignore[arg-type]
        (lambda: SGD('wb', lr=0.1), TypeError, "en la posición 0 llegó 'w'"),
        (lambda: SGD([W, 0.5], lr=0.1), TypeError, 'en la posición 1 llegó 0.5'),
        (lambda: SGD([W, W], lr=0.1), ValueError, 'repetido'),
        (lambda: SGD([W * 2], lr=0.1), ValueError, r"la operación '\*': .* usá Value\(v.data\)"),
        (lambda: SGD(nn.MLP(2, [1]).parameters, lr=0.1), TypeError, r'paréntesis: parameters\(\)'),  # type: ignore[arg-type]
        (lambda: SGD([10**5000], lr=0.1), TypeError, 'llegó un entero de unas 5000 cifras'),
        (lambda: SGD([W], lr=-(10**300)), ValueError, 'llegó un entero de unas 300 cifras'),
        (lambda: SGD([W], lr=-0.1), ValueError, 'lr tiene que ser un número desde 0: llegó -0.1'),
        (lambda: SGD([W], lr=math.nan), ValueError, 'lr .* llegó nan'),
        (lambda: SGD([W], lr='0.1'), TypeError, "lr: se esperaba un número real y llegó '0.1'"),  # type: ignore[arg-type]
        (lambda: SGD([W], lr=10**400), OverflowError, 'lr: el número no entra'),
        (lambda: SGD([W], 0.1, momentum=-1), ValueError, 'momentum'),
        (lambda: SGD([W], 0.1, weight_decay=-1), ValueError, 'weight_decay'),
        (lambda: SGD([W], 0.1, nesterov='sí'), TypeError, "True o False: llegó 'sí'"),  # type: ignore[arg-type]
        (lambda: SGD([W], 0.1, nesterov=True), ValueError, 'nesterov necesita momentum'),
        (lambda: Adam([W], betas=(0.9, 1.0)), ValueError, 'β₂ .* y menor que 1: llegó 1.0'),
        (lambda: Adam([W], betas=0.9), TypeError, 'betas son dos números'),  # type: ignore[arg-type]
        (lambda: Adam([W], betas=(0.9,)), TypeError, 'betas son dos números'),  # type: ignore[arg-type]
        (lambda: Adam([W], eps=-1), ValueError, 'eps'),
    ],
)
def test_errors_say_what_to_write(call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()


KINDS: list[Callable[..., Any]] = [
    SGD,
    lambda params, lr: SGD(params, lr, momentum=0.9),
    Adam,
    AdamW,
]


@pytest.mark.parametrize('kind', KINDS)
@pytest.mark.parametrize(
    ('attribute', 'junk', 'message'),
    [
        ('grad', None, r'grad de w1 .* None \(NoneType\): .* zero_grad\(\) \(.* posición 1 de'),
        ('grad', 'a', "grad de w1 .* 'a'"),
        ('grad', [1.0], 'grad de w1'),
        ('grad', np.ones(3), r'grad de w1 .* \(ndarray\)'),
        ('grad', 2j, r'grad de w1 .* \(complex\)'),
        ('grad', Value(1.0), r'grad de w1 .* \(Value\)'),
        ('data', [2.0], 'data de w1'),
        ('data', None, 'data de w1'),
        ('data', np.ones(2), r'data de w1 .* \(ndarray\)'),
        ('grad', 10**400, 'w1 .* 400 cifras'),
        ('grad', 10**5000, 'w1 .* 5000 cifras'),
    ],
    ids=short,
)
def test_a_step_that_fails_changes_nothing(
    kind: Any, attribute: str, junk: Any, message: str
) -> None:
    params = [Value(1.0, name=f'w{i}') for i in range(3)]
    driver = kind(params, lr=0.1)
    for p in params:
        p.grad = 1.0
    driver.step()
    once = [p.data for p in params]
    good = getattr(params[1], attribute)
    setattr(params[1], attribute, junk)
    with pytest.raises((TypeError, OverflowError), match=message):
        driver.step()
    setattr(params[1], attribute, good)
    assert [p.data for p in params] == once
    driver.step()
    assert params[0].data == params[1].data != once[0]


class Fragile:
    """Un parámetro al que no siempre se le puede asignar."""

    error: BaseException | None = None

    def __init__(self) -> None:
        self.data, self.grad = 3.0, 1.0

    def __setattr__(self, name: str, x: Any) -> None:
        super().__setattr__(name, x)
        if name == 'data' and self.error:
            error, self.error = self.error, None
            raise error


@pytest.mark.parametrize('kind', KINDS)
@pytest.mark.parametrize('error', [KeyboardInterrupt(), ValueError('x'), RuntimeError('x')])
def test_an_interrupted_step_changes_nothing_in_arrays_either(kind: Any, error: Any) -> None:
    """El array es el mismo antes y después: hay que devolverle los números que tenía."""
    w, arrays, fragile = Value(4.0), Arrays([1.0, 2.0]), Fragile()
    array = arrays.data
    driver, reference = kind([w, arrays, fragile], lr=0.1), kind([Value(4.0)], lr=0.1)
    w.grad, arrays.grad = 1.0, np.ones(2)
    fragile.error = error
    with pytest.raises(type(error)):
        driver.step()
    assert arrays.data is array
    assert (w.data, array.tolist(), fragile.data) == (4.0, [1.0, 2.0], 3.0)
    reference.params[0].grad = 1.0
    for _ in range(2):  # tampoco avanzó su memoria
        driver.step()
        reference.step()
    assert w.data == reference.params[0].data
    assert arrays.data is array


@pytest.mark.parametrize(
    'grad',
    [
        np.ones(3),
        np.ones((2, 1)),
        None,
        'a',
        np.array(['a', 'b']),
        np.array([1j, 2]),
        np.array([1.0, None]),
        Value(1.0),
        [1.0, 2.0],
    ],
)
def test_a_gradient_that_does_not_fit_an_array_changes_nothing(grad: Any) -> None:
    first, second = Arrays([1.0, 2.0]), Arrays([3.0, 4.0])
    driver = SGD([first, second], lr=0.5)
    first.grad, second.grad = np.ones(2), grad
    with pytest.raises((TypeError, ValueError), match='en la posición 1 de params'):
        driver.step()
    assert (first.data.tolist(), second.data.tolist()) == ([1.0, 2.0], [3.0, 4.0])


def test_an_array_of_ints_is_told() -> None:
    weights = Arrays([1, 2])
    weights.grad = np.ones(2)
    with pytest.raises(TypeError, match='arrays de floats: llegaron int64 y float64'):
        SGD([weights], lr=0.5).step()
    assert weights.data.tolist() == [1, 2]


def test_numpy_numbers_become_floats() -> None:
    w = Value(1.0)
    number: Any = np.float32(0.5)
    w.grad = number
    SGD([w], lr=1).step()
    assert w.data == 0.5
    assert type(w.data) is float


@pytest.mark.parametrize(
    'change',
    [
        lambda params: params.append(Value(1.0)),
        lambda params: params.pop(),
        lambda params: params.reverse(),
        lambda params: params.__setitem__(0, 'w'),
    ],
)
def test_params_cannot_change_later(change: Any) -> None:
    optimizer = Adam([Value(1.0), Value(2.0)])
    change(optimizer.params)
    for call in (optimizer.step, optimizer.zero_grad, optimizer.state_dict):
        with pytest.raises(ValueError, match=r'params cambió .* armá otro, Adam\(params, lr\)'):
            call()


def test_adam_without_eps_cannot_divide_by_zero() -> None:
    w = Value(1.0)
    with pytest.raises(ArithmeticError, match='eps es 0'):
        Adam([w], eps=0).step()
    assert w.data == 1.0


# Guardar y seguir

X, Y = [[0.1, 0.7], [1.0, -1.0], [-0.5, 0.2]], [1.0, 1 / 3, -0.25]


def train(model: nn.Module, optimizer: Any, steps: int) -> list[str]:
    """Entrena y devuelve las pérdidas, bit por bit."""
    losses = []
    for _ in range(steps):
        loss = mse_loss([model(x) for x in X], Y)  # type: ignore[operator]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.data.hex())
    return losses


@EACH_OPTION
def test_training_resumes_exactly(case: tuple[str, dict[str, Any]]) -> None:
    name, options = case
    model = nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 1))
    optimizer = getattr(optim, name)(model.parameters(), **options)
    train(model, optimizer, 5)
    optimizer.lr *= 0.5
    saved = json.dumps({'red': model.state_dict(), 'optimizer': optimizer.state_dict()})
    expected = train(model, optimizer, 10)

    again = nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 1))
    resumed = getattr(optim, name)(again.parameters())
    state = json.loads(saved)
    again.load_state_dict(state['red'])
    resumed.load_state_dict(state['optimizer'])
    assert train(again, resumed, 10) == expected
    assert resumed.state_dict() == optimizer.state_dict()


@EACH_OPTION
@pytest.mark.parametrize('steps', [0, 3])
def test_the_state_of_arrays_goes_through_json(
    case: tuple[str, dict[str, Any]], steps: int
) -> None:
    name, options = case
    rng = np.random.default_rng(0)
    data, grads = rng.normal(size=(2, 3)), rng.normal(size=(8, 2, 3))

    def move(weights: Arrays, driver: Any, chosen: Any) -> None:
        for grad in chosen:
            weights.grad = grad
            driver.step()

    weights = Arrays(data)
    driver = getattr(optim, name)([weights], **options)
    move(weights, driver, grads[:steps])
    again = Arrays(weights.data)
    resumed = getattr(optim, name)([again])
    resumed.load_state_dict(json.loads(json.dumps(driver.state_dict())))
    move(weights, driver, grads[steps:])
    move(again, resumed, grads[steps:])
    assert again.data.tolist() == weights.data.tolist()


def test_the_state_is_plain_and_named_as_in_pytorch() -> None:
    w = Value(1.0)
    adam = Adam([w], lr=0.5)
    w.grad = 2.0
    adam.step()
    assert adam.state_dict() == {
        'lr': 0.5,
        'weight_decay': 0,
        'betas': [0.9, 0.999],
        'eps': 1e-8,
        'step': 1,
        'exp_avg': [pytest.approx(0.2)],
        'exp_avg_sq': [pytest.approx(0.004)],
    }
    number: Any = np.float32(0.25)
    sgd = SGD([w], lr=number, momentum=0.5)
    w.grad = number
    sgd.step()
    assert repr(sgd.state_dict()) == (
        "{'lr': 0.25, 'weight_decay': 0, 'momentum': 0.5, 'nesterov': False, "
        "'momentum_buffer': [0.25]}"
    )


@pytest.mark.parametrize(
    ('change', 'error', 'message'),
    [
        (lambda s: s.pop('step'), ValueError, r"no es de Adam: faltan \['step'\] y sobran \[\]"),
        (lambda s: s.update(momentum=1), ValueError, r"sobran \['momentum'\]"),
        (lambda s: s.update(lr=-1), ValueError, 'lr'),
        (lambda s: s.update(lr='x'), TypeError, 'lr'),
        (lambda s: s.update(betas=[0.9]), TypeError, 'betas'),
        (lambda s: s.update(step=None), TypeError, 'step'),
        (lambda s: s.update(step=-1), ValueError, 'step'),
        (lambda s: s.update(step=2.5), ValueError, 'step es .* un int: llegó 2.5'),
        (lambda s: s.update(exp_avg=[0.0]), ValueError, 'exp_avg .* que son 2'),
        (lambda s: s.update(exp_avg=[0.0, 'x']), TypeError, "exp_avg: .* llegó 'x'"),
        (lambda s: s.update(exp_avg_sq=0.0), ValueError, 'exp_avg_sq es una lista'),
        (lambda s: s.update(exp_avg_sq=[0.0, [1.0]]), TypeError, 'exp_avg_sq'),
        (lambda s: s.update(exp_avg_sq=[10**400, 0.0]), OverflowError, 'exp_avg_sq'),
    ],
)
def test_loading_is_all_or_nothing(change: Any, error: type[Exception], message: str) -> None:
    w, b = Value(1.0), Value(2.0)
    optimizer = Adam([w, b], lr=0.1)
    w.grad = 3.0
    optimizer.step()
    before = optimizer.state_dict()
    state = copy.deepcopy(before) | {'lr': 0.7, 'exp_avg': [0.0, 0.0]}
    change(state)
    with pytest.raises(error, match=message):
        optimizer.load_state_dict(state)
    assert optimizer.state_dict() == before


def test_loading_says_what_to_write() -> None:
    optimizer = SGD([Value(1.0)])
    with pytest.raises(TypeError, match=r'te faltaron los paréntesis: state_dict\(\)'):
        optimizer.load_state_dict(optimizer.state_dict)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match='no es de SGD'):
        optimizer.load_state_dict(Adam([Value(1.0)]).state_dict())
    arrays = SGD([Arrays([1.0, 2.0])])
    state = arrays.state_dict() | {'momentum_buffer': [[0.0]]}
    with pytest.raises(ValueError, match=r'tiene forma \(1,\) y el parámetro \(2,\)'):
        arrays.load_state_dict(state)


# clip_grad_norm_

GRADS = st.one_of(st.floats(-10, 10), st.floats(-1e150, 1e150), st.just(0.0))


@settings(deadline=None)
@given(st.lists(GRADS, min_size=1, max_size=6), st.sampled_from([0.0, 0.5, 1.0, 3.7, 1e9]))
def test_clipping_equals_pytorch(grads: list[float], max_norm: float) -> None:
    torch = need('torch')
    values = [Value(0.0) for _ in grads]
    arrays = Arrays(np.zeros(len(grads)))
    tensors = [torch.zeros((), dtype=torch.float64, requires_grad=True) for _ in grads]
    for v, t, g in zip(values, tensors, grads, strict=True):
        v.grad = g
        t.grad = torch.tensor(g, dtype=torch.float64)
    arrays.grad = np.array(grads)
    expected = torch.nn.utils.clip_grad_norm_(tensors, max_norm).item()
    assert clip_grad_norm_(values, max_norm) == pytest.approx(expected, rel=1e-12, abs=1e-150)
    assert clip_grad_norm_([arrays], max_norm) == pytest.approx(expected, rel=1e-12, abs=1e-150)
    after = [t.grad.item() for t in tensors]
    assert [v.grad for v in values] == pytest.approx(after, rel=1e-12, abs=1e-150)
    assert arrays.grad.tolist() == pytest.approx(after, rel=1e-12, abs=1e-150)


@pytest.mark.parametrize(
    ('call', 'error', 'message'),
    [
        (lambda w: clip_grad_norm_(w, -1), ValueError, 'max_norm'),
        (lambda w: clip_grad_norm_([], 1), ValueError, 'vacía'),
        (lambda w: clip_grad_norm_(w, None), TypeError, 'max_norm'),  # type: ignore[arg-type]
        (lambda w: clip_grad_norm_(w.exp, 1), TypeError, r'te faltaron los paréntesis: exp\(\)'),
        (lambda w: clip_grad_norm_([w, Value(1.0) * 2], 1), ValueError, 'la operación'),
    ],
)
def test_clipping_errors(call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call(Value(1.0))


def test_clipping_to_infinity_only_measures() -> None:
    w, b = Value(1.0), Value(1.0)
    w.grad, b.grad = 3.0, 4.0
    assert clip_grad_norm_([w, b], math.inf) == 5.0
    assert (w.grad, b.grad) == (3.0, 4.0)


@pytest.mark.parametrize('grad', [math.inf, math.nan, None, 'a'])
def test_clipping_refuses_what_is_not_finite_and_changes_nothing(grad: Any) -> None:
    w, b = Value(1.0), Value(1.0, name='b')
    w.grad, b.grad = 30.0, grad
    with pytest.raises((ArithmeticError, TypeError), match=r'inf o nan|grad de b'):
        clip_grad_norm_([w, b], 1)
    assert w.grad == 30.0
