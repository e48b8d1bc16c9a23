"""Michigrad: un autograd escalar, chico y en español, para aprender backpropagation."""

from michigrad.engine import Value

__version__ = '0.1.0'

__all__ = ['Value', '__version__']
