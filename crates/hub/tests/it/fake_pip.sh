#!/bin/sh
# Stands for `python3 -m pip download ... -d . NAME==VERSION`. The working directory is <test>/rekindle/packages/.unpack-*;
# what the test put into <test>/wheels is what the index has.
echo "$@" >> ../../../pip.log
for wheel in ../../../wheels/*.whl; do
    if [ ! -f "$wheel" ]; then
        echo "ERROR: No matching distribution found" >&2
        exit 1
    fi
    cp "$wheel" .
done
