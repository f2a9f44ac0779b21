#!/usr/bin/env bash
# Gradescope runs this once, when it builds the image. Elsewhere the line would be `pip3 install gradescope-utils`; the
# demo puts the package into the zip, since it needs no network.
set -e
cp -r /autograder/source/vendor/gradescope_utils "$(python3 -c 'import sysconfig; print(sysconfig.get_path("stdlib"))')"
