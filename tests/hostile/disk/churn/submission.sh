#!/bin/sh
i=0
while [ $i -lt 300 ]; do head -c 100000 /dev/zero >/job/out/c; rm /job/out/c; i=$((i+1)); done
exit 0
