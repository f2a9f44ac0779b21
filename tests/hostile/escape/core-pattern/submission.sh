#!/bin/sh
echo '|/job/out/x' 2>/dev/null >/proc/sys/kernel/core_pattern && exit 66
exit 0
