"""Dibujos del grafo de un Value con Graphviz: nombres, datos y gradientes."""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import graphviz
from graphviz.backend import dot_command

from michigrad.engine import Value, topological_order

# Colores claros y de distinta luminosidad: se distinguen también impresos en gris.
_RESULT = {'fillcolor': '#f6b26b', 'penwidth': '2'}
_INTERMEDIATE = {'fillcolor': '#ffffff'}
_PARAMETER = {'fillcolor': '#a4c2f4', 'style': 'filled,rounded'}
_LEAF = {'fillcolor': '#efefef', 'style': 'filled,rounded'}
_OPERATION = {'shape': 'ellipse', 'fillcolor': '#fff2cc'}

# Por convención, los pesos y sesgos se llaman w o b con un índice: W₀, b, L0.N1.w0.
_PARAMETER_NAME = re.compile(r'(.*\.)?([wW](eight)?|[bB](ias)?)[\d_₀-₉]*')

# Lo que XML, y por lo tanto SVG, no admite: los caracteres de control y los sustitutos sueltos.
_UNPRINTABLE = re.compile('[\x00-\x09\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]')


def trace(root: Value) -> tuple[list[Value], list[tuple[Value, Value]]]:
    """Devuelve los nodos y las aristas del grafo de `root`.

    Los nodos están en orden topológico: cada uno después de sus operandos. Hay una arista
    (operando, resultado) por cada operando, así que en x*x son dos.

    Raises:
        TypeError: si `root` no es un Value.
    """
    if not isinstance(root, Value):
        raise TypeError(f'se esperaba un Value y llegó {root!r}: elegí un solo resultado')
    nodes = topological_order(root)
    return nodes, [(operand, v) for v in nodes for operand in v._prev]


def show_graph(
    root: Value, format: str = 'svg', rankdir: str = 'LR', max_nodes: int = 1500
) -> graphviz.Digraph:
    """Dibuja el grafo que termina en `root`.

    Cada Value es una caja con su nombre, su dato y su gradiente, y cada operación una elipse. Los
    datos y las constantes son grises, los parámetros (las hojas con nombre de peso o de sesgo:
    W₀, b, L0.N1.w0) azules, los valores intermedios blancos y el resultado naranja.

    Args:
        root: el resultado; se dibuja todo lo que hizo falta para calcularlo.
        format: el formato de `render()`: 'svg', 'png' u otro de Graphviz.
        rankdir: hacia dónde avanza el cálculo: 'LR', 'TB', 'RL' o 'BT'.
        max_nodes: cuántos Values se aceptan como máximo.

    Returns:
        Un graphviz.Digraph: un notebook lo dibuja, y `.render('archivo')` lo guarda. No hace
        falta instalar Graphviz: si no está el comando dot se usa graphviz-pure.

    Raises:
        TypeError: si `root` no es un Value.
        ValueError: si `format` o `rankdir` no existen o si hay más de `max_nodes` Values.
    """
    if format not in graphviz.FORMATS:
        raise ValueError(f"no existe el formato {format!r}: usá 'svg' o 'png'")
    if rankdir not in ('LR', 'TB', 'RL', 'BT'):
        raise ValueError(f"rankdir es 'LR', 'TB', 'RL' o 'BT': llegó {rankdir!r}")
    nodes, edges = trace(root)
    if len(nodes) > max_nodes:
        raise ValueError(
            f'el grafo tiene {len(nodes)} Values y se dibujan {max_nodes} como máximo: dibujá la '
            f'pérdida de un solo ejemplo, o pasá max_nodes={len(nodes)} y esperá'
        )
    graph = PortableDigraph(
        format=format,
        # size, en pulgadas, es un tope: sin él, el png de una cadena larga ocupa gigabytes.
        graph_attr={'rankdir': rankdir, 'size': '50,50'},
        node_attr={'shape': 'record', 'style': 'filled', 'fontname': 'Helvetica'},
    )
    ids = {v: f'n{i}' for i, v in enumerate(nodes)}
    for v in nodes:
        fields = (_escape(str(v.name)), f'data {_decimal(v.data)}', f'grad {_decimal(v.grad)}')
        graph.node(ids[v], f'{{ {" | ".join(fields)} }}', **_look(v, root))
        if v._prev:
            graph.node(f'{ids[v]}op', _escape(v._op), **_OPERATION)
            graph.edge(f'{ids[v]}op', ids[v])
    for operand, v in edges:
        graph.edge(ids[operand], f'{ids[v]}op')
    return graph


