"""Las redes: Sequential, activaciones, nombres, guardar y cargar, módulos propios y errores."""

from __future__ import annotations

import copy
import json
import math
import pickle
import random
from typing import Any

import numpy as np
import pytest

from michigrad.engine import Value, topological_order
from michigrad.functional import mse_loss
from michigrad.nn import MLP, Layer, Module, Neuron, ReLU, Sequential, Sigmoid, Softmax, Tanh
from michigrad.optim import SGD, Adam


@pytest.fixture(autouse=True)
def seed() -> None:
    random.seed(1)


class Scale(Module):
    """Un módulo como el que escribiría un estudiante: solo parameters y __call__."""

    def __init__(self, *names: str) -> None:
        self.k = [Value(2.0, name=name) for name in names]

    def parameters(self) -> list[Value]:
        return self.k

    def __call__(self, x: Any) -> Any:
        return [xi * k for xi, k in zip(x, self.k, strict=True)]


def xor_network() -> Sequential:
    return Sequential(Layer(2, 4, nonlin=False), Tanh(), Layer(4, 1, nonlin=False))


def names(module: Module) -> list[str]:
    return [name for name, _ in module.named_parameters()]


# Armar y llamar


def test_sequential_is_its_modules_one_after_another() -> None:
    model = xor_network()
    hidden = [neuron([1.0, -2.0]).tanh() for neuron in model.layers[0].neurons]
    assert model([1.0, -2.0]).data == model.layers[2](hidden).data
    assert len(model.parameters()) == 2 * 4 + 4 + 4 + 1
    assert (
        repr(Sequential(Layer(1, 1), Tanh())) == 'Sequential of [Layer of [ReLUNeuron(1)], Tanh()]'
    )


def test_sequential_takes_modules_or_a_list() -> None:
    modules = [Neuron(2), ReLU()]
    for model in (Sequential(*modules), Sequential(modules), Sequential(tuple(modules))):
        assert model.layers == modules


def test_linear_mlp() -> None:
    model = MLP(nin=2, nouts=[3, 1], nonlin=False)
    assert {type(n).__name__ + repr(n) for layer in model.layers for n in layer.neurons} == {
        'NeuronLinearNeuron(2)',
        'NeuronLinearNeuron(3)',
    }
    a, b, c = (model(x).data for x in ([0.0, 0.0], [1.0, -2.0], [2.0, -4.0]))
    assert c - b == pytest.approx(b - a)


def test_sizes_by_keyword_and_from_numpy() -> None:
    assert len(Neuron(nin=3).w) == 3
    three: Any = np.int64(3)
    assert len(Layer(nin=three, nout=2).neurons) == 2
    assert len(MLP(nin=three, nouts=(4, three)).layers) == 2


@pytest.mark.parametrize(
    'x', [[1, 2.0], (1, 2.0), np.array([1, 2.0]), [Value(1), np.float32(2)], range(1, 3)]
)
def test_inputs(x: Any) -> None:
    layer = Layer(2, 3)
    assert [v.data for v in layer(x)] == [v.data for v in layer([1.0, 2.0])]


def test_a_number_alone_is_an_input_of_one() -> None:
    layer = Layer(1, 2)
    for x in (3.0, Value(3.0), np.array(3.0), [3.0]):
        assert [v.data for v in layer(x)] == [v.data for v in layer([3.0])]


def test_a_network_of_one_output_returns_the_value() -> None:
    assert isinstance(MLP(2, [3, 1])([1.0, 2.0]), Value)
    assert isinstance(Sequential(Layer(2, 1), Sigmoid())([1.0, 2.0]), Value)
    assert len(MLP(2, [3, 2])([1.0, 2.0])) == 2


@pytest.mark.parametrize(
    ('activation', 'function'),
    [
        (ReLU(), lambda x: max(0.0, x)),
        (Tanh(), math.tanh),
        (Sigmoid(), lambda x: 1 / (1 + math.exp(-x))),
    ],
)
def test_activations(activation: Any, function: Any) -> None:
    assert activation(Value(0.7)).data == pytest.approx(function(0.7))
    assert activation(-0.7).data == pytest.approx(function(-0.7))
    for x in ([0.7, Value(-2.0)], (0.7, -2.0), np.array([0.7, -2.0])):
        out = activation(x)
        assert [v.data for v in out] == pytest.approx([function(0.7), function(-2.0)])
    assert activation.parameters() == []


def test_softmax_module() -> None:
    out = Softmax()([1.0, Value(2.0), 3.0])
    assert sum(v.data for v in out) == pytest.approx(1)
    assert Sequential(Layer(2, 3), Softmax())([1.0, 2.0])[0].data < 1
    assert repr([ReLU(), Tanh(), Sigmoid(), Softmax()]) == '[ReLU(), Tanh(), Sigmoid(), Softmax()]'


# Nombres


