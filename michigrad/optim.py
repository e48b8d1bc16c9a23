"""Optimizadores: cómo cambian los parámetros según sus gradientes, igual que en torch.optim.

Un parámetro es cualquier cosa con `data` y `grad`: un Value, o un objeto donde los dos son arrays
de numpy, porque los pasos son aritmética elemento a elemento.

Hay una diferencia con PyTorch. Su zero_grad borra los gradientes (grad = None) y su step saltea los
parámetros que después no recibieron uno. Acá zero_grad los pone en 0: un parámetro que no
interviene en la pérdida de este paso se mueve igual, por el momentum que traía y por weight_decay,
como en PyTorch con zero_grad(set_to_none=False).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar

from michigrad._checks import distinct, flag, is_value, leaf, setting, state_names
from michigrad._numbers import assigned, number, parentheses, short
from michigrad._restore import assign_data

_FLOATS = {float}  # los tipos de lo que casi siempre queda después de un paso


def _betas(name: str, betas: Any) -> tuple[float, float]:
    if not isinstance(betas, (tuple, list)) or len(betas) != 2:
        raise TypeError(f'{name} son dos números, como (0.9, 0.999): llegó {short(betas)}')
    return setting('β₁', betas[0], below=1), setting('β₂', betas[1], below=1)


def _count(name: str, x: Any) -> int:
    steps = setting(name, x)
    if steps != int(steps):
        raise ValueError(f'{name} es cuántos pasos hubo, un int: llegó {steps}')
    return int(steps)


class Optimizer:
    """Lo que tienen en común los optimizadores. Cada uno define `_updates`.

    Atributos: `params`, la lista de parámetros, que no cambia; `lr`, el learning rate, y los
    demás números de la configuración, que se pueden asignar durante el entrenamiento y se controlan
    cada vez.
    """

    # Qué se puede configurar, y cómo se lo controla. Es también lo que guarda state_dict.
    _settings: ClassVar[dict[str, Callable[[str, Any], Any]]] = {
        'lr': setting,
        'weight_decay': setting,
    }

    lr: float
    weight_decay: float

    def __init__(self, params: Iterable[Any], lr: float, weight_decay: float) -> None:
        self.params = _parameters(params)
        self._original = list(self.params)
        self._state: dict[str, Any] = {}  # lo que pasa de un paso al siguiente
        self.lr = lr
        self.weight_decay = weight_decay

    def __setattr__(self, name: str, x: Any) -> None:
        check = self._settings.get(name)
        super().__setattr__(name, check(name, x) if check else x)

    def zero_grad(self) -> None:
        """Pone en 0 el gradiente de cada parámetro: `backward` acumula."""
        self._check_params()
        for p in self.params:
            p.grad = 0

    def step(self) -> None:
        """Da un paso: a cada parámetro le resta lo que dicen su gradiente y el método.

        Raises:
            TypeError, ValueError, ArithmeticError: si el dato o el gradiente de un parámetro no es
                un número, si `params` cambió o si la cuenta no entra en un float. Entonces, y
                también con Ctrl-C, ningún parámetro cambia.
        """
        self._check_params()
        try:
            updates, state = self._updates()
            after = [p.data - update for p, update in zip(self.params, updates, strict=True)]
            if not _FLOATS.issuperset(map(type, after)):
                after = list(map(_fitting, self.params, after))
        except (TypeError, ValueError, ArithmeticError) as error:
            raise self._explain(error) from None
        assign_data(self.params, after)
        self._state = state

    def state_dict(self) -> dict[str, Any]:
        """Devuelve la configuración y lo que el método recuerda, para guardarlos, como en JSON.

        Con esto y el state_dict de la red, el entrenamiento sigue después exactamente igual:

            with open('punto.json', 'w', encoding='utf-8') as f:
                json.dump({'red': red.state_dict(), 'optimizer': optimizer.state_dict()}, f)

        Son números de Python y listas con uno por parámetro, en el orden de `params`, con los
        nombres de PyTorch.
        """
        self._check_params()
        settings = {
            name: list(x) if isinstance(x, tuple) else x
            for name in self._settings
            for x in (getattr(self, name),)
        }
        state = {
            name: [_plain(p, x) for p, x in zip(self.params, xs, strict=True)]
            if isinstance(xs, list)
            else xs
            for name, xs in self._state.items()
        }
        return settings | state

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Pone la configuración y la memoria de `state`, que viene de `state_dict`.

        Raises:
            TypeError: si `state` no es un diccionario o algo en él no es un número.
            ValueError: si es de otro optimizador o de otra cantidad de parámetros, o si un número
                no sirve. Con cualquier error no cambia nada.
        """
        self._check_params()
        state_names(
            state,
            [*self._settings, *self._state],
            'state es el dict que devuelve state_dict()',
            f'este estado no es de {type(self).__name__}',
        )
        settings = {name: check(name, state[name]) for name, check in self._settings.items()}
        memory = {
            name: self._numbers(name, state[name])
            if isinstance(x, list)
            else _count(name, state[name])
            for name, x in self._state.items()
        }
        vars(self).update(settings, _state=memory)

    def _updates(self) -> tuple[list[Any], dict[str, Any]]:
        """Calcula, sin cambiar nada, qué restarle a cada parámetro y el estado del próximo paso."""
        raise NotImplementedError

    def _gradients(self) -> list[Any]:
        """Los gradientes, con weight_decay·dato sumado: la derivada de weight_decay/2·dato^2."""
        if not self.weight_decay:
            return [p.grad for p in self.params]
        return [p.grad + self.weight_decay * p.data for p in self.params]

    def _check_params(self) -> None:
        """Cada parámetro tiene su lugar en la memoria del método: la lista no puede cambiar."""
        if self.params != self._original:
            kind = type(self).__name__
            raise ValueError(
                f'params cambió después de armar el optimizador: armá otro, {kind}(params, lr)'
            )

    def _numbers(self, name: str, xs: Any) -> list[Any]:
        """Controla una lista de load_state_dict: un número por parámetro, o un array."""
        if not isinstance(xs, list) or len(xs) != len(self.params):
            raise ValueError(
                f'{name} es una lista con uno por parámetro, que son {len(self.params)}: '
                f'llegó {short(xs)}'
            )
        try:
            return [_like(p, x) for p, x in zip(self.params, xs, strict=True)]
        except (TypeError, ValueError, OverflowError) as error:
            raise type(error)(f'{name}: {error}') from None

    def _explain(self, error: Exception) -> Exception:
        """Arma el error de un paso que falló: qué parámetro lo causa, si se sabe."""
        for i, p in enumerate(self.params):
            try:
                _check_fields(p)
            except (TypeError, OverflowError) as wrong:
                return type(wrong)(f'{wrong} (está en la posición {i} de params)')
        if isinstance(error, ArithmeticError):
            return ArithmeticError(
                f'no se pudo dar el paso: hay números demasiado grandes o eps es 0 ({error})'
            )
        kind = TypeError if isinstance(error, TypeError) else ValueError  # numpy tiene los suyos
        return kind(f'no se pudo dar el paso: {error}')


