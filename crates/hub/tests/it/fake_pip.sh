#!/bin/sh
# Stands for `python3 -m pip`. The working directory is a temporary one, three levels below the test's own.
#
# `download ... -d . NAME==VERSION`: what the test put into <test>/wheels is what the index has.
# `config list`, `download --help`: the files <test>/pip-config and <test>/pip-help, where they are.
echo "$@" >> ../../../pip.log
case "$*" in
"-m pip config list")
    cat ../../../pip-config 2>/dev/null
    exit 0
    ;;
"-m pip download --help")
    cat ../../../pip-help 2>/dev/null
    exit 0
    ;;
esac
for wheel in ../../../wheels/*.whl; do
    if [ ! -f "$wheel" ]; then
        echo "ERROR: No matching distribution found" >&2
        exit 1
    fi
    cp "$wheel" .
done