def test_names_say_layer_neuron_and_parameter() -> None:
    expected = ['L0.N0.w0', 'L0.N0.w1', 'L0.N0.b', 'L0.N1.w0', 'L0.N1.w1', 'L0.N1.b']
    expected += ['L1.N0.w0', 'L1.N0.w1', 'L1.N0.b']
    model = MLP(2, [2, 1])
    assert names(model) == [p.name for p in model.parameters()] == expected
    assert [p for _, p in model.named_parameters()] == model.parameters()
    in_graph = {v.name for v in topological_order(model([1.0, 2.0])) if v.name}
    assert in_graph == set(expected)


def test_in_sequential_the_name_has_the_index_of_the_module() -> None:
    model = Sequential(Layer(1, 1), Tanh(), Sequential(Neuron(1), Scale('k')))
    assert names(model) == ['L0.N0.w0', 'L0.N0.b', 'L2.L0.w0', 'L2.L0.b', 'L2.L1.k']


def test_a_module_that_is_twice_shares_its_parameters() -> None:
    neuron = Neuron(1)
    model = Sequential(neuron, Tanh(), neuron)
    assert names(model) == ['L0.w0', 'L0.b']
    assert model.parameters() == neuron.parameters()
    SGD(model.parameters(), lr=0.1)  # sin repetidos


@pytest.mark.parametrize(
    ('given', 'expected'),
    [
        (('a', 'b'), ['a', 'b']),
        (('a', 'a'), ['p0', 'p1']),
        (('a', ''), ['p0', 'p1']),
        (('p1', ''), ['p0', 'p1']),
        ((), []),
    ],
)
def test_missing_or_repeated_names_become_positions(
    given: tuple[str, ...], expected: list[str]
) -> None:
    assert names(Scale(*given)) == expected
    assert list(Scale(*given).state_dict()) == expected
    assert names(Sequential(Tanh(), Scale(*given))) == [f'L1.{name}' for name in expected]


# Guardar y cargar


