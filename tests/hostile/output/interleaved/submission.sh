#!/bin/sh
i=0
while [ $i -lt 500 ]; do echo out; echo err >&2; i=$((i+1)); done
exit 0
