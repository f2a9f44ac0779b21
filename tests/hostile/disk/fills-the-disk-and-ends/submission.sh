#!/bin/sh
i=0
while [ $i -lt 20 ]; do
    dd if=/dev/zero of=/large$i bs=1M count=4 2>/dev/null || exit 1
    i=$((i+1))
done
exit 1