def trained() -> Sequential:
    model = xor_network()
    optimizer = Adam(model.parameters(), lr=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        mse_loss([model([0.1, 0.7]), model([1.0, -1.0])], [1.0, 1 / 3]).backward()
        optimizer.step()
    return model


def test_state_dict_goes_through_json_bit_for_bit() -> None:
    model, other = trained(), xor_network()
    state = model.state_dict()
    assert all(type(number) in (int, float) for number in state.values())
    other.load_state_dict(json.loads(json.dumps(state)))
    expected = [p.data.hex() for p in model.parameters()]
    assert [p.data.hex() for p in other.parameters()] == expected
    assert other.state_dict() == state
    assert other([0.3, -0.4]).data == model([0.3, -0.4]).data


def test_state_dict_before_training_and_with_strange_numbers() -> None:
    neuron = Neuron(3)
    for p, number in zip(neuron.parameters(), [-0.0, math.inf, 5e-324, 7], strict=True):
        p.data = number
    other = Neuron(3)
    other.load_state_dict(json.loads(json.dumps(neuron.state_dict())))
    assert repr(other.state_dict()) == repr(neuron.state_dict())
    half: Any = np.float32(0.5)
    neuron.w[0].data = half
    assert repr(neuron.state_dict()['w0']) == '0.5'


@pytest.mark.parametrize(
    ('change', 'error', 'message'),
    [
        (lambda s: s.pop('L2.N0.b'), ValueError, r"faltan \['L2.N0.b'\] y sobran \[\]"),
        (lambda s: s.update(otra=1.0), ValueError, r"faltan \[\] y sobran \['otra'\]"),
        (lambda s: s.update({3: 1.0}), ValueError, r'sobran \[3\]'),
        (lambda s: s.update({'L2.N0.b': 'x'}), TypeError, "L2.N0.b: .* llegó 'x'"),
        (lambda s: s.update({'L2.N0.b': [1.0]}), TypeError, r'L2.N0.b: .* \(list\)'),
        (lambda s: s.update({'L2.N0.b': None}), TypeError, 'L2.N0.b'),
        (lambda s: s.update({'L2.N0.b': 10**400}), OverflowError, 'L2.N0.b'),
    ],
)
def test_loading_is_all_or_nothing(change: Any, error: type[Exception], message: str) -> None:
    model = xor_network()
    before = model.state_dict()
    state: dict[Any, Any] = dict.fromkeys(before, 0.5)
    change(state)
    with pytest.raises(error, match=message):
        model.load_state_dict(state)
    assert model.state_dict() == before


def test_loading_needs_a_dict() -> None:
    with pytest.raises(TypeError, match='state es un dict'):
        xor_network().load_state_dict([1.0])  # type: ignore[arg-type]


@pytest.mark.parametrize('copied', [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_deepcopy_and_pickle(copied: Any) -> None:
    model = Sequential(trained(), Neuron(1), Softmax())
    model([0.5, 0.5]).backward()
    other = copied(model)
    assert repr(other) == repr(model)
    assert other.state_dict() == model.state_dict()
    assert [p.grad for p in other.parameters()] == [p.grad for p in model.parameters()]
    before = model.state_dict()
    for p in other.parameters():
        p.data += 1
    assert model.state_dict() == before


# Módulos propios


class TwoLayers(Module):
    """Junta dos capas: los nombres de sus parámetros se repiten."""

    def __init__(self) -> None:
        self.first, self.second = Layer(2, 2), Layer(2, 1, nonlin=False)

    def parameters(self) -> list[Value]:
        return self.first.parameters() + self.second.parameters()

    def __call__(self, x: Any) -> Any:
        return self.second(self.first(x))


def test_a_module_with_only_parameters_and_call_works_everywhere() -> None:
    model = Sequential(Scale('', ''), TwoLayers(), Sigmoid())
    other = copy.deepcopy(model)
    optimizer = Adam(model.parameters(), lr=0.1)
    losses = []
    for _ in range(20):
        loss = mse_loss(model([1.0, -0.5]), 0.9)
        losses.append(loss.data)
        model.zero_grad()
        loss.backward()
        optimizer.step()
    assert losses[-1] < losses[0]
    assert names(model)[:3] == ['L0.p0', 'L0.p1', 'L1.p0']
    assert len(set(names(model))) == len(model.parameters())
    other.load_state_dict(model.state_dict())
    assert other([1.0, -0.5]).data == model([1.0, -0.5]).data
    assert TwoLayers().state_dict().keys() == {f'p{i}' for i in range(9)}


def test_parameters_may_be_a_generator() -> None:
    class Lazy(Scale):
        def parameters(self) -> Any:
            return (k for k in self.k)

    assert names(Sequential(Lazy('a', 'b'))) == ['L0.a', 'L0.b']


# Errores


class NoReturn(Module):
    def parameters(self) -> Any:
        return None

    def __call__(self, x: Any) -> Any:
        return x


class NoCall(Module):
    pass


class Floats(NoReturn):
    def parameters(self) -> Any:
        return [0.5]


X = [1.0, 2.0, 3.0]


@pytest.mark.parametrize(
    ('call', 'error', 'message'),
    [
        (lambda: Neuron(0), ValueError, 'nin tiene que ser un int de 1 a 1000000: llegó 0'),
        (lambda: Neuron(-2), ValueError, 'llegó -2'),
        (lambda: Neuron(2.5), TypeError, 'nin .* llegó 2.5'),  # type: ignore[arg-type]
        (lambda: Neuron('2'), TypeError, "nin .* llegó '2'"),  # type: ignore[arg-type]
        (lambda: Neuron(10**12), ValueError, 'llegó 1000000000000'),
        (lambda: Layer(2, 1, nonlin=Tanh()), TypeError, r'nonlin es True .* llegó Tanh\(\)'),
        (lambda: Layer(2, 0), ValueError, 'nout .* llegó 0'),
        (lambda: MLP(2, []), ValueError, r'nouts .* como \[16, 1\]: llegó \[\]'),
        (lambda: MLP(2, 3), TypeError, 'nouts .* llegó 3'),  # type: ignore[arg-type]
        (lambda: MLP(2, '31'), TypeError, "nouts .* llegó '31'"),  # type: ignore[arg-type]
        (lambda: MLP(2, [3, -1]), ValueError, 'nouts .* llegó -1'),
        (lambda: MLP(2, [3, None]), TypeError, 'nouts .* llegó None'),  # type: ignore[list-item]
        (lambda: MLP(2, [3, 1])(X), ValueError, 'la capa espera .* de 2 .* llegó una de 3'),
        (lambda: Neuron(2)(X), ValueError, 'la neurona espera .* de 2 .* llegó una de 3'),
        (lambda: Neuron(2)([X, X]), TypeError, r'llegaron varios: usá \[modelo\(x\) for x in'),
        (lambda: Neuron(2)(np.ones((5, 2))), TypeError, 'llegaron varios'),
        (lambda: Neuron(2)([1.0, X]), TypeError, 'list'),
        (lambda: Neuron(2)('ab'), TypeError, "llegó 'ab'"),
        (lambda: Neuron(2)(None), TypeError, 'llegó None'),
        (lambda: Neuron(2)([]), ValueError, 'llegó una de 0'),
        (lambda: Tanh()([X, X]), TypeError, 'llegaron varios'),
        (lambda: Tanh()('a'), TypeError, "llegó 'a'"),
        (lambda: Sequential(Layer(2, 2), Tanh), TypeError, r'te faltaron los paréntesis: Tanh\(\)'),
        (lambda: Sequential(math.tanh), TypeError, 'Sequential espera módulos: llegó <built-in'),
        (lambda: Sequential(None), TypeError, 'llegó None'),
        (lambda: Sequential(NoCall()), TypeError, 'define parameters y __call__'),
        (lambda: Sequential(NoReturn()), TypeError, r'NoReturn.parameters\(\) .* devolvió None'),
        (lambda: Floats().state_dict(), TypeError, r'Floats.parameters\(\) .* devolvió \[0.5\]'),
        (lambda: Sequential(Layer(2, 3), Layer(2, 1))([1.0, 2.0]), ValueError, 'llegó una de 3'),
    ],
)
def test_errors_say_what_to_write(call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()


def test_a_rejected_sequential_does_not_rename() -> None:
    neuron = Neuron(1)
    with pytest.raises(TypeError):
        Sequential(neuron, NoReturn())
    assert names(neuron) == ['w0', 'b']
