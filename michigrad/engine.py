"""El motor de Michigrad: `Value` anota cada operación y `backward` calcula los gradientes.

Un `Value` es un número que recuerda de qué operación salió. Operar con ellos arma un grafo: cada
resultado guarda sus operandos y la derivada local respecto de cada uno. `backward` recorre ese
grafo desde el resultado hacia atrás y aplica en cada nodo la regla de la cadena.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable
from typing import Any, NoReturn, TypeVar

from michigrad._fields import Fields
from michigrad._numbers import assigned, explain, label, number, operands, reciprocal, short

_NO_OPERANDS = ()
_FAILURES = (ArithmeticError, TypeError, ValueError)
_Result = TypeVar('_Result')


def _unary(forward: Callable[[Value], Value]) -> Callable[[Value], Value]:
    """Decora una operación de un operando: si no tiene resultado, su error lo explica.

    Un decorador recibe una función y devuelve la que va a quedar en su lugar.
    """

    @functools.wraps(forward)
    def operation(self: Value) -> Value:
        try:
            return forward(self)
        except _FAILURES as error:
            raise explain(error, forward.__name__, self) from None

    return operation


def _binary(
    forward: Callable[[Value, Any], _Result], lift: Callable[[Any], Any] | None = None
) -> Callable[[Value, Any], _Result]:
    """Decora una operación de dos operandos: si el segundo es un número, le llega como Value.

    Con `lift` le llega lo que dé esa función.
    """
    is_sign = forward.__name__.startswith('__')  # + y <, pero no maximum

    @functools.wraps(forward)
    def operation(self: Value, other: Any) -> Any:
        if not isinstance(other, Fields):
            if is_sign and getattr(other, 'ndim', False):
                # Un array. Es la manera de decirle a Python que acá no se sabe: entonces le
                # pregunta a numpy, que repite la operación con cada elemento.
                return NotImplemented
            other = lift(other) if lift else Value(other)
        try:
            return forward(self, other)
        except _FAILURES as error:
            raise explain(error, forward.__name__, self, other) from None

    return operation


class Value(Fields):
    """Un número que recuerda cómo se calculó.

        w = Value(0.5, name='w')
        L = (w * 3 - 1) ** 2
        L.backward()
        w.grad                     # 3.0, la derivada de L respecto de w

    Args:
        data: cualquier número real (int, float, bool, Fraction, escalar o array 0-d de numpy).
        name: un nombre para el dibujo y los mensajes de error.

    Atributos: `data`, el número; `grad`, la derivada del resultado respecto de este nodo, que
    completa `backward()`; `name`. También se le pueden agregar otros.

    Operaciones, con Values, números o arrays de numpy de cualquiera de los dos lados: `+ - * / **`,
    `-x`, `abs(x)` y los métodos de abajo. Como en PyTorch, `+ - * /` entre floats que se desbordan
    dan inf; `**` y `exp` lanzan OverflowError, como en math, porque ahí suele haber un error que
    conviene ver.

    - `==` compara identidad: dos Values distintos nunca son iguales. Para comparar números,
      `a.data == b.data`; `< <= > >=` sí comparan los números.
    - `if v:` es siempre verdadero, también si vale 0: usá `if v.data:`.
    - La derivada es la del punto en que se hizo la cuenta: si después cambia algún `data`, hay que
      rehacer la cuenta. (micrograd mezcla los dos puntos.)
    - Se copian y se guardan con pickle las hojas, que son los Values que no salen de ninguna
      operación, y los modelos. No los resultados.

    Para agregar una operación propia se le dan al resultado sus operandos, `_children`, y el nombre
    de la operación, `_op`; su derivada se asigna a `_backward`. Suma con `+=` porque el operando
    puede llegar al resultado por varios caminos:

        def cubo(self):
            out = Value(self.data**3, (self,), 'cubo')
            def _backward():
                self.grad += 3 * self.data**2 * out.grad
            out._backward = _backward
            return out

    De cualquier nodo, `_prev` son los operandos y `_op` la operación: () y '' en una hoja.

    Raises:
        TypeError: si `data` no es un número real o si algún operando no es un Value.
        OverflowError: si `data` no entra en un float.
    """

    __slots__ = ('__dict__',)  # para los atributos que agregue cada uno; los demás, en Fields

    def __init__(
        self,
        data: Any,
        _children: Iterable[Value] = _NO_OPERANDS,
        _op: str = '',
        name: str = '',
        **unknown: NoReturn,
    ) -> None:
        self.data = data if type(data) is float else number(data)
        self.grad = 0
        self.name = name
        self._op = _op
        self._a = None
        self._b = None
        self._da = None
        self._db = None
        plain = _children is _NO_OPERANDS and type(_op) is str and not unknown
        self._children = _NO_OPERANDS if plain else operands(_children, _op, unknown)
        self._rule = None

    @property
    def _prev(self) -> tuple[Value, ...]:
        """Los operandos en orden, repetidos si se repiten: en x*x son dos."""
        if self._a is None:
            return self._children
        return (self._a,) if self._b is None else (self._a, self._b)

    @property
    def _backward(self) -> Callable[[], None]:
        """La función que reparte el gradiente de este nodo entre sus operandos."""
        return functools.partial(_own_rule, self, self._rule) if self._rule else self._chain_rule

    @_backward.setter
    def _backward(self, rule: Callable[[], None]) -> None:
        if not callable(rule):
            raise TypeError(
                f'_backward es la función que reparte el gradiente: llegó {short(rule)}; se asigna '
                'sin llamarla, sin paréntesis: out._backward = _backward'
            )
        self._rule = rule

    @property
    def _local_derivatives(self) -> tuple[float | None, ...] | None:
        """Una por operando (None: por ahí no pasa gradiente); None si la operación es propia."""
        if self._rule is not None or self._children:
            return None
        return (self._da, self._db)[: len(self._prev)]

    @property
    def _fixed_exponent(self) -> float | None:
        """El n de x**n si es un número fijo; None en cualquier otro nodo."""
        is_power = self._a is not None and self._b is None and self._op.startswith('**')
        return float(self._op[2:]) if is_power else None

    def _chain_rule(self) -> None:
        """Suma en cada operando su derivada local por el gradiente de este nodo.

        Una derivada local None no es lo mismo que 0: por ahí no pasa nada, y en cambio 0 por un
        gradiente infinito es nan.
        """
        if self._a is not None:
            if self._da is not None:
                self._a.grad += self._da * self.grad
            if self._b is not None and self._db is not None:
                self._b.grad += self._db * self.grad
        elif self._children:
            raise ValueError(
                f'la operación {short(self._op)} tiene operandos y no sabe derivarse: falta '
                'out._backward = _backward antes de return out'
            )

    def backward(self) -> None:
        """Calcula el gradiente de este Value respecto de cada nodo de su grafo.

        Como en PyTorch, las hojas acumulan (`+=`) lo de cada llamada hasta que se ponen en cero, y
        los nodos intermedios guardan solo lo de esta. Si algo falla a mitad de camino, todos los
        gradientes vuelven a como estaban.

        Raises:
            TypeError: si el `grad` de una hoja o el que deja una operación propia no es un número.
            ValueError: si una operación propia no tiene `_backward`.
        """
        order = topological_order(self)
        before = [v.grad for v in order]
        try:
            for v in order:
                if v._prev:
                    v.grad = 0
                elif type(v.grad) is not float:
                    v.grad = assigned(v, 'grad')
            total = self.grad + 1
            self.grad = 1.0  # con un int, los gradientes serían enteros sin límite de cifras
            for v in reversed(order):
                v._backward()
            self.grad = total
        except BaseException:  # también Ctrl-C, que no es una Exception
            for v, grad in zip(order, before, strict=True):
                v.grad = grad
            raise

    @_binary
    def __add__(self, other: Value) -> Value:
        return _node(self.data + other.data, '+', self, 1.0, other, 1.0)

    @_binary
    def __sub__(self, other: Value) -> Value:
        return _node(self.data - other.data, '-', self, 1.0, other, -1.0)

    @_binary
    def __mul__(self, other: Value) -> Value:
        return _node(self.data * other.data, '*', self, other.data, other, self.data)

    @_binary
    def __truediv__(self, other: Value) -> Value:
        out = self.data / other.data
        return _node(out, '/', self, reciprocal(other.data), other, -out / other.data)

    @functools.partial(_binary, lift=number)  # el 2 de x**2 no es un nodo del grafo
    def __pow__(self, other: Any) -> Value:
        x, n = self.data, other.data if isinstance(other, Fields) else other
        out = _power(x, n)
        if isinstance(other, Fields):
            return _node(out, '**', self, _power_slope(x, n), other, _exponent_slope(x, n, out))
        return _node(out, f'**{n}', self, _sqrt_slope(x, out) if n == 0.5 else _power_slope(x, n))

    @_unary
    def __neg__(self) -> Value:
        return _node(-self.data, 'neg', self, -1.0)

    def __pos__(self) -> Value:
        return self

    @_unary
    def __abs__(self) -> Value:
        sign = 1.0 if self.data > 0 else -1.0 if self.data < 0 else 0.0
        return _node(abs(self.data), 'abs', self, sign)

    @_unary
    def exp(self) -> Value:
        """e^x. Derivada: e^x. OverflowError desde x = 709.79."""
        out = math.exp(self.data)
        return _node(out, 'exp', self, out)

    @_unary
    def log(self) -> Value:
        """Logaritmo natural. Derivada: 1/x. ValueError si x <= 0."""
        return _node(math.log(self.data), 'log', self, reciprocal(self.data))

    @_unary
    def sqrt(self) -> Value:
        """Raíz cuadrada. Derivada: 1/(2·√x), inf en 0. ValueError si x < 0."""
        out = math.sqrt(self.data)
        return _node(out, 'sqrt', self, _sqrt_slope(self.data, out))

    @_unary
    def sin(self) -> Value:
        """Seno, en radianes. Derivada: cos(x). ValueError si x es infinito."""
        return _node(math.sin(self.data), 'sin', self, math.cos(self.data))

    @_unary
    def cos(self) -> Value:
        """Coseno, en radianes. Derivada: -sin(x). ValueError si x es infinito."""
        return _node(math.cos(self.data), 'cos', self, -math.sin(self.data))

    @_unary
    def tanh(self) -> Value:
        """Tangente hiperbólica. Derivada: 1 - tanh(x)^2."""
        out = math.tanh(self.data)
        return _node(out, 'tanh', self, 1 - out * out)

    @_unary
    def sigmoid(self) -> Value:
        """1 / (1 + e^-x). Derivada: s·(1 - s)."""
        out = _sigmoid(self.data)
        return _node(out, 'sigmoid', self, out * (1 - out))

    @_unary
    def softplus(self) -> Value:
        """log(1 + e^x), una relu sin esquina. Derivada: sigmoid(x)."""
        x = self.data
        # Es max(x, 0) + log(1 + e^-|x|): e^-|x| no se desborda, y log1p no pierde sus cifras.
        out = (x if x > 0 else 0.0) + math.log1p(math.exp(-abs(x)))
        return _node(out, 'softplus', self, _sigmoid(x))

    @_unary
    def relu(self) -> Value:
        """max(0, x). Derivada: 1 si x > 0; si no, 0: ahí no pasa ni un gradiente infinito."""
        off = self.data <= 0
        return _node(0.0 if off else self.data, 'ReLU', self, None if off else 1.0)

    @_binary
    def maximum(self, other: Value) -> Value:
        """El mayor de los dos, que recibe todo el gradiente; si son iguales, la mitad cada uno.

        El max de Python da uno de los dos Values, y una cinta lo deja fijo.
        """
        a, b = self.data, other.data
        return _node(_larger(a, b), 'max', self, _share(a, b), other, _share(b, a))

    @_binary
    def minimum(self, other: Value) -> Value:
        """El menor de los dos, que recibe todo el gradiente; si son iguales, la mitad cada uno."""
        a, b = self.data, other.data
        return _node(_smaller(a, b), 'min', self, _share(b, a), other, _share(a, b))

    def clip(self, min: Any = None, max: Any = None) -> Value:
        """x, pero no menos que `min` ni más que `max`. Derivada: 1 entre los dos, y si no 0.

        Raises:
            TypeError: si algún límite no es un número o un Value, o si faltan los dos.
        """
        if min is None and max is None:
            raise TypeError('clip espera al menos un límite: v.clip(-1, 1), v.clip(min=0)')
        out = self if min is None else self._clamp_min(min)
        return out if max is None else out._clamp_max(max)

    @_binary
    def _clamp_min(self, other: Value) -> Value:
        x, low = self.data, other.data
        inside, outside = 1.0 if x >= low else None, 1.0 if x < low else None
        return _node(_larger(x, low), 'clamp_min', self, inside, other, outside)

    @_binary
    def _clamp_max(self, other: Value) -> Value:
        x, high = self.data, other.data
        inside, outside = 1.0 if x <= high else None, 1.0 if x > high else None
        return _node(_smaller(x, high), 'clamp_max', self, inside, other, outside)

    def conjugate(self) -> Value:
        """El mismo Value: lo pide numpy para calcular np.var y np.std de un array de Values."""
        return self

    # Python prueba con estas cuando el de la izquierda, un número, no sabe operar con un Value.

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

    # Las comparaciones miran solo los números: no entran en el grafo.

    @_binary
    def __lt__(self, other: Value) -> bool:
        return self.data < other.data

    @_binary
    def __le__(self, other: Value) -> bool:
        return self.data <= other.data

    @_binary
    def __gt__(self, other: Value) -> bool:
        return self.data > other.data

    @_binary
    def __ge__(self, other: Value) -> bool:
        return self.data >= other.data

    def __format__(self, spec: str) -> str:
        return format(assigned(self, 'data'), spec) if spec else repr(self)

    def __repr__(self) -> str:
        try:
            return f'Value(data={self.data}, grad={self.grad}, name={self.name})'
        except ValueError:  # Python no escribe un entero de más de 4300 cifras
            data, grad = short(self.data), short(self.grad)
            return f'Value(data={data}, grad={grad}, name={self.name})'

    def __reduce_ex__(self, protocol: Any) -> Any:  # con esto Python copia y hace pickle
        if self._prev or self._rule:
            raise TypeError(
                f'{label(self)} es el resultado de una operación, y solo se copian las hojas y los '
                'modelos: para copiar el número usá Value(v.data)'
            )
        return super().__reduce_ex__(protocol)


def _node(
    data: float,
    op: str,
    a: Fields,
    da: float | None,
    b: Fields | None = None,
    db: float | None = None,
) -> Value:
    """Crea el resultado de una operación: `da` y `db` son sus derivadas respecto de `a` y `b`."""
    out = object.__new__(Value)  # sin pasar por __init__: los operandos ya son Values
    out.data = data if type(data) is float else number(data)
    out.grad = 0
    out.name = ''
    out._op = op
    out._a = a
    out._b = b
    out._da = da
    out._db = db
    out._children = _NO_OPERANDS
    out._rule = None
    return out


def _own_rule(v: Value, rule: Callable[[], None]) -> None:
    """Reparte el gradiente de una operación propia, y controla que haya repartido números."""
    rule()
    for operand in v._prev:
        if type(operand.grad) is not float:
            operand.grad = assigned(operand, 'grad')


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
        return float(slope)
    except (ZeroDivisionError, OverflowError):
        return n * (math.inf if x >= 0 or n % 2 == 1 else -math.inf)


def _sqrt_slope(x: float, out: float) -> float:
    """1/(2·√x); en 0 es inf, y en -0.0, como en PyTorch, -inf: copysign le pone el signo de x."""
    return 0.5 / out if out else math.copysign(math.inf, x)


def _exponent_slope(x: float, n: float, out: float) -> float:
    """d(x^n)/dn = x^n·log(x); en x = 0 vale 0 (o -inf si n < 0) y en x < 0 no existe (nan)."""
    if x > 0:
        return out * math.log(x)
    return math.nan if x != 0 or math.isnan(n) else 0.0 if n >= 0 else -math.inf


def _sigmoid(x: float) -> float:
    e = math.exp(-abs(x))  # nunca se desborda, y 1 / (1 + e^-x) sí
    return 1 / (1 + e) if x >= 0 else e / (1 + e)


def _larger(a: float, b: float) -> float:
    return a if a >= b or a != a else b  # nan es el único número distinto de sí mismo


def _smaller(a: float, b: float) -> float:
    return a if a <= b or a != a else b


def _share(a: float, b: float) -> float | None:
    """Qué parte del gradiente recibe `a` si es para el mayor de los dos."""
    return None if a < b else 0.5 if a == b else 1.0


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
        if v is None:  # la marca: ya están todos los operandos del último del camino
            order.append(path.pop())
        elif v not in seen:
            seen.add(v)
            path.append(v)
            stack.append(None)  # sale cuando salieron los operandos, que van encima
            stack.extend(tuple(v._prev)[::-1])  # en otras clases puede ser un conjunto
    return order
