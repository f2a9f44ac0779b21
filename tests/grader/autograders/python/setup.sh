#!/usr/bin/env bash
set -e
site=$(python3 -c 'import sysconfig; print(sysconfig.get_path("stdlib"))')
cp -r /autograder/source/vendor/gradescope_utils "$site/"
printf '%s\n' "cwd $PWD" "index $PIP_INDEX_URL" "proxy $http_proxy" >/autograder/setup.txt
cat "$PIP_CONFIG_FILE" >>/autograder/setup.txt
