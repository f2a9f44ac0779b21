#!/bin/sh
echo h 2>/dev/null >/proc/sysrq-trigger && exit 66
exit 0
