#!/bin/sh
dd if=/dev/zero of=/job/results.json bs=1 count=1 seek=7000000 2>/dev/null
