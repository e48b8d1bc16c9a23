"""Redes neuronales hechas de Values: la interfaz de micrograd, más Sequential como en PyTorch."""

from __future__ import annotations

import operator
import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar

from michigrad import _init as init
from michigrad._checks import flag, is_list, is_value, lift, state_names
from michigrad._numbers import assigned, number, parentheses, short
from michigrad._restore import assign_data
from michigrad.engine import Value
from michigrad.functional import softmax

__all__ = [
    'MLP',
    'Layer',
    'Linear',
    'Module',
    'Neuron',
    'ReLU',
    'Sequential',
    'Sigmoid',
    'Softmax',
    'Softplus',
    'Tanh',
    'init',
]

_LARGEST_SIZE = 1_000_000  # cada peso es un objeto: más que esto es un error de tipeo


def _size(name: str, size: Any) -> int:
    """Controla un tamaño: un entero mayor que 0."""
    expected = f'{name} tiene que ser un int de 1 a {_LARGEST_SIZE}: llegó {short(size)}'
    try:
        whole = operator.index(size)
    except TypeError:
        raise TypeError(expected) from None
    if not 1 <= whole <= _LARGEST_SIZE:
        raise ValueError(expected)
    return whole


def _nonlin(x: Any) -> bool:
    return flag(
        'nonlin',
        x,
        ' (con ReLU o lineal); otra activación va aparte: '
        'Sequential(Layer(2, 4, nonlin=False), Tanh())',
    )


class _Example(list[Value]):
    """Un ejemplo ya controlado: así una capa lo mira una sola vez y no una por neurona."""


def _example(x: Any) -> _Example:
    """Devuelve los números o Values de `x` como Values; un número solo vale por un ejemplo de uno.

    Raises:
        TypeError: si `x` no es un ejemplo.
    """
    if isinstance(x, _Example):
        return x
    if isinstance(x, Mapping):
        raise TypeError(f'un ejemplo es una lista de números o Values: de {short(x)} usá .values()')
    numbers = list(x) if is_list(x) else [x]
    if numbers and is_list(numbers[0]):
        raise TypeError(
            'se espera un ejemplo: una lista de números o Values; llegaron varios: '
            'usá [modelo(x) for x in datos]'
        )
    return _Example(map(lift, numbers))


class Module:
    """Lo que tienen en común una neurona, una capa y una red: parámetros que se entrenan.

    Una clase propia hereda de Module y define `parameters`, que devuelve sus Values, y `__call__`.
    """

    # Los elementos de este atributo se llaman con una letra: ('neurons', 'N') da N0, N1...
    _numbered: ClassVar[tuple[str, str]] = ('', '')

    def parameters(self) -> list[Value]:
        """Devuelve los parámetros: los Values que el entrenamiento modifica."""
        return []

    def named_parameters(self) -> list[tuple[str, Value]]:
        """Devuelve los pares (nombre, parámetro) de `parameters()`, cada parámetro una vez.

        El nombre es el camino por los atributos hasta el Value, como en PyTorch: `escala`,
        `capas.0.N1.w0`. No depende del `name` que tenga el Value. Si el mismo está en dos lugares,
        cuenta el primero. Si alguno no está en ningún atributo, los nombres de este módulo son las
        posiciones: p0, p1, p2...

        Raises:
            TypeError: si `parameters` no devuelve una lista de Values.
        """
        return _named_parameters(self, ())

    def zero_grad(self) -> None:
        """Pone en 0 el gradiente de cada parámetro: `backward` acumula."""
        for p in _parameters(self):
            p.grad = 0

    def state_dict(self) -> dict[str, float]:
        """Devuelve los números de los parámetros por nombre, para guardarlos, por ejemplo en JSON.

        with open('red.json', 'w', encoding='utf-8') as f:
            json.dump(red.state_dict(), f)
        """
        return {name: assigned(p, 'data') for name, p in self.named_parameters()}

    def load_state_dict(self, state: Mapping[str, float]) -> None:
        """Pone en los parámetros los números de `state`, que viene de `state_dict`.

        Raises:
            TypeError: si `state` no es un diccionario o algo en él no es un número.
            ValueError: si falta o sobra un nombre. Con cualquier error no cambia ningún parámetro.
        """
        params = dict(self.named_parameters())
        state_names(
            state,
            params,
            'state es un dict de nombres y números',
            'los nombres no son los de esta red (¿tiene otra forma?)',
        )
        numbers = {}
        for name in params:
            try:
                numbers[name] = number(state[name])
            except (TypeError, OverflowError) as error:
                raise type(error)(f'{name}: {error}') from None
        assign_data(list(params.values()), list(numbers.values()))

    def __repr__(self) -> str:
        return f'{type(self).__name__}()'


