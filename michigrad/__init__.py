"""Michigrad: un autograd escalar, chico y en español, para aprender backpropagation."""

from typing import TYPE_CHECKING, Any

from michigrad.engine import Value
from michigrad.gradcheck import gradcheck

if TYPE_CHECKING:
    from michigrad.stepper import show_backprop
    from michigrad.visualize import show_graph

__version__ = '0.2.0'

__all__ = ['Value', '__version__', 'gradcheck', 'show_backprop', 'show_graph']


def __getattr__(name: str) -> Any:
    """Carga los dibujos recién cuando se piden: así `import michigrad` no carga graphviz."""
    if name == 'show_graph':
        from michigrad.visualize import show_graph

        return show_graph
    if name == 'show_backprop':
        from michigrad.stepper import show_backprop

        return show_backprop
    raise AttributeError(f'michigrad no tiene {name!r}: tiene {", ".join(__all__)}')
