"""Los grupos: de qué neurona es cada nodo, y una capa en una caja con sus gradientes."""

from __future__ import annotations

import graphlib
import itertools
import math
import random
import re
import statistics
import xml.etree.ElementTree as ET
from typing import Any

import pytest

from michigrad._groups import module_names
from michigrad.engine import Value
from michigrad.functional import cross_entropy, hinge_loss, mse_loss
from michigrad.nn import MLP, Layer, Module, Neuron, Sequential, Tanh
from michigrad.visualize import show_graph, trace

SVG = '{http://www.w3.org/2000/svg}'


def inputs(n: int) -> list[Value]:
    return [Value(random.uniform(-1, 1), name=f'x{i}') for i in range(n)]


def clusters(source: str) -> dict[str, list[str]]:
    """Los textos de las cajas que están adentro de cada recuadro, sin las de los de adentro."""
    found: dict[str, list[str]] = {}
    path: list[str] = []
    for line in source.splitlines():
        if 'subgraph' in line:
            path.append('')
        elif path and line.strip() == '}':
            path.pop()
        elif path and line.strip().startswith('graph ['):
            path[-1] = re.findall(r'label="?([^"\]]*?)"? labeljust', line)[0]
        elif path and (box := re.findall(r'label="([^|"]*)\|', line)):
            found.setdefault('/'.join(path), []).append(box[0].replace('\\', ''))
    return found


# De qué neurona es cada nodo


@pytest.mark.parametrize('sizes', [(2, 1), (2, 3, 1), (3, 4, 2), (1, 1, 1, 1)])
def test_every_part_of_a_neuron_is_of_that_neuron(sizes: tuple[int, ...]) -> None:
    random.seed(len(sizes))
    model = MLP(sizes[0], sizes[1:])
    xs = inputs(sizes[0])
    out: Any = model(xs)
    outs = out if isinstance(out, list) else [out]
    loss = mse_loss(outs, [1.0] * len(outs))
    nodes, _ = trace(loss)
    modules = module_names(nodes)
    for v in [*xs, loss]:
        assert v not in modules
    for k, (nin, nout) in enumerate(itertools.pairwise(sizes)):
        relu = k < len(sizes) - 2
        for i in range(nout):
            own = [v for v, module in modules.items() if module == f'L{k}.N{i}']
            assert len(own) == (nin + 1) + 2 * nin + relu  # parámetros, productos, sumas, ReLU
            assert sum(v._op == '*' for v in own) == nin
    # Lo demás son las entradas y la pérdida.
    rest = {v._op for v in nodes if v not in modules and v._prev}
    assert rest <= {'-', '**2', '+', '*', '/'}
    assert all(v in modules for v in outs)


def test_an_activation_that_is_a_module_is_of_its_neuron_and_a_loss_of_none() -> None:
    random.seed(0)
    model = Sequential(Layer(2, 2, nonlin=False), Tanh(), Layer(2, 1, nonlin=False))
    score = model(inputs(2))
    loss = hinge_loss(score, -1)
    penalty = sum((p * p for p in model.parameters()), Value(0.0)) * 0.1
    nodes, _ = trace(loss + penalty)
    modules = module_names(nodes)
    assert sorted({modules[v] for v in nodes if v._op == 'tanh'}) == ['L0.N0', 'L0.N1']
    assert modules[score] == 'L2.N0'
    assert not any(v in modules for v in nodes if v._op == 'ReLU')  # el de la pérdida
    assert not any(v in modules for v in nodes if v._op == '*' and v._prev[0] is v._prev[-1])


def test_what_joins_two_neurons_is_of_neither() -> None:
    random.seed(0)
    layer = Layer(2, 2)
    xs = inputs(2)
    first, second = layer(xs)
    mixed = layer.neurons[0].w[0] * xs[0] + layer.neurons[1].w[0] * xs[0]
    assert mixed not in module_names(trace(mixed)[0])
    for joined in (first + second, first + xs[0], first * second, (first + second).tanh()):
        modules = module_names(trace(joined)[0])
        assert joined not in modules
        assert modules[first] == 'N0'


def test_a_sum_that_starts_at_zero() -> None:
    class Perceptron(Module):
        def __init__(self) -> None:
            self.w = [Value(0.5, name=f'P.w{i}') for i in range(2)]

        def __call__(self, x: list[Value]) -> Value:
            out: Value = sum(wi * xi for wi, xi in zip(self.w, x, strict=True))  # type: ignore[assignment]
            return out

    xs = inputs(2)
    nodes, _ = trace(Perceptron()(xs).sigmoid())
    modules = module_names(nodes)
    assert [v for v in nodes if v not in modules] == xs
    assert {*modules.values()} == {'P'}


