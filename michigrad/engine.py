"""El motor de Michigrad: `Value` anota cada operación y `backward` calcula los gradientes.

Un `Value` es un número que recuerda de qué operación salió. Operar con ellos arma un grafo: cada
resultado guarda sus operandos y la derivada local respecto de cada uno. `backward` recorre ese
grafo desde el resultado hacia atrás y aplica en cada nodo la regla de la cadena.
"""

from __future__ import annotations

import functools
import math
import operator
import reprlib
from collections.abc import Callable, Sequence
from numbers import Real
from typing import Any

_HINTS = {
    'str': 'convertilo antes con float(...)',
    'NoneType': 'fijate si a alguna función le falta el return',
    'list': 'para varios números usá [Value(x) for x in datos]',
    'tuple': 'para varios números usá [Value(x) for x in datos]',
    'ndarray': 'para varios números usá [Value(x) for x in datos]',
    'complex': 'quedate con la parte real: z.real',
    'Value': 'ya es un Value, usalo así como está',
}


def _number(data: Any) -> float:
    """Devuelve `data` como int o float de Python: con los escalares de numpy todo es más lento."""
    if not isinstance(data, (int, float)):  # bool es un int y np.float64 es un float
        if getattr(data, 'ndim', None) == 0:  # los otros escalares y los arrays 0-d de numpy
            data = data.item()
        if not isinstance(data, Real):
            kind = type(data).__name__
            hint = _HINTS.get(kind, 'usá un int o un float')
            raise TypeError(
                f'se esperaba un número real y llegó {reprlib.repr(data)} ({kind}): {hint}'
            )
    try:
        as_float = float(data)
    except OverflowError:
        raise OverflowError('el número no entra en un float: el máximo es 1.8e308') from None
    return int(data) if isinstance(data, int) else as_float


def _binary(forward: Callable[[Value, Any], Value]) -> Callable[[Value, Any], Value]:
    """Decora una operación de dos operandos: el segundo le llega como Value o como número."""

    @functools.wraps(forward)
    def operation(self: Value, other: Any) -> Any:
        if not isinstance(other, Value):
            if getattr(other, 'ndim', 0):
                return NotImplemented  # un array: numpy repite la operación elemento a elemento
            other = _number(other)
        return forward(self, other)

    return operation


def _domain(op: str, needs: str = '') -> Callable[[Callable[..., Value]], Callable[..., Value]]:
    """Decora una operación que no siempre tiene resultado real, para que su error lo explique."""

    def decorate(forward: Callable[..., Value]) -> Callable[..., Value]:
        @functools.wraps(forward)
        def operation(*operands: Any) -> Value:
            try:
                return forward(*operands)
            except (ZeroDivisionError, OverflowError, ValueError) as error:
                too_big = isinstance(error, OverflowError)
                reason = 'el resultado no entra en un float: el máximo es 1.8e308'
                received = ' y '.join(_describe(v) for v in operands)
                raise type(error)(f'{op} con {received}: {reason if too_big else needs}') from None

        return operation

    return decorate


def _describe(operand: Any) -> str:
    if not isinstance(operand, Value):
        return str(operand)
    return f'{operand.name}={operand.data}' if operand.name else str(operand.data)


def _operands(children: Sequence[Value]) -> tuple[Value, ...]:
    """Los operandos de una operación propia, en una tupla."""
    if not isinstance(children, (tuple, list)) or not all(isinstance(v, Value) for v in children):
        raise TypeError(
            f'_children es una tupla de Values, como (self,) o (self, other): llegó {children!r}'
        )
    return tuple(children)


def _comparison(compare: Callable[[float, float], bool]) -> Callable[[Value, Any], bool]:
    """Arma un comparador que mira solo los datos; una comparación no entra en el grafo."""

    def comparison(self: Value, other: Any) -> Any:
        if isinstance(other, Value):
            return compare(self.data, other.data)
        if getattr(other, 'ndim', 0):
            return NotImplemented
        return compare(self.data, _number(other))

    return comparison


