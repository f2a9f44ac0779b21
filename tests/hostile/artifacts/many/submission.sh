#!/bin/sh
cd /job/out || exit 66
i=100
while [ "$i" -lt 400 ]; do : >"$i"; i=$((i + 1)); done
ln -s /etc/passwd 050
exit 0