# En recuadros


def test_a_cluster_for_each_neuron_inside_one_for_each_layer() -> None:
    random.seed(1)
    loss = (MLP(2, [2, 1])(inputs(2)) - 1) ** 2
    found = clusters(show_graph(loss, groups=True).source)
    assert found.keys() == {
        'capa L0/neurona N0',
        'capa L0/neurona N1',
        'capa L1/neurona N0',
    }
    assert {'w0', 'w1', 'b', 'w0·x0'} <= {*found['capa L0/neurona N0']}  # sin repetir L0.N0
    assert 'L1.N0' not in str(found)


def test_each_layer_is_drawn_after_the_one_that_feeds_it() -> None:
    random.seed(1)
    graph = show_graph((MLP(2, [3, 2, 1])(inputs(2)) - 1) ** 2, groups=True)
    svg = ET.fromstring(graph.pipe(encoding='utf-8'))
    sides = {}
    for cluster in svg.iterfind(f'.//{SVG}g[@class="cluster"]'):
        text = cluster.findtext(f'{SVG}text') or ''
        if text.startswith('capa'):
            numbers = re.findall(r'[-\d.]+', cluster.find(f'{SVG}path').get('d', ''))  # type: ignore[union-attr]
            xs = [float(x) for x in numbers[::2]]
            sides[text] = min(xs), max(xs)
    assert sorted(sides) == ['capa L0', 'capa L1', 'capa L2']
    assert sides['capa L0'][1] <= sides['capa L1'][0] + 1
    assert sides['capa L1'][1] <= sides['capa L2'][0] + 1


def invisible(source: str) -> list[tuple[str, str]]:
    return re.findall(r'(\w+) -> (\w+) \[style=invis\]', source)


def test_the_order_of_the_layers_never_goes_round_in_circles() -> None:
    """Con un ciclo, hay versiones de dot que no terminan."""
    random.seed(1)
    first, second, last = Layer(2, 2), Layer(2, 2), Layer(2, 1)
    model = Sequential(first, second, last)
    x = inputs(2)
    for h, entering in (
        (second(first(x)), 6),  # lo que entra en cada una de las tres capas va antes que ella
        (first(first(x)), 4),
        (first(second(first(x))), 2),  # salvo en las que dan vueltas: queda la última
        ([a + b for a, b in zip(second(first(x)), first(second(x)), strict=True)], 2),
        ([a + b for a, b in zip(first(first(x)), x, strict=True)], 4),
    ):
        source = show_graph(model.layers[2](h), groups=True).source
        assert len({a for a, _ in invisible(source)}) == entering
        arrows = set(re.findall(r'(\w+) -> (\w+)', source))
        before = {end: {a for a, b in arrows if b == end} for edge in arrows for end in edge}
        list(graphlib.TopologicalSorter(before).static_order())  # CycleError si hay un ciclo


def test_without_names_of_modules_it_says_so() -> None:
    with pytest.raises(ValueError, match=r'groups=True agrupa por los nombres.*L0\.N1\.w0'):
        show_graph(Neuron(2)(inputs(2)), groups=True)


@pytest.mark.parametrize('name', ['<b>.w0', 'a"b.w0', '\\N.w', 'x{|}.b', 'ñandú.w0', 'a:b.c.w'])
def test_any_name_of_a_module_draws_as_written(name: str) -> None:
    w, x = Value(1.0, name=name), Value(2.0, name='x')
    module = ' '.join(name.rpartition('.')[0].rpartition('.')[2].split())
    svg = ET.fromstring(show_graph(w * x, groups=True).pipe(encoding='utf-8'))
    drawn = [text.text for text in svg.iterfind(f'.//{SVG}g[@class="cluster"]/{SVG}text')]
    assert ' '.join(' '.join(filter(None, drawn)).split()).endswith(module)


# Cada capa, en una caja


def cells(svg: str) -> list[list[str]]:
    """Los textos de cada caja, renglón por renglón y de izquierda a derecha."""
    found = []
    for node in ET.fromstring(svg).iterfind(f'.//{SVG}g[@class="node"]'):
        texts = node.findall(f'{SVG}text')
        texts.sort(key=lambda t: (round(float(t.get('y', 0))), float(t.get('x', 0))))
        found.append([text.text or '' for text in texts])
    return found


