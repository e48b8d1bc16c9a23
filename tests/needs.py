"""Lo que algunas pruebas necesitan y puede no estar: se saltean y dicen cómo se consigue."""

from __future__ import annotations

import importlib
from typing import Any

import pytest

HOW = {
    'torch': 'PyTorch, como dice pytorch.org; alcanza la versión para CPU',
    'jax': 'JAX: python -m pip install -e ".[jax]"',
    'micrograd': 'micrograd: python -m pip install -e ".[dev]"',
    **dict.fromkeys(
        ('faker', 'matplotlib', 'sklearn', 'tqdm'),
        'algún paquete de los ejemplos: python -m pip install -e ".[examples]"',
    ),
    **dict.fromkeys(
        (
            *('build', 'hatchling', 'hypothesis', 'IPython', 'ipykernel'),
            *('nbclient', 'nbconvert', 'nbformat', 'playwright'),
        ),
        'algún paquete de desarrollo: python -m pip install -e ".[dev]"',
    ),
}


def need(*modules: str) -> Any:
    """Saltea la prueba si falta alguno; devuelve el primero, ya importado."""
    for module in modules:
        pytest.importorskip(module, reason=f'falta {HOW[module.split(".")[0]]}')
    return importlib.import_module(modules[0]) if modules else None
