"""Backpropagation paso a paso: una página para recorrer la ida y la vuelta nodo por nodo."""

from __future__ import annotations

import base64
import dataclasses
import html
import importlib.resources
import json
import math
import os
import re
import sys
import tempfile
import webbrowser
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

from michigrad._drawing import Box, draw, graph_nodes, name_of
from michigrad._story import (
    OBVIOUS,
    Term,
    expression,
    labels,
    minus,
    number,
    number_term,
    shorten,
    slope_symbols,
)
from michigrad.engine import Value

if sys.platform == 'emscripten':
    from michigrad import _browser

_MAX_VALUES = 300
_SVG = 'http://www.w3.org/2000/svg'


@dataclasses.dataclass(frozen=True)
class BackpropPage:
    """La página que arma show_backprop: un notebook la muestra sola.

    Atributos: `html`, la página completa, que no pide nada a la red; `picture`, el grafo con los
    gradientes que deja `backward()`, como texto SVG.
    """

    html: str = dataclasses.field(repr=False)
    picture: str = dataclasses.field(repr=False)

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Guarda la página en `path` (por ejemplo 'backprop.html') y devuelve su ruta."""
        path = Path(path)
        path.write_text(self.html, encoding='utf-8', newline='\n')
        return path

    def show(self) -> None:
        """Abre la página en el navegador o, si no hay ninguno, dice dónde quedó guardada.

        Si Python ya corre en el navegador, la muestra en el notebook, debajo de la celda.
        """
        if sys.platform == 'emscripten':
            _browser.show(self)
            return
        path = self.save(Path(tempfile.mkdtemp(prefix='michigrad-')) / 'backprop.html')
        if not webbrowser.open(path.as_uri()):
            print(f'No encontré un navegador: abrí {path}')

    def _repr_html_(self) -> str:
        # Un notebook que no es de confianza borra el iframe y los scripts: queda la imagen.
        picture = base64.b64encode(self.picture.encode()).decode()
        return (
            '<details><summary>El grafo como imagen fija</summary>'
            '<img alt="El grafo con los gradientes que deja backward()"'
            ' style="max-width: 100%; background: white"'
            f' src="data:image/svg+xml;base64,{picture}"></details>'
            '<iframe title="Backpropagation paso a paso" sandbox="allow-scripts"'
            ' style="width: 100%; height: 640px; border: 0"'
            f' srcdoc="{html.escape(self.html)}"></iframe>'
        )


def show_backprop(root: Value, rankdir: str = 'LR') -> BackpropPage:
    """Arma una página para recorrer, de a un nodo, el cálculo de `root` y de sus gradientes.

    Primero aparecen los valores, en orden; después el resultado recibe gradiente 1 y cada
    operación lo reparte entre sus operandos, con la regla de la cadena escrita con los números de
    ese grafo: ∂L/∂W₀ += ∂L/∂(x₀·W₀) · x₀ = −0.2600 · 0.5000 = −0.1300. El último paso muestra lo
    que dejaría `root.backward()`, incluso en las hojas que ya tenían un gradiente acumulado. El
    grafo queda como estaba: ni los datos ni los gradientes cambian.

    Args:
        root: el resultado; se muestra todo lo que hizo falta para calcularlo.
        rankdir: hacia dónde avanza el cálculo: 'LR', 'TB', 'RL' o 'BT'.

    Returns:
        Una BackpropPage: un notebook la muestra, `.show()` la abre en el navegador y
        `.save('backprop.html')` la guarda.

    Raises:
        TypeError: si `root` no es un Value.
        ValueError: si `rankdir` no existe o si hay más de 300 Values.
        RuntimeError: si no hay con qué dibujar el grafo.
    """
    nodes = graph_nodes(root)
    if len(nodes) > _MAX_VALUES:
        raise ValueError(
            f'el grafo tiene {len(nodes)} Values y paso a paso se siguen {_MAX_VALUES} como '
            'máximo: mostrá la pérdida de un solo ejemplo, con una red más chica'
        )
    before = [(v.data, v.grad, v.name) for v in nodes]
    try:
        story = _Story(root, nodes)
        steps = [*story.forward(), *story.backward()]
        svg = story.draw(rankdir)
    finally:
        for v, (data, grad, name) in zip(nodes, before, strict=True):
            v.data, v.grad, v.name = data, grad, name
    content = {
        'svg': svg,
        'story': _json(
            {'nodes': story.facts(), 'steps': [dataclasses.asdict(step) for step in steps]}
        ),
    }
    template = importlib.resources.files('michigrad').joinpath('stepper.html')
    # De una sola pasada: un nombre que se escriba como una marca no se reemplaza.
    page = re.sub(
        '<!--(svg|story)-->',
        lambda mark: content[mark[1]],
        template.read_text(encoding='utf-8'),
    )
    return BackpropPage(page, svg)


@dataclasses.dataclass(frozen=True)
class _Line:
    """Una cuenta: hasta el último igual, su resultado, y qué muestra de qué nodo.

    `grad` y `exact` son el gradiente con el que queda el nodo; en la ida están vacíos, porque lo
    que aparece es su dato.
    """

    text: str
    answer: str
    node: str
    grad: str = ''
    exact: str = ''
    note: str = ''


@dataclasses.dataclass(frozen=True)
class _Step:
    """Un paso: el nodo que trabaja (ninguno en el último), un título y sus cuentas."""

    phase: str
    node: str
    caption: str
    lines: list[_Line]
    given: bool = False  # no hay nada que calcular: es una hoja


class _Story:
    """Recorre el grafo como `backward`, anotando cada cuenta. Deja los gradientes cambiados."""

    def __init__(self, root: Value, nodes: list[Value]) -> None:
        self.root = root
        self.nodes = nodes
        self.ids = {v: f'n{i}' for i, v in enumerate(nodes)}
        self.terms = labels(root, nodes)
        # Todos los gradientes por los que pasa cada nodo; los intermedios empiezan en 0.
        self.grads: dict[Value, list[float]] = {v: [0 if v._prev else v.grad] for v in nodes}
        self.slopes: dict[Value, list[str]] = {v: [] for v in nodes}

    def _expression(self, v: Value) -> Term:
        return expression(v._op, [self.terms[operand] for operand in v._prev])

    def forward(self) -> Iterator[_Step]:
        """Los pasos de la ida: cada valor, después de sus operandos."""
        for v in self.nodes:
            sides = [self.terms[v].text]
            if v._prev:
                numbers = [number_term(operand.data) for operand in v._prev]
                if v._op in ('+', '-', '*', '/'):
                    numbers[0] = Term(numbers[0].text)  # un signo al principio no se confunde
                symbols = self._expression(v).text
                sides += [symbols] if symbols != sides[0] else []
                sides += [expression(v._op, numbers).text.replace('·', ' · ')]
            line = _Line(' = '.join([*sides, '']), number(v.data), self.ids[v])
            op = shorten(v._op)
            caption = (
                f'La operación {op} calcula un valor' if v._prev else 'Una hoja: su dato está dado'
            )
            yield _Step('forward', self.ids[v], caption, [line], given=not v._prev)

    def backward(self) -> Iterator[_Step]:
        """Los pasos de la vuelta; aplica a los Values las mismas sumas que `backward`."""
        for v in self.nodes:
            v.grad = self.grads[v][0]
        caption = 'El resultado empieza con gradiente 1'
        if any(v.grad for v in self.nodes):
            caption += '; las hojas suman sobre el gradiente que ya tenían'
        self.root.grad += 1
        first = self._line(self.root, self.grads[self.root][0], 1, '')
        yield _Step('backward', self.ids[self.root], caption, [first])
        for v in reversed(self.nodes):
            if v._prev or v._rule:
                caption = f'{self.terms[v].text} reparte su gradiente, {number(v.grad)}'
                rule = self._own_rule if v._rule or v._children else self._local_rule
                yield _Step('backward', self.ids[v], caption, list(rule(v)))
        yield _Step('backward', '', 'Listo: así deja los gradientes backward()', [], given=True)

    def _local_rule(self, v: Value) -> Iterator[_Line]:
        """Una operación del motor: derivada local por gradiente, operando por operando."""
        symbols = slope_symbols(v._op, [self.terms[operand] for operand in v._prev])
        for operand, slope, symbol in zip(v._prev, (v._da, v._db), symbols, strict=False):
            before = operand.grad
            gain = 0 if slope is None else slope * v.grad
            operand.grad += gain
            local, factor = self._derivative(v, operand), number_term(slope or 0)
            sides = [local, factor.text] if symbol in OBVIOUS else [local, symbol, factor.text]
            self.slopes[v].append(' = '.join(sides))
            how = (
                f'{self._derivative(self.root, v)} · {symbol or local} = '
                f'{number(v.grad)} · {factor.within(1)} = '
            )
            note = 'por acá no pasa gradiente' if slope is None else ''
            yield self._line(operand, before, gain, how, note)

    def _own_rule(self, v: Value) -> Iterator[_Line]:
        """Una operación propia: lo que su `_backward` suma partiendo de gradientes en 0."""
        before = {u: u.grad for u in self.nodes}
        for u in self.nodes:
            if u is not v:
                u.grad = 0
        v._backward()
        gains = {u: u.grad for u in self.nodes}
        for u, grad in before.items():
            u.grad = grad
        v._backward()
        changed = [u for u in self.nodes if u.grad is not before[u]]
        for u in dict.fromkeys([*v._prev, *changed]):
            grad = before[u]
            how = f'{self._derivative(self.root, v)} · {self._derivative(v, u)} = '
            if v.grad and math.isfinite(v.grad):
                slope = number_term(gains[u] / v.grad)
                self.slopes[v].append(f'{self._derivative(v, u)} = {slope.text}')
                how += f'{number(v.grad)} · {slope.within(1)} = '
            note = '' if v._rule else 'esta operación no tiene _backward'
            if u.grad == gains[u] != grad + gains[u]:
                note = f'pisó el {number(grad)} que había: ¿dice = en vez de +=?'
            yield self._line(u, grad, gains[u], how, note)

    def _line(self, v: Value, before: float, gain: float, how: str, note: str = '') -> _Line:
        """Anota que `v` pasó de `before` a su gradiente de ahora, sumándole `gain`."""
        self.grads[v].append(v.grad)
        if before and not note:
            note = f'acumula {number(before)} + {number_term(gain).within(1)} = {number(v.grad)}'
        text = f'{self._derivative(self.root, v)} += {how}'
        return _Line(text, number(gain), self.ids[v], number(v.grad), minus(str(v.grad)), note)

    def _derivative(self, of: Value, wrt: Value) -> str:
        return f'∂{self.terms[of].atom}/∂{self.terms[wrt].atom}'

    def facts(self) -> dict[str, dict[str, object]]:
        """Lo que la página sabe de cada nodo además de lo que cuentan los pasos."""
        return {
            self.ids[v]: {
                'name': self.terms[v].text,
                'op': f'{shorten(v._op)}: {self._expression(v).text}' if v._prev else '',
                'operands': [self.ids[operand] for operand in dict.fromkeys(v._prev)],
                'data': number(v.data),
                'exactData': minus(str(v.data)),
                'grad': number(self.grads[v][0]),
                'exactGrad': minus(str(self.grads[v][0])),
                'slopes': list(dict.fromkeys(self.slopes[v])),
            }
            for v in self.nodes
        }

    def draw(self, rankdir: str) -> str:
        """El SVG de show_graph con un id en cada nodo, arista y operación, y el estado final."""
        boxes = {}
        for v in self.nodes:
            grad = max(map(number, self.grads[v]), key=len)  # que entren todos
            boxes[v] = Box(name_of(v) or self.terms[v].text, number(v.data), grad, v._op)
        graph = draw(self.nodes, boxes, rankdir=rankdir)
        # Sin el espacio de nombres, los elementos se llaman g y text a secas.
        text = graph.pipe('svg', encoding='utf-8').replace(f' xmlns="{_SVG}"', '', 1)
        svg = ElementTree.fromstring(text)
        by_id = {id: v for v, id in self.ids.items()}
        for group in svg.iter('g'):
            name = group.findtext('title', '')
            for title in group.findall('title'):
                group.remove(title)  # se vería al apuntar con el mouse
            operation = re.search(r'(n\d+)op', name)
            if operation:  # la elipse o una de sus aristas
                group.set('data-op', operation[1])
            if group.get('class') == 'node':
                group.set('id', name)
            if name in by_id:
                data_text, grad_text = group.findall('text')[-2:]
                data_text.text = f'data {number(by_id[name].data)}'
                grad_text.text = f'grad {number(self.grads[by_id[name]][-1])}'
        svg.set('xmlns', _SVG)
        return ElementTree.tostring(svg, encoding='unicode')


def _json(content: object) -> str:
    """JSON que se puede escribir adentro de un <script>: nada en él parece HTML."""
    text = json.dumps(content)
    return text.replace('&', r'\u0026').replace('<', r'\u003c').replace('>', r'\u003e')
