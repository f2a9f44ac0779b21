#!/bin/sh
exec dd if=/dev/zero of=/job/out/large bs=1M count=100