class Value:
    """Un número que recuerda cómo se calculó.

    Args:
        data: cualquier número real (int, float, bool, Fraction, escalar o array 0-d de numpy).
        _children: los operandos, si lo produjo una operación escrita por quien usa la biblioteca.
        _op: el nombre de esa operación, para el dibujo.
        name: un nombre para el dibujo y los mensajes de error.

    Atributos: `data`, el número; `grad`, la derivada del resultado respecto de este nodo, que
    completa `backward()`; `name`; `_op` y `_prev`, la operación y los operandos ('' y () en una
    hoja). Para agregar una operación propia, su derivada se asigna a `_backward`:

        def cubo(self):
            out = Value(self.data**3, (self,), 'cubo')
            def _backward():
                self.grad += 3 * self.data**2 * out.grad
            out._backward = _backward
            return out

    Raises:
        TypeError: si `data` no es un número real o si algún operando no es un Value.
        OverflowError: si `data` no entra en un float.
    """

    # Los operandos de las operaciones de este archivo son _a y _b; _da y _db, las derivadas locales
    # (None: por ahí no pasa gradiente). _children y _rule son los de una operación propia.
    # __slots__ y la falta de tuplas y clausuras hacen que un nodo ocupe la quinta parte que en
    # micrograd, y que Python libere el grafo apenas se deja de usar.
    __slots__ = ('_a', '_b', '_children', '_da', '_db', '_op', '_rule', 'data', 'grad', 'name')

    def __init__(
        self, data: Any, _children: Sequence[Value] = (), _op: str = '', name: str = ''
    ) -> None:
        self.data: float = data if type(data) is float else _number(data)
        self.grad: float = 0
        self.name = name
        self._op = _op
        self._a: Value | None = None
        self._b: Value | None = None
        self._da: float | None = None
        self._db: float | None = None
        empty = type(_children) is tuple and not _children
        self._children: tuple[Value, ...] = () if empty else _operands(_children)
        self._rule: Callable[[], None] | None = None

    @property
    def _prev(self) -> tuple[Value, ...]:
        """Los operandos en orden, repetidos si se repiten: en x*x son dos."""
        if self._a is None:
            return self._children
        return (self._a,) if self._b is None else (self._a, self._b)

    @property
    def _backward(self) -> Callable[[], None]:
        """La función que reparte el gradiente de este nodo entre sus operandos."""
        return self._rule or self._chain_rule

    @_backward.setter
    def _backward(self, rule: Callable[[], None]) -> None:
        self._rule = rule

    def _chain_rule(self) -> None:
        """Suma en cada operando su derivada local por el gradiente de este nodo."""
        if self._a is not None and self._da is not None:
            self._a.grad += self._da * self.grad
        if self._b is not None and self._db is not None:
            self._b.grad += self._db * self.grad

    def backward(self) -> None:
        """Calcula el gradiente de este Value respecto de cada nodo de su grafo.

        Como en PyTorch, las hojas acumulan (`+=`) lo de cada llamada hasta que se ponen en cero, y
        los nodos intermedios guardan solo lo de esta. Si una operación propia falla a mitad de
        camino, todos los gradientes vuelven a como estaban.
        """
        order = topological_order(self)
        before = [v.grad for v in order]
        try:
            for v in order:
                if v._prev:
                    v.grad = 0
            self.grad += 1
            for v in reversed(order):
                v._backward()
        except BaseException:
            for v, grad in zip(order, before, strict=True):
                v.grad = grad
            raise

    @_binary
    def __add__(self, other: Any) -> Value:
        other = other if isinstance(other, Value) else Value(other)
        return _node(self.data + other.data, '+', self, 1, other, 1)

    @_binary
    def __sub__(self, other: Any) -> Value:
        other = other if isinstance(other, Value) else Value(other)
        return _node(self.data - other.data, '-', self, 1, other, -1)

    @_binary
    def __mul__(self, other: Any) -> Value:
        other = other if isinstance(other, Value) else Value(other)
        return _node(self.data * other.data, '*', self, other.data, other, self.data)

    @_binary
    @_domain('/', 'el divisor no puede ser 0')
    def __truediv__(self, other: Any) -> Value:
        other = other if isinstance(other, Value) else Value(other)
        out = self.data / other.data
        return _node(out, '/', self, 1 / other.data, other, -out / other.data)

    @_binary
    @_domain('**', 'una base negativa pide un exponente entero, y una base 0 uno no negativo')
    def __pow__(self, other: Any) -> Value:
        x = self.data
        n = other.data if isinstance(other, Value) else other
        out = _power(x, n)
        if not isinstance(other, Value):
            return _node(out, f'**{n}', self, _power_slope(x, n))
        return _node(out, '**', self, _power_slope(x, n), other, _exponent_slope(x, out))

    def __neg__(self) -> Value:
        return _node(-self.data, 'neg', self, -1)

    def __abs__(self) -> Value:
        return _node(abs(self.data), 'abs', self, (self.data > 0) - (self.data < 0))

    @_domain('exp')
    def exp(self) -> Value:
        """e^x. Derivada: e^x. OverflowError desde x = 709.79."""
        out = math.exp(self.data)
        return _node(out, 'exp', self, out)

    @_domain('log', 'pide un número mayor que 0; si puede llegar a 0, sumale un épsilon')
    def log(self) -> Value:
        """Logaritmo natural. Derivada: 1/x. ValueError si x <= 0."""
        return _node(math.log(self.data), 'log', self, 1 / self.data)

    @_domain('sqrt', 'pide un número mayor o igual que 0')
    def sqrt(self) -> Value:
        """Raíz cuadrada. Derivada: 1/(2·√x), inf en 0. ValueError si x < 0."""
        out = math.sqrt(self.data)
        return _node(out, 'sqrt', self, 0.5 / out if out else math.copysign(math.inf, out))

    @_domain('sin', 'el ángulo tiene que ser finito')
    def sin(self) -> Value:
        """Seno, en radianes. Derivada: cos(x). ValueError si x es infinito."""
        return _node(math.sin(self.data), 'sin', self, math.cos(self.data))

    @_domain('cos', 'el ángulo tiene que ser finito')
    def cos(self) -> Value:
        """Coseno, en radianes. Derivada: -sin(x). ValueError si x es infinito."""
        return _node(math.cos(self.data), 'cos', self, -math.sin(self.data))

    def tanh(self) -> Value:
        """Tangente hiperbólica. Derivada: 1 - tanh(x)^2."""
        out = math.tanh(self.data)
        return _node(out, 'tanh', self, 1 - out * out)

    def sigmoid(self) -> Value:
        """1 / (1 + e^-x). Derivada: s·(1 - s). Solo usa e^-|x|, que nunca se desborda."""
        e = math.exp(-abs(self.data))
        out = 1 / (1 + e) if self.data >= 0 else e / (1 + e)
        return _node(out, 'sigmoid', self, out * (1 - out))

    def relu(self) -> Value:
        """max(0, x). Derivada: 1 si x > 0; si no, 0: ahí no pasa ni un gradiente infinito."""
        return _node(0 if self.data < 0 else self.data, 'ReLU', self, 1 if self.data > 0 else None)

    def __radd__(self, other: Any) -> Value:  # other + self
        return Value(other) + self

    def __rsub__(self, other: Any) -> Value:  # other - self
        return Value(other) - self

    def __rmul__(self, other: Any) -> Value:  # other * self
        return Value(other) * self

    def __rtruediv__(self, other: Any) -> Value:  # other / self
        return Value(other) / self

    def __rpow__(self, other: Any) -> Value:  # other ** self
        return Value(other) ** self

    __lt__ = _comparison(operator.lt)
    __le__ = _comparison(operator.le)
    __gt__ = _comparison(operator.gt)
    __ge__ = _comparison(operator.ge)

    def __float__(self) -> float:
        return float(self.data)

    def __format__(self, spec: str) -> str:
        return format(self.data, spec) if spec else repr(self)

    def __repr__(self) -> str:
        return f'Value(data={self.data}, grad={self.grad}, name={self.name})'