def test_a_large_network_is_a_box_for_each_layer_with_the_size_of_its_gradients() -> None:
    random.seed(7)
    model = MLP(2, [16, 16, 1])
    loss = (model(inputs(2)) - 1) ** 2
    loss.backward()
    graph = show_graph(loss, groups=True)
    boxes = cells(graph.pipe(encoding='utf-8'))
    tables = [box for box in boxes if box[0].startswith('capa')]
    assert len(tables) == 3
    assert len(boxes) < 12
    for table, layer in zip(sorted(tables), model.layers, strict=True):
        sizes = [abs(p.grad) for p in layer.parameters()]
        assert table[1] == f'{len(sizes)} parámetros'
        assert table[2] == f'|grad| medio {statistics.mean(sizes):.4f}'
        rows = table[7:]
        for i, neuron in enumerate(layer.neurons):
            name, _, _, size = rows[4 * i : 4 * i + 4]
            assert name == f'N{i}'
            assert size == f'{statistics.mean(abs(p.grad) for p in neuron.parameters()):.4f}'


def test_the_box_of_a_layer_has_what_each_neuron_gives() -> None:
    random.seed(7)
    model = MLP(2, [16, 3])
    xs = inputs(2)
    hidden = model.layers[0](xs)
    outs = model.layers[1](hidden)
    loss = cross_entropy(outs, 1)
    loss.backward()
    first, second = sorted(
        box
        for box in cells(show_graph(loss, groups=True).pipe(encoding='utf-8'))
        if box[0].startswith('capa')
    )
    for table, values in ((first, hidden), (second, outs)):
        assert table[8::4][: len(values)] == [f'{v.data + 0.0:.4f}' for v in values]
        assert table[9::4][: len(values)] == [f'{v.grad + 0.0:.4f}' for v in values]


def test_one_arrow_between_layers_and_none_inside() -> None:
    random.seed(7)
    source = show_graph((MLP(2, [16, 16, 1])(inputs(2)) - 1) ** 2, groups=True).source
    edges = re.findall(r'(\w+) -> (\w+)', source)
    assert len(edges) == len({*edges})
    assert all(a != b for a, b in edges)
    layers = dict(re.findall(r'(table\d) \[label=.*?<B>capa (L\d)</B>', source))
    between = {(layers.get(a), layers.get(b)) for a, b in edges if a in layers and b in layers}
    assert between == {('L0', 'L1'), ('L1', 'L2')}


def test_several_examples_share_the_layers() -> None:
    random.seed(7)
    model = MLP(2, [8, 1])
    loss = mse_loss([model(inputs(2)) for _ in range(4)], [0, 1, 1, 0])
    loss.backward()
    graph = show_graph(loss, groups=True).pipe(encoding='utf-8')
    tables = [box for box in cells(graph) if box[0].startswith('capa')]
    assert len(tables) == 2
    for table in tables:
        assert 'data' not in table  # cada neurona da cuatro números
    names = {box[0] for box in cells(graph) if len(box) == 3}
    assert {'L1.N0 − c₁', 'L1.N0#2 − c₂', 'L1.N0#4 − c₄'} <= names


def test_a_layer_of_many_neurons_is_cut() -> None:
    random.seed(7)
    source = show_graph((MLP(2, [40, 1])(inputs(2)) - 1) ** 2, groups=True).source
    assert '<TD>N15</TD>' in source
    assert '<TD>N16</TD>' not in source
    assert 'y 24 más' in source


def test_the_blue_of_each_neuron_is_its_share_of_the_largest_gradient() -> None:
    random.seed(7)
    model = MLP(2, [16, 16, 1])
    for i, p in enumerate(model.parameters()):
        p.grad = 1.0 if i < 3 else 0.0
    model.layers[1].neurons[2].parameters()[0].grad = math.nan
    loss = (model(inputs(2)) - 1) ** 2
    fills = re.findall(r'BGCOLOR="(#\w+)">', show_graph(loss, groups=True).source)
    assert fills.count('#a4c2f4') == 1
    assert {*fills} == {'#a4c2f4', '#ffffff'}


def test_a_gradient_that_is_not_a_number_does_not_break_the_box() -> None:
    random.seed(7)
    model = MLP(2, [16, 16, 1])
    loss = (model(inputs(2)) - 1) ** 2
    bad: Any = None
    model.parameters()[0].grad = bad
    assert '|grad| medio nan' in show_graph(loss, groups=True).source


def test_a_network_without_modules_that_is_too_large_is_refused() -> None:
    """Como un GPT: cada matriz tiene nombre, y sus números no."""
    weights = [Value(0.1) for _ in range(800)]
    total = sum((w * 0.5 for w in weights), Value(0.0))
    with pytest.raises(ValueError, match=r'se dibujan 1500 como máximo.*groups=True'):
        show_graph(total)
    with pytest.raises(ValueError, match='groups=True agrupa por los nombres'):
        show_graph(total, groups=True)