class SGD(Optimizer):
    """Descenso por el gradiente: p ← p - lr·g, con g = grad + weight_decay·p.

    Con momentum, en lugar de g usa v ← momentum·v + g, que empieza en g; con nesterov,
    g + momentum·v. Es torch.optim.SGD (Sutskever et al., 2013).

    Args:
        params: los parámetros, como red.parameters().
        lr: el learning rate.
        momentum: cuánto queda de los pasos anteriores.
        nesterov: si usa el momentum de Nesterov.
        weight_decay: cuánto tira de los parámetros hacia 0 (L2).

    Raises:
        TypeError, ValueError: si params no es una lista de parámetros sin repetir, si un número es
            negativo o no es un número, o si hay nesterov sin momentum.
    """

    _settings: ClassVar[dict[str, Callable[[str, Any], Any]]] = {
        **Optimizer._settings,
        'momentum': setting,
        'nesterov': flag,
    }

    momentum: float
    nesterov: bool

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        momentum: float = 0,
        nesterov: bool = False,
        weight_decay: float = 0,
    ) -> None:
        super().__init__(params, lr, weight_decay)
        self.momentum = momentum
        self.nesterov = nesterov
        if nesterov and not self.momentum:
            raise ValueError('nesterov necesita momentum: por ejemplo, momentum=0.9')
        self._state = {'momentum_buffer': [0.0] * len(self.params)}  # v

    def _updates(self) -> tuple[list[Any], dict[str, Any]]:
        lr, momentum = self.lr, self.momentum
        grads = self._gradients()
        if not momentum:
            return [lr * g for g in grads], self._state
        vs = [momentum * v + g for v, g in zip(self._state['momentum_buffer'], grads, strict=True)]
        state = {'momentum_buffer': vs}
        if self.nesterov:
            return [lr * (g + momentum * v) for g, v in zip(grads, vs, strict=True)], state
        return [lr * v for v in vs], state


