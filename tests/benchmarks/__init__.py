"""Las mediciones se comparan con un solo hilo: se elige antes de que numpy cargue BLAS."""

import os

for library in ('OMP', 'OPENBLAS', 'MKL'):
    os.environ[f'{library}_NUM_THREADS'] = '1'