def _node(
    data: float,
    op: str,
    a: Value,
    da: float | None,
    b: Value | None = None,
    db: float | None = None,
) -> Value:
    """Crea el resultado de una operación: `da` y `db` son sus derivadas respecto de `a` y `b`."""
    out = object.__new__(Value)  # sin pasar por __init__: los operandos ya son Values
    out.data = data if type(data) is float else _number(data)
    out.grad = 0
    out.name = ''
    out._op = op
    out._a = a
    out._b = b
    out._da = da
    out._db = db
    out._children = ()
    out._rule = None
    return out


def _power(x: float, n: float) -> float:
    """x^n, o un error si no es real o no entra en un float."""
    if isinstance(float(x) ** n, complex):  # con floats: un entero gigante tardaría una eternidad
        raise ValueError
    out: float = x**n
    return out


def _power_slope(x: float, n: float) -> float | None:
    """d(x^n)/dx = n·x^(n-1); donde Python lanzaría una excepción, el infinito que da PyTorch."""
    if n == 0:
        return None
    try:
        slope: float = n * x ** (n - 1)
        float(slope)
    except (ZeroDivisionError, OverflowError):
        return n * (math.inf if x >= 0 or n % 2 == 1 else -math.inf)
    return slope


def _exponent_slope(x: float, out: float) -> float:
    """d(x^n)/dn = x^n·log(x); en x = 0 vale 0 y en x < 0 no existe (nan), como en PyTorch."""
    return out * math.log(x) if x > 0 else 0.0 if x == 0 else math.nan


def topological_order(root: Value) -> list[Value]:
    """Los nodos del grafo de `root`, cada uno una vez y después de todos sus operandos.

    Es un recorrido en profundidad con una pila propia en vez de recursión, así que no tiene
    límite de profundidad. El orden es siempre el mismo para el mismo grafo.
    """
    order: list[Value] = []
    path: list[Value] = []  # de root al nodo actual: los que esperan a sus operandos
    seen: set[Value] = set()
    stack: list[Value | None] = [root]
    while stack:
        v = stack.pop()
        if v is None:  # ya están todos los operandos del último del camino
            order.append(path.pop())
        elif v not in seen:
            seen.add(v)
            path.append(v)
            stack.append(None)
            stack.extend(tuple(v._prev)[::-1])  # en otras clases puede ser un conjunto
    return order
