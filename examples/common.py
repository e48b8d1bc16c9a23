"""Lo que comparten los scripts: sus opciones, sus paquetes y el aspecto de sus imágenes."""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

OUTPUT = Path(__file__).with_name('salida')  # git no la mira
BLUE, ORANGE, GREEN, RED, GRAY = '#3d6fc4', '#d9690f', '#22863a', '#c62f2f', '#8a8a8a'


@contextlib.contextmanager
def extras(names: str) -> Iterator[None]:
    """Para los import de paquetes que vienen en esos extras: si falta uno, dice cómo instalarlo."""
    try:
        yield
    except ImportError as error:
        if error.name is None:
            sys.exit(str(error))  # el de michigrad.plot ya dice qué hacer
        if error.name == 'torch':
            sys.exit(
                'Falta PyTorch. Se instala como dice pytorch.org; alcanza la versión para CPU.'
            )
        command = f'python -m pip install -e ".[{names}]"'
        sys.exit(f'Falta {error.name}. Se instala, en la carpeta del repositorio, con: {command}')


class Parser(argparse.ArgumentParser):
    """El de Python explica los errores en inglés."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f'No entiendo «{" ".join(sys.argv[1:])}». Las opciones se ven con --help.\n')


def read_options(doc: str | None, *names: str) -> argparse.Namespace:
    """Las opciones con las que se llamó al script: `names` son las que tiene, y siempre --help.

    `doc` es la explicación del script, que --help muestra. --salida crea la carpeta.
    """
    parser = Parser(
        usage=argparse.SUPPRESS,
        description=doc,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        add_help=False,
    )
    group = parser.add_argument_group('opciones')
    if '--rapido' in names:
        group.add_argument('--rapido', action='store_true', help='menos pasos, para probar')
    if '--salida' in names:
        where = 'dónde guardar las imágenes; si no, en examples/salida'
        group.add_argument('--salida', type=Path, default=OUTPUT, metavar='CARPETA', help=where)
    group.add_argument('-h', '--help', action='help', help='muestra esta ayuda y termina')
    options = parser.parse_args()
    if '--salida' in names:
        options.salida.mkdir(parents=True, exist_ok=True)
    return options


def subplots(*shape: int, height: float, **kwargs: Any) -> tuple[Any, Any]:
    """plt.subplots con el aspecto de todas: 1400 puntos de ancho y letras que se leen a 800."""
    import matplotlib.pyplot as plt

    plt.switch_backend('agg')  # dibuja en archivos: no hace falta una pantalla
    plt.rcParams |= {'font.size': 13, 'axes.titlesize': 'medium'}
    plt.rcParams |= {f'figure.constrained_layout.{side}_pad': 0.12 for side in 'hw'}
    figure, axes = plt.subplots(*shape, figsize=(14, height), layout='constrained', **kwargs)
    return figure, axes


def save_picture(figure: Any, file: Path) -> None:
    """Guarda la imagen y dice dónde quedó."""
    figure.savefig(file, dpi=100)
    print(f'Imagen: {file}')


def list_names(ax: Any, columns: dict[str, list[str]]) -> None:
    """Escribe cada lista debajo de su título, con los renglones a la misma altura."""
    ax.set(xlim=(0, len(columns)), ylim=(-max(map(len, columns.values())) - 0.5, 0.5))
    ax.axis('off')
    for x, (title, names) in enumerate(columns.items()):
        ax.text(x, 0, title, weight='bold')
        for y, name in enumerate(names, start=1):
            ax.text(x, -y, name)