def _parameters(module: Any) -> list[Value]:
    """Los parámetros de un módulo, cada uno una vez.

    Raises:
        TypeError: si su `parameters` no devuelve una lista de Values.
    """
    if isinstance(module, type) or not callable(getattr(module, 'parameters', None)):
        raise TypeError(
            'cada neurona y cada módulo tiene parameters(), que devuelve sus Values: llegó '
            f'{short(module)}{parentheses(module)}'
        )
    found = module.parameters()
    params = list(found) if is_list(found) else [found]
    if not all(map(is_value, params)):
        raise TypeError(
            f'{type(module).__name__}.parameters() tiene que devolver una lista de Values: '
            f'devolvió {short(found)}'
        )
    return list(dict.fromkeys(params))


def _gather(modules: Iterable[Any]) -> list[Value]:
    """Los parámetros de varios módulos, uno tras otro."""
    try:
        return [p for module in modules for p in module.parameters()]
    except (AttributeError, TypeError):
        for module in modules:  # para que el error nombre al módulo
            _parameters(module)
        raise


def _named_parameters(module: Module, above: tuple[Any, ...]) -> list[tuple[str, Value]]:
    """Los pares de named_parameters; `above` son los módulos y listas que contienen a este."""
    params = _parameters(module)
    numbered, letter = module._numbered
    paths: dict[Value, str] = {}
    for attribute, x in vars(module).items():
        for path, p in _paths(x, (*above, module)):
            name = f'{attribute}.{path}' if path else attribute
            paths.setdefault(p, letter + path if attribute == numbered else name)
    names = [paths.get(p, '') for p in params]
    if '' in names or len(set(names)) < len(names):
        names = [f'p{i}' for i in range(len(params))]
    return list(zip(names, params, strict=True))


def _paths(x: Any, above: tuple[Any, ...]) -> Iterator[tuple[str, Value]]:
    """Los Values que hay en un atributo `x`, con el camino hasta cada uno: '' si es `x` mismo."""
    if is_value(x):
        yield '', x
        return
    if any(x is y for y in above):  # un módulo puede tener una referencia al que lo contiene
        return
    if isinstance(x, Module):
        yield from _named_parameters(x, above)
        return
    items: Iterable[tuple[Any, Any]] = ()
    if isinstance(x, Mapping):
        items = x.items()
    elif isinstance(x, (list, tuple)) or getattr(x, 'dtype', '') == 'object':
        items = enumerate(x)
    elif hasattr(x, 'parameters') and not isinstance(x, type):  # una neurona que no es un Module
        items = vars(x).items()
    for key, y in items:
        for path, p in _paths(y, (*above, x)):
            yield f'{key}.{path}' if path else str(key), p