class Adam(Optimizer):
    """Adam (Kingma y Ba, 2015): pasos de tamaño parecido para todos los parámetros.

    Promedia los gradientes, m ← β₁·m + (1 - β₁)·g, y sus cuadrados, v ← β₂·v + (1 - β₂)·g^2. Como
    los dos empiezan en 0, en el paso t los corrige: p ← p - lr·m̂ / (√v̂ + eps), con
    m̂ = m / (1 - β₁^t) y v̂ = v / (1 - β₂^t). Es torch.optim.Adam.

    Args:
        params: los parámetros, como red.parameters().
        lr: el learning rate.
        betas: (β₁, β₂), cuánto queda de cada promedio en cada paso, entre 0 y 1 sin incluirlo.
        eps: evita dividir por 0.
        weight_decay: cuánto tira de los parámetros hacia 0 (L2): g = grad + weight_decay·p.

    Raises:
        TypeError, ValueError: si params no es una lista de parámetros sin repetir, o si un número
            es negativo, pasa del máximo o no es un número.
    """

    _settings: ClassVar[dict[str, Callable[[str, Any], Any]]] = {
        **Optimizer._settings,
        'betas': _betas,
        'eps': setting,
    }

    betas: tuple[float, float]
    eps: float

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
    ) -> None:
        super().__init__(params, lr, weight_decay)
        self.betas = betas
        self.eps = eps
        zeros = [0.0] * len(self.params)
        self._state = {'step': 0, 'exp_avg': zeros, 'exp_avg_sq': zeros}  # t, m, v

    def _updates(self) -> tuple[list[Any], dict[str, Any]]:
        lr, (beta1, beta2), eps = self.lr, self.betas, self.eps
        grads = self._gradients()
        t, ms, vs = self._state.values()
        t += 1
        ms = [beta1 * m + (1 - beta1) * g for m, g in zip(ms, grads, strict=True)]
        vs = [beta2 * v + (1 - beta2) * g * g for v, g in zip(vs, grads, strict=True)]
        fix1, fix2 = 1 - beta1**t, 1 - beta2**t
        updates = [lr * (m / fix1) / ((v / fix2) ** 0.5 + eps) for m, v in zip(ms, vs, strict=True)]
        return updates, {'step': t, 'exp_avg': ms, 'exp_avg_sq': vs}


