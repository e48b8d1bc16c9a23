"""Optimizadores: cómo cambian los parámetros según sus gradientes, igual que en torch.optim.

Un parámetro es cualquier cosa con `data` y `grad`: un Value, o un objeto donde los dos son arrays
de numpy, porque los pasos son aritmética elemento a elemento.
"""

from __future__ import annotations

import math
import reprlib
from collections.abc import Iterable
from numbers import Real
from typing import Any

from michigrad.engine import Value


class Optimizer:
    """Lo que tienen en común los optimizadores. Cada uno define `_updates`.

    Atributos: `params`, la lista de parámetros; `lr`, la tasa de aprendizaje, que se puede asignar
    durante el entrenamiento.
    """

    def __init__(self, params: Iterable[Any], lr: float, weight_decay: float) -> None:
        self.params = _parameters(params)
        self._state: Any = None
        self.lr = lr
        self.weight_decay = _setting('weight_decay', weight_decay)

    @property
    def lr(self) -> float:
        return self._lr

    @lr.setter
    def lr(self, lr: float) -> None:
        self._lr = _setting('lr', lr)

    def zero_grad(self) -> None:
        """Pone en 0 el gradiente de cada parámetro: `backward` acumula."""
        for p in self.params:
            p.grad = 0

    def step(self) -> None:
        """Da un paso: a cada parámetro le resta lo que dicen su gradiente y el método.

        Raises:
            TypeError, ArithmeticError: si el dato o el gradiente de un parámetro no es un número o
                si la cuenta no entra en un float. Entonces ningún parámetro cambia.
        """
        before = [p.data for p in self.params]
        try:
            updates, state = self._updates()
            for p, update in zip(self.params, updates, strict=True):
                p.data -= update
        except (TypeError, ArithmeticError) as error:
            for p, data in zip(self.params, before, strict=True):
                p.data = data
            raise self._explain(error) from None
        self._state = state

    def _updates(self) -> tuple[list[Any], Any]:
        """Calcula, sin cambiar nada, qué restarle a cada parámetro y el estado del próximo paso."""
        raise NotImplementedError

    def _gradients(self) -> list[Any]:
        """Los gradientes, con weight_decay·dato sumado: la derivada de weight_decay/2·dato^2."""
        if not self.weight_decay:
            return [p.grad for p in self.params]
        return [p.grad + self.weight_decay * p.data for p in self.params]

    def _explain(self, error: Exception) -> Exception:
        """Arma el error de un paso que falló: qué parámetro lo causa, si se sabe."""
        for i, p in enumerate(self.params):
            for what, x in (('data', p.data), ('grad', p.grad)):
                if not isinstance(x, Real) and not hasattr(x, 'dtype'):
                    return TypeError(
                        f'{what} del parámetro {getattr(p, "name", "") or i} tiene que ser un '
                        f'número: es {reprlib.repr(x)}'
                    )
        kind = TypeError if isinstance(error, TypeError) else ArithmeticError
        return kind(f'no se pudo dar el paso: hay números demasiado grandes o eps es 0 ({error})')


