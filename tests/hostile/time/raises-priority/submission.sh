#!/bin/sh
renice -n -10 -p $$ 2>/dev/null && exit 66
exit 0