class Neuron(Module):
    """Una neurona: relu(w·x + b), o w·x + b con nonlin=False.

    Args:
        nin: cuántas entradas tiene.
        nonlin: si le aplica ReLU al resultado.

    Los pesos salen de random.uniform(-1, 1), en orden, y el sesgo empieza en 0, como en micrograd.
    En `nn.init` hay otras maneras de empezar.
    """

    _numbered = ('w', 'w')

    def __init__(self, nin: int, nonlin: bool = True) -> None:
        self.w = [Value(random.uniform(-1, 1), name=f'w{i}') for i in range(_size('nin', nin))]
        self.b = Value(0, name='b')
        self.nonlin = _nonlin(nonlin)

    def __call__(self, x: Any) -> Value:
        """Calcula la salida para un ejemplo `x`: nin números o Values, en cualquier iterable.

        Raises:
            TypeError, ValueError: si `x` no es un ejemplo o no tiene nin componentes.
        """
        inputs = _example(x)
        if len(inputs) != len(self.w):
            raise ValueError(
                f'se espera un ejemplo: una lista de {len(self.w)} números o Values; llegó una '
                f'de {len(inputs)}'
            )
        act = sum((wi * xi for wi, xi in zip(self.w, inputs, strict=True)), self.b)
        return act.relu() if self.nonlin else act

    def parameters(self) -> list[Value]:
        return [*self.w, self.b]

    def __repr__(self) -> str:
        return f'{"ReLU" if self.nonlin else "Linear"}Neuron({len(self.w)})'


class Layer(Module):
    """Una capa: nout neuronas que ven la misma entrada.

    Args:
        nin: cuántas entradas tiene.
        nout: cuántas neuronas, que son sus salidas.
        **kwargs: lo que se le pasa a cada Neuron (nonlin).

    En `neurons` se puede poner una neurona propia: cualquier objeto con `__call__`, que recibe la
    lista de las entradas, y `parameters`.
    """

    _numbered = ('neurons', 'N')

    def __init__(self, nin: int, nout: int, **kwargs: Any) -> None:
        for name in kwargs:
            if name != 'nonlin':
                raise TypeError(
                    f'{type(self).__name__} no conoce {short(name)}: de cada neurona se elige solo '
                    'nonlin=True o False'
                )
        self.neurons: list[Any] = [Neuron(nin, **kwargs) for _ in range(_size('nout', nout))]
        _rename(self)

    @property
    def weight(self) -> list[list[Value]]:
        """Los pesos: una fila por neurona, con uno por entrada."""
        return [n.w for n in self.neurons]

    @property
    def bias(self) -> list[Value]:
        """Los sesgos, uno por neurona."""
        return [n.b for n in self.neurons]

    def __call__(self, x: Any) -> Any:
        """Devuelve la lista de las nout salidas o, si nout es 1, el Value solo.

        Raises:
            TypeError, ValueError: si `x` no es un ejemplo o no tiene nin componentes.
        """
        # Una sola vez para toda la capa: en el grafo, cada entrada es un nodo y no uno por neurona.
        inputs = _example(x)
        out = [n(inputs) for n in self.neurons]
        return out[0] if len(out) == 1 else out

    def parameters(self) -> list[Value]:
        return _gather(self.neurons)

    def __repr__(self) -> str:
        return f'{type(self).__name__} of [{", ".join(str(n) for n in self.neurons)}]'


class Linear(Layer):
    """Una capa sin ReLU, con los nombres de torch.nn.Linear: Layer(nin, nout, nonlin=False).

    Args:
        in_features: cuántas entradas tiene.
        out_features: cuántas salidas. Si es 1, devuelve el Value solo.

    Los pesos empiezan como los de toda Layer, de random.uniform(-1, 1); `nn.init` los cambia.
    """

    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__(in_features, out_features, nonlin=False)


