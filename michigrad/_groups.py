"""De qué capa y de qué neurona es cada nodo, según los nombres de los parámetros: L0.N1.w0."""

from __future__ import annotations

import html
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from michigrad._drawing import kind, layer_of, name_of, title
from michigrad._numbers import number

_ACTIVATIONS = ('ReLU', 'tanh', 'sigmoid', 'softplus')
_MOST_ROWS = 16
_BLUE = (0xA4, 0xC2, 0xF4)  # el de los parámetros


def module_names(nodes: Sequence[Any]) -> dict[Any, str]:
    """El módulo de cada nodo que es parte de una neurona: 'L0.N1'.

    De una neurona son sus parámetros (el nombre empieza con el del módulo), los productos de un
    peso por una entrada, las sumas de esos productos y del sesgo, y la activación del resultado.

    Args:
        nodes: los nodos de un grafo, en orden topológico.
    """
    modules: dict[Any, str] = {}
    for v in nodes:
        module = _module_of(v, modules)
        if module:
            modules[v] = module
            if v._op == '+':  # el 0 con el que empieza sum
                modules |= {u: module for u in v._prev if _is_constant(u)}
    return modules


def _module_of(v: Any, modules: dict[Any, str]) -> str:
    if not v._prev:
        return name_of(v).rpartition('.')[0] if _is_parameter(v) else ''
    owners = {modules.get(u, '') for u in v._prev if not _is_constant(u)}
    parameters = [u for u in v._prev if _is_parameter(u)]
    if v._op == '*' and len(parameters) == 1:
        return modules.get(parameters[0], '')
    if len(owners) != 1 or len(parameters) == len(v._prev):
        return ''
    adds = v._op == '+' and any(u._op == '*' or _is_parameter(u) for u in v._prev)
    return owners.pop() if adds or v._op in _ACTIVATIONS else ''


def _is_parameter(v: Any) -> bool:
    return kind(v, None) == 'parameter'


def _is_constant(v: Any) -> bool:
    return not v._prev and not name_of(v)


def collapse(
    nodes: Sequence[Any], modules: Mapping[Any, str], amount: Callable[[Any], str]
) -> dict[Any, str]:
    """Junta cada capa en una tabla: por neurona, lo que da y el tamaño de sus gradientes.

    Args:
        nodes: los nodos del grafo, en orden topológico.
        modules: los de module_names(nodes).
        amount: cómo se escribe un número.

    Returns:
        Por cada nodo que es parte de una capa, la tabla de esa capa, en el HTML de Graphviz.
    """
    neurons: dict[str, _Neuron] = {module: _Neuron([], []) for module in modules.values()}
    for v, module in modules.items():
        if _is_parameter(v):
            neurons[module].sizes.append(_size(v.grad))
    used = [(u, modules.get(v, '')) for v in nodes for u in v._prev] + [(nodes[-1], '')]
    for v, user in used:
        module = modules.get(v, '')
        if module and module != user and not _is_parameter(v) and v not in neurons[module].outputs:
            neurons[module].outputs.append(v)
    layers: dict[str, dict[str, _Neuron]] = {}
    for module, neuron in neurons.items():
        layers.setdefault(layer_of(module), {})[module] = neuron
    largest = max((neuron.mean for neuron in neurons.values()), default=0.0)
    tables = {layer: _table(layer, inside, largest, amount) for layer, inside in layers.items()}
    return {v: tables[layer_of(module)] for v, module in modules.items()}


class _Neuron(NamedTuple):
    outputs: list[Any]  # los Values que otras cuentas usan: uno por ejemplo
    sizes: list[float]  # el |grad| de cada parámetro

    @property
    def mean(self) -> float:
        return sum(self.sizes) / len(self.sizes) if self.sizes else 0.0


def _size(grad: Any) -> float:
    try:
        return abs(number(grad))
    except (TypeError, OverflowError):
        return math.nan


def _table(
    layer: str, neurons: Mapping[str, _Neuron], largest: float, amount: Callable[[Any], str]
) -> str:
    sizes = [size for neuron in neurons.values() for size in neuron.sizes]
    single = all(len(neuron.outputs) == 1 for neuron in neurons.values())
    name = layer if '.' in layer else title(layer)
    mean = amount(sum(sizes) / len(sizes))
    head = f'<B>{html.escape(name)}</B><BR/>{len(sizes)} parámetros<BR/>|grad| medio {mean}'
    rows = [['neurona', *(['data', 'grad'] if single else []), '|grad| medio']]
    fills = ['#ffffff']
    for module, neuron in [*neurons.items()][:_MOST_ROWS]:
        outputs = [amount(x) for v in neuron.outputs[:1] for x in (v.data, v.grad)]
        rows.append([module.rpartition('.')[2], *(outputs if single else []), amount(neuron.mean)])
        fills.append(_shade(neuron.mean / largest if largest else 0))
    more = len(neurons) - _MOST_ROWS
    body = ''.join(
        f'<TR>{"".join(f"<TD>{html.escape(cell)}</TD>" for cell in row[:-1])}'
        f'<TD BGCOLOR="{fill}">{html.escape(row[-1])}</TD></TR>'
        for row, fill in zip(rows, fills, strict=True)
    )
    span = f'COLSPAN="{len(rows[0])}"'
    if more > 0:
        body += f'<TR><TD {span}>y {more} más</TD></TR>'
    return (
        '<TABLE BORDER="0" CELLBORDER="1" CELLSPACING="0" CELLPADDING="3" BGCOLOR="white">'
        f'<TR><TD {span}>{head}</TD></TR>{body}</TABLE>'
    )


def _shade(share: float) -> str:
    """De blanco, 0, a celeste, 1."""
    share = share if 0 <= share <= 1 else 0
    return '#' + ''.join(f'{round(255 + (c - 255) * share):02x}' for c in _BLUE)
