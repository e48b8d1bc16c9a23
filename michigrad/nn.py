"""Redes neuronales hechas de Values: la interfaz de micrograd, más Sequential como en PyTorch."""

from __future__ import annotations

import operator
import random
import reprlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from michigrad.engine import Value
from michigrad.functional import is_list, softmax

_LARGEST_SIZE = 1_000_000  # cada peso es un objeto: más que esto es un error de tipeo


def _size(name: str, size: Any) -> int:
    """Controla un tamaño: un entero mayor que 0."""
    expected = f'{name} tiene que ser un int de 1 a {_LARGEST_SIZE}: llegó {reprlib.repr(size)}'
    try:
        whole = operator.index(size)
    except TypeError:
        raise TypeError(expected) from None
    if not 1 <= whole <= _LARGEST_SIZE:
        raise ValueError(expected)
    return whole


def _flag(nonlin: Any) -> bool:
    if not isinstance(nonlin, bool):
        raise TypeError(
            f'nonlin es True (con ReLU) o False (lineal): llegó {reprlib.repr(nonlin)}; otra '
            'activación va aparte: Sequential(Layer(2, 4, nonlin=False), Tanh())'
        )
    return nonlin


def _inputs(x: Any, nin: int, module: str) -> list[Value]:
    """Devuelve la entrada `x` como una lista de `nin` Values; un número solo vale por una de uno.

    Raises:
        TypeError: si `x` no es un ejemplo (una lista, tupla o fila de números o Values).
        ValueError: si no tiene `nin` componentes.
    """
    expected = f'{module} espera un ejemplo: una lista de {nin} números o Values'
    values = list(x) if is_list(x) else [x]
    if values and is_list(values[0]):
        raise TypeError(f'{expected}; llegaron varios: usá [modelo(x) for x in datos]')
    values = [xi if isinstance(xi, Value) else Value(xi) for xi in values]
    if len(values) != nin:
        raise ValueError(f'{expected}; llegó una de {len(values)}')
    return values


class Module:
    """Lo que tienen en común una neurona, una capa y una red: parámetros que se entrenan.

    Una clase propia hereda de Module y define `parameters`, que devuelve sus Values, y `__call__`.
    """

    def parameters(self) -> list[Value]:
        """Devuelve los parámetros: los Values que el entrenamiento modifica."""
        return []

    def named_parameters(self) -> list[tuple[str, Value]]:
        """Devuelve los pares (nombre, parámetro), cada parámetro una vez.

        El nombre es el del Value. Si alguno no tiene o dos tienen el mismo, los nombres de este
        módulo son las posiciones: p0, p1, p2...

        Raises:
            TypeError: si `parameters` no devuelve una lista de Values.
        """
        found: Any = self.parameters()
        params = list(found) if isinstance(found, Iterable) else [found]
        if not all(isinstance(p, Value) for p in params):
            raise TypeError(
                f'{type(self).__name__}.parameters() tiene que devolver una lista de Values: '
                f'devolvió {reprlib.repr(found)}'
            )
        params = list(dict.fromkeys(params))
        names = [p.name for p in params]
        if '' in names or len(set(names)) < len(names):
            names = [f'p{i}' for i in range(len(params))]
        return list(zip(names, params, strict=True))

    def zero_grad(self) -> None:
        """Pone en 0 el gradiente de cada parámetro: `backward` acumula."""
        for p in self.parameters():
            p.grad = 0

    def state_dict(self) -> dict[str, float]:
        """Devuelve los números de los parámetros por nombre, para guardarlos, por ejemplo en JSON.

        with open('red.json', 'w', encoding='utf-8') as f:
            json.dump(red.state_dict(), f)
        """
        return {name: Value(p.data).data for name, p in self.named_parameters()}

    def load_state_dict(self, state: Mapping[str, float]) -> None:
        """Pone en los parámetros los números de `state`, que viene de `state_dict`.

        Raises:
            TypeError: si `state` no es un diccionario o algo en él no es un número.
            ValueError: si falta o sobra un nombre. Con cualquier error no cambia ningún parámetro.
        """
        if not isinstance(state, Mapping):
            raise TypeError(f'state es un dict de nombres y números: llegó {reprlib.repr(state)}')
        params = dict(self.named_parameters())
        missing = [name for name in params if name not in state]
        unknown = [name for name in state if name not in params]
        if missing or unknown:
            raise ValueError(
                'los nombres no son los de esta red (¿tiene otra forma?): '
                f'faltan {reprlib.repr(missing)} y sobran {reprlib.repr(unknown)}'
            )
        numbers = {}
        for name in params:
            try:
                numbers[name] = Value(state[name]).data
            except (TypeError, OverflowError) as error:
                raise type(error)(f'{name}: {error}') from None
        for name, p in params.items():
            p.data = numbers[name]

    def __repr__(self) -> str:
        return f'{type(self).__name__}()'


