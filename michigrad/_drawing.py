"""Cómo se dibuja un grafo: sus nodos, sus cajas y sus elipses.

Nada de acá cambia a los nodos ni los nombra: lo que dice cada caja llega escrito.
"""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import graphviz

from michigrad._graphviz import PortableDigraph
from michigrad._numbers import short
from michigrad.engine import topological_order

# Colores claros y de distinta luminosidad: se distinguen también impresos en gris.
_LOOKS = {
    'result': {'fillcolor': '#f6b26b', 'penwidth': '2'},
    'intermediate': {'fillcolor': '#ffffff'},
    'parameter': {'fillcolor': '#a4c2f4', 'style': 'filled,rounded'},
    'leaf': {'fillcolor': '#efefef', 'style': 'filled,rounded'},
}
_OPERATION = {'shape': 'ellipse', 'fillcolor': '#fff2cc', 'margin': '0.03,0.01'}
# Con la letra de los demás, el punto del producto no se ve.
_DOT = {'fontsize': '24', 'fixedsize': 'true', 'width': '0.35', 'height': '0.35'}
_CLUSTER = {
    'style': 'rounded,filled',
    'color': '#7f9cc9',
    'fontname': 'Helvetica',
    'labeljust': 'l',
    'margin': '5',
}

# Por convención, los pesos y sesgos se llaman w o b con un índice: W₀, b, L0.N1.w0.
_PARAMETER_NAME = re.compile(r'(.*\.)?([wW](eight)?|[bB](ias)?)[\d_₀-₉]*')

# Lo que XML, y por lo tanto SVG, no admite: los caracteres de control y los sustitutos sueltos.
_UNPRINTABLE = re.compile('[\x00-\x09\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]')


class Box(NamedTuple):
    """Lo que dice la caja de un nodo, y la elipse de la operación de la que salió."""

    name: str
    data: str
    grad: str
    op: str = ''


def graph_nodes(root: Any) -> list[Any]:
    """Los nodos del grafo de `root`, cada uno después de sus operandos.

    Sirve cualquier objeto con `data`, `grad`, `_prev` y `_op`: un Value o uno de una clase propia.

    Raises:
        TypeError: si `root` o algo de su grafo no es un objeto así.
    """
    if not _is_node(root):
        raise TypeError(
            f'se esperaba un Value y llegó {short(root)} ({type(root).__name__}): {_hint(root)}'
        )
    seen, pending = {id(root)}, [root]
    while pending:
        v = pending.pop()
        for operand in v._prev:
            if not _is_node(operand):
                raise TypeError(
                    f'el _prev de {name_of(v) or short(v)} lleva sus operandos, con data, grad, '
                    f'_prev y _op, y tiene {short(operand)} ({type(operand).__name__})'
                )
            if id(operand) not in seen:
                seen.add(id(operand))
                pending.append(operand)
    return topological_order(root)


def _is_node(v: Any) -> bool:
    """Dice si `v` tiene lo que tiene un Value.

    Raises:
        TypeError: si dos nodos distintos de su clase pueden ser iguales, y se confundirían.
    """
    fields = ('data', 'grad', '_prev', '_op')
    if isinstance(v, type) or not all(hasattr(v, field) for field in fields):
        return False
    by_identity: Any = object.__hash__
    if type(v).__hash__ is not by_identity:
        raise TypeError(
            f'{type(v).__name__} define __eq__ y los nodos de un grafo se distinguen aunque valgan '
            'lo mismo: agregale __hash__ = object.__hash__'
        )
    return True


def _hint(root: Any) -> str:
    """Qué escribir en lugar de `root`."""
    if callable(getattr(root, 'parameters', None)) or callable(root):
        name = getattr(root, '__name__', type(root).__name__)
        return f'{name} es la red o la función; dibujá lo que da, como show_graph(modelo(x))'
    if isinstance(root, (list, tuple)) and root and _is_node(root[0]):
        return 'elegí uno, como resultados[0], o juntalos en una pérdida'
    if getattr(root, 'ndim', 0):
        return 'elegí uno, como resultados[0]; si es uno solo, resultado.item()'
    if root is None:
        return 'fijate si a alguna función le falta el return'
    return 'hacé la cuenta con Values, como Value(2.0) * 3'


def name_of(v: Any) -> str:
    """El nombre de un nodo, si tiene: una clase propia puede no tenerlo, o llamarlo label."""
    return str(getattr(v, 'name', '') or getattr(v, 'label', '') or '')


