#!/bin/sh
cd /job/out
i=0
while [ $i -lt 1500 ]; do mkdir d 2>/dev/null && cd d 2>/dev/null || exit 0; i=$((i+1)); done
exit 0
