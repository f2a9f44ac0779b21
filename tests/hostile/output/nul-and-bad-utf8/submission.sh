#!/bin/sh
printf 'a\000b\377\376\355\240\200\n'
exit 0
