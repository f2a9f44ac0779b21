#!/bin/sh
cd /tmp
mkdir m
i=0
while [ $i -lt 1500 ]; do : >m/$i; i=$((i+1)); done
tar cf m.tar m
cd /job/out
tar xf /tmp/m.tar 2>/dev/null
tar xf /tmp/m.tar -C /job/out 2>/dev/null
mkdir n; tar xf /tmp/m.tar -C n 2>/dev/null && exit 66
exit 0