def draw(
    nodes: Sequence[Any],
    boxes: Mapping[Any, Box],
    format: str = 'svg',
    rankdir: str = 'LR',
    *,
    size: str = '',
    clusters: Mapping[Any, str] | None = None,
    tables: Mapping[Any, str] | None = None,
) -> PortableDigraph:
    """Arma el dibujo de `nodes`, que están en orden topológico: el último es el resultado.

    El nodo `i` es una caja con identificador 'ni', que dice lo que diga `boxes`; si salió de una
    operación, ella es una elipse, 'niop'. Los renglones de una caja van uno abajo del otro.

    Args:
        nodes, boxes: qué se dibuja y qué dice.
        format, rankdir: los de show_graph.
        size: el lugar que tiene el dibujo, como lo escribe Graphviz.
        clusters: el recuadro de cada nodo que va adentro de uno: 'L0.N1' va adentro de 'L0'.
        tables: la tabla, en el HTML de Graphviz, de cada nodo que no se dibuja sino que es parte de
            ella.

    Raises:
        ValueError: si `format` o `rankdir` no existen.
    """
    if format not in graphviz.FORMATS:
        raise ValueError(f"no existe el formato {short(format)}: usá 'svg' o 'png'")
    if rankdir not in ('LR', 'TB', 'RL', 'BT'):
        raise ValueError(f"rankdir es 'LR', 'TB', 'RL' o 'BT': llegó {short(rankdir)}")
    graph = PortableDigraph(
        format=format,
        graph_attr={'rankdir': rankdir, 'ranksep': '0.15', 'nodesep': '0.1', 'newrank': 'true'},
        node_attr={
            'shape': 'record',
            'style': 'filled',
            'fontname': 'Helvetica',
            'height': '0.25',
            'width': '0.25',
            'margin': '0.06,0.03',
        },
        edge_attr={'arrowsize': '0.7'},
    )
    if size:
        graph.graph_attr['size'] = size
    clusters, tables = clusters or {}, tables or {}
    homes: dict[str, graphviz.Digraph] = {'': graph}
    table_ids = {table: f'table{i}' for i, table in enumerate(dict.fromkeys(tables.values()))}
    for table, id in table_ids.items():
        graph.node(id, f'<{table}>', shape='plain')
    ids = {v: table_ids[tables[v]] if v in tables else f'n{i}' for i, v in enumerate(nodes)}
    operations = {v: ids[v] if v in tables else f'{ids[v]}op' for v in nodes if v._prev}
    for v in nodes:
        if v in tables:
            continue
        name, data, grad, op = map(_escape, boxes[v])
        text = f'{name}|data {data}|grad {grad}'
        aside = rankdir in ('LR', 'RL')  # ahí Graphviz los apila sin las llaves
        home = _home(clusters.get(v, ''), homes)
        home.node(ids[v], text if aside else f'{{{text}}}', **_LOOKS[kind(v, nodes[-1])])
        if v in operations:
            home.node(operations[v], op, **_OPERATION, **(_DOT if op == '·' else {}))
    for path in sorted([*homes][1:], key=lambda path: -path.count('.')):
        homes[path.rpartition('.')[0]].subgraph(homes[path])
    edges = [(operation, ids[v]) for v, operation in operations.items()]
    edges += [(ids[u], operations[v]) for v in operations for u in v._prev]
    inside = set(table_ids.values())
    for edge, count in Counter(edges).items():
        if inside.isdisjoint(edge):
            graph.edges([edge] * count)
        elif edge[0] != edge[1]:  # entre dos tablas, una sola flecha; adentro de una, ninguna
            graph.edge(*edge)
    for before, after in _order(operations, clusters):
        graph.edge(ids[before], ids[after], style='invis')
    return graph


def _order(results: Iterable[Any], clusters: Mapping[Any, str]) -> Iterator[tuple[Any, Any]]:
    """Qué va antes de qué para que una capa quede después de todo lo que entra en ella.

    Son los pares de algo que entra y un peso de la capa, lo multiplique a él o a otro. En una capa
    que se usa dos veces, lo que entra sale también de ella, y no hay un antes y un después.
    """
    entering: dict[str, dict[Any, None]] = {}
    weights: dict[str, dict[Any, None]] = {}
    through: dict[Any, set[str]] = {}  # las capas por las que pasó cada nodo
    for v in results:
        layer = layer_of(clusters.get(v, ''))
        through[v] = {layer}.union(*(through.get(u, ()) for u in v._prev))
        outside = [u for u in v._prev if layer_of(clusters.get(u, '')) != layer]
        if layer and outside:
            entering.setdefault(layer, {}).update(dict.fromkeys(outside))
            own = [u for u in v._prev if u not in outside and not u._prev]
            weights.setdefault(layer, {}).update(dict.fromkeys(own))
    feeding = {
        layer: set().union(*(through.get(u, ()) for u in before))
        for layer, before in entering.items()
    }
    for layer, before in entering.items():
        if layer not in _all_before(layer, feeding):
            yield from itertools.product(before, weights[layer])


def _all_before(layer: str, feeding: Mapping[str, set[str]]) -> set[str]:
    """Las capas que dan lo que entra en `layer`, las que dan lo que entra en esas, y así."""
    found: set[str] = set()
    pending = [layer]
    while pending:
        new = feeding.get(pending.pop(), set()) - found
        found |= new
        pending += new
    return found


def _home(path: str, homes: dict[str, graphviz.Digraph]) -> graphviz.Digraph:
    """El recuadro llamado `path`, que queda en `homes` con los que lo contienen."""
    if path not in homes:
        _home(path.rpartition('.')[0], homes)
        homes[path] = graphviz.Digraph(
            f'cluster{len(homes)}',
            graph_attr=_CLUSTER
            | {
                'label': graphviz.escape(_UNPRINTABLE.sub('', title(path))),
                'fillcolor': '#ffffff' if '.' in path else '#eef3fb',
            },
        )
    return homes[path]


def layer_of(path: str) -> str:
    """La capa de una neurona: 'L0' la de 'L0.N1'."""
    return path.rpartition('.')[0] or path


def title(path: str) -> str:
    """'capa L0' y 'neurona N1'; un módulo con otro nombre queda como está."""
    last = path.rpartition('.')[2]
    what = {'L': 'capa ', 'N': 'neurona '}.get(last[:1], '') if last[1:].isdigit() else ''
    return what + last


def kind(v: Any, root: Any) -> str:
    """Qué es `v`: 'result', 'intermediate', 'parameter' (por su nombre) u otra hoja, 'leaf'."""
    if v is root:
        return 'result'
    if v._prev:
        return 'intermediate'
    return 'parameter' if _PARAMETER_NAME.fullmatch(name_of(v)) else 'leaf'


def _escape(text: str) -> str:
    """Escribe `text` de modo que Graphviz lo muestre tal cual en un record."""
    text = _UNPRINTABLE.sub('', text).replace('\\', r'\\').replace('&', '&amp;')
    return re.sub(r'([{}|<> ])', r'\\\1', text).replace('\n', r'\n')
