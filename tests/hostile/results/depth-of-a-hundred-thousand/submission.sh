#!/bin/sh
printf '{"score": 0, "x": %s}' "$(head -c 100000 /dev/zero | tr '\0' '[')$(head -c 100000 /dev/zero | tr '\0' ']')" >/job/out/results.json
