#!/bin/sh
for s in /var/run/docker.sock /run/docker.sock /run/containerd/containerd.sock; do [ -e $s ] && exit 66; done
exit 0
