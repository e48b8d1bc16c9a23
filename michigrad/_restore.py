"""Dejar las cosas como estaban: siempre, o solo si algo sale mal."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from operator import attrgetter
from typing import Any


@contextmanager
def unchanged(objects: Iterable[Any], *attributes: str) -> Iterator[None]:
    """Al salir, pase lo que pase, esos atributos de los objetos vuelven a lo que eran al entrar.

    with unchanged(nodes, 'grad'):
        loss.backward()  # mirar los gradientes sin dejar rastros
    """
    restore = remember(objects, *attributes)
    try:
        yield
    finally:
        restore()


@contextmanager
def all_or_nothing(objects: Iterable[Any], *attributes: str) -> Iterator[None]:
    """Si lo de adentro falla, también con Ctrl-C, esos atributos vuelven a lo que eran al entrar.

    De un array se guardan los números, y se vuelven a poner en el mismo array: así se deshace
    también un p.data -= 1, que los cambia sin cambiar de array.
    """
    restore = remember(objects, *attributes)
    try:
        yield
    except BaseException:
        restore()
        raise


def remember(objects: Iterable[Any], *attributes: str) -> Callable[[], None]:
    """Anota esos atributos; devuelve la función que los pone como estaban."""
    objects = list(objects)
    before = [(name, list(map(attrgetter(name), objects))) for name in attributes]
    arrays = [
        (old, old.copy())
        for _, olds in before
        for old in olds
        if type(old) is not float and getattr(old, 'ndim', False)
    ]

    def restore() -> None:
        for array, numbers in arrays:
            array[...] = numbers
        for name, olds in before:
            for x, old in zip(objects, olds, strict=True):
                setattr(x, name, old)

    return restore