class SGD(Optimizer):
    """Descenso por el gradiente: p ← p - lr·g, con g = grad + weight_decay·p.

    Con momentum, en lugar de g usa v ← momentum·v + g, que empieza en g; con nesterov,
    g + momentum·v. Es torch.optim.SGD (Sutskever et al., 2013).

    Args:
        params: los parámetros, como red.parameters().
        lr: la tasa de aprendizaje.
        momentum: cuánto queda de los pasos anteriores.
        nesterov: si usa el momentum de Nesterov.
        weight_decay: cuánto tira de los parámetros hacia 0 (L2).

    Raises:
        TypeError, ValueError: si params no es una lista de parámetros sin repetir, si un número es
            negativo o no es un número, o si hay nesterov sin momentum.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float,
        momentum: float = 0,
        nesterov: bool = False,
        weight_decay: float = 0,
    ) -> None:
        super().__init__(params, lr, weight_decay)
        self.momentum = _setting('momentum', momentum)
        if not isinstance(nesterov, bool):
            raise TypeError(f'nesterov es True o False: llegó {reprlib.repr(nesterov)}')
        self.nesterov = nesterov
        if nesterov and not self.momentum:
            raise ValueError('nesterov necesita momentum: por ejemplo, momentum=0.9')
        self._state = [0.0] * len(self.params)  # v

    def _updates(self) -> tuple[list[Any], Any]:
        lr, momentum = self.lr, self.momentum
        grads = self._gradients()
        if not momentum:
            return [lr * g for g in grads], self._state
        state = [momentum * v + g for v, g in zip(self._state, grads, strict=True)]
        if self.nesterov:
            return [lr * (g + momentum * v) for g, v in zip(grads, state, strict=True)], state
        return [lr * v for v in state], state


class Adam(Optimizer):
    """Adam (Kingma y Ba, 2015): pasos de tamaño parecido para todos los parámetros.

    Promedia los gradientes, m ← β₁·m + (1 - β₁)·g, y sus cuadrados, v ← β₂·v + (1 - β₂)·g^2. Como
    los dos empiezan en 0, en el paso t los corrige: p ← p - lr·m̂ / (√v̂ + eps), con
    m̂ = m / (1 - β₁^t) y v̂ = v / (1 - β₂^t). Es torch.optim.Adam.

    Args:
        params: los parámetros, como red.parameters().
        lr: la tasa de aprendizaje.
        betas: (β₁, β₂), cuánto queda de cada promedio en cada paso, entre 0 y 1 sin incluirlo.
        eps: evita dividir por 0.
        weight_decay: cuánto tira de los parámetros hacia 0 (L2): g = grad + weight_decay·p.

    Raises:
        TypeError, ValueError: si params no es una lista de parámetros sin repetir, o si un número
            es negativo, pasa del máximo o no es un número.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
    ) -> None:
        super().__init__(params, lr, weight_decay)
        if not isinstance(betas, (tuple, list)) or len(betas) != 2:
            raise TypeError(
                f'betas son dos números, como (0.9, 0.999): llegó {reprlib.repr(betas)}'
            )
        self.betas = (_setting('β₁', betas[0], below=1), _setting('β₂', betas[1], below=1))
        self.eps = _setting('eps', eps)
        zeros = [0.0] * len(self.params)
        self._state = (0, zeros, zeros)  # t, m, v

    def _updates(self) -> tuple[list[Any], Any]:
        lr, (beta1, beta2), eps = self.lr, self.betas, self.eps
        grads = self._gradients()
        t, ms, vs = self._state
        t += 1
        ms = [beta1 * m + (1 - beta1) * g for m, g in zip(ms, grads, strict=True)]
        vs = [beta2 * v + (1 - beta2) * g * g for v, g in zip(vs, grads, strict=True)]
        fix1, fix2 = 1 - beta1**t, 1 - beta2**t
        updates = [lr * (m / fix1) / ((v / fix2) ** 0.5 + eps) for m, v in zip(ms, vs, strict=True)]
        return updates, (t, ms, vs)


def _parameters(params: Any) -> list[Any]:
    """Controla la lista de parámetros."""
    try:
        checked = list(params)
    except TypeError:
        raise TypeError(
            'params es la lista de parámetros, como red.parameters() o [w, b]: '
            f'llegó {reprlib.repr(params)}'
        ) from None
    if not checked:
        raise ValueError('params está vacía: no hay nada que entrenar')
    for i, p in enumerate(checked):
        if not hasattr(p, 'data') or not hasattr(p, 'grad'):
            raise TypeError(
                f'un parámetro es un Value, o algo con data y grad: en la posición {i} llegó '
                f'{reprlib.repr(p)}'
            )
        if isinstance(p, Value) and p._prev:
            raise ValueError(
                f'un parámetro no puede ser el resultado de una operación: en la posición {i} '
                f'llegó {p!r}, que sale de {p._op!r}; usá Value(v.data)'
            )
    if len({id(p) for p in checked}) < len(checked):
        raise ValueError('params tiene un parámetro repetido: cada uno va una sola vez')
    return checked


def _setting(name: str, number: Any, below: float = math.inf) -> float:
    """Controla un número de la configuración: 0 <= número < below."""
    try:
        checked = Value(number).data
    except (TypeError, OverflowError) as error:
        raise type(error)(f'{name}: {error}') from None
    if not 0 <= checked < below:
        limit = '' if below == math.inf else f' y menor que {below}'
        raise ValueError(f'{name} tiene que ser un número desde 0{limit}: llegó {checked}')
    return checked
