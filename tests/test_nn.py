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

from michigrad import nn
from michigrad._checks import lift
from michigrad.engine import Value, topological_order
from michigrad.functional import mse_loss
from michigrad.nn import (
    MLP,
    Layer,
    Linear,
    Module,
    Neuron,
    ReLU,
    Sequential,
    Sigmoid,
    Softmax,
    Softplus,
    Tanh,
    init,
)
from michigrad.optim import SGD, Adam
from tests.needs import need


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
    'make',
    [
        lambda: [1, 2.0],
        lambda: (1, 2.0),
        lambda: np.array([1, 2.0]),
        lambda: [Value(1), np.float32(2)],
        lambda: range(1, 3),
        lambda: {'x0': 1.0, 'x1': 2.0}.values(),
        lambda: map(float, '12'),
        lambda: (x for x in (1, 2.0)),
    ],
)
def test_inputs(make: Any) -> None:
    """Cualquier iterable, que se recorre una sola vez."""
    for model in (Layer(2, 3), Sequential(Tanh(), Layer(2, 3)), MLP(2, [4, 3])):
        assert [v.data for v in model(make())] == [v.data for v in model([1.0, 2.0])]
    neuron = Neuron(2)
    assert neuron(make()).data == neuron([1.0, 2.0]).data


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
        (Softplus(), lambda x: math.log(1 + math.exp(x))),
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
    assert repr([ReLU(), Softplus(), Softmax()]) == '[ReLU(), Softplus(), Softmax()]'


def test_linear_is_a_layer_without_relu() -> None:
    model = Linear(in_features=2, out_features=3)
    random.seed(1)
    layer = Layer(2, 3, nonlin=False)
    assert model.state_dict() == layer.state_dict()
    assert [v.data for v in model([1.0, -2.0])] == [v.data for v in layer([1.0, -2.0])]
    assert [v.data for v in model.bias] == [0, 0, 0]
    assert [[w.name for w in row] for row in model.weight][2] == ['N2.w0', 'N2.w1']
    assert repr(Linear(2, 1)) == 'Linear of [LinearNeuron(2)]'


# Una neurona propia en una capa


class Quadratic(Module):
    """Una neurona de un estudiante: no se llama w, ni tiene sesgo."""

    def __init__(self) -> None:
        self.scale = Value(0.5)

    def parameters(self) -> list[Value]:
        return [self.scale]

    def __call__(self, x: Any) -> Value:
        return self.scale * sum((xi * xi for xi in x), Value(0))


class Bare:
    """Lo mismo, sin heredar de Module."""

    def __init__(self) -> None:
        self.scales = {'única': Value(0.5)}

    def parameters(self) -> Any:
        return self.scales.values()

    def __call__(self, x: Any) -> Value:
        return self.scales['única'] * sum((xi * xi for xi in x), Value(0))


@pytest.mark.parametrize('place', [0, 1])
@pytest.mark.parametrize(('own', 'path'), [(Quadratic, 'scale'), (Bare, 'scales.única')])
def test_a_layer_takes_a_neuron_of_ones_own(place: int, own: Any, path: str) -> None:
    layer = Layer(2, 2)
    other = layer.neurons[1 - place]
    layer.neurons[place] = own()
    out = layer(iter([1.0, 3.0]))
    assert out[place].data == 5.0
    assert out[1 - place].data == other([1.0, 3.0]).data
    assert f'N{place}.{path}' in names(layer)
    optimizer = SGD(Sequential(layer).parameters(), lr=0.1)
    out[place].backward()
    optimizer.step()
    assert layer.state_dict()[f'N{place}.{path}'] == pytest.approx(-0.5)
    layer.neurons = [own(), own()]
    assert layer([1.0, 3.0])[1].data == 5.0


def test_a_neuron_that_inherits_and_changes_the_call() -> None:
    class Doubled(Neuron):
        def __call__(self, x: Any) -> Value:
            return 2 * super().__call__(x)

    layer = Layer(2, 1, nonlin=False)
    layer.neurons[0] = Doubled(2, nonlin=False)
    x = [0.5, -1.0]
    expected = 2 * sum(w.data * xi for w, xi in zip(layer.neurons[0].w, x, strict=True))
    assert layer(x).data == pytest.approx(expected)


