#!/bin/sh
ip -o addr 2>/dev/null | grep -v ' lo ' | grep -q inet && exit 66
ip route 2>/dev/null | grep -q . && exit 66
for a in 172.17.0.1 10.0.0.1 8.8.8.8; do for p in 22 53 5672 27017; do nc -w 1 $a $p </dev/null 2>/dev/null && exit 66; done; done
exit 0
