#!/bin/sh
grep -q '^CapEff:.0000000000000000$' /proc/self/status || exit 66
grep -q '^CapBnd:.0000000000000000$' /proc/self/status || exit 66
grep -q '^NoNewPrivs:.1$' /proc/self/status || exit 66
grep -q '^Seccomp:.2$' /proc/self/status || exit 66
[ $(id -u) -ge 70000 ] || exit 66
exit 0
