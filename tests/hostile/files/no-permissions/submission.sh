#!/bin/sh
cd /job/out
mkdir m
: > m/f
: > answer
chmod 000 answer m
exit 0
