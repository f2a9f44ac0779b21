#!/bin/sh
unshare -r true 2>/dev/null || unshare -m true 2>/dev/null && exit 66
exit 0