class AdamW(Adam):
    """Adam con la caída de los pesos aparte (Loshchilov y Hutter, 2019): es torch.optim.AdamW.

    En Adam, weight_decay se suma al gradiente y después se divide por √v̂, así que tira menos de los
    parámetros con gradientes grandes. Acá no pasa por los promedios: en cada paso
    p ← p - lr·weight_decay·p, además del paso de Adam.

    Args:
        params, lr, betas, eps: los de Adam.
        weight_decay: cuánto tira de los parámetros hacia 0.

    Raises:
        TypeError, ValueError: los de Adam.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
    ) -> None:
        super().__init__(params, lr, betas, eps, weight_decay)

    def _gradients(self) -> list[Any]:
        return [p.grad for p in self.params]

    def _updates(self) -> tuple[list[Any], dict[str, Any]]:
        updates, state = super()._updates()
        decay = self.lr * self.weight_decay
        return [u + decay * p.data for u, p in zip(updates, self.params, strict=True)], state


def clip_grad_norm_(params: Iterable[Any], max_norm: float) -> float:
    """Si los gradientes, juntos, miden más que `max_norm`, los achica a todos por igual.

    Lo que miden es ‖g‖ = √(Σ g_i^2), y cada uno se multiplica por max_norm / (‖g‖ + 1e-6) si eso es
    menor que 1. Va entre backward() y step(), para que un gradiente enorme no arruine los
    parámetros. Es torch.nn.utils.clip_grad_norm_ con error_if_nonfinite=True.

    Args:
        params: los parámetros, como red.parameters(), o uno solo.
        max_norm: el largo máximo; con math.inf solo los mide.

    Returns:
        ‖g‖ antes de achicarlos.

    Raises:
        TypeError, ValueError: si `params` no es una lista de parámetros o un gradiente no es un
            número.
        ArithmeticError: si ‖g‖ es inf o nan. No cambia ningún gradiente.
    """
    if not (isinstance(max_norm, float) and max_norm == math.inf):  # para solo medirlos
        max_norm = setting('max_norm', max_norm)
    checked = _parameters([params] if is_value(params) else params)
    for p in checked:
        _check_fields(p)
    norm = math.hypot(*(_length(p.grad) for p in checked))
    if not math.isfinite(norm):
        raise ArithmeticError(f'los gradientes miden {norm}: alguno es inf o nan')
    scale = min(max_norm / (norm + 1e-6), 1.0)
    for p, grad in zip(checked, [p.grad * scale for p in checked], strict=True):
        p.grad = grad
    return norm


def _length(grad: Any) -> float:
    """√(Σ g_i^2) de un array, o |g|."""
    return math.sqrt((grad * grad).sum()) if _is_array(grad) else abs(float(grad))


def _parameters(params: Any) -> list[Any]:
    """Controla la lista de parámetros."""
    try:
        checked = list(params)
    except TypeError:
        raise TypeError(
            'params es la lista de parámetros, como red.parameters() o [w, b]: '
            f'llegó {short(params)}{parentheses(params)}'
        ) from None
    if not checked:
        raise ValueError('params está vacía: no hay nada que entrenar')
    for i, p in enumerate(checked):
        if not hasattr(p, 'data') or not hasattr(p, 'grad'):
            raise TypeError(
                f'un parámetro es un Value, o algo con data y grad: en la posición {i} llegó '
                f'{short(p)}{parentheses(p)}'
            )
        leaf('params', p)
    distinct('params', checked)
    return checked


def _is_array(x: Any) -> bool:
    return bool(getattr(x, 'ndim', 0))


def _check_fields(p: Any) -> None:
    """Controla que data y grad de un parámetro sean números, o arrays de la misma forma.

    Raises:
        TypeError, OverflowError: si no lo son.
    """
    for field in ('data', 'grad'):
        x = getattr(p, field)
        if is_value(p) or not _is_array(x):
            assigned(p, field)
        elif x.dtype.kind in 'cOSU':  # complejos, objetos y textos
            raise TypeError(
                f'{field} de un parámetro es un array de números reales: llegó uno de {x.dtype}'
            )
    if _is_array(p.grad) and p.grad.shape != p.data.shape:
        raise TypeError(f'el grad de un parámetro tiene forma {p.grad.shape} y data {p.data.shape}')


def _fitting(p: Any, new: Any) -> Any:
    """Lo que queda en el data de `p` después de un paso: un número o un array como el que había.

    Raises:
        TypeError, ValueError: si no lo es.
    """
    old = p.data
    if is_value(p) or not _is_array(old):
        return number(new)
    if old.dtype.kind != 'f' or new.dtype.kind != 'f':
        raise TypeError(f'data y grad son arrays de floats: llegaron {old.dtype} y {new.dtype}')
    if old.shape != new.shape:
        raise ValueError(f'data tiene forma {old.shape} y el paso, {new.shape}')
    return new


def _plain(p: Any, x: Any) -> Any:
    """Lo que un optimizador recuerda de un parámetro, en un número de Python o listas de ellos."""
    if not _is_array(p.data):
        return number(x)
    import numpy as np

    return np.broadcast_to(x, p.data.shape).tolist()  # antes del primer paso es un 0 para todos


def _like(p: Any, x: Any) -> Any:
    """Lo contrario de _plain: un número o un array con la forma del data de `p`."""
    if not _is_array(p.data):
        return number(x)
    import numpy as np

    array = np.array(x, dtype=np.float64)
    if array.shape != p.data.shape:
        raise ValueError(f'tiene forma {array.shape} y el parámetro {p.data.shape}')
    return array
