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
import tempfile
import webbrowser
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

from michigrad.engine import Value
from michigrad.visualize import show_graph, trace

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
        """Abre la página en el navegador o, si no hay ninguno, dice dónde quedó guardada."""
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
    nodes, _ = trace(root)
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


class _Term(NamedTuple):
    """Una expresión escrita y cuánto ata: 0 un signo, 1 la suma, 2 el producto, 3 la potencia."""

    text: str
    rank: int = 4

    def within(self, rank: int) -> str:
        """La expresión, entre paréntesis si ata menos que `rank`."""
        return self.text if self.rank >= rank else f'({self.text})'

    @property
    def atom(self) -> str:
        return self.within(4)


class _Story:
    """Recorre el grafo como `backward`, anotando cada cuenta. Deja los gradientes cambiados."""

    def __init__(self, root: Value, nodes: list[Value]) -> None:
        self.root = root
        self.nodes = nodes
        self.ids = {v: f'n{i}' for i, v in enumerate(nodes)}
        self.aliases: dict[Value, str] = {}
        self.terms: dict[Value, _Term] = {}
        for v in nodes:
            self.terms[v] = self._term(v)
        # Todos los gradientes por los que pasa cada nodo; los intermedios empiezan en 0.
        self.grads: dict[Value, list[float]] = {v: [0 if v._prev else v.grad] for v in nodes}
        self.slopes: dict[Value, list[str]] = {v: [] for v in nodes}

    def _term(self, v: Value) -> _Term:
        """Cómo se lo llama en las cuentas: su nombre o, si no tiene, su expresión si es corta.

        Si es larga se le pone v y un número, que también van en el dibujo; al resultado, L.
        """
        name = _shorten(str(v.name))
        if name:
            return _Term(name)
        term = self._expression(v) if v._prev else _number_term(v.data, 'g')
        is_loss = v is self.root and v._prev and all(u.name != 'L' for u in self.nodes)
        if len(term.text) <= 20 and not is_loss:
            return term
        self.aliases[v] = 'L' if is_loss else f'v{self.ids[v][1:].translate(_SUBSCRIPTS)}'
        return _Term(self.aliases[v])

    def _expression(self, v: Value) -> _Term:
        return _expression(v._op, [self.terms[operand] for operand in v._prev])

    def forward(self) -> Iterator[_Step]:
        """Los pasos de la ida: cada valor, después de sus operandos."""
        for v in self.nodes:
            sides = [self.terms[v].text]
            if v._prev:
                numbers = [_number_term(operand.data) for operand in v._prev]
                if v._op in ('+', '-', '*', '/'):
                    numbers[0] = _Term(numbers[0].text)  # un signo al principio no se confunde
                symbols = self._expression(v).text
                sides += [symbols] if symbols != sides[0] else []
                sides += [_expression(v._op, numbers).text.replace('·', ' · ')]
            line = _Line(' = '.join([*sides, '']), _number(v.data), self.ids[v])
            op = _shorten(v._op)
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
                caption = f'{self.terms[v].text} reparte su gradiente, {_number(v.grad)}'
                rule = self._own_rule if v._rule or v._children else self._local_rule
                yield _Step('backward', self.ids[v], caption, list(rule(v)))
        yield _Step('backward', '', 'Listo: así deja los gradientes backward()', [], given=True)

    def _local_rule(self, v: Value) -> Iterator[_Line]:
        """Una operación del motor: derivada local por gradiente, operando por operando."""
        symbols = _slope_symbols(v._op, [self.terms[operand] for operand in v._prev])
        for operand, slope, symbol in zip(v._prev, (v._da, v._db), symbols, strict=False):
            before = operand.grad
            gain = 0 if slope is None else slope * v.grad
            operand.grad += gain
            local, number = self._derivative(v, operand), _number_term(slope or 0)
            sides = [local, number.text] if symbol in _OBVIOUS else [local, symbol, number.text]
            self.slopes[v].append(' = '.join(sides))
            how = (
                f'{self._derivative(self.root, v)} · {symbol or local} = '
                f'{_number(v.grad)} · {number.within(1)} = '
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
                slope = _number_term(gains[u] / v.grad)
                self.slopes[v].append(f'{self._derivative(v, u)} = {slope.text}')
                how += f'{_number(v.grad)} · {slope.within(1)} = '
            note = '' if v._rule else 'esta operación no tiene _backward'
            if u.grad == gains[u] != grad + gains[u]:
                note = f'pisó el {_number(grad)} que había: ¿dice = en vez de +=?'
            yield self._line(u, grad, gains[u], how, note)

    def _line(self, v: Value, before: float, gain: float, how: str, note: str = '') -> _Line:
        """Anota que `v` pasó de `before` a su gradiente de ahora, sumándole `gain`."""
        self.grads[v].append(v.grad)
        if before and not note:
            note = f'acumula {_number(before)} + {_number_term(gain).within(1)} = {_number(v.grad)}'
        text = f'{self._derivative(self.root, v)} += {how}'
        return _Line(text, _number(gain), self.ids[v], _number(v.grad), _minus(str(v.grad)), note)

    def _derivative(self, of: Value, wrt: Value) -> str:
        return f'∂{self.terms[of].atom}/∂{self.terms[wrt].atom}'

    def facts(self) -> dict[str, dict[str, object]]:
        """Lo que la página sabe de cada nodo además de lo que cuentan los pasos."""
        return {
            self.ids[v]: {
                'name': self.terms[v].text,
                'op': f'{_shorten(v._op)}: {self._expression(v).text}' if v._prev else '',
                'operands': [self.ids[operand] for operand in dict.fromkeys(v._prev)],
                'data': _number(v.data),
                'exactData': _minus(str(v.data)),
                'grad': _number(self.grads[v][0]),
                'exactGrad': _minus(str(self.grads[v][0])),
                'slopes': list(dict.fromkeys(self.slopes[v])),
            }
            for v in self.nodes
        }

    def draw(self, rankdir: str) -> str:
        """El SVG de show_graph con un id en cada nodo, arista y operación, y el estado final."""
        for v in self.nodes:
            v.grad = max(self.grads[v], key=lambda grad: len(_number(grad)))  # que entren todos
            v.name = self.aliases.get(v, v.name)
        graph = show_graph(self.root, rankdir=rankdir)
        graph.graph_attr.pop('size')  # el tope es para los mapas de bits
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
                data, grad = group.findall('text')[-2:]
                data.text = f'data {_number(by_id[name].data)}'
                grad.text = f'grad {_number(self.grads[by_id[name]][-1])}'
        svg.set('xmlns', _SVG)
        return ElementTree.tostring(svg, encoding='unicode')


_INFIX = {'+': (' + ', 1), '-': (' − ', 1), '*': ('·', 2), '/': ('/', 2), '**': ('^', 3)}

# Las derivadas locales de cada operación, escritas: {x} es el operando, {a} y {b} los operandos
# entre paréntesis si hacen falta. Lo que no está acá se escribe ∂resultado/∂operando.
_SLOPES = {
    '+': ('1', '1'),
    '-': ('1', '(−1)'),
    '*': ('{b}', '{a}'),
    '/': ('(1/{b})', '(−{a}/{b}²)'),
    '**': ('{b}·{a}^({b} − 1)', '{a}^{b}·log({x})'),
    'neg': ('(−1)',),
    'abs': ('signo({x})',),
    'exp': ('exp({x})',),
    'log': ('(1/{a})',),
    'sqrt': ('(1/(2·√{a}))',),
    'sin': ('cos({x})',),
    'cos': ('(−sin({x}))',),
    'tanh': ('(1 − tanh({x})²)',),
    'sigmoid': ('sigmoid({x})·(1 − sigmoid({x}))',),
    'ReLU': ('(1 si {x} > 0, si no 0)',),
}

_OBVIOUS = ('', '0', '1', '(−1)')  # no dicen más que su número

_SUBSCRIPTS = str.maketrans('0123456789', '₀₁₂₃₄₅₆₇₈₉')
_SUPERSCRIPTS = str.maketrans('-0123456789', '⁻⁰¹²³⁴⁵⁶⁷⁸⁹')


def _expression(op: str, operands: Sequence[_Term]) -> _Term:
    """Escribe una operación como en el pizarrón: (y − ŷ)², tanh(x), x₀·W₀."""
    if op in _INFIX and len(operands) > 1:
        symbol, rank = _INFIX[op]
        left = 4 if op == '**' else rank
        right = rank if op in '+*' else rank + 1
        first, *others = operands
        return _Term(symbol.join([first.within(left), *(t.within(right) for t in others)]), rank)
    if len(operands) == 1:
        (x,) = operands
        if op.startswith('**'):
            return _power(x, op[2:])
        if op == 'neg':
            return _Term(f'−{x.within(2)}', 0)
        if op == 'abs':
            return _Term(f'|{x.text}|')
        if op == 'sqrt':
            return _Term(f'√{x.atom}', 3)
    return _Term(f'{_shorten(op) or "op"}({", ".join(t.text for t in operands)})')


def _slope_symbols(op: str, operands: Sequence[_Term]) -> Sequence[str]:
    """Las derivadas locales de una operación, escritas; '' donde no se sabe cómo."""
    a, b = operands[0], operands[-1]
    if op.startswith('**') and op != '**':
        n = float(op[2:])
        if n in (0, 1):
            return [f'{n:g}']
        power = a.atom if n == 2 else _power(a, f'{n - 1:g}').text
        return [f'{_number_term(n, "g").within(1)}·{power}']
    templates = _SLOPES.get(op, [''] * len(operands))
    return [t.format(a=a.atom, b=b.atom, x=a.text) for t in templates]


def _power(x: _Term, n: str) -> _Term:
    """x elevado a `n`: con un superíndice si es entero, x² o x⁻¹; si no, x^0.5."""
    if re.fullmatch('-?[0-9]+', n):
        return _Term(x.atom + n.translate(_SUPERSCRIPTS), 3)
    return _Term(f'{x.atom}^({_minus(n)})' if n.startswith('-') else f'{x.atom}^{n}', 3)


def _number(number: float, spec: str = '') -> str:
    """Cuatro decimales, o notación científica si es enorme o si se vería como 0 sin serlo."""
    size = abs(number)
    spec = spec or ('.4e' if size >= 1e9 else '.1e' if 0 < size < 5e-5 else '.4f')
    return _minus(f'{number + 0.0:{spec}}')  # -0.0 + 0.0 es 0.0


def _number_term(number: float, spec: str = '') -> _Term:
    text = _number(number, spec)
    return _Term(text, 0 if text.startswith('−') else 4)


def _minus(number: str) -> str:
    return number.replace('-', '−')


def _shorten(text: str) -> str:
    """Un nombre en una sola línea y no muy largo."""
    text = ' '.join(text.split())
    return text if len(text) <= 24 else f'{text[:23]}…'


def _json(content: object) -> str:
    """JSON que se puede escribir adentro de un <script>: nada en él parece HTML."""
    text = json.dumps(content)
    return text.replace('&', r'\u0026').replace('<', r'\u003c').replace('>', r'\u003e')