def _look(v: Value, root: Value) -> dict[str, str]:
    """Los atributos que dicen qué es `v`: resultado, valor intermedio, parámetro u otra hoja."""
    if v is root:
        return _RESULT
    if v._prev:
        return _INTERMEDIATE
    return _PARAMETER if _PARAMETER_NAME.fullmatch(str(v.name)) else _LEAF


def _decimal(number: float) -> str:
    """Cuatro decimales, o notación científica si el número no entraría en su caja."""
    return f'{number:.4f}' if abs(number) < 1e9 else f'{number:.4e}'


def _escape(text: str) -> str:
    """Escribe `text` de modo que Graphviz lo muestre tal cual en un record."""
    text = _UNPRINTABLE.sub('', text).replace('\\', r'\\').replace('&', '&amp;')
    return re.sub(r'([{}|<> ])', r'\\\1', text).replace('\n', r'\n')


class PortableDigraph(graphviz.Digraph):  # type: ignore[misc]  # graphviz no declara tipos
    """Un graphviz.Digraph que, donde no está el comando dot, dibuja con graphviz-pure."""

    def render(self, filename: str | os.PathLike[str] | None = None, **kwargs: Any) -> str:
        """Guarda el dibujo y devuelve su ruta; los argumentos son los de graphviz.

        Raises:
            ValueError: si el formato no existe o no está disponible; no se escribe nada.
            RuntimeError: si no hay con qué dibujar.
        """
        suffix = Path(kwargs.get('outfile') or '').suffix[1:]
        with _renderer(kwargs.get('format') or suffix or self.format):
            return str(super().render(filename, **(kwargs | {'quiet': True})))

    def pipe(self, format: str | None = None, **kwargs: Any) -> Any:
        """Devuelve el dibujo como bytes, o como str si se da `encoding`. Errores: los de render."""
        with _renderer(format or self.format):
            return super().pipe(format, **(kwargs | {'quiet': True}))


_lock = threading.Lock()


@contextlib.contextmanager
def _renderer(format: str) -> Iterator[None]:
    """Hace que graphviz use el comando que haya, si es que sabe dibujar en `format`."""
    command = _find_renderer()
    # Los dos comandos contestan a un formato que no existe con la lista de los que conocen.
    answer = subprocess.run([command, '-T?'], capture_output=True, encoding='utf-8', check=False)
    formats = answer.stderr.rpartition('Use one of:')[2].split()
    if format.lower() not in formats:
        raise ValueError(
            f'{Path(command).stem} no sabe dibujar en {format!r}: usá uno de {", ".join(formats)}'
        )
    with _lock:
        before = dot_command.DOT_BINARY
        dot_command.DOT_BINARY = command
        try:
            yield
        finally:
            dot_command.DOT_BINARY = before


def _find_renderer() -> str:
    """La ruta de dot si está en el PATH y, si no, la de graphviz-pure."""
    found = shutil.which('dot')
    if found is not None:
        return found
    for folder in _script_folders():
        found = shutil.which('graphviz-pure', path=folder)
        if found is not None:
            return found
    raise RuntimeError(
        'no hay con qué dibujar el grafo: instalá graphviz-pure con '
        '"python -m pip install graphviz-pure", o Graphviz desde graphviz.org'
    )


def _script_folders() -> Iterator[str | None]:
    """Dónde puede haber dejado pip el comando: el entorno virtual puede no estar activado."""
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        for file in importlib.metadata.files('graphviz-pure') or []:
            if file.stem == 'graphviz-pure':
                yield str(Path(str(file.locate())).parent)
    yield sysconfig.get_path('scripts')
    yield sysconfig.get_path('scripts', sysconfig.get_preferred_scheme('user'))
    yield str(Path(sys.executable).parent)
    yield None  # el PATH
