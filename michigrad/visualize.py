"""Dibujos del grafo de un Value con Graphviz: nombres, datos y gradientes."""

from __future__ import annotations

import functools
import math
import os
from pathlib import Path
from typing import Any

from michigrad._checks import flag, setting
from michigrad._drawing import Box, draw, graph_nodes
from michigrad._graphviz import PortableDigraph
from michigrad._groups import collapse, module_names
from michigrad._notation import box_name, decimal, labels, row
from michigrad._numbers import number, short
from michigrad.stepper import show_backprop

_MOST_IN_CLUSTERS = 60
_UNLIMITED = 1000


def trace(root: Any) -> tuple[list[Any], list[tuple[Any, Any]]]:
    """Devuelve los nodos y las aristas del grafo de `root`.

    Los nodos están en orden topológico: cada uno después de sus operandos. Hay una arista
    (operando, resultado) por cada operando, así que en x*x son dos.

    Raises:
        TypeError: si `root` no es un Value.
    """
    nodes = graph_nodes(root)
    return nodes, [(operand, v) for v in nodes for operand in v._prev]


def show_graph(
    root: Any,
    format: str = 'svg',
    rankdir: str = 'LR',
    max_nodes: int = 1500,
    *,
    width: float | None = None,
    height: float | None = None,
    decimals: int = 4,
    groups: bool = False,
) -> PortableDigraph:
    """Dibuja el grafo que termina en `root`.

    Cada Value es una caja con su nombre, su dato y su gradiente, y cada operación una elipse. Los
    datos y las constantes son grises, los parámetros (las hojas con nombre de peso o de sesgo:
    W₀, b, L0.N1.w0) azules, los valores intermedios blancos y el resultado naranja. Al que no tiene
    nombre se lo llama por su expresión, si es corta (x₀·W₀), o v₁, v₂..., como en show_backprop.

        show_graph(L)                                     # un notebook lo muestra
        show_graph(L).save('red.png')                     # y .svg, .pdf...: lo dice la extensión
        show_graph(L, width=13.3, height=7.5, groups=True).save('red.png')    # una diapositiva 16:9

    Args:
        root: el resultado; se dibuja todo lo que hizo falta para calcularlo. Puede ser de una clase
            propia con `data`, `grad`, `_prev` y `_op`.
        format: el formato si no lo dice una extensión: 'svg', 'png' u otro de Graphviz.
        rankdir: hacia dónde avanza el cálculo: 'LR', 'TB', 'RL' o 'BT'.
        max_nodes: cuántas cajas se aceptan como máximo.
        width, height: el ancho y el alto que ocupa, en pulgadas; si se dan los dos, el mayor tamaño
            que entra. Si no se da ninguno tiene su tamaño natural.
        decimals: con cuántos decimales se escriben los números.
        groups: si los nodos van en un recuadro por capa y por neurona, según los nombres de los
            parámetros (L0.N1.w0). En una red de más de 60 Values cada capa es una sola caja: una
            tabla de sus neuronas, con el tamaño de sus gradientes.

    Returns:
        Un graphviz.Digraph. No hace falta instalar Graphviz: si no está el comando dot se usa
        graphviz-pure.

    Raises:
        TypeError: si `root` no es un Value, o si otro argumento no es de su tipo.
        ValueError: si `format`, `rankdir` o un tamaño no existen, si hay más de `max_nodes` cajas o
            si `groups` no encuentra ninguna neurona.
    """
    nodes = graph_nodes(root)
    size = _size(width, height)
    amount = functools.partial(_amount, decimals=_whole('decimals', decimals, 17))
    modules = module_names(nodes) if flag('groups', groups) else {}
    if groups and not modules:
        raise ValueError(
            'groups=True agrupa por los nombres de los parámetros, como L0.N1.w0 en un MLP, y en '
            'este grafo ninguno se llama así: dibujalo sin groups'
        )
    tables = collapse(nodes, modules, amount) if len(modules) > _MOST_IN_CLUSTERS else {}
    drawn = len(nodes) - len(tables) + len(set(tables.values()))
    if drawn > _whole('max_nodes', max_nodes, math.inf):
        raise ValueError(
            f'el dibujo tendría {drawn} cajas y se dibujan {max_nodes} como máximo: dibujá la '
            f'pérdida de un solo ejemplo, pasá groups=True si es una red de capas, o '
            f'max_nodes={drawn} y esperá'
        )
    visible = [v for v in nodes if v not in tables]
    outputs = {u: modules[u] for v in visible for u in v._prev if u in tables}
    terms = labels(root, [*outputs, *visible], outputs)
    boxes = {}
    for v in visible:
        name = box_name(v, terms)
        if v in modules:  # lo dice el recuadro
            name = name.replace(f'{modules[v]}.', '')
        boxes[v] = Box(name, amount(v.data), amount(v.grad), row(v).symbol)
    clusters = {} if tables else modules
    return draw(nodes, boxes, format, rankdir, size=size, clusters=clusters, tables=tables)


def _size(width: Any, height: Any) -> str:
    """El atributo size de Graphviz; con el signo, también agranda."""
    if width is None and height is None:
        return ''
    inches = []
    for name, given in (('width', width), ('height', height)):
        length = _UNLIMITED if given is None else setting(name, given)
        if not 0 < length <= _UNLIMITED:
            raise ValueError(
                f'{name} es en pulgadas, como 13.3 x 7.5 en una diapositiva: llegó {short(given)}'
            )
        inches.append(f'{length:g}')
    return f'{",".join(inches)}!'


def _whole(name: str, x: Any, largest: float) -> int:
    if isinstance(x, bool) or not isinstance(x, int):
        raise TypeError(f'{name} es un int: llegó {short(x)}')
    if not 0 <= x <= largest:
        limit = '' if largest == math.inf else f' hasta {largest}'
        raise ValueError(f'{name} va desde 0{limit}: llegó {short(x)}')
    return x


def _amount(x: Any, decimals: int) -> str:
    """Un dato o un gradiente; lo que no es un número se muestra como es, para que se lo vea."""
    try:
        return decimal(float(number(x)), decimals)
    except (TypeError, OverflowError):
        return short(x)


def show_graph_interactive(root: Any, filename: str | os.PathLike[str] = 'graph.html') -> Path:
    """Escribe en `filename` la página que arma `show_backprop(root)` y devuelve su ruta.

    Raises:
        Los errores de show_backprop, y OSError si no se puede escribir.
    """
    return show_backprop(root).save(filename)
