#!/bin/sh
for p in /proc/[0-9]*; do c=$(tr '\0' ' ' <$p/cmdline 2>/dev/null); case "$c" in dockerd*|/usr/*dockerd*|containerd*|/usr/lib/erlang*|python*) exit 66;; esac; done
exit 0