class Neuron(Module):
    """Una neurona: relu(w·x + b), o w·x + b con nonlin=False.

    Args:
        nin: cuántas entradas tiene.
        nonlin: si le aplica ReLU al resultado.

    Los pesos salen de random.uniform(-1, 1), en orden, y el sesgo empieza en 0, como en micrograd.
    """

    def __init__(self, nin: int, nonlin: bool = True) -> None:
        self.w = [Value(random.uniform(-1, 1), name=f'w{i}') for i in range(_size('nin', nin))]
        self.b = Value(0, name='b')
        self.nonlin = _flag(nonlin)

    def __call__(self, x: Any) -> Value:
        """Calcula la salida para un ejemplo `x` de nin números o Values.

        Raises:
            TypeError, ValueError: si `x` no es un ejemplo o no tiene nin componentes.
        """
        inputs = _inputs(x, len(self.w), 'la neurona')
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
    """

    def __init__(self, nin: int, nout: int, **kwargs: Any) -> None:
        self.neurons = [Neuron(nin, **kwargs) for _ in range(_size('nout', nout))]
        _prefix_names('N', self.neurons)

    def __call__(self, x: Any) -> Any:
        """Devuelve la lista de las nout salidas o, si nout es 1, el Value solo.

        Raises:
            TypeError, ValueError: si `x` no es un ejemplo o no tiene nin componentes.
        """
        # Una sola vez para toda la capa: en el grafo, cada entrada es un nodo y no uno por neurona.
        inputs = _inputs(x, len(self.neurons[0].w), 'la capa')
        out = [n(inputs) for n in self.neurons]
        return out[0] if len(out) == 1 else out

    def parameters(self) -> list[Value]:
        return [p for n in self.neurons for p in n.parameters()]

    def __repr__(self) -> str:
        return f'Layer of [{", ".join(str(n) for n in self.neurons)}]'


class Sequential(Module):
    """Módulos en fila: la salida de cada uno es la entrada del siguiente.

    Args:
        *modules: los módulos, en orden, o una sola lista con ellos.

    Antepone `L0.`, `L1.`... a los nombres de los parámetros de cada módulo. Uno puede estar dos
    veces, y comparte sus pesos. Para usar los de otra red sin cambiarle los nombres, que son los de
    su state_dict, pasá una copia: copy.deepcopy(modulo).

    Raises:
        TypeError: si algo no es un módulo.
    """

    def __init__(self, *modules: Any) -> None:
        if len(modules) == 1 and isinstance(modules[0], (list, tuple)):
            modules = tuple(modules[0])
        for m in modules:
            if not isinstance(m, Module) or not callable(m):
                hint = (
                    f'te faltaron los paréntesis: {m.__name__}()'
                    if isinstance(m, type)
                    else ('una clase propia hereda de Module y define parameters y __call__')
                )
                raise TypeError(f'Sequential espera módulos: llegó {reprlib.repr(m)}; {hint}')
        self.layers: list[Any] = list(modules)
        _prefix_names('L', self.layers)

    def __call__(self, x: Any) -> Any:
        """Devuelve la salida del último módulo para un ejemplo `x`.

        Raises:
            TypeError, ValueError: si `x` no es un ejemplo como el que espera el primer módulo.
        """
        for layer in self.layers:
            x = layer(x)
        return x

    def parameters(self) -> list[Value]:
        return list(dict.fromkeys(p for layer in self.layers for p in layer.parameters()))

    def __repr__(self) -> str:
        return f'{type(self).__name__} of [{", ".join(str(layer) for layer in self.layers)}]'


class MLP(Sequential):
    """Un perceptrón multicapa: ReLU en todas las capas menos la última.

    Args:
        nin: cuántas entradas tiene.
        nouts: cuántas neuronas tiene cada capa, en orden.
        nonlin: con False ninguna capa tiene ReLU y la red es lineal.
    """

    def __init__(self, nin: int, nouts: Sequence[int], nonlin: bool = True) -> None:
        expected = f'nouts es la lista de tamaños de las capas, como [16, 1]: llegó {nouts!r}'
        if not is_list(nouts):
            raise TypeError(expected)
        if len(nouts) == 0:
            raise ValueError(expected)
        sizes = [_size('nin', nin), *(_size('nouts', nout) for nout in nouts)]
        last = len(nouts) - 1
        super().__init__(
            [
                Layer(sizes[i], sizes[i + 1], nonlin=_flag(nonlin) and i != last)
                for i in range(len(nouts))
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


class Softmax(Module):
    """Convierte una lista de números en probabilidades: functional.softmax como módulo."""

    def __call__(self, x: Any) -> Any:
        return softmax(x)


def _each(activation: Callable[[Value], Value], x: Any) -> Any:
    """Aplica `activation` a un número (da un Value) o a los de una lista (da una lista)."""
    if not is_list(x):
        return activation(x if isinstance(x, Value) else Value(x))
    return [activation(xi) for xi in _inputs(x, len(x), 'la activación')]


def _prefix_names(letter: str, modules: Sequence[Module]) -> None:
    """Antepone a los nombres de los parámetros su módulo: w0 pasa a N1.w0 y después a L0.N1.w0."""
    names: dict[Value, str] = {}
    for i, module in enumerate(modules):
        for name, p in module.named_parameters():
            names.setdefault(p, f'{letter}{i}.{name}')  # uno compartido lleva el primer módulo
    for p, name in names.items():
        p.name = name