class Sequential(Module):
    """Módulos en fila: la salida de cada uno es la entrada del siguiente.

    Args:
        *modules: los módulos, en orden, o una sola lista con ellos.

    A los parámetros les pone por nombre su camino: `L0.N1.w0`. Un módulo puede estar dos veces, y
    comparte sus pesos.

    Raises:
        TypeError: si algo no es un módulo.
    """

    _numbered = ('layers', 'L')

    def __init__(self, *modules: Any) -> None:
        if len(modules) == 1 and not isinstance(modules[0], Module) and is_list(modules[0]):
            modules = tuple(modules[0])
        for m in modules:
            if not isinstance(m, Module) or not callable(m):
                hint = '; una clase propia hereda de Module y define parameters y __call__'
                if isinstance(m, type):
                    hint = parentheses(m)
                raise TypeError(f'Sequential espera módulos: llegó {short(m)}{hint}')
        self.layers: list[Any] = list(modules)
        _rename(self)

    def __call__(self, x: Any) -> Any:
        """Devuelve la salida del último módulo para un ejemplo `x`.

        Raises:
            TypeError, ValueError: si `x` no es un ejemplo como el que espera el primer módulo.
        """
        for layer in self.layers:
            x = layer(x)
        return x

    def parameters(self) -> list[Value]:
        return list(dict.fromkeys(_gather(self.layers)))

    def __repr__(self) -> str:
        return f'{type(self).__name__} of [{", ".join(str(layer) for layer in self.layers)}]'


class MLP(Sequential):
    """Un perceptrón multicapa: ReLU en todas las capas menos la última.

    Args:
        nin: cuántas entradas tiene.
        nouts: cuántas neuronas tiene cada capa, en orden.
        nonlin: con False ninguna capa tiene ReLU y la red es lineal.

    Raises:
        TypeError, ValueError: si un tamaño no es un entero mayor que 0.
    """

    def __init__(self, nin: int, nouts: Sequence[int] = (), nonlin: bool = True) -> None:
        if isinstance(nin, Module) or is_list(nin):
            raise TypeError(
                f'MLP recibe los tamaños y arma las capas, como MLP(2, [16, 1]): llegó '
                f'{short(nin)}; para capas ya armadas usá Sequential(capa, capa)'
            )
        expected = f'nouts es la lista de tamaños de las capas, como [16, 1]: llegó {short(nouts)}'
        if not is_list(nouts):
            raise TypeError(expected)
        sizes = [_size('nin', nin), *(_size('nouts', nout) for nout in nouts)]
        if len(sizes) == 1:
            raise ValueError(expected)
        last = len(sizes) - 2
        super().__init__(
            [
                Layer(sizes[i], sizes[i + 1], nonlin=_nonlin(nonlin) and i != last)
                for i in range(last + 1)
            ]
        )


class ReLU(Module):
    """max(0, x) de un número o de cada número de una lista."""

    def __call__(self, x: Any) -> Any:
        return _each(Value.relu, x)


class Tanh(Module):
    """tanh(x), entre -1 y 1, de un número o de cada número de una lista."""

    def __call__(self, x: Any) -> Any:
        return _each(Value.tanh, x)


class Sigmoid(Module):
    """1 / (1 + e^-x), entre 0 y 1, de un número o de cada número de una lista."""

    def __call__(self, x: Any) -> Any:
        return _each(Value.sigmoid, x)


class Softplus(Module):
    """log(1 + e^x), una ReLU sin esquina, de un número o de cada número de una lista."""

    def __call__(self, x: Any) -> Any:
        return _each(Value.softplus, x)


class Softmax(Module):
    """Convierte una lista de números en probabilidades: functional.softmax como módulo."""

    def __call__(self, x: Any) -> Any:
        return softmax(x)


def _each(activation: Callable[[Value], Value], x: Any) -> Any:
    """Aplica `activation` a un número (da un Value) o a los de una lista (da una lista)."""
    return list(map(activation, _example(x))) if is_list(x) else activation(lift(x))


def _rename(module: Module) -> None:
    """Les pone a los parámetros por nombre su camino: w0 pasa a N1.w0 y después a L0.N1.w0."""
    for name, p in module.named_parameters():
        p.name = name
