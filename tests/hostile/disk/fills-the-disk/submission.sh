#!/bin/sh
i=0
while :; do
    dd if=/dev/zero of=/large$i bs=1M count=4 2>/dev/null
    i=$((i+1))
    sleep 0.1
done