def test_a_layer_looks_at_each_input_once(monkeypatch: pytest.MonkeyPatch) -> None:
    layer, seen = Layer(3, 4), []
    monkeypatch.setattr(nn, 'lift', lambda x: seen.append(x) or lift(x))  # type: ignore[func-returns-value]
    layer(iter([1.0, 2.0, 3.0]))
    assert seen == [1.0, 2.0, 3.0]


def test_in_the_graph_each_input_is_one_node() -> None:
    out = Layer(3, 4)([1.0, 2.0, 3.0])
    leaves = {v for y in out for v in topological_order(y) if not v._prev and not v.name}
    assert sorted(v.data for v in leaves) == [1.0, 2.0, 3.0]


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
    assert names(model) == ['L0.N0.w0', 'L0.N0.b', 'L2.L0.w0', 'L2.L0.b', 'L2.L1.k.0']
    assert [p.name for p in model.parameters()] == names(model)


def test_a_module_that_is_twice_shares_its_parameters() -> None:
    neuron = Neuron(1)
    model = Sequential(neuron, Tanh(), neuron)
    assert names(model) == ['L0.w0', 'L0.b']
    assert model.parameters() == neuron.parameters()
    SGD(model.parameters(), lr=0.1)  # sin repetidos


class Everywhere(Module):
    """Parámetros en atributos, listas, diccionarios y arrays, y uno en dos lugares."""

    def __init__(self) -> None:
        self.scale = Value(1.0)
        self.tied = self.scale
        self.matrix = np.array([[Value(1.0), Value(2.0)]])
        self.heads = {'a': Neuron(1), 'b': [Layer(1, 1)]}
        self.data = [0.5, 'texto', None, np.ones(3)]
        self.last = self.scale * 2  # un resultado no es un parámetro
        self.itself = self
        self.loop: list[Any] = []
        self.loop.append(self.loop)

    def parameters(self) -> list[Value]:
        heads = [self.heads['a'], *self.heads['b']]  # type: ignore[misc]
        return [self.scale, *self.matrix.ravel(), *(p for h in heads for p in h.parameters())]

    def __call__(self, x: Any) -> Any:
        return x


def test_the_name_is_the_path_to_the_value() -> None:
    expected = ['scale', 'matrix.0.0', 'matrix.0.1', 'heads.a.w0', 'heads.a.b']
    expected += ['heads.b.0.N0.w0', 'heads.b.0.N0.b']
    assert names(Everywhere()) == expected
    assert names(Sequential(Tanh(), Everywhere())) == [f'L1.{name}' for name in expected]


