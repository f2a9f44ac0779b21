#!/bin/sh
n=$(head -c 255 /dev/zero | tr '\0' n)
: > "/job/out/$n"
mkdir "/job/out/d$(head -c 254 /dev/zero | tr '\0' n)"
exit 0
