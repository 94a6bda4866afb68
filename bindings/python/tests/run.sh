#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# Checks types, then runs the tests with the package that is installed for an
# interpreter, not with the sources. usage: run.sh PYTHON WORKDIR
set -euo pipefail
python=$(realpath -s "$1") work=$(realpath "$2")
cd "$(dirname "$0")/.."
unset PYTHONPATH EESP_LIBRARY
export PYTHONDONTWRITEBYTECODE=1
PYTHON_PREFIX=$(cd / && "$python" -c 'import eesp, sys; assert eesp.__file__.startswith(sys.prefix), eesp.__file__; print(sys.prefix)')
"$python" -m mypy --cache-dir "$work/mypy"
# The tests, as users of the installed package and its types.
"$python" -m mypy --cache-dir "$work/mypy-tests" --config-file tests/mypy.ini tests
"$python" -m pytest --basetemp "$work/pytest" tests
echo "python: the wheel in $PYTHON_PREFIX passes"