def test_names_equal_those_of_pytorch() -> None:
    torch = need('torch')

    class Ours(Module):
        def __init__(self) -> None:
            self.gain = Value(1.0)
            self.first = Scale('', '')
            self.tied = self.first

        def parameters(self) -> list[Value]:
            return [self.gain, *self.first.parameters(), *self.tied.parameters()]

    class Theirs(torch.nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.gain = torch.nn.Parameter(torch.ones(()))
            self.first = torch.nn.Module()
            self.first.k = torch.nn.ParameterList([torch.ones(()), torch.ones(())])
            self.tied = self.first

    assert names(Ours()) == [name for name, _ in Theirs().named_parameters()]


def test_a_parameter_out_of_reach_is_named_by_its_position() -> None:
    hidden = [Value(1.0), Value(2.0)]

    class Closed(Module):
        def __init__(self) -> None:
            self.seen = hidden[1]

        def parameters(self) -> list[Value]:
            return hidden

        def __call__(self, x: Any) -> Any:
            return x

    assert names(Closed()) == ['p0', 'p1']
    assert names(Sequential(Closed(), Neuron(1))) == ['L0.p0', 'L0.p1', 'L1.w0', 'L1.b']


def test_renaming_a_value_changes_no_key() -> None:
    model = MLP(2, [2, 1])
    before = model.state_dict()
    for i, p in enumerate(model.parameters()):
        p.name = 'otro' if i % 2 else ''
    assert model.state_dict() == before
    model.load_state_dict(before)


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


def test_loading_that_is_interrupted_changes_nothing() -> None:
    class Interrupting(Value):
        armed = False

        def __setattr__(self, name: str, x: Any) -> None:
            if name == 'data' and self.armed:
                Interrupting.armed = False
                raise KeyboardInterrupt
            super().__setattr__(name, x)

    neuron = Neuron(2)
    neuron.b = Interrupting(0.5)
    before = neuron.state_dict()
    Interrupting.armed = True
    with pytest.raises(KeyboardInterrupt):
        neuron.load_state_dict(dict.fromkeys(before, 7.0))
    assert neuron.state_dict() == before


def test_loading_needs_a_dict() -> None:
    with pytest.raises(TypeError, match='state es un dict'):
        xor_network().load_state_dict([1.0])  # type: ignore[arg-type]


def test_what_a_layer_saved_loads_after_it_is_in_a_sequential() -> None:
    layer = Layer(2, 3)
    state = layer.state_dict()
    model = Sequential(layer, Tanh())
    for p in layer.parameters():
        p.data = 0.0
    layer.load_state_dict(state)
    assert layer.state_dict() == state
    assert model.state_dict() == {f'L0.{name}': x for name, x in state.items()}
    assert Sequential(Sequential(layer)).state_dict().keys() == {f'L0.L0.{n}' for n in state}


def test_files_of_the_first_version_load() -> None:
    """Los nombres que escribía 0.1.0, que salían de los Values."""
    mlp = ['L0.N0.w0', 'L0.N0.w1', 'L0.N0.b', 'L0.N1.w0', 'L0.N1.w1', 'L0.N1.b']
    mlp += ['L1.N0.w0', 'L1.N0.w1', 'L1.N0.b']
    shared = Layer(1, 1)
    for model, saved in (
        (MLP(2, [2, 1]), mlp),
        (Sequential(shared, Tanh(), shared), ['L0.N0.w0', 'L0.N0.b']),
        (Sequential(Tanh(), Sequential(Neuron(1))), ['L1.L0.w0', 'L1.L0.b']),
    ):
        state = {name: float(i) for i, name in enumerate(saved)}
        model.load_state_dict(state)
        assert model.state_dict() == state


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
    """Junta dos capas, cada una en un atributo."""

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
    assert names(model)[:3] == ['L0.k.0', 'L0.k.1', 'L1.first.N0.w0']
    assert len(set(names(model))) == len(model.parameters())
    other.load_state_dict(model.state_dict())
    assert other([1.0, -0.5]).data == model([1.0, -0.5]).data
    assert names(TwoLayers())[5:] == ['first.N1.b', 'second.N0.w0', 'second.N0.w1', 'second.N0.b']


def test_parameters_may_be_a_generator() -> None:
    class Lazy(Scale):
        def parameters(self) -> Any:
            return (k for k in self.k)

    assert names(Sequential(Lazy('a', 'b'))) == ['L0.k.0', 'L0.k.1']
    Lazy('a').zero_grad()


# Errores


class NoReturn(Module):
    def parameters(self) -> Any:
        return None

    def __call__(self, x: Any) -> Any:
        return x


def layer_with(neuron: Any) -> Layer:
    layer = Layer(1, 1)
    layer.neurons[0] = neuron
    return layer


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
        (lambda: MLP(2, 10**5000), TypeError, 'nouts .* 5000 cifras'),  # type: ignore[arg-type]
        (lambda: MLP(2), ValueError, r'nouts .* como \[16, 1\]'),
        (lambda: MLP([Layer(2, 1)]), TypeError, r'para capas ya armadas usá Sequential'),  # type: ignore[arg-type]
        (lambda: MLP(Layer(2, 2), Layer(2, 1)), TypeError, 'usá Sequential'),  # type: ignore[arg-type]
        (lambda: Layer(2, 2, foo=1), TypeError, "Layer no conoce 'foo': .* nonlin=True o False"),
        (lambda: MLP(2, [3, 1])(X), ValueError, 'un ejemplo: una lista de 2 .* llegó una de 3'),
        (lambda: Neuron(2)(X), ValueError, 'una lista de 2 .* llegó una de 3'),
        (lambda: Neuron(1)({'x': 2.0}), TypeError, r"de {'x': 2.0} usá .values\(\)"),
        (lambda: NoReturn().zero_grad(), TypeError, r'NoReturn.parameters\(\) .* devolvió None'),
        (lambda: Neuron(1).load_state_dict(Neuron(1).state_dict), TypeError, r': state_dict\(\)'),  # type: ignore[arg-type]
        (lambda: Sequential(layer_with(NoReturn())).parameters(), TypeError, 'devolvió None'),
        (
            lambda: layer_with(max).parameters(),
            TypeError,
            r'parameters\(\), que .* paréntesis: max\(\)',
        ),
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


@pytest.mark.parametrize('junk', [None, 'x', [1.0], Value(1.0)])
def test_state_dict_names_the_parameter_whose_data_is_not_a_number(junk: Any) -> None:
    model = Neuron(2)
    model.w[1].data = junk
    with pytest.raises(TypeError, match='data de w1 tiene que ser un número'):
        model.state_dict()


# Con qué números empiezan los pesos: los tamaños de torch.nn.init


INITS: list[tuple[str, dict[str, Any]]] = [
    ('kaiming_uniform_', {}),
    ('kaiming_uniform_', {'nonlinearity': 'tanh'}),
    ('kaiming_normal_', {}),
    ('kaiming_normal_', {'nonlinearity': 'linear'}),
    ('kaiming_normal_', {'nonlinearity': 'sigmoid'}),
    ('xavier_uniform_', {}),
    ('xavier_uniform_', {'gain': 5 / 3}),
    ('xavier_normal_', {}),
    ('xavier_normal_', {'gain': 0.5}),
]


@pytest.mark.parametrize(('name', 'options'), INITS, ids=str)
def test_init_has_the_size_of_pytorch(name: str, options: dict[str, Any]) -> None:
    torch = need('torch')
    torch.manual_seed(0)
    layer = Layer(50, 80)
    before = layer.state_dict()
    assert getattr(init, name)(layer.weight, **options) == layer.weight
    ours = np.array([[w.data for w in row] for row in layer.weight])
    theirs = torch.empty(80, 50, dtype=torch.float64)
    getattr(torch.nn.init, name)(theirs, **options)
    assert ours.std() == pytest.approx(theirs.std().item(), rel=0.05)
    assert abs(ours.mean()) < 0.1 * ours.std()
    if 'uniform' in name:
        assert abs(ours).max() == pytest.approx(theirs.abs().max().item(), rel=0.01)
    assert [b.data for b in layer.bias] == [0] * 80
    assert layer.state_dict().keys() == before.keys()


def test_init_follows_the_seed() -> None:
    layer = Layer(3, 2)
    weights = []
    for _ in range(2):
        random.seed(7)
        init.kaiming_uniform_(layer.weight)
        weights.append(layer.state_dict())
    assert weights[0] == weights[1]


@pytest.mark.parametrize(
    ('call', 'error', 'message'),
    [
        (lambda: init.xavier_normal_(Layer(2, 2)), TypeError, 'los pesos de una capa'),
        (lambda: init.xavier_normal_(Neuron(2).w), TypeError, r'de una neurona, \[neurona.w\]'),
        (lambda: init.kaiming_normal_([]), TypeError, r'llegó \[\]'),
        (lambda: init.kaiming_normal_([[1.0]]), TypeError, 'una fila de weight .* tiene 1.0'),
        (lambda: init.kaiming_normal_([[]]), ValueError, 'iguales'),
        (lambda: init.kaiming_normal_([Neuron(1).w, Neuron(2).w]), ValueError, r'\[1, 2\]'),
        (lambda: init.kaiming_normal_([Neuron(1).w], 'gelu'), ValueError, "una de .*'relu'"),
        (lambda: init.kaiming_normal_([Neuron(1).w], np.ones(2)), ValueError, 'una de'),  # type: ignore[arg-type]
        (lambda: init.xavier_uniform_([Neuron(1).w], None), TypeError, 'gain'),  # type: ignore[arg-type]
    ],
)
def test_init_errors(call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()


def test_a_rejected_sequential_does_not_rename() -> None:
    neuron = Neuron(1)
    with pytest.raises(TypeError):
        Sequential(neuron, NoReturn())
    assert names(neuron) == ['w0', 'b']
